"""Claims about what happens to the topology of a prompt while it is trained (section 2)."""

from dataclasses import replace
from functools import partial
from itertools import combinations
from math import comb, prod

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence, at_balanced_check, first_and_last, plain_checks
from tsp.analysis.stats import spearman
from tsp.analysis.units import STRATUM, UNIT
from tsp.analysis.verdicts import (
    FEWEST,
    READING,
    SHUFFLES,
    Claim,
    Interval,
    Verdict,
    correlation,
    judge_changes,
    judge_correlation,
    judge_no_correlation,
    judge_signs,
    median_interval,
    stratified_rho,
    undecided,
)
from tsp.experiments.paper import ALPHA, APPENDIX_TASKS, MAIN_TASKS, reported

LITTLE = 0.1  # of its first value: the largest fall that is a little, what is left of little
EARLY = 0.25  # of the epochs: in which entropy is said to fall rapidly
SMALL_RHO = 0.324  # of H1 counts: the smallest that Table 2 calls a correlation
ALIKE = 0.2  # largest difference of the share of loops removed between data sets that are alike
STEPS_OF_A_SET = 2  # optimiser steps of an epoch of ten problems in batches of eight
ALL_TASKS = (*MAIN_TASKS, *APPENDIX_TASKS)
RESAMPLES = 2000

HOLM = f"p < {ALPHA} after Holm over the family"
PLAIN = (
    "one problem (or set of ten) on one model, the median of an odd number of its runs without "
    "TSLoss; all runs of a seed start from one prompt, so p is about problems, given such starts"
)


def signs(event: str) -> str:
    """Text of a decision by a sign test."""
    return (
        f"Reproduced when {event} in more units than the reverse by a two-sided sign test ({HOLM}, "
        "unchanged units set aside) and in at least half of all; partly when in fewer than half of "
        "all; not reproduced when the exact interval, at the same level, of the share of all units "
        "in which it happens lies below one half; inconclusive otherwise."
    )


def share(event: str) -> str:
    """Text of a decision by a binomial test."""
    return (
        f"Reproduced when {event} in more than half of all units by a two-sided binomial test "
        f"({HOLM}); not reproduced when in fewer than half, by the same test; inconclusive "
        "otherwise."
    )


def happens(event: pd.Series, shown: pd.Series, evidence: Evidence, more: str = "") -> Verdict:
    """Verdict on "it happens in most units", where not to happen is the reverse."""
    here = int(event.sum())
    verdict, why, p = judge_signs(here, 0, len(event) - here, alpha=evidence.alpha)
    why = f"{why}; {more}" if more else why
    interval = median_interval(shown, evidence.simultaneous)
    return Verdict(verdict, len(event), float(shown.median()), *interval, why, p)


def unless(verdict: Verdict, fails: bool, why: str) -> Verdict:
    """What is reproduced is partly so where a further condition of the rule fails."""
    partly = verdict.verdict == "reproduced" and fails
    return replace(verdict, verdict="partly" if partly else verdict.verdict, why=why)


def _change(evidence: Evidence, feature: str, claimed: int) -> Verdict | None:
    ends = first_and_last(evidence, feature)
    if ends.empty:
        return None
    return judge_changes(ends.change, claimed=claimed, **evidence.levels)  # type: ignore[arg-type]


def h0_count_constant(evidence: Evidence) -> Verdict:
    """Count the runs whose points coincide at a check; the rest is a definition."""
    runs = evidence.runs
    rows = runs[["id", "n_tokens"]].merge(evidence.topology, on="id") if len(runs) else runs
    fewer = 0 if rows.empty else rows.loc[rows.h0_count != rows.n_tokens, "id"].nunique()
    why = f"distinct points are that many components; {fewer} of {len(runs)} runs have points "
    why += "that coincide at a check"
    return Verdict("true by definition", len(runs), np.nan, np.nan, np.nan, why)


def h1_count_falls(evidence: Evidence) -> Verdict | None:
    """Judge the change of the H1 count."""
    return _change(evidence, "h1_count", -1)


def loops_vanish(evidence: Evidence) -> Verdict | None:
    """Judge the share of the first loops that is left."""
    ends = first_and_last(evidence, "h1_count")
    ends = ends[ends["first"] > 0]
    if ends.empty:
        return None
    left = ends["last"] / ends["first"]
    return happens(left <= LITTLE, left, evidence)


