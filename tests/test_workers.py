import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nsnumpy import VGG, machine
from nsnumpy import workers as module
from nsnumpy.machine import usable_cores
from nsnumpy.workers import Scratch, Workers, one_blas_thread


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_results_come_in_order_and_every_thread_helps():
    seen = set()

    def job(n, scratch):
        seen.add(threading.get_ident())
        time.sleep(0.005)
        return n * n

    assert Workers(3).map(job, range(12)) == [n * n for n in range(12)]
    assert len(seen) == 3
    assert threading.get_ident() in seen


def test_one_thread_is_the_calling_thread():
    assert Workers(1).map(lambda n, _: threading.get_ident(), [1, 2]) == [threading.get_ident()] * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_is_held_to_one_thread_and_set_back(threads):
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        inside = Workers(threads).map(lambda n, _: blas_threads(), range(4))
        assert all(set(counts) == {1} for counts in inside)
        assert blas_threads() == before
        workers = Workers(threads)
        with pytest.raises(ZeroDivisionError):
            workers.map(lambda n, _: 1 / n, [1, 0, 1])
        assert blas_threads() == before
        with one_blas_thread:
            workers.map(lambda n, _: n, range(4))
            assert set(blas_threads()) == {1}
        assert blas_threads() == before


def test_blas_is_set_back_when_the_last_of_several_threads_is_done():
    """Two passes that overlap: neither may take the other's limit for the caller's setting, whichever lives on."""
    first_in, second_in, first_out, checked = (threading.Event() for _ in range(4))
    seen = []

    def first():
        with one_blas_thread:
            first_in.set()
            second_in.wait(10)
        first_out.set()
        checked.wait(10)

    def second():
        first_in.wait(10)
        with one_blas_thread:
            second_in.set()
            first_out.wait(10)
            seen.extend(blas_threads())

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        threads[1].join()
        after = blas_threads()  # the thread that set the limit is still alive, the one that left last is not
        checked.set()
        threads[0].join()
    assert set(seen) == {1}
    assert after == before


def test_blas_is_held_in_a_thread_whoever_has_set_it_before():
    with threadpool_limits(2, user_api="blas"):  # this thread now has the say over OpenBLAS, for threadpoolctl
        before = blas_threads()
        seen = []
        thread = threading.Thread(target=lambda: seen.append(Workers(2).map(lambda n, _: blas_threads(), range(4))))
        thread.start()
        thread.join()
        assert all(set(counts) == {1} for counts in seen[0])
        assert blas_threads() == before
        threadpool_limits(1, user_api="blas")  # and it still has
        assert set(blas_threads()) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
def test_a_forked_process_has_threads_of_its_own():
    workers = Workers(2)
    workers.map(lambda n, _: n, range(4))
    child = os.fork()
    if not child:  # leave without pytest's cleaning up, whatever happens
        with contextlib.suppress(BaseException):
            module.ThreadpoolController = None  # it would take a lock that a thread may have held at the fork
            os._exit(0 if workers.map(lambda n, _: n, range(4)) == [0, 1, 2, 3] else 1)
        os._exit(2)
    deadline = time.monotonic() + 60
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(done[1]) == 0


def test_a_thread_is_held_to_fewer_threads_and_no_other_is():
    workers, seen = Workers(4), []

    def look(barrier, _):
        seen.append(threading.get_ident())
        barrier.wait()

    def at_once(threads):
        seen.clear()
        workers.map(look, [threading.Barrier(threads, timeout=60)] * threads)
        return len(set(seen))

    assert at_once(4) == 4
    with workers.held_to(2):
        assert workers.at_work == 2
        assert list(workers.blocks(100, 1)) == list(Workers(4).blocks(100, 1))
        assert at_once(2) == 2
        with pytest.raises(threading.BrokenBarrierError):
            workers.map(look, [threading.Barrier(3, timeout=0.3)] * 3)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(lambda: workers.at_work).result() == 4
        with workers.held_to(1):
            assert (workers.at_work, at_once(1)) == (1, 1)
        with workers.held_to(9):
            assert workers.at_work == 4
        assert workers.at_work == 2
    assert (workers.at_work, at_once(4)) == (4, 4)


