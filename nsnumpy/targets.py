"""What a loss compares features with: made once from pictures, and shared by whatever has the same pictures.

A content target holds a picture's features; a style target, for each of its pictures, what a style's statistics say of
them per position, so that an image of any size can be compared with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .backend import Array, asarray, to_host
from .conventions import mean_square
from .losses import STYLE_STATISTICS, Gram, LayerTerm, Sums
from .ops.fast.first import Affine
from .positions import Region, area_mean, check_mask, pooled
from .vgg import VGG
from .workers import Scratch, Workers


@dataclass(frozen=True)
class ContentTarget:
    """The features P ``(H, W, N)`` of a content picture, by layers, and its shape ``(H, W, 3)``."""

    features: dict[str, Array] = field(repr=False)
    shape: tuple[int, int, int]

    def extent(self, name: str) -> tuple[int, float]:
        """How many numbers a layer's features are, and the mean of their squares."""
        P = self.features[name]
        return P.size, mean_square(P)


@dataclass(frozen=True)
class StyleTarget:
    """What is known of the style.

    Attributes
    ----------
    statistics : str
        The name in `losses.STYLE_STATISTICS`.
    pictures : tuple of (dict, float)
        For each picture, by layers, what the term's `describe` makes of its sums: with "gram" the Gram matrix per
        position; nothing, ``()``, where the part that is meant has no position; and the picture's weight.
    regions : tuple of (Region or None)
        For each picture, where the image is to have its style; None for everywhere.
    """

    statistics: str
    pictures: tuple[tuple[dict[str, Sums], float], ...] = field(repr=False)
    regions: tuple[Region | None, ...]

    def by_region(self) -> dict[Region | None, list[tuple[dict[str, Sums], float]]]:
        """The pictures of each region, in the order in which they were given."""
        groups: dict[Region | None, list[tuple[dict[str, Sums], float]]] = {}
        for picture, region in zip(self.pictures, self.regions, strict=True):
            groups.setdefault(region, []).append(picture)
        return groups


def content_target(vgg: VGG, picture: Array, layers: Iterable[str]) -> ContentTarget:
    """Of a picture ``(H, W, 3)``, RGB in [0, 1]; ValueError if it is too small, or a layer is unknown."""
    features: dict[str, Array] = {}
    with _named("content"):
        vgg.forward(asarray(picture, vgg.xp, vgg.dtype), layers, features.__setitem__, keep=False)
    return ContentTarget(features, picture.shape)


def picture_sums(
    vgg: VGG, picture: Array, layers: Iterable[str], kind: type[Gram], mask: Array | None = None
) -> dict[str, Sums]:
    """What a style's statistics are of a picture ``(H, W, 3)``, or of the part of it that a mask ``(H, W)`` says."""
    sums: dict[str, Sums] = {}

    def visit(name: str, A: Array) -> None:
        w = None if mask is None else asarray(pooled(mask[..., None], A.shape[:2]), vgg.xp, vgg.dtype)
        (sums[name],) = measure([kind(w=w)], A, vgg.workers)

    vgg.forward(asarray(picture, vgg.xp, vgg.dtype), layers, visit, keep=False)
    return sums


