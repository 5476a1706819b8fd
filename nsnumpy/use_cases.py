"""The use cases: style transfer, texture (style reconstruction) and content reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .files.images import Picture
from .files.weights import load_vgg
from .run.inputs import Styles
from .run.near import NearRun
from .run.results import Callback, Result, check_ended
from .run.run import Run
from .run.shared import StyleTargets


def transfer(content: Picture, style: Styles, *, callback: Callback | None = None, **options: Any) -> Result:
    """Paint the content picture in the style of the other: minimise ``alpha L_content + beta L_style + tv L_tv``.

    Parameters
    ----------
    content, style : pictures
        Paths, "sample:NAME", PIL images, or arrays; see `load_image`. The style picture keeps its own aspect ratio. It
        may be a list of (picture, weight): the loss is the weighted sum of those for each. (picture, weight, mask) is a
        style for a part of the photograph: a mask is an array ``(H, W)`` in [0, 1], or a grey picture; `outside` of
        all, the photograph is kept.
    callback : function of one `Progress`, or None
        Called at the start (of each scale) and after every iteration.
    **options
        vgg, targets, checkpoint, checkpoint_every and resume, as for `Run`; and the fields of `Settings`: size,
        iterations, optimizer, init, seed, alpha, beta, tv, content_layers, ...

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If a picture, a setting or a checkpoint cannot be used; PictureError, WeightFileError and CheckpointError are
        ValueErrors.
    TypeError
        If there is no such option.
    OSError
        If a picture cannot be read, or no checkpoint could be written.
    FloatingPointError, MemoryError, DeviceError
        As `Run.go`.
    """
    return Run("transfer", {"content": content, "style": style}, **options).go(callback)


def texture(style: Styles, *, callback: Callback | None = None, **options: Any) -> Result:
    """A new picture with the style of the given one and no content: minimise ``beta L_style + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "content". The result
    has the (first) style picture's aspect ratio.
    """
    return Run("texture", {"style": style}, **options).go(callback)


def reconstruct(
    content: Picture, layer: str = "conv4_2", *, callback: Callback | None = None, **options: Any
) -> Result:
    """The picture whose features at `layer` are those of the given one: minimise ``L_content + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "style".
    """
    return Run("reconstruct", {"content": content}, layer=layer, **options).go(callback)


def blend(
    content: Picture,
    first: Picture,
    second: Picture,
    *,
    steps: int = 7,
    callback: Callback | None = None,
    **options: Any,
) -> Iterator[Result]:
    """The content picture from one style to another, ``A(t) = (1 - t) A_first + t A_second``, t from 0 to 1.

    The first result is an ordinary transfer. Each of the others begins with the one before, and has half as many
    iterations at all scales but the last.

    Parameters
    ----------
    content, first, second : pictures
        As for `transfer`.
    steps : int >= 2
        How many results.
    callback, **options
        As for `transfer`, but for targets, checkpoint and resume.

    Yields
    ------
    Result
        One after the other.

    Raises
    ------
    ValueError, TypeError, OSError, DeviceError
        As `transfer`.
    KeyboardInterrupt, FloatingPointError, MemoryError
        If that ended a result before its time; it is not yielded.
    """
    if steps < 2:
        raise ValueError(f"steps is 2 or more, not {steps}")
    options["vgg"] = options.get("vgg") or load_vgg()  # one for all
    targets, run, fewer = StyleTargets(), None, [0]
    for step in range(steps):
        share = step / (steps - 1)
        style = [(picture, weight) for picture, weight in ((first, 1 - share), (second, share)) if weight]
        pictures: dict[str, Styles] = {"content": content, "style": style}
        if run is None:
            run = Run("transfer", pictures, targets=targets, **options)
            *coarse, last = run.iterations
            fewer = [*(-(-iterations // 2) for iterations in coarse), last]
        else:
            run = NearRun(run, "transfer", pictures, targets=targets, **options | {"iterations": fewer})
        result = run.go(callback)
        check_ended(result)
        yield result
