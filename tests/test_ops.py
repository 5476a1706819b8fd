"""The first two rungs: every op against naive loops, and every backward as an adjoint."""

import numpy as np
import pytest
import reference

from nsnumpy import check_adjoint
from nsnumpy.backend import to_host
from nsnumpy.ops import (
    avgpool_backward,
    avgpool_forward,
    conv_backward,
    conv_backward_weight,
    conv_forward,
    maxpool_backward,
    maxpool_forward,
    pad,
    pad_adjoint,
    relu_backward,
    relu_forward,
)

SHAPES = [(7, 5), (4, 6), (1, 3), (2, 1), (9, 8)]


def close(got, expected, tolerance=1e-13):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.abs(to_host(got) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("channels", "filters"), [(3, 4), (5, 2), (1, 1)])
def test_conv_forward_is_the_definition(make, height, width, channels, filters):
    x, weight, bias = make(height, width, channels), make(3, 3, channels, filters), make(filters)
    close(conv_forward(x, weight, bias), reference.conv(to_host(x), to_host(weight), to_host(bias)))


@pytest.mark.parametrize(("height", "width"), SHAPES[:-1])
def test_conv_backwards_are_the_derivatives(make, height, width):
    x, weight, bias, gy = make(height, width, 3), make(3, 3, 3, 4), make(4), make(height, width, 4)
    host = [to_host(array) for array in (x, weight, bias, gy)]
    gweight, gbias = conv_backward_weight(gy, x)
    for index, got in ((0, conv_backward(gy, weight)), (1, gweight), (2, gbias)):

        def f(argument, index=index):
            return reference.conv(*(argument if k == index else host[k] for k in range(3)))

        close(got, reference.numerical_jacobian_transpose(f, host[index], host[3]), 1e-8)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_conv_adjoints(make, height, width):
    x, weight, bias, gy = make(2, height, width, 5), make(3, 3, 5, 4), make(4), make(2, height, width, 4)
    assert check_adjoint(lambda x: conv_forward(x, weight, 0 * bias), lambda g: conv_backward(g, weight), x, gy) < 1e-12
    assert (
        check_adjoint(lambda w: conv_forward(x, w, 0 * bias), lambda g: conv_backward_weight(g, x)[0], weight, gy)
        < 1e-12
    )
    assert (
        check_adjoint(lambda b: conv_forward(0 * x, weight, b), lambda g: conv_backward_weight(g, x)[1], bias, gy)
        < 1e-12
    )


MODES = {"zero": "constant", "replicate": "edge", "reflect": "reflect", "wrap": "wrap"}
BORDERS = [*((border, border) for border in MODES), ("zero", "wrap"), ("wrap", "reflect"), ("replicate", "zero")]


@pytest.mark.parametrize("border", BORDERS, ids="-".join)
@pytest.mark.parametrize(("height", "width"), [*SHAPES, (2, 2), (1, 1)])
def test_borders_are_numpys(make, border, height, width):
    x = make(2, height, width, 3)
    expected = to_host(x)
    for axis, mode in ((2, MODES[border[1]]), (1, MODES[border[0]])):
        mode = "edge" if mode == "reflect" and expected.shape[axis] == 1 else mode  # NumPy has zeros there
        expected = np.pad(expected, [(1, 1) if axis == a else (0, 0) for a in range(4)], mode)
    assert np.array_equal(to_host(pad(x, border)), expected)
    gx = make(2, height + 2, width + 2, 3)
    assert check_adjoint(lambda x: pad(x, border), lambda g: pad_adjoint(g.copy(), border), x, gx) < 1e-12


@pytest.mark.parametrize("border", BORDERS, ids="-".join)
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_convolution_sees_the_border(make, border, height, width):
    x, weight, bias, gy = make(2, height, width, 5), make(3, 3, 5, 4), make(4), make(2, height, width, 4)
    y = conv_forward(x, weight, bias, border)
    close(y, to_host(conv_forward(pad(x, border), weight, bias)[:, 1:-1, 1:-1]))
    error = check_adjoint(
        lambda x: conv_forward(x, weight, 0 * bias, border), lambda g: conv_backward(g, weight, border), x, gy
    )
    assert error < 1e-12


