"""What a new process imports, and when."""

import os
import signal
import subprocess
import sys

import pytest
from pages import ROOT

import nsnumpy
from nsnumpy.cli.main import parser


def run(code):
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


@pytest.mark.parametrize("start", ["import nsnumpy; nsnumpy.transfer", "from nsnumpy.cli.main import parser; parser()"])
def test_what_takes_long_to_load_is_loaded_when_it_is_needed(start):
    """scipy alone takes longer than NumPy and this package together."""
    loaded = run(f"{start}; import sys; print(*sys.modules)")
    assert "numpy" in loaded
    assert not {"scipy", "h5py", "tqdm", "matplotlib", "cupy", "torch"} & set(loaded)


@pytest.mark.parametrize("start", ["nsnumpy", "nsnumpy.cli", "nsnumpy; dir(nsnumpy.__version__)"])
def test_nothing_is_loaded_before_it_is_asked_for(start):
    assert not {"numpy", "argparse", "nsnumpy.api"} & set(run(f"import {start}; import sys; print(*sys.modules)"))


@pytest.mark.parametrize("words", [["--help"], ["-h"], [], ["transfre"]])
def test_what_there_is_to_do_is_said_without_what_it_takes_to_do_it(words):
    """And which BLAS runs is not asked where none is needed."""
    code = f"""
import sys
from nsnumpy.cli.main import main
try:
    main({words})
except SystemExit as end:
    print("status", end.code)
print(*sys.modules)
"""
    said = run(code)
    assert said[said.index("status") + 1] == ("0" if words and words[0].startswith("-") else "2")
    assert not {"numpy", "PIL", "threadpoolctl", "nsnumpy.backend", "nsnumpy.api", "nsnumpy.cli.run"} & set(said)


@pytest.mark.parametrize("words", ["", "--help", "-h", "--version", "look --help"])
def test_the_blas_is_looked_at_before_all_that_needs_it(words):
    """And after NumPy has loaded it."""
    code = f"""
import sys
import nsnumpy.machine
nsnumpy.machine.restart_with_better_kernel = lambda: print("looked", "numpy" in sys.modules)
sys.argv[1:] = {words.split()}
from nsnumpy.cli import program
try:
    program()
except SystemExit:
    pass
"""
    said = run(code)
    assert said[:2] == ["looked", "True"] if "--version" in words or "look" in words else "looked" not in said[:2]


def test_the_help_is_the_same_whether_commands_are_loaded_or_not():
    assert parser([]).format_help() == parser().format_help() == parser(["--version", "look"]).format_help()
    assert parser(["look"]).parse_args(["look"]).photo is None


def test_the_public_names_are_there_whoever_asks_first():
    for first in ("from nsnumpy.use_cases import transfer", "from nsnumpy import *", "import nsnumpy.ops", "pass"):
        code = f"{first}; import nsnumpy as ns; print(callable(ns.transfer), ns.ops.__name__, 'plan' in dir(ns))"
        assert run(code) == ["True", "nsnumpy.ops", "True"], first
    with pytest.raises(AttributeError, match="module 'nsnumpy' has no attribute 'transfers'"):
        nsnumpy.transfers  # noqa: B018
    with pytest.raises(ImportError):
        from nsnumpy import transfers  # noqa: F401


@pytest.mark.parametrize("command", [["nsnumpy", "plot", "--help"], ["weights_tools", "--help"]])
def test_ctrl_c_while_the_program_is_loaded_has_no_traceback(command, tmp_path):
    """In the middle of an import of NumPy's, which takes its time here."""
    (tmp_path / "numpy.py").write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


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
