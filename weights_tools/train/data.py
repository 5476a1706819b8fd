"""Labelled pictures for training: from an HDF5 file or a folder of folders to one array of bytes.

An HDF5 file holds the encoded pictures (WebP, JPEG, PNG) end to end in one dataset of bytes, where each one begins in
``offset`` (one more number than pictures), and, for training, each one's class in ``label``. In a folder, the pictures
of a class lie in a folder of their own.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nsnumpy.machine import usable_cores

ENCODINGS = ("webp", "jpeg", "png")
SUFFIXES = (".webp", ".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Source:
    """A picture as it is stored: how messages call it, and its bytes."""

    name: str
    read: Callable[[], bytes]

    def open(self) -> Image.Image:
        """The picture, upright and in RGB. DataError if it cannot be read."""
        try:
            image = Image.open(io.BytesIO(self.read()), formats=ENCODINGS)
            return ImageOps.exif_transpose(image).convert("RGB")
        except UnidentifiedImageError as error:
            raise DataError(f"{self.name} cannot be read: no WebP, JPEG or PNG picture") from error
        except Exception as error:  # for broken data Pillow's readers raise nearly anything
            raise DataError(f"{self.name} cannot be read ({error})") from error


class DataError(ValueError):
    """Pictures that cannot be trained on; the message names them and the mend."""


@dataclass(frozen=True)
class Pictures:
    """Square pictures of one size, and their classes.

    Attributes
    ----------
    pixels : array ``(n, S, S, 3)``, uint8
    labels : array ``(n,)``, int64
        0 to classes - 1.
    classes : int
    """

    pixels: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: int

    def __len__(self) -> int:
        return len(self.pixels)

    def split(self, held_out: int) -> tuple[Pictures, Pictures]:
        """All but the last `held_out` pictures, and those."""
        at = len(self) - held_out
        if held_out < 0 or at < 1:
            raise DataError(f"{len(self)} pictures: {held_out} of them cannot be held out; hold out fewer")
        return (
            Pictures(self.pixels[:at], self.labels[:at], self.classes),
            Pictures(self.pixels[at:], self.labels[at:], self.classes),
        )


def read_pictures(path: str | os.PathLike[str], side: int = 64, seed: int = 0) -> Pictures:
    """All pictures of a file or folder, their middle squares scaled to `side` pixels, in memory: 12 kB each at 64.

    Parameters
    ----------
    path : an HDF5 file or a folder, see this module's head
    side : int
    seed : int
        Of the random order into which a folder's pictures are brought; those of a file stay in its order.

    Raises
    ------
    DataError
    """
    path = Path(path)
    if path.is_dir():
        sources, labels = _of_folder(path, seed)
        return _decode(path, sources, labels, side)
    with _opened(path) as h5:
        sources = list(_sources(path, h5))
        if "label" not in h5:
            raise DataError(f"{path}: no dataset 'label': a class for each picture is needed")
        labels = _whole_numbers(path, h5, "label")
        if len(labels) != len(sources) or labels.min() < 0 or labels.max() >= len(sources):
            many = len(sources)
            raise DataError(f"{path}: dataset 'label': {many} whole numbers, 0 or more and below {many}, expected")
    return _decode(path, sources, labels.astype(np.int64), side)


def find_pictures(path: str | os.PathLike[str]) -> list[Source]:
    """The pictures of an HDF5 file, or of a folder and its folders, not decoded yet; labels are not needed.

    Raises
    ------
    DataError
    """
    path = Path(path)
    if path.is_dir():
        sources = [_of_file(file) for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
    else:
        with _opened(path) as h5:
            sources = list(_sources(path, h5))
    if not sources:
        raise DataError(f"{path}: no pictures in it ({', '.join(SUFFIXES)})")
    return sources


def open_pictures(path: str | os.PathLike[str], most: int) -> Iterator[Image.Image]:
    """Up to `most` pictures, spread over those of `find_pictures`.

    Raises
    ------
    DataError
    """
    sources = find_pictures(path)
    for k in spread(len(sources), most):
        yield sources[k].open()


def spread(count: int, most: int) -> np.ndarray:
    """Up to `most` of the numbers 0 to count - 1, evenly apart."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder") from error
    except OSError as error:
        raise DataError(f"{path}: not an HDF5 file of pictures, and no folder of them") from error


