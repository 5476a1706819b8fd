"""nsnumpy beside PyTorch on one device: time, memory, accuracy; each layer's fast path beside its definition.

    python benchmarks/gpu.py [--device gpu|cpu] [--sizes 512,1024,2048] [--iterations 300] [--rounds 3] [--quick]
        [--threads N] [--json FILE]
    python benchmarks/gpu.py --parity | --blocks 24,32,64,128,256 | --first
    python benchmarks/gpu.py --model [--sizes 512,1024] [--flops 67e12] [--tf32-flops 494.7e12] [--bandwidth 3.35e12]
        [--launch 4e-6]

The two sides run in turn, in processes of their own, on the same objective with the same weights (compare.py's), in
strict float32 and, on a GPU, with TF32 products on both sides. Before anything is timed, loss and gradient of both
must agree with the definition in float64 on the CPU, or the script stops. Compared are

- an evaluation: loss and gradient at pixels that lie on the device, until the device is done. PyTorch runs in the
  memory format that is faster there, with the algorithms that cuDNN finds fastest (cudnn.benchmark).
- a run of L-BFGS from the content picture, without a box: lbfgs-device, and torch.optim.LBFGS with as long a history
  but else its defaults (no line search), for the same number of iterations, from start to end. Evaluations before it
  warm both sides up.
- peak device memory of that run: what CuPy's pool took from the card, which gives nothing back by itself, since the
  process began; and the most that PyTorch's allocator reserved, without cuDNN's trials. What CUDA's context and
  libraries take for themselves is in neither. On the CPU: of the processes.

--parity compares nsnumpy alone, and parts of it: the first layer and Gram matrices in both precisions. --blocks times
an evaluation with pieces of work of so many MiB, at --sizes. --first runs the steps of docs/gpu.md, each
whatever the others did, and writes what they said to one file, gpu-first.json. These three need no PyTorch.

--model needs no GPU: it estimates, from launches, bytes and products that are counted on the tests' stand-in, what a
card of these peaks would take; see model.py.

Writes benchmarks/gpu.json. Needs PyTorch built for CUDA, and CuPy (pip install '.[cuda12]' or '.[cuda13]').
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from compare import HERE, environment, run, say, spread, weight_file
from first import first
from model import Card, estimate

from nsnumpy.backend import DEVICES, DeviceError, asarray, device_namespace, tf32_products, to_host
from nsnumpy.lbfgs import MEMORY
from nsnumpy.losses import gram_matrix
from nsnumpy.machine import restart_with_better_kernel, usable_cores
from nsnumpy.ops import conv_forward, patches_relu_backward, patches_relu_forward

FORMATS = ("channels_last", "contiguous_format")
HISTORY = MEMORY["lbfgs-device"]  # on both sides
WARM_UP, REPEATS = 3, 10  # evaluations
PARITY_SIZE = (192, 256)
REFERENCE = {"dtype": "float64", "convolution": "direct"}
TOLERANCES = {"float64": 1e-9, "float32": 5e-5, "PyTorch, float32": 1e-3}  # TF32's errors are only told
STRICT, TF32_AT_LEAST = 5e-5, 2e-6  # of a part in float32; and of a product, if it is in TF32 at all
LAYER_SIZE = 512
SIDES = ("nsnumpy", "torch")

Errors = dict[str, dict[str, float]]


def parity(
    weights: Path, threads: int, device: str, size: tuple[int, int] = PARITY_SIZE, sides: tuple[str, ...] = SIDES
) -> Errors:
    """Relative errors of loss and gradient on the device against the definition in float64 on the CPU."""
    contenders: dict[str, tuple[str, dict[str, Any]]] = {"float64": ("nsnumpy", {"device": device, "dtype": "float64"})}
    for precision in precisions(device):
        contenders[precision] = ("nsnumpy", made(device, precision))
        if "torch" in sides:
            contenders[f"PyTorch, {precision}"] = ("torch", made(device, precision))
    with tempfile.TemporaryDirectory() as folder:

        def result(side: str, options: dict[str, Any]) -> tuple[float, np.ndarray]:
            path = Path(folder) / "gradient.npy"
            done = run(side, "evaluate", weights, size, threads, repeats=0, made=options, gradient=str(path))
            return done["loss"], np.load(path)

        reference = result("nsnumpy", REFERENCE)
        errors = {name: relative_errors(reference, result(*contender)) for name, contender in contenders.items()}
    say(f"relative errors at {size}: {errors}")
    return errors


def relative_errors(reference: tuple[float, np.ndarray], other: tuple[float, np.ndarray]) -> dict[str, float]:
    (loss, gradient), (other_loss, other_gradient) = reference, other
    return {
        "loss": abs(other_loss - loss) / abs(loss),
        "gradient": float(np.linalg.norm(other_gradient - gradient) / np.linalg.norm(gradient)),
    }


def failures(errors: Errors) -> list[str]:
    """What is not within its tolerance, in words; an error that is not a number is not."""
    return [
        f"{name}: relative error of the {what} {errors[name][what]:.1e}, less than {tolerance:.0e} expected"
        for name, tolerance in TOLERANCES.items()
        if name in errors
        for what in ("loss", "gradient")
        if not errors[name][what] < tolerance
    ]


def parts(device: str, precision: str) -> dict[str, float]:
    """Relative errors, against float64 on the CPU, of what one number for all would hide: the first layer, both ways,
    and a Gram matrix of few filters and many positions, and of many."""
    rng, xp = np.random.default_rng(0), device_namespace(device)
    x, weight, bias = rng.random((96, 128, 3)), rng.standard_normal((3, 3, 3, 64)), rng.standard_normal(64)
    gy, few, many = (rng.standard_normal(shape) for shape in ((96, 128, 64), (1 << 16, 1, 64), (1 << 10, 1, 512)))
    gy *= abs(conv_forward(x, weight, bias)) > 1e-3  # nearer to zero, rounding may turn the ReLU on or off
    operations = {
        "first layer": (patches_relu_forward, (x, weight, bias)),
        "first layer, backward": (patches_relu_backward, (gy, x, weight, bias)),
        "Gram matrix of 64 filters": (gram_matrix, (few,)),
        "Gram matrix of 512 filters": (gram_matrix, (many,)),
    }
    errors = {}
    with tf32_products() if precision == "TF32" else nullcontext():
        for name, (operation, arrays) in operations.items():
            given = [array.astype("float32") for array in arrays]
            exact = operation(*(array.astype("float64") for array in given))
            got = to_host(operation(*(asarray(array, xp, "float32") for array in given)))
            errors[name] = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
    say(f"relative errors of parts, {precision}: {errors}")
    return errors


def failing_parts(of: dict[str, dict[str, float]]) -> list[str]:
    """What is not within `STRICT`, in words; and where products in TF32 are not."""
    wrong = [
        f"{name}, {precision}: relative error {error:.1e}, less than {STRICT:.0e} expected"
        for precision, errors in of.items()
        for name, error in errors.items()
        if (precision == "float32" or name.startswith("first layer")) and not error < STRICT
    ]
    products = {name: error for name, error in of.get("TF32", {}).items() if name.startswith("Gram")}
    return wrong + [
        f"{name}, TF32: relative error {error:.1e}: it is not computed in TF32"
        for name, error in products.items()
        if not error > TF32_AT_LEAST
    ]


def only_parity(weights: Path, threads: int, device: str) -> list[str]:
    """What fails of nsnumpy's own."""
    wrong = failing_parts({precision: parts(device, precision) for precision in precisions(device)})
    return wrong + failures(parity(weights, threads, device, sides=("nsnumpy",)))


