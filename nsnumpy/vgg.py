"""VGG-19 and VGG-16 (Simonyan and Zisserman 2014) without their fully connected layers: one table, two loops.

A layer goes by its name in the paper. ``conv4_2`` means the features *after* that convolution's ReLU, the paper's
``F >= 0``; ``relu4_2`` is accepted as the same thing; ``pool4`` is the pooled output of block 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .backend import Array, asarray, get_xp
from .ops import (
    avgpool_backward,
    avgpool_forward,
    conv_backward,
    conv_forward,
    maxpool_backward,
    maxpool_forward,
    relu_backward,
    relu_forward,
)

ARCHITECTURES: dict[str, tuple[tuple[int, int], ...]] = {
    "vgg19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
}
"""Per block: filters at full width, convolutions."""

POOLINGS = ("avg", "max")
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


@dataclass
class Trace:
    """What `VGG.forward` keeps for `VGG.backward`: per layer that it ran, what that layer's backward needs."""

    steps: list[tuple[str, Any]] = field(default_factory=list)


class VGG:
    """A VGG network of any width; the weights decide.

    Parameters
    ----------
    weights : mapping from "conv1_1", ... to (weight, bias)
        weight ``(3, 3, C_in, C_out)``, bias ``(C_out,)``, NumPy arrays. The layers must begin at conv1_1 and leave no
        gap; they may end early (a network up to conv5_1, say), and then no deeper layer can be asked for.
    architecture : "vgg19" or "vgg16"
    preprocessing : Preprocessing
        What to do with a picture, RGB in [0, 1], before conv1_1.
    pooling : "avg" or "max"
        The paper replaces VGG's maximum by the mean.
    xp : module
        `numpy` or `cupy`: where the network lives.
    dtype : "float32" or "float64"
    source : str
        Where the weights came from, for a run's record.

    Raises
    ------
    ValueError
        If a layer is missing or unknown, a shape does not fit, a weight is not finite, or a name is unknown.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[Array, Array]],
        *,
        xp: ModuleType,
        architecture: str = "vgg19",
        preprocessing: Preprocessing | None = None,
        pooling: str = "avg",
        dtype: str = "float32",
        source: str = "",
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {pooling!r}: choose from {', '.join(POOLINGS)}")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"unknown dtype {dtype!r}: choose from float32, float64")
        check_weights(weights, architecture)
        self.architecture = architecture
        self.preprocessing = preprocessing or Preprocessing()
        self.pooling = pooling
        self.source = source
        self.xp = xp
        self.dtype = xp.dtype(dtype)
        self.weights = {
            name: (asarray(weight, xp, self.dtype), asarray(bias, xp, self.dtype))
            for name, (weight, bias) in weights.items()
        }
        self._gain, self._offset = (xp.asarray(v, self.dtype) for v in self.preprocessing.affine())
        self._channels = slice(None, None, -1 if self.preprocessing.channel_order == "BGR" else 1)

    def resolve(self, layers: Iterable[str]) -> list[str]:
        """The canonical names of `layers`; ValueError if this network does not have one of them."""
        names = layer_names(self.architecture)
        resolved = [canonical_layer(name) for name in layers]
        for name in resolved:
            if name not in names:
                raise ValueError(
                    f"unknown layer {name!r}: {self.architecture} has {names[0]} ... {names[-2]}, {names[-1]}"
                )
            if any(layer not in self.weights for layer in _convolutions(names[: names.index(name) + 1])):
                raise ValueError(f"{name}: this network ends at {list(self.weights)[-1]}; choose a layer up to there")
        return resolved

    def minimum_size(self, layers: Iterable[str]) -> int:
        """The least height and width, in pixels, with which every one of `layers` has at least one position."""
        names = layer_names(self.architecture)
        above = names[: names.index(self.deepest(layers)) + 1]
        return 2 ** sum(name.startswith("pool") for name in above)

    def deepest(self, layers: Iterable[str]) -> str:
        """The canonical name of the deepest of `layers`, of which there must be one at least."""
        resolved = self.resolve(layers)
        if not resolved:
            raise ValueError("at least one layer expected, none given")
        return max(resolved, key=layer_names(self.architecture).index)

    def forward(self, x: Array, layers: Iterable[str]) -> tuple[dict[str, Array], Trace]:
        """The features of `layers`, as far as the deepest of them, and what the backward needs.

        Parameters
        ----------
        x : array ``(..., H, W, 3)``, RGB in [0, 1], of the network's dtype and namespace
        layers : names

        Returns
        -------
        features : dict from each name, as it was given, to its features ``(..., H_l, W_l, N_l)``
        trace : Trace
            For `backward`.

        Raises
        ------
        ValueError
            If a layer is unknown or the picture too small for it.
        """
        layers = list(layers)
        asked = dict(zip(layers, self.resolve(layers), strict=True))
        least = self.minimum_size(layers)
        if x.ndim < 3 or x.shape[-1] != 3 or min(x.shape[-3:-1]) < least:
            raise ValueError(
                f"{self.deepest(layers)}: a picture (H, W, 3) with H, W >= {least} expected; x.shape={x.shape}"
            )
        features: dict[str, Array] = {}
        trace = Trace()
        x = x[..., self._channels] * self._gain + self._offset
        for name in layer_names(self.architecture):
            if features.keys() >= set(asked.values()):
                break
            if name in self.weights:
                x, kept = relu_forward(conv_forward(x, *self.weights[name]))
            elif self.pooling == "avg":
                x, kept = avgpool_forward(x), x.shape
            else:
                shape = x.shape
                x, winner = maxpool_forward(x)
                kept = (winner, shape)
            trace.steps.append((name, kept))
            if name in asked.values():
                features[name] = x
        return {name: features[resolved] for name, resolved in asked.items()}, trace

    def backward(self, trace: Trace, gradients: Mapping[str, Array]) -> Array:
        """dL/dx from dL/dF of some layers: the table walked once in reverse, each layer's gradient added as it passes.

        Parameters
        ----------
        trace : Trace
            From the `forward` at the same x.
        gradients : mapping from layer names to arrays
            ``dL/dF`` of L's explicit dependence on that layer's features, each of the features' shape.

        Returns
        -------
        gx : array ``(..., H, W, 3)``
        """
        pending: dict[str, Array] = {}
        for name, gradient in gradients.items():
            name = canonical_layer(name)
            pending[name] = pending[name] + gradient if name in pending else gradient
        missing = pending.keys() - {name for name, _ in trace.steps}
        if missing or not pending:
            raise ValueError(
                f"gradients of layers that the forward pass ran expected; got {', '.join(gradients) or 'none'}"
            )
        gy: Array | None = None
        for name, kept in reversed(trace.steps):
            if name in pending:
                gy = pending[name] if gy is None else gy + pending[name]
            if gy is None:
                continue
            if name in self.weights:
                gy = conv_backward(relu_backward(gy, kept), self.weights[name][0])
            elif self.pooling == "avg":
                gy = avgpool_backward(gy, kept)
            else:
                gy = maxpool_backward(gy, *kept)
        return (gy * self._gain)[..., self._channels]  # the adjoint of the preprocessing's linear part


def check_shapes(weights: Mapping[str, tuple[Any, Any]], architecture: str) -> None:
    """ValueError, naming the layer, unless `weights` begin at conv1_1, leave no gap, and fit onto one another.

    Only shapes are looked at: anything that has one will do.
    """
    names = _convolutions(layer_names(architecture))
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


def _convolutions(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("conv")]
