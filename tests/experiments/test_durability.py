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

from tests.conftest import PATIENCE_SECONDS, repetitions, spec
from tests.faults import TENSORS, kill, run_in, same_bytes
from tests.faults_at_work import train
from tsp.errors import InputError
from tsp.experiments.banks import CheckpointPolicy
from tsp.experiments.sweep import ensure, jobs_of
from tsp.store.archive import write_archive
from tsp.store.locks import WORK, claimed
from tsp.store.runs import Store
from tsp.training.stopping import Interrupted

KILLS_SAMPLE, KILLS = 10, 200


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The store of a sweep that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    process = run_in(root, "train", str(root))
    process.join()
    assert process.exitcode == 0
    return root


def lines(log):
    """What a sweep has logged."""
    return log.read_text().splitlines() if log.exists() else []


def until(log, text, *, process):
    """Wait until a sweep has logged something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not any(text in line for line in lines(log)):
        assert process.is_alive() or any(text in line for line in lines(log)), log.read_text()
        assert time.monotonic() < end, f"never logged {text!r}"
        time.sleep(0.005)


def sound_and_alike(root, whole):
    """Whether each run that is visible is one of the uninterrupted sweep's, byte by byte."""
    store = Store(root)
    for run_id in store.ids():
        assert store.verify(run_id) is None
        for path in (whole / run_id).iterdir():
            if path.suffix in TENSORS:
                assert (root / run_id / path.name).read_bytes() == path.read_bytes()


def flip(path, place=None):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2 if place is None else place
    content[place] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_keeps_each_prompt_once_and_goes_with_its_bank(tmp_path, whole):
    log = tmp_path / "log"
    process = run_in(tmp_path, "train", str(tmp_path / "runs"), str(log))
    until(log, "epoch 2 8", process=process)
    kill(process)
    (folder,) = (it for it in (tmp_path / "runs" / WORK).iterdir() if it.is_dir())
    state = json.loads((folder / "state.json").read_text())
    kept = [path.name for path in folder.glob("*.safetensors")]
    assert sum(name.startswith("moments") for name in kept) <= 2  # one, or the next one begun
    assert set(state["prompts"]) <= set(kept)
    train(tmp_path / "runs", str(log))
    assert same_bytes(tmp_path / "runs", whole) == []
    assert not (tmp_path / "runs" / WORK).exists()


# SIGKILL, once and many times.


def killed_at_random(root, log, rng, *, together=1):
    """Kill sweeps of a store at random moments until one ends by itself; say how often."""
    killed, longest = 0, 1.2
    while True:
        before = len(lines(log))
        running = [run_in(root, "train", str(root), str(log)) for _ in range(together)]
        time.sleep(rng.uniform(0.0, longest))
        done = [process for process in running if not process.is_alive()]
        for process in running:
            if process.is_alive():
                kill(process)
                killed += 1
        assert all(process.exitcode == 0 for process in done)
        if len(lines(log)) == before:
            longest *= 1.05  # or on a busy machine none would ever come to train
        yield killed
        if done:
            return


def most_repeated(log):
    """How often an epoch of a bank was trained at most, and how many were trained in all."""
    told = [tuple(map(int, line.split()[1:])) for line in lines(log) if line.startswith("epoch")]
    return max(told.count(it) for it in set(told)), len(told)


def test_a_sweep_that_is_killed_goes_on_with_its_checkpoint(tmp_path, whole):
    root, log = tmp_path / "runs", tmp_path / "log"
    process = run_in(root, "train", str(root), str(log))
    until(log, "epoch 2 5", process=process)
    kill(process)
    before = len(lines(log))
    assert len(Store(root).ids()) == 2  # the first bank's; nothing of the second is visible
    sound_and_alike(root, whole)
    process = run_in(root, "train", str(root), str(log))
    process.join()
    assert process.exitcode == 0
    again = [line for line in lines(log)[before:] if line.startswith("epoch")]
    reached = int(lines(log)[before - 1].split()[-1])
    assert int(again[0].split()[-1]) in (reached, reached - 1)  # an epoch may end unkept
    assert same_bytes(root, whole) == []
    assert not any(path.name.startswith(".") for path in root.rglob("*"))


