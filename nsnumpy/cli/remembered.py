"""What a command need not say again: it is in the run that it goes on with (--resume), or in a result (--like)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.checkpoint import Checkpoint
from ..files.decode import at_home
from ..files.images import read_settings
from ..run.settings import setting_names
from .command import Parser
from .regions import with_region
from .standard import STANDARD

_READ = ("content", "init", "weights", "regions", "style_regions", "scratch")  # each may also be a name
_WRITTEN = ("output", "log", "report")
_OF_ONE_COMMAND = ("run", "use_case", "resume", "checkpoint", "like", "jobs", "cluster", "no_clobber", "force", "quiet")


def leave_open(command: Parser) -> None:
    """Let the parser tell only what was said: `filled` adds the defaults, and asks for what must be there."""
    defaults, needed = {}, {}
    for action in sorted(command._actions, key=lambda action: len(action.option_strings)):
        if action.default is argparse.SUPPRESS:  # --help
            continue
        if not action.option_strings:
            action.nargs = "*" if action.nargs == "+" else "?"
        elif action.required:
            action.required = False
        else:
            defaults[action.dest] = action.default
        if action.dest not in defaults:
            needed[action.dest] = "/".join(action.option_strings) or str(action.metavar)
        action.default = argparse.SUPPRESS
    command.intermixed = True
    paths = [action.dest for action in command._actions if action.type is Path]
    command.set_defaults(open=(defaults, needed, paths, f"see {command.prog} --help"))


def filled(arguments: argparse.Namespace, resume: Checkpoint | None) -> argparse.Namespace:
    """What was said, then what is remembered, then the defaults.

    Raises
    ------
    ValueError
        If a run or a result is of another command, or something is missing.
    """
    said = dict(vars(arguments))
    if resume and (command := resume.settings["command"]) != said["use_case"]:
        raise ValueError(f"{said['resume']}: keeps a {command}: nsnumpy {command} --resume goes on with it")
    defaults, needed, paths, see = said.pop("open")
    remembered = {} if resume is None else {k: Path(v) if k in paths and v else v for k, v in resume.command.items()}
    if "like" in said:
        remembered = _of_result(said) | remembered
    given = defaults | remembered | said
    if missing := [name for dest, name in needed.items() if dest not in given]:
        raise ValueError(f"the following arguments are required: {', '.join(missing)} ({see})")
    return argparse.Namespace(**given)


def to_remember(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `filled` needs of a command, JSON-serialisable; it may be given in another folder then."""
    kept = {name: value for name, value in vars(arguments).items() if name not in _OF_ONE_COMMAND}
    for name in _WRITTEN:
        kept[name] = os.path.abspath(at_home(kept[name])) if kept[name] not in (None, STANDARD) else kept[name]
    kept |= {name: _anywhere(kept[name]) for name in _READ if kept.get(name)}
    if "style" in kept:
        of_regions = [with_region(arguments, style) for style in kept["style"]]
        styles = [(_anywhere(path), region) for path, region in of_regions]
        if kept.get("mask"):
            kept["mask"] = [f"{path}={_anywhere(mask)}" for path, mask in styles if mask]
            styles = [(path, None) for path, _ in styles]
        kept["style"] = [path if region is None else f"{region}={path}" for path, region in styles]
    return kept


def _anywhere(name: str) -> str:
    """A file by its whole path; what is no file is the name of something that comes with the program."""
    return os.path.abspath(at_home(name)) if os.path.exists(at_home(name)) else name


def _of_result(said: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a result carries, as far as they go with what is said."""
    record = read_settings(said["like"])
    if record.get("command") != said["use_case"]:
        raise ValueError(f"{said['like']}: made by {record.get('command')}: its settings are not {said['use_case']}'s")
    record = {"border": "zero"} | record  # as all runs had, once
    if isinstance(record["size"], list):  # JSON knows no tuples
        record["size"] = tuple(record["size"])
    names = [*setting_names(said["use_case"]), "layer", "weights", "pooling", "dtype", "tf32"]
    other_size = record["size"] is None or said.get("size", record["size"]) != record["size"]
    if other_size or "scales" in said:
        names = [name for name in names if name not in ("scales", "iterations")]  # they were that size's
    if not other_size:
        names.append("tile")
        if said.get("optimizer", record["optimizer"]) == record["optimizer"]:
            names.append("memory_pairs")
    if not said.keys() & {"regions", "mask"}:  # which are the photograph's
        names = [name for name in names if name != "outside"]
    return {name: record[name] for name in names if name in record}
