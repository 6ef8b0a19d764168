"""The runs that may decide claims, and one value of each for every independent unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd

from tsp.paper import ALPHA
from tsp.spec import METHOD_FIELDS, RunSpec

UNIT = ["model", "task", "regime", "source", "problem"]
STRATUM = ["model", "task", "regime"]
ARM = (
    "lr",
    "n_tokens",
    "init",
    "placement",
    "embed_scale",
    "check_every",
    "early_stop",
    "max_new_tokens",
    "wrong_answers",
    "schedule",
    "warmup_fraction",
    "clip_norm",
    "init_run",
    "rounding",
    *METHOD_FIELDS,
)


@dataclass(frozen=True)
class Evidence:
    """The runs that may decide claims, all under one protocol and otherwise at its defaults.

    Attributes
    ----------
    runs
        One row a run, as `tsp.records.load_runs` gives it (`tsp.runs.Store.frame` will do).
    topology
        One row a check of a run: ``id``, ``epoch``, columns of `tsp.topology.summarize`.
    losses
        One row an epoch of a run: ``id``, ``epoch``, ``ce``, ``total``.
    answers
        One row a held-out problem and prompt: ``id`` of the run, ``model``, ``task``, ``sha256``
        of the problem, ``correct`` (`tsp.heldout.evaluate`).
    alpha
        What the p of a claim's test must be below: Holm's share of `ALPHA`.
    """

    runs: pd.DataFrame
    topology: pd.DataFrame
    losses: pd.DataFrame
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    alpha: float = ALPHA
    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


def coded(evidence: Evidence) -> Evidence:
    """The same with numbers in place of the names that rows are matched and grouped by.

    Ten thousand runs have a million epochs, and names as texts take most of the time.
    """
    if evidence.runs.empty:
        return evidence
    names = {name: evidence.runs[name].astype("category") for name in ("id", *UNIT)}
    kind = names["id"].dtype
    parts = {
        name: rows[rows.id.isin(evidence.runs.id)].assign(id=lambda it: it.id.astype(kind))
        for name, rows in (("topology", evidence.topology), ("losses", evidence.losses))
    }
    return replace(evidence, runs=evidence.runs.assign(**names), **parts)


def _once(work: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Compute a table of the same runs once: several rules ask for it, and at several levels."""

    @wraps(work)
    def found(evidence: Evidence, *told: Any, **named: Any) -> pd.DataFrame:
        about = (work.__name__, id(evidence.runs), repr(told), repr(named))
        if about not in evidence.known:  # with the runs, so that no others take their id
            evidence.known[about] = (evidence.runs, work(evidence, *told, **named))
        return evidence.known[about][1]

    return found


def comparable(runs: pd.DataFrame, *, protocol: str) -> pd.DataFrame:
    """Runs under a protocol with everything else at its default, the longest of each kind.

    Tiny random models are left out: they know nothing, so they decide nothing.
    """
    if runs.empty:
        return runs
    runs = runs[(runs.protocol == protocol) & ~runs.model.str.startswith("tiny-")]
    if "content" in runs:  # a problem is what it holds, wherever it was read and by what number
        runs = runs.assign(problem=runs.content, source="")
    kind = [*UNIT, "seed", "method", "lambda_ts"]
    shortest_first = at_defaults(runs, protocol=protocol).sort_values("epochs", kind="stable")
    return shortest_first.drop_duplicates(kind, keep="last")


def at_defaults(runs: pd.DataFrame, *, protocol: str, but: Sequence[str] = ()) -> pd.DataFrame:
    """Runs whose fields of `ARM`, but for some, are what their model has under a protocol."""
    columns = [column for column in ARM if column in runs.columns and column not in but]
    usual = pd.Series(True, index=runs.index)
    for model, rows in runs.groupby("model"):
        default = RunSpec(model=str(model), protocol=protocol)
        for column in columns:
            usual[rows.index] &= rows[column] == getattr(default, column)
    return runs[usual]


