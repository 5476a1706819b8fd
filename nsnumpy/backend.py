"""The switch between NumPy and CuPy: the only file that names cupy.

There is no ambient device. A computation takes its namespace from its arrays (`get_xp`), and an array comes to a device
because somebody asked for that device by name (`device_namespace`, `asarray`).
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from numbers import Real
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
"""A `numpy.ndarray` or a `cupy.ndarray`; Python has no common type for the two."""

DEVICES = ("cpu", "gpu")


class DeviceError(RuntimeError):
    """The device that was asked for cannot be had."""


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
    found = {_namespace_name(array) for array in arrays}
    if len(found) != 1:
        raise TypeError(
            f"arrays of one kind expected, {', '.join(sorted(found)) or 'none'} given: move them to one device"
        )
    return sys.modules[found.pop()]


def _namespace_name(array: Array) -> str:
    for base in type(array).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("numpy", "cupy"):
            return root
    raise TypeError(f"a NumPy or CuPy array expected, {type(array).__name__} given")


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
            reason = f"cannot be used, since CuPy cannot be imported ({str(error).partition(chr(10))[0]})"
        raise DeviceError(f"device 'gpu' {reason}; or choose device 'cpu'") from error
    try:
        probe = cupy.zeros((2, 2), dtype="float32")
        cupy.asnumpy(cupy.maximum(probe @ probe, 0))  # allocation, cuBLAS, a kernel compiled at run time
    except Exception as error:  # of many types: no driver, no device, a missing CUDA library, no compiler
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"device 'gpu' cannot be used ({reason}): choose device 'cpu'") from error
    return cupy


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """CUDA's errors as a MemoryError or a DeviceError; they are of types that only CuPy knows."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or not type(error).__module__.startswith(("cupy.", "cupy_backends.")):
            raise
        text = str(error).partition("\n")[0]
        if any(sign in text for sign in ("ALLOC_FAILED", "OUT_OF_MEMORY", "MemoryAllocation")):
            raise MemoryError(text) from error
        raise DeviceError(f"the GPU failed ({text})") from error


@contextlib.contextmanager
def tf32_products(cupy: ModuleType) -> Iterator[None]:
    """Within it, matrix products in float32 may round their factors to TF32 (11 bits instead of 24; tensor cores).

    The setting belongs to cuBLAS's handle of the calling thread, and is set back afterwards.
    """
    cublas, handle = cupy.cuda.cublas, cupy.cuda.Device().cublas_handle
    before = cublas.getMathMode(handle)
    cublas.setMathMode(handle, cublas.CUBLAS_TF32_TENSOR_OP_MATH)
    try:
        yield
    finally:
        cublas.setMathMode(handle, before)


def check_tf32(tf32: bool, device: str, dtype: str) -> None:
    """ValueError if `tf32_products` are asked for where there are none."""
    if tf32 and (device, dtype) != ("gpu", "float32"):
        raise ValueError("tf32 is a GPU's precision: it goes with device gpu and dtype float32")


def free_device_bytes(cupy: ModuleType) -> int:
    """The GPU memory that new arrays can have: what the card has left, and what CuPy's pool holds for reuse."""
    return cupy.cuda.Device().mem_info[0] + cupy.get_default_memory_pool().free_bytes()


def on_host(array: Array) -> bool:
    """Whether an array is NumPy's."""
    return get_xp(array) is np


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
