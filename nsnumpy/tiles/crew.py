"""Who does the tiles' work: this thread, the workers of an executor, or those of a cluster (cluster.py).

A job is a function of tile.py with its arguments after the network, and job number n is that of tile number n. What
comes back is taken in the order of the tiles, so that sums of it are the same to the last bit, whoever did the work and
whatever was ready first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

from ..backend import Array
from ..vgg import VGG
from .grid import Tile
from .tile import Asked, content_features

NETWORKS = 2  # that a process of an executor remembers
AHEAD = 4  # jobs that an executor has at a time

Job = tuple[Any, ...]


class Part:
    """An argument: what a tile sees of an array of the whole picture, or all of what is `whole`; of `dtype`, if given.

    Attributes
    ----------
    sent : object
        What a cluster knows it by.
    """

    def __init__(self, whole: Any, tile: Tile | None = None, dtype: Any = None) -> None:
        self.whole, self.tile, self.dtype = whole, tile, dtype
        self.sent: Any = None

    def value(self) -> Any:
        if self.tile is None:
            return self.whole
        seen = self.tile.of(self.whole)
        return seen if self.dtype is None else seen.astype(self.dtype, copy=False)


class Target:
    """An argument: what a tile compares with, which is the content picture's features, where they are kept, or else
    what it sees of the picture. In another process, to which it is pickled, they are made again."""

    def __init__(self, part: Part, asked: Asked, kept: Mapping[str, Array] | None = None) -> None:
        self.part, self.asked, self.kept = part, asked, kept
        self.sent: Any = None

    def value(self) -> Mapping[str, Array] | Array:
        return self.part.value() if self.kept is None else self.kept

    def __reduce__(self) -> Any:
        return Target, (Part(self.part.value()), self.asked)


class Crew:
    """This thread: one tile after the other."""

    def __init__(self, vgg: VGG) -> None:
        self.vgg = vgg

    def target(self, part: Part, asked: Asked, keep: bool) -> Target:
        """Of a part of the content picture; its features are to be kept, or not."""
        return Target(part, asked, content_features(self.vgg, asked, part.value()) if keep else None)

    def each(self, function: Callable[..., Any], jobs: Iterable[Job]) -> Iterator[Any]:
        """What the function gives for each job, in their order."""
        for job in jobs:
            yield function(self.vgg, *given(job))


class ExecutorCrew(Crew):
    """The workers of an executor, which have `ahead` jobs at a time.

    Its processes, if it has any, are told the network's name. One that does not know it says so, and gets the job again
    with the network itself: it goes once to each, also to one that comes later.
    """

    def __init__(self, vgg: VGG, executor: Executor, ahead: int) -> None:
        super().__init__(vgg)
        self._executor, self._ahead = executor, ahead
        self._named = Named(network_name(vgg), vgg)

    def target(self, part: Part, asked: Asked, keep: bool) -> Target:
        """Features are kept for threads: a process would have to be sent them."""
        return super().target(part, asked, keep and isinstance(self._executor, ThreadPoolExecutor))

    def each(self, function: Callable[..., Any], jobs: Iterable[Job]) -> Iterator[Any]:
        under_way: deque[tuple[Job, Any]] = deque()

        def finished() -> Any:
            job, future = under_way.popleft()
            if (result := future.result()) is None:
                result = self._executor.submit(introduced, self._named.name, self.vgg, function, job).result()
            return result

        for job in jobs:
            job = tuple(a.value() if isinstance(a, Part) else a for a in job)
            under_way.append((job, self._executor.submit(by_name, self._named, function, job)))
            if len(under_way) >= self._ahead:
                yield finished()
        while under_way:
            yield finished()


@runtime_checkable
class HasCrew(Protocol):
    """An executor with a way of its own, as a cluster."""

    def crew(self, vgg: VGG) -> Crew: ...


Sharing = Executor | HasCrew
"""What tiles are shared out by."""


def crew_of(vgg: VGG, executor: Sharing | None, ahead: int = AHEAD) -> Crew:
    """Who does the work: None is this thread."""
    if executor is None:
        return Crew(vgg)
    if isinstance(executor, HasCrew):
        return executor.crew(vgg)
    if not hasattr(executor, "submit"):
        raise ValueError(f"an executor, with `submit`, or a cluster expected; {executor!r} given")
    return ExecutorCrew(vgg, executor, ahead)


def network_name(vgg: VGG) -> str:
    """By which a network is known that gives the same numbers to the last bit, whatever its border."""
    made = vgg.architecture, vgg.pooling, vgg.dtype, vgg.convolution, vgg.tf32, vgg.xp.__name__, vgg.workers.threads
    return " ".join(map(str, (vgg.sha256, *made)))


class Named:
    """A network; in another process, to which it is pickled, the one that is known there by its name, or None."""

    def __init__(self, name: str, vgg: VGG | None = None) -> None:
        self.name = name
        self.vgg = _known.get(name) if vgg is None else vgg

    def __reduce__(self) -> Any:
        return Named, (self.name,)


_known: dict[str, VGG] = {}  # in this process, those that came from another one


def by_name(named: Named, function: Callable[..., Any], job: Job) -> Any:
    """What the function gives for a job; None if the network is not known here."""
    return None if named.vgg is None else function(named.vgg, *given(job))


def introduced(name: str, vgg: VGG, function: Callable[..., Any], job: Job) -> Any:
    """The same with the network itself, which is known here from now on."""
    while len(_known) >= NETWORKS and name not in _known:
        _known.pop(next(iter(_known)), None)
    return function(_known.setdefault(name, vgg), *given(job))


def given(job: Job) -> Job:
    """A job's arguments as its function takes them."""
    return tuple(a.value() if isinstance(a, Part | Target) else a for a in job)
