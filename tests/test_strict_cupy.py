"""The stand-in for cupy refuses what it promises to refuse; and where CuPy is strict, CuPy itself is asked."""

import copy
import math
import operator
import sys

import numpy as np
import pytest
import strict_cupy
import strict_kernels

from nsnumpy.backend import device_namespace, get_xp

if strict_cupy.REASON:
    pytest.skip(strict_cupy.REASON, allow_module_level=True)

import cupy as real

needs_compiler = pytest.mark.skipif(strict_cupy.COMPILER is None, reason="no C++ compiler")

HOST = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.fixture
def cp():
    return strict_cupy.make()


@pytest.fixture
def x(cp):
    return cp.asarray(HOST)


def test_the_backend_takes_it_for_cupy(cp, x, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cp)
    assert device_namespace("gpu") is get_xp(x) is cp
    assert cp.__name__ == "cupy"
    assert cp.__version__ == real.__version__
    assert isinstance(x, cp.ndarray)
    with pytest.raises(TypeError, match="cupy, numpy given"):
        get_xp(x, HOST)


# Host and device

BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lt", "le", "eq", "ne", "gt", "ge"]
IN_PLACE = ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"]
WHOLE = ["and_", "or_", "xor", "lshift", "rshift"]
WHOLE_IN_PLACE = ["iand", "ior", "ixor", "ilshift", "irshift"]


@pytest.mark.parametrize("other", [HOST, np.array(1.0), [1.0, 2.0, 3.0], (1.0,), None], ids=repr)
@pytest.mark.parametrize("name", BINARY + IN_PLACE)
def test_operators_refuse_what_is_not_on_the_device(x, name, other):
    with pytest.raises(TypeError, match="Unsupported type"):
        getattr(operator, name)(x, other)
    if name not in IN_PLACE:
        with pytest.raises(TypeError, match="Unsupported type"):
            getattr(operator, name)(other, x)


@pytest.mark.parametrize("name", IN_PLACE)
def test_host_arrays_take_nothing_in_place(x, name):
    with pytest.raises(TypeError):
        getattr(operator, name)(HOST.copy(), x)


@pytest.mark.parametrize("name", WHOLE + WHOLE_IN_PLACE)
def test_operators_of_whole_numbers_refuse_host_arrays(cp, name):
    ones = np.ones(3, int)
    with pytest.raises(TypeError, match="Unsupported type"):
        getattr(operator, name)(cp.asarray(ones), ones)
    with pytest.raises(TypeError, match="Unsupported type"):
        divmod(ones, cp.asarray(ones))


@pytest.mark.parametrize("scalar", [2, 2.5, np.float32(2.5), np.float64(2.5)], ids=repr)
@pytest.mark.parametrize("name", [name for name in BINARY if name != "matmul"])
def test_operators_compute_as_numpy_does(cp, name, scalar):
    function, host = getattr(operator, name), HOST + 1
    x = cp.asarray(host)
    for ours, theirs in [
        (function(x, scalar), function(host, scalar)),
        (function(scalar, x), function(scalar, host)),
        (function(x, x + 1), function(host, host + 1)),
    ]:
        assert isinstance(ours, cp.ndarray)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours.get(), theirs)


@pytest.mark.parametrize("name", IN_PLACE)
def test_operators_in_place_keep_the_object_and_its_memory(x, name):
    view, before = x[0], x
    assert getattr(operator, name)(x, 2) is before
    assert np.array_equal(view.get(), getattr(operator, name)(HOST.copy(), 2)[0])


def test_the_operators_are_those_of_cupy():
    mine = {name for name in vars(strict_cupy._Array) if name.startswith("__")}
    python = set(dir(object)) | {"__slots__", "__module__", "__array_ufunc__", "__index__", "__contains__"}
    python |= {"__annotations__", "__getattr__"}
    assert mine - python <= set(dir(real.ndarray))
    assert "__imatmul__" not in mine


def test_a_product_is_the_matrix_product(x):
    assert np.array_equal((x @ x.T).get(), HOST @ HOST.T)
    assert np.array_equal((-x).get(), -HOST)
    assert np.array_equal(abs(x).get(), HOST)
    assert np.array_equal((~(x > 2)).get(), HOST <= 2)


