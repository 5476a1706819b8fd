"""Styles by region on the command line: which picture of the style has which colour of a map, or which grey mask."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from ..files.decode import at_home
from ..run.inputs import Inputs
from ..run.regions import Mask, read_map, read_mask, rgb
from ..run.scales import enough
from ..run.settings import Settings


class Named(NamedTuple):
    """A picture that a command names, its weight, and of a style its region: a colour, or the file of a mask."""

    path: str
    weight: float
    region: str | None = None


Masked = tuple[str, float, Mask | None, Mask | None]


def add_regions(more: argparse._ArgumentGroup) -> None:
    """The options that say where each style is; --outside is one of the settings."""
    more.add_argument("--regions", metavar="MAP", help="CONTENT's regions in flat colours, for styles COLOUR=PICTURE")
    more.add_argument("--style-regions", metavar="MAP", help="the same colours on STYLE: each part to its region")
    more.add_argument(
        "--mask", metavar="STYLE=FILE", action="append", help="grey picture, white where that STYLE is to be; repeat it"
    )


def map_files(arguments: argparse.Namespace) -> list[str]:
    """The files of maps that a command names."""
    return [path for name in ("regions", "style_regions") if (path := getattr(arguments, name, None))]


def with_region(arguments: argparse.Namespace, style: str) -> tuple[str, str | None]:
    """A STYLE as its picture, or folder, and its region.

    With --regions, what stands before the first "=" is the region if it is a colour; else all is the picture's name.
    """
    if getattr(arguments, "regions", None):
        colour, equals, path = style.partition("=")
        if equals and rgb(colour) is not None:
            if not path:
                raise ValueError(f"{style}: no picture is named")
            return path, colour
        if equals and not at_home(style).exists():
            raise ValueError(
                f"{style}: {colour} is no colour; COLOUR=PICTURE has a colour's name, or #rrggbb in quotes"
            )
    elif "=" in style and rgb(style.partition("=")[0]) and not at_home(style).exists():
        raise ValueError(f"{style}: COLOUR=PICTURE goes with --regions MAP")
    found = [mask for mask in getattr(arguments, "mask", None) or [] if _of_mask(mask, arguments.style) == style]
    if len(found) > 1:
        raise ValueError(f"--mask: {style} has {len(found)} masks; a style has one")
    return style, found[0].removeprefix(f"{style}=") if found else None


def _of_mask(mask: str, styles: Sequence[str]) -> str | None:
    """The one of the styles, whatever is in their names, that a STYLE=FILE begins with; None if there is no such."""
    found = [style for style in styles if mask.startswith(f"{style}=") and len(mask) > len(style) + 1]
    return max(found, key=len, default=None)


def check_regions(arguments: argparse.Namespace, styles: Sequence[str]) -> None:
    """ValueError if the options about regions do not go with each other, or with the styles."""
    regions, parts, masks = (getattr(arguments, name, None) for name in ("regions", "style_regions", "mask"))
    if regions and masks:
        raise ValueError("--mask and --regions both say where styles are: give one of them")
    if parts and not regions:
        raise ValueError("--style-regions: no --regions of the photograph to go with it")
    if regions and not parts and not any(with_region(arguments, style)[1] for style in styles):
        raise ValueError("--regions: no STYLE has one; write blue=painting.jpg, or '#0000ff=painting.jpg'")
    if parts and (len(styles) > 1 or with_region(arguments, styles[0])[1] or at_home(styles[0]).is_dir()):
        raise ValueError("--style-regions: the regions of one painting; give one STYLE, without a colour")
    for mask in masks or []:
        if _of_mask(mask, styles) is None:
            raise ValueError(f"--mask {mask}: STYLE=FILE expected, with one of the styles: {', '.join(styles)}")
    if getattr(arguments, "outside", "keep") != "keep" and not (regions or masks):
        raise ValueError("--outside is of --regions and --mask")


def masked(arguments: argparse.Namespace, styles: Sequence[Named], s: Settings) -> tuple[list[Masked], list[str]]:
    """The styles with their masks, read; and what is to be told of the map."""
    side = enough("content", s)
    if not getattr(arguments, "regions", None):
        files = dict.fromkeys(style.region for style in styles if style.region is not None)
        masks = {file: read_mask(file, side) for file in files}
        told = [_everywhere(path) for path, _, file in styles if files and file is None]
        return [(path, weight, None if file is None else masks[file], None) for path, weight, file in styles], told
    regions = read_map(arguments.regions, side)
    told = []
    of_styles: list[tuple[Named, int | None, Mask | None]]
    if arguments.style_regions:
        parts = read_map(arguments.style_regions, enough("style", s))
        found = [(regions.near(colour), number) for number, colour in enumerate(parts.colours)]
        told += [f"{parts.source}: {parts.name(number)} is not in {regions.source}" for n, number in found if n is None]
        of_styles = [(styles[0], n, parts.mask(number)) for n, number in found if n is not None]
        if not of_styles:
            raise ValueError(f"{parts.source}: none of the colours of {regions.source}: {regions.shares}")
    else:
        of_styles = [(style, None if style.region is None else regions.number(style.region), None) for style in styles]
    told += [_everywhere(style.path) for style, number, _ in of_styles if number is None]
    of_colours = {n: regions.mask(n, style.region) for style, n, _ in reversed(of_styles) if n is not None}
    there = "the photograph is kept there" if s.outside == "keep" else "the first style goes on there"
    told += [
        f"{regions.source}: {regions.told(n)} has no style: {there}" for n in regions.numbers if n not in of_colours
    ]
    return [(style.path, style.weight, None if n is None else of_colours[n], own) for style, n, own in of_styles], told


def _everywhere(style: str) -> str:
    return f"{style}: has no region, and is everywhere, beside the others"


def region_lines(inputs: Inputs, architecture: str, layers: Sequence[str]) -> list[str]:
    """Of each region: its share of the picture, and how deep in the network it is there."""
    if inputs.regions is None:
        return []
    *coarse, last = [
        (scale["result"], inputs.regions.reach(inputs.shape(scale), architecture, layers)) for scale in inputs.scales
    ]
    lines = []
    for name, (share, missing) in last[1].items():
        there = [layer for layer in layers if layer not in missing]
        line = (
            f"region {name}: {100 * share:.3g} % of the picture, {'down to ' + there[-1] if there else 'in no layer'}"
        )
        line += f"; too narrow for {', '.join(missing)}" if missing else ""
        for size, reached in coarse:
            if more := [layer for layer in reached[name][1] if layer not in missing]:
                line += f"; at {size} pixels for {', '.join(more)}, too"
        lines.append(line)
    return lines
