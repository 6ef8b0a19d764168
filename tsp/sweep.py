"""Train what is missing of a set of runs: in which banks, by which plan, into which store."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tsp import models
from tsp.atomic import replace_file
from tsp.budget import fitted
from tsp.errors import InputError
from tsp.members import RunResult, encode_all
from tsp.precision import check_known, choose
from tsp.runs import Run, Store, kept_prompts
from tsp.spec import RunSpec
from tsp.tasks import Problem, load_problems
from tsp.trainer import Plan, Progress, train_bank

BANK = {"cpu": 8, "cuda": 64}  # a CPU is busy with one run already, a GPU wants many


@dataclass(frozen=True)
class Job:
    """A spec with its problems and the id they give."""

    spec: RunSpec
    problems: list[Problem]
    id: str


@dataclass(frozen=True)
class Events:
    """Whom to tell what happens: a bank begins, goes on, is stored."""

    begin: Callable[[Sequence[Job], int, int], None] = lambda jobs, number, banks: None
    progress: Callable[[Progress], None] = lambda progress: None
    stored: Callable[[Sequence[Job]], None] = lambda jobs: None
    left_out: Callable[[Job, str], None] = lambda job, why: None
    set_aside: Callable[[str, Path], None] = lambda why, place: None


def jobs_of(specs: Iterable[RunSpec]) -> list[Job]:
    """Load each spec's problems and work out its id; runs that coincide become one."""
    jobs: dict[str, Job] = {}
    names: dict[str, str] = {}
    for spec in specs:
        problems = load_problems(
            spec.task, data=spec.data, regime=spec.regime, problem=spec.problem
        )
        model = names.setdefault(spec.model, models.fingerprint(spec.model))
        run_id = spec.id(problems, model=model)
        jobs.setdefault(run_id, Job(spec, problems, run_id))
    return list(jobs.values())


def ensure(
    specs: Iterable[RunSpec],
    store: Store,
    *,
    name: str = "runs",
    device: str = "auto",
    precision: str = "auto",
    token_budget: int | None = None,
    events: Events | None = None,
) -> list[str]:
    """Train what the store lacks and return the ids of all the runs asked for.

    The plan (banks and their order, micro-batches, threads, precision) is written before the
    first bank trains; a sweep that was interrupted goes on with the plan it finds. A damaged run
    is set aside under another name and trained again.

    Parameters
    ----------
    specs
        Runs that are wanted.
    store
        Where they are, or will be.
    name
        Of the plan, ``plans/NAME.json`` in the store.
    device
        As `tsp.models.load` takes it.
    precision
        As `tsp.precision.choose` takes it; ``auto`` keeps what a plan to go on with says.
    token_budget
        Positions of one forward pass; None: the plan's own.
    events
        Whom to tell.

    Returns
    -------
    list[str]
        One id a run, in the order of ``specs``, each once.
    """
    events = events or Events()
    jobs = jobs_of(specs)
    missing = [job for job in jobs if not _usable(store, job.id, events)]
    if missing:
        place = models.resolve_device(device)
        check_known(precision)
        # What fails here fails before a plan is written.
        frozen = models.load(missing[0].spec.model, device=place)
        if len(missing) == 1:
            encode_all(missing[0].spec, frozen, missing[0].problems)
        begun = _begun(store, name, jobs, missing, device=place, precision=precision)
        if begun is None:
            settings = _settings(missing, frozen, Plan(precision=choose(precision, frozen)))
            if token_budget is not None:
                settings = replace(settings, token_budget=token_budget)
            begun = _write_plan(store, name, missing, device=place, plan=settings)
        _train_banks(begun[1], store, begun[0], frozen, events)
    return [job.id for job in jobs if job.id in store]


def find_or_train(store: Store, spec: RunSpec, *, events: Events | None = None) -> Run:
    """Longest stored run of a spec, whatever its number of epochs, or a new one of as many as told.

    Parameters
    ----------
    store
        Where to look, and where a new run goes.
    spec
        What is wanted; a stored run fits if all but ``epochs`` and the problem's place agree.
    events
        Whom to tell of the training.
    """
    (job,) = jobs_of([spec])
    fitting = [run for run in store.sound()[0] if _fits(run, job)]
    if fitting:
        return max(fitting, key=lambda run: run.spec.epochs)
    (run_id,) = ensure([spec], store, events=events)
    return store.read(run_id)


def _fits(run: Run, job: Job) -> bool:
    spec = job.spec
    place = {"data": spec.data, "problem": spec.problem, "snapshot_every": spec.snapshot_every}
    alike = run.spec.but(**place, epochs=spec.epochs) == spec
    return alike and run.spec.id(job.problems, model=models.fingerprint(spec.model)) == run.id


