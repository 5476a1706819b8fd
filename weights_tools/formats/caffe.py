"""Caffe's .caffemodel: a NetParameter, whose layers are V1LayerParameters (2014) or LayerParameters (since 2015).

The field numbers are those of Caffe's caffe.proto.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from nsnumpy import Preprocessing

from .base import Contents, File, FormatError, Layer, Tensor, check_shape, unreadable
from .protobuf import CHUNK, FIXED32, FIXED64, VARINT, Field, Message

NET_LAYERS_V1, NET_LAYERS = 2, 100
V1_NAME, V1_BLOBS, V1_TRANSFORM = 4, 6, 36
NAME, BLOBS, TRANSFORM = 1, 7, 100
BLOB_SIZES, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES, SHAPE_SIZES = (1, 2, 3, 4), 5, 7, 8, 1
TRANSFORM_SCALE, TRANSFORM_MEANS = 1, 5


def is_caffe(net: Message) -> bool:
    """Whether a message may be a NetParameter: its first field is the net's name, and it has layers."""
    return not net.all(1, VARINT) and bool(net.all(NET_LAYERS_V1) or net.all(NET_LAYERS))


def read(file: File) -> Contents:
    net = Message(file)
    old, new = net.messages(NET_LAYERS_V1), net.messages(NET_LAYERS)
    layers = [*_layers(old, V1_NAME, V1_BLOBS), *_layers(new, NAME, BLOBS)]
    preprocessing = _preprocessing([*_transforms(old, V1_TRANSFORM), *_transforms(new, TRANSFORM)])
    return Contents(f"Caffe (V{2 if new else 1} layers)", layers, ("OIHW",), "caffe", preprocessing)


def _layers(messages: list[Message], name_field: int, blobs_field: int) -> list[Layer]:
    layers = []
    for message in messages:
        name = message.text(name_field)
        blobs = [_blob(f"{name}/{n}", blob) for n, blob in enumerate(message.messages(blobs_field)[:3])]
        if blobs:
            layers.append(Layer(name, blobs[0], blobs[1] if len(blobs) > 1 else None))
    return layers


def _blob(name: str, blob: Message) -> Tensor:
    if shapes := blob.messages(BLOB_SHAPE):
        shape = check_shape(shapes[-1].numbers(SHAPE_SIZES), name)
    else:
        sizes = [blob.all(number, VARINT) for number in BLOB_SIZES]
        shape = check_shape([found[-1].value if found else 1 for found in sizes], name)
    for number, dtype, kind in ((BLOB_DATA, "float32", FIXED32), (BLOB_DOUBLES, "float64", FIXED64)):
        fields = blob.all(number, CHUNK)
        size = sum(field.size for field in fields)
        if blob.all(number, kind):
            raise FormatError(f"{name}: values that are not packed; save the file again with a newer Caffe")
        if fields:
            if size != np.prod(shape, dtype=object) * np.dtype(dtype).itemsize:
                raise FormatError(f"{name}: damaged: {size} bytes for a shape of {shape}")
            return Tensor(name, shape, dtype, partial(_values, blob, fields, dtype, shape))
    return unreadable(name, shape, "no values")


def _values(blob: Message, fields: list[Field], dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(
        [np.frombuffer(blob.bytes(field), f"<{np.dtype(dtype).str[1:]}") for field in fields]
    ).reshape(shape)


def _transforms(messages: list[Message], field: int) -> list[Message]:
    return [transform for message in messages for transform in message.messages(field)]


def _preprocessing(transforms: list[Message]) -> Preprocessing | None:
    """What the data layer states: z = (x - mean) scale, BGR in 0 ... 255."""
    for transform in transforms:
        mean = _floats(transform, TRANSFORM_MEANS)
        scale = [*_floats(transform, TRANSFORM_SCALE), 1.0][0]
        if len(mean) in (1, 3):
            mean = mean * 3 if len(mean) == 1 else mean
            try:
                return Preprocessing("BGR", 255.0, tuple(mean), (1 / scale,) * 3)
            except (ValueError, ZeroDivisionError) as error:
                raise FormatError(f"the data layer states an impossible preprocessing ({error})") from error
    return None


def _floats(message: Message, number: int) -> list[float]:
    parts = [
        message.bytes(field) for field in message.fields if field.number == number and field.kind in (CHUNK, FIXED32)
    ]
    data = b"".join(part[: len(part) // 4 * 4] for part in parts)[:64]
    return [float(str(value)) for value in np.frombuffer(data, "<f4")]  # 103.939, not its nearest float32 in full
