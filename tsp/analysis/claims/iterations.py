"""Claims about iterations with and without TSLoss (section 4.3, Table 3).

The docstring of a claim is the paper's statement; ``estimand`` above it says what is measured.
"""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from tsp.analysis.evidence import Evidence, cached, iterations
from tsp.analysis.records import TASK_NAMES
from tsp.analysis.stats import FEWEST, PairedResult, paired_difference, paired_ratio, signed_rank
from tsp.analysis.table_forensics import savings
from tsp.analysis.units import STRATUM, UNIT
from tsp.analysis.verdicts import (
    HOLM,
    UNTESTED,
    Levels,
    Verdict,
    by_interval,
    claim,
    judge_changes,
    judge_signs,
    signs,
    within,
)
from tsp.training.model_cards import MODELS

SAME = 0.1  # of the iterations, or of the loss: differences that are none
INFERIOR = 0.05  # of the units: the largest loss of effectiveness that is none
FEWEST_SIZES = 3
LARGEST = "qwen1.5-14b-chat"

PAIR_UNIT = (
    "one problem (or set of ten) on one model, the median over an odd number of seeds of runs that "
    "differ in TSLoss alone and start from the same prompt; a problem that is trained on by itself "
    "and in a set counts as two units"
)
COUNTED = f"{PAIR_UNIT}; units that the untrained prompt solves are excluded"
REACHED = f"{COUNTED}, and so are units that neither run solves"
PAPER: dict[str, Any] = {"protocol": "paper", "profile": "paper", "across": True}
table3 = partial(claim, family="TSLoss", needs="table3", unit=REACHED)


def kendall(values: np.ndarray) -> Any:
    """Return Kendall's tau (a) of values with their order along the last axis."""
    later, earlier = np.tril_indices(values.shape[-1], k=-1)
    rises = values[..., later] > values[..., earlier]
    falls = values[..., later] < values[..., earlier]
    return rises.mean(axis=-1) - falls.mean(axis=-1)


def paired(evidence: Evidence, weight: float = 1.0, value: str = "iterations") -> pd.DataFrame:
    """Return each unit's iterations without (``ce``) and with TSLoss (``ts``), and ``length``."""
    return iterations(evidence, (0.0, weight), value).set_axis(["ce", "ts", "length"], axis=1)


def reached(evidence: Evidence) -> pd.DataFrame:
    """Return the units of `paired` that one of the two runs solves."""
    units = paired(evidence)
    return units[np.isfinite(units[["ce", "ts"]]).any(axis=1)]


def ratio_of_iterations(units: pd.DataFrame, alpha: float) -> PairedResult:
    """Return the ratio of iterations, TSLoss over Standard; ``units`` as `reached` has them."""
    never = units.replace(np.inf, np.nan)
    return paired_ratio(never.ce, never.ts, cap=units.length, alpha=alpha)


@cached
def rank_p(evidence: Evidence) -> float:
    """Return the p of `signed_rank` over the units of `reached`."""
    never = reached(evidence).replace(np.inf, np.nan)
    return signed_rank(never.ce, never.ts, cap=never.length).p


def at_most(units: pd.DataFrame, share: float) -> float:
    """Return a sign test's p: in most units TSLoss takes at most a share of Standard's iterations.

    It is twice the one-sided p, at most 1. ``units`` are those of `reached`, where an unsolved run
    has infinite iterations; here one of Standard counts as ``length``, fewer than it needs.
    """
    below = int((units.ts <= share * np.minimum(units.ce, units.length)).sum())
    return min(1.0, 2 * float(binomtest(below, len(units), alternative="greater").pvalue))


