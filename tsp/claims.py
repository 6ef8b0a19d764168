"""The verdict on each claim of the paper, decided from independent runs by its written rule."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from math import comb, prod
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from tsp.evidence import (
    STRATUM,
    UNIT,
    Evidence,
    at_balanced_check,
    coded,
    comparable,
    first_and_last,
    iterations,
    pairs,
    plain_checks,
    side_by_side,
    solved,
    unseen_shares,
)
from tsp.model_cards import MODELS
from tsp.paper import (
    ALPHA,
    APPENDIX_TASKS,
    CLAIMS,
    FIGURE4_EPOCHS,
    MAIN_TASKS,
    Claim,
    reported,
)
from tsp.records import NO_PROMPT
from tsp.stats import PairedResult, holm, holm_levels, paired_ratio, signed_rank
from tsp.surrogate import surrogate, two_pairs
from tsp.verdicts import (
    FEWEST,
    SHUFFLES,
    Verdict,
    judge_changes,
    judge_correlation,
    judge_no_correlation,
    judge_signs,
    median_interval,
    share_interval,
    stratified_rho,
    undecided,
)

OTHERS = ("ce", "l2", "pairwise")  # what the published version sets TSLoss against
LITTLE = 0.1  # of its first value: the largest fall that is a little, what is left of little
EARLY = 0.25  # of the epochs: in which entropy is said to fall rapidly
SMALL_RHO = 0.324  # of H1 counts: the smallest that Table 2 calls a correlation
STEPS_OF_A_SET = 2  # optimiser steps of an epoch of ten problems in batches of eight
FEWEST_SIZES = 3
NEAR_ZERO = 0.1  # of its first value: the largest loss that is near zero
FEWEST_UNSEEN = 50
ALL_TASKS = (*MAIN_TASKS, *APPENDIX_TASKS)

Rule = Callable[[Evidence], Verdict | None]


def evaluate(
    runs: pd.DataFrame,
    topology: pd.DataFrame,
    losses: pd.DataFrame | None = None,
    answers: pd.DataFrame | None = None,
    *,
    protocol: str | None = None,
) -> pd.DataFrame:
    """Decide every claim of `tsp.paper.CLAIMS` from stored runs.

    Parameters
    ----------
    runs, topology, losses, answers
        As in `Evidence`, of any protocol; without ``losses`` or ``answers`` the claims about them
        are not tested.
    protocol
        Judge all claims under this protocol instead of the one each names.

    Returns
    -------
    pandas.DataFrame
        One row a claim, in the paper's order: id, source, statement, rule, protocol (under which
        the deciding runs were trained), verdict, n, estimate, low, high, why, p, p_holm.

    Notes
    -----
    The claims whose tests were made are one family. Holm's procedure decides what each p must be
    below (`tsp.stats.holm_levels`), which is the same as to compare ``p_holm`` with `ALPHA`; the
    intervals that speak against a claim are as wide, and power is told for the same level.
    """
    losses = pd.DataFrame(columns=["id", "epoch", "ce"]) if losses is None else losses
    named = {protocol or claim.protocol for claim in CLAIMS}
    asked = pd.DataFrame() if answers is None else answers
    chosen = {
        name: coded(Evidence(comparable(runs, protocol=name), topology, losses, asked))
        for name in named
    }
    evidence = [chosen[protocol or claim.protocol] for claim in CLAIMS]
    verdicts = [decide(*it) for it in zip(CLAIMS, evidence, strict=True)]
    alone = [verdict.p for verdict in verdicts]
    levels = np.nan_to_num(holm_levels(alone, alpha=ALPHA), nan=ALPHA)
    every = zip(CLAIMS, evidence, verdicts, levels, holm(alone), strict=True)
    rows = []
    for claim, known, verdict, level, together in every:
        about = {key: getattr(claim, key) for key in ("id", "source", "statement", "rule")}
        about["protocol"] = protocol or claim.protocol
        if level != known.alpha:
            verdict = decide(claim, replace(known, alpha=float(level)))
        rows.append(about | asdict(verdict) | {"p_holm": together})
    return pd.DataFrame(rows)


def decide(claim: Claim, evidence: Evidence) -> Verdict:
    """Apply the rule of one claim; without a rule or without runs it is not tested here."""
    rule = RULES.get(claim.id)
    verdict = rule(evidence) if rule else None
    if verdict is None:
        reason = "no runs here decide it" if rule else claim.rule.removesuffix(".")
        why = f"{reason}; `{claim.command}` trains them"
        return Verdict("not tested here", 0, np.nan, np.nan, np.nan, why)
    return verdict


# What happens to the topology ----------------------------------------------------------------


def _h0_count_constant(evidence: Evidence) -> Verdict:
    runs = evidence.runs
    rows = runs[["id", "n_tokens"]].merge(evidence.topology, on="id") if len(runs) else runs
    fewer = 0 if rows.empty else rows.loc[rows.h0_count != rows.n_tokens, "id"].nunique()
    why = f"distinct points are that many components; {fewer} of {len(runs)} runs have points "
    return Verdict(
        "true by definition", len(runs), np.nan, np.nan, np.nan, why + "that coincide at a check"
    )


def _falls(feature: str) -> Rule:
    def rule(evidence: Evidence) -> Verdict | None:
        ends = first_and_last(evidence, feature)
        return None if ends.empty else judge_changes(ends.change, claimed=-1, alpha=evidence.alpha)

    return rule


def _h0_lifespan_grows(evidence: Evidence) -> Verdict | None:
    ends = first_and_last(evidence, "h0_mean_lifespan")
    if ends.empty:
        return None
    raw = judge_changes(ends.change, claimed=1, alpha=evidence.alpha)
    scaled = first_and_last(evidence, "h0_mean_lifespan_scaled")
    change = float(scaled.change.median())
    longer = int((scaled.change > 0).sum())
    why = f"{raw.why}; divided by the mean distance it is longer in {longer} of {len(scaled)}, "
    why += f"median change {change / scaled['first'].median():+.1%} of the first value"
    return _unless(raw, change <= 0, why)


def _unless(verdict: Verdict, fails: bool, why: str) -> Verdict:
    """What is reproduced is partly so where a further condition of the rule fails."""
    partly = verdict.verdict == "reproduced" and fails
    return replace(verdict, verdict="partly" if partly else verdict.verdict, why=why)


def _entropy_falls(evidence: Evidence) -> Verdict | None:
    ends = first_and_last(evidence, "persistence_entropy")
    if ends.empty:
        return None
    verdict = judge_changes(ends.change, claimed=-1, alpha=evidence.alpha)
    fall = float(-(ends.change / ends["first"]).median())
    return _unless(
        verdict, fall > LITTLE, f"{verdict.why}; median fall {fall:.1%} of the first value"
    )


def _density(evidence: Evidence) -> Verdict | None:
    loops, spread = (first_and_last(evidence, name) for name in ("h1_count", "mean_distance"))
    if loops.empty:
        return None
    fall = 1 - spread["first"] / spread["last"]  # of n / D, as a share of its first value
    claimed = (loops.change < 0) & (fall >= 0) & (fall <= LITTLE)
    more = f"the H1 count falls in {(loops.change < 0).sum()} units"
    return _happens(claimed, fall, evidence.alpha, more)


def _happens(event: pd.Series, shown: pd.Series, alpha: float, more: str = "") -> Verdict:
    """Verdict on "it happens in most units", where not to happen is the reverse."""
    here = int(event.sum())
    verdict, why, p = judge_signs(here, 0, len(event) - here, alpha=alpha)
    why = f"{why}; {more}" if more else why
    interval = median_interval(shown)
    return Verdict(verdict, len(event), float(shown.median()), *interval, why, p)


def _share_of_units(event: pd.Series, alpha: float, more: str = "") -> Verdict:
    """`_happens`, with the share of units in which it does as the estimate."""
    low, high = share_interval(int(event.sum()), len(event))
    verdict = _happens(event, event.astype(float), alpha, more)
    return replace(verdict, estimate=float(event.mean()), low=low, high=high)


def _loops_vanish(evidence: Evidence) -> Verdict | None:
    ends = first_and_last(evidence, "h1_count")
    ends = ends[ends["first"] > 0]
    if ends.empty:
        return None
    left = ends["last"] / ends["first"]
    return _happens(left <= LITTLE, left, evidence.alpha)


def _entropy_early(evidence: Evidence) -> Verdict | None:
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
    share = falls["early"] / falls["all"]
    return _happens((falls["all"] > 0) & (share >= 0.5), share, evidence.alpha)


def _everywhere(evidence: Evidence) -> Verdict | None:
    ends = first_and_last(evidence, "h1_count")
    if ends.empty:
        return None
    changes = ends.change.groupby("task").median()
    falling = int((changes < 0).sum())
    why = "median change by data set: "
    why += ", ".join(f"{task} {change:+g}" for task, change in changes.items())
    verdict = "inconclusive"
    if falling < len(changes):
        verdict = "not reproduced"
    elif len(changes) == len(ALL_TASKS):
        verdict = "reproduced"
    else:
        why += f"; {len(changes)} of {len(ALL_TASKS)} data sets have runs"
    return Verdict(verdict, len(ends), falling / len(changes), np.nan, np.nan, why)


def _falls_faster_multi(evidence: Evidence) -> Verdict | None:
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
    found = Verdict(verdict, len(by_epoch), faster, np.nan, np.nan, why, p)
    return _unless(found, at_steps <= 0.5, why)


def _loops_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the first loops that is left, mean over the clock's common readings of a stratum.

    One row a unit of the models and tasks that have both regimes: ``left``, ``sets``, ``label``.
    """
    strata = ["model", "task"]
    seen = rows.groupby([*strata, "clock"]).id.transform("nunique")
    rows = rows[seen == rows.groupby(strata).id.transform("nunique")]
    first = rows.groupby("id").h1_count.transform("first")
    share = (rows.h1_count / first)[first > 0].groupby([rows[key] for key in ["id", *UNIT]]).mean()
    units = share.groupby(UNIT).median().reset_index(name="left")
    units = units[units.groupby(strata).regime.transform("nunique") == 2]
    return units.assign(sets=units.regime == "multi", label=units.groupby(strata).ngroup())


