"""The colours of a matrix that is nowhere negative, and whose elements differ by powers of ten."""

from __future__ import annotations

import math

import numpy as np

# Van der Walt and Smith's "viridis" (CC0): dark to light, as even in a grey print. Every 15th of its 256 colours; what
# lies between two of them is straight to a fiftieth.
_VIRIDIS = (
    "440154 481769 472a7a 433d84 3d4e8a 355e8d 2e6d8e 297b8e 23898e "
    "1f978b 21a585 2eb37c 46c06f 65cb5e 89d548 b0dd2f d8e219 fde725"
)


def viridis() -> np.ndarray:
    """Its colours from the first to the last: ``(256, 3)``, uint8."""
    known = np.array([list(bytes.fromhex(colour)) for colour in _VIRIDIS.split()], np.float64)
    at = np.linspace(0, 255, len(known))
    return np.stack([np.rint(np.interp(np.arange(256), at, channel)) for channel in known.T], axis=-1).astype(np.uint8)


def matrix_shades(values: np.ndarray, limit: float) -> np.ndarray:
    """Values from 0 to `limit` as shades from 0 to 1, linear in the logarithm, so that the many small elements are seen
    beside the few large ones; `matrix_ticks` has the values of the first to the last."""
    least = matrix_ticks(limit)[0]
    return np.log(np.maximum(values, least) / least) / math.log(limit / least)


def matrix_ticks(limit: float) -> list[float]:
    """Values at equal distances along the shades: the first stands for all below it, too."""
    return [limit * 10.0**-n for n in (4, 3, 2, 1, 0)]
