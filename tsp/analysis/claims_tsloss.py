"""Claims about training with TSLoss, its weight and what it stands for (sections 3 and 4)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from tsp.analysis.claims_topology import HOLM, share, signs, unless
from tsp.analysis.equation13 import surrogate, two_pairs
from tsp.analysis.evidence import (
    Evidence,
    iterations,
    pair_units,
    pairs,
    side_by_side,
    solved,
    unseen_shares,
)
from tsp.analysis.records import NO_PROMPT
from tsp.analysis.stats import PairedResult, paired_difference, paired_ratio, signed_rank
from tsp.analysis.units import STRATUM, UNIT, odd_seeds
from tsp.analysis.verdicts import (
    FEWEST,
    Claim,
    Verdict,
    judge_changes,
    judge_signs,
    median_interval,
    share_interval,
    undecided,
)
from tsp.experiments.paper import ALPHA, reported
from tsp.training.model_cards import MODELS

OTHERS = ("ce", "l2", "pairwise")  # what the published version sets TSLoss against
SAME = 0.1  # of the iterations, or of the loss: differences that are none
INFERIOR = 0.05  # of the units: the largest loss of effectiveness that is none
ALWAYS = 0.9  # of the units: what "never arrives" must hold for
LEAST = 1e-9  # epochs: less than any run takes
NEAR_ZERO = 0.1  # nats a token
FIGURE4_EPOCHS = 100  # by then, says section 4.4, the total loss is near zero at every weight
FACTOR = 2.0  # within which two variances are about the same
FEWEST_SIZES = 3
FEWEST_UNSEEN = 50


def printed_ratios() -> pd.Series:
    """Ratios of iterations, TSLoss over Standard, of the cells of Table 3."""
    cells = reported("table3").set_index(["model", "regime", "task", "method"])
    cells = cells.iterations.unstack()
    return cells.tsloss / cells.ce


# Iterations ----------------------------------------------------------------------------------


def _ratio(units: pd.DataFrame, alpha: float) -> PairedResult:
    """Ratio of iterations, to whose low end a unit that only TSLoss solves adds next to nothing.

    Its ratio may be anything up to ``ts / length``, so it is no evidence against a small one.
    """
    never = units.replace(np.inf, np.nan)
    found = paired_ratio(never.ce, never.ts, cap=units.length, alpha=alpha)
    least = never.ts.mask(never.ce.isna() & never.ts.notna(), LEAST)
    return found._replace(low=paired_ratio(never.ce, least, cap=units.length, alpha=alpha).low)


def _reached(units: pd.DataFrame) -> pd.DataFrame:
    """Units that one of the two runs solves."""
    return units[np.isfinite(units[["ce", "ts"]]).any(axis=1)]


def fewer_iterations(evidence: Evidence) -> Verdict | None:
    """Judge the ratio of iterations with and without TSLoss."""
    units = iterations(evidence)
    if units.empty:
        return None
    told = _reached(units)
    apart = f"{len(units) - len(told)} units that neither solves and "
    apart += f"{pair_units(evidence)[UNIT].drop_duplicates().shape[0] - len(units)} that the "
    apart += "untrained prompt solves are excluded"
    if told.empty:
        return undecided(apart)
    found = _ratio(told, evidence.simultaneous)
    signs_, why, p = judge_signs(found.wins, found.ties, found.losses, alpha=evidence.alpha)
    printed = float(printed_ratios().median())
    sooner = p < evidence.alpha and found.wins > found.losses
    alike = found.low > 1 - SAME and found.high < 1 + SAME
    if sooner:
        verdict = "partly" if signs_ == "partly" or found.low > printed else "reproduced"
    else:
        refuted = alike or found.low > printed or p < evidence.alpha
        verdict = "not reproduced" if refuted else "inconclusive"
    never = told.replace(np.inf, np.nan)
    rank = signed_rank(never.ce, never.ts, cap=told.length).p
    why = f"{why}; signed-rank p = {rank:.3g}; {_sustained(evidence)}; {apart}"
    ratio = (found.median_ratio, found.low, found.high)
    return Verdict(verdict, found.n, *ratio, why, p, printed)


def _sustained(evidence: Evidence) -> str:
    """Say how the pairs fare when an answer must stay right."""
    units = iterations(evidence, sustained=True)
    sooner, later = int((units.ts < units.ce).sum()), int((units.ts > units.ce).sum())
    return f"to stay right: {sooner} sooner, {len(units) - sooner - later} the same, {later} later"


def halves_iterations(evidence: Evidence) -> Verdict | None:
    """Judge whether the ratio of iterations is one half in the best cell."""
    units = iterations(evidence)
    if units.empty:
        return None
    told = _reached(units)
    groups = [(name, rows) for name, rows in told.groupby(STRATUM) if len(rows) >= FEWEST]
    if not groups:
        why = f"no model, task and regime has {FEWEST} units that either run solves"
        return undecided(why, len(told))
    level = evidence.simultaneous / len(groups)
    cells = {name: _ratio(rows, level) for name, rows in groups}
    name, best = min(cells.items(), key=lambda cell: cell[1].median_ratio)
    p = min(1.0, _share_below(told.loc[name], 0.5) * len(cells))
    why = f"best of {len(cells)} cells: {', '.join(map(str, name))}; medians of all: "
    why += ", ".join(f"{cell.median_ratio:.2f}" for cell in cells.values())
    why += f"; at most one half there by a sign test, times the cells: p = {p:.3g}; lowest end of "
    why += f"the intervals of all cells: {min(cell.low for cell in cells.values()):.2f}"
    if best.median_ratio <= 0.5 and p < evidence.alpha:
        verdict = "reproduced"
    else:
        excluded = all(cell.low > 0.5 for cell in cells.values())
        verdict = "not reproduced" if excluded else "inconclusive"
    return Verdict(verdict, best.n, best.median_ratio, best.low, best.high, why, p, 0.5)


def _share_below(units: pd.DataFrame, share: float) -> float:
    """Two-sided p of a sign test that units take at most a share of the iterations.

    A unit that only TSLoss solves took at most ``ts / length`` of them, maybe less.
    """
    least = units.ce.replace(np.inf, np.nan).fillna(units.length)
    below = int((units.ts <= share * least).sum())
    one = binomtest(below, len(units), alternative="greater").pvalue
    return min(1.0, 2 * float(one))


def fourfold(evidence: Evidence) -> Verdict | None:
    """Judge the ratio of iterations on Qwen1.5-14B."""
    units = iterations(evidence)
    if units.empty:
        return None
    told = _reached(units)
    told = told[told.index.get_level_values("model") == "qwen1.5-14b-chat"]
    if told.empty:
        return None
    found, p = _ratio(told, evidence.simultaneous), _share_below(told, 0.25)
    why = f"at most one quarter by a sign test over {len(told)} units, p = {p:.3g}"
    verdict = "reproduced" if p < evidence.alpha else "inconclusive"
    verdict = "not reproduced" if found.low > 0.25 else verdict
    return Verdict(verdict, found.n, found.median_ratio, found.low, found.high, why, p, 0.25)


def smaller_gain(evidence: Evidence) -> Verdict | None:
    """Judge whether the ratio of iterations rises with the model's size."""
    units = iterations(evidence)
    if units.empty:
        return None
    reached = units[["ce", "ts"]].min(axis=1)
    ratio = np.minimum(units.ts, units.length) / np.minimum(units.ce, units.length)
    table = ratio[np.isfinite(reached)].rename_axis(UNIT).unstack("model")
    table = table[sorted(set(table) & set(MODELS), key=lambda it: MODELS[it].parameters)]
    table = table[table.notna().sum(axis=1) >= FEWEST_SIZES]
    if table.empty:
        return None
    trends = [_kendall(row[~np.isnan(row)]) for row in table.to_numpy()]
    return judge_changes(trends, claimed=1, **evidence.levels)


