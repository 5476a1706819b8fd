"""The losses: the paper's, as definitions, and the terms that the objective is a sum of.

Features ``F`` stand channels-last, ``(H, W, N)``, so that the paper's matrix is a view: ``F.reshape(M, N)`` with
``M = H W`` positions and ``N`` filters (the paper's N x M, transposed). The gradients are those of the loss as a
function of F, for every F. The paper's case distinction, "where F > 0, else 0", is the backward of the ReLU that made
F, and the network's backward applies it.

Values are float64 scalars on the device of their arguments (zero-dimensional arrays in CuPy). They are summed in
float64, because a line search compares losses that differ in the seventh digit.

A **layer term** is a loss of one layer's features that knows them only by sums over positions, so that it can be
measured and sent back a block of positions at a time:

- ``statistics(F, at)``: the sums over a block, F ``(rows, N)``; ``at`` is the slice of all M positions that it is. The
  sums of all blocks are added up.
- ``solve(sums, scale)``: the term's value times scale, and what its gradient needs.
- ``add_gradient(F, at, solution, out, scratch)``: adds ``dL/dF`` of a block to out ``(rows, N)``, and returns the sum
  of its squares; that of all blocks is the squared norm of the gradient with respect to all of F.

Each position may have a weight, w ``(M,)``, 0 or more: it counts w times, as if it were there that often. A
**pixel term** is a function of the picture, ``x -> (value, gradient)``; `tv_loss` is one.

References
----------
[1] Gatys, Ecker, Bethge 2015, A Neural Algorithm of Artistic Style, arXiv:1508.06576.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Protocol

from .backend import Array, get_xp, matmul, on_host
from .ops import inner
from .positions import LEAST, Weights
from .workers import Scratch

Sums = tuple[Any, ...]
"""A term's sums over positions: arrays and scalars."""


def content_loss(F: Array, P: Array) -> tuple[Array, Array]:
    """``L = 1/2 sum (F - P)^2`` and ``dL/dF = F - P``; [1], equations 1 and 2.

    Parameters
    ----------
    F, P : arrays ``(H, W, N)``, float
        Features of the image x and of the content picture p at one layer.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if F.shape != P.shape:
        raise ValueError(f"content features of one shape expected; F.shape={F.shape}, P.shape={P.shape}")
    residual = F - P
    return sum_of_squares(residual) / 2, residual


def gram_matrix(F: Array) -> Array:
    """``G_ij = sum_k F_ik F_jk``, the sum over the M positions of products of two filters; [1], equation 3.

    Parameters
    ----------
    F : array ``(H, W, N)``, float

    Returns
    -------
    G : array ``(N, N)``, symmetric
    """
    F = F.reshape(-1, F.shape[-1])
    return matmul(F.T, F)


def style_loss(F: Array, A: Array) -> tuple[Array, Array]:
    """``E = 1/(4 N^2 M^2) sum (G - A)^2`` and ``dE/dF = 1/(N^2 M^2) (G - A) F``; [1], equations 4 and 6.

    Parameters
    ----------
    F : array ``(H, W, N)``, float
        Features of the image x at one layer; M = H W.
    A : array ``(N, N)``
        The Gram matrix to reach. If the style picture has M_a positions and x has M, scale it by ``M / M_a``.

    Raises
    ------
    ValueError
        If A is not ``(N, N)``.

    Notes
    -----
    With F as ``(M, N)``, ``G = F'F`` and ``R = G - A``: ``dE = 1/(2 N^2 M^2) sum R dG`` and ``dG = dF'F + F'dF``. R is
    symmetric, so both halves give the same sum, and ``dE = 1/(N^2 M^2) sum (F R) dF``.
    """
    N = F.shape[-1]
    if A.shape != (N, N):
        raise ValueError(f"a Gram matrix of shape {(N, N)} expected, {A.shape} given; F.shape={F.shape}")
    positions = F.reshape(-1, N)
    value, K = gram_loss(gram_matrix(F), A, len(positions))
    return value, matmul(positions, K).reshape(F.shape)


def gram_loss(G: Array, A: Array, M: Any) -> tuple[Array, Array]:
    """`style_loss` as a function of the Gram matrix: ``E = 1/(4 N^2 M^2) sum (G - A)^2``, and K with ``dE/dF = F K``.

    Parameters
    ----------
    G, A : arrays ``(N, N)``
        The Gram matrix of x at one layer, and the one to reach.
    M : number
        The number of positions that G was summed over, or the sum of their weights.

    Returns
    -------
    value : float64 scalar
    K : array ``(N, N)``, ``(G - A) / (N^2 M^2)``
    """
    residual = G - A
    size = len(G) * M
    return sum_of_squares(residual) / (2 * size) ** 2, residual * (1 / size**2)


def tv_loss(x: Array, wraps: tuple[bool, bool] = (False, False)) -> tuple[Array, Array]:
    """Total variation, ``L = sum (x[h+1, w] - x[h, w])^2 + sum (x[h, w+1] - x[h, w])^2``, and its gradient.

    The squared, anisotropic form: it is smooth everywhere, which a quasi-Newton method needs.

    Parameters
    ----------
    x : array ``(H, W, C)``, float
        The picture itself, in [0, 1].
    wraps : (rows, columns)
        Whether the first one has the last one for its neighbour, too.

    Notes
    -----
    Each difference d = b - a adds ``d^2`` to the loss, ``2d`` to the gradient at b and ``-2d`` at a.
    """
    value, gradient = 0.0, get_xp(x).zeros(x.shape, x.dtype)
    for rows, g, wrap in ((x, gradient, wraps[0]), (x.swapaxes(0, 1), gradient.swapaxes(0, 1), wraps[1])):
        for b, a in ((slice(1, None), slice(-1)), (slice(1), slice(-1, None)))[: 1 + wrap]:
            d = rows[b] - rows[a]
            value = value + sum_of_squares(d)
            g[b] += 2 * d
            g[a] -= 2 * d
    return value, gradient


def sum_of_squares(residual: Array) -> Array:
    """Summed in float64; a zero-dimensional array on the residual's device."""
    return inner(residual, residual)


