"""The state of an installation as `tsp doctor` reports it."""

import torch

import tsp
from tsp.cli.doctor import examine


def test_the_doctor_reports_what_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.setenv("TSP_RUNS", str(tmp_path / "runs"))
    state = examine()
    assert state["packages"]["tsp"] == tsp.__version__
    assert torch.__version__.startswith(state["packages"]["torch"])  # or with "+cu130" behind it
    assert "tsp model install gemma-3-270m" in state["models"]["gemma-3-270m"]
    assert state["models"]["tiny-llama"].startswith("ready")
    assert state["problems"]["gsm8k"].split()[0].isdigit()
    assert "(0 runs)" in state["places"]["run store"]
