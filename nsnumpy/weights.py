"""The HDF5 weight file, and `load_vgg`.

Layout, version 1: datasets ``/conv1_1/weight`` ``(3, 3, C_in, C_out)`` and ``/conv1_1/bias`` ``(C_out,)``, and so on,
in float16, float32 or float64; root attributes as the fields of `WeightFile`, with ``format_version``. The layers begin
at conv1_1 and leave no gap; a file may end at any convolution.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .backend import device_namespace
from .builtin import builtin_weights
from .images import atomic_path
from .vgg import ARCHITECTURES, VGG, Preprocessing, check_weights, layer_names

FORMAT_VERSION = 1
BUILTIN = "builtin"


class WeightFileError(ValueError):
    """A weight file that cannot be used; the message names the file, the layer and what is wrong."""


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes
    ----------
    weights : dict from "conv1_1", ... to (weight, bias)
        Shapes ``(3, 3, C_in, C_out)`` and ``(C_out,)``.
    architecture : "vgg19" or "vgg16"
    preprocessing : Preprocessing
        What the network expects; applied by the network itself.
    pooling : "avg" or "max"
        With which it was trained. Which one is used is the user's choice; the paper prefers "avg".
    normalized : bool
        Whether every filter's mean activation is 1 (Gatys' rescaling).
    source, sha256, license : str
        Where the weights came from, the checksum of that file, and under which terms.
    """

    weights: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    architecture: str = "vgg19"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    pooling: str = "avg"
    normalized: bool = False
    source: str = ""
    sha256: str = ""
    license: str = ""


def load_vgg(
    source: str | os.PathLike[str] = BUILTIN, *, pooling: str = "avg", device: str = "cpu", dtype: str = "float32"
) -> VGG:
    """A VGG network, ready to use.

    Parameters
    ----------
    source : "builtin", or the path of a weight file
        "builtin" needs no download; see `builtin`.
    pooling : "avg" (the paper) or "max" (VGG as trained)
    device : "cpu" or "gpu"
        "gpu" needs CuPy and never falls back to "cpu".
    dtype : "float32" or "float64"

    Raises
    ------
    WeightFileError
        If the file is missing or is not a weight file, or a layer is missing or has a wrong shape.
    DeviceError
        If the device cannot be had.
    ValueError
        If a name is unknown.
    """
    xp = device_namespace(device)
    file = builtin_file() if os.fspath(source) == BUILTIN else read_weights(source)
    return VGG(
        file.weights,
        xp=xp,
        architecture=file.architecture,
        preprocessing=file.preprocessing,
        pooling=pooling,
        dtype=dtype,
        source=BUILTIN if os.fspath(source) == BUILTIN else Path(source).name,
    )


def builtin_file() -> WeightFile:
    """The built-in network as the content of a weight file; `write_weights` makes it one."""
    return WeightFile(
        builtin_weights(), normalized=True, source="nsnumpy: random orthogonal filters, calibrated", license="MIT"
    )


def write_weights(path: str | os.PathLike[str], file: WeightFile, dtype: str = "float32") -> None:
    """Write a weight file; all of it, or nothing.

    Parameters
    ----------
    path : where to; the folder must exist
    file : WeightFile
    dtype : "float16", "float32" or "float64"
        How the weights are stored.

    Raises
    ------
    ValueError
        If the weights do not fit together, or do not fit into `dtype`.
    """
    check_weights(file.weights, file.architecture)
    with atomic_path(Path(path)) as temporary, h5py.File(temporary, "w") as h5:
        for name, value in _attributes(file).items():
            h5.attrs[name] = value
        for layer, (weight, bias) in file.weights.items():
            for name, array in (("weight", weight), ("bias", bias)):
                with np.errstate(over="ignore"):  # reported below
                    stored = array.astype(dtype)
                if not np.isfinite(stored).all():
                    raise ValueError(f"{layer}/{name}: values up to {np.abs(array).max():g} do not fit into {dtype}")
                h5.create_dataset(f"{layer}/{name}", data=stored)


def read_weights(path: str | os.PathLike[str]) -> WeightFile:
    """Read a weight file and check it: names, shapes, types, finite values.

    Raises
    ------
    WeightFileError
    """
    path = Path(path)
    if not path.is_file():
        raise WeightFileError(f"{path}: no such weight file; 'builtin' needs none")
    try:
        with h5py.File(path) as h5:
            return _read(h5)
    except (OSError, RuntimeError) as error:  # h5py's errors about broken or foreign files
        raise WeightFileError(f"{path}: not a readable HDF5 file ({_first_line(error)})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: {error.args[0] if error.args else error}") from error


def _attributes(file: WeightFile) -> dict[str, Any]:
    p = file.preprocessing
    return {
        "format_version": FORMAT_VERSION,
        "architecture": file.architecture,
        "channel_order": p.channel_order,
        "pixel_scale": p.pixel_scale,
        "mean": p.mean,
        "std": p.std,
        "pooling": file.pooling,
        "normalized": file.normalized,
        "source": file.source,
        "sha256": file.sha256,
        "license": file.license,
    }


def _read(h5: h5py.File) -> WeightFile:
    attributes = dict(h5.attrs)
    if "format_version" not in attributes:
        raise ValueError("an HDF5 file, but not an nsnumpy weight file (no format_version attribute)")
    if attributes["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"weight file of version {attributes['format_version']}; this nsnumpy reads version {FORMAT_VERSION}"
        )
    missing = [name for name in _attributes(WeightFile({})) if name not in attributes]
    if missing:
        raise ValueError(f"attribute {missing[0]} is missing")
    architecture = str(attributes["architecture"])
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    names = [name for name in layer_names(architecture) if name in h5]
    unknown = [name for name in h5 if name not in names]
    weights = {name: (_dataset(h5, f"{name}/weight", 4), _dataset(h5, f"{name}/bias", 1)) for name in names + unknown}
    check_weights(weights, architecture)
    mean, std = (tuple(float(v) for v in np.broadcast_to(attributes[name], 3)) for name in ("mean", "std"))
    return WeightFile(
        weights,
        architecture,
        Preprocessing(str(attributes["channel_order"]), float(attributes["pixel_scale"]), mean, std),
        str(attributes["pooling"]),
        bool(attributes["normalized"]),
        str(attributes["source"]),
        str(attributes["sha256"]),
        str(attributes["license"]),
    )


def _dataset(h5: h5py.File, name: str, ndim: int) -> np.ndarray:
    """A float array from the file; its claimed size is held against the file's before memory is taken for it."""
    dataset = h5.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is missing")
    if dataset.dtype.kind != "f" or dataset.ndim != ndim:
        raise ValueError(f"{name}: {ndim} axes of floats expected; {dataset.ndim} of {dataset.dtype} given")
    if dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize and dataset.compression is None:
        raise ValueError(f"{name}: the file does not hold all of its {dataset.size} values")
    return dataset[()].astype(np.float32 if dataset.dtype.itemsize < 8 else np.float64)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
