"""The first layer, convolution and ReLU: one matrix product over 3x3 patches, a block of rows at a time.

Three channels are too few for winograd.py, whose transforms would cost more than they save. Here the 27 numbers of a
patch are gathered once, as columns, instead of one product for each of the nine taps as in conv.py:

    y (pixels, N) = max(P (pixels, 28) @ K (28, N), 0)        K: the weight, and the bias beneath it; P ends with a 1

The gathering and the product cost so little, and the output of the first layer is so large, that the backward makes it
again from x, block by block, rather than keep it or its signs. On a GPU it is one kernel forward
and two back (first.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...backend import Array, aligned, get_xp, matmul, on_host
from ...workers import Blocks, Scratch, Workers
from ..border import ZERO, Border, pad, pad_adjoint
from .first import Add, DeviceFirst


# The backward keeps x.
def patches_relu_forward(
    x: Array, weight: Array, bias: Array, workers: Workers | None = None, border: Border = ZERO
) -> Array:
    """``max(conv_forward(x, weight, bias, border), 0)``.

    Parameters
    ----------
    x : array ``(..., H, W, C_in)``, float, of few channels
    weight : array ``(3, 3, C_in, C_out)`` of x's dtype
    bias : array ``(C_out,)`` of x's dtype
    workers : Workers, or None for one thread
    border : (rows, columns)
        See ops/border.py.

    Returns
    -------
    y : array ``(..., H, W, C_out)``
    """
    xp = get_xp(x, weight, bias)
    workers = workers or Workers(1)
    *batch, height, width, _ = x.shape
    y = xp.empty((*batch, height, width, len(bias)), x.dtype)
    images, outputs = x.reshape(-1, *x.shape[-3:]), y.reshape(-1, *y.shape[-3:])
    if not on_host(x):
        for n in range(len(images)):
            DeviceFirst(images[n], weight, bias, border).features(outputs[n], (0, height))
        return y
    images = pad(images, border)
    kernel = _kernel(weight, bias)

    def block(job: tuple[int, int, int], scratch: Scratch) -> None:
        n, start, stop = job
        _features(images[n, start : stop + 2], kernel, outputs[n, start:stop], scratch)

    workers.map(block, _blocks(outputs.shape, kernel, workers))
    return y


def patches_relu_backward(
    gy: Array | None,
    x: Array,
    weight: Array,
    bias: Array,
    adds: Sequence[Add] = (),
    workers: Workers | None = None,
    border: Border = ZERO,
    *,
    overwrite: bool = False,
) -> Array:
    """The gradient with respect to x, of a loss that depends on ``F = y`` through the layers above and by itself.

    Parameters
    ----------
    gy : array ``(..., H, W, C_out)``, or None for zero
        What comes from above.
    x, weight, bias, workers, border : as in the forward
    adds : functions of (F, at, out, scratch)
        Each adds dL/dF to out ``(rows, C_out)`` for a block F ``(rows, C_out)`` of the positions, `at` of them all; on
        a GPU, of those that have an attribute `affine`, that says the same: see first.py.
    overwrite : bool
        Whether gy's memory may be written to. A GPU then needs no other of its size.

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    """
    xp = get_xp(x, weight, bias)
    workers = workers or Workers(1)
    *_, height, width, channels = x.shape
    images = x.reshape(-1, height, width, channels)
    gradients = None if gy is None else gy.reshape(-1, height, width, len(bias))
    if not on_host(x):
        layers = [DeviceFirst(images[n], weight, bias, border) for n in range(len(images))]
        return _device_backward(gradients, images, layers, adds, workers, overwrite=overwrite).reshape(x.shape)
    images = pad(images, border)
    kernel = _kernel(weight, bias)

    def block(job: tuple[int, int, int], scratch: Scratch) -> Array:
        n, start, stop = job
        shape = (stop - start, width, len(bias))
        F = _features(images[n, start : stop + 2], kernel, scratch.empty("features", shape, x), scratch)
        gF = scratch.empty("gradient", shape, x)
        gF[...] = 0 if gradients is None else gradients[n, start:stop]
        at = slice((n * height + start) * width, (n * height + stop) * width)
        for add in adds:
            add(F.reshape(-1, len(bias)), at, gF.reshape(-1, len(bias)), scratch)
        xp.multiply(gF, F > 0, out=gF)
        patches = scratch.empty("patches", (len(kernel) - 1, stop - start, width), x)
        matmul(kernel[:-1], gF.reshape(-1, len(bias)).T, out=patches.reshape(len(patches), -1))
        return _scatter(patches.reshape(3, 3, channels, stop - start, width))

    jobs = _blocks((len(images), height, width), kernel, workers)
    gx = xp.zeros(images.shape, x.dtype)
    for (n, start, stop), rows in zip(jobs, workers.map(block, jobs), strict=True):
        gx[n, start : stop + 2] += rows
    return pad_adjoint(gx, border).reshape(x.shape)


def _device_backward(
    gradients: Array | None,
    images: Array,
    layers: Sequence[DeviceFirst],
    adds: Sequence[Any],
    workers: Workers,
    *,
    overwrite: bool,
) -> Array:
    """`patches_relu_backward` of images ``(n, H, W, C)``, with a layer of each. A kernel adds what is affine in the
    features; for the rest there are blocks of them as an array."""
    xp = get_xp(images)
    count, height, width, _ = images.shape
    filters, positions = layers[0].filters if layers else 0, height * width
    affine = [add for add in adds if getattr(add, "affine", None) is not None]
    others = [add for add in adds if add not in affine]
    fresh = gradients is None and not others
    if gradients is None:
        g = (xp.empty if fresh else xp.zeros)((count, height, width, filters), images.dtype)
    else:
        g = aligned(gradients) if overwrite else gradients.copy()
    gx = xp.empty(images.shape, images.dtype)

    def block(job: tuple[int, tuple[int, int]], scratch: Scratch) -> None:
        n, (start, stop) = job
        F = scratch.empty("features", ((stop - start) * width, filters), images)
        layers[n].features(F, (start, stop))
        at = slice(n * positions + start * width, n * positions + stop * width)
        for add in others:
            add(F, at, g.reshape(-1, filters)[at], scratch)

    if others:
        blocks = _device_blocks(height, width, filters, images.itemsize, workers)
        workers.map(block, [(n, rows) for n in range(count) for rows in blocks])
    for n, layer in enumerate(layers):
        of_picture = slice(n * positions, (n + 1) * positions)
        begun = not fresh
        for add in affine:
            squares = []
            for K, b, w in add.affine:
                squares.append(layer.add_term(g[n], K, b, None if w is None else w[of_picture], fresh=not begun))
                begun = True
            add.keep(of_picture.start, squares)
        if not any(add.affine for add in affine):
            layer.add_term(g[n], None, None, None, fresh=fresh)
        layer.adjoint(g[n], gx[n])
    return gx


def _kernel(weight: Array, bias: Array) -> Array:
    return get_xp(weight).concatenate([weight.reshape(-1, len(bias)), bias[None]])


def _blocks(shape: tuple[int, ...], kernel: Array, workers: Workers) -> list[tuple[int, int, int]]:
    """Of pictures ``(n, H, W, ...)``: (picture of the batch, first row, last row + 1)"""
    row = shape[2] * (kernel.shape[0] + 2 * kernel.shape[1]) * kernel.dtype.itemsize
    return [(n, *rows) for n in range(shape[0]) for rows in workers.blocks(shape[1], row)]


def patches_scratch(
    size: tuple[int, ...], channels: int, filters: int, itemsize: int, workers: Workers, *, on_device: bool
) -> int:
    """The elements of the scratch that a thread needs, forward and backward, for a picture of (H, W) pixels."""
    height, width = size
    if on_device:
        return _device_scratch(height, width, filters, itemsize, workers)
    columns = 9 * channels + 1
    blocks = workers.blocks(height, width * (columns + 2 * filters) * itemsize)
    rows = blocks.longest
    return rows * width * (columns + 4 * filters)


def _features(padded: Array, kernel: Array, y: Array, scratch: Scratch) -> Array:
    """The layer's output for some rows of x, of which ``(rows + 2, W + 2, C)`` are given, is written into y ``(rows, W,
    N)`` and returned."""
    xp = get_xp(padded)
    rows, width, channels = padded.shape[0] - 2, padded.shape[1] - 2, padded.shape[2]
    patches = scratch.empty("patches", (len(kernel), rows, width), padded)
    patches[-1] = 1
    taps = patches[:-1].reshape(3, 3, channels, rows, width)
    for i in range(3):
        for j in range(3):
            taps[i, j] = padded[i : i + rows, j : j + width].transpose(2, 0, 1)
    matmul(patches.reshape(len(kernel), -1).T, kernel, out=y.reshape(-1, kernel.shape[1]))
    return xp.maximum(y, scratch.zeros(y.shape, padded), out=y)  # NumPy is slower with the scalar 0


def _scatter(taps: Array) -> Array:
    """The adjoint of the gathering: taps ``(3, 3, C, rows, W)`` added up to ``(rows + 2, W + 2, C)``."""
    _, _, channels, rows, width = taps.shape
    gx = get_xp(taps).zeros((channels, rows + 2, width + 2), taps.dtype)
    for i in range(3):
        for j in range(3):
            gx[:, i : i + rows, j : j + width] += taps[i, j]
    return gx.transpose(1, 2, 0)


def _device_scratch(height: int, width: int, filters: int, itemsize: int, workers: Workers) -> int:
    """The elements of its scratch, where a term is not affine: features, and what is made of them."""
    return 2 * _device_blocks(height, width, filters, itemsize, workers).longest * width * filters


def _device_blocks(height: int, width: int, filters: int, itemsize: int, workers: Workers) -> Blocks:
    return workers.blocks(height, 2 * width * filters * itemsize)
