"""The evidence for claims: comparable runs of a store, and one row a unit of what they show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from tsp.analysis.units import PAIR, STRATUM, UNIT, comparable, odd_seeds, units, wide


@dataclass(frozen=True)
class Evidence:
    """Runs under one protocol, at its defaults except for method and weight, and their tables."""

    runs: pd.DataFrame  # one row a run: `tsp.analysis.units.comparable` of `load_runs`
    topology: pd.DataFrame  # one row a check: id, epoch, columns of `summarize`
    losses: pd.DataFrame  # one row an epoch: id, epoch, ce, total
    accuracy: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a check
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)  # `tsp.analysis.heldout.evaluate`
    variances: pd.DataFrame = field(default_factory=pd.DataFrame)  # `equation13.surrogate`
    protocol: str = "tuned"
    length: int | None = None  # epochs that are read of each run; None: all

    @cached_property
    def plain_checks(self) -> pd.DataFrame:
        """Checks of runs without TSLoss, an odd number of runs a unit."""
        if self.runs.empty or self.topology.empty:
            return pd.DataFrame()
        plain = odd_seeds(self.runs[self.runs.method == "ce"].assign(arm="ce"))
        plain = plain[["id", "seed", "solved_epoch", "solved_at_start", *UNIT]]
        return plain.merge(self.topology, on="id").sort_values(["id", "epoch"])

    @cached_property
    def balanced_checks(self) -> pd.DataFrame:
        """All summaries of each unit at the check that `at_balanced_check` chooses."""
        rows = self.plain_checks
        if rows.empty:
            return pd.DataFrame()
        rows = rows[~rows.solved_at_start.astype(bool)]
        last = rows.groupby("id").epoch.transform("max")
        rows = rows[last >= last.groupby([rows[key] for key in STRATUM]).transform("max") / 2]
        rows = rows.assign(accuracy=(rows.solved_epoch <= rows.epoch).astype(float))
        chosen = [_nearest_half(stratum) for _, stratum in rows.groupby(STRATUM)]
        return pd.concat(chosen) if chosen else pd.DataFrame()

    @cached_property
    def pair_units(self) -> pd.DataFrame:
        """The table of units of Standard and TSLoss at weight 1."""
        return self._units(PAIR)

    def _units(self, arms: Any) -> pd.DataFrame:
        about: dict[str, Any] = {"protocol": self.protocol, "length": self.length}
        return units(self.runs, arms, accuracy=self.accuracy, **about)


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
    """Select the runs that may decide under a protocol, and cut their tables to ``length``.

    Names become categories: ten thousand runs have a million epochs, and merging them by text
    would take most of the time.
    """
    chosen = comparable(runs, protocol=protocol, length=length)
    about: dict[str, Any] = {"protocol": protocol, "length": length, **more}
    if chosen.empty:
        return Evidence(chosen, topology.iloc[:0], losses.iloc[:0], accuracy.iloc[:0], **about)
    names = {name: chosen[name].astype("category") for name in ("id", *UNIT)}

    def cut(rows: pd.DataFrame) -> pd.DataFrame:
        if rows.empty:
            return rows
        kept = rows[rows.id.isin(chosen.id)]
        kept = kept if length is None else kept[kept.epoch <= length]
        return kept.assign(id=kept.id.astype(names["id"].dtype))

    return Evidence(chosen.assign(**names), cut(topology), cut(losses), cut(accuracy), **about)


def first_and_last(evidence: Evidence, feature: str) -> pd.DataFrame:
    """First and last value of a summary and its change: one row a unit, medians over its runs."""
    rows = evidence.plain_checks
    if rows.empty:
        return pd.DataFrame(columns=["first", "last", "change"])
    ends = rows.groupby(["id", *UNIT])[feature].agg(["first", "last", "size"]).query("size > 1")
    ends["change"] = ends["last"] - ends["first"]
    return ends.groupby(UNIT)[["first", "last", "change"]].median()


def at_balanced_check(evidence: Evidence, feature: str) -> pd.DataFrame:
    """One row a unit: its stratum, a summary, and the share of its runs solved by that check.

    Each stratum is read at the check, among those that all its runs have, at which the share of
    solved runs is nearest one half. Strata in which the summary or the share does not vary are
    left out, and so are runs shorter than half the longest: they would move the check of all.
    """
    rows = evidence.balanced_checks
    if rows.empty:
        return rows
    rows = rows[["epoch", *UNIT, feature, "accuracy"]]
    values = rows.groupby(STRATUM)[[feature, "accuracy"]].transform("nunique")
    return rows[(values > 1).all(axis=1)]


def _nearest_half(rows: pd.DataFrame) -> pd.DataFrame:
    runs = rows.groupby("epoch").id.nunique()
    rows = rows[rows.epoch.isin(runs.index[runs == rows.id.nunique()])]
    shown = rows.columns.difference(["id", "seed", "epoch", "solved_epoch", "solved_at_start"])
    means = rows.groupby(["epoch", *UNIT])[[*shown.difference(UNIT)]].mean()
    if means.empty:
        return means.reset_index()
    epoch = (means.accuracy.groupby("epoch").mean() - 0.5).abs().idxmin()
    return means.loc[[epoch]].reset_index()


def pairs(evidence: Evidence) -> pd.DataFrame:
    """Runs that differ only in TSLoss at weight 1: one row a pair, ``id_ce`` and ``id_ts``.

    Each unit has the first odd number of the seeds that both have, as in the table of units.
    """
    runs = evidence.runs
    if runs.empty:
        return pd.DataFrame()
    arms = (runs.method == "ce", (runs.method == "tsloss") & (runs.lambda_ts == 1.0))
    ce, ts = (runs.loc[arm, [*UNIT, "seed", "id"]] for arm in arms)
    both = ce.merge(ts, on=[*UNIT, "seed"], suffixes=("_ce", "_ts"))
    return odd_seeds(both.assign(arm="pair")).drop(columns="arm")


def side_by_side(both: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Values of the two runs of each pair at the epochs that both have."""
    keys = both[[*UNIT, "seed", "id_ce", "id_ts"]]
    ce = keys.merge(values, left_on="id_ce", right_on="id").drop(columns="id")
    ts = values.rename(columns={"id": "id_ts"})
    return ce.merge(ts, on=["id_ts", "epoch"], suffixes=("_ce", "_ts"))


