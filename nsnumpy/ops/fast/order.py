"""In what order the steps of a layer are done: piece by piece, or all pieces in step.

A piece of work goes through its three steps, before the products, the products, and after them, while it is in a core's
cache. But where a layer has few tiles, the time goes to reading U, 36 C N numbers, and each thread would read all of it
for a handful of rows. There each step is done for all pieces before the next one, and the products are shared out by
frequencies: each thread reads its part of U, for the rows of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...backend import Array, on_host
from ...workers import Blocks, Scratch, Workers
from .tiles import Piece

TILES = 128  # least number of tiles in a piece of work: so many rows repay the reading of U[f], 1 MB with 512 channels
APART = 64  # least number of tiles for each thread to have its own; on two cores 24 to 128 differed by 5 % of the time
_SHARES = 3  # of the frequencies for each thread, so that none waits long for the last one

Job = tuple[int, Piece]


def in_step(tiles: int, workers: Workers) -> bool:
    """Whether so many tiles are too few for each thread to have its own."""
    return 1 < workers.threads and tiles < APART * workers.threads


def frequencies(workers: Workers) -> Blocks:
    """The shares of the 36 frequencies."""
    return Blocks(36, min(36, _SHARES * workers.threads))


def done(
    first: Callable[..., Array],
    product: Callable[..., Array],
    last: Callable[[Job, Array, Scratch], Any],
    pieces: Sequence[Piece],
    tiles: tuple[int, int],
    U: Array,
    channels: tuple[int, int],
    workers: Workers,
) -> list[Any]:
    """What `last` returns of each piece, once all steps are done.

    Parameters
    ----------
    first, product, last : functions of (job, scratch), (array, U, scratch) and (job, array, scratch)
        The steps, each of which takes what the one before returns. On the CPU the first two may be given where to write
        it, too.
    pieces : sequence of Piece
    tiles : (rows, columns)
        Of each picture.
    U : array ``(36, C, N)``
    channels : (before, after)
        Of what the first step returns, ``(36, n R T, before)``, and the products.
    workers : Workers
    """
    rows, columns = tiles
    jobs = list(enumerate(pieces))
    count = pieces[-1].last * rows * columns if jobs else 0
    if len(jobs) < 2 or not on_host(U) or not in_step(count, workers):
        return workers.map(lambda job, scratch: last(job, product(first(job, scratch), U, scratch), scratch), jobs)
    before, after = (workers.scratch().empty(f"in step {k}", (36, count, n), U) for k, n in enumerate(channels))

    def of(job: Job) -> tuple[slice, slice]:
        piece = job[1]
        start, stop = piece.first * rows + piece.start, (piece.last - 1) * rows + piece.stop
        return slice(None), slice(start * columns, stop * columns)

    def multiply(share: tuple[int, int], scratch: Scratch) -> None:
        some = slice(*share)
        product(before[some], U[some], scratch, after[some])

    workers.map(lambda job, scratch: first(job, scratch, before[of(job)]), jobs)
    workers.map(multiply, frequencies(workers))
    return workers.map(lambda job, scratch: last(job, after[of(job)], scratch), jobs)
