"""Many photographs in one style: what they have in common is read and made once, and each result is known again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..architecture import network_digest
from ..files.checkpoint import digest
from ..files.images import Source, opened, read_settings
from ..files.weights import WeightFile, load_vgg
from ..tiles.crew import HasCrew
from .inputs import Styles, named
from .processes import do_each, failing
from .results import Callback, Result, check_ended
from .run import Run
from .settings import COARSE, FINEST, INITS, ONE_SCALE, settings_of
from .shared import StyleTargets

KEY = "key"  # in a result's record: a digest of all that determined it


@dataclass(frozen=True)
class Task:
    """What is done to each photograph.

    Attributes
    ----------
    style : Source, or list of (Source, weight)
        They are read already, so that nothing is read anew for each photograph.
    settings : dict
        Of a transfer; a picture as `init` is a Source, too.
    weights : WeightFile
    network : dict
        What else `load_vgg` takes.
    means : dict
        tile and memory_pairs, as `Run` takes them.
    """

    style: Styles
    settings: dict[str, Any]
    weights: WeightFile
    network: dict[str, Any]
    means: dict[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """A digest of all that determines the results but for the photographs; threads and devices do no more than
        round otherwise."""
        s = settings_of("transfer", **self.settings).completed("transfer")
        determines = {
            "network": network_digest(self.weights.weights, self.weights.preprocessing),
            **{name: self.network.get(name) for name in ("pooling", "dtype", "tf32")},
            "styles": [(_seen(opened(one.picture)), one.weight) for one in named("style", self.style)],
            **({} if self.means.get("memory_pairs") is None else {"memory_pairs": self.means["memory_pairs"]}),
            "settings": vars(s) | {"init": s.init if s.init in INITS else _seen(opened(s.init))},
            # How many there are, depends on the photograph's size, too.
            **({"default iterations": [ONE_SCALE, COARSE, FINEST]} if s.iterations is None else {}),
        }
        return digest(json.dumps(determines, sort_keys=True))


def key_of(task_key: str, photo: Path) -> str:
    """The key of a photograph's result; OSError if the file cannot be read."""
    return hashlib.sha256(task_key.encode() + photo.read_bytes()).hexdigest()


def made_by(path: Path, key: str) -> bool:
    """Whether the picture there was made of the same photograph, in the same way."""
    try:
        return read_settings(path).get(KEY) == key
    except (ValueError, OSError, AttributeError):
        return False


def with_key(result: Result, key: str) -> Result:
    """The result with its key in its record."""
    return replace(result, settings=result.settings | {KEY: key})


def paint_each(
    task: Task,
    photos: Sequence[Path],
    done: Callable[[Path, Result | None, str], object],
    *,
    processes: int = 1,
    cluster: HasCrew | None = None,
    callback: Callback | None = None,
) -> None:
    """Paint each photograph, and call `done` as each of them ends; see `do_each`. A cluster has the tiles of one after
    the other. `callback` hears of each step that is made in this process."""
    if min(processes, len(photos)) > 1:

        def told(photo: Path, made: tuple[Result, list[str]] | None, failure: str) -> None:
            result, notes = made or (None, [])
            for note in notes:
                warnings.warn(note, stacklevel=2)
            done(photo, result, failure)

        do_each(_paint, photos, told, processes=processes, begin=_begin, given=(task,))
    elif photos:
        painter = _Painter(task, cluster)
        do_each(lambda photo: painter.paint(photo, callback), photos, done)


class _Painter:
    """Does a task; its network is made once, and so are the style's targets, if they are the same for all."""

    def __init__(self, task: Task, cluster: HasCrew | None = None) -> None:
        self._task, self._cluster = task, cluster
        self._vgg = load_vgg(task.weights, **task.network)
        s = settings_of("transfer", **task.settings)
        alike = s.size is not None and s.colors not in ("photo", "luminance")
        self._targets = StyleTargets() if alike else None

    def paint(self, photo: Path, callback: Callback | None = None) -> Result:
        with failing():
            pictures: dict[str, Styles] = {"content": photo, "style": self._task.style}
            options = self._task.settings | self._task.means
            run = Run("transfer", pictures, vgg=self._vgg, targets=self._targets, executor=self._cluster, **options)
            result = run.go(callback)
            check_ended(result)
            return result


_painter: list[_Painter] = []  # of a process of its own


def _begin(task: Task) -> None:
    _painter[:] = [_Painter(task)]


def _paint(photo: Path) -> tuple[Result, list[str]]:
    """The result, and the warnings that came meanwhile, for the process that began this one."""
    with warnings.catch_warnings(record=True) as caught:
        return _painter[0].paint(photo), [str(warning.message) for warning in caught]


def _seen(source: Source) -> str:
    """A digest of what was decoded: not at the size of the run, for which there may be no room."""
    return digest(source.at(source.held), str(source.shape))
