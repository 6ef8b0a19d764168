"""The plan of a sweep: its runs, their epochs and steps, and the time that such runs took."""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any

from tsp.errors import InputError
from tsp.experiments.jobs import jobs_of
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

    Returns
    -------
    list of dict
        `KEY` and `COUNTS`, one row per model, protocol, task and regime. ``runs``: number of runs
        asked for; ``stored``: those that the store has; ``left_out``: those with a problem that is
        too long for the model; ``epochs`` and ``steps``: epochs and optimiser steps of all the
        others together, an upper bound where runs may stop early; ``hours``: the time for these
        epochs, checks included, if each takes as long as one did on average in the stored runs of
        the row on a ``device`` of this kind; None without such runs.
    """
    import pandas as pd

    shapes = cache(partial(models.load, device="meta"))
    rows = []
    for job in jobs_of(specs):
        stored, left_out = job.id in store, False
        try:
            if not stored:  # called only because it raises if a problem does not fit
                encode_all(job.spec, shapes(job.spec.model), job.problems)
        except InputError as error:
            if error.field != "problem":  # no such model
                raise
            left_out = True
        epochs = 0 if stored or left_out else job.spec.epochs
        steps = epochs * -(-len(job.problems) // job.spec.settings.batch_size)
        rows.append((*_key(job.spec), 1, int(stored), epochs, steps, int(left_out)))
    counts = [name for name in COUNTS if name != "hours"]
    plan = pd.DataFrame(rows, columns=[*KEY, *counts]).groupby([*KEY], sort=False).sum()
    past = [
        (*_key(run.spec), run.record["seconds"], run.record["outcome"]["epochs_trained"])
        for run in store.valid_runs()[0]
        if run.record["device"].split(":")[0] == device.split(":")[0]
    ]
    took = pd.DataFrame(past, columns=[*KEY, "seconds", "epochs"]).groupby([*KEY]).sum()
    plan["hours"] = plan.epochs * (took.seconds / took.epochs).reindex(plan.index) / 3600
    frame = plan.reset_index()[[*KEY, *COUNTS]].astype(object)
    return frame.where(frame.notna(), None).to_dict("records")


def _key(spec: RunSpec) -> tuple[str, ...]:
    return spec.model, spec.protocol, spec.task, spec.regime


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
