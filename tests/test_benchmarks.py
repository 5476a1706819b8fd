"""The two sides of the benchmarks compute the same thing; without that, their times say nothing."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import nsnumpy as ns
from nsnumpy import WeightFile, load_vgg, transfer, write_weights
from nsnumpy.files.random_network import random_weights

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "benchmarks"


def load(name):
    """A benchmark as a module; they import each other, as scripts of one folder."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workers():
    return load("workers")


@pytest.fixture(scope="module")
def gpu():
    return load("gpu")


@pytest.fixture(scope="module")
def optimizers():
    return load("optimizers")


@pytest.fixture
def weights(tmp_path, tiny_weights):
    write_weights(tmp_path / "w.h5", WeightFile(tiny_weights))
    return str(tmp_path / "w.h5")


@pytest.mark.parametrize(("name", "short"), [("README.md", True), ("docs/benchmarks.md", False)])
def test_the_pages_tables_are_those_of_the_results(name, short):
    compare, results = load("compare"), json.loads((FOLDER / "results.json").read_text())
    shown = (FOLDER.parent / name).read_text().partition(compare.MARKS[0])[2].partition(compare.MARKS[1])[0]
    assert shown == f"\n{compare.table(results, short=short)}\n"
    assert len(compare.table(results, short=True).splitlines()) == 5  # two evaluations and the memory


def test_the_tables_take_the_place_of_others_and_of_nothing_else(tmp_path):
    compare, results = load("compare"), json.loads((FOLDER / "results.json").read_text())
    (tmp_path / "docs").mkdir()
    pages = [tmp_path / "README.md", tmp_path / "docs/benchmarks.md"]
    for page in pages:
        page.write_text(f"before\n{compare.MARKS[0]}\n| old |\n{compare.MARKS[1]}\nafter\n")
    compare.write_tables(results, tmp_path)
    for page, short in zip(pages, (True, False), strict=True):
        whole = f"before\n{compare.MARKS[0]}\n{compare.table(results, short=short)}\n{compare.MARKS[1]}\nafter\n"
        assert page.read_text() == whole


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous_format"])
def test_both_sides_have_one_objective(workers, weights, memory_format):
    pytest.importorskip("torch")
    content, style = workers.pictures(48, 56)
    x = 0.5 * (content + style)
    loss, gradient = workers.NsNumpy(weights, content, style, 1).evaluate(x)
    other, other_gradient = workers.Torch(weights, content, style, 1, memory_format).evaluate(x)
    # Winograd's rounding in float32 is 1e-5 here, and which way it falls depends on BLAS's kernels for this machine.
    assert loss == pytest.approx(other, rel=1e-4)
    assert np.linalg.norm(gradient - other_gradient) < 1e-3 * np.linalg.norm(gradient)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_the_other_side_optimises_too(workers, weights, search):
    pytest.importorskip("torch")
    content, style = workers.pictures(32, 32)
    rows = workers.Torch(weights, content, style, 1).optimize(content, 4, line_search=search)
    assert len(rows) >= 4
    assert rows[-1][1] < rows[0][1]


def test_an_optimisation_ends_at_its_target(workers, weights):
    content, style = workers.pictures(32, 32)
    worker = workers.NsNumpy(weights, content, style, 1)
    rows = worker.optimize(content, 12)
    assert len(rows) == 13
    half = worker.optimize(content, 12, target=rows[5][1])
    assert len(half) == 6
    assert half[-1][1] <= rows[5][1]


