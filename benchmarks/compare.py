"""nsnumpy beside PyTorch on this machine's CPU: time, memory, accuracy; each layer beside the time of its products.

    python benchmarks/compare.py [--quick] [--threads N] [--json FILE]
    python benchmarks/compare.py --readme

The two sides run in turn, in processes of their own, on the same objective with the same weights (full-width VGG-19,
random and calibrated as the built-in network's are). Writes benchmarks/results.json. Takes about half an hour on two
cores, --quick a few minutes. Needs PyTorch: pip install '.[bench]'. --readme measures nothing: it puts that file's
table into docs/benchmarks.md, and three rows of it into README.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import nsnumpy as ns
from nsnumpy.files.random_network import CALIBRATION, PREPROCESSING, SEED, calibrate, random_weights
from nsnumpy.machine import restart_with_better_kernel, usable_cores
from nsnumpy.ops import winograd_relu_backward, winograd_relu_forward, winograd_weight
from nsnumpy.workers import Workers

HERE = Path(__file__).parent
WIDTHS = (64, 128, 256, 512, 512)
SIZES = ((128, 128), (256, 256), (512, 512), (387, 611), (1024, 1024))
SHORT = ((512, 512), (1024, 1024))
MARKS = ("<!-- benchmark: written by benchmarks/compare.py --readme -->", "<!-- end of benchmark -->")


def run(side: str, task: str, weights: Path, size: tuple[int, int], threads: int, **options: Any) -> dict[str, Any]:
    command = [sys.executable, HERE / "workers.py", side, task, weights, *size, threads, json.dumps(options)]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@contextmanager
def weight_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.h5"
        pictures = [ns.load_image(f"sample:{name}", 256) - np.float32(PREPROCESSING.mean) for name in CALIBRATION]
        weights = calibrate(random_weights(WIDTHS, SEED), pictures)
        ns.write_weights(path, ns.WeightFile(weights, preprocessing=PREPROCESSING))
        yield path


def evaluations(weights: Path, threads: int, rounds: int, sizes: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    """Seconds per evaluation at each size, the sides in turn; PyTorch in the memory format that is faster there."""
    rows = []
    for size in sizes:
        seconds: dict[str, list[float]] = {"nsnumpy": [], "channels_last": [], "contiguous_format": []}
        for _ in range(rounds):
            for name, times in seconds.items():
                made = {} if name == "nsnumpy" else {"memory_format": name}
                side = "nsnumpy" if name == "nsnumpy" else "torch"
                times += run(side, "evaluate", weights, size, threads, repeats=3, made=made)["seconds"]
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        faster = min(("channels_last", "contiguous_format"), key=medians.get)
        row = {
            "size": list(size),
            "nsnumpy": spread(seconds["nsnumpy"]),
            "torch": spread(seconds[faster]),
            "torch_format": faster,
            "ratio": medians["nsnumpy"] / medians[faster],
        }
        rows.append(row)
        say(f"{size[1]} x {size[0]}: {row}")
    return rows


def memory(weights: Path, threads: int, size: tuple[int, int], memory_format: str) -> dict[str, Any]:
    """Peak memory of the process with its optimiser's history full: ten pairs in PyTorch's and scipy's, 8 in ours."""
    torch = run(
        "torch", "optimize", weights, size, threads, iterations=17, history=10, made={"memory_format": memory_format}
    )
    own = {
        m: run("nsnumpy", "optimize", weights, size, threads, iterations=17, method=m)
        for m in ("lbfgs-device", "scipy")
    }
    row = {
        "size": list(size),
        "nsnumpy": own["lbfgs-device"]["peak_bytes"],
        "nsnumpy_scipy": own["scipy"]["peak_bytes"],
        "torch": torch["peak_bytes"],
        "ratio": own["lbfgs-device"]["peak_bytes"] / torch["peak_bytes"],
    }
    say(f"peak memory: {row}")
    return row


