"""TSLoss against hand-computed values, the printed sums, and the geometry it must respect."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsp import TSLoss
from tsp.errors import InputError
from tsp.loss import Terms, distance_matrix, without_diagonal

RIGHT_TRIANGLE = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("self_pairs", [False, True])


def cloud(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def gradients(terms: Terms, P: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradient of each loss among the terms."""
    return {
        name: torch.autograd.grad(getattr(terms, name).sum(), P, retain_graph=True)[0]
        for name in ("h0", "repel", "attract", "total")
    }


def printed_terms(points: list[list[float]], loss: TSLoss) -> dict[str, float | list[float]]:
    """Equations 1 to 8 as loops over i, j, k, l: nothing shared with the package."""
    n, tau, alpha = len(points), loss.tau, loss.alpha
    D = [[math.sqrt(sum((a - b) ** 2 for a, b in zip(p, q, strict=True))) for q in points]
         for p in points]  # fmt: skip
    pairs = [(i, j) for i in range(n) for j in range(n) if loss.self_pairs or i != j]
    s = [-tau * math.log(sum(math.exp(-D[i][j] / tau) for k, j in pairs if k == i))
         for i in range(n)]  # fmt: skip
    s_mean = sum(s) / n
    h0 = sum((x - s_mean) ** 2 for x in s) / n
    low = sum(math.exp(-alpha * D[k][m]) for k, m in pairs)
    high = sum(math.exp(alpha * D[k][m]) for k, m in pairs)
    delta = sum(math.exp(-alpha * D[i][j]) / low * D[i][j] for i, j in pairs)
    zeta = sum(math.exp(alpha * D[i][j]) / high * D[i][j] for i, j in pairs)
    repel = sum(max(0.0, delta - D[i][j]) ** 2 for i, j in pairs) / len(pairs)
    attract = sum(max(0.0, D[i][j] - zeta) ** 2 for i, j in pairs) / len(pairs)
    h1 = loss.lambda_repel * repel + loss.lambda_attract * attract
    total = loss.beta_h0 * h0 + loss.beta_h1 * h1
    return dict(zip(Terms._fields, (s, h0, delta, zeta, repel, attract, h1, total), strict=True))


def test_three_points_by_hand():
    # Distances 3, 4, 5; tau = alpha = 1.
    # s_1 = 3 - ln(1 + e^-1), s_2 = 3 - ln(1 + e^-2), s_3 = 4 - ln(1 + e^-1)
    # weights 1, e^-1, e^-2 over 1.5032147: delta = (3 + 4 e^-1 + 5 e^-2) / 1.5032147,
    # zeta = 8 - delta by symmetry; one pair of three below delta by 0.4247896, one above zeta.
    loss = TSLoss(tau=1, alpha=1, beta_h0=2, beta_h1=3, lambda_repel=5, lambda_attract=7)
    terms = loss.terms(RIGHT_TRIANGLE)
    assert terms.soft_nearest.tolist() == pytest.approx([2.6867383, 2.8730720, 3.6867383], abs=1e-7)
    hinge = 0.4247896**2 / 3
    expected = [0.1885303, 3.4247896, 4.5752104, hinge, hinge, 12 * hinge]
    assert [value.item() for value in terms[1:-1]] == pytest.approx(expected, abs=1e-6)
    assert terms.total.item() == pytest.approx(2 * 0.1885303 + 3 * 0.7217849, abs=1e-6)


def test_three_points_by_hand_with_self_pairs():
    # Three zeros join the six distances, so that s_1 = -ln(1 + e^-3 + e^-4), and so on;
    # delta = 2 (3 e^-3 + 4 e^-4 + 5 e^-5) / (3 + 2 (e^-3 + e^-4 + e^-5)), averages over 9.
    terms = TSLoss(tau=1, alpha=1, self_pairs=True).terms(RIGHT_TRIANGLE)
    nearest = [-0.0658839, -0.0549852, -0.0247448]
    assert terms.soft_nearest.tolist() == pytest.approx(nearest, abs=1e-7)
    expected = [0.1627552, 4.5446542, 0.1627552**2 * 3 / 9, (5 - 4.5446542) ** 2 * 2 / 9]
    assert [value.item() for value in terms[2:6]] == pytest.approx(expected, abs=1e-7)


