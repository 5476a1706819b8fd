"""Weights from one convention to another: what each makes of the paper's losses, and the weights that go with it.

A term of the loss is ``weight * factor * (the paper's loss)``, where the factor is the convention's constant times
w_l. So a weight carries over as ``weight_to = weight_from * factor_from / factor_to``, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..architecture import Network, check_size, layer_shape
from ..backend import Array
from ..conventions import convention_of, mean_square
from ..objective import CONTENT_LAYERS, STYLE_LAYERS, Layers, layer_weights, term_name
from ..targets import content_target, style_target
from ..vgg import VGG


def convention_factors(
    conventions: Iterable[str],
    network: VGG | Network,
    size: tuple[int, int],
    *,
    content_layers: Layers = CONTENT_LAYERS,
    style_layers: Layers = STYLE_LAYERS,
    style_statistics: str = "gram",
    content: Array | None = None,
    style: Array | None = None,
) -> dict[str, dict[str, float]]:
    """What each convention multiplies the paper's loss of each layer with, its weight w_l included.

    Parameters
    ----------
    conventions : names, of `CONVENTIONS`
    network : VGG, or the `Network` that `read_network` gives
        The latter where no convention depends on the pictures.
    size : (H, W), in pixels
        Of the image that is optimised.
    content_layers, style_layers, style_statistics : as for `Objective`
    content, style : arrays as for `Objective`, or None
        The pictures, which "relative" depends on; content is of that size.

    Returns
    -------
    dict from convention to dict from "content/conv4_2", "style/conv1_1", ..., "tv" to float

    Raises
    ------
    ValueError
        If a convention or a layer is unknown, the picture is too small, or "relative" is asked for without pictures.
    """
    conventions, content_layers, style_layers = list(conventions), _again(content_layers), _again(style_layers)
    names = {
        "content": network.resolve(layer_weights(content_layers)),
        "style": network.resolve(layer_weights(style_layers)),
    }
    shape = (*size, 3)
    check_size(network.architecture, names["content"] + names["style"], shape)
    shapes = {n: layer_shape(network.architecture, network.filters, n, size) for n in names["content"] + names["style"]}
    P: dict[str, Array] = {n: _of_shape(*shapes[n]) for n in names["content"]}
    A: dict[str, Array] = {n: _of_shape(shapes[n][2], shapes[n][2]) for n in names["style"]}
    if depends := [name for name in conventions if convention_of(name).of_pictures]:
        if content is None or style is None:
            raise ValueError(
                f"the constants of {depends[0]} depend on the pictures: give a content and a style picture"
            )
        if not isinstance(network, VGG):
            raise ValueError(f"the constants of {depends[0]} depend on the network's weights: give a VGG")
        if content.shape != shape:
            raise ValueError(f"a content picture of shape {shape} expected; content.shape={content.shape}")
        P = content_target(network, content, names["content"]).features
        ((known, _),) = style_target(network, style, names["style"], style_statistics).pictures
        A = {n: target[0] for n, target in known.items()}
    factors = {}
    for name in conventions:
        convention = convention_of(name)
        w = {kind: layer_weights(given, name) for kind, given in (("content", content_layers), ("style", style_layers))}
        factors[name] = {
            term_name("content", n): w["content"][n] * convention.content(P[n].size, mean_square(P[n])) for n in P
        }
        for n in A:
            M = shapes[n][0] * shapes[n][1]
            weight = w["style"][n] * convention.style(A[n]) * convention.style_at(M, shape)
            factors[name][term_name("style", n)] = weight
        factors[name]["tv"] = convention.tv(shape)
    return factors


def carry_weights(
    source: str,
    target: str,
    network: VGG | Network,
    size: tuple[int, int],
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    tv: float = 0.0,
    content_layers: Layers = CONTENT_LAYERS,
    style_layers: Layers = STYLE_LAYERS,
    style_statistics: str = "gram",
    content: Array | None = None,
    style: Array | None = None,
) -> dict[str, Any]:
    """The weights that give with the convention `target` the loss that these give with `source`.

    Parameters
    ----------
    source, target : str
        Names of conventions.
    alpha, beta, tv, content_layers, style_layers : as for `Objective`
        The weights with `source`.
    network, size, style_statistics, content, style : as for `convention_factors`

    Returns
    -------
    dict
        convention (that is, `target`), alpha, beta, tv, content_layers and style_layers, as `Objective` and `transfer`
        take them. The weights of the layers of each loss add up to 1.

    Raises
    ------
    ValueError
        As `convention_factors`.
    """
    known_by: dict[str, Any] = {"style_statistics": style_statistics, "content": content, "style": style}
    layers: dict[str, Any] = {"content_layers": _again(content_layers), "style_layers": _again(style_layers)}
    known = convention_factors([source], network, size, **layers, **known_by)[source]
    whole: dict[str, Any] = {name: dict.fromkeys(layer_weights(given), 1.0) for name, given in layers.items()}
    wanted = convention_factors([target], network, size, **whole, **known_by)[target]
    carried: dict[str, Any] = {"convention": target}
    for weight_name, weight, kind in (("alpha", alpha, "content"), ("beta", beta, "style")):
        names = {n: term_name(kind, n) for n in whole[f"{kind}_layers"]}
        weights = {n: weight * known[term] / wanted[term] for n, term in names.items()}
        total = sum(weights.values())
        carried[weight_name] = total
        carried[f"{kind}_layers"] = {n: w / (total or 1.0) for n, w in weights.items()}
    carried["tv"] = tv * known["tv"] / wanted["tv"]
    return carried


def _again(layers: Layers) -> Layers:
    """The same, to be read more than once."""
    return layers if isinstance(layers, Mapping | str) else list(layers)


def _of_shape(*shape: int) -> np.ndarray:
    """An array that takes no memory, for a constant that depends on the shape alone."""
    return np.broadcast_to(np.float32(0), shape)
