"""The HDF5 weight file, and `load_vgg`.

Layout, version 1: datasets ``/conv1_1/weight`` ``(3, 3, C_in, C_out)`` and ``/conv1_1/bias`` ``(C_out,)``, and so on,
in float16, float32 or float64; root attributes as the fields of `WeightFile`, with ``format_version``. The layers begin
at conv1_1 and leave no gap; a file may end at any convolution.

Version 2: the same, but any layer's weight may be int8, beside a ``/conv1_1/scale`` ``(C_out,)`` in float32, finite and
not negative: its values are then ``weight * scale``, with a scale for each filter (see `quantize`). Biases are floats.
Both versions are read. What has no int8 in it is written as version 1, which older readers know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..architecture import (
    ARCHITECTURES,
    POOLINGS,
    Network,
    Preprocessing,
    check_choices,
    check_shapes,
    check_weights,
    layer_names,
)
from ..backend import device_namespace, first_line
from ..machine import warn_of_kernel
from ..ops import Border
from ..vgg import VGG
from .hdf5 import open_hdf5, written_hdf5
from .random_network import PREPROCESSING, random_network, random_network_filters
from .weight_layers import Layer, open_layer, read_layer, write_layer
from .weight_sources import BUILTIN, BUILTIN_RANDOM, WeightFileError, find_weights
from .writing import check_folder

if TYPE_CHECKING:
    import h5py

DTYPES = ("int8", "float16", "float32", "float64")  # in which weights are stored, the narrowest first
_CONVERT = "`python -m weights_tools convert` makes one of a file of another tool"

Content = TypeVar("Content")


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
    name : str
        Of the file that this was read from; not written.
    """

    weights: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    architecture: str = "vgg19"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    pooling: str = "avg"
    normalized: bool = False
    source: str = ""
    sha256: str = ""
    license: str = ""
    name: str = field(default="", compare=False)


def load_vgg(
    source: str | os.PathLike[str] | WeightFile = BUILTIN,
    *,
    pooling: str = "avg",
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    convolution: str = "winograd",
    tf32: bool = False,
    border: str | Border = "zero",
) -> VGG:
    """A VGG network, ready to use.

    Parameters
    ----------
    source : "builtin", "builtin-large", "builtin-random", a weight file's path, the name of a fetched one ("vgg19"), or
        what was read of one
        The built-in ones need no download: a small network for painting, a wider one, and one of random filters (see
        `random_network`). A name is looked up in `cache_folder`, where ``python -m weights_tools fetch NAME`` puts the
        file.
    pooling : "avg" (the paper) or "max" (VGG as trained)
    device : "cpu" or "gpu"
        "gpu" needs CuPy and never falls back to "cpu".
    dtype : "float32" or "float64"
    threads : int, or None
        How many threads; None takes the cores that this process may use.
    convolution : "winograd", the fast path; "direct", the definition; or "fastest", for each layer and size the faster
        one, found by trying both
    tf32 : bool
        Whether a GPU's matrix products in float32 may round their factors to TF32, 11 bits, which is faster.
    border : "zero", "replicate", "reflect" or "wrap", or two of them, of rows and of columns
        What each convolution sees beyond the border of its input; VGG was trained with zeros. A run has its own.

    Raises
    ------
    WeightFileError
        If the file is missing or is not a weight file, or a layer is missing or has a wrong shape.
    DeviceError
        If the device cannot be had.
    ValueError
        If a name is unknown.

    Warns
    -----
    KernelWarning
        If NumPy's BLAS does not use what the processor has, with the line that mends it.
    """
    xp = device_namespace(device)
    if device == "cpu":
        warn_of_kernel()
    file = source if isinstance(source, WeightFile) else read_weights(source)
    return VGG(
        file.weights,
        xp=xp,
        architecture=file.architecture,
        preprocessing=file.preprocessing,
        pooling=pooling,
        dtype=dtype,
        source=file.name,
        threads=threads,
        convolution=convolution,
        tf32=tf32,
        border=border,
    )


def _random_file() -> WeightFile:
    return WeightFile(
        random_network(),
        preprocessing=PREPROCESSING,
        normalized=True,
        source="nsnumpy: random filters, calibrated on the bundled pictures",
        license="MIT",
    )


