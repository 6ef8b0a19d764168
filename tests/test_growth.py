"""The smaller measurements: rows with what they were made of."""

import json
from functools import partial

import pytest

from benchmarks import peft_methods as paradigms
from benchmarks import ph_scaling as growth
from benchmarks.ph_scaling import grow
from tests.conftest import call, problem
from tsp.interop.peers import KINDS
from tsp.training import models


def test_every_size_is_timed():
    told = []
    rows = grow(points=(5, 8), dimensions=(3, 6), repeats=2, tell=told.append)
    assert [(row["n"], row["d"]) for row in rows] == [(5, 3), (8, 3), (5, 6), (8, 6)]
    assert len(told) == 4
    for row in rows:
        assert len(row["times"]) == 2
        assert min(row["times"]) <= row["seconds"] <= max(row["times"])
        assert row["processor"]


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


def test_the_commands_write_them_one_at_a_time(monkeypatch, tmp_path):
    small = partial(grow, points=(5,), dimensions=(3,))
    monkeypatch.setattr(growth, "grow", small)
    file = tmp_path / "growth.json"
    out = call("bench", "--growth", file)
    assert out.exit_code == 0, out.output
    (row,) = json.loads(file.read_text())
    assert (row["n"], row["d"]) == (5, 3)
    with pytest.raises(Exception, match="one at a time"):
        raise call("bench", "--growth", file, "--roundings", tmp_path / "x").exception
