"""Runs that go back to an earlier picture of theirs, or go on with other colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .results import Progress, to_image
from .run import Run


class SteeredRun(Run):
    """A run that can be put back to where it was, or be given other colours, between two calls of `steps`.

    Parameters
    ----------
    *given, **options
        As for `Run`.
    """

    def go_back(self, picture: np.ndarray, iteration: int) -> None:
        """Go on from an earlier picture, as if what came after it had not been.

        The optimizer begins anew there; the history ends with the line before, and the record's changes have one with
        "back_to".

        Parameters
        ----------
        picture : array ``(H, W, 3)``, RGB in [0, 1]
            Of the size of one of the scales that were begun: an iterate, not what is shown of it.
        iteration : int
            Its number, counted over all scales.

        Raises
        ------
        ValueError
            If the run has not been there.
        """
        sizes = [self.inputs.shape(scale) for scale in self.scales]
        known = [line for line in self.history if line["iteration"] == iteration]
        if picture.shape[:2] not in sizes or max(picture.shape) not in [line["size"] for line in known]:
            raise ValueError(f"iteration {iteration}: the run had no picture there to go back to")
        number = sizes.index(picture.shape[:2])
        self.changes.append({"iteration": self.history[-1]["iteration"], "back_to": iteration})
        before = (iteration, max(picture.shape))
        self.history = [line for line in self.history if (line["iteration"], line["size"]) < before]
        if number < len(self._counts):
            self._counts, self._stops = self._counts[:number], []
        self._restart(number, picture, iteration)

    def recolor(self, colors: str, picture: np.ndarray, iteration: int) -> None:
        """Go on with other colours from the last step's picture; the record's changes have a line with "colors".

        Parameters
        ----------
        colors : as in `Settings`
        picture : array ``(H, W, 3)``, RGB in [0, 1]
            What is shown of the step.
        iteration : int
            Its number, counted over all scales.

        Raises
        ------
        ValueError
            If there are no such colours.
        """
        replace(self.s, colors=colors)  # raises
        self._note({"iteration": iteration, "colors": colors})
        self._restart(len(self._counts), picture, iteration)

    def _restart(self, number: int, picture: np.ndarray, iteration: int) -> None:
        """At that scale, from a picture that has its size."""
        self._image, self._resumed, self._descent, self._ending = picture.astype(np.float32), None, None, None
        self._begin(number).begin_at(iteration - sum(self._counts))

    def _note(self, change: dict[str, Any]) -> None:
        if "back_to" in change:
            self.changes.append(change)
            return
        super()._note(change)
        self.inputs.colors = self.s.colors

    @staticmethod
    def iterate(step: Progress) -> np.ndarray:
        """What `go_back` takes of a step: a copy, float32."""
        return to_image(step.x)
