"""The use cases: style transfer, texture (style reconstruction) and content reconstruction."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .checkpoint import EVERY, Checkpoint
from .images import Picture, load_image
from .objective import Objective
from .results import Callback, Result
from .runs import Keeping, Run
from .settings import settings_of
from .vgg import VGG
from .weights import load_vgg


def transfer(
    content: Picture,
    style: Picture,
    *,
    vgg: VGG | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = EVERY,
    resume: str | os.PathLike[str] | Checkpoint | None = None,
    **settings: Any,
) -> Result:
    """Paint the content picture in the style of the other: minimise ``alpha L_content + beta L_style + tv L_tv``.

    Parameters
    ----------
    content, style : pictures
        Paths, "sample:NAME", PIL images, or arrays; see `load_image`. The style picture keeps its own aspect ratio.
    vgg : VGG, or None
        The network; None takes the built-in one. See `load_vgg`.
    callback : function of one `Progress`, or None
        Called at the start (of each scale) and after every iteration.
    checkpoint : path, or None
        A file to keep the run in, written anew every `checkpoint_every` iterations and when it ends.
    checkpoint_every : int
    resume : path, Checkpoint, or None
        Such a file, to go on from: with the same pictures, network and settings; only `iterations` may be others. The
        optimizers of this package go on as if they had never stopped, with the same numbers (on the same machine, with
        as many threads); scipy's from the same pixels with a fresh memory, and a warning.
    **settings
        Fields of `Settings`: size, iterations, optimizer, init, seed, alpha, beta, tv, content_layers, ...

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If a picture, a setting or a checkpoint cannot be used; PictureError, WeightFileError and CheckpointError are
        ValueErrors.
    OSError
        If a picture cannot be read, or no checkpoint could be written.
    FloatingPointError
        If the loss is not finite at the start.
    MemoryError
        If there is not enough for the first iterate.
    DeviceError
        If the GPU fails.
    """
    s = settings_of("transfer", **settings).completed("transfer")
    vgg = vgg or load_vgg()

    def objective(size: int | None, style_size: int | None) -> tuple[Objective, np.ndarray]:
        p = load_image(content, size)
        return Objective(
            vgg,
            content=p,
            style=load_image(style, style_size),
            alpha=s.alpha,
            beta=s.beta,
            tv=s.tv,
            content_layers=s.content_layers,
            style_layers=s.style_layers,
            convention=s.convention,
            style_statistics=s.style_statistics,
        ), p

    pictures, keeping = {"content": content, "style": style}, Keeping(checkpoint, checkpoint_every, resume)
    return Run("transfer", vgg, objective, s, pictures, {}, callback, keeping).go()


def texture(
    style: Picture,
    *,
    vgg: VGG | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = EVERY,
    resume: str | os.PathLike[str] | Checkpoint | None = None,
    **settings: Any,
) -> Result:
    """A new picture with the style of the given one and no content: minimise ``beta L_style + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "content". The result
    has the style picture's aspect ratio.
    """
    s = settings_of("texture", **settings).completed("texture")
    vgg = vgg or load_vgg()

    def objective(size: int | None, style_size: int | None) -> tuple[Objective, np.ndarray]:
        a = load_image(style, style_size)
        return Objective(
            vgg,
            style=a,
            beta=s.beta,
            tv=s.tv,
            style_layers=s.style_layers,
            convention=s.convention,
            style_statistics=s.style_statistics,
        ), load_image(style, size)

    keeping = Keeping(checkpoint, checkpoint_every, resume)
    return Run("texture", vgg, objective, s, {"style": style}, {}, callback, keeping).go()


def reconstruct(
    content: Picture,
    layer: str = "conv4_2",
    *,
    vgg: VGG | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = EVERY,
    resume: str | os.PathLike[str] | Checkpoint | None = None,
    **settings: Any,
) -> Result:
    """The picture whose features at `layer` are those of the given one: minimise ``L_content + tv L_tv``.

    Parameters, returns and errors as for `transfer`; init is "noise" unless set, and cannot be "style".
    """
    s = settings_of("reconstruct", **settings).completed("reconstruct")
    vgg = vgg or load_vgg()

    def objective(size: int | None, _: int | None) -> tuple[Objective, np.ndarray]:
        p = load_image(content, size)
        return Objective(vgg, content=p, tv=s.tv, content_layers={layer: 1.0}, convention=s.convention), p

    keeping = Keeping(checkpoint, checkpoint_every, resume)
    return Run("reconstruct", vgg, objective, s, {"content": content}, {"layer": layer}, callback, keeping).go()
