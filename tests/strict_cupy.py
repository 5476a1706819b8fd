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

import functools
import inspect
import operator
import re
import time
import types
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from strict_cublas import Cublas
from strict_kernels import COMPILER, MIXED, RawKernel

__all__ = ["COMPILER", "REASON", "freeze", "make"]

REASON = ""
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no CUDA is no news here
        import cupy as _cupy
except ImportError as error:
    _cupy = None
    REASON = f"CuPy cannot be imported ({error}): pip install '.[test,test-cupy]'"

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
_NO_WORK = {"empty", "empty_like", "dtype", "shape", "ndim", "size", "result_type"}
_MAY_RETURN_IT = {"ascontiguousarray", "astype", "reshape", "ravel"}  # their argument, as it is
_SPACES = {"lib", "lib.stride_tricks", "linalg", "fft"}


class Transfers:
    """How often data has crossed the border, by direction."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.to_host = self.to_device = 0


class Work:
    """What a GPU would be told to do: a launch for each operation that writes an array, by the operation's name, and
    the bytes of every array that it reads or writes, once each.

    It is a model. Some of CuPy's operations are two launches (a sum of many numbers, a mask as an index), and what a
    cache holds need not be read again.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.launches: Counter[str] = Counter()
        self.precisions: set[int] = set()  # of the products' factors, in bits
        self.bytes: Counter[str] = Counter()

    def count(self, name: str, arrays: Iterable[np.ndarray]) -> None:
        name = name.removeprefix("cupy.")
        self.launches[name] += 1
        self.bytes[name] += sum(array.nbytes for array in {id(array): array for array in arrays}.values())


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
        raise TypeError(f"{name}: Unsupported type {type(value)}; {MIXED}")
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
            module.allocate(value)
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
    arrays = [array._array for array in known]
    short = name.rpartition(".")[2]
    written = short not in _MAY_RETURN_IT and any(result is array for array in arrays)  # the `out` that was given
    if short not in _NO_WORK and (written or _is_new(result, arrays)):
        module.work.count(name, [*arrays, *([result] if isinstance(result, (np.ndarray, np.generic)) else [])])
    return _wrap(module, result, known)


def _is_new(result: Any, arrays: list[np.ndarray]) -> bool:
    """Whether it had to be computed, and is no view; None is what methods return that write in place."""
    return not (isinstance(result, np.ndarray) and any(np.may_share_memory(result, array) for array in arrays))


def _check_out(name: str, out: Any) -> None:
    for array in out if isinstance(out, tuple) else (out,):
        if array is not None and not isinstance(array, _Array):
            raise TypeError(f"{name}: out has the unsupported type {type(array)}; {MIXED}")


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
        raise TypeError(f"numpy.{function.__name__} was given an array of the device; {MIXED}")

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
    data = property(lambda self: SimpleNamespace(ptr=self._array.ctypes.data))
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
            _bind(full, real, (self, *args), kwargs)
            _check_order(full, real, getattr(np.ndarray, name), 1 + len(args))
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

    def _key(self, key: Any) -> tuple:
        """The key for NumPy."""
        keys = key if isinstance(key, tuple) else (key,)
        for k in keys:
            whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
            if not (whole or k is None or k is Ellipsis or isinstance(k, (slice, _Array))):
                raise TypeError(f"Unsupported type {type(k)} as an index; {MIXED}")
        plain = tuple(k._array if isinstance(k, _Array) else k for k in keys)
        # With an ellipsis, a single element is a zero-dimensional view, too.
        return plain if any(k is Ellipsis for k in keys) else (*plain, Ellipsis)

    def __getitem__(self, key: Any) -> _Array:
        result = self._array[self._key(key)]
        if _is_new(result, [self._array]):
            self._module.work.count("getitem", [result, result])
        return _wrap(self._module, result, [self])

    def __setitem__(self, key: Any, value: Any) -> None:
        value = _operand(value)
        with np.errstate(all="ignore"):
            self._array[self._key(key)] = value
        written = self._array[self._key(key)]
        self._module.work.count("setitem", [written, *([value] if isinstance(value, np.ndarray) else [])])


