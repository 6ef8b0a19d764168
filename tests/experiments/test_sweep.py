import gc
import json
import sys
import weakref

import pandas as pd
import pytest
import torch

from tests.conftest import spec
from tsp.errors import InputError
from tsp.experiments import sweep
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.find_or_train import find_or_train
from tsp.experiments.sweep import ensure, jobs_of
from tsp.paths import data_dir
from tsp.store.runs import Store
from tsp.training import memory
from tsp.training.spec import METHODS

BBH = {"input": "not True is", "target": "False", "task": "boolean_expressions"}


def small(**fields):
    return spec(task="mmlu_cf", epochs=2, n_tokens=4, **fields)


def plan_file(root):
    """The one plan of a store."""
    (path,) = (root / "plans").iterdir()
    return path


def test_a_sweep_leaves_every_run_of_its_experiment(smoke):
    specs = experiment_specs("all", "smoke")
    assert sorted(smoke.ids()) == sorted({job.id for job in jobs_of(specs)})
    assert smoke.valid_runs()[1] == {}
    frame = smoke.frame()
    assert set(frame.method) == set(METHODS)
    assert set(frame.regime) == {"single", "multi"}
    assert set(frame.protocol) == {"tuned", "paper"}


def test_a_second_sweep_trains_nothing(smoke):
    begun = []
    events = sweep.Events(begin=lambda jobs, number, banks, peak: begun.append(jobs))
    ids = ensure(experiment_specs("all", "smoke"), smoke, device="cpu", events=events)
    assert begun == []
    assert sorted(ids) == smoke.ids()


def test_runs_that_coincide_are_one():
    told = small(method="ce")
    assert len(jobs_of([told, told.but(method="tsloss", lambda_ts=0)])) == 1


def test_the_plan_is_written_before_the_first_bank_trains(tmp_path):
    store = Store(tmp_path)
    seen = []

    def begin(jobs, number, banks, peak):
        seen.append(json.loads(plan_file(tmp_path).read_text()))

    (run_id,) = ensure(
        [small()], store, name="mine", device="cpu", events=sweep.Events(begin=begin)
    )
    assert seen[0]["banks"] == [[run_id]]
    assert seen[0]["device"] == "cpu"
    assert set(seen[0]["plans"]["tiny-llama"]) == {
        "token_budget",
        "threads",
        "precision",
        "context_budget",
    }


def test_a_plan_says_the_precision_and_auto_goes_on_with_it(tmp_path):
    store = Store(tmp_path)

    class StopSignal(Exception):
        pass

    def begin(jobs, number, banks, peak):
        raise StopSignal

    def start(precision):
        with pytest.raises(StopSignal):
            ensure(
                [small()],
                store,
                name="mine",
                device="cpu",
                precision=precision,
                events=sweep.Events(begin=begin),
            )
        return json.loads(plan_file(tmp_path).read_text())["plans"]["tiny-llama"]["precision"]

    assert start("auto") == "float32"  # nothing to gain on a model this small
    assert start("bfloat16") == "bfloat16"  # another one than planned: a new plan
    assert start("auto") == "bfloat16"  # the plan that was begun
    (run_id,) = ensure([small()], store, name="mine", device="cpu")
    assert store.read(run_id).record["plan"]["precision"] == "bfloat16"


def test_each_model_has_its_own_plan_and_the_last_one_is_let_go(tmp_path, monkeypatch):
    loaded, real = [], sweep.models.load

    def load(name, **told):
        gc.collect()
        loaded.append((name, [ref() is not None for _, _, ref in held]))
        frozen = real(name, **told)
        held.append((name, frozen.dtype, weakref.ref(frozen.model)))
        return frozen

    held, peaks = [], []
    monkeypatch.setattr(sweep.models, "load", load)
    monkeypatch.setattr(sweep, "choose", lambda wish, frozen: PRECISIONS[frozen.name])
    monkeypatch.setitem(sweep.BANK, "cpu", 1)
    specs = [small(model=name, seed=seed) for name in PRECISIONS for seed in (0, 1)]
    store = Store(tmp_path)
    events = sweep.Events(begin=lambda jobs, number, banks, peak: peaks.append(peak))
    ids = ensure(specs, store, name="two", device="cpu", events=events)
    told = {run_id: store.read(run_id) for run_id in ids}
    for run in told.values():
        assert run.precision == PRECISIONS[run.spec.model]
    plans = json.loads(plan_file(tmp_path).read_text())["plans"]
    assert {name: plan["precision"] for name, plan in plans.items()} == PRECISIONS
    assert loaded == [("tiny-llama", []), ("tiny-qwen2", [False])]
    assert len(peaks) == 4
    assert min(peaks) > 10_000