@pytest.mark.parametrize("function", [np.maximum, np.add, np.multiply])
def test_functions_of_numpy_refuse_the_device(x, function):
    with pytest.raises(TypeError):
        function(x, 0)
    with pytest.raises(TypeError):
        function(HOST, x)
    with pytest.raises(TypeError):
        function(HOST, 0, out=x)


@pytest.mark.parametrize(
    "use",
    [np.sum, np.concatenate, np.asarray, np.array, lambda x: np.array([x]), lambda x: np.stack([x]), np.linalg.norm],
)
def test_numpy_does_not_get_at_the_data(x, use):
    with pytest.raises(TypeError):
        use(x)


def test_numpy_is_told_as_by_cupy(x):
    with pytest.raises(TypeError, match=r"Implicit conversion to a NumPy array is not allowed. Please use `.get\(\)`"):
        np.asarray(x)
    host = HOST.copy()
    with pytest.raises(TypeError, match="Implicit conversion"):
        host[...] = x
    with pytest.raises(TypeError):
        memoryview(x)


@pytest.mark.parametrize(
    "use",
    [float, int, bool, complex, operator.index, math.sqrt, iter, list, "{:g}".format, lambda x: 1.0 in x, copy.copy],
)
def test_a_wait_for_the_device_has_a_name(cp, x, use):
    value = x.sum()
    if use is copy.copy:  # stays on the device
        assert isinstance(use(value), cp.ndarray)
    else:
        with pytest.raises(TypeError, match="would wait for the device: move it to the host by name"):
            use(value)
    assert cp.transfers.to_host == 0


def test_len_shape_and_text_wait_for_nothing(cp, x):
    assert (len(x), x.shape, x.size, x.ndim, x.nbytes, x.itemsize) == (2, (2, 3), 6, 2, 24, 4)
    assert (x.dtype, x.strides, x.T.shape) == ("float32", (12, 4), (3, 2))
    assert x.flags.c_contiguous
    assert not x.T.flags.c_contiguous
    assert repr(x) == "<array of the stand-in for cupy, float32 (2, 3)>"
    assert cp.transfers.to_host == 0
    with pytest.raises(AttributeError):  # NumPy's flag; CuPy has none
        x.flags.writeable = False


# Functions


@pytest.mark.parametrize("name", ["errstate", "geomspace", "insert", "nothing_of_the_kind"])
def test_what_cupy_lacks_is_lacking(cp, name):
    assert not hasattr(real, name)
    with pytest.raises(AttributeError, match=f"cupy has no '{name}'"):
        getattr(cp, name)


def test_what_is_not_imitated_says_so(cp, x):
    for use in (lambda: cp.ElementwiseKernel, lambda: cp.fuse, lambda: x.scatter_add, lambda: x.cstruct):
        with pytest.raises(AttributeError, match="the stand-in does not imitate"):
            use()


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda cp, x: cp.clip(x, 0, 1, where=x > 0), "where"),
        (lambda cp, x: cp.concatenate([x, x], foo=1), "foo"),
        (lambda cp, x: cp.sum(x, initial=0), "initial"),
        (lambda cp, x: cp.zeros(3, device="cpu"), "device"),
        (lambda cp, x: cp.asarray(x, like=x), "like"),
        (lambda cp, x: cp.maximum(x, 0, where=x > 0), "where"),
        (lambda cp, x: cp.sqrt(x, order="C"), "order"),
        (lambda cp, x: cp.matmul(x, x.T, subok=True), "subok"),
        (lambda cp, x: x.sum(where=x > 0), "where"),
        (lambda cp, x: x.max(initial=0), "initial"),
        (lambda cp, x: x.item(0), "too many positional"),
        (lambda cp, x: cp.unpackbits(x.astype("uint8"), count=3), "count"),
        (lambda cp, x: cp.random.RandomState(0).standard_normal(3, foo=1), "foo"),
    ],
)
def test_arguments_are_those_of_cupy(cp, x, call, argument):
    with pytest.raises(TypeError, match=argument if argument != "too many positional" else "positional argument"):
        call(cp, x)


