"""How the losses are normalised: by name, so that a weight found with one normalisation is not used with another.

Each convention is the paper's losses (`losses`) times constants, which are fixed by the pictures and never depend on
the image that is being optimised. With M positions and N filters in a layer, P the content's features there, and A the
style's Gram matrix over its M_a positions:

    convention   content                               style                                     total variation
    paper        1/2 sum (F - P)^2                     1/(4 N^2 M^2) sum (G - A M / M_a)^2       sum d^2
    relative     mean (F - P)^2 / mean P^2             mean (G / M - A / M_a)^2                  mean d^2
                                                         / mean (A / M_a)^2

"paper" is [1]. Its content loss grows with the number of positions and with the scale of the features, and its style
loss with the fourth power of that scale: so a good beta belongs to one size and one network. The terms of "relative"
have no units. A content or style loss of 1 means features, or Gram matrices, as wrong as zeros would be; the same
weights can serve every size and every network, whether its filters are normalised or not.

References
----------
[1] Gatys, Ecker, Bethge 2015, A Neural Algorithm of Artistic Style, arXiv:1508.06576.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .backend import Array, to_floats


@dataclass(frozen=True)
class Convention:
    """What the paper's losses are multiplied with.

    Attributes
    ----------
    content : function of P ``(H, W, N)``
    style : function of ``A / M_a`` ``(N, N)``
    tv : function of the image's shape ``(H, W, C)``
        Each returns a float.
    """

    content: Callable[[Array], float]
    style: Callable[[Array], float]
    tv: Callable[[tuple[int, ...]], float]


def _mean_square(x: Array) -> float:
    return to_floats((x * x).mean(dtype="float64"))[0] or 1.0  # zeros, of a black picture, say, cannot be a unit


def _differences(shape: tuple[int, ...]) -> int:
    height, width, channels = shape
    return ((height - 1) * width + height * (width - 1)) * channels or 1


CONVENTIONS = {
    "paper": Convention(content=lambda P: 1.0, style=lambda A: 1.0, tv=lambda shape: 1.0),
    "relative": Convention(
        content=lambda P: 2 / P.size / _mean_square(P),
        style=lambda A: 4 / _mean_square(A),
        tv=lambda shape: 1 / _differences(shape),
    ),
}
