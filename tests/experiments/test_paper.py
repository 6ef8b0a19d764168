"""The paper as data: every transcribed table satisfies something the paper itself implies."""

from dataclasses import asdict

import numpy as np
import pytest

from tsp.analysis.claims import CLAIMS
from tsp.analysis.verdicts import FAMILIES
from tsp.errors import InputError
from tsp.experiments.catalogue import EXPERIMENTS
from tsp.experiments.paper import MAIN_TASKS, PROTOCOLS, REPORTED, SYSTEMS, reported
from tsp.experiments.rules import RULES
from tsp.topology import SUMMARY_COLUMNS

GROUP = 73  # snapshots on either side of Table 2's test


@pytest.fixture(scope="module")
def table2():
    return reported("table2").set_index("feature")


@pytest.fixture(scope="module")
def table3():
    return reported("table3")


def test_table1_defines_each_symbol_once():
    meaning = reported("table1").set_index("symbol").meaning
    symbols = ["H_0", "H_1", "(b_i, d_i)", "l_i", "L", "PE", r"\epsilon", r"\partial_k"]
    assert meaning.index.tolist() == [f"${symbol}$" for symbol in symbols]
    assert "d_i - b_i" in meaning["$l_i$"]
    assert r"\sum_i l_i" in meaning["$L$"]
    assert r"-\sum_i \frac{l_i}{L} \log \frac{l_i}{L}" in meaning["$PE$"]


def test_table2_is_about_summaries_of_which_the_h0_count_is_constant(table2):
    row = table2.loc["h0_count"]
    assert row[["rho", "rho_p"]].isna().all()
    assert (row.u, row.u_p) == (GROUP**2 / 2, 1.0)
    assert set(table2.index) <= set(SUMMARY_COLUMNS)


def test_table3_has_every_cell_once(table3):
    keys = ["model", "method", "regime", "task"]
    assert len(table3) == 3 * 2 * 2 * 3
    assert not table3.duplicated(keys).any()
    assert set(table3.model) == {system.name for system in SYSTEMS if system.table3}
    assert set(table3.task) == set(MAIN_TASKS)
    assert set(table3.method) == {"ce", "tsloss"}


def test_table3_adds_up_and_counts_checks_of_training(table3):
    rows = table3.groupby(["model", "method"], sort=False).iterations.sum()
    columns = table3.groupby(["regime", "task"], sort=False).iterations.sum()
    assert rows.tolist() == [78, 62, 58, 44, 412, 236]  # summed from print, apart from the file
    assert columns.tolist() == [278, 24, 36, 210, 48, 294]
    assert (table3.iterations % PROTOCOLS["paper"].check_every == 0).all()
    assert table3.iterations.between(2, PROTOCOLS["paper"].epochs).all()


def test_table3_savings_are_those_of_the_text(table3):
    wide = table3.pivot(index=["model", "regime", "task"], columns="method", values="iterations")
    assert (wide.tsloss <= wide.ce).all()
    ties = wide.index[wide.tsloss == wide.ce]
    assert list(ties) == [("deepseek-7b-chat", "single", "mmlu_cf")]
    ratio = wide.tsloss / wide.ce
    assert (wide.ce - wide.tsloss).idxmax() == ("gemma-2b-it", "single", "gsm8k")
    assert ratio["gemma-2b-it"].idxmin() == ("multi", "gsm8k")


def test_table4_falls_in_even_steps_and_ends_in_never():
    table4 = reported("table4")
    assert table4.lambda_ts.tolist() == [0, 0.1, 0.5, 1, 10]
    converged = table4.iterations[:4]
    assert (converged.diff().dropna() < 0).all()
    assert (converged % 2 == 0).all()
    assert np.isnan(table4.iterations[4])


def test_another_table_is_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"table = 'table5': one of table1, .*table4"):
        reported("table5")
    assert all(len(reported(name)) for name in REPORTED)


def test_paper_protocol_is_section_4_2_and_tuned_has_another_learning_rate():
    printed = {"optimizer": "adamw", "lr": 5e-5, "betas": (0.9, 0.98), "eps": 1e-8}
    printed |= {"weight_decay": 0.01, "schedule": "linear", "warmup_fraction": 0.1}
    printed |= {"epochs": 300, "batch_size": 8, "init": "gaussian", "init_std": 0.02}
    printed |= {"topology_every": 20}
    protocol = asdict(PROTOCOLS["paper"])
    assert protocol | printed == protocol
    assert asdict(PROTOCOLS["tuned"]) == protocol | {"name": "tuned", "lr": 1e-2}


def test_released_is_what_the_public_code_does():
    released = PROTOCOLS["released"]
    public = {"optimizer": "adam", "lr": 5e-6, "weight_decay": 0.0, "eps": 1e-6, "epochs": 300}
    public |= {"init": "repeated", "position_code": True, "end_token": False, "n_tokens": 40}
    public |= {"schedule": "constant", "check_every": 2}
    assert asdict(released) | public == asdict(released)


def test_claims_are_distinct_and_complete():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids) >= 15
    for claim in CLAIMS:
        assert claim.source
        assert claim.family in FAMILIES
        assert claim.statement.endswith(".")
        assert claim.rule.startswith(f"Unit: {claim.unit}. Effect: {claim.estimand}. ")
        assert claim.rule.endswith(".")
        assert claim.protocol in PROTOCOLS


def test_every_experiment_that_decides_an_open_claim_has_its_rule_before_it_runs():
    assert set(RULES) == set(list(EXPERIMENTS)[list(EXPERIMENTS).index("paper-length") :])
    assert all(rule.endswith(".") for rule in RULES.values())
