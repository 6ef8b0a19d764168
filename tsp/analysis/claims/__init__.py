"""The paper's claims and their verdicts, decided from independent runs by written rules."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pandas as pd

from tsp.analysis.claims import accuracy as table2
from tsp.analysis.claims import iterations, topology, tsloss, weight
from tsp.analysis.evidence import Evidence, gathered
from tsp.analysis.stats import holm, holm_levels
from tsp.analysis.units import LENGTH, most_run
from tsp.analysis.verdicts import ALONE, VERDICTS, Claim, Finding, Levels, Verdict
from tsp.experiments.paper import ALPHA

__all__ = ["CLAIMS", "VERDICTS", "Claim", "beside", "decide", "evaluate"]

CLAIMS: tuple[Claim, ...] = (
    topology.h0_count_constant,
    topology.h1_count_falls,
    topology.loops_vanish,
    topology.h0_lifespan_grows,
    topology.entropy_falls,
    topology.entropy_early,
    topology.density_minimal,
    topology.h1_falls_faster_multi,
    *table2.CLAIMS,
    topology.same_everywhere,
    iterations.fewer_iterations,
    iterations.halves_iterations,
    iterations.as_effective,
    tsloss.simpler_topology,
    tsloss.lower_loss,
    weight.monotone,
    weight.ten_fails,
    weight.all_converge,
    weight.ten_oscillates,
    tsloss.variances_equal,
    iterations.small_models_gain_more,
    iterations.qwen_fourfold,
    tsloss.better_downstream,
)
"""What the paper claims, in its order."""
ABOUT = ("id", "source", "statement", "family", "rule", "margin")


def evaluate(
    runs: pd.DataFrame,
    topology: pd.DataFrame,
    losses: pd.DataFrame | None = None,
    accuracy: pd.DataFrame | None = None,
    *,
    protocol: str | None = None,
    length: int | None = None,
    whole: bool = True,
    **more: pd.DataFrame,
) -> pd.DataFrame:
    """Decide every claim from stored runs.

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
    more
        ``answers`` and ``variances`` of `Evidence`; claims about what is missing are not tested.

    Returns
    -------
    pandas.DataFrame
        One row a claim, in the paper's order: `ABOUT`, protocol (of the deciding runs), verdict,
        n, effect, low, high, why, p, printed, estimate (the effect), p_holm.

    Notes
    -----
    Models are not pooled, since two of them trained on one problem are not two problems: the one
    with the most runs (`tsp.analysis.units.most_run`) decides, except for claims about several.

    The tests of a family (`tsp.analysis.verdicts.FAMILIES`) are corrected together: Holm's
    procedure decides what each p must be below (`tsp.analysis.stats.holm_levels`), which is the
    same as to compare ``p_holm`` with `ALPHA`. Intervals, which refute claims, are at 1 - ALPHA / m
    for the m claims of the family that are tested, so that all of a family hold together with
    95 %.
    """
    losses = pd.DataFrame(columns=["id", "epoch", "ce"]) if losses is None else losses
    accuracy = pd.DataFrame(columns=["id", "epoch", "accuracy"]) if accuracy is None else accuracy

    alone = runs[runs.model == most_run(runs)] if len(runs) else runs

    @cache
    def evidence(name: str, length: int | None, across: bool) -> Evidence:
        frames = (runs if across else alone, topology, losses, accuracy)
        return gathered(*frames, protocol=name, length=length, **more)

    def judged(claim: Claim, length: int) -> Finding | None:
        name = protocol or claim.protocol
        return claim.judge(evidence(name, length if whole else None, claim.across))

    findings = [judged(claim, length or claim.length) for claim in CLAIMS]
    p = pd.Series([np.nan if finding is None else finding.p for finding in findings])
    families = p.groupby([claim.family for claim in CLAIMS])
    p_holm = families.transform(holm)
    alphas = families.transform(lambda p: holm_levels(p, alpha=ALPHA)).fillna(ALPHA)
    estimated = [claim.estimand != "none" for claim in CLAIMS]
    tested = np.array([finding is not None for finding in findings]) & estimated
    intervals = pd.Series(tested).groupby([claim.family for claim in CLAIMS]).transform("sum")
    rows = []
    for k, (claim, finding) in enumerate(zip(CLAIMS, findings, strict=True)):
        levels = Levels(float(alphas[k]), ALPHA / max(1, int(intervals[k])))
        verdict = decide(claim, finding, levels)
        if finding is None and whole and length is None and claim.length != LENGTH:
            verdict = _earlier(verdict, judged(claim, LENGTH), levels)
        about = {key: getattr(claim, key) for key in ABOUT}
        about["protocol"] = protocol or claim.protocol
        more_about = {"estimate": verdict.effect, "p_holm": p_holm[k]}
        rows.append(about | asdict(verdict) | more_about)
    return pd.DataFrame(rows)


def decide(claim: Claim, finding: Finding | None, levels: Levels = ALONE) -> Verdict:
    """Return the verdict on a claim; without a finding it is not tested here."""
    if finding is None:
        why = f"no runs here decide it; `{claim.command}` trains them"
        return Verdict("not tested here", 0, np.nan, np.nan, np.nan, why)
    return finding.decide(levels)


def _earlier(verdict: Verdict, finding: Finding | None, levels: Levels) -> Verdict:
    """Add what runs of the usual length show about a claim that they cannot decide."""
    if finding is None:
        return verdict
    decided = finding.decide(levels)
    why = f"{verdict.why}; over {LENGTH} epochs: {decided.why}"
    return replace(decided, verdict=verdict.verdict, p=np.nan, why=why)


def beside(published: pd.DataFrame, own: pd.DataFrame | None) -> pd.DataFrame:
    """Add the verdicts from a user's own runs, ``own`` and ``own_n``, to the published ones."""
    columns: Sequence[object] = [""] * len(published) if own is None else own.verdict
    units = 0 if own is None else own.n
    return published.assign(own=columns, own_n=units)
