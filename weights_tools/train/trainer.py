"""The training: batches, their adversarial pictures, the gradients of all groups of a batch, a step; and its state."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nsnumpy import WeightFile
from nsnumpy.backend import Array, asarray, device_namespace, to_host
from nsnumpy.workers import Scratch, Workers

from ..states import TrainingError, load_groups, save_groups
from .attack import perturb, random_in_ball
from .classifier import Arrays, Classifier, initial_parameters, network_layers
from .data import Pictures, halved, middle_crops, random_crops
from .optimizer import one_cycle, sgd_step

_BLOCK_BYTES = 4 << 20  # of scratch memory for the convolutions of a group
_KEPT = 0.9  # of the running statistics, at each step


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes
    ----------
    epochs : float
    crop : int
        Side of the random crops, in pixels.
    halved : bool
        Whether the pictures are halved before: faster, for the beginning.
    """

    epochs: float
    crop: int
    halved: bool = False


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a training, with the pictures.

    Attributes
    ----------
    widths : five ints
        Filters of each block; VGG-19's are 64, 128, 256, 512, 512.
    last : str
        The deepest convolution.
    stages : tuple of Stage
    batch, group : int
        Pictures of a step, and how many of them are normalised together.
    rate, momentum, weight_decay : float
        `rate` is the greatest of the one-cycle schedule.
    radius : float
        L2 norm of the perturbation of a 64 x 64 picture, pixels in [0, 1]; a smaller one has it in proportion to its
        side, so that the mean square per pixel is the same. 0: none, plain training.
    step : float
        Length of an adversarial step, over the radius.
    steps : int
        Adversarial steps.
    seed : int
    """

    widths: tuple[int, ...] = (24, 48, 96, 192, 192)
    last: str = "conv5_1"
    stages: tuple[Stage, ...] = (Stage(2, 28, True), Stage(4, 48))
    batch: int = 128
    group: int = 32
    rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 3e-4
    radius: float = 1.2
    step: float = 1.5
    steps: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What a callback gets after each step; `accuracy`, of the held-out pictures, at the end of an epoch."""

    step: int
    steps: int
    epoch: float
    loss: float
    rate: float
    images_per_second: float
    accuracy: float | None = None

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class State:
    """Where a training stands: enough to go on exactly as if it had never stopped."""

    step: int
    parameters: Arrays
    velocities: Arrays
    statistics: Arrays = field(default_factory=dict)

    def save(self, path: Path, recipe: Recipe, pictures: str = "") -> None:
        """Write it all, or nothing; `pictures` is their fingerprint."""
        groups = {kind: getattr(self, kind) for kind in _KINDS}
        save_groups(path, self.step, asdict(recipe), pictures, groups)


_KINDS = ("parameters", "velocities", "statistics")


def load_state(path: str | os.PathLike[str], recipe: Recipe, xp: Any = np, pictures: str = "") -> State:
    """The state that `State.save` wrote.

    Raises
    ------
    TrainingError
        If there is none, or it belongs to another recipe or, where their fingerprint is given, to other pictures.
    """
    step, kinds = load_groups(path, asdict(recipe), pictures, _KINDS, xp)
    parameters = kinds["parameters"]
    try:
        kinds["parameters"] = {name: parameters[name] for name in initial_parameters(recipe.widths, 2, 0, recipe.last)}
    except KeyError as error:
        raise TrainingError(f"{path}: no checkpoint that can be read; begin without --resume") from error
    return State(step, **kinds)


