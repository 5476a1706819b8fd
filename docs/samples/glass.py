"""A stained-glass window: a rosette sun whose rays fill the sky, mountains, a boat, and a breaking wave.

The panel is first cut into cells: each part of the design (frame, sun, sky, mountains, sea, boat) divides its own
area along curves that belong to it, such as rays and rings, or wave crests and the cuts across them. Distances to the
cell borders then give the lead lines, broad between the parts and fine inside them.

Every cell is a sheet of glass of one colour, direction and make (streaky, hammered, reeded or full of bubbles).
What varies inside a sheet is its thickness, and light through thickness t of a glass with transmission c is c ** t:
thin spots come out bright and thick ones deep and saturated, as in real glass, never just greyer.

All places and sizes are in units of the picture's width; x runs right in [0, 1], y down in [0, HEIGHT].
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, gaussian_filter

from .common import HEIGHT, averaged_down, oversampling
from .noise import fractal_noise, gradient_noise

FRAME_WIDTH = 0.034
SUN = (0.345, 0.265)
SUN_RINGS = (0.026, 0.070, 0.112)  # radii of the middle, the petals and the outer ring
HORIZON = 0.445
CURL = (0.765, 0.570, 0.150, 2.7)  # the breaking wave: x, y, radius, turn in radians at the middle
# Peaks from the back to the front: x, y, and how fast the sides fall away to the left and right.
PEAKS = ((0.660, 0.275, 0.95, 1.10), (0.945, 0.200, 1.15, 0.90), (0.800, 0.165, 1.30, 1.25), (0.060, 0.310, 0.90, 0.85))

FRAME, SUN_PART, SKY, SEA, HULL, SAIL = range(6)
MOUNTAIN = 10  # and the numbers after it, one for each peak
LEVEL = 1000  # cells per part: a cell's number is LEVEL * part + its number inside the part

# Transmission of the glasses at thickness 1, by the part of the design.
GLASS = {
    "frame": ((0.75, 0.06, 0.08), (0.08, 0.18, 0.70), (0.90, 0.55, 0.08), (0.06, 0.45, 0.28)),
    "sun": ((1.00, 0.90, 0.45), (0.99, 0.70, 0.10), (0.96, 0.42, 0.05), (0.90, 0.20, 0.06)),
    "sky": (
        (0.99, 0.84, 0.42), (0.98, 0.66, 0.26), (0.95, 0.46, 0.30), (0.90, 0.30, 0.42),
        (0.62, 0.22, 0.60), (0.36, 0.22, 0.72), (0.16, 0.24, 0.78), (0.08, 0.20, 0.66),
    ),
    "mountain": ((0.30, 0.12, 0.50), (0.48, 0.16, 0.52), (0.16, 0.16, 0.55), (0.70, 0.24, 0.45), (0.10, 0.35, 0.55)),
    "snow": ((0.93, 0.90, 0.96), (0.62, 0.74, 0.95)),
    "sea": (
        (0.04, 0.16, 0.58), (0.05, 0.32, 0.74), (0.06, 0.52, 0.70), (0.10, 0.68, 0.62),
        (0.05, 0.48, 0.36), (0.40, 0.82, 0.80), (0.86, 0.95, 0.92),
    ),
    "hull": ((0.45, 0.14, 0.05),),
    "sail": ((0.96, 0.90, 0.80), (0.90, 0.10, 0.07)),
}  # fmt: skip


def polar_cells(
    radius: np.ndarray, turn: np.ndarray, sectors: int, ring: float, rng: np.random.Generator
) -> np.ndarray:
    """Cells between rays and rings: `turn` in [0, 1) around the middle; rings are staggered from ray to ray."""
    sector = np.clip((turn * sectors).astype(int), 0, sectors - 1)
    stagger = rng.uniform(0, 0.55, sectors)[sector]
    return sector * 20 + np.clip(np.floor(radius / ring - stagger), 0, 19).astype(int)


def curl_up(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wind the plane up around the breaking wave's middle."""
    cx, cy, radius, turn = CURL
    dx, dy = x - cx, y - cy
    angle = turn * np.exp(-(dx**2 + dy**2) / radius**2)
    return cx + dx * np.cos(angle) + dy * np.sin(angle), cy + dy * np.cos(angle) - dx * np.sin(angle)


