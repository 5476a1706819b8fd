"""How good the results are: what a judge sees, the painting's look, the photograph's edges and the time.

    python benchmarks/quality.py [--networks builtin builtin-random vgg19 ...] [--made NAME=FOLDER ...] [--judge FILE]
        [--size 384] [--pictures FOLDER] [--pairs N] [--set NAME=VALUE ...] [--threads N] [-o FOLDER] [--json FILE]
        [--keep]

The pairs are every photograph with every painting, of the bundled pictures and of the files photo_* and painting_* in
--pictures; nsnumpy.transfer runs at its defaults but for --size and --set. A row per network, and per folder of
pictures that something else made (--made): FOLDER/PHOTOGRAPH-PAINTING.png for each pair, or another format, of the size
that the results have here. Of each result are told

- style, content: with --judge, the two errors that a real VGG finds, with average pooling (`measures.Judge`). 0: it has
  the painting's Gram matrices, the photograph's features; 1: they are as wrong as zeros would be.
- patches: the distance of its patches from the painting's (`measures.patch_distance`), over that of the photograph's.
  0: they are the painting's; 1: no nearer to them than before. Most of it is colour.
- texture: the same of the patches without their mean colours, which is brushwork and line. Blur raises it.
- edges: `measures.edge_similarity` with the photograph. 1: the same edges; about 0: nothing in common.
- seconds: the run's wall time, without that of loading the network; cpu: the seconds of all its threads, which other
  work on the machine changes less. Pictures made elsewhere have neither.

Writes benchmarks/quality.json; into -o every result, as NETWORK/PHOTOGRAPH-PAINTING.png, which is what --made reads, a
contact sheet per row, and side-by-side.png with the results of up to five pairs in all rows.

--keep goes on from the JSON file: what is there stays, and a network in --networks is run only for pairs that it lacks,
or anew if its weights or a setting have changed (with -o, also where its picture is not in the folder). The file must
be of the same pictures, size, --set, judge, threads and machine. It cannot know of changes in nsnumpy's code or here.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from measures import Judge, Measures, Pair
from sheets import Labelled, contact_sheet, side_by_side
from tqdm import tqdm

import nsnumpy as ns
from nsnumpy.cli.command import Parser, plural, run_program
from nsnumpy.cli.options import positive
from nsnumpy.files.checkpoint import digest
from nsnumpy.files.decode import PictureError
from nsnumpy.files.images import FORMATS, read_settings
from nsnumpy.files.samples import SAMPLE_PREFIX
from nsnumpy.files.writing import atomic_path, check_folder
from nsnumpy.machine import restart_with_better_kernel, usable_cores
from nsnumpy.run.results import Callback

HERE = Path(__file__).parent
NETWORKS = ("builtin", "builtin-large", "builtin-random")
PHOTOGRAPHS = ("sample:coast", "sample:still-life")
PAINTINGS = ("sample:cutouts", "sample:glass", "sample:starry")
SHOWN = 5  # pairs side by side
FIGURES = (  # of a row: the name, the heading in the table, decimals
    ("style_error", "style", 3),
    ("content_error", "content", 3),
    ("patches", "patches", 3),
    ("texture", "texture", 3),
    ("edges", "edges", 3),
    ("seconds", "seconds", 1),
    ("cpu_seconds", "cpu", 1),
)
WORST = ("style_error", "content_error", "patches")  # whose highest is told beside the median
NOT_SETTINGS = ("content", "style", "loss")  # of a result's record

Row = dict[str, Any]
Transfer = Callable[..., ns.Result]
"""Of a pair, and a callback or none."""


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


def made_elsewhere(folder: Path, pairs: list[Pair], p: dict[str, np.ndarray]) -> dict[Pair, np.ndarray]:
    """A folder's picture for each pair."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in FORMATS:
            found.setdefault(path.stem, []).append(path)
    if missing := [pair for pair in pairs if "-".join(pair) not in found]:
        others = f", nor those of {plural(len(missing) - 1, 'other pair')}" if len(missing) > 1 else ""
        raise ValueError(f"{folder}: no picture {'-'.join(missing[0])}.png or of another format is here{others}")
    images = {}
    for pair in pairs:
        path, *others = found["-".join(pair)]
        if others:
            raise ValueError(f"{path} and {others[0]} are of one pair; remove one of them")
        images[pair] = ns.load_image(path)
        height, width = p[pair[0]].shape[:2]
        if images[pair].shape[:2] != (height, width):
            given = f"{images[pair].shape[1]} x {images[pair].shape[0]}"
            raise ValueError(f"{path}: {width} x {height} pixels expected, as the results have here; it has {given}")
    return images


def environment(threads: int) -> dict[str, Any]:
    cpu, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    versions = {name: metadata.version(name) for name in ("nsnumpy", "numpy", "scipy", "pillow")}
    return {"cpu": cpu, "threads": threads, "python": platform.python_version(), "versions": versions}


