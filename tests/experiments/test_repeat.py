"""Stored runs come out the same when they are trained as they were."""

import shutil

import pytest

from tests.terminal import tsp
from tsp.errors import InputError
from tsp.experiments import repeat as module
from tsp.experiments.repeat import repeat, sample
from tsp.store.runs import Store


def test_runs_come_out_the_same(smoke):
    ids = sample(smoke, 2, seed=1)
    assert len(ids) == 2
    for row in repeat(smoke, ids):
        assert row["same"]
        assert row["again"] == smoke.read(row["id"]).record["outcome"]["solved_epoch"]
        assert row["ce"] == 0


def test_a_difference_is_found(smoke, monkeypatch):
    """Another learning rate is another run."""
    trained = module.train_bank

    def other(specs, *rest, **more):
        return trained([spec.but(lr=spec.lr * 3) for spec in specs], *rest, **more)

    monkeypatch.setattr(module, "train_bank", other)
    assert all(row["ce"] > 0 for row in repeat(smoke, sample(smoke, 1)))


def test_a_bank_must_be_stored_whole(smoke, tmp_path):
    banked = next(run for run in smoke.valid_runs()[0] if len(run.record["together"]) > 1)
    shutil.copytree(smoke.root / banked.id, tmp_path / banked.id)
    with pytest.raises(InputError, match="not stored whole"):
        repeat(Store(tmp_path), [banked.id])


def test_other_problems_are_refused(smoke, monkeypatch):
    monkeypatch.setattr(module, "jobs_of", lambda specs: [])
    with pytest.raises(InputError, match="other problems"):
        repeat(smoke, smoke.ids()[:1])


def test_the_command_repeats_runs_drawn_at_random(smoke):
    done = tsp("runs", "repeat", "--runs", smoke.root, "--many", "1")
    assert done.returncode == 0, done.stderr
    assert "the same" in done.stdout
