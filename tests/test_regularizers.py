"""The regularisers TSLoss is compared with: values by hand, gradients, and what they agree with."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.test_loss import PROPERTY, cloud, seeds
from tsp import TSLoss
from tsp.errors import InputError
from tsp.regularizers import METHODS, persistence, regularizer
from tsp.topology.diagrams import lifespans
from tsp.topology.diagrams import persistence as diagrams_of
from tsp.topology.rips import rips_edges

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
methods = pytest.mark.parametrize("method", METHODS)


def test_values_by_hand():
    # The unit square with its corner at the origin; Rips: deaths 1, 1, 1, one loop [1, sqrt(2)].
    values = {m: regularizer(m, loss=TSLoss(beta_h1=3))(SQUARE[None]) for m in METHODS}
    assert values["ce"].tolist() == [0]
    assert values["tsloss"].tolist() == TSLoss(beta_h1=3)(SQUARE[None]).tolist()
    assert values["l2"].tolist() == pytest.approx([(0 + 1 + 2 + 1) / 4])
    assert values["pairwise"].tolist() == pytest.approx([(4 * 1 + 2 * 2) / 6])
    assert values["persistence"].tolist() == pytest.approx([3 * (math.sqrt(2) - 1)])


@pytest.mark.parametrize(
    ("points", "variance"),
    [([0, 1, 3, 8], (1 + 4 + 25 - 64 / 3) / 3), ([0, 0, 3], 2.25)],  # deaths 1, 2, 5; 0, 3
)
def test_persistence_variance_by_hand(points, variance):
    P = torch.tensor(points, dtype=torch.float64)[:, None]
    assert persistence(P, beta_h0=2).item() == pytest.approx(2 * variance)


def test_persistence_gradient_of_a_rectangle_by_hand():
    # Sides 3 and 4: deaths 3, 3, 4; the loop is born at the long side 4 and dies at the
    # diagonal 5. Stretching x by (1 + t) changes 4 by 4 and 5 by 16/5.
    P = torch.tensor([[0, 0], [4, 0], [4, 3], [0, 3]], dtype=torch.float64, requires_grad=True)
    value = persistence(P, beta_h0=0)
    stretch = (torch.autograd.grad(value, P)[0] * P.detach() * torch.tensor([1.0, 0.0])).sum()
    assert value.item() == pytest.approx(1)
    assert stretch.item() == pytest.approx(16 / 5 - 4)


@pytest.mark.parametrize("weights", [{"beta_h1": 0.0}, {"beta_h0": 0.0}, {"beta_h0": 2.0}])
def test_persistence_gradient_against_finite_differences(weights):
    P = cloud(25, 2).requires_grad_()
    assert torch.autograd.grad(persistence(P, **weights), P)[0].abs().max() > 0.01
    assert torch.autograd.gradcheck(lambda X: persistence(X, **weights), P)


@given(seed=seeds, n=st.integers(1, 20), d=st.integers(1, 5))
@PROPERTY
def test_persistence_agrees_with_the_diagrams(seed, n, d):
    P = cloud(n, d, seed=seed)
    diagrams = diagrams_of(P)
    deaths, loops = lifespans(diagrams[0]), lifespans(diagrams[1])
    expected = 0.5 * (deaths.var() if n > 1 else 0.0) + 2 * loops.sum()
    assert persistence(P, beta_h0=0.5, beta_h1=2).item() == pytest.approx(expected, abs=1e-9)


@given(seed=seeds, n=st.integers(2, 9), d=st.integers(1, 5))
@PROPERTY
def test_pairwise_agrees_with_the_sum_over_pairs(seed, n, d):
    P = cloud(n, d, seed=seed) + 3
    pairs = [(P[i] - P[j]).square().sum() for i in range(n) for j in range(n) if i != j]
    value = regularizer("pairwise", loss=TSLoss())(P[None]).item()
    assert value == pytest.approx((sum(pairs) / len(pairs)).item())


@methods
def test_a_bank_equals_its_prompts_one_by_one(method):
    function, bank = regularizer(method, loss=TSLoss()), cloud(4, 9, 3).requires_grad_()
    value = function(bank)
    gradient = torch.autograd.grad(value.sum(), bank)[0]
    assert value.shape == (4,)
    for r, prompt in enumerate(bank.detach()):
        alone = prompt[None].clone().requires_grad_()
        assert torch.allclose(function(alone), value[r])
        assert torch.allclose(torch.autograd.grad(function(alone).sum(), alone)[0][0], gradient[r])


@methods
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_degenerate_prompts_stay_finite(method, dtype):
    function = regularizer(method, loss=TSLoss())
    for points in (torch.zeros(2, 1, 3), torch.ones(2, 4, 3), cloud(2, 2, 3)):
        P = points.to(dtype).requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no division by the largest of no distances
            value = function(P)
        gradient = torch.autograd.grad(value.sum(), P)[0]
        assert value.shape == (2,)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@methods
def test_nan_propagates(method):
    P = cloud(2, 5, 3)
    P[1, 2, 0] = math.nan
    P.requires_grad_()
    value = regularizer(method, loss=TSLoss())(P)
    assert value[0].isfinite()
    assert value[1].isnan() or method == "ce"
    gradient = torch.autograd.grad(value.sum(), P)[0]
    assert torch.count_nonzero(gradient) == 0 if method == "ce" else gradient[1].isnan().any()


@pytest.mark.parametrize("factor", [1e-60, 1e60])
def test_no_scale_is_too_small_or_too_large(factor):
    P = cloud(20, 2)
    assert persistence(P).item() > 0
    grown = persistence(P * factor, beta_h1=factor).item()
    assert grown / factor**2 == pytest.approx(persistence(P).item())


def test_rips_edges_are_the_edges_of_the_square():
    edges = rips_edges(np.linalg.norm(SQUARE[:, None].numpy() - SQUARE[None].numpy(), axis=-1))
    sides, diagonals = {(0, 1), (1, 2), (2, 3), (0, 3)}, {(0, 2), (1, 3)}
    deaths = {tuple(sorted(edge)) for edge in edges.h0_death.tolist()}
    assert len(deaths) == 3
    assert deaths < sides
    assert {tuple(sorted(edge)) for edge in edges.h1_birth.tolist()} == sides - deaths
    assert tuple(sorted(edges.h1_death[0].tolist())) in diagonals


def test_unknown_method_is_refused():
    with pytest.raises(InputError, match="method = 'l1': choose one of ce, tsloss, l2"):
        regularizer("l1", loss=TSLoss())


@methods
def test_wrong_shape_is_refused(method):
    with pytest.raises(InputError, match="prompts"):
        regularizer(method, loss=TSLoss())(torch.zeros(2, 0, 3))
