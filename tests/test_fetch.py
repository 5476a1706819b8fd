"""Fetching from a server on this machine: checked, converted, put where `load_vgg` finds it; or nothing is left."""

import hashlib
import json

import numpy as np
import pytest
from test_download import _no_proxy, server  # noqa: F401
from weight_writers import FIXTURES, small_network

from nsnumpy import load_vgg, read_weights
from nsnumpy.cli.main import main as nsnumpy_main
from nsnumpy.files.weight_sources import cache_folder
from weights_tools import FetchError, fetch, published
from weights_tools.cli import main

KERAS = (FIXTURES / "keras1.h5").read_bytes()
MAT = (FIXTURES / "matconvnet.mat").read_bytes()
QUICK = {"pause": 0.0, "timeout": 2.0}


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("nsnumpy.files.weight_sources.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return cache_folder()


@pytest.fixture
def publish(server, monkeypatch):  # noqa: F811
    """publish(name, content, mirrors=1, **facts): something to fetch, at its first address right or wrong."""

    def publish(name, content, ending="h5", served=None, **facts):
        url = server.add(f"{name}.{ending}", body=content if served is None else served)
        known = {
            "convention": "caffe",
            "license": "none",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "md5": hashlib.md5(content).hexdigest(),
        }
        file = published.Published((url,), "a test", **known | facts)
        monkeypatch.setitem(published.PUBLISHED, name, file)
        return file

    return publish


def test_a_published_file_is_fetched_and_found_by_its_name(cache, publish):
    publish("small", KERAS)
    said, seen = [], []
    fetched = fetch("small", say=said.append, progress=lambda done, total: seen.append((done, total)), **QUICK)
    assert fetched.path == cache / "small.h5"
    assert fetched.sha256 == hashlib.sha256(KERAS).hexdigest()
    assert (said, seen[-1]) == ([], (len(KERAS), len(KERAS)))
    assert files(cache) == ["small.h5"]
    file = read_weights("small")
    assert (file.source, file.sha256, file.license) == (fetched.url, fetched.sha256, "none")
    assert file.preprocessing == published.CONVENTIONS["caffe"]
    assert np.array_equal(file.weights["conv4_1"][0], small_network()["conv4_1"][0])
    assert load_vgg("small").source == "small"


def test_what_is_there_is_not_fetched_again_unless_forced(cache, publish, server):  # noqa: F811
    publish("small", KERAS)
    fetch("small", **QUICK)
    again = fetch("small", **QUICK)
    assert (again.found, again.url) == (None, "")
    assert len(server.requests) == 1
    assert fetch("small", force=True, keep=True, **QUICK).found
    assert fetch("small", force=True, **QUICK).found
    assert len(server.requests) == 3


def test_a_kept_file_serves_offline_and_a_missing_one_is_told(cache, publish, server):  # noqa: F811
    publish("small", KERAS)
    with pytest.raises(FetchError, match="small: not downloaded before; leave --offline away to download it"):
        fetch("small", offline=True, **QUICK)
    fetch("small", keep=True, **QUICK)
    kept = cache / "downloads" / "small.h5"
    assert kept.read_bytes() == KERAS
    (cache / "small.h5").unlink()
    assert fetch("small", offline=True, keep=True, **QUICK).found
    publish("small", KERAS, size=len(KERAS) + 1)
    with pytest.raises(FetchError, match="--offline"):
        fetch("small", offline=True, force=True, **QUICK)
    publish("small", KERAS)
    kept.write_bytes(KERAS[:-1])
    (cache / "small.h5").unlink()
    with pytest.raises(FetchError, match="--offline"):
        fetch("small", offline=True, **QUICK)
    assert len(server.requests) == 1
    assert fetch("small", **QUICK).found  # damaged, so fetched again
    assert len(server.requests) == 2
    assert files(cache) == ["small.h5"]


def test_a_file_that_fails_falls_through_to_the_next(cache, publish, monkeypatch):
    publish("first", KERAS, served=KERAS[:-1] + b"?")
    publish("second", b"<html>moved</html>", sha256="", md5="", size=None)
    publish("third", MAT, "mat", convention="matconvnet")
    monkeypatch.setitem(published.COLLECTIONS, "any", ("first", "second", "third"))
    said = []
    fetched = fetch("any", say=said.append, **QUICK)
    assert fetched.found.format == "MatConvNet"
    assert fetched.path.name == "any.h5"
    assert "first.h5: SHA-256" in "\n".join(said)
    assert "a web page, not a weight file" in "\n".join(said)
    assert files(cache) == ["any.h5"]


def test_when_nothing_serves_one_line_says_why_and_nothing_is_left(cache, publish, monkeypatch):
    publish("first", KERAS, served=KERAS[:-1] + b"?")
    publish("second", MAT, "mat", served=b"x" * len(MAT))
    monkeypatch.setitem(published.COLLECTIONS, "any", ("first", "second"))
    with pytest.raises(FetchError) as caught:
        fetch("any", **QUICK)
    message, reasons = str(caught.value), caught.value.reasons
    assert message.endswith(f"python -m weights_tools convert FILE -o {cache / 'any.h5'}")
    assert "\n" not in message
    assert len(reasons) == 2
    assert "first.h5: SHA-256" in reasons[0]
    assert "second.mat: SHA-256" in reasons[1]
    assert files(cache) == []
    with pytest.raises(ValueError, match="unknown name 'vgg20'; known: vgg19, vgg16, "):
        fetch("vgg20")


def test_without_a_published_checksum_the_one_seen_is_recorded_and_held(cache, publish, server):  # noqa: F811
    file = publish("small", KERAS, sha256="", md5="")
    said = []
    fetch("small", say=said.append, **QUICK)
    seen = hashlib.sha256(KERAS).hexdigest()
    assert said == [f"no checksum is published for {file.urls[0]}; seen and recorded: SHA-256 {seen}"]
    assert json.loads((cache / "checksums.json").read_text()) == {file.urls[0]: seen}
    other = (FIXTURES / "keras2.h5").read_bytes()
    server.add("small.h5", body=other)
    publish("small", other, sha256="", md5="")
    (cache / "small.h5").unlink()
    with pytest.raises(FetchError) as caught:
        fetch("small", **QUICK)
    assert f"but {seen} came the last time; --force accepts it" in caught.value.reasons[0]
    assert files(cache) == ["checksums.json"]
    assert fetch("small", force=True, **QUICK).found
    assert json.loads((cache / "checksums.json").read_text()) != {file.urls[0]: seen}


def test_the_known_normalised_file_is_marked_so(cache, publish):
    publish("small", KERAS, normalized=True)
    assert fetch("small", **QUICK).found.file.normalized
    assert read_weights("small").normalized


def test_the_commands(cache, publish, capsys, tmp_path, monkeypatch):
    publish("small", KERAS)
    assert main(["fetch", "small"]) == 0
    out = capsys.readouterr().out
    assert f"SHA-256 {hashlib.sha256(KERAS).hexdigest()}" in out
    assert "use it with: nsnumpy transfer CONTENT STYLE --weights small -o OUT" in out
    assert main(["fetch", "small"]) == 0
    assert "there already" in capsys.readouterr().out
    assert main(["fetch", "vgg19-gatys", "--offline"]) == 1
    assert "weights_tools: error: vgg19-gatys: not downloaded before" in capsys.readouterr().err
    assert main(["fetch"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in published.PUBLISHED)
    assert main(["inspect", "small"]) == 0
    monkeypatch.chdir(tmp_path)
    run = ["transfer", "sample:coast", "sample:starry", "--size", "32", "--iterations", "1", "-o", "o.png"]
    assert nsnumpy_main([*run, "--weights", "small"]) == 0
    assert nsnumpy_main([*run, "--weights", "vgg19"]) == 2
    assert "`python -m weights_tools fetch vgg19` fetches it" in capsys.readouterr().err


def test_the_table_of_published_files():
    urls = [url for file in published.PUBLISHED.values() for url in file.urls]
    assert len(set(urls)) == len(urls)
    assert all(url.startswith("https://") for url in urls)
    for name, file in published.PUBLISHED.items():
        assert file.convention in published.CONVENTIONS, name
        assert len(file.sha256) in (0, 8, 64), name
        assert len(file.md5) in (0, 32), name
    assert all(member in published.PUBLISHED for members in published.COLLECTIONS.values() for member in members)
    torchvision = published.PUBLISHED["vgg19-torchvision"]
    assert published.recognise(torchvision.sha256, "") == ("vgg19-torchvision", torchvision)
    jcjohnson = published.PUBLISHED["vgg19-jcjohnson"]
    assert published.recognise("d01eb7cb" + "0" * 56, "") == ("vgg19-jcjohnson", jcjohnson)
    assert published.recognise("0" * 64, published.PUBLISHED["vgg19-caffe"].md5)[0] == "vgg19-caffe"
    assert published.recognise("0" * 64, "0" * 32) is None
