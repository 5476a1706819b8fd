"""The command line's options for `Settings`, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from ..architecture import ARCHITECTURES, POOLINGS, canonical_layer, layer_names
from ..backend import DEVICES, check_tf32
from ..files.weight_sources import BUILTIN, BUILTIN_NAMES
from ..optimize import canonical_optimizer
from ..run.inputs import start_picture
from ..run.settings import BY_CONVENTION, CHOICES, INITS, USE_CASES, Settings, setting_names, settings_of

MOST_STEPS = 1000  # of a blend
_FIRST = (
    "size", "beta", "tv", "scales", "style_size", "iterations", "init", "colors", "content_layers", "style_layers",
)  # fmt: skip
"""The settings that one turns first; the others stand below them."""


def natural(text: str) -> int:
    return _integer(text, 0)


def positive(text: str) -> int:
    return _integer(text, 1)


def steps(text: str) -> int:
    """Of a blend."""
    if not (text.isdecimal() and 2 <= int(text) <= MOST_STEPS):
        raise argparse.ArgumentTypeError(f"a whole number from 2 to {MOST_STEPS} expected; {text!r} given")
    return int(text)


def size(text: str) -> int | tuple[int, int] | None:
    """As `sides`; None for a picture's own."""
    return None if text == "own" else sides(text)


def sides(text: str) -> int | tuple[int, int]:
    """ "512", a long side, as 512, and "640x480" as (480, 640)."""
    width, cross, height = text.partition("x")
    try:
        return (positive(height), positive(width)) if cross else positive(width)
    except argparse.ArgumentTypeError as error:
        wanted = "PIXELS or WxH, whole numbers, 1 or more, expected"
        raise argparse.ArgumentTypeError(f"{wanted}; {text!r} given") from error


def _seamless(text: str) -> str:
    if text not in CHOICES["seamless"]:
        expected = f"{', '.join(CHOICES['seamless'])} expected; {text!r} given"
        raise argparse.ArgumentTypeError(f"{expected} (for both, put --seamless last)")
    return text


def tiles(text: str) -> tuple[int, int]:
    """ "3x2" as (3, 2), across and down."""
    across, _, down = text.partition("x")
    if not (across.isdecimal() and down.isdecimal() and 1 <= int(across) <= 16 and 1 <= int(down) <= 16):
        raise argparse.ArgumentTypeError(f"NxM, across and down, from 1 to 16, expected; {text!r} given")
    return int(across), int(down)


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"a whole number, {least} or more, expected; {text!r} given")
    return value


def _naturals(text: str) -> int | list[int]:
    """One number, or several with commas."""
    numbers = several(natural)(text)
    return numbers if len(numbers) > 1 else numbers[0]


def several(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """The type of a list, with commas, of what `kind` is the type of."""
    return lambda text: [kind(part) for part in text.split(",")]


def non_negative(text: str) -> float:
    """A finite number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number, 0 or more, expected; {text!r} given")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0."""
    if not (value := non_negative(text)):
        raise argparse.ArgumentTypeError(f"a number above 0 expected; {text!r} given")
    return value


def layer(text: str) -> str:
    name = canonical_layer(text)
    known = {name: None for architecture in ARCHITECTURES for name in layer_names(architecture)}
    if name not in known:
        raise argparse.ArgumentTypeError(f"unknown layer {text!r}; choose from {', '.join(known)}")
    return name


def layers(text: str) -> dict[str, float | None]:
    """ "conv1_1:0.2,conv2_1" as {"conv1_1": 0.2, "conv2_1": None}."""
    weights = {}
    for part in text.split(","):
        name, colon, weight = part.partition(":")
        if (known := layer(name.strip())) in weights:
            raise argparse.ArgumentTypeError(f"each layer once expected; {known} is named twice")
        weights[known] = non_negative(weight) if colon else None
    return weights


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "size": {"type": size, "metavar": "PIXELS"},
    "style_size": {"type": positive, "metavar": "PIXELS"},
    "scales": {"type": several(positive), "metavar": "PIXELS,..."},
    "iterations": {"type": _naturals, "metavar": "N"},
    "until": {"type": above_zero, "metavar": "CHANGE"},
    "convention": {"choices": CHOICES["convention"], "metavar": "NAME"},
    "optimizer": {"type": canonical_optimizer, "choices": CHOICES["optimizer"], "metavar": "NAME"},
    "bounds": {"choices": CHOICES["bounds"]},
    "border": {"choices": CHOICES["border"], "metavar": "NAME"},
    "seamless": {"type": _seamless, "metavar": "x|y|both", "nargs": "?", "const": "both"},
    "style_statistics": {"choices": CHOICES["style_statistics"], "metavar": "S"},
    "colors": {"choices": CHOICES["colors"], "metavar": "NAME"},
    "color_match": {"choices": CHOICES["color_match"], "metavar": "NAME"},
    "outside": {"choices": CHOICES["outside"], "metavar": "NAME"},
    "lr": {"type": above_zero, "metavar": "STEP"},
    "momentum": {"type": non_negative, "metavar": "GAMMA"},
    "init": {"metavar": "START"},
    "seed": {"type": natural, "metavar": "N"},
    "alpha": {"type": non_negative, "metavar": "WEIGHT"},
    "beta": {"type": non_negative, "metavar": "WEIGHT"},
    "tv": {"type": non_negative, "metavar": "WEIGHT"},
    "content_layers": {"type": layers, "metavar": "L,L"},
    "style_layers": {"type": layers, "metavar": "L,L"},
}


