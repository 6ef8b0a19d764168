"""All runs of a store as data frames for analysis: one row per run, check, epoch or answer."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from tsp.analysis.units import ARM
from tsp.errors import Damaged
from tsp.store.record import SUMMARY, summary
from tsp.store.run import read_tables
from tsp.store.runs import ANSWERS, Store
from tsp.topology import SUMMARY_COLUMNS
from tsp.training.protocols import LENGTH
from tsp.training.spec import REGIMES, RunSpec, later_fields

TASK_NAMES = {
    "gsm8k": "GSM8K",
    "mmlu_cf": "MMLU-CF",
    "longbench": "LongBench",
    "math": "MATH",
    "bbh": "BBH",
    "hotpotqa": "HotpotQA",
}
METHOD_NAMES = {
    "ce": "Standard",
    "tsloss": "+TSLoss",
    "l2": "+L2",
    "pairwise": "+Pairwise",
    "persistence": "+Persistence",
    "sham": "+Sham",
}
ORIGINS = ("published", "own")
PROTOCOL_ORDER = ("tuned", "paper", "released")
ANSWER_COLUMNS = [
    *("id", "model", "task", "source", "row", "sha256"),
    *("longest", "precision", "score", "correct", "ce", "target_tokens"),
]
ANSWER_KEY = ["id", "model", "task", "sha256", "longest", "precision"]
ANSWER_TYPES = {"correct": "boolean", "ce": float, "target_tokens": float}
NO_PROMPT = "no prompt"
"""In place of a run's id: the model was asked without a prompt."""
CHECKED = ["epoch", *SUMMARY_COLUMNS]
LOSSES = ["epoch", "ce", "total"]


def load_runs(store: Store) -> pd.DataFrame:
    """Return one row per valid run: the columns of `Store.frame` and the rest of its spec.

    Returns
    -------
    DataFrame
        Also ``content``, the first digits of the problems' hashes joined by ``+``, and
        ``setting``: how the run differs from its protocol's defaults for its model, in words;
        empty if it does not; ``published``: whether it comes with the book.
    """
    runs = store.valid_runs()[0]
    origins = {run.folder.parent: run for run in runs}  # few: files are not asked for each run
    published = {folder: run.published for folder, run in origins.items()}
    rows = [
        later_fields(run.record["spec"]["protocol"])
        | run.record["spec"]
        | summary(run.record)
        | {"content": "+".join(problem["sha256"][:8] for problem in run.record["problems"])}
        | {"setting": _setting(run.record["spec"]), "published": published[run.folder.parent]}
        for run in runs
    ]
    more = [field.name for field in fields(RunSpec) if field.name not in (*SUMMARY, "data")]
    return pd.DataFrame(rows, columns=[*SUMMARY, *more, "content", "setting", "published"])


def _setting(spec: Mapping[str, Any]) -> str:
    """Name the fields of `ARM` in which a run differs from its protocol's defaults."""
    usual = _defaults(spec["model"], spec["protocol"])
    if usual.items() <= spec.items():  # as most are
        return ""
    values = {name: spec.get(name, value) for name, value in usual.items()}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != usual[name])


@cache
def _defaults(model: str, protocol: str) -> dict[str, Any]:
    spec = RunSpec(model=model, protocol=protocol)
    return {name: getattr(spec, name) for name in ARM}


