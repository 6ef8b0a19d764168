"""Claims about the topology of a prompt while it is trained (section 2)."""

from functools import partial
from itertools import combinations
from math import comb, prod
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence, first_and_last
from tsp.analysis.stats import FEWEST, Interval, stratified_rho
from tsp.analysis.stats.ranks import SHUFFLES
from tsp.analysis.units import UNIT
from tsp.analysis.verdicts import (
    HOLM,
    Finding,
    Levels,
    Verdict,
    always,
    claim,
    from_changes,
    from_events,
    share,
    signs,
    unless,
)
from tsp.experiments.paper import APPENDIX_TASKS, MAIN_TASKS

LITTLE = 0.1  # of its first value: the largest fall that is a little, what is left of little
EARLY = 0.25  # of the epochs: in which entropy is said to fall rapidly
ALIKE = 0.2  # largest difference of the share of loops removed between data sets that are alike
STEPS_OF_A_SET = 2  # optimiser steps of an epoch of ten problems in batches of eight
ALL_TASKS = (*MAIN_TASKS, *APPENDIX_TASKS)
RESAMPLES = 2000
PLAIN = (
    "one problem (or set of ten) on one model, the median of an odd number of its runs without "
    "TSLoss; all runs of a seed start from one prompt, so p is about problems, given such starts"
)

PAPER_LENGTH: dict[str, Any] = {"needs": "paper-length", "protocol": "paper", "length": 300}
phenomenon = partial(claim, family="phenomenon", needs="phenomenon", unit=PLAIN)


@phenomenon(
    "h0-count-constant",
    "The number of H0 features stays the same throughout training.",
    source="abstract; section 2.3, Figure 2 (c), Table 2",
    unit="one run",
    estimand="none",
    decision="True by definition: distinct points are that many components at scale zero. The "
    "runs are only checked for coincident points.",
)
def h0_count_constant(evidence: Evidence) -> Finding:
    """Count the runs whose points coincide at a check; the rest is a definition."""
    runs = evidence.runs
    rows = runs[["id", "n_tokens"]].merge(evidence.topology, on="id") if len(runs) else runs
    fewer = 0 if rows.empty else rows.loc[rows.h0_count != rows.n_tokens, "id"].nunique()
    why = f"distinct points are that many components; {fewer} of {len(runs)} runs have points "
    why += "that coincide at a check"
    return always(Verdict("true by definition", len(runs), np.nan, np.nan, np.nan, why))


@phenomenon(
    "h1-count-falls",
    "Training removes loops: the number of H1 features goes down.",
    source="section 1; section 2.3, Figure 2 (c)",
    estimand="the median change of the H1 count from the first check to the last",
    decision=signs("the H1 count is lower at the last check than at the first"),
)
def h1_count_falls(evidence: Evidence) -> Finding | None:
    """Judge the change of the H1 count."""
    ends = first_and_last(evidence, "h1_count")
    return None if ends.empty else from_changes(ends.change, claimed=-1)


@phenomenon(
    "loops-vanish",
    "The number of loops eventually approaches zero.",
    source="section 1",
    needs="tuned-length",
    length=300,
    unit=f"{PLAIN}; those that begin without loops are excluded",
    estimand="the median share of the first loops that is left at the last of 300 epochs",
    decision=share("at most a tenth of the first loops is left"),
    margin="a tenth of the first loops",
)
def loops_vanish(evidence: Evidence) -> Finding | None:
    """Judge the share of the first loops that is left."""
    ends = first_and_last(evidence, "h1_count")
    ends = ends[ends["first"] > 0]
    left = ends["last"] / ends["first"]
    return None if ends.empty else from_events(left <= LITTLE, left)


@phenomenon(
    "h0-lifespan-grows",
    "H0 features live longer and longer while the prompt is trained.",
    source="section 2.3, Figure 2 (a), (b) and (d)",
    estimand="the median change of the mean H0 lifespan",
    decision=signs("the mean H0 lifespan is longer at the last check than at the first")
    + " Reproduced so, but the median change of the lifespan divided by the mean distance, "
    "which stays the same when a cloud merely grows, is not positive: partly.",
)
def h0_lifespan_grows(evidence: Evidence) -> Finding | None:
    """Judge the change of the mean H0 lifespan, as it is and in units of the cloud's size."""
    ends = first_and_last(evidence, "h0_mean_lifespan")
    if ends.empty:
        return None
    scaled = first_and_last(evidence, "h0_mean_lifespan_scaled")
    change = float(scaled.change.median())
    more = f"divided by the mean distance it is longer in {(scaled.change > 0).sum()} of "
    more += f"{len(scaled)}, median change {change / scaled['first'].median():+.1%} of the first "
    return unless(from_changes(ends.change, claimed=1), change <= 0, f"{more}value")


@phenomenon(
    "entropy-falls",
    "Persistence entropy goes down a little.",
    source="section 1; appendix A.1.3, Figure 19",
    estimand="the median change of the persistence entropy",
    decision=signs("the entropy is lower at the last check than at the first")
    + " A median fall of more than a tenth is not a little: partly.",
    margin="a tenth of the first entropy",
)
def entropy_falls(evidence: Evidence) -> Finding | None:
    """Judge the change of the persistence entropy, which is to be small."""
    ends = first_and_last(evidence, "persistence_entropy")
    if ends.empty:
        return None
    fall = float(-(ends.change / ends["first"]).median())
    more = f"median fall {fall:.1%} of the first value"
    return unless(from_changes(ends.change, claimed=-1), fall > LITTLE, more)