def test_arguments_of_cupy_that_stand_elsewhere_in_numpy_go_by_name(cp, x):
    with pytest.raises(TypeError, match="pass dtype by name: NumPy has out at its place"):
        cp.argmax(x, 0, "int32")
    assert np.array_equal(cp.argmax(x, 0).get(), [1, 1, 1])


@pytest.mark.parametrize("keyword", ["out", "dtype", "casting", "where", "order", "subok", "keepdims", "axis"])
def test_cupy_itself_takes_these_keywords_in_ufuncs(keyword):
    """With arguments that CuPy checks before it asks for a device."""
    try:
        real.maximum(1, 2, **{keyword: None})
    except Exception as error:  # of another type where there is no device
        taken = not (isinstance(error, TypeError) and "Wrong arguments" in str(error))
    else:
        taken = True
    assert taken == (keyword in strict_cupy.UFUNC_KEYWORDS)


def test_signatures_are_read_from_docstrings():
    assert (
        str(strict_cupy.signature(real.ndarray.sum))
        == "(self, axis='None', dtype='None', out='None', keepdims='False')"
    )
    assert list(strict_cupy.signature(real.ndarray.swapaxes).parameters) == ["self", "axis1", "axis2"]
    for name in dir(real.ndarray):
        if not name.startswith("_") and callable(method := getattr(real.ndarray, name)):
            assert next(iter(strict_cupy.signature(method).parameters)) == "self", name


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, x, host: cp.maximum(x, host),
        lambda cp, x, host: cp.maximum(host, x),
        lambda cp, x, host: cp.maximum(x, [1.0, 2.0, 3.0]),
        lambda cp, x, host: cp.isfinite(host),
        lambda cp, x, host: cp.matmul(x, host.T),
        lambda cp, x, host: cp.vdot(x, host),
        lambda cp, x, host: cp.vdot(x, [1.0] * 6),
        lambda cp, x, host: cp.tensordot(host, x, (1, 1)),
        lambda cp, x, host: cp.sum(host),
        lambda cp, x, host: cp.sum([1.0, 2.0]),
        lambda cp, x, host: cp.clip(x, 0, host),
        lambda cp, x, host: cp.where(x > 0, x, host),
        lambda cp, x, host: cp.where(host > 0, x, x),
        lambda cp, x, host: cp.stack([x, host]),
        lambda cp, x, host: cp.stack([x.sum(), 1.0]),
        lambda cp, x, host: cp.stack([x.sum(), np.float64(1)]),
        lambda cp, x, host: cp.ascontiguousarray(host),
        lambda cp, x, host: cp.ascontiguousarray([1.0]),
        lambda cp, x, host: cp.zeros_like(host),
        lambda cp, x, host: cp.full(3, host),
        lambda cp, x, host: cp.lib.stride_tricks.as_strided(host, (2,), (4,)),
        lambda cp, x, host: cp.asarray([x, x]),
        lambda cp, x, host: x.dot(host.T),
        lambda cp, x, host: x.clip(host, 1),
        lambda cp, x, host: x.fill(host[0]),
        # out=
        lambda cp, x, host: cp.maximum(x, 0, out=host),
        lambda cp, x, host: cp.maximum(x, 0, host),
        lambda cp, x, host: cp.maximum(x, 0, out=(host,)),
        lambda cp, x, host: cp.multiply(x, x, out=[x]),
        lambda cp, x, host: cp.matmul(x, x.T, out=host[:, :2].copy()),
        lambda cp, x, host: cp.matmul(x, x.T, host[:, :2].copy()),
        lambda cp, x, host: cp.clip(x, 0, 1, out=host),
        lambda cp, x, host: x.sum(out=np.array(0.0)),
        # keys and what is stored there
        lambda cp, x, host: x[np.array([0, 1])],
        lambda cp, x, host: x[np.array(0)],
        lambda cp, x, host: x[host > 0],
        lambda cp, x, host: x[[0, 1]],
        lambda cp, x, host: x[:, [0, 1]],
        lambda cp, x, host: x[True],
        lambda cp, x, host: x[x.astype(int)[0, 0] : 2],
        lambda cp, x, host: x.__setitem__(0, host[0]),
        lambda cp, x, host: x.__setitem__(0, [1.0, 2.0, 3.0]),
        lambda cp, x, host: x.__setitem__(host > 0, 0.0),
    ],
)
def test_functions_refuse_what_is_not_on_the_device(cp, x, call):
    transfers = cp.transfers.to_host, cp.transfers.to_device
    with pytest.raises(TypeError, match="mixed|cupy.stack|would wait"):
        call(cp, x, HOST.copy())
    assert np.array_equal(x._array, HOST)
    assert (cp.transfers.to_host, cp.transfers.to_device) == transfers


