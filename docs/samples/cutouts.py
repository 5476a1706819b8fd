"""A collage of painted paper, cut with scissors: blocks of flat colour, seaweed, birds, a sun and a dancer.

Sheets of paper are first painted with gouache, in passes of a broad brush whose bristles leave streaks; then shapes
are cut from them and pinned one over the other. A shape is drawn as a union of bent, tapered limbs (or a polygon),
and its mask is blurred and cut off at one half: that rounds the inner corners as scissors do, and a little noise in
the cut makes the edge waver by hand. Every piece throws a small shadow and shows its bright paper edge to the light.

All places and sizes are in units of the picture's width; x runs right in [0, 1], y down in [0, HEIGHT].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, shift

from .common import HEIGHT, averaged_down, mix, oversampling
from .noise import fractal_noise, gradient_noise

# Each gouache: the colour as mixed, and the one it leans to where the mixing was uneven.
GOUACHE = {
    "vermilion": ((0.86, 0.17, 0.07), (0.95, 0.38, 0.08)),
    "lemon": ((0.98, 0.82, 0.08), (0.96, 0.66, 0.04)),
    "ultramarine": ((0.07, 0.13, 0.58), (0.12, 0.30, 0.76)),
    "sky": ((0.20, 0.52, 0.82), (0.42, 0.70, 0.88)),
    "emerald": ((0.02, 0.45, 0.26), (0.16, 0.62, 0.30)),
    "pink": ((0.93, 0.46, 0.60), (0.97, 0.64, 0.68)),
    "orange": ((0.96, 0.50, 0.06), (0.98, 0.66, 0.16)),
    "violet": ((0.36, 0.16, 0.50), (0.52, 0.26, 0.60)),
    "black": ((0.04, 0.04, 0.06), (0.17, 0.15, 0.22)),
    "white": ((0.97, 0.95, 0.88), (0.80, 0.82, 0.82)),
}

Limb = tuple[tuple[float, float], tuple[float, float], float, float, float]  # from, to, bend, radius from, radius to


@dataclass
class Piece:
    """One cut paper: its colour, the direction its paint was brushed in (radians), and its shape."""

    color: str
    brush: float
    limbs: list[Limb] = field(default_factory=list)
    polygon: list[tuple[float, float]] = field(default_factory=list)
    rounding: float = 0.0035  # how far the scissors round off corners

    def placed(self, x: float, y: float, size: float, turn: float = 0.0) -> Piece:
        """The piece scaled by `size`, turned by `turn` radians, and moved so that its origin lies at (x, y)."""
        cos, sin = size * np.cos(turn), size * np.sin(turn)

        def move(p: tuple[float, float]) -> tuple[float, float]:
            return x + cos * p[0] - sin * p[1], y + sin * p[0] + cos * p[1]

        limbs = [(move(a), move(b), bend, size * ra, size * rb) for a, b, bend, ra, rb in self.limbs]
        return Piece(self.color, self.brush, limbs, [move(p) for p in self.polygon], self.rounding)


# ---------------------------------------------------------------- shapes, about one unit tall, around their origin


def block(color: str, x0: float, y0: float, x1: float, y1: float, rng: np.random.Generator) -> Piece:
    """A sheet that is nearly a rectangle, cut a bit askew; it reaches under its neighbours."""
    skew = rng.normal(0, 0.004, (4, 2))
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    polygon = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(corners, skew, strict=True)]
    return Piece(color, rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.12), polygon=polygon, rounding=0.0012)


def saw(color: str, x0: float, y0: float, x1: float, y1: float, teeth: int, depth: float) -> Piece:
    """A ribbon whose lower border, from (x0, y0) to (x1, y1), is a straight cut and whose other side has teeth."""
    t = np.linspace(0, 1, 2 * teeth + 1)
    out = depth * (0.25 + 0.75 * (np.arange(2 * teeth + 1) % 2))
    length = np.hypot(x1 - x0, y1 - y0)
    side_x, side_y = (y1 - y0) / length, -(x1 - x0) / length
    zigzag = [*zip(x0 + (x1 - x0) * t + out * side_x, y0 + (y1 - y0) * t + out * side_y, strict=True)]
    return Piece(color, 0.3, polygon=[(x0, y0), *zigzag, (x1, y1)], rounding=0.0015)


def seaweed(color: str, pairs: int, rng: np.random.Generator, plump: float = 1.0) -> Piece:
    """A frond: a swaying stem with pairs of fingers that bend upwards and end in round tips."""
    t = np.linspace(0, 1, pairs + 1)
    sway = 0.07 * np.sin(2.2 * np.pi * t * 0.6 + rng.uniform(0, 6))
    stem = np.stack([sway, 0.5 - t], axis=1)
    width = 0.050 * plump
    limbs: list[Limb] = [
        (tuple(stem[i]), tuple(stem[i + 1]), 0.0, width * (1 - 0.4 * t[i]), width * (1 - 0.4 * t[i + 1]))
        for i in range(pairs)
    ]
    for i in range(pairs):
        for side in (-1, 1):
            # Longest a little below the middle, as leaves are; no two fingers alike.
            reach = (0.15 + 0.21 * np.sin(np.pi * (0.18 + 0.72 * t[i]))) * rng.uniform(0.85, 1.12)
            lift = (0.06 + 0.16 * t[i]) * rng.uniform(0.8, 1.25)
            end = 0.036 * plump * rng.uniform(0.75, 1.35)
            tip = (stem[i][0] + side * reach, stem[i][1] - lift)
            limbs.append((tuple(stem[i]), tip, side * rng.uniform(0.22, 0.42), 0.026 * plump, end))
    limbs.append((tuple(stem[-1]), (stem[-1][0] + 0.02, stem[-1][1] - 0.10), 0.1, 0.03 * plump, 0.045 * plump))
    return Piece(color, rng.uniform(0, np.pi), limbs)


def fan(color: str, fingers: int, rng: np.random.Generator) -> Piece:
    """A coral or open hand: fingers that spread from one foot."""
    limbs: list[Limb] = [((0.0, 0.5), (0.0, 0.15), 0.05, 0.07, 0.10)]
    for bearing in np.linspace(-1.25, 1.25, fingers):
        reach = 0.62 * rng.uniform(0.85, 1.1) * (1 - 0.12 * abs(bearing))
        tip = (reach * np.sin(bearing), 0.15 - reach * np.cos(bearing))
        limbs.append(
            ((0.04 * np.sin(bearing), 0.15), tip, 0.18 * np.sign(bearing), 0.055, 0.062 * rng.uniform(0.8, 1.2))
        )
    return Piece(color, rng.uniform(0, np.pi), limbs)


def sun(color: str, rays: int, rng: np.random.Generator) -> Piece:
    """A disc with flame-like rays, all leaning one way."""
    bearing = np.linspace(0, 2 * np.pi, 40 * rays, endpoint=False)
    phase = (bearing * rays / (2 * np.pi)) % 1
    ray = np.arange(len(bearing)) // 40
    length = rng.uniform(0.8, 1.2, rays)[ray]
    radius = 0.30 + 0.20 * length * np.where(phase < 0.6, phase / 0.6, (1 - phase) / 0.4) ** 1.3
    polygon = [(r * np.cos(b), r * np.sin(b)) for r, b in zip(radius, bearing, strict=True)]
    return Piece(color, rng.uniform(0, np.pi), polygon=polygon, rounding=0.002)


def leaf(color: str, rng: np.random.Generator) -> Piece:
    """A plain pointed leaf."""
    return Piece(
        color, rng.uniform(0, np.pi), [((0, 0.5), (0, 0), 0.12, 0.02, 0.19), ((0, 0), (0, -0.5), 0.12, 0.19, 0.01)]
    )


def bird(color: str) -> Piece:
    """A bird in flight to the right: body, head, tail and two wings of feather fingers."""
    limbs: list[Limb] = [
        ((-0.30, 0.10), (0.10, 0.0), -0.10, 0.050, 0.105),
        ((0.10, 0.0), (0.36, -0.10), 0.10, 0.105, 0.062),
        ((0.36, -0.10), (0.50, -0.08), 0.0, 0.045, 0.006),
        ((-0.28, 0.10), (-0.56, 0.06), 0.12, 0.050, 0.040),
        ((-0.28, 0.10), (-0.54, 0.20), 0.05, 0.045, 0.038),
    ]
    for i in range(4):
        limbs.append(((0.10 - 0.07 * i, -0.02), (0.02 - 0.15 * i, -0.52 + 0.09 * i), 0.16, 0.062, 0.040))
    for i in range(3):
        limbs.append(((0.06 - 0.08 * i, 0.04), (-0.08 - 0.14 * i, 0.42 - 0.07 * i), -0.16, 0.055, 0.036))
    return Piece(color, 0.5, limbs)


def dancer(color: str) -> Piece:
    """A figure in a leap, head thrown back, one arm up; about one unit from hand to foot."""
    limbs: list[Limb] = [
        ((0.085, -0.345), (0.105, -0.372), 0.0, 0.046, 0.044),  # head
        ((0.055, -0.315), (0.030, -0.250), 0.0, 0.024, 0.028),  # neck
        ((0.022, -0.215), (0.000, -0.065), -0.16, 0.074, 0.050),  # chest to waist
        ((0.000, -0.065), (-0.015, 0.045), 0.10, 0.050, 0.086),  # waist to hips
        ((0.070, -0.240), (0.205, -0.285), 0.30, 0.036, 0.028),  # raised arm
        ((0.205, -0.285), (0.190, -0.450), 0.25, 0.028, 0.018),
        ((0.190, -0.450), (0.165, -0.490), 0.0, 0.020, 0.012),
        ((-0.035, -0.240), (-0.185, -0.215), 0.22, 0.036, 0.028),  # arm held out
        ((-0.185, -0.215), (-0.285, -0.330), 0.25, 0.028, 0.017),
        ((-0.285, -0.330), (-0.325, -0.340), 0.0, 0.019, 0.011),
        ((0.025, 0.065), (0.215, 0.085), -0.30, 0.076, 0.046),  # bent leg
        ((0.215, 0.085), (0.120, 0.270), -0.22, 0.045, 0.022),
        ((0.120, 0.270), (0.185, 0.318), 0.25, 0.021, 0.012),
        ((-0.045, 0.075), (-0.135, 0.270), 0.16, 0.074, 0.044),  # stretched leg
        ((-0.135, 0.270), (-0.250, 0.445), -0.16, 0.043, 0.020),
        ((-0.250, 0.445), (-0.335, 0.470), 0.25, 0.020, 0.010),
    ]
    return Piece(color, 1.2, limbs, rounding=0.0028)


# ---------------------------------------------------------------- composition


def laurel(rng: np.random.Generator) -> list[Piece]:
    """The branch on the black sheet: a thin bent twig, with leaves of four colours on either side in turn."""
    pieces = [Piece("emerald", 0.0, [((0.015, 0.685), (0.265, 0.640), -0.30, 0.006, 0.004)])]
    for i in range(12):
        x, side = 0.035 + 0.020 * i, (-1) ** i
        twig = 0.666 - 0.17 * (x - 0.03) + 0.9 * (x - 0.14) ** 2
        shape = leaf(("pink", "white", "lemon", "vermilion")[i % 4], rng)
        pieces.append(shape.placed(x, twig + 0.026 * side, 0.090, 1.57 - 0.95 * side))
    return pieces


def compose(rng: np.random.Generator) -> list[Piece]:
    """All pieces, the lowest first."""
    sheets = [
        ("ultramarine", -0.02, -0.02, 0.300, 0.350), ("pink", 0.285, -0.02, 0.520, 0.225),
        ("lemon", 0.505, -0.02, 0.790, 0.370), ("vermilion", 0.745, -0.02, 1.02, 0.270),
        ("orange", -0.02, 0.335, 0.300, 0.560), ("black", -0.02, 0.545, 0.300, 0.770),
        ("white", 0.285, 0.210, 0.565, 0.770), ("sky", 0.550, 0.355, 0.790, 0.770),
        ("emerald", 0.775, 0.255, 1.02, 0.530), ("violet", 0.775, 0.515, 1.02, 0.770),
        # Narrow strips between the blocks.
        ("black", 0.500, -0.02, 0.522, 0.215), ("white", 0.740, -0.02, 0.757, 0.262),
        ("pink", -0.02, 0.335, 0.285, 0.352),
    ]  # fmt: skip
    pieces = [block(*sheet, rng) for sheet in sheets]
    pieces += [
        saw("emerald", 0.284, 0.340, 0.284, 0.770, 13, 0.036),
        saw("lemon", 0.775, 0.530, 1.02, 0.522, 9, 0.030),
        saw("black", 0.520, 0.228, 0.280, 0.222, 9, 0.026),
        saw("vermilion", 0.562, 0.752, 0.780, 0.748, 8, 0.028),
        sun("lemon", 13, rng).placed(0.125, 0.150, 0.235),
        sun("vermilion", 9, rng).placed(0.125, 0.150, 0.105, 0.4),
        seaweed("white", 4, rng, 1.3).placed(0.245, 0.225, 0.190, 0.35),
        fan("black", 6, rng).placed(0.400, 0.115, 0.150, -0.10),
        seaweed("emerald", 5, rng, 1.25).placed(0.640, 0.190, 0.290, -0.06),
        bird("white").placed(0.880, 0.130, 0.185, -0.15),
        seaweed("ultramarine", 6, rng, 1.1).placed(0.148, 0.450, 0.240, np.pi / 2 + 0.06),
        dancer("ultramarine").placed(0.432, 0.478, 0.520),
        seaweed("pink", 5, rng, 1.15).placed(0.685, 0.555, 0.315, 0.06),
        fan("lemon", 7, rng).placed(0.895, 0.390, 0.185, 0.12),
        seaweed("orange", 4, rng, 1.35).placed(0.890, 0.645, 0.170, -0.5),
    ]
    pieces += laurel(rng)
    # Scattered leaves tie the blocks together.
    for x, y, size, turn, color in (
        (0.335, 0.275, 0.060, 0.7, "vermilion"), (0.525, 0.700, 0.070, -0.6, "emerald"),
        (0.345, 0.690, 0.055, 1.2, "orange"), (0.478, 0.650, 0.055, 2.6, "black"),
        (0.768, 0.395, 0.070, 0.5, "white"), (0.590, 0.420, 0.055, -0.7, "lemon"),
        (0.960, 0.585, 0.065, 0.9, "white"), (0.820, 0.715, 0.065, -1.1, "pink"),
        (0.800, 0.060, 0.060, 1.0, "black"), (0.965, 0.235, 0.060, -0.4, "pink"),
        (0.560, 0.045, 0.055, 0.8, "vermilion"), (0.715, 0.320, 0.060, -0.9, "ultramarine"),
        (0.040, 0.300, 0.060, -0.8, "pink"), (0.265, 0.050, 0.055, 0.3, "orange"),
    ):  # fmt: skip
        pieces.append(leaf(color, rng).placed(x, y, size, turn))
    return pieces


# ---------------------------------------------------------------- cutting, painting and pinning


def draw_limb(draw: ImageDraw.ImageDraw, limb: Limb, scale: float, origin: tuple[float, float]) -> None:
    """Draw one bent, tapered limb as a chain of discs, `scale` pixels to the unit."""
    (ax, ay), (bx, by), bend, ra, rb = limb
    t = np.linspace(0, 1, 60)
    hump = 4 * t * (1 - t) * bend * 0.5
    x = ax + (bx - ax) * t + hump * -(by - ay)
    y = ay + (by - ay) * t + hump * (bx - ax)
    r = ra + (rb - ra) * t
    for cx, cy, cr in zip((x - origin[0]) * scale, (y - origin[1]) * scale, r * scale, strict=True):
        draw.ellipse((cx - cr, cy - cr, cx + cr, cy + cr), fill=255)


def cut(piece: Piece, scale: int, seed: int) -> tuple[np.ndarray, int, int]:
    """The piece's mask in [0, 1] on its own patch of pixels, and the patch's top and left in the picture."""
    points = [p for limb in piece.limbs for p in limb[:2]] + piece.polygon
    pad = 0.02 + max([max(limb[3:]) for limb in piece.limbs], default=0.0) * 1.6
    low, high = np.min(points, axis=0) - pad, np.max(points, axis=0) + pad
    # Sheets may reach over the border; their masks need no pixels there beyond the rounding's reach.
    low, high = np.maximum(low, -0.03), np.minimum(high, (1.03, HEIGHT + 0.03))
    left, top = (np.floor(low * scale)).astype(int)
    columns, rows = (np.ceil((high - low) * scale)).astype(int) + 1
    image = Image.new("L", (int(columns), int(rows)))
    draw = ImageDraw.Draw(image)
    origin = (left / scale, top / scale)
    if piece.polygon:
        draw.polygon([((x - origin[0]) * scale, (y - origin[1]) * scale) for x, y in piece.polygon], fill=255)
    for limb in piece.limbs:
        draw_limb(draw, limb, scale, origin)
    sigma = piece.rounding * scale
    blurred = gaussian_filter(np.asarray(image, np.float64) / 255, sigma)
    y, x = np.mgrid[top : top + rows, left : left + columns] / scale
    # Absolute values have creases: there the scissors stopped and set out again at another angle.
    waver = (
        0.9 * np.abs(gradient_noise(34 * x, 34 * y, seed)) + 0.25 * gradient_noise(120 * x, 120 * y, seed + 1) - 0.18
    )
    # Across an edge the blurred mask climbs by about 0.4 in one sigma: this makes the cut one pixel soft.
    mask = np.clip((blurred - 0.5 + waver * 0.5) * sigma / 0.4 + 0.5, 0, 1)
    return mask, int(top), int(left)


def gouache(color: str, brush: float, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Painted paper at points (x, y): broad overlapping passes of a brush, with bristle streaks, as RGB."""
    u = x * np.cos(brush) + y * np.sin(brush)
    v = y * np.cos(brush) - x * np.sin(brush) + 0.006 * gradient_noise(7 * u, 7 * y, seed)
    passes = v / 0.034 + 0.45 * gradient_noise(5 * u, 20 * v, seed + 1)
    number, within = np.floor(passes).astype(int), passes % 1
    rng = np.random.default_rng(seed)
    load = rng.uniform(-1, 1, 512)[number % 512]  # how much paint the brush held in each pass
    start = rng.uniform(0, 1, 512)[number % 512]
    fading = (
        u / 0.31 + start + 0.16 * gradient_noise(3 * u, 240 * v, seed + 5)
    ) % 1  # the brush runs out of paint, and is dipped again
    fine = gradient_noise(11 * u, 330 * v, seed + 2) + 0.7 * gradient_noise(26 * u, 620 * v, seed + 3)
    broad = fractal_noise(4 * u, 70 * v, seed + 4, octaves=3)
    lap = np.exp(-within / 0.10)  # paint piles up along the border of a pass
    first, second = (np.array(c) for c in GOUACHE[color])
    lean = np.clip(0.34 + 0.32 * load + 0.75 * broad + 0.65 * fine * (0.5 + fading), 0, 1)
    rgb = mix(first, second, lean)
    value = 1 + 0.07 * load - 0.13 * lap + 0.20 * fine + 0.12 * broad
    rgb = rgb * value[..., None]
    # Where the brush ran dry the paper glints through between the bristles.
    bare = np.clip(2.2 * (fine + 0.55 * fading - 0.62), 0, 1) * np.clip(3 * fading - 1.2, 0, 1)
    return mix(rgb, [0.97, 0.95, 0.88], 0.34 * bare)


