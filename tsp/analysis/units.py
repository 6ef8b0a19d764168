"""The table of units, which every number about convergence is read from.

A unit is one problem, or one set of ten, on one model under one protocol. Its runs are those of
its seeds, under settings that are called arms: Standard, TSLoss at weight 1, another first prompt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.stats import FEWEST, paired_ratio, signed_rank
from tsp.training.protocols import LENGTH
from tsp.training.spec import METHOD_FIELDS, RunSpec

STRATUM = ["model", "task", "regime"]
UNIT = [*STRATUM, "content"]  # a problem is what it holds, wherever it was read and by what number
ARM = (
    *("lr", "n_tokens", "init", "placement", "embed_scale", "check_every", "early_stop"),
    *("max_new_tokens", "wrong_answers", "schedule", "warmup_fraction", "clip_norm", "init_run"),
    *("rounding", *METHOD_FIELDS),
)
"""Fields of a run that change its outcome, beside its method and weight."""
STANDARD: Mapping[str, Any] = {"method": "ce", "lambda_ts": 0.0}
PAIR: Mapping[str, Mapping[str, Any]] = {
    "ce": STANDARD,
    "tsloss": {"method": "tsloss", "lambda_ts": 1.0},
}
COLUMNS = [
    *UNIT,
    *("arm", "problem", "seeds", "ids", "iterations", "sustained", "length", "solved_at_start"),
]


def units(
    runs: pd.DataFrame,
    arms: Mapping[str, Mapping[str, Any]] = PAIR,
    *,
    protocol: str = "tuned",
    length: int | None = LENGTH,
    accuracy: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Make the table of units: how many iterations each needs in each arm.

    Parameters
    ----------
    runs
        One row per run (`tsp.analysis.records.load_runs`).
    arms
        By name, the fields in which an arm differs from the protocol's defaults for the model.
    length
        Number of epochs to read: shorter runs are left out, longer ones are cut. None: each unit
        is read up to its shortest run.
    accuracy
        One row per check, ``id epoch accuracy`` (`tsp.analysis.records.load_accuracy`); without it
        ``sustained`` is nan.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row per unit and arm; only units that have all the arms, in the same seeds.
        ``iterations`` is the first check after the start at which every problem is answered
        correctly, ``sustained`` the first from which that stays so up to ``length``; infinite where
        it is not reached (right-censored at ``length``). Each is the median over ``seeds``, the
        first odd number of those that all the arms have. ``ids``: the runs, in their order.
        ``solved_at_start``: the untrained prompt of one of the runs is right already.

    Notes
    -----
    Where two runs of an arm and seed share everything but what is recorded, one counts: that
    which records as the protocol has it, then the shortest (None: the longest) one, then the
    smaller id.
    """
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)
    parts = []
    for name, arm in arms.items():
        fields = pd.Series({"protocol": protocol, **arm})
        chosen = runs[runs[list(fields.index)].eq(fields).all(axis=1)]
        parts.append(at_defaults(chosen, protocol=protocol, but=list(arm)).assign(arm=name))
    rows = one_of_each(pd.concat(parts), length)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    together = rows.groupby([*UNIT, "seed"]).arm.transform("nunique") == len(arms)
    rows = odd_seeds(rows[together])
    rows["length"] = rows.groupby(UNIT).epochs.transform("min") if length is None else length
    rows = rows.join(_outcomes(rows, accuracy), on="id")
    rows["solved_at_start"] = rows.groupby(UNIT).solved_at_start.transform("any").astype(bool)
    table = rows.groupby([*UNIT, "arm"], sort=False).agg(
        problem=("problem", "first"),
        seeds=("seed", tuple),
        ids=("id", tuple),
        iterations=("first_right", "median"),
        sustained=("right_to_the_end", "median"),
        length=("length", "first"),
        solved_at_start=("solved_at_start", "first"),
    )
    return table.reset_index()[COLUMNS]


def _outcomes(runs: pd.DataFrame, accuracy: pd.DataFrame | None) -> pd.DataFrame:
    """First right check of each run after the start, and the check from which it stays right."""
    runs = runs.drop_duplicates("id").set_index("id")
    first = runs.solved_epoch.where(runs.solved_epoch <= runs.length).fillna(np.inf)
    outcomes = pd.DataFrame({"first_right": first.astype(float), "right_to_the_end": np.nan})
    if accuracy is None or accuracy.empty:
        return outcomes
    checks = accuracy[accuracy.id.isin(runs.index) & (accuracy.epoch > 0)]
    checks = checks[checks.epoch <= checks.id.map(runs.length).astype(float)]
    last_wrong = checks.epoch.where(checks.accuracy != 1, 0).groupby(checks.id).max()
    later = checks[checks.epoch > checks.id.map(last_wrong).astype(float)]
    sustained = later.groupby("id").epoch.min().astype(float)
    outcomes["right_to_the_end"] = sustained.reindex(outcomes.index).fillna(np.inf)
    return outcomes


