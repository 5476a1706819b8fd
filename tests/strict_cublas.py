"""cuBLAS of the stand-in for CuPy (strict_cupy.py): products of matrices at raw addresses, checked, and by NumPy.

What it has are the names of CuPy's own module, imported: over an empty library of the right name where NVIDIA's is
missing. So a name that only the header of cuBLAS has is not there, as on a GPU.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import inspect
import re
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from strict_kernels import COMPILER

_MODULE = "cupy_backends.cuda.libs.cublas"
_PRODUCTS = ("gemmEx", "gemmStridedBatchedEx")
_KINDS = {"float32": "CUDA_R_32F", "float64": "CUDA_R_64F"}
_FACTOR_BITS = {"CUBLAS_COMPUTE_32F": 24, "CUBLAS_COMPUTE_32F_FAST_TF32": 11, "CUBLAS_COMPUTE_64F": 53}


@functools.cache
def real_module() -> ModuleType:
    """CuPy's module of cuBLAS; ImportError where it can be had neither with NVIDIA's library nor with an empty one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(_MODULE)
    except ImportError as error:
        missing = re.search(r"libcublas\.so\.\d+", str(error))
        if not missing or COMPILER is None:
            raise
        load_empty_library(missing[0], Path(importlib.util.find_spec(_MODULE).origin))
        return importlib.import_module(_MODULE)


