import numpy as np
import pytest

from nsnumpy import VGG, Objective, Preprocessing, layer_names
from nsnumpy.architecture import CONVOLUTIONS
from nsnumpy.backend import asarray, to_host
from nsnumpy.files.random_network import random_weights
from nsnumpy.gradcheck import check_gradient
from nsnumpy.ops import BORDERS, avgpool_forward, conv_forward, maxpool_forward, relu_forward


def test_the_tables_are_vgg_19_and_vgg_16():
    nineteen, sixteen = layer_names("vgg19"), layer_names("vgg16")
    assert [sum(name.startswith("conv") for name in names) for names in (nineteen, sixteen)] == [16, 13]
    assert nineteen[:3] == ("conv1_1", "conv1_2", "pool1")
    assert nineteen[-5:] == ("conv5_1", "conv5_2", "conv5_3", "conv5_4", "pool5")
    assert sixteen[-4:] == ("conv5_1", "conv5_2", "conv5_3", "pool5")
    with pytest.raises(ValueError, match="'vgg11': choose from vgg19, vgg16"):
        layer_names("vgg11")


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_forward_is_the_layers_in_order(tiny_vgg, tiny_weights, picture, xp, pooling, convolution):
    vgg = tiny_vgg(xp, pooling=pooling, convolution=convolution)
    x = xp.asarray(picture(21, 34))
    features, _ = vgg.forward(x, ["conv1_1", "conv2_2", "pool2", "conv3_1"])
    weights = {name: [asarray(array, xp, "float64") for array in arrays] for name, arrays in tiny_weights.items()}
    expected = {}
    y = x
    for name in layer_names("vgg19")[:7]:
        if name.startswith("conv"):
            y = relu_forward(conv_forward(y, *weights[name]))[0]
        else:
            y = avgpool_forward(y) if pooling == "avg" else maxpool_forward(y)[0]
        expected[name] = y
    assert list(features) == ["conv1_1", "conv2_2", "pool2", "conv3_1"]
    for name, F in features.items():
        assert np.abs(to_host(F - expected[name])).max() <= 1e-13 * np.abs(to_host(F)).max()
    assert features["conv3_1"].shape == (5, 8, 10)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("border", [*BORDERS, ("wrap", "reflect")])
def test_every_convolution_sees_the_border(tiny_vgg, picture, xp, border, convolution):
    plain, x = tiny_vgg(xp, convolution=convolution), xp.asarray(picture(21, 34))
    vgg = plain.with_border(border)
    assert (vgg.layers is plain.layers, plain.border) == (True, ("zero", "zero"))
    (F,), trace = vgg.forward(x, ["conv3_1"])[0].values(), vgg.forward(x, ["conv3_1"])[1]
    direct = tiny_vgg(xp, convolution="direct", border=border)
    (expected,), steps = direct.forward(x, ["conv3_1"])[0].values(), direct.forward(x, ["conv3_1"])[1]
    error = np.linalg.norm(to_host(F - expected))
    assert error < 1e-12 * np.linalg.norm(to_host(expected))
    gradients = {"conv3_1": xp.asarray(np.random.default_rng(0).random(F.shape))}
    gx, of_definition = (to_host(net.backward(kept, gradients)) for net, kept in ((vgg, trace), (direct, steps)))
    assert np.linalg.norm(gx - of_definition) < 1e-12 * np.linalg.norm(of_definition)


def test_rolling_a_picture_that_wraps_rolls_its_features_and_its_gradient(tiny_vgg, picture, xp):
    vgg, x = tiny_vgg(xp, border="wrap"), picture(48, 32)
    objective = Objective(vgg, style=xp.asarray(picture(20, 25)), tv=0.1, convention="relative")
    loss, gradient = objective(xp.asarray(x))
    rolled, of_rolled = objective(xp.asarray(np.roll(x, (16, -16), (0, 1))))
    assert rolled == pytest.approx(loss, rel=1e-12)
    error = np.linalg.norm(to_host(of_rolled) - np.roll(to_host(gradient), (16, -16), (0, 1)))
    assert error < 1e-10 * np.linalg.norm(to_host(gradient))


