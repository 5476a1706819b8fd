"""Weights in 8 bits with a scale for each filter: ``weight = q * scale``, q a whole number from -127 to 127.

The scale is ``max |weight| / 127`` of its filter, rounded up to 16 significant bits. So q * scale has 23 bits at most,
which float32 holds exactly, and the filter's greatest weight becomes 127 * scale: who quantises the result finds the
same scale and the same q again. No weight moves by more than half a scale.
"""

from __future__ import annotations

import numpy as np

LEVELS = 127
_BITS = 16  # of a scale; with the 7 of q no more than float32's 24
_LEAST = 2.0**-126  # float32's least normal number: below it scales would lose bits. The scale of a filter of zeros


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q, scale) of a weight ``(3, 3, C_in, C_out)``: int8 of the same shape, and float32 ``(C_out,)``.

    The scale of a filter that is beyond float32 is infinite.
    """
    mantissa, exponent = np.frexp(np.abs(weight).max(axis=(0, 1, 2)).astype(np.float64) / LEVELS)
    scale = np.maximum(np.ldexp(np.ceil(np.ldexp(mantissa, _BITS)), exponent - _BITS), _LEAST)
    with np.errstate(over="ignore"):
        return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def dequantize(q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``q * scale`` in float32, exact for what `quantize` makes."""
    weight = q.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are whoever's who reads them
        weight *= scale
    return weight


def rounded(weight: np.ndarray, dtype: str) -> np.ndarray:
    """What is left of a weight that is stored as `dtype`: "int8", or a float type. What does not fit is infinite."""
    if dtype == "int8":
        return dequantize(*quantize(weight))
    with np.errstate(over="ignore"):
        return weight.astype(dtype)
