import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import problem
from tests.handmade import stored
from tsp.analysis.records import load_runs
from tsp.atomic import checksum
from tsp.errors import InputError
from tsp.loss import TSLoss
from tsp.store.runs import Store
from tsp.training.spec import LOSS_FIELDS, METHODS, RunSpec, later_fields


def test_defaults_are_the_papers_or_the_projects():
    spec = RunSpec()
    assert (spec.n_tokens, spec.lr, spec.epochs, spec.check_every) == (40, 1e-2, 300, 2)
    assert (spec.snapshot_every, spec.init, spec.placement) == (20, "gaussian", "after_question")
    assert RunSpec(protocol="paper").lr == 5e-5
    assert RunSpec(protocol="released").init == "repeated"


def test_loss_defaults_are_those_of_the_loss():
    loss = TSLoss()
    for name, value in RunSpec().loss_options.items():
        assert getattr(loss, name) == value, name


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("n_tokens", 0, "whole number of at least 1"),
        ("n_tokens", 2.5, "whole number"),
        ("n_tokens", True, "whole number"),
        ("lr", -1e-3, "finite number above 0"),
        ("lr", float("nan"), "finite number above 0"),
        ("lambda_ts", float("nan"), "finite number of at least 0"),
        ("lambda_ts", float("inf"), "finite number of at least 0"),
        ("tau", 0, "finite number above 0"),
        ("epochs", 301, "schedules 300 at most"),
        ("epochs", 0, "at least 1"),
        ("problem", -1, "at least 0"),
        ("protocol", "papre", "paper, tuned, released"),
        ("method", "TSLoss", "ce, tsloss, l2, pairwise, persistence"),
        ("regime", "many", "single, multi"),
        ("placement", "suffix", "after_question, prefix"),
        ("model", " ", "give a name"),
        ("early_stop", "yes", "true or false"),
        ("schedule", "cosine", "linear, constant"),
        ("warmup_fraction", 1.5, "at most 1"),
        ("clip_norm", -1.0, "finite number of at least 0"),
        ("rounding", "bf16", "precision, threads, bank"),
        ("init_run", "#1", "together with init 'trained'"),
        ("init_run", "#one", "a run's id, or #K"),
    ],
)
def test_wrong_values_name_field_value_and_remedy(field, value, remedy):
    with pytest.raises(InputError) as caught:
        RunSpec(**{field: value})
    message = str(caught.value)
    assert message.startswith(field)
    assert str(value) in message
    assert remedy in message
    assert "\n" not in message


def test_numbers_of_numpy_and_paths_are_taken(tmp_path):
    spec = RunSpec(seed=np.arange(3)[2], lambda_ts=np.float32(0.5), data=tmp_path)
    assert spec == RunSpec(seed=2, lambda_ts=0.5, data=str(tmp_path))
    assert json.loads(json.dumps(spec.to_dict())) == spec.to_dict()
    with pytest.raises(InputError, match=r"seed = 2\.0: give a whole number"):
        RunSpec(seed=np.float64(2))


def test_weight_zero_and_no_regulariser_are_one_run():
    plain = RunSpec(method="ce", lambda_ts=7.0)
    assert plain == RunSpec(method="tsloss", lambda_ts=0) == RunSpec(method="l2", lambda_ts=0)
    assert plain == RunSpec(method="ce", tau=1.0)  # a parameter of a loss that is not used
    assert RunSpec(tau=1.0) != RunSpec()


@given(st.sampled_from(METHODS), st.integers(0, 9), st.floats(0, 10), st.floats(0.01, 5))
def test_a_spec_survives_json(method, seed, weight, tau):
    spec = RunSpec(method=method, seed=seed, lambda_ts=weight, tau=tau)
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(InputError, match="colour"):
        RunSpec.from_dict({"colour": "red"})


def test_the_id_follows_content_not_place():
    problems = [problem("a", "b")]
    here = RunSpec(data="shipped", problem=3)
    assert here.id(problems) == here.but(data="/elsewhere", problem=0).id(problems)
    assert here.id(problems) != here.id([problem("a", "c")])
    assert here.id(problems) != here.id(problems, model="folder:0123")
    assert len(here.id(problems)) == 16


