"""A small NumPy ray tracer for solids that are given by signed distance functions.

Vectors are float32 arrays of shape (3, N), one column per ray or point, so that ``x, y, z = p`` unpacks them into
contiguous rows. Every solid is marched on its own, and only by the rays that cross its bounding box: with a few
dozen small solids that is many times faster than marching all rays through the union of all solids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]  # from points (3, N) to values (N,) or colours (3, N)
Triple = tuple[float, float, float]  # a point or a colour, where there is but one

MAX_STEPS = 64
HIT_DISTANCE = 0.0012  # scene units; about a fifth of a pixel in the 1024-pixel picture


@dataclass(frozen=True)
class Solid:
    """A shape, placed in the world.

    Attributes
    ----------
    distance : function from local points (3, N) to signed distances (N,)
        May be wrong by a factor: `relax` makes up for it.
    origin, rotation : arrays (3,), (3, 3)
        A local point q lies at ``rotation @ q + origin`` in the world.
    low, high : arrays (3,)
        World-space bounding box.
    relax : float
        Part of the distance that a step may safely go.
    """

    distance: Field
    origin: np.ndarray
    rotation: np.ndarray
    low: np.ndarray
    high: np.ndarray
    relax: float

    def to_local(self, points: np.ndarray) -> np.ndarray:
        """World points (3, N) in the solid's own coordinates."""
        return self.rotation.T @ (points - self.origin[:, None])

    def normal(self, points: np.ndarray, step: float = 0.004) -> np.ndarray:
        """Unit outward normals (3, N) in the world, from differences at the corners of a small tetrahedron."""
        local = self.to_local(points)
        gradient = np.zeros_like(local)
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            offset = np.array(corner, np.float32)[:, None]
            gradient += offset * self.distance(local + step * offset)
        return normalised(self.rotation @ gradient)


def place(
    distance: Field,
    origin: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    rotation: np.ndarray | None = None,
    relax: float = 0.8,
) -> Solid:
    """Make a solid whose local bounding box is (low, high), turned by `rotation` and moved to `origin`."""
    turn = np.eye(3, dtype=np.float32) if rotation is None else rotation.astype(np.float32)
    centre = np.asarray(origin, np.float32)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True)), np.float32).reshape(3, -1)
    world = turn @ corners + centre[:, None]
    return Solid(distance, centre, turn, world.min(axis=1), world.max(axis=1), relax)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (N,) of the columns of two (3, N) arrays."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normalised(v: np.ndarray) -> np.ndarray:
    """The columns of v (3, N), scaled to length one."""
    return v / np.sqrt(np.maximum(dot(v, v), 1e-20))


def rotation_about(axis: Sequence[float], degrees: float) -> np.ndarray:
    """Rotation matrix (3, 3) about `axis` (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def box_span(solid: Solid, origins: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters (N,) where rays enter and leave the solid's bounding box (entry > exit: missed)."""
    near, far = np.float32(-np.inf), np.float32(np.inf)
    for axis in range(3):
        first = (solid.low[axis] - origins[axis]) * inverse[axis]
        second = (solid.high[axis] - origins[axis]) * inverse[axis]
        near, far = np.maximum(near, np.minimum(first, second)), np.minimum(far, np.maximum(first, second))
    return near, far


