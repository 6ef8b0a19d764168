"""Measurements that are not one of speed against a peer."""

from functools import partial

import pandas as pd
import pytest
import torch

from benchmarks import peft_methods as paradigms
from benchmarks import ph_scaling as growth
from benchmarks import roundings
from benchmarks.peft_training import KINDS
from benchmarks.ph_scaling import grow
from benchmarks.roundings import agreement
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
    monkeypatch.setattr(paradigms, "load_problems", lambda task, problem: [one])
    monkeypatch.setattr(paradigms, "PROBLEMS", {"mmlu_cf": range(1)})
    monkeypatch.setattr(paradigms, "EPOCHS", 4)
    rows = paradigms.compare(model="tiny-llama")
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
    monkeypatch.setattr(growth, "grow", partial(grow, points=(5,), dimensions=(3,)))
    (row,) = loads("bench", "--growth", "-")
    assert (row["n"], row["d"]) == (5, 3)
    assert row["processor"]
    fails(2, "one at a time", "bench", "--growth", "-", "--roundings", tmp_path / "x")


def row(arithmetic, problem, method, solved):
    return {
        "arithmetic": arithmetic,
        "task": "gsm8k",
        "problem": problem,
        "method": method,
        "solved_epoch": solved,
        "known": problem == 9,
        "epochs": 80,
    }


def test_agreement_by_hand():
    rows = [
        *(row("float32", 0, m, e) for m, e in (("ce", 40), ("tsloss", 30))),
        *(row("float32", 1, m, e) for m, e in (("ce", 20), ("tsloss", 22))),
        *(row("bfloat16", 0, m, e) for m, e in (("ce", 44), ("tsloss", 30))),
        *(row("bfloat16", 1, m, e) for m, e in (("ce", 24), ("tsloss", None))),
        *(row(way, 9, m, 2) for way in ("float32", "bfloat16") for m in ("ce", "tsloss")),
    ]
    plain, found = agreement(rows).to_dict("records")
    assert (plain["arithmetic"], found["arithmetic"]) == ("float32", "bfloat16")
    assert (plain["wins"], plain["ties"], plain["losses"]) == (1, 0, 1)
    assert plain["median_ratio"] == pytest.approx((30 / 40 + 22 / 20) / 2)
    assert (plain["runs"], plain["same"], plain["largest_change"]) == (4, 4, 0)
    assert (found["wins"], found["ties"], found["losses"]) == (1, 0, 1)
    assert found["median_ratio"] == pytest.approx((30 / 44 + 80 / 24) / 2)  # never: at the cap
    assert (found["same"], found["earlier"], found["later"]) == (1, 0, 3)
    assert found["median_change"] == 4  # 4, 4 and 82 - 22: those that moved
    assert found["largest_change"] == 60
    assert found["verdict"] == "inconclusive"


def test_pairs_that_neither_solves_have_no_ratio():
    rows = [row("float32", k, m, 10 if k else None) for k in (0, 1) for m in ("ce", "tsloss")]
    (found,) = agreement(rows).to_dict("records")
    assert (found["pairs"], found["ties"], found["runs"]) == (1, 1, 4)


def test_the_same_runs_are_trained_under_every_plan(monkeypatch):
    monkeypatch.setattr(roundings, "PROBLEMS", {"mmlu_cf": range(1)})
    monkeypatch.setattr(roundings, "EPOCHS", 2)
    rows = pd.DataFrame(roundings.compare(model="tiny-llama"))
    assert rows.groupby("arithmetic").size().to_dict() == dict.fromkeys(roundings.PLANS, 2)
    assert rows.ce.between(0, 20).all()
    wide = rows.pivot_table(index="method", columns="arithmetic", values="ce")
    torch.testing.assert_close(
        wide["float32"].to_numpy(), wide["float32, nothing shared"].to_numpy(), rtol=1e-4, atol=0
    )
    apart = (wide["bfloat16"] - wide["float32"]).abs() / wide["float32"]
    assert (apart > 0).all()
    assert (apart < 0.05).all()
