"""Words on the front page follow the runs."""

import ast
from html import unescape

import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.book.notebooks import NOTEBOOKS
from tsp.book.verdicts import ELSEWHERE, FAMILIES, FINDINGS, findings, shortening, verdict_list
from tsp.store.runs import Store


def counted(**ends):
    """Counts of loops at the first and the last check of each arm."""
    rows = [
        (arm, epoch, n) for arm, pair in ends.items() for epoch, n in zip((0, 4), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "epoch", "h1_count"])


COUNTS = counted(ce=(9, 1), tsloss=(9, 8), wrong=(9, 2), random=(9, 0))


@pytest.mark.parametrize(
    ("with_tsloss", "sentence"),
    [
        (2, "TSLoss shortens training"),
        (14, "TSLoss shortens training less than reported, if at all"),
        (None, "Whether TSLoss shortens training is open"),
    ],
)
def test_a_changed_run_changes_the_sentence_about_speed(with_tsloss, sentence, tmp_path):
    store = Store(tmp_path)
    for k in range(12 if with_tsloss else 2):
        about = {"contents": (f"p{k}",), "problem": k, "epochs": 20}
        stored(store, method="ce", solved=8, **about)
        stored(store, method="tsloss", lambda_ts=1.0, solved=with_tsloss or 8, **about)
    assert findings(tables.claims(store), COUNTS)["speed"] == sentence


def test_the_control_and_the_loops_with_tsloss_follow_the_counts(tmp_path):
    claims = tables.claims(Store(tmp_path))
    published = findings(claims, COUNTS)
    assert published["success"] == "Success is not needed"
    assert (
        published["reason"]
        == "Vectors that move, some farther than others, are enough to remove loops"
    )
    assert published["back"] == "TSLoss brings loops back"
    assert {published[name] for name in FINDINGS} == {other for *_, other in FINDINGS.values()}

    other = findings(claims, counted(ce=(9, 1), tsloss=(9, 0), wrong=(9, 8), random=(9, 7)))
    assert other["success"] == "Success may be needed"
    assert other["reason"] == "Movement alone does not remove them"
    assert other["back"] == "TSLoss does not bring loops back"
    without = findings(claims, COUNTS[COUNTS.arm != "random"])
    for name in ("success", "reason", "back"):
        assert without[name].endswith("is open")


@pytest.mark.parametrize("name", FINDINGS)
def test_each_verdict_has_its_sentence(name, tmp_path):
    claims = tables.claims(Store(tmp_path))
    claim, by_verdict, otherwise = FINDINGS[name]
    for verdict in ("reproduced", "partly", "not reproduced", "inconclusive"):
        changed = claims.assign(verdict=claims.verdict.where(claims.id != claim, verdict))
        assert findings(changed, COUNTS)[name] == by_verdict.get(verdict, otherwise)
    assert by_verdict["reproduced"] not in (by_verdict["not reproduced"], otherwise)


def test_what_shortens_training_is_what_the_test_finds():
    """A small ratio without a small p is not named; without any there is no sentence."""
    rows = {"change": ["slow", "fast", "lucky", "Standard"], "pairs": [12.0, 12, 5, 0]}
    rows |= {"ratio": [1.2, 0.7, 0.5, np.nan], "low": [1.1, 0.6, 0.4, np.nan]}
    rows |= {"high": [1.3, 0.8, 0.9, np.nan], "p_holm": [0.01, 0.01, 0.2, np.nan]}
    changes = pd.DataFrame(rows)
    sentence = shortening(changes)
    assert sentence.startswith("Of 3 changes of the usual settings, tried on 12 problems, 1 still")
    assert "1 still shortens training after correction" in sentence
    assert "“fast” has the smallest ratio, 0.70 (0.60 to 0.80" in sentence
    assert shortening(changes[changes.change != "fast"]) == ""


def test_the_numbers_of_a_claim_have_a_whole_name_and_only_a_minus_changes():
    row = {
        "family": "weight",
        "verdict": "inconclusive",
        "protocol": "tuned",
        "rule": "",
        "why": "",
    }
    row |= {"id": "lambda-monotone", "statement": "It helps.", "source": "Table 4"}
    row |= {"effect": -0.5, "low": -1.0, "high": 0.0, "printed": -1.0}
    other = {**row, "id": "tsloss-lower-loss", "family": "TSLoss"}
    text = verdict_list(pd.DataFrame([row, other])).data
    assert "Kendall's tau between the median iterations and lambda_ts: −0.5 (−1 to 0)" in unescape(
        text
    )
    assert "median ratio of the mean cross-entropies over the common epochs: −0.5" in text


def claims_of(chapter):
    """Ids of the claims that a chapter ends with: the argument of `chapter_claims`, evaluated."""
    nodes = [*ast.walk(ast.parse((NOTEBOOKS / f"{chapter}.py").read_text("utf-8")))]
    calls = (node for node in nodes if isinstance(node, ast.Call) and len(node.args) == 2)
    [ids] = [call.args[1] for call in calls if ast.unparse(call.func) == "tables.chapter_claims"]
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(ids):
            ids = node.value
    return eval(ast.unparse(ids), {"CLAIMS": CLAIMS})


def test_a_claim_leads_to_the_chapter_that_decides_it():
    assert {*ELSEWHERE} < {claim.id for claim in CLAIMS}
    for claim in CLAIMS:
        assert claim.id in claims_of(ELSEWHERE.get(claim.id, FAMILIES[claim.family][1]))
