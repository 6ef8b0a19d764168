"""Out of one machine: the banks of a sweep on a Ray cluster, into one shared store."""

import logging
import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from tsp.errors import InputError
from tsp.experiments.banks import Events, Job, Keeping
from tsp.experiments.sweep import PAUSE, Schedule
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.members import encode_all
from tsp.training.stopping import Stopped
from tsp.training.trainer import Plan

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise InputError("engine", "ray", "needs Ray: pip install 'tsp[ray]'") from error

from tsp.experiments.ray_workers import (  # needs Ray
    HELD,
    STOPPED,
    Board,
    Sent,
    Worker,
    banks_hash,
    made,
    sent,
)

TRIES = 5  # times that a bank is begun elsewhere when its worker or node is lost
LOOK = 0.5  # seconds between two looks at what workers tell


@dataclass
class Ray:
    """The engine of a Ray cluster; `tsp.experiments.sweep.Engine`.

    Parameters
    ----------
    address
        Of the cluster, as `ray.init` takes it; empty: ``$RAY_ADDRESS``, or a cluster of this
        machine alone that ends with the sweep.

    Raises
    ------
    InputError
        If Ray is not installed, no cluster answers or none of its nodes has such a device.
    """

    address: str = ""

    def place(self, device: str) -> str:
        """Device of the workers: ``auto`` is a GPU if the cluster has one."""
        if not ray.is_initialized():
            _connect(self.address)
        gpus = ray.cluster_resources().get("GPU")
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if device not in ("cpu", "cuda"):
            raise InputError("device", device, "a worker has one device; say auto, cpu or cuda")
        if device == "cuda" and not gpus:
            raise InputError("device", device, "no node of the cluster has a GPU; try auto or cpu")
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
        driver = _Driver(schedule, Store(store.root.resolve()), events, keeping)
        try:
            return driver.work()
        finally:
            driver.dismiss(list(driver.workers))


