"""A run of the studio while it goes on: what is seen of it, and what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files.checkpoint import Checkpoint, Keeper
from ..files.images import jpeg_bytes, to_bytes
from ..objective import term_parts
from ..run.results import Progress
from ..run.steered import SteeredRun
from .works import FRAMES, PAUSED, RUNNING, Work, Works

LIVE = 1024  # pixels of the long side of the picture that is watched
EVERY = 0.5  # seconds from one such picture to the next
SHARE = 100  # of the time of a run, at most such a part goes into these pictures, and into the film strip
KEPT = 30.0  # seconds from one checkpoint to the next
WEIGHTS, TURNED = ("alpha", "beta", "tv"), ("colors", "style_weights")


class Changed(threading.Condition):
    """A condition that counts how often it was notified, so that nobody misses it who was busy meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def notify_all(self) -> None:
        self.number += 1
        super().notify_all()

    def after(self, number: int, seconds: float) -> int:
        """Wait for more than that many, or so long; how many there are."""
        self.wait_for(lambda: self.number != number, seconds)
        return self.number


class TimedKeeper(Keeper):
    """Writes after so many seconds, not iterations: a file costs as much at every scale, an iteration does not."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._at = 0.0

    def hurry(self) -> None:
        """Write the next one."""
        self._at = 0.0

    def offer(self, checkpoint: Checkpoint) -> None:
        self._last = checkpoint
        if time.monotonic() - self._at > KEPT or not self.path.exists():
            self.flush()
            self._at = time.monotonic()


class Painting:
    """The work that is being painted. The run's thread calls `saw` and `wait`; all others read, and `tell`.

    Parameters
    ----------
    work : Work
    works : Works
    run : SteeredRun
    changed : Changed
        Is notified of all that can be seen.

    Attributes
    ----------
    points : list of (iteration, size, loss, content, style, tv)
    epoch : int
        Grows when points are taken back.
    picture : int
        Grows with every picture that can be seen.
    watched : float
        When somebody last looked, by `time.monotonic`.
    """

    def __init__(self, work: Work, works: Works, run: SteeredRun, changed: Changed) -> None:
        self.work, self.run = work, run
        self.points = points_of(run.history)
        self.epoch, self.picture, self.watched = 0, 0, time.monotonic()
        self.left: float | None = None
        self._works, self._changed = works, changed
        self._told: list[tuple[str, Any]] = []
        self._pixels: np.ndarray | None = None
        self._jpeg: tuple[int, bytes] = (-1, b"")
        self._due, self._frame_after, self._frame_due, self._spacing = 0.0, 0.0, 0, 1
        self.frames = works.frames(work)
        if self.frames:
            self._spacing = max(1, run.history[-1]["iteration"] // FRAMES if run.history else 1)
            self._frame_due = int(self.frames[-1].partition("-")[0]) + self._spacing
        self._pace: tuple[int, float, int] = (0, 0.0, 0)  # size, when, iteration

    def saw(self, step: Progress) -> None:
        """A step was made."""
        size, now = max(step.x.shape), time.monotonic()
        if self._pace[0] != size:
            self._pace = (size, now, step.iteration)
        raw = shown = None
        if step.iteration >= self._frame_due and now >= self._frame_after:
            raw, shown = SteeredRun.iterate(step), step.image
            self._keep_frame(f"{step.iteration:06d}-{size}", raw, shown)
            self._frame_after = now + SHARE * (time.monotonic() - now)
        if now >= self._due and now - self.watched < 5:
            began = time.monotonic()
            self._look(step.image if shown is None else shown)
            self._due = now + max(EVERY, SHARE * (time.monotonic() - began))
        with self._changed:
            work = self.work
            work.iteration, work.iterations, work.loss = step.iteration, step.iterations, step.loss
            work.seconds, work.changes = step.seconds, self.run.changes[:]
            self.points.append(point_of(step.record()))
            self.left = self._seconds_left(step, now)
            self._changed.notify_all()

    def _look(self, shown: np.ndarray) -> None:
        pixels = to_bytes(shown)
        with self._changed:
            self._pixels, self.picture = pixels, self.picture + 1

    def _keep_frame(self, name: str, raw: np.ndarray, shown: np.ndarray) -> None:
        self._works.add_frame(self.work, name, raw, shown)
        frames = [*self.frames, name] if name not in self.frames else self.frames
        if len(frames) > FRAMES:
            self._spacing *= 2
            self._works.remove_frames(self.work, frames[1::2])
            frames = frames[::2]
        self.frames, self._frame_due = frames, int(name.partition("-")[0]) + self._spacing

    def _seconds_left(self, step: Progress, now: float) -> float | None:
        """Time goes with the pixels."""
        size, since, first = self._pace
        if step.iteration <= first:
            return None
        pace = (now - since) / (step.iteration - first) / size**2
        sizes = [max(self.run.inputs.shape(scale)) for scale in self.run.scales]
        ends = np.cumsum(self.run.iterations)
        left = [min(count, max(0, end - step.iteration)) for count, end in zip(self.run.iterations, ends, strict=True)]
        return float(sum(count * pace * one**2 for count, one in zip(left, sizes, strict=True)))

    def live(self) -> bytes | None:
        """The newest picture as a JPEG file, or None if there is none yet."""
        version, pixels = self.picture, self._pixels
        if pixels is None:
            return None
        if self._jpeg[0] != version:
            self._jpeg = (version, jpeg_bytes(Image.fromarray(pixels), LIVE))
        return self._jpeg[1]

    def tell(self, what: str, value: Any = None) -> None:
        """Have the run's thread do something before its next step: "pause", "go", "stop", "leave", "change" with
        weights and colours, "back" with a picture of the film strip."""
        with self._changed:
            self._told.append((what, value))
            self._changed.notify_all()

    def wait(self, step: Progress) -> tuple[str, Any]:
        """Do what was told, and wait while it pauses: ("go", None), or what ends the steps: "stop", "leave", "back",
        "turn"."""
        began = time.perf_counter()
        paused, answer = self._obey(step)
        if paused:  # which is no time of the run
            self.run.began += time.perf_counter() - began
            self._pace = (0, 0.0, 0)
            self._works.keep(self.work)
        return answer

    def _obey(self, step: Progress) -> tuple[bool, tuple[str, Any]]:
        """Whether it paused meanwhile, and what `wait` returns."""
        paused = waited = self.work.state == PAUSED
        with self._changed:
            while True:
                while self._told:
                    what, value = self._told.pop(0)
                    if what in ("stop", "leave", "back"):
                        return waited, (what, value)
                    if what == "change":
                        turned = {name: value.pop(name) for name in TURNED if name in value}
                        if value:
                            self.run.change(**value)
                        self.work.changes = self.run.changes[:]
                        if turned:
                            return waited, ("turn", (turned, step.image, step.iteration))
                    paused = {"pause": True, "go": False}.get(what, paused)
                self.work.state = PAUSED if paused else RUNNING
                if not paused:
                    return waited, ("go", None)
                waited = True
                self._look(step.image)
                self._works.keep(self.work)
                self._changed.notify_all()
                self._changed.wait()

    def go_back(self, name: str) -> None:
        """Put the run back to a picture of the film strip; the later ones are dropped."""
        iteration = int(name.partition("-")[0])
        self.run.go_back(self._works.frame(self.work, name), iteration)
        later = self.frames[self.frames.index(name) + 1 :]
        self._works.remove_frames(self.work, later)
        with self._changed:
            self.frames = self.frames[: self.frames.index(name) + 1]
            self._frame_due, self._due, self._pace = iteration + self._spacing, 0.0, (0, 0.0, 0)
            self.points, self.epoch = points_of(self.run.history), self.epoch + 1
            self.work.iteration, self.work.changes, self.left = iteration, self.run.changes[:], None
            self._changed.notify_all()

    def seen(self) -> dict[str, Any]:
        """How it stands, JSON-serialisable, but for the points."""
        work, s = self.work, self.run.s
        return {
            "id": work.id,
            "title": work.title,
            "state": work.state,
            "iteration": work.iteration,
            "iterations": work.iterations,
            "size": self.points[-1][1] if self.points else None,
            "sizes": [max(self.run.inputs.shape(scale)) for scale in self.run.scales],
            "loss": work.loss,
            "seconds": work.seconds,
            "left": self.left,
            "picture": self.picture,
            "frames": self.frames,
            "changes": work.changes,
            "weights": {name: getattr(s, name) for name in (*WEIGHTS, "colors")},
            "shares": [one.weight for one in self.run.inputs.styles],
        }


def point_of(line: dict[str, Any]) -> tuple[float, ...]:
    """Of a line of a history: (iteration, size, loss, content, style, tv)."""
    sums = dict.fromkeys(("content", "style", "tv"), 0.0)
    for name, value in line["terms"].items():
        sums[term_parts(name)[0]] += value
    return line["iteration"], line["size"], line["loss"], sums["content"], sums["style"], sums["tv"]


def points_of(history: Sequence[dict[str, Any]]) -> list[tuple[float, ...]]:
    return [point_of(line) for line in history]
