"""The commands that make a picture, and the one that says what that would take."""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import DeviceError, device_errors
from ..files.checkpoint import EVERY, Checkpoint, Keeper, check_checkpoint, is_checkpoint, read_checkpoint
from ..files.images import check_output
from ..files.weight_sources import BUILTINS
from ..files.writing import check_absent, check_distinct, check_folder, locked, uninterrupted
from ..machine import peak_memory
from ..run.inputs import Inputs
from ..run.plan import plan
from ..run.results import Result
from ..run.run import Run
from ..run.settings import INITS, USE_CASES, settings_of
from ..study.report.report import Frames, check_report, write_report
from ..tiles.cluster import Cluster
from ..vgg import VGG
from .cluster import add_cluster, cluster_in
from .command import Parser, checking, examples, one_line, os_error, plural, say, tell
from .given import Given
from .many import of_a_folder, paint_folder
from .options import PROG, add_means, add_settings, check_settings, layer, means_in, positive, settings_in, tiles
from .pictures import add_styles, named_pictures, open_pictures
from .planned import does_not_fit, mend, planned_line, summary_line
from .regions import add_regions, map_files
from .remembered import filled, leave_open, to_remember
from .watch import watching

_SHOWN = {"content": "CONTENT", "style": "STYLE [STYLE ...]"}


def add_commands(commands: Any) -> None:
    """transfer, texture, reconstruct and plan."""
    command = transfer = _add_run(
        commands,
        "transfer",
        "paint CONTENT in the style of STYLE",
        "nsnumpy transfer sample:coast sample:starry -o out.png",
        "nsnumpy transfer photo.jpg painting.jpg other.jpg -o out.png --style-weights 0.7,0.3",
        "nsnumpy transfer photo.jpg blue=painting.jpg '#00ff00=other.jpg' --regions map.png -o out.png",
        "nsnumpy transfer photo.jpg painting.jpg -o out.png --checkpoint run.h5 --report run.html",
        "nsnumpy transfer --resume run.h5",
        "nsnumpy transfer photos/ painting.jpg -o painted/ --jobs 2",
    )
    command.add_argument("content", metavar="CONTENT", help="the picture to paint, or a folder of them")
    add_styles(command)
    command.add_argument(
        "--jobs", metavar="N", type=positive, default=1, help="of a folder: pictures at a time, in a process each (1)"
    )

    command = texture = _add_run(
        commands,
        "texture",
        "make a new picture in the style of STYLE",
        "nsnumpy texture sample:glass -o out.png",
        "nsnumpy texture painting.jpg -o out.png --size 800 --seed 1",
        "nsnumpy texture painting.jpg -o tile.png --size 512x256 --seamless --preview 3x3",
    )
    add_styles(command)
    command.add_argument("--preview", metavar="NxM", type=tiles, help="write OUT-NxM.png, the tile so often, too")

    command = _add_run(
        commands,
        "reconstruct",
        "make CONTENT again from what one layer knows of it",
        "nsnumpy reconstruct sample:coast -o out.png --layer conv3_1",
    )
    command.add_argument("content", metavar="CONTENT", help="the picture to reconstruct")
    command.add_argument("--layer", metavar="NAME", default="conv4_2", type=layer, help="the layer (conv4_2)")
    for made in (transfer, texture, command):
        leave_open(made)

    command = commands.add_parser(
        "plan",
        help="say what a transfer would take, and whether it fits",
        description="The memory and the time that `nsnumpy transfer` would take with the same options.",
        usage="%(prog)s CONTENT STYLE [STYLE ...] [options]",
        allow_abbrev=False,
        **examples("nsnumpy plan photo.jpg painting.jpg --size 2048"),
    )
    command.add_argument("content", metavar="CONTENT", help="the picture to paint")
    add_styles(command)
    more = add_settings(command, "transfer")
    add_regions(more)
    add_means(more)
    command.set_defaults(run=_run_plan, use_case="transfer")


