"""Weight files of every published kind, written from one small random VGG by the libraries that wrote the real ones.

Run as a program it writes the fixtures that the readers are tested with: ``python tests/weight_writers.py`` fills
``tests/fixtures``. PyTorch, ONNX, Keras and the others are imported where they are used, so that tests may take the
table and the network from here without them.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from weight_writers_graphs import write_anonymous_onnx, write_caffe, write_caffe2_onnx, write_onnx
from weight_writers_keras_matlab import write_keras, write_keras3, write_mat, write_old_mat
from weight_writers_network import PREPROCESSING, Layers, oihw, rounded, small_network, steps, top_of, torch_features

FIXTURES = Path(__file__).with_name("fixtures")
EXPECTED = FIXTURES / "expected.npz"
EXPECTED_LAYERS = ("conv1_1", "conv3_1", "conv5_4")


@dataclass(frozen=True)
class Writer:
    """How one fixture is written, and what a reader has to find in it."""

    write: Callable[[Path, Layers, str], None]  # (path, network, architecture)
    library: str  # what `write` imports beyond NumPy, SciPy and h5py; "" if nothing
    preprocessing: str  # a key of PREPROCESSING
    axes: str = "OIHW"  # order in which the file holds a filter
    precision: str = "float32"  # what the file holds; see `rounded`


# PyTorch, safetensors


def torch_keys(architecture: str, top: tuple[str, ...] = ("classifier.0", "classifier.3", "classifier.6")) -> dict:
    """The name that torchvision's VGG has for each layer."""
    convolutions = {name: f"features.{n}" for n, (kind, name) in enumerate(steps(architecture)) if kind == "conv"}
    return convolutions | dict(zip(("fc6", "fc7", "fc8"), top, strict=True))


def torch_state(network: Layers, keys: dict[str, str]) -> OrderedDict[str, np.ndarray]:
    """A state_dict of `keys`, as arrays: OIHW, and matrices for what torchvision has as nn.Linear."""
    state = OrderedDict()
    for name, (weight, bias) in (network | top_of(network)).items():
        if name in keys:
            linear = keys[name].startswith(("classifier", "head"))
            state[f"{keys[name]}.weight"] = oihw(weight).reshape(bias.size, -1) if linear else oihw(weight)
            state[f"{keys[name]}.bias"] = bias
    return state


def torch_model(network: Layers, architecture: str, dtype):
    """A module built as torchvision builds its VGG, so that its state_dict carries what theirs does."""
    import torch
    from torch import nn

    with torch.device("meta"):
        model = nn.Module()
        make = {
            "conv": lambda name: nn.Conv2d(*network[name][0].shape[2:], kernel_size=3, padding=1),
            "relu": lambda name: nn.ReLU(inplace=True),
            "pool": lambda name: nn.MaxPool2d(kernel_size=2, stride=2),
        }
        model.features = nn.Sequential(*(make[kind](name) for kind, name in steps(architecture)))
        model.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        rest = nn.ReLU(inplace=True), nn.Dropout()
        fc6, fc7, fc8 = (nn.Linear(weight[..., 0].size, bias.size) for weight, bias in top_of(network).values())
        model.classifier = nn.Sequential(fc6, *rest, fc7, *rest, fc8)
    state = torch_state(network, torch_keys(architecture))
    model.load_state_dict({key: torch.tensor(array).to(dtype) for key, array in state.items()}, assign=True)
    return model


def torch_save(path: Path, value, legacy: bool = False) -> None:
    """torch.save; in a legacy file with storages numbered, where PyTorch would write their addresses."""
    import torch

    numbers, address = {}, torch.UntypedStorage._cdata.__get__
    number = property(lambda storage: 94_000_000_000_000 + 64 * numbers.setdefault(address(storage), len(numbers)))
    with mock.patch.object(torch.UntypedStorage, "_cdata", number) if legacy else nullcontext():
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)


def write_torchvision(path, network, architecture, precision="float32", legacy=False):
    import torch

    torch_save(path, torch_model(network, architecture, getattr(torch, precision)).state_dict(), legacy)