def test_a_worker_prints_its_result(workers, weights, monkeypatch, capsys, tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read the peak from")
    options = json.dumps({"repeats": 2, "gradient": str(tmp_path / "g.npy")})
    monkeypatch.setattr(sys, "argv", ["workers.py", "nsnumpy", "evaluate", weights, "32", "40", "1", options])
    workers.main()
    result = json.loads(capsys.readouterr().out)
    assert len(result["seconds"]) == 2
    assert result["loss"] > 0
    assert result["peak_bytes"] > 20e6
    assert np.load(tmp_path / "g.npy").shape == (32, 40, 3)


def test_a_run_is_timed_and_its_evaluations_counted(workers, weights, monkeypatch, capsys):
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read the peak from")
    options = json.dumps({"iterations": 3, "warm_up": 2})
    monkeypatch.setattr(sys, "argv", ["workers.py", "nsnumpy", "optimize", weights, "32", "40", "1", options])
    workers.main()
    result = json.loads(capsys.readouterr().out)
    assert len(result["rows"]) == 4
    assert 4 <= result["evaluations"] <= 3 * 4  # and not those that warmed up: a search of some takes a few
    assert result["seconds"] >= result["rows"][-1][0] > 0


def test_pytorch_counts_its_evaluations(workers, weights):
    pytest.importorskip("torch")
    worker = workers.Torch(weights, *workers.pictures(32, 32), 1)
    rows = worker.optimize(workers.pictures(32, 32)[0], 3)
    assert worker.evaluations == len(rows) == 3


def test_tf32_is_not_taken_for_granted_on_the_cpu(workers, weights):
    pytest.importorskip("torch")
    for side in (workers.NsNumpy, workers.Torch):
        with pytest.raises(ValueError, match="(?i)tf32"):
            side(weights, *workers.pictures(32, 32), 1, device="cpu", tf32=True)


def test_every_layer_is_timed_both_ways_on_the_same_map(workers, weights, tiny_weights, monkeypatch):
    results = []

    def call(function, rounds, repeats):
        results.append(function())
        return 1.0

    monkeypatch.setattr(workers, "milliseconds", call)
    rows = workers.layers(weights, 32, 1, 1, 1, {"device": "cpu", "tf32": False, "dtype": "float64"})
    assert [row["layer"] for row in rows] == list(tiny_weights)
    arrays = [result[0] if isinstance(result, tuple) else result for result in results]
    for k in range(0, len(arrays), 4):
        forward, backward, by_definition, back_by_definition = arrays[k : k + 4]
        np.testing.assert_allclose(forward, by_definition, atol=1e-10)
        np.testing.assert_allclose(backward, back_by_definition, atol=1e-10)


def test_milliseconds_are_those_of_one_call(workers):
    calls = []
    assert workers.milliseconds(lambda: (calls.append(1) or np.ones((2, 2, 2)), None), 3, 4) > 0
    assert len(calls) == 1 + 3 * 4


def test_the_sides_agree_on_a_device(workers, weights, stand_in, monkeypatch):
    """As far as a stand-in for CuPy can tell: the pixels stay on the device, the gradient is the CPU's."""
    content, style = workers.pictures(32, 40)
    x = 0.5 * (content + style)
    expected, expected_gradient = workers.NsNumpy(weights, content, style, 1, dtype="float64").evaluate(x)
    worker = workers.NsNumpy(weights, content, style, 1, device="gpu", dtype="float64")
    image = worker.place(x)
    worker.wait()
    loss, gradient = worker.loss_and_gradient(image)
    assert type(gradient) is type(image) is stand_in.ndarray
    assert loss == pytest.approx(expected, rel=1e-9)
    assert np.linalg.norm(worker.to_host(gradient) - expected_gradient) < 1e-9 * np.linalg.norm(expected_gradient)
    assert len(worker.optimize(content, 2)) == 3
    monkeypatch.setattr(stand_in, "get_default_memory_pool", lambda: SimpleNamespace(total_bytes=lambda: 4096))
    assert worker.peak_bytes() == 4096


@pytest.mark.parametrize("tf32", [False, True])
def test_layers_are_timed_on_a_device_in_the_precision_asked_for(workers, weights, stand_in, monkeypatch, tf32):
    precisions, milliseconds = [], workers.milliseconds

    def timed(*arguments):
        stand_in.work.reset()
        took = milliseconds(*arguments)
        precisions.append(stand_in.work.precisions)
        return took

    monkeypatch.setattr(workers, "milliseconds", timed)
    rows = workers.layers(weights, 32, 1, 1, 1, {"device": "gpu", "tf32": tf32})
    assert len(precisions) == 4 * len(rows)
    assert set().union(*precisions) == {11 if tf32 else 24}


def test_the_table_has_every_size_in_every_precision(gpu, monkeypatch, stand_in, tmp_path):
    pytest.importorskip("torch")

    def run(side, task, weights, size, threads, *, made, iterations=0, **options):
        """A side that takes so long, PyTorch's second format and TF32 half of it."""
        assert made["device"] == "gpu"
        seconds = 8.0 if side == "nsnumpy" else 4.0
        seconds /= (1 + made["tf32"]) * (1 + (made.get("memory_format") == "contiguous_format"))
        if task == "layers":
            times = {"forward_ms": seconds, "backward_ms": 2 * seconds}
            return {"layers": [{"layer": "conv1_1", "size": [512, 512], "fast": times, "definition": times}]}
        if task == "evaluate":
            return {"seconds": [seconds] * options["repeats"]}
        rows = [(0.1, 5.0), (0.2, 2.0), (0.3, float("nan"))]
        return {"rows": rows, "seconds": seconds * iterations, "evaluations": iterations, "peak_bytes": seconds * 1e9}

    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(gpu, "parts", lambda *_: {})
    monkeypatch.setattr(gpu, "parity", lambda *_: {name: {"loss": 0.0, "gradient": 0.0} for name in gpu.TOLERANCES})
    path = tmp_path / "gpu.json"
    arguments = {"threads": 1, "device": "gpu", "sizes": [64, 96], "iterations": 7, "rounds": 2}
    results = gpu.measure(Path("w.h5"), SimpleNamespace(**arguments, json=path, quick=False))
    assert json.loads(path.read_text()) == results
    expected = [([side, side], precision) for side in (64, 96) for precision in ("float32", "TF32")]
    for part in ("evaluations", "runs"):
        assert [(row["size"], row["precision"]) for row in results[part]] == expected
    assert {(row["ratio"], row["torch_format"]) for row in results["evaluations"]} == {(4.0, "contiguous_format")}
    assert all(row["ratio"]["loss"] == 1.0 and row["nsnumpy"]["loss"] == 2.0 for row in results["runs"])
    text = gpu.table(results)
    assert "| one evaluation, 96 x 96, TF32 | 4.00 s (4.00 s to 4.00 s) | 1.00 s (1.00 s to 1.00 s) | 4.00 |" in text
    assert (
        "| 7 L-BFGS iterations, 64 x 64, float32 | 56.00 s (7 evaluations) | 14.00 s (7 evaluations) | 4.00 |" in text
    )
    assert "| conv1_1, 512 x 512 | 4 ms | 4 ms | 8 ms | 8 ms |" in text
    assert text.splitlines()[-1].startswith("stand-in, driver ")


@pytest.mark.parametrize(("factor", "fails"), [(1.0, False), (1.01, True), (np.nan, True)])
def test_the_parity_fails_when_the_gradient_is_wrong(gpu, weights, monkeypatch, factor, fails):
    pytest.importorskip("torch")
    run = gpu.run

    def scaled(side, task, *arguments, made, gradient, **options):
        done = run(side, task, *arguments, made=made, gradient=gradient, **options)
        if side == "nsnumpy" and made == gpu.made("cpu", "float32"):
            np.save(gradient, factor * np.load(gradient))
        return done

    monkeypatch.setattr(gpu, "run", scaled)
    errors = gpu.parity(weights, 1, "cpu", (40, 48))
    assert set(errors) == set(gpu.TOLERANCES)
    assert [text.partition(" error")[0] for text in gpu.failures(errors)] == ["float32: relative"] * fails


def test_the_parity_fails_when_a_loss_is_wrong(gpu):
    errors = {name: {"loss": 0.0, "gradient": 0.0} for name in gpu.TOLERANCES}
    assert gpu.failures(errors) == []
    errors["float64"] = gpu.relative_errors((-2.0, np.ones(3)), (-2.0 - 1e-8, np.ones(3)))
    assert gpu.failures(errors) == ["float64: relative error of the loss 5.0e-09, less than 1e-09 expected"]


def test_a_parity_that_fails_stops_the_script(gpu, monkeypatch, tmp_path):
    wrong = {name: {"loss": 1.0, "gradient": 1.0} for name in gpu.TOLERANCES}
    monkeypatch.setattr(gpu, "environment", lambda threads: {})
    monkeypatch.setattr(gpu, "parts", lambda *_: {})
    monkeypatch.setattr(gpu, "parity", lambda *_: wrong)
    monkeypatch.setattr(gpu, "layers", lambda *_: pytest.fail("timed all the same"))
    arguments = SimpleNamespace(threads=1, device="cpu", rounds=1, json=tmp_path / "g.json", quick=True)
    with pytest.raises(SystemExit, match="nothing was timed"):
        gpu.measure(Path("w.h5"), arguments)
    assert not arguments.json.exists()


def test_parts_are_held_to_their_precision(gpu, stand_in, monkeypatch):
    errors = {precision: gpu.parts("gpu", precision) for precision in gpu.precisions("gpu")}
    assert gpu.failing_parts(errors) == []
    swapped = {"float32": errors["TF32"], "TF32": errors["float32"]}
    assert [text.partition(":")[0] for text in gpu.failing_parts(swapped)] == [
        "Gram matrix of 512 filters, float32", "Gram matrix of 64 filters, TF32", "Gram matrix of 512 filters, TF32"
    ]  # fmt: skip
    errors["TF32"]["first layer"] = 1e-4  # whose kernel is none of cuBLAS's
    assert gpu.failing_parts(errors) == ["first layer, TF32: relative error 1.0e-04, less than 5e-05 expected"]


def test_blocks_of_each_size_are_timed(gpu, stand_in, monkeypatch):
    asked = []

    def run(side, task, weights, size, threads, *, made, block_mib, **options):
        asked.append((size, made["tf32"], block_mib))
        return {"seconds": [0.3, 0.1, 0.2], "peak_bytes": 5}

    monkeypatch.setattr(gpu, "run", run)
    rows = gpu.blocks(Path("w.h5"), SimpleNamespace(device="gpu", sizes=[64], threads=1, blocks=[24, 256]))
    assert asked == [((64, 64), tf32, size) for tf32 in (False, True) for size in (24, 256)]
    assert {row["milliseconds"] for row in rows} == {200.0}


@pytest.fixture
def model(stand_in, monkeypatch):
    """Of a narrow network."""
    module = load("model")
    monkeypatch.setattr(module, "WIDTHS", (4, 4, 6, 8, 8))
    monkeypatch.setattr(module, "ITERATIONS", 6)
    return module


def test_the_model_counts_what_a_run_would_launch(model, stand_in):
    """As many of each as where all of them are run."""
    launches = model.evaluation(48)
    assert sys.modules["cupy"] is stand_in
    x = stand_in.zeros((48, 48, 3), "float32")
    objective = ns.Objective(ns.VGG(random_weights(model.WIDTHS, seed=0), xp=stand_in), content=x, style=x)
    objective(x)
    stand_in.work.reset()
    objective(x)
    assert Counter(name for name, _, _ in launches) == stand_in.work.launches
    for name, size, operations in launches:
        if name in ("first", "first_adjoint"):  # 27 products for each number of y; each array once
            assert operations == 54 * 48 * 48 * 4
            assert 4 * 48 * 48 * (3 + 4) < size < 4 * 48 * 48 * (3 + 4) + 1000
    assert len(model.iteration(16)) <= 40


def test_the_model_adds_up(model):
    def launches(*each):
        return [("gemm", bytes, operations) for bytes, operations in each]

    card = model.Card(flops=4.0, tf32_flops=8.0, bandwidth=2.0, launch=0.0)
    assert model.seconds(launches((6.0, 0.0), (0.0, 8.0)), card) == 3 + 2  # one waits for the other
    assert model.seconds(launches((6.0, 0.0), (0.0, 8.0)), card, tf32=True) == 3 + 1
    assert model.seconds([("first", 0.0, 8.0)], card, tf32=True) == 2  # by no tensor core
    assert model.seconds(launches((6.0, 8.0)), card._replace(launch=1.0)) == 1 + 3  # the longer of two
    slow = card._replace(launch=5.0)
    assert model.seconds(launches((2.0, 0.0), (2.0, 0.0), (2.0, 0.0)), slow) == 15 + 1  # the host is slower
    said = []
    rows = model.estimate([32], model.Card(launch=1e-3), said.append)
    assert len(rows) == len(said) == 4
    assert all("estimated" in text for text in said)
    for row in rows:
        assert row["estimated_ms"] == pytest.approx([row["launches"]] * 2, rel=0.01)
        assert row["estimated_ms_without_launches"] < 1


def test_the_model_is_asked_of_the_command(gpu, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(gpu, "estimate", lambda sizes, card: asked.append((sizes, card)))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--model", "--sizes", "64", "--bandwidth", "1e12", "--tf32-flops", "3"])
    gpu.main()
    ((sizes, card),) = asked
    assert (sizes, card.bandwidth, card.tf32_flops, card.flops) == ([64], 1e12, 3.0, 67e12)


def test_the_first_steps_do_not_stop_at_one_that_fails(tmp_path, monkeypatch):
    first, path = load("first"), tmp_path / "first.json"
    steps = (
        ("one", "python -c 'print(6 * 7)'", 60),
        ("two", "python -c 'print(1); exit(3)'", 60),
        ("three", "no-such-program --tool memcheck", 60),
        ("four", "python -u -c 'import time; print(2, flush=True); time.sleep(60)'", 2),
    )
    results = first.first(path, steps)
    assert json.loads(path.read_text()) == results
    assert [row["ended"] for row in results] == [
        "exit status 0", "exit status 3", "not run (No such file or directory: no-such-program)", "stopped after 2 s"
    ]  # fmt: skip
    assert [row["output"].strip() for row in results] == ["42", "1", "", "2"]
    assert first.arguments_of("pytest -n 0 a")[1:] == ["-m", "pytest", "-q", "-n", "0", "a"]


def test_the_first_steps_are_those_of_the_page():
    first = load("first")
    page = (FOLDER.parent / "docs" / "gpu.md").read_text()
    block = next(part for part in page.split("```") if "show_config" in part)
    lines = [line.partition("  #")[0].strip() for line in block.replace("\\\n", "").splitlines()[1:]]
    shown = [" ".join(line.split()) for line in lines if line]
    assert shown == [command.replace(first.KERNELS, "$KERNELS") for _, command, _ in first.STEPS]
    assert f'KERNELS="{first.KERNELS}"' in page


def test_a_device_that_is_missing_is_one_line(tmp_path):
    path = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, FOLDER / "gpu.py", "--quick", "--json", path],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("gpu.py: device 'gpu' ")
    assert done.stderr.count("\n") == 1
    assert not path.exists()


def test_a_side_that_fails_is_named(gpu, weights, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gpu, "weight_file", lambda: nullcontext(weights))
    monkeypatch.setattr(gpu, "measure", lambda *_: gpu.run("nsnumpy", "evaluate", weights, (8, 9), 1))  # too small
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit, match=r"nsnumpy, evaluate at 9 x 8 failed \(exit status 1\)"):
        gpu.main()


