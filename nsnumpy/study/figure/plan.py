"""Which cells a figure has, with which settings, and what each of them takes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...architecture import check_size, layer_names, network_digest, resolve_layers
from ...backend import check_tf32
from ...files.checkpoint import digest
from ...files.images import load_image, picture_name, to_bytes
from ...files.weight_sources import BUILTIN, BUILTINS
from ...files.weights import WeightFile, read_weights
from ...objective import STYLE_LAYERS, layer_weights
from ...run.inputs import Styles, check_masks, pictures_of
from ...run.regions import read_masks
from ...run.scales import enough, scales_of, side_of
from ...run.settings import INITS, Settings, setting_names, settings_of
from .cells import Job, complete_job
from .claims import FigureCell, positional, set_name

KINDS = {"content": "reconstruct", "style": "texture", "tradeoff": "transfer"}
"""The use case that makes each figure's cells."""

FIGURE_LAYERS = STYLE_LAYERS
FIGURE_DEFAULTS: dict[str, dict[str, Any]] = {
    "content": {"border": "zero", "size": 320, "iterations": 200, "optimizer": "scipy"},
    "style": {"border": "zero", "size": 320, "iterations": 200, "scales": (), "optimizer": "scipy"},
    "tradeoff": {"border": "zero", "size": 256, "iterations": 80, "init": "noise", "optimizer": "scipy"},
}
"""What differs from the use case's own defaults: the border, for one, is the paper's."""

RATIOS: dict[str, tuple[float, ...]] = {"relative": (1e-3, 1e-2, 1e-1, 1.0), "paper": (1e-5, 1e-4, 1e-3, 1e-2)}
"""alpha / beta of the tradeoff, by convention: chosen with the built-in network, and the paper's own."""

SET_BY_FIGURE = {
    "content": ("border",),
    "style": ("beta", "style_layers", "border", "seamless"),
    "tradeoff": ("alpha", "beta", "style_layers", "border", "colors", "color_match"),
}


@dataclass(frozen=True)
class FigurePlan:
    """What a figure is to be made of.

    Attributes
    ----------
    kind : str
    layers : tuple of str
        Canonical names; of a content figure, by their depth.
    ratios : tuple of floats, or None
        alpha / beta, growing.
    settings : Settings
        That all cells share, complete.
    pictures : dict from "content", "style", "style 2", ... to arrays ``(H, W, 3)``, uint8
    names : dict from "content", "style", ..., "init" to str
        What records call them.
    network : dict
        What `load_vgg` takes.
    file : WeightFile
        What was read of the network's.
    network_sha256 : str
    cells : list of FigureCell
        Row by row, with nothing in them yet.
    jobs : list of Job
        One for each cell.
    """

    kind: str
    layers: tuple[str, ...]
    ratios: tuple[float, ...] | None
    settings: Settings
    pictures: dict[str, np.ndarray] = field(repr=False)
    names: dict[str, str]
    network: dict[str, Any]
    file: WeightFile = field(repr=False)
    network_sha256: str
    cells: list[FigureCell] = field(repr=False)
    jobs: list[Job] = field(repr=False)

    @property
    def digests(self) -> dict[str, str]:
        """By which to know the pictures again."""
        return {name: digest(picture) for name, picture in self.pictures.items()}


def plan_figure(
    kind: str,
    pictures: Mapping[str, Styles],
    layers: Iterable[str],
    ratios: Iterable[float] | None,
    *,
    weights: str | os.PathLike[str] = BUILTIN,
    pooling: str = "avg",
    device: str = "cpu",
    dtype: str = "float32",
    tf32: bool = False,
    threads: int | None = None,
    **settings: Any,
) -> FigurePlan:
    """All that a figure needs, read and checked; see `figures` for the arguments and the errors."""
    check_tf32(tf32, device, dtype)
    s = figure_settings(kind, settings)
    growing: tuple[float, ...] | None = None
    if kind == "tradeoff":
        if ratios is None and s.convention not in RATIOS:
            raise ValueError(f"no ratios are known for the convention {s.convention}: give some (--ratios)")
        growing = checked_ratios(RATIOS[s.convention] if ratios is None else ratios)
    file = read_weights(weights)
    names = resolve_layers(file.architecture, file.weights, layer_weights(layers))
    if kind == "content":
        names.sort(key=layer_names(file.architecture).index)
    given = pictures_of(KINDS[kind], pictures)
    read = {each.name: to_bytes(load_image(each.picture, _size(each.name, s))) for each in given}
    for picture in read.values():
        check_size(file.architecture, names, picture.shape)
    masks = read_masks([(each.mask, each.own) for each in given], enough("content", s))
    check_masks(masks, {name: picture.shape[:2] for name, picture in read.items()})
    _check_cells(kind, s, file, read)
    source = os.fspath(weights)
    if source not in BUILTINS and Path(source).exists():
        source = os.path.abspath(source)  # processes may work in another folder
    network = {"weights": source, "pooling": pooling, "device": device, "dtype": dtype, "tf32": tf32}
    network["threads"] = threads
    digest = network_digest(file.weights, file.preprocessing)
    called = {each.name: picture_name(each.picture) for each in given} | {"init": picture_name(s.init)}
    shared: Job = {"use_case": KINDS[kind], "pictures": read, "names": called}
    shared |= {"network": network, "network_sha256": digest}
    styles = [(one.name, one.weight, *pair) for one, pair in zip(given, masks, strict=True) if one.name != "content"]
    if len(styles) > 1 or any(mask or own for *_, mask, own in styles):
        shared["styles"] = styles
    cells = figure_cells(kind, names, growing)
    init = s.init if isinstance(s.init, str) and s.init in INITS else to_bytes(load_image(s.init))
    jobs = [complete_job(shared | _own(kind, cell, names, s, init)) for cell in cells]
    return FigurePlan(kind, tuple(names), growing, s, read, called, network, file, digest, cells, jobs)