def pin(picture: np.ndarray, piece: Piece, scale: int, seed: int) -> None:
    """Put the piece on the picture in place: its shadow first, then the paper with its lit edge."""
    mask, top, left = cut(piece, scale, seed)
    rows, columns = mask.shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + rows, picture.shape[0]), min(left + columns, picture.shape[1])
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    drop = 0.0024 * scale
    shadow = 0.50 * shift(gaussian_filter(mask, 0.7 * drop), (drop, 0.8 * drop), order=1)
    rise = gaussian_filter(mask, 0.0004 * scale)
    lit = rise - shift(rise, (0.0007 * scale, 0.0006 * scale), order=1)  # bright at the upper left edges
    y, x = np.mgrid[y0:y1, x0:x1] / scale
    paint = gouache(piece.color, piece.brush, x, y, seed) + 0.34 * np.clip(lit, -0.8, 1)[inner][..., None]
    ground = picture[y0:y1, x0:x1]
    ground *= 1 - shadow[inner][..., None]
    ground += mask[inner][..., None] * (np.clip(paint, 0, 1) - ground)


def render(width: int = 1024) -> np.ndarray:
    """The picture as (height, width, 3) RGB in [0, 1], height three quarters of the width."""
    factor = oversampling(width)
    picture = np.full((round(width * HEIGHT) * factor, width * factor, 3), 0.9)
    for i, piece in enumerate(compose(np.random.default_rng(1952))):
        pin(picture, piece, width * factor, 100 + 7 * i)
    return averaged_down(picture, factor)
