"""This package's L-BFGS beside scipy's L-BFGS-B on the CPU: the loss after so many evaluations, and the time they take.

    python benchmarks/optimizers.py [--size 256] [--evaluations 100] [--threads N] [--json FILE]

Per pair of bundled pictures both methods run in turn, from the content picture, in the box [0, 1], on the default
objective of a transfer at one scale, and are stopped after the same number of evaluations. Compared are the lowest loss
that each has accepted after a quarter, half and all of them, and the overhead: the time per evaluation that is spent
outside the objective. (To take scipy's float64 pixels to float32, and the gradient back, is the objective's part.)
Writes benchmarks/optimizers.json. Needs PyTorch, whose version is told with the others'.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from compare import HERE, environment, say
from threadpoolctl import threadpool_limits

import nsnumpy as ns
from nsnumpy.backend import asarray
from nsnumpy.blas import restart_with_better_kernel
from nsnumpy.settings import DEFAULTS
from nsnumpy.workers import usable_cores

PAIRS = (("coast", "starry"), ("still-life", "glass"), ("coast", "cutouts"))
METHODS = ("lbfgs-device", "lbfgs")


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
    defaults = DEFAULTS["transfer"].completed("transfer")
    names = ("alpha", "beta", "tv", "content_layers", "style_layers", "convention")
    p, a = (ns.load_image(f"sample:{name}", size) for name in (content, style))
    objective = ns.Objective(vgg, content=p, style=a, **{name: getattr(defaults, name) for name in names})
    objective(p)  # memory is taken, threads are started
    row: dict[str, Any] = {"content": content, "style": style, "size": list(p.shape[:2])}
    for method in METHODS:
        # As transfer starts them: scipy's makes its float64 copy of the picture itself.
        x = p if method == "lbfgs" else asarray(p, vgg.xp, vgg.dtype)
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
    parser.add_argument("--size", type=int, default=256, help="long side (256)")
    parser.add_argument("--evaluations", type=int, default=100, help="of each method (100)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the network and of BLAS")
    parser.add_argument("--json", type=Path, default=HERE / "optimizers.json")
    arguments = parser.parse_args()
    size, threads = arguments.size, arguments.threads
    results: dict[str, Any] = {"environment": environment(threads), "size": size, "pairs": []}
    vgg = ns.load_vgg(threads=threads)
    with threadpool_limits(threads, user_api="blas"):
        for content, style in PAIRS:
            results["pairs"].append(pair(vgg, content, style, size, arguments.evaluations))
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    restart_with_better_kernel()
    main()