def test_functions_compute_as_numpy_does(cp, x):
    for ours, theirs in [
        (cp.maximum(x, 2), np.maximum(HOST, 2)),
        (cp.clip(x, 1, 2.5), HOST.clip(1, 2.5)),
        (cp.matmul(x, x.T), HOST @ HOST.T),
        (cp.tensordot(x, x, (1, 1)), np.tensordot(HOST, HOST, (1, 1))),
        (cp.concatenate([x, x], axis=1), np.concatenate([HOST, HOST], axis=1)),
        (cp.where(x > 2, x, 0.0), np.where(HOST > 2, HOST, 0.0)),
        (cp.packbits(x > 2), np.packbits(HOST > 2)),
        (cp.unpackbits(cp.packbits(x > 2)), np.unpackbits(np.packbits(HOST > 2))),
        (cp.full((2, 2), 3.0, "float32"), np.full((2, 2), 3.0, "float32")),
        (cp.linalg.norm(x), np.linalg.norm(HOST)),
        (cp.lib.stride_tricks.as_strided(x, (2, 2), (12, 4)), HOST[:, :2]),
        (x.reshape(3, -1), HOST.reshape(3, -1)),
        (x.reshape((-1,), order="F"), HOST.reshape(-1, order="F")),
        (x.transpose(1, 0), HOST.T),
        (x.sum(axis=0, dtype="float64"), HOST.sum(axis=0, dtype="float64")),
        (x.mean(axis=1, keepdims=True), HOST.mean(axis=1, keepdims=True)),
        (x.astype("float64"), HOST.astype("float64")),
        (x[:, None, ::-1], HOST[:, None, ::-1]),
        (x[x > 2], HOST[HOST > 2]),
        (x[cp.asarray([1, 0]), 1:], HOST[[1, 0], 1:]),
    ]:
        assert isinstance(ours, cp.ndarray)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours.get(), theirs)


def test_constants_and_types_are_numpys(cp):
    assert cp.float32 is np.float32
    assert cp.dtype is np.dtype
    assert cp.newaxis is None
    assert cp.pi == np.pi
    assert cp.finfo("float32").eps == np.finfo("float32").eps


def test_a_gpu_does_not_warn(cp, x):
    assert np.isinf((x / 0).get()).any()
    assert not np.isfinite(cp.sqrt(x - 10).get()).any()
    x *= 1e38
    x[...] = cp.exp(x)


def test_zero_dimensional_results_are_arrays(cp, x):
    total = x.sum()
    for value in (
        total, x.max(), x.mean(), x.all(), x.argmax(), cp.vdot(x, x), cp.sum(x), x[1, 2], x[1][2], total * 2, -total,
        cp.maximum(1, 2), cp.count_nonzero(x), cp.allclose(x, x), cp.array_equal(x, x), cp.asarray(1.0),
        cp.random.RandomState(0).standard_normal(),
    ):  # fmt: skip
        assert isinstance(value, cp.ndarray)
        assert value.shape == ()
    assert np.array_equal((total * x).get(), HOST.sum() * HOST)
    assert np.array_equal(cp.stack([total, x.max()]).get(), [15, 5])
    # An array's dtype counts, whatever its dimension.
    assert (x * total.astype("float64")).dtype == "float64"
    assert (x * 2.5).dtype == (x * total).dtype == "float32"


def test_shapes_and_sizes_stay_with_the_host(cp, x):
    assert cp.ndim(x) == 2
    assert cp.shape(x) == (2, 3)
    assert cp.shares_memory(x, x[0]) is True
    assert cp.result_type(x, "float64") == "float64"


