"""Claims about the weight of TSLoss, lambda_ts (section 4.4, Table 4 and Figure 4)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from tsp.analysis.claims.iterations import COUNTED, PAIR_UNIT, kendall
from tsp.analysis.evidence import Evidence, iterations, solved
from tsp.analysis.stats import bootstrap_interval, share_interval
from tsp.analysis.units import UNIT, odd_seeds
from tsp.analysis.verdicts import (
    Finding,
    Levels,
    Verdict,
    claim,
    compared,
    from_changes,
    from_events,
    share,
    signs,
    unless,
)
from tsp.experiments.paper import reported

ALWAYS = 0.9  # of the units: what "never arrives" must hold for
NEAR_ZERO = 0.1  # nats a token
FIGURE4_EPOCHS = 100  # by then, says section 4.4, the total loss is near zero at every weight
table4 = partial(claim, family="weight", needs="table4")


@table4(
    "lambda-monotone",
    "From weight 0 to 1 every increase of lambda_ts shortens training.",
    source="section 4.4, Table 4",
    unit="one problem (or set of ten) on one model with all four weights, the median over an "
    "odd number of seeds that have them; what no weight solves is excluded",
    estimand="Kendall's tau of the median iterations with lambda_ts (0, 0.1, 0.5, 1), as of the "
    "row of Table 4, with a bootstrap interval over units",
    decision=signs("iterations go down with lambda_ts (a unit's own tau is below 0)")
    + " Reproduced so, but the median of the iterations does not fall at every one of the "
    "three steps: partly. Where it is inconclusive but the interval excludes the printed tau: "
    "not reproduced.",
    margin="interval excludes the printed tau",
)
def monotone(evidence: Evidence) -> Finding | None:
    """Judge the trend of the iterations with the weight."""
    weights = [weight for weight in reported("table4").lambda_ts if weight <= 1]
    table = solved(evidence, weights)[weights]
    table = table[np.isfinite(table).any(axis=1)]
    if table.empty:
        return None
    printed = kendall(reported("table4").iterations.to_numpy()[: len(weights)])
    medians = table.median()
    more = "medians " + ", ".join(f"{value:g} at {weight:g}" for weight, value in medians.items())
    falls = (medians.to_numpy()[1:] < medians.to_numpy()[:-1]).all()
    trends = from_changes([kendall(row) for row in table.to_numpy()], claimed=-1)
    trends = unless(trends, not falls, more)

    def trend(rows: np.ndarray) -> float:
        return kendall(np.median(table.to_numpy()[rows.astype(int)], axis=0))

    def decide(levels: Levels) -> Verdict:
        decided = trends.decide(levels)
        places = np.arange(len(table))
        low, high = bootstrap_interval(places, trend, alpha=levels.interval, vectorized=False)
        refuted = decided.verdict == "inconclusive" and low > printed
        verdict = "not reproduced" if refuted else decided.verdict
        effect = trend(places)
        return replace(decided, verdict=verdict, effect=effect, low=low, high=high, printed=printed)

    return Finding(trends.p, decide)


@table4(
    "lambda-ten-fails",
    "At lambda_ts = 10 training never arrives at a correct answer.",
    source="section 4.4, Table 4",
    unit=f"{COUNTED}, at weight 10, where the run without is solved",
    estimand="the share of units that weight 10 leaves unsolved, with the exact interval",
    decision="Never is a matter of all: reproduced when the interval lies above 0.9, not "
    "reproduced when below; inconclusive otherwise.",
    margin="0.9 of the units",
)
def ten_fails(evidence: Evidence) -> Finding | None:
    """Judge the share of units that weight 10 leaves unsolved."""
    units = iterations(evidence, lambda_ts=10.0)
    units = units[np.isfinite(units.ce)]
    if units.empty:
        return None
    n, failed = len(units), int(np.isinf(units.ts).sum())
    p = float(binomtest(failed, n, ALWAYS).pvalue)
    why = f"weight 10 leaves {failed} of {n} units unsolved; p = {p:.3g} that it leaves "
    why += f"{ALWAYS:.0%}"

    def decide(levels: Levels) -> Verdict:
        interval = share_interval(failed, n, levels.interval)
        return Verdict(compared(interval, ALWAYS), n, failed / n, *interval, why, p, 1.0)

    return Finding(p, decide)


def _totals(evidence: Evidence, weights: Sequence[float], *, epochs: int = 1) -> pd.DataFrame:
    """Total loss by epoch: one row a run and epoch, up to the shortest run of a unit and seed.

    Only units and seeds with all the weights, each trained for at least ``epochs``.
    """
    runs = evidence.runs
    if runs.empty or "total" not in evidence.losses:
        return pd.DataFrame()
    runs = runs[runs.method.isin(["ce", "tsloss"]) & runs.lambda_ts.isin(weights)]
    seeds = runs.groupby([*UNIT, "seed"])
    runs = runs.assign(common=seeds.epochs.transform("min"))
    runs = runs[(seeds.lambda_ts.transform("nunique") == len(weights)) & (runs.common >= epochs)]
    runs = odd_seeds(runs.assign(arm=runs.lambda_ts))
    rows = runs[["id", "lambda_ts", "seed", "common", *UNIT]].merge(evidence.losses, on="id")
    return rows[rows.epoch <= rows.common].sort_values(["id", "epoch"])


@table4(
    "all-weights-converge",
    "At every weight the total loss is near zero after about 100 epochs.",
    source="section 4.4, Figure 4",
    unit="one problem (or set of ten) on one model with all five weights, the median over an "
    "odd number of seeds",
    estimand="the median total loss, in nats a token, mean of the five epochs to "
    f"{FIGURE4_EPOCHS}, at the weight of 0, 0.1, 0.5, 1 and 10 that leaves most",
    decision=share(f"it is below {NEAR_ZERO} at each of the weights"),
    margin=f"{NEAR_ZERO} nats a token",
)
def all_converge(evidence: Evidence) -> Finding | None:
    """Judge the total loss after a hundred epochs, at the weight that leaves most."""
    rows = _totals(evidence, list(reported("table4").lambda_ts), epochs=FIGURE4_EPOCHS)
    if rows.empty:
        return None
    rows, of_run = rows[rows.epoch <= FIGURE4_EPOCHS], ["id", "seed", *UNIT]
    ends = rows[rows.groupby(of_run).cumcount(ascending=False) < 5]
    ends = ends.assign(gap=ends.total.isna()).groupby(of_run)
    left = ends.total.mean().mask(ends.gap.any()).fillna(np.inf)  # not converged
    left = left.groupby([*UNIT, "seed"]).max().groupby(UNIT).median()
    decided = from_events(left < NEAR_ZERO, left)
    return Finding(decided.p, lambda levels: replace(decided.decide(levels), printed=0.0))


@table4(
    "lambda-ten-oscillates",
    "At lambda_ts = 10 the total loss oscillates notably while it converges.",
    source="section 4.4, Figure 4",
    unit=PAIR_UNIT.replace("TSLoss alone", "its weight alone"),
    estimand="the median difference of the rises of the total loss from epoch to epoch, added "
    "up and divided by its first value",
    decision=signs("they are larger at weight 10 than at weight 1 in as many epochs"),
)
def ten_oscillates(evidence: Evidence) -> Finding | None:
    """Judge the rises of the total loss at weight 10 against those at weight 1."""
    rows = _totals(evidence, (1.0, 10.0))
    if rows.empty:
        return None
    losses = rows.groupby("id").total
    rises = losses.diff().clip(lower=0) / losses.transform("first")
    keys = [rows[key] for key in [*UNIT, "seed", "lambda_ts"]]
    total = rises.groupby(keys).sum().unstack("lambda_ts")
    return from_changes((total[10.0] - total[1.0]).groupby(UNIT).median(), claimed=1)
