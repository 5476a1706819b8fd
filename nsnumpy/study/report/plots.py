"""The figures of a report: curves as SVG, matrices as PNG. Matplotlib draws, without pyplot and its global state."""

from __future__ import annotations

import base64
import io
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...objective import term_parts
from ..shades import matrix_shades, viridis

Line = dict[str, Any]
"""A line of `Result.history`."""

# Colours stand twice, for a light page and for a dark one. A family is a ramp over the layers, shallow to deep.
FAMILIES = {
    "style": (("#4aa3df", "#0b2f66"), ("#c3e2fa", "#3b82c9")),
    "content": (("#ee8a45", "#8a3200"), ("#ffcfa8", "#e06c22")),
    "tv": (("#00845e", "#00845e"), ("#46c79d", "#46c79d")),
}
REGIONS = (
    FAMILIES["style"],
    (("#b07fe0", "#45157f"), ("#e6d5fb", "#9560dc")),
    (("#e0708f", "#7a0f35"), ("#fbcfdc", "#d34a73")),
)
"""Those of the style in each region; a fourth one has the first one's."""
PAGE_COLOURS = {"ink": ("#1d1d1b", "#e9e7e2"), "muted": ("#66645e", "#a3a099"), "rule": ("#dddad2", "#3a3936")}
DASHES = ((), (4.0, 1.6))  # neighbours in a family differ in these, too
_WIDTH, _HEIGHT = 5.2, 3.0  # inches; text of 9 points is readable at a phone's width still
_AXES = (0.13, 0.145, 0.85, 0.765)  # left, bottom, width, height: fractions of the figure
TIMES = "\N{MULTIPLICATION SIGN}"
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
_DECADES = 10  # what is smaller than the largest by more than this is not shown
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Curve:
    """How a quantity is drawn in every plot.

    Attributes
    ----------
    label : str
    variable : str
        The name of its CSS variable.
    colours : (light, dark), "#rrggbb"
    dashes : tuple of floats
        Lengths of dash and gap in units of the width; empty is a solid line.
    width : float
        Of the line, in points.
    """

    label: str
    variable: str
    colours: tuple[str, str]
    dashes: tuple[float, ...] = ()
    width: float = 1.3


@dataclass(frozen=True)
class Graph:
    """A plot: pairs of a curve and its values, one for each line of the history; what stands at the vertical axis; what
    the plot shows, for who cannot see it; and what is said of it."""

    drawn: Sequence[tuple[Curve, Sequence[float]]]
    label: str
    title: str
    caption: str


def curves_of(terms: Sequence[str]) -> dict[str, Curve]:
    """A curve for each of the loss's terms, "content/conv4_2", ..., "style/conv1_1@sky", ..., "tv": one family of
    colours for each loss, and for each region's style."""
    made = {}
    for loss, ramps in FAMILIES.items():
        of_loss = [name for name in terms if term_parts(name)[0] == loss]
        regions = list(dict.fromkeys(term_parts(name)[2] for name in of_loss))
        for number, region in enumerate(regions):
            members = [name for name in of_loss if term_parts(name)[2] == region]
            for n, name in enumerate(members):
                family = ramps if len(regions) == 1 else REGIONS[number % len(REGIONS)]
                light, dark = (_mixed(*ramp, n / max(1, len(members) - 1)) for ramp in family)
                made[name] = Curve(_label(name), f"{loss}-{of_loss.index(name)}", (light, dark), DASHES[n % 2])
    return {name: made[name] for name in terms}


def whole_curve(label: str) -> Curve:
    """The curve of what is no term: the total loss, the whole gradient, the step."""
    return Curve(label, "ink", PAGE_COLOURS["ink"], width=1.8)


def _label(name: str) -> str:
    loss, layer, region = term_parts(name)
    return "total variation" if name == "tv" else f"{loss} {layer}" + (f", {region}" if region else "")


def _mixed(first: str, last: str, t: float) -> str:
    pairs = ((int(first[n : n + 2], 16), int(last[n : n + 2], 16)) for n in (1, 3, 5))
    return "#" + "".join(f"{round((1 - t) * a + t * b):02x}" for a, b in pairs)


def scales(history: Sequence[Line]) -> list[list[Line]]:
    """The history cut at the borders of the scales; each part begins with the scale's own start."""
    return [list(lines) for _, lines in groupby(history, key=lambda line: line["size"])]


