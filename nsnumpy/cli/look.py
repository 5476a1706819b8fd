"""The command that shows a network's layers, and what one of them knows of a picture."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from typing import Any

from ..files.images import check_output
from ..files.weight_sources import BUILTINS
from ..files.weights import load_vgg, read_network
from ..files.writing import check_distinct
from ..run.settings import CHOICES, USE_CASES
from ..study.features import MOST, ORDERS, LayerSheet, feature_sheet, gram_sheet
from ..study.layers import layer_table
from .command import PROG, add_command, checking, tell
from .options import add_weights, layer, positive, size
from .standard import STANDARD, picture_stream, shown, write_picture

_OF_A_PICTURE = ("layer", "output", "gram", "filters", "order", "border")
_BORDER = USE_CASES["transfer"].defaults.completed("transfer").borders()[0][0]  # so that it shows what a run sees


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """look."""
    command = add_command(
        commands,
        "look",
        told["look"],
        "nsnumpy look",
        "nsnumpy look --weights vgg19 --size 640x480",
        "nsnumpy look sample:coast --layer conv3_1 -o features.png",
        "nsnumpy look sample:coast --layer conv3_1 --gram -o gram.png",
        description="Without PHOTO, a table of the network's layers: positions and filters, the square of pixels\n"
        "that one position sees, the pixels from one to the next, parameters. With it, one layer's features\n"
        "of PHOTO, a tile for each filter, or their Gram matrix.",
        usage="%(prog)s [PHOTO --layer NAME -o OUT] [options]",
    )
    command.add_argument("photo", metavar="PHOTO", nargs="?", help="the picture to look at")
    command.add_argument("--layer", metavar="NAME", type=layer, help="the layer to look at it with")
    command.add_argument("-o", "--output", metavar="OUT", help="the sheet: png, jpg, webp or tif")
    command.add_argument("--gram", action="store_true", default=None, help="show the layer's Gram matrix, per position")
    command.add_argument(
        "--filters", metavar="N", type=positive, help=f"how many filters to show, those with most energy ({MOST})"
    )
    command.add_argument(
        "--order",
        choices=tuple(ORDERS),
        help="of the filters: most energy, the mean square, first; or by number (energy)",
    )
    command.add_argument(
        "--size",
        metavar="PIXELS|WxH",
        type=size,
        default=512,
        help="PHOTO's long side, or own; without PHOTO the picture's sides (512)",
    )
    add_weights(command, command)
    command.add_argument(
        "--border",
        metavar="NAME",
        choices=CHOICES["border"],
        help=f"what it sees beyond PHOTO's border: {', '.join(CHOICES['border'])} ({_BORDER}, as a transfer)",
    )
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.photo is None:
        return _layers(arguments)
    with contextlib.ExitStack() as held:
        with checking():
            if arguments.layer is None or arguments.output is None:
                raise ValueError(f"PHOTO goes with --layer and -o; `{PROG} look` lists the layers")
            if isinstance(arguments.size, tuple):
                raise ValueError("with PHOTO --size is the long side alone; its proportions give the other")
            if arguments.gram and arguments.filters:
                raise ValueError("--filters goes without --gram, which is of all filters")
            if arguments.output != STANDARD:
                read = [path for path in (arguments.photo, arguments.weights) if path not in BUILTINS]
                check_distinct([check_output(arguments.output)], read)
            stream = held.enter_context(picture_stream(arguments.output))
            vgg = load_vgg(arguments.weights, pooling=arguments.pooling, border=arguments.border or _BORDER)
            order = arguments.order or "energy"
            given: dict[str, Any] = {"vgg": vgg, "size": arguments.size, "order": order}
            if arguments.gram:
                sheet = gram_sheet(arguments.photo, arguments.layer, **given)
            else:
                sheet = feature_sheet(arguments.photo, arguments.layer, most=arguments.filters or MOST, **given)
        write_picture(arguments.output, stream, sheet.image / 255)
        tell(f"{shown(arguments.output)}: {_gram_told(sheet, order) if arguments.gram else _features_told(sheet)}")
    return 0


def _features_told(sheet: LayerSheet) -> str:
    """What is shown, and its values."""
    height, width = sheet.positions
    shown, every = len(sheet.filters), len(sheet.energies)
    share = 100 * sheet.energies[sheet.filters].sum() / (sheet.energies.sum() or 1.0)
    strongest = f"the {shown} of {every} filters with most energy, {share:.0f} % of it"
    which = f"all {every} filters" if shown == every else strongest
    low, high = sheet.limits
    return (
        f"{sheet.layer}, {width} x {height} positions; {which}; values from {low:.4g} to "
        f"{high:.4g}; each tile is black at 0, and white at the greatest value of its filter\n"
        f"filters: {', '.join(map(str, sheet.filters))}"
    )


def _gram_told(sheet: LayerSheet, order: str) -> str:
    height, width = sheet.positions
    low, high = sheet.limits
    return (
        f"Gram matrix of {sheet.layer} / {width * height} positions; {len(sheet.filters)} filters down and across"
        f"{ORDERS[order]}; elements from {low:.4g} to {high:.4g}; the scale is logarithmic, its first colour "
        f"{high / 1e4:.4g} and below"
    )


def _layers(arguments: argparse.Namespace) -> int:
    """Print the table."""
    with checking():
        for name in _OF_A_PICTURE:
            if getattr(arguments, name) is not None:
                raise ValueError(f"{'-o' if name == 'output' else f'--{name}'} goes with a picture: name PHOTO, too")
        if arguments.size is None:
            raise ValueError("--size own is that of PHOTO; without it, name the pixels")
        network = read_network(arguments.weights, arguments.pooling)
    side = arguments.size
    height, width = side if isinstance(side, tuple) else (side, side)
    table = layer_table(network, (height, width))
    rows = [("layer", "positions", "filters", "sees", "stride", "parameters")]
    for row in table:
        h, w, filters = row.shape
        positions = f"{w} x {h}" if h and w else "none"
        sees = f"{row.receptive_field} x {row.receptive_field}"
        rows.append((row.name, positions, str(filters), sees, str(row.stride), f"{row.parameters:,}"))
    rows.append(("total", "", "", "", "", f"{sum(row.parameters for row in table):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"{arguments.weights}: {network.architecture}, {arguments.pooling} pooling, at {width} x {height} pixels\n")
    for first, *rest in rows:
        print("  ".join([f"{first:{widths[0]}}", *(f"{cell:>{n}}" for cell, n in zip(rest, widths[1:], strict=True))]))
    print("\nsees: pixels that one position looks at; stride: pixels from one position to the next.")
    return 0
