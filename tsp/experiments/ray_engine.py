"""A sweep on a Ray cluster with a shared store: each bank is a task.

If a node is lost, Ray starts its tasks again elsewhere; each resumes from the last checkpoint.
"""

import logging
import os
import platform
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from tsp.errors import InputError
from tsp.experiments.banks import CheckpointPolicy, Events
from tsp.experiments.jobs import Job
from tsp.experiments.sweep import PAUSE_SECONDS, LocalEngine, Schedule
from tsp.provenance import commit, versions
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.members import encode_all
from tsp.training.stopping import Interrupted
from tsp.training.trainer import Plan

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise InputError("engine", "ray", "needs Ray: pip install 'tsp[ray]'") from error

RETRIES = 5  # times that Ray starts a bank again when its node is lost
POLL_SECONDS = 0.5  # between two looks at the messages, and between two reports of a bank


class Ray(LocalEngine):
    """Trains banks on a Ray cluster, an engine for `tsp.experiments.sweep.ensure`.

    Parameters
    ----------
    address
        Address of the cluster, as `ray.init` takes it; empty: ``$RAY_ADDRESS``, or a cluster of
        this machine alone that ends with the sweep.

    Raises
    ------
    InputError
        If Ray is not installed, no cluster answers or none of its nodes has such a device.
    """

    def __init__(self, address: str = "") -> None:
        super().__init__()
        self.address = address

    def place(self, device: str) -> str:
        """Return the device of the tasks: ``auto`` is a GPU if the cluster has one."""
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
        """Load the model's shapes; its weights are where the tasks are."""
        frozen = models.load(job.spec.model, device="meta")
        if alone:
            encode_all(job.spec, frozen, job.problems)

    def train(
        self, schedule: Schedule, store: Store, *, events: Events, policy: CheckpointPolicy
    ) -> list[str]:
        """Train the banks that the store lacks; return why some runs could not be trained."""
        schedule = replace(schedule, path=schedule.path.resolve())
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        needs, threads, beside = resources(nodes, schedule.device)
        near = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=near).remote()
        shared = (ray.put(schedule), mailbox, policy.every, _environment(), threads, beside)
        # Without max_calls=0 the process of a task on a GPU would end, and the model with it.
        start: Any = ray.remote(**needs, max_retries=RETRIES, max_calls=0)(_train)
        running = {start.remote(number, *shared): number for number in schedule.missing(store)}
        failures: list[str] = []
        errors: list[BaseException] = []
        asked = 0
        while running:
            if not asked and (asked := policy.stop()):
                ray.get(mailbox.stop.remote(asked))
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            _show(mailbox, events)
            for call in done:
                number = running.pop(call)
                try:
                    result = ray.get(call)
                except ray.exceptions.RayError as error:  # the other banks go on
                    cause = getattr(error, "cause", None) or error
                    if not isinstance(cause, Interrupted):
                        errors.append(cause)
                        events.say(f"bank {number}: {' '.join(str(cause).split())}")
                    continue
                failures += result or []
                if result is None and not asked:  # another process still trains it
                    time.sleep(PAUSE_SECONDS)
                    running[start.remote(number, *shared)] = number
        _show(mailbox, events)
        if errors:
            raise errors[0]
        if asked and schedule.missing(store):
            raise Interrupted(asked, "stopped; every bank that had begun is at a checkpoint")
        return failures


def _show(mailbox: Any, events: Events) -> None:
    """Pass on what tasks have reported."""
    for event, values in ray.get(mailbox.take.remote()):
        getattr(events, event)(*values)


