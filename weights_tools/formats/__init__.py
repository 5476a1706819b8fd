"""Readers of published weight files, one module per format; a file is recognised by its content, not by its name."""

from __future__ import annotations

from . import caffe, hdf5, matconvnet, matlab, numpy_files, onnx, pytorch, safetensors
from .archive import members
from .base import AlreadyConvertedError, Contents, File, FormatError, Layer, Tensor
from .protobuf import Message

__all__ = ["AlreadyConvertedError", "Contents", "File", "FormatError", "Layer", "Tensor", "read"]

_STRANGERS = [
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"BZh", "compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed by xz; unpack it first"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"\x89PNG", "a picture (PNG)"),
]


def read(file: File) -> Contents:
    """What the file holds; its values are not read yet, and need the file to stay open.

    Raises
    ------
    FormatError
        If the file is of no known format, or damaged.
    """
    start = file.at(0, min(file.size, 600))
    for signature, words in _STRANGERS:
        if start.startswith(signature):
            raise FormatError(words)
    if not start:
        raise FormatError("an empty file")
    if start.lstrip()[:1] == b"<" and (b"html" in start.lower() or b"xml" in start.lower()):
        raise FormatError("a web page, not a weight file; the download went wrong")
    if start[257:262] == b"ustar":
        raise FormatError("a tar archive: unpack it first, or, if PyTorch wrote it (before 0.2), save it again")
    if start.startswith(b"PK"):
        is_torch = any(name.endswith("/data.pkl") for name in members(file))
        return pytorch.read_zip(file) if is_torch else numpy_files.read_npz(file)
    if start.startswith(numpy_files.MAGIC):
        return numpy_files.read_npy(file)
    if _is_hdf5(file):
        return hdf5.read(file)
    if matlab.is_matlab(start):
        return matconvnet.read(file)
    if pytorch.is_legacy(start):
        return pytorch.read_legacy(file)
    if start[0] == 0x80 and start[1:2] in b"\2\3\4\5":
        raise FormatError("a bare pickle, which could run programs; only PyTorch's and NumPy's files are read")
    if safetensors.is_safetensors(start):
        return safetensors.read(file)
    message = Message(file)
    try:
        reader = onnx if onnx.is_onnx(message) else caffe if caffe.is_caffe(message) else None
    except FormatError:
        reader = None
    if reader is None:
        raise FormatError(
            "of no known format, or damaged; known: PyTorch .pth, safetensors, Keras .h5, MatConvNet .mat, "
            "Caffe .caffemodel, ONNX, .npz and .npy"
        )
    return reader.read(file)


def _is_hdf5(file: File) -> bool:
    """Whether it is an HDF5 file: its signature stands at its beginning, or at 512, 1024, ... bytes."""
    offset = 0
    while offset + 8 <= file.size:
        if file.at(offset, 8) == hdf5.MAGIC:
            return True
        offset = max(512, 2 * offset)
    return False
