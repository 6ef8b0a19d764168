"""The book as one PDF: what does not fit on a page is named."""

import re
import shutil

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("pypdf", reason="pypdf is not installed")

from pypdf import PdfReader

from tests import browser
from tsp.book import pdf
from tsp.book.notebooks import BookError
from tsp.paths import ROOT

pytestmark = pytest.mark.browser


@pytest.fixture
def index(tmp_path, monkeypatch):
    """First page of a site, with a table in a box that scrolls; CELLS stands for its cells."""
    browser.needed()
    monkeypatch.setattr(pdf, "ROOT", tmp_path)
    (tmp_path / "_toc.yml").write_text("root: index\nparts: []\n")
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    index = tmp_path / "html" / "index.html"
    index.parent.mkdir()
    index.write_text(
        "<html><head></head><body><article><h1>A page<a class='headerlink'>#</a></h1>"
        "<div style='overflow-x: auto'><table class='dataframe'><caption>Times,\n in s</caption>"
        "<tr>CELLS</tr></table></div></article></body></html>"
    )
    return index


def test_a_table_that_is_wider_than_its_page_is_named(index, tmp_path):
    page, out = index.read_text(), tmp_path / "book.pdf"
    index.write_text(page.replace("CELLS", "<td>1</td>" * 5))
    assert pdf.make_pdf(index, out).read_bytes().startswith(b"%PDF")
    out.unlink()
    index.write_text(page.replace("CELLS", "<td>1234567890</td>" * 20))
    with pytest.raises(BookError, match=r"does not fit on its page.*: A page: Times, in s$"):
        pdf.make_pdf(index, out)
    assert not out.exists()


def test_the_page_is_as_wide_as_its_margins_leave(index):
    left, right = re.search(r"size: A4; margin: \w+ (\d+)mm ()", pdf.STYLE).groups()
    assert (210 - 2 * int(left)) / 25.4 * 96 == pytest.approx(pdf.TEXT_WIDTH, abs=1)
    assert right == ""


def test_answers_are_printed_open_and_tests_by_name(index, tmp_path):
    code = (
        "<div class='literal-block-wrapper'><div class='code-block-caption'><span "
        "class='caption-text'>tests/test_a.py</span></div><pre>@mark\ndef test_one():\n    secret"
        "</pre></div>"
    )
    folds = "".join(
        f"<details class='sd-dropdown'><summary>More</summary>{part}</details>"
        for part in ("<p>Thirty-nine</p>", code)
    )
    index.write_text(index.read_text().replace("<table", folds + "<table").replace("CELLS", ""))
    pages = PdfReader(pdf.make_pdf(index, tmp_path / "book.pdf")).pages
    text = " ".join(page.extract_text() for page in pages)
    assert "Thirty-nine" in text
    assert "tests/test_a.py test_one" in text
    assert "secret" not in text
    assert "Optimizing Soft Prompt Tuning" in pages[0].extract_text()
