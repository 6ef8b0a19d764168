"""Null models of stored runs: walks from a run's first prompt, as long as its steps."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.handmade import stored
from tsp.analysis import movement
from tsp.analysis.movement import (
    KINDS,
    _stream,
    nulls,
    vector_movement,
    which_vectors_move,
)
from tsp.errors import InputError
from tsp.store.runs import Run
from tsp.topology.null_models import walk


@pytest.fixture
def walks(monkeypatch):
    """The walks that `nulls` takes."""
    taken = []

    def noted(*arguments, **options):
        taken.append(walk(*arguments, **options))
        return taken[-1]

    monkeypatch.setattr(movement, "walk", noted)
    return taken


@pytest.fixture
def run(smoke):
    return smoke.read(smoke.ids()[0])


def test_nulls_of_a_trained_run(run):
    table = nulls(run, draws=3)
    each = [kind for kind in KINDS for _ in range(3)]
    assert table.kind.tolist() == [kind for kind in ("training", *each) for _ in range(2)]
    assert table[table.kind == KINDS[0]].draw.tolist() == [0, 0, 1, 1, 2, 2]
    checks = run.topology.sort_values("epoch").h1_count
    trained = table[table.kind == "training"].h1_count
    assert trained.tolist() == checks.iloc[[0, -1]].tolist()
    start = table[~table.end].mean_distance
    np.testing.assert_allclose(start, start.iloc[0])
    last = table[table.end & (table.kind != "training")].mean_distance
    assert last.nunique() == len(last) == 9  # no two draws and no two kinds share directions
    pd.testing.assert_frame_equal(table, nulls(run, draws=3))
    fewer = nulls(run, draws=1)
    assert fewer.mean_distance.tolist() == table[table.draw == 0].mean_distance.tolist()


def test_two_runs_of_a_seed_move_in_directions_of_their_own(smoke):
    both = [run for run in smoke.valid_runs()[0] if run.spec.seed == 0][:2]
    steps = [_stream(run, "random walk", 0).normal(size=400) for run in both]
    assert abs(np.corrcoef(steps)[0, 1]) < 0.2


def test_walks_start_where_the_prompt_did_and_take_its_steps(run, walks):
    nulls(run, draws=1)
    for path in walks:
        np.testing.assert_allclose(path[0], run.prompt(0).double().numpy())
        steps = np.linalg.norm(np.diff(path, axis=0), axis=(1, 2))
        np.testing.assert_allclose(steps, run.epochs.moved.to_numpy())


def test_a_start_that_is_not_stored_is_drawn_apart_from_the_directions(run, walks, monkeypatch):
    """Otherwise the straight walk would scale the cloud and change no ratio of distances."""
    monkeypatch.setattr(Run, "prompt_epochs", property(lambda self: []))
    assert "rows moved as far" not in set(nulls(run, draws=2).kind)
    for path in walks:
        first, moved = path[0], path[-1] - path[0]
        cosine = (first * moved).sum() / np.linalg.norm(first) / np.linalg.norm(moved)
        assert abs(cosine) < 5 / np.sqrt(first.size)


def test_a_run_without_steps_is_refused(store):
    with pytest.raises(InputError, match="train it again"):
        nulls(store.read(stored(store)))


def test_vectors_that_move_farther_by_hand():
    """Three vectors: one goes straight, one goes back half of its way, one stays nearly still."""
    prompts = {
        0: [[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]],
        2: [[5.0, 0.0], [0.0, 6.0], [3.0, 1.0]],
        4: [[9.0, 0.0], [0.0, 4.0], [3.0, 2.0]],
    }
    run = SimpleNamespace(prompt_epochs=[*prompts], prompt=lambda e: torch.tensor(prompts[e]))
    moved = vector_movement(run)
    assert moved.start.tolist() == [1, 2, 3]
    assert moved.distance.tolist() == [8, 2, 2]
    assert moved["path"].tolist() == [8, 6, 2]
    found = which_vectors_move(moved)
    assert found["start"] == found["place"] == pytest.approx(-np.sqrt(3) / 2)  # ties: 3, 1.5, 1.5
    share = np.cov(np.log([8, 6, 2]), np.log([8, 2, 2]))[0, 1] / np.var(np.log([8, 2, 2]), ddof=1)
    assert found["path"] == pytest.approx(share)
    straight = moved.assign(path=2 * moved.distance)
    assert which_vectors_move(straight)["path"] == pytest.approx(1)
    turning = moved.assign(path=7.0)
    assert which_vectors_move(turning)["path"] == pytest.approx(0)
