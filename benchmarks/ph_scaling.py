"""How the cost of persistent homology grows with the number of points and their dimension."""

from collections.abc import Sequence
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measuring import report
from tsp.topology.diagrams import persistence

POINTS = (10, 20, 40, 80, 160, 320, 640, 1000)
DIMENSIONS = (64, 576, 2048)


def grow(
    *, points: Sequence[int] = POINTS, dimensions: Sequence[int] = DIMENSIONS, repeats: int = 3
) -> list[dict[str, Any]]:
    """Return rows ``n d seconds h1_count times`` of persistence (H0, H1) of Gaussian clouds."""
    rng = np.random.default_rng(0)
    persistence(rng.normal(size=(5, 3)))  # imports at the first call
    rows = []
    for d, n in product(dimensions, points):
        report(f"n = {n}, d = {d}")
        times, loops = [], 0
        for _ in range(repeats):
            cloud = rng.normal(size=(n, d))
            begin = perf_counter()
            loops = len(persistence(cloud)[1])
            times.append(perf_counter() - begin)
        row = {"n": n, "d": d, "seconds": float(np.median(times)), "h1_count": loops}
        rows.append(row | {"times": times})
    return rows
