import sys
from types import SimpleNamespace

import numpy as np
import pytest

from nsnumpy.backend import (
    DeviceError,
    asarray,
    device_errors,
    device_namespace,
    free_device_bytes,
    get_xp,
    to_floats,
    to_host,
)


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
    with pytest.raises(
        DeviceError, match=r"pip install 'cupy-cuda13x\[ctk\]' or 'cupy-cuda12x\[ctk\]'.*; or choose device 'cpu'$"
    ):
        device_namespace("gpu")


def test_a_gpu_that_does_not_answer_is_an_error(monkeypatch):
    class Cupy:
        @staticmethod
        def zeros(shape, dtype):
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nand a second line")

    monkeypatch.setitem(sys.modules, "cupy", Cupy)
    with pytest.raises(DeviceError, match="no CUDA-capable device is detected\\): choose device 'cpu'$"):
        device_namespace("gpu")


def test_a_gpu_that_cannot_compute_is_an_error(monkeypatch):
    """It has memory, but no cuBLAS, or no compiler."""

    class Broken:
        def __matmul__(self, other):
            raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")

    cupy = SimpleNamespace(zeros=lambda *_, **__: Broken(), maximum=None, asnumpy=None)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(DeviceError, match="CUBLAS_STATUS_NOT_INITIALIZED\\): choose device 'cpu'$"):
        device_namespace("gpu")


@pytest.mark.parametrize("error", [ImportError("libnvrtc.so.13: not found\nmore"), RuntimeError("a broken install")])
def test_a_cupy_that_is_there_but_cannot_be_loaded_says_why(monkeypatch, error):
    def import_module(name):
        raise error

    monkeypatch.setattr("importlib.import_module", import_module)
    reason = str(error).partition("\n")[0]
    with pytest.raises(DeviceError, match=f"CuPy cannot be imported \\({reason}\\); or choose device 'cpu'$"):
        device_namespace("gpu")


def test_the_errors_of_cuda_get_types_of_ours():
    class CUBLASError(RuntimeError):
        __module__ = "cupy_backends.cuda.libs.cublas"

    for text, kind in (
        ("CUBLAS_STATUS_ALLOC_FAILED", MemoryError),
        ("CUDA_ERROR_OUT_OF_MEMORY: out of memory", MemoryError),
        ("cudaErrorMemoryAllocation: out of memory", MemoryError),
        ("CUBLAS_STATUS_EXECUTION_FAILED\nand more", DeviceError),
    ):
        with pytest.raises(kind, match=text.partition("\n")[0]) as caught, device_errors():
            raise CUBLASError(text)
        assert "\n" not in str(caught.value)
    for error in (ValueError("a name"), MemoryError("host"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, device_errors():
            raise error
        assert caught.value is error


def test_memory_that_the_pool_holds_for_reuse_is_free():
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(Device=lambda: SimpleNamespace(mem_info=(300, 1000))),
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 40),
    )
    assert free_device_bytes(cupy) == 340


def test_numbers_come_to_the_host_together(gpu):
    values = [gpu.asarray([1.5, 2.5])[1], gpu.asarray([True])[0], gpu.asarray([2], "float32").sum()]
    assert to_floats(*values) == [2.5, 1.0, 2.0]
    assert to_floats(np.float32(0.5), 2, True) == [0.5, 2.0, 1.0]
    assert to_floats() == []
    with pytest.raises(TypeError, match="cupy, numpy given"):
        to_floats(values[0], np.zeros(()))


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
