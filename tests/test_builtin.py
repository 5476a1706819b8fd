"""The network in the package: what it is, what it says of itself, and that it paints."""

import configparser
import json
from pathlib import Path

import numpy as np
import pytest

from nsnumpy import (
    WeightFile,
    WeightFileError,
    load_image,
    load_vgg,
    read_settings,
    read_weights,
    sample_names,
    transfer,
    write_weights,
)
from nsnumpy.cli import main
from nsnumpy.figure_plan import plan_figure, settings_line
from nsnumpy.weight_sources import BUILTINS, BUNDLED, find_weights
from weights_tools.cli import main as tools


def test_it_is_small_and_says_how_it_was_made():
    path = find_weights("builtin")
    assert path.stat().st_size < 4e6
    file = read_weights("builtin")
    assert {name: weight.shape[3] for name, (weight, _) in file.weights.items()} == {
        "conv1_1": 24, "conv1_2": 24, "conv2_1": 48, "conv2_2": 48, "conv3_1": 96, "conv3_2": 96, "conv3_3": 96,
        "conv3_4": 96, "conv4_1": 192, "conv4_2": 192, "conv4_3": 192, "conv4_4": 192, "conv5_1": 192,
    }  # fmt: skip
    assert (file.architecture, file.pooling, file.normalized) == ("vgg19", "avg", True)
    assert file.source.startswith("trained by nsnumpy")
    assert json.loads(file.source.partition("recipe ")[2])["radius"] > 0
    assert file.license.startswith("MIT")


def test_it_is_the_default():
    default, named = load_vgg(), load_vgg("builtin")
    assert default.source == named.source == "builtin"
    assert all(np.array_equal(default.layers[name].arrays[0], named.layers[name].arrays[0]) for name in named.layers)
    assert load_vgg("builtin-random").source == "builtin-random"


def test_its_mean_activations_are_about_1_for_pictures_that_it_was_not_calibrated_on():
    vgg = load_vgg()
    sums = dict.fromkeys(vgg.layers, 0.0)
    for name in sample_names():
        for layer, F in vgg.forward(load_image(f"sample:{name}", 192), list(vgg.layers))[0].items():
            sums[layer] += F.mean(axis=(0, 1)) / len(sample_names())
    for layer, means in sums.items():
        assert 0.4 < np.median(means) < 2.5, layer


@pytest.mark.parametrize("style", ["starry", "glass"])
def test_it_paints(style):
    """A small picture: the painting's colours are taken over, and the photograph's light and shade stay."""
    result = transfer("sample:coast", f"sample:{style}", size=128, iterations=25).image
    photograph, painting = (load_image(f"sample:{name}", 128) for name in ("coast", style))

    def far(image):
        quantiles = np.linspace(0.05, 0.95, 19)
        return np.abs(np.quantile(image, quantiles, (0, 1)) - np.quantile(painting, quantiles, (0, 1))).mean()

    assert far(result) < 0.5 * far(photograph)
    light = [image.mean(axis=2) - image.mean() for image in (result, photograph)]
    assert (light[0] * light[1]).sum() > 0.2 * np.sqrt((light[0] ** 2).sum() * (light[1] ** 2).sum())


@pytest.fixture
def large(tmp_path, monkeypatch, tiny_weights):
    """The folder of the bundled files, with a small one in the place of the large one."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr("nsnumpy.weight_sources.DATA", data)
    write_weights(data / "builtin-large.h5", WeightFile(tiny_weights, source="a larger one"), "int8")
    Path("builtin-large").write_text("a file of this name is not what is meant")
    return data


def test_the_large_one_goes_by_its_name_everywhere(large, capsys):
    assert load_vgg("builtin-large").source == "builtin-large"
    command = ["transfer", "sample:coast", "sample:glass", "--weights", "builtin-large", "--size", "40"]
    assert main([*command, "--iterations", "1", "-o", "o.png"]) == 0
    assert main(["plan", *command[1:]]) == 0
    assert read_settings("o.png")["weights"] == "builtin-large"
    capsys.readouterr()
    assert tools(["inspect", "builtin-large"]) == 0
    out = capsys.readouterr().out
    assert "vgg19, 13 layers, int8\n" in out
    assert "a larger one" in out
    assert tools(["convert", "builtin-large", "-o", "copy.h5"]) == 0
    assert Path("copy.h5").read_bytes() == (large / "builtin-large.h5").read_bytes()
    planned = plan_figure(
        "content", {"content": "sample:coast"}, ["conv1_1"], None, weights="builtin-large", size=40, iterations=1
    )
    assert planned.network["weights"] == "builtin-large"
    assert "network builtin-large, " in settings_line(planned)


def test_a_bundled_file_that_is_missing(large, capsys):
    (large / "builtin-large.h5").unlink()
    message = "builtin-large: .*builtin-large.h5 is missing from this installation; install nsnumpy again"
    with pytest.raises(WeightFileError, match=message):
        load_vgg("builtin-large")
    assert tools(["inspect", "builtin-large"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_built_in_ones_are_packed_and_named():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    packed = setup["options.package_data"]["nsnumpy"].split()
    assert {f"data/{name}.h5" for name in BUNDLED} <= set(packed)
    for name in ("none.h5", "none"):
        with pytest.raises(WeightFileError) as raised:
            find_weights(name)
        assert all(builtin in str(raised.value) for builtin in BUILTINS)
