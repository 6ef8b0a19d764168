"""Rips persistence to H1 of 20 clouds, n = 40, d = 576, against other libraries."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measuring import compared
from tsp.topology.diagrams import persistence


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


def topology(name: str, repeats: int) -> list[dict[str, Any]]:
    """Compare `tsp.topology.diagrams.persistence` with one of `PEERS`."""
    clouds = np.random.default_rng(0).normal(size=(20, 40, 576)) * 0.02
    _, peer_name, peer = PEERS[name]
    sides = partial(persistence, clouds), partial(peer, clouds)
    return [compared(f"topology_vs_{name}_n40", *sides, repeats, peer_name)]