@pytest.mark.parametrize("kills", repetitions(KILLS_SAMPLE, KILLS, pytest.mark.slow))
def test_random_kills_lose_nothing_and_leave_nothing(tmp_path, whole, capsys, kills):
    """One sweep at a time, and in every other store two of them at once."""
    rng, killed, stores, rounds = random.Random(6), 0, 0, 0
    trained = 0
    while killed < kills or stores < 2:
        root, log = tmp_path / f"runs{stores}", tmp_path / f"log{stores}"
        together = 1 + stores % 2
        here, finished = 0, set()
        for count in killed_at_random(root, log, rng, together=together):
            here, rounds = count, rounds + 1
            assert finished <= set(Store(root).ids())  # what was finished stays so
            finished = set(Store(root).ids())
            sound_and_alike(root, whole)
        assert same_bytes(root, whole) == [], root
        assert not any(path.name.startswith(".") for path in root.rglob("*"))
        killed, stores, trained = killed + here, stores + 1, trained + most_repeated(log)[1]
        shutil.rmtree(root)
    needed = 30 * stores
    with capsys.disabled():
        print(
            f"\n{killed} kills in {rounds} rounds over {stores} stores; "
            f"{trained} epochs of banks ended, {needed} are needed"
        )
    # The interval is an epoch: one may end unkept, and where a bank goes on is told once more.
    assert trained <= needed + 2 * killed


# Two at once.


def test_two_sweeps_at_once_train_nothing_twice(tmp_path, whole):
    root, logs = tmp_path / "runs", [tmp_path / "log0", tmp_path / "log1"]
    both = [run_in(root, "train", str(root), str(log)) for log in logs]
    for process in both:
        process.join()
        assert process.exitcode == 0
    begun = [line for log in logs for line in lines(log) if line.startswith("begin")]
    assert len(begun) == len(set(begun)) == 3
    assert same_bytes(root, whole) == []
    assert not any(path.name.startswith(".") for path in root.rglob("*"))


def test_a_sweep_waits_for_another_and_does_what_that_one_leaves(tmp_path, whole):
    root, logs = tmp_path / "runs", [tmp_path / "log0", tmp_path / "log1"]
    first = run_in(root, "train", str(root), str(logs[0]))
    until(logs[0], "epoch 1 3", process=first)
    os.kill(first.pid, signal.SIGSTOP)  # it is there, and does not move
    second = run_in(root, "train", str(root), str(logs[1]))
    until(logs[1], "waiting for 1 bank", process=second)
    kill(first)
    second.join()
    assert second.exitcode == 0
    assert same_bytes(root, whole) == []


def test_runs_that_another_sweep_banks_otherwise_are_trained_once(tmp_path):
    told = [spec(task="mmlu_cf", epochs=2, n_tokens=4, seed=k) for k in range(3)]
    first, other, last = jobs_of(told)
    store = Store(tmp_path)
    with claimed(tmp_path, [first.id]):
        with claimed(tmp_path, [first.id, other.id]) as mine:
            assert not mine
        with claimed(tmp_path, [other.id, last.id]) as mine:
            assert mine
    ensure(told[:2], store, name="a", device="cpu")
    stamp = (tmp_path / other.id / "run.json").read_bytes()
    ensure(told[1:], store, name="b", device="cpu")
    assert (tmp_path / other.id / "run.json").read_bytes() == stamp
    assert store.read(last.id).record["together"] == [last.id]


def test_who_waits_for_anothers_plan_may_be_stopped(tmp_path):
    told = [spec(task="mmlu_cf", epochs=2, n_tokens=4)]
    ensure(told, Store(tmp_path), name="x", device="cpu")
    (plan,) = (tmp_path / "plans").iterdir()
    shutil.rmtree(tmp_path / jobs_of(told)[0].id)
    policy = CheckpointPolicy(stop=lambda: signal.SIGINT)
    with claimed(tmp_path, [plan.stem]), pytest.raises(Interrupted, match="before a bank began"):
        ensure(told, Store(tmp_path), name="x", device="cpu", policy=policy)


@pytest.mark.parametrize("link", [WORK, "plans", "checkpoint"])
def test_no_link_leads_out_of_the_store(tmp_path, link):
    told, root = [spec(task="mmlu_cf", epochs=4, n_tokens=4)], tmp_path / "runs"
    (job,) = jobs_of(told)
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("model.safetensors", "state.json"):
        (outside / name).write_text("somebody's")
    place = root / (f"{WORK}/{job.id}" if link == "checkpoint" else link)
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    policy = CheckpointPolicy(every=0)
    if link == "checkpoint":
        ensure(told, Store(root), device="cpu", policy=policy)
        assert Store(root).ids() == [job.id]
        assert not (root / WORK).exists()
    else:
        with pytest.raises(InputError, match=f"its {link} is a link, which may lead anywhere"):
            ensure(told, Store(root), device="cpu", policy=policy)
    assert {it.name: it.read_text() for it in outside.iterdir()} == {
        name: "somebody's" for name in ("model.safetensors", "state.json")
    }