def test_out_comes_back(cp, x):
    y, product = cp.empty_like(x), cp.empty((2, 2), x.dtype)
    assert cp.maximum(x, 2, out=y) is y
    assert cp.clip(x, 0, 1, out=y) is y
    assert cp.clip(x, 0, 1, y) is y
    assert cp.matmul(x, x.T, out=product) is product
    assert np.array_equal(product.get(), HOST @ HOST.T)
    assert cp.asarray(x) is cp.ascontiguousarray(x) is x.astype("float32", copy=False) is x
    with pytest.raises(ValueError, match="out overlaps an argument"):
        cp.matmul(product, product, out=product)


def test_types_that_cupy_lacks(cp):
    with pytest.raises(TypeError, match="cupy has no arrays of"):
        cp.zeros(2, np.longdouble)
    with pytest.raises(TypeError, match="cupy has no arrays of object"):
        cp.asarray([None])


# Memory


def test_transfers_are_counted(cp):
    x = cp.asarray(HOST)
    cp.array([1.0, 2.0])
    cp.asarray(3)
    assert (cp.transfers.to_device, cp.transfers.to_host) == (3, 0)
    cp.asarray(x)
    cp.array(x, "float64")
    (x @ x.T).sum()
    assert (cp.transfers.to_device, cp.transfers.to_host) == (3, 0)
    x.get()
    assert (x[0, 1].item(), x.tolist()[1][0], x.tobytes()) == (1.0, 3.0, HOST.tobytes())
    cp.asnumpy(x)
    assert (cp.transfers.to_device, cp.transfers.to_host) == (3, 5)
    cp.transfers.reset()
    assert (cp.transfers.to_device, cp.transfers.to_host) == (0, 0)
    assert strict_cupy.make().transfers is not cp.transfers


def test_transfers_copy(cp):
    host = HOST.copy()
    x = cp.asarray(host)
    host[...] = 7
    x.get()[...] = 8
    cp.asnumpy(x)[...] = 9
    assert np.array_equal(x.get(), HOST)
    x.get(out=host)
    assert np.array_equal(host, HOST)


def test_views_share_memory(cp, x):
    for view in (x[0], x[:, 1:], x.T, x.reshape(3, 2), x.swapaxes(0, 1), x.ravel(), x[None], x[0, 0], cp.asarray(x)):
        assert cp.shares_memory(view, x)
        view[...] = -1
        assert (x.get() == -1).any()
        x[...] = 0
    for other in (x.copy(), x[x > -1], x[cp.asarray([0])], x[cp.asarray(0)], x + 0, cp.array(x), copy.deepcopy(x)):
        assert not cp.shares_memory(other, x)


