"""The total loss and its gradient with respect to the pixels, as one function of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .architecture import canonical_layer, layer_shape
from .backend import Array, asarray, get_xp, to_floats
from .conventions import convention_of
from .losses import STYLE_STATISTICS, Content, LayerTerm, sum_of_squares, tv_loss
from .positions import LEAST, Region, area_mean, partition, pooled
from .targets import ContentTarget, SendingBack, StyleTarget, content_target, measure, style_target
from .vgg import VGG

CONTENT_LAYERS = ("conv4_2",)
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")

Layers = Mapping[str, float | None] | Iterable[str]
"""Layer names, or a mapping from them to weights w_l; a layer without a weight gets the convention's."""


def layer_weights(layers: Layers, convention: str = "paper") -> dict[str, float]:
    """`layers` as a dict from canonical names to weights; those without one get the convention's.

    >>> layer_weights(["conv1_1", "relu2_1"])
    {'conv1_1': 0.5, 'conv2_1': 0.5}
    >>> layer_weights(["conv1_1", "relu2_1"], "jcjohnson")
    {'conv1_1': 1.0, 'conv2_1': 1.0}
    """
    if isinstance(layers, str):
        raise ValueError(f"a list of layers, or a mapping to their weights, expected; {layers!r} given")
    pairs = list(layers.items()) if isinstance(layers, Mapping) else [(name, None) for name in layers]
    if not pairs:
        raise ValueError("at least one layer expected, none given")
    unweighted = convention_of(convention).layer_weight(len(pairs))
    weights = {canonical_layer(name): unweighted if w is None else float(w) for name, w in pairs}
    if len(weights) < len(pairs):
        raise ValueError(f"each layer once expected; {', '.join(name for name, _ in pairs)} given")
    return weights


def term_name(loss: str, layer: str, region: Region | None = None) -> str:
    """What a layer's term is called: "style/conv1_1", or of a region "style/conv1_1@sky"."""
    return f"{loss}/{layer}" if region is None else f"{loss}/{layer}@{region.name}"


def term_parts(name: str) -> tuple[str, str, str]:
    """Its loss, layer and region, "" without one; of a pixel term, as "tv", the first alone.

    >>> term_parts("style/conv1_1@sky")
    ('style', 'conv1_1', 'sky')
    """
    loss, _, rest = name.partition("/")
    layer, _, region = rest.partition("@")
    return loss, layer, region


class Evaluation(NamedTuple):
    """The objective at an image.

    Attributes
    ----------
    loss : float
    gradient : array ``(H, W, 3)``
    terms : dict from str to float
        The weighted terms, "content/conv4_2", "style/conv1_1", ..., "tv"; their sum is the loss. A term of a region
        is called "style/conv1_1@NAME"; it is 0 at a layer where the region has no position.
    gradient_norms : dict from str to float
        By the same names: the Euclidean norm of the term's gradient with respect to its layer's features, ``dL/dF``
        (of "tv", to the pixels), before any ReLU's backward; and "pixels", that of the whole gradient.
    """

    loss: float
    gradient: Array
    terms: dict[str, float]
    gradient_norms: dict[str, float]


PixelTerm = Callable[[Array], tuple[Any, Array]]
"""A loss of the picture itself and its gradient."""


