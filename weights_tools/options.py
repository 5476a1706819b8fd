"""The options that several commands of weights_tools have, and the types of their values."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from nsnumpy.files.weights import DTYPES

from .convert import Overrides

MOST_PIXELS = 2048  # of a picture's long side: 1.5 GB of features in the first layer of a full-width VGG
SUFFIXES = (".h5", ".hdf5")


def add_output(command: argparse.ArgumentParser) -> None:
    """-o, and how to store what is written."""
    command.add_argument("-o", "--output", metavar="OUT", type=weight_file, required=True, help="the weight file, .h5")
    command.add_argument("--dtype", choices=DTYPES, help="how to store the weights (what holds them exactly)")


def add_overrides(command: argparse.ArgumentParser) -> None:
    """What `overrides` gathers."""
    group = command.add_argument_group("what the file does not say, or says wrongly")
    order = group.add_mutually_exclusive_group()
    order.add_argument("--bgr", dest="order", action="store_const", const="BGR", help="the network expects BGR")
    order.add_argument("--rgb", dest="order", action="store_const", const="RGB", help="the network expects RGB")
    group.add_argument(
        "--scale", type=_positive, metavar="S", help="of its pixels: 1 or 255; std is 1 then, without --std"
    )
    group.add_argument("--mean", type=_three, metavar="M,M,M", help="subtracted; in the network's order and scale")
    group.add_argument("--std", type=_three_positive, metavar="S,S,S", help="divided by; in the same order and scale")
    group.add_argument("--axes", type=_axes, metavar="AXES", help="of its weights: OIHW, HWIO, ...")
    group.add_argument("--rotated", action="store_const", const=True, help="its kernels are turned by 180 degrees")


def weight_file(text: str) -> Path:
    """Where a weight file can be written: under a name by which it will not be taken for something else."""
    if Path(text).suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"what is written is HDF5: a name in {' or '.join(SUFFIXES)} expected; {text!r} given"
        )
    return Path(text)


def size(text: str) -> int:
    """Of a picture, in pixels."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"1 to {MOST_PIXELS} pixels expected; {text!r} given")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a number expected; {text!r} given")
    return value


def _positive(text: str) -> float:
    if (value := _number(text)) <= 0:
        raise argparse.ArgumentTypeError(f"a number above 0 expected; {text!r} given")
    return value


def _three(text: str) -> tuple[float, ...]:
    values = tuple(_number(part) for part in text.split(","))
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"three numbers expected, as 103.9,116.8,123.7; {text!r} given")
    return values


def _three_positive(text: str) -> tuple[float, ...]:
    values = _three(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"three numbers above 0 expected; {text!r} given")
    return values


def _axes(text: str) -> str:
    if sorted(text.upper()) != sorted("HWIO"):
        raise argparse.ArgumentTypeError(f"the letters O, I, H and W in some order expected; {text!r} given")
    return text.upper()


def overrides(arguments: argparse.Namespace) -> Overrides:
    """What the command line says in the file's place."""
    return Overrides(**{name: getattr(arguments, name) for name in Overrides.__dataclass_fields__})
