"""Claims about the topology of a prompt while it is trained (section 2).

The docstring of a claim is the paper's statement; ``estimand`` above it says what is measured.
"""

from collections.abc import Sequence
from functools import partial
from math import comb, prod
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence, cached, first_and_last
from tsp.analysis.records import TASK_NAMES
from tsp.analysis.stats import FEWEST, Interval, median_interval, stratified_rho
from tsp.analysis.stats.ranks import SHUFFLES
from tsp.analysis.units import UNIT
from tsp.analysis.verdicts import (
    HOLM,
    UNTESTED,
    Levels,
    Verdict,
    because,
    claim,
    judge_changes,
    judge_events,
    partly_if,
    share,
    signs,
)
from tsp.problems.loading import TASKS

LITTLE = 0.1  # of its first value: the largest fall that is a little, what is left of little
EARLY = 0.25  # of the epochs: in which entropy is said to fall rapidly
ALIKE = 0.2  # largest difference of the share of loops removed between data sets that are alike
STEPS_OF_A_SET = 2  # optimiser steps of an epoch of ten problems in batches of eight
PLAIN = (
    "one problem (or set of ten) on one model: the median over an odd number of its runs without "
    "TSLoss"
)
PAPER_LENGTH: dict[str, Any] = {"needs": "paper-length", "protocol": "paper", "length": 300}
phenomenon = partial(claim, family="phenomenon", needs="phenomenon", unit=PLAIN)


@phenomenon(
    source="section 1; section 2.3, Figure 2 (c), Table 2",
    unit="one run",
    estimand="none",
    decision="True by definition: at scale zero each distinct point is a component. The runs are "
    "only checked for coincident points.",
    without_runs=True,
)
def h0_count_constant(evidence: Evidence, levels: Levels) -> Verdict:
    """The number of H0 features stays the same throughout training."""
    n, fewer = len(evidence.runs), 0
    if n:
        checks = evidence.runs[["id", "n_tokens"]].merge(evidence.topology, on="id")
        fewer = checks.id[checks.h0_count != checks.n_tokens].nunique()
    why = f"each distinct point is a component; {fewer} of {n} runs have coincident points"
    return Verdict("true by definition", n, why=f"{why} at a check")


@phenomenon(
    source="section 1; section 2.3, Figure 2 (c)",
    estimand="the median change of the H1 count from the first check to the last",
    decision=signs("the H1 count is lower at the last check than at the first"),
)
def h1_count_falls(evidence: Evidence, levels: Levels) -> Verdict:
    """Training removes loops: the number of H1 features goes down."""
    return judge_changes(first_and_last(evidence, "h1_count").change, levels, claimed=-1)


@phenomenon(
    source="section 1",
    needs="tuned-length",
    length=300,
    unit=f"{PLAIN}; units that begin without loops are excluded",
    null=1.0,
    estimand="the median share of the initial loops that is left at the last check",
    decision=share("at most a tenth of the initial loops is left after 300 epochs"),
    margin="a tenth of the initial loops",
)
def loops_vanish(evidence: Evidence, levels: Levels) -> Verdict:
    """The number of loops eventually approaches zero."""
    ends = first_and_last(evidence, "h1_count").query("first > 0")
    left = ends["last"] / ends["first"]
    return judge_events(left <= LITTLE, levels, shown=left)


@phenomenon(
    source="section 2.3, Figure 2 (a), (b) and (d)",
    estimand="the median change of the mean H0 lifespan",
    decision=signs("the mean H0 lifespan is longer at the last check than at the first")
    + " A reproduced claim becomes partly reproduced if the median change of the lifespan "
    "divided by the mean distance, which stays the same when a cloud merely grows, is not "
    "positive.",
)
def h0_lifespan_grows(evidence: Evidence, levels: Levels) -> Verdict:
    """H0 features live longer and longer while the prompt is trained."""
    change = first_and_last(evidence, "h0_mean_lifespan").change
    scaled = first_and_last(evidence, "h0_mean_lifespan_scaled")
    growth = float(scaled.change.median())
    more = f"divided by the mean distance it is longer in {(scaled.change > 0).sum()} of "
    more += f"{len(scaled)}, median change {growth / scaled['first'].median():+.1%} of the first "
    return partly_if(growth <= 0, judge_changes(change, levels, claimed=1), f"{more}value")


