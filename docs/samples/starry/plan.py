"""The composition: what is where, and which way the brush goes there.

All is in units of the picture's width: x runs right in [0, 1], y down in [0, 0.75].

The sky's direction field is a breeze with large eddies in it, and circles around the stars. Its light and dark bands
come from carrying a striped sky backwards along that breeze, which winds the stripes up into spirals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ..noise import fractal_noise, gradient_noise
from .brush import XY

GRID = (768, 1024)  # rows and columns of the masks, which span the picture


class Eddy(NamedTuple):
    """A whirl in the breeze."""

    x: float
    y: float
    radius: float
    spin: float  # 1 turns clockwise on the screen, -1 the other way


class Light(NamedTuple):
    """The moon or a star."""

    x: float
    y: float
    radius: float  # of the whole halo
    cold: float  # 0 golden, 1 silvery green


class House(NamedTuple):
    """Outlines, (n, 2) arrays of corners, and the middles of the windows, also (n, 2)."""

    wall: np.ndarray
    roof: np.ndarray
    windows: np.ndarray


EDDIES = (
    Eddy(0.40, 0.27, 0.150, 1.0),
    Eddy(0.60, 0.40, 0.105, -1.0),
    Eddy(0.07, 0.47, 0.085, -1.0),
    Eddy(0.70, 0.10, 0.075, 1.0),
)
MOON = Light(0.150, 0.140, 0.118, 0.0)
STARS = (
    Light(0.555, 0.105, 0.060, 0.7),
    Light(0.300, 0.060, 0.042, 0.3),
    Light(0.740, 0.270, 0.070, 0.0),
    Light(0.190, 0.345, 0.056, 0.9),
    Light(0.925, 0.070, 0.052, 0.2),
    Light(0.445, 0.470, 0.040, 0.1),
    Light(0.955, 0.330, 0.048, 0.6),
    Light(0.045, 0.330, 0.034, 0.0),
    Light(0.300, 0.470, 0.030, 0.5),
    Light(0.645, 0.215, 0.026, 0.2),
    Light(0.412, 0.085, 0.024, 1.0),
)
LIGHTS = (MOON, *STARS)
# Round bushes between the houses: x, y, radius.
BUSHES = (
    (0.20, 0.655, 0.022), (0.335, 0.650, 0.020), (0.42, 0.652, 0.024), (0.56, 0.650, 0.022), (0.71, 0.655, 0.026),
    (0.13, 0.672, 0.022), (0.265, 0.680, 0.018), (0.37, 0.694, 0.022), (0.50, 0.698, 0.020), (0.57, 0.704, 0.020),
    (0.05, 0.668, 0.030), (0.09, 0.690, 0.018), (0.675, 0.708, 0.020), (0.73, 0.690, 0.024),
)  # fmt: skip


# ---------------------------------------------------------------- shapes


def far_ridge(x: np.ndarray) -> np.ndarray:
    """The y of the hills' outline at each x."""
    return 0.575 + 0.030 * np.sin(5.2 * x + 2.6) + 0.014 * np.sin(13 * x + 0.6) - 0.05 * x


def near_ridge(x: np.ndarray) -> np.ndarray:
    """The y of the border between the hills and the fields at each x."""
    return 0.640 + 0.016 * np.sin(7 * x + 0.4) + 0.006 * np.sin(19 * x)


def _house(x: float, y: float, w: float, h: float) -> House:
    """A house with a hipped roof; its wall has the lower left corner (x, y), the width w and the height h."""
    wall = [(x, y), (x + w, y), (x + w, y - h), (x, y - h)]
    roof = [(x - 0.006, y - h), (x + w + 0.006, y - h), (x + 0.80 * w, y - 1.8 * h), (x + 0.20 * w, y - 1.8 * h)]
    windows = [(x + f * w, y - 0.5 * h) for f in (0.28, 0.72)]
    return House(np.array(wall), np.array(roof), np.array(windows))


def village() -> list[House]:
    """The church and the houses around it."""
    tower = np.array([(0.462, 0.680), (0.494, 0.680), (0.494, 0.590), (0.462, 0.590)])
    spire = np.array([(0.457, 0.592), (0.499, 0.592), (0.478, 0.480)])
    return [
        _house(0.225, 0.652, 0.056, 0.030),
        _house(0.585, 0.650, 0.056, 0.030),
        _house(0.352, 0.650, 0.050, 0.030),
        _house(0.285, 0.674, 0.066, 0.036),
        _house(0.515, 0.676, 0.068, 0.036),
        House(tower, spire, np.array([(0.478, 0.612), (0.478, 0.640)])),
        _house(0.655, 0.678, 0.060, 0.032),
        _house(0.150, 0.688, 0.064, 0.034),
        _house(0.392, 0.700, 0.084, 0.042),
        _house(0.585, 0.706, 0.070, 0.038),
    ]


