"""The command train: from pictures to a weight file, interrupted and resumed, and what it refuses."""

import io
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from nsnumpy import load_vgg, read_weights, write_weights
from nsnumpy.backend import DeviceError
from weights_tools.cli import main
from weights_tools.train import Recipe, Stage, Trainer, cli, trainer

OPTIONS = "--width 1/16 --last conv2_1 --batch 8 --group 4 --stages 1@16/2,1@24 --side 32 --held-out 8 --dtype float32"
RECIPE = Recipe(widths=(4, 8, 16, 32, 32), last="conv2_1", stages=(Stage(1, 16, True), Stage(1, 24)), batch=8, group=4)
STEPS = 6  # 28 pictures: three of 8 in each of two epochs


def png(seed):
    """A picture of 32 x 32 pixels, brightest in one channel."""
    pixels = np.random.default_rng(seed).integers(0, 90, (32, 32, 3))
    pixels[..., seed % 3] += 150
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 36 pictures of three classes."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(36):
        (folder / f"class{k % 3}").mkdir(exist_ok=True)
        (folder / f"class{k % 3}" / f"{k}.png").write_bytes(png(k))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(pictures, tmp_path_factory):
    """The weight file of a training that ran through, as bytes."""
    output = tmp_path_factory.mktemp("uninterrupted") / "w.h5"
    assert main(["train", str(pictures), "-o", str(output), *OPTIONS.split()]) == 0
    return output.read_bytes()


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def train(pictures, capsys):
    """train(more options) gives the exit status, the lines on stdout and what is on stderr."""

    def train(more="", data=pictures, output="w.h5"):
        try:
            status = main(["train", str(data), "-o", str(output), *OPTIONS.split(), *more.split()])
        except SystemExit as exit:  # argparse's way
            status = exit.code
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return train


@pytest.fixture
def stop(monkeypatch):
    """stop(step, error) raises it when that step's gradients are due; stop(None) no longer."""
    right = Trainer.gradients

    def stop(at, error=KeyboardInterrupt):
        def gradients(self, step):
            if step == at:
                raise error
            return right(self, step)

        monkeypatch.setattr(Trainer, "gradients", gradients)

    return stop


def names():
    return sorted(path.name for path in Path().iterdir())


def is_one_line(err):
    return err.startswith("weights_tools: error: ") and err.count("\n") == 1 and err.endswith("\n")


def test_from_a_folder_of_pictures_to_a_network(train, pictures):
    status, out, err = train(
        "--log run.jsonl --last conv5_1 --stages 1@16/2,1@17 --radius 0.8 --attack-steps 2 --seed 5 --license MIT"
    )
    assert (status, err) == (0, "")
    assert names() == ["run.jsonl", "w.h5"]
    assert out[0] == "28 pictures of 3 classes, 6 steps of 8"
    assert [line.partition(":")[0] for line in out] == [out[0], "epoch 1.00", "epoch 2.00", "w.h5"]
    records = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[0].keys() == {"step", "steps", "epoch", "loss", "rate", "images_per_second", "accuracy"}
    assert all(record["loss"] > 0 for record in records)
    assert [record["accuracy"] is None for record in records] == [True, True, False] * 2

    file = read_weights("w.h5")
    assert (file.architecture, file.pooling, file.normalized, file.license) == ("vgg19", "avg", True, "MIT")
    assert out[-1] == f"w.h5: {file.source}"
    made = f"on {pictures.name}, 1@16/2,1@17, against perturbations of radius 0.8, top-1 accuracy "
    assert file.source.startswith("trained by nsnumpy 0.")
    assert made in file.source
    assert f"; normalized over {pictures.name}; recipe {{" in file.source
    recipe = json.loads(file.source.partition("; recipe ")[2])
    assert (recipe["widths"], recipe["radius"], recipe["steps"], recipe["seed"]) == ([4, 8, 16, 32, 32], 0.8, 2, 5)
    vgg = load_vgg("w.h5")
    assert list(vgg.layers)[-1] == "conv5_1"
    assert vgg.preprocessing.mean == file.preprocessing.mean
    F = vgg.forward(np.full((32, 32, 3), 0.5, np.float32), ["conv5_1"])[0]["conv5_1"]
    assert F.shape == (2, 2, 32)
    assert np.isfinite(F).all()


