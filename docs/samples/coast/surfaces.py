"""The painters of all surfaces: walls, and here roof tiles, stone, wood, cloth and bark.

Each painter gets surface coordinates u (across) and v (up), both (n,) in metres, world points (n, 3), the paint, and
`sun` (3,): the direction to the sun along the face's two axes and its normal. Not every painter needs them all.
"""

from __future__ import annotations

import numpy as np

from ..common import mix, smoothstep
from ..noise import fractal_noise, gradient_noise
from .engine import Face
from .land import SUN, lattice
from .objects import Paint
from .walls import Surface, plain_surface, wall


def tiles(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Rows of half-round clay tiles, each of its own tint, with lichen and soot."""
    seed = paint.seed
    row = np.floor(v / 0.36)
    column = np.floor(u / 0.24 + 0.13 * gradient_noise(u / 2, v / 2, 121))
    across, up = np.mod(u / 0.24, 1) - 0.5, np.mod(v / 0.36, 1)
    own = lattice(column + 11 * seed, row, 122)
    broad = fractal_noise(u / 1.7 + seed, v / 1.7 - seed, 123, octaves=5)
    red, pale = np.array([0.50, 0.20, 0.105]), np.array([0.66, 0.38, 0.22])
    colour = mix(
        mix(red, pale, own), [0.33, 0.13, 0.08], 0.75 * smoothstep(0.65, 1.0, lattice(column, row + seed, 124))
    )
    colour = colour * (0.9 + 0.25 * lattice(seed, 3, 125))
    colour = mix(colour, [0.42, 0.36, 0.25], 0.55 * smoothstep(0.12, 0.5, broad))
    colour = mix(colour, [0.17, 0.13, 0.11], 0.5 * smoothstep(0.1, 0.55, -broad))
    colour = colour * (1 - 0.45 * smoothstep(0.25, 0.5, np.abs(across)) - 0.30 * smoothstep(0.82, 1.0, up))[:, None]
    surface = plain_surface(colour)
    surface.tilt[:, 0] = 0.75 * np.sin(2 * np.pi * across)
    surface.tilt[:, 1] = -0.15
    return surface


def blocks(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Coursed stone blocks with mortar joints; weed and a wet band where they meet the water."""
    course = np.floor(v / 0.48)
    size = 0.95
    shift = lattice(course, 2, 131)
    block = np.floor(u / size + shift)
    across, up = np.mod(u / size + shift, 1), np.mod(v / 0.48, 1)
    rough = fractal_noise(u * 2.2, v * 2.2, 132, octaves=5)
    joint = (np.minimum(across, 1 - across) < 0.035) | (np.minimum(up, 1 - up) < 0.07)
    colour = paint.colour * (0.72 + 0.5 * lattice(block, course, 133) + 0.35 * rough)[:, None]
    colour = mix(colour, paint.colour * 0.35, 0.8 * joint)
    height = points[:, 2] + 0.16 * rough
    colour = mix(colour, [0.10, 0.11, 0.05], smoothstep(0.60, 0.30, height))
    colour = mix(colour, [0.035, 0.035, 0.025], smoothstep(0.3, 0.12, height))
    surface = plain_surface(colour)
    surface.tilt[:] = 0.4 * rough[:, None]
    return surface


def paving(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Worn slabs."""
    slab = lattice(np.floor(u / 1.1), np.floor(v / 0.8), 141)
    worn = fractal_noise(u / 3, v / 3, 142, octaves=5)
    return plain_surface(np.array([0.50, 0.45, 0.38]) * (0.8 + 0.25 * slab + 0.35 * worn)[:, None])


def stripes(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Striped awning cloth."""
    pale = np.array([0.80, 0.74, 0.62])
    colour = mix(pale, paint.trim, np.mod(u, 0.7) < 0.35)
    return plain_surface(colour * (1 + 0.25 * fractal_noise(u * 1.5, v, 151, octaves=4))[:, None])


def plain(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Painted wood, iron or dressed stone with a little wear."""
    wear = fractal_noise(u * 1.3 + paint.seed, v * 3.0, 161, octaves=5)
    return plain_surface(np.clip(paint.colour * (1 + 0.35 * wear)[:, None], 0, 1))


def planks(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """A boat's painted planks: dark seams, paint worn and streaked towards the water."""
    z = points[:, 2]
    seam = np.mod(z / 0.14 + 0.4, 1) < 0.16
    wear = fractal_noise((points[:, 0] + points[:, 1]) * 1.6, z * 5, 165, octaves=5)
    colour = paint.colour * (1 + 0.45 * wear - 0.45 * seam)[:, None]
    return plain_surface(np.clip(mix(colour, [0.22, 0.20, 0.15], 0.55 * smoothstep(0.3, 0.02, z + 0.15 * wear)), 0, 1))


def cloth(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Sailcloth with seams."""
    seam = np.abs(np.mod(points[:, 2] / 0.9, 1) - 0.5) > 0.46
    return plain_surface(
        paint.colour * (1 - 0.12 * seam + 0.08 * gradient_noise(points[:, 0], points[:, 2], 171))[:, None]
    )


def soffit(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Dark boards and rafters under a roof."""
    return plain_surface(np.array([0.26, 0.18, 0.11]) * (0.6 + 0.6 * (np.mod(u, 0.6) < 0.14))[:, None])


def fascia(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """The edge of a tiled roof: the round ends of the tiles."""
    return plain_surface(np.array([0.50, 0.25, 0.15]) * (0.45 + 0.75 * (np.mod(u, 0.24) > 0.08))[:, None])


def bark(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """Cracked plates of pine bark, long across the trunk's height."""
    x, y, z = points.T
    crack = np.abs(fractal_noise((x - 0.6 * y) * 11, z * 2.5, 181, octaves=4))
    plate = fractal_noise((x - y) * 5, z * 1.5, 182, octaves=4)
    colour = mix(np.array([0.15, 0.10, 0.07]), [0.36, 0.23, 0.15], smoothstep(0.0, 0.25, crack))
    return plain_surface(colour * (1 + 0.5 * plate)[:, None])


PAINTERS = {
    painter.__name__: painter
    for painter in (wall, tiles, blocks, paving, stripes, plain, planks, cloth, soffit, fascia, bark)
}


def paint_face(item: Face, points: np.ndarray, eye: np.ndarray) -> tuple[Surface, np.ndarray]:
    """Surface at points (n, 3) of a face, and its unit normals (n, 3), turned towards the `eye`."""
    normal = item.normal if item.normal @ (eye - item.points[0]) > 0 else -item.normal
    local = points - item.origin
    u, v = local @ item.axes[0], local @ item.axes[1]
    sun = np.array([SUN @ item.axes[0], SUN @ item.axes[1], SUN @ normal])
    surface = PAINTERS[item.kind](u, v, points, item.style, sun)
    normals = normal + surface.tilt @ item.axes
    return surface, normals / np.linalg.norm(normals, axis=1, keepdims=True)
