"""What a command that makes a picture writes: its files checked before, and written after the run."""

from __future__ import annotations

import argparse
import signal
import tempfile
from pathlib import Path

from ..backend import DeviceError, device_errors
from ..files.checkpoint import EVERY, check_checkpoint, is_checkpoint
from ..files.images import check_fits, check_output
from ..files.weight_sources import BUILTINS
from ..files.writing import check_absent, check_distinct, check_folder
from ..machine import peak_memory
from ..run.results import Result
from ..run.settings import INITS
from ..study.report.log import check_log
from ..study.report.report import Frames, check_report, write_report
from ..vgg import VGG
from .command import PROG, one_line, os_error, say, tell
from .given import Given
from .pictures import named_pictures
from .regions import map_files
from .standard import STANDARD, elsewhere, write_picture


def save_result(
    arguments: argparse.Namespace, result: Result, output: str, stream: int | None, there: Path | None
) -> bool:
    """Write it there, or where it can be; `there` is its checkpoint, if it has one."""
    depth = arguments.depth or 8
    try:
        write_picture(output, stream, result.image, result.settings, depth)
        return True
    except OSError as error:
        wrong = os_error(error)
    goes_on = f", and --resume {there} makes it again" if there else ""
    try:
        other = Path(tempfile.mkdtemp(prefix=f"{PROG}-")) / elsewhere(output)
        result.save(other, depth)
        say(f"error: {wrong}; the picture is {other}{goes_on}")
    except OSError as error:
        say(f"error: {wrong}; nor could it be written elsewhere ({os_error(error)}){goes_on or '; it is lost'}")
    return False


def check_result_fits(arguments: argparse.Namespace, shape: tuple[int, int]) -> None:
    """ValueError if the result is larger than its format can be, or the tile beside itself is."""
    if arguments.output != STANDARD:
        check_fits(Path(arguments.output), shape)
    if tiled := preview_of(arguments):
        across, down = arguments.preview
        check_fits(tiled, (shape[0] * down, shape[1] * across))


def preview_of(arguments: argparse.Namespace) -> Path | None:
    """Where the tile is shown beside itself, if it is; ValueError if it is none."""
    if not getattr(arguments, "preview", None):
        return None
    if not arguments.seamless:
        raise ValueError("--preview: shows a seamless texture beside itself; give --seamless, too")
    output = Path(arguments.output)
    return output.with_stem(f"{output.stem}-{'x'.join(map(str, arguments.preview))}")


def _check_output(arguments: argparse.Namespace) -> Path | None:
    """The file to be written; None for standard output."""
    if arguments.output != STANDARD:
        return check_output(arguments.output, arguments.depth or 8)
    for option, value in (("save-every", arguments.save_every), ("preview", getattr(arguments, "preview", None))):
        if value:
            raise ValueError(f"--{option}: names its pictures after OUT, which is standard output; name a file")
    return None


def check_files(arguments: argparse.Namespace) -> Path | None:
    """The file to keep the run in, if any; ValueError or OSError if a file cannot be written, or is named twice."""
    output = _check_output(arguments)
    kept: Path | None = arguments.checkpoint or arguments.resume
    if arguments.checkpoint_every != EVERY and not kept:
        raise ValueError("--checkpoint-every: no --checkpoint to write is named")
    named = [one for pictures in named_pictures(arguments).values() for one in pictures]
    masks = [one.region for one in named if one.region] if getattr(arguments, "mask", None) else map_files(arguments)
    read = [*(one.path for one in named), *masks, arguments.init, arguments.weights]
    anew = kept is not None and not (arguments.resume and arguments.resume.resolve() == kept.resolve())
    if anew and arguments.resume:
        read.append(arguments.resume)
    written = [path for path in (output, preview_of(arguments), arguments.log, arguments.report) if path]
    check_distinct(
        [*written, *([kept] if kept else [])],
        [path for path in read if path not in (None, *INITS, *BUILTINS)],
        numbered=output if arguments.save_every else None,
    )
    if arguments.no_clobber:
        check_absent(written, numbered=output if arguments.save_every else None)
    if arguments.log:
        check_log(arguments.log)
    if arguments.report:
        check_report(arguments.report)
    if kept and anew:
        check_checkpoint(kept)
        if is_checkpoint(kept):
            raise ValueError(f"{kept}: keeps a run already: --resume {kept} goes on with it; or remove it")
    elif kept:
        check_folder(kept)
    return kept


def save_report(arguments: argparse.Namespace, given: Given, result: Result, vgg: VGG, frames: Frames) -> int:
    """Write the report, and return the exit status; the picture has been written."""
    path: Path = arguments.report
    peak_bytes = peak_memory()
    try:
        with device_errors():
            write_report(path, result, vgg=vgg, frames=frames, peak_bytes=peak_bytes, **given.sources)
    except KeyboardInterrupt:
        say(f"interrupted; {path} was not written")
        return 128 + signal.SIGINT
    except (ValueError, OSError, MemoryError, DeviceError) as error:
        reason = os_error(error) if isinstance(error, OSError) else one_line(error) or "out of memory"
        say(f"error: no report: {reason}")
        return 1
    if not arguments.quiet:
        tell(f"{path}: the report, {path.stat().st_size / 1e6:.1f} MB")
    return 0
