"""The solids that stand and lie on the table, each about its own origin.

Shapes are signed distance functions of local points (3, N): profiles turned about the z axis, with some irregularity,
and rods.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator

from .raymarch import Field, Triple, dot


def lookup(table: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Linear interpolation in `table`, whose ends stand at positions 0 and 1."""
    index = np.clip(position, 0, 1) * np.float32(table.size - 1.001)
    left = index.astype(np.int32)
    return table[left] + (index - left).astype(np.float32) * (table[left + 1] - table[left])


def twig(*points: Triple, radius: float) -> Field:
    """A bent rod through the given points."""
    return lambda p: np.min([capsule(p, a, b, radius) for a, b in pairwise(points)], axis=0)


def capsule(p: np.ndarray, start: Triple, end: Triple, radius: float) -> np.ndarray:
    """Distance to a round-ended rod."""
    a, b = np.array(start, np.float32)[:, None], np.array(end, np.float32)[:, None]
    along = np.clip(dot(p - a, b - a) / dot(b - a, b - a), 0, 1)
    rest = p - a - along * (b - a)
    return np.sqrt(dot(rest, rest)) - radius


def polar_solid(radius: Field, lumps: float, seed: int, stem: tuple[Triple, Triple, float] | None = None) -> Field:
    """A fruit: radius(angle from the z axis) about the origin, made a little irregular, with an optional stem."""
    cosine = np.linspace(-1, 1, 8192)
    table = radius(np.arccos(cosine)).astype(np.float32)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 3).astype(np.float32)

    def distance(p: np.ndarray) -> np.ndarray:
        x, y, z = p
        rho = np.sqrt(dot(p, p)) + np.float32(1e-6)
        lump = np.sin(4.1 * x + phase[0]) * np.sin(3.7 * y + phase[1]) + 0.6 * np.sin(5.3 * (x - y) + phase[2])
        body = rho - lookup(table, 0.5 + 0.5 * z / rho) * (1 + np.float32(lumps) * lump)
        return np.minimum(body, capsule(p, *stem)) if stem else body

    return distance


def lathe(heights: list[float], radii: list[float]) -> tuple[np.ndarray, float]:
    """A table of the radius over the height (0 to heights[-1]), smoothly through the given points."""
    z = np.linspace(0, heights[-1], 4096)
    return PchipInterpolator(heights, radii)(z).astype(np.float32), heights[-1]


def apple_radius(size: float) -> Field:
    """Apple profile: broad shoulders, a deep stem cavity and a shallow eye."""
    return lambda a: (
        size * (1.0 + 0.07 * np.cos(a) - 0.44 * np.exp(-((a / 0.36) ** 2)) - 0.24 * np.exp(-(((np.pi - a) / 0.3) ** 2)))
    )


def pear_radius(size: float) -> Field:
    """Pear profile about the centre of its belly, the neck along +z."""
    return lambda a: (
        size
        * (1.0 + 0.82 * np.exp(-((a / 0.46) ** 3)) - 0.04 * np.cos(2 * a) - 0.15 * np.exp(-(((np.pi - a) / 0.25) ** 2)))
    )


def orange_radius(size: float) -> Field:
    """Orange profile: nearly a ball, a little flat, with a dent at the stem end."""
    return lambda a: size * (1.0 - 0.05 * np.cos(a) ** 2 - 0.05 * np.exp(-((a / 0.16) ** 2)))


def lemon_radius(size: float) -> Field:
    """Lemon profile: an ellipse with a nipple at each end, the blossom end longer."""
    return lambda a: (
        size
        * (
            1 / np.sqrt(np.sin(a) ** 2 + (np.cos(a) / 1.26) ** 2)
            + 0.3 * np.exp(-((a / 0.2) ** 2))
            + 0.14 * np.exp(-(((np.pi - a) / 0.18) ** 2))
        )
    )


BOWL_CENTRE, BOWL_RADIUS, BOWL_RIM, BOWL_WALL = 1.46, 1.34, 0.80, 0.032


def bowl_distance(p: np.ndarray) -> np.ndarray:
    """A shell cut from a sphere, with a rounded lip, on a foot ring."""
    x, y, z = p
    r, rise = np.sqrt(x * x + y * y), z - BOWL_CENTRE
    lip_r, lip_z = np.sqrt(BOWL_RADIUS**2 - (BOWL_RIM - BOWL_CENTRE) ** 2), BOWL_RIM - BOWL_CENTRE
    shell = np.abs(np.sqrt(r * r + rise * rise) - BOWL_RADIUS)
    beyond = rise * lip_r - r * lip_z > 0
    shell = np.where(beyond, np.hypot(r - lip_r, rise - lip_z), shell) - BOWL_WALL
    foot = np.hypot(np.abs(r - 0.5 - 0.15 * z) - 0.012, np.maximum(np.abs(z - 0.09) - 0.07, 0)) - 0.02
    return np.minimum(shell, foot)


BOTTLE_PROFILE, BOTTLE_TOP = lathe(
    [0, 0.05, 0.3, 1.0, 1.6, 1.8, 2.05, 2.25, 2.5, 2.8, 2.84, 2.94, 3.0],
    [0.35, 0.385, 0.39, 0.392, 0.388, 0.365, 0.24, 0.165, 0.145, 0.138, 0.162, 0.162, 0.15],
)
WINE_LEVEL = 0.95


def bottle_distance(p: np.ndarray) -> np.ndarray:
    """The outside of the bottle."""
    x, y, z = p
    return np.maximum(np.sqrt(x * x + y * y) - lookup(BOTTLE_PROFILE, z / BOTTLE_TOP), np.maximum(-z, z - BOTTLE_TOP))


