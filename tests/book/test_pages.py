"""What chapters show, and that the front page has every claim."""

import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis.claims import CLAIMS
from tsp.analysis.studies import study
from tsp.book.pages import FORMATS, comparison, interval, missing, table
from tsp.paths import ROOT
from tsp.store.runs import Store


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.5, 0.25, 1.0), "0.50 (0.25–1.00)"),
        ((0.5, np.nan, np.nan), "0.50"),
        ((np.nan, 0.1, 0.2), "–"),
    ],
)
def test_an_estimate_and_its_interval(values, text):
    assert interval(*values) == text


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
    html = table(shown, FORMATS).to_html()
    assert "nan" not in html
    assert "&gt;8" in html or ">8" in html


def test_missing_runs_are_named_with_what_trains_them_and_a_missing_number_is_a_dash():
    assert "`tsp sweep null`" in missing("tsp sweep null").data
    assert "–" in table(pd.DataFrame({"x": [np.nan]}, index=["a"]), "{:.1f}").to_html()


def test_the_front_page_has_every_claim_and_its_verdict():
    page = (ROOT / "book" / "index.md").read_text()
    for claim in CLAIMS:
        for key in ("verdict", "found"):
            assert f"ipynb::{key}-{claim.id}:s" in page
    assert page.count("ipynb::verdict-") == len(CLAIMS)
