"""A state in which a training or a refinement can go on, in an HDF5 file: groups of arrays, a step, and whose it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from nsnumpy.backend import Array, to_host
from nsnumpy.files.writing import atomic_path

Groups = dict[str, dict[str, Array]]


class TrainingError(RuntimeError):
    """A training or refinement that cannot go on; the message says why, and what to do."""


def save_groups(
    path: Path, step: int, recipe: Mapping[str, Any], pictures: str, groups: Mapping[str, Mapping[str, Array]]
) -> None:
    """Write it all, or nothing.

    Parameters
    ----------
    path : where to
    step : int
        How many steps are done.
    recipe : mapping, JSON-serialisable
        What decides the result, with the pictures.
    pictures : str
        Their fingerprint.
    groups : dict of dicts of arrays
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as h5:
        h5.attrs["step"], h5.attrs["recipe"], h5.attrs["pictures"] = step, json.dumps(recipe), pictures
        for group, arrays in groups.items():
            h5.create_group(group)  # it may be empty
            for name, array in arrays.items():
                h5.create_dataset(f"{group}/{name}", data=to_host(array))


def load_groups(
    path: str | os.PathLike[str], recipe: Mapping[str, Any], pictures: str, groups: tuple[str, ...], xp: Any
) -> tuple[int, Groups]:
    """The step and the groups, on xp's device, that `save_groups` wrote.

    Raises
    ------
    TrainingError
        If there are none, or they belong to another recipe or, where their fingerprint is given, to other pictures.
    """
    try:
        with h5py.File(path) as h5:
            theirs, ours = json.loads(h5.attrs["recipe"]), json.loads(json.dumps(recipe))
            if theirs != ours:
                other = ", ".join(f"{name} {theirs.get(name)!r}" for name in ours if ours[name] != theirs.get(name))
                raise TrainingError(f"{path}: of a training with {other}; give the same options, or begin anew")
            if pictures and h5.attrs.get("pictures") != pictures:
                raise TrainingError(
                    f"{path}: of a training with other pictures (or another side, or other ones held out); give the "
                    "same, or begin anew"
                )
            return int(h5.attrs["step"]), {group: _arrays(h5[group], xp) for group in groups}
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise TrainingError(f"{path}: no checkpoint that can be read; begin without --resume") from error


def _arrays(group: h5py.Group, xp: Any) -> dict[str, Array]:
    found: dict[str, Array] = {}

    def visit(name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = xp.asarray(node[()])

    group.visititems(visit)
    return found
