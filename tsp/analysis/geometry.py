"""The bars of a prompt: how forces move them, and which of them noise explains."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cdist, pdist, squareform
from torch import Tensor

from tsp.errors import InputError
from tsp.loss import TSLoss, as_cloud
from tsp.topology.diagrams import Diagrams, lifespans, persistence, summarize
from tsp.topology.rips import rips_edges
from tsp.training.penalties import TERMS

CLOUDS = 40  # Gaussian clouds whose bars a figure shows
LEVEL, DRAWS = 0.95, 500  # of a confidence band, and the subsamples it is made from


def bar_rates(points: Tensor, velocity: Tensor) -> pd.DataFrame:
    """Return how fast each finite bar changes when the points (n, d) move at a velocity (n, d).

    Every finite birth and death is the length of one edge (i, j), and as long as the order of
    the edges stays that length changes by <x_i - x_j, v_i - v_j> / D_ij.

    Returns
    -------
    DataFrame
        One row per bar: ``dimension``, ``birth``, ``death``, and the rates ``birth_rate``,
        ``death_rate``, ``lifespan_rate`` (distance per unit of time).
    """
    X, V = as_cloud(points).detach().double(), velocity.detach().double()
    if X.shape != V.shape or X.ndim != 2:
        raise InputError("velocity", tuple(V.shape), f"give the points' shape {tuple(X.shape)}")
    edges = rips_edges(squareform(pdist(X.numpy())))
    death0, death0_rate = _lengths(X, V, edges.h0_death)
    birth1, birth1_rate = _lengths(X, V, edges.h1_birth)
    death1, death1_rate = _lengths(X, V, edges.h1_death)
    zeros = np.zeros_like(death0)
    columns = {
        "dimension": np.repeat([0, 1], [len(death0), len(death1)]),
        "birth": np.concatenate([zeros, birth1]),
        "death": np.concatenate([death0, death1]),
        "birth_rate": np.concatenate([zeros, birth1_rate]),
        "death_rate": np.concatenate([death0_rate, death1_rate]),
    }
    return pd.DataFrame(columns).assign(
        lifespan_rate=lambda bars: bars.death_rate - bars.birth_rate
    )


def _lengths(X: Tensor, V: Tensor, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of some edges and how fast they change."""
    i, j = torch.as_tensor(edges).unbind(1)
    across = X[i] - X[j]
    lengths = across.norm(dim=1)
    return lengths.numpy(), ((across * (V[i] - V[j])).sum(1) / lengths).numpy()


def forces(points: Tensor) -> pd.DataFrame:
    """Return how gradient descent on each term of TSLoss alone moves each bar of points (n, d).

    Returns
    -------
    DataFrame
        The columns of `bar_rates` and ``term``: ``h0``, ``repel`` or ``attract``; a positive
        ``lifespan_rate`` makes the bar longer.
    """
    P = as_cloud(points).detach().double().requires_grad_()
    terms = TSLoss().terms(P)
    frames = []
    for name in TERMS:
        (gradient,) = torch.autograd.grad(getattr(terms, name), P, retain_graph=True)
        frames.append(bar_rates(P, -gradient).assign(term=name))
    return pd.concat(frames, ignore_index=True)


@cache
def gaussian_counts(n: int, d: int, *, clouds: int = 200, seed: int = 0) -> np.ndarray:
    """Numbers of H1 bars of clouds N(0, I) of n points in d dimensions, (clouds,).

    The count does not depend on a cloud's scale, so this is the baseline for any isotropic one.
    """
    rng = np.random.default_rng(seed)
    return summarize(rng.normal(size=(clouds, n, d))).h1_count.to_numpy()


@cache
def gaussian_bars(n: int, d: int) -> dict[int, np.ndarray]:
    """Lifespans of all bars of `CLOUDS` such clouds, by dimension, in a cloud's mean distance."""
    points = np.random.default_rng(0).normal(size=(CLOUDS, n, d))
    diagrams: Any = persistence(points)
    scaled = [
        {k: lifespans(bars[k]) / pdist(cloud).mean() for k in (0, 1)}
        for cloud, bars in zip(points, diagrams, strict=True)
    ]
    return {k: np.concatenate([lives[k] for lives in scaled]) for k in (0, 1)}


def confidence_band(X: Any) -> float:
    """Half-width c of a band about the diagram of a cloud (n, d): bars up to 2 c may be noise.

    The diagram of the set that the cloud is a sample of is within the band with probability
    `LEVEL`, asymptotically.

    Returns
    -------
    float
        In units of a Rips filtration by edge lengths, whose diagrams move by at most twice the
        Hausdorff distance.

    Notes
    -----
    The subsampling method of Fasy et al. (2014), "Confidence sets for persistence diagrams",
    Annals of Statistics 42, section 4.1: the quantile at `LEVEL` of the Hausdorff distances from
    subsamples of b = n / log n points to all of them, doubled. It is made for samples of a manifold
    with many points; for a prompt, tens of points in hundreds of dimensions, it is as wide as the
    distances themselves.
    """
    points = np.asarray(X, dtype=float)
    n, rng = len(points), np.random.default_rng(0)
    size = min(n, round(n / np.log(n))) if n > 1 else 1
    D = cdist(points, points)
    away = [D[rng.choice(n, size, replace=False)].min(axis=0).max() for _ in range(DRAWS)]
    return 2 * 2 * float(np.quantile(away, LEVEL))


def bottleneck(one: Diagrams, other: Diagrams, dimension: int) -> float:
    """Bottleneck distance of two diagrams' finite bars in a dimension (giotto-tda's, exact)."""
    from gtda.externals.modules.gtda_bottleneck import bottleneck_distance

    bars = (d[dimension][np.isfinite(d[dimension][:, 1])] for d in (one, other))
    return float(bottleneck_distance(*bars, 0.0))


def stability_bound(X: Any, Y: Any) -> float:
    """Largest change of a pairwise distance between two snapshots of one prompt, (n, d) each.

    Their Rips diagrams are no further apart than that in bottleneck distance (Chazal, de Silva and
    Oudot 2014, "Persistence stability for geometric complexes", with the correspondence that
    keeps each row).
    """
    return float(np.abs(pdist(np.asarray(X, float)) - pdist(np.asarray(Y, float))).max())
