"""A run's scales: which long sides its pictures have at each, coarse to fine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from ..files.images import fit_size
from .settings import Settings

SHORT_SIDE = 16  # least one of a style picture, unless its size is given: conv5_1 has one position there
Scale = dict[str, int | None]
"""Long sides: "result", and of each style picture by its name; None is a picture's own size."""


def scales_of(s: Settings, shapes: Mapping[str, tuple[int, int]]) -> list[Scale]:
    """The scales of a run, coarse to fine.

    Parameters
    ----------
    s : Settings
    shapes : mapping from "content", "style", "style 2", ... to (H, W)
        Of the pictures as they were given; the result has the first one's proportions.

    Raises
    ------
    ValueError
        If the scales do not go with the size or the iterations.
    """
    result = s.shape(next(iter(shapes.values())), s.side)
    styles = {name: shape for name, shape in shapes.items() if name != "content"}
    last = {name: style_side(shape, s.side, s.style_size) for name, shape in styles.items()}
    coarse: list[Scale] = []
    for size in s.sizes(max(result), min(result))[:-1]:
        at = max(s.shape(next(iter(shapes.values())), size))  # of a tile a whole number of periods
        if at >= max(result) or any(at == scale["result"] for scale in coarse):
            raise ValueError(f"scales: at {size} pixels the tile would be as large as at another; leave that one out")
        scale: Scale = {"result": at}
        for name, shape in styles.items():
            scale[name] = _long_enough(shape, round(max(fit_size(shape, last[name])) * size / max(result)))
        coarse.append(scale)
    return [*coarse, {"result": s.side, **last}]


def style_side(shape: tuple[int, int], size: int | None, style_size: int | None) -> int | None:
    """The long side of a style picture at the last scale; None for its own."""
    return style_size or _long_enough(shape, size)


def _long_enough(shape: tuple[int, int], side: int | None) -> int | None:
    """The long side of a style picture: that one, or the least at which an elongated picture has its short side."""
    return side if min(fit_size(shape, side)) >= SHORT_SIDE else side_for(shape, SHORT_SIDE)


def side_for(shape: tuple[int, int], short_side: int) -> int:
    """The least long side at which a picture of `shape` has a short side of so many pixels."""
    sides = itertools.count((2 * short_side - 1) * max(shape) // (2 * min(shape)))  # where it rounds up to that
    return next(side for side in sides if min(fit_size(shape, side)) >= short_side)


def enough(name: str, s: Settings) -> float:
    """The pixels of a picture's long side with which the run does as well as with more; `math.inf` for all of them."""
    side = s.side if side_of(name) == "result" else s.style_size or s.side
    return math.inf if side is None else 2 * side  # Lanczos makes it smaller from there


def side_of(name: str) -> str:
    """What a scale calls the long side of a picture: the content is as large as the result."""
    return "result" if name == "content" else name
