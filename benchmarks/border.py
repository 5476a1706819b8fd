"""What the network sees beyond the border: how the picture is painted there, and what each border costs.

    python benchmarks/border.py [--size 256] [--rounds 5] [--sheet borders.png]

At the edge: how much the outermost pixels differ from their neighbours, and how much detail there is in the outermost
eight (what a Gaussian of two pixels takes away), both divided by the same inside; 1 is no edge at all, and above 1 a
seam is steeper than the rest. The medians over pairs of bundled pictures and four sides; of tiles, their two seams.
The cost: time and peak memory of one evaluation beside those of zeros, in turn.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from sheets import sheet

import nsnumpy as ns
from nsnumpy.ops import BORDERS
from nsnumpy.run.settings import BY_CONVENTION

PAIRS = (("coast", "starry"), ("coast", "glass"), ("still-life", "cutouts"), ("still-life", "starry"))
BAND = 8
DEFAULTS = {name: BY_CONVENTION["relative"]["transfer"][name] for name in ("alpha", "beta", "tv", "content_layers")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5, help="evaluations of each border, for the cost (5)")
    parser.add_argument("--sheet", help="write the corners, magnified five times, to this picture")
    arguments = parser.parse_args()
    vgg = ns.load_vgg()
    cost(vgg, arguments.rounds)
    print(f"{'border':12}{'step':>8}{'detail':>8}")
    rows = []
    for border in BORDERS[:-1]:
        images = [
            ns.transfer(f"sample:{content}", f"sample:{style}", vgg=vgg, size=arguments.size, border=border).image
            for content, style in PAIRS
        ]
        print(f"{border:12}{at_the_edge(step, images):8.2f}{at_the_edge(detail, images):8.2f}", flush=True)
        rows.append([(magnified(image[:48, -64:]), f"{border}: the upper right corner") for image in images])
    if arguments.sheet:
        made = sheet(rows, 320)
        Image.fromarray(np.rint(255 * made).astype(np.uint8)).save(arguments.sheet)
    print("seamless    ", end="")
    seams = []
    for seed, (_, style) in enumerate(PAIRS):
        tile = ns.texture(f"sample:{style}", vgg=vgg, size=arguments.size, seamless="both", seed=seed).image
        seams += [step(turned, -1) / step(turned) for turned in (tile, tile.swapaxes(0, 1))]
    print(f"{np.median(seams):7.2f}  (least to most {min(seams):.2f} to {max(seams):.2f})")


def at_the_edge(measure: Callable[..., float], images: list[np.ndarray]) -> float:
    sides = [side for image in images for turned in (image, image.swapaxes(0, 1)) for side in (turned, turned[::-1])]
    return float(np.median([measure(side, 0) / measure(side) for side in sides]))


def step(image: np.ndarray, row: int | None = None) -> float:
    """The mean difference of a row and the next one (of the last one, the first), or of all that are inside."""
    if row is None:
        return float(np.abs(np.diff(image[BAND:-BAND], axis=0)).mean())
    return float(np.abs(image[row] - image[row + 1]).mean())


def detail(image: np.ndarray, row: int | None = None) -> float:
    """The deviation from the smoothed picture in the rows at the edge, or in those that are inside."""
    fine = image - gaussian_filter(image, (2, 2, 0), mode="nearest")
    return float((fine[2 * BAND : -2 * BAND] if row is None else fine[row : row + BAND]).std())


def magnified(corner: np.ndarray) -> np.ndarray:
    return corner.repeat(5, axis=0).repeat(5, axis=1)


def cost(vgg: ns.VGG, rounds: int) -> None:
    p, a = ns.load_image("sample:coast", 512), ns.load_image("sample:starry", 512)
    networks = {border: vgg.with_border(border) for border in BORDERS}
    objectives = {
        border: ns.Objective(network, content=p, style=a, convention="relative", **DEFAULTS)
        for border, network in networks.items()
    }
    seconds: dict[str, list[float]] = {border: [] for border in BORDERS}
    peaks = {}
    for objective in objectives.values():
        objective(p)  # its threads' memory is there from now on
    for border, objective in objectives.items():
        tracemalloc.start()
        objective(p)
        peaks[border] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    for _ in range(rounds):
        for border, objective in objectives.items():
            start = time.perf_counter()
            objective(p)
            seconds[border].append(time.perf_counter() - start)
    print(f"{'border':12}{'time':>8}{'memory':>8}  of an evaluation at 512 pixels, beside zeros")
    for border in BORDERS:
        ratios = np.array(seconds[border]) / np.array(seconds["zero"])
        print(f"{border:12}{np.median(ratios):8.3f}{peaks[border] / peaks['zero']:8.3f}", flush=True)
    print()


if __name__ == "__main__":
    main()
