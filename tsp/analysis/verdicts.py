"""Claims and their verdicts, and the decisions that several rules share."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence
from tsp.analysis.stats import (
    POWER,
    Interval,
    detectable_share,
    holm,
    median_interval,
    share_interval,
    sign_test,
)
from tsp.experiments.paper import ALPHA
from tsp.training.protocols import LENGTH

READING = "numbers return, reading fails"
"""Early against late snapshots give the printed numbers; across problems the reading fails."""
VERDICTS = (
    *("reproduced", "partly", READING, "not reproduced", "inconclusive"),
    *("true by definition", "not tested here"),
)
FAMILIES = ("phenomenon", "table 2", "TSLoss", "weight", "published version")
"""Claims whose tests are corrected together."""
HOLM = f"p < {ALPHA} after Holm's correction within the family"


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
    n: int = 0  # independent units (problems, or sets of ten) behind it
    effect: float = np.nan  # the quantity that the rule names
    low: float = np.nan  # its interval, simultaneous over the claim's family
    high: float = np.nan
    why: str = ""  # the numbers that the rule was applied to, and what they could have shown
    p: float = np.nan  # of the test that the rule names, whatever the levels
    printed: float = np.nan  # the effect that the paper prints


UNTESTED = Verdict("not tested here")
Judge = Callable[[Evidence, Levels], Verdict]


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
    judge: Judge  # the decision as code; UNTESTED where no units decide it
    null: float = 0.0  # the effect where nothing happens; nan where there is no such value
    margin: str = ""  # what the effect is compared with
    protocol: str = "tuned"  # of the deciding runs
    length: int = LENGTH  # epochs that are read of each
    profile: str = "full"  # large enough to decide it
    model: str = ""  # the model it is about, where it is not the profile's
    across: bool = False  # whether it is about other models than the one with the most runs
    without_runs: bool = False  # whether something can be said where there are no runs

    @property
    def effect_name(self) -> str:
        """The estimand in a few words."""
        return re.split(r", | \(|[:;] ", self.estimand)[0].removeprefix("the ")

    @property
    def rule(self) -> str:
        """The whole rule, with what `TESTS` adds to it."""
        shared = f" {TESTS}" if "test finds that" in self.decision else ""
        return f"Unit: {self.unit}. Effect: {self.estimand}. {self.decision}{shared}"

    @property
    def command(self) -> str:
        """The command that trains the runs that decide the claim."""
        model = f" --model {self.model}" if self.model else ""
        return f"tsp sweep {self.needs} --profile {self.profile}{model}"

    def decide(self, evidence: Evidence, levels: Levels = ALONE) -> Verdict:
        """Apply the rule to the evidence."""
        if len(evidence.runs) or self.without_runs:
            verdict = self.judge(evidence, levels)
            if verdict.verdict != UNTESTED.verdict:
                return verdict
        return replace(
            UNTESTED, why=f"no stored run decides it; `{self.command}` trains the runs that do"
        )


def claim(**about: Any) -> Callable[[Judge], Claim]:
    """Make a `Claim` of a function: its name is the id, its docstring the statement."""

    def made(judge: Any) -> Claim:
        name = judge.__name__.replace("_", "-")
        return Claim(id=name, statement=judge.__doc__, judge=judge, **about)

    return made


def signs(event: str) -> str:
    """Describe the decision by a sign test (`judge_changes`), which `TESTS` states in full."""
    return (
        f"Reproduced if a sign test finds that {event} in more units than the reverse, and it is "
        "so in at least half of all units."
    )


def share(event: str) -> str:
    """Describe the decision by a binomial test (`judge_events`), which `TESTS` states in full."""
    return f"Reproduced if a binomial test finds that in more than half of all units {event}."


TESTS = (
    f"Sign and binomial tests are two-sided ({HOLM}). A sign test sets unchanged units aside. "
    "A rule that does not say when its claim is inconclusive is completed as follows. By a sign "
    "test, the claim is partly reproduced if the test finds the change but fewer than half of all "
    "units show it; if the test does not find it, the claim is not reproduced if the exact "
    "interval (at the level of the test) of the share of all units that show it lies below one "
    "half, and inconclusive if it does not. By a binomial test, it is not reproduced if the test "
    "finds that fewer than half of all units show it, and inconclusive otherwise. What such a rule "
    "says about a reproduced or an inconclusive claim is applied last."
)
"""What the rules by `signs` and `share` have in common."""


def judge_signs(
    wins: int, ties: int, losses: int, *, alpha: float = ALPHA, event: bool = False
) -> tuple[str, str, float]:
    """Decide "it happens in most units" by a sign test; return verdict, reasons and p.

    It happens in ``wins`` units and the reverse in ``losses``, and ``ties`` do not change. p must
    be below ``alpha``; the interval of the share of wins is at 1 - alpha. An ``event`` has no
    reverse: ``losses`` are the units in which it does not happen, and the reasons call the test
    binomial.

    Examples
    --------
    >>> verdict, why, p = judge_signs(6, 0, 0)
    >>> verdict, why.partition(";")[0], p
    ('reproduced', '6 of 6 units as claimed, 0 unchanged, 0 the reverse', 0.03125)
    >>> judge_signs(5, 0, 0)[0]
    'inconclusive'
    """
    n, changed, p = wins + ties + losses, wins + losses, sign_test(wins, losses)
    others = f"{losses} not" if event else f"{ties} unchanged, {losses} the reverse"
    test, kind = ("binomial", "units") if event else ("sign", "changed units")
    why = f"{wins} of {n} units as claimed, {others}; {test} test p = {p:.2g}; "
    shown = detectable_share(changed, alpha=alpha)
    if np.isnan(shown):
        fewest = next(n for n in range(1, 99) if 2.0 ** (1 - n) < alpha)
        why += f"fewer than {fewest} {kind}, too few for any p < {alpha:.2g}"
    else:
        why += f"with {changed} {kind} the test has {100 * POWER:.0f} % power to detect a share "
        why += f"of {100 * shown:.0f} % (level {alpha:.2g})"
    if p < alpha and wins > losses:
        return ("reproduced" if 2 * wins >= n else "partly"), why, p
    refuted = share_interval(wins, n, alpha)[1] < 0.5
    return ("not reproduced" if refuted else "inconclusive"), why, p


def judge_changes(changes: Any, levels: Levels = ALONE, *, claimed: int) -> Verdict:
    """Decide by a sign test over units whether a quantity changes as claimed (1: up, -1: down)."""
    x = np.asarray(changes, dtype=float)
    if not len(x):
        return UNTESTED
    wins, losses = int((x * claimed > 0).sum()), int((x * claimed < 0).sum())
    counts = (wins, len(x) - wins - losses, losses)
    verdict, why, p = judge_signs(*counts, alpha=levels.alpha)
    interval = median_interval(x, levels.interval)
    return Verdict(verdict, len(x), float(pd.Series(x).median()), *interval, why, p)


def judge_events(event: pd.Series, levels: Levels, *, shown: pd.Series | None = None) -> Verdict:
    """Decide by a binomial test over units whether something happens in most of them.

    The effect is the median of ``shown``, by default the share of units in which it happens.
    """
    n, happened = len(event), int(event.sum())
    if not n:
        return UNTESTED
    verdict, why, p = judge_signs(happened, 0, n - happened, alpha=levels.alpha, event=True)
    if shown is None:
        effect, interval = happened / n, share_interval(happened, n, levels.interval)
    else:
        effect, interval = float(shown.median()), median_interval(shown, levels.interval)
    return Verdict(verdict, n, effect, *interval, why, p)


def because(verdict: Verdict, more: str) -> Verdict:
    """Add to a verdict's reasons."""
    return replace(verdict, why=f"{verdict.why}; {more}")


