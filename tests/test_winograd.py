"""The fast path against the definition: winograd.py and patches.py beside conv.py, relu.py and pool.py."""

import numpy as np
import pytest

from nsnumpy import check_adjoint
from nsnumpy.backend import to_host
from nsnumpy.ops import (
    BORDERS,
    avgpool_backward,
    avgpool_forward,
    conv_backward,
    conv_backward_weight,
    conv_forward,
    patches_relu_backward,
    patches_relu_forward,
    relu_backward,
    relu_forward,
    winograd_backward,
    winograd_backward_weight,
    winograd_forward,
    winograd_relu_backward,
    winograd_relu_forward,
    winograd_scratch,
    winograd_weight,
)
from nsnumpy.ops.fast import host, order, winograd
from nsnumpy.ops.fast.host import HostTiles
from nsnumpy.workers import Workers

SHAPES = [(1, 1), (2, 3), (4, 4), (5, 8), (8, 5), (16, 12), (21, 18), (13, 35)]


@pytest.fixture(
    params=[(1, 1 << 23, 128), (1, 1, 1), (3, 5000, 1), (3, 5000, 40)],
    ids=["one stripe", "thin stripes", "threads", "threads in step"],
)
def workers(request, monkeypatch):
    """One stripe; stripes as thin as may be; several threads, each with tiles of its own, or with frequencies."""
    threads, block_bytes, tiles = request.param
    monkeypatch.setattr(order, "TILES", tiles)
    monkeypatch.setattr(order, "APART", tiles)
    monkeypatch.setattr(winograd, "_ROWS", 1)
    return Workers(threads, block_bytes)


def test_few_tiles_are_multiplied_in_shares_of_the_frequencies(monkeypatch):
    shapes, products = [], HostTiles.products_adjoint

    def noted(tiles, M, *rest):
        shapes.append(M.shape)
        return products(tiles, M, *rest)

    monkeypatch.setattr(HostTiles, "products_adjoint", noted)
    gy, U = np.ones((32, 32, 4)), winograd_weight(np.ones((3, 3, 5, 4)))
    for threads, count in ((1, [36]), (2, [6] * 6)):  # of 64 tiles
        shapes.clear()
        gx = winograd_backward(gy, U, Workers(threads))
        assert [shape[0] for shape in shapes] == count
        assert {shape[1] for shape in shapes} == {64}
    assert gx.shape == (32, 32, 5)


@pytest.mark.parametrize("small", [1, 10**6])
def test_products_of_few_rows_are_made_a_part_of_the_channels_at_a_time(make, monkeypatch, small):
    monkeypatch.setattr(host, "_SMALL", small)
    gy, weight = make(9, 13, 6), make(3, 3, 7, 6)  # of 12 tiles
    close(winograd_backward(gy, winograd_weight(weight)), conv_backward(gy, weight))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [(24, 32), (64, 72)])
def test_the_scratch_of_several_threads_is_foretold(threads, size):
    workers, rng = Workers(threads), np.random.default_rng(0)
    x, U = rng.random((*size, 8)), winograd_weight(rng.random((3, 3, 8, 16)))
    y, signs = winograd_relu_forward(x, U, np.zeros(16), workers)
    winograd_relu_backward(y, U, signs, size, workers)
    told = winograd_scratch(size, 8, 16, 8, workers, on_device=False)
    held = {key[0]: memory.size for key, memory in workers.scratch()._memory.items()}
    shared = sum(held.get(f"in step {k}", 0) for k in range(2))
    assert shared <= threads * told["in step"] + threads
    assert bool(shared) == (threads > 1 and size[0] * size[1] / 16 < order.APART * threads)
    for name, names in (("even", ["even"]), ("odd", ["odd"]), ("turned", ["columns", "found"])):
        assert sum(held.get(each, 0) for each in names) <= told[name], name


