"""`RawKernel` of the stand-in for CuPy (strict_cupy.py): CUDA C++ compiled for the host, one thread after the other."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

COMPILER: str | None = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)
MIXED = "host and device are mixed: move it with cupy.asarray or .get() first"

# As on a device's one stream. A launch works on copies, and puts them back.
_ONE_AT_A_TIME = threading.Lock()

_PRELUDE = """
#include <math.h>
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __constant__ static const
struct stand_in_dim { unsigned x, y, z; };
static thread_local stand_in_dim gridDim, blockDim, blockIdx, threadIdx;
template <class N> static inline N min(N a, N b) { return b < a ? b : a; }
template <class N> static inline N max(N a, N b) { return a < b ? b : a; }
static inline float rsqrtf(float a) { return 1 / sqrtf(a); }
static inline double rsqrt(double a) { return 1 / sqrt(a); }
template <class N> static inline N __ldg(const N *p) { return *p; }
template <class N> static inline N atomicAdd(N *p, N a) { N old = *p; *p += a; return old; }
#line 1 "kernel"
"""

# Threads run one after the other, forwards or backwards: a kernel whose result depends on it has a race.
_LAUNCHER = """
extern "C" void stand_in_launch_{name}(const unsigned *grid, const unsigned *block, void **args, int backwards,
                                     unsigned long long stand_in_from) {{
    gridDim = {{grid[0], grid[1], grid[2]}};
    blockDim = {{block[0], block[1], block[2]}};
    const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
    const unsigned long long threads = block[0] * block[1] * block[2];
    for (unsigned long long k = stand_in_from; k < blocks * threads; k++) {{
        const unsigned long long i = backwards ? blocks * threads - 1 - k : k, b = i / threads, t = i % threads;
        blockIdx = {{unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])}};
        threadIdx = {{unsigned(t % block[0]), unsigned(t / block[0] % block[1]), unsigned(t / block[0] / block[1])}};
        {name}({arguments});
    }}
}}
"""

_C_TYPES = {
    "bool": "?",
    "char": "int8",
    "signed char": "int8",
    "unsigned char": "uint8",
    "short": "int16",
    "unsigned short": "uint16",
    "int": "int32",
    "unsigned": "uint32",
    "unsigned int": "uint32",
    "long long": "int64",
    "unsigned long long": "uint64",
    "size_t": "uint64",
    "float": "float32",
    "double": "float64",
}

_FORBIDDEN = {
    r"__syncthreads\w*|__shared__|__syncwarp|__shfl\w*": "the stand-in runs threads one after the other",
    r"#\s*include": "NVRTC has no standard headers",
}


class _Parameter:
    """One parameter of a kernel: `const T* __restrict__ x`."""

    def __init__(self, text: str, aliases: dict[str, str]) -> None:
        words = re.sub(r"\b(__restrict__|__restrict|restrict)\b", " ", text).replace("*", " * ").split()
        self.name = words.pop()
        self.pointer = "*" in words
        pointee = words[: words.index("*")] if self.pointer else words
        self.const = "const" in pointee
        spelled = " ".join(word for word in pointee if word != "const")
        while spelled in aliases:
            spelled = aliases[spelled]
        if spelled not in _C_TYPES or words.count("*") > 1:
            raise NotImplementedError(f"the stand-in does not know the type of the kernel's parameter {text.strip()!r}")
        self.type = spelled
        self.dtype = np.dtype(_C_TYPES[spelled])

    def argument(self, index: int) -> str:
        """How the launcher passes it."""
        return f"({self.type} *)args[{index}]" if self.pointer else f"*({self.type} *)args[{index}]"


def _kernels(code: str, definitions: tuple[str, ...]) -> dict[str, list[_Parameter]]:
    """The kernels of a source, by name."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", code, flags=re.DOTALL)
    for pattern, reason in _FORBIDDEN.items():
        if match := re.search(pattern, text):
            raise NotImplementedError(f"RawKernel: {match[0]} cannot be used: {reason}")
    aliases = {new: " ".join(old.split()) for old, new in re.findall(r"\btypedef\s+([\w\s]+?)\s+(\w+)\s*;", text)}
    aliases |= {new: " ".join(old.split()) for new, old in re.findall(r"\busing\s+(\w+)\s*=\s*([\w\s]+?)\s*;", text)}
    aliases |= {new: old.strip() for new, old in re.findall(r"#\s*define\s+(\w+)[ \t]+([a-z][a-z ]*)", text)}
    aliases |= dict(definition[2:].partition("=")[::2] for definition in definitions)
    bounds = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    found = re.findall(rf'extern\s+"C"\s+__global__\s+{bounds}void\s+{bounds}(\w+)\s*\(([^)]*)\)', text)
    return {
        name: [_Parameter(p, aliases) for p in parameters.split(",") if p.strip() not in ("", "void")]
        for name, parameters in found
    }


