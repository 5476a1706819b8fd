"""Gradient descent with momentum, and Adam, one step at a time; each on the device and in the precision of its x.

Both are as `lbfgs.LBFGS` is: `begin` evaluates f at the start, `step` goes on to the next iterate, and from `state`
comes by `restore` the same again.

References
----------
[1] Kingma, Ba 2015, Adam: A Method for Stochastic Optimization, arXiv:1412.6980.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .backend import Array, get_xp
from .lbfgs import Function, largest_element
from .pairs import Bounds

STEP = 0.02  # how far a pixel moves in the first step, unless an lr is given


def project(x: Array, bounds: Bounds) -> Array:
    """The nearest point in the box."""
    return x if bounds is None else get_xp(x).clip(x, *bounds)


@dataclass
class SGD:
    """Gradient descent with momentum between two of its steps.

    Attributes
    ----------
    x, velocity : arrays
    loss, gradient, details : float, array, sequence
        Of f at x.
    lr, momentum : float
    bounds : (low, high), or None
    """

    x: Array
    loss: float
    gradient: Array
    velocity: Array
    lr: float
    momentum: float
    bounds: Bounds
    details: Sequence[Any] = ()

    @classmethod
    def begin(cls, f: Function, x: Array, *, bounds: Bounds, lr: float | None, momentum: float) -> SGD:
        """At x, which lies within the bounds; evaluates f there."""
        loss, gradient, *details = f(x)
        lr = STEP / largest_element(gradient) if lr is None else lr
        return cls(x, loss, gradient, get_xp(x).zeros_like(x), lr, momentum, bounds, details)

    @classmethod
    def restore(cls, state: Mapping[str, Any], *, bounds: Bounds, lr: float | None, momentum: float) -> SGD:
        """As it was when `state` was taken, its lr included."""
        return cls(**state, momentum=momentum, bounds=bounds)

    def renewed(self, f: Function) -> SGD:
        """At the same x for another f, with the velocity that it has."""
        loss, gradient, *details = f(self.x)
        return replace(self, loss=loss, gradient=gradient, details=details)

    def state(self) -> dict[str, Any]:
        """Numbers and arrays, from which `restore` makes the same again; nothing is copied."""
        return {name: getattr(self, name) for name in ("x", "loss", "gradient", "velocity", "lr")}

    def step(self, f: Function) -> str:
        """The report's update, to the letter: ``v = momentum v + lr g; x = x - v``. Returns ""."""
        self.velocity = self.momentum * self.velocity + self.lr * self.gradient
        self.x = project(self.x - self.velocity, self.bounds)
        self.loss, self.gradient, *self.details = f(self.x)
        return ""


@dataclass
class Adam:
    """Kingma and Ba's algorithm 1 between two of its steps, with the gradient in units of its first largest element.

    Without that unit, epsilon would make the course of a run depend on the scale of the loss.

    Attributes
    ----------
    x : array
    loss, gradient, details : float, array, sequence
        Of f at x.
    unit : float
        The largest element of the first gradient.
    first, second : arrays
        The moments m and v.
    t : int
        The steps so far.
    lr : float
    bounds : (low, high), or None
    """

    x: Array
    loss: float
    gradient: Array
    unit: float
    first: Array
    second: Array
    t: int
    lr: float
    bounds: Bounds
    details: Sequence[Any] = ()

    BETA1 = 0.9
    BETA2 = 0.999
    EPSILON = 1e-8

    @classmethod
    def begin(cls, f: Function, x: Array, *, bounds: Bounds, lr: float | None) -> Adam:
        """At x, which lies within the bounds; evaluates f there."""
        loss, gradient, *details = f(x)
        zeros, unit = get_xp(x).zeros_like(x), largest_element(gradient)
        return cls(x, loss, gradient, unit, zeros, zeros, 0, STEP if lr is None else lr, bounds, details)

    @classmethod
    def restore(cls, state: Mapping[str, Any], *, bounds: Bounds, lr: float | None) -> Adam:
        """As it was when `state` was taken."""
        return cls(**state, lr=STEP if lr is None else lr, bounds=bounds)

    def renewed(self, f: Function) -> Adam:
        """At the same x for another f, with the moments and the unit that it has."""
        loss, gradient, *details = f(self.x)
        return replace(self, loss=loss, gradient=gradient, details=details)

    def state(self) -> dict[str, Any]:
        """Numbers and arrays, from which `restore` makes the same again; nothing is copied."""
        return {name: getattr(self, name) for name in ("x", "loss", "gradient", "unit", "first", "second", "t")}

    def step(self, f: Function) -> str:
        """To the next iterate. Returns ""."""
        g = self.gradient / self.unit
        self.t += 1
        self.first = self.BETA1 * self.first + (1 - self.BETA1) * g
        self.second = self.BETA2 * self.second + (1 - self.BETA2) * g**2
        first_mean, second_mean = self.first / (1 - self.BETA1**self.t), self.second / (1 - self.BETA2**self.t)
        step = self.lr * first_mean / (get_xp(self.x).sqrt(second_mean) + self.EPSILON)
        self.x = project(self.x - step, self.bounds)
        self.loss, self.gradient, *self.details = f(self.x)
        return ""