def test_pytorch_without_cuda_is_one_line(gpu, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(gpu, "device_namespace", lambda device: np)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^gpu.py: PyTorch \S+ finds no CUDA device") as stopped:
        gpu.check_device("gpu")
    assert "\n" not in stopped.value.code
    gpu.check_device("cpu")


@pytest.mark.parametrize("method", ["lbfgs-device", "scipy"])
def test_optimizers_are_stopped_after_so_many_evaluations(optimizers, method):
    seen = []

    def f(x):
        seen.append(float(np.sum((x - 0.3) ** 4)))
        return seen[-1], 4 * (x - 0.3) ** 3

    result = optimizers.minimise(f, np.linspace(0, 1, 12).reshape(2, 2, 3), method, 8)
    assert result["evaluations"] == len(seen) == 8
    assert list(result["losses"]) == ["2", "4", "8"]
    assert result["losses"]["8"] <= result["losses"]["4"] <= result["losses"]["2"] <= seen[0]
    assert all(any(np.isclose(loss, other) for other in seen[: int(n)]) for n, loss in result["losses"].items())
    assert result["stopped"] == ""


def test_the_overhead_is_the_time_outside_the_objective(optimizers, monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 7.0, 10.0])  # start; two evaluations, of 2 and 3 seconds; end
    monkeypatch.setattr(optimizers.time, "perf_counter", lambda: next(clock))

    def minimize(f, x, *, callback, **_):
        for _ in range(2):
            loss, _ = f(x)
            callback(optimizers.ns.optimize.Iterate(0, loss, 0.0, 0.0, x, {}))
        return optimizers.ns.optimize.Minimum(x, loss, 1)

    monkeypatch.setattr(optimizers.ns, "minimize", minimize)
    result = optimizers.minimise(lambda x: (1.0, x), np.zeros(3), "scipy", 2)
    assert (result["seconds"], result["seconds_inside"], result["overhead"]) == (10.0, 5.0, 2.5)


