"""What the things are made of: colours and bumps.

Colours are albedos (3, N) in linear RGB over a thing's local points (3, N), made of noise and of painted or woven
patterns; bumps are small heights (N,) over the same points, in scene units.
"""

from __future__ import annotations

import numpy as np

from ..common import smoothstep
from ..noise import fractal_noise, gradient_noise
from .raymarch import Field, Triple, dot
from .shapes import BOWL_CENTRE, BOWL_RADIUS, GRAPE_CENTRES, WINE_LEVEL
from .table import EDGE_Y, around_edge, cloth_coordinates


def blend(a: np.ndarray | Triple, b: np.ndarray | Triple, t: np.ndarray) -> np.ndarray:
    """Colours (3, N) between a and b, each (3,) or (3, N)."""
    a, b = (np.asarray(c, np.float32).reshape(3, -1) for c in (a, b))
    return a + (b - a) * t


def solid_noise(p: np.ndarray, frequency: float, seed: int, octaves: int = 1) -> np.ndarray:
    """Noise that varies in all three directions, from three perpendicular planes."""
    x, y, z = p * frequency
    return (
        fractal_noise(x + 0.3 * z, y + 0.2 * z, seed, octaves)
        + fractal_noise(y + 0.25 * x, z - 0.3 * x, seed + 1, octaves)
        + fractal_noise(z - 0.2 * y, x + 0.3 * y, seed + 2, octaves)
    )


def meridian_noise(p: np.ndarray, frequency: float, seed: int) -> np.ndarray:
    """Noise in streaks from pole to pole."""
    x, y, z = p
    r = np.hypot(x, y) + 1e-6
    return fractal_noise(frequency * x / r + 0.9 * z, frequency * y / r - 0.7 * z, seed, 3)


def apple_colour(red: Triple, ground: Triple, blush: float, seed: int) -> Field:
    """Red streaks over a yellow ground, redder on one side, with pale dots; a brown stem in a russet cavity."""

    def colour(p: np.ndarray) -> np.ndarray:
        x, y, z = p
        side = 0.7 * x - 1.0 * y + 0.4 * z
        cover = blush + side + 0.36 * meridian_noise(p, 7.0, seed) + 0.9 * solid_noise(p, 2.0, seed + 9, 4)
        skin = blend(ground, red, smoothstep(-0.5, 0.85, cover))
        skin = skin * (1 + 0.22 * meridian_noise(p, 17.0, seed + 5) + 0.2 * solid_noise(p, 3.0, seed + 7, 2))
        skin = blend(skin, (0.75, 0.55, 0.28), 0.35 * smoothstep(0.62, 0.9, solid_noise(p, 34.0, seed + 3)))
        r = np.hypot(x, y)
        cavity = (z > 0.1) * smoothstep(-0.16, -0.05, -r - 0.12 * solid_noise(p, 9.0, seed + 4))
        skin = blend(skin, (0.33, 0.27, 0.07), 0.8 * cavity)
        return blend(skin, (0.1, 0.055, 0.025), (r < 0.075) & (z > 0.27))

    return colour


def pear_colour(p: np.ndarray) -> np.ndarray:
    """Yellow-green with a faint blush, russet freckles and a brown stem."""
    skin = blend((0.42, 0.43, 0.08), (0.66, 0.47, 0.09), smoothstep(-0.5, 0.5, solid_noise(p, 2.0, 40, 4)))
    skin = blend(
        skin,
        (0.58, 0.17, 0.05),
        0.75 * smoothstep(0.05, 0.6, 0.4 * p[2] - 0.7 * p[0] - 0.5 * p[1] + 0.4 * solid_noise(p, 3.0, 43, 3)),
    )
    skin = blend(skin, (0.3, 0.2, 0.05), 0.5 * smoothstep(0.4, 0.75, solid_noise(p, 30.0, 46)))
    skin = blend(skin, (0.32, 0.2, 0.06), 0.7 * smoothstep(0.52, 0.72, p[2] + 0.1 * solid_noise(p, 8.0, 48)))
    return blend(skin, (0.09, 0.05, 0.02), (np.hypot(p[0], p[1]) < 0.09) & (p[2] > 0.715))


