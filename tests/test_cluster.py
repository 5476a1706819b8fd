"""Tiles by executors and by a cluster: the same bits as in one thread, whoever makes them, and whoever dies.

Dask's tests run where it is installed.
"""

import concurrent.futures
import logging
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from functools import partial

import numpy as np
import pytest

import nsnumpy as ns
from nsnumpy.backend import asarray, to_host
from nsnumpy.cli.main import main
from nsnumpy.files.images import load_image, save_image
from nsnumpy.run.means import shared_tile
from nsnumpy.tiles import cluster as module
from nsnumpy.tiles import connect, crew, objective, tile
from nsnumpy.tiles.cluster import Cluster, ClusterCrew, ClusterError, WorkerWarning, settled
from nsnumpy.tiles.connect import open_cluster
from nsnumpy.tiles.objective import TiledObjective
from nsnumpy.workers import Workers

TILES = 6  # of 32 pixels, in a picture of 90 x 61


@pytest.fixture
def given(picture):
    """An image, and what `TiledObjective` takes beside the network."""
    mask = np.zeros((90, 61))
    mask[:50] = 1
    styles = [(picture(40, 50, 1), 1.0, mask), (picture(44, 40, 2), 1.0, 1 - mask)]
    return picture(90, 61, 3), {"tile": 32, "content": picture(90, 61, 4), "style": styles, "tv": 1e-3}


@pytest.fixture
def evaluated(tiny_vgg, given):
    """evaluated(executor, keep) is what two evaluations give."""
    x, options = given
    vgg = tiny_vgg(threads=2)

    def evaluated(executor=None, keep=True):
        if executor is None and WANTED:
            return WANTED
        made = TiledObjective(vgg, keep=keep, executor=executor, **options)
        results = [made.evaluate(image) for image in (x, 0.9 * x)]
        if executor is None:
            WANTED[:] = results
        return results

    return evaluated


WANTED = []  # what one thread gives


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.loss, a.terms, a.gradient_norms) == (b.loss, b.terms, b.gradient_norms)
        assert np.array_equal(a.gradient, b.gradient)