def end_to_end(
    weights: Path, threads: int, size: tuple[int, int], iterations: int, memory_format: str
) -> dict[str, Any]:
    """Wall time to the loss that PyTorch's L-BFGS has reached after so many iterations, from the content picture.

    PyTorch's runs with its own defaults (no line search, a history of 100), as the public tools run it, and with its
    strong-Wolfe line search; the one that comes lower sets the mark. nsnumpy's runs in the box [0, 1], its default,
    and without it, as PyTorch's does.
    """
    made = {"memory_format": memory_format}
    torch: dict[str, dict[str, float]] = {}
    for search in (None, "strong_wolfe"):
        done = run("torch", "optimize", weights, size, threads, iterations=iterations, line_search=search, made=made)
        losses = [loss for _, loss in done["rows"] if np.isfinite(loss)]
        name = search or "no line search"
        torch[name] = {"loss": min(losses), "evaluations": len(losses), "seconds": done["rows"][-1][0]}
        say(f"PyTorch, {name}: {torch[name]}")
    chosen = min(torch, key=lambda name: torch[name]["loss"])
    mark = torch[chosen]
    own: dict[str, dict[str, float]] = {}
    for method, bounds in (("lbfgs-device", "box"), ("lbfgs-device", "none")):
        options = {"iterations": 2 * iterations, "target": mark["loss"], "method": method, "bounds": bounds}
        rows = run("nsnumpy", "optimize", weights, size, threads, **options)["rows"]
        seconds, loss = rows[-1]
        name = f"{method}, {bounds}"
        own[name] = {"loss": loss, "iterations": len(rows) - 1, "seconds": seconds, "ratio": seconds / mark["seconds"]}
        say(f"nsnumpy, {name}: {own[name]}")
    return {"size": list(size), "iterations": iterations, "mark": chosen, "torch": torch, "nsnumpy": own}


def accuracy(weights: Path, threads: int, size: tuple[int, int]) -> dict[str, float]:
    """Loss and gradient in float32 by Winograd's way against the definition in float64; PyTorch's beside them."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, side, made in (
            ("definition", "nsnumpy", {"dtype": "float64", "convolution": "direct"}),
            ("nsnumpy", "nsnumpy", {}),
            ("torch", "torch", {}),
        ):
            path = Path(folder) / f"{name}.npy"
            done = run(side, "evaluate", weights, size, threads, repeats=0, made=made, gradient=str(path))
            results[name] = (done["loss"], np.load(path))
    loss, gradient = results.pop("definition")
    errors = {}
    for name, (other, other_gradient) in results.items():
        errors[f"{name}, loss"] = abs(other - loss) / loss
        errors[f"{name}, gradient"] = float(np.linalg.norm(other_gradient - gradient) / np.linalg.norm(gradient))
    say(f"relative errors at {size}: {errors}")
    return errors


def roofline(threads: int, side: int) -> list[dict[str, Any]]:
    """Each layer's forward and backward beside the time of its 36 products alone, at the speed that they have here."""
    workers = Workers(threads)
    rng = np.random.default_rng(0)
    rows, channels = [], 3
    for block, (filters, convolutions) in enumerate(zip(WIDTHS, (2, 2, 4, 4, 1), strict=True), start=1):
        size = side >> (block - 1)
        for layer in range(1, convolutions + 1):
            if channels > 3:
                x = rng.random((size, size, channels), dtype=np.float32)
                weight = rng.standard_normal((3, 3, channels, filters)).astype(np.float32)
                U, bias = winograd_weight(weight), np.zeros(filters, np.float32)
                pool = layer == convolutions and block < 5
                forward, (y, signs) = _best(
                    lambda x=x, U=U, b=bias, p=pool: winograd_relu_forward(x, U, b, workers, pool=p)
                )
                backward, _ = _best(
                    lambda y=y, U=U, s=signs, x=x, p=pool: winograd_relu_backward(y, U, s, x.shape[:2], workers, pool=p)
                )
                rows.append(
                    {
                        "layer": f"conv{block}_{layer}",
                        "forward_ms": 1e3 * forward,
                        "backward_ms": 1e3 * backward,
                        "products_ms": 1e3
                        * 36
                        * 2
                        * (size / 4) ** 2
                        * channels
                        * filters
                        / _rate(channels, filters, workers),
                    }
                )
            channels = filters
    for row in rows:
        say(
            f"{row['layer']}: forward {row['forward_ms']:.1f} ms, backward {row['backward_ms']:.1f} ms, "
            f"products alone {row['products_ms']:.1f} ms"
        )
    return rows


def _rate(channels: int, filters: int, workers: Workers) -> float:
    """Floating-point operations per second of stripes' products, on all threads at once, from warm memory."""
    V = np.ones((workers.threads, 36, 128, channels), np.float32)
    U, M = np.ones((36, channels, filters), np.float32), np.empty((workers.threads, 36, 128, filters), np.float32)
    seconds, _ = _best(
        lambda: workers.map(lambda k, _: [np.matmul(V[k], U, out=M[k]) for _ in range(4)], range(workers.threads))
    )
    return workers.threads * 4 * 36 * 2 * 128 * channels * filters / seconds


