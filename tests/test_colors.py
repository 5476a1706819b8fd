"""Whose colours a result has: the formulas, the pictures that the losses see, and runs of each kind."""

import io

import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy.cli.main import main
from nsnumpy.files.checkpoint import CheckpointError
from nsnumpy.run import colors
from nsnumpy.run.colors import COLORS, finished, grey, seen_style
from nsnumpy.variable import VARIABLES, through

SMALL = {"size": 40, "scales": (24,), "iterations": 3}


def cloud(seed, mean, spread, shape=(40, 50)):
    """A picture whose colours are correlated, and far from black and white."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape, 3)).clip(-2, 2) @ rng.uniform(-1, 1, (3, 3))
    return (mean + spread * x / abs(x).max()).astype(np.float32)


def statistics(picture):
    pixels = picture.reshape(-1, 3).astype(np.float64)
    return pixels.mean(axis=0), np.cov(pixels, rowvar=False, bias=True)


@pytest.mark.parametrize("match", ["transport", "cholesky"])
def test_matched_colours_have_the_photographs_mean_and_covariance(match):
    style, photo = cloud(0, 0.6, 0.3), cloud(1, [0.3, 0.5, 0.4], 0.2, (30, 30))
    matched = seen_style(style, photo, "photo", match)
    for ours, theirs in zip(statistics(matched), statistics(photo), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert matched.shape == style.shape


def test_the_mean_alone():
    style, photo = cloud(0, 0.6, 0.2), cloud(1, [0.4, 0.5, 0.4], 0.2)
    matched = seen_style(style, photo, "photo", "mean")
    assert statistics(matched)[0] == pytest.approx(statistics(photo)[0], abs=1e-5)
    assert statistics(matched)[1] == pytest.approx(statistics(style)[1], rel=1e-3, abs=1e-6)


def test_transport_moves_colours_least():
    """Of the two maps with the same result; and it is the identity where nothing is to be done."""
    style, photo = cloud(0, 0.6, 0.3), cloud(1, 0.4, 0.3)
    moved = {m: np.square(seen_style(style, photo, "photo", m) - style).mean() for m in ("transport", "cholesky")}
    assert moved["transport"] < 0.98 * moved["cholesky"]
    assert seen_style(style, style, "photo", "transport") == pytest.approx(style, abs=1e-5)


@pytest.mark.parametrize("match", ["transport", "cholesky", "mean"])
@pytest.mark.parametrize("which", ["style", "photo"])
def test_a_grey_picture_neither_explodes_nor_turns_black(match, which):
    """A scanned drawing as JPEG has nearly no colour, and that is noise."""
    ramp = np.repeat(np.linspace(20, 235, 64, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "JPEG", quality=60)
    drawing = np.asarray(Image.open(stream), np.float32) / 255
    colourful = cloud(2, 0.5, 0.4, (64, 64))
    style, photo = (drawing, colourful) if which == "style" else (colourful, drawing)
    matched = seen_style(style, photo, "photo", match)
    assert np.isfinite(matched).all()
    assert matched.mean(axis=(0, 1)) == pytest.approx(photo.mean(axis=(0, 1)), abs=0.03)
    noise = [np.abs(picture - grey(picture)).max() for picture in (matched - matched.mean((0, 1)), style)]
    assert noise[0] < 0.3 if which == "style" else noise[0] < noise[1] + 0.05
    black = np.zeros((20, 20, 3), np.float32)
    assert seen_style(black, photo, "photo", match) == pytest.approx(
        np.broadcast_to(photo.mean((0, 1)), (20, 20, 3)), abs=0.01
    )


def test_oklab_is_that_of_its_author():
    """White, red and blue, of the table in Ottosson's text."""
    pixels = np.array([[[1, 1, 1], [1, 0, 0], [0, 0, 1]]], np.float32)
    expected = [[1, 0, 0], [0.62796, 0.22486, 0.12585], [0.45201, -0.03246, -0.31153]]
    assert colors._to_oklab(pixels)[0] == pytest.approx(np.array(expected), abs=1e-4)
    picture = cloud(3, 0.5, 0.4)
    assert colors._from_oklab(colors._to_oklab(picture)) == pytest.approx(picture, abs=1e-5)


def test_the_photographs_chroma_is_put_back():
    photo, result = cloud(4, 0.5, 0.1), cloud(5, 0.5, 0.1)
    ours, theirs = (colors._to_oklab(p) for p in (finished(result, photo, "swap"), photo))
    assert ours[..., 1:] == pytest.approx(theirs[..., 1:], abs=1e-3)
    assert ours[..., 0] == pytest.approx(colors._to_oklab(result)[..., 0], abs=1e-3)
    shown = finished(grey(result), photo, "luminance")
    assert shown - grey(shown) == pytest.approx(photo - grey(photo), abs=1e-5)
    assert grey(shown) == pytest.approx(grey(result), abs=1e-5)
    assert finished(result, photo, "painting") is finished(result, photo, "photo") is result