def wine_distance(p: np.ndarray) -> np.ndarray:
    """The wine inside it."""
    x, y, z = p
    return np.maximum(
        np.sqrt(x * x + y * y) - lookup(BOTTLE_PROFILE, z / BOTTLE_TOP) + 0.014, np.maximum(0.02 - z, z - WINE_LEVEL)
    )


def paper_distance(p: np.ndarray) -> np.ndarray:
    """A paper label round the front of the bottle, a little askew."""
    x, y, z = p
    skin = np.abs(np.sqrt(x * x + y * y) - 0.396) - 0.004
    return np.maximum(skin, np.maximum(np.abs(z - 0.93 - 0.03 * x) - 0.36, np.abs(x + 0.03) - 0.31 + (y > 0)))


def cork_distance(p: np.ndarray) -> np.ndarray:
    """A cork that stands out of the neck."""
    x, y, z = p
    return np.hypot(np.maximum(np.hypot(x, y) - 0.105, 0), np.maximum(np.abs(z - 3.03) - 0.09, 0)) - 0.015


JUG_PROFILE, JUG_TOP = lathe(
    [0, 0.06, 0.35, 0.75, 1.1, 1.45, 1.7, 1.95, 2.1, 2.16],
    [0.44, 0.47, 0.62, 0.735, 0.69, 0.5, 0.4, 0.42, 0.475, 0.48],
)


def jug_distance(p: np.ndarray) -> np.ndarray:
    """A pot-bellied jug, hollow at the neck, with a pinched spout towards -x and a handle towards +x."""
    x, y, z = p
    lift = np.clip((z - 1.6) / 0.55, 0, 1) ** 2
    spout = np.float32(0.2) * lift * np.exp(-((y / 0.16) ** 2)) * (x < 0)
    r = np.sqrt(x * x + y * y) - spout
    outer = r - lookup(JUG_PROFILE, z / JUG_TOP)
    wall = np.where(z > 1.3, np.abs(outer + 0.035) - 0.035, outer)
    body = np.maximum(wall, np.maximum(-z, z - JUG_TOP + 0.02 * np.cos(9 * x)))
    # The handle is a flattened ring, squeezed into an upright oval; the smooth minimum melts its ends into the body.
    ring = np.hypot((x - 0.52) / 0.85, (z - 1.38) / 1.25) - 0.42
    handle = np.hypot(ring, 0.62 * y) - 0.055
    blend = np.clip(0.5 + 0.5 * (handle - body) / 0.06, 0, 1)
    handle = np.where(x > 0.3, handle, 1)
    mixed = handle + (body - handle) * blend - 0.06 * blend * (1 - blend)
    return np.where(x > 0.3, mixed, body)


def blade_distance(p: np.ndarray) -> np.ndarray:
    """The blade of a knife, pointing along x: straight back, belly curving up to the tip, ground thin to the edge."""
    x, y, z = p
    belly = -0.09 + 0.17 * np.clip((x - 0.25) / 0.65, 0, 1) ** 2.2
    outline = np.maximum(np.maximum(y - 0.085, belly - y), np.maximum(x - 0.9, -0.2 - x))
    return np.maximum(outline, np.abs(z) - 0.006 - 0.05 * np.clip(y - belly, 0, 0.2))


def handle_distance(p: np.ndarray) -> np.ndarray:
    """Its wooden handle, a rounded block that swells towards the end."""
    x, y, z = p
    swell = 0.055 + 0.025 * np.clip(-(x + 0.2) / 0.7, 0, 1) ** 2
    q = np.stack([np.abs(x + 0.53) - 0.33, np.abs(y) - swell, np.abs(z) - 0.03])
    outside = np.maximum(q, 0)
    return np.sqrt(dot(outside, outside)) + np.minimum(q.max(axis=0), 0) - 0.025


def grape_centres() -> np.ndarray:
    """Centres (3, K) of a bunch of grapes: each is dropped where it comes to lie low, near the middle of an oval."""
    rng, apart, centres = np.random.default_rng(12), 0.232, np.zeros((0, 3))
    for _ in range(36):
        x, y = rng.normal(size=(2, 60)) * [[0.34], [0.17]]
        z = np.full(60, 0.125)
        for a, b, c in centres:
            flat = (x - a) ** 2 + (y - b) ** 2
            z = np.maximum(z, c + np.where(flat < apart**2, np.sqrt(np.maximum(apart**2 - flat, 0)), -1))
        best = np.argmin(z + 0.35 * np.hypot(x, 1.8 * y))
        centres = np.vstack([centres, [x[best], y[best], z[best]]])
    return centres.T.astype(np.float32)


GRAPE_CENTRES = grape_centres()


def grapes_distance(p: np.ndarray) -> np.ndarray:
    """The union of all grapes of the bunch."""
    best = np.full(p.shape[1], np.float32(9))
    for number, (x, y, z) in enumerate(GRAPE_CENTRES.T):
        size = np.float32(0.125 + 0.012 * np.sin(2.4 * number))
        best = np.minimum(best, np.sqrt((p[0] - x) ** 2 + (p[1] - y) ** 2 + (p[2] - z) ** 2) - size)
    return best


stalk_distance = twig(
    (0.1, 0.02, 0.3), (0.45, 0.05, 0.3), (0.75, 0.0, 0.16), (0.98, 0.07, 0.09), (1.02, 0.16, 0.08), radius=0.018
)
