"""The documentation is true: its Python and its commands run, what it quotes stands in the source, its links lead on.

The README's Python is run by test_readme.py, block by block; its commands of weights_tools, which fetch, convert and
train, are only parsed.
"""

import importlib
import re
import shutil

import numpy as np
import pytest
from pages import (
    DOCS,
    README,
    ROOT,
    blocks,
    broken_links,
    commands,
    links,
    missing_lines,
    parses,
    run,
    weights_commands,
)

import nsnumpy
from nsnumpy import WeightFile, load_image, save_image, write_weights
from nsnumpy.cli.main import main
from nsnumpy.files.weight_sources import BUNDLED
from nsnumpy.workers import one_blas_thread

EVERY = [README, *DOCS]
QUOTING = [page for page in DOCS if any(block.quoted for block in blocks(page))]


def page_name(page):
    return page.relative_to(README.parent).as_posix()


IN_ORDER = ("errata", "mathematics", "tutorial")
"""Pages whose blocks go on from each other; each block of the others stands for itself."""


def run_page(page, after_block=lambda block, namespace: None):
    namespace = {"__name__": page.stem}
    with one_blas_thread:
        for block in blocks(page, "python"):
            if page.stem not in IN_ORDER:
                namespace = {"__name__": page.stem}
            run(page, block, namespace)
            after_block(block, namespace)


def the_packages_own(block, namespace):
    """Puts the package's own functions in the place of those that the block has quoted."""
    if block.quoted:
        module = importlib.import_module(block.quoted.removesuffix(".py").replace("/", "."))
        for name in re.findall(r"^(?:def|class) (\w+)", block.code, re.M):
            namespace[name] = getattr(module, name)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in DOCS if page.stem != "tutorial"], ids=page_name)
def test_its_python_runs(page, tmp_path, monkeypatch):
    """The tutorial's is run by test_notebook.py."""
    monkeypatch.chdir(tmp_path)
    run_page(page)
    for name in re.findall(r"save_image\(\"([^\"]+)", page.read_text()):
        assert load_image(tmp_path / name).std() > 0.1  # it shows something


@pytest.mark.slow
@pytest.mark.parametrize("page", QUOTING, ids=page_name)
def test_it_holds_of_the_package_and_not_only_of_the_quotations(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, the_packages_own)


@pytest.mark.parametrize("page", EVERY, ids=page_name)
def test_what_it_quotes_stands_in_the_source(page):
    quotations = [block for block in blocks(page) if block.quoted]
    assert {block.line: lines for block in quotations if (lines := missing_lines(block))} == {}
    linked = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
    assert {block.quoted for block in quotations if (README.parent / block.quoted).resolve() not in linked} == set()


@pytest.mark.parametrize("page", EVERY, ids=page_name)
def test_its_commands_parse(page):
    assert all(parses(arguments) for arguments in commands(page))
    assert all(parses(arguments, weights=True) for arguments in weights_commands(page))


COMMANDS_TO_TRY = ("choosing", "cluster", "conventions", "gpu", "large", "regions", "runs", "studio", "weights")
GUIDES = [
    README,
    *(page for page in DOCS if page.stem in COMMANDS_TO_TRY),
]
"""Pages whose commands are for the reader's own pictures and networks, and for larger ones than a test has time for."""


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in DOCS if blocks(page, "bash") and page not in GUIDES], ids=page_name)
def test_its_commands_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = [line for block in blocks(page, "bash") for line in block.code.splitlines() if line and line[0] != "#"]
    assert [line for line in shown if not line.startswith("nsnumpy ")] == []  # nothing that would not be run
    for arguments in commands(page):
        assert main([*arguments, *MADE_SMALL.get(arguments[0], "").split()]) == 0
        if "-o" in arguments:
            assert (tmp_path / arguments[arguments.index("-o") + 1]).stat().st_size > 0


BLUE, LIME = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
MADE_SMALL = {
    "transfer": "--size 48 --iterations 2 --threads 1",
    "texture": "--size 48 --iterations 2 --threads 1",
    "reconstruct": "--size 48 --iterations 2 --threads 1",
    "figure": "--size 48 --iterations 2 --threads 1 --layers conv1_1,conv2_1",
    "plan": "--size 96 --threads 1",
    "blend": "--size 48 --iterations 2 --threads 1 --steps 2",
}
"""What is put after the guides' commands."""


@pytest.fixture(scope="module")
def small_networks(tmp_path_factory, tiny_weights):
    """A folder with a small network in the place of each of the package's."""
    folder = tmp_path_factory.mktemp("networks")
    for name in BUNDLED:
        write_weights(folder / f"{name}.h5", WeightFile(tiny_weights))
    return folder


