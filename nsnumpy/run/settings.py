"""What can be set about a run, and the defaults: the one place for the API and for the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any

from ..conventions import CONVENTIONS
from ..files.images import Picture, fit_size
from ..losses import STYLE_STATISTICS
from ..objective import CONTENT_LAYERS, STYLE_LAYERS, Layers, layer_weights
from ..ops import BORDERS, Border
from ..optimize import OPTIMIZERS, canonical_optimizer
from .colors import COLORS, MATCHES
from .regions import OUTSIDE

_EVERY = ("transfer", "texture", "reconstruct")
INITS = ("noise", "content", "style")
BOUNDS = {"box": (0.0, 1.0), "none": None}
SEAMLESS = {None: (False, False), "x": (False, True), "y": (True, False), "both": (True, True)}
"""Whether (rows, columns) wrap around."""
PERIOD = 16  # pixels of one position at the deepest block: what wraps has whole numbers of them
CHOICES = {
    "optimizer": OPTIMIZERS,
    "border": BORDERS[:-1],
    "seamless": tuple(filter(None, SEAMLESS)),
    "bounds": tuple(BOUNDS),
    "convention": tuple(CONVENTIONS),
    "style_statistics": tuple(STYLE_STATISTICS),
    "colors": COLORS,
    "color_match": MATCHES,
    "outside": OUTSIDE,
}
COARSEST = 128  # least long side of the scales that are chosen for you
ONE_SCALE, COARSE, FINEST = 80, 50, 32  # iterations, where none are given
LARGE, FEWEST = 2048, 5  # long side from where on they are fewer; and the fewest
_WEIGHTED = "NAME[:WEIGHT],...; without weights, equal ones"


def _defaults(
    beta: float,
    tv: tuple[float, float, float],
    alpha: float = 1.0,
    content_layers: tuple[str, ...] = CONTENT_LAYERS,
    style_layers: tuple[str, ...] = STYLE_LAYERS,
    optimizer: str = "lbfgs-device",
    border: str = "zero",
) -> dict[str, dict[str, Any]]:
    """The defaults of each use case; tv in their order."""
    every = {"optimizer": optimizer, "border": border}
    style = {"beta": beta, "style_layers": style_layers}
    return {
        "transfer": {"alpha": alpha, "tv": tv[0], "content_layers": content_layers, **style, **every},
        "texture": {"tv": tv[1], **style, **every},
        "reconstruct": {"tv": tv[2], **every},
    }


def _tool(alpha: float, beta: float, tv: float = 0.0, **layers: Any) -> dict[str, dict[str, Any]]:
    """A tool's own weights; a reconstruction, whose content has weight 1, has the tv that goes with it."""
    return _defaults(beta, (tv, tv, tv / alpha), alpha, **layers)


