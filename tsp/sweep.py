"""Train what is missing of a set of runs: in which banks, by which plan, into which store."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from tsp.memory import predict
from tsp.precision import PRECISIONS, check_known, choose
from tsp.runs import Store, kept_prompts
from tsp.spec import LARGEST, RunSpec
from tsp.tasks import Problem, load_problems
from tsp.trainer import Plan, Progress, train_bank

PLAN_NAME = re.compile(r"\w[\w.-]{0,99}")  # no path
MOST_THREADS = 4096  # more in a plan is a slip
BANK = {"cpu": 8, "cuda": 64}  # a CPU is busy with one run already, a GPU wants many


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


def jobs_of(specs: Iterable[RunSpec]) -> list[Job]:
    """Load each spec's problems and work out its id; runs that coincide become one."""
    jobs: dict[str, Job] = {}
    names: dict[str, str] = {}
    for spec in specs:
        told = ("data", "regime", "problem", "wrong_answers")
        problems = load_problems(spec.task, **{name: getattr(spec, name) for name in told})
        model = names.setdefault(spec.model, models.fingerprint(spec.model))
        run_id = spec.id(problems, model=model)
        jobs.setdefault(run_id, Job(spec, problems, run_id))
    return list(jobs.values())


def within_reach(specs: Iterable[RunSpec]) -> tuple[list[RunSpec], list[str]]:
    """Specs whose problems the data have, and why the others are left out, a line a reason.

    An experiment names rows; a benchmark has them, what is shipped of it may have fewer.
    """
    asked: dict[tuple[object, ...], str] = {}
    found = []
    for spec in specs:
        place = (spec.task, spec.data, spec.regime, spec.problem)
        if place not in asked:
            try:
                load_problems(spec.task, data=spec.data, regime=spec.regime, problem=spec.problem)
                asked[place] = ""
            except InputError as error:
                if error.field != "problem":
                    raise
                asked[place] = f"{spec.task}, {spec.regime}: {error}"
        if not asked[place]:
            found.append(spec)
    return found, [why for why in asked.values() if why]


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

    Banks and their order, and for each model how it is computed (micro-batches, threads,
    precision), are written before a bank trains; a sweep that was interrupted goes on with the
    plan it finds. A damaged run is set aside under another name and trained again.

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
        As `tsp.precision.choose` takes it; ``auto`` keeps what a plan to go on with says, or what
        the runs of these that are stored have.
    token_budget
        Positions of one forward pass; None: the plan's own.
    events
        Whom to tell.

    Returns
    -------
    list[str]
        One id a run, in the order of ``specs``, each once.

    Raises
    ------
    InputError
        If there is no such model, device or precision, or if a run is stored in another precision
        than the one asked for.
    """
    events = events or Events()
    if not PLAN_NAME.fullmatch(name):
        raise InputError("name", name, "a plan's name has letters, digits, -, _ and . alone")
    jobs = jobs_of(specs)
    check_known(precision)
    missing = [job for job in jobs if not _usable(store, job.id, events)]
    wishes = _wishes(jobs, store, precision)
    if missing:
        place = models.resolve_device(device)
        # What fails here fails before a plan is written.
        base = _Model(place)
        frozen = base.named(missing[0].spec.model)
        if len(jobs) == 1:
            encode_all(missing[0].spec, frozen, missing[0].problems)
        del frozen
        path = store.root / "plans" / f"{name}.json"
        schedule = _begun(path, jobs, missing, device=place, precision=precision)
        if schedule is None:
            schedule = _Schedule(path, place, {}, _banks(missing, _bank_size(place)))
        _train_banks(schedule, base, store, events, wishes=wishes, token_budget=token_budget)
    return [job.id for job in jobs if job.id in store]


def _wishes(jobs: list[Job], store: Store, precision: str) -> dict[str, str]:
    """Precision asked for, for each model; ``auto`` goes on with what its stored runs have."""
    stored: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        if job.id in store:
            found = store.read(job.id).precision
            stored[job.spec.model].add(found)
            if precision not in ("auto", found):
                remedy = f"run {job.id} was trained in {found}; say auto or name another store"
                raise InputError("precision", precision, remedy)
    alike = {model: next(iter(found)) for model, found in stored.items() if len(found) == 1}
    return {job.spec.model: alike.get(job.spec.model, precision) for job in jobs}


class _Model:
    """The base model of the bank that trains; the one before it is let go first."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._held: models.Frozen | None = None

    def named(self, name: str) -> models.Frozen:
        """Load a model, if it is not the one that is held."""
        if self._held is None or self._held.name != name:
            self._held = None
            self._held = models.load(name, device=self.device)
        return self._held


@dataclass
class _Schedule:
    """Banks in their order, and the plan of each model, made when its first bank's turn comes."""

    path: Path
    device: str
    plans: dict[str, Plan]
    banks: list[list[Job]]

    def write(self) -> None:
        """Write it where a sweep that was interrupted finds it."""
        told = {
            "device": self.device,
            "plans": {model: asdict(plan) for model, plan in self.plans.items()},
            "banks": [[job.id for job in bank] for bank in self.banks],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, json.dumps(told, indent=1) + "\n")