def _best(function: Any, repeats: int = 5) -> tuple[float, Any]:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


def spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}


def environment(threads: int) -> dict[str, Any]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        cpu = f"{fields.get('model name', cpu)} (family {fields.get('cpu family')}, model {fields.get('model')})"
    blas = sorted({f"{lib['internal_api']} {lib['version']} {lib.get('architecture')}" for lib in threadpool_info()})
    versions = {}
    for name in ("nsnumpy", "numpy", "scipy", "torch"):
        with suppress(metadata.PackageNotFoundError):  # not all that take this need PyTorch
            versions[name] = metadata.version(name)
    return {
        "cpu": cpu,
        "threads": threads,
        "blas": blas,
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def table(results: dict[str, Any], *, short: bool = False) -> str:
    """The results as a Markdown table; the short one has the evaluations of `SHORT` and the memory alone."""
    rows = ["| | nsnumpy | PyTorch | ratio |", "|---|---|---|---|"]
    for row in results["evaluations"]:
        if short and tuple(row["size"]) not in SHORT:
            continue
        height, width = row["size"]
        sides = [
            f"{row[side]['median']:.2f} s ({row[side]['least']:.2f} to {row[side]['most']:.2f})"
            for side in ("nsnumpy", "torch")
        ]
        rows.append(f"| one evaluation, {width} x {height} | {' | '.join(sides)} | {row['ratio']:.2f} |")
    if row := results.get("memory"):
        height, width = row["size"]
        rows.append(
            f"| peak memory of the process, L-BFGS included, {width} x {height} | {row['nsnumpy'] / 1e9:.2f} GB "
            f"| {row['torch'] / 1e9:.2f} GB | {row['ratio']:.2f} |"
        )
    if short:
        return "\n".join(rows)
    if both := results.get("end_to_end"):
        own, torch = both["nsnumpy"]["lbfgs-device, box"], both["torch"][both["mark"]]
        height, width = both["size"]
        rows.append(
            f"| to the loss of PyTorch's {both['iterations']} L-BFGS iterations, {width} x {height} | "
            f"{own['seconds']:.0f} s ({own['iterations']} iterations) | {torch['seconds']:.0f} s | {own['ratio']:.2f} |"
        )
    if errors := results.get("accuracy"):
        rows.append(
            f"| relative error against float64, loss | {errors['nsnumpy, loss']:.0e} | {errors['torch, loss']:.0e} | |"
        )
        rows.append(f"| the same, gradient | {errors['nsnumpy, gradient']:.0e} | {errors['torch, gradient']:.0e} | |")
    e = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    rows += [
        "",
        f"{e['cpu']}, {e['threads']} threads, {', '.join(e['blas'])}, {versions}, Python {e['python']}, {e['date']}.",
    ]
    return "\n".join(rows)


def write_tables(results: dict[str, Any], root: Path) -> None:
    """Put the tables between the marks of both pages."""
    for name, short in (("README.md", True), ("docs/benchmarks.md", False)):
        path = root / name
        before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        path.write_text(f"{before}{MARKS[0]}\n{table(results, short=short)}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    restart_with_better_kernel()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 and 512 pixels, one round, no optimisation")
    parser.add_argument("--rounds", type=int, default=2, help="of three evaluations a side (2)")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, default=HERE / "results.json")
    parser.add_argument("--readme", action="store_true", help="only write the tables of results.json into the pages")
    arguments = parser.parse_args()
    if arguments.readme:
        write_tables(json.loads(arguments.json.read_text()), HERE.parent)
        return
    threads = arguments.threads
    results: dict[str, Any] = {"environment": environment(threads)}

    def keep(name: str, result: Any) -> Any:
        """Each part is written as soon as it is there."""
        results[name] = result
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
        return result

    with weight_file() as weights:
        rounds, sizes = (1, SIZES[1:3]) if arguments.quick else (arguments.rounds, SIZES)
        rows = {tuple(row["size"]): row for row in keep("evaluations", evaluations(weights, threads, rounds, sizes))}
        keep("roofline", roofline(threads, 512))
        keep("accuracy", accuracy(weights, threads, (256, 256)))
        if not arguments.quick:
            small, large = rows[256, 256], rows[1024, 1024]
            keep("time_per_pixel_1024_over_256", large["nsnumpy"]["median"] / small["nsnumpy"]["median"] / 16)
            keep("memory", memory(weights, threads, (1024, 1024), large["torch_format"]))
            keep("end_to_end", end_to_end(weights, threads, (384, 384), 100, rows[512, 512]["torch_format"]))
    print(table(results))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
