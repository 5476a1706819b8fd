"""Memory as predicted against memory as taken; the clock is left alone here, see benchmarks."""

import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize  # noqa: F401 - its modules are no part of what a run takes, whichever test loads them first
from PIL import Image

import nsnumpy as ns
from nsnumpy.files.random_network import random_weights
from nsnumpy.files.weights import read_network
from nsnumpy.lbfgs import MEMORY
from nsnumpy.run import budget
from nsnumpy.run.budget import run_memory
from nsnumpy.vgg import VGG

plan_module, means = sys.modules["nsnumpy.run.plan"], sys.modules["nsnumpy.run.means"]
WIDTHS = (16, 24, 32, 48, 48)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "w.h5"
    ns.write_weights(path, ns.WeightFile(random_weights(WIDTHS, seed=1)))
    return path


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    monkeypatch.setattr(plan_module, "measured_rates", lambda *_: budget.Rates(1e-11, 1e-10, 1e-5))


CASES = [
    ("transfer", {}),
    ("transfer", {"style_size": 266}),
    ("transfer", {"pooling": "max"}),
    ("transfer", {"optimizer": "adam", "content_layers": ["conv1_1"], "style_layers": ["conv1_2", "relu2_1"]}),
    ("transfer", {"optimizer": "sgd", "content_layers": ["pool2"], "style_layers": ["conv2_2"]}),
    ("texture", {}),
    ("reconstruct", {"layer": "conv3_1"}),
    ("reconstruct", {"layer": "conv1_1"}),
    ("texture", {"convention": "paper"}),
    ("transfer", {"size": 80, "style_size": 560}),
    ("transfer", {"pooling": "max", "content_layers": ["pool1"], "style_layers": ["pool1"]}),
    ("transfer", {"colors": "luminance", "dtype": "float64", "optimizer": "scipy"}),
    ("texture", {"seamless": "both", "size": (96, 160)}),
    ("transfer", {"tile": 48, "memory_pairs": 2, "size": 112}),
    ("texture", {"tile": 32, "style_layers": ["conv1_1", "conv2_1"], "size": 112, "memory_pairs": 3}),
    ("transfer", {"optimizer": "scipy", "memory_pairs": 3}),
    ("reconstruct", {"tile": 64, "layer": "conv1_1"}),
    ("transfer", {"dtype": "float64", "optimizer": "scipy"}),
]
QUICK = 7  # of them; the others take --slow


