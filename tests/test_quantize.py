"""Weights in 8 bits: within half a step, exact in float32, and the same bits when they are quantised again."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nsnumpy.files.quantize import dequantize, quantize, rounded

WITHOUT_A_CLOCK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GREATEST = float(np.finfo(np.float32).max) * (1 - 2**-14)  # a scale is rounded up


@st.composite
def weights(draw):
    """Filters of zeros and of any magnitude, subnormal ones and those near float32's greatest among them."""
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    exponents = draw(st.lists(st.integers(-150, 127), min_size=filters, max_size=filters))
    values = st.floats(-1, 1, width=32) | st.just(0.0)
    mantissas = draw(arrays(np.float64, (3, 3, channels, filters), elements=values))
    scaled = np.clip(np.ldexp(mantissas, np.array(exponents) + 1), -GREATEST, GREATEST)
    return scaled.astype(draw(st.sampled_from(["f4", "f8"])))


@WITHOUT_A_CLOCK
@given(weights())
@example(np.full((3, 3, 1, 1), GREATEST))
@example(np.full((3, 3, 1, 1), 127 * 2.0**-126 * (1 - 2**-40)))
@example(np.full((3, 3, 1, 1), 890 * 2.0**-149, "f4"))
def test_quantising_is_within_half_a_scale_exact_and_the_same_again(weight):
    q, scale = quantize(weight)
    assert (q.dtype, scale.dtype, q.shape, scale.shape) == (np.int8, np.float32, weight.shape, weight.shape[3:])
    assert q.min() >= -127
    assert (scale > 0).all()
    back = dequantize(q, scale)
    assert back.dtype == np.float32
    assert np.array_equal(back, q.astype(np.float64) * scale)  # exact, and finite
    assert (abs(back - weight.astype(np.float64)) <= 0.5 * scale.astype(np.float64)).all()
    again = quantize(back)
    assert np.array_equal(again[0], q)
    assert np.array_equal(again[1], scale)


@WITHOUT_A_CLOCK
@given(weights())
def test_the_scale_is_no_larger_than_it_must_be(weight):
    _, scale = quantize(weight)
    least = np.maximum(abs(weight).max(axis=(0, 1, 2)).astype(np.float64) / 127, 2.0**-126)
    assert (scale >= least * (1 - 2**-52)).all()
    assert (scale <= least * (1 + 2**-15)).all()


def test_each_filter_has_its_own_scale():
    weight = np.ones((3, 3, 2, 3)) * [127, 0, 0.127]
    weight[0, 0, 0] = [-63.5, 0, 0.0005]
    q, scale = quantize(weight)
    assert scale == pytest.approx([1, 0, 0.001], rel=1e-4)
    assert q[1, 1, 1].tolist() == [127, 0, 127]
    assert q[0, 0, 0].tolist() == [-64, 0, 0]


@WITHOUT_A_CLOCK
@given(arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=3), elements=st.floats(-1e9, 1e9, width=32)))
def test_what_is_left_of_a_weight(weight):
    assert np.array_equal(rounded(weight, "int8"), dequantize(*quantize(weight)))
    assert rounded(weight, "float16").dtype == np.float16
    assert np.array_equal(rounded(weight, "float64"), weight)


def test_what_does_not_fit_is_infinite():
    assert np.isinf(dequantize(*quantize(np.full((3, 3, 1, 1), 1e300)))).all()
    assert np.isinf(rounded(np.full(2, 1e6), "float16")).all()
