"""The rules of the house that a machine can hold: which way imports run, who may name numpy and cupy, who may print."""

import ast
import re
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

# A folder may import its own modules and those of the folders before it: the algorithm, what is kept in files, runs of
# it, the use cases, what is studied with them, and the command line. Not one of a hundred names stands here.
CORE, ORDER = "", ("", "tiles", "files", "run", "use_cases", "study", "studio", "cli", "__init__")


def rank(name: str) -> int:
    """The place of a module's folder in that order; the top-level files are the algorithm, with ops."""
    first = name.partition("/")[0]
    if "/" not in name:
        public = dict.fromkeys(("api", "__init__", "__main__"), "__init__")
        return ORDER.index((public | {"use_cases": "use_cases"}).get(name, CORE))
    return ORDER.index(CORE if first == "ops" else first)


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
            folder = Path(name).parents[level - 1]
            target = (folder / module.replace(".", "/")).as_posix()
            found.add(target if target in MODULES else f"{target}/__init__")
        else:
            assert module.partition(".")[0] != "nsnumpy", f"{name}: absolute import of the package"
    return found - {"_version"}


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name):
    assert {other for other in internal(name) if rank(other) > rank(name)} == set()


def test_no_imports_run_in_a_circle():
    left = {name: internal(name) for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_a_breach_of_these_rules_is_found(monkeypatch, tmp_path):
    breach = {"losses": "from .run.settings import Settings\n", "run/settings": "from ..losses import Gram\n"}
    for name, text in breach.items():
        path = tmp_path / f"{name.replace('/', '_')}.py"
        path.write_text(text)
        monkeypatch.setitem(MODULES, name, path)
    with pytest.raises(AssertionError):
        test_imports_run_one_way("losses")
    test_imports_run_one_way("run/settings")
    with pytest.raises(AssertionError):
        test_no_imports_run_in_a_circle()
    assert rank("files/images") > rank("vgg") == rank("ops/fast/winograd")
    assert rank("vgg") < rank("run/run") < rank("use_cases") < rank("study/prove") < rank("cli/run") < rank("__main__")
    assert {"run/run", "run/results"} <= internal("use_cases")


def test_the_algorithm_stands_alone_at_the_top():
    top = {name for name in MODULES if "/" not in name} - {"__init__", "__main__", "_version", "api"}
    assert top == {
        "architecture", "backend", "conventions", "convolution", "descent", "ending", "gradcheck", "lbfgs", "lbfgsb",
        "losses", "machine", "objective", "optimize", "pairs", "positions", "targets", "use_cases", "variable", "vgg",
        "workers",
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("ops/")] + ["vgg", "losses"])
def test_the_mathematics_takes_its_namespace_from_the_arrays(name):
    assert not {module for _, module in imports(MODULES[name])} & {"numpy", "cupy", "scipy"}


def test_only_the_backend_imports_cupy():
    names = [name for name, path in MODULES.items() if "cupy" in {module for _, module in imports(path)}]
    assert names == []  # the backend imports it by name, and only when a GPU is asked for
    by_name = {name for name in MODULES if "import_module(" in MODULES[name].read_text()}
    assert by_name == {"backend", "cli/main"}  # this one its own commands


def test_only_the_command_line_prints():
    printing = [
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert {name.partition("/")[0] for name in printing} == {"cli"}


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


PRODUCTS = {"matmul", "dot", "vdot", "inner", "outer", "tensordot", "einsum", "kron"}
ON_THE_HOST = {"nsnumpy/ops/fast/host.py", "nsnumpy/run/colors.py", "nsnumpy/run/regions.py"}
KNOWN = {
    "nsnumpy/pairs.py": {"G", "q", "get_xp", "xp"},  # inner products of vectors; and of numbers on the host
    "nsnumpy/losses.py": {"get_xp"},  # a norm, on the host alone
    "nsnumpy/ops/fast/winograd.py": {"xp"},  # a layer's weights, once, in float64
}


def own_products(source: str) -> set[str]:
    """The expressions in a source that are products of matrices or vectors by the array's own functions: what they
    begin with. NumPy's, by its name, are the host's."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            found.add(re.match(r"\w*", ast.unparse(node))[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PRODUCTS:
            found.add(re.match(r"\w*", ast.unparse(node))[0])
        if isinstance(node, ast.Attribute) and node.attr in PRODUCTS and isinstance(node.value, ast.Call):
            found.add(re.match(r"\w*", ast.unparse(node))[0])
    return found - {"np", "self"}


def test_products_on_a_device_are_made_by_one_function():
    """`backend.matmul`, which says how precisely; a GPU's own may choose, and copy what is transposed."""
    root = Path(nsnumpy.__file__).parent.parent
    wrong, seen = {}, set()
    for folder in ("nsnumpy", "weights_tools"):
        for path in (root / folder).rglob("*.py"):
            name = path.relative_to(root).as_posix()
            products = own_products(path.read_text())
            seen |= {name} if products else set()
            if name not in ON_THE_HOST and (left := products - KNOWN.get(name, set())):
                wrong[name] = left
    assert wrong == {}
    assert seen == ON_THE_HOST | KNOWN.keys()


@pytest.mark.parametrize(
    "line",
    [
        "y = F.T @ F",
        "F @= K",
        "y = xp.matmul(a, b)",
        "y = F.dot(K)",
        "dot = get_xp(x).vdot",
        "y = xp.einsum('ij,j', a, b)",
    ],
)
def test_products_by_other_functions_are_found(line):
    assert len(own_products(line)) == 1
    assert own_products("y = np.matmul(a, b) + matmul(a, b) + self.inner") == set()
