"""Every feature, loss and gradient against values that an independent autograd gave (see autograd.py), frozen."""

from pathlib import Path

import numpy as np
import pytest

from nsnumpy import VGG, Objective, Preprocessing
from nsnumpy.backend import to_host

# The same as in autograd.py, which cannot be imported without PyTorch.
SETTINGS = {
    "alpha": 1e-2,
    "beta": 5.0,
    "tv": 1e-3,
    "content_layers": {"conv3_1": 0.25, "conv4_2": 0.75},
    "style_layers": ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"],
}
PREPROCESSING = Preprocessing("BGR", 1.0, (0.41, 0.46, 0.48), (0.22, 0.23, 0.24))


@pytest.fixture(scope="module")
def frozen():
    with np.load(Path(__file__).with_name("frozen.npz")) as file:
        return dict(file)


def under(frozen, prefix):
    return {name.removeprefix(prefix): array for name, array in frozen.items() if name.startswith(prefix)}


@pytest.fixture
def vgg(frozen, xp):
    layers = dict.fromkeys(name.split("/")[1] for name in frozen if name.startswith("weights/"))
    weights = {name: (frozen[f"weights/{name}/weight"], frozen[f"weights/{name}/bias"]) for name in layers}
    return lambda **options: VGG(weights, xp=xp, preprocessing=PREPROCESSING, **options)


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
def test_features_losses_and_gradient(frozen, vgg, pooling, dtype, tolerance):
    vgg = vgg(pooling=pooling, dtype=dtype)
    objective = Objective(vgg, content=frozen["p"], style=frozen["a"], **SETTINGS)
    _, gradient = objective(frozen["x"])
    terms = under(frozen, f"{pooling}/terms/")
    assert objective.terms.keys() == terms.keys()
    for name, value in terms.items():
        assert objective.terms[name] == pytest.approx(float(value), rel=tolerance), name
    expected = under(frozen, f"{pooling}/features/")
    F, _ = vgg.forward(vgg.xp.asarray(frozen["x"].astype(dtype)), list(expected))
    for name, array in [*expected.items(), ("gradient", frozen[f"{pooling}/gradient"])]:
        got = gradient if name == "gradient" else to_host(F[name])
        assert got.shape == array.shape
        assert np.linalg.norm(got - array) <= tolerance * np.linalg.norm(array), name
