"""The ops that only training needs: against naive loops, as adjoints, and by central differences."""

import math

import numpy as np
import pytest
import reference

from nsnumpy import check_adjoint, check_gradient
from nsnumpy.backend import to_floats, to_host
from weights_tools.train.ops import (
    EPSILON,
    batchnorm_backward,
    batchnorm_forward,
    global_average_backward,
    global_average_forward,
    linear_backward,
    linear_forward,
    softmax_cross_entropy,
)

SHAPES = [(3, 5, 7, 4), (2, 8, 6, 3), (4, 4, 4, 5), (1, 1, 2, 2), (2, 4, 9, 1), (6, 5)]  # 105, 96, 64, 2, ... positions


def close(got, expected, tolerance=1e-13):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.abs(to_host(got) - expected).max() <= tolerance * np.abs(expected).max()


def naive_batchnorm(x, gamma, beta):
    """(y, means, variances), one channel at a time."""
    y, means, variances = np.empty_like(x), [], []
    for c in range(x.shape[-1]):
        values = [float(value) for value in x[..., c].flat]
        means.append(math.fsum(values) / len(values))
        variances.append(math.fsum((value - means[c]) ** 2 for value in values) / len(values))
        for index in np.ndindex(x.shape[:-1]):
            y[(*index, c)] = gamma[c] * (x[(*index, c)] - means[c]) / math.sqrt(variances[c] + EPSILON) + beta[c]
    return y, np.array(means), np.array(variances)


def naive_cross_entropy(y, labels):
    return sum(math.log(sum(math.exp(s) for s in row)) - row[k] for row, k in zip(y, labels, strict=True)) / len(y)


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_normalisation_is_the_definition(make, shape):
    assert EPSILON == 1e-5
    x, gamma, beta = make(*shape) * 3 + 1, make(shape[-1]), make(shape[-1])
    y, _, (mean, variance) = batchnorm_forward(x, gamma, beta)
    expected, means, variances = naive_batchnorm(to_host(x), to_host(gamma), to_host(beta))
    close(y, expected)
    close(mean, means)
    close(variance, variances)


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_normalisation_backward_is_the_derivative(make, shape):
    x, gamma, beta, gy = make(*shape), make(shape[-1]), make(shape[-1]), make(*shape)
    _, kept, _ = batchnorm_forward(x, gamma, beta)
    host = [to_host(array) for array in (x, gamma, beta)]
    for index, got in enumerate(batchnorm_backward(gy, gamma, kept)):

        def f(argument, index=index):
            return naive_batchnorm(*(argument if k == index else host[k] for k in range(3)))[0]

        expected = reference.numerical_jacobian_transpose(f, host[index], to_host(gy))
        assert got.shape == expected.shape
        # Of two positions, one of which is the other's mirror image, nearly nothing comes back: absolute, not relative.
        assert np.abs(to_host(got) - expected).max() <= 1e-7 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_batch_normalisation_by_central_differences(make, shape):
    x, gamma, beta, gy = make(*shape), make(shape[-1]), make(shape[-1]), make(*shape)

    def loss(x, gamma, beta):  # not linear in y, so that a wrong y shows as well
        y, kept, _ = batchnorm_forward(x, gamma, beta)
        return (gy * y**3).sum(), batchnorm_backward(3 * gy * y * y, gamma, kept)

    for index, of in (
        (0, lambda x: loss(x, gamma, beta)),
        (1, lambda gamma: loss(x, gamma, beta)),
        (2, lambda beta: loss(x, gamma, beta)),
    ):

        def f(argument, index=index, of=of, factor=1.0):
            value, gradients = of(argument)
            return value, factor * gradients[index]

        at = (x, gamma, beta)[index]
        assert check_gradient(f, at) < 1e-7
        assert check_gradient(lambda a, f=f: f(a, factor=1.001), at) > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_normalisation_adjoints(make, shape):
    """It is linear in gamma and beta; as a map of gradients it is its own adjoint, for its Jacobian is symmetric."""
    x, gamma, beta, gy, other = make(*shape), make(shape[-1]), make(shape[-1]), make(*shape), make(*shape)
    _, kept, _ = batchnorm_forward(x, gamma, beta)

    def back(gy, index):
        return batchnorm_backward(gy, gamma, kept)[index]

    assert check_adjoint(lambda g: batchnorm_forward(x, g, 0 * g)[0], lambda gy: back(gy, 1), gamma, gy) < 1e-12
    assert check_adjoint(lambda b: batchnorm_forward(x, 0 * b, b)[0], lambda gy: back(gy, 2), beta, gy) < 1e-12
    if math.prod(shape[:-1]) > 2:  # else it is all but zero
        assert check_adjoint(lambda g: back(g, 0), lambda g: back(g, 0), gy, other) < 1e-12


def test_what_batch_normalisation_takes_out_gets_no_gradient(make):
    """Neither the mean nor the scale of a channel has an influence, so the gradient has no part along them."""
    x, gamma, beta, gy = make(3, 5, 4, 6), make(6), make(6), make(3, 5, 4, 6)
    y, kept, _ = batchnorm_forward(x, gamma, beta)
    gx = to_host(batchnorm_backward(gy, gamma, kept)[0])
    size = np.abs(gx).sum(axis=(0, 1, 2))
    assert (np.abs(gx.sum(axis=(0, 1, 2))) < 1e-13 * size).all()
    assert (np.abs((gx * to_host(y)).sum(axis=(0, 1, 2))) < 1e-3 * size).all()  # EPSILON is what the scale still has
    close(batchnorm_forward(x + 7, gamma, beta)[0], to_host(y), 1e-12)


