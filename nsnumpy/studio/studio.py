"""The studio behind the page: one run at a time, a queue of those that wait, and what can be told to them."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..backend import DeviceError
from ..ending import Ending, line_of
from ..files.checkpoint import CheckpointError, read_checkpoint
from ..files.weights import load_vgg
from ..machine import usable_cores
from ..run.budget import Rates, measured_rates
from ..run.plan import Plan
from ..run.results import Result
from ..run.steered import SteeredRun
from ..vgg import VGG
from .ask import Ask
from .painting import WEIGHTS, Changed, Painting, TimedKeeper, points_of
from .pictures import Pictures
from .works import DONE, FAILED, KEPT, PAUSED, RUNNING, UNDER_WAY, WAITING, Work, Works

MOST_WAITING = 16
MOST_WORKS = 5000


class NotNowError(ValueError):
    """What cannot be done as things stand; the message says why."""


class Studio:
    """Paints what is asked for, one picture after the other, in a thread of its own.

    Parameters
    ----------
    folder : path
        Where pictures and results are kept; it is made.
    device : "cpu" or "gpu"
    threads : int, or None for all usable cores

    Raises
    ------
    OSError
        If the folder cannot be written to.

    Attributes
    ----------
    changed : Changed
        Is notified whenever there is something new to see.
    """

    def __init__(self, folder: Path, device: str = "cpu", threads: int | None = None) -> None:
        self.pictures, self.works = Pictures(folder / "pictures"), Works(folder / "works")
        self.changed = Changed()
        self.closing = False
        self.now: Painting | None = None
        self.gallery = 0  # grows with every change of the works
        self._device = {"device": device, "threads": threads}
        self._left = [work for work in self.works.all() if work.state in UNDER_WAY]
        self._left.sort(key=lambda work: work.state == WAITING)  # what was begun goes first
        self.waiting = list(self._left)
        self._rates_lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End at the next step; what is under way is kept, and goes on with the next start."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
            if self.now:
                self.now.tell("leave")
        self._thread.join()

    # What a page asks

    def plan(self, ask: Ask) -> Plan:
        """What it would take; ValueError or OSError if it cannot be made."""
        return ask.plan(self.pictures, self.works.result_of, rates=self._rates(), **self._device)

    def add(self, ask: Ask) -> Work:
        """Put it at the end of the queue; NotNowError if that is full, or there is no room for the picture."""
        plan = self.plan(ask)
        if not plan.fits:
            largest = f"a size of {plan.largest_size} would fit" if plan.largest_size else "no size would fit"
            raise NotNowError(
                f"this would take {plan.peak_bytes / 1e9:.1f} GB of memory, more than there is: {largest}"
            )
        with self.changed:
            if len(self.waiting) >= MOST_WAITING:
                raise NotNowError(f"{MOST_WAITING} pictures wait already: let some be painted first")
            if len(self.works.all()) >= MOST_WORKS:
                raise NotNowError(f"there are {MOST_WORKS} pictures in the gallery: remove some first")
            names = [_stem(self.pictures.get(id).name) for id in (ask.photo, *(id for id, *_ in ask.styles))]
            work = self.works.begin(ask.record(), f"{names[0]} \N{MULTIPLICATION SIGN} {' + '.join(names[1:])}")
            work.size, work.iterations = (plan.size[1], plan.size[0]), plan.iterations
            self.waiting.append(work)
            self._show()
        return work

    def tell(self, id: str, what: str, value: Any = None) -> None:
        """Steer the work that is painted; NotNowError if it is another one, ValueError if the value is wrong."""
        with self.changed:
            painting = self.now
            if painting is None or painting.work.id != id:
                raise NotNowError("this picture is not being painted now")
            if what == "change":
                value = self._changes(value, painting)
            if what == "back" and not (isinstance(value, str) and value in painting.frames):
                raise NotNowError("there is no such picture on the film strip any more")
            painting.tell(what, value)

    def remove(self, id: str) -> None:
        """From queue and gallery; NotNowError if it is being painted."""
        with self.changed:
            work = self.works.get(id)
            if self.now and self.now.work is work:
                raise NotNowError("this picture is being painted: stop it first")
            self.waiting = [other for other in self.waiting if other is not work]
            self.works.remove(work)
            self._show()

    def command(self, work: Work) -> str:
        """The line that makes the same picture, but for what was changed on the way; "" if a picture is gone."""
        try:
            ask = Ask.read(work.ask, self.pictures)
            return ask.command(self.pictures, self.works.result_of, f"{file_stem(work)}.png")
        except ValueError:
            return ""

    def points(self, work: Work) -> list[tuple[float, ...]]:
        return points_of(self.works.history(work))

    def _changes(self, value: object, painting: Painting) -> dict[str, Any]:
        """ValueError unless they are weights, colours and shares of the paintings that a run can be given."""
        known = (*WEIGHTS, "colors", "shares")
        if not isinstance(value, Mapping) or not value or set(value) - set(known):
            raise ValueError(f"an object with some of {', '.join(known)} expected")
        given = dict(value)
        shares = given.pop("shares", None)
        if None in given.values():
            raise ValueError(f"numbers, or colours by name, expected; {given} given")
        s = replace(painting.run.s, **given)
        changes = {name: getattr(s, name) for name in given}
        if shares is not None:
            styles = Ask.read(painting.work.ask, self.pictures).with_weights(shares).shares()
            names = [one.name for one in painting.run.inputs.styles]
            changes["style_weights"] = dict(zip(names, styles, strict=True))
        return changes

    # The thread that paints

    def _show(self) -> None:
        with self.changed:
            self.gallery += 1
            self.changed.notify_all()

    def _work(self) -> None:
        with contextlib.suppress(ValueError, OSError, DeviceError):  # the first picture will tell
            self._rates()
            self._network("builtin")
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closing)
                if self.closing:
                    return
                work = self.waiting.pop(0)
            try:
                self._paint(work)
            except (ValueError, OSError, MemoryError, ArithmeticError, DeviceError) as error:
                self._failed(work, line_of(error))
            except Exception as error:  # a defect ends one picture, not the studio
                self._failed(work, f"unexpected {type(error).__name__}: {line_of(error)}")
            finally:
                with self.changed:
                    self.now = None
                    self._show()

    def _failed(self, work: Work, why: str) -> None:
        work.state, work.why = FAILED, why
        with contextlib.suppress(OSError):
            self.works.keep(work)

    def _paint(self, work: Work) -> None:
        ask = Ask.read(work.ask, self.pictures)
        kept = self.works.path(work, "checkpoint.h5")
        given: dict[str, Any] = ask.given(self.works.result_of)
        keeper, resume = TimedKeeper(kept), None
        if kept.is_file():
            with contextlib.suppress(CheckpointError):  # a broken one: it is begun anew
                resume = read_checkpoint(kept)
        run = SteeredRun(
            "transfer",
            ask.pictures(self.pictures),
            vgg=self._network(ask.network),
            checkpoint=keeper,
            resume=resume,
            **given,
        )
        resume = None
        later = [name for name in self.works.frames(work) if int(name.partition("-")[0]) > _iteration(run)]
        self.works.remove_frames(work, later)
        painting = Painting(work, self.works, run, self.changed)
        if work.state != PAUSED:
            work.state = RUNNING
        with self.changed:
            self.now = painting
            if self.closing:  # since it was begun
                painting.tell("leave")
            self._show()
        self.works.keep(work)
        try:
            how = self._steps(run, painting, keeper)
        except (FloatingPointError, MemoryError):
            if not run.history:
                raise
            how = "failed"  # and the best picture so far is kept, as on the command line
        result = run.result()
        if how == "leave":
            self.works.keep(work)
            return
        if how == "stop" and result.ending.how == "left":
            result = replace(result, ending=Ending("left", result.stopped.replace("left ", "stopped ", 1)))
        self._keep(work, result)

    def _steps(self, run: SteeredRun, painting: Painting, keeper: TimedKeeper) -> str:
        while True:
            how: str = "go"
            value: Any = None
            with contextlib.closing(run.steps()) as steps:
                for step in steps:
                    painting.saw(step)
                    how, value = painting.wait(step)
                    del step  # what the optimizer forgets is not to be held here
                    if how != "go":
                        break
            if how == "turn":
                turned, picture, iteration = value
                run.turn(picture, iteration, **turned)
                keeper.hurry()
            elif how != "back":
                return how
            elif value in painting.frames:  # they are thinned out as it goes on
                painting.go_back(value)
                keeper.hurry()

    def _keep(self, work: Work, result: Result) -> None:
        result.save(self.works.path(work, "result.png"))
        self.works.write_log(work, result.history)
        work.state = DONE if result.ending.how in ("finished", "early") else KEPT
        work.why, work.changes = result.stopped, result.settings.get("changes", [])
        work.loss, work.seconds = result.settings["loss"], result.history[-1]["seconds"]
        work.size = (result.image.shape[1], result.image.shape[0])
        self.works.keep(work)
        self.works.path(work, "checkpoint.h5").unlink(missing_ok=True)
        self.works.end_frames(work)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - there is one studio, and it lives as long as the program
    def _network(self, name: str) -> VGG:
        return load_vgg(name, **self._device)  # type: ignore[arg-type]

    def _rates(self) -> Rates:
        with self._rates_lock:
            return _rates_of(str(self._device["device"]), self._device["threads"] or usable_cores())


@functools.cache
def _rates_of(device: str, threads: Any) -> Rates:
    """Measured once, before anything is painted beside it."""
    return measured_rates(device, threads)


def seen(studio: Studio) -> dict[str, Any]:
    """What a page shows of the works, JSON-serialisable."""
    with studio.changed:
        return {
            "works": [asdict(work) for work in reversed(studio.works.all())],
            "waiting": [work.id for work in studio.waiting],
            "gallery": studio.gallery,
        }


def file_stem(work: Work) -> str:
    """Of a download's name."""
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in work.title.lower())
    return "-".join(filter(None, words.split("-"))) or "picture"


def _iteration(run: SteeredRun) -> int:
    return run.history[-1]["iteration"] if run.history else 0


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
