"""A layer in a weight file: the datasets weight and bias and, where the weight is int8, a scale for each filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .hdf5 import own_dataset
from .quantize import LEVELS, dequantize, quantize

if TYPE_CHECKING:
    import h5py

_MOST_GAIN = (
    8  # by compression: floats and what is in 8 bits do not shrink as far, and no file that claims it is believed
)


class Layer(NamedTuple):
    """Its datasets, not read yet."""

    weight: h5py.Dataset
    bias: h5py.Dataset
    scale: h5py.Dataset | None


def write_layer(h5: h5py.File, name: str, weight: np.ndarray, bias: np.ndarray, dtype: str) -> None:
    """Store a layer; ValueError if it does not fit into `dtype`."""
    if dtype == "int8":
        q, scale = quantize(weight)
        with np.errstate(over="ignore"):  # reported below
            _check_finite(f"{name}/weight", weight, LEVELS * scale, dtype)
        _compress(h5, f"{name}/weight", q)
        h5.create_dataset(f"{name}/scale", data=scale)
    else:
        _write_floats(h5, f"{name}/weight", weight, dtype)
    _write_floats(h5, f"{name}/bias", bias, "float32" if dtype == "int8" else dtype)


def _write_floats(h5: h5py.File, name: str, array: np.ndarray, dtype: str) -> None:
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    _check_finite(name, array, stored, dtype)
    h5.create_dataset(name, data=stored)


def _check_finite(name: str, array: np.ndarray, stored: np.ndarray, dtype: str) -> None:
    if not np.isfinite(stored).all():
        raise ValueError(f"{name}: values up to {np.abs(array).max():g} do not fit into {dtype}")


def _compress(h5: h5py.File, name: str, q: np.ndarray) -> None:
    """Trained weights become smaller by a sixth. What would become smaller than a reader believes stays as it is."""
    dataset = h5.create_dataset(name, data=q, chunks=q.shape, compression="gzip")
    dataset.flush()
    if not _is_whole(dataset):
        del h5[name]
        h5.create_dataset(name, data=q)


def open_layer(h5: h5py.File, name: str, version: int) -> Layer:
    """The datasets of a layer in a file of that version; ValueError if one is missing or of another type."""
    weight = _dataset(h5, f"{name}/weight", "floats" if version == 1 else "floats or int8")
    bias = _dataset(h5, f"{name}/bias", "floats")
    if weight.dtype == np.int8:
        return Layer(weight, bias, _dataset(h5, f"{name}/scale", "float32"))
    if f"{name}/scale" in h5:
        raise ValueError(f"{name}/scale: only weights in int8 have one, and these are {weight.dtype}")
    return Layer(weight, bias, None)


_TYPES = {"floats": "efdg", "floats or int8": "efdgb", "float32": "f"}


def _dataset(h5: h5py.File, name: str, expected: str) -> h5py.Dataset:
    dataset = own_dataset(h5, name)
    if dataset.dtype.char not in _TYPES[expected]:
        raise ValueError(f"{name}: {expected} expected, {dataset.dtype} given")
    return dataset


def read_layer(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Its (weight, bias), in float32 or, if they are stored so, in float64; ValueError if values are not there."""
    bias = _floats(layer.bias)
    if layer.scale is None:
        return _floats(layer.weight), bias
    q, scale, name = _values(layer.weight), _floats(layer.scale), layer.scale.name[1:]
    wrong = scale[~(np.isfinite(scale) & (scale >= 0))]
    if wrong.size:
        raise ValueError(f"{name}: finite numbers, none below 0, expected; {wrong[0]:g} given")
    if q[..., scale == 0].any():
        raise ValueError(f"{name}: 0 for a filter whose weights are not")
    return dequantize(q, scale), bias


def _floats(dataset: h5py.Dataset) -> np.ndarray:
    return _values(dataset).astype(np.float32 if dataset.dtype.itemsize < 8 else np.float64)


def _values(dataset: h5py.Dataset) -> np.ndarray:
    if not _is_whole(dataset):
        raise ValueError(f"{dataset.name[1:]}: the file does not hold all of its {dataset.size} values")
    return dataset[()]


def _is_whole(dataset: h5py.Dataset) -> bool:
    """Whether what the dataset takes in the file can hold all of its values."""
    return dataset.id.get_storage_size() * (1 if dataset.chunks is None else _MOST_GAIN) >= dataset.nbytes
