"""The command ``compress``: its options, its progress bar, its log and its checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
from tqdm import tqdm

from nsnumpy import Preprocessing, WeightFile, write_weights
from nsnumpy._version import __version__
from nsnumpy.architecture import ARCHITECTURES, convolutions, layer_names, network_digest
from nsnumpy.backend import DEVICES, device_namespace
from nsnumpy.cli.options import above_zero, natural, positive
from nsnumpy.files.weights import DTYPES
from nsnumpy.files.writing import check_distinct, check_folder
from nsnumpy.workers import Workers

from ..options import weight_file
from ..states import TrainingError, load_groups
from ..train.cli import share
from .closed_form import BATCH, LEAST_CROPS, LayerError, compress, held_out
from .crops import Crops
from .judge import judged_errors
from .refine import Recipe, Refiner, Report, vgg_of

_SAVE_SECONDS = 300
_LEAST_SIDE = 64  # of the crops: conv5_1 has 4 x 4 positions there
_DEFAULT = Recipe(steps=0)
PICTURES = (
    "PICTURES: folders of pictures, or HDF5 files with datasets jpeg (or webp, png: the encoded pictures end to "
    "end) and offset (where each begins, and the end). Some hundred photographs of many kinds, 192 pixels or more. "
    "The same bits for the same options, on one machine with as many --threads. While it refines, Ctrl-C keeps a "
    "checkpoint, OUT.checkpoint; the same command with --resume goes on from it, exactly."
)
"""What is said below the options."""


def add_compress(command: argparse.ArgumentParser) -> None:
    """The options of `compress`, but for those that say what the teacher's file does not."""
    command.add_argument("teacher", metavar="TEACHER", help="a VGG's weight file of any known format, or its name")
    command.add_argument("pictures", metavar="PICTURES", nargs="+", type=Path, help="photographs, see below")
    command.add_argument("-o", "--output", metavar="OUT", type=weight_file, required=True, help="the weight file, .h5")
    command.add_argument(
        "--width",
        type=_widths,
        metavar="W[,W,W,W,W]",
        default="1/2",
        help="share of the teacher's filters that stays, or one for each block (1/2)",
    )
    command.add_argument("--last", metavar="LAYER", default="conv5_1", help="the deepest convolution (conv5_1)")
    command.add_argument("--crops", type=_crops, metavar="N", default=400, help="of the pictures, to fit to (400)")
    command.add_argument("--side", type=_side, metavar="PIXELS", default=192, help="of the crops (192)")
    command.add_argument("--seed", type=natural, default=0, help="of everything random (0)")
    command.add_argument(
        "--refine",
        type=natural,
        metavar="STEPS",
        default=0,
        help="then so many steps of gradient refinement, kept if they lower the teacher's judged style error (0)",
    )
    command.add_argument("--rate", type=above_zero, default=_DEFAULT.rate, help="of the refinement's Adam (4e-4)")
    command.add_argument("--dtype", choices=DTYPES, default="int8", help="how to store the weights (int8)")
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to run; gpu needs CuPy (cpu)")
    command.add_argument("--threads", type=positive, metavar="N", help="threads of the CPU (all usable cores)")
    command.add_argument("--resume", action="store_true", help="go on from OUT.checkpoint")
    command.add_argument(
        "--log", metavar="FILE", type=Path, help="write one JSON object per step of refinement to FILE"
    )


def filters_of(teacher: WeightFile, widths: tuple[Fraction, ...], last: str) -> dict[str, int]:
    """How many filters each convolution keeps, with a share for each block."""
    names = convolutions(layer_names(teacher.architecture))
    if last not in names:
        raise ValueError(f"--last {last}: not a convolution of {teacher.architecture}: choose from {', '.join(names)}")
    names = names[: names.index(last) + 1]
    if missing := [name for name in names if name not in teacher.weights]:
        raise ValueError(
            f"the teacher ends at {list(teacher.weights)[-1]}, before {missing[0]}: choose a --last up to there"
        )
    full = {name: teacher.weights[name][0].shape[3] for name in names}
    return {name: max(1, round(n * widths[int(name[4]) - 1])) for name, n in full.items()}


