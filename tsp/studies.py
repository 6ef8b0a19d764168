"""What the paper leaves open, arm by arm: each against one of them, problem by problem."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsp.errors import InputError
from tsp.evidence import ARM, at_defaults
from tsp.records import load_runs, load_topology, longest
from tsp.runs import Store
from tsp.spec import RunSpec
from tsp.stats import FEWEST, holm, paired_ratio, signed_rank

UNIT = ["model", "task", "regime", "content"]
COLUMNS = (
    *("arm", "n", "iterations", "censored", "pairs", "wins", "ties", "losses"),
    *("ratio", "low", "high", "p", "p_holm", "p_rank", "p_rank_holm"),
    *("h1_count", "h0_mean_lifespan_scaled"),
)


def study(
    store: Store,
    fields: Sequence[str],
    *,
    base: Mapping[str, Any],
    protocol: str = "tuned",
    methods: Sequence[str] = ("ce", "tsloss"),
    weights: Sequence[float] = (0.0, 1.0),
    model: str = "",
) -> pd.DataFrame:
    """Compare runs that differ in some fields of their specs and in nothing else.

    Parameters
    ----------
    store
        Where the runs are.
    fields
        Fields of `RunSpec` that may differ from their defaults: what the study varies.
    base
        The arm that the others are compared with: values of ``method``, ``lambda_ts`` and fields;
        what it leaves out is as in the arm that is compared.
    protocol
        Of all runs.
    methods, weights
        Those whose runs take part.
    model
        Only runs on this one.

    Only problems and seeds that were trained in the most arms take part.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row an arm. ``arm``: how it differs from the protocol's defaults, in words.
        ``n`` problems; ``iterations``: the median over problems, of medians over seeds (of two
        the sooner), of the first epoch with all answers right, at least the number that is given
        where ``censored``. Against the base arm, over ``pairs`` problems that both have: wins,
        ties, losses, the median ratio with its interval, the sign test's ``p`` (`paired_ratio`)
        and the signed-rank test's (`signed_rank`), each also adjusted over the arms (`holm`), of at
        least `tsp.stats.FEWEST` pairs; fewer are no test. Means
        over problems of topology at the last check.

    Raises
    ------
    InputError
        For a field that no study can vary.
    """
    for name in fields:
        if name not in ARM:
            raise InputError("fields", name, f"choose from {', '.join(ARM)}")
    runs = load_runs(store)
    runs = runs[
        runs.protocol.eq(protocol) & runs.method.isin(methods) & runs.lambda_ts.isin(weights)
    ]
    runs = runs[runs.model.eq(model) if model else runs.model.notna()]
    runs = longest(at_defaults(runs, protocol=protocol, but=fields))
    if runs.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    runs = runs.assign(arm=[_label(row, fields) for row in runs.to_dict("records")])
    # Problems and seeds that only some arms have would make their medians another quantity's.
    arms = runs.groupby([*UNIT, "seed"]).arm.transform("nunique")
    runs = runs[arms == arms.max()]
    units = _units(runs, load_topology(store))
    order = list(dict.fromkeys(runs.sort_values(["method", "lambda_ts", *fields]).arm))
    first = runs.drop_duplicates("arm").set_index("arm")
    rows = []
    for arm in order:
        told = {name: first.loc[arm, name] for name in ("method", "lambda_ts", *fields)}
        other = _label(told | dict(base), fields)
        rows.append(_row(arm, units, other if other != arm else ""))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.assign(p_holm=holm(table.p), p_rank_holm=holm(table.p_rank))


def _label(row: Mapping[Any, Any], fields: Sequence[str]) -> str:
    """An arm in words: its method, and what of the fields is not at its default."""
    default = RunSpec()
    weight = "" if row["method"] == "ce" else f" λ={row['lambda_ts']:g}"
    odd = [f"{name} {row[name]}" for name in fields if row[name] != getattr(default, name)]
    return ", ".join([f"{row['method']}{weight}", *odd])


def _units(runs: pd.DataFrame, topology: pd.DataFrame) -> pd.DataFrame:
    """One row an arm and problem: medians over seeds; infinite iterations: never solved."""
    last = topology.sort_values("epoch").drop_duplicates("id", keep="last").set_index("id")
    shown = ["h1_count", "h0_mean_lifespan_scaled"]
    runs = runs.join(last[shown], on="id")
    runs = runs[~runs.solved_at_start.astype(bool)]
    runs = runs.assign(iterations=runs.solved_epoch.fillna(np.inf), cap=runs.epochs)
    seeds = runs.groupby(["arm", *UNIT])
    # Of two seeds the sooner, as in `evidence.solved`.
    count = seeds[["iterations", "cap"]].quantile(0.5, interpolation="lower")
    return count.join(seeds[shown].median())


def _row(arm: str, units: pd.DataFrame, base: str) -> list[Any]:
    """One row of `study`."""
    known = units.index.get_level_values("arm")
    if arm not in known:  # the untrained prompt solved every problem
        return [arm, 0, *[np.nan] * (len(COLUMNS) - 2)]
    mine = units.loc[arm]
    least = float(np.minimum(mine.iterations, mine.cap).median())
    told: list[Any] = [arm, len(mine), least, bool(least < mine.iterations.median())]
    shown = [mine.h1_count.mean(), mine.h0_mean_lifespan_scaled.mean()]
    if base not in known or not base:
        return [*told, 0, *[np.nan] * 10, *shown]
    both = mine.join(units.loc[base], rsuffix="_base", how="inner")
    cap = both[["cap", "cap_base"]].min(axis=1).to_numpy()
    sides = [
        both[name].where(both[name] <= cap).to_numpy() for name in ("iterations_base", "iterations")
    ]
    found = paired_ratio(*sides, cap=cap)
    rank = signed_rank(*sides, cap=cap)
    counts = [found.n, found.wins, found.ties, found.losses]
    p, p_rank = (found.p, rank.p) if found.n >= FEWEST else (np.nan, np.nan)
    tests = [found.median_ratio, found.low, found.high, p, np.nan, p_rank, np.nan]
    return [*told, *counts, *tests, *shown]
