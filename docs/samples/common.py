"""What several of the pictures share besides noise: soft steps, blends of colours, and averaging pixels down."""

from __future__ import annotations

import numpy as np

HEIGHT = 0.75  # of a picture, in widths


def smoothstep(low: float | np.ndarray, high: float | np.ndarray, value: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 at `low` to 1 at `high` (which may be the smaller one)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(first: np.ndarray, second: np.ndarray | list[float], part: np.ndarray) -> np.ndarray:
    """Blend colours (..., 3): `part` (...) of the second."""
    return first + (np.asarray(second) - first) * np.asarray(part)[..., None]


def oversampling(width: int) -> int:
    """How many times finer to draw a picture `width` pixels wide than it is to be: more where it is small.

    At 512 pixels or fewer, the finest marks (bristles, lead) would otherwise be narrower than the samples.
    """
    return max(2, -(-512 // width))


def averaged_down(picture: np.ndarray, factor: int) -> np.ndarray:
    """The picture (rows, columns, 3) with each `factor` x `factor` pixels averaged into one."""
    rows, columns, _ = picture.shape
    blocks = picture.reshape(rows // factor, factor, columns // factor, factor, 3)
    return blocks.mean(axis=(1, 3), dtype=np.float64)
