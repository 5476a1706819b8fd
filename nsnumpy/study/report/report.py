"""A report about one run: a page in one file, with its pictures, its losses and its Gram matrices.

Matplotlib is needed, and imported here only when a report is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ...backend import to_host
from ...files.images import Picture, Source, jpeg_bytes, to_bytes
from ...files.writing import atomic_path, check_folder
from ...ops import Border
from ...positions import Region
from ...run.colors import seen, seen_style
from ...run.inputs import Input, Styles, named, read_inputs
from ...run.regions import Mask, Regions
from ...run.results import Progress, Result, network_record, versions
from ...run.scales import style_side
from ...run.settings import borders
from ...targets import style_target
from ...vgg import VGG
from .page import Contents, Frame, Shown, page, result_line, title_of
from .plots import TIMES, Line, data_uri, number
from .style import Matrices

SHOWN = 768  # long side of the pictures of a page, in pixels; a result is shown up to 1024
_SUFFIXES = (".html", ".htm")
_GENERATOR, _HEAD = b'<meta name="generator" content="nsnumpy">', 4096  # which stands in so many bytes of a page


class ReportError(ValueError):
    """A report that cannot be made; the message says why."""


@dataclass(frozen=True)
class _Kept:
    """A picture on the way, as JPEG, with what is said of it."""

    iteration: int
    size: int
    loss: float
    jpeg: bytes = field(repr=False)


class Frames:
    """A callback that keeps some of a run's pictures for its report, spread over the whole of it.

    Every k-th is kept. Once there are more than `limit`, every second one is dropped and k doubled, so that however
    long a run is, what is held is bounded: pictures are kept as JPEG.

    Parameters
    ----------
    limit : int
        The most pictures to keep, 2 or more.
    size : int
        Long side in pixels; larger pictures are made smaller.

    Attributes
    ----------
    every : int
        k: the distance in iterations, each scale's start counted, between those that are kept.

    Raises
    ------
    ValueError
        If the limit is less than 2, or the size less than 1.

    Examples
    --------
    >>> import nsnumpy as ns
    >>> frames = ns.Frames(limit=3)
    >>> result = ns.texture("sample:starry", size=32, iterations=5, callback=frames)
    >>> frames.iterations
    [0, 2, 4]
    """

    def __init__(self, limit: int = 24, size: int = 512) -> None:
        if limit < 2 or size < 1:
            raise ValueError(f"limit is 2 or more and size 1 or more; got limit={limit}, size={size}")
        self.every = 1
        self._limit, self._size = limit, size
        self._calls = 0
        self._kept: list[_Kept] = []

    def __call__(self, progress: Progress) -> None:
        """Keep the picture, if it is one of those to keep."""
        if self._calls % self.every == 0:
            size = max(progress.x.shape)
            jpeg = jpeg_of(progress.image, self._size, 82)
            self._kept.append(_Kept(progress.iteration, size, progress.loss, jpeg))
        self._calls += 1
        if len(self._kept) > self._limit:
            self._kept = self._kept[::2]
            self.every *= 2

    @property
    def iterations(self) -> list[int]:
        """Those whose pictures are kept."""
        return [kept.iteration for kept in self._kept]

    def shown(self, iterations: int, result: Line) -> list[Frame]:
        """The pictures for a page, but for that of the result, which the page has.

        Parameters
        ----------
        iterations : int
            How many the run had.
        result : line of the history that belongs to the result
        """
        made = []
        for kept in self._kept:
            if (kept.iteration, kept.size) == (result["iteration"], result["size"]):
                continue
            caption = _caption(kept.iteration, iterations, kept.size, kept.loss)
            alt = f"The picture after {kept.iteration} iterations"
            made.append(Frame(Shown(data_uri("image/jpeg", kept.jpeg), caption, alt), kept.iteration))
        return made


def check_report(path: str | os.PathLike[str]) -> Path:
    """`path` as a Path if a report can be written there, so that one knows before the run.

    Raises
    ------
    ReportError
        If matplotlib is missing, the suffix is not that of a page, or another page is there.
    OSError
        If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ReportError(f"{path}: a report is a page; end its name in .html")
    check_folder(path)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if _GENERATOR not in file.read(_HEAD):
                raise ReportError(f"{path}: is there, and nsnumpy did not make it; choose another name")
    check_matplotlib("a report")
    return path


