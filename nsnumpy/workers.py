"""Threads for the ops: each takes blocks of an op's work, and BLAS is held to one thread meanwhile.

The blocks are sized to stay in a core's cache. A BLAS that split each small product over all cores instead would spend
its time waiting; and where other programs run as well, its waiting threads would take the cores from them.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import OpenBLASController, ThreadpoolController

from .backend import Array, cache_bytes, get_xp
from .machine import usable_cores

Job = TypeVar("Job")
Done = TypeVar("Done")

BLOCK_BYTES = 8 << 20  # of scratch memory for a block; on several processors 4 to 32 MiB made no difference
MOST_THREADS = 1024
DEVICE_BLOCK_BYTES: int | None = None  # the same on a GPU; None: as `device_block_bytes` has it


def check_threads(threads: int) -> int:
    """The same; ValueError if so many cannot be."""
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads is 1 to {MOST_THREADS}, not {threads}")
    return threads


def device_block_bytes(xp: ModuleType) -> int:
    """As much as the GPU's second-level cache holds, so that a kernel finds there what the last one wrote; 256 MiB on
    cards where that is little, since each piece of work costs a few launches."""
    cache = cache_bytes(xp)
    return cache if cache >= 24 << 20 else 256 << 20


class Scratch:
    """The working memory of one thread: arrays that are handed out by name and used again, grown where need be."""

    def __init__(self) -> None:
        self._memory: dict[Any, Array] = {}

    def empty(self, name: str, shape: Sequence[int], like: Array) -> Array:
        """An array of the given shape, of like's dtype and namespace; whatever was in `name` before is lost."""
        return self._get(name, shape, like, "empty")

    def zeros(self, shape: Sequence[int], like: Array) -> Array:
        """An array of zeros, not to be written to."""
        return self._get("", shape, like, "zeros")

    def _get(self, name: str, shape: Sequence[int], like: Array, make: str) -> Array:
        xp, size = get_xp(like), math.prod(shape)
        key = (name, like.dtype, xp)
        memory = self._memory.get(key)
        if memory is None or memory.size < size:
            self._memory.pop(key, None)  # the old one goes before the new one comes
            memory = self._memory[key] = getattr(xp, make)(size, like.dtype)
        return memory[:size].reshape(shape)


Helpers = queue.SimpleQueue[Callable[[Scratch], None] | None]
"""The queue that helpers wait at to be called; None dismisses one."""


@contextlib.contextmanager
def _control_of_openblas() -> Iterator[None]:
    """Since 3.8, threadpoolctl ignores all threads but the first one that sets OpenBLAS's number, until that one ends.

    The thread that enters OneBlasThread first need not be the one that leaves it last, and either may find that a
    thread which asked once, long ago, is still alive: so control is taken before, and given up after.
    """
    clear = getattr(OpenBLASController, "clear_controlling_thread", None)
    if clear is None:
        yield
        return
    clear(force=True)
    try:
        yield
    finally:
        clear()


class OneBlasThread:
    """A context that holds BLAS to one thread; when the last one leaves it, BLAS is set back to what it was.

    The number of BLAS's threads belongs to the process, so the process has one such context, which may be entered from
    several threads and nested. While it is entered, it also overrides what other code in the process has set.
    """

    def __init__(self) -> None:
        self.libraries: ThreadpoolController | None = None
        self._with_scipy = False
        self._limit: Any = None
        self.begin()

    def begin(self) -> None:
        """As held by nobody: at first, and in a forked process, which has none of the threads that may have held it.

        The libraries stay: to look for them takes a lock of the system's, which a thread may have held at the fork.
        """
        self._lock = threading.RLock()  # from Python 3.14 on Ctrl-C may come as soon as it is taken, and leave it so:
        self._holders = 0  # the main thread, to which alone it comes, can take it again

    def __enter__(self) -> None:
        with self._lock:
            if not self._holders:
                with_scipy = "scipy.linalg" in sys.modules  # which may bring a BLAS of its own
                if self.libraries is None or with_scipy != self._with_scipy:
                    self.libraries, self._with_scipy = ThreadpoolController(), with_scipy
                with _control_of_openblas():
                    self._limit = self.libraries.limit(limits=1, user_api="blas")
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                with _control_of_openblas():
                    self._limit.restore_original_limits()


one_blas_thread = OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.begin)


def limit_openmp() -> None:
    """Where BLAS is built on OpenMP, the number of its threads belongs to the thread that calls it."""
    assert one_blas_thread.libraries is not None  # found already: `map` holds the context
    one_blas_thread.libraries.select(threading_layer="openmp").limit(limits=1)


