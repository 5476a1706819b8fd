"""What is packed: exactly what a user needs in the wheel, the tests and the docs in the sdist beside it.

The distributions are built where `build` and `setuptools` are installed, without a network.
"""

import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from pages import ROOT

import nsnumpy


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the wheel and in the sdist, and the wheel's METADATA."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", minversion="77.0.3")
    folder = tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no clone")
    for name in tracked:  # a copy, so that nothing is built into the clone, or out of what lies about in it
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    return set(names), packed, metadata, set(tracked)


def test_the_wheel_has_what_a_user_needs_and_nothing_else(built):
    names, _, _, tracked = built
    data = {name for name in names if not name.endswith(".py") and ".dist-info/" not in name}
    samples = {f"nsnumpy/data/samples/{name}.jpg" for name in nsnumpy.sample_names()}
    networks = {f"nsnumpy/data/{name}.h5" for name in ("builtin", "builtin-large")}
    page = {name for name in tracked if name.startswith("nsnumpy/data/studio/")}
    assert {"nsnumpy/data/studio/index.html", "nsnumpy/data/studio/main.js"} <= page
    assert data == samples | networks | page | {"nsnumpy/data/report.html", "nsnumpy/py.typed"}
    modules = {name for name in tracked if name.endswith(".py") and name.startswith(("nsnumpy/", "weights_tools/"))}
    assert {name for name in names if name.endswith(".py")} == modules
    (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names


def test_the_sdist_has_the_tests_and_the_docs_too(built):
    _, packed, _, tracked = built
    hidden = {name for name in tracked if name.startswith(".")}
    assert tracked - hidden - packed == set()


def test_the_metadata_say_what_it_is(built):
    metadata = built[2]
    assert f"\nVersion: {nsnumpy.__version__}\n" in metadata
    assert re.search(r"^License-Expression: MIT AND CC-BY-4.0$", metadata, re.M)
    assert "License ::" not in metadata  # the expression takes the classifiers' place
    assert [f"Python :: 3.{minor}\n" in metadata for minor in range(9, 15)] == [False, *[True] * 5]


def test_the_citation_has_the_version():
    assert f"\nversion: {nsnumpy.__version__}\n" in (ROOT / "CITATION.cff").read_text()
