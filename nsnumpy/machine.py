"""The machine: its cores, its memory, and whether NumPy's (and scipy's) BLAS runs the right kernel for its processor.

OpenBLAS chooses its kernel from the processor's name, and on a processor that is newer than itself it may fall back to
one without AVX-512, at half the speed. The environment variable OPENBLAS_CORETYPE, read when NumPy is loaded, sets the
kernel.
"""

from __future__ import annotations

import math
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


def usable_cores() -> int:
    """The number of cores that this process may use: its affinity, and the quota of its control group (containers)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


def available_bytes() -> int | None:
    """What this process can have: what it has, plus what the machine and its control group (container) have left."""
    limits = []
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        pass
    return min(limits) + resident_bytes() if limits else None


def resident_bytes() -> int:
    """What the process holds now; where that cannot be told, what it held after its imports when it was measured."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 100_000_000


def peak_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