def test_frozen_arrays_refuse_writes(cp, x):
    assert strict_cupy.freeze(x) is x
    for write in (
        lambda: x.__setitem__(0, 1.0),
        lambda: operator.iadd(x, 1),
        lambda: cp.maximum(x, 0, out=x),
        lambda: x.fill(0),
        lambda: x.reshape(-1).fill(0),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()
    assert np.array_equal(x.get(), HOST)
    assert (x + 1).get().flags.writeable


def test_allocation_fails_beyond_the_limit(cp):
    x = cp.zeros(100, "float32")
    cp.memory_limit = cp.used + 403
    for make in (
        lambda: cp.zeros(101, "float32"),
        lambda: cp.empty((2, 51), "float32"),
        lambda: x.astype("float64"),
        lambda: x * np.float64(2),
        lambda: cp.concatenate([x, x]),
        lambda: cp.asarray(np.zeros(101, "float32")),
        lambda: cp.random.RandomState(0).standard_normal(51),
    ):
        with pytest.raises(real.cuda.memory.OutOfMemoryError, match="Out of memory allocating"):
            make()
    x += 1
    _ = x + x, x[None], cp.broadcast_to(x, (5, 100))
    cp.memory_limit = 16_000_000_000
    assert cp.zeros(101).shape == (101,)
    assert issubclass(cp.cuda.memory.OutOfMemoryError, MemoryError)


def test_memory_is_counted_until_the_last_view_is_gone(cp):
    before = cp.used
    x = cp.zeros((10, 10))
    view = x.reshape(-1)[3:].reshape(97, 1)
    assert cp.used - before == 800
    del x
    assert cp.used - before == 800
    y = view + 1
    assert cp.used - before == 800 + 776
    del view, y
    assert (cp.used, cp.peak - before) == (before, 1576)


def test_a_stack_of_products_copies_what_is_transposed(cp):
    x, y = cp.zeros((2, 5, 4)), cp.zeros((2, 5, 4))
    out = cp.empty((2, 5, 5))
    for b, copied in ((y.swapaxes(1, 2), 320), (cp.ascontiguousarray(y.swapaxes(1, 2)), 0)):
        cp.peak = before = cp.used
        cp.matmul(x, b, out=out)
        assert cp.peak - before == copied
    cp.peak = before = cp.used
    cp.matmul(x[0], y[0].T, out=out[0])
    assert cp.peak == before


def test_random_numbers(cp):
    rng = cp.random.RandomState(3)
    assert np.array_equal(rng.standard_normal((2, 3)).get(), np.random.RandomState(3).standard_normal((2, 3)))
    assert rng.standard_normal(4, dtype="float32").dtype == "float32"
    with pytest.raises(AttributeError, match="cupy has no cupy.random.RandomState.get_state"):
        rng.get_state()
    assert not hasattr(real.random.RandomState, "get_state")


# cupy.cuda


def test_the_names_of_cuda_are_cupys(cp):
    cuda = cp.cuda
    for mine, theirs in [
        (cuda, real.cuda),
        (cuda.Device(), real.cuda.Device),
        (cuda.Stream, real.cuda.Stream),
        (cuda.Event(), real.cuda.Event),
        (cuda.runtime, real.cuda.runtime),
        (cp.get_default_memory_pool(), real.cuda.MemoryPool),
    ]:
        names = {name for name in dir(mine) if not name.startswith("_")} - {"cublas"} - {"time"}
        assert names <= set(dir(theirs))


def test_the_device(cp):
    with cp.cuda.Device() as device:
        x = cp.zeros(100)
        assert device.mem_info == (16_000_000_000 - 800, 16_000_000_000)
        assert device.id == 0
        device.synchronize()
    with pytest.raises(RuntimeError, match="InvalidDevice"):
        cp.cuda.Device(1)
    assert cp.cuda.runtime.getDeviceProperties(0)["warpSize"] == 32
    pool = cp.get_default_memory_pool()
    assert (pool.used_bytes(), pool.total_bytes(), pool.free_bytes(), pool.free_all_blocks()) == (800, 800, 0, None)
    del x
    assert pool.used_bytes() == 0
    cp.cuda.get_current_stream().synchronize()
    cp.cuda.Stream.null.synchronize()


def test_the_work_of_a_gpu_is_counted(cp, x):
    cp.work.reset()
    y = x * 2 + x  # two launches
    y[:, 1:] = x[:, 1:]
    y.reshape(-1)[2:].sum()
    cp.maximum(x, 0, out=y)
    cp.ascontiguousarray(x)  # and of these, none
    cp.asarray(x)
    assert cp.work.launches == {"mul": 1, "add": 1, "setitem": 1, "ndarray.sum": 1, "maximum": 1}
    assert cp.work.bytes == {"mul": 48, "add": 72, "setitem": 32, "ndarray.sum": 20, "maximum": 48}
    cp.ascontiguousarray(x.T)
    assert cp.work.launches["ascontiguousarray"] == 1


def test_events(cp):
    start, end = cp.cuda.Event(), cp.cuda.Event()
    with pytest.raises(RuntimeError, match="not recorded"):
        cp.cuda.get_elapsed_time(start, end)
    start.record()
    end.record()
    end.synchronize()
    assert 0 <= cp.cuda.get_elapsed_time(start, end) < 1000


# Raw kernels

SAXPY = r"""
typedef %s T;
// extern "C" __global__ void no_kernel(T x) {}
extern "C" __global__ void saxpy(const T* __restrict__ x, T* y, const T a, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}
extern "C" __global__ void __launch_bounds__(64) place(unsigned short* where, long long row) {
    long long i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y;
    where[j * row + i] = 100 * j + i;
}
extern "C" __global__ void left(const T* x, T* y) { y[threadIdx.x] = x[(int)threadIdx.x - 1]; }
extern "C" __global__ void shift(T* x) { if (threadIdx.x) x[threadIdx.x - 1] = x[threadIdx.x]; }
extern "C" __global__ void into_const(const T* x) { ((T*)x)[threadIdx.x] = 1; }
extern "C" __global__ void bytes(unsigned char* x, int shift) { x[(int)threadIdx.x + shift] = 1; }
"""


@pytest.fixture
def kernel(cp):
    return lambda name, type="float": cp.RawKernel(SAXPY % type, name)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_computes(cp, kernel, dtype):
    x = cp.asarray(np.arange(100, dtype=dtype))
    y = cp.ones(100, dtype)
    saxpy = kernel("saxpy", {"float32": "float", "float64": "double"}[dtype])
    saxpy((4,), (32,), (strict_cupy.freeze(x), y, np.dtype(dtype).type(0.5), np.int32(90)))
    expected = np.ones(100, dtype)
    expected[:90] += np.arange(90) / 2
    assert np.array_equal(y.get(), expected)


@needs_compiler
def test_a_grid_of_two_dimensions(cp, kernel):
    where = cp.zeros((6, 8), "uint16")
    kernel("place")((2, 3), (4, 2), (where, np.int64(8)))
    assert np.array_equal(where.get(), 100 * np.arange(6)[:, None] + np.arange(8))


@needs_compiler
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: HOST}, TypeError, "argument x: Unsupported type <class 'numpy.ndarray'>.*mixed"),
        ({0: lambda cp: cp.zeros(3)}, TypeError, "argument x: an array of float32 expected, float64 given"),
        ({0: np.float32(1)}, TypeError, "argument x: Unsupported type"),
        ({0: lambda cp: cp.zeros((3, 2), "float32").T}, ValueError, "argument x: a C-contiguous array expected"),
        ({0: lambda cp: cp.zeros(6, "float32")[::2]}, ValueError, "argument x: a C-contiguous array expected"),
        ({1: lambda cp: strict_cupy.freeze(cp.zeros(3, "float32"))}, ValueError, "argument y: the array is read-only"),
        ({2: 1.0}, TypeError, "argument a: a scalar numpy.float32 expected, not <class 'float'>"),
        ({2: np.float64(1)}, TypeError, "argument a: float32 expected, float64 given"),
        ({2: lambda cp: cp.asarray(np.float32(1))}, TypeError, "argument a: a scalar numpy.float32 expected"),
        ({3: 3}, TypeError, "argument n: a scalar numpy.int32 expected, not <class 'int'>"),
        ({3: np.int64(3)}, TypeError, "argument n: int32 expected, int64 given"),
    ],
)
def test_arguments_of_a_kernel_fit(cp, kernel, change, error, message):
    args = [cp.zeros(3, "float32"), cp.zeros(3, "float32"), np.float32(1), np.int32(3)]
    kernel("saxpy")((1,), (3,), tuple(args))
    for place, value in change.items():
        args[place] = value(cp) if callable(value) and not isinstance(value, np.generic) else value
    with pytest.raises(error, match=message):
        kernel("saxpy")((1,), (3,), tuple(args))


