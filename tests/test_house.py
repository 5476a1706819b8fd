"""The rules of the house that a machine can hold: which way imports run, who may name numpy and cupy, who may print."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nsnumpy

ROOT = Path(nsnumpy.__file__).parent
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ROOT.rglob("*.py")}
TOOLS = {path.relative_to(ROOT.parent).as_posix(): path for path in (ROOT.parent / "weights_tools").rglob("*.py")}
CLONE = Path(__file__).parent.parent
SAMPLES = {path.relative_to(CLONE).as_posix(): path for path in (CLONE / "docs/samples").rglob("*.py")}

# Each module may import the ones before it, and none after it.
ORDER = [
    "_version", "files", "backend", "architecture", "workers", "ops/relu", "ops/pool", "ops/conv", "ops/patches",
    "ops/tiles", "ops/winograd_matrices", "ops/winograd_tiles", "ops/winograd_kernels", "ops/winograd", "ops/__init__",
    "ways", "vgg", "losses", "conventions",
    "lbfgs", "descent", "blas", "budget", "targets", "objective", "carry", "optimize",
    "gradcheck", "images", "settings",
    "random_network", "quantize", "weight_layers", "weight_sources", "weights",
    "checkpoint", "results", "runs", "transfer", "plan", "checks",
    "report_plots", "report_page", "report",
    "sheets", "claims", "cells", "figure_sheets", "figure_plan", "figures",
    "options", "command", "cli_run", "cli_study", "cli_figure", "cli",
    "__init__", "__main__",
]  # fmt: skip


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import in a file; level 0 is an absolute one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, node.module)] if node.module else [(node.level, alias.name) for alias in node.names]
    return found


def internal(name: str) -> set[str]:
    """The modules of the package that module `name` imports."""
    found = set()
    for level, module in imports(MODULES[name]):
        if level:
            folder = Path(name).parent if level == 1 else Path(name).parent.parent
            target = (folder / module.replace(".", "/")).as_posix()
            found.add(target if target in MODULES else f"{target}/__init__")
        else:
            assert module.partition(".")[0] != "nsnumpy", f"{name}: absolute import of the package"
    return found


def test_every_module_has_its_place():
    assert sorted(MODULES) == sorted(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_one_way(name):
    late = {other for other in internal(name) if ORDER.index(other) >= ORDER.index(name)}
    assert not late


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("ops/")] + ["vgg", "losses"])
def test_the_mathematics_takes_its_namespace_from_the_arrays(name):
    assert not {module for _, module in imports(MODULES[name])} & {"numpy", "cupy", "scipy"}


def test_only_the_backend_imports_cupy():
    names = [name for name, path in MODULES.items() if "cupy" in {module for _, module in imports(path)}]
    assert names == []  # the backend imports it by name, and only when a GPU is asked for
    assert [name for name in MODULES if "import_module(" in MODULES[name].read_text()] == ["backend"]


def test_only_the_command_line_prints():
    printing = [
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert set(printing) == {"cli_figure", "cli_run", "cli_study", "command"}


def test_the_tools_print_in_one_place_and_need_no_framework():
    packages = {"h5py", "numpy", "nsnumpy", "tqdm", "PIL"} | sys.stdlib_module_names
    for name, path in TOOLS.items():
        tree = ast.parse(path.read_text())
        names = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in names or name.endswith("/cli.py"), name
        assert not names & {"eval", "exec", "__import__"}, name
        outside = {module.partition(".")[0] for level, module in imports(path) if level == 0}
        assert outside <= packages - {"pickle", "marshal", "shelve"}, name


def test_the_package_does_without_the_tools():
    found = {module for path in MODULES.values() for level, module in imports(path) if level == 0}
    assert not any(module.startswith("weights_tools") for module in found)
    code = "import sys, nsnumpy.cli; print('weights_tools' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_no_module_is_longer_than_a_sitting():
    lengths = {name: len(path.read_text().splitlines()) for name, path in {**MODULES, **TOOLS, **SAMPLES}.items()}
    assert {name: length for name, length in lengths.items() if length > 360} == {}


def test_importing_the_package_imports_no_framework():
    code = "import sys, nsnumpy; print([m for m in ('cupy', 'torch', 'matplotlib', 'skimage') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_everything_public_is_documented_and_hinted():
    for name in nsnumpy.__all__:
        thing = getattr(nsnumpy, name)
        if name != "__version__":
            assert thing.__doc__, name
            if not isinstance(thing, type):
                assert "return" in thing.__annotations__, name
