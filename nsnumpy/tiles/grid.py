"""A picture cut into tiles: what each of them owns, and what it sees beyond that.

A tile owns a rectangle of the picture, and with it the positions of every layer that are pooled from there: each
position of a layer has one owner. To make them as the whole picture would, it sees a halo around its rectangle, as wide
as the field of the deepest layer's positions. What it makes in the halo is wrong, for a tile's edge is not the
picture's border, and is not used. Where a tile meets the picture's border, that is the border of its features, too.

Tiles begin at multiples of the deepest layer's stride, so that all pooling windows are those of the whole picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..architecture import deepest_layer, minimum_size, receptive_field
from ..backend import Array, get_xp
from ..ops import Border

MANY = 4096  # tiles along an axis, of which no list is made only to know how large a run would be
UNIT = 16  # pixels: the least that tiles begin at multiples of; what is cut at these is fast to convolve


class Span(NamedTuple):
    """A tile along one axis: it sees [start, stop), which may reach around a picture that wraps, of `length` pixels,
    and owns [first, last)."""

    start: int
    stop: int
    first: int
    last: int
    length: int

    def owned(self, stride: int) -> slice:
        """Of the positions that it sees of a layer with this stride, those that it owns."""
        return slice((self.first - self.start) // stride, self.last // stride - self.start // stride)

    def pieces(self) -> list[tuple[slice, slice]]:
        """What it sees, in pieces: where they are in the picture, and in the tile."""
        found, at = [], self.start
        while at < self.stop:
            here = at % self.length
            size = min(self.stop - at, self.length - here)
            found.append((slice(here, here + size), slice(at - self.start, at - self.start + size)))
            at += size
        return found


class Tile(NamedTuple):
    """A tile of a picture ``(H, W, ...)``."""

    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of what it sees."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def owned(self, stride: int) -> tuple[slice, slice]:
        """The positions that it owns of a layer with this stride, among those that it sees."""
        return self.rows.owned(stride), self.columns.owned(stride)

    # Linear in x: what a tile sees is a copy of it, and what is copied twice adds up.
    def of(self, x: Array) -> Array:
        """What it sees of a picture; not to be written to."""
        rows, columns = self.rows.pieces(), self.columns.pieces()
        if len(rows) == len(columns) == 1:
            return x[rows[0][0], columns[0][0]]
        xp = get_xp(x)
        return xp.concatenate([xp.concatenate([x[r, c] for c, _ in columns], axis=1) for r, _ in rows], axis=0)

    def add(self, g: Array, gx: Array) -> None:
        """The adjoint of `of`: g, of what it sees, is added to gx, of the picture."""
        for (r, in_g), (c, in_g_too) in itertools.product(self.rows.pieces(), self.columns.pieces()):
            gx[r, c] += g[in_g, in_g_too]


class Grid:
    """The tiles of a picture.

    Parameters
    ----------
    shape : (H, W) of the picture
    tile : int
        The most that a tile owns of either side, in pixels; rounded to the unit, of which it has one at least.
    architecture, layers : str, names
        The network and the layers whose features are to be as the whole picture's.
    border : (rows, columns)
        The network's.

    Attributes
    ----------
    tiles : list of Tile
        By rows. A picture that is no larger than a tile is one, as it is; as is one that wraps around along an axis
        where a tile would see itself.
    border : (rows, columns)
        The network's for each tile: where the picture wraps around, and was cut, that is done by what the tiles see.
    """

    def __init__(
        self, shape: tuple[int, int], tile: int, architecture: str, layers: Iterable[str], border: Border
    ) -> None:
        deepest = deepest_layer(architecture, layers)
        unit = unit_of(architecture, deepest)
        rows, columns = (
            list(_spans(length, tile, halo_of(architecture, deepest), unit, kind == "wrap"))
            for length, kind in zip(shape, border, strict=True)
        )
        self.tiles = [Tile(*spans) for spans in itertools.product(rows, columns)]
        rows_border, columns_border = (
            "zero" if kind == "wrap" and len(spans) > 1 else kind
            for kind, spans in zip(border, (rows, columns), strict=True)
        )
        self.border: Border = (rows_border, columns_border)


def window(length: int, tile: int, architecture: str, layers: Iterable[str]) -> tuple[int, float]:
    """How much of an axis the largest tile sees, in pixels, and how many times that all see together; of any length, at
    once."""
    deepest = deepest_layer(architecture, layers)
    count, longest = _cut(length, tile, unit := unit_of(architecture, deepest))
    if count == 1:
        return length, 1.0
    halo = halo_of(architecture, deepest)
    largest = min(length, longest * unit + 2 * halo)
    if count > MANY:
        return largest, (length + 2 * halo * count) / largest
    return largest, sum(span.stop - span.start for span in _spans(length, tile, halo, unit, False)) / largest


def unit_of(architecture: str, deepest: str) -> int:
    """What tiles begin at multiples of, in pixels."""
    return max(UNIT, minimum_size(architecture, [deepest]))


def halo_of(architecture: str, deepest: str) -> int:
    """How far a tile sees beyond what it owns, in pixels: as far as a layer's positions, in whole units.

    >>> halo_of("vgg19", "conv5_1"), halo_of("vgg16", "conv5_1"), halo_of("vgg19", "conv4_2")
    (80, 64, 48)
    """
    unit = unit_of(architecture, deepest)
    beyond = (receptive_field(architecture, deepest) - minimum_size(architecture, [deepest])) // 2
    return -(-beyond // unit) * unit


def _cut(length: int, tile: int, unit: int) -> tuple[int, int]:
    """How many tiles there are along an axis, and how many units the longest owns."""
    units = -(-length // unit)
    count = -(-units // max(1, tile // unit))
    return count, -(-units // count)


def _spans(length: int, tile: int, halo: int, unit: int, wraps: bool) -> Iterator[Span]:
    """An axis cut into nearly equal parts."""
    units = -(-length // unit)
    count, _ = _cut(length, tile, unit)
    cuts = [unit * (k * units // count) for k in range(count)] + [length]
    longest = max(b - a for a, b in itertools.pairwise(cuts)) + 2 * halo
    if count == 1 or (wraps and (length % unit or longest > length)):
        yield Span(0, length, 0, length, length)
        return
    for first, last in itertools.pairwise(cuts):
        start, stop = first - halo, last + halo
        if not wraps:
            start, stop = max(start, 0), min(stop, length)
        yield Span(start, stop, first, last, length)
