"""Rank correlation and the Mann-Whitney test, over independent units or within strata."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from tsp.analysis.stats.families import Interval, numbers
from tsp.errors import InputError

SHUFFLES = 9_999


class RankTest(NamedTuple):
    """A test's statistic, its two-sided p-value, and the number of observations."""

    statistic: float
    p: float
    n: int


def spearman(x: Any, y: Any) -> RankTest:
    """Spearman's rank correlation of paired observations (Table 2, second and third column).

    Parameters
    ----------
    x, y
        Equally many numbers.

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
    x, y = numbers("x", x), numbers("y", y)
    if len(x) != len(y):
        raise InputError("y", len(y), f"give as many numbers as x has, {len(x)}")
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankTest(math.nan, math.nan, len(x))
    test = stats.spearmanr(x, y)
    return RankTest(float(test.statistic), float(test.pvalue), len(x))


def mann_whitney(x: Any, y: Any) -> RankTest:
    """Mann–Whitney U of two groups (Table 2, last column).

    Parameters
    ----------
    x, y
        Values of the two groups.

    Returns
    -------
    RankTest
        U of x, which is the number of pairs with x above y plus half of those where they are
        equal; its p-value (exact in small groups without ties, else normal with correction for
        ties and continuity); n, both sizes together. nan but for n if a group is empty or
        contains nan.

    Notes
    -----
    Table 2's U is that of the wrong snapshots against the right ones: 0 where every right
    snapshot lies above every wrong one. If all values are equal, U is half the number of pairs
    and p is 1, as Table 2 prints for the H0 count.

    Examples
    --------
    >>> mann_whitney([1, 2, 3], [4, 5, 6])
    RankTest(statistic=0.0, p=0.1, n=6)
    """
    x, y = numbers("x", x), numbers("y", y)
    size = len(x) + len(y)
    if len(x) == 0 or len(y) == 0:
        return RankTest(math.nan, math.nan, size)
    test = stats.mannwhitneyu(x, y, alternative="two-sided")
    return RankTest(float(test.statistic), float(test.pvalue), size)


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
        sqrt(3 n1 n2 / (N² - 1)) (1 - 2U / (n1 n2)), with N = n1 + n2.

    Notes
    -----
    Spearman's rho is the correlation of ranks. A two-valued variable has two mid-ranks, N/2
    apart, with variance n1 n2 / 4. The other variable's ranks have variance (N² - 1)/12 if it
    has no ties, and their means in the two groups differ by (N/2)(1 - 2U / (n1 n2)). The
    covariance is n1 n2 / N² times the product of the two differences; dividing gives the
    formula. Ties in the feature make rho larger in size, by 1 / sqrt(1 - sum(t³ - t) / (N³ - N))
    over tied groups of t. For equal groups the largest rho is sqrt(3)/2 = 0.866 but for a term
    in 1/N².

    Examples
    --------
    Table 2 prints U = 5153 and rho = -0.809 for the persistence entropy:

    >>> round(rho_from_u(5153, 73, 73), 3)
    -0.809
    """
    if n1 < 1 or n2 < 1:
        raise InputError("n1, n2", f"{n1}, {n2}", "give groups of at least one observation")
    if not 0 <= u <= n1 * n2:
        raise InputError("u", u, f"U lies between 0 and n1 n2 = {n1 * n2}")
    return math.sqrt(3 * n1 * n2 / ((n1 + n2) ** 2 - 1)) * (1 - 2 * u / (n1 * n2))


def stratified_rho(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Rank correlation within strata, and its p-value from shuffling y within strata.

    Parameters
    ----------
    x, y : array, shape (n,)
        Two quantities, one pair a unit.
    strata : array, shape (n,)
        Label of each unit's stratum.

    Returns
    -------
    rho, p : float
        Ranks are divided by the stratum's size and centred, so with one stratum rho is
        Spearman's. nan and 1 if one quantity varies in no stratum.

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


def rho_interval(rho: float, n: int, alpha: float = 0.05) -> Interval:
    """Interval at 1 - alpha of Spearman's rho over n pairs (Bonett and Wright's); nan below 4."""
    if n < 4:
        return np.nan, np.nan
    z = np.arctanh(np.clip(rho, -0.999, 0.999))
    half = stats.norm.ppf(1 - alpha / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return float(np.tanh(z - half)), float(np.tanh(z + half))
