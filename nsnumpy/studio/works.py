"""What was painted in the studio: each work in a folder of its own, with its settings, its log and its film strip."""

from __future__ import annotations

import functools
import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files.images import jpeg_bytes, to_bytes
from ..files.writing import atomic_path
from .pictures import recorded

ID = r"\d{8}-\d{6}-[0-9a-f]{4}"
FRAME = r"\d{6}-\d+"  # iteration and long side
FRAMES = 24  # most pictures of a film strip
WAITING, RUNNING, PAUSED, DONE, KEPT, FAILED = "waiting", "running", "paused", "done", "kept", "failed"
UNDER_WAY = (WAITING, RUNNING, PAUSED)


@dataclass
class Work:
    """A picture that was asked for.

    Attributes
    ----------
    id : str
    ask : dict
        `Ask.record`.
    title : str
    state : "waiting", "running", "paused", "done", "kept" (stopped early), "failed"
    made : float
        When it was asked for, in seconds since 1970.
    size : (width, height), or None before it is begun
    iteration, iterations, seconds, loss : as of the last step
    changes : list of dicts
        What was changed on the way; see `Run`.
    why : str
        Why it ended early, or failed.
    """

    id: str
    ask: dict[str, Any]
    title: str
    state: str = WAITING
    made: float = 0.0
    size: tuple[int, int] | None = None
    iteration: int = 0
    iterations: int = 0
    seconds: float = 0.0
    loss: float | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)
    why: str = ""


class Works:
    """Works in a folder, each in `ID/`: work.json, result.png, log.jsonl, frames/, and checkpoint.h5 on the way.

    Parameters
    ----------
    folder : path
        It is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}
        for path, work in recorded(Work, sorted(folder.glob("*/work.json"))):
            if re.fullmatch(ID, work.id) and work.id == path.parent.name:
                self._works[work.id] = work

    def all(self) -> list[Work]:
        """The oldest first."""
        with self._lock:
            return list(self._works.values())

    def get(self, id: object) -> Work:
        """ValueError if there is none."""
        with self._lock:
            if not isinstance(id, str) or id not in self._works:
                raise ValueError(f"work {str(id)[:80]!r}: there is none")
            return self._works[id]

    def begin(self, ask: dict[str, Any], title: str) -> Work:
        """A new one, which waits."""
        now = time.time()
        id = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{secrets.token_hex(2)}"
        work = Work(id, ask, title, made=now)
        (self._folder / id / "frames").mkdir(parents=True)
        with self._lock:
            self._works[id] = work
        self.keep(work)
        return work

    def keep(self, work: Work) -> None:
        """Write down how it stands."""
        with atomic_path(self.path(work, "work.json")) as temporary:
            temporary.write_text(json.dumps(asdict(work)), encoding="utf-8")

    def remove(self, work: Work) -> None:
        with self._lock:
            self._works.pop(work.id, None)
        shutil.rmtree(self._folder / work.id, ignore_errors=True)

    def path(self, work: Work, name: str) -> Path:
        return self._folder / work.id / name

    def result_of(self, id: str) -> Path:
        """A work's result; ValueError if it has none."""
        path = self.path(self.get(id), "result.png")
        if not path.is_file():
            raise ValueError(f"work {id}: has no result yet")
        return path

    def write_log(self, work: Work, history: Sequence[dict[str, Any]]) -> None:
        with atomic_path(self.path(work, "log.jsonl")) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")

    def history(self, work: Work) -> list[dict[str, Any]]:
        """Of a work that has ended; empty if it has none."""
        try:
            text = self.path(work, "log.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def frames(self, work: Work) -> list[str]:
        """The names of a film strip's pictures, in their order."""
        names = (path.stem for path in self.path(work, "frames").glob("*.jpg"))
        found = [name for name in names if re.fullmatch(FRAME, name)]
        return sorted(found, key=lambda name: tuple(map(int, name.split("-"))))

    def add_frame(self, work: Work, name: str, picture: np.ndarray, shown: np.ndarray) -> None:
        """Keep an iterate, ``(H, W, 3)`` in [0, 1], and what is shown of it."""
        path = self.path(work, f"frames/{name}.jpg")
        np.save(path.with_suffix(".npy"), to_bytes(picture))  # a PNG would take ten times as long
        with atomic_path(path) as temporary:
            temporary.write_bytes(jpeg_bytes(Image.fromarray(to_bytes(shown)), 1024))

    def remove_frames(self, work: Work, names: Sequence[str]) -> None:
        for name in names:
            for suffix in ("jpg", "npy"):
                self.path(work, f"frames/{name}.{suffix}").unlink(missing_ok=True)

    def frame(self, work: Work, name: str) -> np.ndarray:
        """The iterate; ValueError if it is not of the film strip."""
        if name not in self.frames(work):
            raise ValueError(f"picture {name[:40]!r}: the film strip has none")
        return np.load(self.path(work, f"frames/{name}.npy"), allow_pickle=False).astype(np.float32) / 255

    def end_frames(self, work: Work) -> None:
        """What is shown of them stays; nothing goes back to them any more."""
        for path in self.path(work, "frames").glob("*.npy"):
            path.unlink()


@functools.lru_cache(maxsize=512)
def thumb(path: Path, size: int) -> bytes:
    """A result as a JPEG file of at most so many pixels; it is never written again."""
    with Image.open(path) as image:
        return jpeg_bytes(image.convert("RGB"), size)
