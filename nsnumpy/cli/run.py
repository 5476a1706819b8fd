"""The commands that make a picture, and the one that says what that would take."""

from __future__ import annotations

import argparse
import contextlib
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import device_errors, kernels_folder
from ..files.checkpoint import EVERY, Checkpoint, Keeper, read_checkpoint
from ..files.writing import locked, uninterrupted
from ..run.inputs import Inputs
from ..run.plan import Plan, plan
from ..run.results import Result
from ..run.run import Run
from ..run.settings import USE_CASES, settings_of
from ..study.report.report import Frames
from ..tiles.cluster import Cluster
from ..vgg import VGG
from .cluster import add_cluster, cluster_in
from .command import Parser, add_command, checking, one_line, plural, say, tell
from .given import Given
from .many import of_a_folder, paint_folder
from .options import add_means, add_settings, check_settings, layer, means_in, network_in, positive, settings_in, tiles
from .outputs import check_files, check_result_fits, preview_of, save_report, save_result
from .pictures import add_styles, open_pictures, read_once
from .planned import does_not_fit, hopeless, mend, one_tile, planned_line, refused, say_notes, summary_line
from .regions import add_regions
from .remembered import filled, leave_open, to_remember
from .standard import picture_stream, shown
from .watch import watching

_SHOWN = {"content": "CONTENT", "style": "STYLE [STYLE ...]"}


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """transfer, texture, reconstruct and plan."""
    command = transfer = _add_run(
        commands,
        "transfer",
        told,
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
        told,
        "nsnumpy texture sample:glass -o out.png",
        "nsnumpy texture painting.jpg -o out.png --size 800 --seed 1",
        "nsnumpy texture painting.jpg -o tile.png --size 512x256 --seamless --preview 3x3",
    )
    add_styles(command)
    command.add_argument("--preview", metavar="NxM", type=tiles, help="write OUT-NxM.png, the tile so often, too")

    command = _add_run(commands, "reconstruct", told, "nsnumpy reconstruct sample:coast -o out.png --layer conv3_1")
    command.add_argument("content", metavar="CONTENT", help="the picture to reconstruct")
    command.add_argument("--layer", metavar="NAME", default="conv4_2", type=layer, help="the layer (conv4_2)")
    for made in (transfer, texture, command):
        leave_open(made)

    command = add_command(
        commands,
        "plan",
        told["plan"],
        "nsnumpy plan photo.jpg painting.jpg --size 2048",
        description="The memory and the time that `nsnumpy transfer` would take with the same options.",
        usage="%(prog)s CONTENT STYLE [STYLE ...] [options]",
    )
    command.add_argument("content", metavar="CONTENT", help="the picture to paint")
    add_styles(command)
    more = add_settings(command, "transfer")
    add_regions(more)
    add_means(more)
    command.set_defaults(run=_run_plan, use_case="transfer")