@_once
def plain_checks(evidence: Evidence) -> pd.DataFrame:
    """Checks of the runs without TSLoss, with their seed and what identifies their unit."""
    runs = evidence.runs
    if runs.empty:
        return pd.DataFrame()
    plain = runs.loc[runs.method == "ce", ["id", "seed", "solved_epoch", "solved_at_start", *UNIT]]
    return plain.merge(evidence.topology, on="id").sort_values(["id", "epoch"])


@_once
def first_and_last(evidence: Evidence, feature: str) -> pd.DataFrame:
    """First and last value of a summary and the change; medians over runs, one row a unit."""
    rows = plain_checks(evidence)
    if rows.empty:
        return pd.DataFrame(columns=["first", "last"])
    ends = rows.groupby(["id", *UNIT])[feature].agg(["first", "last", "size"]).query("size > 1")
    ends["change"] = ends["last"] - ends["first"]
    return ends.groupby(UNIT)[["first", "last", "change"]].median()


@_once
def at_balanced_check(evidence: Evidence, feature: str) -> pd.DataFrame:
    """One row a unit: its stratum, the summary and the share of its runs solved by then.

    Each stratum is read at the check, among those that all its runs have, at which the share of
    solved runs is nearest one half; strata that do not vary then are left out. Runs of less than
    half the longest one's length do not count: they would move the check of all.
    """
    rows = _balanced(evidence)
    if rows.empty:
        return rows
    rows = rows[["epoch", *UNIT, feature, "accuracy"]]
    values = rows.groupby(STRATUM)[[feature, "accuracy"]].transform("nunique")
    return rows[(values > 1).all(axis=1)]


@_once
def _balanced(evidence: Evidence) -> pd.DataFrame:
    """One row a unit: all summaries at the check that `at_balanced_check` reads its stratum at."""
    rows = plain_checks(evidence)
    if rows.empty:
        return pd.DataFrame()
    rows = rows[~rows.solved_at_start.astype(bool)]
    last = rows.groupby("id").epoch.transform("max")
    rows = rows[last >= last.groupby([rows[key] for key in STRATUM]).transform("max") / 2]
    rows = rows.assign(accuracy=(rows.solved_epoch <= rows.epoch).astype(float))
    chosen = [_nearest_half(stratum) for _, stratum in rows.groupby(STRATUM)]
    return pd.concat(chosen) if chosen else pd.DataFrame()


def _nearest_half(rows: pd.DataFrame) -> pd.DataFrame:
    runs = rows.groupby("epoch").id.nunique()
    rows = rows[rows.epoch.isin(runs.index[runs == rows.id.nunique()])]
    shown = rows.columns.difference(["id", "seed", "epoch", "solved_epoch", "solved_at_start"])
    units = rows.groupby(["epoch", *UNIT])[[*shown.difference(UNIT)]].mean()
    if units.empty:
        return units.reset_index()
    epoch = (units.accuracy.groupby("epoch").mean() - 0.5).abs().idxmin()
    return units.loc[[epoch]].reset_index()


@_once
def pairs(evidence: Evidence, *, lambda_ts: float) -> pd.DataFrame:
    """Runs that differ in TSLoss alone, one row a pair; ``id_ce`` and ``id_ts`` name them."""
    runs = evidence.runs
    if runs.empty:
        return pd.DataFrame()
    arms = (runs.method == "ce", (runs.method == "tsloss") & (runs.lambda_ts == lambda_ts))
    ce, ts = (runs.loc[arm, [*UNIT, "seed", "id"]] for arm in arms)
    both = ce.merge(ts, on=[*UNIT, "seed"], suffixes=("_ce", "_ts"))
    return both


