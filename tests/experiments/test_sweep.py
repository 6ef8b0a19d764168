"""Sweeps in one process: what is planned, trained, left out, quarantined and found again."""

import gc
import json
import re
import sys
import weakref
from functools import partial

import pandas as pd
import pytest
import torch

from tests.conftest import spec
from tests.faults import differences
from tests.terminal import BBH
from tsp.errors import InputError
from tsp.experiments import sweep
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.find_or_train import find_or_train
from tsp.experiments.sweep import Events, ensure, jobs_of
from tsp.paths import data_dir
from tsp.store.runs import Store
from tsp.training import memory
from tsp.training.spec import METHODS


def small(**fields):
    return spec(**{"task": "mmlu_cf", "epochs": 2, "n_tokens": 4} | fields)


def train(root, *specs, **options):
    """Return the ids of a sweep on a CPU, of `small` unless others are named."""
    return ensure(specs or [small()], Store(root), name="x", device="cpu", **options)


class Stopped(Exception):
    """Ends a sweep from one of its callbacks."""


def stop(*values):
    raise Stopped


def written(root):
    """Return the one plan of a store, as written."""
    (path,) = (root / "plans").iterdir()
    return json.loads(path.read_text())


def test_a_sweep_leaves_every_run_of_its_experiment_and_a_second_one_trains_nothing(smoke):
    jobs = jobs_of(experiment_specs("all", "smoke"))
    assert smoke.ids() == sorted(job.id for job in jobs)
    assert smoke.valid_runs()[1] == {}
    frame = smoke.frame()
    assert set(frame.method) == set(METHODS)
    assert set(frame.regime) == {"single", "multi"}
    assert set(frame.protocol) == {"tuned", "paper"}
    again = ensure([job.spec for job in jobs], smoke, device="cpu", events=Events(begin=stop))
    assert again == [job.id for job in jobs]


def test_runs_that_coincide_are_one():
    plain = small(method="ce")
    assert len(jobs_of([plain, plain.but(method="tsloss", lambda_ts=0)])) == 1


def test_the_plan_is_written_before_the_first_bank_trains_and_kept(tmp_path):
    (job,) = jobs_of([small()])
    for precision, planned in (
        ("auto", "float32"),  # nothing to gain on a model this small
        ("bfloat16", "bfloat16"),  # another one than planned: a new plan
        ("auto", "bfloat16"),  # the plan that was begun
    ):
        with pytest.raises(Stopped):
            train(tmp_path, precision=precision, events=Events(begin=stop))
        plan = written(tmp_path)
        assert (plan["banks"], plan["device"]) == ([[job.id]], "cpu")
        assert plan["plans"]["tiny-llama"]["precision"] == planned
    names = {"token_budget", "threads", "precision", "context_budget"}
    assert set(plan["plans"]["tiny-llama"]) == names
    (run_id,) = train(tmp_path)
    assert Store(tmp_path).read(run_id).precision == "bfloat16"


def test_each_model_has_its_own_plan_and_the_last_one_is_let_go(tmp_path, monkeypatch):
    precisions = {"tiny-llama": "float32", "tiny-qwen2": "bfloat16"}
    loaded, references, peaks, load_model = [], [], [], sweep.models.load

    def load(name, **options):
        gc.collect()
        loaded.append((name, [model() is not None for model in references]))
        frozen = load_model(name, **options)
        references.append(weakref.ref(frozen.model))
        return frozen

    monkeypatch.setattr(sweep.models, "load", load)
    monkeypatch.setattr(sweep, "choose", lambda wish, frozen: precisions[frozen.name])
    specs = [small(model=name, seed=seed) for name in precisions for seed in (0, 1)]
    events = Events(begin=lambda jobs, number, banks, peak: peaks.append(peak))
    for run_id in train(tmp_path, *specs, bank=1, events=events):
        run = Store(tmp_path).read(run_id)
        assert run.precision == precisions[run.spec.model]
    plans = written(tmp_path)["plans"]
    assert {name: plan["precision"] for name, plan in plans.items()} == precisions
    assert loaded == [("tiny-llama", []), ("tiny-qwen2", [False])]
    assert len(peaks) == 4
    assert min(peaks) > 10_000