@table3(
    source="abstract; section 4.3, Table 3",
    null=1.0,
    estimand="the median ratio of iterations, TSLoss over Standard, with an interval from order "
    "statistics whose low end counts a unit that only TSLoss solves as 0 and whose high end counts "
    "one that only Standard solves as infinite; the printed value is the median ratio of the cells "
    "of Table 3",
    decision="Reproduced if a sign test finds that TSLoss needs fewer iterations than Standard in "
    f"more units than the reverse ({HOLM}), this is so in at least half of all units, and the "
    "interval reaches the printed ratio; partly if the test finds this, but one of the other two "
    "conditions fails. Not reproduced if the test does not find it and the "
    "interval lies between 0.9 and 1.1 or above the printed ratio, or if the test finds that "
    "TSLoss needs more iterations. Inconclusive otherwise.",
    margin="iterations within ±10 %; interval excludes the printed ratio",
)
def tsloss_fewer_iterations(evidence: Evidence, levels: Levels) -> Verdict:
    """With TSLoss at weight 1, a prompt needs fewer iterations to solve its problems."""
    counted, units = len(paired(evidence)), reached(evidence)
    if not counted:
        return UNTESTED
    at_start = int(evidence.units((0.0, 1.0)).solved_at_start.sum()) // 2
    neither = counted - len(units)
    excluded = f"{neither} unit{'s' * (neither != 1)} that neither run solves and {at_start} that "
    excluded += "the untrained prompt solves are excluded"
    if units.empty:
        return Verdict("inconclusive", why=excluded)
    ratio, printed = ratio_of_iterations(units, levels.interval), float(savings().ratio.median())
    counts = (ratio.wins, ratio.ties, ratio.losses)
    by_signs, why, p = judge_signs(*counts, alpha=levels.alpha)
    above = ratio.low > printed
    if p < levels.alpha and ratio.wins > ratio.losses:
        verdict = "partly" if by_signs == "partly" or above else "reproduced"
    else:
        alike = within((ratio.low, ratio.high), 1 - SAME, 1 + SAME)
        refuted = alike or above or p < levels.alpha
        verdict = "not reproduced" if refuted else "inconclusive"
    stays = paired(evidence, value="sustained")
    faster, slower = int((stays.ts < stays.ce).sum()), int((stays.ts > stays.ce).sum())
    why += f"; signed-rank p = {rank_p(evidence):.2g}; counted until the answer stays right: "
    why += f"{faster} faster, {len(stays) - faster - slower} the same, {slower} slower; {excluded}"
    effect = (ratio.median_ratio, ratio.low, ratio.high)
    return Verdict(verdict, ratio.n, *effect, why, p, printed)


@table3(
    source="section 4.3, Table 3; published version",
    unit=f"{REACHED}; each model, task and regime with at least six units is a cell, as in Table 3",
    null=1.0,
    estimand="the smallest median ratio of iterations of a cell, with an interval corrected "
    "for the number of cells",
    decision="Reproduced if in that cell more units need at most half of the iterations than need "
    "more than half, by a two-sided sign test whose p is multiplied by the number of cells "
    f"({HOLM}); not reproduced if the interval lies above one half in every cell; inconclusive "
    "otherwise, also if a cell has too few units for an interval.",
    margin="interval excludes one half",
)
def tsloss_halves_iterations(evidence: Evidence, levels: Levels) -> Verdict:
    """The saving reaches about one half."""
    units = reached(evidence)
    groups = {name: rows for name, rows in units.groupby(STRATUM) if len(rows) >= FEWEST}
    if not groups:
        why = f"no combination of model, task and regime has {FEWEST} units that either run solves"
        none = paired(evidence).empty
        return UNTESTED if none else Verdict("inconclusive", len(units), why=why)
    level = levels.interval / len(groups)
    cells = {name: ratio_of_iterations(rows, level) for name, rows in groups.items()}
    best = min(cells, key=lambda name: cells[name].median_ratio)
    ratio, p = cells[best], min(1.0, at_most(groups[best], 0.5) * len(groups))
    lowest = float(np.min([cell.low for cell in cells.values()]))  # nan if one has no interval
    named = ", ".join(TASK_NAMES.get(name, name) for name in best)
    why = f"best of {len(cells)} cells with at least {FEWEST} units: {named}; medians of all "
    why += "of these: "
    why += ", ".join(f"{cell.median_ratio:.2f}" for cell in cells.values())
    end = f"lowest end of the intervals of all cells: {lowest:.2f}"
    if np.isnan(lowest):
        end = "at least one cell has too few units for an interval at this level"
    why += (
        f"; sign test in the best cell against one half: p = {p:.2g}, multiplied by the number of "
    )
    why += f"cells; {end}"
    verdict = "not reproduced" if lowest > 0.5 else "inconclusive"
    if ratio.median_ratio <= 0.5 and p < levels.alpha:
        verdict = "reproduced"
    return Verdict(verdict, ratio.n, ratio.median_ratio, ratio.low, ratio.high, why, p, 0.5)


