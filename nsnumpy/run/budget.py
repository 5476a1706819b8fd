"""What a run will take: its memory by parts, and its time per evaluation.

Memory is the sum of what the ways to convolve say that they take (`convolution`), and of what passes between them. Time
is extrapolated from three small layers that are run on the spot.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..architecture import Network, Step, canonical_layer, check_size
from ..backend import device_namespace, tf32_products, to_floats
from ..convolution import POOLS, Layer, Takes, way_of
from ..lbfgs import MEMORY
from ..ops import winograd_relu_backward, winograd_relu_forward, winograd_weight
from ..pairs import STACKED_BYTES
from ..tiles.grid import window
from ..workers import Workers

_UNIT, _PAGE = 512, 2 << 20  # CuPy's pool asks for whole units, and CUDA gives large ones in whole pages
_CUBLAS_BYTES = 32 << 20  # its workspace on the largest cards, by its documentation; 4 MiB on others

Size = tuple[int, int]
"""(H, W)"""


@dataclass(frozen=True)
class Run:
    """What a plan needs to know of a run: its pictures' sizes, layers, optimizer and number of threads.

    Sizes are (H, W); None where there is no such picture. `style` is the largest of so many `styles`, which have so
    many `regions` of their own. The optimizer's variable has so many `channels`. `framed` is whether a GPU's
    convolutions copy their input with its border. It is computed in tiles of `tile` pixels, None for as a whole, which
    `keep` the content's features, or make them again. L-BFGS remembers so many `pairs`, None for its own number, but no
    more than it makes `iterations`; with `scratch` in files.
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
    regions: int = 0
    channels: int = 3
    framed: bool = False
    tile: int | None = None
    keep: bool = True
    pairs: int | None = None
    iterations: int | None = None
    scratch: bool = False

    @property
    def most_pairs(self) -> int:
        """That L-BFGS comes to remember."""
        pairs = self.pairs or MEMORY.get(self.optimizer, 0)
        return pairs if self.iterations is None or self.optimizer == "scipy" else min(pairs, self.iterations)


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
        "weights": transformed, and on the CPU as given, too. "buffers": what the threads work in. "targets": content
        features, Gram matrices and regions. "features": what passes through the network, and what its backward keeps,
        at the worst moment. "optimizer": its vectors. On a GPU, "rounded up": what its allocator takes beyond these.

    Raises
    ------
    ValueError
        If the network lacks a layer, or a picture is too small for it.
    """
    content, style = network.resolve(run.content_layers), network.resolve(run.style_layers)
    layers = list(dict.fromkeys(content + style))
    for name, size, asked in (("content", run.content, content), ("style", run.style, style), ("", run.size, layers)):
        if size:
            try:
                check_size(network.architecture, asked, (*size, 3))
            except ValueError as error:
                raise ValueError(f"{name} picture: {error}" if name else str(error)) from error
    on_device = run.device != "cpu"
    workers = Workers.on(device_namespace(run.device), run.threads)

    def walk(asked: Sequence[str], size: Size) -> list[_Passed]:
        return _walk(network, network.steps(asked), size, workers, on_device, run.framed)

    def seen(size: Size) -> tuple[Size, float]:
        """What is computed at once of a picture, and how many times as much in all."""
        if run.tile is None:
            return size, 1
        (height, down), (width, across) = (window(n, run.tile, network.architecture, layers) for n in size)
        return (height, width), down * across

    size, tiles = seen(run.size)
    passed = walk(layers, size)
    outputs = {at.step.name: at.output for at in passed}
    features = sum(outputs[name] for name in content)  # those of the content, of a tile
    targets = round(tiles * features) if run.keep else 0
    picture, pixels = math.prod(run.size) * 3, math.prod(size) * 3
    matrices = run.styles + (2 * run.regions or 1)
    for at in passed:
        if at.step.name in style:
            targets += matrices * at.layer.filters**2 * network.itemsize
            positions = at.output // (at.layer.filters * network.itemsize)
            # Which of them count, and their weights.
            targets += (8 + 2 * network.itemsize) * positions * run.regions if run.regions or run.tile else 0
    targets += 2 * picture * network.itemsize if run.regions else 0  # what is kept outside of them
    targets += 8 * run.regions * picture // 3  # the masks
    kept = {*layers} - {at.step.name for at in passed if at.way.makes_again}  # whose features are kept
    evaluation = _evaluation(passed, kept, pixels * network.itemsize)
    evaluation += 4 * pixels * network.itemsize  # x, its preprocessed copy, the gradient, and the total variation's
    evaluation += (0 if run.keep else features) + (picture * network.itemsize if run.tile else 0)  # of all tiles
    for shape, asked in ((run.content, content), (run.style, style)):
        if shape:
            part, _ = seen(shape)
            taken = math.prod(part) * 3 * network.itemsize
            forward = _forward(walk(asked, part), set(), taken, keep=False)
            whole = math.prod(shape) * 3 * network.itemsize if run.tile else 0
            evaluation = max(evaluation, whole + 2 * taken + forward)  # and its preprocessed copy
    # The first layer's features are made again in blocks on a GPU only for what a kernel does not add to them.
    passes = [[at for at in passed if not (on_device and at.way.makes_again and at.step.name not in content)]]
    if run.style:  # only a forward, whose first layer needs none on a GPU
        passed_by_style = walk(layers, seen(run.style)[0])
        passes.append([at for at in passed_by_style if not (on_device and at.way.makes_again)])
    scratch = max(_scratch(each, workers.threads) for each in passes)
    if on_device:  # and what a term makes of a block of positions
        scratch += max((_term(at) for at in passed if at.step.name in layers and not at.way.makes_again), default=0)
    scratch = scratch * network.itemsize + (_CUBLAS_BYTES if on_device else 0)
    given = 0 if on_device else sum(9 * c * n for c, n in _widths(network)) * network.itemsize
    weights = given + sum(
        way_of(name, "winograd").takes(Layer((4, 4), *widths, network.itemsize, workers, on_device)).arrays
        for name, widths in zip(network.filters, _widths(network), strict=True)
    )
    pairs = run.most_pairs
    in_memory = 0 if run.scratch and (run.tile or not on_device) else pairs
    vectors = {
        "lbfgs-device": (2 * in_memory + 8) * network.itemsize,
        # Its workspace and its copies at the end, in float64; on the host, whatever the device.
        "scipy": (2 * pairs + 38) * 8 if run.device == "cpu" else 0,
        "sgd": 6 * network.itemsize,
        "adam": 9 * network.itemsize,
    }
    numbers = math.prod(run.size) * run.channels
    pairs_and_gradient = (2 * pairs + 1) * numbers * network.itemsize
    stacked = min(pairs_and_gradient, STACKED_BYTES) if on_device and run.optimizer == "lbfgs-device" else 0
    pages = 0
    if on_device:  # what the pool takes more than it was asked for, in the mean
        sizes = [numbers * network.itemsize] * (0 if run.tile else 2 * pairs + 8)
        sizes += [size for at in passed for size in (at.output, at.takes.kept, at.takes.arrays)]
        pages = sum(_PAGE // 2 if size > _PAGE // 2 else _UNIT // 2 for size in sizes)
    return {
        "weights": weights,
        "buffers": scratch,
        "targets": targets,
        "features": evaluation,
        # With tiles the card has what one of them takes, and the host the rest: see `host_memory`.
        "optimizer": 0 if on_device and run.tile else vectors[run.optimizer] * numbers + stacked,
    } | ({"rounded up": pages} if on_device else {})


def host_memory(network: Network, run: Run) -> int:
    """What a GPU's run in tiles takes of the host, in bytes: the optimizer's vectors, pictures and the gradient."""
    on_host = run_memory(network, replace(run, device="cpu"))["optimizer"]
    return on_host + 4 * math.prod(run.size) * 3 * network.itemsize


def pairs_bytes(network: Network, run: Run) -> int:
    """What L-BFGS remembers, in bytes: steps and changes of the gradient."""
    return 2 * run.most_pairs * math.prod(run.size) * run.channels * network.itemsize


def forward_memory(network: Network, layer: str, size: Size, threads: int) -> int:
    """The peak of a forward pass to a layer, in bytes: the picture, what passes through the network, and scratch; the
    network itself is there already. Errors as `run_memory`."""
    names = network.resolve([layer])
    check_size(network.architecture, names, (*size, 3))
    passed = _walk(network, network.steps(names), size, Workers(threads), False)
    picture = math.prod(size) * 3 * network.itemsize
    return 2 * picture + _forward(passed, set(), picture, keep=False) + _scratch(passed, threads) * network.itemsize


def run_seconds(network: Network, run: Run, rates: Rates) -> float:
    """Seconds for one evaluation of loss and gradient, by `measured_rates`."""
    layers = [*run.content_layers, *run.style_layers]
    style = set(map(canonical_layer, run.style_layers))
    products = elements = 0.0
    size, again = run.size, 1.0
    if run.tile:  # each is run forward twice, and back once, which is a half more
        names = network.resolve(layers)
        (height, down), (width, across) = (window(n, run.tile, network.architecture, names) for n in run.size)
        size, again = (height, width), 1.5 * down * across
    passed = _walk(network, network.steps(layers), size, Workers(1), False)
    for at in passed:
        (height, width), channels, filters = at.layer[:3]
        if at.step.conv:
            tiles = -(-height // 4) * -(-width // 4)
            if at.way.makes_again:  # forward, forward again, backward
                products += 3 * 28 * height * width * filters
                elements += 2 * height * width * filters
            else:
                products += 2 * 36 * tiles * channels * filters
                elements += 16 * tiles * (channels + filters)
        if at.step.name in style:  # the Gram matrix, and the product of its gradient with the features
            products += 2 * (at.output // network.itemsize) * filters
    return again * (products * rates.per_product + elements * rates.per_element + len(passed) * rates.per_step)


class _Passed(NamedTuple):
    """A step of a pass: its way, what the way sees, and the bytes of the step's output, and of its input's frame."""

    step: Step
    way: Any
    layer: Layer
    output: int
    frame: int

    @property
    def takes(self) -> Takes:
        return self.way.takes(self.layer)


def _walk(
    network: Network, steps: list[Step], size: Size, workers: Workers, on_device: bool, framed: bool = False
) -> list[_Passed]:
    """A pass over a picture of this size."""
    passed = []
    channels = 3
    for step in steps:
        filters = network.filters[step.conv] if step.conv else channels
        way: Any = way_of(step.conv, "winograd") if step.conv else POOLS[network.pooling]
        layer = Layer(size, channels, filters, network.itemsize, workers, on_device)
        copied = framed and step.conv and not way.makes_again
        frame = (size[0] + 2) * (size[1] + 2) * channels * network.itemsize if copied else 0
        size = (size[0] // 2, size[1] // 2) if step.pool else size
        passed.append(_Passed(step, way, layer, math.prod(size) * filters * network.itemsize, frame))
        channels = filters
    return passed


def _widths(network: Network) -> list[tuple[int, int]]:
    """C_in and C_out of each convolution."""
    return list(itertools.pairwise([3, *network.filters.values()]))


def _forward(passed: list[_Passed], features: set[str], picture: int, *, keep: bool) -> int:
    """The forward's peak; `features` are kept for the backward."""
    peak = kept = 0
    before = picture
    for at in passed:
        peak = max(peak, kept + before + at.output + at.takes.kept + at.frame)
        if keep:
            kept += at.takes.kept + (at.output if at.step.name in features else 0)
        before = 0 if at.step.name in features else at.output  # what is kept is the next step's input, too
    return peak


def _evaluation(passed: list[_Passed], features: set[str], picture: int) -> int:
    """The peak of a forward and a backward."""
    peak = _forward(passed, features, picture, keep=True)
    held = [at.takes.kept + (at.output if at.step.name in features else 0) for at in passed]
    inputs = [picture, *(at.output for at in passed[:-1])]
    for n in reversed(range(len(passed))):
        made = passed[n].output + inputs[n] + passed[n].frame  # gy, and the gx that is made of it
        peak = max(peak, sum(held[: n + 1]) + made)
    return peak


def _scratch(passed: list[_Passed], threads: int) -> int:
    """The elements that the threads work in: for each, the most that any step wants under each name."""
    pieces: dict[str, int] = {}
    for at in passed:
        pieces |= {name: max(pieces.get(name, 0), elements) for name, elements in at.takes.scratch.items()}
    return threads * sum(pieces.values())


def _term(at: _Passed) -> int:
    """The elements of a block of a layer's positions, as `VGG.backward` cuts them."""
    filters, itemsize = at.layer.filters, at.layer.itemsize
    return at.layer.workers.blocks(at.output // (filters * itemsize), 3 * filters * itemsize).longest * filters


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
            with tf32_products() if tf32 else contextlib.nullcontext():
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
