"""The fast path against the definition: winograd.py and patches.py beside conv.py, relu.py and pool.py."""

import numpy as np
import pytest

from nsnumpy import check_adjoint
from nsnumpy.backend import to_host
from nsnumpy.ops import (
    avgpool_backward,
    avgpool_forward,
    conv_backward,
    conv_forward,
    patches_relu_backward,
    patches_relu_forward,
    relu_backward,
    relu_forward,
    winograd,
    winograd_backward,
    winograd_forward,
    winograd_relu_backward,
    winograd_relu_forward,
    winograd_weight,
)
from nsnumpy.workers import Workers

SHAPES = [(1, 1), (2, 3), (4, 4), (5, 8), (8, 5), (16, 12), (21, 18), (13, 35)]


@pytest.fixture(params=[(1, 1 << 23, 128), (1, 1, 1), (3, 5000, 1)], ids=["one stripe", "thin stripes", "threads"])
def workers(request, monkeypatch):
    """One stripe; stripes as thin as may be; several threads."""
    threads, block_bytes, tiles = request.param
    monkeypatch.setattr(winograd, "_TILES", tiles)
    monkeypatch.setattr(winograd, "_ROWS", 1)
    return Workers(threads, block_bytes)


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
    for gradient, gram in ((gy, None), (gy, K), (None, K)):
        full = (0 if gradient is None else gradient) + (0 if gram is None else y @ gram)
        got = patches_relu_backward(gradient, x, weight, bias, gram, workers)
        close(got, conv_backward(relu_backward(full, mask), weight))


def test_at_the_kink_the_gradient_is_zero(xp):
    """Where a pre-activation is exactly 0, as relu_backward has it."""
    x, U, gy = xp.zeros((5, 6, 2)), winograd_weight(xp.ones((3, 3, 2, 3))), xp.ones((5, 6, 3))
    _, signs = winograd_relu_forward(x, U, xp.zeros(3))
    assert not winograd_relu_backward(gy, U, signs, (5, 6)).any()
    assert not patches_relu_backward(gy, x, xp.ones((3, 3, 2, 3)), xp.zeros(3)).any()


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


def test_a_wrong_number_of_channels_is_named(make):
    with pytest.raises(ValueError, match=r"5 channels expected, 4 given; x.shape=\(6, 7, 4\)"):
        winograd_forward(make(6, 7, 4), winograd_weight(make(3, 3, 5, 2)), make(2))
