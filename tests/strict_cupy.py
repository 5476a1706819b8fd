"""A stand-in for the module `cupy` that computes with NumPy on the host and is stricter than both.

It proves, without a GPU, that code keeps to CuPy's rules where NumPy's are laxer:

- host and device never mix: an operation takes the stand-in's arrays and scalars, never a `numpy.ndarray`;
- what crosses the border does so by name (`asarray`, `array`; `get`, `item`, `tolist`, `tobytes`, `asnumpy`), and is
  counted; `float`, `bool`, `int`, a loop over an array and its text are refused, which CuPy would grant silently, with
  a wait for the device;
- functions, methods and their arguments are those of the installed CuPy, asked by `inspect`;
- reductions and single elements are zero-dimensional arrays;
- raw kernels are compiled as C++ and run one thread after the other; what they do outside of their arguments is found.

It is no proof of speed, of rounding, of CuPy's random numbers, or of anything that depends on threads running at once.
Where CuPy allows what the stand-in does not imitate, it raises an error that says so.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import inspect
import itertools
import math
import operator
import os
import re
import shutil
import subprocess
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

REASON = ""
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no CUDA is no news here
        import cupy as _cupy
except ImportError as error:
    _cupy = None
    REASON = f"CuPy cannot be imported ({error}): pip install '.[test,cupy-test]'"

COMPILER: str | None = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)

_MIXED = "host and device are mixed: move it with cupy.asarray or .get() first"
_WAITS = "would wait for the device: move it to the host by name, with .get() or nsnumpy.backend.to_host"
_DTYPES = "?bhilqBHILQefdFD"  # all that CuPy has: no long double, no objects, no text

# cupy.ufunc has no signature. Its __call__ takes these by name and answers "Wrong arguments" to all others; so say the
# docstrings of the ufuncs, too: "maximum(x1, x2, /, out=None, \*, casting='same_kind', dtype=None)".
UFUNC_KEYWORDS = {"out", "dtype", "casting"}

_ARRAYS = {"a", "arr", "array", "ary", "m", "x", "condition", "prototype"}  # CuPy makes no arrays of these by itself
_SCALARS_TOO = {("where", "x"), ("isclose", "a"), ("allclose", "a"), ("shape", "a"), ("ndim", "a"), ("size", "a")}
_SECOND = {"matmul", "dot", "vdot", "inner", "outer", "kron", "tensordot"}  # whose b is an array as well
_PRODUCTS = {"matmul", "dot"}
_DEVICE_RESULTS = {"allclose", "array_equal", "array_equiv", "count_nonzero"}  # NumPy answers with a Python scalar
_SPACES = {"lib", "lib.stride_tricks", "linalg", "fft"}


class Transfers:
    """How often data has crossed the border, by direction."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.to_host = self.to_device = 0


def make() -> types.ModuleType:
    """A stand-in for the module `cupy`, with counters and limits of its own."""
    if REASON:
        raise RuntimeError(REASON)
    return _Module()


def freeze(array: Any) -> Any:
    """`array`, which from now on refuses to be written to; so do views taken from now on."""
    array._array.flags.writeable = False
    return array


# Signatures


