"""What a sweep is about to do: its runs, their epochs and steps, how long such runs took."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tsp.errors import InputError
from tsp.experiments.jobs import Job, jobs_of
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.members import encode_all
from tsp.training.spec import RunSpec

KEY = ("model", "protocol", "task", "regime")
COUNTS = ("runs", "stored", "epochs", "steps", "hours", "left_out")


def sweep_plan(
    specs: Iterable[RunSpec], store: Store, *, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Plan the compute of a sweep before anything is trained.

    Parameters
    ----------
    specs
        Runs that are wanted.
    store
        Where some of them may be already.
    device
        Kind of device on which stored runs were made whose time counts.

    Returns
    -------
    list of dict
        `KEY` and `COUNTS`, a row a model, protocol, task and regime: ``runs`` that are wanted, how
        many are ``stored`` or, too long for the model, ``left_out``. Of the others: ``epochs`` and
        ``steps`` of all together, and ``hours``, checks included, if an epoch of a run takes as
        long as in the stored runs of the row on such a device; None if there are none.
    """
    groups: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in jobs_of(specs):
        groups[_key(job.spec)].append(job)
    seconds = _seconds_per_epoch(store, device)
    frozen: models.BaseLM | None = None
    rows = []
    for key, jobs in groups.items():
        row: dict[str, Any] = dict(zip(KEY, key, strict=True)) | dict.fromkeys(COUNTS, 0)
        if frozen is None or frozen.name != key[0]:
            frozen = models.load(key[0], device="meta")
        for job in jobs:
            row["runs"] += 1
            if job.id in store:
                row["stored"] += 1
                continue
            try:
                encode_all(job.spec, frozen, job.problems)
            except InputError:
                row["left_out"] += 1
                continue
            row["epochs"] += job.spec.epochs
            batches = -(-len(job.problems) // job.spec.settings.batch_size)
            row["steps"] += job.spec.epochs * batches
        row["hours"] = row["epochs"] * seconds[key] / 3600 if key in seconds else None
        rows.append(row)
    return rows


def render(plan: Sequence[dict[str, Any]]) -> str:
    """Return a plan as text, with a line of sums."""
    import pandas as pd

    frame = pd.DataFrame(plan, columns=[*KEY, *COUNTS])
    sums = frame[[*COUNTS]].astype(float).sum()
    frame["hours"] = ["?" if row["hours"] is None else f"{row['hours']:.2g}" for row in plan]
    text = frame.rename(columns={"left_out": "left out"}).to_string(index=False)
    line = f"{sums.runs:.0f} runs, {sums.stored:.0f} of them stored, {sums.left_out:.0f} left out; "
    line += f"{sums.steps:.0f} steps"
    if sums.hours:
        line += f"; {sums.hours:.2g} hours where the like is stored"
    return f"{text}\n{line}"


def _key(spec: RunSpec) -> tuple[str, ...]:
    return tuple(str(getattr(spec, name)) for name in KEY)


def _seconds_per_epoch(store: Store, device: str) -> dict[tuple[str, ...], float]:
    """Return the mean time of an epoch of a run, by `KEY`, of stored runs on a kind of device."""
    seconds: Counter[tuple[str, ...]] = Counter()
    epochs: Counter[tuple[str, ...]] = Counter()
    for run in store.valid_runs()[0]:
        if run.record["device"].split(":")[0] == device.split(":")[0]:
            seconds[_key(run.spec)] += run.record["seconds"]
            epochs[_key(run.spec)] += run.record["outcome"]["epochs_trained"]
    return {key: seconds[key] / epochs[key] for key in seconds}
