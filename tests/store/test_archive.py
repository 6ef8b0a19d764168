"""Runs in one file come back whole; nothing is overwritten, and damage is noticed."""

import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.handmade import stored
from tests.terminal import fails, tsp
from tsp.errors import Damaged
from tsp.paths import data_dir
from tsp.store.archive import open_archive, write_archive
from tsp.store.content import RunData
from tsp.store.locks import claimed
from tsp.store.runs import Store
from tsp.store.schema import TABLES


@pytest.fixture
def packed(smoke, tmp_path):
    """An archive of all smoke runs, and a store that holds nothing else."""
    path = tmp_path / "published" / "smoke.parquet"
    write_archive([run.data for run in smoke.valid_runs()[0]], path)
    return path, Store(path.parent)


@pytest.fixture
def data(smoke):
    return smoke.read(smoke.ids()[0]).data


def assert_same_runs(one, other):
    """Assert that two stores hold the same runs, whatever their checksums are of."""
    assert one.ids() == other.ids()
    for run, same in zip(*(store.valid_runs()[0] for store in (one, other)), strict=True):
        sealed = {"files": None, "checksum": None}
        assert run.record | sealed == same.record | sealed
        assert all(run.table(name).equals(same.table(name)) for name in TABLES)
        assert run.prompt_epochs == same.prompt_epochs
        assert all(torch.equal(run.prompt(k), same.prompt(k)) for k in run.prompt_epochs)


def test_an_archive_is_read_as_folders_are_and_unpacked_runs_are_the_same(smoke, packed, tmp_path):
    path, store = packed
    assert store.frame().equals(smoke.frame())
    assert_same_runs(store, smoke)
    unpacked = Store(tmp_path / "unpacked")
    added, present, damaged = unpacked.unpack(path)
    assert (sorted(added), present, damaged) == (smoke.ids(), [], {})
    assert_same_runs(unpacked, smoke)
    assert not any(unpacked.verify_all().values())
    again = tmp_path / "again.parquet"
    write_archive([run.data for run in unpacked.valid_runs()[0]], again)
    assert pq.read_table(again).equals(pq.read_table(path))


def test_published_runs_are_what_was_written():
    """Archives of an older version: ids, and of the first and last run all content."""
    store = Store(data_dir("runs"))
    runs, damaged = store.valid_runs()
    assert damaged == {}
    assert [run.id for run in runs] == store.ids()
    for archive in map(open_archive, {run.folder for run in runs}):
        assert [archive.problem(archive.ids[place]) for place in (0, -1)] == ["", ""]


@pytest.mark.slow
def test_every_published_run_verifies():
    assert not any(Store(data_dir("runs")).verify_all().values())


