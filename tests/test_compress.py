"""Compression in closed form: the choice of filters, least squares with a ReLU, a narrow network from a wide one."""

import io
import itertools
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image

from nsnumpy import Preprocessing, WeightFile
from nsnumpy.backend import to_host
from nsnumpy.files.random_network import calibrate, random_weights
from nsnumpy.ops import conv_forward
from weights_tools.compress import Crops, closed_form, compress
from weights_tools.compress.closed_form import held_out
from weights_tools.compress.fit import fit_relu, products, relative_error, relu_targets, ridge_solver
from weights_tools.compress.layers import Layers, loss_layers, patches, places
from weights_tools.compress.select import choose
from weights_tools.train import DataError

RNG = np.random.default_rng


def encoded(pixels, format="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of 12 smooth pictures of 70 to 80 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    for k in range(12):
        pixels = Image.fromarray(RNG(k).integers(0, 256, (9, 10, 3), dtype=np.uint8)).resize((80, 70 + k % 2))
        (folder / f"{k:02}.png").write_bytes(encoded(np.asarray(pixels)))
    return folder


@pytest.fixture(scope="session")
def teacher():
    """A calibrated VGG-19 to conv3_1, with the preprocessing of a published one."""
    pictures = [RNG(n).random((48, 40, 3), dtype=np.float32) for n in range(2)]
    weights = calibrate(random_weights((8, 10, 12, 14, 16), seed=3, last="conv3_1"), pictures)
    first, bias = weights["conv1_1"]
    weights["conv1_1"] = first / np.float32(255), bias
    return WeightFile(weights, "vgg19", Preprocessing("BGR", 255.0, (104.0, 117.0, 124.0)), source="a teacher")


@pytest.fixture(scope="module")
def crops(photographs):
    return Crops([photographs], 24, 64, seed=1)


def filters(*widths):
    return dict(zip(("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"), widths, strict=True))


def test_crops_are_the_same_every_time_and_every_other_one_is_changed(photographs, crops):
    again = Crops([photographs], 24, 64, seed=1)
    assert crops.batch(0, 24).shape == (24, 64, 64, 3)
    assert all(np.array_equal(again[k], crops[k]) for k in (5, 2, 2, 23))
    assert again.fingerprint == crops.fingerprint != Crops([photographs], 24, 64, seed=2).fingerprint
    pictures = [np.asarray(Image.open(path)) for path in sorted(photographs.iterdir())]

    def is_cut(crop):
        return any(
            np.array_equal(crop[:, ::step], picture[top : top + 64, left : left + 64])
            for picture in pictures
            for step in (1, -1)
            for top in range(picture.shape[0] - 63)
            for left in range(picture.shape[1] - 63)
        )

    assert [is_cut(crops[k]) for k in range(6)] == [True, False] * 3
    assert len({crops[k].tobytes() for k in range(24)}) == 24


def test_crops_of_several_places_and_of_small_pictures(photographs, tmp_path):
    small = encoded(np.full((20, 30, 3), 200, np.uint8))
    with h5py.File(tmp_path / "small.h5", "w") as h5:
        h5["png"], h5["offset"] = np.frombuffer(small, np.uint8), [0, len(small)]
    both = Crops([photographs, tmp_path / "small.h5"], 8, 64)
    flat = [not np.ptp(both[k]) for k in range(0, 8, 2)] + [np.ptp(both[k]) < 3 for k in range(1, 8, 2)]
    assert both.batch(0, 8).shape == (8, 64, 64, 3)
    assert sum(flat) >= 1
    with pytest.raises(DataError, match=r"small.h5: no crop left for it; take at least 2 crops"):
        Crops([photographs, tmp_path / "small.h5"], 1, 64)


def test_the_first_choice_is_the_best_one_and_each_leaves_what_least_squares_leaves(xp):
    F = RNG(0).random((200, 6)) @ RNG(1).random((6, 7)) + 0.1 * RNG(2).random((200, 7))
    C, Q = F.T @ F, np.diag([1.0, 5, 1, 1, 1, 1, 20])

    def left(kept, Q):
        residual = F - F[:, kept] @ np.linalg.lstsq(F[:, kept], F, rcond=None)[0]
        return np.trace(Q @ residual.T @ residual)

    for importance in (None, Q):
        weights = np.eye(7) if importance is None else importance
        given = None if importance is None else xp.asarray(importance)
        chosen = choose(xp.asarray(C), 1, given)
        assert chosen == [min(range(7), key=lambda j: left([j], weights))]
        two = choose(xp.asarray(C), 2, given)
        assert set(chosen) <= set(two)
        assert left(two, weights) == pytest.approx(min(left([*chosen, j], weights) for j in range(7)), rel=1e-6)
    assert choose(xp.asarray(C), 7) == list(range(7))


def test_a_filter_and_its_twin_or_a_dead_one_are_not_both_chosen():
    F = RNG(0).random((100, 3))
    F = np.column_stack([F, 2 * F[:, 0], 0 * F[:, 0]])
    chosen = choose(F.T @ F, 3)
    assert len({0, 3} & set(chosen)) == 1
    assert 4 not in chosen
    assert len(choose(F.T @ F, 5)) == 5
    assert choose(np.zeros((3, 3)), 2) == [0, 1]


def test_ridge_solves_its_normal_equations_and_leaves_the_bias_free(xp):
    X, Y = RNG(0).standard_normal((50, 4)), RNG(1).standard_normal((50, 3))
    X[:, -1] = 1
    XX, XY = (xp.asarray(a) for a in (X.T @ X, X.T @ Y))
    W = to_host(ridge_solver(XX, 0.3, free=1)(XY))
    penalty = 0.3 * np.trace(X.T @ X) / 4 * np.diag([1.0, 1, 1, 0])
    assert X.T @ (Y - X @ W) == pytest.approx(penalty @ W, abs=1e-9)
    shifted = to_host(ridge_solver(XX, 0.3, free=1)(xp.asarray(X.T @ (Y + 7))))
    assert shifted[:-1] == pytest.approx(W[:-1])
    assert np.isfinite(to_host(ridge_solver(xp.zeros((2, 2)), 0.1)(xp.zeros((2, 1))))).all()
    if xp is np:  # CuPy leaves a singular matrix unnoticed
        with pytest.raises(ValueError, match="too much alike"):
            ridge_solver(np.zeros((2, 2)), 0.1, free=1)


def test_products_are_those_of_all_rows(xp, monkeypatch):
    monkeypatch.setattr("weights_tools.compress.fit._ROWS", 16)
    X, Y = RNG(0).standard_normal((50, 4)).astype("f"), RNG(1).standard_normal((50, 3)).astype("f")
    assert to_host(products(xp.asarray(X), xp.asarray(Y))) == pytest.approx(X.T.astype("d") @ Y, rel=1e-5)


def test_what_the_relu_hides_does_not_disturb_the_fit():
    """The negative targets are rubbish; every sweep comes nearer to the layer that made the positive ones."""
    X = RNG(0).standard_normal((400, 6)).astype("f")
    true = RNG(1).standard_normal((6, 5)).astype("f")
    Y = X @ true
    Y[Y < 0] *= 30 * RNG(2).random((Y < 0).sum(), dtype="f")
    solve = ridge_solver(products(X, X), 1e-7)
    W = solve(products(X, Y)).astype("f")
    errors = []
    for _ in range(6):
        errors.append(relative_error(np.maximum(X @ W, 0), np.maximum(Y, 0)))
        W = fit_relu(X, Y, W, solve, 5)
    assert errors[0] > 0.5
    assert all(b < a for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.05 * errors[0]
    targets = relu_targets(np.array([3.0, -2.0, -2.0]), np.array([1.0, 5.0, -9.0]))
    assert targets.tolist() == [3, 0, -9]


def test_patches_times_weights_are_the_convolution(make, xp):
    x, weight, bias = make(2, 5, 7, 3), make(3, 3, 3, 4), make(4)
    at = places("conv2_1", 0, x.shape, 9, 0, xp)
    W = xp.concatenate([weight.reshape(27, 4), bias[None]])
    expected = conv_forward(x, weight, bias)[at]
    assert to_host(patches(x, at) @ W) == pytest.approx(to_host(expected), rel=1e-12, abs=1e-12)


def test_places_are_distinct_positions_and_fewer_of_them_the_first_ones():
    picture, row, column = places("conv1_2", 3, (2, 5, 6, 9), 12, seed=4)
    assert picture.tolist() == [0] * 12 + [1] * 12
    assert len(set(zip(picture.tolist(), row.tolist(), column.tolist(), strict=True))) == 24
    assert row.max() < 5
    assert column.max() < 6
    fewer = places("conv1_2", 3, (2, 5, 6), 4, seed=4)
    assert [a.tolist() for a in fewer] == [[*a[:4].tolist(), *a[12:16].tolist()] for a in (picture, row, column)]
    assert len(places("conv1_2", 3, (2, 5, 6), 99, seed=4)[0]) == 60


def test_layers_walk_as_the_network_does(teacher, crops, xp):
    short = replace(teacher, weights={name: teacher.weights[name] for name in ("conv1_1", "conv1_2")})
    x = xp.asarray(crops.batch(0, 2))
    whole = list(Layers(teacher, "conv3_1", xp, None).walk(x))
    assert [name for name, *_ in whole] == list(teacher.weights)
    *_, (name, seen, y) = Layers(short, "conv2_1", xp, None).walk(x)
    assert (name, y) == ("conv2_1", None)
    assert to_host(seen) == pytest.approx(to_host(whole[2][1]))


def test_nothing_is_no_error():
    assert relative_error(np.ones(3), np.zeros(3)) == 0
    assert relative_error(np.array([3.0, 0]), np.array([0.0, 4])) == 1.25


def test_with_all_filters_it_is_the_teacher_again(teacher, crops, photographs, monkeypatch):
    monkeypatch.setattr(closed_form, "POSITIONS", 4000)
    made, errors = compress(teacher, crops, filters(8, 8, 10, 10, 12))
    assert max(max(e.own, e.all) for e in errors) < 0.02
    x = Crops([photographs], 1, 64, seed=9).batch(0, 1)
    deepest = [to_host(list(Layers(file, "conv3_1", np, None).walk(x))[-1][2]) for file in (made, teacher)]
    assert relative_error(*(np.maximum(y, 0) for y in deepest)) < 0.05


def test_half_the_filters_tell_most_of_the_teacher_and_better_than_the_first_half_would(teacher, crops, monkeypatch):
    monkeypatch.setattr(closed_form, "POSITIONS", 4000)
    calls = []
    made, errors = compress(teacher, crops, filters(4, 4, 5, 5, 6), seed=2, callback=calls.append)
    assert [(e.layer, e.filters, e.of) for e in errors] == [
        ("conv1_1", 4, 8), ("conv1_2", 4, 8), ("conv2_1", 5, 10), ("conv2_2", 5, 10), ("conv3_1", 6, 12),
    ]  # fmt: skip
    assert calls == [name for name in ("", *made.weights) for _ in range(3)]
    assert made.weights["conv2_1"][0].shape == (3, 3, 4, 5)
    assert (made.architecture, made.preprocessing, made.pooling) == ("vgg19", teacher.preprocessing, "avg")
    assert max(e.own for e in errors) < 0.5
    monkeypatch.setattr(closed_form, "choose", lambda C, count, *_: list(range(count)))
    _, others = compress(teacher, crops, filters(4, 4, 5, 5, 6), seed=2)
    assert sum(e.all for e in errors) < sum(e.all for e in others)


def test_the_same_bits_for_the_same_seed(teacher, crops, monkeypatch):
    monkeypatch.setattr(closed_form, "POSITIONS", 2000)

    def bits(seed):
        made, _ = compress(teacher, crops, filters(3, 4, 4, 5, 5), seed=seed)
        return [array.tobytes() for arrays in made.weights.values() for array in arrays]

    first = bits(0)
    assert bits(0) == first != bits(1)


def test_memory_does_not_grow_with_the_crops(photographs, teacher, monkeypatch):
    """However many crops there are, as many positions and patches are kept."""
    monkeypatch.setattr(closed_form, "POSITIONS", 480)
    monkeypatch.setattr(closed_form, "PATCH_BYTES", 4 * 37 * 240)
    kept, rows = [], []
    right = closed_form._fit
    monkeypatch.setattr(closed_form, "_fit", lambda *arrays: kept.append([len(a) for a in arrays]) or right(*arrays))
    for count in (24, 48):
        crops = Crops([photographs], count, 64)
        compress(teacher, crops, filters(4, 4, 5, 5, 6))
        rows.append([X + held for X, _, held, _ in kept])
        assert [held for *_, held in kept] == [n * held_out(crops) // count for n in rows[-1]]
        kept.clear()
    assert rows == [[312, 240, 240, 192, 192], [288, 240, 240, 192, 192]]


def test_on_a_device_it_is_the_same_to_rounding(teacher, crops, xp, monkeypatch):
    monkeypatch.setattr(closed_form, "POSITIONS", 1200)
    made, errors = compress(teacher, crops, filters(4, 4, 5, 5, 6), xp=xp)
    expected, reference = compress(teacher, crops, filters(4, 4, 5, 5, 6))
    assert all(type(array) is np.ndarray for arrays in made.weights.values() for array in arrays)
    assert [e.all for e in errors] == pytest.approx([e.all for e in reference], rel=1e-2)
    for name, (weight, _) in expected.weights.items():
        assert made.weights[name][0] == pytest.approx(weight, abs=0.02 * float(np.abs(weight).max()))


def test_the_losses_layers_are_those_that_a_short_network_has():
    assert loss_layers(["conv1_1", "conv1_2"]) == {"content_layers": ["conv1_2"], "style_layers": ["conv1_1"]}
    names = [f"conv{k}_{i}" for k in range(1, 6) for i in (1, 2)]
    assert loss_layers(names)["content_layers"] == ["conv3_2", "conv4_2"]
    assert loss_layers(names)["style_layers"] == [f"conv{k}_1" for k in range(1, 6)]