def in_rgb(file: WeightFile) -> WeightFile:
    """The same network, for pictures whose channels stand in the order of everything else here."""
    p = file.preprocessing
    if p.channel_order == "RGB":
        return file
    weight, bias = file.weights["conv1_1"]
    return replace(
        file,
        weights=file.weights | {"conv1_1": (weight[:, :, ::-1], bias)},
        preprocessing=Preprocessing("RGB", p.pixel_scale, p.mean[::-1], p.std[::-1]),
    )


def run_compress(arguments: argparse.Namespace, teacher: WeightFile) -> int:
    """Compress, refine, write. Exit status as of the program."""
    output, refine = arguments.output, arguments.refine
    checkpoint = Path(f"{output}.checkpoint")
    written = [output, *filter(None, [arguments.log]), *([checkpoint] if refine else [])]
    for path in written:
        check_folder(path)
    check_distinct(written, [arguments.teacher, *arguments.pictures])
    if refine and checkpoint.exists() != arguments.resume:
        raise TrainingError(
            f"{checkpoint}: not there to go on from; begin without --resume"
            if arguments.resume
            else f"{checkpoint}: of a refinement that was not finished: --resume goes on; or remove it"
        )
    filters = filters_of(teacher, arguments.width, arguments.last)
    crops = Crops(arguments.pictures, arguments.crops, arguments.side, arguments.seed)
    xp = device_namespace(arguments.device)
    workers = Workers.on(xp, arguments.threads)
    recipe = Recipe(steps=refine, rate=arguments.rate, crop=min(_DEFAULT.crop, arguments.side), seed=arguments.seed)
    errors: list[LayerError] = []
    if arguments.resume:
        made = _begun(checkpoint, recipe, teacher, filters)
    else:
        made, errors = _compress(teacher, crops, filters, arguments.seed, xp, workers)
        _print_errors(errors)
    gave = ""
    if refine:
        first = len(crops) - held_out(crops)
        refiner = Refiner(made, teacher, crops, first, recipe, xp=xp, workers=workers)
        if arguments.resume:
            refiner.load(checkpoint)
        try:
            refiner.save(checkpoint)
            with _reporter(arguments.log, arguments.resume, refiner, checkpoint) as report:
                refiner.train(report)
            refiner.save(checkpoint)  # what follows may fail
            made, gave = _better(made, refiner.network(), teacher, crops, first, xp, workers)
        except KeyboardInterrupt:
            refiner.save(checkpoint)
            done = f"{refiner.step:,} of {recipe.steps:,} steps"
            print(f"weights_tools: interrupted after {done}; --resume goes on from {checkpoint}", file=sys.stderr)
            return 128 + signal.SIGINT
    source = _made(arguments, teacher, filters, crops, gave)
    write_weights(output, replace(in_rgb(made), source=source, sha256=""), arguments.dtype)
    if refine:
        checkpoint.unlink(missing_ok=True)
    print(f"{output}: {source}")
    return 0


def _begun(checkpoint: Path, recipe: Recipe, teacher: WeightFile, filters: dict[str, int]) -> WeightFile:
    """The network that the refinement of a checkpoint began with."""
    _, groups = load_groups(checkpoint, asdict(recipe), "", ("start",), np)
    start = groups["start"]
    theirs = {name.removesuffix("/bias"): len(bias) for name, bias in start.items() if name.endswith("/bias")}
    if theirs != filters:
        raise TrainingError(f"{checkpoint}: of other widths, or another --last; give the same options, or begin anew")
    weights = {name: (start[f"{name}/weight"], start[f"{name}/bias"]) for name in filters}
    return replace(teacher, weights=weights, pooling="avg", normalized=False)


