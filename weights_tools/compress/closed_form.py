"""A narrow network that computes what a wide one, its teacher, does: layer by layer, and without any gradient.

From the first layer to the last: choose which of the teacher's filters stay (`choose`), then fit the narrow layer's
weights by least squares (`fit_relu`) to the teacher's pre-activations of those filters, from the narrow network's own
inputs: the layers below as they came out, so that their errors are made up for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from nsnumpy import WeightFile
from nsnumpy.backend import Array, asarray, get_xp, matmul, to_floats, to_host
from nsnumpy.workers import Workers

from .crops import Crops
from .fit import fit_relu, products, relative_error, ridge_solver
from .layers import Layers, patches, places
from .select import choose

BATCH = 8  # crops that go through a network together
POSITIONS = 120_000  # of a layer, over all crops: what it is fitted to
PATCH_BYTES = 1_300_000_000  # of the patches at these positions; in wide layers there are fewer of them
HELD_OUT = 1 / 8  # of the crops: the last ones
LEAST_CROPS = 32  # so that among those that are held out there is a pair to be judged by
IMPORTANCE = 0.9  # of what the next layer needs, in the choice of filters; the rest is each filter's own energy
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SWEEPS = 4
_MAP_RIDGE = 1e-6
_ROWS = 16384


@dataclass(frozen=True)
class LayerError:
    """How well a layer came out, on the crops that were held out.

    Attributes
    ----------
    layer : str
    filters, of : int
        How many of the teacher's.
    own : float
        ``|F - T| / |T|`` of its features F and those T of the teacher's filters that it stands for.
    all : float
        ``|F B - T| / |T|`` with T of all of the teacher's filters, and B the best linear map, of the other crops.
    ridge : float
        As chosen on the held-out crops.
    """

    layer: str
    filters: int
    of: int
    own: float
    all: float
    ridge: float


def compress(
    teacher: WeightFile,
    crops: Crops,
    filters: Mapping[str, int],
    *,
    seed: int = 0,
    xp: ModuleType = np,
    workers: Workers | None = None,
    callback: Callable[[str], object] = lambda layer: None,
) -> tuple[WeightFile, list[LayerError]]:
    """The narrow network, and how well each of its layers came out.

    Parameters
    ----------
    teacher : WeightFile
    crops : Crops
    filters : dict from "conv1_1", ... to int
        How many each layer has, in the network's order, without a gap; at most the teacher's.
    seed : int
        Of the positions.
    xp : module
        `numpy` or `cupy`: where to compute.
    workers : Workers, or None for all cores
    callback : function of a layer's name
        Called after each batch of crops: first of the teacher, "", then of each layer.

    Returns
    -------
    file : WeightFile
        With the teacher's architecture and preprocessing, in its scale, for average pooling. The same bits for the same
        arguments, on one machine.
    errors : list of LayerError
    """
    workers = workers or Workers.on(xp)
    names = list(filters)
    wide = sample(teacher, crops, names[-1], seed, xp, workers, callback)
    made = replace(teacher, weights={}, pooling="avg", normalized=False)
    errors = []
    for name, after in zip(names, [*names[1:], ""], strict=True):
        values, scale = wide.pop(name)
        following = teacher.weights[after][0] if after else None
        kept = _choose(values, filters[name], following, xp)
        X, rows = _patches(made, name, len(values) // len(crops), crops, seed, xp, workers, callback)
        fitted = len(X) // len(crops) * (len(crops) - held_out(crops))
        Y = asarray(values[rows][:, kept], xp, "float32") * scale
        W, ridge = _fit(X[:fitted], Y[:fitted], X[fitted:], Y[fitted:])
        own = relative_error(xp.maximum(matmul(X[fitted:], W), 0), xp.maximum(Y[fitted:], 0))
        of_all = _map_error(X, W, values, rows, fitted)
        errors.append(LayerError(name, len(kept), values.shape[1], own, of_all, ridge))
        W = to_host(W)
        made = replace(made, weights=made.weights | {name: (W[:-1].reshape(3, 3, -1, len(kept)), W[-1].copy())})
    return made, errors


def sample(
    teacher: WeightFile,
    crops: Crops,
    last: str,
    seed: int,
    xp: ModuleType,
    workers: Workers,
    callback: Callable[[str], object],
) -> dict[str, tuple[np.ndarray, float]]:
    """The teacher's pre-activations at random positions, as many of each crop: (values ``(P, N)`` float16, scale), to
    be multiplied, of each layer. The scale is their root mean square in the first crops, so that float16 holds them."""
    count = -(-POSITIONS // len(crops))
    layers = Layers(teacher, last, xp, workers)
    wide: dict[str, tuple[np.ndarray, float]] = {}
    for k in range(0, len(crops), BATCH):
        for name, _, y in layers.walk(asarray(crops.batch(k, k + BATCH), xp, "float32")):
            picked = y[places(name, k, y.shape, count, seed, xp)]
            if name not in wide:
                scale = to_floats((picked * picked).mean())[0] ** 0.5 or 1.0
                wide[name] = np.empty((len(picked) // len(y) * len(crops), y.shape[3]), np.float16), scale
            values, scale = wide[name]
            each = len(values) // len(crops)
            values[k * each : k * each + len(picked)] = to_host(picked / scale)
        callback("")
    return wide


def held_out(crops: Crops) -> int:
    """How many of the crops, the last ones, nothing is fitted to."""
    return max(1, round(HELD_OUT * len(crops)))


def _choose(values: np.ndarray, count: int, following: np.ndarray | None, xp: ModuleType) -> list[int]:
    """Which filters stay, by the features at some of the positions and the weights that follow on them."""
    F = xp.maximum(asarray(values[:: max(1, len(values) // _ROWS // 2)], xp, "float32"), 0)
    C = products(F, F) / len(F)
    if following is None:
        return choose(C, count)
    w = asarray(following, xp, "float64").reshape(9, len(C), -1)
    Q = matmul(w, w.swapaxes(1, 2)).sum(axis=0)
    energy, needed = to_floats(xp.trace(C), (Q * C).sum())
    return choose(C, count, IMPORTANCE / (needed or 1) * Q + (1 - IMPORTANCE) / (energy or 1) * xp.eye(len(C)))


def _patches(
    made: WeightFile,
    name: str,
    each: int,
    crops: Crops,
    seed: int,
    xp: ModuleType,
    workers: Workers,
    callback: Callable[[str], object],
) -> tuple[Array, np.ndarray]:
    """The patches that the narrow layer sees, and which rows of the teacher's values belong to them; of each crop the
    first ones of its `each` positions, as many as fit into `PATCH_BYTES`."""
    layers = Layers(made, name, xp, workers)
    X, used = None, 0
    for k in range(0, len(crops), BATCH):
        *_, (_, x, _) = layers.walk(asarray(crops.batch(k, k + BATCH), xp, "float32"))
        if X is None:
            width = 9 * x.shape[3] + 1
            used = max(1, min(each, PATCH_BYTES // (4 * width * len(crops))))
            X = xp.empty((used * len(crops), width), "float32")
        made_here = patches(x, places(name, k, x.shape, used, seed, xp))
        X[k * used : k * used + len(made_here)] = made_here
        callback(name)
    return X, (np.arange(len(crops))[:, None] * each + np.arange(used)).ravel()


def _fit(X: Array, Y: Array, held_X: Array, held_Y: Array) -> tuple[Array, float]:
    """The weights, the bias as their last row, and the ridge: the one that serves best on what was held out."""
    xp = get_xp(X, Y)
    XX, XY, T = products(X, X), products(X, Y), xp.maximum(held_Y, 0)
    best: tuple[float, float, Array] | None = None
    for ridge in RIDGES:
        W = ridge_solver(XX, ridge, free=1)(XY).astype("float32")
        error = relative_error(xp.maximum(matmul(held_X, W), 0), T)
        if best is None or error < best[0]:
            best = error, ridge, W
    _, ridge, W = best
    return fit_relu(X, Y, W, ridge_solver(XX, ridge, free=1), SWEEPS), ridge


def _map_error(X: Array, W: Array, values: np.ndarray, rows: np.ndarray, fitted: int) -> float:
    """`LayerError.all`, of the features ``max(X W, 0)``; a ratio, for which the scale of `values` does not matter."""
    xp = get_xp(X, W)

    def features(start: int, stop: int) -> tuple[Array, Array]:
        some = slice(start, min(start + _ROWS, stop))
        return xp.maximum(matmul(X[some], W), 0), xp.maximum(asarray(values[rows[some]], xp, "float32"), 0)

    n = W.shape[1]
    FF, FT = xp.zeros((n, n), "float64"), xp.zeros((n, values.shape[1]), "float64")
    for start in range(0, fitted, _ROWS):
        F, T = features(start, fitted)
        FF += matmul(F.T, F)
        FT += matmul(F.T, T)
    B = ridge_solver(FF, _MAP_RIDGE)(FT).astype("float32")
    left = size = 0.0
    for start in range(fitted, len(X), _ROWS):
        F, T = features(start, len(X))
        sums = to_floats(((matmul(F, B) - T) ** 2).sum(), (T * T).sum())
        left, size = left + sums[0], size + sums[1]
    return (left / size) ** 0.5 if size else 0.0