def test_runs_of_several_row_groups_and_methods_come_back(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tsp.store.archive.GROUP", 2)
    other = Store(tmp_path / "packed")
    for seed in range(7):
        extra = {"extra": [1.5, 2.5, 3.5]} if seed == 4 else {}
        stored(store, seed=seed, epochs=4, topology=extra)
    write_archive([run.data for run in store.valid_runs()[0]], other.root / "a.parquet")
    assert pq.ParquetFile(other.root / "a.parquet").num_row_groups == 4
    assert_same_runs(other, store)
    assert ["extra" in run.topology for run in other.valid_runs()[0]].count(True) == 1


def test_a_folder_comes_before_an_archive_and_is_not_overwritten(smoke, packed):
    (path, store), first = packed, smoke.ids()[0]
    shutil.copytree(smoke.root / first, store.root / first)
    assert [store.read(run_id).archived for run_id in smoke.ids()[:2]] == [False, True]
    assert store.ids() == smoke.ids()
    (store.root / first / "mine.txt").write_text("a note")
    assert sorted(store.unpack(path)[1]) == smoke.ids()
    assert (store.root / first / "mine.txt").read_text() == "a note"


def test_unpacking_clears_half_written_runs_unless_claimed(smoke, packed, tmp_path):
    store, first = Store(tmp_path / "unpacked"), smoke.ids()[0]
    half = store.root / f".{first}-abcd1234"
    with claimed(store.root, [first]):
        half.mkdir()
        assert sorted(store.unpack(packed[0])[0]) == smoke.ids()
        assert half.is_dir()
    assert sorted(store.unpack(packed[0])[1]) == smoke.ids()
    assert not any(path.name.startswith(".") for path in store.root.iterdir())


# Damage.


def change(path, run_id, column, value):
    """Change a value of a run in an archive."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    row = next(row for row in rows if row["id"] == run_id)
    row[column] = value(row[column])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def flipped(prompts):
    values = bytearray(prompts[0]["values"])
    values[5] ^= 1
    return [prompts[0] | {"values": bytes(values)}, *prompts[1:]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("epochs", lambda rows: [rows[0] | {"ce": rows[0]["ce"] + 1e-9}, *rows[1:]]),
        ("epochs", lambda rows: rows[1:]),
        ("checks", lambda rows: None),
        ("topology", lambda rows: rows[::-1]),
        ("prompts", flipped),
        ("prompts", lambda rows: []),
        ("record", lambda record: record.replace('"seed": ', '"seed": 1')),
        ("record", lambda record: "{}"),
        ("record", lambda record: "no JSON"),
    ],
)
def test_a_changed_value_is_noticed(column, value, smoke, packed, tmp_path):
    path, store = packed
    first, *rest = smoke.ids()
    change(path, first, column, value)
    assert first not in store
    with pytest.raises(Damaged, match=first):
        store.read(first)
    assert [run_id for run_id, why in store.verify_all().items() if why] == [first]
    assert list(store.valid_runs()[1]) == ([first] if column == "record" else [])
    assert store.ids() == smoke.ids()
    if column in TABLES:
        with pytest.raises(Damaged, match=first):
            list(open_archive(path).tables(column, smoke.ids()))
        assert len(list(open_archive(path).tables(column, rest))) == 1
    added, _, damaged = Store(tmp_path / "unpacked").unpack(path)
    assert (sorted(added), list(damaged)) == (rest, [first])


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1PAR1", None, "../../outside"])
def test_another_file_is_not_an_archive(content, smoke, packed, tmp_path):
    path = tmp_path / "mine" / "some.parquet"
    path.parent.mkdir()
    if content is None:
        pq.write_table(pa.table({"id": ["a"], "x": [1.0]}), path)
    elif isinstance(content, str):  # an id that leads out of the store
        shutil.copy(packed[0], path)
        change(path, smoke.ids()[0], "id", lambda _: content)
    else:
        path.write_bytes(content)
    with pytest.raises(Damaged, match=r"some\.parquet"):
        open_archive(path)
    store = Store(path.parent)
    assert store.ids() == []
    assert list(store.valid_runs()[1]) == ["some.parquet"]
    assert tsp("runs", "verify", "--runs", store.root).returncode == 1
    fails(2, r"some\.parquet", "runs", "unpack", path, "--runs", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def replaced(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("part", "harm"),
    [
        ("checks", lambda table: table.drop_columns(["matched_tokens"])),
        ("checks", lambda table: replaced(table, "correct", ["x"] * len(table))),
        ("checks", lambda table: replaced(table, "epoch", [None, *range(1, len(table))])),
        ("spec", lambda spec: spec | {"lr": "fast"}),
        ("outcome", lambda outcome: {}),
        ("shape", lambda shape: [2, 3]),
    ],
)
def test_content_that_is_not_a_runs_is_refused_though_its_hashes_fit(part, harm, data, tmp_path):
    record, tables = dict(data.record), dict(data.tables)
    place = tables if part in tables else record
    place[part] = harm(place[part])
    write_archive([RunData(record, tables, data.prompts)], tmp_path / "forged.parquet")
    assert "cannot be read" in Store(tmp_path).verify(record["id"])


def test_a_half_written_archive_does_not_appear(data, tmp_path, monkeypatch):
    path = tmp_path / "runs.parquet"
    write_archive([data], path)
    before = path.read_bytes()

    def fail(table, where, **options):
        where.write_bytes(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr("tsp.store.archive.pq.write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_archive([data], path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["runs.parquet"]


# Published runs.


def test_published_runs_are_small_and_list_what_they_lack(data):
    kept, bare = data.published(prompts=True), data.published(prompts=False)
    assert (kept.record["omitted"], bare.record["omitted"]) == ([], ["prompts"])
    assert {prompt.dtype.name for prompt in kept.prompts.values()} == {"float16"}
    assert not bare.prompts
    columns = (side.tables["epochs"].select(["epoch", "ce"]).to_pandas() for side in (kept, data))
    pd.testing.assert_frame_equal(*columns, check_dtype=False, rtol=1e-6)


def test_texts_of_others_are_not_published(data, tmp_path):
    problems = [problem | {"source": "local"} for problem in data.record["problems"]]
    spec = data.record["spec"] | {"data": "/home/someone/samples"}
    data = RunData(data.record | {"problems": problems, "spec": spec}, data.tables, data.prompts)
    write_archive([data.published(prompts=True)], tmp_path / "published.parquet")
    run = Store(tmp_path).read(data.record["id"])
    assert run.record["omitted"] == ["texts of the problems", "decoded answers"]
    assert set(run.record["problems"][0]) == {"source", "row", "sha256", "tokens"}
    assert "answer" not in run.checks
    assert run.spec.data == "samples"
    text = str(pq.read_table(tmp_path / "published.parquet").to_pylist())
    assert json.dumps(problems[0]["question"])[1:-1] not in text


def test_a_run_without_topology_is_analysed_when_it_is_published(smoke, data):
    run = smoke.read(data.record["id"])
    files = {k: v for k, v in run.record["files"].items() if "topology" not in k and "dia" not in k}
    bare = type(run)(run.id, run.folder, run.record | {"files": files})
    assert set(bare.data.tables) == {"epochs", "checks"}
    computed = bare.analysed.tables["topology"].to_pandas()
    expected = run.topology[run.topology.epoch.isin(run.prompt_epochs)].reset_index(drop=True)
    assert computed.h1_count.equals(expected.h1_count)


# The commands.


def pack(path, store, *words, fault=""):
    """Pack runs of a store, or fail with wrong input."""
    words = ("runs", "pack", path, "--runs", store.root, *words)
    if fault:
        fails(2, fault, *words)
    else:
        assert tsp(*words).returncode == 0


def test_a_store_is_packed_and_its_folders_are_removed(smoke, store, tmp_path):
    shutil.copytree(smoke.root, store.root)
    pack(tmp_path / "all.parquet", store, "--remove", fault="remove = ")
    pack(store.root / "all.parquet", store, "--remove")
    assert sorted(path.name for path in store.root.iterdir()) == ["all.parquet", "plans"]
    assert_same_runs(Store(store.root), smoke)


def test_a_file_that_would_lose_content_is_not_replaced(smoke, packed, tmp_path):
    (tmp_path / "notes.parquet").write_text("mine")
    for path, words in ((packed[0], ["--run", smoke.ids()[0]]), (tmp_path / "notes.parquet", [])):
        before = path.read_bytes()
        pack(path, smoke, *words, fault="file = ")
        assert path.read_bytes() == before


def test_an_experiment_is_packed_by_its_name(store, tmp_path):
    arms = [{}, {"method": "tsloss", "lambda_ts": 0.1}, {"method": "tsloss", "lambda_ts": 0.3}]
    ids = [stored(store, seed=5, **arm) for arm in arms]
    pack(tmp_path / "t4.parquet", store, "--experiment", "table4")
    assert sorted(open_archive(tmp_path / "t4.parquet").ids) == sorted(ids[:2])
    for name, pattern in (("mine", "experiment = "), ("embed-scale", "nothing to pack")):
        words = ("--experiment", name, "--run", ids[2])
        pack(tmp_path / "x.parquet", store, *words, fault=pattern)
        assert not (tmp_path / "x.parquet").exists()


def test_what_another_published_archive_holds_is_left_out(smoke, tmp_path):
    first, *rest = smoke.ids()
    pack(tmp_path / "a.parquet", smoke, "--run", first, "--publish")
    for _ in range(2):
        pack(tmp_path / "b.parquet", smoke, "--publish")
        assert sorted(open_archive(tmp_path / "b.parquet").ids) == rest
    assert Store(tmp_path).ids() == smoke.ids()