# The defaults that depend on the convention, by use case. Those of "relative" were chosen with the built-in network
# (docs/choosing.md says why); alpha/beta of "paper" is the paper's. The others are the tools' own, for VGG-19 as it
# was published; where a tool's total variation is another function than ours, its weight is 0. (titu1994 has conv5_2,
# of VGG-16, for its content, and names conv4_2 as the other choice.)
# Beyond the border "relative" has the outermost pixels again, which paints best there (docs/choosing.md); the others
# have zeros. "paper", the reference, is driven by scipy's L-BFGS-B; "relative" by ours (docs/benchmarks.md says why).
# A tool's name stands for what is minimised, not for how (Torch's L-BFGS in five, scipy's in two, Adam in one): ours.
BY_CONVENTION: dict[str, dict[str, dict[str, Any]]] = {
    "relative": _defaults(20.0, (60.0, 10.0, 1.0), content_layers=("conv3_2", "conv4_2"), border="replicate"),
    "paper": _defaults(1e3, (1e5, 1e5, 1e3), optimizer="scipy"),
    "jcjohnson": _tool(5.0, 100.0, 1e-3),
    "gatys-pytorch": _tool(1.0, 1e3),
    "anishathalye": _tool(5.0, 500.0, 100.0),
    "pytorch-tutorial": _tool(
        1.0, 1e6, content_layers=("conv2_2",), style_layers=("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
    ),
    "gordicaleksa": _tool(1e5, 3e4),
    "pystiche": _tool(1.0, 1e3),
    "cysmith": _tool(5.0, 1e4),
    "titu1994": _tool(0.025, 1.0),
}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _setting(default: Any, help: str, only: tuple[str, ...] = _EVERY) -> Any:
    """A field of `Settings`: its default, its help text (the API's and the command line's), and who has it."""
    return field(default=default, metadata={"help": help, "only": only})


@dataclass(frozen=True)
class Settings:
    """What can be set about a run, with its defaults.

    `USE_CASES` holds the instance of each use case. ``field.metadata["help"]`` says what each setting means.
    """

    size: int | tuple[int, int] | None = _setting(
        512, "long side in pixels, or own, the picture's; WxH for textures alone"
    )
    scales: Sequence[int] | None = _setting(
        None,
        "long sides, coarse to fine, the last --size (its quarter, half, ... from 128 on; --size alone with another "
        "--convention, or a picture as --init)",
        ("transfer", "texture"),
    )
    style_size: int | None = _setting(
        None, "long side of the style picture, less at smaller scales (as --size)", ("transfer", "texture")
    )
    iterations: int | Sequence[int] | None = _setting(
        None,
        "iterations at each scale, or N,N,...: a number for each "
        f"({ONE_SCALE}; of several scales {COARSE}, {FINEST} at the last)",
    )
    until: float | None = _setting(None, "end a scale once five iterations each moved the pixels by less, of 1")
    optimizer: str | None = _setting(
        None,
        "lbfgs-device: L-BFGS of this package, where the network runs; scipy: its L-BFGS-B (lbfgs is the same), on the "
        "host; sgd: with momentum; adam",
    )
    bounds: str = _setting("box", "box: pixels stay in [0, 1]; none: clipped at the end only")
    lr: float | None = _setting(None, "step of sgd (default: from the first gradient) and of adam (0.02)")
    momentum: float = _setting(0.9, "momentum of sgd, 0 to below 1")
    init: Picture = _setting("content", "where to start: noise, content, style, or a picture")
    seed: int = _setting(0, "seed of the noise")
    convention: str = _setting(
        "relative",
        "the losses' normalisation: relative, for every size and network; paper, its sums; or that of a tool, which "
        "nsnumpy conventions lists",
    )
    alpha: float | None = _setting(None, "weight of the content loss", ("transfer",))
    beta: float | None = _setting(None, "weight of the style loss", ("transfer", "texture"))
    tv: float | None = _setting(None, "weight of the total variation loss")
    content_layers: Layers | None = _setting(None, f"layers of the content loss, {_WEIGHTED}", ("transfer",))
    style_layers: Layers | None = _setting(None, f"layers of the style loss, {_WEIGHTED}", ("transfer", "texture"))

    border: str | None = _setting(
        None, "what the network sees beyond the picture: zero, as VGG was trained; replicate; or reflect"
    )
    seamless: str | None = _setting(
        None, "the result is a tile: left goes on at right (x), top at bottom (y), or both", ("texture",)
    )
    style_statistics: str = _setting(
        "gram",
        "what the style is known by: gram, the paper's; gram+moments, each filter's mean and deviation, too; "
        "covariance, the Gram matrix about the mean",
        ("transfer", "texture"),
    )
    colors: str = _setting(
        "painting",
        "painting: its colours; photo: its own, the painting's matched to them; luminance: that alone; swap: the "
        "photo's chroma at the end",
        ("transfer",),
    )
    color_match: str = _setting(
        "transport", "for --colors photo: transport, cholesky, or the mean alone", ("transfer",)
    )
    outside: str = _setting("keep", "where no region is: keep the photo, or the first region's style", ("transfer",))

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("style_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if (value is None and "size" in name) or (name == "size" and isinstance(value, list | tuple)):
                continue
            if not is_whole(value, least):
                raise ValueError(f"{name} is a whole number, {least} or more; got {value!r}")
            self._set(name, int(value))
        if self.iterations is not None and not all(is_whole(n, 0) for n in _listed(self.iterations)):
            raise ValueError(f"iterations is a whole number, 0 or more, or one for each scale; got {self.iterations!r}")
        if self.iterations is not None:
            numbers = tuple(int(n) for n in _listed(self.iterations))
            self._set("iterations", numbers if isinstance(self.iterations, Sequence) else numbers[0])
        if self.scales is not None:
            scales = _listed(self.scales)
            if not all(is_whole(n, 1) for n in scales) or sorted(set(scales)) != scales:
                raise ValueError(f"scales is a list of growing whole numbers, 1 or more; got {self.scales!r}")
            self._set("scales", tuple(int(n) for n in scales))
        if isinstance(self.lr, Real):
            self._set("lr", float(self.lr))
        for name in ("momentum", "until", "alpha", "beta", "tv"):
            value = getattr(self, name)
            if value is None and name != "momentum":
                continue
            if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
                raise ValueError(f"{name} is a number, 0 or more; got {value!r}")
            self._set(name, float(value))
        if not self.momentum < 1:
            raise ValueError(f"momentum is a number from 0 to below 1; got {self.momentum!r}")
        if self.optimizer is not None:
            self._set("optimizer", canonical_optimizer(self.optimizer))
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in (*known, getattr(Settings, name)):  # whose default may be None
                raise ValueError(f"unknown {name.replace('_', ' ')} {value!r}: choose from {', '.join(known)}")
        if not isinstance(self.size, int | None):
            self._set("size", self._of_sides(self.size))

    def _of_sides(self, size: Sequence[Any]) -> tuple[int, int]:
        """(H, W); ValueError if it is none, or could be no tile where one is asked for."""
        if len(size) != 2 or not all(is_whole(n, 1) for n in size):
            raise ValueError(f"size is a whole number, 1 or more, or two of them, (H, W); got {size!r}")
        height, width = map(int, size)
        h, w = self._tiled((height, width))
        if (h, w) != (height, width):
            raise ValueError(f"the sides of a seamless picture are multiples of {PERIOD}: size {w}x{h} would do")
        return height, width

    def _tiled(self, shape: tuple[int, int]) -> tuple[int, int]:
        height, width = (
            max(PERIOD, PERIOD * round(n / PERIOD)) if wraps else n for n, wraps in zip(shape, self.wraps, strict=True)
        )
        return height, width

    @property
    def side(self) -> int | None:
        """The result's long side; None for the picture's own."""
        return max(self.size) if isinstance(self.size, tuple) else self.size

    def shape(self, picture: tuple[int, int], side: int | None) -> tuple[int, int]:
        """The (H, W) of the result at this long side: its proportions are the picture's, or those of `size`; what is
        seamless has whole numbers of `PERIOD` pixels."""
        return self._tiled(fit_size(self.size if isinstance(self.size, tuple) else picture, side))

    @property
    def wraps(self) -> tuple[bool, bool]:
        """Whether the result's (rows, columns) wrap around."""
        return SEAMLESS[self.seamless]

    def borders(self) -> tuple[Border, Border]:
        """The network's border for the result, and for the pictures that it is compared with."""
        assert self.border is not None  # as in all settings that are complete
        return borders(self.border, self.seamless)

    def _set(self, name: str, value: Any) -> None:
        """The same value as one of Python's own types, which a result's record needs."""
        object.__setattr__(self, name, value)

    def completed(self, use_case: str) -> Settings:
        """The same with what was left to the convention, None."""
        defaults = BY_CONVENTION[self.convention][use_case]
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    def sizes(self, long_side: int, short_side: float = math.inf) -> list[int]:
        """The long sides to work at, coarse to fine.

        Parameters
        ----------
        long_side, short_side : int
            Of the result; scales that are chosen here leave it enough for every layer.

        Raises
        ------
        ValueError
            If a scale is larger than the result, or there are not as many iterations as scales.
        """
        if self.scales is not None:
            scales = _listed(self.scales)
            if scales and scales[-1] > max(long_side, self.side or 0):
                raise ValueError(f"scale {scales[-1]} is larger than the result, {long_side}: choose that size")
            sizes = [n for n in scales if n < long_side] + [long_side]
        else:
            sizes = [long_side]
            while self._goes_on(sizes[0] / 2, sizes[0] / 2 / long_side * short_side):
                sizes.insert(0, sizes[0] // 2)
        if len(_listed(self.iterations)) not in (1, len(sizes)):
            raise ValueError(
                f"iterations {self.iterations!r}: one number, or one for each of the scales "
                f"{', '.join(map(str, sizes))}, expected"
            )
        return sizes

    def _goes_on(self, long_side: float, short_side: float) -> bool:
        """Whether a coarser scale is worth having: not where the balance of the terms depends on the size, nor for a
        picture that one goes on from."""
        by_name = isinstance(self.init, str) and self.init in INITS
        return self.convention == "relative" and by_name and long_side >= COARSEST and short_side >= 32

    def iterations_at(self, sizes: Sequence[int]) -> list[int]:
        """How many iterations at each of these long sides; beyond `LARGE`, where each costs much, ever fewer."""
        if self.iterations is None:
            counts = [*[COARSE] * (len(sizes) - 1), FINEST] if len(sizes) > 1 else [ONE_SCALE]
            return [min(n, max(FEWEST, n * LARGE // max(size, LARGE))) for n, size in zip(counts, sizes, strict=True)]
        listed = _listed(self.iterations)
        return listed * len(sizes) if len(listed) == 1 else listed


@dataclass(frozen=True)
class UseCase:
    """What is made, of which pictures: the first of them gives the result's proportions; and the settings' defaults."""

    pictures: tuple[str, ...]
    defaults: Settings


USE_CASES = {
    "transfer": UseCase(("content", "style"), Settings()),
    "texture": UseCase(("style",), Settings(init="noise")),
    "reconstruct": UseCase(("content",), Settings(size=384, scales=(), init="noise")),
}


def setting_names(use_case: str) -> list[str]:
    """The fields of `Settings` that a use case has."""
    return [f.name for f in fields(Settings) if use_case in f.metadata["only"]]


def borders(border: str, seamless: str | None) -> tuple[Border, Border]:
    """The network's border for the result, and for the pictures that it is compared with."""
    rows, columns = ("wrap" if wraps else border for wraps in SEAMLESS[seamless])
    return (rows, columns), (border, border)


def layers_of(use_case: str, s: Settings, layer: str = CONTENT_LAYERS[0]) -> tuple[dict[str, float], dict[str, float]]:
    """The layers of the content loss, and of the style loss, with their weights; `layer` is a reconstruction's."""
    content = {"transfer": s.content_layers, "reconstruct": {layer: 1.0}}.get(use_case)
    style = s.style_layers if "style" in USE_CASES[use_case].pictures else None
    of_content, of_style = (layer_weights(layers, s.convention) if layers else {} for layers in (content, style))
    return of_content, of_style


def settings_of(use_case: str, **changes: Any) -> Settings:
    """The use case's defaults with some of them changed.

    Raises
    ------
    TypeError
        If the use case has no such setting.
    ValueError
        If there is no such use case, or a size that it cannot have.
    """
    if use_case not in USE_CASES:
        raise ValueError(f"unknown use case {use_case!r}: choose from {', '.join(USE_CASES)}")
    known = setting_names(use_case)
    for name in changes:
        if name not in known:
            raise TypeError(f"{use_case} has no setting {name!r}; it has {', '.join(known)}")
    s = replace(USE_CASES[use_case].defaults, **changes)
    if isinstance(s.size, tuple) and use_case != "texture":
        raise ValueError(
            f"size {s.size[1]}x{s.size[0]}: a {use_case} has its picture's proportions; give its long side"
        )
    return s
