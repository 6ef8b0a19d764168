"""Out of one machine: the banks of a sweep as tasks of a Ray cluster, into one shared store."""

import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tsp import models
from tsp.banks import Events, Job, Keeping, train_into
from tsp.errors import InputError
from tsp.members import encode_all
from tsp.provenance import commit, versions
from tsp.runs import Store
from tsp.spec import RunSpec
from tsp.stopping import Stopped
from tsp.sweep import PAUSE, BaseModel, Schedule
from tsp.tasks import Problem
from tsp.trainer import Plan

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise InputError("engine", "ray", "needs Ray: pip install 'tsp[ray]'") from error

TRIES = 5  # more times a bank is begun elsewhere when its worker or node is lost
TELL = 0.5  # seconds between two reports of a bank
Message = tuple[str, int, Any]  # what, number of the bank, more


@dataclass
class Ray:
    """The engine of a Ray cluster; `tsp.sweep.Engine`.

    Parameters
    ----------
    address
        Of the cluster, as `ray.init` takes it; empty: ``$RAY_ADDRESS``, or a cluster of this
        machine alone that ends with the sweep.

    Raises
    ------
    InputError
        If Ray is not installed or no cluster answers.
    """

    address: str = ""
    threads: int = field(default=1, init=False)

    def place(self, device: str) -> str:
        """Device of the workers: ``auto`` is a GPU if the cluster has one."""
        if not ray.is_initialized():
            _connect(self.address)
        whole = ray.cluster_resources()
        if device == "auto":
            device = "cuda" if whole.get("GPU") else "cpu"
        if device in models.DIVIDED:
            remedy = "a bank has one GPU here; try auto, or --engine local"
            raise InputError("device", device, remedy)
        if device.startswith("cuda") and not whole.get("GPU"):
            raise InputError("device", device, "no node of the cluster has a GPU; try auto or cpu")
        nodes = [it["Resources"].get("CPU", 0) for it in ray.nodes() if it["Alive"]]
        self.threads = int(max(1, min(torch.get_num_threads(), max(nodes))))
        return device

    def check(self, job: Job, place: str, *, alone: bool) -> None:
        """Load the model's shapes; its weights are where the workers are."""
        frozen = models.load(job.spec.model, device="meta")
        if alone:
            encode_all(job.spec, frozen, job.problems)

    def train(
        self, schedule: Schedule, store: Store, *, events: Events, keeping: Keeping
    ) -> list[str]:
        """Train banks wherever there is room; a bank whose worker is lost begins elsewhere."""
        driver = _Driver(self.threads, schedule, store, events, keeping)
        return driver.work()


def _connect(address: str) -> None:
    """Join a cluster, or begin one of this machine alone."""
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal() and "/" not in host:  # Ray ends the process if none is there
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        advice = f"no Ray cluster answers ({error}); `ray start --head` begins one"
        raise InputError("address", address or "auto", advice) from error


class _Driver:
    """The side that has the schedule: hands out banks, shows how they go, asks them to stop."""

    def __init__(
        self, threads: int, schedule: Schedule, store: Store, events: Events, keeping: Keeping
    ) -> None:
        self.threads, self.schedule, self.events, self.keeping = threads, schedule, events, keeping
        self.store = Store(store.root.resolve())
        node = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        self.board: Any = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self.asked = 0
        self.failures: list[str] = []
        self.running: dict[Any, int] = {}

    def work(self) -> list[str]:
        missing = self.schedule.missing(self.store)
        for model in dict.fromkeys(jobs[0].spec.model for _, jobs in missing):
            self.schedule.plan(model, lambda: self.planned(model))  # noqa: B023
        for number, _ in missing:
            self.begin(number)
        while self.running:
            done, _ = ray.wait(list(self.running), timeout=TELL)
            self.show()
            for ref in done:
                self.finish(ref)
            self.listen()
        if self.asked and self.schedule.missing(self.store):
            raise Stopped(self.asked, "stopped; every bank that had begun is at a checkpoint")
        return self.failures

    def task(self, function: Callable[..., Any]) -> Any:
        gpus = 1 if self.schedule.device.startswith("cuda") else 0
        told = {"num_cpus": self.threads, "num_gpus": gpus, "max_retries": TRIES}
        return ray.remote(function).options(**told)

    def planned(self, model: str) -> Plan:
        """Have a worker plan, because the memory that counts is there."""
        jobs = [[_sent(job) for job in bank] for bank in self.schedule.banks]
        schedule = self.schedule
        told = (model, schedule.device, dict(schedule.wishes), schedule.token_budget)
        return _got(self.task(_planned).remote(jobs, *told, self.threads))

    def begin(self, number: int) -> None:
        jobs = [_sent(job) for job in self.schedule.banks[number - 1]]
        plan = self.schedule.plans[jobs[0][0]["model"]]
        sent = _Sent(
            root=str(self.store.root),
            marker=self.schedule.path.name,
            device=self.schedule.device,
            plan=plan,
            number=number,
            banks=len(self.schedule.banks),
            every=self.keeping.every,
            made=_made(),
        )
        self.running[self.task(_bank).remote(sent, jobs, self.board)] = number

    def finish(self, ref: Any) -> None:
        number = self.running.pop(ref)
        found = _got(ref)
        if found == HELD:
            time.sleep(PAUSE)
            self.begin(number)
        elif found != STOPPED:
            self.failures += found

    def listen(self) -> None:
        """Pass on that somebody asked to stop: who trains does so at a checkpoint, none begins."""
        asked = self.keeping.stop()
        if asked and not self.asked:
            self.asked = asked
            ray.get(self.board.ask.remote(asked))

    def show(self) -> None:
        banks = self.schedule.banks
        for what, number, more in ray.get(self.board.drain.remote()):
            jobs = banks[number - 1]
            if what == "begin":
                ids, peak = more
                chosen = [job for job in jobs if job.id in ids]
                self.events.begin(chosen, number, len(banks), peak)
            elif what == "left_out":
                (job,) = (job for job in jobs if job.id == more[0])
                self.events.left_out(job, more[1])
            elif what == "stored":
                self.events.stored([job for job in jobs if job.id in more])
            else:
                getattr(self.events, what)(more)


