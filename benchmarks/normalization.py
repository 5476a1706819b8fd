"""What activation normalisation does to alpha/beta: the same grid with a network's filters normalised, and without.

    python benchmarks/normalization.py [--weights FILE ...] [--size 160] [--iterations 60] [-o FOLDER] [--json FILE]

With the paper's losses a network's scale is part of the weights' meaning: features c times as large make the content
loss c^2 times and the style loss c^4 times as large, so that the same picture needs an alpha/beta c^2 times as large.
A report that reimplements the paper found its pictures four decades below the paper's range, and took unnormalised
weights for the reason. Here is what they do, on

- builtin x 0.01, x 100: the built-in network, normalised, with every feature so many times as large, beside itself;
- builtin and each of --weights: a network as its file is (`python -m weights_tools fetch vgg19`, say), beside the same
  normalised by `weights_tools.normalize` over the bundled pictures.

Both run the same transfers (paper's losses, conv4_2, five style layers, one size, no total variation, from the
photograph) at half decades of alpha/beta, seven decades about the ratio where both losses weigh alike. How a picture
came out is measured by one yardstick for both, the normalised network's content error, mean (F - P)^2 / mean P^2 at
conv4_2. Told are

- means: the mean activation, as it is, at conv4_2, and the least and greatest of the style layers';
- range: the alpha/beta between which the content error falls from 90 % to 10 % of the way, in each network;
- factor: what the normalised network's alpha/beta is to be multiplied with for the same content error (the median over
  levels, least to most), and what one evaluation at a picture halfway between photograph and painting predicts;
- apart: six pictures from each network, at alpha/beta that correspond by the factor: the root mean square of their
  differences, over that between the pictures at the two ends of the range.

Writes benchmarks/normalization.json, and into -o a sheet of these pictures for each network.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sheets import sheet
from tqdm import tqdm

import nsnumpy as ns
from nsnumpy.cli.command import Parser, run_program
from nsnumpy.cli.options import positive
from nsnumpy.files.writing import atomic_path, check_folder
from nsnumpy.machine import restart_with_better_kernel
from nsnumpy.objective import CONTENT_LAYERS, STYLE_LAYERS
from weights_tools.normalize import mean_activations, normalize

HERE = Path(__file__).parent
CONTENT, STYLE = "sample:coast", "sample:starry"
ALWAYS, FACTORS = ("builtin",), (0.01, 100.0)
DECADES, PER_DECADE = 7, 2
LEVELS = np.linspace(0.2, 0.8, 7)  # of the way between the ends of a curve
SHOWN = 6


def scaled(file: ns.WeightFile, c: float) -> ns.WeightFile:
    """The same network with all features c times as large."""
    weights = {}
    for name, (weight, bias) in file.weights.items():
        gain = c if name == "conv1_1" else 1.0
        weights[name] = (weight * np.float32(gain), bias * np.float32(c))
    return replace(file, weights=weights, normalized=False)


def networks(paths: list[str]) -> Iterator[tuple[str, ns.WeightFile, ns.WeightFile]]:
    """(name, network, the same normalised)."""
    pictures = [ns.load_image(f"sample:{name}", 256) for name in ns.sample_names()]
    for path in (*ALWAYS, *paths):
        file = ns.read_weights(path)
        normalised = normalize(file, pictures)[0]
        for c in FACTORS if path in ALWAYS else ():
            yield f"{path} x {c:g}", scaled(normalised, c), normalised
        yield Path(path).stem, file, normalised


def loaded(file: ns.WeightFile, threads: int | None) -> ns.VGG:
    return ns.VGG(
        file.weights, xp=np, architecture=file.architecture, preprocessing=file.preprocessing, threads=threads
    )


class Grid:
    """The transfers of one network, alpha/beta ascending."""

    def __init__(self, vgg: ns.VGG, yardstick: ns.VGG, arguments: argparse.Namespace) -> None:
        self.vgg, self.size, self.iterations = vgg, arguments.size, arguments.iterations
        self.p, self.a = (ns.load_image(picture, self.size) for picture in (CONTENT, STYLE))
        self.centre = self._balance()
        steps = np.arange(DECADES * PER_DECADE + 1) / PER_DECADE - DECADES / 2
        self.logs = np.round(PER_DECADE * np.log10(self.centre)) / PER_DECADE + steps
        self._measure = ns.Objective(yardstick, content=self.p, content_layers=CONTENT_LAYERS, convention="relative")
        self.images: list[np.ndarray] = []
        self.errors: list[float] = []

    def _balance(self) -> float:
        """The alpha/beta at which both losses weigh alike, at a picture halfway between the two."""
        a = ns.load_image(STYLE, self.size)[: self.p.shape[0], : self.p.shape[1]]
        a = np.pad(a, [(0, n - m) for n, m in zip(self.p.shape, a.shape, strict=True)], mode="edge")
        objective = ns.Objective(self.vgg, content=self.p, style=self.a)
        objective((self.p + a) / 2)
        content = sum(value for name, value in objective.terms.items() if name.startswith("content"))
        return (sum(objective.terms.values()) - content) / content

    def transfer(self, log: float) -> np.ndarray:
        """The picture at an alpha/beta of 10^log."""
        return ns.transfer(
            CONTENT, STYLE, vgg=self.vgg, size=self.size, scales=[self.size], iterations=self.iterations,
            convention="paper", alpha=10**log, beta=1.0, tv=0.0, content_layers=CONTENT_LAYERS,
        ).image  # fmt: skip

    def run(self) -> Iterator[None]:
        for log in self.logs:
            self.images.append(self.transfer(log))
            self.errors.append(self.measure(self.images[-1]))
            yield

    def measure(self, image: np.ndarray) -> float:
        """The content error, by the yardstick."""
        return self._measure(image)[0]

    def at(self, level: float) -> float:
        """log10 of the alpha/beta where the content error has come so far of the way from its highest to its lowest."""
        errors = np.array(self.errors)
        way = (errors.max() - errors) / (errors.max() - errors.min())
        rising = np.maximum.accumulate(way)  # rounding and chance aside, it falls with alpha/beta
        return float(np.interp(level, rising + 1e-9 * np.arange(len(rising)), self.logs))


Pictures = list[tuple[float, np.ndarray, float]]
"""log10 of alpha/beta, the picture, its content error."""


def compared(plain: Grid, normalised: Grid) -> tuple[dict[str, Any], dict[str, Pictures]]:
    """What is told of a network, and the pictures at ratios that correspond."""
    shifts = [plain.at(level) - normalised.at(level) for level in LEVELS]
    shift = float(np.median(shifts))
    pictures: dict[str, Pictures] = {"normalized": [], "as it is": []}
    for level in np.linspace(0.05, 0.95, SHOWN):
        log = normalised.at(level)
        for name, grid, at in (("normalized", normalised, log), ("as it is", plain, log + shift)):
            image = grid.transfer(at)
            pictures[name].append((at, image, grid.measure(image)))
    (_, first, _), (_, last, _) = (pictures["normalized"][i] for i in (0, -1))
    apart = [rms(one - other) for (_, one, _), (_, other, _) in zip(*pictures.values(), strict=True)]
    found = {
        "range": [10 ** plain.at(level) for level in (0.1, 0.9)],
        "range_normalized": [10 ** normalised.at(level) for level in (0.1, 0.9)],
        "factor": 10**shift,
        "factor_least": 10 ** min(shifts),
        "factor_most": 10 ** max(shifts),
        "factor_predicted": plain.centre / normalised.centre,
        "apart": float(np.mean(apart) / rms(last - first)),
        "alpha_over_beta": {
            name: [[float(10**log), error] for log, error in zip(grid.logs, grid.errors, strict=True)]
            for name, grid in (("as it is", plain), ("normalized", normalised))
        },
    }
    return found, pictures


def rms(x: np.ndarray) -> float:
    return float(np.sqrt((x.astype(np.float64) ** 2).mean()))


def drawn(pictures: dict[str, Pictures]) -> np.ndarray:
    """The sheet: corresponding ratios one above the other."""
    rows = [
        [(image, f"{name}, {10**log:.1e}: error {error:.2f}") for log, image, error in row]
        for name, row in pictures.items()
    ]
    return sheet(rows, 256)


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.json)
    if len({Path(path).stem for path in arguments.weights}) < len(arguments.weights):
        raise ValueError("networks are told apart by their files' names: give each another one")
    if arguments.output:
        arguments.output.mkdir(exist_ok=True)
    samples = [ns.load_image(f"sample:{name}", 256) for name in ns.sample_names()]
    table: dict[str, Any] = {}
    results = {"size": arguments.size, "iterations": arguments.iterations, "networks": table}
    every = list(networks(arguments.weights))
    with tqdm(total=len(every) * 2 * (DECADES * PER_DECADE + 1), unit="run") as bar:
        for name, *files in every:
            bar.set_description(name)
            plain_vgg, yardstick = (loaded(file, arguments.threads) for file in files)
            plain, normalised = (Grid(vgg, yardstick, arguments) for vgg in (plain_vgg, yardstick))
            for grid in (plain, normalised):
                for _ in grid.run():
                    bar.update()
            found, pictures = compared(plain, normalised)
            means = {layer: float(mean.mean()) for layer, mean in mean_activations(files[0], samples).items()}
            style = [means[layer] for layer in STYLE_LAYERS]
            of_layers = {"mean_content": means[CONTENT_LAYERS[0]], "mean_style": [min(style), max(style)]}
            table[name] = of_layers | found
            with atomic_path(arguments.json) as temporary:
                temporary.write_text(json.dumps(results, indent=1) + "\n")
            if arguments.output:
                ns.save_image(arguments.output / f"{name.replace(' ', '')}.png", drawn(pictures))
    print(as_table(table))
    return 0


def as_table(table: dict[str, Any]) -> str:
    lines = [
        "| network | mean, conv4_2 | style layers | range | normalised | factor (least to most) | predicted | apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in table.items():
        ranges = (f"{row[key][0]:.0e} to {row[key][1]:.0e}" for key in ("range", "range_normalized"))
        factor = f"{row['factor']:.1e} ({row['factor_least']:.1e} to {row['factor_most']:.1e})"
        lines.append(
            f"| {name} | {row['mean_content']:.3g} | {' to '.join(f'{mean:.3g}' for mean in row['mean_style'])} | "
            f"{' | '.join(ranges)} | {factor} | {row['factor_predicted']:.1e} | {row['apart']:.2f} |"
        )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(run=run)
    made.add_argument("--weights", nargs="+", default=[], metavar="FILE", help="trained networks, not normalised")
    made.add_argument("--size", type=positive, default=160, metavar="PIXELS", help="long side of the pictures (160)")
    made.add_argument("--iterations", type=positive, default=60, metavar="N", help="of each transfer (60)")
    made.add_argument("--threads", type=positive, metavar="N", help="of the network (all)")
    made.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the sheets into this folder")
    made.add_argument("--json", type=Path, default=HERE / "normalization.json", help="write the figures to this file")
    return made


def main() -> int:
    restart_with_better_kernel()
    return run_program(
        "normalization.py",
        parser,
        None,
        interrupted="interrupted; the networks that were done are in the JSON file",
        out_of_memory="a smaller --size takes less",
    )


if __name__ == "__main__":
    sys.exit(main())