def _train_banks(
    schedule: _Schedule,
    base: _Model,
    store: Store,
    events: Events,
    *,
    wishes: Mapping[str, str],
    token_budget: int | None,
) -> None:
    failures: list[str] = []
    for number, jobs in enumerate(schedule.banks, 1):
        if all(job.id in store for job in jobs):
            continue
        frozen = base.named(jobs[0].spec.model)
        if frozen.name not in schedule.plans:
            precision = choose(wishes[frozen.name], frozen)
            plan = _settings(schedule.banks, frozen, Plan(precision=precision))
            if token_budget is not None:
                plan = replace(plan, token_budget=token_budget)
            schedule.plans[frozen.name] = plan
            schedule.write()
        told = (number, len(schedule.banks))
        failures += _train(jobs, frozen, schedule.plans[frozen.name], store, events, told)
        del frozen  # so that another model does not stand beside it
    if failures:
        raise FloatingPointError("; ".join(failures))


def _train(
    jobs: list[Job],
    frozen: models.Frozen,
    plan: Plan,
    store: Store,
    events: Events,
    told: tuple[int, int],
) -> list[str]:
    """Train and store a bank; say which of its runs could not go on."""
    left_out = {job.id: why for job in jobs if (why := _unfit(job, frozen))}
    for job in jobs:
        if job.id in left_out:
            events.left_out(job, left_out[job.id])
    jobs = [job for job in jobs if job.id not in left_out]
    if all(job.id in store for job in jobs):
        return []
    events.begin(jobs, *told, _peak(jobs, frozen, plan))
    results = train_bank(
        [job.spec for job in jobs],
        frozen,
        [job.problems for job in jobs],
        plan=plan,
        on_progress=events.progress,
    )
    sound = {
        job.id: result for job, result in zip(jobs, results, strict=True) if not result.failure
    }
    keep(sound, store, plan=plan, frozen=frozen, together=[job.id for job in jobs])
    events.stored(jobs)
    return [result.failure for result in results if result.failure]


def _unfit(job: Job, frozen: models.Frozen) -> str:
    """Why a sweep leaves a run out: a problem is longer than the model reads."""
    try:
        encode_all(job.spec, frozen, job.problems)
    except InputError as error:
        return str(error)
    return ""


def _peak(jobs: list[Job], frozen: models.Frozen, plan: Plan) -> int:
    encoded = [encode_all(job.spec, frozen, job.problems) for job in jobs]
    return predict(frozen, [job.spec for job in jobs], encoded, plan).total


def keep(
    results: Mapping[str, RunResult],
    store: Store,
    *,
    plan: Plan,
    frozen: models.Frozen,
    together: Sequence[str] = (),
) -> None:
    """Store runs, by their ids, with the topology of their prompts, where giotto-tda is installed.

    A bare GPU host does without; the topology is then computed where the runs are brought.
    """
    tables: Sequence[tuple[Any, Any]] = [(None, None)] * len(results)
    if find_spec("gph") and find_spec("pandas"):
        from tsp.topology import analyse

        prompts = [result.prompts for result in results.values()]
        tables = analyse(prompts, show=[list(kept_prompts(it)) for it in results.values()])
    for (run_id, result), (topology, diagrams) in zip(results.items(), tables, strict=True):
        store.write(
            result,
            run_id=run_id,
            plan=plan,
            device=str(frozen.device),
            note=frozen.note,
            revision=frozen.revision,
            together=together,
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


def _settings(banks: list[list[Job]], frozen: models.Frozen, plan: Plan) -> Plan:
    """Fit a plan's budgets to the free memory, for the longest problems of a model's runs."""
    found: list[tuple[RunSpec, list[models.Encoded]]] = []
    for job in (job for bank in banks for job in bank):
        with suppress(InputError):  # longer than the window: left out, and told of, later
            if job.spec.model == frozen.name:
                found.append((job.spec, encode_all(job.spec, frozen, job.problems)))
    longest = sorted(found, key=lambda it: -max(c.length(it[0].n_tokens) for c in it[1]))
    if not longest:
        return plan
    specs, encoded = zip(*longest[: _bank_size(str(frozen.device))], strict=True)
    return fitted(plan, frozen, specs, encoded)


def _begun(
    path: Path, jobs: list[Job], missing: list[Job], *, device: str, precision: str
) -> _Schedule | None:
    """Read what an interrupted sweep of these runs had planned, if there is one that fits."""
    try:
        told = json.loads(path.read_text()) if path.is_file() else {}
        plans = {model: _as_plan(plan) for model, plan in told["plans"].items()}
        banks: list[list[str]] = told["banks"]
        planned = {i for bank in banks for i in bank}
        alike = told["device"] == device and sum(map(len, banks)) == len(planned)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    by_id = {job.id: job for job in jobs}
    alike &= {job.id for job in missing} <= planned <= set(by_id)
    if not alike or any(precision not in ("auto", plan.precision) for plan in plans.values()):
        return None
    # A bank of which some runs are stored trains whole again: fewer rows, other roundings.
    return _Schedule(path, device, plans, [[by_id[i] for i in bank] for bank in banks])


def _as_plan(told: Mapping[str, Any]) -> Plan:
    """A plan that was read from a file, its values checked."""
    plan = Plan(**told)
    sizes = (plan.token_budget, plan.threads, plan.context_budget)
    fits = all(type(it) is int and 0 <= it < LARGEST for it in sizes)
    if not fits or not plan.token_budget or not 0 < plan.threads <= MOST_THREADS:
        raise ValueError("no plan")
    if plan.precision not in PRECISIONS[1:]:
        raise ValueError("no precision")
    return plan


def _bank_size(device: str) -> int:
    return BANK.get(device.split(":")[0], BANK["cpu"])


def _banks(jobs: list[Job], size: int) -> list[list[Job]]:
    """Group runs that cost about the same for about as long; one model a bank."""
    groups: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        spec = job.spec
        groups[(spec.model, spec.task, spec.regime, spec.protocol, spec.epochs)].append(job)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]
