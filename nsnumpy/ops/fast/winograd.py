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
the ReLU, one bit per element that says where it was on, and the average pooling. On the CPU each step is an array
operation (host.py); on a GPU all steps on one side of the products are one kernel (device.py).

References
----------
[1] Lavin, Gray 2016, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308, equation 8 and section 4.3.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType

from ...backend import Array, get_xp, matmul, on_host
from ...workers import Blocks, Scratch, Workers
from ..border import ZERO, Border
from . import order
from .device import DeviceTiles
from .host import FEW, HostTiles
from .matrices import G
from .order import Job, done, frequencies, in_step
from .tiles import Piece

_CHANNELS = 16  # whose weights are transformed at a time, in float64: never a float64 copy of all of them
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
    g = _weight_transform(xp, "float64")
    _, _, channels, filters = weight.shape
    U = xp.empty((6, 6, channels, filters), weight.dtype)
    for c in range(0, channels, _CHANNELS):
        some = slice(c, c + _CHANNELS)
        rows = xp.tensordot(g, weight[:, :, some].astype("float64"), (1, 0))
        U[:, :, some] = xp.tensordot(g, rows, (1, 1)).swapaxes(0, 1)
    return U.reshape(36, channels, filters)


# The map is linear in x but for the bias, so the backward keeps nothing of x.
def winograd_forward(x: Array, U: Array, bias: Array, workers: Workers | None = None, border: Border = ZERO) -> Array:
    """`conv_forward` with `winograd_weight`'s U in place of the weight.

    Parameters
    ----------
    x : array ``(..., H, W, C_in)``, float
    U : array ``(36, C_in, C_out)`` of x's dtype
    bias : array ``(C_out,)`` of x's dtype
    workers : Workers, or None for one thread
    border : (rows, columns)
        See ops/border.py.

    Returns
    -------
    y : array ``(..., H, W, C_out)``

    Raises
    ------
    ValueError
        If x has another number of channels than U.
    TypeError
        If the arguments are arrays of different kinds (NumPy and CuPy) or dtypes.
    """
    return _forward(x, U, bias, workers, border, relu=False, pool=False)[0]


def winograd_backward(gy: Array, U: Array, workers: Workers | None = None, border: Border = ZERO) -> Array:
    """The adjoint of `winograd_forward` in x: `conv_backward` with U in place of the weight.

    Parameters
    ----------
    gy : array ``(..., H, W, C_out)``, float
    U : array ``(36, C_in, C_out)``
    workers, border : as in the forward

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    """
    return _backward(gy, U, gy.shape[-3:-1], None, workers, border, pool=False)


# The map is linear in U, too; this gradient keeps x. (Of a zero border alone: it is how VGG is trained.)
def winograd_backward_weight(
    gy: Array, x: Array, U: Array, workers: Workers | None = None
) -> tuple[Array, Array, Array]:
    """All three gradients of `winograd_forward`, which share most of their steps.

    In the notation above, with g for gy, the gradient with respect to U[f] is the sum over tiles
    ``(B^T d B)[f]^T @ (A g A^T)[f]``, and that with respect to the weight ``G^T gU G``.

    Parameters
    ----------
    gy : array ``(..., H, W, C_out)``, float
    x : array ``(..., H, W, C_in)``
    U : array ``(36, C_in, C_out)``
    workers : Workers, or None for one thread

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    gweight : array ``(3, 3, C_in, C_out)``
    gbias : array ``(C_out,)``

    Raises
    ------
    ValueError
        If x has another number of channels than U, or gy is not of `winograd_forward`'s shape.
    """
    xp = get_xp(gy, x, U)
    workers = workers or Workers(1)
    _check_dtypes(gy, x, U)
    _check_channels(x, U)
    *_, height, width, channels = x.shape
    filters = U.shape[2]
    if gy.shape != (*x.shape[:-1], filters):
        raise ValueError(f"gy of shape {(*x.shape[:-1], filters)} expected, {gy.shape} given")
    batch = math.prod(x.shape[:-3])
    pictures, gradients = x.reshape(batch, height, width, channels), gy.reshape(batch, height, width, filters)
    tiles = _tiles(x, ZERO)
    gx = tiles.empty_gradient(pictures.shape, x)

    def work(pieces: list[Piece], scratch: Scratch) -> Array:
        gU = xp.zeros(U.shape, x.dtype)
        for piece in pieces:
            M = tiles.outputs_adjoint(gradients, width, piece, None, scratch, pool=False)
            V = tiles.transform(pictures, piece, scratch, name="x ")
            gU += matmul(V.swapaxes(1, 2), M, out=scratch.empty("gU", U.shape, x))
            tiles.add_transform_adjoint(tiles.products_adjoint(M, U, scratch), gx, piece, scratch)
        return gU

    pieces = _pieces(len(pictures), (height, width), U, workers)
    shares = [pieces[k :: workers.threads] for k in range(min(workers.threads, len(pieces)))]
    gU = sum(workers.map(work, shares), xp.zeros(U.shape, x.dtype))  # in this order, whichever was ready first
    gU = gU.reshape(6, 6, channels, filters)
    g = _weight_transform(xp, x.dtype.name)
    by_column = matmul(g.T, gU.swapaxes(0, 1).reshape(6, -1)).reshape(3, 6, -1)
    gweight = matmul(g.T, by_column.swapaxes(0, 1).reshape(6, -1)).reshape(3, 3, channels, filters)
    return gx.reshape(x.shape), gweight, gy.reshape(-1, filters).sum(axis=0)


