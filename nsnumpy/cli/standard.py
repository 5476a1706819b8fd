"""A picture on standard output, as `-o -` asks for; what a command says goes to standard error then."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files.images import save_image
from ..files.rows import write_png

STANDARD = "-"
_NAME = "standard output"


def shown(output: str) -> str:
    """What to call the result in a message."""
    return _NAME if output == STANDARD else output


@contextlib.contextmanager
def picture_stream(output: str) -> Iterator[int | None]:
    """The descriptor of standard output, if the result goes there; what is printed meanwhile goes to standard error.

    Raises
    ------
    ValueError
        If it is a terminal, or closed.
    """
    if output != STANDARD:
        yield None
        return
    if sys.stdout is None or sys.stdout.isatty():
        state = "closed" if sys.stdout is None else "a terminal"
        raise ValueError(f"-o -: {_NAME} is {state}; send it into a file or a pipe")
    stream = sys.stdout.fileno()
    with contextlib.redirect_stdout(sys.stderr):
        yield stream


def write_picture(
    output: str, stream: int | None, image: np.ndarray, settings: Mapping[str, Any] | None = None, depth: int = 8
) -> None:
    """Write a result where it is to go: as `save_image`, or as a PNG to the stream of `picture_stream`; OSError if that
    cannot be done."""
    if stream is None:
        save_image(output, image, settings, depth)
        return
    try:
        with open(os.dup(stream), "wb") as file:  # its own, of which nothing is left to be written at the end
            write_png(file, image, depth, None if settings is None else json.dumps(settings))
    except OSError as error:
        raise OSError(error.errno, error.strerror, _NAME) from error


def elsewhere(output: str) -> Path:
    """The name of a result that could not be written where it was to go."""
    return Path("standard-output.png" if output == STANDARD else Path(output).name)
