"""L-BFGS in the box [0, 1] against unbounded with a final clip: which makes the better picture in the same time?

    python benchmarks/bounds.py [--size 256] [--iterations 150]

Per pair of bundled pictures the two run in turn. Compared are the losses of the pictures that a user would get, in
[0, 1] and rounded to 8 bits, and the time per iteration.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import nsnumpy as ns
from nsnumpy.run.settings import USE_CASES

PAIRS = (("coast", "starry"), ("coast", "glass"), ("still-life", "cutouts"), ("still-life", "starry"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=150)
    arguments = parser.parse_args()
    vgg = ns.load_vgg()
    defaults = USE_CASES["transfer"].defaults.completed("transfer")
    print(f"{'pair':24}{'loss, box':>12}{'loss, none':>12}{'ratio':>8}{'s/it, box':>12}{'s/it, none':>12}{'ratio':>8}")
    for content, style in PAIRS:
        pictures = {"content": f"sample:{content}", "style": f"sample:{style}"}
        arrays = {name: ns.load_image(picture, arguments.size) for name, picture in pictures.items()}
        weights = {name: getattr(defaults, name) for name in ("alpha", "beta", "tv", "content_layers", "convention")}
        objective = ns.Objective(vgg, **arrays, **weights)
        losses, seconds = {}, {}
        for bounds in ("box", "none"):
            start = time.perf_counter()
            result = ns.transfer(
                **pictures, vgg=vgg, size=arguments.size, iterations=arguments.iterations, bounds=bounds
            )
            seconds[bounds] = (time.perf_counter() - start) / arguments.iterations
            losses[bounds], _ = objective(np.rint(255 * result.image) / 255)
        row = [f"{table[bounds]:12.4g}" for table in (losses, seconds) for bounds in ("box", "none")]
        row.insert(2, f"{losses['box'] / losses['none']:8.3f}")
        row.append(f"{seconds['box'] / seconds['none']:8.3f}")
        print(f"{content + ', ' + style:24}{''.join(row)}", flush=True)


if __name__ == "__main__":
    main()
