"""Files of Caffe and ONNX, which hold the whole graph as protocol buffers, for `weight_writers`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import weight_writers_network
from weight_writers_network import RGB_MEAN, Layers, oihw, steps, top_of

# What is needed of Caffe's messages: "number name type", + for a repeated field, ++ for a packed one.
CAFFE = {
    "BlobShape": "1 dim int64++",
    "BlobProto": "1 num int32, 2 channels int32, 3 height int32, 4 width int32, 5 data float++, 6 diff float++, "
    "7 shape BlobShape",
    "FillerParameter": "1 type string",
    "ConvolutionParameter": "1 num_output uint32, 3 pad uint32+, 4 kernel_size uint32+, "
    "7 weight_filler FillerParameter",
    "PoolingParameter": "1 pool int32, 2 kernel_size uint32, 3 stride uint32",
    "InnerProductParameter": "1 num_output uint32",
    "DropoutParameter": "1 dropout_ratio float",
    "TransformationParameter": "3 crop_size uint32, 5 mean_value float+",
    "ParamSpec": "3 lr_mult float, 4 decay_mult float",
    "V1LayerParameter": "2 bottom string+, 3 top string+, 4 name string, 5 type int32, 6 blobs BlobProto+, "
    "7 blobs_lr float+, 8 weight_decay float+, 10 convolution_param ConvolutionParameter, "
    "12 dropout_param DropoutParameter, 17 inner_product_param InnerProductParameter, "
    "19 pooling_param PoolingParameter",
    "LayerParameter": "1 name string, 2 type string, 3 bottom string+, 4 top string+, 6 param ParamSpec+, "
    "7 blobs BlobProto+, 100 transform_param TransformationParameter, 106 convolution_param ConvolutionParameter, "
    "108 dropout_param DropoutParameter, 117 inner_product_param InnerProductParameter, "
    "121 pooling_param PoolingParameter",
    "NetParameter": "1 name string, 2 layers V1LayerParameter+, 100 layer LayerParameter+",
}
CAFFE_TYPES = {  # the number in V1, the name in V2
    "data": (5, "Data"), "conv": (4, "Convolution"), "relu": (18, "ReLU"), "pool": (17, "Pooling"),
    "fc": (14, "InnerProduct"), "drop": (6, "Dropout"), "prob": (20, "Softmax"),
}  # fmt: skip
TOP = [(kind, f"{kind}{n}") for n in (6, 7) for kind in ("fc", "relu", "drop")] + [("fc", "fc8"), ("prob", "prob")]


def caffe_messages() -> dict[str, type]:
    """The classes that protoc would make of CAFFE."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in CAFFE.items():
        descriptor = file.message_type.add(name=message)
        for number, name, kind in (field.split() for field in fields.split(", ")):
            field = descriptor.field.add(name=name, number=int(number), label=3 if kind.endswith("+") else 1)
            if kind.endswith("++"):
                field.options.packed = True
            kind = kind.rstrip("+")
            if kind in CAFFE:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in CAFFE}


def write_caffe(path: Path, network: Layers, architecture: str, version: int) -> None:
    """Version 1: `layers`, shapes in four numbers, here and there a diff; version 2: `layer`, shapes in a message."""
    messages = caffe_messages()
    net = messages["NetParameter"](name=f"VGG_ILSVRC_{architecture[3:]}_layers")
    arrays = network | top_of(network)
    below = "data"
    for kind, name in [("data", "data"), *steps(architecture), *TOP]:
        above = below if kind in ("relu", "drop") else name  # these work in place
        layers = net.layers if version == 1 else net.layer
        layer = layers.add(name=name, top=[above], type=CAFFE_TYPES[kind][version - 1])
        if kind == "data":
            layer.top.append("label")
            if version == 2:
                layer.transform_param.mean_value.extend(RGB_MEAN[::-1])
                layer.transform_param.crop_size = 224
        else:
            layer.bottom.append(below)
        if kind == "pool":
            layer.pooling_param.pool, layer.pooling_param.kernel_size, layer.pooling_param.stride = 0, 2, 2
        elif kind == "drop":
            layer.dropout_param.dropout_ratio = 0.5
        elif name in arrays:
            weight, bias = arrays[name]
            if kind == "conv":
                layer.convolution_param.num_output = bias.size
                layer.convolution_param.pad.append(1)
                layer.convolution_param.kernel_size.append(3)
                layer.convolution_param.weight_filler.type = "gaussian"
            else:
                layer.inner_product_param.num_output = bias.size
            for array in (oihw(weight) if kind == "conv" else oihw(weight).reshape(bias.size, -1), bias):
                blob = layer.blobs.add(data=array.ravel())
                if version == 2:
                    blob.shape.dim.extend(array.shape)
                    layer.param.add(lr_mult=1, decay_mult=1)
                else:
                    blob.num, blob.channels, blob.height, blob.width = (1, 1, 1, *array.shape)[-4:]
                    layer.blobs_lr.append(1)
                    layer.weight_decay.append(1)
                    if name in ("conv1_1", "conv3_2"):
                        blob.diff.extend(-array.ravel())
        below = above
    path.write_bytes(net.SerializeToString(deterministic=True))


