"""Arms of a study from runs written by hand, against values computed by hand."""

import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis.records import load_runs, load_topology
from tsp.analysis.studies import (
    COLUMNS,
    at_last,
    at_solve,
    noise_floor,
    reading,
    recipes,
    study,
    trend,
)
from tsp.analysis.units import PAIR, units
from tsp.errors import InputError


def arm(store, field, value, counts, method="ce", **more):
    """One run a problem with a field set; ``counts`` are the epochs of the first right check."""
    for k, solved in enumerate(counts):
        about = {"method": method, "problem": k, "contents": (f"p{k}",), "solved": solved}
        stored(store, **about | {field: value} | more)


def gaussian(store, fields=("init",), **options):
    return study(store, fields, base={"init": "gaussian"}, **options).set_index("arm")


def test_each_arm_is_compared_with_the_base_of_its_method(store):
    arm(store, "init", "gaussian", [4, 6, 8] * 2)
    arm(store, "init", "vocabulary", [2, 6, None] * 2)
    arm(store, "init", "vocabulary", [2, 2, 2] * 2, method="tsloss")
    arm(store, "init", "gaussian", [4, 4, 8] * 2, method="tsloss")
    table = gaussian(store)
    assert ["arm", *table.columns] == COLUMNS
    methods = ["ce", "tsloss λ=1"]
    inits = ["", ", init vocabulary"]
    assert list(table.index) == [name + init for name in methods for init in inits]
    plain, words = table.loc["ce"], table.loc["ce, init vocabulary"]
    assert (plain.n, plain.iterations, plain.censored, plain.pairs) == (6, 6, False, 0)
    assert np.isnan(plain.p)
    # Twice: 2 before 4, 6 as 6, never against 8: a win, a tie, a loss; ratios 1/2, 1, 8/8.
    assert (words.wins, words.ties, words.losses, words.pairs) == (2, 2, 2, 6)
    assert (words.ratio, words.p, words.p_holm) == (1, 1, 1)
    ours = table.loc["tsloss λ=1, init vocabulary"]
    assert (ours.wins, ours.ties, ours.losses, ours.ratio) == (6, 0, 0, 0.5)
    assert ours.p == pytest.approx(2 / 64)
    assert ours.p_holm == pytest.approx(2 * 2 / 64)  # two tests were made


def test_a_reading_needs_both_the_test_and_the_interval():
    effects = {
        "p_holm": [0.01, 0.01, 0.2, 0.01, np.nan],
        "ratio": [0.5, 2.0, 0.5, 0.9, 1.0],
        "low": [0.4, 1.5, 0.4, 0.7, np.nan],
        "high": [0.6, 2.5, 0.6, 1.0, np.nan],
    }
    shown = ["faster", "slower", "undecided", "undecided", ""]
    assert list(reading(pd.DataFrame(effects))) == shown


def test_the_trend_of_tslosss_ratio_with_a_field(store):
    # Ratios of problem 0 at n = 5, 10, 20: 1, 1/2, 1/4; of problem 1: 1/2, none, 1; 2 has one.
    for size, plain, treated in (
        (5, [8, 8, 8], [8, 4, 8]),
        (10, [8, None, None], [4, None, None]),
        (20, [8, 8, None], [2, 8, None]),
    ):
        arm(store, "n_tokens", size, plain)
        arm(store, "n_tokens", size, treated, method="tsloss")
    taus = trend(store, "n_tokens", dict.fromkeys((5, 10, 20, 40), 8))
    assert list(taus) == [-1, 1]


def test_few_pairs_have_no_test_and_seeds_are_not_independent_units(store):
    """Two problems with three seeds each are two pairs of medians."""
    for seed, counts in enumerate(([2, 8], [4, 8], [8, 8])):
        arm(store, "n_tokens", 40, counts, seed=seed)
        arm(store, "n_tokens", 5, [8, 6], seed=seed)
    table = study(store, ["n_tokens"], base={"n_tokens": 40}).set_index("arm")
    short = table.loc["ce, n_tokens 5"]
    assert (short.pairs, short.wins, short.losses) == (2, 1, 1)
    assert short[["p", "p_holm"]].isna().all()
    assert table.loc["ce"].n == 2


def test_problems_that_the_untrained_prompt_solves_are_left_out(store):
    arm(store, "init", "gaussian", [0, 0, 6])
    (row,) = gaussian(store).itertuples()
    assert (row.n, row.iterations) == (1, 6)
    arm(store, "init", "repeated", [0, 0, 0])
    assert gaussian(store).loc["ce, init repeated"].n == 0


