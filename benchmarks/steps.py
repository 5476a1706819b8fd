"""Where the time of an evaluation goes, per layer and step, beside its floor on this machine; needs no other package.

    python benchmarks/steps.py [--size 512] [--weights FILE] [--threads N] [--iterations 10] [--json FILE]

L-BFGS runs on the default objective of a transfer (two bundled pictures, one scale). Once its memory is full, each of
the package's functions that clocks.py names adds the time that its thread spends in it, without that of those it calls,
to a step of the layer that is at work:

    cut         the picture into tiles, forward; its gradient, backward; the first layer's patches
    transform   B^T d B before the products, forward; A g A^T, backward
    product     the 36 products; the first layer's
    inverse     A^T M A after them; B V B^T, backward
    signs       the bias, the ReLU and its signs, and these on the gradient (with the pooling's quarters)
    pooling     the mean of each window
    lay         tiles laid side by side, overlaps added up
    losses      Gram matrices, differences, and what they add to the gradient
    optimiser   all that L-BFGS does between two evaluations
    Python      what is left, between the steps: calls, views, memory, jobs given out; the picture's pre-processing

The times are those of the threads on a core, added up over all of them: other programs on the machine matter little.
What is missing to threads times wall time is waiting: for other threads, the interpreter's lock, or a core. Told is the
mean of that half of the evaluations that took the least.

The floor of a layer is the time of its products, at the rate at which this machine multiplies matrices of these shapes
from warm memory, plus that of its bytes at the rate at which it copies: inputs, outputs and signs once each way, and
features once for each use that a loss makes of them. L-BFGS reads each of its pairs twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clocks
import numpy as np
from clocks import PICTURE, STEPS
from compare import environment

import nsnumpy as ns
from nsnumpy import convolution
from nsnumpy.lbfgs import MEMORY
from nsnumpy.machine import restart_with_better_kernel, usable_cores
from nsnumpy.run.settings import USE_CASES
from nsnumpy.workers import Workers, one_blas_thread

FULL = MEMORY["lbfgs-device"] + 1  # iterations until L-BFGS remembers as much as it can
MULTIPLICATIONS, COPIED = 100_000_000, 32 << 20  # for a rate: in each of five times, and bytes
ROWS = {1: 8192, 36: 128}  # at the most, of a product whose rate is taken: of one alone, and of a stack of 36


def profile(
    network: ns.VGG, f: ns.Objective, x: np.ndarray, iterations: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The milliseconds of an evaluation and of what the optimiser does for it, by layers and steps; the totals.

    The totals: "cpu" is the sum of the parts, "unshared" what of it one thread did while the others had nothing to do,
    "wall" the time by the clock, "alone" and "alone_wall" that of an evaluation which is not profiled, on a core and by
    the clock, "evaluations" how many there were.
    """
    watched = clocks.Profile()
    rounds: list[tuple[float, float, Counter[tuple[str, str]]]] = []
    since = 0.0

    def evaluate(x: np.ndarray) -> Any:
        nonlocal since
        found = f.evaluate(x)
        now = time.perf_counter()
        parts, unshared = watched.taken()
        rounds.append((now - since, unshared, parts))
        since = now
        return found

    def begun(iterate: Any) -> None:
        if iterate.iteration == FULL:
            rounds.clear()

    with watched.attached(network):
        options = {"iterations": FULL + iterations, "workers": network.workers}  # as a run has it
        ns.minimize(evaluate, x, method="lbfgs-device", callback=begun, **options)
    evaluations = len(rounds)
    rounds = sorted(rounds, key=lambda one: one[2].total())[: -(-evaluations // 2)]
    parts = sum((of_round for *_, of_round in rounds), Counter())
    rows: dict[str, dict[str, float]] = {layer: dict.fromkeys(STEPS, 0.0) for layer in [PICTURE, *network.layers]}
    for (layer, step), seconds in parts.items():
        rows[layer][step] += 1e3 * seconds / len(rounds)
    alone = []
    for _ in range(evaluations):
        start, cpu = time.perf_counter(), time.process_time()
        f.evaluate(x)
        alone.append((time.process_time() - cpu, time.perf_counter() - start))
    totals = {
        "cpu": 1e3 * parts.total() / len(rounds),
        "wall": 1e3 * statistics.mean(wall for wall, *_ in rounds),
        "unshared": 1e3 * statistics.mean(unshared for _, unshared, _ in rounds),
        "alone": 1e3 * statistics.median(cpu for cpu, _ in alone),
        "alone_wall": 1e3 * statistics.median(wall for _, wall in alone),
        "evaluations": evaluations,
    }
    return {layer: row for layer, row in rows.items() if any(row.values())}, totals


class Rates:
    """What this machine does in a thread's time, all threads at once: seconds for each multiplication or byte."""

    def __init__(self, threads: int) -> None:
        self._workers = Workers(threads)
        memory = [np.ones(COPIED // 4, np.float32) for _ in range(2 * threads)]
        self.byte = self._best(lambda k: np.copyto(memory[2 * k], memory[2 * k + 1]), 1) / (2 * COPIED)  # read, written

    def products(self, stack: int, rows: int, inner: int, columns: int) -> float:
        """Of ``(stack, rows, inner)`` by ``(stack, inner, columns)``, and back by the transpose: seconds for both.

        The threads share the stack, so that each matrix is read by one of them, or of one product the rows.
        """
        if stack > 1:
            stack = max(1, stack // self._workers.threads)
        else:
            rows = max(1, rows // self._workers.threads)
        shapes = (stack, rows, inner), (stack, inner, columns), (stack, rows, columns)
        own = [[np.ones(shape, np.float32) for shape in shapes] for _ in range(self._workers.threads)]

        def forward(k: int) -> None:
            a, b, out = own[k]
            np.matmul(a, b, out=out)

        def backward(k: int) -> None:
            out, b, a = own[k]
            np.matmul(a, b.swapaxes(1, 2), out=out)

        return sum(self._each(work, stack * rows * inner * columns) for work in (forward, backward))

    def gram(self, rows: int, columns: int) -> float:
        """Of ``F^T F``, which BLAS makes by halves."""
        F = np.ones((max(1, rows // self._workers.threads), columns), np.float32)
        return self._each(lambda _: F.T @ F, F.size * columns)

    def _each(self, work: Callable[[int], Any], multiplications: int) -> float:
        times = -(-MULTIPLICATIONS // multiplications)
        return self._best(work, times) / (times * multiplications)

    def _best(self, work: Callable[[int], Any], times: int) -> float:
        def timed(k: int, _: Any) -> float:
            start = time.thread_time()
            for _ in range(times):
                work(k)
            return time.thread_time() - start

        threads = range(self._workers.threads)
        return min(statistics.mean(self._workers.map(timed, threads)) for _ in range(5))


def floors(network: ns.VGG, f: ns.Objective, shape: tuple[int, ...], threads: int) -> dict[str, dict[str, float]]:
    """The milliseconds, of all threads, that the products and the bytes of each layer take at the least."""
    rates = Rates(threads)
    itemsize, (height, width, channels) = network.dtype.itemsize, shape
    floor: dict[str, dict[str, float]] = {}

    def put(layer: str, products: float, numbers: float) -> None:
        floor[layer] = {"products": 1e3 * products, "bytes": 1e3 * numbers * itemsize * rates.byte}

    put(PICTURE, 0.0, (4 * MEMORY["lbfgs-device"] + 5) * height * width * channels)  # and x, its step and change
    for step in network.steps([*f.content_layers, *f.style_layers]):
        if not step.conv:
            height, width = height // 2, width // 2
            continue
        filters, positions = network.filters[step.conv], height * width
        if isinstance(network.layers[step.conv], convolution.Patches):
            stack, of_all, signs = 1, positions, 0.0
        else:
            stack, of_all = 36, -(-height // 4) * -(-width // 4)
            signs = 2 * 2 * of_all * filters / itemsize  # 16 bits a tile, there and back
        inner = 28 if stack == 1 else channels
        rows = min(of_all, ROWS[stack])
        products = stack * of_all * inner * filters * rates.products(stack, rows, inner, filters)
        if step.pool:
            height, width = height // 2, width // 2
        numbers = 2 * (positions * channels + height * width * filters) + signs
        if step.name in f.style_layers:
            rows = min(positions, ROWS[1])
            each = rates.gram(rows, filters) + rates.products(1, rows, filters, filters) / 2
            products += positions * filters * filters * each
        if step.name in {**f.style_layers, **f.content_layers}:
            numbers += (4 + 2 * (step.name in f.content_layers)) * positions * filters
        put(step.conv, products, numbers)
        channels = filters
    return floor


def table(results: dict[str, Any]) -> str:
    """Milliseconds of all threads, layer by layer and step by step."""
    rows, floor, totals = results["layers"], results["floor"], results["totals"]
    lines = ["".join([f"{'':9}", *(f"{name:>10}" for name in (*STEPS, "all", "share", "floor", "ratio"))])]

    def line(name: str, row: dict[str, float], least: float) -> None:
        cells = [f"{row[step]:10.2f}" if row[step] else f"{'':10}" for step in STEPS]
        whole = sum(row.values())
        lines.append(
            f"{name:9}{''.join(cells)}{whole:10.2f}{whole / totals['cpu']:10.1%}{least:10.2f}{whole / least:10.2f}"
        )

    for name, row in rows.items():
        line(name, row, sum(floor[name].values()))
    whole = {step: sum(row[step] for row in rows.values()) for step in STEPS}
    least = {name: sum(of_layer[name] for of_layer in floor.values()) for name in ("products", "bytes")}
    line("all", whole, sum(least.values()))
    shares = "".join(f"{whole[step] / totals['cpu']:10.1%}" for step in STEPS)
    lines.append(f"{'share':9}{shares}")
    height, width = results["size"]
    threads, evaluation = results["environment"]["threads"], totals["cpu"] - whole["optimiser"]
    lines += [
        "",
        f"Milliseconds of {threads} threads for one evaluation and the optimiser's part; {width} x {height}, "
        f"{results['network']}; {totals['evaluations']} evaluations.",
        f"By the clock {totals['wall']:.1f} ms; the threads waited for {totals['wall'] - totals['cpu'] / threads:.1f} "
        f"of them on the average. One thread alone is at work for {totals['unshared']:.1f} ms.",
        f"The floor: products {least['products']:.1f} ms, bytes {least['bytes']:.1f} ms.",
        f"The optimiser takes {whole['optimiser'] / evaluation:.1%} of the work of an evaluation, {evaluation:.1f} ms, "
        f"and {whole['optimiser'] * threads / evaluation:.1%} of its time if that were shared evenly.",
        f"Without the profile an evaluation takes {totals['alone']:.1f} ms, {totals['alone_wall']:.1f} by the clock.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="long side in pixels (512)")
    parser.add_argument("--weights", default="builtin", help="as of nsnumpy (builtin)")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--iterations", type=int, default=10, help=f"to be profiled, after {FULL} that are not (10)")
    parser.add_argument("--json", type=Path, help="a file for the same figures")
    arguments = parser.parse_args()
    defaults = USE_CASES["transfer"].defaults.completed("transfer")
    network = ns.load_vgg(arguments.weights, threads=arguments.threads, border=defaults.border)
    p, a = (ns.load_image(f"sample:{name}", arguments.size) for name in ("coast", "starry"))
    names = ("alpha", "beta", "tv", "content_layers", "style_layers", "convention")
    f = ns.Objective(network, content=p, style=a, **{name: getattr(defaults, name) for name in names})
    with one_blas_thread:
        rows, totals = profile(network, f, p, arguments.iterations)
        floor = floors(network, f, p.shape, arguments.threads)
    results = {
        "environment": environment(arguments.threads),
        "network": network.source,
        "size": list(p.shape[:2]),
        "totals": totals,
        "layers": rows,
        "floor": floor,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    restart_with_better_kernel()
    main()