def onnx_graph(network: Layers, architecture: str, name: Callable[[str, str], str], pool: str = "MaxPool") -> tuple:
    """(nodes, {name: array}) of the whole VGG, weights called as `name(layer, "weight" or "bias")` says."""
    from onnx.helper import make_node

    nodes, tensors, below = [], {}, "input"
    arrays = network | top_of(network)
    for kind, step in [*steps(architecture), ("flatten", "flatten"), *TOP[:-1]]:
        inputs, output = [below], "output" if step == "fc8" else f"{step}_out"
        if step in arrays:
            weight, bias = arrays[step]
            inputs += [name(step, "weight"), name(step, "bias")]
            tensors[inputs[1]] = oihw(weight) if kind == "conv" else oihw(weight).reshape(bias.size, -1)
            tensors[inputs[2]] = bias
        if kind == "conv":
            sizes = {"dilations": [1, 1], "kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
            nodes.append(make_node("Conv", inputs, [output], name=step, group=1, **sizes))
        elif kind == "pool":
            sizes = {"kernel_shape": [2, 2], "pads": [0, 0, 0, 0], "strides": [2, 2]}
            nodes.append(make_node(pool, inputs, [output], name=step, **sizes))
        elif kind == "fc":
            nodes.append(make_node("Gemm", inputs, [output], name=step, alpha=1.0, beta=1.0, transB=1))
        elif kind == "flatten":
            nodes.append(make_node("Flatten", inputs, [output], name=step, axis=1))
        elif kind == "relu":
            nodes.append(make_node("Relu", inputs, [output], name=step))
        else:
            continue  # exporters leave Dropout out
        below = output
    return nodes, tensors


def onnx_save(path: Path, nodes: list, initializers: list, producer: str, opset: int, ir_version: int) -> None:
    """Before version 4 of the format, every initializer was an input too."""
    import onnx
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224])]
    classes = weight_writers_network.TOP_UNITS[-1]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in initializers]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, classes])]
    graph = helper.make_graph(nodes, "main_graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name=producer)
    model.ir_version = ir_version
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_onnx(path: Path, network: Layers, architecture: str, keys: dict[str, str]) -> None:
    """As torch.onnx.export writes it: the parameters' own names, raw data."""
    from onnx import numpy_helper

    nodes, tensors = onnx_graph(network, architecture, lambda layer, part: f"{keys[layer]}.{part}")
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    onnx_save(path, nodes, initializers, "pytorch", opset=17, ir_version=8)


def write_anonymous_onnx(path: Path, network: Layers, architecture: str) -> None:
    """Only the graph says which weight is whose: no names, no order, one weight not an initializer but a node."""
    from onnx import TensorProto, helper

    rng = np.random.default_rng(3)
    names = [(layer, part) for layer in network | top_of(network) for part in ("weight", "bias")]
    numbers = dict(zip(names, rng.permutation(len(names)).tolist(), strict=True))
    nodes, tensors = onnx_graph(network, architecture, lambda *name: f"W{numbers[name]}", "AveragePool")
    shuffled = sorted(tensors, key=lambda name: int(name[1:]))
    values = {
        name: helper.make_tensor(name, TensorProto.FLOAT, tensors[name].shape, tensors[name].ravel())
        for name in shuffled
    }
    constant = f"W{numbers['conv2_2', 'weight']}"
    nodes.insert(0, helper.make_node("Constant", [], [constant], value=values.pop(constant)))
    for node in nodes:
        node.ClearField("name")
    onnx_save(path, nodes, list(values.values()), "somebody", opset=13, ir_version=7)


def write_caffe2_onnx(path: Path, network: Layers, architecture: str) -> None:
    """As Caffe2 exported the model zoo's VGG: initializers are inputs too, and one of them is a shape."""
    from onnx import helper, numpy_helper

    nodes, tensors = onnx_graph(network, architecture, lambda layer, part: f"{layer}_{part[0]}_0")
    at = next(i for i, node in enumerate(nodes) if node.op_type == "Flatten")
    nodes[at] = helper.make_node("Reshape", [nodes[at].input[0], "OC2_DUMMY_1"], nodes[at].output)
    tensors["OC2_DUMMY_1"] = np.array([1, -1], dtype="int64")
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    onnx_save(path, nodes, initializers, "onnx-caffe2", opset=9, ir_version=3)
