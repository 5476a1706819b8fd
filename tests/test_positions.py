"""Regions: masks as weights per position, the terms that have them, and a photograph that is kept elsewhere."""

import numpy as np
import pytest

from nsnumpy import Objective, check_adjoint, check_gradient
from nsnumpy.architecture import layer_shape, minimum_size
from nsnumpy.backend import asarray, to_host
from nsnumpy.losses import STYLE_STATISTICS
from nsnumpy.objective import STYLE_LAYERS
from nsnumpy.positions import Region, Weights, area_mean, check_mask, partition, pooled
from nsnumpy.targets import style_target
from nsnumpy.variable import VARIABLES, Kept


def soft(height, width, seed=0):
    """A smooth mask with ones and zeros in it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    across = (y / height - 0.5) * rng.normal() + (x / width - 0.5) * rng.normal()
    return np.clip(0.5 + 4 * across, 0, 1)


def left(height, width, columns):
    mask = np.zeros((height, width))
    mask[:, :columns] = 1
    return mask


def test_the_area_mean_is_the_mean_over_each_rectangle():
    mask = np.random.default_rng(0).random((7, 5))
    fine = np.kron(mask, np.ones((6, 8)))  # 42 x 40, of which 3 x 4 pixels are 14 x 10 each
    assert area_mean(mask, (3, 4)) == pytest.approx(fine.reshape(3, 14, 4, 10).mean((1, 3)), rel=1e-13)
    assert area_mean(mask, (14, 10)) == pytest.approx(np.kron(mask, np.ones((2, 2))), rel=1e-12)
    assert np.array_equal(area_mean(mask, (7, 5)), mask)
    for shape in ((1, 1), (3, 11), (40, 2)):
        assert area_mean(mask, shape).mean() == pytest.approx(mask.mean(), rel=1e-12)


@pytest.mark.parametrize("shape", [(37, 53), (64, 48), (17, 31)])
@pytest.mark.parametrize("fill", [False, True])
def test_regions_add_up_to_one_at_every_layer(tiny_vgg, shape, fill):
    masks = [area_mean(soft(*size, seed), shape) for seed, size in enumerate([(37, 53), (20, 30), (75, 106)])]
    weights = partition(masks, fill=fill)
    assert (weights >= 0).all()
    assert weights.sum(-1).max() == pytest.approx(1, abs=1e-11)
    if fill:
        assert weights.sum(-1) == pytest.approx(np.ones(shape), abs=1e-11)
    for name in STYLE_LAYERS:
        grid = layer_shape("vgg19", tiny_vgg().filters, name, shape)[:2]
        at_layer = pooled(weights, grid)
        assert at_layer.shape == (*grid, 3)
        side = minimum_size("vgg19", [name])  # of the square of pixels that are pooled into a position
        covered = weights[: side * grid[0], : side * grid[1]].reshape(grid[0], side, grid[1], side, 3)
        assert at_layer == pytest.approx(covered.mean((1, 3)), abs=1e-11)
        if fill:
            assert at_layer.sum(-1) == pytest.approx(np.ones(grid), abs=1e-11)


def test_what_is_nobodys_is_kept_or_the_first_ones():
    nothing, some = np.zeros((2, 3)), np.array([[0, 0.25, 1], [0, 1, 1]])
    assert np.array_equal(partition([some, nothing])[..., 0], some)
    filled = partition([nothing, some], fill=True)
    assert np.array_equal(filled[..., 0], some == 0)
    assert np.array_equal(filled[..., 1], some > 0)
    assert partition([some, some])[..., 1] == pytest.approx(some / np.maximum(2 * some, 1))


def test_weights_know_where_they_are(xp):
    w = asarray(np.array([0, 0, 1, 1, 1, 0.5, 0, 1, 0.25, 0]), xp, "float64")
    everywhere = [(rows, None if w is None else to_host(w).ravel()) for rows, w in Weights(w).within(slice(None), 3)]
    (whole, ones), (part, values) = everywhere
    assert ones is None
    assert to_host(whole).tolist() == [2, 3, 4, 7]
    assert to_host(part).tolist() == [5, 8]
    assert values.tolist() == [0.5, 0.25]
    assert list(Weights(w).within(slice(2, 5), 3)) == [(slice(0, 3), None)]
    assert list(Weights(w).within(slice(0, 2), 3)) == []


OPTIONS = {"beta": 3.0, "content_layers": ["conv3_2"]}


@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
def test_one_region_that_is_everywhere_is_the_plain_objective(tiny_vgg, picture, xp, statistics):
    vgg, p, a, x = tiny_vgg(xp), picture(37, 26), picture(24, 41, 1), xp.asarray(picture(37, 26, 2))
    plain = Objective(vgg, content=p, style=a, style_statistics=statistics, **OPTIONS)
    region = Objective(vgg, content=p, style=[(a, 1.0, np.ones((3, 2)))], style_statistics=statistics, **OPTIONS)
    (loss, gradient), (same, of_region) = plain(x), region(x)
    assert same == pytest.approx(loss, rel=1e-12)
    assert np.linalg.norm(to_host(of_region - gradient)) < 1e-12 * np.linalg.norm(to_host(gradient))
    assert region.terms["style/conv1_1@1"] == pytest.approx(plain.terms["style/conv1_1"], rel=1e-12)
    assert region.gradient_norms["style/conv5_1@1"] == pytest.approx(plain.gradient_norms["style/conv5_1"], rel=1e-10)
    assert sum(region.terms.values()) == same


@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_the_gradient_of_soft_overlapping_regions_is_exact(tiny_vgg, picture, xp, statistics, pooling):
    vgg, x = tiny_vgg(xp, pooling=pooling), xp.asarray(picture(35, 26, 2))
    styles = [
        (picture(24, 30, 1), 0.7, soft(35, 26, 1)),
        (picture(30, 24, 3), 1.0, soft(20, 15, 2), soft(30, 24, 5)),
        (picture(24, 30, 4), 0.3, soft(35, 26, 1)),
        (picture(24, 30, 5), 0.1),
    ]
    objective = Objective(vgg, content=picture(35, 26), style=styles, tv=0.01, style_statistics=statistics, **OPTIONS)
    assert check_gradient(objective, x, step=1e-8) < 1e-6
    names = [name for name in objective.terms if name.startswith("style/conv2_1")]
    assert names == ["style/conv2_1@1", "style/conv2_1@2", "style/conv2_1"]  # two pictures share one

    def wrong(x):
        loss, gradient = objective(x)
        return loss, 1.001 * gradient

    assert check_gradient(wrong, x, step=1e-8) > 5e-4


def test_the_norms_are_those_of_each_regions_gradient(tiny_vgg, picture, xp):
    vgg, x, mask = tiny_vgg(xp), picture(33, 40, 2), soft(33, 40, 1)
    styles = [(picture(24, 41, 1), 1.0, mask), (picture(40, 22, 2), 1.0, 1 - mask)]
    objective = Objective(vgg, style=styles, style_layers=["conv2_1"])
    objective(xp.asarray(x))
    F = to_host(vgg.forward(xp.asarray(x), ["conv2_1"])[0]["conv2_1"])
    F = F.reshape(-1, F.shape[-1])
    for label, (a, _, of) in zip(("1", "2"), styles, strict=True):
        A = to_host(vgg.forward(xp.asarray(a), ["conv2_1"])[0]["conv2_1"]).reshape(-1, F.shape[1])
        w = pooled(of[..., None], (16, 20)).reshape(-1, 1)
        D = (w * F).T @ F / w.sum() - A.T @ A / len(A)
        assert objective.terms[f"style/conv2_1@{label}"] == pytest.approx(
            w.mean() * (D**2).sum() / (4 * F.shape[1] ** 2), rel=1e-11
        )
        norm = np.linalg.norm(w * (F @ D)) / (len(F) * F.shape[1] ** 2)
        assert objective.gradient_norms[f"style/conv2_1@{label}"] == pytest.approx(norm, rel=1e-10)


def test_regions_on_a_device_wait_for_it_no_more_often(stand_in, tiny_vgg, picture):
    vgg, x, mask = tiny_vgg(stand_in), asarray(picture(33, 40, 2), stand_in, "float64"), soft(33, 40, 1)
    styles = [(picture(24, 41, 1), 1.0, mask), (picture(40, 22, 2), 1.0, 1 - mask)]
    objective = Objective(vgg, content=picture(33, 40), style=styles)
    stand_in.transfers.reset()
    objective(x)
    assert (stand_in.transfers.to_host, stand_in.transfers.to_device) == (1, 0)


def test_far_inside_a_region_the_others_style_is_not_felt(tiny_vgg, picture, xp):
    """The Gram matrix of a region knows no other one; only features near the border see both."""
    vgg, x, mask = tiny_vgg(xp), xp.asarray(picture(48, 240, 2)), left(48, 240, 112)

    def gradient(other):
        styles = [(picture(24, 41, 1), 1.0, mask), (other, 1.0, 1 - mask)]
        return to_host(Objective(vgg, style=styles, style_layers=["conv1_1", "conv2_1", "conv3_1"])(x)[1])

    one, two = gradient(picture(40, 22, 3)), gradient(0.3 * picture(40, 22, 4))
    near = 20  # pixels that conv3_1 sees around it
    assert np.array_equal(one[:, : 112 - near], two[:, : 112 - near])
    assert not np.allclose(one[:, 112:], two[:, 112:], rtol=1e-3)


def test_a_region_is_compared_whatever_its_area(tiny_vgg, picture, xp):
    """Of a picture twice side by side, the half has the statistics of the whole but for the seam, a few parts in a
    thousand; so it has half the loss, and the gradient at each of its pixels is as large as that of the whole."""
    vgg, half = tiny_vgg(xp), picture(40, 300, 1)
    x, a = xp.asarray(np.concatenate([half, half], axis=1)), picture(24, 41, 2)
    options = {"style_layers": ["conv1_1"]}
    plain, whole = Objective(vgg, style=a, **options)(x)
    objective = Objective(vgg, style=[(a, 1.0, left(40, 600, 300))], **options)
    loss, of_half = objective(x)
    assert loss == pytest.approx(plain / 2, rel=1e-2)
    difference = np.linalg.norm(to_host(of_half - whole)[:, :290])
    assert difference < 2e-2 * np.linalg.norm(to_host(whole)[:, :290])


def test_two_regions_of_one_style_add_up_to_no_less_than_one(tiny_vgg, picture, xp):
    """The mean of the regions' Gram matrices is the picture's, and a square is convex."""
    vgg, x, a, mask = tiny_vgg(xp), xp.asarray(picture(48, 64, 2)), picture(24, 41, 1), soft(48, 64, 3)
    plain = Objective(vgg, style=a)(x)[0]
    assert Objective(vgg, style=[(a, 1.0, mask), (a, 1.0, 1 - mask)])(x)[0] > plain


def test_a_region_leaves_out_the_layers_where_it_has_no_position(tiny_vgg, picture, xp):
    narrow = left(64, 64, 7)  # 0.44 of a position wide at conv5_1, and four high
    speck = narrow * (np.arange(64) < 7)[:, None]
    strip = narrow[:, ::-1]
    styles = [(picture(24, 41, 1), 1.0, Region("strip", strip)), (picture(24, 41, 2), 1.0, Region("speck", speck))]
    objective = Objective(tiny_vgg(xp), content=picture(64, 64), style=styles, **OPTIONS)
    assert check_gradient(objective, xp.asarray(picture(64, 64, 2)), step=1e-8) < 1e-6
    assert objective.terms["style/conv5_1@strip"] > 0
    assert objective.terms["style/conv4_1@speck"] > 0
    assert objective.terms["style/conv5_1@speck"] == objective.gradient_norms["style/conv5_1@speck"] == 0


def test_images_of_other_shapes_have_the_regions_stretched_over_them(tiny_vgg, picture, xp):
    vgg, a, b, mask = tiny_vgg(xp), picture(24, 41, 1), picture(40, 22, 2), soft(40, 48, 1)
    objective = Objective(vgg, style=[(a, 1.0, mask), (b, 1.0, 1 - mask)])
    for shape in ((40, 48), (20, 24), (40, 48)):
        x = xp.asarray(picture(*shape, 2))
        there = area_mean(mask, shape)
        assert objective(x)[0] == Objective(vgg, style=[(a, 1.0, there), (b, 1.0, 1 - there)])(x)[0]


def test_the_style_of_a_part_of_a_picture_is_that_parts(tiny_vgg, picture):
    vgg, a, b = tiny_vgg(), picture(64, 64, 1), picture(64, 64, 2)
    both = np.concatenate([a, b], axis=1)
    layers = ["conv1_1"]
    parts = style_target(vgg, [(both, 1.0, None, left(64, 128, 64)), (both, 1.0, None, 1 - left(64, 128, 64))], layers)
    for (part, _), whole in zip(parts.pictures, (a, b), strict=True):
        G, expected = part["conv1_1"][0], style_target(vgg, whole, layers).pictures[0][0]["conv1_1"][0]
        assert np.linalg.norm(G - expected) < 0.03 * np.linalg.norm(expected)  # the seam's pixels see the other one
    narrow = style_target(vgg, [(both, 1.0, None, left(64, 128, 1))], ["conv1_1", "conv5_1"])
    assert narrow.pictures[0][0]["conv5_1"] == ()
    objective = Objective(vgg, style=narrow, style_layers=["conv1_1", "conv5_1"])
    assert check_gradient(objective, picture(32, 40, 3), step=1e-8) < 1e-6
    assert objective.terms["style/conv5_1"] == 0 < objective.terms["style/conv1_1"]


@pytest.mark.parametrize("name", VARIABLES)
def test_the_photograph_is_kept_outside(make, xp, name):
    p, x, m = make(7, 5, 3), make(7, 5, 3), abs(make(7, 5))
    m = xp.clip(m, 0, 1) * (make(7, 5) > 0)
    kept = Kept(p, m, VARIABLES[name])
    linear = Kept(0 * p, m, VARIABLES[name])
    assert check_adjoint(linear.picture, linear.adjoint, linear.of_picture(x), make(7, 5, 3) + x) < 1e-13
    outside = to_host(m) == 0
    picture = to_host(kept.picture(kept.of_picture(x)))
    assert outside.any()
    assert np.array_equal(picture[outside], to_host(p)[outside])  # to the last bit
    again = Kept(p, m, VARIABLES["pixels"])
    inside = to_host(m) >= 0.5
    back = to_host(again.picture(again.of_picture(x)))
    assert back[inside] == pytest.approx(to_host(x)[inside], rel=1e-12, abs=1e-12)


def test_what_is_no_mask(tiny_vgg, picture):
    vgg, a = tiny_vgg(), picture(24, 41)
    for mask, wrong in (
        (np.ones((3, 4, 1)), r"a mask \(H, W\) expected; shape \(3, 4, 1\) given"),
        (np.full((3, 4), 255.0), "a mask has values in"),
        (np.full((3, 4), np.nan), "a mask has values in"),
    ):
        with pytest.raises(ValueError, match=wrong):
            check_mask(mask)
        with pytest.raises(ValueError, match=wrong):
            style_target(vgg, [(a, 1.0, mask)], ["conv1_1"])
    twice = [(a, 1.0, Region("sky", np.ones((3, 4)))), (a, 1.0, Region("sky", np.eye(3)))]
    with pytest.raises(ValueError, match="two regions called sky"):
        style_target(vgg, twice, ["conv1_1"])