@functools.cache
def signature(real: Any) -> inspect.Signature:
    """The signature of one of CuPy's functions or methods; Cython's tell theirs in the docstring's first line."""
    try:
        return inspect.signature(real)
    except (ValueError, TypeError):
        head = (real.__doc__ or "").strip().partition("\n")[0]
    match = re.fullmatch(r"[\w.]+\((.*)\)( -> .*)?", head)
    if not match:
        raise NotImplementedError(f"the stand-in cannot read the signature of cupy's {real.__name__}: {head!r}")
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for text in match[1].split(", ") if match[1] else []:
        text, _, default = text.partition("=")
        name = text.split()[-1]  # a C type may stand before it
        if name == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif name.startswith("**"):
            parameters.append(inspect.Parameter(name[2:], inspect.Parameter.VAR_KEYWORD))
        elif name.startswith("*"):
            parameters.append(inspect.Parameter(name[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = inspect.Parameter.KEYWORD_ONLY
        elif name != "/":
            parameters.append(inspect.Parameter(name, kind, default=default or inspect.Parameter.empty))
    return inspect.Signature(parameters)


def _bind(name: str, real: Any, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    try:
        return signature(real).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}(): {error}; cupy has {name}{signature(real)}") from None


@functools.cache
def _moved(real: Any, host: Any) -> dict[str, str]:
    """Parameters at whose place NumPy expects another one that both have (argmax's third); NumPy's by CuPy's name."""
    try:
        theirs = inspect.signature(host).parameters
    except (ValueError, TypeError):
        return {}
    ours = signature(real).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in (*ours.values(), *theirs.values())):
        return {}
    pairs = zip(ours, theirs, strict=False)
    return {name: other for name, other in pairs if name != other and (name in theirs or other in ours)}


def _check_order(name: str, real: Any, host: Any, count: int) -> None:
    """Refuse positional arguments that mean something else to NumPy."""
    moved = _moved(real, host)
    for parameter in list(signature(real).parameters)[:count]:
        if parameter in moved:
            raise TypeError(f"{name}(): pass {parameter} by name: NumPy has {moved[parameter]} at its place")


# What goes into NumPy's functions and what comes out


def _is_host_array(value: Any) -> bool:
    kind = type(value)
    return not issubclass(kind, np.generic) and (
        issubclass(kind, (memoryview, bytearray)) or hasattr(kind, "__array__") or hasattr(kind, "__array_interface__")
    )


def _unwrap(value: Any, name: str, known: list[_Array]) -> Any:
    if isinstance(value, _Array):
        known.append(value)
        return value._array
    if _is_host_array(value):
        raise TypeError(f"{name}: Unsupported type {type(value)}; {_MIXED}")
    if type(value) in (list, tuple):
        items = [_unwrap(item, name, known) for item in value]
        return type(value)(items)
    return value


def _wrap(module: _Module, value: Any, known: Iterable[_Array]) -> Any:
    """Results as stand-in arrays: the same object for the same array, so that `out` comes back as it went in."""
    if isinstance(value, (np.ndarray, np.generic)):
        for array in known:
            if array._array is value:
                return array
        value = np.asarray(value)
        if value.dtype.char not in _DTYPES:
            raise TypeError(f"cupy has no arrays of {value.dtype}")
        if not any(np.may_share_memory(value, array._array) for array in known):
            module.check_allocation(value.nbytes)
        array = object.__new__(module.ndarray)
        array._array = value
        return array
    if isinstance(value, (tuple, list)):
        items = [_wrap(module, item, known) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _run(module: _Module, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
    known: list[_Array] = []
    args = _unwrap(args, name, known)
    kwargs = {key: _unwrap(value, name, known) for key, value in kwargs.items()}
    with np.errstate(all="ignore"):  # a GPU does not tell
        result = function(*args, **kwargs)
    if name.rpartition(".")[2] in _DEVICE_RESULTS:
        result = np.asarray(result)
    return _wrap(module, result, known)


def _check_out(name: str, out: Any) -> None:
    for array in out if isinstance(out, tuple) else (out,):
        if array is not None and not isinstance(array, _Array):
            raise TypeError(f"{name}: out has the unsupported type {type(array)}; {_MIXED}")


# Arrays


class _Flags(NamedTuple):
    """CuPy's flags: nothing about writing. (CuPy lets one set `writeable`, and forgets it.)"""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool


class _Array:
    """What all stand-in arrays are; each module has a class `ndarray` of its own."""

    __slots__ = ("_array",)
    __array_ufunc__ = None  # so that NumPy's functions and operators leave stand-in arrays alone
    __hash__ = None
    _module: _Module

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("the stand-in makes arrays by cupy.empty, zeros, asarray ... only")

    def __repr__(self) -> str:
        return f"<array of the stand-in for cupy, {self.dtype} {self.shape}>"

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_function__(self, function: Callable, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was given an array of the device; {_MIXED}")

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(f"this use of an array of the device {_WAITS}")

    __float__ = __int__ = __bool__ = __index__ = __complex__ = __iter__ = __contains__ = _refuse
    __format__ = __bytes__ = __reduce__ = _refuse

    def __reduce_ex__(self, _: Any) -> Any:
        self._refuse()

    def __len__(self) -> int:
        return len(self._array)

    def __copy__(self) -> _Array:
        return _wrap(self._module, self._array.copy(), ())

    def __deepcopy__(self, _: Any) -> _Array:
        return self.__copy__()

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    size = property(lambda self: self._array.size)
    ndim = property(lambda self: self._array.ndim)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    strides = property(lambda self: self._array.strides)
    device = property(lambda self: self._module.cuda.Device())

    @property
    def flags(self) -> _Flags:
        flags = self._array.flags
        return _Flags(flags.c_contiguous, flags.f_contiguous, flags.owndata)

    T = property(lambda self: _wrap(self._module, self._array.T, [self]))
    real = property(lambda self: _wrap(self._module, self._array.real, [self]))
    imag = property(lambda self: _wrap(self._module, self._array.imag, [self]))

    def __getattr__(self, name: str) -> Any:
        real = getattr(_cupy.ndarray, name, None)
        if name.startswith("_") or real is None:
            raise AttributeError(f"cupy.ndarray has no {name!r}")
        if not callable(real) or not hasattr(np.ndarray, name):
            raise AttributeError(f"the stand-in does not imitate cupy.ndarray.{name}")

        def method(*args: Any, **kwargs: Any) -> Any:
            full = f"cupy.ndarray.{name}"
            bound = _bind(full, real, (self, *args), kwargs)
            _check_order(full, real, getattr(np.ndarray, name), 1 + len(args))
            _check_out(full, bound.arguments.get("out"))
            return _run(self._module, full, getattr(np.ndarray, name), (self, *args), kwargs)

        return method

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        """A copy on the host."""
        self._module.transfers.to_host += 1
        if out is None:
            return self._array.copy(order)
        if not isinstance(out, np.ndarray) or (out.shape, out.dtype) != (self.shape, self.dtype):
            raise TypeError("cupy.ndarray.get(): out is no host array of this shape and dtype")
        out[...] = self._array
        return out

    def item(self) -> Any:
        self._module.transfers.to_host += 1
        return self._array.item()

    def tolist(self) -> Any:
        self._module.transfers.to_host += 1
        return self._array.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        self._module.transfers.to_host += 1
        return self._array.tobytes(order)

    def _key(self, key: Any) -> tuple[tuple, bool]:
        """The key for NumPy, and whether arrays are in it."""
        keys = key if isinstance(key, tuple) else (key,)
        for k in keys:
            whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
            if not (whole or k is None or k is Ellipsis or isinstance(k, (slice, _Array))):
                raise TypeError(f"Unsupported type {type(k)} as an index; {_MIXED}")
        advanced = any(isinstance(k, _Array) for k in keys)
        plain = tuple(k._array if isinstance(k, _Array) else k for k in keys)
        # With an ellipsis, a single element is a zero-dimensional view, too.
        return plain if any(k is Ellipsis for k in keys) else (*plain, Ellipsis), advanced

    def __getitem__(self, key: Any) -> _Array:
        key, advanced = self._key(key)
        found = self._array[key]
        return _wrap(self._module, found.copy(), ()) if advanced else _wrap(self._module, found, [self])

    def __setitem__(self, key: Any, value: Any) -> None:
        with np.errstate(all="ignore"):
            self._array[self._key(key)[0]] = _operand(value)


def _operand(value: Any) -> Any:
    if isinstance(value, _Array):
        return value._array
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}; {_MIXED}")


_BINARY = (
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "divmod",
    "pow",
    "lshift",
    "rshift",
    "and",
    "or",
)
_BINARY += ("xor",)


def _add_operators() -> None:
    def add(name: str, function: Callable, *, swapped: bool = False, in_place: bool = False) -> None:
        def method(self: _Array, *others: Any) -> Any:
            values = [self._array, *map(_operand, others)]
            with np.errstate(all="ignore"):
                result = function(*(reversed(values) if swapped else values))
            known = [self, *(other for other in others if isinstance(other, _Array))]
            return self if in_place else _wrap(self._module, result, known)

        setattr(_Array, f"__{name}__", method)

    for name in _BINARY:
        function = divmod if name == "divmod" else getattr(operator, f"__{name}__")
        add(name, function)
        add(f"r{name}", function, swapped=True)
        if name not in ("matmul", "divmod"):  # CuPy has no __imatmul__: a @= b makes a new a
            add(f"i{name}", getattr(operator, f"__i{name}__"), in_place=True)
    for name in ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert"):
        add(name, getattr(operator, f"__{name}__"))


_add_operators()


# The module


class _Namespace(types.ModuleType):
    """The module or a part of it: names as in CuPy, computed by NumPy's function of the same name."""

    def __init__(self, name: str, real: Any, host: Any, module: _Module | None = None) -> None:
        super().__init__(name)
        self._real, self._host, self._module = real, host, module or self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self._real, name):
            raise AttributeError(f"{self.__name__} has no {name!r}")
        found = self._imitate(name, getattr(self._real, name))
        setattr(self, name, found)
        return found

    def _imitate(self, name: str, real: Any) -> Any:
        full = f"{self.__name__}.{name}"
        host = getattr(self._host, name, None)
        if host is not None and full.partition(".")[2] in _SPACES:
            return _Namespace(full, real, host, self._module)
        if real is host or (isinstance(real, type) and real.__module__.partition(".")[0] == "numpy"):
            return real  # dtypes, finfo, newaxis
        if isinstance(real, (bool, float)):
            return real
        if host is not None and isinstance(real, _cupy.ufunc):
            return self._ufunc(full, real, host)
        if callable(host) and callable(real) and not isinstance(real, type):
            return self._function(full, real, host)
        raise AttributeError(f"the stand-in does not imitate {full}")

    def _ufunc(self, full: str, real: Any, host: Callable) -> Callable:
        def ufunc(*args: Any, **kwargs: Any) -> Any:
            if unknown := kwargs.keys() - UFUNC_KEYWORDS:
                raise TypeError(f"{full}(): Wrong arguments {sorted(unknown)}; cupy has {sorted(UFUNC_KEYWORDS)}")
            if not real.nin <= len(args) <= real.nargs:
                raise TypeError(f"{full}(): wrong number of arguments: {len(args)}")
            for argument in args[: real.nin]:
                _operand(argument)
            for out in (*args[real.nin :], kwargs.get("out")):
                _check_out(full, out)
            return _run(self._module, full, host, args, kwargs)

        ufunc.__name__ = full
        return ufunc

    def _function(self, full: str, real: Callable, host: Callable) -> Callable:
        name = full.rpartition(".")[2]

        def function(*args: Any, **kwargs: Any) -> Any:
            given = _bind(full, real, args, kwargs).arguments
            if name == "matmul":  # whose signature begins with *args
                if not 2 <= len(args) <= 3:
                    raise TypeError(f"{full}(): wrong number of arguments: {len(args)}")
                given = dict(zip(("a", "b", "out"), args, strict=False)) | kwargs
            _check_order(full, real, host, len(args))
            self._check_arrays(full, name, given)
            return _run(self._module, full, host, args, kwargs)

        function.__name__ = full
        return function

    def _check_arrays(self, full: str, name: str, given: dict[str, Any]) -> None:
        """Where CuPy wants arrays of the device, a list or a number will not do."""
        _check_out(full, given.get("out"))
        arrays = (_ARRAYS | {"b"} if name in _SECOND else _ARRAYS) & given.keys()
        for key in arrays:
            if given[key] is not None and not isinstance(given[key], _Array) and (name, key) not in _SCALARS_TOO:
                raise TypeError(f"{full}(): {key} has the unsupported type {type(given[key])}; {_MIXED}")
        joined = given.get("tup", [])
        if not isinstance(joined, (list, tuple)) or not all(isinstance(array, _Array) for array in joined):
            raise TypeError(f"{full}(): only arrays of the device can be joined; {_MIXED}")
        if name in _PRODUCTS and (out := given.get("out")) is not None:
            out = out[0] if isinstance(out, tuple) else out
            if any(np.shares_memory(out._array, given[key]._array) for key in ("a", "b")):
                raise ValueError(f"{full}(): out overlaps an argument, which cuBLAS reads while it writes")


class _Module(_Namespace):
    """The stand-in itself.

    Attributes
    ----------
    transfers : Transfers
    memory : (free, total), int
        What `cuda.Device().mem_info` says.
    allocation_limit : int or None
        The bytes of the largest array that can be had.
    """

    def __init__(self) -> None:
        super().__init__("cupy", _cupy, np)
        self.__version__ = _cupy.__version__
        self.ndarray = type("ndarray", (_Array,), {"__slots__": (), "__module__": "cupy", "_module": self})
        self.transfers = Transfers()
        self.memory = 8_000_000_000, 16_000_000_000
        self.allocation_limit: int | None = None
        self.random = SimpleNamespace(RandomState=functools.partial(_RandomState, self))
        self.cuda = _cuda(self)
        self.RawKernel = RawKernel

    def check_allocation(self, size: int) -> None:
        if self.allocation_limit is not None and size > self.allocation_limit:
            raise _cupy.cuda.memory.OutOfMemoryError(size, 0, self.allocation_limit)

    def _to_device(self, name: str, data: Any, convert: Callable[[Any], np.ndarray]) -> Any:
        """The one way from the host; what is on the device already stays there."""
        if isinstance(data, _Array):
            return _wrap(self, convert(data._array), [data])
        if isinstance(data, (list, tuple)):
            _refuse_arrays(name, data)
        self.transfers.to_device += 1
        return _wrap(self, np.array(convert(data)), ())  # a copy in any case

    def asarray(self, a: Any, *args: Any, **kwargs: Any) -> Any:
        _bind("cupy.asarray", _cupy.asarray, (a, *args), kwargs)
        kwargs.pop("blocking", None)
        return self._to_device("cupy.asarray", a, lambda data: np.asarray(data, *args, **kwargs))

    def array(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        bound = _bind("cupy.array", _cupy.array, (obj, *args), kwargs).arguments
        del bound["obj"]
        bound.pop("blocking", None)
        return self._to_device("cupy.array", obj, lambda data: np.array(data, **bound))

    def asnumpy(self, a: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        _bind("cupy.asnumpy", _cupy.asnumpy, (a, *args), kwargs)
        return a.get(*args, **kwargs) if isinstance(a, _Array) else np.asarray(a)

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(
            used_bytes=lambda: 0, free_bytes=lambda: 0, total_bytes=lambda: 0, free_all_blocks=lambda: None
        )


def _refuse_arrays(name: str, data: Any) -> None:
    for item in data:
        if isinstance(item, _Array):
            raise TypeError(f"{name}: a list of arrays of the device: use cupy.stack")
        if isinstance(item, (list, tuple)):
            _refuse_arrays(name, item)


class _RandomState:
    """CuPy's generator by name; NumPy's numbers."""

    def __init__(self, module: _Module, seed: Any = None, method: Any = None) -> None:
        self._module, self._state = module, np.random.RandomState(seed)

    def __getattr__(self, name: str) -> Any:
        full = f"cupy.random.RandomState.{name}"
        real = getattr(_cupy.random.RandomState, name, None)
        if name.startswith("_") or real is None:
            raise AttributeError(f"cupy has no {full}")
        if not hasattr(self._state, name):
            raise AttributeError(f"the stand-in does not imitate {full}")

        def method(*args: Any, **kwargs: Any) -> Any:
            given = _bind(full, real, (self, *args), kwargs).arguments
            dtype = kwargs.pop("dtype", None)  # most of NumPy's methods have none
            if dtype is None and "dtype" in given:
                raise TypeError(f"{full}(): pass dtype by name")
            result = _run(self._module, full, getattr(self._state, name), args, kwargs)
            if isinstance(result, (bool, int, float)):
                result = _wrap(self._module, np.asarray(result), ())
            return result if dtype is None else result.astype(dtype)

        return method


# cupy.cuda

# From NVIDIA's cublas_api.h, for machines without the library, where CuPy's own module cannot be imported.
_MATH_MODES = {
    "CUBLAS_DEFAULT_MATH": 0,
    "CUBLAS_TENSOR_OP_MATH": 1,
    "CUBLAS_PEDANTIC_MATH": 2,
    "CUBLAS_TF32_TENSOR_OP_MATH": 3,
    "CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION": 16,
}


def _cublas(functions: dict[str, Callable]) -> SimpleNamespace:
    """The constants of CuPy's module, and `functions`, as far as it has them."""
    try:
        real = _cupy.cuda.cublas
    except ImportError:  # the library is missing; the names can still be found in the compiled module
        text = Path(importlib.util.find_spec("cupy_backends.cuda.libs.cublas").origin).read_bytes()
        names = {name for name in (*_MATH_MODES, *functions) if name.encode() in text}
        constants = _MATH_MODES
    else:
        names = set(dir(real))
        constants = {name: getattr(real, name) for name in names if name.startswith("CUBLAS_")}
    return SimpleNamespace(**{name: value for name, value in (constants | functions).items() if name in names})


class _Event:
    """A time on the host's clock."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.time: float | None = None

    done = True

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass


def _elapsed(start_event: _Event, end_event: _Event) -> float:
    if start_event.time is None or end_event.time is None:
        raise RuntimeError("cudaErrorInvalidResourceHandle: an event was not recorded")
    return 1000 * (end_event.time - start_event.time)


class _Context:
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def use(self) -> Any:
        return self


def _cuda(module: _Module) -> SimpleNamespace:
    class Device(_Context):
        cublas_handle = 0xC0B1A5
        compute_capability = "90"

        def __init__(self, device: int | None = None) -> None:
            self.id = 0 if device is None else int(device)
            if self.id:
                raise RuntimeError("cudaErrorInvalidDevice: the stand-in has one device, 0")

        mem_info = property(lambda self: module.memory)

    class Stream(_Context):
        done = True

        def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
            pass

        def record(self, event: _Event | None = None) -> _Event:
            event = event or _Event()
            event.record()
            return event

    Stream.null = Stream()
    modes: dict[int, int] = {}

    def set_math_mode(handle: int, mode: int) -> None:
        if handle != Device.cublas_handle:
            raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED: not the device's handle")
        modes[handle] = int(mode)

    cublas = _cublas({"setMathMode": set_math_mode, "getMathMode": lambda handle: modes.get(handle, 0)})
    properties = {
        "name": b"stand-in",
        "totalGlobalMem": module.memory[1],
        "multiProcessorCount": 1,
        "major": 9,
        "minor": 0,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
    }
    return SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=_Event,
        get_elapsed_time=_elapsed,
        get_current_stream=lambda device_id=-1: Stream.null,
        is_available=lambda: True,
        cublas=cublas,
        memory=SimpleNamespace(OutOfMemoryError=_cupy.cuda.memory.OutOfMemoryError),
        runtime=SimpleNamespace(
            getDeviceProperties=lambda device: dict(properties),
            getDeviceCount=lambda: 1,
            getDevice=lambda: 0,
            deviceSynchronize=lambda: None,
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
        ),
    )


# Raw kernels

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
extern "C" void stand_in_launch_{name}(const unsigned *grid, const unsigned *block, void **args, int backwards) {{
    gridDim = {{grid[0], grid[1], grid[2]}};
    blockDim = {{block[0], block[1], block[2]}};
    const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
    const unsigned long long threads = block[0] * block[1] * block[2];
    for (unsigned long long k = 0; k < blocks * threads; k++) {{
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
    ) -> None:
        if not isinstance(code, str) or not isinstance(name, str) or not isinstance(options, tuple):
            raise TypeError("RawKernel(code: str, name: str, options: tuple) expected")
        if COMPILER is None:
            raise RuntimeError(
                "the stand-in's RawKernel needs a C++ compiler: none of $CXX, c++, g++, clang++ is there"
            )
        if translate_cucomplex or enable_cooperative_groups or jitify:
            raise NotImplementedError("the stand-in's RawKernel has no complex numbers, cooperative groups or jitify")
        self.code, self.name, self.options, self.backend = code, name, options, backend
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
            launch((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers, backwards)
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
        if not isinstance(argument, _Array):
            raise TypeError(f"{where}: Unsupported type {type(argument)}; {_MIXED}")
        if argument.dtype != p.dtype:
            raise TypeError(f"{where}: an array of {p.dtype} expected, {argument.dtype} given")
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