def _add_run(commands: Any, name: str, help: str, *shown: str) -> Parser:
    """A command that makes a picture: its settings come from `Settings`, the rest is the same for all."""
    command: Parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        usage=f"%(prog)s {' '.join(_SHOWN[picture] for picture in USE_CASES[name].pictures)} -o OUT [options]",
        allow_abbrev=False,
        **examples(*shown),
    )
    output = f"the result: png, jpg, webp or tif{'; of a folder, a folder' if name == 'transfer' else ''}"
    command.add_argument("-o", "--output", metavar="OUT", required=True, help=output)
    more = add_settings(command, name)
    add_means(more)
    add_cluster(more)
    if name == "transfer":
        add_regions(more)
    command.add_argument("--save-every", metavar="K", type=positive, help="write OUT-00050.png, ... every K iterations")
    more.add_argument("--log", metavar="FILE", type=Path, help="write one JSON object per iteration to FILE")
    command.add_argument("--checkpoint", metavar="FILE", type=Path, help="keep the run in FILE, to go on from")
    more.add_argument(
        "--checkpoint-every", metavar="K", type=positive, default=EVERY, help=f"after how many iterations ({EVERY})"
    )
    command.add_argument(
        "--resume",
        metavar="FILE",
        type=Path,
        help="go on from FILE, which knows pictures and options, and keep the run there",
    )
    more.add_argument("--like", metavar="OUT", help="take the settings of a picture that was made before")
    command.add_argument("--report", metavar="FILE", type=Path, help="write a page about the run to FILE (.html)")
    more.add_argument("--no-clobber", action="store_true", help="replace no file that is there")
    more.add_argument("--force", action="store_true", help="run even if memory will not suffice")
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    command.set_defaults(run=_make, use_case=name)
    return command


def _make(arguments: argparse.Namespace) -> int:
    """Run a use case under a progress bar, and write what it makes."""
    with contextlib.ExitStack() as locks:
        with checking():
            resume = read_checkpoint(arguments.resume) if "resume" in arguments else None
            arguments = filled(arguments, resume)
            check_settings(arguments)
            folder = of_a_folder(arguments)
            kept = None if folder else _check_files(arguments)
            for path, doing in ((kept, "is kept there"), (arguments.log, "has its log there")):
                if path:
                    locks.enter_context(locked(path, doing))
        cluster = locks.enter_context(cluster_in(arguments))
        return paint_folder(arguments, cluster) if folder else _make_checked(arguments, kept, resume, cluster)


def _make_checked(
    arguments: argparse.Namespace, kept: Path | None, resume: Checkpoint | None, cluster: Cluster | None
) -> int:
    with checking():
        given = Given.read(arguments)
        planned = None if arguments.force and arguments.quiet else given.plan(arguments)
    if planned and not planned.fits and not arguments.force:
        _say(f"error: {does_not_fit(planned, arguments)}; or --force to try all the same")
        return 1
    if planned:  # as it was told, and to be gone on with
        arguments.tile, arguments.memory_pairs = planned.tile or "off", planned.memory_pairs
    if planned and not arguments.quiet:
        tell(planned_line(planned))
        for note in planned.notes:
            _say(f"note: {note}")
        if cluster and not planned.tile:
            _say("note: the picture is one tile, and is made here; --tile N would share it out")
        if resume:
            tell(f"{arguments.resume}: goes on after {plural(resume.iteration, 'iteration')}")
    frames = Frames() if arguments.report else None
    with checking():
        inputs = given.fit(arguments, begins=resume is None)
    for line in () if arguments.quiet else given.told:
        tell(line)
    made = _run(arguments, given, inputs, kept, resume, frames, cluster)
    if isinstance(made, str):
        _say(f"error: out of memory; {mend(planned or given.plan(arguments), arguments)} ({made})")
        return 1
    result, vgg = made
    if result.interrupted and result.history[-1]["iteration"] == 0:
        _say(f"{result.stopped}; there is nothing to keep yet, and {arguments.output} was not written")
        return 128 + signal.SIGINT
    with uninterrupted():
        there = next((path for path in (kept, arguments.resume) if path and path.is_file()), None)
        saved = _save(result, Path(arguments.output), there)
        if saved and not arguments.quiet:
            tell(summary_line(arguments.output, result))
        if tiled := _preview(arguments):
            across, down = arguments.preview
            shown = _save(replace(result, image=np.tile(result.image, (down, across, 1))), tiled, None)
            saved &= shown
            if shown and not arguments.quiet:
                tell(f"{tiled}: the tile, {across} x {down}")
        if result.stopped:
            how = f": {mend(planned or given.plan(arguments), arguments)}" if result.out_of_memory else ""
            holds = f"; {arguments.output} holds the best picture so far" if saved else ""
            goes_on = f", and --resume {there} goes on" if there and result.interrupted else ""
            _say(f"{result.stopped}{how}{holds}{goes_on}")
    reported = 0 if frames is None else _report(arguments, given, result, vgg, frames)
    return 128 + signal.SIGINT if result.interrupted else reported or int(result.failed or not saved)


def _save(result: Result, output: Path, there: Path | None) -> bool:
    """Write it there, or where it can be; `there` is its checkpoint, if it has one."""
    try:
        result.save(output)
        return True
    except OSError as error:
        wrong = os_error(error)
    goes_on = f", and --resume {there} makes it again" if there else ""
    try:
        elsewhere = Path(tempfile.mkdtemp(prefix=f"{PROG}-")) / output.name
        result.save(elsewhere)
        _say(f"error: {wrong}; the picture is {elsewhere}{goes_on}")
    except OSError as error:
        _say(f"error: {wrong}; nor could it be written elsewhere ({os_error(error)}){goes_on or '; it is lost'}")
    return False


