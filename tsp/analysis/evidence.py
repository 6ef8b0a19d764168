"""What claims are decided by: the comparable runs of a store, and features of each unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import pandas as pd

from tsp.analysis.units import PAIR, STRATUM, UNIT, comparable, odd_seeds, units, wide
from tsp.experiments.paper import ALPHA


@dataclass(frozen=True)
class Evidence:
    """Runs under one protocol, all but method and weight at its defaults, and what they left.

    Attributes
    ----------
    runs
        One row a run, as `tsp.analysis.records.load_runs` gives it
        (`tsp.analysis.units.comparable`).
    topology
        One row a check of a run: ``id``, ``epoch``, columns of `tsp.topology.diagrams.summarize`.
    losses
        One row an epoch of a run: ``id``, ``epoch``, ``ce``, ``total``.
    accuracy
        One row a check of a run: ``id``, ``epoch``, ``accuracy``
        (`tsp.analysis.records.load_accuracy`).
    answers
        One row a held-out problem and prompt (`tsp.analysis.heldout.evaluate`).
    variances
        One row a unit, of its last Standard prompt: ``soft_variance``, ``death_variance``.
    protocol, length
        Of the runs; ``length`` epochs are read of each (None: all).
    alpha
        What the p of a claim's test must be below: Holm's share of `ALPHA` in its family.
    simultaneous
        Level of the intervals: `ALPHA` over the number of claims tested in the family.
    """

    runs: pd.DataFrame
    topology: pd.DataFrame
    losses: pd.DataFrame
    accuracy: pd.DataFrame = field(default_factory=pd.DataFrame)
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    variances: pd.DataFrame = field(default_factory=pd.DataFrame)
    protocol: str = "tuned"
    length: int | None = None
    alpha: float = ALPHA
    simultaneous: float = ALPHA
    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def levels(self) -> dict[str, float]:
        """Return both levels as the judges take them."""
        return {"alpha": self.alpha, "simultaneous": self.simultaneous}


def gathered(
    runs: pd.DataFrame,
    topology: pd.DataFrame,
    losses: pd.DataFrame,
    accuracy: pd.DataFrame,
    *,
    protocol: str,
    length: int | None,
    **more: pd.DataFrame,
) -> Evidence:
    """Choose the runs that may decide under a protocol, and cut all their tables to ``length``.

    Names are coded as numbers: ten thousand runs have a million epochs, and matching rows by text
    takes most of the time.
    """
    chosen = comparable(runs, protocol=protocol, length=length)
    about = {"protocol": protocol, "length": length, **more}
    if chosen.empty:
        return Evidence(chosen, topology.iloc[:0], losses.iloc[:0], accuracy.iloc[:0], **about)
    names = {name: chosen[name].astype("category") for name in ("id", *UNIT)}
    kind = names["id"].dtype

    def cut(rows: pd.DataFrame) -> pd.DataFrame:
        if rows.empty:
            return rows
        kept = rows[rows.id.isin(chosen.id)]
        kept = kept if length is None else kept[kept.epoch <= length]
        return kept.assign(id=kept.id.astype(kind))

    return Evidence(chosen.assign(**names), cut(topology), cut(losses), cut(accuracy), **about)


def _once(work: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Compute a table of the same runs once: several rules ask for it, and at several levels."""

    @wraps(work)
    def found(evidence: Evidence, *told: Any, **named: Any) -> pd.DataFrame:
        about = (work.__name__, repr(told), repr(named))
        if about not in evidence.known:
            evidence.known[about] = work(evidence, *told, **named)
        return evidence.known[about]

    return found


@_once
def plain_checks(evidence: Evidence) -> pd.DataFrame:
    """Checks of an odd number of runs without TSLoss of each unit, with what identifies it."""
    runs = evidence.runs
    if runs.empty or evidence.topology.empty:
        return pd.DataFrame()
    plain = odd_seeds(runs[runs.method == "ce"].assign(arm="ce"))
    plain = plain[["id", "seed", "solved_epoch", "solved_at_start", *UNIT]]
    return plain.merge(evidence.topology, on="id").sort_values(["id", "epoch"])


