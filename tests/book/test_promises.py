"""The page of promises names tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "book" / "promises.md").read_text()
NAMED = re.findall(r"^([\w/]+\.py)::(\w+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=str)
def test_a_promise_is_held_by_a_test(file, name):
    assert f"\ndef {name}(" in (TESTS / file).read_text()


def test_every_promise_names_a_test():
    promises = re.findall(r"^\*\*.+?$(.*?)(?=^\*\*|^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert len(promises) > 20
    assert all("```{held}" in promise for promise in promises)


def test_a_page_folds_its_tests_and_links_their_files(tmp_path, monkeypatch):
    pytest.importorskip("jupyter_book", reason="needs the extra `book`")
    from sphinx.application import Sphinx

    monkeypatch.syspath_prepend(TESTS.parent / "book" / "_ext")
    written = "def test_it():\n    assert 1 + 1 == 2\n\n\ndef test_other():\n    pass\n"
    (tmp_path / "book").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_sums.py").write_text(written)
    (tmp_path / "book" / "promises.md").write_text(
        "# Promises\n\n```{held}\ntest_sums.py::test_it\n```\n"
    )
    config = {"extensions": ["myst_nb", "sphinx_design", "held"], "root_doc": "book/promises"}
    config |= {"myst_enable_extensions": ["colon_fence"]}
    out = tmp_path / "out"
    app = Sphinx(tmp_path, None, out, out / ".doctrees", "html", config, None, warningiserror=True)
    app.build()
    assert app.statuscode == 0
    page = (out / "book" / "promises.html").read_text()
    assert "test_it" in page
    assert "test_other" not in page
    (link,) = re.findall(r'href="../(_downloads/\w+/test_sums.py)"', page)
    assert (out / link).read_text() == written
