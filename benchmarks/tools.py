"""nsnumpy beside the tools themselves, each as a whole process: loss against time, the pictures judged, peak memory.

    python benchmarks/tools.py --weights FILE [--neural-style-pt FOLDER] [--style-transfer-pytorch FOLDER]
        [--content PICTURE] [--style PICTURE] [--size 384] [--iterations 300] [--scale-iterations 500]
        [--pooling max] [--threads N] [-o FOLDER] [--json FILE]

FOLDER is a clone of ProGamerGov's neural-style-pt, or of crowsonkb's style-transfer-pytorch. Both pictures are written
as PNG at the size of the result, so that all start from the same pixels, and the weights in each tool's own form,
behind its own preprocessing (`behind`). A VGG-16 goes to style-transfer-pytorch, which knows VGG-19 alone, with
convolutions more that change nothing (`states`); it takes the time of these.

- neural-style-pt runs so many iterations from the photograph, at its defaults but for -tv_weight 0, since its total
  variation is another function. Ours have the same weights, layers, pooling and convention, jcjohnson; they are stopped
  (Ctrl-C) once they report the last loss that it has reported, or end after as many iterations. One is in the box
  [0, 1], our default, and one is not, as it is not: its pixels leave [0, 1], and are clipped when they are saved. So
  told are also the loss of each saved picture, and when ours in the box has come to that of its picture.
- style-transfer-pytorch has losses of its own, and three to five scales. Beside it runs `nsnumpy transfer` at its
  defaults, with the same weights and size. What they report cannot be compared; how their pictures are judged can.

Of each process are told its wall time and the time of all its threads, start and weights included, its peak memory
(Linux), and the errors that the network of --weights finds in the picture that it saved (`measures.Judge`).
Writes benchmarks/tools.json; the pictures into -o. Needs PyTorch and, for the tools, torchvision.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from compare import HERE, environment, say
from measures import Judge

import nsnumpy as ns
from nsnumpy.architecture import Preprocessing, layer_names
from nsnumpy.cli.command import Parser, run_program
from nsnumpy.cli.options import positive
from nsnumpy.files.writing import check_folder
from nsnumpy.machine import restart_with_better_kernel, usable_cores

TICK = 0.05  # seconds between two looks at a process
CURVE = 40  # points of each curve in the JSON file
WIDTHS = (64, 128, 256, 512, 512)
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CONTENT = "conv4_2"
ALPHA, BETA = 5.0, 100.0  # neural-style-pt's defaults
# What the tools feed their networks: neural-style-pt 256 times the pixels, though 8 bits end at 255.
CAFFE = Preprocessing("BGR", 256.0, (103.939, 116.779, 123.68))
TORCHVISION = Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# (iteration, loss) as each program reports them
REPORTED = {
    "neural-style-pt": re.compile(r"^Iteration (\d+) / \d+\n(?: .*\n)*?  Total loss: (\S+)\n", re.MULTILINE),
    "style-transfer-pytorch": re.compile(r"^Size: \d+x\d+, iteration: (\d+), loss: (\S+)\n", re.MULTILINE),
    "nsnumpy": re.compile(r'^\{"iteration": (\d+), .*?"loss": ([^,]+), .*\}\n', re.MULTILINE),
}

Point = tuple[int, float, float, float]
"""(iteration, loss, seconds, CPU seconds)."""


def behind(file: ns.WeightFile, fed: Preprocessing) -> ns.WeightFile:
    """The same network behind another preprocessing, for which the first layer makes up.

    The file's network sees ``z = g x + o`` of a pixel's channel, the other one ``z' = g' x + o'``: so z is ``r z' + s``
    with ``r = g / g'`` and ``s = o - r o'``; r goes into the weights, s into the bias. The two are the same but for
    the outermost pixels where both are padded with zeros, which are another colour unless o / g is o' / g'.
    """
    weight, bias = (np.asarray(array, np.float64) for array in file.weights["conv1_1"])
    (g, o), (h, q) = (
        np.array(p.affine())[:, :: -1 if p.channel_order == "BGR" else 1] for p in (file.preprocessing, fed)
    )
    weight = weight[:, :, :: -1 if file.preprocessing.channel_order == "BGR" else 1]
    bias = bias + weight.sum((0, 1)).T @ (o - g / h * q)
    weight = (weight * (g / h)[:, None])[:, :, :: -1 if fed.channel_order == "BGR" else 1]
    first = (weight.astype(np.float32), bias.astype(np.float32))
    return ns.WeightFile(file.weights | {"conv1_1": first}, file.architecture, fed, file.pooling)


def states(file: ns.WeightFile, architecture: str) -> dict[str, np.ndarray]:
    """The network as PyTorch's models name and lay it out: "features.0.weight" ``(C_out, C_in, 3, 3)``, ...

    A layer that the file has not becomes the identity, which no value after a ReLU can be told from: so a VGG-16 is a
    VGG-19. The classifier is zeros, one stored.
    """
    made, index = {}, 0
    for name in layer_names(architecture):
        if name.startswith("pool"):
            index += 1
            continue
        filters = WIDTHS[int(name[4]) - 1]
        if name in file.weights:
            weight, bias = file.weights[name]
        else:
            weight, bias = np.zeros((3, 3, filters, filters), np.float32), np.zeros(filters, np.float32)
            weight[1, 1] = np.eye(filters)
        if bias.shape != (filters,):
            raise ValueError(f"{file.name}: {name} has {len(bias)} filters; the tools' VGG has {filters}")
        made[f"features.{index}.weight"] = np.ascontiguousarray(weight.transpose(3, 2, 0, 1), np.float32)
        made[f"features.{index}.bias"] = np.asarray(bias, np.float32)
        index += 2  # and its ReLU
    for index, shape in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
        made[f"classifier.{index}.weight"] = np.broadcast_to(np.float32(0), shape)
        made[f"classifier.{index}.bias"] = np.zeros(shape[0], np.float32)
    return made


def save_states(path: Path, made: dict[str, np.ndarray]) -> None:
    import torch

    tensors = {}
    for name, array in made.items():
        one = array[(slice(1),) * array.ndim] if 0 in array.strides else array
        tensors[name] = torch.from_numpy(one.copy()).expand(array.shape)
    torch.save(tensors, path)


def follow(
    command: Iterable[Any],
    folder: Path,
    reported: re.Pattern[str],
    output: str = "stdout",
    until: float = -np.inf,
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run a command in a folder, and note when it reports each loss.

    Parameters
    ----------
    reported : pattern of what it says of an iteration; its groups are the iteration and the loss
    output : the file in `folder` where it says so
    until : float
        Once a loss after iteration 0 is as low, the command gets Ctrl-C; what it reports then is left out.
    variables : further ones of its environment, or None

    Returns
    -------
    dict: "points", a list of `Point`; "seconds", "cpu" and "peak_bytes" of the process

    Raises
    ------
    ValueError
        If the command fails, with the last line that it said, or says nothing that can be read.
    """
    words = [str(word) for word in command]
    own = {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
    points: list[Point] = []
    before, cpu, peak, said, stopped = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0, 0, b"", False
    (folder / output).unlink(missing_ok=True)  # of an earlier run
    start = time.perf_counter()
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        process = subprocess.Popen(
            words,
            cwd=folder,
            stdout=out,
            stderr=err,
            env=os.environ | own | (variables or {}),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores Ctrl-C
        )
    try:
        running = True
        while running:
            running = process.poll() is None  # before the look, so that the last words are seen, too
            with suppress(OSError, LookupError):
                cpu, peak = usage(process.pid)
            seconds = time.perf_counter() - start
            if (folder / output).exists() and len(said) != (folder / output).stat().st_size:
                said = (folder / output).read_bytes()
                found = reported.findall(said.decode(errors="replace"))
                points += [(int(iteration), float(loss), seconds, cpu) for iteration, loss in found[len(points) :]]
            reached = [k for k, (iteration, loss, *_) in enumerate(points) if iteration and loss <= until]
            if reached and running and not stopped:
                process.send_signal(signal.SIGINT)
                stopped = True
            time.sleep(TICK if running else 0)
    finally:
        process.kill()
    # Ctrl-C while Python ends is no longer caught: the picture is written then.
    if process.wait() not in ((0, 130, -signal.SIGINT) if stopped else (0,)):
        last = (folder / "stderr").read_text().strip().splitlines() or ["it said nothing"]
        raise ValueError(f"{' '.join(words[:3])}: exit status {process.returncode}: {last[-1]}")
    if not points:
        raise ValueError(f"{' '.join(words[:3])}: no loss is in what it said; is it another version?")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    points = points[: reached[0] + 1] if reached else points
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"points": points, "seconds": seconds, "cpu": spent, "peak_bytes": peak}


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds and peak memory in bytes of a process that runs (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"), int(status["VmHWM"].split()[0]) * 1024


class Bench:
    """The pictures, the weights and the judge that all runs share, in a folder of their own."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.folder = arguments, folder
        self.file = ns.read_weights(arguments.weights)
        self.pictures = {}
        for name in ("content", "style"):
            ns.save_image(folder / f"{name}.png", ns.load_image(getattr(arguments, name), arguments.size))
            self.pictures[name] = ns.load_image(folder / f"{name}.png")  # as the tools find it, in 8 bits
        self.judge = Judge(ns.load_vgg(self.file, threads=arguments.threads))
        self.targets = self.judge.style(self.pictures["style"]), self.judge.content(self.pictures["content"])

    def tool(self, name: str, command: list[Any], **variables: str) -> dict[str, Any]:
        threads = str(self.arguments.threads)
        variables |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return self._run(name, [sys.executable, *command], REPORTED[name], variables=variables)

    def own(self, name: str, weights: Path, options: list[Any], until: float = -np.inf) -> dict[str, Any]:
        """`nsnumpy transfer` with these options, stopped at this loss."""
        command = [sys.executable, "-m", "nsnumpy", "transfer", "content.png", "style.png", "-o", f"{name}.png"]
        command += ["--weights", weights, "--size", self.arguments.size, "--threads", self.arguments.threads]
        command += ["--log", f"{name}.jsonl", "--quiet", *options]
        return self._run(name, command, REPORTED["nsnumpy"], f"{name}.jsonl", until)

    def _run(self, name: str, command: list[Any], *how: Any, **options: Any) -> dict[str, Any]:
        row = follow(command, self.folder, *how, **options)
        image = ns.load_image(self.folder / f"{name}.png")
        if output := self.arguments.output:
            ns.save_image(output / f"{name}.png", image)
        errors = self.judge.errors(image, *self.targets)
        row |= {name: errors[name] for name in ("style_error", "content_error")}
        iteration, loss = row["points"][-1][:2]
        say(f"{name}: {iteration} iterations, loss {loss:.5g}, {row['seconds']:.1f} s, CPU {row['cpu']:.1f} s")
        return row | {"iterations": iteration, "loss": loss}


def neural_style_pt(bench: Bench) -> dict[str, dict[str, Any]]:
    """It, and ours to the loss that it comes to, in the box and without it."""
    a = bench.arguments
    file = behind(bench.file, CAFFE)
    ns.write_weights(bench.folder / "behind-caffe.h5", file)
    save_states(bench.folder / f"{file.architecture}.pth", states(file, file.architecture))
    command = [a.neural_style_pt.resolve() / "neural_style.py", "-model_file", f"{file.architecture}.pth", "-gpu", "c"]
    command += ["-content_image", "content.png", "-style_image", "style.png", "-output_image", "neural-style-pt.png"]
    command += ["-image_size", a.size, "-num_iterations", a.iterations, "-init", "image", "-pooling", a.pooling]
    command += ["-tv_weight", 0, "-print_iter", 1, "-save_iter", 0]
    rows = {"neural-style-pt": bench.tool("neural-style-pt", command)}
    mark = rows["neural-style-pt"]["loss"]
    options = ["--scales", a.size, "--convention", "jcjohnson", "--alpha", ALPHA, "--beta", BETA, "--tv", 0]
    options += ["--content-layers", CONTENT, "--style-layers", ",".join(STYLE), "--pooling", a.pooling]
    options += ["--border", "zero", "--optimizer", "lbfgs-device", "--iterations", a.iterations]
    for bounds in ("box", "none"):
        name = f"nsnumpy-{bounds}"
        rows[name] = bench.own(name, bench.folder / "behind-caffe.h5", [*options, "--bounds", bounds], mark)
        rows[name]["reached"] = rows[name]["loss"] <= mark
    vgg = ns.load_vgg(file, pooling=a.pooling, threads=a.threads)
    objective = ns.Objective(
        vgg, **bench.pictures, alpha=ALPHA, beta=BETA, content_layers=[CONTENT], style_layers=STYLE, tv=0.0,
        convention="jcjohnson",
    )  # fmt: skip
    for name, row in rows.items():
        row["loss_saved"] = objective(ns.load_image(bench.folder / f"{name}.png"))[0]
    theirs, own = rows["neural-style-pt"], rows["nsnumpy-box"]
    reached = [point for point in own["points"] if point[1] <= theirs["loss_saved"]]
    if reached:
        own["to_loss_saved"] = dict(zip(("iterations", "loss", "seconds", "cpu"), reached[0], strict=True))
    return rows


def style_transfer_pytorch(bench: Bench) -> dict[str, dict[str, Any]]:
    """It, and a default picture of ours."""
    a = bench.arguments
    file = behind(bench.file, TORCHVISION)
    models = bench.folder / "hub/checkpoints"
    models.mkdir(parents=True)
    save_states(models / "vgg19-dcbb9e9d.pth", states(file, "vgg19"))  # where torchvision keeps what it fetches
    command = ["-m", "style_transfer.cli", "content.png", "style.png", "-o", "style-transfer-pytorch.png"]
    command += ["--end-scale", a.size, "--iterations", a.scale_iterations]
    command += ["--initial-iterations", 2 * a.scale_iterations]  # as its defaults are
    folder = str(a.style_transfer_pytorch.resolve())
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    theirs = bench.tool("style-transfer-pytorch", command, PYTHONPATH=path, TORCH_HOME=str(bench.folder))
    own = bench.own("nsnumpy-default", Path(a.weights).resolve(), [])
    return {"style-transfer-pytorch": theirs, "nsnumpy-default": own}


# the file by which a clone is known, and what runs it
TOOLS = {
    "neural-style-pt": ("neural_style.py", neural_style_pt),
    "style-transfer-pytorch": ("style_transfer/cli.py", style_transfer_pytorch),
}


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table; ratios are of wall and CPU time, to the tool's."""
    lines = [
        "| | loss that it reports | loss of its picture | wall | CPU | ratios | style, content error | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for rows in results["runs"].values():
        tool = next(iter(rows.values()))
        for name, row in rows.items():
            saved = f"{row['loss_saved']:.3g}" if "loss_saved" in row else ""
            ratios = _ratios(row, tool) if row is not tool else ""
            told = f"{row['iterations']} iterations" + ("" if row.get("reached", True) else ": not reached")
            lines.append(
                f"| {name} | {row['loss']:.3g} ({told}) | {saved} | {row['seconds']:.0f} s "
                f"| {row['cpu']:.0f} s | {ratios} | {row['style_error']:.4f}, {row['content_error']:.3f} "
                f"| {row['peak_bytes'] / 1e9:.2f} GB |"
            )
            if reached := row.get("to_loss_saved"):
                lines.append(
                    f"| the same, to the loss of the tool's picture | {reached['loss']:.3g} "
                    f"({reached['iterations']} iterations) | | {reached['seconds']:.0f} s | {reached['cpu']:.0f} s "
                    f"| {_ratios(reached, tool)} | | |"
                )
    e = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    where = f"{e['cpu']}, {e['threads']} threads, {', '.join(e['blas'])}, {versions}, Python {e['python']}"
    height, width = results["size"]
    return "\n".join([*lines, "", f"{results['weights']}, {width} x {height}, {results['pooling']} pooling; {where}."])


def _ratios(row: dict[str, Any], tool: dict[str, Any]) -> str:
    return ", ".join(f"{row[clock] / tool[clock]:.3f}" for clock in ("seconds", "cpu"))


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.json)
    if arguments.output:
        arguments.output.mkdir(exist_ok=True)
    wanted = {tool: folder for tool in TOOLS if (folder := getattr(arguments, tool.replace("-", "_")))}
    if not wanted:
        raise ValueError("no tool to run: give the folder of one, --neural-style-pt or --style-transfer-pytorch")
    for tool, folder in wanted.items():
        if not (folder / TOOLS[tool][0]).is_file():
            raise ValueError(f"{folder}: no {TOOLS[tool][0]} here; --{tool} is the folder of a clone of {tool}")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments, Path(temporary))
        results: dict[str, Any] = {"environment": environment(arguments.threads), "weights": bench.file.architecture}
        results |= {"size": list(bench.pictures["content"].shape[:2]), "pooling": arguments.pooling, "runs": {}}
        for tool in wanted:
            results["runs"][tool] = TOOLS[tool][1](bench)
            arguments.json.write_text(json.dumps(shortened(results), indent=1) + "\n")
    print(table(results))
    return 0


