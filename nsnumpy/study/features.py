"""What a layer knows of a picture, as a sheet: its features, filter by filter, or their Gram matrix."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..architecture import Network, layer_shape, minimum_size, receptive_field
from ..backend import asarray, to_host
from ..files.decode import srgb_curve
from ..files.images import Picture, Source, fit_size, opened, save_image, to_bytes
from ..files.rows import png_bytes
from ..machine import available_bytes, resident_bytes
from ..run.budget import forward_memory
from ..run.scales import side_for
from ..targets import style_target
from ..vgg import VGG
from .contact import FAINT, GAP, LABEL, Column, Part, Region, Row, Scale, Shown, Text, draw_sheet, headed, shown_size
from .shades import matrix_shades, matrix_ticks, viridis

ORDERS = {"energy": ", the strongest first", "number": ", by their numbers"}
MOST = 64  # filters on a sheet, unless another number is asked for
_TILE, _PHOTO, _MATRIX = 160, 200, 768  # long sides in pixels, about
_LABEL = 112  # least width of a tile with its label
_ACROSS = 8  # tiles in a row


@dataclass(frozen=True)
class LayerSheet:
    """A sheet about a layer's features F of a picture, ``(M, N)``: M positions, N filters.

    Attributes
    ----------
    image : array ``(H, W, 3)``, uint8
    layer : str
    positions : (H, W)
        Of the features.
    filters : list of int
        Those that are shown, in the sheet's order, from 0 as in ``F[..., n]``.
    energies : array ``(N,)``, float64
        The mean of each filter's squares over the positions: the Gram matrix's diagonal, per position.
    limits : (low, high)
        The least and the greatest of the values that are shown.
    """

    image: np.ndarray = field(repr=False)
    layer: str
    positions: tuple[int, int]
    filters: list[int]
    energies: np.ndarray = field(repr=False)
    limits: tuple[float, float]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image, as `save_image`."""
        save_image(path, self.image / 255)

    def _repr_png_(self) -> bytes:
        """The image, for a notebook."""
        return png_bytes(self.image / 255)


def feature_sheet(
    picture: Picture, layer: str, *, vgg: VGG, size: int | None = 512, most: int = MOST, order: str = "energy"
) -> LayerSheet:
    """The features of one layer, a grey tile for each filter: black is 0, white the greatest value of that filter.

    Parameters
    ----------
    picture : path, "sample:NAME", PIL image, or array
    layer : str
    vgg : VGG
    size : int, or None
        The picture's long side in pixels; None is its own.
    most : int
        How many filters are shown; of more, those with the most energy.
    order : "energy", the one with most first, or "number"

    Returns
    -------
    LayerSheet

    Raises
    ------
    ValueError
        If the layer or the order is unknown, `most` is less than 1, or the picture cannot be read or is too small.
    OSError
        If the picture cannot be read.
    MemoryError
        If the features would take more memory than there is.

    Examples
    --------
    >>> import nsnumpy as ns
    >>> sheet = ns.feature_sheet("sample:coast", "conv2_1", vgg=ns.load_vgg(), size=64, most=8)
    >>> sheet.positions, len(sheet.filters), sheet.image.shape[2]
    ((24, 32), 8, 3)
    """
    if most < 1:
        raise ValueError(f"1 filter or more expected; most={most}")
    (layer,) = vgg.resolve([layer])
    source, x = _seen(picture, vgg, layer, size)
    F = to_host(vgg.forward(asarray(x, vgg.xp, vgg.dtype), [layer], keep=False)[0][layer])
    energies = np.einsum("hwn,hwn->n", F, F, dtype=np.float64) / (F.shape[0] * F.shape[1])
    filters = _ordered(energies, order, most)
    size_shown = _tile_size(F.shape)
    cells: list[Part] = []
    limits = math.inf, -math.inf
    for n in filters:
        tile, greatest = F[..., n], float(F[..., n].max())
        limits = min(limits[0], float(tile.min())), max(limits[1], greatest)
        grey = to_bytes(srgb_curve(tile / (greatest or 1)))
        label = Row([Text(f"{n}", 40), Text(_number(greatest), _LABEL - 40, LABEL, FAINT)], 0)
        cells.append(Column([Shown(np.stack([grey] * 3, axis=-1), size_shown), label]))
    rows = [Row(cells[n : n + _ACROSS]) for n in range(0, len(cells), _ACROSS)]
    N = len(energies)
    shown = f"All {N} filters" if len(filters) == N else f"The {len(filters)} of {N} filters with most energy"
    told = (
        f"{shown}{ORDERS[order]}. Below each: its number, and its greatest value, which is white. Black is 0, and "
        "light grows in proportion to the value."
    )
    image = _sheet(f"{layer} of", vgg, layer, source, x, F.shape[:2], told, Column(rows, GAP))
    return LayerSheet(image, layer, F.shape[:2], filters, energies, limits)


