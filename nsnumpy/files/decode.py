"""A picture file, a PIL image or an array as an 8-bit RGB image: upright, opaque, in sRGB."""

from __future__ import annotations

import io
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError, features

from ..ending import line_of
from ..machine import available_bytes
from .chunks import coding, has_late_metadata, unread_tiff
from .samples import SAMPLE_PREFIX, SAMPLES, sample_names

READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", *(("AVIF",) if features.check("avif") else ()))
"""Pillow knows more, some of which run other programs."""
HEIF_SUFFIXES = (".heic", ".heif")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
PIXEL_BYTES = 4  # that Pillow keeps of an RGB image
_ROWS = 64  # of a grey picture that are converted at a time
_ORIENTATION_TAG = 0x0112  # of EXIF
_PHOTOMETRIC_TAG = 0x0106  # of TIFF
_SRGB_CODE = 1, 13  # of PNG's cICP
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_limit = threading.Lock()  # while Pillow's is changed


class PictureError(ValueError):
    """A picture that cannot be used; the message names it and says what is wrong."""


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
    except ValueError as error:
        if "Decompressed data too large" in str(error):  # a PNG's texts, or its profile
            raise PictureError(f"{name}: a text or a profile in it is too large; save it anew without") from error
        raise PictureError(f"{name}: broken or truncated picture ({line_of(error)})") from error
    except Exception as error:  # for broken data Pillow's readers raise nearly anything
        raise PictureError(f"{name}: broken or truncated picture ({line_of(error)})") from error


def decode(
    picture: str | os.PathLike[str] | Image.Image | np.ndarray, enough: float | None = None, ground: str = "white"
) -> tuple[Image.Image, tuple[int, int]]:
    """Any accepted picture as an 8-bit RGB image, upright, in sRGB; and the (H, W) that it has in full.

    Parameters
    ----------
    picture : path, "-" for standard input, "sample:NAME", image, or array
    enough : number, or None
        A JPEG file is decoded at a half, a quarter or an eighth where its long side is at least that even so: that
        takes a fraction of the time and the memory. With None there is Pillow's limit on pixels, since nobody has
        named a size; with `math.inf` all of them are decoded that memory has room for.
    ground : str
        The colour that shows through where it is transparent.

    Raises
    ------
    PictureError
        If it cannot be used.
    OSError
        If the file cannot be read.
    """
    if isinstance(picture, Image.Image):
        return _in_full(_normalise(picture, "picture", ground))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))):
            raise PictureError(
                "an array (H, W, 3) of float in [0, 1], or of uint8, expected; "
                f"{picture.dtype} of shape {picture.shape} given"
            )
        return _in_full(_normalise(Image.fromarray(picture), "picture", ground))
    if isinstance(picture, str) and picture.startswith(SAMPLE_PREFIX):
        return _in_full(_open_sample(picture.removeprefix(SAMPLE_PREFIX)).convert("RGB"))
    if not isinstance(picture, str | os.PathLike):
        raise TypeError(f"a path, a PIL image or an array expected, {type(picture).__name__} given")
    with opening(picture) as image:
        if image.format == "PNG" and image.fp:  # of which Pillow decodes the pixels, in search of EXIF behind them
            check_pixels(image, picture, enough)
            image.info["cicp"] = coding(image.fp)
        shape = _upright_shape(image, image.getexif())
        reduce(image, enough)
        check_pixels(image, picture, enough)
        with unlimited():
            frames = getattr(image, "n_frames", 1)
            image.load()
        if frames > 1:
            warnings.warn(f"{picture}: the first of its {frames} pictures is taken", stacklevel=2)
            return _normalise(image.copy(), picture, ground), shape  # which does not look into the file again
        return _normalise(image, picture, ground), shape


