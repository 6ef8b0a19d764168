"""Real faults: processes killed or stopped, disks full or read-only, files damaged, clocks off."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import spec
from tests.faults import TENSORS, differences, kill, run_in, until
from tests.faults_at_work import train
from tsp.errors import InputError
from tsp.experiments.banks import CheckpointPolicy
from tsp.experiments.sweep import ensure, jobs_of
from tsp.store.archive import write_archive
from tsp.store.locks import WORK, claimed
from tsp.store.runs import Store
from tsp.training.stopping import Interrupted

FEW = [spec(task="mmlu_cf", epochs=2, n_tokens=4, seed=k) for k in range(3)]


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The store of a sweep that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    finish(run_in("train", root))
    return root


@pytest.fixture
def copied(tmp_path, whole):
    """A copy of that store, and its runs' ids."""
    root = tmp_path / "runs"
    shutil.copytree(whole, root)
    return root, Store(root).ids()


def finish(process):
    process.join()
    assert process.exitcode == 0


def lines(log, word=""):
    """Return what a sweep has logged, of the lines that begin with a word."""
    text = log.read_text() if log.exists() else ""
    return [line for line in text.splitlines() if line.startswith(word)]


def intact(root, whole):
    """Check that each visible run is one of the uninterrupted sweep's, byte by byte."""
    store = Store(root)
    for run_id in store.ids():
        assert store.verify(run_id) is None
        for path in (whole / run_id).iterdir():
            if path.suffix in TENSORS:
                assert (root / run_id / path.name).read_bytes() == path.read_bytes()


def complete(root, whole):
    """Check that a store is that of the uninterrupted sweep, and nothing else is left in it."""
    assert differences(root, whole) == []
    assert not any(path.name.startswith(".") for path in root.rglob("*"))


# SIGKILL, once and many times.


def test_a_sweep_that_is_killed_goes_on_with_its_checkpoint(tmp_path, whole):
    root, log = tmp_path / "runs", tmp_path / "log"
    process = run_in("train", root, log)
    until(log, "epoch 2 8", process)
    kill(process)
    before = lines(log, "epoch")
    assert len(Store(root).ids()) == 2  # the first bank's; nothing of the second is visible
    intact(root, whole)
    (folder,) = (path for path in (root / WORK).iterdir() if path.is_dir())
    state = json.loads((folder / "state.json").read_text())
    files = [path.name for path in folder.glob("*.safetensors")]
    assert sum(name.startswith("moments") for name in files) <= 2  # one, or the next one begun
    assert set(state["prompts"]) <= set(files)
    finish(run_in("train", root, log))
    after = lines(log, "epoch")[len(before) :]
    reached, resumed = (int(line.split()[-1]) for line in (before[-1], after[0]))
    assert resumed in (reached, reached - 1)  # an epoch may end unkept
    complete(root, whole)


def killed_at_random(root, log, rng, *, together=1):
    """Kill sweeps of a store at random moments until one ends; yield how many were killed."""
    done, longest = [], 1.2
    while not done:
        before = len(lines(log))
        running = [run_in("train", root, log) for _ in range(together)]
        time.sleep(rng.uniform(0.0, longest))
        done = [process for process in running if not process.is_alive()]
        rest = [process for process in running if process not in done]
        for process in rest:
            kill(process)
        assert all(process.exitcode == 0 for process in done)
        if len(lines(log)) == before:
            longest *= 1.05  # or on a busy machine none would ever come to train
        yield len(rest)


@pytest.mark.parametrize(
    "kills",
    [pytest.param(10, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.torture)],
)
def test_random_kills_lose_nothing_and_leave_nothing(tmp_path, whole, kills):
    """One sweep at a time, and in every other store two of them at once."""
    rng, killed, trained, stores = random.Random(6), 0, 0, 0
    while killed < kills or stores < 2:
        root, log = tmp_path / f"runs{stores}", tmp_path / f"log{stores}"
        finished = set()
        for number in killed_at_random(root, log, rng, together=1 + stores % 2):
            killed += number
            assert finished <= set(Store(root).ids())  # what was finished stays so
            finished = set(Store(root).ids())
            intact(root, whole)
        complete(root, whole)
        trained += len(lines(log, "epoch"))
        stores += 1
    # Checkpoints are an epoch apart: one may end unkept, and a bank that goes on logs one again.
    assert trained <= 30 * stores + 2 * killed


# Two at once.