def h0_lifespan_grows(evidence: Evidence) -> Verdict | None:
    """Judge the change of the mean H0 lifespan, as it is and in units of the cloud's size."""
    raw = _change(evidence, "h0_mean_lifespan", 1)
    if raw is None:
        return None
    scaled = first_and_last(evidence, "h0_mean_lifespan_scaled")
    change = float(scaled.change.median())
    longer = int((scaled.change > 0).sum())
    why = f"{raw.why}; divided by the mean distance it is longer in {longer} of {len(scaled)}, "
    why += f"median change {change / scaled['first'].median():+.1%} of the first value"
    return unless(raw, change <= 0, why)


def entropy_falls(evidence: Evidence) -> Verdict | None:
    """Judge the change of the persistence entropy, which is to be small."""
    verdict = _change(evidence, "persistence_entropy", -1)
    if verdict is None:
        return None
    ends = first_and_last(evidence, "persistence_entropy")
    fall = float(-(ends.change / ends["first"]).median())
    why = f"{verdict.why}; median fall {fall:.1%} of the first value"
    return unless(verdict, fall > LITTLE, why)


def entropy_early(evidence: Evidence) -> Verdict | None:
    """Judge how much of the entropy's fall is in the first quarter of the epochs."""
    rows = plain_checks(evidence)
    if rows.empty:
        return None
    last = rows.groupby("id").epoch.transform("max")
    seen = ((rows.epoch > 0) & (rows.epoch <= EARLY * last)).groupby(rows.id).transform("any")
    rows = rows[seen]
    if rows.empty:
        return None
    runs = rows.groupby(["id", *UNIT])
    falls = {}
    for name, most in (("early", EARLY), ("all", 1.0)):
        upto = rows[rows.epoch <= most * runs.epoch.transform("max")]
        ends = upto.groupby(["id", *UNIT]).persistence_entropy.agg(["first", "last"])
        falls[name] = (ends["first"] - ends["last"]).groupby(UNIT).median()
    part = falls["early"] / falls["all"]
    return happens((falls["all"] > 0) & (part >= 0.5), part, evidence)


def density_minimal(evidence: Evidence) -> Verdict | None:
    """Judge the fall of the density n / D while the loops fall."""
    loops, spread = (first_and_last(evidence, name) for name in ("h1_count", "mean_distance"))
    if loops.empty:
        return None
    fall = 1 - spread["first"] / spread["last"]  # of n / D, as a share of its first value
    claimed = (loops.change < 0) & (fall >= 0) & (fall <= LITTLE)
    more = f"the H1 count falls in {(loops.change < 0).sum()} units"
    return happens(claimed, fall, evidence, more)


def same_everywhere(evidence: Evidence) -> Verdict | None:
    """Judge whether loops disappear in every data set, and to a like share."""
    ends = first_and_last(evidence, "h1_count")
    ends = ends[ends["first"] > 0]
    if ends.empty:
        return None
    removed = (-ends.change / ends["first"]).reset_index(name="removed")
    medians = removed.groupby("task").removed.median()
    apart = float(medians.max() - medians.min())
    low, high = _range_interval(removed, evidence.simultaneous)
    why = "median share of the loops removed: "
    why += ", ".join(f"{task} {value:.0%}" for task, value in medians.items())
    why += f"; largest difference {apart:.2f} ({low:.2f} to {high:.2f}), alike up to {ALIKE}"
    if (medians <= 0).any():
        verdict = "not reproduced"
    elif len(medians) < len(ALL_TASKS):
        verdict = "inconclusive"
        why += f"; {len(medians)} of {len(ALL_TASKS)} data sets have runs"
    elif high < ALIKE:
        verdict = "reproduced"
    else:
        verdict = "partly" if low > ALIKE else "inconclusive"
    return Verdict(verdict, len(ends), apart, low, high, why)


def _range_interval(removed: pd.DataFrame, alpha: float) -> Interval:
    """Interval of the largest difference of two medians, from bootstraps within data sets.

    A bootstrap of the largest difference itself would lie too high, since the estimates differ more
    than what they estimate. The low end is what some pair exceeds, at ``alpha`` over the number of
    pairs; the high end is what every pair stays below, each at ``alpha``.
    """
    rng = np.random.default_rng(0)
    groups = [rows.removed.to_numpy() for _, rows in removed.groupby("task")]
    medians = [np.median(rng.choice(it, (5 * RESAMPLES, len(it))), axis=1) for it in groups]
    differences = np.array([one - other for one, other in combinations(medians, 2)])
    if not len(differences):
        return np.nan, np.nan
    each = alpha / len(differences)
    low, high = np.quantile(differences, [each / 2, 1 - each / 2], axis=1)
    furthest = np.abs(np.quantile(differences, [alpha / 2, 1 - alpha / 2], axis=1))
    return max(0.0, float(low.max()), float(-high.min())), float(furthest.max())


