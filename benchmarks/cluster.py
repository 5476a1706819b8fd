"""What a cluster costs: two workers beside one, workers killed, and how far it would go.

    python benchmarks/cluster.py speed [--size 1024] [--tile 512] [--rounds 3]
    python benchmarks/cluster.py kills [--kills 100] [--seed 0]
    python benchmarks/cluster.py bytes [--weights builtin]
    python benchmarks/cluster.py scheduler [--jobs 300]
    python benchmarks/cluster.py model --seconds 7 --overhead 0.02

`speed` is one evaluation by two processes of this machine with a thread each over one with two, in turns. `kills` sends
SIGKILL to a worker at a random time of an evaluation, until so many have died, and compares each gradient with the one
that was made here, bit for bit. `bytes` counts pickles of what a tile sends and gets. `scheduler` is the time that a
job takes of the scheduler and of this process, where the work is nothing; what a task takes that is sent no arrays; and
the bytes that go through the scheduler.
`model` simulates 16 and 256 workers with what the others have measured. Each prints one line of JSON for each row.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator

import numpy as np

import nsnumpy as ns
from nsnumpy.files.images import fit_image
from nsnumpy.files.random_network import random_weights
from nsnumpy.tiles.cluster import Cluster, ClusterCrew
from nsnumpy.tiles.connect import open_cluster
from nsnumpy.tiles.crew import Part
from nsnumpy.tiles.grid import Grid, Span, Tile, halo_of
from nsnumpy.tiles.objective import TiledObjective
from nsnumpy.tiles.tile import Asked, content_features, measure_tile, tile_gradient

CONTENT, STYLE = "conv4_2", ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
WIDTHS = (64, 128, 256, 512, 512)  # of VGG-19's blocks
MEGABYTE = 1e6


def tell(**row: object) -> None:
    print(json.dumps(row), flush=True)


def made(vgg: ns.VGG, size: int, tile: int, executor: Cluster | None) -> tuple[TiledObjective, np.ndarray]:
    content, style = (fit_image(f"sample:{name}", (size, size)) for name in ("coast", "starry"))
    objective = TiledObjective(vgg, tile=tile, executor=executor, content=content, style=style, beta=1e3, tv=1e-3)
    return objective, (content + style) / 2


def speed(arguments: argparse.Namespace) -> None:
    vgg = ns.load_vgg(arguments.weights, threads=2)
    with open_cluster("local:1", 2) as one, open_cluster("local:2", 2) as two:
        both = [made(vgg, arguments.size, arguments.tile, cluster) for cluster in (one, two)]
        seconds: list[list[float]] = [[], []]
        for objective, x in both:
            objective.evaluate(x)
        for _ in range(arguments.rounds):
            for (objective, x), taken in zip(both, seconds, strict=True):
                start = time.perf_counter()
                objective.evaluate(x)
                taken.append(time.perf_counter() - start)
    tell(one=seconds[0], two=seconds[1], ratio=statistics.median(seconds[1]) / statistics.median(seconds[0]))


def kills(arguments: argparse.Namespace) -> None:
    chance = random.Random(arguments.seed)
    vgg = ns.VGG(random_weights((6, 8, 10, 12, 14), seed=3), xp=np, threads=2)  # small: many kills in little time
    objective, x = made(vgg, 96, 32, None)
    want = objective.evaluate(x)
    with open_cluster("local:2", 2) as cluster:
        objective, x = made(vgg, 96, 32, cluster)
        start = time.perf_counter()
        objective.evaluate(x)
        usual = time.perf_counter() - start
        killed, evaluations, differing = 0, 0, 0
        while killed < arguments.kills:
            pids = sorted(cluster.client.run(os.getpid, on_error="ignore").values())
            victim, when = chance.choice(pids), chance.uniform(0, usual)
            during: list[bool] = []

            def kill(pid: int = victim, during: list[bool] = during) -> None:
                os.kill(pid, signal.SIGKILL)
                during.append(True)

            timer = threading.Timer(when, kill)
            start = time.perf_counter()
            timer.start()
            got = objective.evaluate(x)
            timer.cancel()  # if it would come too late
            timer.join()
            usual = usual if during else time.perf_counter() - start
            killed, evaluations = killed + len(during), evaluations + 1
            differing += not (got.loss == want.loss and np.array_equal(got.gradient, want.gradient))
            if evaluations % 10 == 0 or killed == arguments.kills:
                tell(killed=killed, evaluations=evaluations, differing=differing)
            while during and len(cluster.look()) < 2:
                time.sleep(0.1)


def count(arguments: argparse.Namespace) -> None:
    """Of one tile; what its features' and its pixels' sizes are is by their shapes, as those of arrays of zeros."""
    if arguments.weights == "vgg19":
        layers = random_weights(WIDTHS, seed=0)
        vgg = ns.VGG(layers, xp=np, threads=1)
    else:
        vgg = ns.load_vgg(arguments.weights, threads=1)
    content, style = (fit_image(f"sample:{name}", (64, 64)) for name in ("coast", "starry"))
    objective = TiledObjective(vgg, tile=48, content=content, style=style)
    grid = Grid((64, 64), 48, vgg.architecture, [CONTENT, *STYLE], vgg.border)
    asked, solvers = objective._asked(grid, content.shape)
    tile = grid.tiles[0]
    sums = measure_tile(vgg, asked, tile, tile.of(content), None)
    solutions = {label: solvers[label][0].solve(of, solvers[label][1])[1] for label, of in sums.items()}
    solutions["content/conv4_2"] = 1.0
    _, *back = tile_gradient(vgg, asked, tile, tile.of(content), None, tile.of(content), solutions)
    seen = arguments.tile + 2 * halo_of(vgg.architecture, STYLE[-1])
    pixels = np.zeros((seen, seen, 3), np.float32)
    features = content_features(vgg, Asked({CONTENT: ""}, {}, "gram", vgg.border), np.zeros((64, 64, 3), np.float32))
    per_position = features[CONTENT].nbytes / 64**2

    def size(thing: object) -> float:
        return round(len(pickle.dumps(thing, protocol=5)) / MEGABYTE, 4)

    tell(
        weights=arguments.weights,
        tile=arguments.tile,
        sees=seen,
        network_once_a_worker_MB=size(vgg),
        job_MB=size((tile, asked)),
        pixels_out_MB=size(pixels),
        sums_back_MB=size(sums),
        solutions_once_a_worker_MB=size(solutions),
        gradient_and_sums_back_MB=size((pixels, back)),
        features_that_stay_MB=round(per_position * seen**2 / MEGABYTE, 1),
    )


def nothing(vgg: ns.VGG, *given: object) -> int:
    return 0


def scheduler(arguments: argparse.Namespace) -> None:
    from distributed.protocol import dumps

    vgg = ns.load_vgg(arguments.weights, threads=1)
    span = Span(0, 16, 0, 16, 16)
    x, asked = (
        np.zeros((16, 16, 3), np.float32),
        Asked({}, {name: [(name, None)] for name in STYLE}, "gram", vgg.border),
    )
    with open_cluster("local:2", 2) as cluster:
        crew = ClusterCrew(cluster, vgg)
        sent: list[int] = []
        send = cluster.client._send_to_scheduler

        def counted(message: object) -> None:
            sent.append(sum(len(frame) for frame in dumps(message)))
            send(message)

        def jobs() -> Iterator[tuple[object, ...]]:
            for _ in range(arguments.jobs):
                yield asked, Tile(span, span), Part(x, Tile(span, span))

        list(crew.each(nothing, jobs()))
        cluster.client._send_to_scheduler = counted
        start = time.perf_counter()
        list(crew.each(nothing, jobs()))
        seconds = time.perf_counter() - start
        cluster.client._send_to_scheduler = send
        start = time.perf_counter()
        cluster.client.gather([cluster.client.submit(int, pure=False) for _ in range(arguments.jobs)])
        alone = time.perf_counter() - start
    each = {"ms_a_job": 1e3 * seconds, "ms_a_task_without_arrays": 1e3 * alone, "bytes_a_job": sum(sent)}
    tell(jobs=arguments.jobs, **{name: round(total / arguments.jobs, 2) for name, total in each.items()})


def simulated(workers: int, tiles: int, seconds: float, out: float, back: float) -> float:
    """The time of a pass: this process gives `out` seconds to each job and `back` to each result, one at a time and in
    order, with two jobs a worker under way; a worker, which has every W-th tile, makes one in so many seconds."""
    free = dict.fromkeys(range(workers), 0.0)
    now, taken, done = 0.0, 0, dict[int, float]()
    for n in range(tiles):
        now += out
        free[n % workers] = done[n] = max(now, free[n % workers]) + seconds
        if n + 1 - taken >= 2 * workers:
            now = max(now, done[taken]) + back
            taken += 1
    for n in range(taken, tiles):
        now = max(now, done[n]) + back
    return now


def model(arguments: argparse.Namespace) -> None:
    for gigabits in (1, 10):
        link = gigabits * 125e6
        for workers in (1, 16, 64, 256):
            tiles = 8 * workers
            out = arguments.overhead / 2 + arguments.out * MEGABYTE / link
            first = simulated(workers, tiles, arguments.seconds / 3, out, arguments.sums * MEGABYTE / link)
            back = arguments.back * MEGABYTE / link
            second = simulated(workers, tiles, 2 * arguments.seconds / 3, arguments.overhead / 2, back)
            ideal = 8 * arguments.seconds
            tell(
                gigabits=gigabits,
                workers=workers,
                tiles=tiles,
                seconds=round(first + second, 1),
                efficiency=round(ideal / (first + second), 3),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "kills", "bytes", "scheduler", "model"))
    parser.add_argument(
        "--weights", default="builtin", help="as load_vgg takes them; bytes: or vgg19, of random filters"
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=7.0, help="of a tile's evaluation on one worker")
    parser.add_argument("--overhead", type=float, default=0.02, help="seconds of this process for a tile's two jobs")
    parser.add_argument("--out", type=float, default=16.8, help="MB sent to a tile")
    parser.add_argument("--sums", type=float, default=2.4, help="MB that come back of its sums")
    parser.add_argument("--back", type=float, default=16.8, help="MB that come back of its gradient")
    arguments = parser.parse_args()
    {"speed": speed, "kills": kills, "bytes": count, "scheduler": scheduler, "model": model}[arguments.what](arguments)


if __name__ == "__main__":
    main()