class Blocks(Sequence[tuple[int, int]]):
    """0 ... length cut into `count` nearly equal (start, stop)."""

    def __init__(self, length: int, count: int) -> None:
        self._length, self._count = length, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: Any) -> Any:
        if not 0 <= k < self._count:
            raise IndexError(k)
        return k * self._length // self._count, (k + 1) * self._length // self._count

    @property
    def longest(self) -> int:
        """The length of the longest, by arithmetic: `plan` asks for sizes of which no list could be made."""
        return -(-self._length // self._count)


class _Shared:
    """Jobs that a thread shares out among itself and its helpers: each takes the next one when it has done one.

    All that waits here waits for a queue, whose lock is C's. Ctrl-C may come between any two steps of the main thread,
    and a lock that Python code takes, as that of a `concurrent.futures.Future`, may then stay locked for ever.
    """

    def __init__(self, function: Callable[[Any, Scratch], Any], jobs: Iterable[Any]) -> None:
        self._function: Any = function
        self._waiting = deque(enumerate(jobs))
        self._results: list[Any] = [None] * len(self._waiting)
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._at_work: deque[None] = deque()
        self._floating_point = np.geterr()  # it belongs to a thread

    def run(self, helpers: Helpers, count: int, scratch: Scratch) -> list[Any]:
        """All results; helpers, as many as `count`, are called by the queue that they wait at."""
        error = None
        left = len(self._results)
        try:
            for _ in range(count):
                helpers.put(self._help)
            for k, job in self._next():
                self._results[k] = self._function(job, scratch)
                left -= 1
            for _ in range(left):
                if (error := self._done.get()) is not None:
                    raise error
            return self._results
        except BaseException:  # Ctrl-C, too: leave no thread at work on arrays that the caller gives up
            self._waiting.clear()
            while self._at_work:
                time.sleep(1e-3)
            raise
        finally:
            self._function = error = None  # a helper that comes too late, and an error, are not to hold arrays

    def _help(self, scratch: Scratch) -> None:
        self._at_work.append(None)  # before it takes a job: once none is left to take, who is not here has none
        try:
            with np.errstate(**self._floating_point):
                for k, job in self._next():
                    self._results[k] = self._function(job, scratch)
                    self._done.put(None)
        except BaseException as error:
            self._done.put(error)
        finally:
            self._at_work.pop()

    def _next(self) -> Iterator[tuple[int, Any]]:
        while True:
            try:
                taken = self._waiting.popleft()
            except IndexError:
                return
            yield taken


def _serve(helpers: Helpers) -> None:
    """A helper's life: until it is called with None."""
    limit_openmp()
    scratch = Scratch()
    while (help := helpers.get()) is not None:
        help(scratch)
        del help  # which may be the last to know of large arrays


def _dismiss(helpers: Helpers, count: int) -> None:
    for _ in range(count):
        helpers.put(None)


class Workers:
    """A number of threads with their scratch memory: the one that calls, and its helpers.

    Parameters
    ----------
    threads : int >= 1, or None
        None takes the cores that this process may use.
    block_bytes : int
        How much scratch memory a block of work may take, roughly.

    Attributes
    ----------
    threads
        As many threads as work is cut up for. The last digits of what is summed over blocks depend on it, and it goes
        along to another process.
    at_work : int
        As many threads as share it: the same, but where the workers came from another process, no more than there are
        cores; and no more than the calling thread is held to.

    Raises
    ------
    ValueError
        If threads is less than 1, or more than `MOST_THREADS`.
    """

    def __init__(self, threads: int | None = None, block_bytes: int = BLOCK_BYTES) -> None:
        self.threads = usable_cores() if threads is None else check_threads(threads)
        self._here = self.threads  # in this process
        self.block_bytes = block_bytes
        self._local = threading.local()
        self._helpers: Helpers | None = None
        self._process = os.getpid()
        self._lock = threading.RLock()  # as in `OneBlasThread`

    def __reduce__(self) -> Any:
        return _arrived, (self.threads, self.block_bytes)

    @property
    def at_work(self) -> int:
        return min(self._here, getattr(self._local, "most", self._here))

    @contextlib.contextmanager
    def held_to(self, threads: int) -> Iterator[None]:
        """What the calling thread has to do is shared by no more threads meanwhile; the numbers stay the same."""
        before, self._local.most = self.at_work, threads
        try:
            yield
        finally:
            self._local.most = before

    def blocks(self, length: int, bytes_each: float, least: int = 1) -> Blocks:
        """0 ... length cut into nearly equal (start, stop), a multiple of the number of threads of them where possible.

        A block has about `block_bytes`, if one element needs `bytes_each`, but not fewer than `least` elements, unless
        a thread would stand idle.
        """
        most = max(1, least, int(self.block_bytes / bytes_each))
        count = -(-length // most)
        count = min(length, -(-count // self.threads) * self.threads)
        return Blocks(length, count)

    def map(self, function: Callable[[Job, Scratch], Done], jobs: Sequence[Job]) -> list[Done]:
        """``[function(job, scratch) for job in jobs]``, the jobs shared out among the threads."""
        with one_blas_thread:
            if self.at_work == 1 or len(jobs) == 1:
                return [function(job, self.scratch()) for job in jobs]
            count = min(self.at_work, len(jobs)) - 1
            return _Shared(function, jobs).run(self._waiting_helpers(), count, self.scratch())

    @classmethod
    def on(cls, xp: ModuleType, threads: int | None = None) -> Workers:
        """The workers for arrays of namespace xp: on a GPU it is one thread that launches large pieces of work."""
        return cls(threads) if xp is np else cls(1, DEVICE_BLOCK_BYTES or device_block_bytes(xp))

    def _waiting_helpers(self) -> Helpers:
        """The queue that they wait at to be called."""
        with self._lock:
            if self._helpers is None or self._process != os.getpid():  # a forked process has no threads but its own
                helpers: Helpers = queue.SimpleQueue()
                with contextlib.suppress(RuntimeError):  # where the system gives no more, fewer will do
                    for number in range(1, self._here):
                        threading.Thread(target=_serve, args=(helpers,), name=f"nsnumpy-{number}", daemon=True).start()
                weakref.finalize(self, _dismiss, helpers, self._here - 1)
                self._process, self._helpers = os.getpid(), helpers
            return self._helpers

    def scratch(self) -> Scratch:
        """That of the thread that calls."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch()
        return self._local.scratch


def _arrived(threads: int, block_bytes: int) -> Workers:
    """Workers that come from another process."""
    workers = Workers(threads, block_bytes)
    workers._here = min(threads, usable_cores())
    return workers
