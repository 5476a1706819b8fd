"""A run kept between two of its iterations, in an HDF5 file, so that it can go on after whatever ended it.

The file holds one JSON text, ``/record``, and the arrays that it refers to by number, ``/arrays/0``, ...: the pixels,
and what the optimizer remembers. With L-BFGS's 8 pairs that is some 19 floats for each value of the picture, 45 MB at
512 x 384 pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array, asarray, to_host
from ..ending import line_of
from ..optimize import canonical_optimizer
from .hdf5 import SIGNATURE, open_hdf5, own_dataset, written_hdf5
from .writing import NotWrittenWarning, check_folder

FORMAT, VERSION = "nsnumpy checkpoint", 1
EVERY = 10

# Of a run's record: the versions; what need not be the same in the run that goes on; and what should be, since it moves
# the last digits.
VERSIONS = ("nsnumpy", "python", "numpy", "cupy", "scipy")
FREE = ("iterations", "weights", "loss", "changes", "memory_pairs")
ROUNDING = ("threads", "tile", "backend", "convolution", *VERSIONS)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A run between two of its iterations.

    Attributes
    ----------
    settings : dict
        The run's record, with digests of its pictures: what a run that goes on must agree with.
    history : list of dicts
        Of all iterations so far; see `Result`.
    seconds : float
        That they took.
    scale : int
        The number of the scale that it is at, from 0.
    counts : list of int
        How many iterations ran at each of the scales before.
    stops : list of str
        Why scales before ended early.
    state : dict
        `Iterate.state`. A run that goes on from it takes the arrays with it, and leaves this empty.
    command : dict
        What the command line was told that made it, JSON-serialisable; empty for a run from Python.
    """

    settings: Mapping[str, Any]
    history: list[dict[str, Any]] = field(repr=False)
    seconds: float
    scale: int
    counts: list[int]
    stops: list[str]
    state: dict[str, Any] = field(repr=False)
    command: dict[str, Any] = field(default_factory=dict)

    @property
    def iteration(self) -> int:
        """How many iterations ran, at all scales."""
        return self.history[-1]["iteration"]

    def iterations_left(self, asked: list[int]) -> list[int]:
        """How many a run that goes on has at each scale: what ran, where the scale is done.

        Raises
        ------
        CheckpointError
            If fewer are asked for than are done.
        """
        done = [*self.counts, self.state["iteration"]]
        if any(few < many for few, many in zip(asked, done, strict=False)):
            few, many = (", ".join(map(str, numbers)) for numbers in (asked, done))
            raise CheckpointError(f"{many} iterations are done, and {few} were asked for: ask for more, or begin anew")
        return [*self.counts, *asked[len(self.counts) :]]

    def check(self, settings: Mapping[str, Any]) -> None:
        """CheckpointError if a run of these settings is not this one; a warning if only its rounding may differ."""
        ours, theirs = json.loads(json.dumps(settings)), self.settings
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            if name in FREE or name in ROUNDING or ours.get(name) == theirs.get(name):
                continue
            other = f"{name} {theirs.get(name)!r}, not {ours.get(name)!r}"
            if name.endswith("_sha256"):
                thing = name.removesuffix("_sha256")
                kind = "" if thing.startswith("mask of") else " picture"
                other = "another network" if thing == "weights" else f"another {thing}{kind}"
            raise CheckpointError(f"the checkpoint is of a run with {other}: give it the same, or begin anew")
        differ = [name for name in ROUNDING if ours.get(name) != theirs.get(name)]
        if differ:
            was = ", ".join(f"{name} {theirs[name]}" if theirs.get(name) else f"no {name}" for name in differ)
            warnings.warn(f"the run had {was}: it goes on, but not to the same last digits", stacklevel=5)
        if ours.get("memory_pairs") != theirs.get("memory_pairs"):
            warnings.warn("L-BFGS remembered more steps, or fewer: the run goes on, by another way", stacklevel=5)


