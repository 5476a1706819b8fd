"""An estimate, not a measurement: what an evaluation and an iteration would take on a GPU that nobody has at hand.

`python benchmarks/gpu.py --model` runs full-width VGG-19 on the tests' stand-in for CuPy, where each launch is counted,
with the bytes that it reads and writes and the products that it makes, and none is computed. A launch then takes the
longer of two times: its bytes at the card's bandwidth, its operations at its peak. The host issues one launch after the
other, each in so many microseconds; the card begins when it is issued and the last one is done. The least figure is at
the data sheet's peaks, the other at `REACHED` of them, which is about what large copies and products come to.

What a cache holds need not be read again, and a small launch does not fill a card: the model knows neither.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nsnumpy as ns
from nsnumpy.backend import asarray
from nsnumpy.files.random_network import random_weights

WIDTHS = (64, 128, 256, 512, 512)
REACHED = 0.75  # of the peaks
ITERATIONS = 24  # of L-BFGS: its launches do not depend on how many pairs it has, their bytes do

Launch = tuple[str, float, float]
"""Its name, bytes and operations."""


class Card(NamedTuple):
    """What the data sheet says; the defaults are of an H100 SXM (TF32 without sparsity)."""

    flops: float = 67e12
    tf32_flops: float = 494.7e12
    bandwidth: float = 3.35e12  # bytes a second
    launch: float = 4e-6  # seconds of the host's


@contextlib.contextmanager
def stand_in() -> Iterator[Any]:
    """The tests' stand-in, in CuPy's place; RuntimeError with the reason where there can be none."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import strict_cupy

    fake, before = strict_cupy.make(), sys.modules.get("cupy")
    fake.memory_limit = 1 << 50
    sys.modules["cupy"] = fake
    try:
        yield fake
    finally:
        del sys.modules["cupy"]
        sys.modules.update({} if before is None else {"cupy": before})


def counting(fake: Any) -> list[Launch]:
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
        launches.append((name.removeprefix("cupy."), _bytes(arrays), 0.0))

    fake.RawKernel, fake.cuda.cublas._products, fake.work.count = Kernel, products, count
    fake.empty = lambda shape, dtype=float: strict_cupy._wrap(fake, np.zeros(shape, dtype), ())
    return launches


def _bytes(arrays: Iterable[np.ndarray]) -> float:
    return float(sum(array.nbytes for array in {id(array): array for array in arrays}.values()))


def _work(name: str, arguments: Any) -> tuple[float, float]:
    """A kernel's bytes and operations: of a piece of work it moves its part of a picture, not all of it."""
    arrays = {id(a._array): a for a in arguments if hasattr(a, "_array")}.values()
    count = int(next(a for a in arguments if isinstance(a, np.int32)))
    if name in ("transform", "transform_adjoint", "outputs", "outputs_adjoint"):
        pooled = name.startswith("outputs") and int(arguments[-1])
        most = 16 * count * 4 // (4 if pooled else 1)  # of a tile's numbers, those of a picture
        return float(sum(a.nbytes if a.shape[0] == 36 else min(a.nbytes, most) for a in arrays)), 0.0
    filters = max((a.shape[-1] for a in arrays if a.ndim > 1), default=1)
    numbers = max(a.size for a in arrays)
    each = {"first": 54, "first_adjoint": 54, "first_gradient": 54 + 2 * filters, "inner_product": 2}[name]
    return float(sum(a.nbytes for a in arrays)), float(each * numbers)


def evaluation(size: int) -> list[Launch]:
    """The launches of one evaluation of a square picture, the paper's layers."""
    with stand_in() as fake:
        launches = counting(fake)
        x = asarray(np.zeros((size, size, 3), "float32"), fake, "float32")
        objective = ns.Objective(ns.VGG(random_weights(WIDTHS, seed=0), xp=fake), content=x, style=x)
        objective(x)
        launches.clear()
        objective(x)
    return launches


def iteration(size: int) -> list[Launch]:
    """The launches of one iteration of L-BFGS in a box, the last that needs one evaluation, without that."""
    launches: list[Launch] = []
    marks: list[tuple[int, int]] = []
    evaluations: list[int] = []
    rng = np.random.default_rng(0)
    with stand_in() as fake:
        fake.work.count = lambda name, arrays: launches.append((name, _bytes(arrays), 0.0))
        x, target, scale = (asarray(rng.random((size, size, 3)), fake, "float32") for _ in range(3))
        target = 1.4 * target - 0.2  # so that the box is felt

        def f(x: Any) -> tuple[float, Any]:
            here = len(launches)
            gradient = (scale + 0.01) * (x - target)
            value = float((gradient * (x - target)).sum(dtype="float64").get()) / 2
            del launches[here:]
            evaluations.append(here)
            return value, gradient

        def mark(_: Any) -> None:
            marks.append((len(launches), len(evaluations)))

        ns.minimize(f, x, method="lbfgs-device", iterations=ITERATIONS, bounds=(0.0, 1.0), callback=mark)
    alone = [(a, b) for (a, before), (b, after) in itertools.pairwise(marks) if after - before == 1]
    start, stop = alone[-1]
    return launches[start:stop]


def seconds(launches: list[Launch], card: Card, *, tf32: bool = False) -> float:
    """Until the last one is done: each begins when it was issued, and the one before is done."""
    done = 0.0
    for k, (name, size, operations) in enumerate(launches):
        peak = card.tf32_flops if tf32 and name == "gemm" else card.flops
        done = max(done, (k + 1) * card.launch) + max(size / card.bandwidth, operations / peak)
    return done


def estimate(sizes: list[int], card: Card, say: Callable[[str], object] = print) -> list[dict[str, Any]]:
    """A row for each size and precision."""
    reached = Card(REACHED * card.flops, REACHED * card.tf32_flops, REACHED * card.bandwidth, card.launch)
    rows = []
    for size in sizes:
        parts = {"evaluation": evaluation(size), "iteration beside it": iteration(size)}
        for precision, (what, launches) in itertools.product(("float32", "TF32"), parts.items()):
            times = [
                1e3 * seconds(launches, each, tf32=precision == "TF32")
                for each in (card, reached, reached._replace(launch=0.0))
            ]
            row = {
                "size": size,
                "precision": precision,
                "what": what,
                "launches": len(launches),
                "gigabytes": sum(launch[1] for launch in launches) / 1e9,
                "teraflop": sum(launch[2] for launch in launches) / 1e12,
                "estimated_ms": times[:2],
                "estimated_ms_without_launches": times[2],
            }
            rows.append(row)
            say(
                f"{size} x {size}, {precision}, {what}: {row['launches']} launches, {row['gigabytes']:.2f} GB, "
                f"{row['teraflop']:.3f} Tflop; estimated {times[0]:.2f} to {times[1]:.2f} ms, "
                f"{times[2]:.2f} if none had to be launched"
            )
    return rows
