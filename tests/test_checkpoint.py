"""Runs that are kept and gone on with: the same numbers as if they had never stopped, whatever stopped them."""

import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy.cli import watch
from nsnumpy.cli.main import main
from nsnumpy.files import checkpoint as checkpoints
from nsnumpy.files.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from nsnumpy.optimize import OPTIMIZERS
from nsnumpy.run.settings import ONE_SCALE

OWN = [method for method in OPTIMIZERS if method != "scipy"]
SMALL = {"size": 40, "scales": (24, 40), "iterations": (6, 9)}
FEW = SMALL | {"iterations": (2, 4)}


class PowerFailure(BaseException):
    """What nothing in the package catches."""


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    for name, seed in (("photo.png", 0), ("painting.png", 1)):
        Image.fromarray((255 * picture(40, 52, seed)).astype(np.uint8)).save(tmp_path / name)
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails_at(count):
    """A callback that ends everything when it is called for the count-th time, counted from 0."""
    calls = iter(range(count + 1))

    def callback(_):
        if next(calls) == count:
            raise PowerFailure

    return callback


def without_seconds(history):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in history]


def same(result, whole):
    assert np.array_equal(result.image, whole.image)
    assert without_seconds(result.history) == without_seconds(whole.history)
    assert result.settings == whole.settings
    assert result.stopped == whole.stopped
    seconds = [line["seconds"] for line in result.history]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[pytest.mark.slow] * (name != "lbfgs-device")) for name in OWN]
)
def test_whenever_it_stops_it_goes_on_with_the_same_numbers(tiny_vgg, picture, tmp_path, method):
    vgg, p, a = tiny_vgg(dtype="float32", threads=2), picture(40, 52), picture(36, 44, 1)
    options = {"vgg": vgg, "optimizer": method, **FEW}
    whole = ns.transfer(p, a, **options)
    assert len(whole.history) == 8
    path = tmp_path / "run.h5"
    for count in range(8):
        with pytest.raises(PowerFailure):
            ns.transfer(p, a, checkpoint=path, checkpoint_every=1, callback=fails_at(count), **options)
        kept = read_checkpoint(path)
        assert without_seconds(kept.history) == without_seconds(whole.history[: count + 1])
        same(ns.transfer(p, a, resume=path, **options), whole)


@pytest.mark.slow
def test_a_scale_ends_where_little_changes_and_goes_on_from_anywhere(tiny_vgg, picture, tmp_path):
    vgg, p, a, path = tiny_vgg(dtype="float32"), picture(40, 52), picture(36, 44, 1), tmp_path / "run.h5"
    options = {"vgg": vgg, "size": 40, "scales": (24, 40), "iterations": 20}
    steps = [line for line in ns.transfer(p, a, **options).history if line["size"] == 40]
    change = [line["step"] / (31 * 40 * 3) ** 0.5 for line in steps]  # of 31 x 40 pixels
    until = 1.001 * max(change[10:15])  # so that it ends at the 14th, if not before
    whole = ns.transfer(p, a, until=until, **options)
    assert whole.ending.how == "early"
    ends = [line["iteration"] for line, after in itertools.pairwise([*whole.history, {"step": 0}]) if not after["step"]]
    counts = [ends[0], ends[1] - ends[0]]
    for count, size in zip(counts, (24, 40), strict=True):
        assert f"little changed any more after {count} of 20 iterations at {size} pixels" in whole.stopped
    assert 5 <= counts[1] <= 14
    for n, (line, side) in enumerate(zip(ends, (24, 40), strict=True)):
        last = [line["step"] for line in whole.history if line["size"] == side][-6:]
        pixels = 3 * side * round(side * 40 / 52)
        assert all(step < until * pixels**0.5 for step in last[1:])
        assert counts[n] == 5 or last[0] >= until * pixels**0.5 or not last[0]
    for count in (counts[0], len(whole.history) - 1):
        with pytest.raises(PowerFailure):
            ns.transfer(p, a, until=until, checkpoint=path, checkpoint_every=1, callback=fails_at(count), **options)
        resumed = ns.transfer(p, a, until=until, resume=path, **options)
        assert np.array_equal(resumed.image, whole.image)
        assert without_seconds(resumed.history) == without_seconds(whole.history)
        assert resumed.stopped == whole.stopped
    assert ns.transfer(p, a, until=1e-9, **options | {"iterations": 6}).ending.how == "finished"


def test_other_weights_are_tried_where_little_changed(tiny_vgg, picture):
    """A change that comes with the last step of a scale at rest is not lost; and the steps begin to count anew."""
    run = ns.Run("transfer", {"content": picture(40, 52), "style": picture(36, 44, 1)}, vgg=tiny_vgg(), size=40,
                 scales=(), iterations=30, until=10.0)  # fmt: skip
    for step in run.steps():
        if step.iteration == 5 and not run.changes:
            run.change(beta=5)
    assert [line["iteration"] for line in run.history] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10]
    assert run.history[6]["step"] == 0


