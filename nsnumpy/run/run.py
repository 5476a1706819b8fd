"""A run: scale after scale and step after step, kept and gone on with."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import asarray, device_errors, empty_pool
from ..ending import Ending
from ..files.checkpoint import EVERY, Checkpoint, CheckpointError, Keeper, on_device, read_checkpoint
from ..files.weights import load_vgg
from ..objective import Objective
from ..optimize import Descent, Iterate
from ..variable import through
from ..vgg import VGG
from ..workers import Workers
from .inputs import Inputs, Styles
from .means import means_of, taken_apart
from .results import Callback, Progress, Result, made_with, record_of, still, to_image
from .scales import Scale
from .settings import BOUNDS, layers_of, settings_of
from .shared import StyleTargets


class Run:
    """A run of a use case, driven by whoever wants its steps: `go`, or `steps` for one that stops, looks and changes.

    Parameters
    ----------
    use_case : "transfer", "texture" or "reconstruct"
    pictures : mapping from "content", "style" to pictures
        What the use case takes. The style may be a list of (picture, weight): the loss is the weighted sum of those for
        each; or, of a transfer, (picture, weight, mask) for a part of it. Or `Inputs`, read for this run.
    vgg : VGG, or None
        The network; None takes the built-in one. See `load_vgg`.
    layer : str, or None
        Of a reconstruction: conv4_2 unless given.
    targets : StyleTargets, or None
        What is known of style pictures already, and what to keep there for other runs.
    checkpoint : path, Keeper, or None
        A file to keep the run in, written anew every `checkpoint_every` iterations and when it ends.
    checkpoint_every : int
    resume : path, Checkpoint, or None
        Such a file, to go on from: with the same pictures, network and settings; only `iterations` may be others, those
        of the file unless given, and not fewer than are done. The optimizers of this package go on as if they had never
        stopped, with the same numbers (on the same machine, with as many threads); scipy's from the same pixels with a
        fresh memory, and a warning.
    **settings
        Fields of `Settings`: size, iterations, optimizer, init, seed, alpha, beta, tv, content_layers, ...; and how it
        is computed: tile, memory_pairs, scratch and executor, as for `means.means_of`.

    Attributes
    ----------
    history : list of dicts
        See `Result`.
    settings : dict
        What the run is of, and with; JSON-serialisable.

    Raises
    ------
    ValueError
        If a picture, a setting or a checkpoint cannot be used; PictureError, WeightFileError and CheckpointError are
        ValueErrors.
    OSError
        If a picture cannot be read, or no checkpoint could be written.

    Examples
    --------
    >>> import nsnumpy as ns
    >>> run = ns.Run("texture", {"style": "sample:starry"}, size=32, iterations=6)
    >>> for step in run.steps():
    ...     if step.iteration == 2 and not run.changes:
    ...         run.change(beta=5)  # seen by the next step
    >>> [line["iteration"] for line in run.history], run.result().settings["changes"]
    ([0, 1, 2, 2, 3, 4, 5, 6], [{'iteration': 2, 'beta': 5.0}])
    """

    def __init__(
        self,
        use_case: str,
        pictures: Mapping[str, Styles] | Inputs,
        *,
        vgg: VGG | None = None,
        layer: str | None = None,
        targets: StyleTargets | None = None,
        checkpoint: str | os.PathLike[str] | Keeper | None = None,
        checkpoint_every: int = EVERY,
        resume: str | os.PathLike[str] | Checkpoint | None = None,
        **settings: Any,
    ) -> None:
        if use_case != "reconstruct" and layer is not None:
            raise TypeError(f"{use_case} has no setting 'layer'")
        layer = layer or "conv4_2"
        means, settings = taken_apart(settings)
        self.s = settings_of(use_case, **settings).completed(use_case)
        self.began = time.perf_counter()
        begins = resume is None
        self.inputs = pictures if isinstance(pictures, Inputs) else Inputs(use_case, pictures, self.s, begins=begins)
        self.vgg = (vgg or load_vgg()).with_border(self.s.borders()[0])
        self._targets = targets
        self._layers = layers_of(use_case, self.s, layer)
        self.scales = self.inputs.scales
        self._sizes = [max(self.inputs.shape(scale)) for scale in self.scales]
        self.iterations = self.s.iterations_at(self._sizes)
        self.history: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self._stops: list[str] = []
        self._ending: Ending | None = None  # if an error ended it
        self._changed = False  # whether its weights were, since it was begun or taken up again
        self._image: np.ndarray | None = None
        self._loss = 0.0
        self._counts: list[int] = []  # iterations at the scales that are done
        self._objective: Objective | None = None
        self._descent: Descent | None = None  # of the scale that it is at
        named = {"layer": layer} if use_case == "reconstruct" else {}
        self.settings = record_of(use_case, self.s, self.inputs, self.iterations, named) | made_with(self.vgg)
        resume = read_checkpoint(resume) if isinstance(resume, str | os.PathLike) else resume
        self.means = means_of(self.vgg, self.s, self.inputs, self._layers, resume, **means)
        self.settings |= self.means.record
        self._keeper = Keeper(checkpoint, checkpoint_every) if isinstance(checkpoint, str | os.PathLike) else checkpoint
        self._resumed = None if resume is None else self._resume(resume)
        if self._keeper and self._resumed and not self._keeper.path.exists():
            self._keeper.offer(self._resumed)

    def _identity(self) -> dict[str, Any]:
        """The record, with the digests of the pictures, at the sizes that are used, in place of their names."""
        names = {*self.inputs.names, "regions", "style_parts"}
        return {name: value for name, value in self.settings.items() if name not in names} | self.inputs.digests

    def _resume(self, checkpoint: Checkpoint) -> Checkpoint:
        checkpoint.check(self._identity())
        self.began -= checkpoint.seconds
        self.history, self._stops = list(checkpoint.history), list(checkpoint.stops)
        for change in checkpoint.settings.get("changes", []):
            self._note(change)
        best, self._loss, self._counts = checkpoint.state["best"], checkpoint.state["lowest"], list(checkpoint.counts)
        self._image = to_image(self.inputs.variable(self.scales[checkpoint.scale], best).picture(best))
        s = self.s if self.s.iterations is not None else replace(self.s, iterations=checkpoint.settings["iterations"])
        if (left := checkpoint.iterations_left(s.iterations_at(self._sizes))) != self.iterations:
            self.iterations = left
            self.settings["iterations"] = left if len(left) > 1 else left[0]
        if self.s.optimizer == "scipy":
            warnings.warn(
                "scipy's L-BFGS-B does not give its memory away: the run goes on from the same pixels with a fresh one",
                stacklevel=4,
            )
        return checkpoint

    def go(self, callback: Callback | None = None) -> Result:
        """Run it, or the rest of it.

        Parameters
        ----------
        callback : function of one `Progress`, or None
            Called at the start (of each scale) and after every iteration.

        Raises
        ------
        FloatingPointError, MemoryError, KeyboardInterrupt
            If the loss is not finite at the start; if there is not enough for the first iterate; if it comes before it.
        DeviceError
            If the GPU fails.
        """
        try:
            with device_errors(), contextlib.closing(self.steps()) as steps:
                for step in steps:
                    if callback is not None:
                        callback(step)
                    del step  # what the optimizer forgets is not to be held here
        except (KeyboardInterrupt, FloatingPointError, MemoryError) as error:
            self._ending = self._ended_by(error)
            if self._ending is None:
                raise
        return self.result()

    def steps(self) -> Generator[Progress, None, None]:
        """Each step as it is made: the start of each scale, and every iteration.

        Nothing is computed that was not asked for. Between two steps the run may be given other weights (`change`), or
        be left: close the iterator then, or let it go. Called again, it goes on (scipy's optimizer from the same
        pixels, with a fresh memory).
        """
        self._ending = None
        identity = self._identity() if self._keeper else {}
        try:
            with device_errors():
                while len(self._counts) < len(self.scales):
                    yield from self._steps_of_a_scale(identity)
                    empty_pool(self.vgg.xp)
        except (KeyboardInterrupt, FloatingPointError, MemoryError) as error:
            self._ending = self._ended_by(error)
            raise

    def _steps_of_a_scale(self, identity: dict[str, Any]) -> Generator[Progress, None, None]:
        number, before = len(self._counts), sum(self._counts)
        descent = self._descent or self._begin(number)
        total = before + sum(self.iterations[number:])
        at_rest = still(self.history, self.s.until, descent)  # it may have been left there
        with contextlib.closing(descent.steps(self.iterations[number])) as iterates:
            while not at_rest and (iterate := next(iterates, None)):
                step = self._step(iterate, before, total)
                self.history.append(step.record())
                if self._keeper:
                    self._keeper.offer(self._checkpoint(identity, step, iterate))
                del iterate
                yield step
                del step
                at_rest = still(self.history, self.s.until, descent)
        self._take()
        if why := f"little changed any more {self._when()}" if at_rest else descent.ending.why:
            self._stops.append(why + self._where())
        self._counts.append(descent.iterations)
        self._descent = self._objective = None

    def _checkpoint(self, identity: dict[str, Any], step: Progress, iterate: Iterate) -> Checkpoint:
        record = identity | ({"changes": self.changes[:]} if self.changes else {})
        done = len(self._counts), list(self._counts), list(self._stops)
        return Checkpoint(record, self.history[:], step.seconds, *done, dict(iterate.state))

    def change(self, **weights: Any) -> None:
        """Other weights alpha, beta or tv, from the next step on, which is to the same picture.

        What L-BFGS remembers is dropped, and so is the best picture so far, whose loss was another one. A checkpoint
        knows of the change once a step was made with it.

        Raises
        ------
        ValueError
            If the use case has no such weight, or it is not a number, 0 or more.
        """
        known = [name for name in ("alpha", "beta", "tv") if getattr(self.s, name) is not None]
        if unknown := [name for name in weights if name not in known]:
            raise ValueError(f"{unknown[0]}: not a weight of this run; it has {', '.join(known)}")
        if not weights or None in weights.values():
            raise ValueError(f"a number for some of {', '.join(known)} expected; got {weights}")
        at = self.history[-1]["iteration"] if self.history else 0
        checked = replace(self.s, **weights)
        self._note({"iteration": at, **{name: getattr(checked, name) for name in weights}})
        self._changed = True
        if self._descent is not None:
            for name in weights:
                setattr(self._objective, name, getattr(self.s, name))
            self._descent.renew()

    def result(self) -> Result:
        """What there is by now.

        Raises
        ------
        RuntimeError
            If no step has been made.
        """
        self._take()
        if self._image is None:
            raise RuntimeError("no step has been made: there is no picture yet")
        ending = self._ending or Ending("early" if self._stops else "finished")
        if self._ending is None and len(self._counts) < len(self.scales):
            ending = Ending("left", f"left {self._when()}{self._where()}")
        why = [*self._stops, ending.why]
        if self._keeper:
            try:
                self._keeper.flush()
            except KeyboardInterrupt:
                ending = Ending("interrupted", f"interrupted while {self._keeper.path} was written")
                why.append(ending.why)
        settings = self.settings | {"loss": self._loss} | ({"changes": self.changes[:]} if self.changes else {})
        image = self.inputs.finished(self._started(self.scales[-1]))
        return Result(image, list(self.history), settings, replace(ending, why="; ".join(filter(None, why))))

    def _begin(self, number: int) -> Descent:
        """At this scale, from the result of the one before, or from where it was kept."""
        s, inputs, scale = self.s, self.inputs, self.scales[number]
        self._objective = self.means.objective(self.vgg, s, inputs, scale, self._layers, self._targets)
        xp = np if s.optimizer == "scipy" or self._objective.tiled else self.vgg.xp
        x = self._started(scale)
        if s.optimizer != "scipy":  # it takes float64
            x = asarray(x, xp, self.vgg.dtype)
        assert s.optimizer is not None  # as in all settings that are complete
        self._variable = inputs.variable(scale, x)
        self._descent = Descent(
            through(self._variable, self._objective.evaluate),
            self._variable.of_picture(x),
            method=s.optimizer,
            bounds=BOUNDS[s.bounds],
            lr=s.lr,
            momentum=s.momentum,
            memory=self.means.pairs,
            scratch=self.means.scratch,
            rounding=self.vgg.rounding,
            workers=self.vgg.workers if xp is self.vgg.xp else Workers.on(xp),
            resume=(taken := self._taken(number, xp)),
        )
        if taken and self._changed:  # since it was kept
            self._descent.renew()
        return self._descent

    def _started(self, scale: Scale) -> np.ndarray:
        """Where a scale begins."""
        return self.inputs.start(self.s, scale, self._image)

    def _step(self, iterate: Iterate, before: int, total: int) -> Progress:
        terms, norms = iterate.details
        done, seconds = before + iterate.iteration, time.perf_counter() - self.began
        x, finish = self._variable.picture(iterate.x), self.inputs.finished
        return Progress(done, total, iterate.loss, terms, norms, iterate.step, seconds, x, finish)

    def _take(self) -> None:
        """The best picture of the scale that it is at."""
        if self._descent is not None and self._descent.best is not None:
            self._image = to_image(self._variable.picture(self._descent.best))
            self._loss = self._descent.lowest

    def _when(self) -> str:
        iterations = self._descent.iterations if self._descent is not None else 0
        return f"after {iterations} of {self.iterations[len(self._counts)]} iterations"

    def _where(self) -> str:
        return f" at {self._sizes[len(self._counts)]} pixels" if len(self.scales) > 1 else ""

    def _ended_by(self, error: BaseException) -> Ending | None:
        """The ending of a run that an error ends before its time; None if there is no picture."""
        if self._descent is not None and self._descent.best is not None:
            when = f" ({self._when()})" if isinstance(error, FloatingPointError) else f" {self._when()}"
            return Ending.by(error, when + self._where())
        if self._image is None:
            return None
        size = self.scales[len(self._counts)]["result"] or "full"
        return Ending.by(error, f", before the first iterate at {size} pixels")

    def _note(self, change: dict[str, Any]) -> None:
        if not change.keys() <= {"iteration", "alpha", "beta", "tv"}:
            raise CheckpointError(
                "the run was steered in the studio, and goes on there: nsnumpy studio --folder FOLDER"
            )
        self.changes.append(change)
        self.s = replace(self.s, **{name: w for name, w in change.items() if name != "iteration"})

    def _taken(self, number: int, xp: ModuleType) -> dict[str, Any] | None:
        """What to go on from at this scale, on its device, if that is where the run was kept; it is handed over, so
        that its arrays can be forgotten as the optimizer forgets them."""
        if not (self._resumed and number == self._resumed.scale):
            return None
        state = dict(self._resumed.state)
        self._resumed.state.clear()
        return on_device(state, xp)