def _set_faster(units: pd.DataFrame) -> float:
    """Share of comparisons of a set with a problem of its stratum in which less is left of it."""
    wins = [
        np.sign(np.subtract.outer(it.left[~it.sets].to_numpy(), it.left[it.sets].to_numpy()))
        for _, it in units.groupby("label")
    ]
    return float(np.mean(np.concatenate([it.ravel() for it in wins]) / 2 + 0.5)) if wins else np.nan


# Topology and accuracy -----------------------------------------------------------------------


def _correlates(feature: str) -> Rule:
    def judge(*units: np.ndarray, **more: Any) -> Verdict:
        printed = float(reported("table2").set_index("feature").rho[feature])
        return judge_correlation(*units, printed=printed, **more)

    return _correlation(feature, judge)


def _correlation(feature: str, judge: Callable[..., Verdict]) -> Rule:
    def rule(evidence: Evidence) -> Verdict | None:
        units = at_balanced_check(evidence, feature)
        if units.empty:
            none = plain_checks(evidence).empty
            why = "at no check are some units of a stratum solved and others not"
            return None if none else undecided(why)
        return judge(
            units[feature].to_numpy(),
            units.accuracy.to_numpy(),
            strata=units.groupby(STRATUM).ngroup().to_numpy(),
            alpha=evidence.alpha,
        )

    return rule