def test_a_run_of_before_remembers_as_much_as_then(tiny_vgg, picture, tmp_path):
    vgg, p, a, path = tiny_vgg(dtype="float32"), picture(40, 52), picture(36, 44, 1), tmp_path / "run.h5"
    options = {"vgg": vgg, "size": 40, "scales": (), "iterations": 14}
    whole = ns.transfer(p, a, memory_pairs=15, **options)
    ns.transfer(p, a, memory_pairs=15, checkpoint=path, **options | {"iterations": 12})
    kept = read_checkpoint(path)
    for name in ("until", "memory_pairs"):
        del kept.settings[name]
    checkpoints.write_checkpoint(path, kept)
    assert np.array_equal(ns.transfer(p, a, resume=path, **options).image, whole.image)


def test_one_of_an_earlier_version_had_no_such_settings(tiny_vgg, picture, tmp_path):
    """It was run as their defaults of that time have it; with others it is not gone on with."""
    vgg, p, a, path = tiny_vgg(dtype="float32"), picture(40, 52), picture(36, 44, 1), tmp_path / "run.h5"
    options = {"vgg": vgg, "size": 40, "scales": (), "iterations": 3, "border": "zero"}
    whole = ns.transfer(p, a, checkpoint=path, **options)
    kept = read_checkpoint(path)
    for name in ("border", "outside", "colors", "color_match", "style_statistics", "until"):
        del kept.settings[name]
    checkpoints.write_checkpoint(path, kept)
    resumed = ns.transfer(p, a, resume=path, **options)
    assert resumed.settings.pop("memory_pairs") == 15  # as many as it remembered then
    same(resumed, whole)
    with pytest.raises(checkpoints.CheckpointError, match="a run with border 'zero', not 'replicate'"):
        ns.transfer(p, a, resume=path, **options | {"border": "replicate"})


def test_it_is_written_every_few_iterations_and_at_the_end(tiny_vgg, picture, tmp_path, monkeypatch):
    written = []
    write = checkpoints.write_checkpoint

    def record(path, checkpoint):
        written.append((checkpoint.scale, checkpoint.iteration))
        write(path, checkpoint)

    monkeypatch.setattr(checkpoints, "write_checkpoint", record)
    options = {"vgg": tiny_vgg(), **SMALL}
    ns.texture(picture(40, 52), checkpoint=tmp_path / "run.h5", checkpoint_every=4, **options)
    assert written == [(0, 0), (0, 4), (1, 8), (1, 12), (1, 15)]
    assert os.listdir(tmp_path) == ["run.h5"]


def test_an_interrupted_run_keeps_its_last_iterate(tiny_vgg, picture, tmp_path):
    def interrupt(progress):
        if progress.iteration == 9:
            raise KeyboardInterrupt

    options = {"vgg": tiny_vgg(), **SMALL}
    p = picture(40, 52)
    whole = ns.texture(p, **options)
    path = tmp_path / "run.h5"
    stopped = ns.texture(p, checkpoint=path, checkpoint_every=100, callback=interrupt, **options)
    assert stopped.interrupted
    assert read_checkpoint(path).iteration == 9  # each step is kept before it is shown
    same(ns.texture(p, resume=path, **options), whole)


def test_a_finished_run_goes_on_with_more_iterations(tiny_vgg, picture, tmp_path):
    options = {"vgg": tiny_vgg(), "size": 40}
    whole = ns.reconstruct(picture(40, 52), "conv3_1", iterations=9, **options)
    path = tmp_path / "run.h5"
    first = ns.reconstruct(picture(40, 52), "conv3_1", iterations=5, checkpoint=path, **options)
    again = ns.reconstruct(picture(40, 52), "conv3_1", iterations=5, resume=path, **options)
    same(again, first)
    more = ns.reconstruct(picture(40, 52), "conv3_1", iterations=9, checkpoint=path, resume=path, **options)
    same(more, whole)
    assert read_checkpoint(path).iteration == 9


def test_scipy_goes_on_from_the_same_pixels_and_says_that_its_memory_is_fresh(tiny_vgg, picture, tmp_path):
    options = {"vgg": tiny_vgg(), "optimizer": "scipy", "size": 40, "iterations": 12}
    path = tmp_path / "run.h5"
    with pytest.raises(PowerFailure):
        ns.reconstruct(picture(40, 52), checkpoint=path, checkpoint_every=1, callback=fails_at(7), **options)
    kept = read_checkpoint(path)
    assert kept.state["x"].dtype == np.float64
    with pytest.warns(UserWarning, match="from the same pixels with a fresh one"):
        result = ns.reconstruct(picture(40, 52), resume=path, **options)
    assert [line["iteration"] for line in result.history] == list(range(13))
    losses = [line["loss"] for line in result.history]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("optimizer", ["scipy", "lbfgs", None])
