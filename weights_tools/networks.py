"""From the layers of a foreign file to a VGG: which layer is which, in what order of axes, and its weights in ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from nsnumpy.architecture import ARCHITECTURES, check_weights, convolutions, layer_names

from .formats import Contents, FormatError, Layer, Tensor
from .formats.base import DTYPES, UNBELIEVABLE

Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def _feature_numbers(architecture: str) -> dict[int, str]:
    """torchvision's ``features.N``: each convolution is followed by its ReLU, each block by a pooling.

    >>> list(_feature_numbers("vgg16"))
    [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    """
    numbers, n = {}, 0
    for name in layer_names(architecture):
        if name.startswith("conv"):
            numbers[n] = name
        n += 2 if name.startswith("conv") else 1
    return numbers


def find_convolutions(layers: Sequence[Layer]) -> tuple[str, dict[str, Layer], list[str]]:
    """(architecture, the layers by VGG's names, notes) of a file's layers.

    They are told by Caffe's or Keras's names (conv1_1, block1_conv1), else by torchvision's numbers (features.0), else
    by their order. Layers of other names, and those that are not convolutions of 3 x 3, are passed over. Where a
    network ends too early to tell VGG-16 from VGG-19, it is taken for a VGG-19.

    Raises
    ------
    FormatError
        If the layers are not those of a VGG.
    """
    named: dict[str, Layer] = {}
    numbered: dict[int, Layer] = {}
    for layer in layers:
        if match := re.search(r"(?:^|[^a-z])(?:conv|block)(\d)_(?:conv)?(\d)$", layer.name):
            _add(named, f"conv{match[1]}_{match[2]}", layer)
        elif len(layer.weight.shape) == 4 and (match := re.search(r"(?:^|\.)features\.(\d{1,3})$", layer.name)):
            _add(numbered, int(match[1]), layer)
    if named:
        return _by_name(named)
    if numbered:
        return _by_number(numbered)
    return _by_order([layer for layer in layers if _is_3x3(layer.weight.shape)])


def _add(found: dict[Any, Layer], key: Any, layer: Layer) -> None:
    if key in found:
        raise FormatError(f"two layers of one kind, {found[key].name[:80]} and {layer.name[:80]}: one network expected")
    found[key] = layer


def _by_name(named: dict[str, Layer]) -> tuple[str, dict[str, Layer], list[str]]:
    names = {architecture: convolutions(layer_names(architecture)) for architecture in ARCHITECTURES}
    beyond = [name for name in named if name not in names["vgg19"]]
    if beyond:
        raise FormatError(f"{beyond[0]}: not a layer of VGG-16 or VGG-19")
    fourth = any(name.endswith("_4") for name in named)  # which VGG-16 has nowhere
    sure = fourth or any(name > "conv4" for name in named)
    return _checked("vgg16" if sure and not fourth else "vgg19", named, sure)


def _by_number(numbered: dict[int, Layer]) -> tuple[str, dict[str, Layer], list[str]]:
    fitting = [name for name in ARCHITECTURES if numbered.keys() <= _feature_numbers(name).keys()]
    if not fitting:
        raise FormatError("its convolutions are not where VGG-16 and VGG-19 have them (VGG-11? batch normalisation?)")
    table = _feature_numbers(fitting[0])
    return _checked(fitting[0], {table[n]: layer for n, layer in numbered.items()}, len(fitting) == 1)


def _by_order(layers: Sequence[Layer]) -> tuple[str, dict[str, Layer], list[str]]:
    """Layers without telling names: as many as a VGG has, with the widths changing where its blocks do."""
    fitting = []
    for architecture in ARCHITECTURES:
        names = convolutions(layer_names(architecture))[: len(layers)]
        widths: dict[str, set[int]] = {}
        for name, layer in zip(names, layers, strict=False):
            shape = layer.weight.shape
            widths.setdefault(name[4], set()).add(shape[0] if shape[2:] == (3, 3) else shape[3])
        if layers and len(layers) == len(names) and all(len(width) == 1 for width in widths.values()):
            fitting.append((architecture, dict(zip(names, layers, strict=True))))
    if len(fitting) > 1 and len(layers) in (13, 16):  # a whole network, rather than a part of the other one
        fitting = [fit for fit in fitting if len(convolutions(layer_names(fit[0]))) == len(layers)]
    if not fitting:
        raise FormatError(f"{len(layers)} convolutions of 3 x 3 without known names: not a VGG-16 or VGG-19")
    architecture, found = fitting[0]
    _, found, notes = _checked(architecture, found, len(fitting) == 1)
    return architecture, found, ["layers told by their order", *notes]


def _checked(architecture: str, found: dict[str, Layer], sure: bool) -> tuple[str, dict[str, Layer], list[str]]:
    names = convolutions(layer_names(architecture))
    missing = [name for name in names[: len(found)] if name not in found]
    if missing:
        raise FormatError(f"{missing[0]} is missing; {architecture} needs it")
    ordered = {name: found[name] for name in names if name in found}
    return architecture, ordered, [] if sure else [f"too short to tell VGG-16 from VGG-19; taken for {architecture}"]


def _is_3x3(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and (shape[:2] == (3, 3) or shape[2:] == (3, 3))


def find_axes(layers: dict[str, Layer], candidates: Sequence[str]) -> tuple[str, list[str]]:
    """(order of the weights' axes, notes): the first candidate with which all layers fit onto one another.

    A candidate is a permutation of "HWIO".
    """
    fitting = [axes for axes in candidates if _fits(layers, axes)]
    if not fitting:
        shapes = ", ".join(f"{name} {layer.weight.shape}" for name, layer in list(layers.items())[:2])
        raise FormatError(f"its layers do not fit onto one another as {' or '.join(candidates)} ({shapes})")
    if fitting == [candidates[0]]:
        return fitting[0], []
    doubt = "" if len(fitting) == 1 else f", though {' and '.join(fitting[1:])} would fit as well; --axes decides"
    return fitting[0], [f"axes of the weights taken to be {fitting[0]}{doubt}"]


def _fits(layers: dict[str, Layer], axes: str) -> bool:
    channels = 3
    for layer in layers.values():
        shape = layer.weight.shape
        if len(shape) != 4:
            return False
        size = dict(zip(axes, shape, strict=True))
        if (size["H"], size["W"], size["I"]) != (3, 3, channels):
            return False
        channels = size["O"]
        if layer.bias is not None and max(layer.bias.shape, default=0) != channels:
            return False
    return True


def load_weights(layers: dict[str, Layer], axes: str, rotated: bool, most: int) -> tuple[Weights, str]:
    """The layers' values, weights as ``(3, 3, C_in, C_out)``, and the narrowest dtype that holds them exactly.

    Parameters
    ----------
    layers : dict from VGG's names to Layer
    axes : str
        As `find_axes` tells.
    rotated : bool
        Whether to turn the kernels by 180 degrees.
    most : int
        How many bytes they may take: a small compressed file can claim as much as it likes.
    """
    tensors = [tensor for layer in layers.values() for tensor in (layer.weight, layer.bias) if tensor]
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise FormatError(f"{tensor.name[:80]}: floats expected, not {tensor.dtype[:80]}")
    if sum(tensor.nbytes for tensor in tensors) > most:
        raise FormatError(UNBELIEVABLE)
    weights = {}
    for name, layer in layers.items():
        weight = _load(layer.weight).transpose([axes.index(axis) for axis in "HWIO"])
        weight = np.ascontiguousarray(weight[::-1, ::-1] if rotated else weight)
        bias = _load(layer.bias).reshape(-1) if layer.bias else np.zeros(weight.shape[3], weight.dtype)
        weights[name] = weight, bias
    kinds = {tensor.dtype for tensor in tensors}
    return weights, "float64" if "float64" in kinds else "float16" if kinds == {"float16"} else "float32"


def _load(tensor: Tensor) -> np.ndarray:
    """Its values in our byte order, in float32, or in float64 if that is what they are."""
    values = tensor.load()
    return values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32, copy=False)


def vgg_of(
    contents: Contents, size: int, axes: str | None = None, rotated: bool | None = None
) -> tuple[str, Weights, str, list[str]]:
    """(architecture, weights, dtype, notes) of what a file of `size` bytes holds.

    Raises
    ------
    FormatError
        If that is no VGG.
    """
    architecture, layers, notes = find_convolutions(contents.layers)
    axes, more = find_axes(layers, [axes] if axes else contents.axes)
    turned = contents.rotated if rotated is None else rotated
    if turned:
        more = [*more, "kernels turned by 180 degrees, as Theano's need"]
    weights, dtype = load_weights(layers, axes, turned, 2 * size + (1 << 16))
    try:
        check_weights(weights, architecture)
    except ValueError as error:
        raise FormatError(str(error)) from error
    return architecture, weights, dtype, notes + more
