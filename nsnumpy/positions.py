"""Weights per position: what the regions of a picture are to the layers of a network.

A region is a mask ``(H, W)`` over the picture, in [0, 1]: how much each pixel belongs to it. Its weight at a position
of a layer is the mean of the mask over the pixels that are pooled into that position: masks are pooled as the features
are, so that what adds up to one at the pixels does at every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .backend import Array, get_xp, on_host, to_floats, to_host
from .ops.pool import avgpool_forward

CACHED = 1 << 17  # numbers
LEAST = 0.5  # positions: a region with less in a layer is not there


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a picture: its name, and its mask ``(h, w)`` in [0, 1], of any size, which is stretched over it."""

    name: str
    mask: Array = field(repr=False)


def check_mask(mask: Array) -> np.ndarray:
    """The mask on the host; ValueError unless it is ``(h, w)`` with values in [0, 1]."""
    mask = to_host(mask)
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"a mask (H, W) expected; shape {mask.shape} given")
    if not (mask.min() >= 0 and mask.max() <= 1):  # nor NaN
        raise ValueError(f"a mask has values in [0, 1]; these go from {mask.min():g} to {mask.max():g}")
    return mask


def area_mean(mask: Array, shape: tuple[int, int]) -> np.ndarray:
    """A mask ``(h, w)`` at another size, float64: each pixel is the mean over the rectangle that it covers."""
    mask = to_host(mask)
    for axis, size in enumerate(shape):
        mask = _along(np.moveaxis(mask, axis, 0), size)
        mask = np.moveaxis(mask, 0, axis)
    return mask.clip(0, 1)  # rounding may go beyond


def _along(mask: np.ndarray, size: int) -> np.ndarray:
    """The first axis at another length, by the difference of its integral at the borders of the new pixels."""
    if len(mask) == size:
        return mask.astype(np.float64)
    integral = np.zeros((len(mask) + 1, *mask.shape[1:]))
    np.cumsum(mask, axis=0, dtype=np.float64, out=integral[1:])
    borders = np.arange(size + 1) * len(mask) / size
    below = np.minimum(borders.astype(int), len(mask) - 1)
    at_borders = integral[below] + (borders - below)[:, None] * mask[below]
    return (at_borders[1:] - at_borders[:-1]) * size / len(mask)


def partition(masks: Sequence[np.ndarray], *, fill: bool = False) -> np.ndarray:
    """Masks ``(H, W)`` of one size as weights ``(H, W, R)`` that add up to one where they overlap.

    Parameters
    ----------
    masks : sequence of R arrays
    fill : bool
        Whether weights are to add up to one everywhere; pixels of no region become the first one's. Else they add up to
        less where the masks do: there the rest is nobody's.
    """
    weights = np.stack(masks, axis=-1)
    if fill:
        weights[..., 0] += weights.sum(axis=-1) == 0
    total = weights.sum(axis=-1, keepdims=True)
    return (weights / (total if fill else np.maximum(total, 1))).round(12)  # a whole one is 1, not nearly


def pooled(weights: Array, grid: tuple[int, int]) -> Array:
    """Weights ``(H, W, R)`` at a layer with this grid of positions ``(h, w)``."""
    while weights.shape[:2] != tuple(grid):
        if min(weights.shape[:2]) < 2:
            raise ValueError(f"no layer of a picture has {grid} positions")
        weights = avgpool_forward(weights)
    return weights


class Weights:
    """Weights per position, w ``(M,)``, by where they are 1, and where they are neither 0 nor 1.

    Most regions have hard borders, or nearly: so most positions need no product with their weight, or no work at all.

    Attributes
    ----------
    total : float
        The sum of the weights.
    on_device : array ``(M,)``, or None
        The weights as they are, where they are a GPU's.
    """

    def __init__(self, w: Array) -> None:
        xp, w = get_xp(w), w.reshape(-1)
        whole, part = xp.flatnonzero(w == 1), xp.flatnonzero((w != 0) & (w != 1))
        self._size, self.on_device = len(w), None if on_host(w) else w
        (self.total,) = to_floats(w.sum(dtype="float64"))
        self._sets = [(to_host(whole), whole, None), (to_host(part), part, w[part].reshape(-1, 1))]

    def within(self, at: slice, filters: int) -> Iterator[tuple[slice | Array, Array | None]]:
        """Those of a block, `at` of all positions, in pieces that stay in a core's cache with so many filters: which
        rows of the block, and their weights ``(rows, 1)``, None for ones."""
        start, stop, _ = at.indices(self._size)
        for known, rows, w in self._sets:
            first, last = (int(place) for place in known.searchsorted((start, stop)))
            step = max(CACHED // filters, 4 * filters) if on_host(rows) else self._size
            for low in range(first, last, step):
                high = min(low + step, last)
                begin, end = int(known[low]) - start, int(known[high - 1]) + 1 - start
                here = slice(begin, end) if end - begin == high - low else rows[low:high] - start
                yield here, None if w is None else w[low:high]
