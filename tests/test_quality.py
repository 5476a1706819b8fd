"""What benchmarks/quality.py measures is what it says; without that, its figures say nothing."""

import json
import sys
import time
from contextlib import suppress
from itertools import pairwise
from math import lgamma
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from test_benchmarks import load

import nsnumpy as ns
from nsnumpy.files.random_network import random_weights
from nsnumpy.run import settings
from nsnumpy.vgg import VGG

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measures():
    return load("measures")


@pytest.fixture(scope="module")
def sheets():
    return load("sheets")


@pytest.fixture(scope="module")
def quality():
    return load("quality")


@pytest.fixture(scope="module")
def photograph():
    return ns.load_image("sample:coast", 128).astype("float64")


@pytest.fixture(scope="module")
def painting():
    return ns.load_image("sample:starry", 112).astype("float64")


def wasserstein_distance(x, y):
    from scipy.stats import wasserstein_distance  # which takes a second to load, and in each process

    return wasserstein_distance(x, y)


def patches(image):
    """All 7 x 7 x 3 patches as rows, one by one."""
    height, width = image.shape[:2]
    return np.array([image[i : i + 7, j : j + 7].ravel() for i in range(height - 6) for j in range(width - 6)])


def constant(colour, shape=(28, 33)):
    return np.broadcast_to(colour, (*shape, 3))


@pytest.mark.parametrize("texture", [False, True])
@pytest.mark.parametrize("shape", [(12, 15), (17, 9)])
def test_patch_distance_is_the_definition(measures, picture, shape, texture):
    a, b = picture(12, 15, seed=1), picture(*shape, seed=2) ** 2
    directions = np.asarray(measures.unit_directions(20, 7, 3, texture), "float64")  # more than one chunk
    x, y = patches(a) @ directions.T, patches(b) @ directions.T
    expected = np.mean([wasserstein_distance(x[:, k], y[:, k]) for k in range(20)])
    found = measures.patch_distance(a, b, scales=1, projections=20, seed=3, texture=texture)
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


def test_more_rows_than_a_stripe_are_all_there(measures, picture):
    a, b = picture(90, 10, seed=1), picture(75, 11, seed=2)
    direction = np.asarray(measures.unit_directions(1, 7, 0)[0], "float64")
    expected = wasserstein_distance(patches(a) @ direction, patches(b) @ direction)
    assert measures.patch_distance(a, b, scales=1, projections=1) == pytest.approx(expected, rel=1e-5)


def test_scales_halve_and_are_averaged(measures, picture):
    a, b = picture(29, 34, seed=1), picture(36, 31, seed=2) ** 2
    levels = [(a, b)]
    for _ in range(2):
        levels.append(
            [(x[:-1:2, :-1:2] + x[1::2, :-1:2] + x[:-1:2, 1::2] + x[1::2, 1::2]) / 4 for x in map(_even, levels[-1])]
        )
    expected = [measures.patch_distance(*level, scales=1) for level in levels]
    assert measures.patch_distance(a, b) == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.ptp(expected) > 0.1 * np.mean(expected)


def _even(image):
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def test_patch_distance_of_two_colours_is_known(measures):
    one, other = np.array([0.2, 0.5, 0.9]), np.array([0.3, 0.1, 0.6])
    difference = np.tile(one - other, 49)
    found = measures.patch_distance(constant(one), constant(other, (40, 28)), seed=5)
    assert found == pytest.approx(np.abs(measures.unit_directions(128, 7, 5) @ difference).mean(), rel=1e-5)
    # and over all directions the mean of |v . d| is |d| Gamma(D / 2) / (sqrt(pi) Gamma((D + 1) / 2))
    many = measures.patch_distance(constant(one), constant(other), projections=20_000)
    ratio = np.exp(lgamma(147 / 2) - lgamma(148 / 2)) / np.sqrt(np.pi)
    assert many == pytest.approx(np.linalg.norm(difference) * ratio, rel=0.02)


def test_texture_does_not_see_the_mean_colour(measures, photograph):
    darker, tint = 0.5 * photograph, np.array([0.1, 0.3, 0.5])
    assert measures.patch_distance(constant([0.2, 0.5, 0.9]), constant([0.9, 0.1, 0.3]), texture=True) < 1e-6
    assert measures.patch_distance(darker, darker + tint, texture=True) < 1e-6
    assert measures.patch_distance(darker, darker + tint) > 0.1


