"""An estimate, not a measurement: what an evaluation and an iteration would take on a GPU that nobody has at hand.

`python benchmarks/gpu.py --model` runs full-width VGG-19 on the tests' stand-in for CuPy, where each launch is counted,
with the bytes that it reads and writes and the products that it makes, and none is computed. A launch then takes the
longer of two times: its bytes at the card's bandwidth, its operations at its peak. The host issues one launch after the
other, each in so many microseconds; the card begins when it is issued and the last one is done. The least figure is at
the data sheet's peaks, the other at `REACHED` of them, which is about what large copies and products come to.

What a cache holds need not be read again, and a small launch does not fill a card: the model knows neither.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nsnumpy as ns
from nsnumpy.backend import asarray
from nsnumpy.files.random_network import random_weights

WIDTHS = (64, 128, 256, 512, 512)
REACHED = 0.75  # of the peaks
ITERATIONS = 18  # of L-BFGS, by which it has all of its pairs

Launch = tuple[str, float, float]
"""Its name, bytes and operations."""


@dataclass(frozen=True)
class Card:
    """What the data sheet says; the defaults are of an H100 SXM (TF32 without sparsity)."""

    flops: float = 67e12
    tf32_flops: float = 494.7e12
    bandwidth: float = 3.35e12  # bytes a second
    launch: float = 4e-6  # seconds of the host's


def stand_in() -> Any:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import strict_cupy

    cupy = strict_cupy.make()
    cupy.memory_limit = 1 << 50
    return cupy


def counting(cupy: Any) -> list[Launch]:
    """The launches that this stand-in is told to do from now on; it fills no memory, and neither kernels nor products
    are run."""
    import strict_cupy

    launches: list[Launch] = []

    class Kernel:
        def __init__(self, code: str, name: str) -> None:
            self.name = name

        def __call__(self, grid: Any, block: Any, arguments: Any) -> None:
            launches.append((self.name, *_work(self.name, arguments)))

    def products(name: str, p: Any) -> None:
        matrices = ((p.m * p.k, p.strideA), (p.k * p.n, p.strideB), (p.m * p.n, p.strideC))
        numbers = sum(size * (p.batchCount if step else 1) for size, step in matrices)
        launches.append(("gemm", 4.0 * numbers, 2.0 * p.m * p.n * p.k * p.batchCount))

    def count(name: str, arrays: Any) -> None:
        launches.append((name, float(sum(array.nbytes for array in {id(a): a for a in arrays}.values())), 0.0))

    cupy.RawKernel, cupy.cuda.cublas._products, cupy.work.count = Kernel, products, count
    cupy.empty = lambda shape, dtype=float: strict_cupy._wrap(cupy, np.zeros(shape, dtype), ())
    return launches


def _work(name: str, arguments: Any) -> tuple[float, float]:
    """A kernel's bytes and operations: of a piece of work it moves its part of a picture, not all of it."""
    arrays = {id(a._array): a for a in arguments if hasattr(a, "_array")}.values()
    count = int(next(a for a in arguments if isinstance(a, np.int32)))
    if name in ("transform", "transform_adjoint", "outputs", "outputs_adjoint"):
        pooled = name.startswith("outputs") and int(arguments[-1])
        most = 16 * count * 4 // (4 if pooled else 1)  # of a tile's numbers, those of a picture
        return float(sum(a.nbytes if a.shape[0] == 36 else min(a.nbytes, most) for a in arrays)), 0.0
    filters = max(a.shape[-1] for a in arrays)
    numbers = max(a.size for a in arrays)
    each = {"first": 54, "first_adjoint": 54, "first_gradient": 54 + 2 * filters, "inner_product": 2}[name]
    return float(sum(a.nbytes for a in arrays)), float(each * numbers)


def evaluation(size: int) -> list[Launch]:
    """The launches of one evaluation of a square picture, the paper's layers."""
    cupy = stand_in()
    launches = counting(cupy)
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    try:
        x = asarray(np.zeros((size, size, 3), "float32"), cupy, "float32")
        objective = ns.Objective(ns.VGG(random_weights(WIDTHS, seed=0), xp=cupy), content=x, style=x)
        objective(x)
        launches.clear()
        objective(x)
    finally:
        sys.modules.pop("cupy") if before is None else sys.modules.update(cupy=before)
    return launches


def iteration(size: int) -> list[Launch]:
    """The launches of one iteration of L-BFGS in a box beside its evaluation, with all of its pairs."""
    cupy = stand_in()
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    launches: list[Launch] = []
    counted = cupy.work.count

    def count(name: str, arrays: Any) -> None:
        arrays = list(arrays)
        launches.append((name, float(sum(array.nbytes for array in {id(a): a for a in arrays}.values())), 0.0))
        counted(name, arrays)

    cupy.work.count = count
    try:
        rng = np.random.default_rng(0)
        x, target, scale = (asarray(rng.random((size, size, 3)), cupy, "float32") for _ in range(3))
        target = 1.4 * target - 0.2
        evaluations: list[int] = []

        def f(x: Any) -> tuple[float, Any]:
            here = len(launches)
            gradient = (scale + 0.01) * (x - target)
            value = float((gradient * (x - target)).sum(dtype="float64").get()) / 2
            del launches[here:]
            evaluations.append(here)
            return value, gradient

        marks: list[tuple[int, int]] = []
        ns.minimize(
            f, x, method="lbfgs-device", iterations=ITERATIONS, bounds=(0.0, 1.0),
            callback=lambda _: marks.append((len(launches), len(evaluations))),
        )  # fmt: skip
        steps = [(a, b) for (a, before_), (b, after) in itertools.pairwise(marks) if after - before_ == 1]
        start, stop = steps[-1]
        return launches[start:stop]
    finally:
        sys.modules.pop("cupy") if before is None else sys.modules.update(cupy=before)


def seconds(launches: list[Launch], bandwidth: float, flops: float, launch: float) -> float:
    """Until the last one is done: each begins when it was issued, and the one before is done."""
    done = 0.0
    for k, (name, size, operations) in enumerate(launches):
        peak = flops if name == "gemm" else min(flops, Card.flops)
        done = max(done, (k + 1) * launch) + max(size / bandwidth, operations / peak)
    return done


def estimate(sizes: list[int], card: Card, say: Callable[[str], object] = print) -> list[dict[str, Any]]:
    """A row for each size and precision."""
    rows = []
    for size in sizes:
        parts = {"evaluation": evaluation(size), "iteration beside it": iteration(size)}
        for precision, flops in (("float32", card.flops), ("TF32", card.tf32_flops)):
            for what, launches in parts.items():
                times = [
                    seconds(launches, share * card.bandwidth, share * flops, launch)
                    for share, launch in ((1, card.launch), (REACHED, card.launch), (REACHED, 0.0))
                ]
                row = {
                    "size": size,
                    "precision": precision,
                    "what": what,
                    "launches": len(launches),
                    "gigabytes": sum(launch[1] for launch in launches) / 1e9,
                    "teraflop": sum(launch[2] for launch in launches) / 1e12,
                    "estimated_ms": [1e3 * time for time in times[:2]],
                    "estimated_ms_without_launches": 1e3 * times[2],
                }
                rows.append(row)
                least, most, free = (1e3 * time for time in times)
                say(
                    f"{size} x {size}, {precision}, {what}: {row['launches']} launches, {row['gigabytes']:.2f} GB, "
                    f"{row['teraflop']:.3f} Tflop; estimated {least:.2f} to {most:.2f} ms, "
                    f"{free:.2f} if none had to be launched"
                )
    return rows
