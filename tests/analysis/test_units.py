"""The one table of units, by hand: which runs are in it, and what they count for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handmade import pair, stored
from tsp.analysis import tables
from tsp.analysis.units import COLUMNS, PAIR, STANDARD, comparable, compared, units, wide
from tsp.store.archive import write_archive
from tsp.store.runs import Store

NEVER = np.inf
ONE = {"ce": STANDARD}
EVERY = 20  # epochs between two checks


def run(*right, seed=0, epochs=100, method="ce", name="", **fields):
    """A run that is right at the checks after the given epochs, and at no other."""
    name = name or f"{method}{seed}-{epochs}-{sorted(fields.items())}"
    about = {"model": "m", "task": "gsm8k", "regime": "single", "content": "one", "problem": 0}
    about |= {"protocol": "tuned", "lambda_ts": float(method != "ce"), "snapshot_every": 20}
    about |= {"id": name, "right": right, "seed": seed, "epochs": epochs, "method": method}
    about["solved_epoch"] = min([epoch for epoch in right if epoch], default=np.nan)
    return about | {"solved_at_start": 0 in right} | fields


def table(*runs, arms=ONE, length=100):
    checks = [
        {"id": one["id"], "epoch": epoch, "accuracy": float(epoch in one["right"])}
        for one in runs
        for epoch in range(0, one["epochs"] + 1, EVERY)
    ]
    return units(pd.DataFrame(runs), arms, length=length, accuracy=pd.DataFrame(checks))


def outcome(*runs, length=100):
    """Iterations of a single unit and arm, until it stays right, and the seeds behind them."""
    (row,) = table(*runs, length=length).itertuples()
    return row.iterations, row.sustained, row.seeds


@pytest.mark.parametrize(
    ("epochs", "seeds", "iterations"),
    [
        ([20], (0,), 20),
        ([20, 80], (0,), 20),  # of two seeds the first alone
        ([20, NEVER], (0,), 20),
        ([NEVER, 20], (0,), NEVER),
        ([20, 60, 40], (0, 1, 2), 40),
        ([20, NEVER, 60], (0, 1, 2), 60),
        ([NEVER, 20, NEVER], (0, 1, 2), NEVER),
        ([20, 40, 60, 80], (0, 1, 2), 40),
        ([NEVER, 80, 60, NEVER, 20], (0, 1, 2, 3, 4), 80),
    ],
)
def test_a_unit_is_the_median_of_an_odd_number_of_seeds(epochs, seeds, iterations):
    runs = [run(*range(int(min(first, 120)), 101, EVERY), seed=k) for k, first in enumerate(epochs)]
    assert outcome(*runs) == (iterations, iterations, seeds)
    assert outcome(*reversed(runs)) == (iterations, iterations, seeds)


@pytest.mark.parametrize(
    ("right", "iterations", "sustained"),
    [
        ((), NEVER, NEVER),
        ((100,), 100, 100),
        ((20, 60, 80, 100), 20, 60),  # right, lost again, regained
        ((20, 40, 60, 80), 20, NEVER),  # lost in the end
        ((0, 40, 60, 80, 100), 40, 40),
        ((20, 40, 60, 80, 100), 20, 20),
    ],
)
def test_an_answer_may_be_lost_again(right, iterations, sustained):
    assert outcome(run(*right))[:2] == (iterations, sustained)


def test_without_the_checks_sustained_is_unknown():
    (row,) = units(pd.DataFrame([run(20)]), ONE).itertuples()
    assert (row.iterations, np.isnan(row.sustained)) == (20, True)
    assert units(pd.DataFrame()).columns.tolist() == COLUMNS


def test_runs_are_read_over_one_length():
    late = run(120, *range(140, 301, EVERY), epochs=300)
    lost = run(*range(20, 101, EVERY), 140, epochs=300)  # what comes after is not read
    assert outcome(late)[:2] == (NEVER, NEVER)
    assert outcome(late, length=300)[:2] == (120, 120)
    assert outcome(lost)[:2] == (20, 20)
    assert table(run(20, epochs=80)).empty
    short, long = run(20, epochs=60), run(80, 100, method="tsloss")
    both = table(short, long, arms=PAIR, length=None)
    assert both[["length", "iterations"]].to_numpy().tolist() == [[60, 20], [60, NEVER]]
    assert table(short, long, arms=PAIR).empty


def test_a_unit_that_an_untrained_prompt_solves_is_set_apart():
    """Whichever of its runs it is: the unit is left out as a whole."""
    others = [run(60, content="two"), run(20, method="tsloss", content="two")]
    for at_start in (("ce", 0), ("tsloss", 1)):
        runs = [
            run(*([0, 40] if (method, seed) == at_start else [40]), method=method, seed=seed)
            for method in PAIR
            for seed in range(3)
        ]
        both = table(*runs, *others, arms=PAIR)
        one = both[both.content == "one"]
        assert one[["solved_at_start", "iterations"]].to_numpy().tolist() == [[True, 40]] * 2
        (row,) = wide(both).itertuples()
        assert (row.Index[-1], row.ce, row.tsloss, row.length) == ("two", 60, 20, 100)


def test_of_a_run_that_is_stored_twice_one_counts():
    """As the protocol records it, then the shorter, then the smaller id; not the later one."""
    usual = run(name="b")
    close = run(80, name="a", snapshot_every=4)
    longer = run(80, name="c", epochs=300)
    later, sooner = run(20, name="y"), run(40, name="x")
    for runs, length, kept in (
        ([usual, close], 100, "b"),
        ([longer, usual, close], 100, "b"),
        ([close, longer], 100, "c"),
        ([usual, longer], None, "c"),
        ([close], 100, "a"),
        ([later, sooner], 100, "x"),
    ):
        for ordered in (runs, runs[::-1]):
            assert table(*ordered, length=length).ids.tolist() == [(kept,)]
            assert comparable_ids(ordered, length=length) == [kept]


def comparable_ids(runs, length=100):
    return comparable(pd.DataFrame(runs), protocol="tuned", length=length).id.tolist()


def test_arms_differ_in_what_they_name_and_in_nothing_else():
    usual = {"lr": 1e-2, "n_tokens": 40, "init": "gaussian", "init_run": "", "tau": 0.1}
    slow = run(80, **usual | {"lr": 1e-3})
    others = [{"n_tokens": 5}, {"init": "repeated"}, {"tau": 1.0}, {"protocol": "paper"}]
    rest = [run(20, **usual | {"lr": 1e-3} | other) for other in others]
    arms = {"fast": STANDARD | {"lr": 1e-2}, "slow": STANDARD | {"lr": 1e-3}}
    both = table(run(40, **usual), slow, *rest, arms=arms)
    assert both[["arm", "iterations"]].to_numpy().tolist() == [["fast", 40], ["slow", 80]]
    trained = run(20, **usual | {"init": "trained", "init_run": "0" * 16})
    arms = {"ce": STANDARD, "trained": STANDARD | {"init": "trained"}}
    assert table(run(40, **usual), trained, arms=arms).iterations.tolist() == [40, 20]
    assert table(*rest, arms=ONE).empty
    assert comparable_ids([run(40, **usual), slow, trained, *rest]) == [run(40, **usual)["id"]]
    assert comparable_ids([run(40, model="tiny-llama")]) == []


def test_arms_are_compared_in_the_seeds_that_all_of_them_have():
    plain = [run(epochs, seed=seed) for seed, epochs in enumerate((20, 40, 60))]
    treated = [run(20 * seed, seed=seed, method="tsloss") for seed in (1, 2, 3)]
    both = table(*plain, *treated, run(20, content="two"), arms=PAIR)
    assert both.content.tolist() == ["one"] * 2
    assert both.seeds.tolist() == [(1,), (1,)]
    assert both.iterations.tolist() == [40, 20]
    assert table(*plain, *treated[2:], arms=PAIR).empty


def test_a_problem_is_what_it_holds_wherever_it_was_read():
    runs = [run(20, problem=0), run(40, seed=1, problem=7), run(60, seed=2)]
    assert outcome(*runs)[0] == 40
    apart = [run(20), run(40, content="two"), run(40, regime="multi"), run(40, task="math")]
    assert len(table(*apart, run(60, model="n"))) == 5


runs_of_units = st.lists(
    st.builds(
        lambda right, **about: run(*sorted(right), **about),
        st.sets(st.sampled_from(range(0, 101, EVERY))),
        content=st.sampled_from(["one", "two", "three"]),
        seed=st.integers(0, 3),
        method=st.sampled_from(list(PAIR)),
    ),
    min_size=1,
    max_size=24,
    unique_by=lambda one: one["id"],
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(runs_of_units, st.data())
def test_order_names_and_what_comes_later_change_nothing(runs, data):
    names = data.draw(st.permutations(range(len(runs))))
    later = [
        one
        | {"id": f"{name:02}", "epochs": 300, "right": (*one["right"], 120, 200)}
        | {"solved_epoch": min([epoch for epoch in one["right"] if epoch], default=120)}
        for one, name in zip(runs, names, strict=True)
    ]
    tables = [table(*some, arms=PAIR) for some in (runs, data.draw(st.permutations(later)))]
    keys = ["content", "arm"]
    before, after = (each.sort_values(keys, ignore_index=True) for each in tables)
    pd.testing.assert_frame_equal(before.drop(columns="ids"), after.drop(columns="ids"))


# Published runs and a user's own -------------------------------------------------------------


@pytest.fixture
def both(tmp_path, monkeypatch):
    """A checkout's store to which six published pairs belong."""
    monkeypatch.setattr("tsp.store.runs.ROOT", tmp_path)
    monkeypatch.setattr("tsp.store.runs.data_dir", lambda name: tmp_path / "data" / name)
    monkeypatch.setattr("tsp.store.run.data_dir", lambda name: tmp_path / "data" / name)
    published = tmp_path / "data" / "runs"
    published.mkdir(parents=True)
    written = Store(tmp_path / "elsewhere")
    for k in range(6):
        pair(written, standard=80, tsloss=40, contents=(f"p{k}",), problem=k, epochs=100)
    write_archive([one.data for one in written.valid_runs()[0]], published / "table3.parquet")
    return Store(tmp_path / "runs")


