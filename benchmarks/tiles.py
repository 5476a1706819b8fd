"""Tiles: what they cost in time, what they save in memory, and whether the plan knows it.

    python benchmarks/tiles.py time [--size 2048] [--tile 1024] [--rounds 3]
    python benchmarks/tiles.py memory [--sizes 2048,4096] [--tile 1024]
    python benchmarks/tiles.py plan

``time``: the seconds of one evaluation in tiles over those of the whole picture, of the built-in network with the
losses of a transfer, in turn; the processor's seconds as well, which other programs disturb less. ``memory``: the peak
of one evaluation in a process of its own, with content features made again, without what the process held before, the
picture and the gradient. ``plan``: what `nsnumpy plan` says of five runs, and what each took, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

import nsnumpy as ns
from nsnumpy.machine import peak_memory, resident_bytes
from nsnumpy.run.settings import BY_CONVENTION
from nsnumpy.tiles.objective import TiledObjective

DEFAULTS = {name: BY_CONVENTION["relative"]["transfer"][name] for name in ("alpha", "beta", "tv", "content_layers")}
RUNS: list[dict[str, Any]] = [
    {"size": 1024, "tile": 512, "iterations": 20},
    {"size": 2048, "tile": 1024, "iterations": 5, "memory_pairs": 4},
    {"size": 2048, "tile": 512, "iterations": 5, "memory_pairs": 4},
    {"size": 1536, "tile": 512, "iterations": 3, "optimizer": "scipy", "memory_pairs": 3},
    {"size": 2560, "tile": 256, "iterations": 1, "memory_pairs": 3, "style_size": 1024},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("time")
    command.add_argument("--size", type=int, default=2048)
    command.add_argument("--tile", type=int, default=1024)
    command.add_argument("--rounds", type=int, default=3)
    command = commands.add_parser("memory")
    command.add_argument("--sizes", default="2048,4096")
    command.add_argument("--tile", type=int, default=1024)
    commands.add_parser("plan")
    for name in ("one-evaluation", "one-run"):
        commands.add_parser(name).add_argument("given", type=json.loads)
    arguments = parser.parse_args()
    {"time": seconds, "memory": memory, "plan": planned, "one-evaluation": one_evaluation, "one-run": one_run}[
        arguments.command
    ](arguments)


def objective(size: int, **options: Any) -> tuple[ns.Objective, np.ndarray]:
    """Of a square picture of noise, and that picture."""
    rng = np.random.default_rng(0)
    x, p, a = (rng.random((side, side, 3), dtype=np.float32) for side in (size, size, 384))
    make = TiledObjective if options else ns.Objective
    return make(ns.load_vgg(), content=p, style=a, convention="relative", **DEFAULTS, **options), x


def seconds(arguments: argparse.Namespace) -> None:
    whole, x = objective(arguments.size)
    tiled, _ = objective(arguments.size, tile=arguments.tile)
    whole(x)
    ratios = []
    for _ in range(arguments.rounds):
        taken = []
        for function in (whole, tiled):
            before = time.perf_counter(), time.process_time()
            loss, gradient = function(x)
            taken.append((time.perf_counter() - before[0], time.process_time() - before[1], loss, gradient))
        (wall, cpu, loss, gradient), (wall_tiled, cpu_tiled, loss_tiled, gradient_tiled) = taken
        ratios.append((wall_tiled / wall, cpu_tiled / cpu))
        error = np.abs(gradient_tiled - gradient).max() / np.abs(gradient).max()
        print(
            f"{arguments.size} px: {wall:.2f} s, in tiles of {arguments.tile} {wall_tiled:.2f} s, ratio "
            f"{wall_tiled / wall:.3f}; processor's {cpu_tiled / cpu:.3f}; loss {loss_tiled / loss - 1:+.1e}, "
            f"gradient {error:.1e}",
            flush=True,
        )
    print("median ratios: wall {:.3f}, processor {:.3f}".format(*map(statistics.median, zip(*ratios, strict=True))))


def memory(arguments: argparse.Namespace) -> None:
    peaks = {}
    for size in map(int, arguments.sizes.split(",")):
        peaks[size] = in_a_process("one-evaluation", {"size": size, "tile": arguments.tile})["bytes"]
        print(f"{size} px in tiles of {arguments.tile}: {peaks[size] / 1e6:.0f} MB", flush=True)
    first, *_, last = peaks
    print(f"ratio {peaks[last] / peaks[first]:.3f}")


def one_evaluation(arguments: argparse.Namespace) -> None:
    given = arguments.given
    function, x = objective(given["size"], tile=given["tile"], keep=False)
    held = resident_bytes()
    function(x)
    print(json.dumps({"bytes": (peak_memory() or 0) - held - x.nbytes}))


def planned(arguments: argparse.Namespace) -> None:
    for run in RUNS:
        took = in_a_process("one-run", run)
        said, peak = took["planned"], took["peak"]
        print(f"{run}: planned {said / 1e6:.0f} MB, took {peak / 1e6:.0f} MB, {said / peak - 1:+.1%}", flush=True)


def one_run(arguments: argparse.Namespace) -> None:
    given = {"content": "sample:coast", "style": "sample:starry", "scales": (), **arguments.given}
    said = ns.plan("transfer", **given).peak_bytes
    ns.transfer(given.pop("content"), given.pop("style"), **given)
    print(json.dumps({"planned": said, "peak": peak_memory()}))


def in_a_process(command: str, given: dict[str, Any]) -> Any:
    made = subprocess.run([sys.executable, __file__, command, json.dumps(given)], capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(made.stderr)
    return json.loads(made.stdout)


if __name__ == "__main__":
    main()
