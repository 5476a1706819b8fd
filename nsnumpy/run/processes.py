"""Many jobs, one after the other or in processes of their own; one that fails does not end the others."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..backend import DeviceError, device_errors
from ..ending import line_of
from ..files.writing import SIGNALS, held_back

Job = TypeVar("Job")
Made = TypeVar("Made")

_ENDED = (
    "its process ended: killed, for want of memory perhaps (try fewer jobs), or begun by a script without "
    "`if __name__ == '__main__':`"
)


class JobError(RuntimeError):
    """A job that could not be done; it can be pickled, as not every error can."""


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """What can go wrong with a job, as a `JobError` that says it in one line."""
    try:
        with device_errors():
            yield
    except MemoryError as error:
        why = line_of(error) if str(error) else "no details"
        raise JobError(f"out of memory ({why}); choose a smaller size") from error
    except (ValueError, ArithmeticError, OSError, DeviceError) as error:
        raise JobError(line_of(error)) from error
    except Exception as error:
        raise JobError(f"unexpected {type(error).__name__}: {line_of(error)} (a defect; please report it)") from error


def do_each(
    function: Callable[[Job], Made],
    jobs: Sequence[Job],
    done: Callable[[Job, Made | None, str], object],
    *,
    processes: int = 1,
    executor: concurrent.futures.Executor | None = None,
    begin: Callable[..., object] | None = None,
    given: Sequence[Any] = (),
) -> None:
    """Call `function` for each job, and `done` here as each of them ends, in whatever order.

    Parameters
    ----------
    function : function of a job
        It raises `JobError` if the job cannot be done.
    jobs : sequence
    done : function of the job, what was made of it (None if it failed), and why it failed
    processes : int >= 1
        1 calls it here, in this thread; more, in as many processes of their own, if there are as many jobs.
    executor : Executor, or None
        Where to call it instead. It stays open.
    begin, given : function, and its arguments
        Called first, once in each of these processes, or here; not by an executor.
    """

    def finish(job: Job, result: Callable[[], Made]) -> None:
        try:
            made = result()
        except JobError as error:
            done(job, None, str(error))
        except concurrent.futures.BrokenExecutor:
            done(job, None, _ENDED)
        except concurrent.futures.CancelledError:
            done(job, None, "the executor cancelled it")
        except Exception as error:
            if executor is None:
                raise
            done(job, None, f"the executor failed ({line_of(error)})")
        else:
            done(job, made, "")

    count = min(processes, len(jobs))
    if executor is None and count <= 1:
        if begin:
            begin(*given)
        for job in jobs:
            finish(job, lambda job=job: function(job))  # type: ignore[misc]
        return
    with _pool(count, begin, given) if executor is None else contextlib.nullcontext(executor) as pool:
        futures: dict[concurrent.futures.Future[Made], Job] = {}
        try:
            with held_back():
                futures |= {pool.submit(function, job): job for job in jobs}
            for future in concurrent.futures.as_completed(futures):
                finish(futures[future], future.result)
        finally:
            for future in futures:
                future.cancel()


@contextlib.contextmanager
def _pool(
    count: int, begin: Callable[..., object] | None, given: Sequence[Any]
) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """A pool of fresh processes, which an error or Ctrl-C here ends at once."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with held_back():  # a process of multiprocessing's own begins here
        pool = concurrent.futures.ProcessPoolExecutor(count, context, _begin_process, (begin, given))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        # One that was killed as it sent a result leaves half of it, and the pool would wait for the rest as long as
        # anybody could write it; this process, too.
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_process(begin: Callable[..., object] | None, given: Sequence[Any]) -> None:
    """Ctrl-C reaches every process of a terminal: this one leaves it to its parent, and ends when that has ended."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # which were held back while it began
    parent = multiprocessing.parent_process()
    assert parent is not None  # a process of a pool has one

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if begin:
        begin(*given)
