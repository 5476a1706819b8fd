"""The network: one loop forward, one loop back.

Two ways to convolve, which agree to rounding: ``"direct"`` is the definition, written with the ops of conv.py, relu.py
and pool.py one after the other; ``"winograd"`` is the fast path, where a convolution, its ReLU and the average pooling
after it are one step (ops/fast/winograd.py; ops/fast/patches.py for the first layer). ``"fastest"`` tries both on each
layer, once for each size, and goes on with the faster one. See convolution.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .architecture import (
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
from .backend import Array, asarray, check_tf32, device_namespace, device_of, tf32_products
from .convolution import POOLS, way_of
from .ops import BORDERS, Border
from .workers import Scratch, Workers, one_blas_thread

Visit = Callable[[str, Array], object]
AddGradient = Callable[[Array, slice, Array, Scratch], None]
"""Of (F, at, out, scratch): adds dL/dF to out ``(rows, N)`` for a block F ``(rows, N)`` of a layer's positions, `at` of
them all."""


@dataclass
class Trace:
    """What `VGG.forward` keeps for `VGG.backward`: its steps with what each one's backward needs, and the features of
    the layers that were asked for (but not where the backward makes them again)."""

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
    border : "zero", "replicate", "reflect" or "wrap", or two of them
        What each convolution sees beyond the border of its input (ops/border.py); of two, the first is that of rows,
        above and below, the other that of columns. VGG was trained with zeros.

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
        border: str | Border = "zero",
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
        check_tf32(tf32, device_of(xp), dtype)
        self.tf32 = tf32
        self.border = border_of(border)
        self.workers = Workers.on(xp, threads)
        self._fused = convolution != "direct"
        self.layers: dict[str, Any] = {}  # each convolution's way
        for name, arrays in weights.items():
            way = way_of(name, convolution)
            self.layers[name] = way(*(asarray(array, xp, self.dtype) for array in arrays), self.workers)
        self._pool = POOLS[pooling]()
        self._gain, self._offset = (xp.asarray(v, self.dtype) for v in self.preprocessing.affine())
        self._channels = slice(None, None, -1 if self.preprocessing.channel_order == "BGR" else 1)

    def __getstate__(self) -> dict[str, Any]:
        """With its weights, as they are used: what they are in another process is the same to the last bit."""
        return self.__dict__ | {"xp": device_of(self.xp)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"xp": device_namespace(state["xp"])}

    def with_border(self, border: str | Border) -> VGG:
        """The same network, with which it shares its weights, with another border."""
        other = VGG.__new__(VGG)
        other.__dict__ |= self.__dict__
        other.border = border_of(border)
        return other

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
                way = self._way(step)
                x, kept = way.forward(x, step.pool, self.border)
                if keep:
                    trace.steps.append((step, kept))
                if step.name in asked.values():
                    if keep and not way.makes_again:
                        trace.features[step.name] = x
                    if visit:
                        visit(step.name, x)
                    else:
                        features[step.name] = x
        return {name: features[resolved] for name, resolved in asked.items() if resolved in features}, trace

    def backward(self, trace: Trace, gradients: Mapping[str, Array | AddGradient], *, keep: bool = True) -> Array:
        """dL/dx from dL/dF of some layers: the steps walked once in reverse, each layer's gradient added as it passes.

        Parameters
        ----------
        trace : Trace
            From the `forward` at the same x.
        gradients : mapping from layer names to arrays or functions
            ``dL/dF`` of L's explicit dependence on the features of a layer that the forward was asked for: an array of
            their shape; or a function that adds it to a block of positions (`AddGradient`), so that it never exists
            as a whole. It is called from several threads.
        keep : bool
            Whether the trace is kept; if not, it is emptied, each step's memory being given up once it was walked.

        Returns
        -------
        gx : array ``(..., H, W, 3)``
        """
        steps, features = trace.steps, trace.features
        if keep:
            steps, features = steps[:], dict(features)
        adds = self._adds(steps, features, gradients)
        gy: Array | None = None
        with self._products():
            while steps:
                step, kept = steps.pop()
                here = adds.pop(step.name, [])
                if step.name in features:  # elsewhere the way makes them again, and adds to their gradient itself
                    gy, here = self._added(gy, features.pop(step.name), here), []
                if gy is not None or here:
                    gy = self._way(step).backward(gy, kept, step.pool, self.border, *here)
        return (gy * self._gain)[..., self._channels]  # the adjoint of the preprocessing's linear part

    def _adds(
        self, steps: list[tuple[Step, Any]], features: Mapping[str, Array], gradients: Mapping[str, Array | AddGradient]
    ) -> dict[str, list[AddGradient]]:
        """The gradients by canonical layers, all as functions; ValueError if the trace has no such layer's features."""
        known = features.keys() | {step.name for step, _ in steps if self._way(step).makes_again}
        adds: dict[str, list[AddGradient]] = {}
        for name, gradient in gradients.items():
            adds.setdefault(canonical_layer(name), []).append(gradient if callable(gradient) else adding(gradient))
        if not adds or not known >= adds.keys():
            given = ", ".join(gradients) or "none"
            raise ValueError(f"gradients of layers that the forward pass was asked for expected; got {given}")
        return adds

    @property
    def rounding(self) -> float | None:
        """How well a loss is known, relative, if it is less well than `dtype` has it.

        On the stand-in for a GPU, which rounds factors to TF32, losses were off by 1e-3 to 3e-3 (narrow network, 64
        pixels): Winograd's transforms enlarge the error of a product, 2^-11.
        """
        return 2**-11 if self.tf32 else None

    @contextlib.contextmanager
    def _products(self) -> Iterator[None]:
        """How matrix products are made during a pass."""
        with one_blas_thread, tf32_products() if self.tf32 else contextlib.nullcontext():
            yield

    def _way(self, step: Step) -> Any:
        return self.layers[step.conv] if step.conv else self._pool

    def _added(self, gy: Array | None, F: Array, adds: list[AddGradient]) -> Array | None:
        """gy, or zeros, with dL/dF added, a block of positions at a time."""
        if not adds:
            return gy
        gy = self.xp.zeros_like(F) if gy is None else gy
        target, positions = (array.reshape(-1, F.shape[-1]) for array in (gy, F))

        def add(block: tuple[int, int], scratch: Scratch) -> None:
            at = slice(*block)
            for add_gradient in adds:
                add_gradient(positions[at], at, target[at], scratch)

        self.workers.map(add, self.workers.blocks(len(positions), 3 * F.shape[-1] * F.dtype.itemsize))
        return gy


def border_of(border: str | Border) -> Border:
    """Of rows and of columns; ValueError if there is no such border."""
    pair = (border, border) if isinstance(border, str) else tuple(border)
    if len(pair) != 2 or not all(name in BORDERS for name in pair):
        raise ValueError(f"border is one of {', '.join(BORDERS)}, or two, of rows and columns; got {border!r}")
    return pair


def adding(gradient: Array) -> AddGradient:
    """An array ``(..., N)`` as a function that adds it to a block of positions."""
    positions = gradient.reshape(-1, gradient.shape[-1])

    def add(F: Array, at: slice, out: Array, scratch: Scratch) -> None:
        out += positions[at]

    return add
