"""Pictures one after the other in one file: an animated WebP."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .texts import comment
from .writing import atomic_path


def save_animation(
    path: str | os.PathLike[str], images: Sequence[np.ndarray], milliseconds: Sequence[int], settings: Mapping[str, Any]
) -> None:
    """Write images ``(H, W, 3)``, RGB, uint8, as a WebP that begins again at its end; all of it, or nothing.

    Parameters
    ----------
    path : path
    images : sequence of arrays of one shape
    milliseconds : sequence of int
        How long each is shown.
    settings : mapping
        JSON-serialisable; embedded as by `save_image`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    first, *others = (Image.fromarray(image) for image in images)
    with atomic_path(Path(path)) as temporary:
        first.save(
            temporary,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=list(milliseconds),
            loop=0,
            quality=90,
            method=4,
            kmax=1,  # each picture stands for itself: what is left of the one before would be seen as a flicker
            exif=comment(json.dumps(settings)),
        )