def write_named(path, network, architecture):
    import torch

    state = torch_state(network, {name: name for name in network})
    torch_save(path, OrderedDict((key, torch.tensor(array)) for key, array in state.items()))


def write_caffe_converted(path, network, architecture):
    """The numbers of the classifier are the only thing that tells Caffe's weights from torchvision's."""
    import torch

    keys = torch_keys(architecture, ("classifier.1", "classifier.4", "classifier.6"))
    state = torch_state(network, keys)
    torch_save(path, OrderedDict((key, torch.tensor(array)) for key, array in state.items()), legacy=True)


def write_nested(path, network, architecture):
    """A training checkpoint of nn.DataParallel. conv1_2 lies in memory as HWIO; conv2_1 and conv2_2 share a storage."""
    import torch

    keys = torch_keys(architecture)
    state = {key: torch.tensor(array) for key, array in torch_state(network, keys).items()}
    state[f"{keys['conv1_2']}.weight"] = torch.tensor(network["conv1_2"][0]).permute(3, 2, 0, 1)
    shared = [f"{keys[name]}.{part}" for name in ("conv2_1", "conv2_2") for part in ("weight", "bias")]
    storage = torch.cat([torch.full((5,), torch.nan), *(state[key].flatten() for key in shared)])
    for key, part in zip(shared, storage[5:].split([state[key].numel() for key in shared]), strict=True):
        state[key] = part.view(state[key].shape)
    parameters = OrderedDict((f"module.{key}", torch.nn.Parameter(tensor)) for key, tensor in state.items())
    torch_save(path, {"epoch": 3, "state_dict": parameters, "optimizer": {"lr": 0.1}})


def write_safetensors(path, network, architecture):
    from safetensors.numpy import save_file

    keys = torch_keys(architecture, ("pre_logits.fc1", "pre_logits.fc2", "head.fc"))
    save_file(torch_state(network, keys), path, metadata={"format": "pt"})


# NumPy


def dense(network: Layers) -> Layers:
    """fc6 to fc8 as matrices (inputs, outputs)."""
    return {name: (weight.reshape(-1, bias.size), bias) for name, (weight, bias) in top_of(network).items()}


def write_frossard(path, network, architecture):
    arrays = {}
    for name, (weight, bias) in (network | dense(network)).items():
        arrays |= {f"{name}_W": weight, f"{name}_b": bias}
    np.savez(path, **arrays)


def write_compressed(path, network, architecture):
    arrays = {}
    for name, (weight, bias) in network.items():
        arrays |= {f"{name}/weight": oihw(weight), f"{name}/bias": bias}
    np.savez_compressed(path, **arrays)