def _in_full(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    return image, (image.height, image.width)


@contextmanager
def opening(picture: str | os.PathLike[str]) -> Iterator[ImageFile.ImageFile]:
    """The file, not decoded yet, however large: see `check_pixels`; errors as `decode`."""
    path, formats = at_home(picture), READABLE
    with reading(picture):
        if path.suffix.lower() in HEIF_SUFFIXES:
            formats = (*READABLE, _heif(picture))
        file = _once(path)
        try:
            with unlimited():
                opened = Image.open(file, formats=formats)
        except UnidentifiedImageError:
            if what := unread_tiff(file):
                raise PictureError(
                    f"{picture}: a TIFF of {what}, which is not read; save it with 8 or 16 bits a value"
                ) from None
            raise
        with opened as image:
            yield image


_lifted: list[int | None] = []  # Pillow's limit, while it has none


@contextmanager
def unlimited() -> Iterator[None]:
    """Pillow opens pictures of any size meanwhile."""
    with _limit:
        _lifted.append(before := Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
            _lifted.pop()


def check_pixels(image: Image.Image, name: object, enough: float | None) -> None:
    """PictureError if a picture has more pixels than Pillow's limit, and nobody named the size that it is wanted at, or
    memory has no room for them."""
    most = _lifted[-1] if _lifted else Image.MAX_IMAGE_PIXELS  # another thread may have lifted it just now
    if most is None or image.width * image.height <= 2 * most:
        return
    sides = f"{image.width} x {image.height} pixels"
    if enough is None:
        raise PictureError(f"{name}: too many pixels, {sides}; name the size to take it at, or scale it down first")
    takes, room = 2 * PIXEL_BYTES * image.width * image.height, available_bytes()
    if room is not None and takes > room:
        raise PictureError(
            f"{name}: {sides} take about {takes / 1e9:.2f} GB of memory to decode, and {room / 1e9:.2f} GB are to be "
            "had: scale it down first"
        )


def _heif(name: object) -> str:
    """Pillow's name for the format, once it knows it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise PictureError(f"{name}: a HEIC picture needs pillow-heif: pip install pillow-heif") from error
    register_heif_opener()
    return "HEIF"


def is_stream(picture: str | os.PathLike[str]) -> bool:
    """Whether a picture can be read once only: from standard input, or from a pipe."""
    path = at_home(picture)
    with suppress(OSError):
        return not stat.S_ISREG(path.stat().st_mode) and not path.is_dir()
    return str(path) == "-"


def _once(path: Path) -> Path | io.BytesIO:
    """Pillow goes back and forth, which a pipe does not."""
    if not is_stream(path):
        return path
    return io.BytesIO(path.read_bytes() if path.exists() else sys.stdin.buffer.read())


def reduce(image: Image.Image, enough: float | None) -> None:
    """Let a JPEG file be decoded at a fraction of its size, if that is `enough`; its short side stays 64 at least."""
    if image.format == "JPEG" and enough is not None:
        width, height = image.size
        factor = min(max(width, height) / enough, min(width, height) / 64)
        if factor >= 2:
            image.draft(None, (int(width / factor), int(height / factor)))


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with "~" at its beginning as the home folder, which a shell leaves as it is within quotes."""
    path = Path(path)
    return path.expanduser() if path.parts[:1] == ("~",) else path


def header(picture: str | os.PathLike[str], enough: float | None = None) -> tuple[tuple[int, int], int]:
    """Of a picture file, from its header alone: (H, W) upright, and the bytes that to `decode` it takes at most."""
    if isinstance(picture, str) and picture.startswith(SAMPLE_PREFIX):
        shape = _open_sample(picture.removeprefix(SAMPLE_PREFIX)).size[::-1]
        return shape, PIXEL_BYTES * shape[0] * shape[1]
    with opening(picture) as image:
        # Of a PNG Pillow's own would decode all pixels in search of what may stand behind them.
        early = image.format == "PNG" and not has_late_metadata(at_home(picture))
        if image.format == "PNG" and not early:
            check_pixels(image, picture, enough)
        exif = Image.Image.getexif(image) if early else image.getexif()
        shape = _upright_shape(image, exif)
        copies = 1 if image.mode == "RGB" and exif.get(_ORIENTATION_TAG, 1) == 1 else 2
        reduce(image, enough)
        return shape, copies * PIXEL_BYTES * image.size[0] * image.size[1]


def _upright_shape(image: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    # Pillow may have turned a TIFF's size already, which depends on its version; the file's own tags tell.
    tags = getattr(image, "tag_v2", {})
    width, height = (tags[256], tags[257]) if image.format == "TIFF" else image.size
    return (width, height) if exif.get(_ORIENTATION_TAG) in (5, 6, 7, 8) else (height, width)


def _open_sample(name: str) -> Image.Image:
    if name not in sample_names():
        raise PictureError(f"{SAMPLE_PREFIX}{name}: no such sample; choose from {', '.join(sample_names())}")
    return Image.open(io.BytesIO((SAMPLES / f"{name}.jpg").read_bytes()))


def _normalise(image: Image.Image, name: object, ground: str) -> Image.Image:
    negative = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0  # which Pillow minds in 8 bits only
    turn = _ORIENTATIONS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    if turn is not None:
        image = image.transpose(turn)
    info, alpha = image.info, _alpha(image)
    image = _opaque(image, name, negative)
    if code := info.get("cicp"):
        if code == _SRGB_CODE:  # which is worth more than what else is said of its colours
            info = {}
        else:
            instead = "its colour profile is taken" if info.get("icc_profile") else "taken as sRGB"
            said = f"its colours are those of cICP {code[0]}, {code[1]}, which are not converted; {instead}"
            warnings.warn(f"{name}: {said}", stacklevel=3)
    if info.get("icc_profile"):
        image = _to_srgb(image, info["icc_profile"], name)
    elif image.mode == "CMYK":
        warnings.warn(f"{name}: CMYK without a colour profile; its colours are a plain guess", stacklevel=3)
    elif "gamma" in info and "srgb" not in info:
        image = _from_gamma(image, info["gamma"])
    image = image if image.mode == "RGB" else image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, ground), alpha)
    return image


def _alpha(image: Image.Image) -> Image.Image | None:
    """The opacity as an "L" image, or None if the picture is opaque."""
    if image.mode.startswith("I") and "transparency" in image.info:  # which Pillow does not convert
        return Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA").getchannel("A")
    return None


def _opaque(image: Image.Image, name: object, negative: bool) -> Image.Image:
    """The colours alone, in 8 bits: mode "L", "CMYK" or "RGB"; `negative` if 0 is white where Pillow does not mind."""
    # Pillow keeps grey pictures of more than 8 bits in modes whose plain conversion clips instead of scaling.
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in ("P", "PA", "RGBa"):
        return image.convert("RGBA").convert("RGB")
    if image.mode != "F" and not image.mode.startswith("I"):
        return image if image.mode in ("L", "CMYK", "RGB") else image.convert("RGB")
    grey, factor = np.asarray(image), 255 if image.mode == "F" else 1 / 257  # 65535 to 255
    made = np.empty(grey.shape, np.uint8)
    for top in range(0, len(grey), _ROWS):
        values = grey[top : top + _ROWS].astype(np.float64) * factor
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255.5):
            raise PictureError(f"{name}: grey values outside the 16-bit range or, in a float picture, outside [0, 1]")
        made[top : top + _ROWS] = np.rint(255 - values if negative else values)
    return Image.fromarray(made)


def _from_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """A picture whose values are intensity to the power of gamma, with sRGB's curve instead.

    References: PNG specification, third edition, 11.3.2.2; IEC 61966-2-1.
    """
    if not 0.1 < gamma < 10 or abs(2.2 * gamma - 1) < 0.05:  # nonsense, or near enough to sRGB's
        return image
    curve = srgb_curve((np.arange(256) / 255) ** (1 / gamma))
    return image.point([int(value) for value in np.rint(255 * curve)] * len(image.getbands()))


def srgb_curve(intensity: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1], of any shape, as sRGB writes them, in [0, 1] (IEC 61966-2-1)."""
    return np.where(intensity <= 0.0031308, 12.92 * intensity, 1.055 * intensity ** (1 / 2.4) - 0.055)


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