def style_target(
    vgg: VGG,
    pictures: Array | Sequence[Sequence[Any]],
    layers: Iterable[str],
    statistics: str = "gram",
    sums_of: Callable[..., dict[str, Sums]] = picture_sums,
) -> StyleTarget:
    """Of one picture ``(H_a, W_a, 3)``, RGB in [0, 1], or of several.

    Parameters
    ----------
    vgg : VGG
    pictures : array, or sequence of (picture, weight), (picture, weight, region) or (picture, weight, region, own)
        region says where the image is to have this style: a `Region`, a mask ``(H, W)`` in [0, 1] of any size, which is
        stretched over the image, or None for everywhere. Pictures with the same mask share a region. `own` is a mask
        over the style picture: which part of it is the style.
    layers : names
    statistics : a name in `losses.STYLE_STATISTICS`
    sums_of : function
        `picture_sums`, or what makes the same otherwise.

    Raises
    ------
    ValueError
        If the statistics are unknown, a picture is too small, a layer is unknown, a weight is negative, or a mask is
        none.
    """
    if statistics not in STYLE_STATISTICS:
        raise ValueError(f"unknown style statistics {statistics!r}: choose from {', '.join(STYLE_STATISTICS)}")
    given = [(pictures, 1.0)] if hasattr(pictures, "shape") else list(pictures)
    if not given or not all(weight >= 0 for _, weight, *_ in given):
        weights = [weight for _, weight, *_ in given]
        raise ValueError(f"style pictures with weights of 0 or more expected; weights {weights} given")
    kind, layers = STYLE_STATISTICS[statistics], list(layers)
    made: list[tuple[dict[str, Sums], float]] = []
    regions: list[Region | None] = []
    for picture, weight, region, own in ((*of_picture, None, None)[:4] for of_picture in given):
        mask = None if own is None else area_mean(check_mask(own), picture.shape[:2])
        with _named("style"):
            sums = sums_of(vgg, picture, layers, kind, mask)
        made.append(({name: kind().describe(of_layer) for name, of_layer in sums.items()}, float(weight)))
        regions.append(_region(region, regions))
    return StyleTarget(statistics, tuple(made), tuple(regions))


def _region(given: Region | Array | None, known: Sequence[Region | None]) -> Region | None:
    """The region that is meant, one of those that are known if it has the same mask; ValueError if it is none."""
    if given is None:
        return None
    regions = [region for region in dict.fromkeys(known) if region is not None]
    if any(given is region for region in regions):
        return given
    region = given if isinstance(given, Region) else Region(str(len(regions) + 1), given)
    mask = check_mask(region.mask)
    if region is not given and (same := [other for other in regions if np.array_equal(to_host(other.mask), mask)]):
        return same[0]
    if region.name in (other.name for other in regions):
        raise ValueError(f"two regions called {region.name}: give each a name of its own")
    return region


def measure(terms: Sequence[LayerTerm], F: Array, workers: Workers) -> list[Sums]:
    """Each term's statistics of F ``(H, W, N)``, summed over blocks of positions."""
    F = F.reshape(-1, F.shape[-1])

    def partial(block: tuple[int, int], _: Scratch) -> list[Sums]:
        at = slice(*block)
        return [term.statistics(F[at], at) for term in terms]

    parts = workers.map(partial, workers.blocks(len(F), F.shape[1] * F.dtype.itemsize))
    return [tuple(map(sum, zip(*of_term, strict=True))) for of_term in zip(*parts, strict=True)]


class SendingBack:
    """`LayerTerm.add_gradient` of several terms of a layer, as the network's backward calls it: a `vgg.AddGradient`.

    Parameters
    ----------
    terms : mapping from labels to (term, solution)

    Attributes
    ----------
    squares : dict from labels
        The squared norm of each term's gradient, once all of it was added.
    """

    def __init__(self, terms: Mapping[str, tuple[LayerTerm, Any]]) -> None:
        self._terms = terms
        self._of_blocks: dict[int, list[Any]] = {}

    def __call__(self, F: Array, at: slice, out: Array, scratch: Scratch) -> None:
        of_terms = [term.add_gradient(F, at, solution, out, scratch) for term, solution in self._terms.values()]
        self.keep(at.start, of_terms)

    def keep(self, start: int, squares: list[Any]) -> None:
        """The squared norms of what the terms have added from a position on."""
        self._of_blocks[start] = squares

    @property
    def squares(self) -> dict[str, Any]:
        in_order = [of_terms for _, of_terms in sorted(self._of_blocks.items())]  # whichever thread was first
        return dict(zip(self._terms, map(sum, zip(*in_order, strict=True)), strict=False))

    @property
    def affine(self) -> list[Affine] | None:
        """The same on a GPU as K, b and w of each term, if all of them are of style: see `ops.fast.first`."""
        terms: list[Affine] = []
        for term, solution in self._terms.values():
            w = term.w.on_device if isinstance(term, Gram) and term.w is not None else None
            if not isinstance(term, Gram) or (w is None) != (term.w is None):
                return None
            terms.append((*solution, w))
        return terms


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """A ValueError says which picture it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name} picture: {error}") from error
