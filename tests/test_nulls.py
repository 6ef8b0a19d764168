import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis.movement import KINDS, _stream, nulls
from tsp.errors import InputError
from tsp.store.runs import Store
from tsp.topology.diagrams import summarize
from tsp.topology.null_models import displaced, walk


@pytest.mark.parametrize("straight", [False, True])
def test_steps_are_as_long_as_asked_for(straight):
    first = np.random.default_rng(1).normal(size=(5, 7))
    lengths = [0.5, 0.0, 2.0, 1e-3]
    found = walk(first, lengths, seed=3, straight=straight)
    assert found.shape == (5, 5, 7)
    assert (found[0] == first).all()
    moved = np.sqrt((np.diff(found, axis=0) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(moved, lengths, atol=1e-12)
    end = np.linalg.norm(found[-1] - first)
    assert end == pytest.approx(sum(lengths)) if straight else end < sum(lengths)


def test_a_walk_is_its_seeds():
    first, lengths = np.zeros((3, 4)), [1.0, 1.0]
    assert (walk(first, lengths, seed=1) == walk(first, lengths, seed=1)).all()
    assert (walk(first, lengths, seed=1) != walk(first, lengths, seed=2)).any()
    assert walk(first, [], seed=1).shape == (1, 3, 4)
    assert walk(first, [], seed=1, straight=True).shape == (1, 3, 4)


def test_directions_favour_no_coordinate():
    """Mean 0 and variance 1/(n d) in every coordinate, within five standard errors."""
    steps = np.diff(walk(np.zeros((2, 3)), [1.0] * 4000, seed=0), axis=0).reshape(4000, 6)
    assert (np.abs(steps.mean(axis=0)) < 5 * np.sqrt(1 / 6 / 4000)).all()
    assert (np.abs(steps.var(axis=0) * 6 - 1) < 5 * np.sqrt(2 / 4000)).all()


def test_a_walk_grows_the_cloud_and_keeps_its_shape():
    """Notes of `walk`: the scale-free summaries stay, the lifespans grow."""
    n, d, spread, length, many = 30, 200, 0.02, 0.4, 50
    first = np.random.default_rng(0).normal(size=(n, d)) * spread
    last = walk(first, [length] * many, seed=1)[-1]
    assert last.std() == pytest.approx(np.sqrt(spread**2 + many * length**2 / (n * d)), rel=0.03)
    before, after = summarize(np.stack([first, last])).to_dict("records")
    assert after["h0_mean_lifespan"] > 1.5 * before["h0_mean_lifespan"]
    scaled = "h0_mean_lifespan_scaled"
    assert after[scaled] == pytest.approx(before[scaled], rel=0.03)


@pytest.mark.parametrize("lengths", [[-1.0], [np.nan], [np.inf]])
def test_lengths_that_are_none_are_refused(lengths):
    with pytest.raises(InputError, match="lengths"):
        walk(np.zeros((2, 2)), lengths, seed=0)


def test_a_bank_is_not_one_prompt():
    with pytest.raises(InputError, match="first"):
        walk(np.zeros((2, 2, 2)), [1.0], seed=0)


def test_every_row_moves_as_far_as_it_did_and_elsewhere():
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 6, 50))
    found = displaced(first, last, seed=1)
    far = np.linalg.norm(last - first, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found - first, axis=1), far)
    turned = ((found - first) * (last - first)).sum(1) / far**2
    assert np.abs(turned).max() < 0.6  # cosines of random directions in 50 dimensions
    with pytest.raises(InputError, match="last"):
        displaced(first, last[:3], seed=1)


def test_nulls_of_a_trained_run(smoke):
    run = smoke.read(smoke.ids()[0])
    found = nulls(run, draws=3)
    each = [kind for kind in KINDS for _ in range(3)]
    assert found.kind.tolist() == [kind for kind in ("training", *each) for _ in range(2)]
    assert found[found.kind == KINDS[0]].draw.tolist() == [0, 0, 1, 1, 2, 2]
    checks = run.topology.sort_values("epoch")
    own = found[found.kind == "training"]
    assert own.h1_count.tolist() == [checks.h1_count.iloc[0], checks.h1_count.iloc[-1]]
    start = found[~found.end].mean_distance
    np.testing.assert_allclose(start, start.iloc[0])
    last = found[found.end & (found.kind != "training")].mean_distance
    assert last.nunique() == len(last) == 9  # no two draws and no two kinds share directions
    pd.testing.assert_frame_equal(found, nulls(run, draws=3))
    fewer = nulls(run, draws=1)
    assert fewer.mean_distance.tolist() == found[found.draw == 0].mean_distance.tolist()


def test_two_runs_of_a_seed_move_in_directions_of_their_own(smoke):
    both = [run for run in smoke.valid_runs()[0] if run.spec.seed == 0][:2]
    drawn = [_stream(run, "random walk", 0).normal(size=400) for run in both]
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.2


def test_walks_start_where_the_prompt_did_and_take_its_steps(smoke, monkeypatch):
    from tsp.analysis import movement as module

    run, walks = smoke.read(smoke.ids()[0]), []
    monkeypatch.setattr(
        module, "walk", lambda *given, **more: walks.append(walk(*given, **more)) or walks[-1]
    )
    nulls(run, draws=1)
    lengths = run.epochs.moved.to_numpy()
    for path in walks:
        np.testing.assert_allclose(path[0], run.prompt(0).double().numpy())
        steps = np.linalg.norm(np.diff(path, axis=0), axis=(1, 2))
        np.testing.assert_allclose(steps, lengths)


def test_a_run_without_steps_is_told(tmp_path):
    store = Store(tmp_path)
    run = store.read(stored(store))
    with pytest.raises(InputError, match="train it again"):
        nulls(run)


def test_a_start_that_is_not_stored_is_drawn_apart_from_the_directions(smoke, monkeypatch):
    """Else the straight walk would scale the cloud, and no distance would change its ratio."""
    from tsp.analysis import movement as module
    from tsp.store.runs import Run

    run = smoke.read(smoke.ids()[0])
    monkeypatch.setattr(Run, "prompt_epochs", property(lambda self: []))
    walks = []

    def noted(*given, **more):
        walks.append(walk(*given, **more))
        return walks[-1]

    monkeypatch.setattr(module, "walk", noted)
    found = nulls(run, draws=2)
    assert "rows as far" not in set(found.kind)
    for path in walks:
        first, moved = path[0], path[-1] - path[0]
        cosine = (first * moved).sum() / np.linalg.norm(first) / np.linalg.norm(moved)
        assert abs(cosine) < 5 / np.sqrt(first.size)
