"""Claims about what TSLoss does to topology, loss and unseen problems, and what it stands for.

The docstring of a claim is the paper's statement; ``estimand`` above it says what is measured.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from tsp.analysis.claims.iterations import PAIR_UNIT, SAME
from tsp.analysis.equation13 import surrogate, two_pairs
from tsp.analysis.evidence import Evidence, side_by_side, unseen_shares
from tsp.analysis.records import METHOD_NAMES, NO_PROMPT, TASK_NAMES
from tsp.analysis.stats import FEWEST, median_interval
from tsp.analysis.units import UNIT
from tsp.analysis.verdicts import (
    UNTESTED,
    Levels,
    Verdict,
    by_interval,
    claim,
    judge_changes,
    partly_if,
    signs,
    within,
)

OTHERS = ("ce", "l2", "pairwise")  # what the published version compares TSLoss with
FACTOR = 2.0  # within which two variances are about the same
FEWEST_UNSEEN = 50


@claim(
    source="published version",
    family="TSLoss",
    needs="table3",
    unit=PAIR_UNIT,
    estimand="the median difference in H1 counts at the pair's last common check",
    decision=signs("the H1 count at the pair's last common check is lower with TSLoss"),
)
def tsloss_simpler_topology(evidence: Evidence, levels: Levels) -> Verdict:
    """Prompts trained with TSLoss end with fewer loops than prompts trained without."""
    checks = side_by_side(evidence, "topology", "h1_count")
    last = checks.sort_values("epoch").groupby([*UNIT, "seed"]).last().query("epoch > 0")
    change = (last.h1_count_ts - last.h1_count_ce).groupby(UNIT).median()
    return judge_changes(change, levels, claimed=-1)


@claim(
    source="section 4.5, Figure 5",
    family="TSLoss",
    needs="figure5",
    unit=PAIR_UNIT,
    null=1.0,
    estimand="the median ratio of the mean cross-entropies over the common epochs; the "
    "cross-entropy is the part of the loss that both runs have",
    decision=signs("the mean cross-entropy is lower with TSLoss")
    + " An inconclusive claim becomes not reproduced if the interval lies between 0.9 and 1.1.",
    margin="mean loss within ±10 %",
)
def tsloss_lower_loss(evidence: Evidence, levels: Levels) -> Verdict:
    """With TSLoss, the loss curve comes down faster."""
    losses = side_by_side(evidence, "losses", "ce")
    mean = losses.groupby([*UNIT, "seed"])[["ce_ce", "ce_ts"]].mean()
    ratio = (mean.ce_ts / mean.ce_ce).groupby(UNIT).median()
    logs = judge_changes(np.log(ratio), levels, claimed=-1)
    effect, low, high = (float(np.exp(value)) for value in (logs.effect, logs.low, logs.high))
    verdict, why = logs.verdict, logs.why
    if within((low, high), 1 - SAME, 1 + SAME):
        why += f"; the interval of the median ratio lies within {SAME:.0%} of 1"
        verdict = "not reproduced" if verdict == "inconclusive" else verdict
    return replace(logs, verdict=verdict, effect=effect, low=low, high=high, why=why)


@claim(
    source="appendix A.1.2, equation 13",
    family="TSLoss",
    needs="baselines",
    unit="one problem (or set of ten): the last prompt of its first run without TSLoss that keeps "
    "prompts",
    null=1.0,
    estimand="the median ratio of Var(s_i) to the variance of the deaths, with the interval "
    "from order statistics",
    decision="'About' means within a factor of two. Reproduced if the interval for trained "
    "prompts lies within that factor and no cloud constructed against the claim contradicts it; "
    "partly if one does (two tight pairs of points on a line); not reproduced if the interval "
    "lies outside that factor or, with fewer than six trained prompts, if that cloud alone "
    "contradicts the claim; inconclusive otherwise.",
    margin="a factor of 2",
    without_runs=True,
)
def variances_equal(evidence: Evidence, levels: Levels) -> Verdict:
    """Var(s_i) is about the variance of the H0 deaths, since s_i is about point i's death."""
    pair = surrogate([two_pairs()]).iloc[0]
    less, more = sorted((pair.soft_variance, pair.death_variance))
    fails = more > FACTOR * less
    against = f"two pairs of points on a line: Var(s) = {pair.soft_variance:.2f}, variance of the "
    against += f"deaths {pair.death_variance:.2f}"
    prompts, n = evidence.variances, len(evidence.variances)
    if n < FEWEST:
        verdict = "not reproduced" if fails else "inconclusive"
        return Verdict(verdict, n, why=against, printed=1.0)
    ratio = prompts.soft_variance / prompts.death_variance
    inside = int(((ratio > 1 / FACTOR) & (ratio < FACTOR)).sum())
    rank = float(prompts.soft_variance.corr(prompts.death_variance, method="spearman"))
    why = f"trained prompts: within a factor of {FACTOR:g} in {inside} of {n}, from "
    why += f"{ratio.min():.2f} to {ratio.max():.2f}, rank correlation {rank:.2f}"
    interval = median_interval(ratio, levels.interval)
    verdict = by_interval(interval, 1 / FACTOR, FACTOR)
    effect = float(ratio.median())
    return partly_if(fails, Verdict(verdict, n, effect, *interval, why, printed=1.0), against)


