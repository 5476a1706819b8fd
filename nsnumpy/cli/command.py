"""What every command line of this project does alike: an error is one line on standard error, and an exit status.

Exit status: 0 done, 1 it failed, 2 the command was wrong; 130 interrupted (Ctrl-C), 143 and 129 after the signals TERM
and HUP, which end it alike.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from ..files.writing import SIGNALS, NotWrittenWarning

PROG = "nsnumpy"


class Parser(argparse.ArgumentParser):
    """Reports what is wrong with a command in one line, instead of the whole usage, and what may have been meant.

    Attributes
    ----------
    intermixed : bool
        Whether arguments that may be left out, or be several, can stand between options. It cannot have commands then.
    """

    intermixed = False
    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        if self._within:
            return super().parse_known_args(args, namespace)
        if self.intermixed:
            self._within = True
            try:
                namespace, unknown = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._within = False
        else:
            namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:  # told by the command's own parser, which knows its options
            meant = _meant(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        program = self.prog.removeprefix("python -m ").split()[0]
        if wrong := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            message += _meant(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        say(f"error: {message} (see {self.prog} --help)", program)
        raise SystemExit(2)


def examples(*commands: str, above: str = "") -> dict[str, Any]:
    """Of a parser: what stands below its help."""
    width = shutil.get_terminal_size().columns - 2  # as argparse's own
    told = [*(textwrap.fill(line, width) for line in above.splitlines()), ""] if above else []
    lines = "\n".join([*told, "examples:", *(f"  {command}" for command in commands)])
    return {"epilog": lines, "formatter_class": argparse.RawDescriptionHelpFormatter}


def add_command(
    commands: Any, name: str, told: str, *shown: str, description: str, usage: str | None = None, above: str = ""
) -> Parser:
    """A command, with `shown` as its examples."""
    below = examples(*shown, above=above)
    made: Parser = commands.add_parser(
        name, help=told, description=description, usage=usage, allow_abbrev=False, **below
    )
    return made


def _meant(given: str, known: Iterable[str]) -> str:
    """What is near enough to be meant, or begins with what was given; dashes, which all options have, tell nothing."""
    word, words = given.lstrip("-"), {name.lstrip("-"): name for name in known}
    close = difflib.get_close_matches(word, words, 1, cutoff=0.7)
    close += [name for name in words if len(word) > 2 and name.startswith(word)]
    return f"; did you mean {words[close[0]]}?" if close else ""


class CommandError(ValueError):
    """A command that is wrong, known before it is run: the exit status is 2."""


@contextmanager
def checking() -> Iterator[None]:
    """What is wrong with the files and the settings that a command names, as a `CommandError`."""
    try:
        yield
    except OSError as error:
        raise CommandError(os_error(error)) from error
    except ValueError as error:
        raise CommandError(str(error)) from error


def to_the_end(main: Callable[[], int]) -> int:
    """A program's exit status; a second Ctrl-C, while the first one is dealt with or Python ends, has no traceback."""
    try:
        return main()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_program(
    program: str,
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    *,
    interrupted: str,
    out_of_memory: str,
    failures: Callable[[], tuple[type[Exception], ...]] = tuple,
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
    failures : function without arguments that gives exception types
        Beside ValueError, ArithmeticError and OSError: what is not a defect, and whose message is for the user. Asked
        when it comes to that, for their modules may take long to load.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name need not fit the terminal's encoding
    with _ended_by_signals() as received:
        status = _run(program, parser, argv, interrupted, out_of_memory, failures)
        return 128 + received[0] if received and status == 128 + signal.SIGINT else status


@contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """The signals that end a run raise KeyboardInterrupt meanwhile, as Ctrl-C does; those that have come."""
    received: list[int] = []

    def end(number: int, _: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield received
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    for number in heard:  # one that is ignored, as under nohup, stays so
        signal.signal(number, end)
    try:
        yield received
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _run(
    program: str,
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    interrupted: str,
    out_of_memory: str,
    failures: Callable[[], tuple[type[Exception], ...]],
) -> int:
    try:
        with warnings.catch_warnings():
            told: set[str] = set()

            def tell_once(message: Any, *_: Any, **__: Any) -> None:
                if (note := one_line(message)) not in told:
                    told.add(note)
                    say(f"note: {note}", program)

            def tell_error(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
                if issubclass(category, NotWrittenWarning):
                    tell_once(message)

            warnings.showwarning = tell_once
            arguments = parser().parse_args(argv)
            if getattr(arguments, "quiet", False):
                warnings.showwarning = tell_error
            return arguments.run(arguments)
    except KeyboardInterrupt:
        say(interrupted, program)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of the output has gone
        sys.stderr.close()
        return 1
    except MemoryError as error:
        say(f"error: out of memory; {out_of_memory} ({error or 'no details'})", program)
        return 1
    except OSError as error:
        say(f"error: {os_error(error)}", program)
        return 1
    except CommandError as error:
        say(f"error: {one_line(error)}", program)
        return 2
    except Exception as error:
        if isinstance(error, (ValueError, ArithmeticError, *failures())):
            say(f"error: {one_line(error)}", program)
            return 1
        if sys.flags.dev_mode:
            raise
        defect = f"unexpected {type(error).__name__}: {one_line(error)}"
        say(f"error: {defect} (a defect; please report what `python -X dev -m {program} ...` prints)", program)
        return 1


def os_error(error: OSError) -> str:
    """The file, and what is wrong with it."""
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or one_line(error)}"


def one_line(message: Any) -> str:
    """In one line, and without what a terminal would obey instead of showing it: it may be out of a file."""
    text = " ".join(str(message).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.0f} days"


def plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def say(text: str, program: str = PROG) -> None:
    """A line on standard error, as far as there is one."""
    with suppress(OSError):
        print(f"{program}: {one_line(text)}", file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """A line on standard output; if nobody can read it, what is made meanwhile is worth more."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
