"""Train the runs that a store lacks: in which banks, by which plan, in which order."""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from tsp.atomic import own_folder, replace_file
from tsp.errors import Damaged, InputError
from tsp.experiments.banks import CheckpointPolicy, Events, first_prompt, train_into, unstored
from tsp.experiments.jobs import Job, banks_of, jobs_of
from tsp.store.locks import claimed, tidy
from tsp.store.runs import Run, Store
from tsp.training import models
from tsp.training.members import encode_all
from tsp.training.memory import fitted, free_memory
from tsp.training.precision import check_known, choose
from tsp.training.spec import RunSpec
from tsp.training.stopping import Interrupted, StopSignal
from tsp.training.trainer import Plan

__all__ = ["CheckpointPolicy", "Events", "Job", "LocalEngine", "banks_of", "ensure", "jobs_of"]
PLAN_NAME = re.compile(r"\w[\w.-]{0,99}")  # no path
# A few runs keep a CPU busy; a GPU needs many.
BANK = {"cpu": 8, "cuda": 64} | dict.fromkeys(models.DIVIDED, 64)
PAUSE_SECONDS = 1.0  # between two attempts to train banks that another sweep is training


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

    The plan (banks and their order; for each model micro-batches, threads and precision) is
    written before a bank trains. A sweep that was interrupted or killed resumes with its plan, and
    each bank with its last checkpoint. A damaged run is renamed and trained again. Banks that
    another sweep is training are waited for. Runs that begin with another's prompt come last.

    Parameters
    ----------
    name
        Name of the plan, ``plans/NAME-DEVICE-HASH.json`` in the store, with a hash of the ids.
    device
        Device, as `tsp.training.models.load` takes it.
    precision
        Precision, as `tsp.training.precision.choose` takes it; ``auto`` keeps that of the plan to
        resume, or of those of the runs that are stored.
    token_budget
        Positions of one forward pass; None: the plan's own.
    bank
        Runs that train together in a new plan; None: `BANK`'s of the device.
    engine
        Engine that trains the banks; None: in this process, one after the other.

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
    if not PLAN_NAME.fullmatch(name):
        raise InputError("name", name, "a plan's name has letters, digits, -, _ and . alone")
    check_known(precision)
    events, policy = events or Events(), policy or CheckpointPolicy()
    engine, jobs = engine or LocalEngine(), jobs_of(specs)
    if len(jobs) == 1 and jobs[0].id not in store:  # what leaves a run out of a sweep fails here
        only, frozen = jobs[0], models.load(jobs[0].spec.model, device="meta")
        encode_all(only.spec, frozen, only.problems)
        first_prompt(only.spec, store, frozen.dim)
    failures: list[str] = []
    for later in (False, True):
        group = [job for job in jobs if bool(job.spec.init_run) == later]
        stored = {job.id: run for job in group if (run := _valid_run(store, job.id, events))}
        precisions = _precisions(group, stored, precision)
        missing = [job for job in group if job.id not in stored]
        if missing:
            place = engine.place(device)
            kind = place.split(":")[0]
            banks = banks_of(missing, bank or BANK.get(kind, BANK["cpu"]))
            path = store.root / "plans" / f"{name}-{kind}-{_digest(group)}.json"
            schedule = Schedule(path, place, group, banks, precisions, token_budget)
            schedule.resume(policy.stop)
            failures += engine.train(schedule, store, events=events, policy=policy)
    plans = [path.stem for path in (store.root / "plans").glob(f"{name}-*.json")]
    ids = [job.id for job in jobs if job.id in store]
    tidy(store.root, [*plans, *ids])
    if failures:
        raise FloatingPointError("; ".join(failures))
    return ids


def _valid_run(store: Store, run_id: str, events: Events) -> Run | None:
    """Return a stored run, or None; a damaged one is quarantined."""
    if run_id not in store:
        return None
    try:
        return store.read(run_id)
    except Damaged:
        with claimed(store.root, [run_id]) as mine:  # else another sweep is training it
            problem = store.verify(run_id) if mine and run_id in store else None
            if problem:
                events.quarantined(problem, store.quarantine(run_id))
        return None


def _precisions(jobs: Sequence[Job], stored: Mapping[str, Run], precision: str) -> dict[str, str]:
    """Return the precision asked for, by model; ``auto`` takes that of its stored runs."""
    known: dict[str, set[str]] = {job.spec.model: set() for job in jobs}
    for job in jobs:
        if job.id in stored and job.spec.rounding != "precision":
            used = stored[job.id].precision
            known[job.spec.model].add(used)
            if precision not in ("auto", used):
                remedy = f"run {job.id} was trained in {used}; say auto or name another store"
                raise InputError("precision", precision, remedy)
    return {model: used.pop() if len(used) == 1 else precision for model, used in known.items()}


def _digest(jobs: Iterable[Job]) -> str:
    return hashlib.sha256(" ".join(sorted(job.id for job in jobs)).encode()).hexdigest()[:8]


