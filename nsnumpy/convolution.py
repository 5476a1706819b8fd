"""The ways to convolve: a layer's convolution, its ReLU and, if asked for, the average pooling after it.

A way is made of a layer's weight ``(3, 3, C_in, C_out)`` and bias ``(C_out,)``. Its `forward` takes x
``(..., H, W, C_in)`` and returns y ``(..., H, W, C_out)``, or half as high and wide if pooled, and what its `backward`
needs; that takes gy of y's shape and returns gx of x's. All are of one namespace and dtype. A pooling alone is a way,
too.

Both take the border, what a convolution sees beyond the picture (ops/border.py).

A way that `makes_again` its y in the backward also takes there what is to be added to gy, as functions of blocks of y
(`vgg.AddGradient`); its gy may be None, for zeros, and may be overwritten.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .architecture import FIRST
from .backend import Array, to_floats
from .ops import (
    Border,
    avgpool_backward,
    avgpool_forward,
    conv_backward,
    conv_forward,
    maxpool_backward,
    maxpool_forward,
    patches_relu_backward,
    patches_relu_forward,
    patches_scratch,
    relu_backward,
    relu_forward,
    winograd_relu_backward,
    winograd_relu_forward,
    winograd_scratch,
    winograd_weight,
)
from .workers import Workers


class Layer(NamedTuple):
    """What the memory that a way takes depends on: the (H, W) at its layer, C_in and C_out, and the machine."""

    size: tuple[int, int]
    channels: int
    filters: int
    itemsize: int
    workers: Workers
    on_device: bool


class Takes(NamedTuple):
    """The memory that a way takes for one picture: what it is made of and what it keeps for the backward, in bytes, and
    the elements of scratch of each of its threads, by name; equal names of several layers share their memory."""

    arrays: int
    kept: int
    scratch: Mapping[str, int]


class Direct:
    """The definition: conv.py, relu.py and pool.py, one after the other."""

    makes_again = False

    def __init__(self, weight: Array, bias: Array, workers: Workers) -> None:
        self.arrays = weight, bias

    def forward(self, x: Array, pool: bool, border: Border) -> tuple[Array, Any]:
        y, mask = relu_forward(conv_forward(x, *self.arrays, border))
        return avgpool_forward(y) if pool else y, mask

    def backward(self, gy: Array, mask: Array, pool: bool, border: Border) -> Array:
        if pool:
            gy = avgpool_backward(gy, mask.shape)
        return conv_backward(relu_backward(gy, mask), self.arrays[0], border)

    @staticmethod
    def takes(layer: Layer) -> Takes:
        kept = math.prod(layer.size) * layer.filters  # a byte per element
        return Takes(9 * layer.channels * layer.filters * layer.itemsize, kept, {})


class Patches:
    """For the first layer, which nothing pools: its features are made again by the backward (ops/fast/patches.py)."""

    makes_again = True

    def __init__(self, weight: Array, bias: Array, workers: Workers) -> None:
        self.arrays = weight, bias
        self._workers = workers

    def forward(self, x: Array, pool: bool, border: Border) -> tuple[Array, Any]:
        return patches_relu_forward(x, *self.arrays, self._workers, border), x

    def backward(self, gy: Array | None, x: Array, pool: bool, border: Border, *adds: Callable[..., None]) -> Array:
        return patches_relu_backward(gy, x, *self.arrays, adds, self._workers, border, overwrite=True)

    @staticmethod
    def takes(layer: Layer) -> Takes:
        kept = math.prod(layer.size) * layer.channels * layer.itemsize  # its input
        scratch = patches_scratch(*layer[:-1], on_device=layer.on_device)
        return Takes(9 * layer.channels * layer.filters * layer.itemsize, kept, {"first layer": scratch})


class Winograd:
    """All in one step, in cache-sized stripes or in a GPU's kernels (ops/fast/winograd.py)."""

    makes_again = False

    def __init__(self, weight: Array, bias: Array, workers: Workers) -> None:
        self.arrays = winograd_weight(weight), bias
        self._workers = workers

    def forward(self, x: Array, pool: bool, border: Border) -> tuple[Array, Any]:
        y, signs = winograd_relu_forward(x, *self.arrays, self._workers, border, pool=pool)
        return y, (signs, x.shape[-3:-1])

    def backward(self, gy: Array, kept: Any, pool: bool, border: Border) -> Array:
        signs, size = kept
        return winograd_relu_backward(gy, self.arrays[0], signs, size, self._workers, border, pool=pool)

    @staticmethod
    def takes(layer: Layer) -> Takes:
        tiles = -(-layer.size[0] // 4) * -(-layer.size[1] // 4)
        kept = 2 * tiles * layer.filters  # a bit per element
        scratch = winograd_scratch(*layer[:-1], on_device=layer.on_device)
        return Takes(36 * layer.channels * layer.filters * layer.itemsize, kept, scratch)


class Fastest:
    """The faster of the two on this device, for each shape of x: both are tried when it is first met.

    They differ by rounding, and the choice by how busy the device is, so that two runs need not agree to the last bit.
    Both ways' weights are kept, and the trial takes the memory of the definition, which `plan` does not count.
    """

    makes_again = False

    def __init__(self, weight: Array, bias: Array, workers: Workers) -> None:
        self._ways: list[Winograd | Direct] = [Winograd(weight, bias, workers), Direct(weight, bias, workers)]
        self.chosen: dict[tuple[tuple[int, ...], bool], Winograd | Direct] = {}

    def forward(self, x: Array, pool: bool, border: Border) -> tuple[Array, Any]:
        key = (x.shape, pool)
        if key not in self.chosen:
            self.chosen[key] = min(self._ways, key=lambda way: seconds(way, x, pool, border))
        way = self.chosen[key]
        y, kept = way.forward(x, pool, border)
        return y, (way, kept)

    def backward(self, gy: Array, kept: Any, pool: bool, border: Border) -> Array:
        way, kept = kept
        return way.backward(gy, kept, pool, border)


def seconds(way: Direct | Winograd, x: Array, pool: bool, border: Border) -> float:
    """How long a forward and a backward take: the lesser of two times, since the first one may compile kernels."""
    best = math.inf
    for _ in range(2):
        start = time.perf_counter()
        y, kept = way.forward(x, pool, border)
        gx = way.backward(y, kept, pool, border)
        to_floats(gx.reshape(-1)[0])  # a GPU is done only now
        best = min(best, time.perf_counter() - start)
    return best


class AveragePool:
    """The mean of each 2 x 2 window."""

    makes_again = False

    def forward(self, x: Array, pool: bool, border: Border) -> tuple[Array, Any]:
        return avgpool_forward(x), x.shape

    def backward(self, gy: Array, shape: tuple[int, ...], pool: bool, border: Border) -> Array:
        return avgpool_backward(gy, shape)

    @staticmethod
    def takes(layer: Layer) -> Takes:
        return Takes(0, 0, {})


class MaxPool:
    """The largest of each 2 x 2 window."""

    makes_again = False

    def forward(self, x: Array, pool: bool, border: Border) -> tuple[Array, Any]:
        y, winner = maxpool_forward(x)
        return y, (winner, x.shape)

    def backward(self, gy: Array, kept: Any, pool: bool, border: Border) -> Array:
        return maxpool_backward(gy, *kept)

    @staticmethod
    def takes(layer: Layer) -> Takes:
        return Takes(0, (layer.size[0] // 2) * (layer.size[1] // 2) * layer.filters, {})  # each window's winner, a byte


WAYS = {"winograd": Winograd, "direct": Direct, "fastest": Fastest}
POOLS = {"avg": AveragePool, "max": MaxPool}


def way_of(conv: str, convolution: str) -> Any:
    """The way of a layer; the first one has its own, but by the definition."""
    return Patches if conv == FIRST and convolution != "direct" else WAYS[convolution]
