"""What a run will take, before it takes it; and whether the machine has it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..architecture import Network
from ..backend import check_tf32, device_namespace
from ..files.images import Picture, decoding, fit_size
from ..files.weight_sources import BUILTIN
from ..files.weights import WeightFile, read_network
from ..machine import usable_cores
from ..pairs import Scratch
from ..workers import check_threads
from .budget import Rates, Run, measured_rates, pairs_bytes, run_memory, run_seconds
from .inputs import Styles, check_masks, pictures_of
from .means import (
    Tile,
    budgets,
    check_means,
    check_sides,
    extremes,
    fitted,
    has_room,
    room_of,
    room_of_host,
    shared_tile,
)
from .regions import mask_key
from .scales import Scale, enough, scales_of, side_of
from .settings import layers_of, settings_of

ENLARGED = 1.5  # times the long side, from where on it is worth a note
HOST = "the computer's memory"  # where a GPU's run in tiles has the picture and the optimizer's vectors


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    size : (H, W) of the result
    peak_bytes : int
        Of the whole process; on a GPU, of what the run adds to the memory that is taken already.
    parts : dict from str to int
        What the peak is made of, in bytes.
    scales : list of int
        The long sides to work at; memory is the last one's.
    iterations : int
        At all scales.
    seconds : float
        Per evaluation of loss and gradient at the last scale; an iteration takes one, and sometimes a second one.
    total_seconds : float
        One evaluation for each iteration of all scales.
    available_bytes : int, or None
        What the machine can give this process, itself included, or what is free on the GPU; None if that cannot be
        told.
    largest_size : int, or None
        If the run does not fit, the largest long side with which it would, 0 if there is none.
    tile : int, or None
        The side of the tiles that the picture is computed in, in pixels; None for as a whole.
    memory_pairs : int, or None
        How many pairs L-BFGS remembers, where they are fewer than its own number.
    host : (int, int), or None
        Of a GPU's run in tiles: what it takes of the computer's memory, and what this process can have of it, itself
        included in both.
    notes : list of str
        What one may not have meant: pictures much enlarged, a style picture that is larger than was asked for.
    """

    size: tuple[int, int]
    peak_bytes: int
    parts: dict[str, int] = field(repr=False)
    scales: list[int]
    iterations: int
    seconds: float
    total_seconds: float
    available_bytes: int | None
    largest_size: int | None = None
    tile: int | None = None
    memory_pairs: int | None = None
    host: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return self.lacks() is None

    def lacks(self, times: int = 1) -> tuple[str, int, int] | None:
        """Of which memory there is too little for so many such runs at a time, what they take of it and what is to be
        had, in bytes; None if there is enough."""
        each = [("memory", self.peak_bytes, self.available_bytes), (HOST, *(self.host or (0, None)))]
        for memory, takes, available in each:
            if available is not None and times * takes > available:
                return memory, times * takes, available
        return None