def partly_if(fails: bool, verdict: Verdict, more: str) -> Verdict:
    """Turn "reproduced" into "partly" where a further condition fails; add to the reasons."""
    partly = fails and verdict.verdict == "reproduced"
    return because(replace(verdict, verdict="partly") if partly else verdict, more)


def within(interval: Interval, low: float, high: float) -> bool:
    """Return whether an interval lies inside (low, high)."""
    return low < interval[0] and interval[1] < high


def by_interval(interval: Interval, low: float, high: float = np.inf) -> str:
    """Decide by an interval: reproduced inside (low, high), not reproduced outside it.

    Examples
    --------
    >>> [by_interval(interval, 0.9) for interval in ((0.92, 0.99), (0.7, 0.8), (0.8, 0.95))]
    ['reproduced', 'not reproduced', 'inconclusive']
    """
    if within(interval, low, high):
        return "reproduced"
    return "not reproduced" if interval[1] < low or interval[0] > high else "inconclusive"


def contrasts(differences: Mapping[str, Sequence[float] | pd.Series]) -> pd.DataFrame:
    """Apply sign tests to several paired differences, corrected as one family.

    Parameters
    ----------
    differences
        By name, one number per unit; nan where a unit has none.

    Returns
    -------
    DataFrame
        One row per name: ``n`` units, the numbers of them ``above`` and ``below`` zero; the
        ``median`` and its interval ``low`` to ``high`` (`median_interval`); ``p`` of the two-sided
        sign test, ``p_holm`` over the names, and ``shows``, the share of equal signs that the
        test detects with power 80 % at ALPHA / names (`tsp.analysis.stats.detectable_share`).
    """
    rows = []
    for name, values in differences.items():
        x = pd.Series(values, dtype=float).dropna()
        above, below = int((x > 0).sum()), int((x < 0).sum())
        shows = detectable_share(above + below, alpha=ALPHA / len(differences))
        p = sign_test(above, below)
        rows.append([name, len(x), above, below, x.median(), *median_interval(x), p, shows])
    names = ["name", "n", "above", "below", "median", "low", "high", "p", "shows"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(p_holm=holm(table.p))
