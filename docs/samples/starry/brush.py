"""A brush for thick oil paint: lists of strokes, and a canvas that keeps both their colours and their relief.

A stroke is a short arc. It has two half-mixed colours, streaks left by the bristles, and a relief. The work goes in
two steps:

1. Planning, in units of the picture's width (x to the right, y downwards) and so the same for every size: ``strew``
   draws random points, ``make_strokes`` turns them into strokes along a direction field, and ``thin_out`` keeps only
   those that do not fall on their neighbours.
2. Painting: a ``Canvas`` takes the strokes one after the other and stores colour and paint thickness; at the end the
   thickness is lit from the upper left, as a lamp would light impasto.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import gaussian_filter

from ..common import mix

XY = tuple[np.ndarray, np.ndarray]  # the x and the y, each (n,), of points or of vectors
Flow = Callable[[np.ndarray, np.ndarray], XY]  # a direction field: vectors, of any length, at the points x, y

MAX_TURN = 1.1  # radians within one stroke: a brush is lifted before it runs in a ring


@dataclass
class Strokes:
    """A list of n strokes, in painting order. Lengths are in picture widths, angles in radians from x towards y."""

    x: np.ndarray  # (n,), the middle of the stroke
    y: np.ndarray
    angle: np.ndarray
    curvature: np.ndarray  # (n,), radians per picture width
    length: np.ndarray
    width: np.ndarray
    color: np.ndarray  # (n, 3), RGB in [0, 1]
    streak: np.ndarray  # (n, 3), the second, half-mixed colour

    def pick(self, which: np.ndarray | int) -> Strokes:
        """The strokes at the given indices, or where a boolean array is true; for an integer, one without the n."""
        return Strokes(*(getattr(self, field.name)[which] for field in fields(self)))

    @staticmethod
    def join(parts: list[Strokes]) -> Strokes:
        """Several lists of strokes, one after the other."""
        return Strokes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Strokes)))


# ---------------------------------------------------------------- planning


def strew(rng: np.random.Generator, mask: np.ndarray, count: int) -> XY:
    """`count` random points where the mask, (rows, columns) booleans over the picture, is true."""
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(0, len(rows), count)
    scale = mask.shape[1]
    return (columns[chosen] + rng.uniform(size=count)) / scale, (rows[chosen] + rng.uniform(size=count)) / scale


def heading(flow: Flow, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle of the flow at the points, and its curvature (radians per picture width) along the streamlines."""

    def angle_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        vx, vy = flow(x, y)
        return np.arctan2(vy, vx)

    angle = angle_at(x, y)
    step = 0.008
    dx, dy = step * np.cos(angle), step * np.sin(angle)
    turn = angle_at(x + dx, y + dy) - angle_at(x - dx, y - dy)
    return angle, np.angle(np.exp(1j * turn)) / (2 * step)  # exp and back brings the turn into (-pi, pi]


def mix_colors(rng: np.random.Generator, palette: np.ndarray, tone: np.ndarray, spread: float) -> np.ndarray:
    """One colour (n, 3) per `tone` (n,) in [0, 1], which walks through the palette (m, 3), give or take `spread`."""
    n = len(tone)
    place = np.clip(tone + rng.normal(0, spread, n), 0, 1) * (len(palette) - 1)
    # Whole palette colours, not blends of two: neighbours that differ keep the colour from going dull.
    color = palette[np.rint(place).astype(int)]
    value = rng.normal(1, 0.07, (n, 1)) + rng.normal(0, 0.035, (n, 3))
    return np.clip(color * value, 0, 1)


def make_strokes(
    rng: np.random.Generator,
    points: XY,
    flow: Flow,
    palette: np.ndarray,
    tone: np.ndarray,
    length: float,
    width: float,
    wobble: float = 0.12,
) -> Strokes:
    """Strokes along a flow, each a little different from the others.

    Parameters
    ----------
    points : two arrays (n,)
        The middles of the strokes.
    palette : array (m, 3)
        Colours from dark to light, or in any other order that `tone` is to walk through.
    tone : array (n,)
        Place in the palette, from 0 to 1; what lies outside is clipped.
    length, width : float
        Typical size of a stroke, in picture widths. Strokes are shorter where the flow turns sharply.
    wobble : float
        Standard deviation of the tone.
    """
    x, y = points
    n = len(x)
    angle, curvature = heading(flow, x, y)
    angle = angle + rng.normal(0, 0.09, n)
    lengths = length * np.exp(np.clip(rng.normal(0, 0.30, n), -0.8, 0.35))  # an overlong stroke leaps to the eye
    lengths = np.minimum(lengths, np.maximum(MAX_TURN / (np.abs(curvature) + 1e-9), 1.6 * width))
    curvature = np.clip(curvature, -MAX_TURN / lengths, MAX_TURN / lengths)
    widths = width * np.exp(rng.normal(0, 0.18, n))
    color = mix_colors(rng, palette, tone, wobble)
    streak = mix_colors(rng, palette, tone, 1.5 * wobble)
    return Strokes(x, y, angle, curvature, lengths, widths, color, streak)


