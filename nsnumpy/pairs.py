"""The pairs of L-BFGS: the last steps and changes of the gradient, and every inner product that a step hangs on.

On the CPU each number is computed where it is wanted. On a GPU a number that is wanted is a wait, and each product a
launch: `StackedPairs` makes all inner products of pairs and gradient in one, and does the two loops with these numbers
alone [1]. So an iteration waits twice, but for what the function itself does: for these products, and for those of the
point that the line search tries.

References
----------
[1] Chen, Wang, Zhou 2014, Large-scale L-BFGS using MapReduce, NIPS: the two loops in terms of the inner products.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from .backend import Array, get_xp, matmul, on_host, to_floats, to_host

Bounds = tuple[float, float] | None
Curvature = tuple[float, float]
Scratch = str | os.PathLike[str] | None
"""A folder to hold pairs in; None for memory."""
STACKED_BYTES = 512 << 20  # of pairs side by side, on a GPU: those of 1024 x 1024 pixels are one piece
_SHARES = 256  # of the positions, whose products are added up in float64: work for all of a GPU


class NoRoomError(MemoryError):
    """A folder has no room for a pair, or is not there to be written to."""


class Pairs:
    """The last few steps s and gradient changes y, and the inverse Hessian that they imply."""

    def __init__(self, memory: int, scratch: Scratch = None) -> None:
        self.memory, self.scratch = memory, scratch
        self._pairs: list[tuple[Array, Array]] = []
        self._curvatures: list[Curvature] = []  # each pair's, where all variables are free

    def __len__(self) -> int:
        return len(self._pairs)

    @staticmethod
    def beside(x: Array, memory: int, scratch: Scratch = None) -> Pairs:
        """None yet, for an x on this device; on the host they may be held in files of a folder, scratch."""
        return Pairs(memory, scratch) if on_host(x) else StackedPairs(memory)

    def add(self, s: Array, y: Array, products: Sequence[float] | None = None) -> float:
        """Remember a pair, unless the curvature along s is not safely positive; returns the length of s.

        Its products are ``<s, y>, <y, y>, <s, s>``, if they are known already.
        """
        ((curvature, length),) = _curvatures([(s, y)], None) if products is None else [_curvature(*products)]
        if curvature:
            if len(self._pairs) == self.memory:
                del self._pairs[0], self._curvatures[0]
            self._pairs.append((self._held(s), self._held(y)))
            self._curvatures.append(curvature)
        return length

    def _held(self, v: Array) -> Array:
        return v if self.scratch is None else in_a_file(v, self.scratch)

    def clear(self) -> None:
        self._pairs.clear()
        self._curvatures.clear()

    def state(self) -> dict[str, list[Array]]:
        """What `restore` takes; nothing is copied."""
        steps, changes = ([pair[i] for pair in self._pairs] for i in range(2))
        return {"steps": steps, "changes": changes, "curvatures": [list(curvature) for curvature in self._curvatures]}

    def restored(
        self, steps: Sequence[Array], changes: Sequence[Array], curvatures: Sequence[Sequence[float]]
    ) -> Pairs:
        """The same pairs again, in the same order."""
        pairs = list(zip(steps, changes, strict=True))[-self.memory :]
        self._pairs = [(self._held(s), self._held(y)) for s, y in pairs]
        self._curvatures = [(sy, yy) for sy, yy in curvatures][-self.memory :]
        return self

    def survey(self, x: Array, gradient: Array, bounds: Bounds) -> tuple[float, Array | None]:
        """The gradient's largest magnitude; and where x may move downhill, as a mask, or None if that is everywhere."""
        largest = abs(gradient).max()
        if bounds is None:
            return to_floats(largest)[0], None
        held = _at_bounds(x, gradient, bounds)
        size, some = to_floats(largest, held.any())
        return size, ~held if some else None

    def direction(
        self, x: Array, gradient: Array, free: Array | None, bounds: Bounds
    ) -> tuple[Array, float, float, bool]:
        """``d = -H g``; the slope of f along the path from x; the square of d's length; whether a pair was used."""
        direction, curved = self.times(gradient, free)
        direction *= -1
        slope, square = to_floats(_slope(x, gradient, direction, 0.0, bounds), get_xp(x).vdot(direction, direction))
        return direction, slope, square, curved

    def measure(
        self, x: Array, gradient: Array, direction: Array, at: tuple[float, Array, Array], bounds: Bounds
    ) -> tuple[float, float | None, Sequence[float] | None]:
        """At a point (t, x, gradient) of the path: the slope of f there; and, if they are known by now, the slope at
        its start, and the pair's products, for `add`."""
        t, _, there = at
        return to_floats(_slope(x, there, direction, t, bounds))[0], None, None

    def times(self, g: Array, free: Array | None) -> tuple[Array, bool]:
        """``H g`` by the two-loop recursion, within the free variables (all of them if None); whether a pair was used.

        The others are taken out of g and of every pair, so that H is the inverse Hessian of f with these held fixed.
        """
        q = _within(g, free)
        q = q.copy() if q is g else q
        dot = get_xp(g).vdot
        used: list[tuple[Array, Array, float, Array]] = []
        scale = 1.0
        curvatures = self._curvatures if free is None else [c for c, _ in _curvatures(self._pairs, free)]
        for (s, y), curvature in zip(reversed(self._pairs), reversed(curvatures), strict=True):
            if not curvature:
                continue
            sy, yy = curvature
            if not used:
                scale = sy / yy
            a = dot(s, q) / sy  # q has no part outside the free variables
            q -= a * _within(y, free)
            used.append((s, y, sy, a))
        q *= scale
        for s, y, sy, a in reversed(used):
            q += (a - dot(y, q) / sy) * _within(s, free)
        return q, len(used) > 0


