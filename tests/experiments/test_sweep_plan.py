"""The plan of a sweep: counted by hand."""

import pytest

from tests.conftest import spec
from tests.terminal import fails, tsp
from tsp.errors import InputError
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.paper import SEEDS
from tsp.experiments.sweep_plan import KEY, render, sweep_plan
from tsp.store.runs import Store


def test_runs_epochs_and_steps(tmp_path):
    one = spec(task="mmlu_cf", epochs=6)
    specs = [one, one.but(problem=1), one, one.but(n_tokens=5000), one.but(regime="multi")]
    single, multi = sweep_plan(specs, Store(tmp_path))
    place = dict(zip(KEY, ("tiny-llama", "tuned", "mmlu_cf", "single"), strict=True))
    counts = {"runs": 3, "stored": 0, "left_out": 1, "epochs": 12, "steps": 12, "hours": None}
    assert single == place | counts
    ten = {"runs": 1, "left_out": 0, "epochs": 6, "steps": 12}  # in batches of eight
    assert multi == single | {"regime": "multi"} | ten
    text = render([single, multi])
    assert "4 runs, 0 of them stored, 1 left out; 24 steps" in text
    assert "?" in text


def test_a_model_that_is_not_there_is_an_error_and_no_problem_that_is_too_long(tmp_path):
    with pytest.raises(InputError, match="model = 'gpt-9': choose one of"):
        sweep_plan([spec(model="gpt-9")], Store(tmp_path))


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
    """The shipped problems have one set of ten of each data set; commands of claims still work."""
    words = ["--profile", "full", "--plan", "--runs", tmp_path / "runs"]
    out = tsp("sweep", "table3", *words, "--model", "tiny-llama")
    assert out.returncode == 0, out.stderr
    assert not (tmp_path / "runs").exists()  # the plan is printed, and that is all
    assert "left out, gsm8k, multi: problem = 10: there are 16 gsm8k problems" in out.stderr
    rows = [line.split() for line in out.stdout.splitlines()]
    counts = {tuple(row[:4]): int(row[4]) for row in rows if row[4:5] and row[4].isdigit()}
    assert counts["tiny-llama", "tuned", "gsm8k", "single"] == 2 * 14 * SEEDS
    assert counts["tiny-llama", "tuned", "gsm8k", "multi"] == 2 * SEEDS
    (tmp_path / "gsm8k.jsonl").write_text("")
    fails(2, "has none of the experiment's problems", "sweep", "table4", *words, "--data", tmp_path)
