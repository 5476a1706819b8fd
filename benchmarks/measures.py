"""What benchmarks/quality.py measures: patches, edges, and what a judge, a real VGG, sees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

import nsnumpy as ns
from nsnumpy.backend import Array, asarray
from nsnumpy.conventions import convention_of, mean_square
from nsnumpy.losses import Content, Gram, LayerTerm
from nsnumpy.run.settings import USE_CASES
from nsnumpy.targets import ContentTarget, StyleTarget, content_target, measure, style_target
from nsnumpy.vgg import Visit

LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709
EDGE_SCALE, WINDOW = 1.5, 6.0  # of Gaussians, in pixels
FLAT = 1e-12  # a variance of edge strengths that is none: hundreds of times smaller than one step of an 8-bit picture's
CHUNK, ROWS = 16, 32  # directions and rows of patches at a time: 60 MB at 384 pixels
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")  # of the judge, whatever a run's own are
CONTENT_LAYER = "conv4_2"
BORDER = USE_CASES["transfer"].defaults.completed("transfer").border

Pair = tuple[str, str]
"""The names of a photograph and of a painting."""


def patch_distance(
    image: np.ndarray,
    style: np.ndarray,
    *,
    scales: int = 3,
    projections: int = 128,
    patch: int = 7,
    seed: int = 0,
    texture: bool = False,
) -> float:
    """How far the patches of two pictures are from each other: 0 if they have the same ones, wherever they stand.

    The sliced Wasserstein-1 distance between the two sets of all patch x patch x 3 patches: the mean, over random unit
    directions, of the Wasserstein-1 distance of the patches' components along it; that is the area between the two
    quantile functions. The mean over scales, each of half the one before (Rabin et al., *Wasserstein Barycenter and its
    Application to Texture Mixing*, 2011; Karras et al., *Progressive Growing of GANs*, 2018, measures so too).

    Parameters
    ----------
    image, style : arrays ``(H, W, 3)``, RGB in [0, 1]
        Their sizes may differ.
    texture : bool
        Leave out each patch's mean colour. Most of the distance is there: the plain one hardly notices it if a
        picture is blurred, or has the other's colours and none of its brushwork.

    Raises
    ------
    ValueError
        If a picture has another shape, or is smaller than one patch at the last scale.
    """
    image, style = (np.asarray(picture, dtype=np.float32) for picture in (image, style))
    for picture in (image, style):
        if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < patch << (scales - 1):
            raise ValueError(
                f"a picture (H, W, 3) of at least {patch << (scales - 1)} pixels a side expected; {picture.shape} given"
            )
    directions = unit_directions(projections, patch, seed, texture)
    distances = []
    for _ in range(scales):
        distances.append(_sliced_distance(image, style, directions, patch))
        image, style = _halve(image), _halve(style)
    return float(np.mean(distances))


def unit_directions(projections: int, patch: int, seed: int, texture: bool = False) -> np.ndarray:
    """Random unit vectors, one a row, in the space of patches ``(patch, patch, 3)`` laid out as vectors.

    With `texture` they are at right angles to every patch of one colour.
    """
    directions = np.random.default_rng(seed).standard_normal((projections, patch * patch, 3))
    if texture:
        directions -= directions.mean(axis=1, keepdims=True)
    directions = directions.reshape(projections, -1)
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def _sliced_distance(image: np.ndarray, style: np.ndarray, directions: np.ndarray, patch: int) -> float:
    n, m = ((picture.shape[0] - patch + 1) * (picture.shape[1] - patch + 1) for picture in (image, style))
    # The quantile functions of n and of m values are constant between these n m-ths of the way from 0 to 1.
    steps = np.union1d(np.arange(n) * m, np.arange(m) * n)
    lengths = np.diff(steps, append=n * m) / (n * m)
    i, j = steps // m, steps // n
    distances = []
    for k in range(0, len(directions), CHUNK):
        chunk = directions[k : k + CHUNK]
        both = zip(_components(image, chunk, patch), _components(style, chunk, patch), strict=True)
        distances += [np.abs(x[i] - y[j]) @ lengths for x, y in both]
    return float(np.mean(distances))


def _components(image: np.ndarray, directions: np.ndarray, patch: int) -> np.ndarray:
    """The components of all patches along each direction, ``(directions, patches)``, in ascending order."""
    height, width = image.shape[:2]
    windows = sliding_window_view(image.reshape(height, 3 * width), (patch, 3 * patch))[:, ::3]
    stripes = (windows[row : row + ROWS].reshape(-1, directions.shape[1]) for row in range(0, len(windows), ROWS))
    return np.sort(np.concatenate([directions @ stripe.T for stripe in stripes], axis=1), axis=1)


def _halve(image: np.ndarray) -> np.ndarray:
    """Half the size, by the means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 for side in image.shape[:2])
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3))