def h1_falls_faster_multi(evidence: Evidence) -> Verdict | None:
    """Judge whether sets of ten lose their loops faster than single problems."""
    rows = plain_checks(evidence)
    if rows.empty:
        return None
    steps = rows.epoch * np.where(rows.regime == "multi", STEPS_OF_A_SET, 1)
    by_epoch, by_step = (_loops_left(rows.assign(clock=it)) for it in (rows.epoch, steps))
    if by_epoch.empty:
        return None
    faster, at_steps = _set_faster(by_epoch), _set_faster(by_step)
    values, sets, label = by_epoch.left.to_numpy(), by_epoch.sets.to_numpy(), by_epoch.label
    rho, p = stratified_rho(values, sets, label.to_numpy())
    wins = sum(int(it.sets.sum() * (~it.sets).sum()) for _, it in by_epoch.groupby("label"))
    why = f"a set loses its loops faster than a problem of its task in {faster:.0%} of "
    why += f"{wins} comparisons ({sets.sum()} sets, {(~sets).sum()} problems), {at_steps:.0%} at "
    ways = prod(comb(len(it), int(it.sum())) for _, it in by_epoch.groupby("label").sets)
    why += f"equal optimiser steps; p = {p:.3g} by shuffling within tasks, at least "
    why += f"{max(2 / ways, 1 / (1 + SHUFFLES)):.2g} with so many"
    decided = "reproduced" if rho < 0 else "not reproduced"
    verdict = decided if p < evidence.alpha else "inconclusive"
    interval = _faster_interval(by_epoch, evidence.simultaneous)
    found = Verdict(verdict, len(by_epoch), faster, *interval, why, p)
    return unless(found, at_steps <= 0.5, why)


def _loops_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the first loops that is left, mean over the clock's common readings of a stratum.

    One row a unit of the models and tasks that have both regimes: ``left``, ``sets``, ``label``.
    """
    strata = ["model", "task"]
    seen = rows.groupby([*strata, "clock"]).id.transform("nunique")
    rows = rows[seen == rows.groupby(strata).id.transform("nunique")]
    first = rows.groupby("id").h1_count.transform("first")
    left = (rows.h1_count / first)[first > 0].groupby([rows[key] for key in ["id", *UNIT]]).mean()
    units = left.groupby(UNIT).median().reset_index(name="left")
    units = units[units.groupby(strata).regime.transform("nunique") == 2]
    return units.assign(sets=units.regime == "multi", label=units.groupby(strata).ngroup())


def _set_faster(units: pd.DataFrame) -> float:
    """Share of comparisons of a set with a problem of its stratum in which less is left of it."""
    wins = [
        np.sign(np.subtract.outer(it.left[~it.sets].to_numpy(), it.left[it.sets].to_numpy()))
        for _, it in units.groupby("label")
    ]
    return float(np.mean(np.concatenate([it.ravel() for it in wins]) / 2 + 0.5)) if wins else np.nan


def _faster_interval(units: pd.DataFrame, alpha: float) -> Interval:
    """Percentile bootstrap interval of `_set_faster`, sets and problems resampled by stratum."""
    if units.sets.sum() < FEWEST:
        return np.nan, np.nan
    rng = np.random.default_rng(0)
    places = [np.asarray(it) for it in units.groupby(["label", "sets"]).indices.values()]
    found = [
        _set_faster(units.iloc[np.concatenate([rng.choice(it, len(it)) for it in places])])
        for _ in range(RESAMPLES // 4)
    ]
    low, high = np.quantile(found, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def correlates(evidence: Evidence, feature: str) -> Verdict | None:
    """Judge a feature's correlation with accuracy, across units and beside that over snapshots."""
    units = at_balanced_check(evidence, feature)
    if units.empty:
        none = plain_checks(evidence).empty
        why = "at no check are some units of a stratum solved and others not"
        return None if none else undecided(why)
    if len(units) < FEWEST:
        why = f"{len(units)} units are too few for a correlation, it takes {FEWEST}"
        return undecided(why, len(units))
    printed = float(reported("table2").set_index("feature").rho[feature])
    found = correlation(
        units[feature].to_numpy(),
        units.accuracy.to_numpy(),
        strata=units.groupby(STRATUM).ngroup().to_numpy(),
        sign=float(np.sign(printed)),
        simultaneous=evidence.simultaneous,
    )
    if abs(printed) < SMALL_RHO:
        small = judge_no_correlation(found, small=SMALL_RHO, alpha=evidence.alpha)
        return replace(small, printed=printed)
    pooled = _pooled(evidence, feature)
    return judge_correlation(found, printed=printed, pooled=pooled, alpha=evidence.alpha)


