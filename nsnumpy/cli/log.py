"""The commands that show a run's log: as curves, and as a page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.writing import check_distinct
from ..study.report.log import check_plot, read_log, write_log_report, write_plot
from ..study.report.report import check_report
from .command import add_command, checking, plural, tell

_NEEDS = "Needs matplotlib: pip install '.[report]'."


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """plot and report."""
    command = add_command(
        commands,
        "plot",
        told["plot"],
        "nsnumpy plot run.jsonl -o plot.png",
        description="The curves of a file that --log wrote: the loss and its terms, the norms of their gradients,\n"
        f"the step. {_NEEDS}",
        usage="%(prog)s LOG -o OUT",
    )
    command.add_argument("log", metavar="LOG", type=Path, help="the file that --log wrote")
    command.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the plot: png, svg or pdf")
    command.set_defaults(run=_plot)

    command = add_command(
        commands,
        "report",
        told["report"],
        "nsnumpy report run.jsonl -o run.html",
        "nsnumpy report run.jsonl out.png -o run.html",
        description="The page that --report writes, as far as a log knows it: the loss, term by term, gradients,\n"
        f"steps, times; with the run's result, that picture and the settings in it.\n{_NEEDS}",
        usage="%(prog)s LOG [RESULT] -o PAGE",
    )
    command.add_argument("log", metavar="LOG", type=Path, help="the file that --log wrote")
    command.add_argument("result", metavar="RESULT", nargs="?", type=Path, help="the picture that the run made")
    command.add_argument("-o", "--output", metavar="PAGE", type=Path, required=True, help="the page (.html)")
    command.set_defaults(run=_report)


def _plot(arguments: argparse.Namespace) -> int:
    with checking():
        check_distinct([arguments.output], [arguments.log])
        check_plot(arguments.output)
        history = read_log(arguments.log)
    told = _told(history)
    write_plot(arguments.output, history, f"{arguments.log.name}: {told}")
    tell(f"{arguments.output}: {told}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    read = [path for path in (arguments.log, arguments.result) if path]
    with checking():
        check_distinct([arguments.output], read)
        check_report(arguments.output)
        history = read_log(arguments.log)
        write_log_report(arguments.output, history, arguments.result, arguments.log.name)
    tell(f"{arguments.output}: the report, {_told(history)}")
    return 0


def _told(history: Sequence[dict[str, Any]]) -> str:
    """What is in a log, in a line."""
    last = history[-1]
    first = next(line for line in history if line["size"] == last["size"])
    iterations = plural(last["iteration"] - history[0]["iteration"], "iteration")
    return f"{iterations} up to {last['size']} pixels, loss {first['loss']:.4g} -> {last['loss']:.4g} there"
