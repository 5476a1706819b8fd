"""The first layer on a GPU: one kernel each way, and the forward's once more for what the backward needs to know.

With three channels there is next to nothing to compute for each number of y, so that the time goes to memory and to
launches: patches.py's steps, one by one, would write all of it some ten times. Here a thread of the forward has a tile
of 4x4 pixels in one filter, and neighbouring threads have neighbouring filters; the adjoint's has four pixels of x, for
which it gathers what the 3x3 around each has for it, filter by filter, so that no two threads write to one place.

The border is in the kernels' reckoning (ops/border.py): they get the rows and columns that lie beyond it, -1 for zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from string import Template
from types import ModuleType
from typing import Any

from ...backend import Array, get_xp
from ..border import Border, outside

_THREADS = 128  # in a block: the adjoint's hold many numbers each

_SOURCE = Template(
    r"""
typedef $type T;
enum { C = $channels, SIDE = 16 / sizeof(T) };  // so many numbers are read in one access

// What lies at place k of an axis with `length` places, of which -1 and `length` are copies; -1 for zero.
__device__ __forceinline__ int source(int k, int length, int before, int after) {
    return k >= 0 && k < length ? k : k == -1 ? before : k == length ? after : -1;
}

// Rows start ... start + rows - 1 of y = max(x * weight + bias, 0), from x (height, width, C): y (rows, width, filters)
// if `features`; of each tile's 16 numbers, where they are above zero, a bit each, if `keep`; and gF, of y's shape:
// gy, which has all rows, if `gradient` is 2, and zeros if it is 1.
extern "C" __global__ void __launch_bounds__($threads) first(
    const T* x, const T* weight, const T* bias, const T* gy, T* y, T* gF, unsigned short* signs,
    int count, int height, int width, int filters, int start, int rows, int above, int below, int left, int right,
    int features, int gradient, int keep) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    const int columns = (width + 3) / 4;
    const int n = place % filters, t = place / filters % columns, r = place / filters / columns;
    T w[9 * C], z[16];
    #pragma unroll
    for (int k = 0; k < 9 * C; ++k) w[k] = weight[k * filters + n];
    const T b = bias[n];
    #pragma unroll
    for (int k = 0; k < 16; ++k) z[k] = b;
    #pragma unroll
    for (int i = 0; i < 6; ++i) {
        const int from = source(start + 4 * r - 1 + i, height, above, below);
        #pragma unroll
        for (int j = 0; j < 6; ++j) {
            const int column = source(4 * t - 1 + j, width, left, right);
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                const T d = from < 0 || column < 0 ? T(0) : x[((long long)from * width + column) * C + c];
                #pragma unroll
                for (int k = 0; k < 9; ++k) {
                    const int h = i - k / 3, v = j - k % 3;
                    if (h >= 0 && h < 4 && v >= 0 && v < 4) z[4 * h + v] += d * w[k * C + c];
                }
            }
        }
    }
    unsigned short on = 0;
    #pragma unroll
    for (int k = 0; k < 16; ++k) {
        const int h = 4 * r + k / 4, v = 4 * t + k % 4;
        on |= (z[k] > T(0)) << k;
        if (h < rows && v < width) {
            const long long at = ((long long)h * width + v) * filters + n;
            if (features) y[at] = z[k] <= T(0) ? T(0) : z[k];  // and not a number stays so
            if (gradient) gF[at] = gradient == 2 ? gy[(long long)start * width * filters + at] : T(0);
        }
    }
    if (keep) signs[place] = on;
}

// V numbers that lie side by side.
template <class N, int V> struct alignas(sizeof(N) * V) Some { N value[V]; };

// Added to sums (P, C): the gradient at P places side by side, from (h, w) on, of x with its frame; of g (rows, width,
// filters), the rows start ... of a picture, where `signs` are set.
template <int P, int V> __device__ __forceinline__ void gather(
    const T* g, const unsigned short* signs, const T* weight, int h, int w, T (*sums)[C],
    int width, int filters, int start, int rows) {
    for (int n = 0; n < filters; n += V) {
        #pragma unroll
        for (int i = 0; i < 3; ++i) {
            const int row = h + 1 - i - start;
            if (row < 0 || row >= rows) continue;
            Some<T, V> taps[3 * C];
            #pragma unroll
            for (int k = 0; k < 3 * C; ++k)
                taps[k] = *(const Some<T, V>*)(weight + (3 * i * C + k) * filters + n);
            #pragma unroll
            for (int k = 0; k < P + 2; ++k) {
                const int column = w - 1 + k;
                if (column < 0 || column >= width) continue;
                const Some<T, V> there = *(const Some<T, V>*)(g + ((long long)row * width + column) * filters + n);
                const Some<unsigned short, V> on = *(const Some<unsigned short, V>*)(
                    signs + ((long long)(row / 4) * ((width + 3) / 4) + column / 4) * filters + n);
                #pragma unroll
                for (int v = 0; v < V; ++v) {
                    const T value = on.value[v] >> (row % 4 * 4 + column % 4) & 1 ? there.value[v] : T(0);
                    #pragma unroll
                    for (int j = 0; j < 3; ++j) {
                        const int p = k - 2 + j;
                        if (p >= 0 && p < P)
                            #pragma unroll
                            for (int c = 0; c < C; ++c) sums[p][c] += value * taps[j * C + c].value[v];
                    }
                }
            }
        }
    }
}

