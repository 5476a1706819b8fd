"""What every command line of this project does alike: an error is one line on standard error, and an exit status.

Exit status: 0 done, 1 it failed, 2 the command was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Reports what is wrong with a command in one line, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        program = self.prog.removeprefix("python -m ").split()[0]
        say(program, f"error: {message} (see {self.prog} --help)")
        raise SystemExit(2)


def run_program(
    program: str,
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    *,
    interrupted: str,
    out_of_memory: str,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Parse `argv`, run what it asks for (the parser's default ``run``), and return the exit status.

    Parameters
    ----------
    program : str
        Its name; every message begins with it.
    parser : function without arguments that makes the parser
    argv : sequence of str, or None
        None is `sys.argv` without the program's name.
    interrupted, out_of_memory : str
        What to say after Ctrl-C, and what to do about too little memory.
    failures : tuple of exception types
        Beside ValueError, ArithmeticError and OSError: what is not a defect, and whose message is for the user.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name need not fit the terminal's encoding
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(program, f"note: {one_line(message)}")
            arguments = parser().parse_args(argv)
            return arguments.run(arguments)
    except KeyboardInterrupt:
        say(program, interrupted)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of the output has gone
        sys.stderr.close()
        return 1
    except MemoryError as error:
        say(program, f"error: out of memory; {out_of_memory} ({error or 'no details'})")
        return 1
    except OSError as error:
        say(program, f"error: {os_error(error)}")
        return 1
    except (ValueError, ArithmeticError, *failures) as error:
        say(program, f"error: {one_line(error)}")
        return 1
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        say(
            program,
            f"error: unexpected {type(error).__name__}: {one_line(error)} (a defect; please report what "
            f"`python -X dev -m {program} ...` prints)",
        )
        return 1


def os_error(error: OSError) -> str:
    """The file, and what is wrong with it."""
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or one_line(error)}"


def one_line(message: Any) -> str:
    return " ".join(str(message).split())


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def say(program: str, text: str) -> None:
    """A line on standard error."""
    print(f"{program}: {text}", file=sys.stderr)
