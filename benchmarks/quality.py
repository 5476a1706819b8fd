"""How good the results are: the painting's look, the photograph's edges and the time, over pairs of pictures.

    python benchmarks/quality.py [--networks builtin builtin-random vgg19 ...] [--size 384] [--pictures FOLDER]
        [--pairs N] [--set NAME=VALUE ...] [--threads N] [-o FOLDER] [--json FILE]

The pairs are every photograph with every painting, of the bundled pictures and of the files photo_* and painting_* in
--pictures; nsnumpy.transfer runs at its defaults but for --size and --set. Of each result are told

- patches: the distance of its patches from the painting's (`patch_distance`), over that of the photograph's. 0: they
  are the painting's; 1: no nearer to them than before. Most of it is colour.
- texture: the same of the patches without their mean colours, which is brushwork and line. Blur raises it.
- edges: `edge_similarity` with the photograph. 1: the same edges; about 0: nothing in common.
- seconds: the run's wall time, without that of loading the network.

Writes benchmarks/quality.json; into -o every result, a contact sheet per network, and side-by-side.png with all
networks' results of up to five pairs.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import platform
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

import nsnumpy as ns
from nsnumpy.blas import restart_with_better_kernel
from nsnumpy.command import Parser, run_program
from nsnumpy.files import atomic_path, check_folder
from nsnumpy.images import FORMATS, SAMPLE_PREFIX
from nsnumpy.workers import usable_cores

HERE = Path(__file__).parent
NETWORKS = ("builtin", "builtin-random")
PHOTOGRAPHS = ("sample:coast", "sample:still-life")
PAINTINGS = ("sample:cutouts", "sample:glass", "sample:starry")
LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709
EDGE_SCALE, WINDOW = 1.5, 6.0  # of Gaussians, in pixels
FLAT = 1e-12  # a variance of edge strengths that is none: hundreds of times smaller than one step of an 8-bit picture's
CHUNK, ROWS = 16, 32  # directions and rows of patches at a time: 60 MB at 384 pixels
THUMBNAIL, SIDE_BY_SIDE, SHOWN = 256, 384, 5
GAP, TEXT = 12, 14

Pair = tuple[str, str]


def patch_distance(
    image: np.ndarray,
    style: np.ndarray,
    *,
    scales: int = 3,
    projections: int = 128,
    patch: int = 7,
    seed: int = 0,
    texture: bool = False,
) -> float:
    """How far the patches of two pictures are from each other: 0 if they have the same ones, wherever they stand.

    The sliced Wasserstein-1 distance between the two sets of all patch x patch x 3 patches: the mean, over random unit
    directions, of the Wasserstein-1 distance of the patches' components along it; that is the area between the two
    quantile functions. The mean over scales, each of half the one before (Rabin et al., *Wasserstein Barycenter and its
    Application to Texture Mixing*, 2011; Karras et al., *Progressive Growing of GANs*, 2018, measures so too).

    Parameters
    ----------
    image, style : arrays ``(H, W, 3)``, RGB in [0, 1]
        Their sizes may differ.
    texture : bool
        Leave out each patch's mean colour. Most of the distance is there: the plain one hardly notices it if a
        picture is blurred, or has the other's colours and none of its brushwork.

    Raises
    ------
    ValueError
        If a picture has another shape, or is smaller than one patch at the last scale.
    """
    image, style = (np.asarray(picture, dtype=np.float32) for picture in (image, style))
    for picture in (image, style):
        if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < patch << (scales - 1):
            raise ValueError(
                f"a picture (H, W, 3) of at least {patch << (scales - 1)} pixels a side expected; {picture.shape} given"
            )
    directions = unit_directions(projections, patch, seed, texture)
    distances = []
    for _ in range(scales):
        distances.append(_sliced_distance(image, style, directions, patch))
        image, style = _halve(image), _halve(style)
    return float(np.mean(distances))


def unit_directions(projections: int, patch: int, seed: int, texture: bool = False) -> np.ndarray:
    """Random unit vectors, one a row, in the space of patches ``(patch, patch, 3)`` laid out as vectors.

    With `texture` they are at right angles to every patch of one colour.
    """
    directions = np.random.default_rng(seed).standard_normal((projections, patch * patch, 3))
    if texture:
        directions -= directions.mean(axis=1, keepdims=True)
    directions = directions.reshape(projections, -1)
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def _sliced_distance(image: np.ndarray, style: np.ndarray, directions: np.ndarray, patch: int) -> float:
    n, m = ((picture.shape[0] - patch + 1) * (picture.shape[1] - patch + 1) for picture in (image, style))
    # The quantile functions of n and of m values are constant between these n m-ths of the way from 0 to 1.
    steps = np.union1d(np.arange(n) * m, np.arange(m) * n)
    lengths = np.diff(steps, append=n * m) / (n * m)
    i, j = steps // m, steps // n
    distances = []
    for k in range(0, len(directions), CHUNK):
        chunk = directions[k : k + CHUNK]
        both = zip(_components(image, chunk, patch), _components(style, chunk, patch), strict=True)
        distances += [np.abs(x[i] - y[j]) @ lengths for x, y in both]
    return float(np.mean(distances))


def _components(image: np.ndarray, directions: np.ndarray, patch: int) -> np.ndarray:
    """The components of all patches along each direction, ``(directions, patches)``, in ascending order."""
    height, width = image.shape[:2]
    windows = sliding_window_view(image.reshape(height, 3 * width), (patch, 3 * patch))[:, ::3]
    stripes = (windows[row : row + ROWS].reshape(-1, directions.shape[1]) for row in range(0, len(windows), ROWS))
    return np.sort(np.concatenate([directions @ stripe.T for stripe in stripes], axis=1), axis=1)


def _halve(image: np.ndarray) -> np.ndarray:
    """Half the size, by the means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 for side in image.shape[:2])
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3))


