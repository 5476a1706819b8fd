"""Keras's .h5 and .weights.h5: HDF5, read by a process of its own (see `hdf5_child`)."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np

from .base import (
    AlreadyConvertedError,
    Contents,
    File,
    FormatError,
    Layer,
    Tensor,
    check_shape,
    decode,
    natural_order,
    stored_size,
)

MAGIC = b"\x89HDF\r\n\x1a\n"
_CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hdf5_child.py")
MOST_INDEX = 1 << 20  # bytes


class Process:
    """A process that reads HDF5 files."""

    def __init__(self) -> None:
        # HDF5 is told to load no filter that is a program, and the child looks for its modules where we do.
        environment = os.environ | {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
        paths = [os.path.abspath(path) for path in sys.path if path]
        code = f"import runpy, sys; sys.path[:] = {paths!r}; runpy.run_path({_CHILD!r}, run_name='__main__')"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()
        self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def open(self, path: str) -> dict[str, Any]:
        return json.loads(self._ask(f"open {json.dumps(os.path.abspath(path))}", MOST_INDEX))

    def read(self, number: int, size: int) -> bytes:
        """The values of dataset `number`, which take `size` bytes."""
        return self._ask(f"read {number}", size)

    def check(self, number: int) -> None:
        """Whether dataset `number` can be read: FormatError if not."""
        self._ask(f"check {number}", 0)

    def _ask(self, question: str, most: int) -> bytes:
        try:
            self._process.stdin.write(f"{question}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FormatError(_DIED) from None
        size = self._length()
        if size < 0:
            message = self._take(min(self._length(), 1000)).decode("utf-8", "replace")
            raise FormatError(f"damaged, or no weight file ({message})")
        if size > most:
            raise FormatError("damaged: an HDF5 file of more than a weight file holds")
        return self._take(size)

    def _length(self) -> int:
        return struct.unpack("<q", self._take(8))[0]

    def _take(self, count: int) -> bytes:
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise FormatError(_DIED)
        return data


_DIED = "damaged: the HDF5 library fails on it, or finds no end"


def start(file: File) -> Process:
    """A process for this file, which ends when the file is closed."""
    process = Process()
    file.closing.callback(process.close)
    return process


def read(file: File) -> Contents:
    process = start(file)
    index = process.open(str(file.path))
    backend = index["attributes"].get("backend", "")
    if "format_version" in index["attributes"]:
        for number in range(len(index["datasets"])):
            process.check(number)
        raise AlreadyConvertedError({dtype for _, _, dtype, _ in index["datasets"]})
    roots: dict[str, dict[str, list[Tensor]]] = {}
    for number, (path, sizes, dtype, group) in enumerate(index["datasets"]):
        root, name = _layer_name(path)
        shape = check_shape(sizes, path)
        tensor = Tensor(path.lstrip("/"), shape, dtype, partial(_load, process, number, dtype, shape))
        roots.setdefault(root, {}).setdefault(group or name, []).append(tensor)
    layers = []
    for name, tensors in next((roots[root] for root in _ROOTS if root in roots), {}).items():
        weight = next((tensor for tensor in tensors if len(tensor.shape) >= 2), None)
        if weight:
            layers.append(Layer(name, weight, next((tensor for tensor in tensors if len(tensor.shape) == 1), None)))
    layers.sort(key=lambda layer: natural_order(layer.name))
    return Contents("Keras HDF5", layers, ("HWIO", "OIHW"), "caffe", rotated=backend == "theano")


# Where the layers are: in a whole model's file, in Keras 3's weights, in those of its first versions, in Keras 1's.
_ROOTS = ("model_weights", "layers", "_layer_checkpoint_dependencies", "")


def _layer_name(path: str) -> tuple[str, str]:
    """The root and the layer of a dataset: /layers/conv2d/vars/0 is of ("layers", "conv2d")."""
    parts = path.strip("/").split("/")
    root = parts[0] if parts[0] in _ROOTS else ""
    folders = [part for part in parts[:-1] if part != "vars"]
    return root, folders[-1] if folders else parts[-1]


def _load(process: Process, number: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return decode(process.read(number, stored_size(dtype, shape)), dtype, shape)
