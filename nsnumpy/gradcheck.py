"""Proof that a gradient is one: the adjoint identity for linear maps, central differences for everything else.

Both checks are purely relative, because the paper's factor 1/(4 N^2 M^2) makes every gradient small; both want float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .backend import Array, get_xp, to_floats


class KinkError(ArithmeticError):
    """The check proves nothing here: the function has a kink, or bends too much, within one step of x."""


def check_adjoint(forward: Callable[[Array], Array], backward: Callable[[Array], Array], x: Array, gy: Array) -> float:
    """How far ``<forward(x), gy> == <x, backward(gy)>`` is from holding, relative to the larger of the two.

    Parameters
    ----------
    forward : linear function of an array
        (Or one that is linear around x, as a ReLU or a maximum is.)
    backward : function of an array
        What claims to be the adjoint of `forward`, the transposed Jacobian.
    x, gy : float64 arrays
        Shapes of forward's argument and of its value. Take random ones: a constant gy does not see swapped rows.

    Returns
    -------
    error : float
        About 1e-15 if backward is right.

    Raises
    ------
    ValueError
        If gy is constant, a shape does not fit, or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> A, x, gy = rng.random((4, 3)), rng.random(3), rng.random(4)
    >>> check_adjoint(lambda x: A @ x, lambda gy: A.T @ gy, x, gy) < 1e-14
    True
    """
    if gy.size > 1 and to_floats((gy == gy.reshape(-1)[0]).all())[0]:
        raise ValueError("a constant gy hides swapped rows and columns: take a random one")
    y = forward(x)
    if y.shape != gy.shape:
        raise ValueError(f"gy of forward(x)'s shape {y.shape} expected, {gy.shape} given")
    gx = backward(gy)
    if gx.shape != x.shape:
        raise ValueError(f"backward(gy) of x's shape {x.shape} expected, {gx.shape} returned")
    return _relative_error(_dot(y, gy), _dot(x, gx))


def check_gradient(
    f: Callable[[Array], tuple[float, Array]],
    x: Array,
    *,
    directions: int = 4,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> float:
    """The relative error of a gradient against central differences, the worst of some random directions.

    Parameters
    ----------
    f : function from an array to (value, gradient)
    x : float64 array
    directions : int
        How many random directions v to try; each is dense, so that it sees every element of the gradient.
    step : float
        h, in x's units.
    tolerance : float
        What a pass will mean to the caller; only `KinkError` depends on it.
    seed : int

    Returns
    -------
    error : float
        ``|D - <g, v>| / max(|D|, |<g, v>|, |g v|)`` with ``D = (f(x + h v) - f(x - h v)) / 2h``. The last one is the
        root of the sum of squares of the terms of <g, v>: the size that it has unless its terms happen to cancel.

    Raises
    ------
    KinkError
        If the gradient itself shows that D cannot be trusted to `tolerance` here. An input that steps over a ReLU's
        kink is refused; it is not tried again until it passes.
    ValueError
        If the gradient has another shape than x, a value is not finite, or x is not float64.

    Notes
    -----
    For a smooth f, ``D = f' + h^2/6 f''' + ...`` along v, and ``d(h) + d(-h) - 2 d(0) = h^2 f''' + ...`` for the
    directional derivative ``d(t) = <g(x + t v), v>``. So a sixth of the latter estimates the error that is D's own. A
    kink between x - h v and x + h v makes d jump, and shows there at its full height.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-1, 2, 7)
    >>> check_gradient(lambda x: (float((x**3).sum()), 3 * x**2), x) < 1e-8
    True
    >>> check_gradient(lambda x: (float((x**3).sum()), 3.003 * x**2), x) > 1e-4
    True
    """
    if x.dtype != "float64":
        raise ValueError(f"float64 expected: differences in {x.dtype} prove nothing")
    xp = get_xp(x)
    gradient = f(x)[1]
    if gradient.shape != x.shape:
        raise ValueError(f"a gradient of x's shape {x.shape} expected, {gradient.shape} given")
    rng = np.random.RandomState(seed)  # on every device, so that it sees the same directions
    worst = 0.0
    for _ in range(directions):
        v = xp.asarray(rng.standard_normal(x.shape))
        (above, g_above), (below, g_below) = f(x + step * v), f(x - step * v)
        difference = (to_floats(above)[0] - to_floats(below)[0]) / (2 * step)
        derivative = _dot(gradient, v)
        bend = _dot(g_above, v) + _dot(g_below, v) - 2 * derivative
        size = math.sqrt(_dot(gradient * v, gradient * v))
        if math.isfinite(bend) and abs(bend) / 6 > tolerance * max(abs(difference), abs(derivative), size):
            raise KinkError(
                f"the gradient along the direction jumps or bends by {abs(bend):.2g} of {abs(derivative):.2g} within "
                f"{step:g} of x: choose another x, or a smaller step"
            )
        worst = max(worst, _relative_error(difference, derivative, size))
    return worst


def _dot(a: Array, b: Array) -> float:
    return to_floats((a * b).sum())[0]


def _relative_error(a: float, b: float, size: float = 0.0) -> float:
    scale = max(abs(a), abs(b), size)
    if not (math.isfinite(a) and math.isfinite(b)):
        raise ValueError(f"not finite: {a:g} and {b:g} cannot be compared")
    if scale == 0:
        raise ValueError("both sides are zero: this input proves nothing")
    return abs(a - b) / scale