class Keeper:
    """Writes a run's checkpoints to one file, each in place of the one before.

    Parameters
    ----------
    path : path
    every : int
        After how many iterations.
    command : dict
        To keep with each, see `Checkpoint`.
    """

    def __init__(
        self, path: str | os.PathLike[str], every: int = EVERY, command: Mapping[str, Any] | None = None
    ) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every is 1 or more, not {every}")
        self.path, self.every, self.command = Path(path), every, dict(command or {})
        self._last: Checkpoint | None = None
        self._warned = False
        check_checkpoint(self.path)

    def offer(self, checkpoint: Checkpoint) -> None:
        """Write it, if it is time, or if there is none yet."""
        self._last = replace(checkpoint, command=self.command or checkpoint.command)
        if checkpoint.iteration % self.every == 0 or not self.path.exists():
            self.flush()

    def flush(self) -> None:
        """Write the last one that was offered, unless it was; a file that cannot be written is told, and no more: the
        run is worth more."""
        if self._last is None or not self._last.state:  # it has been handed over to a run that goes on
            return
        try:
            write_checkpoint(self.path, self._last)
            self._last = None
        except OSError as error:
            if not self._warned:
                self._warned = True
                note = f"{self.path}: {error.strerror or error}; not a checkpoint for now"
                warnings.warn(note, NotWrittenWarning, stacklevel=2)


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write it, all of it or nothing.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    arrays: list[Array] = []

    def number(array: Array) -> dict[str, int]:
        known = next((i for i, other in enumerate(arrays) if other is array), len(arrays))
        if known == len(arrays):
            arrays.append(array)
        return {"array": known}

    names = ("settings", "history", "seconds", "scale", "counts", "stops", "command")
    record = {name: getattr(checkpoint, name) for name in names}
    record["state"] = _replaced(checkpoint.state, lambda value: hasattr(value, "dtype"), number)
    text, hosted = json.dumps(record), [to_host(array) for array in arrays]
    with written_hdf5(path) as h5:
        h5.attrs["format"], h5.attrs["version"] = FORMAT, VERSION
        h5.attrs["sha256"] = digest(text, *hosted)
        h5["record"] = text
        for i, array in enumerate(hosted):
            h5[f"arrays/{i}"] = array


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """What `write_checkpoint` wrote, its arrays on the host.

    Raises
    ------
    CheckpointError
        If there is none, or it is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; leave it out to begin anew")
    try:
        with path.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                raise CheckpointError(f"{path}: not a checkpoint of nsnumpy")
        with open_hdf5(path) as h5:
            if h5.attrs.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a checkpoint of nsnumpy")
            if h5.attrs.get("version") != VERSION:
                raise CheckpointError(f"{path}: a checkpoint of another version of nsnumpy; begin anew")
            text = own_dataset(h5, "record").asstr()[()]
            arrays = [own_dataset(h5, f"arrays/{i}")[()] for i in range(len(h5["arrays"]))]
            if h5.attrs["sha256"] != digest(text, *arrays):
                raise ValueError("its contents have changed")
        record = json.loads(text)
        state = _replaced(
            record.pop("state"),
            lambda value: isinstance(value, dict) and value.keys() == {"array"},
            lambda value: arrays[value["array"]],
        )
        for names, name in ((record["settings"], "optimizer"), (state, "method")):  # of an earlier version, perhaps
            if name in names:
                names[name] = canonical_optimizer(names[name])
        if "until" not in record["settings"] and record["settings"].get("optimizer") == "lbfgs-device":
            record["settings"].setdefault("memory_pairs", 15)  # as many as it remembered then
        if "style_layers" in record["settings"]:
            record["settings"].setdefault("style_statistics", "gram")
        for known in filter(None, (record["settings"], record["command"])):
            known.setdefault("border", "zero")  # as all runs had, once
            known.setdefault("until", None)
        if record["settings"].get("command") == "transfer":
            since = {"colors": "painting", "color_match": "transport", "outside": "keep"}
            record["settings"] = since | record["settings"]
        return Checkpoint(**record, state=state)
    except CheckpointError:
        raise
    except Exception as error:  # for a broken file h5py raises nearly anything
        raise CheckpointError(f"{path}: a checkpoint that cannot be read ({line_of(error)}); begin anew") from error


def on_device(state: Mapping[str, Any], xp: ModuleType) -> dict[str, Any]:
    """A state with its arrays on the device of xp, in the precision that they have."""
    return _replaced(state, lambda value: hasattr(value, "dtype"), lambda array: asarray(array, xp, array.dtype))


def _replaced(value: Any, which: Callable[[Any], bool], by: Callable[[Any], Any]) -> Any:
    """The same nested dicts and lists with some of their leaves replaced."""
    if which(value):
        return by(value)
    if isinstance(value, Mapping):
        return {name: _replaced(item, which, by) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, which, by) for item in value]
    return value


def check_checkpoint(path: Path) -> None:
    """CheckpointError or OSError if no run could be kept at `path`, or something else is there."""
    check_folder(path)
    if path.is_file() and path.stat().st_size and not is_checkpoint(path):
        raise CheckpointError(f"{path}: is there, and keeps no run; choose another name")


def is_checkpoint(path: Path) -> bool:
    """Whether the file keeps a run, this version's or another's."""
    try:
        with open_hdf5(path) as h5:
            return h5.attrs.get("format") == FORMAT
    except (OSError, RuntimeError):
        return False


def digest(*values: str | np.ndarray) -> str:
    """A SHA-256 by which to know texts and arrays again."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, str):
            digest.update(value.encode())
        else:
            digest.update(f"{value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
