"""Whose colours the result has: what is done to the pictures before the run, and to the result after it.

All take and return pictures ``(H, W, 3)`` float32, RGB in [0, 1], as they are written: with sRGB's curve.

References: [1] Gatys, Bethge, Hertzmann, Shechtman 2016, arXiv:1606.05897. [2] Pitie, Kokaram 2007, The linear
Monge-Kantorovitch linear colour mapping. [3] Ottosson 2020, OKLab. [4] IEC 61966-2-1, sRGB.
"""

from __future__ import annotations

import numpy as np

from ..files.decode import srgb_curve
from ..variable import LUMINANCE

COLORS = ("painting", "photo", "luminance", "swap")
MATCHES = ("transport", "cholesky", "mean")
LEAST = 0.01  # of the greatest eigenvalue: what is less is noise, which is not to be made colour of


def grey(picture: np.ndarray) -> np.ndarray:
    """Its luminance, in three channels."""
    y = picture @ np.array(LUMINANCE, picture.dtype)
    return np.repeat(y[..., None], 3, axis=-1)


def seen_style(style: np.ndarray, photo: np.ndarray, colors: str, match: str) -> np.ndarray:
    """The style picture as the style loss sees it."""
    if colors == "photo":
        return _matched(style, photo, match)
    if colors == "luminance":  # [1], 5: with the photograph's mean and deviation
        y, to = grey(style), grey(photo)
        scale = to.std() / max(float(y.std()), 1e-2)
        return np.clip((y - y.mean()) * scale + to.mean(), 0, 1).astype(np.float32)
    return style


def seen(picture: np.ndarray, colors: str) -> np.ndarray:
    """The photograph, or a result, as the losses see it."""
    return grey(picture) if colors == "luminance" else picture


def finished(result: np.ndarray, photo: np.ndarray, colors: str) -> np.ndarray:
    """The result with the photograph's chroma, where that is asked for."""
    if colors == "luminance":
        return np.clip(result + (photo - grey(photo)), 0, 1).astype(np.float32)
    if colors == "swap":
        lab = _to_oklab(photo)
        lab[..., 0] = _to_oklab(result)[..., 0]
        return _from_oklab(lab)
    return result


def _matched(style: np.ndarray, photo: np.ndarray, match: str) -> np.ndarray:
    """``A (x - mean_style) + mean_photo``, so that mean and covariance are the photograph's ("mean": the mean alone).

    "cholesky" is [1], 4.1, "transport" the map that moves the colours least [2].
    """
    pixels = [picture.reshape(-1, 3).astype(np.float64) for picture in (style, photo)]
    means = [x.mean(axis=0) for x in pixels]
    moved = pixels[0] - means[0]
    if match != "mean":
        S, C = (_covariance(x) for x in pixels)
        if match == "cholesky":
            A = np.linalg.cholesky(C) @ np.linalg.inv(np.linalg.cholesky(S))
        else:
            root = _power(S, 0.5)
            inverse = _power(S, -0.5)
            A = inverse @ _power(root @ C @ root, 0.5) @ inverse
        moved = moved @ A.T
    return np.clip(moved + means[1], 0, 1).astype(np.float32).reshape(style.shape)


def _covariance(pixels: np.ndarray) -> np.ndarray:
    """Its eigenvalues not below `LEAST` of the greatest, nor zero: its inverse is to amplify no noise."""
    values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
    values = np.maximum(values, max(LEAST * values[-1], 1e-6))
    return (vectors * values) @ vectors.T


def _power(S: np.ndarray, exponent: float) -> np.ndarray:
    """Of a symmetric matrix."""
    values, vectors = np.linalg.eigh(S)
    return (vectors * np.maximum(values, 0) ** exponent) @ vectors.T


_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""From linear RGB to cones, and from their cube roots to lightness and two opponent colours [3]."""


def _to_oklab(picture: np.ndarray) -> np.ndarray:
    x = picture.astype(np.float64)
    linear = np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0) + 0.055) / 1.055) ** 2.4)  # [4]
    return np.cbrt(linear @ _LMS.T) @ _LAB.T


def _from_oklab(lab: np.ndarray) -> np.ndarray:
    linear = (lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T
    return srgb_curve(np.clip(linear, 0, 1)).astype(np.float32)
