"""Every published format: what the real libraries wrote is read to the last bit, and computes what PyTorch computes."""

import hashlib
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import time
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
from weight_writers import EXPECTED, EXPECTED_LAYERS, FIXTURES, WRITERS, expected_network, small_network, torch_features

from nsnumpy import VGG, Preprocessing
from weights_tools import FormatError, Overrides, convert, published, read_any
from weights_tools.formats import File, hdf5, read
from weights_tools.formats.base import Cursor, Inflated
from weights_tools.formats.matlab import read_variables
from weights_tools.formats.pickles import unpickle
from weights_tools.networks import find_convolutions
from weights_tools.published import CONVENTIONS


def assert_same(weights, expected):
    assert list(weights) == list(expected)
    for name, (weight, bias) in expected.items():
        assert weights[name][0].dtype == weight.dtype
        assert np.array_equal(weights[name][0], weight), name
        assert np.array_equal(weights[name][1], bias), name


def features(file, picture, layers):
    vgg = VGG(file.weights, xp=np, architecture=file.architecture, preprocessing=file.preprocessing, dtype="float64")
    return vgg.forward(picture.astype(np.float64), layers)[0]


def close(value, expected):
    return np.linalg.norm(value - expected) <= 1e-12 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", WRITERS)
def test_a_committed_file_is_read_exactly_and_computes_what_pytorch_does(name):
    writer = WRITERS[name]
    found = read_any(FIXTURES / name)
    assert found.file.architecture == "vgg19"
    assert_same(found.file.weights, expected_network(name))
    assert found.file.preprocessing == CONVENTIONS[writer.preprocessing]
    assert found.dtype == ("float16" if writer.precision == "float16" else "float32")
    if writer.precision == "float32":
        with np.load(EXPECTED) as expected:
            for layer, F in features(found.file, expected["picture"], EXPECTED_LAYERS).items():
                assert close(F, expected[f"{writer.preprocessing}/{layer}"]), layer


def test_the_frozen_network_is_the_one_that_the_writers_make():
    with np.load(EXPECTED) as expected:
        for name, arrays in small_network().items():
            for part, array in zip(("weight", "bias"), arrays, strict=True):
                assert np.array_equal(expected[f"weights/{name}/{part}"], array)


@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_written_live_is_read_exactly(name, architecture, tmp_path):
    writer = WRITERS[name]
    if writer.library:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        pytest.importorskip(writer.library)
    network = small_network(architecture, (3, 4, 6, 5, 7), seed=8)
    writer.write(tmp_path / name, network, architecture)
    found = read_any(tmp_path / name)
    assert found.file.architecture == architecture
    assert_same(found.file.weights, expected_network(name, network))
    if writer.precision == "float32" and (architecture, name) in FEATURES_LIVE:
        pytest.importorskip("torch")
        picture = np.random.default_rng(1).random((35, 41, 3), dtype=np.float32)
        expected = torch_features(network, picture, writer.preprocessing, ["conv4_2"])
        assert close(features(found.file, picture, ["conv4_2"])["conv4_2"], expected["conv4_2"])


FEATURES_LIVE = [("vgg16", name) for name in WRITERS]


@pytest.mark.parametrize("name", WRITERS)
def test_the_fully_connected_layers_are_not_read(name):
    with File(FIXTURES / name) as file:
        contents = read(file)
        _, layers, _ = find_convolutions(contents.layers)
        left_out = [layer for layer in contents.layers if layer not in layers.values()]
        has_top = name not in ("named.pth", "keras3-model.h5", "keras3.weights.h5", "compressed.npz")
        assert len(left_out) == (3 if has_top else 0)
        taken = []
        at = file.at
        file.at = lambda offset, count: taken.append((offset, count)) or at(offset, count)
        for layer in layers.values():
            layer.weight.load(), layer.bias.load()
        assert sum(count for _, count in taken) <= 1.2 * sum(
            tensor.nbytes for layer in layers.values() for tensor in (layer.weight, layer.bias)
        ) + (1 << 16)


# What a file may hold beside what the libraries above write.


def state(**changes):
    tensors = {}
    for name, (weight, bias) in small_network().items():
        tensors |= {f"{name}.weight": weight.transpose(3, 2, 0, 1), f"{name}.bias": bias}
    return tensors | changes