def resources(nodes: Sequence[Mapping[str, float]], device: str) -> tuple[dict[str, Any], int, int]:
    """Share out nodes, given by their number of ``CPU`` and ``GPU``, among tasks.

    Returns
    -------
    needs, threads, beside
        What Ray reserves for a task, how many threads it has, and how many tasks are on one device
        at most. A GPU takes one task, with its part of the node's processors; without GPUs a task
        has as many threads as torch takes here, or as the largest node has.

    Raises
    ------
    InputError
        If no node has room for a task.
    """
    if device == "cuda":
        gpus = [it for it in nodes if it.get("GPU", 0) >= 1 and it.get("CPU", 0) >= 1]
        parts = [int(it["CPU"] // it["GPU"]) for it in gpus]
        room, threads, beside = len(gpus), max(1, min(parts, default=1)), 1
    else:
        cores = [int(it.get("CPU", 0)) for it in nodes]
        threads = max(1, min(torch.get_num_threads(), max(cores, default=1)))
        room = beside = max((it // threads for it in cores), default=0)
    if not room:
        raise InputError("address", "ray", f"no node has room for {threads} threads on {device}")
    gpu = int(device == "cuda")
    return {"num_cpus": 1 if gpu else threads, "num_gpus": gpu}, threads, beside


def _connect(address: str) -> None:
    """Join a cluster, or begin one of this machine alone."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal() and "/" not in host:  # Ray ends the process if none is there
            socket.create_connection((host, int(port)), timeout=10).close()
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        if callable(handler):  # Ray has put its own in its place, which ends the process
            signal.signal(signal.SIGTERM, handler)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        advice = f"no Ray cluster answers ({error}); `ray start --head` begins one"
        raise InputError("address", address, advice) from error


class Mailbox:
    """An actor beside the driver: tasks report to it and learn from it whether to stop."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, tuple[Any, ...]]] = []
        self.signal = 0

    def send(self, event: str, *values: Any) -> int:
        """Add an event of `Events`; return the signal to stop, or 0."""
        self.messages.append((event, values))
        return self.signal

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return the messages since the last call."""
        messages, self.messages = self.messages, []
        return messages

    def stop(self, number: int) -> None:
        """Ask tasks to stop, for a signal."""
        self.signal = number


# In a worker process:

_engine = LocalEngine()  # keeps the model from one task to the next


def _train(
    number: int,
    schedule: Schedule,
    mailbox: Any,
    every: float,
    environment: Mapping[str, str],
    threads: int,
    beside: int,
) -> list[str] | None:
    """Train a bank into the shared store, as `LocalEngine.train_bank` does."""
    asked, last = 0, 0.0

    def send(event: str, *values: Any) -> None:
        nonlocal asked
        with suppress(ray.exceptions.RayError):  # if the driver is gone, training goes on
            asked = ray.get(mailbox.send.remote(event, *values))

    def progress(now: Any) -> None:
        nonlocal last
        if now.epoch == now.epochs or time.monotonic() - last >= POLL_SECONDS:
            last = time.monotonic()
            send("progress", now)

    class Relay(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            send("say", f"bank {number}: {record.getMessage()}")

    jobs, node = schedule.banks[number - 1], ray.get_runtime_context().get_node_id()[:6]
    worker = f"worker {os.getpid()} of node {node} ({platform.node()})"
    send("say", f"bank {number}: {worker}")
    if asked:
        raise Interrupted(asked, f"stopped before bank {number}")
    _check_node(schedule, jobs, environment)
    if not _engine.holds(jobs[0].spec.model):
        send("say", f"{worker} loads {jobs[0].spec.model}")
    torch.set_num_threads(threads)
    _engine.usual, _engine.beside = Plan(threads=threads), beside
    reports = {name: partial(send, name) for name in ("begin", "stored", "left_out")}
    events, policy = Events(progress=progress, **reports), CheckpointPolicy(every, lambda: asked)
    relay, logger = Relay(logging.WARNING), logging.getLogger("tsp")
    logger.addHandler(relay)
    try:
        store = Store(schedule.path.parent.parent)
        return _engine.train_bank(schedule, number, store, events=events, policy=policy)
    finally:
        logger.removeHandler(relay)


def _environment() -> dict[str, str]:
    """Return what must be the same on every node for runs to be those of one machine."""
    return {"Python": platform.python_version(), **versions(), "commit": commit()}


def _check_node(schedule: Schedule, jobs: Sequence[Job], environment: Mapping[str, str]) -> None:
    """Raise if a node has another store, other packages or another model than the driver."""
    node, every_job = platform.node(), [job for bank in schedule.banks for job in bank]
    written = Schedule.read(schedule.path, every_job, schedule.device)
    if written is None or written.banks != schedule.banks:
        remedy = f"is not shared with node {node}; name a folder that is"
        raise InputError("runs", schedule.path.parent.parent, remedy)
    differing = [f"{k} {it}" for k, it in _environment().items() if environment.get(k) != it]
    if differing:
        remedy = f"this node has {', '.join(differing)}; install what the driver has"
        raise InputError("address", node, remedy)
    fingerprint = models.fingerprint(jobs[0].spec.model)
    if any(job.spec.id(job.problems, model=fingerprint) != job.id for job in jobs):
        raise InputError("model", jobs[0].spec.model, f"has other weights on node {node}")
