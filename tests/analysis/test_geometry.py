"""Bars that move, noise that explains them: against finite differences, theorems and gudhi."""

from functools import partial

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import directed_hausdorff, pdist

from tsp.analysis.equation13 import surrogate, two_pairs
from tsp.analysis.forces import bar_rates, forces
from tsp.analysis.geometry import bottleneck, confidence_band, gaussian_counts, stability_bound
from tsp.errors import InputError
from tsp.loss import TSLoss
from tsp.topology.diagrams import persistence

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def cloud(seed, n=9, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=seeds)
@PROPERTY
def test_rates_are_finite_differences(seed):
    """Bars before and after a tiny step, in the same order; no pair of edges changes places."""
    X, V, step = cloud(seed), cloud(seed + 1), 1e-7
    rates = bar_rates(X, V)
    for dimension in (0, 1):
        before, after = (persistence(P)[dimension] for P in (X, X + step * V))
        before, after = (bars[np.isfinite(bars[:, 1])] for bars in (before, after))
        mine = rates[rates.dimension == dimension].sort_values(["birth", "death"])
        moved = (after - before) / step
        np.testing.assert_allclose(mine.birth_rate, moved[:, 0], atol=1e-5)
        np.testing.assert_allclose(mine.death_rate, moved[:, 1], atol=1e-5)
    assert rates.lifespan_rate.equals(rates.death_rate - rates.birth_rate)
    with pytest.raises(InputError, match="velocity"):
        bar_rates(X, V[:3])


@pytest.mark.parametrize("term", ["h0", "repel", "attract"])
def test_forces_are_descents_of_one_term(term, monkeypatch):
    """A step along the force lowers the term, and the bars move as they are told to."""
    monkeypatch.setattr("tsp.analysis.forces.TSLoss", partial(TSLoss, alpha=1.0))  # soft thresholds
    X, step, loss = cloud(3), 1e-6, TSLoss(alpha=1.0)
    P = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(getattr(loss.terms(P), term), P)
    mine = forces(X).query("term == @term and dimension == 0").sort_values("death")
    moved = X - step * gradient
    before, after = (persistence(points)[0][:-1, 1] for points in (X, moved))
    np.testing.assert_allclose(mine.lifespan_rate, (after - before) / step, atol=1e-4)
    lowered = getattr(loss.terms(moved), term) - getattr(loss.terms(X), term)
    assert lowered.item() == pytest.approx(-step * gradient.square().sum().item(), rel=1e-3)


def test_equation_13_fails_for_two_pairs():
    row = surrogate([two_pairs(1.0, 10.0)], tau=0.01).iloc[0]
    assert row.soft_variance == pytest.approx(0, abs=1e-12)
    assert row.nearest_variance == 0
    assert row.death_variance == pytest.approx(np.var([1, 1, 10]))


@given(seed=seeds, tau=st.sampled_from([0.01, 0.1, 1.0]))
@PROPERTY
def test_equation_13_equates_tsloss_and_persistence(seed, tau):
    points = cloud(seed)
    row = surrogate([points.numpy()], tau=tau).iloc[0]
    assert row.soft_variance == pytest.approx(TSLoss(tau=tau).terms(points).h0.item(), rel=1e-6)
    deaths = persistence(points)[0][:, 1]
    assert row.death_variance == pytest.approx(deaths[np.isfinite(deaths)].var(), rel=1e-6)
    sharp = surrogate([points.numpy()], tau=1e-4).iloc[0]
    assert sharp.soft_variance == pytest.approx(sharp.nearest_variance, abs=1e-3)


def test_deaths_of_coincident_points_count_as_zero():
    row = surrogate([np.array([[0.0], [0.0], [1.0]])]).iloc[0]
    assert row.death_variance == pytest.approx(np.var([0, 1]))


def test_counts_of_gaussian_clouds():
    counts, rng = gaussian_counts(20, 10), np.random.default_rng(0)
    scaled = [len(persistence(3 * rng.normal(size=(20, 10)))[1]) for _ in counts]
    assert counts.tolist() == scaled


def test_the_band_is_the_quantile_of_subsamples():
    """Against SciPy's Hausdorff distances; and a denser sample of a circle has a narrower band."""
    rng, bands = np.random.default_rng(7), []
    for n in (50, 200):
        angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        bands.append(confidence_band(circle))
        samples = [rng.permutation(circle)[: round(n / np.log(n))] for _ in range(300)]
        away = [directed_hausdorff(circle, sample)[0] for sample in samples]
        assert bands[-1] == pytest.approx(4 * np.quantile(away, 0.95), rel=0.15)
        assert bands[-1] == confidence_band(circle)
    assert bands[1] < 0.8 * bands[0]
    assert confidence_band([[0.0], [1.0]]) == 0


def test_the_band_of_a_prompt_is_as_wide_as_its_distances():
    prompt = np.random.default_rng(0).normal(size=(40, 576)) * 0.02
    deaths = persistence(prompt)[0][:-1, 1]
    assert 2 * confidence_band(prompt) > deaths.max()


@given(seed=seeds, noise=st.floats(0, 0.3))
@PROPERTY
def test_the_stability_theorem(seed, noise):
    """No diagram moves by more than the largest change of a distance; the distance is gudhi's."""
    X = cloud(seed).numpy()
    Y = X + noise * np.random.default_rng(seed).normal(size=X.shape)
    bound = stability_bound(X, Y)
    assert bound == pytest.approx(np.abs(pdist(X) - pdist(Y)).max())
    one, other = persistence(X), persistence(Y)
    for dimension in (0, 1):
        bars = [pairs[np.isfinite(pairs[:, 1])] for pairs in (one[dimension], other[dimension])]
        distance = bottleneck(one, other, dimension)
        assert distance == pytest.approx(gudhi.bottleneck_distance(*bars), abs=1e-9)
        assert distance <= bound + 1e-9
