"""Pictures cut into 4x4 tiles, and tiles laid side by side again: the memory moves of winograd.py.

Within a piece of work, the place inside a tile comes first and the tile second: ``(4, 4, n, R, T, C)`` are R rows of T
tiles in each of n pictures. So every step of the transforms works on long rows of memory, whatever the number of
channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...backend import Array, get_xp
from ..border import Border, outside


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


def cut_overlapping(x: Array, top: int, d: Array, border: Border) -> None:
    """Fill d ``(6, n, m, T, C)`` with the columns 4t - 1 ... 4t + 4 of x ``(n, H, W, C)``, m rows from `top` on.

    One pixel outside it has the border's; 0 beyond, which no output sees."""
    height, m = x.shape[1], d.shape[2]
    first, last = max(top, 0), min(top + m, height)
    d[:, :, : first - top] = 0
    d[:, :, last - top :] = 0
    _cut_columns(x[:, first:last], d[:, :, first - top : last - top], border[1])
    for row, source in outside(border[0], height):
        if top <= row < top + m:
            _cut_columns(x[:, source : source + 1], d[:, :, row - top : row - top + 1], border[1])


def _cut_columns(x: Array, d: Array, border: str) -> None:
    """Fill d ``(6, n, m, T, C)`` with the columns of x ``(n, m, W, C)``."""
    width, T = x.shape[2], d.shape[3]
    for k in range(6):
        column = d[k]
        left = 1 if k == 0 else 0  # the first tile begins one pixel outside
        pixels = x[:, :, (k - 1) % 4 + 4 * (k == 5) : width : 4][:, :, : T - left]
        right = left + pixels.shape[2]
        column[:, :, :left] = 0
        column[:, :, left:right] = pixels
        column[:, :, right:] = 0
        for place, source in outside(border, width):
            t, within = divmod(place + 1 - k, 4)
            if not within and 0 <= t < T:
                column[:, :, t] = x[:, :, source]


def fold_columns(d: Array, width: int, border: str) -> None:
    """The adjoint of what `_cut_columns` has outside a picture W wide: in d ``(4, n, m, T + 2, C)``, its columns
    -4 ... 4 T + 3, what falls outside is added to where it came from."""
    for place, source in outside(border, width):
        d[source % 4, :, :, source // 4 + 1] += d[place % 4, :, :, place // 4 + 1]


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
