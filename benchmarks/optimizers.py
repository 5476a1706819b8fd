"""This package's L-BFGS beside scipy's L-BFGS-B on the CPU: a default picture, and evaluation by evaluation.

    python benchmarks/optimizers.py [--rounds 3] [--transfer=OPTIONS] [--size 256] [--evaluations 100] [--threads N]
        [--json FILE]

The picture is that of `nsnumpy transfer sample:coast sample:starry`, at all its defaults but for --threads and what
--transfer adds, made with either method in a process of its own, in turn, --rounds times. Told are the medians of the
process's whole time, start and weights included, and of its peak memory, and the picture's loss.

Per pair of bundled pictures both methods run in turn, from the content picture, in the box [0, 1], on the default
objective of a transfer at one scale, and are stopped after the same number of evaluations. Compared are the lowest loss
that each has accepted after a quarter, half and all of them, and the overhead: the time per evaluation that is spent
outside the objective. (To take scipy's float64 pixels to float32, and the gradient back, is the objective's part.) BLAS
has one thread, as in a run.
Writes benchmarks/optimizers.json. Needs PyTorch, whose version is told with the others'.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from compare import HERE, environment, say

import nsnumpy as ns
from nsnumpy.backend import asarray
from nsnumpy.machine import restart_with_better_kernel, usable_cores
from nsnumpy.run.settings import USE_CASES
from nsnumpy.workers import one_blas_thread

PAIRS = (("coast", "starry"), ("still-life", "glass"), ("coast", "cutouts"))
METHODS = ("lbfgs-device", "scipy")
MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024)}))
"""
"""Runs a command from a process that is small itself: a child's peak is at least what its parent held at the fork."""


class Watched:
    """An objective that counts its evaluations and the seconds in them, and allows a number of them."""

    def __init__(self, f: ns.lbfgs.Function, allowed: int) -> None:
        self.f = f
        self.allowed = allowed
        self.evaluations = 0
        self.seconds = 0.0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        if self.evaluations == self.allowed:
            raise KeyboardInterrupt  # which ends every method, as Ctrl-C does
        start = time.perf_counter()
        loss, gradient = self.f(x)
        self.seconds += time.perf_counter() - start
        self.evaluations += 1
        return loss, gradient


def picture(rounds: int, threads: int, options: list[str]) -> dict[str, Any]:
    """A default picture with either method, by the command line."""
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    settings: dict[str, Any] = {}
    for _ in range(rounds):
        for method, done in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder, "out.png")
                command = [sys.executable, "-m", "nsnumpy", "transfer", "sample:coast", "sample:starry", *options]
                command += ["--optimizer", method, "--threads", str(threads), "-o", str(out), "--quiet"]
                measured = [sys.executable, "-c", MEASURED, *command]
                text = subprocess.run(measured, stdout=subprocess.PIPE, text=True, check=True).stdout
                settings = ns.read_settings(out)
            done.append(json.loads(text) | {"loss": settings["loss"]})
            say(f"{method}: {done[-1]}")
    names = ("seconds", "peak_bytes", "loss")
    row: dict[str, Any] = {name: settings[name] for name in ("content", "style", "size", "scales", "iterations")}
    row |= {"options": options, "rounds": runs}
    for method, done in runs.items():
        row[method] = {name: statistics.median(run[name] for run in done) for name in names}
    own, scipy = (row[method] for method in METHODS)
    return row | {"ratio": {name: own[name] / scipy[name] for name in names}}


