"""The ground: where the shores, hills and woods are, how high, and of what colour."""

from __future__ import annotations

import numpy as np

from ..common import mix, smoothstep
from ..noise import fractal_noise, gradient_noise

# Towards the sun: late afternoon, from the right and a little behind the viewer.
SUN = np.array([0.95, -0.26, 0.46]) / np.linalg.norm([0.95, -0.26, 0.46])

# The quay: where its edge starts, the direction it runs in, and the direction inland.
QUAY_START = np.array([-45.0, 66.0])
QUAY_ALONG = np.array([0.875, 0.484])
QUAY_INLAND = np.array([-0.484, 0.875])
QUAY_END, QUAY_WIDTH, QUAY_LEVEL = 79.0, 16.0, 1.75


def rounded(value: np.ndarray) -> np.ndarray:
    """The magnitude, without a crease at zero."""
    return np.sqrt(value**2 + 0.003)


def lattice(i: np.ndarray, j: np.ndarray, seed: int) -> np.ndarray:
    """A fixed random number in [0, 1) for each pair of integers."""
    rng = np.random.default_rng(seed)
    order, value = rng.permutation(1024), rng.random(1024)
    return value[(order[np.asarray(i, np.int64) % 1024] + np.asarray(j, np.int64)) % 1024]


def quay_coordinates(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres along the quay and metres inland from its edge."""
    dx, dy = x - QUAY_START[0], y - QUAY_START[1]
    return dx * QUAY_ALONG[0] + dy * QUAY_ALONG[1], dx * QUAY_INLAND[0] + dy * QUAY_INLAND[1]


def domes(x: np.ndarray, y: np.ndarray, cell: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Crowded round bumps, one for each cell: height in [0, 1] and a random number naming the bump."""
    u, v = x / cell, y / cell
    i0, j0 = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    top, name = np.zeros(u.shape), np.zeros(u.shape)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            i, j = i0 + di, j0 + dj
            size = 0.55 + 0.4 * lattice(i, j, seed)
            du, dv = u - i - lattice(i, j, seed + 1), v - j - lattice(i, j, seed + 2)
            bump = np.sqrt(np.maximum(size**2 - du**2 - dv**2, 0)) + 0.25 * (size - 0.55)
            higher = bump > top
            top, name = np.where(higher, bump, top), np.where(higher, lattice(i, j, seed + 3), name)
    return top, name


def shore_distance(along: np.ndarray, inland: np.ndarray) -> np.ndarray:
    """Metres inland of the far shore, which is the quay's edge and turns away from the viewer where the quay ends."""
    turn = np.maximum(along - QUAY_END + 1, 0)
    return inland - 1.05 * turn - 3.5 * gradient_noise(along / 9, inland / 9, 31) * smoothstep(0, 10, turn)


def hill_height(along: np.ndarray, inland: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth height of the village and its hill above the water, negative off the shore."""
    shore = shore_distance(along, inland)
    rise = 64 * (1 - np.exp(-np.maximum(inland - 15, 0) / 80)) * smoothstep(165, 30, along)
    swell = fractal_noise(x / 45, y / 45, 11, octaves=3)
    rise = rise * (1 + 0.22 * swell * smoothstep(40, 90, inland)) * smoothstep(600, 200, y)
    rocks = 3.2 * smoothstep(0, 7, shore) * smoothstep(QUAY_END - 1, QUAY_END + 5, along)
    rugged = smoothstep(1, 5, shore) * smoothstep(26, 10, shore) * smoothstep(QUAY_END - 1, QUAY_END + 6, along)
    rocks += rugged * (2.2 - 6.0 * np.abs(fractal_noise(x / 9, y / 9, 33, octaves=5, gain=0.55)))
    beach = np.where(along > QUAY_END, np.maximum(1.1 + 2 * shore, -3.0), -3.0)
    return np.where(shore > 0, 1.1 + rise + rocks, beach)


def wooded(along: np.ndarray, inland: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How densely the hill is wooded, from 0 (village, clearings) to 1."""
    outside = np.maximum(smoothstep(56, 72, inland), smoothstep(QUAY_END + 3, QUAY_END + 14, along))
    clearing = smoothstep(0.32, 0.1, gradient_noise(x / 26, y / 26, 17))
    return outside * clearing * smoothstep(5, 12, shore_distance(along, inland))


def bank_edge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance y of the near shoreline, which reaches out to the right."""
    wave = 1.6 * gradient_noise(x / 3.5, y / 6, 41) + 0.5 * gradient_noise(x / 1.1, y / 1.5, 42)
    return 19.4 + wave + 1.0 * np.maximum(x - 1, 0) ** 1.12 + 0.55 * np.maximum(-x - 3.5, 0)


def bank_rocks(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height (m) of the boulders along the near shore, and the random number naming each."""
    top, name = domes(x + 0.25 * gradient_noise(x * 1.5, y * 1.5, 45), y, 1.25, 43)
    near_edge = smoothstep(3.2, 1.0, np.abs(bank_edge(x, y) - y + 0.3))
    rough = 0.22 * fractal_noise(x * 1.4, y * 1.4, 44, octaves=5)
    size = smoothstep(0.25, 0.8, name) * near_edge
    return np.maximum(top + rough - 0.25, 0) * size * 1.25, name


def land_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height (m) of everything that is ground: near bank, village hill with its woods, headland, two far ranges."""
    height = np.full(x.shape, -5.0)
    bank = y < 45
    bx, by = x[bank], y[bank]
    slope = bank_edge(bx, by) - by
    earth = np.minimum(0.34 * slope, 2.6 + 0.1 * slope) + 0.10 * fractal_noise(bx / 1.2, by / 1.2, 47, octaves=5)
    height[bank] = np.where(slope < -2.5, -5.0, earth + bank_rocks(bx, by)[0])

    hill = (y >= 45) & (y < 620)
    hx, hy = x[hill], y[hill]
    along, inland = quay_coordinates(hx, hy)
    trees, _ = domes(hx, hy, 5.2, 51)
    leafy = 0.5 * fractal_noise(hx / 2.2, hy / 2.2, 52, octaves=3)
    height[hill] = hill_height(along, inland, hx, hy) + wooded(along, inland, hx, hy) * (5.5 * trees + leafy)

    cape = (y >= 500) & (y < 1500)
    cx, cy = x[cape], y[cape]
    form = np.exp(-(((cx - 420) / 250) ** 2) - ((cy - 900) / 210) ** 2) * (
        1 + 0.5 * fractal_noise(cx / 190, cy / 190, 61)
    )
    trees, _ = domes(cx + 4 * gradient_noise(cx / 15, cy / 15, 64), cy, 8.0, 62)
    leafy = fractal_noise(cx / 5, cy / 5, 63, octaves=3)
    height[cape] = np.maximum(height[cape], 105 * form - 8 + (5 * trees + leafy) * smoothstep(9, 13, 105 * form))

    middle, far = (y >= 1700) & (y < 4800), y >= 4800
    mx, my = x[middle], y[middle]
    ridge = 1 - 1.5 * rounded(fractal_noise(mx / 800, my / 800, 71, octaves=5, gain=0.45))
    height[middle] = (90 + 300 * ridge) * np.exp(-(((my - 3100) / 620) ** 2)) * smoothstep(-900, 900, mx + 500) - 12
    fx, fy = x[far], y[far]
    ridge = 1 - 1.4 * rounded(fractal_noise(fx / 2600, fy / 2600, 78, octaves=6, gain=0.47))
    height[far] = (330 + 900 * ridge) * np.exp(-(((fy - 8500) / 1700) ** 2)) - 60
    return height


def bank_colour(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Albedo (n, 3) of the near bank: grass, earth, boulders, and a dark wet rim at the water."""
    x, y, z = points.T
    boulder, name = bank_rocks(x, y)
    fine, broad = fractal_noise(x * 5, y * 5, 81, octaves=5), fractal_noise(x / 1.7, y / 1.7, 82, octaves=4)
    grass = mix(
        mix(np.array([0.13, 0.17, 0.04]), [0.27, 0.25, 0.09], smoothstep(-0.4, 0.5, broad)),
        [0.07, 0.10, 0.03],
        smoothstep(0, 0.6, fine),
    )
    earth = np.array([0.30, 0.22, 0.14]) * (1 + 0.5 * fine)[:, None]
    ground = mix(grass, earth, np.maximum(smoothstep(0.9, 0.3, z + 0.5 * broad), smoothstep(0.15, 0.4, broad)))
    strata = fractal_noise(x * 0.8, z * 6 + y, 83, octaves=4)
    stone = mix(np.array([0.40, 0.36, 0.31]), [0.24, 0.22, 0.20], smoothstep(-0.3, 0.5, strata)) * (
        0.7 + 0.6 * name[:, None]
    )
    stone = mix(stone, [0.36, 0.33, 0.12], smoothstep(0.15, 0.5, fine + 0.5 * broad) * 0.6) * (1 + 0.5 * fine)[:, None]
    colour = mix(ground, stone, smoothstep(0.05, 0.16, boulder))
    return colour * mix(np.array([0.28, 0.30, 0.27]), np.ones(3), smoothstep(0.08, 0.42, z + 0.15 * fine))


def hill_colour(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Albedo (n, 3) of the village hill: woods of many greens, dry grass, terraces, and grey rock where it is steep."""
    x, y, z = points.T
    along, inland = quay_coordinates(x, y)
    fine, broad = fractal_noise(x / 1.1, y / 2.2 + z / 0.9, 91, octaves=4), fractal_noise(x / 22, y / 22, 92, octaves=4)
    crown, name = domes(x, y, 5.2, 51)
    woods = mix(np.array([0.055, 0.085, 0.03]), [0.15, 0.16, 0.05], name) * (0.5 + 0.6 * crown + 0.75 * fine)[:, None]
    dry = mix(np.array([0.20, 0.20, 0.07]), [0.36, 0.29, 0.14], smoothstep(-0.4, 0.5, broad + 0.6 * fine))
    strata = fractal_noise(x / 6, z / 1.2 + y / 9, 93, octaves=4)
    rock = (
        mix(np.array([0.42, 0.37, 0.31]), [0.26, 0.22, 0.19], smoothstep(-0.3, 0.4, strata)) * (1 + 0.4 * fine)[:, None]
    )
    colour = mix(dry, woods, smoothstep(0.15, 0.5, wooded(along, inland, x, y)))
    shore = shore_distance(along, inland)
    bare = np.maximum(smoothstep(0.25, 0.45, broad - 0.6 * normal[:, 2] + 0.5), smoothstep(9, 5, shore + 3 * fine))
    bare = bare * np.maximum(smoothstep(50, 60, inland), smoothstep(QUAY_END - 4, QUAY_END, along))
    colour = mix(colour, rock, bare * (1 - 0.85 * smoothstep(0.3, 0.7, wooded(along, inland, x, y))))
    return colour * mix(np.array([0.3, 0.3, 0.27]), np.ones(3), smoothstep(0.2, 0.8, z + 0.3 * fine))


def range_colour(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Albedo (n, 3) of the cape and the far ranges: woods below, meadows and rock above."""
    x, y, z = points.T
    size = np.where(y < 1600, 9.0, 60.0)
    fine, broad = (
        fractal_noise(x / size, y / size, 95, octaves=4),
        fractal_noise(x / size / 12, y / size / 12, 96, octaves=3),
    )
    woods = np.array([0.075, 0.105, 0.04]) * (1 + 0.9 * fine)[:, None]
    open_land = mix(woods, [0.30, 0.27, 0.15], smoothstep(0.15, 0.4, broad) * 0.8)
    rock = np.array([0.40, 0.36, 0.33]) * (1 + 0.5 * fine)[:, None]
    steep = smoothstep(0.85, 0.65, normal[:, 2] + 0.2 * fine)
    low = smoothstep(2.6, 1.0, z - 2 * fine) * (y < 1600)
    return mix(open_land, rock, np.maximum(steep * smoothstep(60, 250, z), low))


def ground_colour(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Albedo (n, 3) of the ground at points (n, 3) with unit normals (n, 3)."""
    colour = np.zeros_like(points)
    y = points[:, 1]
    for part, paint in ((y < 45, bank_colour), ((y >= 45) & (y < 500), hill_colour), (y >= 500, range_colour)):
        if part.any():
            colour[part] = paint(points[part], normal[part])
    return np.clip(colour, 0.01, 1)


def ground_relief(points: np.ndarray) -> np.ndarray:
    """What to add to the ground's unit normals (n, 3) for relief finer than the height field: foliage and cracked rock.

    The noise runs over x and z as well as y, because the eye meets slopes and tree crowns nearly level.
    """
    x, y, z = points.T
    size = np.where(y < 500, 1.3, 4.0)
    u, v = x / size, (z + 0.45 * y) / size
    offset = [fractal_noise(u + 31 * i, v - 17 * i, 97 + 5 * i, octaves=3, gain=0.6) for i in range(3)]
    strength = 1.5 * ((y > 45) & (y < 1600)) * smoothstep(1.0, 4.0, z)
    return strength[:, None] * np.stack(offset, axis=1)
