"""Runs in one file: everything comes back, nothing is overwritten, damage is found."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import call
from tests.handmade import stored
from tsp.errors import Damaged, InputError
from tsp.paths import data_dir
from tsp.store.archive import open_archive, write_archive
from tsp.store.content import RunData
from tsp.store.locks import claimed
from tsp.store.runs import Store
from tsp.store.schema import COLUMNS


@pytest.fixture
def packed(smoke, tmp_path):
    """An archive of all smoke runs, and a store that holds nothing else."""
    path = tmp_path / "published" / "smoke.parquet"
    write_archive([run.data for run in smoke.valid_runs()[0]], path)
    return path, Store(path.parent)


def refused(out):
    """Whether a command was refused for its input."""
    return isinstance(out.exception, InputError)


def assert_same_runs(mine, theirs):
    """Two stores hold the same runs, but for how they are sealed."""
    assert mine.ids() == theirs.ids()
    for one, other in zip(*(store.valid_runs()[0] for store in (mine, theirs)), strict=True):
        left, right = (
            {k: v for k, v in run.record.items() if k not in ("files", "checksum")}
            for run in (one, other)
        )
        assert left == right
        for name in COLUMNS:
            assert one.table(name).equals(other.table(name))
        assert one.prompt_epochs == other.prompt_epochs
        for epoch in one.prompt_epochs:
            assert torch.equal(one.prompt(epoch), other.prompt(epoch))


def test_an_archive_is_read_as_folders_are_and_unpacked_runs_are_the_same(smoke, packed, tmp_path):
    path, store = packed
    assert store.frame().equals(smoke.frame())
    assert_same_runs(store, smoke)
    here = Store(tmp_path / "here")
    added, present, damaged = here.unpack(path)
    assert (sorted(added), present, damaged) == (smoke.ids(), [], {})
    assert_same_runs(here, smoke)
    assert not any(here.verify_all().values())
    again = tmp_path / "again.parquet"
    write_archive([run.data for run in here.valid_runs()[0]], again)
    assert pq.read_table(again).equals(pq.read_table(path))


def test_published_runs_are_what_was_written():
    """Archives of an older version: ids, hashes of all content, prompts."""
    store = Store(data_dir("runs"))
    runs, damaged = store.valid_runs()
    assert damaged == {}
    assert [run.id for run in runs] == store.ids()
    for path in {run.folder: run for run in runs}:
        archive = open_archive(path)
        for run_id in (archive.ids[0], archive.ids[-1]):
            assert archive.problem(run_id) == ""


@pytest.mark.slow
def test_every_published_run_verifies():
    assert not any(Store(data_dir("runs")).verify_all().values())


def test_runs_of_several_row_groups_and_methods_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("tsp.store.archive.GROUP", 2)
    monkeypatch.setattr("tsp.store.archive.BATCH", 3)
    store, other = Store(tmp_path / "runs"), Store(tmp_path / "packed")
    for seed in range(7):
        extra = {"extra": [1.5, 2.5, 3.5]} if seed == 4 else {}
        stored(store, seed=seed, epochs=4, topology=extra)
    write_archive([run.data for run in store.valid_runs()[0]], other.root / "a.parquet")
    assert pq.ParquetFile(other.root / "a.parquet").num_row_groups == 4
    assert_same_runs(other, store)
    assert ["extra" in run.topology for run in other.valid_runs()[0]].count(True) == 1


def test_nothing_that_is_there_is_overwritten(smoke, packed, tmp_path):
    here, first = Store(tmp_path / "here"), smoke.ids()[0]
    shutil.copytree(smoke.root / first, here.root / first)
    (here.root / first / "mine.txt").write_text("a note")
    added, present, _ = here.unpack(packed[0])
    assert present == [first]
    assert first not in added
    assert (here.root / first / "mine.txt").read_text() == "a note"
    assert here.unpack(packed[0])[0] == []


def test_a_run_that_another_process_writes_is_named_and_added_later(smoke, packed, tmp_path):
    here, first = Store(tmp_path / "here"), smoke.ids()[0]
    half = here.root / f".{first}-abcd1234"  # a killed unpacking's
    half.mkdir(parents=True)
    with claimed(here.root, [first]):
        half.mkdir()
        added, present, wrong = here.unpack(packed[0])
        assert wrong == {first: f"run {first}: another process writes it; try again"}
        assert present == []
        assert sorted([*added, first]) == smoke.ids()
        assert half.is_dir()
    assert here.unpack(packed[0]) == ([first], added, {})
    assert not any(it.name.startswith(".") for it in here.root.iterdir())


def test_a_folder_comes_before_an_archive(smoke, packed):
    store, first = packed[1], smoke.ids()[0]
    shutil.copytree(smoke.root / first, store.root / first)
    assert not store.read(first).archived
    assert store.read(smoke.ids()[1]).archived
    assert store.ids() == smoke.ids()


# Damage.


def changed(path, run_id, column, value):
    """Write an archive with another value in one place."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    row = next(it for it in rows if it["id"] == run_id)
    row[column] = value(row[column])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def flipped(prompts):
    values = bytearray(prompts[0]["values"])
    values[5] ^= 1
    return [prompts[0] | {"values": bytes(values)}, *prompts[1:]]