def test_a_constant_channel_and_a_large_mean(xp, make):
    y, kept, (mean, variance) = batchnorm_forward(xp.full((2, 3, 5, 1), 4.0), xp.ones(1), xp.full(1, 0.5))
    assert (to_host(y) == 0.5).all()
    assert tuple(to_floats(mean[0], variance[0])) == (4, 0)
    assert np.isfinite(to_host(batchnorm_backward(make(2, 3, 5, 1), xp.ones(1), kept)[0])).all()
    x = make(4, 9, 7, 3, dtype="float32") + xp.asarray(1000, "float32")
    _, _, (_, variance) = batchnorm_forward(x, xp.ones(3, "float32"), xp.zeros(3, "float32"))
    assert to_host(variance) == pytest.approx(to_host(x).astype(np.float64).var(axis=(0, 1, 2)), rel=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 1, 2, 1), (1, 7, 4, 6)])
def test_the_mean_over_positions(make, shape):
    x, gy = make(*shape), make(shape[0], shape[-1])
    batch, height, width, channels = shape
    expected = np.zeros((batch, channels))
    for b, h, w in np.ndindex(batch, height, width):
        expected[b] += to_host(x)[b, h, w] / (height * width)
    close(global_average_forward(x), expected)
    gx = global_average_backward(gy, shape)
    assert gx.shape == shape
    assert gx.flags.c_contiguous
    for b, h, w in np.ndindex(batch, height, width):
        assert to_host(gx)[b, h, w] == pytest.approx(to_host(gy)[b] / (height * width), rel=1e-15)
    assert check_adjoint(global_average_forward, lambda gy: global_average_backward(gy, shape), x, gy) < 1e-12


@pytest.mark.parametrize(("batch", "channels", "classes"), [(3, 5, 4), (1, 2, 7), (6, 1, 2)])
def test_the_linear_layer(make, batch, channels, classes):
    x, weight, bias, gy = make(batch, channels), make(channels, classes), make(classes), make(batch, classes)
    expected = np.zeros((batch, classes))
    for b, k in np.ndindex(batch, classes):
        expected[b, k] = to_host(bias)[k] + math.fsum(
            float(to_host(x)[b, c] * to_host(weight)[c, k]) for c in range(channels)
        )
    close(linear_forward(x, weight, bias), expected)

    def back(gy, index):
        return linear_backward(gy, x, weight)[index]

    assert check_adjoint(lambda x: linear_forward(x, weight, 0 * bias), lambda gy: back(gy, 0), x, gy) < 1e-12
    assert check_adjoint(lambda w: linear_forward(x, w, 0 * bias), lambda gy: back(gy, 1), weight, gy) < 1e-12
    assert check_adjoint(lambda b: linear_forward(0 * x, weight, b), lambda gy: back(gy, 2), bias, gy) < 1e-12


@pytest.mark.parametrize(("batch", "classes"), [(5, 3), (1, 6), (4, 2)])
def test_softmax_and_cross_entropy(xp, make, batch, classes):
    y, labels = 3 * make(batch, classes), np.arange(batch) * 2 % classes
    on_device = xp.asarray(labels)
    loss, gy = softmax_cross_entropy(y, on_device)
    assert to_floats(loss)[0] == pytest.approx(naive_cross_entropy(to_host(y), labels), rel=1e-13)
    expected = reference.numerical_jacobian_transpose(
        lambda y: np.array(naive_cross_entropy(y, labels)), to_host(y), np.array(1.0)
    )
    assert np.abs(to_host(gy) - expected).max() < 1e-9
    assert np.abs(to_host(gy).sum(axis=1)).max() < 1e-15

    def f(y, factor=1.0):
        value, gradient = softmax_cross_entropy(y, on_device)
        return value, factor * gradient

    assert check_gradient(f, y) < 1e-8
    assert check_gradient(lambda y: f(y, 1.001), y) > 1e-4


def test_softmax_of_large_scores_does_not_overflow(xp):
    y = xp.asarray([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]], "float32")
    loss, gy = softmax_cross_entropy(y, xp.asarray([1, 2]))
    assert to_floats(loss)[0] == pytest.approx((1e4 + math.log(3)) / 2, rel=1e-6)
    assert to_host(gy)[0].tolist() == [0.5, -0.5, 0]
    assert to_host(gy)[1] == pytest.approx([1 / 6, 1 / 6, -1 / 3], rel=1e-6)


def test_float32_stays_float32_and_views_do_as_well(xp, make):
    x, gamma, beta, gy = (make(*s, dtype="float32") for s in ((6, 4, 10, 3), (3,), (3,), (6, 4, 5, 3)))
    view = x[:, :, ::2]
    y, kept, statistics = batchnorm_forward(view, gamma, beta)
    gradients = batchnorm_backward(gy, gamma, kept)
    packed, kept, _ = batchnorm_forward(xp.ascontiguousarray(view), gamma, beta)
    close(y, to_host(packed))
    turned = xp.ascontiguousarray(gy.swapaxes(1, 2)).swapaxes(1, 2)  # the same numbers, otherwise in memory
    for got, expected in zip(batchnorm_backward(turned, gamma, kept), gradients, strict=True):
        close(got, to_host(expected), 1e-5)
    pooled, weight, bias = global_average_forward(y), make(3, 2, dtype="float32"), make(2, dtype="float32")
    scores = linear_forward(pooled, weight, bias)
    loss, gscores = softmax_cross_entropy(scores, xp.arange(6) % 2)
    rest = [gscores, *linear_backward(gscores, pooled, weight), global_average_backward(pooled, y.shape)]
    assert {str(a.dtype) for a in [y, *statistics, *gradients, pooled, scores, loss, *rest]} == {"float32"}
