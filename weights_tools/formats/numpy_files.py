"""NumPy's .npz, an archive of arrays, and .npy with a pickled dictionary ``{"conv1_1": [weight, bias], ...}``."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .archive import Member, members
from .base import MOST_TENSORS, Bytes, Contents, Cursor, File, FormatError, Layer, Tensor, check_shape, pair, unreadable
from .pickles import Opaque, Payload, ordered_dict, unpickle

MAGIC = b"\x93NUMPY"
MOST_HEADER = 1 << 14


def read_npz(file: File) -> Contents:
    tensors = []
    for name, member in members(file).items():
        if name.endswith(".npy") and len(tensors) < MOST_TENSORS:
            tensors.append(_array(name[:-4], member))
    # Frossard's conversion of Caffe's VGG-16, the one .npz of fame, has filters (H, W, C_in, C_out), and expects RGB.
    layers = pair(tensors)
    published = any(re.fullmatch(r"conv1_1_W", tensor.name) for tensor in tensors)
    return Contents(
        "NumPy archive",
        layers,
        ("HWIO",) if published else ("OIHW", "HWIO"),
        "matconvnet" if published else "torchvision",
    )


def read_npy(file: File) -> Contents:
    descr, _, _, start = _header(file)
    if descr not in ("|O", "O"):
        raise FormatError("a single array; a dictionary of layers expected")
    found = unpickle(Cursor(file, start), _CONSTRUCTORS)
    if isinstance(found, _Array) and isinstance(found.values, list) and len(found.values) == 1:
        found = found.values[0]
    if not isinstance(found, Mapping) or len(found) > MOST_TENSORS:
        raise FormatError("a pickled array of something else than a dictionary of layers")
    layers = []
    for key, item in found.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        parts = [item.get("weights"), item.get("biases")] if isinstance(item, Mapping) else item
        if isinstance(parts, (list, tuple)) and parts and isinstance(parts[0], _Array):
            bias = parts[1] if len(parts) > 1 else None
            layers.append(
                Layer(
                    name, parts[0].tensor(f"{name}/0"), bias.tensor(f"{name}/1") if isinstance(bias, _Array) else None
                )
            )
    return Contents("NumPy dictionary (pickled)", layers, ("HWIO",), "caffe")


def _header(data: Bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """(dtype, Fortran order, shape, where the values begin) of a .npy."""
    cursor = Cursor(data)
    if cursor.take(6) != MAGIC:
        raise FormatError("damaged: no NumPy array")
    version = cursor.number(1), cursor.number(1)
    size = cursor.number(2 if version[0] == 1 else 4)
    if version[0] not in (1, 2, 3) or size > MOST_HEADER:
        raise FormatError("damaged: a NumPy array of an unknown version")
    try:
        header = ast.literal_eval(cursor.take(size).decode("latin-1").strip())
        return str(header["descr"]), bool(header["fortran_order"]), check_shape(header["shape"]), cursor.position
    except FormatError:
        raise
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise FormatError("damaged: a NumPy array without a proper header") from error


def _array(name: str, member: Member) -> Tensor:
    descr, fortran, shape, start = _header(member)

    def read() -> memoryview:
        return memoryview(member.at(0, member.size))[start:]

    return _tensor(name, shape, descr, fortran, read, member.size - start)


def _tensor(
    name: str, shape: tuple[int, ...], descr: str, fortran: bool, read: Callable[[], bytes], size: int | None
) -> Tensor:
    """The tensor whose `size` bytes (None: not known yet) `read` gives; `descr` is NumPy's name of its type, "<f4"."""
    if not re.fullmatch(r"[<>=|]f[248]", descr):
        return unreadable(name, shape, descr)
    dtype = np.dtype(descr)
    expected = dtype.itemsize * math.prod(shape)
    if size not in (None, expected):
        raise FormatError(f"damaged: {name[:80]!r}: {size} bytes for {shape} of {dtype.name}")

    def load() -> np.ndarray:
        raw = read()
        if len(raw) != expected:
            raise FormatError(f"damaged: {name[:80]!r}: {len(raw)} bytes for {shape} of {dtype.name}")
        values = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="), copy=False)
        return values.reshape(shape, order="F" if fortran else "C")

    return Tensor(name, shape, dtype.name, load)


class _Type:
    """A numpy.dtype in a pickle: made of its name, then told its byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str):
            raise FormatError("damaged pickle: an array of no known type")
        self.name, self.order = name, "<"

    def build(self, state: Any) -> _Type:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]
        return self


class _Array:
    """A numpy.ndarray in a pickle: made empty, then told (version, shape, dtype, Fortran order, values)."""

    def __init__(self, *_: Any) -> None:
        self.values: Any = None

    def build(self, state: Any) -> _Array:
        match state:
            case (_, tuple(shape), _Type() as dtype, bool() | int() as fortran, values):
                self.shape, self.dtype, self.fortran, self.values = check_shape(shape), dtype, bool(fortran), values
            case _:
                raise FormatError("damaged pickle: an array that is not described as it should be")
        return self

    def tensor(self, name: str) -> Tensor:
        values = self.values
        if isinstance(values, Payload):
            read, size = values.load, None if values.text else values.size
        elif isinstance(values, (bytes, str)):
            raw = values.encode("latin-1", "replace") if isinstance(values, str) else values
            read, size = (lambda: raw), len(raw)
        else:
            raise FormatError(f"damaged pickle: {name[:80]!r} has no values")
        return _tensor(name, self.shape, f"{self.dtype.order}{self.dtype.name}", self.fortran, read, size)


def _from_buffer(values: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array().build((1, shape, dtype, order == "F", values))


def _encode(text: Any, *_: Any) -> Any:
    """How Python 3 pickles bytes for Python 2: as text whose characters are the bytes."""
    return text.encode("latin-1") if isinstance(text, str) else text


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Type,
    "numpy.ndarray": _Array,
    "collections.OrderedDict": ordered_dict,
    "_codecs.encode": _encode,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": lambda *_: Opaque() for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