def plan(
    use_case: str,
    *,
    content: Picture | None = None,
    style: Styles | None = None,
    layer: str = "conv4_2",
    weights: str | os.PathLike[str] | WeightFile | Network = BUILTIN,
    pooling: str = "avg",
    dtype: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    tf32: bool = False,
    tile: Tile = "auto",
    memory_pairs: int | None = None,
    shared: bool = False,
    scratch: Scratch = None,
    rates: Rates | None = None,
    **settings: Any,
) -> Plan:
    """What a run would take of its device, before anything is allocated for it.

    Parameters
    ----------
    use_case : "transfer", "texture" or "reconstruct"
    content, style, layer, settings : as the use case takes them
    weights, pooling, dtype, threads, device, tf32 : as `load_vgg` takes them
        Instead of weights, pooling and dtype, a `Network` will do. Of weights in a file only the shapes are read, and
        of pictures in files, too.
    tile, memory_pairs, scratch : as `Run` takes them
    shared : bool
        Whether an executor or a cluster is to have the tiles.
    rates : Rates, or None
        What `measured_rates` returned of the device; None measures now.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a picture, a weight file or a setting cannot be used.
    DeviceError
        If the device cannot be had.
    """
    check_tf32(tf32, device, dtype)
    xp = device_namespace(device)
    if threads is not None:
        check_threads(threads)
    s = settings_of(use_case, **settings).completed(use_case)
    check_means(tile, memory_pairs, scratch, s.optimizer)
    given = pictures_of(use_case, {"content": content, "style": style})
    network = weights if isinstance(weights, Network) else read_network(weights, pooling, dtype)
    decoded = {name: decoding(picture, enough(name, s)) for name, picture, *_ in given}
    shapes = {name: shape for name, (shape, _) in decoded.items()}
    check_masks([(one.mask, one.own) for one in given], shapes)
    layers = layers_of(use_case, s, layer)
    scales = scales_of(s, shapes)
    check_sides(s, scales[-1], shapes, network, layers)
    program, available = room_of(xp, weights, [one.picture for one in given])
    room = None if available is None else available - program
    regions = len({mask_key(picture.mask) for picture in given if picture.mask is not None})
    common: dict[str, Any] = {"regions": regions, "threads": threads or usable_cores(), "device": device}
    common["scratch"] = scratch
    runs = budgets(s, shapes, scales, layers, **common)
    if shared and tile == "auto":
        tile = shared_tile(runs[-1].size)
    asked = fitted(network, runs[-1], room, tile, memory_pairs)
    runs = [replace(run, tile=asked.tile, keep=asked.keep, pairs=asked.pairs) for run in runs]
    for coarse in runs[:-1]:
        run_memory(network, coarse)  # raises where a scale is too small for the network
    parts = ({"program": program} if program else {}) | run_memory(network, asked)
    before = sum(nbytes for _, nbytes in decoded.values()) if device == "cpu" else 0
    if program + before > sum(parts.values()):  # the run begins when the pictures have been made smaller
        parts = {"program": program, "pictures": before}

    def fits(size: int) -> bool | None:
        try:
            sides = fit_size(s.size, size) if isinstance(s.size, tuple) else size
            iterations = None if s.iterations is None else asked.iterations
            smaller = replace(s, size=sides, seamless=None, scales=(), iterations=iterations)
            (run,) = budgets(smaller, shapes, scales_of(smaller, shapes), layers, **common)
            return any(has_room(network, way, room) for way in extremes(run, tile, memory_pairs))
        except ValueError:  # too small for the deepest layer
            return None

    notes = _notes(scales[-1], shapes, s.style_size or s.side) + _noted_of(scratch, pairs_bytes(network, asked))
    rates = rates or measured_rates(device, asked.threads, tf32)
    planned = _plan_of(network, runs, parts, rates, available, notes)
    return planned if planned.fits else replace(planned, largest_size=_largest_size(fits, max(asked.size)))


def _plan_of(
    network: Network, runs: Sequence[Run], parts: dict[str, int], rates: Rates, available: int | None, notes: list[str]
) -> Plan:
    """What runs at these scales will take, of which the last one's memory is known."""
    last, counts = runs[-1], [run.iterations or 0 for run in runs]
    each = [run_seconds(network, run, rates) for run in runs]
    return Plan(
        last.size,
        sum(parts.values()),
        parts,
        [max(run.size) for run in runs],
        sum(counts),
        each[-1],
        sum(seconds * count for seconds, count in zip(each, counts, strict=True)),
        available,
        tile=last.tile,
        memory_pairs=last.pairs,
        host=room_of_host(network, last),
        notes=notes,
    )


def _notes(scale: Scale, shapes: Mapping[str, tuple[int, int]], style_size: int | None) -> list[str]:
    notes = []
    for name, shape in shapes.items():
        (height, width), (h, w) = shape, fit_size(shape, scale[side_of(name)])
        becomes = f"the {name} picture, {width} x {height} pixels, becomes {w} x {h}"
        if side_of(name) != "result" and max(h, w) > (style_size or max(shape)):
            notes.append(f"{becomes}, so that its short side is enough for the network")
        elif max(h, w) > ENLARGED * max(shape):
            notes.append(f"{becomes}: a larger one has more to tell")
    return notes


def _noted_of(scratch: Scratch, takes: int) -> list[str]:
    """What is noted of a folder that L-BFGS's memory goes to; ValueError if it has no room for it."""
    if scratch is None:
        return []
    if takes > (free := shutil.disk_usage(scratch).free):
        raise ValueError(
            f"{scratch}: {free / 1e9:.2f} GB are free, and what L-BFGS remembers takes {takes / 1e9:.2f}: name "
            "another folder, or fewer memory pairs"
        )
    return [f"what L-BFGS remembers goes to {scratch}: {takes / 1e9:.2f} GB"]


def _largest_size(fits: Callable[[int], bool | None], most: int) -> int:
    """The largest size below `most` that fits, 0 if there is none; a smaller one than one that fits does, too, and
    `fits` is None for a size that is too small."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) is False else (middle, high)
    return low if fits(low) else 0