def edge_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """How alike the edges of two pictures lie: 1 if in the same places, about 0 if they have nothing in common.

    Of each picture's luminance the edge strength e is taken, the length of the gradient after a Gaussian. Around every
    pixel, in a Gaussian window, the two are correlated, r = cov(e_a, e_b) / (s_a s_b) with s their deviations there;
    and the result is the mean of r, weighted with (s_a / mean s_a + s_b / mean s_b) / 2. This is the structure term of
    SSIM (Wang et al., *Image Quality Assessment*, 2004) on edge maps, as in Chen et al., *Gradient-Based Structural
    Similarity* (2006), but for the weights in place of SSIM's constants: what is flat in both pictures does not count,
    an edge that only one of them has counts as 0. Brightness and contrast make no difference, nor does the sign of an
    edge. Two flat pictures are alike.

    Parameters
    ----------
    a, b : arrays ``(H, W, 3)``, RGB in [0, 1], of the same shape

    Raises
    ------
    ValueError
        If the shapes differ or are others.
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
        raise ValueError(f"two pictures (H, W, 3) of the same shape expected; {a.shape} and {b.shape} given")
    x, y = _edges(a), _edges(b)
    mean_x, mean_y = _window(x), _window(y)
    covariance = _window(x * y) - mean_x * mean_y
    deviations = []
    for edges, mean in ((x, mean_x), (y, mean_y)):
        variance = _window(edges**2) - mean**2
        deviations.append(np.sqrt(np.where(variance > FLAT, variance, 0)))
    product = deviations[0] * deviations[1]
    r = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
    weights = sum(s / s.mean() for s in deviations if s.any())
    return float(np.average(r, weights=weights)) if np.any(weights) else 1.0


def _edges(image: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(np.asarray(image, dtype=np.float64) @ LUMINANCE, EDGE_SCALE)
    return np.hypot(*np.gradient(smooth))


def _window(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, WINDOW)


def find_pictures(folder: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(photographs, paintings): the bundled ones and the folder's, by name."""
    found = {"photo_": list[Any](PHOTOGRAPHS), "painting_": list[Any](PAINTINGS)}
    for prefix, pictures in found.items() if folder else ():
        pictures += sorted(
            path for path in folder.iterdir() if path.match(f"{prefix}*") and path.suffix.lower() in FORMATS
        )
    if folder and sum(map(len, found.values())) == len(PHOTOGRAPHS + PAINTINGS):
        raise ValueError(f"{folder}: no picture here is named photo_* or painting_*")
    photographs, paintings = (by_name(pictures) for pictures in found.values())
    return photographs, paintings


def by_name(things: list[Any]) -> dict[str, Any]:
    """Samples, weight files, pictures by the names that the results of theirs get."""
    named: dict[str, Any] = {}
    for thing in things:
        name = Path(str(thing).removeprefix(SAMPLE_PREFIX)).stem
        if name in named:
            raise ValueError(f"{named[name]} and {thing} have one name, {name}; rename one of them")
        named[name] = thing
    return named


def choose_pairs(photographs: list[str], paintings: list[str], count: int | None) -> list[Pair]:
    """All pairs, or so many, with as many different photographs and paintings among them as there can be."""
    places = [(i, j) for i in range(len(photographs)) for j in range(len(paintings))]
    chosen = sorted(places, key=lambda place: ((place[1] - place[0]) % len(paintings), place))[:count]
    return [(photographs[i], paintings[j]) for i, j in sorted(chosen)]


