"""The plan of a sweep: counted by hand."""

import pytest

from tests.conftest import call
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.paper import SEEDS
from tsp.experiments.sweep_plan import KEY, render, sweep_plan
from tsp.store.runs import Store
from tsp.training.spec import RunSpec

TINY = {"model": "tiny-llama", "epochs": 6}


def test_runs_epochs_and_steps(tmp_path):
    ten = RunSpec(task="mmlu_cf", regime="multi", **TINY)
    specs = [RunSpec(task="mmlu_cf", problem=k, **TINY) for k in (0, 1, 1)]
    single, multi = sweep_plan([*specs, ten], Store(tmp_path))
    told = {"model": "tiny-llama", "protocol": "tuned", "task": "mmlu_cf", "regime": "single"}
    assert told.items() <= single.items()
    assert (single["runs"], single["stored"], single["epochs"], single["steps"]) == (2, 0, 12, 12)
    assert (multi["runs"], multi["steps"]) == (1, 12)  # ten problems in batches of eight
    assert single["hours"] is None
    text = render([single, multi])
    assert "3 runs, 0 of them stored" in text
    assert "?" in text


def test_stored_runs_are_not_planned_and_say_how_long_others_take(smoke):
    specs = experiment_specs("table3", "smoke")
    rows = sweep_plan(specs, smoke)
    assert sum(row["stored"] for row in rows) == sum(row["runs"] for row in rows)
    assert all(row["steps"] == 0 for row in rows)
    more = [spec.but(seed=7) for spec in specs]
    seconds = {run.id: run.record["seconds"] for run in smoke.valid_runs()[0]}
    for row in sweep_plan(more, smoke):
        like = [
            run
            for run in smoke.valid_runs()[0]
            if all(getattr(run.spec, name) == row[name] for name in KEY)
        ]
        epoch = sum(seconds[run.id] for run in like) / sum(run.spec.epochs for run in like)
        assert row["hours"] == pytest.approx(row["epochs"] * epoch / 3600)
    assert all(row["hours"] is None for row in sweep_plan(more, smoke, device="cuda:0"))


def test_what_is_too_long_is_left_out(tmp_path):
    fits = RunSpec(task="mmlu_cf", model="tiny-llama", epochs=2)
    (row,) = sweep_plan([fits, fits.but(n_tokens=5000)], Store(tmp_path))
    assert (row["runs"], row["left_out"], row["steps"]) == (2, 1, 2)


def test_the_command_prints_and_stops(tmp_path):
    out = call("sweep", "table4", "--profile", "smoke", "--plan", "--runs", tmp_path / "runs")
    assert out.exit_code == 0
    assert "5 runs, 0 of them stored" in out.stdout
    assert not (tmp_path / "runs").exists()


def test_rows_that_the_data_lack_are_left_out_by_name(tmp_path):
    """What is shipped has one set of ten of each data set; the commands of claims still work."""
    words = ["sweep", "table3", "--profile", "full", "--model", "tiny-llama", "--plan"]
    out = call(*words, "--runs", tmp_path / "runs")
    assert out.exit_code == 0, out.output
    assert "left out, gsm8k, multi: problem = 10: there are 16 gsm8k problems" in out.stderr
    rows = [line.split() for line in out.stdout.splitlines()]
    counts = {tuple(row[:4]): int(row[4]) for row in rows if row[4:5] and row[4].isdigit()}
    assert counts["tiny-llama", "tuned", "gsm8k", "single"] == 2 * 14 * SEEDS
    assert counts["tiny-llama", "tuned", "gsm8k", "multi"] == 2 * SEEDS
    one = tmp_path / "one"
    one.mkdir()
    (one / "gsm8k.jsonl").write_text("")
    out = call("sweep", "table4", "--profile", "full", "--data", one, "--plan", "--runs", one)
    assert "has none of the experiment's problems" in str(out.exception)
