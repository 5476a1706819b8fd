"""The tutorial as a notebook: ``python docs/notebook.py [tutorial.ipynb]``.

The page is the one source. Its blocks of Python become cells of code, and what stands between them cells of text; a
cell that saves a picture shows it, too.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "tutorial.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$\n?", re.M | re.S)
_LINK = re.compile(r"\[([^\]]+)\]\((?!http)[^)]+\)")  # to other pages, which a notebook does not have beside it
_SAVED = re.compile(r"^ns\.save_image\((\"[^\"]+\")", re.M)


def notebook(page: Path = PAGE) -> dict[str, Any]:
    """The page in Jupyter's format 4.5, JSON-serialisable, without output."""
    parts = _BLOCK.split(page.read_text(encoding="utf-8"))  # text, code, text, ...
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        text = part.strip() if number % 2 else _LINK.sub(r"\1", part).strip()
        if not text:
            continue
        cell: dict[str, Any] = {"id": f"cell-{number}", "cell_type": "markdown", "metadata": {}}
        if number % 2:
            cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
            if saved := _SAVED.search(text):
                text += f"\nPIL.Image.open({saved[1]})"
            if number == 1:
                text = "import PIL.Image\n" + text
        cells.append(cell | {"source": text.splitlines(keepends=True)})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "cells": cells,
    }


def write(path: Path) -> None:
    path.write_text(json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial.ipynb"))
