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
