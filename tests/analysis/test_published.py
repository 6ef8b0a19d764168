"""The published runs: their ids, and the verdicts that README and chapters put into words."""

import hashlib
import os
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tsp.analysis import tables
from tsp.book.verdicts import relative_growth
from tsp.paths import data_dir
from tsp.problems.loading import load_problems
from tsp.store.runs import Store

SAMPLES = os.environ.get("TSP_BENCHMARKS", "")
DIGESTS = {
    "baselines": "b500fb77",
    "close-up": "9817c00c",
    "embed-scale": "c2c6f620",
    "example": "b378fbd7",
    "force": "ae0ce7c5",
    "init": "d390acf0",
    "learning-rate": "85c46733",
    "loss-variants": "b4ab3fbf",
    "null": "53cd9420",
    "paper-length": "a352e1bc",
    "phenomenon": "d692b639",
    "placement": "2b2ed3f4",
    "recipes": "d86247a0",
    "rounding": "d1efe84c",
    "seeds": "cd1d8877",
    "sets": "c0084d9c",
    "sham": "eb5558a0",
    "table3": "51f87780",
    "table4": "d883ca05",
    "weight": "b86369b5",
}
"""Of ids and hashes of the runs in each file; a new file adds a line."""
VERDICTS = {
    "true by definition": {"h0-count-constant"},
    "reproduced": {"h1-count-falls", "entropy-falls"},
    "partly": {"h0-lifespan-grows", "h1-falls-faster-multi", "variances-equal"},
    "numbers return, reading fails": {"h0-lifespan-accuracy", "entropy-accuracy"},
    "not reproduced": {
        "entropy-early",
        "tsloss-fewer-iterations",
        "tsloss-simpler-topology",
        "tsloss-lower-loss",
        "lambda-ten-fails",
    },
    "inconclusive": {
        "density-minimal",
        "h1-count-accuracy",
        "h1-lifespan-accuracy",
        "same-everywhere",
        "tsloss-as-effective",
        "tsloss-halves-iterations",
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
    hashes = defaultdict(list)
    for run in runs:
        problems = [SimpleNamespace(**x, question="", target="") for x in run.record["problems"]]
        hashes[run.folder.stem].append(f"{run.id} {run.spec.id(problems)}")
    digests = {
        name: hashlib.sha256(" ".join(lines).encode()).hexdigest()[:8]
        for name, lines in hashes.items()
    }
    assert digests == DIGESTS


@pytest.mark.skipif(not SAMPLES, reason="TSP_BENCHMARKS names no folder with real samples")
def test_ids_are_those_of_their_specs_and_problems(published):
    for run in published.valid_runs()[0]:
        spec = replace(run.spec, data=SAMPLES)
        about = {"regime": spec.regime, "problem": spec.problem, "data": SAMPLES}
        problems = load_problems(spec.task, **about, wrong_answers=spec.wrong_answers)
        assert spec.id(problems) == run.id


def test_verdicts(published):
    table = tables.claims(published)
    assert table.groupby("verdict").id.agg(set).to_dict() == VERDICTS
    assert np.isfinite(relative_growth(table))
    for _, family in table.groupby("family"):  # a chapter judges some families alone
        shown = tables.chapter_claims(published, family.id)
        assert shown.verdict.tolist() == family.verdict.tolist()
        effects = [tables.effect(row) for row in family.to_dict("records")]
        assert [text.rpartition(": ")[2] for text in shown.effect] == effects
