"""The steps of winograd.py on a GPU: one kernel for what comes before the products, and one for what comes after.

A thread has one tile in one channel, and neighbouring threads have neighbouring channels, so that all of them read and
write long rows of memory. The lines that transform six numbers, or four, are made of the tables in
matrices.py; zeros cost nothing.

Every element of gx is written by the thread of its own tile, which gathers what the tiles around it have for it: no two
threads write to one place. Only where two pieces of work meet does each add its part, to zeros, one after the other;
a sum of two does not depend on the order.

Where the border is not zero, the kernels have pictures with its frame, one pixel wide (ops/border.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from string import Template
from types import ModuleType
from typing import Any

from ...backend import Array, get_xp, matmul
from ...workers import Scratch
from ..border import ZERO, Border, pad, pad_adjoint
from .matrices import AT, BT
from .tiles import Piece

_THREADS = 256  # in a block

_SOURCE = Template(
    r"""
typedef $type T;

// v = B^T d, y = A^T m and m = A g, on numbers that lie `from` and `to` apart.
__device__ __forceinline__ void Bt(const T* d, long long from, T* v, long long to) {
$Bt
}
__device__ __forceinline__ void At(const T* m, long long from, T* y, long long to) {
$At
}
__device__ __forceinline__ void A(const T* g, long long from, T* m, long long to) {
$A
}

// The thread's channel c, block column, row r of the piece, and picture n, where a piece has `rows` rows of blocks.
#define PLACES(rows, columns, each)                                                  \
    const int place = blockIdx.x * blockDim.x + threadIdx.x;                         \
    if (place >= count) return;                                                      \
    const int c = place % channels, block = place / channels % (columns);            \
    const int r = place / channels / (columns) % (rows);                             \
    const long long n = place / channels / (columns) / (rows), frequency = each;     \
    (void)n, (void)frequency;

// The same where the blocks are the tiles themselves, t.
#define PLACE(rows, each)                                                            \
    PLACES(rows, columns, each)                                                      \
    const int t = block;

#define INSIDE(h, w) ((h) >= 0 && (h) < height && (w) >= 0 && (w) < width)

// Of a picture with a frame, or with none (frame = 0): is (h, w) in it, and where?
#define FRAMED(h, w) ((h) >= -frame && (h) < height + frame && (w) >= -frame && (w) < width + frame)
#define INDEX(h, w) (((n * (height + 2 * frame) + (h) + frame) * (width + 2 * frame) + (w) + frame) * channels + c)

// x (n, height, width, channels), or framed, to V (36, count), B^T d B
extern "C" __global__ void __launch_bounds__($threads) transform(
    const T* x, T* V, int count, int height, int width, int channels, int start, int rows, int columns, int frame) {
    PLACE(rows, count)
    T d[36], e[36];
    const int top = 4 * (start + r) - 1, left = 4 * t - 1;
    #pragma unroll
    for (int i = 0; i < 6; ++i)
        #pragma unroll
        for (int j = 0; j < 6; ++j)
            d[6 * i + j] = FRAMED(top + i, left + j) ? x[INDEX(top + i, left + j)] : T(0);
    #pragma unroll
    for (int j = 0; j < 6; ++j) Bt(d + j, 6, e + j, 6);
    #pragma unroll
    for (int i = 0; i < 6; ++i) Bt(e + 6 * i, 1, V + 6 * i * frequency + place, frequency);
}