def test_from_an_hdf5_file_by_the_module(tmp_path):
    parts = [png(k) for k in range(16)]
    with h5py.File("p.h5", "w") as h5:
        h5["png"] = np.frombuffer(b"".join(parts), np.uint8)
        h5["offset"] = np.cumsum([0] + [len(part) for part in parts])
        h5["label"] = np.arange(16) % 3
    options = "--stages 1@16 --last conv1_2 --width 1/32 --side 32 --batch 8 --group 8 --radius 0 --held-out 0"
    run = [sys.executable, "-m", "weights_tools", "train", "p.h5", "-o", "w.h5", *options.split()]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "16 pictures of 3 classes, 2 steps of 8"
    assert done.stderr == ""
    assert "on p.h5, 1@16, without perturbations; normalized over p.h5; recipe {" in read_weights("w.h5").source
    with h5py.File("w.h5") as h5:
        assert h5["conv1_2/weight"].dtype == np.float16  # unless another one is asked for
        assert h5["conv1_2/weight"].shape == (3, 3, 2, 2)
    assert names() == ["p.h5", "w.h5"]


def test_in_8_bits(train, uninterrupted):
    assert train("--dtype int8")[0] == 0
    Path("float32.h5").write_bytes(uninterrupted)
    write_weights("int8.h5", read_weights("float32.h5"), "int8")
    assert Path("int8.h5").read_bytes() == Path("w.h5").read_bytes()


def test_the_defaults_are_the_recipe_s(monkeypatch):
    seen = []
    monkeypatch.setattr("weights_tools.cli.run_train", lambda arguments: seen.append(arguments) or 0)
    assert main(["train", "p.h5", "-o", "w.h5"]) == 0
    assert cli._recipe(seen[0]) == Recipe()
    assert main(["train", "p.h5", "-o", "w.h5", *OPTIONS.split()]) == 0
    assert cli._recipe(seen[1]) == RECIPE


