"""The plan of a sweep: counted by hand."""

import pytest

from tests.conftest import call
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.paper import SEEDS
from tsp.experiments.sweep_plan import KEY, render, sweep_plan
from tsp.store.runs import Store
from tsp.training.spec import RunSpec

TINY = RunSpec(task="mmlu_cf", model="tiny-llama", epochs=6)


def test_runs_epochs_and_steps(tmp_path):
    specs = [TINY, TINY.but(problem=1), TINY, TINY.but(n_tokens=5000), TINY.but(regime="multi")]
    single, multi = sweep_plan(specs, Store(tmp_path))
    assert [single[name] for name in KEY] == ["tiny-llama", "tuned", "mmlu_cf", "single"]
    counts = ("runs", "stored", "left_out", "epochs", "steps", "hours")
    assert [single[name] for name in counts] == [3, 0, 1, 12, 12, None]
    assert [multi[name] for name in counts] == [1, 0, 0, 6, 12, None]  # ten in batches of eight
    text = render([single, multi])
    assert "4 runs, 0 of them stored, 1 left out; 24 steps" in text
    assert "?" in text


def test_stored_runs_are_not_planned_and_say_how_long_others_take(smoke):
    specs, runs = experiment_specs("table3", "smoke"), smoke.valid_runs()[0]
    for row in sweep_plan(specs, smoke):
        assert (row["stored"], row["steps"]) == (row["runs"], 0)
    more = [spec.but(seed=7) for spec in specs]
    for row in sweep_plan(more, smoke):
        like = [run for run in runs if all(getattr(run.spec, name) == row[name] for name in KEY)]
        epochs = sum(run.record["outcome"]["epochs_trained"] for run in like)
        epoch = sum(run.record["seconds"] for run in like) / epochs
        assert row["hours"] == pytest.approx(row["epochs"] * epoch / 3600)
    assert all(row["hours"] is None for row in sweep_plan(more, smoke, device="cuda:0"))


def test_rows_that_the_data_lack_are_left_out_by_name(tmp_path):
    """What is shipped has one set of ten of each data set; the commands of claims still work."""
    words = ["sweep", "table3", "--profile", "full", "--model", "tiny-llama", "--plan"]
    out = call(*words, "--runs", tmp_path / "runs")
    assert out.exit_code == 0, out.output
    assert not (tmp_path / "runs").exists()  # the plan is printed, and that is all
    assert "left out, gsm8k, multi: problem = 10: there are 16 gsm8k problems" in out.stderr
    rows = [line.split() for line in out.stdout.splitlines()]
    counts = {tuple(row[:4]): int(row[4]) for row in rows if row[4:5] and row[4].isdigit()}
    assert counts["tiny-llama", "tuned", "gsm8k", "single"] == 2 * 14 * SEEDS
    assert counts["tiny-llama", "tuned", "gsm8k", "multi"] == 2 * SEEDS
    (tmp_path / "gsm8k.jsonl").write_text("")
    words = ["sweep", "table4", "--profile", "full", "--data", tmp_path, "--plan"]
    out = call(*words, "--runs", tmp_path / "runs")
    assert "has none of the experiment's problems" in str(out.exception)
