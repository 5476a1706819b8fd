"""What is built of flat faces: quay, houses, church, boats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .engine import Face, face, raised
from .land import QUAY_ALONG, QUAY_END, QUAY_INLAND, QUAY_LEVEL, QUAY_START, QUAY_WIDTH

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """How a surface is painted; `size` is its width and height (m), `openings` what a wall has in it."""

    colour: np.ndarray
    trim: np.ndarray
    seed: int
    size: tuple[float, float] = (1.0, 1.0)
    openings: str = "none"


def quay_point(along: float, inland: float, up: float) -> np.ndarray:
    """World point from metres along the quay, inland from its edge, and above the water."""
    flat = QUAY_START + along * QUAY_ALONG + inland * QUAY_INLAND
    return np.array([flat[0], flat[1], up])


@dataclass(frozen=True)
class Frame:
    """A local frame: origin (3,), and a turn (radians) of its first axis from world x; the third axis is up."""

    origin: np.ndarray
    turn: float

    def at(self, points: Sequence[Sequence[float]]) -> np.ndarray:
        """World points (n, 3) of local points."""
        local, cos, sin = np.asarray(points, float), np.cos(self.turn), np.sin(self.turn)
        x, y = local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos
        return self.origin + np.stack([x, y, local[:, 2]], axis=1)

    def moved(self, x: float, y: float, z: float, turn: float = 0.0) -> Frame:
        """The frame whose origin is at the given local point."""
        return Frame(self.at([[x, y, z]])[0], self.turn + turn)


def quay_frame(along: float, inland: float, up: float, turn: float = 0.0) -> Frame:
    """A frame with its first axis along the quay and its second one inland."""
    return Frame(quay_point(along, inland, up), np.arctan2(QUAY_ALONG[1], QUAY_ALONG[0]) + turn)


def box(frame: Frame, low: Point, high: Point, kind: str, paint: Paint, top: str | None = None) -> list[Face]:
    """The sides and top of an upright box between two local corners."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    faces = []
    for (ax, ay), (bx, by) in zip(ring, ring[1:] + ring[:1], strict=True):
        corners = frame.at([(ax, ay, z0), (bx, by, z0), (bx, by, z1), (ax, ay, z1)])
        style = replace(paint, size=(float(np.hypot(bx - ax, by - ay)), z1 - z0))
        faces.append(face(corners, kind, style))
    faces.append(face(frame.at([(x, y, z1) for x, y in ring]), top or kind, paint))
    return faces


def roof_sheet(corners: np.ndarray, paint: Paint) -> list[Face]:
    """One tiled slope (its first edge is the eave) with a visible edge and a dark underside."""
    drop = np.array([0.0, 0.0, -0.16])
    faces = [face(corners, "tiles", paint), face(corners + drop, "soffit", paint)]
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if np.linalg.norm(b - a) > 0.1:
            faces.append(face(np.stack([a, b, b + drop, a + drop]), "fascia", paint))
    return faces


def roof_slopes(width: float, depth: float, eave: float, roof: str, pitch: float) -> tuple[list[list[Point]], float]:
    """Local corners of each slope of a roof, eave first, and the height of its ridge."""
    out = 0.42
    low = eave - pitch * out
    x0, x1, y0, y1, mx, my = -out, width + out, -out, depth + out, width / 2, depth / 2
    if roof == "side":
        # Neighbours stand wall to wall: at the gables the roof hardly overhangs.
        x0, x1, ridge = -0.12, width + 0.12, eave + pitch * my
        return [[(x0, y, low), (x1, y, low), (x1, my, ridge), (x0, my, ridge)] for y in (y0, y1)], ridge
    if roof == "gable":
        ridge = eave + pitch * mx
        return [[(x, y0, low), (x, y1, low), (mx, y1, ridge), (mx, y0, ridge)] for x in (x0, x1)], ridge
    inset = min(depth, width) / 2
    ridge = eave + pitch * inset
    if width >= depth:
        p, q = (inset, my, ridge), (width - inset, my, ridge)
        tops = ([q, p], [q], [p, q], [p])
    else:
        p, q = (mx, inset, ridge), (mx, depth - inset, ridge)
        tops = ([p], [q, p], [q], [p, q])
    ring = [(x0, y0, low), (x1, y0, low), (x1, y1, low), (x0, y1, low)]
    return [[ring[i], ring[(i + 1) % 4], *tops[i]] for i in range(4)], ridge


