"""Clocks for benchmarks/steps.py, set by the package's own functions, which stay as they are: for the time of a profile
each of those in `TIMED` is replaced by one that says where its thread is, and then calls it.

The ops take their namespace from their arrays (`get_xp`): there they get a NumPy whose products are timed, too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import nsnumpy as ns
from nsnumpy import convolution, objective, vgg
from nsnumpy.ops.fast import host, patches
from nsnumpy.workers import Workers

STEPS = ("cut", "transform", "product", "inverse", "signs", "pooling", "lay", "losses", "optimiser", "Python")
PICTURE = "picture"  # the row of what belongs to no layer

# (where, function, its own step, that of its small products: the transforms)
TIMED = (
    (host, "cut_overlapping", "cut", ""),
    (host.HostTiles, "transform", "transform", "transform"),
    (host.HostTiles, "products", "product", ""),
    (host.HostTiles, "products_adjoint", "product", ""),
    (host.HostTiles, "write_outputs", "signs", "inverse"),
    (host, "pool_tiles", "pooling", ""),
    (host, "lay", "lay", ""),
    (host, "lay_adjoint", "cut", ""),
    (host.HostTiles, "outputs_adjoint", "signs", "transform"),
    (host.HostTiles, "add_transform_adjoint", "lay", ""),
    (host.HostTiles, "_add_up_rows", "inverse", "inverse"),
    (host.HostTiles, "_add_up_columns", "inverse", "inverse"),
    (host.HostTiles, "finished", "lay", ""),
    (patches, "pad", "cut", ""),
    (patches, "_features", "cut", ""),
    (patches, "matmul", "product", ""),
    (patches, "_scatter", "lay", ""),
    (patches, "pad_adjoint", "lay", ""),
    (objective.Objective, "evaluate", "Python", ""),
    (objective.Objective, "_total_variation", "losses", ""),
    (objective, "sum_of_squares", "losses", ""),
)
WAYS = (convolution.Winograd, convolution.Patches)


class Place(NamedTuple):
    """Where a thread is: the layer, the step, the step of a product with a small matrix there, and whether other
    threads have jobs meanwhile."""

    layer: str
    step: str
    small: str = ""
    shared: bool = False


class Clock:
    """A thread's: its time on a core, by layers and steps, and that of it in which no other one had a job."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.parts: Counter[tuple[str, str]] = Counter()
        self.unshared = 0.0
        self._since = 0.0

    def enter(self, place: Place | None) -> Place | None:
        """From now on the thread is there; returns where it was."""
        now = time.thread_time()
        before = self.place
        if before is not None:
            self.parts[before.layer, before.step] += now - self._since
            self.unshared += 0.0 if before.shared else now - self._since
        self.place, self._since = place, now
        return before


class Profile:
    """The clocks of all threads, and the functions that set them."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._clocks: list[Clock] = []

    def taken(self) -> tuple[Counter[tuple[str, str]], float]:
        """The seconds of all threads by (layer, step), since the last time, and the unshared ones of them."""
        parts, unshared = sum((clock.parts for clock in self._clocks), Counter()), 0.0
        for clock in self._clocks:
            unshared += clock.unshared
            clock.parts, clock.unshared = Counter(), 0.0
        return parts, unshared

    @property
    def clock(self) -> Clock:
        if not hasattr(self._local, "clock"):
            self._local.clock = Clock()
            self._clocks.append(self._local.clock)
        return self._local.clock

    @contextlib.contextmanager
    def at(self, step: str, layer: str = "", small: str = "") -> Iterator[None]:
        """In a step, of the layer that is at work unless one is given."""
        clock = self.clock
        before = clock.enter(Place(layer or clock.place.layer, step, small, bool(clock.place and clock.place.shared)))
        try:
            yield
        finally:
            clock.enter(before)

    @contextlib.contextmanager
    def attached(self, network: ns.VGG) -> Iterator[None]:
        """Within it, a network's evaluations are timed; AttributeError if a function has another name by now."""
        layers = {id(way): name for name, way in network.layers.items()}
        with contextlib.ExitStack() as stack:

            def replace(where: Any, name: str, make: Callable[[Any], Any]) -> None:
                stack.enter_context(mock.patch.object(where, name, make(getattr(where, name))))

            for where, name, step, small in TIMED:
                replace(where, name, lambda function, step=step, small=small: self._timed(function, step, small))
            for way in WAYS:
                for name in ("forward", "backward"):
                    replace(way, name, lambda function: self._of_layers(function, layers))
            replace(Workers, "map", self._map)
            replace(vgg.VGG, "forward", self._forward)
            replace(vgg.VGG, "backward", self._backward)
            namespace = self._namespace()
            for module in (host, patches):
                replace(module, "get_xp", lambda _: lambda *arrays: namespace)
            stack.enter_context(self.at("optimiser", PICTURE))
            yield

    def _timed(self, function: Callable[..., Any], step: str, small: str = "", layer: str = "") -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            with self.at(step, layer, small):
                return function(*args, **options)

        return timed

    def _of_layers(self, function: Callable[..., Any], layers: dict[int, str]) -> Callable[..., Any]:
        """A way's forward or backward; the losses of a layer come after it, still in its row."""

        def of_layer(way: Any, *args: Any) -> Any:
            with self.at("Python", layers[id(way)]):
                return function(way, *args)

        return of_layer

    def _map(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Jobs are at work where they were given out, on whatever thread."""

        def map(workers: Workers, job: Callable[..., Any], jobs: Any) -> list[Any]:
            place = self.clock.place._replace(shared=min(workers.at_work, len(jobs)) > 1)

            def placed(*args: Any) -> Any:
                clock = self.clock
                before = clock.enter(place)
                try:
                    return job(*args)
                finally:
                    clock.enter(before)

            return function(workers, placed, jobs)

        return map

    def _forward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def forward(network: ns.VGG, x: Any, layers: Any, visit: Any, **options: Any) -> Any:
            def seen(name: str, F: Any) -> None:
                with self.at("losses", name):
                    visit(name, F)

            return function(network, x, layers, seen, **options)

        return forward

    def _backward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def backward(network: ns.VGG, trace: Any, gradients: Any, **options: Any) -> Any:
            timed = {name: self._timed(add, "losses", layer=name) for name, add in gradients.items()}
            return function(network, trace, timed, **options)

        return backward

    def _namespace(self) -> ModuleType:
        """NumPy as the ops see it: a product of two stacks is the layer's, one with a small matrix a transform."""
        namespace = ModuleType("numpy")
        vars(namespace).update(vars(np))

        def matmul(a: Any, b: Any, **options: Any) -> Any:
            with self.at("product" if a.ndim == 3 else self.clock.place.small):
                return np.matmul(a, b, **options)

        vars(namespace)["matmul"] = matmul
        for name in ("maximum", "multiply"):
            vars(namespace)[name] = self._timed(getattr(np, name), "signs")
        return namespace
