"""The same objective written once more in PyTorch, whose autograd derives the gradient by itself.

Run as a program it freezes values for `test_frozen.py`: ``python tests/autograd.py`` writes ``tests/frozen.npz``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nn

FROZEN = Path(__file__).with_name("frozen.npz")
CONTENT = {"conv3_1": 0.25, "conv4_2": 0.75}
STYLE = {"conv1_1": 0.2, "conv2_1": 0.2, "conv3_1": 0.2, "conv4_1": 0.2, "conv5_1": 0.2}
ALPHA, BETA, TV = 1e-2, 5.0, 1e-3
MEAN, STD = (0.41, 0.46, 0.48), (0.22, 0.23, 0.24)  # in BGR order


def features(weights, image, pooling, border="constant"):
    """{layer: (N, H, W)} of an image (H, W, 3), through torch's own convolution and pooling."""
    z = (image.flip(-1) - torch.tensor(MEAN, dtype=image.dtype)) / torch.tensor(STD, dtype=image.dtype)
    y = z.permute(2, 0, 1)[None]
    block, found = "1", {}
    for name, (weight, bias) in weights.items():
        if name[4] != block:
            y = nn.avg_pool2d(y, 2) if pooling == "avg" else nn.max_pool2d(y, 2)
            block = name[4]
        y = nn.relu(nn.conv2d(nn.pad(y, (1, 1, 1, 1), border),
                              torch.tensor(weight, dtype=image.dtype).permute(3, 2, 0, 1),
                              torch.tensor(bias, dtype=image.dtype)))  # fmt: skip
        found[name] = y[0]
    return found


def objective(weights, p, a, x, pooling, dtype=torch.float64, border="constant"):
    """(terms, gradient, features of x), as NumPy arrays."""
    p, a, x = (torch.tensor(image, dtype=dtype) for image in (p, a, x))
    x.requires_grad_()
    F, P, A = (features(weights, image, pooling, border) for image in (x, p, a))
    terms = {f"content/{name}": ALPHA * w * 0.5 * ((F[name] - P[name]) ** 2).sum() for name, w in CONTENT.items()}
    for name, w in STYLE.items():
        f, s = F[name].flatten(1), A[name].flatten(1)  # the paper's N x M
        N, M = f.shape
        terms[f"style/{name}"] = BETA * w * ((f @ f.T - s @ s.T * M / s.shape[1]) ** 2).sum() / (4 * N**2 * M**2)
    terms["tv"] = TV * ((x[1:] - x[:-1]).square().sum() + (x[:, 1:] - x[:, :-1]).square().sum())
    sum(terms.values()).backward()
    return (
        {name: float(value.detach()) for name, value in terms.items()},
        x.grad.numpy(),
        {name: f.detach().permute(1, 2, 0).numpy() for name, f in F.items()},
    )


def he_weights(widths, seed, last):
    """He-initialised weights of VGG-19 as far as `last`."""
    rng = np.random.default_rng(seed)
    weights, channels = {}, 3
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1):
        for i in range(1, convolutions + 1):
            n = widths[block - 1]
            weight = rng.standard_normal((3, 3, channels, n)) * np.sqrt(2 / (9 * channels))
            weights[f"conv{block}_{i}"] = weight, 0.1 * rng.standard_normal(n)
            channels = n
            if f"conv{block}_{i}" == last:
                return weights
    return weights


def freeze() -> None:
    weights = he_weights((3, 4, 5, 6, 7), 0, "conv5_1")
    rng = np.random.default_rng(1)
    arrays = {"p": rng.random((37, 26, 3)), "a": rng.random((24, 33, 3)), "x": rng.random((37, 26, 3))}
    for name, (weight, bias) in weights.items():
        arrays |= {f"weights/{name}/weight": weight, f"weights/{name}/bias": bias}
    for pooling in ("avg", "max"):
        terms, gradient, F = objective(weights, arrays["p"], arrays["a"], arrays["x"], pooling)
        arrays |= {f"{pooling}/terms/{name}": np.float64(value) for name, value in terms.items()}
        arrays |= {f"{pooling}/features/{name}": F[name] for name in {**CONTENT, **STYLE}}
        arrays[f"{pooling}/gradient"] = gradient
    np.savez_compressed(FROZEN, **arrays)


if __name__ == "__main__":
    freeze()
