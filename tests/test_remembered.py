"""What is remembered of a store gives what reading it gives, and never what is no longer there."""

import json
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import store_load as load
from tests.conftest import spec
from tests.handmade import stored
from tests.test_packs import call
from tsp.analysis import records
from tsp.analysis.records import load_accuracy, load_evidence, load_losses, load_runs, load_topology
from tsp.analysis.tables import claims
from tsp.experiments import catalogue as experiments
from tsp.paths import data_dir
from tsp.store import archive as packs
from tsp.store import cache as remembered
from tsp.store import runs
from tsp.store.archive import write_pack
from tsp.store.runs import Store

LOADERS = (load_runs, load_topology, load_losses, load_accuracy, Store.frame)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own that takes files however young they are."""
    monkeypatch.setenv("TSP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "SETTLED", -1.0)
    return tmp_path / "cache" / "stores"


@pytest.fixture
def store(tmp_path):
    """Three runs in folders."""
    made = Store(tmp_path / "runs")
    for seed in range(3):
        stored(made, epochs=4, solved=2 * seed or None, ce=[3, 2, 1, seed + 0.5], seed=seed)
    return made


def frames(root):
    """All tables of runs, as a new process would read them."""
    return [load(Store(root)) for load in LOADERS]


def same(left, right):
    for mine, other in zip(left, right, strict=True):
        pd.testing.assert_frame_equal(mine, other, check_exact=True)


def forgotten(root):
    """The tables with nothing remembered."""
    remembered.forget(root)
    return frames(root)


def bare(monkeypatch, work):
    """What a piece of work gives where reading a run or its tables is an error."""

    def refuse(*_):
        raise AssertionError("read again")

    with monkeypatch.context() as closed:
        closed.setattr(runs, "_read", refuse)
        closed.setattr(runs.Run, "rows", refuse)
        closed.setattr(packs, "each_of", refuse)
        closed.setattr(packs, "one_under_the_other", refuse)
        return work()


def test_what_is_remembered_is_what_was_read(store, monkeypatch, cache):
    first = frames(store.root)
    same(bare(monkeypatch, lambda: frames(store.root)), first)
    assert len(list(cache.glob("*/*.parquet"))) == 4


def test_the_smoke_store_and_its_pack_come_back_the_same(smoke, monkeypatch, tmp_path):
    write_pack([run.apart() for run in smoke.sound()[0]], tmp_path / "packed" / "all.parquet")
    for root in (smoke.root, tmp_path / "packed"):
        first = frames(root)
        same(bare(monkeypatch, lambda here=root: frames(here)), first)
    same(first, frames(smoke.root))


@pytest.mark.slow
def test_the_published_runs_come_back_the_same(monkeypatch):
    first, judged = frames(data_dir("runs")), claims(Store(data_dir("runs")))
    same(bare(monkeypatch, lambda: frames(data_dir("runs"))), first)
    monkeypatch.setattr(runs.Run, "rows", lambda *_: pytest.fail("read again"))
    pd.testing.assert_frame_equal(claims(Store(data_dir("runs"))), judged, check_exact=True)


def test_a_new_run_takes_its_place_among_those_that_are_known(store):
    frames(store.root)
    for seed in range(3, 9):  # ids before, between and after
        stored(store, epochs=4, seed=seed, solved=4)
    found = frames(store.root)
    same(found, forgotten(store.root))
    assert len(found[0]) == 9


@pytest.fixture
def spread(store):
    """The same runs twice: in folders, and spread over two packs and two folders."""
    for seed in range(3, 10):
        stored(
            store, epochs=4, seed=seed, solved=4, topology={"own": [1, 2, 3]} if seed < 6 else {}
        )
    ids, other = store.ids(), Store(store.root.parent / "spread")
    for name, some in (("a", ids[:8:2]), ("b", ids[1:8:2])):
        write_pack([store.read(it).apart() for it in some], other.root / f"{name}.parquet")
    for run_id in ids[8:]:
        shutil.copytree(store.root / run_id, other.root / run_id)
    return store, other


def test_runs_in_packs_and_in_folders_give_the_rows_of_folders_in_their_order(spread):
    store, other = spread
    assert other.ids() == store.ids()
    same([it.reindex(columns=sorted(it)) for it in frames(other.root)], sorted_frames(store.root))


def sorted_frames(root):
    return [it.reindex(columns=sorted(it)) for it in frames(root)]


def test_a_run_of_a_pack_that_is_damaged_costs_no_other(spread):
    store, other = spread
    pack = other.root / "a.parquet"
    table = pq.read_table(pack)
    first, record = store.ids()[0], json.loads(table["record"][0].as_py())
    records = [json.dumps(record | {"seconds": 1.5}), *table["record"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "record", [records]), pack)
    assert other.sound()[1].keys() == other.check().keys() - store.ids()[1:] == {first}
    assert set(load_topology(other).id) == set(store.ids()[1:])
    pack.write_bytes(b"no pack")
    assert set(load_topology(other).id) == {*store.ids()[1:8:2], *store.ids()[8:]}


@pytest.mark.parametrize("words", [["unpack"], ["verify"]], ids="".join)
def test_what_a_command_has_read_or_written_is_listed_without_reading(
    words, spread, monkeypatch, cache
):
    store, other = spread
    if words == ["unpack"]:
        words, store = [*words, other.root / "a.parquet"], Store(store.root.parent / "new")
    assert call("runs", *words, "--runs", store.root).exit_code == 0
    assert len(bare(monkeypatch, lambda: Store(store.root).frame()))
    if len(words) > 1:
        assert all(len(it) for it in bare(monkeypatch, lambda: frames(store.root)))


def test_tables_of_a_sweep_are_there_when_it_ends(smoke, monkeypatch):
    words = ["sweep", "all", "--profile", "smoke", "--device", "cpu", "--runs", smoke.root]
    assert call(*words).exit_code == 0
    assert all(len(it) for it in bare(monkeypatch, lambda: frames(smoke.root)))


def test_tables_are_there_when_some_runs_could_not_go_on(tmp_path, monkeypatch):
    few = [spec(epochs=2), spec(epochs=2, lambda_ts=1e300)]
    monkeypatch.setattr(experiments, "experiment_specs", lambda *_, **__: few)
    root = tmp_path / "runs"
    done = call("sweep", "all", "--device", "cpu", "--runs", root)
    assert done.exit_code == 1
    assert len(Store(root).ids()) == 1
    assert all(len(it) for it in bare(monkeypatch, lambda: frames(root)))


def test_runs_without_topology_are_left_to_who_asks_for_it(store, monkeypatch):
    monkeypatch.setattr(runs.Run, "unanalysed", True)
    monkeypatch.setattr(runs.Run, "_analysed", lambda *_: pytest.fail("computed"))
    records.remember(store)
    assert len(bare(monkeypatch, lambda: load_losses(Store(store.root)))) == 12


def test_what_cannot_be_read_does_not_fail_who_remembers(store, monkeypatch):
    def gaps(*_):
        raise ValueError("gaps")

    monkeypatch.setattr(runs, "check_whole", gaps)
    records.remember(store)
    with pytest.raises(runs.DamagedRun, match="gaps"):
        load_topology(store)


def test_few_new_runs_are_read_again_and_many_are_remembered(store, monkeypatch, cache):
    for seed in range(3, 50):
        stored(store, epochs=2, seed=seed)
    first = frames(store.root)

    def content():
        return {it.name: it.read_bytes() for it in cache.glob("*/*.parquet")}

    before = content()
    stored(store, epochs=2, seed=50)
    for _ in range(2):
        more = frames(store.root)
        assert len(more[0]) == len(first[0]) + 1
        assert content() == before
    for seed in (51, 52):
        stored(store, epochs=2, seed=seed)
    last = frames(store.root)
    assert all(content()[name] != was for name, was in before.items())
    same(bare(monkeypatch, lambda: frames(store.root)), last)


def test_a_run_that_is_gone_is_in_no_table(store):
    frames(store.root)
    gone = store.ids()[1]
    shutil.rmtree(store.root / gone)
    found = frames(store.root)
    same(found, forgotten(store.root))
    assert all(gone not in set(frame.id) for frame in found)


def test_columns_of_runs_that_are_gone_go_with_them(store):
    plain = frames(store.root)
    odd = stored(store, epochs=4, seed=9, topology={"of_its_own": [1, 2, 3]})
    assert "of_its_own" in load_topology(store)
    shutil.rmtree(store.root / odd)
    same(frames(store.root), plain)


@pytest.mark.parametrize("name", ["epochs.parquet", "run.json"])
def test_a_flipped_bit_is_found_though_the_run_is_known(name, store):
    frames(store.root)
    harmed = store.root / store.ids()[0] / name
    content, told = bytearray(harmed.read_bytes()), harmed.stat()
    content[len(content) // 2] ^= 4
    harmed.write_bytes(content)
    os.utime(harmed, ns=(told.st_atime_ns, told.st_mtime_ns))  # as if nothing had happened
    again = Store(store.root)
    assert list(again.sound()[1]) == [store.ids()[0]]
    assert set(load_losses(again).id) == set(store.ids()[1:])
    assert list(store.sound()[1]) == [store.ids()[0]]  # and by one that had it in memory


def test_what_left_no_trace_is_found_by_verify_and_then_by_all(store, monkeypatch):
    frames(store.root)
    monkeypatch.setattr(remembered, "key", lambda run_id, place: f"{run_id} the same")
    frames(store.root)
    first = store.ids()[0]
    harmed = store.root / first / "checks.parquet"
    harmed.write_bytes(harmed.read_bytes()[:-1] + b"?")
    assert Store(store.root).sound()[1] == {}  # a disk that forgets
    assert call("runs", "verify", "--runs", store.root).exit_code == 1
    assert list(Store(store.root).sound()[1]) == [first]


def test_young_files_are_not_remembered(store, monkeypatch, cache):
    monkeypatch.setattr(remembered, "SETTLED", 3600.0)
    first = frames(store.root)
    same(frames(store.root), first)
    assert {run.key for run in store.sound()[0]} == set(store.ids())
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1PAR1", None])
def test_a_cache_that_cannot_be_read_does_not_count(content, store, cache):
    first = frames(store.root)
    for file in cache.glob("*/*.parquet"):
        told = bytearray(file.read_bytes())
        told[len(told) // 4] ^= 1  # in the middle of its values
        file.write_bytes(told if content is None else content)
    same(frames(store.root), first)


def test_a_foreign_file_in_the_cache_does_not_count(store, cache):
    first = frames(store.root)
    for file in cache.glob("*/*.parquet"):
        pq.write_table(pa.table({"x": [1]}), file)
    same(frames(store.root), first)


def test_what_other_versions_remember_does_not_count(store, monkeypatch):
    first = frames(store.root)
    monkeypatch.setattr(remembered, "versions", lambda: {"tsp": "another"})
    read = []
    kept = runs._read
    monkeypatch.setattr(runs, "_read", lambda *told: read.append(told) or kept(*told))
    same(frames(store.root), first)
    assert len(read) == 3


def test_a_cache_that_cannot_be_written_does_no_harm(store, monkeypatch, tmp_path):
    first = frames(store.root)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TSP_CACHE", str(tmp_path / "file" / "cache"))
    same(frames(store.root), first)


def test_an_empty_or_absent_store_remembers_nothing(tmp_path, cache):
    assert load_evidence(Store(tmp_path / "nowhere"))[0].empty
    assert not cache.exists()


def test_one_look_gives_what_three_give(store):
    runs_of, topology, losses, accuracy = load_evidence(store)
    pd.testing.assert_frame_equal(runs_of, load_runs(store))
    pd.testing.assert_frame_equal(topology, load_topology(store))
    pd.testing.assert_frame_equal(losses, load_losses(store)[["id", "epoch", "ce", "total"]])
    pd.testing.assert_frame_equal(accuracy, records.load_accuracy(store))
    assert records.CHECKED[0] == "epoch"


def test_the_published_figures_of_ten_thousand_runs_are_within_the_aim():
    rows = json.loads((data_dir("measurements") / "load.json").read_text())
    again = [it for it in rows if not it["first"] and it["name"] != "tsp runs verify"]
    names = {it["name"] for it in again}
    assert names == {*load.COMMANDS, *load.TABLES} - {"tsp runs verify"}
    assert all(it["runs"] == load.RUNS for it in rows)
    over = [it for it in again if it["seconds"] > load.SECONDS or it["bytes"] > load.MEMORY]
    assert [(it["name"], it["stored"]) for it in over] == []
    assert all(it["bytes"] < load.MEMORY for it in rows)  # of the first look and `verify` too
