"""The cells of a figure: each a picture that a use case makes, and what is measured on it; computed once, and kept.

A cell is asked for by a job, a dict that can be pickled: pictures as uint8 arrays, the weights by name, settings of
plain types. So it can be computed by any process that has this package, and the parent writes the files.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...architecture import network_digest
from ...files.checkpoint import digest
from ...files.decode import PictureError
from ...files.images import load_image, read_settings, save_image, to_bytes
from ...files.weights import WeightFile, load_vgg
from ...objective import Objective, term_name, term_parts
from ...run.processes import do_each, failing
from ...run.results import Progress, check_ended
from ...run.run import Run
from ...vgg import VGG

Job = dict[str, Any]
"""name, use_case, pictures, styles (where there are several, or a region: each picture's name, weight, mask and own
mask), settings, layer (of a reconstruction), network (of `load_vgg`), network_sha256, content_layers and style_layers
(to measure), names (what the record calls the pictures), key: see `complete_job`."""

RECORD = "figure"  # where a cell's own part stands among the settings that its PNG carries


def complete_job(job: Job) -> Job:
    """The job with its key: a digest of all that determines the picture and what is measured on it."""
    settings = {name: digest(v) if isinstance(v, np.ndarray) else v for name, v in job["settings"].items()}
    determines: dict[str, Any] = {
        "nsnumpy": __version__,
        "network": job["network_sha256"],
        "pictures": {name: digest(picture) for name, picture in job["pictures"].items()},
        "settings": settings,
        **{name: job["network"][name] for name in ("pooling", "dtype", "tf32")},
        **{name: job.get(name) for name in ("use_case", "layer", "content_layers", "style_layers")},
    }
    if "styles" in job:
        determines["styles"] = [
            (name, weight, *((mask.name, digest(mask.values)) if mask else None for mask in masks))
            for name, weight, *masks in job["styles"]
        ]
    return job | {"key": digest(json.dumps(determines, sort_keys=True))}


def compute_cell(job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    """Make a cell's picture, and measure it.

    Returns
    -------
    image : array ``(H, W, 3)``, uint8
    record : dict
        The run's settings, and at `RECORD` what belongs to the figure; JSON-serialisable.

    Raises
    ------
    JobError
        If it cannot be made; the message says why.
    """
    with failing():
        return _compute(job)


def _compute(job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    vgg = _network(job["network_sha256"], **job["network"])
    settings, pictures = job["settings"], dict(job["pictures"])
    if "styles" in job:
        styles = [(pictures.pop(name), *rest) for name, *rest in job["styles"]]
        pictures["style"] = styles
    lines: list[dict[str, Any]] = []

    def follow(progress: Progress) -> None:
        lines.append(progress.record())

    layer = {"layer": job["layer"]} if job.get("layer") else {}
    run = Run(job["use_case"], pictures, vgg=vgg, **layer, **settings)
    result = run.go(follow)
    check_ended(result)
    image = to_bytes(result.image)
    at_end = [line for line in lines if line["size"] == max(image.shape)]
    best = min(at_end, key=lambda line: line["loss"])
    record = {
        "cell": job["name"],
        "key": job["key"],
        "picture": digest(image),
        "numbers": _measure(run, image, job),
        "loss": best["loss"],
        "terms": best["terms"],
        "iterations": lines[-1]["iteration"],
        "seconds": lines[-1]["seconds"],
        "stopped": result.stopped,
    }
    return image, result.settings | job["names"] | {RECORD: record}


def _measure(run: Run, image: np.ndarray, job: Job) -> dict[str, Any]:
    """The errors of the 8-bit picture, by the same yardstick in all cells: the "relative" convention, per layer.

    Of styles by region the style error is the mean of the regions' own, each counting for its share of the positions.
    """
    x, last = image / 255, run.scales[-1]
    content = run.inputs.content(last) if job["content_layers"] else None
    style = run.inputs.style(last) if job["style_layers"] else None
    objective = Objective(
        run.vgg,
        content=content,
        style=style,
        convention="relative",
        content_layers=dict.fromkeys(job["content_layers"], 1.0),
        style_layers=dict.fromkeys(job["style_layers"], 1.0),
    )
    objective(x)
    numbers: dict[str, Any] = {"content": {}, "style": {}}
    for term, value in objective.terms.items():
        loss, layer, region = term_parts(term)
        numbers[loss][layer] = numbers[loss].get(layer, 0.0) + value
        if region:
            numbers.setdefault("regions", {}).setdefault(region, {})[layer] = value
    if "regions" in numbers:
        assert run.inputs.regions is not None
        shares = run.inputs.regions.shares(x.shape[:2], run.vgg.architecture, job["style_layers"])
        for layer in numbers["style"]:
            of_layer = [shares[region].get(layer, 0.0) for region in numbers["regions"]]
            everywhere = term_name("style", layer) in objective.terms  # a style without a region, beside the others
            numbers["style"][layer] /= (sum(of_layer) + everywhere) or 1.0
        numbers["regions"] = {
            region: {layer: value / shares[region][layer] for layer, value in of.items() if layer in shares[region]}
            for region, of in numbers["regions"].items()
        }
    if content is not None:
        numbers["pixels"] = float(np.sqrt(np.mean((x - content.astype(np.float64)) ** 2)))
    return numbers


_files: dict[str, WeightFile] = {}  # what was read of a figure's weights, until there is a network of them


def _begin(sha256: str, file: WeightFile) -> None:
    """Of a process that computes cells."""
    _files[sha256] = file


@functools.lru_cache(maxsize=1)
def _network(sha256: str, weights: str, **options: Any) -> VGG:
    """The network that is meant, made once in each process: of what was read, or, an executor's, of its own file."""
    vgg = load_vgg(_files.pop(sha256, weights), **options)
    if vgg.sha256 != sha256:
        raise ValueError(f"{weights}: not the weights that this figure was begun with; begin it again")
    return vgg


