"""The walls of the houses and the church: old plaster with windows, shutters, doors, arches and a clock.

All places on a wall are surface coordinates u (across) and v (up), both (n,) in metres; `sun` (3,) is the direction to
the sun along the wall's two axes and its normal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..common import mix, smoothstep
from ..noise import fractal_noise, gradient_noise
from .land import lattice
from .objects import Paint

Opening = Callable[[np.ndarray, np.ndarray], np.ndarray]  # whether points (u, v) lie in it

SHUTTERS = np.array(
    [[0.05, 0.16, 0.10], [0.08, 0.20, 0.13], [0.10, 0.20, 0.30], [0.22, 0.10, 0.05], [0.30, 0.36, 0.34]]
)


@dataclass
class Surface:
    """Albedo (n, 3), part of the sun that reaches it (n,), part that is glass (n,), tilt of the normal (n, 2)."""

    albedo: np.ndarray
    sunlit: np.ndarray
    glass: np.ndarray
    tilt: np.ndarray


def plain_surface(albedo: np.ndarray) -> Surface:
    """A matt surface without relief."""
    count = len(albedo)
    return Surface(albedo, np.ones(count), np.zeros(count), np.zeros((count, 2)))


def plaster(u: np.ndarray, v: np.ndarray, paint: Paint) -> np.ndarray:
    """Albedo (n, 3) of old plaster: faded patches, rain streaks from above, damp at the foot, bare brick in places."""
    a, b = u + 13.7 * (paint.seed % 17), v + 5.3 * (paint.seed % 13)
    patches, fine = fractal_noise(a / 2.3, b / 2.3, 101, octaves=5), fractal_noise(a * 2.5, b * 2.5, 103, octaves=4)
    streaks = fractal_noise(a * 2.2, b * 0.22, 105, octaves=4)
    colour = np.broadcast_to(paint.colour, (len(u), 3)) * (1 + 0.30 * patches + 0.20 * fine)[:, None]
    colour = mix(colour, np.array([0.82, 0.76, 0.66]) * paint.colour**0.4, 0.55 * smoothstep(0.1, 0.6, patches))
    height = paint.size[1]
    below_eave = smoothstep(height - 4.5, height - 0.3, v)
    colour *= (1 - 0.42 * smoothstep(0.0, 0.7, streaks) * (0.35 + 0.65 * below_eave))[:, None]
    damp = smoothstep(1.5 + 1.2 * streaks, 0.0, v + 0.5 * patches)
    colour = mix(colour, np.array([0.24, 0.21, 0.17]), 0.60 * damp)
    bare = smoothstep(0.50, 0.58, patches + 0.35 * fine + 0.15 * damp)
    course = np.floor(v / 0.16)
    brick = np.floor(u / 0.34 + 0.5 * (course % 2))
    stone = np.array([0.46, 0.31, 0.22]) * (0.7 + 0.6 * lattice(brick, course, 107))[:, None]
    return mix(colour, stone, bare * 0.85)


def inside_box(
    u: np.ndarray, v: np.ndarray, half: float | np.ndarray, low: float, high: float | np.ndarray
) -> np.ndarray:
    """Whether points lie in the upright rectangle |u| < half, low < v < high."""
    return (np.abs(u) < half) & (v > low) & (v < high)


def wall(u: np.ndarray, v: np.ndarray, points: np.ndarray, paint: Paint, sun: np.ndarray) -> Surface:
    """A house wall: plaster, and the openings that its paint asks for."""
    surface = plain_surface(plaster(u, v, paint))
    if paint.openings in ("front", "shops", "few"):
        add_windows(surface, u, v, paint, sun)
    elif paint.openings == "church":
        add_church_front(surface, u, v, paint, sun)
    elif paint.openings == "tower":
        add_belfry(surface, u, v, paint, sun)
    if paint.openings in ("front", "shops"):
        width, eave = paint.size
        band = (np.abs(v - 3.15) < 0.11) | (v > eave - 0.45)
        corner = (np.minimum(u, width - u) < 0.32) & ((np.floor(v / 0.42) % 2 == 0) | (np.minimum(u, width - u) < 0.2))
        strength = 0.7 * (band | corner & (paint.seed % 3 == 0))
        surface.albedo = mix(surface.albedo, paint.trim, strength * (surface.glass < 0.5))
        surface.sunlit *= 1 - 0.5 * ((v > 2.9) & (v < 3.04))
    return surface


def recess(
    surface: Surface, u: np.ndarray, v: np.ndarray, opening: Opening, depth: float, sun: np.ndarray
) -> np.ndarray:
    """Points inside an `opening` (a test of u and v), which is set back `depth` metres, so that its edges shade it."""
    within = opening(u, v)
    facing = max(sun[2], 0.05)
    lit = within & opening(u + depth * sun[0] / facing, v + depth * sun[1] / facing)
    surface.sunlit = np.where(within, lit, surface.sunlit)
    return within


def add_windows(surface: Surface, u: np.ndarray, v: np.ndarray, paint: Paint, sun: np.ndarray) -> None:
    """Windows with frames, surrounds and shutters in rows on every floor; doors or shop arches on the ground floor."""
    width, eave = paint.size
    few = paint.openings == "few"
    pitch = width / max(1 if few else 2, round(width / (3.6 if few else 2.6)))
    floor_height = eave / max(1, round(eave / 3.05))
    column, floor = np.floor(u / pitch), np.floor(v / floor_height)
    x, y = u - (column + 0.5) * pitch, v - floor * floor_height
    pick = lattice(column + 7 * paint.seed, floor, 111)
    state = lattice(column + 5 * paint.seed, floor, 112)
    # The attic row under the eave is lower; the ground floor has doors and shops instead of windows.
    ground, valid = floor == 0, (floor >= 0) & (v < eave) & (u > 0) & (u < width)
    valid &= pick > (0.55 if few else 0.05)
    half, sill = 0.46, 0.95  # of a window: half its width, and its lower edge above the floor
    top = np.where(floor == np.floor(eave / floor_height - 0.5), 2.15, 2.45)
    upper = valid & (~ground if not few else np.ones_like(ground))
    shutter = SHUTTERS[paint.seed % len(SHUTTERS)]

    def surround(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return inside_box(a, b, half + 0.14, sill - 0.10, top + 0.16)

    surface.albedo = mix(surface.albedo, paint.trim, 0.8 * (upper & surround(x, y)))
    ledge = upper & inside_box(x, y, half + 0.2, sill - 0.16, sill - 0.03)
    surface.albedo = mix(surface.albedo, np.array([0.70, 0.66, 0.58]), ledge)
    surface.sunlit *= 1 - 0.65 * (
        upper & inside_box(x + 0.1 * np.sign(sun[0]), y, half + 0.2, sill - 0.32, sill - 0.16)
    )
    drip = smoothstep(1.3, 0.0, sill - y) * smoothstep(0.75, 0.4, np.abs(x)) * (y < sill - 0.16) * upper
    surface.albedo *= (1 - 0.3 * drip * smoothstep(-0.1, 0.5, gradient_noise(u * 6, v * 0.4, 113)))[:, None]
    add_pane(surface, x, y, upper, half, sill, top, sun, pick)

    has_shutters = upper & (state > 0.12)
    closed = state > 0.80
    centre = np.where(closed, half / 2, half * 1.52)
    leaf = has_shutters & inside_box(np.abs(x) - centre, y, half * 0.5, sill - 0.02, top + 0.02)
    slat = 0.72 + 0.42 * (np.mod(y, 0.13) / 0.13)
    frame = inside_box(np.abs(x) - centre, y, half * 0.38, sill + 0.08, top - 0.08)
    fade = 0.8 + 0.5 * state + 0.25 * gradient_noise(u * 2, v * 2, 114)
    surface.albedo = np.where(leaf[:, None], shutter * (np.where(frame, slat, 1.1) * fade)[:, None], surface.albedo)
    surface.glass[leaf] = 0
    surface.sunlit[leaf] = 1
    # An open leaf stands off the wall and throws a narrow shadow beside and below itself.
    reach = 0.07 / max(sun[2], 0.2)
    cast = has_shutters & inside_box(np.abs(x + reach * sun[0]) - centre, y + reach * sun[1], half * 0.5, sill, top)
    surface.sunlit *= 1 - 0.75 * (cast & ~leaf & ~inside_box(x, y, half, sill, top))

    if few:
        return
    shops = paint.openings == "shops"
    wide, tall = (min(0.40 * pitch, 1.15), 2.05) if shops else (0.58, 2.0)
    street = valid & ground & ((pick > 0.1) if shops else (pick > 0.35))

    def arch(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        rise = wide if shops else 0.35
        return (np.abs(a) < wide) & (b < tall + rise * np.sqrt(np.clip(1 - (a / wide) ** 2, 0, 1)) - 0.35 * shops)

    jamb = street & (np.abs(x) < wide + 0.2) & (y < tall + 0.75) & ~arch(x, y)
    surface.albedo = mix(surface.albedo, paint.trim * 0.9, 0.75 * jamb)
    within = recess(surface, x, y, lambda a, b: street & arch(a, b), 0.35, sun)
    boards = 0.75 + 0.35 * (np.mod(x, 0.17) > 0.025)
    door = shutter * boards[:, None] * (0.7 + 0.6 * state[:, None])
    inner = mix(np.array([0.05, 0.045, 0.04]), [0.20, 0.14, 0.08], smoothstep(0, 1.0, y) * 0.5)
    leafed = (state > 0.45) | (not shops)
    surface.albedo = np.where(within[:, None], np.where(leafed[:, None], door, inner), surface.albedo)
    surface.glass = np.where(within & ~leafed & (np.abs(np.abs(x) - wide / 2) > 0.05), 0.25, surface.glass)
    ground_window = valid & ground & ~street
    add_pane(surface, x, y, ground_window, 0.42, 1.0, np.full_like(x, 2.1), sun, pick)


def add_pane(
    surface: Surface,
    x: np.ndarray,
    y: np.ndarray,
    where: np.ndarray,
    half: float,
    low: float,
    top: np.ndarray,
    sun: np.ndarray,
    pick: np.ndarray,
) -> None:
    """A recessed window: frame with bars, panes that mirror the sky, here and there a curtain.

    x and y (n,) are metres from the middle and from the floor, `pick` (n,) is the window's own random number.
    """
    within = recess(surface, x, y, lambda a, b: where & inside_box(a, b, half, low, top), 0.22, sun)
    bars = (np.abs(x) < 0.045) | (half - np.abs(x) < 0.07) | (y - low < 0.07) | (top - y < 0.07)
    bars |= np.abs(np.mod((y - low) / (top - low) * 3 + 0.5, 1) - 0.5) < 0.05
    curtain = smoothstep(0.05, 0.0, np.abs(x) - half * (0.25 + 0.5 * pick)) * (np.mod(pick * 37, 1) > 0.5)
    pane = mix(np.array([0.035, 0.045, 0.05]), [0.42, 0.38, 0.31], 0.5 * (1 - curtain) * (pick > 0.4))
    colour = np.where((within & bars)[:, None], np.array([0.62, 0.58, 0.50]), pane)
    surface.albedo = np.where(within[:, None], colour, surface.albedo)
    surface.glass = np.where(within, ~bars * 0.55, surface.glass)


def add_church_front(surface: Surface, u: np.ndarray, v: np.ndarray, paint: Paint, sun: np.ndarray) -> None:
    """A portal with a round arch, a rose window above it, and pilasters."""
    x = u - paint.size[0] / 2
    pilaster = np.minimum(np.abs(np.abs(x) - 4.3), np.abs(np.abs(x) - 2.4)) < 0.3
    band = (np.abs(v - 6.6) < 0.2) | (np.abs(v - 8.3) < 0.14)
    surface.albedo = mix(surface.albedo, paint.trim, 0.65 * (pilaster & (v < 8.2) | band))
    surface.sunlit *= 1 - 0.5 * ((v > 6.15) & (v < 6.4))

    def portal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((np.abs(a) < 1.0) & (b < 3.0)) | (a**2 + (b - 3.0) ** 2 < 1.0)

    ring = ((np.abs(x) < 1.4) & (v < 3.0)) | (x**2 + (v - 3.0) ** 2 < 1.96) | (x**2 + (v - 9.2) ** 2 < 1.25**2)
    surface.albedo = mix(surface.albedo, paint.trim, 0.7 * ring)
    door = recess(surface, x, v, portal, 0.5, sun)
    surface.albedo = np.where(door[:, None], np.array([0.14, 0.08, 0.045]), surface.albedo)
    rose = recess(surface, x, v, lambda a, b: a**2 + (b - 9.2) ** 2 < 0.81, 0.35, sun)
    spokes = np.abs(np.mod(np.arctan2(v - 9.2, x) / np.pi * 4 + 0.5, 1) - 0.5) < 0.12
    surface.albedo = np.where(rose[:, None], np.where(spokes[:, None], paint.trim, 0.05), surface.albedo)


def add_belfry(surface: Surface, u: np.ndarray, v: np.ndarray, paint: Paint, sun: np.ndarray) -> None:
    """Paired sound openings at the top, a clock below them, slits further down, and corner stones."""
    width, height = paint.size
    x = u - width / 2
    edge = np.minimum(u, width - u)
    quoin = (edge < 0.5) & ((np.floor(v / 0.5) % 2 == 0) | (edge < 0.3))
    surface.albedo = mix(surface.albedo, np.array([0.66, 0.58, 0.47]), 0.7 * quoin)
    base = height - 4.6

    def openings(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        c = np.abs(a) - 0.85
        belfry = (np.abs(c) < 0.52) & (b > base) & (b < base + 2.3) | (c**2 + (b - base - 2.3) ** 2 < 0.27)
        return belfry | ((np.abs(a) < 0.16) & (np.mod(b, 4.2) > 3.0) & (b < height - 7) & (b > 2))

    within = recess(surface, x, v, openings, 0.55, sun)
    dark = mix(np.array([0.03, 0.028, 0.026]), [0.12, 0.10, 0.08], np.mod(v, 0.3) < 0.1)
    surface.albedo = np.where(within[:, None], dark, surface.albedo)
    radius = np.hypot(x, v - (height - 7.1))
    surface.albedo = np.where((radius < 0.95)[:, None], np.array([0.80, 0.76, 0.66]), surface.albedo)
    angle = np.arctan2(v - (height - 7.1), x)
    marks = (np.abs(radius - 0.88) < 0.07) | (
        (radius < 0.7) & (np.abs(np.sin(angle - 0.6)) < 0.09) & (np.cos(angle - 0.6) > 0)
    )
    marks |= (radius < 0.5) & (np.abs(np.sin(angle - 2.4)) < 0.12) & (np.cos(angle - 2.4) > 0)
    surface.albedo = np.where(marks[:, None], np.array([0.10, 0.08, 0.07]), surface.albedo)
