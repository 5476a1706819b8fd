"""Tiles: the same loss, terms and gradient as of the whole picture, in the memory of one tile."""

import itertools
import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nsnumpy as ns
from nsnumpy import Objective
from nsnumpy.architecture import layer_names, layer_shape, minimum_size
from nsnumpy.backend import asarray, to_host
from nsnumpy.files.random_network import calibrate, random_weights
from nsnumpy.losses import STYLE_STATISTICS, sum_of_squares
from nsnumpy.targets import style_target
from nsnumpy.tiles import grid as grid_module
from nsnumpy.tiles.grid import Grid, halo_of, window
from nsnumpy.tiles.objective import TiledObjective, tiled_sums
from nsnumpy.vgg import VGG

LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
SHIFTED = ("zero", "replicate", "reflect")


def compared(vgg, x, tile, keep=True, **given):
    """The evaluations of the whole picture and of its tiles."""
    whole = Objective(vgg, **given).evaluate(x)
    tiled = TiledObjective(vgg, tile=tile, keep=keep, **given).evaluate(x)
    assert list(tiled.terms) == list(whole.terms)
    assert list(tiled.gradient_norms) == list(whole.gradient_norms)
    assert tiled.gradient.shape == x.shape
    assert tiled.gradient.dtype == x.dtype
    return whole, tiled


def furthest(whole, tiled):
    """The largest relative error of the loss, a term, a norm and the gradient."""
    pairs = [(whole.loss, tiled.loss)]
    pairs += [(whole.gradient_norms[name], tiled.gradient_norms[name]) for name in whole.gradient_norms]
    errors = [abs(b - a) / a for a, b in pairs if a]
    errors += [abs(tiled.terms[name] - whole.terms[name]) / whole.loss for name in whole.terms]
    gradient = to_host(whole.gradient)
    return max(*errors, np.abs(to_host(tiled.gradient) - gradient).max() / np.abs(gradient).max())


@pytest.fixture(scope="module")
def networks():
    """(architecture, pooling) -> VGG with few filters, float64."""
    pictures = [np.random.default_rng(n).random((48, 40, 3), dtype=np.float32) for n in range(2)]
    made = {}
    for architecture in ("vgg19", "vgg16"):
        weights = calibrate(random_weights((4, 5, 6, 7, 8), seed=3), pictures)
        names = layer_names(architecture)
        weights = {name: arrays for name, arrays in weights.items() if name in names}
        for pooling in ("avg", "max"):
            made[architecture, pooling] = VGG(
                weights, xp=np, architecture=architecture, pooling=pooling, dtype="float64", threads=1
            )
    return made


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_tiles_are_the_whole_picture(networks, data):
    draw = data.draw
    vgg = networks[draw(st.sampled_from(sorted(networks)))]
    vgg = vgg.with_border(tuple(draw(st.sampled_from(SHIFTED)) for _ in range(2)))
    height, width = draw(st.integers(17, 150)), draw(st.integers(17, 150))
    tile, rng = draw(st.sampled_from([16, 32, 48, 80])), np.random.default_rng(draw(st.integers(0, 99)))
    x, p, a, b = (rng.random((*shape, 3)) for shape in ((height, width), (height, width), (70, 53), (41, 90)))
    mask = np.clip(np.linspace(-1, 2, width) * np.ones((height, 1)), 0, 1)
    style = draw(
        st.sampled_from([None, a, [(a, 0.7), (b, 0.3)], [(a, 1, mask), (b, 0.5, 1 - mask)], [(a, 1, mask), (b, 1)]])
    )
    layers = draw(st.sets(st.sampled_from(LAYERS), min_size=1))
    content = draw(st.sampled_from([None, p])) if style is not None else p
    options = {
        "content": content,
        "style": style,
        "alpha": 3.0,
        "beta": 1e3,
        "tv": draw(st.sampled_from([0.0, 0.5])),
        "convention": draw(st.sampled_from(["paper", "relative", "jcjohnson", "titu1994"])),
        "content_layers": draw(st.sampled_from([("conv4_2",), ("conv1_1", "conv3_2")])),
        "style_layers": [name for name in LAYERS if name in layers],
        "style_statistics": draw(st.sampled_from(sorted(STYLE_STATISTICS))),
    }
    whole, tiled = compared(vgg, x, tile, keep=draw(st.booleans()), **options)
    assert furthest(whole, tiled) < 1e-12


