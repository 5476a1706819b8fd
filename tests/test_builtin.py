"""The network in the package: what it is, what it says of itself, and that it paints."""

import configparser
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
    transfer,
    write_weights,
)
from nsnumpy.cli.main import main
from nsnumpy.files.weight_sources import BUILTINS, BUNDLED, find_weights
from nsnumpy.study.figure.plan import plan_figure, settings_line
from weights_tools.cli import main as tools

WIDTHS = {"builtin": (32, 64, 160, 384, 384), "builtin-large": (48, 96, 224, 448, 448)}


@pytest.mark.parametrize("name", BUNDLED)
def test_it_is_small_and_says_how_it_was_made_and_whose_it_is(name):
    assert find_weights(name).stat().st_size < {"builtin": 6e6, "builtin-large": 8e6}[name]
    file = read_weights(name)
    assert list(file.weights) == [
        *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
        *("conv4_1", "conv4_2", "conv4_3", "conv5_1"),
    ]
    assert {layer: len(bias) for layer, (_, bias) in file.weights.items()} == {
        layer: WIDTHS[name][int(layer[4]) - 1] for layer in file.weights
    }
    assert (file.architecture, file.pooling, file.preprocessing.channel_order) == ("vgg16", "avg", "RGB")
    assert file.source.startswith("compressed by nsnumpy 0.1.0 from VGG-16, Simonyan and Zisserman 2014")
    assert file.license == "CC BY 4.0"
    notice = (Path(__file__).parents[1] / "NOTICE").read_text()
    assert all(words in notice for words in ("Simonyan", "Zisserman", "CC BY 4.0", f"nsnumpy/data/{name}.h5"))


def test_it_is_the_default():
    default, named = load_vgg(), load_vgg("builtin")
    assert default.source == named.source == "builtin"
    assert all(np.array_equal(default.layers[name].arrays[0], named.layers[name].arrays[0]) for name in named.layers)
    assert load_vgg("builtin-random").source == "builtin-random"


@pytest.mark.parametrize("style", ["starry", pytest.param("glass", marks=pytest.mark.slow)])
def test_it_paints(style):
    """A small picture: the painting's colours are taken over, and the photograph's light and shade stay."""
    result = transfer("sample:coast", f"sample:{style}", size=48, iterations=40).image
    photograph, painting = (load_image(f"sample:{name}", 48) for name in ("coast", style))

    def far(image):
        quantiles = np.linspace(0.05, 0.95, 19)
        return np.abs(np.quantile(image, quantiles, (0, 1)) - np.quantile(painting, quantiles, (0, 1))).mean()

    assert far(result) < 0.7 * far(photograph)
    light = [image.mean(axis=2) - image.mean() for image in (result, photograph)]
    assert (light[0] * light[1]).sum() > 0.2 * np.sqrt((light[0] ** 2).sum() * (light[1] ** 2).sum())


@pytest.fixture
def large(tmp_path, monkeypatch, tiny_weights):
    """The folder of the bundled files, with a small one in the place of the large one."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr("nsnumpy.files.weight_sources.DATA", data)
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
