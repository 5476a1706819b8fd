"""Writing files whole or not at all, and one process at a time.

What is written stands beside the file that it is to become, under a hidden name that tells the file and the process;
so whoever writes that file next removes what a process left there that was killed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: there, two runs with one file are not told
    fcntl = None  # type: ignore[assignment]


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Those that end a run."""


class NotWrittenWarning(UserWarning):
    """A file on the way could not be written; the run goes on, which is worth more."""


def check_folder(path: Path) -> None:
    """OSError if no file could be written at `path`: so that one knows before the work."""
    path = _followed(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {path.parent} does not exist; make it first", str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file in it", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a file that could be replaced; choose another name", str(path))
    with _named_after(path):
        with suppress(FileNotFoundError):
            path.lstat()  # fails for a name that is too long
        _remove_left(path)
        temporary = _temporary(path)
        temporary.touch()
        temporary.unlink()


def check_filled(folder: str | os.PathLike[str]) -> Path:
    """`folder` as a Path if files can be written into it, or it can be made; OSError or ValueError if not."""
    folder = Path(folder)
    if str(folder) == "-":
        raise ValueError("-: standard output takes a single picture; name a folder")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file; name a folder", str(folder))
    with _named_after(folder):
        check_folder(folder / "picture.png" if folder.exists() else folder)
    return folder


@contextmanager
def filled_folder(folder: Path) -> Iterator[None]:
    """The folder is there meanwhile; one that was made for it does not stay empty."""
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def check_distinct(
    written: Sequence[Path], read: Iterable[str | os.PathLike[str]], numbered: Path | None = None
) -> None:
    """ValueError if a file that is to be written is another one of them, or one that is read.

    Parameters
    ----------
    written, read : paths
    numbered : path, or None
        Beside it `numbered_path` names files that are to be written, too.
    """
    others = [Path(path) for path in read]
    for path in written:
        if any(_same(path, other) for other in (*written, *others) if other is not path):
            raise ValueError(f"{path}: named twice in this command, once to be written; choose another name for it")
    for path in (*written, *others):
        if numbered and _is_numbered(path, numbered) and path.resolve().parent == numbered.resolve().parent:
            raise ValueError(f"{path}: a picture on the way to {numbered} would be written there; rename one of them")


def check_absent(written: Sequence[Path], numbered: Path | None = None) -> None:
    """ValueError if one of the files that are to be written is there; as for `check_distinct`."""
    there = [path for path in written if os.path.lexists(path)]
    there += [path for path in numbered.parent.iterdir() if _is_numbered(path, numbered)] if numbered else []
    if there:
        raise ValueError(f"{there[0]}: is there already; choose another name, or leave --no-clobber out")


def numbered_path(path: Path, number: int) -> Path:
    """OUT-00025.png for OUT.png."""
    return path.with_stem(f"{path.stem}-{number:05d}")


def _is_numbered(path: Path, of: Path) -> bool:
    return bool(re.fullmatch(re.escape(of.stem) + r"-\d{5,}" + re.escape(of.suffix), path.name))


def _same(path: Path, other: Path) -> bool:
    with suppress(OSError):
        return path.samefile(other)
    return path.resolve() == other.resolve()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it if the block succeeds and removed if it fails.

    A symbolic link is followed, and a file that is replaced leaves its mode to the new one.
    """
    path = _followed(path)
    _remove_left(path)
    temporary = _temporary(path)
    try:
        with _named_after(path):
            yield temporary
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """No other process may have `path` locked meanwhile; one that has died does not.

    Raises
    ------
    ValueError
        If one has: "PATH: another run DOING".
    """
    path = _followed(path)
    lock = path.with_name(f".{_tag(path)}.lock")
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(lock)):
                break
        except FileNotFoundError:  # its owner has just removed it
            pass
        except BlockingIOError:
            os.close(file)
            raise ValueError(f"{path}: another run {doing}; wait for it, or choose another name") from None
        os.close(file)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(file)


def _followed(path: Path) -> Path:
    """The file that a symbolic link leads to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _tag(path: Path) -> str:
    """What tells a file's temporary names from those of others; it is short, however long the file's name is."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]


def _temporary(path: Path) -> Path:
    """A name that no file has."""
    return path.with_name(f".{_tag(path)}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


def _remove_left(path: Path) -> None:
    """Remove what processes that are dead have left of `path`."""
    for left in path.parent.glob(f".{_tag(path)}-*"):
        owner = re.match(r"\.\w+-(\d+)-", left.name)
        if owner and not _alive(int(owner[1])):
            with suppress(OSError):
                left.unlink()


def _alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


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
def held_back() -> Iterator[None]:
    """Ctrl-C and the other signals that end a run are heard at the end of the block; processes that start meanwhile
    begin with them blocked."""
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # those that came are heard here, all of them
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and the other signals that end a run are not heard meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
