"""The persistent homology of a prompt, and the paper's summaries of its diagrams.

Vietoris–Rips filtration on Euclidean distances, coefficients Z/2, no cut; every scale is the
length of an edge (gudhi and ripser use the same convention).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist

from tsp.errors import InputError
from tsp.topology import SUMMARY_COLUMNS
from tsp.topology.rips import rips_pairs

Diagrams = dict[int, np.ndarray]

LARGEST = 1e150  # squares of larger coordinates overflow float64
MAX_POINTS = 4000  # of a cloud; the work grows with their cube, the memory with their square


def persistence(X: Any) -> Diagrams | list[Diagrams]:
    """Return the persistence diagrams of clouds in dimensions 0 and 1 (equations 9 to 11).

    Parameters
    ----------
    X
        One cloud ``(n, d)`` or a batch ``(B, n, d)``: array, nested list or tensor, on any
        device, of any real dtype. A square ``(n, n)`` input is a cloud like any other.

    Returns
    -------
    dict or list of dict
        ``{0: (k, 2), 1: (m, 2)}``, float64 births and deaths in ascending order; the last row of
        dimension 0 is the essential class ``(0, inf)``. A batch gives one dict per cloud.

    Raises
    ------
    InputError
        If ``X`` has neither two nor three axes, or an empty one, a cloud has more than `MAX_POINTS`
        points, or a coordinate is not a finite number or is larger than `LARGEST`.

    Notes
    -----
    Bars of length zero are dropped: coincident points count once, and H0 has n bars if all
    points differ. So are bars of H1 shorter than 2.4e-7 of their death, which float32 coordinates
    cannot tell from zero. The pairing and the lengths themselves are exact to float64.

    Examples
    --------
    >>> diagrams = persistence([[0, 0], [1, 0], [1, 1], [0, 1]])
    >>> diagrams[0].tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, inf]]
    >>> diagrams[1].round(3).tolist()
    [[1.0, 1.414]]
    """
    points = as_points(X)
    diagrams = _diagrams(points.reshape(-1, *points.shape[-2:]))
    return diagrams if points.ndim == 3 else diagrams[0]


def summarize(X: Any, *, diagrams: Diagrams | Sequence[Diagrams] | None = None) -> pd.DataFrame:
    """Summarise the diagrams of each cloud, as in the paper's figures and Table 2.

    Parameters
    ----------
    X
        ``(n, d)`` or ``(B, n, d)``, as for `persistence`.
    diagrams
        The result of ``persistence(X)``, or diagrams from elsewhere, if they are known already.

    Returns
    -------
    DataFrame
        One row per cloud, columns `SUMMARY_COLUMNS`: number of H0 bars (with the essential one)
        and of H1 bars; mean and largest lifespan, in the embedding space's distance;
        persistence entropy in nats (equation 12), and divided by the log of the number of bars
        in it, so that it lies in [0, 1]; mean distance over pairs i ≠ j, and the mean lifespans
        divided by it, which do not change when a cloud merely grows.

    Raises
    ------
    InputError
        As for `persistence`, or if there are not as many diagrams as clouds.

    Notes
    -----
    The essential class has no lifespan and is in no mean, maximum or entropy. Entropy is over
    the H0 and H1 lifespans together. Means are over the bars (the paper's appendix divides by
    n). Mean, maximum and entropy of no bars are 0, and so is anything scaled by a mean distance
    of 0. Coincident points count once in the diagrams, each in the mean distance.

    Examples
    --------
    >>> square = [[0, 0], [1, 0], [1, 1], [0, 1]]
    >>> summarize(square).round(3).iloc[0, :6].tolist()
    [4.0, 1.0, 1.0, 0.414, 1.0, 0.414]
    """
    points = as_points(X)
    clouds = points.reshape(-1, *points.shape[-2:])
    bars = persistence(clouds) if diagrams is None else diagrams
    bars = [bars] if isinstance(bars, dict) else list(bars)
    if len(bars) != len(clouds):
        remedy = f"give one dict for each of the {len(clouds)} clouds"
        raise InputError("diagrams", len(bars), remedy)
    rows = [_summary(cloud, both) for cloud, both in zip(clouds, bars, strict=True)]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def lifespans(diagram: np.ndarray) -> np.ndarray:
    """Return the lifespans death - birth of the finite bars of one diagram ``(k, 2)``."""
    finite = diagram[np.isfinite(diagram[:, 1])]
    return finite[:, 1] - finite[:, 0]


def persistence_entropy(lengths: np.ndarray) -> float:
    """Equation 12: the entropy of the lifespans' shares of their sum, in nats; 0 for no bars.

    A lifespan of zero adds nothing.

    Examples
    --------
    >>> persistence_entropy(np.array([2.0, 2.0, 2.0, 2.0, 0.0])) == np.log(4)
    True
    """
    lengths = lengths[lengths > 0]
    if len(lengths) == 0:
        return 0.0
    share = lengths / lengths.sum()
    return float(-(share * np.log(share)).sum())


def normalized_entropy(lengths: np.ndarray) -> float:
    """Equation 12 over its largest value, log(number of bars); 0 for fewer than two bars.

    Lifespans of zero do not count as bars.
    """
    bars = np.count_nonzero(lengths)
    return persistence_entropy(lengths) / float(np.log(bars)) if bars > 1 else 0.0


def betti_curve(diagram: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Count the bars of a diagram ``(k, 2)`` with birth <= scale < death, at each scale.

    Examples
    --------
    >>> betti_curve(np.array([[0.0, 1.0], [0.0, np.inf]]), np.array([0.0, 0.5, 1.0, 2.0]))
    array([2, 2, 1, 1])
    """
    scales = np.asarray(scales, dtype=float)[:, None]
    return ((diagram[:, 0] <= scales) & (scales < diagram[:, 1])).sum(axis=1)


