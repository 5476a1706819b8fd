"""The two sides of compare.py and gpu.py, each run in a process of its own: one objective in nsnumpy and in PyTorch.

    python benchmarks/workers.py nsnumpy|torch evaluate|optimize WEIGHTS HEIGHT WIDTH THREADS [options as JSON]
    python benchmarks/workers.py nsnumpy layers WEIGHTS HEIGHT WIDTH THREADS [options as JSON]

prints one JSON object. Content conv4_2, style conv1_1 ... conv5_1, average pooling, float32, the paper's normalisation.
The option "made" holds what a side is made with; "device" (cpu or gpu) and "tf32" are known to both. TF32 is set on
both sides either way, and no setting of the environment's has a say.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import nsnumpy as ns
from nsnumpy.backend import asarray, tf32_products, to_host
from nsnumpy.convolution import Direct, Patches, Winograd
from nsnumpy.ops import ZERO

ALPHA, BETA = 1.0, 3e8
CONTENT, STYLE = "conv4_2", ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


def pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    from nsnumpy.files.images import fit_image

    return fit_image("sample:coast", (height, width)), fit_image("sample:starry", (height, width))


class NsNumpy:
    def __init__(self, weights: str, content: np.ndarray, style: np.ndarray, threads: int, **options: Any) -> None:
        self.vgg = ns.load_vgg(weights, threads=threads, **options)
        self.objective = ns.Objective(self.vgg, content=content, style=style, alpha=ALPHA, beta=BETA)

    @property
    def evaluations(self) -> int:
        return self.objective.evaluations

    def place(self, x: np.ndarray) -> Any:
        """The pixels where the network is."""
        return asarray(x, self.vgg.xp, self.vgg.dtype)

    def loss_and_gradient(self, image: Any) -> tuple[float, Any]:
        return self.objective(image)

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = self.loss_and_gradient(self.place(x))
        return loss, self.to_host(gradient)

    def to_host(self, gradient: Any) -> np.ndarray:
        return to_host(gradient)

    def wait(self) -> None:
        if self.vgg.xp is not np:
            self.vgg.xp.cuda.get_current_stream().synchronize()

    def settle(self) -> None:
        """Nothing: that the network was made counts as well."""

    def peak_bytes(self) -> int:
        """What CuPy's pool took from the card; it gives nothing back by itself. On the CPU, of the process."""
        xp = self.vgg.xp
        return peak_bytes() if xp is np else xp.get_default_memory_pool().total_bytes()

    def optimize(
        self, x: np.ndarray, iterations: int, target: float = 0.0, method: str = "lbfgs-device", bounds: str = "none"
    ) -> list[tuple[float, float]]:
        """(seconds, loss) per iteration, until the loss is at the target."""
        rows: list[tuple[float, float]] = []

        def see(iterate: ns.optimize.Iterate) -> None:
            rows.append((iterate.seconds, iterate.loss))
            if iterate.loss <= target:
                raise KeyboardInterrupt

        box = (0.0, 1.0) if bounds == "box" else None
        x = x.astype("float64") if method == "scipy" else self.place(x)
        ns.minimize(self.objective, x, method=method, iterations=iterations, bounds=box, callback=see)
        return rows