def as_effective(evidence: Evidence) -> Verdict | None:
    """Judge whether TSLoss solves as many units, within a margin (non-inferiority)."""
    units = iterations(evidence)
    if units.empty:
        return None
    ce, ts = (np.isfinite(units[name]) for name in ("ce", "ts"))
    both, gained, lost = int((ce & ts).sum()), int((ts & ~ce).sum()), int((ce & ~ts).sum())
    told = (both, gained, lost, len(units))
    found = paired_difference(*told, alpha=evidence.simultaneous)
    p = float(norm.sf((found.estimate + INFERIOR) / found.error))
    verdict = "inconclusive"
    if found.low > -INFERIOR:
        verdict = "reproduced"
    elif found.high < -INFERIOR:
        verdict = "not reproduced"
    why = f"of {len(units)} units both solve {both}, TSLoss alone {gained}, Standard alone {lost}; "
    why += f"p = {p:.3g} against a loss of {INFERIOR:.0%}"
    return Verdict(verdict, len(units), found.estimate, found.low, found.high, why, p, 0.0)


# Topology and loss ---------------------------------------------------------------------------


def simpler_topology(evidence: Evidence) -> Verdict | None:
    """Judge the difference of the H1 counts of a pair at its last common check."""
    both = pairs(evidence, lambda_ts=1.0)
    if both.empty or evidence.topology.empty:
        return None
    counts = evidence.topology[["id", "epoch", "h1_count"]]
    common = side_by_side(both, counts).sort_values("epoch").groupby([*UNIT, "seed"]).last()
    change = (common.h1_count_ts - common.h1_count_ce)[common.epoch > 0].groupby(UNIT).median()
    return None if change.empty else judge_changes(change, claimed=-1, **evidence.levels)


