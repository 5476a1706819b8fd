"""Any published weight file as an nsnumpy weight file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nsnumpy import Preprocessing, WeightFile, WeightFileError, read_weights, write_weights
from nsnumpy.files.quantize import rounded
from nsnumpy.files.weights import DTYPES

from . import formats
from .download import checksums
from .formats import AlreadyConvertedError, File, FormatError
from .networks import Weights, vgg_of
from .published import CONVENTIONS, Published, recognise


@dataclass(frozen=True)
class Overrides:
    """What the user knows better than the file; None leaves it to the file.

    Attributes
    ----------
    order : "RGB" or "BGR"
    scale : float
        1 if the network was trained on pixels in [0, 1], 255 if on pixels in [0, 255].
    mean, std : three floats each
        In the network's channel order and units. Without a mean, the colour stays that of the file's own, whatever the
        order and the scale. Without a std, the file's own stays, but not with another scale, where it is 1.
    axes : str
        A permutation of "HWIO".
    rotated : bool
        Whether the kernels are turned by 180 degrees.
    """

    order: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    axes: str | None = None
    rotated: bool | None = None

    def apply(self, stated: Preprocessing) -> Preprocessing:
        """What the file states, with the overrides. ValueError if that is impossible."""
        order, scale = self.order or stated.channel_order, self.scale or stated.pixel_scale
        step, factor = 1 if order == stated.channel_order else -1, scale / stated.pixel_scale
        mean = self.mean or tuple(factor * value for value in stated.mean[::step])
        std = self.std or (stated.std[::step] if factor == 1 else (1.0, 1.0, 1.0))
        return Preprocessing(order, scale, mean, std)


NONE = Overrides()


@dataclass(frozen=True)
class Found:
    """What was read from a file of any format.

    Attributes
    ----------
    file : WeightFile
    format : str
        In words.
    dtype : "int8", "float16", "float32" or "float64"
        The narrowest one that holds its values exactly; "int8" only of a file in which weights are stored so.
    notes : list of str
        What had to be assumed.
    """

    file: WeightFile
    format: str
    dtype: str
    notes: list[str]


def read_any(
    path: str | os.PathLike[str],
    overrides: Overrides = NONE,
    published: Published | None = None,
    sums: tuple[str, str] | None = None,
) -> Found:
    """Read a weight file of any known format, nsnumpy's own among them.

    Parameters
    ----------
    path : path
    overrides : Overrides
    published : Published or None
        What the file is known to be; None has its checksums looked up.
    sums : (sha256, md5) or None
        Its checksums, if they are known already.

    Raises
    ------
    FormatError
        If it is of no known format, damaged, or not a VGG. The message begins with the path.
    OSError
        If it cannot be opened.
    """
    path = Path(path)
    if path.is_dir():
        raise FormatError("a folder; name the file in it", path)
    try:
        with File(path) as file, np.errstate(invalid="ignore"):  # values that are none are reported by layer
            contents = formats.read(file)
            architecture, weights, dtype, notes = vgg_of(contents, file.size, overrides.axes, overrides.rotated)
    except AlreadyConvertedError as error:
        return _own(path, overrides, error.dtypes)
    except FormatError as error:
        raise FormatError(str(error), path) from error
    sha256, md5 = sums or checksums(path)[:2]
    if published is None and (known := recognise(sha256, md5)):
        name, published = known
        notes.append(f"known by its checksum: {name}")
    if published:
        stated, source = CONVENTIONS[published.convention], published.urls[0]
    elif contents.preprocessing:
        stated, source = contents.preprocessing, path.name
    else:
        stated, source = CONVENTIONS[contents.convention], path.name
        if None in (overrides.order, overrides.scale, overrides.mean, overrides.std):
            notes.append(
                "the file does not say which pixels it expects; what is usual for its kind was assumed (--bgr, --rgb, "
                "--scale, --mean, --std override it)"
            )
    return Found(
        WeightFile(
            weights,
            architecture,
            overrides.apply(stated),
            pooling="max",
            normalized=bool(published and published.normalized),
            source=source,
            sha256=sha256,
            license=published.license if published else "",
        ),
        contents.format,
        dtype,
        notes,
    )


def _own(path: Path, overrides: Overrides, dtypes: set[str]) -> Found:
    """A weight file of nsnumpy, whose datasets have these dtypes."""
    if overrides.axes or overrides.rotated:
        raise FormatError("a weight file of nsnumpy; its axes are (H, W, C_in, C_out)", path)
    try:
        file = read_weights(path)
    except WeightFileError as error:
        raise FormatError(str(error).removeprefix(f"{path}: "), path) from error
    file = replace(file, preprocessing=overrides.apply(file.preprocessing))
    dtype = max(dtypes & set(DTYPES), key=DTYPES.index)  # with int8 there are scales, in float32
    if "int8" in dtypes and _is_exact(file.weights):  # not if some layers are floats, or scales are another program's
        dtype = "int8"
    return Found(file, "nsnumpy HDF5", dtype, [])


def _is_exact(weights: Weights) -> bool:
    """Whether a file in int8 holds these values exactly."""
    return all(
        np.array_equal(array, rounded(array, dtype))
        for arrays in weights.values()
        for array, dtype in zip(arrays, ("int8", "float32"), strict=True)
    )


def rounding_error(weights: Mapping[str, Sequence[np.ndarray]], dtype: str) -> tuple[str, float]:
    """(layer, its relative rms error) for the layer that suffers most from being stored as `dtype`."""
    errors = {}
    for name, (weight, _) in weights.items():
        stored = rounded(weight, dtype).astype(np.float64)
        size = np.sqrt(np.mean(np.square(weight, dtype=np.float64)))
        errors[name] = float(np.sqrt(np.mean((stored - weight) ** 2)) / size) if size else 0.0
    return max(errors.items(), key=lambda item: item[1])


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    overrides: Overrides = NONE,
    dtype: str | None = None,
    published: Published | None = None,
    sums: tuple[str, str] | None = None,
) -> Found:
    """Read a weight file of any known format and write it as nsnumpy's; all of it, or nothing.

    Parameters
    ----------
    path, overrides, published, sums : as for `read_any`
    output : where to; the folder must exist
    dtype : "int8", "float16", "float32", "float64" or None
        How to store the weights; None takes the narrowest type that holds them exactly.

    Raises
    ------
    FormatError
        As `read_any`.
    ValueError
        If the weights do not fit into `dtype`, or the file is to be written over itself.
    """
    if Path(output).resolve() == Path(path).resolve():
        raise ValueError(f"{output}: the file that is read; write to another one")
    found = read_any(path, overrides, published, sums)
    write_weights(output, found.file, dtype or found.dtype)
    return found


def describe(preprocessing: Preprocessing) -> str:
    """In a line: "BGR, 0 ... 255, mean 103.939 116.779 123.68"."""
    p = preprocessing
    text = f"{p.channel_order}, 0 ... {p.pixel_scale:g}, mean {' '.join(f'{m:g}' for m in p.mean)}"
    return text if set(p.std) == {1.0} else f"{text}, std {' '.join(f'{s:g}' for s in p.std)}"