// M (36, count) to y (n, height, width, channels), A^T M A + bias; with `relu`, its signs, a bit for each of a tile's
// 16 numbers; with `pool`, the mean of each 2x2 window, and height and width are twice those of y.
extern "C" __global__ void __launch_bounds__($threads) outputs(
    const T* M, const T* bias, T* y, unsigned short* signs,
    int count, int height, int width, int channels, int start, int rows, int columns, int relu, int pool) {
    PLACE(rows, count)
    T m[36], e[24], z[16];
    #pragma unroll
    for (int k = 0; k < 36; ++k) m[k] = M[k * frequency + place];
    #pragma unroll
    for (int j = 0; j < 6; ++j) At(m + j, 6, e + j, 6);
    #pragma unroll
    for (int i = 0; i < 4; ++i) At(e + 6 * i, 1, z + 4 * i, 1);
    const T b = bias[c];
    unsigned short on = 0;
    #pragma unroll
    for (int k = 0; k < 16; ++k) {
        z[k] += b;
        if (relu) {
            on |= (z[k] > T(0)) << k;
            z[k] = z[k] <= T(0) ? T(0) : z[k];  // and not a number stays so
        }
    }
    if (relu) signs[place] = on;
    const int top = 4 * (start + r), left = 4 * t;
    if (pool) {
        #pragma unroll
        for (int i = 0; i < 2; ++i)
            #pragma unroll
            for (int j = 0; j < 2; ++j) {
                const int h = top / 2 + i, w = left / 2 + j, k = 8 * i + 2 * j;
                if (h < height / 2 && w < width / 2)
                    y[((n * (height / 2) + h) * (width / 2) + w) * channels + c]
                        = (z[k] + z[k + 1] + z[k + 4] + z[k + 5]) * T(0.25);
            }
    } else {
        #pragma unroll
        for (int i = 0; i < 4; ++i)
            #pragma unroll
            for (int j = 0; j < 4; ++j)
                if (INSIDE(top + i, left + j))
                    y[((n * height + top + i) * width + left + j) * channels + c] = z[4 * i + j];
    }
}

// The adjoint of `outputs`: gy, of y's shape, to M (36, count), A g A^T
extern "C" __global__ void __launch_bounds__($threads) outputs_adjoint(
    const T* gy, const unsigned short* signs, T* M,
    int count, int height, int width, int channels, int start, int rows, int columns, int relu, int pool) {
    PLACE(rows, count)
    T g[16], e[24];
    const int top = 4 * (start + r), left = 4 * t;
    const unsigned short on = relu ? signs[place] : 0xffff;
    #pragma unroll
    for (int i = 0; i < 4; ++i)
        #pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int h = top + i, w = left + j;
            T value = T(0);
            if (pool) {
                if (h / 2 < height / 2 && w / 2 < width / 2)
                    value = gy[((n * (height / 2) + h / 2) * (width / 2) + w / 2) * channels + c] * T(0.25);
            } else if (INSIDE(h, w)) {
                value = gy[((n * height + h) * width + w) * channels + c];
            }
            g[4 * i + j] = on >> (4 * i + j) & 1 ? value : T(0);
        }
    #pragma unroll
    for (int j = 0; j < 4; ++j) A(g + j, 4, e + j, 4);
    #pragma unroll
    for (int i = 0; i < 6; ++i) A(e + 4 * i, 1, M + 6 * i * frequency + place, frequency);
}

// What the tiles of one column, at one of its six column frequencies, have for the four rows of a block of gx: four
// rows of the tile itself, the last of the tile above, and the first of the one below. v is at the tile itself.
__device__ __forceinline__ void gather_rows(
    const T* v, long long frequency, long long tile_row, bool above, bool inside, bool below, T* e) {
    T d0 = T(0), d1 = T(0), d2 = T(0), d3 = T(0), d4 = T(0), d5 = T(0);
    if (inside) {
        d0 = v[0], d1 = v[frequency], d2 = v[2 * frequency];
        d3 = v[3 * frequency], d4 = v[4 * frequency], d5 = v[5 * frequency];
    }
    e[0] = $B1;
    e[1] = $B2;
    e[2] = $B3;
    e[3] = $B4;
    if (above) { const T* u = v - tile_row; e[0] += $B5_above; }
    if (below) { const T* u = v + tile_row; e[3] += $B0_below; }
}

