"""ONNX: a ModelProto, whose graph names its tensors freely; which is which, the graph's nodes tell.

The field numbers are those of ONNX's onnx.proto.
"""

from __future__ import annotations

import numpy as np

from .base import (
    MOST_TENSORS,
    Contents,
    File,
    FormatError,
    Layer,
    Tensor,
    caffe_named,
    check_shape,
    decode,
    stored_size,
    unreadable,
)
from .protobuf import FIXED32, VARINT, Message

MODEL_IR_VERSION, MODEL_GRAPH = 1, 7
GRAPH_NODES, GRAPH_INITIALIZERS = 1, 5
NODE_INPUTS, NODE_OUTPUTS, NODE_TYPE, NODE_ATTRIBUTES = 1, 2, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_TENSOR, ATTRIBUTE_INTS = 1, 5, 8
TENSOR_SIZES, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_RAW, TENSOR_DOUBLES = 1, 2, 4, 8, 9, 10
TENSOR_LOCATION = 14
_DTYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_PLAIN = {"strides": 1, "dilations": 1, "pads": 1, "group": 1}  # what a convolution of VGG has


def is_onnx(model: Message) -> bool:
    """Whether a message may be a ModelProto: it begins with a version, and has a graph."""
    return bool(model.all(MODEL_IR_VERSION, VARINT)) and bool(model.all(MODEL_GRAPH))


def read(file: File) -> Contents:
    graph = Message(file).messages(MODEL_GRAPH)[-1]
    found = [_tensor(message) for message in graph.messages(GRAPH_INITIALIZERS)]
    layers: list[Layer] = []
    nodes = graph.messages(GRAPH_NODES)
    if len(nodes) + len(found) > MOST_TENSORS:
        raise FormatError("a graph of more nodes and tensors than any weight file has")
    for node in nodes:
        if node.text(NODE_TYPE) == "Constant":
            for attribute in node.messages(NODE_ATTRIBUTES):
                found += [_tensor(message, node.text(NODE_OUTPUTS)) for message in attribute.messages(ATTRIBUTE_TENSOR)]
    tensors = {tensor.name: tensor for tensor in found}
    for node in nodes:
        kind = node.text(NODE_TYPE)
        if kind == "BatchNormalization":
            raise FormatError("a network with batch normalisation; fold it into the convolutions first")
        if kind not in ("Conv", "Gemm", "MatMul"):
            continue
        inputs = [node.data.at(field.start, min(field.size, 256)).decode("utf-8", "replace")
                  for field in node.all(NODE_INPUTS)[:3]]  # fmt: skip
        if len(inputs) > 1 and inputs[1] in tensors:
            weight = tensors[inputs[1]]
            if kind == "Conv":
                _check_plain(node, weight)
            layers.append(Layer(_layer_name(weight.name), weight, tensors.get((inputs + [""] * 2)[2])))
    return Contents("ONNX", layers, ("OIHW",), "caffe" if caffe_named(layers) else "torchvision")


def _layer_name(tensor: str) -> str:
    """features.0.weight as features.0, conv1_1_w_0 as conv1_1; other names as they are."""
    for ending in (".weight", "_weight", "_w_0", "_W"):
        if tensor.endswith(ending):
            return tensor[: -len(ending)]
    return tensor


def _check_plain(node: Message, weight: Tensor) -> None:
    """FormatError if a 3x3 convolution is not one of VGG's: step 1, a border of 1."""
    for attribute in node.messages(NODE_ATTRIBUTES):
        name = attribute.text(ATTRIBUTE_NAME)
        values = [*attribute.numbers(ATTRIBUTE_INTS), *attribute.numbers(3)]
        if weight.shape[2:] == (3, 3) and name in _PLAIN and any(value != _PLAIN[name] for value in values):
            raise FormatError(f"{weight.name}: a convolution with {name} {values}: not one of VGG's")


def _tensor(message: Message, name: str = "") -> Tensor:
    name = name or message.text(TENSOR_NAME)
    shape = check_shape(message.numbers(TENSOR_SIZES), name)
    kind = [*message.numbers(TENSOR_TYPE), 0][0]
    if 1 in message.numbers(TENSOR_LOCATION):
        return unreadable(name, shape, "kept in another file; save the model with its weights in it")
    if kind not in _DTYPES:
        return unreadable(name, shape, f"type {kind}")
    dtype = _DTYPES[kind]
    typed = {"float32": TENSOR_FLOATS, "float64": TENSOR_DOUBLES}.get(dtype, -1)
    if message.all(typed, FIXED32) and shape:
        raise FormatError(f"{name}: values that are not packed; save the model again with a newer ONNX")
    fields = message.all(TENSOR_RAW) or message.all(typed)
    size = sum(field.size for field in fields)
    if size != stored_size(dtype, shape):
        raise FormatError(f"{name}: damaged: {size} bytes for {shape} of {dtype}")

    def load() -> np.ndarray:
        return decode(b"".join(message.bytes(field) for field in fields), dtype, shape)

    return Tensor(name, shape, dtype, load)
