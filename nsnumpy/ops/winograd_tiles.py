"""The steps of winograd.py on one piece of work: some rows of tiles of some pictures, small enough for a core's cache.

Pieces of scratch memory take turns: each step reads the one and writes the other.
"""

from __future__ import annotations

from typing import NamedTuple

from ..backend import Array, get_xp
from ..workers import Scratch
from .tiles import cut_overlapping, lay_columns, windows

# The points of interpolation are 0, 1, -1, 2, -2 and infinity. Column k of A^T holds the powers of point k.
_AT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_BT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_ONES = 7  # the frequency (1, 1): A spreads it evenly, with weight one, over all 16 outputs


class Matrices(NamedTuple):
    """The transforms, of an array's dtype and namespace; G in float64."""

    AT: Array
    BT: Array
    A: Array
    B: Array
    G: Array


def matrices(like: Array) -> Matrices:
    xp = get_xp(like)
    AT, BT = xp.asarray(_AT, like.dtype), xp.asarray(_BT, like.dtype)
    return Matrices(AT, BT, xp.ascontiguousarray(AT.T), xp.ascontiguousarray(BT.T), xp.asarray(_G, "float64"))


def input_transform(x: Array, rows: tuple[int, int], m: Matrices, scratch: Scratch, name: str = "") -> Array:
    """``B^T d B`` of the tile rows start ... stop of x ``(n, H, W, C)``: ``(36, n R T, C)``, in the scratch "even"."""
    xp = get_xp(x)
    n, _, width, channels = x.shape
    R, T = rows[1] - rows[0], -(-width // 4)
    d = scratch.empty(name + "even", (6, n, 4 * R + 2, T, channels), x)
    cut_overlapping(x, 4 * rows[0] - 1, d)
    by_column = scratch.empty(name + "odd", (6, n, 4 * R + 2, T * channels), x)
    xp.matmul(m.BT, d.reshape(6, -1), out=by_column.reshape(6, -1))
    V = scratch.empty(name + "even", (6, 6, n, R, T * channels), x)
    xp.matmul(m.BT, windows(by_column, R, 6), out=V.transpose(1, 2, 3, 0, 4))
    return V.reshape(36, -1, channels)


def forward_tiles(x: Array, rows: tuple[int, int], U: Array, bias: Array, m: Matrices, scratch: Scratch) -> Array:
    """The outputs of the tile rows start ... stop of the pictures x ``(n, H, W, C)``: ``(4, 4, n, R, T, N)``, row and
    column within the tile first."""
    xp = get_xp(x)
    n, _, width, _ = x.shape
    R, T, filters = rows[1] - rows[0], -(-width // 4), U.shape[2]
    V = input_transform(x, rows, m, scratch)
    M = scratch.empty("odd", (36, n * R * T, filters), x)
    xp.matmul(V, U, out=M)
    M[_ONES] += bias
    by_row = scratch.empty("even", (4, 6, n * R * T * filters), x)
    xp.matmul(m.AT, M.reshape(6, -1), out=by_row.reshape(4, -1))
    tiles = scratch.empty("odd", (4, 4, n, R, T, filters), x)
    xp.matmul(m.AT, by_row, out=tiles.reshape(4, 4, -1))
    return tiles


def output_adjoint(tiles: Array, m: Matrices, scratch: Scratch) -> Array:
    """``A g A^T`` of tiles ``(4, 4, n, R, T, N)``, which lie in the scratch "even": ``(36, n R T, N)``, in "even"."""
    xp = get_xp(tiles)
    filters = tiles.shape[-1]
    by_row = scratch.empty("odd", (4, 6, tiles[0, 0].size), tiles)
    xp.matmul(m.A, tiles.reshape(4, 4, -1), out=by_row)
    M = scratch.empty("even", (36, tiles[0, 0].size // filters, filters), tiles)
    xp.matmul(m.A, by_row.reshape(4, -1), out=M.reshape(6, -1))
    return M


def input_adjoint(M: Array, U: Array, gx: Array, rows: tuple[int, int], m: Matrices, scratch: Scratch) -> Array:
    """What `forward_tiles` did up to the products, transposed; M is from `output_adjoint`.

    Writes the tile rows' own rows of gx ``(n, H, W, C)``, and returns what falls on the first two rows below them.
    """
    xp = get_xp(gx)
    n, height, width, channels = gx.shape
    R, T = rows[1] - rows[0], -(-width // 4)
    V = scratch.empty("odd", (6, 6, n, R, T * channels), gx)
    xp.matmul(M, U.swapaxes(1, 2), out=V.reshape(36, n * R * T, channels))

    # B over rows: the first four of a tile's six rows are written, the other two added to those of the tile below.
    V = V.transpose(1, 2, 3, 0, 4)
    by_column = scratch.empty("even", (6, n, 4 * R + 2, T * channels), gx)
    by_column[:, :, 4 * R :] = 0
    xp.matmul(m.B[:4], V, out=by_column[:, :, : 4 * R].reshape(6, n, R, 4, -1))
    last_two = scratch.empty("last two", (6, n, R, 2, T * channels), gx)
    xp.matmul(m.B[4:], V, out=last_two)
    below = windows(by_column[:, :, 4:], R, 2)
    below += last_two

    # The same over columns. Tile t reaches from column 4t - 1 to 4t + 4: one of its six falls to the tile on its left,
    # one to that on its right. d[:, :, t + 1] are the columns 4t ... 4t + 3, for t from -1 to T.
    lines = n * (4 * R + 2)
    by_column = by_column.reshape(6, lines, -1).transpose(1, 0, 2)
    d = scratch.empty("odd", (4, lines, T + 2, channels), gx)
    inner, left = d[:3, :, 1:-1], d[3, :, :-2]
    xp.matmul(m.B[1:4], by_column, out=inner.reshape(3, lines, -1).transpose(1, 0, 2))
    xp.matmul(m.B[:1], by_column, out=left.reshape(lines, 1, -1))
    d[3, :, -2] = 0
    last_two = scratch.empty("last two", (2, lines, T, channels), gx)
    xp.matmul(m.B[4:], by_column, out=last_two.reshape(2, lines, -1).transpose(1, 0, 2))
    d[3, :, 1:-1] += last_two[0]
    d[0, :, 2:-1] += last_two[1, :, :-1]  # the last one falls outside
    d = d.reshape(4, n, 4 * R + 2, T + 2, channels)[:, :, :, 1:-1]

    top = 4 * rows[0] - 1
    bottom = height if 4 * rows[1] >= height else 4 * rows[1] - 1
    lay_columns(d[:, :, max(-top, 0) :], gx[:, max(top, 0) : bottom])
    overhang = xp.empty((n, 2, width, channels), gx.dtype)
    lay_columns(d[:, :, 4 * R :], overhang)
    return overhang