def frame_cells(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Numbers of the frame's cells: square corners, and bars of unequal length between them."""
    upright = np.minimum(x, 1 - x) < FRAME_WIDTH
    level = np.minimum(y, HEIGHT - y) < FRAME_WIDTH
    # Bars share out what lies between the corners, unevenly.
    run = np.where(upright, HEIGHT, 1.0) - 2 * FRAME_WIDTH
    place = np.clip((np.where(upright, y, x) - FRAME_WIDTH) / run, 0, 1 - 1e-9)
    bars = ((place + 0.022 * np.sin(6 * np.pi * place)) * np.where(upright, 9, 13)).astype(int)
    side = np.where(upright, np.where(x < 0.5, 0, 1), np.where(y < HEIGHT / 2, 2, 3))
    corner = 200 + 2 * (x < 0.5) + (y < HEIGHT / 2)
    return np.where(upright & level, corner, 40 * side + bars)


def sea_cells(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wave crests, one below the other, and cuts across them."""
    depth = y - HORIZON
    crest = depth / 0.043 + (0.10 + 2.2 * depth) * np.sin(15 * x + 9 * depth) + 0.25 * np.sin(31 * x - 20 * depth)
    band = np.clip(np.floor(crest), 0, 19).astype(int)
    offset, length = rng.uniform(0, 1, 20)[band], rng.uniform(0.075, 0.125, 20)[band]
    cut = np.floor((x + 0.02 * np.sin(60 * y)) / length + offset).astype(int) % 40
    return band * 40 + cut


def boat_parts(rows: int, columns: int) -> np.ndarray:
    """A sailing boat on the horizon: 0 for none, 1 the hull, 2 and 3 the two sails; (rows, columns)."""
    image = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(image)
    t = np.linspace(0, 1, 30)
    belly = 0.020 * np.sin(np.pi * t)
    main = [*zip(0.548 + 0.075 * t + belly, 0.275 + 0.143 * t, strict=True), (0.548, 0.418)]
    jib = [*zip(0.540 - 0.052 * t - 0.6 * belly, 0.305 + 0.113 * t, strict=True), (0.540, 0.418)]
    hull = [(0.478, 0.424), (0.640, 0.424), *zip(0.625 - 0.125 * t, 0.440 + 0.022 * np.sin(np.pi * t), strict=True)]
    for number, outline in ((1, hull), (2, main), (3, jib)):
        draw.polygon([(columns * x, columns * y) for x, y in outline], fill=number)
    return np.asarray(image).astype(int)


def cut_cells(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Number of the cell at each point, LEVEL * part + number inside the part."""
    # A hand-drawn waver for everything but the frame's straight bars.
    wx = x + 0.005 * gradient_noise(6 * x, 6 * y, 1)
    wy = y + 0.005 * gradient_noise(6 * x, 6 * y, 2)

    dx, dy = wx - SUN[0], wy - SUN[1]
    radius = np.hypot(dx, dy)
    turn = (np.arctan2(dy, dx) / (2 * np.pi) + 0.10 * radius) % 1  # the rays bend as they go out
    uneven = (turn + 0.012 * np.sin(4 * np.pi * turn) + 0.006 * np.sin(14 * np.pi * turn)) % 1
    cells = LEVEL * SKY + polar_cells(radius - SUN_RINGS[2], uneven, 22, 0.105, rng)

    petals = (turn * 10).astype(int) % 10
    beads = ((turn + 0.025) * 20).astype(int) % 20
    # Petals bulge: the ring between them and the beads is scalloped.
    scallop = SUN_RINGS[1] + 0.010 * np.abs(np.sin(10 * np.pi * turn))
    rosette = np.where(radius < SUN_RINGS[0], 0, np.where(radius < scallop, 1 + petals, 20 + beads))
    cells = np.where(radius < SUN_RINGS[2], LEVEL * SUN_PART + rosette, cells)

    for i, (px, py, left, right) in enumerate(PEAKS):
        mx, my = wx - px, wy - py
        inside = my > np.where(mx < 0, -left, right) * mx
        slant = np.clip(np.arctan2(mx, my + 1e-9) / 1.7 + 0.5, 0, 0.999)
        facets = polar_cells(np.hypot(mx, my), slant, 6, 0.075, rng)
        # The snow cap is cut in two only: six thin wedges would drown in lead.
        cap = np.hypot(mx, my) < 0.062 + 0.012 * np.abs(np.sin(14 * slant))
        facets = np.where(cap, 500 + (slant > 0.5), facets)
        cells = np.where(inside, LEVEL * (MOUNTAIN + i) + facets, cells)

    sx, sy = curl_up(wx, wy)
    cells = np.where(sy > HORIZON, LEVEL * SEA + sea_cells(sx, sy, rng), cells)
    boat = boat_parts(*x.shape)
    cells = np.where(boat > 0, LEVEL * np.where(boat == 1, HULL, SAIL) + boat, cells)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, HEIGHT - y))
    return np.where(edge < FRAME_WIDTH, LEVEL * FRAME + frame_cells(x, y), cells)


