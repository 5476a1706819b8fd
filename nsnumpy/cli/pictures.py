"""The pictures of a command: of the style one, several with their weights, or all those of a folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files.decode import HEIF_SUFFIXES, SUFFIXES, at_home, is_stream
from ..files.images import Source, opened
from ..run.inputs import Inputs, as_given, shares_of
from ..run.scales import enough
from ..run.settings import USE_CASES, Settings
from .command import plural
from .options import above_zero, several
from .regions import Masked, Named, check_regions, map_files, masked, with_region

_PICTURES = (*SUFFIXES, *HEIF_SUFFIXES, ".avif", ".bmp", ".gif")


def add_styles(command: argparse.ArgumentParser) -> None:
    """STYLE, and the weights where there are several."""
    command.add_argument("style", metavar="STYLE", nargs="+", help="whose style to take: pictures, or a folder of them")
    command.add_argument(
        "--style-weights",
        metavar="W,W",
        type=several(above_zero),
        help="share of each STYLE, where there are several (equal)",
    )


def named_pictures(arguments: argparse.Namespace) -> dict[str, list[Named]]:
    """What is named as "content" and as "style", each with its weight; those of a region, or of none, add up to 1.

    Raises
    ------
    ValueError
        If a folder has no pictures, there are not as many weights as pictures, or regions do not go with the styles.
    """
    named = {}
    for role in USE_CASES[arguments.use_case].pictures:
        if role == "content":
            named[role] = [Named(arguments.content, 1.0)]
            continue
        check_regions(arguments, arguments.style)
        styles = [with_region(arguments, style) for style in arguments.style]
        each = [(path, region) for style, region in styles for path in _pictures(style)]
        shares = arguments.style_weights or [1.0] * len(each)
        if len(shares) != len(each):
            wrong = f"{plural(len(shares), 'number')} for {plural(len(each), 'style picture')}"
            raise ValueError(f"--style-weights: {wrong}")
        shares = shares_of([(share, region) for (_, region), share in zip(each, shares, strict=True)])
        named[role] = [Named(path, share, region) for (path, region), share in zip(each, shares, strict=True)]
    return named


def open_pictures(
    arguments: argparse.Namespace, s: Settings, opening: Callable[[str, float | None], Any] = opened
) -> tuple[dict[str, Any], list[str]]:
    """The same, decoded as far as the run has use for, with the regions' masks; and what is to be told of these."""
    pictures: dict[str, Any] = {}
    told: list[str] = []
    roles = named_pictures(arguments)
    asked: list[Any] = [path for named in roles.values() for path in {one.path for one in named}]
    asked += [s.init, *map_files(arguments), *{one.region for one in roles.get("style", ())}]
    if sum(str(name) == "-" for name in asked) > 1:
        raise ValueError("-: standard input can be read once, and is named twice; name a file for one of them")
    for role, named in roles.items():
        each: list[Masked] = [(*one[:2], None, None) for one in named]
        if role == "style":
            each, told = masked(arguments, named, s)
        read = {path: opening(path, enough(role, s)) for path in dict.fromkeys(path for path, *_ in each)}
        pictures[role] = as_given([(read[path], *rest) for path, *rest in each])
    return pictures, told


def read_once(picture: str, enough: float | None = None) -> str | Source:
    """A picture to be read twice, for a plan and for what is planned, say: its name; or what came through a pipe."""
    return opened(picture, enough) if is_stream(picture) else picture


def at_their_sizes(inputs: Inputs) -> dict[str, Any]:
    """The pictures of a run, as `open_pictures` gives them."""
    roles = {"content": [given for given in inputs.each if given.name == "content"], "style": inputs.styles}
    return {
        role: as_given([(given.source, given.weight, given.mask, given.own) for given in each])
        for role, each in roles.items()
        if each
    }


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
