"""A run in a notebook, of which a stand-in says what it shows."""

import base64
import io
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image

from nsnumpy import Bar, Live, texture
from nsnumpy.study.live import HEIGHT, WIDTH, curve


def test_a_bar_counts_the_iterations_of_each_run(tiny_vgg, capsys):
    bar = Bar()
    for iterations in (4, 2):
        given = {"vgg": tiny_vgg(dtype="float32"), "size": 48, "scales": (24,), "iterations": (iterations - 1, 1)}
        result = texture("sample:starry", callback=bar, **given)
        *_, last = filter(None, re.split(r"[\r\n]", capsys.readouterr().err))
        assert last.startswith("100%|")
        assert f"| {iterations}/{iterations} [" in last
        assert last.endswith(f", loss {result.history[-1]['loss']:.4g}]")


def test_in_a_notebook_the_bar_is_a_notebooks(monkeypatch):
    """If it can show one; it is tqdm that finds out."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=list))
    assert Bar()._made is list


@pytest.fixture
def shown(monkeypatch):
    """What a notebook shows, one after the other, in one place."""
    shown = []

    class Handle:
        def update(self, thing):
            shown.append(thing._repr_html_())

    def display(thing, display_id):
        assert display_id is True
        assert shown == []  # once; then it is updated
        shown.append(thing._repr_html_())
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = object
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return shown


def test_it_shows_each_picture_with_the_loss_so_far(shown, tiny_vgg):
    steps = []
    live = Live(every=0, size=96)

    def callback(step):
        live(step)
        steps.append((step.iteration, step.image))

    result = texture("sample:starry", vgg=tiny_vgg(dtype="float32"), size=48, iterations=4, callback=callback)
    assert len(shown) == len(steps) == 5
    for html, (iteration, image) in zip(shown, steps, strict=True):
        assert f"iteration {iteration} of 4, 48 pixels, loss" in html
        assert 'width="96" height="72"' in html
        data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
        with Image.open(io.BytesIO(data)) as picture:
            assert np.abs(np.asarray(picture) / 255 - image).mean() < 0.05
    assert "<svg" not in shown[0]
    assert shown[-1].count(",") > 5
    assert result.history[-1]["iteration"] == 4


def test_between_two_pictures_there_is_time_but_the_last_is_shown(shown, tiny_vgg):
    texture("sample:starry", vgg=tiny_vgg(dtype="float32"), size=48, iterations=5, callback=Live(every=1000))
    assert [re.search(r"iteration \d", html)[0] for html in shown] == ["iteration 0", "iteration 5"]


def test_the_curve_is_in_its_box_and_falls():
    points = re.search(r'points="([^"]+)"', curve([100.0, 10.0, 1.0]))[1]
    assert points == f"0.0,2.0 {WIDTH / 2:.1f},{HEIGHT / 2:.1f} {WIDTH:.1f},{HEIGHT - 2:.1f}"
    assert curve([1.0]) == ""
    assert "nan" not in curve([0.0, 0.0])
    assert len(re.search(r'points="([^"]+)"', curve(range(1, 100_000)))[1].split()) <= WIDTH


def test_without_a_notebook_it_says_so(shown, monkeypatch):
    sys.modules["IPython"].get_ipython = lambda: None
    with pytest.raises(RuntimeError, match="this is none"):
        Live()
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(RuntimeError, match="IPython is not installed here"):
        Live()
    with pytest.raises(ValueError, match="every is 0 or more"):
        Live(every=-1)
