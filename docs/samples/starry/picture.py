"""The strokes of sky and land, in painting order, and the palettes they take their colours from."""

from __future__ import annotations

import numpy as np

from ..common import HEIGHT, averaged_down, oversampling
from ..noise import fractal_noise
from . import plan
from .brush import XY, Canvas, Flow, Strokes, make_strokes, strew, thin_out


def _palette(codes: str) -> np.ndarray:
    """Colours written as hexadecimal RRGGBB, as an (n, 3) array in [0, 1]."""
    return np.array([list(bytes.fromhex(code)) for code in codes.split()]) / 255


# From dark to light; the halo's from the middle outwards.
SKY = _palette("0a1038 121f74 1b3aa0 2560c0 2f8fc0 55b4b8 a9d6c4 efe9c0")
HALO = _palette("fffbe0 fff0a0 ffd93b f7a81a f0e690 a8d2a0 4f9fc0 2456b8")
SICKLE = _palette("ffd23a fbb024 f08a1c")
HILL = _palette("0c1a45 17357c 1f5a86 2f7f86 5b9a72 a3b35a")
FIELD = _palette("0d1f33 16433f 2a6a3e 6b8a32 b79a2c ecc040")
BUSH = _palette("0a1626 11322f 1d5038 3f7a3c 86a043")
TREE = _palette("060b12 0b1a1e 12302a 23482a 55601f a0641c")
WALL = _palette("2f5580 6f97b0 c4c49a efd998 f6c560")
ROOF = _palette("2a1c4a 5c2230 a33a1c d9601f f09030")
WINDOW = _palette("ff9a1f ffc21f ffe878")
CONTOUR = _palette("080c22 0d1538 101a4a")
GROUND = (0.05, 0.08, 0.22)  # what shows where no stroke falls


# ---------------------------------------------------------------- the sky


def sky_strokes(rng: np.random.Generator) -> list[Strokes]:
    """The sky from the dark ground to the small bright strokes, then the moon and the stars."""
    night = ~plan.below_mask(plan.far_ridge)
    layers = []
    # candidates, length, width, tone's lift, lowest tone that is painted, allowed overlap
    for count, length, width, lift, lowest, overlap in (
        (7000, 0.090, 0.0160, -0.16, -np.inf, 0.45),
        (11000, 0.062, 0.0092, 0.00, -np.inf, 0.30),
        (1300, 0.050, 0.0068, 0.16, -np.inf, 0.0),
        (12000, 0.042, 0.0058, 0.10, 0.36, 0.12),
    ):
        x, y = strew(rng, night, count)
        tone = plan.sky_tone(x, y)
        keep = (tone > lowest) & (plan.halo_depth(x, y) > 0.80)
        strokes = make_strokes(rng, (x[keep], y[keep]), plan.sky_flow, SKY, tone[keep] + lift, length, width)
        layers.append(thin_out(strokes, overlap, plan.GRID))
    layers += [light_strokes(rng, light) for light in plan.LIGHTS]
    return [*layers, sickle_strokes(rng)]


def light_strokes(rng: np.random.Generator, light: plan.Light) -> Strokes:
    """One star, or the moon's halo: a thick bright middle and rings of strokes that cool outwards."""
    count = 2500
    distance, bearing = np.sqrt(rng.uniform(0.01, 1.25, count)), rng.uniform(0, 2 * np.pi, count)
    points = (
        light.x + light.radius * distance * np.cos(bearing),
        light.y + light.radius * distance * np.sin(bearing),
    )
    # Rings alternate between lighter and darker on their way out.
    ripple = (0.13 + 0.05 * light.cold) * np.sin(distance * 22)
    tone = 0.85 * distance + ripple + 0.22 * light.cold * (distance > 0.3)
    size = light.radius / plan.MOON.radius  # small stars have smaller strokes, but not in proportion
    strokes = make_strokes(rng, points, plan.sky_flow, HALO, tone, 0.032 * size**0.45, 0.0078 * size**0.55, 0.07)
    order = np.argsort(-distance + rng.normal(0, 0.15, count))  # outer rings first, the bright middle on top
    rings = thin_out(strokes.pick(order), 0.25, plan.GRID)
    ground = strokes.pick(order[::8])  # so that no night shows between the rings
    ground.width *= 1.8
    # Rings leave a hole in the middle: round dabs fill it.
    dabs = np.full(2, light.x), np.full(2, light.y)
    middle = make_strokes(rng, dabs, plan.wall_flow, HALO, np.full(2, 0.05), 1.0, 0.30 * light.radius, 0.03)
    middle.length = middle.width * 1.1
    return Strokes.join([ground, rings, middle])


def sickle_strokes(rng: np.random.Generator) -> Strokes:
    """The moon's sickle, orange upon its pale halo, then a dab of blue that cuts its hollow."""
    moon = plan.MOON
    x, y = rng.uniform(-0.6, 0.6, (2, 9000))  # from the moon's middle, in radii of its halo
    disk, hollow = np.hypot(x, y) < 0.52, np.hypot(x - 0.17, y + 0.10) < 0.33
    layers = []
    for inside, palette, tone, wobble in ((disk & ~hollow, SICKLE, 0.5, 0.25), (hollow, HALO, 0.84, 0.05)):
        points = moon.x + moon.radius * x[inside], moon.y + moon.radius * y[inside]
        tones = np.full(inside.sum(), tone)
        strokes = make_strokes(rng, points, plan.sky_flow, palette, tones, 0.017, 0.0066, wobble)
        layers.append(thin_out(strokes, 0.35, plan.GRID))
    return Strokes.join(layers)