def _check_cells(kind: str, s: Settings, file: WeightFile, read: dict[str, np.ndarray]) -> None:
    """ValueError for what every cell would fail of: before anything is written, or taken away."""
    scales_of(s, {name: picture.shape[:2] for name, picture in read.items()})
    if isinstance(s.init, str) and s.init in ("content", "style") and s.init not in read:
        raise ValueError(f"init {s.init!r}: there is no {s.init} picture here; choose noise or a picture")
    if s.content_layers is not None:  # of a tradeoff
        wanted = resolve_layers(file.architecture, file.weights, layer_weights(s.content_layers))
        check_size(file.architecture, wanted, read["content"].shape)


def figure_files(cells: Iterable[FigureCell]) -> list[str]:
    """The names of the files that a figure writes into its folder, the sheet and the JSON last."""
    return [cell.file for cell in cells] + ["sheet.png", "figure.json"]


def figure_cells(kind: str, layers: Sequence[str], ratios: Sequence[float] | None) -> list[FigureCell]:
    """All cells, row by row, with nothing in them yet; their names sort as they stand."""
    if kind == "content":
        return [FigureCell(name, f"{name}.png", (name,)) for name in layers]
    made = []
    for number in range(1, len(layers) + 1):
        row = tuple(layers[:number])
        digits = f"{number:0{len(str(len(layers)))}}"
        for ratio in ratios or (None,):
            name = f"{kind}-{digits}-{set_name(row, '-') if ratio is None else positional(ratio)}"
            made.append(FigureCell(name, f"{name}.png", row, ratio))
    return made


def figure_settings(kind: str, given: dict[str, Any]) -> Settings:
    """The settings that all cells share, complete."""
    for name in SET_BY_FIGURE[kind]:
        if name in given:
            raise TypeError(f"the {kind} figure sets {name} itself")
    if given.get("content_layers") is not None:
        given = given | {"content_layers": layer_weights(given["content_layers"], given.get("convention", "paper"))}
    use_case = KINDS[kind]
    return settings_of(use_case, **FIGURE_DEFAULTS[kind] | given).completed(use_case)


def checked_ratios(ratios: Iterable[float]) -> tuple[float, ...]:
    """alpha / beta, growing."""
    ratios = list(ratios)
    numbers = all(isinstance(r, Real) and 0 <= r < math.inf for r in ratios)
    if not ratios or not numbers or len(set(ratios)) < len(ratios):
        raise ValueError(f"ratios are numbers, 0 or more, each once; got {ratios!r}")
    return tuple(float(r) for r in sorted(ratios))


def _size(name: str, s: Settings) -> int | None:
    """The long side with which a picture is used."""
    return s.side if side_of(name) == "result" else s.style_size or s.side


def _own(kind: str, cell: FigureCell, layers: Sequence[str], s: Settings, init: str | np.ndarray) -> Job:
    """What is a cell's own of its job; `init` is what s has, with a picture read."""
    settings = {name: getattr(s, name) for name in setting_names(KINDS[kind])} | {"init": init}
    job: Job = {"name": cell.name, "settings": settings, "content_layers": (), "style_layers": ()}
    if kind == "content":
        return job | {"layer": cell.layers[0], "content_layers": cell.layers}
    settings["style_layers"] = layer_weights(cell.layers, s.convention)
    if kind == "style":
        return job | {"style_layers": tuple(layers)}
    settings["alpha"] = settings["beta"] * cell.ratio
    return job | {"style_layers": cell.layers, "content_layers": tuple(layer_weights(settings["content_layers"]))}


def settings_line(planned: FigurePlan) -> str:
    """The settings in one line."""
    s, network = planned.settings, planned.network
    shapes = {name: picture.shape[:2] for name, picture in planned.pictures.items()}
    height, width = next(iter(shapes.values()))
    scales = [scale["result"] or max(height, width) for scale in scales_of(s, shapes)]
    iterations = " and ".join(map(str, s.iterations)) if isinstance(s.iterations, tuple) else s.iterations
    at = f" at {', '.join(map(str, scales))} pixels" if len(scales) > 1 else ""
    parts = [
        f"{width} x {height}, {iterations} iterations{at} of {s.optimizer}",
        f"from {planned.names['init']}" + (f" (seed {s.seed})" if s.init == "noise" else ""),
        f"convention {s.convention}, tv {s.tv:g}",
    ]
    if s.content_layers is not None:  # of a tradeoff
        parts.append(f"beta {s.beta:g}, content {', '.join(layer_weights(s.content_layers))}")
    parts.append(f"network {Path(network['weights']).name}, {network['pooling']} pooling, {network['dtype']}")
    return "; ".join([*parts, f"nsnumpy {__version__}"])
