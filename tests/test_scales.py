"""Coarse to fine: which scales, what is handed on from one to the next, and what a run says of them."""

import json
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsnumpy import Objective, Run, WeightFile, load_image, plan, read_settings, texture, transfer, write_weights
from nsnumpy.cli.main import main
from nsnumpy.files.images import fit_image, fit_size
from nsnumpy.optimize import Descent
from nsnumpy.run.scales import scales_of, side_for
from nsnumpy.run.settings import Settings, settings_of
from nsnumpy.targets import style_target


@pytest.mark.parametrize(
    ("settings", "long_side", "short_side", "sizes"),
    [
        ({}, 512, 300, [128, 256, 512]),
        ({}, 384, 288, [192, 384]),
        ({}, 1000, 700, [125 * 2, 500, 1000]),
        ({}, 255, 255, [255]),
        ({}, 512, 100, [256, 512]),  # at 128 the short side would be 25: two poolings from nothing
        ({"init": "noise"}, 512, 512, [128, 256, 512]),
        ({"init": "picture.png"}, 512, 512, [512]),  # to go on from it, not to make it coarse again
        ({"convention": "paper"}, 512, 512, [512]),
        ({"scales": (64, 200)}, 512, 512, [64, 200, 512]),
        ({"scales": (64, 512)}, 512, 512, [64, 512]),
        ({"scales": (512,)}, 512, 512, [512]),
        ({"scales": ()}, 512, 512, [512]),
    ],
)
def test_the_scales(settings, long_side, short_side, sizes):
    assert Settings(**settings).sizes(long_side, short_side) == sizes


def test_scales_that_cannot_be(tiny_vgg, picture):
    with pytest.raises(ValueError, match="scale 600 is larger than the result, 512: choose that size"):
        Settings(scales=(600,)).sizes(512)
    with pytest.raises(ValueError, match=r"one number, or one for each of the scales 128, 256, 512, expected"):
        Settings(iterations=(3, 2)).sizes(512)
    for scales in ((20, 10), (20, 20), (0,), "128", (10.5,)):
        with pytest.raises(ValueError, match="scales is a list of growing whole numbers"):
            Settings(scales=scales)


def test_the_style_picture_shrinks_along_and_keeps_its_own_size_at_the_end():
    s = settings_of("transfer", size=400, style_size=1000, scales=(100, 200))
    shapes = {"content": (600, 800), "style": (500, 250)}
    sides = [(scale["result"], scale["style"]) for scale in scales_of(s, shapes)]
    assert sides == [(100, 250), (200, 500), (400, 1000)]
    s = settings_of("transfer", size=None, scales=(100,))
    assert scales_of(s, shapes | {"style 2": (300, 600)}) == [
        {"result": 100, "style": 62, "style 2": 75},
        {"result": None, "style": None, "style 2": None},  # their own sizes, 800, 500 and 600
    ]


@pytest.mark.parametrize("init", ["content", "noise"])
def test_each_scale_begins_with_the_result_of_the_one_before(init, tiny_vgg, picture, monkeypatch):
    """Enlarged; of a run that began with the photograph, what was changed in it is, so that its detail is there."""
    runs = []

    class Noted(Descent):
        def steps(self, iterations):
            x0 = self._start
            yield from super().steps(iterations)
            runs.append((x0, self.best, iterations))

    styles = []

    def target(vgg, pictures, *options):
        styles.append(pictures[0][0].shape)
        return style_target(vgg, pictures, *options)

    monkeypatch.setattr("nsnumpy.run.run.Descent", Noted)
    monkeypatch.setattr("nsnumpy.run.inputs.style_target", target)
    p, a = picture(64, 80).astype("float32"), picture(40, 48, 1).astype("float32")
    options = {"size": 80, "scales": (20, 40), "iterations": (3, 2, 1), "init": init}
    result = transfer(p, a, vgg=tiny_vgg(dtype="float32"), **options)
    assert [x0.shape for x0, _, _ in runs] == [(16, 20, 3), (32, 40, 3), (64, 80, 3)]
    assert styles == [(17, 20, 3), (33, 40, 3), (67, 80, 3)]
    assert [count for _, _, count in runs] == [3, 2, 1]
    for (_, x, _), (x0, _, _) in pairwise(runs):
        x, expected = np.clip(x, 0, 1), fit_image(np.clip(x, 0, 1), x0.shape[:2])
        if init == "content":
            photo, small = (fit_image(p, at.shape[:2]) for at in (x0, x))
            expected = np.clip(photo + 2 * fit_image((x - small + 1) / 2, x0.shape[:2]) - 1, 0, 1)
            assert np.abs(expected - fit_image(x, x0.shape[:2])).max() > 0.05
        np.testing.assert_allclose(x0, expected, atol=1e-6)
    assert np.array_equal(result.image, np.clip(runs[-1][1], 0, 1))
    assert [line["iteration"] for line in result.history] == [0, 1, 2, 3, 3, 4, 5, 5, 6]
    assert [line["size"] for line in result.history] == [20] * 4 + [40] * 3 + [80] * 2
    assert result.settings["scales"] == [20, 40, 80]
    seconds = [line["seconds"] for line in result.history]
    assert seconds == sorted(seconds)


