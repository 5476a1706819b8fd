"""The use cases: style transfer, texture (style reconstruction) and content reconstruction."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from ._version import __version__
from .backend import Array, asarray, device_errors, to_host
from .images import Picture, fit_image, fit_size, image_shape, load_image, save_image
from .objective import Objective, layer_weights
from .optimize import Iterate, minimize
from .settings import BOUNDS, INITS, Settings, settings_of
from .vgg import VGG
from .weights import load_vgg


@dataclass(frozen=True)
class Progress:
    """Where a run stands: what a callback gets, and a line of the history.

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
    """

    iteration: int
    iterations: int
    loss: float
    terms: dict[str, float]
    gradient_norms: dict[str, float]
    step: float
    seconds: float
    x: Array = field(repr=False)

    @property
    def image(self) -> np.ndarray:
        """The picture so far: ``(H, W, 3)`` float32 in [0, 1], a copy."""
        return to_image(self.x)

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
class Result:
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
    stopped : str
        Empty if every iteration that was asked for ran, at every scale; else why not.
    interrupted : bool
        Whether Ctrl-C stopped it.
    failed : bool
        Whether a loss that is not finite stopped it, or want of memory.
    out_of_memory : bool
        Whether it was the latter.
    """

    image: np.ndarray = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    settings: dict[str, Any]
    stopped: str = ""
    interrupted: bool = False
    failed: bool = False
    out_of_memory: bool = False

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image, as `save_image`; a PNG carries the settings."""
        save_image(path, self.image, self.settings)


Callback = Callable[[Progress], object]


def transfer(
    content: Picture, style: Picture, *, vgg: VGG | None = None, callback: Callback | None = None, **settings: Any
) -> Result:
    """Paint the content picture in the style of the other: minimise ``alpha L_content + beta L_style + tv L_tv``.

    Parameters
    ----------
    content, style : pictures
        Paths, "sample:NAME", PIL images, or arrays; see `load_image`. The style picture keeps its own aspect ratio.
    vgg : VGG, or None
        The network; None takes the built-in one. See `load_vgg`.
    callback : function of one `Progress`, or None
        Called at the start and after every iteration.
    **settings
        Fields of `Settings`: size, iterations, optimizer, init, seed, alpha, beta, tv, content_layers, ...

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If a picture or a setting cannot be used; PictureError and WeightFileError are ValueErrors.
    FloatingPointError
        If the loss is not finite at the start.
    MemoryError
        If there is not enough for the first iterate.
    DeviceError
        If the GPU fails.
    """
    s = settings_of("transfer", **settings).completed("transfer")
    vgg = vgg or load_vgg()

    def objective(size: int | None, style_size: int | None) -> tuple[Objective, np.ndarray]:
        p = load_image(content, size)
        return Objective(
            vgg,
            content=p,
            style=load_image(style, style_size),
            alpha=s.alpha,
            beta=s.beta,
            tv=s.tv,
            content_layers=s.content_layers,
            style_layers=s.style_layers,
            convention=s.convention,
        ), p

    return _run("transfer", vgg, objective, s, {"content": content, "style": style}, {}, callback)


def texture(style: Picture, *, vgg: VGG | None = None, callback: Callback | None = None, **settings: Any) -> Result:
    """A new picture with the style of the given one and no content: minimise ``beta L_style + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "content". The result
    has the style picture's aspect ratio.
    """
    s = settings_of("texture", **settings).completed("texture")
    vgg = vgg or load_vgg()

    def objective(size: int | None, style_size: int | None) -> tuple[Objective, np.ndarray]:
        a = load_image(style, style_size)
        made = Objective(vgg, style=a, beta=s.beta, tv=s.tv, style_layers=s.style_layers, convention=s.convention)
        return made, load_image(style, size)

    return _run("texture", vgg, objective, s, {"style": style}, {}, callback)


def reconstruct(
    content: Picture,
    layer: str = "conv4_2",
    *,
    vgg: VGG | None = None,
    callback: Callback | None = None,
    **settings: Any,
) -> Result:
    """The picture whose features at `layer` are those of the given one: minimise ``L_content + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "style".
    """
    s = settings_of("reconstruct", **settings).completed("reconstruct")
    vgg = vgg or load_vgg()

    def objective(size: int | None, _: int | None) -> tuple[Objective, np.ndarray]:
        p = load_image(content, size)
        return Objective(vgg, content=p, tv=s.tv, content_layers={layer: 1.0}, convention=s.convention), p

    return _run("reconstruct", vgg, objective, s, {"content": content}, {"layer": layer}, callback)


def _run(
    use_case: str,
    vgg: VGG,
    objective_at: Callable[[int | None, int | None], tuple[Objective, np.ndarray]],
    s: Settings,
    pictures: dict[str, Picture],
    names: dict[str, str],
    callback: Callback | None,
) -> Result:
    """Scale after scale; `objective_at` takes the long sides of the result and of the style picture, and returns the
    objective, and a picture of the result's shape."""
    began = time.perf_counter()
    shapes = {name: image_shape(picture) for name, picture in pictures.items()}
    scales = scales_of(s, shapes)
    iterations = s.iterations_at(scales)
    history: list[dict[str, Any]] = []
    image: np.ndarray | None = None
    stops: list[str] = []
    done, loss, interrupted, failed, out_of_memory = 0, 0.0, False, False, False

    def on_iterate(iterate: Iterate) -> None:
        seconds = time.perf_counter() - began
        progress = Progress(
            done + iterate.iteration,
            sum(iterations),
            iterate.loss,
            objective.terms,
            objective.gradient_norms,
            iterate.step,
            seconds,
            iterate.x,
        )
        history.append(progress.record())
        if callback:
            callback(progress)

    for (size, style_size), count in zip(scales, iterations, strict=True):
        try:
            with device_errors():
                objective, like = objective_at(size, style_size)
                x = _start(s, like, pictures) if image is None else fit_image(image, like.shape[:2])
                if s.optimizer != "lbfgs":  # scipy's works on the host; these follow the network to its device
                    x = asarray(x, vgg.xp, vgg.dtype)
                minimum = minimize(
                    objective,
                    x,
                    method=s.optimizer,
                    iterations=count,
                    bounds=BOUNDS[s.bounds],
                    lr=s.lr,
                    momentum=s.momentum,
                    callback=on_iterate,
                )
        except (KeyboardInterrupt, FloatingPointError, MemoryError) as error:
            if image is None:
                raise
            interrupted = isinstance(error, KeyboardInterrupt)
            failed, out_of_memory = not interrupted, isinstance(error, MemoryError)
            stops.append("interrupted" if interrupted else "out of memory" if out_of_memory else str(error))
            stops[-1] += f", before the first iterate at {size or 'full'} pixels"
            break
        image, loss = to_image(minimum.x), minimum.loss
        done += minimum.iterations
        interrupted, failed, out_of_memory = minimum.interrupted, minimum.failed, minimum.out_of_memory
        if minimum.stopped:
            stops.append(minimum.stopped + (f" at {max(image.shape)} pixels" if len(scales) > 1 else ""))
        if interrupted or failed:
            break
    final = fit_size(next(iter(shapes.values())), s.size)
    used = {f.name: getattr(s, f.name) for f in fields(s) if use_case in f.metadata["only"]}
    used |= {
        name: layer_weights(used[name], s.convention) for name in ("content_layers", "style_layers") if name in used
    }
    used["init"] = _name(s.init)
    if "scales" in used:
        used["scales"] = [max(final) if size is None else size for size, _ in scales]
    named = {name: _name(picture) for name, picture in pictures.items()}
    settings = {"command": use_case, **named, **names, **used, **_versions(vgg), "loss": loss}
    return Result(fit_image(image, final), history, settings, "; ".join(stops), interrupted, failed, out_of_memory)