def lower_loss(evidence: Evidence) -> Verdict | None:
    """Judge the ratio of the mean cross-entropies of a pair."""
    both = pairs(evidence, lambda_ts=1.0)
    if both.empty or evidence.losses.empty:
        return None
    common = side_by_side(both, evidence.losses[["id", "epoch", "ce"]])
    mean = common.groupby([*UNIT, "seed"])[["ce_ce", "ce_ts"]].mean()
    ratio = (mean.ce_ts / mean.ce_ce).groupby(UNIT).median()
    if ratio.empty:
        return None
    found = judge_changes(np.log(ratio), claimed=-1, **evidence.levels)
    effect, low, high = (float(np.exp(it)) for it in (found.effect, found.low, found.high))
    alike = low > 1 - SAME and high < 1 + SAME
    verdict = found.verdict
    if verdict == "inconclusive" and alike:
        verdict = "not reproduced"
    why = f"{found.why}; the curves are alike within {SAME:.0%}" if alike else found.why
    return replace(found, verdict=verdict, effect=effect, low=low, high=high, why=why)


# The weight of TSLoss ------------------------------------------------------------------------


def monotone(evidence: Evidence) -> Verdict | None:
    """Judge the trend of the iterations with the weight."""
    weights = [weight for weight in reported("table4").lambda_ts if weight <= 1]
    table = solved(evidence, weights=weights)[weights]
    table = table[np.isfinite(table).any(axis=1)]
    if table.empty:
        return None
    printed = _kendall(reported("table4").iterations.to_numpy()[: len(weights)])
    trends = [_kendall(row) for row in table.to_numpy()]
    found = judge_changes(trends, claimed=-1, **evidence.levels)
    medians = table.median()
    why = f"{found.why}; medians "
    why += ", ".join(f"{value:g} at {weight:g}" for weight, value in medians.items())
    verdict = found.verdict
    if verdict == "inconclusive" and found.low > printed:
        verdict = "not reproduced"
    falls = (medians.to_numpy()[1:] < medians.to_numpy()[:-1]).all()
    return unless(replace(found, verdict=verdict, printed=printed), not falls, why)


