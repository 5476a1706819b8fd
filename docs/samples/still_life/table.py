"""The table's rounded front edge, and the cloth that follows a height map over the table and round that edge."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from ..noise import fractal_noise, gradient_noise

EDGE_Y, EDGE_RADIUS = -2.0, 0.04  # front edge of the table, and how it is rounded
CLOTH = 0.022  # thickness of the cloth

CLOTH_LOW, CLOTH_HIGH, CLOTH_STEP = np.array([-1.6, -1.5]), np.array([3.6, 3.4]), 0.01


def cloth_coordinates(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From (x, way up from the table's edge) to the cloth's own warp and weft directions."""
    turn = np.radians(-17)
    a, b = u - 1.15, v - 0.95
    return a * np.cos(turn) + b * np.sin(turn), b * np.cos(turn) - a * np.sin(turn)


@cache
def cloth_tables() -> tuple[np.ndarray, np.ndarray]:
    """The cloth's height above the table and the distance to its hem, over a grid of (u, v)."""
    u, v = np.meshgrid(
        *(np.arange(a, b, CLOTH_STEP) for a, b in zip(CLOTH_LOW, CLOTH_HIGH, strict=True)), indexing="ij"
    )
    warp, weft = cloth_coordinates(u, v)
    wavy = 0.03 * gradient_noise(u * 1.3, v * 1.3, 3)
    hem = np.maximum(np.abs(warp) - 1.75, np.abs(weft) - 1.75) + wavy
    height = CLOTH + 0.02 * (fractal_noise(u * 1.6, v * 1.6, 8, 3) + 0.3)
    # Folds: smooth ridges along straight lines (start, end, height, width), from having been pushed about.
    for (u0, v0), (u1, v1), top, width in (
        ((-0.5, 1.9), (0.35, 0.1), 0.13, 0.1),
        ((-0.2, 2.6), (0.05, 0.9), 0.08, 0.12),
        ((0.15, 1.0), (1.3, 0.25), 0.1, 0.1),
        ((1.5, 0.95), (2.1, 0.0), 0.09, 0.11),
        ((2.0, 1.9), (2.9, 0.9), 0.12, 0.12),
        ((2.1, 2.7), (2.9, 2.2), 0.09, 0.1),
    ):
        length = np.hypot(u1 - u0, v1 - v0)
        along = ((u - u0) * (u1 - u0) + (v - v0) * (v1 - v0)) / length**2
        across = ((u - u0) * (v1 - v0) - (v - v0) * (u1 - u0)) / length + 0.08 * np.sin(7 * along)
        height += top * np.exp(-((across / width) ** 2)) * np.exp(-(np.abs(2 * along - 1) ** 4))
    # Below the edge the cloth hangs in deepening pleats.
    fall = np.clip((0.25 - v) / 1.0, 0, 1)
    pleats = 0.5 + 0.5 * np.sin(6.6 * u + 1.3 * np.sin(2.1 * u + 0.5) + 0.5 * v)
    height += 0.3 * fall**0.8 * pleats**1.4 * (v < 0.25)
    return gaussian_filter(height, 2.5).astype(np.float32), hem.astype(np.float32)


def around_edge(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the table (with its rounded front edge), and the way up along its surface from that edge."""
    _, y, z = p
    front, top = EDGE_Y + EDGE_RADIUS - y, z + EDGE_RADIUS
    corner = (front > 0) & (top > 0)
    distance = np.where(corner, np.hypot(front, top), np.maximum(front, top)) - EDGE_RADIUS
    quarter = np.float32(EDGE_RADIUS * np.pi / 2)
    way = np.where(corner, -EDGE_RADIUS * np.arctan2(front, top), np.where(front > 0, top - quarter, -front))
    return distance, way


def cloth_distance(p: np.ndarray) -> np.ndarray:
    """The cloth: near the table's surface, below the folds' height, inside the hem."""
    (height, hem), (above, way) = cloth_tables(), around_edge(p)
    row = np.clip((p[0] - CLOTH_LOW[0]) / CLOTH_STEP, 0, height.shape[0] - 2).astype(np.float32)
    column = np.clip((way - CLOTH_LOW[1]) / CLOTH_STEP, 0, height.shape[1] - 2).astype(np.float32)
    i, j = row.astype(np.int32), column.astype(np.int32)
    f, g = row - i, column - j

    def sample(table: np.ndarray) -> np.ndarray:
        flat, k = table.ravel(), i * table.shape[1] + j
        near = flat[k] * (1 - g) + flat[k + 1] * g
        return near * (1 - f) + (flat[k + table.shape[1]] * (1 - g) + flat[k + table.shape[1] + 1] * g) * f

    return np.maximum(np.abs(above - sample(height) + CLOTH / 2) - CLOTH / 2, sample(hem))
