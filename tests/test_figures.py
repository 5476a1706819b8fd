"""The paper's figures: files, numbers, claims, cells that are kept, processes and executors, Ctrl-C, sheets."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy.cli.main import main
from nsnumpy.positions import area_mean
from nsnumpy.study.contact import FRAME, LABEL, Text, draw_sheet, most_detailed, shown_size
from nsnumpy.study.figure import cells as cells_module
from nsnumpy.study.figure import plan as plan_module
from nsnumpy.study.figure.claims import (
    Claim,
    FigureCell,
    Series,
    content_claims,
    positional,
    style_claims,
    tradeoff_claims,
)
from nsnumpy.study.figure.plan import RATIOS
from nsnumpy.study.figure.sheet import _compared, content_sheet, style_sheet, tradeoff_sheet

LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
QUICK = {"weights": "tiny.h5", "size": 40, "iterations": 2, "threads": 1}
OPTIONS = "--weights tiny.h5 --size 40 --iterations 2 --threads 1"


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    """A folder to work in, with two pictures and a weight file."""
    for name, seed in (("photo.png", 0), ("painting.png", 1)):
        Image.fromarray((255 * picture(40, 52, seed)).astype(np.uint8)).save(tmp_path / name)
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_figure_shows_its_sheet_in_a_notebook(folder):
    figure = ns.content_figure("photo.png", "made", layers=["conv1_1"], **QUICK)
    assert figure._repr_png_() == figure.sheet.read_bytes()
    figure.sheet.unlink()
    assert figure._repr_png_() is None


PLANNED = re.compile(
    r"\A\d+ x \d+: \d+ cells?(, \d+ kept from before)?(: at most about [\d.]+ (s|min|h) and .* memory)?\n"
)


def call(capsys, command):
    """(exit status, standard output without the plan, standard error) of a command line."""
    try:
        status = main(command.split())
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, PLANNED.sub("", captured.out, count=1), captured.err


def pixels(folder):
    return {path.name: np.asarray(Image.open(path)).tobytes() for path in sorted(Path(folder).glob("*.png"))}


def test_the_content_figure(folder):
    figure = ns.content_figure("photo.png", "out", layers=["conv3_1", "relu1_1"], **QUICK)
    assert sorted(os.listdir("out")) == ["conv1_1.png", "conv3_1.png", "figure.json", "sheet.png"]
    assert [cell.layers for cell in figure.cells] == [("conv1_1",), ("conv3_1",)]
    assert (figure.computed, figure.failures) == (2, {})
    alone = ns.reconstruct("photo.png", "conv3_1", vgg=ns.load_vgg("tiny.h5", threads=1), size=40, iterations=2,
                           border="zero")  # fmt: skip
    made = ns.load_image("out/conv3_1.png")
    assert np.abs(made - alone.image).max() < 0.51 / 255
    cell = figure.cells[1]
    p = ns.load_image("photo.png", 40)
    assert cell.numbers["pixels"] == pytest.approx(np.sqrt(np.mean((made.astype(float) - p) ** 2)), rel=1e-6)
    F, P = (ns.load_vgg("tiny.h5").forward(x, ["conv3_1"])[0]["conv3_1"] for x in (made, p))
    relative = np.mean((F - P) ** 2) / np.mean(P**2)
    assert cell.numbers["content"] == {"conv3_1": pytest.approx(relative, rel=1e-4)}
    assert cell.numbers["content_error"] == cell.numbers["content"]["conv3_1"]
    assert cell.loss == pytest.approx(sum(cell.terms.values()))
    assert set(cell.terms) == {"content/conv3_1", "tv"}
    record = json.loads(figure.json.read_text())
    assert (record["figure"], record["content"], record["layers"]) == ("content", "photo.png", ["conv1_1", "conv3_1"])
    assert record["region"][2:] == [10, 10]
    assert [c["numbers"] for c in record["cells"]] == [c.numbers for c in figure.cells]
    assert [c["terms"] for c in record["cells"]] == [c.terms for c in figure.cells]
    settings = ns.read_settings("out/conv3_1.png")
    assert settings["content"] == "photo.png"
    assert settings["figure"]["key"] == cell.key
    assert str(folder) not in json.dumps([settings, record])


def test_the_style_figure(folder):
    figure = ns.style_figure("painting.png", "out", **QUICK)
    assert sorted(os.listdir("out")) == [
        "figure.json", "sheet.png", "style-1-conv1_1.png", "style-2-conv1_1-conv2_1.png",
        "style-3-conv1_1-conv3_1.png", "style-4-conv1_1-conv4_1.png", "style-5-conv1_1-conv5_1.png",
    ]  # fmt: skip
    assert [cell.layers for cell in figure.cells] == [LAYERS[:n] for n in range(1, 6)]
    third = figure.cells[2]
    assert set(third.terms) == {"style/conv1_1", "style/conv2_1", "style/conv3_1", "tv"}
    assert third.settings["style_layers"] == pytest.approx(dict.fromkeys(LAYERS[:3], 1 / 3))
    vgg, made = ns.load_vgg("tiny.h5"), ns.load_image("out/style-3-conv1_1-conv3_1.png")
    for name in LAYERS:
        G, A = (
            F.reshape(-1, F.shape[-1]).T @ F.reshape(-1, F.shape[-1]) / F[..., 0].size
            for F in (vgg.forward(x, [name])[0][name] for x in (made, ns.load_image("painting.png", 40)))
        )
        assert third.numbers["style"][name] == pytest.approx(np.mean((G - A) ** 2) / np.mean(A**2), rel=1e-3)
    (claim,) = figure.claims
    assert [series.where for series in claim.series] == [f"{name} added" for name in LAYERS[1:]]
    before, after = figure.cells[1].numbers["style"]["conv3_1"], third.numbers["style"]["conv3_1"]
    assert claim.series[1].values == (before, after)
    assert claim.series[1].holds == (after < before)


def test_the_tradeoff_figure(folder):
    figure = ns.tradeoff_figure(
        "photo.png", "painting.png", "out", layers=LAYERS[:2], ratios=[1e-5, 2, 0.1], style_size=36, **QUICK
    )
    files = [f"tradeoff-{row}-{ratio}.png" for row in (1, 2) for ratio in ("0.00001", "0.1", "2")]
    assert sorted(os.listdir("out")) == ["figure.json", "sheet.png", *files]
    assert [cell.file for cell in figure.cells] == files
    for cell in figure.cells:
        assert cell.settings["beta"] == 20
        assert cell.settings["alpha"] == cell.ratio * 20
        assert set(cell.numbers["style"]) == set(cell.layers)
        assert cell.numbers["style_error"] == pytest.approx(np.mean(list(cell.numbers["style"].values())))
        assert set(cell.numbers["content"]) == {"conv3_2", "conv4_2"}
        assert cell.numbers["content_error"] == pytest.approx(np.mean(list(cell.numbers["content"].values())))
    weighted = dict.fromkeys(LAYERS[:2], 1.0)
    painting = ns.load_image("painting.png", 36)
    objective = ns.Objective(ns.load_vgg("tiny.h5"), style=painting, style_layers=weighted, convention="relative")
    objective(ns.load_image(f"out/{files[-1]}"))
    measured = {f"style/{name}": error for name, error in figure.cells[-1].numbers["style"].items()}
    assert measured == pytest.approx(objective.terms, rel=1e-3)
    content, style = figure.claims
    row = figure.cells[3:]
    assert content.series[1].values == tuple(cell.numbers["content_error"] for cell in row[::-1])
    assert style.series[1].values == tuple(cell.numbers["style_error"] for cell in row[::-1])
    assert [series.rises for series in (content.series[0], style.series[0])] == [True, False]
    record = json.loads(figure.json.read_text())
    assert record["ratios"] == [1e-5, 0.1, 2]
    assert [claim["holds"] for claim in record["claims"]] == [content.holds, style.holds]


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["relative", "paper"])
def test_scipy_drives_the_figures_unless_told_otherwise(folder, capsys, convention):
    figures = {"content": "photo.png", "style": "painting.png", "tradeoff": "photo.png painting.png"}
    for kind, pictures in figures.items():
        make = getattr(ns, f"{kind}_figure")
        options = {"layers": LAYERS[:1], "convention": convention} | QUICK
        for optimizer, driver in ((None, "scipy"), ("lbfgs", "scipy"), ("lbfgs-device", "lbfgs-device")):
            named = {} if optimizer is None else {"optimizer": optimizer}
            figure = make(*pictures.split(), f"{kind} {driver}", **named, **options)
            assert figure.computed == (0 if optimizer == "lbfgs" else len(figure.cells))
            assert {cell.settings["optimizer"] for cell in figure.cells} == {driver}
        command = f"figure {kind} {pictures} -o {kind} --layers conv1_1 --convention {convention} {OPTIONS}"
        assert call(capsys, command)[0] == 0
        cells = json.loads(Path(kind, "figure.json").read_text())["cells"]
        assert {cell["settings"]["optimizer"] for cell in cells} == {"scipy"}
        assert "adam(scipy)" in "".join(call(capsys, f"figure {kind} --help")[1].split())


def test_the_loss_and_its_terms_are_the_pictures(folder):
    """The lowest of the last scale; here neither the last of that scale nor the lowest of all."""
    settings = {"size": 40, "scales": (24, 40), "iterations": (28, 1), "optimizer": "adam", "lr": 0.05}
    layers = LAYERS[:2]
    Image.open("painting.png").crop((0, 0, 40, 30)).save("small.png")  # which is not resized first
    (_, cell) = ns.style_figure("small.png", "out", layers=layers, weights="tiny.h5", threads=1, **settings).cells
    alone = ns.texture(
        "small.png", vgg=ns.load_vgg("tiny.h5", threads=1), style_layers=layers, border="zero", **settings
    )
    at_end = [line for line in alone.history if line["size"] == 40]
    best = min(at_end, key=lambda line: line["loss"])
    assert min(line["loss"] for line in alone.history) < 0.5 * best["loss"] < 0.25 * at_end[-1]["loss"]
    assert cell.loss == pytest.approx(best["loss"], rel=1e-3)
    assert cell.terms == pytest.approx(best["terms"], rel=1e-3)
    assert cell.iterations == 29


def test_cells_are_kept_and_numbers_do_not_depend_on_it(folder):
    calls = []

    def make(**changes):
        calls.clear()
        return ns.content_figure(
            "photo.png", "out", layers=LAYERS[:3], callback=lambda *a: calls.append(a), **QUICK | changes
        )

    first = make()
    assert [(done, total, cell and cell.name) for done, total, cell in calls] == [
        (0, 3, None), (1, 3, "conv1_1"), (2, 3, "conv2_1"), (3, 3, "conv3_1"),
    ]  # fmt: skip
    sheet, record = first.sheet.read_bytes(), first.json.read_bytes()
    again = make()
    assert again.computed == 0
    assert [call[:2] for call in calls] == [(3, 3)]
    assert (again.sheet.read_bytes(), again.json.read_bytes()) == (sheet, record)
    assert again.claims == first.claims

    Path("out/conv2_1.png").unlink()
    assert make().computed == 1
    data = Path("out/conv1_1.png").read_bytes()
    Path("out/conv1_1.png").write_bytes(data[: len(data) // 2])
    assert make().computed == 1

    settings = ns.read_settings("out/conv1_1.png")
    ns.save_image("out/conv1_1.png", 1 - ns.load_image("out/conv1_1.png"), settings)  # a record on another picture
    assert make().computed == 1
    assert make().sheet.read_bytes() == sheet

    assert make(threads=2).computed == 0

    def files():
        return {path: path.read_bytes() for path in Path("out").iterdir()}

    def refused(message="made with other settings or by someone else", **changes):
        before = files()
        with pytest.raises(ValueError, match=message):
            make(**changes)
        assert files() == before
        return True

    assert refused(tv=2.0)
    assert refused(pooling="max")
    assert refused(dtype="float64")
    Image.open("painting.png").save("photo.png")
    assert refused()


@pytest.mark.parametrize("name", ["sheet.png", "conv1_1.png", "figure.json"])
def test_a_picture_of_the_users_own_is_not_written_over(folder, capsys, name):
    Path("out").mkdir()
    ns.save_image("photo-of-mine.png", ns.load_image("photo.png"))
    Path("photo-of-mine.png").rename(f"out/{name}")
    before = Path("out", name).read_bytes()
    status, out, err = call(capsys, f"figure content photo.png -o out --layers conv1_1 {OPTIONS}")
    assert (status, out) == (1, "")
    assert err.startswith(f"nsnumpy: error: out/{name}: is there, ")
    assert Path("out", name).read_bytes() == before
    assert os.listdir("out") == [name]


def test_a_renamed_picture_is_the_same_picture(folder):
    ns.content_figure("photo.png", "out", layers=["conv1_1"], **QUICK)
    Path("photo.png").rename("other.png")
    figure = ns.content_figure("other.png", "out", layers=["conv1_1"], **QUICK)
    assert (figure.computed, figure.cells[0].settings["content"]) == (0, "other.png")


@pytest.mark.slow
def test_processes_and_executors_make_the_same_pictures(folder, capsys):
    command = f"figure content photo.png --layers conv1_1,conv2_1,conv3_1 {OPTIONS}"
    assert call(capsys, f"{command} -o one")[0] == 0
    status, out, err = call(capsys, f"{command} -o two --jobs 2")
    assert (status, err) == (0, "")
    assert out.startswith("two/sheet.png: 3 cells, 3 computed, 0 kept from before\n  The pixel error grows")
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        ns.content_figure("photo.png", "three", layers=LAYERS[:3], executor=executor, **QUICK)
        assert executor.submit(int).result() == 0  # it was not shut down
    assert pixels("one") == pixels("two") == pixels("three")
    assert call(capsys, f"{command} -o three")[1].startswith("three/sheet.png: 3 cells, 0 computed, 3 kept")


def test_a_job_can_be_pickled(folder):
    class Pickled(concurrent.futures.Executor):
        def submit(self, function, *arguments):
            import pickle

            function, arguments = pickle.loads(pickle.dumps((function, arguments)))
            future = concurrent.futures.Future()
            future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
            return future

    figure = ns.tradeoff_figure(
        "photo.png", "painting.png", "out", layers=LAYERS[:1], ratios=[1], executor=Pickled(), init="painting.png",
        **QUICK,
    )  # fmt: skip
    assert figure.failures == {}
    assert ns.read_settings("out/tradeoff-1-1.png")["init"] == "painting.png"


def fail_at(monkeypatch, layer, error):
    class Failing(cells_module.Run):
        def __init__(self, *arguments, **options):
            if options["layer"] == layer:
                raise error
            super().__init__(*arguments, **options)

    monkeypatch.setattr(cells_module, "Run", Failing)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FloatingPointError("the loss is not finite"), "conv2_1: the loss is not finite"),
        (MemoryError("3 TiB"), "conv2_1: out of memory (3 TiB); choose a smaller size"),
        (IndexError("5"), "conv2_1: unexpected IndexError: 5 (a defect; please report it)"),
    ],
)
def test_a_cell_that_fails_is_named_and_the_others_are_made(folder, capsys, monkeypatch, error, message):
    command = f"figure content photo.png -o out --layers conv1_1,conv2_1,conv3_1 {OPTIONS}"
    with monkeypatch.context() as patch:
        fail_at(patch, "conv2_1", error)
        status, out, err = call(capsys, command)
    assert (status, err) == (1, f"nsnumpy: error: {message}\n")
    assert "2 computed" in out
    assert "cannot be told" in out
    assert sorted(os.listdir("out")) == ["conv1_1.png", "conv3_1.png", "figure.json", "sheet.png"]
    assert [bool(cell["error"]) for cell in json.loads(Path("out/figure.json").read_text())["cells"]] == [0, 1, 0]
    status, out, err = call(capsys, command)
    assert (status, err) == (0, "")
    assert "1 computed, 2 kept" in out


def test_a_run_that_ceases_to_be_finite_is_a_failure(folder, capsys):
    command = f"figure content photo.png -o out --layers conv1_1,conv2_1 {OPTIONS}"
    status, _, err = call(capsys, f"{command} --optimizer sgd --bounds none --lr 1e30")
    assert status == 1
    assert re.fullmatch(r"nsnumpy: error: conv1_1.*the loss is not finite.*\n", err)
    assert sorted(os.listdir("out")) == ["figure.json", "sheet.png"]


def test_a_process_that_is_killed_is_one_line(folder, monkeypatch):
    """A broken pool fails the cells that it had, and no more is said."""

    class Broken(concurrent.futures.Executor):
        def submit(self, *arguments):
            future = concurrent.futures.Future()
            future.set_exception(concurrent.futures.BrokenExecutor("gone"))
            return future

    figure = ns.content_figure("photo.png", "out", layers=["conv1_1"], executor=Broken(), **QUICK)
    assert figure.failures["conv1_1"].startswith(
        "its process ended: killed, for want of memory perhaps (try fewer jobs)"
    )
    assert "\n" not in figure.failures["conv1_1"]
    assert figure.claims[0].holds is None


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_is_done(folder, jobs):
    """A real process group, a real signal: as a terminal sends it."""
    command = f"figure content photo.png -o out --layers conv1_1,conv5_1 --weights tiny.h5 --size 40 --jobs {jobs}"
    process = subprocess.Popen(
        [sys.executable, "-m", "nsnumpy", *command.split(), "--iterations", "1000000", "--optimizer", "adam"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not Path("out").exists():
        time.sleep(0.05)
    time.sleep(0.7)  # in the first cell, or while the processes start
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, PLANNED.sub("", out)) == (130, "")
    assert err == "nsnumpy: interrupted; 0 of 2 cells are kept in out, and the same command goes on\n"
    assert os.listdir("out") == []


def test_the_same_command_goes_on_after_ctrl_c(folder, capsys, monkeypatch):
    command = f"figure content photo.png -o out --layers conv1_1,conv2_1,conv3_1 {OPTIONS}"
    with monkeypatch.context() as patch:
        fail_at(patch, "conv2_1", KeyboardInterrupt())
        status, out, err = call(capsys, command)
    assert (status, out) == (130, "")
    assert err == "nsnumpy: interrupted; 1 of 3 cells are kept in out, and the same command goes on\n"
    assert os.listdir("out") == ["conv1_1.png"]
    assert "3 cells, 2 computed, 1 kept from before" in call(capsys, command)[1]


def test_an_interrupted_figure_has_no_sheet_of_before(folder, capsys, monkeypatch):
    command = f"figure content photo.png -o out --layers conv1_1,conv2_1 {OPTIONS}"
    assert call(capsys, command)[0] == 0
    Path("out/conv1_1.png").unlink()
    fail_at(monkeypatch, "conv1_1", KeyboardInterrupt())
    status, _, err = call(capsys, command)
    assert (status, err.count("1 of 2 cells")) == (130, 1)
    assert os.listdir("out") == ["conv2_1.png"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_processes_end_with_the_one_that_began_them(folder):
    """Killed, it cannot end them itself. They have its standard output, which ends when the last of them has."""
    command = f"figure content photo.png -o out --jobs 2 --weights tiny.h5 --size 40 --layers {','.join(LAYERS)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "nsnumpy", *command.split(), "--iterations", "400", "--optimizer", "adam"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not Path("out/conv1_1.png").exists():
            time.sleep(0.01)
        process.kill()
        assert PLANNED.fullmatch(process.communicate(timeout=20)[0].decode())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert Path("out/conv1_1.png").exists()
    assert not Path("out/sheet.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_has_a_bar_that_counts_the_cells(folder):
    command = f"figure content photo.png -o out --layers conv1_1,conv2_1 {OPTIONS}"
    fcntl, termios = (pytest.importorskip(name) for name in ("fcntl", "termios"))
    terminal, end = os.openpty()
    os.set_blocking(terminal, False)  # if there is nothing on it, that is an error
    try:
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        program = [sys.executable, "-m", "nsnumpy", *command.split()]
        subprocess.run(program, stdout=subprocess.PIPE, stderr=end, check=True, timeout=60)
        seen = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(end)
        os.close(terminal)
    counts = re.findall(r"(\d)/2 \|", seen)
    assert counts == sorted(counts)
    assert set(counts) == {"0", "1", "2"}
    assert "conv2_1" in seen


def test_an_interrupt_within_a_cell_does_not_keep_it(folder, monkeypatch):
    def interrupt(done, total, cell):
        if cell:
            monkeypatch.setattr(ns.Progress, "record", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        ns.content_figure("photo.png", "out", layers=LAYERS[:2], callback=interrupt, **QUICK)
    assert os.listdir("out") == ["conv1_1.png"]


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("figure", 2, "required: FIGURE"),
        ("figure poster photo.png -o out", 2, "invalid choice: 'poster'"),
        ("figure content photo.png", 2, "required: -o/--output"),
        ("figure content photo.png -o no/out", 2, "no/out: the folder no does not exist; make it first"),
        ("figure content photo.png -o photo.png", 2, "photo.png: is a file; name a folder"),
        ("figure content photo.png -o out --layer conv1_1", 2, "unrecognized arguments: --layer"),
        ("figure content photo.png -o out --layers conv1_1,relu1_1", 2, "each layer once expected"),
        ("figure content photo.png -o out --layers conv1_1,conv9_9", 2, "unknown layer 'conv9_9'"),
        ("figure content photo.png -o out --jobs 0", 2, "1 or more, expected; '0' given"),
        ("figure content photo.png -o out --tf32", 2, "tf32 is a GPU's precision"),
        ("figure content photo.png -o out --ratios 1", 2, "unrecognized arguments: --ratios"),
        ("figure style painting.png -o out --beta 3", 2, "unrecognized arguments: --beta 3"),
        ("figure style painting.png -o out --style-layers conv1_1", 2, "unrecognized arguments: --style-layers"),
        ("figure tradeoff photo.png -o out", 2, "required: STYLE"),
        ("figure tradeoff photo.png painting.png -o out --alpha 3", 2, "unrecognized arguments: --alpha 3"),
        ("figure tradeoff photo.png painting.png -o out --ratios 1,-1", 2, "0 or more, expected; '-1' given"),
        ("figure tradeoff photo.png painting.png -o out --ratios 1,1.0", 2, "each number once expected"),
        ("figure content nobody.png -o out", 2, "nobody.png: no such file"),
        ("figure content photo.png -o out --weights none.h5", 2, "none.h5: no such weight file"),
        ("figure content photo.png -o out --size 15", 2, "pixels, and the deepest layer needs 16: take size"),
        ("figure content photo.png -o out --layers conv5_3", 2, "conv5_3: this network ends at conv5_1"),
        ("figure content photo.png -o out --init nobody.png", 1, "nobody.png: no such file"),
        ("figure content photo.png -o out --momentum 2", 2, "momentum is a number from 0 to below 1"),
        ("figure content photo.png -o . --init conv1_1.png", 1, "conv1_1.png: no such file"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, capsys, command, status, message):
    before = sorted(os.listdir())
    if " -o " in command:
        command += "" if "--weights" in command else " --weights tiny.h5"
        command += "" if "--size" in command else " --size 40"
    got, out, err = call(capsys, command)
    assert (got, out) == (status, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("nsnumpy: error: ")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("figure", "options", "message"),
    [
        ("tradeoff photo.png painting.png", "--scales 90", "scale 90 is larger than the result, 40"),
        ("tradeoff photo.png painting.png", "--iterations 3,4", "iterations (3, 4): one number, or one for each of"),
        ("tradeoff photo.png painting.png", "--content-layers conv5_2", "conv5_2: this network ends at conv5_1"),
        ("style painting.png", "--scales 20,90", "scale 90 is larger than the result, 40"),
        ("style painting.png", "--init content", "init 'content': there is no content picture here"),
        ("content photo.png", "--iterations 3,4", "iterations (3, 4): one number, or one for each of"),
        ("content photo.png", "--init style", "init 'style': there is no style picture here"),
    ],
)
def test_what_every_cell_would_fail_of_is_told_before_anything_is_touched(folder, capsys, figure, options, message):
    command = f"figure {figure} --layers conv1_1 {OPTIONS}" + (" --ratios 1" if figure.startswith("tradeoff") else "")
    assert call(capsys, f"{command} -o out")[0] == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert {"sheet.png", "figure.json"} < set(before)
    for output in ("new", "out"):
        status, out, err = call(capsys, f"{command} {options} -o {output}")
        assert (status, out, err.count("\n")) == (1 if "--init" in options else 2, "", 1)
        assert err.startswith("nsnumpy: error: ")
        assert message in err
    assert not Path("new").exists()
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_a_folder_in_a_cells_place_is_told_before_anything_is_computed(folder, capsys):
    Path("out/conv2_1.png").mkdir(parents=True)
    status, out, err = call(capsys, f"figure content photo.png -o out --layers conv1_1,conv2_1 {OPTIONS}")
    assert (status, out) == (1, "")
    assert err == "nsnumpy: error: out/conv2_1.png: is a folder; name a file in it\n"
    assert os.listdir("out") == ["conv2_1.png"]


def test_a_picture_that_is_read_is_not_overwritten(folder, capsys):
    Path("photo.png").rename("conv1_1.png")
    before = Path("conv1_1.png").read_bytes()
    status, _, err = call(capsys, f"figure content conv1_1.png -o . {OPTIONS}")
    assert (status, err.count("\n")) == (1, 1)
    assert "conv1_1.png: named twice in this command" in err
    assert Path("conv1_1.png").read_bytes() == before


def test_arguments_of_the_api(folder):
    with pytest.raises(TypeError, match="the style figure sets beta itself"):
        ns.style_figure("painting.png", "out", beta=3.0, **QUICK)
    with pytest.raises(TypeError, match="reconstruct has no setting 'scalse'"):
        ns.content_figure("photo.png", "out", scalse=(), **QUICK)
    with pytest.raises(ValueError, match="jobs is 1 or more, not 0"):
        ns.content_figure("photo.png", "out", jobs=0, **QUICK)
    with pytest.raises(ValueError, match="ratios are numbers"):
        ns.tradeoff_figure("photo.png", "painting.png", "out", ratios=[1, -2], **QUICK)
    assert not Path("out").exists()


def test_quiet_prints_nothing(folder, capsys):
    assert call(capsys, f"figure style painting.png -o out --layers conv1_1 --quiet {OPTIONS}") == (0, "", "")


def test_weights_that_are_replaced_are_loaded_again(folder, tiny_weights):
    ns.content_figure("photo.png", "out", layers=["conv1_1"], **QUICK)
    changed = {name: (1.5 * weight, bias) for name, (weight, bias) in tiny_weights.items()}
    ns.write_weights("tiny.h5", ns.WeightFile(changed))
    with pytest.raises(ValueError, match="made with other settings"):
        ns.content_figure("photo.png", "out", layers=["conv1_1"], **QUICK)
    Path("out/conv1_1.png").unlink()
    assert ns.content_figure("photo.png", "out", layers=["conv1_1"], **QUICK).computed == 1


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_weights_are_read_once(folder, monkeypatch, jobs):
    """By the process that begins the figure; those of its cells are given them."""

    def read(source):
        file = ns.read_weights(source)
        Path(source).unlink()
        return file

    monkeypatch.setattr(plan_module, "read_weights", read)
    figure = ns.content_figure("photo.png", "out", layers=["conv1_1", "conv2_1"], jobs=jobs, **QUICK)
    assert (figure.computed, figure.failures) == (2, {})


def test_an_executor_reads_no_other_weights_than_the_figure(folder, monkeypatch, tiny_weights):
    def read(source):
        file = ns.read_weights(source)
        ns.write_weights(source, ns.WeightFile({name: (1.5 * w, b) for name, (w, b) in tiny_weights.items()}))
        return file

    monkeypatch.setattr(plan_module, "read_weights", read)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        figure = ns.content_figure("photo.png", "out", layers=["conv1_1"], executor=executor, **QUICK)
    assert "tiny.h5: not the weights that this figure was begun with" in figure.failures["conv1_1"]


def test_claims():
    def cells(*numbers):
        return [FigureCell(str(k), "", LAYERS[: k + 1], numbers=n) for k, n in enumerate(numbers)]

    def pixels(*values):
        return content_claims(cells(*({"pixels": value} for value in values)))[0].holds

    assert pixels(0.1, 0.2, 0.3) is True
    assert pixels(0.1, 0.3, 0.2) is False
    assert pixels(0.1, 0.1) is False
    missing = [*cells({"pixels": 1.0}), FigureCell("b", "", ("conv2_1",), error="gone")]
    assert content_claims(missing)[0].holds is None
    three = cells(
        {"style": {"conv1_1": 0.1, "conv2_1": 0.9, "conv3_1": 0.5}},
        {"style": {"conv1_1": 0.1, "conv2_1": 0.2, "conv3_1": 0.4}},
        {"style": {"conv1_1": 0.1, "conv2_1": 0.3, "conv3_1": 0.4}},
    )
    (claim,) = style_claims(three)
    assert [series.holds for series in claim.series] == [True, False]
    assert claim.holds is False
    good = cells({"content_error": 0.9, "style_error": 0.1}, {"content_error": 0.5, "style_error": 0.2})
    assert [claim.holds for claim in tradeoff_claims([good, good])] == [True, True]
    assert [claim.holds for claim in tradeoff_claims([good, good[::-1]])] == [False, False]
    assert Series("", (1.0, 2.0, 3.0), rises=True).holds
    assert not Series("", (1.0, 2.0, 3.0), rises=False).holds


@pytest.mark.parametrize(
    ("values", "names"), [((1e-5, 0.05, 0.1, 2.0), ["0.00001", "0.05", "0.1", "2"]), ((0.0, 30.0), ["0", "30"])]
)
def test_numbers_in_names_have_no_exponent(values, names):
    assert [positional(value) for value in values] == names


def test_the_region_is_the_one_with_most_detail():
    rng = np.random.default_rng(0)
    picture = np.full((60, 90, 3), 128, np.uint8)
    picture[33:48, 51:66] = rng.integers(0, 256, (15, 15, 3))
    assert most_detailed(picture, 16)[2:] == (16, 16)
    top, left = most_detailed(picture, 16)[:2]
    assert top in (32, 33)
    assert left in (50, 51)
    assert most_detailed(np.zeros((20, 30, 3), np.uint8), 8) == (0, 0, 8, 8)
    assert most_detailed(picture, 200)[2:] == (60, 60)


def overlapping(sheet):
    boxes = [box for _, box in sheet.texts]
    return [(a, b) for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


def whole(sheet):
    width, height = sheet.image.size
    return all(0 <= b[0] < b[2] <= width and 0 <= b[1] < b[3] <= height for _, b in sheet.texts)


def numbered(count, shape, failed=()):
    image = np.full((*shape, 3), 200, np.uint8)
    numbers = {"pixels": 1 / 3, "content": {}, "style": dict.fromkeys(LONG, 1 / 7), "content_error": 0.1 / 3}
    return [
        FigureCell(str(k), "", LONG[: k + 1], 10.0**-k, numbers | {"style_error": 1e-7 / 3}, image=image)
        if k not in failed
        else FigureCell(str(k), "", LONG[: k + 1], 10.0**-k, error="the loss is not finite, first in conv5_1; " * 3)
        for k in range(count)
    ]


LONG = (*LAYERS, "conv5_4")
TITLE = "a-photograph-with-a-name-that-has-no-space-and-goes-on-and-on-and-on.jpg in the style of another one"


@pytest.mark.parametrize("shape", [(72, 96), (300, 40), (30, 300), (384, 384), (1500, 1000), (1, 7)])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_labels_keep_to_their_places(shape, count):
    cells, picture = numbered(count, shape, failed={2}), np.full((*shape, 3), 90, np.uint8)
    rows = [numbered(3, shape, failed={1})] * count
    line = "settings; " * 30
    for sheet in (
        content_sheet(TITLE, line, picture, most_detailed(picture, max(shape) // 4), cells, content_claims(cells)),
        style_sheet(TITLE, line, picture, LONG, cells, style_claims(cells)),
        tradeoff_sheet(TITLE, line, [picture, picture], rows, tradeoff_claims(rows)),
    ):
        assert len(sheet.texts) > 5
        assert overlapping(sheet) == []
        assert whole(sheet)
        assert sheet.image.width < 3000
        assert sheet.image.height < 5000
        pixels = np.asarray(sheet.image)
        assert (pixels[:20] == 255).all()
        assert (pixels[-20:] == 255).all()


def places(sheet, patch):
    """Where on the sheet these pixels stand: (top, left) of each place."""
    pixels = np.asarray(sheet.image)
    height, width = patch.shape[:2]
    first = np.argwhere((pixels == patch[0, 0]).all(axis=2)).tolist()
    return [(y, x) for y, x in first if np.array_equal(pixels[y : y + height, x : x + width], patch)]


def grainy(seed, shape=(200, 180)):
    """As large as it is shown on a sheet."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_each_picture_of_the_tradeoff_stands_below_its_ratio_and_beside_its_layers():
    numbers = {"content_error": 0.5, "style_error": 0.25}
    rows = [[FigureCell("", "", LAYERS[:n], r, numbers, image=grainy(10 * n + r)) for r in (1, 2, 3)] for n in (1, 2)]
    sheet = tradeoff_sheet("title", "settings", [grainy(0)], rows, tradeoff_claims(rows))
    boxes = dict(sheet.texts)
    for row, label in zip(rows, ("conv1_1", "conv2_1"), strict=True):
        for cell in row:
            ((top, left),) = places(sheet, cell.image)
            heading = boxes[f"alpha/beta = {cell.ratio}"]
            assert left <= heading[0] < heading[2] <= left + 180
            assert heading[3] <= top
            assert top <= boxes[label][1] < boxes[label][3] <= top + 200
            assert boxes[label][2] <= left