def house(
    frame: Frame, width: float, depth: float, eave: float, roof: str, paint: Paint, pitch: float = 0.48
) -> list[Face]:
    """A house whose front starts at the frame's origin; `roof` is "side" (ridge along the front), "gable" or "hip".

    Its walls reach 9 m below the origin, so that it stands in the slope and not over it.
    """
    rng = np.random.default_rng(paint.seed)
    slopes, ridge = roof_slopes(width, depth, eave, roof, pitch)
    ring = [(0, 0), (width, 0), (width, depth), (0, depth)]
    faces = []
    for number, ((ax, ay), (bx, by)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
        corners = [(ax, ay, -9.0), (bx, by, -9.0), (bx, by, eave), (ax, ay, eave)]
        if roof != "hip" and (number % 2 == 0) == (roof == "gable"):
            corners.insert(3, ((ax + bx) / 2, (ay + by) / 2, ridge))
        openings = paint.openings if number == 0 or paint.openings == "none" else "few"
        size = (float(np.hypot(bx - ax, by - ay)), eave)
        style = replace(paint, size=size, openings=openings, seed=paint.seed + number)
        faces.append(face(frame.at(corners), "wall", style, origin=frame.at([(ax, ay, 0)])[0]))
    for slope in slopes:
        faces += roof_sheet(raised(frame.at(slope), 0.14), paint)
    for _ in range(int(rng.integers(1, 3))):
        x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.35, 0.75) * depth
        top = ridge + rng.uniform(0.3, 0.9)
        faces += box(frame, (x, y, eave), (x + 0.75, y + 0.55, top), "wall", replace(paint, openings="none"))
        faces += box(frame, (x - 0.1, y - 0.1, top), (x + 0.85, y + 0.65, top + 0.14), "tiles", paint)
    return faces


