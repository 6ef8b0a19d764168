"""Tables of many runs, from folders and archives: one under the other, in the order of ids."""

import shutil

import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis.records import (
    CHECKED,
    load_accuracy,
    load_evidence,
    load_losses,
    load_runs,
    load_topology,
)
from tsp.errors import Damaged
from tsp.store.archive import write_archive
from tsp.store.run import read_tables
from tsp.store.runs import Store

LOADERS = (load_runs, load_topology, load_losses, load_accuracy, Store.frame)


@pytest.fixture
def store(tmp_path):
    """Ten runs in folders; some have a column of their own."""
    made = Store(tmp_path / "runs")
    for seed in range(10):
        extra = {"extra": [1, 2, 3]} if 3 <= seed < 6 else {}
        stored(made, epochs=4, seed=seed, solved=4, ce=[3, 2, 1, seed + 0.5], topology=extra)
    return made


def frames(root):
    """All tables, with their columns in one order."""
    return [load(Store(root)).pipe(lambda it: it[sorted(it)]) for load in LOADERS]


def test_tables_are_those_of_each_run(store):
    runs = store.valid_runs()[0]
    for name in ("epochs", "checks", "topology", "diagrams"):
        table = read_tables(runs, name).to_pandas()
        for run in runs:
            mine = table[table.id == run.id].drop(columns="id").reset_index(drop=True)
            pd.testing.assert_frame_equal(
                mine[run.table(name).column_names], run.table(name).to_pandas(), check_dtype=False
            )
        assert table.id.drop_duplicates().tolist() == store.ids()


def test_archives_and_folders_give_the_rows_of_folders_in_their_order(store):
    ids, other = store.ids(), store.root.parent / "spread"
    for name, some in (("a", ids[:8:2]), ("b", ids[1:8:2])):
        write_archive([store.read(it).data for it in some], other / f"{name}.parquet")
    for run_id in ids[8:]:
        shutil.copytree(store.root / run_id, other / run_id)
    for mine, theirs in zip(frames(other), frames(store.root), strict=True):
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


def test_a_snapshot_stays_as_it_was(store):
    before = store.snapshot()
    stored(store, epochs=4, seed=11)
    assert len(before.valid_runs()[0]) == 10
    assert len(load_runs(store)) == 11


def test_damage_is_named_by_whatever_reads_it(store):
    first = store.ids()[0]
    (store.root / first / "topology.parquet").write_bytes(b"")
    assert len(load_losses(store).id.unique()) == 10
    with pytest.raises(Damaged, match=f"run {first}: topology"):
        load_topology(store)


def test_one_look_gives_what_three_give(store):
    runs, topology, losses, accuracy = load_evidence(store)
    pd.testing.assert_frame_equal(runs, load_runs(store))
    pd.testing.assert_frame_equal(topology, load_topology(store))
    pd.testing.assert_frame_equal(losses, load_losses(store)[["id", "epoch", "ce", "total"]])
    pd.testing.assert_frame_equal(accuracy, load_accuracy(store))
    assert CHECKED[0] == "epoch"


def test_an_empty_store_has_empty_tables(tmp_path):
    assert load_evidence(Store(tmp_path / "nowhere"))[0].empty
