"""The section of a report on the style: what its loss compares at each layer."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...run.inputs import style_names
from ..shades import matrix_ticks
from .plots import bar_png, data_uri, difference_png, difference_ticks, matrix_png, number


@dataclass(frozen=True)
class Matrices:
    """What a layer's style loss compares, per position: Gram matrices, or covariances.

    Attributes
    ----------
    layer : str
    style, result : arrays ``(N, N)``, float64
        A / M_a and G / M; of several style pictures, the mean by their weights.
    region : str
        Where they are compared; empty for the whole picture.
    """

    layer: str
    style: np.ndarray
    result: np.ndarray
    region: str = ""

    @property
    def error(self) -> float:
        """``|result - style| / |style|``, Frobenius norms."""
        return float(np.linalg.norm(self.result - self.style) / (np.linalg.norm(self.style) or 1.0))


@dataclass(frozen=True)
class _About:
    """What the page says of the statistics that a style is known by, but for their numbers."""

    title: str = "Gram matrices"
    name: str = "Gram matrix"
    element: str = (
        "the mean over all positions of the product of filters <var>i</var> and <var>j</var>: which features occur "
        "together, wherever they are"
    )
    more: str = ""
    style: str = "A / M\N{LATIN SUBSCRIPT SMALL LETTER A}"
    result: str = "G / M"
    scale: str = "logarithmic; all that is smaller than its first value has the first colour"
    signed: bool = False


_ABOUT = {
    "gram": _About(),
    "gram+moments": _About(more=", and of each filter's mean and deviation, which are not shown"),
    "covariance": _About(
        "covariances",
        "Covariance",
        "the covariance of filters <var>i</var> and <var>j</var> over all positions: which features vary together",
        style="C\N{LATIN SUBSCRIPT SMALL LETTER A} / M\N{LATIN SUBSCRIPT SMALL LETTER A}",
        result="C / M",
        scale="linear in the square root, with white at zero",
        signed=True,
    ),
}


_OTHER = _About(
    "what is compared",
    "Matrix",
    "the one of filters <var>i</var> and <var>j</var> in the first of the statistics",
    more=", and of the other statistics, which are not shown",
    style="of the style",
    result="of the result",
    scale="linear in the square root, with white at zero",
    signed=True,
)
"""Of statistics that nothing is said of above: a new term needs no change here."""


def style_section(settings: Mapping[str, Any], shown: Sequence[Matrices]) -> str:
    """The matrices of each style layer as HTML, or nothing if there are none."""
    if not shown:
        return ""
    weights, names, regions = settings["style_layers"], style_names(settings), settings.get("style_regions", {})
    several = len(names) > len({regions.get(name) for name in names})
    about = _ABOUT.get(settings["style_statistics"], _OTHER)
    parts = "".join(_layer(matrices, weights[matrices.layer], about) for matrices in shown)
    mean = " The style's is the mean of the pictures', by their weights, which has the least loss." if several else ""
    return f"""<section>
<h2>The style: {about.title}</h2>
<p>Element <var>i</var>, <var>j</var> is {about.element}. The style loss is the squared difference of the two
matrices{about.more}.{mean} Both have one scale of colours, {about.scale}.
The difference has a scale of its own, linear in the square root: red where the result has too much of a pair, blue
where it has too little.</p>
{parts}
</section>"""


def _layer(matrices: Matrices, weight: float, about: _About) -> str:
    order = np.argsort(-np.diag(matrices.style), kind="stable")
    style, result = (matrix[np.ix_(order, order)] for matrix in (matrices.style, matrices.result))
    residual = result - style
    limit = float(max(np.abs(style).max(), np.abs(result).max())) or 1.0
    most = float(np.abs(residual).max()) or 1.0
    layer = html.escape(f"{matrices.layer}, {matrices.region}" if matrices.region else matrices.layer)
    png, ticks = (difference_png, difference_ticks) if about.signed else (matrix_png, matrix_ticks)
    target = _matrix(f"style, {about.style}", f"{about.name} of the style at {layer}", png(style, limit))
    made = _matrix(f"result, {about.result}", f"{about.name} of the result at {layer}", png(result, limit))
    difference = _matrix(
        "result \N{MINUS SIGN} style",
        f"{about.name} of the result less that of the style at {layer}",
        difference_png(residual, most),
    )
    return f"""<h3>{layer}</h3>
<figure><div class="gram">
<div class="pair">{target}{made}{_bar(ticks(limit), bar_png(about.signed))}</div>
<div class="difference">{difference}{_bar(difference_ticks(most), bar_png(signed=True))}</div>
</div>
<figcaption>{layer}, weight {weight:g}: relative error {100 * matrices.error:.3g} %, the norm of the difference over
that of the style's matrix. {len(order)} filters, sorted by their diagonal in the style's matrix, largest
first.</figcaption>
</figure>"""


def _matrix(title: str, of: str, png: bytes) -> str:
    src = data_uri("image/png", png)
    return f'<div><p>{html.escape(title)}</p><img class="matrix" src="{src}" alt="{of}"></div>'


def _bar(ticks: Sequence[float], png: bytes) -> str:
    labels = "".join(f"<span>{html.escape(number(tick))}</span>" for tick in ticks)
    return f'<div class="bar"><img src="{data_uri("image/png", png)}" alt="Colours"><div>{labels}</div></div>'