def _kendall(values: np.ndarray) -> float:
    """Kendall's tau (a) of the values with their own order; infinities count as equal."""
    later, earlier = np.tril_indices(len(values), k=-1)
    rises = values[later] > values[earlier]
    falls = values[later] < values[earlier]
    return float(rises.mean() - falls.mean())


def ten_fails(evidence: Evidence) -> Verdict | None:
    """Judge the share of units that weight 10 leaves unsolved."""
    units = iterations(evidence, lambda_ts=10.0)
    units = units[np.isfinite(units.ce)]
    if units.empty:
        return None
    failed = int(np.isinf(units.ts).sum())
    low, high = share_interval(failed, len(units), evidence.simultaneous)
    p = float(binomtest(failed, len(units), ALWAYS).pvalue)
    verdict = "reproduced" if low > ALWAYS else "inconclusive"
    verdict = "not reproduced" if high < ALWAYS else verdict
    why = f"weight 10 leaves {failed} of {len(units)} units unsolved; p = {p:.3g} that it leaves "
    why += f"{ALWAYS:.0%}"
    return Verdict(verdict, len(units), failed / len(units), low, high, why, p, 1.0)


def _totals(evidence: Evidence, weights: Sequence[float], *, epochs: int = 1) -> pd.DataFrame:
    """Total loss by epoch: one row a run and epoch, up to the shortest run of a unit and seed.

    Only units and seeds with all the weights, each trained for so many epochs.
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


def weights_converge(evidence: Evidence) -> Verdict | None:
    """Judge the total loss after a hundred epochs, at the weight that leaves most."""
    rows = _totals(evidence, list(reported("table4").lambda_ts), epochs=FIGURE4_EPOCHS)
    if rows.empty:
        return None
    rows, of_run = rows[rows.epoch <= FIGURE4_EPOCHS], ["id", "seed", *UNIT]
    ends = rows[rows.groupby(of_run).cumcount(ascending=False) < 5]
    ends = ends.assign(gap=ends.total.isna()).groupby(of_run)
    left = ends.total.mean().mask(ends.gap.any()).fillna(np.inf)  # not converged
    left = left.groupby([*UNIT, "seed"]).max().groupby(UNIT).median()
    here = int((left < NEAR_ZERO).sum())
    verdict, why, p = judge_signs(here, 0, len(left) - here, alpha=evidence.alpha)
    interval = median_interval(left, evidence.simultaneous)
    return Verdict(verdict, len(left), float(left.median()), *interval, why, p, 0.0)


def ten_oscillates(evidence: Evidence) -> Verdict | None:
    """Judge the rises of the total loss at weight 10 against those at weight 1."""
    rows = _totals(evidence, (1.0, 10.0))
    if rows.empty:
        return None
    of_run = rows.groupby("id").total
    rises = of_run.diff().clip(lower=0) / of_run.transform("first")
    keys = [rows[key] for key in [*UNIT, "seed", "lambda_ts"]]
    total = rises.groupby(keys).sum().unstack("lambda_ts")
    change = (total[10.0] - total[1.0]).groupby(UNIT).median()
    return judge_changes(change, claimed=1, **evidence.levels)


# Problems that no prompt was trained on ------------------------------------------------------


def better_downstream(evidence: Evidence) -> Verdict | None:
    """Judge the shares of held-out problems answered correctly against three other methods."""
    shares = unseen_shares(evidence, methods=("tsloss", *OTHERS), fewest=FEWEST_UNSEEN)
    if shares.empty:
        return None
    changes = {name: shares.tsloss - shares[name] for name in OTHERS}
    tests = {
        name: judge_changes(change, claimed=1, **evidence.levels)
        for name, change in changes.items()
    }
    behind = [name for name, it in changes.items() if (it < 0).sum() >= (it > 0).sum()]
    if behind:  # one is enough to speak against the claim, so it answers for having three
        first = min(behind, key=lambda name: tests[name].p)
        at = evidence.levels | {"alpha": evidence.alpha / len(OTHERS)}
        chosen = judge_changes(changes[first], claimed=1, **at)
        against = chosen.verdict == "not reproduced"
        verdict = "not reproduced" if against else "inconclusive"
        chosen = replace(chosen, verdict=verdict, p=min(1.0, len(OTHERS) * chosen.p))
    else:  # all three are needed, so the weakest decides
        chosen = max(tests.values(), key=lambda it: it.p)
        told = {it.verdict for it in tests.values()}
        order = ("inconclusive", "not reproduced", "partly", "reproduced")
        chosen = replace(chosen, verdict=next(it for it in order if it in told))
    floors = evidence.answers[evidence.answers.id == NO_PROMPT].groupby(["model", "task"]).correct
    why = "; ".join(f"against {name}: {it.why}" for name, it in tests.items())
    for key, mine in shares.groupby(["model", "task"]):
        means = ", ".join(f"{name} {mine[name].mean():.1%}" for name in ("tsloss", *OTHERS))
        why += f"; {', '.join(key)}: {means}, no prompt {floors.mean().get(key, np.nan):.1%}"
    return replace(chosen, why=why)


# What the loss stands for --------------------------------------------------------------------


def variances(evidence: Evidence) -> Verdict:
    """Judge equation 13 for trained prompts, and for a cloud made against it."""
    pair = surrogate([two_pairs()]).iloc[0]
    less, more = sorted((pair.soft_variance, pair.death_variance))
    why = f"two pairs of points on a line: Var(s) = {pair.soft_variance:.3g}, variance of the "
    why += f"deaths {pair.death_variance:.3g}"
    fails = more > FACTOR * less
    found = evidence.variances
    if len(found) < FEWEST:
        verdict = "not reproduced" if fails else "inconclusive"
        return Verdict(verdict, len(found), np.nan, np.nan, np.nan, why, printed=1.0)
    ratio = found.soft_variance / found.death_variance
    low, high = median_interval(ratio, ALPHA)
    within = int(((ratio > 1 / FACTOR) & (ratio < FACTOR)).sum())
    rank = float(found.soft_variance.corr(found.death_variance, method="spearman"))
    trained = f"trained prompts: within a factor of {FACTOR:g} in {within} of {len(ratio)}, from "
    why = f"{trained}{ratio.min():.2f} to {ratio.max():.2f}, rank correlation {rank:.2f}; {why}"
    verdict = "inconclusive"
    if low > 1 / FACTOR and high < FACTOR:
        verdict = "partly" if fails else "reproduced"
    elif high < 1 / FACTOR or low > FACTOR:
        verdict = "not reproduced"
    return Verdict(verdict, len(ratio), float(ratio.median()), low, high, why, printed=1.0)


PAIR_UNIT = (
    "one problem (or set of ten) on one model, the median over an odd number of seeds of runs that "
    "differ in TSLoss alone; both start from their seed's one prompt, and one problem on two "
    "models, or in a set and alone, is two units"
)
COUNTED = f"{PAIR_UNIT}; those that the untrained prompt solves are excluded"

TSLOSS = (
    Claim(
        id="tsloss-fewer-iterations",
        source="abstract; section 4.3, Table 3",
        statement="With TSLoss at weight 1 a prompt needs fewer iterations until its problems are "
        "solved.",
        family="TSLoss",
        needs="table3",
        unit=f"{COUNTED}, and those that neither run solves",
        estimand="the median ratio of iterations, TSLoss over Standard, with a bootstrap interval, "
        "whose low end counts a unit that only TSLoss solves as 0; printed: the median ratio of "
        "the cells of Table 3",
        decision=f"Reproduced when TSLoss is sooner in more units than later by a sign test ({HOLM}"
        "), in at least half of all, and the interval reaches the printed ratio; partly when it is "
        "sooner so, but in fewer than half or by less. Not reproduced when it is not sooner so and "
        "the interval lies within 0.9 and 1.1 or above the printed ratio, or when it is later by "
        "the test. Inconclusive otherwise.",
        margin="iterations within ±10 %; interval excludes the printed ratio",
        judge=fewer_iterations,
    ),
    Claim(
        id="tsloss-halves-iterations",
        source="section 4.3, Table 3; published version",
        statement="The saving reaches about one half.",
        family="TSLoss",
        needs="table3",
        unit=f"{COUNTED}, and those that neither run solves; each model, task and regime with at "
        "least six is a cell, as in Table 3",
        estimand="the smallest median ratio of iterations of a cell, with an interval corrected "
        "for the number of cells",
        decision="Reproduced when in that cell more units need at most half of the iterations than "
        f"more, by a two-sided sign test whose p, times the number of cells, has {HOLM}; not "
        "reproduced when the interval lies above one half in every cell; inconclusive otherwise.",
        margin="interval excludes one half",
        judge=halves_iterations,
    ),
    Claim(
        id="tsloss-as-effective",
        source="abstract; section 4.3",
        statement="With TSLoss prompts still come to solve their problems.",
        family="TSLoss",
        needs="table3",
        unit=COUNTED,
        estimand="the difference of the shares of units solved, TSLoss less Standard, with Bonett "
        "and Price's interval for paired shares",
        decision="Reproduced when the interval lies above -0.05 (not inferior by more than five "
        "points), not reproduced when below; inconclusive otherwise.",
        margin="non-inferiority, 5 points",
        judge=as_effective,
    ),
    Claim(
        id="tsloss-simpler-topology",
        source="section 3; published version",
        statement="Prompts trained with TSLoss end with fewer loops than prompts trained without.",
        family="TSLoss",
        needs="table3",
        unit=PAIR_UNIT,
        estimand="the median difference of the H1 counts at the pair's last common check",
        decision=signs("the H1 count at the pair's last common check is lower with TSLoss"),
        judge=simpler_topology,
    ),
    Claim(
        id="tsloss-lower-loss",
        source="section 4.5, Figure 5",
        statement="With TSLoss the loss curve comes down faster.",
        family="TSLoss",
        needs="figure5",
        unit=PAIR_UNIT,
        estimand="the median ratio of the cross-entropies, the part of the loss that both have, "
        "averaged over the common epochs",
        decision=signs("it is lower with TSLoss")
        + " Where that is inconclusive but the interval lies within 0.9 and 1.1: not reproduced.",
        margin="mean loss within ±10 %",
        judge=lower_loss,
    ),
    Claim(
        id="lambda-monotone",
        source="section 4.4, Table 4",
        statement="From weight 0 to 1 every increase of lambda_ts shortens training.",
        family="weight",
        needs="table4",
        unit="one problem (or set of ten) on one model with all four weights, the median over an "
        "odd number of seeds that have them; what no weight solves is excluded",
        estimand="the median of Kendall's tau of the iterations with lambda_ts (0, 0.1, 0.5, 1)",
        decision=signs("iterations go down with lambda_ts (tau below 0)")
        + " Reproduced so, but the median of the iterations does not fall at every one of the "
        "three steps: partly. Where it is inconclusive but the interval excludes the printed tau: "
        "not reproduced.",
        margin="interval excludes the printed tau",
        judge=monotone,
    ),
    Claim(
        id="lambda-ten-fails",
        source="section 4.4, Table 4",
        statement="At lambda_ts = 10 training never arrives at a correct answer.",
        family="weight",
        needs="table4",
        unit=f"{COUNTED}, at weight 10, where the run without is solved",
        estimand="the share of units that weight 10 leaves unsolved, with the exact interval",
        decision="Never is a matter of all: reproduced when the interval lies above 0.9, not "
        "reproduced when below; inconclusive otherwise.",
        margin="0.9 of the units",
        judge=ten_fails,
    ),
    Claim(
        id="all-weights-converge",
        source="section 4.4, Figure 4",
        statement="At every weight the total loss is near zero after about 100 epochs.",
        family="weight",
        needs="table4",
        unit="one problem (or set of ten) on one model with all five weights, the median over an "
        "odd number of seeds",
        estimand="the median total loss, in nats a token, mean of the five epochs to "
        f"{FIGURE4_EPOCHS}, at the weight of 0, 0.1, 0.5, 1 and 10 that leaves most",
        decision=share(f"it is below {NEAR_ZERO} at each of the weights"),
        margin=f"{NEAR_ZERO} nats a token",
        judge=weights_converge,
    ),
    Claim(
        id="lambda-ten-oscillates",
        source="section 4.4, Figure 4",
        statement="At lambda_ts = 10 the total loss oscillates notably while it converges.",
        family="weight",
        needs="table4",
        unit=PAIR_UNIT.replace("TSLoss alone", "its weight alone"),
        estimand="the median difference of the rises of the total loss from epoch to epoch, added "
        "up and divided by its first value",
        decision=signs("they are larger at weight 10 than at weight 1 in as many epochs"),
        judge=ten_oscillates,
    ),
    Claim(
        id="variances-equal",
        source="appendix A.1.2, equation 13",
        statement="Var(s_i) is about the variance of the H0 deaths, since s_i is about point i's "
        "death.",
        family="TSLoss",
        needs="baselines",
        unit="the last prompt of a problem's (or set's) first run without TSLoss that keeps it",
        estimand="the median ratio of Var(s_i) to the variance of the deaths, with the interval "
        "from order statistics",
        decision="About means within a factor of two. Reproduced when the interval lies within "
        "that, for trained prompts, and no cloud made against it speaks otherwise; partly when one "
        "does (two tight pairs of points on a line); not reproduced when the interval lies outside "
        "or, without trained prompts, by that cloud alone; inconclusive otherwise.",
        margin="a factor of 2",
        judge=variances,
    ),
    Claim(
        id="small-models-gain-more",
        source="section 4.3, Table 3",
        statement="The smaller the model, the more TSLoss saves.",
        family="TSLoss",
        needs="table3",
        unit="one problem (or set of ten) trained on at least three models, pairs that are solved",
        estimand="the median of Kendall's tau of the ratio of iterations with the model's size",
        decision=signs("the ratio of iterations rises with the model's size (tau above 0)"),
        judge=smaller_gain,
        protocol="paper",
        profile="paper",
    ),
    Claim(
        id="qwen-fourfold",
        source="published version",
        statement="On Qwen1.5-14B TSLoss shortens training four times.",
        family="published version",
        needs="table3",
        unit=f"{COUNTED}, and those that neither run solves",
        estimand="the median ratio of iterations",
        decision="Reproduced when more units need at most a quarter of the iterations than more, "
        f"by a two-sided sign test ({HOLM}); not reproduced when the interval lies above a "
        "quarter; inconclusive otherwise.",
        margin="interval excludes one quarter",
        judge=fourfold,
        protocol="paper",
        profile="paper",
        model="qwen1.5-14b-chat",
    ),
    Claim(
        id="better-downstream",
        source="published version",
        statement="TSLoss answers unseen problems better than no regulariser, L2 or the pairwise "
        "loss.",
        family="published version",
        needs="baselines",
        unit="one problem on one model that was trained with all four, the median over seeds",
        estimand="the median difference of the shares of at least fifty held-out problems that are "
        "answered correctly",
        decision=signs("the prompt trained with TSLoss answers more of them correctly")
        + " Three such tests, against no regulariser, L2 and the pairwise loss, must all agree, "
        "and the weakest is given; where TSLoss is not ahead in more units than behind of each, "
        "the strongest of those against it, its p times three. `tsp heldout --data DIR` asks.",
        judge=better_downstream,
    ),
)
"""The claims of sections 3 and 4, the appendix and the published version."""
