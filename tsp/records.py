"""The runs of a store as data frames: one row a run, a check, an epoch, a pair or a cell."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tsp.evidence import ARM
from tsp.packs import DamagedPack
from tsp.runs import ANSWERS, Run, Store, summary, summary_columns
from tsp.schema import SUMMARY_COLUMNS, read_table
from tsp.spec import METHOD_FIELDS, REGIMES, RunSpec

TASK_NAMES = {
    "gsm8k": "GSM8K",
    "mmlu_cf": "MMLU-CF",
    "longbench": "LongBench",
    "math": "MATH",
    "bbh": "BBH",
    "hotpotqa": "HotpotQA",
}
PROTOCOL_ORDER = ("tuned", "paper", "released")
PAIR_COLUMNS = (
    *("model", "setting", "task", "regime", "source", "problem", "content", "seed", "protocol"),
    *("placement", "n_tokens", "lambda_ts", "id_standard", "id_tsloss"),
    *("standard", "tsloss", "cap", "solved_at_start"),
)
CELL_COLUMNS = (
    *("model", "setting", "regime", "task", "method"),
    *("median", "censored", "n", "n_at_start"),
)
ANSWER_COLUMNS = (
    *("id", "model", "task", "source", "row", "sha256"),
    *("longest", "precision", "score", "correct"),
)
ANSWER_KEY = ["id", "model", "task", "sha256", "longest", "precision"]
NO_PROMPT = "no prompt"
"""In place of a run's id: the model was asked without a prompt."""
ALIKE = [name for name in ARM if name not in METHOD_FIELDS]  # a run without TSLoss has no others
SAME = ["model", "task", "regime", "content", "seed", "protocol", *ALIKE]


def load_runs(store: Store) -> pd.DataFrame:
    """One row a sound run: the columns of `Store.frame` and what they leave out of the spec.

    Returns
    -------
    DataFrame
        Also ``content``, the first digits of the problems' hashes joined by ``+``, and
        ``setting``: how the run differs from its protocol's defaults for its model, in words;
        empty if it does not.
    """
    more = [it.name for it in fields(RunSpec) if it.name not in (*summary_columns(), "data")]
    rows = [
        run.record["spec"]
        | summary(run.record)
        | {"content": "+".join(it["sha256"][:8] for it in run.record["problems"])}
        | {"setting": _setting(run.spec)}
        for run in store.sound()[0]
    ]
    return pd.DataFrame(rows, columns=[*summary_columns(), *more, "content", "setting"])


def load_topology(store: Store) -> pd.DataFrame:
    """One row a check of a run: ``id``, ``epoch``, columns of `tsp.topology.summarize`."""
    return _load(store, lambda run: run.topology, ["epoch", *SUMMARY_COLUMNS])


def load_losses(store: Store) -> pd.DataFrame:
    """One row an epoch of a run: ``id``, ``epoch``, ``ce``, ``total`` and all of `Run.epochs`."""
    return _load(store, lambda run: run.epochs, ["epoch", "ce", "total"])


def load_accuracy(store: Store) -> pd.DataFrame:
    """One row a check of a run: ``id``, ``epoch`` and ``accuracy``, the share of right answers."""

    def accuracy(run: Run) -> pd.DataFrame:
        return run.checks.groupby("epoch").correct.mean().rename("accuracy").reset_index()

    return _load(store, accuracy, ["epoch", "accuracy"])


def load_answers(store: Store) -> pd.DataFrame:
    """One row a prompt and held-out problem, as `tsp.heldout.evaluate` gave them and kept them.

    Returns
    -------
    DataFrame
        `ANSWER_COLUMNS`; no rows if nothing was asked. Own answers come before published ones.

    Raises
    ------
    DamagedPack
        If a file cannot be read or lacks a column.
    """
    files = [folder / ANSWERS for folder in store.folders()]
    found = [_read_answers(file) for file in files if file.is_file()]
    if not found:
        return pd.DataFrame({name: [] for name in ANSWER_COLUMNS})
    both = pd.concat(found, ignore_index=True)
    return both.drop_duplicates(ANSWER_KEY, ignore_index=True)


def _read_answers(file: Path) -> pd.DataFrame:
    try:
        found = read_table(file).to_pandas()
        if missing := sorted(set(ANSWER_COLUMNS).difference(found)):
            raise ValueError(f"no column {', '.join(missing)}")
        found[ANSWER_KEY].drop_duplicates()  # fails for what is no plain value
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise DamagedPack(f"{file.name} cannot be read ({error})") from error
    return found