class Objective:
    """``L(x) = alpha L_content(x) + beta L_style(x) + tv L_tv(x)`` and its exact gradient, preprocessing included.

    One true scalar function of the pixels: targets and normalisers are fixed when it is made, and every term that the
    gradient knows is in the value.

    Parameters
    ----------
    vgg : VGG
        If its border wraps, so does the total variation.
    content : array ``(H, W, 3)``, RGB in [0, 1], or a `ContentTarget`, or None
        The picture p. None leaves the content loss out.
    style : array ``(H_a, W_a, 3)``, RGB in [0, 1], a list of (array, weight), a `StyleTarget`, or None
        The picture a, of any size: it is compared per position. Of several pictures, the loss is the weighted sum of
        the losses for each. (array, weight, mask), with a mask ``(H, W)`` in [0, 1], is a style for a part of the image
        alone: see `style_target`; where masks overlap, their sum is brought to one. None leaves the style loss out.
    alpha, beta, tv : float
        Weights of the content, style and total variation losses. They may be changed later.
    content_layers, style_layers : mapping from names to weights w_l, or names
        Names alone have the convention's weights; in the paper's they share equally, 1/n each.
    convention : "paper", "relative", or the name of a tool
        The losses' normalisation; see `conventions`.
    style_statistics : "gram", "gram+moments" or "covariance"
        What the style is known by; see `losses`. A `StyleTarget` brings its own.
    pixel_terms : mapping from names to (weight, function), or None
        Further losses of the picture itself, each a function ``x -> (value, gradient)``; no convention is applied.

    Attributes
    ----------
    vgg, alpha, beta, tv
        As given.
    content_layers, style_layers : dict from canonical layer names to weights
    terms, gradient_norms : dicts from str to float
        Of the last call; see `Evaluation`.
    evaluations : int
        Number of calls so far.
    tiled : bool
        Whether it is computed in tiles: see `tiles.objective`.

    Raises
    ------
    ValueError
        If there is neither content nor style, a layer or a name is unknown, or a picture is too small for its deepest
        layer.
    """

    tiled = False

    def __init__(
        self,
        vgg: VGG,
        *,
        content: Array | ContentTarget | None = None,
        style: Array | Sequence[Sequence[Any]] | StyleTarget | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        content_layers: Layers = CONTENT_LAYERS,
        style_layers: Layers = STYLE_LAYERS,
        tv: float = 0.0,
        convention: str = "paper",
        style_statistics: str = "gram",
        pixel_terms: Mapping[str, tuple[float, PixelTerm]] | None = None,
    ) -> None:
        self._convention = convention_of(convention)
        if content is None and style is None:
            raise ValueError("a content picture, a style picture or both expected, none given")
        self.vgg = vgg
        self.alpha, self.beta, self.tv = float(alpha), float(beta), float(tv)
        self.content_layers = {} if content is None else layer_weights(content_layers, convention)
        self.style_layers = {} if style is None else layer_weights(style_layers, convention)
        self._layers = list(self.content_layers | self.style_layers)
        self._pixel_terms = dict(pixel_terms or {})
        self._content: dict[str, Content] = {}
        self._regions: dict[Region | None, list[Any]] = {}
        self._statistics = style_statistics
        self._style: dict[str, list[tuple[str, LayerTerm | None, float]]] = {}
        self._style_shape: tuple[int, ...] | None = None  # of the images that these terms are for
        self._shape: tuple[int, ...] | None = None
        if content is not None:
            if not isinstance(content, ContentTarget):
                content = content_target(vgg, content, self.content_layers)
            _check_layers("content", self.content_layers, content.features)
            self._shape = content.shape
            for name in self.content_layers:
                weight = self._convention.content(*content.extent(name))
                self._content[name] = Content(content.features[name], weight)
        if style is not None:
            if not isinstance(style, StyleTarget):
                style = style_target(vgg, style, self.style_layers, style_statistics)
            for of_picture, _ in style.pictures:
                _check_layers("style", self.style_layers, of_picture)
            self._statistics, self._regions = style.statistics, style.by_region()
            if self._shape is not None or not any(self._regions):
                self._fit(self._shape or ())
        if taken := self._pixel_terms.keys() & {"tv", "pixels", *self._labels()}:
            raise ValueError(f"a pixel term called {taken.pop()!r}: that name is taken, choose another")
        self.terms: dict[str, float] = {}
        self.gradient_norms: dict[str, float] = {}
        self.evaluations = 0

    def __call__(self, x: Array) -> tuple[float, Array]:
        """The loss, and its gradient with respect to x; see `evaluate`."""
        return self.evaluate(x)[:2]

    def evaluate(self, x: Array) -> Evaluation:
        """The loss, its gradient with respect to x, and what both are made of.

        Parameters
        ----------
        x : array ``(H, W, 3)``, RGB in [0, 1], float
            On any device: during an optimisation, this is the one place where data crosses from one to another.
            Values outside [0, 1] are allowed.

        Returns
        -------
        Evaluation
            Its gradient has x's shape, dtype and namespace.

        Raises
        ------
        ValueError
            If x has not the content picture's shape.
        FloatingPointError
            If the loss or its gradient is not finite.
        """
        if self._shape is not None and x.shape != self._shape:
            raise ValueError(f"an image of the content picture's shape {self._shape} expected; x.shape={x.shape}")
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, by name
            values, squares, gradient = self._evaluate(x)
        self.evaluations += 1
        numbers = to_floats(*values.values(), *squares.values())  # one transfer for all
        self.terms = dict(zip(values, numbers, strict=False))
        # Rounding may leave a square below zero where there is nothing left of it.
        norms = (max(square, 0.0) ** 0.5 for square in numbers[len(values) :])
        self.gradient_norms = dict(zip(squares, norms, strict=True))
        loss = sum(self.terms.values())
        if not np.isfinite(loss + self.gradient_norms["pixels"]):
            name = next((name for name, value in self.terms.items() if not np.isfinite(value)), "the gradient")
            raise FloatingPointError(
                f"evaluation {self.evaluations}: the loss is not finite, first in {name}: check the weights of the "
                "losses, the picture and the network for extreme values, or take smaller steps"
            )
        return Evaluation(loss, asarray(gradient, get_xp(x), x.dtype), self.terms, self.gradient_norms)

    def _evaluate(self, x: Array) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """The weighted terms and the squared norms of their gradients, still on the device, and the gradient.

        Measure, solve, send back: the forward's features are known by their sums, and the backward makes each term's
        ``dL/dF`` from them.
        """
        self._fit(x.shape)
        x = asarray(x, self.vgg.xp, self.vgg.dtype)
        values, squares = (dict.fromkeys(self._labels(), self.vgg.xp.zeros((), "float64")) for _ in range(2))
        sources: dict[str, SendingBack] = {}

        def visit(name: str, F: Array) -> None:
            here = self._terms(name, F.shape[0] * F.shape[1], x.shape)
            solved: dict[str, tuple[LayerTerm, Any]] = {}
            measured = measure([term for _, term, _ in here], F, self.vgg.workers)
            for (label, term, scale), sums in zip(here, measured, strict=True):
                values[label], solution = term.solve(sums, scale)
                solved[label] = term, solution
            sources[name] = SendingBack(solved)

        _, trace = self.vgg.forward(x, self._layers, visit)
        gx = self.vgg.backward(trace, sources, keep=False)
        for source in sources.values():
            squares |= source.squares
        pixel_terms = {"tv": (self.tv * self._convention.tv(x.shape), self._total_variation)} if self.tv else {}
        for label, (w, term) in (pixel_terms | self._pixel_terms).items():
            value, gradient = term(x)
            values[label] = w * value
            squares[label] = w * (w * sum_of_squares(gradient))
            gx += w * gradient
        squares["pixels"] = sum_of_squares(gx.astype("float64"))  # in float32 a square may be too large
        return values, squares, gx

    def _total_variation(self, x: Array) -> tuple[Array, Array]:
        rows, columns = (border == "wrap" for border in self.vgg.border)
        return tv_loss(x, (rows, columns))

    def _labels(self) -> list[str]:
        style = [term_name("style", name, region) for region in self._regions for name in self.style_layers]
        return [term_name("content", name) for name in self.content_layers] + style

    def _fit(self, shape: tuple[int, ...]) -> None:
        """Make the terms of style for images of this shape: the regions are parts of the image.

        A term with weights w does not depend on the region's area. It counts times the region's share of the positions,
        ``sum w / M``, so that the gradient at a position is as large as it would be for one style everywhere.
        """
        regions = [region for region in self._regions if region is not None]
        if self._style and (shape == self._style_shape or not regions):
            return
        weights = self._parts(regions, (shape[0], shape[1])) if regions else None
        kind = STYLE_STATISTICS[self._statistics]
        for name in self.style_layers:
            if weights is not None:
                grid = layer_shape(self.vgg.architecture, self.vgg.filters, name, shape)[:2]
                of_regions = dict(zip(regions, np.moveaxis(pooled(weights, grid), -1, 0), strict=True))
            self._style[name] = []
            for region, pictures in self._regions.items():
                known = [(of[name], weight) for of, weight in pictures if of[name]]
                targets = [(sums, weight * self._convention.style(sums[0])) for sums, weight in known]
                w, share = None, 1.0
                if region is not None:
                    w = of_regions[region].reshape(-1)
                    share = float(w.mean())
                there = targets and (w is None or w.sum() >= LEAST)
                term = kind(targets, None if w is None else self._weights(w)) if there else None
                self._style[name].append((term_name("style", name, region), term, share))
        self._style_shape = shape

    def _parts(self, regions: Sequence[Region], shape: tuple[int, int]) -> np.ndarray:
        """How much each pixel is of each region, ``(H, W, R)``."""
        return partition([area_mean(region.mask, shape) for region in regions])

    def _weights(self, w: np.ndarray) -> Array | None:
        """A term's weights, for the network."""
        return asarray(w, self.vgg.xp, self.vgg.dtype)

    def _terms(self, name: str, M: int, shape: tuple[int, ...]) -> list[tuple[str, LayerTerm, float]]:
        """A layer's terms with what each is called, and what it counts."""
        terms: list[tuple[str, LayerTerm, float]] = []
        if name in self._content:
            scale = self.alpha * self.content_layers[name]
            terms.append((term_name("content", name), self._content[name], scale))
        if name in self._style:
            scale = self.beta * self.style_layers[name] * self._convention.style_at(M, shape)
            terms += [(label, term, share * scale) for label, term, share in self._style[name] if term is not None]
        return terms


def _check_layers(kind: str, layers: Iterable[str], target: Mapping[str, Any]) -> None:
    if missing := [name for name in layers if name not in target]:
        raise ValueError(
            f"{kind} layer {missing[0]}: the {kind} target was made without it; it has {', '.join(target)}"
        )
