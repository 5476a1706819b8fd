"""Fixtures: every backend that is present, and arrays that may not be written to."""

from __future__ import annotations

import numpy as np
import pytest

from nsnumpy.backend import DeviceError, device_namespace
from nsnumpy.random_network import calibrate, random_weights
from nsnumpy.vgg import VGG


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=200, help="how many damaged files of each format to read (200)")


def _backends():
    yield pytest.param(np, id="numpy")
    try:
        yield pytest.param(device_namespace("gpu"), id="cupy")
    except DeviceError as error:
        yield pytest.param(None, id="cupy", marks=pytest.mark.skip(reason=str(error)))


@pytest.fixture(params=_backends())
def xp(request):
    """Each array namespace that works here."""
    return request.param


@pytest.fixture
def make(xp):
    """make(*shape, dtype=...) gives a random array of the backend that refuses to be written to (NumPy's can)."""
    rng = np.random.default_rng(7)

    def make(*shape, dtype="float64"):
        array = xp.asarray(rng.standard_normal(shape).astype(dtype))
        if xp is np:
            array.flags.writeable = False
        return array

    return make


@pytest.fixture(scope="session")
def tiny_weights():
    """A calibrated VGG-19 to conv5_1 of a few filters, different ones in every block."""
    pictures = [np.random.default_rng(n).random((48, 40, 3), dtype=np.float32) for n in range(2)]
    return calibrate(random_weights((6, 8, 10, 12, 14), seed=3), pictures)


@pytest.fixture
def tiny_vgg(tiny_weights):
    """A function that makes a VGG of `tiny_weights`."""

    def tiny_vgg(xp=np, **options):
        return VGG(tiny_weights, xp=xp, **{"dtype": "float64"} | options)

    return tiny_vgg


@pytest.fixture
def picture():
    """picture(H, W, seed) gives a smooth random picture in [0, 1], float64."""

    def picture(height, width, seed=0):
        rng = np.random.default_rng(seed)
        coarse = rng.random((height // 4 + 2, width // 4 + 2, 3))
        return np.kron(coarse, np.ones((4, 4, 1)))[:height, :width] * 0.8 + 0.2 * rng.random((height, width, 3))

    return picture