def block_square(gradient: Array) -> Array:
    """The sum of squares of a block of a gradient, for norms that are told and decide nothing: on a CPU as one product,
    in the block's own precision, in a tenth of the time."""
    if not on_host(gradient):
        return sum_of_squares(gradient)
    square = get_xp(gradient).vdot(gradient, gradient)
    if 0 < square < math.inf:
        return square.astype("float64")
    return sum_of_squares(gradient.astype("float64"))  # too large, or too small, for that precision


class LayerTerm(Protocol):
    """What `Objective` knows of a layer's loss; see the head of this module."""

    def statistics(self, F: Array, at: slice) -> Sums: ...

    def solve(self, sums: Sums, scale: float) -> tuple[Array, Any]: ...

    def add_gradient(self, F: Array, at: slice, solution: Any, out: Array, scratch: Scratch) -> Array: ...


class Content:
    """`content_loss`, ``1/2 sum w (F - P)^2``, as a layer term.

    Parameters
    ----------
    P : array ``(H, W, N)``, float
    weight : float
    w : array ``(M,)``, or None for ones
    """

    def __init__(self, P: Array, weight: float = 1.0, w: Array | None = None) -> None:
        self.P, self.weight = P.reshape(-1, P.shape[-1]), weight
        self.w = None if w is None else w.reshape(-1, 1)

    def statistics(self, F: Array, at: slice) -> Sums:
        residual = F - self.P[at]
        if self.w is None:
            return (sum_of_squares(residual) / 2,)
        square = (residual * residual).sum(axis=1, dtype="float64")
        return ((self.w[at, 0] * square).sum() / 2,)

    def solve(self, sums: Sums, scale: float) -> tuple[Array, float]:
        scale *= self.weight
        return scale * sums[0], scale

    def add_gradient(self, F: Array, at: slice, solution: float, out: Array, scratch: Scratch) -> Array:
        gradient = get_xp(F).subtract(F, self.P[at], out=scratch.empty("term", F.shape, F))
        gradient *= solution
        if self.w is not None:
            gradient *= self.w[at]
        out += gradient
        return block_square(gradient)


