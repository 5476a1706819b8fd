"""Smooth random fields that the sample pictures share."""

from __future__ import annotations

import numpy as np


def gradient_noise(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    """Perlin's gradient noise at the points (u, v), period 256, in about [-0.7, 0.7].

    Parameters
    ----------
    u, v : arrays of one shape
        Coordinates; one lattice cell is one unit.
    seed : int
        Chooses the gradients.
    """
    rng = np.random.default_rng(seed)
    permutation = np.tile(rng.permutation(256), 2)
    angle = rng.uniform(0, 2 * np.pi, 256)
    gu, gv = np.cos(angle), np.sin(angle)
    u0, v0 = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    du, dv = u - u0, v - v0

    def corner(i: int, j: int) -> np.ndarray:
        k = permutation[permutation[(u0 + i) % 256] + (v0 + j) % 256]
        return gu[k] * (du - i) + gv[k] * (dv - j)

    def fade(t: np.ndarray) -> np.ndarray:
        return t * t * t * (t * (6 * t - 15) + 10)

    s, t = fade(du), fade(dv)
    left = corner(0, 0) * (1 - t) + corner(0, 1) * t
    right = corner(1, 0) * (1 - t) + corner(1, 1) * t
    return left * (1 - s) + right * s


def fractal_noise(u: np.ndarray, v: np.ndarray, seed: int, octaves: int = 6, gain: float = 0.5) -> np.ndarray:
    """Sum of `octaves` gradient noises, each twice as fine and `gain` times as strong as the one before."""
    total = np.zeros(np.broadcast(u, v).shape)
    amplitude, frequency = 1.0, 1.0
    for octave in range(octaves):
        total += amplitude * gradient_noise(u * frequency + 17.3 * octave, v * frequency - 9.1 * octave, seed + octave)
        amplitude, frequency = amplitude * gain, frequency * 2
    return total
