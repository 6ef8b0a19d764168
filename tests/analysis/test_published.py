"""The published runs: their ids, and the verdicts that README and chapters put into words."""

import hashlib
from types import SimpleNamespace

import pytest

from tsp.analysis import tables
from tsp.paths import data_dir
from tsp.store.runs import Store

VERDICTS = {
    "true by definition": {"h0-count-constant"},
    "reproduced": {"h1-count-falls", "entropy-falls"},
    "partly": {"h0-lifespan-grows", "variances-equal"},
    "numbers return, reading fails": {"h0-lifespan-accuracy", "entropy-accuracy"},
    "not reproduced": {
        "tsloss-fewer-iterations",
        "tsloss-halves-iterations",
        "tsloss-simpler-topology",
        "tsloss-lower-loss",
        "lambda-ten-fails",
    },
    "inconclusive": {
        "entropy-early",
        "density-minimal",
        "h1-falls-faster-multi",
        "h1-count-accuracy",
        "h1-lifespan-accuracy",
        "same-everywhere",
        "tsloss-as-effective",
        "lambda-monotone",
        "all-weights-converge",
        "lambda-ten-oscillates",
        "better-downstream",
    },
    "not tested here": {"loops-vanish", "small-models-gain-more", "qwen-fourfold"},
}
"""Change these only with the runs or with a rule, and then change what is said in words."""


@pytest.fixture(scope="module")
def published():
    return Store(data_dir("runs"))


def test_specs_are_hashed_as_when_they_were_trained(published):
    """Ids need the texts of problems, which are not published, so their hashes stand for them."""
    runs, damaged = published.valid_runs()
    assert not damaged
    hashes = []
    for run in runs:
        problems = [SimpleNamespace(**it, question="", target="") for it in run.record["problems"]]
        if run.record["written"] < "2026-11-28":
            hashes.append(run.spec.id(problems))
    digest = hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()
    assert (len(hashes), digest[:16]) == (309, "4eeec91a5fc82095")


def test_verdicts(published):
    table = tables.claims(published)
    assert table.groupby("verdict").id.agg(set).to_dict() == VERDICTS
