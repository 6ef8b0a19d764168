"""The Rips engine: the edges of a cloud at which its bars are born and die."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

# Float32 coordinates cannot tell a bar this short, against its death, from one of length zero.
RESOLUTION = 2 * float(np.finfo(np.float32).eps)
ONE = np.float32(1).view(np.uint32)  # floats above 1 are ordered as the integers of their bits

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


class RipsEdges(NamedTuple):
    """The edges whose lengths are the finite births and deaths of a Rips filtration."""

    h0_death: np.ndarray  # (k, 2): the points whose edge merges two components, born at 0
    h1_birth: np.ndarray  # (m, 2): the edge that closes each loop
    h1_death: np.ndarray  # (m, 2): the longest edge of the triangle that fills it


def rips_edges(D: np.ndarray) -> RipsEdges:
    """Pair the edges of the Rips filtration of distances ``(n, n)`` (equations 9 to 11).

    As `rips_pairs`, with each edge given by its two points; float64, finite.
    """
    edges = np.column_stack(np.triu_indices(len(D), 1))
    (pairs,) = rips_pairs(D[None, edges[:, 0], edges[:, 1]])
    return RipsEdges(*(edges[positions] for positions in pairs))


def rips_pairs(lengths: np.ndarray) -> list[Pairs]:
    """Find which edges' lengths are the finite births and deaths of Rips filtrations.

    Coefficients are Z/2 and the filtration is whole. The engine is giotto-ph's public function,
    the one below giotto-tda's ``VietorisRipsPersistence``. It compares in float32, so it is given
    the edges' ranks instead of their lengths: it orders them exactly at any scale, and each birth
    and death names its edge, which is quicker than asking the engine for its generators.

    Parameters
    ----------
    lengths
        Finite lengths of all edges of B clouds, float64, shape ``(B, n (n - 1) / 2)``, in the
        order of ``scipy.spatial.distance.pdist``.

    Returns
    -------
    list of (h0_death, h1_birth, h1_death)
        Positions among a cloud's edges, shapes ``(k,)``, ``(m,)`` and ``(m,)``; H0 deaths ascend.
        Bars of length zero, which coincident points make, are left out, and so are bars of H1
        shorter than `RESOLUTION` of their death.
    """
    from gph import ripser_parallel  # a bare GPU host, which only trains, has neither
    from scipy.spatial.distance import squareform

    order = lengths.argsort(axis=1, kind="stable")  # ties in the edges' order, on every machine
    ranks = np.empty(order.shape, np.float32)
    np.put_along_axis(ranks, order, _float_ranks(order.shape[1]), axis=1)
    matrices = [_central_last(squareform(cloud)) for cloud in ranks]
    # The engine starts a thread for each call, which wakes sooner while nothing comes between.
    engine: Any = partial(ripser_parallel, maxdim=1, metric="precomputed")
    diagrams = [engine(matrix)["dgms"] for matrix in matrices]
    return [_pairs(*cloud) for cloud in zip(lengths, order, diagrams, strict=True)]


def _pairs(lengths: np.ndarray, order: np.ndarray, diagrams: list[np.ndarray]) -> Pairs:
    """Turn one cloud's bars, whose ends are ranks of sorted edges, into indices of edges.

    ``order`` gives the index of the edge at each rank. Returned are the edges at which H0 bars die
    (they are born at 0) and at which H1 bars are born and die. H0 bars of length zero are dropped,
    and H1 bars whose length is at most `RESOLUTION` times their death.
    """
    h0, h1 = diagrams
    h0_edges = order[np.sort(_positions(h0[np.isfinite(h0[:, 1]), 1]))]
    birth_edges, death_edges = order[_positions(h1)].T
    births, deaths = lengths[birth_edges], lengths[death_edges]
    lasting = deaths - births > RESOLUTION * deaths
    return h0_edges[lengths[h0_edges] > 0], birth_edges[lasting], death_edges[lasting]


def _float_ranks(count: int) -> np.ndarray:
    """Return the first float32 numbers from 1 on; counting 1, 2, 3, ... would end at 2^24."""
    return (np.arange(count, dtype=np.uint32) + ONE).view(np.float32)


def _positions(ranks: np.ndarray) -> np.ndarray:
    """Invert `_float_ranks`: positions from 0 on, in the shape of ``ranks``."""
    return ranks.view(np.uint32) - ONE


def _central_last(ranks: np.ndarray) -> np.ndarray:
    """Renumber the points of ``(n, n)`` ranks from far out to central.

    The engine tries the last points first, and central points make the short triangles that it
    looks for: a sixth faster for clouds in many dimensions.
    """
    order = ranks.sum(axis=0, dtype=np.float64).argsort()[::-1]
    return ranks[order][:, order]
