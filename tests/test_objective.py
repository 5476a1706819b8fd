"""The whole map from pixels to loss: its value from the definitions, its gradient from differences."""

import numpy as np
import pytest
import reference

from nsnumpy import Objective, check_gradient
from nsnumpy.backend import get_xp, to_host
from nsnumpy.losses import style_loss, tv_loss
from nsnumpy.objective import layer_weights

LAYERS = {
    "content_layers": {"conv2_2": 0.7, "conv4_2": 0.3},
    "style_layers": {"conv1_1": 0.5, "conv3_1": 2.0, "conv4_2": 1.0},
}


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_the_loss_is_the_papers(tiny_vgg, picture, xp, pooling):
    vgg = tiny_vgg(xp, pooling=pooling)
    p, a, x = (xp.asarray(image) for image in (picture(37, 26), picture(24, 41, 1), picture(37, 26, 2)))
    objective = Objective(vgg, content=p, style=a, alpha=1e-2, beta=3.0, tv=0.5, **LAYERS)
    loss, _ = objective(x)
    names = [*LAYERS["content_layers"], *LAYERS["style_layers"]]
    F, P, A = (
        {name: to_host(features) for name, features in vgg.forward(image, names)[0].items()} for image in (x, p, a)
    )
    expected = {}
    for name, w in LAYERS["content_layers"].items():
        expected[f"content/{name}"] = 1e-2 * w * 0.5 * ((F[name] - P[name]) ** 2).sum()
    for name, w in LAYERS["style_layers"].items():
        N = F[name].shape[2]
        M, M_a = (f[name].shape[0] * f[name].shape[1] for f in (F, A))
        G, target = reference.gram(F[name]), reference.gram(A[name]) * M / M_a
        expected[f"style/{name}"] = 3.0 * w * ((G - target) ** 2).sum() / (4 * N**2 * M**2)
    expected["tv"] = 0.5 * reference.total_variation(to_host(x))
    assert objective.terms == pytest.approx(expected, rel=1e-10)
    assert loss == sum(objective.terms.values())
    assert objective.evaluations == 1


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("which", [("content",), ("style",), ("content", "style")])
def test_its_gradient_is_exact(tiny_vgg, picture, xp, pooling, which):
    pictures = {"content": picture(19, 23), "style": picture(24, 30, 1)}
    chosen = {name: pictures[name] for name in which}
    objective = Objective(tiny_vgg(xp, pooling=pooling), **chosen, alpha=1e-2, beta=2.0, tv=0.01, **LAYERS)
    assert check_gradient(objective, xp.asarray(picture(19, 23, 2)), step=1e-7) < 1e-6


def test_the_gradient_norms_are_those_of_each_term_at_its_own_layer(tiny_vgg, picture, xp):
    vgg = tiny_vgg(xp)
    p, a, x = (xp.asarray(image) for image in (picture(37, 26), picture(24, 41, 1), picture(37, 26, 2)))
    objective = Objective(vgg, content=p, style=a, alpha=1e-2, beta=3.0, tv=0.5, **LAYERS)
    _, gradient = objective(x)
    names = [*LAYERS["content_layers"], *LAYERS["style_layers"]]
    F, P, A = ({name: to_host(f) for name, f in vgg.forward(image, names)[0].items()} for image in (x, p, a))
    norm = np.linalg.norm
    expected = {f"content/{name}": 1e-2 * w * norm(F[name] - P[name]) for name, w in LAYERS["content_layers"].items()}
    for name, w in LAYERS["style_layers"].items():
        M, M_a = (f[name].shape[0] * f[name].shape[1] for f in (F, A))
        _, of_features = style_loss(F[name], reference.gram(A[name]) * M / M_a)
        expected[f"style/{name}"] = 3.0 * w * norm(of_features)
    expected["tv"] = 0.5 * norm(tv_loss(to_host(x))[1])
    expected["pixels"] = norm(to_host(gradient))
    assert objective.gradient_norms == pytest.approx(expected, rel=1e-9)


def test_a_gradient_without_total_variation_in_the_loss_would_fail(tiny_vgg, picture):
    """Several known tools leave total variation out of the loss that they report; the check tells."""
    objective = Objective(tiny_vgg(), content=picture(19, 23), tv=0.5, **{"content_layers": ["conv2_1"]})

    def as_they_do(x):
        loss, gradient = objective(x)
        return loss - objective.terms["tv"], gradient

    assert check_gradient(as_they_do, picture(19, 23, 2), step=1e-7, tolerance=1) > 1e-3


