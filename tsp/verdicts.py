"""How a verdict follows from one number for each independent unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats as distributions

from tsp.paper import ALPHA
from tsp.stats import detectable_rho, detectable_share, holm

FEWEST = int(np.ceil(1 + np.log2(1 / ALPHA)))  # equal signs needed for p < ALPHA: six
POWER = 0.8
SHUFFLES = 9_999

Direction = Literal[1, -1]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What the runs say about a claim.

    Attributes
    ----------
    verdict
        One of `tsp.paper.VERDICTS`.
    n
        Independent units (problems, or sets of ten) behind it.
    estimate, low, high
        The quantity that the rule names and its 95 % interval; nan where there is none.
    why
        The numbers that the rule was applied to, in words, and what they could have shown.
    p
        Of the test that the rule names; nan where none was made.
    """

    verdict: str
    n: int
    estimate: float
    low: float
    high: float
    why: str
    p: float = np.nan


def undecided(why: str, n: int = 0) -> Verdict:
    """What cannot be judged, and why."""
    return Verdict("inconclusive", n, np.nan, np.nan, np.nan, why)


def judge_signs(
    wins: int, ties: int, losses: int, *, alpha: float = ALPHA
) -> tuple[str, str, float]:
    """Verdict on "it happens in most units", from how often it does, and why.

    Parameters
    ----------
    wins, ties, losses
        Units in which it happens, in which nothing changes, in which the reverse happens.
    alpha
        What p must be below; the interval of the share is at 1 - alpha.

    Returns
    -------
    verdict, why : str
    p : float

    Examples
    --------
    >>> verdict, why, p = judge_signs(6, 0, 0)
    >>> verdict, why.partition(";")[0], p
    ('reproduced', '6 of 6 units as claimed, 0 unchanged, 0 the reverse', 0.03125)
    >>> judge_signs(5, 0, 0)[0]
    'inconclusive'
    """
    n, moved = wins + ties + losses, wins + losses
    p = float(distributions.binomtest(wins, moved).pvalue) if moved else 1.0
    why = f"{wins} of {n} units as claimed, {ties} unchanged, {losses} the reverse; "
    why += f"sign test p = {p:.3g}; {_power(moved, alpha)}"
    if p < alpha and wins > losses:
        return ("reproduced" if 2 * wins >= n else "partly"), why, p
    if share_interval(wins, n, alpha)[1] < 0.5:
        return "not reproduced", why, p
    return "inconclusive", why, p


def _power(moved: int, alpha: float) -> str:
    """What a sign test over so many units that changed could have found."""
    share = detectable_share(moved, alpha=alpha, power=POWER)
    if np.isnan(share):
        fewest = next(n for n in range(1, 99) if 2.0 ** (1 - n) < alpha)
        return f"fewer than {fewest} changed, too few for any p < {alpha:.2g}"
    shown = f"{moved} changed units show a share of {share:.0%} or more"
    return f"{shown} at level {alpha:.2g} with power {POWER:.0%}"


