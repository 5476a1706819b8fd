"""Winograd's F(4x4, 3x3): the transforms as tables of numbers, and how its work is cut up into pieces.

The tables are the one definition of the transforms: winograd_tiles.py multiplies with them, winograd_kernels.py makes
the lines of its kernels of them.
"""

from __future__ import annotations

from typing import NamedTuple

# The points of interpolation are 0, 1, -1, 2, -2 and infinity. Column k of A^T holds the powers of point k.
AT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
BT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


class Piece(NamedTuple):
    """The tile rows start ... stop of the pictures first ... last of the batch, without the last one of each."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def pictures(self) -> slice:
        return slice(self.first, self.last)