def _connect(address: str) -> None:
    """Join a cluster, or begin one of this machine alone."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal() and "/" not in host:  # Ray ends the process if none is there
            socket.create_connection((host, int(port)), timeout=10).close()
        asks = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        if callable(asks):  # Ray has put its own in its place, which ends the process
            signal.signal(signal.SIGTERM, asks)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        advice = f"no Ray cluster answers ({error}); `ray start --head` begins one"
        raise InputError("address", address, advice) from error


class Room(NamedTuple):
    """How the nodes of a cluster are shared out: each worker has one bank at a time."""

    threads: int  # of a worker
    workers: int  # in the cluster
    beside: int  # at most on one device

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]], device: str) -> "Room":
        """Share out nodes, given by what they have of ``CPU`` and ``GPU``.

        A GPU takes one worker, with its part of the node's processors; without GPUs a worker has
        as many threads as torch takes here, or as the largest node has.
        """
        if device == "cuda":
            gpus = [it for it in nodes if it.get("GPU", 0) >= 1 and it.get("CPU", 0) >= 1]
            parts = [int(it["CPU"] // it["GPU"]) for it in gpus]
            fit = sum(int(min(it["GPU"], it["CPU"])) for it in gpus)
            return cls(max(1, min(parts, default=1)), fit, 1)
        cores = [int(it.get("CPU", 0)) for it in nodes]
        threads = max(1, min(torch.get_num_threads(), max(cores, default=1)))
        fits = [own // threads for own in cores]
        return cls(threads, sum(fits), max(fits, default=0))


def _nodes() -> list[Mapping[str, float]]:
    return [it["Resources"] for it in ray.nodes() if it["Alive"]]


class _Driver:
    """The side that has the schedule: hands out banks, shows how they go, asks them to stop."""

    def __init__(self, schedule: Schedule, store: Store, events: Events, keeping: Keeping) -> None:
        self.schedule, self.store = schedule, store
        self.events, self.keeping = events, keeping
        here = ray.get_runtime_context().get_node_id()
        near = NodeAffinitySchedulingStrategy(here, soft=False)
        self.board: Any = ray.remote(Board).options(num_cpus=0, scheduling_strategy=near).remote()
        self.threads = Room.of(_nodes(), schedule.device).threads
        self.workers: set[Any] = set()
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, int]] = {}  # by the call: worker, number of the bank
        self.queue = deque(number for number, _ in schedule.missing(store))
        self.tries: Counter[int] = Counter()
        self.failures: list[str] = []
        self.errors: list[BaseException] = []
        self.left_out: set[str] = set()

    def work(self) -> list[str]:
        for model in dict.fromkeys(self.bank(number)[0].spec.model for number in self.queue):
            make = lambda: self.planned(model)  # noqa: B023, E731
            self.schedule.plan(model, make, self.keeping.stop)
        asked = 0
        while self.queue or self.running:
            asked = asked or self.listen()
            self.hire()
            self.assign()
            done, _ = ray.wait(list(self.running), timeout=LOOK) if self.running else ([], [])
            self.show()
            for call in done:
                self.finish(call)
        self.show()
        if self.errors:
            raise self.errors[0]
        if asked and self.schedule.missing(self.store):
            raise Stopped(asked, "stopped; every bank that had begun is at a checkpoint")
        self.check_stored()
        return self.failures

    def bank(self, number: int) -> list[Job]:
        return self.schedule.banks[number - 1]

    def hire(self) -> None:
        """Have as many workers as there is room and work for; nodes may have come since."""
        room = Room.of(_nodes(), self.schedule.device)
        if not room.workers and not self.running:
            told = f"no node has room for a worker of {self.threads} threads"
            raise InputError("address", "ray", told)
        busy = sum(number > 0 for _, number in self.running.values())
        while len(self.workers) < min(room.workers, len(self.queue) + busy):
            self.hired()

    def hired(self) -> Any:
        """Ask Ray for a worker; it is idle when it answers."""
        gpu = self.schedule.device == "cuda"
        told = {"num_cpus": 1 if gpu else self.threads, "num_gpus": int(gpu), "max_restarts": 0}
        worker: Any = ray.remote(Worker).options(**told).remote(self.board)
        self.workers.add(worker)
        self.running[worker.ready.remote()] = (worker, 0)
        return worker

    def planned(self, model: str) -> Plan:
        """Have a worker plan, because the memory that counts is there."""
        told = (model, self.schedule.device, dict(self.schedule.wishes), self.schedule.token_budget)
        jobs = [[sent(job) for job in bank] for bank in self.schedule.banks]
        for _ in range(TRIES):
            worker = next(iter(self.workers), None) or self.hired()
            room = Room.of(_nodes(), self.schedule.device)
            call = worker.plan.remote(jobs, *told, self.threads, room.beside)
            while not ray.wait([call], timeout=LOOK)[0]:
                if asked := self.keeping.stop():
                    raise Stopped(asked, "stopped before a bank began")
            try:
                return ray.get(call)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause or error) from None
            except ray.exceptions.RayActorError as error:
                self.dismiss([worker])
                lost: BaseException = error
        raise lost

    def assign(self) -> None:
        while self.idle and self.queue:
            number = self.queue.popleft()
            jobs = self.bank(number)
            told = Sent(
                root=str(self.store.root),
                plan_file=self.schedule.path.name,
                banks_hash=banks_hash(self.schedule.path),
                device=self.schedule.device,
                plan=self.schedule.plans[jobs[0].spec.model],
                number=number,
                banks=len(self.schedule.banks),
                every=self.keeping.every,
                made=made(),
            )
            worker = self.idle.pop()
            self.running[worker.train.remote(told, [sent(job) for job in jobs])] = (worker, number)
        if not self.queue:
            self.dismiss(self.idle)

    def finish(self, call: Any) -> None:
        """Take what a call gave: a worker is ready, a bank is done, or one of them is lost."""
        worker, number = self.running.pop(call)
        try:
            found = ray.get(call)
        except ray.exceptions.RayActorError as error:
            self.dismiss([worker])
            self.lost(number, error)
            return
        except ray.exceptions.RayTaskError as error:
            found = []
            self.failed(number, error.cause or error)
        self.idle.append(worker)
        if found == HELD:
            time.sleep(PAUSE)
            self.queue.append(number)
        elif number and found != STOPPED:
            self.failures += found

    def lost(self, number: int, error: BaseException) -> None:
        self.tries[number] += 1
        if self.tries[number] > TRIES:
            self.failed(number, error)
        elif number:
            self.events.say(f"bank {number}: its worker was lost; it begins elsewhere")
            self.queue.appendleft(number)

    def failed(self, number: int, error: BaseException) -> None:
        """Note an error; the other banks go on."""
        self.errors.append(error)
        self.events.say(f"bank {number}: {' '.join(str(error).split())}")

    def dismiss(self, workers: Sequence[Any]) -> None:
        for worker in list(workers):
            self.workers.discard(worker)
            self.idle = [it for it in self.idle if it is not worker]
            ray.kill(worker)

    def listen(self) -> int:
        """Pass on that somebody asked to stop: who trains does so at a checkpoint, none begins."""
        asked = self.keeping.stop()
        if asked:
            self.queue.clear()
            ray.get(self.board.ask.remote(asked))
        return asked

    def show(self) -> None:
        for what, number, more in ray.get(self.board.drain.remote()):
            if what == "begin":
                ids, peak = more
                chosen = [job for job in self.bank(number) if job.id in ids]
                self.events.begin(chosen, number, len(self.schedule.banks), peak)
            elif what == "left_out":
                self.left_out.add(more[0])
                (job,) = (job for job in self.bank(number) if job.id == more[0])
                self.events.left_out(job, more[1])
            elif what == "stored":
                self.events.stored([job for job in self.bank(number) if job.id in more])
            else:
                getattr(self.events, what)(more)

    def check_stored(self) -> None:
        """See that what workers say they have stored is here."""
        missing = [job.id for _, jobs in self.schedule.missing(self.store) for job in jobs]
        gone = [it for it in missing if it not in self.left_out and it not in self.store]
        if gone and not self.failures:
            remedy = f"lacks {len(gone)} runs that were trained; is it the same folder everywhere?"
            raise InputError("runs", self.store.root, remedy)