def solved(evidence: Evidence, weights: Sequence[float]) -> pd.DataFrame:
    """Iterations of each unit at several weights of TSLoss, a column a weight, and ``length``."""
    columns = [*weights, "length"]
    if evidence.runs.empty:
        return pd.DataFrame(columns=columns, dtype=float)
    arms = {
        weight: {"method": "tsloss" if weight else "ce", "lambda_ts": weight} for weight in weights
    }
    return wide(evidence._units(arms)).reindex(columns=columns)


def iterations(
    evidence: Evidence, *, lambda_ts: float = 1.0, sustained: bool = False
) -> pd.DataFrame:
    """Iterations of each unit without (``ce``) and with TSLoss (``ts``), and ``length``."""
    if lambda_ts == 1.0:
        table = wide(evidence.pair_units, "sustained" if sustained else "iterations")
        table = table.reindex(columns=["ce", "tsloss", "length"])
    else:
        table = solved(evidence, (0.0, lambda_ts))
    return table.set_axis(["ce", "ts", "length"], axis=1)


def same_conditions(answers: pd.DataFrame) -> pd.DataFrame:
    """Keep, for each model and task, the answers of the most frequent length and precision.

    What a model answers depends on both, so answers under different ones are not pooled.
    """
    if answers.empty:
        return answers
    condition = ["model", "task", "longest", "precision"]
    most = answers.groupby(condition).size().sort_values(kind="stable").reset_index()
    most = most.drop_duplicates(["model", "task"], keep="last")
    return answers.merge(most[condition])


def unseen_shares(evidence: Evidence, *, methods: Sequence[str], fewest: int) -> pd.DataFrame:
    """Share of held-out problems answered correctly: one row a unit, a column a method at weight 1.

    Each is a median over the seeds that were trained with all the methods. Of a model and task,
    only problems that all these prompts were asked count, and there must be ``fewest`` of them.
    """
    runs, answers = evidence.runs, same_conditions(evidence.answers)
    if runs.empty or answers.empty:
        return pd.DataFrame()
    runs = runs[runs.method.isin(methods) & (runs.lambda_ts == (runs.method != "ce"))]
    runs = runs[runs.id.isin(answers.id)]
    runs = runs[runs.groupby([*UNIT, "seed"]).method.transform("nunique") == len(methods)]
    asked = runs[["id", *UNIT, "method"]].astype({"id": str, "model": str, "task": str})
    asked = asked.merge(answers[["id", "sha256", "correct"]], on="id")
    prompts = asked.groupby(["model", "task"]).id.transform("nunique")
    asked = asked[asked.groupby(["model", "task", "sha256"]).id.transform("nunique") == prompts]
    asked = asked[asked.groupby("id").sha256.transform("nunique") >= fewest]
    share = asked.groupby(["id", *UNIT, "method"]).correct.mean().reset_index(name="share")
    return share.groupby([*UNIT, "method"]).share.median().unstack("method").dropna()
