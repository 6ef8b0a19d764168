"""Claims that a topological feature goes with accuracy (Table 2).

The docstring of a claim is the paper's statement; ``estimand`` above it says what is measured.
"""

from functools import partial

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence, at_balanced_check, cached, later_half
from tsp.analysis.stats import (
    FEWEST,
    POWER,
    attainable_rho,
    detectable_rho,
    rho_interval,
    spearman,
    stratified_rho,
)
from tsp.analysis.verdicts import HOLM, READING, UNTESTED, Levels, Verdict, claim, within
from tsp.experiments.paper import reported

SMALL_RHO = 0.324  # of H1 counts: the smallest that Table 2 calls a correlation

DECISION = (
    f"Reproduced if {HOLM}, rho has the printed sign and its interval reaches the printed value; "
    "partly if the interval does not reach it. The printed value is refuted if the interval "
    "excludes it (or excludes the largest rho that so many solved and unsolved units allow, where "
    "that is smaller), or if p is significant with the opposite sign. The verdict is then "
    f"'{READING}' if the feature's rank correlation over all snapshots with the half of the run "
    "that a snapshot comes from (which is what the printed numbers fit) has the printed sign and "
    "at least half of the printed size, and 'not reproduced' if it does not. Inconclusive in all "
    "other cases, and with fewer than six units."
)
NO_CORRELATION = (
    f"Reproduced if the interval lies between -{SMALL_RHO} and {SMALL_RHO}, the smallest size "
    f"that Table 2 calls a correlation; not reproduced if it does not and {HOLM}; inconclusive "
    "otherwise."
)
UNIT = (
    "one problem (or set of ten) on one model: the mean over its runs without TSLoss. The units of "
    "one model, task and regime are a stratum, which is read at one check: of those that all its "
    "runs have, the one at which the share of units solved so far is closest to one half. Accuracy "
    "is the share of a unit's runs that are solved by that check. Problems "
    "that the untrained "
    "prompt solves and runs shorter than half the longest are excluded; strata in which all units "
    "or none are solved carry no information"
)
table2 = partial(
    claim,
    source="section 2.3, Table 2",
    family="table 2",
    needs="phenomenon",
    unit=UNIT,
    estimand="Spearman's rho of ranks taken within strata, with p from shuffling within strata",
)
correlated = partial(table2, decision=DECISION, margin="interval excludes the printed rho")


@correlated()
def h0_lifespan_accuracy(evidence: Evidence, levels: Levels) -> Verdict:
    """Prompts whose H0 features live longer answer more accurately."""
    return correlates(evidence, levels, "h0_mean_lifespan")


@correlated()
def h1_count_accuracy(evidence: Evidence, levels: Levels) -> Verdict:
    """Prompts with fewer loops answer more accurately."""
    return correlates(evidence, levels, "h1_count")


@correlated()
def entropy_accuracy(evidence: Evidence, levels: Levels) -> Verdict:
    """Prompts of lower persistence entropy answer more accurately."""
    return correlates(evidence, levels, "persistence_entropy")


@table2(decision=NO_CORRELATION, margin=f"rho within ±{SMALL_RHO}")
def h1_lifespan_accuracy(evidence: Evidence, levels: Levels) -> Verdict:
    """The mean H1 lifespan is not related to accuracy."""
    return correlates(evidence, levels, "h1_mean_lifespan")


def correlates(evidence: Evidence, levels: Levels, feature: str) -> Verdict:
    """Judge a feature's correlation with accuracy, across units and beside that over snapshots."""
    units = at_balanced_check(evidence, feature)
    if units.empty:
        why = "at no check are some units of a stratum solved and others not"
        return UNTESTED if evidence.plain_checks.empty else Verdict("inconclusive", why=why)
    if len(units) < FEWEST:
        why = f"{len(units)} units are too few for a correlation, which takes {FEWEST}"
        return Verdict("inconclusive", len(units), why=why)
    printed = float(reported("table2").set_index("feature").rho[feature])
    tested, pooled = rho_and_p(evidence, feature), pooled_rhos(evidence, feature)
    x, y, strata = columns(units, feature)
    return judge_rho(x, y, strata, levels, tested, printed=printed, pooled=pooled)


def columns(units: pd.DataFrame, feature: str) -> list[np.ndarray]:
    """Return feature, accuracy and stratum of each unit, as `stratified_rho` takes them."""
    return [units[name].to_numpy() for name in (feature, "accuracy", "stratum")]


@cached
def rho_and_p(evidence: Evidence, feature: str) -> tuple[float, float]:
    """Return `stratified_rho` of a feature with accuracy."""
    return stratified_rho(*columns(at_balanced_check(evidence, feature), feature))


@cached
def pooled_rhos(evidence: Evidence, feature: str) -> tuple[float, float]:
    """Correlate checks with the half of the run they are from, and with their accuracy.

    The printed numbers fit the first: two equal groups of snapshots that also define accuracy
    (`tsp.analysis.stats.rho_from_u`).
    """
    halves = evidence.plain_checks.assign(half=later_half).dropna(subset="half")
    answers = evidence.scored_checks
    with_half = spearman(halves[feature], halves.half).statistic
    return with_half, spearman(answers[feature], answers.accuracy).statistic


def judge_rho(
    x: np.ndarray,
    y: np.ndarray,
    strata: np.ndarray,
    levels: Levels,
    tested: tuple[float, float],
    *,
    printed: float,
    pooled: tuple[float, float],
) -> Verdict:
    """Judge a rank correlation within strata against the one that the paper prints.

    ``x`` and ``y`` are feature and accuracy, one pair per unit, and ``tested`` is what
    `stratified_rho` says of them. A ``printed`` value smaller in size
    than `SMALL_RHO` claims no correlation. The first of ``pooled`` (`pooled_rhos`) decides whether
    the printed number returns.
    """
    n, claimed = len(x), float(np.sign(printed))
    rho, p = tested
    free = n - len(np.unique(strata)) + 1  # every further stratum costs one unit
    most = attainable_rho(x, y, strata, sign=claimed)
    low, high = rho_interval(rho, free, levels.interval)
    shown = detectable_rho(free, alpha=levels.interval)
    why = f"across {n} units rho = {rho:.2f} ({low:.2f} to {high:.2f}), p = {p:.2g} by "
    why += (
        f"shuffling; strongest rho that so many solved units allow: {most:.2f}; with {n} units the "
    )
    why += f"test has {100 * POWER:.0f} % power to detect a rho of {shown:.2f} "
    why += f"(level {levels.interval:.2g})"
    clear = p < levels.alpha
    verdict = "inconclusive"
    if abs(printed) < SMALL_RHO:
        if within((low, high), -SMALL_RHO, SMALL_RHO):
            verdict = "reproduced"
        elif clear:
            verdict = "not reproduced"
    else:
        why += f"; over snapshots, early against late, rho = {pooled[0]:.2f}"
        why += f", with their own accuracy {pooled[1]:.2f}"
        excluded = (high if claimed > 0 else -low) < min(abs(printed), most)
        if clear and rho * claimed > 0:
            verdict = "partly" if excluded else "reproduced"
        elif excluded or clear:
            returns = pooled[0] * claimed >= abs(printed) / 2
            verdict = READING if returns else "not reproduced"
    return Verdict(verdict, n, rho, low, high, why, p, printed)
