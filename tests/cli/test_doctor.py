"""What `tsp doctor` reports."""

import torch

from tsp.cli.doctor import examine


def test_the_doctor_knows_what_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.setenv("TSP_RUNS", str(tmp_path / "runs"))
    found = examine()
    assert found["packages"]["torch"] == torch.__version__
    assert "tsp model install gemma-3-270m" in found["models"]["gemma-3-270m"]
    assert found["models"]["tiny-llama"].startswith("ready")
    assert found["problems"]["gsm8k"].split()[0].isdigit()
    assert "(0 runs)" in found["places"]["run store"]