def march(solid: Solid, origins: np.ndarray, directions: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Sphere-trace rays from `near` to `far` (N,); returns the ray parameters of the hits, infinity for misses."""
    turn = solid.rotation.T
    o, d, t, limit = solid.to_local(origins), turn @ directions, near.copy(), far
    ids = np.arange(near.size)
    hits = np.full(near.size, np.inf, np.float32)
    for step in range(MAX_STEPS):
        gap = solid.distance(o + t * d)
        # A surface seen at a grazing angle can use up all steps: late in the march a near miss counts as a hit.
        touching = gap < HIT_DISTANCE * (1 + step / 16)
        hits[ids[touching]] = t[touching]
        t = t + gap * solid.relax
        active = ~touching & (t < limit)
        if not active.any():
            break
        ids, o, d, t, limit = ids[active], o[:, active], d[:, active], t[active], limit[active]
    return hits


def nearest_hit(
    solids: Sequence[Solid], origins: np.ndarray, directions: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First solid that each ray meets before `far` (N,).

    Returns the ray parameter (N,), `far` where nothing is met, and the number of the solid (N,), -1 for none.
    """
    best, which = far.astype(np.float32), np.full(far.size, -1)
    inverse = safe_inverse(directions)
    for number, solid in enumerate(solids):
        near, leave = box_span(solid, origins, inverse)
        near = np.maximum(near, 0)
        rays = np.flatnonzero(near < np.minimum(leave, best))
        if rays.size:
            limit = np.minimum(leave[rays], best[rays])
            hits = march(solid, origins[:, rays], directions[:, rays], near[rays], limit)
            closer = hits < best[rays]
            best[rays[closer]], which[rays[closer]] = hits[closer], number
    return best, which


def blocked(solids: Sequence[Solid], origins: np.ndarray, directions: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Whether any solid stands in the way of each ray before `far` (N,)."""
    result = np.zeros(far.size, bool)
    inverse = safe_inverse(directions)
    for solid in solids:
        near, leave = box_span(solid, origins, inverse)
        near, leave = np.maximum(near, 0), np.minimum(leave, far)
        rays = np.flatnonzero((near < leave) & ~result)
        if rays.size:
            hits = march(solid, origins[:, rays], directions[:, rays], near[rays], leave[rays])
            result[rays] = np.isfinite(hits)
    return result


def safe_inverse(directions: np.ndarray) -> np.ndarray:
    """Reciprocals of the components, with zeros replaced by a tiny number."""
    return 1 / np.where(np.abs(directions) < 1e-7, np.float32(1e-7), directions)


def tangent_frame(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (3, N) that are perpendicular to each normal and to each other."""
    x, y, z = normals
    zero = np.zeros_like(x)
    # Cross product with the x or the y axis, whichever is farther from the normal.
    tangent = normalised(np.where(np.abs(x) < 0.7, np.stack([zero, z, -y]), np.stack([-z, zero, x])))
    return tangent, np.cross(normals, tangent, axis=0)


def cosine_directions(normals: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Directions (3, N) about the normals, cosine distributed for uniform u, v (N,)."""
    tangent, bitangent = tangent_frame(normals)
    radius, angle = np.sqrt(u), 2 * np.pi * v
    return normalised(
        radius * np.cos(angle) * tangent + radius * np.sin(angle) * bitangent + np.sqrt(1 - u) * normals
    ).astype(np.float32)


def smooth_within_surfaces(
    image: np.ndarray, normals: np.ndarray, positions: np.ndarray, labels: np.ndarray, spread: float, levels: int = 3
) -> np.ndarray:
    """Remove sampling noise from `image` (H, W, 3) without blurring across surfaces.

    An "a trous" filter: 5 x 5 B-spline taps, spaced 1, 2, 4, ... pixels apart, each weighted by how alike the normals
    (H, W, 3), the positions (H, W, 3; `spread` scene units at the first level) and the labels (H, W) are.
    """
    taps = np.array([1, 4, 6, 4, 1]) / 16
    height, width = labels.shape
    for level in range(levels):
        gap = 2**level
        total, weights = np.zeros_like(image), np.zeros(labels.shape, image.dtype)
        for i in range(-2, 3):
            for j in range(-2, 3):
                # Taps beyond the border fall on the border.
                to = np.ix_(
                    np.clip(np.arange(height) + i * gap, 0, height - 1),
                    np.clip(np.arange(width) + j * gap, 0, width - 1),
                )
                alike = np.clip((normals * normals[to]).sum(axis=2), 0, 1) ** 24
                apart = ((positions - positions[to]) ** 2).sum(axis=2) / (spread * gap) ** 2
                weight = taps[i + 2] * taps[j + 2] * alike * np.exp(-apart) * (np.abs(labels - labels[to]) < 1e-6)
                total += weight[..., None] * image[to]
                weights += weight
        image = total / np.maximum(weights, 1e-6)[..., None]
    return image
