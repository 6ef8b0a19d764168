"""One bank into a store: claimed, trained from its last checkpoint on, stored whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsp.errors import InputError
from tsp.problems.loading import Problem
from tsp.store.locks import checkpoint_folder, claimed
from tsp.store.runs import Store, kept_prompts
from tsp.training.checkpoints import SECONDS, Checkpoint, key_of
from tsp.training.members import RunResult, encode_all
from tsp.training.memory import estimate
from tsp.training.models import Frozen
from tsp.training.spec import RunSpec
from tsp.training.stopping import Stop, never
from tsp.training.trainer import Plan, Progress, train_bank

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Job:
    """A spec with its problems and the id they give."""

    spec: RunSpec
    problems: list[Problem]
    id: str


@dataclass(frozen=True)
class Events:
    """Whom to tell what happens: a bank begins (with its predicted bytes), goes on, is stored."""

    begin: Callable[[Sequence[Job], int, int, int], None] = lambda jobs, number, banks, peak: None
    progress: Callable[[Progress], None] = lambda progress: None
    stored: Callable[[Sequence[Job]], None] = lambda jobs: None
    left_out: Callable[[Job, str], None] = lambda job, why: None
    set_aside: Callable[[str, Path], None] = lambda why, place: None
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Keeping:
    """How often a bank's state is kept (seconds), and who may ask it to stop."""

    every: float = SECONDS
    stop: Stop = never


def train_into(
    store: Store,
    jobs: Sequence[Job],
    frozen: Frozen,
    plan: Plan,
    *,
    number: int = 1,
    banks: int = 1,
    events: Events,
    keeping: Keeping,
) -> list[str] | None:
    """Train a bank and store its runs.

    Parameters
    ----------
    store
        Where the runs will be; its other sweeps keep away from them meanwhile.
    jobs
        The bank; a run that another bank has stored is left out.
    frozen, plan
        By what and how it is computed.
    number, banks
        Its place in the sweep, to be told.
    events, keeping
        Whom to tell; how often the state is kept.

    Returns
    -------
    list of str, or None
        Why some runs could not go on; None: another process is at one of these runs.
    """
    with claimed(store.root, [job.id for job in jobs]) as mine:
        if not mine:
            return None
        todo = _left(_fitting(jobs, frozen, store, events), store)
        if not todo:
            return []
        plan, ids = rounded(plan, todo[0].spec.rounding), [job.id for job in todo]
        key = key_of(ids, plan, str(frozen.device))
        folder = checkpoint_folder(store.root, ids[0])
        checkpoint = Checkpoint(folder, key, every=keeping.every, stop=keeping.stop)
        events.begin(todo, number, banks, _peak(todo, frozen, plan))
        results = train_bank(
            [job.spec for job in todo],
            frozen,
            [job.problems for job in todo],
            starts=[first_prompt(job.spec, store) for job in todo],
            plan=plan,
            on_progress=lambda now: events.progress(replace(now, bank=number)),
            checkpoint=checkpoint,
        )
        sound = {i: result for i, result in zip(ids, results, strict=True) if not result.failure}
        keep(sound, store, plan=plan, frozen=frozen, together=ids)
        checkpoint.remove()
        events.stored(todo)
        return [result.failure for result in results if result.failure]


def rounded(plan: Plan, rounding: str) -> Plan:
    """Change how a run is computed, as `RunSpec.rounding` asks; a bank of one is made elsewhere."""
    if rounding == "precision":
        other = {"float32": "bfloat16", "bfloat16": "float32"}
        return replace(plan, precision=other[plan.precision])
    if rounding == "threads":
        return replace(plan, threads=2 if plan.threads == 1 else 1)
    return plan


def first_prompt(spec: RunSpec, store: Store) -> "Tensor | None":
    """Return the last prompt of the run that a run begins with, or None.

    Raises
    ------
    InputError
        If that run is not stored, or stored without prompts.
    """
    if not spec.init_run:
        return None
    if spec.init_run not in store:
        raise InputError("init_run", spec.init_run, f"is not stored in {store.root}")
    run = store.read(spec.init_run)
    if not run.prompt_epochs:
        raise InputError("init_run", spec.init_run, "is stored without prompts; train it again")
    return run.prompt(run.prompt_epochs[-1])


def _fitting(jobs: Sequence[Job], frozen: Frozen, store: Store, events: Events) -> list[Job]:
    """Leave out runs that cannot begin, and say why.

    Either a problem is longer than the model reads, or the first prompt is not stored.
    """
    found = []
    for job in jobs:
        try:
            encode_all(job.spec, frozen, job.problems)
            first_prompt(job.spec, store)
            found.append(job)
        except InputError as error:
            events.left_out(job, str(error))
    return found


def _left(jobs: list[Job], store: Store) -> list[Job]:
    """What is to be trained of a bank.

    A bank of which some runs are stored trains whole again (fewer rows, other roundings), but for
    runs that were stored as another bank's.
    """
    ids = [job.id for job in jobs]
    stored = [i for i in ids if i in store]
    if len(stored) == len(jobs):
        return []
    missing = set(ids).difference(stored)
    others = {i for i in stored if missing.isdisjoint(store.read(i).record.get("together") or ())}
    return [job for job in jobs if job.id not in others]


def _peak(jobs: Sequence[Job], frozen: Frozen, plan: Plan) -> int:
    encoded = [encode_all(job.spec, frozen, job.problems) for job in jobs]
    return estimate(frozen, [job.spec for job in jobs], encoded, plan).peak


def keep(
    results: Mapping[str, RunResult],
    store: Store,
    *,
    plan: Plan,
    frozen: Frozen,
    together: Sequence[str] = (),
) -> None:
    """Store runs, by their ids, with the topology of their prompts, where giotto-tda is installed.

    A bare GPU host does without; the topology is then computed where the runs are brought.
    """
    tables: Sequence[tuple[Any, Any]] = [(None, None)] * len(results)
    if find_spec("gph") and find_spec("pandas"):
        from tsp.topology.diagrams import analyse

        prompts = [result.prompts for result in results.values()]
        tables = analyse(prompts, show=[list(kept_prompts(it)) for it in results.values()])
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