def _pooled(evidence: Evidence, feature: str) -> float:
    """Rank correlation over all snapshots with the half of its run that a snapshot is from.

    The printed numbers fit two equal groups of snapshots that also define accuracy
    (`tsp.analysis.stats.rho_from_u`).
    """
    rows = plain_checks(evidence)
    number = rows.groupby("id").cumcount() + 0.5
    middle = rows.groupby("id").id.transform("size") / 2
    rows = rows.assign(later=number > middle)[number != middle]
    return spearman(rows[feature], rows.later).statistic


RHO_UNIT = (
    "one problem (or set of ten) on one model, the mean of its runs without TSLoss. Each model, "
    "task and regime is a stratum, read at the check, of those that all its runs have, at which "
    "the share of its units solved so far is nearest one half; problems that the untrained prompt "
    "solves, and runs of less than half the longest's length, are excluded; strata where all or "
    "none are solved say nothing"
)
RHO = "Spearman's rho over ranks taken within strata, p from shuffling within strata"
RHO_DECISION = (
    f"Reproduced when {HOLM}, rho has the printed sign and its interval reaches the printed value; "
    "partly when the interval does not reach it. When the interval excludes the printed value (or "
    "the largest that so many solved and unsolved units allow, where that is smaller), or p is so "
    f"small with the other sign: '{READING}' if the rank correlation over all snapshots with the "
    "half of its run that a snapshot is from, which is what the printed numbers fit, has the "
    "printed sign and at least half the printed size; not reproduced if it has not. Inconclusive "
    "otherwise. At least six units are needed."
)


def _table2(name: str, feature: str, statement: str) -> Claim:
    return Claim(
        id=name,
        source="section 2.3, Table 2",
        statement=statement,
        family="table 2",
        needs="phenomenon",
        unit=RHO_UNIT,
        estimand=RHO,
        decision=RHO_DECISION,
        margin="interval excludes the printed rho",
        judge=partial(correlates, feature=feature),
    )