def test_the_content_sheet_enlarges_the_region_of_each_picture():
    photo = np.full((200, 180, 3), 128, np.uint8)
    photo[20:65, 115:160] = grainy(1, (45, 45))
    top, left, height, width = region = most_detailed(photo, 45)
    assert abs(top - 20) <= 1
    assert abs(left - 115) <= 1
    numbers = {"pixels": 0.5, "content_error": 0.25}
    cells = [FigureCell("", "", (name,), numbers=numbers, image=grainy(k + 2)) for k, name in enumerate(LAYERS[:2])]
    sheet = content_sheet("title", "settings", photo, region, cells, content_claims(cells))
    frame = np.argwhere((np.asarray(sheet.image) == FRAME).all(axis=2))
    assert (np.ptp(frame, axis=0) + 1).tolist() == [height, width]
    shown = [frame.min(axis=0) - (top, left), *(places(sheet, cell.image)[0] for cell in cells)]
    for picture, (above, x) in zip((photo, *(cell.image for cell in cells)), shown, strict=True):
        crop = Image.fromarray(picture[top : top + height, left : left + width]).resize((180, 180), Image.NEAREST)
        assert places(sheet, np.asarray(crop)) == [(above + 200 + 4, x)]


def test_text_is_broken_to_its_width():
    text = Text("some words and averyverylongwordwithoutanyspaces " * 3, 90)
    sheet = draw_sheet(text)
    assert all(box[2] - box[0] <= 91 for _, box in sheet.texts)
    assert (
        "".join(line for line, _ in sheet.texts).replace(" ", "") == "somewordsandaveryverylongwordwithoutanyspaces" * 3
    )
    assert Text("one\ntwo", 90, LABEL).lines == ["one", "two"]


