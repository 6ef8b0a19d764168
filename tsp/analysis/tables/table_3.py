"""Table 3: iterations with and without TSLoss, side by side, as cells and as tests."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.records import (
    METHOD_NAMES,
    TASK_NAMES,
    by_origin,
    in_order,
    load_accuracy,
    load_runs,
)
from tsp.analysis.stats import detectable_share, holm
from tsp.analysis.tables.decided import MISSING
from tsp.analysis.units import PAIR, UNIT, compared, most_run, units
from tsp.experiments.paper import APPENDIX_TASKS, MAIN_TASKS, SYSTEMS, reported
from tsp.store.runs import Store
from tsp.training.spec import REGIMES

PAIR_COLUMNS = [
    *(*UNIT, "problem", "origin", "length", "solved_at_start", "seeds"),
    *("standard", "tsloss", "sustained_standard", "sustained_tsloss"),
    *("ids_standard", "ids_tsloss"),
]
CELL = ["model", "regime", "task"]
CELL_COLUMNS = ["origin", *CELL, "method", "median", "censored", "n", "at_start"]
TESTS_COLUMNS = [
    *(*CELL, "n", "wins", "ties", "losses", "never", "at_start"),
    *("ratio", "low", "high", "p", "p_holm", "p_rank", "p_rank_holm", "shows"),
]


def pairs(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """The table of units of Standard and TSLoss at weight 1, side by side.

    Returns
    -------
    DataFrame
        `PAIR_COLUMNS`, one row per unit (`tsp.analysis.units.units`): iterations of both, infinite
        where ``length`` epochs did not suffice. ``origin``: ``published``, or ``own`` for runs of
        the user's, which are read up to the shortest of a unit.
    """
    accuracy, tables = load_accuracy(store), []
    for origin, (runs, length) in by_origin(load_runs(store)).items():
        arms = units(runs, PAIR, protocol=protocol, length=length, accuracy=accuracy)
        standard, treated = (arms[arms.arm == arm] for arm in PAIR)
        treated = treated[[*UNIT, "ids", "iterations", "sustained"]]
        both = standard.merge(treated, on=UNIT, suffixes=("_standard", "_tsloss"))
        tables.append(both.assign(origin=origin))
    names = {"iterations_standard": "standard", "iterations_tsloss": "tsloss"}
    table = pd.concat(tables, ignore_index=True).rename(columns=names)
    return in_order(table, ["origin", *CELL, "problem", "content"])[PAIR_COLUMNS]


def convergence(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Our cells of Table 3 as numbers, two rows per cell: without and with TSLoss.

    Returns
    -------
    DataFrame
        `CELL_COLUMNS`. ``median``, over ``n`` units, of their iterations. A unit that was not
        solved counts as its length; where a later epoch in its place would move the median,
        ``censored`` is true and the median a lower bound. ``at_start`` units are excluded: their
        untrained prompts were right already.
    """
    rows = []
    for key, cell in pairs(store, protocol=protocol).groupby(["origin", *CELL], sort=False):
        trained = cell[~cell.solved_at_start.astype(bool)]
        for method, iterations in (("ce", trained.standard), ("tsloss", trained.tsloss)):
            median = np.minimum(iterations, trained.length.astype(float)).median()
            censored = bool(median < iterations.median())
            rows.append([*key, method, median, censored, len(trained), len(cell) - len(trained)])
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def table3(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Table 3: epochs until every training problem is answered right, the paper's and ours.

    Returns
    -------
    DataFrame
        Text, for display. Columns: regime and task. Rows: where (``"paper"``, ``"here"``, and
        ``"yours"`` for a user's own runs beside published ones), model and method. Our cells are
        the medians of `convergence`, ``">E"`` where that is a lower bound; the row ``units`` counts
        them, and with ``+k at start`` those that untrained prompts solved. No rows if there are no
        pairs of runs.
    """
    cells = convergence(store, protocol=protocol)
    tasks = [*MAIN_TASKS, *(task for task in APPENDIX_TASKS if task in set(cells.task))]
    named = [(regime, TASK_NAMES[task]) for regime in REGIMES for task in tasks]
    columns = pd.MultiIndex.from_tuples(named, names=["regime", "task"])
    index = ["where", "model", "method"]
    if cells.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=index), columns=columns)
    rows = printed_cells()
    for cell in cells.to_dict("records"):
        where = (cell["regime"], TASK_NAMES[cell["task"]])
        whose = ("here" if cell["origin"] == cells.origin[0] else "yours", cell["model"])
        rows[*whose, METHOD_NAMES[cell["method"]], *where] = median_text(cell)
        if cell["method"] == "tsloss":  # the last of a cell, so that the count stands below both
            rows[*whose, "units", *where] = count_text(cell, " at start")
    table = pd.Series(rows).rename_axis([*index, "regime", "task"])
    table = table.unstack(["regime", "task"], fill_value=MISSING, sort=False)
    return table.reindex(columns=columns, fill_value=MISSING)


def printed_cells() -> dict[tuple[str, ...], str]:
    """Return the paper's cells by where, model, method, regime and task, the smallest model first.

    The model nearest to ours in size stands above the others.
    """
    printed = reported("table3")
    return {
        ("paper", system.title, METHOD_NAMES[row.method], row.regime, TASK_NAMES[row.task]):
        str(row.iterations)
        for system in reversed(SYSTEMS)
        for row in printed[printed.model == system.name].itertuples()
    }  # fmt: skip


def median_text(cell: Mapping[Any, Any]) -> str:
    """Write the median of a row of `convergence`, ``>E`` where it is a lower bound."""
    return f"{'>' if cell['censored'] else ''}{cell['median']:g}" if cell["n"] else MISSING


def count_text(cell: Mapping[Any, Any], note: str = "") -> str:
    """Write the units of a row of `convergence`, and ``+k`` that were solved before training."""
    return f"{cell['n']} +{cell['at_start']}{note}" if cell["at_start"] else f"{cell['n']}"


def table3_tests(store: Store, *, protocol: str = "tuned", sustained: bool = False) -> pd.DataFrame:
    """Table 3 cell by cell: is a unit solved sooner with TSLoss, and what could a test detect?

    A user's own runs are used only where none is published. ``sustained``: count iterations to the
    first check from which the answer stays right, not to the first right one.

    Returns
    -------
    DataFrame
        `TESTS_COLUMNS`, one row per model, regime and task (a cell). If there is more than one, a
        last row pools the cells of the model with the most pairs (two models trained on one problem
        are not two problems). Over ``n`` units: in how many TSLoss ``wins``, ``ties``, ``losses``;
        of the ties, ``never`` that neither run solved; ``at_start`` are excluded, since an
        untrained prompt solved them. The median ``ratio`` of iterations, of what either run solves,
        with its interval and the tests of `tsp.analysis.units.compared`, each p also
        corrected by Holm over the cells. ``shows``: the smallest true share of wins that a sign
        test on this many non-tied pairs detects with 80 % power.
    """
    both = pairs(store, protocol=protocol)
    # Published pairs come first, so this keeps a user's own only where none is published.
    both = both[both.origin == both.origin.iloc[0]] if len(both) else both
    if both.empty:
        return pd.DataFrame(columns=TESTS_COLUMNS)
    if sustained:
        both = both.assign(standard=both.sustained_standard, tsloss=both.sustained_tsloss)
    cells = both.groupby(CELL, sort=False)
    table = pd.DataFrame([dict(zip(CELL, key, strict=True)) | _tested(cell) for key, cell in cells])
    table = table.assign(p_holm=holm(table.p), p_rank_holm=holm(table.p_rank))
    if len(table) > 1:  # after Holm's correction, which the pooled row is no part of
        main = both[both.model == most_run(both)]
        every = {"model": "all", "regime": "", "task": ""} | _tested(main)
        table.loc[len(table)] = pd.Series(every).reindex(table.columns)
    return table[TESTS_COLUMNS]


def _tested(cell: pd.DataFrame) -> dict[str, Any]:
    """Count and test the units of a cell, as `table3_tests` describes."""
    trained = cell[~cell.solved_at_start.astype(bool)]
    sides, n = trained[["standard", "tsloss"]].astype(float), len(trained)
    tests = compared(sides.standard, sides.tsloss, trained.length, n=n)
    never = int(np.isinf(sides).all(axis=1).sum())
    shows = detectable_share(tests["wins"] + tests["losses"])
    return tests | {"n": n, "never": never, "at_start": len(cell) - n, "shows": shows}
