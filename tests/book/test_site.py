"""The site: built with warnings as errors, up to date, and nothing from outside."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jupyter_book", reason="the book's tools are not installed")

from tests.cli.test_json import copied, small_book
from tests.handmade import stored
from tsp.book import notebooks
from tsp.book import site as book
from tsp.errors import InputError
from tsp.paths import ROOT
from tsp.store.runs import Store


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": Path("nowhere")}, r"runs = 'nowhere': .*`tsp sweep`"),
        ({"out": Path("site")}, "out = 'site': give a folder called _build"),
        ({"notebooks": ["99"]}, "notebook = '99': give one of 00_finding, 01_persistent_homology"),
        ({"parameters": {"speed": 1}}, "parameter = 'speed': a notebook has .*task"),
    ],
)
def test_wrong_arguments_of_a_build(tmp_path, arguments, message):
    record = tmp_path / "0123456789abcdef" / "run.json"
    record.parent.mkdir()
    record.write_text("{}")
    with pytest.raises(InputError, match=message):
        book.build(**{"runs": tmp_path, **arguments})


class Resources(HTMLParser):
    """Addresses that a browser fetches by itself, and the text of inline scripts."""

    def __init__(self):
        super().__init__()
        self.addresses, self.inline, self._in_script = [], "", False

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self._in_script = tag == "script"
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "license"):
            self.addresses.append(given.get("href") or "")

    def handle_data(self, data):
        if self._in_script:
            self.inline += data

    def handle_endtag(self, tag):
        self._in_script = False


def foreign_addresses(page):
    resources = Resources()
    resources.feed(page.read_text("utf8"))
    foreign = [a for a in resources.addresses if re.match(r"(?:https?:)?//", a)]
    return foreign + re.findall(r"https?://[^\s\"']+", resources.inline)


def test_foreign_addresses_are_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="//cdn.example/a.css"><a href="https://example.org">x</a>'
        '<script src="https://cdn.example/b.js"></script><img src="c.png">'
        '<script>const U = "https://unpkg.example/d"</script>'
    )
    foreign = ["//cdn.example/a.css", "https://cdn.example/b.js", "https://unpkg.example/d"]
    assert foreign_addresses(page) == foreign


TRAIN = """
from tsp.store.runs import Store
from tsp.experiments.catalogue import experiment_specs; from tsp.experiments.sweep import ensure
ensure(experiment_specs("all", "smoke"), Store("runs"))
"""
BUILD = """
from pathlib import Path
from tsp.book.site import build
print(build(runs=Path("runs"), parameters={"model": "tiny-llama"}))
"""


def run_in(checkout, code):
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    options = {"env": os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"}, "cwd": checkout}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A copy of the repository, with its book built from the runs of the smoke profile."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("book", "notebooks", "tsp", "benchmarks", "tests", "data"):
        ignored = shutil.ignore_patterns("_executed", "__pycache__", "runs")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, checkout)
    done = run_in(checkout, TRAIN + BUILD)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_file()
    return checkout


@pytest.mark.slow
def test_the_book_builds_with_warnings_as_errors_and_loads_nothing_from_outside(site):
    pages = sorted((site / "_build" / "html").rglob("*.html"))
    assert len(pages) >= 5 + len(list(notebooks.NOTEBOOKS.glob(notebooks.SOURCES)))
    assert {p.name: found for p in pages if (found := foreign_addresses(p))} == {}
    for sheet in (site / "_build" / "html").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text("utf8"))
    static = site / "_build" / "html" / "_static" / "mathjax"
    assert (static / "tex-chtml-full.js").is_file()
    assert list((static / "output/chtml/fonts/woff-v2").glob("*.woff"))


@pytest.mark.slow
def test_a_second_build_executes_nothing_again(site):
    copies = sorted((site / "book" / "_executed").glob("*.ipynb"))
    before = [c.stat().st_mtime_ns for c in copies]
    assert run_in(site, BUILD).returncode == 0
    assert copies
    assert [c.stat().st_mtime_ns for c in copies] == before


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
