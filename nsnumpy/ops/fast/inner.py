"""Inner products in float64 of numbers of any precision: a line search needs a loss to more digits than float32 has.

CuPy would sum float32 in float64 by a kernel that it compiles with CUB's headers, each for some seconds at the first
run, where a CUDA toolkit is installed. Here one small kernel leaves sums in float64, and for these CuPy brings code.
"""

from __future__ import annotations

import functools
from string import Template
from types import ModuleType
from typing import Any

from ...backend import Array, get_xp, on_host

_THREADS, _SUMS = 256, 1 << 16  # in a block; in all, at most

_SOURCE = Template(
    r"""
// Of a and b (size), each thread's share, every `count`-th product, to sums (count).
extern "C" __global__ void inner_product(const $type* a, const $type* b, double* sums, int count, long long size) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    double sum = 0;
    for (long long k = place; k < size; k += count) sum += (double)a[k] * b[k];
    sums[place] = sum;
}
"""
)


def source(dtype: str) -> str:
    """The kernel, in CUDA C++, for float32 or float64."""
    return _SOURCE.substitute(type={"float32": "float", "float64": "double"}[dtype])


@functools.cache
def _kernel(xp: ModuleType, dtype: str) -> Any:
    return xp.RawKernel(source(dtype), "inner_product")


def inner(a: Array, b: Array) -> Array:
    """``sum a b`` over all elements, in float64; a zero-dimensional array on their device.

    Parameters
    ----------
    a, b : arrays of one shape and dtype, float32 or float64
    """
    xp = get_xp(a, b)
    if on_host(a):
        return (a * b).sum(dtype="float64")
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        raise ValueError(f"arrays of one kind expected; {a.dtype} {a.shape}, {b.dtype} {b.shape} given")
    kernel = _kernel(xp, a.dtype.name)
    count = min(a.size, _SUMS)
    sums = xp.zeros(1, "float64") if not count else xp.empty(count, "float64")
    if count:
        same, a = a is b, xp.ascontiguousarray(a)
        arguments = (a, a if same else xp.ascontiguousarray(b), sums, xp.int32(count), xp.int64(a.size))
        kernel((-(-count // _THREADS),), (_THREADS,), arguments)
    return sums.sum()
