"""Gatys' rescaling: each filter's mean activation over pictures and positions becomes 1.

A ReLU commutes with a positive factor, and so do both poolings. So if a layer's features F have the means m, dividing
its weights and biases by m divides F by m, and multiplying the next layer's weights by m, input channel by input
channel, leaves that layer as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nsnumpy import VGG, WeightFile

Means = dict[str, np.ndarray]


def mean_activations(file: WeightFile, pictures: Iterable[np.ndarray], pooling: str = "avg") -> Means:
    """Each filter's mean activation over all positions of all pictures, summed in float64.

    Parameters
    ----------
    file : WeightFile
    pictures : arrays ``(H, W, 3)``, RGB in [0, 1]
    pooling : "avg" or "max"

    Returns
    -------
    dict from layer names to arrays ``(N,)``, float64

    Raises
    ------
    ValueError
        If there is no picture, or one is too small for the deepest layer.
    """
    vgg = VGG(
        file.weights,
        xp=np,
        architecture=file.architecture,
        preprocessing=file.preprocessing,
        pooling=pooling,
    )
    names = list(file.weights)
    sums = {name: np.zeros(weight.shape[3]) for name, (weight, _) in file.weights.items()}
    positions = dict.fromkeys(names, 0)

    def add(name: str, F: np.ndarray) -> None:
        sums[name] += F.sum(axis=(0, 1), dtype=np.float64)
        positions[name] += F.shape[0] * F.shape[1]

    for picture in pictures:
        try:
            vgg.forward(np.asarray(picture, np.float32), names, add, keep=False)
        except ValueError as error:
            size = " x ".join(str(n) for n in np.shape(picture)[1::-1])
            raise ValueError(f"a picture of {size} pixels: {error}; take a larger one, or a larger size") from error
    if not positions[names[0]]:
        raise ValueError("one picture at least expected, none given")
    return {name: sums[name] / positions[name] for name in names}


def normalize(file: WeightFile, pictures: Iterable[np.ndarray], pooling: str = "avg") -> tuple[WeightFile, Means]:
    """The network with every filter's mean activation over the pictures scaled to 1, and what the means were.

    A filter that is never active keeps its scale. Features of the result are those of `file`, divided by the means.
    Parameters and errors as for `mean_activations`.
    """
    means = mean_activations(file, pictures, pooling)
    weights = {}
    before = np.ones(3)
    for name, (weight, bias) in file.weights.items():
        scale = np.where(means[name] > 0, means[name], 1.0)
        scaled = weight.astype(np.float64) * before[:, None] / scale, bias / scale
        weights[name] = tuple(array.astype(weight.dtype) for array in scaled)
        before = scale
    return replace(file, weights=weights, normalized=True), means