// The adjoint of `transform`: V (36, n rows columns channels) to gx (n, height, width, channels), or framed. A thread
// has the block of pixels 4r ... 4r + 3, for r from one above the piece to one below it; there it only adds to the
// seams. With a frame, there is a column of blocks more on either side.
extern "C" __global__ void __launch_bounds__($threads) transform_adjoint(
    const T* V, T* gx, int count, int height, int width, int channels, int start, int rows, int blocks, int frame) {
    const int columns = blocks - 2 * frame;
    PLACES(rows + 2, blocks, (long long)count / (rows + 2) / blocks * rows * columns)
    const long long tile_row = (long long)columns * channels;
    const int own = r - 1, t = block - frame;  // tile row and column within the piece
    const bool above = own - 1 >= 0 && own - 1 < rows, inside = own >= 0 && own < rows, below = own + 1 < rows;
    const T* v = V + (n * rows + own) * tile_row + (long long)t * channels + c;
    T e[4][6] = {}, left[4] = {}, right[4] = {};
    if (t >= 0 && t < columns) {
        #pragma unroll
        for (int l = 0; l < 6; ++l) {
            T column[4];
            gather_rows(v + l * frequency, 6 * frequency, tile_row, above, inside, below, column);
            #pragma unroll
            for (int i = 0; i < 4; ++i) e[i][l] = column[i];
        }
    }
    if (t > 0)
        gather_rows(v - channels + 5 * frequency, 6 * frequency, tile_row, above, inside, below, left);
    if (t + 1 < columns)
        gather_rows(v + channels, 6 * frequency, tile_row, above, inside, below, right);
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int h = 4 * (start + own) + i;
        const int upper = 4 * start, lower = 4 * (start + rows);
        const bool seam = h == upper - 1 || h == upper || h == lower - 1 || h == lower;
        if (!inside && !seam) continue;
        const T d0 = e[i][0], d1 = e[i][1], d2 = e[i][2], d3 = e[i][3], d4 = e[i][4], d5 = e[i][5];
        T g[4];
        g[0] = $B1 + $left;
        g[1] = $B2;
        g[2] = $B3;
        g[3] = $B4 + $right;
        #pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int w = 4 * t + j;
            if (!FRAMED(h, w)) continue;
            T* target = gx + INDEX(h, w);
            *target = seam ? *target + g[j] : g[j];
        }
    }
}
"""
)


def _sum(coefficients: Sequence[int], term: Callable[[int], str]) -> str:
    """``4 * d0 - 5 * d2 + d4`` of (4, 0, -5, 0, 1, 0)."""
    text = ""
    for k, a in enumerate(coefficients):
        if a:
            sign = ("-" if a < 0 else "") if not text else (" - " if a < 0 else " + ")
            text += sign + ("" if abs(a) == 1 else f"{abs(a)} * ") + term(k)
    return text


def _lines(matrix: Sequence[Sequence[int]], result: str, argument: str) -> str:
    return "\n".join(
        f"    {result}[{i} * to] = {_sum(row, lambda k: f'{argument}[{k} * from]')};" for i, row in enumerate(matrix)
    )


def source(dtype: str) -> str:
    """The kernels, in CUDA C++, for float32 or float64."""
    B, A = tuple(zip(*BT, strict=True)), tuple(zip(*AT, strict=True))
    only_last, only_first = {k for k in range(6) if B[5][k]}, {k for k in range(6) if B[0][k]}
    assert (only_last, only_first) == ({5}, {0})  # a tile's outermost rows have one frequency: the gathering is cheap
    return _SOURCE.substitute(
        type={"float32": "float", "float64": "double"}[dtype],
        threads=_THREADS,
        Bt=_lines(BT, "v", "d"),
        At=_lines(AT, "y", "m"),
        A=_lines(A, "m", "g"),
        **{f"B{j}": _sum(B[j], lambda k: f"d{k}") for j in range(1, 5)},
        B5_above=_sum(B[5], lambda k: f"u[{k} * frequency]"),
        B0_below=_sum(B[0], lambda k: f"u[{k} * frequency]"),
        left=_sum(B[5], lambda k: "left[i]"),
        right=_sum(B[0], lambda k: "right[i]"),
    )


@functools.cache
def _kernels(xp: ModuleType, dtype: str) -> dict[str, Any]:
    code = source(dtype)
    return {name: xp.RawKernel(code, name) for name in ("transform", "transform_adjoint", "outputs", "outputs_adjoint")}


class DeviceTiles:
    """The steps for one call of an op, whose arrays are like `like`; as `HostTiles`."""

    def __init__(self, like: Array, border: Border) -> None:
        self._xp = get_xp(like)
        self._border = border
        self._frame = int(border != ZERO)
        self._kernels = _kernels(self._xp, like.dtype.name)

    def framed(self, x: Array) -> Array:
        """The pictures as `transform` takes them."""
        return pad(x, self._border) if self._frame else x

    def empty_gradient(self, shape: tuple[int, ...], like: Array) -> Array:
        """Memory for the gx of `add_transform_adjoint`: zeros, since the seams are added to."""
        n, height, width, channels = shape
        return self._xp.zeros((n, height + 2 * self._frame, width + 2 * self._frame, channels), like.dtype)

    def transform(self, x: Array, piece: Piece, scratch: Scratch, *, name: str = "") -> Array:
        """``B^T d B`` of a piece of the pictures x, from `framed`: ``(36, n R T, C)``."""
        x = self._xp.ascontiguousarray(x[piece.pictures])
        n, height, width, channels = self._unframed(x)
        columns = -(-width // 4)
        V = scratch.empty(name + "V", (36, n * (piece.stop - piece.start) * columns, channels), x)
        self._launch("transform", (x, V), V[0].size, (height, width, channels), piece, columns, self._frame)
        return V

    def products(self, V: Array, U: Array, scratch: Scratch) -> Array:
        """``V[f] @ U[f]`` of each frequency: ``(36, n R T, N)``."""
        return matmul(V, U, out=scratch.empty("M", (*V.shape[:2], U.shape[2]), V))

    def products_adjoint(self, M: Array, U: Array, scratch: Scratch) -> Array:
        """``M[f] @ U[f]^T``: ``(36, n R T, C)``."""
        return matmul(M, U.swapaxes(1, 2), out=scratch.empty("V", (*M.shape[:2], U.shape[1]), M))

    def add_transform_adjoint(self, V: Array, gx: Array, piece: Piece, scratch: Scratch) -> None:
        """``B V B^T``, overlapping tiles added up, into the piece's part of gx, from `empty_gradient`."""
        part = gx[piece.pictures]
        n, height, width, channels = self._unframed(part)
        columns = -(-width // 4) + 2 * self._frame
        count = n * (piece.stop - piece.start + 2) * columns * channels
        size = (height, width, channels)
        self._launch("transform_adjoint", (V, part), count, size, piece, columns, self._frame)

    def finished(self, gx: Array) -> Array:
        """gx, once all pieces are in it, ``(n, H, W, C)``."""
        return pad_adjoint(gx, self._border) if self._frame else gx

    def _unframed(self, x: Array) -> tuple[int, ...]:
        """Its shape without the frame."""
        n, height, width, channels = x.shape
        return n, height - 2 * self._frame, width - 2 * self._frame, channels

    def write_outputs(
        self, M: Array, bias: Array, y: Array, piece: Piece, scratch: Scratch, *, relu: bool, pool: bool
    ) -> Array | None:
        """``A^T M A + bias``, the ReLU and the pooling, into the piece's part of y; returns the ReLU's signs."""
        xp = self._xp
        part = y[piece.pictures]
        n, height, width, filters = part.shape
        signs = xp.empty(M[0].size if relu else 1, "uint16")
        k = 2 if pool else 1
        columns = M.shape[1] // (n * (piece.stop - piece.start))
        size = (k * height, k * width, filters)
        bias = xp.ascontiguousarray(bias)  # a kernel sees no strides
        self._launch("outputs", (M, bias, part, signs), M[0].size, size, piece, columns, relu, pool)
        return signs if relu else None

    def outputs_adjoint(
        self, gy: Array, width: int, piece: Piece, signs: Array | None, scratch: Scratch, *, pool: bool
    ) -> Array:
        """``A g A^T`` of a piece of gy, back through the pooling and the ReLU: ``(36, n R T, N)``."""
        xp = self._xp
        gy = xp.ascontiguousarray(gy[piece.pictures])
        n, height, gy_width, filters = gy.shape
        columns = -(-width // 4)
        M = scratch.empty("M", (36, n * (piece.stop - piece.start) * columns, filters), gy)
        relu = signs is not None
        k = 2 if pool else 1
        size = (k * height, k * gy_width, filters)
        arrays = (gy, signs if relu else xp.empty(1, "uint16"), M)
        self._launch("outputs_adjoint", arrays, M[0].size, size, piece, columns, relu, pool)
        return M

    def _launch(
        self,
        name: str,
        arrays: Sequence[Array],
        count: int,
        size: Sequence[int],
        piece: Piece,
        columns: int,
        *flags: int,
    ) -> None:
        """Run a kernel in `count` threads. Its integers have 32 bits; CuPy would pass Python's as 64."""
        integers = (count, *size, piece.start, piece.stop - piece.start, columns, *flags)
        arguments = (*arrays, *map(self._xp.int32, integers))
        self._kernels[name]((-(-count // _THREADS),), (_THREADS,), arguments)
