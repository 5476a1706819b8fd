"""Damaged weight files: no crash, no hang, no memory beyond four times the file, one line; see `fuzz`.

``pytest tests/test_fuzz.py --fuzz 2000`` reads so many files of each format.
"""

from random import Random

import pytest
from fuzz import FIXTURES, OWN, OWN_INT8, PROGRAMS, Fuzzer, consume, mutate, own_file, program
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

FORMATS = {
    "pytorch-zip": ["torchvision-zip.pth", "named.pth", "nested.pth", "half.pth", "bfloat16.pth"],
    "pytorch-legacy": ["torchvision-legacy.pth", "caffe-converted.pth"],
    "safetensors": ["features.safetensors"],
    "keras": ["keras1.h5", "keras2.h5", "keras3-model.h5", "keras3.weights.h5", "keras-theano.h5"],
    "matconvnet": ["matconvnet.mat", "matconvnet-old.mat", "matconvnet-oldest.mat"],
    "caffe": ["v1.caffemodel", "v2.caffemodel"],
    "onnx": ["features.onnx", "onnx-anonymous.onnx", "caffe2.onnx"],
    "npz": ["frossard.npz", "compressed.npz"],
    "npy": ["dictionary.npy", "dictionary-python2.npy"],
    "nsnumpy": [OWN],
    "nsnumpy-int8": [OWN_INT8],
}


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    fuzzer = Fuzzer(tmp_path_factory.mktemp("fuzz"))
    yield fuzzer
    fuzzer.close()


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != OWN)) for kind in FORMATS])
def test_damaged_files_are_read_or_refused(kind, fuzzer, pytestconfig):
    originals = {
        name: own_file(name) if name in (OWN, OWN_INT8) else (FIXTURES / name).read_bytes() for name in FORMATS[kind]
    }
    outcomes = set()

    @settings(
        max_examples=pytestconfig.getoption("--fuzz"),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(FORMATS[kind]), st.randoms(use_true_random=False))
    def read(name, random):
        outcomes.add(fuzzer.check(name, mutate(originals[name], random)))

    read()
    assert outcomes == {"read", "refused"}


def test_pickles_that_are_programs_are_refused(fuzzer, pytestconfig):
    @settings(max_examples=pytestconfig.getoption("--fuzz") // 4, deadline=None, database=None, derandomize=True)
    @given(st.integers(0, 2**64))
    def read(seed):
        assert fuzzer.check(PROGRAMS, program(Random(seed))) == "refused"

    read()


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir() if path.name != "expected.npz"))
def test_a_file_cut_anywhere_is_refused(name, fuzzer, tmp_path):
    """Unless only what no reader needs was cut away: a checkpoint's end, a padding."""
    data = (FIXTURES / name).read_bytes()
    for part in range(1, 20, 2):
        assert fuzzer.check(name, data[: len(data) * part // 25]) == "refused"
    (tmp_path / name).write_bytes(data)
    assert consume(tmp_path / name) == "read"


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"PK\3\4", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"\x80\x02\x8a\x0a"])
)
@example(b"\x08\x01", b"")
@example(b"\xff" * 20, b"")
def test_noise_is_refused(fuzzer, data, start):
    assert fuzzer.check("noise", start + data) == "refused"


def test_the_watch_itself_notices(fuzzer, monkeypatch):
    """A reader that takes memory, or raises something else, does not pass."""
    data = (FIXTURES / "named.pth").read_bytes()
    monkeypatch.setattr("fuzz.consume", lambda path: bytearray(20_000_000) and "read")
    with pytest.raises(AssertionError, match="bytes for a file of"):
        fuzzer.check("named.pth", data)
    monkeypatch.setattr("fuzz.LONGEST", -1)
    with pytest.raises(AssertionError, match=r"\d s"):
        fuzzer.check("named.pth", data)
    monkeypatch.undo()
    monkeypatch.setattr("weights_tools.formats.pytorch.unpickle", lambda *_: {}[1])
    with pytest.raises(KeyError):
        fuzzer.check("named.pth", data)
