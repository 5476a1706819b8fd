"""All commands of `nsnumpy`.

Exit status: 0 done, 1 the run failed, 2 the command was wrong; 130, 143 and 129 interrupted (Ctrl-C, TERM, HUP), with
the best picture so far written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from ..files.samples import sample_names
from . import completion
from .command import PROG, Parser, examples, run_program
from .version import Version

_COMMANDS = {
    "run": {
        "transfer": "paint CONTENT in the style of STYLE",
        "texture": "make a new picture in the style of STYLE",
        "reconstruct": "make CONTENT again from what one layer knows of it",
        "plan": "say what a transfer would take, and whether it fits",
    },
    "blend": {"blend": "paint PHOTO in pictures that go from the style of A to that of B"},
    "studio": {"studio": "open a page that paints: choose pictures, watch, steer, keep"},
    "study": {
        "gradcheck": "prove every gradient: adjoint identities and central differences, float64",
        "conventions": "say what each loss convention makes of the paper's losses, and carry weights from one to "
        "another",
    },
    "figure": {"figure": "make one of the paper's figures: pictures, a sheet with numbers, and what they show"},
    "look": {"look": "show a network's layers as a table, or what one layer knows of PHOTO as a picture"},
    "log": {
        "plot": "draw the log of a run: loss, terms, gradients, steps",
        "report": "write a page about a run from its log, and from its result",
    },
}
"""What each module's commands do, to be told without loading it, and with it NumPy."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; `argv` is `sys.argv` without the program's name."""
    words = sys.argv[1:] if argv is None else argv
    return run_program(
        PROG,
        lambda: parser(words),
        words,
        interrupted="interrupted before there was a picture; nothing was written",
        out_of_memory="choose a smaller --size",
        failures=_failures,
    )


def _failures() -> tuple[type[Exception], ...]:
    from ..backend import DeviceError  # and with it NumPy

    return (DeviceError,)


def parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """All commands; with their options, or where `words` are what is to be parsed, with those of the command asked."""
    asked = next((word for word in words or () if not word.startswith("-")), None)
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
    for module, told in _COMMANDS.items():
        if words is None or asked in told:
            import_module(f".{module}", __package__).add_commands(commands, told)
        else:
            for name, does in told.items():
                commands.add_parser(name, help=does)
    completion.add_commands(commands, parser)
    return made