PRECISIONS = {"tiny-llama": "float32", "tiny-qwen2": "bfloat16"}


def test_a_stored_run_of_another_precision_is_found_unless_one_is_asked_for(tmp_path):
    store = Store(tmp_path)
    first = find_or_train(store, small(), device="cpu", precision="bfloat16")
    assert first.precision == "bfloat16"
    assert find_or_train(store, small()).id == first.id
    with pytest.raises(InputError, match="precision = 'half'"):
        find_or_train(store, small(), precision="half")
    with pytest.raises(InputError, match=f"'float32': run {first.id} was trained in bf"):
        find_or_train(store, small(), precision="float32")
    with pytest.raises(InputError, match="say auto"):
        ensure([small(seed=2), small()], store, precision="float32")
    assert first.id in store
    assert len(store.ids()) == 1  # nothing was trained
    beside = ensure([small(), small(seed=2)], store, name="mine", device="cpu")
    assert {store.read(run_id).precision for run_id in beside} == {"bfloat16"}  # as what is there
    assert find_or_train(store, small(seed=1), precision="float32").precision == "float32"


def test_a_precision_that_does_not_exist_is_refused_before_anything(tmp_path):
    with pytest.raises(InputError, match=r"precision = 'half': choose one of auto, float32"):
        ensure([small()], Store(tmp_path / "runs"), device="cpu", precision="half")
    assert not (tmp_path / "runs").exists()


def test_budgets_fit_the_memory_that_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**27)
    store = Store(tmp_path)
    (run_id,) = ensure([small()], store, name="mine", device="cpu")
    plan = store.read(run_id).record["plan"]
    assert plan["context_budget"] == 2**25  # a quarter
    assert plan["token_budget"] == 4096


def test_an_interrupted_sweep_goes_on_with_its_plan_and_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setitem(sweep.BANK, "cpu", 2)
    specs = [small(seed=seed) for seed in range(4)]
    whole = Store(tmp_path / "whole")
    ids = ensure(specs, whole, name="x", device="cpu", token_budget=900)

    class StopSignal(Exception):
        pass

    def after_one(jobs):
        raise StopSignal

    cut = Store(tmp_path / "cut")
    with pytest.raises(StopSignal):
        ensure(
            specs,
            cut,
            name="x",
            device="cpu",
            token_budget=900,
            events=sweep.Events(stored=after_one),
        )
    assert len(cut.ids()) == 2
    banks = json.loads(plan_file(cut.root).read_text())["banks"]
    monkeypatch.setitem(sweep.BANK, "cpu", 3)  # a plan made now would look different
    assert ensure(specs, cut, name="x", device="cpu") == ids
    assert json.loads(plan_file(cut.root).read_text())["banks"] == banks
    for run_id in ids:
        for name in ("prompts.safetensors", "epochs.parquet", "checks.parquet"):
            pair = [(store.root / run_id / name).read_bytes() for store in (whole, cut)]
            assert pair[0] == pair[1], (run_id, name)


def test_a_damaged_run_is_kept_aside_and_trained_again(tmp_path):
    store = Store(tmp_path)
    (run_id,) = ensure([small()], store, device="cpu")
    (tmp_path / run_id / "epochs.parquet").write_bytes(b"")
    said = []
    events = sweep.Events(quarantined=lambda why, place: said.append((why, place)))
    ensure([small()], store, device="cpu", events=events)
    assert said[0][0].startswith(f"run {run_id}: epochs.parquet")
    assert said[0][1].name == f"damaged-{run_id}-1"
    assert store.verify(run_id) is None
    assert (tmp_path / f"damaged-{run_id}-1" / "epochs.parquet").read_bytes() == b""


