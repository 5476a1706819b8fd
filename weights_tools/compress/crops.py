"""The crops that a network is compressed on: of photographs, half of them changed as pictures are on the way."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from ..train.data import DataError, Source, find_pictures, spread

CHANGED = 2  # every other crop


class Crops:
    """Square crops of pictures at random places, mirrored or not, made when they are asked for.

    They come from each of `paths` in turn. A picture whose short side is less than `side` is enlarged. Every other crop
    is `changed`, so that what is learnt from them also holds for the pictures that an optimisation meets before it is
    done.

    Parameters
    ----------
    paths : list of HDF5 files and folders, see `find_pictures`
    count : int
        How many crops.
    side : int
        In pixels.
    seed : int

    Raises
    ------
    DataError
        If there is no picture in one of `paths`, or there are more of these than crops.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], count: int, side: int, seed: int = 0) -> None:
        self.side, self.seed = side, seed
        self._sources: list[Source] = [None] * count
        order = np.random.default_rng([seed, 0]).permutation(count)
        for k, path in enumerate(paths):
            places, found = order[k :: len(paths)], find_pictures(path)
            if not len(places):
                raise DataError(f"{path}: no crop left for it; take at least {len(paths)} crops")
            picked = spread(len(found), len(places))
            for i, place in enumerate(places):
                self._sources[place] = found[picked[i % len(picked)]]

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, k: int) -> np.ndarray:
        """Crop number k, the same every time: ``(side, side, 3)``, uint8. DataError if its picture cannot be read."""
        rng = np.random.default_rng([self.seed, 1, k])
        crop = _crop(self._sources[k].open(), self.side, rng)
        return changed(crop, rng) if k % CHANGED else crop

    def batch(self, start: int, stop: int) -> np.ndarray:
        """Crops start to stop - 1, at most to the last: ``(B, side, side, 3)``, float32 in [0, 1]."""
        return np.stack([self[k] for k in range(start, min(stop, len(self)))]) / np.float32(255)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the crops: what is learnt from them belongs to them."""
        digest = hashlib.blake2b(digest_size=16)
        for source in self._sources:
            digest.update(source.read())
        return f"{len(self)} {self.side} {self.seed} {digest.hexdigest()}"


def _crop(image: Image.Image, side: int, rng: np.random.Generator) -> np.ndarray:
    if min(image.size) < side:
        scale = side / min(image.size)
        image = image.resize([max(side, round(scale * n)) for n in image.size], Image.Resampling.LANCZOS)
    left, top = (int(rng.integers(0, n - side + 1)) for n in image.size)
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(ImageOps.mirror(image) if rng.random() < 0.5 else image)


def changed(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop with another contrast and brightness in each channel, and mixed with noise of any strength.

    Parameters
    ----------
    crop : array ``(H, W, 3)``, uint8

    Returns
    -------
    array of the same shape, uint8
    """
    x = crop / np.float32(255)
    mean = x.mean(axis=(0, 1))
    contrast = rng.uniform(0.3, 1.6) * rng.uniform(0.7, 1.3, 3)
    x = mean + (x - mean) * contrast + rng.uniform(-0.2, 0.2, 3)
    share = rng.random() ** 3  # of the noise: seldom much
    noise = rng.random(x.shape) if rng.random() < 0.5 else mean + 0.3 * rng.standard_normal(x.shape)
    x = (1 - share) * x + share * noise
    return np.rint(255 * x.clip(0, 1)).astype(np.uint8)
