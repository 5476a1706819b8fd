"""Whether two weight files hold the same network, and if not as they stand, by which reordering they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nsnumpy import Preprocessing, WeightFile
from nsnumpy.files.quantize import LEVELS, rounded

SAME = 5e-3  # relative difference: bfloat16's rounding stays below it, a wrong order makes it about 1
REVERSED = "input channels reversed (RGB for BGR)"


@dataclass(frozen=True)
class Agreement:
    """How a layer of B agrees with that of A.

    Attributes
    ----------
    layer : str
    reordering : str or None
        What has to be done to B's weight, in words; "" if nothing; None if nothing helps.
    widths : tuple of int, or None
        A's filters and B's, where they are not as many.
    error : float
        Relative difference then: the largest of four, rms and greatest, of weights and of biases.
    rounded : bool
        Whether they agree only as far as weights do that were rounded to 8 bits.
    """

    layer: str
    reordering: str | None
    error: float
    rounded: bool = False
    widths: tuple[int, int] | None = None


@dataclass(frozen=True)
class Comparison:
    """The layers that both files have, how they agree, and what that means.

    Attributes
    ----------
    layers : list of Agreement
    missing : list of str
        Layers that only one of them has.
    verdict : str
        In a sentence.
    same : bool
        Whether both compute the same features as they stand, up to a factor per filter and rounding to 8 bits at most.
    """

    layers: list[Agreement]
    missing: list[str]
    verdict: str
    same: bool


def compare(a: WeightFile, b: WeightFile) -> Comparison:
    """Compare two networks, layer by layer.

    For each layer of B all ways in which it may have been read wrongly are tried: the two spatial axes exchanged,
    either one reversed (both: Theano's kernels), input and output exchanged, in the first layer the channel order
    reversed; each as it stands, and with a positive factor for each filter (a normalised network against an original
    one). A layer's factors divide the next layer's weights. Pixels are a layer like any other: if the files state
    different scales for them, the first layer's weights must make up for it.

    A layer that one of the files has in 8 bits also agrees if no weight differs by more than two steps, each 1/127 of
    its filter's greatest: one half from rounding, and one more where the other file is rounded, too, or the factors,
    which are told from rounded weights, are not exact.
    """
    names = [name for name in a.weights if name in b.weights]
    missing = [name for name in {**a.weights, **b.weights} if name not in names]
    agreements: list[Agreement] = []
    gain = _gain(b.preprocessing, a.preprocessing) / _gain(a.preprocessing, a.preprocessing)
    scale, scaled, gain_fits = gain, False, True
    for name in names:
        agreement, factors = _compare_layer(name, a.weights[name], b.weights[name], scale)
        if name == "conv1_1" and agreement.reordering is None and not np.allclose(gain, 1, rtol=SAME):
            agreement, factors = _compare_layer(name, a.weights[name], b.weights[name], np.ones(3))
            gain_fits = agreement.reordering is None
        scale = factors
        scaled |= not np.allclose(scale, 1, rtol=SAME)
        agreements.append(agreement)
    verdict, same = _verdict(a, b, agreements, scaled, gain_fits)
    if a.architecture != b.architecture:
        verdict = f"not the same network: {a.architecture} and {b.architecture}; in the layers of both: {verdict}"
        same = False
    elif missing and same:
        verdict += f", as far as both go ({len(names)} layers)"
    return Comparison(agreements, missing, verdict, same)


def _gain(p: Preprocessing, order_of: Preprocessing) -> np.ndarray:
    """What p multiplies each channel with, in the channel order of another preprocessing."""
    gain = np.asarray(p.affine()[0])
    return gain if p.channel_order == order_of.channel_order else gain[::-1]


def _compare_layer(
    name: str, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], scale: np.ndarray
) -> tuple[Agreement, np.ndarray]:
    """The layer's agreement, and the factors of its features in B over those in A, given those of its input."""
    weight, bias = (array.astype(np.float64) for array in a)
    in_8_bits = any(np.array_equal(w, rounded(w, "int8")) for w in (a[0], b[0]))
    widths = (len(bias), len(b[1])) if len(bias) != len(b[1]) else None
    best, best_factors = Agreement(name, None, np.inf, widths=widths), np.ones(len(bias))
    for words, candidate in _reorderings(b[0], first=name == "conv1_1"):
        if candidate.shape != weight.shape or b[1].shape != bias.shape:
            continue
        undone = candidate * scale[:, None]
        for factors in _factors(weight, bias, candidate, b[1], scale):
            of_biases = _difference(b[1] / factors, bias)
            error = max(_difference(undone / factors, weight), of_biases)
            is_rounded = False
            if in_8_bits and error >= SAME > of_biases:
                step = np.maximum(_steps(weight), _steps(candidate) * scale[:, None] / factors)
                is_rounded = bool((abs(undone / factors - weight) <= 2 * step).all())
            # The simpler explanation stands unless another one is clearly better.
            if error < 0.5 * best.error or (is_rounded and best.reordering is None):
                best = Agreement(name, words if error < SAME or is_rounded else None, error, is_rounded)
                best_factors = factors
    return best, best_factors if best.reordering is not None else np.ones(len(bias))


def _reorderings(weight: np.ndarray, *, first: bool) -> Iterator[tuple[str, np.ndarray]]:
    """(what was done, the weight in float64), the weight as it stands first."""
    flips = {(1, 1): "", (-1, -1): "turned by 180 degrees", (-1, 1): "upside down", (1, -1): "mirrored"}
    weight = weight.astype(np.float64)
    for exchanged in (False, True):
        for reversed_channels in (False, True) if first else (False,):
            for transposed in (False, True):
                for (step_h, step_w), flip in flips.items():
                    w = weight.transpose(0, 1, 3, 2) if exchanged else weight
                    w = w[:, :, ::-1] if reversed_channels else w
                    w = w.transpose(1, 0, 2, 3) if transposed else w
                    words = [
                        "input and output exchanged" * exchanged,
                        REVERSED * reversed_channels,
                        "height and width exchanged" * transposed,
                        flip,
                    ]
                    yield ", ".join(filter(None, words)), w[::step_h, ::step_w]


def _factors(
    weight: np.ndarray, bias: np.ndarray, b_weight: np.ndarray, b_bias: np.ndarray, scale: np.ndarray
) -> Iterator[np.ndarray]:
    """The factors of B's filters over A's to be tried: none, and the best one for each filter.

    The best of A's weights and, where the input has factors, of B's: they spread out the noise of rounded weights.
    """
    yield np.ones(len(bias))
    pairs = [(weight, b_weight * scale[:, None]), (weight / scale[:, None], b_weight)]
    for w, b_w in pairs[: 1 if (scale == 1).all() else 2]:
        product = (w * b_w).sum(axis=(0, 1, 2)) + bias * b_bias
        size = np.square(w).sum(axis=(0, 1, 2)) + np.square(bias)
        factors = product / np.where(size > 0, size, 1)
        yield np.where(factors > 0, factors, 1.0)  # a ReLU commutes with positive factors only


def _steps(weight: np.ndarray) -> np.ndarray:
    """A step of 8 bits, for each filter."""
    return abs(weight).max(axis=(0, 1, 2)) / LEVELS


def _difference(array: np.ndarray, reference: np.ndarray) -> float:
    """The larger of rms and greatest difference, each relative to the reference's; infinite if that is zero."""
    if np.array_equal(array, reference):
        return 0.0
    if not reference.any():
        return float("inf")
    difference = array - reference
    rms = np.sqrt(np.mean(difference**2) / np.mean(reference**2))
    return float(max(rms, abs(difference).max() / abs(reference).max()))


def _verdict(a: WeightFile, b: WeightFile, layers: list[Agreement], scaled: bool, gain_fits: bool) -> tuple[str, bool]:
    if not layers:
        return "not the same network: no layer in common", False
    different = [layer for layer in layers if layer.reordering is None]
    if different:
        first, widths = different[0].layer, different[0].widths
        why = f", with {widths[0]} filters in A and {widths[1]} in B" if widths else ""
        return f"not the same network: {len(different)} of {len(layers)} layers differ, {first} first{why}", False
    moved = [layer for layer in layers if layer.reordering not in ("", REVERSED)]
    if moved:
        how = f"{moved[0].layer}: {moved[0].reordering}"
        return f"the same network once B is reordered ({how}): one of the files has a wrong order of axes", False
    rounding = "rounding to 8 bits" if any(layer.rounded for layer in layers) else ""
    steps = " and ".join(filter(None, ["a positive factor for each filter" if scaled else "", rounding]))
    factor = f", up to {steps}" if steps else ""
    statements = f"A expects {a.preprocessing.channel_order} and B {b.preprocessing.channel_order}"
    is_reversed = layers[0].reordering == REVERSED
    wrong = "one of the two, stated or assumed, is wrong"
    if is_reversed != (a.preprocessing.channel_order != b.preprocessing.channel_order):
        found = "reversed" if is_reversed else "in the same order"
        return f"the same weights{factor}, input channels {found}, but {statements}: {wrong}", False
    means = [np.asarray(f.preprocessing.mean) / f.preprocessing.pixel_scale for f in (a, b)]
    if not gain_fits or not np.allclose(means[0], means[1][:: -1 if is_reversed else 1], atol=0.004):  # of 255: one
        return f"the same weights{factor}, but A and B expect different scales or means of pixels: {wrong}", False
    return f"the same network{factor}" + f"; {statements}, rightly" * is_reversed, True