@pytest.mark.parametrize(
    ("use_case", "options"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (k >= QUICK)) for k, case in enumerate(CASES)],
)
def test_the_memory_of_a_run_is_foretold(weights, use_case, options):
    """For every kind of run, beside Python and the weights."""
    pictures = {"content": "sample:coast", "style": "sample:starry"}
    if use_case != "transfer":
        pictures = {name: p for name, p in pictures.items() if (name == "style") == (use_case == "texture")}
    network = {"pooling": options.pop("pooling", "avg"), "dtype": options.pop("dtype", "float32")}
    settings = {"size": 160, "init": "noise"} | options
    if options.keys() & {"optimizer", "convention"}:  # but for our L-BFGS, the memory is whole at once
        settings["iterations"] = 3
    else:
        pairs = {"memory_pairs": 3} if options else {"memory_pairs": MEMORY["lbfgs-device"]}
        settings = pairs | settings
        settings["iterations"] = settings["memory_pairs"] + 2
    planned = ns.plan(use_case, **pictures, weights=weights, threads=1, **network, **settings)
    vgg = ns.load_vgg(weights, threads=1, **network)
    arguments = dict(settings)
    positional = list(pictures.values()) + ([arguments.pop("layer")] if "layer" in arguments else [])
    tracemalloc.start()
    getattr(ns, use_case)(*positional, vgg=vgg, **arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    predicted = sum(size for name, size in planned.parts.items() if name not in ("program", "weights"))
    assert 0.85 < predicted / peak < 1.35, (predicted, peak)
    transformed = sum(array.nbytes for layer in vgg.layers.values() for array in layer.arrays)
    given = sum(layer.arrays[0].nbytes for name, layer in vgg.layers.items() if name != "conv1_1")
    assert planned.parts["weights"] == pytest.approx(transformed + given / 4, rel=0.02)


@pytest.mark.slow
def test_the_whole_process_stays_within_its_plan(weights):
    """Python, libraries and all, as the system counts it."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read the peak from")
    code = (
        "import sys, nsnumpy as ns\n"
        "options = dict(size=400, threads=2)\n"
        "planned = ns.plan('transfer', content='sample:coast', style='sample:starry', weights=sys.argv[1], **options)\n"
        "vgg = ns.load_vgg(sys.argv[1], threads=2)\n"
        "ns.transfer('sample:coast', 'sample:starry', vgg=vgg, size=400, iterations=10)\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(planned.peak_bytes, int(status['VmHWM'].split()[0]) * 1024)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(weights)], capture_output=True, text=True, check=True).stdout
    predicted, measured = map(int, out.split())
    assert 0.8 < predicted / measured < 1.35, (predicted, measured)


@pytest.mark.slow
def test_to_decode_a_large_picture_counts(weights, tmp_path):
    """A small file may be one; of a JPEG a fraction is decoded."""
    large = Image.new("RGB", (6000, 4000))
    large.save(tmp_path / "a.png")
    large.save(tmp_path / "a.jpg")
    given = {"style": "sample:starry", "weights": weights, "threads": 1, "size": 64}
    png, jpeg = (ns.plan("transfer", content=tmp_path / name, **given) for name in ("a.png", "a.jpg"))
    assert png.parts.keys() == {"program", "pictures"}
    assert 4 * 24_000_000 <= png.parts["pictures"] < 1.1 * 4 * 24_000_000
    assert "pictures" not in jpeg.parts
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read the peak from")
    code = (
        "import sys, nsnumpy as ns\n"
        "options = dict(content=sys.argv[1], style='sample:starry', size=64)\n"
        "planned = ns.plan('transfer', weights=sys.argv[2], threads=1, **options)\n"
        "ns.transfer(vgg=ns.load_vgg(sys.argv[2], threads=1), iterations=1, **options)\n"
        "print(planned.peak_bytes, ns.machine.peak_memory())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png"), str(weights)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    predicted, measured = map(int, out.split())
    assert 0.8 < predicted / measured < 1.35, (predicted, measured)


@pytest.mark.parametrize("use_case", ["transfer", "texture", "reconstruct"])
def test_the_memory_is_that_of_the_optimizer_that_the_convention_has(weights, use_case):
    pictures = {"content": "sample:coast", "style": "sample:starry"}
    if use_case != "transfer":
        pictures = {name: p for name, p in pictures.items() if (name == "style") == (use_case == "texture")}

    def vectors(**settings):
        return ns.plan(use_case, **pictures, weights=weights, threads=1, **settings).parts["optimizer"]

    assert vectors(convention="paper") == vectors(optimizer="scipy") == vectors(optimizer="lbfgs")
    assert vectors() == vectors(convention="paper", optimizer="lbfgs-device") < 0.5 * vectors(convention="paper")


@pytest.mark.slow
def test_memory_does_not_grow_from_evaluation_to_evaluation(tiny_weights, picture):
    vgg = VGG(tiny_weights, xp=np, threads=1)
    x = picture(64, 48).astype("float32")
    objective = ns.Objective(vgg, content=x, style=x, tv=1.0)
    objective(x)

    def held():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    objective(x)
    first = held()
    for _ in range(16):
        objective(x)
    last = held()
    tracemalloc.stop()
    assert last - first < 60_000  # Python's own small things; the first layer's features alone are 74 kB an evaluation


def test_the_largest_size_that_fits_is_found(monkeypatch, weights):
    arguments = {"content": "sample:coast", "style": "sample:starry", "weights": weights, "threads": 1}
    monkeypatch.setattr(means, "resident_bytes", lambda: 100_000_000)
    monkeypatch.setattr(means, "available_bytes", lambda: 300_000_000)
    planned = ns.plan("transfer", size=4000, **arguments)
    assert not planned.fits
    assert planned.size == (3000, 4000)
    assert ns.plan("transfer", size=planned.largest_size, **arguments).fits
    assert not ns.plan("transfer", size=planned.largest_size + 1, **arguments).fits
    monkeypatch.setattr(means, "available_bytes", lambda: 50_000_000)
    assert ns.plan("transfer", size=4000, **arguments).largest_size == 0  # not even where conv5_1 has one position
    monkeypatch.setattr(means, "available_bytes", lambda: None)
    planned = ns.plan("transfer", size=4000, **arguments)
    assert (planned.fits, planned.largest_size) == (True, None)
    assert planned.seconds > 0


@pytest.mark.parametrize("given", [{}, {"tile": "off"}, {"tile": 300}, {"memory_pairs": 5}, {"optimizer": "adam"}])
def test_the_largest_size_is_sought_with_what_takes_the_least(monkeypatch, weights, given):
    """It is one way to run of forty, and which it is need not be tried for each size."""
    arguments = {"content": "sample:coast", "style": "sample:starry", "weights": weights, "threads": 1} | given
    monkeypatch.setattr(means, "resident_bytes", lambda: 100_000_000)
    monkeypatch.setattr(means, "available_bytes", lambda: 400_000_000)
    tried = []
    monkeypatch.setattr(plan_module, "run_memory", lambda *of: tried.append(of) or run_memory(*of))
    monkeypatch.setattr(means, "run_memory", lambda *of: tried.append(of) or run_memory(*of))
    planned = ns.plan("transfer", size=100_000_000, **arguments)
    assert len(tried) < 120
    assert ns.plan("transfer", size=planned.largest_size, **arguments).fits
    assert not ns.plan("transfer", size=planned.largest_size + 1, **arguments).fits


def test_a_size_within_one_tile_fits_as_a_whole(monkeypatch, weights):
    monkeypatch.setattr(means, "resident_bytes", lambda: 100_000_000)
    monkeypatch.setattr(means, "available_bytes", lambda: 145_000_000)
    arguments = {"content": "sample:coast", "style": "sample:starry", "weights": weights, "threads": 1, "tile": 2048}
    planned = ns.plan("transfer", size=4096, **arguments)
    assert not planned.fits
    assert 0 < planned.largest_size < 2048
    assert ns.plan("transfer", size=planned.largest_size, **arguments).fits


def test_what_can_be_had_is_what_is_left_and_what_the_process_holds():
    held, available = means.resident_bytes(), means.available_bytes()
    assert 20_000_000 < held < available


def test_rates_are_positive_and_time_grows_with_the_picture():
    network = budget.Network("vgg19", dict.fromkeys(["conv1_1", "conv1_2", "conv2_1"], 16))

    rates = budget.measured_rates("cpu", 1)

    def seconds(side):
        size = (side, side)
        return budget.run_seconds(network, budget.Run(size, None, size, [], ["conv1_1", "conv2_1"], "adam", 1), rates)

    assert 0 < seconds(16) < seconds(2048)


def test_each_further_style_adds_its_gram_matrices_to_the_targets():
    network = budget.Network("vgg19", dict.fromkeys(["conv1_1", "conv1_2"], 16))
    one, three = (
        budget.Run((32, 32), None, (32, 32), [], ["conv1_1", "conv1_2"], "adam", 1, styles=styles) for styles in (1, 3)
    )
    targets = [budget.run_memory(network, run)["targets"] for run in (one, three)]
    assert targets == [2 * 2 * 16**2 * 4, 2 * 4 * 16**2 * 4]  # that of x, and that of each style, at two layers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"use_case": "paint", "content": "sample:coast"}, "unknown use case 'paint': choose from transfer,"),
        ({"use_case": "transfer", "content": "sample:coast"}, "transfer takes a content and a style picture"),
        ({"use_case": "texture", "content": "sample:coast"}, "texture takes a style picture"),
        ({"use_case": "texture", "style": "sample:coast", "pooling": "median"}, "unknown pooling 'median'"),
        ({"use_case": "texture", "style": "sample:coast", "dtype": "int8"}, "unknown dtype 'int8'"),
        ({"use_case": "texture", "style": "sample:coast", "threads": 0}, "threads is 1 to 1024, not 0"),
    ],
)
def test_what_cannot_be_planned_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ns.plan(**arguments)


@pytest.mark.parametrize("steps", [["conv9_1"], ["conv5_2"]])
def test_a_layer_that_is_not_there_is_named(weights, steps):
    with pytest.raises(ValueError, match=steps[0]):
        ns.plan("transfer", content="sample:coast", style="sample:starry", weights=weights, style_layers=steps)


@pytest.mark.parametrize("method", [pytest.param("scipy", marks=pytest.mark.slow), "sgd", "adam"])
def test_the_optimizers_vectors_are_counted(weights, method):
    """Those of the optimizer alone, on a function that makes one array, its gradient."""

    def f(x):
        gradient = x - np.float32(0.3)
        loss = float((gradient * gradient).sum())
        gradient *= 2
        return loss, gradient

    x0, options = np.full((100, 150, 3), 0.5, np.float32), {"lr": 0.01} if method in ("sgd", "adam") else {}
    ns.minimize(f, x0[:4], method=method, iterations=2, **options)  # what is imported is no vector
    tracemalloc.start()
    ns.minimize(f, x0, method=method, iterations=12, **options)
    taken = tracemalloc.get_traced_memory()[1] / x0.nbytes
    tracemalloc.stop()
    run = budget.Run((100, 150), None, (100, 150), (), ("conv1_1",), method, 1)
    planned = budget.run_memory(read_network(weights), run)["optimizer"] / x0.nbytes
    assert planned + 1 == pytest.approx(taken, abs=1.5, rel=0.06)


def test_the_seconds_are_those_of_the_last_scale(weights):
    pictures = {"content": "sample:coast", "style": "sample:starry"}
    rates = budget.Rates(1e-11, 1e-10, 1e-5)
    many, one = (
        ns.plan("transfer", **pictures, weights=weights, size=64, scales=scales, iterations=5, rates=rates)
        for scales in ((32, 64), ())
    )
    assert (many.scales, many.iterations, many.seconds) == ([32, 64], 10, one.seconds)
    assert one.total_seconds == 5 * one.seconds < many.total_seconds < 10 * one.seconds
