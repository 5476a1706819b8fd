"""The command ``train``: its options, its progress bar, its log and its checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nsnumpy import WeightFile, load_image, write_weights
from nsnumpy._version import __version__
from nsnumpy.architecture import ARCHITECTURES, minimum_size
from nsnumpy.backend import DEVICES
from nsnumpy.cli.options import above_zero, natural, non_negative, positive
from nsnumpy.files.weights import DTYPES
from nsnumpy.files.writing import check_distinct, check_folder

from ..normalize import normalize
from ..options import weight_file
from .classifier import network_layers
from .data import DataError, open_pictures, read_pictures
from .trainer import Recipe, Report, Stage, Trainer, TrainingError, load_state

CALIBRATION = 400  # pictures over which the mean activations are taken
_CALIBRATION_SIZE = 384  # their greatest long side
_SAVE_SECONDS = 300
_DEFAULT = Recipe()
DATA = (
    "DATA: an HDF5 file with datasets webp (or jpeg, png: the encoded pictures end to end), offset (where each "
    "begins, and the end) and label; or a folder with a folder of pictures for each class. Ctrl-C keeps a "
    "checkpoint, OUT.checkpoint; the same command with --resume goes on from it, exactly."
)
"""What is said below the options."""


def add_train(command: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    command.add_argument("data", metavar="DATA", type=Path, help="labelled pictures, see below")
    command.add_argument("-o", "--output", metavar="OUT", type=weight_file, required=True, help="the weight file, .h5")
    command.add_argument("--width", type=share, metavar="W", default="3/8", help="of VGG-19's filters (3/8)")
    command.add_argument(
        "--last", type=_last, metavar="LAYER", default=_DEFAULT.last, help="the deepest convolution (conv5_1)"
    )
    command.add_argument(
        "--stages",
        type=_stages,
        metavar="EPOCHS@CROP[/2],...",
        default=_DEFAULT.stages,
        help=f"random crops of so many pixels, /2 of the halved pictures ({_shown(_DEFAULT.stages)})",
    )
    command.add_argument(
        "--side", type=positive, metavar="PIXELS", default=64, help="to which pictures are scaled (64)"
    )
    command.add_argument("--batch", type=positive, metavar="N", default=_DEFAULT.batch, help="pictures a step (128)")
    command.add_argument(
        "--group", type=positive, metavar="N", default=_DEFAULT.group, help="how many are normalised together (32)"
    )
    command.add_argument("--rate", type=above_zero, default=_DEFAULT.rate, help="greatest learning rate (0.2)")
    command.add_argument("--momentum", type=_momentum, default=_DEFAULT.momentum, help="0 to below 1 (0.9)")
    command.add_argument("--weight-decay", type=non_negative, default=_DEFAULT.weight_decay, help="(3e-4)")
    command.add_argument(
        "--radius",
        type=non_negative,
        default=_DEFAULT.radius,
        help="L2 norm of the perturbation of 64 x 64 pixels in [0, 1]; 0 is plain training (1.2)",
    )
    command.add_argument(
        "--attack-steps", type=positive, metavar="N", default=_DEFAULT.steps, help="steps of each perturbation (1)"
    )
    command.add_argument("--seed", type=natural, default=_DEFAULT.seed, help="of everything random (0)")
    command.add_argument(
        "--held-out",
        type=natural,
        metavar="N",
        default=2000,
        help="the last pictures, kept to measure accuracy (2000)",
    )
    command.add_argument(
        "--calibrate",
        metavar="PICTURES",
        type=Path,
        help="folder or HDF5 file of photographs over which each filter's mean activation is made 1 (DATA)",
    )
    command.add_argument(
        "--as-trained", action="store_true", help="leave the mean activations as they are after training"
    )
    command.add_argument("--license", metavar="TEXT", default="", help="of the network, for the file to state")
    command.add_argument("--dtype", choices=DTYPES, default="float16", help="how to store the weights (float16)")
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to run; gpu needs CuPy (cpu)")
    command.add_argument("--threads", type=positive, metavar="N", help="threads of the CPU (all usable cores)")
    command.add_argument("--resume", action="store_true", help="go on from OUT.checkpoint")
    command.add_argument("--log", metavar="FILE", type=Path, help="write one JSON object per step to FILE")


def run_train(arguments: argparse.Namespace) -> int:
    """Train, fold, normalize, write. Exit status as of the program."""
    output: Path = arguments.output
    checkpoint = Path(f"{output}.checkpoint")
    written = [path for path in (output, checkpoint, arguments.log) if path]
    for path in written:
        check_folder(path)
    check_distinct(written, [path for path in (arguments.data, arguments.calibrate) if path])
    if checkpoint.exists() and not arguments.resume:
        raise TrainingError(f"{checkpoint}: of a training that was not finished: --resume goes on; or remove it")
    recipe = _recipe(arguments)
    if arguments.calibrate and not arguments.as_trained:
        check_calibration(arguments.calibrate, recipe.last)
    pictures, held_out = read_pictures(arguments.data, arguments.side, recipe.seed).split(arguments.held_out)
    trainer = Trainer(pictures, held_out, recipe, device=arguments.device, threads=arguments.threads)
    if not arguments.calibrate and not arguments.as_trained:
        check_calibration(arguments.data, recipe.last)
    if arguments.resume:
        trainer.state = load_state(checkpoint, recipe, trainer.xp, trainer.fingerprint)
    print(f"{len(pictures):,} pictures of {pictures.classes} classes, {trainer.steps:,} steps of {recipe.batch}")
    try:
        with _reporter(arguments, trainer, checkpoint) as report:
            trainer.train(report)
        trainer.state.save(checkpoint, recipe, trainer.fingerprint)  # what follows may fail
        calibration = None if arguments.as_trained else arguments.calibrate or arguments.data
        file = finish(trainer, calibration, arguments.data.name)
    except KeyboardInterrupt:
        trainer.state.save(checkpoint, recipe, trainer.fingerprint)
        done = f"{trainer.state.step:,} of {trainer.steps:,} steps"
        print(f"weights_tools: interrupted after {done}; --resume goes on from {checkpoint}", file=sys.stderr)
        return 128 + signal.SIGINT
    try:
        write_weights(output, replace(file, license=arguments.license), arguments.dtype)
    except ValueError as error:  # of a filter that is hardly ever on, and was scaled up
        raise TrainingError(f"{error}; --resume --dtype float32 stores them") from error
    checkpoint.unlink(missing_ok=True)
    print(f"{output}: {file.source}")
    return 0


def finish(trainer: Trainer, calibration: Path | None, data: str) -> WeightFile:
    """The trained network, folded and with mean activations of 1 over calibration pictures, and how it was made.

    Without such pictures it has the activations that training gave it.
    """
    file = trainer.network()
    if calibration:
        file, _ = normalize(file, _calibration_images(calibration))
    over = f"normalized over {calibration.name}" if calibration else "not normalized"
    recipe, accuracy = trainer.recipe, trainer.accuracy()
    against = f"against perturbations of radius {recipe.radius:g}" if recipe.radius else "without perturbations"
    made = (
        f"trained by nsnumpy {__version__} on {data}, {_shown(recipe.stages)}, {against}"
        f"{'' if accuracy is None else f', top-1 accuracy {accuracy:.1%}'}; {over}; "
        f"recipe {json.dumps(asdict(recipe))}"
    )
    return replace(file, source=made)


def _calibration_images(path: Path) -> Iterator[np.ndarray]:
    for image in open_pictures(path, CALIBRATION):
        yield load_image(image, min(max(image.size), _CALIBRATION_SIZE))


def check_calibration(path: Path, last: str) -> None:
    """DataError, before the training, if the pictures cannot be read or are too small for the network."""
    least = minimum_size("vgg19", [last])
    for image in _calibration_images(path):
        if min(image.shape[:2]) < least:
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise DataError(f"{path}: a picture of {size} pixels; {last} needs {least}: --calibrate with larger ones")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    widths = tuple(max(1, round(filters * arguments.width)) for filters, _ in ARCHITECTURES["vgg19"])
    names = ("last", "stages", "batch", "group", "rate", "momentum", "weight_decay", "radius", "seed")
    given = {name: getattr(arguments, name) for name in names}
    return Recipe(widths=widths, steps=arguments.attack_steps, **given)


@contextlib.contextmanager
def _reporter(arguments: argparse.Namespace, trainer: Trainer, checkpoint: Path) -> Iterator[Callable[[Report], None]]:
    """The callback of a training: progress bar, log, checkpoint every five minutes."""
    saved = time.monotonic()
    with (
        tqdm(
            total=trainer.steps, initial=trainer.state.step, unit="step", disable=None, dynamic_ncols=True, leave=False
        ) as bar,
        contextlib.ExitStack() as stack,
    ):
        log = stack.enter_context(arguments.log.open("a" if arguments.resume else "w")) if arguments.log else None

        def report(progress: Report) -> None:
            nonlocal saved
            bar.set_postfix_str(f"loss {progress.loss:.3f}, {progress.images_per_second:.0f} pictures/s", refresh=False)
            bar.update(1)
            if progress.accuracy is not None:
                tqdm.write(f"epoch {progress.epoch:.2f}: loss {progress.loss:.3f}, accuracy {progress.accuracy:.1%}")
            if log:
                log.write(json.dumps(progress.record()) + "\n")
                log.flush()
            if time.monotonic() - saved > _SAVE_SECONDS:
                trainer.state.save(checkpoint, trainer.recipe, trainer.fingerprint)
                saved = time.monotonic()

        yield report


def _shown(stages: tuple[Stage, ...]) -> str:
    return ",".join(f"{stage.epochs:g}@{stage.crop}{'/2' * stage.halved}" for stage in stages)


def _stages(text: str) -> tuple[Stage, ...]:
    stages = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)@(\d+)(/2)?", part)
        if not match:
            raise argparse.ArgumentTypeError(f"EPOCHS@CROP or EPOCHS@CROP/2, with commas, expected; {text!r} given")
        if not float(match[1]):
            raise argparse.ArgumentTypeError(f"epochs above 0 expected; {text!r} given")
        stages.append(Stage(float(match[1]), int(match[2]), bool(match[3])))
    return tuple(stages)


def share(text: str, most: int = 4) -> Fraction:
    """A share above 0, as 3/8 or 0.5."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(
            f"a share as 3/8 or 0.5{f', {most} at most,' * (most == 1)} expected; {text!r} given"
        )
    return value


def _last(text: str) -> str:
    try:
        network_layers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _momentum(text: str) -> float:
    if (value := non_negative(text)) >= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to below 1 expected; {text!r} given")
    return value
