"""The checks that ``nsnumpy gradcheck`` runs: every op, every loss, and the whole map from pixels to the total loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np

from ..architecture import POOLINGS, Preprocessing
from ..backend import Array, device_namespace, get_xp
from ..files.random_network import random_weights
from ..gradcheck import check_adjoint, check_gradient
from ..losses import STYLE_STATISTICS, Content, LayerTerm, content_loss, gram_matrix, style_loss, tv_loss
from ..objective import Objective
from ..ops import (
    BORDERS,
    avgpool_backward,
    avgpool_forward,
    conv_backward,
    conv_backward_weight,
    conv_forward,
    maxpool_backward,
    maxpool_forward,
    patches_relu_backward,
    patches_relu_forward,
    relu_backward,
    relu_forward,
    winograd_backward,
    winograd_backward_weight,
    winograd_forward,
    winograd_relu_backward,
    winograd_relu_forward,
    winograd_weight,
)
from ..variable import VARIABLES, Kept
from ..vgg import VGG
from ..workers import Scratch

ADJOINT, LOSS, WHOLE = 1e-12, 1e-7, 1e-6
"""Tolerances: of an adjoint identity, of a loss's gradient, of the whole map's. All relative, in float64."""

Loss = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Check:
    """One row: what was checked, how, its relative error, and how large that may be."""

    name: str
    method: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def run_checks(device: str = "cpu", seed: int = 0) -> Iterator[Check]:
    """Yield each check as it is done; odd sizes, H != W, C_in != C_out, random cotangents, float64.

    Raises
    ------
    DeviceError
        If the device cannot be had.
    KinkError
        If the random picture of this seed lies too near to a kink to prove anything.
    """
    xp = device_namespace(device)
    rng = _Random(xp, seed)
    yield from _op_checks(rng)
    yield from _loss_checks(rng)
    for name, variable in VARIABLES.items():
        x, gx, m = rng.standard_normal((7, 5, 3)), rng.standard_normal((7, 5, 3)), rng.random_sample((7, 5))
        error = check_adjoint(variable.picture, variable.adjoint, variable.of_picture(x), gx)
        yield Check(f"{name} as the variable", "adjoint identity", error, ADJOINT)
        kept = Kept(0 * x, m, variable)  # the linear part: a photograph is added to it
        error = check_adjoint(kept.picture, kept.adjoint, kept.of_picture(x), gx)
        yield Check(f"{name} within regions as the variable", "adjoint identity", error, ADJOINT)
    for pooling in POOLINGS:
        pictures = [rng.random_sample(shape) for shape in ((19, 17, 3), (24, 41, 3), (19, 17, 3))]
        for convolution in ("winograd", "direct"):
            yield _whole_check(xp, pictures, pooling, convolution)
        yield _whole_check(xp, pictures, pooling, "winograd", masks=[rng.random_sample((19, 17)) for _ in range(2)])
    pictures = [rng.random_sample(shape) for shape in ((32, 16, 3), (24, 41, 3), (32, 16, 3))]
    yield _whole_check(xp, pictures, "avg", "winograd", "wrap")
    yield from _fused_checks(rng)


class _Random:
    """NumPy's numbers as arrays of a device, so that a check has the same inputs everywhere."""

    def __init__(self, xp: ModuleType, seed: int) -> None:
        self._xp = xp
        self._host = np.random.RandomState(seed)

    def standard_normal(self, shape: int | tuple[int, ...]) -> Array:
        return self._xp.asarray(self._host.standard_normal(shape))

    def random_sample(self, shape: tuple[int, ...]) -> Array:
        return self._xp.asarray(self._host.random_sample(shape))


def _op_checks(rng: _Random) -> Iterator[Check]:
    x, gy = rng.standard_normal((2, 9, 7, 5)), rng.standard_normal((2, 9, 7, 4))
    weight, bias = rng.standard_normal((3, 3, 5, 4)), rng.standard_normal(4)
    no_bias, no_weight, zero = 0 * bias, 0 * weight, 0 * x
    mask = x > 0
    _, winner = maxpool_forward(x)
    pooled = rng.standard_normal((2, 4, 3, 5))
    U = winograd_weight(weight)

    def weight_forward(w: Array) -> Array:
        return winograd_forward(x, winograd_weight(w), no_bias)

    for name, forward, backward, at, cotangent in (
        ("conv", lambda x: conv_forward(x, weight, no_bias), lambda gy: conv_backward(gy, weight), x, gy),
        ("conv, Winograd", lambda x: winograd_forward(x, U, no_bias), lambda gy: winograd_backward(gy, U), x, gy),
        ("conv, Winograd, weight", weight_forward, lambda gy: winograd_backward_weight(gy, x, U)[1], weight, gy),
        ("conv, weight", lambda w: conv_forward(x, w, no_bias), lambda gy: conv_backward_weight(gy, x)[0], weight, gy),
        ("conv, bias", lambda b: conv_forward(zero, no_weight, b), lambda gy: conv_backward_weight(gy, x)[1], bias, gy),
        ("relu", lambda x: relu_forward(x)[0], lambda g: relu_backward(g, mask), x, rng.standard_normal(x.shape)),
        ("avgpool", avgpool_forward, lambda gy: avgpool_backward(gy, x.shape), x, pooled),
        ("maxpool", lambda x: maxpool_forward(x)[0], lambda gy: maxpool_backward(gy, winner, x.shape), x, pooled),
    ):
        yield Check(name, "adjoint identity", check_adjoint(forward, backward, at, cotangent), ADJOINT)
    for border in ((name, name) for name in BORDERS[1:]):
        for name, forward, backward in (
            ("conv", partial(conv_forward, weight=weight, bias=no_bias), partial(conv_backward, weight=weight)),
            ("conv, Winograd", partial(winograd_forward, U=U, bias=no_bias), partial(winograd_backward, U=U)),
        ):
            error = check_adjoint(partial(forward, border=border), partial(backward, border=border), x, gy)
            yield Check(f"{name}, {border[0]} border", "adjoint identity", error, ADJOINT)


