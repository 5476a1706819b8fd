"""The commands that make the paper's figures."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..architecture import layer_names
from ..backend import check_tf32
from ..files.writing import check_filled
from ..run.plan import Plan, plan
from ..run.settings import USE_CASES, Settings
from ..study.figure.claims import REFUTED, FigureCell
from ..study.figure.figure import Figure, content_figure, style_figure, tradeoff_figure
from ..study.figure.plan import FIGURE_DEFAULTS, FIGURE_LAYERS, KINDS, RATIOS, SET_BY_FIGURE, figure_settings
from .cluster import add_cluster, cluster_in
from .command import add_command, checking, duration, plural, say, tell
from .options import add_settings, layer, network_in, non_negative, positive, several
from .pictures import add_styles, open_pictures, read_once
from .planned import gigabytes
from .regions import add_regions
from .watch import progress_bar

_MAKERS: dict[str, Callable[..., Figure]] = {
    "content": content_figure,
    "style": style_figure,
    "tradeoff": tradeoff_figure,
}
_HELP = {
    "content": "make PHOTO again from what single layers know of it",
    "style": "make PAINTING's style again from growing sets of layers",
    "tradeoff": "PHOTO in the style of STYLE: a row per set of style layers, a column per alpha/beta",
}
_EXAMPLES = {
    "content": "sample:coast",
    "style": "sample:starry",
    "tradeoff": "sample:coast sample:starry --ratios 0.001,0.01,0.1",
}
_SHOWN = {"content": "PHOTO", "style": "PAINTING", "tradeoff": "PHOTO STYLE [STYLE ...]"}


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """figure, with content, style and tradeoff below it."""
    figure = add_command(
        commands,
        "figure",
        told["figure"],
        *(f"nsnumpy figure {kind} {given} -o {kind}/" for kind, given in _EXAMPLES.items()),
        description="The paper's figures. The same command again computes only what is missing in FOLDER; "
        "with other settings it\ntakes another folder.",
    )
    kinds = figure.add_subparsers(title="figures", required=True, metavar="FIGURE")
    for kind, help in _HELP.items():
        command = add_command(
            kinds,
            kind,
            help,
            f"nsnumpy figure {kind} {_EXAMPLES[kind]} -o {kind}/",
            description=f"{help[0].upper()}{help[1:]}. Writes sheet.png, figure.json and each picture into FOLDER.",
            usage=f"%(prog)s {_SHOWN[kind]} -o FOLDER [options]",
        )
        if kind != "style":
            command.add_argument("content", metavar="PHOTO", help="the photo")
        if kind == "style":
            command.add_argument("style", metavar="PAINTING", help="the painting")
        if kind == "tradeoff":
            add_styles(command)
        command.add_argument("-o", "--output", metavar="FOLDER", required=True, help="made if it does not exist")
        command.add_argument(
            "--layers",
            metavar="NAME,...",
            type=_names,
            default=FIGURE_LAYERS,
            help=f"the layers{'' if kind == 'content' else ', each added to those before it'} "
            f"({','.join(FIGURE_LAYERS)})",
        )
        if kind == "tradeoff":
            shown = "; ".join(f"{name}: {','.join(f'{r:g}' for r in ratios)}" for name, ratios in RATIOS.items())
            command.add_argument(
                "--ratios", metavar="R,...", type=_ratios, help=f"alpha/beta of the columns; beta is held ({shown})"
            )
        more = add_settings(command, KINDS[kind], SET_BY_FIGURE[kind], FIGURE_DEFAULTS[kind])
        if kind == "tradeoff":
            add_regions(more)
        command.add_argument(
            "--jobs", metavar="N", type=positive, default=1, help="cells at a time, each in a process of its own (1)"
        )
        add_cluster(command, "the cells")
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
        command.set_defaults(run=_run, kind=kind, use_case=KINDS[kind])


def _names(text: str) -> list[str]:
    """Layers, each once."""
    names = [layer(part.strip()) for part in text.split(",")]
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"each layer once expected; {text!r} given")
    return names


def _ratios(text: str) -> list[float]:
    """Numbers, each once."""
    ratios: list[float] = several(non_negative)(text)
    if len(set(ratios)) < len(ratios):
        raise argparse.ArgumentTypeError(f"each number once expected; {text!r} given")
    return ratios


def _run(arguments: argparse.Namespace) -> int:
    kind, given = arguments.kind, vars(arguments)
    with checking():
        check_tf32(arguments.tf32, arguments.device, arguments.dtype)
        if arguments.cluster and arguments.jobs > 1:
            raise ValueError("--jobs and --cluster: a cluster's workers have a cell each; leave one out")
        folder = check_filled(arguments.output)
    settings = {f.name: given[f.name] for f in fields(Settings) if f.name in given}
    options = network_in(arguments)
    options |= {name: given[name] for name in ("weights", "jobs", "layers", "ratios") if name in given}
    pictures: dict[str, Any]
    told: list[str] = []
    with checking():
        if kind == "tradeoff":
            pictures, told = open_pictures(arguments, figure_settings(kind, settings), lambda path, _: read_once(path))
        else:
            pictures = {name: read_once(given[name]) for name in USE_CASES[KINDS[kind]].pictures}
        planned = None if arguments.quiet else _plan(arguments, pictures, settings)
    for line in () if arguments.quiet else told:
        tell(line)
    with cluster_in(arguments) as cluster:
        if cluster:
            threads = arguments.threads or cluster.threads
            cells = cluster.client.get_executor(workers=list(cluster.workers), allow_other_workers=True)
            options |= {"executor": cells, "threads": threads}
        return _make(arguments, list(pictures.values()), folder, options | settings, planned)


def _make(
    arguments: argparse.Namespace, pictures: list[Any], folder: Path, options: dict[str, Any], planned: Plan | None
) -> int:
    stand: list[int] = []
    with progress_bar(arguments.quiet, unit="cell") as bar:

        def report(done: int, total: int, cell: FigureCell | None) -> None:
            stand[:] = done, total
            bar.total = total
            if planned and not cell:
                tell(_planned(planned, done, total, arguments.jobs))
            if cell:
                bar.set_postfix_str(cell.name, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        try:
            figure = _MAKERS[arguments.kind](*pictures, folder, callback=report, **options)
        except KeyboardInterrupt:
            if not stand:
                raise
            bar.close()
            say(f"interrupted; {stand[0]} of {stand[1]} cells are kept in {folder}, and the same command goes on")
            return 128 + signal.SIGINT
    if not arguments.quiet:
        tell(_summary(figure))
    if figure.failures:
        say(f"error: {_failed(figure)}")
    return int(bool(figure.failures))


def _plan(arguments: argparse.Namespace, pictures: dict[str, Any], settings: dict[str, Any]) -> Plan:
    """What the cell takes that takes most: the one of the deepest layer, or of all of them."""
    kind, layers = arguments.kind, arguments.layers
    if kind != "content":
        settings = settings | {"style_layers": layers}
    layer = {"layer": max(layers, key=layer_names("vgg19").index)} if kind == "content" else {}
    options = network_in(arguments) | layer | settings
    return plan(KINDS[kind], **pictures, weights=arguments.weights, **options)


def _planned(planned: Plan, done: int, total: int, jobs: int) -> str:
    height, width = planned.size
    missing = total - done
    kept = f", {done} kept from before" if done else ""
    seconds, memory = missing * planned.total_seconds, min(jobs, missing) * planned.peak_bytes
    takes = f": at most about {duration(seconds)} and {gigabytes(memory)} of memory" if missing else ""
    return f"{width} x {height}: {plural(total, 'cell')}{kept}{takes}"


def _summary(figure: Figure) -> str:
    kept = len(figure.cells) - figure.computed - len(figure.failures)
    cells = plural(len(figure.cells), "cell")
    lines = [f"{figure.sheet}: {cells}, {figure.computed} computed, {kept} kept from before"]
    verdicts = {True: "yes", False: "NO", None: "cannot be told"}
    lines += [f"  {claim.text}: {verdicts[claim.holds]}" for claim in figure.claims]
    lines += [REFUTED] if False in [claim.holds for claim in figure.claims] else []
    return "\n".join(lines)


def _failed(figure: Figure) -> str:
    """The cells that failed, those together that failed alike."""
    alike: dict[str, list[str]] = {}
    for name, error in figure.failures.items():
        alike.setdefault(error, []).append(name)
    return "; ".join(f"{', '.join(names)}: {error}" for error, names in alike.items())
