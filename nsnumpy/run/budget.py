"""What a run will take: its memory by parts, and its time per evaluation.

Memory is counted by walking through a run as it will happen (`vgg.VGG` and `objective.Objective`, by Winograd's way)
with shapes in place of arrays. Time is extrapolated from three small layers that are run on the spot.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..architecture import FIRST, Network, Step, canonical_layer, check_size
from ..backend import device_namespace, tf32_products, to_floats
from ..lbfgs import MEMORY
from ..ops import winograd_relu_backward, winograd_relu_forward, winograd_stripes, winograd_weight
from ..workers import DEVICE_BLOCK_BYTES, Workers

_CUBLAS_BYTES = 32 << 20  # its workspace on the largest cards, by its documentation; 4 MiB on others

Size = tuple[int, int]
"""(H, W)"""


@dataclass(frozen=True)
class Run:
    """What a plan needs to know of a run: its pictures' sizes, layers, optimizer and number of threads.

    Sizes are (H, W); None where there is no such picture. `style` is the largest of so many `styles`.
    """

    size: Size
    content: Size | None
    style: Size | None
    content_layers: Sequence[str]
    style_layers: Sequence[str]
    optimizer: str
    threads: int
    device: str = "cpu"
    styles: int = 1


class Rates(NamedTuple):
    """Seconds per product of the matrix products, per element that the transforms move, and per step whatever its size;
    all forward and backward."""

    per_product: float
    per_element: float
    per_step: float


def run_memory(network: Network, run: Run) -> dict[str, int]:
    """The parts of a run's peak memory on its device, beside Python and the libraries; their sum is the peak.

    Returns
    -------
    parts : dict from str to int, in bytes
        "weights": transformed, and on the CPU as given, too. "scratch": what the threads work in. "targets": content
        features and Gram matrices. "features": what passes through the network, and what its backward keeps, at the
        worst moment. "optimizer": its vectors.

    Raises
    ------
    ValueError
        If the network lacks a layer, or a picture is too small for it.
    """
    given = transformed = 0
    channels = 3
    for name, filters in network.filters.items():
        given += 9 * channels * filters * network.itemsize if run.device == "cpu" else 0
        transformed += (9 if name == FIRST else 36) * channels * filters * network.itemsize
        channels = filters
    content, style = network.resolve(run.content_layers), network.resolve(run.style_layers)
    layers = list(dict.fromkeys(content + style))
    for name, size, asked in (("content", run.content, content), ("style", run.style, style), ("", run.size, layers)):
        if size:
            try:
                check_size(network.architecture, asked, (*size, 3))
            except ValueError as error:
                raise ValueError(f"{name} picture: {error}" if name else str(error)) from error
    sizes = _sizes(network, network.steps(layers), run.size)
    targets = sum(_bytes(network, name, sizes[name]) for name in content)
    targets += sum((1 + run.styles) * network.filters[_conv(network, name)] ** 2 * network.itemsize for name in style)
    pixels = math.prod(run.size) * 3
    pictures = 4 * pixels * network.itemsize  # x, its preprocessed copy, the gradient, and the total variation's
    evaluation = _evaluation(network, run.size, content, style, pictures)
    for size, asked in ((run.content, content), (run.style, style)):
        if size:
            seen = 2 * math.prod(size) * 3 * network.itemsize  # the picture and its preprocessed copy
            evaluation = max(evaluation, seen + _forward(network, network.steps(asked), size, set(), keep=False)[0])
    scratch_of = _scratch if run.device == "cpu" else _device_scratch
    steps = network.steps(layers)
    scratch = max(scratch_of(network, steps, size, run.threads) for size in (run.size, run.style) if size)
    vectors = {
        "lbfgs-device": (2 * MEMORY["lbfgs-device"] + 8) * network.itemsize,
        # Its workspace and its copies at the end, in float64; on the host, whatever the device.
        "scipy": (4 * MEMORY["scipy"] + 18) * 8 if run.device == "cpu" else 0,
        "sgd": 6 * network.itemsize,
        "adam": 9 * network.itemsize,
    }
    return {
        "weights": given + transformed,
        "scratch": scratch,
        "targets": targets,
        "features": evaluation,
        "optimizer": vectors[run.optimizer] * pixels,
    }


def run_seconds(network: Network, run: Run, rates: Rates) -> float:
    """Seconds for one evaluation of loss and gradient, by `measured_rates`."""
    layers = [*run.content_layers, *run.style_layers]
    style = set(map(canonical_layer, run.style_layers))
    products, elements, channels = 0.0, 0.0, 3
    for step, (height, width), filters in _walk(network, network.steps(layers), run.size):
        if step.conv:
            tiles = -(-height // 4) * -(-width // 4)
            if step.conv == FIRST:  # forward, forward again, backward
                products += 3 * 28 * height * width * filters
                elements += 2 * height * width * filters
            else:
                products += 2 * 36 * tiles * channels * filters
                elements += 16 * tiles * (channels + filters)
            channels = filters
        if step.name in style:  # the Gram matrix, and the product of its gradient with the features
            products += 2 * height * width * filters**2
    steps = len(network.steps(layers))
    return products * rates.per_product + elements * rates.per_element + steps * rates.per_step


def _walk(network: Network, steps: list[Step], size: Size) -> Iterable[tuple[Step, Size, int]]:
    """Each step with the size of what its convolution makes (or its pooling, if it is one alone), and the filters."""
    filters = 3
    for step in steps:
        if step.conv:
            filters = network.filters[step.conv]
            yield step, size, filters
        if step.pool:
            size = (size[0] // 2, size[1] // 2)
        if not step.conv:
            yield step, size, filters


def _sizes(network: Network, steps: list[Step], size: Size) -> dict[str, Size]:
    """The size of every step's output."""
    return {
        step.name: (height // 2, width // 2) if step.conv and step.pool else (height, width)
        for step, (height, width), _ in _walk(network, steps, size)
    }


def _bytes(network: Network, name: str, size: Size) -> int:
    return math.prod(size) * network.filters[_conv(network, name)] * network.itemsize


def _conv(network: Network, name: str) -> str:
    """The convolution that gives a layer its number of filters: itself, or the last one before a pooling."""
    return name if name in network.filters else [conv for conv in network.filters if conv[4] == name[4]][-1]


def _forward(
    network: Network, steps: list[Step], size: Size, kept_features: set[str], *, keep: bool
) -> tuple[int, list[tuple[Step, int, int]]]:
    """The forward's peak in bytes, and each step with the bytes of its output and of what its backward keeps."""
    peak = kept = 0
    rows = []
    sizes = _sizes(network, steps, size)
    before = math.prod(size) * 3 * network.itemsize
    for step, (height, width), filters in _walk(network, steps, size):
        after = _bytes(network, step.name, sizes[step.name])
        tiles = -(-height // 4) * -(-width // 4)
        if step.conv == FIRST:
            own = before  # its input
        elif step.conv:
            own = 2 * tiles * filters  # a bit per element
        else:
            own = after // network.itemsize if network.pooling == "max" else 0
        peak = max(peak, kept + before + after + own)
        if keep:
            kept += own + (after if step.name in kept_features else 0)
        rows.append((step, after, own))
        before = 0 if keep and step.name in kept_features else after  # what is kept is the next step's input, too
    return peak, rows


def _evaluation(network: Network, size: Size, content: list[str], style: list[str], pictures: int) -> int:
    """The peak of a forward and a backward."""
    steps = network.steps([*content, *style])
    asked = {*content, *style} - {FIRST}  # whose features the backward makes again
    peak, rows = _forward(network, steps, size, asked, keep=True)
    kept = sum(own + after * (step.name in asked) for step, after, own in rows)
    sizes = [math.prod(size) * 3 * network.itemsize, *(after for _, after, _ in rows[:-1])]
    for (step, after, own), input_bytes in zip(reversed(rows), reversed(sizes), strict=True):
        peak = max(peak, kept + after + input_bytes)  # gy, and the gx that is made of it
        kept -= own + after * (step.name in asked)
    return peak + pictures


def _scratch(network: Network, steps: list[Step], size: Size, threads: int) -> int:
    """What the threads work in: per thread, the largest piece that any step wants under each name."""
    workers = Workers(threads)
    channels = 3
    pieces: dict[str, int] = {}
    for step, (height, width), N in _walk(network, steps, size):
        if not step.conv or step.conv == FIRST:
            channels = N
            continue
        T, stripes = winograd_stripes((height, width), channels + N, network.itemsize, workers)
        R = max(stop - start for start, stop in stripes)
        C, columns = channels, (4 * R + 2) * T * channels
        wants = {
            "even": max(6 * columns, 36 * R * T * max(C, N)),
            "odd": max(6 * columns, 36 * R * T * max(C, N)),
            "last two": max(12 * R * T * C, 2 * columns),
            "zeros": 16 * R * T * N,
            "signs": 2 * 16 * R * T * N // network.itemsize,
        }
        pieces = {name: max(pieces.get(name, 0), want) for name, want in wants.items()}
        channels = N
    pieces["first layer"] = _first_layer(network, size, workers)
    return threads * sum(pieces.values()) * network.itemsize


def _device_scratch(network: Network, steps: list[Step], size: Size, _: int) -> int:
    """The same on a GPU, with the copy of U^T that its products make; and what cuBLAS itself takes."""
    workers = Workers(1, DEVICE_BLOCK_BYTES)
    channels = 3
    V = M = U = 0
    for step, (height, width), N in _walk(network, steps, size):
        if step.conv and step.conv != FIRST:
            T, stripes = winograd_stripes((height, width), channels + N, network.itemsize, workers)
            tiles = max(stop - start for start, stop in stripes) * T
            V, M, U = max(V, 36 * tiles * channels), max(M, 36 * tiles * N), max(U, 36 * channels * N)
        channels = N
    return (V + M + U + _first_layer(network, size, workers)) * network.itemsize + _CUBLAS_BYTES


def _first_layer(network: Network, size: Size, workers: Workers) -> int:
    first = network.filters[FIRST]
    rows = -(-workers.block_bytes // (size[1] * (28 + 3 * first) * network.itemsize))
    return min(size[0], rows) * size[1] * (28 + 4 * first)


# (height, width, filters) of the layers that are timed, and how many times in a row: a GPU's are over too soon to be
# told from their launch.
_TIMED = {
    "cpu": (((4, 4, 8), (128, 256, 64), (64, 64, 256)), 1),
    "gpu": (((4, 4, 8), (256, 256, 64), (128, 128, 256)), 5),
}


def measured_rates(device: str, threads: int, tf32: bool = False) -> Rates:
    """Time three small layers; takes a few tenths of a second.

    A tiny one gives the time of a step; two, one with few and one with many filters, give two equations for the others.
    """
    xp = device_namespace(device)
    workers = Workers.on(xp, threads)
    layers, repeats = _TIMED[device]
    equations, times = [], []
    for height, width, filters in layers:
        x = xp.ones((height, width, filters), "float32")
        U, bias = winograd_weight(xp.zeros((3, 3, filters, filters), "float32")), xp.zeros(filters, "float32")
        seconds = math.inf
        for _ in range(3):
            start = time.perf_counter()
            with tf32_products(xp) if tf32 else contextlib.nullcontext():
                for _ in range(repeats):
                    y, signs = winograd_relu_forward(x, U, bias, workers)
                    gx = winograd_relu_backward(y, U, signs, (height, width), workers)
            to_floats(gx[0, 0, 0])  # a GPU is done only now
            seconds = min(seconds, (time.perf_counter() - start) / repeats)
        tiles = height * width / 16
        equations.append((2 * 36 * tiles * filters**2, 16 * tiles * 2 * filters))
        times.append(seconds)
    _, (a, b), (c, d) = equations
    per_step, few, many = times[0], times[1] - times[0], times[2] - times[0]
    determinant = a * d - b * c
    per_product = (few * d - b * many) / determinant
    per_element = (a * many - c * few) / determinant
    if per_product > 0 and per_element > 0:
        return Rates(per_product, per_element, per_step)
    return Rates(max(few + many, 0) / (a + c), 0.0, per_step)  # too noisy a moment to tell the two apart
