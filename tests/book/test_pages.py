"""What chapters show, and that the front page has every claim."""

from functools import partial

import numpy as np
import pandas as pd
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document

from tests.handmade import stored
from tsp.analysis.studies import study
from tsp.book.pages import FORMATS, comparison, interval, missing, probability, stacked, table
from tsp.paths import ROOT
from tsp.store.runs import Store


def test_an_estimate_and_its_interval():
    assert interval(0.5, 0.25, 1.0) == "0.50 (0.25–1.00)"
    assert interval(0.5, np.nan, np.nan) == "0.50"
    assert interval(np.nan, 0.1, 0.2) == "–"
    assert interval(2.0, 0.0, 5.0, 1) == "2.0 (0–5.0)"
    assert interval(0.1, -0.01, 0.2, 1) == "0.1 (0.0–0.2)"


def test_a_study_reads_in_words(tmp_path):
    store = Store(tmp_path)
    for k, (plain, treated) in enumerate([(8, 4), (8, None), (None, None)]):
        problem = {"contents": (f"p{k}",), "problem": k}
        stored(store, solved=plain, **problem)
        stored(store, solved=treated, method="tsloss", **problem)
    shown = comparison(study(store, [], base={"method": "ce", "lambda_ts": 0.0}))
    assert shown.index.tolist() == ["Standard", "+TSLoss λ=1"]
    assert shown.epochs.tolist() == ["8", ">8"]
    assert (shown.faster.iloc[1], shown.same.iloc[1], shown.slower.iloc[1]) == (1, 1, 1)
    assert not {"p", "p (Holm)"} & {*shown}  # three are too few
    html = table(shown, FORMATS).to_html()
    assert "nan" not in html
    assert "&gt;8" in html or ">8" in html


def test_missing_runs_are_named_with_what_trains_them_and_a_missing_number_is_a_dash():
    assert "`tsp sweep null`" in missing("tsp sweep null").data
    assert "–" in table(pd.DataFrame({"x": [np.nan]}, index=["a"]), "{:.1f}").to_html()


def cells(frame, *arguments, **options):
    """Texts of a table's cells, row by row."""
    page = BeautifulSoup(table(frame, *arguments, **options).to_html(), "html.parser")
    return [cell.get_text() for cell in page.select("td")]


def test_numbers_of_tables_are_set_as_in_a_book():
    p = pd.DataFrame({"p": [0.0, 6.94e-18, 0.000123, 0.36], "units": 58})
    shown = ["< 10⁻³⁰⁰", "7 × 10⁻¹⁸", "0.0001", "0.36"]
    assert cells(p, FORMATS)[::2] == shown
    assert cells(p, FORMATS)[1::2] == ["58"] * 4
    assert probability(1.0) == "1"
    assert cells(pd.DataFrame({"x": [-0.5, 0.75]}), "{:.0%}") == ["−50\xa0%", "75\xa0%"]
    assert cells(pd.DataFrame({"x": [-1.25, np.nan]}), precision=1) == ["−1.2", "–"]
    words = ["tsp run --lr 1e-3", "qwen-2.5", "-3 to 4", "≥ 75% ✗"]
    assert cells(pd.DataFrame({"x": words})) == [*words[:2], "−3 to 4", "≥ 75\xa0% ✗"]


def test_markup_in_a_table_is_text_unless_it_is_asked_for():
    frame = pd.DataFrame({"<b>x</b>": ["<i>1</i>"]})
    assert cells(frame) == ["<i>1</i>"]
    assert cells(frame, markup=True) == ["1"]


def test_numbers_of_running_text_are_set_and_those_of_code_are_not(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from typography import set_numbers

    page, words = new_document("page"), "-56% at 2.3e-03, `-p 1` and x-1"
    page += nodes.paragraph("", "", nodes.strong(words, words), nodes.literal(words, words))
    page += nodes.literal_block(words, words)
    set_numbers(None, page, "page")
    shown = "−56\xa0% at 2.3 × 10⁻³, `-p 1` and x-1"
    assert [text.astext() for text in page.findall(nodes.Text)] == [shown, words, words]


def test_a_formula_stays_with_its_punctuation(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from typography import hold_together

    for before, after, held in (
        ("the scale ", ". Point", "x."),
        ("so (", "), and", "(x),"),
        ("", "-dimensional", "x-"),
        ("of ", " points", ""),
        ("", "", ""),
    ):
        page, around = new_document("page"), [nodes.Text(text) for text in (before, after)]
        page += nodes.paragraph("", "", *around[:1], nodes.math("", "x"), *around[1:])
        hold_together(None, page, "page")
        assert page.astext() == f"{before}x{after}"
        assert [part.astext() for part in page.findall(nodes.inline)] == [held][: bool(held)]
    page = new_document("page")
    page += nodes.paragraph("", "", nodes.math("", "x"))
    hold_together(None, page, "page")
    assert page.astext() == "x"
    assert not list(page.findall(nodes.inline))


def test_pages_open_as_the_files_that_are_committed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from launch import addresses

    patterns = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    opened = partial(addresses, patterns=patterns["launch_patterns"])
    places = opened("book/_executed/01_persistent_homology", repository="someone/book")
    file = "notebooks/01_persistent_homology.ipynb"
    assert (ROOT / file).is_file()
    assert places["Binder"].startswith("https://mybinder.org/v2/gh/someone/book/")
    assert places["Binder"].endswith(file)
    assert (
        places["Colab"] == f"https://colab.research.google.com/github/someone/book/blob/HEAD/{file}"
    )
    assert places["Jupyter on this computer"].endswith(file)
    assert places["Source"].endswith("blob/HEAD/notebooks/01_persistent_homology.py")
    assert list(opened("book/_executed/01_persistent_homology", repository="")) == [
        "Jupyter on this computer"
    ]
    page = "https://github.com/someone/book/blob/HEAD/book/setup.md"
    assert opened("book/setup", repository="someone/book") == {"Source": page}
    assert opened("book/setup", repository="") == {}


def test_headings_of_several_levels_are_set():
    index = pd.MultiIndex.from_tuples([("H0 <b>", "-1")], names=["kind", "of what"])
    columns = pd.MultiIndex.from_tuples([("H1 bars", "p"), ("H1 bars", "n")])
    html = table(pd.DataFrame([[0.5, 3]], index=index, columns=columns), precision=1).to_html()
    assert html.count("H₁ bars") == 1
    assert all(text in html for text in ("H₀ &lt;b&gt;", "−1", ">0.5<", ">3<"))
    assert "of what" not in html


def test_a_stacked_table_names_its_cells():
    html = stacked(pd.DataFrame({"claim": ["H0 < `tsp run`"], "units": [-3]})).to_html()
    assert "H₀ &lt; <code>tsp run</code>" in html
    assert '<span class="heading">units: </span>−3' in html
    assert html.count('class="heading"') == 1  # the first cell is the row's title