def _load(store: Store, read: Callable[[Run], pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Read one table of every run, one under the other, the run's id in front."""
    frames = [read(run).assign(id=run.id) for run in store.sound()[0]]
    if not frames:
        return pd.DataFrame(columns=["id", *columns])
    found = pd.concat(frames, ignore_index=True)
    return found[["id", *(column for column in found if column != "id")]]


def in_order(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Sort by columns; protocols, regimes and tasks not by name but in the order of the book."""
    names = [*PROTOCOL_ORDER, *REGIMES, *TASK_NAMES]
    rank = {name: f"{number:02}" for number, name in enumerate(names)}
    return rows.sort_values(columns, key=lambda it: it.replace(rank), ignore_index=True)


def _setting(spec: RunSpec) -> str:
    default = RunSpec(model=spec.model, protocol=spec.protocol)
    odd = [name for name in ARM if getattr(spec, name) != getattr(default, name)]
    return ", ".join(f"{name} {getattr(spec, name)}" for name in odd)


def longest(runs: pd.DataFrame) -> pd.DataFrame:
    """Of runs that differ in their length alone, which share their first epochs, the longest."""
    kind = [*SAME, "method", "lambda_ts", *METHOD_FIELDS]
    return runs.sort_values("epochs", kind="stable").drop_duplicates(kind, keep="last")


def pairs(store: Store, *, protocol: str = "tuned", lambda_ts: float = 1.0) -> pd.DataFrame:
    """Pairs of a Standard and a +TSLoss run with the same problems, seed and everything else.

    Parameters
    ----------
    store
        Where the runs are.
    protocol
        Of both runs.
    lambda_ts
        Weight of TSLoss.

    Returns
    -------
    DataFrame
        `PAIR_COLUMNS`, one row a pair: ``standard`` and ``tsloss`` are the first epoch with all
        answers right, nan if that is not within ``cap``, the epochs that both were trained for.
        ``solved_at_start``: the untrained prompt of either was right already.
    """
    runs = load_runs(store)
    return _pairs(runs[runs.protocol == protocol], lambda_ts)


def _pairs(runs: pd.DataFrame, lambda_ts: float) -> pd.DataFrame:
    if runs.empty:  # an empty frame has no types to merge on
        return pd.DataFrame(columns=list(PAIR_COLUMNS))
    runs = longest(runs)
    outcome = ["id", "epochs", "solved_epoch", "solved_at_start"]
    plain = runs.loc[runs.method == "ce", [*SAME, *outcome]]
    both = runs[(runs.method == "tsloss") & (runs.lambda_ts == lambda_ts)].merge(
        plain, on=SAME, suffixes=("_tsloss", "_standard")
    )
    cap = both[["epochs_standard", "epochs_tsloss"]].min(axis=1)
    solved = {name: both[f"solved_epoch_{name}"] for name in ("standard", "tsloss")}
    started = both.solved_at_start_standard.astype(bool) | both.solved_at_start_tsloss.astype(bool)
    both = both.assign(**{name: epoch.where(epoch <= cap) for name, epoch in solved.items()})
    both = both.assign(cap=cap, solved_at_start=started)
    order = ["model", "setting", "regime", "task", "source", "problem", "seed"]
    return in_order(both[list(PAIR_COLUMNS)], order)


def convergence(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Our cells of Table 3 as numbers, two rows a cell: without and with TSLoss.

    Returns
    -------
    DataFrame
        `CELL_COLUMNS`. ``median``, over ``n`` problems (or sets of ten), is of the median over
        seeds of the first epoch with all answers right. A run that was never all right counts
        as its cap; where a later epoch in its place would move the median, ``censored`` is true
        and the median a lower bound. ``n_at_start`` problems are apart: their untrained prompts
        were right already.
    """
    both = pairs(store, protocol=protocol)
    cells = both.groupby(["model", "setting", "regime", "task"], sort=False)
    rows = [
        dict(zip(CELL_COLUMNS, [*key, *values], strict=True))
        for key, rows in cells
        for values in _cell(rows)
    ]
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def _cell(rows: pd.DataFrame) -> list[list[object]]:
    """Last columns of `convergence`, without and with TSLoss, from the pairs of a cell."""
    told = rows[~rows.solved_at_start]
    n = told.content.nunique()
    found: list[list[object]] = []
    for method, column in (("ce", "standard"), ("tsloss", "tsloss")):
        least, most = (
            told[column].fillna(never).groupby(told.content).median().median()
            for never in (told.cap, np.inf)
        )
        found.append([method, least, bool(least < most), n, rows.content.nunique() - n])
    return found
