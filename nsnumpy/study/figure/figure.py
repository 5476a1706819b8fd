"""The paper's figures: what layers know of a picture, what sets of layers make of a style, and the two together [1].

Each figure is a folder of pictures, a sheet of them with labels and numbers, and all of it as JSON. What the figure is
there to show stands on the sheet as claims, with their numbers, and whether they hold.

References
----------
[1] Gatys, Ecker, Bethge 2015, A Neural Algorithm of Artistic Style, arXiv:1508.06576, figures 1 and 3.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...files.images import Picture, save_image
from ...files.writing import atomic_path, check_distinct, check_filled, check_folder
from ...machine import usable_cores
from ...run.inputs import Styles, pictures_of, style_names
from ..contact import Sheet, most_detailed
from .cells import RECORD, Job, compute_cells, other_cell, plain, read_cell
from .claims import Claim, FigureCell, content_claims, style_claims, tradeoff_claims
from .plan import FIGURE_LAYERS, KINDS, FigurePlan, figure_files, plan_figure, settings_line
from .sheet import content_sheet, style_sheet, tradeoff_sheet

_REGION = 4  # the enlarged region of the content figure is a square of the long side over this

Callback = Callable[[int, int, FigureCell | None], object]


@dataclass(frozen=True)
class Figure:
    """A figure as it was made.

    Attributes
    ----------
    kind : "content", "style" or "tradeoff"
    folder, sheet, json : Path
        Where it is, and its sheet and its numbers there.
    cells : list of FigureCell
        In the sheet's order, row by row.
    claims : list of Claim
    computed : int
        How many of the cells were computed now; the others were kept from before.
    """

    kind: str
    folder: Path
    sheet: Path
    json: Path
    cells: list[FigureCell] = field(repr=False)
    claims: list[Claim]
    computed: int

    @property
    def failures(self) -> dict[str, str]:
        """The names of the cells that could not be made, and why not."""
        return {cell.name: cell.error for cell in self.cells if cell.error}

    def _repr_png_(self) -> bytes | None:
        """The sheet, for a notebook; None if its file is no longer there."""
        return self.sheet.read_bytes() if self.sheet.is_file() else None


def content_figure(
    photo: Picture,
    folder: str | os.PathLike[str],
    *,
    layers: Iterable[str] = FIGURE_LAYERS,
    callback: Callback | None = None,
    **options: Any,
) -> Figure:
    """Content reconstructions of a photograph from single layers, from white noise.

    Claim: the pixel error grows with the layer's depth.

    Parameters
    ----------
    photo : picture
        See `load_image`.
    folder : path
        For the pictures, ``sheet.png`` and ``figure.json``; made if it does not exist. Cells that are there already,
        with the same settings, are not computed again.
    layers : names
        In any order; the figure has them in that of their depth.
    callback : function of done, total and a `FigureCell`, or None
        Called at the start, with the number of cells that were kept and None, and for each cell that is computed.
    **options
        Of the network, as `load_vgg` takes them: weights, pooling, device, dtype, tf32, threads.

        jobs : int: 1 computes in this process, N in as many others (the script that calls this then needs the usual
        ``if __name__ == "__main__"``), each with the usable cores over N as threads, unless threads is given.

        executor : `concurrent.futures.Executor`: computes the cells instead, each with one thread, unless threads is
        given; it is not shut down. For a Dask cluster, that is ``client.get_executor()``. Its processes must find the
        weight file under the same path.

        All else: fields of `Settings`; `FIGURE_DEFAULTS` has the defaults that are not the use case's own.

    Returns
    -------
    Figure
        A cell that failed has its ``error``; the others are made all the same.

    Raises
    ------
    ValueError
        If a picture, a weight file or a setting cannot be used.
    OSError
        If the folder cannot be made or written to.
    KeyboardInterrupt
        After Ctrl-C; the cells that were done are kept.
    """
    return _figure("content", {"content": photo}, folder, layers, None, callback, **options)


def style_figure(
    painting: Picture,
    folder: str | os.PathLike[str],
    *,
    layers: Iterable[str] = FIGURE_LAYERS,
    callback: Callback | None = None,
    **options: Any,
) -> Figure:
    """Style reconstructions of a painting from growing sets: the first of the layers, the first two, ... all of them.

    Claim: the style error at a layer falls when that layer is added to the set.

    Parameters, returns and errors as for `content_figure`; the layers are added in the order that they are given in.
    """
    return _figure("style", {"style": painting}, folder, layers, None, callback, **options)


def tradeoff_figure(
    photo: Picture,
    painting: Styles,
    folder: str | os.PathLike[str],
    *,
    layers: Iterable[str] = FIGURE_LAYERS,
    ratios: Iterable[float] | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Figure:
    """The photograph in the painting's style: a row for each growing set of style layers, a column for each alpha/beta.

    Claims: in each row, as alpha / beta falls, the content error rises and the style error falls.

    The painting may be several, as for `transfer`; with (painting, weight, mask), for parts of the photograph, a cell
    has the style error of each region, too.

    Parameters, returns and errors as for `style_figure`, and ratios: numbers, or None, which takes `RATIOS`, by the
    convention. beta is the convention's default, alpha is ratio times beta.
    """
    pictures: dict[str, Styles] = {"content": photo, "style": painting}
    return _figure("tradeoff", pictures, folder, layers, ratios, callback, **options)


def _figure(
    kind: str,
    pictures: Mapping[str, Styles],
    folder: str | os.PathLike[str],
    layers: Iterable[str],
    ratios: Iterable[float] | None,
    callback: Callback | None,
    *,
    jobs: int = 1,
    executor: concurrent.futures.Executor | None = None,
    **options: Any,
) -> Figure:
    if jobs < 1:
        raise ValueError(f"jobs is 1 or more, not {jobs}")
    if options.get("threads") is None and (executor is not None or jobs > 1):
        options["threads"] = 1 if executor is not None else max(1, usable_cores() // jobs)
    planned = plan_figure(kind, pictures, layers, ratios, **options)
    folder = check_filled(folder)
    written = [folder / name for name in figure_files(planned.cells)]
    of_styles = [
        thing for named in pictures_of(KINDS[kind], pictures) for thing in (named.picture, named.mask, named.own)
    ]
    read = (*of_styles, planned.settings.init, planned.network["weights"])
    check_distinct(written, [path for path in read if isinstance(path, str | os.PathLike)])
    _check_not_anothers(folder, planned)
    folder.mkdir(exist_ok=True)
    for path in written:
        check_folder(path)
    sheet_path, json_path = written[-2:]
    made = {cell.name: cell for cell in planned.cells}
    missing: list[Job] = []
    for job in planned.jobs:
        kept = read_cell(folder / made[job["name"]].file, job["key"])
        if kept:
            made[job["name"]] = _filled(made[job["name"]], kept[0], kept[1] | job["names"])
        else:
            missing.append(job)
    _check_ours(folder, [made[job["name"]].file for job in missing], sheet_path, json_path)
    if missing:  # what they say will no longer be so
        sheet_path.unlink(missing_ok=True)
        json_path.unlink(missing_ok=True)
    done = len(made) - len(missing)

    def report(cell: FigureCell | None) -> None:
        if callback:
            callback(done, len(made), cell)

    def finish(job: Job, image: np.ndarray, record: dict[str, Any]) -> None:
        nonlocal done
        made[job["name"]] = _filled(made[job["name"]], image, plain(record))
        done += 1
        report(made[job["name"]])

    report(None)
    failures = compute_cells(missing, folder, planned.file, processes=jobs, executor=executor, done=finish)
    cells = [replace(cell, error=failures.get(name, "")) for name, cell in made.items()]
    sheet, claims, region = _drawn(planned, cells)
    with atomic_path(json_path) as temporary:  # before the sheet, which it tells to be a figure's
        temporary.write_text(json.dumps(_json(planned, cells, claims) | region, indent=1) + "\n", encoding="utf-8")
    save_image(sheet_path, np.asarray(sheet.image) / 255)
    return Figure(kind, folder, sheet_path, json_path, cells, claims, len(missing) - len(failures))


def _check_not_anothers(folder: Path, planned: FigurePlan) -> None:
    """ValueError if the folder holds another figure, or that of other pictures."""
    try:
        held = json.loads((folder / "figure.json").read_text(encoding="utf-8"))
        kind, pictures = held["figure"], held["pictures"]
        names = {name: held[name] for name in pictures}
    except (OSError, ValueError, KeyError, TypeError):
        return
    ours = {name: planned.names[name] for name in planned.pictures}
    if kind != planned.kind or (names != ours and pictures != planned.digests):
        raise ValueError(f"{folder}: holds the {kind} figure of {' and '.join(names.values())}; choose another folder")


def _check_ours(folder: Path, missing: Sequence[str], sheet: Path, record: Path) -> None:
    """ValueError if a file that would be replaced is no figure's, or a cell that was made with other settings."""
    if sheet.exists() and not record.exists():
        raise ValueError(f"{sheet}: is there, and not of a figure; choose another folder")
    if record.exists():
        try:
            ours = "figure" in json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise ValueError(f"{record}: is there, and not of a figure; choose another folder")
    others = [file for file in missing if other_cell(folder / file)]
    if others:
        raise ValueError(
            f"{folder / others[0]}: is there, made with other settings or by someone else; choose another folder, or "
            f"remove it{f' and {len(others) - 1} more like it' if len(others) > 1 else ''}"
        )