@needs_compiler
def test_the_number_of_arguments_and_the_name_fit(cp, kernel):
    with pytest.raises(TypeError, match="kernel left: 2 arguments expected, 1 given"):
        kernel("left")((1,), (1,), (cp.zeros(3, "float32"),))
    for name in ("no_such", "no_kernel"):
        with pytest.raises(ValueError, match=f"no kernel .*{name}"):
            kernel(name)


@needs_compiler
@pytest.mark.parametrize(
    ("grid", "block", "error"),
    [
        (1, (1,), TypeError),
        ([1], (1,), TypeError),
        ((1, 1, 1, 1), (1,), TypeError),
        ((1.0,), (1,), TypeError),
        ((0,), (1,), ValueError),
        ((1, 65536), (1,), ValueError),
        ((1,), (1025,), ValueError),
        ((1,), (64, 32), ValueError),
    ],
)
def test_sizes_that_cuda_refuses(cp, kernel, grid, block, error):
    with pytest.raises(error, match="kernel shift: (grid|block|a block)"):
        kernel("shift")(grid, block, (cp.zeros(3, "float32"),))


@needs_compiler
def test_writes_outside_of_an_array_are_found(cp, kernel):
    y = cp.zeros(3, "float32")
    saxpy = kernel("saxpy")
    with pytest.raises(ValueError, match="kernel saxpy writes outside of its argument y"):
        saxpy((1,), (8,), (cp.ones(8, "float32"), y, np.float32(1), np.int32(8)))
    assert not y.get().any()
    for shift in (-1, 1):
        with pytest.raises(ValueError, match="kernel bytes writes outside of its argument x"):
            kernel("bytes")((1,), (3,), (cp.zeros(3, "uint8"), np.int32(shift)))