def close(got, expected, tolerance=1e-12):
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    assert np.abs(to_host(got - expected)).max() <= tolerance * np.abs(to_host(expected)).max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "filters"), [(3, 4), (5, 2), (1, 1)])
def test_winograd_is_the_convolution_and_its_adjoint(make, workers, shape, channels, filters):
    x, weight, bias = make(2, *shape, channels), make(3, 3, channels, filters), make(filters)
    gy, U = make(2, *shape, filters), winograd_weight(weight)
    close(winograd_forward(x, U, bias, workers), conv_forward(x, weight, bias))
    close(winograd_backward(gy, U, workers), conv_backward(gy, weight))
    error = check_adjoint(
        lambda x: winograd_forward(x, U, 0 * bias, workers), lambda gy: winograd_backward(gy, U, workers), x, gy
    )
    assert error < 1e-12


@pytest.mark.parametrize("border", [*zip(BORDERS, BORDERS, strict=True), ("wrap", "reflect"), ("zero", "wrap")])
@pytest.mark.parametrize("shape", SHAPES)
def test_borders(make, workers, shape, border):
    x, weight, bias, gy = make(2, *shape, 3), make(3, 3, 3, 4), make(4), make(2, *shape, 4)
    U = winograd_weight(weight)
    close(winograd_forward(x, U, bias, workers, border), conv_forward(x, weight, bias, border))
    close(winograd_backward(gy, U, workers, border), conv_backward(gy, weight, border))
    y, mask = relu_forward(conv_forward(x, weight, bias, border))
    full = conv_backward(relu_backward(gy, mask), weight, border)
    z, signs = winograd_relu_forward(x, U, bias, workers, border)
    close(z, y)
    close(winograd_relu_backward(gy, U, signs, shape, workers, border), full)
    close(patches_relu_forward(x, weight, bias, workers, border), y)
    close(patches_relu_backward(gy, x, weight, bias, (), workers, border), full)
    twice = patches_relu_backward(gy, x, weight, bias, [lambda F, at, out, _: out.__iadd__(out)], workers, border)
    close(twice, 2 * full)  # in blocks of rows, on a GPU, too
    if min(shape) > 1:
        pooled, signs = winograd_relu_forward(x, U, bias, workers, border, pool=True)
        close(pooled, avgpool_forward(y))
        g = make(*pooled.shape)
        full = conv_backward(relu_backward(avgpool_backward(g, y.shape), mask), weight, border)
        close(winograd_relu_backward(g, U, signs, shape, workers, border, pool=True), full)


@pytest.mark.parametrize("border", BORDERS)
def test_any_number_of_threads_adds_the_border_in_the_same_order(make, border):
    x, weight, bias = (make(*s, dtype="float32") for s in ((64, 40, 8), (3, 3, 8, 8), (8,)))
    U, each = winograd_weight(weight), []
    for _ in range(3):
        workers = Workers(3, 1 << 16)
        y, signs = winograd_relu_forward(x, U, bias, workers, (border, border))
        each.append(to_host(winograd_relu_backward(y, U, signs, (64, 40), workers, (border, border))))
    assert all(np.array_equal(each[0], other) for other in each[1:])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", [False, True])
