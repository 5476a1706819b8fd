"""The use cases from end to end, with a tiny network: starts, seeds, settings, history, interrupts."""

import json
import platform
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_info, threadpool_limits

from nsnumpy import (
    VGG,
    Objective,
    Settings,
    load_image,
    read_settings,
    reconstruct,
    texture,
    transfer,
)
from nsnumpy.files.random_network import calibrate, random_weights
from nsnumpy.optimize import OPTIMIZERS, Descent
from nsnumpy.run.results import to_image
from nsnumpy.run.settings import USE_CASES, settings_of
from nsnumpy.targets import style_target


@pytest.fixture
def p(picture):
    return picture(33, 40).astype(np.float32)


@pytest.fixture
def a(picture):
    return picture(28, 36, 1).astype(np.float32)


def run(use_case, vgg, p, a, **options):
    options = {"iterations": 5, "size": None} | options
    if use_case == "transfer":
        return transfer(p, a, vgg=vgg, **options)
    if use_case == "texture":
        return texture(a, vgg=vgg, **options)
    return reconstruct(p, "conv2_1", vgg=vgg, **options)


@pytest.mark.parametrize("use_case", USE_CASES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_use_case_with_every_optimizer_lowers_its_loss(tiny_vgg, xp, p, a, use_case, optimizer):
    result = run(use_case, tiny_vgg(xp, dtype="float32"), p, a, optimizer=optimizer)
    assert result.image.dtype == np.float32
    assert result.image.shape == (a if use_case == "texture" else p).shape
    assert 0 <= result.image.min() <= result.image.max() <= 1
    assert [entry["iteration"] for entry in result.history] == list(range(6))
    assert result.settings["loss"] == min(entry["loss"] for entry in result.history) < result.history[0]["loss"]
    assert not result.stopped
    for entry in result.history:
        assert entry["loss"] == pytest.approx(sum(entry["terms"].values()))
        assert {term.partition("/")[0] for term in entry["terms"]} == {
            "transfer": {"content", "style", "tv"}, "texture": {"style", "tv"}, "reconstruct": {"content", "tv"},
        }[use_case]  # fmt: skip
    seconds = [entry["seconds"] for entry in result.history]
    assert seconds == sorted(seconds)


def test_transfer_moves_towards_the_style_and_keeps_the_content(tiny_vgg, p, a):
    vgg = tiny_vgg()
    result = transfer(p, a, vgg=vgg, alpha=1e-4, beta=1e3, tv=0.0, iterations=60, size=None)
    first, last = (result.history[k]["terms"] for k in (0, -1))
    assert last["content/conv4_2"] > first["content/conv4_2"] == 0
    style = [name for name in first if name.startswith("style/")]
    assert sum(last[name] for name in style) < 0.2 * sum(first[name] for name in style)
    far = np.random.default_rng(0).random(p.shape)
    assert np.abs(result.image - p).mean() < np.abs(far - p).mean()


def test_reconstruction_from_a_low_layer_is_nearly_exact(p):
    vgg = VGG(calibrate(random_weights((24, 1, 1, 1, 1), 0, last="conv1_1"), [p]), xp=np)
    result = reconstruct(p, "conv1_1", vgg=vgg, iterations=100, size=None, tv=0.0)
    assert np.abs(result.image - p).max() < 0.02


@pytest.mark.parametrize("use_case", USE_CASES)
def test_a_seed_makes_a_run_repeatable(tiny_vgg, p, a, use_case):
    vgg = tiny_vgg(dtype="float32")
    one, same, other = (run(use_case, vgg, p, a, init="noise", seed=seed).image for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_every_start(tiny_vgg, p, a, tmp_path):
    vgg = tiny_vgg()
    Image.fromarray(np.full((10, 50, 3), 51, np.uint8)).save(tmp_path / "start.png")

    def start(init, seed=0):
        return transfer(p, a, vgg=vgg, init=init, seed=seed, iterations=0, size=None).image

    assert np.array_equal(start("content"), p)
    noise = start("noise", seed=4)
    assert noise == pytest.approx(np.random.default_rng(4).uniform(0.45, 0.55, p.shape))
    assert start("style").shape == p.shape
    assert start(tmp_path / "start.png") == pytest.approx(np.full(p.shape, 0.2), abs=1e-6)
    assert start(np.full((5, 5, 3), 0.6)) == pytest.approx(np.full(p.shape, 0.6), abs=1e-6)


def test_starts_that_do_not_exist(tiny_vgg, p, a):
    with pytest.raises(ValueError, match="init 'content': there is no content picture here"):
        texture(a, vgg=tiny_vgg(), init="content")
    with pytest.raises(ValueError, match="init 'style': there is no style picture here"):
        reconstruct(p, vgg=tiny_vgg(), init="style")
    with pytest.raises(ValueError, match="init 'whitenoise': choose noise, content, style, or a picture file"):
        transfer(p, a, vgg=tiny_vgg(), init="whitenoise")


def test_sizes(tiny_vgg, p, a):
    vgg = tiny_vgg(dtype="float32")
    assert transfer(p, a, vgg=vgg, size=32, iterations=0).image.shape == (26, 32, 3)
    assert texture(a, vgg=vgg, size=48, style_size=24, iterations=0).image.shape == (37, 48, 3)


def test_settings_are_whole_and_serialisable(tiny_vgg, p, a, tmp_path):
    vgg = tiny_vgg(pooling="max")
    Image.fromarray((255 * p).astype(np.uint8)).save(tmp_path / "photo.png")
    result = transfer(tmp_path / "photo.png", a, vgg=vgg, iterations=2, size=32, seed=9, style_layers=["conv1_1"])
    result.save(tmp_path / "out.png")
    settings = read_settings(tmp_path / "out.png")
    assert settings == json.loads(json.dumps(result.settings))
    assert settings["command"] == "transfer"
    assert settings["content"] == "photo.png"
    assert settings["style"] == "ndarray"
    assert settings["style_layers"] == {"conv1_1": 1.0}
    assert settings["content_layers"] == {"conv3_2": 0.5, "conv4_2": 0.5}
    assert (settings["alpha"], settings["beta"], settings["tv"]) == (1.0, 20.0, 60.0)
    assert (settings["seed"], settings["pooling"], settings["size"]) == (9, "max", 32)
    assert settings["python"] == platform.python_version()
    assert settings["numpy"] == np.__version__
    assert str(tmp_path) not in json.dumps(settings)
    saved = load_image(tmp_path / "out.png")
    assert np.abs(saved - result.image).max() <= 0.5 / 255 + 1e-6


def test_callbacks_see_every_iterate(tiny_vgg, p, a):
    seen = []
    result = transfer(p, a, vgg=tiny_vgg(), iterations=3, size=None, callback=seen.append)
    assert [progress.record() for progress in seen] == result.history
    assert all(progress.image.shape == p.shape for progress in seen)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_interrupt_keeps_the_best_picture(tiny_vgg, p, a, optimizer):
    def interrupt(progress):
        if progress.iteration == 2:
            raise KeyboardInterrupt

    result = transfer(p, a, vgg=tiny_vgg(), iterations=50, size=None, optimizer=optimizer, callback=interrupt)
    assert result.interrupted
    assert "interrupted after 2 of 50" in result.stopped
    assert result.settings["loss"] < result.history[0]["loss"]


@pytest.mark.parametrize("use_case", USE_CASES)
@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ({}, "lbfgs-device"),
        ({"convention": "relative", "optimizer": None}, "lbfgs-device"),
        ({"convention": "paper"}, "scipy"),
        ({"convention": "jcjohnson"}, "lbfgs-device"),
        ({"convention": "paper", "optimizer": "lbfgs-device"}, "lbfgs-device"),
        ({"optimizer": "lbfgs"}, "scipy"),
        ({"convention": "paper", "optimizer": "adam"}, "adam"),
    ],
)
def test_the_convention_says_which_optimizer_drives_unless_one_is_named(
    tiny_vgg, p, a, use_case, given, driver, monkeypatch
):
    methods = []

    class Noted(Descent):
        def __init__(self, f, x0, **options):
            methods.append(options["method"])
            super().__init__(f, x0, **options)

    monkeypatch.setattr("nsnumpy.run.run.Descent", Noted)
    result = run(use_case, tiny_vgg(dtype="float32"), p, a, iterations=1, **given)
    assert set(methods) == {driver}
    assert result.settings["optimizer"] == driver