def _sources(path: Path, h5: h5py.File) -> Iterator[Source]:
    name = next((name for name in ENCODINGS if name in h5), None)
    if name is None or "offset" not in h5:
        raise DataError(f"{path}: datasets 'offset' and one of {', '.join(ENCODINGS)} expected")
    offsets, data = _whole_numbers(path, h5, "offset"), _whole_numbers(path, h5, name, "u1").tobytes()
    if len(offsets) < 2 or offsets[0] < 0 or (offsets[1:] < offsets[:-1]).any() or offsets[-1] > len(data):
        raise DataError(f"{path}: dataset 'offset' does not fit to {name!r}")
    for k, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        yield Source(f"{path}: picture {k}", lambda start=start, stop=stop: data[start:stop])


def _whole_numbers(path: Path, h5: h5py.File, name: str, dtype: str = "") -> np.ndarray:
    """A dataset that is a list of whole numbers, of the given type if there is one."""
    dataset = h5[name]
    kind = f"of {np.dtype(dtype).name}" if dtype else "of whole numbers"
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or dataset.dtype.kind not in "iu":
        raise DataError(f"{path}: dataset {name!r}: a list {kind} expected")
    if dtype and dataset.dtype != np.dtype(dtype):
        raise DataError(f"{path}: dataset {name!r}: a list {kind} expected, {dataset.dtype} given")
    return dataset[()]


def _of_folder(path: Path, seed: int) -> tuple[list[Source], np.ndarray]:
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    found = [
        (_of_file(file), label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise DataError(f"{path}: a folder for each class expected, with pictures in it ({', '.join(SUFFIXES)})")
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[k][0] for k in order], np.array([found[k][1] for k in order])


def _of_file(file: Path) -> Source:
    return Source(str(file), file.read_bytes)


def _decode(path: Path, sources: Sequence[Source], labels: np.ndarray, side: int) -> Pictures:
    classes = int(labels.max()) + 1
    if classes < 2:
        raise DataError(f"{path}: two classes at least expected")
    pixels = np.empty((len(sources), side, side, 3), np.uint8)

    def decode(k: int) -> None:
        image = sources[k].open()
        if image.size != (side, side):
            image = ImageOps.fit(
                image, (side, side), Image.Resampling.BOX if min(image.size) > side else Image.Resampling.BICUBIC
            )
        pixels[k] = image

    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(decode, range(len(sources)), chunksize=256):
            pass
    return Pictures(pixels, labels, classes)


def random_crops(pixels: np.ndarray, crop: int, rng: np.random.Generator) -> np.ndarray:
    """A crop of each picture at a random place, every other one mirrored on average: float32 in [0, 1]."""
    batch, side = pixels.shape[:2]
    tops, lefts = rng.integers(0, side - crop + 1, (2, batch))
    mirrored = rng.random(batch) < 0.5
    x = np.empty((batch, crop, crop, 3), np.float32)
    for k in range(batch):
        picture = pixels[k, tops[k] : tops[k] + crop, lefts[k] : lefts[k] + crop]
        x[k] = picture[:, ::-1] if mirrored[k] else picture
    return x / np.float32(255)


def middle_crops(pixels: np.ndarray, crop: int) -> np.ndarray:
    """The middle of each picture, float32 in [0, 1]."""
    start = (pixels.shape[1] - crop) // 2
    return pixels[:, start : start + crop, start : start + crop] / np.float32(255)


def halved(pixels: np.ndarray) -> np.ndarray:
    """The pictures at half the size, each pixel the mean of four; uint8."""
    n, side, _, _ = pixels.shape
    pixels = pixels[:, : side // 2 * 2, : side // 2 * 2].reshape(n, side // 2, 2, side // 2, 2, 3)
    return ((pixels.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)
