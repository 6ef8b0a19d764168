"""How a verdict follows from one number for each independent unit."""

from collections.abc import Callable, Mapping, Sequence
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

READING = "numbers return, reading fails"
"""Early against late snapshots give the printed numbers; across problems the reading fails."""

Direction = Literal[1, -1]
Interval = tuple[float, float]


VERDICTS = (
    "reproduced",
    "partly",
    READING,
    "not reproduced",
    "inconclusive",
    "true by definition",
    "not tested here",
)
FAMILIES = ("phenomenon", "table 2", "TSLoss", "weight", "published version")
"""Claims whose tests are corrected together."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper, the rule that decides it from independent runs, and its code.

    Attributes
    ----------
    id
        A name for tables and links.
    source
        Where the paper says it.
    statement
        What it says, in our words.
    family
        One of `FAMILIES`.
    needs
        The experiment whose runs decide it.
    unit, estimand, decision
        What counts once, which effect is estimated over units, and which result gives which
        verdict.
    judge
        ``decision`` as code: `tsp.evidence.Evidence` to a verdict, None without runs.
    margin
        What the effect is held against, in words, where ``decision`` has such a margin.
    protocol, length
        Under which the deciding runs are trained, and how many epochs are read of them.
    profile
        The profile that is large enough to decide it.
    model
        The model it is about, where it is not the profile's.
    """

    id: str
    source: str
    statement: str
    family: str
    needs: str
    unit: str
    estimand: str
    decision: str
    judge: Callable[[Any], "Verdict | None"]
    margin: str = ""
    protocol: str = "tuned"
    length: int = 100
    profile: str = "full"
    model: str = ""

    @property
    def rule(self) -> str:
        """The whole rule as a reader sees it."""
        return f"Unit: {self.unit}. Effect: {self.estimand}. {self.decision}"

    @property
    def command(self) -> str:
        """What to type for the runs that decide the claim."""
        model = f" --model {self.model}" if self.model else ""
        return f"tsp sweep {self.needs} --profile {self.profile}{model}"


@dataclass(frozen=True)
class Verdict:
    """What the runs say about a claim.

    Attributes
    ----------
    verdict
        One of `VERDICTS`.
    n
        Independent units (problems, or sets of ten) behind it.
    effect, low, high
        The quantity that the rule names and its interval, simultaneous over the claim's family;
        nan where there is none.
    why
        The numbers that the rule was applied to, in words, and what they could have shown.
    p
        Of the test that the rule names; nan where none was made.
    printed
        The effect that the paper prints; nan where it prints none.
    """

    verdict: str
    n: int
    effect: float
    low: float
    high: float
    why: str
    p: float = np.nan
    printed: float = np.nan


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


def judge_changes(
    changes: Sequence[float],
    *,
    claimed: Direction,
    alpha: float = ALPHA,
    simultaneous: float = ALPHA,
) -> Verdict:
    """Verdict on the direction in which a quantity changes, one value a unit.

    The effect is the median change, its interval from order statistics at 1 - ``simultaneous``
    (nan where there are too few units for it).
    """
    x = np.asarray(changes, dtype=float)
    wins, losses = int((x * claimed > 0).sum()), int((x * claimed < 0).sum())
    verdict, why, p = judge_signs(wins, len(x) - wins - losses, losses, alpha=alpha)
    interval = median_interval(x, simultaneous)
    return Verdict(verdict, len(x), float(np.median(x)), *interval, why, p)


def median_interval(values: Sequence[float] | np.ndarray, alpha: float = ALPHA) -> Interval:
    """Order statistics that hold the median with confidence 1 - alpha at least, or nan."""
    x = np.sort(np.asarray(values, dtype=float))
    k = int(distributions.binom.ppf(alpha / 2, len(x), 0.5))
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


@dataclass(frozen=True)
class Correlation:
    """A rank correlation over units, with what its judges need.

    Attributes
    ----------
    rho, p, low, high
        `stratified_rho`, and Bonett and Wright's interval; ranks within strata leave one unit less
        for every further stratum.
    n
        Units.
    most
        The largest size that so many solved and unsolved units allow.
    why
        All that in words.
    """

    rho: float
    p: float
    low: float
    high: float
    n: int
    most: float
    why: str


def correlation(
    x: np.ndarray,
    y: np.ndarray,
    *,
    strata: np.ndarray,
    sign: float = 1.0,
    simultaneous: float = ALPHA,
) -> Correlation:
    """Correlate two quantities over units; ``sign`` is that of the claim."""
    rho, p = stratified_rho(x, y, strata)
    free = len(x) - len(np.unique(strata)) + 1
    low, high = rho_interval(rho, free, simultaneous)
    most = attainable_rho(x, y, strata, sign=sign)
    why = f"across {len(x)} units rho = {rho:.3f} ({low:.2f} to {high:.2f}), p = {p:.3g} by "
    why += f"shuffling; attainable with so many solved: {most:.2f}; so many show a rho of "
    why += f"{detectable_rho(free, alpha=simultaneous, power=POWER):.2f} or more at level "
    why += f"{simultaneous:.2g} with power {POWER:.0%}"
    return Correlation(rho, p, low, high, len(x), most, why)


def judge_no_correlation(found: Correlation, *, small: float, alpha: float = ALPHA) -> Verdict:
    """Verdict on "there is no correlation": the interval lies within +- small."""
    verdict = "not reproduced" if found.p < alpha else "inconclusive"
    if -small < found.low and found.high < small:
        verdict = "reproduced"
    return Verdict(verdict, found.n, found.rho, found.low, found.high, found.why, found.p)


def judge_correlation(
    found: Correlation, *, printed: float, pooled: float, alpha: float = ALPHA
) -> Verdict:
    """Verdict on a correlation that the paper prints.

    Parameters
    ----------
    found
        Across units.
    printed
        The paper's, over snapshots.
    pooled
        Ours over snapshots.
    alpha
        What p must be below.
    """
    claimed = float(np.sign(printed))
    size = min(abs(printed), found.most)
    furthest = found.high if claimed > 0 else -found.low
    excluded = furthest < size
    if found.p < alpha and found.rho * claimed > 0:
        verdict = "partly" if excluded else "reproduced"
    elif excluded or found.p < alpha:
        verdict = READING if pooled * claimed >= abs(printed) / 2 else "not reproduced"
    else:
        verdict = "inconclusive"
    why = f"{found.why}; over snapshots, early against late, rho = {pooled:.3f}"
    return Verdict(verdict, found.n, found.rho, found.low, found.high, why, found.p, printed)


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