def safetensors(tensors, path, **metadata):
    """The format by hand: it is no more than this."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        dtype = {"float32": "F32", "float64": "F64", "int64": "I64"}[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_float64_stays_float64(tmp_path):
    wide = {name: array.astype(np.float64) + 1e-12 for name, array in state().items()}
    path = safetensors(wide, tmp_path / "wide.safetensors")
    found = convert(path, tmp_path / "w.h5")
    assert found.dtype == "float64"
    with h5py.File(tmp_path / "w.h5") as h5:
        assert h5["conv3_1/weight"].dtype == np.float64
        assert np.array_equal(h5["conv3_1/weight"], wide["conv3_1.weight"].transpose(2, 3, 1, 0))


def test_a_network_may_end_early_and_that_is_said(tmp_path):
    names = ["conv1_1", "conv1_2", "conv2_1"]
    short = {name: array for name, array in state().items() if name.rpartition(".")[0] in names}
    found = read_any(safetensors(short, tmp_path / "short.safetensors"))
    assert list(found.file.weights) == names
    assert any("too short to tell VGG-16 from VGG-19" in note for note in found.notes)


def test_layers_without_telling_names_are_told_by_their_order(tmp_path):
    for architecture in ("vgg16", "vgg19"):
        tensors, network = {}, small_network(architecture)
        for n, (weight, bias) in enumerate(network.values()):
            tensors |= {f"net.{n}.weight": weight.transpose(3, 2, 0, 1), f"net.{n}.bias": bias}
        found = read_any(safetensors(tensors, tmp_path / "anonymous.safetensors"))
        assert found.file.architecture == architecture
        assert_same(found.file.weights, network)
        assert "layers told by their order" in found.notes


def test_axes_are_told_by_the_shapes_or_by_the_user(tmp_path):
    network = small_network(widths=(3, 3, 3, 3, 3))
    tensors = {}
    for name, (weight, bias) in network.items():
        tensors |= {f"{name}.weight": weight, f"{name}.bias": bias}
    path = safetensors(tensors, tmp_path / "cubes.safetensors")
    assert any("HWIO would fit as well; --axes decides" in note for note in read_any(path).notes)
    assert_same(read_any(path, Overrides(axes="HWIO")).file.weights, network)
    tensors = {name.replace("conv", "c"): array for name, array in tensors.items()}
    clear = small_network(widths=(4, 4, 4, 4, 4))
    named = {f"{name}.weight": weight for name, (weight, _) in clear.items()}
    found = read_any(safetensors(named, tmp_path / "clear.safetensors"))
    assert "axes of the weights taken to be HWIO" in found.notes
    assert np.array_equal(found.file.weights["conv2_1"][0], clear["conv2_1"][0])
    assert not found.file.weights["conv2_1"][1].any()  # no biases in the file


def test_matlab_numbers_that_are_stored_narrowly_or_are_no_numbers(tmp_path):
    """MATLAB stores whole doubles in the least integer type that holds them; scipy writes them as they are."""

    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    def matrix(kind, shape, stored, data, name):
        flags, sizes = struct.pack("<II", kind, 0), struct.pack(f"<{len(shape)}i", *shape)
        return element(14, element(6, flags) + element(5, sizes) + element(1, name) + element(stored, data))

    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    whole = matrix(6, (2, 3), 2, bytes(range(6)), b"whole")
    path = tmp_path / "narrow.mat"
    path.write_bytes(header + whole + element(15, zlib.compress(matrix(6, (1, 2), 4, b"\1\2\3\4", b"packed"))))
    with File(path) as file:
        found = dict(read_variables(file))
        assert found["whole"].load().tolist() == [[0, 2, 4], [1, 3, 5]]
        assert found["whole"].load().dtype == np.float64
        assert found["packed"].load().tolist() == [[0x201, 0x403]]
    path.write_bytes(header + matrix(6 | 0x800, (2, 3), 2, bytes(range(6)), b"complex"))
    with File(path) as file:
        assert dict(read_variables(file)) == {"complex": None}


# What is refused, and how.


def refusal(path):
    with pytest.raises(FormatError) as caught:
        read_any(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page, not a weight file; the download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08\x00rest", "compressed by gzip; unpack it first"),
        (b"hello", "of no known format"),
        (bytes(1000), "of no known format"),
        (b"PK\3\4" + bytes(100), "damaged zip archive, or not all of it was downloaded"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "damaged, or no weight file"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI", "big-endian"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM", "without MatConvNet's layers"),
    ],
)
def test_what_is_no_weight_file_is_told_so(tmp_path, content, words):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    assert words in refusal(path)


def test_a_tar_a_foreign_zip_a_folder_and_nothing(tmp_path):
    with tarfile.open(tmp_path / "old.pth", "w") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    assert "a tar archive" in refusal(tmp_path / "old.pth")
    with zipfile.ZipFile(tmp_path / "foreign.pth", "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "0 convolutions of 3 x 3" in refusal(tmp_path / "foreign.pth")
    assert "a folder; name the file in it" in refusal(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "not a file" in refusal(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_any(tmp_path / "missing.pth")


def torch_zip(path, pickled, members=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in members:
            archive.writestr(f"archive/{name}", data)
    return path


class Attack:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_nothing(tmp_path, protocol):
    victim = tmp_path / "victim"
    victim.write_text("alive")
    attack = pickle.dumps({"conv1_1.weight": Attack(victim.unlink)}, protocol)
    assert "which no weight file needs" in refusal(torch_zip(tmp_path / "evil.pth", attack))
    attack = pickle.dumps({"x": Attack(exec, f"import os; os.remove({str(victim)!r})")}, protocol)
    assert "the pickle asks for " in (message := refusal(torch_zip(tmp_path / "evil.pth", attack)))
    assert "exec" in message
    legacy = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    (tmp_path / "evil2.pth").write_bytes(legacy + attack)
    assert "exec" in refusal(tmp_path / "evil2.pth")
    array = np.empty((), object)
    array[()] = Attack(exec, f"import os; os.remove({str(victim)!r})")
    np.save(tmp_path / "evil.npy", array, allow_pickle=True)
    assert "exec" in refusal(tmp_path / "evil.npy")
    assert victim.read_text() == "alive"


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x80\x02.", "nothing left on the stack"),
        (b"\x80\x09.", "protocol 9"),
        (b"\x80\x02}X\xff\xff\xff\x7fabc.", "the file ends too early"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "the file ends too early"),
        (b"\x80\x02r\xff\xff\xff\xff.", "something else expected"),
        (b"\x80\x02h\x05.", "recalls what it never stored"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "a number of more than 64 bytes"),
        (b"\x80\x02]" + b"2" * 60_000 + b".", "longer than that of any weight file"),
        (b"\x80\x02}" + b"2\x86" * 100 + b"K\x01s.", "neither a name nor a number|something else expected"),
        (b"\x80\x02K\x01K\x02b.", "a state for something that has none"),
        (b"\x80\x02K\x01.", "not of a dictionary of tensors"),
        (b"\x80\x02(K\x01K\x02t.", "not of a dictionary of tensors"),
        (b"\x80\x02\x82\x01.", "no weight file needs"),
        (b"\x80\x02I12_x\n.", "damaged pickle"),
        (b"\x80\x02}K\x00Q.", "of a kind that is not known"),
    ],
)
def test_damaged_pickles(tmp_path, pickled, words):
    message = refusal(torch_zip(tmp_path / "f.pth", pickled))
    assert any(word in message for word in words.split("|")), message


def test_a_dictionary_of_itself_ends(tmp_path):
    """Each of 60 dictionaries holds the one before it twice: 2^60 ways down."""
    pickled = b"\x80\x02}q\x00" + b"".join(
        b"}q" + bytes([n]) + b"(X\1\0\0\0ah" + bytes([n - 1]) + b"X\1\0\0\0bh" + bytes([n - 1]) + b"u"
        for n in range(1, 61)
    )
    refusal(torch_zip(tmp_path / "f.pth", pickled + b"."))
    loop = b"\x80\x02}q\x00X\1\0\0\0ah\x00s."
    refusal(torch_zip(tmp_path / "f.pth", loop))


def torch_pickle(shape, strides, offset=0, elements=54, storage="FloatStorage"):
    """The pickle of {"conv1_1.weight": a view of a storage}, whatever that view may be."""
    opcodes = io.BytesIO()

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj):
            return ("storage", Global("torch", storage), "0", "cpu", elements) if obj == "THE STORAGE" else None

        def save_global(self, obj, name=None):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())

        dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    class Global:
        def __init__(self, module, name):
            self.module, self.name = module, name

        def __call__(self):
            raise AssertionError

    class View:
        def __reduce__(self):
            arguments = ("THE STORAGE", offset, shape, strides, False, None)
            return Global("torch._utils", "_rebuild_tensor_v2"), arguments

    Pickler.dispatch[Global] = Pickler.save_global
    Pickler(opcodes, 2).dump({"conv1_1.weight": View()})
    return opcodes.getvalue()


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ({"shape": (2, 3, 3, 3), "strides": (27, 9, 3, 1)}, ""),
        ({"shape": (2, 3, 3, 3), "strides": (27, 9, 3, 1), "offset": 1}, "reaches beyond its storage"),
        ({"shape": (2, 3, 3, 3), "strides": (27, 9, 3, 1), "offset": -1}, "reaches beyond its storage"),
        ({"shape": (2, 3, 3, 3), "strides": (-27, 9, 3, 1)}, "an impossible shape"),
        ({"shape": (2, 3, 3, 3), "strides": (0, 9, 3, 1)}, "repeats its elements"),
        ({"shape": (1 << 40, 1 << 40, 3, 3), "strides": (27, 9, 3, 1)}, "an impossible shape"),
        ({"shape": (2, 3, 3, 3), "strides": (27, 9, 3, 1), "elements": 1 << 50}, "a storage is shorter than announced"),
        ({"shape": (2, 3, 3, 3), "strides": (27, 9, 3, 1), "storage": "LongStorage"}, "floats expected, not int64"),
        ({"shape": (2, 3, 3, 3), "strides": (27, 9, 3, 1), "storage": "QUInt8Storage"}, "asks for torch.QUInt8Storage"),
        ({"shape": (2, 3, 3), "strides": (9, 3, 1)}, "do not fit onto one another"),
    ],
)
def test_torch_views_are_checked(tmp_path, view, words):
    storage = np.arange(54, dtype=np.float32)
    path = torch_zip(tmp_path / "f.pth", torch_pickle(**view), [("data/0", storage.tobytes())])
    if words:
        assert words in refusal(path)
    else:
        weight = read_any(path).file.weights["conv1_1"][0]
        assert np.array_equal(weight, storage.reshape(2, 3, 3, 3).transpose(2, 3, 1, 0))


def test_a_wrong_checksum_in_an_archive_is_noticed(tmp_path):
    data = bytearray((FIXTURES / "named.pth").read_bytes())
    with zipfile.ZipFile(FIXTURES / "named.pth") as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("/data/6"))
    data[info.header_offset + 200] ^= 1
    (tmp_path / "f.pth").write_bytes(data)
    assert "checksum" in refusal(tmp_path / "f.pth")


def test_values_that_are_not_finite_and_batch_normalisation_are_refused(tmp_path):
    weight = state()["conv3_1.weight"].copy()
    weight[0, 0, 0, 0] = np.nan
    path = safetensors(state(**{"conv3_1.weight": weight}), tmp_path / "f.safetensors")
    assert "conv3_1: the weights hold values that are not finite" in refusal(path)
    bn = {"features.0.weight": state()["conv1_1.weight"], "features.1.running_mean": np.zeros(2, np.float32)}
    assert "batch normalisation" in refusal(safetensors(bn, path))
    assert "VGG-11" in refusal(safetensors({"features.3.weight": state()["conv1_2.weight"]}, path))
    integers = {"conv1_1.weight": np.ones((2, 3, 3, 3), np.int64)}
    assert "floats expected, not I64" in refusal(safetensors(integers, path))
    twice = state(**{f"second.{name}": array for name, array in state().items()})
    assert "two layers of one kind, conv1_1 and second.conv1_1" in refusal(safetensors(twice, path))
    gap = {name: array for name, array in state().items() if not name.startswith("conv2_1")}
    assert "conv2_1 is missing" in refusal(safetensors(gap, path))
    odd = state(**{"conv2_1.weight": np.ones((3, 9, 3, 3), np.float32)})
    assert "do not fit onto one another" in refusal(safetensors(odd, path))


@pytest.mark.slow
def test_a_small_file_that_claims_much_is_not_believed(tmp_path):
    """99 MB of zeros in a .npz of 200 kB."""
    zeros = np.zeros((512, 512, 3, 3), np.float32)
    network = small_network(widths=(512,) * 5)
    arrays = {}
    for name, (weight, bias) in list(network.items())[:10]:
        arrays |= {f"{name}/weight": zeros[:, : weight.shape[2]], f"{name}/bias": np.zeros_like(bias)}
    np.savez_compressed(tmp_path / "bomb.npz", **arrays)
    assert "far more than its size" in refusal(tmp_path / "bomb.npz")
    with h5py.File(tmp_path / "bomb.h5", "w") as h5:
        for name, array in arrays.items():
            h5.create_dataset(name, data=array, compression="gzip", compression_opts=1)
    assert "far more than its size" in refusal(tmp_path / "bomb.h5")


def test_hdf5_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(FIXTURES / "keras1.h5") as h5, h5py.File(tmp_path / "link.h5", "w") as out:
        for name in h5:
            h5.copy(name, out)
        del out["block2_conv1"]
        out["block2_conv1"] = h5py.ExternalLink(str(FIXTURES / "keras1.h5"), "block2_conv1")
    assert "a link to somewhere else" in refusal(tmp_path / "link.h5")
    (tmp_path / "secret").write_bytes(bytes(1000))
    with h5py.File(tmp_path / "external.h5", "w") as out:
        shape = (3, 3, 3, 2)
        out.create_dataset("conv1_1/weight", shape, "f4", external=[(str(tmp_path / "secret"), 0, 1000)])
        out.create_dataset("conv1_1/bias", data=np.ones(2, "f4"))
    assert "in another file" in refusal(tmp_path / "external.h5")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit to a process's time here")
def test_a_file_that_the_hdf5_library_never_finishes_is_refused(tmp_path):
    """In the heap that holds a string attribute, the free space is said to have no size: the library steps by zero."""
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as h5:
        h5.attrs["backend"] = "theano"
        h5["conv1_1/weight"] = np.zeros((3, 3, 3, 2), "f4")
    data = bytearray(path.read_bytes())
    free = data.index(b"theano") + 8
    assert data[free : free + 8] == bytes(8)
    data[free + 8 : free + 16] = bytes(8)
    path.write_bytes(data)
    begin = time.monotonic()
    assert "finds no end" in refusal(path)
    assert time.monotonic() - begin > 1  # it was stopped; it did not fail by itself


def test_an_hdf5_process_that_dies_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    path.write_bytes((FIXTURES / "keras1.h5").read_bytes())
    started = []
    start = hdf5.Process.__init__
    monkeypatch.setattr(hdf5.Process, "__init__", lambda self: (start(self), started.append(self))[0])
    monkeypatch.setattr(hdf5.Process, "open", lambda self, path: self._process.kill() or self._ask("open", 10))
    assert "the HDF5 library fails on it" in refusal(path)
    assert not started[0].alive


def test_a_compressed_file_is_inflated_twice_and_not_more(monkeypatch):
    """Once to see what is in it, once to read the weights: going back means to begin anew."""
    begun = []
    begin = Inflated._begin
    monkeypatch.setattr(Inflated, "_begin", lambda self: begun.append(self) or begin(self))
    read_any(FIXTURES / "matconvnet.mat")
    assert max(begun.count(part) for part in begun) == 2


def test_inflating_goes_back_and_stops_at_its_end():
    data = np.random.default_rng(0).integers(0, 9, 300_000, dtype=np.uint8).tobytes()

    class Memory:
        def __init__(self, data):
            self.data, self.size = data, len(data)

        def at(self, offset, count):
            return self.data[offset : offset + count]

    inflated = Inflated(Memory(zlib.compress(data)), 15, 300_002)
    for offset, count in ((0, 10), (200_000, 100), (5, 299_995), (299_999, 1), (0, 0)):
        assert inflated.at(offset, count) == data[offset : offset + count]
    with pytest.raises(FormatError, match="not complete"):
        inflated.at(299_999, 2)
    with pytest.raises(FormatError, match="ends too early"):
        Inflated(Memory(zlib.compress(data)), 15, 1000).at(999, 2)
    with pytest.raises(FormatError, match="cannot be inflated"):
        Inflated(Memory(b"\x78\x9c" + bytes(100)), 15, 10).at(0, 10)
    assert unpickle(Cursor(Memory(pickle.dumps([1, 2.5, "x", None, (True,)]))), {}) == [1, 2.5, "x", None, (True,)]


@pytest.mark.parametrize("protocol", range(6))
def test_the_pickle_machine_agrees_with_pythons(protocol):
    class Memory:
        def __init__(self, data):
            self.data, self.size = data, len(data)

        def at(self, offset, count):
            return self.data[offset : offset + count]

    value = {
        "numbers": [0, 1, 255, 256, 65535, 65536, -1, -(2**31), 2**40, -(2**200), 1.5, -0.0, 1e300],
        "texts": ["", "conv1_1", "\u00e9\u20ac", "x" * 300, "y" * 70_000],
        "rest": (None, True, False, [], {}, (), (1, 2), (1, 2, 3, 4), [[1], [2, [3]]]),
        7: {"a": {"b": {}}},
    }
    value["again"] = value["numbers"]
    if protocol == 0:  # text with escapes is a thing of Python's own, which no weight file has
        value["texts"] = ["", "conv1_1", "x" * 300]
    found = unpickle(Cursor(Memory(pickle.dumps(value, protocol))), {})
    if protocol:
        long = found["texts"].pop()
        assert long if isinstance(long, str) else long.load().decode("latin-1") == value["texts"].pop()
    assert found == value
    assert found["again"] is found["numbers"]


# What the user knows better.


def test_overrides():
    path = FIXTURES / "named.pth"
    assert read_any(path, Overrides(order="RGB")).file.preprocessing == CONVENTIONS["matconvnet"]
    assert read_any(path, Overrides(scale=1.0)).file.preprocessing == Preprocessing(
        "BGR", 1.0, tuple(m / 255 for m in (103.939, 116.779, 123.68))
    )
    given = Overrides("RGB", 2.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    found = read_any(path, given)
    assert found.file.preprocessing == Preprocessing("RGB", 2.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert not any("assumed" in note for note in found.notes)
    assert any("what is usual for its kind was assumed" in note for note in read_any(path).notes)
    path = FIXTURES / "half.pth"  # as torchvision's
    assert read_any(path, Overrides(order="BGR")).file.preprocessing.std == (0.225, 0.224, 0.229)
    p = read_any(path, Overrides(scale=255.0)).file.preprocessing
    assert (p.mean, p.std) == (tuple(255 * m for m in (0.485, 0.456, 0.406)), (1.0, 1.0, 1.0))
    path = FIXTURES / "named.pth"
    turned = read_any(path, Overrides(rotated=True)).file.weights["conv1_1"][0]
    assert np.array_equal(turned, small_network()["conv1_1"][0][::-1, ::-1])


def test_a_mat_file_with_no_mean_is_assumed_to_have_the_usual_one(tmp_path):
    variables = scipy.io.loadmat(FIXTURES / "matconvnet.mat")
    scipy.io.savemat(tmp_path / "f.mat", {"layers": variables["layers"]})
    found = read_any(tmp_path / "f.mat")
    assert found.file.preprocessing == CONVENTIONS["matconvnet"]
    assert any("assumed" in note for note in found.notes)
    stated = read_any(FIXTURES / "matconvnet-old.mat")
    assert not any("assumed" in note for note in stated.notes)


def test_a_published_file_is_known_by_its_checksum_whatever_its_name(monkeypatch):
    path = FIXTURES / "torchvision-legacy.pth"  # whose layers' names would say torchvision
    content = path.read_bytes()
    for sums in ({"md5": hashlib.md5(content).hexdigest()}, {"sha256": hashlib.sha256(content).hexdigest()[:8]}):
        known = published.Published(("https://a/b",), "a test", "caffe", "a licence", normalized=True, **sums)
        monkeypatch.setitem(published.PUBLISHED, "a test", known)
        found = read_any(path)
        assert found.file.preprocessing == CONVENTIONS["caffe"]
        assert (found.file.source, found.file.license, found.file.normalized) == ("https://a/b", "a licence", True)
        assert found.notes == ["known by its checksum: a test"]
    assert read_any(path, Overrides(order="RGB")).file.preprocessing == CONVENTIONS["matconvnet"]
