"""A transfer of all the photographs in a folder, into another folder."""

from __future__ import annotations

import argparse
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend import device_errors
from ..files.checkpoint import EVERY
from ..files.decode import PictureError, at_home
from ..files.images import FORMATS, MOST_PIXELS, check_fits, decoding, opened
from ..files.weights import read_network, read_weights
from ..files.writing import check_filled, filled_folder, held_back
from ..machine import usable_cores
from ..run.inputs import as_given, start_picture
from ..run.many import Task, key_of, made_by, paint_each, with_key
from ..run.means import check_sides
from ..run.plan import Plan, plan
from ..run.results import Result
from ..run.scales import enough
from ..run.settings import USE_CASES, layers_of, settings_of
from ..tiles.cluster import Cluster
from .command import checking, one_line, os_error, plural, say, tell
from .options import means_in, network_in, settings_in
from .pictures import named_pictures, pictures_in
from .planned import FORCE, gigabytes, one_tile, planned_line, refused, say_notes, summary_line
from .watch import counting

_OF_ONE = ("regions", "style_regions", "mask", "checkpoint", "resume", "save_every", "log", "report", "depth")


def of_a_folder(arguments: argparse.Namespace) -> bool:
    """Whether CONTENT is a folder of photographs; ValueError if the other options do not go with what it is."""
    if arguments.use_case != "transfer":
        return False
    if not at_home(arguments.content).is_dir():
        if arguments.content.endswith(os.sep):
            raise ValueError(f"{arguments.content}: no such folder")
        if arguments.jobs > 1:
            raise ValueError(f"--jobs is of a folder of photographs; {arguments.content} is none")
        return False
    for name in _OF_ONE:
        if getattr(arguments, name, None) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is of a single photograph, and {arguments.content} is a folder")
    if arguments.cluster and arguments.jobs > 1:
        raise ValueError("--jobs and --cluster: a cluster has one photograph's tiles after another's; leave one out")
    if arguments.checkpoint_every != EVERY:
        raise ValueError("--checkpoint-every: no --checkpoint to write is named")
    return True


@dataclass
class _Work:
    """What there is to do: the task, the photographs that are left, with result and key; how many are done."""

    task: Task
    left: dict[Path, tuple[Path, str]]
    done: int


def paint_folder(arguments: argparse.Namespace, cluster: Cluster | None = None) -> int:
    """Do what is not done yet, under a progress bar; a photograph that cannot be painted does not end the others."""
    with checking():
        folder = check_filled(at_home(arguments.output))
        results = _results(arguments, folder)
        work = _work(arguments, results)
        _check_fits(work)
        jobs = min(arguments.jobs, len(work.left))
        planned = _plan(arguments, work) if work.left and not (arguments.force and arguments.quiet) else None
        if planned and (wrong := refused(planned, arguments) or _too_much(planned, jobs, arguments)):
            say(f"error: {wrong}")
            return 1
    if not arguments.quiet:
        tell(_begun(work, planned, jobs))
        if planned:
            say_notes(planned, *one_tile(planned, arguments))
    with filled_folder(folder):
        return _paint(arguments, work, jobs, cluster)


def _results(arguments: argparse.Namespace, folder: Path) -> dict[Path, Path]:
    """Each photograph's result: it has the same name, and is a PNG where the photograph's own format is not written.

    Raises
    ------
    ValueError
        If there are no photographs, OUT is not a folder of its own, or two photographs would have the same result.
    """
    photos = [Path(path) for path in pictures_in(arguments.content)]
    if folder.suffix.lower() in FORMATS and not folder.is_dir():
        raise ValueError(f"{folder}: {arguments.content} is a folder, and its results need one, too; name a folder")
    if folder.is_dir() and folder.samefile(at_home(arguments.content)):
        raise ValueError(f"{folder}: holds the photographs; choose another folder for the results")
    for style in filter(Path.is_dir, map(at_home, arguments.style)):
        if folder.is_dir() and folder.samefile(style):
            raise ValueError(f"{folder}: holds the pictures of the style; choose another folder for the results")
    results: dict[Path, Path] = {}
    photo_of: dict[Path, Path] = {}
    for photo in photos:
        path = folder / (photo.name if photo.suffix.lower() in FORMATS else f"{photo.stem}.png")
        if path in photo_of:
            raise ValueError(f"{photo_of[path]} and {photo.name}: both would become {path}; rename one of them")
        results[photo], photo_of[path] = path, photo
    return results


def _work(arguments: argparse.Namespace, results: dict[Path, Path]) -> _Work:
    """ValueError if a result is there that this command did not make."""
    settings = settings_in(arguments)
    s = settings_of("transfer", **settings)
    if start := start_picture(s, USE_CASES["transfer"].pictures):
        settings["init"] = start
    styles = [(opened(path, enough("style", s)), weight) for path, weight, _ in named_pictures(arguments)["style"]]
    network = _network(arguments, len(results))
    task = Task(as_given(styles), settings, read_weights(arguments.weights), network, means_in(arguments))
    task_key, left, others = task.key(), {}, []
    for photo, path in results.items():
        try:
            key = key_of(task_key, photo)
        except OSError:  # told when its turn comes
            key = ""
        if not os.path.lexists(path):
            left[photo] = path, key
        elif not made_by(path, key):
            others.append(path)
    if others:
        more = f" and {len(others) - 1} more like it" if len(others) > 1 else ""
        raise ValueError(
            f"{others[0]}: is there, made of something else, with other settings or by someone else; choose another "
            f"folder, or remove it{more}"
        )
    return _Work(task, left, len(results) - len(left))