def shortened(results: dict[str, Any]) -> dict[str, Any]:
    """With `CURVE` points of each curve, the first and the last among them, in one text each."""

    def curve(points: list[Point]) -> list[str]:
        kept = sorted({round(k) for k in np.linspace(0, len(points) - 1, CURVE)})
        return [" ".join(f"{value:.5g}" for value in points[k]) for k in kept]

    runs = {
        tool: {name: row | {"points": curve(row["points"])} for name, row in rows.items()}
        for tool, rows in results["runs"].items()
    }
    return results | {"runs": runs}


def parser() -> argparse.ArgumentParser:
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(run=run)
    made.add_argument("--weights", metavar="FILE", required=True, help="the weight file of a real VGG, or its name")
    for tool in TOOLS:
        made.add_argument(f"--{tool}", type=Path, metavar="FOLDER", help="a clone of it (it is left out)")
    made.add_argument("--content", default="sample:coast", metavar="PICTURE", help="the photograph (sample:coast)")
    made.add_argument("--style", default="sample:starry", metavar="PICTURE", help="the painting (sample:starry)")
    made.add_argument("--size", type=positive, default=384, help="long side of the results in pixels (384)")
    made.add_argument("--iterations", type=positive, default=300, metavar="N", help="of neural-style-pt (300)")
    made.add_argument(
        "--scale-iterations",
        type=positive,
        default=500,
        metavar="N",
        help="of style-transfer-pytorch at each scale, and twice as many at the first one (500)",
    )
    made.add_argument("--pooling", choices=("max", "avg"), default="max", help="of neural-style-pt and ours (max)")
    made.add_argument("--threads", type=positive, default=usable_cores(), metavar="N", help="of each process (all)")
    made.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the pictures into this folder")
    made.add_argument("--json", type=Path, default=HERE / "tools.json", help="write the figures to this file")
    return made


def main() -> int:
    restart_with_better_kernel()
    return run_program(
        "tools.py",
        parser,
        None,
        interrupted="interrupted; the tools that were done are in the JSON file",
        out_of_memory="a smaller --size takes less",
    )


if __name__ == "__main__":
    sys.exit(main())
