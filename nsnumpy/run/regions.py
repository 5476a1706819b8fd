"""Regions of a run: maps of flat colours and grey masks, read from pictures, and what they are at a scale."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from ..architecture import minimum_size
from ..backend import Array, asarray, get_xp
from ..files.checkpoint import digest
from ..files.decode import PictureError, decode
from ..files.images import fit_size, picture_name
from ..positions import LEAST, Region, area_mean, check_mask, partition, pooled
from ..variable import Kept, Variable

MOST = 32  # colours of a map
FLAT, ALIKE, NEAR = 4, 12, 32
"""Differences of 8-bit values: of neighbours in a flat area; of what is one colour; and of that in a JPEG file, or of a
colour and a name for it."""
COLOURED = 48  # differences of channels that are no JPEG file's noise
LEAST_SHARE = 1e-4  # of a map's pixels, that a colour needs
OUTSIDE = ("keep", "style")

MaskPicture = Any
"""A grey picture, white where it is: a path, an image, or an array ``(H, W)`` in [0, 1], of bool, or of uint8."""


@dataclass(frozen=True, eq=False)
class Mask:
    """Where a region is: its name, its mask ``(h, w)`` in [0, 1], what it was read from, and the size of that."""

    name: str
    values: np.ndarray = field(repr=False)
    source: str
    shape: tuple[int, int]

    def check(self, shape: tuple[int, int], of: str) -> None:
        """PictureError unless it has the proportions of a picture of this shape, but for rounding."""
        (height, width), (h, w) = shape, self.shape
        if abs(w - h * width / height) > max(1, 0.02 * w):
            raise PictureError(
                f"{self.source}: {w} x {h} pixels, and the {of} is {width} x {height}: give it the same proportions"
            )


def read_mask(picture: MaskPicture, enough: float | None = None, name: str | None = None) -> Mask:
    """A grey picture as a mask: white is there, black is not, and what is transparent is not either.

    Parameters
    ----------
    picture : MaskPicture
    enough : number, or None
        The pixels of its long side that there is use for.
    name : str, or None
        Of the region; the file's without its ending unless given.

    Raises
    ------
    PictureError
        If it cannot be read, or is black all over.
    """
    source = picture_name(picture)
    name = name or source.rpartition(".")[0] or source
    if isinstance(picture, np.ndarray) and picture.dtype.kind in "fb" and picture.ndim == 2:
        try:
            values, shape = check_mask(picture), picture.shape
        except ValueError as error:
            raise PictureError(str(error)) from error
    else:
        image, shape = _decoded(picture, enough, Image.Resampling.BOX, "black")
        if np.ptp(np.asarray(image).astype(np.int16), axis=-1).max(initial=0) > COLOURED:
            raise PictureError(f"{source}: has colours, and a mask is grey; a map of colours goes with --regions")
        grey = np.asarray(image.convert("L"))
        if grey.max() == 1:
            warnings.warn(f"{source}: its values are 0 and 1 of 255, taken for 0 and 255", stacklevel=2)
            grey = 255 * grey
        values = grey.astype(np.float32) / 255
    if not values.any():
        raise PictureError(f"{source}: black all over, a mask of nothing; white is where the style is to be")
    return Mask(name, values, source, (shape[0], shape[1]))


def _decoded(
    picture: Any, enough: float | None, how: Image.Resampling, ground: str
) -> tuple[Image.Image, tuple[int, int]]:
    """`enough` of a picture's pixels, and the (H, W) that it has in full."""
    image, shape = decode(picture, math.inf if enough else None, ground)
    if enough and max(shape) > enough:
        image = image.resize(fit_size(shape, int(enough))[::-1], how)
    return image, shape


