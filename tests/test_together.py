"""Runs of several specs on the same problems."""

import pytest

from tests.handmade import stored
from tsp import finding
from tsp.finding import find_together
from tsp.runs import Run, Store
from tsp.spec import RunSpec

CE = RunSpec(task="gsm8k", epochs=30, method="ce", lambda_ts=0.0)
TS = RunSpec(task="gsm8k", epochs=30, method="tsloss", lambda_ts=1.0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, instead of training it."""
    asked = []
    monkeypatch.setattr(finding, "find_or_train", lambda store, spec: asked.append(spec) or spec)
    return asked


def test_the_longest_stored_run_from_any_source(store, trained):
    stored(store, epochs=4)
    long = stored(store, epochs=12)
    stored(store, epochs=14, problem=1)
    assert [run.id for run in find_together(store, [CE])] == [long]
    assert trained == []


def test_several_runs_are_on_the_same_problems(store, trained):
    stored(store, epochs=20, contents=("a",))
    both = [
        stored(store, contents=("b",)),
        stored(store, contents=("b",), method="tsloss"),
    ]
    assert [run.id for run in find_together(store, [CE, TS])] == both
    assert [run.id for run in find_together(store, [TS, CE])] == both[::-1]


def test_runs_on_different_problems_do_not_do(store, trained):
    stored(store, contents=("a",))
    stored(store, contents=("b",), method="tsloss")
    found = find_together(store, [CE, TS])
    assert found == trained == [CE.but(data="shipped"), TS.but(data="shipped")]


def test_a_run_without_prompts_does_where_none_are_needed(store, trained, monkeypatch):
    run_id = stored(store)
    monkeypatch.setattr(Run, "prompt_epochs", property(lambda run: []))
    assert [run.id for run in find_together(store, [CE], prompts=False)] == [run_id]
    assert find_together(store, [CE]) == [CE.but(data="shipped")]


def test_another_setting_or_protocol_does_not_do(store, trained):
    stored(store, n_tokens=5)
    stored(store, protocol="paper")
    assert find_together(store, [CE]) == [CE.but(data="shipped")]


def test_a_source_that_was_named_is_asked_for(store, trained):
    stored(store)
    assert find_together(store, [CE], data="hub") == [CE.but(data="hub")]
