"""Two files of one network are told to be that, and which reordering makes them agree."""

from dataclasses import replace

import numpy as np
import pytest
from weight_writers import FIXTURES, WRITERS, small_network

from nsnumpy import VGG, Preprocessing, WeightFile, load_image
from nsnumpy.files.quantize import rounded
from weights_tools import compare, normalize, read_any
from weights_tools.compare import SAME
from weights_tools.published import CONVENTIONS

WIDTHS = (4, 4, 4, 4, 4)  # so that input and output may be exchanged, too


def network(change=lambda name, weight: weight, preprocessing="caffe", seed=0):
    weights = {name: (change(name, w), b) for name, (w, b) in small_network(widths=WIDTHS, seed=seed).items()}
    return WeightFile(weights, preprocessing=CONVENTIONS[preprocessing])


def only(layer, change):
    return network(lambda name, w: change(w) if name == layer else w)


def test_the_same_file():
    comparison = compare(network(), network())
    assert comparison.same
    assert comparison.verdict == "the same network"
    assert {(layer.reordering, layer.error) for layer in comparison.layers} == {("", 0.0)}
    assert len(comparison.layers) == 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.transpose(1, 0, 2, 3), "height and width exchanged"),
        (lambda w: w[::-1, ::-1], "turned by 180 degrees"),
        (lambda w: w[::-1], "upside down"),
        (lambda w: w[:, ::-1], "mirrored"),
        (lambda w: w.transpose(0, 1, 3, 2), "input and output exchanged"),
        (lambda w: w.transpose(1, 0, 3, 2)[::-1], "input and output exchanged, height and width exchanged, mirrored"),
    ],
)
def test_a_wrong_order_of_axes_is_named(change, words):
    comparison = compare(network(), only("conv4_2", change))
    assert not comparison.same
    found = {layer.layer: layer.reordering for layer in comparison.layers}
    assert found.pop("conv4_2") == words
    assert set(found.values()) == {""}
    assert comparison.verdict.startswith(f"the same network once B is reordered (conv4_2: {words}")


def test_channel_orders_and_what_the_files_state():
    def bgr(name, w):
        return w[:, :, ::-1] if name == "conv1_1" else w

    rightly = compare(network(preprocessing="matconvnet"), network(bgr, "caffe"))
    assert rightly.same
    assert rightly.verdict == "the same network; A expects RGB and B BGR, rightly"
    assert rightly.layers[0].reordering == "input channels reversed (RGB for BGR)"
    wrongly = compare(network(preprocessing="caffe"), network(bgr, "caffe"))
    assert not wrongly.same
    assert (
        "input channels reversed, but A expects BGR and B BGR: one of the two, stated or assumed, is wrong"
        in wrongly.verdict
    )
    wrongly = compare(network(preprocessing="matconvnet"), network(preprocessing="caffe"))
    assert not wrongly.same
    assert "input channels in the same order, but A expects RGB and B BGR" in wrongly.verdict


def test_scales_and_means_of_pixels():
    a = network()
    unit = replace(a, preprocessing=Preprocessing("BGR", 1.0, tuple(m / 255 for m in a.preprocessing.mean)))
    folded = {name: (w * 255 if name == "conv1_1" else w, b) for name, (w, b) in a.weights.items()}
    assert compare(a, replace(unit, weights=folded)).verdict == "the same network"
    assert compare(replace(unit, weights=folded), a).same
    assert "different scales or means" in compare(a, unit).verdict
    shifted = replace(a, preprocessing=replace(a.preprocessing, mean=(100.0, 116.779, 123.68)))
    assert "different scales or means" in compare(a, shifted).verdict


def test_a_normalised_network_is_the_original_up_to_factors():
    a = network()
    b, means = normalize(a, [load_image("sample:coast", 64)])
    comparison = compare(a, b)
    assert comparison.same
    assert comparison.verdict == "the same network, up to a positive factor for each filter"
    assert max(layer.error for layer in comparison.layers) < 1e-6
    assert any(not np.allclose(mean, 1) for mean in means.values())


def test_rounding_to_float16_is_still_the_same_and_noise_is_not():
    half = network(lambda name, w: w.astype(np.float16).astype(np.float32))
    assert compare(network(), half).same
    rng = np.random.default_rng(0)
    noisy = network(lambda name, w: w + (name == "conv3_2") * 0.01 * rng.standard_normal(w.shape).astype(w.dtype))
    comparison = compare(network(), noisy)
    assert comparison.verdict == "not the same network: 1 of 16 layers differ, conv3_2 first"
    other = compare(network(), network(seed=5))
    assert other.verdict == "not the same network: 16 of 16 layers differ, conv1_1 first"
    assert min(layer.error for layer in other.layers) > 0.1