@dataclass
class Schedule:
    """Banks in their order, and the plan of each model, made when its first bank's turn comes."""

    path: Path  # its file, from which an interrupted sweep resumes
    device: str
    jobs: list[Job]  # all runs of the sweep
    banks: list[list[Job]]  # runs that train together
    precisions: Mapping[str, str]  # asked for, by model
    token_budget: int | None = None  # positions of one forward pass; None: as the memory allows
    plans: dict[str, Plan] = field(default_factory=dict)  # by model
    threads: int = field(default_factory=torch.get_num_threads)  # of a bank
    banks_per_device: int = 1  # that train at once

    def written(self) -> tuple[list[list[Job]], dict[str, Plan]] | None:
        """Return the banks and plans in its file, if there is a valid one."""
        by_id = {job.id: job for job in self.jobs}
        try:
            content = json.loads(self.path.read_text())
            plans = {model: Plan(**plan) for model, plan in content["plans"].items()}
            banks = [[by_id[run_id] for run_id in bank] for bank in content["banks"]]
            return (banks, plans) if content["device"] == self.device else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def resume(self, stop: StopSignal) -> None:
        """Take the banks and plans of its file if they have all its runs, or write it anew."""
        with claimed(self.path.parent.parent, [self.path.stem], wait=stop):
            own_folder(self.path.parent)
            banks, plans = self.written() or ([], {})
            ids = [job.id for bank in banks for job in bank]
            complete = {job.id for bank in self.banks for job in bank} <= set(ids)
            as_asked = all(
                self.precisions.get(model, "auto") in ("auto", plan.precision)
                for model, plan in plans.items()
            )
            if complete and as_asked and len(set(ids)) == len(ids):
                self.banks, self.plans = banks, plans
            else:
                self.write()

    def write(self) -> None:
        """Write the file."""
        content = {
            "device": self.device,
            "plans": {model: asdict(plan) for model, plan in self.plans.items()},
            "banks": [[job.id for job in bank] for bank in self.banks],
        }
        replace_file(self.path, json.dumps(content, indent=1) + "\n")

    def missing(self, store: Store) -> list[int]:
        """Return the numbers, from 1, of the banks with a run that the store lacks."""
        banks = enumerate(self.banks, 1)
        return [number for number, jobs in banks if any(job.id not in store for job in jobs)]

    def plan(self, frozen: models.BaseLM, stop: StopSignal) -> Plan:
        """Return the plan of a model: the written one, maybe by another sweep, or a new one."""
        if frozen.name not in self.plans:
            with claimed(self.path.parent.parent, [self.path.stem], wait=stop):
                _, plans = self.written() or ([], {})
                self.plans |= plans
                if frozen.name not in self.plans:
                    self.plans[frozen.name] = self._new_plan(frozen)
                    self.write()
        return self.plans[frozen.name]

    def _new_plan(self, frozen: models.BaseLM) -> Plan:
        """Plan the training of a model: its precision, and budgets that fit the free memory."""
        precision = choose(self.precisions.get(frozen.name, "auto"), frozen)
        plan = Plan(threads=self.threads, precision=precision)
        runs = []
        for job in (job for bank in self.banks for job in bank if job.spec.model == frozen.name):
            with suppress(InputError):  # too long for the model: left out later
                runs.append((job.spec, encode_all(job.spec, frozen, job.problems)))
        runs.sort(key=lambda run: -max(coded.length(run[0].n_tokens) for coded in run[1]))
        if runs:
            specs, encoded = zip(*runs[: max(map(len, self.banks))], strict=True)
            share = self.banks_per_device
            free = free_memory(str(frozen.device)) // share if share > 1 else None
            plan = fitted(plan, frozen, specs, encoded, free=free)
        return replace(plan, token_budget=self.token_budget or plan.token_budget)


class LocalEngine:
    """Trains banks one after the other in this process, with one base model loaded at a time."""

    def __init__(self) -> None:
        self.loaded: dict[str, models.BaseLM] = {}

    def place(self, device: str) -> str:
        """Return the device that ``device`` means here."""
        return models.resolve_device(device)

    def train(
        self, schedule: Schedule, store: Store, *, events: Events, policy: CheckpointPolicy
    ) -> list[str]:
        """Train the banks that the store lacks; return why runs failed, if any did.

        Banks that another sweep is training come last.
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
            if held == waiting:
                if len(held) != reported:
                    reported = len(held)
                    events.say(f"waiting for {reported} banks that another sweep is training")
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
        """Train one bank; return why runs failed, or None if another process has one of them."""
        bank = schedule.banks[number - 1]
        with claimed(store.root, [job.id for job in bank]) as mine:
            if not mine:
                return None
            jobs = unstored(bank, store)
            if not jobs:
                return []
            frozen = self._model(jobs[0].spec.model, schedule.device)
            plan = schedule.plan(frozen, policy.stop)
            place = {"number": number, "banks": len(schedule.banks)}
            return train_into(store, jobs, frozen, plan, events=events, policy=policy, **place)

    def _model(self, name: str, device: str) -> models.BaseLM:
        if name not in self.loaded:
            self.loaded.clear()  # two models would need the memory of both
            self.loaded[name] = models.load(name, device=device)
        return self.loaded[name]
