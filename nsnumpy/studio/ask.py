"""What a page asks for, as it came, and the run that it means: pictures, settings, plan and command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..files.weight_sources import BUILTIN, BUNDLED, cache_folder, find_weights
from ..run.inputs import as_given, shares_of
from ..run.plan import Plan, plan
from ..run.settings import BY_CONVENTION, CHOICES, INITS, USE_CASES, Settings, settings_of
from .pictures import Pictures

MOST_STYLES = 8
MOST = 1e12  # of a number
WHOLE = ("size", "style_size", "seed")
WHOLES = ("scales", "iterations")
NUMBERS = ("until", "lr", "momentum", "alpha", "beta", "tv")
LAYERS = ("content_layers", "style_layers")


def settings_table() -> list[dict[str, Any]]:
    """The settings of a transfer, for a form: name, kind, choices, default and help."""
    defaults, convention = USE_CASES["transfer"].defaults, BY_CONVENTION["relative"]["transfer"]
    table = []
    for setting in fields(Settings):
        if "transfer" not in setting.metadata["only"]:
            continue
        name = setting.name
        choices = INITS if name == "init" else CHOICES.get(name)
        kind = "choice" if choices else "layers" if name in LAYERS else "numbers" if name in WHOLES else "number"
        default = getattr(defaults, name)
        default = convention.get(name) if default is None else default
        table.append(
            {"name": name, "kind": kind, "choices": choices, "default": default, "help": setting.metadata["help"]}
        )
    return table


def weights_table() -> dict[str, dict[str, float]]:
    """alpha, beta and tv of each convention, unless they are set."""
    names = ("alpha", "beta", "tv")
    return {name: {one: known["transfer"][one] for one in names} for name, known in BY_CONVENTION.items()}


def networks() -> list[str]:
    """The names of the weight files that are at hand."""
    return [*BUNDLED, *sorted(path.stem for path in cache_folder().glob("*.h5"))]


@dataclass(frozen=True)
class Ask:
    """A transfer that was asked for, checked.

    Attributes
    ----------
    photo : str
        A picture's id.
    styles : tuple of (id, weight, id of a mask or None)
    settings : dict
        Those that were set.
    network : str
    begin : str, or None
        The result to begin with: the id of a work.
    """

    photo: str
    styles: tuple[tuple[str, float, str | None], ...]
    settings: dict[str, Any]
    network: str = BUILTIN
    begin: str | None = None

    @classmethod
    def read(cls, given: object, pictures: Pictures) -> Ask:
        """Of JSON; ValueError that names what is wrong with it."""
        known = ("photo", "styles", "settings", "network", "begin")
        if not isinstance(given, Mapping) or set(given) - set(known):
            raise ValueError(f"an object with {', '.join(known)} expected")
        styles, settings = given.get("styles"), given.get("settings", {})
        if not isinstance(styles, list) or not 1 <= len(styles) <= MOST_STYLES:
            raise ValueError(f"styles: a list of 1 to {MOST_STYLES} expected")
        each = [_style(style, pictures) for style in styles]
        network, begin = given.get("network", BUILTIN), given.get("begin")
        if network not in networks():
            raise ValueError(f"network {str(network)[:80]!r}: choose from {', '.join(networks())}")
        if begin is not None and not isinstance(begin, str):
            raise ValueError("begin: the id of a result expected")
        return cls(pictures.get(given.get("photo")).id, tuple(each), _settings(settings), network, begin)

    def record(self) -> dict[str, Any]:
        """What `read` reads."""
        styles = [{"picture": id, "weight": weight, "mask": mask} for id, weight, mask in self.styles]
        given = {"photo": self.photo, "styles": styles, "settings": self.settings, "network": self.network}
        return given | ({"begin": self.begin} if self.begin else {})

    def shares(self) -> list[float]:
        """The weights of its styles; those of one region, or of none, add up to 1."""
        return shares_of([(weight, mask) for _, weight, mask in self.styles])

    def with_weights(self, weights: object) -> Ask:
        """The same with other weights of its styles; ValueError if they are none."""
        right = isinstance(weights, list) and len(weights) == len(self.styles)
        if not (right and all(_is_number(weight) and weight > 0 for weight in weights)):  # type: ignore[attr-defined]
            raise ValueError(f"shares: a list of {len(self.styles)} numbers above 0 expected")
        each = zip(self.styles, weights, strict=True)  # type: ignore[call-overload]
        return replace(self, styles=tuple((id, float(weight), mask) for (id, _, mask), weight in each))

    def pictures(self, pictures: Pictures) -> dict[str, Any]:
        """As a run takes them."""
        styles = [
            (pictures.source(id), share, None if mask is None else pictures.source(mask))
            for (id, _, mask), share in zip(self.styles, self.shares(), strict=True)
        ]
        return {"content": pictures.source(self.photo), "style": as_given(styles)}

    def given(self, result_of: Callable[[str], Path]) -> dict[str, Any]:
        """The settings as a run takes them; ValueError if the result to begin with is not there."""
        return self.settings | ({"init": str(result_of(self.begin))} if self.begin else {})

    def plan(self, pictures: Pictures, result_of: Callable[[str], Path], **device: Any) -> Plan:
        """What it would take; ValueError or OSError if it cannot be made."""
        given = self.pictures(pictures) | self.given(result_of)
        return plan("transfer", weights=find_weights(self.network), **given, **device)

    def command(self, pictures: Pictures, result_of: Callable[[str], Path], output: str) -> str:
        """The line that makes the same picture."""
        sources = [(pictures.source(id), weight, mask) for id, weight, mask in self.styles]
        words = ["nsnumpy", "transfer", pictures.source(self.photo), *(style for style, *_ in sources), "-o", output]
        if len(sources) > 1:
            words += ["--style-weights", ",".join(f"{weight:.17g}" for _, weight, _ in sources)]
        for style, _, mask in sources:
            if mask is not None:
                words += ["--mask", f"{style}={pictures.source(mask)}"]
        for name, value in self.given(result_of).items():
            words += [f"--{name.replace('_', '-')}", "own" if value is None and name == "size" else _written(value)]
        return shlex.join([*words, *(["--weights", self.network] if self.network != BUILTIN else [])])


def _style(style: object, pictures: Pictures) -> tuple[str, float, str | None]:
    if not isinstance(style, Mapping) or set(style) - {"picture", "weight", "mask"}:
        raise ValueError("styles: each an object with picture, weight and mask expected")
    weight, mask = style.get("weight", 1.0), style.get("mask")
    if not _is_number(weight) or not weight > 0:
        raise ValueError("styles: a weight is a number above 0")
    return pictures.get(style.get("picture")).id, float(weight), None if mask is None else pictures.get(mask).id


def _settings(given: object) -> dict[str, Any]:
    """Settings of the right types; ValueError that names the one that is wrong."""
    if not isinstance(given, Mapping):
        raise ValueError("settings: an object expected")
    known = {row["name"] for row in settings_table()}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"settings: there is no {str(name)[:80]!r}")
        listed = value if isinstance(value, list) else [value]
        if value is None:
            right = getattr(Settings, name) is None or name == "size"
        elif name in WHOLES:
            right = bool(listed) and len(listed) <= 16 and all(_is_number(one) for one in listed)
        elif name in LAYERS:
            right = isinstance(value, Mapping) and all(one is None or _is_number(one) for one in value.values())
        else:
            right = _is_number(value) if name in (*WHOLE, *NUMBERS) else isinstance(value, str)
        if not right:
            raise ValueError(f"{name}: cannot be {str(value)[:80]!r}")
        if name == "init" and value not in INITS:
            raise ValueError(f"init: choose from {', '.join(INITS)}")
        if name == "lr" and value is not None and not value > 0:
            raise ValueError("lr is a number above 0")
    settings = dict(given)
    settings_of("transfer", **settings)
    return settings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(name if weight is None else f"{name}:{weight:.17g}" for name, weight in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
