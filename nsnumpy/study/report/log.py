"""A run's log read again, the file that ``--log`` writes, and what can be made of it: plots, and a page."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files.checkpoint import VERSIONS
from ...files.images import load_image, read_settings
from ...files.writing import atomic_path, check_folder
from ...objective import term_parts
from ...run.results import NETWORK
from .page import Contents, graphs_of, result_line, title_of
from .plots import FAMILIES, PLOT_SUFFIXES, Line, curves_of, plots_in_file, scales
from .report import ReportError, check_matplotlib, check_report, shown_result, write_page

_LONGEST = 1 << 20  # bytes of a line; what has longer ones is no log


class LogError(ValueError):
    """A file that is not the log of one run; the message says which, and what is wrong with it."""


def read_log(path: str | os.PathLike[str]) -> list[Line]:
    """The history of a run, as `Result.history`, from the file that ``--log`` wrote.

    Parameters
    ----------
    path : path

    Raises
    ------
    LogError
        If it is empty, or not a log, or has several runs in it.
    OSError
        If it cannot be read.

    Warns
    -----
    UserWarning
        If the last line is cut off, as that of a run that was killed may be; the whole lines are returned.
    """
    history: list[Line] = []
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            found = _line(line)
            if found is None and history and not line.endswith(b"\n") and not file.read(1):
                cut = f"{path}: its last line is cut off: the run was killed, perhaps; the {len(history)} before it are"
                warnings.warn(f"{cut} taken", stacklevel=2)
                break
            if found is None:
                raise LogError(f"{path}: line {number} is none of a log, such as `--log run.jsonl` writes for a run")
            if history and not _follows(history[-1], found):
                raise LogError(
                    f"{path}: line {number} begins another run; a log of one alone is expected, so cut it there"
                )
            history.append(found)
    if not history:
        raise LogError(f"{path}: empty; a run writes its log from its first iterate on")
    return history


def check_log(path: Path) -> None:
    """LogError or OSError if a run could not write its log at `path`, or something else is there."""
    check_folder(path)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if _line(file.readline(_LONGEST)) is None:
                raise LogError(f"{path}: is there, and is no log of a run; choose another name")


def _line(line: bytes) -> Line | None:
    """A line of a log, or None."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):  # no text, no JSON, or nested without end
        return None
    if not isinstance(found, dict):
        return None
    terms, norms = found.get("terms"), found.get("gradient_norms")
    if not (isinstance(terms, dict) and isinstance(norms, dict) and terms and norms.keys() == {*terms, "pixels"}):
        return None
    whole = [found.get(name) for name in ("iteration", "size")]
    numbers = [*(found.get(name) for name in ("loss", "step", "seconds")), *terms.values(), *norms.values()]
    known = {term_parts(term)[0] for term in terms} <= FAMILIES.keys()
    return found if known and all(map(_is_whole, whole)) and all(map(_is_number, numbers)) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _follows(before: Line, line: Line) -> bool:
    """Whether a line is of the same run: the next iteration, or the start of the next scale."""
    grows = line["iteration"] > before["iteration"] and line["size"] == before["size"]
    begins = line["iteration"] == before["iteration"] and line["size"] > before["size"]
    return (grows or begins) and line["terms"].keys() == before["terms"].keys()


def check_plot(path: str | os.PathLike[str]) -> Path:
    """`path` as a Path if a plot can be written there, so that one knows beforehand.

    Raises
    ------
    ReportError
        If matplotlib is missing, or the suffix is not that of a plot.
    OSError
        If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise ReportError(f"{path}: cannot tell the format of the plot; end its name in {', '.join(PLOT_SUFFIXES)}")
    check_folder(path)
    check_matplotlib("a plot")
    return path


def write_plot(path: str | os.PathLike[str], history: Sequence[Line], title: str = "") -> None:
    """Write the curves of a run: loss and terms, norms of the gradients, step; all of the file, or nothing.

    Parameters
    ----------
    path : path that ends in .png, .svg or .pdf
    history : lines of `Result.history`, or of `read_log`
    title : str

    Raises
    ------
    ReportError
        If matplotlib is missing, or the suffix is none of these.
    OSError
        If the file cannot be written.

    Examples
    --------
    ::

        ns.write_plot("plot.png", ns.read_log("run.jsonl"))
    """
    path = check_plot(path)
    with atomic_path(path) as temporary:
        plots_in_file(temporary, history, graphs_of(history, curves_of(list(history[0]["terms"]))), title)


def write_log_report(
    path: str | os.PathLike[str],
    history: Sequence[Line],
    picture: str | os.PathLike[str] | None = None,
    title: str = "A run",
) -> None:
    """Write the page about a run as far as its log knows it: what `write_report` shows of the loss, and times.

    Parameters
    ----------
    path : path that ends in .html
    history : lines of `Result.history`, or of `read_log`
    picture : path, or None
        The run's result; the page then shows it, with the settings that are embedded in it.
    title : str
        Of the page, if there is no picture that says what was made.

    Raises
    ------
    ReportError
        If matplotlib is missing, the suffix is not that of a page, or the picture is not this run's result.
    PictureError
        If the picture cannot be read, or carries no settings.
    OSError
        If a file cannot be read or written.
    """
    path = check_report(path)
    settings: Mapping[str, Any] = {}
    pictures, aspect = [], None
    loss = min(line["loss"] for line in scales(history)[-1])
    if picture is not None:
        settings, image = read_settings(picture), load_image(picture)
        try:
            title, loss = title_of(settings), settings["loss"]
            known = math.isclose(result_line(history, loss)["loss"], loss, rel_tol=1e-6)
        except (KeyError, TypeError, AttributeError):  # whatever a picture carries
            known = False
        if not known:
            raise ReportError(f"{picture}: not the result of this run: its log has no such loss")
        pictures, aspect = [shown_result(image)], (image.shape[1], image.shape[0])
    contents = Contents(
        title=title,
        loss=loss,
        settings=settings,
        network={name: settings[name] for name in NETWORK if name in settings},
        versions={name: settings[name] for name in VERSIONS if name in settings},
        history=history,
        pictures=pictures,
        aspect=aspect,
    )
    write_page(path, contents)
