import sys

import numpy as np
import pytest

from nsnumpy.backend import DeviceError, asarray, device_namespace, get_xp, to_host


def test_namespace_comes_from_the_arrays():
    assert get_xp(np.zeros(2), np.float32(1)) is np


@pytest.mark.parametrize("arguments", [(), ([1.0],), (np.zeros(2), 3.0), (None,)])
def test_what_is_not_an_array_is_refused(arguments):
    with pytest.raises(TypeError, match="expected"):
        get_xp(*arguments)


class FakeCupyArray:
    pass


FakeCupyArray.__module__ = "cupy"


def test_a_mixture_is_refused_without_importing_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import of it would fail
    with pytest.raises(TypeError, match="cupy, numpy given"):
        get_xp(np.zeros(2), FakeCupyArray())


def test_unknown_device():
    with pytest.raises(ValueError, match="'tpu': choose from cpu, gpu"):
        device_namespace("tpu")


def test_a_gpu_without_cupy_is_an_error_and_no_fallback(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="pip install cupy-cuda12x or cupy-cuda13x"):
        device_namespace("gpu")


def test_a_gpu_that_does_not_answer_is_an_error(monkeypatch):
    class Cupy:
        @staticmethod
        def zeros(shape, dtype):
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nand a second line")

    monkeypatch.setitem(sys.modules, "cupy", Cupy)
    with pytest.raises(DeviceError, match="no CUDA-capable device is detected\\): choose device 'cpu'$"):
        device_namespace("gpu")


def test_asarray_copies_only_for_another_dtype():
    x = np.zeros(3, np.float32)
    assert asarray(x, np, "float32") is x
    assert asarray(x, np, "float64").dtype == np.float64
    assert to_host(x) is x


def test_there_and_back(xp):
    x = np.arange(6.0).reshape(2, 3)
    moved = asarray(x, xp, "float32")
    assert get_xp(moved) is xp
    assert np.array_equal(to_host(moved), x)
