"""Equation 13: the variance that TSLoss penalises beside the one it stands for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform
from scipy.special import logsumexp


def surrogate(clouds: Sequence[Any], *, tau: float = 0.1) -> pd.DataFrame:
    """Variance of soft nearest neighbours, of the true ones and of the H0 deaths.

    Parameters
    ----------
    clouds
        Arrays (n, d) of at least two points.
    tau
        Temperature of the soft nearest neighbour (equation 1), without self pairs.

    Returns
    -------
    DataFrame
        One row per cloud: ``soft_variance``, the variance of s_i (equation 2);
        ``death_variance``, that of the n - 1 finite H0 deaths, which equation 13 equates with it;
        ``nearest_variance``, that of the true nearest-neighbour distances, between the two.

    Notes
    -----
    Deaths in degree 0 are the heights of single linkage; coincident points die at 0.
    """
    rows = []
    for cloud in clouds:
        distances = pdist(np.asarray(cloud, dtype=float))
        D = squareform(distances)  # (n, n)
        np.fill_diagonal(D, np.inf)
        soft, deaths = -tau * logsumexp(-D / tau, axis=1), linkage(distances, "single")[:, 2]
        rows.append([soft.var(), deaths.var(), D.min(axis=1).var()])
    return pd.DataFrame(rows, columns=["soft_variance", "death_variance", "nearest_variance"])


def two_pairs(near: float = 0.1, far: float = 4.9) -> np.ndarray:
    """Return four points on a line, (4, 1), for which equation 13 fails: two tight pairs.

    Every point has its nearest neighbour at the same distance, so Var(s_i) is almost zero; the
    deaths are ``near``, ``near`` and the gap ``far`` between the pairs.
    """
    return np.array([[0.0], [near], [near + far], [2 * near + far]])