# With and without TSLoss ---------------------------------------------------------------------


def _ratio(units: pd.DataFrame) -> PairedResult:
    never = units.replace(np.inf, np.nan)
    return paired_ratio(never.ce, never.ts, cap=units.limit)


def _fewer_iterations(evidence: Evidence) -> Verdict | None:
    units = iterations(evidence, lambda_ts=1.0)
    if units.empty:
        return None
    told = units[np.isfinite(units[["ce", "ts"]]).any(axis=1)]
    many = len(pairs(evidence, lambda_ts=1.0)[UNIT].drop_duplicates())
    neither = f"{len(units) - len(told)} units that neither solves and {many - len(units)} that "
    neither += "the untrained prompt solves are apart"
    if told.empty:
        return undecided(neither)
    result = _ratio(told)
    counts = (result.wins, result.ties, result.losses)
    verdict, why, p = judge_signs(*counts, alpha=evidence.alpha)
    never = told.replace(np.inf, np.nan)
    rank = signed_rank(never.ce, never.ts, cap=told.limit).p
    why = f"{why}; signed-rank p = {rank:.3g}; {neither}"
    return Verdict(verdict, result.n, result.median_ratio, result.low, result.high, why, p)


def _halves_iterations(evidence: Evidence) -> Verdict | None:
    units = iterations(evidence, lambda_ts=1.0)
    if units.empty:
        return None
    told = units[np.isfinite(units[["ce", "ts"]]).any(axis=1)]
    cells = {name: _ratio(rows) for name, rows in told.groupby(STRATUM) if len(rows) >= FEWEST}
    if not cells:
        why = f"no model, task and regime has {FEWEST} units that either run solves"
        return undecided(why, len(told))
    name, best = min(cells.items(), key=lambda cell: cell[1].median_ratio)
    why = f"best of {len(cells)} cells: {', '.join(name)}; medians of all: "
    why += ", ".join(f"{cell.median_ratio:.2f}" for cell in cells.values())
    if best.median_ratio <= 0.5:
        one = _share_of(told.loc[name], 0.5, below=True)
        p, decided = min(1.0, one * len(cells)), "reproduced"
        why += f"; at most one half by a sign test, p = {one:.3g}, times {len(cells)} cells"
    else:
        p = max(_share_of(told.loc[cell], 0.5, below=False) for cell in cells)
        decided = "not reproduced"
        why += f"; over one half in every cell by sign tests of p = {p:.3g} at most"
    verdict = decided if p < evidence.alpha else "inconclusive"
    return Verdict(verdict, best.n, best.median_ratio, best.low, best.high, why, p)