// The adjoint of `first`: what the rows start ... start + rows - 1 of gy, in g, have for rows top ... of gx (height,
// width, C); added to it, if `add`.
extern "C" __global__ void __launch_bounds__($threads) first_adjoint(
    const T* g, const unsigned short* signs, const T* weight, T* gx,
    int count, int height, int width, int filters, int start, int rows, int above, int below, int left, int right,
    int top, int add) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    const int columns = (width + 3) / 4;
    const int w = place % columns * 4, h = top + place / columns;
    T sums[4][C] = {};
    for (int copy = 0; copy < 3; ++copy) {  // the row itself, and those beyond the border that are copies of it
        if ((copy == 1 && above != h) || (copy == 2 && below != h)) continue;
        const int from = copy == 0 ? h : copy == 1 ? -1 : height;
        if (filters % SIDE == 0) gather<4, SIDE>(g, signs, weight, from, w, sums, width, filters, start, rows);
        else gather<4, 1>(g, signs, weight, from, w, sums, width, filters, start, rows);
        #pragma unroll
        for (int p = 0; p < 4; ++p) {
            if (left == w + p) gather<1, 1>(g, signs, weight, from, -1, sums + p, width, filters, start, rows);
            if (right == w + p) gather<1, 1>(g, signs, weight, from, width, sums + p, width, filters, start, rows);
        }
    }
    #pragma unroll
    for (int p = 0; p < 4; ++p)
        if (w + p < width)
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                T* target = gx + ((long long)h * width + w + p) * C + c;
                *target = add ? *target + sums[p][c] : sums[p][c];
            }
}
"""
)


def source(dtype: str, channels: int) -> str:
    """The kernels, in CUDA C++, for float32 or float64 and so many channels of x."""
    return _SOURCE.substitute(
        type={"float32": "float", "float64": "double"}[dtype], channels=channels, threads=_THREADS
    )


@functools.cache
def _kernels(xp: ModuleType, dtype: str, channels: int) -> dict[str, Any]:
    code = source(dtype, channels)
    return {name: xp.RawKernel(code, name) for name in ("first", "first_adjoint")}


class DeviceFirst:
    """The first layer of weight ``(3, 3, C, N)`` and bias ``(N,)`` on one picture x ``(H, W, C)``."""

    def __init__(self, x: Array, weight: Array, bias: Array, border: Border) -> None:
        xp = self._xp = get_xp(x, weight, bias)
        height, width, channels = x.shape
        self._x, self._weight, self._bias = (xp.ascontiguousarray(array) for array in (x, weight, bias))
        self._size = height, width, len(bias)
        self._rows, self._columns = ([-1, -1], [-1, -1])
        for found, kind, length in ((self._rows, border[0], height), (self._columns, border[1], width)):
            for place, copied in outside(kind, length):
                found[place >= 0] = copied
        self._kernels = _kernels(xp, x.dtype.name, channels)

    def features(self, y: Array) -> None:
        """The layer's output into y ``(H, W, N)``."""
        self._first((0, self._size[0]), y=y)

    def again(self, block: tuple[int, int], signs: Array, y: Array | None, gF: Array | None, gy: Array | None) -> None:
        """Of some rows: the ReLU's signs; y; and the gradient that others are added to, gy's rows or zeros."""
        self._first(block, signs, y, gF, gy)

    def _first(
        self,
        block: tuple[int, int],
        signs: Array | None = None,
        y: Array | None = None,
        gF: Array | None = None,
        gy: Array | None = None,
    ) -> None:
        _, width, filters = self._size
        rows = block[1] - block[0]
        count = -(-rows // 4) * -(-width // 4) * filters
        xp, x = self._xp, self._x
        others = [x if gy is None else gy, *(xp.empty(1, x.dtype) if array is None else array for array in (y, gF))]
        others.append(xp.empty(1, "uint16") if signs is None else signs)
        flags = (y is not None, 0 if gF is None else 1 + (gy is not None), signs is not None)
        self._launch("first", (self._x, self._weight, self._bias, *others), count, block, flags)

    def add_adjoint(self, g: Array, signs: Array, block: tuple[int, int], gx: Array, *, add: bool) -> None:
        """What g ``(rows, W, N)``, a block of rows of the gradient at y, has for gx ``(H, W, C)``."""
        height, width, _ = self._size
        start, stop = block
        top, bottom = max(start - 1, 0), min(stop + 1, height)
        ranges = [(top, bottom)]
        for beyond, row in zip((start == 0, stop == height), self._rows, strict=True):
            if beyond and row >= 0 and not any(first <= row < last for first, last in ranges):
                ranges.append((row, row + 1))  # it lies beyond the border, and is a copy of a row far away
        for first, last in ranges:
            count = (last - first) * -(-width // 4)
            self._launch("first_adjoint", (g, signs, self._weight, gx), count, block, (first, add))

    def _launch(
        self, name: str, arrays: Sequence[Array], count: int, block: tuple[int, int], flags: Sequence[int]
    ) -> None:
        start, stop = block
        integers = (count, *self._size, start, stop - start, *self._rows, *self._columns, *flags)
        arguments = (*arrays, *map(self._xp.int32, integers))
        self._kernels[name]((-(-count // _THREADS),), (_THREADS,), arguments)


def signs_size(rows: int, width: int, filters: int) -> int:
    """How many numbers of 16 bits `DeviceFirst.again` writes signs to."""
    return -(-rows // 4) * -(-width // 4) * filters