@phenomenon(
    source="section 1; appendix A.1.3, Figure 19",
    estimand="the median change of the persistence entropy",
    decision=signs("the entropy is lower at the last check than at the first")
    + " A reproduced claim becomes partly reproduced if the median fall exceeds a tenth, which is "
    "more than a little.",
    margin="a tenth of the initial entropy",
)
def entropy_falls(evidence: Evidence, levels: Levels) -> Verdict:
    """Persistence entropy goes down a little."""
    ends = first_and_last(evidence, "persistence_entropy")
    fall = float(-(ends.change / ends["first"]).median())
    more = f"median fall {fall:.1%} of the first value"
    return partly_if(fall > LITTLE, judge_changes(ends.change, levels, claimed=-1), more)


@phenomenon(
    source="section 2.3, Figure 3 (b)",
    **PAPER_LENGTH,
    null=np.nan,
    estimand="the share of units in which the entropy falls and at least half of the fall is in "
    "the first quarter of the epochs",
    decision=share(
        "the entropy falls and at least half of its fall is in the first quarter of the epochs"
    ),
    margin="half of the fall",
)
def entropy_early(evidence: Evidence, levels: Levels) -> Verdict:
    """Persistence entropy falls rapidly at first and then stabilises."""
    rows = evidence.plain_checks
    early = rows.epoch <= EARLY * rows.groupby("id").epoch.transform("max")
    rows = rows.assign(early=early)[((rows.epoch > 0) & early).groupby(rows.id).transform("any")]

    def falls(rows: pd.DataFrame) -> pd.DataFrame:
        ends = rows.groupby(["id", *UNIT]).persistence_entropy.agg(["first", "last"])
        return ends.assign(fall=ends["first"] - ends["last"]).groupby(UNIT).median()

    whole = falls(rows)
    falling = whole.fall > 0
    part = (falls(rows[rows.early]).fall / whole.fall).where(falling)
    more = f"the entropy falls in {falling.sum()} of {len(whole)} units; the median fall over all "
    more += f"units is {(whole.fall / whole['first']).median():.2%} of the first value"
    if falling.any():
        more += f"; where it falls, a median of {part.median():.0%} of the fall is in the first "
        more += "quarter of the epochs"
    return because(judge_events(part >= 0.5, levels), more)


@phenomenon(
    source="section 2.3, Figure 3 (a)",
    **PAPER_LENGTH,
    null=np.nan,
    estimand="the share of units in which the H1 count falls and the density falls by at most a "
    "tenth",
    decision=share(
        "the H1 count falls and the density n / D (D: mean distance) falls too, by at most a "
        "tenth of its initial value"
    ),
    margin="a tenth of the initial density",
)
def density_minimal(evidence: Evidence, levels: Levels) -> Verdict:
    """Loops vanish while the density of the cloud falls only minimally."""
    loops, spread = (first_and_last(evidence, name) for name in ("h1_count", "mean_distance"))
    fewer, fall = loops.change < 0, 1 - spread["first"] / spread["last"]
    verdict = judge_events(fewer & (fall >= 0) & (fall <= LITTLE), levels)
    more = f"the H1 count falls in {fewer.sum()} of {len(fewer)} units; the median fall of the "
    return because(
        verdict, f"{more}density over all units is {fall.median():.2%} of its first value"
    )


