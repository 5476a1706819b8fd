"""The commands for who studies the mathematics, and compares conventions."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from ..architecture import POOLINGS, Network, canonical_layer, layer_shape
from ..backend import DEVICES
from ..conventions import CONVENTIONS
from ..files.images import load_image
from ..files.weight_sources import BUILTIN
from ..files.weights import load_vgg, read_network
from ..gradcheck import KinkError
from ..objective import CONTENT_LAYERS, STYLE_LAYERS, term_parts
from ..run.settings import BY_CONVENTION, CHOICES
from ..study.carry import carry_weights, convention_factors
from ..study.prove import run_checks
from ..vgg import VGG
from .command import add_command, say
from .options import layers, natural, non_negative, positive, sides

_WEIGHTS = ("alpha", "beta", "tv")


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """gradcheck and conventions."""
    command = add_command(
        commands,
        "gradcheck",
        told["gradcheck"],
        "nsnumpy gradcheck --seed 3",
        description="One row per op and loss, and for the whole map from pixels to loss; exit status 1 if one fails.",
    )
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to run (cpu)")
    command.add_argument("--seed", type=natural, default=0, help="of the random inputs (0)")
    command.set_defaults(run=_run_gradcheck)

    command = add_command(
        commands,
        "conventions",
        told["conventions"],
        "nsnumpy conventions --size 640x480",
        "nsnumpy conventions photo.jpg painting.jpg --from jcjohnson --to relative --beta 200",
        description="A table of each convention's factors of the paper's losses, for a network and a size; or, with "
        "--from and --to,\nthe options that give with one convention the loss that the weights give with the other.",
    )
    command.add_argument("content", metavar="CONTENT", nargs="?", help="the picture to paint; relative needs it")
    command.add_argument("style", metavar="STYLE", nargs="?", help="the picture whose style to take")
    command.add_argument(
        "--size", metavar="PIXELS|WxH", type=sides, help="the image: its long side, or without pictures WxH (512)"
    )
    command.add_argument("--style-size", metavar="PIXELS", type=positive, help="long side of the style (as --size)")
    command.add_argument("--weights", metavar="FILE", default=BUILTIN, help=f"the network, as for transfer ({BUILTIN})")
    command.add_argument("--pooling", choices=POOLINGS, default="avg", help="the network's, which relative sees (avg)")
    for name in ("content", "style"):
        command.add_argument(
            f"--{name}-layers",
            metavar="LAYERS",
            type=layers,
            help="NAME[:WEIGHT],... (those of --from, or the paper's)",
        )
    statistics = CHOICES["style_statistics"]
    command.add_argument(
        "--style-statistics", metavar="S", choices=statistics, default="gram", help=f"{', '.join(statistics)} (gram)"
    )
    known: dict[str, Any] = {"metavar": "NAME", "choices": tuple(CONVENTIONS)}
    command.add_argument("--from", dest="source", **known, help=f"whose the weights are: {', '.join(CONVENTIONS)}")
    command.add_argument("--to", dest="target", **known, help="the convention that is to have them")
    for name in _WEIGHTS:
        command.add_argument(f"--{name}", metavar="WEIGHT", type=non_negative, help="the weight (that of --from)")
    command.set_defaults(run=_run_conventions)


def _run_gradcheck(arguments: argparse.Namespace) -> int:
    failures = 0
    try:
        for number, check in enumerate(run_checks(arguments.device, arguments.seed)):
            if number == 0:
                print(f"{'':46}{'method':22}{'error':>9}  {'allowed':>7}")
            verdict = "ok" if check.passed else "FAILED"
            failures += not check.passed
            print(f"{check.name:46}{check.method:22}{check.error:9.1e}  {check.tolerance:7.0e}  {verdict}", flush=True)
    except KinkError as error:
        say(f"error: {error} (that is, another --seed)")
        return 1
    if failures:
        say(f"error: {failures} of the gradients are wrong")
    return int(failures > 0)


def _run_conventions(arguments: argparse.Namespace) -> int:
    if problem := _problem(arguments):
        say(f"error: {problem}")
        return 2
    source, target = arguments.source, arguments.target
    defaults = BY_CONVENTION[source]["transfer"] if source else {}
    layers_of = {
        "content_layers": arguments.content_layers or defaults.get("content_layers", CONTENT_LAYERS),
        "style_layers": arguments.style_layers or defaults.get("style_layers", STYLE_LAYERS),
    }
    chosen: dict[str, Any] = layers_of | {"style_statistics": arguments.style_statistics}
    size = arguments.size or 512
    network: VGG | Network
    pictures: dict[str, Any] = {}
    if arguments.content:
        content = load_image(arguments.content, size)
        style = load_image(arguments.style, arguments.style_size or size)
        network = load_vgg(arguments.weights, pooling=arguments.pooling)
        pictures = {"content": content, "style": style}
        height, width = content.shape[:2]
    else:
        network = read_network(arguments.weights, arguments.pooling)
        height, width = size if isinstance(size, tuple) else (size, size)
    if source:
        weights = {name: getattr(arguments, name) for name in _WEIGHTS}
        weights = {name: defaults[name] if weight is None else weight for name, weight in weights.items()}
        carried = carry_weights(source, target, network, (height, width), **weights, **chosen, **pictures)
        own = [f"--{name} {defaults[name]:g}" for name in _WEIGHTS if getattr(arguments, name) is None]
        took = f"; {', '.join(own)} as {source} has it, for VGG-19 as published" if own else ""
        say(f"note: for {arguments.weights} at {width} x {height}; {_filters(network, layers_of)}{took}")
        print(_options(arguments, carried, max(height, width)))
        return 0
    shown = [name for name, convention in CONVENTIONS.items() if pictures or not convention.of_pictures]
    factors = convention_factors(shown, network, (height, width), **chosen, **pictures)
    print(f"{arguments.weights} at {width} x {height}; {_filters(network, layers_of)}\n")
    _print_factors(factors)
    print("\nEach number times alpha, beta or tv is what the paper's loss of that layer is multiplied with: so")
    print("weight_to = weight_from x number_from / number_to. The weight w_l of the layer is in it.")
    return 0


def _problem(arguments: argparse.Namespace) -> str:
    """What is wrong with a command, or nothing."""
    source, target = arguments.source, arguments.target
    if (source is None) != (target is None):
        return "--from and --to go together"
    if not source and (given := [name for name in _WEIGHTS if getattr(arguments, name) is not None]):
        return f"--{given[0]} goes with --from and --to"
    if arguments.content:
        if not arguments.style:
            return "two pictures expected, CONTENT and STYLE, or none"
        if isinstance(arguments.size, tuple):
            return "with pictures --size is the long side alone; their proportions give the other"
    else:
        needs = [name for name in (source, target) if name and CONVENTIONS[name].of_pictures]
        if needs:
            return f"{needs[0]} depends on the pictures' features: give CONTENT and STYLE"
        if arguments.style_size:
            return "--style-size goes with pictures"
    return ""


def _filters(network: VGG | Network, chosen: Mapping[str, Any]) -> str:
    """The numbers of filters, by which a network is known."""
    names = dict.fromkeys(canonical_layer(name) for given in chosen.values() for name in given)
    each = (f"{name} {layer_shape(network.architecture, network.filters, name, (1, 1))[2]}" for name in names)
    return f"filters: {', '.join(each)}"


def _print_factors(factors: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each convention, a column for each term, with a heading of two lines."""
    terms = list(next(iter(factors.values())))
    rows = [["", *heading] for heading in zip(*(term_parts(term)[:2] for term in terms), strict=True)]
    rows += [[name, *(f"{values[term]:.9g}" for term in terms)] for name, values in factors.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([f"{row[0]:{widths[0]}}", *cells]).rstrip())


def _options(arguments: argparse.Namespace, carried: Mapping[str, Any], size: int) -> str:
    """The weights, and what they depend on, as the options of `nsnumpy transfer`."""
    options = ["--convention", carried["convention"], "--size", str(size)]
    if carried["convention"] == "relative":  # as the others, of which none has more than that
        options += ["--scales", str(size), "--border", "zero"]
    options += ["--style-size", str(arguments.style_size)] if arguments.style_size else []
    statistics = arguments.style_statistics
    options += ["--style-statistics", statistics] if statistics != "gram" else []
    options += ["--weights", arguments.weights] if arguments.weights != BUILTIN else []
    options += ["--pooling", arguments.pooling] if arguments.pooling != "avg" else []
    for name in _WEIGHTS:
        options += [f"--{name}", f"{carried[name]:.9g}"]
    for name in ("content_layers", "style_layers"):
        weights = ",".join(f"{layer}:{w:.9g}" for layer, w in carried[name].items())
        options += [f"--{name.replace('_', '-')}", weights]
    return shlex.join(options)
