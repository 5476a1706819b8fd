"""The objective of a picture of any size, tile by tile: the same loss and gradient, in the memory that one tile takes.

What the loss knows of a layer is sums over its positions, so it is computed in two passes. In the first, each tile adds
the sums over the positions that it owns; they are solved once; in the second, each tile is run again, and the gradient
of all that it sees is added to the picture's. A content loss needs no sum for its gradient, and is measured in the
second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..architecture import check_size, layer_shape
from ..backend import Array, asarray, get_xp, to_floats
from ..losses import STYLE_STATISTICS, Gram, LayerTerm, Sums, sum_of_squares, tv_loss
from ..objective import CONTENT_LAYERS, STYLE_LAYERS, Layers, Objective, layer_weights, term_name
from ..ops import Border
from ..positions import Region
from ..targets import ContentTarget, StyleTarget, style_target
from ..vgg import VGG
from .crew import AHEAD, Crew, Part, Sharing, crew_of
from .grid import Grid
from .tile import Asked, added, content_squares, measure_tile, tile_gradient

BAND = 1 << 20  # numbers of the picture, in what is done by bands of rows


@dataclass(frozen=True)
class TiledContent(ContentTarget):
    """A content picture by tiles: how large its features are altogether, and what each tile compares with, which are
    its features or, where they are to take no memory, what it sees of the picture."""

    extents: dict[str, tuple[int, float]]
    of_tiles: list[Any] = field(repr=False)

    def extent(self, name: str) -> tuple[int, float]:
        return self.extents[name]


class TiledObjective(Objective):
    """`Objective`, tile by tile.

    Parameters
    ----------
    vgg : VGG
    tile : int
        How much of either side a tile owns, in pixels; it sees a halo around that. See `Grid`.
    keep : bool
        Whether the content's features are kept; else each evaluation makes them again, as processes of an executor
        always do.
    executor : concurrent.futures.Executor, Cluster, or None
        What runs the tiles; None runs one after the other, here. The numbers are the same for any: what the tiles give
        is added up in their order. Processes of an executor each take as many threads as the network has here.
    ahead : int
        How many tiles an executor has at a time.
    **given
        As for `Objective`. The content is an array, since a target of the whole picture is what one tile's memory does
        not hold.

    Raises
    ------
    ValueError
        As `Objective`, and if tile is less than 1.
    """

    tiled = True

    def __init__(
        self,
        vgg: VGG,
        *,
        tile: int,
        keep: bool = True,
        executor: Sharing | None = None,
        ahead: int = AHEAD,
        content: Array | None = None,
        style: Array | Sequence[Sequence[Any]] | StyleTarget | None = None,
        content_layers: Layers = CONTENT_LAYERS,
        style_layers: Layers = STYLE_LAYERS,
        convention: str = "paper",
        style_statistics: str = "gram",
        **given: Any,
    ) -> None:
        if tile < 1:
            raise ValueError(f"tile is 1 or more pixels, not {tile}")
        self.tile = tile
        self._crew = crew_of(vgg, executor, ahead)
        self._masks: np.ndarray | None = None
        self._masks_of_tiles: list[Part] = []
        of_content = {} if content is None else layer_weights(content_layers, convention)
        of_style = {} if style is None else layer_weights(style_layers, convention)
        self._grid_layers = list(of_content | of_style)
        target = None
        if content is not None:
            check_size(vgg.architecture, vgg.resolve(self._grid_layers), content.shape)
            grid = self._grid(vgg, content.shape)
            target = tiled_content(self._crew, grid, content, vgg.resolve(of_content), keep)
        if style is not None and not isinstance(style, StyleTarget):
            style = style_target(vgg, style, of_style, style_statistics, tiled_sums(tile, self._crew))
        super().__init__(
            vgg,
            content=target,
            style=style,
            content_layers=content_layers,
            style_layers=style_layers,
            convention=convention,
            style_statistics=style_statistics,
            **given,
        )
        self._of_tiles = [] if target is None else target.of_tiles

    def _evaluate(self, x: Array) -> tuple[dict[str, Any], dict[str, Any], Array]:
        check_size(self.vgg.architecture, self._layers, x.shape)
        self._fit(x.shape)
        grid, xp = self._grid(self.vgg, x.shape), get_xp(x)
        asked, solvers = self._asked(grid, x.shape)
        values, squares = (dict.fromkeys(self._labels(), 0.0) for _ in range(2))
        solutions: dict[str, Any] = {}

        def solve(sums: Mapping[str, Sums]) -> None:
            for label, of_term in sums.items():
                term, scale = solvers[label]
                values[label], solutions[label] = term.solve(of_term, scale)

        parts = [Part(x, tile, str(self.vgg.dtype)) for tile in grid.tiles]
        masks = self._of_masks(grid)
        targets = self._of_tiles or [None] * len(parts)
        jobs = ((asked, *of_tile) for of_tile in zip(grid.tiles, parts, masks, strict=True))
        if asked.style:
            solve(added(self._crew.each(measure_tile, jobs)))
        for label in asked.content.values():  # what its gradient needs is no sum
            term, scale = solvers[label]
            solutions[label] = term.solve((0.0,), scale)[1]
        gx = xp.zeros(x.shape, str(self.vgg.dtype))
        of_content: list[dict[str, Sums]] = []
        sent = Part(solutions)
        jobs_back = ((asked, *of_tile, sent) for of_tile in zip(grid.tiles, parts, masks, targets, strict=True))
        for tile, (g, sums, of_tile) in zip(grid.tiles, self._crew.each(tile_gradient, jobs_back), strict=True):
            tile.add(asarray(g, xp, self.vgg.dtype), gx)
            of_content.append(sums)
            for label, square in of_tile.items():
                squares[label] += square
        solve(added(of_content))
        values, squares = (dict(zip(of, to_floats(*of.values()), strict=True)) for of in (values, squares))
        self._add_pixel_terms(x, values, squares, gx)
        squares["pixels"] = sum(to_floats(sum_of_squares(gx[rows].astype("float64")))[0] for rows in _bands(x.shape))
        return values, squares, gx

    def _grid(self, vgg: VGG, shape: Sequence[int]) -> Grid:
        return Grid((shape[0], shape[1]), self.tile, vgg.architecture, vgg.resolve(self._grid_layers), vgg.border)

    def _parts(self, regions: Sequence[Region], shape: tuple[int, int]) -> np.ndarray:
        self._masks, self._masks_of_tiles = super()._parts(regions, shape), []
        return self._masks

    def _of_masks(self, grid: Grid) -> Sequence[Part | None]:
        """Of each tile: they are the same at every evaluation."""
        if self._masks is None:
            return [None] * len(grid.tiles)
        self._masks_of_tiles = self._masks_of_tiles or [Part(self._masks, tile) for tile in grid.tiles]
        return self._masks_of_tiles

    def _weights(self, w: np.ndarray) -> None:
        return None  # the tiles have them

    def _asked(self, grid: Grid, shape: Sequence[int]) -> tuple[Asked, dict[str, tuple[LayerTerm, float]]]:
        """What is asked of the tiles, and each term of the whole picture, by its label, with what it counts."""
        architecture, filters = self.vgg.architecture, self.vgg.filters
        solvers: dict[str, tuple[LayerTerm, float]] = {}
        style: dict[str, list[tuple[str, int | None]]] = {}
        regions = [region for region in self._regions if region is not None]
        numbers = [None if region is None else regions.index(region) for region in self._regions]
        for name in self._layers:
            height, width, _ = layer_shape(architecture, filters, name, shape)
            solvers |= {label: (term, scale) for label, term, scale in self._terms(name, height * width, (*shape,))}
            if name in self._style:
                terms = zip(self._style[name], numbers, strict=True)
                style[name] = [(label, number) for (label, term, _), number in terms if term is not None]
        content = {name: term_name("content", name) for name in self.content_layers}
        return Asked(content, style, self._statistics, grid.border), solvers

    def _add_pixel_terms(self, x: Array, values: dict[str, Any], squares: dict[str, Any], gx: Array) -> None:
        """The total variation, by bands of rows; and the others, of the whole picture."""
        xp, dtype = get_xp(x), self.vgg.dtype
        if self.tv:
            w = self.tv * self._convention.tv(x.shape)
            value = square = 0.0
            for rows in _bands(x.shape):
                of_band, gradient = _band_variation(x, rows, self.vgg.border)
                value, square = value + of_band, square + to_floats(sum_of_squares(gradient))[0]
                gx[rows] += w * gradient.astype(dtype, copy=False)
            values["tv"], squares["tv"] = w * value, w * (w * square)
        for label, (w, term) in self._pixel_terms.items():
            value, gradient = term(asarray(x, self.vgg.xp, dtype))
            value, square = to_floats(value, sum_of_squares(gradient))
            values[label], squares[label] = w * value, w * (w * square)
            gx += w * asarray(gradient, xp, dtype)


def tiled_content(crew: Crew, grid: Grid, picture: Array, layers: Sequence[str], keep: bool) -> TiledContent:
    """Of a content picture ``(H, W, 3)``."""
    vgg, asked = crew.vgg, Asked(dict.fromkeys(layers, ""), {}, "gram", grid.border)
    of_tiles = [crew.target(Part(picture, tile, str(vgg.dtype)), asked, keep) for tile in grid.tiles]
    jobs = ((asked, tile, target) for tile, target in zip(grid.tiles, of_tiles, strict=True))
    squares = dict.fromkeys(layers, 0.0)
    for of_tile in crew.each(content_squares, jobs):
        squares = {name: squares[name] + of_tile[name] for name in layers}
    extents, nothing = {}, {}
    for name in layers:
        shape = layer_shape(vgg.architecture, vgg.filters, name, picture.shape)
        extents[name] = math.prod(shape), squares[name] / math.prod(shape)
        nothing[name] = vgg.xp.empty((0, 0, shape[2]), vgg.dtype)
    return TiledContent(nothing, picture.shape, extents, of_tiles)


def tiled_sums(tile: int, crew: Crew | None = None) -> Callable[..., dict[str, Sums]]:
    """`targets.picture_sums`, tile by tile; the crew is one of the same network, with whatever border. A picture of one
    tile is not worth sending, and is measured here."""

    def sums_of(
        vgg: VGG, picture: Array, layers: Iterable[str], kind: type[Gram], mask: Array | None = None
    ) -> dict[str, Sums]:
        names = vgg.resolve(layers)
        check_size(vgg.architecture, names, picture.shape)
        grid = Grid((picture.shape[0], picture.shape[1]), tile, vgg.architecture, names, vgg.border)
        (statistics,) = (name for name, known in STYLE_STATISTICS.items() if known is kind)
        asked = Asked({}, {name: [(name, None if mask is None else 0)] for name in names}, statistics, grid.border)
        masks = None if mask is None else mask[..., None]
        parts = (
            (Part(picture, each, str(vgg.dtype)), None if masks is None else Part(masks, each)) for each in grid.tiles
        )
        jobs = ((asked, each, *part) for each, part in zip(grid.tiles, parts, strict=True))
        nothing = (0.0,) * 3
        measured_by = Crew(vgg) if crew is None or len(grid.tiles) == 1 else crew
        return dict.fromkeys(names, nothing) | added(measured_by.each(measure_tile, jobs))

    return sums_of


def _bands(shape: Sequence[int]) -> Iterator[slice]:
    rows = max(1, BAND // (shape[1] * shape[2]))
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))


def _band_variation(x: Array, rows: slice, border: Border) -> tuple[float, Array]:
    """`tv_loss` of the whole picture, as far as these rows have part in it: the sum of their differences, each from the
    row above counting as that one's; and the gradient with respect to them."""
    height, wraps, sideways = len(x), border[0] == "wrap", (False, border[1] == "wrap")
    above, below = (range(rows.start - 1, rows.start), range(rows.stop, rows.stop + 1))
    around = [n % height for n in (*above, *range(rows.start, rows.stop), *below) if wraps or 0 <= n < height]
    seen = x[around] if wraps else x[around[0] : around[-1] + 1]
    first = len(around) - (rows.stop - rows.start) - (wraps or rows.stop < height)
    _, gradient = tv_loss(seen, sideways)
    value, _ = tv_loss(seen[first:], sideways)
    if wraps or rows.stop < height:
        value = value - tv_loss(seen[-1:], sideways)[0]  # the row below has its own from side to side
    return to_floats(value)[0], gradient[first : first + rows.stop - rows.start]