def test_an_error_is_raised_once_no_thread_is_at_work_any_more():
    running, ran = [], []

    def job(n, scratch):
        if n == 0:
            raise ValueError("first")
        ran.append(n)
        running.append(n)
        time.sleep(0.05)
        running.remove(n)

    with pytest.raises(ValueError, match="first"):
        Workers(2).map(job, range(50))
    assert running == []
    assert len(ran) < 10  # the others were called off


INTERRUPTED = """
import sys

from nsnumpy.workers import Workers

busy = []

def job(n, scratch):
    busy.append(n)
    busy.remove(n)
    return n

def interrupt_at(step):
    left = [step]

    def profile(frame, event, _):
        if frame.f_globals["__name__"] in ("__main__", "threadpoolctl"):  # whose lock Ctrl-C can leave locked
            return
        if event in ("call", "c_return"):  # where Python looks for signals
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    return profile

workers = Workers(2)
workers.map(job, range(4))
interrupted = step = 0
while interrupted == step:
    step += 1
    sys.setprofile(interrupt_at(step))
    try:
        workers.map(job, range(4))
    except KeyboardInterrupt:
        interrupted += 1
    finally:
        sys.setprofile(None)
    assert not busy, step
    assert workers.map(job, range(4)) == [0, 1, 2, 3], step
print(interrupted)
"""


def test_ctrl_c_at_any_step_leaves_no_thread_at_work_and_none_waiting():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20


def test_a_network_has_the_threads_that_were_asked_for(tiny_weights, monkeypatch):
    names = set()
    original = Workers.map

    def spy(self, function, jobs):
        def seen(job, scratch):
            names.add(threading.current_thread().name)
            time.sleep(0.01)  # so that one thread alone does not finish them all
            return function(job, scratch)

        return original(self, seen, jobs)

    monkeypatch.setattr(Workers, "map", spy)
    x = np.random.default_rng(0).random((96, 128, 3), dtype="float32")
    for threads in (1, 2):
        names.clear()
        VGG(tiny_weights, xp=np, threads=threads).forward(x, ["conv2_1"])
        assert len(names) == threads


def test_a_threads_scratch_memory_stays_with_it():
    workers, like, seen = Workers(1), np.zeros(1), set()
    workers.map(lambda n, scratch: seen.add(id(scratch.empty("a", (3,), like).base)), range(3))
    assert len(seen) == 1


def test_the_callers_floating_point_settings_hold_in_the_threads():
    def job(n, scratch):
        return np.geterr()["over"]

    with np.errstate(over="raise"):
        assert Workers(2).map(job, range(4)) == ["raise"] * 4


def test_blocks_cover_everything_once():
    for length in (1, 2, 7, 64, 1000):
        for threads in (1, 2, 5):
            for size in (1, 100, 1 << 20):
                blocks = Workers(threads, size).blocks(length, 10, least=3)
                assert [i for start, stop in blocks for i in range(start, stop)] == list(range(length))
                assert len(blocks) % threads == 0 or len(blocks) == length
                assert blocks.longest == max(stop - start for start, stop in blocks)
    assert list(Workers(1, 1000).blocks(1000, 10)) == [(100 * k, 100 * k + 100) for k in range(10)]
    assert list(Workers(1, 10).blocks(9, 10, least=3)) == [(0, 3), (3, 6), (6, 9)]


def test_scratch_memory_is_used_again_and_grows():
    scratch, like = Scratch(), np.zeros(1, "float32")
    small = scratch.empty("a", (4, 5), like)
    assert (small.shape, small.dtype) == ((4, 5), np.float32)
    assert np.shares_memory(small, scratch.empty("a", (3, 2), like))
    assert not np.shares_memory(small, scratch.empty("b", (3, 2), like))
    assert not np.shares_memory(small, scratch.empty("a", (3, 2), np.zeros(1)))
    assert scratch.empty("a", (50, 50), like).size == 2500
    assert not scratch.zeros((30, 2), like).any()


def test_the_default_is_the_cores_that_the_process_may_use(monkeypatch, tmp_path):
    assert Workers().threads == usable_cores() >= 1
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for text, expected in (("250000 100000", 3), ("max 100000", 6), ("900000 100000", 6), ("1000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "cpu.max")
        assert usable_cores() == expected
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    assert usable_cores() == 6
    with pytest.raises(ValueError, match="threads is 1 to 1024, not 0"):
        Workers(0)
