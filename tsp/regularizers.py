"""What TSLoss is compared with: nothing, L2, pairwise distances, exact persistence.

All of them take a bank of prompts and give one number a prompt, as TSLoss does.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tsp.errors import InputError
from tsp.loss import TSLoss, as_cloud, distance_matrix

METHODS = ("ce", "tsloss", "l2", "pairwise", "persistence")

# Float32 coordinates cannot tell a bar this short, against its death, from one of length zero.
RESOLUTION = 2 * float(np.finfo(np.float32).eps)
ONE = np.float32(1).view(np.uint32)  # floats above 1 are ordered as the integers of their bits

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


class RipsEdges(NamedTuple):
    """The edges whose lengths are the finite births and deaths of a Rips filtration.

    Attributes
    ----------
    h0_death
        Shape ``(k, 2)``: the points whose edge merges two components; their births are 0.
    h1_birth, h1_death
        Shape ``(m, 2)``: the edge that closes each loop, and the longest edge of the triangle
        that fills it.
    """

    h0_death: np.ndarray
    h1_birth: np.ndarray
    h1_death: np.ndarray


def regularizer(method: str, *, loss: TSLoss) -> Callable[[Tensor], Tensor]:
    """Choose what is added to the cross-entropy, times lambda_ts.

    Parameters
    ----------
    method
        ``ce`` (zeros), ``tsloss``, ``l2``, ``pairwise`` or ``persistence``.
    loss
        Is itself the method ``tsloss``; ``persistence`` takes its beta_h0 and beta_h1 from it.

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
        "ce": nothing,
        "tsloss": loss,
        "l2": l2,
        "pairwise": pairwise,
        "persistence": lambda P: persistence(P, beta_h0=loss.beta_h0, beta_h1=loss.beta_h1),
    }
    if method not in methods:
        raise InputError("method", method, f"choose one of {', '.join(METHODS)}")
    return methods[method]