# ---------------------------------------------------------------- the land


def patch_strokes(
    rng: np.random.Generator, mask: np.ndarray, flow: Flow, palette: np.ndarray, count: int, length: float, width: float
) -> list[Strokes]:
    """Cover a patch of the land: a dark coarse layer, then a lighter one of strokes about half the size.

    `count` is the number of candidates for each layer; `mask` is on the plan's GRID.
    """
    layers = []
    for scale, lightness, overlap in ((1.0, 0.24, 0.45), (0.58, 0.50, 0.22)):
        x, y = strew(rng, mask, count)
        tone = lightness + 0.60 * fractal_noise(9 * x, 22 * y, 40, octaves=3)
        strokes = make_strokes(rng, (x, y), flow, palette, tone, scale**0.8 * length, scale * width, 0.16)
        layers.append(thin_out(strokes, overlap, plan.GRID))
    return layers


def contour_strokes(rng: np.random.Generator, outline: np.ndarray) -> Strokes:
    """Dark strokes along the sides of a polygon with the corners (n, 2), four to a side."""
    dashes = 4
    sides = np.roll(outline, -1, axis=0) - outline
    x, y = np.concatenate([outline + (i + 0.5) / dashes * sides for i in range(dashes)]).T
    dx, dy = np.tile(sides, (dashes, 1)).T

    def along_sides(*_: np.ndarray) -> XY:
        return dx, dy

    strokes = make_strokes(rng, (x, y), along_sides, CONTOUR, np.full(len(x), 0.5), 1.0, 0.0034)
    strokes.length = np.hypot(dx, dy) / dashes * rng.uniform(1.0, 1.35, len(x))
    return strokes


def shrink(outline: np.ndarray, factor: float) -> np.ndarray:
    """The polygon (n, 2) drawn in towards its middle, so that strokes that start inside end near its sides."""
    middle = outline.mean(axis=0)
    return middle + factor * (outline - middle)


def house_strokes(rng: np.random.Generator, house: plan.House) -> list[Strokes]:
    """One house: strokes down the wall and the roof, two dabs a window, dark contours."""
    wall, roof = plan.fill_mask(shrink(house.wall, 0.84)), plan.fill_mask(shrink(house.roof, 0.80))
    layers = patch_strokes(rng, wall, plan.wall_flow, WALL, 400, 0.014, 0.0062)
    layers += patch_strokes(rng, roof, plan.roof_flow, ROOF, 400, 0.014, 0.0062)
    dabs = house.windows.repeat(2, axis=0).T
    x, y = dabs + rng.normal(0, 0.0008, dabs.shape)
    layers.append(make_strokes(rng, (x, y), plan.wall_flow, WINDOW, np.full(len(x), 0.4), 0.012, 0.0070, 0.4))
    return [*layers, contour_strokes(rng, house.wall), contour_strokes(rng, house.roof)]


def bush_strokes(rng: np.random.Generator, x: float, y: float, radius: float) -> list[Strokes]:
    """One round bush of curly strokes."""
    bearing = np.linspace(0, 2 * np.pi, 40)
    outline = np.stack([x + radius * np.cos(bearing), y + 0.8 * radius * np.sin(bearing)], axis=1)
    return patch_strokes(rng, plan.fill_mask(outline), plan.bush_flow, BUSH, 300, 0.020, 0.0075)


def land_strokes(rng: np.random.Generator) -> list[Strokes]:
    """Hills, fields, the village with its bushes, and the cypresses: far to near."""
    fields = plan.below_mask(plan.near_ridge)
    hills = plan.below_mask(plan.far_ridge) & ~fields
    layers = patch_strokes(rng, hills, plan.hill_flow, HILL, 3500, 0.050, 0.0090)
    layers += patch_strokes(rng, fields, plan.field_flow, FIELD, 3500, 0.048, 0.0100)
    things = [(y + radius, bush_strokes(rng, x, y, radius)) for x, y, radius in plan.BUSHES]
    things += [(house.wall[:, 1].max(), house_strokes(rng, house)) for house in plan.village()]
    for _, strokes in sorted(things, key=lambda thing: thing[0]):  # what stands lower down stands nearer
        layers += strokes
    trees = plan.fill_mask(*plan.cypresses())
    return layers + patch_strokes(rng, trees, plan.tree_flow, TREE, 6000, 0.070, 0.0100)


def render(width: int = 1024) -> np.ndarray:
    """The picture as (height, width, 3) RGB in [0, 1], height three quarters of the width."""
    rng = np.random.default_rng(1889)
    layers = sky_strokes(rng) + land_strokes(rng)
    factor = oversampling(width)
    canvas = Canvas(width * factor, round(width * HEIGHT) * factor, GROUND, rng)
    for layer in layers:
        canvas.paint(layer)
    return averaged_down(canvas.lit(), factor)
