"""A picture on standard output: nothing else is printed there, and what cannot go there is said."""

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsnumpy import load_image, read_settings
from nsnumpy.cli.main import main

QUICK = "--weights tiny.h5 --iterations 3 --size 40 --threads 1"


def call(capture, command):
    """(exit status, standard output, standard error as text)"""
    try:
        status = main(f"{command} {QUICK if 'look' not in command else ''}".split())
    except SystemExit as exit:
        status = exit.code
    captured = capture.readouterr()
    assert b"Traceback" not in captured.err
    return status, captured.out, captured.err.decode()


@pytest.mark.parametrize(
    "command", ["transfer photo.png painting.jpg", "texture painting.jpg", "reconstruct photo.png --layer conv1_1"]
)
def test_the_picture_is_all_that_is_printed(folder, capfdbinary, command):
    status, out, err = call(capfdbinary, f"{command} -o -")
    assert status == 0
    assert call(capfdbinary, f"{command} -o file.png")[0] == 0
    Path("piped.png").write_bytes(out)
    assert np.array_equal(load_image("piped.png"), load_image("file.png"))
    assert read_settings("piped.png")["command"] == command.split()[0]
    plan, made = err.splitlines()
    assert " GB of memory, " in plan
    assert made.startswith("standard output: 40 x ")
    assert call(capfdbinary, f"{command} -o - --quiet")[2] == ""
    assert not Path("-").exists()


def test_16_bits_and_a_sheet(folder, capfdbinary):
    _, out, _ = call(capfdbinary, "texture painting.jpg -o - --depth 16")
    assert out[24] == 16
    status, out, err = call(capfdbinary, "look photo.png --layer conv1_1 -o - --weights tiny.h5 --size 40")
    with Image.open(io.BytesIO(out)) as sheet:
        assert sheet.width > 40
    assert status == 0
    assert err.startswith("standard output: conv1_1, 40 x 31 positions; ")


def test_a_run_that_was_kept_goes_on_to_standard_output(folder, capfdbinary):
    assert call(capfdbinary, "texture painting.jpg -o - --checkpoint run.h5")[0] == 0
    assert main(["texture", "--resume", "run.h5", "--iterations", "4"]) == 0
    with Image.open(io.BytesIO(capfdbinary.readouterr().out)) as image:
        assert image.size == (40, 31)


def test_what_cannot_be_written_there_is_elsewhere(folder, capfdbinary, monkeypatch):
    Path("elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(Path("elsewhere").absolute()))

    def fail(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("nsnumpy.cli.standard.write_png", fail)
    status, out, err = call(capfdbinary, "texture painting.jpg -o - --quiet")
    (picture,) = Path("elsewhere").rglob("standard-output.png")
    expected = f"nsnumpy: error: standard output: Broken pipe; the picture is {picture.absolute()}\n"
    assert (status, out, err) == (1, b"", expected)
    assert read_settings(picture)["command"] == "texture"


def test_nothing_is_written_of_a_run_that_has_nothing(folder, capfdbinary, monkeypatch):
    def interrupt(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("nsnumpy.cli.watch._Log.add", interrupt)
    try:
        status, out, err = call(capfdbinary, "texture painting.jpg -o - --quiet --log a.jsonl")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, out) == (130, b"")
    assert err.endswith("there is nothing to keep yet, and standard output was not written\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("texture painting.jpg -o - --save-every 2", "--save-every: names its pictures after OUT, which is standard"),
        ("texture painting.jpg -o - --seamless --preview 2x2", "--preview: names its pictures after OUT, which is "),
        ("transfer photos painting.jpg -o -", "-: standard output takes a single picture; name a folder"),
        ("blend photo.png painting.jpg painting.jpg -o -", "-: standard output takes a single picture; name a folder"),
        ("figure content photo.png -o -", "-: standard output takes a single picture; name a folder"),
    ],
)
def test_more_than_one_picture_needs_names(folder, capfdbinary, command, message):
    Path("photos").mkdir()
    Path("photo.png").rename("photos/photo.png")
    Path("photo.png").symlink_to("photos/photo.png")
    status, out, err = call(capfdbinary, command)
    assert (status, out, err.count("\n")) == (2, b"", 1)
    assert message in err
    assert not Path("-").exists()


@pytest.mark.parametrize(("state", "word"), [("terminal", "a terminal"), ("closed", "closed")])
def test_a_terminal_is_no_place_for_a_picture(folder, capfdbinary, monkeypatch, state, word):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal() if state == "terminal" else None)
    for command in ("texture painting.jpg -o -", "look photo.png --layer conv1_1 -o - --weights tiny.h5"):
        status, _, err = call(capfdbinary, command)
        assert (status, err) == (
            2, f"nsnumpy: error: -o -: standard output is {word}; send it into a file or a pipe\n"
        )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        "plan - painting.jpg --weights tiny.h5 --size 40",
        "plan PIPE painting.jpg --weights tiny.h5 --size 40",
        "plan photo.png - - --weights tiny.h5 --size 40",
        "plan photo.png PIPE --weights tiny.h5 --size 40",
        "figure content - -o figure --weights tiny.h5 --size 40 --iterations 1 --layers conv1_1",
        "figure content PIPE -o figure --weights tiny.h5 --size 40 --iterations 1 --layers conv1_1",
        "figure style PIPE -o figure --weights tiny.h5 --size 40 --iterations 1 --layers conv1_1 --quiet",
        "conventions PIPE painting.jpg --weights tiny.h5 --size 40",
        "blend PIPE painting.jpg painting.jpg -o blend --steps 2 --weights tiny.h5 --size 40 --iterations 1",
    ],
)
def test_what_comes_through_a_pipe_is_read_once(folder, capfdbinary, monkeypatch, command):
    """Though it is needed twice: for what is planned, and for what is made."""
    picture = Path("photo.png").read_bytes()
    read, write = os.pipe()  # with room for all of it
    os.write(write, picture)
    os.close(write)
    with open(read, "rb", closefd=False) as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        assert main(command.replace("PIPE", f"/dev/fd/{read}").split()) == 0
    os.close(read)
