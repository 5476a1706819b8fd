"""The use cases: style transfer, texture (style reconstruction) and content reconstruction."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from ._version import __version__
from .backend import Array, asarray, to_host
from .images import Picture, fit_image, load_image, save_image
from .objective import CONTENT_LAYERS, STYLE_LAYERS, Layers, Objective, layer_weights
from .optimize import OPTIMIZERS, Iterate, minimize
from .vgg import VGG
from .weights import load_vgg

USE_CASES = ("transfer", "texture", "reconstruct")
INITS = ("noise", "content", "style")
BOUNDS = {"box": (0.0, 1.0), "none": None}
_WEIGHTED = "NAME[:WEIGHT],...; without weights, equal shares"


def _setting(default: Any, help: str, only: tuple[str, ...] = USE_CASES) -> Any:
    """A field of `Settings`: its default, its help text (the API's and the command line's), and who has it."""
    return field(default=default, metadata={"help": help, "only": only})


@dataclass(frozen=True)
class Settings:
    """What can be set about a run, with its defaults: the one place for the API and for the command line.

    `DEFAULTS` holds the instance of each use case. ``field.metadata["help"]`` says what each setting means.
    """

    size: int | None = _setting(384, "long side of the result in pixels")
    style_size: int | None = _setting(None, "long side of the style picture (as --size)", ("transfer", "texture"))
    iterations: int = _setting(100, "iterations of the optimizer")
    optimizer: str = _setting(
        "lbfgs-device", "lbfgs-device: L-BFGS of this package; lbfgs: scipy's L-BFGS-B; sgd: with momentum; adam"
    )
    bounds: str = _setting("box", "box: pixels stay in [0, 1]; none: clipped at the end only")
    lr: float | None = _setting(None, "step of sgd (default: from the first gradient) and of adam (0.02)")
    momentum: float = _setting(0.9, "momentum of sgd, 0 to below 1")
    init: Picture = _setting("content", "where to start: noise, content, style, or a picture")
    seed: int = _setting(0, "seed of the noise")
    alpha: float = _setting(1.0, "weight of the content loss", ("transfer",))
    beta: float = _setting(3e8, "weight of the style loss", ("transfer", "texture"))
    tv: float = _setting(100.0, "weight of the total variation loss")
    content_layers: Layers = _setting(CONTENT_LAYERS, f"layers of the content loss, {_WEIGHTED}", ("transfer",))
    style_layers: Layers = _setting(STYLE_LAYERS, f"layers of the style loss, {_WEIGHTED}", ("transfer", "texture"))

    def __post_init__(self) -> None:
        for name in ("size", "style_size", "iterations", "seed"):
            value, least = getattr(self, name), 1 if "size" in name else 0
            if not (value is None and "size" in name) and not (isinstance(value, Integral) and value >= least):
                raise ValueError(f"{name} is a whole number, {least} or more; got {value!r}")
        for name in ("momentum", "alpha", "beta", "tv"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 <= value < math.inf):
                raise ValueError(f"{name} is a number, 0 or more; got {value!r}")
        if not self.momentum < 1:
            raise ValueError(f"momentum is a number from 0 to below 1; got {self.momentum!r}")
        for name, choices in (("optimizer", OPTIMIZERS), ("bounds", tuple(BOUNDS))):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose from {', '.join(choices)}")


DEFAULTS = {
    "transfer": Settings(),
    "texture": Settings(init="noise"),
    "reconstruct": Settings(init="noise", tv=1.0),
}


def settings_of(use_case: str, **changes: Any) -> Settings:
    """The use case's defaults with some of them changed.

    Raises
    ------
    TypeError
        If the use case has no such setting.
    """
    known = [f.name for f in fields(Settings) if use_case in f.metadata["only"]]
    for name in changes:
        if name not in known:
            raise TypeError(f"{use_case} has no setting {name!r}; it has {', '.join(known)}")
    return replace(DEFAULTS[use_case], **changes)


@dataclass(frozen=True)
class Progress:
    """Where a run stands: what a callback gets, and a line of the history."""

    iteration: int
    loss: float
    terms: dict[str, float]
    seconds: float
    x: Array = field(repr=False)

    @property
    def image(self) -> np.ndarray:
        """The picture so far: ``(H, W, 3)`` float32 in [0, 1], a copy."""
        return to_image(self.x)

    def record(self) -> dict[str, Any]:
        """The same without the picture; JSON-serialisable."""
        return {"iteration": self.iteration, "loss": self.loss, "terms": self.terms, "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Result:
    """What a run made.

    Attributes
    ----------
    image : array ``(H, W, 3)``, float32, RGB in [0, 1]
        The iterate with the lowest loss.
    history : list of dicts
        Per iteration, from 0, the start: ``iteration``, ``loss``, ``terms`` (weighted; they add up to the loss),
        ``seconds``.
    settings : dict
        All that was set, with versions; JSON-serialisable.
    stopped : str
        Empty if every iteration that was asked for ran; else why not.
    interrupted : bool
        Whether Ctrl-C stopped it.
    failed : bool
        Whether a loss that is not finite stopped it.
    """

    image: np.ndarray = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    settings: dict[str, Any]
    stopped: str = ""
    interrupted: bool = False
    failed: bool = False

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
    """
    s = settings_of("transfer", **settings)
    vgg = vgg or load_vgg()
    p, a = load_image(content, s.size), load_image(style, s.style_size or s.size)
    objective = Objective(
        vgg,
        content=p,
        style=a,
        alpha=s.alpha,
        beta=s.beta,
        tv=s.tv,
        content_layers=s.content_layers,
        style_layers=s.style_layers,
    )
    names = {"content": _name(content), "style": _name(style)}
    return _run("transfer", objective, _start(s, p.shape, p, style), s, names, callback)


