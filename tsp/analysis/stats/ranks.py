"""Rank correlation and the Mann-Whitney test.

Those of independent observations are SciPy's; it has no shuffling within strata or of whole blocks,
no interval of Spearman's rho, and no rho from U.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from tsp.analysis.stats.families import Interval
from tsp.errors import InputError

SHUFFLES = 9_999
EXCHANGES = 1_999  # of whole blocks


class RankTest(NamedTuple):
    """A test's statistic, its two-sided p-value, and the number of observations."""

    statistic: float
    p: float
    n: int


class BlockTest(NamedTuple):
    """Rank correlation over snapshots of several blocks, beside what shuffled blocks give."""

    rho: float  # Spearman's, over blocks that have another to be exchanged with
    mean: float  # of rho when the second series of whole blocks are shuffled
    low: float  # the middle 95 % of that
    high: float
    p: float  # two-sided: twice the rarer side of it, at least 2 / (shuffles + 1)
    blocks: int  # blocks that have another to be exchanged with


def spearman(x: Any, y: Any) -> RankTest:
    """Spearman's rank correlation of paired observations (Table 2, second and third column).

    Returns
    -------
    RankTest
        rho, its p-value (t distribution with n - 2 degrees of freedom) and n. All nan but n
        for fewer than three pairs, for nan among them, or if x or y is constant.

    Examples
    --------
    >>> rho, p, n = spearman([1, 2, 3, 4], [1, 3, 2, 4])
    >>> round(rho, 3), round(p, 3), n
    (0.8, 0.2, 4)
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankTest(math.nan, math.nan, len(x))
    test = stats.spearmanr(x, y)
    return RankTest(float(test.statistic), float(test.pvalue), len(x))


def mann_whitney(x: Any, y: Any) -> RankTest:
    """Mann–Whitney U of two groups, such as wrong snapshots and right ones (Table 2, last column).

    Returns
    -------
    RankTest
        U of x, which is the number of pairs with x above y plus half of those where they are
        equal; its p-value (exact in small groups without ties, else normal with correction for
        ties and continuity); n, both sizes together. nan but for n if a group is empty or
        contains nan.

    Examples
    --------
    >>> mann_whitney([1, 2, 3], [4, 5, 6])
    RankTest(statistic=0.0, p=0.1, n=6)
    """
    n = len(x) + len(y)
    if len(x) == 0 or len(y) == 0:
        return RankTest(math.nan, math.nan, n)
    test = stats.mannwhitneyu(x, y)
    return RankTest(float(test.statistic), float(test.pvalue), n)


def rho_from_u(u: float, n1: int, n2: int) -> float:
    """Spearman's rho with a two-valued variable, from Mann–Whitney's U of its lower group.

    Parameters
    ----------
    u
        U of the lower group against the upper one (`mann_whitney` of wrong against right).
    n1, n2
        Sizes of the lower and the upper group, each at least 1.

    Returns
    -------
    float
        sqrt(3 n1 n2 / (N² - 1)) (1 - 2U / (n1 n2)), with N = n1 + n2: at most sqrt(3)/2 for equal
        groups, but for a term in 1/N².

    Notes
    -----
    The correlation of ranks without ties, of variance (N² - 1)/12, whose means in the groups differ
    by (N/2)(1 - 2U / (n1 n2)), with two mid-ranks N/2 apart, of variance n1 n2 / 4. Ties in the
    feature make rho larger in size, by 1 / sqrt(1 - sum(t³ - t) / (N³ - N)) over tied groups of t.

    Examples
    --------
    Table 2 prints U = 5153 and rho = -0.809 for the persistence entropy:

    >>> round(rho_from_u(5153, 73, 73), 3)
    -0.809
    """
    if n1 < 1 or n2 < 1 or not 0 <= u <= n1 * n2:
        raise InputError("u, n1, n2", (u, n1, n2), "give groups of 1 or more, U in [0, n1 n2]")
    return math.sqrt(3 * n1 * n2 / ((n1 + n2) ** 2 - 1)) * (1 - 2 * u / (n1 * n2))


def rho_interval(rho: float, n: int, alpha: float = 0.05) -> Interval:
    """Interval at 1 - alpha of Spearman's rho over n pairs (Bonett and Wright's); nan below 4."""
    if n < 4:
        return math.nan, math.nan
    z = np.arctanh(np.clip(rho, -0.999, 0.999))
    half = stats.norm.ppf(1 - alpha / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def stratified_rho(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Rank correlation within strata, and its p-value from shuffling y within strata.

    ``x``, ``y`` and ``strata``, a label, have one value per unit, (n,). Ranks are divided by the
    stratum's size and centred, so with one stratum rho is Spearman's. nan and 1 if one quantity
    varies in no stratum.

    Examples
    --------
    >>> rho, p = stratified_rho(np.arange(8), np.arange(8) > 3, np.zeros(8))
    >>> round(rho, 3), round(p, 2)
    (0.873, 0.03)
    """
    first, second, scale = _ranked(x, y, strata)
    if not scale > 0:  # constant, or nan
        return math.nan, 1.0
    rng, products = np.random.default_rng(0), np.zeros(SHUFFLES)
    for label in np.unique(strata):
        here = strata == label
        products += rng.permuted(np.tile(second[here], (SHUFFLES, 1)), axis=1) @ first[here]
    rho = float(first @ second) / scale
    extreme = np.abs(products) / scale >= abs(rho) - 1e-12
    return rho, float((1 + extreme.sum()) / (1 + SHUFFLES))


