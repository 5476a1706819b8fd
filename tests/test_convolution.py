"""What each way to convolve says that it takes is what it takes."""

import math

import numpy as np
import pytest

from nsnumpy.convolution import AveragePool, Direct, Layer, MaxPool, Patches, Winograd, way_of
from nsnumpy.ops import ZERO
from nsnumpy.workers import Workers


def nbytes(kept):
    """Of the arrays in nested tuples and lists."""
    if isinstance(kept, np.ndarray):
        return kept.nbytes
    return sum(map(nbytes, kept)) if isinstance(kept, tuple | list) else 0


def add(F, at, out, scratch):
    """As a layer term does."""
    out += np.multiply(F, 2, out=scratch.empty("term", F.shape, F))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "channels"), [(Direct, 8), (Patches, 3), (Winograd, 8), (AveragePool, 8), (MaxPool, 8)]
)
def test_a_way_takes_what_it_says(kind, channels, dtype):
    size, filters = (64, 72), 16 if kind in (Direct, Patches, Winograd) else 8
    workers = Workers(1, block_bytes=200_000)
    rng = np.random.default_rng(0)
    weight, bias = (rng.random(shape).astype(dtype) for shape in ((3, 3, channels, filters), (filters,)))
    way = kind(weight, bias, workers) if filters == 16 else kind()
    takes = kind.takes(Layer(size, channels, filters, np.dtype(dtype).itemsize, workers, False))
    x = rng.random((*size, channels)).astype(dtype)
    y, kept = way.forward(x, False, ZERO)
    assert takes.kept == nbytes(kept if kind is not AveragePool else ())
    way.backward(np.ones_like(y), kept, False, ZERO, *([add] if kind is Patches else []))
    if filters == 16:
        assert takes.arrays == way.arrays[0].nbytes
    scratch = sum(memory.size for memory in workers.scratch()._memory.values()) if takes.scratch else 0
    assert scratch <= sum(takes.scratch.values()) <= 1.25 * scratch


def test_layers_of_equal_names_share_their_scratch():
    workers = Workers(1)
    small, large = (Winograd.takes(Layer((n, n), 8, 8, 4, workers, False)).scratch for n in (16, 64))
    assert small.keys() == large.keys()
    assert all(small[name] <= large[name] for name in small if name != "turned")
    assert small["turned"] > large["turned"] == 0  # what is made as its transpose has few rows


def test_on_a_gpu_scratch_is_that_of_the_products():
    layer = Layer((64, 64), 8, 16, 4, Workers(1, 1 << 30), True)
    assert Winograd.takes(layer).scratch == {"V": 36 * 256 * 8, "M": 36 * 256 * 16}


def test_the_first_layer_has_its_own_way_but_by_the_definition():
    assert way_of("conv1_1", "winograd") is way_of("conv1_1", "fastest") is Patches
    assert way_of("conv1_1", "direct") is Direct
    assert way_of("conv1_2", "winograd") is Winograd
    assert math.isclose(Direct.takes(Layer((4, 4), 3, 2, 4, Workers(1), False)).arrays, 216)
