"""Train stored runs once more, as they were trained, and see whether they come out the same."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsp.errors import InputError
from tsp.experiments.banks import first_prompt
from tsp.experiments.jobs import jobs_of
from tsp.store.runs import Run, Store
from tsp.training import models
from tsp.training.members import RunResult
from tsp.training.trainer import Plan, train_bank

Row = dict[str, Any]


def repeat(
    store: Store,
    ids: Sequence[str],
    *,
    data: str | Path = "",
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Train runs again in their banks, by their plans, on the same kind of device; store nothing.

    Rounding decides when a run is first correct, and the bank and its plan decide rounding.
    ``data`` names a folder of problems that are not shipped, ``say`` is called before each bank.

    Returns
    -------
    list of dict
        One row per run: ``id``, ``solved_epoch`` as stored and ``again`` now (None: never), whether
        both trainings agree (``same``: also in length, and before training), and ``ce``, the
        largest difference of a cross-entropy at any epoch.

    Raises
    ------
    InputError
        If a run's bank is not stored whole, or the data do not hold its problems.
    """
    rows: dict[str, Row] = {}
    for run_id in ids:
        if run_id not in rows:
            rows |= _bank_again(store, store.read(run_id), data, say)
    return [rows[run_id] for run_id in dict.fromkeys(ids)]


def sample(store: Store, size: int, *, seed: int = 0) -> list[str]:
    """Return ids of stored runs that were made on a CPU, drawn at random."""
    made = [
        run.id
        for run in store.valid_runs()[0]
        if run.record["device"].split(":")[0] == "cpu" and run.record.get("together")
    ]
    order = np.random.default_rng(seed).permutation(len(made))[:size]
    return [made[k] for k in order]


def _bank_again(
    store: Store, run: Run, data: str | Path, say: Callable[[str], None]
) -> dict[str, Row]:
    ids = run.record.get("together") or []
    if not ids or any(other not in store for other in ids):
        remedy = "its bank is not stored whole, so it cannot be trained as it was"
        raise InputError("run", run.id, remedy)
    bank = [store.read(other) for other in ids]
    jobs = jobs_of(
        other.spec.but(data=str(data))
        if data and other.record["problems"][0]["source"] == "local"
        else other.spec
        for other in bank
    )
    if [job.id for job in jobs] != ids:
        remedy = "holds other problems than the run was trained on; name the folder with --data"
        raise InputError("data", str(data or run.spec.data), remedy)
    known = Plan.__dataclass_fields__
    plan = Plan(**{name: value for name, value in run.record["plan"].items() if name in known})
    frozen = models.load(run.spec.model, device=run.record["device"])
    say(f"{len(jobs)} runs on {run.spec.model}, {plan.precision}, as run {run.id} was trained")
    results = train_bank(
        [job.spec for job in jobs],
        frozen,
        [job.problems for job in jobs],
        starts=[first_prompt(job.spec, store, frozen.dim) for job in jobs],
        plan=plan,
    )
    return {old.id: _compare(old, new) for old, new in zip(bank, results, strict=True)}


def _compare(run: Run, result: RunResult) -> Row:
    again, at_start = result.solved_epoch, result.correct().get(0) == 1
    outcome = run.record["outcome"]
    before = (outcome["solved_epoch"], outcome["epochs_trained"], bool(outcome["solved_at_start"]))
    new = np.array([row["ce"] for row in result.epochs])
    old = run.epochs.sort_values("epoch").ce.to_numpy()
    length = min(len(new), len(old))
    return {
        "id": run.id,
        "solved_epoch": outcome["solved_epoch"],
        "again": again,
        "same": before == (again, len(new), at_start),
        "ce": float(np.abs(new[:length] - old[:length]).max()),
    }