@claim(
    source="published version",
    family="published version",
    needs="baselines",
    unit="one problem on one model that was trained with all four methods, the median over seeds",
    estimand="the median difference in the share of at least fifty unseen problems answered "
    "correctly",
    decision=signs("the prompt trained with TSLoss answers more unseen problems correctly")
    + " There are three such tests, against no regulariser, L2 and the pairwise loss. All must "
    "agree, and the weakest is reported. If TSLoss is not ahead of some method in more units than "
    "it is behind, the strongest of the tests against such methods is reported, with its p "
    "multiplied by three. "
    "`tsp heldout --data DIR` measures the shares.",
)
def better_downstream(evidence: Evidence, levels: Levels) -> Verdict:
    """Unseen problems are answered better with TSLoss than with no regulariser, L2 or pairwise."""
    shares = unseen_shares(evidence, methods=("tsloss", *OTHERS), fewest=FEWEST_UNSEEN)
    if shares.empty:
        return UNTESTED
    # Measure: share of unseen problems answered correctly, TSLoss minus each other method.
    changes = {name: shares.tsloss - shares[name] for name in OTHERS}
    tests = {name: judge_changes(change, levels, claimed=1) for name, change in changes.items()}
    behind = [name for name, x in changes.items() if (x < 0).sum() >= (x > 0).sum()]
    if behind:  # one is enough to speak against the claim, so its p counts three times
        name = min(behind, key=lambda name: tests[name].p)
        stricter = levels._replace(alpha=levels.alpha / len(OTHERS))
        refuted = judge_changes(changes[name], stricter, claimed=1).verdict == "not reproduced"
        verdict = "not reproduced" if refuted else "inconclusive"
        chosen, p = tests[name], min(1.0, len(OTHERS) * tests[name].p)
    else:  # all three are needed, so the weakest decides
        order = ("inconclusive", "not reproduced", "partly", "reproduced")
        verdict = min((test.verdict for test in tests.values()), key=order.index)
        chosen = max(tests.values(), key=lambda test: test.p)
        p = chosen.p
    why = "; ".join(f"against {METHOD_NAMES[name]}: {test.why}" for name, test in tests.items())
    why += f"; {mean_shares(evidence, shares)}"
    return replace(chosen, verdict=verdict, p=p, why=why)


def mean_shares(evidence: Evidence, shares: pd.DataFrame) -> str:
    """Write the mean share of each method by model and task, and of the model without a prompt."""
    floors = evidence.answers[evidence.answers.id == NO_PROMPT].groupby(["model", "task"]).correct
    texts = []
    for key, rows in shares.groupby(["model", "task"]):
        names = ("tsloss", *OTHERS)
        means = ", ".join(f"{METHOD_NAMES[name]} {rows[name].mean():.1%}" for name in names)
        floor = floors.mean().get(key, np.nan)
        texts.append(f"{key[0]}, {TASK_NAMES[key[1]]}: {means}, no prompt {floor:.1%}")
    return "; ".join(texts)
