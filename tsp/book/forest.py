"""The forest plot of the front page: a row for each claim, with badge and interval."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.ticker import MaxNLocator

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS, Claim
from tsp.analysis.verdicts import UNTESTED
from tsp.book.pages import in_html

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
    "table 2": ("Topology and accuracy (Table 2)", "06_topology_and_accuracy"),
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
WIDTH, HEIGHT, MARGIN = 200, 24, 8  # of the picture of an interval, in its own units
NUMBERS = ("effect", "low", "high", "printed")


class Scale(NamedTuple):
    """An axis that effects of one kind share."""

    name: str
    null: str = "no effect"  # what the line at the null value says
    within: tuple[float, ...] = ()  # values that the axis always shows
    factor: int = 1
    log: bool = False


SCALES: Mapping[str, Scale] = {
    r"\b(rho|tau)\b": Scale("Correlations", "no relation", within=(-1, 1)),
    r"\bratio\b": Scale("Ratios, on a logarithmic axis", "equal", log=True),
    r"\bshare\b": Scale("Shares, in %", factor=100),
    r"\bH1 counts?\b": Scale("Numbers of loops", "no difference"),
}
"""Scale of each estimand, by the first pattern that it contains; others have one of their own."""


def verdict_list(claims: pd.DataFrame) -> HTML:
    """Return claims (`tsp.analysis.tables.claims`) as an HTML forest plot, by family and scale.

    A row shows the verdict, the statement and the effect; it folds out to numbers, the gist of the
    rule and the source.
    """
    parts = ['<div class="claims">']
    for family, (title, chapter) in FAMILIES.items():
        rows = claims[claims.family == family].to_dict("records")
        if rows:
            parts += [f"<h3>{title}</h3>", *_family(rows, chapter)]
    return HTML("\n".join([*parts, "</div>"]))


def _family(rows: Sequence[Mapping[Any, Any]], chapter: str) -> Iterator[str]:
    """Write the rows of each scale below their axis, then those without an effect."""
    groups: dict[Scale, list[Mapping[Any, Any]]] = {}
    for row in rows:
        if not np.isnan(row["effect"]):
            groups.setdefault(_scale(row["id"]), []).append(row)
    for scale, members in groups.items():
        axis = Axis(scale, members)
        yield f'<div class="scale"><span>{in_html(scale.name)}</span>{axis.picture()}</div>'
        yield from (_row(row, chapter, axis.effect(row)) for row in members)
    without = [row for row in rows if np.isnan(row["effect"])]
    if without and groups:
        yield '<div class="scale"><span>Without an estimate</span></div>'
    yield from (_row(row, chapter, "<span></span>") for row in without)


def _row(claim: Mapping[Any, Any], chapter: str, effect: str) -> str:
    symbol, kind = BADGES[claim["verdict"]]
    gist = _gist(_about(claim["id"]).decision)
    statement, source, why, rule = (
        in_html(text) for text in (claim["statement"], claim["source"], claim["why"], gist)
    )
    return (
        f'<details><summary><span class="verdict verdict-{kind}">{symbol} {claim["verdict"]}</span>'
        f"<span>{statement}</span>{effect}</summary>"
        f"<p><b>Measured</b> under protocol {claim['protocol']}: {why}.</p>"
        f'<p><b>Rule</b> {rule}. <a href="20_rules.html#rules">All rules</a></p>'
        f"<p><b>In the paper</b> {source}. "
        f'<a href="{ELSEWHERE.get(claim["id"], chapter)}.html">Read the chapter</a></p></details>'
    )


def _gist(decision: str) -> str:
    """Return what "reproduced" takes and what changes that verdict later, without brackets."""
    plain = re.sub(r" \([^()]*\)", "", decision)
    later = r"(?:A reproduced|An inconclusive) claim .*?(?=\. |\.$)"
    first = re.split(rf"; (?:partly|not reproduced|inconclusive)\b|(?<=\.) {later}", plain)[0]
    return ". ".join([first.rstrip("."), *re.findall(later, plain)])


def _about(claim_id: str) -> Claim:
    return next(claim for claim in CLAIMS if claim.id == claim_id)


def _scale(claim_id: str) -> Scale:
    about = _about(claim_id)
    known = (scale for pattern, scale in SCALES.items() if re.search(pattern, about.estimand))
    name = about.effect_name
    return next(known, Scale(name[0].upper() + name[1:]))


class Axis:
    """The axis of claims of one scale, which have an effect."""

    def __init__(self, scale: Scale, claims: Sequence[Mapping[Any, Any]]) -> None:
        self.scale = scale
        nulls = [_about(claim["id"]).null for claim in claims]
        self.null = nulls[0] if len({*nulls}) == 1 else np.nan  # of all claims, if they have one
        values = np.array([*scale.within, *nulls, *(claim[x] for claim in claims for x in NUMBERS)])
        places = self._place(values[values > 0] if scale.log else values)
        places = places[np.isfinite(places)]
        locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=scale.log)
        self.ticks = locator.tick_values(np.nanmin(places), np.nanmax(places))

    def _place(self, value: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log2(value) if self.scale.log else self.scale.factor * value

    def _x(self, place: float) -> float:
        start, *_, stop = self.ticks
        share = np.clip((place - start) / (stop - start), 0, 1)
        return MARGIN + (WIDTH - 2 * MARGIN) * float(share)

    def picture(self) -> str:
        """Draw ticks with their values, and the name of the null where all claims share it."""
        shapes = []
        for tick in self.ticks:
            x, value = self._x(tick), f"{2**tick if self.scale.log else tick:g}".replace("-", "−")
            shapes.append(f'<path d="M{x:.1f} 28v4"/><text x="{x:.1f}" y="25">{value}</text>')
        if np.isfinite(self.null):
            x = self._x(self._place(self.null))
            side = "start" if x < WIDTH / 4 else "end" if x > 3 * WIDTH / 4 else "middle"
            name = f'<text x="{x:.1f}" y="10" text-anchor="{side}">{self.scale.null}</text>'
            shapes.append(name)
        return _svg(32, shapes)

    def effect(self, claim: Mapping[Any, Any]) -> str:
        """Draw an effect, its interval, the null (a line) and the printed effect (a diamond)."""
        about = _about(claim["id"])
        null, short = about.null, about.effect_name
        x, low, high, printed = (self._x(self._place(claim[name])) for name in NUMBERS)
        middle = HEIGHT / 2
        shapes = [f'<circle cx="{x:.1f}" cy="{middle}" r="3.5"/>']
        if np.isfinite(null):
            shapes.append(f'<path class="null" d="M{self._x(self._place(null)):.1f} 0v{HEIGHT}"/>')
        if np.isfinite([low, high]).all():
            shapes.append(f'<path class="interval" d="M{low:.1f} {middle}H{high:.1f}"/>')
        if np.isfinite(printed):
            diamond = f"M{printed:.1f} {middle - 6}l6 6l-6 6l-6 -6z"
            shapes.append(f'<path class="printed" d="{diamond}"/>')
        numbers = {name: self.scale.factor * claim[name] for name in NUMBERS}
        unit = ", in %" if self.scale.factor == 100 else ""
        if unit and ("difference" in short or " minus " in short):
            unit = ", in percentage points"
        name = f"{short}{unit}: " if self.scale in SCALES.values() else ""
        text = name + tables.effect({**claim, **numbers})
        if np.isfinite(null) and np.isnan(self.null):
            text += f"; {self.scale.null}: {self.scale.factor * null:g}"
        if claim["verdict"] != UNTESTED.verdict:
            text += f"; protocol {about.protocol}" * (about.protocol != Claim.protocol)
            text += f"; {about.length} epochs" * (about.length != Claim.length)
        words = f'<span class="numbers">{in_html(text)}</span>'
        return f"<span>{_svg(HEIGHT, shapes)}{words}</span>"


def _svg(height: int, shapes: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}"'
    return f'<svg {size} height="{height}" aria-hidden="true">{"".join(shapes)}</svg>'