def test_a_stored_run_of_another_precision_is_found_unless_one_is_asked_for(tmp_path):
    (first,), store = train(tmp_path, precision="bfloat16"), Store(tmp_path)
    assert store.read(first).precision == "bfloat16"
    assert find_or_train(store, small()).id == first
    with pytest.raises(InputError, match=f"'float32': run {first} was trained in bf.*say auto"):
        train(tmp_path, small(seed=2), small(), precision="float32")
    assert store.ids() == [first]  # nothing was trained
    beside = train(tmp_path, small(), small(seed=2))
    assert {store.read(run_id).precision for run_id in beside} == {"bfloat16"}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"precision": "half"}, r"precision = 'half': choose one of auto, float32"),
        ({"name": "../x"}, "name = '../x': a plan's name has letters"),
        ({"device": "tpu"}, "device = 'tpu'"),
        ({"specs": [small(n_tokens=5000)]}, r"problem = 0: row 0 of its source takes \d+ tokens"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(tmp_path, option, words):
    options = {"specs": [small()], "device": "cpu"} | option
    with pytest.raises(InputError, match=words):
        ensure(store=Store(tmp_path / "runs"), **options)
    assert not (tmp_path / "runs").exists()


def test_budgets_fit_the_memory_that_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**27)
    (run_id,) = train(tmp_path)
    plan = Store(tmp_path).read(run_id).record["plan"]
    assert plan["context_budget"] == 2**25  # a quarter
    assert plan["token_budget"] == 4096


def test_an_interrupted_sweep_goes_on_with_its_plan_and_gives_the_same_bytes(tmp_path):
    specs = [small(seed=seed) for seed in range(4)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ids = train(whole, *specs, bank=2, token_budget=900)
    with pytest.raises(Stopped):
        train(cut, *specs, bank=2, token_budget=900, events=Events(stored=stop))
    assert len(Store(cut).ids()) == 2
    banks = written(cut)["banks"]
    assert train(cut, *specs, bank=3) == ids  # a plan made now would look different
    assert written(cut)["banks"] == banks
    assert differences(cut, whole) == []


def test_a_damaged_run_is_quarantined_and_trained_again(tmp_path):
    (run_id,) = train(tmp_path)
    (tmp_path / run_id / "epochs.parquet").write_bytes(b"")
    aside = []
    train(tmp_path, events=Events(quarantined=lambda why, place: aside.append((why, place))))
    ((why, place),) = aside
    assert why.startswith(f"run {run_id}: epochs.parquet")
    assert place.name == f"damaged-{run_id}-1"
    assert (place / "epochs.parquet").read_bytes() == b""
    assert Store(tmp_path).verify(run_id) is None


def test_without_the_topology_package_runs_keep_every_prompt(tmp_path, monkeypatch):
    often = small(snapshot_every=20, check_every=1)
    monkeypatch.setitem(sys.modules, "gph", None)
    (run_id,) = train(tmp_path / "bare", often)
    run = Store(tmp_path / "bare").read(run_id)
    assert run.prompt_epochs == [0, 1, 2]
    assert "topology.parquet" not in run.record["files"]
    monkeypatch.undo()
    assert run.topology.epoch.tolist() == [0, 1, 2]  # computed when it is asked for
    assert sorted(set(run.diagrams.epoch)) == [0, 2]
    train(tmp_path / "full", often)
    full = Store(tmp_path / "full").read(run_id)
    pd.testing.assert_frame_equal(full.topology, run.topology)
    pd.testing.assert_frame_equal(full.diagrams, run.diagrams)


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", "not json", '{"banks": [], "device": "cpu", "plans": {"a": {"x": 1}}}'],
)
def test_a_plan_that_cannot_be_read_is_written_anew(tmp_path, text):
    (run_id,) = train(tmp_path)
    (tmp_path / run_id).rename(tmp_path / "elsewhere")
    (path,) = (tmp_path / "plans").iterdir()
    path.write_text(text)
    train(tmp_path)
    assert written(tmp_path)["banks"] == [[run_id]]
    assert set(written(tmp_path)["plans"]) == {"tiny-llama"}