class Backwards(Executor):
    """Calls nothing before it must, and the last one first."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, *args):
        future = Future()
        ask = future.result

        def result():
            while self.waiting:
                waiting, job = self.waiting.pop()
                waiting.set_result(job[0](*job[1:]))
            return ask()

        future.result = result
        self.waiting.append((future, (function, *args)))
        return future


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False])
def test_any_executor_gives_the_same_bits_in_any_order(evaluated, keep):
    assert_same(evaluated(Backwards(), keep), evaluated())
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert_same(evaluated(pool, keep), evaluated())


def test_processes_give_the_same_bits(evaluated):
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert_same(evaluated(pool), evaluated())


class Noting(Executor):
    """Does at once what it is given, and keeps it."""

    def __init__(self):
        self.given = []

    def submit(self, function, named, what, job):
        self.given.append((what, job))
        future = Future()
        future.set_result(function(named, what, job))
        return future


@pytest.mark.slow
@pytest.mark.parametrize("style_size", [48, 150])
def test_a_style_picture_of_several_tiles_is_shared_out_too(tiny_vgg, picture, style_size):
    pictures = picture(90, 61), picture(150, 100, 2)
    options = {"size": 90, "style_size": style_size, "tile": 48, "iterations": 1, "scales": ()}
    vgg, executor = tiny_vgg(), Noting()
    shared = ns.transfer(*pictures, vgg=vgg, executor=executor, **options)
    assert np.array_equal(shared.image, ns.transfer(*pictures, vgg=vgg, **options).image)
    of_style = [job for what, job in executor.given if what is tile.measure_tile and not job[0].content]
    assert len(of_style) == (12 if style_size == 150 else 0)


def test_a_process_gets_the_network_once(tiny_vgg, monkeypatch):
    monkeypatch.setattr(crew, "_known", {})
    networks = [tiny_vgg(), tiny_vgg(pooling="max"), tiny_vgg(dtype="float32"), tiny_vgg(threads=3)]
    names = [crew.network_name(vgg) for vgg in networks]
    assert len(set(names)) == 4
    assert crew.network_name(networks[0].with_border("wrap")) == names[0]
    sent = pickle.dumps(crew.Named(names[0], networks[0]))
    assert len(sent) < 1000 < len(pickle.dumps(networks[0]))
    assert crew.by_name(pickle.loads(sent), lambda vgg: vgg, ()) is None
    assert crew.introduced(names[0], networks[0], lambda vgg: vgg, ()) is networks[0]
    assert crew.by_name(pickle.loads(sent), lambda vgg: vgg, ()) is networks[0]
    assert crew.introduced(names[0], networks[1], lambda vgg: vgg, ()) is networks[0]  # whose memory is taken already
    for name, vgg in zip(names, networks, strict=True):
        crew.introduced(name, vgg, lambda _: 0, ())
    assert len(crew._known) == crew.NETWORKS


def test_a_target_is_sent_without_its_features(tiny_vgg, picture):
    seen = picture(40, 40)
    target = crew.Target(crew.Part(seen), None, {"conv4_2": np.zeros(1000000)})
    arrived = pickle.loads(sent := pickle.dumps(target))
    assert len(sent) < seen.nbytes + 1000
    assert target.value() is target.kept
    assert np.array_equal(arrived.value(), seen)


@pytest.mark.parametrize("convolution", ["winograd", "direct"])
def test_a_network_is_pickled_to_the_last_bit(tiny_vgg, picture, convolution):
    vgg = tiny_vgg(convolution=convolution, pooling="max", threads=2).with_border("reflect")
    other = pickle.loads(pickle.dumps(vgg))
    features, others = (network.forward(picture(40, 50), ["conv1_1", "conv5_1"])[0] for network in (vgg, other))
    assert all(np.array_equal(features[name], others[name]) for name in features)
    assert (other.sha256, other.border, other.xp) == (vgg.sha256, vgg.border, np)
    assert {way._workers for way in other.layers.values() if hasattr(way, "_workers")} <= {other.workers}


def test_a_network_on_a_device_is_pickled(tiny_vgg, picture, gpu):
    vgg = tiny_vgg(gpu)
    other = ns.VGG.__new__(ns.VGG)  # as pickle does, which the arrays of the stand-in have not learned
    other.__setstate__(vgg.__getstate__())
    assert "module" not in repr(vgg.__getstate__()["xp"])
    assert other.xp is gpu
    x = asarray(picture(32, 32), gpu, "float64")
    one, two = (to_host(network.forward(x, ["conv5_1"])[0]["conv5_1"]) for network in (vgg, other))
    assert np.array_equal(one, two)


def test_work_is_cut_up_for_the_threads_that_it_was_meant_for(monkeypatch):
    workers = pickle.loads(pickle.dumps(Workers(7)))
    assert list(workers.blocks(100, 1)) == list(Workers(7).blocks(100, 1))
    monkeypatch.setattr("nsnumpy.workers.usable_cores", lambda: 2)
    workers = pickle.loads(pickle.dumps(Workers(7)))
    assert (workers.threads, workers.at_work) == (7, 2)
    assert workers.map(lambda n, _: n, range(9)) == list(range(9))


def test_homes_are_dealt_evenly_and_change_no_more_than_they_must():
    rng = np.random.default_rng(0)
    homes, workers = {}, {"0": 1}
    for step in range(200):
        workers = {name: threads for name, threads in workers.items() if rng.random() < 0.8} or {str(step + 1): 1}
        if rng.random() < 0.5:
            workers[f"new {step}"] = int(rng.integers(1, 4))
        before, homes = homes, settled(homes, workers, [step])
        assert list(homes) == list(range(step + 1))
        assert set(homes.values()) <= workers.keys()
        loads = [list(homes.values()).count(name) / threads for name, threads in workers.items()]
        assert max(loads) - min(loads) <= 1
        assert settled(homes, workers) == homes
        if before and set(before.values()) == workers.keys():
            assert sum(homes[n] != home for n, home in before.items()) <= 1


@pytest.mark.parametrize("address", ["", "host:8786", "local", "local:0", "local:x", "local:-1", "http://host:1"])
def test_what_is_no_address_is_told(address, capsys):
    with pytest.raises(ValueError, match=r"tcp://HOST:PORT, tls://HOST:PORT or local:N"):
        open_cluster(address)
    with pytest.raises(SystemExit, match="2"):
        main(["transfer", "sample:coast", "sample:starry", "-o", "no.png", "--cluster", address])
    assert capsys.readouterr().err.count("\n") == 1


def test_without_dask_one_line_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["texture", "sample:glass", "-o", str(tmp_path / "no.png"), "--cluster", "local:2"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'nsnumpy[cluster]'" in error


def test_the_tile_that_is_shared_out_depends_on_the_picture_alone():
    assert [shared_tile((side, 100)) for side in (100, 2048, 3000, 4096, 20000)] == [512, 512, 736, 1024, 1024]
    pictures = {"content": np.zeros((900, 600, 3), np.float32), "style": np.zeros((64, 64, 3), np.float32)}
    assert ns.plan("transfer", **pictures, size=900, shared=True).tile == 512
    assert ns.plan("transfer", **pictures, size=900).tile is None
    assert ns.plan("transfer", **pictures, size=900, shared=True, tile="off").tile is None


# From here on with Dask.


@pytest.fixture
def distributed():
    return pytest.importorskip("distributed")


@pytest.fixture
def scheduler(distributed):
    """A cluster without workers yet, and its client."""
    options = {"dashboard_address": None, "worker_dashboard_address": None, "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(n_workers=0, threads_per_worker=1, memory_limit=0, **options) as cluster,
        distributed.Client(cluster, direct_to_workers=True) as client,
    ):
        yield cluster, client


def as_results_are_taken(monkeypatch, happens):
    """Calls happens[n] before the n-th result is taken."""
    end, taken = ClusterCrew._end, iter(range(1000))

    def watched(crew, *given):
        happens.get(next(taken), lambda: None)()
        return end(crew, *given)

    monkeypatch.setattr(ClusterCrew, "_end", watched)


# Of an evaluation's results, the first TILES are sums, the others gradients; the content's squares come before.
KILLS = [
    ({TILES: 1}, True),
    ({TILES + 3: 1}, False),
    ({2 * TILES: 1}, False),
    ({2 * TILES + 3: 2}, True),
    ({1: 1, 2 * TILES + 1: 1}, True),
]


@pytest.mark.filterwarnings("ignore:the cluster has no workers")  # where this machine is slow to begin others
@pytest.mark.parametrize(("kills", "keep"), KILLS)
def test_a_killed_worker_costs_nothing_but_time(distributed, evaluated, monkeypatch, kills, keep):
    with open_cluster("local:2", threads=2) as cluster:
        assert (len(cluster.workers), cluster.threads) == (2, 1)
        pids = list(cluster.client.run(os.getpid).values())

        def kill(count):
            for _ in range(count):
                pids[:] = pids or cluster.client.run(os.getpid).values()
                os.kill(pids.pop(), signal.SIGKILL)
                killed.append(1)

        killed = []
        as_results_are_taken(monkeypatch, {n: partial(kill, count) for n, count in kills.items()})
        assert_same(evaluated(cluster, keep), evaluated())
        assert len(killed) == sum(kills.values())


def test_workers_that_come_and_go(scheduler, tiny_vgg, given, monkeypatch):
    workers, client = scheduler
    x, options = given
    vgg = tiny_vgg()
    workers.scale(1)
    client.wait_for_workers(1)
    cluster = Cluster(client)
    made, want = (TiledObjective(vgg, executor=executor, **options).evaluate(x) for executor in (cluster, None))
    assert_same([made], [want])
    made = TiledObjective(vgg, executor=cluster, **options)
    workers.scale(2)
    client.wait_for_workers(2)
    assert_same([made.evaluate(x)], [want])
    assert len(set(made._crew._homes.values())) == 2
    as_results_are_taken(monkeypatch, {2: partial(workers.scale, 1), TILES + 2: partial(workers.scale, 3)})
    for _ in range(2):
        assert_same([made.evaluate(x)], [want])
    assert len(cluster._networks) == 1


def test_dasks_own_executor_will_do(scheduler, evaluated):
    workers, client = scheduler
    workers.scale(1)
    assert_same(evaluated(client.get_executor()), evaluated())


def worker(address, folder, package):
    """A worker whose `nsnumpy` is this."""
    (folder / "nsnumpy").mkdir(parents=True)
    (folder / "nsnumpy" / "__init__.py").write_text(package)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
    path = {"PYTHONPATH": str(folder)}
    return subprocess.Popen(command, env=os.environ | path, cwd=folder, stderr=subprocess.DEVNULL)


def test_a_worker_that_cannot_be_used_gets_a_line(scheduler, evaluated, tmp_path, capsys):
    workers, client = scheduler
    old = "__version__ = '0.0.1'"
    none = "raise ModuleNotFoundError('No module named nsnumpy', name='nsnumpy')"
    others = [worker(workers.scheduler_address, tmp_path / name, text) for name, text in (("a", old), ("b", none))]
    try:
        client.wait_for_workers(2)
        out = tmp_path / "no.png"
        assert main(["texture", "sample:glass", "-o", str(out), "--cluster", workers.scheduler_address]) == 1
        error = capsys.readouterr().err
        assert error.startswith("nsnumpy: error: worker tcp://")
        assert "has nsnumpy 0.0.1, and this is" in error
        assert "has no nsnumpy: install nsnumpy" in error
        assert error.count("\n") == 1
        assert not out.exists()
        workers.scale(1)
        client.wait_for_workers(3)
        with pytest.warns(WorkerWarning, match=r"worker tcp://\S+ has .*; it is left out"):
            cluster = Cluster(client)
        assert_same(evaluated(cluster), evaluated())
    finally:
        for one in others:
            one.kill()
            one.wait()


def test_a_local_worker_that_has_ended_is_begun_anew(distributed):
    with open_cluster("local:2") as cluster:
        cluster.client.retire_workers(list(cluster.workers)[:1])  # which Dask leaves at that
        until = time.monotonic() + 60
        while len(cluster.look()) == 2 and time.monotonic() < until:
            time.sleep(0.1)
        while len(cluster.look()) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_run_without_workers_says_so(scheduler, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with pytest.raises(ClusterError, match="no workers"), pytest.warns(WorkerWarning) as told:
        Cluster(scheduler[1])
    assert [str(warning.message) for warning in told] == [
        "the cluster has no workers, or none that has memory left; waiting 0 s for one"
    ]
    workers, client = scheduler
    workers.scale(1)
    client.wait_for_workers(1)
    monkeypatch.setattr(module, "POLL", 0.0)
    cluster = Cluster(client)
    workers.scale(0)
    while client.ncores():
        time.sleep(0.05)
    with pytest.raises(ClusterError, match="no workers"), pytest.warns(WorkerWarning, match="waiting"):
        cluster.look()


def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def has_no_memory(*_):
    raise MemoryError("1 GB asked for")


def has_no_disk(*_):
    raise OSError("no such disk")


def is_late(*_):
    raise TimeoutError("the file server does not answer")


def test_what_the_work_itself_raises_loses_no_worker(scheduler, evaluated, monkeypatch):
    workers, client = scheduler
    workers.scale(1)
    client.wait_for_workers(1)
    cluster, begun = Cluster(client), []
    begin = ClusterCrew._begin
    monkeypatch.setattr(ClusterCrew, "_begin", lambda crew, *job: begun.append(job) or begin(crew, *job))
    for fails, why in ((has_no_disk, "no such disk"), (is_late, "the file server does not answer")):
        begun.clear()
        monkeypatch.setattr(objective, "measure_tile", fails)
        with pytest.raises(ClusterError, match=rf"^worker tcp://\S+: {why}$"):
            evaluated(cluster)
        assert {one.attempts for _, one in begun} == {1}


def test_a_worker_in_this_process_leaves_the_network_as_it_is(distributed, tiny_vgg, given):
    x, options = given
    vgg = tiny_vgg(threads=2)
    quiet = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, **quiet) as client:
        made = TiledObjective(vgg, executor=Cluster(client, 1), **options).evaluate(x)
    assert vgg.workers.at_work == 2
    assert_same([made], [TiledObjective(vgg, **options).evaluate(x)])


@pytest.mark.filterwarnings("ignore:the cluster has no workers")
def test_a_worker_without_memory_is_named(distributed, evaluated, monkeypatch, tmp_path, capsys):
    with open_cluster("local:1") as cluster:
        monkeypatch.setattr(objective, "measure_tile", has_no_memory)
        with pytest.raises(MemoryError, match=r"worker tls://\S+: 1 GB asked for"):
            evaluated(cluster)
        command = ["texture", "sample:glass", "--size", "96", "--tile", "64", "--scales", "96", "--cluster", "local:1"]
        assert main([*command, "-o", str(tmp_path / "no.png")]) == 1
        error = capsys.readouterr().err
        assert re.fullmatch(r"nsnumpy: error: out of memory; .* \(worker tls://\S+: 1 GB asked for\)\n", error)
        monkeypatch.setattr(objective, "measure_tile", dies)
        monkeypatch.setattr(module, "ATTEMPTS", 2)
        with pytest.raises(ClusterError, match="tile 1 has lost 2 workers, for want of memory perhaps"):
            evaluated(cluster)


def test_a_scheduler_that_is_gone_is_told(scheduler):
    workers, client = scheduler
    workers.scale(1)
    client.wait_for_workers(1)
    cluster = Cluster(client)
    client.close()
    with pytest.raises(ClusterError, match="scheduler cannot be reached any more"):
        cluster.look()


def test_an_address_where_nobody_is(distributed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(connect, "CONNECT", 0.5)
    command = ["texture", "sample:glass", "-o", str(tmp_path / "no.png"), "--cluster", "tcp://127.0.0.1:9"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("nsnumpy: error: cluster 'tcp://127.0.0.1:9' cannot be reached: ")
    assert error.count("\n") == 1


def test_the_command_line_makes_the_same_picture(distributed, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    save_image(tmp_path / "photos" / "a.png", load_image("sample:coast", 96))
    given = ["--size", "96", "--tile", "64", "--iterations", "2", "--scales", "96", "--threads", "2"]
    shared = [*given, "--cluster", "local:2"]
    run = ["transfer", str(tmp_path / "photos" / "a.png"), "sample:starry", "-o"]
    assert main([*run, str(tmp_path / "one.png"), *given]) == 0
    kept = ["--checkpoint", str(tmp_path / "run.h5")]
    assert main([*run, str(tmp_path / "two.png"), *shared, *kept]) == 0
    assert "local:2: 2 workers" in capsys.readouterr().out
    folder = ["transfer", str(tmp_path / "photos"), "sample:starry", "-o", str(tmp_path / "painted"), *shared]
    assert main(folder) == 0
    one = load_image(tmp_path / "one.png")
    assert np.array_equal(load_image(tmp_path / "two.png"), one)
    assert np.array_equal(load_image(tmp_path / "painted" / "a.png"), one)
    assert main(["transfer", "--resume", str(tmp_path / "run.h5"), "-o", str(tmp_path / "three.png")]) == 0
    assert np.array_equal(load_image(tmp_path / "three.png"), one)


def test_a_blend_is_made_by_a_cluster(distributed, tmp_path, capsys):
    given = ["blend", "sample:coast", "sample:starry", "sample:glass", "--steps", "2", "--size", "96", "--scales", "96"]
    given += ["--iterations", "1", "--threads", "1"]
    assert main([*given, "--tile", "64", "-o", str(tmp_path / "here")]) == 0
    capsys.readouterr()
    assert main([*given, "--tile", "64", "-o", str(tmp_path / "there"), "--cluster", "local:2"]) == 0
    shown = capsys.readouterr()
    assert ("local:2: 2 workers" in shown.out, shown.err) == (True, "")
    for name in ("01.png", "02.png"):
        assert np.array_equal(*(load_image(tmp_path / folder / name) for folder in ("here", "there")))
    assert main([*given, "-o", str(tmp_path / "whole"), "--cluster", "local:1"]) == 0
    note = "nsnumpy: note: the picture is one tile, and is made here; --tile N would share it out\n"
    assert capsys.readouterr().err == note


def test_a_figures_cells_are_made_by_a_cluster(distributed, tmp_path, capsys):
    command = ["figure", "content", "sample:coast", "--size", "32", "--iterations", "1", "--layers", "conv1_1,conv2_1"]
    for name, more in (("here", []), ("there", ["--cluster", "local:1"])):
        assert main([*command, "--threads", "1", "-o", str(tmp_path / name), *more]) == 0
    cells = (load_image(tmp_path / name / "conv2_1.png") for name in ("here", "there"))
    assert np.array_equal(*cells)
    assert main([*command, "-o", str(tmp_path / "no"), "--cluster", "local:1", "--jobs", "2"]) == 2
