import contextlib
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
    matmul,
    tf32_products,
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


def test_a_gpu_that_cannot_compute_is_an_error(stand_in, monkeypatch):
    """It has memory, but no cuBLAS, or no compiler."""

    def broken(*_):
        raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")

    monkeypatch.setattr(stand_in.cuda.cublas, "gemmEx", broken, raising=True)
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


# Products


def _laid(xp, array, how):
    """The same matrices, by rows, by columns, or as part of a larger array."""
    if how == "columns":
        return asarray(np.ascontiguousarray(array.swapaxes(-1, -2)), xp, array.dtype).swapaxes(-1, -2)
    if how == "part":
        larger = np.full((*array.shape[:-2], array.shape[-2] + 1, array.shape[-1] + 3), np.nan, array.dtype)
        larger[..., :-1, :-3] = array
        return asarray(larger, xp, array.dtype)[..., :-1, :-3]
    return asarray(array, xp, array.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shapes",
    [((5, 3), (3, 4)), ((2, 5, 3), (2, 3, 4)), ((2, 5, 3), (3, 4)), ((5, 3), (2, 3, 4)), ((1, 3), (3, 1)),
     ((5, 1), (1, 4)), ((0, 3), (3, 4)), ((5, 0), (0, 4))],
)  # fmt: skip
def test_products_of_matrices_however_they_lie(xp, dtype, shapes):
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    for how_a in ("rows", "columns", "part"):
        for how_b in ("rows", "columns", "part"):
            c = matmul(_laid(xp, a, how_a), _laid(xp, b, how_b))
            assert c.dtype == dtype
            assert to_host(c) == pytest.approx(a @ b, rel=1e-5, abs=1e-6 if dtype == "float32" else 1e-14)
    out = xp.full((a @ b).shape, np.nan, dtype)
    assert matmul(_laid(xp, a, "rows"), _laid(xp, b, "columns"), out=out) is out
    assert to_host(out) == pytest.approx(a @ b, rel=1e-5, abs=1e-6)


def test_a_product_copies_nothing_and_says_how_precise_it_is(stand_in):
    rng = np.random.default_rng(5)
    a, b = (asarray(rng.standard_normal((36, 20, 20)), stand_in, "float32") for _ in range(2))
    exact = a.get().astype(float) @ b.get().astype(float).swapaxes(1, 2)
    errors = {}
    for tf32 in (False, True):
        stand_in.work.reset()
        before = stand_in.peak = stand_in.used
        with tf32_products() if tf32 else contextlib.nullcontext():
            c = matmul(a, b.swapaxes(1, 2))
        assert stand_in.work.launches == {"gemm": 1}
        assert stand_in.peak - before == c.nbytes
        errors[tf32] = abs(c.get() - exact).max()
    assert errors[False] < 1e-5 < 1e-4 < errors[True] < 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: matmul(a, a), r"float32 \(2, 5, 3\), float32 \(2, 5, 3\) given"),
        (lambda a, b: matmul(a, b[:1]), "that can be multiplied"),
        (lambda a, b: matmul(a, b.astype("float64")), "that can be multiplied"),
        (lambda a, b: matmul(a[:, :, ::-1], b), "by rows or by columns"),
        (lambda a, b: matmul(a, b, out=a), "a product of shape"),
        (lambda a, b: matmul(a, b, out=a.repeat(4, axis=2)[:, :, ::3]), "a product of shape"),
    ],
)
def test_products_that_a_gpu_would_have_to_copy_for_are_refused(gpu, change, message):
    a, b = gpu.ones((2, 5, 3), "float32"), gpu.ones((2, 3, 4), "float32")
    with pytest.raises(ValueError, match=message):
        change(a, b)
