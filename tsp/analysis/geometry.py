"""The bars of a prompt beside those of noise: Gaussian clouds, a confidence band, stability."""

from functools import cache
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist, pdist

from tsp.topology.diagrams import Diagrams, lifespans, persistence

CLOUDS = 200  # Gaussian clouds that stand for noise
LEVEL, DRAWS = 0.95, 500  # of a confidence band, and the subsamples it is made from


@cache
def gaussian_bars(n: int, d: int) -> dict[int, list[np.ndarray]]:
    """Lifespans of the bars of `CLOUDS` clouds N(0, I) of n points in d dimensions.

    By dimension, of each cloud in its mean distance.
    """
    points = np.random.default_rng(0).normal(size=(CLOUDS, n, d))
    sizes = [pdist(cloud).mean() if n > 1 else 1.0 for cloud in points]
    pairs: Any = list(zip(persistence(points), sizes, strict=True))
    return {k: [lifespans(bars[k]) / size for bars, size in pairs] for k in (0, 1)}


def gaussian_counts(n: int, d: int) -> np.ndarray:
    """Numbers of H1 bars of these clouds, (`CLOUDS`,).

    The count does not depend on a cloud's scale, so this is the baseline for any isotropic one.
    """
    return np.array([len(lives) for lives in gaussian_bars(n, d)[1]])


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
