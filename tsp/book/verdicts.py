"""The list of claims on the front page: a row each, with a badge, an interval and a fold-out."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.studies import reading
from tsp.figures.front import LOOKS, RANDOM

BADGES: Mapping[str, tuple[str, str]] = {
    "reproduced": ("✓", "yes"),
    "partly": ("◐", "half"),
    "numbers return, reading fails": ("↯", "no"),
    "not reproduced": ("✗", "no"),
    "inconclusive": ("?", "open"),
    "true by definition": ("≡", "yes"),
    "not tested here": ("–", "open"),
}
"""Symbol and kind of each verdict; the kind is a colour of the style sheet."""
FAMILIES: Mapping[str, tuple[str, str]] = {
    "phenomenon": ("The topology of a prompt while it is trained", "04_phenomenon"),
    "table 2": ("Topology and accuracy (Table 2)", "05_topology_and_accuracy"),
    "TSLoss": ("TSLoss against Standard", "09_convergence"),
    "weight": ("The weight of TSLoss", "11_weight"),
    "published version": ("The published version", "15_what_it_stands_for"),
}
"""Heading and chapter of each family of claims."""
ELSEWHERE: Mapping[str, str] = {
    "qwen-fourfold": "09_convergence",
    "tsloss-simpler-topology": "10_when_tsloss_acts",
    "variances-equal": "15_what_it_stands_for",
}
"""Chapter of each claim that is not decided in the chapter of its family."""
LIFESPAN_FAILS = "Longer-lived components go with better answers less than reported, if at all"
FINDINGS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "loops": (
        "h1-count-falls",
        {
            "reproduced": "Loops do vanish",
            "partly": "Loops vanish, but not in most prompts",
            "not reproduced": "Loops do not vanish",
        },
        "Whether loops vanish is open",
    ),
    "components": (
        "h0-lifespan-grows",
        {
            "reproduced": "Components live longer, also relative to the size of the cloud",
            "partly": "Components live longer, but by less than the cloud grows",
            "not reproduced": "Components do not live longer",
        },
        "Whether components live longer is open",
    ),
    "lifespan": (
        "h0-lifespan-accuracy",
        {
            "reproduced": "Longer-lived components go with better answers",
            "partly": "Longer-lived components go with better answers, but less than printed",
            "numbers return, reading fails": LIFESPAN_FAILS,
            "not reproduced": LIFESPAN_FAILS,
        },
        "Whether longer-lived components go with better answers is open",
    ),
    "speed": (
        "tsloss-fewer-iterations",
        {
            "reproduced": "TSLoss shortens training",
            "partly": "TSLoss shortens training, but less than the paper reports",
            "not reproduced": "TSLoss shortens training less than reported, if at all",
        },
        "Whether TSLoss shortens training is open",
    ),
}
"""Sentences of the front page: their claim, one for each verdict, one for others."""
WIDTH, HEIGHT, MARGIN = 200, 24, 8  # of the picture of an interval, in its own units


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
        `FINDINGS` and three that follow the counts: ``success``, whether prompts that learn
        wrong answers, or none, lose half of their loops too; ``reason``, whether movement in random
        directions is enough; and ``back``, whether more loops are left with TSLoss.
    """
    verdicts = claims.set_index("id").verdict
    sentences = {
        name: by_verdict.get(verdicts[claim], otherwise)
        for name, (claim, by_verdict, otherwise) in FINDINGS.items()
    }
    medians = counts.groupby(["arm", "epoch"]).h1_count.median()
    ends = medians.groupby("arm").agg(["first", "last"])
    if not {*LOOKS} <= {*ends.index}:
        return sentences | {
            "success": "Whether success is needed is open",
            "reason": "What removes loops is open",
            "back": "Whether TSLoss brings loops back is open",
        }
    lost = ends["last"] <= ends["first"] / 2
    without_success = bool(lost[["wrong", RANDOM]].all())
    more = ends["last"]["tsloss"] > ends["last"]["ce"]
    return sentences | {
        "success": f"Success {'is not' if without_success else 'may be'} needed",
        "reason": "Vectors that move, some farther than others, are enough to remove loops"
        if lost[RANDOM]
        else "Movement alone does not remove them",
        "back": f"TSLoss {'brings' if more else 'does not bring'} loops back",
    }


