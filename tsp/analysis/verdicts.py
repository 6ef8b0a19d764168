"""From one number a unit to a verdict: claims, findings, and the decisions that rules share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence
from tsp.analysis.stats import (
    Interval,
    detectable_share,
    holm,
    median_interval,
    share_interval,
    sign_test,
)
from tsp.experiments.paper import ALPHA

POWER = 0.8
READING = "numbers return, reading fails"
"""Early against late snapshots give the printed numbers; across problems the reading fails."""
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
HOLM = f"p < {ALPHA} after Holm over the family"

Direction = Literal[1, -1]


class Levels(NamedTuple):
    """The levels at which a claim is decided within its family."""

    alpha: float = ALPHA  # what p must be below: Holm's share of ALPHA
    interval: float = ALPHA  # 1 - confidence of intervals: ALPHA over the tests of the family


ALONE = Levels()
"""Levels of a single test, which belongs to no family."""


@dataclass(frozen=True)
class Verdict:
    """The decision about a claim; numbers that do not exist are nan."""

    verdict: str  # one of VERDICTS
    n: int  # independent units (problems, or sets of ten) behind it
    effect: float  # the quantity that the rule names
    low: float  # its interval, simultaneous over the claim's family
    high: float
    why: str  # the numbers that the rule was applied to, and what they could have shown
    p: float = np.nan  # of the test that the rule names
    printed: float = np.nan  # the effect that the paper prints


class Finding(NamedTuple):
    """What runs show about a claim: a p-value, and the verdict at the levels of its family."""

    p: float
    decide: Callable[[Levels], Verdict]


Judge = Callable[[Evidence], Finding | None]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper and the rule that decides it, in words and as code."""

    id: str  # name used in tables and links
    source: str  # where the paper says it
    statement: str  # what it says, in our words
    family: str  # one of FAMILIES
    needs: str  # the experiment whose runs decide it
    unit: str  # what counts once
    estimand: str  # which effect is estimated over units
    decision: str  # which result gives which verdict
    judge: Judge  # the decision as code; None where there are no runs to decide it
    margin: str = ""  # what the effect is compared with
    protocol: str = "tuned"  # of the deciding runs
    length: int = 100  # epochs that are read of each
    profile: str = "full"  # large enough to decide it
    model: str = ""  # the model it is about, where it is not the profile's
    across: bool = False  # whether it is about other models than the one with the most runs

    @property
    def rule(self) -> str:
        """The whole rule as a reader sees it."""
        return f"Unit: {self.unit}. Effect: {self.estimand}. {self.decision}"

    @property
    def command(self) -> str:
        """The command that trains the runs that decide the claim."""
        model = f" --model {self.model}" if self.model else ""
        return f"tsp sweep {self.needs} --profile {self.profile}{model}"


def claim(id: str, statement: str, **about: Any) -> Callable[[Judge], Claim]:
    """Make a `Claim` of the function that follows, its ``judge``."""
    return lambda judge: Claim(id=id, statement=statement, judge=judge, **about)


def signs(event: str) -> str:
    """Describe the decision by a sign test (`from_changes`)."""
    return (
        f"Reproduced when {event} in more units than the reverse by a two-sided sign test ({HOLM}, "
        "unchanged units set aside) and in at least half of all; partly when in fewer than half of "
        "all; not reproduced when the exact interval, at the same level, of the share of all units "
        "in which it happens lies below one half; inconclusive otherwise."
    )


def share(event: str) -> str:
    """Describe the decision by a binomial test (`from_events`)."""
    return (
        f"Reproduced when {event} in more than half of all units by a two-sided binomial test "
        f"({HOLM}); not reproduced when in fewer than half, by the same test; inconclusive "
        "otherwise."
    )