@_once
def solved(evidence: Evidence, *, weights: Sequence[float]) -> pd.DataFrame:
    """Iterations at several weights of TSLoss: one row a unit, a column a weight, and ``limit``.

    Only seeds with all the weights count, and of a problem that no untrained prompt of theirs
    solves. All runs of a unit are read up to the shortest one's length, ``limit``; what is not
    solved by then is infinite. Medians over seeds; of an even number of them the lower of the two
    in the middle, since a mean with a run that never arrived would be infinite.
    """
    runs = evidence.runs
    names = [*weights, "limit"]
    if runs.empty:
        return pd.DataFrame(columns=names, dtype=float)
    runs = runs[runs.method.isin(["ce", "tsloss"]) & runs.lambda_ts.isin(weights)]
    seeds = runs.groupby([*UNIT, "seed"])
    whole = seeds.lambda_ts.transform("nunique") == len(weights)
    started = runs.solved_at_start.astype(bool).groupby([runs[it] for it in [*UNIT, "seed"]])
    runs = runs[whole & ~started.transform("any")]
    limit = runs.groupby(UNIT).epochs.transform("min")
    runs = runs.assign(limit=limit, first=runs.solved_epoch.where(runs.solved_epoch <= limit))
    runs["first"] = runs["first"].fillna(np.inf)
    table = runs.groupby([*UNIT, "lambda_ts"])["first"].quantile(0.5, interpolation="lower")
    units = table.unstack("lambda_ts").reindex(columns=list(weights))
    return units.join(runs.groupby(UNIT).limit.first())[names]


def iterations(evidence: Evidence, *, lambda_ts: float) -> pd.DataFrame:
    """Iterations of each unit without (``ce``) and with TSLoss (``ts``), as `solved` has them."""
    units = solved(evidence, weights=(0.0, lambda_ts))
    return units.set_axis(["ce", "ts", "limit"], axis=1)


def same_conditions(answers: pd.DataFrame) -> pd.DataFrame:
    """Of each model and task, the answers of one longest length and precision: the most there are.

    What a model answers depends on both, so answers under different ones are not pooled.
    """
    if answers.empty:
        return answers
    known = answers.groupby(["model", "task", "longest", "precision"]).size()
    most = (
        known.sort_values(kind="stable")
        .reset_index()
        .drop_duplicates(["model", "task"], keep="last")
    )
    return answers.merge(most[["model", "task", "longest", "precision"]])


def unseen_shares(evidence: Evidence, *, methods: Sequence[str], fewest: int) -> pd.DataFrame:
    """Share of held-out problems answered right: one row a unit, a column a method at weight 1.

    Medians over the seeds that were trained with all the methods; of a model and task, only
    problems that all these prompts were asked, at least so many.
    """
    runs, answers = evidence.runs, same_conditions(evidence.answers)
    if runs.empty or answers.empty:
        return pd.DataFrame()
    runs = runs[runs.method.isin(methods) & (runs.lambda_ts == (runs.method != "ce"))]
    runs = runs[runs.id.isin(answers.id)]
    runs = runs[runs.groupby([*UNIT, "seed"]).method.transform("nunique") == len(methods)]
    told = runs[["id", *UNIT, "method"]].merge(answers[["id", "sha256", "correct"]], on="id")
    of_task = told.groupby(["model", "task"])
    by_all = told.groupby(["model", "task", "sha256"]).id.transform("nunique")
    told = told[by_all == of_task.id.transform("nunique")]
    told = told[told.groupby("id").sha256.transform("nunique") >= fewest]
    share = told.groupby(["id", *UNIT, "method"]).correct.mean().reset_index(name="share")
    return share.groupby([*UNIT, "method"]).share.median().unstack("method").dropna()


def side_by_side(both: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Values of the two runs of each pair at the epochs that both have."""
    keys = both[[*UNIT, "seed", "id_ce", "id_ts"]]
    ce = keys.merge(values, left_on="id_ce", right_on="id").drop(columns="id")
    ts = values.rename(columns={"id": "id_ts"})
    return ce.merge(ts, on=["id_ts", "epoch"], suffixes=("_ce", "_ts"))