def test_what_nothing_was_changed_in_is_the_photograph(tiny_vgg, picture):
    p = picture(64, 80).astype("float32")
    for colors in ("painting", "swap", "luminance"):
        options = {"size": 80, "scales": (20, 40), "iterations": (0, 0, 0), "colors": colors}
        result = transfer(p, picture(40, 48, 1), vgg=tiny_vgg(dtype="float32"), **options)
        np.testing.assert_allclose(result.image, p, atol=1e-5)


def test_what_is_changed_stays_where_it_is_where_the_proportions_are_rounded(tiny_vgg):
    """A smooth picture has no detail: of its negative at a coarse scale comes its negative."""
    shape = (21, 320)
    p = np.broadcast_to(0.5 + 0.4 * np.sin(np.arange(320) / 6)[:, None], (*shape, 3)).astype("float32")
    run = Run("transfer", {"content": p, "style": p}, vgg=tiny_vgg(), size=320, scales=(160,), style_layers=["conv1_1"])
    coarse, last = run.scales
    small = run.inputs.photo(coarse)
    assert small.shape == (10, 160, 3)
    start = run.inputs.start(run.s, last, 1 - small)
    np.testing.assert_allclose(start[2:-2, 4:-4], 1 - p[2:-2, 4:-4], atol=0.02)


def test_a_result_is_the_callers_own(tiny_vgg, picture):
    pictures = {"content": picture(32, 40), "style": picture(32, 40, 1)}
    run = Run("transfer", pictures, vgg=tiny_vgg(), size=40, scales=(20,), iterations=1)
    image = run.go().image
    before = image.copy()
    image[:] = 0
    assert np.array_equal(run.result().image, before)


@pytest.mark.parametrize("colors", ["swap", "luminance"])
def test_a_picture_on_the_way_has_the_colours_of_the_photograph_where_they_are(colors, tiny_vgg, picture):
    p, shown = picture(66, 100).astype("float32"), []  # at 40 pixels 26 high, and not 26.4
    options = {"size": 100, "scales": (40,), "iterations": (0, 0), "colors": colors}
    transfer(p, picture(40, 48, 1), vgg=tiny_vgg(), callback=lambda step: shown.append(step.image), **options)
    np.testing.assert_allclose(shown[0], load_image(p, 40), atol=1e-5)


@pytest.mark.parametrize("colors", ["painting", "luminance"])
def test_what_is_interrupted_at_a_coarse_scale_has_the_detail_of_the_photograph(colors, tiny_vgg, picture):
    p = picture(64, 80).astype("float32")

    def interrupt(progress):
        raise KeyboardInterrupt

    options = {"size": 80, "scales": (20,), "colors": colors}
    result = transfer(p, picture(40, 48, 1), vgg=tiny_vgg(), callback=interrupt, **options)
    assert result.interrupted
    np.testing.assert_allclose(result.image, p, atol=1e-5)


def test_an_interrupt_at_a_coarse_scale_still_makes_a_picture_of_the_size_asked_for(tiny_vgg, picture):
    def interrupt(progress):
        assert progress.iterations == 60
        if progress.iteration == 2:
            raise KeyboardInterrupt

    result = texture(picture(60, 80), vgg=tiny_vgg(), size=64, scales=(32,), iterations=30, callback=interrupt)
    assert result.interrupted
    assert result.stopped == "interrupted after 2 of 30 iterations at 32 pixels"
    assert result.image.shape == (48, 64, 3)
    assert 0 <= result.image.min() <= result.image.max() <= 1
    assert {line["size"] for line in result.history} == {32}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "interrupted, before the first iterate at 64 pixels"),
        (FloatingPointError("the loss is not finite"), "the loss is not finite, before the first iterate at 64 pixels"),
        (MemoryError(), "out of memory, before the first iterate at 64 pixels"),
    ],
)
@pytest.mark.parametrize("where", ["made", "called"])
def test_what_stops_a_finer_scale_before_it_has_a_picture_loses_nothing(
    tiny_vgg, picture, monkeypatch, error, words, where
):
    scales = []

    class Broken(Objective):
        def __init__(self, vgg, **options):
            super().__init__(vgg, **options)
            scales.append(vgg)
            self.last = len(scales) > 1
            if where == "made" and self.last:
                raise error

        def evaluate(self, x):
            if self.last:
                raise error
            return super().evaluate(x)

    vgg = tiny_vgg(dtype="float32")
    coarse = texture(picture(60, 80), vgg=vgg, size=32, scales=(), iterations=3)
    monkeypatch.setattr("nsnumpy.run.means.Objective", Broken)
    result = texture(picture(60, 80), vgg=vgg, size=64, scales=(32,), iterations=3)
    assert result.stopped == words
    assert (result.interrupted, result.failed) == (words.startswith("int"), not words.startswith("int"))
    assert np.array_equal(result.image, fit_image(coarse.image, (48, 64)))
    assert result.settings["loss"] == coarse.settings["loss"]
    with pytest.raises(type(error)):
        texture(picture(60, 80), vgg=vgg, size=64, scales=(), iterations=3)