def judge_signs(
    wins: int, ties: int, losses: int, *, alpha: float = ALPHA
) -> tuple[str, str, float]:
    """Decide "it happens in most units" by a sign test, and say why.

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
    n, p = wins + ties + losses, sign_test(wins, losses)
    why = f"{wins} of {n} units as claimed, {ties} unchanged, {losses} the reverse; "
    why += f"sign test p = {p:.3g}; {_power(wins + losses, alpha)}"
    if p < alpha and wins > losses:
        return ("reproduced" if 2 * wins >= n else "partly"), why, p
    if share_interval(wins, n, alpha)[1] < 0.5:
        return "not reproduced", why, p
    return "inconclusive", why, p


def _power(moved: int, alpha: float) -> str:
    """Say which share of wins a sign test over the units that changed could have found."""
    share = detectable_share(moved, alpha=alpha, power=POWER)
    if np.isnan(share):
        fewest = next(n for n in range(1, 99) if 2.0 ** (1 - n) < alpha)
        return f"fewer than {fewest} changed, too few for any p < {alpha:.2g}"
    text = (
        f"with {moved} changed units the test has {100 * POWER:.0f} % power to detect a share of "
    )
    return f"{text}{100 * share:.0f} % (level {alpha:.2g})"


def from_changes(changes: Sequence[float] | pd.Series, *, claimed: Direction) -> Finding:
    """Decide by a sign test in which direction a quantity changes, one value a unit.

    The effect is the median change; its interval is that of `median_interval`.
    """
    x = np.asarray(changes, dtype=float)
    wins, losses = int((x * claimed > 0).sum()), int((x * claimed < 0).sum())
    return _from_signs((wins, len(x) - wins - losses, losses), x)


def from_events(event: pd.Series, shown: pd.Series, *, more: str = "") -> Finding:
    """Decide "it happens in most units", where not to happen counts as the reverse.

    The effect is the median of ``shown``, one value a unit; ``more`` is added to the reasons.
    """
    happened = int(event.sum())
    return _from_signs((happened, 0, len(event) - happened), shown, more)


def _from_signs(counts: tuple[int, int, int], values: Any, more: str = "") -> Finding:
    middle = float(pd.Series(values).median())

    def decide(levels: Levels) -> Verdict:
        verdict, why, p = judge_signs(*counts, alpha=levels.alpha)
        interval = median_interval(values, levels.interval)
        why = f"{why}; {more}" if more else why
        return Verdict(verdict, len(values), middle, *interval, why, p)

    return Finding(sign_test(counts[0], counts[2]), decide)


def judge_changes(changes: Sequence[float], *, claimed: Direction) -> Verdict:
    """Decide as `from_changes` does, for a quantity outside of any family."""
    return from_changes(changes, claimed=claimed).decide(ALONE)


def unless(finding: Finding, fails: bool, more: str) -> Finding:
    """Turn "reproduced" into "partly" where a further condition fails; add to the reasons."""

    def decide(levels: Levels) -> Verdict:
        decided = finding.decide(levels)
        partly = fails and decided.verdict == "reproduced"
        verdict = "partly" if partly else decided.verdict
        return replace(decided, verdict=verdict, why=f"{decided.why}; {more}")

    return Finding(finding.p, decide)


def undecided(why: str, n: int = 0) -> Finding:
    """Return the finding of a claim that cannot be judged from the runs there are."""
    return always(Verdict("inconclusive", n, np.nan, np.nan, np.nan, why))


def always(verdict: Verdict) -> Finding:
    """Return the finding of a verdict that depends on no level."""
    return Finding(verdict.p, lambda levels: verdict)


def within(interval: Interval, low: float, high: float) -> bool:
    """Whether an interval lies inside of (low, high): equivalence, where those are its margins."""
    return low < interval[0] and interval[1] < high


def compared(interval: Interval, low: float, high: float = np.inf) -> str:
    """Decide by an interval: reproduced inside of (low, high), not reproduced outside of it.

    Examples
    --------
    >>> [compared(it, 0.9) for it in ((0.92, 0.99), (0.7, 0.8), (0.8, 0.95))]
    ['reproduced', 'not reproduced', 'inconclusive']
    """
    if within(interval, low, high):
        return "reproduced"
    return "not reproduced" if interval[1] < low or interval[0] > high else "inconclusive"


def contrasts(differences: Mapping[str, Any]) -> pd.DataFrame:
    """Sign tests of several paired differences, corrected as one family.

    Parameters
    ----------
    differences
        By name, one number a unit; nan where a unit has none.

    Returns
    -------
    DataFrame
        One row a name: ``n`` units, the numbers of them ``above`` and ``below`` zero; the
        ``median`` and its interval ``low`` to ``high`` (`median_interval`); ``p`` of the two-sided
        sign test, ``p_holm`` over the names, and ``shows``, the share of equal signs that the
        test detects with power 80 % at ALPHA / names (`tsp.analysis.stats.detectable_share`).
    """
    rows = []
    for name, values in differences.items():
        x = np.asarray(values, dtype=float)
        x = x[~np.isnan(x)]
        above, below = int((x > 0).sum()), int((x < 0).sum())
        middle = float(np.median(x)) if len(x) else np.nan
        shows = detectable_share(above + below, alpha=ALPHA / len(differences), power=POWER)
        p = sign_test(above, below)
        rows.append([name, len(x), above, below, middle, *median_interval(x), p, shows])
    names = ["name", "n", "above", "below", "median", "low", "high", "p", "shows"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(p_holm=holm(table.p))
