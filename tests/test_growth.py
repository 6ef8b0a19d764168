"""The smaller measurements: rows with what they were made of."""

import json
from functools import partial

import pytest

from benchmarks import peft_methods as paradigms
from benchmarks import ph_scaling as growth
from benchmarks import store_load as load
from benchmarks.ph_scaling import grow
from tests.conftest import problem
from tests.test_packs import call
from tsp.interop.peers import KINDS
from tsp.store.runs import Store
from tsp.training import models


def test_every_size_is_timed():
    told = []
    rows = grow(points=(5, 8), dimensions=(3, 6), repeats=2, tell=told.append)
    assert [(row["n"], row["d"]) for row in rows] == [(5, 3), (8, 3), (5, 6), (8, 6)]
    assert len(told) == 4
    for row in rows:
        assert len(row["times"]) == 2
        assert min(row["times"]) <= row["seconds"] <= max(row["times"])
        assert row["processor"]


def test_each_paradigm_is_trained_without_and_with_tsloss(monkeypatch):
    one = problem("Which letter?", "B", metric="choice", task="mmlu_cf")
    monkeypatch.setattr(paradigms, "load_problems", lambda task, problem: [one])
    monkeypatch.setattr(paradigms, "PROBLEMS", {"mmlu_cf": range(1)})
    monkeypatch.setattr(paradigms, "EPOCHS", 4)
    rows = paradigms.compare(model="tiny-llama")
    assert [(row["kind"], row["method"]) for row in rows] == [
        (kind, method) for kind in KINDS for method in ("ce", "tsloss")
    ]
    d = models.load("tiny-llama", device="cpu").dim
    for row in rows:
        assert row["vectors"] == 40
        assert (row["dimension"] > d) == (row["kind"] == "prefix tuning")
        assert 0 < row["epochs"] <= 4
        assert row["h1_count_first"] >= 0


def test_the_commands_write_them_one_at_a_time(monkeypatch, tmp_path):
    small = partial(grow, points=(5,), dimensions=(3,))
    monkeypatch.setattr(growth, "grow", small)
    file = tmp_path / "growth.json"
    out = call("bench", "--growth", file)
    assert out.exit_code == 0, out.output
    (row,) = json.loads(file.read_text())
    assert (row["n"], row["d"]) == (5, 3)
    with pytest.raises(Exception, match="one at a time"):
        raise call("bench", "--growth", file, "--roundings", tmp_path / "x").exception


def test_stores_of_copies_are_sound_and_hold_the_same(smoke, monkeypatch, tmp_path):
    monkeypatch.setattr(load, "data_dir", lambda name: smoke.root)
    monkeypatch.setattr(load, "A_PACK", 7)
    many = len(smoke.ids()) + 3  # some are copies
    stores = {name: Store(root) for name, root in load.build(tmp_path, many).items()}
    for store in stores.values():
        assert len(store.ids()) == many
        assert store.sound()[1] == {}
    assert len(list(stores["packs"].root.iterdir())) == -(-many // 7)
    assert stores["folders"].frame().equals(stores["packs"].frame())
    assert stores["folders"].frame().seed.max() == smoke.frame().seed.max() + 100


def test_every_listing_and_table_is_watched_first_and_again(smoke, monkeypatch):
    monkeypatch.setattr(load, "data_dir", lambda name: smoke.root)
    seen = []
    monkeypatch.setattr(load, "_watched", lambda words, cache: seen.append(cache) or (6.0, 10))
    rows = load.strain(runs=1)
    assert len(rows) == 4 * (len(load.COMMANDS) + len(load.TABLES))
    assert [row["first"] for row in rows[:2]] == [True, False]
    unpacked, *looks = seen
    works = [looks[at : at + 1 + load.LOOKS] for at in range(0, len(looks), 1 + load.LOOKS)]
    caches = {unpacked, *(first for first, *_ in works)}
    assert len(caches) == len(works) + 1  # a first look finds an empty one
    assert len(works) == len(rows) / 2
    folders, packs = works[: len(works) // 2], works[len(works) // 2 :]
    assert all(set(again) == {unpacked} for _, *again in folders)
    assert all(set(again) == {first} for first, *again in packs)
    assert load.render(rows).splitlines()[0].split()[-5:] == ["6.0", "s", "0", "MB", "!"]


def test_a_watched_work_tells_its_time_and_memory_or_why_it_failed(tmp_path):
    seconds, most = load._watched(["-c", "x = bytearray(10**8)"], tmp_path)
    assert seconds > 0
    assert 1e8 < most < 3e8  # not the memory of the process that asks
    with pytest.raises(RuntimeError, match="no such thing"):
        load._watched(["-c", "raise SystemExit('no such thing')"], tmp_path)