def _shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{default:g}".replace("e+0", "e")
    return ",".join(default) if isinstance(default, tuple) else str(default)


def add_settings(
    command: argparse.ArgumentParser,
    name: str,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> argparse._ArgumentGroup:
    """The options that decide what is computed; `without` some settings, or with other `defaults` for some.

    Returns the group of those that are seldom turned.
    """
    more = command.add_argument_group("more options")
    shown_defaults = replace(USE_CASES[name].defaults, **defaults or {})
    for setting in fields(Settings):
        if name in setting.metadata["only"] and setting.name not in without:
            default = getattr(shown_defaults, setting.name)
            shown = "" if default is None else f" ({_shown(default)})"
            if default is None and setting.name in BY_CONVENTION[USE_CASES[name].defaults.convention][name]:
                values = {c: _shown(BY_CONVENTION[c][name][setting.name]) for c in ("relative", "paper")}
                alike = len(set(values.values())) == 1
                named = "; ".join(f"{convention}: {value}" for convention, value in values.items())
                shown = f" ({values['relative'] if alike else named})"
            (command if setting.name in _FIRST else more).add_argument(
                f"--{setting.name.replace('_', '-')}",
                default=default,
                help=setting.metadata["help"] + shown,
                **_ARGUMENTS[setting.name],
            )
    add_weights(command, more)
    more.add_argument(
        "--dtype",
        metavar="NAME",
        choices=("float32", "float64"),
        default="float32",
        help="float32 or float64 (float32)",
    )
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to run; gpu needs CuPy (cpu)")
    more.add_argument("--tf32", action="store_true", help="gpu: faster products of float32, factors of 11 bits")
    more.add_argument("--threads", metavar="N", type=positive, help="threads of the CPU (all usable cores)")
    return more


def add_weights(command: Any, more: Any) -> None:
    """The options that name a network."""
    command.add_argument(
        "--weights",
        metavar="FILE",
        default=BUILTIN,
        help=f"weight file, or the name of a fetched one, or {BUILTIN_NAMES} ({BUILTIN})",
    )
    more.add_argument("--pooling", choices=POOLINGS, default="avg", help="avg, as the paper, or max, as VGG (avg)")


def network_in(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a command says of its network, beside the weights, as `load_vgg` takes it."""
    return {name: getattr(arguments, name) for name in ("pooling", "device", "dtype", "threads", "tf32")}


def add_means(more: argparse._ArgumentGroup) -> None:
    """The options that decide how a run is computed, in which memory."""
    more.add_argument(
        "--tile",
        metavar="N",
        type=_tile,
        default="auto",
        help="in tiles of N pixels: less memory; or off (auto: where it does not fit)",
    )
    more.add_argument(
        "--memory-pairs",
        metavar="N",
        type=positive,
        help="steps that L-BFGS remembers (8; scipy 10; fewer where they do not fit)",
    )
    more.add_argument("--scratch", metavar="DIR", help="folder to hold these in, on disk, for want of memory")


def means_in(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a command says of those."""
    return {name: getattr(arguments, name) for name in ("tile", "memory_pairs", "scratch")}


def _tile(text: str) -> str | int:
    if text in ("auto", "off"):
        return text
    if not (text.isdecimal() and int(text) >= 16):
        raise argparse.ArgumentTypeError(f"auto, off or a number of pixels, 16 or more, expected; {text!r} given")
    return int(text)


def settings_in(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a command says of its use case's settings."""
    return {name: getattr(arguments, name) for name in setting_names(arguments.use_case)}


_GOES_WITH = (
    ("lr", "optimizer", ("sgd", "adam")),
    ("momentum", "optimizer", ("sgd",)),
    ("color_match", "colors", ("photo",)),
)


def check_settings(arguments: argparse.Namespace) -> None:
    """ValueError if a setting cannot be, or does nothing."""
    check_tf32(arguments.tf32, arguments.device, arguments.dtype)
    name = arguments.use_case
    defaults, s = USE_CASES[name].defaults, settings_of(name, **settings_in(arguments)).completed(name)
    if s.init in INITS:
        start_picture(s, USE_CASES[name].pictures)  # raises if there is none
    for option, chosen, values in _GOES_WITH:
        if getattr(s, chosen) not in values and getattr(s, option) != getattr(defaults, option):
            goes_with = f"--{option.replace('_', '-')} is of --{chosen} {' and '.join(values)}"
            raise ValueError(f"{goes_with}; {getattr(s, chosen)} has none")