def balconies(frame: Frame, width: float, eave: float, paint: Paint) -> list[Face]:
    """A stone slab with an iron railing before some upper windows."""
    rng = np.random.default_rng(paint.seed + 70)
    faces = []
    pitch = width / max(2, round(width / 2.6))
    for floor in range(1, int(eave // 3.0)):
        if rng.random() < 0.55:
            first = rng.integers(0, max(1, round(width / pitch) - 1))
            x0, x1, z = first * pitch + 0.35, (first + 2 - rng.integers(0, 2)) * pitch - 0.35, 3.0 * floor + 0.05
            x1 = min(x1, width - 0.3)
            stone = replace(paint, colour=np.array([0.62, 0.57, 0.50]))
            faces += box(frame, (x0, -0.85, z - 0.16), (x1, 0, z), "plain", stone)
            iron = replace(paint, colour=np.array([0.05, 0.055, 0.05]))
            rails = [(x0, -0.85, x1, -0.85), (x0, -0.85, x0, 0), (x1, -0.85, x1, 0)]
            for ax, ay, bx, by in rails:
                corners = frame.at([(ax, ay, z), (bx, by, z), (bx, by, z + 0.95), (ax, ay, z + 0.95)])
                faces += bars(corners, iron)
    return faces


def bars(corners: np.ndarray, paint: Paint) -> list[Face]:
    """Upright bars and a hand rail that fill a rectangle given by its corners (bottom, bottom, top, top)."""
    a, b, c, d = corners
    length = np.linalg.norm(b - a)
    count = max(2, int(length / 0.16))
    faces = [face(np.stack([raised(d, -0.07), raised(c, -0.07), c, d]), "plain", paint)]
    for i in range(count + 1):
        t, half = i / count, 0.018 / length
        low, high = a + (b - a) * (t - half), a + (b - a) * (t + half)
        faces.append(face(np.stack([low, high, high + (d - a), low + (d - a)]), "plain", paint))
    return faces


def awning(frame: Frame, x0: float, x1: float, paint: Paint) -> list[Face]:
    """A striped cloth over a shop front, with a short hanging edge."""
    z, out = 2.95, 1.7
    sheet = frame.at([(x0, -out, z - 0.75), (x1, -out, z - 0.75), (x1, 0, z), (x0, 0, z)])
    edge = frame.at([(x0, -out, z - 1.0), (x1, -out, z - 1.0), (x1, -out, z - 0.75), (x0, -out, z - 0.75)])
    return [face(sheet, "stripes", paint), face(edge, "stripes", paint)]


def church(frame: Frame) -> list[Face]:
    """A nave with a round window and a bell tower with a pyramid roof and a cross."""
    white = Paint(np.array([0.84, 0.77, 0.62]), np.array([0.60, 0.52, 0.42]), 500, openings="church")
    faces = house(frame, 10.0, 17.0, 8.5, "gable", white, pitch=0.62)
    tower, height, size = frame.moved(10.6, 2.0, 0.0), 19.5, 4.6
    stone = replace(white, colour=np.array([0.80, 0.66, 0.46]), openings="tower", seed=510)
    faces += box(tower, (0, 0, -9), (size, size, height), "wall", stone)
    faces[-5:] = [measured_from(item, raised(item.origin, 9.0), (size, height)) for item in faces[-5:]]
    for z, out in ((height, 0.32), (height - 5.6, 0.2), (8.0, 0.15)):
        faces += box(tower, (-out, -out, z - 0.25), (size + out, size + out, z + 0.15), "plain", stone)
    apex = (size / 2, size / 2, height + 5.4)
    ring = [(-0.2, -0.2), (size + 0.2, -0.2), (size + 0.2, size + 0.2), (-0.2, size + 0.2)]
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        faces.append(face(tower.at([(*a, height + 0.15), (*b, height + 0.15), apex]), "tiles", stone))
    iron = replace(stone, colour=np.array([0.08, 0.07, 0.06]))
    x, y, z = apex
    faces += box(tower, (x - 0.06, y - 0.06, z - 0.3), (x + 0.06, y + 0.06, z + 1.7), "plain", iron)
    return faces + box(tower, (x - 0.5, y - 0.05, z + 0.9), (x + 0.5, y + 0.05, z + 1.05), "plain", iron)


def measured_from(item: Face, origin: np.ndarray, size: tuple[float, float]) -> Face:
    """The face with its surface coordinates starting elsewhere, and its painted size (m) changed to suit."""
    return Face(item.points, item.kind, origin, item.axes, replace(item.style, size=size))


def quay() -> list[Face]:
    """The paved quay and its wall of stone blocks, with bollards and lamps, and a mole with a beacon."""
    stone = Paint(np.array([0.52, 0.47, 0.40]), np.array([0.3, 0.3, 0.3]), 600)
    frame = quay_frame(0, 0, 0)
    faces = box(frame, (-30, 0, -2), (QUAY_END, QUAY_WIDTH, QUAY_LEVEL), "blocks", stone, top="paving")
    pale = replace(stone, colour=np.array([0.62, 0.58, 0.51]))
    faces += box(frame, (-30, -0.12, QUAY_LEVEL - 0.22), (QUAY_END + 0.1, 0.5, QUAY_LEVEL + 0.06), "plain", pale)
    dark = replace(stone, colour=np.array([0.07, 0.07, 0.07]))
    for along in np.arange(14.0, QUAY_END, 6.5):
        faces += box(frame.moved(along, 0.55, QUAY_LEVEL), (0, 0, 0), (0.3, 0.3, 0.55), "plain", dark)
    for along in (21.5, 38.0, 54.5, 71.0):
        lamp = frame.moved(along, 1.6, QUAY_LEVEL)
        faces += box(lamp, (-0.06, -0.06, 0), (0.06, 0.06, 4.1), "plain", dark)
        faces += box(
            lamp, (-0.2, -0.2, 4.1), (0.2, 0.2, 4.6), "plain", replace(stone, colour=np.array([0.9, 0.85, 0.7]))
        )
        faces += box(lamp, (-0.27, -0.27, 4.6), (0.27, 0.27, 4.72), "plain", dark)
    # A mole of the same blocks runs out to a small beacon and ends the harbour on the right.
    mole = quay_frame(QUAY_END - 3.0, -17.0, 0)
    faces += box(mole, (0, 0, -2), (3.0, 17.5, QUAY_LEVEL + 0.2), "blocks", stone, top="paving")
    faces += box(mole, (2.2, 0, 0), (3.0, 17.5, QUAY_LEVEL + 1.1), "blocks", pale)
    beacon = replace(stone, colour=np.array([0.80, 0.77, 0.70]), seed=620)
    faces += box(mole, (0.5, 0.8, QUAY_LEVEL), (2.1, 2.4, QUAY_LEVEL + 4.6), "plain", beacon)
    faces += box(mole, (0.25, 0.55, QUAY_LEVEL + 4.6), (2.35, 2.65, QUAY_LEVEL + 4.85), "plain", stone)
    red = replace(stone, colour=np.array([0.62, 0.10, 0.06]))
    return faces + box(mole, (0.8, 1.1, QUAY_LEVEL + 4.85), (1.8, 2.1, QUAY_LEVEL + 6.1), "plain", red)


def hull(frame: Frame, length: float, beam: float, freeboard: float, paint: Paint) -> list[Face]:
    """A boat's body: dark bottom, planked sides, trim band at the edge; inside, boards and three thwarts."""
    t = np.linspace(0, 1, 19)
    # Fine at the bow (t = 1), fuller at the stern; the edge rises to both ends, most to the bow.
    fine = np.where(t > 0.42, np.abs((t - 0.42) / 0.58) ** 2.3, 0.75 * np.abs((0.42 - t) / 0.42) ** 3)
    half, edge = beam / 2 * np.maximum(1 - fine, 0.03), freeboard * (1 + 0.6 * (2 * t - 0.85) ** 2)
    bottom = replace(paint, colour=np.array([0.10, 0.07, 0.06]))
    strakes = (
        (-0.25, 0.40, 0.16, 0.72, "plain", bottom),
        (0.16, 0.72, 0.86, 0.98, "planks", paint),
        (0.86, 0.98, 1.0, 1.0, "plain", replace(paint, colour=paint.trim)),
    )

    def place(i: int, wide: float, high: float, side: int) -> tuple[float, float, float]:
        rake = 0.86 + 0.14 * max(high, 0)
        return length * (t[i] - 0.5) * rake, side * half[i] * wide, edge[i] * high

    faces = []
    for side in (-1, 1):
        for low, wide_low, high, wide_high, kind, style in strakes:
            for i in range(len(t) - 1):
                corners = frame.at(
                    [
                        place(i, wide_low, low, side),
                        place(i + 1, wide_low, low, side),
                        place(i + 1, wide_high, high, side),
                        place(i, wide_high, high, side),
                    ]
                )
                faces += [face(corners[[0, 1, 2]], kind, style), face(corners[[0, 2, 3]], kind, style)]
    boards = replace(paint, colour=np.array([0.30, 0.20, 0.12]))
    for i in range(len(t) - 1):
        ends = [place(k, 0.9, 0.5, side) for k, side in ((i, -1), (i + 1, -1), (i + 1, 1), (i, 1))]
        level = (ends[0][2] + ends[1][2]) / 2
        faces.append(face(frame.at([(x, y, level) for x, y, _ in ends]), "plain", boards))
    bench = replace(paint, colour=np.array([0.50, 0.36, 0.21]))
    for i in (5, 9, 13):
        x, y, z = place(i, 0.86, 0.80, 1)
        faces += box(frame, (x - 0.13, -y, z - 0.05), (x + 0.13, y, z), "plain", bench)
    return faces


def rowing_boat(frame: Frame, length: float, paint: Paint) -> list[Face]:
    """An open boat with its oars laid along the thwarts."""
    faces = hull(frame, length, 0.36 * length, 0.13 * length, paint)
    wood = replace(paint, colour=np.array([0.62, 0.47, 0.28]))
    for side in (-0.16, 0.2):
        start, end = frame.at([(-0.30 * length, side, 0.115 * length), (0.30 * length, 1.2 * side, 0.14 * length)])
        faces += spar(start, end, 0.06, wood) + spar(start, start + 0.22 * (end - start), 0.16, wood)
    return faces


def spar(start: np.ndarray, end: np.ndarray, thick: float, paint: Paint) -> list[Face]:
    """A thin round pole, drawn as two crossed strips."""
    along = (end - start) / np.linalg.norm(end - start)
    first = np.cross(along, [0.3, 1.0, 0.2])
    first /= np.linalg.norm(first)
    faces = []
    for side in (first, np.cross(along, first)):
        offset = side * thick / 2
        faces.append(face(np.stack([start - offset, end - offset, end + offset, start + offset]), "plain", paint))
    return faces


def sail(a: np.ndarray, b: np.ndarray, c: np.ndarray, belly: np.ndarray, paint: Paint) -> list[Face]:
    """A bulging triangular sail: tack `a`, clew `b`, head `c`; `belly` (3,) is how far its middle is blown out."""
    count = 9
    grid = {}
    for i in range(count + 1):
        for j in range(count + 1 - i):
            p, q = i / count, j / count
            r = 1 - p - q
            grid[i, j] = r * a + p * b + q * c + belly * 4 * p * (1 - p) * (1 - q) * (0.3 + 0.7 * (1 - q))
    faces = []
    for i in range(count):
        for j in range(count - i):
            faces.append(face(np.stack([grid[i, j], grid[i + 1, j], grid[i, j + 1]]), "cloth", paint))
            if i + j < count - 1:
                faces.append(face(np.stack([grid[i + 1, j], grid[i + 1, j + 1], grid[i, j + 1]]), "cloth", paint))
    return faces


def sailing_boat(frame: Frame, length: float, paint: Paint, hoisted: bool) -> list[Face]:
    """A small sloop; its sails are set, or furled along the boom."""
    faces = hull(frame, length, length * 0.32, length * 0.11, paint)
    wood = replace(paint, colour=np.array([0.45, 0.30, 0.17]))
    tall = length * 1.25
    foot, head = frame.at([(length * 0.08, 0, 0.3), (length * 0.08, 0, tall)])
    bow, stern = frame.at([(length * 0.49, 0, length * 0.15), (-length * 0.46, 0, length * 0.14)])
    boom0, boom1 = frame.at([(length * 0.08, 0, length * 0.24), (-length * 0.42, -length * 0.07, length * 0.25)])
    faces += spar(foot, head, 0.13, wood) + spar(boom0, boom1, 0.12, wood)
    faces += spar(head, bow, 0.05, wood) + spar(head, stern, 0.05, wood)
    cabin = replace(paint, colour=np.array([0.78, 0.74, 0.66]))
    faces += box(
        frame,
        (-length * 0.08, -length * 0.09, length * 0.08),
        (length * 0.2, length * 0.09, length * 0.17),
        "plain",
        cabin,
    )
    white = replace(paint, colour=np.array([0.86, 0.82, 0.74]))
    if hoisted:
        out = frame.at([(0, -1, 0)])[0] - frame.origin
        faces += sail(raised(boom0, 0.1), raised(boom1, 0.1), raised(head, -0.3), out * length * 0.06, white)
        jib = frame.at([(length * 0.12, -length * 0.09, length * 0.24)])[0]
        faces += sail(raised(bow, 0.2), jib, raised(head, -0.14 * tall), out * length * 0.07, white)
    else:
        faces += spar(raised(boom0, 0.12), raised(boom1, 0.12), 0.34, white)
    return faces
