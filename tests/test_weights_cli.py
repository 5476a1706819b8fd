"""The commands of weights_tools: what they print, write and refuse."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from weight_writers import FIXTURES, small_network

from nsnumpy import WeightFile, read_weights, write_weights
from weights_tools import convert
from weights_tools.cli import main
from weights_tools.published import CONVENTIONS


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_convert_says_what_it_read_and_what_it_assumed(capsys, tmp_path):
    assert main(["convert", str(FIXTURES / "torchvision-legacy.pth"), "-o", "w.h5"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "w.h5: vgg19, 16 layers, from PyTorch (before 1.6)"
    assert out[1] == "  expects RGB, 0 ... 1, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    assert out[2].startswith("  note: the file does not say which pixels it expects; what is usual")
    file = read_weights("w.h5")
    assert (file.pooling, file.normalized, file.license) == ("max", False, "")
    assert file.source == "torchvision-legacy.pth"
    assert len(file.sha256) == 64
    for name, arrays in small_network().items():
        assert all(np.array_equal(*pair) for pair in zip(file.weights[name], arrays, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["w.h5"]


def test_convert_takes_the_users_word(capsys):
    command = ["convert", str(FIXTURES / "named.pth"), "-o", "w.h5"]
    assert main([*command, "--rgb", "--scale", "1", "--mean", "0.5,0.25,0.125", "--std", "1,2,4"]) == 0
    assert "note" not in capsys.readouterr().out
    assert main([*command, "--rgb", "--scale", "1", "--mean", "0.5,0.25,0.125"]) == 0
    assert "note: the file does not say which pixels it expects" in capsys.readouterr().out
    assert main([*command, "--rgb", "--scale", "1", "--mean", "0.5,0.25,0.125", "--std", "1,2,4"]) == 0
    p = read_weights("w.h5").preprocessing
    assert (p.channel_order, p.pixel_scale, p.mean, p.std) == ("RGB", 1.0, (0.5, 0.25, 0.125), (1.0, 2.0, 4.0))


def test_float16_on_request_with_its_error_and_back(capsys):
    source = str(FIXTURES / "named.pth")
    assert main(["convert", source, "-o", "half.h5", "--dtype", "float16"]) == 0
    out = capsys.readouterr().out
    with h5py.File("half.h5") as h5:
        assert h5["conv3_1/weight"].dtype == np.float16
    stored, original = read_weights("half.h5").weights, small_network()
    errors = {}
    for name, (weight, _) in original.items():
        difference = (stored[name][0] - weight).astype(np.float64)
        errors[name] = np.sqrt((difference**2).mean() / (weight.astype(np.float64) ** 2).mean())
    worst = max(errors, key=errors.get)
    assert f"stored as float16: relative rms error of the weights {errors[worst]:.1e} at most ({worst})" in out
    assert 1e-5 < errors[worst] < 1e-3
    assert main(["convert", "half.h5", "-o", "again.h5", "--dtype", "float64"]) == 0
    assert "rms" not in capsys.readouterr().out
    assert np.array_equal(read_weights("again.h5").weights["conv1_1"][0], stored["conv1_1"][0])
    assert main(["convert", str(FIXTURES / "half.pth"), "-o", "narrow.h5"]) == 0  # exact in float16, so stored so
    with h5py.File("narrow.h5") as h5:
        assert h5["conv3_1/weight"].dtype == np.float16


@pytest.mark.slow
def test_int8_with_its_error_and_back_and_to_itself(capsys):
    assert main(["convert", str(FIXTURES / "named.pth"), "-o", "a.h5", "--dtype", "int8"]) == 0
    out = capsys.readouterr().out
    with h5py.File("a.h5") as h5:
        assert h5["conv3_1/weight"].dtype == np.int8
    stored, original = read_weights("a.h5").weights, small_network()
    errors = {n: np.sqrt(np.mean((stored[n][0] - w) ** 2) / np.mean(w**2)) for n, (w, _) in original.items()}
    worst = max(errors, key=errors.get)
    assert f"stored as int8: relative rms error of the weights {errors[worst]:.1e} at most ({worst})" in out
    assert 1e-3 < errors[worst] < 1e-2
    assert main(["inspect", "a.h5"]) == 0
    assert "vgg19, 16 layers, int8\n" in capsys.readouterr().out
    for output, options in (("b.h5", []), ("c.h5", ["--dtype", "int8"])):
        assert main(["convert", "a.h5", "-o", output, *options]) == 0
        assert Path(output).read_bytes() == Path("a.h5").read_bytes()
    assert main(["convert", "a.h5", "-o", "d.h5", "--dtype", "float32"]) == 0
    assert "rms" not in capsys.readouterr().out
    assert all(np.array_equal(read_weights("d.h5").weights[name][0], stored[name][0]) for name in stored)
    assert convert("d.h5", "f.h5").dtype == "float32"  # floats stay floats
    assert main(["convert", "a.h5", "-o", "e.h5", "--dtype", "float16"]) == 0
    assert "stored as float16: relative rms error of the weights" in capsys.readouterr().out


def _mixed(h5):
    weight = h5["conv1_2/weight"][()] * h5["conv1_2/scale"][()] * np.float32(np.pi)
    del h5["conv1_2/weight"], h5["conv1_2/scale"]
    h5["conv1_2/weight"] = weight * (1 + np.arange(weight.size).reshape(weight.shape) / 1e4).astype("f")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda h5: None, "int8"),
        (_mixed, "float32"),
        (lambda h5: h5["conv1_2/scale"].write_direct(np.full(2, np.pi, "f")), "float32"),
        (lambda h5: h5["conv1_2/weight"].write_direct(-h5["conv1_2/weight"][()]), "int8"),
        (lambda h5: h5.__delitem__("conv1_2/bias") or h5.create_dataset("conv1_2/bias", data=[np.pi, 1]), "float64"),
    ],
)
def test_the_type_that_is_told_of_an_int8_file_holds_its_values(change, dtype):
    write_weights("w.h5", WeightFile(small_network(widths=(2, 2, 2, 2, 2))), "int8")
    with h5py.File("w.h5", "a") as h5:
        change(h5)
    found = convert("w.h5", "again.h5")
    assert found.dtype == dtype
    again = read_weights("again.h5").weights
    for name, arrays in read_weights("w.h5").weights.items():
        assert all(np.array_equal(*pair) for pair in zip(arrays, again[name], strict=True))


@pytest.mark.slow
def test_compare_and_normalize_take_int8(capsys):
    write_weights("w.h5", WeightFile(small_network(widths=(6, 6, 6, 6, 6)), preprocessing=CONVENTIONS["caffe"]))
    assert main(["convert", "w.h5", "-o", "q.h5", "--dtype", "int8"]) == 0
    assert main(["compare", "w.h5", "q.h5"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "the same network, up to rounding to 8 bits"
    assert any(line.endswith("the same, rounded to 8 bits") for line in out)
    assert main(["normalize", "q.h5", "sample:coast", "-o", "n.h5", "--size", "80"]) == 0
    assert "rms" not in capsys.readouterr().out
    with h5py.File("n.h5") as h5:
        assert h5["conv1_2/weight"].dtype == np.float32
    assert main(["normalize", "q.h5", "sample:coast", "-o", "m.h5", "--size", "80", "--dtype", "int8"]) == 0
    assert "stored as int8: relative rms error" in capsys.readouterr().out
    with h5py.File("m.h5") as h5:
        assert h5["conv1_2/weight"].dtype == np.int8
    assert main(["compare", "q.h5", "m.h5"]) == 0
    assert "the same network, up to a positive factor for each filter and rounding to 8 bits" in capsys.readouterr().out


def test_a_damaged_int8_file_is_refused_in_a_line(capsys):
    write_weights("w.h5", WeightFile(small_network()), "int8")
    with h5py.File("w.h5", "a") as h5:
        del h5["conv2_1/scale"]
    assert main(["convert", "w.h5", "-o", "o.h5"]) == 1
    assert capsys.readouterr().err == "weights_tools: error: w.h5: conv2_1/scale is missing\n"
    assert not Path("o.h5").exists()


def test_a_converted_file_converts_to_itself():
    assert main(["convert", str(FIXTURES / "matconvnet.mat"), "-o", "a.h5"]) == 0
    assert main(["convert", "a.h5", "-o", "b.h5"]) == 0
    assert main(["convert", "a.h5", "-o", "c.h5", "--bgr"]) == 0
    assert read_weights("c.h5").preprocessing == CONVENTIONS["caffe"]
    assert main(["convert", str(FIXTURES / "half.pth"), "-o", "half.h5"]) == 0
    assert main(["convert", "half.h5", "-o", "half2.h5"]) == 0
    with h5py.File("half2.h5") as h5:
        assert h5["conv1_1/weight"].dtype == np.float16
    assert main(["convert", "a.h5", "-o", "d.h5", "--axes", "HWIO"]) == 1
    a, b = read_weights("a.h5"), read_weights("b.h5")
    assert (a.preprocessing, a.source, a.sha256, a.pooling) == (b.preprocessing, b.source, b.sha256, b.pooling)
    assert all(
        np.array_equal(x, y) for name in a.weights for x, y in zip(a.weights[name], b.weights[name], strict=True)
    )


def test_inspect(capsys):
    assert main(["inspect", str(FIXTURES / "v2.caffemodel")]) == 0
    out = capsys.readouterr().out
    assert "Caffe (V2 layers)" in out
    assert "vgg19, 16 layers, float32" in out
    assert "BGR, 0 ... 255, mean 103.939 116.779 123.68" in out
    weight, bias = small_network()["conv3_1"]
    row = next(line for line in out.splitlines() if line.startswith("conv3_1"))
    assert "(3, 3, 3, 4)" in row
    numbers = row.split(")")[1].split()
    assert [float(n) for n in numbers] == pytest.approx(
        [weight.min(), weight.max(), np.linalg.norm(weight), np.linalg.norm(bias)], rel=5e-3
    )
    assert "mean activation" not in out


def test_normalize_and_inspect_shows_means_of_one(capsys):
    write_weights("w.h5", WeightFile(small_network(widths=(6, 6, 6, 6, 6)), preprocessing=CONVENTIONS["caffe"]))
    assert main(["normalize", "w.h5", "sample:coast", "-o", "n.h5", "--size", "80"]) == 0
    assert "n.h5: normalized over 1 picture, avg pooling; expects BGR" in capsys.readouterr().out
    assert main(["inspect", "n.h5", "--picture", "sample:coast", "--size", "80"]) == 0
    out = capsys.readouterr().out
    assert "normalized  yes" in out
    assert "normalized over 1 picture, avg pooling" in out  # its source says so
    assert "activations sample:coast, 80 pixels, avg pooling" in out
    rows = [line for line in out.splitlines() if line.startswith("conv")]
    assert len(rows) == 16
    for row in rows:
        low, high = row.rpartition("(")[2].rstrip(")").split(" to ")
        assert float(high) == pytest.approx(1, abs=1e-3)
        assert float(low) in (0, pytest.approx(1, abs=1e-3))
    assert main(["compare", "w.h5", "n.h5"]) == 0
    assert "the same network, up to a positive factor for each filter" in capsys.readouterr().out


def test_normalized_weights_are_not_rounded_unless_asked_for(capsys):
    """What was exact in float16 is not once it is rescaled; the error that is told is that of the rescaled weights."""
    command = ["normalize", str(FIXTURES / "half.pth"), "sample:coast", "--size", "64"]
    assert main([*command, "-o", "n.h5"]) == 0
    assert "rms" not in capsys.readouterr().out
    exact = read_weights("n.h5").weights
    with h5py.File("n.h5") as h5:
        assert h5["conv2_1/weight"].dtype == np.float32
    assert main([*command, "-o", "h.h5", "--dtype", "float16"]) == 0
    out = capsys.readouterr().out
    stored = read_weights("h.h5").weights
    errors = {n: np.sqrt(np.mean((stored[n][0] - w) ** 2) / np.mean(w**2)) for n, (w, _) in exact.items()}
    worst = max(errors, key=errors.get)
    assert f"stored as float16: relative rms error of the weights {errors[worst]:.1e} at most ({worst})" in out


def test_the_built_in_network_has_a_name_here_too(tmp_path, monkeypatch, capsys):
    assert main(["inspect", "builtin"]) == 0
    out = capsys.readouterr().out
    assert "compressed by nsnumpy" in out
    assert "license     CC BY 4.0" in out
    monkeypatch.setattr("nsnumpy.files.weight_sources.DATA", tmp_path)  # with a smaller one
    write_weights(tmp_path / "builtin.h5", WeightFile(small_network(widths=(4, 4, 4, 4, 4))), "int8")
    assert main(["convert", "builtin", "-o", "b.h5", "--dtype", "float16"]) == 0
    assert main(["compare", "builtin", "b.h5"]) == 0
    assert "conv5_1" in capsys.readouterr().out


def test_from_python_too_nothing_is_overwritten_or_stored_wrongly():
    source = shutil.copy(FIXTURES / "keras2.h5", "k.h5")
    before = Path(source).read_bytes()
    with pytest.raises(ValueError, match=r"k\.h5: the file that is read; write to another one"):
        convert(source, "./k.h5")
    with pytest.raises(ValueError, match="unknown dtype 'int4': choose from int8, float16, float32, float64"):
        convert(source, "o.h5", dtype="int4")
    with pytest.raises(FileNotFoundError, match="the folder nowhere does not exist; make it first"):
        convert(source, "nowhere/o.h5")
    assert Path(source).read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["k.h5"]


def test_compare_says_no_with_its_exit_status(capsys):
    assert main(["compare", str(FIXTURES / "named.pth"), str(FIXTURES / "matconvnet.mat")]) == 1
    assert "one of the two, stated or assumed, is wrong" in capsys.readouterr().out
    assert main(["compare", str(FIXTURES / "named.pth"), str(FIXTURES / "keras2.h5")]) == 0


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("", 2, "arguments are required: COMMAND"),
        ("convert", 2, "the following arguments are required: FILE, -o/--output"),
        ("convert missing.pth -o w.h5", 1, "missing.pth: no such weight file"),
        ("convert FIXTURES/named.pth -o no/w.h5", 1, "the folder no does not exist; make it first"),
        ("convert FIXTURES/named.pth -o .", 2, "a name in .h5 or .hdf5 expected"),
        ("convert FIXTURES -o w.h5", 1, "a folder; name the file in it"),
        ("convert FIXTURES/keras2.h5 -o FIXTURES/keras2.h5", 1, "named twice in this command"),
        ("convert FIXTURES/named.pth -o w.h5 --mean 1,2", 2, "three numbers expected"),
        ("convert FIXTURES/named.pth -o w.h5 --std 1,0,1", 2, "three numbers above 0 expected"),
        ("convert FIXTURES/named.pth -o w.h5 --scale -1", 2, "a number above 0 expected"),
        ("convert FIXTURES/named.pth -o w.h5 --scale nan", 2, "a number expected"),
        ("convert FIXTURES/named.pth -o w.h5 --axes OIHX", 2, "the letters O, I, H and W"),
        ("convert FIXTURES/named.pth -o w.h5 --axes HWIO", 1, "do not fit onto one another as HWIO"),
        ("convert FIXTURES/named.pth -o w.h5 --bgr --rgb", 2, "not allowed with argument"),
        ("convert FIXTURES/expected.npz -o w.h5 --dtype int4", 2, "invalid choice"),
        ("inspect FIXTURES/named.pth --picture missing.jpg", 1, "missing.jpg"),
        ("inspect FIXTURES/named.pth --picture sample:coast --size 8", 1, "H, W >= 16 expected"),
        ("inspect FIXTURES/named.pth --picture sample:coast --size 99999", 2, "1 to 2048 pixels expected"),
        ("inspect vgg99", 1, "vgg99: no such weight file"),
        ("compare FIXTURES/named.pth vgg99", 1, "vgg99: no such weight file"),
        ("normalize FIXTURES/named.pth -o w.h5", 2, "required: PICTURE"),
        ("normalize FIXTURES/named.pth missing.jpg -o w.h5", 1, "missing.jpg"),
        ("fetch vgg20", 1, "unknown name 'vgg20'"),
    ],
)
def test_a_wrong_command_is_one_line_and_writes_nothing(command, status, words, capsys, tmp_path):
    arguments = command.replace("FIXTURES", str(FIXTURES)).split()
    if status == 2:  # argparse's way
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    else:
        assert main(arguments) == status
    err = capsys.readouterr().err
    assert words in err
    assert err.startswith("weights_tools: error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_runs_as_a_module_without_any_framework():
    code = (
        "import sys; from weights_tools.cli import main\n"
        "assert not any(main(['convert', path, '-o', 'w.h5']) for path in sys.argv[1:])\n"
        "print([m for m in ('torch', 'keras', 'onnx', 'google.protobuf', 'safetensors', 'cupy') if m in sys.modules])"
    )
    names = ("torchvision-zip.pth", "features.onnx", "v1.caffemodel", "keras1.h5", "features.safetensors")
    run = [sys.executable, "-c", code, *(str(FIXTURES / name) for name in names)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "[]"
    run = [sys.executable, "-m", "weights_tools", "--version"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.startswith("nsnumpy  0.")


@pytest.mark.parametrize("name", ["photo.jpg", "weights.npz", "weights", "weights.h5.jpg"])
def test_what_is_written_has_the_name_of_what_it_is(capsys, name):
    Path(name).write_bytes(b"precious")
    for command in (["convert", "x.pth"], ["normalize", "x.h5", "p.png"], ["compress", "x", "p"], ["train", "p"]):
        with pytest.raises(SystemExit, match="2"):
            main([*command, "-o", name])
        assert f"what is written is HDF5: a name in .h5 or .hdf5 expected; '{name}' given" in capsys.readouterr().err
    assert Path(name).read_bytes() == b"precious"


def test_what_a_file_says_is_shown_and_not_obeyed_by_the_terminal(capsys):
    write_weights("w.h5", WeightFile(small_network(), source="\x1b[2Jgone\n\x07", license="\x1b]0;title\x07"))
    assert main(["inspect", "w.h5"]) == 0
    out = capsys.readouterr().out
    assert "  source      \\x1b[2Jgone \\x07\n" in out
    assert "  license     \\x1b]0;title\\x07\n" in out
    assert out.replace("\n", "").isprintable()
    with h5py.File("w.h5", "a") as h5:
        h5.attrs["pooling"] = "\x1b[2J"
    assert main(["inspect", "w.h5"]) == 1
    err = capsys.readouterr().err
    assert "\\x1b[2J" in err
    assert err.removesuffix("\n").isprintable()


def test_compare_says_that_the_widths_differ(capsys):
    write_weights("a.h5", WeightFile(small_network()))
    write_weights("b.h5", WeightFile(small_network(widths=(3, 4, 5, 6, 7))))  # one more in every layer
    assert main(["compare", "a.h5", "b.h5"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "not the same network: 16 of 16 layers differ, conv1_1 first, with 2 filters in A and 3 in B"
    assert out[3].endswith("differs: 2 filters in A, 3 in B")
