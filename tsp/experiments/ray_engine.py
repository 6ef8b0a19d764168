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
from functools import partial
from typing import Any

import torch

from tsp.errors import InputError
from tsp.experiments.banks import CheckpointPolicy, Events
from tsp.experiments.sweep import PAUSE_SECONDS, LocalEngine, Schedule
from tsp.provenance import commit, versions
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.stopping import Interrupted
from tsp.training.trainer import Progress

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise InputError("engine", "ray", "needs Ray: pip install 'tsp[ray]'") from error

RETRIES = 5  # times that Ray starts a bank again when its node is lost
POLL_SECONDS = 0.5  # between two looks at the messages, and between two reports of a bank


class Ray(LocalEngine):
    """Trains banks on a Ray cluster, an engine for `tsp.experiments.sweep.ensure`."""

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

    def train(
        self, schedule: Schedule, store: Store, *, events: Events, policy: CheckpointPolicy
    ) -> list[str]:
        """Train the banks that the store lacks; return why runs failed, if any did."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        needs, threads, banks_per_device = resources(nodes, schedule.device)
        schedule.path = schedule.path.resolve()
        schedule.threads, schedule.banks_per_device = threads, banks_per_device
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        shared = (ray.put(schedule), mailbox, policy.every, versions() | {"commit": commit()})
        # Without max_calls=0 the process of a task on a GPU would end, and the model with it.
        start: Any = ray.remote(**needs, max_retries=RETRIES, max_calls=0)(_train)
        running = {start.remote(number, *shared): number for number in schedule.missing(store)}
        failures: list[str] = []
        errors: list[BaseException] = []
        asked = 0
        while running:
            asked = asked or policy.stop()
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for event, values in ray.get(mailbox.take.remote(asked)):
                getattr(events, event)(*values)
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
                if result is None and not asked:  # another process is training it
                    time.sleep(PAUSE_SECONDS)
                    running[start.remote(number, *shared)] = number
        if errors:
            raise errors[0]
        if asked and schedule.missing(store):
            raise Interrupted(asked, "stopped; every bank that had begun is at a checkpoint")
        return failures


def resources(nodes: Sequence[Mapping[str, float]], device: str) -> tuple[dict[str, Any], int, int]:
    """Return what Ray reserves for a task, its threads, and the most tasks on one device at once.

    A GPU takes one task, with its part of the node's processors. Without GPUs a node's processors
    are its device, and a task has as many threads as torch uses here or as the largest node has
    processors, whichever is fewer.
    """
    if device == "cuda":
        gpus = [node for node in nodes if node.get("GPU", 0) >= 1 and node.get("CPU", 0) >= 1]
        threads = max(1, min((int(node["CPU"] // node["GPU"]) for node in gpus), default=1))
        needs, per_device = {"num_cpus": 1, "num_gpus": 1}, min(1, len(gpus))
    else:
        cores = [int(node.get("CPU", 0)) for node in nodes]
        threads = max(1, min(torch.get_num_threads(), max(cores, default=1)))
        needs = {"num_cpus": threads, "num_gpus": 0}
        per_device = max((count // threads for count in cores), default=0)
    if not per_device:
        raise InputError("address", "ray", f"no node has room for {threads} threads on {device}")
    return needs, threads, per_device


def _connect(address: str) -> None:
    """Join the cluster at an address or ``$RAY_ADDRESS``, or begin one of this machine alone."""
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
        remedy = f"no Ray cluster answers ({error}); `ray start --head` begins one"
        raise InputError("address", address, remedy) from error


class Mailbox:
    """An actor beside the driver: it takes the events of tasks and holds the signal to stop."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, tuple[Any, ...]]] = []
        self.signal = 0

    def send(self, event: str, *values: Any) -> int:
        """Add an event of `Events`; return the signal to stop, or 0."""
        self.messages.append((event, values))
        return self.signal

    def take(self, signal: int) -> list[tuple[str, tuple[Any, ...]]]:
        """Return the messages since the last call; keep a signal for tasks to stop."""
        self.signal = signal
        messages, self.messages = self.messages, []
        return messages


_engine = LocalEngine()  # of a worker process: keeps the model from one task to the next


def _train(
    number: int, schedule: Schedule, mailbox: Any, every: float, expected: dict[str, str]
) -> list[str] | None:
    """Train a bank in a worker process, as `LocalEngine.train_bank` does."""
    asked, last = 0, 0.0

    def send(event: str, *values: Any) -> None:
        nonlocal asked
        with suppress(ray.exceptions.RayError):  # if the driver is gone, training goes on
            asked = ray.get(mailbox.send.remote(event, *values))

    def progress(now: Progress) -> None:
        nonlocal last
        if now.epoch == now.epochs or time.monotonic() - last >= POLL_SECONDS:
            last = time.monotonic()
            send("progress", now)

    node, store = ray.get_runtime_context().get_node_id(), Store(schedule.path.parent.parent)
    model = schedule.banks[number - 1][0].spec.model
    loads = "" if model in _engine.loaded else f" loads {model}"
    send("say", f"bank {number}: worker {os.getpid()} of {node[:6]}, {platform.node()}{loads}")
    if asked:
        raise Interrupted(asked, f"stopped before bank {number}")
    _check_node(schedule, number, expected)
    reports = {name: partial(send, name) for name in ("begin", "stored", "left_out")}
    events, policy = Events(progress=progress, **reports), CheckpointPolicy(every, lambda: asked)
    return _engine.train_bank(schedule, number, store, events=events, policy=policy)


def _check_node(schedule: Schedule, number: int, expected: dict[str, str]) -> None:
    """Raise if a node has another store, other packages or another model than the driver."""
    node, (job, *_) = platform.node(), schedule.banks[number - 1]
    banks, _ = schedule.written() or ([], {})
    if banks != schedule.banks:
        remedy = f"is not shared with node {node}; name a folder that is"
        raise InputError("runs", schedule.path.parent.parent, remedy)
    if differing := (versions() | {"commit": commit()}).items() - expected.items():
        packages = ", ".join(f"{name} {version}" for name, version in sorted(differing))
        raise InputError("address", node, f"this node has {packages}; install what the driver has")
    if job.spec.id(job.problems, model=models.fingerprint(job.spec.model)) != job.id:
        raise InputError("model", job.spec.model, f"has other weights on node {node}")
