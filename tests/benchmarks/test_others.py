"""Measurements other than of speed against a peer."""

from functools import partial

import pandas as pd
import pytest

from benchmarks import peft_methods, roundings, topology
from benchmarks.peft_training import KINDS
from benchmarks.roundings import agreement
from benchmarks.topology import grow
from tests.conftest import problem
from tests.terminal import fails, loads
from tsp.training import models


def test_every_size_is_timed():
    rows = grow(points=(5, 8), dimensions=(3, 6), repeats=2)
    assert [(row["n"], row["d"]) for row in rows] == [(5, 3), (8, 3), (5, 6), (8, 6)]
    for row in rows:
        assert len(row["times"]) == 2
        assert min(row["times"]) <= row["seconds"] <= max(row["times"])


def test_each_paradigm_is_trained_without_and_with_tsloss(monkeypatch):
    one = problem("Which letter?", "B", metric="choice", task="mmlu_cf")
    monkeypatch.setattr(peft_methods, "load_problems", lambda task, problem: [one])
    monkeypatch.setattr(peft_methods, "PROBLEMS", {"mmlu_cf": range(1)})
    monkeypatch.setattr(peft_methods, "EPOCHS", 4)
    rows = peft_methods.compare(model="tiny-llama")
    assert [(row["kind"], row["method"]) for row in rows] == [
        (kind, method) for kind in KINDS for method in ("ce", "tsloss")
    ]
    d = models.load("tiny-llama", device="cpu").dim
    for row in rows:
        assert row["vectors"] == 40
        assert (row["dimension"] > d) == (row["kind"] == "prefix tuning")
        assert 0 < row["epochs"] <= 4
        assert row["h1_count_first"] >= 0


def test_the_command_measures_one_thing_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setattr(topology, "grow", partial(grow, points=(5,), dimensions=(3,)))
    (row,) = loads("bench", "--growth", "-")
    assert (row["n"], row["d"]) == (5, 3)
    assert row["processor"]
    fails(2, "give it alone", "bench", "--growth", "-", "--roundings", tmp_path / "x")


def outcomes(arithmetic, solved):
    """Return rows of pairs (ce, tsloss) by problem; problem 9 was known."""
    fields = {"arithmetic": arithmetic, "task": "gsm8k", "epochs": 80}
    return [
        fields | {"problem": k, "method": method, "solved_epoch": epoch, "known": k == 9}
        for k, epochs in solved.items()
        for method, epoch in zip(("ce", "tsloss"), epochs, strict=True)
    ]


def test_agreement_by_hand():
    rows = outcomes("float32", {0: (40, 30), 1: (20, 22), 9: (2, 2)})
    rows += outcomes("bfloat16", {0: (44, 30), 1: (24, None), 9: (2, 2)})
    plain, low = agreement(rows).to_dict("records")
    assert (plain["arithmetic"], low["arithmetic"]) == ("float32", "bfloat16")
    assert (plain["wins"], plain["ties"], plain["losses"]) == (1, 0, 1)
    assert plain["median_ratio"] == pytest.approx((30 / 40 + 22 / 20) / 2)
    assert (plain["runs"], plain["same"], plain["largest_change"]) == (4, 4, 0)
    assert (low["wins"], low["ties"], low["losses"]) == (1, 0, 1)
    assert low["median_ratio"] == pytest.approx((30 / 44 + 80 / 24) / 2)  # never: at the cap
    assert (low["same"], low["earlier"], low["later"]) == (1, 0, 3)
    assert (low["median_change"], low["largest_change"]) == (4, 60)  # of 4, 4 and 82 - 22
    assert low["verdict"] == "inconclusive"
    # Pairs that neither solves have no ratio.
    (row,) = agreement(outcomes("float32", {0: (None, None), 1: (10, 10)})).to_dict("records")
    assert (row["pairs"], row["ties"], row["runs"]) == (1, 1, 4)


def test_the_same_runs_are_trained_under_every_plan(monkeypatch):
    monkeypatch.setattr(roundings, "PROBLEMS", {"mmlu_cf": range(1)})
    monkeypatch.setattr(roundings, "EPOCHS", 2)
    rows = pd.DataFrame(roundings.compare(model="tiny-llama"))
    assert rows.groupby("arithmetic").size().to_dict() == dict.fromkeys(roundings.PLANS, 2)
    ce = rows.set_index(["method", "arithmetic"]).ce.unstack()
    assert ce["float32"].tolist() == pytest.approx(ce["float32, nothing shared"], rel=1e-4)
    change = (ce["bfloat16"] / ce["float32"] - 1).abs()
    assert change.between(0, 0.05, inclusive="neither").all()
