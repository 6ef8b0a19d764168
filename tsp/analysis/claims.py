"""The paper's claims and their verdicts, decided from independent runs by written rules."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.claims_topology import TOPOLOGY
from tsp.analysis.claims_tsloss import TSLOSS
from tsp.analysis.evidence import Evidence, gathered
from tsp.analysis.stats import holm, holm_levels
from tsp.analysis.units import LENGTH
from tsp.analysis.verdicts import VERDICTS, Claim, Verdict
from tsp.experiments.paper import ALPHA

__all__ = ["CLAIMS", "VERDICTS", "Claim", "decide", "evaluate"]

CLAIMS: tuple[Claim, ...] = (*TOPOLOGY, *TSLOSS)
"""What the paper claims, in its order."""
ABOUT = ("id", "source", "statement", "family", "rule", "margin")


def evaluate(
    runs: pd.DataFrame,
    topology: pd.DataFrame,
    losses: pd.DataFrame | None = None,
    accuracy: pd.DataFrame | None = None,
    *,
    protocol: str | None = None,
    whole: bool = True,
    **more: pd.DataFrame,
) -> pd.DataFrame:
    """Decide every claim from stored runs.

    Parameters
    ----------
    runs, topology, losses, accuracy
        As in `Evidence`, of any protocol.
    protocol
        Judge all claims under this protocol instead of the one each names.
    whole
        Read only runs of a claim's stated length; otherwise each unit up to its shortest run.
    more
        ``answers`` and ``variances`` of `Evidence`; claims about what is missing are not tested.

    Returns
    -------
    pandas.DataFrame
        One row a claim, in the paper's order: `ABOUT`, protocol (under which the deciding runs were
        trained), verdict, n, effect, low, high, why, p, printed, estimate (the effect), p_holm.

    Notes
    -----
    The tests of a family (`tsp.analysis.verdicts.FAMILIES`) are corrected together: Holm's
    procedure decides what each p must be below (`tsp.analysis.stats.holm_levels`), which is the
    same as to compare ``p_holm`` with `ALPHA`. Intervals, which refute claims, are at 1 - ALPHA / m
    for the m tests of the family, so that all of a family hold together with 95 %.
    """
    losses = pd.DataFrame(columns=["id", "epoch", "ce"]) if losses is None else losses
    accuracy = pd.DataFrame(columns=["id", "epoch", "accuracy"]) if accuracy is None else accuracy
    known: dict[tuple[str, int | None], Evidence] = {}

    def at(claim: Claim, length: int) -> Evidence:
        key = (protocol or claim.protocol, length if whole else None)
        if key not in known:
            told = {"protocol": key[0], "length": key[1]}
            known[key] = gathered(runs, topology, losses, accuracy, **told, **more)  # type: ignore[arg-type]
        return known[key]

    evidence = [at(claim, claim.length) for claim in CLAIMS]
    first = pd.DataFrame(
        {
            "family": [claim.family for claim in CLAIMS],
            "p": [decide(*it).p for it in zip(CLAIMS, evidence, strict=True)],
        }
    )
    by_family = first.groupby("family").p
    p_holm = by_family.transform(holm)
    levels = by_family.transform(lambda p: holm_levels(p, alpha=ALPHA)).fillna(ALPHA)
    tests = by_family.transform("count").clip(lower=1)
    rows = []
    for k, claim in enumerate(CLAIMS):
        level: dict[str, Any] = {"alpha": float(levels[k]), "simultaneous": ALPHA / int(tests[k])}
        verdict = decide(claim, replace(evidence[k], **level))
        if verdict.verdict == "not tested here" and claim.length != LENGTH and whole:
            verdict = _earlier(verdict, decide(claim, replace(at(claim, LENGTH), **level)))
        about = {key: getattr(claim, key) for key in ABOUT}
        about["protocol"] = protocol or claim.protocol
        told = asdict(verdict)
        rows.append(about | told | {"estimate": told["effect"], "p_holm": p_holm[k]})
    return pd.DataFrame(rows)


def decide(claim: Claim, evidence: Evidence) -> Verdict:
    """Apply the rule of one claim; without runs it is not tested here."""
    verdict = claim.judge(evidence)
    if verdict is None:
        why = f"no runs here decide it; `{claim.command}` trains them"
        return Verdict("not tested here", 0, np.nan, np.nan, np.nan, why)
    return verdict


def _earlier(verdict: Verdict, at_length: Verdict) -> Verdict:
    """Add what shorter runs show of a claim that they cannot decide."""
    if at_length.verdict == "not tested here":
        return verdict
    why = f"{verdict.why}; over {LENGTH} epochs: {at_length.why}"
    return replace(at_length, verdict="not tested here", p=np.nan, why=why)


def beside(published: pd.DataFrame, own: pd.DataFrame | None) -> pd.DataFrame:
    """Add what a user's own runs say, ``own`` and ``own_n``, beside the published verdicts."""
    columns: Sequence[object] = [""] * len(published) if own is None else own.verdict
    units = 0 if own is None else own.n
    return published.assign(own=columns, own_n=units)
