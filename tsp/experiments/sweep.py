"""Train what is missing of a set of runs: in which banks, by which plan, into which store."""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tsp.atomic import own_folder, replace_file
from tsp.errors import InputError
from tsp.experiments.banks import Events, Job, Keeping, train_into
from tsp.problems.loading import load_problems
from tsp.store.locks import are_free, claimed, tidy
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.bounds import LARGEST
from tsp.training.members import encode_all
from tsp.training.memory import fitted, free_memory
from tsp.training.precision import PRECISIONS, check_known, choose
from tsp.training.spec import RunSpec
from tsp.training.stopping import Stop, Stopped, never
from tsp.training.trainer import Plan

__all__ = ["Engine", "Events", "Here", "Job", "Keeping", "ensure", "jobs_of", "within_reach"]
PLAN_NAME = re.compile(r"\w[\w.-]{0,99}")  # no path
MOST_THREADS = 4096  # more in a plan is a slip
# A CPU is busy with one run already, a GPU wants many.
BANK = {"cpu": 8, "cuda": 64} | dict.fromkeys(models.DIVIDED, 64)
PAUSE = 1.0  # seconds between two looks at banks that another sweep trains


def jobs_of(specs: Iterable[RunSpec]) -> list[Job]:
    """Load each spec's problems and work out its id; runs that coincide become one."""
    jobs: dict[str, Job] = {}
    names: dict[str, str] = {}
    for spec in specs:
        spec = _with_donor(spec, names)
        told = ("data", "regime", "problem", "wrong_answers")
        problems = load_problems(spec.task, **{name: getattr(spec, name) for name in told})
        model = names.setdefault(spec.model, models.fingerprint(spec.model))
        run_id = spec.id(problems, model=model)
        jobs.setdefault(run_id, Job(spec, problems, run_id))
    return list(jobs.values())


def _with_donor(spec: RunSpec, fingerprints: dict[str, str]) -> RunSpec:
    """Put a run's id in place of ``init_run="#K"``."""
    if not spec.init_run.startswith("#"):
        return spec
    problem = int(spec.init_run[1:])
    donor = spec.but(init=spec.settings.init, init_run="", problem=problem, method="ce")
    problems = load_problems(spec.task, data=spec.data, regime=spec.regime, problem=problem)
    model = fingerprints.setdefault(spec.model, models.fingerprint(spec.model))
    return spec.but(init_run=donor.id(problems, model=model))


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
    bank: int | None = None,
    events: Events | None = None,
    keeping: Keeping | None = None,
    engine: "Engine | None" = None,
) -> list[str]:
    """Train what the store lacks and return the ids of all the runs asked for.

    Banks and their order, and for each model how it is computed (micro-batches, threads,
    precision), are written before a bank trains; a sweep that was interrupted, or killed, goes on
    with the plan it finds and each bank with its last checkpoint. A damaged run is set aside under
    another name and trained again. What another sweep on the store is at is waited for.

    Parameters
    ----------
    specs
        Runs that are wanted.
    store
        Where they are, or will be.
    name
        Of the plan, ``plans/NAME-DEVICE-HASH.json`` in the store, with a hash of the runs' ids.
    device
        As `tsp.training.models.load` takes it.
    precision
        As `tsp.training.precision.choose` takes it; ``auto`` keeps what a plan to go on with says,
        or what the runs of these that are stored have.
    token_budget
        Positions of one forward pass; None: the plan's own.
    bank
        Runs that train together, where nothing is planned yet; None: `BANK`'s of the device.
    events
        Whom to tell.
    keeping
        How often the state of what trains is kept, and who may ask it to stop.
    engine
        Where banks are trained; None: here, one after the other.

    Returns
    -------
    list[str]
        One id a run, in the order of ``specs``, each once.

    Raises
    ------
    InputError
        If there is no such model, device or precision, or if a run is stored in another precision
        than the one asked for.
    Stopped
        If it was asked to stop; the same call goes on.
    FloatingPointError
        If runs could not go on, after all others are stored.
    """
    specs = list(specs)
    first = [spec for spec in specs if not spec.init_run]
    if 0 < len(first) < len(specs):  # runs that begin with others' prompts come after those
        told: dict[str, Any] = {
            "name": name,
            "device": device,
            "precision": precision,
            "bank": bank,
        }
        told |= {"token_budget": token_budget, "events": events, "keeping": keeping}
        rest = [spec for spec in specs if spec.init_run]
        both = [ensure(it, store, engine=engine, **told) for it in (first, rest)]
        return list(dict.fromkeys([*both[0], *both[1]]))
    events, keeping, engine = events or Events(), keeping or Keeping(), engine or Here()
    if not PLAN_NAME.fullmatch(name):
        raise InputError("name", name, "a plan's name has letters, digits, -, _ and . alone")
    jobs = jobs_of(specs)
    check_known(precision)
    missing = [job for job in jobs if not _usable(store, job.id, events)]
    wishes = _wishes(jobs, store, precision)
    failures: list[str] = []
    if missing:
        place = engine.place(device)
        path = _plan_path(store, f"{name}-{place.split(':')[0]}", jobs)
        engine.check(missing[0], place, alone=len(jobs) == 1)  # fails before a plan is written
        size = bank or BANK.get(place.split(":")[0], BANK["cpu"])
        with claimed(store.root, [path.stem], wait=keeping.stop):
            own_folder(path.parent)
            schedule = _begun(path, jobs, missing, device=place, precision=precision)
            if schedule is None:
                schedule = Schedule(path, place, {}, banks_of(missing, size))
                schedule.write()
        schedule.wishes, schedule.token_budget = wishes, token_budget
        failures = engine.train(schedule, store, events=events, keeping=keeping)
    plans = [path.stem for path in (store.root / "plans").glob(f"{name}-*.json")]
    tidy(store.root, [*plans, *(job.id for job in jobs if job.id in store)])
    if failures:
        raise FloatingPointError("; ".join(failures))
    return [job.id for job in jobs if job.id in store]


