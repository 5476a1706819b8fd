"""The steps of winograd.py on the CPU, on one piece of work: some rows of tiles of some pictures, small enough for a
core's cache.

Pieces of scratch memory take turns: each step reads the one and writes the other.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from ...backend import Array, get_xp
from ...workers import Scratch
from ..border import Border, outside
from .matrices import AT, BT
from .tiles import Piece, cut_overlapping, fold_columns, lay, lay_adjoint, lay_columns, pool_tiles, windows

_ONES = 7  # the frequency (1, 1): A spreads it evenly, with weight one, over all 16 outputs
_COLUMNS = 16384  # that a transform multiplies at a time: more than about 27,000 of them OpenBLAS would copy first
FEW = 32  # rows of M: for so few, BLAS would spend its time on bringing U into order
_SMALL = 10**6  # multiplications that OpenBLAS does without bringing anything into order


class _Matrices(NamedTuple):
    """The transforms, of an array's dtype and namespace."""

    AT: Array
    BT: Array
    A: Array
    B: Array


def _matrices(like: Array) -> _Matrices:
    xp = get_xp(like)
    at, bt = xp.asarray(AT, like.dtype), xp.asarray(BT, like.dtype)
    return _Matrices(at, bt, xp.ascontiguousarray(at.T), xp.ascontiguousarray(bt.T))