class Gram:
    """`style_loss` as a layer term: G = F' diag(w) F, with the sum of the weights in place of M.

    The terms of style have one form. They know F by the sums ``G``, ``m = F' w`` and ``s = sum w``, and the gradient
    at position k is ``w_k (K F_k + b)``.

    Parameters
    ----------
    targets : sequence of (target, weight)
        What `describe` makes of style pictures' sums; the term is the weighted sum of the losses for each.
    w : array ``(M,)``, or None for ones
    """

    MEAN = False  # whether m is needed

    def __init__(self, targets: Sequence[tuple[Sums, float]] = (), w: Array | None = None) -> None:
        self.targets = targets
        self.w = None if w is None else Weights(w)

    def statistics(self, F: Array, at: slice) -> Sums:
        """G, m and s. What they are solved by needs no weights."""
        if self.w is None:
            return matmul(F.T, F), self._sum(F), float(len(F))
        sums: Sums = 0.0, 0.0, 0.0 if at.start else self.w.total  # known: it comes with the first block
        for rows, w in self.w.within(at, F.shape[1]):
            here, root = F[rows], None if w is None else get_xp(F).sqrt(w)
            if root is not None:
                here = root * here  # G of one matrix with itself, in half the time that two would take
            sums = tuple(map(operator.add, sums, (matmul(here.T, here), self._sum(here, root), 0.0)))
        return sums

    def _sum(self, F: Array, w: Array | None = None) -> Any:
        return (F if w is None else w * F).sum(axis=0, dtype="float64") if self.MEAN else 0.0

    def describe(self, sums: Sums) -> Sums:
        """What a style picture's sums are kept as: per position, so that a picture of any size can be compared.

        Of no position it is nothing, ``()``.
        """
        G, m, s = sums
        return () if s < LEAST else self._describe(G / s, m / s)

    def solve(self, sums: Sums, scale: float) -> tuple[Array, tuple[Array, Array | None]]:
        value, b = 0.0, None
        K: Array = 0.0
        G, m, s = sums
        for target, weight in self.targets:
            v, k, c = self._compare(G, m, s, target)
            value, K = value + weight * v, K + weight * k
            if c is not None:
                b = weight * c if b is None else b + weight * c
        return scale * value, ((scale * K).astype(G.dtype), None if b is None else (scale * b).astype(G.dtype))

    def add_gradient(
        self, F: Array, at: slice, solution: tuple[Array, Array | None], out: Array, scratch: Scratch
    ) -> Array:
        K, b = solution
        square: Array = 0.0
        everywhere: tuple[slice, Array | None] = (slice(None), None)
        for rows, w in [everywhere] if self.w is None else self.w.within(at, F.shape[1]):
            here = F[rows]
            gradient = matmul(here, K, out=scratch.empty("term", here.shape, F))
            if b is not None:
                gradient += b
            if w is not None:
                gradient *= w
            out[rows] += gradient
            square = square + block_square(gradient)
        return square

    def _describe(self, A: Array, mean: Array) -> Sums:
        return (A,)

    def _compare(self, G: Array, m: Array, s: Any, target: Sums) -> tuple[Array, Array, Array | None]:
        """The value for one target, and its K and b (or None for zero)."""
        return *gram_loss(G, target[0] * s, s), None


class Covariance(Gram):
    """``1/(4 N^2 s^2) sum (C - s C_a)^2`` with ``C = G - m m' / s``: the Gram matrix of F minus its mean.

    Notes
    -----
    ``dC = dF' diag(w) (F - m/s) + its transpose``, since the weighted sum of ``F - m/s`` is zero. So K is that of
    `gram_loss` for C, and the gradient ``w_k K (F_k - m/s)``, that is, ``b = -K m/s``.
    """

    MEAN = True

    def _describe(self, A: Array, mean: Array) -> Sums:
        return (A - (mean[:, None] * mean).astype(A.dtype),)

    def _compare(self, G: Array, m: Array, s: Any, target: Sums) -> tuple[Array, Array, Array]:
        C = G - (m[:, None] * m / s).astype(G.dtype)
        value, K = gram_loss(C, target[0] * s, s)
        return value, K, -(K * m).sum(axis=1) / s


class GramMoments(Gram):
    """`Gram`, and ``c (sum (mu - mu_a)^2 + sum (sigma - sigma_a)^2)``: each filter's mean and standard deviation.

    The constant c makes means and deviations of zero as wrong as a Gram matrix of zeros: with A per position,
    ``c = sum A^2 / (4 N^2 tr A)``. A filter that is dead has no slope: ``sigma = sqrt(variance + g)``, where g is 1e-4
    of the filters' mean square, on both sides.

    Notes
    -----
    ``d mu = sum_k w_k dF_k / s`` and ``d sigma = sum_k w_k (F_k - mu) dF_k / (s sigma)``, for each filter. So with
    ``D = 2 c (sigma - sigma_a) / (s sigma)``, K has D more on its diagonal, and ``b = 2 c (mu - mu_a) / s - D mu``.
    """

    MEAN = True
    GUARD = 1e-4

    def _describe(self, A: Array, mean: Array) -> Sums:
        xp = get_xp(A)
        squares = xp.diagonal(A).astype("float64")
        total = squares.sum() + xp.finfo("float64").tiny
        guard = self.GUARD * total / len(A)
        c = sum_of_squares(A) / (4 * len(A) ** 2 * total)
        return A, mean, self._deviation(squares - mean**2, guard), guard, c

    def _compare(self, G: Array, m: Array, s: Any, target: Sums) -> tuple[Array, Array, Array]:
        _, mean_a, deviation_a, guard, c = target
        value, K, _ = super()._compare(G, m, s, target)
        xp = get_xp(G)
        mean = m / s
        deviation = self._deviation(xp.diagonal(G).astype("float64") / s - mean**2, guard)
        too_bright, too_wide = mean - mean_a, deviation - deviation_a
        D = 2 * c / s * too_wide / deviation
        value = value + c * (sum_of_squares(too_bright) + sum_of_squares(too_wide))
        return value, K + xp.diag(D).astype(K.dtype), 2 * c / s * too_bright - D * mean

    @staticmethod
    def _deviation(variance: Array, guard: Array) -> Array:
        xp = get_xp(variance)
        return xp.sqrt(xp.maximum(variance, 0) + guard)  # rounding may leave a variance below zero


STYLE_STATISTICS: dict[str, type[Gram]] = {"gram": Gram, "gram+moments": GramMoments, "covariance": Covariance}
"""What a style is known by."""
