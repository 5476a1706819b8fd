"""The site: ``sphinx-build -W docs site``, with what ``pip install '.[docs]'`` brings; nothing of it needs a network.

The pages are written for a code host, where they read as they stand. What a site wants beyond that is added as they
are read: the front page is the README with the list of pages, the API page gets the docstrings, formulas become MathML,
and a link to a file of the repository leads to a page with its text.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import notebook  # noqa: E402

import nsnumpy  # noqa: E402

project, author, release = "nsnumpy", "the nsnumpy authors", nsnumpy.__version__
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]
root_doc = "README"
source_suffix = {".md": "markdown"}
exclude_patterns = ["samples"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "source": "source/{{path}}.html", "site": "{{path}}"}
default_role = "py:obj"  # a docstring's `name` is a link where there is something to link to
autodoc_typehints = "none"  # the signature has them in the source, the docstring has the shapes
autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "returns_style")]  # a list, not an entry of its own for each
html_theme = "furo"
html_title = "nsnumpy"
html_copy_source = False
html_math_renderer = "mathml"
pygments_style = "default"
suppress_warnings = ["myst.header"]

STYLE = """<style>
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", math; }
table:has(td img) { table-layout: fixed; width: 100%; }
</style>"""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def _outside_code(text: str, change: Any) -> str:
    return "".join(part if part.startswith("```") else change(part) for part in _FENCE.split(text))


def _links(text: str, folder: Path) -> str:
    """The links of a page of `folder` as the site has them."""

    def link(found: re.Match[str]) -> str:
        image, label, name, heading = found.groups(default="")
        path = (folder / name).resolve()
        if image:
            up = "" if path.is_relative_to(HERE) else "../"
            return f"![{label}]({up}{path.relative_to(ROOT if up else HERE).as_posix()})"
        if path == ROOT / "README.md":
            return f"[{label}](README.md{heading})"
        if path.parent == HERE and path.suffix == ".md":
            return f"[{label}]({path.name}{heading})"
        return f"[{label}](source:{path.relative_to(ROOT).as_posix()})"

    return _outside_code(text, lambda part: _LINK.sub(link, part))


def _front(listing: str) -> str:
    """The project's README, then docs/README.md; the sidebar has the latter's pages in its order."""
    tree = []
    for part in listing.split("\n## ")[1:]:
        pages = re.findall(r"\]\((\w+)\.md\)", part)
        tree.append("\n".join(["```{toctree}", ":hidden:", f":caption: {part.splitlines()[0]}", "", *pages, "```"]))
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("[The documentation](docs/README.md)", "Below")
    listing = listing.replace("# Documentation\n", "## Pages\n", 1).replace("\n## To ", "\n### To ")
    listing = re.sub(r"^\[The front page\].*\n", "", listing, flags=re.M)
    return "\n\n".join([_links(readme, ROOT), _links(listing, HERE), *tree])


def _documented(line: str) -> str:
    """A line of public names, and after it what their docstrings say."""
    made = ["```{eval-rst}"]
    for name in re.findall(r"`(\w+)`", line):
        kind = "autoclass" if inspect.isclass(getattr(nsnumpy, name)) else "autofunction"
        made += [f".. {kind}:: nsnumpy.{name}", *(["   :members:"] if kind == "autoclass" else []), ""]
    return "\n".join([line, "", *made, "```"])


def _read(app: Any, page: str, source: list[str]) -> None:
    if page == "README":
        source[0] = _front(source[0])
        return
    source[0] = _links(source[0], HERE)
    if page == "api":
        source[0] = re.sub(r"^.*`\w+`(?:, `\w+`)*$", lambda found: _documented(found[0]), source[0], flags=re.M)
    if page == "tutorial":
        title, _, rest = source[0].partition("\n")
        source[0] = f"{title}\n\n[This page as a notebook](site:tutorial.ipynb)\n{rest}"


def _mathml(translator: Any, node: nodes.Element) -> None:
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    formula = convert(node.astext(), display=display)
    scrolling = f'<div style="overflow-x: auto; overflow-y: hidden; margin: 1em 0">{formula}</div>'
    translator.body.append(scrolling if display == "block" else formula)
    raise nodes.SkipNode


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The page of the source of what the API page documents."""
    thing: Any = sys.modules.get(info["module"])
    for name in info["fullname"].split("."):
        thing = getattr(thing, name, None)
    try:
        path, line = inspect.getsourcefile(inspect.unwrap(thing)), inspect.getsourcelines(thing)[1]
    except TypeError:  # a property or an attribute
        return None
    return f"source/{Path(path).relative_to(ROOT).as_posix()}.html#line-{line}"


def _source_pages(app: Any) -> Any:
    """A page for each module of the packages, and for each other file that a page links."""
    files = {path for package in ("nsnumpy", "weights_tools") for path in (ROOT / package).rglob("*.py")}
    for page in [ROOT / "README.md", *HERE.glob("*.md")]:
        text = _outside_code(_links(page.read_text(encoding="utf-8"), page.parent), str)
        files |= {ROOT / name for name in re.findall(r"\]\(source:([^)]+)\)", text)}
    for path in sorted(files):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(name)
        except ClassNotFound:
            lexer = TextLexer()
        code = highlight(text, lexer, HtmlFormatter(lineanchors="line", anchorlinenos=False))
        yield f"source/{name}", {"title": name, "body": f"<h1>{name}</h1>{code}"}, "page.html"


def _style(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    context["metatags"] = context.get("metatags", "") + STYLE


def _finish(app: Any, failure: Exception | None) -> None:
    if failure is None:
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")
        notebook.write(Path(app.outdir) / "tutorial.ipynb")


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("source-read", _read)
    app.connect("html-page-context", _style)
    app.connect("html-collect-pages", _source_pages)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True}
