"""All commands of `nsnumpy`.

Exit status: 0 done, 1 the run failed, 2 the command was wrong; 130, 143 and 129 interrupted (Ctrl-C, TERM, HUP), with
the best picture so far written.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..backend import DeviceError
from ..files.decode import sample_names
from . import blend, completion, figure, log, look, run, studio, study
from .command import Parser, examples, run_program
from .options import PROG
from .version import Version


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
        allow_abbrev=False,
        **examples(
            "nsnumpy transfer sample:coast sample:starry -o out.png",
            "nsnumpy transfer --help",
            above=f"A picture is a file or a bundled one:\n{', '.join('sample:' + name for name in sample_names())}.",
        ),
    )
    made.add_argument("--version", action=Version)
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for part in (run, blend, studio, study, figure, look, log):
        part.add_commands(commands)
    completion.add_commands(commands, parser)
    return made
