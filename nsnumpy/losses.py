"""The paper's losses, each as ``(value, gradient)`` from one shared residual.

Features ``F`` stand channels-last, ``(H, W, N)``, so that the paper's matrix is a view: ``F.reshape(M, N)`` with
``M = H W`` positions and ``N`` filters (the paper's N x M, transposed). The gradients are those of the loss as a
function of F, for every F. The paper's case distinction, "where F > 0, else 0", is the backward of the ReLU that made
F, and the network's backward applies it.

Values are float64 scalars on the device of their arguments (zero-dimensional arrays in CuPy). They are summed in
float64, because a line search compares losses that differ in the seventh digit.

References
----------
[1] Gatys, Ecker, Bethge 2015, A Neural Algorithm of Artistic Style, arXiv:1508.06576.
"""

from __future__ import annotations

from .backend import Array, get_xp
from .workers import Scratch, Workers


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


def gram_matrix(F: Array, workers: Workers | None = None) -> Array:
    """``G_ij = sum_k F_ik F_jk``, the sum over the M positions of products of two filters; [1], equation 3.

    Parameters
    ----------
    F : array ``(H, W, N)``, float
    workers : Workers, or None for one thread
        The sum is taken over blocks of positions.

    Returns
    -------
    G : array ``(N, N)``, symmetric
    """
    F = F.reshape(-1, F.shape[-1])
    if workers is None:
        return F.T @ F

    def partial(block: tuple[int, int], _: Scratch) -> Array:
        rows = F[block[0] : block[1]]
        return rows.T @ rows

    return sum(workers.map(partial, workers.blocks(len(F), F.shape[1] * F.dtype.itemsize)))


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
    return value, (positions @ K).reshape(F.shape)


def gram_loss(G: Array, A: Array, M: int) -> tuple[Array, Array]:
    """`style_loss` as a function of the Gram matrix: ``E = 1/(4 N^2 M^2) sum (G - A)^2``, and K with ``dE/dF = F K``.

    Parameters
    ----------
    G, A : arrays ``(N, N)``
        The Gram matrix of x at one layer, and the one to reach.
    M : int
        The number of positions that G was summed over.

    Returns
    -------
    value : float64 scalar
    K : array ``(N, N)``, ``(G - A) / (N^2 M^2)``
    """
    residual = G - A
    size = len(G) * M
    return sum_of_squares(residual) / (2 * size) ** 2, residual * (1 / size**2)


def tv_loss(x: Array) -> tuple[Array, Array]:
    """Total variation, ``L = sum (x[h+1, w] - x[h, w])^2 + sum (x[h, w+1] - x[h, w])^2``, and its gradient.

    The squared, anisotropic form: it is smooth everywhere, which a quasi-Newton method needs.

    Parameters
    ----------
    x : array ``(H, W, C)``, float
        The picture itself, in [0, 1].

    Notes
    -----
    Each difference d = b - a adds ``d^2`` to the loss, ``2d`` to the gradient at b and ``-2d`` at a.
    """
    down = x[1:] - x[:-1]
    right = x[:, 1:] - x[:, :-1]
    gradient = get_xp(x).zeros(x.shape, x.dtype)
    gradient[1:] += 2 * down
    gradient[:-1] -= 2 * down
    gradient[:, 1:] += 2 * right
    gradient[:, :-1] -= 2 * right
    return sum_of_squares(down) + sum_of_squares(right), gradient


def sum_of_squares(residual: Array) -> Array:
    """Summed in float64; a zero-dimensional array on the residual's device."""
    return (residual * residual).sum(dtype="float64")