STOPPED, HELD = "stopped", "held"


class _Board:
    """An actor beside the driver: workers write what happens on it and read whether to stop."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.asked = 0

    def tell(self, message: Message) -> int:
        self.messages.append(message)
        return self.asked

    def drain(self) -> list[Message]:
        found, self.messages = self.messages, []
        return found

    def ask(self, number: int) -> None:
        self.asked = number


@dataclass(frozen=True)
class _Sent:
    """What a worker is told of a bank, besides its runs."""

    root: str
    marker: str
    device: str
    plan: Plan
    number: int
    banks: int
    every: float
    made: Mapping[str, str]


def _sent(job: Job) -> tuple[dict[str, Any], list[Problem], str]:
    return job.spec.to_dict(), job.problems, job.id


def _jobs(sent: Sequence[tuple[dict[str, Any], list[Problem], str]]) -> list[Job]:
    return [Job(RunSpec.from_dict(spec), problems, run_id) for spec, problems, run_id in sent]


def _got(ref: Any) -> Any:
    """What a task returned; what it raised, as if it had been raised here."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from None


def _made() -> dict[str, str]:
    """What has to be the same on every node, or runs would not say what they were made with."""
    return {"Python": platform.python_version(), "tsp": versions()["tsp"], "commit": commit()}


_models: dict[
    str, BaseModel
] = {}  # of a worker process, which Ray uses for one bank after the other


def _loaded(
    name: str, device: str, say: Callable[[str], None] = lambda text: None
) -> models.Frozen:
    base = _models.setdefault(device, BaseModel(device))
    if not base.holds(name):
        say(f"{_here()} loads {name}")
    return base.named(name)


def _here() -> str:
    node = ray.get_runtime_context().get_node_id()[:6]
    return f"worker {os.getpid()} of node {node} ({platform.node()})"


def _planned(
    banks: list[list[Any]],
    model: str,
    device: str,
    wishes: dict[str, str],
    token_budget: int | None,
    threads: int,
) -> Plan:
    found = [_jobs(bank) for bank in banks]
    schedule = Schedule(Path(), device, {}, found, wishes, token_budget)
    torch.set_num_threads(threads)
    frozen = _loaded(model, device, lambda text: None)
    return schedule.planned(frozen, Plan(threads=threads))


def _bank(sent: _Sent, jobs: list[Any], board: Any) -> list[str] | str:
    """Train one bank on a worker."""
    voice = _Voice(board, sent.number)
    if voice.asked:
        return STOPPED
    root, found = Path(sent.root), _jobs(jobs)
    _check_node(sent, root, found)
    frozen = _loaded(found[0].spec.model, sent.device, lambda text: voice.tell("say", text))
    keeping = Keeping(sent.every, lambda: voice.asked)
    try:
        failures = train_into(
            Store(root),
            found,
            frozen,
            sent.plan,
            number=sent.number,
            banks=sent.banks,
            events=voice.events(),
            keeping=keeping,
        )
    except Stopped:
        return STOPPED
    return HELD if failures is None else failures


def _check_node(sent: _Sent, root: Path, jobs: Sequence[Job]) -> None:
    """See that a node has the same store, code and model as the driver."""
    node = platform.node()
    if not (root / "plans" / sent.marker).is_file():
        raise InputError("runs", root, f"is not shared with node {node}; name a folder that is")
    if sent.made != _made():
        told = ", ".join(f"{name} {value}" for name, value in _made().items())
        raise InputError("address", node, f"this node has {told}; install what the driver has")
    for job in jobs:
        name = job.spec.model
        if job.spec.id(job.problems, model=models.fingerprint(name)) != job.id:
            raise InputError("model", name, f"has other weights on node {node}")


class _Voice:
    """What a worker tells the driver, who may have gone: training goes on all the same."""

    def __init__(self, board: Any, number: int) -> None:
        self.board, self.number, self.asked, self.last = board, number, 0, 0.0
        self.tell("say", f"bank {number}: {_here()}")

    def tell(self, what: str, more: Any) -> None:
        with suppress(ray.exceptions.RayError):
            self.asked = ray.get(self.board.tell.remote((what, self.number, more)))

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
