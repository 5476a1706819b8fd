"""Refinement: all layers of the narrow network together, by gradients, towards the teacher's features.

The narrow network's features need not be the teacher's, only tell as much. What is made small is, summed over its
convolutions, the share of the teacher's features T that the best linear map B of its own features F leaves at random
positions,

    L = sum_l |F B - T|^2 / |T|^2,    dL/dF = 2 (F B - T) B' / |T|^2

B is not trained: it solves the least squares problem of the moments ``F'F`` and ``F'T`` of the last hundred steps or
so. Where it does, the derivative through B is multiplied by zero, and that at fixed B is the whole gradient. It goes
back through the package's own ops to the weights, which Adam moves. A third of the pictures are the narrow network's
own, from all stages of short runs: there, and not on photographs, an optimisation looks for what the network overlooks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nsnumpy import VGG, Progress, WeightFile, transfer
from nsnumpy.architecture import layer_names
from nsnumpy.backend import Array, asarray, matmul, to_floats, to_host
from nsnumpy.ops import (
    avgpool_backward,
    avgpool_forward,
    relu_backward,
    relu_forward,
    winograd_backward_weight,
    winograd_forward,
    winograd_weight,
)
from nsnumpy.workers import Scratch, Workers

from ..normalize import normalize
from ..states import TrainingError, load_groups, save_groups
from ..train.optimizer import adam_step
from .crops import CHANGED, Crops
from .fit import ridge_solver
from .layers import Places, loss_layers, places

Arrays = dict[str, Array]
_KEPT = 0.99  # of the moments, at each step
_SOLVE = 20  # steps from one solution for B to the next
_RIDGE = 1e-4
_WAIT, _WARMUP = 20, 60  # steps: until the moments are worth something; then until the rate is reached
_SHORT, _LONG, _SHOTS = (
    20,
    40,
    6,
)  # iterations of an own run, at half size and at full size; how many pictures of the latter
_OWN = {"optimizer": "lbfgs-device", "convention": "relative", "tv": 60.0}  # whatever the defaults are
_BETAS = 20.0, 60.0, 8.0
_MEASURED = 64  # crops over which mean activations are taken
_KINDS = ("weight", "bias")
_GROUPS = ("parameters", "means", "squares", "moments", "maps", "own")


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a refinement, with the two networks and the crops.

    Attributes
    ----------
    steps : int
    rate : float
        Adam's, at the beginning; it falls to 0 as a cosine does.
    batch, crop : int
        Pictures of a step, and their side in pixels: at random places of the crops.
    positions : int
        Of each layer, at which features are compared.
    runs, renewed : int
        How many short runs the own pictures come from, and after how many steps they are made anew; 0 runs: none.
    seed : int
    """

    steps: int
    rate: float = 4e-4
    batch: int = 8
    crop: int = 112
    positions: int = 3000
    runs: int = 12
    renewed: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What a callback gets after each step: `losses` has ``|F B - T|^2 / |T|^2`` of each layer in this step."""

    step: int
    steps: int
    rate: float
    losses: dict[str, float]

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Refiner:
    """A refinement under way.

    Parameters
    ----------
    file : WeightFile
        The narrow network.
    teacher : WeightFile
        With the same layers at least.
    crops : Crops
    pictures : int
        How many of the crops, the first ones, it may use.
    recipe : Recipe
    xp, workers : as for `compress`
    dtype : "float32" or "float64"
        In which to compute; the latter is for checks.

    Raises
    ------
    ValueError
        If the pictures that the recipe asks for are larger than the crops.
    """

    def __init__(
        self,
        file: WeightFile,
        teacher: WeightFile,
        crops: Crops,
        pictures: int,
        recipe: Recipe,
        *,
        xp: ModuleType = np,
        workers: Workers | None = None,
        dtype: str = "float32",
    ) -> None:
        if not 16 <= recipe.crop <= crops.side:
            raise ValueError(
                f"pictures of 16 to {crops.side} pixels, the crops' side, expected; {recipe.crop} asked for"
            )
        self.file, self.crops, self.pictures, self.recipe, self.xp = file, crops, pictures, recipe, xp
        self.workers = workers or Workers.on(xp)
        self._convolutions = list(file.weights)
        names = layer_names(file.architecture)
        self._names = names[: names.index(self._convolutions[-1]) + 1]
        teacher = replace(teacher, weights={name: teacher.weights[name] for name in file.weights})
        self._teacher = vgg_of(teacher, xp, self.workers, dtype)
        self._gain, self._offset = (xp.asarray(v, dtype) for v in file.preprocessing.affine())
        self._step = -1 if file.preprocessing.channel_order == "BGR" else 1
        # Adam moves every weight by about the rate: so the layers are brought to one scale before, and back at the end.
        measured = (crops[k] / np.float32(255) for k in range(min(_MEASURED, pictures)))
        scaled, self._scales = normalize(file, measured)
        self.step = 0
        self.parameters: Arrays = {}
        for name, (weight, bias) in scaled.weights.items():
            self.parameters[f"{name}/weight"] = asarray(weight, xp, dtype)
            self.parameters[f"{name}/bias"] = asarray(bias, xp, dtype)
        self.means = {name: xp.zeros_like(array) for name, array in self.parameters.items()}
        self.squares = dict(self.means)
        self.moments: Arrays = {}
        self.maps: Arrays = {}
        self.own: Arrays = {}

    def save(self, path: Path) -> None:
        """Write the state, and the network that it began with ("start"): all of it, or nothing."""
        start = {
            f"{n}/{kind}": a for n, both in self.file.weights.items() for kind, a in zip(_KINDS, both, strict=True)
        }
        groups = {group: getattr(self, group) for group in _GROUPS} | {"start": start}
        save_groups(path, self.step, asdict(self.recipe), self._fingerprint(), groups)

    def load(self, path: Path) -> None:
        """Go on from a state that `save` wrote. TrainingError if it is of another refinement."""
        step, groups = load_groups(path, asdict(self.recipe), self._fingerprint(), _GROUPS, self.xp)
        groups["parameters"] = {name: groups["parameters"][name] for name in self.parameters}
        groups["own"] = {name: to_host(pictures) for name, pictures in groups["own"].items()}
        self.step = step
        for group, arrays in groups.items():
            setattr(self, group, arrays)

    def _fingerprint(self) -> str:
        return f"{self.crops.fingerprint} {self._teacher.sha256} {vgg_of(self.file, np).sha256}"

    def network(self) -> WeightFile:
        """The network as it stands, in the scale of the one that it began with."""
        weights, before = {}, np.ones(3)
        for name in self._convolutions:
            weight, bias = (to_host(self.parameters[f"{name}/{kind}"]) for kind in _KINDS)
            scale = np.where(self._scales[name] > 0, self._scales[name], 1.0)
            weights[name] = (
                (weight / before[:, None] * scale).astype(np.float32),
                (bias * scale).astype(np.float32),
            )
            before = scale
        return replace(self.file, weights=weights)

    def train(self, callback: Callable[[Report], object] | None = None) -> None:
        """Go on to the last step.

        Raises
        ------
        TrainingError
            If a loss is not finite.
        """
        recipe = self.recipe
        while self.step < recipe.steps:
            own = self._own_pictures() if recipe.runs and self.step % recipe.renewed == 0 else self.own
            with np.errstate(all="ignore"):  # what is not finite is told below
                losses, gradients, moments, maps = self.gradients(self.batch(own))
            if not all(map(math.isfinite, losses.values())):
                raise TrainingError(f"step {self.step}: a loss is not finite: choose a rate below {recipe.rate}")
            rate = rate_at(self.step, recipe)
            moved = adam_step(self.parameters, self.means, self.squares, gradients, self.step + 1, rate)
            (self.parameters, self.means, self.squares), self.moments, self.maps, self.own, self.step = (
                moved, moments, maps, own, self.step + 1,
            )  # fmt: skip
            if callback:
                callback(Report(self.step, recipe.steps, rate, losses))

    def batch(self, own: Arrays) -> Array:
        """The pictures of the present step: of the seed and the step, and of the own pictures, alone."""
        recipe, rng = self.recipe, np.random.default_rng([self.recipe.seed, 4, self.step])
        x = np.empty((recipe.batch, recipe.crop, recipe.crop, 3), np.uint8)
        for k in range(recipe.batch):
            if own and k % 3 == 2:
                picture = own["pictures"][rng.integers(len(own["pictures"]))]
            else:
                picture = self.crops[int(rng.integers(self.pictures))]
            top, left = (int(rng.integers(0, n - recipe.crop + 1)) for n in picture.shape[:2])
            cut = picture[top : top + recipe.crop, left : left + recipe.crop]
            x[k] = cut[:, ::-1] if rng.random() < 0.5 else cut
        return asarray(x / np.float32(255), self.xp, self._gain.dtype)

    def _own_pictures(self) -> Arrays:
        """What the network as it stands paints on the way, with photographs for paintings, too."""
        rng = np.random.default_rng([self.recipe.seed, 3, self.step])
        vgg, side, found = vgg_of(self.network(), self.xp, self.workers), self.crops.side, []
        unchanged = -(-self.pictures // CHANGED)
        for k in range(self.recipe.runs):
            p, a = (self.crops[int(j) * CHANGED] / np.float32(255) for j in rng.integers(unchanged, size=2))
            shots = set((_SHORT + 1 + rng.permutation(_LONG)[:_SHOTS]).tolist())

            def keep(now: Progress, shots: set[int] = shots) -> None:
                if now.iteration in shots:
                    found.append(np.rint(255 * now.image).astype(np.uint8))

            transfer(
                p,
                a,
                vgg=vgg,
                callback=keep,
                size=side,
                scales=(side // 2, side),
                iterations=(_SHORT, _LONG),
                init="noise" if k % 3 == 0 else "content",
                seed=k,
                **_OWN,
                beta=_BETAS[k % len(_BETAS)],
                **loss_layers(self.file.weights),
            )
        return {"pictures": np.stack(found)} if found else {}

    def gradients(self, x: Array) -> tuple[dict[str, float], Arrays, Arrays, Arrays]:
        """The losses of pictures ``(B, H, W, 3)``, the gradient of their sum, and the moments and maps with these
        pictures among them."""
        xp, p = self.xp, self.parameters
        at: dict[str, Places] = {}
        T: Arrays = {}

        def visit(name: str, features: Array) -> None:
            each = -(-self.recipe.positions // len(features))
            at[name] = places(name, self.step, features.shape, each, self.recipe.seed, xp)
            T[name] = features[at[name]]

        self._teacher.forward(x, self._convolutions, visit, keep=False)
        trace: list[tuple[str, Any]] = []
        F: Arrays = {}
        x = x[..., :: self._step] * self._gain + self._offset
        for name in self._names:
            if name.startswith("pool"):
                trace.append((name, x.shape))
                x = avgpool_forward(x)
                continue
            U = winograd_weight(p[f"{name}/weight"])
            y, mask = relu_forward(winograd_forward(x, U, p[f"{name}/bias"], self.workers))
            trace.append((name, (x, U, mask)))
            F[name] = y[at[name]]
            x = y

        def compared(name: str, _: Scratch) -> tuple[float, Array, Arrays]:
            return self._compare(name, F[name], T[name])

        compared_layers = dict(zip(F, self.workers.map(compared, list(F)), strict=True))
        losses = dict(zip(F, to_floats(*(loss for loss, *_ in compared_layers.values())), strict=True))
        moments = {key: array for _, _, kept, _ in compared_layers.values() for key, array in kept.items()}
        maps = {name: B for name, (*_, B) in compared_layers.items()}
        gradients: Arrays = {}
        gy = xp.zeros_like(x)
        while trace:
            name, kept = trace.pop()
            if name.startswith("pool"):
                gy = avgpool_backward(gy, kept)
                continue
            x, U, mask = kept
            gy[at[name]] += compared_layers[name][1]
            gy, gradients[f"{name}/weight"], gradients[f"{name}/bias"] = winograd_backward_weight(
                relu_backward(gy, mask), x, U, self.workers
            )
        return losses, gradients, moments, maps

    def _compare(self, name: str, F: Array, T: Array) -> tuple[Array, Array, Arrays, Array]:
        """A layer's loss, its gradient with respect to F ``(P, N)``, its moments, and B."""
        FF, FT, TT = matmul(F.T, F), matmul(F.T, T), (T * T).sum()
        kept = {f"{name}/FF": FF, f"{name}/FT": FT, f"{name}/TT": TT, f"{name}/steps": 0 * TT + 1}
        if name in self.maps:
            kept = {key: _KEPT * self.moments[key] + array for key, array in kept.items()}
        B = self.maps.get(name)
        if self.step % _SOLVE == 0 or B is None:
            B = ridge_solver(kept[f"{name}/FF"].astype("float64"), _RIDGE)(kept[f"{name}/FT"].astype("float64"))
            B = B.astype(F.dtype)
        residual = matmul(F, B) - T
        size = kept[f"{name}/TT"] / kept[f"{name}/steps"]  # |T|^2 of a step, on average
        return (residual * residual).sum() / TT, (2 / size) * matmul(residual, B.T), kept, B


def rate_at(step: int, recipe: Recipe) -> float:
    """Adam's rate: none while the first moments are gathered, then up to the recipe's, and down as half a cosine."""
    up = min(1.0, max(0, step - _WAIT) / _WARMUP)
    return recipe.rate * up * (1 + math.cos(math.pi * step / recipe.steps)) / 2


def vgg_of(file: WeightFile, xp: ModuleType, workers: Workers | None = None, dtype: str = "float32") -> VGG:
    """The network of a file, with average pooling, on xp's device."""
    return VGG(
        file.weights,
        xp=xp,
        architecture=file.architecture,
        preprocessing=file.preprocessing,
        dtype=dtype,
        threads=workers.threads if workers and xp is np else None,
    )