def test_leading_axes_are_a_batch(make):
    x, weight, bias, gy = make(2, 3, 6, 5, 3), make(3, 3, 3, 4), make(4), make(2, 3, 6, 5, 4)
    y, gx = conv_forward(x, weight, bias), conv_backward(gy, weight)
    gweight, gbias = conv_backward_weight(gy, x)
    one_by_one = [conv_backward_weight(gy[i, j], x[i, j]) for i in range(2) for j in range(3)]
    for i in range(2):
        for j in range(3):
            close(y[i, j], to_host(conv_forward(x[i, j], weight, bias)))
            close(gx[i, j], to_host(conv_backward(gy[i, j], weight)))
    close(gweight, to_host(sum(w for w, _ in one_by_one)))
    close(gbias, to_host(sum(b for _, b in one_by_one)))


def test_conv_names_a_wrong_number_of_channels(make):
    with pytest.raises(ValueError, match=r"5 channels expected, 4 given; x.shape=\(6, 7, 4\)"):
        conv_forward(make(6, 7, 4), make(3, 3, 5, 2), make(2))


def test_relu_and_its_kink(xp):
    x = xp.asarray([-2.0, -0.0, 0.0, 1e-300, 3.0])
    y, mask = relu_forward(x)
    assert to_host(y).tolist() == [0, 0, 0, 1e-300, 3]
    assert to_host(relu_backward(xp.full(5, 7.0), mask)).tolist() == [0, 0, 0, 7, 7]
    assert mask.dtype == bool


@pytest.mark.parametrize(("height", "width"), [(7, 5), (4, 6), (2, 3), (9, 8)])
def test_pools_are_the_definition_and_drop_the_odd_edge(make, height, width):
    x, gy = make(height, width, 3), make(height // 2, width // 2, 3)
    host, ghost = to_host(x), to_host(gy)
    close(avgpool_forward(x), reference.pool(host, np.mean))
    y, winner = maxpool_forward(x)
    close(y, reference.pool(host, np.max))
    assert winner.dtype == np.uint8
    for got, reduce in ((avgpool_backward(gy, x.shape), np.mean), (maxpool_backward(gy, winner, x.shape), np.max)):
        expected = reference.numerical_jacobian_transpose(lambda x, r=reduce: reference.pool(x, r), host, ghost)
        close(got, expected, 1e-8)
        assert not to_host(got)[2 * (height // 2) :].any()
        assert not to_host(got)[:, 2 * (width // 2) :].any()


@pytest.mark.parametrize(("height", "width"), [(7, 5), (4, 6), (2, 2)])
def test_pool_and_relu_adjoints(make, height, width):
    x, gy, g = make(2, height, width, 3), make(2, height // 2, width // 2, 3), make(2, height, width, 3)
    _, winner = maxpool_forward(x)
    _, mask = relu_forward(x)
    assert check_adjoint(avgpool_forward, lambda g: avgpool_backward(g, x.shape), x, gy) < 1e-12
    assert check_adjoint(lambda x: maxpool_forward(x)[0], lambda g: maxpool_backward(g, winner, x.shape), x, gy) < 1e-12
    assert check_adjoint(lambda x: relu_forward(x)[0], lambda g: relu_backward(g, mask), x, g) < 1e-12


def test_of_equal_inputs_the_first_wins(xp):
    y, winner = maxpool_forward(xp.ones((2, 2, 1)))
    assert to_host(winner).tolist() == [[[0]]]
    gx = maxpool_backward(xp.ones((1, 1, 1)), winner, (2, 2, 1))
    assert to_host(gx)[..., 0].tolist() == [[1, 0], [0, 0]]
    assert to_host(y).tolist() == [[[1]]]


def test_float32_stays_float32(make):
    x, weight, bias = (make(*shape, dtype="float32") for shape in ((6, 4, 3), (3, 3, 3, 2), (2,)))
    y = conv_forward(x, weight, bias)
    relu, mask = relu_forward(y)
    pooled, winner = maxpool_forward(relu)
    gradients = [conv_backward(y, weight), *conv_backward_weight(y, x), relu_backward(y, mask)]
    pools = [avgpool_forward(y), avgpool_backward(pooled, y.shape), maxpool_backward(pooled, winner, y.shape)]
    assert {str(a.dtype) for a in [y, relu, pooled, *gradients, *pools]} == {"float32"}