def minimise(f: ns.lbfgs.Function, x: np.ndarray, method: str, evaluations: int) -> dict[str, Any]:
    """What a method comes to in so many evaluations, and in what time."""
    watched = Watched(f, evaluations)
    accepted: list[tuple[int, float]] = []  # (evaluations so far, loss)
    start = time.perf_counter()
    minimum = ns.minimize(
        watched,
        x,
        method=method,
        iterations=evaluations,  # as none takes less than an evaluation, these do not run out first
        bounds=(0.0, 1.0),
        callback=lambda iterate: accepted.append((watched.evaluations, iterate.loss)),
    )
    seconds = time.perf_counter() - start
    marks = [max(1, evaluations * quarters // 4) for quarters in (1, 2, 4)]
    return {
        "losses": {str(mark): min(loss for count, loss in accepted if count <= mark) for mark in marks},
        "evaluations": watched.evaluations,
        "iterations": minimum.iterations,
        "stopped": "" if minimum.interrupted else minimum.stopped,
        "seconds": seconds,
        "seconds_inside": watched.seconds,
        "overhead": (seconds - watched.seconds) / watched.evaluations,
    }


def pair(vgg: ns.VGG, content: str, style: str, size: int, evaluations: int) -> dict[str, Any]:
    """Both methods on the default objective of one pair."""
    defaults = USE_CASES["transfer"].defaults.completed("transfer")
    names = ("alpha", "beta", "tv", "content_layers", "style_layers", "convention")
    p, a = (ns.load_image(f"sample:{name}", size) for name in (content, style))
    objective = ns.Objective(vgg, content=p, style=a, **{name: getattr(defaults, name) for name in names})
    objective(p)  # memory is taken, threads are started
    row: dict[str, Any] = {"content": content, "style": style, "size": list(p.shape[:2])}
    for method in METHODS:
        # As transfer starts them: scipy's makes its float64 copy of the picture itself.
        x = p if method == "scipy" else asarray(p, vgg.xp, vgg.dtype)
        row[method] = minimise(objective, x, method, evaluations)
        say(f"{content}, {style}, {method}: {row[method]}")
    own, scipy = (row[method] for method in METHODS)
    row["ratio"] = {
        "losses": {mark: own["losses"][mark] / scipy["losses"][mark] for mark in own["losses"]},
        "seconds": own["seconds"] / scipy["seconds"],
        "overhead": own["overhead"] / scipy["overhead"],
    }
    return row


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = ["| | lbfgs-device | scipy's L-BFGS-B | ratio |", "|---|---|---|---|"]
    if row := results.get("picture"):
        own, scipy = (row[method] for method in METHODS)
        options = f" ({shlex.join(row['options'])})" if row["options"] else ""
        name, ratio = f"default picture{options}", row["ratio"]
        lines.append(f"| {name}: time | {own['seconds']:.1f} s | {scipy['seconds']:.1f} s | {ratio['seconds']:.2f} |")
        sides = [f"{side['peak_bytes'] / 1e9:.2f} GB" for side in (own, scipy)]
        lines.append(f"| {name}: peak memory | {' | '.join(sides)} | {ratio['peak_bytes']:.2f} |")
        lines.append(f"| {name}: loss | {own['loss']:.4f} | {scipy['loss']:.4f} | {ratio['loss']:.4f} |")
    for row in results["pairs"]:
        own, scipy = (row[method] for method in METHODS)
        name = f"{row['content']}, {row['style']}"
        for mark, ratio in row["ratio"]["losses"].items():
            losses = f"{own['losses'][mark]:.4f} | {scipy['losses'][mark]:.4f} | {ratio:.4f}"
            lines.append(f"| {name}: lowest loss after {mark} evaluations | {losses} |")
        sides = [f"{side['seconds']:.1f} s ({side['evaluations']} evaluations)" for side in (own, scipy)]
        lines.append(f"| {name}: time | {' | '.join(sides)} | {row['ratio']['seconds']:.2f} |")
        sides = [f"{1e3 * side['overhead']:.1f} ms" for side in (own, scipy)]
        lines.append(f"| {name}: overhead per evaluation | {' | '.join(sides)} | {row['ratio']['overhead']:.2f} |")
    e = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    where = f"{e['cpu']}, {e['threads']} threads, {', '.join(e['blas'])}, {versions}, Python {e['python']}, {e['date']}"
    return "\n".join([*lines, "", f"Long side {results['size']}; {where}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of the default picture (3); 0 leaves it out")
    parser.add_argument("--transfer", metavar="OPTIONS", default="", help="more options of the default picture, in one")
    parser.add_argument("--size", type=int, default=256, help="long side, evaluation by evaluation (256)")
    parser.add_argument("--evaluations", type=int, default=100, help="of each method (100); 0 leaves them out")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the network")
    parser.add_argument("--json", type=Path, default=HERE / "optimizers.json")
    arguments = parser.parse_args()
    size, threads = arguments.size, arguments.threads
    results: dict[str, Any] = {"environment": environment(threads), "size": size, "pairs": []}
    if arguments.rounds:
        results["picture"] = picture(arguments.rounds, threads, shlex.split(arguments.transfer))
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    vgg = ns.load_vgg(threads=threads)
    with one_blas_thread:
        for content, style in PAIRS if arguments.evaluations else ():
            results["pairs"].append(pair(vgg, content, style, size, arguments.evaluations))
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    restart_with_better_kernel()
    main()