def test_what_was_kept_when_scipys_was_called_lbfgs_goes_on(tiny_vgg, picture, tmp_path, optimizer):
    options = {"vgg": tiny_vgg(), "size": 40, "convention": "paper"}
    path, p = tmp_path / "run.h5", picture(40, 52)
    ns.reconstruct(p, iterations=4, checkpoint=path, optimizer="lbfgs", **options)
    with h5py.File(path) as h5:
        assert '"lbfgs"' not in h5["record"].asstr()[()]
    kept = read_checkpoint(path)
    assert (kept.settings["optimizer"], kept.state["method"]) == ("scipy", "scipy")
    kept.settings["optimizer"] = kept.state["method"] = "lbfgs"
    write_checkpoint(path, kept)
    with pytest.warns(UserWarning, match="from the same pixels with a fresh one"):
        result = ns.reconstruct(
            p, iterations=7, optimizer=optimizer, resume=path, checkpoint=tmp_path / "other.h5", **options
        )
    assert (result.history[-1]["iteration"], result.settings["optimizer"]) == (7, "scipy")
    with h5py.File(tmp_path / "other.h5") as h5:
        assert '"lbfgs"' not in h5["record"].asstr()[()]
    with pytest.raises(CheckpointError, match="optimizer 'scipy', not 'lbfgs-device'"):
        ns.reconstruct(p, iterations=7, optimizer="lbfgs-device", resume=path, **options)


def test_the_device_keeps_and_goes_on(tiny_vgg, gpu, picture, tmp_path):
    vgg, p, a = tiny_vgg(gpu, dtype="float32"), picture(40, 52), picture(36, 44, 1)
    whole = ns.transfer(p, a, vgg=vgg, **SMALL)
    path = tmp_path / "run.h5"
    with pytest.raises(PowerFailure):
        ns.transfer(p, a, vgg=vgg, checkpoint=path, checkpoint_every=1, callback=fails_at(11), **SMALL)
    same(ns.transfer(p, a, vgg=vgg, resume=path, **SMALL), whole)


KEPT = {}


@pytest.fixture
def kept(tiny_vgg, picture, tmp_path):
    """A checkpoint of a transfer at its fourth iteration, and what the transfer took."""
    path = tmp_path / "kept.h5"
    given = {"content": picture(40, 52), "style": picture(36, 44, 1), "vgg": tiny_vgg(threads=2), "size": 40}
    if not KEPT:  # made once
        with pytest.raises(PowerFailure):
            ns.transfer(**given, iterations=8, checkpoint=path, checkpoint_every=1, callback=fails_at(5))
        KEPT["bytes"] = path.read_bytes()
    path.write_bytes(KEPT["bytes"])
    return path, given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 3.0}, "of a run with beta 20.0, not 3.0: give it the same, or begin anew"),
        ({"optimizer": "adam"}, "optimizer 'lbfgs-device', not 'adam'"),
        ({"size": 36}, "size 40, not 36"),
        ({"scales": (20,)}, r"scales \[40\], not \[20, 40\]"),
        ({"style_layers": ["conv1_1"]}, "style_layers"),
    ],
)
def test_another_run_is_refused(kept, change, message):
    path, given = kept
    with pytest.raises(CheckpointError, match=message):
        ns.transfer(**given | change, iterations=8, resume=path)


def test_other_pictures_and_networks_are_refused(kept, picture, tiny_vgg, tiny_weights):
    path, given = kept
    with pytest.raises(CheckpointError, match="another content picture"):
        ns.transfer(**given | {"content": picture(40, 52, 7)}, iterations=8, resume=path)
    with pytest.raises(CheckpointError, match="another style picture"):
        ns.transfer(**given | {"style": given["style"] * 0.99}, iterations=8, resume=path)
    with pytest.raises(CheckpointError, match="pooling 'avg', not 'max'"):
        ns.transfer(**given | {"vgg": tiny_vgg(pooling="max")}, iterations=8, resume=path)
    other = {name: (weight, bias + 0.01) for name, (weight, bias) in tiny_weights.items()}
    with pytest.raises(CheckpointError, match="another network"):
        ns.transfer(**given | {"vgg": ns.VGG(other, xp=np, dtype="float64")}, iterations=8, resume=path)
    with pytest.raises(CheckpointError, match="command 'transfer', not 'texture'"):
        ns.texture(given["style"], vgg=given["vgg"], size=40, resume=path)


def test_what_moves_the_last_digits_is_told(kept, tiny_vgg):
    path, given = kept
    with pytest.warns(UserWarning, match="the run had threads 2: it goes on, but not to the same last digits"):
        result = ns.transfer(**given | {"vgg": tiny_vgg(threads=1)}, iterations=8, resume=path)
    assert [line["iteration"] for line in result.history] == list(range(9))