def test_pictures_are_shown_neither_tiny_nor_huge():
    assert shown_size((40, 52)) == (208, 160)
    assert shown_size((200, 320)) == (320, 200)
    assert shown_size((2000, 1000)) == (192, 384)
    assert shown_size((1, 4000)) == (384, 1)


@pytest.mark.slow
def test_the_claims_hold_for_the_built_in_network(tmp_path):
    """Small pictures; the sheets at their defaults show the same."""
    quick = {"size": 48, "iterations": 15, "threads": 1}  # where conv5_1 has too few positions for a style's claim
    content = ns.content_figure("sample:coast", tmp_path / "content", **quick)
    style = ns.style_figure("sample:starry", tmp_path / "style", **quick | {"size": 64})
    both = ns.tradeoff_figure(
        "sample:coast", "sample:starry", tmp_path / "both", layers=LAYERS[::4], ratios=RATIOS["relative"][1::2], **quick
    )
    for figure in (content, style, both):
        assert figure.failures == {}
        for claim in figure.claims:
            assert claim.holds, claim
    errors = [cell.numbers["pixels"] for cell in content.cells]
    assert errors[0] < 0.04
    assert errors[-1] > 0.12


def test_another_conventions_ratios_have_to_be_given(folder):
    with pytest.raises(ValueError, match="no ratios are known for the convention jcjohnson: give some"):
        ns.tradeoff_figure("photo.png", "painting.png", "out", weights="tiny.h5", size=40, convention="jcjohnson")


