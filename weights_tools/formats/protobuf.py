"""Protocol buffers' wire format, as far as Caffe and ONNX need it: fields, found without reading what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from .base import Bytes, Cursor, FormatError

MOST_FIELDS = 20_000  # in a file; a VGG has a few hundred
VARINT, FIXED64, CHUNK, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message: its number, its wire type, its value if it is a number, and where its bytes lie."""

    number: int
    kind: int
    value: int
    start: int
    size: int


class Message:
    """A message in a file: its fields are listed when they are asked for, their bytes read one by one."""

    def __init__(self, data: Bytes, start: int = 0, size: int | None = None, left: list[int] | None = None) -> None:
        self.data, self.start = data, start
        self.size = data.size - start if size is None else size
        self._left = left or [MOST_FIELDS]  # how many more fields may be found, in all messages of the file

    @cached_property
    def fields(self) -> list[Field]:
        return list(self._scan())

    def _scan(self) -> Iterator[Field]:
        cursor = Cursor(self.data, self.start, self.start + self.size)
        while cursor.position < cursor.stop:
            self._count()
            key = _varint(cursor)
            number, kind = key >> 3, key & 7
            value = size = 0
            if kind == VARINT:
                value = _varint(cursor)
            elif kind in (FIXED32, FIXED64):
                size = 4 if kind == FIXED32 else 8
            elif kind == CHUNK:
                size = _varint(cursor)
            else:
                raise FormatError("damaged: no protocol buffer")
            if number == 0:
                raise FormatError("damaged: no protocol buffer")
            yield Field(number, kind, value, cursor.skip(size), size)

    def _count(self) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise FormatError(f"more than {MOST_FIELDS} fields: no weight file")

    def all(self, number: int, kind: int = CHUNK) -> list[Field]:
        """The fields of this number and wire type."""
        return [field for field in self.fields if field.number == number and field.kind == kind]

    def messages(self, number: int) -> list[Message]:
        return [Message(self.data, field.start, field.size, self._left) for field in self.all(number)]

    def bytes(self, field: Field) -> bytes:
        return self.data.at(field.start, field.size)

    def text(self, number: int) -> str:
        """The last string of this number, "" if there is none; a long one cut."""
        fields = self.all(number)
        if not fields:
            return ""
        return self.data.at(fields[-1].start, min(fields[-1].size, 256)).decode("utf-8", "replace")

    def numbers(self, number: int) -> list[int]:
        """The whole numbers of this field, packed or not."""
        found: list[int] = []
        for field in self.fields:
            if field.number == number and field.kind == VARINT:
                found.append(field.value)
            elif field.number == number and field.kind == CHUNK:
                cursor = Cursor(self.data, field.start, field.start + field.size)
                while cursor.position < cursor.stop:
                    self._count()
                    found.append(_varint(cursor))
        return found


def _varint(cursor: Cursor) -> int:
    """A number in 1 to 10 bytes of 7 bits each, least first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.number(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise FormatError("damaged: no protocol buffer")
