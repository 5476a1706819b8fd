"""The light on the scene, the haze and the water, and the tones of the picture.

The scene is drawn a second time from below the water, where a mirrored eye would be; the waves displace that picture.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..common import HEIGHT, averaged_down, mix, smoothstep
from ..noise import fractal_noise
from .engine import GROUND, NOTHING, Ground, Leaves, LightMap, View, draw
from .land import SUN, bank_edge, ground_colour, ground_relief, land_height
from .layout import boats, hillside, near_plants, village
from .objects import quay
from .sky import clear_sky, sky_picture
from .surfaces import paint_face

EYE_HEIGHT = 7.2  # metres above the water
FOCAL = 1.072  # in picture widths
HORIZON = 0.505  # from the top, in picture heights
OVERSAMPLE = 2
SUNLIGHT = np.array([2.95, 2.20, 1.38])
SKYLIGHT = np.array([0.33, 0.45, 0.68])
BOUNCE = np.array([0.26, 0.22, 0.16])  # light that the ground throws back up


class Scene:
    """Everything that is drawn, and the light on it."""

    def __init__(self, view: View, detail: float) -> None:
        """Build it all for a `view` that the ground is sampled along; `detail` is 1 for a picture 1024 pixels wide."""
        houses, gardens = village()
        wood, near = near_plants()
        built = houses + quay() + boats()
        village_leaves, woods, near_leaves = Leaves.join(gardens), Leaves.join(hillside()), Leaves.join(near)
        self.faces = built + wood
        self.leaves = Leaves.join([village_leaves, woods, near_leaves])
        self.ground = Ground(view, 6.0, 12000.0, int(np.clip(1600 * detail, 500, 2000)), land_height)

        low, high = np.array([-62.0, 52.0, -1.0]), np.array([75.0, 165.0, 45.0])
        pitch = 0.06 / np.clip(detail, 0.25, 1.2)
        self.sun_map = LightMap(SUN, built, Leaves.join([village_leaves, woods]), pitch, low, high)
        near_low, near_high = np.array([-12.0, 8.0, 0.0]), np.array([14.0, 28.0, 14.0])
        self.near_map = LightMap(SUN, wood, near_leaves, pitch / 2, near_low, near_high)
        # Nine directions, spiralling up from near the horizon, stand for the whole sky.
        turn, rise = 2.4 * np.arange(9), np.linspace(0.15, 0.97, 9)
        flat = np.sqrt(1 - rise**2)
        directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), rise], axis=1)
        self.sky_maps = [LightMap(towards, built, village_leaves, 0.22, low, high) for towards in directions]

    def direct(self, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Part of the sun (n,) that reaches points (n, 3), shaded by ground, buildings, boats and leaves."""
        off = points + 0.10 * normal
        light = self.ground.sunlit(points + 0.25 * normal, SUN)
        # Clouds darken parts of the woods and the far land; the village lies in a gap of them.
        x, y = points[:, 0], points[:, 1]
        gap = smoothstep(-0.22, 0.12, fractal_noise(x / 240 + 0.4, y / 330, 9, octaves=3))
        light *= 1 - 0.75 * (1 - gap) * smoothstep(130, 260, y)
        village_part, near_part = (y > 45) & (y < 260), y < 30
        light[village_part] *= self.sun_map.visible(off[village_part], 3, 0.16, 0.10)
        light[near_part] *= self.near_map.visible(off[near_part], 3, 0.10, 0.06)
        return light

    def open_sky(self, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Part of the sky (n,) that points (n, 3) see past buildings and trees."""
        total, weight = np.zeros(len(points)), np.zeros(len(points))
        for sky in self.sky_maps:
            share = np.maximum(normal @ sky.towards, 0) + 0.02
            total += share * sky.visible(points + 0.3 * normal, 2, 0.4, 0.1)
            weight += share
        return total / weight

    def draw(self, view: View, sky: np.ndarray, beyond: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Colour (rows, columns, 3) and distance of the scene without its water; `sky` fills what nothing covers.

        With `beyond`, things nearer than that (m), the near bank and all that is under water are left out.
        """
        distance = self.ground.first_seen(view, 45.0 if beyond else 0.0, -0.4 if beyond else -10.0)
        seen = np.where(np.isfinite(distance), GROUND, NOTHING)
        draw(view, self.faces, self.leaves, distance, seen, beyond)
        colour = sky.copy()
        rows, columns = np.nonzero(seen != NOTHING)
        dry = view.height + view.slope[rows] * distance[rows, columns] > -0.3
        rows, columns = rows[dry], columns[dry]
        points = view.place(distance[rows, columns], rows, columns)
        eye = np.array([0.0, 0.0, view.height])
        colour[rows, columns] = haze(self.shade(points, seen[rows, columns], eye), points)
        return colour, distance

    def shade(self, points: np.ndarray, index: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Colour (n, 3) of points (n, 3) on what `index` (n,) says: ground, a face, or a leaf."""
        count = len(points)
        albedo, normal = np.zeros((count, 3)), np.zeros((count, 3))
        sunlit, glass, thin = np.ones(count), np.zeros(count), np.zeros(count, bool)
        ground, leaf = index == GROUND, index >= len(self.faces)
        smooth = self.ground.normals(points[ground])
        albedo[ground] = ground_colour(points[ground], smooth)
        rough = smooth + ground_relief(points[ground])
        normal[ground] = rough / np.linalg.norm(rough, axis=1, keepdims=True)
        chosen = index[leaf] - len(self.faces)
        normal[leaf], albedo[leaf], thin[leaf] = self.leaves.normal[chosen], self.leaves.albedo[chosen], True
        order = np.argsort(index, kind="stable")
        numbers, starts = np.unique(index[order], return_index=True)
        for number, where in zip(numbers, np.split(order, starts[1:]), strict=True):
            if 0 <= number < len(self.faces):
                surface, normal[where] = paint_face(self.faces[number], points[where], eye)
                albedo[where], sunlit[where], glass[where] = surface.albedo, surface.sunlit, surface.glass

        # Leaves let light through and stand at all angles: they are lit from every side, most from the sun's.
        facing = normal @ SUN
        facing = np.maximum(facing, 0) * np.where(thin, 0.65, 1.0) + thin * (0.35 + 0.2 * np.minimum(facing, 0))
        sun = facing * sunlit * self.direct(points, np.where(thin[:, None], SUN, normal))
        open_sky = np.ones(count)
        near = (points[:, 1] > 45) & (points[:, 1] < 200)
        open_sky[near] = self.open_sky(points[near], normal[near])
        up = 0.5 * normal[:, 2]
        light = np.outer(sun, SUNLIGHT) + np.outer(open_sky * (0.55 + 0.9 * up), SKYLIGHT)
        light += np.outer((0.25 + 0.75 * open_sky) * (0.5 - up), BOUNCE)
        return mix(np.clip(albedo, 0, 1) * light, mirrored_sky(points - eye, normal), 0.6 * glass)


def mirrored_sky(away: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Colour (n, 3) that a pane with unit normal (n, 3) mirrors to an eye that sees it along `away` (n, 3)."""
    ray = away - 2 * np.sum(away * normal, axis=1, keepdims=True) * normal
    flat = np.maximum(np.abs(ray[:, 1]), 1e-3)
    return 0.6 * clear_sky(ray[:, 0] / flat, np.clip(ray[:, 2] / flat, 0.05, 1))


def haze(colour: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colours (n, 3) of points (n, 3) as seen through the air: blue is lost and gained over the shortest way."""
    y = np.maximum(points[:, 1], 1.0)
    passing = np.exp(-y[:, None] / np.array([9000.0, 6600.0, 4300.0]))
    air = np.outer(1 + 0.25 * np.clip(points[:, 0] / y, -0.3, 1), [0.46, 0.60, 0.80])
    return colour * passing + air * (1 - passing)


def wave_slope(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the water surface across and away at points (x, y): slow swell, ripples, and patches of breeze."""
    breeze = 0.45 + 0.9 * smoothstep(-0.25, 0.45, fractal_noise(x / 28, y / 14, 201, octaves=3))
    away, across = np.zeros(x.shape), np.zeros(x.shape)
    for size, strength, seed in ((4.2, 0.010, 211), (1.5, 0.013, 212), (0.55, 0.012, 213), (0.2, 0.008, 214)):
        # Waves too small for the pixels there would only make grain.
        kept = strength * smoothstep(260 * size, 70 * size, y)
        away += kept * fractal_noise(x / (2.2 * size), y / size, seed, octaves=2)
        across += kept * fractal_noise(x / (2.2 * size) + 40, y / size, seed + 50, octaves=2)
    return breeze * across, breeze * away


def reflection(
    mirror: View, image: np.ndarray, depth: np.ndarray, points: np.ndarray, waves: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Colour (n, 3) that the water at points (n, 3) mirrors, given the mirrored scene and the slopes of the waves."""
    x, y, _ = points.T
    across, away = waves
    slope = -EYE_HEIGHT / y
    row, column = (mirror.slope[0] + slope) / mirror.step, (x / y - mirror.tangent[0]) / mirror.step
    # A thing that stands close behind the point where it is mirrored is displaced less than one far behind.
    far = ndimage.map_coordinates(depth, [row, column], order=0, mode="nearest")
    nearness = np.clip(1 - y / np.maximum(far, y + 0.5), 0.04, 1) / mirror.step
    total = np.zeros_like(points)
    # Ripples finer than a pixel smear the picture upwards and downwards.
    smears = (-0.0035, -0.0012, 0.0012, 0.0035)
    for smear in smears:
        where = [row - 2 * (away + smear) * nearness, column - 3 * slope * across * nearness]
        for channel in range(3):
            total[:, channel] += ndimage.map_coordinates(image[..., channel], where, order=1, mode="nearest")
    return total / len(smears)


def water_colour(points: np.ndarray, mirrored: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Colour (n, 3) of the water: what it mirrors over its own blue-green; stones show, and foam laps, by the bank."""
    x, y, _ = points.T
    strength = 0.10 + 0.88 * (1 - np.clip(EYE_HEIGHT / y + 2.2 * away, 0, 1)) ** 4.2
    cloudy = smoothstep(-0.15, 0.25, fractal_noise(x / 9, y / 9, 221, octaves=3))
    body = mix(np.array([0.018, 0.085, 0.105]), [0.05, 0.17, 0.16], cloudy)
    off_shore = y - bank_edge(x, y)
    body = mix(body, [0.16, 0.19, 0.11], 0.75 * smoothstep(5.0, 0.0, off_shore))
    lapping = np.abs(off_shore - 0.35 - 0.25 * fractal_noise(x * 1.3, y * 1.3, 222, octaves=3))
    foam = smoothstep(0.16, 0.0, lapping) * smoothstep(-0.1, 0.4, fractal_noise(x * 4, y * 4, 223, octaves=3))
    return mix(mix(body, mirrored, strength), [0.75, 0.76, 0.74], 0.35 * foam)


def lay_water(
    view: View, colour: np.ndarray, distance: np.ndarray, mirror: View, image: np.ndarray, depth: np.ndarray
) -> None:
    """Paint the water into `colour` where it is nearer than `distance`; `image` and `depth` are the mirrored scene."""
    with np.errstate(divide="ignore"):
        reach = np.where(view.slope < 0, -view.height / view.slope, np.inf)
    rows, columns = np.nonzero((reach[:, None] < distance) & (reach[:, None] < 20000))
    points = view.place(reach[rows], rows, columns)
    waves = wave_slope(points[:, 0], points[:, 1])
    colour[rows, columns] = water_colour(points, reflection(mirror, image, depth, points, waves), waves[1])


def tone(colour: np.ndarray) -> np.ndarray:
    """Display values in [0, 1] for linear light: a soft shoulder, a little contrast and warmth, then gamma."""
    exposed = np.maximum(colour, 0) * 0.92
    mapped = exposed * (1 + exposed / 6.0) / (1 + 0.72 * exposed)
    grey = mapped @ np.array([0.3, 0.59, 0.11])
    vivid = np.clip(grey[..., None] + 1.12 * (mapped - grey[..., None]), 0, 1)
    display = vivid ** (1 / 2.2)
    return np.clip(display + 0.16 * (display - 0.48) * (1 - np.abs(2 * display - 1)), 0, 1)


def render(width: int = 1024) -> np.ndarray:
    """Render the picture: RGB in [0, 1], shape (3 / 4 of width, width, 3). The same on every call."""
    height = round(width * HEIGHT)
    coarse = 1 / (FOCAL * width)
    fine = coarse / OVERSAMPLE
    columns, rows = np.arange(width * OVERSAMPLE) + 0.5, np.arange(height * OVERSAMPLE) + 0.5
    view = View((columns - columns.mean()) * fine, (HORIZON * height * OVERSAMPLE - rows) * fine, EYE_HEIGHT, fine)
    # The mirrored eye lies as deep under the water as the eye is above it; waves blur its picture, so that may be
    # coarser. It sees a little more on every side, for the waves to draw on.
    tangents = np.arange(view.tangent[0] - 0.02, view.tangent[-1] + 0.02, coarse)
    mirror = View(tangents, np.arange(0.1 - view.slope.min(), -0.02, -coarse), -EYE_HEIGHT, coarse)
    scene = Scene(View(tangents, view.slope, EYE_HEIGHT, coarse), width / 1024)

    colour, distance = scene.draw(view, sky_picture(view.tangent, view.slope, round(0.6 * width)))
    image, depth = scene.draw(mirror, sky_picture(mirror.tangent, mirror.slope, width // 3), beyond=27.0)
    lay_water(view, colour, distance, mirror, image, depth)
    return averaged_down(tone(colour), OVERSAMPLE)