class Torch:
    """Written as a PyTorch user would: functional convolutions, in-place ReLUs, autograd."""

    def __init__(
        self,
        weights: str,
        content: np.ndarray,
        style: np.ndarray,
        threads: int,
        memory_format: str = "channels_last",
        device: str = "cpu",
        tf32: bool = False,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.on_gpu = device == "gpu"
        self.device = torch.device("cuda" if self.on_gpu else device)
        if self.on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.backends.cudnn.allow_tf32 = tf32  # True unless set
            torch.backends.cudnn.benchmark = True  # faster: cuDNN tries its algorithms at the first evaluation
        elif tf32:
            raise ValueError("there is no TF32 on the CPU")
        self.format = getattr(torch, memory_format)
        self.evaluations = 0
        self.layers = {
            name: (self.tensor(weight.transpose(3, 2, 0, 1)), torch.from_numpy(bias).to(self.device))
            for name, (weight, bias) in ns.read_weights(weights).weights.items()
        }
        preprocessing = ns.read_weights(weights).preprocessing
        self.mean = torch.tensor(preprocessing.mean, device=self.device).reshape(1, 3, 1, 1)
        with torch.no_grad():
            self.P = self.features(self.picture(content), [CONTENT])[CONTENT]
            A = self.features(self.picture(style), STYLE)
            self.A = {name: self.gram(F) for name, F in A.items()}

    def tensor(self, array: np.ndarray):
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device).to(memory_format=self.format)

    def picture(self, image: np.ndarray):
        return self.tensor(image.transpose(2, 0, 1)[None])

    def features(self, x, layers) -> dict:
        functional = self.torch.nn.functional
        features = {}
        x = x - self.mean
        for name, (weight, bias) in self.layers.items():
            if name.endswith("_1") and name != "conv1_1":
                x = functional.avg_pool2d(x, 2)
            x = functional.conv2d(x, weight, bias, padding=1).relu_()
            if name in layers:
                features[name] = x
            if len(features) == len(layers):
                break
        return features

    @staticmethod
    def gram(F):
        positions = F.flatten(2)[0]
        return positions @ positions.T

    def loss(self, x):
        self.evaluations += 1
        features = self.features(x, (CONTENT, *STYLE))
        loss = ALPHA * 0.5 * (features[CONTENT] - self.P).square().sum()
        for name in STYLE:
            _, N, height, width = features[name].shape
            difference = (self.gram(features[name]) - self.A[name]).square().sum()
            loss = loss + BETA / len(STYLE) * difference / (4 * N**2 * (height * width) ** 2)
        return loss

    def place(self, x: np.ndarray):
        """The pixels where the network is."""
        return self.picture(x).requires_grad_(True)

    def loss_and_gradient(self, image):
        image.grad = None
        loss = self.loss(image)
        loss.backward()
        return loss.item(), image.grad

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = self.loss_and_gradient(self.place(x))
        return loss, self.to_host(gradient)

    def to_host(self, gradient) -> np.ndarray:
        return gradient[0].permute(1, 2, 0).cpu().numpy()

    def wait(self) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def settle(self) -> None:
        """Give back what cuDNN's trials took, which would count as peak memory otherwise."""
        if self.on_gpu:
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """The most that PyTorch's allocator took from the card since `settle`. On the CPU, of the process."""
        return self.torch.cuda.max_memory_reserved() if self.on_gpu else peak_bytes()

    def optimize(
        self, x: np.ndarray, iterations: int, history: int = 100, line_search: str | None = None
    ) -> list[tuple[float, float]]:
        """(seconds, loss) per evaluation."""
        # Its L-BFGS takes contiguous parameters only.
        image = self.torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)[None])).to(self.device)
        image.requires_grad_(True)
        optimizer = self.torch.optim.LBFGS(
            [image],
            max_iter=iterations,
            max_eval=20 * iterations,
            tolerance_grad=-1,
            tolerance_change=-1,
            history_size=history,
            line_search_fn=line_search,
        )
        rows: list[tuple[float, float]] = []
        start = time.perf_counter()

        def closure():
            optimizer.zero_grad()
            loss = self.loss(image.contiguous(memory_format=self.format))
            loss.backward()
            value = loss.item()  # waits for the device; only then the clock
            rows.append((time.perf_counter() - start, value))
            return loss

        optimizer.step(closure)
        return rows


