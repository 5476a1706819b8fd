"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def check_folder(path: Path) -> None:
    """OSError if no file could be written at `path`: so that one knows before the work."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {path.parent} does not exist; make it first", str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file in it", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a file that could be replaced; choose another name", str(path))
    with _named_after(path):
        with suppress(FileNotFoundError):
            path.lstat()  # fails for a name that is too long
        temporary = _temporary(path)
        temporary.touch()
        temporary.unlink()


def check_distinct(written: Sequence[Path], read: Iterable[str | os.PathLike[str]]) -> None:
    """ValueError if a file that is to be written is another one of them, or one that is read."""
    for path in written:
        others = [other for other in (*written, *read) if other is not path]
        if path.resolve() in [Path(other).resolve() for other in others]:
            raise ValueError(f"{path}: named twice in this command, once to be written; choose another name for it")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it if the block succeeds and removed if it fails."""
    temporary = _temporary(path)
    try:
        with _named_after(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name that no file has, of a length that does not depend on that of `path`."""
    return path.with_name(f".{secrets.token_hex(6)}{path.suffix}")


@contextmanager
def _named_after(path: Path) -> Iterator[None]:
    """Errors about a temporary file as errors about `path`, which is the name that the user knows."""
    try:
        yield
    except OSError as error:
        if not error.strerror:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C is not heard meanwhile, nor by processes that start meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
