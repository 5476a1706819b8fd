"""A run's pictures: each is decoded once, before the run, and held at the sizes that it is needed at."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array
from ..files.checkpoint import digest
from ..files.images import Picture, Source, opened, stretched
from ..losses import Sums
from ..targets import StyleTarget, style_target
from ..variable import VARIABLES, Variable
from ..vgg import VGG
from .colors import finished, seen, seen_style
from .regions import Mask, MaskPicture, Regions, read_masks
from .scales import Scale, enough, scales_of, side_of
from .settings import INITS, USE_CASES, Settings
from .shared import StyleTargets

Styles = Picture | Sequence[Sequence[Any]]
"""One picture, or several: (picture, weight), or (picture, weight, mask) for a region of a photograph, or (picture,
weight, mask, own), with `own` a mask over the style picture. A mask is a `MaskPicture` or a `Mask`, or None."""


@dataclass(frozen=True)
class Input:
    """A picture of a run: its name in the record ("content", "style", "style 2"), itself, and its weight; of a style
    picture, where the result is to have it, and which part of it is meant: None for everywhere, and for all."""

    name: str
    source: Source
    weight: float = 1.0
    mask: Mask | None = None
    own: Mask | None = None


class Named(NamedTuple):
    """The same, not opened yet."""

    name: str
    picture: Picture
    weight: float = 1.0
    mask: MaskPicture | Mask | None = None
    own: MaskPicture | Mask | None = None


class Inputs:
    """The pictures of a run.

    Parameters
    ----------
    use_case : str
    pictures : mapping from "content", "style" to pictures
        What the use case takes; the style may be several pictures, with their weights.
    s : Settings
        Completed; it says at which sizes they are held, and what the run starts from.
    begins : bool
        Whether the run starts; if it goes on from a checkpoint, what it started from is not looked at.

    Attributes
    ----------
    each : list of Input
        The first one has the result's proportions.
    scales : list of Scale
        Coarse to fine.
    regions : Regions, or None
        Where the styles are, unless they are everywhere.

    Raises
    ------
    ValueError
        If there are other pictures than the use case takes, or the scales or the masks do not go with them.
    PictureError, OSError
        If a picture cannot be read.
    """

    def __init__(self, use_case: str, pictures: Mapping[str, Styles], s: Settings, *, begins: bool = True) -> None:
        each = read_inputs(pictures_of(use_case, pictures), s)
        shapes = {input.name: input.source.shape for input in each}
        check_masks([(input.mask, input.own) for input in each], shapes)
        self.scales = scales_of(s, shapes)
        self._s = s
        begin = [s.shape(each[0].source.shape, self.scales[0]["result"])]
        start = start_picture(s, shapes) if begins else None
        self.colors, self._match = s.colors, s.color_match
        self._start = None if start is None else start.kept([], begin)
        self.each: list[Input] = []
        for input in each:
            sizes = [scale[side_of(input.name)] for scale in self.scales]
            starts = isinstance(s.init, str) and input.name == s.init == "style"
            self.each.append(replace(input, source=input.source.kept(sizes, begin if starts else [])))
        there = [given.mask for given in self.styles if given.mask is not None]
        self.regions = Regions(there, len(there) < len(self.styles), s.outside) if there else None

    @property
    def styles(self) -> list[Input]:
        """The pictures of the style."""
        return [given for given in self.each if given.name != "content"]

    @property
    def _content(self) -> Input | None:
        return next((given for given in self.each if given.name == "content"), None)

    @property
    def names(self) -> dict[str, str]:
        """What the record calls each of them."""
        return {given.name: given.source.name for given in self.each}

    @property
    def digests(self) -> dict[str, str]:
        """By which to know the pictures again, at the last sizes, and the masks; named as an error names them."""
        last = self.scales[-1]
        found = {f"{given.name}_sha256": digest(self.at(given, last)) for given in self.each}
        masks = {f"mask of {given.mask.name}": given.mask for given in self.each if given.mask}
        masks |= {f"mask of the {given.name} picture": given.own for given in self.each if given.own}
        return found | {f"{name}_sha256": digest(mask.values) for name, mask in masks.items()}

    @property
    def regions_record(self) -> dict[str, dict[str, str]]:
        """Which region each style picture has, and of what each was read; empty without regions."""
        record: dict[str, dict[str, str]] = {}
        for given in self.each:
            if given.mask:
                record.setdefault("regions", {})[given.mask.name] = given.mask.source
                record.setdefault("style_regions", {})[given.name] = given.mask.name
            if given.own:
                record.setdefault("style_parts", {})[given.name] = given.own.source
        return record

    def shape(self, scale: Scale) -> tuple[int, int]:
        """(H, W) of the result at a scale."""
        return self._s.shape(self.each[0].source.shape, scale["result"])

    def enlarged(self, image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """A result of one scale as the start of another: all of it, as the photograph is there, where proportions have
        been rounded, too."""
        return stretched(image, shape, self._s.wraps)

    def at(self, given: Input, scale: Scale) -> np.ndarray:
        """One of them at a scale."""
        return given.source.at(scale[side_of(given.name)])

    def content(self, scale: Scale) -> np.ndarray | None:
        """The content picture at a scale, if there is one, as the loss sees it."""
        photo = self.photo(scale)
        return None if photo is None else seen(photo, self.colors)

    def photo(self, scale: Scale) -> np.ndarray | None:
        """The content picture at a scale, if there is one, as it is."""
        return None if self._content is None else self.at(self._content, scale)

    def style(self, scale: Scale) -> list[tuple[Any, ...]] | None:
        """The style pictures at a scale, with weights and regions, if there are any, as the loss sees them."""
        photo, styles = self.photo(scale), []
        regions = self.regions.at(self.shape(scale)) if self.regions else {}
        for given in self.styles:
            style = self.at(given, scale)
            if photo is not None:
                style = seen_style(style, photo, self.colors, self._match)
            region = None if given.mask is None else regions[given.mask]
            styles.append((style, given.weight, region, None if given.own is None else given.own.values))
        return styles or None

    def style_target(
        self,
        vgg: VGG,
        layers: Iterable[str],
        scale: Scale,
        shared: StyleTargets | None,
        sums_of: Callable[..., dict[str, Sums]],
    ) -> StyleTarget | None:
        """What the style pictures are at a scale, by their sums: seen with the ordinary border, also where the result
        wraps around."""
        styles, (_, border) = self.style(scale), self._s.borders()
        if styles is None:
            return None
        make = style_target if shared is None else shared.of
        return make(vgg.with_border(border), styles, layers, self._s.style_statistics, sums_of)

    def variable(self, scale: Scale, like: Array) -> Variable:
        """What the optimizer moves at a scale; its arrays are as `like` is."""
        inner = VARIABLES["luminance" if self.colors == "luminance" else "pixels"]
        photo = self.content(scale)
        return inner if self.regions is None or photo is None else self.regions.variable(inner, photo, like)

    def finished(self, image: np.ndarray) -> np.ndarray:
        """A result, or a picture on the way to it, as it is shown."""
        photo = self.photo(self._scale_of(image))
        if photo is None:
            return image
        image = finished(image, photo, self.colors)
        return self.regions.finished(image, photo) if self.regions else image

    def start(self, s: Settings, scale: Scale, before: np.ndarray | None = None) -> np.ndarray:
        """The first iterate of a scale ``(H, W, 3)``, in [0, 1]: what `init` says, or the result of the scale before.

        That result is enlarged; what began with the photograph has its detail, too: ``p + enlarged(x' - p')``, with x'
        and p' that result and the photograph there, p the photograph here.
        """
        shape, init = self.shape(scale), s.init if isinstance(s.init, str) else ""
        if before is not None:
            return before.copy() if before.shape[:2] == shape else self._enlarged_start(init, scale, before)
        if self._start is not None:
            return self._start.fit(shape)
        if init == "noise":
            # White noise about grey. It is faint because smooth filters hardly see its finest grain, and would leave
            # it.
            return np.random.default_rng(s.seed).uniform(0.45, 0.55, (*shape, 3)).astype(np.float32)
        source = next(given.source for given in self.each if given.name == init)
        return source.at(scale["result"]) if init == "content" else source.fit(shape)

    def _enlarged_start(self, init: str, scale: Scale, before: np.ndarray) -> np.ndarray:
        photo, small = (self.content(at) if init == "content" else None for at in (scale, self._scale_of(before)))
        if photo is None or small is None:
            return self.enlarged(before, self.shape(scale))
        return changed_alike(photo, small, before, self.enlarged)

    def _scale_of(self, image: np.ndarray) -> Scale:
        """The scale that a picture on the way, or a result, is of."""
        return next(scale for scale in self.scales if self.shape(scale) == image.shape[:2])


def changed_alike(
    picture: np.ndarray, small: np.ndarray, changed: np.ndarray, enlarged: Callable[..., np.ndarray]
) -> np.ndarray:
    """A picture ``(H, W, 3)`` with what was changed in the same picture at a smaller size, from `small` to `changed`,
    enlarged: so its fine detail stays. All are in [0, 1]."""
    change = enlarged((changed - small + 1) / 2, picture.shape[:2])  # in [-1, 1], and a picture is in [0, 1]
    change *= 2
    change += picture
    change -= 1
    return np.clip(change, 0, 1, out=change)


def read_inputs(given: Sequence[Named], s: Settings | None = None) -> list[Input]:
    """The pictures and their masks, as much of them as a run of these settings has use for."""
    sources = [opened(one.picture, None if s is None else enough(one.name, s)) for one in given]
    masks = read_masks([(one.mask, one.own) for one in given], None if s is None else enough("content", s))
    return [Input(one.name, source, one.weight, *of) for one, source, of in zip(given, sources, masks, strict=True)]


def check_masks(masks: Iterable[tuple[Any, Any]], shapes: Mapping[str, tuple[int, int]]) -> None:
    """PictureError if the masks of each picture, for the first one and its own, have other proportions than these."""
    photo = next(iter(shapes.values()))
    for pair, own in zip(masks, shapes.values(), strict=True):
        for mask, shape, of in zip(pair, (photo, own), ("photograph", "style picture"), strict=True):
            if isinstance(mask, Mask):
                mask.check(shape, of)


def start_picture(s: Settings, names: Collection[str]) -> Source | None:
    """The picture to start from, if it is one of its own."""
    if isinstance(s.init, str) and s.init in INITS:
        if s.init != "noise" and s.init not in names:
            raise ValueError(f"init {s.init!r}: there is no {s.init} picture here; choose noise or a picture")
        return None
    if isinstance(s.init, str) and re.fullmatch(r"\w+", s.init) and not Path(s.init).exists():
        raise ValueError(f"init {s.init!r}: choose {', '.join(INITS)}, or a picture file")
    return opened(s.init)


def pictures_of(use_case: str, pictures: Mapping[str, Styles | None]) -> list[Named]:
    """All that the use case takes; ValueError if it is given others."""
    taken = USE_CASES[use_case].pictures
    given = {role: picture for role, picture in pictures.items() if picture is not None}
    if sorted(given) != sorted(taken):
        raise ValueError(f"{use_case} takes a {' and a '.join(taken)} picture")
    each = [named_picture for role in taken for named_picture in named(role, given[role])]
    if use_case != "transfer" and any(given.mask is not None for given in each):
        raise ValueError(f"a mask says which part of a photograph has a style, and a {use_case} has no photograph")
    return each


def named(role: str, given: Styles) -> list[Named]:
    """A role's pictures, none of them opened yet.

    Raises
    ------
    ValueError
        If it is neither a picture nor, for the style, a list of pictures with weights above 0, and masks.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        return [Named(role, given)]
    each = list(given)
    if role != "style" or not each or not all(isinstance(one, Sequence) and 2 <= len(one) <= 4 for one in each):
        raise ValueError(
            f"a {role} picture expected, or for the style a list of (picture, weight) or (picture, weight, mask); "
            f"got {given!r}"
        )
    for weight in (one[1] for one in each):
        if not (isinstance(weight, Real) and 0 < float(weight) < math.inf):
            raise ValueError(f"the weight of a style picture is a number above 0; got {weight!r}")
    names = [role, *(f"{role} {number}" for number in range(2, len(each) + 1))]
    return [
        Named(name, picture, float(weight), *masks) for name, (picture, weight, *masks) in zip(names, each, strict=True)
    ]


def shares_of(styles: Sequence[tuple[float, Hashable]]) -> list[float]:
    """The weights of style pictures, each with its region or None, so that those of one region, or of none, add up to
    1."""
    sums: dict[Hashable, float] = {}
    for weight, region in styles:
        sums[region] = sums.get(region, 0.0) + weight
    return [weight / sums[region] for weight, region in styles]


def as_given(pictures: Sequence[tuple[Any, ...]]) -> Any:
    """Pictures of a role, each (picture, weight, mask, own), as a use case takes them: one alone, everywhere, without a
    weight."""
    return pictures if len(pictures) > 1 or any(pictures[0][2:]) else pictures[0][0]


def style_names(record: Iterable[str]) -> list[str]:
    """Of a run's record, the keys of its style pictures: "style", "style 2", ..."""
    return [key for key in record if re.fullmatch(r"style( \d+)?", key)]
