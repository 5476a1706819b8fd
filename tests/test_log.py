"""A run's log read again: what of a file is taken, the curves, the page, the commands."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import Page

import nsnumpy as ns
from nsnumpy.cli.main import main
from nsnumpy.files.checkpoint import VERSIONS
from nsnumpy.run.results import network_record, versions
from nsnumpy.study.report.page import graphs_of
from nsnumpy.study.report.plots import curves_of, number


@pytest.fixture(scope="module")
def matplotlib():
    try:
        import matplotlib.figure
    except ImportError:
        pytest.skip("matplotlib is not installed")
    return matplotlib


@pytest.fixture(scope="module")
def run(tiny_weights):
    """A transfer at two scales."""
    rng = np.random.default_rng(0)
    p, a = (np.kron(rng.random((9, 12, 3)), np.ones((4, 4, 1))).astype(np.float32) for _ in range(2))
    vgg = ns.VGG(tiny_weights, xp=np, source="tiny", threads=1)
    return ns.transfer(p, a, vgg=vgg, size=48, scales=(24,), iterations=(4, 5))


def text_of(history):
    return "".join(json.dumps(line) + "\n" for line in history)


@pytest.fixture
def folder(tmp_path, monkeypatch, run):
    """The run's log and its result."""
    (tmp_path / "run.jsonl").write_text(text_of(run.history))
    run.save(tmp_path / "out.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, command):
    try:
        status = main(command.split())
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out.splitlines(), captured.err.splitlines()


def test_a_log_is_the_history(folder, run):
    assert ns.read_log("run.jsonl") == run.history
    Path("run.jsonl").write_text(text_of(run.history).rstrip("\n"))
    assert ns.read_log("run.jsonl") == run.history  # a last line without its end is whole all the same


def test_a_log_that_is_cut_off_anywhere_is_read_to_its_last_whole_line(folder, run):
    whole = Path("run.jsonl").read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [*range(ends[0] + 1, len(whole), 97), ends[3], ends[3] - 1]:
        Path("cut.jsonl").write_bytes(whole[:cut])
        count = sum(end <= cut for end in ends)
        if cut in ends or cut + 1 in ends:  # between two lines, or only the end of one is gone
            assert ns.read_log("cut.jsonl") == run.history[: count + (cut + 1 in ends)]
            continue
        with pytest.warns(UserWarning, match=f"cut.jsonl: its last line is cut off.*; the {count} before it are taken"):
            assert ns.read_log("cut.jsonl") == run.history[:count]


def changed(history, at, **changes):
    return [line | changes if n == at else line for n, line in enumerate(history)]


WRONG = {
    "empty": (lambda history: b"", "empty; a run writes its log"),
    "first line cut off": (lambda history: text_of(history)[:40].encode(), "line 1 is none of a log"),
    "text": (lambda history: b"a\nb\n", "line 1 is none of a log"),
    "binary": (lambda history: bytes(range(256)) * 99, "line 1 is none of a log"),
    "one endless line": (lambda history: text_of(history[:1]).encode() + b" " * (3 << 20), "line 2 is none of a log"),
    "nested": (lambda history: b"[" * 200_000, "line 1 is none of a log"),
    "a list": (lambda history: b"[]\n", "line 1 is none of a log"),
    "other keys": (lambda history: b'{"iteration": 3}\n', "line 1 is none of a log"),
    "a broken line within": (lambda h: (text_of(h[:3]) + "{\n" + text_of(h[3:])).encode(), "line 4 is none of a log"),
    "no number": (lambda h: text_of(changed(h, 2, loss="low")).encode(), "line 3 is none of a log"),
    "true": (lambda h: text_of(changed(h, 2, iteration=True)).encode(), "line 3 is none of a log"),
    "too long a number": (lambda h: text_of(changed(h, 2, step=10**400)).encode(), "line 3 is none of a log"),
    "unknown terms": (
        lambda h: text_of(changed(h, 0, terms={"x": 1.0}, gradient_norms={"x": 1.0, "pixels": 1.0})).encode(),
        "line 1 is none of a log",
    ),
    "no norms": (lambda h: text_of(changed(h, 0, gradient_norms={})).encode(), "line 1 is none of a log"),
    "two runs": (lambda history: 2 * text_of(history).encode(), "line 12 begins another run"),
    "two runs that did not begin": (lambda history: 2 * text_of(history[:1]).encode(), "line 2 begins another run"),
    "with other terms": (
        lambda h: text_of(changed(h, 4, terms={"tv": 1.0}, gradient_norms={"tv": 1.0, "pixels": 1.0})).encode(),
        "line 5 begins another run",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_log_is_said_in_a_line(matplotlib, folder, run, capsys, case):
    write, message = WRONG[case]
    Path("wrong.jsonl").write_bytes(write(run.history))
    with pytest.raises(ns.LogError, match=f"wrong.jsonl: {message}"):
        ns.read_log("wrong.jsonl")
    for command in ("plot wrong.jsonl -o plot.png", "report wrong.jsonl -o run.html"):
        status, out, err = call(capsys, command)
        assert (status, out, len(err)) == (2, [], 1)
        assert message in err[0]
    assert sorted(os.listdir()) == ["out.png", "run.jsonl", "wrong.jsonl"]


def test_a_log_of_the_command_line_is_one_also_if_the_run_goes_on(folder, tiny_weights, capsys):
    ns.write_weights("tiny.h5", ns.WeightFile(tiny_weights))
    quick = "transfer out.png out.png -o new.png --weights tiny.h5 --size 48 --scales 32 --threads 1"
    assert call(capsys, f"{quick} --iterations 2 --checkpoint run.h5 --log new.jsonl")[0] == 0
    assert call(capsys, "transfer --resume run.h5 --iterations 2,4")[0] == 0
    assert [line["iteration"] for line in ns.read_log("new.jsonl")] == [0, 1, 2, 2, 3, 4, 5, 6]
    assert ns.read_log("new.jsonl")[-1]["loss"] <= ns.read_log("new.jsonl")[3]["loss"]


@pytest.mark.parametrize("suffix", ["png", "svg", "PDF"])
def test_plot_draws_every_curve(matplotlib, folder, run, capsys, suffix):
    status, out, err = call(capsys, f"plot run.jsonl -o plot.{suffix}")
    first, last = run.history[5]["loss"], run.history[-1]["loss"]
    told = f"9 iterations up to 48 pixels, loss {first:.4g} -> {last:.4g} there"
    assert (status, out, err) == (0, [f"plot.{suffix}: {told}"], [])
    assert sorted(os.listdir()) == sorted(["out.png", "run.jsonl", f"plot.{suffix}"])
    if suffix == "png":
        image = Image.open("plot.png").convert("RGB")
        assert image.getpixel((0, 0)) == (255, 255, 255)
        seen = {colour for _, colour in image.getcolors(1 << 24)}
        for curve in curves_of(list(run.history[0]["terms"])).values():
            colour = curve.colours[0]
            assert tuple(int(colour[n : n + 2], 16) for n in (1, 3, 5)) in seen, curve.label
    if suffix == "svg":
        text = Path("plot.svg").read_text()
        for words in ("run.jsonl: 9 iterations", "24 px", "48 px", "content conv3_2", "style conv1_1", "step length"):
            assert words in text


def test_a_title_is_no_formula(matplotlib, folder, run):
    ns.write_plot("plot.svg", run.history, r"run$\frac$.jsonl")
    assert r"run$\frac$.jsonl" in Path("plot.svg").read_text()


def test_what_is_plotted_is_what_the_page_shows(run):
    terms = list(run.history[0]["terms"])
    loss, norms, step = graphs_of(run.history, curves_of(terms))
    assert loss.drawn[0][0].label == "total"
    assert len(loss.drawn) == len(norms.drawn) == 1 + len(terms)
    sums = np.sum([values for _, values in loss.drawn[1:]], axis=0)
    np.testing.assert_allclose(sums, loss.drawn[0][1])
    assert step.drawn[0][1] == [line["step"] for line in run.history]
    assert norms.drawn[0][1] == [line["gradient_norms"]["pixels"] for line in run.history]


def test_the_page_of_a_log_alone(matplotlib, folder, run, capsys):
    status, out, err = call(capsys, "report run.jsonl -o run.html")
    assert (status, len(out), err) == (0, 1, [])
    assert out[0].startswith("run.html: the report, 9 iterations up to 48 pixels, loss ")
    page = Page(Path("run.html").read_text(encoding="utf-8"))
    assert page.texts["h1"] == page.texts["title"] == ["run.jsonl"]
    assert (page.all("img"), page.frames) == ([], [])
    assert page.texts["h2"] == ["Where the loss comes from", "The run"]
    assert page.texts["h3"] == ["Time and memory"]
    assert len([each for each in page.all("svg") if each.get("class") == "plot"]) == 3
    best = min(run.history[5:], key=lambda line: line["loss"])
    for value in (best["loss"], *best["terms"].values()):
        assert number(value) in page.texts["td"]
    assert (
        f"48 pixels, 9 iterations, {run.history[-1]['seconds']:.1f} s, loss {number(best['loss'])}" in page.texts["p"]
    )


def test_the_page_with_the_result_has_its_settings(matplotlib, folder, run, capsys):
    assert call(capsys, "report run.jsonl out.png -o run.html")[0] == 0
    page = Page(Path("run.html").read_text(encoding="utf-8"))
    assert page.texts["h1"] == ["ndarray in the style of ndarray"]
    assert [image["alt"] for image in page.all("img")] == ["The result"]
    assert page.texts["figcaption"][0] == "Result, 48 \u00d7 36"
    assert page.texts["h3"] == ["Settings", "Time and memory", "Network", "Versions"]
    assert run.settings.keys() <= set(page.texts["th"])


def test_the_tables_have_what_a_record_has(tiny_vgg):
    vgg = tiny_vgg()
    assert set(VERSIONS) >= set(versions(vgg))
    same = {name: getattr(vgg, name) for name in ("architecture", "pooling", "convolution", "tf32")}
    others = {"weights": vgg.source, "weights_sha256": vgg.sha256, "threads": vgg.workers.threads}
    assert network_record(vgg) == same | others | {"dtype": str(vgg.dtype), "backend": vgg.xp.__name__}


def test_a_picture_of_another_run_is_said(matplotlib, folder, run, capsys):
    image = np.zeros((36, 48, 3))
    for name, settings in (
        ("other.png", run.settings | {"loss": 7.0}),
        ("foreign.png", {"command": "transfer"}),
        ("list.png", [1]),
        ("text.png", run.settings | {"loss": "low"}),
        ("infinite.png", run.settings | {"loss": float("nan")}),
    ):
        ns.save_image(name, image, settings)
        status, out, err = call(capsys, f"report run.jsonl {name} -o run.html")
        assert (status, out) == (2, [])
        assert err == [f"nsnumpy: error: {name}: not the result of this run: its log has no such loss"]
    ns.save_image("plain.png", image)
    status, _, err = call(capsys, "report run.jsonl plain.png -o run.html")
    assert (status, len(err)) == (2, 1)
    assert "plain.png: no nsnumpy settings in this file" in err[0]
    assert not os.path.exists("run.html")


@pytest.mark.filterwarnings("default")  # as outside of tests
def test_a_run_that_was_killed_has_its_plot_and_page(matplotlib, folder, run, capsys):
    Path("run.jsonl").write_text(text_of(run.history[:8]) + '{"iteration": 8, "si')
    for command in ("plot run.jsonl -o plot.png", "report run.jsonl -o run.html"):
        status, out, err = call(capsys, command)
        note = "run.jsonl: its last line is cut off: the run was killed, perhaps; the 8 before it are taken"
        assert (status, err) == (0, [f"nsnumpy: note: {note}"])
        assert "6 iterations up to 48 pixels" in out[0]


def test_a_run_of_no_iterations(matplotlib, folder, run, capsys):
    Path("run.jsonl").write_text(text_of(run.history[:1]))
    assert call(capsys, "plot run.jsonl -o plot.png")[0] == 0
    assert call(capsys, "report run.jsonl -o run.html")[0] == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("plot gone.jsonl -o plot.png", "gone.jsonl: No such file or directory"),
        ("plot . -o plot.png", ".: Is a directory"),
        (
            "plot run.jsonl -o plot.jpg",
            "plot.jpg: cannot tell the format of the plot; end its name in .png, .svg",
        ),
        ("plot run.jsonl -o no/plot.png", "no/plot.png: the folder no does not exist; make it first"),
        ("plot run.jsonl", "the following arguments are required: -o/--output"),
        ("report run.jsonl -o run.png", "run.png: a report is a page; end its name in .html"),
        ("report run.jsonl gone.png -o run.html", "gone.png: no such file"),
        ("report run.jsonl -o no/run.html", "no/run.html: the folder no does not exist; make it first"),
        ("report run.html -o run.html", "run.html: named twice in this command, once to be written"),
    ],
)
def test_what_is_wrong_is_one_line(matplotlib, folder, capsys, command, message):
    before = sorted(os.listdir())
    status, out, err = call(capsys, command)
    assert (status, out, len(err)) == (2, [], 1)
    assert message in err[0]
    assert sorted(os.listdir()) == before


def test_without_matplotlib_the_extra_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    for command, thing in (("plot run.jsonl -o plot.png", "a plot"), ("report run.jsonl -o run.html", "a report")):
        message = f"{thing} needs matplotlib, the extra `report`: pip install matplotlib"
        assert call(capsys, command) == (2, [], [f"nsnumpy: error: {message}"])
    assert ns.read_log("run.jsonl")


def test_a_plot_is_written_whole_or_not_at_all(matplotlib, folder, run, monkeypatch):
    ns.write_plot("plot.png", run.history)
    before = Path("plot.png").read_bytes()

    def fail(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="No space left on device.*plot.png"):
        ns.write_plot("plot.png", run.history)
    assert Path("plot.png").read_bytes() == before
    assert not [name for name in os.listdir() if re.match(r"\.", name)]
