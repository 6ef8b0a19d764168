"""The sentences of the front page, which follow the runs and the verdicts."""

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from tsp.analysis.studies import reading
from tsp.figures.front import LOOKS, RANDOM

LIFESPAN_FAILS = (
    "Longer-lived components are not found to go with better answers, and a correlation as high as "
    "the paper's is excluded"
)
FINDINGS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "loops": (
        "h1-count-falls",
        {
            "reproduced": "Most loops do vanish",
            "partly": "Loops vanish, but not in most prompts",
            "not reproduced": "Loops do not vanish",
        },
        "Whether loops vanish is open",
    ),
    "components": (
        "h0-lifespan-grows",
        {
            "reproduced": "Components live longer, also relative to the size of the cloud",
            "partly": "Components live longer, but their lifespans grow less than the distances "
            "between vectors",
            "not reproduced": "Components do not live longer",
        },
        "Whether components live longer is open",
    ),
    "lifespan": (
        "h0-lifespan-accuracy",
        {
            "reproduced": "Longer-lived components do go with better answers",
            "partly": "Longer-lived components go with better answers, but less than reported",
            "numbers return, reading fails": LIFESPAN_FAILS,
            "not reproduced": LIFESPAN_FAILS,
        },
        "Whether longer-lived components go with better answers is open",
    ),
    "speed": (
        "tsloss-fewer-iterations",
        {
            "reproduced": "TSLoss shortens training",
            "partly": "TSLoss shortens training, but by less than reported",
            "not reproduced": "TSLoss is not found to shorten training, and the printed saving is "
            "excluded",
        },
        "Whether TSLoss shortens training is open",
    ),
}
"""Sentences of the front page: their claim, one for each verdict, one for others."""
PROMPTS: Mapping[str, str] = {
    "ce": "with right answers",
    "wrong": "with wrong answers",
    RANDOM: "when vectors move at random",
    "tsloss": "with TSLoss",
}
"""The kinds of prompts of the front page's figure, in a sentence."""


def findings(claims: pd.DataFrame, counts: pd.DataFrame) -> dict[str, str]:
    """Return the sentences of the front page that depend on runs and verdicts, without full stops.

    Parameters
    ----------
    claims
        `tsp.analysis.tables.claims`.
    counts
        `tsp.figures.front.loop_counts`.

    Returns
    -------
    dict
        `FINDINGS` and four that follow the counts: ``success``, whether prompts that learn
        wrong answers, or none, lose half of their loops too; ``reason``, whether movement in random
        directions is enough; ``back``, whether more loops are left with TSLoss; and ``figure``, in
        which kinds of prompts half of the loops go.
    """
    about = claims.set_index("id")
    verdicts = about.verdict
    sentences = {
        name: by_verdict.get(verdicts[claim], otherwise)
        for name, (claim, by_verdict, otherwise) in FINDINGS.items()
    }
    if verdicts["h0-lifespan-grows"] == "partly" and relative_growth(claims) > 0:
        sentences["components"] = "Components live longer, but not in most prompts"
    if about.low["tsloss-fewer-iterations"] > 1:
        sentences["speed"] = "TSLoss lengthens training"
    medians = counts.groupby(["arm", "epoch"]).h1_count.median()
    ends = medians.groupby("arm").agg(["first", "last"])
    if not {*LOOKS} <= {*ends.index}:
        return sentences | {
            "success": "Whether success is needed is open",
            "reason": "What removes loops is open",
            "back": "Whether TSLoss brings loops back is open",
            "figure": "Runs of some of the four kinds of prompts are missing",
        }
    lost = ends["last"] < ends["first"] / 2
    without_success = bool(lost["ce"] and lost[["wrong", RANDOM]].any())
    back = "does not bring loops back"
    if ends["last"]["tsloss"] > ends["last"]["ce"]:
        regained = ends["last"]["tsloss"] > medians["tsloss"].min()
        back = "brings loops back" if regained else "keeps loops"
    return sentences | {
        "success": f"Success {'is not' if without_success else 'may be'} needed",
        "reason": "It is enough that the vectors move as far, and as unequally, as in training"
        if lost[RANDOM]
        else "Movement alone is not enough",
        "back": f"TSLoss {back}",
        "figure": _figure(lost),
    }


def _figure(lost: pd.Series) -> str:
    """Say in which kinds of prompts (`PROMPTS`) half of the loops are lost."""
    gone, left = ([PROMPTS[arm] for arm in PROMPTS if lost[arm] == x] for x in (True, False))
    if not gone:
        return "Most loops stay in all four kinds of prompts"
    there = f"; {listed(left)} most are present at the end" if left else ""
    return f"Most loops vanish {listed(gone)}{there}"


def relative_growth(claims: pd.DataFrame) -> float:
    """Return by how many per cent H0 lifespans over mean distance change; nan if not known."""
    why = claims.set_index("id").why["h0-lifespan-grows"]
    found = re.search(r"median change ([-+]?[\d.]+)", why)
    return float(found[1]) if found else math.nan


def listed(names: Sequence[str]) -> str:
    """Write names as a list with "and"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def shortening(changes: pd.DataFrame) -> str:
    """Say which of the changes of `tsp.analysis.studies.recipes` need fewer epochs, or ""."""
    tried = changes.dropna(subset="ratio")
    problems = f"{tried.pairs.max():.0f} problems of GSM8K"
    faster = tried[reading(tried) == "faster"]
    if faster.empty:
        return ""
    best = faster.iloc[-1]  # the smallest ratio
    verb = "needs" if len(faster) == 1 else "need"
    return (
        f"Of {len(tried)} changes to the usual settings, tried on up to {problems}, {len(faster)} "
        f"{verb} fewer epochs, even after correction for the number of changes. The smallest "
        f"median ratio of epochs, {best.ratio:.2f} (uncorrected 95 % interval {best.low:.2f} to "
        f"{best.high:.2f}), belongs to “{best.change}”."
    )
