"""Fixtures: the backends, and arrays that may not be written to.

A test that asks for `xp` runs on NumPy and on a strict stand-in for CuPy (strict_cupy.py), which needs CuPy but no GPU;
with ``--backend cupy`` the same test runs on the GPU instead.

Tests marked `slow` run with ``--slow``, or where files or tests are named; ``--fuzz`` and ``--kills`` say how much two
others do. The whole suite runs in a process for each core (``-n 0``: in one); files or tests that are named run in
one, but for ``-n 2``.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys

# Several processes at once: threads of BLAS would wait for each other's cores. Set before NumPy is there.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import strict_cupy
from PIL import Image

from nsnumpy.backend import DeviceError, device_namespace
from nsnumpy.files.random_network import calibrate, random_weights
from nsnumpy.files.weights import WeightFile, write_weights
from nsnumpy.machine import usable_cores
from nsnumpy.run import plan
from nsnumpy.vgg import VGG


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that are marked slow, too")
    parser.addoption("--fuzz", type=int, default=60, help="how many damaged files of each format to read (60)")
    parser.addoption("--kills", type=int, default=2, help="how often each optimizer's run is killed and resumed (2)")
    parser.addoption(
        "--backend",
        choices=("numpy", "stand-in", "cupy"),
        help="where the tests that take a backend run; cupy needs a GPU (numpy and stand-in)",
    )
    parser.addoption("--require-stand-in", action="store_true", help="fail where the stand-in for CuPy cannot be had")
    parser.addoption("--axe", metavar="FILE", help="axe.min.js of axe-core, whose rules the studio's page is held to")
    parser.addoption("--require-browser", action="store_true", help="fail where no browser can open a page")


def pytest_configure(config):
    # A shell's background jobs ignore Ctrl-C, and so would the processes that tests begin and end by it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--backend") == "cupy":
        try:
            device_namespace("gpu")
        except DeviceError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_xdist_auto_num_workers(config):
    alone = config.option.file_or_dir or config.getoption("--backend") == "cupy"  # there is one GPU
    return 0 if alone else min(usable_cores(), 4)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow") and not config.option.file_or_dir:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow, or by name"))


def pytest_generate_tests(metafunc):
    if "xp" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend")
        metafunc.parametrize("xp", [chosen] if chosen else ["numpy", "stand-in"], indirect=True)


_stand_in = functools.cache(strict_cupy.make)  # one for all tests: kernels are compiled once


@pytest.fixture(scope="session", autouse=True)
def _rates_are_measured_once():
    """Each plan would measure them anew, for longer than a small run takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "measured_rates", functools.cache(plan.measured_rates))
        yield


@pytest.fixture
def missing(request):
    """missing(reason) skips the test, or fails it with --require-stand-in."""
    return pytest.fail if request.config.getoption("--require-stand-in") else pytest.skip


@pytest.fixture
def stand_in(monkeypatch, missing):
    """The stand-in as `cupy`, for ``device="gpu"``."""
    if strict_cupy.REASON:
        missing(strict_cupy.REASON)
    if not strict_cupy.COMPILER:
        missing("no C++ compiler to run the kernels with")
    module = _stand_in()
    module.transfers.reset()
    module.memory_limit = 16_000_000_000
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setenv("CUPY_CACHE_DIR", os.path.dirname(__file__))  # as if kernels had been compiled before
    return module


@pytest.fixture
def xp(request):
    """The array namespace of each backend."""
    if request.param == "numpy":
        return np
    return device_namespace("gpu") if request.param == "cupy" else request.getfixturevalue("stand_in")


@pytest.fixture(scope="module")
def browser(request):
    """A headless Chromium; skips, or fails with --require-browser, where there is none."""
    missing = pytest.fail if request.config.getoption("--require-browser") else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install 'nsnumpy[test-report]'")
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    if not (path := next(found, None)):
        missing("no Chromium or Chrome is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def gpu(request):
    """What ``device="gpu"`` gives: the stand-in, or CuPy itself with --backend cupy."""
    chosen = request.config.getoption("--backend")
    return device_namespace("gpu") if chosen == "cupy" else request.getfixturevalue("stand_in")


@pytest.fixture
def device(xp):
    """The device whose arrays are xp's."""
    return "cpu" if xp is np else "gpu"


@pytest.fixture
def make(xp):
    """make(*shape, dtype=...) gives a random array of the backend that refuses to be written to (CuPy's cannot)."""
    rng = np.random.default_rng(7)

    def make(*shape, dtype="float64"):
        array = xp.asarray(rng.standard_normal(shape).astype(dtype))
        if xp is np:
            array.flags.writeable = False
        elif type(xp).__module__ == "strict_cupy":
            strict_cupy.freeze(array)
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


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    """A folder to work in, with two pictures and a weight file."""
    for name, seed in (("photo.png", 0), ("painting.jpg", 1)):
        Image.fromarray((255 * picture(40, 52, seed)).astype(np.uint8)).save(tmp_path / name)
    write_weights(tmp_path / "tiny.h5", WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path
