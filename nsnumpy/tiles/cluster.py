"""Tiles on many machines, through Dask distributed.

A tile has a home, the worker that makes it, and what it compares with stays there. Everything that is not small goes
between this process and the workers, or from one worker to another, and not through the scheduler. What is held by
workers can be sent or made again from here, so a worker that dies takes nothing with it: its tiles get another home.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import pkgutil
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .._version import __version__
from ..backend import DeviceError, to_host
from ..ending import line_of
from ..machine import usable_cores
from ..vgg import VGG
from .crew import Crew, Job, Part, Target, network_name
from .tile import Asked, content_features

ATTEMPTS = 8  # workers that a tile may outlive
POLL = 5.0  # seconds after which a worker that has not answered is looked for
PATIENCE = 60.0  # seconds that a run without workers waits for one, and for a result to come across


class ClusterError(DeviceError):
    """The cluster that was asked for cannot be had, or is there no more."""


class WorkerWarning(UserWarning):
    """A worker that is left out, or that is waited for."""


class Cluster:
    """A cluster's workers, for `TiledObjective` and whatever takes one.

    Parameters
    ----------
    client : distributed.Client
        Of the user's own, which stays open; see `open_cluster` for an address.
    threads : int, or None
        That each worker takes for a tile; None takes the cores of its machine, shared out among the tiles that it makes
        at a time. The numbers do not depend on it.

    Raises
    ------
    ClusterError
        If no worker has this version of nsnumpy.
    """

    def __init__(self, client: Any, threads: int | None = None) -> None:
        self.client, self.threads = client, threads
        self.workers: dict[str, int] = {}  # and how many tiles they make at a time
        self._refused: dict[str, str] = {}
        self._told: set[str] = set()  # which of them were
        self._had = False  # whether there was one that can be used
        self._networks: dict[str, Part] = {}
        self.renew: Callable[[], object] = lambda: None  # begins anew the workers that are ours, and have ended
        self.closing = contextlib.ExitStack()
        self.look()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers go; those of ``local:N`` end."""
        self._networks.clear()
        self.closing.close()

    def crew(self, vgg: VGG) -> ClusterCrew:
        """What an objective's tiles are done by."""
        return ClusterCrew(self, vgg)

    def look(self) -> dict[str, int]:
        """The workers that can be used now, and how many tiles each makes at a time; waits for one if there is none.

        Raises
        ------
        ClusterError
            If none comes, or there is no scheduler.
        """
        began, told = time.monotonic(), False
        while True:
            try:
                self.renew()
                there = self.client.sync(self.client.scheduler.ncores_running)  # but for those that have paused
                gone = self._check([address for address in there if address not in self.workers])
            except (OSError, RuntimeError, AttributeError) as error:  # which a client that was closed has no more
                raise ClusterError(f"the cluster's scheduler cannot be reached any more ({line_of(error)})") from error
            self.workers = {address: threads for address, threads in there.items() if address not in gone}
            if self.workers:
                self._had = True  # and may come again: a worker that ends is begun anew by its nanny
                for address in sorted(self._refused.keys() - self._told):
                    warnings.warn(f"{self._refused[address]}; it is left out", WorkerWarning, stacklevel=3)
                self._told = {*self._refused}
                return self.workers
            refused = [line for at, line in self._refused.items() if at in there]
            waited = time.monotonic() - began
            if refused and (not self._had or waited > PATIENCE):
                raise ClusterError("; ".join(refused))
            none = "the cluster has no workers, or none that has memory left"
            if not told and (not self._had or waited > POLL):  # a local worker that has ended is there again before
                told = True
                warnings.warn(f"{none}; waiting {PATIENCE:.0f} s for one", WorkerWarning, stacklevel=3)
            if waited > PATIENCE:
                raise ClusterError(f"{none}: start one with `dask worker` and the scheduler's address")
            time.sleep(0.2)

    def network(self, vgg: VGG) -> Part:
        """A network, known to the workers by its name."""
        return self._networks.setdefault(network_name(vgg), Part(vgg))

    def _check(self, new: Sequence[str]) -> set[str]:
        """Those that cannot be used, of each of which it is known why."""
        new = [address for address in new if address not in self._refused]
        if not new:
            return {*self._refused}
        # A function of Python's own: a worker that has no nsnumpy could not read one of ours.
        try:
            found = self.client.run(pkgutil.resolve_name, "nsnumpy:__version__", workers=new, on_error="return")
        except OSError:  # one has gone, and the others are asked again
            return {*new, *self._refused}
        gone = {address for address, version in found.items() if isinstance(version, OSError)}
        for address, version in found.items():
            if version == __version__ or address in gone:
                continue
            if isinstance(version, ModuleNotFoundError):
                wrong = f"has no {version.name or 'nsnumpy'}: install nsnumpy {__version__} there, with its packages"
            elif isinstance(version, BaseException):
                wrong = f"cannot import nsnumpy ({line_of(version)})"
            else:
                wrong = f"has nsnumpy {version}, and this is {__version__}: install the same there"
            self._refused[address] = f"worker {address} {wrong}"
        return gone | self._refused.keys()