def test_without_the_topology_package_runs_keep_every_prompt(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gph", None)
    store = Store(tmp_path)
    (run_id,) = ensure([small(snapshot_every=20, check_every=1)], store, device="cpu")
    run = store.read(run_id)
    assert run.prompt_epochs == [0, 1, 2]
    assert "topology.parquet" not in run.record["files"]
    monkeypatch.undo()
    assert run.topology.epoch.tolist() == [0, 1, 2]  # computed when it is asked for
    assert sorted(set(run.diagrams.epoch)) == [0, 2]
    full = Store(tmp_path / "full")
    ensure([small(snapshot_every=20, check_every=1)], full, device="cpu")
    pd.testing.assert_frame_equal(full.read(run_id).topology, run.topology)
    pd.testing.assert_frame_equal(full.read(run_id).diagrams, run.diagrams)


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", "not json", '{"banks": [], "device": "cpu", "plans": {"a": {"x": 1}}}'],
)
def test_a_plan_of_another_make_is_written_anew(tmp_path, text):
    store = Store(tmp_path)
    (run_id,) = ensure([small()], store, name="x", device="cpu")
    (tmp_path / run_id).rename(tmp_path / "elsewhere")
    plan_file(tmp_path).write_text(text)
    ensure([small()], store, name="x", device="cpu")
    told = json.loads(plan_file(tmp_path).read_text())
    assert told["banks"] == [[run_id]]
    assert set(told["plans"]) == {"tiny-llama"}


def test_a_diverging_run_does_not_cost_the_others(tmp_path):
    good, bad = small(), small(lambda_ts=1e300)
    store = Store(tmp_path)
    with pytest.raises(FloatingPointError, match=r"λ=1e\+300.*not finite.*lambda_ts"):
        ensure([good, bad], store, device="cpu")
    (run,) = store.valid_runs()[0]
    assert run.spec == good
    alone = Store(tmp_path / "alone")
    (run_id,) = ensure([good], alone, device="cpu")
    torch.testing.assert_close(alone.read(run_id).prompt(2), run.prompt(2), rtol=1e-5, atol=1e-6)


def test_a_sweep_leaves_out_what_is_too_long_says_so_and_trains_the_rest_once(tmp_path):
    lines = [json.dumps(BBH), json.dumps(BBH | {"input": "word " * 2000})]
    (tmp_path / "bbh.jsonl").write_text("\n".join(lines) + "\n")
    specs = [spec(data=str(tmp_path), problem=k, epochs=1, n_tokens=4) for k in (0, 1)]
    begun, left = [], []
    events = sweep.Events(
        begin=lambda jobs, number, banks, peak: begun.append(len(jobs)),
        left_out=lambda job, why: left.append((job.spec.problem, why)),
    )
    store = Store(tmp_path / "runs")
    first = ensure(specs, store, name="x", device="cpu", events=events)
    assert ensure(specs, store, name="x", device="cpu", events=events) == first
    assert (len(first), begun) == (1, [1])
    assert [problem for problem, _ in left] == [1, 1]  # said again, not trained again
    assert "reads 4096" in left[0][1]
    with pytest.raises(InputError, match=r"problem = 1: row 1 of its source takes \d+ tokens"):
        ensure(specs[1:], Store(tmp_path / "other"), device="cpu")
    assert not (tmp_path / "other").exists()


def test_a_run_is_found_whatever_its_epochs_and_place_or_trained(tmp_path):
    store = Store(tmp_path)
    short = find_or_train(store, small())
    assert store.ids() == [short.id]
    assert find_or_train(store, small()).id == short.id
    long = find_or_train(store, small(seed=1).but(epochs=3))
    assert find_or_train(store, small(seed=1)).id == long.id
    copied = tmp_path / "data"
    copied.mkdir()
    lines = (data_dir("problems") / "mmlu_cf.jsonl").read_text().splitlines()
    (copied / "mmlu_cf.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    elsewhere = small(data=str(copied), problem=len(lines) - 1)
    assert find_or_train(store, elsewhere).id == short.id
    assert find_or_train(store, small(problem=1)).id not in (short.id, long.id)