def test_a_broken_checkpoint_is_told_in_a_line(kept, tmp_path):
    path, given = kept
    whole = path.read_bytes()
    rng = random.Random(3)
    other = tmp_path / "broken.h5"
    cases = [whole[: rng.randrange(len(whole))] for _ in range(20)] + [b"", b"no HDF5 file"]
    for _ in range(20):
        damaged = bytearray(whole)
        for _ in range(30):
            damaged[rng.randrange(4000)] = rng.randrange(256)
        cases.append(bytes(damaged))
    refused = []
    for case in cases:
        other.write_bytes(case)
        try:
            ns.transfer(**given, iterations=5, resume=other)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) >= 22
    assert not any("\n" in message for message in refused)
    with h5py.File(other, "w") as h5:
        h5["conv1_1/weight"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="not a checkpoint of nsnumpy"):
        read_checkpoint(other)
    with pytest.raises(CheckpointError, match=r"none.h5: no such checkpoint"):
        read_checkpoint(tmp_path / "none.h5")


def test_a_disk_that_is_full_does_not_end_the_run(tiny_vgg, picture, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    write, calls = checkpoints.write_checkpoint, []

    def full(path, checkpoint):
        calls.append(checkpoint.iteration)
        if 2 <= checkpoint.iteration <= 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, checkpoint)

    monkeypatch.setattr(checkpoints, "write_checkpoint", full)
    with pytest.warns(UserWarning, match="No space left on device") as caught:
        result = ns.texture(picture(40, 52), vgg=tiny_vgg(), size=40, iterations=6, checkpoint=path, checkpoint_every=1)
    assert len(caught) == 1
    assert result.stopped == ""
    assert calls == list(range(7))
    assert read_checkpoint(path).iteration == 6


def test_what_is_written_is_what_is_read(tmp_path):
    x, other = np.arange(6, dtype="float32").reshape(1, 2, 3), np.array([1.5, -2.0])
    state = {"x": x, "same": x, "numbers": [0.1 + 0.2, 7], "arrays": [other, x], "none": None, "nested": {"a": other}}
    settings = {"beta": 1.0, "border": "zero", "until": None}
    checkpoint = Checkpoint(settings, [{"loss": 1 / 3}], 2.5, 1, [4], ["why"], state)
    write_checkpoint(tmp_path / "a.h5", checkpoint)
    read = read_checkpoint(tmp_path / "a.h5")
    assert (read.settings, read.history, read.seconds, read.scale, read.counts, read.stops) == (
        settings, [{"loss": 1 / 3}], 2.5, 1, [4], ["why"]
    )  # fmt: skip
    assert read.state["numbers"] == [0.1 + 0.2, 7]
    assert read.state["x"].dtype == np.float32
    for name in ("x", "same"):
        assert np.array_equal(read.state[name], x)
    assert np.array_equal(read.state["arrays"][0], other)
    assert np.array_equal(read.state["nested"]["a"], other)
    with h5py.File(tmp_path / "a.h5") as h5:
        assert len(h5["arrays"]) == 2  # each once


def test_unusable_paths_are_told_before_the_run(tiny_vgg, picture, tmp_path):
    calls = []
    with pytest.raises(FileNotFoundError):
        ns.texture(picture(40, 52), vgg=tiny_vgg(), checkpoint=tmp_path / "none" / "a.h5", callback=calls.append)
    with pytest.raises(ValueError, match="checkpoint_every is 1 or more, not 0"):
        ns.texture(
            picture(40, 52), vgg=tiny_vgg(), checkpoint=tmp_path / "a.h5", checkpoint_every=0, callback=calls.append
        )
    assert calls == []


QUICK = "--weights tiny.h5 --size 40 --scales 24,40 --iterations 12,40 --threads 1"


def test_the_command_line_goes_on_and_its_log_is_whole(folder, capsys):
    command = f"transfer photo.png painting.png {QUICK}"
    assert main(f"{command} -o whole.png --log whole.jsonl".split()) == 0
    assert main(f"{command.replace('12,40', '12,7')} -o out.png --log out.jsonl --checkpoint run.h5".split()) == 0
    Path("out.jsonl").write_text(Path("out.jsonl").read_text() + "half a line that a dying ru")
    capsys.readouterr()
    assert main(f"{command} -o out.png --log out.jsonl --resume run.h5 --save-every 20".split()) == 0
    assert np.array_equal(ns.load_image("out.png"), ns.load_image("whole.png"))
    assert ns.read_settings("out.png") == ns.read_settings("whole.png")
    logs = [[json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()] for name in ("out", "whole")]
    assert without_seconds(logs[0]) == without_seconds(logs[1])
    assert sorted(name for name in os.listdir() if name.startswith("out-")) == ["out-00020.png", "out-00040.png"]
    assert read_checkpoint("run.h5").iteration == 52  # kept in the same file
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--resume none.h5", 2, "none.h5: no such checkpoint; leave it out to begin anew"),
        ("--resume other.h5", 2, "other.h5: not a checkpoint of nsnumpy"),
        ("--checkpoint photo.png", 2, "photo.png: named twice in this command"),
        ("--checkpoint out.png", 2, "out.png: named twice"),
        ("--checkpoint nowhere/run.h5", 2, "the folder nowhere does not exist"),
        ("--checkpoint run.h5 --checkpoint-every 0", 2, "a whole number, 1 or more, expected"),
        ("--resume run.h5 --beta 3", 1, "of a run with beta 20.0, not 3.0"),
    ],
)
def test_errors_are_one_line(folder, capsys, options, status, message):
    command = f"transfer photo.png painting.png -o out.png --weights tiny.h5 --size 40 --iterations 2 {options}"
    shutil.copy("tiny.h5", "other.h5")
    if "run.h5 --beta" in options:
        first = "transfer photo.png painting.png -o first.png --weights tiny.h5 --size 40 --iterations 1"
        assert main([*first.split(), "--checkpoint", "run.h5"]) == 0
        capsys.readouterr()
    try:
        got = main(command.split())
    except SystemExit as exit:
        got = exit.code
    err = capsys.readouterr().err
    assert got == status
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out.png").exists()


