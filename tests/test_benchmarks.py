"""The two sides of the benchmark compute the same thing; without that, their times say nothing."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nsnumpy import WeightFile, write_weights

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def workers():
    spec = importlib.util.spec_from_file_location("benchmark_workers", FOLDER / "workers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def weights(tmp_path, tiny_weights):
    write_weights(tmp_path / "w.h5", WeightFile(tiny_weights))
    return str(tmp_path / "w.h5")


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous_format"])
def test_both_sides_have_one_objective(workers, weights, memory_format):
    pytest.importorskip("torch")
    content, style = workers.pictures(48, 56)
    x = 0.5 * (content + style)
    loss, gradient = workers.NsNumpy(weights, content, style, 1).evaluate(x)
    other, other_gradient = workers.Torch(weights, content, style, 1, memory_format).evaluate(x)
    assert loss == pytest.approx(other, rel=1e-5)
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
