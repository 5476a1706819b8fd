"""The command that paints a photograph from one style to another."""

from __future__ import annotations

import argparse
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..backend import device_errors
from ..files.animation import save_animation
from ..files.decode import PictureError, at_home
from ..files.images import FORMATS, Source, check_fits, opened, picture_name, read_settings, save_image, to_bytes
from ..files.weight_sources import BUILTINS
from ..files.weights import WeightFile, load_vgg, read_weights
from ..files.writing import check_absent, check_distinct, check_filled, filled_folder, held_back, uninterrupted
from ..run.inputs import start_picture
from ..run.plan import Plan, plan
from ..run.scales import enough
from ..run.settings import INITS, USE_CASES, Settings, settings_of
from ..study.blend import blend_sheet
from ..use_cases import blend
from .cluster import add_cluster, cluster_in
from .command import add_command, checking, os_error, plural, say, tell
from .options import add_means, add_settings, check_settings, means_in, network_in, settings_in, steps
from .planned import one_tile, planned_line, refused, say_notes, summary_line
from .watch import counting

STEPS = 7
SHOWN, HELD = 150, 900  # milliseconds of a picture in the animation; of the first and the last
_SMALL = 256  # of what was given, for the sheet
_ROLES = {"content": "PHOTO", "first": "A", "second": "B"}


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """blend."""
    command = add_command(
        commands,
        "blend",
        told["blend"],
        "nsnumpy blend sample:coast sample:starry sample:glass -o blend/",
        "nsnumpy blend photo.jpg painting.jpg other.jpg -o blend/ --steps 12 --size 384",
        description="Paints PHOTO in pictures from the style of A to that of B, each begun with the one before. "
        "Writes 01.png, 02.png, ..., sheet.png and blend.webp, which goes there and back, into FOLDER.",
        usage=f"%(prog)s {' '.join(_ROLES.values())} -o FOLDER [options]",
    )
    for role, help in (("content", "the picture to paint"), ("first", "the first style"), ("second", "the last one")):
        command.add_argument(role, metavar=_ROLES[role], help=help)
    command.add_argument("-o", "--output", metavar="FOLDER", required=True, help="made if it does not exist")
    command.add_argument(
        "--steps", metavar="N", type=steps, default=STEPS, help=f"how many pictures, A's and B's too ({STEPS})"
    )
    more = add_settings(command, "transfer", without=("outside",))
    add_means(more)
    add_cluster(more)
    more.add_argument("--no-clobber", action="store_true", help="replace no file that is there")
    more.add_argument("--force", action="store_true", help="run even if memory will not suffice")
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    command.set_defaults(run=_run, use_case="transfer", outside=Settings.outside)


def _run(arguments: argparse.Namespace) -> int:
    with checking():
        check_settings(arguments)
        folder = check_filled(at_home(arguments.output))
        if folder.suffix.lower() in FORMATS and not folder.is_dir():
            raise ValueError(f"{folder}: a blend is several pictures; name a folder")
        pictures = _check_files(arguments, folder)
        options = settings_in(arguments)
        s = settings_of("transfer", **options)
        if start := start_picture(s, USE_CASES["transfer"].pictures):
            options["init"] = start
        given = {
            role: opened(getattr(arguments, role), enough("content" if role == "content" else "style", s))
            for role in _ROLES
        }
        weights = read_weights(arguments.weights)
        styles = [(given[role], 0.5) for role in ("first", "second")]
        with device_errors():
            options |= means_in(arguments)
            given_to = {"weights": weights, "shared": bool(arguments.cluster), **network_in(arguments), **options}
            planned = plan("transfer", content=given["content"], style=styles, **given_to)
        check_fits(_both(folder)[1], planned.size)
        if wrong := refused(planned, arguments):
            say(f"error: {wrong}")
            return 1
    with cluster_in(arguments) as cluster, filled_folder(folder):
        return _paint(arguments, folder, pictures, planned, given, weights, options | {"executor": cluster})


