"""What one tile does for the objective: functions of arrays and a network, which may run anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..architecture import minimum_size
from ..backend import Array, asarray, to_floats
from ..losses import STYLE_STATISTICS, Content, LayerTerm, Sums, sum_of_squares
from ..ops import Border
from ..positions import pooled
from ..targets import SendingBack, measure
from ..vgg import VGG
from .grid import Tile


@dataclass(frozen=True)
class Asked:
    """What is asked of every tile.

    Attributes
    ----------
    content : dict from layers to labels
        What each term of the loss is called.
    style : dict from layers to lists of (label, number)
        With the number of the region whose weights the term has; None for everywhere.
    statistics : a name in `losses.STYLE_STATISTICS`
    border : (rows, columns)
        The network's.
    """

    content: Mapping[str, str]
    style: Mapping[str, Sequence[tuple[str, int | None]]]
    statistics: str
    border: Border


def measure_tile(vgg: VGG, asked: Asked, tile: Tile, x: Array, masks: Array | None) -> dict[str, Sums]:
    """The sums of the style's terms over the positions that a tile owns, by label; none of a term that has none there.

    Parameters
    ----------
    vgg : VGG
    asked : Asked
    tile : Tile
    x : array ``(h, w, 3)``
        What it sees of the picture.
    masks : array ``(h, w, R)``, or None
        What it sees of how much each pixel is of each of R regions.
    """
    sums: dict[str, Sums] = {}

    def visit(name: str, F: Array) -> None:
        terms = _style_terms(vgg, asked, tile, name, F.shape, masks)
        sums.update(zip(terms, measure(list(terms.values()), F, vgg.workers), strict=True))

    network = vgg.with_border(asked.border)
    network.forward(asarray(x, vgg.xp, vgg.dtype), asked.style, visit, keep=False)
    return sums


def tile_gradient(
    vgg: VGG,
    asked: Asked,
    tile: Tile,
    x: Array,
    masks: Array | None,
    content: Array | Mapping[str, Array] | None,
    solutions: Mapping[str, Any],
) -> tuple[Array, dict[str, Sums], dict[str, Any]]:
    """The gradient of the terms at the positions that a tile owns with respect to all that it sees, ``(h, w, 3)``; the
    sums of the content's terms, whose gradient waits for no sum; and by label the sums of squares of what each term's
    ``dL/dF`` is at those positions.

    Parameters
    ----------
    vgg, asked, tile, x, masks : as for `measure_tile`
    content : array ``(h, w, 3)``, or mapping from layers to features, or None
        What it sees of the content picture, or what `content_features` has made of that.
    solutions : mapping from labels
        What each term's gradient needs: see `losses`.
    """
    network = vgg.with_border(asked.border)
    P = content if content is None or isinstance(content, Mapping) else content_features(vgg, asked, content)
    sources: dict[str, SendingBack] = {}
    sums: dict[str, Sums] = {}

    def visit(name: str, F: Array) -> None:
        terms: dict[str, LayerTerm] = {}
        if name in asked.style:
            terms |= _style_terms(vgg, asked, tile, name, F.shape, masks)
        if P is not None and name in asked.content:
            w = asarray(owned(vgg, tile, name, F.shape), vgg.xp, vgg.dtype)
            terms[label := asked.content[name]] = Content(P[name], w=w)
            (sums[label],) = measure([terms[label]], F, vgg.workers)

        sources[name] = SendingBack({label: (term, solutions[label]) for label, term in terms.items()})

    _, trace = network.forward(asarray(x, vgg.xp, vgg.dtype), {**asked.content, **asked.style}, visit)
    gx = network.backward(trace, sources, keep=False)
    return gx, sums, {label: square for source in sources.values() for label, square in source.squares.items()}


def content_features(vgg: VGG, asked: Asked, picture: Array) -> dict[str, Array]:
    """Of what a tile sees of the content picture ``(h, w, 3)``, by layers."""
    network = vgg.with_border(asked.border)
    return network.forward(asarray(picture, vgg.xp, vgg.dtype), asked.content, keep=False)[0]


def content_squares(vgg: VGG, asked: Asked, tile: Tile, content: Array | Mapping[str, Array]) -> dict[str, float]:
    """The sums of squares of the content's features that a tile owns, by layers; `content` as for `tile_gradient`."""
    P = content if isinstance(content, Mapping) else content_features(vgg, asked, content)
    return {name: to_floats(sum_of_squares(P[name][tile.owned(stride_of(vgg, name))]))[0] for name in asked.content}


def owned(vgg: VGG, tile: Tile, name: str, shape: Sequence[int]) -> np.ndarray:
    """1 at the positions of a layer that the tile owns, else 0, ``(h, w)``; shape is that of the features it sees."""
    there = np.zeros(shape[:2])
    there[tile.owned(stride_of(vgg, name))] = 1
    return there


def stride_of(vgg: VGG, name: str) -> int:
    """How many pixels a layer's positions are apart."""
    return minimum_size(vgg.architecture, [name])


def _style_terms(
    vgg: VGG, asked: Asked, tile: Tile, name: str, shape: Sequence[int], masks: Array | None
) -> dict[str, LayerTerm]:
    """A layer's terms that have a position which the tile owns, each with its weights there."""
    kind, here = STYLE_STATISTICS[asked.statistics], owned(vgg, tile, name, shape)
    of_regions = None if masks is None else pooled(masks, (shape[0], shape[1]))
    terms: dict[str, LayerTerm] = {}
    for label, number in asked.style[name]:
        w = here if number is None or of_regions is None else here * of_regions[..., number]
        if w.any():
            terms[label] = kind(w=asarray(w, vgg.xp, vgg.dtype))
    return terms


def added(each: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The sums of all tiles, by label, added up in their order."""
    totals: dict[str, Sums] = {}
    for sums in each:
        for label, of_tile in sums.items():
            before = totals.get(label)
            totals[label] = of_tile if before is None else tuple(a + b for a, b in zip(before, of_tile, strict=True))
    return totals