def cell_color(number: int, x: float, y: float, rng: np.random.Generator) -> np.ndarray:
    """Transmission (3,) of the glass for the cell with this number and middle."""
    part, inner = divmod(number, LEVEL)
    if part == FRAME:
        glasses = GLASS["frame"]
        place = 2 if inner >= 200 else (inner * 7 + inner // 40) % 4
    elif part == SUN_PART:
        glasses = GLASS["sun"]
        place = 0 if inner == 0 else (1 + inner % 2 if inner < 20 else 2 + inner % 2)
    elif part == SKY:
        glasses = GLASS["sky"]
        place = int(np.clip((np.hypot(x - SUN[0], y - SUN[1]) - 0.14) / 0.06 + rng.normal(0, 0.9), 0, 7))
    elif part == SEA:
        glasses = GLASS["sea"]
        # Below the sun the water carries its gold.
        if abs(x - SUN[0]) < 0.035 + 0.25 * (y - HORIZON) and rng.uniform() < 0.55:
            glasses = GLASS["sky"][:3]
        near_curl = np.hypot(x - CURL[0], y - CURL[1]) < 0.8 * CURL[2]
        place = int(rng.integers(2, 7) if near_curl else rng.integers(0, 6)) % len(glasses)
    elif part >= MOUNTAIN:
        glasses = GLASS["snow" if inner >= 500 else "mountain"]
        place = inner % 2 if inner >= 500 else int(rng.integers(len(glasses)))
    else:
        glasses = GLASS["hull" if part == HULL else "sail"]
        place = inner % len(glasses)
    return np.clip(np.array(glasses[place]) * rng.normal(1, 0.03, 3), 0.02, 1.0)


def glaze(cells: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The light (rows, columns, 3) that comes through the glass, before the lead."""
    numbers, index = np.unique(cells, return_inverse=True)
    index = index.reshape(cells.shape)
    count = np.bincount(index.ravel())
    middle_x = np.bincount(index.ravel(), x.ravel()) / count
    middle_y = np.bincount(index.ravel(), y.ravel()) / count
    colors = np.array([cell_color(*cell, rng) for cell in zip(numbers, middle_x, middle_y, strict=True)])
    angle, make = rng.uniform(0, np.pi, len(numbers)), rng.choice(4, len(numbers), p=[0.40, 0.22, 0.20, 0.18])

    # Coordinates along and across each sheet's own direction, shifted so that no two sheets match.
    shift = 3.7 * (index % 61)
    cos, sin = np.cos(angle)[index], np.sin(angle)[index]
    dx, dy = x - middle_x[index], y - middle_y[index]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    kind = make[index]

    swirl = fractal_noise(9 * u + shift, 9 * v, 50, octaves=3)
    streaks = fractal_noise(7 * u + shift, 65 * v + 2.2 * swirl, 51, octaves=3)
    hammered = np.abs(gradient_noise(75 * x, 75 * y, 52)) + 0.6 * np.abs(gradient_noise(160 * x, 160 * y, 53))
    reeds = np.sin(2 * np.pi * (85 * v + 1.4 * gradient_noise(14 * u + shift, 14 * v, 54)))
    grain = gradient_noise(40 * u + shift, 330 * v, 56) + 0.8 * gradient_noise(210 * x, 210 * y, 57)
    thickness = 1.20 + 0.45 * swirl + 0.42 * grain + 5.0 * u * np.cos(middle_x * 50)[index].clip(-0.7, 0.7)
    thickness += np.choose(kind, [1.7 * streaks, 1.0 - 3.2 * hammered, 0.45 * reeds + 0.6 * streaks, 0.8 * streaks])
    light = 0.93 + 0.10 * fractal_noise(3 * x, 3 * y, 55, octaves=2)  # the sky outside is not even either
    light += 0.28 * np.exp(-np.hypot(x - SUN[0], y - SUN[1]) / 0.16)
    thickness = 0.35 + 0.35 * np.logaddexp(0, (thickness - 0.35) / 0.35)  # bends where a clip would leave flat spots
    glow = colors[index] ** thickness[..., None] * light[..., None]
    # Smooth faces of hammered and reeded sheets glint.
    glint = np.choose(kind, [0.0 * swirl, np.clip(0.13 - hammered, 0, 1) * 2.2, np.clip(reeds - 0.70, 0, 1) * 0.6, 0.0])
    return np.clip(glow + (glint * light)[..., None], 0, 1.3)


def blow_bubbles(light: np.ndarray, cells: np.ndarray, rng: np.random.Generator) -> None:
    """Draw small air bubbles into the glass in place: a dark rim with a bright spot on one side."""
    rows, columns = cells.shape
    for _ in range(1300):
        cy, cx = rng.uniform(0, rows), rng.uniform(0, columns)
        radius = columns * 0.0009 * np.exp(rng.normal(0, 0.55))
        stretch = rng.uniform(1.0, 2.6)
        reach = int(radius * stretch * 1.5) + 2
        top, left = max(int(cy) - reach, 0), max(int(cx) - reach, 0)
        patch = light[top : int(cy) + reach, left : int(cx) + reach]
        py, px = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]] + 0.5
        distance = np.hypot((px - cx) / stretch, py - cy) / radius
        rim = np.exp(-(((distance - 0.9) / 0.25) ** 2))
        spot = np.exp(
            -((((px - cx) / stretch + 0.3 * radius) ** 2 + (py - cy + 0.3 * radius) ** 2) / (0.4 * radius) ** 2)
        )
        patch *= (1 - 0.45 * rim)[..., None]
        patch += 0.45 * spot[..., None]


def border_distance(labels: np.ndarray) -> np.ndarray:
    """Distance in pixels of every pixel from the nearest border between two labels."""
    inner = np.ones(labels.shape, bool)
    for step_down, step_right in ((1, 0), (0, 1)):
        a = labels[: labels.shape[0] - step_down, : labels.shape[1] - step_right]
        b = labels[step_down:, step_right:]
        inner[: a.shape[0], : a.shape[1]] &= a == b
    return distance_transform_edt(inner)


def solder_joints(cells: np.ndarray, radius: float) -> np.ndarray:
    """Bumps in [0, 1] of the given radius in pixels where three or more cells meet."""
    block = np.sort(np.stack([cells[:-1, :-1], cells[1:, :-1], cells[:-1, 1:], cells[1:, 1:]]), axis=0)
    meets = np.zeros(cells.shape, bool)
    meets[:-1, :-1] = (np.diff(block, axis=0) != 0).sum(axis=0) >= 2
    return np.exp(-((distance_transform_edt(~meets) / radius) ** 2))


def lead(light: np.ndarray, cells: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lay the lead lines over the glass: round bars, lit from the upper left, that shade the glass beside them."""
    scale = cells.shape[1]
    parts = cells // LEVEL
    framed = (parts == FRAME).astype(int)
    uneven = 1 + 0.22 * gradient_noise(25 * x, 25 * y, 60)
    joints = 1 + 0.45 * solder_joints(cells, 0.0045 * scale)
    # Depth into the lead: 1 on the middle line, 0 at its rim, negative over the glass.
    depth, distance = np.full(cells.shape, -np.inf), np.full(cells.shape, np.inf)
    for labels, half_width in ((cells, 0.0021), (parts, 0.0033), (framed, 0.0048)):
        border = border_distance(labels)
        half = half_width * scale * uneven * joints
        depth = np.maximum(depth, 1 - border / half)
        distance = np.minimum(distance, np.maximum(border - half, 0))
    bar = np.sqrt(np.clip(1 - (1 - np.clip(depth, 0, 1)) ** 2, 0, 1)) * 0.0034 * scale
    down, right = np.gradient(gaussian_filter(bar, 0.0009 * scale))
    facing = -(0.6 * right + 0.8 * down)  # positive where the bar's flank looks to the lamp
    patina = 0.85 + 0.5 * fractal_noise(60 * x, 60 * y, 61, octaves=3)
    metal = (
        0.10 * patina
        + 0.14 * np.clip(facing, -0.5, 1)
        + 0.75 * np.clip(facing - 0.22, 0, 1) * np.clip(2.2 * depth - 0.3, 0, 1)
    )
    metal = metal[..., None] * np.array([0.95, 1.0, 1.12])
    # Old panes are dirtiest along the lead.
    grime = 1 - (0.36 + 0.45 * gradient_noise(90 * x, 90 * y, 62)) * np.exp(-distance / (0.0028 * scale))
    cover = np.clip(depth * 0.0021 * scale + 0.5, 0, 1)[..., None]
    panel = light * grime[..., None] * (1 - cover)
    halo = gaussian_filter(panel, (0.0022 * scale, 0.0022 * scale, 0)) * 0.12
    halo += gaussian_filter(panel, (0.014 * scale, 0.014 * scale, 0)) * 0.18
    # Bright panes spill light over the lead, and a little over each other.
    return np.clip(panel * 0.97 + metal * cover + halo * (0.35 + 0.65 * cover), 0, 1)


def render(width: int = 1024) -> np.ndarray:
    """The picture as (height, width, 3) RGB in [0, 1], height three quarters of the width."""
    rng = np.random.default_rng(1145)
    factor = oversampling(width)
    y, x = (np.mgrid[: round(width * HEIGHT) * factor, : width * factor] + 0.5) / (width * factor)
    cells = cut_cells(x, y, rng)
    light = glaze(cells, x, y, rng)
    blow_bubbles(light, cells, rng)
    return averaged_down(lead(light, cells, x, y), factor)
