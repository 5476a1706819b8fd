"""A small renderer: level camera, polygons, leaves, height field and depth maps of the light.

World coordinates are metres: x to the right, y away from the viewer, z up from the water. Every visible thing is
found first ("which face, leaf or piece of ground does this pixel see, and how far off") and coloured afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

HeightField = Callable[[np.ndarray, np.ndarray], np.ndarray]

# What a pixel sees where it is neither a face nor a leaf.
NOTHING, GROUND = -1, -2


@dataclass(frozen=True)
class Face:
    """A flat convex polygon: `points` (n, 3); `axes` (2, 3) span its surface coordinates, which start at `origin`."""

    points: np.ndarray
    kind: str
    origin: np.ndarray
    axes: np.ndarray
    style: object = None
    normal: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        normal = np.cross(self.points[1] - self.points[0], self.points[2] - self.points[0])
        object.__setattr__(self, "normal", normal / np.linalg.norm(normal))


def raised(point: np.ndarray, up: float) -> np.ndarray:
    """The point (3,) or points (n, 3) moved `up` metres."""
    return point + np.array([0.0, 0.0, up])


def face(points: np.ndarray, kind: str, style: object = None, origin: np.ndarray | None = None) -> Face:
    """Make a face whose first axis is its first edge (or horizontal, where the face is not level)."""
    points = np.asarray(points, float)
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    along = np.array([-normal[1], normal[0], 0.0])
    if np.hypot(*along[:2]) < 1e-6 * np.linalg.norm(normal):
        along = points[1] - points[0]
    along = along / np.linalg.norm(along)
    along = -along if along @ (points[1] - points[0]) < 0 else along
    up = np.cross(normal / np.linalg.norm(normal), along)
    up = -up if up[2] < 0 else up
    return Face(points, kind, points[0] if origin is None else origin, np.stack([along, up]), style)


@dataclass(frozen=True)
class Leaves:
    """Small elliptic flakes: centre (n, 3), radius (n,), normal (n, 3), albedo (n, 3), tilt (n,) in radians."""

    centre: np.ndarray
    radius: np.ndarray
    normal: np.ndarray
    albedo: np.ndarray
    tilt: np.ndarray
    aspect: float = 0.55

    @staticmethod
    def join(parts: list[Leaves]) -> Leaves:
        """Put several groups of leaves into one."""
        names = ("centre", "radius", "normal", "albedo", "tilt")
        return Leaves(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class View:
    """A level pin-hole camera over the origin, `height` metres above the water.

    `tangent` (columns,) is x / y of each pixel column, `slope` (rows,) is (z - height) / y of each row; both are
    evenly spaced by `step`.
    """

    tangent: np.ndarray
    slope: np.ndarray
    height: float
    step: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.slope), len(self.tangent)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Column and row (n, 2) at which points (n, 3) appear."""
        column = (points[:, 0] / points[:, 1] - self.tangent[0]) / self.step
        row = (self.slope[0] - (points[:, 2] - self.height) / points[:, 1]) / self.step
        return np.stack([column, row], axis=1)

    def place(self, distance: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Points (n, 3) seen at the given pixels when they are `distance` (n,) metres off along y."""
        x, z = self.tangent[columns] * distance, self.height + self.slope[rows] * distance
        return np.stack([x, distance, z], axis=1)


def covered(corners: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Rows (r, 1), columns (1, c) and mask (r, c) of the pixels inside a convex polygon; None where there are none."""
    low = np.maximum(np.ceil(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.floor(corners.max(axis=0)).astype(int), np.array(shape[::-1]) - 1)
    if (high < low).any():
        return None
    columns, rows = np.arange(low[0], high[0] + 1)[None, :], np.arange(low[1], high[1] + 1)[:, None]
    following = np.roll(corners, -1, axis=0)
    area = np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0])
    mask = np.ones((rows.size, columns.size), bool)
    for (x0, y0), (x1, y1) in zip(corners, following, strict=True):
        mask &= ((x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0)) * np.sign(area) >= 0
    return rows, columns, mask


