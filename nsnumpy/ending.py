"""How a run ended: one value, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass

from .pairs import NoRoomError


def line_of(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes
    ----------
    how : str
        "finished": every iteration that was asked for ran; "early": no lower loss could be found, or the picture moved
        less than `until`; "interrupted": by a KeyboardInterrupt (Ctrl-C); "not finite": the loss; "out of memory";
        "no room": in the folder of what L-BFGS remembers; "left": whoever drove it asked for no more.
    why : str
        The same for a person to read; empty if it finished.
    """

    how: str = "finished"
    why: str = ""

    @classmethod
    def by(cls, error: BaseException, when: str) -> Ending:
        """Of a run that a KeyboardInterrupt, a FloatingPointError or a MemoryError ended."""
        if isinstance(error, KeyboardInterrupt):
            return cls("interrupted", f"interrupted{when}")
        if isinstance(error, NoRoomError):
            return cls("no room", f"{error}{when}")
        if isinstance(error, MemoryError):
            return cls("out of memory", f"out of memory{when}")
        return cls("not finite", f"{error}{when}")


class Ended:
    """What can be asked of a result about its `ending`."""

    ending: Ending

    @property
    def stopped(self) -> str:
        """Empty if all iterations that were asked for ran; else why not."""
        return self.ending.why

    @property
    def interrupted(self) -> bool:
        """Whether it was a KeyboardInterrupt (Ctrl-C) that stopped it."""
        return self.ending.how == "interrupted"

    @property
    def failed(self) -> bool:
        """Whether it was a loss that is not finite, or want of memory, or of room for it in a folder."""
        return self.ending.how in ("not finite", "out of memory", "no room")

    @property
    def out_of_memory(self) -> bool:
        """Whether it was the latter."""
        return self.ending.how == "out of memory"
