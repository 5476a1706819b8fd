"""The text that a result carries, its settings: in a PNG as text, in a TIFF as its description, in JPEG and WebP as the
comment of their EXIF data."""

from __future__ import annotations

from PIL import ExifTags, Image

SETTINGS_KEY = "nsnumpy"
_PREFIX = f"{SETTINGS_KEY}: "
_ASCII = b"ASCII\0\0\0"  # as EXIF wants a comment begun


def description(text: str) -> str:
    """A TIFF's."""
    return _PREFIX + text


def comment(text: str) -> Image.Exif:
    """The EXIF data of a JPEG or WebP file; the text is ASCII."""
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: _ASCII + description(text).encode("ascii")}
    return exif


def text_in(image: Image.Image) -> str | None:
    """The text in a file of any of these formats, if there is one."""
    if SETTINGS_KEY in image.info:
        return image.info[SETTINGS_KEY]
    marked = getattr(image, "tag_v2", {}).get(ExifTags.Base.ImageDescription)
    found = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(found, bytes):
        marked = found.removeprefix(_ASCII).decode("ascii", errors="replace")
    return marked.removeprefix(_PREFIX) if isinstance(marked, str) and marked.startswith(_PREFIX) else None