def test_any_bit_that_changed_is_noticed(kept, tmp_path):
    path, _ = kept
    whole, rng, other = path.read_bytes(), random.Random(5), tmp_path / "bit.h5"
    before = read_checkpoint(path)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        other.write_bytes(damaged)
        try:
            after = read_checkpoint(other)
        except CheckpointError:
            refused += 1
        else:  # where HDF5 keeps nothing
            assert after.history == before.history
            assert np.array_equal(after.state["x"], before.state["x"])
            assert all(map(np.array_equal, after.state["state"]["steps"], before.state["state"]["steps"]))
    assert refused > 40


def test_ctrl_c_while_the_last_checkpoint_is_written_loses_nothing(tiny_vgg, picture, tmp_path, monkeypatch):
    path, write = tmp_path / "run.h5", checkpoints.write_checkpoint
    options = {"vgg": tiny_vgg(), "size": 40, "iterations": 5}
    whole = ns.texture(picture(40, 52), **options)

    def interrupted(path, checkpoint):
        if checkpoint.iteration == 5:
            raise KeyboardInterrupt
        write(path, checkpoint)

    monkeypatch.setattr(checkpoints, "write_checkpoint", interrupted)
    result = ns.texture(picture(40, 52), checkpoint=path, checkpoint_every=3, **options)
    assert result.interrupted
    assert result.stopped.endswith(f"interrupted while {path} was written")
    assert np.array_equal(result.image, whole.image)
    assert read_checkpoint(path).iteration == 3


def test_a_checkpoint_that_was_handed_over_is_not_written(kept, tmp_path, monkeypatch):
    path, given = kept

    def full(path, checkpoint):
        assert checkpoint.state
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_checkpoint", full)
    other = tmp_path / "other.h5"
    with pytest.warns(UserWarning, match="No space left on device"):
        result = ns.transfer(**given, iterations=8, resume=path, checkpoint=other, callback=interrupt)
    assert result.interrupted
    assert not other.exists()


def test_ctrl_c_while_a_checkpoint_is_written_forgets_none(tiny_vgg, picture, tmp_path, monkeypatch):
    path, write, calls = tmp_path / "run.h5", checkpoints.write_checkpoint, []

    def interrupted(path, checkpoint):
        calls.append(checkpoint.iteration)
        if calls == [0, 2]:
            raise KeyboardInterrupt
        write(path, checkpoint)

    monkeypatch.setattr(checkpoints, "write_checkpoint", interrupted)
    result = ns.texture(picture(40, 52), vgg=tiny_vgg(), size=40, iterations=5, checkpoint=path, checkpoint_every=2)
    assert result.interrupted
    assert calls == [0, 2, 2]
    assert read_checkpoint(path).iteration == 2


def test_the_record_says_what_ran(tiny_vgg, picture, tmp_path):
    options = {"vgg": tiny_vgg(), "size": 40, "scales": (24, 40)}
    path, totals = tmp_path / "run.h5", []
    with pytest.raises(PowerFailure):
        ns.texture(
            picture(40, 52), iterations=(4, 8), checkpoint=path, checkpoint_every=1, callback=fails_at(8), **options
        )
    result = ns.texture(
        picture(40, 52), iterations=(20, 9), resume=path, callback=lambda p: totals.append(p.iterations), **options
    )
    assert result.settings["iterations"] == [4, 9]
    assert [line["iteration"] for line in result.history] == [*range(5), *range(4, 14)]
    assert set(totals) == {13}
    for method in ("lbfgs-device", "scipy"):
        options = {"vgg": options["vgg"], "size": 40, "optimizer": method}
        ns.reconstruct(picture(40, 52), iterations=5, checkpoint=path, **options)
        with pytest.raises(CheckpointError, match="^5 iterations are done, and 3 were asked for: ask for more"):
            ns.reconstruct(picture(40, 52), iterations=3, resume=path, **options)


