"""The first layer on a GPU: one kernel forward, one that makes the features again for what the backward needs of them,
and one that sends the gradient back.

With three channels there is next to nothing to compute for each number of y, so that the time goes to memory and to
launches: patches.py's steps, one by one, would write all of it some ten times. Here a thread of the forward has a tile
of 4x4 pixels in one filter, and neighbouring threads have neighbouring filters; the adjoint's has four pixels of x, for
which it gathers what the 3x3 around each has for it, filter by filter, so that no two threads write to one place.

A term of style adds w (F K + b) to what comes from above (losses.py), and that needs all filters of a position at once.
So the thread in between has one position, or two, in all filters: it holds F in registers, adds the product, sends the
sum through the ReLU and writes it where it read what came from above. F is never in memory again: with 64 filters and
2048 x 2048 pixels that is 1 GB.

The border is in the kernels' reckoning (ops/border.py): they get the rows and columns that lie beyond it, -1 for zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from string import Template
from types import ModuleType
from typing import Any

from ...backend import Array, aligned, get_xp
from ...workers import Scratch
from ..border import Border, outside
from .inner import inner

_THREADS = 128  # in a block: each holds many numbers

Add = Callable[[Array, slice, Array, Scratch], None]
"""As `patches_relu_backward` takes it. It may have an attribute `affine`: a list of `Affine` that says the same; and
a method `keep`, which is then told the squared norms of these, from a position on."""
Affine = tuple[Array, Array | None, Array | None]
"""``K (N, N)``, ``b (N,)`` or None for zero, and weights ``w (M,)`` or None for ones: a term whose gradient is
``w_k (F_k K + b)`` at position k."""

_SOURCE = Template(
    r"""
typedef $type T;
enum {
    C = $channels, N = $filters, TAPS = 9 * C,
    V = $bytes / sizeof(T),  // so many numbers are read in one access
    P = 8 / sizeof(T)  // positions of a thread that holds all filters
};

// What lies at place k of an axis with `length` places, of which -1 and `length` are copies; -1 for zero.
__device__ __forceinline__ int source(int k, int length, int before, int after) {
    return k >= 0 && k < length ? k : k == -1 ? before : k == length ? after : -1;
}

// Rows start ... start + rows - 1 of y = max(x * weight + bias, 0), from x (height, width, C): y (rows, width, N).
extern "C" __global__ void __launch_bounds__($threads) first(
    const T* x, const T* weight, const T* bias, T* y,
    int count, int height, int width, int above, int below, int left, int right, int start, int rows) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    const int columns = (width + 3) / 4;
    const int n = place % N, t = place / N % columns, r = place / N / columns;
    T w[TAPS], z[16];
    #pragma unroll
    for (int k = 0; k < TAPS; ++k) w[k] = weight[k * N + n];
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
    #pragma unroll
    for (int k = 0; k < 16; ++k) {
        const int h = 4 * r + k / 4, v = 4 * t + k % 4;
        if (h < rows && v < width)
            y[((long long)h * width + v) * N + n] = z[k] <= T(0) ? T(0) : z[k];  // and not a number stays so
    }
}

// V numbers that lie side by side.
struct alignas($bytes) Some { T value[V]; };

