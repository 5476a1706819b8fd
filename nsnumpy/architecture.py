"""The table of layers, VGG-19 and VGG-16 (Simonyan and Zisserman 2014) without their fully connected layers.

A layer goes by its name in the paper. ``conv4_2`` means the features *after* that convolution's ReLU, the paper's
``F >= 0``; ``relu4_2`` is accepted as the same thing; ``pool4`` is the pooled output of block 4.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .backend import Array, get_xp, to_host

ARCHITECTURES: dict[str, tuple[tuple[int, int], ...]] = {
    "vgg19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
}
"""Per block: filters at full width, convolutions."""

FIRST = "conv1_1"
POOLINGS = ("avg", "max")
CONVOLUTIONS = ("winograd", "direct", "fastest")
MOST_FILTERS = 4096  # of a layer; eight times VGG's. A file that claims more is not believed


def layer_names(architecture: str) -> tuple[str, ...]:
    """The layers in order: conv1_1, conv1_2, pool1, ..., pool5.

    >>> layer_names("vgg16")[:5]
    ('conv1_1', 'conv1_2', 'pool1', 'conv2_1', 'conv2_2')
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose from {', '.join(ARCHITECTURES)}")
    names: list[str] = []
    for block, (_, convolutions) in enumerate(ARCHITECTURES[architecture], start=1):
        names += [f"conv{block}_{i}" for i in range(1, convolutions + 1)]
        names.append(f"pool{block}")
    return tuple(names)


_CHOICES = {
    "pooling": POOLINGS,
    "dtype": ("float32", "float64"),
    "convolution": CONVOLUTIONS,
}


def check_choices(**values: str) -> None:
    """ValueError if one of the options pooling, dtype and convolution has a value that it does not know."""
    for name, value in values.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"unknown {name} {value!r}: choose from {', '.join(_CHOICES[name])}")


def convolutions(names: Iterable[str]) -> list[str]:
    """Those of the layers that are convolutions."""
    return [name for name in names if name.startswith("conv")]


@dataclass(frozen=True)
class Step:
    """One step of the forward pass.

    Attributes
    ----------
    name : str
        The layer whose features it makes.
    conv : str
        The convolution that it runs, "" for a pooling alone.
    pool : bool
        Whether it pools.
    """

    name: str
    conv: str
    pool: bool


def resolve_layers(architecture: str, available: Collection[str], layers: Iterable[str]) -> list[str]:
    """The canonical names of `layers`; ValueError if a network with the `available` convolutions lacks one of them."""
    names = layer_names(architecture)
    resolved = [canonical_layer(name) for name in layers]
    for name in resolved:
        if name not in names:
            raise ValueError(f"unknown layer {name!r}: {architecture} has {names[0]} ... {names[-2]}, {names[-1]}")
        if any(conv not in available for conv in convolutions(names[: names.index(name) + 1])):
            raise ValueError(f"{name}: this network ends at {list(available)[-1]}; choose a layer up to there")
    return resolved


def deepest_layer(architecture: str, layers: Iterable[str]) -> str:
    """The deepest of `layers`, canonical names, of which there must be one at least."""
    layers = list(layers)
    if not layers:
        raise ValueError("at least one layer expected, none given")
    return max(layers, key=layer_names(architecture).index)


def minimum_size(architecture: str, layers: Iterable[str]) -> int:
    """The least height and width, in pixels, with which every one of `layers` has at least one position."""
    names = layer_names(architecture)
    above = names[: names.index(deepest_layer(architecture, layers)) + 1]
    return 2 ** sum(name.startswith("pool") for name in above)


def receptive_field(architecture: str, layer: str) -> int:
    """The side of the square of the picture that one position of a layer sees, in pixels.

    A 3x3 convolution sees one position of its input further on either side, 2x2 pooling one further on one side; a
    position of the input is as many pixels from the next one as the poolings before it make.

    Parameters
    ----------
    architecture : "vgg19" or "vgg16"
    layer : str

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> receptive_field("vgg19", "conv5_1"), receptive_field("vgg16", "conv5_1")
    (156, 132)
    """
    names = layer_names(architecture)
    (name,) = resolve_layers(architecture, convolutions(names), [layer])
    side = stride = 1
    for each in names[: names.index(name) + 1]:
        if each.startswith("pool"):
            side, stride = side + stride, 2 * stride
        else:
            side += 2 * stride
    return side


def layer_shape(architecture: str, filters: Mapping[str, int], name: str, size: Sequence[int]) -> tuple[int, int, int]:
    """The shape (H, W, N) of a layer's features, of a picture of (H, W) pixels.

    >>> layer_shape("vgg19", {"conv1_1": 64, "conv1_2": 64}, "pool1", (33, 40))
    (16, 20, 64)
    """
    names = layer_names(architecture)
    conv = convolutions(names[: names.index(name) + 1])[-1]
    halvings = minimum_size(architecture, [name])
    return size[0] // halvings, size[1] // halvings, filters[conv]


def check_size(architecture: str, layers: Sequence[str], shape: Sequence[int]) -> None:
    """ValueError if a picture of this shape, ``(..., H, W, 3)``, is none, or is too small for the deepest layer."""
    least = minimum_size(architecture, layers)
    if len(shape) < 3 or shape[-1] != 3 or min(shape[-3:-1]) < least:
        raise ValueError(
            f"{deepest_layer(architecture, layers)}: a picture (H, W, 3) with H, W >= {least} expected; "
            f"x.shape={tuple(shape)}: take a larger one"
        )


