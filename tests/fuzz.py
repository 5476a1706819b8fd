"""Damaged and forged weight files, and what a reader must do with each: read it, or refuse it in one line.

Run as a program it goes on for a given time: ``python tests/fuzz.py --minutes 60``.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path
from random import Random
from unittest import mock

from weight_writers import small_network

from nsnumpy import WeightFile, write_weights
from weights_tools import FormatError, read_any
from weights_tools.formats import File, hdf5

FIXTURES = Path(__file__).with_name("fixtures")
LONGEST = 5.0  # seconds
MOST_MEMORY = 4  # times the file, beyond
FLOOR = 4 << 20  # bytes: what reading any file takes
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


PROGRAMS = "programs.pth"  # see `program`
OWN, OWN_INT8 = "nsnumpy.h5", "nsnumpy-int8.h5"


def own_file(name: str) -> bytes:
    """A weight file of nsnumpy itself."""
    with tempfile.TemporaryDirectory() as folder:
        file = WeightFile(small_network(), source="a test")
        write_weights(Path(folder) / OWN, file, "int8" if name == OWN_INT8 else "float32")
        return (Path(folder) / OWN).read_bytes()


def mutate(data: bytes, random: Random) -> bytes:
    """The file with one to eight things done to it: bits flipped, numbers put in, parts cut, doubled or exchanged.

    Half of the places are in the first and last 2 kB, where the formats keep what describes the rest.
    """
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        size = len(changed)
        if not size:
            break
        place = random.randrange(size)
        if random.random() < 0.5:
            edge = random.randrange(min(size, 2048))
            place = edge if random.random() < 0.6 else size - 1 - edge
        kind = random.random()
        if kind < 0.3:
            changed[place] ^= 1 << random.randrange(8)
        elif kind < 0.45:
            changed[place] = random.randrange(256)
        elif kind < 0.65:
            width = random.choice((1, 2, 4, 8))
            value = random.choice((*EXTREMES, size, size - place, place, random.randrange(1 << 16)))
            order = random.choice(("little", "big"))
            changed[place : place + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)
        elif kind < 0.75:
            del changed[place:]
        elif kind < 0.85:
            del changed[place : place + random.choice((1, 2, 8, 100, 1000))]
        elif kind < 0.95:
            other = random.randrange(size)
            length = random.choice((1, 4, 16, 64, 512))
            changed[place : place + length] = changed[other : other + length]
        else:
            changed[place:place] = changed[place : place + random.choice((1, 8, 100))]
    return bytes(changed)


def _text(length: int) -> bytes:
    return b"X" + struct.pack("<I", length) + b"x" * length


_NAMES = (
    b"collections\nOrderedDict", b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_parameter",
    b"torch\nSize", b"torch\nFloatStorage", b"numpy\ndtype", b"numpy\nndarray", b"numpy.core.multiarray\n_reconstruct",
    b"_codecs\nencode",
)  # fmt: skip
_OPS = (
    *(b"(", b"]", b"}", b")", b"N", b"\x88", b"K\1", b"G" + bytes(8), b"0", b"1", b"2", b"a", b"e", b"s", b"u"),
    *(b"t", b"l", b"d", b"\x85", b"\x86", b"\x87", b"R", b"\x81", b"b", b"Q", b"\x94", b"M\1\1", b"J\xff\xff\xff\x7f"),
    *(op + bytes([n]) for op in (b"q", b"h", b"h") for n in range(6)),
    *(b"c" + name + b"\n" for name in _NAMES),
    *(_text(length) for length in (0, 1, 60, 250, 60_000)),
    b"\x8a\x0a" + b"\x11" * 10, b"C\2ab", b"V" + b"y" * 1000 + b"\n",
)  # fmt: skip


def program(random: Random) -> bytes:
    """A .pth or .npy whose pickle is a program of its own, with loops unrolled: what byte mutations do not come to."""
    pickled = b"\x80\x02"
    for n in range(6):  # things to recall: constructors, and what they may be given
        filling = random.choice((b"K\1", b"2", b"](%sK\1e" % _text(1), b"}", _text(9))) * random.choice((0, 2, 1500))
        thing = random.choice((b"c" + random.choice(_NAMES) + b"\n", b"](N" + filling + b"e", b"(N" + filling + b"t"))
        pickled += thing + b"q" + bytes([n])
    for _ in range(random.randrange(2, 12)):
        block = b"".join(random.choices(_OPS, k=random.randrange(1, 7)))
        if random.random() < 0.4:
            given = bytes(random.choices(range(6), k=3))
            block = b"h%ch%c\x85R" % (given[0], given[1]) + random.choice((b"", b"0", b"h%cb" % given[2]))
        pickled += block * random.choice((1, 1, 1, 3, 30, 2000 if len(block) < 50 else 30))
    pickled += b"}." if random.random() < 0.5 else b"."
    if random.random() < 0.3:
        return (FIXTURES / "dictionary.npy").read_bytes()[:128] + pickled
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(216))
    return file.getvalue()


def consume(path: Path) -> str:
    """Read the file as `convert` does; "read", or "refused". Anything but FormatError goes through."""
    try:
        read_any(path)
    except FormatError as error:
        text = str(error)
        assert text.isprintable(), f"more than a line: {text!r}"
        assert len(text) < 500 + len(str(path)), text
        return "refused"
    return "read"


class Fuzzer:
    """Reads mutated files under watch; HDF5 files all in one process, which is replaced when it dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: hdf5.Process | None = None
        self.deaths = 0

    def _start(self, file: File) -> hdf5.Process:
        if self.process is None or not self.process.alive:
            self.deaths += self.process is not None
            self.close()
            self.process = hdf5.Process()
        return self.process

    def close(self) -> None:
        if self.process:
            self.process.close()

    def check(self, name: str, data: bytes) -> str:
        """`consume` the data as a file of that name; AssertionError if it takes too long or too much memory.

        Time is this process's computing, so that a busy machine does not count; that of the HDF5 process is limited.
        """
        path = self.folder / name
        path.write_bytes(data)
        with mock.patch.object(hdf5, "start", self._start):
            tracemalloc.start()
            begin = time.process_time()
            try:
                outcome = consume(path)
                seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert seconds < LONGEST, f"{seconds:.1f} s"
        assert peak < MOST_MEMORY * len(data) + FLOOR, f"{peak} bytes for a file of {len(data)}"
        return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = sorted(path.name for path in FIXTURES.iterdir() if path.name != "expected.npz")
    originals = {name: (FIXTURES / name).read_bytes() for name in names}
    originals |= {name: own_file(name) for name in (OWN, OWN_INT8)}
    names += [OWN, OWN_INT8, PROGRAMS]
    counts: Counter[tuple[str, str]] = Counter()
    worst = 0.0
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        round_ = 0
        while time.monotonic() < end:
            for name in names:
                random = Random(f"{arguments.seed} {name} {round_}")
                data = program(random) if name == PROGRAMS else mutate(originals[name], random)
                begin = time.monotonic()
                try:
                    outcome = fuzzer.check(name, data)
                except Exception as error:
                    outcome = "FAILED"
                    print(f"{name} round {round_}: {type(error).__name__}: {error}", flush=True)
                worst = max(worst, time.monotonic() - begin)
                counts[name, outcome] += 1
            round_ += 1
            if round_ % 1000 == 0:
                print(
                    f"{round_} files of each kind, slowest {worst:.2f} s, HDF5 processes lost {fuzzer.deaths}",
                    flush=True,
                )
        fuzzer.close()
    for name in names:
        print(f"{name:24}", *(f"{outcome} {counts[name, outcome]}" for outcome in ("read", "refused", "FAILED")))
    print(f"{sum(counts.values())} files, slowest {worst:.2f} s, HDF5 processes lost {fuzzer.deaths}")
    sys.exit(any(counts[name, "FAILED"] for name in names))


if __name__ == "__main__":
    main()
