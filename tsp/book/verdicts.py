"""The list of claims on the front page: a row each, with a badge, an interval and a fold-out."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
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
FINDINGS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "loops": (
        "h1-count-falls",
        {"reproduced": "Loops do vanish", "not reproduced": "Loops do not vanish"},
        "Whether loops vanish is open",
    ),
    "lifespan": (
        "h0-lifespan-accuracy",
        {
            "reproduced": "go with better answers",
            "numbers return, reading fails": "do not go with better answers",
            "not reproduced": "do not go with better answers",
        },
        "go with better answers or not, that is open",
    ),
    "speed": (
        "tsloss-fewer-iterations",
        {
            "reproduced": "TSLoss shortens training",
            "not reproduced": "TSLoss does not shorten training",
        },
        "Whether TSLoss shortens training is open",
    ),
}
"""Words of the front page: the claim they follow, what they are by its verdict, and otherwise."""
WIDTH, HEIGHT, MARGIN = 200, 24, 8  # of the picture of an interval, in its own units


def findings(claims: pd.DataFrame, counts: pd.DataFrame) -> dict[str, str]:
    """Return the phrases of the front page that depend on runs and verdicts.

    Parameters
    ----------
    claims
        `tsp.analysis.tables.claims`.
    counts
        `tsp.figures.front.loop_counts`.

    Returns
    -------
    dict
        `FINDINGS` and two that follow the counts: ``success``, whether prompts that learn nothing
        lose half of their loops too, and ``back``, whether more are left with TSLoss.
    """
    verdicts = claims.set_index("id").verdict
    words = {
        name: by_verdict.get(verdicts[claim], otherwise)
        for name, (claim, by_verdict, otherwise) in FINDINGS.items()
    }
    medians = counts.groupby(["arm", "epoch"]).h1_count.median()
    ends = medians.groupby("arm").agg(["first", "last"])
    if not {*LOOKS} <= {*ends.index}:
        success, back = "Whether success is why is open", "Whether TSLoss brings loops back is open"
        return words | {"success": success, "back": back}
    lost = ends["last"] <= ends["first"] / 2
    control = "But success is not why" if lost[["wrong", RANDOM]].all() else "Success may be why"
    more = ends["last"]["tsloss"] > ends["last"]["ce"]
    back = "And it brings loops back" if more else "It does not bring loops back"
    return words | {"success": control, "back": back}


def verdict_list(claims: pd.DataFrame) -> HTML:
    """Return claims (`tsp.analysis.tables.claims`) as HTML, a heading for each family.

    A row shows verdict, statement and effect; it folds out to numbers, rule and source.
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
        f"<p><b>Found</b> under protocol {claim['protocol']}: {why}.</p><p><b>Rule</b> {rule}</p>"
        f'<p><b>In the paper</b> {source}. <a href="{chapter}.html">The chapter</a></p></details>'
    )


def _effect(claim: Mapping[Any, Any]) -> str:
    """Draw an effect and its interval beside no effect (a line) and the printed one (a diamond)."""
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
    name = about.estimand.split(",")[0].removeprefix("the ")
    text = f"{name}: {tables.effect(claim)}".replace("-", "−")
    return f'<span>{picture}<span class="numbers">{escape(text)}</span></span>'
