"""Runs in folders: they come back as they were written, and damage is named."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import PLAN, problem, spec
from tests.handmade import stored
from tsp.errors import Damaged, InputError
from tsp.experiments.banks import store_runs
from tsp.paths import ROOT
from tsp.store.archive import write_archive
from tsp.store.record import kept_prompts
from tsp.store.runs import Store
from tsp.topology.diagrams import persistence, summarize
from tsp.training.models import load
from tsp.training.trainer import train_bank

FILES = [
    *("checks.parquet", "diagrams.parquet", "epochs.parquet"),
    *("prompts.safetensors", "run.json", "topology.parquet"),
]


@pytest.fixture(scope="module")
def trained(tiny):
    """One result and the id of its content."""
    run = spec(epochs=5, snapshot_every=2, n_tokens=6)
    problems = [problem("two and two?", "four")]
    (result,) = train_bank([run], tiny(), [problems], plan=PLAN)
    return result, run.id(problems)


def put(store, trained):
    """Store the run and return its folder."""
    result, run_id = trained
    store_runs({run_id: result}, store, plan=PLAN, frozen=load("tiny-llama", device="cpu"))
    return store.read(run_id).folder


@pytest.fixture
def store(tmp_path, trained):
    """A store with the run."""
    store = Store(tmp_path / "runs")
    put(store, trained)
    return store


def test_a_run_comes_back_as_it_was_written(trained, store):
    result, run_id = trained
    assert sorted(path.name for path in (store.root / run_id).iterdir()) == FILES
    run = store.read(run_id)
    assert run.spec == result.spec
    pd.testing.assert_frame_equal(run.epochs, pd.DataFrame(result.epochs))
    pd.testing.assert_frame_equal(run.checks, pd.DataFrame(result.checks), check_dtype=False)
    assert run.prompt_epochs == [0, 2, 4, 5] == sorted(kept_prompts(result))
    assert torch.equal(run.prompt(4), result.prompts[4])
    with pytest.raises(InputError, match=r"epoch = 3.*\[0, 2, 4, 5\]"):
        run.prompt(3)
    assert run.topology.epoch.tolist() == [0, 2, 4, 5]
    expected = summarize(result.prompts[4]).iloc[0]
    row = run.topology.set_index("epoch").loc[4]
    np.testing.assert_allclose(row[expected.index].astype(float), expected.astype(float))
    bars = run.diagrams[run.diagrams.epoch == 2]
    for dimension, expected in persistence(result.prompts[2]).items():
        rows = bars[bars.dimension == dimension][["birth", "death"]].to_numpy()
        np.testing.assert_array_equal(rows, expected)


def test_a_run_records_how_it_was_made(trained, store):
    record = json.loads((store.root / trained[1] / "run.json").read_text())
    assert {"torch", "transformers", "giotto-tda"} <= set(record["versions"])
    assert record["device"] == "cpu"
    assert record["plan"] == vars(PLAN) | {"bank": 1}
    assert record["problems"][0]["tokens"]["target"] == 5  # "four" byte by byte, and the end
    assert set(record["files"]) == set(FILES) - {"run.json"}
    assert {"commit", "seconds", "omitted", "outcome", "spec", "python"} <= set(record)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_run_is_named_and_never_half_read(name, harm, trained, store):
    path = store.root / trained[1] / name
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half] ^= 4
    path.unlink()
    if harm != "delete":
        path.write_bytes(content if harm == "flip" else content[:half])
    with pytest.raises(Damaged, match=f"run {trained[1]}: {name}"):
        store.read(trained[1])
    assert list(store.verify_all()) == [trained[1]]
    assert (name == "run.json") == store.frame().empty == bool(store.valid_runs()[1])


@pytest.mark.parametrize("present", ["file", "link"])
def test_a_run_whose_place_is_taken_is_not_lost_silently(present, trained, tmp_path):
    store, place = Store(tmp_path), tmp_path / trained[1]
    place.write_text("mine") if present == "file" else place.symlink_to(tmp_path / "unmounted")
    with pytest.raises(OSError, match=trained[1]):
        put(store, trained)
    assert (store.valid_runs()[0], trained[1] in store) == ([], False)
    assert "cannot be read" in store.verify_all()[trained[1]]
    assert [path.name for path in tmp_path.iterdir()] == [trained[1]]
    place.unlink()
    put(store, trained)
    assert (store.ids(), put(store, trained)) == ([trained[1]], place)  # storing twice is allowed


def test_writing_is_all_or_nothing(trained, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("tsp.store.folder.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        put(Store(tmp_path), trained)
    assert list(tmp_path.iterdir()) == []


def test_only_folders_with_an_id_are_runs(trained, store):
    folder = store.root / trained[1]
    shutil.copytree(folder, store.root / f".{folder.name}-abc")
    shutil.copytree(folder, store.root / ("0" * 16))  # whose record has another id
    (store.root / "notes").mkdir()
    assert store.ids() == ["0" * 16, folder.name]
    assert store.verify("0" * 16)
    for name in ("../etc", "", "nothing", "0123456789abcdef", "0123456789abcdeg"):
        with pytest.raises(InputError, match="run ="):
            store.read(name)


def test_the_frame_has_the_epoch_of_the_first_right_check(tmp_path):
    store = Store(tmp_path)
    for seed, solved in enumerate((4, 0, None)):
        stored(store, solved=solved, seed=seed)
    frame = store.frame().sort_values("seed")
    for name in ("solved_epoch", "solved_steps"):  # a single problem: one step an epoch
        np.testing.assert_array_equal(frame[name], [4, 2, np.nan])
    assert frame.solved_at_start.tolist() == [False, True, False]


def test_the_default_store_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TSP_RUNS", raising=False)
    assert str(Store().root) == "runs"
    monkeypatch.setenv("TSP_RUNS", str(tmp_path))
    assert (Store().root, str(Store("other").root)) == (tmp_path, "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"runs = .*is a file"):
        Store(tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "pattern"), [("size=8k", "No space left"), ("ro,size=64k", "Read-only file system")]
)
def test_a_full_or_read_only_disk_leaves_nothing_half_written(options, pattern, trained, tmp_path):
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        with pytest.raises(OSError, match=pattern):
            put(Store(tmp_path), trained)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], capture_output=True)


def test_published_runs_belong_to_the_checkouts_own_store(smoke, tmp_path, monkeypatch):
    """`runs` reads `data/runs` beside itself; another folder does not, and nothing goes there."""
    first, second = smoke.ids()[:2]
    data = [smoke.read(run_id).data for run_id in (first, second)]
    write_archive(data[:1], tmp_path / "data" / "runs" / "some.parquet")
    monkeypatch.setattr("tsp.store.runs.ROOT", tmp_path)
    for module in ("run", "runs"):
        monkeypatch.setattr(f"tsp.store.{module}.data_dir", lambda name: tmp_path / "data" / name)
    store = Store(tmp_path / "runs")
    assert store.ids() == [first]
    assert store.read(first).epochs.equals(smoke.read(first).epochs)
    assert [file.name for file in store.files()] == ["some.parquet"]
    assert Store(tmp_path / "elsewhere").ids() == []
    write_archive(data, tmp_path / "more.parquet")
    assert store.unpack(tmp_path / "more.parquet")[:2] == ([second], [first])
    assert [store.read(run_id).published for run_id in (first, second)] == [True, False]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [second]


def test_a_notebook_in_the_folder_of_notebooks_reads_the_checkouts_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("TSP_RUNS", raising=False)
    for folder in (ROOT, ROOT / "notebooks"):
        monkeypatch.chdir(folder)
        assert Store().root.resolve() == ROOT / "runs"
    monkeypatch.chdir(tmp_path)
    assert Store().root.resolve() == tmp_path / "runs"