TOPOLOGY = (
    Claim(
        id="h0-count-constant",
        source="abstract; section 2.3, Figure 2 (c), Table 2",
        statement="The number of H0 features stays the same throughout training.",
        family="phenomenon",
        needs="phenomenon",
        unit="one run",
        estimand="none",
        decision="True by definition: distinct points are that many components at scale zero. The "
        "runs are only checked for coincident points.",
        judge=h0_count_constant,
    ),
    Claim(
        id="h1-count-falls",
        source="section 1; section 2.3, Figure 2 (c)",
        statement="Training removes loops: the number of H1 features goes down.",
        family="phenomenon",
        needs="phenomenon",
        unit=PLAIN,
        estimand="the median change of the H1 count from the first check to the last",
        decision=signs("the H1 count is lower at the last check than at the first"),
        judge=h1_count_falls,
    ),
    Claim(
        id="loops-vanish",
        source="section 1",
        statement="The number of loops eventually approaches zero.",
        family="phenomenon",
        needs="tuned-length",
        length=300,
        unit=f"{PLAIN}; those that begin without loops are excluded",
        estimand="the median share of the first loops that is left at the last of 300 epochs",
        decision=share("at most a tenth of the first loops is left"),
        margin="a tenth of the first loops",
        judge=loops_vanish,
    ),
    Claim(
        id="h0-lifespan-grows",
        source="section 2.3, Figure 2 (a), (b) and (d)",
        statement="H0 features live longer and longer while the prompt is trained.",
        family="phenomenon",
        needs="phenomenon",
        unit=PLAIN,
        estimand="the median change of the mean H0 lifespan",
        decision=signs("the mean H0 lifespan is longer at the last check than at the first")
        + " Reproduced so, but the median change of the lifespan divided by the mean distance, "
        "which stays the same when a cloud merely grows, is not positive: partly.",
        judge=h0_lifespan_grows,
    ),
    Claim(
        id="entropy-falls",
        source="section 1; appendix A.1.3, Figure 19",
        statement="Persistence entropy goes down a little.",
        family="phenomenon",
        needs="phenomenon",
        unit=PLAIN,
        estimand="the median change of the persistence entropy",
        decision=signs("the entropy is lower at the last check than at the first")
        + " A median fall of more than a tenth is not a little: partly.",
        margin="a tenth of the first entropy",
        judge=entropy_falls,
    ),
    Claim(
        id="entropy-early",
        source="section 2.3, Figure 3 (b)",
        statement="Persistence entropy falls rapidly at first and then stabilises.",
        family="phenomenon",
        needs="paper-length",
        protocol="paper",
        length=300,
        unit=PLAIN,
        estimand="the median share of the entropy's fall in the first quarter of the epochs",
        decision=share(
            "the entropy falls, and at least half of its fall is in the first quarter of the "
            "epochs,"
        ),
        margin="half of the fall",
        judge=entropy_early,
    ),
    Claim(
        id="density-minimal",
        source="section 2.3, Figure 3 (a)",
        statement="Loops vanish while the density of the cloud falls only minimally.",
        family="phenomenon",
        needs="paper-length",
        protocol="paper",
        length=300,
        unit=PLAIN,
        estimand="the median fall of the density, as a share of its first value",
        decision=share(
            "the H1 count falls and the density n / D (D: mean distance) falls too, by at most a "
            "tenth of its first value,"
        ),
        margin="a tenth of the first density",
        judge=density_minimal,
    ),
    Claim(
        id="h1-falls-faster-multi",
        source="section 2.3, Figure 2 (c)",
        statement="Loops disappear faster when ten problems are trained on together than with one.",
        family="phenomenon",
        needs="phenomenon",
        unit="one problem, or one set of ten, the median of its runs without TSLoss; models and "
        "tasks that have both are strata",
        estimand="the share of comparisons of a set with a problem of its stratum in which the set "
        "is faster: less is left of its first H1 count, averaged over the checks up to the last of "
        "the stratum's shortest run",
        decision="Reproduced when sets lie below single problems by a rank test that shuffles "
        f"within strata ({HOLM}); not reproduced when above; inconclusive otherwise. Reproduced "
        "so, but at equal optimiser steps, of which a set takes two an epoch, a set is not faster "
        "in most comparisons: partly. A problem may be in a set too: that makes both more alike "
        "and the test more careful.",
        judge=h1_falls_faster_multi,
    ),
    _table2(
        "h0-lifespan-accuracy",
        "h0_mean_lifespan",
        "Prompts whose H0 features live longer answer more accurately.",
    ),
    _table2("h1-count-accuracy", "h1_count", "Prompts with fewer loops answer more accurately."),
    _table2(
        "entropy-accuracy",
        "persistence_entropy",
        "Prompts of lower persistence entropy answer more accurately.",
    ),
    replace(
        _table2(
            "h1-lifespan-accuracy",
            "h1_mean_lifespan",
            "The mean H1 lifespan has nothing to do with accuracy.",
        ),
        decision=f"Reproduced when the interval lies within -{SMALL_RHO} and {SMALL_RHO}, the "
        f"smallest size that Table 2 calls a correlation; not reproduced when {HOLM} and it does "
        "not; inconclusive otherwise.",
        margin=f"rho within ±{SMALL_RHO}",
    ),
    Claim(
        id="same-everywhere",
        source="section 4.2; appendix A.2, Figures 6-19",
        statement="In all six data sets the topology evolves alike: loops disappear.",
        family="phenomenon",
        needs="phenomenon",
        unit=PLAIN,
        estimand="the largest difference, between two data sets, of the median share of the loops "
        "that is removed, with an interval from the bootstrap intervals of all pairs of data sets",
        decision="Not reproduced when loops do not fall in the median of a data set; otherwise "
        f"reproduced when the interval lies below {ALIKE}, partly when above; inconclusive when it "
        "holds it or a data set has no runs.",
        margin=f"{ALIKE} of the loops",
        judge=same_everywhere,
    ),
)
"""The claims of section 2 and its appendix."""
