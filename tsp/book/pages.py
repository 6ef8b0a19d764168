"""How chapters show tables, and what they say where the store lacks the runs of one."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from tsp.analysis.tables import METHOD_NAMES

CELLS = [
    {"selector": "th, td", "props": "padding: 0.3em 0.5em; text-align: right"},
    {"selector": "tbody td", "props": "white-space: nowrap"},
    {"selector": "tbody th", "props": "text-align: left; font-weight: 400"},
]
MISSING = "–"


def table(
    frame: pd.DataFrame,
    formats: Mapping[Any, str] | None = None,
    *,
    markup: bool = False,
    **more: Any,
) -> Styler:
    """A table of results: numbers to the right, missing ones as a dash, the index shown.

    Parameters
    ----------
    frame
        What to show; the index' name is left out.
    formats
        By column, as `pandas.io.formats.style.Styler.format` takes them.
    markup
        Whether markup in cells and names counts; else it is shown.
    more
        Further arguments of that.
    """
    plain = frame if markup else as_text(frame)
    made = plain.rename_axis(index=None, columns=None).style
    made = made.format(formats, **{"na_rep": MISSING} | more)
    return made.set_table_attributes('class="dataframe"').set_table_styles(CELLS)


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with every string as HTML that shows it, whatever markup is in it."""

    def shown(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(shown(it) for it in value)
        return escape(value, quote=False) if isinstance(value, str) else value

    made = frame.map(shown)
    made.index, made.columns = frame.index.map(shown), frame.columns.map(shown)
    made.index.names = [shown(name) for name in frame.index.names]
    made.columns.names = [shown(name) for name in frame.columns.names]
    return made


def missing(command: str) -> Markdown:
    """Say that the store has no such runs, and what trains them."""
    return Markdown(f"*The store has no such runs; `{command}` trains them.*")


def interval(middle: Any, low: Any, high: Any, digits: int = 2) -> str:
    """An estimate and its interval in one cell: ``0.98 (0.90–1.10)``; a dash if there is none."""
    if pd.isna(middle):
        return MISSING
    known = not (pd.isna(low) or pd.isna(high))
    to = "–" if not known or low >= 0 else " to "
    shown = f"{middle:.{digits}f}" + (f" ({low:.{digits}f}{to}{high:.{digits}f})" if known else "")
    return shown.replace("-", "−")


def comparison(found: pd.DataFrame) -> pd.DataFrame:
    """A table of `tsp.analysis.studies.study` for display: one row an arm.

    Columns: problems; median epochs until right, ``>E`` where that is a lower bound; against the
    base arm how many problems were right sooner, as soon, later; the median ratio of epochs with
    its 95 % interval; p of the sign test and of the signed-rank test, each also after Holm; H1 bars
    and H0 lifespan over mean distance at the last check.
    """
    names = {f"{method} ": f"{name} " for method, name in METHOD_NAMES.items()}
    arms = (found.arm + " ").replace(names)
    for short, name in METHOD_NAMES.items():
        arms = arms.str.replace(rf"^{short}(?=[ ,])", name, regex=True)
    epochs = np.where(found.censored.eq(True), ">", "") + found.iterations.map("{:g}".format)
    shown = {
        "problems": found.n,
        "epochs": np.where(found.n > 0, epochs, MISSING),
        "sooner": found.wins,
        "same": found.ties,
        "later": found.losses,
        "ratio": [interval(*it) for it in zip(found.ratio, found.low, found.high, strict=True)],
        "p": found.p,
        "p (Holm)": found.p_holm,
        "p (ranks)": found.p_rank,
        "ranks (Holm)": found.p_rank_holm,
        "H1 bars": found.h1_count,
        "H0 / D": found.h0_mean_lifespan_scaled,
    }
    return pd.DataFrame(shown).set_axis(arms.str.strip(), axis=0)


FORMATS = {name: "{:.0f}" for name in ("problems", "sooner", "same", "later")}
FORMATS |= {name: "{:.2g}" for name in ("p", "p (Holm)", "p (ranks)", "ranks (Holm)")}
FORMATS |= {"H1 bars": "{:.1f}", "H0 / D": "{:.3f}"}
"""Of the columns of `comparison`."""