def test_other_differences_keep_a_run_out(store):
    arm(store, "init", "gaussian", [4], epochs=4, topology={"h1_count": [9, 5, 3]})
    arm(store, "init", "repeated", [4], placement="prefix")
    arm(store, "init", "repeated", [4], protocol="paper")
    (row,) = gaussian(store).itertuples()
    assert row.h1_count == 3  # at the last check
    assert len(gaussian(store, ["init", "placement"])) == 2


def test_problems_that_an_arm_lacks_count_where_each_arm_is_read_alone(store):
    arm(store, "init", "gaussian", [8] * 7)
    arm(store, "init", "repeated", [4] * 6)
    arm(store, "init", "vocabulary", [4] * 7)
    for every, pairs in ((True, [6, 6]), (False, [6, 7])):
        table = gaussian(store, every=every)
        assert table.pairs[["ce, init repeated", "ce, init vocabulary"]].tolist() == pairs
        assert set(table.ratio.dropna()) == {0.5}


def test_the_noise_floor_is_the_median_of_what_other_roundings_change(store):
    assert noise_floor(store).empty
    arm(store, "rounding", "", [4])
    for kind, solved in (("precision", 6), ("threads", 6), ("bank", None)):
        arm(store, "rounding", kind, [solved])
    assert noise_floor(store).empty  # TSLoss is to stand beside it
    arm(store, "rounding", "", [2], method="tsloss")
    (row,) = noise_floor(store).itertuples()
    assert (row.precision, row.threads, row.bank, row.tsloss) == (2, 2, 4, 2)  # never: at 8
    assert row.floor == 2


def test_topology_is_read_at_the_last_check_and_at_the_first_right_one(store):
    for k, solved in enumerate((4, None, 0)):
        about = {"problem": k, "contents": (f"p{k}",)}
        stored(store, solved=solved, topology={"h1_count": [9, 8, 7, 6, 5 - k]}, **about)
        stored(store, method="tsloss", solved=2, topology={"h1_count": [9, 8, 8, 9, 9]}, **about)
    runs, topology = load_runs(store), load_topology(store)
    table = units(runs, PAIR, length=8)
    last = at_last(table, topology, "h1_count", length=8)
    assert last[["ce", "tsloss"]].to_numpy().tolist() == [[5, 9], [4, 9], [3, 9]]
    assert at_last(table, topology, "h1_count", length=4).ce.tolist() == [7, 7, 7]
    (row,) = at_solve(table, topology, runs, "h1_count").itertuples()
    assert (row.ce, row.tsloss) == (7, 8)  # of the one problem that both solve by training


def test_no_runs_no_rows(store):
    table = study(store, ["init"], base={"init": "gaussian"})
    assert table.empty
    assert list(table.columns) == COLUMNS
    with pytest.raises(InputError, match="fields = 'colour'"):
        study(store, ["colour"], base={})


def test_recipes_compare_one_change_at_a_time_with_standard_or_with_tsloss(store):
    """Two changes at once are no row; the largest ratio comes first and the base last."""
    arm(store, "lr", 0.01, [8] * 6, seed=1)
    arm(store, "init", "vocabulary", [4] * 6, seed=1)
    arm(store, "schedule", "constant", [6] * 6, seed=1)
    arm(store, "lr", 0.03, [2] * 6, seed=1, init="vocabulary")
    arm(store, "lr", 0.01, [4] * 6, method="tsloss", lambda_ts=1.0, seed=1)
    arm(store, "init", "question", [2] * 6)  # another seed
    for method in ("ce", "tsloss"):  # of other experiments
        stored(store, method=method, problem=12, contents=("p12",), solved=8, seed=1)
        stored(store, method=method, task="math", contents=("m",), solved=8, seed=1)
    table = recipes(store, model="smollm2-135m-instruct")
    assert table.change.tolist()[:1] == ["constant rate"]
    assert set(table.change[1:3]) == {"initial prompt from the vocabulary", "TSLoss, λ = 1"}
    assert table.change.tolist()[3:] == ["Standard"]
    assert table.ratio.tolist()[:3] == [0.75, 0.5, 0.5]
    assert table.p_holm[:3].tolist() == pytest.approx([3 * 2 / 2**6] * 3)
    assert table.pairs[:3].tolist() == [6, 6, 6]

    table = recipes(store, model="smollm2-135m-instruct", against="tsloss").set_index("change")
    assert table.ratio["initial prompt from the vocabulary"] == 1
    assert table.ratio["Standard"] == 2
