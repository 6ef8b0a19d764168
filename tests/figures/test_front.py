"""The figure of the front page: counts by hand, and what it says where runs are missing."""

import numpy as np
import pytest

from tests.handmade import stored
from tsp.figures import front
from tsp.figures.front import LOOKS, RANDOM, loop_counts, loops
from tsp.store.runs import Store

MODEL = "smollm2-135m-instruct"
ARMS = {
    "ce": {"method": "ce"},
    "tsloss": {"method": "tsloss", "lambda_ts": 1.0},
    "wrong": {"method": "ce", "wrong_answers": True},
}


@pytest.fixture
def store(tmp_path):
    """Two problems in three arms, checked at 0, 2 and 4."""
    store = Store(tmp_path)
    for problem in range(2):
        for k, arm in enumerate(ARMS.values()):
            counts = {"h1_count": [9, 9 - k - problem, k]}
            about = {"problem": problem, "contents": (f"p{problem}",), "epochs": 4}
            stored(store, **about, **arm, topology=counts)
    return store


def test_counts_are_those_of_each_problem_and_arm(store):
    counts = loop_counts(store, protocol="tuned", model=MODEL)
    table = counts[counts.arm != RANDOM].set_index(["arm", "content", "epoch"]).h1_count
    for k, arm in enumerate(ARMS):
        checks = table[arm].unstack("epoch")
        assert sorted(checks[2]) == [9 - k - 1, 9 - k]
        assert set(checks[4]) == {k}

    random = counts[counts.arm == RANDOM]
    assert random.content.nunique() == 2
    assert np.isfinite(random.h1_count).all()


def test_all_arms_are_about_the_same_problems(store, monkeypatch):
    """A problem whose prompts are not stored has no random arm, so it is in no arm."""
    displaced = front._displaced

    def kept(store, run_id):
        moved = displaced(store, run_id)
        return moved if store.read(run_id).spec.problem else moved.iloc[:0]

    monkeypatch.setattr(front, "_displaced", kept)
    counts = loop_counts(store, protocol="tuned", model=MODEL)
    assert counts.content.nunique() == 1
    assert set(counts.arm) == {*ARMS, RANDOM}


def test_each_arm_has_a_line_and_its_name(store, tmp_path):
    (ax,) = loops(store, protocol="tuned", model=MODEL).axes
    assert len(ax.lines) == 4
    names = {text.get_text() for text in ax.texts}
    assert names == {name for name, *_ in LOOKS.values()}
    assert len(names) == 4
    assert loop_counts(Store(tmp_path / "none"), protocol="tuned", model=MODEL).empty
