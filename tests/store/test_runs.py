import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import PLAN, problem, spec
from tsp.errors import Damaged, InputError
from tsp.experiments.banks import store_runs
from tsp.store.archive import write_archive
from tsp.store.record import kept_prompts
from tsp.store.runs import Store
from tsp.training.models import load
from tsp.training.trainer import train_bank

FILES = [
    "checks.parquet",
    "diagrams.parquet",
    "epochs.parquet",
    "prompts.safetensors",
    "run.json",
    "topology.parquet",
]


@pytest.fixture(scope="module")
def trained(tiny):
    """One result and the id of its content."""
    told = spec(epochs=5, snapshot_every=2, n_tokens=6)
    problems = [problem("two and two?", "four")]
    (result,) = train_bank([told], tiny(), [problems], plan=PLAN)
    return result, told.id(problems)


def put(store, trained):
    result, run_id = trained
    store_runs({run_id: result}, store, plan=PLAN, frozen=load("tiny-llama", device="cpu"))
    return store.read(run_id).folder


def test_a_run_comes_back_as_it_was_written(trained, tmp_path):
    result, run_id = trained
    store = Store(tmp_path / "runs")
    folder = put(store, trained)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    run = store.read(run_id)
    assert run.spec == result.spec
    pd.testing.assert_frame_equal(run.epochs, pd.DataFrame(result.epochs))
    pd.testing.assert_frame_equal(run.checks, pd.DataFrame(result.checks), check_dtype=False)
    assert run.prompt_epochs == [0, 2, 4, 5] == sorted(kept_prompts(result))
    assert torch.equal(run.prompt(4), result.prompts[4])
    with pytest.raises(InputError, match=r"epoch = 3.*\[0, 2, 4, 5\]"):
        run.prompt(3)


def test_a_run_carries_its_topology(trained, tmp_path):
    from tsp.topology.diagrams import persistence, summarize

    store = Store(tmp_path)
    put(store, trained)
    run = store.read(trained[1])
    assert run.topology.epoch.tolist() == [0, 2, 4, 5]
    told = summarize(trained[0].prompts[4]).iloc[0]
    found = run.topology.set_index("epoch").loc[4]
    np.testing.assert_allclose(found[told.index].astype(float), told.astype(float))
    bars = run.diagrams[run.diagrams.epoch == 2]
    told = persistence(trained[0].prompts[2])
    for dimension in (0, 1):
        rows = bars[bars.dimension == dimension][["birth", "death"]].to_numpy()
        np.testing.assert_array_equal(rows, told[dimension])
    assert np.isinf(bars.death).sum() == 1


def test_a_run_says_how_it_was_made(trained, tmp_path):
    store = Store(tmp_path)
    record = json.loads((put(store, trained) / "run.json").read_text())
    assert {"torch", "transformers", "giotto-tda"} <= set(record["versions"])
    assert record["device"] == "cpu"
    assert record["plan"] == vars(PLAN) | {"bank": 1}
    assert record["plan"]["precision"] == "float32"
    assert record["problems"][0]["tokens"]["target"] == 5  # "four" byte by byte, and the end
    assert set(record["files"]) == set(FILES) - {"run.json"}
    assert {"commit", "seconds", "omitted", "outcome", "spec", "python"} <= set(record)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_run_is_named_and_never_half_read(name, harm, trained, tmp_path):
    store = Store(tmp_path)
    path = put(store, trained) / name
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with pytest.raises(Damaged, match=f"run {trained[1]}: {name}"):
        store.read(trained[1])
    assert list(store.verify_all()) == [trained[1]]
    assert (name == "run.json") == store.frame().empty == bool(store.valid_runs()[1])


def test_a_damaged_run_is_quarantined_and_made_again(trained, tmp_path):
    store = Store(tmp_path)
    folder = put(store, trained)
    (folder / "epochs.parquet").write_bytes(b"x")
    aside = store.quarantine(trained[1])
    assert (aside / "epochs.parquet").read_bytes() == b"x"
    assert store.ids() == []
    put(store, trained)
    assert store.verify(trained[1]) is None


@pytest.mark.parametrize("there", ["file", "link"])
def test_a_run_whose_place_is_taken_by_something_else_is_not_lost_silently(
    there, trained, tmp_path
):
    store, place = Store(tmp_path), tmp_path / trained[1]
    place.write_text("mine") if there == "file" else place.symlink_to(tmp_path / "unmounted")
    with pytest.raises(OSError, match=trained[1]):
        put(store, trained)
    assert (store.valid_runs()[0], trained[1] in store) == ([], False)
    assert "cannot be read" in store.verify_all()[trained[1]]
    assert [it.name for it in tmp_path.iterdir()] == [trained[1]]
    place.unlink()
    put(store, trained)
    assert (store.ids(), put(store, trained)) == ([trained[1]], place)  # again does nothing