def _fused_checks(rng: _Random) -> Iterator[Check]:
    """The steps that are not linear, as the loss ``<y, c>`` with a random c."""
    x = rng.standard_normal((9, 7, 5))
    weight, bias = rng.standard_normal((3, 3, 5, 4)), rng.standard_normal(4)
    U = winograd_weight(weight)

    def winograd(pool: bool, c: Array) -> Loss:
        def loss(x: Array) -> tuple[Array, Array]:
            y, signs = winograd_relu_forward(x, U, bias, pool=pool)
            return (y * c).sum(), winograd_relu_backward(c, U, signs, x.shape[:2], pool=pool)

        return loss

    def patches(c: Array) -> Loss:
        return lambda x: ((patches_relu_forward(x, weight, bias) * c).sum(), patches_relu_backward(c, x, weight, bias))

    c, pooled = rng.standard_normal((9, 7, 4)), rng.standard_normal((4, 3, 4))
    for name, loss in (
        ("conv, ReLU by Winograd", winograd(False, c)),
        ("conv, ReLU, avgpool by Winograd", winograd(True, pooled)),
        ("conv, ReLU by patches", patches(c)),
    ):
        yield Check(name, "central differences", check_gradient(loss, x, tolerance=LOSS), LOSS)


def _loss_checks(rng: _Random) -> Iterator[Check]:
    F, P, x = rng.random_sample((7, 5, 6)), rng.random_sample((7, 5, 6)), rng.random_sample((7, 5, 3))
    a, b = rng.random_sample((12, 6)), rng.random_sample((20, 6))
    A = gram_matrix(a) * (35 / 12)
    w = rng.random_sample((35,)) * (rng.random_sample((35,)) < 0.7)  # zeros among them
    losses: dict[str, tuple[Loss, Array]] = {
        "content loss": (lambda F: content_loss(F, P), F),
        "style loss": (lambda F: style_loss(F, A), F),
        "total variation": (tv_loss, x),
        "total variation that wraps": (partial(tv_loss, wraps=(True, True)), x),
        "content term, weighted positions": (of_features(Content(P, 1.5, w)), F),
    }
    for name, kind in STYLE_STATISTICS.items():
        targets = [
            (kind().describe(kind().statistics(F_a, slice(None))), weight) for F_a, weight in ((a, 0.7), (b, 0.3))
        ]
        losses[f"{name} term, two styles"] = of_features(kind(targets)), F
        losses[f"{name} term, weighted positions"] = of_features(kind(targets, w)), F
    for name, (loss, at) in losses.items():
        yield Check(name, "central differences", check_gradient(loss, at, tolerance=LOSS), LOSS)


def of_features(term: LayerTerm) -> Loss:
    """A layer term as a function of F ``(H, W, N)``, measured and sent back in two blocks."""

    def loss(F: Array) -> tuple[Array, Array]:
        positions = F.reshape(-1, F.shape[-1])
        blocks = [slice(0, len(positions) // 3), slice(len(positions) // 3, len(positions))]
        parts = [term.statistics(positions[at], at) for at in blocks]
        value, solution = term.solve(tuple(map(sum, zip(*parts, strict=True))), 1.0)
        gradient = get_xp(F).zeros_like(positions)
        for at in blocks:
            term.add_gradient(positions[at], at, solution, gradient[at], Scratch())
        return value, gradient.reshape(F.shape)

    return loss


def _whole_check(
    xp: ModuleType,
    pictures: list[Array],
    pooling: str,
    convolution: str,
    border: str = "zero",
    masks: Sequence[Array] = (),
) -> Check:
    """The map from pixels to the total loss; with masks, of a style for each."""
    vgg = VGG(
        random_weights((7, 8, 9, 10, 11), seed=1),
        xp=xp,
        preprocessing=Preprocessing("BGR", 255.0, (104.0, 117.0, 124.0), (58.0, 57.0, 57.0)),
        pooling=pooling,
        dtype="float64",
        convolution=convolution,
        border=border,
    )
    p, a, x = pictures
    style = [(a, 1.0, masks[0]), (p, 1.0, masks[1])] if masks else a
    objective = Objective(vgg, content=p, style=style, alpha=1e-3, beta=1.0, tv=1e-3)
    # Few units and a short step keep every ReLU and maximum on its side; KinkError tells if one was crossed.
    error = check_gradient(objective, x, step=3e-7, tolerance=WHOLE)
    what = f"{pooling} pooling, {'regions' if masks else convolution}" if border == "zero" else f"{border} border"
    return Check(f"pixels to total loss, {what}", "central differences", error, WHOLE)
