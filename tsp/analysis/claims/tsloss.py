"""Claims about what TSLoss does to topology, loss and unseen problems, and what it stands for."""

from dataclasses import replace

import numpy as np
import pandas as pd

from tsp.analysis.claims.iterations import PAIR_UNIT, SAME
from tsp.analysis.equation13 import surrogate, two_pairs
from tsp.analysis.evidence import Evidence, pairs, side_by_side, unseen_shares
from tsp.analysis.records import NO_PROMPT
from tsp.analysis.stats import FEWEST, median_interval
from tsp.analysis.units import UNIT
from tsp.analysis.verdicts import (
    Finding,
    Levels,
    Verdict,
    always,
    claim,
    compared,
    from_changes,
    signs,
    within,
)

OTHERS = ("ce", "l2", "pairwise")  # what the published version sets TSLoss against
FACTOR = 2.0  # within which two variances are about the same
FEWEST_UNSEEN = 50


@claim(
    "tsloss-simpler-topology",
    "Prompts trained with TSLoss end with fewer loops than prompts trained without.",
    source="section 3; published version",
    family="TSLoss",
    needs="table3",
    unit=PAIR_UNIT,
    estimand="the median difference of the H1 counts at the pair's last common check",
    decision=signs("the H1 count at the pair's last common check is lower with TSLoss"),
)
def simpler_topology(evidence: Evidence) -> Finding | None:
    """Judge the difference of the H1 counts of a pair at its last common check."""
    both = pairs(evidence)
    if both.empty or evidence.topology.empty:
        return None
    counts = evidence.topology[["id", "epoch", "h1_count"]]
    common = side_by_side(both, counts).sort_values("epoch").groupby([*UNIT, "seed"]).last()
    change = (common.h1_count_ts - common.h1_count_ce)[common.epoch > 0].groupby(UNIT).median()
    return None if change.empty else from_changes(change, claimed=-1)


@claim(
    "tsloss-lower-loss",
    "With TSLoss the loss curve comes down faster.",
    source="section 4.5, Figure 5",
    family="TSLoss",
    needs="figure5",
    unit=PAIR_UNIT,
    estimand="the median ratio of the cross-entropies, the part of the loss that both have, "
    "averaged over the common epochs",
    decision=signs("it is lower with TSLoss")
    + " Where that is inconclusive but the interval lies within 0.9 and 1.1: not reproduced.",
    margin="mean loss within ±10 %",
)
def lower_loss(evidence: Evidence) -> Finding | None:
    """Judge the ratio of the mean cross-entropies of a pair."""
    both = pairs(evidence)
    if both.empty or evidence.losses.empty:
        return None
    common = side_by_side(both, evidence.losses[["id", "epoch", "ce"]])
    mean = common.groupby([*UNIT, "seed"])[["ce_ce", "ce_ts"]].mean()
    ratio = (mean.ce_ts / mean.ce_ce).groupby(UNIT).median()
    if ratio.empty:
        return None
    logs = from_changes(np.log(ratio), claimed=-1)

    def decide(levels: Levels) -> Verdict:
        decided = logs.decide(levels)
        effect, low, high = (
            float(np.exp(it)) for it in (decided.effect, decided.low, decided.high)
        )
        alike = within((low, high), 1 - SAME, 1 + SAME)
        refuted = alike and decided.verdict == "inconclusive"
        verdict = "not reproduced" if refuted else decided.verdict
        why = f"{decided.why}; the curves are alike within {SAME:.0%}" if alike else decided.why
        return replace(decided, verdict=verdict, effect=effect, low=low, high=high, why=why)

    return Finding(logs.p, decide)


