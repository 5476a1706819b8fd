"""Pictures cut into 4x4 tiles, and tiles laid side by side again: the memory moves of winograd.py.

Within a piece of work, the place inside a tile comes first and the tile second: ``(4, 4, n, R, T, C)`` are R rows of T
tiles in each of n pictures. So every step of the transforms works on long rows of memory, whatever the number of
channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...backend import Array, get_xp


class Piece(NamedTuple):
    """The tile rows start ... stop of the pictures first ... last of the batch, without the last one of each."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def pictures(self) -> slice:
        return slice(self.first, self.last)


def windows(rows: Array, count: int, length: int) -> Array:
    """A view of rows ``(6, n, m, L)`` as windows of `length` of the m, one beginning every 4: ``(6, n, count, length,
    L)``."""
    frequency, picture, row, element = rows.strides
    shape = (*rows.shape[:2], count, length, rows.shape[3])
    return get_xp(rows).lib.stride_tricks.as_strided(rows, shape, (frequency, picture, 4 * row, row, element))


def cut_overlapping(x: Array, top: int, d: Array) -> None:
    """Fill d ``(6, n, m, T, C)`` with the columns 4t - 1 ... 4t + 4 of x ``(n, H, W, C)``, m rows from `top` on; 0
    outside."""
    _, height, width, _ = x.shape
    _, _, m, T, _ = d.shape
    first, last = max(top, 0), min(top + m, height)
    d[:, :, : first - top] = 0
    d[:, :, last - top :] = 0
    for k in range(6):
        column = d[k, :, first - top : last - top]
        left = 1 if k == 0 else 0  # the first tile begins one pixel outside
        source = x[:, first:last, (k - 1) % 4 + 4 * (k == 5) : width : 4][:, :, : T - left]
        right = left + source.shape[2]
        column[:, :, :left] = 0
        column[:, :, left:right] = source
        column[:, :, right:] = 0


def lay_columns(d: Array, gx: Array) -> None:
    """Write d ``(4, n, m, T, C)``, the columns 4t ... 4t + 3, into the rows gx ``(n, <=m, W, C)``; what hangs over is
    cut."""
    n, height, width, channels = gx.shape
    T = width // 4  # whole tiles
    gx[:, :, : 4 * T].reshape(n, height, T, 4, channels)[...] = d[:, :, :height, :T].transpose(1, 2, 3, 0, 4)
    for k in range(width - 4 * T):
        gx[:, :, 4 * T + k] = d[k, :, :height, T]


def lay(tiles: Array, y: Array, top: int) -> None:
    """Lay tiles ``(k, k, n, R, T, C)`` side by side into y ``(n, H, W, C)``, from row `top` on; what hangs over is
    cut."""
    for part, rows in _pairs(tiles, y, top):
        rows[...] = part


def lay_adjoint(y: Array, top: int, tiles: Array) -> Array:
    """The adjoint of `lay`: fill tiles ``(k, k, n, R, T, C)`` from y; 0 outside. Returns them."""
    k, _, _, R, T, _ = tiles.shape
    if y.shape[1] < top + k * R or y.shape[2] < k * T:
        tiles[...] = 0
    for part, rows in _pairs(tiles, y, top):
        part[...] = rows
    return tiles


def _pairs(tiles: Array, y: Array, top: int) -> Iterator[tuple[Array, Array]]:
    """Views of the tiles, each with the view of y that it lies on: the whole tiles at once, then the cut ones."""
    k, _, n, R, _, channels = tiles.shape
    rows = y[:, top : top + k * R]
    height, width = rows.shape[1] // k, rows.shape[2] // k  # whole tiles
    whole = rows[:, : k * height, : k * width].reshape(n, height, k, width, k, channels).transpose(2, 4, 0, 1, 3, 5)
    yield tiles[:, :, :, :height, :width], whole
    for i in range(k):
        for j in range(rows.shape[2] - k * width):  # right of the whole tiles
            edge = rows[:, i::k, k * width + j]
            yield tiles[i, j, :, : edge.shape[1], width], edge
    for i in range(rows.shape[1] - k * height):  # below them
        for j in range(k):
            edge = rows[:, k * height + i, j : k * width : k]
            yield tiles[i, j, :, height, :width], edge


def pool_tiles(tiles: Array) -> Array:
    """The mean of the 2x2 windows of tiles ``(4, 4, ...)``: ``(2, 2, ...)``; the tiles are overwritten."""
    windows = tiles.reshape(2, 2, 2, 2, *tiles.shape[2:])
    mean = windows[:, 0, :, 0]
    for i, j in ((0, 1), (1, 0), (1, 1)):
        mean += windows[:, i, :, j]
    mean *= 1 / 4
    return mean
