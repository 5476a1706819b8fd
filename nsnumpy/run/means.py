"""How a run fits into the memory that there is: whole, or in tiles, or with a shorter memory of L-BFGS."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from ..architecture import Network, minimum_size
from ..backend import device_of, free_device_bytes
from ..files.checkpoint import Checkpoint
from ..files.images import fit_size
from ..files.weights import WeightFile
from ..lbfgs import MEMORY
from ..machine import available_bytes, resident_bytes
from ..objective import Layers, Objective
from ..ops import ZERO
from ..pairs import Scratch
from ..targets import picture_sums
from ..tiles.crew import Sharing, crew_of
from ..tiles.grid import UNIT
from ..tiles.objective import TiledObjective, tiled_sums
from ..vgg import VGG
from .budget import Run, host_memory, run_memory
from .inputs import Inputs
from .scales import Scale, side_for, side_of
from .settings import Settings, is_whole
from .shared import StyleTargets

Tile = str | int
"""A tile's side in pixels; "off", for the whole picture at once; or "auto": where that does not fit, the largest that
does."""
TILES = (2048, 1024)
SMALLEST = (512, 256)  # tiles that mostly see what others own
FEWEST = 3  # pairs that L-BFGS is worth having with


def check_means(tile: Tile, memory_pairs: int | None, scratch: Scratch, optimizer: str | None) -> None:
    """ValueError if there is no such tile, no such number of pairs, no such folder, or no use for them."""
    if not is_whole(tile, 16) and tile not in ("auto", "off"):
        raise ValueError(f"tile is auto, off, or a whole number of pixels, 16 or more; got {tile!r}")
    if memory_pairs is not None and not is_whole(memory_pairs, 1):
        raise ValueError(f"memory pairs are a whole number, 1 or more; got {memory_pairs!r}")
    if memory_pairs is not None and optimizer not in MEMORY:
        raise ValueError(f"memory pairs are what L-BFGS remembers; {optimizer} has none")
    if scratch is None:
        return
    if optimizer != "lbfgs-device":
        raise ValueError(f"a scratch folder is for what lbfgs-device remembers; {optimizer} has no use for it")
    if not os.path.isdir(scratch):
        raise ValueError(f"{scratch}: no such folder, to hold L-BFGS's memory in; make it, or name another one")
    try:
        tempfile.TemporaryFile(dir=scratch).close()
    except OSError as error:
        raise ValueError(f"{scratch}: {error.strerror or error}; name another folder for L-BFGS's memory") from error


def shared_tile(size: tuple[int, int]) -> int:
    """The tile of a picture whose tiles are shared out, where none is said: a quarter of the long side, but 512 to 1024
    pixels. It does not depend on how many share them, nor do the numbers then."""
    return min(1024, max(512, max(size) // 4 // UNIT * UNIT))


def check_sides(
    s: Settings,
    scale: Scale,
    shapes: Mapping[str, tuple[int, int]],
    network: Network,
    layers: tuple[Iterable[str], Iterable[str]],
) -> None:
    """ValueError that names the size to take if a picture, at this scale, is too small for the deepest layer."""
    least = minimum_size(network.architecture, network.resolve([*layers[0], *layers[1]]))
    result = s.size if isinstance(s.size, tuple) else next(iter(shapes.values()))
    for name, shape in {"result": result, **shapes}.items():
        side = side_of(name)
        height, width = s.shape(shape, scale[side]) if name == "result" else fit_size(shape, scale[side])
        if min(height, width) < least:
            size = side_for(shape, least)
            raise ValueError(
                f"the {name} would be {width} x {height} pixels, and the deepest layer needs {least}: take "
                f"{'size' if side == 'result' else 'style size'} {size} or more"
            )


def budgets(
    s: Settings,
    shapes: Mapping[str, tuple[int, int]],
    scales: Sequence[Scale],
    layers: tuple[Iterable[str], Iterable[str]],
    *,
    regions: int,
    threads: int,
    device: str,
    scratch: Scratch,
) -> list[Run]:
    """What decides the memory of a run at each of its scales.

    Parameters
    ----------
    s : Settings
        Completed.
    shapes : mapping from "content", "style", "style 2", ... to (H, W)
        Of the pictures as they were given.
    scales : list of Scale
    layers : names, names
        Of the content loss, and of the style loss.
    regions, threads, device, scratch
    """
    assert s.optimizer is not None  # as in all settings that are complete
    results = [s.shape(next(iter(shapes.values())), scale["result"]) for scale in scales]
    runs = []
    for scale, result, iterations in zip(scales, results, s.iterations_at([*map(max, results)]), strict=True):
        styles = [fit_size(shape, scale[name]) for name, shape in shapes.items() if name != "content"]
        run = Run(
            size=result,
            content=result if "content" in shapes else None,
            style=max(styles, key=math.prod, default=None),
            styles=len(styles),
            regions=regions,
            framed=device != "cpu" and ZERO not in s.borders(),
            channels=1 if s.colors == "luminance" else 3,
            content_layers=tuple(layers[0]),
            style_layers=tuple(layers[1]),
            optimizer=s.optimizer,
            threads=threads,
            device=device,
            iterations=iterations,
            scratch=scratch is not None,
        )
        runs.append(run)
    return runs


def fitted(network: Network, run: Run, room: int | None, tile: Tile, memory_pairs: int | None) -> Run:
    """The run as it fits into so many bytes.

    As a whole, if it does; else in the largest tiles in which it does, with the content's features kept or, which takes
    longer, made again; else with a shorter memory of L-BFGS, too; and last in small tiles. What was asked for stays. If
    nothing fits, it is what takes the least.
    """
    last = run
    for last in _ways(run, tile, memory_pairs):
        if has_room(network, last, room):
            return last
    return last


def extremes(run: Run, tile: Tile, memory_pairs: int | None) -> tuple[Run, Run]:
    """The first way to run, as it was asked for, which takes the least of a small picture and of a GPU's host; and the
    last one, which takes the least of a large one."""
    ways = list(_ways(run, tile, memory_pairs))
    return ways[0], ways[-1]


def has_room(network: Network, run: Run, room: int | None) -> bool:
    """Whether a run fits into so many bytes; and what a GPU's tiles leave to the host, there."""
    host = room_of_host(network, run)
    return (room is None or sum(run_memory(network, run).values()) <= room) and (host is None or host[0] <= host[1])