def splat_candidates(
    column: np.ndarray, row: np.ndarray, radius: np.ndarray, tilt: np.ndarray, aspect: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaf index, row and column of every pixel under the leaves' ellipses, leaf by leaf in the given order."""
    reach = int(np.ceil(radius.max()))
    dy, dx = (a.ravel() for a in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    rows = np.round(row).astype(int)[:, None] + dy
    columns = np.round(column).astype(int)[:, None] + dx
    ex, ey = columns - column[:, None], rows - row[:, None]
    cos, sin = np.cos(tilt)[:, None], np.sin(tilt)[:, None]
    # A leaf smaller than a pixel still marks the pixel it is in.
    long, short = np.maximum(radius, 0.7)[:, None], np.maximum(radius * aspect, 0.7)[:, None]
    inside = ((ex * cos + ey * sin) / long) ** 2 + ((ey * cos - ex * sin) / short) ** 2 <= 1
    inside &= (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    leaf, which = np.nonzero(inside)
    return leaf, rows[leaf, which], columns[leaf, which]


def draw(
    view: View, faces: list[Face], leaves: Leaves, distance: np.ndarray, seen: np.ndarray, beyond: float = 0.0
) -> None:
    """Draw faces and leaves into the depth buffer `distance` and the buffer `seen` (face number, then leaf number).

    Only what lies wholly further off than `beyond` metres is drawn.
    """
    eye = np.array([0.0, 0.0, view.height])
    for number, item in enumerate(faces):
        area = covered(view.project(item.points), view.shape) if item.points[:, 1].min() > beyond else None
        if area is None:
            continue
        rows, columns, mask = area
        ray = item.normal[0] * view.tangent[columns] + item.normal[1] + item.normal[2] * view.slope[rows]
        with np.errstate(divide="ignore"):
            depth = item.normal @ (item.points[0] - eye) / ray
        window = np.s_[rows[0, 0] : rows[-1, 0] + 1, columns[0, 0] : columns[0, -1] + 1]
        mask &= (depth > 0) & (depth < distance[window])
        distance[window][mask] = depth[mask]
        seen[window][mask] = number
    position = view.project(leaves.centre)
    radius = leaves.radius / leaves.centre[:, 1] / view.step
    # From far to near: where two leaves fall on one pixel the later assignment, the nearer leaf, stays.
    order = np.argsort(-leaves.centre[:, 1])
    margin = radius.max()
    inside = (position > -margin).all(axis=1) & (position < np.array(view.shape[::-1]) + margin).all(axis=1)
    order = order[inside[order] & (leaves.centre[order, 1] > beyond)]
    for chunk in np.array_split(order, max(1, len(order) // 8000)):
        if not len(chunk):
            continue
        leaf, rows, columns = splat_candidates(
            position[chunk, 0], position[chunk, 1], radius[chunk], leaves.tilt[chunk], leaves.aspect, view.shape
        )
        leaf = chunk[leaf]
        keep = leaves.centre[leaf, 1] < distance[rows, columns]
        leaf, rows, columns = leaf[keep], rows[keep], columns[keep]
        distance[rows, columns] = leaves.centre[leaf, 1]
        seen[rows, columns] = len(faces) + leaf


class Ground:
    """A height field on a fan of points: one ray of points per pixel column, distances in geometric steps."""

    def __init__(self, view: View, near: float, far: float, steps: int, height: HeightField) -> None:
        """Sample `height` in `steps` points from `near` to `far` (m) along each column of `view`."""
        self.view = view
        self.near, self.ratio = near, np.log(far / near) / (steps - 1)
        self.distance = near * np.exp(self.ratio * np.arange(steps))
        x = self.distance[:, None] * view.tangent[None, :]
        self.height = height(x, np.broadcast_to(self.distance[:, None], x.shape))
        across = np.gradient(self.height, axis=1) / (self.distance[:, None] * view.step)
        away = np.gradient(self.height, self.distance, axis=0) - view.tangent * across
        normal = np.stack([-across, -away, np.ones_like(across)], axis=-1)
        self.normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)

    def first_seen(self, view: View, beyond: float, above: float) -> np.ndarray:
        """Distance (rows, columns) at which each pixel of `view` meets the ground; infinite where it never does.

        Only ground further off than `beyond` and higher than `above` counts.
        """
        usable = (self.height > above) & (self.distance > beyond)[:, None]
        slope = np.where(usable, (self.height - view.height) / self.distance[:, None], -np.inf)
        skyline = np.maximum.accumulate(slope, axis=0)
        found = np.full(view.shape, np.inf)
        columns = np.round(np.interp(view.tangent, self.view.tangent, np.arange(len(self.view.tangent)))).astype(int)
        for target, source in enumerate(columns):
            line = skyline[:, source]
            index = np.searchsorted(line, view.slope)
            inside = index < len(line)
            index = index[inside]
            before = np.maximum(index - 1, 0)
            rise = line[index] - line[before]
            part = np.where(np.isfinite(rise) & (rise > 0), (line[index] - view.slope[inside]) / rise, 0.0)
            found[inside, target] = self.distance[index] * np.exp(-self.ratio * np.clip(part, 0, 1))
        return found

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Fractional (step, column) indices (2, n) of points (n, 3)."""
        y = np.maximum(points[:, 1], self.near)
        step = np.log(y / self.near) / self.ratio
        return np.stack([step, (points[:, 0] / y - self.view.tangent[0]) / self.view.step])

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Unit normals (n, 3) of the ground under points (n, 3)."""
        where = self.indices(points)
        parts = [ndimage.map_coordinates(self.normal[..., i], where, order=1, mode="nearest") for i in range(3)]
        normal = np.stack(parts, axis=1).astype(float)
        return normal / np.linalg.norm(normal, axis=1, keepdims=True)

    def sunlit(self, points: np.ndarray, sun: np.ndarray) -> np.ndarray:
        """How much of the sun (n,) the ground leaves to points (n, 3), from 0 to 1."""
        light = np.ones(len(points))
        scale = np.maximum(points[:, 1] / 100, 0.3)
        for reach in 1.2 * 1.6 ** np.arange(11):
            there = points + sun * (reach * scale)[:, None]
            height = ndimage.map_coordinates(self.height, self.indices(there), order=1, mode="nearest")
            blocked = (height - there[:, 2]) / (reach * scale)
            light = np.minimum(light, np.clip(0.5 - blocked / 0.12, 0, 1))
        return light


class LightMap:
    """Depth map of the faces and leaves as a far light in direction `towards` sees them."""

    def __init__(
        self, towards: np.ndarray, faces: list[Face], leaves: Leaves, pitch: float, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Draw what lies in the box from `low` to `high` (3,), with `pitch` metres to a pixel."""
        self.towards, self.pitch = towards, pitch
        side = np.cross([0.0, 0.0, 1.0], towards)
        side /= np.linalg.norm(side)
        self.axes = np.stack([side, np.cross(towards, side)])
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        flat = corners @ self.axes.T
        self.start = flat.min(axis=0)
        size = np.ceil((flat.max(axis=0) - self.start) / pitch).astype(int)
        self.depth = np.full((size[1], size[0]), -np.inf)
        for item in faces:
            self._add_face(item)
        self._add_leaves(leaves)

    def _add_face(self, item: Face) -> None:
        facing = item.normal @ self.towards
        area = covered((item.points @ self.axes.T - self.start) / self.pitch, self.depth.shape)
        if area is None or abs(facing) < 1e-6:
            return
        rows, columns, mask = area
        a, b = self.start[0] + columns * self.pitch, self.start[1] + rows * self.pitch
        depth = (
            item.normal @ item.points[0] - item.normal @ self.axes[0] * a - item.normal @ self.axes[1] * b
        ) / facing
        window = self.depth[rows[0, 0] : rows[-1, 0] + 1, columns[0, 0] : columns[0, -1] + 1]
        np.copyto(window, np.maximum(window, depth), where=mask)

    def _add_leaves(self, leaves: Leaves) -> None:
        column, row = ((leaves.centre @ self.axes.T - self.start) / self.pitch).T
        depth = leaves.centre @ self.towards
        order = np.argsort(depth)
        for chunk in np.array_split(order, max(1, len(order) // 8000)):
            leaf, rows, columns = splat_candidates(
                column[chunk], row[chunk], leaves.radius[chunk] / self.pitch, leaves.tilt[chunk], 0.8, self.depth.shape
            )
            self.depth[rows, columns] = np.maximum(self.depth[rows, columns], depth[chunk[leaf]])

    def visible(self, points: np.ndarray, taps: int, spread: float, bias: float) -> np.ndarray:
        """Part of the light (n,) that reaches points (n, 3): the mean of taps x taps looks, `spread` metres wide."""
        where = (points @ self.axes.T - self.start) / self.pitch
        own = points @ self.towards + bias
        total = np.zeros(len(points))
        offsets = (np.arange(taps) - (taps - 1) / 2) * (spread / max(taps - 1, 1) / self.pitch)
        for dx in offsets:
            for dy in offsets:
                column, row = np.round(where[:, 0] + dx).astype(int), np.round(where[:, 1] + dy).astype(int)
                inside = (row >= 0) & (row < self.depth.shape[0]) & (column >= 0) & (column < self.depth.shape[1])
                blocker = self.depth[np.where(inside, row, 0), np.where(inside, column, 0)]
                total += ~inside | (blocker <= own)
        return total / taps**2
