"""The live comparison with PyTorch's autograd, where PyTorch is installed."""

import numpy as np
import pytest

from nsnumpy import VGG, Objective
from nsnumpy.losses import STYLE_STATISTICS, tv_loss
from nsnumpy.ops import conv_backward, conv_backward_weight, conv_forward, maxpool_backward, maxpool_forward
from nsnumpy.study.prove import of_features

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
autograd = pytest.importorskip("autograd")
frozen = pytest.importorskip("test_frozen")


@pytest.fixture(scope="module")
def full_width():
    """VGG-19 of full width with random weights, as far as conv5_1."""
    return autograd.he_weights((64, 128, 256, 512, 512), 0, "conv5_1")


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-3)])
def test_the_whole_objective_on_full_width_vgg_19(full_width, pooling, dtype, tolerance):
    rng = np.random.default_rng(2)
    p, a, x = rng.random((45, 37, 3)), rng.random((38, 51, 3)), rng.random((45, 37, 3))
    terms, expected, _ = autograd.objective(full_width, p, a, x, pooling)
    vgg = VGG(full_width, xp=np, preprocessing=frozen.PREPROCESSING, pooling=pooling, dtype=dtype)
    objective = Objective(vgg, content=p, style=a, **frozen.SETTINGS)
    loss, gradient = objective(x)
    loss_error = abs(loss - sum(terms.values())) / sum(terms.values())
    gradient_error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    print(f"{pooling} {dtype}: loss {loss_error:.1e}, gradient {gradient_error:.1e}")
    assert objective.terms == pytest.approx(terms, rel=tolerance)
    assert loss_error < tolerance
    assert gradient_error < tolerance


@pytest.mark.parametrize(
    ("border", "theirs"), [("replicate", "replicate"), ("reflect", "reflect"), ("wrap", "circular")]
)
def test_the_whole_objective_with_another_border(full_width, border, theirs):
    rng = np.random.default_rng(2)
    p, a, x = rng.random((48, 37, 3)), rng.random((38, 51, 3)), rng.random((48, 37, 3))
    terms, expected, _ = autograd.objective(full_width, p, a, x, "avg", border=theirs)
    vgg = VGG(full_width, xp=np, preprocessing=frozen.PREPROCESSING, dtype="float64", border=border)
    settings = frozen.SETTINGS | {"tv": 0.0}  # theirs does not wrap
    objective = Objective(vgg, content=p, style=a, **settings)
    _, gradient = objective(x)
    gradient += frozen.SETTINGS["tv"] * tv_loss(x)[1]
    assert objective.terms == pytest.approx({name: terms[name] for name in objective.terms}, rel=1e-9)
    assert np.linalg.norm(gradient - expected) < 1e-9 * np.linalg.norm(expected)


def test_the_two_files_speak_of_the_same_objective():
    s = frozen.SETTINGS
    assert (s["alpha"], s["beta"], s["tv"]) == (autograd.ALPHA, autograd.BETA, autograd.TV)
    assert s["content_layers"] == autograd.CONTENT
    assert {name: 1 / len(s["style_layers"]) for name in s["style_layers"]} == autograd.STYLE
    assert (frozen.PREPROCESSING.mean, frozen.PREPROCESSING.std) == (autograd.MEAN, autograd.STD)


def test_the_frozen_values_are_what_autograd_says_today(tmp_path, monkeypatch):
    monkeypatch.setattr(autograd, "FROZEN", tmp_path / "frozen.npz")
    autograd.freeze()
    with (
        np.load(tmp_path / "frozen.npz") as now,
        np.load(frozen.__file__.replace("test_frozen.py", "frozen.npz")) as then,
    ):
        assert set(now) == set(then)
        for name in now:
            assert now[name] == pytest.approx(then[name], rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize(("height", "width"), [(7, 5), (8, 10), (1, 4)])
def test_convolution_and_its_three_gradients(height, width):
    rng = np.random.default_rng(3)
    x, weight, bias = (
        rng.standard_normal((2, height, width, 5)),
        rng.standard_normal((3, 3, 5, 4)),
        rng.standard_normal(4),
    )
    gy = rng.standard_normal((2, height, width, 4))
    tx, tw, tb = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
    ty = torch.nn.functional.conv2d(tx.permute(0, 3, 1, 2), tw.permute(3, 2, 0, 1), tb, padding=1).permute(0, 2, 3, 1)
    ty.backward(torch.tensor(gy))
    assert conv_forward(x, weight, bias) == pytest.approx(ty.detach().numpy(), rel=1e-12, abs=1e-12)
    gweight, gbias = conv_backward_weight(gy, x)
    for got, expected in ((conv_backward(gy, weight), tx.grad), (gweight, tw.grad), (gbias, tb.grad)):
        assert got == pytest.approx(expected.numpy(), rel=1e-11, abs=1e-11)


def test_max_pooling_breaks_ties_as_torch_does():
    x = np.random.default_rng(4).integers(0, 3, (1, 9, 7, 4)).astype(float)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.nn.functional.max_pool2d(tx.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    gy = np.random.default_rng(5).standard_normal(ty.shape)
    ty.backward(torch.tensor(gy))
    y, winner = maxpool_forward(x)
    assert np.array_equal(y, ty.detach().numpy())
    assert np.array_equal(maxpool_backward(gy, winner, x.shape), tx.grad.numpy())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
def test_the_gradients_of_the_style_terms_are_autograds(statistics, weighted):
    rng = np.random.default_rng(4)
    F, a = rng.random((6, 5, 4)), rng.random((12, 4))
    w = rng.random(30) * (rng.random(30) < 0.7) if weighted else np.ones(30)
    kind = STYLE_STATISTICS[statistics]
    target = kind().describe(kind().statistics(a, slice(None)))
    value, gradient = of_features(kind([(target, 1.0)], w if weighted else None))(F)

    f, style, weights = torch.tensor(F.reshape(30, 4), requires_grad=True), torch.tensor(a), torch.tensor(w)[:, None]
    s, N = weights.sum(), 4
    mean, mean_a = (weights * f).sum(0) / s, style.mean(0)
    about, about_a = (mean, mean_a) if statistics == "covariance" else (0, 0)
    G, A = (weights * (f - about)).T @ (f - about), (style - about_a).T @ (style - about_a) / len(a)
    expected = (G - s * A).square().sum() / (4 * N**2 * s**2)
    if statistics == "gram+moments":
        guard, c = 1e-4 * A.trace() / N, A.square().sum() / (4 * N**2 * A.trace())
        deviation = ((weights * (f - mean).square()).sum(0) / s + guard).sqrt()
        deviation_a = ((style - mean_a).square().mean(0) + guard).sqrt()
        expected = expected + c * ((mean - mean_a).square().sum() + (deviation - deviation_a).square().sum())
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-12)
    assert gradient.reshape(30, 4) == pytest.approx(f.grad.numpy(), rel=1e-11, abs=1e-14)
