"""A network's inputs and pre-activations, layer by layer, and the patches that a layer sees."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import ModuleType

import numpy as np

from nsnumpy import WeightFile
from nsnumpy.architecture import layer_names
from nsnumpy.backend import Array, asarray, get_xp
from nsnumpy.objective import STYLE_LAYERS
from nsnumpy.ops import avgpool_forward, relu_forward, winograd_forward, winograd_weight
from nsnumpy.workers import Workers

Places = tuple[Array, Array, Array]
"""Positions of a layer of a batch of pictures: which picture, row, column; each ``(P,)``."""


class Layers:
    """The convolutions of a network that may yet lack its deepest ones, with average pooling between the blocks.

    Parameters
    ----------
    file : WeightFile
        Of its weights those up to `last` are taken.
    last : str
        The deepest convolution to come to.
    xp : module
    workers : Workers
    """

    def __init__(self, file: WeightFile, last: str, xp: ModuleType, workers: Workers) -> None:
        names = layer_names(file.architecture)
        self.names = names[: names.index(last) + 1]
        self._arrays = {
            name: (winograd_weight(asarray(weight, xp, "float32")), asarray(bias, xp, "float32"))
            for name, (weight, bias) in file.weights.items()
            if name in self.names
        }
        self._gain, self._offset = (xp.asarray(v, "float32") for v in file.preprocessing.affine())
        self._step = -1 if file.preprocessing.channel_order == "BGR" else 1
        self._workers = workers

    def walk(self, x: Array) -> Iterator[tuple[str, Array, Array | None]]:
        """(name, input ``(B, H, W, C)``, pre-activations ``(B, H, W, N)``) of each convolution, for pictures
        ``(B, H, W, 3)``, RGB in [0, 1]; of the first one without weights its input and None, and no more."""
        x = x[..., :: self._step] * self._gain + self._offset
        for name in self.names:
            if name.startswith("pool"):
                x = avgpool_forward(x)
                continue
            if name not in self._arrays:
                yield name, x, None
                return
            y = winograd_forward(x, *self._arrays[name], self._workers)
            yield name, x, y
            x = relu_forward(y)[0]


def loss_layers(names: Collection[str]) -> dict[str, list[str]]:
    """The layers of a transfer with a network that may end early: `nsnumpy.transfer`'s own, as far as there are."""
    content = [name for name in ("conv3_2", "conv4_2") if name in names] or list(names)[-1:]
    return {"content_layers": content, "style_layers": [name for name in STYLE_LAYERS if name in names]}


def places(name: str, batch: int, shape: tuple[int, ...], count: int, seed: int, xp: ModuleType = np) -> Places:
    """Random positions of a layer, the same ones every time, picture after picture.

    Parameters
    ----------
    name : str
        The layer, a convolution.
    batch : int
        The number of the batch.
    shape : (B, H, W, ...)
        Of the layer's features.
    count : int
        How many positions of each picture, each at most once.
    """
    pictures, height, width = shape[:3]
    rng = np.random.default_rng([seed, 2, batch, int(name[4]), int(name[6])])
    n = min(count, height * width)
    picked = np.stack([rng.permutation(height * width)[:n] for _ in range(pictures)])
    indices = np.repeat(np.arange(pictures), n), (picked // width).ravel(), (picked % width).ravel()
    return tuple(xp.asarray(index) for index in indices)


def patches(x: Array, at: Places) -> Array:
    """The 3 x 3 patches of x ``(B, H, W, C)`` around positions, zeros outside, and a 1 for the bias: ``(P, 9 C + 1)``.

    They stand in the order of a weight's first three axes: with ``W = [weight.reshape(9 C, N); bias]``, ``patches @ W``
    is the convolution at these positions.
    """
    xp = get_xp(x)
    channels = x.shape[-1]
    picture, row, column = at
    padded = xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    made = xp.empty((len(picture), 9 * channels + 1), x.dtype)
    for k in range(9):
        made[:, k * channels : (k + 1) * channels] = padded[picture, row + k // 3, column + k % 3]
    made[:, -1] = 1
    return made
