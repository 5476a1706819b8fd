"""The bundled pictures: their names, to be had without loading what reads a picture, and their files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SAMPLE_PREFIX = "sample:"
SAMPLES = Path(str(resources.files("nsnumpy") / "data" / "samples"))


def sample_names() -> list[str]:
    """The names of the bundled pictures, each to be given as "sample:NAME"."""
    return sorted(path.stem for path in SAMPLES.glob("*.jpg"))
