"""The weight file goes out and comes back, and what is no weight file is told so in one line."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from nsnumpy import Preprocessing, WeightFile, WeightFileError, load_vgg, read_weights, write_weights
from nsnumpy.files.weights import read_network


@pytest.fixture
def file(tiny_weights):
    return WeightFile(
        tiny_weights,
        preprocessing=Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68), (1.0, 2.0, 3.0)),
        pooling="max",
        normalized=True,
        source="a test",
        sha256="ab" * 32,
        license="MIT",
    )


def test_round_trip(tmp_path, file):
    write_weights(tmp_path / "w.h5", file)
    back = read_weights(tmp_path / "w.h5")
    assert replace(back, weights={}) == replace(file, weights={})
    assert list(back.weights) == list(file.weights)
    for name, (weight, bias) in file.weights.items():
        assert np.array_equal(back.weights[name][0], weight)
        assert np.array_equal(back.weights[name][1], bias)
    assert [p.name for p in tmp_path.iterdir()] == ["w.h5"]


def test_float16_storage(tmp_path, file):
    write_weights(tmp_path / "w.h5", file, "float16")
    weight = read_weights(tmp_path / "w.h5").weights["conv3_1"][0]
    assert weight.dtype == np.float32
    assert weight == pytest.approx(file.weights["conv3_1"][0], rel=1e-3, abs=1e-6)
    huge = {"conv1_1": (np.full((3, 3, 3, 2), 1e6, np.float32), np.zeros(2, np.float32))}
    with pytest.raises(ValueError, match=r"conv1_1/weight: values up to 1e\+06 do not fit into float16"):
        write_weights(tmp_path / "huge.h5", WeightFile(huge), "float16")
    assert [p.name for p in tmp_path.iterdir()] == ["w.h5"]


def test_int8_storage(tmp_path, file):
    write_weights(tmp_path / "w.h5", file, "int8")
    back = read_weights(tmp_path / "w.h5")
    assert replace(back, weights={}) == replace(file, weights={})
    for name, (weight, bias) in back.weights.items():
        assert (weight.dtype, bias.dtype) == (np.float32, np.float32)
        original = file.weights[name][0]
        half = 0.5 * (1 + 2**-15) * abs(original).max(axis=(0, 1, 2)) / 127
        assert (abs(weight - original) <= half).all()
        assert not np.array_equal(weight, original)
        assert np.array_equal(bias, file.weights[name][1])
    with h5py.File(tmp_path / "w.h5") as h5:
        assert h5.attrs["format_version"] == 2
        layer = h5["conv3_1"]
        assert {name: (data.shape, data.dtype.name) for name, data in layer.items()} == {
            "weight": ((3, 3, 8, 10), "int8"),
            "scale": ((10,), "float32"),
            "bias": ((10,), "float32"),
        }
        assert np.array_equal(layer["weight"][()] * layer["scale"][()], back.weights["conv3_1"][0])
    write_weights(tmp_path / "again.h5", back, "int8")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "w.h5").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_written_for_older_readers_and_read_in_either_version(tmp_path, file, dtype):
    write_weights(tmp_path / "w.h5", file, dtype)
    before = read_weights(tmp_path / "w.h5").weights
    with h5py.File(tmp_path / "w.h5", "a") as h5:
        assert h5.attrs["format_version"] == 1
        h5.attrs["format_version"] = 2
    after = read_weights(tmp_path / "w.h5").weights
    assert all(np.array_equal(before[name][0], after[name][0]) for name in file.weights)


def test_layers_in_int8_beside_others(tmp_path, file):
    write_weights(tmp_path / "w.h5", file, "int8")
    with h5py.File(tmp_path / "w.h5", "a") as h5:
        del h5["conv1_2/scale"], h5["conv1_2/weight"], h5["conv2_1/weight"]
        h5["conv1_2/weight"] = file.weights["conv1_2"][0]
        h5["conv2_1/scale"][...] = 0
        h5["conv2_1/weight"] = np.zeros((3, 3, 6, 8), "i1")
    weights = read_weights(tmp_path / "w.h5").weights
    assert np.array_equal(weights["conv1_2"][0], file.weights["conv1_2"][0])
    assert not weights["conv2_1"][0].any()


def test_int8_is_compressed_as_far_as_it_is_believed_when_read(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"conv1_1": (3, 3, 3, 64), "conv1_2": (3, 3, 64, 64)}
    weights = {name: (rng.standard_normal(shape).astype("f"), np.zeros(64, "f")) for name, shape in shapes.items()}
    write_weights(tmp_path / "w.h5", WeightFile(weights), "int8")
    with h5py.File(tmp_path / "w.h5") as h5:
        assert h5["conv1_2/weight"].id.get_storage_size() < 0.95 * weights["conv1_2"][0].size
    for constant in (0, 1):
        flat = {name: (0 * weight + constant, bias) for name, (weight, bias) in weights.items()}
        write_weights(tmp_path / "w.h5", WeightFile(flat), "int8")
        for weight, _ in read_weights(tmp_path / "w.h5").weights.values():
            assert weight == pytest.approx(constant, rel=1e-4)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (np.finfo("f").max, 0, r"conv1_1/weight: values up to 3.40282e\+38 do not fit into int8"),
        (1e300, 0, r"conv1_1/weight: values up to 1e\+300 do not fit into int8"),
        (1, 1e300, r"conv1_1/bias: values up to 1e\+300 do not fit into float32"),
        (np.nan, 0, "conv1_1: the weights hold values that are not finite"),
        (np.inf, 0, "conv1_1: the weights hold values that are not finite"),
    ],
)
def test_what_does_not_fit_into_int8(tmp_path, weight, bias, message):
    file = WeightFile({"conv1_1": (np.full((3, 3, 3, 2), weight, "f8"), np.full(2, bias, "f8"))})
    with pytest.raises(ValueError, match=message):
        write_weights(tmp_path / "w.h5", file, "int8")
    assert not list(tmp_path.iterdir())


def test_load_vgg_reads_a_file(tmp_path, file, picture):
    write_weights(tmp_path / "mine.h5", file)
    vgg = load_vgg(tmp_path / "mine.h5", pooling="max", dtype="float64")
    assert (vgg.source, vgg.pooling, str(vgg.dtype)) == ("mine.h5", "max", "float64")
    assert vgg.preprocessing == file.preprocessing
    assert vgg.forward(picture(20, 20), ["conv5_1"])[0]["conv5_1"].shape == (1, 1, 14)


def test_a_shorter_network_is_a_network(tmp_path, file, picture):
    short = {name: file.weights[name] for name in ("conv1_1", "conv1_2", "conv2_1")}
    write_weights(tmp_path / "short.h5", replace(file, weights=short))
    vgg = load_vgg(tmp_path / "short.h5", dtype="float64")
    assert list(vgg.forward(picture(8, 8), ["conv2_1"])[0]) == ["conv2_1"]
    with pytest.raises(ValueError, match="conv2_2: this network ends at conv2_1"):
        vgg.forward(picture(8, 8), ["conv2_2"])


def _delete(name):
    return lambda h5: h5.__delitem__(name)


def _attribute(name, value):
    return lambda h5: h5.attrs.__setitem__(name, value)


def _dataset(name, array):
    def change(h5):
        del h5[name]
        h5[name] = array

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_delete("conv3_2"), "conv3_2: missing"),
        (_delete("conv3_2/bias"), "conv3_2/bias is missing"),
        (_dataset("conv1_2/bias", np.zeros(5, "f")), r"conv1_2: a bias of shape \(6,\) expected, \(5,\) given"),
        (_dataset("conv1_2/weight", np.zeros((3, 3, 5, 6), "f")), "conv1_2: 6 channels expected, 5 given"),
        (_dataset("conv1_2/weight", np.zeros((6, 6, 3, 3), "f")), r"conv1_2: .* \(6, 6, 3, 3\) given"),
        (
            _dataset("conv1_2/weight", np.zeros((3, 3, 6), "f")),
            r"conv1_2: a weight of shape \(3, 3, C_in, C_out\) expected, \(3, 3, 6\) given",
        ),
        (_dataset("conv1_2/bias", np.zeros(6, "i4")), "conv1_2/bias: floats expected, int32 given"),
        (_dataset("conv1_2/bias", np.full(6, np.nan, "f")), "conv1_2: .* not finite"),
        (lambda h5: h5.create_group("conv7_1"), "conv7_1/weight is missing"),
        (lambda h5: h5.attrs.__delitem__("format_version"), "not an nsnumpy weight file"),
        (lambda h5: h5.attrs.__delitem__("mean"), "attribute mean is missing"),
        (_attribute("format_version", 3), "weight file of version 3; this nsnumpy reads versions 1 and 2"),
        (_attribute("architecture", "resnet"), "unknown architecture 'resnet'"),
        (_attribute("channel_order", "GRB"), "unknown channel_order 'GRB'; known: RGB, BGR"),
        (_attribute("std", (1.0, 0.0, 1.0)), "std are positive"),
        (_attribute("pixel_scale", "much"), "attribute pixel_scale: 1 number expected, 'much' given"),
        (_attribute("pixel_scale", np.inf), "pixel_scale and std are positive"),
        (_attribute("mean", (0.4, np.nan, 0.4)), "mean is three finite numbers"),
        (_attribute("mean", (0.4, 0.4)), r"attribute mean: 3 numbers expected, \[0.4, 0.4\] given"),
        (_attribute("pooling", "median"), "unknown pooling 'median'; known: avg, max"),
        (_attribute("normalized", "no"), "attribute normalized: 1 number expected, 'no' given"),
        (_attribute("format_version", (1, 1)), r"weight file of version \[1, 1\]; this nsnumpy reads versions 1 and 2"),
        (_attribute("format_version", "1"), "weight file of version '1'; this nsnumpy reads versions 1 and 2"),
    ],
)
def test_damaged_files_name_the_file_and_the_damage(tmp_path, file, damage, message):
    write_weights(tmp_path / "w.h5", file)
    _check_damaged(tmp_path / "w.h5", damage, message)


def _check_damaged(path, damage, message):
    with h5py.File(path, "a") as h5:
        damage(h5)
    with pytest.raises(WeightFileError, match=f"w.h5: .*{message}") as raised:
        load_vgg(path)
    assert "\n" not in str(raised.value)


SIX = np.ones(6, "f")
UNWRITTEN = {"shape": (3, 3, 6, 6), "dtype": "i1", "chunks": (3, 3, 6, 6), "compression": "gzip"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_delete("conv1_2/scale"), "conv1_2/scale is missing"),
        (_dataset("conv1_2/scale", SIX[:5]), r"conv1_2: a scale of shape \(6,\) expected, \(5,\) given"),
        (_dataset("conv1_2/scale", SIX[:, None]), r"conv1_2: a scale of shape \(6,\) expected, \(6, 1\) given"),
        (_dataset("conv1_2/scale", SIX.astype("f8")), "conv1_2/scale: float32 expected, float64 given"),
        (_dataset("conv1_2/scale", SIX.astype("i4")), "conv1_2/scale: float32 expected, int32 given"),
        (_dataset("conv1_2/scale", SIX * np.inf), "conv1_2/scale: finite numbers, none below 0, expected; inf given"),
        (_dataset("conv1_2/scale", SIX * np.nan), "conv1_2/scale: finite numbers, none below 0, expected; nan given"),
        (_dataset("conv1_2/scale", -SIX), "conv1_2/scale: finite numbers, none below 0, expected; -1 given"),
        (_dataset("conv1_2/scale", np.eye(6, dtype="f")[2]), "conv1_2/scale: 0 for a filter whose weights are not"),
        (_dataset("conv1_2/scale", SIX * 3e38), "conv1_2: .* not finite"),
        (_dataset("conv1_2/weight", np.ones((3, 3, 6, 6), "f")), "conv1_2/scale: only weights in int8 .* float32"),
        (_dataset("conv1_2/weight", np.ones((3, 3, 6, 6), "u1")), "floats or int8 expected, uint8 given"),
        (_dataset("conv1_2/weight", np.ones((3, 3, 6, 6), "i2")), "floats or int8 expected, int16 given"),
        (_dataset("conv1_2/weight", np.ones((3, 3, 6), "i1")), r"conv1_2: a weight of shape .* \(3, 3, 6\) given"),
        (_dataset("conv1_2/bias", np.ones(6, "i1")), "conv1_2/bias: floats expected, int8 given"),
        (_attribute("format_version", 1), "conv1_1/weight: floats expected, int8 given"),
        (_attribute("format_version", 3), "weight file of version 3; this nsnumpy reads versions 1 and 2"),
        (
            lambda h5: h5.__delitem__("conv1_2/weight") or h5.create_dataset("conv1_2/weight", **UNWRITTEN),
            "conv1_2/weight: the file does not hold all of its 324 values",
        ),
        (
            lambda h5: h5.__delitem__("conv1_2/scale") or h5.create_dataset("conv1_2/scale", (6,), "f4"),
            "conv1_2/scale: the file does not hold all of its 6 values",
        ),
    ],
)
def test_damaged_files_in_int8_too(tmp_path, file, damage, message):
    write_weights(tmp_path / "w.h5", file, "int8")
    _check_damaged(tmp_path / "w.h5", damage, message)


def test_a_plan_needs_no_values_but_what_describes_them(tmp_path, file):
    path = tmp_path / "w.h5"
    write_weights(path, file, "int8")
    filters = read_network(path).filters
    assert filters == {name: len(bias) for name, (_, bias) in file.weights.items()}
    with h5py.File(path, "a") as h5:
        h5["conv1_2/scale"][:] = np.nan
    assert read_network(path).filters == filters
    with h5py.File(path, "a") as h5:
        del h5["conv1_2/scale"]
    with pytest.raises(WeightFileError, match="w.h5: conv1_2/scale is missing"):
        read_network(path)


def test_other_files(tmp_path, file):
    with pytest.raises(
        WeightFileError, match="none.h5: no such weight file; builtin, builtin-large or builtin-random needs none"
    ):
        load_vgg(tmp_path / "none.h5")
    (tmp_path / "w.pth").write_bytes(b"PK\3\4 and so on")
    with pytest.raises(WeightFileError, match="w.pth: not a readable HDF5 file"):
        load_vgg(tmp_path / "w.pth")
    write_weights(tmp_path / "w.h5", file)
    content = (tmp_path / "w.h5").read_bytes()
    for length in (10, 1000, len(content) // 2, len(content) - 100):
        (tmp_path / "cut.h5").write_bytes(content[:length])
        with pytest.raises(WeightFileError, match="cut.h5: "):
            load_vgg(tmp_path / "cut.h5")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_claimed_size_is_not_believed(tmp_path, file, compression):
    write_weights(tmp_path / "w.h5", file)
    with h5py.File(tmp_path / "w.h5", "a") as h5:
        del h5["conv1_1"]  # never written to, these take no space in the file
        h5.create_dataset("conv1_1/weight", (3, 3, 3, 10**12), "f4", chunks=(3, 3, 3, 1000), compression=compression)
        h5.create_dataset("conv1_1/bias", (10**12,), "f4", chunks=(1000,), compression=compression)
    with pytest.raises(WeightFileError, match="conv1_1: 1 to 4096 filters expected, 1000000000000 given"):
        load_vgg(tmp_path / "w.h5")


def test_a_dataset_that_was_never_written_is_not_taken_for_zeros(tmp_path, file):
    write_weights(tmp_path / "w.h5", file)
    with h5py.File(tmp_path / "w.h5", "a") as h5:
        del h5["conv1_1/weight"]
        h5.create_dataset("conv1_1/weight", (3, 3, 3, 6), "f4", chunks=(3, 3, 3, 6))
    with pytest.raises(WeightFileError, match="conv1_1/weight: the file does not hold all of its 162 values"):
        load_vgg(tmp_path / "w.h5")


def test_attributes_as_other_programs_write_them(tmp_path, file):
    write_weights(tmp_path / "w.h5", file)
    with h5py.File(tmp_path / "w.h5", "a") as h5:
        h5.attrs["architecture"] = np.bytes_("vgg19")
        h5.attrs["pixel_scale"] = np.array([255], np.int32)
        h5.attrs["normalized"] = np.uint8(1)
    assert replace(read_weights(tmp_path / "w.h5"), weights={}) == replace(file, weights={})


def test_a_failed_write_leaves_nothing(tmp_path, file):
    weights = dict(file.weights)
    del weights["conv2_1"]
    with pytest.raises(ValueError, match="conv2_1: missing"):
        write_weights(tmp_path / "w.h5", replace(file, weights=weights))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["conv1_1", "conv1_1/weight", "conv1_1/bias"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/conv1_1"), h5py.SoftLink("/conv1_2")])
def test_a_link_out_of_the_file_is_not_followed(file, tmp_path, name, link):
    path = tmp_path / "w.h5"
    write_weights(path, file)
    write_weights(tmp_path / "other.h5", file)
    with h5py.File(path, "a") as h5:
        del h5[name]
        h5[name] = link
    for read in (read_weights, load_vgg):
        with pytest.raises(WeightFileError, match=rf"w\.h5: {name}: a link to somewhere else"):
            read(path)


def test_values_out_of_the_file_are_not_read(file, tmp_path):
    path, secret, other = tmp_path / "w.h5", tmp_path / "secret", tmp_path / "other.h5"
    write_weights(path, file)
    write_weights(other, file)
    with h5py.File(path, "a") as h5:
        weight = h5["conv1_1/weight"][()]
        weight.tofile(secret)
        del h5["conv1_1/weight"]
        h5.create_dataset("conv1_1/weight", weight.shape, "f4", external=[(str(secret), 0, weight.nbytes)])
    with pytest.raises(WeightFileError, match="conv1_1/weight: its values are in another file"):
        load_vgg(path)
    layout = h5py.VirtualLayout(weight.shape, "f4")
    layout[...] = h5py.VirtualSource(str(other), "conv1_1/weight", weight.shape)
    with h5py.File(path, "a") as h5:
        del h5["conv1_1/weight"]
        h5.create_virtual_dataset("conv1_1/weight", layout)
    with pytest.raises(WeightFileError, match="conv1_1/weight: its values are in another file"):
        load_vgg(path)
