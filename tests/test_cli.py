"""The command line as a user meets it: what it writes, what it prints, how it exits."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsnumpy import Settings, load_image, read_settings
from nsnumpy.cli.main import main, parser
from nsnumpy.cli.remembered import filled
from nsnumpy.cli.watch import watching
from nsnumpy.files.rows import write_png
from nsnumpy.files.writing import locked
from nsnumpy.losses import STYLE_STATISTICS
from nsnumpy.variable import VARIABLES
from weights_tools.cli import parser as tools_parser

PLANNED = re.compile(
    r"\A\d+ x \d+: about \d+\.\d\d GB of memory, \S+ s an evaluation, [\d.]+ (s|min|h) for \d+ iterations\n"
)
"""The first line of a run: see `test_a_run_begins_with_its_plan`."""

QUICK = "--weights tiny.h5 --iterations 4 --size 40"


def call(capsys, command):
    """(exit status, standard output, standard error) of a command line."""
    try:
        status = main(command.split())
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, PLANNED.sub("", captured.out, count=1), captured.err


def test_a_run_begins_with_its_plan(folder, capsys):
    assert main(f"transfer photo.png painting.jpg -o out.png {QUICK} --threads 2".split()) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert PLANNED.fullmatch(first + "\n")
    assert first.startswith("40 x 31: ")
    assert first.endswith(" for 4 iterations")
    assert main(f"transfer photo.png painting.jpg -o out.png {QUICK} --quiet".split()) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["plan photo.png painting.jpg", "transfer photo.png painting.jpg -o o.png --force"])
def test_what_no_machine_has_is_said_in_one_line(folder, capsys, command):
    """Without a table of it, and without hours by the million; --force would not help."""
    status, out, err = call(capsys, f"{command} --weights tiny.h5 --threads 1 --size 100000000")
    assert (status, out) == (1, "")
    assert re.fullmatch(
        r"nsnumpy: error: 100000000 x \d+ would take about [\d,]+ GB of memory, and \d+\.\d\d GB are to be had: "
        r"choose --size \d+ or less\n",
        err,
    )


def test_plan_says_what_a_transfer_would_take(folder, capsys):
    assert main(["plan", "photo.png", "painting.jpg", "--size", "64", "--threads", "1", "--weights", "tiny.h5"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert PLANNED.fullmatch(out[0] + "\n")
    parts = {line.split()[0]: line.split()[2] for line in out[1:]}
    assert list(parts) == ["program", "weights", "buffers", "targets", "features", "optimizer"]
    assert set(parts.values()) == {"MB"}
    status, _, err = call(capsys, "plan photo.png painting.jpg --size 15 --weights tiny.h5")
    assert (status, err.count("\n")) == (2, 1)
    assert "the result would be 15 x 12 pixels, and the deepest layer needs 16: take size 21 or more" in err


def test_a_run_that_does_not_fit_stops_unless_told_otherwise(folder, capsys, monkeypatch):
    plan_module = sys.modules["nsnumpy.run.means"]
    monkeypatch.setattr(plan_module, "resident_bytes", lambda: 80_000_000)
    monkeypatch.setattr(plan_module, "available_bytes", lambda: 100_000_000)
    command = "transfer photo.png painting.jpg -o out.png --weights tiny.h5 --iterations 1 --threads 1 --style-size 40"
    status, out, err = call(capsys, f"{command} --size 400")
    assert (status, out) == (1, "")
    size = int(re.fullmatch(
        r"nsnumpy: error: 400 x 308 would take about 0.\d\d GB of memory, and 0.10 GB are to be had: "
        r"choose --size (\d+) or less; or --force to try all the same\n", err,
    )[1])  # fmt: skip
    assert not (folder / "out.png").exists()
    assert call(capsys, f"{command} --size {size + 1}")[0] == 1
    assert call(capsys, f"{command} --size {size}")[0] == 0
    assert call(capsys, f"{command} --size 400 --force")[0] == 0
    monkeypatch.setattr(plan_module, "available_bytes", lambda: 1_000)
    status, _, err = call(capsys, "plan photo.png painting.jpg --weights tiny.h5")
    assert status == 1
    assert "no size would fit" in err


@pytest.mark.parametrize(
    "command",
    [
        "transfer photo.png painting.jpg -o out.png",
        "texture painting.jpg -o out.png",
        "reconstruct photo.png --layer conv2_1 -o out.png",
    ],
)
def test_commands_write_a_picture_and_say_so(folder, capsys, command):
    status, out, err = call(capsys, f"{command} {QUICK}")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"out.png: 40 x 31, 4 iterations in \d+.\d s, loss \S+ -> \S+\n", out)
    assert load_image("out.png").shape == (31, 40, 3)
    settings = read_settings("out.png")
    assert settings["command"] == command.split()[0]
    assert settings["weights"] == "tiny.h5"
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_every_option_arrives(folder, capsys):
    status, _, err = call(
        capsys,
        "transfer photo.png painting.jpg -o out.png --weights tiny.h5 --size 36 --style-size 30 --iterations 3 "
        "--optimizer sgd --bounds none --lr 1e-9 --momentum 0.5 --init noise --seed 5 --alpha 0.5 --beta 20 --tv 0.1 "
        "--content-layers conv3_1:2,relu4_2 --style-layers conv1_1:0.2,conv2_1 --pooling max --device cpu "
        "--dtype float64 --quiet",
    )
    assert (status, err) == (0, "")
    settings = read_settings("out.png")
    expected = {
        "size": 36, "style_size": 30, "iterations": 3, "optimizer": "sgd", "bounds": "none", "lr": 1e-9,
        "momentum": 0.5, "init": "noise", "seed": 5, "alpha": 0.5, "beta": 20.0, "tv": 0.1, "pooling": "max",
        "content_layers": {"conv3_1": 2.0, "conv4_2": 0.5}, "style_layers": {"conv1_1": 0.2, "conv2_1": 0.5},
        "dtype": "float64",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    assert {f.name for f in fields(Settings) if "transfer" in f.metadata["only"]} <= settings.keys()


def test_a_home_folder_in_quotes(folder, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert call(capsys, f"transfer ~/photo.png ~/painting.jpg -o out.png {QUICK}")[0] == 0


def test_the_log_has_a_line_per_iteration(folder, capsys):
    status, _, _ = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} --log run.jsonl")
    lines = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert status == 0
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3, 4]
    for line in lines:
        assert line.keys() == {"iteration", "size", "loss", "terms", "gradient_norms", "step", "seconds"}
        assert line["gradient_norms"].keys() == line["terms"].keys() | {"pixels"}
        assert (line["step"] > 0) == (line["iteration"] > 0)
        assert line["loss"] == pytest.approx(sum(line["terms"].values()))


def test_intermediate_pictures(folder, capsys):
    call(capsys, f"transfer photo.png painting.jpg -o out.jpg {QUICK} --save-every 2")
    assert sorted(name for name in os.listdir() if name.startswith("out")) == [
        "out-00002.jpg",
        "out-00004.jpg",
        "out.jpg",
    ]


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("", 2, "required: COMMAND"),
        ("paint photo.png", 2, "invalid choice: 'paint'"),
        ("transfer photo.png painting.jpg", 2, "required: -o/--output"),
        ("transfer photo.png -o out.png", 2, "required: STYLE"),
        ("transfer photo.png painting.jpg -o out.xyz", 2, "out.xyz: cannot tell the format"),
        ("transfer photo.png painting.jpg -o no/out.png", 2, "no/out.png: the folder no does not exist; make it first"),
        ("transfer photo.png painting.jpg -o out.png --log no/a", 2, "no/a: the folder no does not exist"),
        (
            "transfer photo.png painting.jpg -o out.png --size big",
            2,
            "PIXELS or WxH, whole numbers, 1 or more, expected; 'big' given",
        ),
        ("transfer photo.png painting.jpg -o out.png --iterations -3", 2, "0 or more, expected; '-3' given"),
        ("transfer photo.png painting.jpg -o out.png --alpha nan", 2, "a number, 0 or more, expected; 'nan' given"),
        ("transfer photo.png painting.jpg -o out.png --style-layers conv1_1,conv9_9", 2, "unknown layer 'conv9_9'"),
        ("transfer photo.png painting.jpg -o out.png --optimizer newton", 2, "invalid choice: 'newton'"),
        ("transfer photo.png painting.jpg -o out.png --threads 0", 2, "1 or more, expected; '0' given"),
        ("transfer photo.png painting.jpg -o out.png --lr 0", 2, "a number above 0 expected; '0' given"),
        ("transfer photo.png painting.jpg -o out.png --log out.png", 2, "out.png: named twice in this command"),
        (
            "transfer photo.png painting.jpg -o photo.png",
            2,
            "photo.png: named twice in this command, once to be written",
        ),
        ("transfer photo.png painting.jpg -o ./painting.jpg", 2, "painting.jpg: named twice"),
        ("transfer photo.png painting.jpg -o out.png --log photo.png", 2, "photo.png: named twice"),
        ("transfer photo.png painting.jpg -o out.png --init a.png --log a.png", 2, "a.png: named twice"),
        ("transfer photo.png painting.jpg -o out.png --momentum 1.5", 2, "momentum is a number from 0 to below 1"),
        (
            "transfer photo.png painting.jpg -o out.png --init random",
            2,
            "init 'random': choose noise, content, style, or",
        ),
        ("transfer photo.png painting.jpg -o .", 2, ".: cannot tell the format"),
        (f"transfer photo.png painting.jpg -o {'a' * 300}.png", 2, "too long"),
        ("reconstruct photo.png -o out.png --layer fc6", 2, "unknown layer 'fc6'"),
        ("reconstruct photo.png -o out.png --beta 3", 2, "unrecognized arguments: --beta 3"),
        (
            "transfer photo.png painting.jpg -o out.png --siez 9",
            2,
            "did you mean --size? (see nsnumpy transfer --help)",
        ),
        ("transfr photo.png painting.jpg -o out.png", 2, "did you mean transfer? (see nsnumpy --help)"),
        ("transfer photo.png painting.jpg -o out.png --iter 9", 2, "did you mean --iterations? (see"),
        ("transfer photo.png painting.jpg -o out.png --bar", 2, "arguments: --bar (see nsnumpy transfer --help)"),
        ("transfer photo.png painting.jpg -o out.png --model", 2, "--model (see nsnumpy transfer --help)"),
        ("transfer photo.png painting.jpg -o out.png -x", 2, "arguments: -x (see nsnumpy transfer --help)"),
        ("paint photo.png painting.jpg -o out.png", 2, "'completion') (see nsnumpy --help)"),
        ("transfer - - -o out.png", 2, "-: standard input can be read once, and is named twice; name a file"),
        ("transfer photo.png - --init - -o out.png", 2, "-: standard input can be read once"),
        ("plan photo.png painting.jpg - --mask painting.jpg=-", 2, "-: standard input can be read once"),
        ("transfer photo.png painting.jpg -o out.png --lr 1", 2, "--lr is of --optimizer sgd and adam"),
        (
            "transfer photo.png painting.jpg -o out.png --momentum 0.5 --optimizer adam",
            2,
            "--momentum is of --optimizer",
        ),
        ("transfer photo.png painting.jpg -o out.png --style-layers conv1_1,relu1_1", 2, "conv1_1 is named twice"),
        (
            "transfer photo.png painting.jpg -o out.png --style-size 16",
            2,
            "pixels, and the deepest layer needs 16: take style size",
        ),
        ("transfer photo.png painting.jpg -o out.png --size 9000000000", 1, "choose --size"),
        ("transfer photo.png painting.jpg -o out.png --style-size 9000000000", 1, "choose a smaller --style-size"),
        ("transfer nobody.png painting.jpg -o out.png", 2, "nobody.png: no such file"),
        ("transfer sample:nobody painting.jpg -o out.png", 2, "sample:nobody: no such sample; choose from "),
        ("transfer photo.png tiny.h5 -o out.png", 2, "tiny.h5: not a picture that can be read"),
        ("transfer photo.png painting.jpg -o out.png --weights photo.png", 2, "photo.png: not a readable HDF5 file"),
        ("transfer photo.png painting.jpg -o out.png --weights none.h5", 2, "none.h5: no such weight file"),
        ("transfer photo.png painting.jpg -o out.png --size 15", 2, "the result would be 15 x 12 pixels"),
        (
            "transfer photo.png painting.jpg -o out.png --style-layers conv5_3",
            2,
            "conv5_3: this network ends at conv5_1",
        ),
        ("transfer photo.png painting.jpg -o out.png --init nobody.png", 2, "nobody.png: no such file"),
        ("texture painting.jpg -o out.png --init content", 2, "there is no content picture here"),
        ("transfer photo.png painting.jpg -o out.png --tv 1e308", 1, "the loss is not finite"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, capsys, command, status, message):
    before = sorted(os.listdir())
    if " -o " in command and "--weights" not in command:
        command += " --weights tiny.h5 --iterations 2"
        command += "" if "--size" in command else " --size 40"
    got, out, err = call(capsys, command)
    assert (got, out) == (status, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("nsnumpy: error: ")
    assert sorted(os.listdir()) == before


def test_a_gpu_that_is_not_there(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} --device gpu")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"nsnumpy: error: device 'gpu' needs CuPy: pip install .*\n", err)
    assert call(capsys, "gradcheck --device gpu")[0] == 1


def test_out_of_memory_is_one_line(folder, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr("nsnumpy.cli.run.Run", fail)
    status, _, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK}")
    assert status == 1
    assert err == "nsnumpy: error: out of memory; choose a smaller --size (Unable to allocate 3 TiB)\n"


def test_a_disk_that_is_full_is_one_line(folder, capsys, monkeypatch):
    def fail(file, *arguments):
        raise OSError(28, "No space left on device", "out.png")

    monkeypatch.setattr("nsnumpy.files.images.write_png", fail)
    status, _, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK}")
    assert status == 1
    assert re.fullmatch(
        r"nsnumpy: error: out.png: No space left on device; nor could it be written elsewhere \(.*\); it is lost\n", err
    )


@pytest.mark.parametrize("how", ["", "--checkpoint run.h5"])
def test_a_picture_that_cannot_be_written_is_written_elsewhere(folder, capsys, monkeypatch, how):
    monkeypatch.setattr("tempfile.tempdir", str(Path("elsewhere").absolute()))
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    watch = watching

    def watch_and_lose_the_folder(*arguments, **options):
        Path("out").rmdir()
        return watch(*arguments, **options)

    monkeypatch.setattr("nsnumpy.cli.run.watching", watch_and_lose_the_folder)
    status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out/a.png {QUICK} {how}")
    (picture,) = Path("elsewhere").rglob("*.png")
    goes_on = ", and --resume run.h5 makes it again" if how else ""
    assert status == 1
    assert "a.png" not in out
    assert re.fullmatch(rf"nsnumpy: error: out/a.png: .*; the picture is {picture.absolute()}{goes_on}\n", err)
    assert read_settings(picture)["command"] == "transfer"


def test_a_run_that_ceases_to_be_finite_at_its_first_step_replaces_nothing(folder, capsys):
    status, _, err = call(
        capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} --optimizer sgd --bounds none --lr 1e30"
    )
    assert status == 1
    assert "the loss is not finite" in err
    assert err.endswith("; there is nothing to keep yet, and out.png was not written\n")
    assert not (folder / "out.png").exists()


def test_a_converged_run_is_told_and_done(folder, capsys):
    status, _, err = call(capsys, f"reconstruct photo.png --layer conv1_1 --init content --tv 0 -o out.png {QUICK}")
    assert status == 0
    assert err.startswith("nsnumpy: no lower loss found after 0 of 4 iterations (")
    assert err.endswith("); out.png holds the best picture so far\n")


def test_an_old_log_outlives_a_run_that_never_began(folder, capsys):
    Path("run.jsonl").write_text("precious")
    status, _, _ = call(capsys, f"transfer nobody.png painting.jpg -o out.png {QUICK} --log run.jsonl")
    assert status == 2
    assert Path("run.jsonl").read_text() == "precious"


def test_a_second_ctrl_c_does_not_lose_the_picture(folder, capsys, monkeypatch):
    def write(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        write_png(*arguments)

    monkeypatch.setattr("nsnumpy.files.images.write_png", write)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        status, out, _ = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK}")
        assert status == 0
        assert out.startswith("out.png: ")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_intermediate_picture_that_cannot_be_written_does_not_end_the_run(folder, capsys, monkeypatch):
    def fail(path, image):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("nsnumpy.cli.watch.save_image", fail)
    status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} --save-every 3")
    assert status == 0
    assert out.startswith("out.png: ")
    assert err == "nsnumpy: note: out-00003.png: No space left on device\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--save-every 2 --init out-00002.png",
            "out-00002.png: a picture on the way to out.png would be written there",
        ),
        ("--checkpoint tiny-copy.h5", "tiny-copy.h5: is there, and keeps no run; choose another name"),
        ("--no-clobber --log old.jsonl", "old.jsonl: is there already; choose another name, or leave --no-clobber out"),
        ("--no-clobber --save-every 2", "out-00002.png: is there already"),
        ("--log busy.jsonl", "busy.jsonl: another run has its log there; wait for it, or choose another name"),
        ("--checkpoint busy.h5", "busy.h5: another run is kept there; wait for it, or choose another name"),
    ],
)
def test_no_file_of_the_users_is_written_over(folder, capsys, options, message):
    Path("out-00002.png").write_bytes(Path("photo.png").read_bytes())
    Path("tiny-copy.h5").write_bytes(Path("tiny.h5").read_bytes())
    Path("old.jsonl").write_text("{}\n")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with locked(Path("busy.jsonl"), ""), locked(Path("busy.h5"), ""):
        status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} {options}")
    assert (status, out) == (2, "")
    assert err.startswith(f"nsnumpy: error: {message}")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_photograph_named_like_a_picture_on_the_way_is_not_written_over(folder, capsys):
    photo = Path("photo.png").rename("a-00002.png").read_bytes()
    status, _, err = call(capsys, f"transfer a-00002.png painting.jpg -o a.png {QUICK} --save-every 2")
    assert (status, Path("a-00002.png").read_bytes()) == (2, photo)
    assert "would be written there" in err
    assert call(capsys, f"transfer a-00002.png painting.jpg -o b.png {QUICK} --save-every 2")[0] == 0


def test_a_run_interrupted_at_its_start_replaces_nothing(folder, capsys, monkeypatch):
    Path("out.png").write_bytes(b"of before")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nsnumpy.cli.watch._Log.add", interrupt)
    status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} --log a.jsonl")
    assert (status, out) == (130, "")
    assert err.endswith("there is nothing to keep yet, and out.png was not written\n")
    assert Path("out.png").read_bytes() == b"of before"


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_who_does_not_read_the_output_gets_the_picture_all_the_same(folder, stream):
    if stream == "full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") if stream == "closed" else open("/dev/full", "w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "nsnumpy", *f"transfer photo.png painting.jpg -o out.png {QUICK}".split()],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert load_image("out.png").shape == (31, 40, 3)


def test_what_was_not_foreseen_is_one_line_too(folder, capsys, monkeypatch):
    monkeypatch.setattr("nsnumpy.cli.run.Run", lambda *_, **__: [][1])
    status, _, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK}")
    assert status == 1
    assert re.fullmatch(r"nsnumpy: error: unexpected IndexError: .*\(a defect; please report .*\)\n", err)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_with_the_best_picture(folder, name):
    """A real process, a real signal: Ctrl-C, or that of a shutdown, or of a terminal that is closed."""
    number = getattr(signal, name)
    command = (
        "transfer photo.png painting.jpg -o out.png --weights tiny.h5 --size 52 --iterations 1000000 --log run.jsonl"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "nsnumpy", *command.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # where the tests run in the background, the shell has them ignore the signal, and a child inherits that
        preexec_fn=lambda: (
            [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGTERM, signal.SIGHUP)]
            + [signal.signal(signal.SIGINT, signal.default_int_handler)]
        ),
    )
    deadline = time.monotonic() + 120
    log = Path("run.jsonl")
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 5):
        time.sleep(0.05)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert PLANNED.sub("", out).startswith("out.png: 52 x 40, ")
    assert re.fullmatch(r"nsnumpy: interrupted after \d+ of 1000000 iterations; out.png holds the best .*\n", err)
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert read_settings("out.png")["loss"] <= min(losses)  # the last step need not have come as far as the log


@pytest.mark.parametrize("at", ["say", "exit"])
def test_a_second_ctrl_c_needs_no_traceback(folder, at):
    """While the first one is told of, and while Python ends."""
    code = f"""
