"""Runs of several specs on the same problems."""

from functools import partial

import pytest

from tests.handmade import pair, stored
from tsp.analysis.tables import same_start
from tsp.experiments import find_or_train as finding
from tsp.experiments.find_or_train import find_example, find_together, outcome_in_words, right_from
from tsp.paths import data_dir
from tsp.store.runs import Run, Store
from tsp.training.spec import RunSpec

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


# The chapters' example -------------------------------------------------------------------------


def checks(*right):
    """Of one problem, at epochs 0, 2, 4, 6, 8."""
    return [[good] for good in right]


watched = partial(stored, snapshot_every=4)  # with prompts at the start, in between, at the end
solving = partial(pair, snapshot_every=4)
LOST = checks(False, True, False, True, True)


def test_the_example_is_the_first_problem_that_a_pair_solves_and_never_loses(store):
    solving(store, standard=None, tsloss=4, contents=("0",), problem=0)
    solving(store, standard=0, tsloss=2, contents=("1",), problem=1)  # right before training
    solving(store, standard=4, tsloss=8, contents=("2",), problem=2, task="hotpotqa")
    wanted = solving(store, standard=4, tsloss=8, contents=("3",), problem=2, task="bbh")
    solving(store, standard=2, tsloss=2, contents=("4",), problem=3)
    watched(store, solved=2, contents=("5",), problem=0)  # without a partner
    assert [run.id for run in find_example(store, [CE, TS])] == wanted
    assert [run.id for run in find_example(store, [CE])] == wanted[:1]


def test_an_answer_that_is_lost_and_found_again_comes_after_one_that_stays(store):
    lost = [watched(store, right=LOST, problem=0, method=method) for method in ("ce", "tsloss")]
    assert [run.id for run in find_example(store, [CE, TS])] == lost
    stays = solving(store, standard=4, tsloss=8, contents=("2",), problem=2)
    assert [run.id for run in find_example(store, [CE, TS])] == stays


def test_of_two_records_of_one_run_the_example_is_the_one_that_solved_its_problem(store):
    solving(store, standard=4, tsloss=4)
    watched(store, solved=None, snapshot_every=2)
    assert [right_from(run) for run in find_example(store, [CE, TS])] == [4, 4]


def test_the_example_is_the_record_with_the_most_prompts(store):
    solving(store, standard=4, tsloss=4)
    often = pair(store, standard=4, tsloss=4, snapshot_every=2)
    solving(store, standard=4, tsloss=4)
    assert [run.id for run in find_example(store, [CE, TS])] == often


def test_what_the_untrained_prompt_solves_is_no_example(store, trained):
    solving(store, standard=0, tsloss=0, problem=1)
    assert find_example(store, [CE]) == [CE.but(data="shipped")]


def test_another_problem_or_source_may_be_named(store, trained):
    solving(store, standard=4, tsloss=4)
    named = watched(store, contents=("b",), problem=3)
    assert [run.id for run in find_example(store, [CE], problem=3)] == [named]
    assert find_example(store, [CE], task="bbh") == [CE.but(task="bbh", data="shipped")]
    assert find_example(store, [CE], data="hub") == [CE.but(data="hub")]


def test_without_an_example_it_is_the_first_problem(store, trained):
    _, first = solving(store, standard=None, tsloss=2)
    pair(store, standard=2, tsloss=2, contents=("b",), problem=1)  # without prompts in between
    assert [run.id for run in find_example(store, [TS])] == [first]
    assert find_example(Store(store.root / "empty"), [TS]) == [TS.but(data="shipped")]


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (checks(*[False] * 5), "is not right at any check"),
        (checks(False, False, True, True, True), "is right first at epoch 4, and stays right"),
        (LOST, "is right first at epoch 2, and stays right from 6 on"),
        (checks(False, True, True, True, False), "is right first at epoch 2 and wrong again"),
    ],
)
def test_when_a_run_was_right(store, right, told):
    assert outcome_in_words(store.read(watched(store, right=right))).startswith(told)


def test_published_examples_solved_their_problem():
    """What the chapters show: a pair that is wrong untrained, gets right and stays right."""
    common = {"model": "smollm2-135m-instruct", "protocol": "tuned"}
    specs = [RunSpec(**common, method="ce", lambda_ts=0.0), RunSpec(**common, method="tsloss")]
    for run in find_example(Store(data_dir("runs")), specs):
        assert run.published
        assert right_from(run) == run.record["outcome"]["solved_epoch"] > 0
        assert len(run.prompt_epochs) > 5


def test_units_that_share_a_first_prompt_are_said_to(store):
    """Units are as many as problems; their first prompts are as many as seeds."""
    told = partial(same_start, store, protocol="tuned")
    assert told() == "The store has no units."
    for content in "abc":
        pair(store, standard=2, tsloss=4, contents=(content,))
    small, other = "smollm2-135m-instruct", "gemma-3-270m"
    assert told().startswith(f"All 3 units of {small} start from one and the same first prompt")
    stored(store, contents=("a",), seed=1)  # two seeds: the first alone is read
    assert "one and the same" in told()
    stored(store, contents=("a",), seed=2)
    stored(store, contents=("a",), seed=4, n_tokens=5)  # not at the defaults
    stored(store, contents=("a",), seed=3, protocol="paper")
    stored(store, contents=("a",), model=other)
    assert f"3 units of {small} start from 3 first prompts" in told()
    assert f"; all 1 units of {other} start from one and the same" in told()
    assert small not in told(model=other)