def write_weights(path: str | os.PathLike[str], file: WeightFile, dtype: str = "float32") -> None:
    """Write a weight file; all of it, or nothing.

    Parameters
    ----------
    path : where to; the folder must exist
    file : WeightFile
    dtype : "int8", "float16", "float32" or "float64"
        How the weights are stored. In "int8" each filter has a scale, and biases are float32; what was read from such a
        file is stored again as the same bits.

    Raises
    ------
    ValueError
        If the weights do not fit together, or do not fit into `dtype`, or that is no such type.
    OSError
        If nothing can be written there.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: choose from {', '.join(DTYPES)}")
    check_weights(file.weights, file.architecture)
    check_folder(Path(path))
    with written_hdf5(path) as h5:
        h5.attrs["format_version"] = 2 if dtype == "int8" else 1
        for name, value in _attributes(file).items():
            h5.attrs[name] = value
        for name, (weight, bias) in file.weights.items():
            write_layer(h5, name, weight, bias, dtype)


def read_weights(source: str | os.PathLike[str]) -> WeightFile:
    """Read a weight file and check it: names, shapes, types, finite values.

    The HDF5 library itself is not proof against a file made to attack it: read files from sources that you trust.

    Parameters
    ----------
    source : as for `load_vgg`

    Raises
    ------
    WeightFileError
    """
    file = _random_file() if os.fspath(source) == BUILTIN_RANDOM else _with_file(source, _read)
    return replace(file, name=Path(source).name)


def read_network(
    source: str | os.PathLike[str] | WeightFile = BUILTIN, pooling: str = "avg", dtype: str = "float32"
) -> Network:
    """The architecture and the widths of a network, without its weights: what a plan needs.

    Parameters, and errors, as for `load_vgg`.
    """

    check_choices(pooling=pooling, dtype=dtype)

    def read(h5: h5py.File) -> tuple[str, dict[str, int]]:
        architecture, datasets = _layers(h5)
        return architecture, {name: layer.weight.shape[3] for name, layer in datasets.items()}

    if isinstance(source, WeightFile):
        architecture, filters = source.architecture, {name: len(bias) for name, (_, bias) in source.weights.items()}
    elif os.fspath(source) == BUILTIN_RANDOM:
        architecture, filters = "vgg19", random_network_filters()
    else:
        architecture, filters = _with_file(source, read)
    return Network(architecture, filters, pooling, np.dtype(dtype).itemsize)


def _with_file(source: str | os.PathLike[str], read: Callable[[h5py.File], Content]) -> Content:
    path = find_weights(source)
    try:
        with open_hdf5(path) as h5:
            return read(h5)
    except (OSError, RuntimeError) as error:  # h5py's errors about broken or foreign files
        raise WeightFileError(f"{path}: not a readable HDF5 file ({first_line(error)}); {_CONVERT}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: {error.args[0] if error.args else error}") from error


def _attributes(file: WeightFile) -> dict[str, Any]:
    p = file.preprocessing
    return {
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


def _layers(h5: h5py.File) -> tuple[str, dict[str, Layer]]:
    """The architecture, and the layers' datasets, not read yet but checked for their types and shapes."""
    version = h5.attrs.get("format_version")
    if version is None:
        raise ValueError(f"an HDF5 file, but not an nsnumpy weight file (no format_version attribute); {_CONVERT}")
    if np.shape(version) != () or version not in (1, 2):
        raise ValueError(
            f"weight file of version {np.asarray(version).tolist()!r}; this nsnumpy reads versions 1 and 2"
        )
    architecture = _text(h5, "architecture", ARCHITECTURES)
    held = list(h5)
    names = [name for name in layer_names(architecture) if name in held]
    names += [name for name in held if name not in names]
    layers = {name: open_layer(h5, name, version) for name in names}
    check_shapes({name: layer[:2] for name, layer in layers.items()}, architecture)  # before memory is taken for them
    for name, (_, bias, scale) in layers.items():
        if scale is not None and scale.shape != bias.shape:
            raise ValueError(f"{name}: a scale of shape {bias.shape} expected, {scale.shape} given")
    return architecture, layers


def _read(h5: h5py.File) -> WeightFile:
    architecture, layers = _layers(h5)
    pooling = _text(h5, "pooling", POOLINGS)
    preprocessing = Preprocessing(
        _text(h5, "channel_order", ("RGB", "BGR")),
        _numbers(h5, "pixel_scale", 1)[0],
        _numbers(h5, "mean", 3),
        _numbers(h5, "std", 3),
    )
    weights = {name: read_layer(layer) for name, layer in layers.items()}
    check_weights(weights, architecture)
    normalized = bool(_numbers(h5, "normalized", 1)[0])
    texts = (_text(h5, name) for name in ("source", "sha256", "license"))
    return WeightFile(weights, architecture, preprocessing, pooling, normalized, *texts)


def _attribute(h5: h5py.File, name: str) -> Any:
    if name not in h5.attrs:
        raise ValueError(f"attribute {name} is missing")
    return h5.attrs[name]


def _text(h5: h5py.File, name: str, choices: Iterable[str] = ()) -> str:
    value = _attribute(h5, name)
    value = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if choices and value not in choices:
        raise ValueError(f"unknown {name} {value!r}; known: {', '.join(choices)}")
    return value


def _numbers(h5: h5py.File, name: str, count: int) -> tuple[Any, ...]:
    """An attribute that is `count` numbers, as so many floats."""
    value = np.asarray(_attribute(h5, name))
    if value.dtype.kind not in "biuf" or value.size != count:
        raise ValueError(f"attribute {name}: {count} number{'s'[: count - 1]} expected, {value.tolist()!r} given")
    return tuple(float(number) for number in value.ravel())