def sheet(rows: list[list[tuple[np.ndarray | None, str]]], side: int) -> np.ndarray:
    """Pictures in a grid, each with its label below, and none with a longer side than `side`."""
    font = ImageFont.load_default(TEXT)
    cells = [[(_thumbnail(image, side), _cut(label, font, side)) for image, label in row] for row in rows]
    widths = [
        max(max(image.width, math.ceil(font.getlength(text))) for image, text in column)
        for column in zip(*cells, strict=False)
    ]
    heights = [max(image.height for image, _ in row) + 2 * TEXT for row in cells]
    made = Image.new("RGB", (sum(widths) + GAP * (len(widths) + 1), sum(heights) + GAP * (len(heights) + 1)), "white")
    draw = ImageDraw.Draw(made)
    for i, row in enumerate(cells):
        for j, (image, text) in enumerate(row):
            left, top = GAP + sum(widths[:j]) + GAP * j, GAP + sum(heights[:i]) + GAP * i
            made.paste(image, (left, top))
            draw.text((left, top + image.height + TEXT // 4), text, fill="black", font=font)
    return np.asarray(made, dtype=np.float32) / 255


def _thumbnail(image: np.ndarray | None, side: int) -> Image.Image:
    if image is None:
        return Image.new("RGB", (1, 1), "white")
    thumbnail = Image.fromarray(np.rint(255 * image).astype(np.uint8))
    thumbnail.thumbnail((side, side), Image.Resampling.LANCZOS)
    return thumbnail


def _cut(text: str, font: Any, length: int) -> str:
    if font.getlength(text) <= length:
        return text
    while text and font.getlength(f"{text}...") > length:
        text = text[:-1]
    return f"{text}..."


def environment(threads: int) -> dict[str, Any]:
    cpu, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    versions = {name: metadata.version(name) for name in ("nsnumpy", "numpy", "scipy", "pillow")}
    python, date = platform.python_version(), time.strftime("%Y-%m-%d")
    return {"cpu": cpu, "threads": threads, "python": python, "versions": versions, "date": date}


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """A network's figures from those of its pairs."""
    columns = {name: [row[name] for row in rows] for name in ("patches", "texture", "edges", "seconds")}
    medians = {name: statistics.median(column) for name, column in columns.items()}
    return {**medians, "worst_patches": max(columns["patches"])}


def table(networks: dict[str, Any]) -> str:
    """The figures: a line per network, then a line per network and pair."""
    totals = [("medians over the pairs", "patches", "worst", "texture", "edges", "seconds")]
    pairs = [("network, photograph, painting", "patches", "", "texture", "edges", "seconds")]
    for name, network in networks.items():
        totals.append((name, *_figures(network, f"{network['worst_patches']:.3f}")))
        for row in network["pairs"]:
            pairs.append((f"{name}, {row['photograph']}, {row['painting']}", *_figures(row, "")))
    width = max(len(name) for name, *_ in totals + pairs)
    lines = [f"{name:{width}}" + "".join(f"{text:>9}" for text in figures) for name, *figures in totals + pairs]
    return "\n".join([*lines[: len(totals)], "", *lines[len(totals) :]])


def _figures(row: dict[str, Any], worst: str) -> tuple[str, ...]:
    return f"{row['patches']:.3f}", worst, f"{row['texture']:.3f}", f"{row['edges']:.3f}", f"{row['seconds']:.1f}"


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.json)
    networks = by_name(arguments.networks)
    photographs, paintings = find_pictures(arguments.pictures)
    pairs = choose_pairs(list(photographs), list(paintings), arguments.pairs)
    settings = dict(arguments.set)
    p = {name: ns.load_image(photographs[name], arguments.size) for name, _ in pairs}
    a = {name: ns.load_image(paintings[name], settings.get("style_size") or arguments.size) for _, name in pairs}
    vggs = {name: ns.load_vgg(source, threads=arguments.threads) for name, source in networks.items()}
    if arguments.output:
        arguments.output.mkdir(exist_ok=True)
    before = {pair: _distances(p[pair[0]], a[pair[1]]) for pair in tqdm(pairs, "photographs", unit="pair")}
    if same := [pair for pair in pairs if 0 in before[pair].values()]:
        raise ValueError(f"{' and '.join(same[0])} have the same patches: there is nothing to transfer")
    results: dict[str, Any] = {"environment": environment(arguments.threads), "size": arguments.size, "set": settings}
    results["networks"] = {}
    images: dict[str, dict[Pair, tuple[np.ndarray, str]]] = {network: {} for network in vggs}
    bar = tqdm([(network, pair) for network in vggs for pair in pairs], unit="run")
    for network, pair in bar:
        bar.set_description(f"{network}: {', '.join(pair)}")
        content, style = photographs[pair[0]], paintings[pair[1]]
        start = time.perf_counter()
        made = ns.transfer(content, style, vgg=vggs[network], size=arguments.size, **settings)
        seconds = time.perf_counter() - start
        if made.interrupted:
            raise KeyboardInterrupt
        if made.failed:
            raise ValueError(f"{network}, {', '.join(pair)}: {made.stopped}")
        if made.stopped:
            bar.write(f"{network}, {', '.join(pair)}: {made.stopped}", file=sys.stderr)
        row = dict(zip(("photograph", "painting"), pair, strict=True))
        row |= {name: after / before[pair][name] for name, after in _distances(made.image, a[pair[1]]).items()}
        row |= {"edges": edge_similarity(made.image, p[pair[0]]), "seconds": seconds}
        used = {name: value for name, value in made.settings.items() if name not in ("content", "style", "loss")}
        rows = [*results["networks"].get(network, {"pairs": []})["pairs"], row]
        results["networks"][network] = {**summary(rows), "settings": used, "pairs": rows}
        with atomic_path(arguments.json) as temporary:  # each run as soon as it is there
            temporary.write_text(json.dumps(results, indent=1) + "\n")
        if arguments.output:
            made.save(arguments.output / f"{network}-{'-'.join(pair)}.png")
            label = ", ".join(f"{name} {row[name]:.2f}" for name in ("patches", "texture", "edges"))
            images[network][pair] = made.image, label
        if arguments.output and pair == pairs[-1]:
            ns.save_image(arguments.output / f"contact-{network}.png", _contact(network, images[network], p, a))
    if arguments.output:
        shown = choose_pairs(list(photographs), list(paintings), min(SHOWN, len(pairs)))
        ns.save_image(arguments.output / "side-by-side.png", _side_by_side(shown, images, p, a))
    print(table(results["networks"]))
    return 0


def _distances(image: np.ndarray, style: np.ndarray) -> dict[str, float]:
    return {"patches": patch_distance(image, style), "texture": patch_distance(image, style, texture=True)}


def _contact(
    network: str,
    images: dict[Pair, tuple[np.ndarray, str]],
    p: dict[str, np.ndarray],
    a: dict[str, np.ndarray],
) -> np.ndarray:
    """A network's results: the photographs down the left margin, the paintings along the top."""
    rows = [[(None, network), *((a[painting], painting) for painting in a)]]
    for photograph in p:
        results = [images.get((photograph, painting), (None, "")) for painting in a]
        rows.append([(p[photograph], photograph), *results])
    return sheet(rows, THUMBNAIL)


def _side_by_side(
    pairs: list[Pair],
    images: dict[str, dict[Pair, tuple[np.ndarray, str]]],
    p: dict[str, np.ndarray],
    a: dict[str, np.ndarray],
) -> np.ndarray:
    """A row per pair: photograph, painting, each network's result."""
    rows: list[list[tuple[np.ndarray | None, str]]] = []
    for photograph, painting in pairs:
        rows.append([(p[photograph], photograph), (a[painting], painting)])
        for network, results in images.items():
            image, label = results[photograph, painting]
            rows[-1].append((image, f"{network}: {label}"))
    return sheet(rows, SIDE_BY_SIDE)


def _setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE as a setting of `nsnumpy.transfer`."""
    name, _, value = text.partition("=")
    with suppress(ValueError, SyntaxError):  # then it is a word
        value = ast.literal_eval(value)
    known = [field.name for field in fields(ns.Settings) if field.name != "size"]  # which has an option of its own
    if name not in known or "=" not in text:
        raise argparse.ArgumentTypeError(f"NAME=VALUE with NAME one of {', '.join(known)}; got {text!r}")
    try:
        return name, getattr(ns.Settings(**{name: value}), name)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"a whole number, 1 or more; got {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(run=run)
    made.add_argument(
        "--networks", nargs="+", default=NETWORKS, metavar="NETWORK", help="weight files or names (builtin and random)"
    )
    made.add_argument("--size", type=_positive, default=384, help="long side of the results in pixels (384)")
    made.add_argument("--pictures", type=Path, metavar="FOLDER", help="more pictures: photo_* and painting_*")
    made.add_argument("--pairs", type=_positive, metavar="N", help="so many pairs instead of all, varied ones")
    made.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of nsnumpy.transfer; may be given several times",
    )
    made.add_argument("--threads", type=_positive, default=usable_cores(), help="of the network (all)")
    made.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the pictures into this folder")
    made.add_argument("--json", type=Path, default=HERE / "quality.json", help="write the figures to this file")
    return made


def main() -> int:
    restart_with_better_kernel()
    return run_program(
        "quality.py",
        parser,
        None,
        interrupted="interrupted; the runs that ended are in the JSON file",
        out_of_memory="a smaller --size takes less",
    )


if __name__ == "__main__":
    sys.exit(main())
