"""A run watched from Python: a bar, and in a notebook its picture and its loss, as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..run.results import Progress
from .report.plots import data_uri, number
from .report.report import jpeg_of

WIDTH, HEIGHT = 480, 96  # pixels of the curve


class Bar:
    """A bar of the iterations, with the loss and the time that is left, as the `callback` of a run, or of a blend.

    In a notebook it is tqdm's own for notebooks, if ipywidgets is installed; elsewhere a line on standard error.

    Examples
    --------
    ::

        result = ns.transfer("photo.jpg", "painting.jpg", callback=ns.Bar())
    """

    def __init__(self) -> None:
        from tqdm.auto import tqdm  # not before it is needed: it takes long to load

        self._made: Callable[..., Any] = tqdm
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show a step; one that goes back is of another run."""
        if self._bar is None or progress.iteration < self._bar.n:
            if self._bar:
                self._bar.close()
            self._bar = self._made(total=progress.iterations, initial=progress.iteration, unit="it", dynamic_ncols=True)
        self._bar.total = progress.iterations  # fewer, once a scale has ended early
        self._bar.set_postfix_str(f"loss {progress.loss:.4g}", refresh=False)
        self._bar.update(progress.iteration - self._bar.n)
        if progress.iteration == progress.iterations:
            self._bar.close()


class Live:
    """Shows a run below the cell of a notebook while it goes on, as the run's `callback`.

    Parameters
    ----------
    every : float
        Seconds from one picture to the next.
    size : int
        The long side in pixels at which it is shown.

    Raises
    ------
    RuntimeError
        If this is no notebook, or IPython is missing.
    ValueError
        If the seconds are less than 0, or the size less than 1.

    Examples
    --------
    ::

        result = ns.transfer("photo.jpg", "painting.jpg", callback=ns.Live())
    """

    def __init__(self, every: float = 0.5, size: int = 512) -> None:
        if not every >= 0 or size < 1:
            raise ValueError(f"every is 0 or more seconds and size 1 or more; got every={every}, size={size}")
        self._display = _display()
        self._every, self._size = every, size
        self._losses: list[float] = []
        self._due = 0.0
        self._handle: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show a step, if it is time, or if it is the first one or the last."""
        self._losses.append(progress.loss)
        now = time.monotonic()
        if now < self._due and self._handle and progress.iteration < progress.iterations:
            return
        shown = _Shown(self._html(progress))
        if self._handle is None:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)
        self._due = time.monotonic() + self._every

    def _html(self, progress: Progress) -> str:
        picture = data_uri("image/jpeg", jpeg_of(progress.image, self._size, 85))
        size = max(progress.x.shape)
        caption = (
            f"iteration {progress.iteration} of {progress.iterations}, {size} pixels, loss {number(progress.loss)}"
        )
        height, width = (round(side * self._size / size) for side in progress.x.shape[:2])
        return (
            f'<figure style="margin:0"><img src="{picture}" width="{width}" height="{height}" alt="The picture so far">'
            f"<figcaption>{caption}</figcaption>{curve(self._losses)}</figure>"
        )


class _Shown:
    """What a notebook shows of it, as IPython asks for it."""

    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html


def curve(losses: Sequence[float]) -> str:
    """The losses over the iterations, on a logarithmic scale, as an SVG element; "" of fewer than two."""
    every = -(-len(losses) // WIDTH)
    values = [math.log(max(loss, 1e-300)) for loss in losses[::every]]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    across, down = WIDTH / (len(values) - 1), (HEIGHT - 4) / ((high - low) or 1.0)
    points = " ".join(f"{n * across:.1f},{2 + (high - value) * down:.1f}" for n, value in enumerate(values))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" style="max-width:100%;display:block" '
        f'role="img" aria-label="The loss, from {number(losses[0])} to {number(losses[-1])}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def _display() -> Any:
    """IPython's `display`; RuntimeError if there is no notebook to show it in."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError as error:
        raise RuntimeError("Live shows a run in a notebook, and IPython is not installed here") from error
    if get_ipython() is None:
        raise RuntimeError("Live shows a run in a notebook, and this is none; give another callback")
    return display
