"""From one style to another: what each picture is of, what it begins with, and what the command writes."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy import use_cases
from nsnumpy.cli.main import main
from nsnumpy.files.animation import save_animation
from nsnumpy.files.images import fit_image, to_bytes
from nsnumpy.run import shared
from nsnumpy.run.near import NearRun

QUICK = "--weights tiny.h5 --iterations 4 --size 40 --threads 1"
MADE = ["01.png", "02.png", "03.png", "blend.webp", "sheet.png"]


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    for seed, name in enumerate(("photo.png", "a, é.png", "b.jpg")):
        Image.fromarray((255 * picture(40 + 4 * seed, 52, seed)).astype(np.uint8)).save(tmp_path / name)
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, options=""):
    """(exit status, standard output, standard error) of a blend into out/."""
    try:
        status = main(
            ["blend", "photo.png", "a, é.png", "b.jpg", "-o", "out", "--steps", "3", *QUICK.split(), *options.split()]
        )
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def style_errors(objectives, image):
    """Of an image, for each style, the style terms of the loss."""
    errors = []
    for objective in objectives:
        objective(image)
        errors.append(sum(value for term, value in objective.terms.items() if term.startswith("style/")))
    return errors


@pytest.mark.slow
def test_the_style_goes_from_the_one_to_the_other(tiny_vgg, picture):
    vgg = tiny_vgg(dtype="float32")
    photo, styles = picture(40, 52), [picture(44, 48, 5), 0.5 * picture(48, 40, 6)]
    options = {"vgg": vgg, "size": 40, "iterations": 15, "border": "zero"}
    results = list(ns.blend(photo, *styles, steps=5, **options))
    objectives = [
        ns.Objective(vgg, style=ns.load_image(style, 40), convention="relative", beta=1.0) for style in styles
    ]
    errors = np.array([style_errors(objectives, result.image) for result in results])
    # Each goes on from the one before, which may still gain something by that in its own style.
    assert (np.diff(errors[:, 0]) > -0.2 * errors[:-1, 0]).all()
    assert errors[-1, 0] > 3 * errors[0, 0]
    assert (np.diff(errors[:, 1]) < 0).all()
    plain = [ns.transfer(photo, style, **options).image for style in styles]
    assert np.array_equal(results[0].image, plain[0])
    assert errors[-1, 1] < 1.2 * style_errors(objectives, plain[1])[1]
    assert [result.settings.get("style_weights") for result in results[1:4]] == [
        {"style": 1 - t, "style 2": t} for t in (0.25, 0.5, 0.75)
    ]
    assert "style 2" not in results[0].settings
    assert "style 2" not in results[-1].settings
    assert [result.settings["iterations"] for result in results] == [15, (15,), (15,), (15,), (15,)]


def test_the_loss_of_a_blend_is_that_of_the_blended_gram_matrices(tiny_vgg, picture):
    """But for a constant: so the gradients are equal."""
    vgg, x = tiny_vgg(), picture(32, 40, 3)
    first, second = picture(32, 40, 1), picture(32, 40, 2)
    t, options = 0.3, {"convention": "paper", "style_layers": ["conv1_1", "conv2_1"]}
    both = ns.Objective(vgg, style=[(first, 1 - t), (second, t)], **options)
    a, b = (
        shared.StyleTargets().of(vgg, [(p, 1.0, None, None)], options["style_layers"], "gram") for p in (first, second)
    )
    blended = {
        name: tuple((1 - t) * A + t * B for A, B in zip(a.pictures[0][0][name], b.pictures[0][0][name], strict=True))
        for name in options["style_layers"]
    }
    one = ns.Objective(vgg, style=type(a)("gram", ((blended, 1.0),), (None,)), **options)
    np.testing.assert_allclose(both(x)[1], one(x)[1], rtol=1e-9, atol=1e-12)


def test_each_style_is_described_once_and_none_whose_share_is_nothing(tiny_vgg, picture, monkeypatch):
    described, shares = [], []
    style_target, of = shared.style_target, shared.StyleTargets.of
    monkeypatch.setattr(shared, "style_target", lambda *given: described.append(1) or style_target(*given))
    monkeypatch.setattr(
        shared.StyleTargets, "of", lambda self, vgg, p, *rest: shares.append(len(p)) or of(self, vgg, p, *rest)
    )
    blend = ns.blend(
        picture(40, 52), picture(40, 52, 1), picture(40, 52, 2), steps=4, vgg=tiny_vgg(), size=40, iterations=1
    )
    next(blend)
    assert (len(described), shares) == (1, [1])
    list(blend)
    assert (len(described), shares) == (2, [1, 2, 2, 1])


def test_a_run_begins_with_the_picture_of_another(tiny_vgg, picture):
    options = {"vgg": tiny_vgg(dtype="float32"), "size": 64, "scales": (32, 64)}
    pictures = {"content": picture(48, 64), "style": picture(44, 48, 5)}
    other = ns.Run("transfer", pictures, iterations=(3, 3), **options)
    before = other.go().image
    seen = []
    NearRun(other, "transfer", pictures, iterations=(0, 0), **options).go(lambda step: seen.append(step.image))
    assert np.array_equal(seen[0], fit_image(before, (24, 32)))
    np.testing.assert_allclose(seen[1], before, atol=1e-6)  # nothing was changed at the first scale
    seen.clear()
    NearRun(other, "transfer", pictures, iterations=(5, 0), **options).go(lambda step: seen.append(step.image))
    changed = fit_image(seen[-1], (24, 32)) - fit_image(before, (24, 32))
    expected = seen[-2] - fit_image(before, (24, 32))
    assert np.abs(expected).max() > 0.01
    assert np.corrcoef(changed.ravel(), expected.ravel())[0, 1] > 0.95
    result = NearRun(other, "transfer", pictures, iterations=(1, 2), **options).go(lambda step: seen.append(step.image))
    assert any(np.array_equal(result.image, image) for image in seen[-2:])  # to the last bit


def test_steps_are_two_or_more(picture):
    with pytest.raises(ValueError, match="steps is 2 or more, not 1"):
        next(ns.blend(picture(40, 52), picture(40, 52), picture(40, 52), steps=1))


def test_the_command_writes_pictures_a_sheet_and_an_animation(folder, capsys):
    status, out, err = call(capsys)
    assert (status, err) == (0, "")
    first, *lines = out.splitlines()
    assert re.fullmatch(r"3 pictures; the first 40 x 31: about \d.\d\d GB of memory, .* for 4 iterations", first)
    assert [line.partition(": ")[0] for line in lines] == [
        "out/01.png", "out/02.png", "out/03.png", "out/sheet.png, out/blend.webp"
    ]  # fmt: skip
    assert sorted(os.listdir("out")) == MADE
    middle = ns.read_settings("out/02.png")
    assert (middle["command"], middle["style"], middle["style 2"]) == ("transfer", "a, é.png", "b.jpg")
    for name in ("sheet.png", "blend.webp"):
        record = ns.read_settings(f"out/{name}")
        assert (record["command"], record["first"], record["second"], record["steps"]) == (
            "blend", "a, é.png", "b.jpg", 3
        )  # fmt: skip
    with Image.open("out/sheet.png") as sheet:
        assert sheet.width > 3 * 160
        assert sheet.height > 160


def test_the_animation_goes_there_and_back(folder, capsys, monkeypatch):
    shown = []

    def save(path, images, milliseconds, record):
        shown.extend(zip(images, milliseconds, strict=True))
        save_animation(path, images, milliseconds, record)

    monkeypatch.setattr("nsnumpy.cli.blend.save_animation", save)
    assert call(capsys, "--quiet") == (0, "", "")
    pictures = [ns.load_image(f"out/0{number}.png") for number in (1, 2, 3, 2)]
    assert [milliseconds for _, milliseconds in shown] == [900, 150, 900, 150]
    for (image, _), picture in zip(shown, pictures, strict=True):
        assert np.array_equal(image, to_bytes(picture))


def test_an_animation_has_its_pictures_and_their_times(tmp_path):
    levels, times = (0.2, 0.5, 0.8, 0.5), [900, 150, 900, 150]
    save_animation(
        tmp_path / "a.webp", [np.full((30, 40, 3), 255 * level, np.uint8) for level in levels], times, {"steps": 3}
    )
    assert ns.read_settings(tmp_path / "a.webp") == {"steps": 3}
    with Image.open(tmp_path / "a.webp") as animation:
        assert (animation.n_frames, animation.info["loop"], animation.size) == (4, 0, (40, 30))
        for number, level in enumerate(levels):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == times[number]
            assert abs(np.asarray(animation.convert("RGB")).mean() / 255 - level) < 0.02


def test_what_is_there_is_replaced_if_nsnumpy_made_it(folder, capsys):
    assert call(capsys)[0] == 0
    before = Path("out/02.png").read_bytes()
    assert call(capsys, "--beta 3")[0] == 0
    assert Path("out/02.png").read_bytes() != before
    status, _, err = call(capsys, "--no-clobber")
    assert (status, err) == (
        2, "nsnumpy: error: out/01.png: is there already; choose another name, or leave --no-clobber out\n"
    )  # fmt: skip
    for name in ("sheet.png", "03.png", "blend.webp"):
        theirs = Path(f"out/{name}")
        made = theirs.read_bytes()
        Image.new("RGB", (30, 30)).save(theirs)
        status, out, err = call(capsys)
        assert (status, out) == (2, "")
        assert err == f"nsnumpy: error: out/{name}: is there, and no blend made it; choose another folder\n"
        with Image.open(theirs) as image:
            assert image.size == (30, 30)
        theirs.write_bytes(made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps 1", "a whole number from 2 to 1000 expected; '1' given"),
        ("-o photo.png", "photo.png: is a file; name a folder"),
        ("-o no/out", "no/out: the folder no does not exist; make it first"),
        ("--init nobody.png", "nobody.png: no such file"),
        ("--style-size 16", "pixels, and the deepest layer needs 16: take style size"),
        ("--lr 1", "--lr is of --optimizer sgd and adam"),
        ("--size 16384", "out/blend.webp: .webp goes up to 16383 pixels a side, and the picture has 16384 x"),
        ("--scales 8,90", "scale 90 is larger than the result, 40: choose that size"),
    ],
)
def test_a_wrong_command_is_one_line_before_anything_is_made(folder, capsys, options, message):
    before = sorted(os.listdir())
    status, out, err = call(capsys, options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(os.listdir()) == before


def test_nothing_that_is_read_is_written_over(folder, capsys):
    os.mkdir("out")
    os.rename("photo.png", "out/01.png")
    os.symlink("out/01.png", "photo.png")
    before = Path("out/01.png").read_bytes()
    status, _, err = call(capsys)
    assert (status, err.count("named twice in this command")) == (2, 1)
    assert Path("out/01.png").read_bytes() == before


def test_ctrl_c_keeps_the_finished_pictures(folder, capsys, monkeypatch):
    starts = []

    class Interrupted(NearRun):
        def go(self, callback=None):
            starts.append(1)
            if len(starts) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().go(callback)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(use_cases, "NearRun", Interrupted)
    try:
        status, _, err = call(capsys)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, err) == (130, "nsnumpy: interrupted; 2 of 3 pictures are in out, without a sheet\n")
    assert sorted(os.listdir("out")) == MADE[:2]


def test_what_does_not_fit_is_said_before(folder, capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["nsnumpy.run.means"], "available_bytes", lambda: 90_000_000)
    status, out, err = call(capsys, "--size 400")
    assert (status, out, os.path.exists("out")) == (1, "", False)
    assert "GB are to be had" in err
    assert err.endswith("; or --force to try all the same\n")


@pytest.mark.parametrize(("before", "steps"), [("04.png", 3), ("001.png", 3), ("12.png", 11)])
def test_the_rest_of_a_longer_blend_would_look_like_part_of_it(folder, capsys, before, steps):
    os.mkdir("out")
    Image.new("RGB", (30, 30)).save(f"out/{before}")
    status, out, err = call(capsys, f"--steps {steps}")
    assert (status, out, os.listdir("out")) == (2, "", [before])
    assert err == (
        f"nsnumpy: error: out/{before}: would look like one of this blend's; choose another folder, or remove it\n"
    )


def test_an_empty_folder_is_not_left(folder, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nsnumpy.cli.blend.load_vgg", interrupt)
    assert (call(capsys)[0], os.path.exists("out")) == (130, False)
