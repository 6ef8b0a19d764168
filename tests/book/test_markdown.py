"""The book's Markdown, before it is built."""

import re

import pytest

pytest.importorskip("jupyter_book", reason="the book's tools are not installed")

from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from tsp.book.notebooks import NOTEBOOKS, SOURCES, read_notebook
from tsp.paths import ROOT

PARSER = MarkdownIt().use(colon_fence_plugin).use(dollarmath_plugin)
OPTIONS = re.compile(r"\A(:[\w-]+:.*\n)+")  # of a directive
PAGES = [*sorted(NOTEBOOKS.glob(SOURCES)), *sorted((ROOT / "book").glob("*.md"))]


def texts(page):
    """Markdown of a page: a text for each cell of a notebook."""
    if page.suffix == ".md":
        return [page.read_text("utf-8")]
    return [cell.source for cell in read_notebook(page).cells if cell.cell_type == "markdown"]


def stray_dollars(text):
    """Pieces of running text, in directives too, with a dollar sign that delimits no formula."""
    for token in PARSER.parse(text):
        if token.type in ("fence", "colon_fence") and token.info.startswith("{"):
            yield from stray_dollars(OPTIONS.sub("", token.content))
        for part in token.children or ():
            if part.type == "text" and "$" in part.content:
                yield part.content


def test_a_formula_that_markdown_breaks_is_found():
    broken = "A sum $a\n+ b$ of two."
    assert [*stray_dollars(broken)] == ["A sum $a", "b$ of two."]
    assert [*stray_dollars("```{exercise} Title\n:label: ex\n" + broken + "\n```")]
    assert [*stray_dollars(":::{note}\n" + broken.replace("+", "-") + "\n:::")]
    whole = "A sum $a +\nb$, `$HOME` and\n\n$$\na\n+ b\n$$\n\n```bash\necho $HOME\n```"
    assert [*stray_dollars(whole)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_formula_is_broken_by_a_list(page):
    assert [found for text in texts(page) for found in stray_dollars(text)] == []


BROKEN_ROW = re.compile(r"^\|(?=[ -]).*[^|\s]\s*$", re.M)  # Markdown makes a row of each line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_of_a_table_is_one_line(page):
    assert BROKEN_ROW.findall("| a | b |\n|---|---|\n| one | two\nthree |") == ["| one | two"]
    assert [row for text in texts(page) for row in BROKEN_ROW.findall(text)] == []
