"""What benchmarks/tools.py hands to other tools is the same network, and what it reads off them is what they say."""

import json
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_benchmarks import load

import nsnumpy as ns
from nsnumpy.architecture import Preprocessing, convolutions, layer_names
from nsnumpy.files.random_network import random_weights

pytestmark = pytest.mark.slow

WIDTHS = (6, 8, 10, 12, 14)  # of tiny_weights
CAFFE = Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68))
OTHER = Preprocessing("RGB", 2.0, (0.9, 1.0, 0.7), (0.5, 0.6, 0.4))


@pytest.fixture(scope="module")
def tools():
    module = load("tools")
    module.WIDTHS = WIDTHS
    return module


def features(file, picture, layer):
    return ns.load_vgg(file, dtype="float64").forward(picture, [layer])[0][layer]


@pytest.mark.parametrize(("of", "to"), list(product([CAFFE, OTHER], ["CAFFE", "TORCHVISION"])))
def test_a_network_behind_another_preprocessing_sees_the_same(tools, tiny_weights, picture, of, to):
    file, x = ns.WeightFile(tiny_weights, preprocessing=of), picture(24, 32)
    made = tools.behind(file, getattr(tools, to))
    assert made.preprocessing == getattr(tools, to)
    inside = (slice(4, -4), slice(4, -4))  # of what conv1_2 sees beyond the picture nothing is left there
    expected, found = (features(f, x, "conv1_2")[inside] for f in (file, made))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * expected.max())


def test_where_zeros_are_the_same_colour_nothing_changes_at_the_border_either(tools, tiny_weights, picture):
    of = Preprocessing("RGB", 2.0, tuple(2 * m / 256 for m in reversed(tools.CAFFE.mean)), (0.5, 0.5, 0.5))
    file, x = ns.WeightFile(tiny_weights, preprocessing=of), picture(24, 32)
    expected, found = (features(f, x, "conv5_1") for f in (file, tools.behind(file, tools.CAFFE)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize(("architecture", "places"), [("vgg16", (0, 5, 19, 24)), ("vgg19", (0, 5, 21, 28))])
def test_the_state_read_back_is_the_network_and_a_vgg16_a_vgg19(tools, picture, architecture, places):
    known = layer_names("vgg16")
    weights = {name: pair for name, pair in random_weights(WIDTHS, seed=4).items() if name in known}
    file = ns.WeightFile(weights, "vgg16", CAFFE)
    state = tools.states(file, architecture)
    for name, place in zip(("conv1_1", "conv2_1", "conv4_2", "conv5_1"), places, strict=True):
        np.testing.assert_array_equal(state[f"features.{place}.weight"], weights[name][0].transpose(3, 2, 0, 1))
    kernels = [name for name in state if name.startswith("features.") and name.endswith(".weight")]
    names = convolutions(layer_names(architecture))
    read = {
        name: (state[key].transpose(2, 3, 1, 0), state[key.replace("weight", "bias")])
        for name, key in zip(names, kernels, strict=True)
    }
    back, x = ns.WeightFile(read, architecture, CAFFE), picture(24, 32)
    np.testing.assert_allclose(features(back, x, "conv5_1"), features(file, x, "conv5_1"), rtol=1e-10)
    assert state["classifier.0.weight"].shape == (4096, 25088)


def test_a_narrow_network_is_refused_by_name(tools, tiny_weights, monkeypatch):
    monkeypatch.setattr(tools, "WIDTHS", (64, 128, 256, 512, 512))
    with pytest.raises(ValueError, match=r"small\.h5: conv1_1 has 6 filters; the tools' VGG has 64"):
        tools.states(ns.WeightFile(tiny_weights, name="small.h5"), "vgg19")


def test_pytorch_loads_the_state_and_its_classifier_takes_no_room(tools, tiny_weights, tmp_path):
    torch = pytest.importorskip("torch")
    state = tools.states(ns.WeightFile(tiny_weights), "vgg19")
    tools.save_states(tmp_path / "vgg19.pth", state)
    loaded = torch.load(tmp_path / "vgg19.pth", weights_only=True)
    assert list(loaded) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)
    assert (tmp_path / "vgg19.pth").stat().st_size < 1e6


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (
            "neural-style-pt",
            "Of what it does first\nIteration 1 / 20\n  Content 1 loss: 3.5\n  Style 1 loss: 7.0\n  Total loss: 10.5\n"
            "Iteration 12 / 20\n  Content 1 loss: 1.0\n  Total loss: 2.5e-1\nIteration 13 / 20\n  Content 1 loss: 1",
        ),
        (
            "style-transfer-pytorch",
            "A picture\nSize: 9x7, iteration: 1, loss: 10.5\nSaved\nSize: 12x9, iteration: 12, loss: 0.25\nSize: 12x9",
        ),
        (
            "nsnumpy",
            '{"iteration": 1, "size": 9, "loss": 10.5, "terms": {"content/conv4_2": 3.0}, "seconds": 0.1}\n'
            '{"iteration": 12, "size": 9, "loss": 0.25, "terms": {}, "seconds": 0.2}\n{"iteration": 13, "si',
        ),
    ],
)
def test_what_a_tool_reports_is_read_and_a_line_that_is_not_whole_is_not(tools, tool, text):
    assert [(int(i), float(loss)) for i, loss in tools.REPORTED[tool].findall(text)] == [(1, 10.5), (12, 0.25)]


