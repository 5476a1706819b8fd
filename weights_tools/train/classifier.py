"""The network that is trained: VGG's convolutions, each with batch normalisation, then a mean and a linear layer.

    picture - mean -> [convolution -> batch normalisation -> ReLU] ... with average pooling between the blocks
                   -> mean over positions -> linear -> scores of the classes

The convolutions have no bias of their own; batch normalisation would take it out again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nsnumpy import Preprocessing, WeightFile
from nsnumpy.architecture import layer_names
from nsnumpy.backend import Array, to_floats
from nsnumpy.ops import (
    avgpool_backward,
    avgpool_forward,
    relu_backward,
    relu_forward,
    winograd_backward,
    winograd_backward_weight,
    winograd_forward,
    winograd_weight,
)
from nsnumpy.workers import Workers

from .ops import (
    EPSILON,
    batchnorm_backward,
    batchnorm_forward,
    global_average_backward,
    global_average_forward,
    linear_backward,
    linear_forward,
    softmax_cross_entropy,
)

Arrays = dict[str, Array]
LINEAR = "classes"


def network_layers(last: str, architecture: str = "vgg19") -> list[str]:
    """The convolutions and poolings from conv1_1 to `last`, a convolution."""
    names = layer_names(architecture)
    if last not in names or not last.startswith("conv"):
        convolutions = ", ".join(name for name in names if name.startswith("conv"))
        raise ValueError(f"{last!r} is not a convolution of {architecture}: choose from {convolutions}")
    return list(names[: names.index(last) + 1])


def initial_parameters(widths: Sequence[int], classes: int, seed: int, last: str = "conv5_1") -> dict[str, np.ndarray]:
    """He's initialisation [1]: Gaussian weights of variance 2 / (9 C_in); gamma 1, beta 0; float32.

    Parameters
    ----------
    widths : five ints
        Filters of each block.
    classes : int
    seed : int
    last : str
        The deepest convolution.

    Returns
    -------
    dict from "conv1_1/weight", "conv1_1/gamma", "conv1_1/beta", ..., "classes/weight", "classes/bias" to arrays

    References
    ----------
    [1] He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852, equation 10.
    """
    rng = np.random.default_rng([seed, 0])
    parameters = {}
    channels = 3
    for name in network_layers(last):
        if name.startswith("conv"):
            filters = widths[int(name[4]) - 1]
            weight = rng.standard_normal((3, 3, channels, filters)) * math.sqrt(2 / (9 * channels))
            parameters[f"{name}/weight"] = weight.astype(np.float32)
            parameters[f"{name}/gamma"] = np.ones(filters, np.float32)
            parameters[f"{name}/beta"] = np.zeros(filters, np.float32)
            channels = filters
    weight = rng.standard_normal((channels, classes)) / math.sqrt(channels)
    parameters[f"{LINEAR}/weight"] = weight.astype(np.float32)
    parameters[f"{LINEAR}/bias"] = np.zeros(classes, np.float32)
    return parameters


class Classifier:
    """One state of the network: its parameters, ready to be evaluated.

    Parameters
    ----------
    parameters : dict of arrays
        As from `initial_parameters`, all of one namespace and dtype.

    Notes
    -----
    An evaluation takes a `Workers` of its own, so several groups of pictures can be evaluated at once.
    """

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.parameters = parameters
        self.convolutions = [name.removesuffix("/gamma") for name in parameters if name.endswith("/gamma")]
        self.layers = network_layers(self.convolutions[-1])
        self._U = {name: winograd_weight(parameters[f"{name}/weight"]) for name in self.convolutions}

    def loss(
        self, x: Array, labels: Array, workers: Workers | None = None, *, of_input: bool = False
    ) -> tuple[float, Array | Arrays, Arrays]:
        """The mean cross entropy of a group of pictures, which are normalised together, and its gradient.

        Parameters
        ----------
        x : array ``(B, H, W, 3)``
            Pictures less the mean colour.
        labels : integer array ``(B,)``
        workers : Workers, or None for one thread
        of_input : bool
            Whether the gradient is wanted with respect to x, or to the parameters.

        Returns
        -------
        loss : float
        gradient : array of x's shape, or dict of arrays by the parameters' names
        statistics : dict of arrays by "conv1_1/mean", "conv1_1/variance", ...
            Of each normalisation's input.
        """
        p = self.parameters
        trace: list[tuple[str, Any]] = []
        statistics: Arrays = {}
        for name in self.layers:
            if name.startswith("pool"):
                trace.append((name, x.shape))
                x = avgpool_forward(x)
                continue
            y = winograd_forward(x, self._U[name], 0 * p[f"{name}/beta"], workers)
            y, kept, (statistics[f"{name}/mean"], statistics[f"{name}/variance"]) = batchnorm_forward(
                y, p[f"{name}/gamma"], p[f"{name}/beta"]
            )
            y, mask = relu_forward(y)
            trace.append((name, (None if of_input else x, kept, mask)))
            x = y
        pooled = global_average_forward(x)
        loss, gy = softmax_cross_entropy(linear_forward(pooled, p[f"{LINEAR}/weight"], p[f"{LINEAR}/bias"]), labels)
        gradients: Arrays = {}
        gpooled, gradients[f"{LINEAR}/weight"], gradients[f"{LINEAR}/bias"] = linear_backward(
            gy, pooled, p[f"{LINEAR}/weight"]
        )
        gy = global_average_backward(gpooled, x.shape)
        while trace:
            name, kept = trace.pop()
            if name.startswith("pool"):
                gy = avgpool_backward(gy, kept)
                continue
            x, normalised, mask = kept
            gy, gradients[f"{name}/gamma"], gradients[f"{name}/beta"] = batchnorm_backward(
                relu_backward(gy, mask), p[f"{name}/gamma"], normalised
            )
            if of_input:
                gy = winograd_backward(gy, self._U[name], workers)
            else:
                gy, gradients[f"{name}/weight"], _ = winograd_backward_weight(gy, x, self._U[name], workers)
        return to_floats(loss)[0], gy if of_input else gradients, statistics

    def scores(self, x: Array, statistics: Mapping[str, Array], workers: Workers | None = None) -> Array:
        """The classes' scores ``(B, K)``, normalised with given statistics instead of the group's own."""
        for name in self.layers:
            if name.startswith("pool"):
                x = avgpool_forward(x)
                continue
            scale, bias = self._folded(name, statistics)
            x = relu_forward(winograd_forward(x, self._U[name] * scale, bias, workers))[0]
        return linear_forward(
            global_average_forward(x), self.parameters[f"{LINEAR}/weight"], self.parameters[f"{LINEAR}/bias"]
        )

    def _folded(self, name: str, statistics: Mapping[str, Array]) -> tuple[Array, Array]:
        """What the normalisation multiplies each filter with, and what it adds then."""
        scale = self.parameters[f"{name}/gamma"] / (statistics[f"{name}/variance"] + EPSILON) ** 0.5
        return scale, self.parameters[f"{name}/beta"] - statistics[f"{name}/mean"] * scale

    def fold(self, statistics: Mapping[str, np.ndarray], mean: Sequence[float]) -> WeightFile:
        """The convolutions with the normalisations, which are linear once their statistics are fixed, folded in.

        Parameters
        ----------
        statistics : dict of NumPy arrays
        mean : three floats
            The colour that was subtracted from the pictures.
        """
        weights = {}
        for name in self.convolutions:
            scale, bias = self._folded(name, statistics)
            weights[name] = self.parameters[f"{name}/weight"] * scale, bias
        return WeightFile(weights, preprocessing=Preprocessing(mean=tuple(float(m) for m in mean)), pooling="avg")