def texture(style: Picture, *, vgg: VGG | None = None, callback: Callback | None = None, **settings: Any) -> Result:
    """A new picture with the style of the given one and no content: minimise ``beta L_style + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "content". The result
    has the style picture's aspect ratio.
    """
    s = settings_of("texture", **settings)
    vgg = vgg or load_vgg()
    a = load_image(style, s.style_size or s.size)
    objective = Objective(vgg, style=a, beta=s.beta, tv=s.tv, style_layers=s.style_layers)
    shape = load_image(style, s.size).shape
    return _run("texture", objective, _start(s, shape, None, style), s, {"style": _name(style)}, callback)


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
    s = settings_of("reconstruct", **settings)
    vgg = vgg or load_vgg()
    p = load_image(content, s.size)
    objective = Objective(vgg, content=p, tv=s.tv, content_layers={layer: 1.0})
    names = {"content": _name(content), "layer": layer}
    return _run("reconstruct", objective, _start(s, p.shape, p, None), s, names, callback)


def _run(
    use_case: str,
    objective: Objective,
    x0: np.ndarray,
    s: Settings,
    names: dict[str, str],
    callback: Callback | None,
) -> Result:
    vgg = objective.vgg
    if s.optimizer != "lbfgs":  # scipy's works on the host; these follow the network to its device
        x0 = asarray(x0, vgg.xp, vgg.dtype)
    history: list[dict[str, Any]] = []

    def on_iterate(iterate: Iterate) -> None:
        progress = Progress(iterate.iteration, iterate.loss, objective.terms, iterate.seconds, iterate.x)
        history.append(progress.record())
        if callback:
            callback(progress)

    minimum = minimize(
        objective,
        x0,
        method=s.optimizer,
        iterations=s.iterations,
        bounds=BOUNDS[s.bounds],
        lr=s.lr,
        momentum=s.momentum,
        callback=on_iterate,
    )
    used = {f.name: getattr(s, f.name) for f in fields(s) if use_case in f.metadata["only"]}
    used |= {name: layer_weights(used[name]) for name in ("content_layers", "style_layers") if name in used}
    used["init"] = _name(s.init)
    settings = {"command": use_case, **names, **used, **_versions(vgg), "loss": minimum.loss}
    return Result(to_image(minimum.x), history, settings, minimum.stopped, minimum.interrupted, minimum.failed)


def _start(s: Settings, shape: tuple[int, ...], content: np.ndarray | None, style: Picture | None) -> np.ndarray:
    """The first iterate ``(H, W, 3)``, in [0, 1]; `content` has that shape already."""
    if not (isinstance(s.init, str) and s.init in INITS):
        if isinstance(s.init, str) and re.fullmatch(r"\w+", s.init) and not Path(s.init).exists():
            raise ValueError(f"init {s.init!r}: choose {', '.join(INITS)}, or a picture file")
        return fit_image(s.init, shape[:2])
    if s.init == "noise":
        # White noise about grey. It is faint because smooth filters hardly see its finest grain, and would leave it.
        return np.random.default_rng(s.seed).uniform(0.45, 0.55, shape).astype(np.float32)
    start = content if s.init == "content" else style
    if start is None:
        raise ValueError(f"init {s.init!r}: there is no {s.init} picture here; choose noise or a picture")
    return start if s.init == "content" else fit_image(start, shape[:2])


def to_image(x: Array) -> np.ndarray:
    """An iterate on any device as a picture ``(H, W, 3)``, float32 in [0, 1], on the host."""
    return np.clip(to_host(x), 0, 1).astype(np.float32)


def _versions(vgg: VGG) -> dict[str, Any]:
    return {
        "weights": vgg.source,
        "architecture": vgg.architecture,
        "pooling": vgg.pooling,
        "dtype": str(vgg.dtype),
        "backend": vgg.xp.__name__,
        "convolution": vgg.convolution,
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
