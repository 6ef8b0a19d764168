"""The evidence for claims: comparable runs of a store, and one row per unit of what they show."""

from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from tsp.analysis.records import scored
from tsp.analysis.units import STRATUM, UNIT, comparable, odd_seeds, units, wide

P = ParamSpec("P")
Result = TypeVar("Result")


def cached(
    function: Callable[Concatenate["Evidence", P], Result],
) -> Callable[Concatenate["Evidence", P], Result]:
    """Compute a function once for each evidence: claims are decided twice, for Holm's levels."""

    @wraps(function)
    def once(evidence: "Evidence", *args: P.args, **options: P.kwargs) -> Result:
        key = (function, args, *options.items())
        if key not in evidence.results:
            evidence.results[key] = function(evidence, *args, **options)
        return evidence.results[key]

    return once


class Evidence:
    """Runs that may decide claims under a protocol, and their tables, cut to ``length`` epochs.

    Of ``runs`` (`tsp.analysis.records.load_runs`) those at the protocol's defaults are kept, except
    for method and weight. ``topology``, ``losses`` and ``accuracy`` have one row per check or
    epoch: ``id``, ``epoch`` and the columns of `summarize`, ``ce`` and ``total``, or ``accuracy``
    and ``asks_all``.
    ``answers`` come from `tsp.analysis.evaluation.evaluate`, ``variances`` from `surrogate`.
    """

    def __init__(
        self,
        runs: pd.DataFrame,
        topology: pd.DataFrame,
        losses: pd.DataFrame,
        accuracy: pd.DataFrame,
        *,
        protocol: str,
        length: int | None,
        answers: pd.DataFrame | None = None,
        variances: pd.DataFrame | None = None,
    ) -> None:
        self.protocol, self.length = protocol, length
        # As categories, since merging a million epochs by text would take most of the time.
        runs = comparable(runs, protocol=protocol, length=length)
        self.runs = runs.astype(dict.fromkeys(["id", *UNIT], "category"))
        self.topology, self.losses, self.accuracy = map(self._cut, (topology, losses, accuracy))
        self.answers = pd.DataFrame() if answers is None else answers
        self.variances = pd.DataFrame() if variances is None else variances
        self.results: dict[Any, Any] = {}  # of `cached` functions

    def _cut(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Keep the rows of the runs, up to the length."""
        rows = rows if self.length is None else rows[rows.epoch <= self.length]
        return rows.assign(id=rows.id.astype(self.runs.id.dtype)).dropna(subset="id")

    @cached_property
    def plain_checks(self) -> pd.DataFrame:
        """The checks of runs without TSLoss, of an odd number of runs per unit."""
        plain = odd_seeds(self.runs[self.runs.method == "ce"].assign(arm="ce"))
        plain = plain[["id", "seed", "solved_epoch", "solved_at_start", *UNIT]]
        return plain.merge(self.topology, on="id").sort_values(["id", "epoch"])

    @cached_property
    def scored_checks(self) -> pd.DataFrame:
        """Those of the plain checks that ask every problem by plan, with ``accuracy``."""
        return scored(self.plain_checks, self.accuracy)

    @cached_property
    def balanced_checks(self) -> pd.DataFrame:
        """The mean summaries of each unit at the check at which half of its stratum is solved.

        Each stratum is read at the check, among those that all its runs have, at which the share of
        solved runs is nearest one half. Runs shorter than half the longest would move that check
        and are left out. ``accuracy`` is the share of a unit's runs that are solved by then.
        """
        rows = self.plain_checks
        rows = rows[~rows.solved_at_start.astype(bool)]
        rows = rows.assign(last=rows.groupby("id").epoch.transform("max"))
        rows = rows[rows["last"] >= rows.groupby(STRATUM)["last"].transform("max") / 2]
        runs = rows.groupby([*STRATUM, "epoch"]).id.transform("nunique")
        rows = rows[runs == rows.groupby(STRATUM).id.transform("nunique")]
        rows = rows.assign(accuracy=(rows.solved_epoch <= rows.epoch).astype(float))
        rows = rows.drop(columns=["id", "seed", "solved_epoch", "solved_at_start", "last"])
        means = rows.groupby([*UNIT, "epoch"]).mean()
        apart = (means.accuracy.groupby([*STRATUM, "epoch"]).mean() - 0.5).abs().reset_index()
        nearest = apart.sort_values(["accuracy", "epoch"]).drop_duplicates(STRATUM)
        return means.reset_index().merge(nearest[[*STRATUM, "epoch"]])

    @cached
    def units(self, weights: tuple[float, ...]) -> pd.DataFrame:
        """Make the table of units with weights of TSLoss as arms; 0 is Standard."""
        arms: Any = {x: {"method": "tsloss" if x else "ce", "lambda_ts": x} for x in weights}
        about: dict[str, Any] = {"protocol": self.protocol, "length": self.length}
        return units(self.runs, arms, accuracy=self.accuracy, **about)


@cached
def first_and_last(evidence: Evidence, feature: str) -> pd.DataFrame:
    """Return first and last value of a summary and its change, medians over each unit's runs."""
    runs = evidence.plain_checks.groupby(["id", *UNIT])[feature]
    ends = runs.agg(["first", "last", "size"]).query("size > 1")
    ends["change"] = ends["last"] - ends["first"]
    return ends.groupby(UNIT)[["first", "last", "change"]].median()


def later_half(checks: pd.DataFrame) -> pd.Series:
    """Return 0 in the first half of each run's checks, 1 in the second, nan for a middle one."""
    number = checks.groupby("id").cumcount() + 0.5
    middle = checks.groupby("id").id.transform("size") / 2
    return (number > middle).astype(float).where(number != middle)


@cached
def at_balanced_check(evidence: Evidence, feature: str) -> pd.DataFrame:
    """Return a summary and ``accuracy`` of each unit in `balanced_checks`, and its ``stratum``.

    Strata in which the summary or the accuracy does not vary are left out.
    """
    strata = evidence.balanced_checks.groupby(STRATUM)
    varies = (strata[[feature, "accuracy"]].transform("nunique") > 1).all(axis=1)
    rows = evidence.balanced_checks[[*UNIT, feature, "accuracy"]][varies]
    return rows.assign(stratum=rows.groupby(STRATUM).ngroup())


@cached
def side_by_side(evidence: Evidence, table: str, value: str) -> pd.DataFrame:
    """Pair a value of Standard (``_ce``) and TSLoss at weight 1 (``_ts``) at their common epochs.

    ``table`` is ``topology`` or ``losses``, ``value`` one of its columns. A pair of runs shares
    unit and seed; each unit has the first odd number of its pairs.
    """
    runs, keys = evidence.runs, [*UNIT, "seed"]
    values = getattr(evidence, table)[["id", "epoch", value]]
    standard = runs.loc[runs.method == "ce", [*keys, "id"]]
    treated = runs.loc[(runs.method == "tsloss") & (runs.lambda_ts == 1.0), [*keys, "id"]]
    pairs = odd_seeds(standard.merge(treated, on=keys, suffixes=("", "_ts")).assign(arm="pair"))
    both = pairs[[*keys, "id", "id_ts"]].merge(values, on="id").drop(columns="id")
    treated_values = values.rename(columns={"id": "id_ts"})
    return both.merge(treated_values, on=["id_ts", "epoch"], suffixes=("_ce", "_ts"))


@cached
def iterations(
    evidence: Evidence, weights: tuple[float, ...], value: str = "iterations"
) -> pd.DataFrame:
    """Return each unit's iterations, one column per weight of TSLoss, and ``length``."""
    return wide(evidence.units(weights), value).reindex(columns=[*weights, "length"])


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
    """Return the share of held-out problems answered correctly, by unit (row) and method (column).

    Each is a median over the seeds that were trained with all the methods. Of a model and task,
    only problems that all these prompts were asked count, and there must be ``fewest`` of them.
    """
    runs, answers = evidence.runs, same_conditions(evidence.answers)
    if answers.empty:
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