def _operand(value: Any) -> Any:
    if isinstance(value, _Array):
        return value._array
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}; {MIXED}")


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
            self._module.work.count(name, [*(array._array for array in known), result])
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
            if name == "matmul":  # which copies what does not lie in order, if there are more than two axes
                stacked = max(given["a"].ndim, given["b"].ndim) > 2
                odd = [given[k] for k in "ab" if stacked and not given[k].flags.c_contiguous]
                copies = [_wrap(self._module, array._array.copy(), ()) for array in odd]
                for copied in copies:
                    self._module.work.count("copy", [copied._array, copied._array[...]])
                result = _run(self._module, full, host, args, kwargs)
                del copies
                return result
            return _run(self._module, full, host, args, kwargs)

        function.__name__ = full
        return function

    def _check_arrays(self, full: str, name: str, given: dict[str, Any]) -> None:
        """Where CuPy wants arrays of the device, a list or a number will not do."""
        _check_out(full, given.get("out"))
        arrays = (_ARRAYS | {"b"} if name in _SECOND else _ARRAYS) & given.keys()
        for key in arrays:
            if given[key] is not None and not isinstance(given[key], _Array) and (name, key) not in _SCALARS_TOO:
                raise TypeError(f"{full}(): {key} has the unsupported type {type(given[key])}; {MIXED}")
        joined = given.get("tup", [])
        if not isinstance(joined, (list, tuple)) or not all(isinstance(array, _Array) for array in joined):
            raise TypeError(f"{full}(): only arrays of the device can be joined; {MIXED}")
        if name in _PRODUCTS and (out := given.get("out")) is not None:
            out = out[0] if isinstance(out, tuple) else out
            if any(np.shares_memory(out._array, given[key]._array) for key in ("a", "b")):
                raise ValueError(f"{full}(): out overlaps an argument, which cuBLAS reads while it writes")


class _Module(_Namespace):
    """The stand-in itself.

    Attributes
    ----------
    transfers : Transfers
    work : Work
    memory_limit : int
        The bytes of the device's memory.
    emptied : list of int
        What lived each time that the pool was emptied.
    used, peak : int
        The bytes of the arrays that live, and the most that there were; `peak` can be set back.
    """

    def __init__(self) -> None:
        super().__init__("cupy", _cupy, np)
        self.__version__ = _cupy.__version__
        self.ndarray = type("ndarray", (_Array,), {"__slots__": (), "__module__": "cupy", "_module": self})
        self.transfers = Transfers()
        self.work = Work()
        self.memory_limit = 16_000_000_000
        self.used = self.peak = 0
        self.emptied: list[int] = []
        self.memory: dict[int, weakref.ref[np.ndarray]] = {}  # what lives, by its address
        self.random = SimpleNamespace(RandomState=functools.partial(_RandomState, self))
        self.cuda = _cuda(self)
        self.RawKernel = functools.partial(RawKernel, work=self.work)

    def allocate(self, array: np.ndarray) -> None:
        """Count the memory of a new array, until it and its views are gone."""
        array = _owner(array)
        if self.used + array.nbytes > self.memory_limit:
            raise _cupy.cuda.memory.OutOfMemoryError(array.nbytes, self.used, self.memory_limit)
        self.used += array.nbytes
        self.peak = max(self.peak, self.used)
        address = array.ctypes.data
        self.memory[address] = weakref.ref(array)
        weakref.finalize(array, self._release, array.nbytes, address).atexit = False

    def _release(self, size: int, address: int) -> None:
        self.used -= size
        if address in self.memory and self.memory[address]() is None:  # and not the next one's already
            del self.memory[address]

    def _empty_pool(self) -> None:
        self.emptied.append(self.used)

    def _to_device(self, name: str, data: Any, convert: Callable[[Any], np.ndarray]) -> Any:
        """The one way from the host; what is on the device already stays there."""
        if isinstance(data, _Array):
            result = convert(data._array)
            if result is not data._array:
                self.work.count(name, [data._array, result])
            return _wrap(self, result, [data])
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
            used_bytes=lambda: self.used,
            free_bytes=lambda: 0,
            total_bytes=lambda: self.used,
            free_all_blocks=self._empty_pool,
        )


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


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

        mem_info = property(lambda self: (module.memory_limit - module.used, module.memory_limit))

    class Stream(_Context):
        done = True

        def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
            pass

        def record(self, event: _Event | None = None) -> _Event:
            event = event or _Event()
            event.record()
            return event

    Stream.null = Stream()
    properties = {
        "name": b"stand-in",
        "totalGlobalMem": module.memory_limit,
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
        cublas=Cublas(module, Device.cublas_handle),
        memory=SimpleNamespace(OutOfMemoryError=_cupy.cuda.memory.OutOfMemoryError),
        runtime=SimpleNamespace(
            getDeviceProperties=lambda device: dict(properties),
            deviceGetAttribute=lambda attribute, device: {_cupy.cuda.runtime.cudaDevAttrL2CacheSize: 50 << 20}[
                attribute
            ],
            getDeviceCount=lambda: 1,
            getDevice=lambda: 0,
            deviceSynchronize=lambda: None,
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
            **{
                name: getattr(_cupy.cuda.runtime, name)
                for name in ("CUDA_R_32F", "CUDA_R_64F", "cudaDevAttrL2CacheSize")
            },
        ),
    )
