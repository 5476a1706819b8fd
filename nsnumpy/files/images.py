"""Picture files, PIL images and arrays to ``(H, W, 3)`` float32, RGB in [0, 1], and back."""

from __future__ import annotations

import copy
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .decode import PIXEL_BYTES, PictureError, check_pixels, decode, header, opening, unlimited
from .rows import bands, quantised, write_png, write_tiff
from .samples import SAMPLE_PREFIX
from .texts import SETTINGS_KEY, comment, text_in
from .writing import atomic_path, check_folder

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
MOST_PIXELS = {"JPEG": 65500, "WEBP": 16383}  # of a side: what libjpeg and the format itself allow
_LOSSY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
}
_Held = dict[int | tuple[int, int] | None, np.ndarray]


class Source:
    """A picture that is opened and decoded once.

    The camera's orientation tag is applied, an embedded ICC profile is converted to sRGB, transparency is composited on
    white, and grey, palette, CMYK and 16-bit pictures become 8-bit RGB.

    Parameters
    ----------
    picture : path, "sample:NAME", PIL.Image.Image, or array
        An array is ``(H, W, 3)`` float in [0, 1], or uint8 ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` (RGBA).
    enough : number, or None
        A large JPEG file need not be decoded to more than so many pixels of its long side; `math.inf` is all of them.
        None, too, but no more of them than Pillow's limit.

    Attributes
    ----------
    name : str
        What a record calls it: a file by its name alone, since a result is shown to others.
    shape : (H, W)
        As it was given.

    Raises
    ------
    PictureError
        If the file is not a picture, or broken, or too large; if an array has another shape or other values.
    OSError
        If the file cannot be read.
    """

    def __init__(self, picture: str | os.PathLike[str] | Image.Image | np.ndarray, enough: float | None = None) -> None:
        self.name = picture_name(picture)
        self._whole: np.ndarray | Image.Image
        self.shape: tuple[int, int]
        if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
            self._whole = _check_array(picture)
            self.shape = self._whole.shape[:2]
        else:
            self._whole, self.shape = decode(picture, enough)
        self._held: _Held = {}

    def kept(self, sizes: Iterable[int | None], shapes: Iterable[tuple[int, int]] = ()) -> Source:
        """The same picture, held `at` these sizes and `fit` to these shapes alone.

        What is asked of it beside these is made from the largest of the sizes.
        """
        at: _Held = {size: self.at(size) for size in sizes}
        fitted: _Held = {shape: self.fit(shape) for shape in shapes}
        kept = copy.copy(self)
        kept._held = at | fitted
        for image in kept._held.values():
            image.flags.writeable = False
        kept._whole = max((at or fitted).values(), key=lambda image: image.size)
        return kept

    @property
    def nbytes(self) -> int:
        """What it takes in memory, but for what is held at other sizes."""
        if isinstance(self._whole, np.ndarray):
            return self._whole.nbytes
        return PIXEL_BYTES * self._whole.width * self._whole.height

    @property
    def held(self) -> int:
        """The long side of the largest that is held."""
        return max(self._whole.shape[:2] if isinstance(self._whole, np.ndarray) else self._whole.size)

    def at(self, size: int | None) -> np.ndarray:
        """With this long side, the aspect ratio kept; as it is if None: ``(H, W, 3)`` float32, RGB in [0, 1]."""
        if size is not None and size < 1:
            raise PictureError(f"size is 1 pixel or more, not {size}")
        if size in self._held:
            return self._held[size]
        if isinstance(self._whole, np.ndarray):
            return _resize_array(self._whole, size)
        shape = fit_size(self.shape, size)
        same = self._whole.size[::-1] == shape
        return _to_array(self._whole if same else self._whole.resize(shape[::-1], Image.Resampling.LANCZOS))

    def fit(self, shape: tuple[int, int]) -> np.ndarray:
        """Scaled to cover `shape` and cropped to it around its centre: ``(H, W, 3)`` float32, RGB in [0, 1]."""
        if shape in self._held:
            return self._held[shape]
        if isinstance(self._whole, np.ndarray):
            if self._whole.shape[:2] == shape:
                return self._whole
            return _by_channel(self._whole, lambda c: ImageOps.fit(c, shape[::-1], Image.Resampling.LANCZOS))
        return _to_array(ImageOps.fit(self._whole, shape[::-1], Image.Resampling.LANCZOS))


Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Source
"""A path (or "sample:NAME"), a `PIL.Image.Image`, an array, or a `Source` of one of these."""


