"""The page of a report: its sections as HTML, every text escaped, and the template that they go into."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from ...run.inputs import style_names
from .plots import TIMES, Curve, Graph, Line, colour_variables, curves_of, number, plot, scales, whole_curve
from .style import Matrices, style_section


@dataclass(frozen=True)
class Shown:
    """A picture of the page: its address (a data URI), its caption, and words for who cannot see it."""

    src: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Frame:
    """A picture on the way: as `Shown`, and the line of the history that it belongs to."""

    shown: Shown
    iteration: int


@dataclass(frozen=True)
class Contents:
    """All that a page shows.

    Attributes
    ----------
    title : str
    loss : float
        Of the result.
    settings, history, stopped : as those of a `Result`
        The settings are empty if they are not known, as are the pictures and what is below.
    network, versions : parts of the settings that have tables of their own
    pictures : list of Shown
        Content, style and result, as far as there are such.
    frames : list of Frame
        The last one is the result.
    aspect : (width, height) of the result, or None
    matrices : list of Matrices
    peak_bytes : int, or None
    """

    title: str
    loss: float
    settings: Mapping[str, Any]
    network: Mapping[str, Any]
    versions: Mapping[str, str]
    history: Sequence[Line]
    stopped: str = ""
    pictures: Sequence[Shown] = ()
    frames: Sequence[Frame] = ()
    aspect: tuple[int, int] | None = None
    matrices: Sequence[Matrices] = ()
    peak_bytes: int | None = None


def page(contents: Contents) -> str:
    """The whole page as HTML."""
    curves = curves_of(list(contents.history[0]["terms"]))
    light, dark = colour_variables(curves)
    sections = [
        _pictures(contents),
        _way(contents),
        _losses(contents, curves),
        style_section(contents.settings, contents.matrices),
        _tables(contents),
    ]
    frames = [
        {"src": f.shown.src, "alt": f.shown.alt, "caption": f.shown.caption, "iteration": f.iteration}
        for f in contents.frames
    ]
    template = (resources.files("nsnumpy") / "data" / "report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=_text(contents.title),
        light=light,
        dark=dark,
        summary=_summary(contents),
        sections="\n".join(section for section in sections if section),
        frames=json.dumps(frames).replace("<", "\\u003c"),  # nothing in it can end the script
    )


def title_of(settings: Mapping[str, Any]) -> str:
    """What the run made, in a line."""
    content, style = settings.get("content"), " and ".join(settings[key] for key in style_names(settings))
    if settings["command"] == "texture":
        return f"A texture from {style}"
    if settings["command"] == "reconstruct":
        return f"{content}, from what {settings['layer']} knows of it"
    return f"{content} in the style of {style}"


def result_line(history: Sequence[Line], loss: float) -> Line:
    """The line of the result, whose loss this is, at the last scale."""
    return min(scales(history)[-1], key=lambda line: abs(line["loss"] - loss))


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _summary(contents: Contents) -> str:
    line, last = result_line(contents.history, contents.loss), contents.history[-1]
    sides = [last["size"]] if contents.aspect is None else contents.aspect
    parts = [f"{f' {TIMES} '.join(map(str, sides))} pixels", f"{last['iteration']} iterations"]
    parts += [f"{last['seconds']:.1f} s", f"loss {number(line['loss'])}"]
    made = f'<p class="muted">{_text(", ".join(parts))}</p>'
    return made + (f'\n<p class="note">The run ended early: {_text(contents.stopped)}.</p>' if contents.stopped else "")


def _pictures(contents: Contents) -> str:
    if not contents.pictures:
        return ""
    figures = [
        f'<figure><img src="{_text(p.src)}" alt="{_text(p.alt)}"><figcaption>{_text(p.caption)}</figcaption></figure>'
        for p in contents.pictures
    ]
    return f'<section aria-label="Pictures" class="pictures">{"".join(figures)}</section>'


def _way(contents: Contents) -> str:
    if not (contents.frames and contents.aspect):
        return ""
    width, height = contents.aspect
    last = contents.frames[-1].shown
    size = f"aspect-ratio:{width}/{height};width:min(100%, 40rem, {75 * width / height:.1f}vh)"
    return f"""<section>
