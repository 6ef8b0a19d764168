"""One regulariser per method: TSLoss (`tsp.loss`), or none, L2, pairwise, persistence instead."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tsp.errors import InputError
from tsp.loss import TSLoss, as_cloud, distance_matrix
from tsp.topology.rips import rips_edges

METHODS = ("ce", "tsloss", "l2", "pairwise", "persistence")


def regularizer(method: str, *, loss: TSLoss) -> Callable[[Tensor], Tensor]:
    """Return the regulariser of a method, which a trainer adds to the cross-entropy.

    Parameters
    ----------
    method
        ``ce`` (zeros), ``tsloss``, ``l2``, ``pairwise`` or ``persistence``.
    loss
        The regulariser of ``tsloss``; ``persistence`` takes its beta_h0 and beta_h1.

    Returns
    -------
    callable
        From a bank ``(R, n, d)`` to ``(R,)``, differentiable, float32 for half types.

    Raises
    ------
    InputError
        For an unknown method.

    Examples
    --------
    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> for method in METHODS:
    ...     value = regularizer(method, loss=TSLoss())(square)
    ...     print(method, round(value.item(), 4))
    ce 0.0
    tsloss 0.0001
    l2 1.0
    pairwise 1.3333
    persistence 0.4142
    """
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        # A sum over nothing is 0 and still has a gradient.
        "ce": lambda P: as_cloud(P).flatten(-2)[..., :0].sum(-1),
        "tsloss": loss,
        "l2": l2,
        "pairwise": pairwise,
        "persistence": lambda P: persistence(P, beta_h0=loss.beta_h0, beta_h1=loss.beta_h1),
    }
    if method not in methods:
        raise InputError("method", method, f"choose one of {', '.join(METHODS)}")
    return methods[method]


def l2(prompts: Tensor) -> Tensor:
    """Mean squared norm of the rows. ``(..., n, d)`` gives ``(...)``."""
    return as_cloud(prompts).square().sum(-1).mean(-1)


def pairwise(prompts: Tensor) -> Tensor:
    """Mean squared distance over the pairs i ≠ j. ``(..., n, d)`` gives ``(...)``.

    Notes
    -----
    Computed as 2/(n - 1) times the sum of squared distances to the centroid, which is the same
    number; 0 for a single point.
    """
    P = as_cloud(prompts)
    spread = (P - P.mean(dim=-2, keepdim=True)).square().sum(dim=(-2, -1))
    return spread * (2 / max(P.shape[-2] - 1, 1))


def persistence(prompts: Tensor, *, beta_h0: float = 1.0, beta_h1: float = 1.0) -> Tensor:
    """Exact persistence: beta_h0 Var(finite H0 deaths) + beta_h1 (sum of H1 lifespans).

    Its first part is what equation 2 stands for (equation 13); the second is this project's choice,
    which equation 5 does not approximate.

    Parameters
    ----------
    prompts
        ``(n, d)`` or ``(R, n, d)``.
    beta_h0, beta_h1
        Weights of the two parts, as in equation 8.

    Returns
    -------
    Tensor
        A scalar, or ``(R,)``; differentiable where all distances differ.

    Notes
    -----
    Every finite birth and death is the length of one edge, so its gradient is that of this
    length: the diagram's pairing is computed without gradient, on the CPU, and the lengths are
    read from the differentiable distance matrix. The variance is over the n - 1 finite deaths,
    coincident points counting with deaths of 0. nan propagates.

    References
    ----------
    Carrière et al., Optimizing persistent homology based functions, ICML 2021.
    """
    D = distance_matrix(as_cloud(prompts))
    if D.ndim == 2:
        return _persistence(D, beta_h0, beta_h1)
    return torch.stack([_persistence(cloud, beta_h0, beta_h1) for cloud in D])


def _persistence(D: Tensor, beta_h0: float, beta_h1: float) -> Tensor:
    """Compute the exact persistence loss of one cloud from its distances ``(n, n)``."""
    if not bool(D.isfinite().all()):
        return D.sum() * math.nan  # the engine would return no bars, hence 0
    edges = rips_edges(D.detach().cpu().double().numpy())
    deaths, births, ends = (
        D[tuple(torch.as_tensor(pairs, device=D.device).unbind(1))]  # (k, 2) -> (k,)
        for pairs in (edges.h0_death, edges.h1_birth, edges.h1_death)
    )
    count = max(D.shape[0] - 1, 1)
    mean = deaths.sum() / count
    # Deaths of 0, between coincident points, are not in the list: each deviates by the mean.
    variance = ((deaths - mean).square().sum() + (count - len(deaths)) * mean.square()) / count
    return beta_h0 * variance + beta_h1 * (ends - births).sum()