@pytest.mark.slow
def test_the_number_of_iterations_is_that_of_the_file_unless_given(tiny_vgg, picture, tmp_path):
    """Interrupted early, it goes on to one more than the default."""
    path, options = tmp_path / "run.h5", {"vgg": tiny_vgg(), "size": 40, "optimizer": "adam"}
    with pytest.raises(PowerFailure):
        ns.reconstruct(picture(40, 52), iterations=ONE_SCALE + 1, checkpoint=path, callback=fails_at(9), **options)
    result = ns.reconstruct(picture(40, 52), resume=path, **options)
    assert result.settings["iterations"] == result.history[-1]["iteration"] == ONE_SCALE + 1


def test_what_stopped_a_scale_is_still_told(tiny_vgg, picture, tmp_path, monkeypatch):
    path, vgg = tmp_path / "run.h5", tiny_vgg()
    with pytest.raises(PowerFailure):
        ns.texture(picture(40, 52), vgg=vgg, checkpoint=path, checkpoint_every=1, callback=fails_at(9), **SMALL)
    kept = read_checkpoint(path)
    kept.stops.append("no lower loss found at 24 pixels")
    write_checkpoint(path, kept)
    assert ns.texture(picture(40, 52), vgg=vgg, resume=path, **SMALL).stopped == "no lower loss found at 24 pixels"


def test_a_run_that_stops_before_it_goes_on_has_the_best_picture_so_far(kept, monkeypatch):
    path, given = kept

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    checkpoint = read_checkpoint(path)
    checkpoint.state["best"] = checkpoint.state["best"] * 0.5
    checkpoint.state["lowest"] = 7.0
    monkeypatch.setattr("nsnumpy.run.means.Objective", interrupt)
    result = ns.transfer(**given, iterations=8, resume=checkpoint)
    assert result.interrupted
    assert result.settings["loss"] == 7.0
    assert np.array_equal(result.image, (checkpoint.state["best"]).astype("float32"))


def test_pictures_are_known_by_what_the_last_scale_sees(tiny_vgg, picture, tmp_path):
    p, a, path = picture(40, 52), picture(36, 44, 1), tmp_path / "run.h5"
    ns.transfer(p, a, vgg=tiny_vgg(), checkpoint=path, style_size=36, **SMALL)
    settings = read_checkpoint(path).settings
    assert settings["content_sha256"] == checkpoints.digest(ns.load_image(p, 40))
    assert settings["style_sha256"] == checkpoints.digest(ns.load_image(a, 36))


def test_the_log_is_json_however_large_the_losses_are(folder):
    command = f"transfer photo.png painting.png -o out.png {QUICK} --quiet --beta 1e22 --log run.jsonl"
    assert main(command.replace("12,40", "1").split()) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for line in Path("run.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_what_was_kept_is_not_written_over(folder, capsys):
    command = "texture painting.png -o out.png --weights tiny.h5 --size 40 --iterations 4 --threads 1"
    assert main([*command.split(), "--checkpoint", "run.h5", "--save-every", "4"]) == 0
    before = Path("run.h5").read_bytes(), Path("out-00004.png").read_bytes()
    capsys.readouterr()
    assert main([*command.split(), "--checkpoint", "run.h5"]) == 2
    assert capsys.readouterr().err == (
        "nsnumpy: error: run.h5: keeps a run already: --resume run.h5 goes on with it; or remove it\n"
    )
    assert main([*command.split(), "--resume", "run.h5", "--log", "run.h5", "--checkpoint", "other.h5"]) == 2
    assert "run.h5: named twice" in capsys.readouterr().err
    assert Path("run.h5").read_bytes() == before[0]
    assert main([*command.split(), "--resume", "run.h5", "--checkpoint", "new.h5", "--log", "new.jsonl"]) == 0
    assert "run.h5: goes on after 4 iterations\n" in capsys.readouterr().out
    assert read_checkpoint("new.h5").history == read_checkpoint("run.h5").history
    assert len(Path("new.jsonl").read_text().splitlines()) == 5
    assert main([*command.replace("-o out", "-o out").split(), "--resume", "run.h5", "--checkpoint", "run.h5"]) == 0


@pytest.mark.slow
def test_a_file_that_cannot_grow_does_not_end_the_run(folder):
    """A full disk, as far as a process can make one for itself."""
    resource = pytest.importorskip("resource")
    command = f"transfer photo.png painting.png -o out.png {QUICK} --quiet --checkpoint run.h5 --checkpoint-every 1"
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, {resource.RLIM_INFINITY})); "
        f"from nsnumpy.cli.main import main; sys.exit(main({command.split()!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stderr == "nsnumpy: note: run.h5: File too large; not a checkpoint for now\n"
    assert ns.load_image("out.png").shape == (31, 40, 3)
    assert not [name for name in os.listdir() if name.startswith(".")]


