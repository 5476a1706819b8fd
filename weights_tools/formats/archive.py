"""Zip archives: the container of PyTorch's .pth since 1.6, and of NumPy's .npz."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from .base import MOST_TENSORS, Bytes, File, FormatError, Inflated, Region

MOST_DIRECTORY = 1 << 18  # bytes; a VGG's takes a few thousand
_TOO_MANY = "a zip archive of more members than any weight file has"
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


class Member:
    """A file within a zip archive: `Bytes`, inflated on the way if it is stored compressed."""

    def __init__(self, file: File, info: zipfile.ZipInfo) -> None:
        self.name = info.filename
        header = _LOCAL_HEADER.unpack(file.at(info.header_offset, _LOCAL_HEADER.size))
        if header[0] != b"PK\3\4":
            raise FormatError(f"damaged zip archive: no entry where {self.name!r} should be")
        if info.flag_bits & 1:
            raise FormatError("the zip archive is encrypted")
        packed = Region(file, info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1], info.compress_size)
        self._crc = info.CRC
        self._data: Bytes
        if info.compress_type == zipfile.ZIP_STORED:
            self._data = packed
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            self._data = Inflated(packed, -15, info.file_size)
        else:
            raise FormatError(f"the zip archive is compressed by method {info.compress_type}; only deflate is read")
        self.size = self._data.size

    def at(self, offset: int, count: int) -> bytes:
        """As `Bytes.at`; the checksum is compared where the whole member is read."""
        data = self._data.at(offset, count)
        if offset == 0 and count == self.size and zlib.crc32(data) != self._crc:
            raise FormatError(f"damaged zip archive: the checksum of {self.name!r} is wrong; fetch the file again")
        return data


def members(file: File) -> dict[str, Member]:
    """The members of a zip archive by name, in the archive's order."""
    try:
        with zipfile.ZipFile(_Handle(file)) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_TENSORS:
                raise FormatError(_TOO_MANY)
            return {info.filename: Member(file, info) for info in infos}
    except FormatError:
        raise
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError, IndexError) as error:
        raise FormatError(f"damaged zip archive, or not all of it was downloaded ({error})") from error


class _Handle(io.RawIOBase):
    """A file as `zipfile` wants it, which reads no directory larger than any that we need."""

    def __init__(self, file: File) -> None:
        self._file, self._position = file, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + (0, self._position, self._file.size)[whence]
        if position < 0:
            raise OSError("before the beginning")  # what zipfile expects to catch, for a file of a few bytes
        self._position = position
        return position

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._file.size - self._position)
        count = left if count < 0 else min(count, left)
        if count > MOST_DIRECTORY:
            raise FormatError(_TOO_MANY)
        data = self._file.at(self._position, count)
        self._position += count
        return data