@pytest.mark.slow
def test_a_coarse_scale_that_stops_early_is_told_and_iterations_are_counted_as_they_ran(tiny_vgg, picture):
    p = picture(64, 64).astype("float32")
    result = transfer(p, p, vgg=tiny_vgg(dtype="float32"), size=64, scales=(32,), tv=0, iterations=3)
    assert result.stopped.startswith("no lower loss found after 0 of 3 iterations")
    assert " at 32 pixels" in result.stopped
    assert [line["iteration"] for line in result.history] == [0, *range(len(result.history) - 1)]


def test_numbers_of_numpy_are_as_good_as_any(tiny_vgg, picture, tmp_path):
    result = transfer(
        picture(48, 64), picture(48, 64, 1), vgg=tiny_vgg(), size=np.int64(64), scales=[np.int64(32)],
        iterations=range(1, 3), alpha=np.float32(0.5), seed=np.int16(3),
    )  # fmt: skip
    result.save(tmp_path / "o.png")
    settings = read_settings(tmp_path / "o.png")
    assert (settings["size"], settings["scales"], settings["iterations"]) == (64, [32, 64], [1, 2])
    assert (settings["alpha"], settings["seed"]) == (0.5, 3)


def test_a_scale_that_is_too_small_for_the_network_is_planned_as_it_would_run():
    pictures = {"content": np.zeros((150, 200, 3), "float32"), "style": np.zeros((150, 200, 3), "float32")}
    with pytest.raises(ValueError, match="conv"):
        plan("transfer", **pictures, size=128, scales=(8, 64))


def test_coarse_to_fine_gets_closer_than_one_scale(tiny_vgg):
    """Ten iterations at each of two scales against ten at the last one, from noise."""
    options = {"vgg": tiny_vgg(dtype="float32"), "size": 96, "iterations": 10, "tv": 0}
    losses = [texture("sample:starry", scales=scales, **options).settings["loss"] for scales in ((48,), ())]
    assert losses[0] < losses[1]


def test_the_plan_counts_all_scales(monkeypatch):
    monkeypatch.setattr(
        sys.modules["nsnumpy.run.plan"], "run_seconds", lambda network, run, rates: run.size[0] * run.size[1] / 1e4
    )
    pictures = {"content": np.zeros((150, 200, 3), "float32"), "style": np.zeros((150, 200, 3), "float32")}
    planned = plan("transfer", **pictures, size=200, scales=(100,), iterations=(30, 20))
    assert planned.scales == [100, 200]
    assert planned.iterations == 50
    assert planned.seconds == pytest.approx(3.0)
    assert planned.total_seconds == pytest.approx(30 * 0.75 + 20 * 3.0)