# The backward keeps the picture's height and width, and one bit per element: where the ReLU was on, in the order of
# tiles, stripe by stripe.
def winograd_relu_forward(
    x: Array, U: Array, bias: Array, workers: Workers | None = None, border: Border = ZERO, *, pool: bool = False
) -> tuple[Array, list[Array]]:
    """``max(conv(x), 0)``, followed by the 2x2 average pooling if `pool`, and the signs that the backward needs.

    Parameters
    ----------
    x, U, bias, workers, border : as in `winograd_forward`
    pool : bool
        As `avgpool_forward`. What is pooled then never exists as a whole.

    Returns
    -------
    y : array ``(..., H, W, C_out)``, or ``(..., H//2, W//2, C_out)``
    signs : list of uint8 arrays
    """
    return _forward(x, U, bias, workers, border, relu=True, pool=pool)


def winograd_relu_backward(
    gy: Array,
    U: Array,
    signs: list[Array],
    size: tuple[int, int],
    workers: Workers | None = None,
    border: Border = ZERO,
    *,
    pool: bool = False,
) -> Array:
    """The gradient with respect to the x of `winograd_relu_forward`.

    Parameters
    ----------
    gy : array of y's shape
    U, workers, border, pool : as in the forward
    signs : from the forward, with as many workers
    size : (H, W) of x

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    """
    return _backward(gy, U, size, signs, workers, border, pool=pool)


