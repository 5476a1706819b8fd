"""The command line of weights_tools: argument parsing and printing; nothing else prints.

Exit status: 0 done, 1 it failed (`compare`: not the same network), 2 the command was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nsnumpy import load_image, write_weights
from nsnumpy.architecture import POOLINGS
from nsnumpy.backend import DeviceError
from nsnumpy.cli.command import Parser, examples, one_line, run_program
from nsnumpy.cli.version import Version
from nsnumpy.files.weight_sources import BUILTIN_NAMES, BUILTIN_RANDOM, BUNDLED, cache_folder, find_weights
from nsnumpy.files.weights import DTYPES, read_weights
from nsnumpy.files.writing import check_distinct, check_folder

from .compare import SAME, compare
from .compress.cli import PICTURES, add_compress, run_compress
from .convert import NONE, Found, Overrides, describe, read_any, rounding_error
from .download import checksums
from .fetch import FetchError, fetch
from .networks import Weights
from .normalize import mean_activations, normalize
from .options import add_output, add_overrides, overrides, size
from .published import COLLECTIONS, PUBLISHED
from .states import TrainingError
from .train.cli import DATA, add_train, run_train

PROG = "weights_tools"
_NAMED = f"or the name of a fetched one, or {BUILTIN_NAMES}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; `argv` is `sys.argv` without the program's name."""
    return run_program(
        PROG,
        parser,
        argv,
        interrupted="interrupted; nothing was written, and what was downloaded so far is kept for the next time",
        out_of_memory="the file is larger than this machine can hold",
        failures=lambda: (DeviceError, FetchError, TrainingError),
    )


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    made = Parser(
        prog=f"python -m {PROG}",
        description="VGG weight files for nsnumpy: fetched, converted, looked into, compressed, trained. No framework "
        "is needed, and nothing in a file is ever run.",
        allow_abbrev=False,
        **examples(
            "python -m weights_tools fetch vgg19",
            "python -m weights_tools inspect vgg19",
            "nsnumpy transfer sample:coast sample:starry --weights vgg19 -o out.png",
        ),
    )
    made.add_argument("--version", action=Version)
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _add(
        commands,
        "fetch",
        _run_fetch,
        "download a published weight file, check and convert it",
        "fetch",
        "fetch vgg19",
        above=f"The weight file goes to {cache_folder()}, under NAME.h5. A proxy is taken from the environment: "
        "http_proxy, https_proxy, no_proxy.",
    )
    command.add_argument("name", metavar="NAME", nargs="?", help="which; without it, the known ones are listed")
    command.add_argument("--offline", action="store_true", help="take only what was downloaded before")
    command.add_argument(
        "--force",
        action="store_true",
        help="fetch it again, even if a file of unpublished checksum has changed",
    )
    command.add_argument("--keep", action="store_true", help="keep the downloaded file, too")

    command = _add(
        commands,
        "convert",
        _run_convert,
        "read a weight file of any known format, write nsnumpy's",
        "convert vgg19-dcbb9e9d.pth -o vgg19.h5",
        "convert my_vgg.npz -o my_vgg.h5 --bgr --scale 255 --mean 103.939,116.779,123.68 --dtype float16",
    )
    command.add_argument("file", metavar="FILE", help=f".pth, .h5, .mat, .caffemodel, .onnx, .npy, ...; {_NAMED}")
    add_output(command)
    add_overrides(command)

    command = _add(
        commands,
        "inspect",
        _run_inspect,
        "say what a weight file holds",
        "inspect builtin",
        "inspect vgg19.h5 --picture sample:coast",
    )
    command.add_argument("file", metavar="FILE", help=f"a weight file of any known format; {_NAMED}")
    command.add_argument("--picture", metavar="P", help="print each layer's mean activation for this picture, too")
    command.add_argument("--size", type=size, metavar="PIXELS", default=384, help="long side of the picture (384)")
    command.add_argument("--pooling", choices=POOLINGS, default="avg", help="for the picture (avg)")
    add_overrides(command)

    command = _add(
        commands,
        "compare",
        _run_compare,
        "say whether two weight files hold the same network",
        "compare vgg19-dcbb9e9d.pth vgg19.h5",
        above=f"Exit status: 0 the same, 1 not. Layers that differ by less than {SAME:g}, or by no more than rounding "
        "to 8 bits, are taken for the same.",
    )
    command.add_argument("a", metavar="A", help=f"a weight file of any known format; {_NAMED}")
    command.add_argument("b", metavar="B", help="the other one")

    command = _add(
        commands,
        "normalize",
        _run_normalize,
        "rescale each filter to a mean activation of 1 over pictures",
        "normalize vgg19.h5 photos/*.jpg -o normalized.h5",
    )
    command.add_argument("file", metavar="FILE", help=f"a weight file of any known format; {_NAMED}")
    command.add_argument("pictures", metavar="PICTURE", nargs="+", help="photographs: a dozen or more, of many kinds")
    command.add_argument("--size", type=size, metavar="PIXELS", default=384, help="long side of the pictures (384)")
    command.add_argument("--pooling", choices=POOLINGS, default="avg", help="with which the means are taken (avg)")
    add_output(command)
    add_overrides(command)

    command = _add(
        commands,
        "compress",
        _run_compress,
        "make a narrow network that paints like a wide one",
        "compress vgg16 photos/ -o half.h5",
        "compress vgg16 photos/ -o small.h5 --width 3/8 --refine 1000 --log small.jsonl",
        above=PICTURES,
    )
    add_compress(command)
    add_overrides(command)

    add_train(
        _add(
            commands,
            "train",
            run_train,
            "train a network for painting",
            "train pictures.h5 -o net.h5 --log net.jsonl",
            "train pictures/ -o plain.h5 --radius 0",
            above=DATA,
        )
    )
    return made


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, *lines: str, above: str = ""
) -> argparse.ArgumentParser:
    below = examples(*(f"python -m {PROG} {line}" for line in lines), above=above)
    description = f"{help[0].upper()}{help[1:]}."
    command = commands.add_parser(name, help=help, description=description, allow_abbrev=False, **below)
    command.set_defaults(run=run)
    return command