def _cypress(x: float, top: float, base: float, half_width: float, phase: float) -> np.ndarray:
    """A flame-like outline (n, 2): widest low down, pointed at the top, both sides licking at their own rhythm."""
    t = np.linspace(0, 1, 60)  # from the base to the tip
    body = half_width * (1 - t) ** 0.75 * (0.75 + 0.6 * np.sin(np.pi * np.minimum(1.25 * t, 1)))
    axis = x + 0.014 * np.sin(4.5 * t + phase) * t
    y = base + (top - base) * t

    def side(sign: int) -> np.ndarray:
        lick = 0.20 * half_width * (1 - t) ** 0.4 * np.sin(26 * t + phase + 1.7 * sign) * np.minimum(4 * t, 1)
        return np.stack([axis + sign * body + lick, y], axis=1)

    return np.concatenate([side(-1), side(1)[::-1]])


def cypresses() -> list[np.ndarray]:
    """The outlines, (n, 2) each, of the trees in front."""
    return [_cypress(0.790, 0.36, 0.80, 0.031, 2.0), _cypress(0.868, 0.09, 0.80, 0.058, 0.9)]


def fill_mask(*outlines: np.ndarray) -> np.ndarray:
    """The inside of polygons, (n, 2) corners each, as booleans on the GRID."""
    rows, columns = GRID
    image = Image.new("1", (columns, rows))
    for outline in outlines:
        ImageDraw.Draw(image).polygon((columns * outline).ravel().tolist(), fill=1)
    return np.asarray(image)


def below_mask(ridge: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """All that lies below a ridge line, as booleans on the GRID."""
    rows, columns = np.indices(GRID) / GRID[1]
    return rows > ridge(columns)


# ---------------------------------------------------------------- direction fields, all of them brush.Flow


def _stir(
    wind: XY,
    x: np.ndarray,
    y: np.ndarray,
    whirl: Eddy | Light,
    spin: float,
    pull: float,
    reach: float,
    steepness: int,
) -> XY:
    """Let the wind at the points give way to a whirl within about `reach` of its radii, as abruptly as `steepness`.

    A `pull` towards the middle makes spirals of what would be closed rings.
    """
    wind_x, wind_y = wind
    dx, dy = (x - whirl.x) / whirl.radius, (y - whirl.y) / whirl.radius
    distance = np.hypot(dx, dy) + 1e-9
    hold = np.exp(-((distance / reach) ** steepness))
    return (
        wind_x * (1 - hold) + hold * (-spin * dy - pull * dx) / distance,
        wind_y * (1 - hold) + hold * (spin * dx - pull * dy) / distance,
    )


def breeze(x: np.ndarray, y: np.ndarray) -> XY:
    """The sky's flow without the stars: a wavy wind from the left that gives way to the eddies."""
    wind = np.ones_like(x), 0.45 * np.sin(7.5 * x + 2.5 * y + 0.6) + 0.5 * gradient_noise(3.1 * x, 3.1 * y, 5)
    for eddy in EDDIES:
        wind = _stir(wind, x, y, eddy, spin=eddy.spin, pull=0.16, reach=1.25, steepness=4)
    return wind


def sky_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """The breeze, turned into circles around the moon and the stars."""
    wind = breeze(x, y)
    for light in LIGHTS:
        # Circling the way the breeze passes above the light avoids a seam where both meet.
        wind = _stir(wind, x, y, light, spin=1.0, pull=0.0, reach=1.05, steepness=6)
    return wind


def hill_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """Along the ridge, and rolling over in places."""
    slope = (far_ridge(x + 0.01) - far_ridge(x - 0.01)) / 0.02
    return np.ones_like(x), slope + 1.6 * gradient_noise(7 * x, 9 * y, 21)


def field_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """Furrows that run together behind the village."""
    return x - 0.42 + 0.25 * gradient_noise(6 * x, 9 * y, 22), 0.9 * (y - 0.50)


def bush_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """Little curls."""
    turn = 9 * gradient_noise(22 * x, 26 * y, 24)
    return np.cos(turn), np.sin(turn)


def tree_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """Upwards, flickering like a flame."""
    return 0.50 * np.sin(28 * y + 9 * x) + 0.9 * gradient_noise(16 * x, 7 * y, 23), -np.ones_like(x)


def wall_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """Straight down."""
    return np.zeros_like(x), np.ones_like(x)


def roof_flow(x: np.ndarray, y: np.ndarray) -> XY:
    """Slanting like rafters."""
    return np.full_like(x, 0.30), np.ones_like(x)


# ---------------------------------------------------------------- tones


def sky_tone(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Light and dark bands of the sky, about 0 to 1: stripes of a still sky, carried along by the breeze."""
    px, py = x, y
    for _ in range(40):
        vx, vy = breeze(px, py)
        speed = np.hypot(vx, vy) + 1e-9
        px, py = px - 0.008 * vx / speed, py - 0.008 * vy / speed
    stripes = 0.5 + 0.5 * np.sin(52 * py + 9 * px + 5 * fractal_noise(3 * px, 5 * py, 31, octaves=2))
    tone = 0.74 * stripes**1.5 + 0.25 * fractal_noise(14 * px, 30 * py, 32, octaves=2)
    # A pale mist lies on the hills; the corners above are the deepest night.
    mist = np.exp(-(((far_ridge(x) - 0.03 - y) / 0.035) ** 2))
    return tone + 0.26 * mist - 0.18 * np.clip(1 - y / 0.25, 0, 1)


def halo_depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance from the nearest light in units of its halo's radius."""
    return np.min([np.hypot(x - light.x, y - light.y) / light.radius for light in LIGHTS], axis=0)