def start(command):
    """The command line in a process of its own."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with open("errors.txt", "ab") as errors:
        return subprocess.Popen([sys.executable, "-m", "nsnumpy", *command.split()], stderr=errors, env=environment)


def killed(process, path, wait):
    """Kill it `wait` seconds after it has written a checkpoint; whether it was still there to be killed."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
        time.sleep(0.002)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL), Path("errors.txt").read_text()
    return process.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("method", OWN)
def test_sigkill_at_random_moments(folder, request, method):
    """Killed again and again, in the middle of whatever it does, the run ends with the numbers of one that was not."""
    rng = random.Random(f"{method} {request.config.getoption('--kills')}")
    command = f"transfer photo.png painting.png {QUICK} --optimizer {method} --quiet"
    assert start(f"{command} -o whole.png --log whole.jsonl").wait() == 0
    whole = without_seconds([json.loads(line) for line in Path("whole.jsonl").read_text().splitlines()])
    path, kills, runs = folder / "run.h5", 0, 0
    while kills < request.config.getoption("--kills"):
        path.unlink(missing_ok=True)
        while True:
            how = "--resume" if path.exists() else "--checkpoint"
            process = start(f"{command} -o out.png --log out.jsonl {how} run.h5 --checkpoint-every {rng.randint(1, 3)}")
            if kills < request.config.getoption("--kills"):
                if killed(process, path, rng.uniform(0, 0.15)):
                    kills += 1
                    assert read_checkpoint(path).iteration >= 0  # whole, whenever that was
                    continue
            else:
                assert process.wait() == 0, Path("errors.txt").read_text()
            break
        runs += 1
        assert np.array_equal(ns.load_image("out.png"), ns.load_image("whole.png"))
        log = without_seconds([json.loads(line) for line in Path("out.jsonl").read_text().splitlines()])
        assert log == whole
    assert kills == request.config.getoption("--kills")
    assert runs
    print(f"{method}: {kills} kills in {runs} runs")


def test_the_readme_names_the_options():
    text = (Path(__file__).parent.parent / "README.md").read_text()
    assert re.search(r"--checkpoint \S+.*\n?.*--resume", text)


def test_no_values_of_another_file_are_read(folder):
    assert main(f"transfer photo.png painting.png -o out.png {QUICK} --quiet --checkpoint run.h5".split()) == 0
    shutil.copy("run.h5", "other.h5")
    with h5py.File("run.h5", "a") as h5:
        del h5["arrays/0"]
        h5["arrays/0"] = h5py.ExternalLink("other.h5", "/arrays/0")
    with pytest.raises(CheckpointError, match=r"run\.h5: .*arrays/0: a link to somewhere else"):
        read_checkpoint("run.h5")


def interrupted(command, at, monkeypatch):
    """Run a command, with Ctrl-C at an iteration."""
    add = watch._Log.add

    def interrupt(self, *lines):
        add(self, *lines)
        if lines and lines[0]["iteration"] == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watch._Log, "add", interrupt)
        assert main(command.split()) == 130


def test_resume_needs_nothing_else(folder, monkeypatch, capsys):
    """Not even the folder: it knows its pictures, its options and what it was to write."""
    whole = (
        f"transfer photo.png painting.png {QUICK} --iterations 9 --scales 40 --beta 7 --style-layers conv1_1,conv2_1:3"
    )
    assert main([*whole.split(), "-o", "whole.png", "--log", "whole.jsonl", "--quiet"]) == 0
    interrupted(f"{whole} -o out.png --log run.jsonl --checkpoint run.h5", 4, monkeypatch)
    capsys.readouterr()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["transfer", "--resume", "../run.h5"]) == 0
    assert "goes on after 4 iterations" in capsys.readouterr().out
    assert os.listdir() == []
    monkeypatch.chdir(folder)
    assert np.array_equal(ns.load_image("out.png"), ns.load_image("whole.png"))
    logs = [Path(log).read_text().splitlines() for log in ("run.jsonl", "whole.jsonl")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1]
    assert read_checkpoint("run.h5").iteration == 9


def test_what_is_said_goes_before_what_the_checkpoint_knows(folder, monkeypatch, capsys):
    command = (
        f"transfer photo.png painting.png -o out.png {QUICK} --scales 40 --iterations 9 --log l --checkpoint run.h5"
    )
    interrupted(command, 4, monkeypatch)
    best_so_far = Path("out.png").read_bytes()
    assert main(["transfer", "--resume", "run.h5", "-o", "other.png", "--iterations", "6", "--quiet"]) == 0
    assert Path("out.png").read_bytes() == best_so_far
    assert ns.read_settings("other.png")["iterations"] == 6
    capsys.readouterr()
    for options, words in (
        ("--iterations 3", "6 iterations are done, and 3 were asked for: ask for more"),
        ("--beta 3", "the checkpoint is of a run with beta 20.0, not 3.0"),
        ("--seed 5", "the checkpoint is of a run with seed 0, not 5"),
    ):
        assert main(f"transfer --resume run.h5 {options}".split()) in (1, 2)
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