def _paint(
    arguments: argparse.Namespace,
    folder: Path,
    pictures: list[Path],
    planned: Plan,
    given: dict[str, Source],
    weights: WeightFile,
    options: dict[str, Any],
) -> int:
    """Paint the pictures under a progress bar, and return the exit status."""
    if not arguments.quiet:
        tell(f"{plural(len(pictures), 'picture')}; the first {planned_line(planned)}")
        say_notes(planned, *one_tile(planned, arguments))
    made: list[np.ndarray] = []  # in 8 bits, as they are written
    try:
        with device_errors(), counting(len(pictures), 0, arguments.quiet) as bar:
            vgg = load_vgg(weights, **network_in(arguments))
            for result in blend(*given.values(), steps=len(pictures), callback=bar.follow, vgg=vgg, **options):
                path = pictures[len(made)]
                with bar.one_more():
                    with held_back():
                        of_blend = {"blend": [len(made) + 1, len(pictures)]}
                        replace(result, settings=result.settings | of_blend).save(path)
                        if not made:
                            for together in _both(folder):  # of other pictures
                                together.unlink(missing_ok=True)
                        made.append(to_bytes(result.image))
                    if not arguments.quiet:
                        tell(summary_line(str(path), result))
    except KeyboardInterrupt:
        say(f"interrupted; {len(made)} of {plural(len(pictures), 'picture')} are in {folder}, without a sheet")
        return 128 + signal.SIGINT
    return _together(arguments, folder, given, made, result.settings)


def _check_files(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """The pictures to be written; ValueError or OSError if one of them, the sheet or the animation cannot be."""
    digits = max(2, len(str(arguments.steps)))
    pictures = [folder / f"{number:0{digits}}.png" for number in range(1, arguments.steps + 1)]
    written = [*pictures, *_both(folder)]
    read = [*(getattr(arguments, role) for role in _ROLES), arguments.init, arguments.weights]
    check_distinct(written, [path for path in read if path not in (*INITS, *BUILTINS)])
    if arguments.no_clobber:
        check_absent(written)
    for path in written:
        if os.path.lexists(path) and not _ours(path):
            raise ValueError(f"{path}: is there, and no blend made it; choose another folder")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if re.fullmatch(r"\d{2,}\.png", path.name) and path not in pictures:
            raise ValueError(f"{path}: would look like one of this blend's; choose another folder, or remove it")
    return pictures


def _both(folder: Path) -> tuple[Path, Path]:
    """What all pictures are shown in together: the sheet and the animation."""
    return folder / "sheet.png", folder / "blend.webp"


def _ours(path: Path) -> bool:
    try:
        record = read_settings(path)
        return "blend" in record or record.get("command") == "blend"
    except (PictureError, OSError):
        return False


def _together(
    arguments: argparse.Namespace,
    folder: Path,
    given: dict[str, Any],
    made: Sequence[np.ndarray],
    settings: dict[str, Any],
) -> int:
    """Write the sheet and the animation, and return the exit status."""
    sheet, animation = _both(folder)
    names = {role: picture_name(source) for role, source in given.items()}
    last = len(made) - 1
    labels = [f"{names['first']} {1 - k / last:.0%}, {names['second']} {k / last:.0%}" for k in range(len(made))]
    height, width = made[0].shape[:2]
    of_all = {name: value for name, value in settings.items() if name not in ("style", "loss")}
    record = of_all | names | {"command": "blend", "steps": len(made)}
    line = (
        f"{width} x {height}, beta {record['beta']:g}, tv {record['tv']:g}; {record['weights']}; nsnumpy {__version__}"
    )
    title = f"{names['content']}: from {names['first']} to {names['second']}"
    small = [to_bytes(source.at(_SMALL)) for source in given.values()]
    try:
        with uninterrupted():
            drawn = blend_sheet(title, line, small, made, labels)
            save_image(sheet, np.asarray(drawn) / 255, record)
            there_and_back = [*made, *made[-2:0:-1]]
            times = [HELD if k in (0, last) else SHOWN for k in range(len(there_and_back))]
            save_animation(animation, there_and_back, times, record)
    except OSError as error:
        say(f"error: {os_error(error)}; the pictures are in {folder}")
        return 1
    if not arguments.quiet:
        tell(f"{sheet}, {animation}: all of them together")
    return 0
