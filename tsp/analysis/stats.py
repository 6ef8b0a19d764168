"""The statistics of Table 2, the identity that ties its columns, and the comparison of pairs."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from tsp.errors import InputError

RESAMPLES = 4000
A_BATCH = 512  # resamples that are held at once; their number changes no result

TwoSharesTest = Literal["fisher", "z"]


class RankTest(NamedTuple):
    """A test's statistic, its two-sided p-value, and the number of observations."""

    statistic: float
    p: float
    n: int


class PairedResult(NamedTuple):
    """How often, and by how much, the treated run of a pair was solved sooner.

    Attributes
    ----------
    n
        Number of pairs: wins + ties + losses.
    wins, ties, losses
        Pairs in which the treated run needed less, as much, more.
    median_ratio
        Median of treated / standard: below 1 the treated runs were sooner.
    low, high
        95 % bootstrap interval of the median, over pairs.
    p
        Exact two-sided sign test of wins against losses; 1 when there are neither.
    """

    n: int
    wins: int
    ties: int
    losses: int
    median_ratio: float
    low: float
    high: float
    p: float


class Interval(NamedTuple):
    """An estimate, its interval and its standard error."""

    estimate: float
    low: float
    high: float
    error: float


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
    x, y = _numbers("x", x), _numbers("y", y)
    if len(x) != len(y):
        raise InputError("y", len(y), f"give as many numbers as x has, {len(x)}")
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankTest(math.nan, math.nan, len(x))
    found = stats.spearmanr(x, y)
    return RankTest(float(found.statistic), float(found.pvalue), len(x))


