"""MATLAB's MAT-file of version 5, as far as MatConvNet's files need it: arrays, cells, structs and strings.

A file is a row of elements, each a tag (type, size) and its data, padded to 8 bytes; an element may hold another one
compressed by zlib. Numeric arrays stay in the file until they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import Cursor, File, FormatError, Inflated, Region, check_shape

HEADER = 128  # bytes
COMPRESSED, MATRIX = 15, 14
CELL, STRUCT, OBJECT, CHAR = 1, 2, 3, 4
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
}
_CLASSES = {6: "float64", 7: "float32", 8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32",
            14: "int64", 15: "uint64"}  # fmt: skip
MOST_ELEMENTS = 10_000  # of cells, structs and arrays in a file; a VGG has three thousand
MOST_DEPTH = 16
MOST_TEXT = 4096


@dataclass(frozen=True)
class Numbers:
    """A numeric array that was left in the file; `load` reads it."""

    shape: tuple[int, ...]
    dtype: str
    cursor: Cursor
    start: int
    stored: str

    def load(self) -> np.ndarray:
        """The values, in MATLAB's order of axes."""
        raw = self.cursor.data.at(self.start, math.prod(self.shape) * int(self.stored[-1]))
        return np.frombuffer(raw, self.stored).astype(self.dtype, copy=False).reshape(self.shape, order="F")


def is_matlab(start: bytes) -> bool:
    """Whether a file of this beginning is a MAT-file of version 5."""
    return len(start) >= HEADER and start[124:128] in (b"\0\1IM", b"\1\0MI")


def read_variables(file: File) -> Iterator[tuple[str, Any]]:
    """The variables of a file by name: `Numbers`, strings, lists (cells), dicts (structs); None for all else.

    Structs of more than one element are lists of dicts.
    """
    if file.at(126, 2) != b"IM":
        raise FormatError("a MAT-file of a big-endian machine; save it again on a current one")
    reader = _Reader()
    cursor = Cursor(file, HEADER)
    while cursor.stop - cursor.position >= 8:
        kind, size = cursor.number(4), cursor.number(4)
        start = cursor.skip(size)
        if kind == COMPRESSED:
            packed = Region(file, start, size)
            tag = Cursor(Inflated(packed, 15, 8))  # of the one element that is in it
            inner, length = tag.number(4), tag.number(4)
            if inner != MATRIX:
                raise FormatError("damaged: a compressed element that holds no array")
            yield reader.matrix(Cursor(Inflated(packed, 15, 8 + length), 8), MOST_DEPTH)
        elif kind == MATRIX:
            yield reader.matrix(Cursor(file, start, start + size), MOST_DEPTH)
        else:
            raise FormatError("damaged, or a MAT-file of a kind that is not known")


class _Reader:
    def __init__(self) -> None:
        self.left = MOST_ELEMENTS

    def matrix(self, cursor: Cursor, depth: int, stop: int | None = None) -> tuple[str, Any]:
        """(name, value) of the matrix at the cursor, which ends at `stop`."""
        stop = cursor.stop if stop is None else stop
        self.left -= 1
        if self.left < 0 or depth < 0:
            raise FormatError("a MAT-file of more parts than any weight file has")
        if stop == cursor.position:
            return "", None
        flags = self._small(cursor, stop, "u4")
        if len(flags) != 2:
            raise FormatError("damaged: an array without its flags")
        kind, is_complex = int(flags[0]) & 0xFF, bool(flags[0] & 0x0800)
        shape = check_shape([int(n) for n in self._small(cursor, stop, "i4")])
        name = self._small(cursor, stop, "u1").tobytes().decode("latin-1")
        value: Any = None
        if kind in _CLASSES and not is_complex:
            value = self._numbers(cursor, stop, shape, _CLASSES[kind])
        elif kind == CHAR:
            dtype, (start, size) = self._element(cursor, stop)
            if size <= MOST_TEXT:
                value = cursor.look(start, size).decode("utf-16-le" if dtype == "u2" else "latin-1", "replace")
        elif kind == CELL:
            value = [self._inner(cursor, stop, depth) for _ in range(self._count(shape))]
        elif kind in (STRUCT, OBJECT):
            value = self._structs(cursor, stop, shape, kind, depth)
        cursor.position = stop
        return name, value

    def _structs(self, cursor: Cursor, stop: int, shape: tuple[int, ...], kind: int, depth: int) -> Any:
        if kind == OBJECT:
            self._small(cursor, stop, "u1")  # the name of its class
        width = self._small(cursor, stop, "i4")
        if len(width) != 1 or not 1 <= width[0] <= MOST_TEXT:
            raise FormatError("damaged: a struct without field names")
        names = self._small(cursor, stop, "u1").tobytes()
        fields = [
            names[n : n + width[0]].split(b"\0")[0].decode("latin-1") for n in range(0, len(names), int(width[0]))
        ]
        if not all(fields) or not fields:
            raise FormatError("damaged: a struct without field names")
        self._count((*shape, 1 + len(fields)))
        structs = [{field: self._inner(cursor, stop, depth) for field in fields} for _ in range(math.prod(shape))]
        return structs[0] if len(structs) == 1 else structs

    def _inner(self, cursor: Cursor, stop: int, depth: int) -> Any:
        """The value of a matrix within another one."""
        kind, size, start = self._tag(cursor, stop)
        if kind != MATRIX:
            raise FormatError("damaged: an array expected")
        cursor.position = start
        return self.matrix(cursor, depth - 1, start + size)[1]

    def _numbers(self, cursor: Cursor, stop: int, shape: tuple[int, ...], dtype: str) -> Numbers:
        stored, (start, size) = self._element(cursor, stop)
        if size != math.prod(shape) * int(stored[-1]):
            raise FormatError(f"damaged: {size} bytes for an array of {shape}")
        return Numbers(shape, dtype, cursor, start, f"<{stored}")

    def _count(self, shape: tuple[int, ...]) -> int:
        count = math.prod(shape)
        if count > self.left:
            raise FormatError("a MAT-file of more parts than any weight file has")
        return count

    def _small(self, cursor: Cursor, stop: int, dtype: str) -> np.ndarray:
        """A short element that describes an array: sizes, names."""
        stored, (start, size) = self._element(cursor, stop)
        if size > MOST_TEXT or size % int(dtype[-1]) or int(stored[-1]) != int(dtype[-1]):
            raise FormatError("damaged: an array that is not described as it should be")
        return np.frombuffer(cursor.look(start, size), f"<{dtype}")

    def _element(self, cursor: Cursor, stop: int) -> tuple[str, tuple[int, int]]:
        """How an element's values are stored, and where: (start, size)."""
        kind, size, start = self._tag(cursor, stop)
        if kind not in _STORED:
            raise FormatError(f"damaged, or values of a kind that is not known ({kind})")
        return _STORED[kind], (start, size)

    def _tag(self, cursor: Cursor, stop: int) -> tuple[int, int, int]:
        """(type, size, start) of the next element, which is passed over with its padding."""
        word = cursor.number(4)
        if word >> 16:  # up to four bytes, within the tag itself
            kind, size, room = word & 0xFFFF, word >> 16, 4
        else:
            kind, size = word, cursor.number(4)
            room = -(-size // 8) * 8
        start = cursor.position
        if size > room or start + size > stop:
            raise FormatError("the file ends too early, or is damaged: an element that reaches beyond its array")
        cursor.position = min(start + room, stop)
        return kind, size, start