def _wishes(jobs: list[Job], store: Store, precision: str) -> dict[str, str]:
    """Precision asked for, for each model; ``auto`` goes on with what its stored runs have."""
    stored: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        if job.id in store and job.spec.rounding != "precision":
            found = store.read(job.id).precision
            stored[job.spec.model].add(found)
            if precision not in ("auto", found):
                remedy = f"run {job.id} was trained in {found}; say auto or name another store"
                raise InputError("precision", precision, remedy)
    alike = {model: next(iter(found)) for model, found in stored.items() if len(found) == 1}
    return {job.spec.model: alike.get(job.spec.model, precision) for job in jobs}


class BaseModel:
    """The base model of the bank that trains; the one before it is let go first."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._held: models.Frozen | None = None

    def holds(self, name: str) -> bool:
        """Whether a model is the one that is held."""
        return self._held is not None and self._held.name == name

    def named(self, name: str) -> models.Frozen:
        """Load a model, if it is not the one that is held."""
        if self._held is None or not self.holds(name):
            self._held = None
            self._held = models.load(name, device=self.device)
        return self._held


class Engine(Protocol):
    """Where the banks of a sweep are trained."""

    def place(self, device: str) -> str:
        """Device that ``device`` means there."""
        ...

    def check(self, job: Job, place: str, *, alone: bool) -> None:
        """Raise what is wrong with a job's model; if it is alone, with its problems too."""
        ...

    def train(
        self, schedule: "Schedule", store: Store, *, events: Events, keeping: Keeping
    ) -> list[str]:
        """Train what the store lacks of a schedule; say why some runs could not go on."""
        ...


class Here:
    """Banks one after the other, in this process."""

    def place(self, device: str) -> str:
        """As `tsp.training.models.load` takes it."""
        return models.resolve_device(device)

    def check(self, job: Job, place: str, *, alone: bool) -> None:
        """Load the model."""
        self.base = BaseModel(place)
        frozen = self.base.named(job.spec.model)
        if alone:
            encode_all(job.spec, frozen, job.problems)

    def train(
        self, schedule: "Schedule", store: Store, *, events: Events, keeping: Keeping
    ) -> list[str]:
        """Train the banks in their order; those that another sweep is at come last."""
        failures: list[str] = []
        waiting, told_of = schedule.missing(store), 0
        while waiting:
            held = []
            for number, jobs in waiting:
                if asked := keeping.stop():
                    raise Stopped(asked, f"stopped before bank {number}")
                if not are_free(store.root, [job.id for job in jobs]):
                    held.append((number, jobs))
                    continue
                frozen = self.base.named(jobs[0].spec.model)
                make = lambda: schedule.planned(frozen)  # noqa: B023, E731
                plan = schedule.plan(frozen.name, make, keeping.stop)
                told = {"number": number, "banks": len(schedule.banks)}
                found = train_into(
                    store, jobs, frozen, plan, events=events, keeping=keeping, **told
                )
                failures += found or []
                held += [(number, jobs)] if found is None else []
                del frozen  # so that another model does not stand beside it
            if len(held) == len(waiting):
                if len(held) != told_of:
                    told_of = len(held)
                    events.say(f"waiting for {told_of} banks that another sweep trains")
                time.sleep(PAUSE)
            waiting = [(k, jobs) for k, jobs in held if not _whole(jobs, store)]
        return failures


