"""What chapters show, and that the front page has every claim."""

from functools import partial
from html import escape

import numpy as np
import pandas as pd
import yaml

from tests.handmade import stored
from tsp.analysis.claims import CLAIMS
from tsp.analysis.studies import study
from tsp.analysis.verdicts import VERDICTS
from tsp.book.pages import FORMATS, comparison, interval, missing, table
from tsp.book.verdicts import BADGES, verdict_list
from tsp.paths import ROOT
from tsp.store.runs import Store


def test_an_estimate_and_its_interval():
    assert interval(0.5, 0.25, 1.0) == "0.50 (0.25–1.00)"
    assert interval(0.5, np.nan, np.nan) == "0.50"
    assert interval(np.nan, 0.1, 0.2) == "–"


def test_a_study_reads_in_words(tmp_path):
    store = Store(tmp_path)
    for k, (plain, treated) in enumerate([(8, 4), (8, None), (None, None)]):
        problem = {"contents": (f"p{k}",), "problem": k}
        stored(store, solved=plain, **problem)
        stored(store, solved=treated, method="tsloss", **problem)
    shown = comparison(study(store, [], base={"method": "ce", "lambda_ts": 0.0}))
    assert shown.index.tolist() == ["Standard", "+TSLoss λ=1"]
    assert shown.epochs.tolist() == ["8", ">8"]
    assert (shown.sooner.iloc[1], shown.same.iloc[1], shown.later.iloc[1]) == (1, 1, 1)
    assert not {"p", "p (Holm)", "p (ranks)", "p (ranks, Holm)"} & {*shown}  # three are too few
    html = table(shown, FORMATS).to_html()
    assert "nan" not in html
    assert "&gt;8" in html or ">8" in html


def test_missing_runs_are_named_with_what_trains_them_and_a_missing_number_is_a_dash():
    assert "`tsp sweep null`" in missing("tsp sweep null").data
    assert "–" in table(pd.DataFrame({"x": [np.nan]}, index=["a"]), "{:.1f}").to_html()


def decided(claim_id="tsloss-fewer-iterations", **values):
    """A row of `tsp.analysis.tables.claims`, with numbers that are easy to place."""
    usual = {"verdict": "not reproduced", "family": "TSLoss", "protocol": "tuned", "rule": "a rule"}
    usual |= {"effect": 0.9, "low": 0.75, "high": 1.1, "printed": 0.6, "source": "Table 3"}
    usual |= {"id": claim_id, "statement": "It helps.", "why": "numbers"}
    return pd.DataFrame([usual | values])


def test_the_list_of_claims_has_each_with_its_verdict_in_words():
    rows = [decided(claim.id, family=claim.family, statement=claim.statement) for claim in CLAIMS]
    text = verdict_list(pd.concat(rows, ignore_index=True)).data
    assert text.count("<details>") == text.count("✗ not reproduced") == len(CLAIMS)
    for claim in CLAIMS:
        assert f"<span>{escape(claim.statement)}</span>" in text
    assert set(BADGES) == set(VERDICTS)


def test_effects_are_drawn_to_scale():
    """From 0.6 to 1.1 over 184 of 200 units; a ratio of 1 is no effect."""
    text = verdict_list(decided()).data
    assert '<circle cx="118.4"' in text  # 8 + 184 * 0.3 / 0.5
    assert '<path class="interval" d="M63.2 12.0H192.0"/>' in text
    assert '<path class="null" d="M155.2 ' in text
    assert '<path class="printed" d="M8.0 ' in text
    assert "0.9 (0.75 to 1.1); printed 0.6" in text
    nothing = dict.fromkeys(("effect", "low", "high", "printed"), np.nan)
    assert "<svg" not in verdict_list(decided(**nothing)).data


def test_markup_in_a_claim_is_text():
    text = verdict_list(decided(why="<script>1</script>", statement="a < b & c")).data
    assert "<script>" not in text
    assert "a &lt; b &amp; c" in text


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
    assert places["Jupyter"].endswith(file)
    assert places["Source"].endswith("blob/HEAD/notebooks/01_persistent_homology.py")
    assert list(opened("book/_executed/01_persistent_homology", repository="")) == ["Jupyter"]
    page = "https://github.com/someone/book/blob/HEAD/book/setup.md"
    assert opened("book/setup", repository="someone/book") == {"Source": page}
    assert opened("book/setup", repository="") == {}