def attainable_rho(x: np.ndarray, y: np.ndarray, strata: np.ndarray, *, sign: float) -> float:
    """Largest size of `stratified_rho` that the same values can have in another order.

    A two-valued y has few ranks, and no order of unequal groups reaches 1.
    """
    order = np.lexsort((x, strata)), np.lexsort((sign * y, strata))
    first, second, scale = _ranked(x[order[0]], y[order[1]], np.sort(strata))
    return abs(float(first @ second) / scale) if scale > 0 else math.nan


def _ranked(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Centred ranks of both quantities within strata, and the largest product they could have."""
    ranks = np.empty((2, len(x)))
    for label in np.unique(strata):
        here = strata == label
        for row, values in zip(ranks, (x, y), strict=True):
            row[here] = stats.rankdata(values[here]) / here.sum()
            row[here] -= row[here].mean()
    return ranks[0], ranks[1], float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))


def block_rho(x: Any, y: Any, *, blocks: Any, strata: Any) -> BlockTest:
    """Spearman's rho of two series over pooled snapshots, tested by exchanging whole blocks.

    Snapshots of one run follow each other, so they cannot be shuffled; blocks can be, `EXCHANGES`
    times at random. Shuffled blocks still follow the epochs, so the test is about whether problems
    that are solved sooner are those whose prompts changed sooner.

    Parameters
    ----------
    x, y
        One number per snapshot, those of a block in the order of its runs and of time.
    blocks
        The block of each snapshot: all runs of one problem, since what makes a problem hard is
        the same for its seeds.
    strata
        Label of each snapshot's stratum; blocks of a stratum with equally many snapshots may be
        exchanged for each other.

    Returns
    -------
    BlockTest
        nan but for the number of blocks where rho does not exist or none can be exchanged.

    Examples
    --------
    >>> problem, time = np.repeat(np.arange(8), 20), np.tile(np.arange(20.0), 8)
    >>> test = block_rho(time, time > 9, blocks=problem, strata=np.zeros(160))
    >>> round(test.rho, 2), round(test.low, 2), test.p  # the clock and nothing else
    (0.87, 0.87, 1.0)
    """
    frame = pd.DataFrame({"block": blocks, "stratum": strata})
    frame = frame.assign(x=np.asarray(x, dtype=float), y=np.asarray(y, dtype=float))
    frame["size"] = frame.groupby("block").x.transform("size")
    frame["count"] = frame.groupby(["stratum", "size"]).block.transform("nunique")
    kept = frame[frame["count"] > 1].sort_values(["stratum", "size", "block"], kind="stable")
    n_blocks = kept.block.nunique()
    if not (len(kept) and np.ptp(kept.x) > 0 and np.ptp(kept.y) > 0):  # constant, or nan
        return BlockTest(math.nan, math.nan, math.nan, math.nan, math.nan, n_blocks)
    ranks = kept[["x", "y"]].rank() - (len(kept) + 1) / 2
    scale = math.sqrt((ranks.x**2).sum() * (ranks.y**2).sum())
    rng = np.random.default_rng(0)
    total, shuffled = 0.0, np.zeros(EXCHANGES)
    for (_, size), rows in ranks.groupby([kept.stratum, kept["size"]]):
        # Blocks as rows: exchanging them exchanges rows of one matrix of products.
        first, second = (rows[name].to_numpy().reshape(-1, size) for name in ("x", "y"))
        products = first @ second.T
        order = rng.permuted(np.tile(np.arange(len(products)), (EXCHANGES, 1)), axis=1)
        shuffled += products[np.arange(len(products)), order].sum(axis=1)
        total += np.trace(products)
    shuffled /= scale
    rho = float(total) / scale
    rarer = min((shuffled <= rho + 1e-12).sum(), (shuffled >= rho - 1e-12).sum())
    low, high = np.quantile(shuffled, [0.025, 0.975])
    p = min(1.0, 2 * (1 + float(rarer)) / (1 + EXCHANGES))
    return BlockTest(rho, float(shuffled.mean()), float(low), float(high), p, n_blocks)