class StackedPairs(Pairs):
    """The same on a GPU, stacked side by side for an iteration: the numbers are the same, to rounding."""

    def survey(self, x: Array, gradient: Array, bounds: Bounds) -> tuple[float, Array | None]:
        """As `Pairs.survey`, but for a mask in any case where there are bounds; and all inner products come along."""
        xp = get_xp(x, gradient)
        free = None if bounds is None else ~_at_bounds(x, gradient, bounds)
        self._stack: Array | None = None
        G: Array = 0.0
        for _, stack in self._stacks(gradient, free):
            shares = next(n for n in range(min(_SHARES, stack.shape[1]), 0, -1) if stack.shape[1] % n == 0)
            parts = stack.reshape(len(stack), shares, -1).swapaxes(0, 1)
            G = G + matmul(parts, parts.swapaxes(1, 2)).sum(axis=0, dtype="float64")
        largest = abs(gradient).max().astype("float64")
        numbers = to_host(xp.concatenate([G.reshape(-1), largest.reshape(1)]))
        self._products = numbers[:-1].reshape(G.shape)
        return float(numbers[-1]), free

    def direction(
        self, x: Array, gradient: Array, free: Array | None, bounds: Bounds
    ) -> tuple[Array, float, float, bool]:
        """As `Pairs.direction`, for the gradient that was surveyed last. The slope is no less than the path's: of what
        lies on a bound and would go beyond it, which does not move, it is counted as uphill."""
        G, used = self._products, len(self)
        if len(G) != 2 * used + 1:  # the pairs were forgotten: the gradient is what is left
            G = G[-1:, -1:]
        q, curved = _two_loops(G)
        q *= -1
        direction = get_xp(x).empty(x.shape, x.dtype)
        for (start, stop), stack in self._stacks(gradient, free):
            coefficients = get_xp(x).asarray(q[None], x.dtype)
            matmul(coefficients, stack[-len(q) :], out=direction.reshape(1, -1)[:, start:stop])
        self._stack = None
        return direction, float(G[-1] @ q), max(float(q @ G @ q), 0.0), curved

    def measure(
        self, x: Array, gradient: Array, direction: Array, at: tuple[float, Array, Array], bounds: Bounds
    ) -> tuple[float, float | None, Sequence[float] | None]:
        """As `Pairs.measure`; all of it comes with one wait."""
        xp = get_xp(x)
        dot, (_, there, change) = xp.vdot, at
        moving, inside = direction, direction
        if bounds is not None:
            moving = direction * (there != x)
            inside = direction * ((there > bounds[0]) & (there < bounds[1]))
        s, y = there - x, change - gradient
        numbers = [dot(change, inside), dot(gradient, moving), dot(s, y), dot(y, y), dot(s, s)]
        slope, first, *products = to_host(xp.stack(numbers)).tolist()
        return slope, first, products

    def _stacks(self, gradient: Array, free: Array | None) -> Iterator[tuple[tuple[int, int], Array]]:
        """Pieces (start, stop) of all positions, with pairs and gradient there, ``(2 n + 1, stop - start)``: all s,
        all y, then g, and zero where a variable is not free. If one piece is all, it is kept for the next time.
        """
        xp = get_xp(gradient)
        vectors = [pair[k].reshape(-1) for k in range(2) for pair in self._pairs] + [gradient.reshape(-1)]
        mask = None if free is None else free.reshape(-1)
        size = gradient.size
        count = -(-size * len(vectors) * gradient.itemsize // STACKED_BYTES)
        for k in range(count):
            start, stop = size * k // count, size * (k + 1) // count
            if count == 1 and self._stack is not None:
                yield (start, stop), self._stack
                continue
            stack = xp.stack([vector[start:stop] for vector in vectors])
            if mask is not None:
                stack *= mask[start:stop]
            self._stack = stack if count == 1 else None
            yield (start, stop), stack


def _two_loops(G: np.ndarray) -> tuple[np.ndarray, bool]:
    """``H g`` as coefficients of n steps, n changes and g, whose inner products are G; whether a pair was used."""
    n = len(G) // 2
    q = np.zeros(len(G))
    q[-1] = 1.0
    used: list[tuple[int, float, float]] = []
    scale = 1.0
    for k in reversed(range(n)):
        curvature, _ = _curvature(G[k, n + k], G[n + k, n + k], G[k, k])
        if curvature:
            sy, yy = curvature
            if not used:
                scale = sy / yy
            a = G[k] @ q / sy
            q[n + k] -= a
            used.append((k, sy, a))
    q *= scale
    for k, sy, a in reversed(used):
        q[k] += a - G[n + k] @ q / sy
    return q, len(used) > 0


def in_a_file(v: np.ndarray, folder: str | os.PathLike[str]) -> np.ndarray:
    """A copy of an array in a file without a name in this folder, mapped into memory: it takes none that is needed
    otherwise, and is gone when the array is, or the process.

    Raises
    ------
    NoRoomError
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a map into a file that cannot grow would end the process
                os.posix_fallocate(file.fileno(), 0, max(v.nbytes, 1))
            mapped = np.memmap(file, v.dtype, "w+", shape=v.shape)
    except OSError as error:
        raise NoRoomError(f"{folder}: {error.strerror or error}") from error
    mapped[...] = v
    return np.asarray(mapped)


def _at_bounds(x: Array, gradient: Array, bounds: tuple[float, float]) -> Array:
    """Which variables lie on a bound, and downhill is beyond it."""
    low, high = bounds
    return ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))


def _slope(x: Array, gradient: Array, direction: Array, t: float, bounds: Bounds) -> Array:
    """The derivative of f along ``clip(x + t d)``: what lies beyond a bound does not move."""
    dot = get_xp(x).vdot
    if bounds is None:
        return dot(gradient, direction)
    moved = x + t * direction
    inside = (moved > bounds[0]) & (moved < bounds[1])
    if not t:  # at the start, what lies on a bound moves if it moves inwards
        inside |= ((x <= bounds[0]) & (direction > 0)) | ((x >= bounds[1]) & (direction < 0))
    return dot(gradient, direction * inside)


def _curvatures(pairs: list[tuple[Array, Array]], free: Array | None) -> list[tuple[Curvature | None, float]]:
    """Of each pair within the free variables: ``(<s, y>, <y, y>)`` if the curvature along s is safely positive, and the
    length of s."""
    products = []
    for s, y in pairs:
        dot = get_xp(s, y).vdot
        s, y = _within(s, free), _within(y, free)
        products += [dot(s, y), dot(y, y), dot(s, s)]
    numbers = iter(to_floats(*products))
    each = zip(numbers, numbers, numbers, strict=True)
    return [_curvature(*of_pair) for of_pair in each]


def _curvature(sy: float, yy: float, ss: float) -> tuple[Curvature | None, float]:
    return (sy, yy) if yy > 0 and sy > 1e-10 * (ss * yy) ** 0.5 else None, ss**0.5


def _within(v: Array, free: Array | None) -> Array:
    return v if free is None else v * free
