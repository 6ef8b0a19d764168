"""The verdict on each claim of the paper, decided from independent runs by its written rule."""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pandas as pd

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
from tsp.paper import ALPHA, CLAIMS, Claim, reported
from tsp.records import NO_PROMPT
from tsp.spec import REGIMES
from tsp.stats import PairedResult, holm, mann_whitney, paired_ratio, signed_rank
from tsp.verdicts import (
    FEWEST,
    Verdict,
    judge_changes,
    judge_correlation,
    judge_share,
    judge_signs,
    share_interval,
    undecided,
)

OTHERS = ("ce", "l2", "pairwise")  # what the published version sets TSLoss against
LITTLE = 0.1  # of its first value: the largest fall of entropy that is a little

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
    below, which is the same as to compare ``p_holm`` with `ALPHA`.
    """
    losses = pd.DataFrame(columns=["id", "epoch", "ce"]) if losses is None else losses
    named = {protocol or claim.protocol for claim in CLAIMS}
    chosen = {name: comparable(runs, protocol=name) for name in named}
    asked = pd.DataFrame() if answers is None else answers
    evidence = [
        Evidence(chosen[protocol or claim.protocol], topology, losses, asked) for claim in CLAIMS
    ]
    alone = [decide(*it).p for it in zip(CLAIMS, evidence, strict=True)]
    rows = []
    for claim, known, p, together in zip(CLAIMS, evidence, alone, holm(alone), strict=True):
        about = {key: getattr(claim, key) for key in ("id", "source", "statement", "rule")}
        about["protocol"] = protocol or claim.protocol
        share = ALPHA * p / together if p else ALPHA
        verdict = decide(claim, replace(known, alpha=share if np.isfinite(share) else ALPHA))
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
    scaled = first_and_last(evidence, "h0_mean_lifespan_scaled").change
    scaled = judge_changes(scaled, claimed=1, alpha=evidence.alpha)
    why = f"{raw.why}; divided by the mean distance: {scaled.why}"
    partly = raw.verdict == "reproduced" and scaled.verdict != "reproduced"
    return replace(raw, verdict="partly" if partly else raw.verdict, why=why)


def _entropy_falls(evidence: Evidence) -> Verdict | None:
    ends = first_and_last(evidence, "persistence_entropy")
    if ends.empty:
        return None
    verdict = judge_changes(ends.change, claimed=-1, alpha=evidence.alpha)
    fall = float(-(ends.change / ends["first"]).median())
    partly = verdict.verdict == "reproduced" and fall > LITTLE
    why = f"{verdict.why}; median fall {fall:.1%} of the first value"
    return replace(verdict, verdict="partly" if partly else verdict.verdict, why=why)


def _falls_faster_multi(evidence: Evidence) -> Verdict | None:
    rows = plain_checks(evidence)
    if rows.empty:
        return None
    kept = rows[rows.epoch <= rows.groupby("id").epoch.max().min()]
    first = kept.groupby("id").h1_count.transform("first")
    share = (kept.h1_count / first)[first > 0].groupby([kept[key] for key in ["id", *UNIT]]).mean()
    units = share.groupby(UNIT).median().reset_index(name="share")
    both = units.groupby(["model", "task"]).regime.transform("nunique") == 2
    single, multi = (units.share[both & (units.regime == regime)] for regime in REGIMES)
    if not len(single) or not len(multi):
        return None
    return _compare(multi, single, evidence.alpha)


def _compare(multi: pd.Series, single: pd.Series, alpha: float) -> Verdict:
    test = mann_whitney(multi, single)
    faster = 1 - test.statistic / (len(multi) * len(single))
    why = (
        f"a set loses its loops faster than a problem in {faster:.0%} of {len(multi)} x "
        f"{len(single)} comparisons; Mann-Whitney p = {test.p:.3g}"
    )
    decided = "reproduced" if faster > 0.5 else "not reproduced"
    least = 0.5 + 2.8 * np.sqrt((test.n + 1) / (12 * len(multi) * len(single)))
    why += f"; so many show {min(least, 1):.0%} or more with power 80 %, or less than its reverse"
    verdict = decided if test.p < alpha else "inconclusive"
    return Verdict(verdict, test.n, faster, np.nan, np.nan, why, test.p)


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
    p = min(1.0, best.p * len(cells))
    why = f"best of {len(cells)} cells: {', '.join(name)}; sign test p = {best.p:.3g}, times "
    why += f"{len(cells)} cells; medians of all: "
    why += ", ".join(f"{cell.median_ratio:.2f}" for cell in cells.values())
    verdict = _judge_half(best, p < evidence.alpha, list(cells.values()))
    return Verdict(verdict, best.n, best.median_ratio, best.low, best.high, why, p)


def _judge_half(best: PairedResult, differs: bool, cells: list[PairedResult]) -> str:
    if best.median_ratio <= 0.5 and differs:
        return "reproduced"
    return "not reproduced" if all(cell.low > 0.5 for cell in cells) else "inconclusive"


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
    return judge_changes(trends, claimed=-1, alpha=evidence.alpha)


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
    why = f"at weight 10, {failed} of {len(units)} units stay unsolved"
    interval = share_interval(failed, len(units))
    return Verdict(judge_share(failed, len(units)), len(units), failed / len(units), *interval, why)


# Problems that no prompt was trained on ------------------------------------------------------


def _better_downstream(evidence: Evidence) -> Verdict | None:
    shares = unseen_shares(evidence)
    if not {"tsloss", *OTHERS} <= set(shares.columns):
        return None
    change = shares.tsloss - shares[list(OTHERS)].mean(axis=1)
    verdict = judge_changes(change, claimed=1, alpha=evidence.alpha)
    asked = evidence.answers.groupby("id").size().max()
    floor = evidence.answers[evidence.answers.id == NO_PROMPT].correct.mean()
    means = ", ".join(f"{name} {shares[name].mean():.1%}" for name in ("tsloss", *OTHERS))
    why = f"{verdict.why}; right of {asked} unseen problems: {means}; no prompt {floor:.1%}"
    return replace(verdict, why=why)


RULES: dict[str, Rule] = {
    "h0-count-constant": _h0_count_constant,
    "h1-count-falls": _falls("h1_count"),
    "h0-lifespan-grows": _h0_lifespan_grows,
    "entropy-falls": _entropy_falls,
    "h1-falls-faster-multi": _falls_faster_multi,
    "h0-lifespan-accuracy": _correlates("h0_mean_lifespan"),
    "h1-count-accuracy": _correlates("h1_count"),
    "entropy-accuracy": _correlates("persistence_entropy"),
    "tsloss-fewer-iterations": _fewer_iterations,
    "tsloss-halves-iterations": _halves_iterations,
    "tsloss-simpler-topology": _simpler_topology,
    "tsloss-lower-loss": _lower_loss,
    "lambda-monotone": _monotone,
    "lambda-ten-fails": _ten_fails,
    "better-downstream": _better_downstream,
}
"""The rule of each claim as code; a claim without one is not tested here."""