def _share_of(units: pd.DataFrame, share: float, *, below: bool) -> float:
    """Two-sided p of a sign test that units take at most, or over, a share of the iterations.

    A unit that only TSLoss solves took at most ``ts / limit`` of them, maybe less: below a larger
    share it speaks for neither side.
    """
    least = units.ce.replace(np.inf, np.nan).fillna(units.limit)
    here = units.ts <= share * least if below else units.ts > share * units.ce
    one = binomtest(int(here.sum()), len(units), alternative="greater").pvalue
    return min(1.0, 2 * float(one))


def _fourfold(evidence: Evidence) -> Verdict | None:
    units = iterations(
        replace(evidence, runs=_on(evidence.runs, "qwen1.5-14b-chat")), lambda_ts=1.0
    )
    told = units[np.isfinite(units[["ce", "ts"]]).any(axis=1)]
    if told.empty:
        return None
    result = _ratio(told)
    below = result.median_ratio <= 0.25
    p = _share_of(told, 0.25, below=below)
    word = "at most" if below else "over"
    why = f"{word} one quarter by a sign test over {len(told)} units, p = {p:.3g}"
    decided = "reproduced" if below else "not reproduced"
    verdict = decided if p < evidence.alpha else "inconclusive"
    return Verdict(verdict, result.n, result.median_ratio, result.low, result.high, why, p)


def _on(runs: pd.DataFrame, model: str) -> pd.DataFrame:
    return runs[runs.model == model] if len(runs) else runs


def _smaller_gain(evidence: Evidence) -> Verdict | None:
    units = iterations(evidence, lambda_ts=1.0)
    if units.empty:
        return None
    reached = units[["ce", "ts"]].min(axis=1)
    ratio = np.minimum(units.ts, units.limit) / np.minimum(units.ce, units.limit)
    table = ratio[np.isfinite(reached)].unstack("model")
    table = table[sorted(set(table) & set(MODELS), key=lambda it: MODELS[it].parameters)]
    table = table[table.notna().sum(axis=1) >= FEWEST_SIZES]
    if table.empty:
        return None
    trends = [_kendall(row[~np.isnan(row)]) for row in table.to_numpy()]
    return judge_changes(trends, claimed=1, alpha=evidence.alpha)