def test_a_border_that_is_none_is_named(tiny_vgg):
    for wrong in ("mirror", ("wrap",), ("wrap", "mirror"), ("wrap", "wrap", "wrap")):
        with pytest.raises(ValueError, match="border is one of zero, replicate, reflect, wrap, or two"):
            tiny_vgg(border=wrong)


def test_the_network_stops_at_the_deepest_layer_asked_for(tiny_vgg, picture):
    _, trace = tiny_vgg().forward(picture(20, 20), ["conv2_1", "conv1_2"])
    assert [step.name for step, _ in trace.steps] == ["conv1_1", "conv1_2", "pool1", "conv2_1"]


def test_a_pooling_that_nobody_looks_into_is_done_with_its_convolution(tiny_vgg):
    def steps(layers, **options):
        return [step.name for step in tiny_vgg(**options).steps(layers)]

    assert steps(["conv2_2"]) == ["conv1_1", "pool1", "conv2_1", "conv2_2"]
    assert steps(["pool1"]) == ["conv1_1", "pool1"]
    assert steps(["conv1_2", "pool1"]) == ["conv1_1", "conv1_2", "pool1"]
    for option in ({"pooling": "max"}, {"convolution": "direct"}):
        assert steps(["pool1"], **option) == ["conv1_1", "conv1_2", "pool1"]


def test_relu_names_are_the_same_layers(tiny_vgg, picture, xp):
    vgg, x = tiny_vgg(xp), xp.asarray(picture(20, 20))
    features, trace = vgg.forward(x, ["relu2_1", "conv2_1"])
    assert features["relu2_1"] is features["conv2_1"]
    gradient = xp.asarray(np.random.default_rng(0).random(features["relu2_1"].shape))

    def backward(**gradients):
        return to_host(vgg.backward(trace, gradients))

    assert np.array_equal(backward(relu2_1=gradient), backward(conv2_1=gradient))
    assert backward(relu2_1=gradient, conv2_1=gradient) == pytest.approx(2 * backward(conv2_1=gradient))


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("layers", [["conv1_1"], ["pool1", "conv2_2"], ["conv1_2", "conv3_3", "conv5_1"]])
def test_backward_is_the_gradient_of_any_function_of_the_features(tiny_vgg, picture, xp, pooling, layers, convolution):
    vgg = tiny_vgg(xp, pooling=pooling, convolution=convolution)
    weights = {}

    def f(x):
        features, trace = vgg.forward(x, layers)
        value, gradients = 0.0, {}
        for name, F in features.items():
            c = weights.setdefault(name, xp.asarray(np.random.default_rng(len(name)).standard_normal(F.shape)))
            value += (c * F**2).sum()
            gradients[name] = 2 * c * F
        return value, vgg.backward(trace, gradients)

    assert check_gradient(f, xp.asarray(picture(19, 17)), step=3e-7) < 1e-6