def other_seed(record):
    told = json.loads(record)
    told["spec"]["seed"] += 1
    return json.dumps(told)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("epochs", lambda rows: [rows[0] | {"ce": rows[0]["ce"] + 1e-9}, *rows[1:]]),
        ("epochs", lambda rows: rows[1:]),
        ("checks", lambda rows: None),
        ("topology", lambda rows: rows[::-1]),
        ("prompts", flipped),
        ("prompts", lambda rows: []),
        ("record", other_seed),
        ("record", lambda record: "{}"),
        ("record", lambda record: "no JSON"),
    ],
)
def test_what_was_changed_is_found(column, value, smoke, packed, tmp_path):
    path, store = packed
    first, rest = smoke.ids()[0], smoke.ids()[1:]
    changed(path, first, column, value)
    assert first in store.verify(first)
    assert first not in store
    with pytest.raises(Damaged, match=first):
        store.read(first)
    assert [it for it, why in store.verify_all().items() if why] == [first]
    runs, damaged = store.valid_runs()
    assert list(damaged) == ([first] if column == "record" else [])
    assert store.ids() == smoke.ids()
    if column in COLUMNS:
        with pytest.raises(Damaged, match=first):
            list(open_archive(path).tables(column, smoke.ids()))
        assert len(list(open_archive(path).tables(column, rest))) == 1
    added, _, damaged = Store(tmp_path / "here").unpack(path)
    assert list(damaged) == [first]
    assert sorted(added) == rest
    assert len(runs) == len(rest) + (column != "record")


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1PAR1", None, "../../outside"])
def test_another_file_is_not_an_archive(content, smoke, packed, tmp_path):
    path = tmp_path / "mine" / "some.parquet"
    path.parent.mkdir()
    if content is None:
        pq.write_table(pa.table({"id": ["a"], "x": [1.0]}), path)
    elif isinstance(content, str):  # an id that leads out of the store
        shutil.copy(packed[0], path)
        changed(path, smoke.ids()[0], "id", lambda _: content)
    else:
        path.write_bytes(content)
    with pytest.raises(Damaged, match=r"some\.parquet"):
        open_archive(path)
    store = Store(path.parent)
    assert store.ids() == []
    assert list(store.valid_runs()[1]) == ["some.parquet"]
    assert call("runs", "verify", "--runs", store.root).exit_code == 1
    assert refused(call("runs", "unpack", path, "--runs", tmp_path / "here"))
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("harm", ["column", "kind", "gaps", "shape", "spec"])
def test_content_that_is_not_a_runs_is_refused_though_its_hashes_fit(harm, smoke, tmp_path):
    data = smoke.read(smoke.ids()[0]).data
    record, tables, prompts = dict(data.record), dict(data.tables), dict(data.prompts)
    checks = tables["checks"]
    if harm == "column":
        tables["checks"] = checks.drop_columns(["matched_tokens"])
    elif harm == "kind":
        at = checks.column_names.index("correct")
        tables["checks"] = checks.set_column(at, "correct", pa.array(["x"] * len(checks)))
    elif harm == "gaps":
        at = checks.column_names.index("matched_tokens")
        values = [None, *checks["matched_tokens"].to_pylist()[1:]]
        tables["checks"] = checks.set_column(at, "matched_tokens", pa.array(values, pa.int64()))
    elif harm == "shape":
        prompts[0] = np.zeros((2, 3), np.float32)
    else:
        record["spec"] = record["spec"] | {"lr": "fast"}
    write_archive([RunData(record, tables, prompts)], tmp_path / "forged.parquet")
    assert "cannot be read" in Store(tmp_path).verify(record["id"])


