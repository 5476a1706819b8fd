import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nsnumpy import layer_names, load_image, load_vgg, read_weights, sample_names, write_weights
from nsnumpy.files import random_network as made
from nsnumpy.files.random_network import FAN_IN, _orthogonal, random_network, random_weights
from nsnumpy.files.weights import read_network


@pytest.fixture(scope="session")
def file():
    return read_weights("builtin-random")


@pytest.mark.slow
def test_it_is_the_same_on_every_call(file):
    again = random_network()
    assert again.keys() == file.weights.keys()
    assert all(np.array_equal(file.weights[name][k], again[name][k]) for name in again for k in (0, 1))


def test_it_is_made_by_one_thread_of_blas(monkeypatch):
    """Two took ten times as much of the processor, and not less time."""
    threads = []
    monkeypatch.setattr(
        made,
        "calibrate",
        lambda *_: threads.extend(b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"),
    )
    with threadpool_limits(2, user_api="blas"):
        random_network()
    assert threads
    assert set(threads) == {1}


def test_its_filters_are_counted_without_making_it(file):
    expected = {name: len(bias) for name, (_, bias) in file.weights.items()}
    assert read_network("builtin-random").filters == expected


def test_every_filter_has_mean_activation_1_and_is_on_about_half_the_time(file):
    vgg = load_vgg(file)
    names = [name for name in layer_names("vgg19") if name in file.weights]
    assert names[-1] == "conv5_1"
    total = dict.fromkeys(names, 0.0)
    on = dict.fromkeys(names, 0.0)
    positions = dict.fromkeys(names, 0)
    for name in sample_names():
        for layer, F in vgg.forward(load_image(f"sample:{name}", 256), names)[0].items():
            total[layer] += F.sum(axis=(0, 1), dtype=np.float64)
            on[layer] += (F > 0).sum(axis=(0, 1))
            positions[layer] += F.shape[0] * F.shape[1]
    for layer in names:
        assert total[layer] / positions[layer] == pytest.approx(1.0, abs=2e-3), layer
        assert 0.3 < np.median(on[layer] / positions[layer]) < 0.7, layer


def test_other_seeds_make_other_networks():
    one, other = (random_weights((4, 4, 4, 4, 4), seed)["conv2_2"][0] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_it_becomes_an_ordinary_weight_file(tmp_path, file):
    write_weights(tmp_path / "builtin.h5", file, "float16")
    back = read_weights(tmp_path / "builtin.h5")
    assert back.normalized
    assert np.allclose(back.weights["conv5_1"][0], file.weights["conv5_1"][0], rtol=2e-3, atol=1e-4)


def test_the_last_layer_must_exist():
    with pytest.raises(ValueError, match="'conv5_9' is not a layer"):
        random_weights((4, 4, 4, 4, 4), 0, last="conv5_9")


def test_the_orthogonal_matrices_are_and_their_signs_are_settled():
    for rows, columns in ((27, 8), (8, 27)):
        q = _orthogonal(np.random.default_rng(0), rows, columns)
        product = q.T @ q if rows >= columns else q @ q.T
        assert product == pytest.approx(np.eye(min(rows, columns)), abs=1e-12)
    firsts = [_orthogonal(np.random.default_rng(seed), 9, 4)[0, 0] for seed in range(40)]
    assert 0 < sum(first > 0 for first in firsts) < 40  # LAPACK's own signs are all the same


def test_a_filter_sees_a_few_channels():
    weights = random_weights((16, 16, 16, 16, 16), seed=0)
    seen = (weights["conv3_2"][0] != 0).any(axis=(0, 1)).sum(axis=0)
    assert set(seen.tolist()) == {FAN_IN}


def test_a_filter_is_smooth_and_sums_to_zero():
    weights = random_weights((16, 16, 16, 16, 16), seed=0)
    for name, (weight, _) in weights.items():
        if name != "conv1_1":
            assert np.abs(weight.sum(axis=(0, 1, 2))).max() < 1e-5, name
    weight = weights["conv3_2"][0]
    mean = weight.mean(axis=(0, 1), keepdims=True)
    assert (9 * mean**2).sum() > 0.3 * (weight**2).sum()  # of nine random taps, the mean would hold a ninth
