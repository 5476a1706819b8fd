"""The network "builtin-random": VGG-19 with random, calibrated weights, what a style transfer does without training.

Random filters see colour, edges and texture without having been trained; what they lack is knowledge of objects. They
are made from a seed, and then, layer by layer, biases and scales are fitted to a set of pictures, so that every filter
is on for about half of the positions and has the same mean activation, 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..architecture import ARCHITECTURES, Preprocessing, layer_names
from ..ops import avgpool_forward, conv_forward, relu_forward
from ..workers import one_blas_thread
from .images import load_image

Weights = dict[str, tuple[np.ndarray, np.ndarray]]
WIDTH = 1 / 2
SEED = 2
LAST = "conv5_1"
FAN_IN = 8
SMOOTHNESS = 3.0
PREPROCESSING = Preprocessing(mean=(0.45, 0.45, 0.45))  # so that the convolutions' zero padding is a middle grey
CALIBRATION = ("coast", "cutouts", "glass", "starry", "still-life")


def random_network() -> Weights:
    """Its weights, conv1_1 to conv5_1: the same ones on every call."""
    widths = [round(full * WIDTH) for full, _ in ARCHITECTURES["vgg19"]]
    mean = np.array(PREPROCESSING.mean, np.float32)
    pictures = [load_image(f"sample:{name}", 256) - mean for name in CALIBRATION]
    with one_blas_thread:  # small products: several threads would spend ten times as much waiting for one another
        return calibrate(random_weights(widths, SEED), pictures)


def random_network_filters() -> dict[str, int]:
    """The number of filters of each of its convolutions."""
    names = layer_names("vgg19")
    widths = {f"conv{block}": round(full * WIDTH) for block, (full, _) in enumerate(ARCHITECTURES["vgg19"], start=1)}
    return {name: widths[name[:5]] for name in names[: names.index(LAST) + 1] if name.startswith("conv")}


def random_weights(widths: Sequence[int], seed: int, last: str = LAST) -> Weights:
    """Random 3x3 filters without biases, in float32, that each see a few of the input channels.

    Parameters
    ----------
    widths : five ints
        Filters of each block.
    seed : int
    last : str
        The deepest convolution to make.

    Notes
    -----
    A layer's weight is drawn as a matrix from the 9 C_in values of a patch to the N filters, with orthonormal columns
    (or rows, where N > 9 C_in): the Q of the QR decomposition of a Gaussian matrix, made unique by a positive diagonal
    of R [1]. Three changes follow, which were found by looking at the pictures:

    - Each filter keeps FAN_IN of its input channels. A random sum over all of them is much like every other such sum,
      and a Gram matrix of such filters tells styles apart badly.
    - SMOOTHNESS times its mean over the nine taps is added to each kernel. A smooth filter sends back a smooth
      gradient: it paints strokes, where a rough one leaves grain.
    - From conv1_2 on, each filter's weights sum to zero. All activations have the mean 1, so the filter answers to what
      differs between its inputs and not to how bright or contrasted the whole picture is, which would grow with depth.

    References
    ----------
    [1] Mezzadri 2007, How to generate random matrices from the classical compact groups, Notices of the AMS 54(5).
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    channels = 3
    for name in layer_names("vgg19"):
        if name.startswith("conv"):
            filters = widths[int(name[4]) - 1]
            kept = rng.random((channels, filters)).argsort(axis=0) < FAN_IN
            weight = _orthogonal(rng, 9 * channels, filters).reshape(3, 3, channels, filters) * kept
            weight += SMOOTHNESS * weight.mean(axis=(0, 1))
            if name != "conv1_1":
                weight -= kept * weight.sum(axis=(0, 1, 2)) / (9 * kept.sum(axis=0))
            weights[name] = (weight.astype(np.float32), np.zeros(filters, np.float32))
            channels = filters
        if name == last:
            return weights
    raise ValueError(f"{last!r} is not a layer of vgg19")


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random ``(rows, columns)`` matrix with orthonormal columns, or rows if it has fewer of them."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return q if rows >= columns else q.T


def calibrate(weights: Weights, pictures: Sequence[np.ndarray]) -> Weights:
    """Set each bias to centre its filter's pre-activation over the pictures, and rescale to a mean activation of 1.

    Parameters
    ----------
    weights : dict from layer names to (weight, bias)
        The biases are replaced.
    pictures : arrays ``(H, W, 3)``
        As the network sees them, preprocessed.

    Notes
    -----
    With average pooling. A ReLU commutes with a positive factor, so the scales change no more than the size of each
    feature; but without them the losses of the deep layers would be lost beside those of the shallow ones.
    """
    activations = list(pictures)
    calibrated: Weights = {}
    for name in layer_names("vgg19"):
        if name.startswith("pool"):
            activations = [avgpool_forward(x) for x in activations]
            continue
        weight, bias = weights[name]
        outputs = [conv_forward(x, weight, 0 * bias) for x in activations]
        bias = -_mean(outputs)
        outputs = [relu_forward(y + bias)[0] for y in outputs]
        scale = 1 / _mean(outputs)
        calibrated[name] = (weight * scale, bias * scale)
        activations = [y * scale for y in outputs]
        if len(calibrated) == len(weights):
            break
    return calibrated


def _mean(features: Sequence[np.ndarray]) -> np.ndarray:
    """Each filter's mean over pictures and positions, summed in float64: ``(N,)`` float32."""
    total = sum(f.sum(axis=(0, 1), dtype=np.float64) for f in features)
    return (total / sum(f.shape[0] * f.shape[1] for f in features)).astype(np.float32)
