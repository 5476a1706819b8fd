"""The two sides of compare.py, each run in a process of its own: the same objective in nsnumpy and in PyTorch.

    python benchmarks/workers.py nsnumpy|torch evaluate|optimize WEIGHTS HEIGHT WIDTH THREADS [options as JSON]

prints one JSON object. Content conv4_2, style conv1_1 ... conv5_1, average pooling, float32, the paper's normalisation.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

import nsnumpy as ns

ALPHA, BETA = 1.0, 3e8
CONTENT, STYLE = "conv4_2", ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


def pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    from nsnumpy.images import fit_image

    return fit_image("sample:coast", (height, width)), fit_image("sample:starry", (height, width))


class NsNumpy:
    def __init__(self, weights: str, content: np.ndarray, style: np.ndarray, threads: int, **options: str) -> None:
        vgg = ns.load_vgg(weights, threads=threads, **options)
        self.objective = ns.Objective(vgg, content=content, style=style, alpha=ALPHA, beta=BETA)

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        return self.objective(x)

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
        x = x.astype("float64") if method == "lbfgs" else x
        ns.minimize(self.objective, x, method=method, iterations=iterations, bounds=box, callback=see)
        return rows


class Torch:
    """Written as a PyTorch user would: functional convolutions, in-place ReLUs, autograd."""

    def __init__(
        self, weights: str, content: np.ndarray, style: np.ndarray, threads: int, memory_format: str = "channels_last"
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.format = getattr(torch, memory_format)
        self.layers = {
            name: (self.tensor(weight.transpose(3, 2, 0, 1)), torch.from_numpy(bias))
            for name, (weight, bias) in ns.read_weights(weights).weights.items()
        }
        preprocessing = ns.read_weights(weights).preprocessing
        self.mean = torch.tensor(preprocessing.mean).reshape(1, 3, 1, 1)
        with torch.no_grad():
            self.P = self.features(self.picture(content), [CONTENT])[CONTENT]
            A = self.features(self.picture(style), STYLE)
            self.A = {name: self.gram(F) for name, F in A.items()}

    def tensor(self, array: np.ndarray):
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(memory_format=self.format)

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
        features = self.features(x, (CONTENT, *STYLE))
        loss = ALPHA * 0.5 * (features[CONTENT] - self.P).square().sum()
        for name in STYLE:
            _, N, height, width = features[name].shape
            difference = (self.gram(features[name]) - self.A[name]).square().sum()
            loss = loss + BETA / len(STYLE) * difference / (4 * N**2 * (height * width) ** 2)
        return loss

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        image = self.picture(x).requires_grad_(True)
        loss = self.loss(image)
        loss.backward()
        return loss.item(), image.grad[0].permute(1, 2, 0).numpy()

    def optimize(
        self, x: np.ndarray, iterations: int, history: int = 100, line_search: str | None = None
    ) -> list[tuple[float, float]]:
        """(seconds, loss) per evaluation."""
        # Its L-BFGS takes contiguous parameters only.
        image = self.torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)[None])).requires_grad_(True)
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
            rows.append((time.perf_counter() - start, loss.item()))
            return loss

        optimizer.step(closure)
        return rows


def peak_bytes() -> int:
    """The largest memory that this process has held (Linux; its own, and not its parent's as getrusage's may be)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main() -> None:
    side, task, weights, *numbers = sys.argv[1:7]
    height, width, threads = map(int, numbers)
    options = json.loads(sys.argv[7]) if len(sys.argv) > 7 else {}
    made = options.pop("made", {})
    content, style = pictures(height, width)
    worker = {"nsnumpy": NsNumpy, "torch": Torch}[side](weights, content, style, threads, **made)
    if task == "evaluate":
        seconds = []
        x = 0.5 * (content + style)
        for _ in range(options.get("repeats", 3) + 1):
            start = time.perf_counter()
            loss, gradient = worker.evaluate(x)
            seconds.append(time.perf_counter() - start)
        if "gradient" in options:
            np.save(options["gradient"], gradient)
        result = {"seconds": seconds[1:], "loss": float(loss)}  # the first one warms up
    else:
        result = {"rows": worker.optimize(content, **options)}
    print(json.dumps(result | {"peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
