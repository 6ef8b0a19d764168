"""Settings side by side: each arm against one of them, problem by problem."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsp.errors import InputError
from tsp.records import deciding, load_accuracy, load_runs, load_topology
from tsp.runs import Store
from tsp.spec import ROUNDINGS, RunSpec
from tsp.stats import FEWEST, holm, paired_ratio, signed_rank
from tsp.units import ARM, PAIR, STANDARD, UNIT, at_defaults, units, wide

COLUMNS = (
    *("arm", "n", "iterations", "censored", "sustained", "pairs", "wins", "ties", "losses"),
    *("ratio", "low", "high", "p", "p_holm", "p_rank", "p_rank_holm"),
    *("h1_count", "h0_mean_lifespan_scaled"),
)
LAST = ["h1_count", "h0_mean_lifespan_scaled"]  # read at the last check


def study(
    store: Store,
    fields: Sequence[str],
    *,
    base: Mapping[str, Any],
    protocol: str = "tuned",
    methods: Sequence[str] = ("ce", "tsloss"),
    weights: Sequence[float] = (0.0, 1.0),
    model: str = "",
    seeds: Sequence[int] = (),
    every: bool = True,
) -> pd.DataFrame:
    """Compare runs that differ in some fields of their specs and in nothing else.

    Parameters
    ----------
    store
        Where the runs are; published runs, if there are any, and no others.
    fields
        Fields of `RunSpec` that may differ from their defaults: what the study varies.
    base
        The arm that the others are compared with: values of ``method``, ``lambda_ts`` and fields;
        what it leaves out is as in the arm that is compared.
    protocol
        Of all runs.
    methods, weights
        Of all runs.
    model
        Of all runs; empty: of any model, problems of different models side by side.
    seeds
        Of all runs; empty: all.
    every
        Read only problems that all arms have, so that the columns of different arms are about the
        same problems. Otherwise each arm is read over the problems that it has in common with its
        base.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row an arm, from the table of units (`tsp.units.units`). ``iterations``:
        median over ``n`` problems, a lower bound if ``censored``; ``sustained``: until the answer
        stays right. Against the base, over ``pairs`` problems: ``wins`` (sooner), ``ties``,
        ``losses``, the median ratio with its interval, the sign test's ``p`` (`paired_ratio`) and
        the signed-rank test's ``p_rank`` (`signed_rank`), each also by Holm over the arms. Means
        over problems of two summaries at the last check. nan where there is nothing to compare.

    Raises
    ------
    InputError
        For a field that no study can vary.
    """
    for name in fields:
        if name not in ARM:
            raise InputError("fields", name, f"choose from {', '.join(ARM)}")
    runs, length = deciding(load_runs(store))
    runs = runs[runs.protocol.eq(protocol) & runs.method.isin(methods)]
    runs = runs[runs.lambda_ts.isin(weights) & (runs.model.eq(model) if model else True)]
    runs = runs[runs.seed.isin(seeds) if seeds else runs.seed.notna()]
    runs = at_defaults(runs, protocol=protocol, but=fields)
    runs = runs if length is None else runs[runs.epochs >= length]
    if runs.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    arms = _arms(runs, fields)
    told = {"protocol": protocol, "length": length, "accuracy": load_accuracy(store)}
    last = _last_checks(load_topology(store), length)
    together = units(runs, arms, **told) if every else None  # type: ignore[arg-type]
    rows = []
    for name, arm in arms.items():
        other = _label(arm | dict(base), fields)
        names = list(dict.fromkeys([other, name])) if other in arms else [name]
        table = together
        if table is None:
            table = units(runs, {it: arms[it] for it in names}, **told)  # type: ignore[arg-type]
        rows.append(_row(name, table, last, other if other != name else ""))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.assign(p_holm=holm(found.p), p_rank_holm=holm(found.p_rank))


def noise_floor(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """How far rounding alone moves the iterations of a unit, beside what TSLoss does.

    Returns
    -------
    DataFrame
        One row a unit that was trained as planned (Standard and TSLoss) and in each other way
        (`tsp.spec.ROUNDINGS`): absolute differences in iterations from the planned Standard run,
        in epochs, of ``precision``, ``threads``, ``bank`` and ``tsloss``; ``floor``, the median of
        the first three. A unit that is not solved counts as its length.
    """
    runs, length = deciding(load_runs(store))
    arms = dict(PAIR) | {name: {**STANDARD, "rounding": name} for name in ROUNDINGS[1:]}
    table = wide(units(runs, arms, protocol=protocol, length=length))
    names = [*ROUNDINGS[1:], "tsloss"]
    if table.empty:
        return pd.DataFrame(columns=[*names, "floor"], dtype=float)
    reached = table[["ce", *names]].clip(upper=table.length, axis=0)
    found = reached[names].sub(reached.ce, axis=0).abs()
    return found.assign(floor=found[list(ROUNDINGS[1:])].median(axis=1))


def at_last(
    table: pd.DataFrame, topology: pd.DataFrame, feature: str, *, length: int | None
) -> pd.DataFrame:
    """Return a summary at the last check, one row a unit of the table, a column an arm."""
    last = _last_checks(topology, length)[feature]
    values = [float(last.loc[list(ids)].median()) for ids in table.ids]
    return table.assign(value=values).set_index([*UNIT, "arm"]).value.unstack("arm")


def at_solve(
    table: pd.DataFrame, topology: pd.DataFrame, runs: pd.DataFrame, feature: str
) -> pd.DataFrame:
    """Return a summary at the first right check, one row a unit of the table, a column an arm.

    Only of units that all arms solve; ``runs`` as `tsp.records.load_runs` gives them.
    """
    told = table[~table.solved_at_start.astype(bool) & np.isfinite(table.iterations.astype(float))]
    rows = topology.merge(runs[["id", "solved_epoch"]], on="id")
    there = rows[rows.epoch == rows.solved_epoch].drop_duplicates("id").set_index("id")[feature]
    values = [float(there.reindex(list(ids)).median()) for ids in told.ids]
    return told.assign(value=values).set_index([*UNIT, "arm"]).value.unstack("arm").dropna()


def _arms(runs: pd.DataFrame, fields: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Arms by name: those of the problems and seeds that have the most."""
    columns = ["method", "lambda_ts", *fields]
    runs = runs.assign(arm=[_label(row, fields) for row in runs.to_dict("records")])
    many = runs.groupby([*UNIT, "seed"]).arm.transform("nunique")
    first = runs[many == many.max()].sort_values(columns).drop_duplicates("arm")
    return {row["arm"]: {name: row[name] for name in columns} for row in first.to_dict("records")}