@pytest.mark.parametrize("border", [("wrap", "wrap"), ("wrap", "reflect"), ("zero", "wrap")])
@pytest.mark.parametrize("shape", [(256, 224), (96, 288), (33, 256)])
def test_tiles_wrap_around(networks, border, shape):
    """Where a tile would see itself the axis is not cut."""
    vgg, rng = networks["vgg16", "avg"].with_border(border), np.random.default_rng(0)
    x, a = rng.random((*shape, 3)), rng.random((60, 50, 3))
    whole, tiled = compared(vgg, x, 64, style=a, beta=1e3, tv=0.5)
    assert furthest(whole, tiled) < 1e-12
    grid = Grid(shape, 64, vgg.architecture, LAYERS, border)
    cut = [len({tile[axis] for tile in grid.tiles}) > 1 for axis in (0, 1)]
    assert cut == [shape[0] == 256 or (border[0] != "wrap" and shape[0] > 64), True]
    assert grid.border == tuple("zero" if b == "wrap" and c else b for b, c in zip(border, cut, strict=True))


def test_a_halo_16_pixels_too_small_is_found(networks, monkeypatch):
    vgg, rng = networks["vgg19", "avg"], np.random.default_rng(0)
    options = {"style": rng.random((60, 50, 3)), "beta": 1e3}
    x = rng.random((203, 262, 3))
    assert furthest(*compared(vgg, x, 96, **options)) < 1e-12
    monkeypatch.setattr(grid_module, "halo_of", lambda *given: halo_of(*given) - 16)
    assert furthest(*compared(vgg, x, 96, **options)) > 1e-9


def test_tiles_in_single_precision_agree_to_rounding(tiny_vgg, xp, device, picture):
    vgg = tiny_vgg(xp, dtype="float32", border="replicate")
    x, p = (asarray(picture(75, 90, seed), xp, "float32") for seed in (1, 2))
    style = [(picture(64, 48, 3), 1.0, np.eye(9)), (picture(40, 50, 4), 0.5)]
    whole, tiled = compared(vgg, x, 48, content=p, style=style, alpha=2.0, beta=10.0, tv=1.0, convention="relative")
    assert furthest(whole, tiled) < 2e-5
    hosted = TiledObjective(vgg, tile=48, content=to_host(p), style=style, alpha=2.0, beta=10.0, tv=1.0)
    loss, gradient = hosted(to_host(x))  # a picture that does not fit on the card stays on the host
    assert isinstance(gradient, np.ndarray)
    assert np.isfinite(loss)


