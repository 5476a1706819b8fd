"""The pictures of a command: of the style one, several with their weights, or all those of a folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files.decode import HEIF_SUFFIXES, SUFFIXES, at_home
from ..files.images import opened
from ..run.inputs import Inputs, enough
from ..run.settings import USE_CASES, Settings
from .command import plural
from .options import above_zero

_PICTURES = (*SUFFIXES, *HEIF_SUFFIXES, ".avif", ".bmp", ".gif")


def add_styles(command: argparse.ArgumentParser) -> None:
    """STYLE, and the weights where there are several."""
    command.add_argument("style", metavar="STYLE", nargs="+", help="whose style to take: pictures, or a folder of them")
    command.add_argument(
        "--style-weights", metavar="W,W", type=_weights, help="share of each STYLE, where there are several (equal)"
    )


def _weights(text: str) -> list[float]:
    return [above_zero(part) for part in text.split(",")]


def named_pictures(arguments: argparse.Namespace) -> dict[str, list[tuple[str, float]]]:
    """What is named as "content" and as "style", each with its weight, which add up to 1.

    Raises
    ------
    ValueError
        If a folder has no pictures, or there are not as many weights as pictures.
    """
    named = {}
    for role in USE_CASES[arguments.use_case].pictures:
        given = getattr(arguments, role)
        paths = [given] if role == "content" else [path for style in given for path in _pictures(style)]
        shares = (arguments.style_weights if role == "style" else None) or [1.0] * len(paths)
        if len(shares) != len(paths):
            wrong = f"{plural(len(shares), 'number')} for {plural(len(paths), 'style picture')}"
            raise ValueError(f"--style-weights: {wrong}")
        named[role] = [(path, share / sum(shares)) for path, share in zip(paths, shares, strict=True)]
    return named


def open_pictures(arguments: argparse.Namespace, s: Settings) -> dict[str, Any]:
    """The same, decoded as far as the run has use for."""
    return {
        role: as_given([(opened(picture, enough(role, s)), weight) for picture, weight in pictures])
        for role, pictures in named_pictures(arguments).items()
    }


def at_their_sizes(inputs: Inputs) -> dict[str, Any]:
    """The pictures of a run, as `open_pictures` gives them."""
    content = [(given.source, given.weight) for given in inputs.each if given.name == "content"]
    style = [(given.source, given.weight) for given in inputs.each if given.name != "content"]
    return {role: as_given(pictures) for role, pictures in (("content", content), ("style", style)) if pictures}


def as_given(pictures: Sequence[tuple[Any, float]]) -> Any:
    """As a use case takes them: one alone without a weight."""
    return pictures if len(pictures) > 1 else pictures[0][0]


def _pictures(style: str) -> list[str]:
    return pictures_in(style) if at_home(style).is_dir() else [style]


def pictures_in(folder: str) -> list[str]:
    """The pictures of a folder, in the order of their names; hidden files and folders below it are left out.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = sorted(
        str(Path(folder, path.name))
        for path in at_home(folder).iterdir()
        if path.suffix.lower() in _PICTURES and not path.name.startswith(".") and not path.is_dir()
    )
    if not found:
        raise ValueError(f"{folder}: a folder without pictures")
    return found