def test_writing_is_all_or_nothing(trained, tmp_path, monkeypatch):
    store = Store(tmp_path)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("tsp.store.folder.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        put(store, trained)
    assert list(tmp_path.iterdir()) == []


def test_what_lies_about_in_the_folder_is_no_run(trained, tmp_path):
    store = Store(tmp_path)
    folder = put(store, trained)
    shutil.copytree(folder, tmp_path / f".{folder.name}-abc")
    (tmp_path / "notes").mkdir()
    (tmp_path / "plans").mkdir()
    assert store.ids() == [folder.name]
    for name in ("../etc", "", "nothing", "0123456789abcdef", "0123456789abcdeg"):
        with pytest.raises(InputError, match="run ="):
            store.read(name)


def test_an_id_must_be_its_folders(trained, tmp_path):
    store = Store(tmp_path)
    folder = put(store, trained)
    folder.rename(tmp_path / ("0" * 16))
    with pytest.raises(Damaged):
        store.read("0" * 16)


def test_the_frame_says_when_a_run_was_solved(tiny, tmp_path):
    told = spec(n_tokens=16, lr=0.3, epochs=80, early_stop=True)
    problems = [problem("Which letter?", "B", metric="choice")]
    (result,) = train_bank([told], tiny(), [problems], plan=PLAN)
    store = Store(tmp_path)
    store_runs({told.id(problems): result}, store, plan=PLAN, frozen=tiny())
    row = store.frame().iloc[0]
    right = [check["epoch"] for check in result.checks if check["correct"]]
    assert row.solved_epoch == row.solved_steps == right[0]
    assert not row.solved_at_start
    assert row.method == "tsloss"


def test_the_same_plan_writes_the_same_bytes(trained, tmp_path):
    folders = [put(Store(tmp_path / name), trained) for name in ("a", "b")]
    for name in set(FILES) - {"run.json"}:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_default_store_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TSP_RUNS", raising=False)
    assert str(Store().root) == "runs"
    monkeypatch.setenv("TSP_RUNS", str(tmp_path))
    assert Store().root == tmp_path
    assert str(Store("other").root) == "other"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, and one mounted read-only, where this user may mount."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True
        )
        if done.returncode:
            pytest.skip("mounting a file system needs root")
        return place

    yield mount
    subprocess.run(["umount", place], capture_output=True)


def test_a_full_disk_leaves_nothing_half_written(small_disk, trained):
    place = small_disk("size=8k")
    with pytest.raises(OSError, match="No space left"):
        put(Store(place), trained)
    assert list(place.iterdir()) == []


def test_a_read_only_store_says_so(small_disk, trained):
    place = small_disk("ro,size=64k")
    with pytest.raises(OSError, match="Read-only file system"):
        put(Store(place / "runs"), trained)


def test_a_store_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"runs = .*is a file"):
        Store(tmp_path / "file")


def test_published_runs_belong_to_the_checkouts_own_store(smoke, tmp_path, monkeypatch):
    """`runs` reads `data/runs` beside itself; another folder does not, and nothing goes there."""
    published = tmp_path / "data" / "runs"
    first, second = smoke.ids()[:2]
    write_archive([smoke.read(first).data], published / "some.parquet")
    monkeypatch.setattr("tsp.store.runs.ROOT", tmp_path)
    for module in ("run", "runs"):
        monkeypatch.setattr(f"tsp.store.{module}.data_dir", lambda name: tmp_path / "data" / name)
    own = Store(tmp_path / "runs")
    assert own.ids() == [first]
    assert own.read(first).epochs.equals(smoke.read(first).epochs)
    assert [file.name for file in own.files()] == ["some.parquet"]
    assert Store(tmp_path / "elsewhere").ids() == []
    more = tmp_path / "more.parquet"
    write_archive([smoke.read(it).data for it in (first, second)], more)
    added, present, _ = own.unpack(more)
    assert (added, present) == ([second], [first])
    assert own.ids() == sorted([first, second])
    assert [own.read(it).published for it in (first, second)] == [True, False]
    assert [it.name for it in (tmp_path / "runs").iterdir()] == [second]
