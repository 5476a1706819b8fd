"""The sheet of a blend: its pictures in the order of their shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .contact import GAP, Column, Part, Row, Shown, Text, draw_sheet, headed, shown_size

_ACROSS, _SMALL = 4, 120  # pictures in a row; long side of the small ones beside the title


def blend_sheet(
    title: str, settings: str, given: Sequence[np.ndarray], pictures: Sequence[np.ndarray], labels: Sequence[str]
) -> Image.Image:
    """Title and settings, with what was given at their left; below, the pictures and what each is called.

    Parameters
    ----------
    given, pictures : sequences of arrays ``(H, W, 3)``, uint8
    labels : sequence of str
        One for each of the pictures.
    """
    size = shown_size(pictures[0].shape)
    shown: list[Part] = [
        Column([Shown(picture, size), Text(label, size[0])]) for picture, label in zip(pictures, labels, strict=True)
    ]
    rows = [Row(shown[k : k + _ACROSS]) for k in range(0, len(shown), _ACROSS)]
    small = [Shown(picture, shown_size(picture.shape, _SMALL, _SMALL)) for picture in given]
    width = max(*(row.width for row in rows), sum(picture.width + GAP for picture in small) + 400)
    return draw_sheet(Column([headed(title, settings, small, width), *rows], 2 * GAP)).image