def _as_effective(evidence: Evidence) -> Verdict | None:
    units = iterations(evidence, lambda_ts=1.0)
    units = units[np.isfinite(units.ce)]
    if units.empty:
        return None
    also = np.isfinite(units.ts)
    more = f"TSLoss solves {int(also.sum())} of the {len(units)} that are solved without it"
    return _share_of_units(also, evidence.alpha, more)


def _simpler_topology(evidence: Evidence) -> Verdict | None:
    both = pairs(evidence, lambda_ts=1.0)
    if both.empty:
        return None
    counts = evidence.topology[["id", "epoch", "h1_count"]]
    common = side_by_side(both, counts).sort_values("epoch").groupby([*UNIT, "seed"]).last()
    change = (common.h1_count_ts - common.h1_count_ce)[common.epoch > 0].groupby(UNIT).median()
    return None if change.empty else judge_changes(change, claimed=-1, alpha=evidence.alpha)


def _lower_loss(evidence: Evidence) -> Verdict | None:
    both = pairs(evidence, lambda_ts=1.0)
    if both.empty or evidence.losses.empty:
        return None
    common = side_by_side(both, evidence.losses[["id", "epoch", "ce"]])
    mean = common.groupby([*UNIT, "seed"])[["ce_ce", "ce_ts"]].mean()
    change = (mean.ce_ts - mean.ce_ce).groupby(UNIT).median()
    return None if change.empty else judge_changes(change, claimed=-1, alpha=evidence.alpha)


# The weight of TSLoss ------------------------------------------------------------------------


def _monotone(evidence: Evidence) -> Verdict | None:
    weights = [weight for weight in reported("table4").lambda_ts if weight <= 1]
    table = solved(evidence, weights=weights)[weights]
    table = table[np.isfinite(table).any(axis=1)]
    if table.empty:
        return None
    trends = [_kendall(row) for row in table.to_numpy()]
    verdict = judge_changes(trends, claimed=-1, alpha=evidence.alpha)
    medians = table.median()
    why = f"{verdict.why}; medians "
    why += ", ".join(f"{value:g} at {weight:g}" for weight, value in medians.items())
    falls = (medians.to_numpy()[1:] < medians.to_numpy()[:-1]).all()
    return _unless(verdict, not falls, why)


def _kendall(values: np.ndarray) -> float:
    """Kendall's tau (a) of the values with their own order; infinities count as equal."""
    later, earlier = np.tril_indices(len(values), k=-1)
    rises = values[later] > values[earlier]
    falls = values[later] < values[earlier]
    return float(rises.mean() - falls.mean())


def _ten_fails(evidence: Evidence) -> Verdict | None:
    units = iterations(evidence, lambda_ts=10.0)
    units = units[np.isfinite(units.ce)]
    if units.empty:
        return None
    failed = np.isinf(units.ts)
    return _share_of_units(failed, evidence.alpha)


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
    rows = runs[["id", "lambda_ts", "seed", "common", *UNIT]].merge(evidence.losses, on="id")
    return rows[rows.epoch <= rows.common].sort_values(["id", "epoch"])


def _weights_converge(evidence: Evidence) -> Verdict | None:
    rows = _totals(evidence, list(reported("table4").lambda_ts), epochs=FIGURE4_EPOCHS)
    if rows.empty:
        return None
    rows, of_run = rows[rows.epoch <= FIGURE4_EPOCHS], ["id", "seed", *UNIT]
    first = rows.groupby(of_run).total.first()
    ends = rows[rows.groupby(of_run).cumcount(ascending=False) < 5]
    ends = ends.assign(gap=ends.total.isna()).groupby(of_run)
    share = (ends.total.mean() / first).mask(ends.gap.any()).fillna(np.inf)  # not converged
    share = share.groupby([*UNIT, "seed"]).max().groupby(UNIT).median()
    return _happens(share < NEAR_ZERO, share, evidence.alpha)


def _ten_oscillates(evidence: Evidence) -> Verdict | None:
    rows = _totals(evidence, (1.0, 10.0))
    if rows.empty:
        return None
    of_run = rows.groupby("id").total
    rises = of_run.diff().clip(lower=0) / of_run.transform("first")
    keys = [rows[key] for key in [*UNIT, "seed", "lambda_ts"]]
    total = rises.groupby(keys).sum().unstack("lambda_ts")
    change = (total[10.0] - total[1.0]).groupby(UNIT).median()
    return judge_changes(change, claimed=1, alpha=evidence.alpha)


