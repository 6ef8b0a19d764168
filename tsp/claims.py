"""The verdict on each claim of the paper, decided from independent runs by its written rule."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import comb

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from tsp.evidence import (
    STRATUM,
    UNIT,
    Evidence,
    at_balanced_check,
    comparable,
    first_and_last,
    iterations,
    pairs,
    plain_checks,
    side_by_side,
    unseen_shares,
)
from tsp.geometry import surrogate, two_pairs
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
from tsp.verdicts import (
    FEWEST,
    Verdict,
    judge_changes,
    judge_correlation,
    judge_signs,
    median_interval,
    share_interval,
    stratified_rho,
    undecided,
)

OTHERS = ("ce", "l2", "pairwise")  # what the published version sets TSLoss against
LITTLE = 0.1  # of its first value: the largest fall that is a little
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
    chosen = {name: comparable(runs, protocol=name) for name in named}
    asked = pd.DataFrame() if answers is None else answers
    evidence = [
        Evidence(chosen[protocol or claim.protocol], topology, losses, asked) for claim in CLAIMS
    ]
    alone = [decide(*it).p for it in zip(CLAIMS, evidence, strict=True)]
    levels = np.nan_to_num(holm_levels(alone, alpha=ALPHA), nan=ALPHA)
    rows = []
    for claim, known, level, together in zip(CLAIMS, evidence, levels, holm(alone), strict=True):
        about = {key: getattr(claim, key) for key in ("id", "source", "statement", "rule")}
        about["protocol"] = protocol or claim.protocol
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
    counts = (int(claimed.sum()), 0, int((~claimed).sum()))
    verdict, why, p = judge_signs(*counts, alpha=evidence.alpha)
    why += f"; the H1 count falls in {(loops.change < 0).sum()} units"
    low, high = median_interval(fall)
    return Verdict(verdict, len(fall), float(fall.median()), low, high, why, p)


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
    strata = ["model", "task"]
    last = rows.groupby([*strata, "id"]).epoch.max().groupby(strata).min().rename("common")
    kept = rows.join(last, on=strata).query("epoch <= common")
    first = kept.groupby("id").h1_count.transform("first")
    share = (kept.h1_count / first)[first > 0].groupby([kept[key] for key in ["id", *UNIT]]).mean()
    units = share.groupby(UNIT).median().reset_index(name="share")
    units = units[units.groupby(strata).regime.transform("nunique") == 2]
    if units.empty:
        return None
    sets = (units.regime == "multi").to_numpy()
    label = units.groupby(strata).ngroup().to_numpy()
    values = units.share.to_numpy()
    _, p = stratified_rho(values, sets, label)
    wins = [
        (np.sign(values[here & ~sets] - values[here & sets][:, None]) + 1).ravel() / 2
        for here in (label == it for it in np.unique(label))
    ]
    faster = float(np.concatenate(wins).mean())
    why = f"a set loses its loops faster than a problem of its task in {faster:.0%} of "
    why += f"{sum(map(len, wins))} comparisons ({sets.sum()} sets, {(~sets).sum()} problems); "
    least = 1 / np.prod([comb(len(it), int(it.sum())) for it in _by(label, sets)])
    why += f"p = {p:.3g} by shuffling within tasks, at least {2 * least:.2g} with so many"
    decided = "reproduced" if faster > 0.5 else "not reproduced"
    verdict = decided if p < evidence.alpha else "inconclusive"
    return Verdict(verdict, len(units), faster, np.nan, np.nan, why, p)


def _by(label: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    return [values[label == it] for it in np.unique(label)]


# Topology and accuracy -----------------------------------------------------------------------


def _correlates(feature: str) -> Rule:
    def rule(evidence: Evidence) -> Verdict | None:
        units = at_balanced_check(evidence, feature)
        if units.empty:
            if plain_checks(evidence).empty:
                return None
            return undecided("at no check are some units of a stratum solved and others not")
        strata = units.groupby(STRATUM).ngroup().to_numpy()
        printed = float(reported("table2").set_index("feature").rho[feature])
        return judge_correlation(
            units[feature].to_numpy(),
            units.accuracy.to_numpy(),
            strata=strata,
            printed=printed,
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
    neither = f"{len(units) - len(told)} units that neither solves are apart"
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
        p, decided = min(1.0, best.p * len(cells)), "reproduced"
        why += f"; sign test p = {best.p:.3g}, times {len(cells)} cells"
    else:
        p, decided = max(_over_half(told.loc[cell]) for cell in cells), "not reproduced"
        why += f"; over one half in every cell by sign tests of p = {p:.3g} at most"
    verdict = decided if p < evidence.alpha else "inconclusive"
    return Verdict(verdict, best.n, best.median_ratio, best.low, best.high, why, p)


def _over_half(units: pd.DataFrame) -> float:
    """p of a sign test that a unit takes more than half the iterations with TSLoss.

    One that only TSLoss solves may have taken any share, so it counts as at most half.
    """
    over = int((units.ts > units.ce / 2).sum())
    return float(binomtest(over, len(units), alternative="greater").pvalue)


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
    columns = {0: iterations(evidence, lambda_ts=1.0).ce}
    columns |= {w: iterations(evidence, lambda_ts=w).ts for w in weights if w > 0}
    table = pd.DataFrame(columns).dropna()
    table = table[np.isfinite(table).any(axis=1)]
    if table.empty:
        return None
    trends = [_kendall(row) for row in table.to_numpy()]
    verdict = judge_changes(trends, claimed=-1, alpha=evidence.alpha)
    medians = table.median()
    why = f"{verdict.why}; medians "
    why += ", ".join(f"{value:g} at {weight:g}" for weight, value in medians.items())
    return _unless(verdict, not (medians.diff().dropna() < 0).all(), why)


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
    failed = int(np.isinf(units.ts).sum())
    verdict, why, p = judge_signs(failed, 0, len(units) - failed, alpha=evidence.alpha)
    interval = share_interval(failed, len(units))
    return Verdict(verdict, len(units), failed / len(units), *interval, why, p)


def _totals(evidence: Evidence, weights: Sequence[float]) -> pd.DataFrame:
    """Total loss by epoch: one row a run and epoch; only units and seeds with all the weights."""
    runs = evidence.runs
    if runs.empty or "total" not in evidence.losses:
        return pd.DataFrame()
    runs = runs[runs.method.isin(["ce", "tsloss"]) & runs.lambda_ts.isin(weights)]
    many = runs.groupby([*UNIT, "seed"]).lambda_ts.transform("nunique")
    runs = runs[many == len(weights)]
    rows = runs[["id", "lambda_ts", "seed", *UNIT]].merge(evidence.losses, on="id")
    return rows.sort_values(["id", "epoch"])


def _weights_converge(evidence: Evidence) -> Verdict | None:
    rows = _totals(evidence, list(reported("table4").lambda_ts))
    if rows.empty or rows.groupby("id").epoch.max().min() < FIGURE4_EPOCHS:
        return None
    rows = rows[rows.epoch <= FIGURE4_EPOCHS]
    last = rows[rows.epoch > FIGURE4_EPOCHS - 5].groupby(["id", *UNIT]).total.mean()
    share = (last / rows.groupby(["id", *UNIT]).total.first()).groupby(UNIT).max()
    near = int((share < NEAR_ZERO).sum())
    verdict, why, p = judge_signs(near, 0, len(share) - near, alpha=evidence.alpha)
    low, high = median_interval(share)
    return Verdict(verdict, len(share), float(share.median()), low, high, why, p)


def _ten_oscillates(evidence: Evidence) -> Verdict | None:
    rows = _totals(evidence, (1.0, 10.0))
    if rows.empty:
        return None
    rises = rows.groupby("id").total.diff().clip(lower=0) / rows.groupby("id").total.transform(
        "first"
    )
    units = rises.groupby([rows[key] for key in [*UNIT, "lambda_ts"]]).sum().unstack("lambda_ts")
    return judge_changes(units[10.0] - units[1.0], claimed=1, alpha=evidence.alpha)


# Problems that no prompt was trained on ------------------------------------------------------


def _better_downstream(evidence: Evidence) -> Verdict | None:
    shares = unseen_shares(evidence, fewest=FEWEST_UNSEEN)
    if not {"tsloss", *OTHERS} <= set(shares.columns):
        return None
    changes = {name: shares.tsloss - shares[name] for name in OTHERS}
    tests = {
        name: judge_changes(change, claimed=1, alpha=evidence.alpha)
        for name, change in changes.items()
    }
    behind = [name for name, it in tests.items() if it.estimate <= 0]
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
    "h0-lifespan-grows": _h0_lifespan_grows,
    "entropy-falls": _entropy_falls,
    "density-minimal": _density,
    "h1-falls-faster-multi": _falls_faster_multi,
    "h0-lifespan-accuracy": _correlates("h0_mean_lifespan"),
    "h1-count-accuracy": _correlates("h1_count"),
    "entropy-accuracy": _correlates("persistence_entropy"),
    "same-everywhere": _everywhere,
    "tsloss-fewer-iterations": _fewer_iterations,
    "tsloss-halves-iterations": _halves_iterations,
    "tsloss-simpler-topology": _simpler_topology,
    "tsloss-lower-loss": _lower_loss,
    "lambda-monotone": _monotone,
    "lambda-ten-fails": _ten_fails,
    "all-weights-converge": _weights_converge,
    "lambda-ten-oscillates": _ten_oscillates,
    "variances-equal": _variances,
    "better-downstream": _better_downstream,
}
"""The rule of each claim as code; a claim without one is not tested here."""