def room_of_host(network: Network, run: Run) -> tuple[int, int] | None:
    """What a GPU's tiles leave to the host, the program included, and what it can have there; None where nothing is
    left to it, or that cannot be told."""
    if run.device == "cpu" or run.tile is None or (available := available_bytes()) is None:
        return None
    return host_memory(network, run) + resident_bytes(), available


def _ways(run: Run, tile: Tile, memory_pairs: int | None) -> Iterator[Run]:
    """The largest first."""
    longest = max(max(run.size), max(run.style or (0, 0)))
    asked = replace(run, pairs=memory_pairs, tile=None if isinstance(tile, str) or tile >= longest else tile)
    yield asked
    large, small = ([size for size in sizes if size < longest] if tile == "auto" else [] for sizes in (TILES, SMALLEST))
    smaller = asked
    for size in large or filter(None, [asked.tile]):
        for keep in (True, False) if run.content else (True,):
            yield (smaller := replace(asked, tile=size, keep=keep))
    fewer = range(MEMORY.get(run.optimizer, 0) - 1, FEWEST - 1, -1) if memory_pairs is None else ()
    yield from (replace(smaller, pairs=pairs) for pairs in fewer)
    for size in small:
        smaller = replace(asked, tile=size, keep=not run.content)
        yield smaller
        yield from (replace(smaller, pairs=pairs) for pairs in fewer)


def room_of(xp: ModuleType, weights: Any, pictures: Sequence[Any] = ()) -> tuple[int, int | None]:
    """What the program holds of the device's memory, but for weights and pictures that it has read, which count among
    the run's; and what it can have.

    Parameters
    ----------
    xp : module
        The device's namespace.
    weights : WeightFile, VGG, or anything that holds none
    pictures : sequence
        Those that have ``nbytes`` have been read.
    """
    if device_of(xp) != "cpu":
        return 0, free_device_bytes(xp)
    known = sum(getattr(picture, "nbytes", 0) for picture in pictures)
    if isinstance(weights, WeightFile):
        known += sum(array.nbytes for pair in weights.weights.values() for array in pair)
    if isinstance(weights, VGG):
        arrays = [array for way in weights.layers.values() for array in getattr(way, "arrays", ())]
        known += sum(array.nbytes for array in arrays)
    return max(0, resident_bytes() - known), available_bytes()