def test_a_users_own_runs_stand_beside_the_published_ones(both):
    before = {name: getattr(tables, name)(both) for name in ("claims", "table3_tests", "table4")}
    assert set(tables.pairs(both).origin) == {"published"}
    assert set(before["claims"].own) == {""}
    for k in range(8):  # of the published problems and of others, shorter and as long
        about = {"contents": (f"p{k}",), "problem": k}
        pair(both, standard=20, tsloss=None, epochs=100 if k % 2 else 24, **about)
        stored(both, method="tsloss", lambda_ts=10.0, epochs=24, **about)
    pairs = tables.pairs(both)
    assert pairs.groupby("origin").size().to_dict() == {"own": 8, "published": 6}
    assert pairs[pairs.origin == "own"].length.tolist() == [24, 100] * 4
    after, users = tables.claims(both), ["own", "own_n"]
    pd.testing.assert_frame_equal(before["claims"].drop(columns=users), after.drop(columns=users))
    fewer = after.set_index("id").loc["tsloss-fewer-iterations"]
    assert (fewer.effect, fewer.n) == (0.5, 6)
    assert (fewer.own, fewer.own_n) == ("not reproduced", 8)
    equal = after.set_index("id").loc["variances-equal"]
    assert (equal.n, equal.own_n) == (6, 8)  # prompts, each side's own
    for name in ("table3_tests", "table4"):
        pd.testing.assert_frame_equal(before[name], getattr(tables, name)(both))
    cells = tables.table3(both)[("single", "GSM8K")]
    assert cells["here", "smollm2-135m-instruct"].tolist() == ["80", "40", "6"]
    assert cells["yours", "smollm2-135m-instruct"].tolist() == ["20", ">62", "8"]


def test_units_that_neither_arm_solves_have_no_ratio():
    standard, treated = (pd.Series([NEVER] * 3 + [epoch] * 4) for epoch in (50, 25))
    row = compared(standard, treated, 100, n=7)
    assert (row["wins"], row["ties"], row["losses"], row["ratio"]) == (4, 3, 0, 0.5)
