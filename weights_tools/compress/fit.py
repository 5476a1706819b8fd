"""A layer's weights by least squares, where a ReLU follows."""

from __future__ import annotations

from collections.abc import Callable

from nsnumpy.backend import Array, get_xp, matmul, to_floats

_ROWS = 16384  # positions at a time


def products(X: Array, Y: Array) -> Array:
    """``X' Y`` in float64, from products in float32 of some rows each: ``(P, K)`` and ``(P, N)`` to ``(K, N)``."""
    xp = get_xp(X, Y)
    total = xp.zeros((X.shape[1], Y.shape[1]), "float64")
    for start in range(0, len(X), _ROWS):
        total += matmul(X[start : start + _ROWS].T, Y[start : start + _ROWS])
    return total


def ridge_solver(XX: Array, ridge: float, free: int = 0) -> Callable[[Array], Array]:
    """The function ``X'Y -> W`` that minimises ``|X W - Y|^2 + ridge m |W|^2``, m the mean diagonal element of X'X.

    Parameters
    ----------
    XX : array ``(K, K)``, float64
        X'X.
    ridge : float
    free : int
        So many of the last rows of W are not penalised: those of a bias.

    Raises
    ------
    ValueError
        If X'X says nothing of some of these rows.
    """
    xp = get_xp(XX)
    penalty = xp.full(len(XX), ridge * to_floats(xp.trace(XX))[0] / len(XX) or 1.0)
    if free:
        penalty[-free:] = 0
    try:
        inverse = xp.linalg.inv(XX + xp.diag(penalty))
    except ValueError as error:  # LinAlgError is one
        raise ValueError("the pictures are too much alike to fit a layer's weights: give others, or more") from error
    return lambda XY: matmul(inverse, XY)


def relu_targets(Y: Array, predicted: Array) -> Array:
    """What to fit next: Y where it is positive; elsewhere, any value below 0 being as good, ``min(predicted, 0)``."""
    xp = get_xp(Y, predicted)
    return xp.where(Y > 0, Y, xp.minimum(predicted, 0))


def fit_relu(X: Array, Y: Array, W: Array, solve: Callable[[Array], Array], sweeps: int) -> Array:
    """Weights W with ``max(X W, 0)`` near ``max(Y, 0)``, by least squares in turn with `relu_targets`.

    Each sweep lowers ``|X W - T|^2``, over the targets T that the ReLU cannot tell from Y, and then over W.

    Parameters
    ----------
    X : array ``(P, K)``
    Y : array ``(P, N)``
    W : array ``(K, N)``
        To begin with.
    solve : function from X'T to W
        As from `ridge_solver`.
    sweeps : int
    """
    xp = get_xp(X, Y)
    for _ in range(sweeps):
        XT = xp.zeros(W.shape, "float64")
        for start in range(0, len(X), _ROWS):
            rows = slice(start, start + _ROWS)
            XT += matmul(X[rows].T, relu_targets(Y[rows], matmul(X[rows], W)))
        W = solve(XT).astype(X.dtype)
    return W


def relative_error(F: Array, T: Array) -> float:
    """``sqrt(|F - T|^2 / |T|^2)``; 0 where T is zero."""
    difference, size = to_floats(((F - T) ** 2).sum(), (T * T).sum())
    return (difference / size) ** 0.5 if size else 0.0