def blocks(weights: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds an evaluation with pieces of work of so many MiB."""
    rows = []
    for side in arguments.sizes:
        for precision in precisions(arguments.device):
            for size in arguments.blocks:
                options = {"made": made(arguments.device, precision), "block_mib": size, "repeats": REPEATS}
                where = (weights, (side, side), arguments.threads)
                done = run("nsnumpy", "evaluate", *where, **options, warm_up=WARM_UP)
                times = {"milliseconds": 1e3 * statistics.median(done["seconds"]), "peak_bytes": done["peak_bytes"]}
                rows.append({"size": side, "precision": precision, "block_mib": size} | times)
                say(str(rows[-1]))
    return rows


def precisions(device: str) -> tuple[str, ...]:
    return ("float32", "TF32") if device == "gpu" else ("float32",)


def made(device: str, precision: str) -> dict[str, Any]:
    """What a side of this precision is made with."""
    return {"device": device, "tf32": precision == "TF32"}


def evaluations(
    weights: Path, threads: int, device: str, size: tuple[int, int], precision: str, rounds: int
) -> dict[str, Any]:
    """Seconds per evaluation, the sides in turn; PyTorch in both memory formats, of which the faster one counts."""
    sides = {"nsnumpy": {}} | {name: {"memory_format": name} for name in FORMATS}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, options in sides.items():
            side = "nsnumpy" if name == "nsnumpy" else "torch"
            options = {"made": made(device, precision) | options, "warm_up": WARM_UP, "repeats": REPEATS}
            seconds[name] += run(side, "evaluate", weights, size, threads, **options)["seconds"]
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    faster = min(FORMATS, key=medians.get)
    row = {
        "size": list(size),
        "precision": precision,
        "nsnumpy": spread(seconds["nsnumpy"]),
        "torch": spread(seconds[faster]),
        "torch_format": faster,
        "ratio": medians["nsnumpy"] / medians[faster],
    }
    say(f"{size[1]} x {size[0]}, {precision}: {row}")
    return row


def whole_run(
    weights: Path,
    threads: int,
    device: str,
    size: tuple[int, int],
    precision: str,
    iterations: int,
    memory_format: str,
) -> dict[str, Any]:
    """A run of L-BFGS on both sides: seconds, evaluations, lowest loss, peak memory."""
    sides = {
        "nsnumpy": {"made": made(device, precision), "method": "lbfgs-device"},
        "torch": {"made": made(device, precision) | {"memory_format": memory_format}, "history": HISTORY},
    }
    row: dict[str, Any] = {"size": list(size), "precision": precision, "iterations": iterations}
    for side, options in sides.items():
        done = run(side, "optimize", weights, size, threads, iterations=iterations, warm_up=WARM_UP, **options)
        losses = [loss for _, loss in done["rows"] if np.isfinite(loss)]
        row[side] = {name: done[name] for name in ("seconds", "evaluations", "peak_bytes")} | {"loss": min(losses)}
    row["ratio"] = {name: row["nsnumpy"][name] / row["torch"][name] for name in row["torch"]}
    say(f"{size[1]} x {size[0]}, {precision}, {iterations} iterations: {row}")
    return row


def layers(weights: Path, threads: int, device: str, precision: str, rounds: int, repeats: int) -> dict[str, Any]:
    """Each convolution with its ReLU on nsnumpy's side: the fast path beside the definition."""
    size = (LAYER_SIZE, LAYER_SIZE)
    options = {"made": made(device, precision), "rounds": rounds, "repeats": repeats}
    table = {"precision": precision} | run("nsnumpy", "layers", weights, size, threads, **options)
    say(f"layers at {LAYER_SIZE} x {LAYER_SIZE}, {precision}: {table['layers']}")
    return table


def check_device(device: str) -> None:
    """End the program, with a line that says why, if nsnumpy or PyTorch cannot have the device."""
    try:
        device_namespace(device)
        import torch
    except (DeviceError, ImportError) as error:
        sys.exit(f"gpu.py: {error}")
    if device == "gpu":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a driver that is too old, say, at length
            found = torch.cuda.is_available()
        if not found:
            sys.exit(f"gpu.py: PyTorch {torch.__version__} finds no CUDA device: install one built for CUDA")


def device_environment(device: str) -> dict[str, Any]:
    """The card and what drives it; nothing on the CPU."""
    if device != "gpu":
        return {}
    import torch

    xp = device_namespace(device)
    runtime = xp.cuda.runtime
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return {
        "card": runtime.getDeviceProperties(0)["name"].decode(),
        "driver": driver,
        "cuda": {
            "driver": _cuda_version(runtime.driverGetVersion()),
            "CuPy": _cuda_version(runtime.runtimeGetVersion()),
            "PyTorch": torch.version.cuda,
        },
        "cupy": xp.__version__,
        "cudnn": torch.backends.cudnn.version(),
    }


def _cuda_version(number: int) -> str:
    """12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def table(results: dict[str, Any]) -> str:
    """The results as Markdown tables."""
    lines = ["| | nsnumpy | PyTorch | ratio |", "|---|---|---|---|"]
    for row in results["evaluations"]:
        height, width = row["size"]
        sides = [
            f"{_duration(row[side]['median'])} ({_duration(row[side]['least'])} to {_duration(row[side]['most'])})"
            for side in ("nsnumpy", "torch")
        ]
        what = f"one evaluation, {width} x {height}, {row['precision']}"
        lines.append(f"| {what} | {' | '.join(sides)} | {row['ratio']:.2f} |")
    for row in results["runs"]:
        height, width = row["size"]
        own, torch, ratio = row["nsnumpy"], row["torch"], row["ratio"]
        where = f"{width} x {height}, {row['precision']}"
        sides = [f"{_duration(side['seconds'])} ({side['evaluations']} evaluations)" for side in (own, torch)]
        what = f"{row['iterations']} L-BFGS iterations, {where}"
        lines += [
            f"| {what} | {' | '.join(sides)} | {ratio['seconds']:.2f} |",
            f"| lowest loss of these | {own['loss']:.4g} | {torch['loss']:.4g} | {ratio['loss']:.3f} |",
            f"| peak memory of these | {own['peak_bytes'] / 1e9:.2f} GB | {torch['peak_bytes'] / 1e9:.2f} GB "
            f"| {ratio['peak_bytes']:.2f} |",
        ]
    lines += ["", "| relative error against float64 | loss | gradient |", "|---|---|---|"]
    for name, errors in results["parity"].items():
        lines.append(f"| {name} | {errors['loss']:.0e} | {errors['gradient']:.0e} |")
    for part in results["layers"]:
        lines += [
            "",
            f"| layer, {part['precision']} | forward | by the definition | backward | by the definition |",
            "|---|---|---|---|---|",
        ]
        for row in part["layers"]:
            times = [row[way][f"{pass_}_ms"] for pass_ in ("forward", "backward") for way in ("fast", "definition")]
            what = f"{row['layer']}, {row['size'][1]} x {row['size'][0]}"
            lines.append(f"| {what} | {' | '.join(f'{time:.3g} ms' for time in times)} |")
    return "\n".join([*lines, "", _where(results["environment"])])


def _where(e: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    where = f"{e['cpu']}, {e['threads']} threads"
    if "card" in e:
        cuda = ", ".join(f"{version} ({name})" for name, version in e["cuda"].items())
        where = f"{e['card']}, driver {e['driver']}, CUDA {cuda}, cuDNN {e['cudnn']}, CuPy {e['cupy']}, {where}"
    return f"{where}, {versions}, Python {e['python']}, {e['date']}."


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="gpu")
    parser.add_argument("--sizes", type=_sizes, default=[512, 1024, 2048], help="of square pictures (512,1024,2048)")
    parser.add_argument("--iterations", type=int, default=300, help="of L-BFGS (300)")
    parser.add_argument("--rounds", type=int, default=3, help=f"of {REPEATS} evaluations a side (3)")
    parser.add_argument("--quick", action="store_true", help="256 pixels, 5 iterations, one round")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="on the CPU")
    parser.add_argument("--parity", action="store_true", help="of nsnumpy and its parts, and nothing else")
    parser.add_argument("--blocks", type=_sizes, metavar="MIB,...", help="time pieces of work of these sizes")
    parser.add_argument("--first", action="store_true", help="the steps of docs/gpu.md, into gpu-first.json")
    parser.add_argument("--model", action="store_true", help="an estimate for a card with these peaks, an H100 SXM's:")
    for name, value in Card._field_defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    parser.add_argument("--json", type=Path, default=HERE / "gpu.json")
    arguments = parser.parse_args()
    if arguments.first:
        first(Path("gpu-first.json"))
        return
    if arguments.model:
        try:
            estimate(arguments.sizes, Card(*(getattr(arguments, name) for name in Card._fields)))
        except RuntimeError as error:
            sys.exit(f"gpu.py: {error}")
        return
    if arguments.parity or arguments.blocks:
        alone(arguments)
        return
    if arguments.quick:
        arguments.sizes, arguments.iterations, arguments.rounds = [256], 5, 1
    check_device(arguments.device)
    with weight_file() as weights:
        try:
            print(table(measure(weights, arguments)))
        except subprocess.CalledProcessError as error:  # it has told on stderr why
            side, task, _, height, width = error.cmd[2:7]
            sys.exit(f"gpu.py: {side}, {task} at {width} x {height} failed (exit status {error.returncode})")


def alone(arguments: argparse.Namespace) -> None:
    """What needs no PyTorch."""
    try:
        device_namespace(arguments.device)
    except DeviceError as error:
        sys.exit(f"gpu.py: {error}")
    with weight_file() as weights:
        if arguments.parity and (wrong := only_parity(weights, arguments.threads, arguments.device)):
            sys.exit(f"gpu.py: {'; '.join(wrong)}")
        if arguments.blocks:
            arguments.json.write_text(json.dumps(blocks(weights, arguments), indent=1) + "\n")


def measure(weights: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All results; each part is written as soon as it is there. Ends the program if the parity fails."""
    threads, device, rounds = arguments.threads, arguments.device, arguments.rounds
    results: dict[str, Any] = {"environment": environment(threads) | {"device": device} | device_environment(device)}

    def keep() -> None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")

    results["parts"] = {precision: parts(device, precision) for precision in precisions(device)}
    results["parity"] = parity(weights, threads, device)
    if failed := failing_parts(results["parts"]) + failures(results["parity"]):
        sys.exit(f"gpu.py: nothing was timed, since the results differ. {'; '.join(failed)}")
    results |= {"layers": [], "evaluations": [], "runs": []}
    for precision in precisions(device):
        results["layers"].append(layers(weights, threads, device, precision, rounds, 2 if arguments.quick else REPEATS))
        keep()
    for side in arguments.sizes:
        for precision in precisions(device):
            where = (weights, threads, device, (side, side), precision)
            row = evaluations(*where, rounds)
            results["evaluations"].append(row)
            keep()
            results["runs"].append(whole_run(*where, arguments.iterations, row["torch_format"]))
            keep()
    return results


if __name__ == "__main__":
    restart_with_better_kernel()
    main()