def test_ctrl_c_keeps_a_checkpoint_and_resume_finishes_the_same_file(train, stop, uninterrupted):
    """Stopped at the very first step, in the middle, and again."""
    stop(0)
    status, _, err = train("--log run.jsonl")
    assert status == 130
    assert err == "weights_tools: interrupted after 0 of 6 steps; --resume goes on from w.h5.checkpoint\n"
    for at in (2, 5):
        stop(at)
        status, _, err = train("--log run.jsonl --resume")
        assert status == 130
        assert err == f"weights_tools: interrupted after {at} of 6 steps; --resume goes on from w.h5.checkpoint\n"
        assert names() == ["run.jsonl", "w.h5.checkpoint"]
    stop(None)
    status, _, err = train("--log run.jsonl --resume --threads 2")
    assert (status, err) == (0, "")
    assert names() == ["run.jsonl", "w.h5"]
    assert Path("w.h5").read_bytes() == uninterrupted
    records = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_after_the_last_step_loses_nothing(train, stop, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch:
        patch.setattr(cli, "normalize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        status, _, err = train()
    assert status == 130
    assert "interrupted" in err
    assert names() == ["w.h5.checkpoint"]
    stop(STEPS - 1, AssertionError("no step is made again"))
    assert train("--resume")[0] == 0
    assert Path("w.h5").read_bytes() == uninterrupted


def test_what_fails_after_the_training_loses_nothing(train, stop, monkeypatch, uninterrupted):
    """It can be finished with other pictures for the calibration, say."""
    with monkeypatch.context() as patch:
        patch.setattr(cli, "normalize", lambda *_: (_ for _ in ()).throw(ValueError("they are too small")))
        status, _, err = train()
    assert (status, names()) == (1, ["w.h5.checkpoint"])
    assert is_one_line(err)
    assert "they are too small" in err
    Path("photos").mkdir()
    Path("photos", "0.png").write_bytes(png(0))
    stop(STEPS - 1, AssertionError("no step is made again"))
    assert train("--resume --calibrate photos")[0] == 0
    assert names() == ["photos", "w.h5"]
    assert "; normalized over photos; " in read_weights("w.h5").source
    assert Path("w.h5").read_bytes() != uninterrupted


def test_a_checkpoint_is_not_overwritten_and_none_is_missed(train, stop, pictures):
    status, _, err = train("--resume")
    assert (status, names()) == (1, [])
    assert is_one_line(err)
    assert "w.h5.checkpoint: no checkpoint that can be read; begin without --resume" in err
    stop(3)
    assert train()[0] == 130
    before = Path("w.h5.checkpoint").read_bytes()
    stop(0, AssertionError("nothing is trained"))
    for more, words in (
        ("", "w.h5.checkpoint: of a training that was not finished: --resume goes on; or remove it"),
        ("--resume --rate 0.1", "of a training with rate 0.2; give the same options, or begin anew"),
        ("--resume --seed 1 --last conv2_2", "of a training with last 'conv2_1', seed 0; give the same options"),
    ):
        status, _, err = train(more)
        assert status == 1
        assert is_one_line(err)
        assert words in err
        assert Path("w.h5.checkpoint").read_bytes() == before
    assert names() == ["w.h5.checkpoint"]


@pytest.mark.parametrize("seconds", [-1, 300])
def test_a_checkpoint_is_written_now_and_then(train, stop, monkeypatch, seconds):
    """So that a machine may fail."""
    monkeypatch.setattr(cli, "_SAVE_SECONDS", seconds)
    stop(4, OSError("the power went"))
    assert train()[0] == 1
    assert names() == (["w.h5.checkpoint"] if seconds < 0 else [])
    if seconds < 0:
        assert trainer.load_state("w.h5.checkpoint", RECIPE).step == 4


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
def test_a_loss_that_is_not_finite_is_told(train):
    status, _, err = train("--rate 1e30 --stages 9@16")
    assert status == 1
    assert "the loss is " in err.splitlines()[-1]
    assert "choose a rate below 1e+30" in err.splitlines()[-1]
    assert "w.h5" not in names()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--seed x", "--seed"),
        ("--held-out 1.5", "--held-out"),
        ("--rate inf", "a number, 0 or more, expected; 'inf' given"),
        ("--rate x", "a number, 0 or more, expected; 'x' given"),
        ("--momentum nan", "a number, 0 or more, expected; 'nan' given"),
        ("--weight-decay -1", "a number, 0 or more, expected; '-1' given"),
        ("--radius -0.5", "a number, 0 or more, expected; '-0.5' given"),
        ("--attack-steps 0", "a whole number, 1 or more, expected; '0' given"),
        ("--batch 0", "a whole number, 1 or more, expected; '0' given"),
        ("--group x", "a whole number, 1 or more, expected; 'x' given"),
        ("--side -3", "a whole number, 1 or more, expected; '-3' given"),
        ("--threads 0", "a whole number, 1 or more, expected; '0' given"),
        ("--width 0", "a share as 3/8 or 0.5 expected; '0' given"),
        ("--width 1/0", "a share as 3/8 or 0.5 expected; '1/0' given"),
        ("--width 5", "a share as 3/8 or 0.5 expected; '5' given"),
        ("--stages 16", "EPOCHS@CROP or EPOCHS@CROP/2, with commas, expected; '16' given"),
        ("--stages 1@16/3", "EPOCHS@CROP or EPOCHS@CROP/2, with commas, expected; '1@16/3' given"),
        ("--stages 1@16,", "EPOCHS@CROP or EPOCHS@CROP/2, with commas, expected; '1@16,' given"),
        ("--dtype int4", "invalid choice: 'int4'"),
        ("--device tpu", "invalid choice: 'tpu'"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
    ],
)
def test_a_wrong_option_is_one_line(train, more, words):
    status, out, err = train(more)
    assert (status, out, names()) == (2, [], [])
    assert is_one_line(err)
    assert words in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--held-out 36", "36 pictures: 36 of them cannot be held out; hold out fewer"),
        ("--held-out 30", "6 pictures are fewer than a batch of 8"),
        ("--batch 6", "batch 6 is not a multiple of group 4"),
        ("--stages 1@33", "crop 33: 2 to 32 expected, with conv2_1 and these pictures"),
        ("--stages 1@17/2", "crop 17: 2 to 16 expected"),
        ("--side 20", "crop 16: 2 to 10 expected"),
        ("--log no/run.jsonl", "no/run.jsonl: the folder no does not exist; make it first"),
        ("--log .", ".: is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_trained_is_one_line(train, more, words):
    status, out, err = train(more)
    assert (status, out, names()) == (1, [], [])
    assert is_one_line(err)
    assert words in err


@pytest.mark.parametrize(
    ("data", "output", "words"),
    [
        ("missing", "w.h5", "missing: no such file or folder"),
        ("empty", "w.h5", "empty: a folder for each class expected, with pictures in it"),
        ("text", "w.h5", "text: not an HDF5 file of pictures, and no folder of them"),
        (None, "no/w.h5", "no/w.h5: the folder no does not exist; make it first"),
        (None, "empty.h5", "empty.h5: is a folder; name a file in it"),
        (None, "text/w.h5", "the folder text does not exist; make it first"),
        (None, "x" * 300 + ".h5", "File name too long"),
    ],
)
def test_a_wrong_path_is_one_line(train, pictures, data, output, words):
    Path("empty").mkdir()
    Path("empty.h5").mkdir()
    Path("text").write_text("hello")
    status, out, err = train("", data or pictures, output)
    assert (status, out, names()) == (1, [], ["empty", "empty.h5", "text"])
    assert is_one_line(err)
    assert words in err


def test_a_folder_that_may_not_be_written_to(train, monkeypatch):
    """As told before the work; that of check_folder itself is tested with it."""
    monkeypatch.setattr(Path, "touch", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    status, out, err = train()
    assert (status, out) == (1, [])
    assert is_one_line(err)
    assert "w.h5: Permission denied" in err


@pytest.mark.parametrize(
    "more",
    [
        "--seed -1",
        "--held-out -1",
        "--momentum 1",
        "--last nonsense",
        "--last block",
        "--stages 0@16",
        "--rate 0",
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(train, more):
    status, out, err = train(more)
    assert (status, out, names()) == (2, [], [])
    assert is_one_line(err)
    assert f"argument {more.split()[0]}: " in err


def test_stages_without_a_step_are_refused(train):
    status, out, err = train("--stages 0.01@16")
    assert (status, out, names()) == (1, [], [])
    assert is_one_line(err)
    assert "unexpected" not in err


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ("", "p.h5"),
        ("--log p.h5", "w.h5"),
        ("--log w.h5", "w.h5"),
        ("--log w.h5.checkpoint", "w.h5"),
    ],
)
def test_what_is_read_is_not_overwritten_and_each_file_has_its_own_name(train, more, output):
    parts = [png(k) for k in range(16)]
    with h5py.File("p.h5", "w") as h5:
        h5["png"] = np.frombuffer(b"".join(parts), np.uint8)
        h5["offset"] = np.cumsum([0] + [len(part) for part in parts])
        h5["label"] = np.arange(16) % 3
    before = Path("p.h5").read_bytes()
    status, _, err = train(f"--held-out 0 {more}", "p.h5", output)
    assert Path("p.h5").read_bytes() == before
    assert (status, names()) == (1, ["p.h5"])
    assert "named twice in this command" in err


@pytest.mark.parametrize(
    "more",
    [
        "--held-out 4",
        "--held-out 0",
        "--side 40",
        "fewer",
        "more",
    ],
)
def test_a_training_is_not_resumed_with_other_pictures(train, stop, pictures, tmp_path, more):
    stop(3)
    assert train()[0] == 130
    stop(None)
    data = pictures
    if not more.startswith("--"):
        data, classes = tmp_path / pictures.name, 4 if more == "more" else 2
        for k in range(36):
            (data / f"class{k % classes}").mkdir(parents=True, exist_ok=True)
            (data / f"class{k % classes}" / f"{k}.png").write_bytes(png(k))
        more = ""
    status, _, err = train(f"--resume {more}", data)
    assert status == 1
    assert is_one_line(err)
    assert "unexpected" not in err
    assert Path("w.h5.checkpoint").exists()


@pytest.mark.parametrize(
    "more",
    [
        "--calibrate missing",
        "--calibrate empty",
        "--calibrate small",
    ],
)
def test_wrong_calibration_pictures_are_told_before_the_training(train, stop, more):
    Path("empty").mkdir()
    Path("small").mkdir()
    Image.new("RGB", (1, 1)).save("small/1.png")
    stop(0, AssertionError("the training began"))
    status, out, err = train(more)
    assert (status, out, names()) == (1, [], ["empty", "small"])
    assert is_one_line(err)
    assert "AssertionError" not in err


def test_a_device_that_cannot_be_had_is_told(train, monkeypatch):
    def device_namespace(device):
        raise DeviceError(f"device {device!r} cannot be used: choose device 'cpu'")

    monkeypatch.setattr(trainer, "device_namespace", device_namespace)
    status, _, err = train("--device gpu")
    assert status == 1
    assert err == "weights_tools: error: device 'gpu' cannot be used: choose device 'cpu'\n"


def test_a_loss_that_is_not_finite_is_one_line(train):
    status, _, err = train("--rate 1e30 --stages 9@16")
    assert status == 1
    assert is_one_line(err)
    assert "the loss is" in err


@pytest.mark.parametrize("recipe", [3, "[1]"])
def test_a_foreign_hdf5_file_for_a_checkpoint(train, recipe):
    with h5py.File("w.h5.checkpoint", "w") as h5:
        h5.attrs["recipe"] = recipe
    status, _, err = train("--resume")
    assert status == 1
    assert "no checkpoint that can be read" in err