// g (height, width, N), or zero if `fresh`, becomes g + w (F K + b) where F = y > 0, and zero elsewhere: F K is there
// if `term` is 1 or more, b if 2 or more, and w (height, width) if `weighted`. The length of w (F K + b) goes to
// lengths (count), each thread's part of it.
extern "C" __global__ void __launch_bounds__($threads) first_gradient(
    const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
    const T* __restrict__ K, const T* __restrict__ b, const T* __restrict__ w,
    T* __restrict__ lengths, T* __restrict__ g,
    int count, int height, int width, int above, int below, int left, int right,
    int fresh, int term, int weighted) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    const int across = (width + P - 1) / P;
    const int column = place % across * P, row = place / across;
    T F[P][N];
    #pragma unroll
    for (int n = 0; n < N; ++n)
        #pragma unroll
        for (int p = 0; p < P; ++p) F[p][n] = bias[n];
    #pragma unroll 1
    for (int i = 0; i < 3; ++i) {
        const int from = source(row - 1 + i, height, above, below);
        if (from < 0) continue;
        #pragma unroll 1
        for (int j = 0; j < 3; ++j)
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                T d[P];
                #pragma unroll
                for (int p = 0; p < P; ++p) {
                    const int at = source(column + p - 1 + j, width, left, right);
                    d[p] = at < 0 ? T(0) : x[((long long)from * width + at) * C + c];
                }
                const T* taps = weight + ((3 * i + j) * C + c) * N;
                #pragma unroll
                for (int n = 0; n < N; n += V) {
                    const Some tap = *(const Some*)(taps + n);
                    #pragma unroll
                    for (int v = 0; v < V; ++v)
                        #pragma unroll
                        for (int p = 0; p < P; ++p) F[p][n + v] += d[p] * tap.value[v];
                }
            }
    }
    unsigned on[P][(N + 31) / 32] = {};  // a bit for each filter: registers have no numbers that a loop could count
    T share[P];
    #pragma unroll
    for (int p = 0; p < P; ++p) {
        #pragma unroll
        for (int n = 0; n < N; ++n) {
            on[p][n / 32] |= (unsigned)(F[p][n] > T(0)) << n % 32;
            F[p][n] = F[p][n] <= T(0) ? T(0) : F[p][n];
        }
        share[p] = weighted && column + p < width ? w[(long long)row * width + column + p] : T(1);
    }
    T square = 0;
    T* target = g + ((long long)row * width + column) * N;
    #pragma unroll
    for (int word = 0; word < (N + 31) / 32; ++word) {
        const int last = N < 32 * word + 32 ? N : 32 * word + 32;
        #pragma unroll 1
        for (int n = 32 * word; n < last; n += V) {
            T sums[P][V];
            #pragma unroll
            for (int v = 0; v < V; ++v)
                #pragma unroll
                for (int p = 0; p < P; ++p) sums[p][v] = term > 1 ? b[n + v] : T(0);
            if (term) {
                #pragma unroll
                for (int m = 0; m < N; ++m) {
                    const Some k = *(const Some*)(K + m * N + n);
                    #pragma unroll
                    for (int v = 0; v < V; ++v)
                        #pragma unroll
                        for (int p = 0; p < P; ++p) sums[p][v] += F[p][m] * k.value[v];
                }
            }
            #pragma unroll
            for (int p = 0; p < P; ++p) {
                if (column + p >= width) continue;
                Some* there = (Some*)(target + p * N + n);
                Some sum = {};
                if (!fresh) sum = *there;
                #pragma unroll
                for (int v = 0; v < V; ++v) {
                    const T own = share[p] * sums[p][v];
                    square += own * own;
                    sum.value[v] = on[p][word] >> (n % 32 + v) & 1 ? sum.value[v] + own : T(0);
                }
                *there = sum;
            }
        }
    }
    if (term) lengths[place] = sqrt(square);
}

// Added to sums (PLACES, C): the gradient at that many places side by side, from (h, w) on, of x with its frame.
template <int PLACES> __device__ __forceinline__ void gather(
    const T* g, const T* weight, int h, int w, T (*sums)[C], int height, int width) {
    for (int n = 0; n < N; n += V) {
        #pragma unroll
        for (int i = 0; i < 3; ++i) {
            const int row = h + 1 - i;
            if (row < 0 || row >= height) continue;
            Some taps[3 * C];
            #pragma unroll
            for (int k = 0; k < 3 * C; ++k) taps[k] = *(const Some*)(weight + (3 * i * C + k) * N + n);
            #pragma unroll
            for (int k = 0; k < PLACES + 2; ++k) {
                const int column = w - 1 + k;
                if (column < 0 || column >= width) continue;
                const Some there = *(const Some*)(g + ((long long)row * width + column) * N + n);
                #pragma unroll
                for (int v = 0; v < V; ++v)
                    #pragma unroll
                    for (int j = 0; j < 3; ++j) {
                        const int p = k - 2 + j;
                        if (p >= 0 && p < PLACES)
                            #pragma unroll
                            for (int c = 0; c < C; ++c) sums[p][c] += there.value[v] * taps[j * C + c].value[v];
                    }
            }
        }
    }
}