@phenomenon(
    source="section 4.2; appendix A.2, Figures 6-19",
    null=np.nan,
    estimand="the largest difference between two data sets in the median share of loops removed, "
    "with an interval derived from simultaneous intervals of the medians of all data sets",
    decision="Not reproduced if the interval of the median of some data set lies at or below 0, "
    "where no loops are removed. Otherwise reproduced if the interval of the difference lies "
    f"below {ALIKE} and partly if it lies above; inconclusive if it contains {ALIKE}, or if a "
    "data set has no runs or too few units for an interval.",
    margin=f"{ALIKE} of the loops",
)
def same_everywhere(evidence: Evidence, levels: Levels) -> Verdict:
    """In all six data sets the topology evolves alike: loops disappear."""
    removed = loops_removed(evidence)
    if not len(removed):
        return UNTESTED
    medians = removed.median()
    apart = float(medians.max() - medians.min())
    ends = [median_interval(x, levels.interval / len(removed)) for _, x in removed]
    low, high = largest_difference(ends)
    why = "median share of the loops removed: "
    why += ", ".join(f"{TASK_NAMES.get(task, task)} {value:.0%}" for task, value in medians.items())
    why += f"; largest difference {apart:.2f}, alike up to {ALIKE}"
    if np.isnan(low):
        why += f"; too few units of a data set for an interval (the fewest: {removed.size().min()})"
    if any(end <= 0 for _, end in ends):
        verdict = "not reproduced"
    elif len(medians) < len(TASKS):
        verdict = "inconclusive"
        why += f"; {len(medians)} of {len(TASKS)} data sets have runs"
    elif high < ALIKE:
        verdict = "reproduced"
    else:
        verdict = "partly" if low > ALIKE else "inconclusive"
    return Verdict(verdict, int(removed.size().sum()), apart, low, high, why)


def loops_removed(evidence: Evidence) -> Any:
    """Group the share of its loops that each unit loses by data set."""
    ends = first_and_last(evidence, "h1_count").query("first > 0")
    return (-ends.change / ends["first"]).groupby("task")


def largest_difference(ends: Sequence[Interval]) -> Interval:
    """Return the interval of the largest difference between two of several medians.

    Their intervals ``ends`` hold together, so every difference lies between the distances of their
    ends. nan if one has no interval or there are fewer than two.
    """
    if len(ends) < 2 or np.isnan(ends).any():
        return np.nan, np.nan
    low, high = np.transpose(ends)
    return max(0.0, float(low.max() - high.min())), float(high.max() - low.min())


@phenomenon(
    source="section 2.3, Figure 2 (c)",
    unit="one problem, or one set of ten, the median of its runs without TSLoss; models and "
    "tasks that have both are strata",
    null=0.5,
    estimand="the share of comparisons between a set and a problem of its stratum in which the "
    "set is faster: a smaller share of its initial H1 count is left, averaged over the checks up "
    "to the last of the stratum's shortest run",
    decision="Reproduced if sets have fewer of their loops left than single problems by a rank "
    f"test that shuffles within strata ({HOLM}); not reproduced if they have more left by this "
    "test; inconclusive otherwise. A reproduced claim becomes partly reproduced if sets are not "
    "faster in most comparisons at equal numbers of optimiser steps (a set takes two per "
    "epoch). A problem may also be part of a set, which makes the two more alike and the test "
    "more conservative.",
)
def h1_falls_faster_multi(evidence: Evidence, levels: Levels) -> Verdict:
    """Loops disappear faster when ten problems are trained on together than with one."""
    units = loops_left(evidence, "epoch")
    if units.empty:
        return UNTESTED
    groups = by_regime(units)
    faster, at_steps = sets_faster(groups), sets_faster(by_regime(loops_left(evidence, "step")))
    rho, p = sets_rho(evidence)
    counts = [(len(sets), len(singles)) for singles, sets in groups]
    both = units[units.sets].merge(units[~units.sets], on="label")
    apart = sum(a.isdisjoint(b) for a, b in zip(both.seeds_x, both.seeds_y, strict=True))
    ways = prod(comb(here + there, here) for here, there in counts)
    why = f"a set loses its loops faster than a problem of its task in {faster:.0%} of "
    why += f"{len(both)} comparisons ({units.sets.sum()} sets, {(~units.sets).sum()} problems), "
    why += f"{at_steps:.0%} at equal numbers of optimiser steps; "
    if apart:
        why += f"in {apart} comparisons the two begin with different prompts, an effect that this "
        why += "test cannot tell from that of size; "
    why += f"p = {p:.2g} by shuffling within tasks (the smallest "
    why += f"p that so many can give: {max(2 / ways, 1 / (1 + SHUFFLES)):.2g})"
    verdict = "inconclusive"
    if p < levels.alpha and rho < 0:
        verdict = "partly" if at_steps <= 0.5 else "reproduced"
    elif p < levels.alpha:
        verdict = "not reproduced"
    interval = percentiles(resampled_shares(evidence), levels.interval)
    return Verdict(verdict, len(units), faster, *interval, why, p)


