"""The site: built with warnings as errors, up to date, and nothing from outside."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jupyter_book", reason="the book's tools are not installed")

from bs4 import BeautifulSoup

from tests.cli.test_json import copied, small_book
from tests.handmade import stored
from tsp.book import notebooks
from tsp.book import site as book
from tsp.errors import InputError
from tsp.paths import ROOT
from tsp.store.runs import Store


def test_a_build_needs_runs():
    with pytest.raises(InputError, match=r"runs = 'nowhere': .*`tsp sweep`"):
        book.build(runs=Path("nowhere"))


def foreign_addresses(page):
    """Addresses outside the site that a browser fetches by itself, or that inline scripts name."""
    soup = BeautifulSoup(page.read_text("utf8"), "html.parser")
    fetched = soup.select("[src], link:not([rel=canonical], [rel=license])")
    addresses = [tag.get("src") or tag.get("href") or "" for tag in fetched]
    foreign = [address for address in addresses if re.match(r"(?:https?:)?//", address)]
    inline = "".join(script.text for script in soup.select("script"))
    return foreign + re.findall(r"https?://[^\s\"']+", inline)


def test_foreign_addresses_are_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="//cdn.example/a.css"><a href="https://example.org">x</a>'
        '<script src="https://cdn.example/b.js"></script><img src="c.png">'
        '<script>const U = "https://unpkg.example/d"</script>'
    )
    foreign = ["//cdn.example/a.css", "https://cdn.example/b.js", "https://unpkg.example/d"]
    assert foreign_addresses(page) == foreign


def bare_tex(page):
    """Formulas that are shown as they were typed: a dollar sign and a command."""
    soup = BeautifulSoup(page.read_text("utf8"), "html.parser")
    for element in soup.select("head, script, pre, code, .math"):
        element.decompose()
    return re.findall(r"\$[^$\n]*\\\w+", soup.get_text())


def test_bare_tex_is_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        r'<p>has length $\frac{1}<ul><li>2$</li></ul><span class="math">\(\frac12\)</span>'
        r"<code>$HOME \x</code> and $5</p>"
    )
    assert bare_tex(page) == [r"$\frac"]


TRAIN = """
from tsp.store.runs import Store
from tsp.experiments.catalogue import experiment_specs; from tsp.experiments.sweep import ensure
ensure(experiment_specs("all", "smoke"), Store("runs"))
"""
BUILD = """
from pathlib import Path
from tsp.book import site
execute = site.execute_notebooks
def with_tiny_model(sources, *, parameters, **options):
    return execute(sources, parameters=parameters | {"model": "tiny-llama"}, **options)
site.execute_notebooks = with_tiny_model
print(site.build(runs=Path("runs")))
"""


def run_in(checkout, code):
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    command, variables = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=checkout)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A copy of the repository, with its book built from the runs of the smoke profile."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("book", "notebooks", "tsp", "benchmarks", "tests", "data"):
        ignored = shutil.ignore_patterns("_executed", "__pycache__", "runs")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    shutil.copy(ROOT / "_config.yml", checkout)
    shutil.copy(ROOT / "_toc.yml", checkout)
    done = run_in(checkout, TRAIN + BUILD)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_file()
    return checkout


@pytest.mark.slow
def test_the_book_builds_with_warnings_as_errors_and_loads_nothing_from_outside(site):
    pages = sorted((site / "_build" / "html").rglob("*.html"))
    assert len(pages) >= 5 + len(list(notebooks.NOTEBOOKS.glob(notebooks.SOURCES)))
    assert {page.name: seen for page in pages if (seen := foreign_addresses(page))} == {}
    assert {page.name: seen for page in pages if (seen := bare_tex(page))} == {}
    for sheet in (site / "_build" / "html").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text("utf8"))
    static = site / "_build" / "html" / "_static" / "mathjax"
    assert (static / "tex-chtml-full.js").is_file()
    assert list((static / "output/chtml/fonts/woff-v2").glob("*.woff"))


@pytest.mark.slow
def test_a_second_build_executes_nothing_again(site):
    copies = sorted((site / "book" / "_executed").glob("*.ipynb"))
    before = [copy.stat().st_mtime_ns for copy in copies]
    assert run_in(site, BUILD).returncode == 0
    assert [copy.stat().st_mtime_ns for copy in copies] == before != []


BUILD_SMALL = "from pathlib import Path; from tsp.book.site import build; build(runs=Path('runs'))"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A book of two pages and a chapter, built in a copy of the repository."""
    checkout = copied(tmp_path_factory.mktemp("small"))
    small_book(checkout)
    stored(Store(checkout / "runs"))
    done = run_in(checkout, BUILD_SMALL)
    assert done.returncode == 0, done.stderr
    return checkout


def reglue(notebook, key, value):
    """Change a glued number in an executed notebook."""
    content = json.loads(notebook.read_text())
    outputs = [out for cell in content["cells"] for out in cell.get("outputs", [])]
    names = [out.get("metadata", {}).get("scrapbook", {}).get("name") for out in outputs]
    outputs[names.index(key)]["data"] = {"application/papermill.record/text/plain": value}
    notebook.write_text(json.dumps(content))


@pytest.mark.slow
def test_a_number_on_another_page_follows_its_notebook(small):
    copy = small / "book" / "_executed" / "01_count.ipynb"
    page = small / "_build" / "html" / "book" / "page.html"  # Sphinx always writes the first page
    kept = copy.read_text()
    try:
        for value in ("4321", "8765"):
            reglue(copy, "runs", value)
            assert run_in(small, BUILD_SMALL).returncode == 0
            assert f">{value}</span>" in page.read_text()
    finally:
        copy.write_text(kept)


@pytest.mark.slow
def test_a_warning_fails_the_build_as_often_as_it_is_tried(small):
    page = small / "book" / "page.md"
    kept = page.read_text()
    page.write_text(kept + "\n{ref}`nowhere-at-all`\n")
    try:
        for _ in range(2):
            done = run_in(small, BUILD_SMALL)
            assert done.returncode == 1
            assert "BookError" in done.stderr
            assert "nowhere-at-all" in done.stderr
    finally:
        page.write_text(kept)
