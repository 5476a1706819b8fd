"""The pairs of L-BFGS: in pieces, by threads, on a GPU or in files, the numbers are the same."""

import errno
import os

import numpy as np
import pytest

import nsnumpy as ns
from nsnumpy import pairs as module
from nsnumpy.backend import asarray, to_host
from nsnumpy.optimize import minimize
from nsnumpy.pairs import Pairs, in_a_file
from nsnumpy.workers import Workers

BOX = (0.0, 1.0)


@pytest.fixture(params=[1 << 28, 1500], ids=["one piece", "pieces"])
def pieces(request, monkeypatch):
    """The positions in one piece, or in several."""
    monkeypatch.setattr(module, "STACKED_BYTES", request.param)
    monkeypatch.setattr(module, "POSITIONS", request.param // 30)


@pytest.fixture
def problem(stand_in):
    """A point, the gradient there, and `Pairs` with those of a quadratic function, on the CPU and on a GPU."""
    rng = np.random.default_rng(1)
    x, g = np.clip(rng.normal(0.5, 0.6, (9, 7, 3)), 0, 1), rng.standard_normal((9, 7, 3))
    host, device = Pairs(4), Pairs(4)
    for n in range(6):
        s = rng.standard_normal(x.shape)
        y = np.linspace(1, 9, x.size).reshape(x.shape) * s * (-1 if n == 4 else 1)  # the fifth is not convex
        assert device.add(stand_in.asarray(s), stand_in.asarray(y)) == pytest.approx(host.add(s, y))
    assert len(host) == len(device) == 4
    return x, g, host, device


@pytest.mark.parametrize("bounds", [BOX, None])
@pytest.mark.parametrize("known", [4, 0])
def test_direction_and_slopes_are_those_of_the_cpu(stand_in, problem, pieces, bounds, known):
    x, g, host, device = problem
    if not known:
        host.clear()
        device.clear()
    there = asarray(x, stand_in, "float64"), asarray(g, stand_in, "float64")
    assert device.survey(*there, bounds) == host.survey(x, g, bounds) == abs(g).max()
    d, slope, square, curved = host.direction(g)
    d_d, slope_d, square_d, curved_d = device.direction(there[1])
    assert curved_d == curved == bool(known)
    assert to_host(d_d) == pytest.approx(d, rel=1e-9, abs=1e-12)
    assert (slope_d, square_d) == pytest.approx((slope, square), rel=1e-9)
    assert (slope, square) == pytest.approx((np.vdot(d, g), np.vdot(d, d)), rel=1e-9)
    t = 0.7
    x_t = np.clip(x + t * d, *bounds) if bounds else x + t * d
    rng = np.random.default_rng(2)
    g_t = g + rng.standard_normal(g.shape)
    at = asarray(x_t, stand_in, "float64"), asarray(g_t, stand_in, "float64")
    slope_t, first, products = host.measure(x, g, d, x_t, g_t, bounds)
    measured = device.measure(*there, d_d, *at, bounds)
    s, y = x_t - x, g_t - g
    assert measured[:2] == pytest.approx((slope_t, first), rel=1e-9)
    assert first <= slope + 1e-9
    assert measured[2] == pytest.approx(products, rel=1e-9)
    assert measured[2] == pytest.approx([np.vdot(s, y), np.vdot(y, y), np.vdot(s, s)], rel=1e-9)
    assert device.add(stand_in.asarray(s), stand_in.asarray(y), measured[2]) == pytest.approx(host.add(s, y))
    assert len(device) == len(host)


def test_what_would_go_beyond_a_bound_is_no_part_of_the_slope(problem):
    """There the first slope is only a bound: the one that is measured is the path's."""
    x, g, host, _ = problem
    host.survey(x, g, BOX)
    d, slope, _, _ = host.direction(g)
    x_t = np.clip(x + 1e-3 * d, *BOX)
    assert host.measure(x, g, d, x_t, g, BOX)[1] < slope - 1e-3


def test_threads_move_no_digit(pieces):
    rng = np.random.default_rng(5)
    x, g = np.clip(rng.normal(0.5, 0.6, 900), 0, 1).astype("float32"), rng.standard_normal(900).astype("float32")
    found = []
    for threads in (1, 3):
        pairs = Pairs(4, workers=Workers(threads))
        for s in np.random.default_rng(6).standard_normal((4, 900)).astype("float32"):
            pairs.add(s, 2 * s)
        largest = pairs.survey(x, g, BOX)
        d, *numbers = pairs.direction(g)
        found.append([largest, *d, *numbers, *pairs.measure(x, g, d, x + d, 2 * g, BOX)[2]])
    assert found[0] == found[1]


@pytest.mark.parametrize("bounds", [BOX, None])
def test_a_run_is_that_of_the_cpu(stand_in, pieces, bounds):
    rng = np.random.default_rng(3)
    curvature, target = np.geomspace(1, 50, 120).reshape(8, 5, 3), rng.uniform(-0.5, 1.5, (8, 5, 3))

    def problem(xp):
        c, a = xp.asarray(curvature), xp.asarray(target)

        def f(x):
            d = x - a
            return float(to_host((c * d * d + d**4).sum())), 2 * c * d + 4 * d**3

        return f

    losses = {}
    for xp in (np, stand_in):
        losses[xp.__name__] = each = []
        x = xp.full((8, 5, 3), 0.5)
        minimize(problem(xp), x, method="lbfgs-device", iterations=25, bounds=bounds, callback=each.append)
    host, device = losses["numpy"], losses["cupy"]
    assert [i.loss for i in device] == pytest.approx([i.loss for i in host], rel=1e-8)
    assert [i.step for i in device] == pytest.approx([i.step for i in host], rel=1e-5, abs=1e-12)
    resumed = []
    x = stand_in.full((8, 5, 3), 0.5)
    minimize(problem(stand_in), x, method="lbfgs-device", iterations=25, bounds=bounds, resume=device[9].state,
             callback=lambda i: resumed.append(i.loss))  # fmt: skip
    assert resumed == [i.loss for i in device[10:]]  # later steps have not written to what is kept


def valley(x):
    """Rosenbrock's function of neighbours, and its gradient."""
    a, b = x[:-1], x[1:]
    g = np.zeros_like(x)
    g[:-1] = -40 * a * (b - a * a) - 2 * (1 - a)
    g[1:] += 20 * (b - a * a)
    return float((10 * (b - a * a) ** 2 + (1 - a) ** 2).sum()), g


def test_pairs_in_a_folder_give_the_same_numbers(tmp_path):
    x, found, kept = np.linspace(-1, 1, 40), {}, {}
    for scratch in (None, tmp_path):
        iterates = []
        options = {"method": "lbfgs-device", "bounds": (-2.0, 0.9), "memory": 5, "scratch": scratch}
        minimize(valley, x, iterations=30, callback=iterates.append, **options)
        found[scratch], kept[scratch] = [iterate.x for iterate in iterates], iterates[10].state
    assert all(map(np.array_equal, found[None], found[tmp_path]))
    assert list(tmp_path.iterdir()) == []  # without names, so that nothing stays
    steps = kept[tmp_path]["state"]["steps"]
    assert len(steps) == 5
    assert all(isinstance(step.base, np.memmap) for step in steps)
    assert not any(isinstance(step.base, np.memmap) for step in kept[None]["state"]["steps"])
    resumed = minimize(valley, x, iterations=30, resume=kept[None], **options)
    assert np.array_equal(resumed.x, found[None][-1])


def test_a_folder_without_room_ends_the_run_with_what_it_has(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    ended = minimize(valley, np.linspace(-1, 1, 40), method="lbfgs-device", bounds=None, scratch=tmp_path)
    assert ended.ending.how == "no room"
    assert ended.failed
    assert not ended.out_of_memory
    assert ended.iterations == 0
    assert ended.stopped == f"{tmp_path}: No space left on device after 0 of 100 iterations"
    with pytest.raises(MemoryError, match="No space left on device"):
        in_a_file(np.ones(3), tmp_path)


def test_a_run_takes_a_folder(tiny_vgg, picture, tmp_path):
    given = (picture(40, 48, 1), picture(40, 40, 2))
    options = {"vgg": tiny_vgg(), "size": 48, "iterations": 4}
    once, again = ns.transfer(*given, **options), ns.transfer(*given, scratch=tmp_path, **options)
    assert np.array_equal(once.image, again.image)
    assert once.settings == again.settings
    plans = [ns.plan("transfer", content=given[0], style=given[1], size=48, scratch=s) for s in (None, tmp_path)]
    assert plans[1].parts["optimizer"] == 8 / 24 * plans[0].parts["optimizer"]
    with pytest.raises(ValueError, match="no such folder, to hold L-BFGS's memory in"):
        ns.transfer(*given, scratch=tmp_path / "none", **options)


def test_fewer_pairs_are_the_last_ones():
    pairs, rng = Pairs(4), np.random.default_rng(0)
    for _ in range(4):
        s = rng.standard_normal(5)
        pairs.add(s, 2 * s)
    state = pairs.state()
    fewer = Pairs(2).restored(state["steps"], state["changes"]).state()
    assert all(map(np.array_equal, fewer["steps"], state["steps"][2:]))
    assert len(fewer["steps"]) == len(fewer["changes"]) == 2