def test_each_position_has_one_owner():
    for shape, tile, border in itertools.product([(203, 262), (16, 65), (100, 33)], [16, 40, 96], SHIFTED):
        grid = Grid(shape, tile, "vgg19", ["conv5_1"], (border, border))
        for name in (*LAYERS, "pool4"):
            stride = minimum_size("vgg19", [name])
            owners = np.zeros((shape[0] // stride, shape[1] // stride))
            for part in grid.tiles:
                seen = np.zeros((part.shape[0] // stride, part.shape[1] // stride))
                rows, columns = part.owned(stride)
                assert 0 <= rows.start <= rows.stop <= len(seen)  # it sees all that it owns
                assert 0 <= columns.start <= columns.stop <= seen.shape[1]
                top, left = part.rows.start // stride, part.columns.start // stride
                owners[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop] += 1
            assert (owners == 1).all()


@pytest.mark.parametrize("border", ["zero", "wrap"])
def test_what_a_tile_sees_and_what_it_adds_are_adjoint(border):
    shape, rng = (256, 240), np.random.default_rng(0)
    x, parts = rng.random((*shape, 2)), Grid(shape, 64, "vgg16", ["conv4_1"], (border, border)).tiles
    assert len(parts) == 16
    for part in parts:
        g, gx = rng.random((*part.shape, 2)), np.zeros_like(x)
        part.add(g, gx)
        assert (part.of(x) * g).sum() == pytest.approx((x * gx).sum(), rel=1e-12)


@pytest.mark.slow
def test_the_style_picture_is_tiled_by_the_same_code(networks):
    vgg, rng = networks["vgg19", "avg"], np.random.default_rng(0)
    picture, mask = rng.random((131, 170, 3)), np.zeros((20, 30))
    mask[:3, 4:11] = 0.5
    for statistics, own in itertools.product(STYLE_STATISTICS, (None, mask)):
        whole, tiled = (
            style_target(vgg, [(picture, 1.0, None, own)], LAYERS, statistics, *sums_of).pictures[0][0]
            for sums_of in ((), (tiled_sums(32),))
        )
        for name in LAYERS:
            for of_whole, of_tiles in zip(whole[name], tiled[name], strict=True):
                assert of_tiles == pytest.approx(of_whole, rel=1e-11, abs=1e-13 * np.abs(of_whole).max())
    nowhere = style_target(vgg, [(picture, 1.0, None, mask * 0)], LAYERS, "gram", tiled_sums(32)).pictures[0][0]
    assert nowhere == dict.fromkeys(LAYERS, ())


class Backwards:
    """An executor that does its work last come, first served, and only when somebody waits."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, *given):
        future = Future()
        self.waiting.append((future, function, given))
        taken = future.result

        def result():
            while self.waiting:
                other, function, given = self.waiting.pop()
                other.set_result(function(*given))
            return taken()

        future.result = result
        return future


@pytest.mark.slow
def test_the_same_bits_for_any_number_of_workers_and_any_order(networks):
    vgg, rng = networks["vgg19", "max"], np.random.default_rng(0)
    x, p, a = rng.random((100, 140, 3)), rng.random((100, 140, 3)), rng.random((60, 50, 3))
    options = {"content": p, "style": a, "beta": 1e3, "tile": 32, "tv": 1.0}
    alone = TiledObjective(vgg, **options).evaluate(x)
    with ThreadPoolExecutor(3) as threads:
        for executor, ahead in ((threads, 1), (threads, 7), (Backwards(), 5)):
            other = TiledObjective(vgg, executor=executor, ahead=ahead, **options).evaluate(x)
            assert other.loss == alone.loss
            assert other.terms == alone.terms
            assert np.array_equal(other.gradient, alone.gradient)


@pytest.mark.slow
def test_no_memory_grows_with_the_picture(networks, monkeypatch):
    monkeypatch.setattr("nsnumpy.tiles.objective.BAND", 1 << 12)
    vgg, rng, peaks = networks["vgg16", "avg"], np.random.default_rng(0), []
    for side in (96, 192):
        x, a = rng.random((side, side, 3)), rng.random((60, 50, 3))
        layers = {"style_layers": LAYERS[:3], "content_layers": ["conv3_2"]}
        objective = TiledObjective(vgg, tile=32, content=x, style=a, tv=1.0, beta=1e3, keep=False, **layers)
        objective(x)
        tracemalloc.start()
        objective(x)
        peaks.append(tracemalloc.get_traced_memory()[1] - x.nbytes)  # but for the gradient, which is as large
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(("tile", "tiled"), [(64, False), ("off", False), (63, True)])
def test_a_scale_that_is_no_larger_than_a_tile_is_whole(networks, picture, tile, tiled):
    pictures = {"content": picture(60, 80), "style": picture(40, 40, 1)}
    run = ns.Run("transfer", pictures, vgg=networks["vgg19", "avg"], size=80, scales=(64, 80), tile=tile)
    next(run.steps())
    assert run._objective.tiled == tiled


def test_a_tile_of_nothing_is_refused(networks):
    with pytest.raises(ValueError, match="tile is 1 or more pixels, not 0"):
        TiledObjective(networks["vgg19", "avg"], tile=0, style=np.zeros((40, 40, 3)))


def test_a_tiled_objective_says_what_is_wrong_with_a_picture(networks):
    vgg, a = networks["vgg19", "avg"], np.random.default_rng(0).random((40, 40, 3))
    for content, style, named in ((a[:8], a, "conv5_1"), (a, a[:8], "style picture: conv5_1")):
        with pytest.raises(ValueError, match=named):
            TiledObjective(vgg, tile=16, content=content, style=style)
    objective = TiledObjective(vgg, tile=16, content=a, style=a)
    with pytest.raises(ValueError, match="an image of the content picture's shape"):
        objective(a[:20])
    with pytest.raises(FloatingPointError, match="not finite"):
        objective(a * np.nan)


def test_terms_of_the_picture_itself_are_added(networks):
    vgg, a = networks["vgg19", "avg"], np.random.default_rng(0).random((40, 52, 3))
    options = {"style": a, "pixel_terms": {"grey": (2.0, lambda x: (sum_of_squares(x - 0.5) / 2, x - 0.5))}}
    assert furthest(*compared(vgg, a[::-1], 16, **options)) < 1e-12


@pytest.mark.parametrize("optimizer", ["lbfgs-device", pytest.param("adam", marks=pytest.mark.slow)])
def test_a_run_in_tiles_is_the_run(tiny_vgg, picture, optimizer, tmp_path):
    vgg = tiny_vgg()
    given = (picture(70, 90, 1), picture(60, 80, 2))
    options = {"vgg": vgg, "size": 70, "scales": (36,), "iterations": 5, "optimizer": optimizer}
    whole = ns.transfer(*given, **options)
    tiled = ns.transfer(*given, tile=32, checkpoint=tmp_path / "run.h5", **options)
    assert tiled.settings["tile"] == 32
    assert "tile" not in whole.settings
    assert tiled.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-6)
    assert tiled.image == pytest.approx(whole.image, abs=1e-4)


@pytest.mark.slow
def test_a_run_in_tiles_goes_on_in_the_same_tiles(tiny_vgg, picture, tmp_path):
    vgg, kept = tiny_vgg(dtype="float32"), tmp_path / "run.h5"
    given = (picture(70, 90, 1), [(picture(60, 80, 2), 1.0, np.eye(70, 90)), (picture(50, 50, 3), 1.0)])
    options = {"vgg": vgg, "size": 70, "scales": (36,)}
    once = ns.transfer(*given, tile=32, memory_pairs=4, iterations=5, **options)

    def interrupt(step):
        if step.iteration == 8:
            raise KeyboardInterrupt

    left = ns.transfer(*given, tile=32, memory_pairs=4, iterations=5, checkpoint=kept, callback=interrupt, **options)
    assert left.interrupted
    resumed = ns.transfer(*given, resume=kept, **options)
    assert resumed.settings["tile"] == 32
    assert resumed.settings["memory_pairs"] == 4
    assert [line["loss"] for line in resumed.history] == [line["loss"] for line in once.history]
    assert np.array_equal(resumed.image, once.image)
    with pytest.warns(UserWarning, match="the run had tile 32: it goes on, but not to the same last digits"):
        ns.transfer(*given, resume=kept, tile="off", **options)


def test_a_seamless_texture_is_tiled(tiny_vgg, picture):
    options = {"vgg": tiny_vgg(), "size": (96, 112), "scales": (), "iterations": 3, "seamless": "both"}
    options["style_layers"] = LAYERS[:2]
    whole, tiled = (ns.texture(picture(60, 80, 2), tile=tile, **options) for tile in ("off", 32))
    assert tiled.settings["tile"] == 32
    assert tiled.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-9)


def test_layers_of_the_grid_are_those_of_the_network(networks):
    vgg = networks["vgg16", "avg"]
    grid = Grid((80, 64), 32, "vgg16", LAYERS, ("zero", "zero"))
    for name in LAYERS:
        stride = minimum_size("vgg16", [name])
        owned = sum(
            (rows.stop - rows.start) * (columns.stop - columns.start)
            for rows, columns in (tile.owned(stride) for tile in grid.tiles)
        )
        height, width, _ = layer_shape("vgg16", vgg.filters, name, (80, 64))
        assert owned == height * width


def test_a_picture_too_large_for_a_gpu_stays_on_the_host(tiny_vgg, stand_in, picture, tmp_path):
    given, seen, kept = (picture(75, 90, 1), picture(60, 80, 2)), [], tmp_path / "run.h5"
    options = {"vgg": tiny_vgg(stand_in), "size": 90, "scales": (48,), "tile": 48}
    once = ns.transfer(*given, iterations=2, callback=lambda step: seen.append(type(step.x)), **options)
    assert [kind is np.ndarray for kind in seen] == [False] * 3 + [True] * 3  # the first scale is no larger than a tile
    ns.transfer(*given, iterations=1, checkpoint=kept, **options)
    resumed = ns.transfer(*given, iterations=(1, 2), resume=kept, **options)
    assert resumed.history[-1]["loss"] < resumed.history[-2]["loss"]
    on_host = ns.transfer(*given, iterations=2, **options | {"vgg": tiny_vgg()})
    assert once.history[-1]["loss"] == pytest.approx(on_host.history[-1]["loss"], rel=1e-9)


def test_the_masks_follow_the_pictures_size(networks):
    vgg, rng = networks["vgg19", "avg"], np.random.default_rng(0)
    mask = np.linspace(0, 1, 30)[:, None] * np.ones((1, 40))
    style = [(rng.random((60, 50, 3)), 1.0, mask), (rng.random((40, 70, 3)), 1.0, 1 - mask)]
    whole, tiled = Objective(vgg, style=style, beta=1e3), TiledObjective(vgg, tile=32, style=style, beta=1e3)
    for shape in ((80, 96, 3), (96, 80, 3), (80, 96, 3)):
        x = rng.random(shape)
        assert furthest(whole.evaluate(x), tiled.evaluate(x)) < 1e-12


def test_what_wraps_is_not_cut_where_pooling_windows_would_not_be_the_same():
    border = ("wrap", "wrap")
    assert len(Grid((1024, 528), 128, "vgg16", ["pool5"], border).tiles) == 8  # 528 is no multiple of 32
    assert len(Grid((1024, 512), 128, "vgg16", ["pool5"], border).tiles) == 32


def test_what_the_tiles_see_is_known_without_a_grid():
    for length, tile in itertools.product((100, 203, 1000, 4096), (32, 96, 512)):
        grid = Grid((length, 16), tile, "vgg19", ["conv5_1"], ("zero", "zero"))
        seen = [part.shape[0] for part in grid.tiles]
        largest, times = window(length, tile, "vgg19", ["conv5_1"])
        assert largest >= max(seen)
        assert times * largest == pytest.approx(sum(seen), rel=1e-12)
    assert window(10**30, 512, "vgg19", ["conv5_1"]) == (512 + 160, pytest.approx(10**30 / 512, rel=1e-12))
