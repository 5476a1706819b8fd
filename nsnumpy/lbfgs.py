"""L-BFGS in a box, on the device and in the precision of its x: nothing but sums, products and inner products.

It is an object that makes one step at a time, so that it can be stopped between two of them, kept, and gone on with.
The numbers that a decision hangs on are fetched from the device together, and the pairs know how (pairs.py).

scipy's L-BFGS-B works on float64 copies on the host and finds the generalised Cauchy point, which for a million pixels
costs as much as a third of the network's own time, and some sixty float64 vectors. Here a projection takes its place:
pixels that lie on a bound and want to go beyond it are left out of the step, and the rest is searched along the path
``clip(x + t d)``.

References
----------
[1] Nocedal, Wright 2006, Numerical Optimization, algorithms 7.4 (two-loop recursion) and 3.5 (strong Wolfe conditions).
[2] Bertsekas 1982, Projected Newton methods for optimization problems with simple constraints, SIAM J. Control 20(2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .backend import Array, get_xp, to_floats
from .pairs import Bounds, Pairs

MEMORY = {"lbfgs-device": 8, "scipy": 10}  # pairs, by method, unless told otherwise; 10 is its own default
DECREASE, CURVATURE = 1e-4, 0.9  # c1 and c2 of the Wolfe conditions, as [1] advises for quasi-Newton methods
MOST_TRIALS = 20  # of a line search
REACH = 0.1  # how far the first step along the gradient moves a pixel at most; each next one, twice as far
STRETCH = 3.0  # how many times as long as the last one a step may be
IDLE = 5  # iterations in a row that win nothing end a run

Function = Callable[[Array], tuple[Any, ...]]
"""Of x: its value, its gradient, and whatever else is known there, which the step that ends at x carries along."""


@dataclass
class Point:
    """Where a line search stands: the step length t, x = clip(x0 + t d), f(x), its gradient, the slope d f / d t, what
    else f says, and what `Pairs.measure` knows."""

    t: float
    x: Array
    loss: float
    gradient: Array
    slope: float
    details: Sequence[Any] = ()
    products: Sequence[float] = ()


@dataclass
class LBFGS:
    """L-BFGS between two of its steps.

    Attributes
    ----------
    x : array
        The iterate, within the bounds.
    loss, gradient : float, array
        Of f at x, in units of `unit`: so that the course of a run does not depend on the scale of f.
    unit : float
        The largest element of the first gradient.
    pairs : Pairs
    bounds : (low, high), or None
    details : sequence
        What else f said at x.
    lowest : float
        The lowest loss so far.
    idle : int
        For how many iterations that has not changed.
    length : float
        Of the last step.
    reach : float
        How far the next step along the gradient itself may move a pixel.
    rounding : float, or None
        Of f, relative, where it is coarser than x's: the line search does not take it for a rise.
    """

    x: Array
    loss: float
    gradient: Array
    unit: float
    pairs: Pairs
    bounds: Bounds
    lowest: float
    details: Sequence[Any] = ()
    idle: int = 0
    length: float = 0.0
    reach: float = REACH
    rounding: float | None = None

    @classmethod
    def begin(cls, f: Function, x: Array, *, bounds: Bounds, rounding: float | None = None, **pairs: Any) -> LBFGS:
        """At x, which lies within the bounds; evaluates f there. What else there is, `Pairs` takes."""
        loss, gradient, *details = f(x)
        unit = largest_element(gradient)
        scaled = loss / unit
        return cls(x, scaled, gradient / unit, unit, Pairs(**pairs), bounds, scaled, details, rounding=rounding)

    @classmethod
    def restore(cls, state: Mapping[str, Any], *, bounds: Bounds, rounding: float | None = None, **pairs: Any) -> LBFGS:
        """As it was when `state` was taken."""
        state = dict(state)
        state.pop("curvatures", None)  # which earlier versions kept
        restored = Pairs(**pairs).restored(state.pop("steps"), state.pop("changes"))
        return cls(**state, pairs=restored, bounds=bounds, rounding=rounding)

    def renewed(self, f: Function) -> LBFGS:
        """At the same x for another f, of which the pairs say nothing."""
        options = {name: getattr(self.pairs, name) for name in ("memory", "scratch", "workers")}
        return LBFGS.begin(f, self.x, bounds=self.bounds, rounding=self.rounding, **options)

    def state(self) -> dict[str, Any]:
        """Numbers, arrays and lists of arrays, from which `restore` makes the same again; nothing is copied."""
        names = ("x", "loss", "gradient", "unit", "lowest", "idle", "length", "reach")
        return {name: getattr(self, name) for name in names} | self.pairs.state()

    def step(self, f: Function) -> str:
        """To the next iterate; returns "", or why there is none."""

        def scaled(x: Array) -> tuple[Any, ...]:
            loss, gradient, *details = f(x)
            return loss / self.unit, gradient / self.unit, details

        if self.idle >= IDLE and self.rounding is None:  # of what is coarser, the lowest was the luckiest
            return f"for {IDLE} iterations the loss has changed by no more than its rounding"
        x, gradient, bounds, pairs = self.x, self.gradient, self.bounds, self.pairs
        found = None
        for _ in range(2):
            if not (largest := pairs.survey(x, gradient, bounds)):
                return "the gradient is zero"
            direction, slope, square, curved = pairs.direction(gradient)
            start = Point(0.0, x, self.loss, gradient, slope)
            if curved:  # few pairs, or old ones, may promise a step far beyond where they hold
                first = min(1.0, STRETCH * self.length / square**0.5) if self.length and square else 1.0
                self.reach = REACH
            else:
                first = self.reach / largest
                self.reach *= 2
            found = _search(scaled, start, direction, first, bounds, pairs, self.rounding) if start.slope < 0 else None
            if found or not len(pairs):
                break
            pairs.clear()  # and once more, along the gradient itself
        if not found:
            return "no lower loss along the gradient"
        self.length = pairs.add(found.x - x, found.gradient - gradient, found.products)
        self.x, self.loss, self.gradient, self.details = found.x, found.loss, found.gradient, found.details
        self.idle = 0 if self.loss < self.lowest - _noise(self.lowest, x) else self.idle + 1
        self.lowest = min(self.lowest, self.loss)
        return ""


def largest_element(gradient: Array) -> float:
    """The largest magnitude in it, or 1 if all of it is zero."""
    return to_floats(abs(gradient).max())[0] or 1.0


def _search(
    f: Function, start: Point, direction: Array, t: float, bounds: Bounds, pairs: Pairs, rounding: float | None = None
) -> Point | None:
    """A point on the path, no farther than t, that satisfies the strong Wolfe conditions; failing that, the lowest one
    seen; or None.

    The first trial, t itself, need not satisfy the one about curvature if it goes downhill there: the next step goes on
    from it, in a better direction. Otherwise the bracket (low, high) holds such a point [1]. The conditions are relaxed
    by what rounding does to f, `rounding` or x's own: near the minimum in float32 they could not be told otherwise.
    Only x's own ends the search, so that one with coarser products (TF32) does not end a run that could go on.
    """
    xp = get_xp(direction)
    low, high = start, None  # high: once the first trial was not taken
    best: Point | None = None
    failure: FloatingPointError | None = None
    noise = _noise(start.loss, direction)
    doubt = noise if rounding is None else 4 * rounding * abs(start.loss)
    for _ in range(MOST_TRIALS):
        x = t * direction
        x += start.x
        if bounds is not None:
            xp.clip(x, *bounds, out=x)
        try:
            loss, gradient, details = f(x)
            slope, start.slope, products = pairs.measure(start.x, start.gradient, direction, x, gradient, bounds)
            if not math.isfinite(slope):
                raise FloatingPointError("the gradient is not finite")
        except FloatingPointError as error:  # too far: nearer to the start it is finite
            high, failure = Point(t, x, math.inf, start.gradient, 0.0), error
        else:
            point = Point(t, x, loss, gradient, slope, details, products)
            if point.loss < start.loss and (best is None or point.loss < best.loss):
                best = point
            if point.loss > start.loss + DECREASE * t * start.slope + doubt or point.loss > low.loss + doubt:
                high = point
            elif abs(slope) <= -CURVATURE * start.slope or (high is None and slope < 0):
                return point
            elif slope > 0:
                high = point
            else:
                low = point
        assert high is not None  # or the first trial was taken
        if abs(low.slope) * (high.t - low.t) <= noise:
            break  # what is left to win is less than what f is known to
        t = _between(low, high)
    if best is None and failure:
        raise failure
    return best


def _between(low: Point, high: Point) -> float:
    """Where the parabola through both losses and the slope at low is lowest, well inside the bracket."""
    width = high.t - low.t
    bend = high.loss - low.loss - low.slope * width
    t = low.t - low.slope * width**2 / (2 * bend) if 0 < bend < math.inf else low.t + width / 2
    margin = 0.1 * width
    return min(max(t, low.t + margin), high.t - margin)


def _noise(loss: float, x: Array) -> float:
    """How well a loss can be known that was computed in x's precision."""
    return 4 * float(get_xp(x).finfo(x.dtype).eps) * abs(loss)
