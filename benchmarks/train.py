"""Training speed beside PyTorch's: the same network, recipe and pictures, float32 on the CPU, pictures per second.

    python benchmarks/train.py [--width 3/8] [--steps 5] [--rounds 3] [--results FILE]

A step is what `python -m weights_tools train` does with a batch of 128 at 48 x 48: an adversarial step through the
input's gradient, the gradient of all parameters at the perturbed pictures, Nesterov SGD. PyTorch does the same with
autograd, on tensors that lie ready, in both of its memory layouts, of which the faster one counts. Both take turns in
one run and use the same number of threads.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from nsnumpy.architecture import ARCHITECTURES
from nsnumpy.machine import restart_with_better_kernel, usable_cores
from weights_tools.train import Pictures, Recipe, Stage, Trainer

CROP, CLASSES = 48, 200


def ours(widths: tuple[int, ...], pictures: Pictures, threads: int) -> Callable[[int], None]:
    """A function that trains for a number of steps."""
    recipe = Recipe(widths=widths, stages=(Stage(1000, CROP),))
    trainer = Trainer(pictures, pictures.split(1)[1], recipe, threads=threads)
    return lambda count: trainer.train(until=trainer.state.step + count)


def pytorch(widths: tuple[int, ...], pictures: Pictures, layout: torch.memory_format) -> Callable[[int], None]:
    """The same in PyTorch, but for the cropping."""
    torch.manual_seed(0)
    recipe = Recipe()
    layers, channels = [], 3
    for block, (filters, (_, count)) in enumerate(zip(widths, ARCHITECTURES["vgg19"], strict=True)):
        layers += [torch.nn.AvgPool2d(2)] if block else []
        for _ in range(count if block < 4 else 1):
            layers += [torch.nn.Conv2d(channels, filters, 3, padding=1, bias=False)]
            layers += [torch.nn.BatchNorm2d(filters), torch.nn.ReLU(inplace=True)]
            channels = filters
    network = torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, CLASSES)
    ).to(memory_format=layout)
    x = torch.from_numpy(pictures.pixels[: recipe.batch, :CROP, :CROP].transpose(0, 3, 1, 2) / np.float32(255) - 0.5)
    x = x.to(memory_format=layout)
    labels = torch.from_numpy(pictures.labels[: recipe.batch])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=3e-4)
    radius = recipe.radius * CROP / 64

    def loss(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(x), labels)

    def run(count: int) -> None:
        for _ in range(count):
            d = torch.randn_like(x)
            d *= radius / d.flatten(1).norm(dim=1)[:, None, None, None]
            d.requires_grad_()
            network.requires_grad_(False)  # or autograd would compute the parameters' gradients, too
            (g,) = torch.autograd.grad(loss(x + d), d)
            network.requires_grad_(True)
            with torch.no_grad():
                d = d + recipe.step * radius * g / g.flatten(1).norm(dim=1)[:, None, None, None]
                d *= (radius / d.flatten(1).norm(dim=1)).clamp(max=1)[:, None, None, None]
            optimizer.zero_grad()
            loss(x + d).backward()
            optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=Fraction, default=Fraction(3, 8), help="of VGG-19's filters (3/8)")
    parser.add_argument("--steps", type=int, default=5, help="of each turn (5)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--results", type=Path, help="write the figures to this file as JSON")
    arguments = parser.parse_args()
    widths = tuple(round(filters * arguments.width) for filters, _ in ARCHITECTURES["vgg19"])
    rng = np.random.default_rng(0)
    pictures = Pictures(rng.integers(0, 256, (1024, 64, 64, 3), np.uint8), rng.integers(0, CLASSES, 1024), CLASSES)
    threads = usable_cores()
    torch.set_num_threads(threads)
    contenders = {
        "nsnumpy": ours(widths, pictures, threads),
        "PyTorch": pytorch(widths, pictures, torch.contiguous_format),
        "PyTorch, channels last": pytorch(widths, pictures, torch.channels_last),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(1)  # memory is taken, threads are started
    for _ in range(arguments.rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            run(arguments.steps)
            speeds[name].append(arguments.steps * Recipe().batch / (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratio = medians["nsnumpy"] / max(value for name, value in medians.items() if name != "nsnumpy")
    print(f"width {arguments.width}, {threads} threads; pictures per second")
    for name, values in speeds.items():
        print(f"  {name:24}{medians[name]:7.1f}   ({min(values):.1f} to {max(values):.1f})")
    print(f"  ratio to the faster PyTorch {ratio:.2f}")
    if arguments.results:
        figures = {
            "width": str(arguments.width),
            "threads": threads,
            "machine": platform.processor() or platform.machine(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "pictures_per_second": speeds,
            "ratio": ratio,
        }
        arguments.results.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_better_kernel()
    main()