def _check_fits(work: _Work) -> None:
    """ValueError if a result would be larger than its format can be."""
    s = settings_of("transfer", **work.task.settings)
    if s.side is not None and s.side <= min(MOST_PIXELS.values()):
        return
    for photo, (path, _) in work.left.items():
        try:
            shape, _ = decoding(photo, enough("content", s))
        except (PictureError, OSError):  # told when its turn comes
            continue
        check_fits(path, s.shape(shape, s.side))


def _network(arguments: argparse.Namespace, most: int) -> dict[str, Any]:
    """What `load_vgg` takes; the cores are shared out among the jobs, `most` at most, unless each one's threads are
    said."""
    network = network_in(arguments)
    if arguments.threads is None and arguments.jobs > 1:
        network["threads"] = max(1, usable_cores() // min(arguments.jobs, most))
    return network


def _plan(arguments: argparse.Namespace, work: _Work) -> Plan | None:
    """Of the photograph that takes most, to paint or to decode; None if none of them can be read."""
    s = settings_of("transfer", **work.task.settings).completed("transfer")
    network, layers = read_network(work.task.weights, arguments.pooling, arguments.dtype), layers_of("transfer", s)
    sizes: dict[Path, tuple[int, int]] = {}
    thin: list[str] = []
    for photo in work.left:
        try:
            shape, decoded = decoding(photo, enough("content", s))
        except (PictureError, OSError):  # told when its turn comes
            continue
        try:
            check_sides(s, {"result": s.side}, {"content": shape}, network, layers)
        except ValueError as error:  # that, too, unless it is the fate of all of them
            thin.append(f"{photo}: {error}")
            continue
        sizes[photo] = math.prod(s.shape(shape, s.side)), decoded
    if len(thin) == len(work.left) and not work.done:
        raise ValueError(thin[0])
    most = {max(sizes, key=lambda photo: sizes[photo][by]) for by in (0, 1)} if sizes else set()
    given: dict[str, Any] = work.task.network | {"style": work.task.style} | work.task.settings | work.task.means
    given["shared"] = bool(arguments.cluster)
    with device_errors():
        plans = [plan("transfer", content=photo, weights=work.task.weights, **given) for photo in most]
    return max(plans, key=lambda planned: planned.peak_bytes, default=None)


def _too_much(planned: Plan, jobs: int, arguments: argparse.Namespace) -> str:
    """Why so many at a time will not do, and what would; empty if they will."""
    if arguments.force or (lacks := planned.lacks(jobs)) is None:
        return ""
    memory, takes, available = lacks
    return (
        f"{jobs} at a time would take about {gigabytes(takes)} of {memory}, and {gigabytes(available)} are to be had: "
        f"choose --jobs {available * jobs // takes} or fewer, or a smaller --size; {FORCE}"
    )


def _begun(work: _Work, planned: Plan | None, jobs: int) -> str:
    total = plural(len(work.left) + work.done, "photograph")
    done = f", {work.done} done before" if work.done else ""
    takes = f"; the largest {planned_line(planned)}" if planned else ""
    return f"{total}{done}{takes}{f'; {jobs} at a time' if jobs > 1 else ''}"


def _paint(arguments: argparse.Namespace, work: _Work, jobs: int, cluster: Cluster | None) -> int:
    total, failed = len(work.left) + work.done, 0
    stand = f"of {plural(total, 'photograph')}"
    goes_on = f"are done in {arguments.output}, and the same command goes on"
    try:
        with counting(total, work.done, arguments.quiet) as bar:

            def done(photo: Path, result: Result | None, failure: str) -> None:
                nonlocal failed
                path, key = work.left[photo]
                with bar.one_more():
                    if result is None:
                        failed += 1
                        say(f"error: {_named(photo, failure)}")
                        return
                    with held_back():
                        with_key(result, key).save(path)
                        work.done += 1
                    if not arguments.quiet:
                        tell(summary_line(str(path), result))

            paint_each(work.task, list(work.left), done, processes=jobs, cluster=cluster, callback=bar.follow)
    except KeyboardInterrupt:
        say(f"interrupted; {work.done} {stand} {goes_on}")
        return 128 + signal.SIGINT
    except OSError as error:  # a result that cannot be written: the others could not either
        say(f"error: {os_error(error)}; {work.done} {stand} {goes_on}")
        return 1
    if failed:
        say(f"error: {failed} {stand} could not be painted")
    return int(failed > 0)


def _named(photo: Path, failure: str) -> str:
    return failure if failure.startswith(str(photo)) else f"{photo}: {one_line(failure)}"