def edge_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """How alike the edges of two pictures lie: 1 if in the same places, about 0 if they have nothing in common.

    Of each picture's luminance the edge strength e is taken, the length of the gradient after a Gaussian. Around every
    pixel, in a Gaussian window, the two are correlated, r = cov(e_a, e_b) / (s_a s_b) with s their deviations there;
    and the result is the mean of r, weighted with (s_a / mean s_a + s_b / mean s_b) / 2. This is the structure term of
    SSIM (Wang et al., *Image Quality Assessment*, 2004) on edge maps, as in Chen et al., *Gradient-Based Structural
    Similarity* (2006), but for the weights in place of SSIM's constants: what is flat in both pictures does not count,
    an edge that only one of them has counts as 0. Brightness and contrast make no difference, nor does the sign of an
    edge. Two flat pictures are alike.

    Parameters
    ----------
    a, b : arrays ``(H, W, 3)``, RGB in [0, 1], of the same shape

    Raises
    ------
    ValueError
        If the shapes differ or are others.
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
        raise ValueError(f"two pictures (H, W, 3) of the same shape expected; {a.shape} and {b.shape} given")
    x, y = _edges(a), _edges(b)
    mean_x, mean_y = _window(x), _window(y)
    covariance = _window(x * y) - mean_x * mean_y
    deviations = []
    for edges, mean in ((x, mean_x), (y, mean_y)):
        variance = _window(edges**2) - mean**2
        deviations.append(np.sqrt(np.where(variance > FLAT, variance, 0)))
    product = deviations[0] * deviations[1]
    r = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
    weights = sum(s / s.mean() for s in deviations if s.any())
    return float(np.average(r, weights=weights)) if np.any(weights) else 1.0


def _edges(image: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(np.asarray(image, dtype=np.float64) @ LUMINANCE, EDGE_SCALE)
    return np.hypot(*np.gradient(smooth))


def _window(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, WINDOW)


class Judge:
    """How far a result is from its painting and its photograph, as a network sees them that did not make it.

    Style error: the mean over `STYLE_LAYERS` of ``mean R^2 / mean (A / M_a)^2``, with ``R = G / M - A / M_a``; content
    error: ``mean (F - P)^2 / mean P^2`` at `CONTENT_LAYER`. 0: seen as the same; 1: as wrong as zeros would be. These
    are the losses of an `Objective` with convention="relative", without a gradient. Beyond a picture's border it sees
    what a run sees by default, the outermost pixel again.

    Parameters
    ----------
    vgg : VGG
        A real one, to conv5_1 at least.

    Raises
    ------
    ValueError
        If the network ends earlier.
    """

    def __init__(self, vgg: ns.VGG) -> None:
        try:
            vgg.resolve([*STYLE_LAYERS, CONTENT_LAYER])
        except ValueError as error:
            raise ValueError(f"{vgg.source} cannot judge: {error}") from error
        self.vgg = vgg.with_border(BORDER)
        self._relative = convention_of("relative")

    def style(self, painting: Array) -> StyleTarget:
        """The Gram matrix per position, of each style layer; of a picture ``(H, W, 3)``."""
        return style_target(self.vgg, painting, STYLE_LAYERS)

    def content(self, photograph: Array) -> ContentTarget:
        """The features at the content layer; of a picture ``(H, W, 3)``."""
        return content_target(self.vgg, photograph, [CONTENT_LAYER])

    def errors(self, image: Array, style: StyleTarget, content: ContentTarget) -> dict[str, Any]:
        """The errors of a result of the photograph's shape: "style_error", "content_error", and "style_errors", those
        of each layer; `style` and `content` are the painting's and the photograph's, from the methods above."""
        layers: dict[str, float] = {}
        found: dict[str, Any] = {}
        ((grams, _),) = style.pictures

        def visit(name: str, F: Array) -> None:
            if name == CONTENT_LAYER:
                P = content.features[name]
                term: LayerTerm = Content(P, self._relative.content(P.size, mean_square(P)))
            else:
                term = Gram([(grams[name], self._relative.style(grams[name][0]))])
            (sums,) = measure([term], F, self.vgg.workers)
            error = float(term.solve(sums, 1.0)[0])
            if name == CONTENT_LAYER:
                found["content_error"] = error
            else:
                layers[name] = error

        self._see(image, [*STYLE_LAYERS, CONTENT_LAYER], visit)
        return {"style_error": float(np.mean(list(layers.values()))), **found, "style_errors": layers}

    def _see(self, picture: Array, layers: Iterable[str], visit: Visit) -> None:
        self.vgg.forward(asarray(picture, self.vgg.xp, self.vgg.dtype), layers, visit, keep=False)


class Measures:
    """All that is told of a result; what belongs to the two pictures alone is computed once.

    Parameters
    ----------
    pairs : iterable of (name of a photograph, name of a painting)
    p, a : dicts from these names to arrays ``(H, W, 3)``, RGB in [0, 1]
        The photographs, of the size of the results; the paintings.
    judge : Judge, or None

    Raises
    ------
    ValueError
        If a picture is too small, or the two of a pair have the same patches.
    """

    def __init__(
        self, pairs: Iterable[Pair], p: dict[str, np.ndarray], a: dict[str, np.ndarray], judge: Judge | None
    ) -> None:
        self.p, self.a, self.judge = p, a, judge
        self._before = {pair: _distances(p[pair[0]], a[pair[1]]) for pair in pairs}
        if same := [pair for pair, before in self._before.items() if 0 in before.values()]:
            raise ValueError(f"{' and '.join(same[0])} have the same patches: there is nothing to transfer")
        self._content = {name: judge.content(image) for name, image in p.items()} if judge else {}
        self._style = {name: judge.style(image) for name, image in a.items()} if judge else {}

    def of(self, pair: Pair, image: np.ndarray) -> dict[str, Any]:
        """The figures of a result for this pair; the judge's first, if there is one."""
        photograph, painting = pair
        judged = self.judge.errors(image, self._style[painting], self._content[photograph]) if self.judge else {}
        after = _distances(image, self.a[painting])
        ratios = {name: distance / self._before[pair][name] for name, distance in after.items()}
        return {**judged, **ratios, "edges": edge_similarity(image, self.p[photograph])}


def _distances(image: np.ndarray, style: np.ndarray) -> dict[str, float]:
    return {"patches": patch_distance(image, style), "texture": patch_distance(image, style, texture=True)}
