"""What to run first on a new card, in order, each step whatever the others did: `python benchmarks/gpu.py --first`.

Everything that the steps say goes to one file, which is written anew after each.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare import say

ROOT = Path(__file__).parent.parent
KEPT = 6000  # characters of a step's output, from its end
KERNELS = "pytest -n 0 --backend cupy tests/test_winograd.py::test_borders tests/test_kernels.py"

# (what it shows, command, seconds that it may take): as in docs/gpu.md, whose block this is
STEPS = (
    ("what CuPy sees", "python -c 'import cupy; cupy.show_config()'", 120),
    ("the attributes that the package names", "pytest -n 0 tests/test_strict_cublas.py", 300),
    ("the tests on the card", "pytest --backend cupy", 3600),
    ("memory: accesses out of bounds", f"compute-sanitizer --tool memcheck --error-exitcode 1 {KERNELS}", 3600),
    ("memory: races", f"compute-sanitizer --tool racecheck --error-exitcode 1 {KERNELS}", 3600),
    ("memory: reads before writes", f"compute-sanitizer --tool initcheck --error-exitcode 1 {KERNELS}", 3600),
    ("parity, and whether TF32 leaks into plain products", "python benchmarks/gpu.py --parity", 900),
    ("the quick table", "python benchmarks/gpu.py --quick --json gpu-quick.json", 1800),
    ("a profile of one run", "nsys profile -o gpu-profile --force-overwrite true nsnumpy texture sample:starry "
     "-o gpu-profile.png --size 512 --iterations 20 --device gpu", 900),
    ("sizes of the pieces of work", "python benchmarks/gpu.py --blocks 24,32,64,128,256 --json gpu-blocks.json", 1800),
    ("the table", "python benchmarks/gpu.py --sizes 512,1024,2048", 7200),
)  # fmt: skip


def first(path: Path, steps: tuple[tuple[str, str, float], ...] = STEPS) -> list[dict[str, Any]]:
    """Run them; what each said is written to the path."""
    results: list[dict[str, Any]] = []
    for title, command, limit in steps:
        say(f"{title}: {command}")
        results.append({"step": title, "command": command} | outcome(arguments_of(command), limit))
        path.write_text(json.dumps(results, indent=1) + "\n")
        say(f"{title}: {results[-1]['ended']} after {results[-1]['seconds']:.0f} s")
    return results


def arguments_of(command: str) -> list[str]:
    """With this interpreter, and its own pytest and nsnumpy."""
    words = []
    for word in shlex.split(command):
        module = {"pytest": ["-m", "pytest", "-q"], "nsnumpy": ["-m", "nsnumpy"], "python": []}.get(word)
        words += [word] if module is None else [sys.executable, *module]
    return words


def outcome(arguments: list[str], limit: float) -> dict[str, Any]:
    """How a command ended, how long it took, and the end of what it said."""
    began = time.perf_counter()
    output: str | bytes | None
    try:
        done = subprocess.run(
            arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit
        )
        ended, output = f"exit status {done.returncode}", done.stdout
    except subprocess.TimeoutExpired as error:
        ended, output = f"stopped after {limit:g} s", error.stdout
    except OSError as error:
        ended, output = f"not run ({error.strerror}: {arguments[0]})", ""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return {"ended": ended, "seconds": time.perf_counter() - began, "output": text[-KEPT:]}
