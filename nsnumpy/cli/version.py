"""What `nsnumpy --version` says: what one needs to know of a machine to understand a report about a fault."""

from __future__ import annotations

import argparse
import platform
from typing import Any, NoReturn

from .._version import __version__
from .command import one_line, tell

_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
_PACKAGES = ("numpy", "scipy", "pillow", "h5py", "tqdm", "threadpoolctl", "platformdirs", "matplotlib")


class Version(argparse.Action):
    """Prints `version_text`, and ends the program; ``--device gpu`` may follow."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        text = "versions, processor and folders, and exit; with --device gpu after it, the card, too"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=argparse.REMAINDER, help=text)

    def __call__(self, parser: argparse.ArgumentParser, _: Any, following: Any, *__: Any) -> NoReturn:
        from ..backend import DEVICES  # here, as below: a parser needs little, and help is to be there at once

        device = " ".join(following).replace("=", " ").removeprefix("--device ") or "cpu"
        if device not in DEVICES:
            parser.error(f"--version goes with nothing but --device {' or '.join(DEVICES)}: {' '.join(following)}")
        tell(version_text(device))
        parser.exit()


def version_text(device: str = "cpu") -> str:
    """A line for each thing; what is not there, or broken, has a word for it. The GPU is asked if it is the device:
    that loads CuPy, and may compile a kernel."""
    from threadpoolctl import threadpool_info

    from ..files.weight_sources import cache_folder
    from ..machine import usable_cores

    blas = {f"{each.get('internal_api')} {each.get('version')} {each.get('architecture') or ''}".strip()
            for each in threadpool_info() if each.get("user_api") == "blas"}  # fmt: skip
    rows = {
        "nsnumpy": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "BLAS": ", ".join(sorted(blas)) or "none that is known",
        "cores": str(usable_cores()),
        "GPU": _gpu() if device == "gpu" else _cupy(),
        "weights": str(cache_folder()),
    }
    return "\n".join(f"{name:9}{value}" for name, value in rows.items())


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _cupy() -> str:
    """Whether CuPy is installed, which is told without loading it."""
    found = [f"{name} {version}" for name in _CUPY if (version := _version(name)) != "missing"]
    return f"{found[0]}: --version --device gpu tells what it sees" if found else "none (CuPy is missing)"


def _gpu() -> str:
    from ..backend import DeviceError, device_namespace, device_text

    try:
        return device_text(device_namespace("gpu"))
    except DeviceError as error:
        return f"none ({one_line(error)})"
    except Exception as error:  # whatever a broken CuPy raises
        return f"none ({type(error).__name__}: {one_line(error)})"
