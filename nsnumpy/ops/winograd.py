"""3x3 convolution by Winograd's F(4x4, 3x3): the same map as conv.py's, with a quarter of its multiplications.

The picture is cut into tiles of 4x4 outputs y, each made from 6x6 inputs d (overlapping by 2). Per tile [1],

    y = A^T [ (G w G^T) * (B^T d B) ] A        in one channel; * is element by element

With many channels, the products at one of the 36 places ("frequencies") of all tiles are one matrix product,
``V[f] (tiles, C) @ U[f] (C, N)``: 36 of them replace the nine of conv.py, over a sixteenth of the positions each.

The convolution is run as those very steps, U = G w G^T being made beforehand; the backward is their transposes in
reverse order with the same U, so it is the adjoint by construction. Each step is a matrix product over long rows:

    forward                                         backward
    d: the 6 columns of each tile, overlapping      columns of neighbouring tiles added where they overlap
    B^T over columns, then B^T over rows            B over rows, overlaps added, then B over columns
    V[f] @ U[f]                                     V[f] @ U[f]^T
    A^T over rows, then A^T over columns            A over columns, then A over rows
    tiles laid side by side                         the picture cut into tiles

The work is done in stripes of tile rows that fit in a core's cache, and what comes next is done while a stripe is hot:
the ReLU, one bit per element that says where it was on, and the average pooling.

References
----------
[1] Lavin, Gray 2016, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308, equation 8 and section 4.3.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..backend import Array, get_xp
from ..workers import Scratch, Workers
from .tiles import cut, cut_overlapping, lay, lay_columns, pool_tiles, windows

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
_TILES = 128  # least number of tiles in a stripe: so many rows repay the reading of U[f], 1 MB with 512 channels
_ROWS = 2  # least number of tile rows in a stripe: two rows of pixels in 4 R + 2 are transformed by its neighbour, too


def winograd_weight(weight: Array) -> Array:
    """``U = G w G^T`` for every pair of channels.

    Parameters
    ----------
    weight : array ``(3, 3, C_in, C_out)``, float

    Returns
    -------
    U : array ``(36, C_in, C_out)`` of weight's dtype
    """
    xp = get_xp(weight)
    G = xp.asarray(_G, "float64")
    _, _, channels, filters = weight.shape
    U = xp.empty((6, 6, channels, filters), weight.dtype)
    for c in range(channels):  # in float64, but never a float64 copy of all of it
        rows = xp.tensordot(G, weight[:, :, c].astype("float64"), (1, 0))
        U[:, :, c] = xp.tensordot(G, rows, (1, 1)).swapaxes(0, 1)
    return U.reshape(36, channels, filters)


# The map is linear in x but for the bias, so the backward keeps nothing of x.
def winograd_forward(x: Array, U: Array, bias: Array, workers: Workers | None = None) -> Array:
    """`conv_forward` with `winograd_weight`'s U in place of the weight.

    Parameters
    ----------
    x : array ``(..., H, W, C_in)``, float
    U : array ``(36, C_in, C_out)`` of x's dtype
    bias : array ``(C_out,)`` of x's dtype
    workers : Workers, or None for one thread

    Returns
    -------
    y : array ``(..., H, W, C_out)``

    Raises
    ------
    ValueError
        If x has another number of channels than U.
    TypeError
        If the arguments are arrays of different kinds (NumPy and CuPy).
    """
    return _forward(x, U, bias, workers, relu=False, pool=False)[0]


def winograd_backward(gy: Array, U: Array, workers: Workers | None = None) -> Array:
    """The adjoint of `winograd_forward` in x: `conv_backward` with U in place of the weight.

    Parameters
    ----------
    gy : array ``(..., H, W, C_out)``, float
    U : array ``(36, C_in, C_out)``
    workers : Workers, or None for one thread

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    """
    return _backward(gy, U, gy.shape[-3:-1], None, workers, pool=False)


# The backward keeps the picture's height and width, and one bit per element: where the ReLU was on, in the order of
# tiles, stripe by stripe.
def winograd_relu_forward(
    x: Array, U: Array, bias: Array, workers: Workers | None = None, *, pool: bool = False
) -> tuple[Array, list[Array]]:
    """``max(conv(x), 0)``, followed by the 2x2 average pooling if `pool`, and the signs that the backward needs.

    Parameters
    ----------
    x, U, bias, workers : as in `winograd_forward`
    pool : bool
        As `avgpool_forward`. What is pooled then never exists as a whole.

    Returns
    -------
    y : array ``(..., H, W, C_out)``, or ``(..., H//2, W//2, C_out)``
    signs : list of uint8 arrays
    """
    return _forward(x, U, bias, workers, relu=True, pool=pool)


def winograd_relu_backward(
    gy: Array,
    U: Array,
    signs: list[Array],
    size: tuple[int, int],
    workers: Workers | None = None,
    *,
    pool: bool = False,
) -> Array:
    """The gradient with respect to the x of `winograd_relu_forward`.

    Parameters
    ----------
    gy : array of y's shape
    U, workers, pool : as in the forward
    signs : from the forward, with as many workers
    size : (H, W) of x

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    """
    return _backward(gy, U, size, signs, workers, pool=pool)


class _Plan(NamedTuple):
    """What the stripes of one call share."""

    AT: Array
    BT: Array
    A: Array
    B: Array
    columns: int  # T, tiles side by side
    stripes: list[tuple[int, int, int]]  # (picture of the batch, first tile row, last tile row + 1)


def _plan(like: Array, batch: int, size: tuple[int, ...], U: Array, workers: Workers) -> _Plan:
    xp = get_xp(like, U)
    AT, BT = xp.asarray(_AT, like.dtype), xp.asarray(_BT, like.dtype)
    columns, rows = winograd_stripes(size, U.shape[1] + U.shape[2], like.dtype.itemsize, workers)
    stripes = [(n, start, stop) for n in range(batch) for start, stop in rows]
    return _Plan(AT, BT, xp.ascontiguousarray(AT.T), xp.ascontiguousarray(BT.T), columns, stripes)


def winograd_stripes(
    size: tuple[int, ...], channels: int, itemsize: int, workers: Workers
) -> tuple[int, list[tuple[int, int]]]:
    """How a layer's work is cut up.

    Parameters
    ----------
    size : (H, W)
    channels : int
        C_in + C_out.
    itemsize : int
        Bytes per number.
    workers : Workers

    Returns
    -------
    columns : int
        T, the number of tiles side by side.
    stripes : list of (first, last + 1) tile row
    """
    rows, columns = (-(-n // 4) for n in size)
    least = max(_ROWS, -(-_TILES // columns))
    return columns, workers.blocks(rows, columns * 36 * channels * itemsize, least)


def _forward(
    x: Array, U: Array, bias: Array, workers: Workers | None, *, relu: bool, pool: bool
) -> tuple[Array, list[Array]]:
    xp = get_xp(x, U, bias)
    workers = workers or Workers(1)
    *batch, height, width, channels = x.shape
    if channels != U.shape[1]:
        raise ValueError(f"{U.shape[1]} channels expected, {channels} given; x.shape={x.shape}")
    x = x.reshape(-1, height, width, channels)
    k = 2 if pool else 4
    y = xp.empty((len(x), height * k // 4, width * k // 4, U.shape[2]), x.dtype)
    plan = _plan(x, len(x), (height, width), U, workers)

    def stripe(job: tuple[int, int, int], scratch: Scratch) -> Array | None:
        n, start, stop = job
        tiles = _forward_tiles(x[n], (start, stop), U, bias, plan, scratch)
        signs = None
        if relu:
            signs = xp.packbits(tiles > 0)
            xp.maximum(tiles, scratch.zeros(tiles.shape, x), out=tiles)  # NumPy is slower with the scalar 0
        if pool:
            tiles = pool_tiles(tiles)
        lay(tiles, y[n], k * start)
        return signs

    signs = workers.map(stripe, plan.stripes)
    return y.reshape(*batch, *y.shape[1:]), signs


def _backward(
    gy: Array, U: Array, size: tuple[int, ...], signs: list[Array] | None, workers: Workers | None, *, pool: bool
) -> Array:
    xp = get_xp(gy, U)
    workers = workers or Workers(1)
    height, width = size
    batch, filters = gy.shape[:-3], gy.shape[-1]
    gy = gy.reshape(-1, *gy.shape[-3:])
    gx = xp.empty((len(gy), height, width, U.shape[1]), gy.dtype)
    plan = _plan(gy, len(gy), size, U, workers)
    k = 2 if pool else 4

    waiting: dict[tuple[int, int], Array | None] = {}  # by (picture, first row): overhangs onto rows, None for rows
    lock = threading.Lock()

    def meet(key: tuple[int, int], overhang: Array | None) -> None:
        """Add an overhang to the two rows it falls on, once both are there."""
        with lock:
            if key not in waiting:
                waiting[key] = overhang
                return
            other = waiting.pop(key)
        n, row = key
        rows = gx[n, row : row + 2]
        rows += (overhang if other is None else other)[: len(rows)]

    def stripe(job: tuple[int, tuple[int, int, int]], scratch: Scratch) -> None:
        index, (n, start, stop) = job
        shape = (stop - start, plan.columns, filters)
        tiles = scratch.empty("even", (4, 4, *shape), gy)
        gy_tiles = cut(gy[n], k * start, scratch.empty("odd", (k, k, *shape), gy) if pool else tiles)
        if signs is not None:
            on = xp.unpackbits(signs[index])[: tiles.size].reshape(tiles.shape)
            if pool:  # each input of a window gets a quarter of the window's gradient
                gy_tiles *= 1 / 4
                split = (2, 2, 2, 2, *shape)
                xp.multiply(gy_tiles[:, None, :, None], on.reshape(split), out=tiles.reshape(split))
            else:
                xp.multiply(tiles, on, out=tiles)
        overhang = _backward_tiles(tiles, U, gx[n], (start, stop), plan, scratch)
        if start:
            meet((n, 4 * start - 1), None)
        if 4 * stop < height:
            meet((n, 4 * stop - 1), overhang)

    workers.map(stripe, list(enumerate(plan.stripes)))
    return gx.reshape(*batch, *gx.shape[1:])


def _forward_tiles(x: Array, rows: tuple[int, int], U: Array, bias: Array, plan: _Plan, scratch: Scratch) -> Array:
    """The outputs of the tile rows start ... stop: ``(4, 4, R, T, N)``, row and column within the tile first.

    Two pieces of scratch memory take turns: each step reads the one and writes the other.
    """
    xp = get_xp(x)
    _, channels, filters = U.shape
    R, T = rows[1] - rows[0], plan.columns
    d = scratch.empty("even", (6, 4 * R + 2, T, channels), x)
    cut_overlapping(x, 4 * rows[0] - 1, d)
    by_column = scratch.empty("odd", (6, 4 * R + 2, T * channels), x)
    xp.matmul(plan.BT, d.reshape(6, -1), out=by_column.reshape(6, -1))
    V = scratch.empty("even", (6, 6, R, T * channels), x)
    xp.matmul(plan.BT, windows(by_column, R, 6), out=V.transpose(1, 2, 0, 3))
    M = scratch.empty("odd", (36, R * T, filters), x)
    xp.matmul(V.reshape(36, R * T, channels), U, out=M)
    M[_ONES] += bias
    by_row = scratch.empty("even", (4, 6, R * T * filters), x)
    xp.matmul(plan.AT, M.reshape(6, -1), out=by_row.reshape(4, -1))
    tiles = scratch.empty("odd", (4, 4, R, T, filters), x)
    xp.matmul(plan.AT, by_row, out=tiles.reshape(4, 4, -1))
    return tiles


def _backward_tiles(tiles: Array, U: Array, gx: Array, rows: tuple[int, int], plan: _Plan, scratch: Scratch) -> Array:
    """Each step of `_forward_tiles` transposed, last to first; `tiles` lie in the scratch memory "even".

    Writes the stripe's own rows of gx, and returns what falls on the first two rows of the stripe below.
    """
    xp = get_xp(gx)
    _, channels, filters = U.shape
    R, T = rows[1] - rows[0], plan.columns
    by_row = scratch.empty("odd", (4, 6, R * T * filters), gx)
    xp.matmul(plan.A, tiles.reshape(4, 4, -1), out=by_row)
    M = scratch.empty("even", (36, R * T, filters), gx)
    xp.matmul(plan.A, by_row.reshape(4, -1), out=M.reshape(6, -1))
    V = scratch.empty("odd", (6, 6, R, T * channels), gx)
    xp.matmul(M, U.swapaxes(1, 2), out=V.reshape(36, R * T, channels))

    # B over rows: the first four of a tile's six rows are written, the other two added to those of the tile below.
    V = V.transpose(1, 2, 0, 3)
    by_column = scratch.empty("even", (6, 4 * R + 2, T * channels), gx)
    by_column[:, 4 * R :] = 0
    xp.matmul(plan.B[:4], V, out=by_column[:, : 4 * R].reshape(6, R, 4, -1))
    last_two = scratch.empty("last two", (6, R, 2, T * channels), gx)
    xp.matmul(plan.B[4:], V, out=last_two)
    below = windows(by_column[:, 4:], R, 2)
    below += last_two

    # The same over columns. Tile t reaches from column 4t - 1 to 4t + 4: one of its six falls to the tile on its left,
    # one to that on its right. d[:, :, t + 1] are the columns 4t ... 4t + 3, for t from -1 to T.
    by_column = by_column.transpose(1, 0, 2)
    d = scratch.empty("odd", (4, 4 * R + 2, T + 2, channels), gx)
    inner, left = d[:3, :, 1:-1], d[3, :, :-2]
    xp.matmul(plan.B[1:4], by_column, out=inner.reshape(3, 4 * R + 2, -1).transpose(1, 0, 2))
    xp.matmul(plan.B[:1], by_column, out=left.reshape(4 * R + 2, 1, -1))
    d[3, :, -2] = 0
    last_two = scratch.empty("last two", (2, 4 * R + 2, T, channels), gx)
    xp.matmul(plan.B[4:], by_column, out=last_two.reshape(2, 4 * R + 2, -1).transpose(1, 0, 2))
    d[3, :, 1:-1] += last_two[0]
    d[0, :, 2:-1] += last_two[1, :, :-1]  # the last one falls outside
    d = d[:, :, 1:-1]

    height, width, _ = gx.shape
    top = 4 * rows[0] - 1
    bottom = height if 4 * rows[1] >= height else 4 * rows[1] - 1
    lay_columns(d[:, max(-top, 0) :], gx[max(top, 0) : bottom])
    overhang = xp.empty((2, width, channels), gx.dtype)
    lay_columns(d[:, 4 * R :], overhang)
    return overhang
