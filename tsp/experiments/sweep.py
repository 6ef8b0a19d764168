"""Train the runs of a set that a store lacks: in which banks, by which plan, into which store."""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tsp.atomic import own_folder, replace_file
from tsp.errors import Damaged, InputError
from tsp.experiments.banks import CheckpointPolicy, Events, train_into
from tsp.experiments.jobs import Job, banks_of, jobs_of
from tsp.store.locks import claimed, tidy
from tsp.store.runs import Run, Store
from tsp.training import models
from tsp.training.members import encode_all
from tsp.training.memory import fitted, free_memory
from tsp.training.precision import check_known, choose
from tsp.training.spec import RunSpec
from tsp.training.stopping import Interrupted, StopSignal, never
from tsp.training.trainer import Plan

__all__ = ["CheckpointPolicy", "Events", "Job", "LocalEngine", "banks_of", "ensure", "jobs_of"]
PLAN_NAME = re.compile(r"\w[\w.-]{0,99}")  # no path
# A CPU is busy with one run already, a GPU wants many.
BANK = {"cpu": 8, "cuda": 64} | dict.fromkeys(models.DIVIDED, 64)
PAUSE_SECONDS = 1.0  # between two attempts to train banks that another sweep trains


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
    policy: CheckpointPolicy | None = None,
    engine: "LocalEngine | None" = None,
) -> list[str]:
    """Train the runs that the store lacks and return the ids of all the runs asked for.

    Banks and their order, and for each model how it is computed (micro-batches, threads,
    precision), are written before a bank trains; a sweep that was interrupted or killed resumes
    with the plan it finds, and each bank with its last checkpoint. A damaged run is renamed
    and trained again. Banks that another sweep on the store trains are waited for.

    Parameters
    ----------
    specs
        Runs that are wanted.
    store
        Where they are, or will be.
    name
        Name of the plan, ``plans/NAME-DEVICE-HASH.json`` in the store, with a hash of the ids.
    device
        As `tsp.training.models.load` takes it.
    precision
        As `tsp.training.precision.choose` takes it; ``auto`` keeps that of a plan to resume, or of
        those of these runs that are stored.
    token_budget
        Positions of one forward pass; None: the plan's own.
    bank
        Runs that train together, where nothing is planned yet; None: `BANK`'s of the device.
    events
        Callbacks.
    policy
        Checkpoints, and the signal to stop.
    engine
        Where banks are trained; None: in this process, one after the other.

    Returns
    -------
    list[str]
        One id a run, in the order of ``specs``, each once.

    Raises
    ------
    InputError
        If there is no such model, device or precision, or if a run is stored in another precision
        than the one asked for.
    Interrupted
        If it was asked to stop; the same call resumes.
    FloatingPointError
        If runs diverged, after all others are stored.
    """
    specs = list(specs)
    options: dict[str, Any] = {"device": device, "precision": precision, "bank": bank}
    options |= {"name": name, "token_budget": token_budget, "events": events}
    options |= {"policy": policy, "engine": engine}
    first = [spec for spec in specs if not spec.init_run]
    if 0 < len(first) < len(specs):  # runs that begin with others' prompts come after those
        rest = [spec for spec in specs if spec.init_run]
        ids = [*ensure(first, store, **options), *ensure(rest, store, **options)]
        return list(dict.fromkeys(ids))
    events, policy, engine = (
        events or Events(),
        policy or CheckpointPolicy(),
        engine or LocalEngine(),
    )
    if not PLAN_NAME.fullmatch(name):
        raise InputError("name", name, "a plan's name has letters, digits, -, _ and . alone")
    jobs = jobs_of(specs)
    check_known(precision)
    stored = {job.id: run.precision for job in jobs if (run := _valid_run(store, job.id, events))}
    missing = [job for job in jobs if job.id not in stored]
    precisions = _precisions(jobs, stored, precision)
    failures: list[str] = []
    if missing:
        place = engine.place(device)
        kind = place.split(":")[0]
        engine.check(missing[0], place, alone=len(jobs) == 1)  # fails before a plan is written
        digest = hashlib.sha256(" ".join(sorted(job.id for job in jobs)).encode()).hexdigest()[:8]
        path = store.root / "plans" / f"{name}-{kind}-{digest}.json"
        with claimed(store.root, [path.stem], wait=policy.stop):
            own_folder(path.parent)
            schedule = Schedule.read(path, jobs, place)
            if schedule is None or not schedule.fits(missing, precision):
                size = bank or BANK.get(kind, BANK["cpu"])
                schedule = Schedule(path, place, banks_of(missing, size))
                schedule.write()
        schedule.precisions, schedule.token_budget = precisions, token_budget
        failures = engine.train(schedule, store, events=events, policy=policy)
    plans = [path.stem for path in (store.root / "plans").glob(f"{name}-*.json")]
    ids = [job.id for job in jobs if job.id in stored or job.id in store]
    tidy(store.root, [*plans, *ids])
    if failures:
        raise FloatingPointError("; ".join(failures))
    return ids


