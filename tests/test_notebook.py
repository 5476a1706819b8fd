"""The tutorial as a notebook: the page's text and code, every cell runs, and what it saves it shows."""

import ast
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from pages import ROOT, blocks
from PIL import Image

from nsnumpy.workers import one_blas_thread

PAGE, SCRIPT = ROOT / "docs/tutorial.md", ROOT / "docs/notebook.py"


def made():
    spec = importlib.util.spec_from_file_location("notebook", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.notebook()


@pytest.mark.slow
def test_its_cells_run_and_show_what_they_save(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = ["".join(cell["source"]) for cell in made()["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == len(blocks(PAGE, "python"))
    namespace, shown = {"__name__": "__main__"}, []
    with one_blas_thread:
        for cell, block in zip(cells, blocks(PAGE, "python"), strict=True):
            assert block.code.strip() in cell
            *body, last = ast.parse(cell).body
            exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), namespace))
            else:
                exec(compile(ast.Module([last], []), "cell", "exec"), namespace)
    assert all(isinstance(picture, Image.Image) for picture in shown)
    assert [picture.size for picture in shown] == [(128, 96)] * 3
    for picture in shown:
        assert np.asarray(picture).std() > 25  # it shows something
        picture.close()


def test_its_text_is_the_pages_without_links_to_other_files():
    text = "\n\n".join("".join(cell["source"]) for cell in made()["cells"] if cell["cell_type"] == "markdown")
    assert "](" not in text
    assert "the mathematics" in text
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]


def test_the_script_writes_it(tmp_path):
    path = tmp_path / "t.ipynb"
    subprocess.run([sys.executable, SCRIPT, path], check=True)
    assert json.loads(path.read_text()) == made()
    assert len({cell["id"] for cell in made()["cells"]}) == len(made()["cells"])