@both
@given(seed=seeds, n=st.integers(2, 7), d=st.integers(1, 6))
@PROPERTY
def test_agrees_with_the_printed_sums(self_pairs, seed, n, d):
    loss = TSLoss(
        tau=0.3, alpha=4, beta_h0=2, beta_h1=0.5, lambda_repel=3, lambda_attract=0.25,
        self_pairs=self_pairs,
    )  # fmt: skip
    bank = cloud(2, n, d, seed=seed)
    for r, P in enumerate(bank):
        for name, expected in printed_terms(P.tolist(), loss).items():
            for value in (getattr(loss.terms(P), name), getattr(loss.terms(bank), name)[r]):
                assert value.tolist() == pytest.approx(expected, abs=1e-8), name
    assert torch.equal(loss(bank), loss.terms(bank).total)


@both
def test_gradcheck(self_pairs):
    loss, P = TSLoss(tau=0.5, alpha=2, self_pairs=self_pairs), cloud(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, P)
    assert torch.autograd.gradgradcheck(loss, P)


@both
def test_detached_thresholds_are_constants(self_pairs):
    """The gradient is that of a loss in which delta and zeta are numbers."""
    loss = TSLoss(tau=0.5, alpha=2, self_pairs=self_pairs, detach_thresholds=True)
    P = cloud(5, 3).requires_grad_()
    terms, D = loss.terms(P), distance_matrix(P)
    pairs = D if self_pairs else without_diagonal(D)
    below = (terms.delta.item() - pairs).clamp(min=0).square().mean()
    above = (pairs - terms.zeta.item()).clamp(min=0).square().mean()
    gradient = gradients(terms, P)["total"]
    expected = torch.autograd.grad(terms.h0 + below + above, P)[0]
    assert torch.allclose(gradient, expected, atol=1e-12)
    loss.detach_thresholds = False
    assert not torch.allclose(torch.autograd.grad(loss(P), P)[0], gradient, atol=1e-6)


def test_each_term_has_its_own_gradient():
    loss, P = TSLoss(tau=0.5, alpha=2, beta_h0=2, lambda_repel=3), cloud(3, 6, 4).requires_grad_()
    parts = gradients(loss.terms(P), P)
    assert all(part.abs().max() > 1e-4 for part in parts.values())
    assert torch.allclose(2 * parts["h0"] + 3 * parts["repel"] + parts["attract"], parts["total"])


@both
@given(seed=seeds)
@PROPERTY
def test_invariant_to_isometry_and_order(self_pairs, seed):
    loss, P = TSLoss(self_pairs=self_pairs), cloud(6, 4, seed=seed)
    rotation = torch.linalg.qr(cloud(4, 4, seed=seed + 1)).Q
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    moved = (P @ rotation + cloud(4, seed=seed + 2))[order]
    assert not torch.allclose(moved, P)
    assert loss(moved).item() == pytest.approx(loss(P).item(), rel=1e-9, abs=1e-12)
    assert torch.allclose(loss.terms(moved).soft_nearest, loss.terms(P).soft_nearest[order])


@given(seed=seeds, factor=st.floats(0.01, 100))
@PROPERTY
def test_growth_scales_the_terms(seed, factor):
    # With tau and 1/alpha growing alike, distances scale by the factor and losses by its square.
    P = cloud(5, 3, seed=seed)
    before = TSLoss(tau=0.1, alpha=10).terms(P)
    after = TSLoss(tau=0.1 * factor, alpha=10 / factor).terms(P * factor)
    assert torch.allclose(after.soft_nearest, before.soft_nearest * factor)
    assert torch.allclose(after.zeta, before.zeta * factor)
    assert torch.allclose(after.total, before.total * factor**2)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_coincident_points_stay_finite(self_pairs, dtype):
    P = cloud(4, 3, dtype=dtype)
    P = torch.cat([P, P[:2], P[:1]]).requires_grad_()  # a pair and a triple
    value = TSLoss(self_pairs=self_pairs)(P)
    gradient = torch.autograd.grad(value, P)[0]
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.dtype == dtype
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_distance_of_coincident_points_has_no_gradient():
    P = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]], requires_grad=True)
    D = distance_matrix(P)
    assert D[0].tolist() == [0, 0, 5]
    assert torch.autograd.grad(D[0, 1], P, retain_graph=True)[0].abs().max() == 0
    pulled = torch.autograd.grad(D[0, 2], P)[0]
    assert torch.allclose(pulled, torch.tensor([[-0.6, -0.8], [0.0, 0.0], [0.6, 0.8]]))


