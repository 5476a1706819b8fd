"""The camera, its light paths, and the photograph made of them.

Each camera ray gathers light from a random point of the window, from the sun through that window, from one diffuse
bounce and from one mirror bounce; the sum of the diffuse light is denoised, multiplied by the surface colours and
developed like a film.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .light import OPAQUE_SOLIDS, describe, direct_light, gloss, seen_light, surface_normals, trace
from .placement import GLASS, GLASS_TINT, THINGS
from .raymarch import box_span, cosine_directions, dot, march, normalised, safe_inverse, smooth_within_surfaces

STRATA = (3, 2)  # light paths per pixel, across and up: each has its own part of the pixel and of the window
ROUNDS = 3  # how many times as many on outlines
THREADS = 2
CHUNK = 196_608  # pixels that one thread renders at a time: enough for NumPy to pay off, few enough for memory

CAMERA, TARGET = np.array([0.35, -10.2, 3.9]), np.array([0.18, 0.0, 1.02])
HALF_WIDTH = 0.302  # tangent of half the horizontal angle of view
LENS_RADIUS, FOCUS = 0.035, 10.2  # the wall comes out slightly soft
LABELS = np.arange(len(THINGS) + 1) / len(THINGS)  # tell things apart for the denoiser; + 1 behind glass


def camera_rays(x: np.ndarray, y: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rays through picture points x in [-1, 1], y in [-3/4, 3/4] (up), from points (2, N) of the lens."""
    ahead = (TARGET - CAMERA) / np.linalg.norm(TARGET - CAMERA)
    right = np.cross(ahead, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    shift = LENS_RADIUS * np.sqrt(lens[0]) * np.stack([np.cos(2 * np.pi * lens[1]), np.sin(2 * np.pi * lens[1])])
    aim = FOCUS * (ahead[:, None] + HALF_WIDTH * (right[:, None] * x + up[:, None] * y))
    side = right[:, None] * shift[0] + up[:, None] * shift[1]
    return (CAMERA[:, None] + side).astype(np.float32), normalised(aim - side).astype(np.float32)


def render_pass(x: np.ndarray, y: np.ndarray, stratum: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One light path for each picture point; returns sums to average over passes, channels first."""
    columns, rows = STRATA

    # Each pass draws from its own part of the unit square, so that the passes together cover the window evenly.
    def stratified(turn: int) -> tuple[np.ndarray, np.ndarray]:
        u, v = rng.random((2, x.size), np.float32)
        cell = (stratum + turn) % (columns * rows)
        return (cell % columns + u) / columns, (cell // columns + v) / rows

    o, d = camera_rays(x, y, rng.random((2, x.size)))
    t, which = trace(OPAQUE_SOLIDS, o, d)
    p = o + t * d
    hits = describe(p, geometric := surface_normals(p, which, d), which)
    start = p + np.float32(0.006) * geometric
    diffuse = direct_light(p, hits.normal, *stratified(0))
    bounce = cosine_directions(hits.normal, *stratified(1))
    diffuse += np.float32(np.pi) * seen_light(start, bounce, *stratified(2), window=False)
    shine = np.zeros_like(p)
    rays = np.flatnonzero(hits.mirror > 0)
    shine[:, rays] = gloss(p[:, rays], hits.normal[:, rays], d[:, rays], hits.mirror[rays], hits.rough[rays], rng)

    # The bottle: its wall tints what is behind it, more so where the ray grazes the glass, and mirrors the room.
    left, label = np.ones_like(p), LABELS[which]
    near, leave = box_span(GLASS.solid, o, safe_inverse(d))
    rays = np.flatnonzero((near < leave) & (near < t))
    if rays.size:
        met = march(GLASS.solid, o[:, rays], d[:, rays], near[rays], np.minimum(leave, t)[rays])
        rays, met = rays[np.isfinite(met)], met[np.isfinite(met)]
        point = o[:, rays] + met * d[:, rays]
        normal = GLASS.solid.normal(point)
        facing = np.clip(-dot(normal, d[:, rays]), 0.12, 1)
        left[:, rays] = np.exp(-GLASS_TINT / facing)
        ones = np.ones(rays.size, np.float32)
        label[rays] += 1
        shine[:, rays] *= left[:, rays]
        shine[:, rays] += gloss(point, normal, d[:, rays], GLASS.mirror * ones, GLASS.rough * ones, rng)
    return {
        "lit": hits.colour * left * diffuse / np.float32(np.pi),
        "diffuse": diffuse / np.float32(np.pi),
        "shine": np.minimum(shine, 3.0),
        "normal": geometric,
        "position": p,
        "label": label[None],
        "label squared": label[None] ** 2,
    }


def develop(light: np.ndarray) -> np.ndarray:
    """Film-like response: linear light (H, W, 3) to sRGB values, with a toe and a soft shoulder."""
    x = np.maximum(1.12 * light, 0) ** 1.54
    x = x / (x + 0.214)
    return np.where(x < 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-6) ** (1 / 2.4) - 0.055)


def average(i: np.ndarray, j: np.ndarray, width: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Averages (C, N) of all that `render_pass` returns, over one light path in each stratum of the pixels (i, j)."""
    height, (columns, rows) = width * 3 // 4, STRATA
    total: dict[str, np.ndarray] = {}
    for stratum in range(columns * rows):
        x = (2 * (i + (stratum % columns + rng.random(i.size)) / columns) - width) / width
        y = (height - 2 * (j + (stratum // columns + rng.random(j.size)) / rows)) / width
        for name, value in render_pass(x, y, stratum, rng).items():
            total[name] = total.get(name, 0) + value / (columns * rows)
    return total


def refine_outlines(means: dict[str, np.ndarray], i: np.ndarray, j: np.ndarray, width: int) -> None:
    """Give the pixels that see several things more light paths, as they cannot be denoised; changes `means`."""
    spread = means["label squared"] - means["label"] ** 2
    mixed = np.flatnonzero(spread[0] > 1e-9)
    if mixed.size:
        more = average(np.repeat(i[mixed], ROUNDS), np.repeat(j[mixed], ROUNDS), width, np.random.default_rng(7))
        for name, value in more.items():
            means[name][:, mixed] = value.reshape(len(value), -1, ROUNDS).mean(axis=2)


def render(width: int = 1024) -> np.ndarray:
    """Render the picture: (height, width, 3) sRGB in [0, 1], height = 3/4 width."""
    height = width * 3 // 4
    j, i = np.mgrid[:height, :width].reshape(2, -1)

    def part(first: int) -> dict[str, np.ndarray]:
        chunk = slice(first, first + CHUNK)
        return average(i[chunk], j[chunk], width, np.random.default_rng((2024, first)))

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(part, range(0, i.size, CHUNK)))
    means = {name: np.concatenate([each[name] for each in parts], axis=1) for name in parts[0]}
    refine_outlines(means, i, j, width)
    full = {name: value.reshape(-1, height, width).transpose(1, 2, 0) for name, value in means.items()}
    pixel = 2 * HALF_WIDTH * FOCUS / width
    guides = normalised(full["normal"].transpose(2, 0, 1)).transpose(1, 2, 0), full["position"], full["label"][..., 0]
    diffuse = smooth_within_surfaces(full["diffuse"], *guides, spread=6 * pixel)
    shine = smooth_within_surfaces(full["shine"], *guides, spread=2 * pixel, levels=1)
    # The colour of each pixel is weighted by the light on it, so that pixels on outlines mix both sides rightly.
    colour = full["lit"] / np.maximum(full["diffuse"], 1e-6)
    return np.clip(develop(colour * diffuse + shine), 0, 1)