def test_a_diverging_run_does_not_cost_the_others(tmp_path):
    good, bad = small(), small(lambda_ts=1e300)
    with pytest.raises(FloatingPointError, match=r"λ=1e\+300.*not finite.*lambda_ts"):
        train(tmp_path / "both", good, bad)
    (run,) = Store(tmp_path / "both").valid_runs()[0]
    assert run.spec == good
    (run_id,) = train(tmp_path / "alone", good)
    alone = Store(tmp_path / "alone").read(run_id)
    torch.testing.assert_close(alone.prompt(2), run.prompt(2), rtol=1e-5, atol=1e-6)


def test_a_sweep_leaves_out_what_is_too_long_says_so_and_trains_the_rest_once(tmp_path):
    lines = [json.dumps(BBH), json.dumps(BBH | {"input": "word " * 2000})]
    (tmp_path / "bbh.jsonl").write_text("\n".join(lines) + "\n")
    specs = [spec(data=str(tmp_path), problem=k, epochs=1, n_tokens=4) for k in (0, 1)]
    sizes, left = [], []
    events = Events(
        begin=lambda jobs, number, banks, peak: sizes.append(len(jobs)),
        left_out=lambda job, why: left.append((job.spec.problem, why)),
    )
    first = train(tmp_path / "runs", *specs, events=events)
    assert train(tmp_path / "runs", *specs, events=events) == first
    assert (len(first), sizes) == (1, [1])
    assert [problem for problem, _ in left] == [1, 1]  # said again, not trained again
    assert "reads 4096" in left[0][1]


def test_a_run_that_begins_with_a_trained_prompt_comes_after_its_donor_or_is_left_out(tmp_path):
    plain, missing, left = partial(small, method="ce"), "0123456789abcdef", []
    donor = plain(problem=1)
    specs = [*(plain(init="trained", init_run=name) for name in ("#1", missing)), donor]
    events = Events(left_out=lambda job, why: left.append((job.spec.init_run, why)))
    ids, store = train(tmp_path, *specs, events=events), Store(tmp_path)
    why = f"init_run = '{missing}': is not stored in {tmp_path}; train it first"
    assert left == [(missing, why)]
    later, first = sorted(map(store.read, ids), key=lambda run: run.spec.problem)
    assert (first.spec, later.spec.init_run) == (donor, first.id)
    assert torch.equal(later.prompt(0), first.prompt(2))
    assert not torch.equal(later.prompt(0), first.prompt(0))
    assert train(tmp_path, *specs) == ids
    with pytest.raises(InputError, match=why):
        train(tmp_path, specs[1])  # alone it is not left out
    same, longer = (plain(problem=2, n_tokens=n, init="trained", init_run=first.id) for n in (4, 5))
    why = "its prompt has shape (4, 32), this run needs (5, 32); name a run with the same n_tokens"
    assert len(train(tmp_path, same, longer, events=events)) == 1
    assert left[-1] == (first.id, f"init_run = '{first.id}': {why} and model")
    with pytest.raises(InputError, match=re.escape(why)):
        train(tmp_path, longer)


def test_a_run_is_found_whatever_its_epochs_and_place_or_trained(tmp_path):
    store = Store(tmp_path)
    short = find_or_train(store, small())
    assert store.ids() == [short.id]
    assert find_or_train(store, small()).id == short.id
    long = find_or_train(store, small(seed=1).but(epochs=3))
    assert find_or_train(store, small(seed=1)).id == long.id
    lines = (data_dir("problems") / "mmlu_cf.jsonl").read_text().splitlines()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mmlu_cf.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    elsewhere = small(data=str(tmp_path / "data"), problem=len(lines) - 1)
    assert find_or_train(store, elsewhere).id == short.id
    assert find_or_train(store, small(problem=1)).id not in (short.id, long.id)