@pytest.mark.parametrize("texture", [False, True])
def test_patch_distance_of_pictures(measures, photograph, painting, texture):
    def distance(image, style):
        return measures.patch_distance(image, style, projections=32, texture=texture)

    whole = distance(photograph, painting)
    assert distance(painting, painting) == 0
    assert distance(painting, photograph) == pytest.approx(whole, rel=1e-6)
    # A picture repeated has nearly its own patches, mirrored it has not quite the same.
    assert distance(np.tile(painting, (2, 2, 1)), painting) < 0.3 * whole
    assert 0 < distance(painting[:, ::-1], painting) < 0.5 * whole


def test_patch_distance_falls_as_the_style_is_mixed_in(measures, photograph):
    style = ns.load_image("sample:starry", 128)
    mixed = [measures.patch_distance((1 - t) * photograph + t * style, style) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert all(later < earlier for earlier, later in pairwise(mixed))
    assert mixed[-1] < 1e-6


def test_texture_sees_blur_and_patches_colour(measures, photograph, painting):
    """Why both are told: a blurred painting is near itself in the one, and further than the photograph in the other."""
    blurred = gaussian_filter(painting, (2, 2, 0))
    ratios = [
        measures.patch_distance(blurred, painting, texture=texture)
        / measures.patch_distance(photograph, painting, texture=texture)
        for texture in (False, True)
    ]
    assert ratios[0] < 0.5
    assert ratios[1] > 1


def test_pictures_too_small_for_a_patch_are_refused(measures):
    with pytest.raises(ValueError, match="at least 28 pixels a side"):
        measures.patch_distance(np.zeros((27, 40, 3)), np.zeros((40, 40, 3)))
    assert measures.patch_distance(np.zeros((28, 28, 3)), np.zeros((40, 40, 3))) == 0


def test_edge_similarity_is_the_definition(measures, picture):
    """Window by window, with weights instead of filters."""
    a, b = picture(14, 17, seed=1), picture(14, 17, seed=2)
    x, y = (
        np.hypot(*np.gradient(gaussian_filter(image @ [0.2126, 0.7152, 0.0722], measures.EDGE_SCALE))).ravel()
        for image in (a, (a + b) / 2)
    )
    correlations, deviations = [], []
    for point in np.eye(x.size).reshape(-1, 14, 17):  # a filtered point is its window, at the borders too
        window = gaussian_filter(point, measures.WINDOW).ravel()
        covariance = np.cov(x, y, aweights=window, ddof=0)
        correlations.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
        deviations.append(np.sqrt(np.diag(covariance)))
    weights = (deviations / np.mean(deviations, axis=0)).sum(axis=1)
    expected = np.average(correlations, weights=weights)
    assert measures.edge_similarity(a, (a + b) / 2) == pytest.approx(expected, abs=1e-6)
    assert 0.1 < expected < 0.9


def test_edge_similarity_does_not_see_tone(measures, photograph):
    assert measures.edge_similarity(photograph, photograph) == pytest.approx(1, abs=1e-9)
    for changed in (0.3 * photograph + 0.2, 1 - photograph, 0.5 * photograph):
        assert measures.edge_similarity(changed, photograph) == pytest.approx(1, abs=1e-6)
    assert measures.edge_similarity(photograph**0.5, photograph) > 0.95


def test_edge_similarity_of_what_has_nothing_in_common(measures, photograph):
    rng = np.random.default_rng(0)
    assert abs(measures.edge_similarity(rng.random(photograph.shape), photograph)) < 0.05
    assert abs(measures.edge_similarity(rng.random(photograph.shape), rng.random(photograph.shape))) < 0.05
    assert abs(measures.edge_similarity(ns.load_image("sample:still-life", 128), photograph)) < 0.15


def test_edge_similarity_falls_with_blur_shift_and_noise(measures, photograph):
    noise = np.random.default_rng(0).standard_normal(photograph.shape)
    worse = {
        "blur": [gaussian_filter(photograph, (s, s, 0)) for s in (1, 2, 4)],
        "shift": [shift(photograph, (0, s, 0), order=1, mode="reflect") for s in (1, 2, 4)],
        "noise": [photograph + s * noise for s in (0.1, 0.2, 0.4)],
    }
    for name, pictures in worse.items():
        found = [1.0, *(measures.edge_similarity(picture, photograph) for picture in pictures)]
        assert all(later < earlier - 0.005 for earlier, later in pairwise(found)), (name, found)


def test_edges_that_one_picture_lacks_count_and_what_is_flat_in_both_does_not(measures, photograph):
    half = photograph.copy()
    half[:, 64:] = 0.5
    similarity = measures.edge_similarity(half, photograph)
    assert similarity == pytest.approx(measures.edge_similarity(photograph, half))
    assert measures.edge_similarity(0.2 * half, photograph) == pytest.approx(similarity, abs=1e-4)
    assert 0.5 < similarity < 0.85
    padded = [np.concatenate([picture, constant([0.5] * 3, picture.shape[:2])]) for picture in (half, photograph)]
    assert measures.edge_similarity(*padded) == pytest.approx(similarity, abs=0.1)  # 0.1: the seam
    assert measures.edge_similarity(padded[1], padded[1]) == pytest.approx(1)


def test_edge_similarity_of_flat_pictures(measures, photograph):
    flat = constant([0.3, 0.7, 0.1], photograph.shape[:2])
    assert measures.edge_similarity(flat, flat * 0.5) == 1
    assert measures.edge_similarity(flat, flat + 1e-8 * photograph) == 1  # nothing that a picture can hold
    assert measures.edge_similarity(flat, photograph) == measures.edge_similarity(photograph, flat) == 0
    with pytest.raises(ValueError, match="same shape"):
        measures.edge_similarity(flat, flat[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_judge_is_the_objective(measures, tiny_vgg, picture, dtype):
    judge = measures.Judge(tiny_vgg(dtype=dtype))
    p, a, x = picture(33, 50, seed=1), picture(64, 41, seed=2), picture(33, 50, seed=3)
    found = judge.errors(x, judge.style(a), judge.content(p))
    objective = ns.Objective(judge.vgg, content=p, style=a, convention="relative")
    objective(x.astype(dtype))
    expected = dict(objective.terms)
    assert found["content_error"] == pytest.approx(expected.pop("content/conv4_2"), rel=1e-6)
    assert found["style_errors"] == {
        name.removeprefix("style/"): pytest.approx(5 * term, rel=1e-6) for name, term in expected.items()
    }
    assert len(expected) == 5
    assert found["style_error"] == pytest.approx(sum(expected.values()), rel=1e-6)
    assert judge.vgg.pooling == "avg"


def test_the_judge_finds_no_error_in_the_pictures_themselves(measures, tiny_vgg, picture):
    judge = measures.Judge(tiny_vgg())
    p, a = picture(33, 50, seed=1), picture(33, 50, seed=2)
    style, content = judge.style(a), judge.content(p)
    assert judge.errors(a, style, content)["style_error"] == pytest.approx(0, abs=1e-12)
    assert judge.errors(p, style, content)["content_error"] == 0
    assert judge.errors(a, style, content)["content_error"] > 0.01


def test_the_judge_sees_each_picture_once(measures, tiny_vgg, picture):
    judge, seen = measures.Judge(tiny_vgg()), []
    forward = judge.vgg.forward
    judge.vgg.forward = lambda *args, **options: seen.append(options) or forward(*args, **options)
    p, a = ({name: picture(32, 40, seed) for seed, name in enumerate(names, ord(names[0]))} for names in ("pq", "ab"))
    pairs = [(photograph, painting) for photograph in p for painting in a]
    measured = measures.Measures(pairs, p, a, judge)
    found = {pair: measured.of(pair, (p[pair[0]] + a[pair[1]]) / 2) for pair in pairs}
    assert len(seen) == len(p) + len(a) + len(pairs)
    assert all(options == {"keep": False} for options in seen)
    for photograph, painting in pairs:
        errors = judge.errors((p[photograph] + a[painting]) / 2, judge.style(a[painting]), judge.content(p[photograph]))
        assert {name: found[photograph, painting][name] for name in errors} == errors


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
    rows = [
        {"style_error": x / 2, "content_error": 2 * x, "patches": x, "texture": x, "edges": 1 - x, "seconds": 10 * x}
        for x in (0.5, 0.1, 0.2)
    ]
    medians = {"style_error": 0.1, "content_error": 0.4, "patches": 0.2, "texture": 0.2, "edges": 0.8, "seconds": 2.0}
    worst = {"worst_style_error": 0.25, "worst_content_error": 1.0, "worst_patches": 0.5}
    assert quality.summary(rows) == pytest.approx(medians | worst)


def random_vgg(seed):
    return VGG(random_weights((6, 8, 10, 12, 14), seed), xp=np, dtype="float32")


@pytest.fixture
def bench(quality, tiny_vgg, tmp_path, monkeypatch, capsys):
    """Networks by name, to be changed; run(arguments) of the benchmark at 40 pixels; the pairs that it painted."""
    vggs = {"builtin": random_vgg(5), "some/other.h5": tiny_vgg(dtype="float32"), "judge.h5": random_vgg(6)}
    monkeypatch.setattr(quality.ns, "load_vgg", lambda source, threads: vggs[source])
    monkeypatch.setattr(quality, "restart_with_better_kernel", lambda: None)
    painted, transfer = [], ns.transfer

    def counted(content, style, *, vgg, callback, **settings):
        if not callback:  # else it asks for the record alone
            painted.append((next(name for name, other in vggs.items() if other is vgg), content, style))
        return transfer(content, style, vgg=vgg, callback=callback, **settings)

    monkeypatch.setattr(quality.ns, "transfer", counted)

    def run(*arguments):
        painted.clear()
        options = ["--size", "40", "--set", "iterations=1", "--json", tmp_path / "q.json", *arguments]
        monkeypatch.setattr(sys, "argv", ["quality.py", *map(str, options)])
        status = quality.main()
        output = capsys.readouterr()
        found = None
        with suppress(FileNotFoundError, json.JSONDecodeError):
            found = json.loads((tmp_path / "q.json").read_text())
        return SimpleNamespace(status=status, painted=painted[:], out=output.out, err=output.err, found=found)

    return SimpleNamespace(vggs=vggs, run=run)


def test_a_run(quality, measures, bench, tmp_path):
    (tmp_path / "pictures").mkdir()
    tall = tmp_path / "pictures" / "photo_tall.JPG"
    ns.save_image(tall, np.random.default_rng(0).random((80, 60, 3)))
    options = ["--networks", "builtin", "some/other.h5", "--pairs", "3", "--set", "tv=0", "--set", "style_size=44"]
    options += ["--set", "optimizer=lbfgs"]  # scipy's, by its other name
    more = ["--set", "iterations=8", "--judge", "judge.h5", "--pictures", tall.parent, "-o", tmp_path / "out"]
    began = time.process_time()
    run = bench.run(*options, *more)
    passed = time.process_time() - began
    assert run.status == 0
    assert run.found["set"] == {"iterations": 8, "tv": 0, "style_size": 44, "optimizer": "scipy"}
    assert run.found["judge"]["sha256"] == bench.vggs["judge.h5"].sha256
    rows = run.found["networks"]["other"]["pairs"]
    pairs = [("coast", "cutouts"), ("still-life", "glass"), ("photo_tall", "starry")]
    assert [(row["photograph"], row["painting"]) for row in rows] == pairs
    names = {f"{network}/{'-'.join(pair)}.png" for network in ("builtin", "other") for pair in pairs}
    names |= {"contact-builtin.png", "contact-other.png", "side-by-side.png"}
    out = tmp_path / "out"
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == names
    made = ns.load_image(out / "other" / "photo_tall-starry.png")  # to 8 bits
    photograph, painting = ns.load_image(tall, 40), ns.load_image("sample:starry", 44)
    assert made.shape == photograph.shape == (40, 30, 3)
    for name, texture in (("patches", False), ("texture", True)):
        before = measures.patch_distance(photograph, painting, texture=texture)
        after = measures.patch_distance(made, painting, texture=texture)
        assert rows[2][name] == pytest.approx(after / before, rel=0.02)
    assert rows[2]["edges"] == pytest.approx(measures.edge_similarity(made, photograph), abs=0.01)
    assert rows[2]["edges"] < 0.99
    seen = bench.vggs["judge.h5"].with_border("replicate")  # as a run sees
    objective = ns.Objective(seen, content=photograph, style=painting, convention="relative")
    objective(made)
    assert rows[2]["content_error"] == pytest.approx(objective.terms["content/conv4_2"], rel=0.05)
    assert rows[2]["style_errors"] == {
        name: pytest.approx(5 * objective.terms[f"style/{name}"], rel=0.05) for name in measures.STYLE_LAYERS
    }
    assert rows[2]["style_error"] == pytest.approx(np.mean(list(rows[2]["style_errors"].values())))
    seconds = [row["cpu_seconds"] for network in run.found["networks"].values() for row in network["pairs"]]
    assert all(cpu > 0 for cpu in seconds)
    assert sum(seconds) < passed
    told = run.found["networks"]["other"]
    judged = ("style_error", "worst_style_error", "content_error", "worst_content_error")
    figures = [f"{told[name]:.3f}" for name in (*judged, "patches", "worst_patches", "texture", "edges")]
    figures += [f"{told[name]:.1f}" for name in ("seconds", "cpu_seconds")]
    lines = [line.split() for line in run.out.splitlines()]
    assert lines[2] == ["other", *figures]
    assert lines[-1][:3] == ["other,", "photo_tall,", "starry"]
    assert lines[-1][3:6] == [f"{rows[2][name]:.3f}" for name in ("style_error", "content_error", "patches")]
    assert quality.label(rows[2]).startswith(f"style {lines[-1][3]}, content ")


def test_without_a_judge_nobody_judges(quality, bench, tmp_path):
    run = bench.run("--networks", "builtin", "--pairs", "1")
    assert run.found["judge"] is None
    assert not any("style" in name or "content" in name for name in run.found["networks"]["builtin"]["pairs"][0])
    assert run.out.split("\n")[0].split()[4:] == ["patches", "worst", "texture", "edges", "seconds", "cpu"]
    assert quality.label(run.found["networks"]["builtin"]["pairs"][0]).startswith("patches ")


def test_pictures_made_elsewhere_are_a_row(bench, tmp_path):
    options = ["--pairs", "2", "--judge", "judge.h5"]
    first = bench.run("--networks", "builtin", *options, "-o", tmp_path / "out")
    folder = tmp_path / "out" / "builtin"
    ns.save_image(folder / "still-life-glass.TIFF", ns.load_image(folder / "still-life-glass.png"))
    (folder / "still-life-glass.png").unlink()
    run = bench.run("--networks", "--made", f"before={folder}", *options, "-o", tmp_path / "new")
    assert run.status == 0
    assert run.painted == []
    assert list(run.found["networks"]) == ["before"]
    earlier, rows = first.found["networks"]["builtin"]["pairs"], run.found["networks"]["before"]["pairs"]
    for before, row in zip(earlier, rows, strict=True):  # but for the rounding to 8 bits, the same
        assert row.keys() == before.keys() - {"seconds", "cpu_seconds"}
        assert row["style_errors"] == pytest.approx(before["style_errors"], rel=0.05)
        assert all(row[name] == pytest.approx(before[name], rel=0.05) for name in ("style_error", "patches", "edges"))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"contact-before.png", "side-by-side.png"}
    both = bench.run("--networks", "builtin", "--made", f"before={folder}", *options)
    network, made = (line.split() for line in both.out.splitlines()[1:3])
    assert (made[0], made[-2:]) == ("before", ["-", "-"])
    assert "-" not in network


def damaged(out, how):
    """A folder of results with something wrong."""
    path = out / "coast-glass.png"
    if how == "missing":
        path.unlink()
        (out / "still-life-glass.png").unlink()
    elif how == "twice":
        ns.save_image(path.with_suffix(".webp"), ns.load_image(path))
    else:
        ns.save_image(path, ns.load_image(path)[1:])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "builtin: no picture coast-glass.png or of another format is here, nor those of 1 other pair"),
        ("twice", "coast-glass.png and {folder}/coast-glass.webp are of one pair"),
        ("size", "coast-glass.png: 40 x 30 pixels expected, as the results have here; it has 40 x 29"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_before_the_work(bench, tmp_path, how, message):
    bench.run("--networks", "builtin", "--pairs", "3", "-o", tmp_path)
    (tmp_path / "q.json").unlink()
    damaged(tmp_path / "builtin", how)
    run = bench.run("--networks", "some/other.h5", "--pairs", "3", "--made", f"before={tmp_path / 'builtin'}")
    assert (run.status, run.painted, run.found) == (1, [], None)
    assert message.format(folder=tmp_path / "builtin") in run.err
    assert len(run.err.splitlines()) == 1


def test_networks_are_added_row_by_row(bench):
    first = bench.run("--networks", "builtin", "--pairs", "1")
    kept = first.found["networks"]["builtin"]
    for networks, painted in ((["some/other.h5"], ["some/other.h5"]), (["builtin", "some/other.h5"], [])):
        added = bench.run("--networks", *networks, "--pairs", "1", "--keep")
        assert added.found["networks"]["builtin"] == kept
        assert list(added.found["networks"]) == ["builtin", "other"]
        assert [name for name, *_ in added.painted] == painted
        assert [line.split()[0] for line in added.out.splitlines()[1:3]] == ["builtin", "other"]
    bench.vggs["builtin"] = random_vgg(7)
    changed = bench.run("--networks", "builtin", "--pairs", "1", "--keep")
    assert [name for name, *_ in changed.painted] == ["builtin"]
    assert "builtin: weights, settings or pictures are others than before; run anew" in changed.err
    assert changed.found["networks"]["other"] == added.found["networks"]["other"]
    sha256 = changed.found["networks"]["builtin"]["settings"]["weights_sha256"]
    assert sha256 == bench.vggs["builtin"].sha256 != kept["settings"]["weights_sha256"]
    again = bench.run("--networks", "builtin", "--pairs", "1")
    assert list(again.found["networks"]) == ["builtin"]
    assert len(again.painted) == 1


def test_other_defaults_are_other_rows(bench, monkeypatch):
    first = bench.run("--networks", "builtin", "--pairs", "1")
    assert bench.run("--networks", "builtin", "--pairs", "1", "--keep").painted == []
    monkeypatch.setitem(settings.BY_CONVENTION["relative"]["transfer"], "beta", 21.0)
    run = bench.run("--networks", "builtin", "--pairs", "1", "--keep")
    assert len(run.painted) == 1
    betas = [each.found["networks"]["builtin"]["settings"]["beta"] for each in (first, run)]
    assert betas == [betas[0], 21.0] != [21.0, 21.0]


def test_an_interrupted_run_goes_on(bench, quality, monkeypatch, tmp_path):
    """With what it wrote: not where a picture is missing, or is another run's."""
    options = ["--networks", "builtin", "--pairs", "4", "-o", tmp_path]
    whole = bench.run(*options)
    (tmp_path / "q.json").unlink()
    of = quality.Measures.of

    def interrupted(self, pair, image):
        if pair == ("still-life", "starry"):
            raise KeyboardInterrupt
        return of(self, pair, image)

    with monkeypatch.context() as patch:
        patch.setattr(quality.Measures, "of", interrupted)
        run = bench.run(*options, "--keep")
    assert run.status == 130
    assert "--keep goes on from there" in run.err.splitlines()[-1]
    rows = run.found["networks"]["builtin"]["pairs"]
    assert [row["painting"] for row in rows] == ["cutouts", "glass", "glass"]
    (tmp_path / "builtin" / "coast-cutouts.png").unlink()
    foreign = tmp_path / "builtin" / "still-life-glass.png"
    ns.save_image(foreign, ns.load_image(foreign), ns.read_settings(foreign) | {"weights_sha256": "0"})
    ended = bench.run(*options, "--keep")
    again = [("coast", "cutouts"), ("still-life", "glass"), ("still-life", "starry")]
    assert [tuple(name.removeprefix("sample:") for name in pair) for _, *pair in ended.painted] == again
    assert ended.found["networks"]["builtin"]["pairs"][1] == rows[1]
    for before, row in zip(*(run.found["networks"]["builtin"]["pairs"] for run in (whole, ended)), strict=True):
        assert row | {"seconds": 0, "cpu_seconds": 0} == before | {"seconds": 0, "cpu_seconds": 0}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--size", "44"], "size, pictures"),
        (["--set", "tv=1"], "set"),
        (["--judge", "judge.h5"], "judge"),
        (["--pairs", "3"], "pairs, pictures"),
        (["--threads", "1"], "environment"),
        (["--set", "style_size=44"], "set, pictures"),
    ],
)
def test_what_cannot_be_compared_is_not_kept_together(bench, tmp_path, arguments, what):
    run = bench.run("--networks", "builtin", "--pairs", "1", "--threads", "2")
    other = bench.run("--networks", "builtin", "--pairs", "1", "--threads", "2", "--keep", *arguments)
    assert (other.status, other.painted, other.found) == (1, [], run.found)
    assert f"q.json: of another {what}; leave out --keep, or name another --json" in other.err
    assert len(other.err.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"networks": 3}', "{}"])