def _diagrams(clouds: np.ndarray) -> list[Diagrams]:
    """Compute both diagrams of each cloud of ``(B, n, d)``, float64."""
    # pdist subtracts coordinates: exact for close and coincident points.
    lengths = np.stack([pdist(cloud) for cloud in clouds])
    diagrams: list[Diagrams] = []
    for cloud, pairs in zip(lengths, rips_pairs(lengths), strict=True):
        deaths, *h1_pairs = (cloud[edges] for edges in pairs)
        h0 = np.column_stack([np.zeros(len(deaths) + 1), np.append(deaths, np.inf)])
        h1 = np.column_stack(h1_pairs)
        diagrams.append({0: h0, 1: h1[np.lexsort((h1[:, 1], h1[:, 0]))]})
    return diagrams


def _summary(cloud: np.ndarray, diagrams: Diagrams) -> dict[str, float]:
    """Return one row of `summarize`."""
    h0, h1 = lifespans(diagrams[0]), lifespans(diagrams[1])
    both = np.concatenate([h0, h1])
    mean_h0, mean_h1 = (float(bars.mean()) if len(bars) else 0.0 for bars in (h0, h1))
    distance = float(pdist(cloud).mean()) if len(cloud) > 1 else 0.0
    scale = 1 / distance if distance > 0 else 0.0
    return {
        "h0_count": len(diagrams[0]),
        "h1_count": len(diagrams[1]),
        "h0_mean_lifespan": mean_h0,
        "h1_mean_lifespan": mean_h1,
        "h0_max_lifespan": float(h0.max(initial=0.0)),
        "h1_max_lifespan": float(h1.max(initial=0.0)),
        "persistence_entropy": persistence_entropy(both),
        "normalized_entropy": normalized_entropy(both),
        "mean_distance": distance,
        "h0_mean_lifespan_scaled": mean_h0 * scale,
        "h1_mean_lifespan_scaled": mean_h1 * scale,
    }


def as_points(X: Any) -> np.ndarray:
    """Return clouds as float64 ``(n, d)`` or ``(B, n, d)``; raise an InputError for all else."""
    try:
        if hasattr(X, "detach"):  # a tensor: numpy knows neither its gradient, device nor bfloat16
            X = X.detach().cpu()
            X = (X if X.is_complex() else X.double()).numpy()
        points = np.asarray(X)
        if points.dtype.kind not in "biufO":  # complex numbers, dates, texts
            raise TypeError(points.dtype)
        points = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError("X", type(X).__name__, "give an array of real numbers") from None
    if points.ndim not in (2, 3) or points.size == 0:
        remedy = "give the shape (n, d) or (B, n, d) with at least one point and one dimension"
        raise InputError("X", points.shape, remedy)
    if points.shape[-2] > MAX_POINTS:
        raise InputError("X", points.shape, f"give at most {MAX_POINTS} points per cloud")
    if not max(points.max(), -points.min()) <= LARGEST:  # nan compares false
        *cloud, row, column = np.argwhere(~(np.abs(points) <= LARGEST))[0].tolist()
        where = f"row {row} of cloud {cloud[0]}" if cloud else f"row {row}"
        remedy = f"give finite coordinates, at most {LARGEST:g}, in {where}"
        raise InputError("X", float(points[*cloud, row, column]), remedy)
    return points


def analyse(
    runs: Sequence[Mapping[int, Any]], *, show: Sequence[Sequence[int]]
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Compute the topology of the snapshots of runs, all clouds of one size together.

    Parameters
    ----------
    runs
        The ``(n, d)`` clouds of each run by epoch.
    show
        The epochs of each run whose diagrams are returned bar by bar.

    Returns
    -------
    list of (topology, diagrams)
        For each run two tables: ``epoch`` and `SUMMARY_COLUMNS`, one row per epoch; and
        ``epoch dimension birth death``, one row per bar, the essential class with death inf.
    """
    epochs = [sorted(run) for run in runs]
    stacks = [  # for each run its clouds, (epochs, n, d)
        np.stack([as_points(run[k]) for k in kept]) for run, kept in zip(runs, epochs, strict=True)
    ]
    diagrams: dict[int, list[Diagrams]] = {}  # of each run, by its number
    for size in {stack.shape[1:] for stack in stacks}:
        chosen = [r for r, stack in enumerate(stacks) if stack.shape[1:] == size]
        computed = iter(_diagrams(np.concatenate([stacks[r] for r in chosen])))
        diagrams |= {r: [next(computed) for _ in stacks[r]] for r in chosen}
    tables = []
    for r, shown in enumerate(show):
        topology = summarize(stacks[r], diagrams=diagrams[r])
        topology.insert(0, "epoch", epochs[r])
        tables.append((topology, _bar_table(dict(zip(epochs[r], diagrams[r], strict=True)), shown)))
    return tables


def _bar_table(diagrams: Mapping[int, Diagrams], epochs: Sequence[int]) -> pd.DataFrame:
    """Return one row per bar, from one concatenation: joining small tables would be slow."""
    keys = [(epoch, k) for epoch in epochs for k in diagrams[epoch]]
    bars = [diagrams[epoch][k] for epoch, k in keys]
    epoch, dimension = np.repeat(keys, [len(pairs) for pairs in bars], axis=0).T
    birth, death = np.concatenate(bars).T
    return pd.DataFrame({"epoch": epoch, "dimension": dimension, "birth": birth, "death": death})