def test_blas_has_one_thread_while_scipy_drives(tiny_vgg, p, a, monkeypatch):
    """With more of them scipy's vectors cost many times as much where the cores are busy."""

    def threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    class Noted(Objective):
        def evaluate(self, x):
            seen.append(threads())
            return super().evaluate(x)

    seen = []
    monkeypatch.setattr("nsnumpy.run.means.Objective", Noted)
    with threadpool_limits(2, user_api="blas"):
        transfer(p, a, vgg=tiny_vgg(), size=None, iterations=3, optimizer="scipy")
        assert threads() == {2}
    assert len(seen) > 3
    assert all(count == {1} for count in seen)


def test_what_a_use_case_does_not_have_is_refused(tiny_vgg, p, a):
    with pytest.raises(TypeError, match="reconstruct has no setting 'beta'; it has size, "):
        reconstruct(p, vgg=tiny_vgg(), beta=3.0)
    with pytest.raises(TypeError, match="texture has no setting 'colour'"):
        texture(a, vgg=tiny_vgg(), colour=1)
    with pytest.raises(ValueError, match="unknown bounds 'sphere': choose from box, none"):
        transfer(p, a, vgg=tiny_vgg(), bounds="sphere")
    known = "unknown optimizer 'newton': choose from lbfgs-device, scipy, sgd, adam$"
    with pytest.raises(ValueError, match=known):
        transfer(p, a, vgg=tiny_vgg(), optimizer="newton")


