"""The page about a run: what it holds, and, in a browser, that it works without a network."""

import base64
import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsnumpy import Frames, Progress, ReportError, load_image, reconstruct, texture, transfer, write_report
from nsnumpy.cli.main import main
from nsnumpy.ending import Ending
from nsnumpy.files.weights import WeightFile, write_weights
from nsnumpy.losses import STYLE_STATISTICS, gram_matrix
from nsnumpy.machine import peak_memory
from nsnumpy.study.report.page import result_line
from nsnumpy.study.report.plots import curves_of, matrix_png, number, scales
from nsnumpy.study.report.report import check_report
from nsnumpy.study.shades import matrix_ticks
from nsnumpy.vgg import VGG

NAME = """a<b> & "c" 'd'.png"""
VOID = {"meta", "link", "img", "input", "br"}


@pytest.fixture(scope="module")
def matplotlib():
    """Skips where there is none; not `importorskip`, which a warning at its import would stop."""
    try:
        import matplotlib.figure
    except ImportError:
        pytest.skip("matplotlib is not installed")
    return matplotlib


class Page(HTMLParser):
    """Every element with its attributes, the text by element, and whether all that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts, self.errors = [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []
        assert self.errors == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append((tag, self.getpos()))

    def handle_data(self, data):
        for tag in self.open[-1:]:
            self.texts.setdefault(tag, []).append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def frames(self):
        (text,) = [text for text in self.texts["script"] if text.startswith("[")]
        return json.loads(text)


@pytest.fixture(scope="module")
def network(tiny_weights):
    return VGG(tiny_weights, xp=np, dtype="float32", source="tiny", threads=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The paths of a content and a style picture, with names to be careful with."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made = []
    for name, shape in ((NAME, (36, 48)), (f"style {NAME}", (40, 32))):
        coarse = rng.random((*(n // 4 for n in shape), 3))
        Image.fromarray((255 * np.kron(coarse, np.ones((4, 4, 1)))).astype(np.uint8)).save(folder / name)
        made.append(folder / name)
    return made


@pytest.fixture(scope="module")
def run(network, pictures):
    """(result, frames) of a transfer at two scales."""
    frames = Frames(limit=6)
    result = transfer(*pictures, vgg=network, callback=frames, size=48, scales=(24,), iterations=(4, 5))
    return result, frames


@pytest.fixture(scope="module")
def written(matplotlib, run, network, pictures, tmp_path_factory):
    """The path of the page about it."""
    result, frames = run
    path = tmp_path_factory.mktemp("report") / "run.html"
    content, style = pictures
    write_report(path, result, vgg=network, content=content, style=style, frames=frames, peak_bytes=123_456_789)
    return path


def test_the_page_is_well_formed_and_refers_to_nothing_outside(written):
    text = written.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!doctype html>")
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
            target = attributes.get(name, "")
            assert not target.startswith("#") or target[1:] in identities
        for target in re.findall(r"url\(([^)]*)\)", " ".join(filter(None, attributes.values()))):
            assert target.startswith("#")
            assert target[1:] in identities
    style = "".join(page.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in "".join(text for text in page.texts["script"] if not text.startswith("["))
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert all(image["alt"] for image in page.all("img"))
    used = set(re.findall(r"var\(--([\w-]+)", text))
    assert used <= set(re.findall(r"--([\w-]+):", style))


def test_the_page_holds_every_setting_and_number(written, run):
    result, _ = run
    page = Page(written.read_text(encoding="utf-8"))
    cells = page.texts["td"]
    named = dict(zip([text for text in page.texts["th"] if text in result.settings], [None] * 99, strict=False))
    assert named.keys() == result.settings.keys()
    for name, value in result.settings.items():
        listed = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        words = {None: "not set", False: "no", True: "yes"}
        for item in listed:
            expected = words[item] if item is None or isinstance(item, bool) else str(item)
            assert any(expected in cell for cell in cells), name
    assert "123 MB" in cells
    best = min(result.history[5:], key=lambda line: line["loss"])
    for term, value in best["terms"].items():
        assert number(value) in cells, term
        assert f"{100 * value / best['loss']:.1f} %" in cells, term


def test_names_are_escaped(written):
    text = written.read_text(encoding="utf-8")
    assert NAME not in text
    page = Page(text)
    assert page.texts["h1"] == [f"{NAME} in the style of style {NAME}"]
    assert page.texts["title"] == page.texts["h1"]
    assert [image["alt"] for image in page.all("img")][:2] == [
        f"The content picture, {NAME}",
        f"The style picture, style {NAME}",
    ]


def test_the_pictures_on_the_way(written, run):
    result, frames = run
    shown = Page(written.read_text(encoding="utf-8")).frames
    assert frames.every == 2  # 5 pictures at one scale and 6 at the other, at most 6 kept
    assert [frame["iteration"] for frame in shown] == [0, 2, 4, 5, 7, 9]
    assert shown[0]["caption"].startswith("iteration 0 of 9, 24 pixels, loss ")
    assert shown[2]["caption"].startswith("iteration 4 of 9, 24 pixels, loss ")
    assert shown[-1]["caption"] == f"iteration 9 of 9, 48 pixels, loss {number(result.settings['loss'])}: the result"
    for frame, size in zip(shown, [24, 24, 24, 48, 48, 48], strict=True):
        kind, _, data = frame["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) == size
    last = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[-1]["src"].partition(",")[2])))) / 255
    assert np.corrcoef(last.ravel(), result.image.ravel())[0, 1] > 0.9  # a JPEG file of noise, which the photograph is


def progress(n, size=8):
    return Progress(n, 1000, 1.0 / (n + 1), {}, {}, 0.0, 0.0, np.full((size, size, 3), 0.5, np.float32))


def test_frames_are_spread_and_bounded():
    frames = Frames(limit=5, size=16)
    for n in range(1000):
        frames(progress(n, 40))
        assert len(frames.iterations) <= 5
        assert frames.every in (1, 2, 4, 8, 16, 32, 64, 128, 256)
    shown = frames.shown(1000, {"iteration": -1, "size": 40})
    assert [frame.iteration for frame in shown] == [0, 256, 512, 768]
    data = base64.b64decode(shown[-1].shown.src.partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (16, 16)
    for limit, size in ((1, 512), (24, 0)):
        with pytest.raises(ValueError, match="limit is 2 or more and size 1 or more"):
            Frames(limit, size)


def test_gram_matrices_and_their_errors(written, run, network, pictures):
    result, _ = run
    text = written.read_text(encoding="utf-8")
    page = Page(text)
    G, A = {}, {}
    for image, found in ((result.image, G), (load_image(pictures[1], 48), A)):

        def visit(name, F, found=found):
            found[name] = gram_matrix(F).astype("float64") / (F.shape[0] * F.shape[1])

        network.with_border("replicate").forward(image, list(result.settings["style_layers"]), visit)
    captions = " ".join(" ".join(page.texts["figcaption"]).split())
    for name, target in A.items():
        error = np.linalg.norm(G[name] - target) / np.linalg.norm(target)
        shown = float(re.search(rf"{name}, weight 0\.2: relative error ([\d.]+) %", captions)[1])
        assert shown == pytest.approx(100 * error, rel=6e-3)
        # The relative style loss is the square of that error, and the page has both.
        assert min(scales(result.history)[-1], key=lambda line: line["loss"])["terms"][f"style/{name}"] == (
            pytest.approx(20 * 0.2 * error**2, rel=0.02)
        )
    images = {image["alt"]: image["src"] for image in page.all("img")}
    order = np.argsort(-np.diag(A["conv2_1"]), kind="stable")
    limit = max(A["conv2_1"].max(), G["conv2_1"].max())
    for alt, matrix in (("the style", A), ("the result", G)):
        png = base64.b64decode(images[f"Gram matrix of {alt} at conv2_1"].partition(",")[2])
        shown = np.asarray(Image.open(io.BytesIO(png)), dtype=float)
        expected = 255 * (1 + np.log10(np.maximum(matrix["conv2_1"] / limit, 1e-4)) / 4)
        assert np.abs(shown - expected[np.ix_(order, order)]).max() < 1


def test_several_styles_and_other_statistics(matplotlib, network, pictures, tmp_path):
    """What is shown is what the loss compares, with the weighted mean of the styles, which has the least loss."""
    styles = [(pictures[0], 1.0), (pictures[1], 3.0)]
    settings = {
        "vgg": network,
        "size": 48,
        "style_statistics": "covariance",
        "iterations": 2,
        "style_layers": ["conv2_1"],
    }
    result = texture(styles, **settings)
    write_report(tmp_path / "run.html", result, vgg=network, style=styles)
    page = Page((tmp_path / "run.html").read_text(encoding="utf-8"))

    def covariance(image):
        seen = []
        network.with_border("replicate").forward(image, ["conv2_1"], lambda name, F: seen.append(F))
        return np.cov(seen[0].reshape(-1, seen[0].shape[-1]).T.astype("float64"), bias=True)

    C, first, second = (covariance(image) for image in (result.image, *(load_image(p, 48) for p, _ in styles)))
    style = (first + 3 * second) / 4
    (caption,) = (text for text in page.texts["figcaption"] if "relative error" in text)
    shown = float(re.search(r"relative error ([\d.]+) %", " ".join(caption.split()))[1])
    assert shown == pytest.approx(100 * np.linalg.norm(C - style) / np.linalg.norm(style), rel=6e-3)
    images = {image["alt"]: image["src"] for image in page.all("img")}
    assert {f"The {name} picture, {p.name}" for name, (p, _) in zip(("style", "style 2"), styles, strict=True)} <= set(
        images
    )
    png = base64.b64decode(images["Covariance of the result at conv2_1"].partition(",")[2])
    order = np.argsort(-np.diag(style), kind="stable")
    limit = max(np.abs(style).max(), np.abs(C).max())
    expected = 255 * (1 + np.sign(C) * np.sqrt(np.abs(C) / limit)) / 2
    assert np.abs(np.asarray(Image.open(io.BytesIO(png)), dtype=float) - expected[np.ix_(order, order)]).max() < 1
    assert " and ".join(p.name for p, _ in styles) in " ".join(page.texts["h1"])


def test_a_new_statistic_needs_nothing_of_the_report(matplotlib, network, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(STYLE_STATISTICS, "another", STYLE_STATISTICS["covariance"])
    result = texture(pictures[1], vgg=network, size=32, iterations=1)
    result.settings["style_statistics"] = "another"
    write_report(tmp_path / "run.html", result, vgg=network, style=pictures[1])
    assert "The style: what is compared" in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_colours_reach_from_the_least_to_the_limit(matplotlib):
    ticks = matrix_ticks(7.0)
    assert (ticks[0], ticks[-1]) == (pytest.approx(7e-4), 7.0)
    indices = np.asarray(Image.open(io.BytesIO(matrix_png(np.array([ticks, [0.0, 1e-9, 1e-6, 1e-4, 7e-4]]), 7.0))))
    assert indices[0].tolist() == [0, 64, 128, 191, 255]
    assert not indices[1].any()


def test_each_scale_is_drawn_alone(written, run):
    result, _ = run
    assert [[line["iteration"] for line in part] for part in scales(result.history)] == [
        [0, 1, 2, 3, 4],
        [4, 5, 6, 7, 8, 9],
    ]
    text = written.read_text(encoding="utf-8")
    plots = re.findall(r'<svg class="plot".*?</svg>', text, re.DOTALL)
    assert len(plots) == 3
    for plot in plots:
        assert ">24 px<" in plot
        assert ">48 px<" in plot
        assert 'data-first="0" data-last="9"' in plot
    curves = curves_of(list(result.history[0]["terms"]))
    assert len({(curve.colours, curve.dashes) for curve in curves.values()}) == len(curves) == 8
    for variable in ["ink", *(curve.variable for curve in curves.values())]:
        drawn = re.findall(rf'<path d="([^"]+)"[^>]* style="[^"]*stroke: var\(--{variable}\)', plots[0])
        assert [d.count("M") for d in drawn if "z" not in d][-2:] == [1, 1], variable  # a line for each scale


@pytest.mark.parametrize("use_case", ["texture", "reconstruct"])
def test_the_other_use_cases(matplotlib, network, pictures, tmp_path, use_case):
    path = tmp_path / "run.html"
    content, style = pictures
    if use_case == "texture":
        result = texture(style, vgg=network, size=32, iterations=2)
        write_report(path, result, vgg=network, style=style)
        title, images = f"A texture from style {NAME}", 3 + 5 * 5
    else:
        result = reconstruct(content, "conv2_1", vgg=network, size=32, iterations=2)
        write_report(path, result, vgg=network, content=content)
        title, images = f"{NAME}, from what conv2_1 knows of it", 3
    page = Page(path.read_text(encoding="utf-8"))
    assert page.texts["h1"] == [title]
    assert len(page.all("img")) == images  # a picture, the result, the one of the slider, and five for each layer
    assert [frame["caption"].partition(":")[2] for frame in page.frames] == [" the result"]


def test_on_every_backend(matplotlib, xp, tiny_vgg, picture, tmp_path):
    vgg, frames = tiny_vgg(xp, dtype="float32"), Frames()
    a = picture(24, 24).astype("float32")
    result = texture(a, vgg=vgg, size=24, iterations=2, callback=frames)
    write_report(tmp_path / "run.html", result, vgg=vgg, style=a, frames=frames)
    page = Page((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert len(page.frames) == 3
    assert "conv5_1" in page.texts["h3"]


def test_pictures_that_are_no_files_and_a_run_of_no_iterations(matplotlib, network, tmp_path, picture):
    path = tmp_path / "run.html"
    p = picture(20, 20).astype("float32")
    result = transfer(p, p, vgg=network, size=None, iterations=0, tv=0.0)  # every term is zero
    assert result.settings["loss"] == pytest.approx(0, abs=1e-9)
    write_report(
        path,
        replace(result, ending=Ending("interrupted", "stopped <here>")),
        vgg=network,
        content=p,
        style=p,
        frames=Frames(),
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.texts["h1"] == ["ndarray in the style of ndarray"]
    assert "The run ended early: stopped <here>." in page.texts["p"]
    assert len(page.frames) == 1


def test_a_report_is_written_whole_or_not_at_all(written, run, network, pictures, monkeypatch):
    before = written.read_bytes()
    result, _ = run

    def fail(self, *arguments, **options):
        Path.write_bytes(self, b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space left on device.*run.html"):
        write_report(written, result, vgg=network)
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == ["run.html"]


def test_what_cannot_be_written_is_told_before_the_run(matplotlib, tmp_path, monkeypatch):
    with pytest.raises(ReportError, match=r"run.png: a report is a page; end its name in .html"):
        check_report(tmp_path / "run.png")
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        check_report(tmp_path / "no" / "run.html")
    assert check_report(str(tmp_path / "run.html")) == tmp_path / "run.html"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    message = re.escape("a report needs matplotlib, the extra `report`: pip install matplotlib")
    with pytest.raises(ReportError, match=message):
        check_report(tmp_path / "run.html")


def test_the_users_own_style_of_plots_is_left_alone(matplotlib, run, network, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # another test may have imported it
    with matplotlib.rc_context({"lines.linewidth": 7.0, "text.usetex": True, "svg.fonttype": "path"}):
        write_report(tmp_path / "run.html", run[0], vgg=network)
        assert matplotlib.rcParams["lines.linewidth"] == 7.0
        assert matplotlib.rcParams["text.usetex"]
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert ">iteration<" in text
    assert "matplotlib.pyplot" not in sys.modules


def test_numbers_as_one_writes_them():
    found = [number(value) for value in (0, 1.0, 0.25, -0.5, -1234.5, 1e5, 3e-7, 1e-4, -2.5e-5)]
    assert found == [
        "0", "1", "0.25", "\u22120.5", "\u22121234", "10\u2075", "3 \u00d7 10\u207b\u2077", "10\u207b\u2074",
        "\u22122.5 \u00d7 10\u207b\u2075",
    ]  # fmt: skip


def test_peak_memory_is_that_of_this_process():
    before = peak_memory()
    held = np.ones(20_000_000)
    assert before is None or 30e6 < before <= peak_memory()
    if before is not None:
        assert peak_memory() >= held.nbytes


# The command line


@pytest.fixture
def folder(tmp_path, monkeypatch, pictures, tiny_weights):
    for source, name in zip(pictures, ("photo.png", "painting.png"), strict=True):
        shutil.copy(source, tmp_path / name)
    write_weights(tmp_path / "tiny.h5", WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = "transfer photo.png painting.png -o out.png --weights tiny.h5 --size 40 --iterations 2 --threads 1"


def call(capsys, command):
    try:
        status = main(command.split())
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err.splitlines()


@pytest.mark.parametrize(
    "command",
    ["transfer photo.png painting.png", "texture painting.png", "reconstruct photo.png --layer conv2_1"],
)
def test_the_command_line_writes_the_picture_and_the_report(matplotlib, folder, capsys, command):
    rest = "-o out.png --weights tiny.h5 --size 40 --iterations 2 --report run.html"
    status, out, err = call(capsys, f"{command} {rest}")
    assert (status, err) == (0, [])
    assert re.fullmatch(r"run.html: the report, 0.\d MB", out[-1])
    page = Page(Path("run.html").read_text(encoding="utf-8"))
    assert [frame["iteration"] for frame in page.frames] == [0, 1, 2]
    assert "peak memory of the process" in page.texts["th"]
    assert call(capsys, f"{command} {rest} --quiet")[1:] == ([], [])


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("no/run.html", "no/run.html: the folder no does not exist; make it first"),
        ("run.png", "run.png: a report is a page; end its name in .html"),
        ("run.html --log run.html", "run.html: named twice in this command, once to be written"),
    ],
)
def test_a_report_that_cannot_be_is_told_before_the_run(matplotlib, folder, capsys, report, message):
    before = sorted(os.listdir())
    status, out, err = call(capsys, f"{COMMAND} --report {report}")
    assert (status, out, len(err)) == (2, [], 1)
    assert message in err[0]
    assert sorted(os.listdir()) == before


def test_without_matplotlib_the_run_does_not_begin(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    status, out, err = call(capsys, f"{COMMAND} --report run.html")
    assert (status, out) == (2, [])
    assert err == ["nsnumpy: error: a report needs matplotlib, the extra `report`: pip install matplotlib"]
    assert not os.path.exists("out.png")
    assert call(capsys, COMMAND)[0] == 0  # and is not needed for anything else


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(28, "No space left on device", "run.html"), 1, "error: no report: run.html: No space left on device"),
        (MemoryError(), 1, "error: no report: out of memory"),
        (KeyboardInterrupt(), 130, "interrupted; run.html was not written"),
    ],
)
def test_a_report_that_fails_does_not_lose_the_picture(matplotlib, folder, capsys, monkeypatch, error, status, message):
    def fail(*arguments, **options):
        assert load_image("out.png").shape == (30, 40, 3)
        raise error

    monkeypatch.setattr("nsnumpy.cli.outputs.write_report", fail)
    got, out, err = call(capsys, f"{COMMAND} --report run.html")
    assert (got, err) == (status, [f"nsnumpy: {message}"])
    assert out[-1].startswith("out.png: 40 x 30")


def test_an_interrupted_run_has_its_report(matplotlib, folder, capsys, monkeypatch):
    right = Frames.__call__

    def interrupt(self, progress):
        right(self, progress)
        if progress.iteration == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Frames, "__call__", interrupt)
    status, _, err = call(capsys, f"{COMMAND} --iterations 50 --report run.html")
    assert status == 130
    assert err == ["nsnumpy: interrupted after 3 of 50 iterations; out.png holds the best picture so far"]
    page = Page(Path("run.html").read_text(encoding="utf-8"))
    assert "The run ended early: interrupted after 3 of 50 iterations." in page.texts["p"]


# In a browser


def test_the_page_in_a_browser(browser, written):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    told, requests = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(written.as_uri())
    frames = Page(written.read_text(encoding="utf-8")).frames

    def shown():
        picture, caption, text, x = page.evaluate(
            """() => [document.getElementById("frame").src, document.getElementById("frame-caption").textContent,
                      document.getElementById("slider").getAttribute("aria-valuetext"),
                      document.querySelector(".cursor").getBoundingClientRect().x]"""
        )
        n = [frame["src"] for frame in frames].index(picture)
        assert caption == text == frames[n]["caption"]
        assert page.evaluate("document.getElementById('frame').complete")
        return n, x

    assert shown()[0] == len(frames) - 1
    slider = page.locator("#slider")
    slider.focus()
    page.keyboard.press("Home")
    first, left = shown()
    assert first == 0
    places = [left]
    for n in range(1, len(frames)):
        page.keyboard.press("ArrowRight")
        assert shown()[0] == n
        places.append(shown()[1])
    assert places == sorted(places)
    assert places[-1] - places[0] > 100  # pixels: the cursor goes along the plot
    slider.evaluate("(e) => { e.value = 2; e.dispatchEvent(new Event('input', {bubbles: true})); }")
    assert shown()[0] == 2
    page.wait_for_timeout(200)  # for requests that come late
    assert told == []
    assert [url for url in requests if not url.startswith("data:")] == [written.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_runs_over_the_edge(browser, written, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(written.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """(width) => [...document.querySelectorAll("main *:not(svg *)")]
                      .filter((e) => e.getBoundingClientRect().right > width + 1).map((e) => e.outerHTML)""",
        width,
    )
    assert beyond == []
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    luminance = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
    assert (luminance[0] > luminance[1]) == (scheme == "light")


def test_the_results_line_is_that_of_its_loss_though_weights_were_changed():
    history = [{"iteration": n, "size": 40, "loss": loss} for n, loss in ((0, 5.0), (1, 1.0), (1, 50.0), (2, 40.0))]
    assert result_line(history, 40.0) == history[3]


def test_a_tile_is_compared_as_its_loss_sees_it(matplotlib, network, pictures, tmp_path):
    result = texture(
        pictures[1],
        vgg=network,
        size=(32, 48),
        seamless="both",
        style_layers=["conv4_1"],
        iterations=1,
        scales=(),
        init="style",
    )
    write_report(tmp_path / "run.html", result, vgg=network, style=pictures[1])

    def gram(image, border):
        F = network.with_border(border).forward(image, ["conv4_1"])[0]["conv4_1"]
        return gram_matrix(F).astype("float64") / (F.shape[0] * F.shape[1])

    A = gram(load_image(pictures[1], 48), "replicate")
    errors = {b: np.linalg.norm(gram(result.image, b) - A) / np.linalg.norm(A) for b in ("wrap", "replicate")}
    page = Page((tmp_path / "run.html").read_text(encoding="utf-8"))
    (caption,) = (text for text in page.texts["figcaption"] if "relative error" in text)
    shown = float(re.search(r"relative error ([\d.]+) %", " ".join(caption.split()))[1])
    assert shown == pytest.approx(100 * errors["wrap"], rel=6e-3) != pytest.approx(100 * errors["replicate"], rel=6e-3)