def opened(picture: Picture, enough: float | None = None) -> Source:
    """The picture, decoded now unless it was; `enough` as for `Source`."""
    return picture if isinstance(picture, Source) else Source(picture, enough)


def picture_name(picture: Picture) -> str:
    """What a record calls a picture: a file by its name alone, since a result is shown to others."""
    if isinstance(picture, Source):
        return picture.name
    if isinstance(picture, str) and picture.startswith(SAMPLE_PREFIX):
        return picture
    return Path(picture).name if isinstance(picture, str | os.PathLike) else type(picture).__name__


def load_image(picture: Picture, size: int | None = None) -> np.ndarray:
    """A picture as an array.

    Parameters
    ----------
    picture : as for `Source`, or a Source
    size : int, or None
        The long side of the result in pixels; the aspect ratio is kept. None keeps the picture's own size.

    Returns
    -------
    array ``(H, W, 3)``, float32, RGB in [0, 1]

    Raises
    ------
    PictureError, OSError
        As `Source`.
    """
    return opened(picture, None if size is None else math.inf).at(size)


def decoding(picture: Picture, enough: float | None = None) -> tuple[tuple[int, int], int]:
    """(H, W) of a picture as it was given, and the bytes that to decode it takes, `enough` of it.

    Of a file, its header alone is read. Errors as `Source`.
    """
    if isinstance(picture, str | os.PathLike):
        return header(picture, enough)
    source = opened(picture)
    return source.shape, source.nbytes