@functools.cache
def _compile(code: str, definitions: tuple[str, ...]) -> tuple[ctypes.CDLL, dict[str, list[_Parameter]]]:
    kernels = _kernels(code, definitions)
    launchers = [
        _LAUNCHER.format(name=name, arguments=", ".join(p.argument(i) for i, p in enumerate(parameters)))
        for name, parameters in kernels.items()
    ]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the library stays when its file goes
        source, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        source.write_text(_PRELUDE + code + "\n" + "".join(launchers))
        command = [COMPILER, "-std=c++14", "-O1", "-shared", "-fPIC", "-w", *definitions, "-o", library, source]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the kernel does not compile:\n{done.stderr}")
        return ctypes.CDLL(str(library)), kernels


class RawKernel:
    """CUDA C++ compiled for the host. Arguments that do not fit are refused, where CuPy would pass them on unseen."""

    def __init__(
        self,
        code: str,
        name: str,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        *,
        enable_cooperative_groups: bool = False,
        jitify: bool | None = None,
        work: Any = None,
    ) -> None:
        if not isinstance(code, str) or not isinstance(name, str) or not isinstance(options, tuple):
            raise TypeError("RawKernel(code: str, name: str, options: tuple) expected")
        if COMPILER is None:
            raise RuntimeError(
                "the stand-in's RawKernel needs a C++ compiler: none of $CXX, c++, g++, clang++ is there"
            )
        if translate_cucomplex or enable_cooperative_groups or jitify:
            raise NotImplementedError("the stand-in's RawKernel has no complex numbers, cooperative groups or jitify")
        self.code, self.name, self.options, self.backend, self._work = code, name, options, backend, work
        self._definitions = tuple(option for option in options if option.startswith("-D"))
        if name not in _kernels(code, self._definitions):
            raise ValueError(f'RawKernel: no kernel extern "C" __global__ void {name}(...) in the code')

    def compile(self, log_stream: Any = None) -> None:
        _compile(self.code, self._definitions)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple, *, shared_mem: int = 0) -> None:
        if shared_mem:
            raise NotImplementedError("RawKernel: shared_mem: the stand-in runs threads one after the other")
        grid = self._dimensions("grid", grid, (2**31 - 1, 65535, 65535))
        block = self._dimensions("block", block, (1024, 1024, 64))
        if math.prod(block) > 1024:
            raise ValueError(f"kernel {self.name}: a block has at most 1024 threads; block={block}")
        with _ONE_AT_A_TIME:
            self._launch(grid, block, args)
        if self._work is not None:
            self._work.count(self.name, [argument._array for argument in args if hasattr(argument, "_array")])

    def _launch(self, grid: tuple[int, int, int], block: tuple[int, int, int], args: tuple) -> None:
        library, kernels = _compile(self.code, self._definitions)
        parameters = kernels[self.name]
        if len(args) != len(parameters):
            raise TypeError(f"kernel {self.name}: {len(parameters)} arguments expected, {len(args)} given")
        pairs = list(zip(parameters, args, strict=True))
        for p, argument in pairs:
            self._check(p, argument)
        self._check_overlaps(pairs)
        launch = library[f"stand_in_launch_{self.name}"]

        def run(backwards: bool, guard: int) -> list[Any]:
            buffers = [_Buffer(a._array, guard) if p.pointer else np.array(a) for p, a in pairs]
            pointers = (ctypes.c_void_p * len(buffers))(*(buffer.ctypes.data for buffer in buffers))
            launch((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers, backwards, ctypes.c_ulonglong(0))
            for (p, _), buffer in zip(pairs, buffers, strict=True):
                if p.pointer and not buffer.intact():
                    raise ValueError(f"kernel {self.name} writes outside of its argument {p.name}")
            return buffers

        # In other surroundings, and with the threads the other way round, the result is the same.
        first, second = run(False, 0xFF), run(True, 0xA5)
        for k, (p, argument) in enumerate(pairs):
            if not p.pointer:
                continue
            result = first[k].array.tobytes()
            if result != second[k].array.tobytes():
                outside = result != run(False, 0xA5)[k].array.tobytes()
                on = "what is outside of the arguments" if outside else "the order in which the threads run"
                raise ValueError(f"kernel {self.name}: {p.name} depends on {on}")
            if p.const and result != argument._array.tobytes():
                raise ValueError(f"kernel {self.name} writes into its const argument {p.name}")
        for (p, argument), buffer in zip(pairs, first, strict=True):
            if p.pointer and not p.const:
                argument._array[...] = buffer.array

    def _dimensions(self, what: str, sizes: Any, most: tuple[int, int, int]) -> tuple[int, int, int]:
        if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3 or not all(isinstance(n, int) for n in sizes):
            raise TypeError(f"kernel {self.name}: {what} is a tuple of 1 to 3 ints, not {sizes!r}")
        sizes = (*sizes, 1, 1)[:3]
        if not all(1 <= n <= limit for n, limit in zip(sizes, most, strict=True)):
            raise ValueError(f"kernel {self.name}: {what}={sizes} is not within 1 ... {most}")
        return sizes

    def _check(self, p: _Parameter, argument: Any) -> None:
        where = f"kernel {self.name}, argument {p.name}"
        if not p.pointer:
            if not isinstance(argument, np.generic):
                raise TypeError(f"{where}: a scalar numpy.{p.dtype} expected, not {type(argument)}")
            if argument.dtype != p.dtype:
                raise TypeError(f"{where}: {p.dtype} expected, {argument.dtype} given")
            return
        if not hasattr(argument, "_array"):
            raise TypeError(f"{where}: Unsupported type {type(argument)}; {MIXED}")
        if argument.dtype != p.dtype:
            raise TypeError(f"{where}: an array of {p.dtype} expected, {argument.dtype} given")
        together = max(map(int, re.findall(r"\balignas\((\d+)\)", self.code)), default=1)
        if p.const and argument.data.ptr % together:  # a GPU would stop
            raise ValueError(f"{where}: {together} bytes are read at once, and its address is no multiple of that")
        if not argument.flags.c_contiguous:  # CuPy would pass the pointer, without the strides
            raise ValueError(f"{where}: a C-contiguous array expected; strides={argument.strides}")
        if not p.const and not argument._array.flags.writeable:
            raise ValueError(f"{where}: the array is read-only, and the parameter not const")

    def _check_overlaps(self, pairs: list[tuple[_Parameter, Any]]) -> None:
        arrays = [(p, argument._array) for p, argument in pairs if p.pointer]
        for (p, a), (q, b) in itertools.combinations(arrays, 2):
            if not (p.const and q.const) and np.may_share_memory(a, b):  # exact for contiguous arrays
                raise ValueError(f"kernel {self.name}: the arguments {p.name} and {q.name} overlap")


class _Buffer:
    """A copy of an array between two guard zones, each as long as itself and no shorter than 4096 elements.

    They are filled with one byte: 0xFF makes NaN (which NaN + 1 leaves as it is), 0xA5 a small number.
    """

    def __init__(self, array: np.ndarray, guard: int) -> None:
        length = max(4096, array.size)
        self._memory = np.empty(2 * length + array.size, array.dtype)
        self._memory.view(np.uint8)[:] = guard
        self._before, self._after = self._memory[:length], self._memory[length + array.size :]
        self._guard = self._before.tobytes()
        self.array = self._memory[length : length + array.size].reshape(array.shape)
        self.array[...] = array
        self.ctypes = self.array.ctypes

    def intact(self) -> bool:
        return self._before.tobytes() == self._guard == self._after.tobytes()
