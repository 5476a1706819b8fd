"""safetensors: the length of a JSON header (8 bytes), the header, and the tensors' values behind it."""

from __future__ import annotations

import json

from .base import (
    MOST_TENSORS,
    Contents,
    File,
    FormatError,
    Region,
    Tensor,
    caffe_named,
    check_shape,
    decode,
    natural_order,
    pair,
    stored_size,
    unreadable,
)

MOST_HEADER = 1 << 17  # bytes; a VGG's takes a few thousand
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def is_safetensors(start: bytes) -> bool:
    """Whether a file of this beginning may be one."""
    return start[8:9] == b"{"


def read(file: File) -> Contents:
    size = int.from_bytes(file.at(0, 8), "little")
    if size > MOST_HEADER:
        raise FormatError(f"damaged: a safetensors header of {size} bytes")
    try:
        header = json.loads(file.at(8, size))
    except (ValueError, RecursionError) as error:
        raise FormatError("damaged: the safetensors header is no JSON") from error
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        raise FormatError("damaged: the safetensors header is no table of tensors")
    data = Region(file, 8 + size, file.size - 8 - size)
    tensors = [_tensor(name, entry, data) for name, entry in header.items() if name != "__metadata__"]
    layers = pair(sorted(tensors, key=lambda tensor: natural_order(tensor.name)))  # the file's own order is free
    return Contents("safetensors", layers, ("OIHW", "HWIO"), "caffe" if caffe_named(layers) else "torchvision")


def _tensor(name: str, entry: object, data: Region) -> Tensor:
    match entry:
        case {"dtype": str(kind), "shape": list(sizes), "data_offsets": [int(start), int(stop)]}:
            shape = check_shape(sizes, name)
        case _:
            raise FormatError(f"damaged: the header does not say what {name[:80]!r} is")
    if kind not in _DTYPES:
        return unreadable(name, shape, kind)
    dtype = _DTYPES[kind]
    size = stored_size(dtype, shape)
    if stop - start != size:
        raise FormatError(f"damaged: {name[:80]!r} takes {size} bytes, not {stop - start}")
    part = Region(data, start, size)
    return Tensor(name, shape, dtype, lambda: decode(part.at(0, size), dtype, shape))
