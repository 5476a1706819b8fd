"""HDF5 files. h5py is loaded with the first of them, since it takes long."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import h5py


def open_hdf5(file: str | os.PathLike[str] | IO[bytes], mode: str = "r") -> h5py.File:
    """As `h5py.File`, which raises OSError or RuntimeError."""
    import h5py

    return h5py.File(file, mode)


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
