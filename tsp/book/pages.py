"""What chapters share: checked parameters, tables, and a line where runs are missing."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from tsp.analysis.studies import reading
from tsp.analysis.tables import METHOD_NAMES, typeset
from tsp.analysis.tables.decided import MISSING, fixed
from tsp.errors import InputError

CELLS = [
    {"selector": "th, td", "props": "padding: 0.3em 0.4em; text-align: right"},
    {"selector": "tbody td", "props": "white-space: nowrap"},
    {"selector": "tbody th", "props": "text-align: left; font-weight: 400"},
    {"selector": "tbody th.level0", "props": "min-width: 8em"},
]
Format = str | Callable[[Any], str] | None


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Check the types of a notebook's parameters, which papermill guesses from their spelling.

    Parameters
    ----------
    namespace
        The notebook's ``globals()``; its parameters cell declares types: ``runs: str = ""``.

    Raises
    ------
    InputError
        If a value has another type than declared, such as 12 for ``-p runs 0012``.
    """
    for name, kind in namespace["__annotations__"].items():
        value = namespace[name]
        if type(value) is kind or (kind is float and type(value) is int):
            continue
        hint = f"text; `papermill -r {name} VALUE` keeps text that looks like a number"
        kind_name = hint if kind is str else f"of type {kind.__name__}"
        raise InputError(name, value, f"must be {kind_name}")


def table(
    frame: pd.DataFrame,
    formats: Format | Mapping[Any, Format] = None,
    *,
    markup: bool = False,
    precision: int = 6,
) -> Styler:
    """Style a table of results: numbers to the right, missing ones as a dash, the index shown.

    Parameters
    ----------
    frame
        The table; names of its axes are left out.
    formats
        One for all columns, or by column: a format string or a function. Numbers are set by
        `tsp.analysis.tables.typeset`, as are cells of text without words.
    markup
        Interpret markup in cells and names instead of showing it.
    precision
        Decimal places of floats without a format.
    """
    plain = frame if markup else as_text(frame)
    for axis in ("index", "columns"):
        headings = _headings(getattr(plain, axis), typeset)
        plain = plain.set_axis(headings.set_names([None] * headings.nlevels), axis=axis)
    given = formats if isinstance(formats, Mapping) else dict.fromkeys(frame, formats)
    rules = [given.get(name) or partial(_default, precision=precision) for name in frame]
    cells = {name: partial(_cell, rule=rule) for name, rule in zip(plain, rules, strict=True)}
    styler = plain.style.format(cells, na_rep=MISSING)
    return styler.set_table_attributes('class="dataframe"').set_table_styles(CELLS)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """Change a text, or the texts of a heading of several levels, and no other value."""
    if isinstance(value, tuple):
        return tuple(_changed(part, change) for part in value)
    return change(value) if isinstance(value, str) else value


def _headings(axis: pd.Index, change: Callable[[str], str]) -> pd.Index:
    """Change the texts of an axis; an empty one would lose its levels."""
    return axis.map(partial(_changed, change=change)) if len(axis) else axis


def _cell(value: Any, rule: str | Callable[[Any], str]) -> str:
    text = rule.format(value) if isinstance(rule, str) else rule(value)
    if isinstance(value, str):  # escaped, if it has to be
        return text if re.search("[A-Za-z]{3}", text) else typeset(text)
    return escape(typeset(text), quote=False)


def _default(value: Any, precision: int) -> str:
    return f"{value:.{precision}f}" if pd.api.types.is_float(value) else str(value)


def probability(p: float) -> str:
    """Format a p-value: two digits, one below 0.001, a bound where it is too small for a float."""
    return "< 1e-300" if p == 0 else f"{p:.1g}" if p < 0.001 else f"{p:.2g}"


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Escape markup in every string of a table."""

    plain = partial(escape, quote=False)
    text = frame.map(partial(_changed, change=plain))
    for name in ("index", "columns"):
        axis = getattr(frame, name)
        names = [_changed(level, plain) for level in axis.names]
        setattr(text, name, _headings(axis, plain).set_names(names))
    return text


def in_html(text: str) -> str:
    """Return plain text as HTML, with its numbers, the paper's symbols and code set as such."""
    text = escape(typeset(text), quote=False).replace("lambda_ts", "λ<sub>ts</sub>")
    text = re.sub(r"\bs_i\b", "s<sub>i</sub>", text)
    return re.sub("`([^`]*)`", r"<code>\1</code>", text)


def stacked(frame: pd.DataFrame) -> Styler:
    """Style a table of plain texts, which becomes a list of named cells on a narrow screen."""
    cells = frame.map(lambda cell: in_html(str(cell)))
    for name in frame.columns[1:]:  # shown on a narrow screen alone
        cells[name] = f'<span class="heading">{in_html(str(name))}: </span>' + cells[name]
    return cells.style.hide(axis="index").set_table_attributes('class="table stacked"')


def missing(command: str) -> Markdown:
    """Return a line that says that runs are missing, and which command trains them."""
    return Markdown(f"*The store does not have these runs. To train them: `{command}`.*")


def interval(middle: Any, low: Any, high: Any, digits: int = 2) -> str:
    """Format an estimate and its interval: ``0.98 (0.90–1.10)``; a dash if it is missing."""
    if pd.isna(middle):
        return MISSING
    if pd.isna(low) or pd.isna(high):
        return typeset(f"{middle:.{digits}f}")
    low, high = fixed(low, digits), fixed(high, digits)
    return typeset(f"{middle:.{digits}f} ({low}{' to ' if low.startswith('-') else '–'}{high})")


def comparison(study: pd.DataFrame) -> pd.DataFrame:
    """Format a table of `tsp.analysis.studies.study` for display: one row per arm.

    Columns: problems; median epochs until right, ``>E`` where that is a lower bound; against the
    base arm on how many problems it was faster, the same, slower; the median ratio of epochs with
    its 95 % interval; p of the sign test, also after Holm; what that shows
    (`tsp.analysis.studies.reading`); H1 bars and H0 lifespan over mean distance at the last check.
    Columns without any value are left out: p where no arm has enough problems.
    """
    arms = study.arm
    for method, name in METHOD_NAMES.items():
        arms = arms.str.replace(rf"^{method}(?=[ ,]|$)", name, regex=True)
    epochs = np.where(study.censored.eq(True), ">", "") + study.iterations.map("{:g}".format)
    shown = {
        "problems": study.n,
        "epochs": np.where(study.n > 0, epochs, MISSING),
        "faster": study.wins,
        "same": study.ties,
        "slower": study.losses,
        "ratio": list(map(interval, study.ratio, study.low, study.high)),
        "p": study.p,
        "p (Holm)": study.p_holm,
        "reading": reading(study).replace("", None),
        "H1 bars": study.h1_count,
        "H0 / D": study.h0_mean_lifespan_scaled,
    }
    table = pd.DataFrame(shown).set_axis(arms.str.strip(), axis=0)
    return table.dropna(axis=1, how="all") if len(table) else table


FORMATS: dict[str, Format] = dict.fromkeys(("problems", "faster", "same", "slower"), "{:.0f}")
FORMATS |= dict.fromkeys(("p", "p (Holm)"), probability)
FORMATS |= {"H1 bars": "{:.1f}", "H0 / D": "{:.3f}"}
"""Formats of the columns of `comparison`."""
