"""What a run reports on its way, and what it returns."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from .._version import __version__
from ..backend import Array, to_host
from ..ending import Ended, Ending
from ..files.images import picture_name, save_image
from ..files.rows import png_bytes
from ..objective import layer_weights
from ..optimize import Descent
from ..vgg import VGG
from .inputs import Inputs
from .settings import Settings, setting_names

STILL = 5  # steps in a row that move little end a scale


@dataclass(frozen=True)
class Progress:
    """A step of a run, and where it led: what a callback gets, and a line of the history.

    Attributes
    ----------
    iteration, iterations : int
        How many are done, and how many were asked for, at all scales.
    loss : float
    terms, gradient_norms : dicts from str to float
        The loss's weighted terms, and the norms of their gradients; see `Objective`.
    step : float
        The Euclidean length of the step that led here; 0 at the start of a scale.
    seconds : float
        Since the start of the run.
    x : array ``(H, W, 3)``
        The iterate itself, at the present scale.
    finish : function, or None
        What makes of it the picture that is shown.
    """

    iteration: int
    iterations: int
    loss: float
    terms: dict[str, float]
    gradient_norms: dict[str, float]
    step: float
    seconds: float
    x: Array = field(repr=False)
    finish: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)

    @property
    def image(self) -> np.ndarray:
        """The picture so far, a copy, ``(H, W, 3)`` float32 in [0, 1]."""
        image = to_image(self.x)
        return self.finish(image) if self.finish else image

    def record(self) -> dict[str, Any]:
        """The same without the picture; JSON-serialisable."""
        return {
            "iteration": self.iteration,
            "size": max(self.x.shape),
            "loss": self.loss,
            "terms": self.terms,
            "gradient_norms": self.gradient_norms,
            "step": self.step,
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True)
class Result(Ended):
    """What a run made.

    Attributes
    ----------
    image : array ``(H, W, 3)``, float32, RGB in [0, 1]
        The iterate with the lowest loss.
    history : list of dicts
        Per iteration, from 0, the start: ``iteration``, ``size`` (the scale's long side), ``loss``, ``terms``
        (weighted; they add up to the loss), ``gradient_norms``, ``step``, ``seconds``: see `Progress`. Each scale
        begins with a line of its own start, which has the number of the last iteration of the scale before.
    settings : dict
        All that was set, with versions; JSON-serialisable.
    ending : Ending
        How it ended; `stopped`, `interrupted`, `failed` and `out_of_memory` ask it.
    """

    image: np.ndarray = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    settings: dict[str, Any]
    ending: Ending = field(default_factory=Ending)

    def save(self, path: str | os.PathLike[str], depth: int = 8) -> None:
        """Write the image with the settings, as `save_image`."""
        save_image(path, self.image, self.settings, depth)

    def _repr_png_(self) -> bytes:
        """The image, for a notebook."""
        return png_bytes(self.image)


Callback = Callable[[Progress], object]


def check_ended(result: Result) -> None:
    """KeyboardInterrupt, MemoryError or FloatingPointError if that ended the run before its time."""
    if result.interrupted:
        raise KeyboardInterrupt
    if result.out_of_memory or result.ending.how == "no room":
        raise MemoryError(result.stopped)
    if result.failed:
        raise FloatingPointError(result.stopped)


def to_image(x: Array) -> np.ndarray:
    """An iterate on any device as a picture ``(H, W, 3)``, float32 in [0, 1], on the host."""
    return np.clip(to_host(x), 0, 1).astype(np.float32)


def record_of(
    use_case: str, s: Settings, inputs: Inputs, iterations: list[int], names: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run is of, and with what settings; JSON-serialisable. `s` is complete, and there are so many iterations at
    each scale."""
    used = {name: getattr(s, name) for name in setting_names(use_case)}
    layered = [name for name in ("content_layers", "style_layers") if name in used]
    used |= {name: layer_weights(used[name], s.convention) for name in layered}
    used["init"] = picture_name(s.init)
    if s.iterations is None:
        used["iterations"] = tuple(iterations) if len(iterations) > 1 else iterations[0]
    if "scales" in used:
        used["scales"] = [max(inputs.shape(scale)) for scale in inputs.scales]
    weights = {given.name: given.weight for given in inputs.each if given.weight != 1.0}
    weighted = {"style_weights": weights} if weights else {}
    return {"command": use_case, **inputs.names, **names, **weighted, **inputs.regions_record, **used}


def still(history: Sequence[Mapping[str, Any]], until: float | None, descent: Descent) -> bool:
    """Whether the last `STILL` steps have each moved the pixels by less than `until`, in the root mean square, and no
    other weights are to be tried."""
    x = descent.best
    if until is None or x is None or len(history) < STILL or descent.renewing:
        return False
    last = history[-STILL:]
    longest = until * float(np.sqrt(x.size))
    return len({line["size"] for line in last}) == 1 and all(0 < line["step"] < longest for line in last)


def made_with(vgg: VGG) -> dict[str, Any]:
    """What made a result, for its record."""
    return network_record(vgg) | versions(vgg)


NETWORK: dict[str, Callable[[VGG], Any]] = {
    "weights": lambda vgg: vgg.source,
    "weights_sha256": lambda vgg: vgg.sha256,
    "architecture": lambda vgg: vgg.architecture,
    "pooling": lambda vgg: vgg.pooling,
    "dtype": lambda vgg: str(vgg.dtype),
    "backend": lambda vgg: vgg.xp.__name__,
    "convolution": lambda vgg: vgg.convolution,
    "tf32": lambda vgg: vgg.tf32,
    "threads": lambda vgg: vgg.workers.threads,
}
"""What a record says of the network that made a result, and of how it was run."""


def network_record(vgg: VGG) -> dict[str, Any]:
    """All that `NETWORK` names."""
    return {name: of(vgg) for name, of in NETWORK.items()}


def versions(vgg: VGG) -> dict[str, str]:
    """Of the programs that made a result: some of `VERSIONS`."""
    return {
        "nsnumpy": __version__,
        "python": platform.python_version(),
        vgg.xp.__name__: vgg.xp.__version__,
        "scipy": metadata.version("scipy"),
    }