def summary(rows: list[Row]) -> Row:
    """A network's figures from those of its pairs."""
    columns = {name: [row[name] for row in rows] for name, _, _ in FIGURES if name in rows[0]}
    medians = {name: statistics.median(column) for name, column in columns.items()}
    return medians | {f"worst_{name}": max(columns[name]) for name in WORST if name in columns}


def table(networks: dict[str, Any]) -> str:
    """The figures: a line per network, then a line per network and pair."""
    pairs = []
    for name, network in networks.items():
        pairs += [(f"{name}, {row['photograph']}, {row['painting']}", row) for row in network["pairs"]]
    columns = []
    for name, heading, decimals in FIGURES:
        columns += [(name, heading, decimals), (f"worst_{name}", "worst", decimals)]
    return f"{_table('medians over the pairs', list(networks.items()), columns)}\n\n{_table('pairs', pairs, columns)}"


def _table(title: str, rows: list[tuple[str, Row]], columns: list[tuple[str, str, int]]) -> str:
    """The columns that a row has; "-" where another one lacks it."""
    columns = [column for column in columns if any(column[0] in row for _, row in rows)]
    width = max(len(name) for name, _ in [(title, {}), *rows])
    lines = [f"{title:{width}}" + "".join(f"{heading:>9}" for _, heading, _ in columns)]
    for label, row in rows:
        texts = (f"{row[name]:.{decimals}f}" if name in row else "-" for name, _, decimals in columns)
        lines.append(f"{label:{width}}" + "".join(f"{text:>9}" for text in texts))
    return "\n".join(lines)


def header_of(
    arguments: argparse.Namespace, judge: Judge | None, pairs: int, pictures: dict[str, np.ndarray]
) -> dict[str, Any]:
    """What all rows of a JSON file have in common."""
    return {
        "environment": environment(arguments.threads),
        "size": arguments.size,
        "set": dict(arguments.set),
        "judge": judge and {"weights": judge.vgg.source, "sha256": judge.vgg.sha256},
        "pairs": pairs,
        "pictures": {name: digest(image) for name, image in pictures.items()},
    }


def kept_networks(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run left in the JSON file, by network; ValueError unless it ran on what `header` says."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        networks = dict(found["networks"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not what this benchmark writes; name another --json to --keep") from error
    if other := [name for name, value in _plain(header).items() if name not in found or found[name] != value]:
        raise ValueError(f"{path}: of another {', '.join(other)}; leave out --keep, or name another --json")
    return networks


def _plain(value: Any) -> Any:
    """The same as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def kept_rows(earlier: Row, transfer: Transfer, folder: Path | None) -> dict[Pair, tuple[np.ndarray | None, Row]]:
    """Of a network's rows from an earlier run those that `transfer` would make again, each with its picture.

    None if its weights or a setting are others now. With a folder, those whose pictures that run left there; without,
    all of them, and no pictures.
    """
    rows = {(row["photograph"], row["painting"]): row for row in earlier["pairs"]}
    if earlier.get("settings") != record(transfer(next(iter(rows)), _stop).settings):
        return {}
    if folder is None:
        return {pair: (None, row) for pair, row in rows.items()}
    found: dict[Pair, tuple[np.ndarray | None, Row]] = {}
    for pair, row in rows.items():
        path = picture_of(folder, pair)
        with suppress(PictureError):  # not there, or not ours
            # The scales follow a picture's proportions; all else is alike for all pairs.
            if record(read_settings(path)) | {"scales": None} == earlier["settings"] | {"scales": None}:
                found[pair] = ns.load_image(path), row
    return found


def _stop(_: ns.Progress) -> None:
    """A callback that ends a run at its start, when its record is there already."""
    raise KeyboardInterrupt


def record(settings: dict[str, Any]) -> dict[str, Any]:
    """What a result's settings say of the network and of how it was run."""
    return _plain({name: value for name, value in settings.items() if name not in NOT_SETTINGS})


def picture_of(folder: Path, pair: Pair) -> Path:
    return folder / f"{'-'.join(pair)}.png"


def transfer_of(vgg: ns.VGG, photographs: dict[str, Any], paintings: dict[str, Any], **settings: Any) -> Transfer:
    def transfer(pair: Pair, callback: Callback | None = None) -> ns.Result:
        return ns.transfer(photographs[pair[0]], paintings[pair[1]], vgg=vgg, callback=callback, **settings)

    return transfer