def test_defaults_have_one_place():
    for name, use_case in USE_CASES.items():
        assert settings_of(name) == use_case.defaults
    assert all(f.metadata["help"] and f.metadata["only"] for f in fields(Settings))


OTHER = {
    "size": 36, "style_size": 24, "iterations": 2, "optimizer": "sgd", "bounds": "none", "lr": 1e-7, "momentum": 0.25,
    "until": 1e-9, "seed": 6, "convention": "paper", "scales": (20,), "alpha": 0.125, "beta": 77.0, "tv": 3.5,
    "content_layers": {"conv2_2": 0.6},
    "style_layers": {"conv1_2": 0.3, "conv3_1": 2.0}, "style_statistics": "covariance",
    "colors": "photo", "color_match": "mean", "outside": "style", "border": "reflect", "seamless": "x",
}  # fmt: skip


@pytest.mark.parametrize("use_case", USE_CASES)
def test_every_setting_reaches_what_it_sets(tiny_vgg, p, a, use_case, monkeypatch):
    """Not only the record of a run: the objective, the optimiser and the pictures themselves."""
    seen, starts = {}, []

    def target(vgg, pictures, layers, statistics, sums_of):
        seen.update(styles=pictures, style_statistics=statistics, border_of_styles=vgg.border)
        return style_target(vgg, pictures, layers, statistics, sums_of)

    def objective(vgg, **options):
        seen.update(options, border=vgg.border)
        return Objective(vgg, **options)

    class Noted(Descent):
        def __init__(self, f, x0, **options):
            seen.update(options)
            starts.append(x0)
            super().__init__(f, x0, **options)

        def steps(self, iterations):
            seen["iterations"] = iterations
            return super().steps(iterations)

    monkeypatch.setattr("nsnumpy.run.means.Objective", objective)
    monkeypatch.setattr("nsnumpy.run.inputs.style_target", target)
    monkeypatch.setattr("nsnumpy.run.run.Descent", Noted)
    known = {f.name for f in fields(Settings) if use_case in f.metadata["only"]}
    style = [(a, 1.0, np.eye(*p.shape[:2]))] if use_case == "transfer" else a
    run(use_case, tiny_vgg(), p, style, init="noise", **{name: value for name, value in OTHER.items() if name in known})
    for name in ("iterations", "lr", "momentum", "tv", "convention"):
        assert seen[name] == OTHER[name], name
    for name in {"alpha", "beta", "content_layers", "style_layers", "style_statistics"} & known:
        assert seen[name] == OTHER[name], name
    assert (seen["method"], seen["bounds"]) == ("sgd", None)
    shape = (28, 32, 3) if use_case == "texture" else (30, 36, 3)  # a whole number of 16 pixels where it wraps
    coarse = {"transfer": [(16, 20, 3)], "texture": [(12, 16, 3)], "reconstruct": []}[use_case]
    assert seen["border"] == ("reflect", "wrap" if use_case == "texture" else "reflect")
    assert [x0.shape for x0 in starts] == [*coarse, shape]
    assert starts[0] == pytest.approx(np.random.default_rng(6).uniform(0.45, 0.55, starts[0].shape))
    if use_case != "texture":
        assert seen["content"].shape == shape
    if use_case != "reconstruct":
        assert [(image.shape, weight) for image, weight, *_ in seen["styles"]] == [
            ((19, 24, 3), 1.0)
        ]  # at its own aspect ratio
        assert seen["border_of_styles"] == ("reflect", "reflect")
    if use_case == "transfer":  # with the photograph's colours, their mean alone
        assert seen["styles"][0][0].mean((0, 1)) == pytest.approx(seen["content"].mean((0, 1)), abs=0.02)
        assert seen["styles"][0][0].std() != pytest.approx(seen["content"].std(), rel=0.01)
        assert (seen["styles"][0][2].mask == 1).all()  # it goes on outside of its region
    if use_case == "reconstruct":
        assert seen["content_layers"] == {"conv2_1": 1.0}


def test_every_setting_is_in_that_test():
    assert OTHER.keys() | {"init"} == {f.name for f in fields(Settings)}
    assert not [
        name for name, value in OTHER.items() if any(getattr(u.defaults, name) == value for u in USE_CASES.values())
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"style_size": 0}, {"size": 3.5}, {"iterations": -1}, {"seed": -1}, {"alpha": -1.0},
        {"beta": np.nan}, {"tv": np.inf}, {"momentum": "much"}, {"size": (36, 0)}, {"size": (36,)},
    ],
)  # fmt: skip
def test_unusable_settings_are_named(p, a, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} is a"):
        transfer(p, a, **change)


def test_a_picture_that_left_the_box_is_clipped():
    assert to_image(np.array([[[-0.5, 0.25, 1.5]]])).tolist() == [[[0, 0.25, 1]]]


def test_a_result_is_a_start_without_any_loss(tiny_vgg, p, a):
    first = transfer(p, a, vgg=tiny_vgg(), size=None, iterations=3).image
    assert np.array_equal(transfer(p, a, vgg=tiny_vgg(), size=None, init=first, iterations=0).image, first)
