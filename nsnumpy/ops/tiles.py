"""Pictures cut into 4x4 tiles, and tiles laid side by side again: the memory moves of winograd.py.

Within a piece of work, the place inside a tile comes first and the tile second: ``(4, 4, R, T, C)`` are R rows of T
tiles. So every step of the transforms works on long rows of memory, whatever the number of channels.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Array, get_xp


def windows(rows: Array, count: int, length: int) -> Array:
    """A view of rows ``(6, n, L)`` as windows of `length` rows, one beginning every 4: ``(6, count, length, L)``."""
    frequency, row, element = rows.strides
    shape = (rows.shape[0], count, length, rows.shape[2])
    return get_xp(rows).lib.stride_tricks.as_strided(rows, shape, (frequency, 4 * row, row, element))


def cut_overlapping(x: Array, top: int, d: Array) -> None:
    """Fill d ``(6, n, T, C)`` with the columns 4t - 1 ... 4t + 4 of x ``(H, W, C)``, rows from `top` on; 0 outside."""
    height, width, _ = x.shape
    _, n, T, _ = d.shape
    first, last = max(top, 0), min(top + n, height)
    d[:, : first - top] = 0
    d[:, last - top :] = 0
    for k in range(6):
        column = d[k, first - top : last - top]
        left = 1 if k == 0 else 0  # the first tile begins one pixel outside
        source = x[first:last, (k - 1) % 4 + 4 * (k == 5) : width : 4][:, : T - left]
        right = left + source.shape[1]
        column[:, :left] = 0
        column[:, left:right] = source
        column[:, right:] = 0


def lay_columns(d: Array, gx: Array) -> None:
    """Write d ``(4, n, T, C)``, the columns 4t ... 4t + 3, into the rows gx ``(<=n, W, C)``; what hangs over is cut."""
    height, width, channels = gx.shape
    T = width // 4  # whole tiles
    gx[:, : 4 * T].reshape(height, T, 4, channels)[...] = d[:, :height, :T].transpose(1, 2, 0, 3)
    for k in range(width - 4 * T):
        gx[:, 4 * T + k] = d[k, :height, T]


def lay(tiles: Array, y: Array, top: int) -> None:
    """Lay tiles ``(k, k, R, T, C)`` side by side into y ``(H, W, C)``, from row `top` on; what hangs over is cut."""
    for part, rows in _pairs(tiles, y, top):
        rows[...] = part


def cut(y: Array, top: int, tiles: Array) -> Array:
    """The adjoint of `lay`: fill tiles ``(k, k, R, T, C)`` from y; 0 outside. Returns them."""
    k, _, R, T, _ = tiles.shape
    if len(y) < top + k * R or y.shape[1] < k * T:
        tiles[...] = 0
    for part, rows in _pairs(tiles, y, top):
        part[...] = rows
    return tiles


def _pairs(tiles: Array, y: Array, top: int) -> Iterator[tuple[Array, Array]]:
    """Views of the tiles, each with the view of y that it lies on: the whole tiles at once, then the cut ones."""
    k, _, R, _, channels = tiles.shape
    rows = y[top : top + k * R]
    height, width = len(rows) // k, rows.shape[1] // k  # whole tiles
    whole = rows[: k * height, : k * width].reshape(height, k, width, k, channels).transpose(1, 3, 0, 2, 4)
    yield tiles[:, :, :height, :width], whole
    for i in range(k):
        for j in range(rows.shape[1] - k * width):  # right of the whole tiles
            edge = rows[i::k, k * width + j]
            yield tiles[i, j, : len(edge), width], edge
    for i in range(len(rows) - k * height):  # below them
        for j in range(k):
            edge = rows[k * height + i, j : k * width : k]
            yield tiles[i, j, height, :width], edge


def pool_tiles(tiles: Array) -> Array:
    """The mean of the 2x2 windows of tiles ``(4, 4, R, T, C)``: ``(2, 2, R, T, C)``; the tiles are overwritten."""
    windows = tiles.reshape(2, 2, 2, 2, *tiles.shape[2:])
    mean = windows[:, 0, :, 0]
    for i, j in ((0, 1), (1, 0), (1, 1)):
        mean += windows[:, i, :, j]
    mean *= 1 / 4
    return mean