def _pieces(batch: int, size: tuple[int, ...], U: Array, workers: Workers) -> list[Piece]:
    """How the work is cut up: a large picture into stripes, a batch of small ones into groups of whole pictures."""
    columns, stripes = winograd_stripes(size, U.shape[1] + U.shape[2], U.dtype.itemsize, workers)
    rows = -(-size[0] // 4)
    bytes_each = columns * rows * 36 * (U.shape[1] + U.shape[2]) * U.dtype.itemsize
    if batch == 1 or bytes_each > workers.block_bytes:
        return [Piece(n, n + 1, *stripe) for n in range(batch) for stripe in stripes]
    return [Piece(*group, 0, rows) for group in workers.blocks(batch, bytes_each, -(-order.TILES // (columns * rows)))]


def winograd_stripes(size: tuple[int, ...], channels: int, itemsize: int, workers: Workers) -> tuple[int, Blocks]:
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
    stripes : sequence of (first, last + 1) tile row
    """
    rows, columns = (-(-n // 4) for n in size)
    least = max(_ROWS, -(-order.TILES // columns))
    return columns, workers.blocks(rows, columns * 36 * channels * itemsize, least)


def winograd_scratch(
    size: tuple[int, ...], channels: int, filters: int, itemsize: int, workers: Workers, *, on_device: bool
) -> dict[str, int]:
    """The elements of the scratch that a thread needs under each name, forward and backward, for one picture of (H, W).

    On a GPU: V and M.
    """
    T, stripes = winograd_stripes(size, channels + filters, itemsize, workers)
    R = stripes.longest
    C, N = channels, filters
    if on_device:
        return {"V": 36 * R * T * C, "M": 36 * R * T * N}
    columns = (4 * R + 2) * T * C
    tiles = -(-size[0] // 4) * T
    apart = in_step(tiles, workers)
    turns = max(6 * columns, 24 * R * T * N, 0 if apart else 36 * R * T * max(C, N))
    few = frequencies(workers).longest if apart else 36
    rows = tiles if apart else R * T
    return {
        "even": turns,
        "odd": turns,
        "last two": max(12 * R * T * C, 2 * columns),
        "zeros": 16 * R * T * N,
        "signs": 2 * 16 * R * T * N // itemsize,
        "turned": few * rows * (C + N) if rows <= FEW else 0,
        "in step": 2 * 36 * tiles * max(C, N) // workers.threads if apart else 0,  # of one thread for all
    }


def _forward(
    x: Array, U: Array, bias: Array, workers: Workers | None, border: Border, *, relu: bool, pool: bool
) -> tuple[Array, list[Array]]:
    xp = get_xp(x, U, bias)
    workers = workers or Workers(1)
    *batch, height, width, channels = x.shape
    _check_dtypes(x, U, bias)
    _check_channels(x, U)
    x = x.reshape(-1, height, width, channels)
    k = 2 if pool else 4
    y = xp.empty((len(x), height * k // 4, width * k // 4, U.shape[2]), x.dtype)
    tiles = _tiles(x, border)
    pictures = tiles.framed(x)

    def transform(job: Job, scratch: Scratch, *out: Array) -> Array:
        return tiles.transform(pictures, job[1], scratch, *out)

    def write(job: Job, M: Array, scratch: Scratch) -> Array | None:
        return tiles.write_outputs(M, bias, y, job[1], scratch, relu=relu, pool=pool)

    pieces = _pieces(len(x), (height, width), U, workers)
    counts = -(-height // 4), -(-width // 4)
    signs = done(transform, tiles.products, write, pieces, counts, U, (channels, U.shape[2]), workers)
    return y.reshape(*batch, *y.shape[1:]), signs


@functools.cache
def _weight_transform(xp: ModuleType, dtype: str) -> Array:
    return xp.asarray(G, dtype)


def _tiles(like: Array, border: Border) -> HostTiles | DeviceTiles:
    return HostTiles(like, border) if on_host(like) else DeviceTiles(like, border)


def _check_dtypes(*arrays: Array) -> None:
    """A kernel would read other numbers for what they are not."""
    dtype = arrays[0].dtype
    if dtype not in ("float32", "float64") or any(array.dtype != dtype for array in arrays):
        given = ", ".join(str(array.dtype) for array in arrays)
        raise TypeError(f"arrays of one dtype, float32 or float64, expected; {given} given")


def _check_channels(x: Array, U: Array) -> None:
    if x.shape[-1] != U.shape[1]:
        raise ValueError(f"{U.shape[1]} channels expected, {x.shape[-1]} given; x.shape={x.shape}")


def _backward(
    gy: Array,
    U: Array,
    size: tuple[int, ...],
    signs: list[Array] | None,
    workers: Workers | None,
    border: Border,
    *,
    pool: bool,
) -> Array:
    get_xp(gy, U)
    _check_dtypes(gy, U)
    workers = workers or Workers(1)
    batch = gy.shape[:-3]
    gy = gy.reshape(-1, *gy.shape[-3:])
    tiles = _tiles(gy, border)
    gx = tiles.empty_gradient((len(gy), *size, U.shape[1]), gy)

    def cut(job: Job, scratch: Scratch, *out: Array) -> Array:
        index, piece = job
        on = None if signs is None else signs[index]
        return tiles.outputs_adjoint(gy, size[1], piece, on, scratch, *out, pool=pool)

    def add(job: Job, V: Array, scratch: Scratch) -> None:
        tiles.add_transform_adjoint(V, gx, job[1], scratch)

    pieces = _pieces(len(gy), size, U, workers)
    counts = -(-size[0] // 4), -(-size[1] // 4)
    done(cut, tiles.products_adjoint, add, pieces, counts, U, (U.shape[2], U.shape[1]), workers)
    return tiles.finished(gx).reshape(*batch, *size, U.shape[1])