// The adjoint of the convolution: gx (height, width, C) of g (height, width, N), what the ReLU has let through.
extern "C" __global__ void __launch_bounds__($threads) first_adjoint(
    const T* g, const T* weight, T* gx,
    int count, int height, int width, int above, int below, int left, int right) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    const int columns = (width + 3) / 4;
    const int w = place % columns * 4, h = place / columns;
    T sums[4][C] = {};
    for (int copy = 0; copy < 3; ++copy) {  // the row itself, and those beyond the border that are copies of it
        if ((copy == 1 && above != h) || (copy == 2 && below != h)) continue;
        const int from = copy == 0 ? h : copy == 1 ? -1 : height;
        gather<4>(g, weight, from, w, sums, height, width);
        #pragma unroll
        for (int p = 0; p < 4; ++p) {
            if (left == w + p) gather<1>(g, weight, from, -1, sums + p, height, width);
            if (right == w + p) gather<1>(g, weight, from, width, sums + p, height, width);
        }
    }
    #pragma unroll
    for (int p = 0; p < 4; ++p)
        if (w + p < width)
            #pragma unroll
            for (int c = 0; c < C; ++c) gx[((long long)h * width + w + p) * C + c] = sums[p][c];
}
"""
)


def source(dtype: str, channels: int, filters: int) -> str:
    """The kernels, in CUDA C++, for float32 or float64, so many channels of x, and so many of y."""
    kind, itemsize = {"float32": ("float", 4), "float64": ("double", 8)}[dtype]
    together = itemsize if filters * itemsize % 16 else 16
    return _SOURCE.substitute(type=kind, channels=channels, filters=filters, threads=_THREADS, bytes=together)


@functools.cache
def _kernels(xp: ModuleType, dtype: str, channels: int, filters: int) -> dict[str, Any]:
    code = source(dtype, channels, filters)
    return {name: xp.RawKernel(code, name) for name in ("first", "first_gradient", "first_adjoint")}


class DeviceFirst:
    """The first layer, of weight ``(3, 3, C, N)`` and bias ``(N,)``, on one picture x ``(H, W, C)``."""

    def __init__(self, x: Array, weight: Array, bias: Array, border: Border) -> None:
        self._xp = get_xp(x, weight, bias)
        height, width, channels = x.shape
        if weight.shape != (3, 3, channels, len(bias)):
            raise ValueError(f"a weight of shape {(3, 3, channels, len(bias))} expected, {weight.shape} given")
        self._x, self._weight, self._bias = map(aligned, (x, weight, bias))
        self._size, self.filters = (height, width), len(bias)
        rows, columns = [-1, -1], [-1, -1]
        for found, kind, length in ((rows, border[0], height), (columns, border[1], width)):
            for place, copied in outside(kind, length):
                found[place >= 0] = copied
        self._border = *rows, *columns
        self._kernels = _kernels(self._xp, x.dtype.name, channels, len(bias))

    def features(self, y: Array, rows: tuple[int, int]) -> None:
        """The rows start ... stop - 1 of the layer's output, into y ``(stop - start, W, N)``."""
        start, stop = rows
        count = -(-(stop - start) // 4) * -(-self._size[1] // 4) * self.filters
        self._launch("first", (self._x, self._weight, self._bias, y), count, (start, stop - start))

    def add_term(self, g: Array, K: Array | None, b: Array | None, w: Array | None, *, fresh: bool) -> Array | None:
        """g ``(H, W, N)``, or zero if it is fresh memory, with `Affine`'s term (none if K is None), through the ReLU:
        in place; returns the square of the term's norm, before the ReLU.

        Again for each further term: what the ReLU stops, it stops again.
        """
        height, width = self._size
        positions = 8 // g.itemsize  # the kernel's P
        flags = (fresh, 0 if K is None else 1 if b is None else 2, w is not None)
        term = (self._bias if array is None else aligned(array) for array in (K, b, w))
        count = height * -(-width // positions)
        lengths = self._xp.empty(1 if K is None else count, g.dtype)
        arrays = (self._x, self._weight, self._bias, *term, lengths, g)
        self._launch("first_gradient", arrays, count, flags)
        return None if K is None else inner(lengths, lengths)

    def adjoint(self, g: Array, gx: Array) -> None:
        """The convolution's, of what the ReLU has let through, into gx ``(H, W, C)``."""
        height, width = self._size
        self._launch("first_adjoint", (g, self._weight, gx), height * -(-width // 4), ())

    def _launch(self, name: str, arrays: Sequence[Array], count: int, numbers: Sequence[int]) -> None:
        """Run a kernel in `count` threads. Its integers have 32 bits; CuPy would pass Python's as 64."""
        if any(array.dtype != self._x.dtype for array in arrays):  # it would read other numbers for what they are not
            raise TypeError(f"arrays of {self._x.dtype} expected, {', '.join(str(a.dtype) for a in arrays)} given")
        if count:
            integers = map(self._xp.int32, (count, *self._size, *self._border, *numbers))
            self._kernels[name]((-(-count // _THREADS),), (_THREADS,), (*arrays, *integers))