@claim(
    "variances-equal",
    "Var(s_i) is about the variance of the H0 deaths, since s_i is about point i's death.",
    source="appendix A.1.2, equation 13",
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
)
def variances_equal(evidence: Evidence) -> Finding:
    """Judge equation 13 for trained prompts, and for a cloud made against it."""
    pair = surrogate([two_pairs()]).iloc[0]
    less, more = sorted((pair.soft_variance, pair.death_variance))
    fails = more > FACTOR * less
    why = f"two pairs of points on a line: Var(s) = {pair.soft_variance:.3g}, variance of the "
    why += f"deaths {pair.death_variance:.3g}"
    prompts = evidence.variances
    if len(prompts) < FEWEST:
        verdict = "not reproduced" if fails else "inconclusive"
        return always(Verdict(verdict, len(prompts), np.nan, np.nan, np.nan, why, printed=1.0))
    ratio = prompts.soft_variance / prompts.death_variance
    within = int(((ratio > 1 / FACTOR) & (ratio < FACTOR)).sum())
    rank = float(prompts.soft_variance.corr(prompts.death_variance, method="spearman"))
    trained = f"trained prompts: within a factor of {FACTOR:g} in {within} of {len(ratio)}, from "
    why = f"{trained}{ratio.min():.2f} to {ratio.max():.2f}, rank correlation {rank:.2f}; {why}"
    interval = median_interval(ratio)
    verdict = compared(interval, 1 / FACTOR, FACTOR)
    verdict = "partly" if fails and verdict == "reproduced" else verdict
    effect = float(ratio.median())
    return always(Verdict(verdict, len(ratio), effect, *interval, why, printed=1.0))


@claim(
    "better-downstream",
    "TSLoss answers unseen problems better than no regulariser, L2 or the pairwise loss.",
    source="published version",
    family="published version",
    needs="baselines",
    unit="one problem on one model that was trained with all four, the median over seeds",
    estimand="the median difference of the shares of at least fifty held-out problems that are "
    "answered correctly",
    decision=signs("the prompt trained with TSLoss answers more of them correctly")
    + " Three such tests, against no regulariser, L2 and the pairwise loss, must all agree, "
    "and the weakest is given; where TSLoss is not ahead in more units than behind of each, "
    "the strongest of those against it, its p times three. `tsp heldout --data DIR` asks.",
)
def better_downstream(evidence: Evidence) -> Finding | None:
    """Judge the shares of held-out problems answered correctly against three other methods."""
    shares = unseen_shares(evidence, methods=("tsloss", *OTHERS), fewest=FEWEST_UNSEEN)
    if shares.empty:
        return None
    changes = {name: shares.tsloss - shares[name] for name in OTHERS}
    tests = {name: from_changes(change, claimed=1) for name, change in changes.items()}
    behind = [name for name, it in changes.items() if (it < 0).sum() >= (it > 0).sum()]
    if behind:  # one is enough to speak against the claim, so its p counts three times
        chosen = tests[min(behind, key=lambda name: tests[name].p)]
        p = min(1.0, len(OTHERS) * chosen.p)
    else:  # all three are needed, so the weakest decides
        chosen = max(tests.values(), key=lambda test: test.p)
        p = chosen.p
    means = _means(evidence, shares)

    def decide(levels: Levels) -> Verdict:
        decided = {name: test.decide(levels) for name, test in tests.items()}
        if behind:
            against = chosen.decide(levels._replace(alpha=levels.alpha / len(OTHERS)))
            refuted = against.verdict == "not reproduced"
            verdict = "not reproduced" if refuted else "inconclusive"
        else:
            order = ("inconclusive", "not reproduced", "partly", "reproduced")
            verdict = min((it.verdict for it in decided.values()), key=order.index)
        why = "; ".join(f"against {name}: {it.why}" for name, it in decided.items())
        return replace(chosen.decide(levels), verdict=verdict, p=p, why=f"{why}; {means}")

    return Finding(p, decide)


def _means(evidence: Evidence, shares: pd.DataFrame) -> str:
    """Mean shares of each method by model and task, beside those without a prompt."""
    floors = evidence.answers[evidence.answers.id == NO_PROMPT].groupby(["model", "task"]).correct
    texts = []
    for key, rows in shares.groupby(["model", "task"]):
        means = ", ".join(f"{name} {rows[name].mean():.1%}" for name in ("tsloss", *OTHERS))
        floor = floors.mean().get(key, np.nan)
        texts.append(f"{', '.join(key)}: {means}, no prompt {floor:.1%}")
    return "; ".join(texts)
