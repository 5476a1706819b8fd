"""What a narrow network is worth: pictures that it paints, judged by its teacher."""

from __future__ import annotations

import statistics

import numpy as np

from nsnumpy import VGG, Objective, transfer

from .crops import CHANGED, Crops
from .layers import loss_layers

_PAIRS = 4


def judged_errors(network: VGG, teacher: VGG, crops: Crops, first: int) -> tuple[float, float]:
    """The teacher's style and content errors of pictures that the network paints with the defaults of `transfer`.

    The photographs and paintings are crops, unchanged ones, from number `first` on: those that nothing was fitted to.

    Returns
    -------
    style, content : float
        Medians over the pairs of the losses of the convention "relative", style averaged over its layers: 0 equal, 1 as
        wrong as zeros.
    """
    unchanged = [crops[k] / np.float32(255) for k in range(first, len(crops)) if not k % CHANGED][: 2 * _PAIRS]
    if len(unchanged) < 2:
        raise ValueError(f"{len(crops)} crops: none are left to judge by; take more of them")
    pairs = list(zip(unchanged[::2], unchanged[1::2], strict=False))
    layers = loss_layers(network.layers)
    style, content = [], []
    for p, a in pairs:
        x = transfer(p, a, vgg=network, size=crops.side, **layers).image
        deepest = {"content_layers": layers["content_layers"][-1:], "style_layers": layers["style_layers"]}
        objective = Objective(teacher, content=p, style=a, convention="relative", **deepest)
        objective(x)
        content.append(objective.terms[f"content/{layers['content_layers'][-1]}"])
        style.append(sum(objective.terms.values()) - content[-1])
    return statistics.median(style), statistics.median(content)
