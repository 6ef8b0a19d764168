"""Null models of stored runs: walks from a run's first prompt, as long as its steps."""

import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis import movement
from tsp.analysis.movement import KINDS, _stream, nulls
from tsp.errors import InputError
from tsp.store.runs import Run, Store
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
    assert "rows as far" not in set(nulls(run, draws=2).kind)
    for path in walks:
        first, moved = path[0], path[-1] - path[0]
        cosine = (first * moved).sum() / np.linalg.norm(first) / np.linalg.norm(moved)
        assert abs(cosine) < 5 / np.sqrt(first.size)


def test_a_run_without_steps_is_refused(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(InputError, match="train it again"):
        nulls(store.read(stored(store)))
