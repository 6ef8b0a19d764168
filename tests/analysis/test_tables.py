"""Tables from runs written by hand into a real store, against values computed by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.handmade import pair, stored
from tsp.analysis.claims import CLAIMS
from tsp.analysis.claims.accuracy import pooled_rhos
from tsp.analysis.records import load_accuracy, load_runs
from tsp.analysis.stats import rho_from_u
from tsp.analysis.tables import (
    METHOD_NAMES,
    TASK_NAMES,
    chapter_claims,
    claims,
    claims_elsewhere,
    convergence,
    effect,
    headline,
    load_losses,
    load_topology,
    pairs,
    table2,
    table2_runs,
    table3,
    table3_tests,
    table4,
    trained,
)
from tsp.analysis.tables.table_2 import TABLE2_COLUMNS, evidence_of
from tsp.errors import Damaged, InputError
from tsp.experiments.paper import reported

TEN = {"contents": tuple("abcdefghij"), "regime": "multi"}
TWO = {"contents": ("one", "two"), "regime": "multi"}


def lifespans(*values):
    return {"h0_mean_lifespan": list(values)}


def problem(k):
    return {"problem": k, "contents": (f"p{k}",)}


def problems(store, solved, **fields):
    """One pair a problem; solved: (Standard, TSLoss)."""
    for k, (standard, tsloss) in enumerate(solved):
        pair(store, standard=standard, tsloss=tsloss, **problem(k) | fields)


# What is in the store ------------------------------------------------------------------------


def test_loaded_frames_name_the_run_of_each_row(store):
    right = [[False, False], [True, False], [True, True]]
    bars = {"h1_count": [7, 6, 5]}
    first = stored(store, epochs=4, ce=[3, 2, 1, 0.5], topology=bars, right=right, **TWO)
    second = stored(store, epochs=2, ce=[9, 8], seed=1)
    loaded = load_losses(store), load_topology(store), load_accuracy(store)
    losses, checks, accuracy = (table.groupby("id") for table in loaded)
    assert losses.ce.agg(list).to_dict() == {first: [3, 2, 1, 0.5], second: [9, 8]}
    assert losses.epoch.agg(list)[second] == [1, 2]
    assert checks.h1_count.agg(list)[first] == [7, 6, 5]
    assert checks.epoch.agg(list)[second] == [0, 2]
    assert accuracy.accuracy.agg(list)[first] == [0, 0.5, 1]


def test_setting_says_how_a_run_differs_from_its_protocol(store):
    plain = stored(store)
    paper = stored(store, protocol="paper")  # another learning rate, but its own default
    odd = stored(store, n_tokens=8, method="tsloss", tau=1.0)
    setting = load_runs(store).set_index("id").setting
    assert setting[[plain, paper, odd]].tolist() == ["", "", "n_tokens 8, tau 1.0"]


def test_a_damaged_run_is_in_no_table(store):
    sound, damaged = pair(store, standard=4, tsloss=2)
    (store.root / damaged / "epochs.parquet").write_bytes(b"")
    with pytest.raises(Damaged, match=f"run {damaged}: epochs.parquet"):
        load_losses(store)
    (store.root / damaged / "run.json").write_bytes(b"")
    assert load_runs(store).id.tolist() == [sound]
    assert set(load_losses(store).id) == {sound}
    assert pairs(store).empty


# Table 2 -------------------------------------------------------------------------------------


def test_table2_pools_checks_and_tests_wrong_against_right(store):
    wrong = [[False], [False], [True], [True]]
    stored(store, epochs=6, right=wrong, topology=lifespans(1, 2, 3, 4))
    late = [[False], [False], [False], [True]]
    stored(store, epochs=6, right=late, topology=lifespans(1.5, 2.5, 3.5, 4.5), seed=1)
    row = table2(store).set_index("feature").loc["h0_mean_lifespan"]
    # In order 1 1.5 2 2.5 (3) 3.5 (4) (4.5), right in brackets: one wrong value above a right one.
    assert (row.u, row.n, row.n_wrong, row.n_right, row.n_runs) == (1, 8, 5, 3, 2)
    assert row.rho == pytest.approx(rho_from_u(1, 5, 3))
    assert row.rho == pytest.approx(math.sqrt(45 / 63) * 13 / 15)


def test_table2_has_the_paper_beside_and_says_why_a_statistic_is_missing(store):
    stored(store)  # never right; forty distinct points at every check
    table, printed = table2(store), reported("table2")
    ours = table[[f"{column}_paper" for column in ("rho", "rho_p", "u", "u_p")]]
    pd.testing.assert_frame_equal(
        ours.set_axis(["rho", "rho_p", "u", "u_p"], axis=1), printed.drop(columns="feature")
    )
    reason = table.set_index("feature").reason
    assert reason.index.tolist() == printed.feature.tolist()
    assert "no snapshot is right" in reason.h1_count
    assert "the feature is constant" in reason.h0_count


def test_table2_accuracy_is_a_share_and_right_means_all(store):
    right = [[False, False], [True, False], [True, True], [True, True]]
    often = {"epochs": 6, "snapshot_every": 2}
    stored(store, right=right, topology=lifespans(1, 2, 3, 4), **often, **TWO)
    row = table2(store).set_index("feature").loc["h0_mean_lifespan"]
    assert (row.n_wrong, row.n_right) == (2, 2)
    # Ranks 1 2 3 4 against 1 2 3.5 3.5: rho = 4.5 / sqrt(5 * 4.5).
    assert row.rho == pytest.approx(4.5 / math.sqrt(22.5))


def test_table2_reads_sets_only_where_the_plan_asks_every_problem(store):
    """Between two snapshots a check of all right answers is known whole, a wrong one is not."""
    asked = [[False, True], [False], [True, True], [True, True], [True, True]]  # at 0, 2, 4, 6, 8
    rising = lifespans(1, 20, 3, 30, 5)
    stored(store, right=asked, topology=rising, snapshot_every=4, **TWO)
    accuracy = load_accuracy(store).set_index("epoch")
    np.testing.assert_array_equal(accuracy.accuracy, [0.5, math.nan, 1, 1, 1])
    assert accuracy.asks_all.tolist() == [True, False, True, False, True]
    row = table2(store).set_index("feature").loc["h0_mean_lifespan"]
    assert (row.n, row.n_wrong, row.n_right) == (3, 1, 2)
    assert row.rho == pytest.approx(math.sqrt(3) / 2)  # ranks 1 2 3 against 1 2.5 2.5
    over_runs = table2_runs(store).set_index("feature").loc["h0_mean_lifespan"]
    assert (over_runs.n, over_runs.rho) == (3, pytest.approx(row.rho))
    evidence = evidence_of(store, "tuned")
    assert pooled_rhos(evidence, "h0_mean_lifespan")[1] == pytest.approx(row.rho)
    assert table2(store, groups="halves").n.unique().tolist() == [4]


def test_table2_halves_leave_out_the_middle_check(store):
    stored(store, topology=lifespans(1, 2, 100, 3, 4))  # five checks, never right
    row = table2(store, groups="halves").set_index("feature").loc["h0_mean_lifespan"]
    assert (row.n, row.n_wrong, row.n_right, row.u) == (4, 2, 2, 0)
    assert row.rho == pytest.approx(math.sqrt(12 / 15))


def test_table2_pools_plain_runs_at_the_defaults_once(store):
    stored(store, epochs=8, solved=4)
    stored(store, epochs=4, solved=4)  # the same run, stopped earlier
    stored(store, method="tsloss", solved=2)
    stored(store, protocol="paper")
    stored(store, n_tokens=8)
    table = table2(store)
    assert (table.n_runs.unique().tolist(), table.n.unique().tolist()) == ([1], [5])
    assert table2(store, protocol="paper").n_runs.unique().tolist() == [1]
    with pytest.raises(InputError, match=r"groups = 'thirds'.*answers, halves"):
        table2(store, groups="thirds")


def test_table2_over_runs_has_both_tests_beside_the_snapshots(store):
    """Eight problems: those solved early are those whose cloud spreads early."""
    for k in range(8):
        rising = [1, 5, 6, 7, 8] if k < 4 else [1, 2, 3, 4, 5]
        topology = lifespans(*[value + 0.1 * k for value in rising])
        stored(store, topology=topology, solved=2 if k < 4 else None, **problem(k))
    table = table2_runs(store).set_index("feature")
    row = table.loc["h0_mean_lifespan"]
    assert (row.n, row.blocks, row.units) == (40, 8, 8)
    assert row.rho == row.rho_blocks > row.rho_high > row.shuffled > row.rho_low
    assert row.p_blocks < 0.06  # 2 of 70 ways to choose four of eight, two-sided
    assert row.rho_units == pytest.approx(0.873, abs=1e-3)
    assert row.low < row.rho_units < row.high
    assert row.p_units < 0.05
    assert row.rho == pytest.approx(table2(store).set_index("feature").rho["h0_mean_lifespan"])
    assert {"h0_mean_lifespan_scaled", "h1_mean_lifespan_scaled"} <= set(table.index)
    assert math.isnan(table.rho["h0_count"])
    stored(store, topology=topology, solved=2, contents=("alone",), task="mmlu_cf")
    again = table2_runs(store).set_index("feature").loc["h0_mean_lifespan"]
    assert (again.n, again.blocks, again.rho_blocks) == (45, 8, row.rho_blocks)
    assert again.rho != again.rho_blocks  # it has none to exchange with


def test_table2_reads_one_model_since_two_would_repeat_problems(store):
    for k in range(3):
        stored(store, topology=lifespans(1, 2, 3, 4, 5), solved=4, **problem(k))
    other = {"model": "gemma-3-270m", "topology": lifespans(1, 2, 3, 4, 5), "solved": 4}
    for k in range(2):
        stored(store, **other, **problem(k))
    assert set(table2(store).n_runs) == set(table2_runs(store).blocks) == {3}
    for k in range(2):  # now the other model has the most runs, and decides
        stored(store, method="tsloss", **other, **problem(k))
    assert set(table2(store).n_runs) == set(table2_runs(store).blocks) == {2}


# Table 3 -------------------------------------------------------------------------------------


def test_pairs_hold_the_iterations_of_both_sides(store):
    standard, treated = pair(store, standard=6, tsloss=4, problem=3, seed=2)
    [row] = pairs(store).itertuples()
    assert (row.ids_standard, row.ids_tsloss) == ((standard,), (treated,))
    assert (row.standard, row.tsloss, row.sustained_standard, row.sustained_tsloss) == (6, 4, 6, 4)
    assert (row.length, row.problem, row.seeds, row.solved_at_start) == (8, 3, (2,), False)
    assert row.origin == "own"


def test_pairs_differ_in_tsloss_alone(store):
    stored(store, solved=4)
    other = [{"seed": 1}, {"contents": ("two",)}, {"n_tokens": 8}, {"placement": "prefix"}]
    other += [{"protocol": "paper"}, {"task": "bbh"}, {"model": "tiny-llama"}, {"lr": 0.5}]
    other += [{"lambda_ts": 0.1}, {"tau": 1.0}, {"clip_norm": 1.0}]
    for fields in other:
        stored(store, method="tsloss", solved=2, **fields)
    assert pairs(store).empty
    stored(store, method="tsloss", solved=2, problem=5)  # the same problem in another file
    assert len(pairs(store)) == 1


@pytest.mark.parametrize(
    ("solved", "cells"),
    [
        ([(4, 2), (6, None), (8, 4)], ["6", "4", "3"]),  # of 2, 4 and never
        ([(2, None), (None, None)], [">5", ">8", "2"]),  # of 2 and more than 8
        ([(4, 2), (0, 0), (8, 4)], ["6", "3", "2 +1 at start"]),  # one was right already
        ([(0, 0)], ["–", "–", "0 +1 at start"]),
    ],
)
def test_table3_has_the_median_over_problems_or_its_lower_bound(store, solved, cells):
    problems(store, solved)
    pair(store, standard=None, tsloss=6, task="math", **TEN)
    table = table3(store)
    ours = table.loc["here"].loc["smollm2-135m-instruct"]
    assert ours.index.tolist() == ["Standard", "+TSLoss", "units"]
    assert ours[("single", "GSM8K")].tolist() == cells
    assert ours[("multi", "MATH")].tolist() == [">8", "6", "1"]
    assert ours[("multi", "GSM8K")].tolist() == ["–", "–", "–"]
    tasks = ["GSM8K", "MMLU-CF", "LongBench", "MATH"]
    assert list(table) == [(regime, task) for regime in ("single", "multi") for task in tasks]
    assert table.loc[("paper", "Gemma-2B-IT", "Standard"), ("multi", "MATH")] == "–"


def test_table3_prints_what_the_paper_prints(store):
    pair(store, standard=4, tsloss=2)
    paper = table3(store).loc["paper"]
    titles = {"gemma-2b-it": "Gemma-2B-IT", "deepseek-7b-chat": "DeepSeek-7B-Chat"}
    titles |= {"open-llama-7b": "Open-LLaMA-7B"}
    for row in reported("table3").itertuples():
        shown = paper.loc[(titles[row.model], METHOD_NAMES[row.method])]
        assert shown[row.regime, TASK_NAMES[row.task]] == str(row.iterations)
    assert paper.loc[("Gemma-2B-IT", "Standard"), ("single", "GSM8K")] == "154"
    assert paper.index.unique("model").tolist() == list(titles.values())
    assert len(paper) == 6


def test_table3_is_tested_cell_by_cell(store):
    problems(store, [(8, 4)] * 6)
    problems(store, [(4, 4), (None, None), (0, 0), (4, 8)], task="mmlu_cf")
    table = table3_tests(store).set_index("task")
    easy, other, every = table.loc["gsm8k"], table.loc["mmlu_cf"], table.iloc[-1]
    counts = ["n", "wins", "ties", "losses", "never", "at_start"]
    tests = ["p", "p_holm", "p_rank", "p_rank_holm"]
    assert easy[counts].tolist() == [6, 6, 0, 0, 0, 0]
    assert easy.ratio == 0.5
    assert easy[tests].tolist() == pytest.approx([2 / 64] * 4)  # the other cell has no test
    assert easy.shows == pytest.approx(0.8 ** (1 / 6), abs=0.001)  # all six have to be wins
    assert other[counts].tolist() == [3, 0, 2, 1, 1, 1]
    assert other[["shows", *tests]].isna().all()
    assert (every.model, every.n, every.wins, every.losses) == ("all", 9, 6, 1)
    assert math.isnan(every.p_holm)  # no cell of the family


def test_what_is_lost_again_is_tested_apart(store):
    """Right at 2 in all; without TSLoss wrong once more at 6."""
    for k in range(6):
        stored(store, right=[[epoch in (2, 4, 8)] for epoch in range(0, 9, 2)], **problem(k))
        stored(store, method="tsloss", solved=2, **problem(k))
    first, sustained = (table3_tests(store, sustained=stays).iloc[0] for stays in (False, True))
    assert (first.ties, first.wins, first.ratio) == (6, 0, 1)
    assert (sustained.ties, sustained.wins, sustained.ratio) == (0, 6, 0.25)


# Table 4 -------------------------------------------------------------------------------------


def test_table4_has_the_paper_beside_each_weight(store):
    for k in range(6):
        pair(store, standard=6, tsloss=2, **problem(k))
        for weight, solved in ((0.1, 6), (0.5, 4), (10.0, None)):
            stored(store, method="tsloss", lambda_ts=weight, solved=solved, **problem(k))
    stored(store, solved=2, **problem(9))  # without the other weights
    assert table4(store, model="another").n.isna().all()
    table = table4(store).set_index("lambda_ts")
    assert table.paper.tolist()[:4] == [154, 130, 112, 88]
    assert table.n.tolist() == [6] * 5
    assert table.iterations.tolist() == [6, 6, 4, 2, 8]
    assert table.censored.tolist() == [False, False, False, False, True]
    assert table.wins.tolist()[1:] == [0, 6, 6, 0]
    assert table.p[1.0] == pytest.approx(2 / 64)


# Claims and overview -------------------------------------------------------------------------


def test_a_chapter_shows_its_claims_in_its_order(store):
    problems(store, [(8, 4)] * 20)
    ids = ["lambda-monotone", "tsloss-fewer-iterations"]
    table = chapter_claims(store, ids)
    assert table.index.tolist() == ids
    assert table.columns.tolist() == ["claimed", "measured", "verdict", "units", "effect"]
    assert "`tsp sweep table4 --profile full`" in table.measured.iloc[0]
    assert (table.verdict.iloc[1], table.units.iloc[1]) == ("reproduced", 20)
    named = "median ratio of iterations: 0.50 (0.50 to 0.50); printed 0.667"
    assert table.effect.tolist() == ["–", named]


def test_a_chapter_names_an_unusual_protocol(store):
    problems(store, [(8, 8)] * 7)
    problems(store, [(8, 8)] * 7, protocol="paper", epochs=300, lr=5e-5)
    table = chapter_claims(store, ["density-minimal", "h1-count-falls"])
    named = table.measured.str.startswith("under protocol paper: ")
    assert named.tolist() == [True, False]


def test_an_effect_that_decides_nothing_names_its_epochs():
    numbers = {"effect": 0.1, "low": float("nan"), "high": float("nan"), "printed": float("nan")}
    assert effect(numbers | {"verdict": "inconclusive"}) == "0.10"
    assert effect(numbers | {"verdict": "not tested here"}) == "0.10 over 100 epochs"


def test_claims_elsewhere_are_those_of_other_protocols_lengths_and_models(store):
    problems(store, [(8, 8)] * 7)
    assert claims_elsewhere(store).empty  # the usual conditions are not among the others
    problems(store, [(8, 8)] * 3, protocol="paper", epochs=300, lr=5e-5)
    problems(store, [(8, 8)] * 3, model="gemma-3-270m")
    table = claims_elsewhere(store)
    assert list(table) == ["paper, 300 epochs", "gemma-3-270m"]
    effective = table.loc["With TSLoss, prompts still learn to solve their problems."]
    assert set(effective) == {"inconclusive (3)"}


def test_a_claim_decided_under_other_conditions_keeps_its_verdict_under_the_usual_ones(store):
    problems(store, [(8, 8)] * 7, epochs=100)
    usual = claims_elsewhere(store)["tuned, 100 epochs"]
    others = {
        claim.statement for claim in CLAIMS if (claim.protocol, claim.length) != ("tuned", 100)
    }
    assert set(usual.index[usual != ""]) <= others
    assert usual["Persistence entropy falls rapidly at first and then stabilises."].endswith("(7)")


def test_trained_counts_runs_and_problems(store):
    problems(store, [(4, 2), (6, None)], seconds=30)
    stored(store, seed=1, epochs=20, contents=("p0",), seconds=60)
    stored(store, protocol="paper", **TEN)
    single, multi = trained(store).to_dict("records")
    assert single["methods"] == "Standard, +TSLoss"
    assert (single["problems"], single["runs"], single["solved"]) == (2, 5, 3)
    assert (single["epochs"], single["minutes"]) == (20, 3)
    assert (multi["protocol"], multi["problems"], multi["runs"]) == ("paper", 10, 1)


def test_headline_fits_a_terminal(store):
    problems(store, [(4, 2), (6, None), (0, 0)])
    pair(store, standard=None, tsloss=6, task="hotpotqa", **TEN)
    text = headline(store)
    assert max(map(len, text.splitlines())) <= 80
    words = [line.split() for line in text.splitlines()]
    printed = ["154", "→", "88", "8", "→", "6", "12", "→", "10"]
    assert ["single", "GSM8K", "2", "+1", "5", "→", ">5", *printed] in words
    assert ["multi", "HotpotQA", "1", ">8", "→", "6", "–", "–", "–"] in words
    assert ["tuned", "single", "GSM8K", "3", "6", "8", "5", "6.0"] in words
    assert "right before training" in " ".join(text.split())
    assert f"{(claims(store).verdict == 'inconclusive').sum()} inconclusive" in text


def test_an_empty_store_or_protocol_gives_empty_tables_with_their_columns(store):
    assert list(table2(store)) == list(TABLE2_COLUMNS)
    assert table3(store).columns[0] == ("single", "GSM8K")
    assert table4(store).paper.tolist()[:4] == [154, 130, 112, 88]
    assert table4(store).n.isna().all()
    assert load_losses(store).empty
    assert load_topology(store).empty
    verdicts = claims(store).set_index("id").verdict.drop("variances-equal")
    assert verdicts.isin(["not tested here", "true by definition"]).all()
    assert trained(store).empty
    assert "tsp sweep" in headline(store)
    tables = (table2, table2_runs, table3, table3_tests, pairs, convergence)
    assert all(table(store).empty for table in tables)
    pair(store, standard=4, tsloss=2)
    assert not any(table(store).empty for table in tables)
    assert all(table(store, protocol="released").empty for table in tables)


def test_tables_of_runs_that_were_really_trained(smoke):
    both = pairs(smoke)
    assert both.groupby("model").size().to_dict() == {"tiny-gemma3": 1, "tiny-llama": 5}
    assert len(pairs(smoke, protocol="paper")) == 2
    assert table3(smoke).loc[("here", "tiny-llama", "units")].tolist()[:2] == ["1", "2"]
    assert table2(smoke, groups="halves").n_runs.unique().tolist() == [9]
    assert trained(smoke).runs.sum() == len(smoke.ids())
