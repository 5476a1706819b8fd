"""Runs that go back to an earlier picture of theirs, or go on with other colours or shares of styles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .results import Progress, to_image
from .run import Run


class SteeredRun(Run):
    """A run that can be put back to where it was, or be given other colours or style weights, between two calls of
    `steps`.

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

    def turn(
        self,
        picture: np.ndarray,
        iteration: int,
        *,
        colors: str | None = None,
        style_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Go on with other colours, or other weights of the style pictures, from the last step's picture; the record's
        changes have a line with them.

        Parameters
        ----------
        picture : array ``(H, W, 3)``, RGB in [0, 1]
            What is shown of the step.
        iteration : int
            Its number, counted over all scales.
        colors : as in `Settings`, or None
        style_weights : mapping from "style", "style 2", ... to numbers above 0, or None

        Raises
        ------
        ValueError
            If there are no such colours, or no such style picture.
        """
        weights = dict(style_weights or {})
        if unknown := weights.keys() - {one.name for one in self.inputs.styles}:
            raise ValueError(f"{min(unknown)}: not a style picture of this run")
        if colors:
            replace(self.s, colors=colors)  # raises
            self._note({"iteration": iteration, "colors": colors})
        if weights:
            self._note({"iteration": iteration, "style_weights": weights})
        self._restart(len(self._counts), picture, iteration)

    def _restart(self, number: int, picture: np.ndarray, iteration: int) -> None:
        """At that scale, from a picture that has its size."""
        self._image, self._resumed, self._descent, self._ending = picture.astype(np.float32), None, None, None
        self._begin(number).begin_at(iteration - sum(self._counts))

    def _note(self, change: dict[str, Any]) -> None:
        if "back_to" in change:
            self.changes.append(change)
        elif weights := change.get("style_weights"):
            self.changes.append(change)
            self.inputs.each = [replace(one, weight=weights.get(one.name, one.weight)) for one in self.inputs.each]
        elif colors := change.get("colors"):
            self.changes.append(change)
            self.s = replace(self.s, colors=colors)
            self.inputs.colors = colors
        else:
            super()._note(change)

    @staticmethod
    def iterate(step: Progress) -> np.ndarray:
        """What `go_back` takes of a step: a copy, float32."""
        return to_image(step.x)