@dataclass
class Schedule:
    """Banks in their order, and the plan of each model, made when its first bank's turn comes.

    Parameters
    ----------
    path
        Where a sweep that was interrupted finds it.
    device
        Of the training.
    plans
        By model.
    banks
        Runs that train together.
    wishes
        Precision asked for, by model.
    token_budget
        Of one forward pass; None: as the memory allows.
    """

    path: Path
    device: str
    plans: dict[str, Plan]
    banks: list[list[Job]]
    wishes: Mapping[str, str] = field(default_factory=dict)
    token_budget: int | None = None

    def write(self) -> None:
        """Write it where a sweep that was interrupted finds it."""
        told = {
            "device": self.device,
            "plans": {model: asdict(plan) for model, plan in self.plans.items()},
            "banks": [[job.id for job in bank] for bank in self.banks],
        }
        replace_file(self.path, json.dumps(told, indent=1) + "\n")

    def missing(self, store: Store) -> list[tuple[int, list[Job]]]:
        """Number, from 1, and runs of each bank that is not stored whole."""
        return [(k, jobs) for k, jobs in enumerate(self.banks, 1) if not _whole(jobs, store)]

    def plan(self, model: str, make: Callable[[], Plan], stop: Stop = never) -> Plan:
        """Plan of a model: the one that is written, maybe by another sweep, or a new one."""
        if model not in self.plans:
            with claimed(_root(self.path), [self.path.stem], wait=stop):
                written = _read_plans(self.path)
                self.plans |= written if written else {}
                if model not in self.plans:
                    self.plans[model] = make()
                    self.write()
        return self.plans[model]

    def planned(self, frozen: models.Frozen, plan: Plan | None = None, *, beside: int = 1) -> Plan:
        """Make the plan of a model: its precision, and budgets that fit the free memory.

        ``beside``: so many banks train on the device at once.
        """
        precision = choose(self.wishes.get(frozen.name, "auto"), frozen)
        plan = replace(plan or Plan(), precision=precision)
        plan = _settings(self.banks, frozen, plan, beside=beside)
        budget = self.token_budget
        return plan if budget is None else replace(plan, token_budget=budget)


def _whole(jobs: Sequence[Job], store: Store) -> bool:
    return all(job.id in store for job in jobs)


def _plan_path(store: Store, name: str, jobs: Sequence[Job]) -> Path:
    told = hashlib.sha256(" ".join(sorted(job.id for job in jobs)).encode()).hexdigest()[:8]
    return store.root / "plans" / f"{name}-{told}.json"


def _root(plan: Path) -> Path:
    """The store that a plan is in."""
    return plan.parent.parent


def _usable(store: Store, run_id: str, events: Events) -> bool:
    """Whether a run is stored and sound; one that is damaged is set aside."""
    if run_id not in store:
        return False
    if store.verify(run_id) is None:
        return True
    with claimed(store.root, [run_id]) as mine:  # else another sweep trains it just now
        why = store.verify(run_id) if mine and run_id in store else None
        if why:
            events.set_aside(why, store.set_aside(run_id))
    return False


def _settings(banks: list[list[Job]], frozen: models.Frozen, plan: Plan, *, beside: int) -> Plan:
    """Fit a plan's budgets to the free memory, for the longest problems of a model's runs."""
    found: list[tuple[RunSpec, list[models.Encoded]]] = []
    for job in (job for bank in banks for job in bank):
        with suppress(InputError):  # longer than the window: left out, and told of, later
            if job.spec.model == frozen.name:
                found.append((job.spec, encode_all(job.spec, frozen, job.problems)))
    longest = sorted(found, key=lambda it: -max(c.length(it[0].n_tokens) for c in it[1]))
    if not longest:
        return plan
    specs, encoded = zip(*longest[: max(map(len, banks))], strict=True)
    free = free_memory(str(frozen.device)) // beside if beside > 1 else None
    return fitted(plan, frozen, specs, encoded, free=free)


def _read_plans(path: Path) -> dict[str, Plan] | None:
    """Plans by model as they are written, None if there are none."""
    try:
        told = json.loads(path.read_text()) if path.is_file() else {}  # a pipe is not waited for
        return {model: _as_plan(plan) for model, plan in told["plans"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _begun(
    path: Path, jobs: list[Job], missing: list[Job], *, device: str, precision: str
) -> Schedule | None:
    """Read what an interrupted sweep of these runs had planned, if there is one that fits."""
    plans = _read_plans(path)
    if plans is None:
        return None
    try:
        told = json.loads(path.read_text())
        banks: list[list[str]] = told["banks"]
        planned = {i for bank in banks for i in bank}
        alike = told["device"] == device and sum(map(len, banks)) == len(planned)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    by_id = {job.id: job for job in jobs}
    alike &= {job.id for job in missing} <= planned <= set(by_id)
    if not alike:
        return None
    if any(precision not in ("auto", plan.precision) for plan in plans.values()):
        return None
    return Schedule(path, device, plans, [[by_id[i] for i in bank] for bank in banks])


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


class HasSpec(Protocol):
    """A `Job`, or what is to become one."""

    @property
    def spec(self) -> RunSpec:
        """What is trained."""
        ...


T = TypeVar("T", bound=HasSpec)


def banks_of(jobs: Iterable[T], size: int) -> list[list[T]]:
    """Group runs that cost about the same for about as long; one model and rounding a bank."""
    groups: dict[tuple[Any, ...], list[T]] = defaultdict(list)
    for job in jobs:
        spec = job.spec
        alike = (spec.model, spec.task, spec.regime, spec.protocol, spec.epochs, spec.rounding)
        groups[alike].append(job)
    banks = []
    for (*_, rounding), group in groups.items():
        step = 1 if rounding == "bank" else size
        banks += [group[i : i + step] for i in range(0, len(group), step)]
    return banks
