"""Styles by region: what maps and masks are taken for, runs with them, and the command line."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

import nsnumpy as ns
from nsnumpy import PictureError, WeightFile, write_weights
from nsnumpy.cli.main import main
from nsnumpy.files.checkpoint import CheckpointError
from nsnumpy.run.inputs import Inputs
from nsnumpy.run.regions import Regions, read_map, read_mask, read_masks
from nsnumpy.run.settings import settings_of

SMALL = {"size": 40, "scales": (24,), "iterations": 3}
BLUE, LIME, RED = (0, 0, 255), (0, 255, 0), (255, 0, 0)


def drawn(size=(160, 120), scale=1, ground=LIME):
    """A sky in blue above lime, with a red disc on the border of both; at `scale` and made smaller, smoothly."""
    image = Image.new("RGB", (size[0] * scale, size[1] * scale), ground)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, size[0] * scale, 48 * scale - 1), fill=BLUE)
    draw.ellipse((100 * scale, 40 * scale, 130 * scale, 70 * scale), fill=RED)
    return image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)


def shares(regions):
    return {regions.colours[n]: (regions.labels == n).mean() for n in regions.numbers}


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    """A folder to work in, with pictures, a map, masks and a weight file."""
    for name, seed in (("photo.png", 0), ("A.png", 1), ("B.png", 2)):
        Image.fromarray((255 * picture(30, 40, seed)).astype(np.uint8)).save(tmp_path / name)
    drawn().save(tmp_path / "map.png")
    ramp = np.linspace(0, 255, 120).astype(np.uint8)[:, None].repeat(160, axis=1)
    Image.fromarray(ramp).save(tmp_path / "low.png")
    Image.fromarray(255 - ramp).save(tmp_path / "high.png")
    write_weights(tmp_path / "tiny.h5", WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Maps


def test_flat_colours_are_the_regions():
    regions = read_map(drawn())
    assert regions.colours == [LIME, BLUE, RED]
    assert np.array_equal(regions.labels == 1, (np.asarray(drawn()) == BLUE).all(-1))
    assert sum(shares(regions).values()) == 1
    assert regions.shares.startswith("lime (5")


def test_smooth_borders_make_no_further_region():
    """Neither their mixtures, nor a third colour that a mixture happens to be."""
    with pytest.warns(UserWarning, match=r"Image: \d+ of its 19200 pixels are between its colours"):
        smooth = read_map(drawn(scale=4))
    assert shares(smooth) == pytest.approx(shares(read_map(drawn())), abs=2e-3)
    grey = np.zeros((60, 80, 3), np.uint8)
    grey[:, 40:], grey[45:] = 255, 128
    enlarged = Image.fromarray(np.kron(grey, np.ones((4, 4, 1), np.uint8))).resize((80, 60), Image.Resampling.BICUBIC)
    with pytest.warns(UserWarning, match="between"):
        labels = read_map(enlarged)
    assert not (labels.labels[:40] == labels.number("gray")).any()


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_a_jpeg_map_has_the_colours_that_were_painted(tmp_path, quality):
    drawn().save(tmp_path / "map.jpg", quality=quality)
    with pytest.warns(UserWarning, match=r"map\.jpg: \d+ of its 19200 pixels are between its colours"):
        regions = read_map(tmp_path / "map.jpg")
    painted = read_map(drawn())
    assert len(regions.colours) == 3
    for colour in ("blue", "lime", "red"):
        there, here = (which.labels == which.number(colour) for which in (painted, regions))
        assert (there != here).mean() < 0.005


def test_regions_of_few_pixels_and_of_near_colours_are_kept_apart():
    pixels = np.full((100, 120, 3), 120, np.uint8)
    pixels[50:], pixels[10:14, 10:14] = 140, (255, 0, 255)
    regions = read_map(pixels)
    assert {colour: round(share * 12000) for colour, share in shares(regions).items()} == {
        (140, 140, 140): 6000, (120, 120, 120): 5984, (255, 0, 255): 16,
    }  # fmt: skip


def test_a_large_map_is_read_at_the_size_that_there_is_use_for():
    large = Image.fromarray(np.kron(np.asarray(drawn()), np.ones((5, 5, 1), np.uint8)))
    regions = read_map(large, enough=200)
    assert (regions.labels.shape, regions.shape) == ((150, 200), (600, 800))
    assert shares(regions) == pytest.approx(shares(read_map(drawn())), abs=2e-3)


def test_what_is_transparent_is_white():
    image = drawn().convert("RGBA")
    alpha = np.full((120, 160), 255, np.uint8)
    alpha[:48, :90] = 0
    image.putalpha(Image.fromarray(alpha))
    assert read_map(image).number("white") in read_map(image).labels[:48, :90]
    assert len(read_map(image).colours) == 4


@pytest.mark.parametrize("kind", ["photograph", "noise", "stripes"])
def test_what_is_no_map(picture, kind):
    pixels = {
        "photograph": (255 * ns.load_image("sample:coast", 200)).astype(np.uint8),
        "noise": np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8),
        "stripes": np.kron(np.arange(40), np.ones((6, 6))).astype(int)[..., None] // (1, 4, 16) % 4 * np.uint8(80),
    }[kind]
    with pytest.raises(PictureError, match="no map of regions: (more than 32|too few pixels of) flat colours"):
        read_map(pixels.astype(np.uint8))


def test_a_colour_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(PictureError, match=r"Image: no green in it; it has lime \(5\S+ %\), blue \(\S+ %\), red"):
        read_map(drawn()).number("green")
    assert read_map(drawn()).number("#0a00f0") == 1  # nearly


# Masks


def test_masks_of_every_kind(tmp_path):
    half = np.zeros((6, 8), np.uint8)
    half[:, 4:] = 255
    assert np.array_equal(read_mask(half).values, half / 255)
    assert np.array_equal(read_mask(half > 0).values, half > 0)
    assert np.array_equal(read_mask(half / 510).values, half / 510)
    with pytest.warns(UserWarning, match="its values are 0 and 1 of 255, taken for 0 and 255"):
        assert np.array_equal(read_mask(half // 255).values, half / 255)
    Image.fromarray(half > 0).save(tmp_path / "sky.tif")
    assert np.array_equal(read_mask(tmp_path / "sky.tif").values, half / 255)
    assert read_mask(tmp_path / "sky.tif").name == "sky"
    for grey in (255, 0):  # white where it is opaque; black is nothing, opaque or not
        image = Image.merge("LA", [Image.new("L", (8, 6), grey), Image.fromarray(half)])
        if grey:
            assert np.array_equal(read_mask(image).values, half / 255)
        else:
            with pytest.raises(PictureError, match="black all over, a mask of nothing"):
                read_mask(image)
    for wrong in (np.full((2, 2), 2.0), np.full((2, 2), np.nan)):
        with pytest.raises(PictureError, match=r"a mask has values in \[0, 1\]"):
            read_mask(wrong)


def test_a_mask_that_is_given_twice_is_one_region(folder):
    array = np.ones((3, 4))
    masks = read_masks([(array, None), ("low.png", None), (None, None), (array, None), ("high.png", "low.png")], None)
    assert [mask and mask.name for mask, _ in masks] == ["1", "low", None, "1", "high"]
    assert masks[0][0] is masks[3][0]
    os.mkdir("other")
    os.link("low.png", "other/low.png")
    with pytest.raises(PictureError, match=r"low\.png: another region is called low: rename the file"):
        read_masks([("low.png", None), ("other/low.png", None)], None)


# Runs


def pictures(picture):
    return [picture(30, 40, n).astype(np.float32) for n in range(3)]


@pytest.mark.slow
def test_the_photograph_is_kept_outside_to_the_last_bit(tiny_vgg, picture):
    p, a, _ = pictures(picture)
    mask = np.zeros((30, 40))
    mask[:12], mask[12:15] = 1, 0.5
    for colors in ("painting", "luminance", "swap", "photo"):
        result = ns.transfer(p, [(a, 1.0, mask)], vgg=tiny_vgg(dtype="float32"), colors=colors, **SMALL)
        assert np.array_equal(result.image[15:], p[15:])
        assert np.abs(result.image[:12] - p[:12]).mean() > 0.01
        moved = np.abs(result.image[12:15] - p[12:15]).mean()
        assert 0 < moved < np.abs(result.image[:12] - p[:12]).mean()
    on = ns.transfer(p, [(a, 1.0, mask)], vgg=tiny_vgg(dtype="float32"), outside="style", **SMALL)
    assert np.abs(on.image[20:] - p[20:]).mean() > 0.01
    everywhere = ns.transfer(p, [(a, 1.0, mask), (a, 1.0)], vgg=tiny_vgg(dtype="float32"), **SMALL)
    assert np.abs(everywhere.image[20:] - p[20:]).mean() > 0.01


@pytest.mark.parametrize("optimizer", ["lbfgs-device", "scipy", "sgd", "adam"])
def test_every_optimizer_runs_with_regions(tiny_vgg, picture, device, xp, optimizer):
    p, a, b = pictures(picture)
    styles = [(a, 1.0, np.eye(30, 40)), (b, 1.0, 1 - np.tri(30, 40))]
    result = ns.transfer(p, styles, vgg=tiny_vgg(xp, dtype="float32"), optimizer=optimizer, **SMALL)
    assert result.settings["loss"] <= next(line for line in result.history if line["size"] == 40)["loss"]
    line = result.history[-1]
    assert sum(line["terms"].values()) == pytest.approx(line["loss"], rel=1e-12)
    assert {"style/conv1_1@1", "style/conv5_1@2"} < line["terms"].keys() == line["gradient_norms"].keys() - {"pixels"}
    json.dumps(result.settings)


def test_the_objective_sees_the_masks_at_each_scale(tiny_vgg, picture):
    p, a, b = pictures(picture)
    mask = np.kron(np.eye(3, 4), np.ones((70, 70)))
    s = settings_of("transfer", **SMALL).completed("transfer")
    inputs = Inputs("transfer", {"content": p, "style": [(a, 1.0, mask), (b, 1.0, 1 - mask, np.tri(30, 40))]}, s)
    for scale in inputs.scales:
        (_, _, region, own), (_, _, other, part) = inputs.style(scale)
        shape = inputs.shape(scale)
        assert region.mask.shape == shape
        assert region.mask + other.mask == pytest.approx(np.ones(shape), abs=1e-11)
        assert own is None
        assert np.array_equal(part, np.tri(30, 40))


def test_what_masks_go_with(tiny_vgg, picture):
    p, a, _ = pictures(picture)
    with pytest.raises(ValueError, match="a mask says which part of a photograph has a style, and a texture has no"):
        ns.texture([(a, 1.0, np.ones((30, 40)))], vgg=tiny_vgg(), **SMALL)
    with pytest.raises(PictureError, match=r"ndarray: 30 x 40 pixels, and the photograph is 40 x 30: give it the same"):
        ns.transfer(p, [(a, 1.0, np.ones((40, 30)))], vgg=tiny_vgg(), **SMALL)
    with pytest.raises(PictureError, match="and the style picture is 40 x 30"):
        ns.transfer(p, [(a, 1.0, np.ones((30, 40)), np.ones((40, 30)))], vgg=tiny_vgg(), **SMALL)
    Inputs("transfer", {"content": p, "style": [(a, 1.0, np.ones((31, 41)))]}, settings_of("transfer"))  # rounded


def test_how_far_a_region_reaches():
    speck = np.zeros((64, 64))
    speck[:8, :8] = 1  # a position of conv4_1, and a quarter of one of conv5_1
    masks = [mask for mask, _ in read_masks([(speck, None), (1 - speck, None)], None)]
    reach = Regions(masks, False, "keep").reach((64, 64), "vgg19", ["conv1_1", "conv4_1", "conv5_1"])
    assert reach == {"1": (1 / 64, ["conv5_1"]), "2": (63 / 64, [])}


def test_a_run_with_regions_goes_on_to_the_same_numbers(tiny_vgg, picture, tmp_path):
    p, a, b = pictures(picture)
    mask = np.tri(30, 40)

    def run(mask, **options):
        return ns.transfer(p, [(a, 1.0, mask), (b, 1.0, np.flip(mask))], vgg=tiny_vgg(dtype="float32"), **options)

    whole = run(mask, size=40, scales=(24,), iterations=6)
    run(mask, size=40, scales=(24,), iterations=(6, 3), checkpoint=tmp_path / "run.h5")
    on = run(mask, size=40, scales=(24,), iterations=6, resume=tmp_path / "run.h5")
    assert np.array_equal(on.image, whole.image)
    assert [line["loss"] for line in on.history] == [line["loss"] for line in whole.history]
    with pytest.raises(CheckpointError, match="of a run with another mask of 1: give it the same"):
        run(np.flipud(mask), size=40, scales=(24,), iterations=6, resume=tmp_path / "run.h5")


# The command line

QUICK = "--weights tiny.h5 --iterations 2 --size 40 --scales 40"


def call(capsys, command):
    """(exit status, standard output but for the plan, standard error)."""
    try:
        status = main(command.split())
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, re.sub(r"\A.*evaluation.*\n", "", captured.out), captured.err


def test_styles_by_the_colours_of_a_map(folder, capsys):
    os.rename("B.png", "red=1,2:3.png")  # a name of any kind
    command = (
        f"transfer photo.png blue=A.png #00ff00=red=1,2:3.png --regions map.png -o out.png {QUICK} --log run.jsonl"
    )
    status, out, err = call(capsys, command)
    assert (status, err) == (0, "")
    first, second, third, _ = out.splitlines()
    assert re.fullmatch(r"map\.png: red \(3\.\d+ %\) has no style: the photograph is kept there", first)
    assert re.fullmatch(r"region blue: 39\.\d % of the picture, down to conv5_1", second)
    assert re.fullmatch(r"region #00ff00: 57 % of the picture, down to conv4_1; too narrow for conv5_1", third)
    settings = ns.read_settings("out.png")
    assert (settings["style"], settings["style 2"]) == ("A.png", "red=1,2:3.png")
    assert settings["regions"] == {"blue": "map.png", "#00ff00": "map.png"}
    assert settings["style_regions"] == {"style": "blue", "style 2": "#00ff00"}
    assert "style/conv2_1@#00ff00" in json.loads((folder / "run.jsonl").read_text().splitlines()[-1])["terms"]
    photo, made = (ns.load_image(name) for name in ("photo.png", "out.png"))
    red = (np.asarray(drawn()) == RED).all(-1).reshape(30, 4, 40, 4).mean((1, 3))
    assert np.array_equal(made[red == 1], photo[red == 1])
    assert (made[red == 0] != photo[red == 0]).any(axis=-1).mean() > 0.9


def test_a_painting_with_regions_of_its_own(folder, capsys):
    image = np.flipud(np.asarray(drawn())).copy()
    image[:10, :10] = 0
    Image.fromarray(image).save("style_map.png")
    status, out, err = call(
        capsys, f"transfer photo.png A.png --regions map.png --style-regions style_map.png -o out.png {QUICK}"
    )
    assert (status, err) == (0, "")
    assert "style_map.png: black is not in map.png" in out
    settings = ns.read_settings("out.png")
    assert settings["style_regions"] == {"style": "lime", "style 2": "blue", "style 3": "red"}
    assert settings["style_parts"] == dict.fromkeys(("style", "style 2", "style 3"), "style_map.png")


def test_soft_masks_one_a_style(folder, capsys):
    masks = "--mask A.png=low.png --mask B.png=high.png"
    status, out, _ = call(capsys, f"transfer photo.png A.png B.png {masks} -o out.png {QUICK}")
    assert status == 0
    assert out.splitlines()[0] == "region low: 49.8 % of the picture, down to conv5_1"
    assert ns.read_settings("out.png")["style_regions"] == {"style": "low", "style 2": "high"}


def test_weights_are_shares_of_a_region(folder, capsys):
    command = "transfer photo.png blue=A.png blue=B.png lime=A.png --style-weights 3,1,7 --regions map.png -o out.png"
    assert call(capsys, f"{command} {QUICK}")[0] == 0
    assert ns.read_settings("out.png")["style_weights"] == {"style": 0.75, "style 2": 0.25}


def test_plan_knows_of_regions(folder, capsys):
    plain, regions = (
        call(capsys, f"plan photo.png {style} {QUICK}")
        for style in ("A.png", "blue=A.png lime=A.png --regions map.png")
    )
    assert plain[0] == regions[0] == 0
    assert "red (3" in regions[1]
    assert call(capsys, f"plan photo.png green=A.png --regions map.png {QUICK}")[0] == 2


def test_resume_and_like(folder, capsys, monkeypatch):
    for style in ("blue=A.png lime=B.png --regions map.png --outside style", "A.png --mask A.png=low.png"):
        made = f"transfer photo.png {style} -o out.png {QUICK} --checkpoint run.h5 --quiet"
        assert call(capsys, made) == (0, "", "")
        os.makedirs("elsewhere", exist_ok=True)
        monkeypatch.chdir("elsewhere")
        status, out, err = call(capsys, "transfer --resume ../run.h5 --iterations 4")
        assert (status, err) == (0, "")
        assert "4 iterations" in out
        monkeypatch.chdir("..")
        os.remove("run.h5")
        assert call(capsys, f"transfer B.png A.png -o new.png --like out.png {QUICK} --quiet") == (0, "", "")
        assert ns.read_settings("new.png")["outside"] == "keep"  # it is of regions, which are the photograph's
        again = "transfer B.png A.png --mask A.png=low.png -o new.png --like out.png --quiet"
        assert call(capsys, f"{again} {QUICK}") == (0, "", "")
        assert ns.read_settings("new.png")["outside"] == ns.read_settings("out.png")["outside"]


def test_the_report_has_each_regions_own_error(folder, capsys, matplotlib):
    styles = "A.png B.png --mask A.png=low.png --mask B.png=high.png"
    assert call(capsys, f"transfer photo.png {styles} -o out.png {QUICK} --report run.html")[0] == 0
    text = (folder / "run.html").read_text()
    for words in ("style conv1_1, low", "conv5_1, high, weight 0.2: relative error", "Region low: low.png, 49.8 %"):
        assert words in text
    assert "mean of the pictures" not in text  # each region has one


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


WRONG = {
    "one.png --mask one.png=other.png": "other.png: has colours, and a mask is grey; a map of colours goes with",
    "blue=one.png": "blue=one.png: COLOUR=PICTURE goes with --regions MAP",
    "green=A.png --regions map.png": r"map\.png: no green in it; it has lime .*, blue .*, red",
    "sky=A.png --regions map.png": r"sky=A\.png: sky is no colour; COLOUR=PICTURE has a colour's name, or #rrggbb",
    "#zz=A.png --regions map.png": r"#zz=A\.png: #zz is no colour",
    "blue= --regions map.png": "blue=: no picture is named",
    "A.png --regions map.png": "--regions: no STYLE has one; write blue=painting.jpg",
    "blue=A.png --regions tall.png": r"tall\.png: 30 x 40 pixels, and the photograph is 40 x 30: give it the same",
    "blue=A.png --regions photo.png": r"photo\.png: no map of regions",
    "blue=A.png --regions none.png": r"none\.png: no such file",
    "blue=none.png --regions map.png": r"none\.png: no such file",
    "blue=A.png --regions tiny.h5": r"tiny\.h5: not a picture",
    "A.png --style-regions map.png": "--style-regions: no --regions of the photograph to go with it",
    "A.png B.png --regions map.png --style-regions map.png": "--style-regions: the regions of one painting",
    "blue=A.png --regions map.png --style-regions map.png": "--style-regions: the regions of one painting",
    "A.png --regions map.png --style-regions other.png": r"other\.png: none of the colours of map\.png: lime",
    "blue=A.png --regions map.png --mask A.png=low.png": "--mask and --regions both say where styles are",
    "A.png --mask low.png": r"--mask low\.png: STYLE=FILE expected, with one of the styles: A\.png",
    "A.png --mask A.png=": "--mask A.png=: STYLE=FILE expected",
    "A.png --mask B.png=low.png": "--mask B.png=low.png: STYLE=FILE expected",
    "A.png --mask A.png=low.png --mask A.png=high.png": "--mask: A.png has 2 masks; a style has one",
    "A.png --mask A.png=none.png": r"none\.png: no such file",
    "A.png --mask A.png=black.png": r"black\.png: black all over, a mask of nothing",
    "A.png --mask A.png=narrow.png": r"narrow\.png: 30 x 40 pixels, and the photograph is 40 x 30",
    "A.png --outside style": "--outside is of --regions and --mask",
    "A.png --mask A.png=low.png --log low.png": "named twice",
}


@pytest.mark.parametrize("styles", WRONG)
def test_what_is_wrong_is_one_line_and_leaves_nothing(folder, capsys, styles):
    Image.new("L", (40, 30)).save("black.png")
    drawn((30, 40)).save("tall.png")
    Image.new("L", (30, 40), 255).save("narrow.png")
    Image.new("RGB", (40, 30), "pink").save("other.png")
    before = sorted(os.listdir())
    status, out, err = call(capsys, f"transfer photo.png {styles} -o out.png {QUICK}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.match(f"nsnumpy: error: {WRONG[styles]}", err) or (WRONG[styles] == "named twice" in err)
    assert sorted(os.listdir()) == before
