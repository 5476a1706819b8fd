"""Every thing in the picture: its shape, its place and its material put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import materials, shapes
from .raymarch import Field, Solid, Triple, place, rotation_about
from .table import CLOTH, EDGE_Y, cloth_distance


@dataclass(frozen=True)
class Thing:
    """A solid (None for the wall and the table, which are planes) and what it is made of.

    colour maps local points (3, N) to albedos (3, N) and height, if any, to small bumps (N,) in scene units; mean is
    the albedo that other things see; mirror is the reflectance at normal incidence, rough the spread of reflections.
    """

    solid: Solid | None
    colour: Field
    mean: Triple
    mirror: float = 0.04
    rough: float = 0.2
    height: Field | None = None


def fruit(kind: str, at: Triple, size: float, tilt: Triple, degrees: float, seed: int) -> Thing:
    """One fruit of the given kind; at is where its centre lies, tilt the axis about which it is turned."""
    turn = rotation_about((0, 0, 1), 67.0 * seed) if kind == "apple" else np.eye(3)
    turn = rotation_about(tilt, degrees) @ turn
    reach = size * 1.12
    low, high = (-reach,) * 3, (reach,) * 3
    if kind == "apple":
        stem = ((0, 0, 0.5 * size), (0.05, 0.02, 1.12 * size), 0.017)
        green = seed % 3 == 2
        red, ground = ((0.5, 0.16, 0.04), (0.55, 0.5, 0.1)) if green else ((0.42, 0.022, 0.018), (0.72, 0.47, 0.1))
        shape = shapes.polar_solid(shapes.apple_radius(size), 0.022, seed, stem)
        solid = place(shape, at, low, high, rotation=turn, relax=0.6)
        colour = materials.apple_colour(red, ground, 0.0 if green else 0.42, seed)
        return Thing(solid, colour, (0.5, 0.12, 0.05), 0.04, 0.16)
    if kind == "pear":
        stem = ((0, 0, 1.7 * size), (0.07, 0.0, 2.35 * size), 0.02)
        high = (reach, reach, 2.5 * size)
        shape = shapes.polar_solid(shapes.pear_radius(size), 0.025, seed, stem)
        solid = place(shape, at, low, high, rotation=turn, relax=0.6)
        return Thing(solid, materials.pear_colour, (0.55, 0.45, 0.1), 0.035, 0.26)
    if kind == "orange":
        shape = shapes.polar_solid(shapes.orange_radius(size), 0.008, seed)
        solid = place(shape, at, low, high, rotation=turn)
        return Thing(solid, materials.orange_colour, (0.8, 0.3, 0.02), 0.04, 0.22, materials.orange_height)
    low, high = (-reach, -reach, -1.5 * size), (reach, reach, 1.65 * size)
    shape = shapes.polar_solid(shapes.lemon_radius(size), 0.02, seed)
    solid = place(shape, at, low, high, rotation=turn, relax=0.6)
    return Thing(solid, materials.lemon_colour, (0.82, 0.56, 0.05), 0.04, 0.22, materials.lemon_height)


BOWL_AT = (0.95, 0.1, CLOTH)
KNIFE_AT, KNIFE_TURN = (-1.62, -1.68, 0.056), rotation_about((0, 0, 1), 47)
GRAPES_AT, GRAPES_TURN = (2.0, -0.95, CLOTH), rotation_about((0, 0, 1), 24)
BOTTLE_AT = (-0.42, 1.75, 0.0)
JUG_AT, JUG_TURN = (-1.62, 0.95, 0.0), rotation_about((0, 0, 1), -28)


def bowl_fruit() -> list[Thing]:
    """Fruit heaped in the bowl: five around, one on top."""
    x, y, z = BOWL_AT
    return [
        fruit("apple", (x - 0.62, y - 0.28, z + 0.80), 0.41, (0.5, 0.3, 0), 38, 1),
        fruit("orange", (x + 0.08, y - 0.66, z + 0.80), 0.40, (1, 0.2, 0), 60, 2),
        fruit("apple", (x + 0.68, y - 0.10, z + 0.80), 0.40, (0.3, 0.9, 0), 30, 4),
        fruit("orange", (x + 0.35, y + 0.55, z + 0.80), 0.38, (1, 0, 0), 20, 5),
        fruit("apple", (x - 0.35, y + 0.5, z + 0.82), 0.39, (0, 1, 0), -20, 8),
        fruit("pear", (x + 0.02, y - 0.02, z + 1.22), 0.37, (0.35, 1.0, 0), 58, 6),
    ]


def loose_fruit() -> list[Thing]:
    """Fruit that lies about on the table and the cloth."""
    return [
        fruit("lemon", (-1.4, -0.62, 0.285), 0.29, (0.35, -0.94, 0.0), 86, 11),
        fruit("lemon", (-0.72, -0.3, 0.275), 0.28, (0.75, 0.66, 0.0), 84, 12),
        fruit("apple", (-0.42, -1.1, CLOTH + 0.385), 0.42, (1.0, 0.35, 0), 16, 7),
    ]


GLASS = Thing(
    place(shapes.bottle_distance, BOTTLE_AT, (-0.4, -0.4, 0), (0.4, 0.4, 3.0), relax=0.6),
    materials.plain((0.0, 0.0, 0.0)),
    mean=(0.02, 0.045, 0.015),
    mirror=0.045,
    rough=0.015,
)
GLASS_TINT = np.array([0.98, 0.55, 2.0], np.float32)[:, None]  # absorbance of the two walls, looked at straight
TABLE = Thing(None, materials.table_colour, mean=(0.2, 0.1, 0.045), rough=0.22, height=materials.table_height)
WALL = Thing(None, materials.wall_colour, mean=(0.42, 0.4, 0.33), mirror=0.0, rough=1.0, height=materials.wall_height)
BOWL = Thing(
    place(shapes.bowl_distance, BOWL_AT, (-1.25, -1.25, 0), (1.25, 1.25, 0.85)),
    materials.bowl_colour,
    mean=(0.6, 0.63, 0.65),
    mirror=0.05,
    rough=0.03,
)
GRAPES = Thing(
    place(shapes.grapes_distance, GRAPES_AT, (-0.9, -0.55, 0), (0.9, 0.55, 0.8), rotation=GRAPES_TURN),
    materials.grape_colour,
    mean=(0.1, 0.04, 0.08),
)
STALK = Thing(
    place(shapes.stalk_distance, GRAPES_AT, (0, -0.1, 0), (1.1, 0.25, 0.4), rotation=GRAPES_TURN),
    materials.stalk_colour,
    mean=(0.15, 0.1, 0.04),
)
JUG = Thing(
    place(shapes.jug_distance, JUG_AT, (-0.8, -0.8, 0), (1.0, 0.8, 2.2), rotation=JUG_TURN, relax=0.6),
    materials.jug_colour,
    mean=(0.25, 0.11, 0.04),
    mirror=0.05,
    rough=0.03,
)
BLADE = Thing(
    place(shapes.blade_distance, KNIFE_AT, (-0.2, -0.1, -0.03), (0.92, 0.1, 0.03), rotation=KNIFE_TURN, relax=0.7),
    materials.plain((0.16, 0.165, 0.17)),
    mean=(0.3, 0.3, 0.3),
    mirror=0.55,
    rough=0.1,
)
HANDLE = Thing(
    place(shapes.handle_distance, KNIFE_AT, (-0.9, -0.12, -0.06), (-0.16, 0.12, 0.06), rotation=KNIFE_TURN),
    materials.handle_colour,
    mean=(0.06, 0.03, 0.015),
)
WINE = Thing(
    place(shapes.wine_distance, BOTTLE_AT, (-0.4, -0.4, 0), (0.4, 0.4, 1.0)),
    materials.wine_colour,
    mean=(0.03, 0.004, 0.006),
    mirror=0.0,
)
CORK = Thing(
    place(shapes.cork_distance, BOTTLE_AT, (-0.13, -0.13, 2.9), (0.13, 0.13, 3.2)),
    materials.cork_colour,
    (0.4, 0.25, 0.13),
    mirror=0.0,
)
PAPER = Thing(
    place(shapes.paper_distance, BOTTLE_AT, (-0.4, -0.42, 0.5), (0.4, 0, 1.35), relax=0.7),
    materials.paper_colour,
    mean=(0.6, 0.52, 0.36),
    mirror=0.0,
)
LINEN = Thing(
    place(cloth_distance, (0, 0, 0), (-1.5, EDGE_Y - 0.4, -1.4), (3.5, 1.35, 0.3), relax=0.55),
    materials.cloth_colour,
    mean=(0.5, 0.48, 0.44),
    mirror=0.0,
    height=materials.cloth_height,
)

OPAQUE = [BOWL, *bowl_fruit(), *loose_fruit(), GRAPES, STALK, JUG, BLADE, HANDLE, WINE, CORK, PAPER, LINEN]
THINGS = [*OPAQUE, GLASS, TABLE, WALL]
