import os
import subprocess
import sys

import numpy as np
import pytest

from nsnumpy import load_vgg
from nsnumpy import machine as blas

AVX512 = {"avx2", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("architectures", "flags", "environment", "expected"),
    [
        ({"Haswell"}, AVX512, {}, "SKYLAKEX"),
        ({"Zen"}, AVX512, {}, "SKYLAKEX"),
        ({"Haswell", "SkylakeX"}, AVX512, {}, "SKYLAKEX"),  # NumPy's and scipy's need not agree
        ({"SkylakeX"}, AVX512, {}, ""),
        ({"Cooperlake"}, AVX512, {}, ""),
        ({"Haswell"}, {"avx2"}, {}, ""),
        ({"Haswell"}, AVX512 - {"avx512vl"}, {}, ""),
        ({"Haswell"}, AVX512, {"OPENBLAS_CORETYPE": "Haswell"}, ""),  # the user's choice
        ({"neoversen1"}, set(), {}, ""),
        (set(), AVX512, {}, ""),
    ],
)
def test_the_wrong_kernel_is_told_from_the_right_one(architectures, flags, environment, expected):
    assert blas.better_kernel(architectures, flags, environment) == expected


@pytest.fixture
def wrong(monkeypatch):
    """A processor with AVX-512 under a BLAS that does not know it."""
    monkeypatch.setattr(blas, "processor_flags", lambda: AVX512)
    monkeypatch.setattr(
        blas,
        "threadpool_info",
        lambda: [{"internal_api": "openblas", "architecture": "Haswell"}, {"user_api": "openmp"}],
    )
    monkeypatch.delenv(blas.VARIABLE, raising=False)


def test_the_program_starts_again_with_the_right_kernel(wrong, monkeypatch):
    started = []
    monkeypatch.setattr(blas.os, "execve", lambda *arguments: started.append(arguments), raising=False)
    monkeypatch.setattr(blas.sys, "platform", "linux")
    monkeypatch.setattr(blas.sys, "orig_argv", ["python", "-m", "nsnumpy", "transfer", "a b.png"])
    blas.restart_with_better_kernel()
    ((program, arguments, environment),) = started
    assert (program, arguments) == (sys.executable, [sys.executable, "-m", "nsnumpy", "transfer", "a b.png"])
    assert environment == os.environ | {"OPENBLAS_CORETYPE": "SKYLAKEX"}
    monkeypatch.setenv(blas.VARIABLE, "SKYLAKEX")  # as the restarted program finds it
    blas.restart_with_better_kernel()
    assert len(started) == 1


def test_python_is_told_the_line_that_mends_it(wrong, monkeypatch):
    with pytest.warns(blas.KernelWarning, match="OPENBLAS_CORETYPE=SKYLAKEX") as told:
        load_vgg()
    assert told[0].filename == __file__
    monkeypatch.setattr(blas, "processor_flags", lambda: {"avx2"})
    load_vgg()  # a warning would be an error


@pytest.mark.slow
def test_results_are_the_same_with_every_kernel_that_this_processor_has():
    flags = blas.processor_flags()
    kernels = ["Sandybridge"] * ("avx" in flags) + ["Haswell"] * ("avx2" in flags) + ["SKYLAKEX"] * (flags >= AVX512)
    if len(kernels) < 2:
        pytest.skip("one kernel, or none known, for this processor")
    code = (
        "import sys, numpy as np, nsnumpy as ns\n"
        "from threadpoolctl import threadpool_info\n"
        "p, a = ns.load_image('sample:coast', 64), ns.load_image('sample:starry', 64)\n"
        "loss, gradient = ns.Objective(ns.load_vgg(threads=1), content=p, style=a, beta=3e8)(0.5 * (p + a))\n"
        "np.savez(sys.argv[1], loss=loss, gradient=gradient)\n"
        "print(*(library.get('architecture') for library in threadpool_info()))\n"
    )
    results, architectures = [], set()
    for kernel in kernels:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, f"{kernel}.npz"],
            env=os.environ | {blas.VARIABLE: kernel},
            capture_output=True,
            text=True,
            check=True,
        )
        architectures.add(run.stdout)
        with np.load(f"{kernel}.npz") as file:
            results.append((float(file["loss"]), file["gradient"]))
    assert len(architectures) == len(kernels) or "None" in "".join(architectures)
    for loss, gradient in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=2e-5)
        assert np.linalg.norm(gradient - results[0][1]) < 1e-4 * np.linalg.norm(gradient)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