def plot(history: Sequence[Line], drawn: Sequence[tuple[Curve, Sequence[float]]], label: str, title: str) -> str:
    """Curves over the iterations, on a logarithmic scale.

    Parameters
    ----------
    history : lines of a `Result`
    drawn : pairs of a curve and its values, one for each line
        What is not positive is left out.
    label : str
        Of the vertical axis.
    title : str
        What the plot shows, for who cannot see it.

    Returns
    -------
    str
        An ``<svg>`` element for a page that defines the colours as CSS variables. A line of class "cursor" in it
        marks an iteration; ``data-left``, ``data-right`` are where the axis begins and ends, ``data-first``,
        ``data-last`` the iterations there.
    """
    with _matplotlib() as matplotlib:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        ends = _plot_in(figure.add_axes(_AXES), history, drawn, label, matplotlib.ticker)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    colours = [(name, light) for name, (light, _) in PAGE_COLOURS.items()]
    colours += [(curve.variable, curve.colours[0]) for curve, _ in drawn if curve.variable != "ink"]
    return _inline(stream.getvalue(), title, colours, ends)


def plots_in_file(path: Path, history: Sequence[Line], graphs: Sequence[Graph], title: str) -> None:
    """Plots below each other as a file, each with its legend; the suffix is one of `PLOT_SUFFIXES`."""
    with _matplotlib() as matplotlib:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        figure = Figure(figsize=(10, 1 + 3.3 * len(graphs)), facecolor="white", layout="constrained")
        figure.suptitle(title, fontsize=12, color=PAGE_COLOURS["ink"][0], ha="left", x=0.01, parse_math=False)
        for axes, graph in zip(figure.subplots(len(graphs), squeeze=False)[:, 0], graphs, strict=True):
            _plot_in(axes, history, graph.drawn, graph.label, matplotlib.ticker)
            keys = [
                Line2D(
                    [], [], color=curve.colours[0], linewidth=curve.width, linestyle=_style(curve), label=curve.label
                )
                for curve, _ in graph.drawn
            ]
            axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, handlelength=2.6)
        figure.savefig(path, dpi=150)


def _plot_in(
    axes: Any, history: Sequence[Line], drawn: Sequence[tuple[Curve, Sequence[float]]], label: str, ticker: Any
) -> tuple[float, float]:
    """Draw curves over the iterations; return the axis's ends."""
    ends = _scale_borders(axes, history)
    _set_vertical(axes, [value for _, values in drawn for value in values], ticker)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=7, integer=True))
    axes.set(xlabel="iteration", ylabel=label)
    for curve, values in drawn:
        _draw(axes, curve, scales(history), values)
    return ends


@contextmanager
def _matplotlib() -> Iterator[Any]:
    """The module, with its own defaults and ours instead of the user's, which are set back afterwards."""
    import matplotlib
    import matplotlib.ticker

    logger = logging.getLogger("matplotlib")  # it tells, for one, that it lists the machine's fonts
    level = logger.level
    logger.setLevel(logging.ERROR)
    ink, muted, rule = (light for light, _ in PAGE_COLOURS.values())
    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(
                {"svg.fonttype": "none", "font.size": 9, "text.color": muted, "axes.edgecolor": muted}
                | {"axes.labelcolor": ink, "xtick.color": muted, "ytick.color": muted, "grid.color": rule}
                | {"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "grid.linewidth": 0.7}
                | {"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "figure.facecolor": "none"}
                | {"axes.facecolor": "none", "ytick.minor.size": 0, "path.simplify_threshold": 0.2}
            )
            yield matplotlib
    finally:
        logger.setLevel(level)


def _scale_borders(axes: Any, history: Sequence[Line]) -> tuple[float, float]:
    """Draw where one scale ends and the next one begins, with their sizes above; return the axis's ends."""
    first, last = history[0]["iteration"], history[-1]["iteration"]
    if first == last:
        first, last = first - 0.5, last + 0.5
    axes.set_xlim(first, last)
    parts = scales(history)
    for n, lines in enumerate(parts):
        begin, end = lines[0]["iteration"], lines[-1]["iteration"]
        if n:
            axes.axvline(begin, color=PAGE_COLOURS["muted"][0], linewidth=0.8, linestyle=(0, (1, 2)))
        if end - begin > 0.08 * (last - first) or len(parts) == 1:
            place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            axes.text((begin + end) / 2, 1.025, f"{lines[0]['size']} px", **place)
    return first, last


def _set_vertical(axes: Any, values: Sequence[float], ticker: Any) -> None:
    """A logarithmic scale around the positive ones of the values."""
    positive = [value for value in values if 0 < value < math.inf]
    if not positive:
        return
    high = max(positive)
    low = max(min(positive), high * 10.0**-_DECADES)
    decades = math.log10(high / low)
    margin = 10 ** max(0.05 * decades, 0.02)
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylim(low / margin, high * margin)
    if decades < 0.8:
        locator = ticker.MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    else:
        locator = ticker.LogLocator(subs=(1,) if decades > 3 else (1, 2, 5), numticks=8)
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))


