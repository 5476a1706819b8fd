"""What a new process imports, and when."""

import os
import subprocess
import sys

import pytest


def run(code):
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


@pytest.mark.parametrize("start", ["import nsnumpy", "from nsnumpy.cli import main, parser; parser()"])
def test_what_takes_long_to_load_is_loaded_when_it_is_needed(start):
    """scipy alone takes longer than NumPy and this package together."""
    loaded = run(f"{start}; import sys; print(*sys.modules)")
    assert "numpy" in loaded
    assert not {"scipy", "matplotlib", "cupy", "torch"} & set(loaded)


def test_scipys_own_blas_has_one_thread_though_it_came_late():
    code = """
import numpy as np, threadpoolctl
from nsnumpy.optimize import minimize
from nsnumpy.workers import one_blas_thread
with one_blas_thread:  # NumPy's is found, scipy's is not there yet
    pass
before = len(one_blas_thread.libraries.info())
seen = []
def f(x):
    seen.append([each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"])
    return float((x * x).sum()), 2 * x
minimize(f, np.ones(3), iterations=2, method="scipy")
print(before, len(seen[0]), *sorted({n for each in seen for n in each}))
"""
    before, during, *threads = run(code)
    assert int(during) >= int(before) >= 1
    assert threads == ["1"]