def test_of_a_bank_that_was_half_stored_the_rest_is_trained_as_it_was(tmp_path):
    """One of three runs is another bank's; of the two that were trained, one is lost."""
    told = [spec(task="mmlu_cf", epochs=2, n_tokens=4, seed=k) for k in range(3)]
    first, other, last = (job.id for job in jobs_of(told))
    store = Store(tmp_path)
    ensure(told[:1], store, name="a", device="cpu")
    ensure(told, store, name="b", device="cpu", token_budget=999)
    assert store.read(other).record["together"] == [other, last]
    before = (tmp_path / other / "prompts.safetensors").read_bytes()
    (plan,) = (tmp_path / "plans").glob("b-*")
    written = json.loads(plan.read_text())
    plan.write_text(json.dumps(written | {"banks": [[first, other, last]]}))
    shutil.rmtree(tmp_path / other)
    ensure(told, store, name="b", device="cpu")
    assert store.read(other).record["together"] == [other, last]
    assert (tmp_path / other / "prompts.safetensors").read_bytes() == before


def test_what_killed_processes_left_goes_with_the_next_sweep(tmp_path, whole):
    """Locks, a checkpoint and half a run of runs that are stored, and half a plan."""
    root = tmp_path / "runs"
    shutil.copytree(whole, root)
    one, other = sorted(it.name for it in root.iterdir() if it.name != "plans")[:2]
    (plan,) = (root / "plans").iterdir()
    for folder in (root / WORK / one, root / f".{other}-abcdefgh"):
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    (root / WORK / f"{other}.lock").touch()
    (root / WORK / f"{plan.stem}.lock").touch()
    (root / "plans" / f".{plan.name}-12345678").write_text("{")
    train(root)
    assert same_bytes(root, whole) == []
    assert not any(path.name.startswith(".") for path in root.rglob("*"))


# Signals.


def command_line(*words, folder, out):
    """The command line in a process of its own that runs no longer than a minute."""
    return run_in(folder, "command", *words, out=out)


