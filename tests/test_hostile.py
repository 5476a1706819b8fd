"""Files made by hand to take time or memory, or to be read as what they are not. Byte mutations rarely find these."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from fuzz import FLOOR, LONGEST, MOST_MEMORY
from test_formats import refusal, safetensors, state, torch_zip
from weight_writers import FIXTURES, small_network

from nsnumpy import WeightFile, read_weights, write_weights
from nsnumpy.files.writing import check_folder
from weights_tools import FormatError, read_any
from weights_tools.formats import File
from weights_tools.formats.matlab import read_variables


def refused(path):
    """The message; reading has to end within 5 s of computing and 4 times the file, beyond what any file takes."""
    tracemalloc.start()
    begin = time.process_time()
    message = refusal(path)
    seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < LONGEST
    assert peak < MOST_MEMORY * path.stat().st_size + FLOOR
    return message


# Pickles: what is recalled from the memo costs two bytes to name, whatever its size.


def op_text(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


PAIR = b"](" + op_text("a") + b"K\x01e"


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (b"collections\nOrderedDict\n", b"](" + PAIR + b"2" * 20_000 + b"e"),
        (b"collections\nOrderedDict\n", b"](" + PAIR * 5_000 + b"e"),
        (b"torch\nSize\n", b"](K\x01" + b"2" * 20_000 + b"e"),
    ],
)
def test_constructors_that_copy_what_is_recalled(tmp_path, name, argument):
    pickled = b"\x80\x02c" + name + b"q\x03" + argument + b"q\x02" + b"h\x03h\x02\x85R0" * 5_000 + b"}."
    assert "does more than that of any weight file" in refused(torch_zip(tmp_path / "f.pth", pickled))


def test_bytes_made_of_recalled_text(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    program = (
        b"\x80\x02c_codecs\nencode\nq\x03" + op_text("x" * 60_000) + b"q\x02" + b"h\x03h\x02\x85R" * 10_000 + b"}."
    )
    (tmp_path / "f.npy").write_bytes(header.getvalue() + program)
    assert "does more than that of any weight file" in refused(tmp_path / "f.npy")


def test_long_names_that_are_recalled(tmp_path):
    pickled = b"\x80\x02}" + op_text("k" * 60_000) + b"}s."
    assert "neither a short name nor a number" in refused(torch_zip(tmp_path / "f.pth", pickled))


def test_numbers_that_collide_as_keys(tmp_path):
    keys = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"K\x01" for k in range(5, 10_000))
    assert "neither a short name nor a number" in refused(torch_zip(tmp_path / "f.pth", b"\x80\x02}(" + keys + b"u."))


def test_long_lines(tmp_path):
    for start in (b"V", b"S'", b"c", b"I", b"F"):
        pickled = b"\x80\x02" + start + b"x" * 1_000_000
        assert "damaged" in refused(torch_zip(tmp_path / "f.pth", pickled))
    pickled = b"\x80\x02" + (b"V" + b"x" * 2000 + b"\n0") * 5_000 + b"}."
    assert "0 convolutions" in refused(torch_zip(tmp_path / "f.pth", pickled))


def test_more_entries_than_any_weight_file_has(tmp_path):
    pickled = b"\x80\x02}(" + b"".join(op_text(f"{n}") + b"}" for n in range(2_500)) + b"u."
    assert "more than 2000 entries" in refused(torch_zip(tmp_path / "f.pth", pickled))


def legacy(*pickles, rest=b""):
    return b"".join(pickle.dumps(value, 2) if not isinstance(value, bytes) else value for value in pickles) + rest


def test_the_older_container_is_checked(tmp_path):
    original = (FIXTURES / "torchvision-legacy.pth").read_bytes()
    path = tmp_path / "f.pth"
    wrong = original.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2), 1)
    assert wrong != original
    path.write_bytes(wrong)
    assert "of a version of PyTorch that is not known" in refused(path)
    first = small_network()["conv1_1"][0]
    place = original.index(first.transpose(3, 2, 0, 1).tobytes())
    path.write_bytes(original[: place - 8] + struct.pack("<q", first.size + 1) + original[place:])
    assert f"a storage of {first.size + 1} elements where {first.size} were announced" in refused(path)


def test_a_file_of_a_big_endian_machine(tmp_path):
    original = (FIXTURES / "torchvision-legacy.pth").read_bytes()
    path = tmp_path / "f.pth"
    place = original.index(b"\x88", original.index(b"little_endian"))  # True
    path.write_bytes(original[:place] + b"\x89" + original[place + 1 :])
    assert "a storage of" in refused(path)  # its counts are turned round first
    with zipfile.ZipFile(FIXTURES / "named.pth") as archive, zipfile.ZipFile(path, "w") as out:
        for info in archive.infolist():
            data = archive.read(info)
            if "/data/" in info.filename:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            out.writestr(info.filename, b"big" if info.filename.endswith("byteorder") else data)
    for name, (weight, bias) in small_network().items():
        assert np.array_equal(read_any(path).file.weights[name][0], weight)
        assert np.array_equal(read_any(path).file.weights[name][1], bias)


# Archives.


def test_archives_with_too_much_in_them(tmp_path):
    path = tmp_path / "f.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(2_100):
            archive.writestr(f"{n}.npy", b"")
    assert "more members than any weight file has" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(10):
            archive.writestr(f"{'x' * 30_000}{n}.npy", b"")
    assert "more members than any weight file has" in refused(path)


def test_an_encrypted_archive(tmp_path):
    data = bytearray((FIXTURES / "frossard.npz").read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 8] |= 1
    (tmp_path / "f.npz").write_bytes(data)
    assert "encrypted" in refused(tmp_path / "f.npz")


def test_an_archive_that_inflates_for_ever(tmp_path):
    path = tmp_path / "f.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(50_000_000))
    assert "far more than its size" in refused(path)
    packed = zlib.compress(bytes(20_000_000))
    element = struct.pack("<II", 15, len(packed)) + zlib.compress(struct.pack("<II", 14, 1 << 30) + bytes(20_000_000))
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + element)
    assert "far more than its size" in refused(path)


# MATLAB.


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(kind, shape, *rest, name=b""):
    flags, sizes = struct.pack("<II", kind, 0), struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, flags) + element(5, sizes) + element(1, name) + b"".join(rest))


def mat(path, *elements):
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(elements))
    return path


def test_matlab_structs_and_cells_that_claim_much(tmp_path):
    width = struct.pack("<HHI", 5, 4, 32)
    for shape in ((1 << 30, 1 << 29), (1 << 20, 1), (1, 1)):
        nameless = matrix(2, shape, width, element(1, b""), name=b"layers")
        assert "a struct without field names" in refused(mat(tmp_path / "f.mat", nameless))
    named = matrix(2, (1 << 30, 1 << 29), width, element(1, b"name".ljust(32, b"\0")), name=b"layers")
    assert "more parts than any weight file has" in refused(mat(tmp_path / "f.mat", named))
    cells = matrix(1, (1 << 30, 1 << 20), name=b"layers")
    assert "more parts than any weight file has" in refused(mat(tmp_path / "f.mat", cells))


def test_matlab_cells_within_cells(tmp_path):
    inner = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(40):
        inner = matrix(1, (1, 1), inner)
    assert "more parts than any weight file has" in refused(mat(tmp_path / "f.mat", inner))


def test_a_compressed_cell_of_many_arrays_is_inflated_once(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [matrix(7, (1, 4000), element(7, rng.random(4000, np.float32).tobytes())) for _ in range(400)]
    cell = matrix(1, (1, len(arrays)), *arrays, name=b"layers")
    path = mat(tmp_path / "f.mat", element(15, zlib.compress(cell)))
    begin = time.process_time()
    assert "0 convolutions" in refused(path)
    assert time.process_time() - begin < 3


def test_matlab_text_is_read_in_each_of_its_encodings(tmp_path):
    text = matrix(4, (1, 3), element(4, "aé€".encode("utf-16-le")), name=b"wide")
    long = matrix(4, (1, 9000), element(2, b"x" * 9000), name=b"long")
    path = mat(tmp_path / "f.mat", text, matrix(4, (1, 2), element(2, b"ab"), name=b"narrow"), long)
    with File(path) as file:
        assert dict(read_variables(file)) == {"wide": "aé€", "narrow": "ab", "long": None}


def test_signalling_nans_are_no_more_than_a_refusal(tmp_path):
    """Casting one raises a floating-point flag, of which NumPy would warn."""
    data = bytearray((FIXTURES / "matconvnet-old.mat").read_bytes())
    start = data.index(small_network()["conv1_1"][0].tobytes(order="F"))
    data[start : start + 4] = b"\x01\x00\x80\x7f"
    (tmp_path / "f.mat").write_bytes(data)
    assert "conv1_1: the weights hold values that are not finite" in refused(tmp_path / "f.mat")
    picture = np.full((2, 2, 3), 0x7F800001, np.uint32).view(np.float32)
    layers = scipy.io.loadmat(FIXTURES / "matconvnet-old.mat")["layers"]
    scipy.io.savemat(tmp_path / "f.mat", {"layers": layers, "normalization": {"averageImage": picture}})
    assert "the mean picture holds values that are not finite" in refused(tmp_path / "f.mat")


def test_a_huge_mean_picture_is_left_alone(tmp_path):
    variables = scipy.io.loadmat(FIXTURES / "matconvnet-old.mat")
    normalization = {"averageImage": np.zeros((2000, 2000, 3), np.float32)}
    scipy.io.savemat(tmp_path / "f.mat", {"layers": variables["layers"], "normalization": normalization})
    assert any("assumed" in note for note in read_any(tmp_path / "f.mat").notes)
    picture = np.zeros((4, 5, 3), np.float32)
    picture[:, 1:3] = [1.0, 2.0, 3.0]  # differs from column to column, so that a wrong order of axes tells
    scipy.io.savemat(tmp_path / "f.mat", {"layers": variables["layers"], "normalization": {"averageImage": picture}})
    assert read_any(tmp_path / "f.mat").file.preprocessing.mean == (0.4, 0.8, 1.2)


# safetensors, Caffe, ONNX.


def test_a_safetensors_header_too_long_or_too_full(tmp_path):
    path = tmp_path / "f.safetensors"
    header = json.dumps({"__metadata__": {"x": "y" * 200_000}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "a safetensors header of" in refused(path)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({str(n): entry for n in range(2_001)}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "no table of tensors" in refused(path) or "header of" in refused(path)


def test_safetensors_may_be_in_any_order(tmp_path):
    tensors = {}
    for n, (weight, bias) in enumerate(small_network().values()):
        tensors |= {f"net.{n}.bias": bias, f"net.{n}.weight": weight.transpose(3, 2, 0, 1)}
    shuffled = {name: tensors[name] for name in sorted(tensors)}  # net.10 before net.2
    found = read_any(safetensors(shuffled, tmp_path / "f.safetensors")).file.weights
    assert all(np.array_equal(found[name][0], weight) for name, (weight, _) in small_network().items())


def test_names_of_odd_digits_and_control_characters(tmp_path):
    path = safetensors({"²³.weight": np.ones((2, 3, 3, 3), np.float32)}, tmp_path / "f.safetensors")
    assert list(read_any(path).file.weights) == ["conv1_1"]
    nasty = {"conv1_1.weight": np.ones((2, 3, 3, 3), np.int64), "\x1b[2J\nconv1_2.weight": np.ones(3, np.float32)}
    assert refused(safetensors(nasty, path)).isprintable()
    long = {f"{'x' * 5000}.running_mean": np.ones(3, np.float32)}
    assert len(refused(safetensors(long, path))) < 500 + len(str(path))


def varint(number):
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def chunk(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def caffe_net(*layers, transform=b""):
    data = chunk(100, chunk(1, b"data") + chunk(100, transform))
    return chunk(1, b"net") + data + b"".join(chunk(100, layer) for layer in layers)


def caffe_conv(weight, bias, packed=True):
    layer = chunk(1, b"conv1_1")
    for array in (weight.transpose(3, 2, 0, 1), bias):
        values = np.ascontiguousarray(array, "<f4").tobytes()
        shape = chunk(7, chunk(1, b"".join(map(varint, array.shape))))
        if packed:  # in two pieces, as a writer may
            layer += chunk(7, shape + chunk(5, values[:8]) + chunk(5, values[8:]))
        else:
            pieces = (values[n : n + 4] for n in range(0, len(values), 4))
            layer += chunk(7, shape + b"".join(varint(5 << 3 | 5) + piece for piece in pieces))
    return layer


def test_what_a_caffe_file_says_of_its_pixels(tmp_path):
    weight, bias = small_network()["conv1_1"]
    path = tmp_path / "f.caffemodel"
    mean = b"".join(varint(5 << 3 | 5) + struct.pack("<f", m) for m in (10.0, 20.0, 30.0))
    scale = varint(1 << 3 | 5) + struct.pack("<f", 0.5)
    path.write_bytes(caffe_net(caffe_conv(weight, bias), transform=mean + scale))
    found = read_any(path)
    assert np.array_equal(found.file.weights["conv1_1"][0], weight)
    p = found.file.preprocessing
    assert (p.channel_order, p.pixel_scale, p.mean, p.std) == ("BGR", 255.0, (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))
    path.write_bytes(caffe_net(caffe_conv(weight, bias), transform=mean[:5]))
    assert read_any(path).file.preprocessing.mean == (10.0, 10.0, 10.0)
    zero = varint(1 << 3 | 5) + struct.pack("<f", 0.0)
    path.write_bytes(caffe_net(caffe_conv(weight, bias), transform=mean + zero))
    assert "impossible preprocessing" in refused(path)
    path.write_bytes(caffe_net(caffe_conv(weight, bias, packed=False)))
    assert "not packed" in refused(path)


@pytest.mark.slow
def test_a_protocol_buffer_of_very_many_fields(tmp_path):
    path = tmp_path / "f.caffemodel"
    path.write_bytes(chunk(1, b"net") + chunk(100, chunk(1, b"x")) * 30_000)
    assert "of no known format, or damaged" in refused(path)
    path.write_bytes(chunk(1, b"net") + chunk(100, chunk(7, chunk(7, chunk(1, b"\1" * 50_000)) + chunk(5, b""))))
    assert "more than 20000 fields" in refused(path)


def test_onnx_models_that_are_not_whole_or_not_a_vgg(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "f.onnx"
    model = onnx.load(FIXTURES / "features.onnx")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    assert "kept in another file" in refused(path)
    for name, value in (("group", 2), ("strides", [2, 2]), ("pads", [0, 0, 0, 0])):
        model = onnx.load(FIXTURES / "features.onnx")
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
        path.write_bytes(model.SerializeToString())
        assert f"a convolution with {name} " in refused(path)


# HDF5.


def test_hdf5_groups_that_hold_themselves(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as h5:
        for n in range(30):
            h5[f"{n}"] = h5["/"]
    assert "more than 2000 groups and datasets" in refused(tmp_path / "f.h5")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process is not told here")
def test_hdf5_may_not_take_more_memory_than_the_file_can_need(tmp_path):
    """A dataset that was never written takes no room in the file, and reads as zeros."""
    with h5py.File(tmp_path / "f.h5", "w") as h5:
        h5.create_dataset("conv1_1/weight", (3, 3, 3, 2), "f4", data=np.ones((3, 3, 3, 2)))
        h5.create_dataset("conv1_1/bias", (2,), "f4", data=np.ones(2))
        h5.create_dataset("conv1_2/weight", (3, 3, 2, 2), "f4")
    assert "does not hold all of its values" in refused(tmp_path / "f.h5")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with h5py.File(tmp_path / "g.h5", "w") as h5:
        h5.attrs["format_version"] = 1
        h5.create_dataset("x", (1 << 28,), "f4", chunks=(1 << 20,), compression="gzip")
    assert "it claims more values than a file of its size can hold" in refused(tmp_path / "g.h5")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 300_000  # kB


def test_an_own_file_of_values_that_are_not_there(tmp_path):
    write_weights(tmp_path / "w.h5", WeightFile(small_network(widths=(64, 4, 4, 4, 4))))
    with h5py.File(tmp_path / "w.h5", "a") as h5:
        del h5["conv1_2/weight"]
        h5.create_dataset("conv1_2/weight", (3, 3, 64, 64), "f8", compression="gzip")
    with pytest.raises(ValueError, match="conv1_2/weight: the file does not hold all of its 36864 values"):
        read_weights(tmp_path / "w.h5")
    with pytest.raises(FormatError):
        read_any(tmp_path / "w.h5")


@pytest.mark.slow
def test_an_own_file_in_int8_of_values_that_are_not_there(tmp_path):
    """Whose float32 would take four times what the file claims."""
    write_weights(tmp_path / "w.h5", WeightFile(small_network(widths=(1024, 4, 4, 4, 4))), "int8")
    for options in ({"compression": "gzip"}, {"chunks": (3, 3, 64, 64)}):
        with h5py.File(tmp_path / "w.h5", "a") as h5:
            del h5["conv1_2/weight"]
            h5.create_dataset("conv1_2/weight", (3, 3, 1024, 1024), "i1", **options)
        assert "conv1_2/weight: the file does not hold all of its 9437184 values" in refused(tmp_path / "w.h5")
        with h5py.File(tmp_path / "w.h5", "a") as h5:
            h5["conv1_2/weight"][:, :, :64] = 1  # written in part
        assert "conv1_2/weight: the file does not hold all of its 9437184 values" in refused(tmp_path / "w.h5")


def test_a_module_in_the_current_folder_is_not_run(tmp_path):
    for name in ("runpy", "h5py", "json", "struct"):
        (tmp_path / f"{name}.py").write_text("open('run', 'w')")
    code = "import weights_tools, os, sys; os.chdir(sys.argv[1]); weights_tools.read_any(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(FIXTURES / "keras1.h5")], check=True)
    assert not (tmp_path / "run").exists()


# Networks that are not what they seem.


def test_a_vgg_19_that_lacks_a_layer_is_no_vgg_16(tmp_path):
    gap = {name: array for name, array in state().items() if not name.startswith("conv3_4")}
    assert "conv3_4 is missing; vgg19 needs it" in refused(safetensors(gap, tmp_path / "f.safetensors"))


def test_a_vgg_13_without_names_and_biases_is_no_vgg(tmp_path):
    tensors, channels = {}, 3
    for n, filters in enumerate((2, 2, 3, 3, 4, 4, 5, 5, 5, 5)):
        tensors[f"{n}.weight"] = np.ones((filters, channels, 3, 3), np.float32)
        channels = filters
    message = refused(safetensors(tensors, tmp_path / "f.safetensors"))
    assert "10 convolutions of 3 x 3 without known names" in message


def test_one_number_of_caffes_classifier_is_enough(tmp_path):
    torch = pytest.importorskip("torch")
    for number, convention in ((1, "BGR"), (4, "BGR"), (0, "RGB"), (6, "RGB")):
        tensors = {"features.0.weight": torch.ones(2, 3, 3, 3), f"classifier.{number}.weight": torch.ones(2, 2)}
        torch.save(tensors, tmp_path / "f.pth")
        assert read_any(tmp_path / "f.pth").file.preprocessing.channel_order == convention


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no devices here")
def test_a_device_is_neither_read_nor_replaced(tmp_path):
    assert "not a file" in refused(Path("/dev/null"))
    with pytest.raises(OSError, match="choose another name"):
        check_folder(Path("/dev/null"))