def test_a_half_written_archive_does_not_appear(smoke, tmp_path, monkeypatch):
    path = tmp_path / "runs.parquet"
    write_archive([smoke.read(smoke.ids()[0]).data], path)
    before = path.read_bytes()

    def fails(table, where, **told):
        where.write_bytes(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr("tsp.store.archive.pq.write_table", fails)
    with pytest.raises(OSError, match="disk full"):
        write_archive([smoke.read(smoke.ids()[1]).data], path)
    assert path.read_bytes() == before
    assert [it.name for it in tmp_path.iterdir()] == ["runs.parquet"]


# Published runs.


def test_published_runs_are_small_and_say_what_they_lack(smoke):
    data = smoke.read(smoke.ids()[0]).data
    kept, bare = data.published(prompts=True), data.published(prompts=False)
    assert kept.record["omitted"] == []
    assert {it.dtype for it in kept.prompts.values()} == {np.dtype(np.float16)}
    assert bare.record["omitted"] == ["prompts"]
    assert not bare.prompts
    ours, theirs = kept.tables["epochs"].to_pandas(), data.tables["epochs"].to_pandas()
    assert ours.ce.to_numpy() == pytest.approx(theirs.ce.to_numpy(), rel=1e-6)
    assert ours.epoch.equals(theirs.epoch)


def test_texts_of_others_are_not_published(smoke, tmp_path):
    """A problem that is not shipped keeps its source, row, hash and numbers of tokens."""
    data = smoke.read(smoke.ids()[0]).data
    problems = [it | {"source": "local"} for it in data.record["problems"]]
    data = RunData(data.record | {"problems": problems}, data.tables, data.prompts)
    path = tmp_path / "published.parquet"
    write_archive([data.published(prompts=True)], path)
    run = Store(tmp_path).read(smoke.ids()[0])
    assert run.record["omitted"] == ["texts of the problems", "decoded answers"]
    (problem,) = run.record["problems"]
    assert set(problem) == {"source", "row", "sha256", "tokens"}
    assert set(run.checks) >= {"epoch", "problem", "correct", "matched_tokens"}
    assert "answer" not in run.checks
    text = pq.read_table(path).to_pylist()
    for told in (problems[0]["question"], problems[0]["target"]):
        assert json.dumps(told)[1:-1] not in str(text)


def test_a_run_without_topology_is_analysed_when_it_is_published(smoke):
    run = smoke.read(smoke.ids()[0])
    files = {k: v for k, v in run.record["files"].items() if "topology" not in k and "dia" not in k}
    bare = type(run)(run.id, run.folder, run.record | {"files": files})
    assert set(bare.data.tables) == {"epochs", "checks"}
    found = bare.analysed().tables["topology"].to_pandas()
    wanted = run.topology[run.topology.epoch.isin(run.prompt_epochs)].reset_index(drop=True)
    assert found.h1_count.equals(wanted.h1_count)


# The commands.


def pack(path, store, *words):
    return call("runs", "pack", path, "--runs", store.root, *words)


def test_runs_go_to_another_host_and_back(smoke, tmp_path):
    file, here = tmp_path / "away" / "runs.parquet", Store(tmp_path / "here")
    assert pack(file, smoke).exit_code == 0
    out = call("runs", "unpack", file, "--runs", here.root)
    assert out.exit_code == 0, out.output
    assert f"{len(smoke.ids())} runs added" in out.output
    assert_same_runs(here, smoke)


def test_a_store_is_packed_and_its_folders_are_removed(smoke, tmp_path):
    store = Store(tmp_path / "runs")
    shutil.copytree(smoke.root, store.root)
    assert refused(pack(tmp_path / "all.parquet", store, "--remove"))
    out = pack(store.root / "all.parquet", store, "--remove")
    assert out.exit_code == 0, out.output
    assert sorted(it.name for it in store.root.iterdir()) == ["all.parquet", "plans"]
    assert_same_runs(Store(store.root), smoke)


def test_an_experiment_is_packed_by_its_name(tmp_path):
    store = Store(tmp_path / "runs")
    arms = [{}, {"method": "tsloss", "lambda_ts": 0.1}, {"method": "tsloss", "lambda_ts": 0.3}]
    ids = [stored(store, seed=5, **arm) for arm in arms]
    out = pack(tmp_path / "t4.parquet", store, "--experiment", "table4")
    assert out.exit_code == 0, out.output
    assert sorted(open_archive(tmp_path / "t4.parquet").ids) == sorted(ids[:2])
    for name, told in (("mine", "experiment = "), ("embed-scale", "nothing to pack")):
        out = pack(tmp_path / "x.parquet", store, "--experiment", name, "--run", ids[2])
        assert told in str(out.exception)
        assert not (tmp_path / "x.parquet").exists()


def test_an_archive_is_not_replaced_by_one_that_lacks_some_of_it(smoke, tmp_path):
    file, other = tmp_path / "runs.parquet", tmp_path / "notes.parquet"
    pack(file, smoke)
    before = file.read_bytes()
    assert refused(pack(file, smoke, "--run", smoke.ids()[0]))
    assert file.read_bytes() == before
    other.write_text("mine")
    assert refused(pack(other, smoke))
    assert other.read_text() == "mine"


def test_what_another_published_archive_holds_is_left_out(smoke, tmp_path):
    first, rest = smoke.ids()[0], smoke.ids()[1:]
    pack(tmp_path / "a.parquet", smoke, "--run", first, "--publish")
    for _ in range(2):
        out = pack(tmp_path / "b.parquet", smoke, "--publish")
        assert out.exit_code == 0, out.output
        assert sorted(open_archive(tmp_path / "b.parquet").ids) == rest
    assert Store(tmp_path).ids() == smoke.ids()
