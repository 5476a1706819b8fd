"""A run: scale after scale, kept and gone on with."""

from __future__ import annotations

import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from ._version import __version__
from .backend import asarray, device_errors
from .checkpoint import EVERY, Checkpoint, Keeper, digest, on_device, read_checkpoint
from .images import Picture, fit_image, fit_size, image_shape, load_image
from .objective import Objective, layer_weights
from .optimize import Iterate, Minimum, minimize
from .results import Callback, Progress, Result, to_image
from .settings import BOUNDS, INITS, Settings
from .vgg import VGG
from .workers import one_blas_thread


@dataclass(frozen=True)
class Keeping:
    """How a run is kept, and what it goes on from.

    Attributes
    ----------
    checkpoint : path, or None
        The file to keep it in.
    every : int
        After how many iterations that is written.
    resume : path, Checkpoint, or None
        What to go on from.
    """

    checkpoint: str | os.PathLike[str] | None = None
    every: int = EVERY
    resume: str | os.PathLike[str] | Checkpoint | None = None


class Run:
    """A run under way: scale after scale.

    Parameters
    ----------
    use_case : str
    vgg : VGG
    objective_at : function of (size, style_size)
        Takes the long sides of the result and of the style picture, and returns the objective, and a picture of the
        result's shape.
    s : Settings
        Completed.
    pictures : dict from "content", "style" to pictures
    names : dict from str to str
        What else belongs into the record.
    callback : function of one `Progress`, or None
    keeping : Keeping
    """

    def __init__(
        self,
        use_case: str,
        vgg: VGG,
        objective_at: Callable[[int | None, int | None], tuple[Objective, np.ndarray]],
        s: Settings,
        pictures: dict[str, Picture],
        names: dict[str, str],
        callback: Callback | None,
        keeping: Keeping,
    ) -> None:
        self.vgg, self.objective_at, self.s, self.pictures, self.callback = vgg, objective_at, s, pictures, callback
        self.began = time.perf_counter()
        shapes = {name: image_shape(picture) for name, picture in pictures.items()}
        self.scales = scales_of(s, shapes)
        self.iterations = s.iterations_at(self.scales)
        self.final = fit_size(next(iter(shapes.values())), s.size)
        self.history: list[dict[str, Any]] = []
        self.stops: list[str] = []
        self.image: np.ndarray | None = None
        self.counts: list[int] = []  # iterations at the scales that are done
        self.loss = 0.0
        self.settings = self._record(use_case, names)
        self.keeper = None if keeping.checkpoint is None else Keeper(keeping.checkpoint, keeping.every)
        self.resumed = None if keeping.resume is None else self._resumed(keeping.resume)
        if self.keeper and self.resumed and not self.keeper.path.exists():
            self.keeper.offer(self.resumed)

    def _record(self, use_case: str, names: dict[str, str]) -> dict[str, Any]:
        """What the run is of, and with; JSON-serialisable."""
        used = {f.name: getattr(self.s, f.name) for f in fields(self.s) if use_case in f.metadata["only"]}
        layered = [name for name in ("content_layers", "style_layers") if name in used]
        used |= {name: layer_weights(used[name], self.s.convention) for name in layered}
        used["init"] = _name(self.s.init)
        if self.s.iterations is None:
            used["iterations"] = tuple(self.iterations) if len(self.iterations) > 1 else self.iterations[0]
        if "scales" in used:
            used["scales"] = [max(self.final) if size is None else size for size, _ in self.scales]
        named = {name: _name(picture) for name, picture in self.pictures.items()}
        return {"command": use_case, **named, **names, **used, **_versions(self.vgg)}

    def _identity(self) -> dict[str, Any]:
        """The record, with the digests of the pictures, at the sizes that are used, in place of their names."""
        sizes = dict(zip(("content", "style"), self.scales[-1], strict=True))
        digests = {f"{name}_sha256": digest(load_image(self.pictures[name], sizes[name])) for name in self.pictures}
        return {name: value for name, value in self.settings.items() if name not in self.pictures} | digests

    def _resumed(self, resume: str | os.PathLike[str] | Checkpoint) -> Checkpoint:
        checkpoint = resume if isinstance(resume, Checkpoint) else read_checkpoint(resume)
        checkpoint.check(self._identity())
        self.began -= checkpoint.seconds
        self.history, self.stops = list(checkpoint.history), list(checkpoint.stops)
        state = checkpoint.state
        self.image, self.loss, self.counts = to_image(state["best"]), state["lowest"], list(checkpoint.counts)
        ran = [*self.counts, max(state["iteration"], self.iterations[checkpoint.scale])]
        if ran != self.iterations[: len(ran)]:  # not asked for now: but this is what ran
            self.iterations = ran + self.iterations[len(ran) :]
            self.settings["iterations"] = self.iterations if len(self.iterations) > 1 else self.iterations[0]
        if self.s.optimizer == "scipy":
            warnings.warn(
                "scipy's L-BFGS-B does not give its memory away: the run goes on from the same pixels with a fresh one",
                stacklevel=5,
            )
        return checkpoint

    def go(self) -> Result:
        """Run it, or the rest of it."""
        how: dict[str, bool] = {}
        identity = self._identity() if self.keeper else {}
        for number in range(len(self.counts), len(self.scales)):
            size, _ = self.scales[number]
            try:
                # scipy's vectors are short work for BLAS: its threads would wait for each other, and their number would
                # move the last digits. All else here has threads of its own, or needs none.
                with device_errors(), one_blas_thread:
                    minimum = self._minimize(number, identity)
            except (KeyboardInterrupt, FloatingPointError, MemoryError) as error:
                if self.image is None:
                    raise
                how = {"interrupted": isinstance(error, KeyboardInterrupt)}
                how |= {"failed": not how["interrupted"], "out_of_memory": isinstance(error, MemoryError)}
                why = "interrupted" if how["interrupted"] else "out of memory" if how["out_of_memory"] else str(error)
                self.stops.append(f"{why}, before the first iterate at {size or 'full'} pixels")
                break
            self.image, self.loss = to_image(minimum.x), minimum.loss
            self.counts.append(minimum.iterations)
            how = {name: getattr(minimum, name) for name in ("interrupted", "failed", "out_of_memory")}
            if minimum.stopped:
                at = f" at {max(self.image.shape)} pixels" if len(self.scales) > 1 else ""
                self.stops.append(minimum.stopped + at)
            if minimum.interrupted or minimum.failed:
                break
        try:
            if self.keeper:
                self.keeper.flush()
        except KeyboardInterrupt:
            how["interrupted"] = True
            self.stops.append(f"interrupted while {self.keeper.path} was written")
        settings = self.settings | {"loss": self.loss}
        return Result(fit_image(self.image, self.final), self.history, settings, "; ".join(self.stops), **how)

    def _minimize(self, number: int, identity: dict[str, Any]) -> Minimum:
        """The minimisation at one scale, from the result of the one before, or from where it was kept."""
        s, xp = self.s, self.vgg.xp
        objective, like = self.objective_at(*self.scales[number])
        x = _start(s, like, self.pictures) if self.image is None else fit_image(self.image, like.shape[:2])
        if s.optimizer != "scipy":  # it works on the host; the others follow the network to its device
            x = asarray(x, xp, self.vgg.dtype)
        counts, stops = list(self.counts), list(self.stops)
        total = sum(counts) + sum(self.iterations[number:])

        def on_iterate(iterate: Iterate) -> None:
            seconds = time.perf_counter() - self.began
            progress = Progress(
                sum(counts) + iterate.iteration,
                total,
                iterate.loss,
                objective.terms,
                objective.gradient_norms,
                iterate.step,
                seconds,
                iterate.x,
            )
            self.history.append(progress.record())
            if self.callback is not None:
                self.callback(progress)
            if self.keeper:
                kept = Checkpoint(identity, self.history[:], seconds, number, counts, stops, dict(iterate.state))
                self.keeper.offer(kept)

        return minimize(
            objective,
            x,
            method=s.optimizer,
            iterations=self.iterations[number],
            bounds=BOUNDS[s.bounds],
            lr=s.lr,
            momentum=s.momentum,
            resume=self._taken(number),
            callback=on_iterate,
        )

    def _taken(self, number: int) -> dict[str, Any] | None:
        """What to go on from at this scale, on its device, if that is where the run was kept.

        It is handed over, so that its arrays can be forgotten as the optimizer forgets them.
        """
        if not (self.resumed and number == self.resumed.scale):
            return None
        state = dict(self.resumed.state)
        self.resumed.state.clear()
        return state if self.s.optimizer == "scipy" else on_device(state, self.vgg.xp)


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