def _add_run(commands: Any, name: str, told: Mapping[str, str], *shown: str) -> Parser:
    """A command that makes a picture: its settings come from `Settings`, the rest is the same for all."""
    does = told[name]
    command = add_command(
        commands,
        name,
        does,
        *shown,
        description=f"{does[0].upper()}{does[1:]}.",
        usage=f"%(prog)s {' '.join(_SHOWN[picture] for picture in USE_CASES[name].pictures)} -o OUT [options]",
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
    more.add_argument("--depth", type=int, choices=(8, 16), help="bits of a value in OUT, if png or tif (8)")
    more.add_argument("--no-clobber", action="store_true", help="replace no file that is there")
    more.add_argument("--force", action="store_true", help="run even if memory will not suffice")
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    command.set_defaults(run=_make, use_case=name)
    return command


def _make(arguments: argparse.Namespace) -> int:
    """Run a use case under a progress bar, and write what it makes."""
    with contextlib.ExitStack() as held:
        with checking():
            resume = read_checkpoint(arguments.resume) if "resume" in arguments else None
            arguments = filled(arguments, resume)
            check_settings(arguments)
            folder = of_a_folder(arguments)
            kept = None if folder else check_files(arguments)
            stream = None if folder else held.enter_context(picture_stream(arguments.output))
            for path, doing in ((kept, "is kept there"), (arguments.log, "has its log there")):
                if path:
                    held.enter_context(locked(path, doing))
        cluster = held.enter_context(cluster_in(arguments))
        if folder:
            return paint_folder(arguments, cluster)
        return _make_checked(arguments, kept, resume, stream, cluster)


def _make_checked(
    arguments: argparse.Namespace,
    kept: Path | None,
    resume: Checkpoint | None,
    stream: int | None,
    cluster: Cluster | None,
) -> int:
    output = shown(arguments.output)
    with checking():
        given = Given.read(arguments)
        check_result_fits(arguments, given.size(arguments))
        fresh = arguments.device == "gpu" and not kernels_folder().exists()
        planned = None if arguments.force and arguments.quiet else given.plan(arguments)
    if planned and (wrong := refused(planned, arguments)):
        say(f"error: {wrong}")
        return 1
    if planned:  # as it was told, and to be gone on with
        arguments.tile, arguments.memory_pairs = planned.tile or "off", planned.memory_pairs
    if planned and not arguments.quiet:
        tell(planned_line(planned))
        compiled = f"the GPU's kernels were compiled, and are kept in {kernels_folder()} for the next run"
        say_notes(planned, *([compiled] if fresh else []), *one_tile(planned, arguments))
        if resume:
            tell(f"{arguments.resume}: goes on after {plural(resume.iteration, 'iteration')}")
    frames = Frames() if arguments.report else None
    with checking():
        inputs = given.fit(arguments, begins=resume is None)
    for line in () if arguments.quiet else given.told:
        tell(line)
    made = _run(arguments, given, inputs, kept, resume, frames, cluster)
    if isinstance(made, str):
        say(f"error: out of memory; {mend(planned or given.plan(arguments), arguments)} ({made})")
        return 1
    result, vgg = made
    if (result.interrupted or result.failed) and result.history[-1]["iteration"] == 0:
        how = _how(result, planned or given.plan(arguments), arguments)
        say(f"{result.stopped}{how}; there is nothing to keep yet, and {output} was not written")
        return 128 + signal.SIGINT if result.interrupted else 1
    with uninterrupted():
        there = next((path for path in (kept, arguments.resume) if path and path.is_file()), None)
        saved = _save(arguments, result, stream, there)
        if result.stopped and not (arguments.quiet and saved and not (result.failed or result.interrupted)):
            how = _how(result, planned or given.plan(arguments), arguments)
            holds = f"; {output} holds the best picture so far" if saved else ""
            goes_on = f", and --resume {there} goes on" if there and result.interrupted else ""
            say(f"{result.stopped}{how}{holds}{goes_on}")
    reported = 0 if frames is None else save_report(arguments, given, result, vgg, frames)
    return 128 + signal.SIGINT if result.interrupted else reported or int(result.failed or not saved)


def _save(arguments: argparse.Namespace, result: Result, stream: int | None, there: Path | None) -> bool:
    """Write the result and, of a tile, what it is beside itself; whether they are where they were to go."""
    saved = save_result(arguments, result, arguments.output, stream, there)
    if saved and not arguments.quiet:
        tell(summary_line(shown(arguments.output), result))
    if tiled := preview_of(arguments):
        across, down = arguments.preview
        many = replace(result, image=np.tile(result.image, (down, across, 1)))
        saved &= (also := save_result(arguments, many, str(tiled), None, None))
        if also and not arguments.quiet:
            tell(f"{tiled}: the tile, {across} x {down}")
    return saved


def _how(result: Result, planned: Plan, arguments: argparse.Namespace) -> str:
    """What would mend a run that ended for want of memory, or of room."""
    if result.ending.how == "no room":
        return ": name a --scratch with more room, or fewer --memory-pairs"
    return f": {mend(planned, arguments)}" if result.out_of_memory else ""


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


def _run_plan(arguments: argparse.Namespace) -> int:
    with checking():
        check_settings(arguments)
        settings = settings_in(arguments)
        pictures, told = open_pictures(arguments, settings_of("transfer", **settings), read_once)
        given = network_in(arguments) | settings | means_in(arguments)
        planned = plan("transfer", **pictures, weights=arguments.weights, **given)
    if not hopeless(planned):
        print("\n".join([planned_line(planned), *told]))
        say_notes(planned)
        for name, size in planned.parts.items():
            print(f"  {name:10}{size / 1e6:8.0f} MB")
    if not planned.fits:
        say(f"error: {does_not_fit(planned, arguments)}")
    return int(not planned.fits)