@dataclass
class _UnderWay:
    """A job that a worker has."""

    number: int
    job: Job
    future: Any = None
    attempts: int = 0
    lost: str = ""


class ClusterCrew(Crew):
    """A cluster's workers, each with its own tiles."""

    def __init__(self, cluster: Cluster, vgg: VGG) -> None:
        super().__init__(vgg)
        self._cluster, self._homes = cluster, dict[int, str]()
        self._network = cluster.network(vgg)

    def target(self, part: Part, asked: Asked, keep: bool) -> Target:
        return Target(part, asked, {} if keep else None)  # where it is kept is another matter

    def each(self, function: Callable[..., Any], jobs: Iterable[Job]) -> Iterator[Any]:
        self._settle()
        ahead = 2 * sum(self._cluster.workers.values())
        under_way: deque[_UnderWay] = deque()
        for number, job in enumerate(jobs):
            under_way.append(one := _UnderWay(number, job))
            self._begin(function, one)
            if len(under_way) >= ahead:
                yield self._end(function, under_way)
        while under_way:
            yield self._end(function, under_way)

    def _settle(self) -> None:
        self._homes = settled(self._homes, self._cluster.look())

    def _home(self, number: int) -> str:
        if number not in self._homes:
            self._homes = settled(self._homes, self._cluster.workers, [number])
        return self._homes[number]

    def _begin(self, function: Callable[..., Any], one: _UnderWay) -> None:
        """Give a job to its worker; if that fails, it is lost."""
        home = self._home(one.number)
        one.attempts += 1
        try:
            one.future = self._submit(home, function, *(self._sent(home, a) for a in one.job))
        except _lost() as error:
            one.future, one.lost = None, line_of(error)
            self._settle()  # for the jobs to come

    def _end(self, function: Callable[..., Any], under_way: deque[_UnderWay]) -> Any:
        """What the first job gives, which is begun again as often as its worker is lost."""
        import distributed

        one = under_way[0]
        while True:
            try:
                if one.future is not None:
                    distributed.wait([one.future], timeout=POLL)
                    result = one.future.result(timeout=PATIENCE)  # it is made; here it comes
                    under_way.popleft()
                    return result
            except MemoryError as error:
                raise MemoryError(f"worker {self._homes[one.number]}: {line_of(error)}") from error
            except _lost() as error:
                if one.future.status == "error" and not isinstance(error, distributed.KilledWorker):  # the work's own
                    raise ClusterError(f"worker {self._homes[one.number]}: {line_of(error)}") from error
                one.lost = line_of(error)
                if isinstance(error, asyncio.TimeoutError):
                    if self._homes[one.number] in self._cluster.look():
                        continue
                    one.lost = "it has left, or it has paused, its memory being full"
            if one.attempts >= ATTEMPTS:
                raise ClusterError(
                    f"tile {one.number + 1} has lost {one.attempts} workers, for want of memory perhaps: choose a "
                    f"smaller tile, or workers with more memory ({one.lost})"
                )
            time.sleep(min(2.0**one.attempts / 20, 5.0))  # until the scheduler has noticed
            self._settle()
            for other in under_way:  # what went with the same worker does not wait for its turn
                if other is one or other.future is None or other.future.status in ("cancelled", "lost"):
                    self._forget(other)
                    self._begin(function, other)

    def _submit(self, home: str, function: Callable[..., Any], *arguments: Any) -> Any:
        network = self._sent(home, self._network)
        return self._cluster.client.submit(
            on_worker, network, self._cluster.threads, function, *arguments, workers=[home], pure=False
        )

    def _sent(self, home: str, argument: Any) -> Any:
        """An argument as the workers know it: what is large is sent once, and made once."""
        if isinstance(argument, Target) and argument.kept is None:
            return self._sent(home, argument.part)
        if isinstance(argument, Target) and argument.sent is None:
            argument.sent = self._submit(home, content_features, argument.asked, self._sent(home, argument.part))
            argument.part.sent = None
        if isinstance(argument, Part) and argument.sent is None:
            value = argument.value() if argument.tile is None else to_host(argument.value())
            # To one worker: the others have it from each other. (Dask's broadcast waits for ever for one that died.)
            scatter = self._cluster.client.scatter
            (argument.sent,) = scatter([value], workers=[home], direct=True, hash=False, timeout=1)  # to look for it
        return argument.sent if isinstance(argument, Part | Target) else argument

    def _forget(self, one: _UnderWay) -> None:
        """Of what the job needs, what no worker has any more."""
        parts = [a for a in (self._network, *one.job) if isinstance(a, Part | Target)]
        parts += [a.part for a in parts if isinstance(a, Target)]
        for part in parts:
            if part.sent is not None:
                try:
                    held = part.sent.status == "finished" and self._cluster.client.who_has([part.sent])[part.sent.key]
                except _lost():
                    held = ()
                part.sent = part.sent if held else None