# Problems that no prompt was trained on ------------------------------------------------------


def _better_downstream(evidence: Evidence) -> Verdict | None:
    shares = unseen_shares(evidence, methods=("tsloss", *OTHERS), fewest=FEWEST_UNSEEN)
    if shares.empty:
        return None
    changes = {name: shares.tsloss - shares[name] for name in OTHERS}
    tests = {
        name: judge_changes(change, claimed=1, alpha=evidence.alpha)
        for name, change in changes.items()
    }
    behind = [name for name, it in changes.items() if (it < 0).sum() >= (it > 0).sum()]
    if behind:  # one is enough to speak against the claim, so it answers for having three
        first = min(behind, key=lambda name: tests[name].p)
        chosen = judge_changes(changes[first], claimed=1, alpha=evidence.alpha / len(OTHERS))
        against = chosen.verdict == "not reproduced"
        verdict = "not reproduced" if against else "inconclusive"
        chosen = replace(chosen, verdict=verdict, p=min(1.0, len(OTHERS) * chosen.p))
    else:  # all three are needed, so the weakest decides
        chosen = max(tests.values(), key=lambda it: it.p)
        told = {it.verdict for it in tests.values()}
        worst = next(
            it for it in ("inconclusive", "not reproduced", "partly", "reproduced") if it in told
        )
        chosen = replace(chosen, verdict=worst)
    floors = evidence.answers[evidence.answers.id == NO_PROMPT].groupby(["model", "task"]).correct
    why = "; ".join(f"against {name}: {it.why}" for name, it in tests.items())
    for key, mine in shares.groupby(["model", "task"]):
        means = ", ".join(f"{name} {mine[name].mean():.1%}" for name in ("tsloss", *OTHERS))
        why += f"; {', '.join(key)}: {means}, no prompt {floors.mean().get(key, np.nan):.1%}"
    return replace(chosen, why=why)


# What the loss stands for --------------------------------------------------------------------


def _variances(evidence: Evidence) -> Verdict:
    found = surrogate([two_pairs()]).iloc[0]
    less, more = sorted((found.soft_variance, found.death_variance))
    why = f"two pairs of points on a line: Var(s) = {found.soft_variance:.3g}, variance of the "
    why += f"deaths {found.death_variance:.3g}"
    verdict = "not reproduced" if more > 2 * less else "inconclusive"
    return Verdict(verdict, 1, np.nan, np.nan, np.nan, why)


RULES: dict[str, Rule] = {
    "h0-count-constant": _h0_count_constant,
    "h1-count-falls": _falls("h1_count"),
    "loops-vanish": _loops_vanish,
    "h0-lifespan-grows": _h0_lifespan_grows,
    "entropy-falls": _entropy_falls,
    "entropy-early": _entropy_early,
    "density-minimal": _density,
    "h1-falls-faster-multi": _falls_faster_multi,
    "h0-lifespan-accuracy": _correlates("h0_mean_lifespan"),
    "h1-count-accuracy": _correlates("h1_count"),
    "entropy-accuracy": _correlates("persistence_entropy"),
    "h1-lifespan-accuracy": _correlation(
        "h1_mean_lifespan", partial(judge_no_correlation, small=SMALL_RHO)
    ),
    "same-everywhere": _everywhere,
    "tsloss-fewer-iterations": _fewer_iterations,
    "tsloss-halves-iterations": _halves_iterations,
    "tsloss-as-effective": _as_effective,
    "tsloss-simpler-topology": _simpler_topology,
    "tsloss-lower-loss": _lower_loss,
    "lambda-monotone": _monotone,
    "lambda-ten-fails": _ten_fails,
    "all-weights-converge": _weights_converge,
    "lambda-ten-oscillates": _ten_oscillates,
    "variances-equal": _variances,
    "small-models-gain-more": _smaller_gain,
    "qwen-fourfold": _fourfold,
    "better-downstream": _better_downstream,
}
"""The rule of each claim as code; a claim without one is not tested here."""
