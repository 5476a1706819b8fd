"""What the optimizer moves, and how the picture is made of it: a linear map with its adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .backend import Array, get_xp

LUMINANCE = (0.299, 0.587, 0.114)


class Variable(Protocol):
    """What stands between the optimizer's variable v and the picture x."""

    def picture(self, v: Array) -> Array:
        """x, of v."""

    def adjoint(self, gx: Array) -> Array:
        """The gradient with respect to v, from that with respect to x."""

    def of_picture(self, x: Array) -> Array:
        """A v whose picture is x, as nearly as there is one."""


class Pixels:
    """The variable is the picture itself."""

    def picture(self, v: Array) -> Array:
        return v

    def adjoint(self, gx: Array) -> Array:
        return gx

    def of_picture(self, x: Array) -> Array:
        return x


class Luminance:
    """The variable is luminance alone, ``(H, W, 1)``: ``Y = 0.299 R + 0.587 G + 0.114 B`` (ITU-R BT.601)."""

    def picture(self, v: Array) -> Array:
        return get_xp(v).repeat(v, 3, axis=-1)

    def adjoint(self, gx: Array) -> Array:
        return gx.sum(axis=-1, keepdims=True)

    def of_picture(self, x: Array) -> Array:
        red, green, blue = (weight * x[..., n : n + 1] for n, weight in enumerate(LUMINANCE))
        return red + green + blue


class Kept:
    """A photograph p is kept where m is 0: ``x = p + m (u - p)``, with u the picture of another variable.

    Parameters
    ----------
    p : array ``(H, W, 3)``
    m : array ``(H, W)``, in [0, 1]
    inner : Variable
        What u is made of.
    """

    def __init__(self, p: Array, m: Array, inner: Variable) -> None:
        self.p, self.m, self.inner = p, m[..., None], inner

    def picture(self, v: Array) -> Array:
        return self.p + self.m * (self.inner.picture(v) - self.p)

    def adjoint(self, gx: Array) -> Array:
        return self.inner.adjoint(self.m * gx)

    def of_picture(self, x: Array) -> Array:
        """Exact where m is 1/2 or more; below, where 1/m would enlarge what v has no part in, v goes to p."""
        m = get_xp(x).maximum(self.m * self.m, 0.25)
        return self.inner.of_picture(self.p + self.m / m * (x - self.p))


VARIABLES: dict[str, Variable] = {"pixels": Pixels(), "luminance": Luminance()}


def through(variable: Variable, f: Callable[[Array], tuple[Any, ...]]) -> Callable[[Array], tuple[Any, ...]]:
    """f of the picture, (loss, gradient, ...), as a function of the variable."""

    def of_variable(v: Array) -> tuple[Any, ...]:
        loss, gradient, *details = f(variable.picture(v))
        return loss, variable.adjoint(gradient), *details

    return of_variable