def _valid_run(store: Store, run_id: str, events: Events) -> Run | None:
    """Return a stored run, or None; one that is damaged is quarantined."""
    if run_id not in store:
        return None
    try:
        return store.read(run_id)
    except Damaged:
        with claimed(store.root, [run_id]) as mine:  # else another sweep trains it just now
            problem = store.verify(run_id) if mine and run_id in store else None
            if problem:
                events.quarantined(problem, store.quarantine(run_id))
        return None


def _precisions(jobs: Sequence[Job], stored: Mapping[str, str], precision: str) -> dict[str, str]:
    """Return the precision asked for, by model; ``auto`` takes that of its stored runs."""
    known: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        if job.id in stored and job.spec.rounding != "precision":
            known[job.spec.model].add(stored[job.id])
            if precision not in ("auto", stored[job.id]):
                remedy = (
                    f"run {job.id} was trained in {stored[job.id]}; say auto or name another store"
                )
                raise InputError("precision", precision, remedy)
    alike = {model: next(iter(kinds)) for model, kinds in known.items() if len(kinds) == 1}
    return {job.spec.model: alike.get(job.spec.model, precision) for job in jobs}


@dataclass
class Schedule:
    """Banks in their order, and the plan of each model, made when its first bank's turn comes.

    Attributes
    ----------
    path
        Its file, from which a sweep that was interrupted resumes.
    device
        Where the banks are trained.
    banks
        Runs that train together.
    plans
        By model.
    precisions
        Precision asked for, by model.
    token_budget
        Positions of one forward pass; None: as the memory allows.
    """

    path: Path
    device: str
    banks: list[list[Job]]
    plans: dict[str, Plan] = field(default_factory=dict)
    precisions: Mapping[str, str] = field(default_factory=dict)
    token_budget: int | None = None

    @classmethod
    def read(cls, path: Path, jobs: Iterable[Job], device: str) -> "Schedule | None":
        """Read the schedule of an interrupted sweep of these runs, if there is one."""
        by_id = {job.id: job for job in jobs}
        try:
            content = json.loads(path.read_text())
            plans = {model: Plan(**plan) for model, plan in content["plans"].items()}
            banks = [[by_id[run_id] for run_id in bank] for bank in content["banks"]]
            return cls(path, device, banks, plans) if content["device"] == device else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def fits(self, missing: Iterable[Job], precision: str) -> bool:
        """Return whether it holds all runs that are missing, once, in this precision."""
        ids = [job.id for bank in self.banks for job in bank]
        whole = {job.id for job in missing} <= set(ids) and len(set(ids)) == len(ids)
        return whole and all(precision in ("auto", it.precision) for it in self.plans.values())

    def write(self) -> None:
        """Write its file."""
        content = {
            "device": self.device,
            "plans": {model: asdict(plan) for model, plan in self.plans.items()},
            "banks": [[job.id for job in bank] for bank in self.banks],
        }
        replace_file(self.path, json.dumps(content, indent=1) + "\n")

    def missing(self, store: Store) -> list[int]:
        """Return the numbers, from 1, of the banks that are not stored whole."""
        return [
            number
            for number, jobs in enumerate(self.banks, 1)
            if any(job.id not in store for job in jobs)
        ]

    def plan(self, model: str, make: Callable[[], Plan], stop: StopSignal = never) -> Plan:
        """Return the plan of a model: one that is written, maybe by another sweep, or a new one."""
        if model not in self.plans:
            with claimed(self.path.parent.parent, [self.path.stem], wait=stop):
                jobs = [job for bank in self.banks for job in bank]
                written = Schedule.read(self.path, jobs, self.device)
                self.plans |= written.plans if written else {}
                if model not in self.plans:
                    self.plans[model] = make()
                    self.write()
        return self.plans[model]

    def new_plan(self, frozen: models.BaseLM, plan: Plan, *, beside: int = 1) -> Plan:
        """Plan the training of a model: its precision, and budgets that fit the free memory.

        Parameters
        ----------
        frozen
            The model, on its device.
        plan
            What else is planned.
        beside
            So many banks train on the device at once.
        """
        precision = choose(self.precisions.get(frozen.name, "auto"), frozen)
        plan = replace(plan, precision=precision)
        encoded = []
        for job in (job for bank in self.banks for job in bank if job.spec.model == frozen.name):
            with suppress(InputError):  # too long for the model: left out later
                encoded.append((job.spec, encode_all(job.spec, frozen, job.problems)))
        encoded.sort(key=lambda it: -max(one.length(it[0].n_tokens) for one in it[1]))
        if encoded:
            specs, problems = zip(*encoded[: max(map(len, self.banks))], strict=True)
            free = free_memory(str(frozen.device)) // beside if beside > 1 else None
            plan = fitted(plan, frozen, specs, problems, free=free)
        return replace(plan, token_budget=self.token_budget or plan.token_budget)


