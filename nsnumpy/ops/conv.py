"""3x3 convolution, stride 1, padding 1: the readable definition, as nine shifted matrix products.

With ``x = 0`` outside the picture, or another border (border.py),

    y[h, w, n] = bias[n] + sum_{i, j in 0..2} sum_c x[h + i - 1, w + j - 1, c] weight[i, j, c, n]

(a cross-correlation, which is what the field calls a convolution).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Array, get_xp, matmul
from .border import ZERO, Border, pad, pad_adjoint


def _shifts(padded_shape: tuple[int, ...]) -> Iterator[tuple[int, int, slice]]:
    """For each tap (i, j) of the kernel, the slice of the padded pixels that it reads.

    All padded pixels of the batch stand in one long list, row after row. In that list the tap (i, j) of *every* output
    pixel lies at one and the same distance, ``i (W+2) + j``, from the pixel itself; so each tap is one contiguous
    slice, and the convolution is nine products of a tall matrix with a ``(C_in, C_out)`` one. The outputs computed on
    the frame mean nothing (their taps wrap around into the next row) and are cut off, or are zeroed beforehand.
    """
    *batch, height, width, _ = padded_shape
    pixels = height * width
    for n in batch:
        pixels *= n
    length = pixels - (2 * width + 2)  # as far as the last tap can read
    for i in range(3):
        for j in range(3):
            start = i * width + j
            yield i, j, slice(start, start + length)


def _correlate(padded: Array, weight: Array) -> Array:
    """y without the bias, of x with its frame ``(..., H+2, W+2, C_in)``: a view ``(..., H, W, C_out)`` of a larger
    array."""
    xp = get_xp(padded, weight)
    channels, filters = weight.shape[2:]
    pixels = padded.reshape(-1, channels)
    y = xp.zeros((*padded.shape[:-1], filters), padded.dtype)
    product = None
    for i, j, taps in _shifts(padded.shape):
        product = matmul(pixels[taps], weight[i, j], out=product)
        rows = y.reshape(-1, filters)[: product.shape[0]]
        rows += product
    return y[..., :-2, :-2, :]


# The map is linear in x but for the bias, so the backward keeps nothing of x.
def conv_forward(x: Array, weight: Array, bias: Array, border: Border = ZERO) -> Array:
    """``y = x * weight + bias``, see the formula at the head of this module.

    Parameters
    ----------
    x : array ``(..., H, W, C_in)``, float
    weight : array ``(3, 3, C_in, C_out)`` of x's dtype
    bias : array ``(C_out,)`` of x's dtype
    border : (rows, columns)
        See border.py.

    Returns
    -------
    y : array ``(..., H, W, C_out)``

    Raises
    ------
    ValueError
        If x has another number of channels than weight.
    TypeError
        If the arguments are arrays of different kinds (NumPy and CuPy).
    """
    get_xp(x, weight, bias)
    if x.shape[-1] != weight.shape[2]:
        raise ValueError(f"{weight.shape[2]} channels expected, {x.shape[-1]} given; x.shape={x.shape}")
    return _correlate(pad(x, border), weight) + bias


def conv_backward(gy: Array, weight: Array, border: Border = ZERO) -> Array:
    """The adjoint of `conv_forward` in x: ``<conv(x), gy> == <x, conv_backward(gy)>`` without the bias.

    Since y[h] takes x[h + i - 1] by weight[i], x[h] gave to y[h + 1 - i]: the adjoint of a 3x3 convolution is the same
    convolution, of gy with zeros around, with the kernel turned by 180 degrees and its channels exchanged. It reaches
    one pixel beyond the picture, to its frame, whose gradient goes where the frame was copied from.

    Parameters
    ----------
    gy : array ``(..., H, W, C_out)``, float
    weight : array ``(3, 3, C_in, C_out)``
    border : as in the forward

    Returns
    -------
    gx : array ``(..., H, W, C_in)``
    """
    get_xp(gy, weight)
    return pad_adjoint(_correlate(pad(pad(gy)), weight[::-1, ::-1].swapaxes(2, 3)), border)


# The map is linear in weight and bias, too; these gradients keep x. (Of a zero border alone: it is how VGG is trained.)
def conv_backward_weight(gy: Array, x: Array) -> tuple[Array, Array]:
    """The gradients with respect to weight and bias.

    ``gweight[i, j, c, n] = sum_{h, w} x[h + i - 1, w + j - 1, c] gy[h, w, n]`` and
    ``gbias[n] = sum_{h, w} gy[h, w, n]``, both summed over the batch as well.

    Parameters
    ----------
    gy : array ``(..., H, W, C_out)``, float
    x : array ``(..., H, W, C_in)``

    Returns
    -------
    gweight : array ``(3, 3, C_in, C_out)``
    gbias : array ``(C_out,)``
    """
    xp = get_xp(gy, x)
    channels, filters = x.shape[-1], gy.shape[-1]
    padded = pad(x)
    pixels = padded.reshape(-1, channels)
    framed = xp.zeros((*padded.shape[:-1], filters), gy.dtype)  # zeros on the frame: it adds nothing to the sums
    framed[..., :-2, :-2, :] = gy
    gweight = xp.empty((3, 3, channels, filters), gy.dtype)
    for i, j, taps in _shifts(padded.shape):
        rows = framed.reshape(-1, filters)[: taps.stop - taps.start]
        gweight[i, j] = matmul(pixels[taps].T, rows)
    return gweight, gy.reshape(-1, filters).sum(axis=0)
