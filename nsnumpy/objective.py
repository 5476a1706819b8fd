"""The total loss and its gradient with respect to the pixels, as one function of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .architecture import canonical_layer
from .backend import Array, asarray, get_xp, to_floats
from .conventions import convention_of
from .losses import content_loss, gram_loss, gram_matrix, sum_of_squares, tv_loss
from .vgg import VGG, Visit

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


class Objective:
    """``L(x) = alpha L_content(x) + beta L_style(x) + tv L_tv(x)`` and its exact gradient, preprocessing included.

    One true scalar function of the pixels: targets and normalisers are fixed when it is made, and every term that the
    gradient knows is in the value.

    Parameters
    ----------
    vgg : VGG
    content : array ``(H, W, 3)``, RGB in [0, 1], or None
        The picture p. None leaves the content loss out.
    style : array ``(H_a, W_a, 3)``, RGB in [0, 1], or None
        The picture a, of any size: its Gram matrices are scaled by ``M_x / M_a``, so that the target is the same per
        position. None leaves the style loss out.
    alpha, beta, tv : float
        Weights of the content, style and total variation losses.
    content_layers, style_layers : mapping from names to weights w_l, or names
        Names alone have the convention's weights; in the paper's they share equally, 1/n each.
    convention : "paper", "relative", or the name of a tool
        The losses' normalisation; see `conventions`.

    Attributes
    ----------
    vgg, alpha, beta, tv
        As given.
    content_layers, style_layers : dict from canonical layer names to weights
    terms : dict from str to float
        The last call's weighted terms, "content/conv4_2", "style/conv1_1", ..., "tv"; their sum is the loss.
    gradient_norms : dict from str to float
        Of the last call, by the same names: the Euclidean norm of the term's gradient with respect to its layer's
        features, ``dL/dF`` (of "tv", to the pixels), before any ReLU's backward; and "pixels", that of the whole
        gradient. Where ``dL/dF = F K``, its square is ``tr(K G K)``, so that it takes no product with F.
    evaluations : int
        Number of calls so far.

    Raises
    ------
    ValueError
        If there is neither content nor style, a layer is unknown, or a picture is too small for its deepest layer.
    """

    def __init__(
        self,
        vgg: VGG,
        *,
        content: Array | None = None,
        style: Array | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        content_layers: Layers = CONTENT_LAYERS,
        style_layers: Layers = STYLE_LAYERS,
        tv: float = 0.0,
        convention: str = "paper",
    ) -> None:
        self._convention = convention_of(convention)
        if content is None and style is None:
            raise ValueError("a content picture, a style picture or both expected, none given")
        self.vgg = vgg
        self.alpha, self.beta, self.tv = float(alpha), float(beta), float(tv)
        self.content_layers = {} if content is None else layer_weights(content_layers, convention)
        self.style_layers = {} if style is None else layer_weights(style_layers, convention)
        self._layers = list(self.content_layers | self.style_layers)
        self._content_features: dict[str, Array] = {}
        self._style_grams: dict[str, Array] = {}  # per position: the target of an x with M positions is M times this

        def visit_style(name: str, A: Array) -> None:
            self._style_grams[name] = gram_matrix(A, vgg.workers) / (A.shape[0] * A.shape[1])

        self._see("content", content, self.content_layers, self._content_features.__setitem__)
        self._see("style", style, self.style_layers, visit_style)
        self._content_factors = {name: self._convention.content(P) for name, P in self._content_features.items()}
        self._style_factors = {name: self._convention.style(A) for name, A in self._style_grams.items()}
        self._shape = None if content is None else content.shape
        self.terms: dict[str, float] = {}
        self.gradient_norms: dict[str, float] = {}
        self.evaluations = 0

    def _see(self, name: str, picture: Array | None, layers: Iterable[str], visit: Visit) -> None:
        if picture is None:
            return
        try:
            self.vgg.forward(asarray(picture, self.vgg.xp, self.vgg.dtype), layers, visit, keep=False)
        except ValueError as error:
            raise ValueError(f"{name} picture: {error}") from error

    def __call__(self, x: Array) -> tuple[float, Array]:
        """The loss, and its gradient with respect to x.

        Parameters
        ----------
        x : array ``(H, W, 3)``, RGB in [0, 1], float
            On any device: during an optimisation, this is the one place where data crosses from one to another.
            Values outside [0, 1] are allowed.

        Returns
        -------
        loss : float
        gradient : array of x's shape, dtype and namespace

        Raises
        ------
        ValueError
            If x has not the content picture's shape.
        FloatingPointError
            If the loss or its gradient is not finite.
        """
        if self._shape is not None and x.shape != self._shape:
            raise ValueError(f"an image of the content picture's shape {self._shape} expected; x.shape={x.shape}")
        xp = self.vgg.xp
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, by name
            values, squares, gradient = self._evaluate(asarray(x, xp, self.vgg.dtype))
            finite = xp.isfinite(gradient).all()
        self.evaluations += 1
        finite, *numbers = to_floats(finite, *values.values(), *squares.values())  # one transfer for all
        self.terms = dict(zip(values, numbers, strict=False))
        # Rounding may leave a square below zero where there is nothing left of it.
        norms = (max(square, 0.0) ** 0.5 for square in numbers[len(values) :])
        self.gradient_norms = dict(zip(squares, norms, strict=True))
        loss = sum(self.terms.values())
        if not (finite and np.isfinite(loss)):
            name = next((name for name, value in self.terms.items() if not np.isfinite(value)), "the gradient")
            raise FloatingPointError(
                f"evaluation {self.evaluations}: the loss is not finite, first in {name}: check the weights of the "
                "losses, the picture and the network for extreme values, or take smaller steps"
            )
        return loss, asarray(gradient, get_xp(x), x.dtype)

    def _evaluate(self, x: Array) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """The weighted terms and the squared norms of their gradients, still on the device, and the gradient."""
        squares: dict[str, Array] = {}
        content: dict[str, Array] = {}
        style: dict[str, Array] = {}
        gradients: dict[str, Array] = {}
        gram_gradients: dict[str, Array] = {}

        def visit(name: str, F: Array) -> None:
            if (w := self.content_layers.get(name)) is not None:
                value, gradient = content_loss(F, self._content_features[name])
                w *= self.alpha * self._content_factors[name]
                content[f"content/{name}"] = w * value
                squares[f"content/{name}"] = 2 * w * (w * value)
                gradient *= w
                gradients[name] = gradient
            if (w := self.style_layers.get(name)) is not None:
                M = F.shape[0] * F.shape[1]
                G = gram_matrix(F, self.vgg.workers)
                value, K = gram_loss(G, self._style_grams[name] * M, M)
                w *= self.beta * self._style_factors[name] * self._convention.style_at(M, x.shape)
                style[f"style/{name}"] = w * value
                squares[f"style/{name}"] = w * (w * (K * (G @ K)).sum(dtype="float64"))
                gram_gradients[name] = w * K

        _, trace = self.vgg.forward(x, self._layers, visit)
        gx = self.vgg.backward(trace, gradients, gram_gradients, keep=False)
        values = content | style
        if self.tv:
            value, gradient = tv_loss(x)
            w = self.tv * self._convention.tv(x.shape)
            values["tv"] = w * value
            squares["tv"] = w * (w * sum_of_squares(gradient))
            gx += w * gradient
        squares["pixels"] = sum_of_squares(gx.astype("float64"))  # in float32 a square may be too large
        return values, squares, gx
