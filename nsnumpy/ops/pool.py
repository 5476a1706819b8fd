"""2x2 pooling with stride 2: the mean, as in the paper, or the maximum, as VGG was trained.

``H' = H // 2``, ``W' = W // 2``: with an odd H or W the last row or column belongs to no window. It is dropped, and its
gradient is zero.
"""

from __future__ import annotations

from ..backend import Array, get_xp

_WINDOW = ((0, 0), (0, 1), (1, 0), (1, 1))


def _corner(x: Array, i: int, j: int) -> Array:
    """The view of x ``(..., H, W, C)`` that holds pixel (i, j) of every 2x2 window: ``(..., H//2, W//2, C)``."""
    height, width = x.shape[-3] // 2, x.shape[-2] // 2
    return x[..., i : i + 2 * height : 2, j : j + 2 * width : 2, :]


# The backward keeps the shape of x.
def avgpool_forward(x: Array) -> Array:
    """The mean of every 2x2 window.

    Parameters
    ----------
    x : array ``(..., H, W, C)``, float

    Returns
    -------
    y : array ``(..., H//2, W//2, C)``
    """
    a, b, c, d = (_corner(x, i, j) for i, j in _WINDOW)
    return (a + b + c + d) / 4


def avgpool_backward(gy: Array, x_shape: tuple[int, ...]) -> Array:
    """The adjoint of `avgpool_forward`: each input of a window gets a quarter of the window's gradient.

    Parameters
    ----------
    gy : array ``(..., H//2, W//2, C)``, float
    x_shape : ``(..., H, W, C)``
    """
    gx = get_xp(gy).zeros(x_shape, gy.dtype)
    quarter = gy / 4
    for i, j in _WINDOW:
        _corner(gx, i, j)[...] = quarter
    return gx


# The backward keeps the shape of x and which of the four inputs won, one byte per window.
def maxpool_forward(x: Array) -> tuple[Array, Array]:
    """The maximum of every 2x2 window, and its place; of equal inputs the first in reading order wins.

    Parameters
    ----------
    x : array ``(..., H, W, C)``, float

    Returns
    -------
    y : array ``(..., H//2, W//2, C)``
    winner : uint8 array of y's shape, 0 to 3 in reading order
    """
    xp = get_xp(x)
    y = _corner(x, 0, 0)
    winner = xp.zeros(y.shape, "uint8")
    for k, (i, j) in enumerate(_WINDOW[1:], start=1):
        candidate = _corner(x, i, j)
        winner = xp.where(candidate > y, xp.uint8(k), winner)
        y = xp.maximum(y, candidate)
    return y, winner


def maxpool_backward(gy: Array, winner: Array, x_shape: tuple[int, ...]) -> Array:
    """The winner of each window gets the window's gradient, the other three get zero.

    Parameters
    ----------
    gy : array ``(..., H//2, W//2, C)``, float
    winner : uint8 array of gy's shape, from `maxpool_forward`
    x_shape : ``(..., H, W, C)``
    """
    gx = get_xp(gy, winner).zeros(x_shape, gy.dtype)
    for k, (i, j) in enumerate(_WINDOW):
        _corner(gx, i, j)[...] = gy * (winner == k)
    return gx