def _compress(
    teacher: WeightFile, crops: Crops, filters: dict[str, int], seed: int, xp: ModuleType, workers: Workers
) -> tuple[WeightFile, list[LayerError]]:
    batches = -(-len(crops) // BATCH)
    with tqdm(total=batches * (1 + len(filters)), unit="batch", disable=None, dynamic_ncols=True, leave=False) as bar:

        def report(layer: str) -> None:
            bar.set_description_str(layer or "teacher", refresh=False)
            bar.update(1)

        return compress(teacher, crops, filters, seed=seed, xp=xp, workers=workers, callback=report)


def _print_errors(errors: list[LayerError]) -> None:
    print(f"{'':9}{'filters':>13}{'error':>8}{'of all':>8}{'ridge':>8}   relative, on crops that were held out")
    for e in errors:
        print(f"{e.layer:9}{f'{e.filters} of {e.of}':>13}{e.own:8.3f}{e.all:8.3f}{e.ridge:8.0e}")


def _better(
    before: WeightFile,
    after: WeightFile,
    teacher: WeightFile,
    crops: Crops,
    first: int,
    xp: ModuleType,
    workers: Workers,
) -> tuple[WeightFile, str]:
    """The one of the two whose pictures the teacher finds closer to the painting; and what was found, in words."""
    judge = vgg_of(replace(teacher, weights={name: teacher.weights[name] for name in before.weights}), xp, workers)
    was, now = (judged_errors(vgg_of(file, xp, workers), judge, crops, first) for file in (before, after))
    words = f"style error {was[0]:.4f} to {now[0]:.4f}, content error {was[1]:.3f} to {now[1]:.3f}"
    return (after, f"refined: {words}") if now[0] < was[0] else (before, f"refinement dropped: {words}")


def _made(arguments: argparse.Namespace, teacher: WeightFile, filters: dict[str, int], crops: Crops, gave: str) -> str:
    """How it was made, for the file to state."""
    widths = list(dict.fromkeys(f"{name[:5]}: {n}" for name, n in filters.items()))
    digest = network_digest(teacher.weights, teacher.preprocessing)
    return "; ".join(
        filter(
            None,
            [
                f"compressed by nsnumpy {__version__} from {teacher.source} (network {digest[:16]})",
                f"filters {', '.join(widths)}",
                f"{len(crops)} crops of {crops.side} pixels of {', '.join(path.name for path in arguments.pictures)}",
                f"seed {arguments.seed}",
                f"{arguments.refine} steps at {arguments.rate:g}, {gave}" if gave else "",
            ],
        )
    )


@contextlib.contextmanager
def _reporter(
    log: Path | None, resumed: bool, refiner: Refiner, checkpoint: Path
) -> Iterator[Callable[[Report], None]]:
    """The callback of a refinement: progress bar, log, checkpoint every five minutes."""
    saved = time.monotonic()
    with (
        tqdm(
            total=refiner.recipe.steps, initial=refiner.step, unit="step", disable=None, dynamic_ncols=True, leave=False
        ) as bar,
        contextlib.ExitStack() as stack,
    ):
        lines = stack.enter_context(log.open("a" if resumed else "w")) if log else None

        def report(now: Report) -> None:
            nonlocal saved
            bar.set_postfix_str(f"loss {sum(now.losses.values()):.3f}", refresh=False)
            bar.update(1)
            if lines:
                lines.write(json.dumps(now.record()) + "\n")
                lines.flush()
            if time.monotonic() - saved > _SAVE_SECONDS:
                refiner.save(checkpoint)
                saved = time.monotonic()

        yield report


def _widths(text: str) -> tuple[Fraction, ...]:
    shares = tuple(share(part, most=1) for part in text.split(","))
    blocks = len(ARCHITECTURES["vgg19"])
    if len(shares) not in (1, blocks):
        raise argparse.ArgumentTypeError(f"one share, or one for each of {blocks} blocks, expected; {text!r} given")
    return shares * blocks if len(shares) == 1 else shares


def _crops(text: str) -> int:
    if (value := positive(text)) < LEAST_CROPS:
        raise argparse.ArgumentTypeError(f"{LEAST_CROPS} or more expected; {text!r} given")
    return value


def _side(text: str) -> int:
    if (value := positive(text)) < _LEAST_SIDE:
        raise argparse.ArgumentTypeError(f"{_LEAST_SIDE} pixels or more expected; {text!r} given")
    return value