def test_backward_adds_up_what_each_layer_sends(tiny_vgg, picture, xp):
    vgg = tiny_vgg(xp)
    features, trace = vgg.forward(xp.asarray(picture(18, 22)), ["conv1_2", "conv2_1", "pool1"])
    rng = np.random.default_rng(1)
    gradients = {name: xp.asarray(rng.standard_normal(F.shape)) for name, F in features.items()}
    separate = sum(vgg.backward(trace, {name: gradient}) for name, gradient in gradients.items())
    assert to_host(vgg.backward(trace, gradients)) == pytest.approx(to_host(separate), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("layers", [["conv1_1", "conv3_1"], ["conv2_2"], ["pool1", "conv1_1"]])
def test_a_gradient_can_be_added_block_by_block(tiny_vgg, picture, xp, convolution, layers):
    vgg = tiny_vgg(xp, convolution=convolution, threads=2)
    vgg.workers.block_bytes = 2_000  # several blocks in each layer
    x = xp.asarray(np.stack([picture(18, 23), picture(18, 23, 1)]))
    features, trace = vgg.forward(x, layers)
    dense = {name: F @ xp.ones((F.shape[-1],) * 2) * F for name, F in features.items()}
    before = {name: to_host(array).copy() for name, array in (dense | features).items()}
    expected = to_host(vgg.backward(trace, dense))
    seen = {name: [] for name in features}

    def by_block(name):
        def add(F, at, out, scratch):
            assert to_host(F) == pytest.approx(to_host(features[name].reshape(-1, F.shape[1])[at]), rel=1e-12)
            out += dense[name].reshape(-1, F.shape[1])[at]
            seen[name].append((at.start, at.stop))

        return add

    functions = {name: by_block(name) for name in features}
    assert to_host(vgg.backward(trace, functions)) == pytest.approx(expected, rel=1e-11, abs=1e-12)
    for name, blocks in seen.items():  # each position once
        assert len(blocks) > 1
        positions = features[name].size // features[name].shape[-1]
        ends = sorted(blocks)
        assert [0, *(stop for _, stop in ends)] == [*(start for start, _ in ends), positions]
    for name, array in (dense | features).items():  # nothing was written into
        assert np.array_equal(to_host(array), before[name])
    if convolution != "direct":
        assert "conv1_1" not in trace.features  # they are made again
    vgg.backward(trace, functions, keep=False)
    assert (trace.steps, trace.features) == ([], {})


def test_features_can_be_visited_as_they_come(tiny_vgg, picture, xp):
    vgg, x = tiny_vgg(xp), xp.asarray(picture(20, 24))
    features, _ = vgg.forward(x, ["conv2_1", "conv1_1"])
    seen = {}
    returned, trace = vgg.forward(x, ["relu2_1", "conv1_1"], seen.__setitem__, keep=False)
    assert (returned, trace.steps, trace.features) == ({}, [], {})
    assert list(seen) == ["conv1_1", "conv2_1"]
    assert all(np.array_equal(to_host(seen[name]), to_host(features[name])) for name in seen)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_the_fast_path_is_the_definition(tiny_vgg, picture, xp, pooling, dtype):
    """Features and pixel gradients of both, at an odd size, the definition's from NumPy; PyTorch's are in test_torch
    and test_frozen."""
    layers = ["conv1_1", "conv2_1", "conv3_4", "conv4_2", "conv5_1"]
    x, gradients = picture(45, 37).astype(dtype), {}
    results = []
    for space, convolution, precision in ((np, "direct", "float64"), (xp, "winograd", dtype)):
        vgg = tiny_vgg(space, pooling=pooling, convolution=convolution, dtype=precision, threads=2)
        features, trace = vgg.forward(asarray(x, space, precision), layers)
        for name, F in features.items():
            gradients.setdefault(name, np.random.default_rng(len(gradients)).standard_normal(F.shape))
        gx = vgg.backward(trace, {name: asarray(g, space, precision) for name, g in gradients.items()})
        results.append([to_host(array) for array in (*features.values(), gx)])
    for exact, fast in zip(*results, strict=True):
        error = np.linalg.norm(fast - exact) / np.linalg.norm(exact)
        assert error < (2e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68)),
    ],
)
def test_preprocessing_and_its_gradient(tiny_weights, picture, xp, preprocessing):
    vgg = VGG(tiny_weights, xp=xp, preprocessing=preprocessing, dtype="float64")
    plain = VGG(tiny_weights, xp=xp, dtype="float64")
    x = picture(9, 12)
    z = x[..., ::-1] if preprocessing.channel_order == "BGR" else x
    z = (preprocessing.pixel_scale * z - preprocessing.mean) / preprocessing.std
    F, expected = (to_host(n.forward(xp.asarray(y), ["conv2_1"])[0]["conv2_1"]) for n, y in ((vgg, x), (plain, z)))
    assert F == pytest.approx(expected, rel=1e-12, abs=1e-12)

    def f(x):
        features, trace = vgg.forward(x, ["conv1_1"])
        return features["conv1_1"].sum(), vgg.backward(trace, {"conv1_1": xp.ones_like(features["conv1_1"])})

    assert check_gradient(f, xp.asarray(x), step=1e-7) < 1e-6