def _label(row: Mapping[Any, Any], fields: Sequence[str]) -> str:
    """An arm in words: its method, and what of the fields is not at its default."""
    default = RunSpec()
    weight = "" if row["method"] == "ce" else f" λ={row['lambda_ts']:g}"
    odd = [f"{name} {row[name]}" for name in fields if row[name] != getattr(default, name)]
    return ", ".join([f"{row['method']}{weight}", *odd])


def _last_checks(topology: pd.DataFrame, length: int | None) -> pd.DataFrame:
    rows = topology if length is None else topology[topology.epoch <= length]
    return rows.sort_values("epoch").drop_duplicates("id", keep="last").set_index("id")[LAST]


def _row(arm: str, table: pd.DataFrame, last: pd.DataFrame, base: str) -> list[Any]:
    """One row of `study`."""
    told = table[~table.solved_at_start.astype(bool)].set_index([*UNIT, "arm"])
    known = told.index.get_level_values("arm")
    if arm not in known:  # the untrained prompt solved every problem
        return [arm, 0, *[np.nan] * (len(COLUMNS) - 2)]
    mine = told.xs(arm, level="arm")
    least = float(np.minimum(mine.iterations, mine.length).median())
    stays = float(np.minimum(mine.sustained, mine.length).median())
    row: list[Any] = [arm, len(mine), least, bool(least < mine.iterations.median()), stays]
    shown = [float(np.mean([last.loc[list(ids), it].median() for ids in mine.ids])) for it in LAST]
    if base not in known or not base:
        return [*row, 0, *[np.nan] * 10, *shown]
    both = mine.join(told.xs(base, level="arm"), rsuffix="_base", how="inner")
    sides = [both[name].replace(np.inf, np.nan) for name in ("iterations_base", "iterations")]
    found = paired_ratio(*sides, cap=both.length)
    rank = signed_rank(*sides, cap=both.length)
    counts = [found.n, found.wins, found.ties, found.losses]
    p, p_rank = (found.p, rank.p) if found.n >= FEWEST else (np.nan, np.nan)
    tests = [found.median_ratio, found.low, found.high, p, np.nan, p_rank, np.nan]
    return [*row, *counts, *tests, *shown]