@table3(
    source="abstract; section 4.3",
    unit=COUNTED,
    estimand="the share of units solved with TSLoss minus that with Standard, with Bonett and "
    "Price's interval for paired shares",
    decision="Reproduced if the interval lies above -0.05 (not inferior by more than five "
    "percentage points); not reproduced if it lies below; inconclusive otherwise.",
    margin="non-inferiority, 5 points",
)
def tsloss_as_effective(evidence: Evidence, levels: Levels) -> Verdict:
    """With TSLoss, prompts still learn to solve their problems."""
    units = paired(evidence)
    if units.empty:
        return UNTESTED
    n, ce, ts = len(units), np.isfinite(units.ce), np.isfinite(units.ts)
    both, gained, lost = int((ce & ts).sum()), int((ts & ~ce).sum()), int((ce & ~ts).sum())
    share, low, high, centre, error = paired_difference(
        both, gained, lost, n, alpha=levels.interval
    )
    p = 2 * float(norm.sf(abs(centre + INFERIOR) / error))
    why = f"both runs solve {both} of {n} units, only that with TSLoss {gained}, only Standard "
    why += f"{lost}; "
    why += f"p = {p:.2g} against a true difference of -{100 * INFERIOR:.0f} percentage points"
    return Verdict(by_interval((low, high), -INFERIOR), n, share, low, high, why, p, 0.0)


@table3(
    source="section 4.3, Table 3",
    unit="one problem (or set of ten) trained on at least three models; pairs in which no run "
    "solves it are excluded",
    estimand="the median over units of Kendall's tau between the ratio of iterations and the "
    "model's size",
    decision=signs("the ratio of iterations rises with the model's size (tau above 0)"),
    **PAPER,
)
def small_models_gain_more(evidence: Evidence, levels: Levels) -> Verdict:
    """The smaller the model, the more TSLoss saves."""
    units = reached(evidence)
    ratio = np.minimum(units.ts, units.length) / np.minimum(units.ce, units.length)
    table = ratio.rename_axis(UNIT).unstack("model")
    table = table[sorted(set(table) & set(MODELS), key=lambda name: MODELS[name].parameters)]
    table = table[table.notna().sum(axis=1) >= FEWEST_SIZES]
    trends = [kendall(row[~np.isnan(row)]) for row in table.to_numpy()]
    return judge_changes(trends, levels, claimed=1)


@table3(
    source="published version",
    family="published version",
    null=1.0,
    estimand="the median ratio of iterations",
    decision="Reproduced if more units need at most a quarter of the iterations than need more "
    f"than a quarter, by a two-sided sign test ({HOLM}); not reproduced if the interval lies "
    "above one quarter; inconclusive otherwise.",
    margin="interval excludes one quarter",
    **PAPER,
    model=LARGEST,
)
def qwen_fourfold(evidence: Evidence, levels: Levels) -> Verdict:
    """On Qwen1.5-14B, TSLoss shortens training by a factor of four."""
    units = reached(evidence)
    units = units[units.index.get_level_values("model") == LARGEST]
    if units.empty:
        return UNTESTED
    ratio, p = ratio_of_iterations(units, levels.interval), at_most(units, 0.25)
    why = f"sign test against one quarter over {len(units)} units, p = {p:.2g}"
    verdict = "reproduced" if p < levels.alpha else "inconclusive"
    verdict = "not reproduced" if ratio.low > 0.25 else verdict
    return Verdict(verdict, ratio.n, ratio.median_ratio, ratio.low, ratio.high, why, p, 0.25)