def load_evidence(
    store: Store,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Load what claims are decided by: runs, topology, ``ce`` and ``total`` by epoch, accuracy.

    As `load_runs`, `load_topology`, `load_losses` and `load_accuracy`, but the store is read once.
    """
    store = store.snapshot()
    losses = _rows(store, "epochs", LOSSES)
    return load_runs(store), load_topology(store), losses, load_accuracy(store)


def load_topology(store: Store) -> pd.DataFrame:
    """One row per check of a run: ``id``, ``epoch`` and `SUMMARY_COLUMNS`."""
    return _rows(store, "topology", empty=CHECKED)


def load_losses(store: Store) -> pd.DataFrame:
    """One row per epoch of a run: ``id``, ``epoch``, ``ce``, ``total`` and all of `Run.epochs`."""
    return _rows(store, "epochs", empty=LOSSES)


def load_accuracy(store: Store) -> pd.DataFrame:
    """One row per check of a run: ``id``, ``epoch``, ``accuracy`` (the share of right answers).

    ``accuracy`` is nan for a check that ended at its first wrong answer: the share is below 1 and
    not known. ``asks_all`` is true where the plan asks every problem (``snapshot_every`` of
    `tsp.training.spec.RunSpec`). Only those are `scored`: of the others mostly the right are known.
    """
    checks = _rows(store, "checks", ["epoch", "correct"])
    shares = checks.groupby(["id", "epoch"]).correct.agg(["mean", "size"]).reset_index()
    records = {run.id: run.record for run in store.valid_runs()[0]}
    about = {i: (len(it["problems"]), it["spec"]) for i, it in records.items()}
    ids = shares.id.astype(str)
    problems = ids.map({i: size for i, (size, _) in about.items()})
    every = ids.map({i: spec["snapshot_every"] for i, (_, spec) in about.items()})
    last = ids.map({i: spec["epochs"] for i, (_, spec) in about.items()})
    shares["accuracy"] = shares["mean"].astype(float).where(shares["size"] == problems)
    shares["asks_all"] = (problems == 1) | (shares.epoch % every == 0) | (shares.epoch == last)
    return shares[["id", "epoch", "accuracy", "asks_all"]]


def scored(checks: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """Join checks with `load_accuracy` where the plan asks every problem."""
    asked = accuracy[accuracy.asks_all.astype(bool)].drop(columns="asks_all")
    return checks.merge(asked, on=["id", "epoch"])


def _rows(
    store: Store, name: str, columns: Sequence[str] | None = None, *, empty: Sequence[str] = ()
) -> pd.DataFrame:
    """Return table ``name`` of all valid runs, concatenated; the first column is the run's id.

    Ids are categories, or joining a million epochs by them would take most of the time.
    ``columns`` selects some of its columns; ``empty`` names them where there is no run.
    """
    runs = store.valid_runs()[0]
    if not runs:
        return pd.DataFrame(columns=["id", *(columns or empty)])
    table = read_tables(runs, name, columns)
    return table.to_pandas(self_destruct=True, split_blocks=True)  # else all would be held twice


def by_origin(runs: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, int | None]]:
    """Split runs into ``published`` and ``own`` ones, each with the epochs to read of a run.

    Published runs are read over their stated length, a user's own up to the shortest of each unit.
    The first of the two decides what a table or a claim says.
    """
    public = runs.published.astype(bool)
    parts: dict[str, tuple[pd.DataFrame, int | None]] = {}
    if public.any():
        parts["published"] = (runs[public], LENGTH)
    if not public.all() or runs.empty:
        parts["own"] = (runs[~public], None)
    return parts


def deciding(runs: pd.DataFrame) -> tuple[pd.DataFrame, int | None]:
    """Return the published runs, or else a user's own, and how many epochs to read of each."""
    return next(iter(by_origin(runs).values()))


def in_order(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Sort by columns; origins, protocols, regimes and tasks in the order of the book."""
    names = [*ORIGINS, *PROTOCOL_ORDER, *REGIMES, *TASK_NAMES]
    rank = {name: f"{number:02}" for number, name in enumerate(names)}
    return rows.sort_values(columns, key=lambda column: column.replace(rank), ignore_index=True)


def load_answers(store: Store) -> pd.DataFrame:
    """Return the decoded rows of `load_heldout`: those that say whether the answer is right."""
    rows = load_heldout(store)
    return rows[rows.correct.notna()].astype({"correct": bool}).reset_index(drop=True)


def load_heldout(store: Store) -> pd.DataFrame:
    """Return what `tsp.analysis.evaluation.evaluate` measured, one row per prompt and problem.

    Returns
    -------
    DataFrame
        `ANSWER_COLUMNS`; no rows if nothing was asked. Missing are ``correct`` and ``score``
        where nothing was decoded (``longest`` is 0 there), and ``ce`` and ``target_tokens`` in
        files that were written before they were measured. A store's own rows replace published
        ones.

    Raises
    ------
    Damaged
        If a file cannot be read or lacks a column.
    """
    files = [folder / ANSWERS for folder in store.folders() if (folder / ANSWERS).is_file()]
    if not files:
        return pd.DataFrame(columns=ANSWER_COLUMNS).astype(ANSWER_TYPES)
    tables = [read_heldout(file) for file in files]
    return pd.concat(tables, ignore_index=True).drop_duplicates(ANSWER_KEY, ignore_index=True)


def read_heldout(file: Path) -> pd.DataFrame:
    """Read a file of answers, with the columns that older ones lack."""
    try:
        table = pd.read_parquet(file)
        older = {name: float("nan") for name in ("ce", "target_tokens") if name not in table}
        return table.assign(**older)[ANSWER_COLUMNS].astype(ANSWER_TYPES)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise Damaged(f"{file.name} cannot be read ({error})") from error
