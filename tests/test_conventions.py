"""The losses' normalisations: each convention against its formula, and what "relative" promises."""

from dataclasses import replace

import numpy as np
import pytest

from nsnumpy import Objective, check_gradient, write_weights
from nsnumpy.backend import to_host
from nsnumpy.conventions import CONVENTIONS
from nsnumpy.losses import gram_matrix
from nsnumpy.weights import WeightFile, load_vgg

LAYERS = {"content_layers": {"conv2_2": 0.7}, "style_layers": {"conv1_1": 0.3, "conv3_1": 2.0}}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_each_term_is_its_formula(tiny_vgg, picture, xp, convention):
    vgg = tiny_vgg(xp)
    p, a, x = picture(17, 23), picture(26, 19, 1), picture(17, 23, 2)
    objective = Objective(vgg, content=p, style=a, alpha=3.0, beta=5.0, tv=7.0, convention=convention, **LAYERS)
    objective(x)
    names = ["conv1_1", "conv2_2", "conv3_1"]
    P, A, F = (
        {name: to_host(features) for name, features in vgg.forward(xp.asarray(image), names)[0].items()}
        for image in (p, a, x)
    )
    residual = F["conv2_2"] - P["conv2_2"]
    content = {
        "paper": (residual**2).sum() / 2,
        "relative": (residual**2).mean() / (P["conv2_2"] ** 2).mean(),
    }[convention]
    assert objective.terms["content/conv2_2"] == pytest.approx(3 * 0.7 * content, rel=1e-12)
    for name, w in LAYERS["style_layers"].items():
        (height, width, N), (other_height, other_width, _) = F[name].shape, A[name].shape
        M, other = height * width, other_height * other_width
        G, target = gram_matrix(F[name]) / M, gram_matrix(A[name]) / other
        style = {
            "paper": (((G - target) * M) ** 2).sum() / (4 * N**2 * M**2),
            "relative": ((G - target) ** 2).mean() / (target**2).mean(),
        }[convention]
        assert objective.terms[f"style/{name}"] == pytest.approx(5 * w * style, rel=1e-12)
    d = [np.diff(x, axis=axis).ravel() for axis in (0, 1)]
    squares = np.concatenate(d) ** 2
    assert objective.terms["tv"] == pytest.approx(7 * {"paper": squares.sum(), "relative": squares.mean()}[convention])


@pytest.mark.parametrize("heavy", ["alpha", "beta", "tv"])
def test_the_gradient_is_that_of_the_normalised_loss(tiny_vgg, picture, xp, heavy):
    """Each term by itself, or nearly: an error of 0.1 % in one must not hide behind the others."""
    p, a, x = picture(17, 16), picture(20, 18, 1), picture(17, 16, 2)
    weights = {"alpha": 1e-6, "beta": 1e-6, "tv": 1e-6} | {heavy: 1.0}
    objective = Objective(tiny_vgg(xp), content=p, style=a, convention="relative", **weights, **LAYERS)
    assert check_gradient(objective, xp.asarray(x), step=3e-7, tolerance=1e-4) < 1e-4


def test_relative_losses_do_not_depend_on_the_scale_of_the_filters(tmp_path, picture):
    """A network whose features are 40 times as large says the same; in the paper's sums the style says 40^4."""
    rng = np.random.default_rng(0)
    layers = {"conv1_1": (3, 8), "conv1_2": (8, 8), "conv2_1": (8, 8), "conv2_2": (8, 8)}
    weights = {
        name: (0.3 * rng.standard_normal((3, 3, *shape)), 0.1 * rng.standard_normal(shape[1]))
        for name, shape in layers.items()
    }
    file = WeightFile(weights)
    weight, bias = weights["conv1_1"]
    larger = {name: (w, b if name == "conv1_1" else 40 * b) for name, (w, b) in weights.items()}
    write_weights(tmp_path / "a.h5", file, "float64")
    write_weights(tmp_path / "b.h5", replace(file, weights=larger | {"conv1_1": (40 * weight, 40 * bias)}), "float64")
    p, a, x = picture(20, 24), picture(18, 22, 1), picture(20, 24, 2)
    losses = {}
    for convention in CONVENTIONS:
        for name in ("a.h5", "b.h5"):
            objective = Objective(
                load_vgg(tmp_path / name, dtype="float64"),
                content=p, style=a, convention=convention, content_layers=["conv2_2"], style_layers=["conv1_2"],
            )  # fmt: skip
            objective(x)
            losses[convention, name] = objective.terms
    for term in ("content/conv2_2", "style/conv1_2"):
        assert losses["relative", "b.h5"][term] == pytest.approx(losses["relative", "a.h5"][term], rel=1e-9)
    assert losses["paper", "b.h5"]["style/conv1_2"] == pytest.approx(40**4 * losses["paper", "a.h5"]["style/conv1_2"])


def test_relative_losses_hardly_depend_on_the_size(tiny_vgg, picture):
    p, a, x = picture(32, 40), picture(32, 40, 1), picture(32, 40, 2)
    twice = [np.kron(image, np.ones((2, 2, 1))) for image in (p, a, x)]
    losses = []
    for content, style, image in ((p, a, x), twice):
        objective = Objective(
            tiny_vgg(), content=content, style=style, tv=0, convention="relative",
            content_layers=["conv1_1"], style_layers=["conv1_1"],
        )  # fmt: skip
        objective(image)
        losses.append(objective.terms)
    for term, value in losses[0].items():
        assert 0.4 < losses[1][term] / value < 1.5, term  # the paper's content loss is four times as large


def test_a_black_picture_is_no_unit_but_no_error_either():
    for make in CONVENTIONS.values():
        assert make.content(np.zeros((3, 4, 2))) > 0
        assert make.style(np.zeros((2, 2))) > 0
        assert make.tv((1, 1, 3)) > 0


def test_an_unknown_convention_is_named(tiny_vgg, picture):
    with pytest.raises(ValueError, match="unknown convention 'mean': choose from paper, relative"):
        Objective(tiny_vgg(), content=picture(16, 16), convention="mean")