def test_close_points_far_away_keep_distance_and_gradient_in_float32():
    P = (1000 + cloud(1, 8) + cloud(2, 8, seed=1) / 1000).float().requires_grad_()
    x, y = P.detach().double()
    distance = distance_matrix(P)[0, 1]
    assert distance.item() == pytest.approx((x - y).norm().item(), rel=1e-6)
    gradient = torch.autograd.grad(distance, P)[0]
    assert torch.allclose(gradient[0].double(), (x - y) / (x - y).norm(), atol=1e-5)


@both
@pytest.mark.parametrize("shape", [(1, 5), (3, 1, 5)])
def test_one_point_makes_every_term_zero(self_pairs, shape):
    P = cloud(*shape).requires_grad_()
    terms = TSLoss(self_pairs=self_pairs).terms(P)
    assert all(torch.count_nonzero(value) == 0 for value in terms)
    assert terms.total.shape == shape[:-2]
    assert all(torch.count_nonzero(part) == 0 for part in gradients(terms, P).values())


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_coordinates_stay_finite(self_pairs, dtype):
    P = (cloud(3, 20, 64).sign() * 1e9).to(dtype)
    P[1] *= torch.linspace(0, 1, 20, dtype=dtype)[:, None]
    P[2, 1:] = P[2, 0] / 1e9  # one point far off, nineteen together
    P.requires_grad_()
    terms = TSLoss(self_pairs=self_pairs).terms(P)
    assert all(value.isfinite().all() for value in (*terms, *gradients(terms, P).values()))
    assert self_pairs or (terms.total > 1e12).any()


def test_half_precision_is_computed_in_float32():
    P = cloud(2, 12, 32, dtype=torch.bfloat16)
    assert torch.equal(TSLoss()(P), TSLoss()(P.float()))


def test_self_pairs_lose_the_nearest_neighbour():
    P = 3 * cloud(10, 16)  # distances of about 17, tau = 0.1
    printed, meant = TSLoss(self_pairs=True).terms(P), TSLoss(self_pairs=False).terms(P)
    assert printed.soft_nearest.abs().max() < 1e-8
    assert printed.delta < 1e-8
    assert torch.allclose(meant.soft_nearest, without_diagonal(torch.cdist(P, P)).amin(1), atol=0.1)
    assert meant.delta > 10


def test_small_tau_gives_nearest_neighbours_and_large_alpha_the_extremes():
    P = cloud(9, 5)
    pairs = without_diagonal(torch.cdist(P, P))
    terms = TSLoss(tau=1e-6, alpha=1e6).terms(P)
    assert torch.allclose(terms.soft_nearest, pairs.min(-1).values, atol=1e-5)
    assert torch.allclose(terms.delta, pairs.min())
    assert torch.allclose(terms.zeta, pairs.max())
    assert max(terms.repel, terms.attract) < 1e-12


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3, 4), (0, 4), (4, 0), (2, 0, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"prompts = .*\(n, d\) or \(R, n, d\)"):
        TSLoss()(torch.zeros(shape))


@pytest.mark.parametrize("wrong", [torch.zeros(3, 2, dtype=torch.long), [[0.0, 1.0]]])
def test_what_is_not_a_floating_tensor_is_refused(wrong):
    with pytest.raises(InputError, match="floating-point"):
        TSLoss()(wrong)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("tau", 0, "above 0"),
        ("alpha", -1, "above 0"),
        ("alpha", math.inf, "finite"),
        ("tau", "warm", "number"),
        ("beta_h0", -0.5, "at least 0"),
        ("beta_h1", math.nan, "finite"),
        ("lambda_repel", None, "number"),
        ("lambda_attract", math.inf, "finite"),
    ],
)
def test_wrong_settings_name_the_field(field, value, remedy):
    with pytest.raises(InputError, match=f"^{field} = .*{remedy}"):
        TSLoss(**{field: value})


def test_settings_are_keywords_and_no_parameters():
    with pytest.raises(TypeError):
        TSLoss(0.1)  # type: ignore[misc]
    loss = TSLoss(tau=0.25, self_pairs=True)
    assert list(loss.parameters()) == []
    assert "tau=0.25" in repr(loss)
    assert "self_pairs=True" in repr(loss)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    P = cloud(64, 100, 256, dtype=torch.float32)
    sides = [P.clone().requires_grad_(), P.cuda().requires_grad_()]
    values = [TSLoss()(side) for side in sides]
    assert torch.allclose(values[0], values[1].cpu(), rtol=1e-4)
    parts = [
        torch.autograd.grad(value.sum(), side)[0].cpu()
        for value, side in zip(values, sides, strict=True)
    ]
    assert torch.allclose(*parts, rtol=1e-3, atol=1e-7)