def painted(transfer: Transfer, name: str, pair: Pair) -> tuple[ns.Result, dict[str, float]]:
    """A result, and the seconds that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = transfer(pair)
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    if made.interrupted:
        raise KeyboardInterrupt
    if made.failed:
        raise ValueError(f"{name}, {', '.join(pair)}: {made.stopped}")
    if made.stopped:
        tqdm.write(f"{name}, {', '.join(pair)}: {made.stopped}", file=sys.stderr)
    return made, seconds


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.json)
    size, threads, output, settings = arguments.size, arguments.threads, arguments.output, dict(arguments.set)
    networks = by_name(arguments.networks)
    names = [*networks, *(name for name, _ in arguments.made)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"one row or more, each of a name of its own, expected; {', '.join(names) or 'none'} given")
    photographs, paintings = find_pictures(arguments.pictures)
    pairs = choose_pairs(list(photographs), list(paintings), arguments.pairs)
    p = {name: ns.load_image(photographs[name], size) for name, _ in pairs}
    a = {name: ns.load_image(paintings[name], settings.get("style_size") or size) for _, name in pairs}
    elsewhere = {name: made_elsewhere(folder, pairs, p) for name, folder in arguments.made}
    vggs = {name: ns.load_vgg(source, threads=threads) for name, source in networks.items()}
    judge = Judge(ns.load_vgg(arguments.judge, threads=threads)) if arguments.judge else None
    header = header_of(arguments, judge, len(pairs), p | a)
    done = kept_networks(arguments.json, header) if arguments.keep else {}
    results = {"date": time.strftime("%Y-%m-%d"), **header, "networks": done}
    for folder in (output, *(output / name for name in vggs)) if output else ():
        folder.mkdir(exist_ok=True)
    measures = Measures(tqdm(pairs, "photographs", unit="pair"), p, a, judge)
    drawn: dict[str, dict[Pair, Labelled]] = {}
    for name in names:
        transfer = transfer_of(vggs[name], photographs, paintings, size=size, **settings) if name in vggs else None
        kept = kept_rows(done[name], transfer, output and output / name) if transfer and name in done else {}
        if transfer and name in done and not kept:
            tqdm.write(f"{name}: weights, settings or pictures are others than before; run anew", file=sys.stderr)
        rows = {pair: row for pair, (_, row) in kept.items()}
        images = {pair: image for pair, (image, _) in kept.items()} | elsewhere.get(name, {})
        entry = {"settings": done[name]["settings"]} if kept else {}
        for pair in tqdm(pairs, name, unit="pair"):
            if pair in rows:
                continue
            row: Row = {"photograph": pair[0], "painting": pair[1]}
            if transfer:
                made, seconds = painted(transfer, name, pair)
                images[pair] = made.image
                entry.setdefault("settings", record(made.settings))
                if output:
                    made.save(picture_of(output / name, pair))
            rows[pair] = row | measures.of(pair, images[pair]) | (seconds if transfer else {})
            in_order = [rows[pair] for pair in pairs if pair in rows]
            done[name] = {**summary(in_order), **entry, "pairs": in_order}
            with atomic_path(arguments.json) as temporary:  # each as soon as it is there
                temporary.write_text(json.dumps(results, indent=1) + "\n")
        if output:
            drawn[name] = {pair: (images[pair], label(rows[pair])) for pair in pairs}
            ns.save_image(output / f"contact-{name}.png", contact_sheet(name, drawn[name], p, a))
    if output:
        shown = choose_pairs(list(photographs), list(paintings), min(SHOWN, len(pairs)))
        ns.save_image(output / "side-by-side.png", side_by_side(shown, drawn, p, a))
    print(table(done))
    return 0


def label(row: Row) -> str:
    """What stands below a result."""
    judged = f"style {row['style_error']:.3f}, content {row['content_error']:.2f}\n" if "style_error" in row else ""
    return judged + ", ".join(f"{name} {row[name]:.2f}" for name in ("patches", "texture", "edges"))


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


def _made(text: str) -> tuple[str, Path]:
    """NAME=FOLDER."""
    name, _, folder = text.partition("=")
    if not (name and folder) or Path(name).name != name:
        raise argparse.ArgumentTypeError(f"NAME=FOLDER with a name that a file can have; got {text!r}")
    return name, Path(folder)


def parser() -> argparse.ArgumentParser:
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(run=run)
    made.add_argument(
        "--networks",
        nargs="*",
        default=NETWORKS,
        metavar="NETWORK",
        help=f"weight files or names ({' '.join(NETWORKS)})",
    )
    made.add_argument(
        "--made",
        type=_made,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="pictures that something else made, as a row NAME; may be given several times",
    )
    made.add_argument("--judge", metavar="FILE", help="the weight file of a real VGG, which judges (none)")
    made.add_argument("--size", type=positive, default=384, help="long side of the results in pixels (384)")
    made.add_argument("--pictures", type=Path, metavar="FOLDER", help="more pictures: photo_* and painting_*")
    made.add_argument("--pairs", type=positive, metavar="N", help="so many pairs instead of all, varied ones")
    made.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of nsnumpy.transfer; may be given several times",
    )
    made.add_argument("--threads", type=positive, default=usable_cores(), metavar="N", help="of the networks (all)")
    made.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the pictures into this folder")
    made.add_argument("--json", type=Path, default=HERE / "quality.json", help="write the figures to this file")
    made.add_argument("--keep", action="store_true", help="keep what an earlier run left in that file")
    return made


def main() -> int:
    restart_with_better_kernel()
    return run_program(
        "quality.py",
        parser,
        None,
        interrupted="interrupted; the runs that ended are in the JSON file, and --keep goes on from there",
        out_of_memory="a smaller --size takes less",
    )


if __name__ == "__main__":
    sys.exit(main())
