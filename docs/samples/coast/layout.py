"""Where the houses, boats and plants stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..noise import fractal_noise
from .engine import Face, Leaves, face, raised
from .land import QUAY_ALONG, QUAY_INLAND, QUAY_LEVEL, QUAY_START, bank_edge, land_height, wooded
from .objects import (
    Frame,
    Paint,
    awning,
    balconies,
    church,
    house,
    quay_frame,
    quay_point,
    rowing_boat,
    sailing_boat,
)
from .plants import crown, cypress, grass, people, pine, round_tree

PLASTER = np.array(
    [
        [0.757, 0.550, 0.279],
        [0.733, 0.358, 0.204],
        [0.804, 0.686, 0.484],
        [0.663, 0.222, 0.134],
        [0.828, 0.640, 0.338],
        [0.757, 0.442, 0.338],
        [0.804, 0.757, 0.663],
        [0.550, 0.528, 0.338],
        [0.828, 0.506, 0.222],
        [0.640, 0.550, 0.506],
    ]
)
AWNINGS = np.array([[0.55, 0.10, 0.07], [0.08, 0.22, 0.30], [0.75, 0.45, 0.08]])
WHITE, NAVY = np.array([0.82, 0.79, 0.72]), np.array([0.05, 0.09, 0.16])
HULLS = np.array([[0.10, 0.26, 0.42], [0.72, 0.68, 0.58], [0.55, 0.12, 0.08], [0.08, 0.30, 0.27], [0.75, 0.52, 0.14]])


@dataclass(frozen=True)
class Row:
    """A row of houses: metres inland, first and last metre along the quay, storeys (least, most), kinds of roof."""

    inland: float
    first: float
    last: float
    storeys: tuple[int, int]
    roofs: tuple[str, ...]


ROWS = (
    Row(9.5, 6.0, 77.0, (3, 4), ("side", "side", "gable", "side", "hip")),
    Row(25.0, 12.0, 58.0, (2, 4), ("side", "gable", "hip", "side")),
    Row(40.0, 24.0, 72.0, (2, 3), ("hip", "side", "gable")),
    Row(55.0, 30.0, 66.0, (2, 2), ("side", "hip", "gable")),
)
CYPRESSES = ((22, 38, 9), (24, 39, 10.5), (78, 40, 9), (81, 36, 11), (83, 41, 8), (56, 52, 10), (47, 70, 11))
SHRUBS = ((5.6, 13.6), (4.2, 12.4), (6.4, 19.0), (9.2, 21.0), (-5.4, 14.2), (-6.6, 16.0), (2.6, 12.0), (8.4, 17.0))


def ground_at(x: float, y: float) -> float:
    """Height of the ground under one point."""
    return float(land_height(np.array([x]), np.array([y]))[0])


def on_slope(along: float, inland: float, sunk: float) -> np.ndarray:
    """Point (3,) on the village slope, `sunk` metres below its surface."""
    x, y, _ = quay_point(along, inland, 0)
    return np.array([x, y, ground_at(x, y) - sunk])


def row_of_houses(row: Row, number: int, rng: np.random.Generator) -> tuple[list[Face], list[Leaves]]:
    """The houses of a row, counted from `number`, with bushes before them unless it is the row on the quay."""
    faces, plants = [], []
    front, along = row is ROWS[0], row.first
    while along < row.last - 5:
        width, depth, pitch = rng.uniform(5.6, 8.8), rng.uniform(8.5, 10.5), rng.uniform(0.4, 0.55)
        inland = row.inland + (rng.uniform(-0.5, 0.5) if front else rng.uniform(-2.5, 2.5))
        base = QUAY_LEVEL if front else on_slope(along + width / 2, inland, -0.2)[2]
        frame = quay_frame(along, inland, base, rng.normal(0, 0.02 if front else 0.10))
        colour = PLASTER[(number * 7 + number // 10) % len(PLASTER)] * rng.uniform(0.9, 1.05)
        trim = np.array([0.80, 0.75, 0.66]) if rng.random() < 0.7 else colour * 0.6
        shops = front and number % 2 == 0
        paint = Paint(colour, trim, 10 + number, openings="shops" if shops else "front")
        eave = 3.05 * rng.integers(row.storeys[0], row.storeys[1] + 1) + rng.uniform(0.0, 0.7)
        faces += house(frame, width, depth, eave, row.roofs[number % len(row.roofs)], paint, pitch)
        faces += balconies(frame, width, eave, paint) if front else []
        faces += awning(frame, 0.5, width - 0.5, Paint(colour, AWNINGS[number % 3], number)) if shops else []
        # Along the quay the houses stand wall to wall, but for an alley here and there.
        gap = (2.2 if number % 4 == 3 else 0.0) if front else rng.uniform(1.5, 7.0)
        for _ in range(0 if front else 9):
            spot = on_slope(along + rng.uniform(-2, width + gap), inland + rng.uniform(-6.0, -0.8), 0.2)
            plants.append(round_tree(spot, rng.uniform(0.8, 2.1), int(rng.integers(1 << 30))))
        along += width + gap
        number += 1
    return faces, plants


def village() -> tuple[list[Face], list[Leaves]]:
    """All houses, row above row, with the church, the trees and gardens between them, and people on the quay."""
    rng = np.random.default_rng(2024)
    faces, plants = [], []
    for level, row in enumerate(ROWS):
        more_faces, more_plants = row_of_houses(row, 9 * level, rng)
        faces, plants = faces + more_faces, plants + more_plants
    faces += church(quay_frame(58.5, 25.0, on_slope(64.5, 27.0, -0.4)[2], 0.05))
    plants += [cypress(on_slope(a, i, 0.3), tall, int(a * 100 + i)) for a, i, tall in CYPRESSES]
    # Gardens and olive trees on the slope at the left, where no houses stand.
    for _ in range(46):
        spot = on_slope(rng.uniform(0, 27), rng.uniform(21, 60), 0.3)
        plants.append(round_tree(spot, rng.uniform(0.9, 1.9), int(rng.integers(1 << 30))))
    for along in (31.0, 47.5, 64.0):
        plants.append(round_tree(quay_point(along, 4.5, QUAY_LEVEL + 2.2), 1.9, int(along * 7)))
        faces += stem(quay_frame(along, 4.5, QUAY_LEVEL))
    strollers = zip(rng.uniform(15, 76, 16), rng.uniform(1.2, 6.5, 16), strict=True)
    plants.append(people(np.array([quay_point(a, i, QUAY_LEVEL) for a, i in strollers]), 31))
    return faces, plants


def hillside() -> list[Leaves]:
    """Trees in the woods above and beside the village, so that the nearer woods have real crowns."""
    rng = np.random.default_rng(55)
    along, inland = rng.uniform(0, 165, 2600), rng.uniform(56, 180, 2600)
    inland = np.where(along > 86, rng.uniform(8, 150, 2600), inland)
    flat = QUAY_START[:, None] + along * QUAY_ALONG[:, None] + inland * QUAY_INLAND[:, None]
    grows = wooded(along, inland, *flat) > rng.uniform(0.1, 0.8, len(along))
    x, y = flat[:, grows][:, :640]
    feet = np.stack([x, y, land_height(x, y) - rng.uniform(1.5, 3.0, len(x))], axis=1)
    return [round_tree(foot, rng.uniform(1.6, 3.1), number, 0.45) for number, foot in enumerate(feet)]


def stem(frame: Frame) -> list[Face]:
    """The bare stem of a quay tree."""
    paint = Paint(np.array([0.25, 0.18, 0.12]), np.zeros(3), 3)
    corners = frame.at([(-0.13, 0, 0), (0.13, 0, 0), (0.09, 0, 3.2), (-0.09, 0, 3.2)])
    return [face(corners, "plain", paint)]


def boats() -> list[Face]:
    """Rowing boats and sloops: along the quay, at anchor, and two under sail in the bay."""
    faces = []
    for number, along in enumerate((17.5, 24.0, 31.0, 37.0, 45.5, 52.0, 60.0, 67.0)):
        frame = quay_frame(along, -1.7 - 0.6 * (number % 2), 0.0, 0.12 * (number % 3 - 1))
        paint = Paint(HULLS[number % 5], WHITE if number % 2 else NAVY, 700 + number)
        faces += rowing_boat(frame, 4.6 + 0.5 * (number % 3), paint)
    blue, red = Paint(WHITE, np.array([0.10, 0.16, 0.32]), 720), Paint(WHITE, np.array([0.45, 0.09, 0.07]), 722)
    faces += sailing_boat(quay_frame(57.0, -8.5, 0.0, 0.25), 8.5, blue, False)
    faces += sailing_boat(
        quay_frame(34.0, -10.5, 0.0, 3.3), 7.4, Paint(np.array([0.10, 0.20, 0.30]), WHITE, 721), False
    )
    faces += sailing_boat(Frame(np.array([40.0, 152.0, 0.0]), 3.5), 10.0, red, True)
    faces += sailing_boat(Frame(np.array([152.0, 330.0, 0.0]), 0.4), 11.0, Paint(WHITE, NAVY, 723), True)
    faces += rowing_boat(Frame(np.array([-6.5, 31.5, 0.0]), 0.35), 4.9, Paint(HULLS[0] * 1.2, WHITE, 730))
    return faces + rowing_boat(Frame(np.array([1.6, 36.5, 0.0]), -0.3), 4.3, Paint(HULLS[2], WHITE, 731))


def near_plants() -> tuple[list[Face], list[Leaves]]:
    """The wood of the stone pine at the right; its needles, and shrubs and grass on the near bank."""
    rng = np.random.default_rng(77)
    wood, needles = pine(np.array([7.3, 16.5, ground_at(7.3, 16.5) - 0.2]), 99)
    shrubs = []
    for number, (x, y) in enumerate(SHRUBS):
        wide, flowering = rng.uniform(0.35, 0.75), number % 2 == 0
        foot, size = np.array([x, y, ground_at(x, y) + 0.3 * wide]), wide * np.array([1.1, 1.1, 0.82])
        tint = np.array([0.15, 0.14, 0.10]) if flowering else np.array([0.10, 0.13, 0.05])
        shrubs.append(crown(foot, size, tint, 0.032, int(6500 * wide**1.5), 300 + number))
        if flowering:
            shrubs.append(crown(raised(foot, 0.12), size, np.array([0.34, 0.20, 0.46]), 0.022, 900, 400 + number))
    x, y = rng.uniform(-8.5, 12.5, 24000), rng.uniform(9.5, 26.0, 24000)
    z = land_height(x, y)
    thick = fractal_noise(x / 1.6, y / 1.6, 78, octaves=3) + rng.normal(0, 0.12, len(x)) > -0.12
    grows = (bank_edge(x, y) - y > 1.6) & thick & (z > 0.6)
    return wood, [needles, *shrubs, grass(np.stack([x, y, z], axis=1)[grows], 79)]
