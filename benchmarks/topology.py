"""Rips persistence to H1: against other libraries, and as clouds grow."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from benchmarks.measuring import compared, report, timed
from tsp.topology.diagrams import persistence

POINTS = (10, 20, 40, 80, 160, 320, 640, 1000)
DIMENSIONS = (64, 576, 2048)


def _gudhi(clouds: np.ndarray) -> None:
    from gudhi import RipsComplex

    for cloud in clouds:
        tree = RipsComplex(points=cloud).create_simplex_tree(max_dimension=2)
        tree.compute_persistence(homology_coeff_field=2)


def _giotto(clouds: np.ndarray) -> None:
    from gtda.homology import VietorisRipsPersistence

    VietorisRipsPersistence(homology_dimensions=(0, 1)).fit_transform(clouds)


def _ripser(clouds: np.ndarray) -> None:
    from ripser import ripser

    with warnings.catch_warnings(action="ignore"):  # more columns than rows
        for cloud in clouds:
            ripser(cloud)


PEERS: dict[str, tuple[str, str, Callable[[np.ndarray], None]]] = {
    "gudhi": ("gudhi", "gudhi RipsComplex", _gudhi),
    "giotto": ("gtda", "giotto-tda VietorisRipsPersistence", _giotto),
    "ripser": ("ripser", "ripser.py", _ripser),
}
"""By name: the module, what a table calls it, and its work on a batch of clouds."""


def versus(name: str, repeats: int) -> list[dict[str, Any]]:
    """Compare `tsp.topology.diagrams.persistence` with one of `PEERS` on 20 clouds."""
    clouds = np.random.default_rng(0).normal(size=(20, 40, 576)) * 0.02
    _, peer_name, peer = PEERS[name]
    sides = partial(persistence, clouds), partial(peer, clouds)
    return [compared(f"topology_vs_{name}_n40", *sides, repeats, peer_name)]


def grow(
    *, points: Sequence[int] = POINTS, dimensions: Sequence[int] = DIMENSIONS, repeats: int = 3
) -> list[dict[str, Any]]:
    """Return rows ``n d seconds h1_count times`` of persistence (H0, H1) of Gaussian clouds."""
    rng = np.random.default_rng(0)
    persistence(rng.normal(size=(5, 3)))  # imports at the first call
    rows: list[dict[str, Any]] = []
    for d, n in product(dimensions, points):
        report(f"n = {n}, d = {d}")
        clouds = [rng.normal(size=(n, d)) for _ in range(repeats)]
        results = [timed(partial(persistence, cloud)) for cloud in clouds]
        times, loops = [seconds for seconds, _ in results], len(results[-1][1][1])
        rows.append({"n": n, "d": d, "seconds": float(np.median(times)), "h1_count": loops})
        rows[-1]["times"] = times
    return rows