def test_a_figure_begins_with_what_it_takes(folder, capsys):
    command = f"figure content photo.png -o out --layers conv1_1,conv2_1,conv3_1 {OPTIONS}".split()
    assert main(command) == 0
    assert re.match(r"40 x 31: 3 cells: at most about \d+ s and \d\.\d\d GB of memory\n", capsys.readouterr().out)
    Path("out/conv2_1.png").unlink()
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("40 x 31: 3 cells, 2 kept from before: at most about ")
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("40 x 31: 3 cells, 3 kept from before\n")


def test_another_figures_folder_is_not_written_into(folder, capsys):
    assert main(f"figure content photo.png -o out --layers conv1_1,conv2_1 {OPTIONS}".split()) == 0
    capsys.readouterr()
    before = pixels("out")
    for command in ("figure style painting.png -o out", "figure content painting.png -o out"):
        status, out, err = call(capsys, f"{command} --layers conv1_1 {OPTIONS}")
        assert (status, out) == (1, "")
        assert err == "nsnumpy: error: out: holds the content figure of photo.png; choose another folder\n"
    assert pixels("out") == before
    assert Path("out/figure.json").exists()


def test_claims_say_no_more_than_they_know():
    one = Claim("", (Series("a", (0.1,), True),))
    assert one.holds is None
    assert Claim("", ()).holds is None
    assert Claim("", (Series("a", (0.1, 0.2), True), Series("b", (0.3, 0.2), True))).holds is False