def test_a_style_in_luminance_has_the_photographs_mean_and_deviation():
    photo = cloud(6, 0.5, 0.2)
    style = seen_style(cloud(7, 0.6, 0.3), photo, "luminance", "transport")
    assert style == pytest.approx(grey(style), abs=1e-6)
    assert (style.mean(), style.std()) == pytest.approx((grey(photo).mean(), grey(photo).std()), rel=1e-3)
    flat = seen_style(np.full((9, 9, 3), 0.3, np.float32), photo, "luminance", "transport")
    assert flat == pytest.approx(np.full((9, 9, 3), grey(photo).mean()), abs=1e-5)


def test_the_gradient_is_that_of_the_luminance(tiny_vgg, picture):
    p, a, y = grey(picture(24, 30)), grey(picture(26, 24, 1)), picture(24, 30, 2)[..., :1].astype(np.float64)
    objective = ns.Objective(tiny_vgg(), content=p, style=a, alpha=1.0, beta=3.0, tv=0.5)
    f = through(VARIABLES["luminance"], objective.evaluate)
    assert f(y)[1].shape == y.shape
    assert ns.check_gradient(lambda v: f(v)[:2], y, step=1e-6) < 1e-6


@pytest.mark.parametrize("kind", COLORS)
def test_a_run_of_each_kind(xp, tiny_vgg, picture, kind):
    p, a = picture(31, 40), picture(36, 44, 1)
    seen = []
    result = ns.transfer(p, a, vgg=tiny_vgg(xp), colors=kind, callback=lambda step: seen.append(step.image), **SMALL)
    assert result.settings["colors"] == kind
    assert result.image.shape == (31, 40, 3)
    assert result.history[-1]["loss"] < result.history[-4]["loss"]
    best = min(range(-4, 0), key=lambda n: result.history[n]["loss"])
    assert seen[best] == pytest.approx(result.image, abs=1e-6)
    chroma = [x - grey(x) for x in (result.image, ns.load_image(p, 40))]
    inside = ((result.image > 0) & (result.image < 1)).all(axis=-1)
    if kind == "luminance":
        assert chroma[0][inside] == pytest.approx(chroma[1][inside], abs=1e-5)
    else:
        assert abs(chroma[0] - chroma[1])[inside].max() > 0.01


@pytest.mark.parametrize("kind", ["luminance", "photo", "swap"])
def test_a_run_that_is_kept_goes_on_to_the_same_picture(tiny_vgg, picture, tmp_path, kind):
    p, a, path = picture(31, 40), picture(36, 44, 1), tmp_path / "run.h5"
    options = {"vgg": tiny_vgg(), "colors": kind, "size": 40, "scales": (24,)}
    whole = ns.transfer(p, a, iterations=(3, 4), **options)

    def interrupt(step):
        if step.iteration == 5:
            raise KeyboardInterrupt

    ns.transfer(p, a, iterations=(3, 4), checkpoint=path, callback=interrupt, **options)
    again = ns.transfer(p, a, resume=path, **options)
    assert np.array_equal(again.image, whole.image)
    with pytest.raises(CheckpointError, match=f"colors '{kind}', not 'painting'"):
        ns.transfer(p, a, resume=path, **options | {"colors": "painting"})


def test_the_command_line(tmp_path, monkeypatch, capsys, tiny_weights, picture):
    monkeypatch.chdir(tmp_path)
    ns.write_weights("tiny.h5", ns.WeightFile(tiny_weights))
    command = "transfer sample:coast sample:starry -o out.png --size 48 --iterations 2 --weights tiny.h5"
    for options in ("--colors luminance", "--colors photo --color-match cholesky", "--colors swap"):
        report = ["--report", "run.html"] if pytest.importorskip("matplotlib") else []
        assert main([*command.split(), *options.split(), *report]) == 0
        assert ns.read_settings("out.png")["colors"] == options.split()[1]
        assert "<svg" in (tmp_path / "run.html").read_text()
    capsys.readouterr()
    assert main([*command.split(), "--color-match", "mean"]) == 2
    assert capsys.readouterr().err == "nsnumpy: error: --color-match is of --colors photo; painting has none\n"


def test_a_finished_run_of_luminance_is_taken_up_again(tiny_vgg, picture, tmp_path):
    options = {"vgg": tiny_vgg(dtype="float32"), "colors": "luminance", **SMALL}
    p, a, path = picture(40, 52), picture(36, 44, 1), tmp_path / "run.h5"
    whole = ns.transfer(p, a, checkpoint=path, **options)
    assert np.array_equal(ns.transfer(p, a, resume=path, **options).image, whole.image)
