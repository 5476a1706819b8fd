"""The kernels by themselves: terms of style, sums; arrays of more elements than an integer of 32 bits counts, that lie
oddly, or are empty."""

import ctypes

import numpy as np
import pytest
import strict_kernels

from nsnumpy.backend import to_host
from nsnumpy.losses import STYLE_STATISTICS
from nsnumpy.ops import (
    conv_backward,
    conv_forward,
    inner,
    patches_relu_backward,
    patches_relu_forward,
    relu_backward,
    relu_forward,
    winograd_backward,
    winograd_forward,
    winograd_weight,
)
from nsnumpy.ops.fast import device, first
from nsnumpy.targets import SendingBack

pytestmark = pytest.mark.skipif(not strict_kernels.COMPILER, reason="no C++ compiler")

WIDTH, N = 4, 64
LONG = 2**31 // (WIDTH * N) + 8  # rows of a picture whose last ones lie beyond 2^31 elements
SHORT = 16  # of one that ends alike


def launch(code, name, arguments, threads, start=0):
    """Run the threads of a kernel from the `start`-th on."""
    library, kernels = strict_kernels._compile(code, ())
    given = [
        a if isinstance(a, np.ndarray) else np.array(a, p.dtype) for a, p in zip(arguments, kernels[name], strict=True)
    ]
    pointers = (ctypes.c_void_p * len(given))(*(a.ctypes.data for a in given))
    grid, block = (ctypes.c_uint * 3)(-(-threads // 128), 1, 1), (ctypes.c_uint * 3)(128, 1, 1)
    library[f"stand_in_launch_{name}"](grid, block, pointers, 0, ctypes.c_ulonglong(start))


@pytest.fixture
def pictures(tmp_path):
    """pictures(channels): two, of LONG and of SHORT rows, that end alike; the long one is a file, mostly of holes."""

    def make(channels, seed=0):
        end = np.random.default_rng(seed).standard_normal((8, WIDTH, channels)).astype("float32")
        made = []
        for rows in (LONG, SHORT):
            path = tmp_path / f"{seed} {channels} {rows}"
            array = np.memmap(path, "float32", "w+", shape=(rows, WIDTH, channels))
            array[-8:] = end
            made.append(array)
        return made

    return make


def the_same(run):
    """Of both lengths; and something."""
    long, short = (run(k, rows) for k, rows in enumerate((LONG, SHORT)))
    assert np.array_equal(long, short)
    assert long.any()


@pytest.mark.parametrize("pool", [0, 1])
def test_winograds_kernels_beyond_2_to_31_elements(pictures, pool):
    code, rng = device.source("float32"), np.random.default_rng(1)
    M, bias = (rng.standard_normal(shape).astype("float32") for shape in ((36, N), N))
    x, y, gy, gx = (pictures(N, seed) for seed in range(4))
    size = WIDTH, N

    def transform(k, rows):
        V = np.zeros((36, N), "float32")
        launch(code, "transform", (x[k], V, N, rows, *size, rows // 4 - 1, 1, 1, 0), N)
        return V

    def outputs(k, rows):
        signs = np.zeros(N, "uint16")
        times = 1 + pool  # the convolution's output is twice as high and wide
        arguments = (M, bias, y[k], signs, N, times * rows, times * WIDTH, N, times * rows // 4 - 1, 1, 1, 1, pool)
        launch(code, "outputs", arguments, N)
        return np.concatenate([y[k][-8:].ravel(), signs])

    def outputs_adjoint(k, rows):
        got, times = np.zeros((36, N), "float32"), 1 + pool
        signs = np.full(N, 0xFFFF, "uint16")
        arguments = (gy[k], signs, got, N, times * rows, times * WIDTH, N, times * rows // 4 - 1, 1, 1, 1, pool)
        launch(code, "outputs_adjoint", arguments, N)
        return got

    def transform_adjoint(k, rows):
        launch(code, "transform_adjoint", (M, gx[k], 3 * N, rows, *size, rows // 4 - 1, 1, 1, 0), 3 * N)
        return gx[k][-8:]

    for run in (transform, outputs, outputs_adjoint, transform_adjoint):
        the_same(run)


def test_the_first_layers_kernels_beyond_2_to_31_elements(pictures):
    code, rng = first.source("float32", 3, N), np.random.default_rng(1)
    weight, bias, K = (rng.standard_normal(shape).astype("float32") for shape in ((27, N), N, (N, N)))
    x, y, g, gx, w = pictures(3), pictures(N, 1), pictures(N, 2), pictures(3, 3), pictures(1, 4)
    lengths = pictures(1, 5)
    border = -1, -1, -1, -1

    def forward(k, rows):
        count = -(-rows // 4) * N
        launch(code, "first", (x[k], weight, bias, y[k], count, rows, WIDTH, *border, 0, rows), count, count - N)
        return y[k][-4:]

    def gradient(k, rows):
        count = rows * WIDTH // 2
        arguments = (x[k], weight, bias, K, bias, w[k], lengths[k], g[k], count, rows, WIDTH, *border, 0, 2, 1)
        launch(code, "first_gradient", arguments, count, count - 8)
        return g[k][-4:]

    def adjoint(k, rows):
        launch(code, "first_adjoint", (g[k], weight, gx[k], rows, rows, WIDTH, *border), rows, rows - 2)
        return gx[k][-2:]

    for run in (forward, gradient, adjoint):
        the_same(run)


@pytest.mark.parametrize("filters", [1, 4, 6, 32, 33, 68])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_arrays_that_begin_at_any_address(xp, filters, channels):
    """A kernel that reads 16 bytes at once takes only what begins at a multiple of 16."""
    rng, given = np.random.default_rng(0), []
    for shape in ((5, 7, channels), (3, 3, channels, filters), (filters,), (5, 7, filters)):
        memory = xp.asarray(rng.standard_normal(int(np.prod(shape)) + 1).astype("float32"))
        given.append(memory[1:].reshape(shape))
        assert given[-1].flags.c_contiguous
    x, weight, bias, gy = given
    assert xp is np or all(array.data.ptr % 16 for array in given)
    own, before = gy.copy(), gy.copy()
    y, mask = relu_forward(conv_forward(x, weight, bias))
    full = conv_backward(relu_backward(gy, mask), weight)
    for got, expected in (
        (patches_relu_forward(x, weight, bias), y),
        (patches_relu_backward(gy, x, weight, bias), full),
        (patches_relu_backward(gy.copy(), x, weight, bias, overwrite=True), full),
    ):
        assert float(abs(got - expected).max().item()) < 1e-5 * max(1.0, float(abs(expected).max().item()))
    close = patches_relu_backward(own, x, weight, bias) - full
    assert float(abs(close).max().item()) < 1e-5 * max(1.0, float(abs(full).max().item()))
    for array in (gy, own):  # what was given is as it was
        assert bool((array == before).all().item())


@pytest.mark.parametrize("statistics", ["gram", "gram+moments", "covariance"])
@pytest.mark.parametrize("weights", [(), (None,), ("mask",), ("mask", "mask"), (None, "mask")])
def test_terms_of_style_in_the_first_layers_kernel(make, picture, xp, statistics, weights):
    """They are what they are block by block, to rounding: one, several, with weights; on a batch of two pictures."""
    x, weight, bias, gy = make(2, 9, 7, 3), make(3, 3, 3, 5), make(5), make(2, 9, 7, 5)
    F = patches_relu_forward(x, weight, bias).reshape(-1, 5)
    kind, everywhere = STYLE_STATISTICS[statistics], slice(0, len(F))
    solved = []
    for seed, w in enumerate(weights):
        mask = None if w is None else xp.asarray(picture(18, 7, seed)[..., 0].reshape(-1).round(1))
        target = kind().describe(kind().statistics(make(40, 5), slice(0, 40)))
        term = kind([(target, 1.0)], mask)
        solved.append((term, term.solve(term.statistics(F, everywhere), 1.0)[1]))
    assert (SendingBack(dict(enumerate(solved))).affine is None) == (xp is np and any(weights))
    for given in (gy, None):
        both = [SendingBack(dict(enumerate(solved))) for _ in range(2)]
        adds = both[0], both[1].__call__  # as a function that is nothing more
        results = [to_host(patches_relu_backward(given, x, weight, bias, [add])) for add in adds]
        assert results[0] == pytest.approx(results[1], rel=1e-11, abs=1e-11 * abs(results[1]).max())
        norms = [[float(to_host(square)) for square in terms.squares.values()] for terms in both]
        assert norms[0] == pytest.approx(norms[1], rel=1e-11)
        assert len(norms[0]) == len(weights)
        if weights or given is not None:
            assert results[0].any()


def test_inner_products_are_exact_to_float64(make, xp):
    for shape in ((7, 5, 3), (1, 1), (0, 4), (70_000,)):
        a, b = make(*shape, dtype="float32"), make(*shape, dtype="float32")
        for x, y in ((a, b), (a, a), (a.T, b.T)):
            got = inner(x, y)
            assert (str(got.dtype), got.shape) == ("float64", ())
            exact = float(np.vdot(to_host(x).astype("float64"), to_host(y).astype("float64")))
            assert to_host(got) == pytest.approx(exact, rel=1e-6 if xp is np else 1e-12, abs=1e-4 if xp is np else 1e-9)
    with pytest.raises(ValueError, match=r"one kind expected|broadcast"):
        inner(make(3), make(4))


def test_arrays_that_do_not_fit_are_refused(make, xp):
    """A kernel would read what is not there, or other numbers for what they are not."""
    x, weight, bias, gy = make(5, 6, 3), make(3, 3, 3, 4), make(4), make(5, 6, 4)
    with pytest.raises(ValueError, match=r"expected|mismatch|shape|dimension"):
        patches_relu_forward(x, make(3, 3, 2, 4), bias)
    with pytest.raises(ValueError, match=r"expected|mismatch|shape|dimension"):
        patches_relu_backward(gy, x, make(3, 3, 3, 5), bias)
    if xp is not np:  # which would make them one dtype
        for arrays in ((gy.astype("float32"), x, weight, bias), (gy, x, weight.astype("float32"), bias)):
            with pytest.raises(TypeError, match="arrays of float64 expected"):
                patches_relu_backward(*arrays)


def test_a_batch_of_no_picture(make):
    x, weight, bias, gy = make(0, 5, 6, 3), make(3, 3, 3, 4), make(4), make(0, 5, 6, 4)
    U = winograd_weight(weight)
    assert patches_relu_forward(x, weight, bias).shape == winograd_forward(x, U, bias).shape == gy.shape
    assert patches_relu_backward(gy, x, weight, bias).shape == winograd_backward(gy, U).shape == x.shape
