"""MatConvNet's .mat: a cell of layers, in one of the layouts that it has had since 2014.

Filters are ``(H, W, C_in, C_out)``, and expect RGB in 0 ... 255: its importer of Caffe's models transposes their two
spatial axes and reverses the input channels of the first layer.
"""

from __future__ import annotations

import math
from typing import Any

from nsnumpy import Preprocessing

from .base import Contents, File, FormatError, Layer, Tensor
from .matlab import Numbers, read_variables

MOST_VALUES = 3 * 300 * 300  # of the mean picture, which has the size of the training pictures


def read(file: File) -> Contents:
    variables = dict(read_variables(file))
    net = variables.get("net")
    if isinstance(net, dict):  # a network saved as a whole
        variables = net
    cells = variables.get("layers")
    if not isinstance(cells, list):
        raise FormatError(f"a MAT-file without MatConvNet's layers; it holds {', '.join(variables) or 'nothing'}"[:200])
    layers = [layer for n, cell in enumerate(cells) if isinstance(cell, dict) and (layer := _layer(n, cell))]
    meta = variables.get("meta")
    normalization = (meta if isinstance(meta, dict) else variables).get("normalization")
    return Contents("MatConvNet", layers, ("HWIO",), "matconvnet", _preprocessing(normalization))


def _layer(n: int, cell: dict[str, Any]) -> Layer | None:
    name = cell.get("name")
    name = name if isinstance(name, str) and name else f"layer {n}"
    parts = cell.get("weights")
    if not isinstance(parts, list):
        parts = [cell.get("filters"), cell.get("biases")]
    tensors = [_tensor(f"{name}/{part}", value) for part, value in zip(("filters", "biases"), parts, strict=False)]
    if not tensors or tensors[0] is None:
        return None
    return Layer(name, tensors[0], tensors[1] if len(tensors) > 1 else None)


def _tensor(name: str, value: Any) -> Tensor | None:
    if not isinstance(value, Numbers):
        return None
    return Tensor(name, value.shape, value.dtype, value.load)


def _preprocessing(normalization: Any) -> Preprocessing | None:
    """The mean of the training pictures: one colour, or a picture, of which the mean colour is taken."""
    image = normalization.get("averageImage") if isinstance(normalization, dict) else None
    if not isinstance(image, Numbers) or math.prod(image.shape) > MOST_VALUES:
        return None
    shape = tuple(n for n in image.shape if n != 1)
    if shape != (3,) and not (len(image.shape) == 3 and image.shape[2] == 3):
        return None
    mean = image.load().astype("float64").reshape(-1, 3, order="F" if shape != (3,) else "C").mean(axis=0)
    try:
        return Preprocessing("RGB", 255.0, tuple(round(float(m), 4) for m in mean))
    except ValueError:
        raise FormatError("damaged: the mean picture holds values that are not finite") from None
