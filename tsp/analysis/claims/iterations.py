"""Claims about iterations with and without TSLoss (section 4.3, Table 3)."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from tsp.analysis.evidence import Evidence, iterations
from tsp.analysis.stats import FEWEST, PairedResult, paired_difference, paired_ratio, signed_rank
from tsp.analysis.table_forensics import savings
from tsp.analysis.units import STRATUM, UNIT
from tsp.analysis.verdicts import (
    HOLM,
    Finding,
    Levels,
    Verdict,
    claim,
    compared,
    from_changes,
    judge_signs,
    signs,
    undecided,
    within,
)
from tsp.training.model_cards import MODELS

SAME = 0.1  # of the iterations, or of the loss: differences that are none
INFERIOR = 0.05  # of the units: the largest loss of effectiveness that is none
LEAST = 1e-9  # epochs: less than any run takes
FEWEST_SIZES = 3
LARGEST = "qwen1.5-14b-chat"

PAIR_UNIT = (
    "one problem (or set of ten) on one model, the median over an odd number of seeds of runs that "
    "differ in TSLoss alone; both start from their seed's one prompt, and a problem in a set and "
    "alone is two units"
)
COUNTED = f"{PAIR_UNIT}; those that the untrained prompt solves are excluded"
REACHED = f"{COUNTED}, and those that neither run solves"
PAPER: dict[str, Any] = {"protocol": "paper", "profile": "paper", "across": True}
table3 = partial(claim, family="TSLoss", needs="table3", unit=REACHED)


def kendall(values: np.ndarray) -> float:
    """Kendall's tau (a) of the values with their own order; infinities count as equal."""
    later, earlier = np.tril_indices(len(values), k=-1)
    rises = values[later] > values[earlier]
    falls = values[later] < values[earlier]
    return float(rises.mean() - falls.mean())


def _reached(units: pd.DataFrame) -> pd.DataFrame:
    """Units that one of the two runs solves."""
    return units[np.isfinite(units[["ce", "ts"]]).any(axis=1)]


def _ratio(units: pd.DataFrame, alpha: float) -> PairedResult:
    """Ratio of iterations; at its low end a unit that only TSLoss solves counts as 0.

    Its ratio may be anything up to ``ts / length``, so it is no evidence against a small one.
    """
    never = units.replace(np.inf, np.nan)
    ratio = paired_ratio(never.ce, never.ts, cap=units.length, alpha=alpha)
    least = never.ts.mask(never.ce.isna() & never.ts.notna(), LEAST)
    return ratio._replace(low=paired_ratio(never.ce, least, cap=units.length, alpha=alpha).low)


def _share_below(units: pd.DataFrame, share: float) -> float:
    """Two-sided p of a sign test that units take at most a share of the iterations.

    A unit that only TSLoss solves took at most ``ts / length`` of them, maybe less.
    """
    least = units.ce.replace(np.inf, np.nan).fillna(units.length)
    below = int((units.ts <= share * least).sum())
    one = binomtest(below, len(units), alternative="greater").pvalue
    return min(1.0, 2 * float(one))


