"""The definitions as naive loops, to test against: slow, plain, and written apart from the code they check."""

from __future__ import annotations

import numpy as np


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3x3 convolution of x (H, W, C) with zeros outside, one output number at a time."""
    height, width, _ = x.shape
    y = np.zeros((height, width, weight.shape[3]))
    for h in range(height):
        for w in range(width):
            for n in range(weight.shape[3]):
                total = bias[n]
                for i in range(3):
                    for j in range(3):
                        if 0 <= h + i - 1 < height and 0 <= w + j - 1 < width:
                            total += x[h + i - 1, w + j - 1] @ weight[i, j, :, n]
                y[h, w, n] = total
    return y


def pool(x: np.ndarray, reduce) -> np.ndarray:
    """`reduce` (np.mean, np.max) of every whole 2x2 window of x (H, W, C)."""
    height, width, channels = x.shape
    y = np.zeros((height // 2, width // 2, channels))
    for h in range(height // 2):
        for w in range(width // 2):
            for c in range(channels):
                y[h, w, c] = reduce(x[2 * h : 2 * h + 2, 2 * w : 2 * w + 2, c])
    return y


def gram(F: np.ndarray) -> np.ndarray:
    """G_ij = sum_k F_ik F_jk with k over the positions of F (H, W, N)."""
    height, width, filters = F.shape
    G = np.zeros((filters, filters))
    for i in range(filters):
        for j in range(filters):
            for h in range(height):
                for w in range(width):
                    G[i, j] += F[h, w, i] * F[h, w, j]
    return G


def total_variation(x: np.ndarray) -> float:
    height, width, channels = x.shape
    total = 0.0
    for c in range(channels):
        for h in range(height):
            for w in range(width):
                if h + 1 < height:
                    total += (x[h + 1, w, c] - x[h, w, c]) ** 2
                if w + 1 < width:
                    total += (x[h, w + 1, c] - x[h, w, c]) ** 2
    return total


def numerical_jacobian_transpose(f, x: np.ndarray, gy: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Element by element: the derivative of <f(x), gy> with respect to each element of x, by central differences."""
    gx = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        gx[index] = ((f(above) - f(below)) * gy).sum() / (2 * step)
    return gx
