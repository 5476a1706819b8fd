"""Reads one HDF5 file in a process of its own; `hdf5` starts it.

The HDF5 library was not made for files that somebody has damaged or forged: some make it loop for ever. So it runs
where that does no harm, with as much time and memory as a file of that size can need.

The parent sends lines and gets an answer to each: 8 bytes with its length, then so many bytes; a length of -1 is
followed by an error's text, which is sent in the same way.

- ``open PATH`` (as JSON): ``{"attributes": {...}, "datasets": [[path, shape, dtype, its group's name], ...]}``
- ``read N``: the values of dataset N, little-endian, in C order
- ``check N``: nothing, if they can be read
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from pathlib import Path

import h5py
import numpy as np

MOST_DATASETS = 2_000
MOST_DEPTH = 10
MOST_TEXT = 1 << 16
ATTRIBUTES = ("backend", "format_version")


class Server:
    def __init__(self) -> None:
        self.h5: h5py.File | None = None
        self.datasets: list[tuple[h5py.Dataset, str]] = []

    def open(self, path: str) -> bytes:
        if self.h5:
            self.h5.close()
        self.datasets = []
        size = os.path.getsize(path)
        _limit(size)
        self.h5 = h5py.File(path, "r")
        self.visited = 0
        self._walk(self.h5, MOST_DEPTH)
        for name in self.h5.attrs:
            _text(self.h5, name)
        index = {
            "attributes": {name: _text(self.h5, name) for name in ATTRIBUTES if name in self.h5.attrs},
            "datasets": [[d.name, [int(n) for n in d.shape], d.dtype.name, name] for d, name in self.datasets],
        }
        return json.dumps(index).encode()

    def _walk(self, group: h5py.Group, depth: int) -> None:
        for name in group:
            self.visited += 1
            if self.visited > MOST_DATASETS:
                raise ValueError(f"more than {MOST_DATASETS} groups and datasets: no weight file")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name[:80]}: a link to somewhere else; weights within the file expected")
            item = group[name]
            if isinstance(item, h5py.Group) and depth:
                self._walk(item, depth - 1)
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                self.datasets.append((item, _text(group, "name") if "name" in group.attrs else ""))

    def read(self, number: int) -> bytes:
        dataset, _ = self.datasets[number]
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name}: its values are in another file")
        if dataset.chunks is None and dataset.id.get_storage_size() < dataset.nbytes:
            raise ValueError(f"{dataset.name}: the file does not hold all of its values")
        values = dataset[()]
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _text(h5: h5py.Group, name: str) -> str:
    """An attribute as a string, "" if it is none."""
    if h5.attrs.get_id(name).get_storage_size() > MOST_TEXT:
        return ""
    value = h5.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)[:MOST_TEXT]


def _limit(size: int) -> None:
    """From here on: about 3 seconds of computing and one per 20 MB, and memory for four times the file.

    Where the system has no such limits (Windows), or does not tell how much memory is taken (macOS), there are none.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; or a stricter limit stands already
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + 3 + size // 20_000_000
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + 4 * size + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    server = Server()
    out = sys.stdout.buffer
    for line in sys.stdin:
        command, _, argument = line.rstrip("\n").partition(" ")
        try:
            if command == "open":
                answer = server.open(json.loads(argument))
            else:
                answer = server.read(int(argument))
                answer = answer if command == "read" else b""
        except MemoryError:
            answer, error = None, "damaged: it claims more values than a file of its size can hold"
        except Exception as exception:
            answer, error = None, str(exception).partition("\n")[0][:200] or type(exception).__name__
        if answer is None:
            out.write(struct.pack("<q", -1))
            answer = error.encode()
        out.write(struct.pack("<q", len(answer)) + answer)
        out.flush()


if __name__ == "__main__":
    main()
