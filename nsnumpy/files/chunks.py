"""What PNG and TIFF files say that Pillow does not tell."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import TiffImagePlugin

_BITS_TAG, _SAMPLE_FORMAT_TAG = 0x0102, 0x0153  # of TIFF
_USUAL = (1, 2, 4, 8, 16)  # bits of a value


def chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG file, which stands at the chunk's data then."""
    file.seek(8)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        after = file.tell() + length + 4
        yield kind, length
        file.seek(after)


def has_late_metadata(path: Path) -> bool:
    """Whether a PNG file has texts or EXIF after its pixels."""
    begun = False
    with path.open("rb") as file:
        for kind, _ in chunks(file):
            if begun and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            begun = begun or kind == b"IDAT"
    return False


def coding(file: IO[bytes]) -> tuple[int, int] | None:
    """The numbers of a PNG's primaries and its transfer function, if it has a chunk that says so before its pixels; the
    file stands where it did.

    References: PNG specification, third edition, 11.3.2.6 (cICP); ITU-T H.273, for the numbers.
    """
    before = file.tell()
    try:
        for kind, length in chunks(file):
            if kind == b"IDAT":
                return None
            if kind == b"cICP" and length == 4:
                primaries, transfer, _, _ = file.read(4)
                return primaries, transfer
        return None
    finally:
        file.seek(before)


def unread_tiff(file: Path | io.BytesIO) -> str:
    """What a TIFF has for pixels that Pillow cannot read, or "": if it is none, or broken."""
    with contextlib.ExitStack() as stack, contextlib.suppress(Exception):  # Pillow raises nearly anything
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stream: IO[bytes] = file if isinstance(file, io.BytesIO) else stack.enter_context(file.open("rb"))
        stream.seek(0)
        start = stream.read(16)
        tags = TiffImagePlugin.ImageFileDirectory_v2(start if start[2] == 43 else start[:8])
        stream.seek(tags.next)
        tags.load(stream)
        bits, kind = tags[_BITS_TAG], {2: "signed ", 3: "float "}.get(tags.get(_SAMPLE_FORMAT_TAG, (1,))[0], "")
        if kind or bits[0] not in _USUAL:
            return f"{len(bits)} {kind}values of {bits[0]} bits a pixel"
    return ""
