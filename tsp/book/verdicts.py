"""The list of claims on the front page: a row each, with a badge, an interval and a fold-out."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

BADGES: Mapping[str, tuple[str, str]] = {
    "reproduced": ("✓", "yes"),
    "partly": ("◐", "half"),
    "numbers return, reading fails": ("↯", "no"),
    "not reproduced": ("✗", "no"),
    "inconclusive": ("?", "open"),
    "true by definition": ("≡", "yes"),
    "not tested here": ("–", "untested"),
}
"""Symbol and kind (the colour, by a style sheet) of each verdict."""
FAMILIES: Mapping[str, str] = {
    "phenomenon": "The topology of a prompt while it is trained",
    "table 2": "Topology and accuracy (Table 2)",
    "TSLoss": "TSLoss against Standard",
    "weight": "The weight of TSLoss",
    "published version": "The published version",
}
WIDTH, HEIGHT = 200, 24


def verdict_list(claims: pd.DataFrame, chapters: Mapping[str, str]) -> HTML:
    """Return the claims as HTML, grouped by family; each row folds out to rule and numbers.

    Parameters
    ----------
    claims
        `tsp.analysis.tables.claims`.
    chapters
        The page that a family's rows link to, without its ending.
    """
    parts = ['<div class="claims">']
    for family, title in FAMILIES.items():
        rows = claims[claims.family == family]
        if len(rows):
            parts.append(f"<h3>{escape(title)}</h3>")
            parts += [_row(row, chapters[family]) for row in rows.to_dict("records")]
    return HTML("\n".join([*parts, "</div>"]))


def _row(claim: Mapping[Any, Any], chapter: str) -> str:
    symbol, kind = BADGES[claim["verdict"]]
    source, why, rule = (escape(str(claim[name])) for name in ("source", "why", "rule"))
    badge = f'<span class="verdict verdict-{kind}">{symbol} {escape(claim["verdict"])}</span>'
    statement = f'<span class="statement">{escape(claim["statement"])}</span>'
    return (
        f'<details><summary>{badge}{statement}{_interval(claim)}</summary>'
        f"<p><b>Found</b> {why}.</p><p><b>Rule</b> {rule}</p>"
        f'<p><b>Paper</b> {source}. <a href="{chapter}.html">Chapter</a></p></details>'
    )


def _interval(claim: Mapping[Any, Any]) -> str:
    """Draw an effect with its interval, no effect (a line) and the printed effect (a diamond)."""
    effect, low, high, printed = (float(claim[it]) for it in ("effect", "low", "high", "printed"))
    if np.isnan(effect):
        return '<span class="effect"></span>'
    null = float(claim["null"])
    values = np.array([effect, low, high, printed, null])
    values = values[np.isfinite(values)]
    start, stop = values.min(), values.max()
    span = (stop - start) or 1.0

    def x(value: float) -> float:
        return 8 + (WIDTH - 16) * (value - start) / span

    middle = HEIGHT / 2
    text = f"{effect:.3g}"
    shapes = []
    if np.isfinite(null):
        shapes.append(f'<path class="null" d="M{x(null):.1f} 1V{HEIGHT - 1}"/>')
    if np.isfinite([low, high]).all():
        shapes.append(f'<path class="interval" d="M{x(low):.1f} {middle}H{x(high):.1f}"/>')
        text += f" ({low:.3g} to {high:.3g})"
    shapes.append(f'<circle cx="{x(effect):.1f}" cy="{middle}" r="4.5"/>')
    if np.isfinite(printed):
        d = f"M{x(printed):.1f} {middle - 6}l6 6l-6 6l-6 -6z"
        shapes.append(f'<path class="printed" d="{d}"/>')
        text += f"; printed {printed:.3g}"
    label = escape(f"{claim['effect_name']} {text}".replace("-", "−"))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(shapes)}</svg>'
    return f'<span class="effect">{svg}<span class="numbers">{label}</span></span>'