def mann_whitney(x: Any, y: Any) -> RankTest:
    """Mann–Whitney U of two groups (Table 2, last column).

    Parameters
    ----------
    x, y
        The groups' values.

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
    x, y = _numbers("x", x), _numbers("y", y)
    size = len(x) + len(y)
    if len(x) == 0 or len(y) == 0:
        return RankTest(math.nan, math.nan, size)
    found = stats.mannwhitneyu(x, y, alternative="two-sided")
    return RankTest(float(found.statistic), float(found.pvalue), size)


class BlockTest(NamedTuple):
    """Rank correlation over snapshots of several blocks, beside what shuffled blocks give.

    Attributes
    ----------
    rho
        Spearman's, over the snapshots of blocks that have another to be exchanged with.
    mean, low, high
        Mean and middle 95 % of the same when the second series of whole blocks are shuffled.
    p
        Two-sided: twice the rarer side of that distribution, at least 2 / (shuffles + 1).
    blocks
        How many have another to be exchanged with.
    """

    rho: float
    mean: float
    low: float
    high: float
    p: float
    blocks: int


def block_rho(
    x: Any, y: Any, *, blocks: Any, strata: Any, shuffles: int = 1999, seed: int = 0
) -> BlockTest:
    """Spearman's rho of two series over pooled snapshots, tested by exchanging whole blocks.

    Parameters
    ----------
    x, y
        One number a snapshot, those of a block in the order of its runs and of time.
    blocks
        The block of each snapshot: all runs of one problem, since what makes a problem hard is
        the same for its seeds.
    strata
        Label of each snapshot's stratum; blocks of a stratum with equally many snapshots may be
        exchanged for each other.
    shuffles
        Random exchanges.
    seed
        Of the exchanges.

    Returns
    -------
    BlockTest
        nan but for the number of blocks where rho does not exist, or where no two blocks can be
        exchanged.

    Notes
    -----
    Snapshots of one run follow each other, so they cannot be shuffled; blocks can be. Shuffled
    blocks keep what all have in common, a feature and an accuracy that both follow the epochs.
    What is left to be found is whether the problems that are solved sooner are those whose
    prompts changed sooner.

    Examples
    --------
    >>> problem, time = np.repeat(np.arange(8), 20), np.tile(np.arange(20.0), 8)
    >>> found = block_rho(time, time > 9, blocks=problem, strata=np.zeros(160))
    >>> round(found.rho, 2), round(found.low, 2), found.p  # the clock and nothing else
    (0.87, 0.87, 1.0)
    """
    x, y = _numbers("x", x), _numbers("y", y)
    frame = pd.DataFrame({"block": blocks, "stratum": strata, "x": x, "y": y})
    frame["size"] = frame.groupby("block").x.transform("size")
    frame = frame.sort_values("block", kind="stable")  # a block's snapshots side by side
    groups = [rows for _, rows in frame.groupby(["stratum", "size"]) if rows.block.nunique() > 1]
    many = sum(rows.block.nunique() for rows in groups)
    none = BlockTest(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    if not groups:
        return none
    kept = pd.concat(groups)
    if not (np.ptp(kept.x) > 0 and np.ptp(kept.y) > 0):  # constant, or not a number
        return none._replace(blocks=many)
    ranks = [stats.rankdata(kept[name]) - (len(kept) + 1) / 2 for name in ("x", "y")]
    scale = math.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    shape = [(rows.block.nunique(), int(rows["size"].iloc[0])) for rows in groups]
    ends = np.cumsum([0, *(len(rows) for rows in groups)])
    places = list(zip(shape, ends[:-1], ends[1:], strict=True))
    # Blocks of a stratum as rows: exchanging them exchanges rows of one matrix of products.
    products = [ranks[0][a:b].reshape(of) @ ranks[1][a:b].reshape(of).T for of, a, b in places]
    rng = np.random.default_rng(seed)
    found = np.zeros(shuffles)
    for product in products:
        order = rng.permuted(np.tile(np.arange(len(product)), (shuffles, 1)), axis=1)
        found += product[np.arange(len(product)), order].sum(axis=1)
    found /= scale
    rho = float(sum(np.trace(product) for product in products)) / scale
    rarer = min((found <= rho + 1e-12).sum(), (found >= rho - 1e-12).sum())
    low, high = np.quantile(found, [0.025, 0.975])
    p = min(1.0, 2 * (1 + float(rarer)) / (1 + shuffles))
    return BlockTest(rho, float(found.mean()), float(low), float(high), p, many)


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


def feature_tests(
    snapshots: pd.DataFrame, *, features: Sequence[str], accuracy: str, group: str
) -> pd.DataFrame:
    """Table 2: each topological feature against accuracy, and between wrong and right snapshots.

    Parameters
    ----------
    snapshots
        One row a snapshot.
    features
        Columns to test.
    accuracy
        Column that rho correlates with.
    group
        Column of true (right) and false (wrong): the two groups of the U test.

    Returns
    -------
    DataFrame
        One row a feature: feature, rho, rho_p, n, u, u_p, n_wrong, n_right, reason. Where a
        statistic does not exist it is nan and reason, else empty, says why. u is U of the wrong
        snapshots. Snapshots that lack the feature, the accuracy or the group are left out of
        the feature's row.

    Raises
    ------
    InputError
        For a column that is not there or not of numbers, or a group that has other values.

    Notes
    -----
    The p-values take snapshots for independent, which those of one run are not: they repeat the
    paper's table and decide nothing.

    Examples
    --------
    >>> frame = pd.DataFrame({"h1_count": [9, 7, 8, 2, 1, 0], "right": [0, 0, 0, 1, 1, 1]})
    >>> table = feature_tests(frame, features=["h1_count"], accuracy="right", group="right")
    >>> table[["rho", "u", "n_wrong"]].round(3).iloc[0].tolist()
    [-0.878, 9.0, 3.0]
    """
    columns = {name: _column(snapshots, name) for name in (*features, accuracy, group)}
    if not set(columns[group][~np.isnan(columns[group])]) <= {0.0, 1.0}:
        raise InputError("group", group, "name a column of true (right) and false (wrong)")
    rows = [
        {"feature": name, **_feature_row(columns[name], columns[accuracy], columns[group])}
        for name in features
    ]
    names = ["feature", "rho", "rho_p", "n", "u", "u_p", "n_wrong", "n_right", "reason"]
    return pd.DataFrame(rows, columns=names)


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
        For unequal lengths, or a value out of range. Pairs solved before training (at 0) have
        no ratio: report them apart.

    Notes
    -----
    A run never solved needs more than the cap. If one run of a pair is censored so, the pair's
    sign is known although its ratio is not; if both are, the pair is a tie. Hence the exact sign
    test, which uses signs alone: a signed-rank test would have to rank ratios that nobody
    measured. The ratio counts a censored run at the cap, which draws the median towards 1. The
    interval is the percentile bootstrap over pairs with a fixed seed; nan for fewer than six.

    Examples
    --------
    >>> result = paired_ratio([154, 118, 16, float("nan")], [88, 62, 14, 58], cap=300)
    >>> result.n, result.wins, round(result.median_ratio, 3), result.p
    (4, 4, 0.548, 0.125)
    """
    limit, standard, treated = _pairs(standard, treated, cap)
    # Solved at the cap still beats never solved, so the order takes infinity, the ratio the cap.
    never = [np.nan_to_num(side, nan=np.inf) for side in (standard, treated)]
    wins, losses = int((never[1] < never[0]).sum()), int((never[1] > never[0]).sum())
    ratio = np.where(np.isnan(treated), limit, treated) / np.where(
        np.isnan(standard), limit, standard
    )
    p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    median = float(np.median(ratio)) if len(ratio) else math.nan
    low, high = bootstrap_interval(ratio, alpha=alpha)
    ties = len(ratio) - wins - losses
    return PairedResult(len(ratio), wins, ties, losses, median, low, high, float(p))