def scales_of(s: Settings, shapes: Mapping[str, tuple[int, int]]) -> list[tuple[int | None, int | None]]:
    """The long sides of the result and of the style picture, coarse to fine; None is a picture's own size.

    Parameters
    ----------
    s : Settings
    shapes : mapping from "content", "style" to (H, W)
        Of the pictures as they were given; the result has the first one's proportions.

    Raises
    ------
    ValueError
        If the scales do not go with the size or the iterations.
    """
    result = fit_size(next(iter(shapes.values())), s.size)
    style_size = s.style_size or s.size
    style = fit_size(shapes.get("style", result), style_size)
    sizes = s.sizes(max(result), (min(result), min(style)))
    coarse = [(size, max(1, round(max(style) * size / max(result)))) for size in sizes[:-1]]
    return [*coarse, (s.size, style_size)]


def _start(s: Settings, like: np.ndarray, pictures: Mapping[str, Picture]) -> np.ndarray:
    """The first iterate ``(H, W, 3)``, in [0, 1], of the shape of `like`: the content, if there is one."""
    if not (isinstance(s.init, str) and s.init in INITS):
        if isinstance(s.init, str) and re.fullmatch(r"\w+", s.init) and not Path(s.init).exists():
            raise ValueError(f"init {s.init!r}: choose {', '.join(INITS)}, or a picture file")
        return fit_image(s.init, like.shape[:2])
    if s.init == "noise":
        # White noise about grey. It is faint because smooth filters hardly see its finest grain, and would leave it.
        return np.random.default_rng(s.seed).uniform(0.45, 0.55, like.shape).astype(np.float32)
    if s.init not in pictures:
        raise ValueError(f"init {s.init!r}: there is no {s.init} picture here; choose noise or a picture")
    return like if s.init == "content" else fit_image(pictures["style"], like.shape[:2])


def to_image(x: Array) -> np.ndarray:
    """An iterate on any device as a picture ``(H, W, 3)``, float32 in [0, 1], on the host."""
    return np.clip(to_host(x), 0, 1).astype(np.float32)


def _versions(vgg: VGG) -> dict[str, Any]:
    return {
        "weights": vgg.source,
        "weights_sha256": vgg.sha256,
        "architecture": vgg.architecture,
        "pooling": vgg.pooling,
        "dtype": str(vgg.dtype),
        "backend": vgg.xp.__name__,
        "convolution": vgg.convolution,
        "tf32": vgg.tf32,
        "threads": vgg.workers.threads,
        "nsnumpy": __version__,
        "python": platform.python_version(),
        vgg.xp.__name__: vgg.xp.__version__,
        "scipy": scipy.__version__,
    }


def _name(picture: Picture) -> str:
    """How the settings call a picture: a file by its name alone, since a result is shown to others."""
    if isinstance(picture, str) and (picture in INITS or picture.startswith("sample:")):
        return picture
    return Path(picture).name if isinstance(picture, str | os.PathLike) else type(picture).__name__