def check_matplotlib(thing: str) -> None:
    """ReportError if it is missing, which `thing` needs."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ReportError(f"{thing} needs matplotlib, the extra `report`: pip install matplotlib") from error


def write_report(
    path: str | os.PathLike[str],
    result: Result,
    *,
    vgg: VGG,
    content: Picture | None = None,
    style: Styles | None = None,
    frames: Frames | None = None,
    peak_bytes: int | None = None,
) -> None:
    """Write a page about a run: one file without any reference to another; all of it, or nothing.

    It shows the pictures, those on the way, every term of the loss and the norm of its gradient over the iterations,
    what the style loss compares at each style layer (Gram matrices, or covariances), and the settings.

    Parameters
    ----------
    path : path that ends in .html
    result : Result
        Of `transfer`, `texture` or `reconstruct`.
    vgg : VGG
        The network of the run; it sees the style picture and the result once more.
    content, style : pictures, or None
        Those of the run; the style may be a list of (picture, weight) or (picture, weight, mask). Without one there are
        no Gram matrices.
    frames : Frames, or None
        The run's callback, for the pictures on the way.
    peak_bytes : int, or None
        The most memory that the run took; see `peak_memory`.

    Raises
    ------
    ReportError
        If matplotlib is missing, or the suffix is not that of a page.
    PictureError
        If a picture cannot be read.
    OSError
        If the page cannot be written.

    Examples
    --------
    ::

        frames = ns.Frames()
        result = ns.transfer("photo.jpg", "painting.jpg", vgg=vgg, callback=frames)
        ns.write_report("run.html", result, vgg=vgg, content="photo.jpg", style="painting.jpg", frames=frames)
    """
    path = check_report(path)
    line, iterations = result_line(result.history, result.settings["loss"]), result.history[-1]["iteration"]
    height, width = result.image.shape[:2]
    caption = _caption(line["iteration"], iterations, line["size"], line["loss"])
    last = shown_result(result.image, f"{caption}: the result")
    given = {"content": content, "style": style}
    inputs = read_inputs([one for role, known in given.items() if known is not None for one in named(role, known)])
    pictures = [_given(one, result.settings[one.name]) for one in inputs]
    photo = next((one.source for one in inputs if one.name == "content"), None)
    styles = [one for one in inputs if one.name != "content"]
    there = [one.mask for one in styles if one.mask]
    regions = Regions(there, False, result.settings["outside"]).at((height, width)) if there else {}
    pictures += [_region(region, mask.source) for mask, region in regions.items()]
    contents = Contents(
        title=title_of(result.settings),
        loss=result.settings["loss"],
        settings=result.settings,
        network=network_record(vgg),
        versions=versions(vgg),
        history=result.history,
        stopped=result.stopped,
        pictures=[*pictures, shown_result(result.image)],
        frames=[*(frames.shown(iterations, line) if frames is not None else []), Frame(last, line["iteration"])],
        aspect=(width, height),
        matrices=_matrices(result, vgg, photo, styles, regions),
        peak_bytes=peak_bytes,
    )
    write_page(path, contents)


def write_page(path: Path, contents: Contents) -> None:
    """All of it, or nothing; OSError if it cannot be written."""
    made = page(contents)
    with atomic_path(path) as temporary:  # a file name may hold bytes that are no text
        temporary.write_text(made, encoding="utf-8", errors="backslashreplace")


def shown_result(image: np.ndarray, caption: str = "") -> Shown:
    """A result ``(H, W, 3)``, in [0, 1]; the caption is its size, unless another one is given."""
    height, width = image.shape[:2]
    words = caption or f"Result, {width} {TIMES} {height}"
    return Shown(data_uri("image/jpeg", jpeg_of(image, 1024, 90)), words, "The result")


def _caption(iteration: int, iterations: int, size: int, loss: float) -> str:
    return f"iteration {iteration} of {iterations}, {size} pixels, loss {number(loss)}"


def _given(given: Input, name: str) -> Shown:
    """One of the pictures that the run was given."""
    kind, source = given.name, given.source
    height, width = source.shape
    image = source.at(min(SHOWN, source.held))
    region = f", for {given.mask.name}" if given.mask else ""
    caption = f"{kind.capitalize()}: {name}, {width} {TIMES} {height}{region}"
    return Shown(data_uri("image/jpeg", jpeg_of(image, SHOWN, 85)), caption, f"The {kind} picture, {name}")


def _region(region: Region, source: str) -> Shown:
    mask = np.repeat(region.mask[..., None], 3, axis=-1)
    caption = f"Region {region.name}: {source}, {100 * mask.mean():.3g} % of the picture"
    return Shown(data_uri("image/jpeg", jpeg_of(mask, SHOWN // 2, 85)), caption, f"The region {region.name}, in white")


def _matrices(
    result: Result, vgg: VGG, content: Source | None, styles: list[Input], regions: Mapping[Mask, Region]
) -> list[Matrices]:
    """What is compared at each style layer, and in each region: of the style pictures at their last size, and of the
    result."""
    layers = result.settings.get("style_layers")
    if not (styles and layers):
        return []
    size, style_size = result.settings["size"], result.settings["style_size"]
    size = max(size) if isinstance(size, Sequence) else size
    of_result, of_styles = borders(result.settings["border"], result.settings.get("seamless"))
    colors, match = (result.settings.get(name, "") for name in ("colors", "color_match"))
    photo = content.fit(result.image.shape[:2]) if content else None

    def matrices(picture: np.ndarray, mask: np.ndarray | None, border: Border) -> dict[str, np.ndarray]:
        pictures = [(picture, 1.0, None, mask)]
        target = style_target(vgg.with_border(border), pictures, layers, result.settings["style_statistics"])
        ((described, _),) = target.pictures
        return {name: to_host(sums[0]).astype(np.float64) for name, sums in described.items() if sums}

    made: list[Matrices] = []
    for mask in dict.fromkeys(given.mask for given in styles):
        here = [given for given in styles if given.mask is mask]
        pictures = [given.source.at(style_side(given.source.shape, size, style_size)) for given in here]
        pictures = pictures if photo is None else [seen_style(style, photo, colors, match) for style in pictures]
        each = [
            matrices(one, given.own.values if given.own else None, of_styles)
            for one, given in zip(pictures, here, strict=True)
        ]
        ours = matrices(seen(result.image, colors), None if mask is None else regions[mask].mask, of_result)
        for name in layers:
            known = [(of[name], given.weight) for of, given in zip(each, here, strict=True) if name in of]
            if known and name in ours:
                style = np.average([of for of, _ in known], axis=0, weights=[weight for _, weight in known])
                made.append(Matrices(name, style, ours[name], mask.name if mask else ""))
    return made


def jpeg_of(image: np.ndarray, size: int, quality: int) -> bytes:
    """An image ``(H, W, 3)``, in [0, 1], as `jpeg_bytes` writes it, in as few bytes as it can."""
    return jpeg_bytes(Image.fromarray(to_bytes(image)), size, quality, optimize=True)