def orange_colour(p: np.ndarray) -> np.ndarray:
    """Deep orange, paler in patches, with a green calyx."""
    skin = blend((0.82, 0.27, 0.015), (0.86, 0.40, 0.04), smoothstep(-0.6, 0.7, solid_noise(p, 2.2, 60, 3)))
    skin = skin * (1 + 30 * orange_height(p))
    star = np.hypot(p[0], p[1]) * (1 + 0.16 * np.cos(5 * np.arctan2(p[1], p[0]))) + 0.01 * solid_noise(p, 20.0, 66)
    skin = blend(skin, (0.45, 0.36, 0.05), 0.5 * (p[2] > 0) * smoothstep(-0.11, -0.03, -star))
    return blend(skin, (0.12, 0.11, 0.035), (p[2] > 0) * smoothstep(-0.044, -0.03, -star))


def orange_height(p: np.ndarray) -> np.ndarray:
    """Pits of the oil glands."""
    return np.float32(-0.0038) * smoothstep(0.0, 0.8, solid_noise(p, 24.0, 63))


def lemon_colour(p: np.ndarray) -> np.ndarray:
    """Lemon yellow, greener towards the ends."""
    skin = blend((0.74, 0.53, 0.055), (0.64, 0.39, 0.03), smoothstep(-0.5, 0.6, solid_noise(p, 2.6, 70, 3)))
    return blend(skin, (0.55, 0.5, 0.08), 0.7 * smoothstep(0.3, 0.5, np.abs(p[2])))


def lemon_height(p: np.ndarray) -> np.ndarray:
    """Coarser, shallower pits than an orange's, on a slightly bumpy skin."""
    return np.float32(-0.0055) * smoothstep(0.0, 0.7, solid_noise(p, 14.0, 73)) + np.float32(0.01) * solid_noise(
        p, 5.0, 76
    )


def grape_colour(p: np.ndarray) -> np.ndarray:
    """Nearly black purple, each grape its own tint, under a patchy grey-blue bloom."""
    nearest = np.zeros(p.shape[1], np.int64)
    best = np.full(p.shape[1], np.inf)
    for number, centre in enumerate(GRAPE_CENTRES.T):
        gap = dot(p - centre[:, None], p - centre[:, None])
        nearest, best = np.where(gap < best, number, nearest), np.minimum(gap, best)
    skin = blend((0.055, 0.012, 0.04), (0.13, 0.02, 0.035), 0.5 + 0.5 * np.sin(2.7 * nearest))
    return blend(
        skin, (0.22, 0.24, 0.36), 0.55 * smoothstep(-0.3, 0.9, solid_noise(p, 5.0, 80, 3) + 0.3 * np.sin(nearest))
    )


def stalk_colour(p: np.ndarray) -> np.ndarray:
    """The stalk of the grapes, turning from green to brown."""
    return blend((0.2, 0.17, 0.05), (0.13, 0.07, 0.03), smoothstep(-0.4, 0.4, solid_noise(p, 6.0, 86, 3)))


def bowl_colour(p: np.ndarray) -> np.ndarray:
    """Off-white glaze with cobalt: rim line, a band of leaves between double lines, and a ring at the foot."""
    x, y, z = p
    phi = np.arctan2(y, x) + 0.02 * gradient_noise(x * 4, y * 4, 91)
    level = z + 0.006 * solid_noise(p, 6.0, 90)
    outside = np.sqrt(x * x + y * y + (z - BOWL_CENTRE) ** 2) > BOWL_RADIUS

    def line(at: float, half: float) -> np.ndarray:
        return smoothstep(-half - 0.006, -half + 0.006, -np.abs(level - at))

    # The band repeats a five-petalled flower, with two leaves on the stalk that waves on to the next one.
    turn = 11 * phi / (2 * np.pi)
    across, up = 0.52 * (turn - np.floor(turn) - 0.5), level - 0.5
    rosette = np.hypot(across, up) / (0.092 + 0.034 * np.cos(5 * np.arctan2(up, across)))
    flower = smoothstep(-0.42, -0.3, -np.abs(rosette - 0.66))
    stalk = smoothstep(-0.018, -0.008, -np.abs(up + 0.06 * np.sin(2 * np.pi * turn))) * (rosette > 1.15)
    side = np.abs(across) - 0.18
    leaf = smoothstep(-1.2, -0.7, -((side / 0.055) ** 2) - ((up - np.sign(across) * (0.05 + 1.2 * side)) / 0.042) ** 2)
    band = np.maximum(np.maximum(stalk, leaf), flower) * (np.abs(up) < 0.15)
    lines = line(0.79, 0.022) + line(0.685, 0.008) + line(0.335, 0.008) + line(0.305, 0.004) + line(0.16, 0.012)
    inside = line(0.79, 0.022) + line(0.70, 0.006)
    paint = np.clip(np.where(outside, lines + band, inside), 0, 1)
    wash = 0.72 + 0.28 * smoothstep(-0.8, 0.5, solid_noise(p, 7.0, 93, 3))
    glaze = blend((0.74, 0.75, 0.72), (0.68, 0.71, 0.72), smoothstep(-0.5, 0.5, solid_noise(p, 1.5, 96, 2)))
    return blend(glaze, (0.03, 0.075, 0.27), 0.95 * paint * wash)