def layers(
    weights: str, size: int, threads: int, rounds: int, repeats: int, made: dict[str, Any]
) -> list[dict[str, Any]]:
    """Milliseconds of each convolution with its ReLU, forward and backward, by the fast path and by the definition.

    The fast path is Winograd's but for the first layer, which has its own; pooling is left out of both.
    """
    vgg = ns.load_vgg(weights, threads=threads, **made)
    rng = np.random.default_rng(0)
    rows = []
    for name, pair in ns.read_weights(weights).weights.items():
        weight, bias = (asarray(array, vgg.xp, vgg.dtype) for array in pair)
        side = size >> (int(name[4]) - 1)
        channels, filters = weight.shape[2:]
        x = asarray(rng.random((side, side, channels), dtype=np.float32), vgg.xp, vgg.dtype)
        gy = asarray(rng.standard_normal((side, side, filters), dtype=np.float32), vgg.xp, vgg.dtype)
        ways = {"fast": Patches if name == "conv1_1" else Winograd, "definition": Direct}
        row: dict[str, Any] = {"layer": name, "size": [side, side]}
        with tf32_products() if made.get("tf32") else nullcontext():  # as in a network's pass
            for label, kind in ways.items():
                way = kind(weight, bias, vgg.workers)
                _, kept = way.forward(x, False, ZERO)
                row[label] = {
                    "forward_ms": milliseconds(lambda way=way, x=x: way.forward(x, False, ZERO), rounds, repeats),
                    "backward_ms": milliseconds(
                        lambda way=way, gy=gy, kept=kept: way.backward(gy, kept, False, ZERO), rounds, repeats
                    ),
                }
        rows.append(row)
    return rows


def milliseconds(function: Callable[[], Any], rounds: int, repeats: int) -> float:
    """Of one call: the median of several rounds, each of so many calls in a row, until the device has done them all."""

    def run(count: int) -> None:
        for _ in range(count):
            result = function()
        result = result[0] if isinstance(result, tuple) else result
        to_host(result[0, 0, :1])  # everything before it is done when this is there

    run(1)  # kernels are compiled, memory is taken
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(repeats)
        times.append(1e3 * (time.perf_counter() - start) / repeats)
    return statistics.median(times)


def peak_bytes() -> int:
    """The largest memory that this process has held (Linux; its own, and not its parent's as getrusage's may be)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main() -> None:
    side, task, weights, *numbers = sys.argv[1:7]
    height, width, threads = map(int, numbers)
    options = json.loads(sys.argv[7]) if len(sys.argv) > 7 else {}
    made = options.pop("made", {})
    if block := options.pop("block_mib", None):
        ns.workers.DEVICE_BLOCK_BYTES = block << 20
    if task == "layers":
        print(json.dumps({"layers": layers(weights, height, threads, **options, made=made)}))
        return
    warm_up = options.pop("warm_up", 1 if task == "evaluate" else 0)
    content, style = pictures(height, width)
    worker = {"nsnumpy": NsNumpy, "torch": Torch}[side](weights, content, style, threads, **made)
    image = worker.place(0.5 * (content + style))
    for k in range(warm_up):
        loss, gradient = worker.loss_and_gradient(image)
        if k == 0:
            worker.settle()
    if task == "evaluate":
        seconds = []
        for _ in range(options.get("repeats", 3)):
            worker.wait()
            start = time.perf_counter()
            loss, gradient = worker.loss_and_gradient(image)
            worker.wait()
            seconds.append(time.perf_counter() - start)
        if "gradient" in options:
            np.save(options["gradient"], worker.to_host(gradient))
        result = {"seconds": seconds, "loss": float(loss)}
    else:
        before = worker.evaluations
        worker.wait()
        start = time.perf_counter()
        rows = worker.optimize(content, **options)
        worker.wait()
        result = {"rows": rows, "seconds": time.perf_counter() - start, "evaluations": worker.evaluations - before}
    print(json.dumps(result | {"peak_bytes": worker.peak_bytes()}))


if __name__ == "__main__":
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # both are read when CUDA's libraries start
    os.environ["CUPY_TF32"] = "0"
    main()
