"""What is seen and kept of a run while it goes on: the progress bar, the log, pictures on the way."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files.images import save_image
from ..files.writing import atomic_path, numbered_path
from ..run.results import Progress
from .command import os_error, say

Watch = Callable[[Progress], None]


def progress_bar(quiet: bool, after: str = "", **options: Any) -> Any:
    """tqdm's, where standard error is a terminal; `after` stands behind the time that has passed."""
    from tqdm import tqdm  # not before it is needed: it takes long to load

    return tqdm(
        disable=True if quiet else None,
        bar_format="{n_fmt}/{total_fmt} |{bar}| {elapsed}" + after + "{postfix}",
        dynamic_ncols=True,
        **options,
    )


@contextlib.contextmanager
def watching(
    output: Path,
    *,
    log: Path | None,
    save_every: int | None,
    earlier: Sequence[dict[str, Any]],
    also: Watch | None,
    quiet: bool,
) -> Iterator[Watch]:
    """The callback of a run.

    A log or a picture that cannot be written does not end the run, which is worth more.

    Parameters
    ----------
    output : path of the result
        Pictures on the way are named after it.
    log : path, or None
    save_every : int, or None
    earlier : lines of the history
        Of the run that is gone on with, with which the log begins, as if it had never stopped.
    also : a further callback, or None
    quiet : bool
    """
    before = earlier[-1]["iteration"] if earlier else 0
    with progress_bar(quiet, " < {remaining}, {rate_fmt}", initial=before, unit="it") as bar:
        kept = _Log(log, earlier) if log else None
        saved = before

        def watch(progress: Progress) -> None:
            nonlocal saved
            bar.total = progress.iterations
            bar.set_postfix_str(f"loss {progress.loss:.4g}", refresh=False)
            bar.update(progress.iteration - bar.n)
            if kept:
                kept.add(progress.record())
            if also:
                also(progress)
            due = save_every and progress.iteration > 0 and progress.iteration % save_every == 0
            if due and progress.iteration != saved:
                saved = progress.iteration  # once, though the next scale's start has the same number
                try:
                    save_image(numbered_path(output, progress.iteration), progress.image)
                except OSError as error:
                    say(f"note: {os_error(error)}")

        yield watch
        if kept and earlier:  # though nothing was left to run
            kept.add()


class Counted:
    """A bar that counts pictures, each made by a run of its own."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def follow(self, step: Progress) -> None:
        """The callback of a run."""
        self._bar.set_postfix_str(
            f"iteration {step.iteration} of {step.iterations}, loss {step.loss:.4g}", refresh=False
        )
        self._bar.update(0)

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """A picture is there, or cannot be made; lines that are printed meanwhile stand above the bar."""
        with self._bar.external_write_mode(file=sys.stdout):
            yield
        self._bar.update(1)


@contextlib.contextmanager
def counting(total: int, done: int, quiet: bool) -> Iterator[Counted]:
    """A bar for so many pictures, of which some are done."""
    with progress_bar(quiet, total=total, initial=done, miniters=0) as bar:  # it hears of steps, too
        yield Counted(bar)


class _Log:
    """A file of one JSON object per line.

    An old one is replaced by the first line, whole, and not by a run that never begins.
    """

    def __init__(self, path: Path, earlier: Sequence[dict[str, Any]]) -> None:
        self._path, self._earlier = path, earlier
        self._begun = self._ended = False

    def add(self, *lines: dict[str, Any]) -> None:
        if self._ended:
            return
        try:
            if self._begun:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(_text(lines))
            else:
                with atomic_path(self._path) as temporary:
                    temporary.write_text(_text([*self._earlier, *lines]), encoding="utf-8")
                self._begun = True
        except OSError as error:
            self._ended = True
            say(f"note: {self._path}: {error.strerror}; the log ends here")


def _text(lines: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)
