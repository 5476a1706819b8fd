"""How the figures are laid out on their sheets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..contact import (
    BAD,
    FAINT,
    GAP,
    GOOD,
    HEADING,
    INK,
    LABEL,
    LEAST,
    Blank,
    Column,
    Part,
    Region,
    Row,
    Sheet,
    Shown,
    Text,
    draw_sheet,
    headed,
    shown_size,
)
from .claims import REFUTED, Claim, FigureCell, set_name

_ROW_LABEL, _SMALL = 110, 120  # width of a row's label; long side of the small pictures beside a title


def content_sheet(
    title: str, settings: str, photo: np.ndarray, region: Region, cells: Sequence[FigureCell], claims: Sequence[Claim]
) -> Sheet:
    """The photograph and its reconstructions; below each, the region enlarged, and its numbers."""
    size = shown_size(photo.shape)
    width = max(LEAST, size[0])
    top, left, height, across = region
    close = (min(width, size[1], size[0]),) * 2
    columns: list[Part] = []
    for label, picture, lines, error in [
        ("photograph", photo, ["above: the frame, enlarged"], ""),
        *((cell.layers[0], cell.image, _content_lines(cell), cell.error) for cell in cells),
    ]:
        if picture is None:
            columns.append(_column(label, _failed(error, width, size[1] + 4 + close[1]), [], width))
            continue
        shown = Shown(picture, size, region if picture is photo else None)
        detail = Shown(picture[top : top + height, left : left + across], close)
        columns.append(_column(label, Column([shown, detail]), lines, width))
    return _sheet(title, settings, Row(columns), claims)


def style_sheet(
    title: str,
    settings: str,
    painting: np.ndarray,
    layers: Sequence[str],
    cells: Sequence[FigureCell],
    claims: Sequence[Claim],
) -> Sheet:
    """The painting and its reconstructions from growing sets of layers; below each, the errors at all layers."""
    size = shown_size(painting.shape)
    made = [shown_size(cell.image.shape) for cell in cells if cell.image is not None]
    width, height = (max(sides) for sides in zip((LEAST, 0), size, *made, strict=True))
    note = ["style error at each layer;", "in grey: layers not in the set"]
    columns = [_column("painting", Column([Shown(painting, size), Blank(width, height - size[1])], 0), note, width)]
    for cell in cells:
        label = set_name(cell.layers)
        if cell.image is None:
            columns.append(_column(label, _failed(cell.error, width, height), [], width))
            continue
        lines = [f"{name}  {_number(cell.numbers['style'][name])}" for name in layers]
        colors = [INK if name in cell.layers else FAINT for name in layers]
        shown = Column([Shown(cell.image, shown_size(cell.image.shape))])
        columns.append(_column(label, shown, lines, width, colors))
    return _sheet(title, settings, Row(columns), claims)


def tradeoff_sheet(
    title: str,
    settings: str,
    pictures: Sequence[np.ndarray],
    rows: Sequence[Sequence[FigureCell]],
    claims: Sequence[Claim],
) -> Sheet:
    """The grid: a row for each set of style layers, alpha / beta growing from left to right."""
    shape = next((cell.image.shape for row in rows for cell in row if cell.image is not None), pictures[0].shape)
    size = shown_size(shape)
    width = max(LEAST, size[0])
    heads = [Text(f"alpha/beta = {_number(cell.ratio)}", width, HEADING) for cell in rows[0]]
    lines: list[Part] = [Row([Text("style layers", _ROW_LABEL, LABEL, FAINT), *heads])]
    for row in rows:
        parts: list[Part] = [Text(set_name(row[0].layers, " ...\n"), _ROW_LABEL, HEADING)]
        for cell in row:
            if cell.image is None:
                parts.append(_failed(cell.error, width, size[1]))
                continue
            numbers = [f"{name} error {_number(cell.numbers[f'{name}_error'])}" for name in ("content", "style")]
            numbers += [f"of {name} {_number(error)}" for name, error in cell.numbers.get("region_errors", {}).items()]
            parts.append(Column([Shown(cell.image, size), Text("\n".join(numbers), width)]))
        lines.append(Row(parts))
    return _sheet(title, settings, Column(lines, GAP), claims, pictures)


def _sheet(
    title: str, settings: str, body: Part, claims: Sequence[Claim], pictures: Sequence[np.ndarray] = ()
) -> Sheet:
    """Title and settings, with small pictures at their left; the body; the claims."""
    small = [Shown(picture, shown_size(picture.shape, _SMALL, _SMALL)) for picture in pictures]
    width = max(body.width, sum(picture.width + GAP for picture in small) + 400)
    parts: list[Part] = [headed(title, settings, small, width), body]
    for claim in claims:
        verdict, color = {True: ("yes", GOOD), False: ("NO", BAD), None: ("cannot be told", BAD)}[claim.holds]
        found = [Text(f"{claim.text}: {verdict}", width, HEADING, color)]
        for series in claim.series:
            numbers = _compared(series.values)
            mark = "" if series.holds else ": NO" if series.holds is False else ": cannot be told"
            found.append(Text(f"{series.where}:  {numbers}{mark}", width, LABEL, INK if series.holds else BAD))
        parts.append(Column(found, 2))
    if False in [claim.holds for claim in claims]:
        parts.append(Text(REFUTED, width, LABEL, FAINT))
    return draw_sheet(Column(parts, 2 * GAP))


def _column(
    label: str, picture: Part, lines: Sequence[str], width: int, colors: Sequence[tuple[int, int, int]] = ()
) -> Part:
    texts = [Text(line, width, LABEL, color) for line, color in zip(lines, colors or [INK] * len(lines), strict=True)]
    return Column([Text(label, width, HEADING), picture, Column(texts, 0), Blank(width)])


def _failed(error: str, width: int, height: int) -> Part:
    """What stands where a picture is missing, at least as high as the picture."""
    text = Text(f"failed: {error}", width, LABEL, BAD)
    return Column([text, Blank(width, max(0, height - text.height))], 0)


def _content_lines(cell: FigureCell) -> list[str]:
    if cell.error:
        return []
    return [f"pixel error {_number(cell.numbers['pixels'])}", f"feature error {_number(cell.numbers['content_error'])}"]


def _compared(values: Sequence[float | None]) -> str:
    """The numbers with what lies between them, 0.1 < 0.3 > 0.2; with as many digits as tell neighbours apart."""
    pairs = [pair for pair in pairwise(values) if None not in pair and pair[0] != pair[1]]
    digits = next((n for n in range(3, 9) if all(_number(a, n) != _number(b, n) for a, b in pairs)), 9)
    text = _number(values[0], digits)
    for before, value in pairwise(values):
        sign = "," if before is None or value is None else " <" if before < value else " >" if before > value else " ="
        text += f"{sign} {_number(value, digits)}"
    return text


def _number(value: float | None, digits: int = 3) -> str:
    return "?" if value is None else f"{value:.{digits}g}".replace("e-0", "e-")
