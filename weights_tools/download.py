"""Downloading a file that is published in several places: resumed where it broke off, and checked.

The bytes go into ``<target>.part``; what the server said of the file is kept in ``<target>.part.json``, so that a part
is never continued with bytes of another file. The part becomes the target once its size and its checksums hold. One
download of a target at a time: two would write into the same part.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from nsnumpy._version import __version__
from nsnumpy.files.writing import atomic_path, check_folder

CHUNK = 2**20  # bytes read at once
CAP = 2**31  # bytes at most, if nobody says how long the file is


class DownloadError(Exception):
    """No source gave the file; one line, which names every source and its reason."""


@dataclass(frozen=True)
class Expected:
    """What is published about a file; None where nothing is.

    `size` is in bytes; `sha256` is 64 hex digits, or the first 8 of them, which torch hub's file names carry.
    """

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"size: a positive number of bytes expected, {self.size} given")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8}|[0-9a-fA-F]{64}", self.sha256):
            raise ValueError(f"sha256: 64 hex digits, or the first 8, expected, {self.sha256!r} given")
        if self.md5 is not None and not re.fullmatch(r"[0-9a-fA-F]{32}", self.md5):
            raise ValueError(f"md5: 32 hex digits expected, {self.md5!r} given")


NOTHING_PUBLISHED = Expected()


@dataclass(frozen=True)
class Downloaded:
    """A file that has come whole: where it is, which source gave it, its size in bytes, its checksums."""

    path: Path
    url: str
    size: int
    sha256: str
    md5: str


def download(
    urls: Sequence[str],
    target: Path,
    expected: Expected = NOTHING_PUBLISHED,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    say: Callable[[str], None] | None = None,
    timeout: float = 30.0,
    attempts: int = 3,
    pause: float = 1.0,
) -> Downloaded:
    """Download a file from the first source that gives it, whole and as published.

    Parameters
    ----------
    urls : sources of one and the same file, http or https, in the order in which they are tried
    target : where to; the folder must exist, and a file that is there is replaced once the new one is whole
    expected : Expected
    progress : function of (bytes that are there, bytes in all or None), or None
        Called when a connection begins to give the file, and with every part that comes.
    say : function of one line, or None
        Told why a source is asked again, or given up for the next one.
    timeout : seconds for which a server may be silent
    attempts : how often one source is asked, if the connection breaks
    pause : seconds before the second attempt; twice that before the third, and so on

    Raises
    ------
    DownloadError
        If every source failed. What has come stays, unless it is wrong, and the next call continues it; so too after
        Ctrl-C.
    OSError
        If the file cannot be written, or the disk has not enough room for it.
    """
    check_folder(target)
    task = _Task(_Part(target), expected, progress or (lambda done, total: None), say or (lambda line: None), timeout)
    failures: list[str] = []
    for url in urls:
        if failures:
            task.say(f"{failures[-1]}; trying the next source")
        try:
            sha256, md5, size = task.fetch(url, attempts, pause)
        except _SourceError as failure:
            failures.append(f"{url}: {failure}")
        else:
            os.replace(task.part.path, target)
            task.part.remove()
            return Downloaded(target, url, size, sha256, md5)
    if not task.part.size():
        task.part.remove()
    raise DownloadError(f"{target.name} could not be downloaded: {'; '.join(failures) or 'no source is known'}")


def checksums(path: str | os.PathLike[str]) -> tuple[str, str, int]:
    """SHA-256, MD5 and size of a file in bytes, of which no more than a part is ever in memory."""
    return _Sums(path).result()


class _SourceError(Exception):
    """Why a source did not give the file."""


class _BrokenError(_SourceError):
    """The connection broke; the same source may be asked again, for the rest."""


class _StaleError(_SourceError):
    """The part that was there is no beginning of this source's file. Raised only if there was a part."""


