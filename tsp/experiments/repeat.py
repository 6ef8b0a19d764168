"""Train stored runs once more, as they were trained, and see whether they come out the same."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from tsp.errors import InputError
from tsp.experiments.banks import first_prompt
from tsp.experiments.jobs import jobs_of
from tsp.store.record import first_correct
from tsp.store.runs import Run, Store
from tsp.training import models
from tsp.training.members import RunResult
from tsp.training.trainer import Plan, train_bank


def repeat(
    store: Store,
    ids: Sequence[str],
    *,
    data: str | Path = "",
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Train runs again: the same bank, by the same plan, on the same kind of device.

    Rounding decides when a run is first right, and what a run is banked with decides rounding. So
    the whole bank is trained, in its order, with the recorded micro-batches, threads and
    precision. Nothing is stored.

    Parameters
    ----------
    store
        Where the runs and those of their banks are.
    ids
        Runs to repeat.
    data
        Folder of problems that are not shipped here, in place of the one they were read from.
    say
        Called with a line before each bank.

    Returns
    -------
    list of dict
        One row a run: ``id``, ``solved_epoch`` as stored, ``again`` as it came out now (None:
        never), ``same`` (also in length, and in being right before training), and ``ce``, the
        largest difference of a cross-entropy at any epoch.

    Raises
    ------
    InputError
        If a run does not say what it was banked with, if one of those is not stored, or if the
        data do not hold its problems.
    """
    rows: dict[str, dict[str, Any]] = {}
    for run_id in ids:
        if run_id not in rows:
            rows |= _bank_again(store, store.read(run_id), data, say)
    return [rows[run_id] for run_id in dict.fromkeys(ids)]


def sample(store: Store, size: int, *, device: str = "cpu", seed: int = 0) -> list[str]:
    """Return ids of stored runs that were made on a kind of device, drawn at random."""
    made = [
        run.id
        for run in store.valid_runs()[0]
        if run.record["device"].split(":")[0] == device and run.record.get("together")
    ]
    order = np.random.default_rng(seed).permutation(len(made))[:size]
    return [made[k] for k in order]


def _bank_again(
    store: Store, run: Run, data: str | Path, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    together = run.record.get("together") or []
    for other in together or [run.id]:
        if not together or other not in store:
            remedy = "its bank is not stored whole, so it cannot be trained as it was"
            raise InputError("run", run.id, remedy)
    bank = [store.read(other) for other in together]
    sources = [it.record["problems"][0]["source"] == "local" for it in bank]
    specs = [
        it.spec.but(data=str(data)) if local and data else it.spec
        for it, local in zip(bank, sources, strict=True)
    ]
    jobs = jobs_of(specs)
    if [job.id for job in jobs] != list(together):
        remedy = "holds other problems than the run was trained on; name the folder with --data"
        raise InputError("data", str(data or run.spec.data), remedy)
    known = {it.name for it in fields(Plan)}
    plan = Plan(**{name: value for name, value in run.record["plan"].items() if name in known})
    frozen = models.load(run.spec.model, device=run.record["device"])
    say(f"{len(jobs)} runs on {run.spec.model}, {plan.precision}, as run {run.id} was trained")
    problems = [job.problems for job in jobs]
    starts = [first_prompt(job.spec, store) for job in jobs]
    results = train_bank(specs, frozen, problems, starts=starts, plan=plan)
    return {it.id: _compare(it, result) for it, result in zip(bank, results, strict=True)}


def _compare(run: Run, result: RunResult) -> dict[str, Any]:
    again, correct = first_correct(result.checks)
    outcome = run.record["outcome"]
    same = outcome["solved_epoch"] == again and len(result.epochs) == outcome["epochs_trained"]
    same &= bool(correct.get(0)) == bool(outcome["solved_at_start"])
    new = np.array([row["ce"] for row in result.epochs])
    old = run.epochs.sort_values("epoch").ce.to_numpy()
    length = min(len(new), len(old))
    return {
        "id": run.id,
        "solved_epoch": outcome["solved_epoch"],
        "again": again,
        "same": same,
        "ce": float(np.abs(new[:length] - old[:length]).max()),
    }
