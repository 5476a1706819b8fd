"""README.md and docs/*.md taken apart: their blocks of code, commands, quotations and links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from nsnumpy.cli.main import parser
from weights_tools.cli import parser as weights_parser

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
KINDS = ("python", "bash", "text")

_QUOTATION = re.compile(r"# ((?:nsnumpy|weights_tools)/[\w/]+\.py)\n")
_COMMAND = re.compile(r"(?<!pip install )\bnsnumpy (\w+ .*|\w+$)", re.M)
_WEIGHTS_COMMAND = re.compile(r"python -m weights_tools (\w.*)")


class Block(NamedTuple):
    """A fenced block: what kind of code, the code, the number of its first line, and which file it quotes, or ""."""

    kind: str
    code: str
    line: int
    quoted: str


def blocks(page: Path, kind: str = "") -> list[Block]:
    """The page's fenced blocks, all of them or those of one kind.

    Raises
    ------
    ValueError
        If a fence is of no known kind, or is not closed.
    """
    found: list[Block] = []
    lines = page.read_text().splitlines(keepends=True)
    fences = [number for number, line in enumerate(lines) if re.match(r"\s*(```|~~~)", line)]
    for first, last in zip(fences[::2], [*fences[1::2], None][: len(fences[::2])], strict=True):
        name = lines[first].rstrip("\n").removeprefix("```")
        if name not in KINDS or last is None or lines[last].rstrip("\n") != "```":
            raise ValueError(f"{page.name}, line {first + 1}: a block of {', '.join(KINDS)} expected, and its end")
        code = "".join(lines[first + 1 : last])
        quotation = _QUOTATION.match(code)
        found.append(Block(name, code, first + 2, quotation[1] if quotation else ""))
    return [block for block in found if kind in ("", block.kind)]


def run(page: Path, block: Block, namespace: dict[str, Any]) -> None:
    """Run a block of Python; an error shows the page's own line."""
    exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `nsnumpy` command in the page's bash blocks."""
    return [_split(line) for block in blocks(page, "bash") for line in _COMMAND.findall(block.code)]


def weights_commands(page: Path) -> list[list[str]]:
    """The arguments of each `python -m weights_tools` command in the page's bash blocks."""
    return [_split(line) for block in blocks(page, "bash") for line in _WEIGHTS_COMMAND.findall(block.code)]


def parses(arguments: list[str], *, weights: bool = False) -> bool:
    """Whether a command line knows these arguments; if not, it says why and raises SystemExit."""
    return callable((weights_parser() if weights else parser()).parse_args(arguments).run)


def missing_lines(block: Block) -> list[str]:
    """The lines of a quotation that its file does not hold in this order; their indentation may differ.

    Between blank lines stands what is quoted from one place. Such places need not come in the file's order, but if an
    indented line follows, it belongs to what is above the blank line.
    """
    source = [line.strip() for line in (ROOT / block.quoted).read_text().splitlines()]
    missing, place, apart = [], 0, False
    for line in block.code.splitlines()[1:]:
        if not line.strip():
            apart = True
            continue
        if apart and not line[0].isspace():
            place = 0
        apart = False
        if line.strip() in source[place:]:
            place = source.index(line.strip(), place) + 1
        else:
            missing.append(line)
    return missing


def broken_links(page: Path) -> list[str]:
    """The page's links to files, or to headings, that are not there."""
    links = re.findall(r"\]\(([^)]+)\)", _prose(page))
    return [link for link in links if not link.startswith("http") and not _leads_somewhere(page, link)]


def links(page: Path) -> list[str]:
    """The page's links within the repository."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", _prose(page)) if not link.startswith("http")]


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, heading = link.partition("#")
    target = page.parent / name if name else page
    return target.exists() and (not heading or heading in _headings(target))


def _headings(page: Path) -> list[str]:
    """The fragments by which GitHub links to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", _prose(page), re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def _prose(page: Path) -> str:
    """The page without its blocks, in which `#` begins a comment."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def _split(line: str) -> list[str]:
    return shlex.split(line, comments=True)