def thin_out(strokes: Strokes, overlap: float, grid: tuple[int, int]) -> Strokes:
    """Keep the strokes, in order, of which at most the part `overlap` lies on strokes kept before.

    What is covered is noted on a grid of (rows, columns) over the picture.
    """
    # Each stroke is stood for by 9 x 3 spots along and across it.
    along, across = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.4, 0.4, 3))
    s = along.ravel() * strokes.length[:, None]
    d = across.ravel() * strokes.width[:, None] + 0.5 * strokes.curvature[:, None] * s**2
    cos, sin = np.cos(strokes.angle)[:, None], np.sin(strokes.angle)[:, None]
    rows, columns = grid
    row = np.clip((columns * (strokes.y[:, None] + sin * s + cos * d)).astype(int), 0, rows - 1)
    column = np.clip((columns * (strokes.x[:, None] + cos * s - sin * d)).astype(int), 0, columns - 1)
    taken = np.zeros(rows * columns, bool)
    kept = []
    for i, spots in enumerate(row * columns + column):
        if taken[spots].mean() <= overlap:
            taken[spots] = True
            kept.append(i)
    return strokes.pick(np.array(kept, int))


# ---------------------------------------------------------------- painting


class Canvas:
    """Colour and paint thickness on a pixel grid, and the brush that adds to both."""

    BRISTLES = 16  # rows of the bristle texture that one stroke's width takes

    def __init__(self, width: int, height: int, ground: tuple[float, float, float], rng: np.random.Generator) -> None:
        """A flat ground of one RGB colour, `width` by `height` pixels."""
        self.width, self.height = width, height
        self.color = np.tile(np.float32(ground), (height * width, 1))
        self.relief = np.zeros(height * width, np.float32)  # in thousandths of the picture's width
        streaks = gaussian_filter(rng.normal(size=(512, 1024)), (1.1, 26), mode="wrap")
        self.bristles = (streaks / streaks.std()).astype(np.float32)
        self.rng = rng

    def paint(self, strokes: Strokes) -> None:
        """Lay the strokes on the canvas in their order."""
        for i in range(len(strokes.x)):
            one = strokes.pick(i)
            pixels, s, d = self._footprint(one)
            if len(pixels):
                self._deposit(one, pixels, s, d)

    def _footprint(self, one: Strokes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flat indices of the pixels one stroke can touch, and how far along and across it they lie (in pixels)."""
        length, width = one.length * self.width, one.width * self.width
        x, y = one.x * self.width, one.y * self.width
        reach = length / 2 + width
        left, right = max(int(x - reach), 0), min(int(x + reach) + 2, self.width)
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, self.height)
        dx = (np.arange(left, right) + 0.5 - x)[None, :]
        dy = (np.arange(top, bottom) + 0.5 - y)[:, None]
        cos, sin = np.cos(one.angle), np.sin(one.angle)
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        # The arc has the given curvature in its middle and straightens towards its ends.
        bend = one.curvature / self.width
        across = across - 0.5 * bend * along**2 / np.sqrt(1 + (bend * along) ** 2)
        rows, columns = np.nonzero((np.abs(across) < width / 2 + 1) & (np.abs(along) < length / 2 + 1))
        return (top + rows) * self.width + left + columns, along[rows, columns], across[rows, columns]

    def _deposit(self, one: Strokes, pixels: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        """Add one stroke's paint at the flat indices `pixels`, which lie `s` along and `d` across it (in pixels)."""
        length, width = one.length * self.width, one.width * self.width
        bristle, mixing = self._bristle_marks(s / width, d / width)
        # The stroke ends raggedly, bristle by bristle, and narrows a little where the brush is lifted.
        end = length / 2 - np.abs(s + 0.12 * width * bristle) - 1.6 * (d**2) / width
        side = width / 2 * (1 - 0.25 * np.clip(s / length + 0.1, 0, 1)) - np.abs(d)
        margin = np.minimum(end, side)  # pixels to the nearest edge of the paint, negative outside
        cover = np.clip(margin + 0.5, 0, 1)
        # A brush that runs dry leaves gaps between its bristles.
        dry = np.clip(s / length + 0.5, 0, 1) ** 3
        cover *= np.clip(1.25 - dry * (0.75 - 0.55 * bristle), 0, 1)
        blend = np.clip(0.30 + 0.38 * mixing, 0, 1)
        color = mix(one.color, one.streak, blend) * (1 + 0.085 * bristle[:, None])
        self.color[pixels] += cover[:, None] * (color.astype(np.float32) - self.color[pixels])
        # Paint is pushed up at the sides and the end, and furrowed by the bristles.
        rim = np.exp(-margin / (0.13 * width))
        thickness = 1000 / self.width * width * (0.11 + 0.13 * rim + 0.065 * bristle)
        self.relief[pixels] += cover * (thickness - 0.45 * self.relief[pixels])

    def _bristle_marks(self, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two unrelated streaky textures at places along and across a stroke, in units of its width."""
        rows, columns = self.bristles.shape
        # Every stroke takes another piece of the texture.
        row0, column0 = self.rng.integers(0, rows), self.rng.integers(0, columns)
        row = (row0 + (d + 0.5) * self.BRISTLES).astype(int)
        column = (column0 + s * self.BRISTLES).astype(int) % columns
        return self.bristles[row % rows, column], self.bristles[(row + rows // 2) % rows, column]

    def lit(self) -> np.ndarray:
        """The painted picture, (height, width, 3) RGB in [0, 1], under a lamp at the upper left."""
        relief = self.relief.reshape(self.height, self.width) * (self.width / 1000)  # now in pixels
        down, right = np.gradient(gaussian_filter(relief, 0.6))
        slope = -(0.75 * right + 0.65 * down)  # positive where the paint faces the lamp
        # tanh keeps steep edges from going to black or white.
        shade = 1 + 0.42 * np.tanh(1.3 * slope)
        gloss = 0.42 * np.clip(np.tanh(1.1 * slope) - 0.30, 0, 1) ** 1.5
        color = self.color.reshape(self.height, self.width, 3)
        return np.clip(color * shade[..., None] + gloss[..., None], 0, 1)