def _filled(cell: FigureCell, image: np.ndarray, record: dict[str, Any]) -> FigureCell:
    """The cell with what its record says."""
    settings = {name: value for name, value in record.items() if name != RECORD}
    own = record[RECORD]
    numbers = dict(own["numbers"])
    # A photograph's errors are averaged over the layers of its loss; of a reconstruction that is the one layer.
    layers = {"content": cell.layers if "layer" in settings else list(numbers["content"]), "style": cell.layers}
    for loss in [name for name in ("content", "style") if numbers[name]]:
        numbers[f"{loss}_error"] = float(np.mean([numbers[loss][name] for name in layers[loss]]))
    if "regions" in numbers:
        numbers["region_errors"] = {
            name: float(np.mean([*of.values()])) for name, of in numbers["regions"].items() if of
        }
    known = {name: own[name] for name in ("loss", "terms", "iterations", "seconds", "stopped", "key")}
    return replace(cell, numbers=numbers, settings=settings, image=image, **known)


def _drawn(planned: FigurePlan, cells: Sequence[FigureCell]) -> tuple[Sheet, list[Claim], dict[str, Any]]:
    """The sheet, its claims, and the region that it enlarges, if it does."""
    names, read, line = planned.names, planned.pictures, settings_line(planned)
    if planned.kind == "content":
        p = read["content"]
        region = most_detailed(p, max(p.shape) // _REGION)
        claims = content_claims(cells)
        title = f"Content reconstructions of {names['content']} from single layers"
        return content_sheet(title, line, p, region, cells, claims), claims, {"region": region}
    if planned.kind == "style":
        claims = style_claims(cells)
        title = f"Style reconstructions of {names['style']} from growing sets of layers"
        return style_sheet(title, line, read["style"], planned.layers, cells, claims), claims, {}
    assert planned.ratios is not None  # a tradeoff has them
    across = len(planned.ratios)
    rows = [cells[k : k + across] for k in range(0, len(cells), across)]
    claims = tradeoff_claims(rows)
    styles = " and ".join(dict.fromkeys(names[name] for name in style_names(names)))
    title = f"{names['content']} in the style of {styles}: content against style"
    return tradeoff_sheet(title, line, list(read.values()), rows, claims), claims, {}


def _json(planned: FigurePlan, cells: Sequence[FigureCell], claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "figure": planned.kind,
        "nsnumpy": __version__,
        **planned.names,
        "pictures": planned.digests,
        "network_sha256": planned.network_sha256,
        "layers": planned.layers,
        "ratios": planned.ratios,
        "claims": [claim.record() for claim in claims],
        "cells": [{name: value for name, value in vars(cell).items() if name != "image"} for cell in cells],
    }
