"""Settings side by side: each arm against one of them, problem by problem."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from tsp.analysis.records import deciding, load_runs, load_topology
from tsp.analysis.stats import holm
from tsp.analysis.units import ARM, PAIR, STANDARD, UNIT, at_defaults, compared, units, wide
from tsp.errors import InputError
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.paper import ALPHA
from tsp.store.runs import Store
from tsp.training.spec import ROUNDINGS, RunSpec

LAST = ["h1_count", "h0_mean_lifespan_scaled"]  # read at the last check
COLUMNS = [
    *("arm", "n", "iterations", "censored", "pairs", "wins", "ties", "losses"),
    *("ratio", "low", "high", "p", "p_holm"),
    *LAST,
]

RECIPE = ("lr", "init", "n_tokens", "warmup_fraction", "schedule", "clip_norm")
"""Settings of which `recipes` compares changes."""
CHANGES = {
    "^ce$": "Standard",
    "^tsloss λ=": "TSLoss, λ = ",
    "^lr ": "learning rate ",
    "^n_tokens ": "n = ",
    "^init question$": "initial prompt from the question",
    "^init vocabulary$": "initial prompt from the vocabulary",
    "^init trained$": "initial prompt trained on another problem",
    r"^warmup_fraction 0\.0$": "no warm-up",
    "^schedule constant$": "constant rate",
    "^clip_norm ": "gradient clipped to norm ",
}
"""Words for the arms of `recipes`, by the pattern of their names."""


def study(
    store: Store,
    fields: Sequence[str],
    *,
    base: Mapping[str, Any],
    protocol: str = "tuned",
    methods: Sequence[str] = ("ce", "tsloss"),
    weights: Sequence[float] = (0.0, 1.0),
    model: str = "",
    experiment: str = "",
    length: int | None = None,
    every: bool = True,
) -> pd.DataFrame:
    """Compare runs that differ in some fields of their specs and in nothing else.

    Parameters
    ----------
    store
        Store of the runs. If it has published runs, only those are used.
    fields
        Fields of `RunSpec` that may differ from their defaults: what the study varies.
    base
        Values of ``method``, ``lambda_ts`` and ``fields`` of the arm that the others are compared
        with. Fields that are not given take the value of the arm that is compared.
    weights
        Values of lambda_ts of the runs; that of Standard is 0.
    model
        Model of the runs; empty: any (problems of different models side by side).
    experiment
        A key of `tsp.experiments.catalogue.EXPERIMENTS`: runs on its problems, with its seeds,
        alone; empty: all.
    length
        Number of epochs to read of published runs, by default `tsp.training.protocols.LENGTH`;
        without published runs each problem is read up to its shortest run.
    every
        True: every arm is read over the problems common to all arms, so that the rows are about
        the same problems. False: each arm is read over those that it has in common with its base.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row per arm, from the table of units (`tsp.analysis.units.units`).
        ``iterations``: median over ``n`` problems, a lower bound if ``censored``. Against the base,
        over ``pairs`` problems: ``wins`` (faster), ``ties``, ``losses``, the median ratio with its
        interval and the sign test (`tsp.analysis.units.compared`), also by Holm over the arms.
        Means over problems of two summaries at the last check. nan where there is nothing to
        compare.

    Raises
    ------
    InputError
        For a field that no study can vary.
    """
    for name in fields:
        if name not in ARM:
            raise InputError("fields", name, f"choose from {', '.join(ARM)}")
    runs, usual = _runs(store, model, experiment)
    length = length if length and usual else usual  # usual is None if no run is published
    runs = runs[runs.protocol.eq(protocol) & runs.method.isin(methods)]
    runs = runs[runs.lambda_ts.isin(weights)]
    runs = at_defaults(runs, protocol=protocol, but=fields)
    runs = runs if length is None else runs[runs.epochs >= length]
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)
    default = RunSpec(protocol=protocol)
    arms = _arms(runs, fields, default)
    last = _last_checks(load_topology(store), length)

    def read(names: Sequence[str]) -> pd.DataFrame:
        chosen = {name: arms[name] for name in names}
        return units(runs, chosen, protocol=protocol, length=length)

    table, rows = read(list(arms)), []
    for name, arm in arms.items():
        other = _label(arm | dict(base), fields, default)
        other = other if other in arms and other != name else ""
        if not every:
            table = read([other, name] if other else [name])
        rows.append({"arm": name} | _row(name, table, last, other))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(p_holm=holm(table.p))


def recipes(
    store: Store, *, model: str, protocol: str = "tuned", against: str = "ce"
) -> pd.DataFrame:
    """Compare changes of one setting each, and TSLoss at weight 1, with Standard or with TSLoss.

    ``against`` is the method of the base, ``ce`` or ``tsloss``.

    Returns
    -------
    DataFrame
        The rows of `study`, the largest ratio first and those without one (the base) last, with
        ``p_holm`` corrected over them; ``change`` is the arm in words.
    """
    usual = RunSpec(model=model, protocol=protocol)
    base = {"method": against, "lambda_ts": float(against == "tsloss")}
    base |= {name: getattr(usual, name) for name in RECIPE}
    options: Any = {"protocol": protocol, "model": model, "experiment": "recipes"}
    arms = study(store, RECIPE, base=base, every=False, **options)
    changed = arms.arm.str.count(",")
    arms = arms[(changed == 0) | ((changed == 1) & arms.arm.str.startswith("ce, "))]
    arms = arms.sort_values("ratio", ascending=False, ignore_index=True)
    words = arms.arm.str.removeprefix("ce, ").replace(CHANGES, regex=True)
    return arms.assign(change=words, p_holm=holm(arms.p))


def reading(study: pd.DataFrame) -> pd.Series:
    """Return what a comparison with the base shows: ``faster``, ``slower``, ``undecided`` or "".

    An arm is faster or slower if the sign test says so after Holm's correction over the arms and
    the interval of the ratio excludes 1; it is empty where nothing is tested.
    """
    differ = (study.p_holm < ALPHA) & ((study.low > 1) | (study.high < 1))
    named = np.where(study.ratio < 1, "faster", "slower")
    shown = np.where(differ, named, "undecided")
    return pd.Series(np.where(study.p_holm.isna(), "", shown), index=study.index)


def noise_floor(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Return how far rounding alone moves the iterations of a unit, beside what TSLoss does.

    Returns
    -------
    DataFrame
        One row per unit that was trained as planned (Standard and TSLoss) and in each other way
        (`tsp.training.spec.ROUNDINGS`): absolute differences in iterations from the planned
        Standard run, in epochs, of ``precision``, ``threads``, ``bank`` and ``tsloss``; ``floor``,
        the median of the first three. A unit that is not solved counts as its length.
    """
    runs, length = deciding(load_runs(store))
    arms = dict(PAIR) | {name: {**STANDARD, "rounding": name} for name in ROUNDINGS[1:]}
    table = wide(units(runs, arms, protocol=protocol, length=length))
    names = [*ROUNDINGS[1:], "tsloss"]
    if table.empty:
        return pd.DataFrame(columns=[*names, "floor"], dtype=float)
    reached = table[["ce", *names]].clip(upper=table.length, axis=0)
    moved = reached[names].sub(reached.ce, axis=0).abs()
    return moved.assign(floor=moved[list(ROUNDINGS[1:])].median(axis=1))


