"""What the optimizer moves, and how the picture is made of it: a linear map with its adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .backend import Array


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


VARIABLES: dict[str, Variable] = {"pixels": Pixels()}


def through(variable: Variable, f: Callable[[Array], tuple[Any, ...]]) -> Callable[[Array], tuple[Any, ...]]:
    """f of the picture, (loss, gradient, ...), as a function of the variable."""

    def of_variable(v: Array) -> tuple[Any, ...]:
        loss, gradient, *details = f(variable.picture(v))
        return loss, variable.adjoint(gradient), *details

    return of_variable