def contrasts(differences: Mapping[str, Any]) -> pd.DataFrame:
    """Sign tests of several paired differences, one family.

    Parameters
    ----------
    differences
        By name, one number a unit; nan where a unit has none.

    Returns
    -------
    DataFrame
        One row a name: ``n`` units, of which so many lie ``above`` and ``below`` zero; the
        ``median`` and its interval ``low`` to ``high`` (`median_interval`); ``p`` of the two-sided
        sign test, ``p_holm`` over the names, and the share of equal signs that the smallest p of
        the family ``shows`` with power 80 % (`tsp.stats.detectable_share` at ALPHA / names).
    """
    rows = []
    for name, values in differences.items():
        x = np.asarray(values, dtype=float)
        x = x[~np.isnan(x)]
        above, below = int((x > 0).sum()), int((x < 0).sum())
        moved = above + below
        p = float(distributions.binomtest(above, moved).pvalue) if moved else 1.0
        middle = float(np.median(x)) if len(x) else np.nan
        shows = detectable_share(moved, alpha=ALPHA / len(differences), power=POWER)
        rows.append([name, len(x), above, below, middle, *median_interval(x), p, shows])
    names = ["name", "n", "above", "below", "median", "low", "high", "p", "shows"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(p_holm=holm(table.p))


def judge_changes(changes: Sequence[float], *, claimed: Direction, alpha: float = ALPHA) -> Verdict:
    """Verdict on the direction in which a quantity changes, one value a unit.

    The estimate is the median change, its interval from order statistics (nan below six units).
    """
    x = np.asarray(changes, dtype=float)
    wins, losses = int((x * claimed > 0).sum()), int((x * claimed < 0).sum())
    verdict, why, p = judge_signs(wins, len(x) - wins - losses, losses, alpha=alpha)
    return Verdict(verdict, len(x), float(np.median(x)), *median_interval(x), why, p)


def median_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Order statistics that hold the median with at least 95 % confidence, or nan."""
    x = np.sort(np.asarray(values, dtype=float))
    k = int(distributions.binom.ppf(ALPHA / 2, len(x), 0.5))
    return (float(x[k - 1]), float(x[-k])) if k else (np.nan, np.nan)


def share_interval(wins: int, n: int, alpha: float = ALPHA) -> Interval:
    """Exact (Clopper-Pearson) interval at 1 - alpha of the share behind ``wins`` of ``n``."""
    interval = distributions.binomtest(wins, n).proportion_ci(1 - alpha, method="exact")
    return float(interval.low), float(interval.high)


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
        With one stratum, rho is Spearman's. Ranks are divided by the stratum's size and centred.
        nan and 1 if one quantity varies in no stratum.

    Examples
    --------
    >>> rho, p = stratified_rho(np.arange(8), np.arange(8) > 3, np.zeros(8))
    >>> round(rho, 3), round(p, 2)
    (0.873, 0.03)
    """
    ranked, scale = _ranked(x, y, strata)
    if not scale > 0:  # constant, or not a number
        return float("nan"), 1.0
    labels = np.unique(strata, return_inverse=True)[1]
    rho = float(ranked[0] @ ranked[1]) / scale
    shuffled = _shuffled(ranked[0].tobytes(), ranked[1].tobytes(), labels.tobytes())
    extreme = np.abs(shuffled) / scale >= abs(rho) - 1e-12
    return rho, float((1 + extreme.sum()) / (1 + SHUFFLES))


@lru_cache(maxsize=8)  # a verdict is asked for again at another level
def _shuffled(x: bytes, y: bytes, strata: bytes) -> np.ndarray:
    """Products of x with y shuffled within strata, (shuffles,)."""
    first, second = np.frombuffer(x), np.frombuffer(y)
    labels = np.frombuffer(strata, dtype=np.intp)
    rng, found = np.random.default_rng(0), np.zeros(SHUFFLES)
    for label in np.unique(labels):
        here = labels == label
        found += rng.permuted(np.tile(second[here], (SHUFFLES, 1)), axis=1) @ first[here]
    return found


def attainable_rho(x: np.ndarray, y: np.ndarray, strata: np.ndarray, *, sign: float) -> float:
    """Largest size of `stratified_rho` that the same values can have in another order.

    A two-valued y has few ranks, and of unequal groups no order reaches 1.
    """
    order = np.lexsort((x, strata)), np.lexsort((sign * y, strata))
    ranked, scale = _ranked(x[order[0]], y[order[1]], np.sort(strata))
    return abs(float(ranked[0] @ ranked[1]) / scale) if scale > 0 else float("nan")


def _ranked(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Ranks of two quantities and the largest product that they could have."""
    ranked = [_centred_ranks(values, strata) for values in (x, y)]
    return ranked, float(np.sqrt((ranked[0] ** 2).sum() * (ranked[1] ** 2).sum()))


def judge_no_correlation(
    x: np.ndarray, y: np.ndarray, *, strata: np.ndarray, small: float, alpha: float = ALPHA
) -> Verdict:
    """Verdict on "there is no correlation": the interval at 1 - alpha lies within +- small."""
    if len(x) < FEWEST:
        return undecided(f"{len(x)} units are too few for a correlation, it takes {FEWEST}", len(x))
    rho, p = stratified_rho(x, y, strata)
    free = len(x) - len(np.unique(strata)) + 1
    low, high = rho_interval(rho, free, alpha)
    why = f"rho = {rho:.3f} over {len(x)} units, p = {p:.3g} by shuffling; interval at level "
    why += f"{alpha:.2g}: {low:.2f} to {high:.2f}"
    verdict = "not reproduced" if p < alpha else "inconclusive"
    if -small < low and high < small:
        verdict = "reproduced"
    return Verdict(verdict, len(x), rho, *rho_interval(rho, free), why, p)


def judge_correlation(
    x: np.ndarray, y: np.ndarray, *, strata: np.ndarray, printed: float, alpha: float = ALPHA
) -> Verdict:
    """Verdict on a correlation of the sign, and at least half the size, that the paper prints.

    The interval is Bonett and Wright's for Spearman's rho, at 95 %; the one that speaks against
    the claim is at 1 - alpha. Ranks within strata leave one unit less for every further stratum.
    """
    if len(x) < FEWEST:
        return undecided(f"{len(x)} units are too few for a correlation, it takes {FEWEST}", len(x))
    claimed = float(np.sign(printed))
    rho, p = stratified_rho(x, y, strata)
    free = len(x) - len(np.unique(strata)) + 1
    low, high = rho_interval(rho, free)
    widest = rho_interval(rho, free, alpha)
    furthest = widest[1] if claimed > 0 else -widest[0]
    most = attainable_rho(x, y, strata, sign=claimed)
    why = f"rho = {rho:.3f} over {len(x)} units (printed: {printed}), p = {p:.3g} by "
    why += f"shuffling; attainable with so many solved: {most:.2f}"
    shows = detectable_rho(free, alpha=alpha, power=POWER)
    why += f"; so many show a rho of {shows:.2f} or more at level {alpha:.2g} "
    why += f"with power {POWER:.0%}"
    if p < alpha and rho * claimed > 0:
        return Verdict("reproduced", len(x), rho, low, high, why, p)
    against = furthest < min(abs(printed), most) / 2
    verdict = "not reproduced" if p < alpha or against else "inconclusive"
    return Verdict(verdict, len(x), rho, low, high, why, p)


def _centred_ranks(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(values))
    for label in np.unique(strata):
        here = strata == label
        ranks[here] = distributions.rankdata(values[here]) / here.sum()
        ranks[here] -= ranks[here].mean()
    return ranks


def rho_interval(rho: float, n: int, alpha: float = ALPHA) -> Interval:
    """Interval at 1 - alpha of Spearman's rho over n pairs (Bonett and Wright's); nan below 4."""
    if n < 4:
        return np.nan, np.nan
    z = np.arctanh(np.clip(rho, -0.999, 0.999))
    half = distributions.norm.ppf(1 - alpha / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return float(np.tanh(z - half)), float(np.tanh(z + half))
