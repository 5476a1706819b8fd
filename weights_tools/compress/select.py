"""Which filters of a layer stay: those from which all of them can be told best."""

from __future__ import annotations

from nsnumpy.backend import Array, get_xp, matmul, to_floats

_ROUNDING = 1e-9  # of the mean diagonal of R: what is less is rounding


def choose(moments: Array, count: int, importance: Array | None = None) -> list[int]:
    """The filters from which a linear map tells all filters of the layer best, chosen one by one.

    With C the second moments, R what the filters chosen so far leave of it (at first C), each step takes the filter j
    that takes away most of ``tr(Q R)``, which is ``(R Q R)_jj / R_jj``, and R becomes its Schur complement,
    ``R - R_j R_j' / R_jj``: forward selection for the least squares problem of all filters at once. (With the largest
    R_jj in place of the largest gain it would be pivoted Cholesky.)

    Parameters
    ----------
    moments : array ``(N, N)``
        C, the means over positions of products of two filters.
    count : int
        How many to choose, 1 to N.
    importance : array ``(N, N)``, or None
        Q, positive semidefinite: how much an error of the features counts; None is the identity.

    Returns
    -------
    list of int
        In ascending order.
    """
    xp = get_xp(moments)
    R = moments.astype("float64")
    least = _ROUNDING * to_floats(xp.trace(R))[0] / len(R)
    chosen: list[int] = []
    free = xp.ones(len(R), bool)
    for _ in range(count):
        diagonal = xp.diagonal(R)
        gain = ((R if importance is None else matmul(R, importance)) * R).sum(axis=1)
        score = xp.where(diagonal > least, gain / xp.maximum(diagonal, least or 1), 0)
        score = xp.where(free, score, -1)
        j = int(to_floats(score.argmax())[0])
        chosen.append(j)
        free[j] = False
        if to_floats(diagonal[j])[0] > least:
            R = R - R[:, j, None] * R[j] / R[j, j]
    return sorted(chosen)
