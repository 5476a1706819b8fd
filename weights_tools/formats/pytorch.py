"""PyTorch's .pth: a pickled dictionary of tensors, in a zip archive (since PyTorch 1.6) or in the older container.

The zip archive holds ``NAME/data.pkl`` and each storage as ``NAME/data/KEY``. The older container is a row of pickles:
a magic number, a protocol number, facts of the system, the dictionary, the keys of the storages; the storages follow,
each as its number of elements (8 bytes) and its values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .archive import Member, members
from .base import (
    MOST_TENSORS,
    Bytes,
    Contents,
    Cursor,
    File,
    FormatError,
    Region,
    Tensor,
    caffe_named,
    check_shape,
    decode,
    pair,
    stored_size,
)
from .pickles import Global, Opaque, ordered_dict, unpickle

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MOST_PICKLE = 1 << 20  # bytes that are read at once
_STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_DEPTH = 6  # of dictionaries within dictionaries


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    elements: int


@dataclass(frozen=True)
class _View:
    """A tensor as the pickle describes it: a strided view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The first element of the storage behind it."""
        if 0 in self.shape:
            return self.offset
        return self.offset + 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))


def _storage(identity: Any) -> _Storage:
    """The storage that a persistent id ("storage", type, key, location, elements[, view]) names."""
    match identity:
        case ("storage", Global(name=name), str(key), _, int(elements)) | (
            "storage", Global(name=name), str(key), _, int(elements), None
        ) if name in _STORAGES and elements >= 0:  # fmt: skip
            return _Storage(_STORAGES[name], key, elements)
    raise FormatError("damaged pickle, or a storage of a kind that is not known")


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    view = _View(storage, offset, check_shape(shape), check_shape(strides))
    if not isinstance(storage, _Storage) or not isinstance(offset, int) or len(view.shape) != len(view.strides):
        raise FormatError("damaged pickle: a tensor without a storage")
    if any(stride == 0 and n > 1 for n, stride in zip(view.shape, view.strides, strict=True)):
        raise FormatError("a tensor that repeats its elements: no weight file has one")
    if not 0 <= view.offset <= view.stop <= storage.elements:
        raise FormatError("damaged pickle: a tensor that reaches beyond its storage")
    return view


def _parameter(data: Any, *_: Any) -> Any:
    return data


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": ordered_dict,
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": lambda sizes: tuple(sizes),
    **{name: lambda *_: Opaque() for name in _STORAGES},  # only named, never called
}


def read_zip(file: File) -> Contents:
    """A .pth as a zip archive."""
    archive = members(file)
    pickle = next((name for name in archive if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
    if pickle is None:
        raise FormatError("a zip archive, but neither PyTorch's nor NumPy's; if the weights are in it, unpack it first")
    folder = pickle.partition("/")[0]
    order = archive.get(f"{folder}/byteorder")
    big = order is not None and order.size == 3 and order.at(0, 3) == b"big"

    def storage_bytes(storage: _Storage) -> Member:
        if f"{folder}/data/{storage.key}" not in archive:
            raise FormatError(f"damaged: the archive lacks {folder}/data/{storage.key}")
        return archive[f"{folder}/data/{storage.key}"]

    program = archive[pickle]
    if program.size <= MOST_PICKLE:
        program.at(0, program.size)  # for its checksum
    found = unpickle(Cursor(program), _CONSTRUCTORS, _storage)
    return _contents("PyTorch (zip archive)", found, storage_bytes, big)


def is_legacy(start: bytes) -> bool:
    """Whether a file of this beginning may be of the older container: pickled, it begins with a magic number."""
    magic = MAGIC.to_bytes(10, "little")
    return start[:1] == b"\x80" and magic in start[:20]


def read_legacy(file: File) -> Contents:
    """A .pth of the container before PyTorch 1.6."""
    cursor = Cursor(file)
    opening = [unpickle(cursor, _CONSTRUCTORS) for _ in range(3)]  # magic, protocol, facts of the system
    if opening[:2] != [MAGIC, PROTOCOL]:
        raise FormatError("damaged, or of a version of PyTorch that is not known")
    system = opening[2] if isinstance(opening[2], dict) else {}
    big = system.get("little_endian") is False
    storages: dict[str, _Storage] = {}

    def persistent(identity: Any) -> _Storage:
        storage = _storage(identity)
        if storages.setdefault(storage.key, storage) != storage:
            raise FormatError("damaged pickle: a storage of two kinds")
        return storage

    found = unpickle(cursor, _CONSTRUCTORS, persistent)
    keys = unpickle(cursor, _CONSTRUCTORS)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise FormatError("damaged: its list of storages is none")
    places: dict[str, Region] = {}
    for key in keys:
        storage = storages[key]
        elements = int.from_bytes(cursor.take(8), "big" if big else "little")
        if elements != storage.elements:
            raise FormatError(f"damaged: a storage of {elements} elements where {storage.elements} were announced")
        size = stored_size(storage.dtype, (elements,))
        places[key] = Region(file, cursor.skip(size), size)

    def storage_bytes(storage: _Storage) -> Region:
        if storage.key not in places:
            raise FormatError("damaged: a storage is missing")
        return places[storage.key]

    return _contents("PyTorch (before 1.6)", found, storage_bytes, big)


def _contents(format: str, found: Any, storage_bytes: Callable[[_Storage], Bytes], big: bool) -> Contents:
    def load(view: _View) -> np.ndarray:
        data, dtype = storage_bytes(view.storage), view.storage.dtype
        size = stored_size(dtype, (1,))
        if data.size < size * view.storage.elements:
            raise FormatError("damaged: a storage is shorter than announced")
        span = decode(data.at(view.offset * size, (view.stop - view.offset) * size), dtype, (-1,), big=big)
        strides = tuple(stride * span.itemsize for stride in view.strides)
        return np.lib.stride_tricks.as_strided(span, view.shape, strides, writeable=False)

    tensors = [
        Tensor(name, view.shape, view.storage.dtype, lambda view=view: load(view)) for name, view in _flatten(found)
    ]
    layers = pair(tensors)
    # Caffe's classifier has no dropout before its first layer, so in files converted from Caffe its layers are numbered
    # 1, 4 and 6; torchvision's are 0, 3 and 6.
    converted = any(re.search(r"(^|\.)classifier\.[14]$", layer.name) for layer in layers)
    return Contents(format, layers, ("OIHW",), "caffe" if converted or caffe_named(layers) else "torchvision")


def _flatten(found: Any) -> Iterator[tuple[str, _View]]:
    """The tensors of nested dictionaries, with dotted names."""
    if not isinstance(found, Mapping):
        raise FormatError("a PyTorch file, but not of a dictionary of tensors; save model.state_dict()")
    left = MOST_TENSORS

    def walk(value: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, _View]]:
        nonlocal left
        for key, item in value.items():
            left -= 1
            if left < 0:
                raise FormatError(f"a file of more than {MOST_TENSORS} entries: no weight file")
            name = f"{prefix}{key}"
            if isinstance(item, _View):
                yield name, item
            elif isinstance(item, Mapping) and depth:
                yield from walk(item, f"{name}.", depth - 1)

    return walk(found, "", _DEPTH)
