"""Rectified linear unit: ``y = max(x, 0)``."""

from __future__ import annotations

from ..backend import Array, get_xp


# The backward keeps one sign per element: where x > 0.
def relu_forward(x: Array) -> tuple[Array, Array]:
    """``y = max(x, 0)``, and the mask ``x > 0`` that the backward needs.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array of x's shape and dtype, y >= 0
    mask : bool array of x's shape
    """
    xp = get_xp(x)
    return xp.maximum(x, 0), x > 0


def relu_backward(gy: Array, mask: Array) -> Array:
    """``gx = gy where x > 0, else 0``. At the kink, ``x == 0``, the subgradient 0 is taken, as the paper does.

    Parameters
    ----------
    gy : array of any shape, float
    mask : bool array of gy's shape, from `relu_forward`
    """
    return gy * mask
