"""Claims about the weight of TSLoss, lambda_ts (section 4.4, Table 4 and Figure 4).

The docstring of a claim is the paper's statement; ``estimand`` above it says what is measured.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from tsp.analysis.claims.iterations import COUNTED, PAIR_UNIT, kendall, paired
from tsp.analysis.evidence import Evidence, cached, iterations
from tsp.analysis.stats import bootstrap_interval, share_interval
from tsp.analysis.units import UNIT, odd_seeds
from tsp.analysis.verdicts import (
    UNTESTED,
    Levels,
    Verdict,
    by_interval,
    claim,
    judge_changes,
    judge_events,
    partly_if,
    share,
    signs,
)
from tsp.experiments.paper import reported

ALWAYS = 0.9  # of the units: what "never arrives" must hold for
NEAR_ZERO = 0.1  # nats per token
FIGURE4_EPOCHS = 100  # by then, says section 4.4, the total loss is near zero at every weight
table4 = partial(claim, family="weight", needs="table4")


@table4(
    source="section 4.4, Table 4",
    unit="one problem (or set of ten) on one model with all four weights, the median over an "
    "odd number of seeds that have them; units that no weight solves are excluded",
    estimand="Kendall's tau between the median iterations and lambda_ts (0, 0.1, 0.5, 1), as for "
    "the row of Table 4, with a bootstrap interval over units",
    decision=signs("iterations decrease with lambda_ts (the unit's own tau is below 0)")
    + " A reproduced claim becomes partly reproduced if the median iterations do not fall at each "
    "of the three steps. An inconclusive claim becomes not reproduced if the interval excludes "
    "the printed tau.",
    margin="interval excludes the printed tau",
)
def lambda_monotone(evidence: Evidence, levels: Levels) -> Verdict:
    """From weight 0 to 1, every increase of lambda_ts shortens training."""
    row = reported("table4").set_index("lambda_ts").iterations[:1.0]
    table = iterations(evidence, tuple(row.index))[row.index]
    table = table[np.isfinite(table).any(axis=1)]
    if table.empty:
        return UNTESTED

    def trend(rows: np.ndarray, axis: int = -1) -> Any:
        return kendall(np.median(table.to_numpy()[rows], axis=-2))  # (..., n) to (...)

    printed, units = float(kendall(row.to_numpy())), np.arange(len(table))
    low, high = bootstrap_interval(units, trend, alpha=levels.interval)
    medians = table.median()
    falls = (medians.to_numpy()[1:] < medians.to_numpy()[:-1]).all()
    more = "medians " + ", ".join(f"{value:g} at {weight:g}" for weight, value in medians.items())
    trends = judge_changes(kendall(table.to_numpy()), levels, claimed=-1)
    trends = partly_if(not falls, trends, more)
    refuted = trends.verdict == "inconclusive" and low > printed
    verdict = "not reproduced" if refuted else trends.verdict
    effect = float(trend(units))
    return replace(trends, verdict=verdict, effect=effect, low=low, high=high, printed=printed)


@table4(
    source="section 4.4, Table 4",
    unit=f"{COUNTED}; TSLoss has weight 10, and only units that the run without TSLoss solves "
    "count",
    estimand="the share of units that are unsolved at weight 10, with the exact interval",
    decision="'Never' is a statement about all units: reproduced if the interval lies above 0.9; "
    "not reproduced if it lies below; inconclusive otherwise.",
    margin="0.9 of the units",
)
def lambda_ten_fails(evidence: Evidence, levels: Levels) -> Verdict:
    """At lambda_ts = 10, training never reaches a correct answer."""
    units = paired(evidence, 10.0)
    units = units[np.isfinite(units.ce)]
    if units.empty:
        return UNTESTED
    n, failed = len(units), int(np.isinf(units.ts).sum())
    p = float(binomtest(failed, n, ALWAYS).pvalue)
    why = f"weight 10 leaves {failed} of {n} units unsolved; binomial test against a share of "
    why += f"{ALWAYS:.0%}, p = {p:.2g}"
    interval = share_interval(failed, n, levels.interval)
    return Verdict(by_interval(interval, ALWAYS), n, failed / n, *interval, why, p, 1.0)


@cached
def total_losses(evidence: Evidence, weights: tuple[float, ...], epochs: int = 1) -> pd.DataFrame:
    """Return the total loss: one row per run and epoch, up to the shortest run of a unit and seed.

    Only units and seeds with all the weights, each trained for at least ``epochs``.
    """
    runs = evidence.runs
    runs = runs[runs.method.isin(["ce", "tsloss"]) & runs.lambda_ts.isin(weights)]
    seeds = runs.groupby([*UNIT, "seed"])
    runs = runs.assign(common=seeds.epochs.transform("min"))
    runs = runs[(seeds.lambda_ts.transform("nunique") == len(weights)) & (runs.common >= epochs)]
    runs = odd_seeds(runs.assign(arm=runs.lambda_ts))
    rows = runs[["id", "lambda_ts", "seed", "common", *UNIT]].merge(evidence.losses, on="id")
    return rows[rows.epoch <= rows.common].sort_values(["id", "epoch"])


@table4(
    source="section 4.4, Figure 4",
    unit="one problem (or set of ten) on one model with all five weights, the median over an "
    "odd number of seeds",
    null=np.nan,
    estimand="the median over units of the largest total loss at any weight in nats per token, "
    f"the mean of the five epochs up to epoch {FIGURE4_EPOCHS}; the weights are 0, 0.1, 0.5, 1 "
    "and 10",
    decision=share(f"this loss is below {NEAR_ZERO} at every weight"),
    margin=f"{NEAR_ZERO} nats per token",
)
def all_weights_converge(evidence: Evidence, levels: Levels) -> Verdict:
    """At every weight, the total loss is near zero after about 100 epochs."""
    rows = total_losses(evidence, tuple(reported("table4").lambda_ts), epochs=FIGURE4_EPOCHS)
    ends = rows[(rows.epoch <= FIGURE4_EPOCHS) & (rows.epoch > FIGURE4_EPOCHS - 5)]
    ends = ends.fillna({"total": np.inf})  # diverged
    left = ends.groupby(["id", "seed", *UNIT]).total.mean()
    left = left.groupby([*UNIT, "seed"]).max().groupby(UNIT).median()
    return replace(judge_events(left < NEAR_ZERO, levels, shown=left), printed=0.0)


@table4(
    source="section 4.4, Figure 4",
    unit=PAIR_UNIT.replace("TSLoss alone", "the weight of TSLoss alone"),
    estimand="the median difference in the relative rises of the total loss (summed from epoch "
    "to epoch and divided by its first value)",
    decision=signs("the rises are larger at weight 10 than at weight 1 over the same epochs"),
)
def lambda_ten_oscillates(evidence: Evidence, levels: Levels) -> Verdict:
    """At lambda_ts = 10, the total loss oscillates noticeably while it converges."""
    rows = total_losses(evidence, (1.0, 10.0))
    losses = rows.groupby("id").total
    # Measure: the sum of a loss's rises from epoch to epoch, divided by its first value.
    rises = losses.diff().clip(lower=0) / losses.transform("first")
    total = rises.groupby([rows[key] for key in [*UNIT, "seed", "lambda_ts"]]).sum()
    total = total.unstack("lambda_ts").reindex(columns=[1.0, 10.0])
    return judge_changes((total[10.0] - total[1.0]).groupby(UNIT).median(), levels, claimed=1)