def test_numbers_that_differ_are_told_apart():
    assert _compared((0.11011, 0.11021, 0.2)) == "0.1101 < 0.1102 < 0.2"
    assert _compared((0.1, 0.1, None, 0.3)) == "0.1 = 0.1, ?, 0.3"


def test_a_claim_that_fails_says_what_to_try(folder, capsys):
    status, out, _ = call(
        capsys, "figure content photo.png -o out --weights tiny.h5 --size 40 --iterations 0 --threads 1"
    )
    assert status == 0
    assert ": NO\n" in out
    assert out.endswith("try more iterations, or a larger size.\n")


@pytest.fixture
def regions(folder):
    """Beside the folder's pictures another painting, a soft mask, what it leaves, and maps of two colours."""
    ramp = np.tile(np.linspace(0.0, 1.0, 52), (40, 1))
    for name, mask in (("left.png", 1 - ramp), ("right.png", ramp)):
        Image.fromarray(np.rint(255 * mask).astype(np.uint8)).save(folder / name)
    for name, side in (("map.png", 20), ("own.png", 30)):
        of_colours = np.zeros((40, 52, 3), np.uint8)
        of_colours[:, :side] = 255
        Image.fromarray(of_colours).save(folder / name)
    Image.open(folder / "photo.png").transpose(Image.Transpose.ROTATE_180).save(folder / "other.png")
    return folder


