"""What a 3x3 convolution sees beyond a picture's border: a frame one pixel wide, as a linear map of the picture.

    zero        0 0 | a b c ... x y z | 0 0        as VGG was trained
    replicate   a a | a b c ... x y z | z z        the outermost pixel again
    reflect     c b | a b c ... x y z | y x        mirrored about the outermost pixel
    wrap        y z | a b c ... x y z | a b        the other end: the picture is a tile

Rows and columns may differ. The frame's corners are what its rows have there, that is, both at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Array, get_xp

BORDERS = ("zero", "replicate", "reflect", "wrap")
Border = tuple[str, str]
"""Above and below; left and right."""
ZERO: Border = ("zero", "zero")


def outside(border: str, length: int) -> Iterator[tuple[int, int]]:
    """The places -1 and `length` of an axis, each with the place inside that it is a copy of; none where it is zero.

    A single pixel cannot be mirrored: it is replicated.

    >>> list(outside("reflect", 5)), list(outside("wrap", 5)), list(outside("zero", 5))
    ([(-1, 1), (5, 3)], [(-1, 4), (5, 0)], [])
    """
    first, last = {
        "zero": (None, None),
        "replicate": (0, length - 1),
        "reflect": (min(1, length - 1), max(length - 2, 0)),
        "wrap": (length - 1, 0),
    }[border]
    if first is not None and last is not None:
        yield -1, first
        yield length, last


# Linear in x: the backward keeps nothing.
def pad(x: Array, border: Border = ZERO) -> Array:
    """x ``(..., H, W, C)`` with its frame: ``(..., H+2, W+2, C)``."""
    *batch, height, width, channels = x.shape
    padded = get_xp(x).empty((*batch, height + 2, width + 2, channels), x.dtype)
    padded[..., 1:-1, 1:-1, :] = x
    padded[..., :: height + 1, :, :] = 0
    padded[..., :: width + 1, :] = 0
    for place, source in outside(border[1], width):
        padded[..., 1 + place, :] = padded[..., 1 + source, :]
    for place, source in outside(border[0], height):
        padded[..., 1 + place, :, :] = padded[..., 1 + source, :, :]
    return padded


def pad_adjoint(gx: Array, border: Border = ZERO) -> Array:
    """The adjoint of `pad`: gx ``(..., H+2, W+2, C)`` without its frame, which is added to what it is a copy of.

    The frame's copies are added up in gx, which is overwritten.
    """
    for place, source in outside(border[0], gx.shape[-3] - 2):
        gx[..., 1 + source, :, :] += gx[..., 1 + place, :, :]
    for place, source in outside(border[1], gx.shape[-2] - 2):
        gx[..., 1 + source, :] += gx[..., 1 + place, :]
    return get_xp(gx).ascontiguousarray(gx[..., 1:-1, 1:-1, :])