class _Sums:
    """The checksums of what has come so far, beginning with a file if one is there."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._size = 0
        if path is not None:
            with open(path, "rb") as file:
                while data := file.read(CHUNK):
                    self.add(data)

    def add(self, data: bytes) -> None:
        self._sha256.update(data)
        self._md5.update(data)
        self._size += len(data)

    def result(self) -> tuple[str, str, int]:
        return self._sha256.hexdigest(), self._md5.hexdigest(), self._size


class _Part:
    """What has come of a file, and the note of what the server said of it."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self.note_path = target.with_name(target.name + ".part.json")

    def size(self) -> int:
        """In bytes; 0 if there is no part."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def note(self) -> dict[str, Any]:
        """``url``, ``etag``, ``last_modified`` (str) and ``length`` (int), so far as they are known."""
        try:
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        kinds = {"url": str, "etag": str, "last_modified": str, "length": int}
        return {k: note[k] for k in kinds if isinstance(note.get(k), kinds[k])} if isinstance(note, dict) else {}

    def begin(self, note: dict[str, Any]) -> None:
        """An empty part. It is emptied before the note changes: what an older note told of must not be there."""
        self.path.write_bytes(b"")
        with atomic_path(self.note_path) as temporary:
            temporary.write_text(json.dumps(note, indent=1), encoding="utf-8")

    def append(self, data: bytes) -> None:
        """Write `data` at the end, all of it; an OSError names the part, as those of `write` do not."""
        try:
            with open(self.path, "ab") as file:
                file.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Task:
    """One download, from whichever source: `fetch` is the part, completed."""

    part: _Part
    expected: Expected
    progress: Callable[[int, int | None], None]
    say: Callable[[str], None]
    timeout: float

    def fetch(self, url: str, attempts: int, pause: float) -> tuple[str, str, int]:
        """SHA-256, MD5 and size of the whole part; a source whose connection breaks is asked again."""
        attempt = 1
        while True:
            try:
                return self._ask(url)
            except _StaleError as failure:  # not twice in a row: it takes a part
                self.say(f"{url}: {failure}; starting over")
                self.part.remove()
            except _BrokenError as failure:
                if attempt >= attempts:
                    raise
                self.say(f"{url}: {failure}; trying again")
                time.sleep(attempt * pause)
                attempt += 1

    def _ask(self, url: str) -> tuple[str, str, int]:
        """Ask once, for what is missing."""
        note = self.part.note()
        own = note.get("url") == url
        size, length = self.part.size(), self.expected.size or note.get("length")
        # Without a checksum only what this source gave, and only if one can tell that its file is still the same.
        usable = (own and (_validator(note) or size == length)) or self.expected.sha256 or self.expected.md5
        offset = size if usable and (length is None or size <= length) else 0
        if offset and offset == length:  # all of it came, but it was not renamed
            return self._checked(_Sums(self.part.path), offset)
        with self._open(url, offset, _validator(note) if own else None) as response:
            resumed, said = self._accept(response, offset, note if own else {})
            missing, free = (said["length"] or 0) - size, shutil.disk_usage(self.part.path.parent).free
            if missing > free:
                text = f"not enough room on the disk: {missing:,} bytes more are needed, {free:,} are free"
                raise OSError(errno.ENOSPC, text, str(self.part.path))
            if not resumed:
                if offset:
                    self.say(f"{url}: the file has changed, or cannot be continued there; starting over")
                offset = 0
                self.part.begin({"url": url, **said})
            elif not own:
                self.part.note_path.unlink(missing_ok=True)  # from here on it is of two origins
            sums = _Sums(self.part.path)
            self._stream(response, sums, offset, said["length"])
        return self._checked(sums, offset)

    def _open(self, url: str, offset: int, validator: str | None) -> HTTPResponse:
        headers = {"User-Agent": f"nsnumpy-weights/{__version__}"}
        if offset:
            headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": validator} if validator else {})
        with self._network():
            if urlsplit(url).scheme not in ("http", "https"):
                raise _SourceError("neither http nor https")
            try:
                request = urllib.request.Request(url, headers=headers)
                return urllib.request.build_opener(_Redirects).open(request, timeout=self.timeout)
            except HTTPError as error:
                error.close()
                stale = offset and error.code == 416  # the server's file ends before our part does
                raise (_StaleError if stale else _SourceError)(_line(f"{error.code} {error.reason}")) from error

    @contextmanager
    def _network(self) -> Iterator[None]:
        """Errors of the network as those of a source; an OSError that is left is one of the disk."""
        try:
            yield
        except (OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            text = _line(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)
            if isinstance(reason, TimeoutError):
                text = f"no answer for {self.timeout:g} s"
            broken = isinstance(reason, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, IncompleteRead))
            raise (_BrokenError if broken else _SourceError)(text) from error

    def _accept(self, response: HTTPResponse, offset: int, note: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Whether an answer continues the part, whose note is `note` if it is of this source; and the file's note."""
        resumed = response.status == 206 and offset > 0
        if not resumed and response.status != 200:
            raise _SourceError(_line(f"{response.status} {response.reason}, which is no file"))
        size = self.expected.size
        if size is None and response.headers.get_content_type() == "text/html":
            raise _SourceError("a web page came instead of the file")
        length = _total(response, offset, size or note.get("length")) if resumed else response.length
        if size is not None and length not in (None, size):
            raise _SourceError(f"{length:,} bytes are announced, {size:,} are published")
        said = {name: response.headers.get(name.replace("_", "-")) for name in ("etag", "last_modified")}
        said["length"] = size if length is None else length
        if resumed and any(value and note.get(name, value) != value for name, value in said.items()):
            raise _StaleError("the file has changed")
        return resumed, said

    def _stream(self, response: HTTPResponse, sums: _Sums, offset: int, length: int | None) -> None:
        """Append the answer to the part of `offset` bytes; never more than `length` in all."""
        done, limit = offset, CAP if length is None else length
        self.progress(done, length)
        while True:
            with self._network():
                data = response.read1(min(CHUNK, limit + 1 - done))  # `read` loses what has come if it fails
            if not data:
                break
            done += len(data)
            if done > limit:
                self.part.remove()
                raise _SourceError(f"more than {limit:,} bytes came")
            self.part.append(data)
            sums.add(data)
            self.progress(done, length)
        if length is not None and done < length:
            raise _BrokenError(f"the connection broke after {done:,} of {length:,} bytes")

    def _checked(self, sums: _Sums, offset: int) -> tuple[str, str, int]:
        """`sums`, if they are the published ones. `offset` bytes of them were there before, and may be to blame."""
        sha256, md5, size = sums.result()
        for name, right, found in (("SHA-256", self.expected.sha256, sha256), ("MD5", self.expected.md5, md5)):
            if right is not None and not found.startswith(right.lower()):
                self.part.remove()
                raise (_StaleError if offset else _SourceError)(f"{name} {found}, but {right.lower()} is published")
        return sha256, md5, size


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, and to nothing else: no file:, no ftp:; and never from https to http."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 does not know 308

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != "https" and (new, old) != ("http", "http"):
            raise HTTPError(req.full_url, code, f"redirects from {old} to {new}", headers, fp)
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)


def _total(response: HTTPResponse, offset: int, known: int | None) -> int:
    """The length of the whole file, of which a 206 answer gives what follows `offset` bytes."""
    text = response.headers.get("Content-Range", "no range")
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", text)
    if match:
        first, last = int(match[1]), int(match[2])
        total = known if match[3] == "*" else int(match[3])
        if total is not None and first == offset <= last < total:
            return total
    raise _StaleError(_line(f"bytes from {offset:,} on were asked for, {text} came"))


def _validator(note: dict[str, Any]) -> str | None:
    """What If-Range may be given: an ETag that vouches for every byte, or the date; None if there is neither."""
    etag = note.get("etag")
    return etag if etag and not etag.startswith("W/") else note.get("last_modified")


def _line(text: str) -> str:
    """What a server or the system said, as one line of moderate length without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
