"""The sky: a clear gradient, and cumulus clouds marched through a volume of noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..common import mix, smoothstep
from .land import SUN


def clear_sky(tangent: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Colour (n, 3) of the cloudless sky: deep above, pale and warm at the horizon, paler still towards the sun."""
    up = np.clip(slope / np.sqrt(1 + slope**2 + tangent**2), 0, 1)
    sky = mix(np.array([0.50, 0.66, 0.86]), [0.11, 0.28, 0.62], smoothstep(0.0, 0.36, up))
    glow = np.exp(-up / 0.075) * (0.70 + 0.5 * np.clip(tangent + 0.3, 0, 1))
    return mix(sky, [1.0, 0.86, 0.70], np.clip(glow, 0, 0.9))


def noise_volume(size: int, seed: int) -> np.ndarray:
    """A tileable cube (size, size, size) of smooth cloud-like noise with mean 0 and standard deviation 1."""
    wave = np.fft.fftfreq(size) * size
    k = np.sqrt(wave[:, None, None] ** 2 + wave[None, :, None] ** 2 + wave[None, None, : size // 2 + 1] ** 2)
    white = np.fft.rfftn(np.random.default_rng(seed).standard_normal((size, size, size)))
    strength = np.where(k >= 2, np.maximum(k, 2) ** -2.35, 0) * np.exp(-((k / (0.38 * size)) ** 2))
    cube = np.fft.irfftn(white * strength, s=(size,) * 3, axes=(0, 1, 2))
    return ((cube - cube.mean()) / cube.std()).astype(np.float32)


class Clouds:
    """Cumulus between BASE and TOP metres: a volume of density, marched along the line of sight and to the sun."""

    BASE, TOP, REACH = 1100.0, 2500.0, 26000.0
    STEPS, LIGHT_STEPS = 64, 5
    SHIFT = 20.0  # chooses which part of the endless cloud field is overhead

    def __init__(self) -> None:
        self.volume = noise_volume(96, 5)

    def density(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Extinction per metre at the given points: flat below, billowing above, in separate heaps."""

        def look(scale: float, shift: float) -> np.ndarray:
            where = np.stack([x, y, z * 1.25]) * (96 / scale) + shift
            return ndimage.map_coordinates(self.volume, where, order=1, mode="grid-wrap")

        level = (z - self.BASE) / (self.TOP - self.BASE)
        profile = smoothstep(0.0, 0.10, level) * 1.0 - 0.75 * level
        form = 0.60 * look(15000.0, self.SHIFT) + 0.30 * look(2500.0, 11.0) + 0.10 * look(700.0, 5.0)
        return 0.012 * np.clip((form + 1.1 * profile - 1.29) * 3.2, 0, 1) * (level > 0) * (level < 1)

    def over(self, tangent: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colour (n, 3) that the clouds add and part (n,) of the sky that they leave, along each line of sight."""
        length = np.sqrt(1 + tangent**2 + slope**2)
        start = np.minimum(self.BASE / slope, self.REACH)
        stop = np.minimum(self.TOP / slope, self.REACH)
        step = (stop - start) / self.STEPS
        colour, passing = np.zeros((len(slope), 3)), np.ones(len(slope))
        # Each line starts at its own part of a step: slices at equal distances would show as bands.
        start = start + (np.random.default_rng(6).random(len(slope)) - 0.5) * step
        for i in range(self.STEPS):
            y = start + (i + 0.5) * step
            x, z = tangent * y, slope * y
            density = self.density(x, y, z)
            live = np.flatnonzero((density > 0) & (passing > 0.01))
            if not live.size:
                continue
            x, y, z, density = x[live], y[live], z[live], density[live]
            depth = np.zeros(len(live))
            before = 0.0
            for reach in 55.0 * 1.75 ** np.arange(self.LIGHT_STEPS):
                depth += (reach - before) * self.density(x + SUN[0] * reach, y + SUN[1] * reach, z + SUN[2] * reach)
                before = reach
            # Two exponentials: light that came straight, and light scattered many times, which reaches deeper.
            sun = 0.72 * np.exp(-depth) + 0.28 * np.exp(-0.22 * depth)
            level = (z - self.BASE) / (self.TOP - self.BASE)
            lit = (
                np.array([1.55, 1.36, 1.12]) * sun[:, None]
                + np.array([0.26, 0.32, 0.43]) * (0.62 + 0.9 * level)[:, None]
            )
            opacity = 1 - np.exp(-density * step[live] * length[live])
            haze = 1 - np.exp(-y / 15000)
            lit = mix(lit, clear_sky(tangent[live], slope[live]), haze)
            colour[live] += (passing[live] * opacity)[:, None] * lit
            passing[live] *= 1 - opacity
        return colour, passing


def sky_picture(tangent: np.ndarray, slope: np.ndarray, columns: int) -> np.ndarray:
    """Colour (len(slope), len(tangent), 3) of the sky; the clouds are marched on a grid `columns` wide and enlarged."""
    step = (tangent[-1] - tangent[0]) / (columns - 1)
    coarse_x = np.linspace(tangent[0], tangent[-1], columns)
    coarse_z = np.arange(0.012, slope.max() + 2 * step, step)
    tx, sz = np.meshgrid(coarse_x, coarse_z)
    colour, passing = Clouds().over(tx.ravel(), sz.ravel())
    layers = np.concatenate([colour, passing[:, None]], axis=1).reshape(*tx.shape, 4)
    layers = ndimage.gaussian_filter(layers, (0.6, 0.6, 0))
    row, column = np.meshgrid((slope - coarse_z[0]) / step, (tangent - tangent[0]) / step, indexing="ij")
    layers = [ndimage.map_coordinates(layers[..., i], [row, column], order=1, mode="nearest") for i in range(4)]
    wide, tall = np.broadcast_to(tangent[None, :], row.shape), np.broadcast_to(slope[:, None], row.shape)
    return clear_sky(wide, tall) * layers[3][..., None] + np.stack(layers[:3], axis=-1)
