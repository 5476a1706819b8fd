"""Afterwards each filter's mean activation is 1, and the network computes what it did, up to known scales."""

from dataclasses import replace

import numpy as np
import pytest
from reference import conv as naive_conv
from weight_writers import small_network

from nsnumpy import VGG, WeightFile, load_image
from weights_tools import mean_activations, normalize
from weights_tools.published import CONVENTIONS


@pytest.fixture
def file():
    return WeightFile(small_network(widths=(5, 6, 7, 8, 9), seed=3), preprocessing=CONVENTIONS["matconvnet"])


@pytest.fixture
def pictures():
    """Of different sizes, odd ones."""
    return [load_image("sample:coast", 61), load_image("sample:starry", 48), load_image("sample:cutouts", 83)]


def test_means_are_those_of_a_naive_network(file, picture):
    x = picture(19, 17).astype(np.float32)
    means = mean_activations(replace(file, weights={"conv1_1": file.weights["conv1_1"]}), [x, x[:11]])
    z = x.astype(np.float64) * 255 - file.preprocessing.mean
    features = [np.maximum(naive_conv(part, *file.weights["conv1_1"]), 0) for part in (z, z[:11])]
    total = sum(F.sum(axis=(0, 1)) for F in features)
    assert means["conv1_1"] == pytest.approx(total / (19 * 17 + 11 * 17), rel=1e-5)
    assert means["conv1_1"].dtype == np.float64


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_afterwards_every_mean_is_one(file, pictures, pooling):
    normalized, means = normalize(file, pictures, pooling)
    assert normalized.normalized
    assert not file.normalized
    for name, after in mean_activations(normalized, pictures, pooling).items():
        alive = means[name] > 0
        assert after[alive] == pytest.approx(1, abs=1e-4), name
        assert not after[~alive].any()
    assert sum((mean > 0).sum() for mean in means.values()) > 80


def test_it_computes_the_same_up_to_the_means(file, pictures):
    normalized, means = normalize(file, pictures)
    layers = ["conv1_1", "conv2_2", "conv3_4", "conv5_1"]
    x = load_image("sample:glass", 70).astype(np.float64)
    before, after = (
        VGG(f.weights, xp=np, preprocessing=f.preprocessing, dtype="float64").forward(x, layers)[0]
        for f in (file, normalized)
    )
    for layer in layers:
        scale = np.where(means[layer] > 0, means[layer], 1)
        error = np.linalg.norm(after[layer] * scale - before[layer]) / np.linalg.norm(before[layer])
        assert error < 1e-6, layer


def test_a_filter_that_is_never_active_keeps_its_scale(file, pictures):
    weights = dict(file.weights)
    weight, bias = (array.copy() for array in weights["conv2_1"])
    weight[..., 2], bias[2] = 0, -1
    weights["conv2_1"] = weight, bias
    normalized, means = normalize(replace(file, weights=weights), pictures)
    assert means["conv2_1"][2] == 0
    assert normalized.weights["conv2_1"][1][2] == -1
    assert all(np.isfinite(array).all() for layer in normalized.weights.values() for array in layer)


def test_pictures_are_needed_and_must_be_large_enough(file):
    with pytest.raises(ValueError, match="one picture at least expected"):
        normalize(file, [])
    with pytest.raises(ValueError, match="H, W >= 16 expected"):
        normalize(file, [np.zeros((40, 12, 3))])