def own_errors(made, paintings, masks, layers=LAYERS[:2]):
    """Each region's style error at each layer, by its definition: the mean of squares, over that of zeros."""
    vgg = ns.load_vgg("tiny.h5", dtype="float64")

    def features(path):
        return vgg.forward(ns.load_image(path, 40).astype(np.float64), layers)[0]

    errors = []
    for painting, mask in zip(paintings, masks, strict=True):
        F, of = features(made), features(painting)
        errors.append({})
        for name in layers:
            w = mask if name == "conv1_1" else mask[:30].reshape(15, 2, 20, 2).mean(axis=(1, 3))
            f, a = F[name].reshape(-1, F[name].shape[-1]), of[name].reshape(-1, F[name].shape[-1])
            A = a.T @ a / len(a)
            G = (f * w.reshape(-1, 1)).T @ f / w.sum()
            errors[-1][name] = np.mean((G - A) ** 2) / np.mean(A**2)
    return errors


def test_a_figure_of_regions_has_the_style_error_of_each(regions):
    masks = [np.asarray(Image.open(regions / name)).astype(np.float64) / 255 for name in ("left.png", "right.png")]
    style = [("painting.png", 1.0, "left.png"), ("other.png", 1.0, "right.png")]
    options = QUICK | {"layers": LAYERS[:2], "ratios": [0.01], "content_layers": ["conv2_1"]}
    figure = ns.tradeoff_figure("photo.png", style, "out", **options)
    cell = json.loads(figure.json.read_text())["cells"][1]
    at_size = [area_mean(mask, (31, 40)) for mask in masks]
    expected = own_errors("out/tradeoff-2-0.01.png", ["painting.png", "other.png"], at_size)
    assert list(cell["numbers"]["regions"]) == ["left", "right"]
    own = [np.mean(list(of_region.values())) for of_region in cell["numbers"]["regions"].values()]
    both = np.mean(list(cell["numbers"]["style"].values()))
    assert min(own) < both < max(own)  # their mean, whatever part of the picture they are
    for found, of_region in zip(cell["numbers"]["regions"].values(), expected, strict=True):
        assert found == pytest.approx(of_region, rel=0.05)
    assert cell["numbers"]["region_errors"]["left"] == pytest.approx(np.mean([*expected[0].values()]), rel=0.05)
    assert cell["numbers"]["style"].keys() == {"conv1_1", "conv2_1"}
    assert cell["settings"]["regions"] == {"left": "left.png", "right": "right.png"}
    assert cell["settings"]["style 2"] == "other.png"
    assert set(cell["terms"]) > {"style/conv1_1@left", "style/conv2_1@right"}
    assert ns.tradeoff_figure("photo.png", style, "out", **options).computed == 0
    with pytest.raises(ValueError, match="made with other settings"):  # the other way round
        ns.tradeoff_figure("photo.png", [(*style[0][:2], "right.png"), (*style[1][:2], "left.png")], "out", **options)


