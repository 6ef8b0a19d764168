"""Stored runs of several specs on the same problems, and the example that the chapters show."""

from functools import partial

import pytest

from tests.handmade import pair, stored
from tsp.analysis.tables import same_start
from tsp.experiments import find_or_train as module
from tsp.experiments.find_or_train import find_example, find_together, outcome_in_words, right_from
from tsp.paths import data_dir
from tsp.store.runs import Run, Store
from tsp.training.spec import RunSpec

CE = RunSpec(task="gsm8k", epochs=30, method="ce", lambda_ts=0.0)
TS = RunSpec(task="gsm8k", epochs=30, method="tsloss", lambda_ts=1.0)
NEW = [CE.but(data="shipped")]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store in which nothing is trained: the spec is returned in place of a new run."""
    monkeypatch.setattr(module, "find_or_train", lambda store, spec: spec)
    return Store(tmp_path)


def result(find, store, *specs, **options):
    """Return the ids of stored runs, or the specs of new ones."""
    runs = find(store, specs, **options)
    return [run.id if isinstance(run, Run) else run for run in runs]


together, example = partial(result, find_together), partial(result, find_example)


def test_the_longest_stored_run_on_the_same_problems(store):
    stored(store, epochs=4)
    long = stored(store, epochs=12)
    stored(store, epochs=14, problem=1)
    assert together(store, CE) == [long]
    stored(store, epochs=20, contents=("a",))
    both = [stored(store, contents=("b",)), stored(store, contents=("b",), method="tsloss")]
    assert together(store, CE, TS) == both
    assert together(store, TS, CE) == both[::-1]


def test_what_does_not_fit_is_trained(store, monkeypatch):
    stored(store, n_tokens=5)
    stored(store, protocol="paper")
    assert together(store, CE) == NEW
    first = stored(store, contents=("a",))
    stored(store, contents=("b",), method="tsloss")  # on other problems
    assert together(store, CE, TS) == [*NEW, TS.but(data="shipped")]
    assert together(store, CE, data="hub") == [CE.but(data="hub")]
    monkeypatch.setattr(Run, "prompt_epochs", property(lambda run: []))
    assert together(store, CE) == NEW
    assert together(store, CE, prompts=False) == [first]


# The chapters' example -------------------------------------------------------------------------


def checks(*right):
    """Return the checks of one problem, at epochs 0, 2, 4, 6, 8."""
    return [[good] for good in right]


watched = partial(stored, snapshot_every=4)  # with prompts at the start, in between, at the end
solving = partial(pair, snapshot_every=4)
LOST = checks(False, True, False, True, True)


def test_the_example_is_the_first_problem_that_a_pair_solves_and_never_loses(store):
    solving(store, standard=None, tsloss=4, contents=("0",), problem=0)
    solving(store, standard=0, tsloss=2, contents=("1",), problem=1)  # right before training
    watched(store, solved=2, contents=("5",), problem=0)  # without a partner
    lost = [watched(store, right=LOST, problem=0, method=method) for method in ("ce", "tsloss")]
    assert example(store, CE, TS) == lost
    solving(store, standard=4, tsloss=8, contents=("2",), problem=2, task="hotpotqa")
    wanted = solving(store, standard=4, tsloss=8, contents=("3",), problem=2, task="bbh")
    solving(store, standard=2, tsloss=2, contents=("4",), problem=3)
    assert example(store, CE, TS) == wanted
    assert example(store, CE) == wanted[:1]


def test_of_records_of_one_run_the_example_has_the_most_prompts_of_those_that_solve(store):
    solved = solving(store, standard=4, tsloss=4)
    watched(store, solved=None, snapshot_every=2)
    assert example(store, CE, TS) == solved
    often = pair(store, standard=4, tsloss=4, snapshot_every=2)
    solving(store, standard=4, tsloss=4)
    assert example(store, CE, TS) == often


def test_another_problem_or_source_may_be_named(store):
    solving(store, standard=4, tsloss=4)
    named = watched(store, contents=("b",), problem=3)
    assert example(store, CE, problem=3) == [named]
    assert example(store, CE, task="bbh") == [CE.but(task="bbh", data="shipped")]
    assert example(store, CE, data="hub") == [CE.but(data="hub")]


def test_without_an_example_it_is_the_first_problem(store):
    _, first = solving(store, standard=None, tsloss=2)
    pair(store, standard=2, tsloss=2, contents=("b",), problem=1)  # without prompts in between
    solving(store, standard=0, tsloss=0, contents=("c",), problem=2)  # right before training
    assert example(store, TS) == [first]
    assert example(Store(store.root / "empty"), CE) == NEW


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (checks(*[False] * 5), "is not right at any check"),
        (checks(False, False, True, True, True), "is first right at epoch 4 and stays right"),
        (LOST, "is first right at epoch 2 and stays right from 6 on"),
        (checks(False, True, True, True, False), "is first right at epoch 2 and wrong again"),
    ],
)
def test_when_a_run_was_right(store, right, words):
    assert outcome_in_words(store.read(watched(store, right=right))).startswith(words)


def test_published_examples_solved_their_problem():
    """The chapters show a pair that is wrong untrained, gets right and stays right."""
    common = {"model": "smollm2-135m-instruct", "protocol": "tuned"}
    specs = [RunSpec(**common, method="ce", lambda_ts=0.0), RunSpec(**common, method="tsloss")]
    for run in find_example(Store(data_dir("runs")), specs):
        assert run.published
        assert right_from(run) == run.record["outcome"]["solved_epoch"] > 0
        assert len(run.prompt_epochs) > 5


def test_units_that_share_a_first_prompt_are_said_to(store):
    """Units are as many as problems; their initial prompts are as many as seeds."""
    words = partial(same_start, store, protocol="tuned")
    assert words() == "The store has no units."
    for content in "abc":
        pair(store, standard=2, tsloss=4, contents=(content,))
    small, other = "smollm2-135m-instruct", "gemma-3-270m"
    stored(store, contents=("a",), seed=2, method="sham", lambda_ts=1.0)  # not Standard
    assert words().startswith(f"All 3 units of {small} start from one initial prompt with ")
    assert words().endswith("given this initial prompt.")
    stored(store, contents=("a",), seed=1)  # two seeds: the first alone is read
    assert "one initial prompt" in words()
    for fields in (
        {"seed": 2},
        {"seed": 4, "n_tokens": 5},  # not at the defaults
        {"seed": 3, "protocol": "paper"},
        {"model": other},
    ):
        stored(store, contents=("a",), **fields)
    assert f"3 units of {small} start from 3 initial prompts" in words()
    assert words().endswith("given these initial prompts.")
    assert f"; the one unit of {other} starts from one initial prompt" in words()
