"""What rays meet, and the light that comes back along them.

Light comes from the window, from the sun through it, and dimly from the rest of the room. Surfaces that a ray meets
after a bounce are simplified: they have one colour each, and no bumps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common import smoothstep
from .placement import GLASS, GLASS_TINT, OPAQUE, THINGS, Thing
from .raymarch import Solid, blocked, box_span, dot, march, nearest_hit, normalised, safe_inverse, tangent_frame
from .table import EDGE_RADIUS, EDGE_Y

WALL_Y = 3.1
WINDOW_X, WINDOW_Y, WINDOW_Z = -6.5, (-4.6, -0.4), (1.3, 5.2)
WINDOW_RADIANCE = np.array([9.6, 8.4, 6.6])
SUN_DIRECTION = np.array([-0.80, -0.42, 0.40]) / np.linalg.norm([-0.80, -0.42, 0.40])
SUN_IRRADIANCE = np.array([6.0, 4.2, 2.3])
ROOM = np.array([0.17, 0.19, 0.23])  # radiance of the dim rest of the room, cooler than the window

OPAQUE_SOLIDS = [thing.solid for thing in OPAQUE]
ALL_SOLIDS = [*OPAQUE_SOLIDS, GLASS.solid]
TABLE_ID, WALL_ID = len(ALL_SOLIDS), len(ALL_SOLIDS) + 1
MEANS = np.array([thing.mean for thing in THINGS], np.float32).T
FAR = np.float32(60)


def trace(solids: list[Solid], o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameter (N,) and number in THINGS (N,) of what each ray sees; -1 where it leaves for the room."""
    _, dy, dz = inverse = safe_inverse(d)
    top, front, back = -o[2] * dz, (EDGE_Y - o[1]) * dy, (WALL_Y - o[1]) * dy
    at_top, at_front = o[1] + top * d[1], o[2] + front * d[2]
    top = np.where((top > 1e-3) & (at_top > EDGE_Y) & (at_top < WALL_Y), top, FAR)
    front = np.where((front > 1e-3) & (at_front < 0) & (d[1] > 0), front, FAR)
    back = np.where((back > 1e-3) & (inverse[1] > 0), back, FAR)
    table = np.minimum(top, front)
    limit = np.minimum(table, back)
    t, which = nearest_hit(solids, o, d, limit)
    plane = np.where(limit == FAR, -1, np.where(table < back, TABLE_ID, WALL_ID))
    return t, np.where(which >= 0, which, plane)