@cached
def loops_left(evidence: Evidence, clock: str) -> pd.DataFrame:
    """Return the share of the first loops that is left, mean over a stratum's common checks.

    Checks are common by ``epoch`` or by optimiser ``step``. One row per unit of the models and
    tasks that have both regimes: ``left``, ``seeds``, ``sets``, ``label``.
    """
    strata, rows = ["model", "task"], evidence.plain_checks
    pace = np.where((rows.regime == "multi") & (clock == "step"), STEPS_OF_A_SET, 1)
    rows = rows.assign(clock=rows.epoch * pace)
    seen = rows.groupby([*strata, "clock"]).id.transform("nunique")
    rows = rows[seen == rows.groupby(strata).id.transform("nunique")]
    first = rows.groupby("id").h1_count.transform("first")
    left = (rows.h1_count / first)[first > 0].groupby([rows[key] for key in ["id", *UNIT]]).mean()
    units = left.groupby(UNIT).median().reset_index(name="left")
    units = units[units.groupby(strata).regime.transform("nunique") == 2]
    units = units.join(rows.groupby(UNIT).seed.agg(set).rename("seeds"), on=UNIT)
    return units.assign(sets=units.regime == "multi", label=units.groupby(strata).ngroup())


Groups = list[tuple[np.ndarray, np.ndarray]]  # what is left of single problems, and of sets


def by_regime(units: pd.DataFrame) -> Groups:
    """Split `loops_left` by stratum and regime."""
    strata = [(rows.left, rows.sets) for _, rows in units.groupby("label")]
    return [(left[~sets].to_numpy(), left[sets].to_numpy()) for left, sets in strata]


def sets_faster(groups: Groups) -> float:
    """Return the share of comparisons within strata in which a set has less left than a problem."""
    wins = [np.sign(np.subtract.outer(singles, sets)).ravel() for singles, sets in groups]
    return float(np.mean(np.concatenate(wins) / 2 + 0.5)) if wins else np.nan


@cached
def sets_rho(evidence: Evidence) -> tuple[float, float]:
    """Correlate what is left with the regime within strata: rho and p (`stratified_rho`)."""
    units = loops_left(evidence, "epoch")
    return stratified_rho(*(units[name].to_numpy() for name in ("left", "sets", "label")))


@cached
def resampled_shares(evidence: Evidence) -> list[float]:
    """Return `sets_faster` of bootstrap samples, which are taken by stratum and regime.

    nan where a stratum has one set: resampling it alone would make the interval too short.
    """
    groups = by_regime(loops_left(evidence, "epoch"))
    sets = [len(sets) for _, sets in groups]
    if min(sets) < 2 or sum(sets) < FEWEST:
        return [np.nan]
    rng = np.random.default_rng(0)

    def resampled() -> Groups:
        return [(rng.choice(one, len(one)), rng.choice(ten, len(ten))) for one, ten in groups]

    return [sets_faster(resampled()) for _ in range(500)]


def percentiles(values: Sequence[float], alpha: float) -> Interval:
    """Return the middle 1 - alpha of the values."""
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
