"""The commands for who studies the mathematics."""

from __future__ import annotations

import argparse
from typing import Any

from .backend import DEVICES
from .checks import run_checks
from .command import say
from .gradcheck import KinkError
from .options import PROG, natural


def add_commands(commands: Any) -> None:
    """gradcheck."""
    command = commands.add_parser(
        "gradcheck",
        help="prove every gradient: adjoint identities and central differences, float64",
        description="One row per op and loss, and for the whole map from pixels to loss; exit status 1 if one fails.",
        allow_abbrev=False,
    )
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to run (cpu)")
    command.add_argument("--seed", type=natural, default=0, help="of the random inputs (0)")
    command.set_defaults(run=_run_gradcheck)


def _run_gradcheck(arguments: argparse.Namespace) -> int:
    failures = 0
    try:
        for number, check in enumerate(run_checks(arguments.device, arguments.seed)):
            if number == 0:
                print(f"{'':46}{'method':22}{'error':>9}  {'allowed':>7}")
            verdict = "ok" if check.passed else "FAILED"
            failures += not check.passed
            print(f"{check.name:46}{check.method:22}{check.error:9.1e}  {check.tolerance:7.0e}  {verdict}", flush=True)
    except KinkError as error:
        _say(f"error: {error} (that is, another --seed)")
        return 1
    if failures:
        _say(f"error: {failures} of the gradients are wrong")
    return int(failures > 0)


def _say(text: str) -> None:
    say(PROG, text)