def test_the_command_takes_regions_as_a_transfer_does(regions, capsys):
    command = f"figure tradeoff photo.png -o out --layers conv1_1 --ratios 0.1 {OPTIONS} "
    status, out, err = call(capsys, command + "white=painting.png --regions map.png")
    assert (status, err) == (0, "")
    assert "map.png: black (61.5 %) has no style: the photograph is kept there" in out
    numbers = json.loads(Path("out/figure.json").read_text())["cells"][0]["numbers"]
    assert numbers["regions"].keys() == numbers["region_errors"].keys() == {"white"}
    kept = ns.load_image("out/tradeoff-1-0.1.png")[:, 20:] - ns.load_image("photo.png", 40)[:, 20:]
    assert np.abs(kept).max() < 0.51 / 255
    status, out, err = call(
        capsys, command.replace("out", "own") + "painting.png --regions map.png --style-regions own.png"
    )
    assert (status, err) == (0, "")
    assert json.loads(Path("own/figure.json").read_text())["cells"][0]["numbers"]["regions"].keys() == {
        "white",
        "black",
    }
    Image.new("L", (30, 52), 255).save("tall.png")
    status, _, err = call(capsys, command.replace("out", "tall") + "painting.png --mask painting.png=tall.png")
    assert (status, Path("tall").exists()) == (2, False)
    assert "tall.png: 30 x 52 pixels, and the photograph is 52 x 40: give it the same proportions" in err
    status, _, err = call(capsys, command.replace("out", "both") + "painting.png other.png --style-weights 3,1")
    assert (status, err) == (0, "")
    record = json.loads(Path("both/figure.json").read_text())
    assert (record["style"], record["style 2"]) == ("painting.png", "other.png")
    assert record["cells"][0]["settings"]["style_weights"] == {"style": 0.75, "style 2": 0.25}
    assert "regions" not in record["cells"][0]["numbers"]
