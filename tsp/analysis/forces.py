"""How forces move the bars of a prompt."""

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from tsp.errors import InputError
from tsp.loss import TSLoss, as_cloud
from tsp.topology.rips import rips_edges
from tsp.training.penalties import TERMS


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