def test_a_default_picture_is_made_with_either_method_in_processes_of_their_own(
    optimizers, weights, tmp_path, monkeypatch, capsys
):
    json_file = tmp_path / "out.json"
    options = ["--rounds", "2", f"--transfer=--size 40 --iterations 3 --weights {weights}", "--evaluations", "2"]
    options += ["--size", "32", "--threads", "1", "--json", str(json_file)]
    monkeypatch.setattr(sys, "argv", ["optimizers.py", *options])
    known = {"cpu": "a", "threads": 1, "blas": ["b"], "python": "3", "versions": {"scipy": "1"}, "date": "d"}
    monkeypatch.setattr(optimizers, "environment", lambda threads: known)  # the versions of what may not be here
    monkeypatch.setattr(optimizers, "PAIRS", optimizers.PAIRS[:1])
    optimizers.main()
    results = json.loads(json_file.read_text())
    row = results["picture"]
    assert (row["content"], row["size"], row["iterations"]) == ("sample:coast", 40, 3)
    vgg = load_vgg(weights, threads=1)
    for method in optimizers.METHODS:
        runs = row["rounds"][method]
        expected = transfer("sample:coast", "sample:starry", vgg=vgg, size=40, iterations=3, optimizer=method)
        assert [run["loss"] for run in runs] == pytest.approx([expected.settings["loss"]] * 2, rel=1e-4)
        assert all(20e6 < run["peak_bytes"] < 2e9 and run["seconds"] > 0 for run in runs)
        for name in ("seconds", "peak_bytes", "loss"):
            assert row[method][name] == pytest.approx(np.mean([run[name] for run in runs]))
    ratio = row["lbfgs-device"]["seconds"] / row["scipy"]["seconds"]
    assert row["ratio"]["seconds"] == pytest.approx(ratio)
    assert list(results["pairs"][0]["lbfgs-device"]["losses"]) == ["1", "2"]
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in err.splitlines()[:4]] == ["lbfgs-device", "scipy"] * 2  # in turn
    assert f"| default picture (--size 40 --iterations 3 --weights {weights}): time | " in out
    assert " | scipy's L-BFGS-B | ratio |" in out
    assert "| coast, starry: time | " in out