import atexit, os, signal, sys
from nsnumpy import cli
from nsnumpy.cli import command, given
interrupt = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
given.load_vgg = interrupt
if {at!r} == "say":
    command.say = interrupt
else:
    atexit.register(interrupt)
sys.argv = ["nsnumpy", *{f"transfer photo.png painting.jpg -o out.png {QUICK}".split()}]
sys.exit(cli.program())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == (130 if at == "say" else -signal.SIGINT)
    assert "Traceback" not in done.stderr


def test_an_interrupt_before_the_first_value_writes_nothing(folder, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nsnumpy.cli.given.load_vgg", interrupt)
    status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK}")
    assert (status, out) == (130, "")
    assert err == "nsnumpy: interrupted before there was a picture; nothing was written\n"
    assert not os.path.exists("out.png")


def test_gradcheck_prints_a_row_each_and_passes(capsys):
    status, out, err = call(capsys, "gradcheck")
    rows = out.splitlines()[1:]
    assert (status, err) == (0, "")
    assert len(rows) == 29 + 2 * len(STYLE_STATISTICS) + 2 * len(VARIABLES)
    assert all(row.endswith("  ok") for row in rows)


def test_gradcheck_fails_when_a_gradient_is_wrong(capsys, monkeypatch):
    from nsnumpy.study import prove as checks

    right = checks.tv_loss
    monkeypatch.setattr(checks, "tv_loss", lambda x, **_: (right(x)[0], 1.001 * right(x)[1]))
    status, out, err = call(capsys, "gradcheck")
    assert status == 1
    wrong = [row.split("  ")[0] for row in out.splitlines() if row.endswith("FAILED")]
    assert wrong == ["total variation", "total variation that wraps"]
    assert err == "nsnumpy: error: 2 of the gradients are wrong\n"