class Trainer:
    """A training under way.

    Parameters
    ----------
    pictures, held_out : Pictures
        To train on, and to measure the accuracy on.
    recipe : Recipe
    device : "cpu" or "gpu"
    threads : int, or None
        None takes the cores that this process may use. The result does not depend on it: each group is one thread's.
    """

    def __init__(
        self,
        pictures: Pictures,
        held_out: Pictures,
        recipe: Recipe,
        *,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        check_recipe(recipe, pictures)
        self.pictures, self.held_out, self.recipe = pictures, held_out, recipe
        self.xp = device_namespace(device)
        self.workers = Workers.on(self.xp, threads)
        # of each thread: its scratch memory belongs to the thread
        self.inner = Workers(1, _BLOCK_BYTES) if device == "cpu" else self.workers
        self.mean = pictures.pixels.mean(axis=(0, 1, 2)) / 255
        self._half = halved(pictures.pixels) if any(stage.halved for stage in recipe.stages) else None
        self.epoch_steps = len(pictures) // recipe.batch
        self.stage_steps = [round(stage.epochs * self.epoch_steps) for stage in recipe.stages]
        self.steps = sum(self.stage_steps)
        if not self.steps:
            raise ValueError(f"{len(pictures)} pictures: no step at all in these stages; choose more epochs")
        parameters = initial_parameters(recipe.widths, pictures.classes, recipe.seed, recipe.last)
        parameters = {name: self.xp.asarray(array) for name, array in parameters.items()}
        self.state = State(0, parameters, {name: self.xp.zeros_like(array) for name, array in parameters.items()})

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the pictures that it trains on, and their classes: a checkpoint belongs to them."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.pictures.pixels).data)
        digest.update(np.ascontiguousarray(self.pictures.labels).data)
        return f"{self.pictures.pixels.shape} {self.pictures.classes} {digest.hexdigest()}"

    def stage(self, step: int) -> Stage:
        """The stage that a step belongs to."""
        for stage, steps in zip(self.recipe.stages, self.stage_steps, strict=True):
            if step < steps:
                return stage
            step -= steps
        return self.recipe.stages[-1]

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pictures less the mean colour, their classes, and where the attack begins: of the seed and the step alone."""
        recipe, stage = self.recipe, self.stage(step)
        epoch, place = divmod(step, self.epoch_steps)
        order = np.random.default_rng([recipe.seed, 1, epoch]).permutation(len(self.pictures))
        rng = np.random.default_rng([recipe.seed, 2, step])
        # Sorted and shuffled again: needless, but so were the batches of the built-in network, which this makes again.
        chosen = rng.permutation(np.sort(order[place * recipe.batch : (place + 1) * recipe.batch]))
        x = random_crops((self._half if stage.halved else self.pictures.pixels)[chosen], stage.crop, rng)
        d = random_in_ball(rng, x.shape, self._radius(stage))
        return x - self.mean.astype(np.float32), self.pictures.labels[chosen], d

    def _radius(self, stage: Stage) -> float:
        return self.recipe.radius * stage.crop / 64

    def gradients(self, step: int) -> tuple[float, Arrays, Arrays]:
        """The loss of a step's batch, its gradient, and the statistics: means over the groups."""
        recipe, radius = self.recipe, self._radius(self.stage(step))
        classifier = Classifier(self.state.parameters)
        x, labels, d = (self.xp.asarray(array) for array in self.batch(step))

        def work(start: int, _: Scratch) -> tuple[float, Arrays, Arrays]:
            group = slice(start, start + recipe.group)
            pictures, classes = x[group], labels[group]
            if radius:

                def gradient(x: Array) -> Array:
                    return classifier.loss(x, classes, self.inner, of_input=True)[1]

                pictures = perturb(gradient, pictures, d[group], radius, recipe.step * radius, recipe.steps)
            return classifier.loss(pictures, classes, self.inner)

        parts = self.workers.map(work, range(0, recipe.batch, recipe.group))
        losses, gradients, statistics = zip(*parts, strict=True)
        return sum(losses) / len(parts), _mean(gradients), _mean(statistics)

    def train(self, callback: Callable[[Report], object] | None = None, until: int | None = None) -> None:
        """Go on to the last step, or until so many are done.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        while self.state.step < (self.steps if until is None else min(until, self.steps)):
            began = time.perf_counter()
            state, recipe = self.state, self.recipe
            rate = one_cycle(state.step / self.steps, recipe.rate)
            with np.errstate(all="ignore"):  # what is not finite is told below
                loss, gradients, statistics = self.gradients(state.step)
            if not math.isfinite(loss):
                raise TrainingError(f"step {state.step}: the loss is {loss}: choose a rate below {recipe.rate}")
            parameters, velocities = sgd_step(
                state.parameters, state.velocities, gradients, rate, recipe.momentum, recipe.weight_decay
            )
            before = state.statistics or statistics
            running = {name: _KEPT * before[name] + (1 - _KEPT) * array for name, array in statistics.items()}
            self.state = State(state.step + 1, parameters, velocities, running)  # in one step: Ctrl-C may come any time
            if callback:
                speed = recipe.batch / (time.perf_counter() - began)
                step = self.state.step
                accuracy = self.accuracy() if step % self.epoch_steps == 0 or step == self.steps else None
                callback(Report(step, self.steps, step / self.epoch_steps, loss, rate, speed, accuracy))

    def accuracy(self) -> float | None:
        """The share of the held-out pictures whose class gets the highest score."""
        if not len(self.held_out):
            return None
        stage, classifier = self.stage(self.state.step - 1), Classifier(self.state.parameters)
        pixels = halved(self.held_out.pixels) if stage.halved else self.held_out.pixels

        def right(start: int, _: Scratch) -> int:
            group = slice(start, start + self.recipe.group)
            x = middle_crops(pixels[group], stage.crop) - self.mean.astype(np.float32)
            scores = classifier.scores(self.xp.asarray(x), self.state.statistics, self.inner)
            return int((to_host(scores).argmax(axis=1) == self.held_out.labels[group]).sum())

        starts = range(0, len(self.held_out), self.recipe.group)
        return sum(self.workers.map(right, starts)) / len(self.held_out)

    def network(self) -> WeightFile:
        """The trained convolutions as a `WeightFile`, normalisations folded in."""
        host = {name: asarray(array, np, "float32") for name, array in self.state.parameters.items()}
        statistics = {name: asarray(array, np, "float32") for name, array in self.state.statistics.items()}
        return Classifier(host).fold(statistics, self.mean)


def check_recipe(recipe: Recipe, pictures: Pictures) -> None:
    """ValueError if the recipe cannot be followed with these pictures."""
    network_layers(recipe.last)
    if recipe.batch % recipe.group:
        raise ValueError(f"batch {recipe.batch} is not a multiple of group {recipe.group}")
    if len(pictures) < recipe.batch:
        raise ValueError(f"{len(pictures)} pictures are fewer than a batch of {recipe.batch}")
    side = pictures.pixels.shape[1]
    least = 2 ** (int(recipe.last[4]) - 1)  # poolings before the last block
    for stage in recipe.stages:
        most = side // 2 if stage.halved else side
        if not least <= stage.crop <= most:
            raise ValueError(f"crop {stage.crop}: {least} to {most} expected, with {recipe.last} and these pictures")


def _mean(parts: tuple[Arrays, ...]) -> Arrays:
    """Added up in this order, so that the result does not depend on which was ready first."""
    return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