@pytest.fixture(scope="module")
def readers_pictures(tmp_path_factory):
    """A folder with pictures of the names that the guides' commands have."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "photos").mkdir()
    for name, sample in (("photo", "sample:coast"), ("painting", "sample:starry"), ("other", "sample:glass")):
        picture = load_image(sample, 96)
        for number in ("", "2"):
            save_image(folder / f"{name}{number}.jpg", picture)
    for number in ("", "2"):
        shutil.copy(folder / f"photo{number}.jpg", folder / "photos")
    sky = np.arange(72)[:, None, None] < np.full((72, 96, 1), 30)
    for name, upper, lower in (("map", BLUE, LIME), ("map2", LIME, BLUE), ("sky", 1, 0), ("land", 0, 1)):
        save_image(folder / f"{name}.png", np.where(sky, upper, lower) * np.ones(3))
    return folder


@pytest.mark.parametrize("arguments", [command for page in GUIDES for command in commands(page)], ids=" ".join)
def test_the_guides_commands_run(arguments, tmp_path, monkeypatch, small_networks, readers_pictures):
    """All but those for a GPU or a cluster, and the studio, which does not end; with pictures of that name, and a
    small network for what is made."""
    if "gpu" in arguments or "--cluster" in arguments or arguments[0] == "studio":
        assert parses(arguments)
        return
    if {"plot", "report", "--report"} & {*arguments}:
        pytest.importorskip("matplotlib")
    shutil.copytree(readers_pictures, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nsnumpy.files.weight_sources.DATA", small_networks)
    there = ["builtin" if argument in ("vgg19", "network.h5", "mine.h5") else argument for argument in arguments]
    small = MADE_SMALL.get(arguments[0], "").split()
    if "--resume" in there or "--like" in there or "run.jsonl" in there:
        kept = ["--checkpoint", "run.h5", "--log", "run.jsonl", *MADE_SMALL["transfer"].split()]
        assert main(["transfer", "photo.jpg", "painting.jpg", "-o", "out.png", *kept]) == 0
    assert main([*there, *small]) == 0
    if "-o" in there:
        assert (tmp_path / there[there.index("-o") + 1]).exists()


@pytest.mark.parametrize("page", [*EVERY, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=page_name)
def test_its_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", EVERY, ids=page_name)
def test_it_hides_no_code(page):
    assert "\n    import " not in re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    assert len(blocks(page)) == page.read_text().count("```") / 2  # each fence of a known kind, and each one closed


def test_the_pages_are_there_and_say_what_they_should():
    by_name = {page.stem: page for page in DOCS}
    assert {"README", "api", "design", "errata", "mathematics", "tutorial"} <= by_name.keys()
    assert all(page.name in links(by_name["README"]) for page in DOCS if page.stem != "README")
    names = re.findall(r"`(\w+)`", by_name["api"].read_text())
    assert sorted(names) == sorted(set(nsnumpy.__all__) - {"__version__"})  # each once
    assert [page.stem for page in QUOTING] == ["mathematics"]
    quoted = {block.quoted for block in blocks(by_name["mathematics"])}
    assert quoted > {
        f"nsnumpy/{name}.py"
        for name in ("losses", "ops/conv", "ops/pool", "ops/relu", "vgg", "objective", "descent", "pairs")
    }
    assert len(re.findall(r"^## \d+\.", by_name["errata"].read_text(), re.M)) == 7


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("residual = F - P\n", []),
        ("    residual = F - P\n", []),
        ("residual = F - 2 * P\n", ["residual = F - 2 * P"]),
        ("return sum_of_squares(residual) / 2, residual\nresidual = F - P\n", ["residual = F - P"]),
    ],
)
def test_a_wrong_quotation_is_found(tmp_path, code, missing):
    page = tmp_path / "page.md"
    page.write_text(f"Text.\n\n```python\n# nsnumpy/losses.py\n{code}```\n")
    (block,) = blocks(page)
    assert block.quoted == "nsnumpy/losses.py"
    assert missing_lines(block) == missing


@pytest.mark.parametrize(
    "text", ["```\nx = 1\n```\n", "```py\nx = 1\n```\n", "```python\nx = 1\n", "~~~python\nx\n~~~\n"]
)
def test_a_block_of_no_known_kind_is_found(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md, line 1: a block of python, bash, text expected"):
        blocks(page)


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title, so\n[a](page.md) [b](#a-title-so) [c](gone.md) [d](page.md#gone) [e](https://x.org)\n")
    assert broken_links(page) == ["gone.md", "page.md#gone"]


def test_a_command_that_is_wrong_does_not_parse(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("```bash\nnsnumpy transfer a.jpg b.jpg -o c.png --sise 3  # a comment\n```\n")
    assert commands(page) == [["transfer", "a.jpg", "b.jpg", "-o", "c.png", "--sise", "3"]]
    with pytest.raises(SystemExit):
        parses(*commands(page))
    assert "--sise" in capsys.readouterr().err
