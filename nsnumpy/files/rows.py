"""PNG and TIFF files written a few rows at a time, so that writing takes no second copy of the picture.

Both keep 8 or 16 bits of a value, without loss, and compress with zlib. Pillow wants the whole picture in 8 bits first.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from .texts import SETTINGS_KEY, description

BAND = 1 << 17  # pixels that are converted at a time
CLASSIC = 1 << 32  # bytes that a TIFF file can have, whose offsets are of 32 bits; BigTIFF's are of 64
TILED, TILE = 4096, 256  # the side from which on a TIFF is in tiles, and theirs
_IDAT = 1 << 16  # bytes of a chunk of compressed pixels


def quantised(image: np.ndarray, depth: int = 8) -> np.ndarray:
    """A picture as it is written: ``(H, W, 3)``, uint8 or uint16 by `depth`; values outside [0, 1] are clipped."""
    return np.rint(np.clip(image, 0, 1) * (2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)


def bands(image: np.ndarray, depth: int, multiple: int = 1) -> Iterator[np.ndarray]:
    """The same a few rows at a time, `multiple` or a multiple of it, but for the last ones."""
    rows = max(1, BAND // image.shape[1] // multiple) * multiple
    for top in range(0, len(image), rows):
        yield quantised(image[top : top + rows], depth)


def write_png(file: BinaryIO, image: np.ndarray, depth: int = 8, text: str | None = None) -> None:
    """Write a picture as a PNG; what it is written to need not be a file that can go back.

    Parameters
    ----------
    file : binary file
    image : array ``(H, W, 3)``, RGB; values outside [0, 1] are clipped
    depth : 8 or 16
    text : str, or None
        What `text_in` finds again.

    References: PNG specification, third edition, 5.3, 9.2 and 12.7 (which filter to choose).
    """
    height, width = image.shape[:2]
    file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, 2, 0, 0, 0)))
    if text is not None:
        file.write(_chunk(b"iTXt", SETTINGS_KEY.encode() + bytes(5) + text.encode()))
    packed = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)  # 0.7 % more than 9 leaves, in half the time
    pixel = 3 * depth // 8
    waiting = bytearray()
    above = np.zeros(width * pixel, np.uint8)
    for band in bands(image, depth):
        rows = band.astype(band.dtype.newbyteorder(">"), copy=False).reshape(len(band), -1).view(np.uint8)
        waiting += packed.compress(_filtered(rows, above, pixel))
        above = rows[-1]
        while len(waiting) >= _IDAT:
            file.write(_chunk(b"IDAT", bytes(waiting[:_IDAT])))
            del waiting[:_IDAT]
    file.write(_chunk(b"IDAT", bytes(waiting + packed.flush())) + _chunk(b"IEND", b""))


def png_bytes(image: np.ndarray) -> bytes:
    """An image ``(H, W, 3)``, RGB, as the bytes of a PNG file; values outside [0, 1] are clipped."""
    written = io.BytesIO()
    write_png(written, image)
    return written.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _filtered(rows: np.ndarray, above: np.ndarray, pixel: int) -> bytes:
    """Rows of bytes, each less what its filter predicts from its neighbours, the number of the filter before it: the
    filter is the one that leaves the least sum of absolute values."""
    up = np.concatenate([above[None], rows[:-1]])
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, pixel:], corner[:, pixel:] = rows[:, :-pixel], up[:, :-pixel]
    mean = (left & up) + ((left ^ up) >> 1)  # rounded down, without a carry that a byte has no room for
    filtered = [rows - predicted for predicted in (np.uint8(0), left, up, mean, _paeth(left, up, corner))]
    sums = [np.minimum(rest, 0 - rest).sum(axis=1, dtype=np.int64) for rest in filtered]  # as signed bytes
    best = np.argmin(sums, axis=0)
    made = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    made[:, 0] = best
    for number, rest in enumerate(filtered):
        made[best == number, 1:] = rest[best == number]
    return made.tobytes()


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Of three neighbours the one nearest to left + up - corner."""
    a, b, c = (neighbour.astype(np.int16) for neighbour in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)