class HostTiles:
    """The steps for one call of an op, whose arrays are like `like`; threads share it."""

    def __init__(self, like: Array, border: Border) -> None:
        self._m = _matrices(like)
        self._border = border
        self._seams = _Seams()
        self._beyond: dict[tuple[int, int], tuple[slice, int, Array]] = {}

    def framed(self, x: Array) -> Array:
        """The pictures as `transform` takes them."""
        return x

    def empty_gradient(self, shape: tuple[int, ...], like: Array) -> Array:
        """Memory for the gx of `add_transform_adjoint`."""
        return get_xp(like).empty(shape, like.dtype)

    def transform(self, x: Array, piece: Piece, scratch: Scratch, out: Array | None = None, name: str = "") -> Array:
        """``B^T d B`` of a piece of the pictures x ``(n, H, W, C)``: ``(36, n R T, C)``, in "even" or out."""
        xp, m = get_xp(x), self._m
        x = x[piece.pictures]
        n, _, width, channels = x.shape
        R, T = piece.stop - piece.start, -(-width // 4)
        d = scratch.empty(name + "even", (6, n, 4 * R + 2, T, channels), x)
        cut_overlapping(x, 4 * piece.start - 1, d, self._border)
        by_column = scratch.empty(name + "odd", (6, n, 4 * R + 2, T * channels), x)
        _apply(m.BT, d.reshape(6, -1), by_column.reshape(6, -1))
        V = scratch.empty(name + "even", (36, n * R * T, channels), x) if out is None else out
        xp.matmul(m.BT, windows(by_column, R, 6), out=V.reshape(6, 6, n, R, T * channels).transpose(1, 2, 3, 0, 4))
        return V

    def products(self, V: Array, U: Array, scratch: Scratch, out: Array | None = None) -> Array:
        """``V[f] @ U[f]`` of some frequencies, ``(36, n R T, N)`` of all, in "odd" or out; V is from `transform`."""
        M = scratch.empty("odd", (*V.shape[:2], U.shape[2]), V) if out is None else out
        return get_xp(V).matmul(V, U, out=M)

    def products_adjoint(self, M: Array, U: Array, scratch: Scratch, out: Array | None = None) -> Array:
        """``M[f] @ U[f]^T`` of some frequencies, ``(36, n R T, C)`` of all, in "odd" or out; M is from
        `outputs_adjoint`.

        Of few rows it is made as its transpose, with some of U's rows at a time, so that U is read where it stands.
        """
        xp = get_xp(M)
        count, rows, filters = M.shape
        channels = U.shape[1]
        V = scratch.empty("odd", (count, rows, channels), M) if out is None else out
        if rows > FEW:
            return xp.matmul(M, U.swapaxes(1, 2), out=V)
        columns = scratch.empty("columns", (count, filters, rows), M)
        columns[...] = M.swapaxes(1, 2)
        found = scratch.empty("found", (count, channels, rows), M)
        step = max(1, _SMALL // (rows * filters))
        for start in range(0, channels, step):
            some = slice(start, start + step)
            xp.matmul(U[:, some], columns, out=found[:, some])
        V[...] = found.swapaxes(1, 2)
        return V

    def add_transform_adjoint(self, V: Array, gx: Array, piece: Piece, scratch: Scratch) -> None:
        """``B V B^T``, overlapping tiles added up, into the piece's part of gx ``(n, H, W, C)``; V is from
        `products_adjoint`."""
        part = gx[piece.pictures]
        n, height, width, channels = part.shape
        R, T = piece.stop - piece.start, -(-width // 4)
        V = V.reshape(6, 6, n, R, T * channels)
        d = self._add_up_columns(self._add_up_rows(V, scratch), T, scratch)
        fold_columns(d, width, self._border[1])
        d = d[:, :, :, 1:-1]
        top = 4 * piece.start - 1
        bottom = height if 4 * piece.stop >= height else 4 * piece.stop - 1
        lay_columns(d[:, :, max(-top, 0) :], part[:, max(top, 0) : bottom])
        overhang = get_xp(gx).empty((n, 2, width, channels), gx.dtype)
        lay_columns(d[:, :, 4 * R :], overhang)
        self._seams.add(gx, piece, overhang)
        for row, source in outside(self._border[0], height):
            if top <= row < top + d.shape[2]:
                rows = get_xp(gx).empty((n, 1, width, channels), gx.dtype)
                lay_columns(d[:, :, row - top : row - top + 1], rows)
                self._beyond[piece.first, row] = piece.pictures, source, rows[:, 0]

    def finished(self, gx: Array) -> Array:
        """gx, once all pieces are in it: what fell above and below is added to where it came from, always in the same
        order."""
        for _, (pictures, source, row) in sorted(self._beyond.items(), key=lambda item: item[0]):
            gx[pictures, source] += row
        return gx

    def _add_up_rows(self, V: Array, scratch: Scratch) -> Array:
        """B over the rows of V ``(6, 6, n, R, T C)``, tiles that overlap added up: ``(6, n, 4 R + 2, T C)``.

        The first four of a tile's six rows are written, the other two added to those of the tile below.
        """
        xp, m = get_xp(V), self._m
        _, _, n, R, elements = V.shape
        V = V.transpose(1, 2, 3, 0, 4)
        by_column = scratch.empty("even", (6, n, 4 * R + 2, elements), V)
        by_column[:, :, 4 * R :] = 0
        xp.matmul(m.B[:4], V, out=by_column[:, :, : 4 * R].reshape(6, n, R, 4, -1))
        last_two = scratch.empty("last two", (6, n, R, 2, elements), V)
        xp.matmul(m.B[4:], V, out=last_two)
        below = windows(by_column[:, :, 4:], R, 2)
        below += last_two
        return by_column

    def _add_up_columns(self, by_column: Array, T: int, scratch: Scratch) -> Array:
        """The same over the columns of ``(6, n, m, T C)``: the columns 4t ... 4t + 3 of T tiles and two more.

        Tile t reaches from column 4t - 1 to 4t + 4: one of its six falls to the tile on its left, one to that on its
        right. Returned as d ``(4, n, m, T + 2, C)``: d[:, :, :, t + 1] are the columns 4t ... 4t + 3, for t from -1 to
        T; of the outermost two tiles only the columns -1 and 4 T are made.
        """
        xp, m = get_xp(by_column), self._m
        _, n, rows, elements = by_column.shape
        lines, channels = n * rows, elements // T
        by_column = by_column.reshape(6, lines, -1).transpose(1, 0, 2)
        d = scratch.empty("odd", (4, lines, T + 2, channels), by_column)
        inner, left = d[:3, :, 1:-1], d[3, :, :-2]
        xp.matmul(m.B[1:4], by_column, out=inner.reshape(3, lines, -1).transpose(1, 0, 2))
        xp.matmul(m.B[:1], by_column, out=left.reshape(lines, 1, -1))
        d[3, :, -2] = 0
        last_two = scratch.empty("last two", (2, lines, T, channels), by_column)
        xp.matmul(m.B[4:], by_column, out=last_two.reshape(2, lines, -1).transpose(1, 0, 2))
        d[3, :, 1:-1] += last_two[0]
        d[0, :, -1] = 0
        d[0, :, 2:] += last_two[1]
        return d.reshape(4, n, rows, T + 2, channels)

    def write_outputs(
        self, M: Array, bias: Array, y: Array, piece: Piece, scratch: Scratch, *, relu: bool, pool: bool
    ) -> Array | None:
        """``A^T M A + bias``, the ReLU and the pooling, into the piece's part of y; returns the ReLU's signs.

        M, which is written to, is from `products`; y is ``(n, H, W, N)``, or ``(n, H//2, W//2, N)`` if `pool`.
        """
        xp, m = get_xp(M), self._m
        part = y[piece.pictures]
        n, R, filters = len(part), piece.stop - piece.start, M.shape[2]
        T = M.shape[1] // (n * R)
        M[_ONES] += bias
        by_row = scratch.empty("even", (4, 6, n * R * T * filters), M)
        _apply(m.AT, M.reshape(6, 6, -1).swapaxes(0, 1), by_row.swapaxes(0, 1))
        tiles = scratch.empty("odd", (4, 4, n, R, T, filters), M)
        _apply(m.AT, by_row, tiles.reshape(4, 4, -1))
        signs = None
        if relu:
            signs = xp.packbits(tiles > 0)
            xp.maximum(tiles, scratch.zeros(tiles.shape, M), out=tiles)  # NumPy is slower with the scalar 0
        if pool:
            tiles = pool_tiles(tiles)
        lay(tiles, part, (2 if pool else 4) * piece.start)
        return signs

    def outputs_adjoint(
        self,
        gy: Array,
        width: int,
        piece: Piece,
        signs: Array | None,
        scratch: Scratch,
        out: Array | None = None,
        *,
        pool: bool,
    ) -> Array:
        """``A g A^T`` of a piece of gy, back through the pooling and the ReLU: ``(36, n R T, N)``, in "even" or out.

        `width` is W of the picture, which that of a pooled gy does not tell.
        """
        xp, m = get_xp(gy), self._m
        gy = gy[piece.pictures]
        filters, k = gy.shape[-1], 2 if pool else 4
        shape = (len(gy), piece.stop - piece.start, -(-width // 4), filters)
        tiles = scratch.empty("even", (4, 4, *shape), gy)
        gy_tiles = scratch.empty("odd", (k, k, *shape), gy) if pool else tiles
        lay_adjoint(gy, k * piece.start, gy_tiles)
        if signs is not None:
            on = xp.unpackbits(signs)[: tiles.size].reshape(tiles.shape)
            if pool:  # each input of a window gets a quarter of the window's gradient
                gy_tiles *= 1 / 4
                split = (2, 2, 2, 2, *shape)
                xp.multiply(gy_tiles[:, None, :, None], on.reshape(split), out=tiles.reshape(split))
            else:
                xp.multiply(tiles, on, out=tiles)
        by_row = scratch.empty("odd", (4, 6, tiles[0, 0].size), tiles)
        _apply(m.A, tiles.reshape(4, 4, -1), by_row)
        M = scratch.empty("even", (36, tiles[0, 0].size // filters, filters), tiles) if out is None else out
        _apply(m.A, by_row.swapaxes(0, 1), M.reshape(6, 6, -1).swapaxes(0, 1))
        return M


def _apply(transform: Array, x: Array, out: Array) -> None:
    """``transform @ x`` over the last two axes of x ``(..., k, L)``, a few of its L columns at a time."""
    xp, length = get_xp(x), x.shape[-1]
    for start in range(0, length, _COLUMNS):
        some = slice(start, start + _COLUMNS)
        xp.matmul(transform, x[..., some], out=out[..., some])


class _Seams:
    """The rows of gx on which two stripes of a picture fall: the second one to come adds the overhang."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], Array | None] = {}  # by (picture, row): overhangs onto it, None for rows
        self._lock = threading.Lock()

    def add(self, gx: Array, piece: Piece, overhang: Array) -> None:
        """The rows of a piece were written, and its overhang is there."""
        if piece.start:
            self._meet(gx, (piece.first, 4 * piece.start - 1), None)
        if 4 * piece.stop < gx.shape[1]:
            self._meet(gx, (piece.first, 4 * piece.stop - 1), overhang[0])

    def _meet(self, gx: Array, key: tuple[int, int], overhang: Array | None) -> None:
        with self._lock:
            if key not in self._waiting:
                self._waiting[key] = overhang
                return
            other = self._waiting.pop(key)
        n, row = key
        rows = gx[n, row : row + 2]
        added = overhang if other is None else other
        assert added is not None  # of two stripes that meet, the upper one brings it
        rows += added[: len(rows)]
