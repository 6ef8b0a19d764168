"""The measurement of a store of many runs."""

import json
from itertools import islice

import pytest

from benchmarks import store_load
from tsp.paths import data_dir
from tsp.store.archive import write_archive
from tsp.store.runs import Store


def test_copies_are_valid_runs(smoke, monkeypatch, tmp_path):
    monkeypatch.setattr(store_load, "data_dir", lambda name: smoke.root)
    size = len(smoke.ids()) + 3  # some are copies
    write_archive(islice(store_load._copies(), size), tmp_path / "all.parquet")
    store = Store(tmp_path)
    assert len(store.ids()) == size
    assert not any(store.verify_all().values())
    assert store.frame().seed.max() == smoke.frame().seed.max() + 100


def test_every_command_and_table_is_measured(smoke, monkeypatch):
    monkeypatch.setattr(store_load, "data_dir", lambda name: smoke.root)
    monkeypatch.setattr(store_load, "_watched", lambda words: (6.0, 10))
    rows = store_load.strain(runs=1)
    assert [it["name"] for it in rows] == [*store_load.COMMANDS, *store_load.TABLES]
    assert store_load.render(rows).splitlines()[0].split()[-5:] == ["6.0", "s", "0", "MB", "!"]


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
    assert {it["name"] for it in rows} == {*store_load.COMMANDS, *store_load.TABLES}
    assert all(it["runs"] == store_load.RUNS for it in rows)
    quick = [it for it in rows if it["name"] != "tsp runs verify"]
    assert max(it["seconds"] for it in quick) <= store_load.SECONDS
    assert max(it["bytes"] for it in rows) <= store_load.MEMORY