def write_tiff(
    file: BinaryIO, image: np.ndarray, depth: int = 8, text: str | None = None, limit: int = CLASSIC
) -> None:
    """Write a picture as a TIFF: in strips, or from a side of `TILED` pixels on in tiles; as a BigTIFF if it may get
    larger than a TIFF can be.

    Parameters
    ----------
    file : binary file that can go back
    image : array ``(H, W, 3)``, RGB; values outside [0, 1] are clipped
    depth : 8 or 16
    text : str, or None
        ASCII; `text_in` finds it again.
    limit : int
        Bytes that a TIFF can have.

    References: TIFF 6.0, sections 2, 14 (the predictor) and 15 (tiles); TIFF Technical Note 3 (deflate); the BigTIFF
    design of libtiff.
    """
    height, width = image.shape[:2]
    tiled = max(height, width) >= TILED
    block = (TILE, TILE) if tiled else (max(1, min(height, BAND // width)), width)
    down, across = (-(-side // part) for side, part in zip((height, width), block, strict=True))
    raw = down * across * block[0] * block[1] * 3 * depth // 8
    big = raw + raw // 1000 + 64 * down * across + len(text or "") + 1024 > limit  # what deflate can add to the raw
    file.write(b"II+\0\x08\0\0\0" + bytes(8) if big else b"II*\0" + bytes(4))
    offsets, counts = [], []
    for band in bands(image, depth, block[0]):
        for top in range(0, len(band), block[0]):
            for x in range(0, width, block[1]):
                part = band[top : top + block[0], x : x + block[1]]
                if tiled:  # those at the edge are whole ones, too
                    beyond = [(0, side - has) for side, has in zip(block, part.shape, strict=False)]
                    part = np.pad(part, [*beyond, (0, 0)], mode="edge")
                offsets.append(file.tell())
                counts.append(file.write(zlib.compress(_differences(part))))
    whole = (16, "Q") if big else (4, "I")
    short, ascii_ = (3, "H"), (2, "B")
    tags: dict[int, tuple[tuple[int, str], list[int] | bytes]] = {
        256: (whole, [width]), 257: (whole, [height]), 258: (short, [depth] * 3), 259: (short, [8]), 262: (short, [2]),
        277: (short, [3]), 284: (short, [1]), 317: (short, [2]),
    }  # fmt: skip
    if text is not None:
        tags[270] = ascii_, description(text).encode("ascii") + b"\0"
    if tiled:
        tags |= {322: (short, [TILE]), 323: (short, [TILE]), 324: (whole, offsets), 325: (whole, counts)}
    else:
        tags |= {273: (whole, offsets), 278: (whole, [block[0]]), 279: (whole, counts)}
    _write_tags(file, tags, big)


def _differences(part: np.ndarray) -> bytes:
    """Each value less that of the pixel before it in its row, little-endian."""
    part = part.astype(part.dtype.newbyteorder("<"))
    part[:, 1:] -= part[:, :-1]  # NumPy minds that they overlap
    return part.tobytes()


def _write_tags(file: BinaryIO, tags: dict[int, tuple[tuple[int, str], list[int] | bytes]], big: bool) -> None:
    """The directory at the end of the file, and at its beginning where that is."""
    head, entry, room = ("<Q", "<2HQ", 8) if big else ("<H", "<2HI", 4)
    directory = io.BytesIO()
    file.write(bytes(-file.tell() % 8))
    start = file.tell()
    after = start + struct.calcsize(head) + len(tags) * (struct.calcsize(entry) + room) + room
    beyond = bytearray()  # values that have no room in their entry
    directory.write(struct.pack(head, len(tags)))
    for tag, ((number, kind), values) in sorted(tags.items()):
        data = bytes(values) if isinstance(values, bytes) else struct.pack(f"<{len(values)}{kind}", *values)
        directory.write(struct.pack(entry, tag, number, len(values)))
        if len(data) > room:
            directory.write(struct.pack("<Q" if big else "<I", after + len(beyond)))
            beyond += data + bytes(-len(data) % 8)
        else:
            directory.write(data.ljust(room, b"\0"))
    file.write(directory.getvalue() + bytes(room) + beyond)
    file.seek(8 if big else 4)
    file.write(struct.pack("<Q" if big else "<I", start))