@_once
def first_and_last(evidence: Evidence, feature: str) -> pd.DataFrame:
    """First and last value of a summary and the change; medians over runs, one row a unit."""
    rows = plain_checks(evidence)
    if rows.empty:
        return pd.DataFrame(columns=["first", "last", "change"])
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
    found = rows.groupby(["epoch", *UNIT])[[*shown.difference(UNIT)]].mean()
    if found.empty:
        return found.reset_index()
    epoch = (found.accuracy.groupby("epoch").mean() - 0.5).abs().idxmin()
    return found.loc[[epoch]].reset_index()


@_once
def pairs(evidence: Evidence, *, lambda_ts: float) -> pd.DataFrame:
    """Runs that differ in TSLoss alone, one row a pair; ``id_ce`` and ``id_ts`` name them.

    Of each unit the first odd number of seeds that have both, as in the table of units.
    """
    runs = evidence.runs
    if runs.empty:
        return pd.DataFrame()
    arms = (runs.method == "ce", (runs.method == "tsloss") & (runs.lambda_ts == lambda_ts))
    ce, ts = (runs.loc[arm, [*UNIT, "seed", "id"]] for arm in arms)
    both = ce.merge(ts, on=[*UNIT, "seed"], suffixes=("_ce", "_ts"))
    return odd_seeds(both.assign(arm="pair")).drop(columns="arm")


@_once
def solved(evidence: Evidence, *, weights: Sequence[float]) -> pd.DataFrame:
    """Iterations at several weights of TSLoss, from the table of units: a column a weight."""
    arms = {
        weight: {"method": "tsloss" if weight else "ce", "lambda_ts": weight} for weight in weights
    }
    if evidence.runs.empty:
        return pd.DataFrame(columns=[*weights, "length"], dtype=float)
    table = units(
        evidence.runs,
        arms,  # type: ignore[arg-type]
        protocol=evidence.protocol,
        length=evidence.length,
    )
    return wide(table).reindex(columns=[*weights, "length"])


@_once
def pair_units(evidence: Evidence) -> pd.DataFrame:
    """The table of units of Standard and TSLoss at weight 1."""
    about = {"protocol": evidence.protocol, "length": evidence.length}
    return units(evidence.runs, PAIR, accuracy=evidence.accuracy, **about)  # type: ignore[arg-type]


def iterations(
    evidence: Evidence, *, lambda_ts: float = 1.0, sustained: bool = False
) -> pd.DataFrame:
    """Iterations of each unit without (``ce``) and with TSLoss (``ts``), and ``length``."""
    if lambda_ts == 1.0:
        table = wide(pair_units(evidence), "sustained" if sustained else "iterations")
        return table.reindex(columns=["ce", "tsloss", "length"]).set_axis(
            ["ce", "ts", "length"], axis=1
        )
    return solved(evidence, weights=(0.0, lambda_ts)).set_axis(["ce", "ts", "length"], axis=1)


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
    """Share of held-out problems answered correctly: one row a unit, a column a method at weight 1.

    Medians over the seeds that were trained with all the methods; of a model and task, only
    problems that all these prompts were asked, at least so many.
    """
    runs, answers = evidence.runs, same_conditions(evidence.answers)
    if runs.empty or answers.empty:
        return pd.DataFrame()
    runs = runs[runs.method.isin(methods) & (runs.lambda_ts == (runs.method != "ce"))]
    runs = runs[runs.id.isin(answers.id)]
    runs = runs[runs.groupby([*UNIT, "seed"]).method.transform("nunique") == len(methods)]
    told = runs[["id", *UNIT, "method"]].astype({"id": str, "model": str, "task": str})
    told = told.merge(answers[["id", "sha256", "correct"]], on="id")
    of_task = told.groupby(["model", "task"])
    by_all = told.groupby(["model", "task", "sha256"]).id.transform("nunique")
    told = told[by_all == of_task.id.transform("nunique")]
    told = told[told.groupby("id").sha256.transform("nunique") >= fewest]
    share = told.groupby(["id", *UNIT, "method"]).correct.mean()
    share = share.reset_index(name="share")
    return share.groupby([*UNIT, "method"]).share.median().unstack("method").dropna()


def side_by_side(both: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Values of the two runs of each pair at the epochs that both have."""
    keys = both[[*UNIT, "seed", "id_ce", "id_ts"]]
    ce = keys.merge(values, left_on="id_ce", right_on="id").drop(columns="id")
    ts = values.rename(columns={"id": "id_ts"})
    return ce.merge(ts, on=["id_ts", "epoch"], suffixes=("_ce", "_ts"))