@dataclass(frozen=True)
class Means:
    """How a run is computed.

    Attributes
    ----------
    tile : int, or None
        In tiles of so many pixels; None for as a whole.
    keep : bool
        Whether the tiles keep the content's features.
    pairs : int, or None
        How many L-BFGS remembers; None for as many as it has of its own.
    executor : concurrent.futures.Executor, Cluster, or None
        What runs the tiles.
    scratch : path, or None
        A folder for what L-BFGS remembers.
    """

    tile: int | None
    keep: bool
    pairs: int | None
    executor: Sharing | None = None
    scratch: Scratch = None

    @property
    def record(self) -> dict[str, int]:
        """What a run's record says of it: what is not as ever."""
        return {name: n for name, n in (("tile", self.tile), ("memory_pairs", self.pairs)) if n is not None}

    def objective(
        self,
        vgg: VGG,
        s: Settings,
        inputs: Inputs,
        scale: Scale,
        layers: tuple[Layers, Layers],
        targets: StyleTargets | None,
    ) -> Objective:
        """The total loss of a run at a scale; `layers` are those of the content loss, and of the style loss.

        The style pictures are measured as the result is: in tiles, and by whoever makes these.
        """
        sums_of = picture_sums if self.tile is None else tiled_sums(self.tile, crew_of(vgg, self.executor))
        given: dict[str, Any] = {
            "content": inputs.content(scale),
            "style": inputs.style_target(vgg, layers[1], scale, targets, sums_of),
            "alpha": 1.0 if s.alpha is None else s.alpha,
            "beta": 1.0 if s.beta is None else s.beta,
            "tv": s.tv or 0.0,
            "content_layers": layers[0],
            "style_layers": layers[1],
            "convention": s.convention,
        }
        if self.tile is None or max(inputs.shape(scale)) <= self.tile:
            return Objective(vgg, **given)
        return TiledObjective(vgg, tile=self.tile, keep=self.keep, executor=self.executor, **given)


def taken_apart(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that `means_of` takes, and the others."""
    means = {name: value for name, value in settings.items() if name in ("tile", "memory_pairs", "scratch", "executor")}
    return means, {name: value for name, value in settings.items() if name not in means}


def means_of(
    vgg: VGG,
    s: Settings,
    inputs: Inputs,
    layers: tuple[Iterable[str], Iterable[str]],
    kept: Checkpoint | None,
    *,
    tile: Tile = "auto",
    memory_pairs: int | None = None,
    scratch: Scratch = None,
    executor: Sharing | None = None,
) -> Means:
    """How a run is computed, by what is asked for and what fits; from a checkpoint it goes on as it was.

    Parameters
    ----------
    vgg, s, inputs, layers, kept
        The run's; s is complete.
    tile : "auto", "off", or int
        In tiles of so many pixels a side: the same numbers to rounding, in less memory; "auto" where it would not fit.
    memory_pairs : int, or None
        How many pairs L-BFGS remembers; None for its own number, or what fits of it.
    scratch : path, or None
        A folder for these pairs, where they are too many for memory.
    executor : concurrent.futures.Executor, Cluster, or None
        What runs the tiles.
    """
    check_means(tile, memory_pairs, scratch, s.optimizer)
    own = MEMORY.get(str(s.optimizer))
    if kept and tile == "auto":
        tile = kept.settings.get("tile") or "off"
    if kept and memory_pairs is None:
        memory_pairs = kept.settings.get("memory_pairs") or own
    device = device_of(vgg.xp)
    shapes = {given.name: given.source.shape for given in inputs.each}
    network = Network(vgg.architecture, vgg.filters, vgg.pooling, vgg.dtype.itemsize)
    check_sides(s, inputs.scales[-1], shapes, network, layers)
    regions = 0 if inputs.regions is None else len(inputs.regions.masks)
    common: dict[str, Any] = {"regions": regions, "threads": vgg.workers.threads, "device": device, "scratch": scratch}
    *_, asked = budgets(s, shapes, inputs.scales, layers, **common)
    if executor is not None and tile == "auto":
        tile = shared_tile(asked.size)
    program, available = room_of(vgg.xp, vgg)
    run = fitted(network, asked, None if available is None else available - program, tile, memory_pairs)
    return Means(run.tile, run.keep, None if run.pairs == own else run.pairs, executor, scratch)
