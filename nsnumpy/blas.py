"""Whether NumPy's (and scipy's) BLAS runs the right kernel for this processor.

OpenBLAS chooses its kernel from the processor's name, and on a processor that is newer than itself it may fall back to
one without AVX-512, at half the speed. The environment variable OPENBLAS_CORETYPE, read when NumPy is loaded, sets the
kernel.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from threadpoolctl import threadpool_info

VARIABLE = "OPENBLAS_CORETYPE"
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # what OpenBLAS's SkylakeX kernel uses
_WITHOUT = {
    "prescott",
    "nehalem",
    "sandybridge",
    "haswell",
    "bulldozer",
    "piledriver",
    "steamroller",
    "excavator",
    "zen",
}


class KernelWarning(UserWarning):
    """NumPy's BLAS runs a slower kernel than the processor has."""


def processor_flags() -> set[str]:
    """The processor's features as Linux names them; none where that cannot be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def better_kernel(architectures: set[str], flags: set[str], environment: Mapping[str, str]) -> str:
    """The value that OPENBLAS_CORETYPE should have, or "" where all is well or the user has set something.

    Parameters
    ----------
    architectures : set of str
        What the loaded OpenBLAS libraries say that they run, as threadpoolctl reports it.
    flags : set of str
        The processor's, see `processor_flags`.
    environment : mapping
        The environment variables.
    """
    without = {name.lower() for name in architectures} & _WITHOUT
    return "SKYLAKEX" if without and flags >= _AVX512 and not environment.get(VARIABLE) else ""


def missing_kernel() -> str:
    """`better_kernel` for this process as it is."""
    libraries = [library for library in threadpool_info() if library.get("internal_api") == "openblas"]
    return better_kernel({library.get("architecture") or "" for library in libraries}, processor_flags(), os.environ)


def restart_with_better_kernel() -> None:
    """Start this program again, in this process, with the right kernel, if it runs the wrong one; else do nothing."""
    kernel = missing_kernel()
    if kernel and hasattr(os, "execve") and sys.platform == "linux":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {VARIABLE: kernel})


def warn_of_kernel() -> None:
    """A `KernelWarning` if this process runs the wrong kernel. Python shows a warning once."""
    if kernel := missing_kernel():
        warnings.warn(
            "NumPy's OpenBLAS does not use this processor's AVX-512, and is about half as fast as it could be: "
            f"start Python with {VARIABLE}={kernel} in its environment",
            KernelWarning,
            stacklevel=3,
        )