def read_cell(path: Path, key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
    """A cell that was kept, as `compute_cell` returned it; None if there is none, or it is broken, or another one."""
    try:
        record = read_settings(path)
        image = to_bytes(load_image(path))
        if (record[RECORD]["key"], record[RECORD]["picture"]) == (key, digest(image)):
            return image, record
    except (PictureError, OSError, KeyError, TypeError):
        pass
    return None


def other_cell(path: Path) -> bool:
    """Whether a picture is there that is whole: one that `read_cell` does not take is another cell's, or no cell's."""
    try:
        image = to_bytes(load_image(path))
    except (PictureError, OSError):
        return False
    try:
        return read_settings(path)[RECORD]["picture"] == digest(image)
    except (PictureError, OSError, KeyError, TypeError):
        return True


def compute_cells(
    jobs: Sequence[Job],
    folder: Path,
    file: WeightFile,
    *,
    processes: int = 1,
    executor: concurrent.futures.Executor | None = None,
    done: Callable[[Job, np.ndarray, dict[str, Any]], object],
) -> dict[str, str]:
    """Compute each job, write ``folder/NAME.png`` with its record, and call `done`, in the order in which they end.

    Parameters
    ----------
    jobs : sequence of Job
    folder : Path
        It exists.
    file : WeightFile
        Of all jobs.
    processes : int >= 1
        1 computes here, in the calling thread; more, in as many processes of their own.
    executor : Executor, or None
        Where to compute instead. It stays open.
    done : function of the job, the picture and its record

    Returns
    -------
    failures : dict from cells' names to what went wrong
    """
    failures: dict[str, str] = {}

    def finish(job: Job, made: tuple[np.ndarray, dict[str, Any]] | None, failure: str) -> None:
        if made is None:
            failures[job["name"]] = failure
            return
        save_image(folder / f"{job['name']}.png", made[0] / 255, made[1])
        done(job, *made)

    try:
        given = (network_digest(file.weights, file.preprocessing), file)
        do_each(compute_cell, jobs, finish, processes=processes, executor=executor, begin=_begin, given=given)
        return failures
    finally:
        _files.clear()
        _network.cache_clear()


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it is read back from its file."""
    return json.loads(json.dumps(record))
