"""The table of systems: all of the paper's models stay in it, and what was run is counted."""

import pytest

from tests.handmade import stored
from tsp.analysis.systems import COLUMNS, RELATIVES, systems
from tsp.experiments.paper import SYSTEMS, reported
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.models import TINY
from tsp.training.spec import RunSpec


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return systems(Store(tmp_path_factory.mktemp("none")))


def test_every_cell_of_the_papers_tables_is_there(empty):
    assert list(empty.columns) == COLUMNS
    cells, printed = (
        set(table[COLUMNS[:4]].itertuples(index=False, name=None))
        for table in (empty, reported("table3"))
    )
    assert cells >= printed
    assert {system.name for system in SYSTEMS} <= set(empty.model)
    topology = {system.name for system in SYSTEMS if system.topology}
    six = empty[empty.model.isin(topology)].groupby("model").task.nunique()
    assert (six == 6).all()
    assert len(cells) == len(empty)


def test_without_runs_nothing_was_run(empty):
    assert (empty.runs == 0).all()
    assert set(RELATIVES) == set(empty.model)
    assert set(RELATIVES.values()) <= set(TINY)


def test_commands_are_specs_of_their_row(empty):
    """What the command says, read back as options of a run, is the row's cell."""
    for row in empty.to_dict("records"):
        words = row["command"].split()
        assert words[:2] == ["tsp", "run"]
        names = [word.removeprefix("--") for word in words[2::2]]
        spec = RunSpec(**dict(zip(names, words[3::2], strict=True)))
        assert all(row[name] == getattr(spec, name) for name in COLUMNS[:4])


def test_runs_are_counted(store):
    for content in ("a", "b"):
        for seed in (0, 1):
            stored(store, contents=(content,), seed=seed)
    others = [{"wrong_answers": True}, {"n_tokens": 5}, {"method": "tsloss", "lambda_ts": 10.0}]
    for other in others:  # are not counted
        stored(store, contents=("a",), **other)
    stored(store, contents=("a",), method="tsloss", lambda_ts=1.0)
    stored(store, contents=tuple("abcdefghij"), regime="multi", task="math")
    cells = systems(store).query("runs > 0").set_index(["model", "task", "regime", "method"])
    name = models.DEFAULT
    counts = {key: (row.problems, row.runs) for key, row in cells.iterrows()}
    assert counts == {
        (name, "gsm8k", "single", "ce"): (2, 4),
        (name, "gsm8k", "single", "tsloss"): (1, 1),
        (name, "math", "multi", "ce"): (1, 1),
    }