def test_the_target_reached_is_a_zero_of_loss_and_gradient(tiny_vgg, picture, xp):
    p = xp.asarray(picture(20, 18))
    loss, gradient = Objective(tiny_vgg(xp), content=p, style=p, **LAYERS)(p)
    assert loss < 1e-25
    assert np.abs(to_host(gradient)).max() < 1e-12


def test_gradient_comes_back_as_the_image_was_given(tiny_vgg, picture, xp):
    vgg = tiny_vgg(xp, dtype="float32")
    objective = Objective(vgg, content=picture(16, 18))
    host = picture(16, 18, 1)
    host.flags.writeable = False
    for x in (host, host.astype(np.float32), xp.asarray(host)):
        loss, gradient = objective(x)
        assert isinstance(loss, float)
        assert (gradient.dtype, gradient.shape, get_xp(gradient)) == (x.dtype, x.shape, get_xp(x))


def test_every_backend_follows_numpy_in_float64(tiny_vgg, picture, xp):
    pictures = {"content": picture(33, 40), "style": picture(40, 31, 1)}
    x = picture(33, 40, 2)
    exact, same, rough = (
        Objective(tiny_vgg(space, dtype=dtype), **pictures, tv=1e-3)(x)
        for space, dtype in ((np, "float64"), (xp, "float64"), (xp, "float32"))
    )
    assert same[0] == pytest.approx(exact[0], rel=1e-12)
    assert np.linalg.norm(same[1] - exact[1]) < 1e-11 * np.linalg.norm(exact[1])
    assert rough[0] == pytest.approx(exact[0], rel=1e-5)
    assert np.linalg.norm(rough[1] - exact[1]) < 1e-4 * np.linalg.norm(exact[1])


def test_layers_without_weights_share_one():
    assert layer_weights(["conv1_1", "relu2_1"]) == {"conv1_1": 0.5, "conv2_1": 0.5}
    assert layer_weights({"conv1_1": 3, "conv2_1": None}) == {"conv1_1": 3.0, "conv2_1": 0.5}
    with pytest.raises(ValueError, match="at least one layer"):
        layer_weights([])
    with pytest.raises(ValueError, match="'conv1_1' given"):
        layer_weights("conv1_1")
    for twice in (["conv1_1", "relu1_1"], {"conv1_1": 0.2, "relu1_1": 0.3}):
        with pytest.raises(ValueError, match="each layer once expected; conv1_1, relu1_1 given"):
            layer_weights(twice)


def test_what_cannot_be_an_objective(tiny_vgg, picture):
    vgg, p = tiny_vgg(), picture(32, 32)
    with pytest.raises(ValueError, match="a content picture, a style picture or both"):
        Objective(vgg)
    with pytest.raises(ValueError, match="'mine': choose from paper"):
        Objective(vgg, content=p, convention="mine")
    with pytest.raises(ValueError, match="unknown layer 'conv4_9'"):
        Objective(vgg, content=p, content_layers=["conv4_9"])
    with pytest.raises(ValueError, match=r"style picture: conv5_1: .* H, W >= 16 expected; x.shape=\(15, 32, 3\)"):
        Objective(vgg, style=p[:15])
    with pytest.raises(ValueError, match=r"shape \(32, 32, 3\) expected; x.shape=\(32, 30, 3\)"):
        Objective(vgg, content=p)(p[:, :30])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_loss_that_is_not_finite_is_named(tiny_vgg, picture, xp, bad):
    objective = Objective(tiny_vgg(xp), content=picture(16, 16))
    x = picture(16, 16, 1)
    x[3, 4] = bad
    with pytest.raises(FloatingPointError, match="evaluation 1: the loss is not finite, first in content/conv4_2"):
        objective(x)


def test_terms_are_host_floats(tiny_vgg, picture, xp):
    objective = Objective(tiny_vgg(xp), content=picture(16, 16), style=picture(16, 16, 1), tv=1.0)
    objective(to_host(xp.asarray(picture(16, 16, 2))))
    assert all(type(value) is float for value in objective.terms.values())


def test_a_gradient_that_overflows_alone_is_named(tiny_vgg, picture):
    """In float32 the gradient can overflow while the loss, a float64, is still finite."""
    objective = Objective(tiny_vgg(dtype="float32"), style=picture(16, 16), tv=3e38)
    with pytest.raises(FloatingPointError, match="not finite, first in the gradient: check the weights of the losses"):
        objective(np.indices((16, 16, 3)).sum(axis=0) % 2 * 1.0)  # a checkerboard, whose tv gradient is up to 8
    assert np.isfinite(sum(objective.terms.values()))
