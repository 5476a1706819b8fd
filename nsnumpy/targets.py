"""What a loss compares features with: made once from pictures, and shared by whatever has the same pictures.

A content target holds a picture's features; a style target, for each of its pictures, what a style's statistics say of
them per position, so that an image of any size can be compared with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .backend import Array, asarray
from .losses import STYLE_STATISTICS, LayerTerm, Sums
from .vgg import VGG, Visit
from .workers import Scratch, Workers


@dataclass(frozen=True)
class ContentTarget:
    """The features P ``(H, W, N)`` of a content picture, by layers, and its shape ``(H, W, 3)``."""

    features: dict[str, Array] = field(repr=False)
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class StyleTarget:
    """What is known of the style.

    Attributes
    ----------
    statistics : str
        The name in `losses.STYLE_STATISTICS`.
    pictures : tuple of (dict, float)
        For each picture, by layers, what the term's `describe` makes of its sums: with "gram" the Gram matrix per
        position; and the picture's weight.
    """

    statistics: str
    pictures: tuple[tuple[dict[str, Sums], float], ...] = field(repr=False)


def content_target(vgg: VGG, picture: Array, layers: Iterable[str]) -> ContentTarget:
    """Of a picture ``(H, W, 3)``, RGB in [0, 1]; ValueError if it is too small, or a layer is unknown."""
    features: dict[str, Array] = {}
    _see(vgg, "content", picture, layers, features.__setitem__)
    return ContentTarget(features, picture.shape)


def style_target(
    vgg: VGG, pictures: Array | Sequence[tuple[Array, float]], layers: Iterable[str], statistics: str = "gram"
) -> StyleTarget:
    """Of one picture ``(H_a, W_a, 3)``, RGB in [0, 1], or of several with their weights.

    Raises
    ------
    ValueError
        If the statistics are unknown, a picture is too small, a layer is unknown, or a weight is negative.
    """
    if statistics not in STYLE_STATISTICS:
        raise ValueError(f"unknown style statistics {statistics!r}: choose from {', '.join(STYLE_STATISTICS)}")
    pairs = [(pictures, 1.0)] if hasattr(pictures, "shape") else list(pictures)
    if not pairs or not all(weight >= 0 for _, weight in pairs):
        raise ValueError(f"style pictures with weights of 0 or more expected; weights {[w for _, w in pairs]} given")
    term, layers = STYLE_STATISTICS[statistics](), list(layers)
    made: list[tuple[dict[str, Sums], float]] = []
    for picture, weight in pairs:
        described: dict[str, Sums] = {}

        def visit(name: str, A: Array, described: dict[str, Sums] = described) -> None:
            (sums,) = measure([term], A, vgg.workers)
            described[name] = term.describe(sums)

        _see(vgg, "style", picture, layers, visit)
        made.append((described, float(weight)))
    return StyleTarget(statistics, tuple(made))


def measure(terms: Sequence[LayerTerm], F: Array, workers: Workers) -> list[Sums]:
    """Each term's statistics of F ``(H, W, N)``, summed over blocks of positions."""
    F = F.reshape(-1, F.shape[-1])

    def partial(block: tuple[int, int], _: Scratch) -> list[Sums]:
        at = slice(*block)
        return [term.statistics(F[at], at) for term in terms]

    parts = workers.map(partial, workers.blocks(len(F), F.shape[1] * F.dtype.itemsize))
    return [tuple(map(sum, zip(*of_term, strict=True))) for of_term in zip(*parts, strict=True)]


def _see(vgg: VGG, name: str, picture: Array, layers: Iterable[str], visit: Visit) -> None:
    try:
        vgg.forward(asarray(picture, vgg.xp, vgg.dtype), layers, visit, keep=False)
    except ValueError as error:
        raise ValueError(f"{name} picture: {error}") from error
