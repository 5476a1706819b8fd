"""Files of Keras (HDF5) and of MatConvNet (MATLAB 5), for `weight_writers`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from weight_writers_network import RGB_MEAN, Layers, oihw, steps, top_of


def keras_names(architecture: str) -> dict[str, str]:
    """{layer: what keras.applications calls it}, poolings too."""
    found = {}
    for kind, name in steps(architecture):
        if kind == "conv":
            found[name] = f"block{name[4]}_conv{name[6]}"
        elif kind == "pool":
            found[name] = f"block{name[4]}_pool"
    return found


def write_keras(path, network, architecture, names=("{}_W_1:0", "{}_b_1:0"), theano=False, **attributes):
    """save_weights() of Keras 1 and 2: they differ in the weights' names. Theano's filters lie turned, as OIHW."""
    top = {"flatten": (), "fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
    layers = {"input_1": ()} | {layer: network.get(name, ()) for name, layer in keras_names(architecture).items()}
    if theano:
        layers = {key: (oihw(arrays[0][::-1, ::-1]), arrays[1]) if arrays else () for key, arrays in layers.items()}
    dense = {name: (weight.reshape(-1, bias.size), bias) for name, (weight, bias) in top_of(network).items()}
    layers |= {layer: dense.get(name, ()) for layer, name in top.items()}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
        file.attrs.update(attributes)
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            stored = {name.format(layer): array for name, array in zip(names, arrays, strict=False)}
            group.attrs["weight_names"] = np.array([name.encode() for name in stored])
            for name, array in stored.items():
                group[name] = array


def write_keras3(path, network, architecture):
    """A model of Keras 3; the ending of the name, .h5 or .weights.h5, decides what is saved of it, and how."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    keras.backend.clear_session(free_memory=False)
    y = x = keras.Input((32, 32, 3), name="input_layer")
    for name, layer in keras_names(architecture).items():
        if name in network:
            n = network[name][1].size
            y = keras.layers.Conv2D(n, 3, padding="same", activation="relu", name=layer)(y)
        else:
            y = keras.layers.MaxPooling2D(2, strides=2, name=layer)(y)
    model = keras.Model(x, y, name=architecture)
    for name, arrays in network.items():
        model.get_layer(keras_names(architecture)[name]).set_weights(arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's, of NumPy 2
        (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)


def cell(*items) -> np.ndarray:
    """A row of MATLAB's cell array."""
    array = np.empty((1, len(items)), dtype=object)
    for i, item in enumerate(items):
        array[0, i] = item
    return array


def row(*numbers: float) -> np.ndarray:
    return np.array([numbers], dtype="float64")


def mat_steps(network: Layers, architecture: str) -> list[tuple[str, str, tuple[np.ndarray, ...]]]:
    """(kind, name, arrays): fully connected layers are convolutions too; biases are rows."""
    found = [*steps(architecture), ("conv", "fc6"), ("relu", "relu6"), ("conv", "fc7"), ("relu", "relu7")]
    found += [("conv", "fc8"), ("softmax", "prob")]
    arrays = {name: (weight, bias[None]) for name, (weight, bias) in (network | top_of(network)).items()}
    return [(kind, name, arrays.get(name, ())) for kind, name in found]


def mat_save(path: Path, variables: dict, compressed: bool) -> None:
    """savemat, with a header such as MATLAB writes and without the time of day."""
    scipy.io.savemat(path, variables, do_compression=compressed)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Wed Jan 21 11:32:47 2015".ljust(116))


def write_mat(path, network, architecture):
    """The current layout of imagenet-vgg-verydeep-*.mat."""

    def layer(kind, name, arrays):
        fields = {"name": name, "type": kind}
        if kind == "conv":
            pad = row(*[int(arrays[0].shape[0] == 3)] * 4)
            fields |= {"weights": cell(*arrays), "size": row(*arrays[0].shape), "pad": pad, "stride": row(1, 1)}
            fields |= {"precious": False, "dilate": row(1), "opts": np.empty((0, 0), dtype=object)}
        elif kind == "relu":
            fields |= {"leak": row(0), "weights": np.empty((0, 0), dtype=object), "precious": False}
        elif kind == "pool":
            fields |= {"method": "max", "pool": row(2, 2), "stride": row(2, 2), "pad": row(0, 0, 0, 0)}
            fields |= {"weights": np.empty((0, 0), dtype=object), "precious": False, "opts": np.empty((0, 0), object)}
        return fields

    mean = np.array(RGB_MEAN, dtype="float32").reshape(1, 1, 3)
    normalization = {"imageSize": row(224, 224, 3), "keepAspect": True, "averageImage": mean, "border": row(32, 32)}
    normalization |= {"cropSize": row(0.875, 0.875), "interpolation": "bicubic"}
    classes = {"name": cell("n01440764", "n01443537"), "description": cell("tench", "goldfish")}
    inputs = {"name": "data", "size": row(224, 224, 3, 10)}
    meta = {"inputs": inputs, "classes": classes, "normalization": normalization}
    layers = cell(*(layer(*step) for step in mat_steps(network, architecture)))
    mat_save(path, {"layers": layers, "meta": meta}, compressed=True)


def write_old_mat(path, network, architecture, oldest=False):
    """Layouts of 2014 and 2015: the mean is a whole picture; in the oldest, filters and biases lie in the layer."""

    def layer(kind, name, arrays):
        if kind == "conv":
            fields = dict(zip(("filters", "biases"), arrays, strict=True)) if oldest else {"weights": cell(*arrays)}
            return fields | {"pad": row(int(arrays[0].shape[0] == 3)), "type": kind, "name": name, "stride": row(1)}
        if kind == "pool":
            fields = {"stride": row(2, 2), "pad": row(0, 0, 0, 0), "type": kind, "name": name}
            return fields | {"method": "max", "pool": row(2, 2)}
        return {"type": kind, "name": name}

    image = 10 * np.random.default_rng(2).standard_normal((8, 8, 3))
    image = (image - image.mean((0, 1)) + RGB_MEAN).astype("float32")
    normalization = {"averageImage": image, "keepAspect": True, "border": row(32, 32), "imageSize": row(224, 224, 3)}
    classes = {"name": cell("n01440764", "n01443537"), "description": cell("tench", "goldfish")}
    layers = cell(*(layer(*step) for step in mat_steps(network, architecture)))
    mat_save(path, {"layers": layers, "classes": classes, "normalization": normalization}, compressed=False)