def test_convolution_relu_and_pooling_in_one_step(make, workers, shape, pool):
    if pool and min(shape) < 2:
        pytest.skip("nothing to pool")
    x, weight, bias = make(*shape, 5), make(3, 3, 5, 4), make(4)
    U = winograd_weight(weight)
    expected, mask = relu_forward(conv_forward(x, weight, bias))
    y, signs = winograd_relu_forward(x, U, bias, workers, pool=pool)
    close(y, avgpool_forward(expected) if pool else expected)
    gy = make(*y.shape)
    full = avgpool_backward(gy, expected.shape) if pool else gy
    gx = winograd_relu_backward(gy, U, signs, shape, workers, pool=pool)
    close(gx, conv_backward(relu_backward(full, mask), weight))
    assert sum(bits.nbytes for bits in signs) == -(-shape[0] // 4) * -(-shape[1] // 4) * 16 * 4 / 8  # a bit each


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_layer_by_patches(make, workers, shape):
    x, weight, bias, K, gy = make(2, *shape, 3), make(3, 3, 3, 4), make(4), make(4, 4), make(2, *shape, 4)
    y, mask = relu_forward(conv_forward(x, weight, bias))
    close(patches_relu_forward(x, weight, bias, workers), y)

    def add(F, at, out, scratch):
        close(F, y.reshape(-1, 4)[at])
        out += F @ K

    for gradient, adds in ((gy, ()), (gy, (add,)), (None, (add,)), (gy, (add, add))):
        full = (0 if gradient is None else gradient) + len(adds) * (y @ K)
        got = patches_relu_backward(gradient, x, weight, bias, adds, workers)
        close(got, conv_backward(relu_backward(full, mask), weight))


def test_at_the_kink_the_gradient_is_zero(xp):
    """Where a pre-activation is exactly 0, as relu_backward has it."""
    x, U, gy = xp.zeros((5, 6, 2)), winograd_weight(xp.ones((3, 3, 2, 3))), xp.ones((5, 6, 3))
    _, signs = winograd_relu_forward(x, U, xp.zeros(3))
    assert not to_host(winograd_relu_backward(gy, U, signs, (5, 6))).any()
    assert not to_host(patches_relu_backward(gy, x, xp.ones((3, 3, 2, 3)), xp.zeros(3))).any()


def test_the_transformed_weight_is_rounded_once(make):
    weight = make(3, 3, 8, 5, dtype="float32")
    exact = to_host(winograd_weight(weight.astype("float64")))
    assert np.array_equal(to_host(winograd_weight(weight)), exact.astype("float32"))


def test_leading_axes_are_a_batch(make, workers):
    x, weight, bias = make(2, 3, 6, 9, 3), make(3, 3, 3, 4), make(4)
    U = winograd_weight(weight)
    for forward in (
        lambda x: winograd_relu_forward(x, U, bias, workers, pool=True)[0],
        lambda x: patches_relu_forward(x, weight, bias, workers),
    ):
        y = forward(x)
        close(y[1, 2], forward(x[1, 2]))


def test_float32_stays_float32_and_is_accurate(make):
    x, weight, bias = (make(*shape, dtype="float32") for shape in ((40, 36, 32), (3, 3, 32, 24), (24,)))
    U = winograd_weight(weight)
    y, signs = winograd_relu_forward(x, U, bias)
    gx = winograd_relu_backward(y, U, signs, (40, 36))
    first, back = patches_relu_forward(x, weight, bias), patches_relu_backward(y, x, weight, bias)
    assert {str(a.dtype) for a in (U, y, gx, first, back)} == {"float32"}
    exact, mask = relu_forward(conv_forward(*(a.astype("float64") for a in (x, weight, bias))))
    exact_back = conv_backward(relu_backward(y.astype("float64"), mask), weight.astype("float64"))
    for got, expected in ((y, exact), (gx, exact_back), (first, exact), (back, exact_back)):
        assert np.linalg.norm(to_host(got - expected)) < 2e-5 * np.linalg.norm(to_host(expected))


def test_arrays_that_do_not_lie_in_order(make, xp):
    """Kernels see no strides."""
    x, gy, weight, bias = make(9, 6, 5), make(9, 6, 4), make(3, 3, 5, 4), make(8)[::2]
    U = winograd_weight(weight)
    flipped = [array.swapaxes(0, 1) for array in (x, gy)]
    plain = [xp.ascontiguousarray(array) for array in flipped]
    close(winograd_forward(flipped[0], U, bias), conv_forward(plain[0], weight, bias))
    close(winograd_backward(flipped[1], U), conv_backward(plain[1], weight))
    y, signs = winograd_relu_forward(flipped[0], U, bias)
    gx = winograd_relu_backward(flipped[1], U, signs, (6, 9))
    close(gx, conv_backward(relu_backward(plain[1], y > 0), weight))
    got = winograd_backward_weight(flipped[1], flipped[0], U)
    close(got[1], conv_backward_weight(plain[1], plain[0])[0])


def test_arrays_of_different_precision_are_refused(make):
    x, gy, U, bias = make(6, 7, 5), make(6, 7, 4), winograd_weight(make(3, 3, 5, 4)), make(4)
    single, half = x.astype("float32"), x.astype("float16")
    for call in (
        lambda: winograd_forward(single, U, bias),
        lambda: winograd_forward(x, U, bias.astype("float32")),
        lambda: winograd_backward(gy.astype("float32"), U),
        lambda: winograd_backward_weight(gy, single, U),
        lambda: winograd_forward(half, U.astype("float16"), bias.astype("float16")),
    ):
        with pytest.raises(TypeError, match="arrays of one dtype, float32 or float64, expected; float"):
            call()


def test_a_wrong_number_of_channels_is_named(make):
    with pytest.raises(ValueError, match=r"5 channels expected, 4 given; x.shape=\(6, 7, 4\)"):
        winograd_forward(make(6, 7, 4), winograd_weight(make(3, 3, 5, 2)), make(2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "filters"), [(3, 4), (5, 2), (1, 1)])
def test_all_three_gradients(make, workers, shape, channels, filters):
    x, weight, bias = make(2, *shape, channels), make(3, 3, channels, filters), make(filters)
    gy, U = make(2, *shape, filters), winograd_weight(weight)
    gx, gweight, gbias = winograd_backward_weight(gy, x, U, workers)
    close(gx, conv_backward(gy, weight))
    expected = conv_backward_weight(gy, x)
    close(gweight, expected[0])
    close(gbias, expected[1])

    def back(gy, index):
        return winograd_backward_weight(gy, x, U, workers)[index]

    def forward(x, weight, bias):
        return winograd_forward(x, winograd_weight(weight), bias, workers)

    assert check_adjoint(lambda x: forward(x, weight, 0 * bias), lambda gy: back(gy, 0), x, gy) < 1e-12
    assert check_adjoint(lambda weight: forward(x, weight, 0 * bias), lambda gy: back(gy, 1), weight, gy) < 1e-12
    assert check_adjoint(lambda bias: forward(0 * x, weight, bias), lambda gy: back(gy, 2), bias, gy) < 1e-12


BATCHES = [
    pytest.param((7, 5, 6), Workers(1, 1 << 23), id="one piece"),
    pytest.param((9, 8, 5), Workers(1, 50_000), id="groups"),
    pytest.param((11, 6, 9), Workers(3, 50_000), id="groups, threads"),
    pytest.param((2, 4, 4), Workers(3, 1 << 23), id="fewer pictures than threads"),
    pytest.param((3, 41, 7), Workers(3, 50_000), id="stripes, threads"),
    pytest.param((5, 21, 18), Workers(3, 1 << 23), id="groups of larger ones, threads"),
]


@pytest.mark.parametrize(("shape", "workers"), BATCHES)
def test_batches_of_pictures(make, monkeypatch, shape, workers):
    """Of small ones several make a piece of work, of large ones a stripe does; the result is the same."""
    monkeypatch.setattr(order, "TILES", 1)
    monkeypatch.setattr(winograd, "_ROWS", 1)
    x, weight, bias, gy = make(*shape, 5), make(3, 3, 5, 4), make(4), make(*shape, 4)
    U = winograd_weight(weight)
    pre = conv_forward(x, weight, bias)
    close(winograd_forward(x, U, bias, workers), pre)
    close(winograd_backward(gy, U, workers), conv_backward(gy, weight))
    got = winograd_backward_weight(gy, x, U, workers)
    for gradient, expected in zip(got, (conv_backward(gy, weight), *conv_backward_weight(gy, x)), strict=True):
        close(gradient, expected)
    y, mask = relu_forward(pre)
    for pool in (False, True):
        z, signs = winograd_relu_forward(x, U, bias, workers, pool=pool)
        close(z, avgpool_forward(y) if pool else y)
        gz = make(*z.shape)
        gx = winograd_relu_backward(gz, U, signs, shape[1:], workers, pool=pool)
        close(gx, conv_backward(relu_backward(avgpool_backward(gz, y.shape) if pool else gz, mask), weight))


def test_the_pieces_of_work_cover_every_tile_once():
    U = np.zeros((36, 5, 4))
    seen = set()
    for batch in (1, 2, 7, 40):
        for size in ((1, 1), (5, 6), (8, 40), (90, 30)):
            for workers in (Workers(1, 1 << 23), Workers(1, 1), Workers(3, 50_000), Workers(4, 1 << 20)):
                pieces = winograd._pieces(batch, size, U, workers)
                tiles = [(n, row) for p in pieces for n in range(p.first, p.last) for row in range(p.start, p.stop)]
                assert sorted(tiles) == [(n, row) for n in range(batch) for row in range(-(-size[0] // 4))]
                seen |= {(p.last - p.first > 1, p.stop - p.start < -(-size[0] // 4)) for p in pieces}
    assert seen == {(True, False), (False, True), (False, False)}  # several whole pictures, a part of one, a whole one
    assert len(winograd._pieces(40, (8, 8), U, Workers(1, 1 << 20))) == 1  # 40 times 10 kB
    assert len(winograd._pieces(2, (90, 30), U, Workers(1, 50_000))) > 2  # 477 kB each


def test_the_gradients_are_the_same_bits_each_time(make, monkeypatch):
    """Whichever thread is ready first."""
    monkeypatch.setattr(order, "TILES", 1)
    for shape in ((13, 9, 10), (2, 61, 17)):
        x, U, gy = make(*shape, 8), winograd_weight(make(3, 3, 8, 6)), make(*shape, 6)
        first = winograd_backward_weight(gy, x, U, Workers(3, 30_000))
        for _ in range(8):
            again = winograd_backward_weight(gy, x, U, Workers(3, 30_000))
            assert all(np.array_equal(to_host(a), to_host(b)) for a, b in zip(first, again, strict=True))


def test_the_gradients_in_float32_are_accurate(make):
    x, weight, gy = (make(*shape, dtype="float32") for shape in ((8, 18, 14, 32), (3, 3, 32, 24), (8, 18, 14, 24)))
    got = winograd_backward_weight(gy, x, winograd_weight(weight), Workers(2, 1 << 20))
    wide = [a.astype("float64") for a in (gy, x, weight)]
    for gradient, expected in zip(
        got, (conv_backward(wide[0], wide[2]), *conv_backward_weight(*wide[:2])), strict=True
    ):
        assert gradient.dtype == "float32"
        assert np.linalg.norm(to_host(gradient - expected)) < 2e-5 * np.linalg.norm(to_host(expected))


def test_leading_axes_of_the_gradients_are_a_batch(make, workers):
    x, U, gy = make(2, 3, 6, 9, 3), winograd_weight(make(3, 3, 3, 4)), make(2, 3, 6, 9, 4)
    gx, gweight, gbias = winograd_backward_weight(gy, x, U, workers)
    one_by_one = [[winograd_backward_weight(gy[i, j], x[i, j], U, workers) for j in range(3)] for i in range(2)]
    close(gx[1, 2], one_by_one[1][2][0])
    for k, whole in ((1, gweight), (2, gbias)):
        close(whole, sum(gradients[k] for row in one_by_one for gradients in row))
    with pytest.raises(ValueError, match=r"3 channels expected, 4 given"):
        winograd_backward_weight(gy, gy, U)
