"""Train one bank from its last checkpoint on and store its runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsp.errors import InputError
from tsp.experiments.jobs import Job
from tsp.store.locks import WORK
from tsp.store.record import kept_prompts
from tsp.store.runs import Store
from tsp.training.checkpoints import Checkpoint, key_of
from tsp.training.members import RunResult, encode_all
from tsp.training.memory import estimate
from tsp.training.models import BaseLM
from tsp.training.prompts import checked_start
from tsp.training.spec import RunSpec
from tsp.training.stopping import CHECKPOINT_SECONDS, StopSignal, never
from tsp.training.trainer import Plan, Progress, train_bank

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Events:
    """Callbacks of a sweep.

    Attributes
    ----------
    begin
        A bank begins: its runs, its number, the number of banks, the bytes it may take.
    progress
        An epoch of a bank has ended.
    stored
        The bank of this number is in the store.
    left_out
        A run cannot be trained, and the reason.
    quarantined
        A stored run was damaged: the damage, and the folder where the run is now.
    say
        A line of text.
    """

    begin: Callable[[Sequence[Job], int, int, int], None] = lambda jobs, number, banks, peak: None
    progress: Callable[[Progress], None] = lambda progress: None
    stored: Callable[[int], None] = lambda number: None
    left_out: Callable[[Job, str], None] = lambda job, why: None
    quarantined: Callable[[str, Path], None] = lambda why, place: None
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class CheckpointPolicy:
    """Seconds between checkpoints of a bank, and a function that returns a signal to stop, or 0."""

    every: float = CHECKPOINT_SECONDS
    stop: StopSignal = never


def train_into(
    store: Store,
    jobs: Sequence[Job],
    frozen: BaseLM,
    plan: Plan,
    *,
    number: int,
    banks: int,
    events: Events,
    policy: CheckpointPolicy,
) -> list[str]:
    """Train bank ``number`` of ``banks`` and store it; return why runs failed, if any did."""
    inputs = {}
    for job in jobs:
        try:
            encoded = encode_all(job.spec, frozen, job.problems)
            inputs[job.id] = encoded, first_prompt(job.spec, store, frozen.dim)
        except InputError as error:
            events.left_out(job, str(error))
    jobs = [job for job in jobs if job.id in inputs]
    if not jobs:
        return []
    specs, ids = [job.spec for job in jobs], list(inputs)
    problems, starts = zip(*inputs.values(), strict=True)
    plan = rounded(plan, specs[0].rounding)
    key = key_of(ids, plan, str(frozen.device))
    checkpoint = Checkpoint(store.root / WORK / ids[0], key, every=policy.every, stop=policy.stop)
    events.begin(jobs, number, banks, estimate(frozen, specs, problems, plan).peak)
    results = train_bank(
        specs,
        frozen,
        [job.problems for job in jobs],
        starts=starts,
        plan=plan,
        on_progress=lambda now: events.progress(replace(now, bank=number)),
        checkpoint=checkpoint,
    )
    finished = {i: result for i, result in zip(ids, results, strict=True) if not result.failure}
    store_runs(finished, store, plan=plan, frozen=frozen, together=ids)
    checkpoint.remove()
    events.stored(number)
    return [result.failure for result in results if result.failure]


def rounded(plan: Plan, rounding: str) -> Plan:
    """Change how a run is computed, as `RunSpec.rounding` asks."""
    if rounding == "precision":
        other = {"float32": "bfloat16", "bfloat16": "float32"}
        return replace(plan, precision=other[plan.precision])
    if rounding == "threads":
        return replace(plan, threads=2 if plan.threads == 1 else 1)
    return plan


def first_prompt(spec: RunSpec, store: Store, dim: int) -> "Tensor | None":
    """Return the last prompt of the run that a run begins with, or None; ``dim`` is the model's.

    Raises
    ------
    InputError
        If that run is not stored, stored without prompts, or its prompt has another shape.
    """
    if not spec.init_run:
        return None
    if spec.init_run not in store:
        remedy = f"is not stored in {store.root}; train it first"
        raise InputError("init_run", spec.init_run, remedy)
    run = store.read(spec.init_run)
    if not run.prompt_epochs:
        raise InputError("init_run", spec.init_run, "is stored without prompts; train it again")
    return checked_start(spec, run.prompt(run.prompt_epochs[-1]), dim)


def unstored(jobs: Sequence[Job], store: Store) -> list[Job]:
    """Return the runs of a bank that are to be trained, without those stored with another bank.

    If a run is lost, all that were trained with it are trained again: a smaller bank rounds
    differently.
    """
    missing = {job.id for job in jobs if job.id not in store}
    return [
        job
        for job in jobs
        if job.id in missing
        or missing.intersection(store.read(job.id).record.get("together") or ())
    ]


def store_runs(
    results: dict[str, RunResult],
    store: Store,
    *,
    plan: Plan,
    frozen: BaseLM,
    together: Sequence[str] = (),
) -> None:
    """Store runs by id, with the topology of their prompts if giotto-tda is installed.

    Without it (a bare GPU host) the topology is computed when the runs are read.
    """
    tables: Sequence[tuple[Any, Any]] = [(None, None)] * len(results)
    if find_spec("gph") and find_spec("pandas"):
        from tsp.topology.diagrams import analyse

        prompts = [result.prompts for result in results.values()]
        tables = analyse(prompts, show=[list(kept_prompts(run)) for run in results.values()])
    for (run_id, result), (topology, diagrams) in zip(results.items(), tables, strict=True):
        store.write(
            result,
            run_id=run_id,
            plan=plan,
            device=frozen.divided or str(frozen.device),
            note=frozen.note,
            revision=frozen.revision,
            together=together,
            topology=topology,
            diagrams=diagrams,
        )
