"""The switch between NumPy and CuPy: the only file that names cupy.

There is no ambient device. A computation takes its namespace from its arrays (`get_xp`), and an array comes to a device
because somebody asked for that device by name (`device_namespace`, `asarray`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
"""A `numpy.ndarray` or a `cupy.ndarray`; Python has no common type for the two."""

DEVICES = ("cpu", "gpu")


class DeviceError(RuntimeError):
    """The device that was asked for cannot be had."""


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def get_xp(*arrays: Array) -> ModuleType:
    """The namespace, `numpy` or `cupy`, that all `arrays` belong to; cupy is never imported to find out.

    Raises
    ------
    TypeError
        If an argument is not an array, or if arrays of both kinds are mixed.

    Examples
    --------
    >>> get_xp(np.zeros(3), np.ones(2)).__name__
    'numpy'
    """
    found = {_namespace_name(type(array)) for array in arrays}  # type: ignore[arg-type]
    if len(found) != 1:
        raise TypeError(
            f"arrays of one kind expected, {', '.join(sorted(found)) or 'none'} given: move them to one device"
        )
    return sys.modules[found.pop()]


@functools.cache  # a step of a small picture asks a thousand times
def _namespace_name(kind: type) -> str:
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("numpy", "cupy"):
            return root
    raise TypeError(f"a NumPy or CuPy array expected, {kind.__name__} given")


def device_namespace(device: str) -> ModuleType:
    """The namespace of a device: `numpy` for "cpu", `cupy` for "gpu".

    Raises
    ------
    ValueError
        If the device is not one of `DEVICES`.
    DeviceError
        If "gpu" is asked for and CuPy is missing or finds no usable GPU. There is no silent fall-back.
    """
    if device == "cpu":
        return np
    if device != "gpu":
        raise ValueError(f"unknown device {device!r}: choose from {', '.join(DEVICES)}")
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # of many types, where it is there and cannot be loaded
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            reason = "needs CuPy: pip install 'cupy-cuda13x[ctk]' or 'cupy-cuda12x[ctk]', by the driver's version"
        else:
            reason = f"cannot be used, since CuPy cannot be imported ({first_line(error)})"
        raise DeviceError(f"device 'gpu' {reason}; or choose device 'cpu'") from error
    try:
        probe = cupy.zeros((2, 2), dtype="float32")
        cupy.asnumpy(cupy.maximum(matmul(probe, probe), 0))  # allocation, cuBLAS, a kernel compiled at run time
    except Exception as error:  # of many types: no driver, no device, a missing CUDA library, no compiler
        raise DeviceError(f"device 'gpu' cannot be used ({first_line(error)}): choose device 'cpu'") from error
    return cupy


def device_of(xp: ModuleType) -> str:
    """The device of a namespace."""
    return "cpu" if xp is np else "gpu"


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """CUDA's errors as a MemoryError or a DeviceError; they are of types that only CuPy knows."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or not type(error).__module__.startswith(("cupy.", "cupy_backends.")):
            raise
        text = first_line(error)
        if any(sign in text for sign in ("ALLOC_FAILED", "OUT_OF_MEMORY", "MemoryAllocation")):
            raise MemoryError(text) from error
        raise DeviceError(f"the GPU failed ({text})") from error


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b``: of two matrices, of two stacks of as many, or of a stack and a matrix.

    On a GPU it is one call of cuBLAS that takes transposed factors as they lie, and says how precisely it computes: in
    float32 with factors of 24 bits, or of 11 within `tf32_products`. CuPy's own products copy transposed stacks, and
    those of two matrices are left to an algorithm that may choose half precision (CUBLAS_GEMM_DEFAULT_TENSOR_OP).

    Parameters
    ----------
    a : array ``(m, k)`` or ``(n, m, k)``, of float32 or float64
    b : array ``(k, l)`` or ``(n, k, l)`` of a's dtype
    out : array ``(m, l)`` or ``(n, m, l)``, or None
        It is written to; on a GPU its rows lie one after the other.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a GPU would have to copy: each matrix lies by rows or by columns there.
    """
    xp = get_xp(a, b) if out is None else get_xp(a, b, out)
    if xp is np:
        # For a result of fewer than 500 numbers NumPy's matmul keeps the interpreter's lock, however long the sum is.
        return np.dot(a, b, out) if a.ndim == b.ndim == 2 and out is None else np.matmul(a, b, out=out)
    stacks = [array.shape[0] for array in (a, b) if array.ndim == 3]
    shape = (*stacks[:1], a.shape[-2], b.shape[-1])
    if len(set(stacks)) > 1 or a.shape[-1] != b.shape[-2] or a.dtype != b.dtype:
        raise ValueError(f"matrices that can be multiplied expected; {a.dtype} {a.shape}, {b.dtype} {b.shape} given")
    if out is None:
        out = xp.empty(shape, a.dtype)
    elif out.shape != shape or out.dtype != a.dtype or not out.flags.c_contiguous:
        raise ValueError(f"a product of shape {shape} and {a.dtype}, by rows, expected; {out.dtype} {out.shape} given")
    if not out.size or not a.shape[-1]:
        out.fill(0)
        return out
    cublas, runtime = xp.cuda.cublas, xp.cuda.runtime
    single = a.dtype == "float32"
    kind = runtime.CUDA_R_32F if single else runtime.CUDA_R_64F
    if single:
        precision = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if _tf32.get() else cublas.CUBLAS_COMPUTE_32F
    else:
        precision = cublas.CUBLAS_COMPUTE_64F
    # cuBLAS has matrices by columns: what lies by rows is the transpose to it, and out' = b' a'.
    (t_a, ld_a, step_a), (t_b, ld_b, step_b) = _lies(a), _lies(b)
    flags = [cublas.CUBLAS_OP_T if t else cublas.CUBLAS_OP_N for t in (t_b, t_a)]
    one, zero = (scalar.ctypes.data for scalar in _SCALARS[a.dtype.name])
    sizes = (shape[-1], shape[-2], a.shape[-1])
    handle = xp.cuda.Device().cublas_handle
    first, second, result = ((array.data.ptr, kind) for array in (b, a, out))
    how = (precision, cublas.CUBLAS_GEMM_DEFAULT)
    if not stacks:  # it may split the sum over k, where that is long and the matrix small
        cublas.gemmEx(handle, *flags, *sizes, one, *first, ld_b, *second, ld_a, zero, *result, shape[-1], *how)
    else:
        step = shape[-2] * shape[-1]
        cublas.gemmStridedBatchedEx(
            handle, *flags, *sizes, one, *first, ld_b, step_b, *second, ld_a, step_a, zero, *result, shape[-1], step,
            stacks[0], *how,
        )  # fmt: skip
    return out


_SCALARS = {name: (np.ones((), name), np.zeros((), name)) for name in ("float32", "float64")}


def _lies(a: Array) -> tuple[bool, int, int]:
    """How a GPU's matrix lies: whether by columns, how many elements a row (or column) is from the next one, and a
    matrix from the next one of a stack; 0 if it is not a stack."""
    steps = [stride // a.itemsize for stride in a.strides]
    stack = steps[0] if a.ndim == 3 else 0
    (rows, columns), (down, right) = a.shape[-2:], steps[-2:]
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return False, max(down, columns), stack
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return True, max(right, rows), stack
    raise ValueError(f"a matrix by rows or by columns expected; shape {a.shape}, strides {a.strides}")


_tf32: ContextVar[bool] = ContextVar("tf32", default=False)


@contextlib.contextmanager
def tf32_products() -> Iterator[None]:
    """Within it, `matmul` of float32 on a GPU may round its factors to TF32 (11 bits instead of 24; tensor cores).

    It holds for what the calling thread does, and is set back afterwards.
    """
    token = _tf32.set(True)
    try:
        yield
    finally:
        _tf32.reset(token)


def check_tf32(tf32: bool, device: str, dtype: str) -> None:
    """ValueError if `tf32_products` are asked for where there are none."""
    if tf32 and (device, dtype) != ("gpu", "float32"):
        raise ValueError("tf32 is a GPU's precision: it goes with device gpu and dtype float32")


def free_device_bytes(cupy: ModuleType) -> int:
    """The GPU memory that new arrays can have: what the card has left, and what CuPy's pool holds for reuse."""
    return cupy.cuda.Device().mem_info[0] + cupy.get_default_memory_pool().free_bytes()


