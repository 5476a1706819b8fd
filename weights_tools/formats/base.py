"""What the readers of all formats share: bytes that are never read beyond their end, and tensors not yet read.

A reader finds where each tensor lies and what it claims to be; the values are read when they are asked for. So the
fully connected layers, most of a VGG file, are never read, and nothing that a file merely claims takes memory.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nsnumpy import Preprocessing

MOST_TENSORS = 2_000  # in a file; VGG has 38
MOST_DIMENSIONS = 32
UNBELIEVABLE = "it claims to hold far more than its size; such compression is not believed"
DTYPES = ("float16", "bfloat16", "float32", "float64")


class FormatError(ValueError):
    """A file that cannot be read as weights; the message says what is wrong with it, in one printable line.

    A message may quote the file, in which anything can stand: it is made printable, and cut if need be.
    """

    def __init__(self, message: str, path: Path | None = None) -> None:
        text = "".join(c if c.isprintable() else "?" for c in message[:400])
        super().__init__(text if path is None else f"{path}: {text}")


class AlreadyConvertedError(FormatError):
    """The file is a weight file of nsnumpy already; `dtypes` are those of its datasets."""

    def __init__(self, dtypes: set[str]) -> None:
        super().__init__("a weight file of nsnumpy already")
        self.dtypes = dtypes


class Bytes(Protocol):
    """Bytes that can be read by parts."""

    size: int

    def at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; FormatError if there are not so many."""


def check_range(size: int, offset: int, count: int) -> None:
    """FormatError unless offset ... offset + count lies within 0 ... size."""
    if not (0 <= offset <= size and 0 <= count <= size - offset):
        where = f"{count} bytes expected at {offset} of {size}"
        raise FormatError(f"the file ends too early, or is damaged ({where}); get it again")


class File:
    """An open file. Its part that `at` reads is checked against the length before memory is taken."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not stat.S_ISREG(self.path.stat().st_mode):  # a pipe would keep us waiting
            raise FormatError("not a file")
        self._handle = self.path.open("rb")
        self.size = os.fstat(self._handle.fileno()).st_size
        self.closing = contextlib.ExitStack()  # what a reader needs no longer than the file is open
        self.closing.callback(self._handle.close)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def at(self, offset: int, count: int) -> bytes:
        check_range(self.size, offset, count)
        self._handle.seek(offset)
        data = self._handle.read(count)
        check_range(len(data), 0, count)  # it may have been cut since it was opened
        return data


class Region:
    """A part of other bytes."""

    def __init__(self, whole: Bytes, offset: int, size: int) -> None:
        check_range(whole.size, offset, size)
        self._whole, self._offset, self.size = whole, offset, size

    def at(self, offset: int, count: int) -> bytes:
        check_range(self.size, offset, count)
        return self._whole.at(self._offset + offset, count)


class Inflated:
    """What a compressed part of a file holds, inflated as it is read, forwards; going back begins anew.

    Parameters
    ----------
    packed : Bytes
    wbits : int
        As for `zlib.decompressobj`: 15 for a zlib stream, -15 for a bare one.
    size : int
        How many bytes of it may be asked for.

    Raises
    ------
    FormatError
        If that is more than weights could have been compressed to so little: deflate makes up to 1032 bytes of one, and
        a small file could keep us busy for hours.
    """

    PART = 1 << 16
    MOST_GAIN = 8

    def __init__(self, packed: Bytes, wbits: int, size: int) -> None:
        if size > self.MOST_GAIN * packed.size + self.PART:
            raise FormatError(UNBELIEVABLE)
        self._packed, self._wbits, self.size = packed, wbits, size
        self._begin()

    def _begin(self) -> None:
        self._inflate = zlib.decompressobj(self._wbits)
        self._taken = 0  # of the packed bytes
        self._position = 0  # of the next byte to come
        self._ready = b""

    def at(self, offset: int, count: int) -> bytes:
        check_range(self.size, offset, count)
        if offset < self._position:
            self._begin()
        while self._position < offset:
            self._next(min(offset - self._position, self.PART))
        data = bytearray()
        while len(data) < count:
            data += self._next(count - len(data))
        return data

    def _next(self, most: int) -> bytes:
        """The next bytes: one at least, `most` at most."""
        while not self._ready:
            packed = self._inflate.unconsumed_tail
            if not packed and not self._inflate.eof:
                count = min(self.PART, self._packed.size - self._taken)
                packed = self._packed.at(self._taken, count)
                self._taken += count
            if not packed:
                raise FormatError("the file ends too early, or is damaged: its compressed data are not complete")
            try:
                self._ready = self._inflate.decompress(packed, self.PART)
            except zlib.error as error:
                raise FormatError(f"damaged: compressed data that cannot be inflated ({error})") from error
        data, self._ready = self._ready[:most], self._ready[most:]
        self._position += len(data)
        return data


class Cursor:
    """Reads bytes one after another, in small steps, through a buffer."""

    BUFFER = 1 << 13

    def __init__(self, data: Bytes, position: int = 0, stop: int | None = None) -> None:
        self.data, self.position = data, position
        self.stop = data.size if stop is None else stop
        check_range(data.size, position, self.stop - position)
        self._buffer, self._start = b"", 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        return self.look(self.skip(count), count)

    def look(self, start: int, count: int) -> bytes:
        """`count` bytes from `start`, which need not be where the cursor is."""
        kept = self._start + len(self._buffer) - start  # of the buffer; what it holds is not read twice
        if start < self._start or kept < count:
            left = self._buffer[start - self._start :] if start >= self._start and kept > 0 else b""
            more = min(max(count, self.BUFFER), self.stop - start) - len(left)
            self._buffer, self._start = left + self.data.at(start + len(left), more), start
        return self._buffer[start - self._start :][:count]

    def line(self, most: int = 4096) -> bytes:
        """The bytes up to the next newline, which is passed over."""
        line, newline, _ = self.look(self.position, min(most, self.stop - self.position)).partition(b"\n")
        if not newline:
            raise FormatError(f"damaged: a line of more than {most} bytes, or without an end")
        self.position += len(line) + 1
        return line

    def skip(self, count: int) -> int:
        """Pass over `count` bytes; returns where they begin."""
        start = self.position
        check_range(self.stop, start, count)
        self.position += count
        return start

    def number(self, count: int, *, signed: bool = False) -> int:
        """The next `count` bytes as a little-endian number."""
        return int.from_bytes(self.take(count), "little", signed=signed)


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file, not read yet.

    Attributes
    ----------
    name : str
    shape : tuple of ints
        As the file states it.
    dtype : str
        One of `DTYPES`, or the name of another type, which cannot be read as weights.
    load : function
        Reads the values: an array of `shape`; bfloat16 comes as float32, which holds it exactly.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return math.prod(self.shape) * {"float16": 2, "float64": 8}.get(self.dtype, 4)


@dataclass(frozen=True)
class Layer:
    """A layer's weight and bias; only its shape may tell what kind of layer it is."""

    name: str
    weight: Tensor
    bias: Tensor | None