def jug_colour(p: np.ndarray) -> np.ndarray:
    """Honey-brown glaze that ran down in drips over bare clay."""
    x, y, z = p
    r = np.hypot(x, y) + 1e-6
    runs = gradient_noise(3.5 * x / r, 3.5 * y / r, 101)
    lobe = np.sin(8.5 * np.arctan2(y, x) + 5 * runs)  # tongues that hang down round, with narrow arches between them
    drips = 0.72 - (0.17 + 0.3 * runs) * np.sqrt(np.sqrt(lobe * lobe + 0.004)) + 0.25 * runs
    glaze = blend((0.34, 0.14, 0.028), (0.12, 0.045, 0.015), smoothstep(-0.5, 0.6, solid_noise(p, 2.2, 104, 4)))
    glaze = blend(glaze, (0.06, 0.025, 0.012), 0.8 * smoothstep(1.75, 2.15, z))
    clay = blend((0.36, 0.2, 0.12), (0.28, 0.14, 0.08), smoothstep(-0.5, 0.5, solid_noise(p, 12.0, 108, 3)))
    return blend(clay, glaze, smoothstep(-0.012, 0.012, z - drips))


def wine_colour(p: np.ndarray) -> np.ndarray:
    """Almost black, but glowing red on the side away from the window, where the full bottle focuses its light."""
    edge = smoothstep(0.1, 0.36, p[0]) + 0.5 * smoothstep(WINE_LEVEL - 0.05, WINE_LEVEL, p[2])
    return blend((0.55, 0.04, 0.035), (0.92, 0.15, 0.08), np.clip(edge, 0, 1))


def handle_colour(p: np.ndarray) -> np.ndarray:
    """Dark, worn wood with two brass rivets."""
    x, y, _ = p
    wood = blend((0.11, 0.045, 0.02), (0.03, 0.014, 0.008), 0.5 + fractal_noise(x * 4, y * 40, 112, 3))
    rivet = np.hypot((x + 0.52) % 0.24 - 0.12, y)
    return blend(wood, (0.55, 0.38, 0.14), smoothstep(-0.026, -0.02, -rivet) * (np.abs(x + 0.52) < 0.2))


def paper_colour(p: np.ndarray) -> np.ndarray:
    """Yellowed paper, stained at the lower edge, with a double frame and an ornament instead of words."""
    across, up = 0.396 * np.arctan2(p[0] + 0.03, -p[1]), p[2] - 0.93 - 0.03 * p[0]
    inset = np.minimum(0.36 - np.abs(across), 0.36 - np.abs(up))
    frame = smoothstep(-0.011, -0.006, -np.abs(inset - 0.04)) + smoothstep(-0.006, -0.003, -np.abs(inset - 0.065))
    heart = np.hypot(across, up - 0.1) / (0.088 + 0.024 * np.cos(8 * np.arctan2(across, up - 0.1)))
    rules = smoothstep(-0.016, -0.008, -np.abs(np.abs(up + 0.14) - 0.045)) * (np.abs(across) < 0.17)
    ink = np.clip(frame + smoothstep(-0.3, -0.2, -np.abs(heart - 0.75)) + rules, 0, 1)
    stain = smoothstep(0.0, 0.8, fractal_noise(across * 3, up * 3, 115, 4) - 1.2 * up)
    sheet = blend((0.74, 0.66, 0.47), (0.5, 0.36, 0.2), 0.7 * stain)
    return blend(sheet, (0.24, 0.06, 0.035), ink * (0.75 + 0.3 * fractal_noise(across * 25, up * 25, 117, 2)))


