"""Null models move a prompt by given lengths, in directions that favour nothing."""

import numpy as np
import pytest

from tsp.errors import InputError
from tsp.topology.diagrams import summarize
from tsp.topology.null_models import displaced, walk


@pytest.mark.parametrize("straight", [False, True])
def test_steps_are_as_long_as_asked_for(straight):
    first = np.random.default_rng(1).normal(size=(5, 7))
    lengths = [0.5, 0.0, 2.0, 1e-3]
    path = walk(first, lengths, seed=3, straight=straight)
    assert path.shape == (5, 5, 7)
    assert (path[0] == first).all()
    moved = np.sqrt((np.diff(path, axis=0) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(moved, lengths, atol=1e-12)
    end = np.linalg.norm(path[-1] - first)
    assert end == pytest.approx(sum(lengths)) if straight else end < sum(lengths)
    assert (path == walk(first, lengths, seed=3, straight=straight)).all()
    assert (path != walk(first, lengths, seed=2, straight=straight)).any()
    assert walk(first, [], seed=1, straight=straight).shape == (1, 5, 7)


def test_directions_favour_no_coordinate():
    """Mean 0 and variance 1/(n d) in every coordinate, within five standard errors."""
    steps = np.diff(walk(np.zeros((2, 3)), [1.0] * 4000, seed=0), axis=0).reshape(4000, 6)
    assert (np.abs(steps.mean(axis=0)) < 5 * np.sqrt(1 / 6 / 4000)).all()
    assert (np.abs(steps.var(axis=0) * 6 - 1) < 5 * np.sqrt(2 / 4000)).all()


def test_a_walk_grows_the_cloud_and_keeps_its_shape():
    """Notes of `walk`: the scale-free summaries stay, the lifespans grow."""
    n, d, spread, length, steps = 30, 200, 0.02, 0.4, 50
    first = np.random.default_rng(0).normal(size=(n, d)) * spread
    last = walk(first, [length] * steps, seed=1)[-1]
    assert last.std() == pytest.approx(np.sqrt(spread**2 + steps * length**2 / (n * d)), rel=0.03)
    before, after = summarize(np.stack([first, last])).to_dict("records")
    assert after["h0_mean_lifespan"] > 1.5 * before["h0_mean_lifespan"]
    scaled = "h0_mean_lifespan_scaled"
    assert after[scaled] == pytest.approx(before[scaled], rel=0.03)


def test_every_row_moves_as_far_as_it_did_and_elsewhere():
    first, last = np.random.default_rng(0).normal(size=(2, 6, 50))
    end = displaced(first, last, seed=1)
    far = np.linalg.norm(last - first, axis=1)
    np.testing.assert_allclose(np.linalg.norm(end - first, axis=1), far)
    turned = ((end - first) * (last - first)).sum(1) / far**2
    assert np.abs(turned).max() < 0.6  # cosines of random directions in 50 dimensions


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda: walk(np.zeros((2, 2)), [-1.0], seed=0), "lengths"),
        (lambda: walk(np.zeros((2, 2)), [np.nan], seed=0), "lengths"),
        (lambda: walk(np.zeros((2, 2)), [np.inf], seed=0), "lengths"),
        (lambda: walk(np.zeros((2, 2, 2)), [1.0], seed=0), "first"),
        (lambda: displaced(np.zeros((6, 5)), np.zeros((3, 5)), seed=1), "last"),
    ],
)
def test_wrong_input_is_refused(wrong, field):
    with pytest.raises(InputError, match=field):
        wrong()
