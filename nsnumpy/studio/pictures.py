"""The pictures that the studio knows: the bundled ones, and those that were brought, each kept under a digest."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from ..files.decode import PictureError, decode, header
from ..files.images import jpeg_bytes
from ..files.samples import SAMPLE_PREFIX, sample_names
from ..files.writing import atomic_path

MOST_BYTES = 64 << 20
MOST_PIXELS = 100_000_000
MOST_PICTURES = 1000
SHOWN, THUMB = 1600, 320  # pixels of the long side
ID = r"[0-9a-f]{16}"

Record = TypeVar("Record")


@dataclass(frozen=True)
class Known:
    """A picture: its id, or "sample:NAME"; its file's name, its sides in pixels, and whether it is a region's mask."""

    id: str
    name: str
    width: int
    height: int
    mask: bool = False


def recorded(kind: type[Record], paths: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    """What was kept in files of JSON, each with its file; a file that is not ours is left out."""
    for path in paths:
        try:
            yield path, kind(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            continue


class Pictures:
    """Pictures in a folder, `ID/NAME` as they came, `ID.jpg` as they are shown, and `ID.json`; and the samples.

    Parameters
    ----------
    folder : path
        It is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._known = {known.id: known for known in map(_sample, sample_names())}
        for _, known in recorded(Known, sorted(folder.glob("*.json"))):
            if re.fullmatch(ID, known.id) and (folder / known.id / known.name).is_file():
                self._known[known.id] = known

    def all(self) -> list[Known]:
        return list(self._known.values())

    def get(self, id: object) -> Known:
        """ValueError if there is no such picture."""
        if not isinstance(id, str) or id not in self._known:
            raise ValueError(f"picture {str(id)[:80]!r}: there is none; the page has those that there are")
        return self._known[id]

    def source(self, id: object) -> str:
        """What a run takes: a path, or "sample:NAME"; ValueError if there is no such picture."""
        known = self.get(id)
        return known.id if known.id.startswith(SAMPLE_PREFIX) else str(self._folder / known.id / known.name)

    def add(self, name: str, data: bytes, mask: bool = False) -> Known:
        """Keep a picture, or a region's mask, that was brought.

        Raises
        ------
        PictureError
            If it is none, or has too many pixels, or there are too many.
        OSError
            If it cannot be written.
        """
        id = hashlib.sha256(data).hexdigest()[:16]
        with self._lock:
            if id in self._known:
                return self._known[id]
            if len(self._known) >= MOST_PICTURES:
                raise PictureError(f"{MOST_PICTURES} pictures are kept already: remove some of {self._folder}")
            name, place = safe_name(name), self._folder / id
            place.mkdir(exist_ok=True)
            try:
                (place / name).write_bytes(data)
                try:
                    height, width = header(place / name)[0]
                    if height * width > MOST_PIXELS:
                        raise PictureError(f"{name}: {width} x {height} are too many pixels; scale it down first")
                    shown, _ = decode(place / name, SHOWN)
                except PictureError as error:  # it is called by its name alone on a page
                    raise PictureError(str(error).replace(str(place / name), name)) from error
                with atomic_path(self._folder / f"{id}.jpg") as temporary:
                    temporary.write_bytes(jpeg_bytes(shown, SHOWN))
                known = Known(id, name, width, height, mask)
                with atomic_path(self._folder / f"{id}.json") as temporary:
                    temporary.write_text(json.dumps(asdict(known)), encoding="utf-8")
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            self._known[id] = known
            return known

    def shown(self, id: object, size: int) -> bytes:
        """As a JPEG file of at most so many pixels; ValueError if there is no such picture."""
        return _shown(self._folder, self.get(id).id, size)


@functools.lru_cache(maxsize=256)
def _shown(folder: Path, id: str, size: int) -> bytes:
    image, _ = decode(id if id.startswith(SAMPLE_PREFIX) else folder / f"{id}.jpg")
    return jpeg_bytes(image, size)


def safe_name(name: str) -> str:
    """A file's name without folders, or what a shell or a file system would take amiss.

    >>> safe_name("../../etc/My photo.JPG")
    'My-photo.JPG'
    """
    stem, dot, suffix = re.split(r"[/\\]", name)[-1].rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    stem = re.sub(r"[^\w-]+", "-", stem).strip("-_")[:60] or "picture"
    suffix = re.sub(r"\W", "", suffix, flags=re.ASCII)[:8]
    return f"{stem}.{suffix}" if suffix else stem


def _sample(name: str) -> Known:
    (height, width), _ = header(SAMPLE_PREFIX + name)
    return Known(SAMPLE_PREFIX + name, name, width, height)