def surface_normals(p: np.ndarray, which: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Geometric normals (3, N) of the things numbered `which` at the points p, towards the viewer along d."""
    n = np.zeros_like(p)
    n[1] = -1
    edge = np.clip((EDGE_Y + EDGE_RADIUS - p[1]) / EDGE_RADIUS, 0, 1) * (which == TABLE_ID)
    n[1], n[2] = np.where(which == TABLE_ID, -edge, n[1]), np.where(which == TABLE_ID, 1.02 - edge, n[2])
    for number, solid in enumerate(ALL_SOLIDS):
        rays = np.flatnonzero(which == number)
        if rays.size:
            n[:, rays] = solid.normal(p[:, rays])
    n = normalised(n)
    return np.where(dot(n, d) > 0, -n, n)


def through_glass(o: np.ndarray, d: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Colour (3, N) that the bottle leaves of light along the rays."""
    near, leave = box_span(GLASS.solid, o, safe_inverse(d))
    near, leave = np.maximum(near, 0), np.minimum(leave, far)
    left = np.ones_like(o)
    rays = np.flatnonzero(near < leave)
    if rays.size:
        met = np.isfinite(march(GLASS.solid, o[:, rays], d[:, rays], near[rays], leave[rays]))
        left[:, rays[met]] = np.exp(-1.3 * GLASS_TINT)
    return left


def direct_light(p: np.ndarray, n: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Irradiance (3, N) from the window (by way of its point (u, v)) and from the sun through it."""
    p = p + np.float32(0.006) * n
    target = np.stack(
        [np.full_like(u, WINDOW_X), WINDOW_Y[0] + u * np.ptp(WINDOW_Y), WINDOW_Z[0] + v * np.ptp(WINDOW_Z)]
    ).astype(np.float32)
    way = target - p
    length = np.sqrt(dot(way, way))
    way = way / length
    area = np.ptp(WINDOW_Y) * np.ptp(WINDOW_Z)
    strength = np.maximum(dot(way, n), 0) * np.maximum(-way[0], 0) * area / length**2
    light = np.zeros_like(p)
    lit = np.flatnonzero(strength > 1e-4)
    lit = lit[~blocked(OPAQUE_SOLIDS, p[:, lit], way[:, lit], length[lit])]
    light[:, lit] = strength[lit] * through_glass(p[:, lit], way[:, lit], length[lit])
    light *= WINDOW_RADIANCE[:, None].astype(np.float32)

    sun = SUN_DIRECTION.astype(np.float32)[:, None]
    reach = (WINDOW_X - p[0]) / sun[0]
    y, z = p[1] + reach * sun[1], p[2] + reach * sun[2]
    beam = sun_gobo(y, z) * np.maximum(dot(n, sun), 0)
    lit = np.flatnonzero(beam > 1e-3)
    if lit.size:
        sun = np.repeat(sun, lit.size, axis=1)
        lit, sun = lit[(free := ~blocked(OPAQUE_SOLIDS, p[:, lit], sun, reach[lit]))], sun[:, free]
        glow = beam[lit] * through_glass(p[:, lit], sun, reach[lit])
        light[:, lit] += glow * SUN_IRRADIANCE[:, None].astype(np.float32)
    return light


def sun_gobo(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How much sun passes the window's plane at (y, z): a tall casement with bars, blurred by the distance."""
    blur = 0.14
    a = (
        smoothstep(-1.85, -1.85 + blur, y)
        * smoothstep(0.75, 0.75 + blur, -y)
        * smoothstep(5.7, 5.7 + blur, z)
        * smoothstep(-8.4, -8.4 + blur, -z)
    )
    bars = np.minimum(smoothstep(0.02, 0.1, np.abs(y + 1.3)), smoothstep(0.02, 0.1, np.abs(z - 6.75)))
    return a * (0.15 + 0.85 * bars)


def seen_light(o: np.ndarray, d: np.ndarray, u: np.ndarray, v: np.ndarray, *, window: bool) -> np.ndarray:
    """Radiance (3, N) that arrives along the rays, with or without what comes straight from the window."""
    t, which = trace(ALL_SOLIDS, o, d)
    light = (ROOM[:, None] * (0.75 + 0.35 * d[2] - 0.25 * d[0])).astype(np.float32)
    if window:
        reach = (WINDOW_X - o[0]) / np.where(np.abs(d[0]) < 1e-6, 1e-6, d[0])
        y, z = o[1] + reach * d[1], o[2] + reach * d[2]
        across, up = (y - WINDOW_Y[0]) / np.ptp(WINDOW_Y), (z - WINDOW_Z[0]) / np.ptp(WINDOW_Z)
        pane = (reach > 0) & (np.abs(across - 0.5) < 0.5) & (np.abs(up - 0.5) < 0.5)
        pane &= (np.abs(across - 0.5) > 0.045) & (np.abs(up * 2 - np.round(up * 2)) > 0.08)
        light = np.where(pane, WINDOW_RADIANCE[:, None].astype(np.float32) * 1.25, light)
    met = np.flatnonzero(which >= 0)
    p = o[:, met] + t[met] * d[:, met]
    n = surface_normals(p, which[met], d[:, met])
    ambient = ROOM[:, None].astype(np.float32) * 1.6
    light[:, met] = MEANS[:, which[met]] / np.float32(np.pi) * (direct_light(p, n, u[met], v[met]) + ambient)
    return light


def bumped(thing: Thing, p: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Normals n (3, N), tilted by the slope of the thing's height at the local points p; all in local coordinates."""
    step, here = np.float32(0.004), thing.height(p)
    slope = np.stack([thing.height(p + step * axis[:, None]) - here for axis in np.eye(3, dtype=np.float32)]) / step
    return normalised(n - slope + dot(slope, n) * n)


@dataclass
class Hits:
    """What the camera rays meet: bumped normals and albedos (3, N), reflectance and roughness (N,)."""

    normal: np.ndarray
    colour: np.ndarray
    mirror: np.ndarray
    rough: np.ndarray


def describe(p: np.ndarray, n: np.ndarray, which: np.ndarray) -> Hits:
    """Look up the materials at the points p with the geometric normals n."""
    n, colour = n.copy(), np.zeros_like(p)
    mirror, rough = np.zeros(p.shape[1], np.float32), np.ones(p.shape[1], np.float32)
    for number, thing in enumerate(THINGS):
        rays = np.flatnonzero(which == number)
        if rays.size == 0:
            continue
        turn = thing.solid.rotation if thing.solid else np.eye(3, dtype=np.float32)
        local = thing.solid.to_local(p[:, rays]) if thing.solid else p[:, rays]
        colour[:, rays] = np.clip(thing.colour(local), 0.004, 0.92)
        mirror[rays], rough[rays] = thing.mirror, thing.rough
        if thing.height:
            n[:, rays] = turn @ bumped(thing, local, turn.T @ n[:, rays]).astype(np.float32)
    return Hits(n, colour, mirror, rough)


def gloss(
    p: np.ndarray, n: np.ndarray, d: np.ndarray, mirror: np.ndarray, rough: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Radiance (3, N) that the surfaces reflect towards the viewer, like a lacquer over their colour."""
    u, v, s, r = rng.random((4, n.shape[1]), np.float32)
    tangent, bitangent = tangent_frame(n)
    spread = rough * np.sqrt(-np.log(1 - 0.98 * r)) * 0.6
    facet = normalised(n + spread * (np.cos(2 * np.pi * s) * tangent + np.sin(2 * np.pi * s) * bitangent))
    cosine = np.clip(-dot(facet, d), 0, 1)
    out = d + 2 * cosine * facet
    fresnel = mirror + (1 - mirror) * (1 - rough) ** 2 * (1 - cosine) ** 5
    fresnel = fresnel * (dot(out, n) > 0)
    return fresnel * seen_light(p + np.float32(0.008) * n, out, u, v, window=True)
