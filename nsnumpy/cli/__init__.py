"""The command line: what `nsnumpy` is called with, and its exit status. Only this folder prints.

Exit status: 0 done, 1 the run failed, 2 the command was wrong, 130 interrupted (with the best picture so far written).
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence

from ..backend import DeviceError
from ..files.decode import sample_names
from ..machine import restart_with_better_kernel
from . import figure, run, study
from .command import Parser, run_program
from .options import PROG
from .version import Version


def program() -> int:
    """The program ``nsnumpy``: `main` on the command line that it was started with, with the right BLAS kernel."""
    try:
        restart_with_better_kernel()
        return main()
    except KeyboardInterrupt:  # a second one, while the first one was dealt with
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left to do needs no traceback


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; `argv` is `sys.argv` without the program's name."""
    return run_program(
        PROG,
        parser,
        argv,
        interrupted="interrupted before there was a picture; nothing was written",
        out_of_memory="choose a smaller --size",
        failures=(DeviceError,),
    )


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    made = Parser(
        prog=PROG,
        description="Neural style transfer (Gatys, Ecker, Bethge 2015), every gradient written by hand.",
        epilog=f"A picture is a file or a bundled one: {', '.join('sample:' + name for name in sample_names())}.",
        allow_abbrev=False,
    )
    made.add_argument("--version", action=Version)
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for part in (run, study, figure):
        part.add_commands(commands)
    return made