@dataclass(frozen=True, eq=False)
class Map:
    """A picture of flat colours, each of which is a region.

    Attributes
    ----------
    source : str
    colours : list of (R, G, B)
        The most frequent first.
    labels : array ``(h, w)``
        The number of each pixel's colour.
    shape : (H, W)
        As it was given.
    """

    source: str
    colours: list[tuple[int, int, int]]
    labels: np.ndarray = field(repr=False)
    shape: tuple[int, int]

    def number(self, colour: str) -> int:
        """Of the colour that is nearest to a name or "#rrggbb"; PictureError if none is near."""
        found = self.near(rgb(colour) or ())
        if found is None:
            raise PictureError(f"{self.source}: no {colour} in it; it has {self.shares}")
        return found

    def near(self, colour: tuple[int, ...]) -> int | None:
        """The number of the colour that is nearest to (R, G, B), or None if none is near."""
        away = np.abs(np.array(self.colours) - colour).max(axis=1)
        return int(away.argmin()) if away.min() <= NEAR else None

    @property
    def shares(self) -> str:
        """Its colours with their shares, as they are told."""
        return ", ".join(map(self.told, self.numbers))

    @property
    def numbers(self) -> range:
        return range(len(self.colours))

    def mask(self, number: int, name: str | None = None) -> Mask:
        return Mask(name or self.name(number), self.labels == number, self.source, self.shape)

    def name(self, number: int) -> str:
        """A colour by its name, if it has one, else as "#rrggbb"."""
        written = "#{:02x}{:02x}{:02x}".format(*self.colours[number])
        return next((name for name in ImageColor.colormap if rgb(name) == self.colours[number]), written)

    def told(self, number: int) -> str:
        """The same, with its share."""
        return f"{self.name(number)} ({100 * (self.labels == number).mean():.3g} %)"


def rgb(colour: str) -> tuple[int, ...] | None:
    """Of a colour's name or "#rrggbb", or None if it is neither."""
    try:
        return ImageColor.getrgb(colour)[:3] if colour.startswith("#") or colour.isalpha() else None
    except ValueError:
        return None


def read_map(picture: Any, enough: float | None = None) -> Map:
    """A picture of flat colours as regions.

    A colour is one of the map if there are pixels of it whose neighbours have it, too, but for a JPEG file's noise. All
    others, as those that smooth the borders, are given to the nearest pixel of such a colour, and told. What is
    transparent is white.

    Raises
    ------
    PictureError
        If it cannot be read, or is no such picture.
    """
    source = picture_name(picture)
    image, shape = _decoded(picture, enough, Image.Resampling.NEAREST, "white")
    pixels = np.asarray(image).astype(np.int16)
    flat = _flat(pixels)
    colours, alike = _frequent(pixels[flat], LEAST_SHARE * flat.size)
    labels, away = np.zeros(flat.shape, np.uint8), np.full(flat.shape, 256, np.int16)
    for number, colour in enumerate(colours[: MOST + 1]):
        distance = np.abs(pixels - np.array(colour, np.int16)).max(axis=-1)
        nearer = distance < away
        labels[nearer], away[nearer] = number, distance[nearer]
    pure = flat & (away <= alike)
    if not colours or len(colours) > MOST or pure.mean() < 0.5:
        many = f"more than {MOST}" if len(colours) > MOST else "too few pixels of"
        raise PictureError(f"{source}: no map of regions: {many} flat colours; paint each region in one colour")
    if not pure.all():
        from scipy.ndimage import binary_dilation, distance_transform_edt  # slow to import

        for number in range(len(colours)):  # those at the border of an area that have its colour belong to it
            here = (labels == number) & (away <= alike)
            pure |= binary_dilation(here & pure, np.ones((3, 3)), iterations=2, mask=here)
        labels = labels[tuple(distance_transform_edt(~pure, return_distances=False, return_indices=True))]
    between = int((np.abs(pixels - np.array(colours, np.int16)[labels]).max(axis=-1) > NEAR).sum())
    if between:
        told = f"{between} of its {flat.size} pixels are between its colours, and are given to the nearest one"
        warnings.warn(f"{source}: {told}", stacklevel=2)
    return Map(source, colours, labels, shape)


def _flat(pixels: np.ndarray) -> np.ndarray:
    """Which pixels have the colour of their four neighbours."""
    flat = np.ones(pixels.shape[:2], bool)
    for axis, along in enumerate((flat, flat.T)):
        same = np.abs(np.diff(pixels, axis=axis)).max(axis=-1, initial=0) <= FLAT
        same = same.T if axis else same
        along[1:] &= same
        along[:-1] &= same
    return flat


