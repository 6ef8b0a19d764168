"""A real Ray cluster of two nodes on this machine; one of them is killed."""

import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from tests.conftest import PATIENCE_SECONDS
from tests.faults import differences, until
from tests.faults_at_work import cluster_specs as specs
from tsp.errors import InputError
from tsp.experiments.banks import CheckpointPolicy, Events
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.sweep import ensure, jobs_of
from tsp.store.locks import WORK
from tsp.store.runs import Store
from tsp.training.stopping import Interrupted

ray = pytest.importorskip("ray", reason="needs the extra `ray`")
QUIET = {"TQDM_DISABLE": "1", "COLUMNS": "200"}

BOX, SMALL = {"CPU": 96.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 4.0}
HEAD = {"CPU": 32.0}  # without a GPU it gets no task, and its threads do not count


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "beside"),
    [
        ([BOX], "cuda", 12, 1),
        ([BOX, SMALL], "cuda", 2, 1),
        ([HEAD, {"CPU": 8.0, "GPU": 1.0}], "cuda", 8, 1),
        ([{"CPU": 16.0}, {"CPU": 6.0}], "cpu", 4, 4),
        ([{"CPU": 1.0}, {"CPU": 1.0}], "cpu", 1, 1),
        ([HEAD], "cuda", None, None),
        ([], "cpu", None, None),
    ],
)
def test_nodes_are_divided_among_tasks(nodes, device, threads, beside, monkeypatch):
    from tsp.experiments.ray_engine import resources

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    if threads is None:
        with pytest.raises(InputError, match="no node has room"):
            resources(nodes, device)
    else:
        gpu = device == "cuda"
        needs = {"num_cpus": 1 if gpu else threads, "num_gpus": int(gpu)}
        assert resources(nodes, device) == (needs, threads, beside)


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.second = nodes.add_node(num_cpus=1, object_store_memory=80_000_000)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A store of the same runs, trained by the engine `local` on one thread."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("local")
    ensure(specs(), Store(root), name="x", device="cpu", token_budget=4096)
    return root


@pytest.fixture
def engine(cluster):
    from tsp.experiments.ray_engine import Ray

    return Ray(cluster.address)


class Watch:
    """Records the events of a sweep, and the node that each bank is on."""

    def __init__(self):
        self.begun, self.nodes, self.seen, self.loads = [], {}, [], []

    def say(self, text):
        if worker := re.fullmatch(r"bank (\d+): (worker \d+ of (\w+), .*?)( loads .*)?", text):
            self.nodes[int(worker[1])] = worker[3]
            self.loads += [worker[2]] if worker[4] else []

    def events(self, then=lambda now: None):
        def progress(now):
            self.seen.append((now.bank, now.epoch))
            then(now)

        def begin(jobs, number, banks, peak):
            self.begun.append(number)

        return Events(begin=begin, progress=progress, say=self.say)


@pytest.mark.slow
def test_a_node_is_killed_and_every_run_is_there_once(tmp_path, cluster, engine, alone):
    watch, lost, second = Watch(), [], cluster.second.node_id

    def kill_the_second(now):
        if not lost and now.epoch > 20 and second.startswith(watch.nodes[now.bank]):
            lost.append((now.bank, now.epoch))
            cluster.remove_node(cluster.second, allow_graceful=False)

    store, policy = Store(tmp_path), CheckpointPolicy(every=0)
    events = watch.events(kill_the_second)
    ids = ensure(specs(), store, name="x", events=events, policy=policy, engine=engine)
    ((bank, epoch),) = lost
    assert sorted(ids) == sorted(job.id for job in jobs_of(specs())) == store.ids()
    assert watch.begun.count(bank) == 2  # elsewhere
    later = watch.seen[watch.seen.index((bank, epoch)) + 1 :]
    assert dict(reversed(later))[bank] >= epoch  # from its checkpoint on
    assert len(watch.loads) == len(set(watch.loads)) >= 2  # once a worker process
    assert len(watch.begun) == 7
    assert differences(store.root, alone) == []
    assert not (store.root / WORK).exists()


@pytest.mark.slow
def test_a_bank_that_cannot_be_stored_does_not_cost_the_others(tmp_path, engine):
    banks = specs()[:3]
    ids = [job.id for job in jobs_of(banks)]
    (tmp_path / ids[1]).symlink_to(tmp_path / "gone")  # as to a disk that is not mounted
    lines = []
    with pytest.raises(OSError, match=ids[1]):
        ensure(banks, Store(tmp_path), engine=engine, events=Events(say=lines.append))
    assert {run.id for run in Store(tmp_path).valid_runs()[0]} == {ids[0], ids[2]}
    assert any(line.startswith("bank 2: ") and ids[1] in line for line in lines)


@pytest.mark.slow
def test_a_driver_is_killed_and_another_goes_on(tmp_path, cluster, alone):
    root, log = tmp_path / "runs", tmp_path / "log"
    code = "from tests.faults_at_work import train_on; import sys; train_on(*sys.argv[1:])"
    words = [sys.executable, "-c", code, cluster.address, str(root), str(log)]
    process = subprocess.Popen(words)
    until(log, r"epoch \d ([3-9]\d|1\d\d)\n", process)
    process.kill()
    process.wait(timeout=PATIENCE_SECONDS)
    before = len(log.read_text())
    subprocess.run(words, check=True, timeout=PATIENCE_SECONDS)
    first = dict(reversed(re.findall(r"epoch (\d) (\d+)\n", log.read_text()[before:])))
    assert any(int(epoch) > 20 for epoch in first.values())  # from a checkpoint on
    assert differences(root, alone) == []
    assert not (root / WORK).exists()


