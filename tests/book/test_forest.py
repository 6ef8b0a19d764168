"""The forest plot of the front page: axes that rows share, numbers beside them, links."""

import ast

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from tsp.analysis.claims import CLAIMS
from tsp.analysis.verdicts import VERDICTS
from tsp.book.forest import BADGES, ELSEWHERE, FAMILIES, verdict_list
from tsp.book.notebooks import NOTEBOOKS


def decided(claim_id="tsloss-fewer-iterations", **values):
    """A row of `tsp.analysis.tables.claims`, with numbers that are easy to place."""
    usual = {"verdict": "not reproduced", "family": "TSLoss", "protocol": "tuned"}
    usual |= {"effect": 1.0, "low": 0.5, "high": 2.0, "printed": 0.5, "source": "Table 3"}
    usual |= {"id": claim_id, "statement": "It helps.", "why": "numbers"}
    return pd.DataFrame([usual | values])


def shown(*rows):
    """The list of claims, parsed."""
    return BeautifulSoup(verdict_list(pd.concat(rows, ignore_index=True)).data, "html.parser")


def numbers(*rows):
    """The texts beside the effects."""
    return [cell.get_text() for cell in shown(*rows).select(".numbers")]


def test_the_list_of_claims_has_each_with_its_verdict_in_words():
    page = shown(*(decided(each.id, family=each.family, statement=each.id) for each in CLAIMS))
    rows = [row.get_text(" ") for row in page.select("summary")]
    assert all(row.startswith("✗ not reproduced ") for row in rows)
    assert {row.split()[3] for row in rows} == {each.id for each in CLAIMS}
    assert len(rows) == len(CLAIMS)
    assert set(BADGES) == set(VERDICTS)


def test_ratios_lie_on_a_logarithmic_axis():
    """From 0.5 to 2 over 184 of 200 units; a ratio of 1, in the middle, is no effect."""
    text = verdict_list(decided()).data
    assert '<circle cx="100.0"' in text
    assert '<path class="interval" d="M8.0 12.0H192.0"/>' in text
    assert '<path class="null" d="M100.0 ' in text
    assert '<path class="printed" d="M8.0 ' in text
    [axis] = shown(decided()).select(".scale svg")
    assert [mark.get_text() for mark in axis.select("text")] == ["0.5", "1", "2", "equal"]
    assert numbers(decided()) == ["median ratio of iterations: 1.0 (0.5 to 2.0); printed 0.5"]
    nothing = dict.fromkeys(("effect", "low", "high", "printed"), np.nan)
    assert shown(decided(**nothing)).select("svg, .scale") == []


def test_an_interval_that_reaches_down_to_a_ratio_of_0_ends_with_the_axis():
    assert '<path class="interval" d="M8.0 12.0H192.0"/>' in verdict_list(decided(low=0.0)).data


def test_rows_of_one_kind_share_an_axis_and_other_kinds_have_their_own():
    correlations = [
        decided(each, family="table 2", effect=effect, low=np.nan, high=np.nan, printed=np.nan)
        for each, effect in (("h0-lifespan-accuracy", -0.5), ("entropy-accuracy", 0.5))
    ]
    loops = decided("h1-count-falls", family="table 2", effect=-24.0, low=-30.0, high=-20.0)
    page = shown(*correlations, loops)
    names = [name.get_text() for name in page.select(".scale > span")]
    assert names == ["Correlations", "Numbers of loops"]
    assert [dot["cx"] for dot in page.select("circle")][:2] == ["54.0", "146.0"]  # of -1 to 1
    labels = [mark.get_text() for mark in page.select(".scale")[0].select("text")]
    assert labels == ["−1", "−0.5", "0", "0.5", "1", "no relation"]


def test_shares_are_in_per_cent_and_each_row_names_its_own_null():
    few = dict(family="phenomenon", effect=0.25, low=0.12, high=0.5, printed=np.nan)
    other = decided("entropy-early", **few)
    loops, entropy = numbers(decided("loops-vanish", **few), other)
    assert loops.endswith("in %: 25 (12 to 50); no effect: 100; 300 epochs")
    assert entropy.endswith("in %: 25 (12 to 50); protocol paper; 300 epochs")
    assert "no effect" not in numbers(other)[0]  # the axis says it


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (
            "lambda-monotone",
            "Kendall's tau between the median iterations and λts: −0.5 (−1.0 ",
        ),
        ("tsloss-lower-loss", "median ratio of the mean cross-entropies over the common epochs: "),
        ("h0-lifespan-grows", "−0.5 (−1.0 to 0)"),
    ],
)
def test_the_numbers_of_a_claim_have_a_whole_name_and_only_a_minus_changes(claim, words):
    [text] = numbers(decided(claim, effect=-0.5, low=-1.0, high=0.0))
    assert text.startswith(words)


def test_symbols_are_set_and_markup_in_a_claim_is_text():
    text = verdict_list(decided(why="<script>1</script>", statement="a < b & c")).data
    assert "<script>" not in text
    assert "a &lt; b &amp; c" in text
    text = verdict_list(decided(statement="Var(s_i), H0, lambda_ts", why="run `tsp sweep`")).data
    assert "<span>Var(s<sub>i</sub>), H₀, λ<sub>ts</sub></span>" in text
    assert "run <code>tsp sweep</code>." in text


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


def test_rows_without_an_effect_come_last():
    nothing = dict.fromkeys(("effect", "low", "high", "printed"), np.nan)
    page = shown(decided("small-models-gain-more", statement="None.", **nothing), decided())
    rows = [row.get_text(" ") for row in page.select(".scale > span, summary")]
    assert [row.split()[-1] for row in rows[2:]] == ["estimate", "None."]


def test_a_row_folds_out_to_what_reproduced_takes_and_what_changes_that():
    [falls, grows] = shown(
        *(decided(each, family="phenomenon") for each in ("h1-count-falls", "h0-lifespan-grows"))
    ).select("details")
    link = falls.select_one("a[href='20_rules.html#rules']")
    assert link.parent.get_text().startswith("Rule ")
    text = falls.get_text()
    assert "a sign test finds that the H₁ count is lower at the last check than at" in text
    assert "inconclusive otherwise" not in text
    assert "becomes partly reproduced if the median change" in grows.get_text()
