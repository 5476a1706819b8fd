"""What is said of what a run will take, and of what it took."""

from __future__ import annotations

import argparse

from ..files.images import fit_size
from ..machine import usable_cores
from ..run.plan import HOST, Plan
from ..run.results import Result
from .command import duration, plural, say

FORCE = "or --force to try all the same"
_HOPELESS = 20  # times the memory that is to be had


def planned_line(planned: Plan) -> str:
    """What a run will take."""
    height, width = planned.size
    means = f", in tiles of {planned.tile}" if planned.tile else ""
    if planned.memory_pairs:
        means += f", L-BFGS remembering {plural(planned.memory_pairs, 'step')}"
    scales = f" at {', '.join(map(str, planned.scales))} pixels" if len(planned.scales) > 1 else ""
    evaluation = f"{_figures(planned.seconds)} s an evaluation"
    return (
        f"{width} x {height}: about {gigabytes(planned.peak_bytes)} of memory{means}, {evaluation}, "
        f"{duration(planned.total_seconds)} for {plural(planned.iterations, 'iteration')}{scales}"
    )


def say_notes(planned: Plan, *more: str) -> None:
    """What one may not have meant."""
    for note in (*planned.notes, *more):
        say(f"note: {note}")


def one_tile(planned: Plan, arguments: argparse.Namespace) -> list[str]:
    """What is noted of a cluster that has nothing to do."""
    alone = arguments.cluster and not planned.tile
    return ["the picture is one tile, and is made here; --tile N would share it out"] if alone else []


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"


def _figures(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 100 else f"{seconds:.0f}"


def refused(planned: Plan, arguments: argparse.Namespace) -> str:
    """Why a run is not begun, and what would be; empty if it is."""
    if planned.fits or (arguments.force and not hopeless(planned)):
        return ""
    return does_not_fit(planned, arguments) + ("" if hopeless(planned) else f"; {FORCE}")


def hopeless(planned: Plan) -> bool:
    """Whether there is so little memory for a run that no trying would help, and no figure is worth reading."""
    return planned.available_bytes is not None and planned.peak_bytes > _HOPELESS * planned.available_bytes


def does_not_fit(planned: Plan, arguments: argparse.Namespace) -> str:
    """Why it will not do, and what would."""
    height, width = planned.size
    lacks = planned.lacks()
    assert lacks is not None  # or it would fit
    memory, takes, available = lacks
    return (
        f"{width} x {height} would take about {gigabytes(takes)} of {memory}, and {gigabytes(available)} are to be "
        f"had: {mend(planned, arguments)}"
    )


def mend(planned: Plan, arguments: argparse.Namespace) -> str:
    """What would fit."""
    if (lacks := planned.lacks()) is None:
        return "choose a smaller --size"
    if (arguments.threads or 0) > usable_cores():
        return f"choose --threads {usable_cores()}, as many as there are cores, or fewer"
    if not planned.largest_size and getattr(arguments, "style_size", None):
        return "choose a smaller --style-size"
    largest, sides = planned.largest_size, getattr(arguments, "size", None)
    if largest and isinstance(sides, tuple):
        height, width = fit_size(sides, largest)
        made = f"choose --size {width}x{height} or less"
    else:
        made = f"choose --size {largest} or less" if largest else "no size would fit"
    if planned.largest_size and getattr(arguments, "scales", None):
        made += ", and --scales up to it"
    own = getattr(arguments, "optimizer", None) in (None, "lbfgs-device") and not hopeless(planned)
    most = lacks[0] == HOST or planned.parts.get("optimizer", 0) > planned.peak_bytes / 2
    if own and most and getattr(arguments, "scratch", "") is None:
        made += ", or --scratch DIR to hold what L-BFGS remembers"
    return made


def summary_line(output: str, result: Result) -> str:
    """What was made."""
    height, width = result.image.shape[:2]
    last = result.history[-1]
    first = next(line for line in result.history if line["size"] == last["size"])
    return (
        f"{output}: {width} x {height}, {plural(last['iteration'], 'iteration')} in {last['seconds']:.1f} s, "
        f"loss {first['loss']:.4g} -> {result.settings['loss']:.4g}"
    )