def network_steps(architecture: str, layers: Sequence[str], pooling: str, *, fuse: bool = True) -> list[Step]:
    """The steps of a forward pass that makes the features of `layers`, as far as the deepest of them.

    Where `fuse` allows, an average pooling is one step with the convolution before it, if nobody asked for what lies
    between the two.

    >>> [step.name for step in network_steps("vgg19", ["conv2_2"], "avg")]
    ['conv1_1', 'pool1', 'conv2_1', 'conv2_2']
    """
    names = layer_names(architecture)
    steps: list[Step] = []
    for name in names[: max(map(names.index, layers)) + 1]:
        if name.startswith("conv"):
            steps.append(Step(name, name, False))
        elif fuse and pooling == "avg" and (before := steps[-1].conv) not in layers:
            steps[-1] = Step(name, before, True)
        else:
            steps.append(Step(name, "", True))
    return steps


@dataclass(frozen=True)
class Network:
    """A network without its weights: ``filters`` maps each convolution to its number of filters."""

    architecture: str
    filters: dict[str, int]
    pooling: str = "avg"
    itemsize: int = 4

    def steps(self, layers: Iterable[str]) -> list[Step]:
        """As `VGG.steps`."""
        return network_steps(self.architecture, self.resolve(layers), self.pooling)

    def resolve(self, layers: Iterable[str]) -> list[str]:
        """As `VGG.resolve`."""
        return resolve_layers(self.architecture, self.filters, layers)


def canonical_layer(name: str) -> str:
    """``relu4_2`` as ``conv4_2``; every other name as it is."""
    return re.sub(r"^relu(?=\d+_\d+$)", "conv", name)


@dataclass(frozen=True)
class Preprocessing:
    """What the network does to a picture first: ``z = (pixel_scale * x[channels] - mean) / std``.

    Parameters
    ----------
    channel_order : "RGB" or "BGR"
        The order that the first convolution expects.
    pixel_scale : float
        1 if the network was trained on pixels in [0, 1], 255 if on pixels in [0, 255].
    mean, std : three floats each
        Per channel, in the network's channel order and in its units (after `pixel_scale`).
    """

    channel_order: str = "RGB"
    pixel_scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"channel_order is 'RGB' or 'BGR', not {self.channel_order!r}")
        if not all(0 < value < math.inf for value in (self.pixel_scale, *self.std)):
            raise ValueError(f"pixel_scale and std are positive; got pixel_scale={self.pixel_scale}, std={self.std}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean is three finite numbers; got mean={self.mean}")

    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(gain, offset) of the same map written as ``z = gain * x[channels] + offset``."""
        gain = tuple(self.pixel_scale / s for s in self.std)
        offset = tuple(-m / s for m, s in zip(self.mean, self.std, strict=True))
        return gain, offset


def check_shapes(weights: Mapping[str, tuple[Any, Any]], architecture: str) -> None:
    """ValueError, naming the layer, unless `weights` begin at conv1_1, leave no gap, and fit onto one another.

    Only shapes are looked at: anything that has one will do.
    """
    names = convolutions(layer_names(architecture))
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise ValueError(f"{unknown[0]}: not a convolution of {architecture}")
    channels = 3
    for name in names[: max(1, len(weights))]:
        if name not in weights:
            raise ValueError(f"{name}: missing from the weights")
        weight, bias = (array.shape for array in weights[name])
        if len(weight) != 4 or weight[:2] != (3, 3):
            raise ValueError(f"{name}: a weight of shape (3, 3, C_in, C_out) expected, {weight} given")
        if weight[2] != channels:
            raise ValueError(f"{name}: {channels} channels expected, {weight[2]} given; weight.shape={weight}")
        channels = weight[3]
        if bias != (channels,):
            raise ValueError(f"{name}: a bias of shape {(channels,)} expected, {bias} given")
        if not 1 <= channels <= MOST_FILTERS:
            raise ValueError(f"{name}: 1 to {MOST_FILTERS} filters expected, {channels} given")


def check_weights(weights: Mapping[str, tuple[Array, Array]], architecture: str) -> None:
    """As `check_shapes`, and every value must be finite."""
    check_shapes(weights, architecture)
    for name, (weight, bias) in weights.items():
        xp = get_xp(weight, bias)
        if not (xp.isfinite(weight).all() and xp.isfinite(bias).all()):
            raise ValueError(f"{name}: the weights hold values that are not finite")


def network_digest(weights: Mapping[str, tuple[Array, Array]], preprocessing: Preprocessing) -> str:
    """A SHA-256 by which to know a network again: of its weights, in float32, and of its preprocessing."""
    affine = [float(value) for values in preprocessing.affine() for value in values]
    digest = hashlib.sha256(f"{preprocessing.channel_order} {affine}".encode())
    for name, arrays in weights.items():
        digest.update(name.encode())
        for array in arrays:
            values = to_host(array).astype("<f4", order="C", copy=False)
            digest.update(repr(values.shape).encode())
            digest.update(values.data)
    return digest.hexdigest()