@table3(
    "tsloss-fewer-iterations",
    "With TSLoss at weight 1 a prompt needs fewer iterations until its problems are solved.",
    source="abstract; section 4.3, Table 3",
    estimand="the median ratio of iterations, TSLoss over Standard, with a bootstrap interval, "
    "whose low end counts a unit that only TSLoss solves as 0; printed: the median ratio of "
    "the cells of Table 3",
    decision=f"Reproduced when TSLoss is sooner in more units than later by a sign test ({HOLM}"
    "), in at least half of all, and the interval reaches the printed ratio; partly when it is "
    "sooner so, but in fewer than half or by less. Not reproduced when it is not sooner so and "
    "the interval lies within 0.9 and 1.1 or above the printed ratio, or when it is later by "
    "the test. Inconclusive otherwise.",
    margin="iterations within ±10 %; interval excludes the printed ratio",
)
def fewer_iterations(evidence: Evidence) -> Finding | None:
    """Judge the ratio of iterations with and without TSLoss."""
    units = iterations(evidence)
    if units.empty:
        return None
    reached = _reached(units)
    every = len(evidence.pair_units[UNIT].drop_duplicates())
    excluded = f"{len(units) - len(reached)} units that neither solves and "
    excluded += f"{every - len(units)} that the untrained prompt solves are excluded"
    if reached.empty:
        return undecided(excluded)
    never, stays = reached.replace(np.inf, np.nan), iterations(evidence, sustained=True)
    pairs = paired_ratio(never.ce, never.ts, cap=reached.length)
    rank = signed_rank(never.ce, never.ts, cap=reached.length).p
    sooner, later = int((stays.ts < stays.ce).sum()), int((stays.ts > stays.ce).sum())
    more = f"signed-rank p = {rank:.3g}; to stay right: {sooner} sooner, "
    more += f"{len(stays) - sooner - later} the same, {later} later; {excluded}"
    printed = float(savings().ratio.median())

    def decide(levels: Levels) -> Verdict:
        ratio = _ratio(reached, levels.interval)
        by_signs, why, p = judge_signs(pairs.wins, pairs.ties, pairs.losses, alpha=levels.alpha)
        clear, above = p < levels.alpha, ratio.low > printed
        if clear and pairs.wins > pairs.losses:
            verdict = "partly" if by_signs == "partly" or above else "reproduced"
        else:
            alike = within((ratio.low, ratio.high), 1 - SAME, 1 + SAME)
            verdict = "not reproduced" if alike or above or clear else "inconclusive"
        effect = (ratio.median_ratio, ratio.low, ratio.high)
        return Verdict(verdict, ratio.n, *effect, f"{why}; {more}", p, printed)

    return Finding(pairs.p, decide)


@table3(
    "tsloss-halves-iterations",
    "The saving reaches about one half.",
    source="section 4.3, Table 3; published version",
    unit=f"{REACHED}; each model, task and regime with at least six is a cell, as in Table 3",
    estimand="the smallest median ratio of iterations of a cell, with an interval corrected "
    "for the number of cells",
    decision="Reproduced when in that cell more units need at most half of the iterations than "
    f"more, by a two-sided sign test whose p, times the number of cells, has {HOLM}; not "
    "reproduced when the interval lies above one half in every cell; inconclusive otherwise.",
    margin="interval excludes one half",
)
def halves_iterations(evidence: Evidence) -> Finding | None:
    """Judge whether the ratio of iterations is one half in the best cell."""
    units = iterations(evidence)
    if units.empty:
        return None
    reached = _reached(units)
    groups = {name: rows for name, rows in reached.groupby(STRATUM) if len(rows) >= FEWEST}
    if not groups:
        why = f"no model, task and regime has {FEWEST} units that either run solves"
        return undecided(why, len(reached))
    medians = {name: _ratio(rows, 0.05).median_ratio for name, rows in groups.items()}
    best = min(medians, key=lambda name: medians[name])
    p = min(1.0, _share_below(groups[best], 0.5) * len(groups))

    def decide(levels: Levels) -> Verdict:
        level = levels.interval / len(groups)
        cells = {name: _ratio(rows, level) for name, rows in groups.items()}
        lowest = min(cell.low for cell in cells.values())
        why = f"best of {len(cells)} cells: {', '.join(map(str, best))}; medians of all: "
        why += ", ".join(f"{cell.median_ratio:.2f}" for cell in cells.values())
        why += f"; at most one half there by a sign test, times the cells: p = {p:.3g}; lowest end "
        why += f"of the intervals of all cells: {lowest:.2f}"
        ratio = cells[best]
        verdict = "not reproduced" if lowest > 0.5 else "inconclusive"
        if ratio.median_ratio <= 0.5 and p < levels.alpha:
            verdict = "reproduced"
        effect = (ratio.median_ratio, ratio.low, ratio.high)
        return Verdict(verdict, ratio.n, *effect, why, p, 0.5)

    return Finding(p, decide)