def test_our_own_log_is_read(tools, tmp_path):
    from nsnumpy.cli.main import main

    log = tmp_path / "run.jsonl"
    command = ["texture", "sample:starry", "-o", tmp_path / "out.png", "--size", 32, "--scales", 32]
    assert main([*map(str, command), "--iterations", "2", "--log", str(log), "--quiet"]) == 0
    expected = [(line["iteration"], line["loss"]) for line in map(json.loads, log.read_text().splitlines())]
    assert [(int(i), float(x)) for i, x in tools.REPORTED["nsnumpy"].findall(log.read_text())] == expected


COUNTS = """
import sys, time
for k in range(1, int(sys.argv[1]) + 1):
    print(f"Size: 1x1, iteration: {k}, loss: {1 / k}")
    until = time.process_time() + 0.05
    while time.process_time() < until: pass
"""


@pytest.fixture
def linux():
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read a process's usage from")


def test_a_process_is_followed_from_loss_to_loss(tools, linux, tmp_path):
    held = "import mmap; far = mmap.mmap(-1, 300_000_000); b'x' * 60_000_000"  # not touched; and given back
    (tmp_path / "log").write_text("Size: 1x1, iteration: 7, loss: 0.5\n" * 9)  # of an earlier run
    (tmp_path / "said.py").write_text("import sys; sys.stdout = open('log', 'a', buffering=1)\n" + held + COUNTS)
    command = [sys.executable, "said.py", 4]
    row = tools.follow(command, tmp_path, tools.REPORTED["style-transfer-pytorch"], "log", until=0.01)
    assert [point[:2] for point in row["points"]] == [(k, pytest.approx(1 / k)) for k in range(1, 5)]
    seconds, cpu = (np.array([point[k] for point in row["points"]]) for k in (2, 3))
    assert (np.diff(seconds) >= 0).all()
    assert (np.diff(cpu) >= 0).all()
    assert 0 < cpu[-1] <= row["cpu"]
    assert 0.2 <= row["cpu"]
    assert seconds[-1] <= row["seconds"]
    assert 60e6 < row["peak_bytes"] < 100e6  # its own, and not ours


def test_a_process_is_stopped_at_a_loss_and_its_failure_is_told(tools, linux, tmp_path):
    reported = tools.REPORTED["style-transfer-pytorch"]
    stops = "try:\n exec(sys.argv[2])\nexcept KeyboardInterrupt:\n print(last)\n sys.exit(130)"
    last = "Size: 1x1, iteration: 99, loss: 9"  # a step that it was at
    start = time.perf_counter()
    command = [sys.executable, "-c", f"import sys\nlast = {last!r}\n{stops}", 10_000, COUNTS]
    row = tools.follow(command, tmp_path, reported, until=0.25)
    assert [point[1] for point in row["points"]] == [pytest.approx(1 / k) for k in range(1, 5)]
    assert time.perf_counter() - start < 100  # of the 500 that it would take
    late = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # as it is while Python ends
    assert tools.follow([sys.executable, "-c", late + COUNTS, 10_000], tmp_path, reported, until=0.25)["points"]
    with pytest.raises(ValueError, match=r"python.* -c .*: exit status 1: ZeroDivisionError: division by zero"):
        tools.follow([sys.executable, "-c", "1 / 0"], tmp_path, reported)
    with pytest.raises(ValueError, match=r"-c print\(1\): no loss is in what it said"):
        tools.follow([sys.executable, "-c", "print(1)"], tmp_path, reported)


FAKE = """
import argparse, pathlib, sys
import numpy as np
from PIL import Image
options = argparse.ArgumentParser(allow_abbrev=False)
{options}
given, _ = options.parse_known_args()
assert pathlib.Path({weights}).stat().st_size
picture = np.asarray(Image.open(given.content).convert("RGB"))
for k in range(1, 4):
{report}
Image.fromarray(picture // 2 + 60).save(given.out)
"""


@pytest.fixture
def fakes(tmp_path):
    """Folders with scripts that take the tools' options and say as much as they do."""
    one, other = tmp_path / "one", tmp_path / "other"
    (other / "style_transfer").mkdir(parents=True)
    one.mkdir()
    (other / "style_transfer/__init__.py").touch()
    single = "\n".join(
        f"options.add_argument('-{option}', dest={dest!r})"
        for option, dest in (("content_image", "content"), ("output_image", "out"), ("model_file", "model"))
    )
    report = "    print(f'Iteration {k} / 3\\n  Content 1 loss: 1\\n  Total loss: {1e25 / k}')"
    (one / "neural_style.py").write_text(FAKE.format(options=single, weights="given.model", report=report))
    double = "options.add_argument('content')\noptions.add_argument('style')\noptions.add_argument('-o', dest='out')"
    report = "    print(f'Size: 48x36, iteration: {k}, loss: {9 / k:g}')"
    weights = "__import__('os').environ['TORCH_HOME'] + '/hub/checkpoints/vgg19-dcbb9e9d.pth'"
    (other / "style_transfer/cli.py").write_text(FAKE.format(options=double, weights=weights, report=report))
    return one, other