def _train_banks(
    banks: list[list[Job]], store: Store, plan: Plan, frozen: models.Frozen, events: Events
) -> None:
    failures: list[str] = []
    for number, jobs in enumerate(banks, 1):
        if all(job.id in store for job in jobs):
            continue
        events.begin(jobs, number, len(banks))
        if frozen.name != jobs[0].spec.model:
            frozen = models.load(jobs[0].spec.model, device=str(frozen.device))
        jobs = [job for job in jobs if _fit_window(job, frozen, events)]
        if not jobs:
            continue
        results = train_bank(
            [job.spec for job in jobs],
            frozen,
            [job.problems for job in jobs],
            plan=plan,
            on_progress=events.progress,
        )
        for job, result in zip(jobs, results, strict=True):
            if not result.failure:
                keep(result, job.id, store, plan=plan, frozen=frozen)
        events.stored(jobs)
        failures += [result.failure for result in results if result.failure]
    if failures:
        raise FloatingPointError("; ".join(failures))


def _fit_window(job: Job, frozen: models.Frozen, events: Events) -> bool:
    """Leave a problem out of a sweep that is longer than the model reads, and say so."""
    try:
        encode_all(job.spec, frozen, job.problems)
    except InputError as error:
        events.left_out(job, str(error))
        return False
    return True


def keep(
    result: RunResult, run_id: str, store: Store, *, plan: Plan, frozen: models.Frozen
) -> Path:
    """Store a finished run with the topology of its prompts, where giotto-tda is installed.

    A bare GPU host does without; the topology is then computed where the runs are brought.
    """
    topology = diagrams = None
    if find_spec("gph") and find_spec("pandas"):
        from tsp.topology import analyse

        topology, diagrams = analyse(result.prompts, show=list(kept_prompts(result)))
    return store.write(
        result,
        run_id=run_id,
        plan=plan,
        device=str(frozen.device),
        note=frozen.note,
        revision=frozen.revision,
        topology=topology,
        diagrams=diagrams,
    )


def _usable(store: Store, run_id: str, events: Events) -> bool:
    if run_id not in store:
        return False
    why = store.verify(run_id)
    if why:
        events.set_aside(why, store.set_aside(run_id))
    return why is None


def _settings(missing: list[Job], frozen: models.Frozen, plan: Plan) -> Plan:
    """Fit a plan's budgets to the free memory, for the longest problems of the first model."""
    size = BANK.get(frozen.device.type, BANK["cpu"])
    found: list[tuple[RunSpec, list[models.Encoded]]] = []
    for job in missing:
        with suppress(InputError):  # longer than the window: left out, and told of, later
            if job.spec.model == frozen.name:
                found.append((job.spec, encode_all(job.spec, frozen, job.problems)))
    longest = sorted(found, key=lambda it: -max(c.length(it[0].n_tokens) for c in it[1]))[:size]
    if not longest:
        return plan
    specs, encoded = zip(*longest, strict=True)
    return fitted(plan, frozen, specs, encoded)


def _begun(
    store: Store,
    name: str,
    jobs: list[Job],
    missing: list[Job],
    *,
    device: str,
    precision: str,
) -> tuple[Plan, list[list[Job]]] | None:
    """Read the plan of an interrupted sweep of these runs, if there is one that fits."""
    told = _read_plan(store.root / "plans" / f"{name}.json")
    if told is None or told["device"] != device:
        return None
    plan, by_id = Plan(**told["plan"]), {job.id: job for job in jobs}
    planned = {i for bank in told["banks"] for i in bank}
    if precision not in ("auto", plan.precision):
        return None
    if not {job.id for job in missing} <= planned <= set(by_id):
        return None
    # A bank of which some runs are stored trains whole again: fewer rows, other roundings.
    return plan, [[by_id[i] for i in bank] for bank in told["banks"]]


def _write_plan(
    store: Store, name: str, missing: list[Job], *, device: str, plan: Plan
) -> tuple[Plan, list[list[Job]]]:
    """Make a plan and write it before anything trains."""
    path = store.root / "plans" / f"{name}.json"
    banks = _banks(missing, BANK.get(device.split(":")[0], BANK["cpu"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [[job.id for job in bank] for bank in banks]
    text = json.dumps({"device": device, "plan": asdict(plan), "banks": ids}, indent=1)
    replace_file(path, text + "\n")
    return plan, banks


def _read_plan(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text())
        Plan(**told["plan"])
        return told if told["banks"] and told["device"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _banks(jobs: list[Job], size: int) -> list[list[Job]]:
    """Group runs that cost about the same for about as long; one model a bank."""
    groups: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        spec = job.spec
        groups[(spec.model, spec.task, spec.regime, spec.protocol, spec.epochs)].append(job)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]
