"""Momentum SGD in Nesterov's form, and the one-cycle rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nsnumpy.backend import Array


def one_cycle(progress: float, peak: float, warmup: float = 0.2, start: float = 1 / 25, end: float = 1e-4) -> float:
    """The learning rate at `progress`, 0 to 1, of a run: half a cosine up to `peak`, another one down [1].

    Parameters
    ----------
    progress : float
        Steps done, over all.
    peak : float
        The greatest rate.
    warmup : float
        Where it is reached.
    start, end : float
        The first and the last rate, over the peak.

    References
    ----------
    [1] Smith, Topin 2017, Super-Convergence, arXiv:1708.07120.
    """
    if progress < warmup:
        low, way = start, progress / warmup
    else:
        low, way = end, (1 - progress) / (1 - warmup)
    return peak * (low + (1 - low) * (1 - math.cos(math.pi * way)) / 2)


def sgd_step(
    parameters: Mapping[str, Array],
    velocities: Mapping[str, Array],
    gradients: Mapping[str, Array],
    rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """One step: ``g += weight_decay w``, ``v = momentum v + g``, ``w -= rate (g + momentum v)`` [1].

    Weights decay; gamma, beta and biases, which only scale and shift, do not.

    Returns
    -------
    parameters, velocities : dicts of new arrays

    References
    ----------
    [1] Sutskever et al. 2013, On the importance of initialization and momentum in deep learning, equations 3 and 4,
        with the look-ahead point as the variable.
    """
    stepped, moved = {}, {}
    for name, w in parameters.items():
        g = gradients[name] + weight_decay * w if name.endswith("/weight") else gradients[name]
        moved[name] = momentum * velocities[name] + g
        stepped[name] = w - rate * (g + momentum * moved[name])
    return stepped, moved


def adam_step(
    parameters: Mapping[str, Array],
    means: Mapping[str, Array],
    squares: Mapping[str, Array],
    gradients: Mapping[str, Array],
    step: int,
    rate: float,
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """Adam [1], algorithm 1, with its own constants: ``m = 0.9 m + 0.1 g``, ``v = 0.999 v + 0.001 g^2``, and
    ``w -= rate m' / (sqrt(v') + 1e-8)``, where ``m' = m / (1 - 0.9^t)`` and ``v' = v / (1 - 0.999^t)``.

    Parameters
    ----------
    step : int
        t, 1 for the first.

    Returns
    -------
    parameters, means, squares : dicts of new arrays

    References
    ----------
    [1] Kingma, Ba 2015, Adam, arXiv:1412.6980.
    """
    stepped, m, v = {}, {}, {}
    for name, w in parameters.items():
        g = gradients[name]
        m[name] = 0.9 * means[name] + 0.1 * g
        v[name] = 0.999 * squares[name] + 0.001 * (g * g)
        deviation = (v[name] / (1 - 0.999**step)) ** 0.5 + 1e-8
        stepped[name] = w - rate / (1 - 0.9**step) * m[name] / deviation
    return stepped, m, v