def test_another_file_is_not_kept(bench, tmp_path, text):
    (tmp_path / "q.json").write_text(text)
    run = bench.run("--networks", "builtin", "--keep")
    assert (run.status, run.painted) == (1, [])
    assert "q.json: not what this benchmark writes; name another --json to --keep" in run.err
    assert len(run.err.splitlines()) == 1
    assert (tmp_path / "q.json").read_text() == text


def test_labels_are_cut_and_pictures_keep_their_shape(sheets):
    black = np.zeros((300, 200, 3))
    made = sheets.sheet([[(black, "x" * 999), (None, "")], [(black[:20], "y"), (black, "z")]], 150)
    dark = np.argwhere(made[: 150 + sheets.GAP].sum(axis=2) == 0)
    assert np.ptp(dark, axis=0).tolist() == [149, 99]
    assert 280 < made.shape[1] <= 150 + 100 + 3 * sheets.GAP  # no label is wider than a picture may be
    gap = sheets.GAP - 2  # letters reach a little beyond their place
    assert all((edge == 1).all() for edge in (made[-gap:], made[:, -gap:], made[:gap], made[:, :gap]))


def test_labels_have_lines(sheets):
    grey = np.full((20, 30, 3), 0.5)
    one, two = (sheets.sheet([[(grey, label)]], 60) for label in ("style 1", "style 1\nstyle 1"))
    assert (two.shape[0] - one.shape[0], two.shape[1]) == (sheets.LINE, one.shape[1])
    start = sheets.GAP + 20 + 2
    first, second = two[start : start + sheets.LINE], two[start + sheets.LINE : start + 2 * sheets.LINE]
    assert (first == second).all()
    assert (first < 0.5).any()


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
        (["--made", "x"], 2, "NAME=FOLDER"),
        (["--made", "=x"], 2, "NAME=FOLDER"),
        (["--made", "x="], 2, "NAME=FOLDER"),
        (["--made", "a/x=empty"], 2, "a name that a file can have"),
        (["--networks", "builtin", "--made", "x=missing"], 1, "missing: No such file"),
        (["--networks", "builtin", "--made", "x=empty"], 1, "empty: no picture coast-cutouts.png"),
        (["--networks", "builtin", "--made", "builtin=empty"], 1, "each of a name of its own"),
        (["--networks"], 1, "one row or more"),
        (["--networks", "builtin", "--judge", "nowhere.h5"], 1, "nowhere.h5: no such weight file"),
        (["--networks", "builtin", "--judge", "short.h5"], 1, "short.h5 cannot judge: conv5_1: this network ends at"),
    ],
)
def test_bad_input_is_one_line(
    quality, tiny_vgg, tiny_weights, arguments, status, message, tmp_path, monkeypatch, capsys
):
    load_vgg = ns.load_vgg
    made = {"builtin": tiny_vgg(dtype="float32")}
    monkeypatch.setattr(quality.ns, "load_vgg", lambda source, threads: made.get(source) or load_vgg(source))
    monkeypatch.setattr(quality, "restart_with_better_kernel", lambda: None)
    monkeypatch.setattr(quality, "tqdm", lambda iterable, *_, **__: iterable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    short = {name: arrays for name, arrays in tiny_weights.items() if name < "conv5"}
    ns.write_weights(tmp_path / "short.h5", ns.WeightFile(short))
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