def write_dictionary(path, network, architecture):
    np.save(path, {name: list(arrays) for name, arrays in (network | dense(network)).items()}, allow_pickle=True)


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: one kind of string for text and bytes, and NumPy's names of that time."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, string):
        data = string if isinstance(string, bytes) else string.encode("latin-1")
        size = b"U" + struct.pack("<B", len(data)) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
        self.write(size + data)
        self.memoize(string)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else "numpy"
        self.write(f"c{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    def reducer_override(self, obj):
        if not isinstance(obj, np.dtype):
            return NotImplemented
        make, (kind, align, copy), state = obj.__reduce__()
        return make, (kind, int(align), int(copy)), state


def write_python2_dictionary(path, network, architecture):
    """As vgg19.npy: in no order, a 0-d array of objects; one weight lies in memory as Fortran's arrays do."""
    layers = {name: list(arrays) for name, arrays in (network | dense(network)).items()}
    layers["conv2_1"][0] = np.asfortranarray(layers["conv2_1"][0])
    names = np.random.default_rng(4).permutation(list(layers)).tolist()
    array = np.array({name: layers[name] for name in names}, dtype=object)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        Python2Pickler(file, protocol=2).dump(array)


def write_torch_onnx(path, network, architecture):
    write_onnx(path, network, architecture, torch_keys(architecture))


KERAS2 = {"names": ("{}/kernel:0", "{}/bias:0"), "backend": b"tensorflow", "keras_version": b"2.2.4"}
THEANO = {"names": ("{}_W", "{}_b"), "theano": True, "backend": b"theano"}
WRITERS = {
    "torchvision-zip.pth": Writer(write_torchvision, "torch", "torchvision"),
    "torchvision-legacy.pth": Writer(partial(write_torchvision, legacy=True), "torch", "torchvision"),
    "named.pth": Writer(write_named, "torch", "caffe"),
    "caffe-converted.pth": Writer(write_caffe_converted, "torch", "caffe"),
    "nested.pth": Writer(write_nested, "torch", "torchvision"),
    "half.pth": Writer(partial(write_torchvision, precision="float16"), "torch", "torchvision", precision="float16"),
    "bfloat16.pth": Writer(
        partial(write_torchvision, precision="bfloat16"), "torch", "torchvision", precision="bfloat16"
    ),
    "features.safetensors": Writer(write_safetensors, "safetensors", "torchvision"),
    "keras1.h5": Writer(write_keras, "", "caffe", "HWIO"),
    "keras2.h5": Writer(partial(write_keras, **KERAS2), "", "caffe", "HWIO"),
    "keras3-model.h5": Writer(write_keras3, "keras", "caffe", "HWIO"),
    "keras3.weights.h5": Writer(write_keras3, "keras", "caffe", "HWIO"),
    "keras-theano.h5": Writer(partial(write_keras, **THEANO), "", "caffe"),
    "matconvnet.mat": Writer(write_mat, "", "matconvnet", "HWIO"),
    "matconvnet-old.mat": Writer(write_old_mat, "", "matconvnet", "HWIO"),
    "matconvnet-oldest.mat": Writer(partial(write_old_mat, oldest=True), "", "matconvnet", "HWIO"),
    "v1.caffemodel": Writer(partial(write_caffe, version=1), "google.protobuf", "caffe"),
    "v2.caffemodel": Writer(partial(write_caffe, version=2), "google.protobuf", "caffe"),
    "features.onnx": Writer(write_torch_onnx, "onnx", "torchvision"),
    "onnx-anonymous.onnx": Writer(write_anonymous_onnx, "onnx", "torchvision"),
    "caffe2.onnx": Writer(write_caffe2_onnx, "onnx", "caffe"),
    "frossard.npz": Writer(write_frossard, "", "matconvnet", "HWIO"),
    "compressed.npz": Writer(write_compressed, "", "torchvision"),
    "dictionary.npy": Writer(write_dictionary, "", "caffe", "HWIO"),
    "dictionary-python2.npy": Writer(write_python2_dictionary, "", "caffe", "HWIO"),
}


def expected_network(fixture: str, network: Layers | None = None) -> Layers:
    """What a reader has to find in a fixture of `network`: HWIO, float32, to the last bit."""
    return rounded(small_network() if network is None else network, WRITERS[fixture].precision)


def write_expected(path: Path) -> None:
    """A picture, the network, and what PyTorch makes of the one with the other under each preprocessing."""
    rng = np.random.default_rng(5)
    coarse = np.kron(rng.random((10, 9, 3)), np.ones((4, 4, 1)))[:, :33]
    network, arrays = small_network(), {"picture": (0.7 * coarse + 0.3 * rng.random(coarse.shape)).astype("float32")}
    for name, (weight, bias) in network.items():
        arrays |= {f"weights/{name}/weight": weight, f"weights/{name}/bias": bias}
    for preprocessing in PREPROCESSING:
        features = torch_features(network, arrays["picture"], preprocessing, EXPECTED_LAYERS)
        arrays |= {f"{preprocessing}/{name}": feature for name, feature in features.items()}
    np.savez_compressed(path, **arrays)


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    for name, writer in WRITERS.items():
        writer.write(FIXTURES / name, small_network(), "vgg19")
    write_expected(EXPECTED)


if __name__ == "__main__":
    main()