def test_the_peak_is_the_commands_own_and_not_its_parents(optimizers):
    """Whose memory a child has until it has begun its own program, and whose peak it is told with from then on."""
    held = np.ones(300_000_000, np.uint8)
    command = [sys.executable, "-c", optimizers.MEASURED, sys.executable, "-c", "b'x' * 60_000_000"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert 60e6 < json.loads(done.stdout)["peak_bytes"] < 0.5 * held.nbytes


@pytest.fixture
def normalization():
    return load("normalization")


def test_features_ten_times_as_large_want_an_alpha_over_beta_a_hundred_times_as_large(
    normalization, tiny_weights, monkeypatch
):
    monkeypatch.setattr(normalization, "DECADES", 4)
    file = WeightFile(tiny_weights)
    arguments = SimpleNamespace(size=40, iterations=5)
    vggs = [normalization.loaded(made, 1) for made in (normalization.scaled(file, 10.0), file)]
    x = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
    larger, smaller = (vgg.forward(x, ["conv4_2"])[0]["conv4_2"] for vgg in vggs)
    assert larger == pytest.approx(10 * smaller, rel=1e-2, abs=1e-2)
    grids = [normalization.Grid(vgg, vggs[1], arguments) for vgg in vggs]
    for grid in grids:
        assert sum(1 for _ in grid.run()) == len(grid.errors) == 9
        assert grid.errors[0] > 1.5 * grid.errors[-1]
        assert grid.logs[0] <= grid.at(0.1) < grid.at(0.5) < grid.at(0.9) <= grid.logs[-1]
    found, pictures = normalization.compared(*grids)
    assert found["factor"] == pytest.approx(100, rel=0.1)
    assert found["factor_predicted"] == pytest.approx(100, rel=1e-3)
    assert found["apart"] < 0.5
    assert found["range"][0] / found["range_normalized"][0] == pytest.approx(100, rel=0.5)
    assert {name: len(row) for name, row in pictures.items()} == {"normalized": 6, "as it is": 6}
    assert normalization.drawn(pictures).shape[2] == 3


def test_the_same_network_wants_the_same_alpha_over_beta(normalization, tiny_weights, monkeypatch):
    monkeypatch.setattr(normalization, "DECADES", 1)
    vgg = normalization.loaded(WeightFile(tiny_weights), 1)
    grid = normalization.Grid(vgg, vgg, SimpleNamespace(size=32, iterations=2))
    list(grid.run())
    found, _ = normalization.compared(grid, grid)
    assert (found["factor"], found["factor_predicted"], found["apart"]) == (1, 1, 0)


def test_what_normalisation_does_is_written_for_each_network(
    normalization, tiny_weights, tmp_path, monkeypatch, capsys
):
    write_weights(tmp_path / "tiny.h5", WeightFile(tiny_weights))
    monkeypatch.setattr(normalization, "DECADES", 2)
    monkeypatch.setattr(normalization, "ALWAYS", ())
    json_file, folder = tmp_path / "out.json", tmp_path / "sheets"
    arguments = ["normalization.py", "--weights", str(tmp_path / "tiny.h5"), "--size", "32", "--iterations", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--threads", "1", "--json", str(json_file), "-o", str(folder)])
    assert normalization.main() == 0
    row = json.loads(json_file.read_text())["networks"]["tiny"]
    assert len(row["alpha_over_beta"]["as it is"]) == len(row["alpha_over_beta"]["normalized"]) == 5
    assert row["mean_style"][0] < row["mean_content"] < row["mean_style"][1]
    assert "| tiny | " in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["tiny.png"]


@pytest.fixture
def steps(monkeypatch):
    module = load("steps")
    monkeypatch.setattr(module, "FULL", 1)
    monkeypatch.setattr(module, "MULTIPLICATIONS", 1000)
    monkeypatch.setattr(module, "COPIED", 1000)
    return module


@pytest.mark.parametrize("threads", [1, 2])
def test_the_profiles_parts_are_the_whole_and_every_step_is_met(steps, weights, threads, tmp_path, monkeypatch, capsys):
    met, timed = set(), steps.clocks.Profile._timed

    def noted(self, function, *place, **options):
        inner = timed(self, function, *place, **options)
        return lambda *args, **kwargs: met.add(function) or inner(*args, **kwargs)

    monkeypatch.setattr(steps.clocks.Profile, "_timed", noted)
    named = {getattr(where, name) for where, name, *_ in steps.clocks.TIMED}
    json_file = tmp_path / "out.json"
    options = ["--size", "40", "--iterations", "3", "--weights", weights, "--threads", str(threads)]
    monkeypatch.setattr(sys, "argv", ["steps.py", *options, "--json", str(json_file)])
    steps.main()
    assert met >= named
    assert named == {getattr(where, name) for where, name, *_ in steps.clocks.TIMED}  # all is as it was
    results = json.loads(json_file.read_text())
    rows, totals = results["layers"], results["totals"]
    assert rows.keys() == results["floor"].keys()
    assert list(rows) == ["picture", *(name for name in load_vgg(weights, threads=1).layers if name in rows)]
    assert {step for row in rows.values() for step, ms in row.items() if ms} == set(steps.STEPS)
    assert rows["conv4_2"]["product"] > 0 == rows["picture"]["product"]
    assert [layer for layer, row in rows.items() if row["optimiser"]] == ["picture"]
    assert {layer for layer, row in rows.items() if row["pooling"]} == {"conv1_2", "conv2_2", "conv3_4", "conv4_4"}
    lost = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "picture"}
    assert {layer for layer, row in rows.items() if row["losses"]} == lost
    assert sum(sum(row.values()) for row in rows.values()) == pytest.approx(totals["cpu"])
    assert 0 < totals["unshared"] < 1.001 * totals["cpu"]
    assert totals["cpu"] <= 1.05 * threads * totals["wall"]  # two clocks
    assert totals["evaluations"] >= 3
    assert all(part > 0 or row == "picture" for row, of in results["floor"].items() for part in of.values())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*steps.STEPS, "all", "share", "floor", "ratio"]
    assert [line.split()[0] for line in lines[1 : lines.index("")]] == [*rows, "all", "share"]