@dataclass
class Contents:
    """What a reader found in a file.

    Attributes
    ----------
    format : str
        In words.
    layers : list of Layer
        In the network's order, where names do not tell it; of all kinds, those that a VGG's features lack included.
    axes : tuple of "OIHW", "HWIO"
        The orders that a convolution weight's axes may have in this format, the likelier one first.
    convention : "torchvision", "caffe" or "matconvnet"
        Which preprocessing files of this kind expect, where they do not say it themselves; see `published.CONVENTIONS`.
    preprocessing : Preprocessing or None
        What the file itself states.
    rotated : bool
        Whether kernels are turned by 180 degrees (Theano convolves, the others correlate).
    """

    format: str
    layers: list[Layer]
    axes: tuple[str, ...]
    convention: str
    preprocessing: Preprocessing | None = None
    rotated: bool = False


_PART = re.compile(r"^(.+?)[./_](weights?|kernel|filters|w|bias|biases|b)(_\d+)?(:0)?$", re.IGNORECASE)


def pair(tensors: list[Tensor]) -> list[Layer]:
    """The layers that named tensors make: "X.weight" and "X.bias", say; tensors of other names are left out."""
    parts: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        if match := _PART.match(tensor.name):
            part = "bias" if match[2].lower().startswith("b") else "weight"
            parts.setdefault(match[1], {})[part] = tensor
        elif tensor.name.endswith("running_mean"):
            raise FormatError(f"{tensor.name}: a network with batch normalisation; fold it into the convolutions first")
    return [Layer(name, part["weight"], part.get("bias")) for name, part in parts.items() if "weight" in part]


def caffe_named(layers: list[Layer]) -> bool:
    """Whether layers go by Caffe's names, conv1_1 ...: only files that were made from Caffe's do."""
    return any(re.search(r"conv\d_\d", layer.name) for layer in layers)


def natural_order(name: str) -> list[Any]:
    """Key to sort names by, with the numbers in them as numbers."""
    parts = re.split(r"([0-9]{1,9})", name)
    return [int(part) if n % 2 else part for n, part in enumerate(parts)]


def check_shape(shape: Any, name: str = "") -> tuple[int, ...]:
    """A shape as a file claims it, as a tuple of ints that are 0 or more; FormatError if it is none."""
    shape = tuple(shape[: MOST_DIMENSIONS + 1]) if isinstance(shape, (list, tuple)) else (shape,)
    # So products and NumPy's own sums stay within 64 bits.
    if (
        len(shape) > MOST_DIMENSIONS
        or not all(isinstance(n, int) and 0 <= n for n in shape)
        or math.prod(n or 1 for n in shape) >= 1 << 60
    ):
        raise FormatError(f"{name or 'a tensor'}: damaged: an impossible shape")
    return shape


def unreadable(name: str, shape: tuple[int, ...], what: str) -> Tensor:
    """A tensor that cannot be weights: its `dtype` says what it is instead, and it is never loaded."""
    return Tensor(name, shape, what[:80], lambda: np.empty(0))


def decode(data: bytes, dtype: str, shape: tuple[int, ...], *, order: str = "C", big: bool = False) -> np.ndarray:
    """Bytes of a file as an array of `shape`."""
    byte_order = ">" if big else "<"
    if dtype == "bfloat16":  # the upper half of a float32
        flat = np.frombuffer(data, f"{byte_order}u2").astype(np.uint32)
        flat <<= 16
        flat = flat.view(np.float32)
    else:
        flat = np.frombuffer(data, np.dtype(dtype).newbyteorder(byte_order))
        if big:
            flat = flat.astype(dtype)
    return flat.reshape(shape, order=order)


def stored_size(dtype: str, shape: tuple[int, ...]) -> int:
    """How many bytes a tensor takes in a file."""
    return math.prod(shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
