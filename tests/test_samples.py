"""The bundled pictures, and the scripts that made them: each must still make its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsnumpy import sample_names

ROOT = Path(__file__).parent.parent

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT)
    scripts = importlib.import_module("docs.samples.__main__")

PICTURES, SAMPLES = scripts.PICTURES, scripts.SAMPLES
WIDTH = 64
DRAWN = [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("cutouts", "glass"))) for name in PICTURES]

# The least correlation with the shipped picture. Measured: 0.896, 0.995, 0.977, 0.999 and 0.965, against 0.18 or less
# with any other picture. Small renderings of the coast have blurred clouds, those of the still life a blurred sunbeam.
ALIKE = {"coast": 0.87, "cutouts": 0.985, "glass": 0.96, "starry": 0.99, "still-life": 0.95}


@pytest.fixture(scope="module")
def shipped():
    """shipped(name) gives the bundled picture, as PIL reads it."""

    def shipped(name):
        with Image.open(SAMPLES / f"{name}.jpg") as picture:
            return picture.convert("RGB")

    return shipped


@pytest.fixture(scope="module")
def rendered():
    """rendered(name) gives a small rendering, (H, W, 3), which is made once."""
    made = {}

    def rendered(name):
        if name not in made:
            made[name] = PICTURES[name](WIDTH)
            made[name].flags.writeable = False
        return made[name]

    return rendered


def correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def shrunk(picture, shape):
    """A PIL picture as an array in [0, 1] of the given (H, W, 3)."""
    return np.asarray(picture.resize(shape[1::-1], Image.Resampling.BOX)) / 255


@pytest.mark.parametrize("name", PICTURES)
def test_shipped(name, shipped):
    assert shipped(name).width == 1024


def test_every_shipped_picture_has_its_script():
    assert {path.stem for path in SAMPLES.glob("*.jpg")} == set(sample_names()) == PICTURES.keys()


@pytest.mark.parametrize("name", DRAWN)
def test_rendering(name, rendered):
    picture = rendered(name)
    assert picture.shape == (WIDTH * 3 // 4, WIDTH, 3)
    assert np.issubdtype(picture.dtype, np.floating)
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.1


@pytest.mark.parametrize("name", DRAWN)
def test_rendering_looks_like_the_shipped_picture(name, rendered, shipped):
    picture = rendered(name)
    assert correlation(picture, shrunk(shipped(name), picture.shape)) > ALIKE[name]


@pytest.mark.slow
def test_the_command_writes_the_named_picture(tmp_path, rendered):
    options = ["--width", str(WIDTH), "--folder", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "docs.samples", "glass", *options], cwd=ROOT, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["glass.jpg"]
    with Image.open(tmp_path / "glass.jpg") as picture:
        assert correlation(np.asarray(picture), rendered("glass")) > 0.99


def test_an_unknown_name_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["samples", "glass", "mona-lisa", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        scripts.main()
    assert stop.value.code == 2
    assert "no picture is called mona-lisa" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