def signed_rank(standard: Any, treated: Any, *, cap: Any) -> RankTest:
    """Wilcoxon's signed-rank test of log(treated / standard), pair by pair.

    Parameters
    ----------
    standard, treated, cap
        As for `paired_ratio`.

    Returns
    -------
    RankTest
        W, the smaller sum of ranks; its two-sided p-value by flipping signs, exact up to 13 pairs
        that differ; and how many pairs differ. nan and 1 for none.

    Notes
    -----
    A pair of which one run was never solved has a known sign, and its size is at least what the
    cap makes it: it takes the rank of that. A pair of two such runs, like one of equal counts,
    is a tie and is left out.

    Examples
    --------
    >>> signed_rank([154, 118, 16, 104, 12, 8], [88, 62, 14, 58, 8, 6], cap=300)
    RankTest(statistic=0.0, p=0.03125, n=6)
    """
    limit, standard, treated = _pairs(standard, treated, cap)
    size = [np.where(np.isnan(side), limit, side) for side in (standard, treated)]
    never = [np.nan_to_num(side, nan=np.inf) for side in (standard, treated)]
    change = np.log(size[1] / size[0])
    sign = 1.0 * (never[1] > never[0]) - (never[1] < never[0])
    # Solved at the cap against never solved has a sign and no size: the smallest rank.
    change = np.where(change == 0, 1e-12 * sign, change)
    change = change[change != 0]
    if len(change) < 2:
        return RankTest(0.0 if len(change) else math.nan, 1.0, len(change))
    ranks = stats.rankdata(np.abs(change))  # as `stats.wilcoxon` does it, but ranked only once
    found = stats.permutation_test(
        (change,),
        lambda flipped, axis: ((flipped > 0) * ranks).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**13 + 1,
        batch=A_BATCH,
        rng=np.random.default_rng(0),
    )
    least = min(found.statistic, ranks.sum() - found.statistic)
    return RankTest(float(least), float(found.pvalue), len(change))


FEWEST = 6
"""Pairs below which no two-sided sign test can be below 0.05: 2 (1/2)^n."""


