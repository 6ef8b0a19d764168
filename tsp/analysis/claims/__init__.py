"""The paper's claims and their verdicts, decided from independent runs by written rules."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pandas as pd

from tsp.analysis.claims import accuracy, iterations, topology, tsloss, weight
from tsp.analysis.evidence import Evidence
from tsp.analysis.stats import holm, holm_levels
from tsp.analysis.units import LENGTH, most_run
from tsp.analysis.verdicts import ALONE, FAMILIES, UNTESTED, VERDICTS, Claim, Levels, Verdict
from tsp.experiments.paper import ALPHA

__all__ = ["CLAIMS", "VERDICTS", "Claim", "evaluate"]

CLAIMS: tuple[Claim, ...] = (
    topology.h0_count_constant,
    topology.h1_count_falls,
    topology.loops_vanish,
    topology.h0_lifespan_grows,
    topology.entropy_falls,
    topology.entropy_early,
    topology.density_minimal,
    topology.h1_falls_faster_multi,
    accuracy.h0_lifespan_accuracy,
    accuracy.h1_count_accuracy,
    accuracy.entropy_accuracy,
    accuracy.h1_lifespan_accuracy,
    topology.same_everywhere,
    iterations.tsloss_fewer_iterations,
    iterations.tsloss_halves_iterations,
    iterations.tsloss_as_effective,
    tsloss.tsloss_simpler_topology,
    tsloss.tsloss_lower_loss,
    weight.lambda_monotone,
    weight.lambda_ten_fails,
    weight.all_weights_converge,
    weight.lambda_ten_oscillates,
    tsloss.variances_equal,
    iterations.small_models_gain_more,
    iterations.qwen_fourfold,
    tsloss.better_downstream,
)
"""What the paper claims, in its order."""
ABOUT = ["id", "source", "statement", "family", "rule", "margin"]


def evaluate(
    runs: pd.DataFrame,
    topology: pd.DataFrame,
    losses: pd.DataFrame,
    accuracy: pd.DataFrame,
    *,
    protocol: str | None = None,
    length: int | None = None,
    whole: bool = True,
    families: Collection[str] = FAMILIES,
    **more: pd.DataFrame,
) -> pd.DataFrame:
    """Decide the claims from stored runs.

    Parameters
    ----------
    runs, topology, losses, accuracy
        As in `tsp.analysis.evidence.Evidence`, of any protocol.
    protocol
        Judge all claims under this protocol instead of the one each names.
    length
        Judge all claims after this number of epochs instead of the number each names.
    whole
        Read only runs of a claim's stated length; otherwise each unit up to its shortest run.
    families
        Decide the claims of these families (`tsp.analysis.verdicts.FAMILIES`).
    more
        ``answers`` and ``variances`` of `Evidence`; claims about what is missing are not tested.

    Returns
    -------
    pandas.DataFrame
        One row per claim, in the paper's order: `ABOUT`, protocol (of the deciding runs), verdict,
        n, effect, low, high, why, p, printed, estimate (the effect), p_holm.

    Notes
    -----
    Models are not pooled, since two of them trained on one problem are not two problems: the one
    with the most runs decides, except for claims about several. The tests of a family are corrected
    by Holm's procedure, which decides what each p must be below. Intervals, which refute claims,
    are at 1 - ALPHA / m for the m claims of the family that are tested, so that all of a family
    hold together with 95 %.
    """
    alone = runs[runs.model == most_run(runs)]

    @cache
    def evidence(name: str, length: int | None, across: bool) -> Evidence:
        frames = (runs if across else alone, topology, losses, accuracy)
        return Evidence(*frames, protocol=name, length=length, **more)

    def decided(claim: Claim, levels: Levels = ALONE) -> Verdict:
        def over(length: int) -> Verdict:
            about = (protocol or claim.protocol, length if whole else None, claim.across)
            return claim.decide(evidence(*about), levels)

        verdict = over(length or claim.length)
        if verdict.verdict != UNTESTED.verdict or length:
            return verdict
        shorter = over(LENGTH)  # does not decide the claim, but is shown
        if shorter.verdict == UNTESTED.verdict:
            return verdict
        why = f"{verdict.why}; over {LENGTH} epochs: {shorter.why}"
        return replace(shorter, verdict=verdict.verdict, p=np.nan, why=why)

    claims = [claim for claim in CLAIMS if claim.family in families]
    rows = [{key: getattr(claim, key) for key in ABOUT} for claim in claims]
    levels, p_holm = _in_families(claims, [decided(claim) for claim in claims])
    for row, claim, at in zip(rows, claims, levels, strict=True):
        row |= {"protocol": protocol or claim.protocol} | asdict(decided(claim, at))
    table = pd.DataFrame(rows)
    return table.assign(estimate=table.effect, p_holm=p_holm)


def _in_families(
    claims: Sequence[Claim], verdicts: Sequence[Verdict]
) -> tuple[list[Levels], pd.Series]:
    """Return the levels of each claim in its family, and its p adjusted by Holm."""
    family = [claim.family for claim in claims]
    p = pd.Series([verdict.p for verdict in verdicts]).groupby(family)
    tested = pd.Series(
        verdict.verdict != UNTESTED.verdict and claim.estimand != "none"
        for claim, verdict in zip(claims, verdicts, strict=True)
    )
    alphas = p.transform(lambda values: holm_levels(values, alpha=ALPHA)).fillna(ALPHA)
    intervals = ALPHA / tested.groupby(family).transform("sum").clip(lower=1)
    levels = [Levels(*pair) for pair in zip(alphas, intervals, strict=True)]
    return levels, p.transform(holm)