def fit_size(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
    """The (H, W) of a picture of this shape with another long side; as it is if None."""
    height, width = (side if size is None else max(1, round(side * size / max(shape))) for side in shape)
    return height, width


def fit_image(picture: Picture, shape: tuple[int, int]) -> np.ndarray:
    """A picture scaled to cover `shape` and cropped to it around its centre.

    Parameters
    ----------
    picture : as for `load_image`
    shape : (H, W), in pixels
        A float array of this shape already comes back as it is.

    Returns
    -------
    array ``(H, W, 3)``, float32, RGB in [0, 1]

    Raises
    ------
    PictureError, OSError
        As `Source`.
    """
    return opened(picture, math.inf).fit(shape)


def stretched(image: np.ndarray, shape: tuple[int, int], wraps: tuple[bool, bool]) -> np.ndarray:
    """A picture scaled to `shape`, whatever its proportions; where it wraps around, it is scaled among its repetitions.

    Parameters
    ----------
    image : array ``(H, W, 3)``, float32, RGB in [0, 1]
    shape : (H, W), in pixels
    wraps : (rows, columns)
    """
    if image.shape[:2] == shape:
        return image
    many = [3 if wrap else 1 for wrap in wraps]
    height, width = (n * count for n, count in zip(shape, many, strict=True))
    tiled = np.tile(image, (*many, 1))
    scaled = _by_channel(tiled, lambda channel: channel.resize((width, height), Image.Resampling.LANCZOS))
    return scaled[height // many[0] * (many[0] // 2) :, width // many[1] * (many[1] // 2) :][: shape[0], : shape[1]]


def save_image(
    path: str | os.PathLike[str], image: np.ndarray, settings: Mapping[str, Any] | None = None, depth: int = 8
) -> None:
    """Write an image as RGB, in the format that the suffix names; all of it, or nothing.

    PNG and TIFF are written by rows, a large TIFF in tiles, and one over 4 GB as a BigTIFF: that takes no memory to
    speak of beside the image. JPEG and WebP take 4 bytes a pixel, and what their encoders need.

    Parameters
    ----------
    path : path that ends in .png, .jpg, .jpeg, .webp, .tif or .tiff
    image : array ``(H, W, 3)``, RGB; values outside [0, 1] are clipped
    settings : mapping, or None
        JSON-serialisable; embedded in the file, where `read_settings` finds them: in a PNG as text, in a TIFF as its
        description, in JPEG and WebP as the comment of their EXIF data.
    depth : 8 or 16
        Bits of a value; 16 in PNG and TIFF alone.

    Raises
    ------
    PictureError
        If the suffix is not one of these, or the format has not so many bits or pixels.
    OSError
        If the folder does not exist, or the file cannot be written.
    """
    path = check_output(path, depth)
    check_fits(path, image.shape[:2])
    kind, text = FORMATS[path.suffix.lower()], None if settings is None else json.dumps(settings)
    with atomic_path(path) as temporary:
        if kind in _LOSSY:
            exif = {} if text is None else {"exif": comment(text)}
            _from_array(image).save(temporary, kind, **_LOSSY[kind], **exif)
            return
        with temporary.open("wb") as file:
            (write_png if kind == "PNG" else write_tiff)(file, image, depth, text)


def jpeg_bytes(image: Image.Image, size: int, quality: int = 85, **options: Any) -> bytes:
    """An RGB image as the bytes of a JPEG file, made smaller if its long side is more than `size`."""
    if max(image.size) > size:
        image = image.copy()
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "JPEG", quality=quality, **options)
    return written.getvalue()


def check_output(path: str | os.PathLike[str], depth: int = 8) -> Path:
    """`path` as a Path if a picture can be written there, so that one knows before the work.

    Raises
    ------
    PictureError
        If the suffix names no format, or one that has not so many bits.
    OSError
        If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise PictureError(f"{path}: cannot tell the format; end the name in one of {', '.join(FORMATS)}")
    if depth not in (8, 16):
        raise PictureError(f"depth is 8 or 16 bits, not {depth}")
    if depth == 16 and FORMATS[path.suffix.lower()] in _LOSSY:
        raise PictureError(f"{path}: {path.suffix} has 8 bits; PNG and TIFF have 16: end the name in .png or .tif")
    check_folder(path)
    return path


def check_fits(path: Path, shape: tuple[int, int]) -> None:
    """PictureError if the format of a name that `check_output` knows has not so many (rows, columns)."""
    most = MOST_PIXELS.get(FORMATS[path.suffix.lower()])
    if most is not None and max(shape) > most:
        raise PictureError(
            f"{path}: {path.suffix} goes up to {most} pixels a side, and the picture has {shape[1]} x {shape[0]}: "
            "end the name in .png or .tif"
        )


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that `save_image` embedded in a picture.

    Raises
    ------
    PictureError
        If the file is not a picture or carries no settings.
    """
    with opening(path) as image:
        if SETTINGS_KEY not in image.info:  # as it is in a PNG that another program wrote anew, at its end perhaps
            check_pixels(image, path, None)
            with unlimited():
                image.load()
        text = text_in(image)
    try:
        return json.loads(text or "")
    except (TypeError, ValueError) as error:
        raise PictureError(
            f"{path}: no nsnumpy settings in this file; a picture that nsnumpy wrote carries them"
        ) from error


def _resize_array(image: np.ndarray, size: int | None) -> np.ndarray:
    """As `_resize`, in float: an array keeps the precision that it came with."""
    shape = fit_size((image.shape[0], image.shape[1]), size)
    if shape == image.shape[:2]:
        return image
    return _by_channel(image, lambda channel: channel.resize(shape[::-1], Image.Resampling.LANCZOS))


def _by_channel(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """A change of each channel of a float image, as Pillow has no colour images in float; clipped to [0, 1]."""
    channels = [np.asarray(change(Image.fromarray(image[..., c]))) for c in range(3)]
    return np.stack(channels, axis=-1).clip(0, 1)


def _check_array(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise PictureError(f"an array (H, W, 3) expected; shape {image.shape} given")
    if not np.isfinite(image).all():
        raise PictureError("the picture holds values that are not finite")
    if image.min() < -1e-6 or image.max() > 1 + 1e-6:  # rounding may go a little beyond
        raise PictureError(
            f"a float picture has values in [0, 1]; these go from {image.min():g} to {image.max():g}: "
            "divide by 255, or convert to uint8"
        )
    return image.clip(0, 1).astype(np.float32)


def _to_array(image: Image.Image) -> np.ndarray:
    values = np.asarray(image, dtype=np.float32)
    values /= 255  # in place: no second copy
    return values


def _from_array(image: np.ndarray) -> Image.Image:
    made, top = Image.new("RGB", (image.shape[1], image.shape[0])), 0
    for band in bands(image, 8):  # for no copy of the whole but this one
        made.paste(Image.fromarray(band), (0, top))
        top += len(band)
    return made


def to_bytes(image: np.ndarray) -> np.ndarray:
    """An image in 8 bits, as it is written: ``(H, W, 3)`` uint8; values outside [0, 1] are clipped."""
    return quantised(image)