def _preview(arguments: argparse.Namespace) -> Path | None:
    """Where the tile is shown beside itself, if it is; ValueError if it is none."""
    if not getattr(arguments, "preview", None):
        return None
    if not arguments.seamless:
        raise ValueError("--preview: shows a seamless texture beside itself; give --seamless, too")
    output = Path(arguments.output)
    return output.with_stem(f"{output.stem}-{'x'.join(map(str, arguments.preview))}")


def _check_files(arguments: argparse.Namespace) -> Path | None:
    """The file to keep the run in, if any; ValueError or OSError if a file cannot be written, or is named twice."""
    output = check_output(arguments.output)
    kept: Path | None = arguments.checkpoint or arguments.resume
    if arguments.checkpoint_every != EVERY and not kept:
        raise ValueError("--checkpoint-every: no --checkpoint to write is named")
    if arguments.log:
        check_folder(arguments.log)
    if arguments.report:
        check_report(arguments.report)
    named = [one for pictures in named_pictures(arguments).values() for one in pictures]
    masks = [one.region for one in named if one.region] if getattr(arguments, "mask", None) else map_files(arguments)
    read = [*(one.path for one in named), *masks, arguments.init, arguments.weights]
    anew = kept is not None and not (arguments.resume and arguments.resume.resolve() == kept.resolve())
    if anew and arguments.resume:
        read.append(arguments.resume)
    written = [path for path in (output, _preview(arguments), arguments.log, arguments.report) if path]
    check_distinct(
        [*written, *([kept] if kept else [])],
        [path for path in read if path not in (None, *INITS, *BUILTINS)],
        numbered=output if arguments.save_every else None,
    )
    if arguments.no_clobber:
        check_absent(written, numbered=output if arguments.save_every else None)
    if kept and anew:
        check_checkpoint(kept)
        if is_checkpoint(kept):
            raise ValueError(f"{kept}: keeps a run already: --resume {kept} goes on with it; or remove it")
    elif kept:
        check_folder(kept)
    return kept


def _run(
    arguments: argparse.Namespace,
    given: Given,
    inputs: Inputs,
    kept: Path | None,
    resume: Checkpoint | None,
    frames: Frames | None,
    cluster: Cluster | None,
) -> tuple[Result, VGG] | str:
    """The run's result and its network, or how it ran out of memory; what it held is given back then."""
    try:
        with device_errors():
            vgg = given.vgg(arguments)
        with watching(
            Path(arguments.output),
            log=arguments.log,
            save_every=arguments.save_every,
            earlier=resume.history if resume else [],
            also=frames,
            quiet=arguments.quiet,
        ) as report:
            run = Run(
                arguments.use_case,
                inputs,
                vgg=vgg,
                checkpoint=Keeper(kept, arguments.checkpoint_every, to_remember(arguments)) if kept else None,
                resume=resume,
                executor=cluster,
                **means_in(arguments),
                **given.layer,
                **given.settings,
            )
            return run.go(report), vgg
    except MemoryError as error:
        return one_line(error) or "no details"


def _report(arguments: argparse.Namespace, given: Given, result: Result, vgg: VGG, frames: Frames) -> int:
    """Write the report, and return the exit status; the picture has been written."""
    path: Path = arguments.report
    peak_bytes = peak_memory()
    try:
        with device_errors():
            write_report(path, result, vgg=vgg, frames=frames, peak_bytes=peak_bytes, **given.sources)
    except KeyboardInterrupt:
        _say(f"interrupted; {path} was not written")
        return 128 + signal.SIGINT
    except (ValueError, OSError, MemoryError, DeviceError) as error:
        reason = os_error(error) if isinstance(error, OSError) else one_line(error) or "out of memory"
        _say(f"error: no report: {reason}")
        return 1
    if not arguments.quiet:
        tell(f"{path}: the report, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _run_plan(arguments: argparse.Namespace) -> int:
    with checking():
        check_settings(arguments)
        names = ("weights", "pooling", "dtype", "threads", "device", "tf32")
        given = {name: getattr(arguments, name) for name in names} | settings_in(arguments) | means_in(arguments)
        s = settings_of("transfer", **settings_in(arguments))
        pictures, told = open_pictures(arguments, s, lambda path, _: path)
        planned = plan("transfer", **pictures, **given)
    print("\n".join([planned_line(planned), *told]))
    for note in planned.notes:
        _say(f"note: {note}")
    for name, size in planned.parts.items():
        print(f"  {name:10}{size / 1e6:8.0f} MB")
    if not planned.fits:
        _say(f"error: {does_not_fit(planned, arguments)}")
    return int(not planned.fits)


def _say(text: str) -> None:
    say(PROG, text)