def shortening(changes: pd.DataFrame) -> str:
    """Say which of the changes of `tsp.analysis.studies.recipes` shorten training, or ""."""
    tried = changes.dropna(subset="ratio")
    problems = f"{tried.pairs.max():.0f} problems"
    faster = tried[reading(tried) == "faster"]
    if faster.empty:
        return ""
    best = faster.iloc[-1]  # the smallest ratio
    verb = "shortens" if len(faster) == 1 else "shorten"
    return (
        f"Of {len(tried)} changes of the usual settings, tried on {problems}, {len(faster)} still "
        f"{verb} training after correction for their number; “{best.change}” has the smallest "
        f"ratio, {best.ratio:.2f} ({best.low:.2f} to {best.high:.2f}, uncorrected)."
    )


def verdict_list(claims: pd.DataFrame) -> HTML:
    """Return claims (`tsp.analysis.tables.claims`) as HTML, a heading for each family.

    A row shows the verdict, the statement and the effect; it folds out to numbers, rule and source.
    """
    parts = ['<div class="claims">']
    for family, (title, chapter) in FAMILIES.items():
        rows = claims[claims.family == family].to_dict("records")
        if rows:
            parts += [f"<h3>{title}</h3>", *(_row(row, chapter) for row in rows)]
    return HTML("\n".join([*parts, "</div>"]))


def _row(claim: Mapping[Any, Any], chapter: str) -> str:
    symbol, kind = BADGES[claim["verdict"]]
    statement, source, why, rule = (
        escape(claim[name]) for name in ("statement", "source", "why", "rule")
    )
    return (
        f'<details><summary><span class="verdict verdict-{kind}">{symbol} {claim["verdict"]}</span>'
        f"<span>{statement}</span>{_effect(claim)}</summary>"
        f"<p><b>Measured</b> under protocol {claim['protocol']}: {why}.</p>"
        f"<p><b>Rule</b> {rule}</p><p><b>In the paper</b> {source}. "
        f'<a href="{ELSEWHERE.get(claim["id"], chapter)}.html">Read the chapter</a></p></details>'
    )


def _effect(claim: Mapping[Any, Any]) -> str:
    """Draw an effect with its interval, the null (a line) and the printed effect (a diamond)."""
    about = next(each for each in CLAIMS if each.id == claim["id"])
    effect, low, high, printed = (float(claim[x]) for x in ("effect", "low", "high", "printed"))
    if np.isnan(effect):
        return "<span></span>"
    values = np.array([effect, low, high, printed, about.null])
    start, stop = np.nanmin(values), np.nanmax(values)

    def x(value: float) -> str:
        place = (value - start) / ((stop - start) or 1)
        return f"{MARGIN + (WIDTH - 2 * MARGIN) * place:.1f}"

    middle = HEIGHT / 2
    shapes = [f'<circle cx="{x(effect)}" cy="{middle}" r="4.5"/>']
    if np.isfinite(about.null):
        shapes.append(f'<path class="null" d="M{x(about.null)} 1V{HEIGHT - 1}"/>')
    if np.isfinite([low, high]).all():
        shapes.append(f'<path class="interval" d="M{x(low)} {middle}H{x(high)}"/>')
    if np.isfinite(printed):
        shapes.append(f'<path class="printed" d="M{x(printed)} {middle - 6}l6 6l-6 6l-6 -6z"/>')
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(shapes)}</svg>'
    name = re.split(r", | \(|[:;] ", about.estimand)[0].removeprefix("the ")
    text = f"{name}: {tables.effect(claim).replace('-', '−')}"
    return f'<span>{picture}<span class="numbers">{escape(text)}</span></span>'