def trend(
    store: Store,
    field: str,
    lengths: Mapping[float, int],
    *,
    protocol: str = "tuned",
    model: str = "",
    experiment: str = "",
) -> pd.Series:
    """Return Kendall's tau of TSLoss's ratio of iterations with a field, problem by problem.

    Parameters
    ----------
    store, protocol, model, experiment
        As in `study`.
    field
        A numeric field of `RunSpec`.
    lengths
        For each value of the field the number of epochs to read.

    Returns
    -------
    Series
        tau of each unit that has a ratio at two values or more. The ratio is that of TSLoss's
        iterations to Standard's at the same value; a unit that neither solves has none.
    """
    runs, _ = _runs(store, model, experiment)
    ratios = {}
    for value, length in lengths.items():
        arms = {name: {**arm, field: value} for name, arm in PAIR.items()}
        table = wide(units(runs, arms, protocol=protocol, length=length))
        if len(table):
            solved = table[np.isfinite(table[list(PAIR)]).any(axis=1)]
            reached = solved[list(PAIR)].clip(upper=solved.length, axis=0)
            ratios[value] = reached.tsloss / reached.ce
    rows = pd.DataFrame(ratios).dropna(thresh=2)
    taus = [kendalltau(row.dropna().index, row.dropna()).statistic for _, row in rows.iterrows()]
    return pd.Series(taus, index=rows.index, dtype=float)