def load_empty_library(name: str, user: Path) -> None:
    """A library of this name, with every function that the compiled module `user` wants of it; none does anything."""
    prefix = re.match(r"lib(\w+)\.so", name)[1].encode()
    wanted = sorted({match.decode() for match in re.findall(rb"\b" + prefix + rb"[A-Z]\w+", user.read_bytes())})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        source, version, library = (Path(folder, file) for file in ("empty.c", "version", name))
        source.write_text("".join(f'extern "C" int {function}() {{ return 1; }}\n' for function in wanted))
        version.write_text(f"{name} {{ global: *; }};\n")
        options = ["-shared", "-fPIC", f"-Wl,-soname,{name}", f"-Wl,--version-script={version}", "-o", str(library)]
        subprocess.run([COMPILER, "-x", "c++", *options, str(source)], check=True, capture_output=True)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Cublas:
    """The constants of CuPy's module, and two of its functions."""

    def __init__(self, module: Any, handle: int) -> None:
        self._module, self._handle = module, handle

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or (name not in _PRODUCTS and not name.startswith("CUBLAS_")):
            raise AttributeError(f"the stand-in does not imitate {_MODULE}.{name}")
        real = getattr(real_module(), name)
        if name not in _PRODUCTS:
            return real
        parameters = inspect.Signature(
            inspect.Parameter(text.split()[-1], inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for text in re.search(r"\((.*)\)", real.__doc__)[1].split(",")
        )

        def products(*args: Any, **kwargs: Any) -> None:
            """``C = op(A) op(B)``, stored by columns; as many of them as the batch has."""
            given = parameters.bind(*args, **kwargs).arguments
            single = {"strideA": 0, "strideB": 0, "strideC": 0, "batchCount": 1} if name == "gemmEx" else {}
            self._products(name, SimpleNamespace(**given | single))

        products.__signature__ = parameters
        return products

    def _products(self, name: str, p: SimpleNamespace) -> None:
        if wrong := {key: value for key, value in vars(p).items() if type(value) is not int}:
            raise TypeError(f"{name}: whole numbers of Python expected; {wrong} given")
        if not all(0 < number < 2**31 for number in (p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.batchCount)):
            raise RuntimeError(f"CUBLAS_STATUS_INVALID_VALUE: {name}: sizes are positive and have 32 bits")
        if p.handle != self._handle:
            raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED: not the device's handle")
        real, runtime = real_module(), self._module.cuda.runtime
        if p.algo != real.CUBLAS_GEMM_DEFAULT:
            raise ValueError(f"{name}: CUBLAS_GEMM_DEFAULT expected: any other algorithm may reduce the precision")
        types = {p.Atype, p.Btype, p.Ctype}
        dtype = next((d for d, kind in _KINDS.items() if types == {getattr(runtime, kind)}), None)
        bits = {getattr(real, kind): number for kind, number in _FACTOR_BITS.items()}.get(p.computeType)
        if dtype is None or bits is None or (bits == 53) != (dtype == "float64"):
            raise RuntimeError(f"CUBLAS_STATUS_NOT_SUPPORTED: {name}: types {types} in {p.computeType}")
        scalar = np.ctypeslib.as_ctypes_type(np.dtype(dtype))
        if (scalar.from_address(p.alpha).value, scalar.from_address(p.beta).value) != (1, 0):
            raise NotImplementedError("the stand-in multiplies by alpha = 1 and beta = 0 only")
        flags = {real.CUBLAS_OP_N: False, real.CUBLAS_OP_T: True}
        if p.transa not in flags or p.transb not in flags:
            raise RuntimeError(f"CUBLAS_STATUS_INVALID_VALUE: {name}: transposed by {p.transa} and {p.transb}")
        shapes = {
            "A": (p.k, p.m) if flags[p.transa] else (p.m, p.k),
            "B": (p.n, p.k) if flags[p.transb] else (p.k, p.n),
            "C": (p.m, p.n),
        }
        a, b, c = (self._matrices(name, what, shape, dtype, p) for what, shape in shapes.items())
        if p.batchCount > 1 and p.strideC < (p.n - 1) * p.ldc + p.m:
            raise ValueError(f"{name}: the matrices of C overlap")
        if any(np.may_share_memory(c, factor) for factor in (a, b)):
            raise ValueError(f"{name}: C overlaps a factor, which cuBLAS reads while it writes")
        if not c.flags.writeable:
            raise ValueError(f"{name}: the result is read-only")
        op_a, op_b = (x.swapaxes(1, 2) if flags[t] else x for x, t in ((a, p.transa), (b, p.transb)))
        with np.errstate(all="ignore"):
            c[...] = np.matmul(_rounded(op_a, bits), _rounded(op_b, bits))
        read = [x if step else x[:1] for x, step in ((a, p.strideA), (b, p.strideB))]
        self._module.work.count("gemm", [*read, c])
        self._module.work.precisions.add(bits)

    def _matrices(self, name: str, what: str, shape: tuple[int, int], dtype: str, p: SimpleNamespace) -> np.ndarray:
        """Those at an address, ``(batch, rows, columns)``, stored by columns, within one array of the device."""
        address, leading, stride = (getattr(p, key) for key in (what, f"ld{what.lower()}", f"stride{what}"))
        (rows, columns), batch = shape, p.batchCount
        if leading < rows:
            raise RuntimeError(f"CUBLAS_STATUS_INVALID_VALUE: {name}: ld{what.lower()} is {leading}, rows are {rows}")
        itemsize = np.dtype(dtype).itemsize
        size = ((batch - 1) * stride + (columns - 1) * leading + rows) * itemsize
        for start, reference in self._module.memory.copy().items():  # other threads make arrays, and give them up
            if (owner := reference()) is not None and start <= address < start + owner.nbytes:
                break
        else:
            raise ValueError(f"{name}: {what} points to no array of the device")
        if stride < 0 or address % itemsize or address + size > start + owner.nbytes:
            raise ValueError(
                f"{name}: {what} reaches beyond its array, by {address + size - start - owner.nbytes} bytes"
            )
        flat = owner.reshape(-1, order="A").view(np.uint8)[address - start : address - start + size].view(dtype)
        strides = tuple(itemsize * step for step in (stride, 1, leading))
        return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), strides, writeable=flat.flags.writeable)


def _rounded(a: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of float32 with so many bits, as the tensor cores read them: those of more are rounded to nearest."""
    if bits != 11:
        return a
    half = np.uint32(1 << 12)
    words = np.ascontiguousarray(a).view(np.uint32)
    return np.where(np.isfinite(a), ((words + half) & ~np.uint32((1 << 13) - 1)).view(np.float32), a)
