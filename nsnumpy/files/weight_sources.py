"""Where weight files are: by their path, by the name of a fetched one, or in the package."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

from platformdirs import user_cache_path

BUILTIN, BUILTIN_LARGE, BUILTIN_RANDOM = "builtin", "builtin-large", "builtin-random"
BUNDLED = (BUILTIN, BUILTIN_LARGE)  # weight files in the package; the random one is made from a seed
BUILTINS = (*BUNDLED, BUILTIN_RANDOM)
BUILTIN_NAMES = f"{', '.join(BUNDLED)} or {BUILTIN_RANDOM}"
DATA = Path(str(resources.files("nsnumpy") / "data"))


class WeightFileError(ValueError):
    """A weight file that cannot be used; the message names the file, the layer and what is wrong."""


def cache_folder() -> Path:
    """The user's folder for fetched weight files; it need not exist yet."""
    return user_cache_path("nsnumpy", appauthor=False) / "weights"


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The path of a weight file: `source` itself, or, if that is a bare name, what is bundled or was fetched as it.

    Raises
    ------
    WeightFileError
        If there is none.
    """
    path = Path(source)
    if os.fspath(source) in BUNDLED:
        bundled = DATA / f"{source}.h5"
        if not bundled.is_file():
            raise WeightFileError(f"{source}: {bundled} is missing from this installation; install nsnumpy again")
        return bundled
    if path.is_file():
        return path
    if re.fullmatch(r"[\w-]+", os.fspath(source)):
        fetched = cache_folder() / f"{source}.h5"
        if fetched.is_file():
            return fetched
        raise WeightFileError(
            f"{source}: no such weight file; `python -m weights_tools fetch {source}` fetches it if it is a published "
            f"one, and {BUILTIN_NAMES} needs none"
        )
    if path.is_dir():
        raise WeightFileError(f"{path}: a folder; name the weight file in it")
    raise WeightFileError(f"{path}: no such weight file; {BUILTIN_NAMES} needs none")