def _run_fetch(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        for name, files in COLLECTIONS.items():
            print(f"{name:24}the first of these that can be had: {', '.join(files)}")
        for name, published in PUBLISHED.items():
            size = f"{published.size / 1e6:.0f} MB" if published.size else "size not published"
            print(f"{name:24}{published.about} ({size}; {published.license.partition(' (')[0]})")
        return 0
    with _progress(arguments.name) as progress:
        fetched = fetch(
            arguments.name,
            offline=arguments.offline,
            force=arguments.force,
            keep=arguments.keep,
            say=lambda line: tqdm.write(line, file=sys.stderr),
            progress=progress,
        )
    if fetched.found is None:
        print(f"{fetched.path}: there already (--force fetches it again)")
        return 0
    print(f"{fetched.url}: SHA-256 {fetched.sha256}")
    _print_found(fetched.path, fetched.found)
    print(f"use it with: nsnumpy transfer CONTENT STYLE --weights {arguments.name} -o OUT")
    return 0


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1000, disable=None, leave=False) as bar:

        def report(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _run_convert(arguments: argparse.Namespace) -> int:
    _check_output(arguments, [arguments.file])
    found = _read(arguments.file, overrides(arguments))
    write_weights(arguments.output, found.file, arguments.dtype or found.dtype)
    _print_found(arguments.output, found)
    _print_rounding(found.file.weights, arguments.dtype)
    return 0


def _check_output(arguments: argparse.Namespace, read: Sequence[str]) -> None:
    """Before the work: that it can be written, and is nothing that is read."""
    check_folder(arguments.output)
    check_distinct([arguments.output], read)


def _print_found(path: Path, found: Found) -> None:
    print(f"{path}: {found.file.architecture}, {len(found.file.weights)} layers, from {found.format}")
    print(f"  expects {describe(found.file.preprocessing)}")
    _print_notes(found)


def _print_notes(found: Found) -> None:
    for note in found.notes:
        print(f"  note: {one_line(note)}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _print_rounding(weights: Weights, dtype: str | None) -> None:
    layer, error = rounding_error(weights, dtype) if dtype else ("", 0.0)
    if error:
        print(f"  stored as {dtype}: relative rms error of the weights {error:.1e} at most ({layer})")


def _run_inspect(arguments: argparse.Namespace) -> int:
    found = _read(arguments.file, overrides(arguments))
    file = found.file
    means = {}
    if arguments.picture:
        means = mean_activations(file, [load_image(arguments.picture, arguments.size)], arguments.pooling)
    sha256 = ""
    if arguments.file == BUILTIN_RANDOM:
        print(f"{BUILTIN_RANDOM}: {found.format}")
    else:
        path = _path(arguments.file)
        sha256, _, size = checksums(path)
        print(f"{path}: {found.format}, {size:,} bytes")
    facts = {
        "SHA-256": sha256 or "none: no file",
        "network": f"{file.architecture}, {len(file.weights)} layers, {found.dtype}",
        "pixels": describe(file.preprocessing),
        "pooling": f"{file.pooling}, as trained",
        "normalized": "yes: each filter's mean activation was made 1" if file.normalized else "no, or not known to be",
        "source": one_line(f"{file.source}{f' (SHA-256 {file.sha256})' if file.sha256 not in ('', sha256) else ''}"),
        "license": one_line(file.license) or "not known",
    }
    for name, fact in facts.items():
        print(f"  {name:12}{fact}")
    _print_notes(found)
    heading = f"{'':9}{'(H, W, C_in, C_out)':21}{'least':>9}{'greatest':>10}{'norm':>9}{'bias norm':>11}"
    if means:
        heading += f"{'mean activation':>17} (least to most active filter)"
        print(f"  activations {arguments.picture}, {arguments.size} pixels, {arguments.pooling} pooling")
    print(heading)
    for name, (weight, bias) in file.weights.items():
        norm, bias_norm = (float(np.linalg.norm(array.astype(np.float64))) for array in (weight, bias))
        row = f"{name:9}{tuple(weight.shape)!s:21}{weight.min():9.3g}{weight.max():10.3g}{norm:9.4g}{bias_norm:11.4g}"
        if means:
            m = means[name]
            row += f"{m.mean():17.4g} ({m.min():.3g} to {m.max():.3g})"
        print(row)
    return 0


def _path(source: str) -> Path:
    """A file, or the weight file of that name: a built-in or a fetched one."""
    return Path(source) if source not in BUNDLED and Path(source).exists() else find_weights(source)


def _read(source: str, overrides: Overrides = NONE) -> Found:
    """What a file holds, or the weight file of that name, or the random network."""
    if source == BUILTIN_RANDOM:
        file = read_weights(source)
        file = replace(file, preprocessing=overrides.apply(file.preprocessing))
        return Found(file, "made from a seed", "float32", [])
    return read_any(_path(source), overrides)


def _run_compare(arguments: argparse.Namespace) -> int:
    a, b = _read(arguments.a), _read(arguments.b)
    for label, name, found in (("A", arguments.a, a), ("B", arguments.b, b)):
        print(f"{label}: {name}: {found.format}, {found.file.architecture}, {describe(found.file.preprocessing)}")
        _print_notes(found)
    comparison = compare(a.file, b.file)
    print("  layer    difference, relative")
    for layer in comparison.layers:
        words = "differs" if layer.reordering is None else layer.reordering or "the same"
        words += f": {layer.widths[0]} filters in A, {layer.widths[1]} in B" if layer.widths else ""
        words += ", rounded to 8 bits" if layer.rounded else ""
        print(f"  {layer.layer:9}{layer.error:9.1e}  {words}")
    if comparison.missing:
        print(f"  only in one of them: {', '.join(comparison.missing)}")
    print(comparison.verdict)
    return 0 if comparison.same else 1


def _run_compress(arguments: argparse.Namespace) -> int:
    found = _read(arguments.teacher, overrides(arguments))
    _print_notes(found)
    return run_compress(arguments, found.file)


def _run_normalize(arguments: argparse.Namespace) -> int:
    _check_output(arguments, [arguments.file, *arguments.pictures])
    found = _read(arguments.file, overrides(arguments))
    _print_notes(found)
    pictures = (
        load_image(picture, arguments.size) for picture in tqdm(arguments.pictures, unit="picture", disable=None)
    )
    file, means = normalize(found.file, pictures, arguments.pooling)
    how = f"normalized over {_count(len(arguments.pictures), 'picture')}, {arguments.pooling} pooling"
    file = replace(file, source="; ".join(filter(None, [file.source, how])))
    dtype = max("float32", found.dtype, key=DTYPES.index)  # rescaled, what was exact in less no longer is
    write_weights(arguments.output, file, arguments.dtype or dtype)
    print(f"{arguments.output}: {how}; expects {describe(file.preprocessing)}")
    print("  layer    mean activation before (least to most active filter)")
    for name, mean in means.items():
        dead = int((mean <= 0).sum())
        row = f"  {name:9}{mean.mean():9.4g} ({mean.min():.3g} to {mean.max():.3g})"
        print(f"{row}; {_count(dead, 'filter')} never active" if dead else row)
    _print_rounding(file.weights, arguments.dtype)
    return 0