def holm(p: Any) -> np.ndarray:
    """Holm's adjusted p-values of a family of tests; nan, a test not made, does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = _numbers("p", p)
    made = np.flatnonzero(~np.isnan(values))
    order = made[np.argsort(values[made], kind="stable")]
    found = np.full(len(values), math.nan)
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return found


def holm_levels(p: Any, *, alpha: float = 0.05) -> np.ndarray:
    """What each p of a family must be below in Holm's procedure; nan, a test not made, has none.

    Returns
    -------
    ndarray
        ``alpha / (m - k)`` for the test of rank k (from 0) of m that is rejected, and for all
        that are not the level at which the procedure stopped. ``p < level`` exactly where
        ``holm(p) < alpha``.

    Examples
    --------
    >>> holm_levels([0.01, 0.04, 0.03]).tolist()  # 0.03 would have to be below 0.025
    [0.016666666666666666, 0.025, 0.025]
    """
    values = _numbers("p", p)
    made = np.flatnonzero(~np.isnan(values))
    order = made[np.argsort(values[made], kind="stable")]
    steps = alpha / np.arange(len(order), 0, -1)
    kept = np.flatnonzero(values[order] >= steps)
    if len(kept):
        steps[kept[0] :] = steps[kept[0]]
    found = np.full(len(values), math.nan)
    found[order] = steps
    return found


def paired_difference(
    both: int, gained: int, lost: int, n: int, *, alpha: float = 0.05
) -> Interval:
    """Interval of a difference of two paired proportions (Bonett and Price 2012).

    Parameters
    ----------
    both, gained, lost
        Units in which both succeed, only the second, only the first.
    n
        All units.
    alpha
        The interval is at 1 - alpha.

    Returns
    -------
    Interval
        Estimate (gained - lost) / n, low, high, and the standard error.

    Examples
    --------
    >>> found = paired_difference(50, 0, 2, 52)
    >>> [round(it, 3) for it in found]
    [-0.038, -0.109, 0.035, 0.037]
    """
    if min(both, gained, lost) < 0 or both + gained + lost > n or n < 1:
        raise InputError("n", n, "give at least as many units as there are in all")
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    error = math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    half = float(stats.norm.ppf(1 - alpha / 2)) * error
    middle = more - less
    return Interval((gained - lost) / n, max(-1.0, middle - half), min(1.0, middle + half), error)


def detectable_share(n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest share of wins that a two-sided sign test over n pairs finds with some power.

    Parameters
    ----------
    n
        Pairs that are no ties.
    alpha
        Level of the test.
    power
        Probability with which it is to reject.

    Returns
    -------
    float
        To 0.001; nan where not even n wins of n are significant.

    Examples
    --------
    >>> detectable_share(8), detectable_share(24), detectable_share(5)
    (0.973, 0.797, nan)
    """
    wins = range(n // 2 + 1, n + 1)
    short = bisect_left(wins, True, key=lambda k: stats.binomtest(k, n).pvalue <= alpha)
    if short == len(wins):
        return math.nan
    least = wins[short]
    shares = np.arange(500, 1001) / 1000
    return float(shares[np.argmax(stats.binom.sf(least - 1, n, shares) >= power)])


def difference_power(
    share: float, other: Any, n: int, *, test: TwoSharesTest = "fisher", alpha: float = 0.05
) -> np.ndarray:
    """Probability that a two-sided test tells two independent shares of n each apart.

    Parameters
    ----------
    share, other
        True shares; ``other`` may be several.
    n
        Observations on each side.
    test
        ``"fisher"``: Fisher's exact test. ``"z"``: the z test with each side's own variance, whose
        true level may be a little above alpha.
    alpha
        Level of the test.

    Returns
    -------
    ndarray
        Exact: the sum over all pairs of counts that the test rejects. One number for each of
        ``other``.

    Examples
    --------
    >>> [round(difference_power(0.02, 0.1, 50, test=test).item(), 2) for test in ("fisher", "z")]
    [0.19, 0.44]
    """
    counts = np.arange(n + 1)
    one = stats.binom.pmf(counts, n, share)
    both = stats.binom.pmf(counts[:, None], n, np.atleast_1d(other))  # (n + 1, others)
    rejected = _fisher_rejects(n, alpha) if test == "fisher" else _z_rejects(n, alpha)
    return one @ rejected @ both


def detectable_difference(
    share: float,
    n: int,
    *,
    test: TwoSharesTest = "fisher",
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest gain over a share that a test of two shares of n each finds with some power.

    Parameters
    ----------
    share
        The lower of the two true shares.
    n, test, alpha
        As in `difference_power`.
    power
        Probability with which the test is to reject.

    Returns
    -------
    float
        To 0.001; nan where not even a share of 1 would be told from ``share``.

    Examples
    --------
    >>> [detectable_difference(0.02, 50, test=test) for test in ("fisher", "z")]
    [0.186, 0.144]
    """
    higher = np.arange(math.ceil(1000 * share), 1001) / 1000
    enough = difference_power(share, higher, n, test=test, alpha=alpha) >= power
    return round(float(higher[np.argmax(enough)] - share), 3) if enough.any() else math.nan


def _fisher_rejects(n: int, alpha: float) -> np.ndarray:
    """Which pairs of counts (n + 1, n + 1) Fisher's two-sided exact test rejects."""
    first, second = np.indices((n + 1, n + 1))
    chance = stats.hypergeom.pmf(first, 2 * n, first + second, n)
    p = np.zeros(chance.shape)
    for total in range(2 * n + 1):  # tables with the same margins
        a = np.arange(max(0, total - n), min(n, total) + 1)
        own = chance[a, total - a]
        as_rare = own <= own[:, None] * (1 + 1e-7)
        p[a, total - a] = as_rare @ own
    return p < alpha


def _z_rejects(n: int, alpha: float) -> np.ndarray:
    """Which pairs of counts the z test with unpooled variances rejects."""
    first, second = np.indices((n + 1, n + 1)) / n
    error = np.sqrt((first * (1 - first) + second * (1 - second)) / n)
    return np.abs(first - second) > stats.norm.ppf(1 - alpha / 2) * error


def detectable_rho(n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest rank correlation that a two-sided test over n pairs finds with some power.

    Fisher's transformation with Bonett and Wright's variance (1 + rho² / 2) / (n - 3), as the
    intervals of claims have it; nan below four pairs.

    Examples
    --------
    >>> round(detectable_rho(24), 2), round(detectable_rho(100), 2)
    (0.56, 0.28)
    """
    if n < 4:
        return math.nan
    rho = np.arange(1, 1000) / 1000
    spread = np.sqrt((1 + rho**2 / 2) / (n - 3))
    least = stats.norm.ppf(1 - alpha / 2) / math.sqrt(n - 3)
    found = stats.norm.sf((least - np.arctanh(rho)) / spread) >= power
    return float(rho[np.argmax(found)]) if found.any() else math.nan


def bootstrap_interval(
    values: np.ndarray, statistic: Callable[..., Any] = np.median, *, alpha: float = 0.05
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic at 1 - alpha; nan for fewer than six values.

    Examples
    --------
    >>> bootstrap_interval(np.array([0, 0, 0, 0, 0, 6.0]), np.mean)[0]
    0.0
    """
    if len(values) < FEWEST:
        return math.nan, math.nan
    found = stats.bootstrap(
        (values,),
        statistic,
        confidence_level=1 - alpha,
        method="percentile",
        n_resamples=RESAMPLES,
        rng=0,
    ).confidence_interval
    return float(found.low), float(found.high)


def _pairs(standard: Any, treated: Any, cap: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check the arguments of `paired_ratio`; return the cap of each pair and both sides."""
    left, right = _numbers("standard", standard), _numbers("treated", treated)
    if len(left) != len(right):
        raise InputError("treated", len(right), f"give as many runs as standard has, {len(left)}")
    limits = np.asarray(cap, dtype=float)
    if limits.shape not in ((), left.shape) or not np.isfinite(limits).all():
        raise InputError("cap", cap, "give one finite number, or one for each pair")
    limit = np.broadcast_to(limits, left.shape)
    for field, side in (("standard", left), ("treated", right)):
        wrong = side[(side <= 0) | (side > limit)]
        if len(wrong):
            remedy = "leave out pairs solved before training; none can need more than its cap"
            raise InputError(field, float(wrong[0]), remedy)
    return limit, left, right


def _feature_row(feature: np.ndarray, accuracy: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """One row of Table 2 without the feature's name."""
    complete = ~(np.isnan(feature) | np.isnan(accuracy) | np.isnan(group))
    feature, accuracy, right = feature[complete], accuracy[complete], group[complete] == 1
    rho = spearman(feature, accuracy)
    u = mann_whitney(feature[~right], feature[right])
    return {
        "rho": rho.statistic,
        "rho_p": rho.p,
        "n": rho.n,
        "u": u.statistic,
        "u_p": u.p,
        "n_wrong": int((~right).sum()),
        "n_right": int(right.sum()),
        "reason": _reason(feature, accuracy, right),
    }


def _reason(feature: np.ndarray, accuracy: np.ndarray, right: np.ndarray) -> str:
    """Why a statistic is nan, or nothing."""
    if len(feature) < 3:
        return "fewer than three snapshots"
    reasons = {
        "the feature is constant": np.ptp(feature) == 0,
        "the accuracy is constant": np.ptp(accuracy) == 0,
        "no snapshot is wrong": right.all(),
        "no snapshot is right": not right.any(),
    }
    return "; ".join(reason for reason, holds in reasons.items() if holds)


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """One column as float64, missing values as nan."""
    if name not in frame.columns:
        raise InputError("column", name, f"choose from {', '.join(map(str, frame.columns))}")
    try:
        return frame[name].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError("column", name, "name a column of numbers") from None


def _numbers(field: str, values: Any) -> np.ndarray:
    """One-dimensional float64 array."""
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(field, type(values).__name__, "give a list of numbers") from None
    if numbers.ndim != 1:
        raise InputError(field, numbers.shape, "give a list of numbers")
    return numbers