@pytest.mark.slow
def test_a_sweep_on_a_cluster_stops_at_checkpoints_and_goes_on(tmp_path, engine):
    watch, store = Watch(), Store(tmp_path)
    answers = {"check_every": 1, "max_new_tokens": 30}  # epochs in which workers hear of the stop
    lengthy = [short.but(**answers) for short in specs()[:3]]
    stop = CheckpointPolicy(every=1000, stop=lambda: 2 * any(epoch > 20 for _, epoch in watch.seen))
    options = {"name": "x", "engine": engine}
    with pytest.raises(Interrupted, match="every bank that had begun is at a checkpoint"):
        ensure(lengthy, store, policy=stop, events=watch.events(), **options)
    kept = list(store.root.glob(f"{WORK}/*/state.json"))
    assert 1 <= len(kept) <= 2
    # On a busy machine a bank may end before its worker hears of the stop.
    assert len(kept) + len(store.ids()) == len(set(watch.begun))
    again = Watch()
    assert len(ensure(lengthy, store, events=again.events(), **options)) == 3
    first = dict(reversed(again.seen))
    assert all(first.get(bank, epoch) > 20 for bank, epoch in watch.seen if epoch > 20)
    assert not (store.root / WORK).exists()


@pytest.mark.slow
def test_what_is_wrong_on_a_node_is_said_in_one_line(tmp_path, engine, monkeypatch):
    store, options = Store(tmp_path), {"engine": engine}
    one_device = "a worker has one device"
    remedies = {"cuda": "no node of the cluster has a GPU", "cuda:1": one_device}
    for device, remedy in (remedies | {"balanced": one_device}).items():
        with pytest.raises(InputError, match=f"device = '{device}': {remedy}"):
            ensure(specs(), store, device=device, **options)
    with pytest.raises(InputError, match="model = 'tiny-lama': choose one of"):
        ensure([specs()[0].but(model="tiny-lama")], store, **options)
    monkeypatch.setattr("tsp.experiments.ray_engine.versions", lambda: {"torch": "0.1"})
    with pytest.raises(InputError, match=r"address = .*this node has .*torch \d.*what the driver"):
        ensure(specs(), store, **options)
    monkeypatch.undo()
    monkeypatch.setattr("tsp.experiments.sweep.Schedule.write", lambda schedule: None)
    with pytest.raises(InputError, match=r"runs = .* is not shared with node"):
        ensure(specs()[:2], store, **options)  # another plan, which no worker finds
    assert store.ids() == []


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_brings_every_bank_to_a_checkpoint(tmp_path):
    """A terminal sends it to the whole process group: the sweep, and the Ray that it started."""
    root, logs = tmp_path / "runs", [tmp_path / "first", tmp_path / "second"]
    words = ["sweep", "null", "--profile", "smoke", "--engine", "ray", "--bank", "1"]
    words += ["--epochs", "100", "--runs", str(root), "--device", "cpu"]
    command = [sys.executable, "-m", "tsp", *words]
    env = os.environ | QUIET | {"TQDM_DISABLE": "", "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1"}

    def begin(log):
        with log.open("w") as out:
            return subprocess.Popen(command, stderr=out, env=env, start_new_session=True)

    def begun(log):
        return re.findall(r"^  ([0-9a-f]{16})  ", log.read_text(), re.MULTILINE)

    process = begin(logs[0])
    until(logs[0], r"(?s) loads .* loads .*bank \d/", process)  # two workers of one thread
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=PATIENCE_SECONDS) == 128 + signal.SIGINT
    first = logs[0].read_text()
    assert "tsp: stopped; every bank that had begun is at a checkpoint" in first
    assert "its worker was lost" not in first
    stored = set(Store(root).ids())
    kept = {state.parent.name for state in root.glob(f"{WORK}/*/state.json")}
    assert kept | stored == set(begun(logs[0])) != stored
    assert not list(root.rglob("*.lock"))
    process = begin(logs[1])
    assert process.wait(timeout=PATIENCE_SECONDS) == 0, logs[1].read_text()
    wanted = {job.id for job in jobs_of(experiment_specs("null", "smoke", epochs=100))}
    assert sorted([*stored, *begun(logs[1])]) == sorted(wanted)
    assert {run.id for run in Store(root).valid_runs()[0]} == wanted
    assert "resumes after epoch" in logs[1].read_text()
    assert not (root / WORK).exists()


@pytest.mark.slow
def test_the_command_line_sweeps_on_a_cluster_or_says_that_none_answers(tmp_path, cluster):
    words = ["sweep", "table3", "--profile", "smoke", "--engine", "ray", "--runs", str(tmp_path)]

    def sweep(address):
        command = [sys.executable, "-m", "tsp", *words, "--address", address]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | QUIET)

    done = sweep("127.0.0.1:1")
    assert done.returncode == 2, done.stderr
    assert "tsp: address = '127.0.0.1:1': no Ray cluster answers" in done.stderr
    assert "Traceback" not in done.stderr
    done = sweep(cluster.address)
    assert done.returncode == 0, done.stderr
    wanted = {job.id for job in jobs_of(experiment_specs("table3", "smoke"))}
    assert set(Store(tmp_path).ids()) == wanted
    assert "engine ray" in done.stdout
    assert "loads tiny-llama" in done.stderr
