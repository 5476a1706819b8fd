"""The ops that only training needs, forward and backward side by side, in the manner of nsnumpy.ops.

Arrays are ``(B, H, W, C)`` or ``(B, C)``; ``gy, gx`` are gradients of a scalar loss. No op writes into what it is
given.
"""

from __future__ import annotations

import math

from nsnumpy.backend import Array, get_xp, matmul

EPSILON = 1e-5  # added to the variances


def _long(x: Array) -> tuple[Array, int]:
    """x ``(..., C)`` as a view of longer rows ``(P / k, k C)``, and k: the same work in longer loops."""
    positions = x.size // x.shape[-1]
    k = math.gcd(positions, 64)
    return x.reshape(positions // k, -1), k


def _sums(x: Array) -> Array:
    """The sum over all axes but the last: ``(C,)``."""
    rows, k = _long(x)
    return rows.sum(axis=0).reshape(k, -1).sum(axis=0)


def _affine(x: Array, scale: Array, shift: Array) -> Array:
    """``x * scale + shift``, channel by channel."""
    xp = get_xp(x)
    rows, k = _long(x)
    y = rows * xp.tile(scale, k)
    y += xp.tile(shift, k)
    return y.reshape(x.shape)


# The backward keeps the centred x and 1 / its deviations.
def batchnorm_forward(x: Array, gamma: Array, beta: Array) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    """Batch normalisation [1]: ``y = gamma (x - m) / sqrt(v + EPSILON) + beta``, m and v over all axes but the last.

    Parameters
    ----------
    x : array ``(..., C)``, float
    gamma, beta : arrays ``(C,)``

    Returns
    -------
    y : array of x's shape
    kept : for the backward
    statistics : (m, v), arrays ``(C,)``
        v is the mean square, not the unbiased variance.

    References
    ----------
    [1] Ioffe, Szegedy 2015, Batch Normalization, arXiv:1502.03167, algorithm 1.
    """
    xp = get_xp(x, gamma, beta)
    positions = x.size // x.shape[-1]
    mean = _sums(x) / positions
    centred = _affine(x, xp.ones_like(mean), -mean)
    variance = _sums(centred * centred) / positions
    inverse = 1 / xp.sqrt(variance + EPSILON)
    return _affine(centred, gamma * inverse, beta), (centred, inverse), (mean, variance)


def batchnorm_backward(gy: Array, gamma: Array, kept: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """The gradients of `batchnorm_forward`, through the mean and the variance, too.

    With ``h = (x - m) / sqrt(v + EPSILON)`` and P positions: ``ggamma = sum gy h``, ``gbeta = sum gy``, and
    ``gx = gamma / sqrt(v + EPSILON) (gy - gbeta / P - h ggamma / P)`` [1, section 3].

    Parameters
    ----------
    gy : array ``(..., C)``
    gamma : array ``(C,)``
    kept : from the forward

    Returns
    -------
    gx : array of gy's shape
    ggamma, gbeta : arrays ``(C,)``
    """
    centred, inverse = kept
    xp = get_xp(gy, gamma)
    positions = gy.size // gy.shape[-1]
    gbeta = _sums(gy)
    ggamma = _sums(gy * centred) * inverse
    scale = gamma * inverse
    gx = _affine(gy, scale, -scale * gbeta / positions)
    rows, k = _long(gx)
    rows -= _long(centred)[0] * xp.tile(scale * inverse * ggamma / positions, k)
    return gx, ggamma, gbeta


# The backward keeps x's shape.
def global_average_forward(x: Array) -> Array:
    """The mean over all positions of a picture: x ``(B, H, W, C)`` to y ``(B, C)``."""
    return x.mean(axis=(1, 2))


def global_average_backward(gy: Array, x_shape: tuple[int, ...]) -> Array:
    """Each position of a picture gets its share, ``gy / (H W)``: gx of x_shape."""
    _, height, width, _ = x_shape
    xp = get_xp(gy)
    return xp.ascontiguousarray(xp.broadcast_to((gy / (height * width))[:, None, None], x_shape))


# The backward keeps x.
def linear_forward(x: Array, weight: Array, bias: Array) -> Array:
    """``y = x @ weight + bias``: x ``(B, C)``, weight ``(C, K)``, bias ``(K,)``, y ``(B, K)``."""
    return matmul(x, weight) + bias


def linear_backward(gy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias: ``gy @ weight.T``, ``x.T @ gy``, ``sum gy``."""
    return matmul(gy, weight.T), matmul(x.T, gy), gy.sum(axis=0)


def softmax_cross_entropy(y: Array, labels: Array) -> tuple[Array, Array]:
    """The mean cross entropy of softmax(y) and the true classes, and its gradient.

    ``L = mean_b (log sum_k exp y[b, k] - y[b, label_b])``, ``gy = (softmax(y) - onehot(label)) / B``.

    Parameters
    ----------
    y : array ``(B, K)``, float
    labels : integer array ``(B,)``, 0 to K - 1

    Returns
    -------
    loss : 0-dimensional array of y's dtype
    gy : array of y's shape
    """
    xp = get_xp(y, labels)
    shifted = y - y.max(axis=1, keepdims=True)  # the same softmax, without overflow
    exponentials = xp.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    rows = xp.arange(len(y))
    loss = (xp.log(sums[:, 0]) - shifted[rows, labels]).mean()
    gy = exponentials / sums
    gy[rows, labels] -= 1
    gy /= len(y)
    return loss, gy