def number(value: float) -> str:
    """Three digits or so, and powers of ten as one writes them: "0.25", "3 x 10⁻⁷"."""
    if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:{'.0f' if abs(value) >= 1000 else '.3g'}}".replace("-", "\N{MINUS SIGN}")
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "\N{MINUS SIGN}")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa} {TIMES} {power}"


def _draw(axes: Any, curve: Curve, parts: Sequence[Sequence[Line]], values: Sequence[float]) -> None:
    """One line for each scale: the values of two scales are not the same quantity's."""
    begin = 0
    for lines in parts:
        at = [line["iteration"] for line in lines]
        shown = [value if value > 0 else math.nan for value in values[begin : begin + len(lines)]]
        alone = sum(map(math.isfinite, shown)) == 1  # a line through one point would not be seen
        marker = "o" if alone else None
        color, width, style = curve.colours[0], curve.width, _style(curve)
        axes.plot(at, shown, color=color, linewidth=width, linestyle=style, marker=marker, ms=3)
        begin += len(lines)


def _style(curve: Curve) -> Any:
    return (0, curve.dashes) if curve.dashes else "-"


def _inline(svg: str, title: str, colours: Sequence[tuple[str, str]], ends: tuple[float, float]) -> str:
    """Matplotlib's file as a part of a page: no name twice, no declarations, colours that the page decides."""
    svg = re.sub(r"\s*\n\s*", " ", svg[svg.index("<g ") : svg.rindex("</svg>")])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg)
    used = set(re.findall(r'#([^")\s]+)["\)]', svg))
    prefix = re.sub(r"\W+", "-", title.lower())

    def renamed(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', renamed, svg)
    svg = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{prefix}-", svg)
    for name, light in colours:
        svg = svg.replace(f": {light}", f": var(--{name})")
    width, height = 72 * _WIDTH, 72 * _HEIGHT
    left, bottom, across, up = _AXES
    top = f"{height * (1 - bottom - up):.1f}"
    place = f'data-left="{width * left:.2f}" data-right="{width * (left + across):.2f}"'
    return (
        f'<svg class="plot" role="img" aria-label="{title}" viewBox="0 0 {width:g} {height:g}" {place} '
        f'data-first="{ends[0]:g}" data-last="{ends[1]:g}">{svg}'
        f'<path class="cursor" d="M0 {top}V{height * (1 - bottom):.1f}"/></svg>'
    )


def matrix_png(values: np.ndarray, limit: float) -> bytes:
    """A matrix that is nowhere negative as a picture, a pixel for each element.

    Parameters
    ----------
    values : array ``(N, N)``
    limit : float, above 0
        The value of the last colour; `matrix_shades` and `matrix_ticks` have the scale.
    """
    return _png(matrix_shades(values, limit), viridis())


def difference_png(values: np.ndarray, limit: float) -> bytes:
    """As `matrix_png`, for values from -limit to limit, in colours that diverge around zero and are linear in the
    square root of the magnitude."""
    return _png((np.sign(values) * np.sqrt(np.abs(values) / limit) + 1) / 2, _diverging())


def difference_ticks(limit: float) -> list[float]:
    """Values at equal distances along its colours, as `matrix_ticks`."""
    return [-limit, -limit / 4, 0.0, limit / 4, limit]


def bar_png(signed: bool = False) -> bytes:
    """The colours of `matrix_png`, or of `difference_png`, from the first to the last, one pixel high."""
    return _png(np.linspace(0, 1, 256)[None], _diverging() if signed else viridis())


def _diverging() -> np.ndarray:
    """From blue by white to red: ``(256, 3)``, uint8."""
    import matplotlib

    return (matplotlib.colormaps["RdBu_r"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _png(shades: np.ndarray, palette: np.ndarray) -> bytes:
    """Shades from 0 to 1 in the colours of a palette ``(256, 3)``, uint8."""
    image = Image.fromarray(np.rint(255 * shades).clip(0, 255).astype(np.uint8))
    image.putpalette(palette.tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as an address; `kind` is a media type, "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def colour_variables(curves: Mapping[str, Curve]) -> tuple[str, str]:
    """CSS that defines every colour, for a light page and for a dark one."""
    named = PAGE_COLOURS | {curve.variable: curve.colours for curve in curves.values()}
    light, dark = ("".join(f"--{name}:{pair[n]};" for name, pair in named.items()) for n in (0, 1))
    return light, dark
