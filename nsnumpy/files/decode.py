"""A picture file, a PIL image or an array as an 8-bit RGB image: upright, opaque, in sRGB."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

SAMPLE_PREFIX = "sample:"
READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Pillow knows more, some of which run other programs."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
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


class PictureError(ValueError):
    """A picture that cannot be used; the message names it and says what is wrong."""


def sample_names() -> list[str]:
    """The names of the bundled pictures, each to be given as "sample:NAME"."""
    folder = resources.files("nsnumpy") / "data" / "samples"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if Path(entry.name).suffix in SUFFIXES)


@contextmanager
def reading(name: object) -> Iterator[None]:
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
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a picture that can be read; use JPEG, PNG, WebP or TIFF") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: too many pixels; scale it down first") from error
    except Exception as error:  # for broken data Pillow's readers raise nearly anything
        raise PictureError(f"{name}: broken or truncated picture ({' '.join(str(error).split())})") from error


def decode(picture: str | os.PathLike[str] | Image.Image | np.ndarray) -> Image.Image:
    """Any accepted picture as an 8-bit RGB image, upright, in sRGB.

    Raises
    ------
    PictureError
        If it cannot be used.
    OSError
        If the file cannot be read.
    """
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
        return _open_sample(picture.removeprefix(SAMPLE_PREFIX)).convert("RGB")
    if not isinstance(picture, str | os.PathLike):
        raise TypeError(f"a path, a PIL image or an array expected, {type(picture).__name__} given")
    with reading(picture), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large pictures are welcome; bombs still raise
        with Image.open(at_home(picture), formats=READABLE) as image:
            image.load()
            return _normalise(image, picture)


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with "~" at its beginning as the home folder, which a shell leaves as it is within quotes."""
    path = Path(path)
    return path.expanduser() if path.parts[:1] == ("~",) else path


def header_size(picture: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) of a picture file, upright, from its header alone; errors as `decode`, of what that shows."""
    if isinstance(picture, str) and picture.startswith(SAMPLE_PREFIX):
        return _open_sample(picture.removeprefix(SAMPLE_PREFIX)).size[::-1]
    with reading(picture), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(at_home(picture), formats=READABLE) as image:
            # Of a PNG Pillow's own would decode all pixels in search of what may stand behind them.
            early = image.format == "PNG" and not _has_late_metadata(picture)
            exif = Image.Image.getexif(image) if early else image.getexif()
            # Pillow may have turned a TIFF's size already, which depends on its version; the file's own tags tell.
            width, height = (image.tag_v2[256], image.tag_v2[257]) if hasattr(image, "tag_v2") else image.size
            return (width, height) if exif.get(_ORIENTATION_TAG) in (5, 6, 7, 8) else (height, width)


def _has_late_metadata(path: str | os.PathLike[str]) -> bool:
    """Whether a PNG file has texts or EXIF after its pixels."""
    with at_home(path).open("rb") as file:
        file.seek(8)
        begun = False
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if begun and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            begun = begun or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
    return False


def _open_sample(name: str) -> Image.Image:
    if name not in sample_names():
        raise PictureError(f"{SAMPLE_PREFIX}{name}: no such sample; choose from {', '.join(sample_names())}")
    folder = resources.files("nsnumpy") / "data" / "samples"
    file = next(entry for entry in folder.iterdir() if Path(entry.name).stem == name)
    return Image.open(io.BytesIO(file.read_bytes()))


def _normalise(image: Image.Image, name: object) -> Image.Image:
    turn = _ORIENTATIONS.get(image.getexif().get(_ORIENTATION_TAG, 1))
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
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert converted is not None  # as it is for a change in place
        return converted
    except (ImageCms.PyCMSError, OSError) as error:
        warnings.warn(f"{name}: its ICC profile cannot be used ({error}); taken as sRGB", stacklevel=2)
        return image
