"""``python -m docs.samples [NAME ...]`` at the repository's root renders the pictures of ``nsnumpy/data/samples``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from . import coast, cutouts, glass, starry, still_life

PICTURES = {
    "coast": coast.render,
    "cutouts": cutouts.render,
    "glass": glass.render,
    "starry": starry.render,
    "still-life": still_life.render,
}
SAMPLES = Path(__file__).parents[2] / "nsnumpy" / "data" / "samples"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.samples", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(PICTURES)} (all)")
    parser.add_argument("--width", type=int, default=1024, help="in pixels, 64 or more (1024)")
    parser.add_argument("--folder", type=Path, default=SAMPLES, help="where to write them")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - PICTURES.keys():
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; choose from {', '.join(PICTURES)}")
    for name in arguments.names or PICTURES:
        start = time.perf_counter()
        picture = np.rint(255 * PICTURES[name](arguments.width)).astype(np.uint8)
        path = arguments.folder / f"{name}.jpg"
        Image.fromarray(picture).save(path, quality=90, subsampling=0, optimize=True)
        print(f"{path}: {picture.shape[1]} x {picture.shape[0]}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