def _runs(store: Store, model: str, experiment: str) -> tuple[pd.DataFrame, int | None]:
    """Return the runs that decide, of a model and an experiment if given, and their length."""
    runs, length = deciding(load_runs(store))
    runs = runs[runs.model.eq(model) if model else runs.model.notna()]
    if experiment:
        where = ["task", "regime", "problem", "seed"]
        specs = experiment_specs(experiment, "full")
        places = {tuple(getattr(spec, name) for name in where) for spec in specs}
        runs = runs[[place in places for place in runs[where].itertuples(index=False, name=None)]]
    return runs, length


def at_last(
    table: pd.DataFrame, topology: pd.DataFrame, feature: str, *, length: int | None
) -> pd.DataFrame:
    """Return a summary at the last check, one row per unit of the table, a column per arm."""
    return _medians(table, _last_checks(topology, length)[feature])


def at_solve(
    table: pd.DataFrame, topology: pd.DataFrame, runs: pd.DataFrame, feature: str
) -> pd.DataFrame:
    """Return a summary at the first right check, one row per unit of the table, a column per arm.

    Only of units that all arms solve; ``runs`` as `tsp.analysis.records.load_runs` gives them.
    """
    solved = table[~table.solved_at_start & np.isfinite(table.iterations)]
    rows = topology.merge(runs[["id", "solved_epoch"]], on="id")
    rows = rows[rows.epoch == rows.solved_epoch].drop_duplicates("id")
    return _medians(solved, rows.set_index("id")[feature]).dropna()


def _medians(table: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """Median over the runs of each unit, a row, and arm, a column."""
    medians = [float(values.reindex(list(ids)).median()) for ids in table.ids]
    return table.assign(value=medians).set_index([*UNIT, "arm"]).value.unstack("arm")


def _arms(runs: pd.DataFrame, fields: Sequence[str], default: RunSpec) -> dict[str, dict[str, Any]]:
    """Arms by name: those of the problems and seeds that have the most."""
    columns = ["method", "lambda_ts", *fields]
    runs = runs.assign(arm=[_label(row, fields, default) for row in runs.to_dict("records")])
    arms = runs.groupby([*UNIT, "seed"]).arm.transform("nunique")
    first = runs[arms == arms.max()].sort_values(columns).drop_duplicates("arm")
    return {row["arm"]: {name: row[name] for name in columns} for row in first.to_dict("records")}


def _label(row: Mapping[Any, Any], fields: Sequence[str], default: RunSpec) -> str:
    """Name an arm by its method and by the fields that are not at their defaults."""
    weight = "" if row["method"] == "ce" else f" λ={row['lambda_ts']:g}"
    odd = [f"{name} {row[name]}" for name in fields if row[name] != getattr(default, name)]
    return ", ".join([f"{row['method']}{weight}", *odd])


def _last_checks(topology: pd.DataFrame, length: int | None) -> pd.DataFrame:
    rows = topology if length is None else topology[topology.epoch <= length]
    return rows.sort_values("epoch").drop_duplicates("id", keep="last").set_index("id")[LAST]


def _row(arm: str, table: pd.DataFrame, last: pd.DataFrame, base: str) -> dict[str, Any]:
    """Columns of one row of `study`."""
    trained = table[~table.solved_at_start.astype(bool)].set_index([*UNIT, "arm"])
    known = set(trained.index.get_level_values("arm"))
    if arm not in known:  # the untrained prompt solved every problem
        return {"n": 0}
    mine = trained.xs(arm, level="arm")
    epochs = mine.iterations.clip(upper=mine.length).median()
    row = {"n": len(mine), "pairs": 0, "iterations": epochs}
    row["censored"] = bool(epochs < mine.iterations.median())
    runs = mine.ids.reset_index(drop=True).explode().to_frame("id").join(last, on="id")
    row |= runs[LAST].groupby(level=0).median().mean(skipna=False)
    if base in known:
        both = mine.join(trained.xs(base, level="arm"), rsuffix="_base", how="inner")
        row["pairs"] = len(both)
        row |= compared(both.iterations_base, both.iterations, both.length, n=len(both))
    return row