def test_a_checkpoint_that_knows_no_command_wants_to_be_told(folder, capsys):
    vgg = ns.load_vgg("tiny.h5")
    ns.transfer("photo.png", "painting.png", vgg=vgg, size=40, iterations=3, scales=[40], checkpoint="run.h5")
    assert main(["transfer", "--resume", "run.h5"]) == 2
    assert capsys.readouterr().err == (
        "nsnumpy: error: the following arguments are required: CONTENT, STYLE, -o/--output "
        "(see nsnumpy transfer --help)\n"
    )


def test_a_run_of_another_command_is_named(folder, capsys):
    assert main(f"texture painting.png -o out.png {QUICK} --quiet --checkpoint run.h5".split()) == 0
    for words in ("", " photo.png painting.png -o out.png"):
        assert main(f"transfer{words} --resume run.h5".split()) == 2
        err = capsys.readouterr().err
        assert err == "nsnumpy: error: run.h5: keeps a texture: nsnumpy texture --resume goes on with it\n"


def test_like_takes_how_a_result_was_computed(folder):
    """Tiles, as they were that size's; and what L-BFGS remembered, as long as it is L-BFGS."""
    options = "--weights tiny.h5 --size 40 --scales 40 --iterations 1 --tile 32 --memory-pairs 3 --quiet"
    assert main(f"transfer photo.png painting.png -o first.png {options}".split()) == 0
    for words, tile, pairs in (
        ("", 32, 3),
        ("--size 36 --iterations 1", None, None),
        ("--tile off", None, 3),
        ("--memory-pairs 4", 32, 4),
        ("--optimizer adam", 32, None),
    ):
        command = f"transfer painting.png photo.png -o new.png --like first.png --weights tiny.h5 --quiet {words}"
        assert main(command.split()) == 0
        new = ns.read_settings("new.png")
        assert (new.get("tile"), new.get("memory_pairs")) == (tile, pairs), words


@pytest.mark.slow
def test_like_takes_the_settings_of_a_result_for_other_pictures(folder, capsys):
    """JPEG, too; what is said goes before, and scales do not outlive another size."""
    options = f"{QUICK} --scales 24 --iterations 3,2 --beta 7 --tv 3 --seed 4 --init noise --pooling max --quiet"
    for name in ("first.png", "first.jpg"):
        assert main(f"transfer photo.png painting.png -o {name} {options}".split()) == 0
        assert main(f"transfer painting.png photo.png -o new.png --like {name} --weights tiny.h5 --quiet".split()) == 0
        old, new = ns.read_settings(name), ns.read_settings("new.png")
        same = ("size", "scales", "iterations", "beta", "tv", "seed", "init", "pooling", "style_layers", "weights")
        assert [old[key] for key in same] == [new[key] for key in same]
        assert (new["content"], new["style"]) == (old["style"], old["content"])
    assert (
        main(
            [
                "transfer",
                "photo.png",
                "painting.png",
                "-o",
                "b.png",
                "--like",
                "first.png",
                "--beta",
                "9",
                "--size",
                "36",
                "--quiet",
            ]
        )
        == 0
    )
    new = ns.read_settings("b.png")
    assert (new["beta"], new["tv"], new["size"], new["scales"], new["seed"]) == (9, 3, 36, [36], 4)
    capsys.readouterr()
    assert main(f"texture photo.png -o c.png --like first.png {QUICK}".split()) == 2
    assert "first.png: made by transfer: its settings are not texture's" in capsys.readouterr().err
    assert main(f"transfer photo.png painting.png -o c.png --like photo.png {QUICK}".split()) == 2
    assert "photo.png: no nsnumpy settings in this file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("none.h5", "no such checkpoint; leave it out to begin anew"),
        ("folder", "no such checkpoint; leave it out to begin anew"),
        ("text", "not a checkpoint of nsnumpy"),
        ("photo.png", "not a checkpoint of nsnumpy"),
        ("weights.h5", "not a checkpoint of nsnumpy"),
    ],
)
@pytest.mark.parametrize("command", ["", "photo.png photo.png -o out.png "])
def test_what_is_no_checkpoint_is_told_before_anything_is_read(tmp_path, monkeypatch, capsys, name, wrong, command):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("text").write_text("hello")
    ns.save_image("photo.png", np.zeros((40, 40, 3)))
    with h5py.File("weights.h5", "w") as file:
        file["a"] = [1.0]
    before = sorted(os.listdir())
    monkeypatch.setattr("nsnumpy.cli.run.Given.read", lambda *_: pytest.fail("read"))
    assert main(f"transfer {command}--resume {name}".split()) == 2
    assert capsys.readouterr().err == f"nsnumpy: error: {name}: {wrong}\n"
    assert sorted(os.listdir()) == before