@needs_compiler
def test_reads_outside_of_an_array_are_found(cp, kernel):
    y = cp.zeros(3, "float32")
    with pytest.raises(ValueError, match="kernel left: y depends on what is outside of the arguments"):
        kernel("left")((1,), (3,), (cp.ones(5, "float32")[1:4], y))
    assert not y.get().any()


@needs_compiler
def test_a_race_is_found(cp, kernel):
    with pytest.raises(ValueError, match="kernel shift: x depends on the order in which the threads run"):
        kernel("shift")((1,), (4,), (cp.asarray(np.arange(4, dtype="float32")),))


@needs_compiler
def test_a_const_argument_stays(cp, kernel):
    with pytest.raises(ValueError, match="kernel into_const writes into its const argument x"):
        kernel("into_const")((1,), (3,), (cp.zeros(3, "float32"),))


@needs_compiler
def test_overlapping_arguments_are_refused(cp, kernel):
    x = cp.zeros(8, "float32")
    with pytest.raises(ValueError, match="the arguments x and y overlap"):
        kernel("saxpy")((1,), (4,), (x[:5], x[3:], np.float32(1), np.int32(4)))
    kernel("saxpy")((1,), (4,), (x[:4], x[4:], np.float32(1), np.int32(4)))


@needs_compiler
@pytest.mark.parametrize(
    "body", ["__syncthreads();", "__shared__ float s[3]; x[0] = s[0];", "x[0] = __shfl_sync(1u, x[0], 0);"]
)
def test_threads_that_meet_are_refused(cp, body):
    with pytest.raises(NotImplementedError, match="one after the other"):
        cp.RawKernel(f'extern "C" __global__ void f(float* x) {{ {body} }}', "f")
    f = cp.RawKernel('extern "C" __global__ void f(float* x) { } // __syncthreads', "f")
    with pytest.raises(NotImplementedError, match="one after the other"):
        f((1,), (1,), (cp.zeros(3, "float32"),), shared_mem=4)


@needs_compiler
def test_kernels_that_nvrtc_or_the_stand_in_cannot_take(cp):
    with pytest.raises(NotImplementedError, match="NVRTC has no standard headers"):
        cp.RawKernel('#include <vector>\nextern "C" __global__ void f(float* x) { }', "f")
    with pytest.raises(NotImplementedError, match="type of the kernel's parameter 'half"):
        cp.RawKernel('extern "C" __global__ void f(half* x) { }', "f")
    with pytest.raises(RuntimeError, match="(?s)does not compile.*kernel:1"):
        cp.RawKernel('extern "C" __global__ void f(float* x) { nonsense }', "f").compile()


@needs_compiler
def test_definitions_among_the_options(cp):
    scale = cp.RawKernel(
        'extern "C" __global__ void scale(T* x) { x[threadIdx.x] *= BY; }', "scale", ("-DT=double", "-DBY=3")
    )
    x = cp.ones(3)
    scale((1,), (3,), (x,))
    assert np.array_equal(x.get(), [3, 3, 3])


def test_without_a_compiler(cp, monkeypatch):
    monkeypatch.setattr(strict_kernels, "COMPILER", None)
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler"):
        cp.RawKernel(SAXPY % "float", "saxpy")


def test_without_cupy(monkeypatch):
    monkeypatch.setattr(strict_cupy, "REASON", "CuPy cannot be imported")
    with pytest.raises(RuntimeError, match="CuPy cannot be imported"):
        strict_cupy.make()
