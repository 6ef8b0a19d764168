"""Tables of several runs, from folders and archives: run after run, in the order of ids."""

import shutil

import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis import records
from tsp.errors import Damaged
from tsp.store.archive import write_archive
from tsp.store.run import read_tables
from tsp.store.runs import Store
from tsp.store.schema import TABLES

LOADERS = [records.load_runs, records.load_topology, records.load_losses, records.load_accuracy]


@pytest.fixture
def store(tmp_path):
    """Ten runs in folders; some have an additional column."""
    store = Store(tmp_path / "runs")
    for seed in range(10):
        extra = {"extra": [1, 2, 3]} if 3 <= seed < 6 else {}
        stored(store, epochs=4, seed=seed, solved=4, ce=[3, 2, 1, seed + 0.5], topology=extra)
    return store


def test_tables_are_those_of_each_run(store):
    runs = store.valid_runs()[0]
    for name in TABLES:
        table = read_tables(runs, name).to_pandas()
        assert table.id.drop_duplicates().tolist() == store.ids()
        for run in runs:
            rows = table[table.id == run.id].drop(columns="id").reset_index(drop=True)
            expected = run.table(name).to_pandas()
            pd.testing.assert_frame_equal(rows[expected.columns], expected, check_dtype=False)


def test_archives_and_folders_give_the_rows_of_folders_in_their_order(store):
    ids, other = store.ids(), Store(store.root.parent / "spread")
    for name, some in (("a", ids[:8:2]), ("b", ids[1:8:2])):
        write_archive([store.read(run_id).data for run_id in some], other.root / f"{name}.parquet")
    for run_id in ids[8:]:
        shutil.copytree(store.root / run_id, other.root / run_id)
    for load in (*LOADERS, Store.frame):
        ours, theirs = (load(side).sort_index(axis="columns") for side in (other, store))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_a_snapshot_stays_as_it_was(store):
    before = store.snapshot()
    stored(store, epochs=4, seed=11)
    assert (len(before.frame()), len(store.frame())) == (10, 11)


def test_damage_is_named_by_whatever_reads_it(store):
    first = store.ids()[0]
    (store.root / first / "topology.parquet").write_bytes(b"")
    assert len(records.load_losses(store).id.unique()) == 10
    with pytest.raises(Damaged, match=f"run {first}: topology"):
        records.load_topology(store)


def test_one_look_gives_the_tables_of_each_loader(store):
    for table, load in zip(records.load_evidence(store), LOADERS, strict=True):
        pd.testing.assert_frame_equal(table, load(store)[list(table)])
    assert all(table.empty for table in records.load_evidence(Store(store.root / "nowhere")))
