"""The measurement of a store of many runs."""

import json
from itertools import islice

import pytest

from benchmarks import store_load
from tsp.paths import data_dir
from tsp.store.archive import write_archive
from tsp.store.runs import Store


@pytest.fixture
def published(smoke, monkeypatch):
    """Take the smoke runs for the published ones."""
    monkeypatch.setattr(store_load, "data_dir", lambda name: smoke.root)


def test_copies_are_valid_runs(published, smoke, tmp_path):
    size = len(smoke.ids()) + 3  # some are copies
    write_archive(islice(store_load._copies(), size), tmp_path / "all.parquet")
    store = Store(tmp_path)
    assert len(store.ids()) == size
    assert not any(store.verify_all().values())
    assert store.frame().seed.max() == smoke.frame().seed.max() + 100


def test_every_command_and_table_is_measured(published, monkeypatch):
    monkeypatch.setattr(store_load, "_watched", lambda words: (6.0, 10))
    rows = store_load.strain(runs=1)
    assert [row["name"] for row in rows] == [*store_load.COMMANDS, *store_load.TABLES]
    assert {(row["runs"], row["seconds"], row["bytes"]) for row in rows} == {(1, 6.0, 10)}


def test_a_table_is_really_made(published, monkeypatch):
    monkeypatch.setattr(store_load, "COMMANDS", {})
    monkeypatch.setattr(store_load, "TABLES", {"pairs": store_load.TABLES["pairs"]})
    (row,) = store_load.strain(runs=2)
    assert row["seconds"] > 0


def test_a_watched_process_gives_its_time_and_memory_or_why_it_failed():
    seconds, most = store_load._watched(["-c", "x = bytearray(10**8)"])
    assert seconds > 0
    assert 1e8 < most < 3e8  # not the memory of the process that asks
    with pytest.raises(RuntimeError, match="no such thing"):
        store_load._watched(["-c", "raise SystemExit('no such thing')"])


def test_the_published_measurements_of_ten_thousand_runs_are_within_the_aim():
    file = data_dir("measurements") / "load.json"
    if not file.is_file():
        pytest.skip("not measured: `tsp bench --load data/measurements/load.json`")
    rows = json.loads(file.read_text())
    assert {row["name"] for row in rows} == {*store_load.COMMANDS, *store_load.TABLES}
    assert all(row["runs"] == store_load.RUNS for row in rows)
    seconds = {row["name"]: row["seconds"] for row in rows if row["name"] != "tsp runs verify"}
    of_claims = [seconds.pop(name) for name in ("tsp report", "claims")]
    assert max(of_claims) <= store_load.CLAIM_SECONDS
    assert max(seconds.values()) <= store_load.SECONDS
    assert max(row["bytes"] for row in rows) <= store_load.MEMORY
