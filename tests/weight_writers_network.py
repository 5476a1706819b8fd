"""The small random VGG whose weights `weight_writers` writes, and what PyTorch computes with it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> weight (HWIO) and bias

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
RGB_MEAN = (123.68, 116.779, 103.939)
PREPROCESSING = {  # (order of the channels, the white of the picture, mean, standard deviation), in the network's order
    "torchvision": ("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ("BGR", 255.0, RGB_MEAN[::-1], (1.0, 1.0, 1.0)),
    "matconvnet": ("RGB", 255.0, RGB_MEAN, (1.0, 1.0, 1.0)),
}


def small_network(architecture: str = "vgg19", widths: tuple[int, ...] = (2, 3, 4, 5, 6), seed: int = 0) -> Layers:
    """All convolutions of a VGG with `widths` filters in its blocks; every bias tells."""
    rng = np.random.default_rng(seed)
    layers, channels = {}, 3
    for kind, name in steps(architecture):
        if kind == "conv":
            n = widths[int(name[4]) - 1]
            weight = rng.standard_normal((3, 3, channels, n)) * np.sqrt(2 / (9 * channels))
            layers[name] = weight.astype("float32"), (0.5 * rng.standard_normal(n)).astype("float32")
            channels = n
    return layers


TOP_UNITS = (3, 3, 2)  # of fc6, fc7 and fc8; VGG's are 4096, 4096 and 1000


def small_top(widths: tuple[int, ...] = (2, 3, 4, 5, 6), seed: int = 1) -> Layers:
    """fc6, fc7 and fc8 as the convolutions they amount to; a reader of the rest must step over them."""
    rng = np.random.default_rng(seed)
    fc6, fc7, fc8 = TOP_UNITS
    shapes = {"fc6": (7, 7, widths[-1], fc6), "fc7": (1, 1, fc6, fc7), "fc8": (1, 1, fc7, fc8)}
    return {
        name: (rng.standard_normal(shape).astype("float32"), rng.standard_normal(shape[-1]).astype("float32"))
        for name, shape in shapes.items()
    }


def rounded(network: Layers, precision: str) -> Layers:
    """The network, still float32, as it comes back from a file in float32, float16 or bfloat16."""

    def through(array):
        if precision != "bfloat16":
            return array.astype(precision).astype("float32")
        bits = array.view("uint32")  # its upper half, to the nearest, ties to even
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype("uint32").view("float32")

    return {name: (through(weight), through(bias)) for name, (weight, bias) in network.items()}


def steps(architecture: str) -> list[tuple[str, str]]:
    """(kind, name) of every convolution, ReLU and pooling; the position in this list is torchvision's number."""
    found = []
    for block, convolutions in enumerate(CONVOLUTIONS[architecture], start=1):
        for i in range(1, convolutions + 1):
            found += [("conv", f"conv{block}_{i}"), ("relu", f"relu{block}_{i}")]
        found.append(("pool", f"pool{block}"))
    return found


def torch_features(network: Layers, picture: np.ndarray, preprocessing: str, layers: Iterable[str]) -> dict:
    """{layer: (H, W, N)} after ReLU, for a picture (H, W, 3) in [0, 1]: PyTorch's, float64, average pooling."""
    import torch

    order, white, mean, std = PREPROCESSING[preprocessing]
    x = np.asarray(picture, dtype="float64")[..., :: -1 if order == "BGR" else 1] * white
    y = torch.tensor(((x - mean) / std).transpose(2, 0, 1))[None]
    block, found = "1", {}
    for name, (weight, bias) in network.items():
        if name[4] != block:
            y, block = torch.nn.functional.avg_pool2d(y, 2), name[4]
        y = torch.conv2d(y, torch.tensor(oihw(weight)).double(), torch.tensor(bias).double(), padding=1).relu()
        found[name] = y[0].permute(1, 2, 0).numpy()
    return {name: found[name] for name in layers}


def oihw(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


def top_of(network: Layers) -> Layers:
    return small_top((next(reversed(network.values()))[1].size,))
