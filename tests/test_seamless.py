"""Seamless textures: pictures that wrap around, at sizes of their own."""

import re

import numpy as np
import pytest

import nsnumpy as ns
from nsnumpy.cli.main import main
from nsnumpy.files.images import stretched
from nsnumpy.run.settings import Settings, settings_of
from nsnumpy.targets import style_target

SMALL = {"scales": (), "iterations": 3}


@pytest.fixture
def painting(picture):
    return picture(44, 60, 1).astype("float32")


@pytest.mark.parametrize(("seamless", "axes"), [("x", (1,)), ("y", (0,)), ("both", (0, 1))])
def test_where_a_texture_wraps_around_its_loss_does_not_know_where_it_begins(
    tiny_vgg, painting, picture, seamless, axes
):
    def loss(x, which):
        run = {"vgg": tiny_vgg(), "size": (48, 64), "scales": (), "iterations": 0, "seamless": which, "init": x}
        return ns.texture(painting, **run).settings["loss"]

    x = picture(48, 64).astype("float32")
    rolled = np.roll(x, [16] * len(axes), axes)
    assert loss(rolled, seamless) == pytest.approx(loss(x, seamless), rel=1e-12)
    assert loss(rolled, None) != pytest.approx(loss(x, None), rel=1e-3)


def test_the_style_is_seen_with_the_ordinary_border(tiny_vgg, painting):
    """So that the painting's own opposite sides are no part of the style."""
    vgg, style = tiny_vgg(), [(painting, 1.0)]
    result = ns.texture(style, vgg=vgg, size=(32, 48), style_size=60, seamless="both", border="reflect", **SMALL)
    layers = result.settings["style_layers"]
    target = style_target(vgg.with_border("reflect"), painting, layers)
    options = {"style_layers": layers, "tv": 10.0, "beta": 20.0, "convention": "relative"}
    objective = ns.Objective(vgg.with_border("wrap"), style=target, **options)
    assert objective(result.image.astype("float64"))[0] == pytest.approx(result.settings["loss"], rel=1e-5)


def test_a_tile_is_enlarged_among_its_repetitions():
    tile = np.random.default_rng(0).random((16, 32, 3), dtype=np.float32)
    for wraps, axis in (((True, False), 0), ((False, True), 1), ((True, True), (0, 1))):
        enlarged = stretched(np.roll(tile, 4, axis), (32, 48 if axis == 0 else 64), wraps)
        expected = np.roll(stretched(tile, enlarged.shape[:2], wraps), 8, axis)
        assert enlarged == pytest.approx(expected, abs=1e-5)
    assert stretched(tile, (16, 32), (True, True)) is tile


@pytest.mark.parametrize(
    ("size", "seamless", "shape"),
    [((30, 50), None, (30, 50)), ((32, 48), "both", (32, 48)), ((32, 50), "y", (32, 50)), ((30, 48), "x", (30, 48)),
     (60, "both", (48, 64)), (60, "x", (44, 64)), (60, None, (44, 60)), (None, "y", (48, 60)), (5, "both", (16, 16))],
)  # fmt: skip
def test_sizes(tiny_vgg, painting, size, seamless, shape):
    run = ns.Run("texture", {"style": painting}, vgg=tiny_vgg(), size=size, seamless=seamless)
    assert run.inputs.shape(run.scales[-1]) == shape


def test_every_scale_is_a_tile(tiny_vgg, painting):
    steps = [
        step.x.shape[:2]
        for step in ns.Run(
            "texture",
            {"style": painting},
            vgg=tiny_vgg(dtype="float32"),
            size=(96, 64),
            scales=(40, 70),
            iterations=1,
            seamless="both",
        ).steps()
    ]
    assert list(dict.fromkeys(steps)) == [(32, 16), (64, 48), (96, 64)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (30, 48), "seamless": "both"}, "multiples of 16: size 48x32 would do"),
        ({"size": (32, 50), "seamless": "x"}, "multiples of 16: size 48x32 would do"),
        ({"size": (32, 48, 3)}, "size is a whole number"),
        ({"seamless": "z"}, "unknown seamless 'z': choose from x, y, both"),
        ({"border": "wrap"}, "unknown border 'wrap': choose from zero, replicate, reflect"),
        ({"style_statistics": None}, "unknown style statistics None: choose from gram"),
    ],
)
def test_what_cannot_be_is_one_line(change, words):
    with pytest.raises(ValueError, match=words):
        Settings(**change)


