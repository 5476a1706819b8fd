"""How the losses are normalised: by name, so that a weight found with one normalisation is not used with another.

Each convention is the paper's losses (`losses`) times constants, which are fixed by the pictures and never depend on
the image that is being optimised. With M positions and N filters in a layer, P the content's features there, A the
style's Gram matrix over its M_a positions, W x H the image, d the differences of its neighbouring pixels in [0, 1],
w_l the weight of one of n layers that was given none, and R = G / M - A / M_a (of other statistics of a style, as
covariances, the first ones stand for A and G, and the constant multiplies all of the term):

    convention        content                       style of a layer             w_l     total variation
    paper             1/2 sum (F - P)^2             sum (M R)^2 / (4 N^2 M^2)    1/n     sum d^2
    relative          mean (F - P)^2 / mean P^2     mean R^2 / mean (A / M_a)^2  1/n     mean d^2
    jcjohnson         mean (F - P)^2                mean (R / N)^2               1       1/2 sum (256 d)^2 [a]
    gatys-pytorch     mean (F - P)^2                1/N^2 mean R^2               1       (none)
    anishathalye      mean (F - P)^2                mean (R / N)^2               1/n     2 mean (255 d)^2 [b]
    pytorch-tutorial  mean (F - P)^2                mean (R / N)^2               1       (none)
    gordicaleksa      mean (F - P)^2                sum (R / N)^2                1/n     (another function)
    pystiche          mean (F - P)^2                mean R^2                     1       sum d^2 / (3 (H-1) (W-1)) [a]
    cysmith           sum (F - P)^2 / (2 sqrt(N M)) sum (M R)^2 / (4 N^2 M^2)    1/n^2   (another function)
    titu1994          sum (F - P)^2                 sum (M R)^2 / (36 H^2 W^2)   1/n     (another function)

"paper" is [1]. Its content loss grows with the number of positions and with the scale of the features, and its style
loss with the fourth power of that scale: so a good beta belongs to one size and one network. The terms of "relative"
have no units. A content or style loss of 1 means features, or Gram matrices, as wrong as zeros would be; the same
weights can serve every size and every network, whether its filters are normalised or not.

The others are public tools', so that a weight found with one carries over to the same network (`carry` and
``nsnumpy conventions`` do it between any two):

    convention        tool                                                  alpha  beta
    jcjohnson         jcjohnson/neural-style; neural-style-pt but its tv    5      100
    gatys-pytorch     leongatys/PytorchNeuralStyleTransfer                  1      1000
    anishathalye      anishathalye/neural-style                             5      500
    pytorch-tutorial  "Neural Transfer Using PyTorch"                       1      1e6
    gordicaleksa      gordicaleksa/pytorch-neural-style-transfer            1e5    3e4
    pystiche          pystiche's losses; its example's weights              1      1000
    cysmith           cysmith/neural-style-tf, -content_loss_function 1     5      1e4
    titu1994          titu1994/Neural-Style-Transfer, Network.py            0.025  1

fzliu's, YiranJiang's and DeepTextures' losses are the paper's own. A weight w_l that is given counts as it is; cysmith
and anishathalye first divide theirs by their sum. Where a tool has no total variation or another function (sums of
``|d|``, powers), the convention has the paper's sum. [a]: but for the differences along the last row and column, which
these two leave out; jcjohnson's tool has the gradient of it alone and does not report it. [b]: for a square; else the
tool has the mean over the rows plus that over the columns, which differs by less than 1/H + 1/W.

What a convention cannot bring along is the features: pytorch-tutorial's are taken before the ReLU, as is cysmith's
content layer, and gordicaleksa feeds its network pixels of another scale than it expects.

Impossible as a convention: crowsonkb/style_transfer and andersbll/neural_artistic_style, and neural-style with
-normalize_gradients, divide each layer's gradient by its own L1 norm, so that no function of the image has that
gradient; crowsonkb/style-transfer-pytorch compares means and covariances by a Wasserstein distance, and titu1994's
INetwork.py differences between layers, which are other functions than the paper's.

References
----------
[1] Gatys, Ecker, Bethge 2015, A Neural Algorithm of Artistic Style, arXiv:1508.06576.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .backend import Array, to_floats
from .ops import inner


@dataclass(frozen=True)
class Convention:
    """What the paper's losses are multiplied with.

    Attributes
    ----------
    content : function of P's size M N, and of the mean of its squares
    style : function of ``A / M_a`` ``(N, N)``
    tv : function of the image's shape ``(H, W, C)``
    style_at : function of a layer's positions M and the image's shape
        A further constant of the style's.
    layer_weight : function of the number of layers
        The weight w_l of a layer that was given none.
        Each of these returns a float.
    of_pictures : bool
        Whether the constants depend on the values of P and A, not on their shapes alone.
    """

    content: Callable[[int, float], float] = lambda size, square: 1.0
    style: Callable[[Array], float] = lambda A: 1.0
    tv: Callable[[tuple[int, ...]], float] = lambda shape: 1.0
    style_at: Callable[[int, tuple[int, ...]], float] = lambda M, shape: 1.0
    layer_weight: Callable[[int], float] = lambda n: 1 / n
    of_pictures: bool = False


def mean_square(x: Array) -> float:
    return to_floats(inner(x, x))[0] / x.size


def _differences(shape: tuple[int, ...]) -> int:
    height, width, channels = shape
    return ((height - 1) * width + height * (width - 1)) * channels or 1


def _inner(shape: tuple[int, ...]) -> int:
    height, width, channels = shape
    return (height - 1) * (width - 1) * channels or 1


def _mean(size: int, square: float) -> float:
    """Half the sum of squares times this is their mean."""
    return 2 / size


def _mean_of_means(A: Array) -> float:
    """``sum (M R)^2 / (4 N^2 M^2)`` times this is ``mean (R / N)^2``."""
    return 4 / A.shape[0] ** 2


def _whole(n: int) -> float:
    return 1.0


CONVENTIONS = {
    "paper": Convention(),
    "relative": Convention(
        content=lambda size, square: 2 / size / (square or 1.0),  # zeros, of a black picture, say, cannot be a unit
        style=lambda A: 4 / (mean_square(A) or 1.0),
        tv=lambda shape: 1 / _differences(shape),
        of_pictures=True,
    ),
    "jcjohnson": Convention(_mean, _mean_of_means, tv=lambda shape: 256**2 / 2, layer_weight=_whole),
    "gatys-pytorch": Convention(_mean, _mean_of_means, layer_weight=_whole),
    "anishathalye": Convention(_mean, _mean_of_means, tv=lambda shape: 2 * 255**2 / _differences(shape)),
    "pytorch-tutorial": Convention(_mean, _mean_of_means, layer_weight=_whole),
    "gordicaleksa": Convention(_mean, style=lambda A: 4.0),
    "pystiche": Convention(_mean, style=lambda A: 4.0, tv=lambda shape: 1 / _inner(shape), layer_weight=_whole),
    "cysmith": Convention(content=lambda size, square: size**-0.5, layer_weight=lambda n: 1 / n**2),
    "titu1994": Convention(
        content=lambda size, square: 2.0,
        style=lambda A: A.shape[0] ** 2 / 9,
        style_at=lambda M, shape: (M / (shape[0] * shape[1])) ** 2,
    ),
}


def convention_of(name: str) -> Convention:
    """The convention of that name; ValueError if there is none."""
    if name not in CONVENTIONS:
        raise ValueError(f"unknown convention {name!r}: choose from {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]