def _frequent(pixels: np.ndarray, least: float) -> tuple[list[tuple[int, int, int]], int]:
    """The colours ``(n, 3)`` that are frequent, each with all that is alike, at least so often; and what alike is."""
    packed, counts = np.unique(pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    alike = ALIKE if len(counts) <= MOST else NEAR
    found: list[tuple[int, int, int]] = []
    while len(counts) and len(found) <= MOST:
        red, green, blue = (int(value) for value in colours[counts.argmax()])
        here = np.abs(colours - (red, green, blue)).max(axis=1) <= alike
        if counts[here].sum() >= least:
            found.append((red, green, blue))
        colours, counts = colours[~here], counts[~here]
    return found, alike


def mask_key(mask: Any) -> Any:
    """By which one knows a mask that is given twice."""
    if isinstance(mask, np.ndarray):
        return digest(mask)
    return os.fspath(mask) if isinstance(mask, str | os.PathLike) else id(mask)


def read_masks(given: Sequence[tuple[Any, Any]], enough: float | None) -> list[tuple[Mask | None, Mask | None]]:
    """The masks of each picture, for the photograph and its own; one that is given twice is one region.

    Raises
    ------
    PictureError
        If one cannot be read, or two regions would have one name.
    """
    read: dict[Any, Mask] = {}
    names: list[str] = []
    masks: list[tuple[Mask | None, Mask | None]] = []
    for mask, own in given:
        if mask is not None and not isinstance(mask, Mask):
            key = mask_key(mask)
            if key not in read:
                by_file = isinstance(mask, str | os.PathLike)
                read[key] = read_mask(mask, enough, None if by_file else str(len(names) + 1))
            mask = read[key]
        if mask is not None and not any(mask in pair for pair in masks):
            names.append(mask.name)
            if names.count(mask.name) > 1:
                raise PictureError(f"{mask.source}: another region is called {mask.name}: rename the file")
        masks.append((mask, own if own is None or isinstance(own, Mask) else read_mask(own)))
    return masks


class Regions:
    """The regions of a run.

    Parameters
    ----------
    masks : sequence of Mask
        Those of each style picture; a region may be there several times.
    everywhere : bool
        Whether a style has no region, and so is everywhere.
    outside : "keep" or "style"
        Whether the photograph is kept where there is no region, or the first one goes on there.
    """

    def __init__(self, masks: Sequence[Mask], everywhere: bool, outside: str) -> None:
        self.masks = list(dict.fromkeys(masks))
        self._fills, self._keeps = outside == "style", outside == "keep" and not everywhere
        self._known: tuple[tuple[int, int], np.ndarray] = (0, 0), np.empty((0, 0, 0))

    def weights(self, shape: tuple[int, int]) -> np.ndarray:
        """``(H, W, R)``: how much each pixel is of each region; not to be written to."""
        if self._known[0] != shape:  # asked for again and again, for every picture on the way
            self._known = shape, partition([area_mean(mask.values, shape) for mask in self.masks], fill=self._fills)
        return self._known[1]

    def at(self, shape: tuple[int, int]) -> dict[Mask, Region]:
        weights = self.weights(shape)
        return {mask: Region(mask.name, weights[..., n]) for n, mask in enumerate(self.masks)}

    def inside(self, shape: tuple[int, int]) -> np.ndarray | None:
        """``(H, W)``: how much of each pixel is not the photograph's to keep; None for all."""
        return self.weights(shape).sum(axis=-1).clip(0, 1) if self._keeps else None

    def variable(self, inner: Variable, photo: np.ndarray, like: Array) -> Variable:
        """`inner` within the regions, and the photograph, which has this size, outside; arrays as `like` is."""
        inside = self.inside(photo.shape[:2])
        if inside is None:
            return inner
        p, m = (asarray(array, get_xp(like), like.dtype) for array in (photo, inside))
        return Kept(p, m, inner)

    def finished(self, image: np.ndarray, photo: np.ndarray) -> np.ndarray:
        """A result with the photograph itself outside, whatever rounding or enlarging have done to it."""
        inside = self.inside(image.shape[:2])
        return image if inside is None else np.where(inside[..., None] == 0, photo, image)

    def shares(self, shape: tuple[int, int], architecture: str, layers: Sequence[str]) -> dict[str, dict[str, float]]:
        """Of each region of a picture of this shape, by its name: its share of the positions of each of the layers in
        which it has any."""
        found: dict[str, dict[str, float]] = {mask.name: {} for mask in self.masks}
        for layer in layers:
            side = minimum_size(architecture, [layer])
            there = pooled(self.weights(shape), (shape[0] // side, shape[1] // side))
            for mask, positions in zip(self.masks, there.sum(axis=(0, 1)), strict=True):
                if positions >= LEAST:
                    found[mask.name][layer] = float(positions / there[..., 0].size)
        return found

    def reach(
        self, shape: tuple[int, int], architecture: str, layers: Sequence[str]
    ) -> dict[str, tuple[float, list[str]]]:
        """Of each region of a picture of this shape, by its name: its share of the pixels, and the layers in which it
        has no position."""
        there = self.shares(shape, architecture, layers)
        of_pixels = self.weights(shape).mean(axis=(0, 1))
        return {
            mask.name: (float(share), [layer for layer in layers if layer not in there[mask.name]])
            for mask, share in zip(self.masks, of_pixels, strict=True)
        }
