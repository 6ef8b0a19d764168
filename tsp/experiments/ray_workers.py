"""The side of a Ray cluster that trains: a worker, what it is told and what it tells."""

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch

from tsp.errors import InputError
from tsp.experiments.banks import Events, Job, Keeping, train_into
from tsp.experiments.sweep import BaseModel, Schedule
from tsp.problems.loading import Problem
from tsp.provenance import commit, versions
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.spec import RunSpec
from tsp.training.stopping import Stopped
from tsp.training.trainer import Plan

TELL = 0.5  # seconds between two reports of a bank
HELD, STOPPED = "held", "stopped"  # what may come back in place of failures
Message = tuple[str, int, Any]  # what, number of the bank, more


class Board:
    """An actor beside the driver: workers write what happens on it and read whether to stop."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.asked = 0

    def tell(self, message: Message) -> int:
        """Write a message; read the signal that asked to stop, or 0."""
        self.messages.append(message)
        return self.asked

    def drain(self) -> list[Message]:
        """Take the messages."""
        found, self.messages = self.messages, []
        return found

    def ask(self, number: int) -> None:
        """Ask workers to stop, for a signal."""
        self.asked = number


@dataclass(frozen=True)
class Sent:
    """What a worker is told of a bank, besides its runs."""

    root: str
    plan_file: str
    banks_hash: str
    device: str
    plan: Plan
    number: int
    banks: int
    every: float
    made: Mapping[str, str]


@dataclass
class Worker:
    """An actor with a device of its own; it keeps the model from one bank to the next."""

    board: Any
    base: BaseModel | None = field(default=None, init=False)

    def ready(self) -> str:
        """Answer when there is a process."""
        return _here()

    def plan(
        self,
        banks: list[list[Any]],
        model: str,
        device: str,
        wishes: dict[str, str],
        token_budget: int | None,
        threads: int,
        beside: int,
    ) -> Plan:
        """Plan a model's training by the memory that is free here."""
        found = [_jobs(bank) for bank in banks]
        schedule = Schedule(Path(), device, {}, found, wishes, token_budget)
        torch.set_num_threads(threads)
        frozen = self.loaded(model, device, _Voice(self.board, 0))
        return schedule.planned(frozen, Plan(threads=threads), beside=beside)

    def train(self, told: Sent, jobs: list[Any]) -> list[str] | str:
        """Train a bank into the store."""
        voice, found = _Voice(self.board, told.number), _jobs(jobs)
        voice.tell("say", f"bank {told.number}: {_here()}")
        _check_node(told, found)
        frozen = self.loaded(found[0].spec.model, told.device, voice)
        if voice.asked:
            return STOPPED
        keeping = Keeping(told.every, lambda: voice.asked)
        place = {"number": told.number, "banks": told.banks}
        try:
            with voice.warnings():
                failures = train_into(
                    Store(told.root),
                    found,
                    frozen,
                    told.plan,
                    events=voice.events(),
                    keeping=keeping,
                    **place,
                )
        except Stopped:
            return STOPPED
        return HELD if failures is None else failures

    def loaded(self, name: str, device: str, voice: "_Voice") -> models.Frozen:
        """Load a model, unless it is the one that is held."""
        self.base = self.base or BaseModel(device)
        if not self.base.holds(name):
            voice.tell("say", f"{_here()} loads {name}")
        return self.base.named(name)


class _Voice:
    """What a worker tells the driver, who may have gone: training goes on all the same."""

    def __init__(self, board: Any, number: int) -> None:
        self.board, self.number, self.asked, self.last = board, number, 0, 0.0

    def tell(self, what: str, more: Any) -> None:
        with suppress(ray.exceptions.RayError):
            self.asked = ray.get(self.board.tell.remote((what, self.number, more)))

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Send what the package warns of."""

        def said(record: logging.LogRecord) -> bool:
            self.tell("say", f"bank {self.number}: {record.getMessage()}")
            return False  # it is handled

        handler = logging.Handler(logging.WARNING)
        handler.addFilter(said)
        logger = logging.getLogger("tsp")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def events(self) -> Events:
        """Events that send."""

        def begin(jobs: Sequence[Job], number: int, banks: int, peak: int) -> None:
            self.tell("begin", ([job.id for job in jobs], peak))

        def progress(now: Any) -> None:
            if now.epoch == now.epochs or time.monotonic() - self.last >= TELL:
                self.last = time.monotonic()
                self.tell("progress", now)

        return Events(
            begin,
            progress,
            lambda jobs: self.tell("stored", [job.id for job in jobs]),
            lambda job, why: self.tell("left_out", (job.id, why)),
        )


def _here() -> str:
    node = ray.get_runtime_context().get_node_id()[:6]
    return f"worker {os.getpid()} of node {node} ({platform.node()})"


def sent(job: Job) -> tuple[dict[str, Any], list[Problem], str]:
    """Turn a job into what can be sent."""
    return job.spec.to_dict(), job.problems, job.id


def _jobs(told: Sequence[tuple[dict[str, Any], list[Problem], str]]) -> list[Job]:
    return [Job(RunSpec.from_dict(spec), problems, run_id) for spec, problems, run_id in told]


def made() -> dict[str, str]:
    """What has to be the same on every node, or runs would not be those of one machine."""
    return {"Python": platform.python_version(), **versions(), "commit": commit()}


def banks_hash(plan: Path) -> str:
    """Stand for the banks of a plan that is written; empty where there is none."""
    try:
        banks = json.loads(plan.read_text())["banks"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256(json.dumps(banks).encode()).hexdigest()


def _check_node(told: Sent, jobs: Sequence[Job]) -> None:
    """See that a node has the same store, code and model as the driver."""
    node = platform.node()
    if banks_hash(Path(told.root, "plans", told.plan_file)) != told.banks_hash:
        raise InputError(
            "runs", told.root, f"is not shared with node {node}; name a folder that is"
        )
    other = [f"{name} {value}" for name, value in made().items() if told.made.get(name) != value]
    if other:
        remedy = f"this node has {', '.join(other)}; install what the driver has"
        raise InputError("address", node, remedy)
    marks = {name: models.fingerprint(name) for name in {job.spec.model for job in jobs}}
    for job in jobs:
        if job.spec.id(job.problems, model=marks[job.spec.model]) != job.id:
            raise InputError("model", job.spec.model, f"has other weights on node {node}")