def test_help_names_every_setting_and_its_default(capsys):
    for use_case in ("texture", "transfer"):
        status, out, _ = call(capsys, f"{use_case} --help")
        assert status == 0
        for f in fields(Settings):
            assert (f"--{f.name.replace('_', '-')}" in out) == (use_case in f.metadata["only"])
    out = "".join(out.split())
    assert "(conv1_1,conv2_1,conv3_1,conv4_1,conv5_1)" in out
    assert "--optimizerNAME" in out
    assert "adam(relative:lbfgs-device;paper:scipy)" in out


def test_lbfgs_is_scipys_other_name(folder, capsys):
    for options in ("--optimizer lbfgs", "--optimizer scipy", "--convention paper"):
        status, _, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} {options}")
        assert (status, err) == (0, "")
        assert read_settings("out.png")["optimizer"] == "scipy"
    plans = {
        options: call(capsys, f"plan photo.png painting.jpg {QUICK} --convention paper {options}")[1].splitlines()[1:]
        for options in ("", "--optimizer lbfgs", "--optimizer scipy", "--optimizer lbfgs-device")
    }
    assert plans[""] == plans["--optimizer lbfgs"] == plans["--optimizer scipy"] != plans["--optimizer lbfgs-device"]


def test_a_log_that_cannot_be_written_does_not_end_the_run(folder, capsys, monkeypatch):
    right = Path.open

    def full(self, *arguments, **options):
        if self.name == "run.jsonl" and self.exists():
            raise OSError(28, "No space left on device")
        return right(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    status, out, err = call(capsys, f"transfer photo.png painting.jpg -o out.png {QUICK} --log run.jsonl")
    assert status == 0
    assert out.startswith("out.png: ")
    assert err == "nsnumpy: note: run.jsonl: No space left on device; the log ends here\n"


def commands(made=None, names=()):
    """The names and the parser of each command."""
    actions = [action for action in (made or parser())._actions if isinstance(action, argparse._SubParsersAction)]
    if not actions:
        yield names, made
    if actions:
        yield names, made or parser()
    for action in actions:
        for name, below in action.choices.items():
            yield from commands(below, (*names, name))


PROGRAMS = {"nsnumpy": parser, "python -m weights_tools": tools_parser}


@pytest.mark.parametrize(
    ("program", "names", "command"),
    [
        pytest.param(program, *each, id=" ".join([program, *each[0]]))
        for program, made in PROGRAMS.items()
        for each in commands(made())
    ],
)
def test_help_is_two_screens_and_its_examples_can_be_typed(program, names, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = command.format_help()
    assert len(text.splitlines()) <= 80
    examples = text.partition("\nexamples:\n")[2].splitlines()
    assert examples
    for line in examples:
        typed = next(known for known in PROGRAMS if line.strip().startswith(known))
        words = shlex.split(line.replace(typed, "", 1).partition(" > ")[0])
        assert not names or (typed, tuple(words[: len(names)])) == (program, names)
        with suppress(SystemExit) if "--help" in words else nullcontext():
            PROGRAMS[typed]().parse_args(words)


def test_version_tells_what_a_report_about_a_fault_needs(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    for asked, gpu in (
        ("", "none (CuPy is missing)"),
        (" --device cpu", "none (CuPy is missing)"),
        (" --device gpu", "none (device 'gpu' needs CuPy: "),
        (" --device=gpu", "none (device 'gpu' needs CuPy: "),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("nsnumpy.cli.version._CUPY", ("nosuch",))
            status, out, err = call(capsys, f"--version{asked}")
        rows = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert (status, err) == (0, "")
        assert list(rows) == ["nsnumpy", "Python", "packages", "BLAS", "cores", "GPU", "weights"]
        assert f"numpy {np.__version__}" in rows["packages"]
        assert rows["GPU"].startswith(gpu)
    for wrong in ("--device tpu", "transfer", "--device gpu --tf32", "--device"):
        status, out, err = call(capsys, f"--version {wrong}")
        assert (status, out) == (2, "")
        assert f"error: --version goes with nothing but --device cpu or gpu: {wrong}" in err

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("no driver")

    monkeypatch.setitem(sys.modules, "cupy", Broken())
    monkeypatch.setattr("nsnumpy.cli.version._PACKAGES", ("numpy", "nosuch"))
    status, out, _ = call(capsys, "--version --device gpu")
    assert (status, out.count("nosuch missing"), out.count("no driver")) == (0, 1, 1)
    monkeypatch.setattr("nsnumpy.cli.version._CUPY", ("nosuch", "numpy"))
    out = call(capsys, "--version")[1]  # it is told without being loaded
    assert f"GPU      numpy {np.__version__}: --version --device gpu tells what it sees\n" in out
    assert "no driver" not in out


@pytest.mark.slow
def test_too_many_threads_are_what_is_blamed(folder, capsys, monkeypatch):
    command = "transfer photo.png painting.jpg -o out.png --weights tiny.h5 --size 64"
    assert call(capsys, f"{command} --threads 9999") == (2, "", "nsnumpy: error: threads is 1 to 1024, not 9999\n")
    monkeypatch.setattr("nsnumpy.cli.planned.usable_cores", lambda: 2)
    monkeypatch.setattr(sys.modules["nsnumpy.run.means"], "available_bytes", lambda: 50_000_000)
    status, out, err = call(capsys, f"{command} --threads 900")
    assert (status, out) == (1, "")
    assert "choose --threads 2, as many as there are cores, or fewer" in err


def test_checkpoint_every_without_a_checkpoint_is_told(folder, capsys):
    command = f"transfer photo.png painting.jpg -o out.png {QUICK} --checkpoint-every 5"
    assert call(capsys, command) == (2, "", "nsnumpy: error: --checkpoint-every: no --checkpoint to write is named\n")


def test_pictures_and_options_stand_in_any_order(folder):
    for command in (
        "transfer photo.png --size 40 painting.jpg",
        "transfer --size 40 photo.png --iterations 1 painting.jpg",
        "transfer -o out.png --size 40 photo.png painting.jpg --seed 3",
        "texture --size 40 painting.jpg",
        "texture painting.jpg --size 40",
    ):
        given = filled(parser().parse_args([*command.split(), *([] if "-o" in command else ["-o", "out.png"])]), None)
        assert given.size == 40
        assert given.style in ("painting.jpg", ["painting.jpg"])
        assert vars(given).get("content", "photo.png") == "photo.png"


def test_a_log_or_a_report_replaces_nothing_of_another_kind(folder, capsys, monkeypatch):
    command = f"texture painting.jpg -o out.png {QUICK} --threads 1"
    theirs = {
        "notes.txt": b"mine",
        "run.json": b"{}\n",
        "photo.jsonl": Path("photo.png").read_bytes(),
        "page.html": b"<p>",
    }
    for name, content in theirs.items():
        Path(name).write_bytes(content)
    for option, name, said in (
        ("log", "notes.txt", "is no log of a run"),
        ("log", "run.json", "is no log of a run"),
        ("log", "photo.jsonl", "is no log of a run"),
        ("report", "page.html", "nsnumpy did not make it"),
    ):
        status, out, err = call(capsys, f"{command} --{option} {name}")
        assert (status, out) == (2, "")
        assert err == f"nsnumpy: error: {name}: is there, and {said}; choose another name\n"
        assert Path(name).read_bytes() == theirs[name]
    Path("empty.jsonl").touch()
    for name in ("empty.jsonl", "empty.jsonl"):  # the second time it is a log
        assert call(capsys, f"{command} --log {name}")[0] == 0
    assert len(Path("empty.jsonl").read_text().splitlines()) == 5


def test_a_report_replaces_a_report(folder, capsys):
    pytest.importorskip("matplotlib")
    for _ in range(2):
        status, out, _ = call(capsys, f"texture painting.jpg -o out.png {QUICK} --threads 1 --report run.html")
        assert status == 0
        assert "run.html: the report" in out


@pytest.mark.filterwarnings("always")
def test_quiet_is_quiet(folder, capsys, monkeypatch):
    """No note of a picture, and none of a run that ended early, and well; but an error is told."""
    Image.fromarray(np.full((40, 52, 3), 128, np.uint8)).save("broken.png", icc_profile=b"none")
    for command in (
        f"texture broken.png -o out.png {QUICK}",
        f"reconstruct photo.png --layer conv1_1 --init content --tv 0 -o out.png {QUICK}",
        f"transfer photo.png painting.jpg -o out.png {QUICK} --style-size 90",
    ):
        status, _, err = call(capsys, command)
        assert (status, err.count("\n")) == (0, 1), err
        assert call(capsys, f"{command} --quiet") == (0, "", "")
    Path("photos").mkdir()
    Path("broken.png").rename("photos/broken.png")
    assert call(capsys, f"transfer photos painting.jpg -o painted {QUICK} --quiet") == (0, "", "")
    blend = f"blend photos/broken.png painting.jpg photo.png -o blend --steps 2 {QUICK} --quiet"
    assert call(capsys, blend) == (0, "", "")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nsnumpy.files.checkpoint.write_checkpoint", fail)
    err = call(capsys, f"texture painting.jpg -o out.png {QUICK} --checkpoint run.h5 --quiet")[2]
    assert err == "nsnumpy: note: run.h5: No space left on device; not a checkpoint for now\n"


def test_a_result_of_16_bits(folder, capsys):
    assert call(capsys, f"texture painting.jpg -o out.png {QUICK} --depth 16")[0] == 0
    assert Path("out.png").read_bytes()[24] == 16
    status, _, err = call(capsys, f"texture painting.jpg -o out.webp {QUICK} --depth 16")
    assert (status, err) == (
        2, "nsnumpy: error: out.webp: .webp has 8 bits; PNG and TIFF have 16: end the name in .png or .tif\n"
    )  # fmt: skip
    assert call(capsys, f"texture painting.jpg -o out.png {QUICK} --depth 12")[0] == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            "-o out.webp --size 16384",
            "out.webp: .webp goes up to 16383 pixels a side, and the picture has 16384 x",
        ),
        ("-o out.jpg --size 65501", "out.jpg: .jpg goes up to 65500 pixels a side"),
        ("-o out.webp --size 4096x1024 --seamless --preview 4x1", "out-4x1.webp: .webp goes up to 16383 pixels a side"),
    ],
)
def test_what_a_format_cannot_hold_is_told_before(folder, capsys, monkeypatch, options, told):
    monkeypatch.setattr("nsnumpy.cli.run.Given.fit", lambda *_, **__: pytest.fail("begun"))
    status, out, err = call(capsys, f"texture painting.jpg --weights tiny.h5 {options} --force --quiet")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err


def _save(name, picture, mode="RGB"):
    Image.fromarray((255 * picture).astype(np.uint8)).convert(mode).convert("RGB").save(name)


@pytest.mark.parametrize(
    ("photo", "painting", "options", "told"),
    [
        ((756, 850), (272, 850), "--size 425 --scales 425 --iterations 1", "425 x 378, 1 iteration "),
        ((1025, 775), (1025, 775), "--size 513 --scales 128,256,513 --iterations 1", "388 x 513, 3 iterations "),
        ((60, 80), (60, 2000), "--size 80 --iterations 1", "80 x 60, 1 iteration "),
    ],
)
def test_sizes_that_were_too_much_for_other_tools(folder, capsys, picture, photo, painting, options, told):
    """Sides that no power of two divides, and an elongated style."""
    _save("a.png", picture(*photo))
    _save("b.png", picture(*painting, 1))
    command = f"transfer a.png b.png -o out.png --weights tiny.h5 --threads 1 {options}"
    status, out, err = call(capsys, command)
    assert (status, out.splitlines()[-1].partition(" in ")[0] + " ") == (0, f"out.png: {told}")
    assert ("so that its short side is enough" in err) == (painting == (60, 2000))


def test_a_panorama_is_told_the_size_that_works(folder, capsys, picture):
    _save("wide.png", picture(40, 400))
    command = "transfer wide.png painting.jpg -o out.png --weights tiny.h5 --iterations 0 --quiet --size"
    status, _, err = call(capsys, f"{command} 128")
    assert status == 2
    size = int(re.search(r"128 x 13 pixels, and the deepest layer needs 16: take size (\d+) or more\n", err)[1])
    assert [call(capsys, f"{command} {n}")[0] for n in (size, size - 1)] == [0, 2]


@pytest.mark.slow
def test_a_grey_style_and_a_grey_ramp_of_16_bits(folder, capsys, picture):
    """R = G = B everywhere, of which no covariance of colours has an inverse; and all of a ramp's steps."""
    _save("grey.png", picture(40, 52), "L")
    ramp = np.linspace(0, 65535, 52).astype(np.uint16) * np.ones((40, 1), np.uint16)
    Image.fromarray(ramp).save("ramp.png")
    for options in ("", " --colors photo", " --colors luminance", " --colors swap", " --style-statistics covariance"):
        for styles in ("photo.png grey.png", "grey.png grey.png", "ramp.png photo.png"):
            assert call(capsys, f"transfer {styles} -o out.png {QUICK}{options} --quiet") == (0, "", ""), options
            assert np.isfinite(read_settings("out.png")["loss"])
    command = "transfer ramp.png photo.png -o out.png --weights tiny.h5 --size 40 --iterations 0 --depth 16 --quiet"
    assert call(capsys, command)[0] == 0
    assert np.abs(load_image("out.png")[8] - load_image("ramp.png", 40)[8]).max() < 1 / 255


def test_commas_and_spaces_in_names(folder, capsys):
    """In every file that a command names: none of the options that are lists takes them apart."""
    photo, painting, mask = "my photo, at sea.png", "a, b = c.jpg", "sky, above.png"
    Path("photo.png").rename(photo)
    Path("painting.jpg").rename(painting)
    Image.new("L", (52, 40), 255).save(mask)
    words = ["transfer", photo, painting, "-o", "out, 1.png", *QUICK.split(), "--mask", f"{painting}={mask}"]
    words += ["--init", photo, "--log", "a, log.jsonl", "--checkpoint", "a, run.h5", "--save-every", "2", "--quiet"]
    assert main(words) == 0
    assert main(["transfer", "--resume", "a, run.h5", "--iterations", "5", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert {"out, 1.png", "out, 1-00002.png", "a, log.jsonl", "a, run.h5"} <= {path.name for path in Path().iterdir()}
    assert len(Path("a, log.jsonl").read_text().splitlines()) == 6