def test_what_is_profiled_is_the_same_and_a_name_that_is_gone_is_an_error(steps, tiny_vgg, picture, monkeypatch):
    vgg, x, p, a = tiny_vgg(), *(picture(32, 40, seed) for seed in range(3))
    f = steps.ns.Objective(vgg, content=p, style=a)
    watched = steps.clocks.Profile()
    with watched.attached(vgg):
        loss, gradient = f(x)
    assert watched.taken()[0]["conv3_1", "product"] > 0
    expected = f(x)
    assert watched.taken() == ({}, 0)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    monkeypatch.setattr(steps.clocks, "TIMED", (*steps.clocks.TIMED, (steps.clocks.host, "lay_stones", "lay", "")))
    with pytest.raises(AttributeError, match="lay_stones"), watched.attached(vgg):
        pass


def test_a_thread_is_in_one_place_at_a_time(steps, monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(steps.time, "thread_time", lambda: next(clock))
    watched = steps.clocks.Profile()
    with watched.at("Python", "conv1_1"), watched.at("cut"), watched.at("product", "conv2_1"):
        pass
    parts = {("conv1_1", "Python"): 1 + 5, ("conv1_1", "cut"): 2 + 4, ("conv2_1", "product"): 3}
    assert watched.taken() == (parts, 15)


def test_jobs_are_at_work_in_the_layer_that_gave_them_out_and_shared_if_there_are_several(steps, tiny_vgg, monkeypatch):
    monkeypatch.setattr(steps.time, "thread_time", iter(map(float, range(100))).__next__)
    vgg, watched = tiny_vgg(threads=2), steps.clocks.Profile()
    with watched.attached(vgg), watched.at("lay", "conv3_1"):
        watched.taken()
        vgg.workers.map(lambda job, _: None, [1])
        assert watched.taken() == ({("conv3_1", "lay"): 2}, 2)
        vgg.workers.map(lambda job, _: None, [1, 2, 3])
        parts, unshared = watched.taken()
    assert parts.keys() == {("conv3_1", "lay")}
    assert unshared < parts.total()