@phenomenon(
    "entropy-early",
    "Persistence entropy falls rapidly at first and then stabilises.",
    source="section 2.3, Figure 3 (b)",
    **PAPER_LENGTH,
    estimand="the median share of the entropy's fall in the first quarter of the epochs",
    decision=share(
        "the entropy falls, and at least half of its fall is in the first quarter of the epochs,"
    ),
    margin="half of the fall",
)
def entropy_early(evidence: Evidence) -> Finding | None:
    """Judge how much of the entropy's fall is in the first quarter of the epochs."""
    rows = evidence.plain_checks
    if rows.empty:
        return None
    last = rows.groupby("id").epoch.transform("max")
    early = rows.epoch <= EARLY * last
    rows = rows.assign(early=early)[((rows.epoch > 0) & early).groupby(rows.id).transform("any")]
    if rows.empty:
        return None

    def falls(rows: pd.DataFrame) -> pd.Series:
        ends = rows.groupby(["id", *UNIT]).persistence_entropy.agg(["first", "last"])
        return (ends["first"] - ends["last"]).groupby(UNIT).median()

    whole = falls(rows)
    part = falls(rows[rows.early]) / whole
    return from_events((whole > 0) & (part >= 0.5), part)


@phenomenon(
    "density-minimal",
    "Loops vanish while the density of the cloud falls only minimally.",
    source="section 2.3, Figure 3 (a)",
    **PAPER_LENGTH,
    estimand="the median fall of the density, as a share of its first value",
    decision=share(
        "the H1 count falls and the density n / D (D: mean distance) falls too, by at most a "
        "tenth of its first value,"
    ),
    margin="a tenth of the first density",
)
def density_minimal(evidence: Evidence) -> Finding | None:
    """Judge the fall of the density n / D while the loops fall."""
    loops, spread = (first_and_last(evidence, name) for name in ("h1_count", "mean_distance"))
    if loops.empty:
        return None
    fall = 1 - spread["first"] / spread["last"]  # of n / D, as a share of its first value
    claimed = (loops.change < 0) & (fall >= 0) & (fall <= LITTLE)
    more = f"the H1 count falls in {(loops.change < 0).sum()} units"
    return from_events(claimed, fall, more=more)


@phenomenon(
    "same-everywhere",
    "In all six data sets the topology evolves alike: loops disappear.",
    source="section 4.2; appendix A.2, Figures 6-19",
    estimand="the largest difference, between two data sets, of the median share of the loops "
    "that is removed, with an interval from the bootstrap intervals of all pairs of data sets",
    decision="Not reproduced when loops do not fall in the median of a data set; otherwise "
    f"reproduced when the interval lies below {ALIKE}, partly when above; inconclusive when it "
    "holds it or a data set has no runs.",
    margin=f"{ALIKE} of the loops",
)
def same_everywhere(evidence: Evidence) -> Finding | None:
    """Judge whether loops disappear in every data set, and to a like share."""
    ends = first_and_last(evidence, "h1_count")
    ends = ends[ends["first"] > 0]
    if ends.empty:
        return None
    removed = (-ends.change / ends["first"]).reset_index(name="removed")
    medians = removed.groupby("task").removed.median()
    apart = float(medians.max() - medians.min())

    def decide(levels: Levels) -> Verdict:
        low, high = _range_interval(removed, levels.interval)
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

    return Finding(np.nan, decide)


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


@phenomenon(
    "h1-falls-faster-multi",
    "Loops disappear faster when ten problems are trained on together than with one.",
    source="section 2.3, Figure 2 (c)",
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
)
def h1_falls_faster_multi(evidence: Evidence) -> Finding | None:
    """Judge whether sets of ten lose their loops faster than single problems."""
    rows = evidence.plain_checks
    if rows.empty:
        return None
    steps = rows.epoch * np.where(rows.regime == "multi", STEPS_OF_A_SET, 1)
    units = _loops_left(rows.assign(clock=rows.epoch))
    if units.empty:
        return None
    faster, at_steps = _set_faster(units), _set_faster(_loops_left(rows.assign(clock=steps)))
    sets = units.sets.to_numpy()
    rho, p = stratified_rho(units.left.to_numpy(), sets, units.label.to_numpy())
    counts = [(int(it.sum()), int((~it).sum())) for _, it in units.groupby("label").sets]
    ways = prod(comb(here + there, here) for here, there in counts)
    why = f"a set loses its loops faster than a problem of its task in {faster:.0%} of "
    why += f"{sum(here * there for here, there in counts)} comparisons ({sets.sum()} sets, "
    why += f"{(~sets).sum()} problems), {at_steps:.0%} at "
    why += f"equal optimiser steps; p = {p:.3g} by shuffling within tasks, at least "
    why += f"{max(2 / ways, 1 / (1 + SHUFFLES)):.2g} with so many"

    def decide(levels: Levels) -> Verdict:
        verdict = "inconclusive"
        if p < levels.alpha and rho < 0:
            verdict = "partly" if at_steps <= 0.5 else "reproduced"
        elif p < levels.alpha:
            verdict = "not reproduced"
        interval = _faster_interval(units, levels.interval)
        return Verdict(verdict, len(units), faster, *interval, why, p)

    return Finding(p, decide)


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
    """Percentile bootstrap interval of `_set_faster`, sets and problems resampled by stratum.

    A stratum with one set would resample that set for ever, and the interval would be too short:
    there is none then.
    """
    if units.groupby("label").sets.sum().min() < 2 or units.sets.sum() < FEWEST:
        return np.nan, np.nan
    rng = np.random.default_rng(0)
    places = [np.asarray(it) for it in units.groupby(["label", "sets"]).indices.values()]
    shares = [
        _set_faster(units.iloc[np.concatenate([rng.choice(it, len(it)) for it in places])])
        for _ in range(RESAMPLES // 4)
    ]
    low, high = np.quantile(shares, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
