"""Picture files, PIL images and arrays to ``(H, W, 3)`` float32, RGB in [0, 1], and back."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from .files import atomic_path, check_folder

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""A path (or "sample:NAME"), a `PIL.Image.Image`, or an array."""

SAMPLE_PREFIX = "sample:"
SETTINGS_KEY = "nsnumpy"
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Pillow knows more, some of which run other programs."""
_ORIENTATION_TAG = 0x0112  # of EXIF
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAVE_OPTIONS = {
    "PNG": {"optimize": True},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
    "TIFF": {"compression": "tiff_deflate"},
}


class PictureError(ValueError):
    """A picture that cannot be used; the message names it and says what is wrong."""


def sample_names() -> list[str]:
    """The names of the bundled pictures, each to be given as "sample:NAME"."""
    folder = resources.files("nsnumpy") / "data" / "samples"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if Path(entry.name).suffix in FORMATS)


def load_image(picture: Picture, size: int | None = None) -> np.ndarray:
    """A picture as an array.

    The camera's orientation tag is applied, an embedded ICC profile is converted to sRGB, transparency is composited on
    white, and grey, palette, CMYK and 16-bit pictures become 8-bit RGB.

    Parameters
    ----------
    picture : path, "sample:NAME", PIL.Image.Image, or array
        An array is ``(H, W, 3)`` float in [0, 1], or uint8 ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` (RGBA).
    size : int, or None
        The long side of the result in pixels; the aspect ratio is kept. None keeps the picture's own size.

    Returns
    -------
    array ``(H, W, 3)``, float32, RGB in [0, 1]

    Raises
    ------
    PictureError
        If the file is not a picture, or broken, or too large; if an array has another shape or other values.
    OSError
        If the file cannot be read.
    """
    if size is not None and size < 1:
        raise PictureError(f"size is 1 pixel or more, not {size}")
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        return _resize_array(_check_array(picture), size)
    return _to_array(_resize(_open(picture), size))


def image_shape(picture: Picture) -> tuple[int, int]:
    """(H, W) of a picture as it is; errors as in `load_image`."""
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        return _check_array(picture).shape[:2]
    return _open(picture).size[::-1]


def fit_size(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
    """The (H, W) that `load_image` gives to a picture of this shape."""
    return shape if size is None else _scaled(shape, size)


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
        As `load_image`.
    """
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        image = _check_array(picture)
        if image.shape[:2] == shape:
            return image
        return _by_channel(image, lambda channel: ImageOps.fit(channel, shape[::-1], Image.Resampling.LANCZOS))
    return _to_array(ImageOps.fit(_open(picture), shape[::-1], Image.Resampling.LANCZOS))


def save_image(path: str | os.PathLike[str], image: np.ndarray, settings: Mapping[str, Any] | None = None) -> None:
    """Write an image as 8-bit RGB, in the format that the suffix names; all of it, or nothing.

    Parameters
    ----------
    path : path that ends in .png, .jpg, .jpeg, .webp, .tif or .tiff
    image : array ``(H, W, 3)``, RGB; values outside [0, 1] are clipped
    settings : mapping, or None
        JSON-serialisable; embedded in a PNG, where `read_settings` finds them. The other formats do not carry them.

    Raises
    ------
    PictureError
        If the suffix is not one of these.
    OSError
        If the folder does not exist, or the file cannot be written.
    """
    path = check_output(path)
    kind = FORMATS[path.suffix.lower()]
    options: dict[str, Any] = dict(_SAVE_OPTIONS[kind])
    if settings is not None and kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(SETTINGS_KEY, json.dumps(settings))
    with atomic_path(path) as temporary:
        _from_array(image).save(temporary, kind, **options)


def check_output(path: str | os.PathLike[str]) -> Path:
    """`path` as a Path if a picture can be written there, so that one knows before the work.

    Raises
    ------
    PictureError
        If the suffix names no format.
    OSError
        If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise PictureError(f"{path}: cannot tell the format; end the name in one of {', '.join(FORMATS)}")
    check_folder(path)
    return path


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that `save_image` embedded in a PNG.

    Raises
    ------
    PictureError
        If the file is not a picture or carries no settings.
    """
    with _reading(path), Image.open(path, formats=_READABLE) as image:
        image.load()
        text = image.info.get(SETTINGS_KEY)
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise PictureError(
            f"{path}: no nsnumpy settings in this file; only a PNG that nsnumpy wrote carries them"
        ) from error


@contextmanager
def _reading(name: object) -> Iterator[None]:
    """Pillow's many errors about a broken file as one, with the file's name."""
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise PictureError(f"{name}: is a folder, not a picture") from error
    except PermissionError as error:
        raise PictureError(f"{name}: may not be read by this user") from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a picture that can be read; use JPEG, PNG, WebP or TIFF") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: too many pixels; scale it down first") from error
    except Exception as error:  # for broken data Pillow's readers raise nearly anything
        raise PictureError(f"{name}: broken or truncated picture ({' '.join(str(error).split())})") from error


def _open(picture: Picture) -> Image.Image:
    """Any accepted picture as an 8-bit RGB image, upright, in sRGB."""
    if isinstance(picture, Image.Image):
        return _normalise(picture, "picture")
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))):
            raise PictureError(
                "an array (H, W, 3) of float in [0, 1], or of uint8, expected; "
                f"{picture.dtype} of shape {picture.shape} given"
            )
        return _normalise(Image.fromarray(picture), "picture")
    if isinstance(picture, str) and picture.startswith(SAMPLE_PREFIX):
        return _open_sample(picture.removeprefix(SAMPLE_PREFIX))
    if not isinstance(picture, str | os.PathLike):
        raise TypeError(f"a path, a PIL image or an array expected, {type(picture).__name__} given")
    with _reading(picture), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large pictures are welcome; bombs still raise
        with Image.open(picture, formats=_READABLE) as image:
            image.load()
            return _normalise(image, picture)


def _open_sample(name: str) -> Image.Image:
    if name not in sample_names():
        raise PictureError(f"{SAMPLE_PREFIX}{name}: no such sample; choose from {', '.join(sample_names())}")
    folder = resources.files("nsnumpy") / "data" / "samples"
    file = next(entry for entry in folder.iterdir() if Path(entry.name).stem == name)
    return Image.open(io.BytesIO(file.read_bytes())).convert("RGB")


def _normalise(image: Image.Image, name: object) -> Image.Image:
    turn = _ORIENTATIONS.get(image.getexif().get(_ORIENTATION_TAG))
    if turn is not None:
        image = image.transpose(turn)
    profile = image.info.get("icc_profile")
    alpha = _alpha(image)
    image = _opaque(image, name)
    if profile:
        image = _to_srgb(image, profile, name)
    image = image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return image


def _alpha(image: Image.Image) -> Image.Image | None:
    """The opacity as an "L" image, or None if the picture is opaque."""
    if image.mode.startswith("I") and "transparency" in image.info:  # which Pillow does not convert
        return Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA").getchannel("A")
    return None


def _opaque(image: Image.Image, name: object) -> Image.Image:
    """The colours alone, in 8 bits: mode "L", "CMYK" or "RGB"."""
    # Pillow keeps grey pictures of more than 8 bits in modes whose plain conversion clips instead of scaling.
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64) / 257  # 65535 to 255
    elif image.mode == "F":
        values = np.asarray(image).astype(np.float64) * 255
    elif image.mode in ("1", "LA", "La"):
        return image.convert("L")
    elif image.mode in ("P", "PA", "RGBa"):
        return image.convert("RGBA").convert("RGB")
    else:
        return image if image.mode in ("L", "CMYK", "RGB") else image.convert("RGB")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255.5):
        raise PictureError(f"{name}: grey values outside the 16-bit range or, in a float picture, outside [0, 1]")
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes, name: object) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "GRAY" and image.mode == "RGB":  # a format without grey pictures, WebP for one
            image = image.convert("L")
        elif space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        warnings.warn(f"{name}: its ICC profile cannot be used ({error}); taken as sRGB", stacklevel=2)
        return image


def _resize(image: Image.Image, size: int | None) -> Image.Image:
    if size is None or size == max(image.size):
        return image
    return image.resize(_scaled(image.size, size), Image.Resampling.LANCZOS)


def _resize_array(image: np.ndarray, size: int | None) -> np.ndarray:
    """As `_resize`, in float: an array keeps the precision that it came with."""
    height, width = image.shape[:2]
    if size is None or size == max(height, width):
        return image
    return _by_channel(image, lambda channel: channel.resize(_scaled((width, height), size), Image.Resampling.LANCZOS))


def _by_channel(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """A change of each channel of a float image, as Pillow has no colour images in float; clipped to [0, 1]."""
    channels = [np.asarray(change(Image.fromarray(image[..., c]))) for c in range(3)]
    return np.stack(channels, axis=-1).clip(0, 1)


def _scaled(sides: tuple[int, int], size: int) -> tuple[int, int]:
    first, second = (max(1, round(side * size / max(sides))) for side in sides)
    return first, second


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
    return np.asarray(image, dtype=np.float32) / 255


def _from_array(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