def test_rounding_to_8_bits_is_told_and_more_is_not_called_so():
    a = network()
    b = network(lambda name, w: rounded(w, "int8"))
    n, _ = normalize(a, [load_image("sample:coast", 64)])
    q = replace(n, weights={name: (rounded(w, "int8"), bias) for name, (w, bias) in n.weights.items()})
    for x, y in ((a, b), (b, a)):
        comparison = compare(x, y)
        assert comparison.same
        assert comparison.verdict == "the same network, up to rounding to 8 bits"
        assert all(layer.rounded == (layer.error >= SAME) for layer in comparison.layers)
    for x, y in ((a, q), (q, a), (b, n), (n, b)):
        comparison = compare(x, y)
        assert comparison.same
        assert comparison.verdict == "the same network, up to a positive factor for each filter and rounding to 8 bits"
    different = "not the same network: 1 of 16 layers differ, conv3_2 first"
    weight, bias = a.weights["conv3_2"]
    step = abs(weight).max(axis=(0, 1, 2)) / 127
    signs = np.random.default_rng(0).choice([-1, 1], weight.shape)
    for steps, verdict in ((1.4, "the same network, up to rounding to 8 bits"), (2.6, different)):
        moved = replace(a, weights=a.weights | {"conv3_2": (weight + (steps * step * signs).astype("f"), bias)})
        assert compare(b, moved).verdict == compare(moved, b).verdict == verdict
        assert compare(a, moved).verdict == different  # of which neither is in 8 bits
    biased = replace(b, weights=b.weights | {"conv3_2": (b.weights["conv3_2"][0], bias * np.float32(1.01))})
    assert compare(a, biased).verdict == different


def test_one_wrong_weight_and_wrong_biases_are_noticed():
    def one(w):
        w = w.copy()
        w[1, 1, 2, 3] += 0.02 * abs(w).max()
        return w

    assert compare(network(), only("conv3_1", one)).verdict.startswith("not the same network: 1 of 16 layers differ")
    a = network()
    small = {name: (w, 1e-3 * b) for name, (w, b) in a.weights.items()}
    none = {name: (w, 0 * b) for name, (w, b) in a.weights.items()}
    for x, y in ((small, none), (none, small)):
        comparison = compare(replace(a, weights=x), replace(a, weights=y))
        assert comparison.verdict.startswith("not the same network: 16 of 16 layers differ")


def test_a_filter_turned_to_its_negative_is_another_one():
    """A ReLU commutes with positive factors only."""
    a = network()
    weight, bias = a.weights["conv2_1"]
    signs = np.array([1, -1, 1, 1], np.float32)
    b = replace(a, weights=a.weights | {"conv2_1": (weight * signs, bias * signs)})
    assert not compare(a, b).same


def test_different_deviations_for_each_channel():
    """What the files state of their pixels is a factor for each input channel, in the order of either file."""
    a = network(preprocessing="matconvnet")
    std = np.array([0.5, 2.0, 4.0])
    stated = replace(a.preprocessing, std=tuple(std))
    folded = {n: ((w * std[:, None]).astype(w.dtype) if n == "conv1_1" else w, b) for n, (w, b) in a.weights.items()}
    b = replace(a, weights=folded, preprocessing=stated)
    assert compare(a, b).verdict == compare(b, a).verdict == "the same network"
    mirrored = {n: (w[:, :, ::-1] if n == "conv1_1" else w, c) for n, (w, c) in folded.items()}
    bgr = Preprocessing("BGR", 255.0, stated.mean[::-1], stated.std[::-1])
    c = replace(a, weights=mirrored, preprocessing=bgr)
    assert compare(a, c).verdict == "the same network; A expects RGB and B BGR, rightly"
    assert compare(c, a).same


def test_networks_of_different_layers_and_widths():
    short = replace(network(), weights={"conv1_1": network().weights["conv1_1"]})
    comparison = compare(network(), short)
    assert comparison.same
    assert comparison.verdict == "the same network, as far as both go (1 layers)"
    assert comparison.missing == list(network().weights)[1:]
    other = compare(short, replace(short, architecture="vgg16"))
    assert not other.same
    assert other.verdict == "not the same network: vgg19 and vgg16; in the layers of both: the same network"
    wide = WeightFile(small_network(widths=(5, 4, 4, 4, 4)), preprocessing=CONVENTIONS["caffe"])
    comparison = compare(network(), wide)
    assert not comparison.same
    assert comparison.verdict.endswith("conv1_1 first, with 4 filters in A and 5 in B")
    assert compare(network(), WeightFile({})).verdict == "not the same network: no layer in common"


@pytest.mark.slow
def test_every_published_format_of_one_network_compares_as_it_should():
    original = read_any(FIXTURES / "v2.caffemodel").file
    for name, writer in WRITERS.items():
        comparison = compare(original, read_any(FIXTURES / name).file)
        assert all(layer.reordering == "" for layer in comparison.layers), name
        assert comparison.same == (writer.preprocessing == "caffe"), name


def test_what_compare_calls_the_same_computes_the_same():
    a = network()
    b, means = normalize(a, [load_image("sample:glass", 64)])
    x = load_image("sample:coast", 48).astype(np.float64)
    F, G = (
        VGG(file.weights, xp=np, preprocessing=file.preprocessing, dtype="float64").forward(x, ["conv4_1"])[0][
            "conv4_1"
        ]
        for file in (a, b)
    )
    assert pytest.approx(G * means["conv4_1"], rel=1e-5, abs=1e-5) == F
