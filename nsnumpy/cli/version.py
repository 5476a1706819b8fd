"""What `nsnumpy --version` says: what one needs to know of a machine to understand a report about a fault."""

from __future__ import annotations

import argparse
import platform
from typing import Any, NoReturn

from .._version import __version__
from .command import one_line, tell

_PACKAGES = ("numpy", "scipy", "pillow", "h5py", "tqdm", "threadpoolctl", "platformdirs", "matplotlib")


class Version(argparse.Action):
    """Prints `version_text`, and ends the program."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="versions, processor and folders, and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        tell(version_text())
        parser.exit()


def version_text() -> str:
    """A line for each thing; what is not there, or broken, has a word for it."""
    from threadpoolctl import threadpool_info  # here: a parser needs only the above, and help is to be there at once

    from ..backend import DeviceError, device_namespace, device_text
    from ..files.weight_sources import cache_folder
    from ..machine import usable_cores

    def gpu() -> str:
        try:
            return device_text(device_namespace("gpu"))
        except DeviceError as error:
            return f"none ({one_line(error)})"
        except Exception as error:  # whatever a broken CuPy raises
            return f"none ({type(error).__name__}: {one_line(error)})"

    blas = {f"{each.get('internal_api')} {each.get('version')} {each.get('architecture') or ''}".strip()
            for each in threadpool_info() if each.get("user_api") == "blas"}  # fmt: skip
    rows = {
        "nsnumpy": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "BLAS": ", ".join(sorted(blas)) or "none that is known",
        "cores": str(usable_cores()),
        "GPU": gpu(),
        "weights": str(cache_folder()),
    }
    return "\n".join(f"{name:9}{value}" for name, value in rows.items())


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