def cache_bytes(cupy: ModuleType) -> int:
    """The size of the GPU's second-level cache."""
    runtime = cupy.cuda.runtime
    return int(runtime.deviceGetAttribute(runtime.cudaDevAttrL2CacheSize, cupy.cuda.Device().id))


def empty_pool(xp: ModuleType) -> None:
    """Give back the GPU memory that CuPy's pool holds for reuse: what comes next is of other sizes."""
    if xp is not np:
        xp.get_default_memory_pool().free_all_blocks()


def device_text(cupy: ModuleType) -> str:
    """The GPU in words: the card, its memory and cache, CuPy's and CUDA's versions, and where kernels are kept."""
    runtime, card = cupy.cuda.runtime, cupy.cuda.Device()
    name = runtime.getDeviceProperties(card.id)["name"].decode()
    driver, own = (f"{n // 1000}.{n % 1000 // 10}" for n in (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
    size, cache = card.mem_info[1] / 1e9, cache_bytes(cupy) / 1e6
    kept = f"{'kernels' if kernels_folder().exists() else 'none'} kept in {kernels_folder()}"
    return (
        f"{name} (sm_{card.compute_capability}, {size:.0f} GB, cache {cache:.0f} MB), CuPy {cupy.__version__}, "
        f"CUDA {own}, driver for {driver}; {kept}"
    )


def kernels_folder() -> Path:
    """Where CuPy keeps the kernels that it has compiled, for the next time."""
    return Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")


def on_host(array: Array) -> bool:
    """Whether an array is NumPy's."""
    return get_xp(array) is np


def aligned(array: Array) -> Array:
    """The array as a kernel takes it that reads 16 bytes at once: by rows, from an address that is a multiple of 16."""
    array = get_xp(array).ascontiguousarray(array)
    return array if array.data.ptr % 16 == 0 else array.copy()


def asarray(array: Array, xp: ModuleType, dtype: Any) -> Array:
    """`array` as an array of namespace `xp` and of `dtype`; copied only where one of the two differs."""
    if xp is np:
        array = to_host(array)
    return xp.asarray(array, dtype=dtype)


def to_host(array: Array) -> np.ndarray:
    """`array` as a NumPy array; an array that is one already is returned as it is."""
    return array if on_host(array) else array.get()


def to_floats(*values: Any) -> list[float]:
    """Numbers of any kind as Python's; those on a device come in one transfer, which waits until they are computed."""
    if all(isinstance(value, Real | np.bool_ | np.ndarray) for value in values):
        return [float(value) for value in values]
    return to_host(get_xp(*values).stack([value.astype("float64") for value in values])).tolist()
