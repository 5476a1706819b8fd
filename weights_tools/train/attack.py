"""The perturbation that the network is trained against: within an L2 ball, up the loss.

A network that must not be misled by small changes learns gradients that look like the picture [1, 2]; and style
transfer optimises along exactly those.

References
----------
[1] Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv:1706.06083.
[2] Tsipras et al. 2019, Robustness May Be at Odds with Accuracy, arXiv:1805.12152, section 3.
[3] Wong, Rice, Kolter 2020, Fast is better than free, arXiv:2001.03994: one step from a random start suffices.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nsnumpy.backend import Array, get_xp


def random_in_ball(rng: np.random.Generator, shape: tuple[int, ...], radius: float) -> np.ndarray:
    """A random point of the ball for each picture of the batch, uniform by volume: ``(B, H, W, 3)`` float32."""
    d = rng.standard_normal(shape, np.float32)
    radii = radius * rng.random(shape[0]) ** (1 / math.prod(shape[1:]))
    lengths = np.sqrt(np.square(d, dtype=np.float64).sum(axis=(1, 2, 3)))
    return d * (radii / lengths).astype(np.float32)[:, None, None, None]


def norms(d: Array) -> Array:
    """Each picture's L2 norm: ``(B, 1, 1, 1)``."""
    return get_xp(d).sqrt((d * d).sum(axis=(1, 2, 3), keepdims=True))


def perturb(
    gradient: Callable[[Array], Array], x: Array, d: Array, radius: float, step: float, steps: int = 1
) -> Array:
    """The pictures x, each moved by at most `radius` so as to raise the loss.

    Parameters
    ----------
    gradient : function of an array ``(B, H, W, 3)``
        The loss's gradient there.
    x : array ``(B, H, W, 3)``
    d : array of x's shape
        Where to start, relative to x: within the ball.
    radius, step : float
        Of the ball, and the length of a step along the normalised gradient; pixels in [0, 1].
    steps : int

    Returns
    -------
    array of x's shape
    """
    xp = get_xp(x, d)
    for _ in range(steps):
        g = gradient(x + d)
        d = d + step * g / xp.maximum(norms(g), 1e-12)
        d = d * xp.minimum(1, radius / xp.maximum(norms(d), 1e-12))
    return x + d