RUN = ("run", "--model", "tiny-llama", "--task", "gsm8k", "--lr", "0.05", "--n-tokens", "4")
SHORT = (*RUN, "--epochs", "2", "--max-new-tokens", "2", "--device", "cpu")
LONG = (*RUN, "--epochs", "250", "--max-new-tokens", "2", "--device", "cpu")
# Answers are long, so that an epoch takes seconds.
SLOW = (*LONG, "--regime", "multi", "--max-new-tokens", "1500", "--check-every", "1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_at_a_checkpoint_and_says_how_to_go_on(tmp_path, number):
    out, root = tmp_path / "out", str(tmp_path / "runs")
    process = command_line(*LONG, "--runs", root, folder=tmp_path, out=out)
    until(out, "epoch 2 has ended", process=process)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 128 + number
    told = out.read_text()
    assert "stopping after this epoch" in told
    (reached,) = re.findall(r"tsp: stopped after epoch (\d+); the same command goes on", told)
    assert "Traceback" not in told
    assert len(list((tmp_path / "runs" / WORK).glob("*/state.json"))) == 1
    process = command_line(*LONG, "--runs", root, folder=tmp_path, out=tmp_path / "again")
    process.join()
    assert process.exitcode == 0
    assert f"goes on after epoch {reached}" in (tmp_path / "again").read_text()
    assert not (tmp_path / "runs" / WORK).exists()


def test_a_second_signal_stops_at_once(tmp_path):
    out, root = tmp_path / "out", tmp_path / "runs"
    words = (*SLOW, "--runs", str(root), "--checkpoint", "1000")
    process = command_line(*words, folder=tmp_path, out=out)
    until(out, "bank 1/1", process=process)
    os.kill(process.pid, signal.SIGINT)
    until(out, "stopping after this epoch", process=process)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 130
    assert "tsp: stopped; what was finished is kept" in out.read_text()
    assert "Traceback" not in out.read_text()
    assert Store(root).ids() == []
    assert not list(root.glob(f"{WORK}/*.lock"))


def test_who_reads_along_may_go_with_the_same_signal(tmp_path):
    """``tsp run … | tee log``: the terminal sends Ctrl-C to both."""
    code = "import sys; from tests.faults_at_work import command; command(*sys.argv[1:])"
    words = [*SLOW, "--runs", str(tmp_path / "runs"), "--checkpoint", "1000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code, *words], **pipes)
    assert process.stdout.readline() == b"epoch 1 has ended\n"
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    assert len(list((tmp_path / "runs" / WORK).glob("*/state.json"))) == 1


# Disks.

NAMESPACE = [] if os.geteuid() == 0 else ["--map-root-user"]
MOUNTS = (
    shutil.which("unshare")
    and not subprocess.run(
        ["unshare", "--mount", *NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
    ).returncode
)
needs_mounts = pytest.mark.skipif(not MOUNTS, reason="needs a kernel that lets tests mount")


def mounted(script, tmp_path, **more):
    """Run a shell script whose mounts nobody else sees; ``$TSP`` is the command line."""
    told = {"TSP": f"{sys.executable} -m tsp", "STORE": str(tmp_path / "store"), **more}
    (tmp_path / "store").mkdir(exist_ok=True)
    return subprocess.run(
        ["unshare", "--mount", *NAMESPACE, "sh", "-c", script],
        env=os.environ | told,
        capture_output=True,
        text=True,
    )


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
    assert "before 0" in done.stdout, done
    assert "first 1" in done.stdout, done
    assert re.search(r"tsp: .*No space left on device; free some space", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert "1 runs are sound, 0 damaged" in done.stdout
    (before,) = re.findall(r"^\.work ([0-9a-f]{16}) plans $", done.stdout, re.MULTILINE)
    assert "second 0" in done.stdout
    assert "goes on after epoch" in done.stderr
    assert "2 runs are sound, 0 damaged" in done.stdout
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
    for word in ("stored 0", "list 0", "verify 0", "new 1"):
        assert word in done.stdout, done
    assert "Read-only file system; name a store that can be written with --runs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs a root without its rights"
)
def test_a_folder_that_one_may_not_write_is_named(tmp_path):
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
def test_each_damaged_file_is_found_and_its_run_trained_again(tmp_path, whole, fault):
    rng = random.Random(fault)
    root = tmp_path / "runs"
    shutil.copytree(whole, root)
    hurt = sorted(it.name for it in root.iterdir() if it.name != "plans")
    names = sorted(path.name for path in (root / hurt[0]).iterdir())
    for run_id, name in zip(hurt, names, strict=True):
        path = root / run_id / name
        if fault == "flip":
            flip(path, rng.randrange(path.stat().st_size))
        elif fault == "delete":
            path.unlink()
        else:
            path.write_bytes(b"")
        assert Store(root).verify(run_id), (run_id, name)
    train(root)
    store = Store(root)
    assert [store.verify(run_id) for run_id in hurt] == [None] * len(hurt)
    for aside in root.glob("damaged-*"):
        shutil.rmtree(aside)
    assert same_bytes(root, whole) == []


def test_a_run_that_is_deleted_is_trained_again_as_its_bank_was(tmp_path, whole):
    root = tmp_path / "runs"
    shutil.copytree(whole, root)
    gone = sorted(it.name for it in root.iterdir() if it.name != "plans")[2]
    shutil.rmtree(root / gone)
    train(root)
    assert same_bytes(root, whole) == []


def test_a_damaged_run_in_a_pack_is_trained_again_beside_it(tmp_path, whole):
    root = tmp_path / "runs"
    runs = Store(whole)
    write_archive([runs.read(it).data for it in runs.ids()], root / "all.parquet")
    hurt = runs.ids()[0]
    table = pq.read_table(root / "all.parquet")
    records = [
        text.replace("tiny-llama", "tiny-lama") if run_id == hurt else text
        for run_id, text in zip(*(table[it].to_pylist() for it in ("id", "record")), strict=True)
    ]
    table = table.set_column(1, "record", pa.array(records))
    pq.write_table(table, root / "all.parquet")
    assert Store(root).verify(hurt)
    train(root)
    assert Store(root).verify(hurt) is None
    assert (root / hurt).is_dir()
    assert [it.name for it in root.iterdir() if it.is_dir() and it.name != "plans"] == [hurt]


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
    told = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    code = f"from tests.faults_at_work import train; train({str(root)!r}, {str(log)!r}, 0.05)"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | told)
    for jump, mark in (("-10y", "epoch 1 2"), ("+10y", "epoch 2 2"), ("+0", "epoch 3 2")):
        end = time.monotonic() + PATIENCE_SECONDS
        while mark not in "\n".join(lines(log)):
            assert process.poll() in (None, 0)
            assert time.monotonic() < end
            time.sleep(0.005)
        clock.write_text(jump)
    assert process.wait() == 0
    years = {json.loads(path.read_text())["written"][:4] for path in root.glob("*/run.json")}
    assert len(years) > 1  # the clock did jump
    train(tmp_path / "whole")
    assert same_bytes(root, tmp_path / "whole") == []
    assert Store(root).valid_runs()[1] == {}
    seconds = [run.record["seconds"] for run in Store(root).valid_runs()[0]]
    assert all(0 < it < 86_400 for it in seconds)  # days and years are the clock's
