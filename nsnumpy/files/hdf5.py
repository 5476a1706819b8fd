"""HDF5 files. h5py is loaded with the first of them, since it takes long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .writing import atomic_path

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    """The file, to read; OSError or RuntimeError if it is none."""
    import h5py

    return h5py.File(path)


@contextmanager
def written_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A new file, which is there whole after the block, or not at all; OSError if it cannot be written.

    It goes through a file of Python's: of a disk that is full, HDF5 itself tells in a page, or by ending the program.
    """
    import h5py

    with atomic_path(Path(path)) as temporary, temporary.open("wb+") as file, h5py.File(file, "w") as h5:
        yield h5


def own_dataset(h5: h5py.File, name: str) -> h5py.Dataset:
    """The dataset of that path; ValueError if there is none, or if it, or its values, are another file's.

    HDF5 would follow such a link to any file that the user may read.
    """
    import h5py

    parts = name.split("/")
    for path in ("/".join(parts[: n + 1]) for n in range(len(parts))):
        link = h5.get(path, getlink=True)
        if link and not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: a link to somewhere else; values in the file itself expected")
    dataset = h5.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is missing")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name}: its values are in another file")
    return dataset
