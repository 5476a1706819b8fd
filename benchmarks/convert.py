"""Converting VGG-19 of full width, fully connected layers included, from every format: time and peak memory.

    python benchmarks/convert.py [--formats torchvision-zip.pth,matconvnet.mat,...] [--results FILE]

The files (575 MB each) are written with random values by the libraries that write the published ones. The converter
runs as a process of its own, as a user runs it, and what it wrote is compared with the original, value by value. Beside
it PyTorch reads its own file and keeps the convolutions, which is what one would do without this package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import weight_writers_network
from weight_writers import WRITERS, small_network

from nsnumpy import read_weights

FULL = (64, 128, 256, 512, 512)
UNITS = (4096, 4096, 1000)
FORMATS = (
    "torchvision-zip.pth",
    "torchvision-legacy.pth",
    "features.safetensors",
    "keras1.h5",
    "matconvnet.mat",
    "matconvnet-old.mat",
    "v1.caffemodel",
    "features.onnx",
    "frossard.npz",
    "dictionary.npy",
)
PYTORCH = """
import sys, torch
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
torch.save({name: tensor.clone() for name, tensor in state.items() if name.startswith("features")}, sys.argv[2])
"""


# A process's peak memory begins with that of the process that started it, so a small one stands between.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""


def measure(command: list[str]) -> tuple[float, float]:
    """(seconds, peak memory in MB) of a command as a process of its own, or of the largest of its own children."""
    run = subprocess.run([sys.executable, "-c", MEASURE, *command], check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = map(float, run.stdout.split())
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--results", type=Path, help="write the figures to this file as JSON")
    arguments = parser.parse_args()
    network, rows = small_network("vgg19", FULL), []
    print(f"{'file':26}{'MB':>6}{'seconds':>10}{'peak MB':>10}")
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(weight_writers_network, "TOP_UNITS", UNITS):
        for name in arguments.formats.split(","):
            path, output = Path(folder) / name, Path(folder) / "out.h5"
            WRITERS[name].write(path, network, "vgg19")
            size = path.stat().st_size / 1e6
            jobs = {name: [sys.executable, "-m", "weights_tools", "convert", str(path), "-o", str(output)]}
            if name == "torchvision-zip.pth":
                jobs["the same, by PyTorch"] = [sys.executable, "-c", PYTORCH, str(path), str(Path(folder) / "out.pth")]
            for what, command in jobs.items():
                runs = [measure(command) for _ in range(3)]
                seconds, peak = min(run[0] for run in runs), max(run[1] for run in runs)
                rows.append({"file": what, "megabytes": size, "seconds": seconds, "peak_megabytes": peak})
                print(f"{what:26}{size:6.0f}{seconds:10.2f}{peak:10.0f}", flush=True)
            found = read_weights(output).weights
            for layer, arrays in network.items():
                for converted, original in zip(found[layer], arrays, strict=True):
                    if not np.array_equal(converted, original):
                        raise SystemExit(f"{name}: {layer} was converted wrongly")
            path.unlink()
    if arguments.results:
        arguments.results.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