@table3(
    "tsloss-as-effective",
    "With TSLoss prompts still come to solve their problems.",
    source="abstract; section 4.3",
    unit=COUNTED,
    estimand="the difference of the shares of units solved, TSLoss less Standard, with Bonett "
    "and Price's interval for paired shares",
    decision="Reproduced when the interval lies above -0.05 (not inferior by more than five "
    "points), not reproduced when below; inconclusive otherwise.",
    margin="non-inferiority, 5 points",
)
def as_effective(evidence: Evidence) -> Finding | None:
    """Judge whether TSLoss solves as many units, within a margin (non-inferiority)."""
    units = iterations(evidence)
    if units.empty:
        return None
    ce, ts = (np.isfinite(units[name]) for name in ("ce", "ts"))
    both, gained, lost = int((ce & ts).sum()), int((ts & ~ce).sum()), int((ce & ~ts).sum())
    counts = (both, gained, lost, len(units))
    difference = paired_difference(*counts)
    p = float(norm.sf((difference.estimate + INFERIOR) / difference.error))
    why = f"of {len(units)} units both solve {both}, TSLoss alone {gained}, Standard alone {lost}; "
    why += f"p = {p:.3g} against a loss of {INFERIOR:.0%}"

    def decide(levels: Levels) -> Verdict:
        interval = paired_difference(*counts, alpha=levels.interval)[1:3]
        verdict = compared(interval, -INFERIOR)
        return Verdict(verdict, len(units), difference.estimate, *interval, why, p, 0.0)

    return Finding(p, decide)


@table3(
    "small-models-gain-more",
    "The smaller the model, the more TSLoss saves.",
    source="section 4.3, Table 3",
    unit="one problem (or set of ten) trained on at least three models, pairs that are solved",
    estimand="the median of Kendall's tau of the ratio of iterations with the model's size",
    decision=signs("the ratio of iterations rises with the model's size (tau above 0)"),
    **PAPER,
)
def small_models_gain_more(evidence: Evidence) -> Finding | None:
    """Judge whether the ratio of iterations rises with the model's size."""
    units = iterations(evidence)
    if units.empty:
        return None
    ratio = np.minimum(units.ts, units.length) / np.minimum(units.ce, units.length)
    table = ratio[_reached(units).index].rename_axis(UNIT).unstack("model")
    table = table[sorted(set(table) & set(MODELS), key=lambda name: MODELS[name].parameters)]
    table = table[table.notna().sum(axis=1) >= FEWEST_SIZES]
    if table.empty:
        return None
    return from_changes([kendall(row[~np.isnan(row)]) for row in table.to_numpy()], claimed=1)


@table3(
    "qwen-fourfold",
    "On Qwen1.5-14B TSLoss shortens training four times.",
    source="published version",
    family="published version",
    estimand="the median ratio of iterations",
    decision="Reproduced when more units need at most a quarter of the iterations than more, "
    f"by a two-sided sign test ({HOLM}); not reproduced when the interval lies above a "
    "quarter; inconclusive otherwise.",
    margin="interval excludes one quarter",
    **PAPER,
    model=LARGEST,
)
def qwen_fourfold(evidence: Evidence) -> Finding | None:
    """Judge the ratio of iterations on Qwen1.5-14B."""
    units = iterations(evidence)
    if units.empty:
        return None
    reached = _reached(units)
    reached = reached[reached.index.get_level_values("model") == LARGEST]
    if reached.empty:
        return None
    p = _share_below(reached, 0.25)
    why = f"at most one quarter by a sign test over {len(reached)} units, p = {p:.3g}"

    def decide(levels: Levels) -> Verdict:
        ratio = _ratio(reached, levels.interval)
        verdict = "reproduced" if p < levels.alpha else "inconclusive"
        verdict = "not reproduced" if ratio.low > 0.25 else verdict
        effect = (ratio.median_ratio, ratio.low, ratio.high)
        return Verdict(verdict, ratio.n, *effect, why, p, 0.25)

    return Finding(p, decide)
