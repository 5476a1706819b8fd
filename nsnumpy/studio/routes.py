"""What a page may ask for, and what it gets."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

from .._version import __version__
from ..ending import line_of
from ..files.weight_sources import DATA
from ..run.plan import Plan
from ..study.report.log import write_log_report
from . import pictures as kept
from . import works
from .answers import POLICY, Answer, Refused, Request, Stream, json_answer
from .ask import Ask, networks, settings_table, weights_table
from .studio import NotNowError, Studio, file_stem, seen

MOST_JSON = 256 << 10
HEARTBEAT = 10.0  # seconds
KINDS = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
TOLD = {"pause": (), "go": (), "stop": (), "change": ("changes",), "back": ("frame",)}
_AGAIN = (("Cache-Control", "private, max-age=86400"),)


class Page:
    """The page's files and everything that it asks a studio for.

    Parameters
    ----------
    studio : Studio
    begin : dict
        What the page begins with: "photo" and "styles", ids of pictures.
    """

    def __init__(self, studio: Studio, begin: dict[str, Any]) -> None:
        self._studio, self._begin = studio, begin
        folder = DATA / "studio"
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix[1:] in KINDS}
        self._reporting = threading.Lock()

    def __call__(self, request: Request) -> Answer | Stream:
        """The answer to a request; raises `Refused`."""
        path = unquote(request.path)
        for method, pattern, answer in _ROUTES:
            if found := re.fullmatch(pattern, path):
                if method != request.method:
                    raise Refused(405, f"{method} is wanted here")
                try:
                    return answer(self, request, *found.groups())
                except NotNowError as error:
                    raise Refused(409, str(error)) from error
                except (ValueError, TypeError) as error:
                    raise Refused(400, line_of(error)) from error
                except (OSError, MemoryError) as error:
                    raise Refused(500, line_of(error) if str(error) else "out of memory") from error
        raise Refused(404, "there is no such thing here")

    def _file(self, _: Request, name: str = "index.html") -> Answer:
        if name not in self._files:
            raise Refused(404, "there is no such file")
        return Answer(self._files[name], KINDS[name.rpartition(".")[2]])

    def _start(self, _: Request) -> Answer:
        return json_answer(
            {
                "version": __version__,
                "begin": self._begin,
                "pictures": [asdict(picture) for picture in self._studio.pictures.all()],
                "settings": settings_table(),
                "networks": networks(),
                "weights": weights_table(),
                "most": {"bytes": kept.MOST_BYTES, "pixels": kept.MOST_PIXELS},
            }
        )

    def _works(self, _: Request) -> Answer:
        return json_answer(seen(self._studio))

    def _events(self, _: Request) -> Stream:
        return Stream(self._follow)

    def _follow(self, send: Callable[[str], bool]) -> None:
        """Each time the newest alone: a page that is slow misses what came between, and nothing waits for it."""
        studio, last, run, epoch, sent = self._studio, "", None, -1, 0
        while not studio.closing:
            with studio.changed:
                painting, number = studio.now, studio.changed.number
                if painting is not run or (painting and painting.epoch != epoch):
                    run, epoch, sent = painting, painting.epoch if painting else -1, 0
                state: dict[str, Any] = {"gallery": studio.gallery, "now": None}
                points: list[Any] = []
                if painting:
                    painting.watched = time.monotonic()
                    points = painting.points[sent:]
                    state["now"] = painting.seen()
            text = json.dumps(state)
            if text != last or points:
                if not send(f"data: {json.dumps({**state, 'points': points, 'from': sent})}\n\n"):
                    return
                last, sent = text, sent + len(points)
            elif not send(":\n\n"):
                return
            time.sleep(0.1)
            with studio.changed:
                studio.changed.after(number, 2.0 if run else HEARTBEAT)

    def _bring(self, request: Request) -> Answer:
        name = request.query.get("name", "picture")[:200]
        return json_answer(
            asdict(self._studio.pictures.add(name, request.read(kept.MOST_BYTES), "mask" in request.query))
        )

    def _shown(self, request: Request, id: str) -> Answer:
        size = kept.THUMB if "thumb" in request.query else kept.SHOWN
        return Answer(self._found(lambda: self._studio.pictures.shown(id, size)), "image/jpeg", _AGAIN)

    def _plan(self, request: Request) -> Answer:
        ask = Ask.read(_json(request), self._studio.pictures)
        return json_answer(_told(self._studio.plan(ask)))

    def _add(self, request: Request) -> Answer:
        ask = Ask.read(_json(request), self._studio.pictures)
        return json_answer(asdict(self._studio.add(ask)), 201)

    def _tell(self, request: Request, id: str, what: str) -> Answer:
        self._work(id)
        given, wanted = _json(request), TOLD[what]
        if not isinstance(given, dict) or set(given) != set(wanted):
            raise ValueError(f"an object with {', '.join(wanted) or 'nothing'} expected")
        self._studio.tell(id, what, next(iter(given.values()), None))
        return json_answer({})

    def _remove(self, request: Request, id: str) -> Answer:
        request.read(MOST_JSON)
        self._work(id)
        self._studio.remove(id)
        return json_answer({})

    def _one(self, _: Request, id: str) -> Answer:
        work = self._work(id)
        return json_answer(
            {
                **asdict(work),
                "points": self._studio.points(work),
                "command": self._studio.command(work),
                "frames": self._studio.works.frames(work),
            }
        )

    def _picture(self, request: Request, id: str) -> Answer:
        work = self._work(id)
        data = self._found(lambda: self._studio.works.result_of(id).read_bytes())
        if "download" in request.query:
            return Answer(data, "image/png", (_attached(f"{file_stem(work)}.png"),))
        return Answer(data, "image/png", _AGAIN)

    def _thumb(self, _: Request, id: str) -> Answer:
        self._work(id)
        data = self._found(lambda: works.thumb(self._studio.works.result_of(id), kept.THUMB))
        return Answer(data, "image/jpeg", _AGAIN)

    def _live(self, _: Request, id: str) -> Answer:
        painting = self._studio.now
        if painting is None or painting.work.id != id or (data := painting.live()) is None:
            raise Refused(404, "there is no picture yet")
        return Answer(data, "image/jpeg")

    def _frame(self, _: Request, id: str, name: str) -> Answer:
        path = self._studio.works.path(self._work(id), f"frames/{name}.jpg")
        return Answer(self._found(path.read_bytes), "image/jpeg", _AGAIN)

    def _report(self, _: Request, id: str) -> Answer:
        work = self._work(id)
        path = self._studio.works.path(work, "report.html")
        with self._reporting:
            if not path.is_file():
                try:
                    write_log_report(path, self._studio.works.history(work), self._studio.works.result_of(id))
                except ValueError as error:
                    raise Refused(409, str(error).replace(str(path.parent), "")) from error
            own = ("Content-Security-Policy", f"sandbox; {POLICY}")
            return Answer(path.read_bytes(), KINDS["html"], (_attached(f"{file_stem(work)}.html"), own))

    def _work(self, id: str) -> works.Work:
        return self._found(lambda: self._studio.works.get(id))

    def _found(self, look: Callable[[], Any]) -> Any:
        """404 for what is not there."""
        try:
            return look()
        except (ValueError, FileNotFoundError) as error:
            raise Refused(404, str(error) if isinstance(error, ValueError) else "it is gone") from error


def _json(request: Request) -> Any:
    try:
        return json.loads(request.read(MOST_JSON).decode())
    except (ValueError, RecursionError) as error:
        raise Refused(400, "JSON expected") from error


def _attached(name: str) -> tuple[str, str]:
    return "Content-Disposition", f'attachment; filename="{name}"'


def _told(plan: Plan) -> dict[str, Any]:
    return {
        "width": plan.size[1],
        "height": plan.size[0],
        "bytes": plan.peak_bytes,
        "seconds": plan.total_seconds,
        "iterations": plan.iterations,
        "scales": plan.scales,
        "fits": plan.fits,
        "largest": plan.largest_size,
        "notes": plan.notes,
    }


_WORK = f"/api/works/({works.ID})"
_ROUTES: list[tuple[str, str, Callable[..., Answer | Stream]]] = [
    ("GET", "/", Page._file),
    ("GET", r"/([a-z]+\.(?:css|js|svg))", Page._file),
    ("GET", "/api/start", Page._start),
    ("GET", "/api/events", Page._events),
    ("POST", "/api/pictures", Page._bring),
    ("GET", f"/api/pictures/({kept.ID}|sample:[a-z-]+)", Page._shown),
    ("POST", "/api/plan", Page._plan),
    ("POST", "/api/paint", Page._add),
    ("GET", "/api/works", Page._works),
    ("GET", _WORK, Page._one),
    ("GET", f"{_WORK}/picture", Page._picture),
    ("GET", f"{_WORK}/thumb", Page._thumb),
    ("GET", f"{_WORK}/live", Page._live),
    ("GET", f"{_WORK}/frames/({works.FRAME})", Page._frame),
    ("GET", f"{_WORK}/report", Page._report),
    ("POST", f"{_WORK}/remove", Page._remove),
    ("POST", f"{_WORK}/({'|'.join(TOLD)})", Page._tell),
]