def wide(table: pd.DataFrame, value: str = "iterations") -> pd.DataFrame:
    """One row per unit, a column per arm, and ``length``; units solved untrained are left out."""
    table = table[~table.solved_at_start.astype(bool)]
    arms = table.set_index([*UNIT, "arm"])[value].unstack("arm").astype(float)
    return arms.join(table.groupby(UNIT).length.first().astype(float))


def compared(standard: pd.Series, treated: pd.Series, length: Any, *, n: int) -> dict[str, Any]:
    """Compare the iterations of two arms, unit by unit; infinite where a unit is not solved.

    Returns
    -------
    dict
        ``wins`` (treated is sooner), ``ties``, ``losses``; units that neither solves are ties
        and have no ratio. The median ``ratio`` with its interval
        ``low`` to ``high`` and the sign test's ``p`` (`tsp.analysis.stats.paired_ratio`); the
        signed-rank test's ``p_rank`` (`tsp.analysis.stats.signed_rank`). Both p are nan for fewer
        than six of ``n`` units.
    """
    sides = np.array([standard, treated], dtype=float)
    reached = np.isfinite(sides).any(axis=0)
    cap = np.broadcast_to(np.asarray(length, dtype=float), reached.shape)[reached]
    sides = np.where(np.isinf(sides), np.nan, sides)[:, reached]
    _, wins, ties, losses, ratio, low, high, p = paired_ratio(*sides, cap=cap)
    rank = signed_rank(*sides, cap=cap).p
    p, rank = (p, rank) if n >= FEWEST else (np.nan, np.nan)
    counts = {"wins": wins, "ties": ties + int((~reached).sum()), "losses": losses}
    return counts | {"ratio": ratio, "low": low, "high": high, "p": p, "p_rank": rank}


def at_defaults(runs: pd.DataFrame, *, protocol: str, but: Sequence[str] = ()) -> pd.DataFrame:
    """Select the runs whose fields of `ARM`, except ``but``, are their protocol's defaults.

    The run that a prompt begins with belongs to how it begins: ``init_run`` to ``init``.
    """
    but = [*but, "init_run"] if "init" in but else but
    columns = [column for column in ARM if column in runs and column not in but]
    usual, values = np.ones(len(runs), bool), {name: runs[name].to_numpy() for name in columns}
    for model, rows in runs.groupby("model", observed=True).indices.items():
        default = RunSpec(model=str(model), protocol=protocol)
        for name in columns:
            usual[rows] &= values[name][rows] == getattr(default, name)
    return runs[usual]


def most_run(runs: pd.DataFrame) -> str:
    """Return the model with the most runs, tiny random ones aside: the one that decides claims."""
    models = runs.model[~runs.model.astype(str).str.startswith("tiny-")]
    return str(models.value_counts().index[0]) if len(models) else ""


def comparable(runs: pd.DataFrame, *, protocol: str, length: int | None = LENGTH) -> pd.DataFrame:
    """Select runs of a protocol, at its defaults except for method and weight, one of each kind.

    Tiny random models are left out: they know nothing, so they decide nothing. ``length`` as in
    `units`.
    """
    if runs.empty:
        return runs
    runs = runs[(runs.protocol == protocol) & ~runs.model.str.startswith("tiny-")]
    runs = at_defaults(runs, protocol=protocol)
    weight = runs.lambda_ts.astype(str)
    return one_of_each(runs.assign(arm=runs.method + weight), length).drop(columns="arm")


def one_of_each(runs: pd.DataFrame, length: int | None) -> pd.DataFrame:
    """Keep one long enough run of each unit, seed and arm, by the rule that `units` states."""
    runs = runs if length is None else runs[runs.epochs >= length]
    usual = RunSpec().snapshot_every
    recorded = runs.snapshot_every != usual if "snapshot_every" in runs else False
    order = runs.assign(other=recorded, size=runs.epochs if length else -runs.epochs)
    order = order.sort_values(["other", "size", "id"], kind="stable")
    kept = order.drop_duplicates([*UNIT, "seed", "arm"])
    return runs.loc[runs.index.isin(kept.index)] if runs.index.is_unique else kept


def odd_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the first odd number of seeds of each unit and arm, in their order."""
    runs = runs.sort_values("seed", kind="stable")
    seeds = runs.groupby([*UNIT, "arm"]).seed
    size = seeds.transform("size")
    return runs[seeds.cumcount() < size - (size % 2 == 0)]