def test_two_sweeps_at_once_train_nothing_twice(tmp_path, whole):
    root, logs = tmp_path / "runs", [tmp_path / "log0", tmp_path / "log1"]
    for process in [run_in("train", root, log) for log in logs]:
        finish(process)
    begun = [line for log in logs for line in lines(log, "begin")]
    assert len(begun) == len(set(begun)) == 3
    complete(root, whole)


def test_a_sweep_waits_for_another_and_does_what_that_one_leaves(tmp_path, whole):
    root, logs = tmp_path / "runs", [tmp_path / "log0", tmp_path / "log1"]
    first = run_in("train", root, logs[0])
    until(logs[0], "epoch 1 3", first)
    os.kill(first.pid, signal.SIGSTOP)  # alive, but makes no progress
    second = run_in("train", root, logs[1])
    until(logs[1], "waiting for 1 bank", second)
    kill(first)
    finish(second)
    complete(root, whole)


def test_runs_that_another_sweep_banks_otherwise_are_trained_once(tmp_path):
    first, other, last = (job.id for job in jobs_of(FEW))
    store = Store(tmp_path)
    with claimed(tmp_path, [first]):
        with claimed(tmp_path, [first, other]) as mine:
            assert not mine
        with claimed(tmp_path, [other, last]) as mine:
            assert mine
    ensure(FEW[:2], store, name="a", device="cpu")
    stamp = (tmp_path / other / "run.json").read_bytes()
    ensure(FEW[1:], store, name="b", device="cpu")
    assert (tmp_path / other / "run.json").read_bytes() == stamp
    assert store.read(last).record["together"] == [last]


def test_of_a_bank_that_was_half_stored_the_rest_is_trained_as_it_was(tmp_path):
    """One of three runs is stored with another bank; of the other two, one is lost."""
    first, other, last = (job.id for job in jobs_of(FEW))
    store = Store(tmp_path)
    ensure(FEW[:1], store, name="a", device="cpu")
    ensure(FEW, store, name="b", device="cpu", token_budget=999)
    assert store.read(other).record["together"] == [other, last]
    before = (tmp_path / other / "prompts.safetensors").read_bytes()
    (plan,) = (tmp_path / "plans").glob("b-*")
    written = json.loads(plan.read_text())
    plan.write_text(json.dumps(written | {"banks": [[first, other, last]]}))
    shutil.rmtree(tmp_path / other)
    ensure(FEW, store, name="b", device="cpu")
    assert store.read(other).record["together"] == [other, last]
    assert (tmp_path / other / "prompts.safetensors").read_bytes() == before


def test_a_sweep_that_waits_for_anothers_plan_can_be_stopped(tmp_path):
    (run_id,) = ensure(FEW[:1], Store(tmp_path), name="x", device="cpu")
    (plan,) = (tmp_path / "plans").iterdir()
    shutil.rmtree(tmp_path / run_id)
    policy = CheckpointPolicy(stop=lambda: signal.SIGINT)
    with claimed(tmp_path, [plan.stem]), pytest.raises(Interrupted, match="before a bank began"):
        ensure(FEW[:1], Store(tmp_path), name="x", device="cpu", policy=policy)


@pytest.mark.parametrize("link", [WORK, "plans", "checkpoint"])
def test_no_link_leads_out_of_the_store(tmp_path, link):
    specs, root, outside = [FEW[0].but(epochs=4)], tmp_path / "runs", tmp_path / "outside"
    (job,) = jobs_of(specs)
    outside.mkdir()
    (outside / "state.json").write_text("somebody's")
    place = root / (f"{WORK}/{job.id}" if link == "checkpoint" else link)
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    options = {"device": "cpu", "policy": CheckpointPolicy(every=0)}
    if link == "checkpoint":
        ensure(specs, Store(root), **options)
        assert Store(root).ids() == [job.id]
        assert not (root / WORK).exists()
    else:
        with pytest.raises(InputError, match=f"its {link} is a link, which may lead anywhere"):
            ensure(specs, Store(root), **options)
    assert [path.read_text() for path in outside.iterdir()] == ["somebody's"]


def test_what_killed_processes_left_goes_with_the_next_sweep(copied, whole):
    """Locks, a checkpoint and a half-written folder of stored runs, and a half-written plan."""
    root, (one, other, *_) = copied
    (plan,) = (root / "plans").iterdir()
    for folder in (root / WORK / one, root / f".{other}-abcdefgh"):
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    (root / WORK / f"{other}.lock").touch()
    (root / WORK / f"{plan.stem}.lock").touch()
    (root / "plans" / f".{plan.name}-12345678").write_text("{")
    train(root)
    complete(root, whole)


