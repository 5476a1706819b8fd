"""Fetching a published weight file: downloaded, checked, converted, and put where ``--weights NAME`` finds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nsnumpy.files.weight_sources import cache_folder
from nsnumpy.files.writing import atomic_path

from .convert import Found, convert
from .download import Downloaded, DownloadError, Expected, checksums, download
from .formats import FormatError
from .published import Published, sources

SUMS = "checksums.json"
DOWNLOADS = "downloads"  # a folder of its own: a file may be called like the weight file that is made of it


class FetchError(Exception):
    """Nothing could be fetched; one line that says what to do. `reasons` has a line for each file that was tried."""

    def __init__(self, message: str, reasons: list[str]) -> None:
        super().__init__(message)
        self.reasons = reasons


@dataclass(frozen=True)
class Fetched:
    """A weight file in the cache.

    Attributes
    ----------
    path : Path
        The weight file.
    url : str
        Where it came from; "" if it was there already.
    sha256 : str
        Of the downloaded file; "" if it was there already.
    found : Found or None
        As `convert` gives it.
    """

    path: Path
    url: str = ""
    sha256: str = ""
    found: Found | None = None


def fetch(
    name: str,
    *,
    folder: Path | None = None,
    offline: bool = False,
    force: bool = False,
    keep: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int | None], None] | None = None,
    **options: float,
) -> Fetched:
    """Fetch a published weight file into the cache.

    Parameters
    ----------
    name : str
        A name of `published`.
    folder : Path or None
        The cache; None takes the user's, where `nsnumpy.load_vgg(name)` looks. It is made if need be.
    offline : bool
        Take only what is there already: the weight file, or a downloaded file that was kept.
    force : bool
        Fetch it again, and accept a file without published checksums that is not the one seen before.
    keep : bool
        Keep the downloaded file, in the cache's folder "downloads".
    say : function of one line
        Told what happens.
    progress, options : as for `download`

    Raises
    ------
    FetchError
        If no source gave a good file.
    ValueError
        If the name is unknown.
    OSError
        If the cache cannot be written to.
    """
    files = sources(name)
    folder = cache_folder() if folder is None else folder
    target = folder / f"{name}.h5"
    if target.is_file() and not force:
        return Fetched(target)
    downloads = folder / DOWNLOADS
    downloads.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    for label, published in files.items():
        original = downloads / f"{label}{PurePosixPath(published.urls[0]).suffix}"
        try:
            downloaded = _obtain(published, original, offline, force, say, progress, options)
            seen = None if published.sha256 or published.md5 else _seen(folder / SUMS, published, downloaded, force)
            sums = downloaded.sha256, downloaded.md5
            found = convert(original, target, published=published, sums=sums)
        except (DownloadError, FormatError) as failure:
            if not isinstance(failure, DownloadError):  # of which only a good beginning is left
                original.unlink(missing_ok=True)
            failures.append(str(failure))
            say(failures[-1])
            continue
        if seen is not None:
            say(f"no checksum is published for {downloaded.url}; seen and recorded: SHA-256 {downloaded.sha256}")
            with atomic_path(folder / SUMS) as temporary:
                temporary.write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
        if not keep:
            original.unlink(missing_ok=True)
        return Fetched(target, downloaded.url, downloaded.sha256, found)
    if offline:
        raise FetchError(f"{name}: not downloaded before; leave --offline away to download it", failures)
    raise FetchError(
        f"{name}: no source gave it, for the reasons above. Is there a network, or a proxy to be named in https_proxy? "
        f"A file from elsewhere serves as well: python -m weights_tools convert FILE -o {target}",
        failures,
    )


def _obtain(
    published: Published,
    original: Path,
    offline: bool,
    force: bool,
    say: Callable[[str], None],
    progress: Callable[[int, int | None], None] | None,
    options: Mapping[str, float],
) -> Downloaded:
    """The published file: the one that was kept if it is good, else downloaded."""
    if original.is_file() and (offline or not force):
        sha256, md5, size = checksums(original)
        if _may_be(published, sha256, md5, size):
            return Downloaded(original, published.urls[0], size, sha256, md5)
        say(f"{original}: not what is published; fetching it again" if not offline else f"{original}: damaged")
    if offline:
        raise DownloadError(f"{original.name} is not in {original.parent}")
    expected = Expected(published.size, published.sha256 or None, published.md5 or None)
    return download(published.urls, original, expected, progress=progress, say=say, **options)


def _may_be(published: Published, sha256: str, md5: str, size: int) -> bool:
    return published.size in (None, size) and sha256.startswith(published.sha256) and published.md5 in ("", md5)


def _seen(record: Path, published: Published, downloaded: Downloaded, force: bool) -> dict[str, str]:
    """The checksums recorded so far, and this one, of a file for which none is published; it must not have changed."""
    try:
        seen = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        seen = {}
    seen = seen if isinstance(seen, dict) else {}
    before = seen.get(published.urls[0], downloaded.sha256)
    if before != downloaded.sha256 and not force:
        downloaded.path.unlink(missing_ok=True)
        raise DownloadError(
            f"{downloaded.url}: SHA-256 {downloaded.sha256}, but {before} came the last time; --force accepts it"
        )
    return {**seen, published.urls[0]: downloaded.sha256}
