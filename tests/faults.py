"""The command line under random faults: ``python tests/faults.py --minutes 60 --seed 1``.

In each round a command runs in a folder of its own while something goes wrong: signals at random moments, a disk that
is full, files that vanish or change, streams that are closed, a second run beside it. After each: the exit status is
one that is documented, what is said is a line each and no traceback, every picture and checkpoint that is there is
whole, what was to be read is as it was, no stray file is left, and a run that was kept goes on. A round is the same
for the same seed and number, as far as time allows; ``--only SEED:ROUND`` repeats one.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import nsnumpy as ns
from nsnumpy.files.checkpoint import read_checkpoint
from nsnumpy.files.random_network import calibrate, random_weights

LONGEST = 90.0  # seconds, for what takes two or three: longer is a hang
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
STATUSES = {0, 1, 2, 130, 143, 129}
SMALL = "--size 40 --weights tiny.h5 --threads 2"
INPUTS = ("photo.png", "painting.jpg", "tiny.h5")
KEPT = ("earlier.png", "earlier.h5")  # of an earlier run, to go on from or to be replaced


@dataclass
class Round:
    """A command and its fault, drawn from one seed; `wrong` is what was found to be."""

    seed: int
    number: int
    folder: Path
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed} {self.number}")
        self.command = self._command()
        self.fault = self.rng.choice(list(FAULTS))
        self.killed = self.touched = False

    def _command(self) -> str:
        rng = self.rng
        run = f"-o out.png {SMALL} --iterations {rng.choice((0, 3, 20, 200))}"
        run += rng.choice(("", " --scales 24", " --optimizer adam", " --optimizer scipy", " --save-every 5"))
        run += rng.choice(("", " --log run.jsonl")) + rng.choice(("", " --quiet"))
        run += rng.choice(("", " --checkpoint run.h5", " --checkpoint run.h5 --checkpoint-every 1"))
        return rng.choice(
            (
                f"nsnumpy transfer photo.png painting.jpg {run}",
                f"nsnumpy transfer photo.png painting.jpg {run}",
                f"nsnumpy texture painting.jpg {run}",
                f"nsnumpy reconstruct photo.png {run.replace(' --scales 24', '')}",
                "nsnumpy transfer --resume earlier.h5 --iterations 30 --log run.jsonl",
                "nsnumpy transfer photo.png painting.jpg -o out.png --like earlier.png --iterations 20",
                f"nsnumpy figure content photo.png -o figure {SMALL} --layers conv1_1,conv2_1 --iterations 5",
                f"nsnumpy figure style painting.jpg -o figure {SMALL} --layers conv1_1,conv2_1 --iterations 5 --jobs 2",
                f"nsnumpy plan photo.png painting.jpg {SMALL}",
                "weights_tools convert tiny.h5 -o converted.h5 --dtype float16",
                "weights_tools normalize tiny.h5 photo.png -o normal.h5 --size 48",
            )
        )

    def start(self, command: str, **options) -> subprocess.Popen:
        def begin() -> None:
            for number in SIGNALS[:3]:  # as a terminal's shell leaves them
                signal.signal(number, signal.SIG_DFL)
            if limit := options.pop("limit", 0):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options.pop("streams", {})
        words = [sys.executable, "-m", *command.split()]
        return subprocess.Popen(words, cwd=self.folder, preexec_fn=begin, start_new_session=True, **streams)

    def end(self, process: subprocess.Popen) -> tuple[int, str]:
        """Its exit status, and what it said on standard error."""
        try:
            _, err = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            process.communicate()
            self.wrong.append(f"hung for {LONGEST:.0f} s")
            self.killed = True
            return 0, ""
        return process.returncode, (err or b"").decode(errors="replace")

    def run(self) -> None:
        before = {name: _digest(self.folder / name) for name in INPUTS}
        for status, err in FAULTS[self.fault](self):
            self._check_end(status, err)
        if not self.touched:
            changed = [name for name in INPUTS if _digest(self.folder / name) != before[name]]
            self.wrong += [f"{name} was changed" for name in changed]
        self._check_files()
        if self.killed:  # who is killed cannot clean up; whoever writes there next does
            kept = (self.folder / "run.h5").exists()
            again = re.sub(r" --checkpoint(-every)? \S+", "", self.command) if kept else self.command
            self._check_end(*self.end(self.start(again)), good=not self.touched)
        if (self.folder / "run.h5").exists() and not self.touched:
            again = f"nsnumpy {self.command.split()[1]} --resume run.h5"
            self._check_end(*self.end(self.start(again)), good=True)
        self._check_strays()

    def _check_end(self, status: int, err: str, good: bool = False) -> None:
        deaths = {-signal.SIGKILL} if self.killed else set()
        deaths |= {-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP} if self.fault == "signals" else set()
        if status not in ({0} if good else STATUSES | deaths):
            self.wrong.append(f"exit status {status}")
        lines = err.splitlines()
        plain = all(re.match(r"(nsnumpy|weights_tools): ", line) for line in lines)
        if "Traceback" in err or "defect" in err or not plain:
            self.wrong.append(f"said {err[-2000:]!r}")
        if sum(": error: " in line for line in lines) > 1:
            self.wrong.append(f"more than one error: {err!r}")
        if self.wrong and good:
            self.wrong.append(f"(going on after it: {err!r})")

    def _check_files(self) -> None:
        for path in self.folder.rglob("*"):
            if path.name.startswith(".") or path.name in INPUTS or not path.is_file():
                continue
            try:
                if path.suffix == ".png":
                    ns.load_image(path)
                elif path.name in ("run.h5", "earlier.h5"):
                    read_checkpoint(path)
                elif path.suffix == ".h5":
                    ns.read_weights(path)
            except Exception as error:
                self.wrong.append(f"{path.name} is not whole: {error}")

    def _check_strays(self) -> None:
        strays = [path.name for path in self.folder.rglob(".*")]
        if strays:
            self.wrong.append(f"left behind: {strays}")


def nothing(round: Round):
    yield round.end(round.start(round.command))


def signals(round: Round):
    process = round.start(round.command)
    for _ in range(round.rng.choice((1, 1, 2))):
        time.sleep(round.rng.choice((0.0, 0.05, 0.3, 1.0)) + round.rng.uniform(0, 1.0))
        number = round.rng.choice(SIGNALS)
        if process.poll() is None:
            round.killed |= number == signal.SIGKILL
            os.killpg(process.pid, number)
    yield round.end(process)


def small_disk(round: Round):
    """As far as a process can have one for itself: no file may grow beyond so many bytes."""
    yield round.end(round.start(round.command, limit=round.rng.choice((1, 1000, 5000, 20_000, 60_000))))


def vanishing(round: Round):
    """A file or the folder of the results vanishes, or is overwritten."""
    process = round.start(round.command)
    time.sleep(round.rng.uniform(0, 2))
    round.touched = True
    path = round.folder / round.rng.choice((*INPUTS, "out.png", "run.h5", "run.jsonl", "figure"))
    if round.rng.random() < 0.5 and path.is_file():
        path.write_bytes(b"something else")
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    yield round.end(process)
    if path.is_file() and path.read_bytes() == b"something else":
        path.unlink()


def streams(round: Round):
    """Standard output that nobody reads, or that is full, or closed; or no standard error."""
    kind = round.rng.choice(("pipe", "full", "closed", "no stderr"))
    if kind == "full":
        with open("/dev/full", "wb") as full:
            yield round.end(round.start(round.command, streams={"stdout": full}))
        return
    if kind in ("closed", "no stderr"):
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$0" -m {round.command} {">&-" if kind == "closed" else "2>&-"}', sys.executable],
            cwd=round.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        yield round.end(process)
        return
    process = round.start(round.command)
    threading.Timer(round.rng.uniform(0, 1), process.stdout.close).start()
    try:
        process.wait(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)
        round.wrong.append("hung with nobody at its output")
    yield process.wait(), process.stderr.read().decode(errors="replace")


def two_at_once(round: Round):
    first = round.start(round.command)
    time.sleep(round.rng.uniform(0, 1))
    second = round.start(round.command)
    yield round.end(first)
    yield round.end(second)


FAULTS = {
    "nothing": nothing,
    "signals": signals,
    "small disk": small_disk,
    "vanishing": vanishing,
    "streams": streams,
    "two at once": two_at_once,
}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def prepare(folder: Path) -> None:
    """What every round begins with."""
    rng = np.random.default_rng(0)
    for name, shape in (("photo.png", (31, 40, 3)), ("painting.jpg", (36, 44, 3))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    pictures = [rng.random((48, 40, 3), dtype=np.float32) for _ in range(2)]
    ns.write_weights(folder / "tiny.h5", ns.WeightFile(calibrate(random_weights((6, 8, 10, 12, 14), seed=3), pictures)))
    command = f"nsnumpy transfer photo.png painting.jpg -o earlier.png {SMALL} --iterations 5 --checkpoint earlier.h5"
    subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="SEED:ROUND")
    arguments = parser.parse_args()
    seed, only = arguments.seed, None
    if arguments.only:
        seed, only = map(int, arguments.only.split(":"))
    counts, failed = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as work:
        template = Path(work) / "template"
        template.mkdir()
        prepare(template)
        end = time.monotonic() + 60 * arguments.minutes
        number = only or 0
        while time.monotonic() < end:
            folder = Path(work) / str(number)
            shutil.copytree(template, folder)
            round = Round(seed, number, folder)
            round.run()
            counts[round.fault] += 1
            if round.wrong:
                failed += 1
                print(f"round {seed}:{number}, {round.fault}: {round.command}", *round.wrong, sep="\n  ", flush=True)
            shutil.rmtree(folder)
            if only is not None:
                break
            number += 1
    each = ", ".join(f"{n} {fault}" for fault, n in counts.items())
    print(f"{sum(counts.values())} rounds ({each}), {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
