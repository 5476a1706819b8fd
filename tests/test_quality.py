"""What benchmarks/quality.py measures is what it says; without that, its figures say nothing."""

import importlib.util
import json
import sys
from itertools import pairwise
from math import lgamma
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import wasserstein_distance

import nsnumpy as ns


@pytest.fixture(scope="module")
def quality():
    path = Path(__file__).parent.parent / "benchmarks" / "quality.py"
    spec = importlib.util.spec_from_file_location("benchmark_quality", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photograph():
    return ns.load_image("sample:coast", 128).astype("float64")


@pytest.fixture(scope="module")
def painting():
    return ns.load_image("sample:starry", 112).astype("float64")


def patches(image):
    """All 7 x 7 x 3 patches as rows, one by one."""
    height, width = image.shape[:2]
    return np.array([image[i : i + 7, j : j + 7].ravel() for i in range(height - 6) for j in range(width - 6)])


def constant(colour, shape=(28, 33)):
    return np.broadcast_to(colour, (*shape, 3))


@pytest.mark.parametrize("texture", [False, True])
@pytest.mark.parametrize("shape", [(12, 15), (17, 9)])
def test_patch_distance_is_the_definition(quality, picture, shape, texture):
    a, b = picture(12, 15, seed=1), picture(*shape, seed=2) ** 2
    directions = np.asarray(quality.unit_directions(20, 7, 3, texture), "float64")  # more than one chunk
    x, y = patches(a) @ directions.T, patches(b) @ directions.T
    expected = np.mean([wasserstein_distance(x[:, k], y[:, k]) for k in range(20)])
    found = quality.patch_distance(a, b, scales=1, projections=20, seed=3, texture=texture)
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


def test_more_rows_than_a_stripe_are_all_there(quality, picture):
    a, b = picture(90, 10, seed=1), picture(75, 11, seed=2)
    direction = np.asarray(quality.unit_directions(1, 7, 0)[0], "float64")
    expected = wasserstein_distance(patches(a) @ direction, patches(b) @ direction)
    assert quality.patch_distance(a, b, scales=1, projections=1) == pytest.approx(expected, rel=1e-5)


def test_scales_halve_and_are_averaged(quality, picture):
    a, b = picture(29, 34, seed=1), picture(36, 31, seed=2) ** 2
    levels = [(a, b)]
    for _ in range(2):
        levels.append(
            [(x[:-1:2, :-1:2] + x[1::2, :-1:2] + x[:-1:2, 1::2] + x[1::2, 1::2]) / 4 for x in map(_even, levels[-1])]
        )
    expected = [quality.patch_distance(*level, scales=1) for level in levels]
    assert quality.patch_distance(a, b) == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.ptp(expected) > 0.1 * np.mean(expected)


def _even(image):
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def test_patch_distance_of_two_colours_is_known(quality):
    one, other = np.array([0.2, 0.5, 0.9]), np.array([0.3, 0.1, 0.6])
    difference = np.tile(one - other, 49)
    found = quality.patch_distance(constant(one), constant(other, (40, 28)), seed=5)
    assert found == pytest.approx(np.abs(quality.unit_directions(128, 7, 5) @ difference).mean(), rel=1e-5)
    # and over all directions the mean of |v . d| is |d| Gamma(D / 2) / (sqrt(pi) Gamma((D + 1) / 2))
    many = quality.patch_distance(constant(one), constant(other), projections=20_000)
    ratio = np.exp(lgamma(147 / 2) - lgamma(148 / 2)) / np.sqrt(np.pi)
    assert many == pytest.approx(np.linalg.norm(difference) * ratio, rel=0.02)


def test_texture_does_not_see_the_mean_colour(quality, photograph):
    darker, tint = 0.5 * photograph, np.array([0.1, 0.3, 0.5])
    assert quality.patch_distance(constant([0.2, 0.5, 0.9]), constant([0.9, 0.1, 0.3]), texture=True) < 1e-6
    assert quality.patch_distance(darker, darker + tint, texture=True) < 1e-6
    assert quality.patch_distance(darker, darker + tint) > 0.1


@pytest.mark.parametrize("texture", [False, True])
def test_patch_distance_of_pictures(quality, photograph, painting, texture):
    def distance(image, style):
        return quality.patch_distance(image, style, projections=32, texture=texture)

    whole = distance(photograph, painting)
    assert distance(painting, painting) == 0
    assert distance(painting, photograph) == pytest.approx(whole, rel=1e-6)
    # A picture repeated has nearly its own patches, mirrored it has not quite the same.
    assert distance(np.tile(painting, (2, 2, 1)), painting) < 0.3 * whole
    assert 0 < distance(painting[:, ::-1], painting) < 0.5 * whole


def test_patch_distance_falls_as_the_style_is_mixed_in(quality, photograph):
    style = ns.load_image("sample:starry", 128)
    mixed = [quality.patch_distance((1 - t) * photograph + t * style, style) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert all(later < earlier for earlier, later in pairwise(mixed))
    assert mixed[-1] < 1e-6


def test_texture_sees_blur_and_patches_colour(quality, photograph, painting):
    """Why both are told: a blurred painting is near itself in the one, and further than the photograph in the other."""
    blurred = gaussian_filter(painting, (2, 2, 0))
    ratios = [
        quality.patch_distance(blurred, painting, texture=texture)
        / quality.patch_distance(photograph, painting, texture=texture)
        for texture in (False, True)
    ]
    assert ratios[0] < 0.5
    assert ratios[1] > 1


def test_pictures_too_small_for_a_patch_are_refused(quality):
    with pytest.raises(ValueError, match="at least 28 pixels a side"):
        quality.patch_distance(np.zeros((27, 40, 3)), np.zeros((40, 40, 3)))
    assert quality.patch_distance(np.zeros((28, 28, 3)), np.zeros((40, 40, 3))) == 0


def test_edge_similarity_is_the_definition(quality, picture):
    """Window by window, with weights instead of filters."""
    a, b = picture(14, 17, seed=1), picture(14, 17, seed=2)
    x, y = (
        np.hypot(*np.gradient(gaussian_filter(image @ [0.2126, 0.7152, 0.0722], quality.EDGE_SCALE))).ravel()
        for image in (a, (a + b) / 2)
    )
    correlations, deviations = [], []
    for point in np.eye(x.size).reshape(-1, 14, 17):  # a filtered point is its window, at the borders too
        window = gaussian_filter(point, quality.WINDOW).ravel()
        covariance = np.cov(x, y, aweights=window, ddof=0)
        correlations.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
        deviations.append(np.sqrt(np.diag(covariance)))
    weights = (deviations / np.mean(deviations, axis=0)).sum(axis=1)
    expected = np.average(correlations, weights=weights)
    assert quality.edge_similarity(a, (a + b) / 2) == pytest.approx(expected, abs=1e-6)
    assert 0.1 < expected < 0.9


def test_edge_similarity_does_not_see_tone(quality, photograph):
    assert quality.edge_similarity(photograph, photograph) == pytest.approx(1, abs=1e-9)
    for changed in (0.3 * photograph + 0.2, 1 - photograph, 0.5 * photograph):
        assert quality.edge_similarity(changed, photograph) == pytest.approx(1, abs=1e-6)
    assert quality.edge_similarity(photograph**0.5, photograph) > 0.95


def test_edge_similarity_of_what_has_nothing_in_common(quality, photograph):
    rng = np.random.default_rng(0)
    assert abs(quality.edge_similarity(rng.random(photograph.shape), photograph)) < 0.05
    assert abs(quality.edge_similarity(rng.random(photograph.shape), rng.random(photograph.shape))) < 0.05
    assert abs(quality.edge_similarity(ns.load_image("sample:still-life", 128), photograph)) < 0.15


def test_edge_similarity_falls_with_blur_shift_and_noise(quality, photograph):
    noise = np.random.default_rng(0).standard_normal(photograph.shape)
    worse = {
        "blur": [gaussian_filter(photograph, (s, s, 0)) for s in (1, 2, 4)],
        "shift": [shift(photograph, (0, s, 0), order=1, mode="reflect") for s in (1, 2, 4)],
        "noise": [photograph + s * noise for s in (0.1, 0.2, 0.4)],
    }
    for name, pictures in worse.items():
        found = [1.0, *(quality.edge_similarity(picture, photograph) for picture in pictures)]
        assert all(later < earlier - 0.005 for earlier, later in pairwise(found)), (name, found)


def test_edges_that_one_picture_lacks_count_and_what_is_flat_in_both_does_not(quality, photograph):
    half = photograph.copy()
    half[:, 64:] = 0.5
    similarity = quality.edge_similarity(half, photograph)
    assert similarity == pytest.approx(quality.edge_similarity(photograph, half))
    assert quality.edge_similarity(0.2 * half, photograph) == pytest.approx(similarity, abs=1e-4)
    assert 0.5 < similarity < 0.85
    padded = [np.concatenate([picture, constant([0.5] * 3, picture.shape[:2])]) for picture in (half, photograph)]
    assert quality.edge_similarity(*padded) == pytest.approx(similarity, abs=0.1)  # 0.1: the seam
    assert quality.edge_similarity(padded[1], padded[1]) == pytest.approx(1)


def test_edge_similarity_of_flat_pictures(quality, photograph):
    flat = constant([0.3, 0.7, 0.1], photograph.shape[:2])
    assert quality.edge_similarity(flat, flat * 0.5) == 1
    assert quality.edge_similarity(flat, flat + 1e-8 * photograph) == 1  # nothing that a picture can hold
    assert quality.edge_similarity(flat, photograph) == quality.edge_similarity(photograph, flat) == 0
    with pytest.raises(ValueError, match="same shape"):
        quality.edge_similarity(flat, flat[1:])


def test_pairs_are_varied(quality):
    photographs, paintings = list("abcd"), list("xyz")
    assert len(quality.choose_pairs(photographs, paintings, None)) == 12
    for count in (1, 3, 4, 5, 12, 99):
        pairs = quality.choose_pairs(photographs, paintings, count)
        assert len(set(pairs)) == min(count, 12)
        assert pairs == sorted(pairs)
        assert len({photograph for photograph, _ in pairs}) == min(count, 4)
        assert len({painting for _, painting in pairs}) == min(count, 3)
        assert set(quality.choose_pairs(photographs, paintings, min(3, count))) <= set(pairs)


def test_summary(quality):
    rows = [{"patches": x, "texture": x, "edges": 1 - x, "seconds": 10 * x} for x in (0.5, 0.1, 0.2)]
    expected = {"patches": 0.2, "texture": 0.2, "edges": 0.8, "seconds": 2.0, "worst_patches": 0.5}
    assert quality.summary(rows) == pytest.approx(expected)


def test_a_run(quality, tiny_vgg, tmp_path, monkeypatch, capsys):
    networks = {"builtin": tiny_vgg(dtype="float32"), "some/other.h5": tiny_vgg(dtype="float32")}
    monkeypatch.setattr(quality.ns, "load_vgg", lambda source, threads: networks[source])
    monkeypatch.setattr(quality, "restart_with_better_kernel", lambda: None)
    (tmp_path / "pictures").mkdir()
    tall = tmp_path / "pictures" / "photo_tall.JPG"
    ns.save_image(tall, np.random.default_rng(0).random((80, 60, 3)))
    options = ["--networks", *networks, "--size", "40", "--pairs", "3", "--set", "iterations=1", "--set", "tv=0"]
    options += ["--set", "optimizer=lbfgs"]  # scipy's, by its other name
    places = ["--pictures", tall.parent, "-o", tmp_path / "out", "--json", tmp_path / "q.json"]
    monkeypatch.setattr(sys, "argv", ["quality.py", *options, *map(str, places)])
    assert quality.main() == 0
    found = json.loads((tmp_path / "q.json").read_text())
    assert found["set"] == {"iterations": 1, "tv": 0, "optimizer": "scipy"}
    assert found["networks"]["other"]["settings"]["optimizer"] == "scipy"
    rows = found["networks"]["other"]["pairs"]
    pairs = [("coast", "cutouts"), ("still-life", "glass"), ("photo_tall", "starry")]
    assert [(row["photograph"], row["painting"]) for row in rows] == pairs
    names = {f"{network}-{'-'.join(pair)}.png" for network in ("builtin", "other") for pair in pairs}
    names |= {"contact-builtin.png", "contact-other.png", "side-by-side.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    made = ns.load_image(tmp_path / "out" / "other-photo_tall-starry.png")  # to 8 bits
    photograph, painting = ns.load_image(tall, 40), ns.load_image("sample:starry", 40)
    assert made.shape == photograph.shape == (40, 30, 3)
    for name, texture in (("patches", False), ("texture", True)):
        before = quality.patch_distance(photograph, painting, texture=texture)
        after = quality.patch_distance(made, painting, texture=texture)
        assert rows[2][name] == pytest.approx(after / before, rel=0.02)
    assert rows[2]["edges"] == pytest.approx(quality.edge_similarity(made, photograph), abs=0.01)
    assert rows[2]["edges"] < 0.99
    medians = found["networks"]["other"]
    figures = [f"{medians[name]:.3f}" for name in ("patches", "worst_patches", "texture", "edges")]
    assert capsys.readouterr().out.splitlines()[2].split()[:-1] == ["other", *figures]


def test_labels_are_cut_and_pictures_keep_their_shape(quality):
    black = np.zeros((300, 200, 3))
    made = quality.sheet([[(black, "x" * 999), (None, "")], [(black[:20], "y"), (black, "z")]], 150)
    dark = np.argwhere(made[: 150 + quality.GAP].sum(axis=2) == 0)
    assert np.ptp(dark, axis=0).tolist() == [149, 99]
    assert 280 < made.shape[1] <= 150 + 100 + 3 * quality.GAP  # no label is wider than a picture may be
    gap = quality.GAP - 2  # letters reach a little beyond their place
    assert all((edge == 1).all() for edge in (made[-gap:], made[:, -gap:], made[:gap], made[:, :gap]))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--set", "sighs=1"], 2, "NAME=VALUE with NAME one of"),
        (["--set", "alpha=-1"], 2, "alpha is a number, 0 or more"),
        (["--set", "alpha"], 2, "NAME=VALUE"),
        (["--set", "size=8"], 2, "NAME=VALUE with NAME one of"),
        (["--pairs", "0"], 2, "1 or more"),
        (["--networks", "a/x.h5", "b/x.h5"], 1, "have one name, x"),
        (["--networks", "nowhere.h5"], 1, "nowhere.h5"),
        (["--networks", "builtin", "--size", "30"], 1, "at least 28 pixels a side"),
        (["--pictures", "empty"], 1, "no picture here is named photo_* or painting_*"),
        (["--pictures", "missing"], 1, "missing: No such file"),
        (["--json", "missing/q.json"], 1, "the folder missing does not exist"),
    ],
)
def test_bad_input_is_one_line(quality, tiny_vgg, arguments, status, message, tmp_path, monkeypatch, capsys):
    load_vgg = ns.load_vgg
    made = {"builtin": tiny_vgg(dtype="float32")}
    monkeypatch.setattr(quality.ns, "load_vgg", lambda source, threads: made.get(source) or load_vgg(source))
    monkeypatch.setattr(quality, "restart_with_better_kernel", lambda: None)
    monkeypatch.setattr(quality, "tqdm", lambda iterable, *_, **__: iterable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["quality.py", "--json", "q.json", *arguments])
    try:
        found = quality.main()
    except SystemExit as stop:
        found = stop.code
    assert found == status
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "q.json").exists()
