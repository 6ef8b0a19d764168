"""Paired comparisons of runs with and without TSLoss, some of which were never solved.

SciPy has the sign and the signed-rank test, but neither censoring nor an interval of the difference
of two paired shares.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from tsp.analysis.stats.families import median_interval, sign_test
from tsp.analysis.stats.ranks import RankTest
from tsp.errors import InputError


class Difference(NamedTuple):
    """An estimate, and its interval: ``centre`` plus or minus a multiple of ``error``."""

    estimate: float
    low: float
    high: float
    centre: float
    error: float


class PairedResult(NamedTuple):
    """How often, and by how much, the treated run of a pair was solved sooner."""

    n: int  # pairs: wins + ties + losses
    wins: int  # the treated run needed less
    ties: int
    losses: int
    median_ratio: float  # treated / standard: below 1 the treated runs were sooner
    low: float  # interval of the median, from order statistics
    high: float
    p: float  # exact two-sided sign test of wins against losses; 1 when there are neither


def paired_ratio(standard: Any, treated: Any, *, cap: Any, alpha: float = 0.05) -> PairedResult:
    """Compare the epochs (or steps) that pairs of runs needed, some of which were never solved.

    Parameters
    ----------
    standard, treated
        What each run of a pair needed, above 0 and at most ``cap``; nan: never solved.
    cap
        How long the pair was trained: one number, or one for each pair.
    alpha
        The interval is at 1 - alpha.

    Returns
    -------
    PairedResult
        Counts, median ratio treated / standard with its interval, and the sign test.

    Raises
    ------
    InputError
        For a value out of range: report pairs solved before training (at 0) separately.

    Notes
    -----
    A run never solved needs more than the cap. If one run of a pair is censored so, the pair's
    sign is known although its ratio is not; if both are, the pair is a tie. The median counts a
    censored run at the cap, which draws it towards 1. The interval is `median_interval`'s; its low
    end counts the ratio as 0 if the standard run is censored, its high end as infinite if the
    treated one is.

    Examples
    --------
    >>> result = paired_ratio([154, 118, 16, float("nan")], [88, 62, 14, 58], cap=300)
    >>> result.n, result.wins, round(result.median_ratio, 3), result.p
    (4, 4, 0.548, 0.125)
    """
    ratio, sign = _compare(standard, treated, cap)
    wins, losses = int((sign < 0).sum()), int((sign > 0).sum())
    median = float(np.median(ratio)) if len(ratio) else math.nan
    never = np.isnan(np.array([standard, treated], dtype=float))
    low = median_interval(np.where(never[0], 0.0, ratio), alpha)[0]
    high = median_interval(np.where(never[1], math.inf, ratio), alpha)[1]
    counts = (len(ratio), wins, len(ratio) - wins - losses, losses)
    return PairedResult(*counts, median, low, high, sign_test(wins, losses))


def signed_rank(standard: Any, treated: Any, *, cap: Any) -> RankTest:
    """Wilcoxon's signed-rank test of log(treated / standard) for the pairs of `paired_ratio`.

    Returns
    -------
    RankTest
        W, the smaller sum of ranks; its exact two-sided p-value over all choices of signs; and how
        many pairs differ. nan and 1 for none.

    Notes
    -----
    A pair of which one run was never solved has a known sign and takes the rank of the size that
    the cap makes it. A pair of two such runs, like one of equal counts, is left out.

    Examples
    --------
    >>> signed_rank([154, 118, 16, 104, 12, 8], [88, 62, 14, 58, 8, 6], cap=300)
    RankTest(statistic=0.0, p=0.03125, n=6)
    """
    ratio, sign = _compare(standard, treated, cap)
    change = np.round(np.log(ratio), 9)  # 2/3 and 3/2 are of one size
    # Solved at the cap against never solved has a sign and no size: the smallest rank.
    change = np.where(change == 0, 1e-12 * sign, change)
    change = change[change != 0]
    if len(change) < 2:
        return RankTest(0.0 if len(change) else math.nan, 1.0, len(change))
    # Exact with ties too, where SciPy draws signs at random: ranks are doubled to whole numbers,
    # and the chance of each sum over all choices of signs is built up rank by rank.
    ranks = np.rint(2 * stats.rankdata(np.abs(change))).astype(int)
    chance = np.ones(1)
    for rank in ranks:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    least = min(ranks[change > 0].sum(), ranks[change < 0].sum())
    return RankTest(least / 2, min(1.0, 2 * float(chance[: least + 1].sum())), len(change))


def paired_difference(
    both: int, gained: int, lost: int, n: int, *, alpha: float = 0.05
) -> Difference:
    """Interval of a difference of two paired proportions (Bonett and Price 2012).

    ``both``, ``gained`` and ``lost`` of ``n`` units are those in which both succeed, only the
    second, only the first; the estimate is (gained - lost) / n, the interval at 1 - alpha.

    Examples
    --------
    >>> [round(value, 3) for value in paired_difference(50, 0, 2, 52)]
    [-0.038, -0.109, 0.035, -0.037, 0.037]
    """
    if min(both, gained, lost) < 0 or both + gained + lost > n or n < 1:
        raise InputError("n", n, "give at least as many units as there are in all")
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    error = math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    half = float(stats.norm.ppf(1 - alpha / 2)) * error
    low, high = max(-1.0, more - less - half), min(1.0, more - less + half)
    return Difference((gained - lost) / n, low, high, more - less, error)


def _compare(standard: Any, treated: Any, cap: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio treated / standard of each pair, and its sign: -1 where treated is sooner.

    A run never solved counts as its cap in the ratio, and as later than any other in the sign.
    """
    sides = np.array([standard, treated], dtype=float)  # (2, pairs)
    limits = np.broadcast_to(np.asarray(cap, dtype=float), sides.shape[1:])
    valid = np.isnan(sides) | (sides > 0) & (sides <= limits)
    if not (valid & np.isfinite(limits)).all():
        remedy = "epochs are above 0 and at most cap; leave out pairs solved before training"
        raise InputError("standard, treated", sides.tolist(), remedy)
    capped = np.where(np.isnan(sides), limits, sides)
    never = np.nan_to_num(sides, nan=np.inf)
    sign = 1.0 * (never[1] > never[0]) - (never[1] < never[0])
    return capped[1] / capped[0], sign