def gram_sheet(picture: Picture, layer: str, *, vgg: VGG, size: int | None = 512, order: str = "energy") -> LayerSheet:
    """The Gram matrix of one layer, per position: ``G / M``, what the style loss compares, a square for each pair.

    Colours are linear in the logarithm, from a ten thousandth of the greatest element, or less, to the greatest.

    Parameters and errors as for `feature_sheet`. The energies are its diagonal.
    """
    (layer,) = vgg.resolve([layer])
    source, x = _seen(picture, vgg, layer, size)
    G = to_host(style_target(vgg, x, [layer]).pictures[0][0][layer][0]).astype(np.float64)
    filters = _ordered(np.diag(G), order)
    limit = float(G.max()) or 1.0
    shades = np.rint(255 * matrix_shades(G[np.ix_(filters, filters)], limit)).astype(np.uint8)
    side = len(G) * max(1, _MATRIX // len(G))
    colors = viridis()
    scale = Scale(colors, [_number(tick) for tick in matrix_ticks(limit)], side)
    told = f"G / M, the mean over all positions: {len(G)} x {len(G)} filters{ORDERS[order]}. The scale is logarithmic."
    positions = layer_shape(vgg.architecture, vgg.filters, layer, x.shape)[:2]
    body = Column([Shown(colors[shades], (side, side)), scale], GAP)
    image = _sheet(f"The Gram matrix of {layer} for", vgg, layer, source, x, positions, told, body)
    return LayerSheet(image, layer, positions, filters, np.diag(G), (float(G.min()), float(G.max())))


def _seen(picture: Picture, vgg: VGG, layer: str, size: int | None) -> tuple[Source, np.ndarray]:
    """The picture, and as it is seen; MemoryError if its features would take more than there is."""
    source = opened(picture, None if size is None else 2 * size)
    height, width = shape = fit_size(source.shape, size)
    if min(shape) < (least := vgg.minimum_size([layer])):
        enough = side_for(source.shape, least)
        raise ValueError(f"{layer} needs {least} pixels, and {width} x {height} are given: take size {enough} or more")
    network = Network(vgg.architecture, vgg.filters, vgg.pooling, vgg.dtype.itemsize)
    takes, room = forward_memory(network, layer, shape, vgg.workers.threads), available_bytes()
    if room is not None and takes > room - resident_bytes():
        raise MemoryError(f"{layer} of {width} x {height} pixels would take about {takes / 1e9:.2f} GB")
    return source, source.at(size)


def _number(value: float) -> str:
    return f"{value:.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def _ordered(energies: np.ndarray, order: str, most: int | None = None) -> list[int]:
    """Those filters with most energy, in that order."""
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: choose from {', '.join(ORDERS)}")
    strongest: list[int] = np.argsort(-energies, kind="stable")[:most].tolist()
    return strongest if order == "energy" else sorted(strongest)


def _tile_size(shape: Sequence[int]) -> tuple[int, int]:
    """(width, height) with which features are shown: reduced to the tile, or enlarged by a whole number."""
    height, width = shape[:2]
    long = max(height, width)
    scale = max(1, _TILE // long) if long <= _TILE else _TILE / long
    return max(1, round(scale * width)), max(1, round(scale * height))


def _sheet(
    title: str, vgg: VGG, layer: str, source: Source, x: np.ndarray, positions: tuple[int, int], told: str, body: Part
) -> np.ndarray:
    """Under a head that says what is shown, and how much of the picture one position sees."""
    field, (height, width) = receptive_field(vgg.architecture, layer), x.shape[:2]
    seen = seen_by_the_middle(vgg, layer, (height, width))
    small = Shown(to_bytes(x), shown_size(x.shape, _PHOTO, _PHOTO), seen)
    made = (
        f"{vgg.source}, {vgg.pooling} pooling, border {' and '.join(dict.fromkeys(vgg.border))}; {width} x {height} "
        f"pixels, {positions[1]} x {positions[0]} positions. In yellow: what one position sees, {field} x {field}."
    )
    head = headed(f"{title} {source.name}", f"{made}\n{told}", [small], max(body.width, 700))
    return np.asarray(draw_sheet(Column([head, body], 2 * GAP)).image)


def seen_by_the_middle(vgg: VGG, layer: str, shape: tuple[int, int]) -> Region:
    """What the middle position of a layer sees of a picture (H, W), as far as the picture goes."""
    field, stride = receptive_field(vgg.architecture, layer), minimum_size(vgg.architecture, [layer])
    ends = []
    for side in shape:
        begin = stride * (side // stride // 2) - (field - stride) // 2
        ends.append((max(0, begin), min(side, begin + field)))
    (top, bottom), (left, right) = ends
    return top, left, bottom - top, right - left