@pytest.fixture
def bench(tools, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "restart_with_better_kernel", lambda: None)
    monkeypatch.setattr(tools, "save_states", lambda path, made: path.write_text(str(len(made))))
    ns.write_weights(tmp_path / "w.h5", ns.WeightFile(tiny_weights, preprocessing=CAFFE))

    def bench(*options):
        monkeypatch.setattr(sys, "argv", ["tools.py", "--weights", str(tmp_path / "w.h5"), *map(str, options)])
        return tools.main()

    return bench


def test_tools_are_run_and_set_beside_ours(bench, fakes, linux, tmp_path, capsys):
    out, found = tmp_path / "pictures", tmp_path / "out.json"
    options = ["--size", 48, "--iterations", 3, "--threads", 1, "-o", out, "--json", found]
    assert bench("--neural-style-pt", fakes[0], "--style-transfer-pytorch", fakes[1], *options) == 0
    results = json.loads(found.read_text())
    runs = results["runs"]
    assert results["size"] == [36, 48]
    assert {tool: list(rows) for tool, rows in runs.items()} == {
        "neural-style-pt": ["neural-style-pt", "nsnumpy-box", "nsnumpy-none"],
        "style-transfer-pytorch": ["style-transfer-pytorch", "nsnumpy-default"],
    }
    rows = {name: row for one in runs.values() for name, row in one.items()}
    assert {path.stem for path in out.iterdir()} == rows.keys()
    assert rows["neural-style-pt"]["loss"] == pytest.approx(1e25 / 3)
    assert rows["style-transfer-pytorch"]["loss"] == 3
    for name in ("nsnumpy-box", "nsnumpy-none"):
        assert rows[name]["reached"]
        assert rows[name]["iterations"] == 1  # the first step has what it asks for, and so it was stopped there
        assert rows[name]["loss_saved"] < 1e25 / 3
    assert rows["neural-style-pt"]["content_error"] > 0.01
    photograph = ns.load_image("sample:coast", 48)
    np.testing.assert_allclose(ns.load_image(out / "neural-style-pt.png"), photograph / 2 + 60 / 255, atol=1.01 / 255)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:8]] == [
        "neural-style-pt",
        "nsnumpy-box",
        "the same, to the loss of the tool's picture",
        "nsnumpy-none",
        "style-transfer-pytorch",
        "nsnumpy-default",
    ]
    assert lines[-1].startswith("vgg19, 48 x 36, max pooling; ")


def test_ours_goes_on_until_it_has_the_tools_loss(tools, bench, fakes, linux, tmp_path, monkeypatch):
    script = fakes[0] / "neural_style.py"
    found = tmp_path / "out.json"
    monkeypatch.setattr(tools, "ALPHA", 1.0)
    options = ["--neural-style-pt", fakes[0], "--size", 48, "--iterations", 20, "--threads", 1, "--json", found]
    bench(*options)
    first = float(json.loads(found.read_text())["runs"]["neural-style-pt"]["nsnumpy-box"]["points"][0].split()[1])
    script.write_text(script.read_text().replace("1e25", repr(1.5 * first)))  # its last loss is half the first one
    assert bench(*options) == 0
    rows = json.loads(found.read_text())["runs"]["neural-style-pt"]
    for name in ("nsnumpy-box", "nsnumpy-none"):
        losses = [float(point.split()[1]) for point in rows[name]["points"]]
        assert losses[0] == pytest.approx(first, rel=1e-4)
        assert rows[name]["reached"]
        assert rows[name]["loss"] <= first / 2 < losses[0]
        assert 0 < rows[name]["iterations"] <= 20
    saved, reached = rows["neural-style-pt"]["loss_saved"], rows["nsnumpy-box"].get("to_loss_saved")
    assert (reached is not None) == (rows["nsnumpy-box"]["loss"] <= saved)


def test_a_loss_that_ours_does_not_reach_is_told(bench, fakes, linux, tmp_path, capsys):
    script = fakes[0] / "neural_style.py"
    script.write_text(script.read_text().replace("1e25", "1e-25"))
    found = tmp_path / "out.json"
    assert bench("--neural-style-pt", fakes[0], "--size", 48, "--iterations", 2, "--json", found) == 0
    rows = json.loads(found.read_text())["runs"]["neural-style-pt"]
    for name in ("nsnumpy-box", "nsnumpy-none"):
        assert (rows[name]["iterations"], rows[name]["reached"]) == (2, False)
    assert capsys.readouterr().out.count(" (2 iterations: not reached) | ") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no tool to run: give the folder of one, --neural-style-pt or --style-transfer-pytorch"),
        (["--style-transfer-pytorch", "."], "no style_transfer/cli.py here; --style-transfer-pytorch is the folder of"),
    ],
)
def test_without_a_tool_there_is_one_line(bench, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert bench(*options, "--json", tmp_path / "out.json") == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
