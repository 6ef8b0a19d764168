"""Words on the front page follow the runs."""

import re

import myst_nb
import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis import tables
from tsp.book.notebooks import NOTEBOOKS, read_notebook
from tsp.book.verdicts import FINDINGS, findings, listed, shortening
from tsp.figures import front
from tsp.store.runs import Store


def counted(**ends):
    """Counts of loops from the first check of each arm to the last."""
    rows = [(arm, epoch, n) for arm, counts in ends.items() for epoch, n in enumerate(counts)]
    return pd.DataFrame(rows, columns=["arm", "epoch", "h1_count"])


COUNTS = counted(ce=(9, 1), tsloss=(9, 5, 8), wrong=(9, 2), random=(9, 0))


@pytest.mark.parametrize(
    ("with_tsloss", "sentence"),
    [
        (2, "TSLoss shortens training"),
        (8, "TSLoss is not found to shorten training, and the printed saving is excluded"),
        (14, "TSLoss lengthens training"),
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
        == "It is enough that the vectors move as far, and as unequally, as in training"
    )
    assert published["back"] == "TSLoss brings loops back"
    assert published["figure"] == (
        "Most loops vanish with right answers, with wrong answers and when vectors move at random; "
        "with TSLoss most are present at the end"
    )
    assert {published[name] for name in FINDINGS} == {other for *_, other in FINDINGS.values()}

    other = findings(claims, counted(ce=(9, 1), tsloss=(9, 0), wrong=(9, 8), random=(9, 7)))
    assert other["success"] == "Success may be needed"
    assert other["reason"] == "Movement alone is not enough"
    assert other["back"] == "TSLoss does not bring loops back"
    assert other["figure"] == (
        "Most loops vanish with right answers and with TSLoss; "
        "with wrong answers and when vectors move at random most are present at the end"
    )
    half = findings(claims, counted(ce=(9, 1), tsloss=(9, 8), wrong=(9, 8), random=(9, 0)))
    assert half["success"] == "Success is not needed"  # random movement is enough
    assert half["back"] == "TSLoss keeps loops"  # they never left
    stay = findings(claims, counted(ce=(9, 9), tsloss=(9, 9), wrong=(9, 9), random=(9, 9)))
    assert stay["figure"] == "Most loops stay in all four kinds of prompts"
    assert stay["success"] == "Success may be needed"
    without = findings(claims, COUNTS[COUNTS.arm != "random"])
    for name in ("success", "reason", "back"):
        assert without[name].endswith("is open")


def front_page(store, monkeypatch):
    """Run the front page's code on a store; return its abstract and its caption as read."""
    notebook = read_notebook(NOTEBOOKS / "00_finding.py")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    glued = {}
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: glued.update({name: value}))
    names = {}
    for cell in code[:2]:  # parameters, and all that is computed
        exec(cell.source, names)
        names["runs"] = str(store.root)
    abstract = next(
        c.source for c in notebook.cells if "finding-loops" in c.source and c not in code
    )
    caption = next(c.metadata.mystnb.figure.caption for c in code if "mystnb" in c.metadata)
    reads = {"abstract": abstract, "caption": caption}
    return {
        name: " ".join(re.sub(r"{glue:text}`([\w-]+)`", lambda m: str(glued[m[1]]), text).split())
        for name, text in reads.items()
    }


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Return a function that writes a store of one problem, in the three arms."""
    moved = {"epoch": [0, 4], "h1_count": [9, 0]}
    monkeypatch.setattr(
        front, "_displaced", lambda _, run_id: pd.DataFrame({"id": run_id, **moved})
    )

    def write(name, *, wrong, solved):
        store = Store(tmp_path / name)
        about = {"contents": ("p0",), "epochs": 4}
        for loops, fields in (
            (1, {"method": "ce", "solved": 4}),
            (8, {"method": "tsloss", "lambda_ts": 1.0, "solved": solved}),
            (wrong, {"method": "ce", "wrong_answers": True, "solved": 4}),
        ):
            stored(store, topology={"h1_count": [9, 5, loops]}, **about, **fields)
        return store

    return write


def test_a_changed_run_changes_the_abstract(planted, monkeypatch):
    """Once the loops at the end of one run change, once the epoch at which one is right."""
    usual = front_page(planted("usual", wrong=2, solved=4), monkeypatch)
    assert "Success is not needed:" in usual["abstract"]
    assert "to 2 with wrong ones" in usual["abstract"]
    assert "it takes 1.00 times the iterations" in usual["abstract"]
    assert usual["caption"].startswith("Most loops vanish with right answers, with wrong answers")

    loops = front_page(planted("loops", wrong=7, solved=4), monkeypatch)
    assert "to 7 with wrong ones" in loops["abstract"]
    assert "; with wrong answers and with TSLoss most are present at the end." in loops["caption"]

    speed = front_page(planted("speed", wrong=2, solved=2), monkeypatch)
    assert "it takes 0.50 times the iterations" in speed["abstract"]
    assert speed["abstract"].replace("0.50 times", "1.00 times") == usual["abstract"]


def test_a_list_of_names():
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize("name", FINDINGS)
def test_each_verdict_has_its_sentence(name, tmp_path):
    claims = tables.claims(Store(tmp_path))
    claim, by_verdict, otherwise = FINDINGS[name]
    for verdict in ("reproduced", "partly", "not reproduced", "inconclusive"):
        changed = claims.assign(verdict=claims.verdict.where(claims.id != claim, verdict))
        assert findings(changed, COUNTS)[name] == by_verdict.get(verdict, otherwise)
    assert by_verdict["reproduced"] not in (by_verdict["not reproduced"], otherwise)


def test_components_that_outgrow_the_cloud_in_too_few_prompts_are_said_to(tmp_path):
    claims = tables.claims(Store(tmp_path)).set_index("id", drop=False)
    changes = {
        "verdict": "partly",
        "why": "longer in 6 of 13; median change +2.0% of the first value",
    }
    claims.loc["h0-lifespan-grows", [*changes]] = [*changes.values()]
    assert (
        findings(claims, COUNTS)["components"] == "Components live longer, but not in most prompts"
    )


def test_what_shortens_training_is_what_the_test_finds():
    """A small ratio without a small p is not named; without any there is no sentence."""
    rows = {"change": ["slow", "fast", "lucky", "Standard"], "pairs": [12.0, 12, 5, 0]}
    rows |= {"ratio": [1.2, 0.7, 0.5, np.nan], "low": [1.1, 0.6, 0.4, np.nan]}
    rows |= {"high": [1.3, 0.8, 0.9, np.nan], "p_holm": [0.01, 0.01, 0.2, np.nan]}
    changes = pd.DataFrame(rows)
    sentence = shortening(changes)
    assert sentence.startswith("Of 3 changes to the usual settings, tried on up to 12 problems of")
    assert "1 needs fewer epochs, even after correction" in sentence
    assert "0.70 (uncorrected 95 % interval 0.60 to 0.80), belongs to “fast”" in sentence
    assert shortening(changes[changes.change != "fast"]) == ""