def test_a_leading_axis_is_a_batch(tiny_vgg, picture, xp):
    vgg = tiny_vgg(xp)
    batch = xp.asarray(np.stack([picture(20, 18, seed) for seed in range(3)]))
    features, trace = vgg.forward(batch, ["conv3_1"])
    gx = vgg.backward(trace, features)
    for n in range(3):
        alone, alone_trace = vgg.forward(batch[n], ["conv3_1"])
        assert to_host(features["conv3_1"][n]) == pytest.approx(to_host(alone["conv3_1"]), rel=1e-12, abs=1e-13)
        assert to_host(gx[n]) == pytest.approx(to_host(vgg.backward(alone_trace, alone)), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize(("layer", "least"), [("conv1_2", 1), ("pool1", 2), ("conv2_1", 2), ("conv5_1", 16)])
def test_a_picture_too_small_for_the_deepest_layer(tiny_vgg, layer, least):
    vgg = tiny_vgg()
    assert vgg.minimum_size([layer]) == least
    assert vgg.forward(np.zeros((least, least, 3)), [layer])[0][layer].size > 0
    with pytest.raises(ValueError, match=f"{layer}: .* H, W >= {least} expected; x.shape=\\({least - 1}, 40, 3\\)"):
        vgg.forward(np.zeros((least - 1, 40, 3)), ["conv1_1", layer])


def test_unknown_and_absent_layers(tiny_vgg):
    vgg, x = tiny_vgg(), np.zeros((32, 32, 3))
    for name in ("conv6_1", "conv1_3", "fc6", ""):
        with pytest.raises(ValueError, match=f"unknown layer {name!r}: vgg19 has conv1_1"):
            vgg.forward(x, [name])
    with pytest.raises(ValueError, match="conv5_2: this network ends at conv5_1"):
        vgg.forward(x, ["conv5_2"])
    _, trace = vgg.forward(x, ["conv1_2"])
    for gradients in ({}, {"conv2_1": x}):
        with pytest.raises(ValueError, match="gradients of layers that the forward pass was asked for"):
            vgg.backward(trace, gradients)
    _, trace = vgg.forward(x, ["conv2_1"])
    with pytest.raises(ValueError, match="gradients of layers .*; got conv2_1, conv1_2"):
        vgg.backward(trace, {"conv2_1": x, "conv1_2": x})  # it ran, but its features were not asked for


def test_weights_that_do_not_fit_are_named():
    def weights(**changes):
        return random_weights((4, 6, 8, 10, 12), seed=0) | changes

    w, b = random_weights((4, 6, 8, 10, 12), seed=0)["conv3_1"]
    for changes, message in (
        ({"conv3_1": (w[:, :, :5], b)}, "conv3_1: 6 channels expected, 5 given"),
        ({"conv3_1": (w[:2], b)}, r"conv3_1: a weight of shape \(3, 3, C_in, C_out\) expected, \(2, 3, 6, 8\) given"),
        ({"conv3_1": (w, b[:3])}, r"conv3_1: a bias of shape \(8,\) expected, \(3,\) given"),
        ({"conv3_1": (w * np.nan, b)}, "conv3_1: the weights hold values that are not finite"),
        ({"conv9_1": (w, b)}, "conv9_1: not a convolution of vgg19"),
    ):
        with pytest.raises(ValueError, match=message):
            VGG(weights(**changes), xp=np)
    gap = weights()
    del gap["conv2_1"]
    with pytest.raises(ValueError, match="conv2_1: missing"):
        VGG(gap, xp=np)
    with pytest.raises(ValueError, match="conv1_1: missing"):
        VGG({}, xp=np)


@pytest.mark.parametrize(
    "option", [{"pooling": "median"}, {"dtype": "float16"}, {"architecture": "vgg11"}, {"convolution": "fft"}]
)
def test_unknown_options(tiny_weights, option):
    with pytest.raises(ValueError, match="choose from"):
        VGG(tiny_weights, **{"xp": np} | option)


@pytest.mark.parametrize("option", [{"channel_order": "GBR"}, {"pixel_scale": 0.0}, {"std": (1.0, 0.0, 1.0)}])
def test_unusable_preprocessing(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Preprocessing(**option)


def test_a_network_is_known_again_by_its_digest(tiny_weights):
    digests = [VGG(tiny_weights, xp=np, dtype=dtype, pooling="max").sha256 for dtype in ("float32", "float64")]
    assert digests[0] == digests[1]
    changed = {name: (weight, bias.copy()) for name, (weight, bias) in tiny_weights.items()}
    changed["conv5_1"][1][0] += 1
    assert VGG(changed, xp=np).sha256 != digests[0]
    assert VGG(tiny_weights, xp=np, preprocessing=Preprocessing(channel_order="BGR")).sha256 != digests[0]
