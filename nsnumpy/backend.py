"""The switch between NumPy and CuPy: the only file that names cupy.

There is no ambient device. A computation takes its namespace from its arrays (`get_xp`), and an array comes to a device
because somebody asked for that device by name (`device_namespace`, `asarray`).
"""

from __future__ import annotations

import importlib
import sys
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
    except ImportError as error:
        raise DeviceError(
            "device 'gpu' needs CuPy: pip install cupy-cuda12x or cupy-cuda13x, or choose device 'cpu'"
        ) from error
    try:
        probe = cupy.zeros((2, 2), dtype="float32")
        cupy.asnumpy(cupy.maximum(probe @ probe, 0))  # allocation, cuBLAS, a kernel compiled at run time
    except Exception as error:  # of many types: no driver, no device, a missing CUDA library, no compiler
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"device 'gpu' cannot be used ({reason}): choose device 'cpu'") from error
    return cupy


def asarray(array: Array, xp: ModuleType, dtype: Any) -> Array:
    """`array` as an array of namespace `xp` and of `dtype`; copied only where one of the two differs."""
    if xp is np:
        array = to_host(array)
    return xp.asarray(array, dtype=dtype)


def to_host(array: Array) -> np.ndarray:
    """`array` as a NumPy array; an array that is one already is returned as it is."""
    return array if get_xp(array) is np else array.get()
