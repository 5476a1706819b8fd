"""The pairs of L-BFGS: the last steps and changes of the gradient, and every inner product that a step hangs on.

The two loops need inner products alone [1]. So an iteration reads each vector twice: for the inner products of all of
them, and to add up what the loops say. On the CPU that is done with some thousand positions at a time, which stay in
the cache, and threads share them. On a GPU, where a number that is wanted is a wait, and each product a launch, all
positions stand side by side, and an iteration waits twice, but for what the function itself does: for these products,
and for those of the point that the line search tries.

References
----------
[1] Chen, Wang, Zhou 2014, Large-scale L-BFGS using MapReduce, NIPS: the two loops in terms of the inner products.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import Array, get_xp, matmul, on_host, to_floats, to_host
from .workers import Blocks, Workers
from .workers import Scratch as Buffers

Bounds = tuple[float, float] | None
Scratch = str | os.PathLike[str] | None
"""A folder to hold pairs in; None for memory."""
STACKED_BYTES = 256 << 20  # of pairs side by side, on a GPU: those of 1024 x 1024 pixels are one piece
POSITIONS = 32768  # at a time, on the CPU; with half as many, threads mostly wait for the interpreter between two calls
_SHARES = 256  # of the positions, whose products are added up in float64: work for all of a GPU


class NoRoomError(MemoryError):
    """A folder has no room for a pair, or is not there to be written to."""


class Pairs:
    """The last few steps s and gradient changes y, and the inverse Hessian that they imply.

    Parameters
    ----------
    memory : int
        How many pairs.
    scratch : path, or None
        A folder in whose files they are held, on the host; None for memory.
    workers : Workers, or None for one thread
    """

    def __init__(self, memory: int, scratch: Scratch = None, workers: Workers | None = None) -> None:
        self.memory, self.scratch, self.workers = memory, scratch, workers or Workers(1)
        self._pairs: list[tuple[Array, Array]] = []
        # Between `survey` and `direction`: the products of all pairs and the gradient; where a variable may move, None
        # for everywhere; and on a GPU, if all positions are in one piece, what `_pieces` gave of them.
        self._products = np.zeros((1, 1))
        self._free: Array | None = None
        self._stack: Array | None = None

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, s: Array, y: Array, products: Sequence[float] | None = None) -> float:
        """Remember a pair, unless the curvature along s is not safely positive; returns the length of s.

        Its products are ``<s, y>, <y, y>, <s, s>``, if they are known already.
        """
        if products is None:
            dot = get_xp(s, y).vdot
            products = to_floats(dot(s, y), dot(y, y), dot(s, s))
        sy, yy, ss = products
        if _is_safe(sy, yy, ss):
            if len(self._pairs) == self.memory:
                del self._pairs[0]
            self._pairs.append((self._held(s), self._held(y)))
        return ss**0.5

    def _held(self, v: Array) -> Array:
        return v if self.scratch is None or not on_host(v) else in_a_file(v, self.scratch)

    def clear(self) -> None:
        self._pairs.clear()

    def state(self) -> dict[str, list[Array]]:
        """What `restored` takes; nothing is copied."""
        return {"steps": [s for s, _ in self._pairs], "changes": [y for _, y in self._pairs]}

    def restored(self, steps: Sequence[Array], changes: Sequence[Array]) -> Pairs:
        """The same pairs again, in the same order."""
        pairs = list(zip(steps, changes, strict=True))[-self.memory :]
        self._pairs = [(self._held(s), self._held(y)) for s, y in pairs]
        return self

    def survey(self, x: Array, gradient: Array, bounds: Bounds) -> float:
        """The gradient's largest magnitude. All inner products of pairs and gradient are known by then, for
        `direction`: within the variables that may move downhill."""
        xp = get_xp(x, gradient)
        places, slopes = x.reshape(-1), gradient.reshape(-1)
        free = None if bounds is None else xp.empty(x.size, bool)

        def mask(at: slice) -> Array | None:
            if bounds is None or free is None:
                return None
            xp.logical_not(_at_bounds(places[at], slopes[at], bounds), out=free[at])
            return free[at].astype(x.dtype) if on_host(x) else free[at]  # as numbers once, not with each vector

        def of_piece(at: slice, stack: Array) -> tuple[Array, Array]:
            return inner_products(stack), abs(slopes[at]).max().astype("float64")

        self._stack = None
        found = self._pieces(of_piece, gradient, mask)
        self._free = free
        G, largest = functools.reduce(lambda one, two: (one[0] + two[0], xp.maximum(one[1], two[1])), found)
        numbers = to_host(xp.concatenate([G.reshape(-1), largest.reshape(1)]))
        self._products = numbers[:-1].reshape(G.shape)
        return float(numbers[-1])

    def direction(self, gradient: Array) -> tuple[Array, float, float, bool]:
        """``d = -H g`` for the gradient that was surveyed last; a slope; the square of d's length; whether a pair was
        used.

        H is the inverse Hessian of f with the variables held fixed that lie on a bound, where downhill is beyond it.
        The slope is no less than that of f along the path from x: what lies on a bound and would go beyond it does not
        move there, but is counted.
        """
        G, free = self._products, self._free
        q, curved = two_loops(G)
        q *= -1
        xp = get_xp(gradient)
        direction = xp.empty_like(gradient)
        coefficients = xp.asarray(q[None], gradient.dtype)

        def of_piece(at: slice, stack: Array) -> None:
            d = direction.reshape(1, -1)[:, at]
            matmul(coefficients, stack, out=d)
            if free is not None and self._stack is None:
                d *= free[at].astype(d.dtype)

        self._pieces(of_piece, gradient)
        self._stack = self._free = None
        return direction, float(G[-1] @ q), max(float(q @ G @ q), 0.0), curved

    def measure(
        self, x: Array, gradient: Array, direction: Array, x_t: Array, gradient_t: Array, bounds: Bounds
    ) -> tuple[float, float, list[float]]:
        """At a point of the path ``clip(x + t d)``: the slope of f there, and at its start; the products of the pair
        that it would be, for `add`. What does not move is no part of a slope."""
        xp = get_xp(x)
        dot = xp.vdot
        vectors = [v.reshape(-1) for v in (x, gradient, direction, x_t, gradient_t)]

        def of_piece(block: tuple[int, int], _: Buffers) -> Array:
            here, g, d, there, g_t = (v[slice(*block)] for v in vectors)
            moving, inside = d, d
            if bounds is not None:
                moving = d * (there != here)
                inside = d * ((there > bounds[0]) & (there < bounds[1]))
            s, y = there - here, g_t - g
            return xp.stack([dot(g_t, inside), dot(g, moving), dot(s, y), dot(y, y), dot(s, s)])

        blocks = Blocks(x.size, -(-x.size // POSITIONS) if on_host(x) else 1)
        found = [to_host(numbers).astype("float64") for numbers in self.workers.map(of_piece, blocks)]
        slope, first, *products = np.sum(found, axis=0).tolist()
        return slope, first, products

    def _pieces(
        self,
        function: Callable[[slice, Array], Any],
        gradient: Array,
        mask: Callable[[slice], Array | None] = lambda _: None,
    ) -> list[Any]:
        """What a function returns of pieces of all positions: of a slice, and of pairs and gradient there, ``(2 n + 1,
        length)``: all s, all y, then g, each multiplied by the mask there."""
        xp, host, size = get_xp(gradient), on_host(gradient), gradient.size
        vectors = [pair[k].reshape(-1) for k in range(2) for pair in self._pairs] + [gradient.reshape(-1)]
        count = -(-size // POSITIONS) if host else -(-size * len(vectors) * gradient.itemsize // STACKED_BYTES)

        def of_piece(block: tuple[int, int], buffers: Buffers) -> Any:
            at = slice(*block)
            if self._stack is not None:
                return function(at, self._stack)
            masked = mask(at)
            if host:
                stack = buffers.empty("pairs", (len(vectors), block[1] - block[0]), gradient)
                for row, vector in zip(stack, vectors, strict=True):
                    xp.multiply(vector[at], 1 if masked is None else masked, out=row)
            else:
                stack = xp.stack([vector[at] for vector in vectors])
                if masked is not None:
                    stack *= masked
                self._stack = stack if count == 1 else None
            return function(at, stack)

        return self.workers.map(of_piece, Blocks(size, count))


def inner_products(stack: Array) -> Array:
    """``stack @ stack^T`` of ``(n, length)``, in float64."""
    count, length = stack.shape
    if on_host(stack):
        pairs, last = stack[:-1], stack[-1]  # an odd row costs BLAS as much as four
        G = np.empty((count, count))
        G[:-1, :-1] = matmul(pairs, pairs.T)
        G[-1] = G[:, -1] = matmul(stack, last[:, None])[:, 0]
        return G
    # Over shares of the positions, which are added up in float64.
    shares = next(n for n in range(min(_SHARES, length), 0, -1) if length % n == 0)
    parts = stack.reshape(count, shares, -1).swapaxes(0, 1)
    return matmul(parts, parts.swapaxes(1, 2)).sum(axis=0, dtype="float64")


def two_loops(G: np.ndarray) -> tuple[np.ndarray, bool]:
    """``H g`` as coefficients of n steps, n changes and g, whose inner products are G; whether a pair was used."""
    n = len(G) // 2
    q = np.zeros(len(G))
    q[-1] = 1.0
    used: list[tuple[int, float, float]] = []
    scale = 1.0
    for k in reversed(range(n)):
        sy, yy, ss = G[k, n + k], G[n + k, n + k], G[k, k]
        if _is_safe(sy, yy, ss):
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


def _is_safe(sy: float, yy: float, ss: float) -> bool:
    """Whether the curvature along s, from the products of a pair, is safely positive."""
    return yy > 0 and sy > 1e-10 * (ss * yy) ** 0.5
