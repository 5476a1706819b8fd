"""The stand-in's cuBLAS has CuPy's names and no others, and refuses what cuBLAS would refuse or compute wrongly."""

import ast
from pathlib import Path

import numpy as np
import pytest
import strict_cublas
import strict_cupy

if strict_cupy.REASON:
    pytest.skip(strict_cupy.REASON, allow_module_level=True)
if not strict_cupy.COMPILER:
    pytest.skip("no C++ compiler", allow_module_level=True)

import cupy as real

ROOT = Path(__file__).parent.parent
FILES = [path for folder in ("nsnumpy", "weights_tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


@pytest.fixture
def cp():
    return strict_cupy.make()


@pytest.fixture
def cublas(cp):
    return cp.cuda.cublas


def test_a_name_that_only_the_header_has_is_not_there(cublas):
    assert cublas.CUBLAS_OP_T == 1
    with pytest.raises(AttributeError):
        cublas.CUBLAS_TF32_TENSOR_OP_MATH  # noqa: B018
    with pytest.raises(AttributeError, match="does not imitate"):
        cublas.sgemm  # noqa: B018


def resolved(node, modules):
    """What an expression of names and attributes is in CuPy: (True, it), or (False, None) where that is not known.

    AttributeError where CuPy has no such attribute.
    """
    if isinstance(node, ast.Name):
        return (True, modules[node.id]) if node.id in modules else (False, None)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ("get_xp", "device_namespace"):
            return True, real
        known, function = resolved(node.func, modules)
        return (True, function) if known and isinstance(function, type) else (False, None)
    if isinstance(node, ast.Attribute):
        if node.attr in ("xp", "_xp"):
            return True, real
        known, owner = resolved(node.value, modules)
        if not known:
            return False, None
        if owner is real.cuda and node.attr == "cublas":
            return True, strict_cublas.real_module()
        theirs = not (isinstance(owner, type) and owner.__module__.startswith("numpy"))  # finfo, which has instances
        return (True, getattr(owner, node.attr)) if theirs else (False, None)
    return False, None


def missing(source):
    """The attributes of CuPy that a source names, as text, and those of them that CuPy lacks."""
    modules = {"xp": real, "cupy": real, "cublas": strict_cublas.real_module(), "runtime": real.cuda.runtime}
    named, lacking = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            try:
                known, _ = resolved(node, modules)
            except AttributeError:
                known = True
                lacking.add(text)
            if known:
                named.add(text)
    return named, lacking


def test_cupy_has_every_attribute_that_is_named_anywhere():
    named, lacking = set(), set()
    for path in FILES:
        here, not_there = missing(path.read_text())
        named |= here
        lacking |= {f"{path.relative_to(ROOT)}: {name}" for name in not_there}
    assert lacking == set()
    assert {"cublas.CUBLAS_COMPUTE_32F_FAST_TF32", "xp.cuda.Device().cublas_handle", "runtime.CUDA_R_64F"} <= named
    assert len(named) > 100


@pytest.mark.parametrize(
    "line",
    [
        "cublas.CUBLAS_TF32_TENSOR_OP_MATH",
        "xp.cuda.cublas.nothing",
        "get_xp(x).nothing",
        "self._xp.nothing(3)",
        "xp.cuda.Device().nothing",
        "runtime.CUDA_R_7F",
    ],
)
def test_an_attribute_that_cupy_lacks_is_found(line):
    assert missing(line)[1] == {line.removesuffix("(3)")}


# What the products refuse. The matrices: A is (4, 3) and B (3, 2), by columns.


@pytest.fixture
def call(cp, cublas):
    """gemmStridedBatchedEx of two stacks of two matrices, with some arguments changed."""
    x, y, out = cp.asarray(np.arange(24.0)), cp.asarray(np.arange(12.0)), cp.zeros(16)
    one, zero = np.ones(()), np.zeros(())
    kind = cp.cuda.runtime.CUDA_R_64F
    kinds = {"Atype": kind, "Btype": kind, "Ctype": kind, "computeType": cublas.CUBLAS_COMPUTE_64F}
    sizes = {"m": 4, "n": 2, "k": 3, "lda": 4, "ldb": 3, "ldc": 4, "strideA": 12, "strideB": 6, "strideC": 8}
    where = {"A": x.data.ptr, "B": y.data.ptr, "C": out.data.ptr}
    how = {"handle": cp.cuda.Device().cublas_handle, "algo": cublas.CUBLAS_GEMM_DEFAULT, "batchCount": 2}
    scalars = {"alpha": one.ctypes.data, "beta": zero.ctypes.data, "transa": 0, "transb": 0}
    arguments = kinds | sizes | where | how | scalars

    def call(**changes):
        cublas.gemmStridedBatchedEx(**arguments | changes)
        return out.get()

    call.arrays = x, y, out, one, zero
    return call


def test_products_by_columns(call):
    x, y = np.arange(24.0).reshape(2, 3, 4), np.arange(12.0).reshape(2, 2, 3)
    assert np.array_equal(call().reshape(2, 2, 4), y @ x)
    assert np.array_equal(call(strideA=0).reshape(2, 2, 4), y @ x[0])
    transposed = np.arange(24.0).reshape(2, 4, 3).swapaxes(1, 2)
    assert np.array_equal(call(transa=1, lda=3).reshape(2, 2, 4), y @ transposed)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"how": 3}, TypeError, "unexpected keyword argument 'how'"),
        ({"handle": 5}, RuntimeError, "not the device's handle"),
        ({"m": 0}, RuntimeError, "INVALID_VALUE"),
        ({"m": np.int64(4)}, TypeError, "whole numbers"),
        ({"lda": 3}, RuntimeError, "lda is 3, rows are 4"),
        ({"transb": 1}, ValueError, "B reaches beyond its array"),
        ({"transa": 1, "lda": 2}, RuntimeError, "lda is 2, rows are 3"),
        ({"ldc": 3}, RuntimeError, "ldc is 3"),
        ({"lda": 5}, ValueError, "A reaches beyond its array, by 16 bytes"),
        ({"strideA": 13}, ValueError, "A reaches beyond"),
        ({"batchCount": 3}, ValueError, "reaches beyond"),
        ({"strideC": 7}, ValueError, "matrices of C overlap"),
        ({"A": 64}, ValueError, "A points to no array"),
        ({"algo": 99}, ValueError, "CUBLAS_GEMM_DEFAULT expected"),
        ({"computeType": 68}, RuntimeError, "NOT_SUPPORTED"),
        ({"Atype": 0}, RuntimeError, "NOT_SUPPORTED"),
        ({"transa": 2}, RuntimeError, "transposed by 2"),
    ],
)
def test_what_does_not_fit_is_refused(call, changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


def test_results_go_where_they_may(call):
    x, _, out, _, zero = call.arrays
    with pytest.raises(ValueError, match="C overlaps a factor"):
        call(C=x.data.ptr)
    with pytest.raises(NotImplementedError, match="alpha = 1 and beta = 0"):
        call(alpha=zero.ctypes.data)
    strict_cupy.freeze(out)
    with pytest.raises(ValueError, match="read-only"):
        call()


def test_tf32_rounds_the_factors(cp):
    values = np.array([1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.14159, 0, np.inf], np.float32)
    rounded = strict_cublas._rounded(values, 11)
    assert rounded[:3].tolist() == [1 + 2**-10, 1 + 2**-10, 1]
    assert abs(rounded[3] + 3.14159) < 2**-10
    assert rounded[4:].tolist() == [0, np.inf]
    assert strict_cublas._rounded(values, 24) is values