def test_the_command_line_takes_scales(tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_weights("w.h5", WeightFile(tiny_weights))
    command = ["transfer", "sample:coast", "sample:starry", "--weights", "w.h5", "--size", "60", "-o", "o.png"]
    assert main([*command, "--scales", "30,60", "--iterations", "2,1", "--save-every", "1", "--log", "l.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "for 3 iterations at 30, 60 pixels" in out
    assert "o.png: 60 x 45, 3 iterations in" in out
    assert sorted(path.name for path in Path().glob("o-*")) == ["o-00001.png", "o-00002.png", "o-00003.png"]
    assert [json.loads(line)["size"] for line in Path("l.jsonl").read_text().splitlines()] == [30, 30, 30, 60, 60]
    assert main([*command, "--scales", "30", "--iterations", "0,1", "--log", "m.jsonl"]) == 0
    assert [json.loads(line)["size"] for line in Path("m.jsonl").read_text().splitlines()] == [30, 60, 60]
    settings = read_settings("o.png")
    assert (settings["scales"], settings["iterations"], settings["convention"]) == ([30, 60], [0, 1], "relative")
    for options, message in (
        (["--scales", "30,x"], "a whole number, 1 or more, expected; 'x' given"),
        (["--scales", "40,30"], "scales is a list of growing whole numbers"),
        (["--scales", "70"], "scale 70 is larger than the result, 60: choose that size"),
        (["--iterations", "5,5,5"], "one number, or one for each of the scales 60, expected"),
    ):
        with suppress(SystemExit):  # of the option's type
            assert main([*command, *options]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_where_no_iterations_are_given_the_coarse_scales_get_more(tiny_vgg, monkeypatch):
    assert Settings().iterations_at([128, 256, 512]) == [50, 50, 32]
    assert Settings().iterations_at([384]) == [80]
    assert Settings(iterations=7).iterations_at([128, 256]) == [7, 7]
    assert Settings().iterations_at([2048, 4096, 8192, 65536]) == [50, 25, 12, 5]  # the last one 32, 32 times halved
    for name, count in (("COARSE", 3), ("FINEST", 2), ("ONE_SCALE", 1)):
        monkeypatch.setattr(f"nsnumpy.run.settings.{name}", count)
    pictures = [np.random.default_rng(n).random((48, 40, 3)) for n in range(2)]
    for scales, ran in (((24, 32, 48), (3, 3, 2)), ((48,), 1)):
        result = transfer(*pictures, vgg=tiny_vgg(), size=48, scales=scales)
        assert result.settings["iterations"] == ran
        assert result.history[-1]["iteration"] == np.sum(ran)
    with pytest.raises(ValueError, match="iterations is a whole number, 0 or more"):
        Settings(iterations=(3, None))


def test_an_elongated_style_is_kept_long_enough_for_its_short_side():
    """2000 x 60 pixels at 256 would have 8 on the short side, and conv5_1 nothing to see."""
    shapes = {"content": (600, 800), "style": (60, 2000)}

    def sides(**settings):
        return [scale["style"] for scale in scales_of(settings_of("transfer", **settings), shapes)]

    least = sides(size=256)[-1]
    assert min(fit_size((60, 2000), least)) == 16
    assert min(fit_size((60, 2000), least - 1)) == 15
    assert sides(size=256) == [least, least]
    assert sides(size=1024) == [least, least, least, 1024]  # 1024 x 31
    assert sides(size=256, style_size=300)[-1] == 300  # as was asked for
    assert sides(size=None, scales=()) == [None]  # 60 are enough
    shapes["style"] = (4, 50)
    assert fit_size((4, 50), sides(size=None, scales=())[-1])[0] == 16


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_weights, picture):
    for name, shape in (("long.png", (6, 200)), ("small.png", (30, 40)), ("dot.png", (1, 1))):
        Image.fromarray((255 * picture(*shape)).astype(np.uint8)).save(tmp_path / name)
    write_weights(tmp_path / "tiny.h5", WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)


def test_a_run_with_an_elongated_style(folder, capsys):
    command = "transfer sample:coast long.png -o out.png --size 64 --iterations 1 --weights tiny.h5"
    assert main(command.split()) == 0
    out, err = capsys.readouterr()
    long = side_for((6, 200), 16)
    becomes = (
        f"the style picture, 200 x 6 pixels, becomes {long} x 16, so that its short side is enough for the network"
    )
    assert err == f"nsnumpy: note: {becomes}\n"
    assert out.startswith("64 x 48: ")
    assert main([*command.split(), "--style-size", "300"]) == 2
    assert f"take style size {long} or more" in capsys.readouterr().err


def test_pictures_that_are_much_enlarged_are_said_and_own_keeps_them(folder, capsys):
    command = "transfer small.png dot.png -o out.png --iterations 1 --weights tiny.h5 --size"
    assert main([*command.split(), "56"]) == 0
    assert capsys.readouterr().err == (
        "nsnumpy: note: the style picture, 1 x 1 pixels, becomes 56 x 56: a larger one has more to tell\n"
    )
    assert main([*command.split(), "64", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*command.split(), "64"]) == 0
    assert "the content picture, 40 x 30 pixels, becomes 64 x 48: a larger one" in capsys.readouterr().err
    assert main([*command.replace("dot.png", "sample:starry").split(), "own"]) == 0
    assert load_image("out.png").shape == (30, 40, 3)
    assert read_settings("out.png")["size"] is None
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), "owl"])