def nothing(prompts: Tensor) -> Tensor:
    """Zeros, with a zero gradient: cross-entropy alone. ``(..., n, d)`` gives ``(...)``."""
    return as_cloud(prompts).flatten(-2)[..., :0].sum(-1)  # an empty sum still has a gradient


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

    This is what TSLoss stands for, without its approximations.

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
    length: the diagram's pairing is computed without gradient and the lengths are read from the
    differentiable distance matrix. The variance is over the n - 1 finite deaths, coincident
    points counting with deaths of 0. nan propagates. The pairing runs on the CPU, one cloud
    after another.

    References
    ----------
    Carrière et al., Optimizing persistent homology based functions, ICML 2021.
    """
    D = distance_matrix(as_cloud(prompts))
    if D.ndim == 2:
        return _persistence(D, beta_h0, beta_h1)
    return torch.stack([_persistence(cloud, beta_h0, beta_h1) for cloud in D])


def _persistence(D: Tensor, beta_h0: float, beta_h1: float) -> Tensor:
    """The exact persistence loss of one cloud from its distances ``(n, n)``."""
    if not bool(D.isfinite().all()):
        return D.sum() * math.nan  # the engine would find no bars: 0, as if all were well
    edges = rips_edges(D.detach().cpu().double().numpy())
    deaths = _lengths(D, edges.h0_death)
    count = max(D.shape[0] - 1, 1)
    mean = deaths.sum() / count
    # Deaths of 0, between coincident points, are not in the list: each deviates by the mean.
    variance = ((deaths - mean).square().sum() + (count - len(deaths)) * mean.square()) / count
    lifespans = _lengths(D, edges.h1_death) - _lengths(D, edges.h1_birth)
    return beta_h0 * variance + beta_h1 * lifespans.sum()


def _lengths(D: Tensor, edges: np.ndarray) -> Tensor:
    """Lengths of ``edges`` (k, 2) in the distance matrix, shape (k,)."""
    i, j = torch.as_tensor(edges, device=D.device).unbind(1)
    return D[i, j]


def rips_edges(D: np.ndarray) -> RipsEdges:
    """Pair the edges of the Vietoris–Rips filtration up to dimension 1 (equations 9 to 11).

    Parameters
    ----------
    D
        Finite distances, float64, shape ``(n, n)``.

    Returns
    -------
    RipsEdges
        Bars of length zero, which is what coincident points make, are left out, and so are those
        in dimension 1 that `rips_pairs` cannot tell from them.
    """
    edges = np.column_stack(np.triu_indices(len(D), 1))
    (pairs,) = rips_pairs(D[None, edges[:, 0], edges[:, 1]])
    return RipsEdges(*(edges[positions] for positions in pairs))


def rips_pairs(lengths: np.ndarray) -> list[Pairs]:
    """Find which edges' lengths are the finite births and deaths of Rips filtrations.

    Parameters
    ----------
    lengths
        Finite lengths of all edges of B clouds, float64, shape ``(B, n (n - 1) / 2)``, in the
        order of ``scipy.spatial.distance.pdist``.

    Returns
    -------
    list of (h0_death, h1_birth, h1_death)
        Positions among a cloud's edges, shapes ``(k,)``, ``(m,)`` and ``(m,)``; H0 deaths ascend.
        Bars of length zero are left out, and so are bars of H1 shorter than `RESOLUTION` of their
        death.

    Notes
    -----
    Coefficients are Z/2 and the filtration is whole. The engine is giotto-ph's public function,
    the one below giotto-tda's ``VietorisRipsPersistence``. It compares in float32, so it is given
    the edges' ranks instead of their lengths: it orders them exactly at any scale, and each birth
    and death names its edge, which is quicker than asking the engine for its generators.

    Examples
    --------
    >>> h0_death, h1_birth, h1_death = rips_pairs(np.array([[1.0, 3.0, 2.0]]))[0]
    >>> h0_death.tolist()
    [0, 2]
    """
    from gph import ripser_parallel  # a bare GPU host, which only trains, has neither
    from scipy.spatial.distance import squareform

    order = lengths.argsort(axis=1, kind="stable")  # ties in the edges' order, on every machine
    ranks = np.empty(order.shape, np.float32)
    np.put_along_axis(ranks, order, _float_ranks(order.shape[1]), axis=1)
    matrices = [_central_last(squareform(cloud)) for cloud in ranks]
    # The engine starts a thread for each call, which wakes sooner while nothing comes between.
    engine: Any = partial(ripser_parallel, maxdim=1, metric="precomputed")
    found = [engine(matrix)["dgms"] for matrix in matrices]
    return [_pairs(*of_cloud) for of_cloud in zip(lengths, order, found, strict=True)]


def _pairs(lengths: np.ndarray, order: np.ndarray, found: list[np.ndarray]) -> Pairs:
    """Read one cloud's edges off the engine's bars of ranks; drop the bars of length zero."""
    h0, h1 = found
    deaths = order[np.sort(_positions(h0[np.isfinite(h0[:, 1]), 1]))]
    birth, death = order[_positions(h1)].T
    lasting = lengths[death] - lengths[birth] > RESOLUTION * lengths[death]
    return deaths[lengths[deaths] > 0], birth[lasting], death[lasting]


def _float_ranks(count: int) -> np.ndarray:
    """The first ``count`` float32 numbers from 1 on; counting 1, 2, 3, ... would end at 2^24."""
    return (np.arange(count, dtype=np.uint32) + ONE).view(np.float32)


def _positions(ranks: np.ndarray) -> np.ndarray:
    """Invert `_float_ranks`: positions from 0 on, in the shape of ``ranks``."""
    return ranks.view(np.uint32) - ONE


def _central_last(ranks: np.ndarray) -> np.ndarray:
    """Renumber the points of ``(n, n)`` ranks from far out to central.

    The engine tries the last points first when it looks for a triangle no longer than a given
    edge, and central points make such triangles: a sixth faster for clouds in many dimensions.
    """
    order = ranks.sum(axis=0, dtype=np.float64).argsort()[::-1]
    return ranks[order][:, order]