<h2>On the way</h2>
<p>The picture after some of the iterations; those of coarse scales are enlarged. The upright line in the plots below
marks the iteration that is shown.</p>
<figure class="way"><img id="frame" src="{_text(last.src)}" alt="{_text(last.alt)}" style="{size}">
<input type="range" id="slider" min="0" max="0" step="1" value="0" aria-label="Picture on the way" hidden>
<figcaption><output id="frame-caption" for="slider">{_text(last.caption)}</output></figcaption></figure>
</section>"""


def graphs_of(history: Sequence[Line], curves: Mapping[str, Curve]) -> list[Graph]:
    """The plots of a run: the loss and its terms, the norms of their gradients, the step."""
    total, pixels, step = whole_curve("total"), whole_curve("whole gradient, to the pixels"), whole_curve("step")
    terms = [(curve, [line["terms"][name] for line in history]) for name, curve in curves.items()]
    norms = [(curve, [line["gradient_norms"][name] for line in history]) for name, curve in curves.items()]
    borders = (
        " Dotted lines are the borders of the scales. Each scale has pictures of its own size to reach, so that its "
        "loss is not that of the scale before, and no line joins them."
        if len(scales(history)) > 1
        else ""
    )
    return [
        Graph(
            [(total, [line["loss"] for line in history]), *terms],
            "loss, weighted",
            "Loss and its terms over the iterations",
            "The loss and what it is the sum of: each term with its weight." + borders,
        ),
        Graph(
            [(pixels, [line["gradient_norms"]["pixels"] for line in history]), *norms],
            "norm of the gradient",
            "Norms of the gradients over the iterations",
            "Euclidean norm of each term's gradient with respect to its layer's features, dL/dF (for total variation, "
            "and for the whole gradient, to the pixels). Layers have features of different size: compare a line with "
            "itself before you compare it with another.",
        ),
        Graph(
            [(step, [line["step"] for line in history])],
            "step length, pixel values 0 to 1",
            "Step length over the iterations",
            "Euclidean length of the step over all pixels and colours; a larger picture has longer steps.",
        ),
    ]


def _losses(contents: Contents, curves: Mapping[str, Curve]) -> str:
    history = contents.history
    figures = [_plot(history, graph) for graph in graphs_of(history, curves)]
    return f"""<section>
<h2>Where the loss comes from</h2>
<p>The loss of the result, and that at the start of its scale, term by term.</p>
{_terms_table(history, curves, contents.loss)}
<div class="plots">{"".join(figures)}</div>
</section>"""


def _plot(history: Sequence[Line], graph: Graph) -> str:
    drawn = graph.drawn
    keys = "".join(f"<li>{_key(curve)}{_text(curve.label)}</li>" for curve, _ in drawn) if len(drawn) > 1 else ""
    legend = f'<ul class="legend">{keys}</ul>' if keys else ""
    svg = plot(history, drawn, graph.label, graph.title)
    return f"<figure>{svg}{legend}<figcaption>{_text(graph.caption)}</figcaption></figure>"


def _key(curve: Curve) -> str:
    width = curve.width * 4 / 3  # points to pixels; dashes are in units of the width
    style = f"stroke:var(--{curve.variable});stroke-width:{width:.2g}"
    if curve.dashes:
        style += ";stroke-dasharray:" + " ".join(f"{dash * width:.3g}" for dash in curve.dashes)
    return f'<svg width="26" height="8" aria-hidden="true"><path d="M0 4H26" style="{style}"/></svg>'


def _terms_table(history: Sequence[Line], curves: Mapping[str, Curve], loss: float) -> str:
    line, start = result_line(history, loss), scales(history)[-1][0]
    rows = []
    for name, curve in curves.items():
        value = line["terms"][name]
        share = value / line["loss"] if line["loss"] else 0.0
        bar = f'<div style="width:{100 * share:.1f}%;background:var(--{curve.variable})"></div>'
        cells = (number(start["terms"][name]), number(value), f"{100 * share:.1f} %")
        rows.append(
            f'<tr><th scope="row">{_text(curve.label)}</th>{"".join(map(_number_cell, cells))}'
            f'<td class="share">{bar}</td></tr>'
        )
    sums = "".join(map(_number_cell, (number(start["loss"]), number(line["loss"]), "")))
    heads = "".join(f'<th scope="col" class="number">{head}</th>' for head in ("at the start", "result", "share"))
    return f"""<div class="scroll"><table>
<thead><tr><th scope="col">term, weighted</th>{heads}<td></td></tr></thead>
<tbody>{"".join(rows)}</tbody>
<tfoot><tr><th scope="row">total</th>{sums}<td></td></tr></tfoot>
</table></div>"""


def _number_cell(text: str) -> str:
    return f'<td class="number">{_text(text)}</td>'


def _tables(contents: Contents) -> str:
    network, versions = contents.network, contents.versions
    rest = {name: value for name, value in contents.settings.items() if name not in {*network, *versions}}
    tables = [("Time and memory", _cost(contents)), ("Network", network), ("Versions", versions)]
    columns = (_table("Settings", rest), "".join(_table(*table) for table in tables))
    shown = "".join(f"<div>{column}</div>" for column in columns if column)
    return f'<section>\n<h2>The run</h2>\n<div class="tables">{shown}</div>\n</section>'


def _cost(contents: Contents) -> dict[str, str]:
    rows, before = {}, 0.0
    for lines in scales(contents.history):
        count, seconds = lines[-1]["iteration"] - lines[0]["iteration"], lines[-1]["seconds"]
        rows[f"at {lines[0]['size']} pixels"] = f"{count} iterations, {seconds - before:.1f} s"
        before = seconds
    rows["together"] = f"{contents.history[-1]['iteration']} iterations, {before:.1f} s"
    if contents.peak_bytes is not None:
        where = " (without the GPU's)" if contents.settings.get("backend") == "cupy" else ""
        rows["peak memory of the process"] = f"{contents.peak_bytes / 1e6:.0f} MB{where}"
    return rows


def _table(title: str, rows: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    body = "".join(f'<tr><th scope="row">{_text(k)}</th><td>{_text(_value(v))}</td></tr>' for k, v in rows.items())
    return f"<h3>{_text(title)}</h3><table><tbody>{body}</tbody></table>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_value(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return (
        {None: "not set", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)
    )
