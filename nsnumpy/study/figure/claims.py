"""What the paper's figures are there to show, as numbers: claims about the cells, which hold or do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FigureCell:
    """One picture of a figure, and what is known of it.

    Attributes
    ----------
    name, file : str
        Its name, and that of its file in the figure's folder.
    layers : tuple of str
        The layer that was reconstructed, or the set of style layers.
    ratio : float, or None
        alpha / beta, in a tradeoff.
    numbers : dict
        "content" and "style": the relative error at each layer that was measured (a dict); "content_error" and
        "style_error": their means over the cell's own layers; "pixels": the root mean square difference from the
        photograph. Each where there is such a picture. "regions": of styles by region, each region's own style error
        at each layer in which it has a position, and "region_errors", their means.
    loss : float
    terms : dict from str to float
        The weighted terms of the loss, at the end.
    iterations : int
    seconds : float
        That it took when it was computed.
    stopped : str
        Empty if every iteration ran; else why not.
    key : str
        A digest of all that determines it.
    settings : dict
        With versions; what `read_settings` finds in its file, too.
    error : str
        Empty; else why there is no picture, and the numbers are missing.
    image : array ``(H, W, 3)``, uint8, or None
    """

    name: str
    file: str
    layers: tuple[str, ...]
    ratio: float | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    loss: float | None = None
    terms: dict[str, float] = field(default_factory=dict)
    iterations: int = 0
    seconds: float = 0.0
    stopped: str = ""
    key: str = ""
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    error: str = ""
    image: np.ndarray | None = field(default=None, repr=False)


REFUTED = (
    "Where a claim does not hold, the optimizer may have stopped too early: try more iterations, or a larger size."
)


@dataclass(frozen=True)
class Series:
    """Numbers that a claim says to rise or to fall; None stands for one that is missing.

    Attributes
    ----------
    where : str
    values : tuple of floats
    rises : bool
    """

    where: str
    values: tuple[float | None, ...]
    rises: bool

    @property
    def holds(self) -> bool | None:
        """Whether each number is above (below) the one before; None if one is missing, or there is but one."""
        known = [value for value in self.values if value is not None]
        if len(known) < max(2, len(self.values)):
            return None
        return all(a < b if self.rises else a > b for a, b in pairwise(known))


@dataclass(frozen=True)
class Claim:
    """What a figure is there to show.

    Attributes
    ----------
    text : str
    series : tuple of Series
    """

    text: str
    series: tuple[Series, ...]

    @property
    def holds(self) -> bool | None:
        """Whether all of its series hold; None if that cannot be told and no series refutes it."""
        verdicts = [series.holds for series in self.series]
        return False if False in verdicts else None if None in verdicts or not verdicts else True

    def record(self) -> dict[str, Any]:
        """All of it; JSON-serialisable."""
        series = [
            {"where": s.where, "values": list(s.values), "should": "rise" if s.rises else "fall", "holds": s.holds}
            for s in self.series
        ]
        return {"claim": self.text, "holds": self.holds, "series": series}


def content_claims(cells: Sequence[FigureCell]) -> list[Claim]:
    """Of reconstructions from one layer each, in the order of their depth."""
    values = _values(cells, lambda cell: cell.numbers["pixels"])
    where = ", ".join(cell.layers[0] for cell in cells)
    return [Claim("The pixel error grows with the layer's depth", (Series(where, values, rises=True),))]


def style_claims(cells: Sequence[FigureCell]) -> list[Claim]:
    """Of reconstructions from growing sets of layers."""

    def fall(before: FigureCell, cell: FigureCell) -> Series:
        added = cell.layers[-1]
        values = _values((before, cell), lambda cell: cell.numbers["style"][added])
        return Series(f"{added} added", values, rises=False)

    series = tuple(fall(before, cell) for before, cell in pairwise(cells))
    return [Claim("The style error at a layer falls when that layer is added to the set", series)]


def tradeoff_claims(rows: Sequence[Sequence[FigureCell]]) -> list[Claim]:
    """Of a grid, each row in the order of growing alpha / beta."""

    def claim(text: str, name: str, rises: bool) -> Claim:
        series = [
            Series(set_name(row[0].layers), _values(row[::-1], lambda cell: cell.numbers[name]), rises) for row in rows
        ]
        return Claim(text, tuple(series))

    return [
        claim("As alpha/beta falls, the content error rises", "content_error", True),
        claim("As alpha/beta falls, the style error falls", "style_error", False),
    ]


def set_name(layers: Sequence[str], joint: str = " ... ") -> str:
    """A set of layers by its first and its last one."""
    return joint.join(dict.fromkeys((layers[0], layers[-1])))


def positional(value: float) -> str:
    """A number without an exponent: 0.00001, not 1e-05, so that names sort by it."""
    return np.format_float_positional(value, trim="-")


def _values(cells: Iterable[FigureCell], number: Callable[[FigureCell], float]) -> tuple[float | None, ...]:
    return tuple(None if cell.error else number(cell) for cell in cells)