def test_every_other_field_changes_the_id():
    problems, spec = [problem("a", "b")], RunSpec(epochs=10)
    other = {
        "model": "x/y",
        "task": "math",
        "regime": "multi",
        "method": "persistence",
        "lambda_ts": 2.0,
        "protocol": "paper",
        "placement": "prefix",
        "n_tokens": 3,
        "lr": 0.5,
        "epochs": 11,
        "seed": 5,
        "init": "vocabulary",
        "early_stop": True,
        "check_every": 3,
        "snapshot_every": 7,
        "max_new_tokens": 9,
        "embed_scale": 2.0,
        "wrong_answers": True,
        "weighting": "gradient",
        "self_pairs": True,
        "detach_thresholds": True,
        "schedule": "constant",
        "warmup_fraction": 0.5,
        "clip_norm": 1.0,
        "rounding": "bank",
        "init_run": "#2",
    } | {name: 3.0 for name in LOSS_FIELDS if name not in ("self_pairs", "detach_thresholds")}
    names = {item.name for item in dataclasses.fields(RunSpec)}
    assert names - set(other) == {"data", "problem"}
    more = {"init_run": {"init": "trained"}}  # which is given with it
    changed = {name: {name: value} | more.get(name, {}) for name, value in other.items()}
    ids = {spec.but(**fields).id(problems) for fields in changed.values()}
    ids.add(spec.but(init="trained", init_run="#3").id(problems))
    assert len(ids | {spec.id(problems)}) == len(other) + 2


@pytest.mark.parametrize(
    ("fields", "run_id"),
    [
        ({}, "0000229cbddf5a54"),
        ({"method": "ce"}, "3fcd6be37bab4c54"),
        ({"protocol": "paper"}, "21351caf640226a0"),
        ({"protocol": "released", "method": "ce"}, "f5f3899448432a0b"),
        ({"epochs": 100, "seed": 2, "snapshot_every": 4}, "f0eb94e2baa349ef"),
        (
            {"regime": "multi", "task": "mmlu_cf", "n_tokens": 8, "init": "vocabulary"},
            "178c484675b51623",
        ),
        (
            {"method": "l2", "lambda_ts": 0.033, "placement": "prefix", "early_stop": True},
            "aff8b89dfc6080a7",
        ),
        (
            {"tau": 1.0, "self_pairs": True, "weighting": "gradient", "lr": 1e-3}
            | {"embed_scale": 24.0},
            "69325c761b172373",
        ),
    ],
)
def test_published_runs_keep_their_ids(fields, run_id):
    """As they were before a run had a schedule, a warm-up, clipping, a donor and a rounding."""
    spec = RunSpec(**fields)
    assert spec.id([problem("What is 2+2?", "4")]) == run_id
    earlier = {name: item for name, item in spec.to_dict().items() if name not in LATER}
    assert RunSpec.from_dict(earlier) == spec


LATER = {"schedule", "warmup_fraction", "clip_norm", "init_run", "rounding"}


def test_a_run_that_was_stored_before_a_field_was_added_is_read(store):
    for protocol in ("tuned", "released"):
        path = store.root / stored(store, protocol=protocol) / "run.json"
        record = json.loads(path.read_text())
        assert set(later_fields(protocol)) == LATER <= set(record["spec"])
        for name in LATER:
            del record["spec"][name]
        path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    again = Store(store.root)
    assert [again.verify(item) for item in again.ids()] == [None, None]
    assert {item.spec.schedule for item in again.valid_runs()[0]} == {"linear", "constant"}
    runs = load_runs(again).set_index("protocol")
    assert runs.schedule.to_dict() == {"tuned": "linear", "released": "constant"}
    assert runs.setting.to_dict() == {"tuned": "", "released": ""}
    del record["spec"]["seed"]
    path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    assert "spec lacks seed" in str(Store(store.root).verify(record["id"]))


def test_whole_and_decimal_numbers_are_one_run():
    problems = [problem("a", "b")]
    for name, value in (("lambda_ts", 2), ("lr", 1), ("tau", 1), ("embed_scale", 2), ("alpha", 3)):
        ids = [RunSpec(**{name: kind(value)}).id(problems) for kind in (int, float)]
        assert ids[0] == ids[1], name


def test_another_protocol_brings_its_own_values():
    run_spec = RunSpec(n_tokens=7).but(protocol="paper")
    assert (run_spec.lr, run_spec.n_tokens) == (5e-5, 7)
    assert RunSpec(lr=0.5).but(protocol="paper").lr == 0.5
    assert RunSpec(method="ce").but(method="tsloss") == RunSpec()