def test_other_use_cases_have_their_pictures_proportions():
    with pytest.raises(ValueError, match="size 64x32: a transfer has its picture's proportions"):
        settings_of("transfer", size=(32, 64))


TEXTURE = "texture sample:starry -o tile.png --weights tiny.h5 --iterations 2 --quiet"


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_weights):
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_line(folder, capsys):
    kept = "--checkpoint run.h5 --checkpoint-every 1"
    assert main(f"{TEXTURE} --size 48x32 --seamless --preview 3x2 {kept}".split()) == 0
    tile, preview = (ns.load_image(name) for name in ("tile.png", "tile-3x2.png"))
    assert tile.shape == (32, 48, 3)
    assert np.array_equal(preview, np.tile(tile, (2, 3, 1)))
    record = ns.read_settings("tile.png")
    assert (record["size"], record["seamless"], record["border"]) == ([32, 48], "both", "replicate")
    assert ns.read_settings("tile-3x2.png") == record
    assert main(["texture", "--resume", "run.h5", "--iterations", "3"]) == 0
    assert ns.read_settings("tile.png")["iterations"] == 3
    other = ["texture", "sample:glass", "-o", "other.png", "--quiet", "--iterations", "1"]
    assert main([*other, "--like", "tile.png"]) == 0
    assert ns.read_settings("other.png")["size"] == [32, 48]
    assert main([*other, "--like", "tile.png", "--size", "48x32"]) == 0
    assert ns.read_settings("other.png") == ns.read_settings("other.png") | {"scales": record["scales"]}
    assert main([*other, "--size", "40x24", "--weights", "tiny.h5"]) == 0
    assert ns.load_image("other.png").shape == (24, 40, 3)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--size 48x30 --seamless", "size 48x32 would do"),
        ("--size 48x32 --seamless both.jpg", "x, y, both expected; 'both.jpg' given (for both, put --seamless last)"),
        ("--size 64 --scales 60 --iterations 2,2 --seamless", "at 60 pixels the tile would be as large as at another"),
        ("--init content", "init 'content': there is no content picture here; choose noise or a picture"),
        ("--size 48x32 --preview 3x3", "--preview: shows a seamless texture beside itself; give --seamless, too"),
        ("--size 48x32 --seamless --preview 3", "NxM, across and down, from 1 to 16, expected; '3' given"),
        ("--size 48x32 --seamless --preview 0x3", "NxM, across and down, from 1 to 16, expected; '0x3' given"),
        ("--size 48x", "PIXELS or WxH, whole numbers, 1 or more, expected; '48x' given"),
        ("--size 48x32 --seamless --preview 2x2 --log tile-2x2.png", "named twice"),
    ],
)
def test_what_is_wrong_is_one_line(folder, capsys, options, words):
    try:
        status = main(f"{TEXTURE} {options}".split())
    except SystemExit as exit:
        status = exit.code
    err = capsys.readouterr().err
    assert (status, err.count("\n"), words in err) == (2, 1, True), err
    assert [path.name for path in folder.iterdir()] == ["tiny.h5"]


def test_a_preview_that_is_there_is_not_replaced_unless_it_may(folder, capsys):
    (folder / "tile-2x2.png").write_text("mine")
    assert main(f"{TEXTURE} --size 48x32 --seamless --preview 2x2 --no-clobber".split()) == 2
    assert "tile-2x2.png" in capsys.readouterr().err
    assert (folder / "tile-2x2.png").read_text() == "mine"


def test_a_texture_that_does_not_fit_is_told_the_sides_that_do(folder, monkeypatch, capsys):
    monkeypatch.setattr("nsnumpy.run.means.available_bytes", lambda: 10**9)
    assert main([*TEXTURE.split(), "--size", "6000x3000", "--style-size", "64"]) == 1
    err = capsys.readouterr().err
    width, height = map(int, re.search(r"choose --size (\d+)x(\d+) or less", err).groups())
    assert 512 < width < 6000
    assert height == pytest.approx(width / 2, abs=1)
