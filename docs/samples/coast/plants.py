"""What is made of leaves: trees, bushes, grass, and the small figures on the quay."""

from __future__ import annotations

import numpy as np

from .engine import Face, Leaves, face, raised
from .objects import Paint


def random_directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors (count, 3), spread evenly over the sphere."""
    direction = rng.standard_normal((count, 3))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True)


def crown(centre: np.ndarray, size: np.ndarray, colour: np.ndarray, leaf: float, count: int, seed: int) -> Leaves:
    """A clump of leaves: an ellipsoid of half-axes `size` (3,) made of smaller clusters, darker towards its inside."""
    rng = np.random.default_rng(seed)
    clusters = max(5, count // 60)
    middle = random_directions(rng, clusters) * rng.uniform(0.35, 0.85, (clusters, 1))
    which = rng.integers(0, clusters, count)
    around = random_directions(rng, count) * rng.uniform(0.5, 1.0, (count, 1)) ** 0.5
    local = middle[which] + around * 0.38
    normal = around * 0.75 + local * 0.6 + 0.35 * random_directions(rng, count)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    inside = np.clip(np.linalg.norm(local, axis=1), 0, 1.1)
    tint = (0.35 + 0.65 * inside) * (0.75 + 0.5 * rng.random(clusters)[which]) * rng.uniform(0.7, 1.3, count)
    warm = rng.random((count, 1)) * np.array([0.05, 0.025, 0.0])
    return Leaves(
        centre + local * size,
        rng.uniform(0.6, 1.2, count) * leaf,
        normal,
        (colour + warm) * tint[:, None],
        rng.uniform(0, np.pi, count),
    )


def cypress(foot: np.ndarray, height: float, seed: int) -> Leaves:
    """A slim dark tree."""
    size = np.array([height * 0.10, height * 0.10, height * 0.52])
    return crown(raised(foot, 0.5 * height), size, np.array([0.035, 0.06, 0.025]), 0.17, 1500, seed)


def round_tree(foot: np.ndarray, radius: float, seed: int, dense: float = 1.0) -> Leaves:
    """A low leafy tree or bush; `dense` scales how many leaves it has and, against that, how small they are."""
    rng = np.random.default_rng(seed)
    green = np.array([0.07, 0.11, 0.03]) * rng.uniform(0.8, 1.5) + np.array([0.04, 0.02, 0.0]) * rng.random()
    size, leaf, count = radius * np.array([1.0, 1.0, 0.85]), 0.19 / dense**0.5, int(260 * dense * radius**1.6)
    return crown(raised(foot, 0.9 * radius), size, green, leaf, count, seed)


def limb(start: np.ndarray, end: np.ndarray, thick: tuple[float, float], paint: Paint) -> list[Face]:
    """A tapering twelve-sided piece of trunk or branch."""
    along = (end - start) / np.linalg.norm(end - start)
    side = np.cross(along, [0.0, 1.0, 0.1])
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    angle = np.arange(13) * np.pi / 6
    ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * other
    low, high = start + ring * thick[0], end + ring * thick[1]
    return [face(np.stack([low[i], low[i + 1], high[i + 1]]), "bark", paint) for i in range(12)] + [
        face(np.stack([low[i], high[i + 1], high[i]]), "bark", paint) for i in range(12)
    ]


def pine(foot: np.ndarray, seed: int) -> tuple[list[Face], Leaves]:
    """The near stone pine: a bent trunk, spreading limbs, and flat tufts of needles that make an umbrella."""
    rng = np.random.default_rng(seed)
    paint = Paint(np.array([0.30, 0.20, 0.14]), np.array([0.2, 0.15, 0.1]), seed)
    faces, tufts = [], []

    def tuft(at: np.ndarray, wide: float) -> None:
        size = wide * rng.uniform(0.8, 1.2, 3) * np.array([1.0, 1.0, 0.42])
        needles = int(3600 * wide**1.5)
        tufts.append(crown(at, size, np.array([0.075, 0.125, 0.035]), 0.030, needles, int(rng.integers(1 << 30))))

    def grow(start: np.ndarray, heading: np.ndarray, length: float, thick: float, order: int) -> None:
        bend = heading + 0.22 * rng.standard_normal(3) + np.array([0, 0, 0.15])
        middle = start + heading * length * 0.5
        end = middle + bend / np.linalg.norm(bend) * length * 0.5
        faces.extend(limb(start, middle, (thick, thick * 0.88), paint))
        faces.extend(limb(middle, end, (thick * 0.88, thick * 0.75), paint))
        if order == 0:
            tuft(raised(end, 0.1), rng.uniform(0.55, 0.8))
            return
        turn = rng.uniform(0, 2 * np.pi)
        for _ in range(4):
            turn += rng.uniform(1.2, 1.9)
            spread = np.array([np.cos(turn), np.sin(turn), rng.uniform(0.15, 0.75)]) + 0.25 * heading
            grow(end, spread / np.linalg.norm(spread), length * rng.uniform(0.55, 0.8), thick * 0.55, order - 1)

    # The trunk bends upright in short pieces; each starts as wide as the one below it ends.
    t = np.linspace(0, 1, 9)[:, None]
    trunk = foot + np.concatenate([-1.35 * t + 0.5 * t**2, 0.35 * t, 5.5 * t], axis=1)
    thick = 0.28 - 0.11 * np.linspace(0, 1, 9)
    for i in range(8):
        faces += limb(trunk[i], trunk[i + 1], (thick[i], thick[i + 1]), paint)
    fork, crest = trunk[5], trunk[8]
    for heading, length in (
        ((-0.9, 0.1, 0.55), 2.1),
        ((0.8, 0.2, 0.7), 1.8),
        ((-0.15, -0.5, 0.85), 1.6),
        ((0.1, 0.9, 0.6), 1.8),
    ):
        direction = np.array(heading) / np.linalg.norm(heading)
        grow(crest, direction, length, 0.11, 2)
    grow(fork, np.array([-0.85, -0.1, 0.5]), 1.9, 0.09, 1)
    return faces, Leaves.join(tufts)


def people(spots: np.ndarray, seed: int) -> Leaves:
    """Small figures at spots (n, 3): head, trunk and two legs of upright ellipses."""
    rng = np.random.default_rng(seed)
    count = len(spots)
    clothes = np.array(
        [[0.65, 0.60, 0.52], [0.50, 0.10, 0.08], [0.08, 0.14, 0.30], [0.75, 0.68, 0.50], [0.15, 0.30, 0.32]]
    )
    shirts, legs = clothes[rng.integers(0, 5, count)], rng.uniform(0.04, 0.16, (count, 1)) * np.array([1.0, 1.0, 1.25])
    skin = np.broadcast_to(np.array([0.42, 0.26, 0.18]), (count, 3))
    size = rng.uniform(0.92, 1.08, count)
    body = (  # height and sideways place of each ellipse (m), its radius (m), its colour
        [(1.60, 0.0, 0.17, skin)]
        + [(rise, 0.0, 0.34, shirts) for rise in (1.28, 1.18, 1.08)]
        + [(rise, aside, 0.19, legs) for aside in (-0.10, 0.10) for rise in (0.85, 0.66, 0.47, 0.28, 0.12)]
    )
    parts = []
    for rise, aside, radius, colour in body:
        offset = np.array([[aside, 0, 0]]) + size[:, None] * np.array([[0, 0, rise]])
        normal = np.broadcast_to(np.array([0.5, -0.8, 0.33]), (count, 3))
        parts.append(Leaves(spots + offset, radius * size, normal, colour, np.full(count, np.pi / 2)))
    return Leaves.join(parts)


def grass(foot: np.ndarray, seed: int) -> Leaves:
    """Blades of grass from points (n, 3) on the ground: each a bent row of ever smaller flakes; some bear flowers."""
    rng = np.random.default_rng(seed)
    count, pieces = len(foot), 16
    height, lean = 0.12 + 0.42 * rng.random(count) ** 1.7, rng.normal(0, 0.28, (count, 2))
    t = np.linspace(0, 1, pieces)
    centre = np.repeat(foot[:, None, :], pieces, axis=1)
    centre[..., :2] += lean[:, None, :] * (t**2)[None, :, None] * height[:, None, None] * 2
    centre[..., 2] += height[:, None] * t * (1 - 0.25 * t)
    radius = np.broadcast_to(0.027 * (1.15 - t), (count, pieces)) * rng.uniform(0.6, 1.2, (count, 1))
    dry = rng.random((count, 1, 1)) ** 1.5
    colour = np.array([0.13, 0.18, 0.045]) * (1 - dry) + np.array([0.40, 0.33, 0.14]) * dry
    colour = colour * (0.45 + 0.75 * t)[None, :, None]
    normal = np.broadcast_to(np.array([0.35, -0.35, 0.87]), centre.shape) + rng.normal(0, 0.25, (count, 1, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    tilt = np.full((count, pieces), np.pi / 2)
    flower = rng.random(count) < 0.012
    petals = np.array([[0.85, 0.80, 0.70], [0.80, 0.55, 0.08], [0.70, 0.14, 0.10]])[rng.integers(0, 3, count)]
    colour[flower, -1], radius[flower, -1] = petals[flower], 0.034
    return Leaves(*(a.reshape(count * pieces, *a.shape[2:]) for a in (centre, radius.copy(), normal, colour, tilt)))