class LocalEngine:
    """Trains banks one after the other, in this process; it holds one base model at a time."""

    def __init__(self) -> None:
        self.usual = Plan()  # what new plans begin with
        self.beside = 1  # banks that train on the device at once
        self._frozen: models.BaseLM | None = None

    def place(self, device: str) -> str:
        """Return the device that ``device`` means here."""
        return models.resolve_device(device)

    def check(self, job: Job, place: str, *, alone: bool) -> None:
        """Raise if a job's model cannot be loaded or, if it is alone, its problems do not fit."""
        frozen = self.model(job.spec.model, place)
        if alone:
            encode_all(job.spec, frozen, job.problems)

    def holds(self, name: str) -> bool:
        """Return whether a model is the one that is loaded."""
        return self._frozen is not None and self._frozen.name == name

    def model(self, name: str, device: str) -> models.BaseLM:
        """Return a model, loaded unless it is the one that is held."""
        if self._frozen is None or not self.holds(name):
            self._frozen = None  # so that two do not stand beside one another
            self._frozen = models.load(name, device=device)
        return self._frozen

    def train(
        self, schedule: Schedule, store: Store, *, events: Events, policy: CheckpointPolicy
    ) -> list[str]:
        """Train the banks that the store lacks; return why some runs could not be trained.

        Banks that another sweep trains come last.
        """
        failures: list[str] = []
        waiting, reported = schedule.missing(store), 0
        while waiting:
            held = []
            for number in waiting:
                if signal := policy.stop():
                    raise Interrupted(signal, f"stopped before bank {number}")
                result = self.train_bank(schedule, number, store, events=events, policy=policy)
                failures += result or []
                held += [number] if result is None else []
            if len(held) == len(waiting):
                if len(held) != reported:
                    reported = len(held)
                    events.say(f"waiting for {reported} banks that another sweep trains")
                time.sleep(PAUSE_SECONDS)
            waiting = [number for number in held if number in schedule.missing(store)]
        return failures

    def train_bank(
        self,
        schedule: Schedule,
        number: int,
        store: Store,
        *,
        events: Events,
        policy: CheckpointPolicy,
    ) -> list[str] | None:
        """Train one bank, as `tsp.experiments.banks.train_into` does."""
        jobs = schedule.banks[number - 1]

        def prepare() -> tuple[models.BaseLM, Plan]:
            frozen = self.model(jobs[0].spec.model, schedule.device)
            make = partial(schedule.new_plan, frozen, self.usual, beside=self.beside)
            return frozen, schedule.plan(frozen.name, make, policy.stop)

        place = {"number": number, "banks": len(schedule.banks)}
        return train_into(store, jobs, prepare, events=events, policy=policy, **place)
