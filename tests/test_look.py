"""What a network's layers are, and what one of them knows of a picture: the numbers, the sheets, the command."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy.architecture import ARCHITECTURES, layer_names
from nsnumpy.cli.main import main
from nsnumpy.files.decode import srgb_curve
from nsnumpy.files.weights import read_network
from nsnumpy.losses import gram_matrix
from nsnumpy.study import features
from nsnumpy.study.contact import Scale, draw_sheet
from nsnumpy.study.features import seen_by_the_middle
from nsnumpy.study.shades import matrix_ticks, viridis


def open_network(architecture, seed=0):
    """Weights and biases above zero leave every ReLU on, so that all that a position sees reaches it."""
    rng, weights, channels = np.random.default_rng(seed), {}, 3
    for name in layer_names(architecture):
        if name.startswith("conv"):
            weights[name] = rng.uniform(0.02, 0.1, (3, 3, channels, 2)), rng.uniform(0, 1, 2)
            channels = 2
    return ns.VGG(weights, xp=np, architecture=architecture, dtype="float64", convolution="direct", threads=1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_position_sees_as_much_as_its_gradient_reaches(architecture):
    vgg, (height, width) = open_network(architecture), (400, 330)
    x = np.random.default_rng(1).random((height, width, 3))
    layers = ["conv1_1", "conv1_2", "pool1", "conv2_2", "pool2", "conv3_1", "pool3", "conv4_2", "conv5_1", "pool5"]
    for name in layers:
        found, trace = vgg.forward(x, [name])
        one = np.zeros_like(found[name])
        one[one.shape[0] // 2, one.shape[1] // 2, 1] = 1
        reached = vgg.backward(trace, {name: one}).any(axis=2)
        rows, columns = (np.flatnonzero(reached.any(axis=axis)) for axis in (1, 0))
        field = ns.receptive_field(architecture, name)
        assert reached.sum() == field**2 == len(rows) * len(columns), name
        assert seen_by_the_middle(vgg, name, (height, width)) == (rows[0], columns[0], field, field), name


def test_receptive_fields_that_are_known():
    assert (ns.receptive_field("vgg19", "conv5_1"), ns.receptive_field("vgg16", "conv5_1")) == (156, 132)
    assert [ns.receptive_field("vgg16", name) for name in ("conv1_1", "pool1", "relu2_1", "pool5")] == [3, 6, 10, 212]
    for architecture, layer, wrong in (("vgg19", "conv3_5", "unknown layer"), ("vgg11", "conv1_1", "unknown architec")):
        with pytest.raises(ValueError, match=wrong):
            ns.receptive_field(architecture, layer)


def test_what_the_middle_sees_ends_with_the_picture(tiny_vgg):
    assert seen_by_the_middle(tiny_vgg(), "conv5_1", (47, 200)) == (0, 26, 47, 156)


def test_the_table_is_of_what_the_network_makes(tiny_vgg, tiny_weights, picture):
    vgg = tiny_vgg()
    table = ns.layer_table(vgg, (37, 50))
    names = [row.name for row in table]
    assert names == list(layer_names("vgg19"))[: names.index("conv5_1") + 1]
    found, _ = vgg.forward(picture(37, 50), names, keep=False)
    for row in table:
        assert row.shape == found[row.name].shape
        assert row.stride == 2 ** (int(row.name[4]) - row.name.startswith("conv"))
        assert row.receptive_field == ns.receptive_field("vgg19", row.name)
        assert row.parameters == sum(array.size for array in tiny_weights.get(row.name, ()))
    assert ns.layer_table(vgg, (8, 50))[-1].shape == (0, 3, 14)
    last = ns.layer_table(open_network("vgg16"))[-1]
    assert (last.name, last.shape) == ("pool5", (16, 16, 2))


def features_of(vgg, image, layer):
    return vgg.forward(image.astype(vgg.dtype), [layer], keep=False)[0][layer]


def test_each_tile_is_its_filter(tiny_vgg, picture):
    vgg, image = tiny_vgg(), picture(30, 40).astype(np.float32)
    sheet = ns.feature_sheet(image, "relu2_1", vgg=vgg, size=40, most=5)
    F = features_of(vgg, image, "conv2_1")
    energies = (F**2).mean(axis=(0, 1))
    assert (sheet.layer, sheet.positions, F.shape) == ("conv2_1", (15, 20), (15, 20, 8))
    assert sheet.filters == np.argsort(-energies)[:5].tolist()
    np.testing.assert_allclose(sheet.energies, energies)
    assert sheet.limits == (F[..., sheet.filters].min(), F[..., sheet.filters].max())
    tiles = [np.rint(255 * srgb_curve(F[..., n] / F[..., n].max())) for n in sheet.filters]
    enlarged = [np.kron(tile, np.ones((8, 8))) for tile in tiles]  # 160 pixels wide
    top = sheet.image.shape[0] - 24 - 4 - features.Text("0", 40).height - 120
    for n, tile in enumerate(enlarged):
        left = 24 + n * 170
        np.testing.assert_array_equal(sheet.image[top : top + 120, left : left + 160], np.stack([tile] * 3, axis=-1))
    by_number = ns.feature_sheet(image, "conv2_1", vgg=vgg, size=40, most=5, order="number")
    assert by_number.filters == sorted(sheet.filters)
    assert ns.feature_sheet(image, "conv2_1", vgg=vgg, size=40).filters == np.argsort(-by_number.energies).tolist()


def test_a_dead_filter_is_black(tiny_weights, picture):
    weight, bias = tiny_weights["conv1_1"]
    weights = tiny_weights | {"conv1_1": (weight, bias - np.float32([100, 0, 0, 0, 0, 0]))}
    vgg = ns.VGG(weights, xp=np, dtype="float32")
    sheet = ns.feature_sheet(picture(40, 40).astype(np.float32), "conv1_1", vgg=vgg)
    assert (sheet.filters[-1], sheet.energies[0]) == (0, 0)
    assert not sheet.image[-100:-60, 24 + 5 * 170 : 24 + 5 * 170 + 160].any()
    assert ns.gram_sheet(picture(40, 40).astype(np.float32), "conv1_1", vgg=vgg).limits[0] == 0


@pytest.mark.parametrize("order", features.ORDERS)
def test_the_gram_matrix_is_what_the_style_loss_compares(tiny_vgg, picture, order):
    vgg, image = tiny_vgg(), picture(30, 40).astype(np.float32)
    sheet = ns.gram_sheet(image, "conv3_1", vgg=vgg, order=order)
    F = features_of(vgg, ns.load_image(image, 512), "conv3_1")
    G = gram_matrix(F) / (F.shape[0] * F.shape[1])
    np.testing.assert_allclose(sheet.energies, np.diag(G))
    assert sheet.filters == (np.argsort(-np.diag(G)).tolist() if order == "energy" else list(range(10)))
    assert sheet.limits == pytest.approx((G.min(), G.max()))
    shades = np.rint(255 * (1 + np.log10(np.maximum(G / G.max(), 1e-4)) / 4)).astype(int)[np.ix_(*[sheet.filters] * 2)]
    side = 76  # of an element, in pixels
    scale = Scale(viridis(), [str(tick) for tick in matrix_ticks(1.0)], 760)
    top = sheet.image.shape[0] - 24 - scale.height - 10 - 10 * side
    shown = sheet.image[top + side // 2 :: side, 24 + side // 2 :: side][:10, :10]
    np.testing.assert_array_equal(shown, viridis()[shades])


def test_a_scale_has_its_values_where_they_belong():
    sheet = draw_sheet(Scale(viridis(), ["1", "10", "100", "1000", "10000"], 400))
    middles = [(left + right) / 2 - 24 for _, (left, _, right, _) in sheet.texts]
    assert [middles[n] == pytest.approx(100 * n, abs=2) for n in (1, 2, 3)] == [True] * 3
    assert sheet.texts[0][1][0] >= 24
    assert sheet.texts[-1][1][2] <= 24 + 401
    assert (viridis()[0].tolist(), viridis()[255].tolist()) == ([0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25])


@pytest.mark.parametrize("shape", [(12, 300), (300, 12), (33, 33)])
def test_labels_stay_apart_whatever_the_pictures_proportions(tiny_vgg, picture, shape, monkeypatch):
    drawn = []
    monkeypatch.setattr(features, "draw_sheet", lambda part: drawn.append(draw_sheet(part)) or drawn[-1])
    image = picture(*shape).astype(np.float32)
    for make, layer in ((ns.feature_sheet, "conv1_1"), (ns.feature_sheet, "conv3_1"), (ns.gram_sheet, "conv2_1")):
        make(image, layer, vgg=tiny_vgg())
        sheet = drawn[-1]
        boxes = np.array([box for _, box in sheet.texts])
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= sheet.image.size).all()
        for n, (left, top, right, bottom) in enumerate(boxes):
            others = np.delete(boxes, n, axis=0)
            apart = (others[:, 0] >= right) | (others[:, 2] <= left) | (others[:, 1] >= bottom) | (others[:, 3] <= top)
            assert apart.all()


def test_a_sheet_is_a_picture_for_a_notebook_and_a_file(tiny_vgg, picture, tmp_path):
    sheet = ns.feature_sheet(picture(20, 20).astype(np.float32), "conv1_1", vgg=tiny_vgg())
    (tmp_path / "one.png").write_bytes(sheet._repr_png_())
    sheet.save(tmp_path / "two.png")
    for name in ("one.png", "two.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), sheet.image)


def test_what_is_wrong_is_said(tiny_vgg, picture, monkeypatch):
    vgg, image = tiny_vgg(), picture(20, 20).astype(np.float32)
    for options, message in (
        ({"layer": "conv5_2"}, "conv5_2: this network ends at conv5_1"),
        ({"layer": "conv5_1", "size": 12}, "conv5_1 needs 16 pixels, and 12 x 12 are given: take size 16 or more"),
        ({"layer": "conv1_1", "most": 0}, "1 filter or more expected; most=0"),
        ({"layer": "conv1_1", "order": "size"}, "unknown order 'size': choose from energy, number"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            ns.feature_sheet(image, **{"vgg": vgg, "size": None} | options)
    monkeypatch.setattr(features, "available_bytes", lambda: 1 << 20)
    for make in (ns.feature_sheet, ns.gram_sheet):
        with pytest.raises(MemoryError, match=r"conv1_1 of 99000 x 99000 pixels would take about [\d.]+ GB"):
            make(image, "conv1_1", vgg=vgg, size=99000)


def test_on_every_backend(xp, tiny_vgg, picture):
    vgg, image = tiny_vgg(xp, dtype="float32"), picture(24, 24).astype("float32")
    for make in (ns.feature_sheet, ns.gram_sheet):
        ours, host = (make(image, "conv2_1", vgg=network) for network in (vgg, tiny_vgg(dtype="float32")))
        np.testing.assert_allclose(ours.energies, host.energies, rtol=1e-4)
        assert np.abs(ours.image.astype(int) - host.image).mean() < 0.1


# The command line


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    Image.fromarray((255 * picture(30, 40)).astype(np.uint8)).save(tmp_path / "photo.png")
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, command):
    try:
        status = main(command.split())
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out.splitlines(), captured.err.splitlines()


def test_look_prints_the_layers(folder, capsys):
    status, out, err = call(capsys, "look --weights tiny.h5 --size 300x10 --pooling max")
    assert (status, err) == (0, [])
    assert out[0] == "tiny.h5: vgg19, max pooling, at 300 x 10 pixels"
    rows = {line.split()[0]: line.split(maxsplit=1)[1].split("  ") for line in out[2:] if line}
    cells = {name: [cell.strip() for cell in row if cell] for name, row in rows.items()}
    assert cells["layer"] == ["positions", "filters", "sees", "stride", "parameters"]
    assert cells["conv1_1"] == ["300 x 10", "6", "3 x 3", "1", "168"]
    assert cells["pool3"] == ["37 x 1", "10", "52 x 52", "8", "0"]
    assert cells["conv5_1"] == ["none", "14", "156 x 156", "16", "1,526"]
    network = read_network("tiny.h5")
    assert cells["total"] == [f"{sum(row.parameters for row in ns.layer_table(network)):,}"]
    status, out, _ = call(capsys, "look")
    assert (status, out[0]) == (0, "builtin: vgg16, avg pooling, at 512 x 512 pixels")


def test_look_writes_features_and_gram_matrices(folder, capsys):
    common = "look photo.png --weights tiny.h5 --size own"
    status, out, err = call(capsys, f"{common} --layer relu2_1 -o features.png --filters 3")
    sheet = ns.feature_sheet("photo.png", "conv2_1", vgg=ns.load_vgg("tiny.h5", border="replicate"), size=None, most=3)
    assert (status, err, len(out)) == (0, [], 2)
    assert out[0].startswith("features.png: conv2_1, 20 x 15 positions; the 3 of 8 filters with most energy, ")
    assert f"values from {sheet.limits[0]:.4g} to {sheet.limits[1]:.4g}; " in out[0]
    assert out[1] == f"filters: {', '.join(map(str, sheet.filters))}"
    np.testing.assert_array_equal(np.asarray(Image.open("features.png")), sheet.image)
    status, out, err = call(capsys, f"{common} --layer conv2_1 -o gram.png --gram --order number")
    assert (status, err, len(out)) == (0, [], 1)
    assert out[0].startswith(
        "gram.png: Gram matrix of conv2_1 / 300 positions; 8 filters down and across, by their numbers;"
    )
    assert "all 6 filters" in call(capsys, f"{common} --layer conv1_1 -o a.jpg")[1][0]
    assert sorted(os.listdir()) == ["a.jpg", "features.png", "gram.png", "photo.png", "tiny.h5"]


def test_it_shows_what_a_run_sees_beyond_the_border(folder, capsys):
    vgg = ns.load_vgg("tiny.h5")
    run = ns.Run("transfer", {"content": "photo.png", "style": "photo.png"}, vgg=vgg, size=None)
    for given, border in (("", run.vgg.border), (" --border zero", "zero"), (" --border reflect", "reflect")):
        assert call(capsys, f"look photo.png --weights tiny.h5 --size own --layer conv2_1 -o out.png{given}")[0] == 0
        sheet = ns.feature_sheet("photo.png", "conv2_1", vgg=vgg.with_border(border), size=None)
        np.testing.assert_array_equal(np.asarray(Image.open("out.png")), sheet.image)
    assert not np.array_equal(sheet.image, ns.feature_sheet("photo.png", "conv2_1", vgg=run.vgg, size=None).image)


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("look photo.png", 2, "PHOTO goes with --layer and -o; `nsnumpy look` lists the layers"),
        ("look photo.png --layer conv1_1", 2, "PHOTO goes with --layer and -o"),
        ("look --layer conv1_1", 2, "--layer goes with a picture: name PHOTO, too"),
        ("look -o out.png", 2, "-o goes with a picture"),
        ("look --gram", 2, "--gram goes with a picture"),
        ("look --filters 3", 2, "--filters goes with a picture"),
        ("look --order energy", 2, "--order goes with a picture"),
        ("look --border zero", 2, "--border goes with a picture"),
        ("look --size own", 2, "--size own is that of PHOTO"),
        ("look --size 12xa", 2, "PIXELS or WxH, whole numbers, 1 or more, expected; '12xa' given"),
        ("look --weights gone.h5", 2, "gone.h5: no such weight file"),
        ("look photo.png --layer conv1_1 -o out.png --size 12x12", 2, "with PHOTO --size is the long side alone"),
        ("look photo.png --layer conv1_1 -o out.png --gram --filters 2", 2, "--filters goes without --gram"),
        ("look photo.png --layer conv9_1 -o out.png", 2, "unknown layer 'conv9_1'"),
        ("look photo.png --layer conv5_2 -o out.png --weights tiny.h5", 2, "conv5_2: this network ends at conv5_1"),
        ("look photo.png --layer conv5_1 -o out.png --size 9 --weights tiny.h5", 2, "take size 21 or more"),
        ("look photo.png --layer conv1_1 -o out.gif", 2, "out.gif: cannot tell the format"),
        ("look photo.png --layer conv1_1 -o no/out.png", 2, "the folder no does not exist"),
        ("look photo.png --layer conv1_1 -o photo.png", 2, "photo.png: named twice in this command"),
        ("look gone.png --layer conv1_1 -o out.png", 2, "gone.png: no such file"),
        ("look tiny.h5 --layer conv1_1 -o out.png", 2, "tiny.h5: "),
        ("look photo.png --layer conv1_1 -o out.png --size 9999999 --weights tiny.h5", 1, "out of memory; choose a sm"),
    ],
)
def test_what_is_wrong_is_one_line(folder, capsys, command, status, message):
    before = sorted(os.listdir())
    got, out, err = call(capsys, command)
    assert (got, out, len(err)) == (status, [], 1)
    assert err[0].startswith("nsnumpy: error: ")
    assert message in err[0]
    assert sorted(os.listdir()) == before
    assert Path("photo.png").stat().st_size > 100