def on_worker(vgg: VGG, threads: int | None, function: Callable[..., Any], *arguments: Any) -> Any:
    """A job, on a worker."""
    if threads is None:
        from distributed import get_worker

        threads = usable_cores() // get_worker().state.nthreads
    with vgg.workers.held_to(max(1, threads)):  # an in-process worker has the network of whoever asks
        return function(vgg, *arguments)


def settled(homes: Mapping[int, str], workers: Mapping[str, int], new: Iterable[int] = ()) -> dict[int, str]:
    """The tiles' homes: each stays with its worker, but for those whose worker is there no more, and for as many as
    another one needs to have its share.

    Parameters
    ----------
    homes : mapping from tiles to workers
    workers : mapping from workers, one at least, to the tiles that they make at a time
    new : tiles that have no home yet

    Examples
    --------
    >>> settled({}, {"a": 1, "b": 1}, range(4))
    {0: 'a', 1: 'b', 2: 'a', 3: 'b'}
    >>> settled({0: "a", 1: "b", 2: "a", 3: "b"}, {"b": 1, "c": 1})
    {0: 'c', 1: 'b', 2: 'c', 3: 'b'}
    """
    has: dict[str, list[int]] = {worker: [] for worker in workers}
    homeless = [*(n for n, worker in homes.items() if worker not in has), *new]
    for n, worker in homes.items():
        if worker in has:
            has[worker].append(n)

    def with_one_more(worker: str) -> float:
        return (len(has[worker]) + 1) / workers[worker]

    for n in homeless:
        has[min(workers, key=with_one_more)].append(n)
    while True:
        most = max(workers, key=lambda worker: len(has[worker]) / workers[worker])
        least = min(workers, key=with_one_more)
        if with_one_more(least) >= len(has[most]) / workers[most]:
            break
        has[least].append(has[most].pop())
    return dict(sorted((n, worker) for worker, tiles in has.items() for n in tiles))


def _lost() -> tuple[type[Exception], ...]:
    """What says that a worker, or what it had, is there no more."""
    import distributed

    return OSError, concurrent.futures.CancelledError, distributed.KilledWorker, asyncio.TimeoutError