def cork_colour(p: np.ndarray) -> np.ndarray:
    """Light brown with dark pores."""
    return blend((0.5, 0.33, 0.18), (0.2, 0.11, 0.05), smoothstep(0.2, 0.8, solid_noise(p, 18.0, 110, 2)))


def cloth_colour(p: np.ndarray) -> np.ndarray:
    """Unbleached linen, woven with blue bands both ways."""
    warp, weft = cloth_coordinates(p[0], around_edge(p)[1])
    thread = 0.5 + 0.25 * np.sin(warp * 210) + 0.25 * np.sin(weft * 210)

    def band(s: np.ndarray) -> np.ndarray:
        place_in_check = np.abs((s / 0.58) % 1 - 0.5) * 0.58
        wide = smoothstep(-0.112, -0.104, -place_in_check)
        return wide * 0.8 + smoothstep(-0.016, -0.009, -np.abs(place_in_check - 0.15)) * 0.6

    ground = blend((0.7, 0.66, 0.56), (0.8, 0.77, 0.68), thread + 0.4 * fractal_noise(warp * 3, weft * 3, 120, 3))
    blue = np.clip(band(warp) * (0.52 + 0.2 * thread) + band(weft) * (0.72 - 0.2 * thread), 0, 1.2)
    return blend(ground, (0.075, 0.12, 0.23), 0.8 * blue)


def cloth_height(p: np.ndarray) -> np.ndarray:
    """The weave, and small creases."""
    warp, weft = cloth_coordinates(p[0], around_edge(p)[1])
    weave = np.sin(warp * 210) * np.sin(weft * 210)
    return np.float32(0.0012) * weave + np.float32(0.018) * fractal_noise(warp * 3.2, weft * 3.2, 125, 3)


def table_colour(p: np.ndarray) -> np.ndarray:
    """Old oak boards along x: growth rings cut lengthwise, fine pores, dark gaps."""
    x, y, z = p
    s = np.where(z < -0.01, z - 0.3, y - EDGE_Y)
    board = np.floor(s / 0.92)
    x = x + 7.7 * board
    rings = s * 2.2 + 0.5 * fractal_noise(x * 0.22, s * 1.4 + 5 * board, 130, 3) + 0.9 * board
    ring = rings * 5 - np.floor(rings * 5)
    grain = 0.6 * smoothstep(0.0, 0.85, ring) * (1 - smoothstep(0.88, 1.0, ring)) + 0.55 * fractal_noise(
        x * 0.9, s * 26, 134, 3
    )
    tone = 0.75 + 0.25 * np.sin(2.1 * board) + 0.5 * fractal_noise(x * 0.5, s * 0.8, 137, 3)
    wood = blend((0.30, 0.15, 0.065), (0.12, 0.05, 0.02), grain) * tone
    gap = np.abs(s / 0.92 - np.round(s / 0.92)) * 0.92
    return wood * (0.2 + 0.8 * smoothstep(0.006, 0.02, gap))


def table_height(p: np.ndarray) -> np.ndarray:
    """Fine grain and a worn, slightly uneven top."""
    x, y, z = p
    s = np.where(z < -0.01, z - 0.3, y - EDGE_Y)
    return np.float32(0.002) * fractal_noise(x * 1.2, s * 22, 140, 2) + np.float32(0.004) * gradient_noise(
        x, s * 2, 143
    )


def wall_colour(p: np.ndarray) -> np.ndarray:
    """Old grey-green limewash: clouds, brush marks and stains."""
    x, _, z = p
    clouds = fractal_noise(x * 0.45, z * 0.45, 150, 6, 0.6)
    stains = smoothstep(0.15, 0.7, fractal_noise(x * 0.9 + 5, z * 0.6, 157, 5, 0.6))
    wash = blend((0.33, 0.335, 0.29), (0.52, 0.49, 0.40), 0.5 + 0.9 * clouds)
    return blend(wash, (0.30, 0.25, 0.18), 0.45 * stains) * (1 + 0.12 * fractal_noise(x * 9, z * 5, 163, 3))


def wall_height(p: np.ndarray) -> np.ndarray:
    """Trowel marks."""
    x, _, z = p
    return np.float32(0.022) * fractal_noise(x * 1.7, z * 1.7, 166, 5, 0.55)


def plain(colour: Triple) -> Field:
    """One colour everywhere."""
    return lambda p: np.repeat(np.array(colour, np.float32)[:, None], p.shape[1], axis=1)
