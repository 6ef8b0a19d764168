"""Which problems of the checks that wait are asked, and together with which others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import spec
from tests.training.test_attention import lively
from tsp.problems.loading import load_problems
from tsp.training.checks import (
    STOPPING_EPOCHS,
    WAITING_EPOCHS,
    WAITING_ROWS,
    PendingAnswer,
    decoding_rounds,
    enough,
)
from tsp.training.members import PromptRun

TEN = load_problems("mmlu_cf", regime="multi")


@pytest.fixture
def run():
    """A run that was checked at the start, where problem 7 alone was wrong."""
    return checked_run()


def checked_run():
    run = PromptRun(spec(snapshot_every=4, epochs=9, max_new_tokens=5), lively("tiny-llama"), TEN)
    record(run, 0, range(10), wrong=7)
    return run


def record(run, epoch, problems, wrong=None):
    rows = [{"epoch": epoch, "problem": k, "correct": k != wrong} for k in problems]
    run.result.checks += rows


def pending(run, epoch, problems=range(10)):
    return [PendingAnswer(run, k, epoch) for k in problems]


@pytest.mark.parametrize(
    ("wrong", "asked"),
    [
        (7, [[7]]),
        (1, [[7], [0, 1]]),
        (5, [[7], [0, 1], [2, 3, 4, 5]]),
        (None, [[7], [0, 1], [2, 3, 4, 5], [6, 8, 9]]),
    ],
)
def test_a_check_is_asked_until_an_answer_is_wrong(run, wrong, asked):
    seen = []
    for checks in decoding_rounds(pending(run, 2)):
        seen.append([one.problem for one in checks])
        record(run, 2, seen[-1], wrong)
    assert seen == asked


@pytest.mark.parametrize("epoch", [4, 9])  # at a snapshot and at the end
def test_a_check_at_a_snapshot_asks_every_problem_at_once(run, epoch):
    seen = [[one.problem for one in checks] for checks in decoding_rounds(pending(run, epoch))]
    assert seen == [list(range(10))]


@given(
    wrong=st.dictionaries(st.integers(1, 9), st.sets(st.integers(0, 9), max_size=3), min_size=1),
    order=st.randoms(use_true_random=False),
)
def test_a_check_is_passed_exactly_if_every_answer_is_right(wrong, order):
    """As if every problem were asked at every check, whichever answers wait and in any order."""
    run, answered = checked_run(), []
    waiting = [one for epoch in wrong for one in pending(run, epoch)]
    order.shuffle(waiting)
    for checks in decoding_rounds(waiting):
        for one in checks:
            answered.append((one.epoch, one.problem))
            bad = one.problem in wrong[one.epoch]
            record(run, one.epoch, [one.problem], wrong=one.problem if bad else None)
    assert len(answered) == len(set(answered))
    whole = run.result.correct()
    for epoch, problems in wrong.items():
        assert (whole.get(epoch) == 1) == (not problems)
        assert run.is_wrong(epoch) == bool(problems)
        assert epoch in whole or not run.asks_all(epoch)


def test_a_check_that_a_training_pass_has_failed_asks_nothing(run):
    record(run, 2, [3], wrong=3)
    assert list(decoding_rounds(pending(run, 2, [0, 1]))) == []


def test_what_is_asked_does_not_depend_on_what_else_waits(run):
    """Problem 2 fails at the check of all between two others, which then waits too."""
    seen = {1: [], 5: []}
    for checks in decoding_rounds(pending(run, 5) + pending(run, 4) + pending(run, 1)):
        for epoch in (1, 4, 5):
            asked = [one.problem for one in checks if one.epoch == epoch]
            record(run, epoch, asked, wrong=2)
            if asked and epoch in seen:
                seen[epoch].append(asked)
    assert seen == {1: [[7], [0, 1], [2, 3, 4, 5]], 5: [[2]]}


def test_checks_of_several_epochs_share_rounds(run):
    """A check of all is asked with the first problems of those before it, not of those after."""
    rounds = []
    for checks in decoding_rounds([one for at in (2, 4, 6) for one in pending(run, at)]):
        rounds.append({(one.epoch, one.problem) for one in checks})
        for epoch in (2, 4, 6):
            asked = [one.problem for one in checks if one.epoch == epoch]
            record(run, epoch, asked, wrong=7 if epoch < 6 else None)
    assert rounds[0] == {(2, 7), *((4, k) for k in range(10))}
    assert rounds[1] == {(6, 7)}
    assert len(rounds) == 5


def test_answers_are_decoded_once_enough_of_them_wait(run):
    between = [epoch for epoch in range(1, 40) if epoch % 4 and epoch != 9][:WAITING_EPOCHS]
    early = [check for epoch in between[1:] for check in pending(run, epoch)]
    assert len(early) > WAITING_ROWS
    assert not enough(early)  # fifteen answers at least
    assert enough(early + pending(run, between[0]))
    assert enough([check for epoch in range(WAITING_EPOCHS) for check in pending(run, epoch)])
    assert not enough(pending(run, 4))
    assert enough(pending(run, 4) * -(-WAITING_ROWS // 10))


def test_runs_that_stop_early_wait_for_fewer_checks(run):
    stopping = PromptRun(run.spec.but(early_stop=True), lively("tiny-llama"), TEN)
    waiting = [check for epoch in range(STOPPING_EPOCHS) for check in pending(stopping, epoch)[:1]]
    assert enough(waiting)
    assert not enough(waiting[1:])
    assert not enough([one._replace(run=run) for one in waiting])