# Signals.

SHORT = (
    *("run", "--model", "tiny-llama", "--task", "gsm8k", "--lr", "0.05", "--n-tokens", "4"),
    *("--epochs", "2", "--max-new-tokens", "2", "--device", "cpu"),
)
LONG = (*SHORT, "--epochs", "250")
# Answers are long, so that an epoch takes seconds; no checkpoint is due before the signal.
SLOW = (*LONG, "--regime", "multi", "--max-new-tokens", "1500", "--check-every", "1")
SLOW = (*SLOW, "--checkpoint", "1000")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_at_a_checkpoint_and_says_how_to_go_on(tmp_path, number):
    out, again, root = tmp_path / "out", tmp_path / "again", tmp_path / "runs"
    process = run_in("command", *LONG, "--runs", root, out=out)
    until(out, "epoch 2 has ended", process)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 128 + number
    text = out.read_text()
    assert "stopping after this epoch" in text
    assert "Traceback" not in text
    (reached,) = re.findall(r"tsp: stopped after epoch (\d+); the same command resumes", text)
    assert len(list(root.glob(f"{WORK}/*/state.json"))) == 1
    finish(run_in("command", *LONG, "--runs", root, out=again))
    assert f"resumes after epoch {reached}" in again.read_text()
    assert not (root / WORK).exists()


def test_a_second_signal_stops_at_once(tmp_path):
    out, root = tmp_path / "out", tmp_path / "runs"
    process = run_in("command", *SLOW, "--runs", root, out=out)
    until(out, "bank 1/1", process)
    os.kill(process.pid, signal.SIGINT)
    until(out, "stopping after this epoch", process)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 130
    assert "tsp: stopped; finished runs are stored" in out.read_text()
    assert "Traceback" not in out.read_text()
    assert Store(root).ids() == []
    assert not list(root.glob(f"{WORK}/*.lock"))


