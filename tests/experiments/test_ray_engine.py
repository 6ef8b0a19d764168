"""The engine of a Ray cluster without a cluster: its tasks are called at once."""

import pickle
from types import SimpleNamespace as Namespace

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")

import torch

from tests.conftest import spec
from tsp.errors import InputError
from tsp.experiments import ray_engine
from tsp.experiments.banks import CheckpointPolicy, Events
from tsp.experiments.ray_engine import Ray, resources
from tsp.experiments.sweep import ensure
from tsp.store.runs import Store
from tsp.training.stopping import Interrupted

BOX, SMALL = {"CPU": 96.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 4.0}
HEAD = {"CPU": 32.0}  # no GPU: it gets no task, and its threads do not count


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "beside"),
    [
        ([BOX], "cuda", 12, 1),
        ([BOX, SMALL], "cuda", 2, 1),
        ([HEAD, {"CPU": 8.0, "GPU": 1.0}], "cuda", 8, 1),
        ([{"CPU": 16.0}, {"CPU": 6.0}], "cpu", 4, 4),
        ([{"CPU": 1.0}, {"CPU": 1.0}], "cpu", 1, 1),
    ],
)
def test_nodes_are_divided_among_tasks(nodes, device, threads, beside, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    gpu = device == "cuda"
    needs = {"num_cpus": 1 if gpu else threads, "num_gpus": int(gpu)}
    assert resources(nodes, device) == (needs, threads, beside)


@pytest.mark.parametrize(("nodes", "device"), [([HEAD], "cuda"), ([], "cpu")])
def test_a_cluster_without_room_is_refused(nodes, device):
    with pytest.raises(InputError, match="no node has room"):
        resources(nodes, device)


class RayError(Exception):
    """An error of a task, as Ray passes it on."""

    def __init__(self, cause):
        self.cause = cause


class Task:
    """A call that was made at once; its arguments are pickled."""

    def __init__(self, function, number, schedule, mailbox, *values):
        function, schedule, values = pickle.loads(pickle.dumps((function, schedule, values)))
        self.result, self.error = None, None
        try:
            self.result = function(number, schedule, mailbox, *values)
        except Exception as error:
            self.error = RayError(error)


@pytest.fixture
def fake(monkeypatch):
    """Ray's functions in this process; returns the options that tasks are given."""
    box, options = ray_engine.Mailbox(), []

    def method(name):
        return Namespace(remote=lambda *values: getattr(box, name)(*values))

    mailbox = Namespace(send=method("send"), take=method("take"))

    def remote(actor=None, **given):
        if actor:
            return Namespace(options=lambda **_: Namespace(remote=lambda: mailbox))
        options.append(given)
        return lambda function: Namespace(remote=lambda *values: Task(function, *values))

    def get(value):
        if isinstance(value, Task) and value.error:
            raise value.error
        return value.result if isinstance(value, Task) else value

    functions = Namespace(
        remote=remote,
        get=get,
        put=lambda value: value,
        wait=lambda tasks, timeout: (tasks, []),
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}],
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 1.0},
        get_runtime_context=lambda: Namespace(get_node_id=lambda: "0123456789"),
        exceptions=Namespace(RayError=RayError),
    )
    monkeypatch.setattr(ray_engine, "ray", functions)
    monkeypatch.setattr(ray_engine, "NodeAffinitySchedulingStrategy", lambda *_, **__: None)
    return options


FEW = [spec(task="mmlu_cf", epochs=2 + k, n_tokens=4, max_new_tokens=2) for k in range(2)]


def test_banks_are_tasks_that_ray_starts_again_and_that_report(fake, tmp_path):
    begun, said = [], []
    events = Events(begin=lambda jobs, number, banks, peak: begun.append(number), say=said.append)
    ids = ensure(FEW, Store(tmp_path), name="x", engine=Ray(), events=events)
    assert Store(tmp_path).ids() == sorted(ids)
    assert fake == [{"num_cpus": 1, "num_gpus": 0, "max_retries": 5, "max_calls": 0}]
    assert begun == [1, 2]
    assert any(line.endswith("loads tiny-llama") for line in said)
    assert not any(Store(tmp_path).verify_all().values())


def test_a_bank_that_fails_does_not_cost_the_others(fake, tmp_path, monkeypatch):
    real = ray_engine._check_node

    def check(schedule, number, expected):
        if number == 1:
            raise InputError("runs", "x", "is not shared")
        real(schedule, number, expected)

    monkeypatch.setattr(ray_engine, "_check_node", check)
    with pytest.raises(InputError, match="not shared"):
        ensure(FEW, Store(tmp_path), engine=Ray())
    assert len(Store(tmp_path).ids()) == 1


def test_a_signal_reaches_the_tasks(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine.Mailbox, "send", lambda box, *_: 2)
    policy = CheckpointPolicy(0.0, lambda: 2)
    with pytest.raises(Interrupted):
        ensure(FEW, Store(tmp_path), engine=Ray(), policy=policy)
    assert Store(tmp_path).ids() == []


def test_a_node_that_differs_is_named(fake, tmp_path, monkeypatch):
    answers = iter([{"torch": "1"}, {"torch": "0"}])  # the driver's, the node's
    monkeypatch.setattr(ray_engine, "versions", lambda: next(answers))
    with pytest.raises(InputError, match=r"this node has torch 0; install"):
        ensure(FEW[:1], Store(tmp_path), engine=Ray())
