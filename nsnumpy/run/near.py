"""Runs that begin with the picture of another one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .inputs import changed_alike
from .run import Run
from .scales import Scale


class NearRun(Run):
    """A run that begins with the picture of another one, in place of what `init` says.

    At each scale it begins with that picture and with what was changed in it at the scale before: so fine detail stays
    that need not change.

    Parameters
    ----------
    other : Run
        Of the same size and scales, and ended.
    *given, **options
        As for `Run`, but for checkpoint and resume, which do not know of the other run.
    """

    def __init__(self, other: Run, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        assert other._image is not None  # it has ended
        self._near = other._image

    def _started(self, scale: Scale) -> np.ndarray:
        enlarged = self.inputs.enlarged
        near = enlarged(self._near, self.inputs.shape(scale))
        if self._image is None:
            return near
        if self._image.shape == near.shape:
            return self._image.copy()
        return changed_alike(near, enlarged(self._near, self._image.shape[:2]), self._image, enlarged)
