"""The network: one loop forward, one loop back.

Two ways to convolve, which agree to rounding: ``"direct"`` is the definition, written with the ops of conv.py, relu.py
and pool.py one after the other; ``"winograd"`` is the fast path, where a convolution, its ReLU and the average pooling
after it are one step (ops/winograd.py; ops/patches.py for the first layer). ``"fastest"`` tries both on each layer,
once for each size, and goes on with the faster one. See ways.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .architecture import (
    FIRST,
    Preprocessing,
    Step,
    canonical_layer,
    check_choices,
    check_size,
    check_weights,
    deepest_layer,
    minimum_size,
    network_digest,
    network_steps,
    resolve_layers,
)
from .backend import Array, asarray, check_tf32, tf32_products
from .ops import avgpool_backward, avgpool_forward, maxpool_backward, maxpool_forward
from .ways import WAYS, Patches
from .workers import Scratch, Workers, one_blas_thread

Visit = Callable[[str, Array], object]


@dataclass
class Trace:
    """What `VGG.forward` keeps for `VGG.backward`: its steps with what each one's backward needs, and the features of
    the layers that were asked for (but not those of the first layer if its backward makes them again)."""

    steps: list[tuple[Step, Any]] = field(default_factory=list)
    features: dict[str, Array] = field(default_factory=dict)


class VGG:
    """A VGG network of any width; the weights decide.

    Parameters
    ----------
    weights : mapping from "conv1_1", ... to (weight, bias)
        weight ``(3, 3, C_in, C_out)``, bias ``(C_out,)``, NumPy arrays. The layers must begin at conv1_1 and leave no
        gap; they may end early (a network up to conv5_1, say), and then no deeper layer can be asked for.
    architecture : "vgg19" or "vgg16"
    preprocessing : Preprocessing
        What to do with a picture, RGB in [0, 1], before conv1_1.
    pooling : "avg" or "max"
        The paper replaces VGG's maximum by the mean.
    xp : module
        `numpy` or `cupy`: where the network lives.
    dtype : "float32" or "float64"
    source : str
        Where the weights came from, for a run's record.
    threads : int, or None
        How many threads to share the work of a pass; None takes the cores that this process may use. During a pass
        NumPy's BLAS is held to one thread, and set back afterwards. A GPU takes one.
    convolution : "winograd", "direct" or "fastest"
        The last one may choose otherwise in another run, which then differs by rounding.
    tf32 : bool
        Whether a GPU's matrix products in float32 may round their factors to TF32, 11 bits, which is faster.

    Attributes
    ----------
    filters : dict from str to int
        The number of filters of each convolution.
    sha256 : str
        Of the weights and the preprocessing; see `network_digest`.

    Raises
    ------
    ValueError
        If a layer is missing or unknown, a shape does not fit, a weight is not finite, a name is unknown, or tf32 is
        asked of NumPy or of float64.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[Array, Array]],
        *,
        xp: ModuleType,
        architecture: str = "vgg19",
        preprocessing: Preprocessing | None = None,
        pooling: str = "avg",
        dtype: str = "float32",
        source: str = "",
        threads: int | None = None,
        convolution: str = "winograd",
        tf32: bool = False,
    ) -> None:
        check_choices(pooling=pooling, dtype=dtype, convolution=convolution)
        check_weights(weights, architecture)
        self.architecture = architecture
        self.preprocessing = preprocessing or Preprocessing()
        self.pooling = pooling
        self.source = source
        self.filters = {name: len(bias) for name, (_, bias) in weights.items()}
        self.sha256 = network_digest(weights, self.preprocessing)
        self.xp = xp
        self.dtype = xp.dtype(dtype)
        self.convolution = convolution
        check_tf32(tf32, "cpu" if xp.__name__ == "numpy" else "gpu", dtype)
        self.tf32 = tf32
        self.workers = Workers.on(xp, threads)
        self._fused = convolution != "direct"
        self.layers: dict[str, Any] = {}  # each convolution's way
        for name, arrays in weights.items():
            way = Patches if self._fused and name == FIRST else WAYS[convolution]
            self.layers[name] = way(*(asarray(array, xp, self.dtype) for array in arrays), self.workers)
        self._gain, self._offset = (xp.asarray(v, self.dtype) for v in self.preprocessing.affine())
        self._channels = slice(None, None, -1 if self.preprocessing.channel_order == "BGR" else 1)

    def resolve(self, layers: Iterable[str]) -> list[str]:
        """The canonical names of `layers`; ValueError if this network does not have one of them."""
        return resolve_layers(self.architecture, self.layers, layers)

    def minimum_size(self, layers: Iterable[str]) -> int:
        """The least height and width, in pixels, with which every one of `layers` has at least one position."""
        return minimum_size(self.architecture, self.resolve(layers))

    def deepest(self, layers: Iterable[str]) -> str:
        """The canonical name of the deepest of `layers`, of which there must be one at least."""
        return deepest_layer(self.architecture, self.resolve(layers))

    def steps(self, layers: Iterable[str]) -> list[Step]:
        """The steps of a forward pass that makes the features of `layers`; see `network_steps`."""
        return network_steps(self.architecture, self.resolve(layers), self.pooling, fuse=self._fused)

    def forward(
        self, x: Array, layers: Iterable[str], visit: Visit | None = None, *, keep: bool = True
    ) -> tuple[dict[str, Array], Trace]:
        """The features of `layers`, as far as the deepest of them, and what the backward needs.

        Parameters
        ----------
        x : array ``(..., H, W, 3)``, RGB in [0, 1], of the network's dtype and namespace
        layers : names
        visit : function of (name, features), or None
            If given, it is called with the features of each of the layers as they come, by canonical names and in the
            network's order, and none are returned: so that no more of them need exist at once than must.
        keep : bool
            Whether a backward will follow; if not, the trace is empty.

        Returns
        -------
        features : dict from each name, as it was given, to its features ``(..., H_l, W_l, N_l)``
        trace : Trace
            For `backward`.

        Raises
        ------
        ValueError
            If a layer is unknown or the picture too small for it.
        """
        layers = list(layers)
        asked = dict(zip(layers, self.resolve(layers), strict=True))
        check_size(self.architecture, list(asked.values()), x.shape)
        features: dict[str, Array] = {}
        trace = Trace()
        x = x[..., self._channels] * self._gain + self._offset
        with self._products():
            for step in self.steps(layers):
                x, kept = self._forward_step(step, x)
                if keep:
                    trace.steps.append((step, kept))
                if step.name in asked.values():
                    if keep and not (self._fused and step.name == FIRST):
                        trace.features[step.name] = x
                    if visit:
                        visit(step.name, x)
                    else:
                        features[step.name] = x
        return {name: features[resolved] for name, resolved in asked.items() if resolved in features}, trace

    def backward(
        self,
        trace: Trace,
        gradients: Mapping[str, Array],
        gram_gradients: Mapping[str, Array] | None = None,
        *,
        keep: bool = True,
    ) -> Array:
        """dL/dx from dL/dF of some layers: the steps walked once in reverse, each layer's gradient added as it passes.

        Parameters
        ----------
        trace : Trace
            From the `forward` at the same x.
        gradients : mapping from layer names to arrays
            ``dL/dF`` of L's explicit dependence on that layer's features, each of the features' shape.
        gram_gradients : mapping from layer names to arrays ``(N, N)``
            K for a loss of that layer's Gram matrix, whose ``dL/dF`` is ``F K``; it is added block by block, and never
            exists as a whole. Of layers that the forward was asked for.
        keep : bool
            Whether the trace is kept; if not, it is emptied, each step's memory being given up once it was walked.

        Returns
        -------
        gx : array ``(..., H, W, 3)``
        """
        xp = self.xp
        pending: dict[str, Array] = {}
        for name, gradient in gradients.items():
            name = canonical_layer(name)
            pending[name] = pending[name] + gradient if name in pending else gradient
        grams = {canonical_layer(name): K for name, K in (gram_gradients or {}).items()}
        steps, features = trace.steps, trace.features
        if keep:
            steps, features = steps[:], dict(features)
        ran = {step.name for step, _ in steps}
        kept_features = features.keys() | ({FIRST} & ran if self._fused else set())
        if not (pending or grams) or not ran >= pending.keys() or not kept_features >= grams.keys():
            given = ", ".join([*gradients, *(gram_gradients or ())])
            raise ValueError(f"gradients of layers that the forward pass ran expected; got {given or 'none'}")
        gy: Array | None = None
        with self._products():
            while steps:
                step, kept = steps.pop()
                F, K = features.pop(step.name, None), grams.get(step.name)
                if step.name in pending:
                    gradient = pending.pop(step.name)
                    gy = gradient.copy() if gy is None else xp.add(gy, gradient, out=gy)
                if K is not None and F is not None:
                    gy = self._add_gram_gradient(xp.zeros_like(F) if gy is None else gy, F, K)
                    K = None
                del F
                if gy is not None or K is not None:
                    gy = self._backward_step(step, gy, kept, K)
                del kept
        return (gy * self._gain)[..., self._channels]  # the adjoint of the preprocessing's linear part

    @contextlib.contextmanager
    def _products(self) -> Iterator[None]:
        """How matrix products are made during a pass."""
        with one_blas_thread, tf32_products(self.xp) if self.tf32 else contextlib.nullcontext():
            yield

    def _forward_step(self, step: Step, x: Array) -> tuple[Array, Any]:
        """The step's output, and what its backward needs."""
        if not step.conv:
            if self.pooling == "avg":
                return avgpool_forward(x), x.shape
            y, winner = maxpool_forward(x)
            return y, (winner, x.shape)
        return self.layers[step.conv].forward(x, step.pool)

    def _backward_step(self, step: Step, gy: Array | None, kept: Any, K: Array | None) -> Array:
        """The gradient with respect to the step's input; K is only given where the step makes its F again."""
        if not step.conv:
            return avgpool_backward(gy, kept) if self.pooling == "avg" else maxpool_backward(gy, *kept)
        way = self.layers[step.conv]
        return way.backward(gy, kept, step.pool) if K is None else way.backward(gy, kept, step.pool, K)

    def _add_gram_gradient(self, gy: Array, F: Array, K: Array) -> Array:
        """``gy += F K``, a block of positions at a time; returns gy."""
        N = len(K)
        target, positions = gy.reshape(-1, N), F.reshape(-1, N)

        def add(block: tuple[int, int], scratch: Scratch) -> None:
            start, stop = block
            product = scratch.empty("even", (stop - start, N), F)
            target[start:stop] += self.xp.matmul(positions[start:stop], K, out=product)

        self.workers.map(add, self.workers.blocks(len(positions), 3 * N * F.dtype.itemsize))
        return gy