def test_a_terminal_that_is_gone_does_not_cost_the_checkpoint(tmp_path):
    """``tsp run … | tee log``: the terminal sends Ctrl-C to both."""
    code = "import sys; from tests.faults_at_work import command; command(*sys.argv[1:])"
    words = [sys.executable, "-c", code, *SLOW, "--runs", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"epoch 1 has ended\n"
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    assert len(list(tmp_path.glob(f"{WORK}/*/state.json"))) == 1


# Disks.

NAMESPACE = [] if os.geteuid() == 0 else ["--map-root-user"]
PRIVATE = ["unshare", "--mount", *NAMESPACE]
MOUNT = [*PRIVATE, "mount", "-t", "tmpfs", "none", "/mnt"]
MOUNTS = shutil.which("unshare") and not subprocess.run(MOUNT, capture_output=True).returncode
needs_mounts = pytest.mark.skipif(not MOUNTS, reason="needs a kernel that lets tests mount")


def mounted(script, tmp_path):
    """Run a shell script whose mounts nobody else sees; ``$TSP`` is the command line."""
    env = os.environ | {"TSP": f"{sys.executable} -m tsp", "STORE": str(tmp_path)}
    done = subprocess.run([*PRIVATE, "sh", "-c", script], env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


@needs_mounts
@pytest.mark.slow
def test_a_full_disk_says_so_in_a_line_and_what_was_kept_goes_on(tmp_path):
    script = f"""
    mount -t tmpfs -o size=3m none $STORE
    $TSP {" ".join(SHORT)} --runs $STORE/runs >/dev/null; echo "before $?"
    room=$(df --output=avail -k $STORE | tail -1)
    dd if=/dev/zero of=$STORE/ballast bs=1k count=$((room - 112)) 2>/dev/null
    $TSP {" ".join(LONG)} --runs $STORE/runs --checkpoint 0; echo "first $?"
    $TSP runs verify --runs $STORE/runs; ls -A $STORE/runs | sort | tr '\\n' ' '; echo
    rm $STORE/ballast
    $TSP {" ".join(LONG)} --runs $STORE/runs; echo "second $?"
    $TSP runs verify --runs $STORE/runs; ls -A $STORE/runs | sort | tr '\\n' ' '
    """
    done = mounted(script, tmp_path)
    for words in ("before 0", "first 1", "1 runs are sound", "second 0", "2 runs are sound"):
        assert words in done.stdout, done
    assert re.search(r"tsp: .*No space left on device; free some space", done.stderr), done.stderr
    assert "resumes after epoch" in done.stderr
    (before,) = re.findall(r"^\.work ([0-9a-f]{16}) plans $", done.stdout, re.MULTILINE)
    (after,) = re.findall(r"^([0-9a-f]{16} [0-9a-f]{16}) plans $", done.stdout, re.MULTILINE)
    assert before in after.split()


@needs_mounts
@pytest.mark.slow
def test_a_store_on_a_read_only_mount_is_read_and_not_written(tmp_path):
    script = f"""
    $TSP {" ".join(SHORT)} --runs $STORE/runs >/dev/null || exit 9
    mount --bind $STORE $STORE && mount -o remount,bind,ro $STORE
    $TSP {" ".join(SHORT)} --runs $STORE/runs > /dev/null; echo "stored $?"
    $TSP runs list --runs $STORE/runs --json; echo "list $?"
    $TSP runs verify --runs $STORE/runs; echo "verify $?"
    $TSP {" ".join(SHORT)} --seed 1 --runs $STORE/runs; echo "new $?"
    """
    done = mounted(script, tmp_path)
    for words in ("stored 0", "list 0", "verify 0", "new 1"):
        assert words in done.stdout, done
    assert "Read-only file system; name a store that can be written with --runs" in done.stderr


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs a root without its rights"
)
def test_a_folder_without_the_right_to_write_is_named(tmp_path):
    root = tmp_path / "runs"
    root.mkdir(mode=0o555)
    mortal = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*mortal, sys.executable, "-m", "tsp", *LONG, "--runs", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "name a store that you may write" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(root.iterdir()) == []


# Files.


@pytest.mark.parametrize("fault", ["flip", "delete", "empty"])
def test_each_damaged_file_is_found_and_its_run_trained_again(copied, whole, fault):
    rng, (root, ids) = random.Random(fault), copied
    names = sorted(path.name for path in (root / ids[0]).iterdir())
    for run_id, name in zip(ids, names, strict=True):
        path = root / run_id / name
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1
        path.unlink()
        if fault != "delete":
            path.write_bytes(content if fault == "flip" else b"")
        assert Store(root).verify(run_id), (run_id, name)
    train(root)
    assert not any(Store(root).verify_all().values())
    for aside in root.glob("damaged-*"):
        shutil.rmtree(aside)
    complete(root, whole)


def test_a_run_that_is_deleted_is_trained_again_as_its_bank_was(copied, whole):
    root, ids = copied
    shutil.rmtree(root / ids[2])
    train(root)
    complete(root, whole)


def test_a_damaged_run_in_a_pack_is_trained_again_beside_it(tmp_path, whole):
    root, runs = tmp_path / "runs", Store(whole)
    write_archive([run.data for run in runs.valid_runs()[0]], root / "all.parquet")
    table = pq.read_table(root / "all.parquet")
    records, hurt = table["record"].to_pylist(), table["id"][0].as_py()
    records[0] = records[0].replace("tiny-llama", "tiny-lama")
    pq.write_table(table.set_column(1, "record", pa.array(records)), root / "all.parquet")
    assert Store(root).verify(hurt)
    train(root)
    assert Store(root).verify(hurt) is None
    assert {path.name for path in root.iterdir()} == {hurt, "plans", "all.parquet"}


# Clocks.

FAKETIME = next(Path("/usr").glob("lib/*/faketime/libfaketime.so.1"), None)


@pytest.mark.slow
@pytest.mark.skipif(
    FAKETIME is None and os.environ.get("TSP_BROWSER") != "required", reason="needs libfaketime"
)
def test_a_clock_that_jumps_changes_nothing(tmp_path):
    """Back by ten years and on by twenty, while a sweep trains."""
    assert FAKETIME
    root, clock, log = tmp_path / "runs", tmp_path / "clock", tmp_path / "log"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    code = f"from tests.faults_at_work import train; train({str(root)!r}, {str(log)!r}, 0.05)"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | faked)
    for jump, mark in (("-10y", "epoch 1 2"), ("+10y", "epoch 2 2"), ("+0", "epoch 3 2")):
        until(log, mark, process)
        clock.write_text(jump)
    assert process.wait() == 0
    records = [json.loads(path.read_text()) for path in root.glob("*/run.json")]
    assert len({record["written"][:4] for record in records}) > 1  # the clock did jump
    train(tmp_path / "whole")
    assert differences(root, tmp_path / "whole") == []
    assert Store(root).valid_runs()[1] == {}
    assert all(0 < record["seconds"] < 86_400 for record in records)  # years are the clock's
