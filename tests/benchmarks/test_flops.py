"""Operations, bytes and parts of a training step, counted by hand."""

import time

import pytest

from benchmarks import budget
from benchmarks.flops import arithmetic
from benchmarks.training import Side
from tests.conftest import problem, spec


def test_arithmetic_by_hand(tiny):
    frozen = tiny()
    one = problem("What?", "four")
    coded = frozen.encode(one.question, one.target)
    count = arithmetic(frozen, one, spec(n_tokens=5))
    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32  # two layers, last norm
    positions = 5 + len(coded.after) + len(coded.target) - 1
    assert count["own"] == positions
    assert count["all"] == len(coded.before) + positions + 1
    assert count["target"] == len(coded.target)
    every, before = count["all"], len(coded.before)
    # Pairs of query and key: among these positions, and with the context; layers of width 32.
    near, far = positions * (positions + 1) // 2, positions * before
    attention = 2 * 2 * 32 * (6 * near + 4 * far)
    linear = 4 * (weights * positions + 259 * 32 * count["target"])
    assert count["ours"] == pytest.approx((linear + attention) / 1e9)
    whole = 4 * (weights + 259 * 32) * every + 2 * 2 * 32 * 6 * every * (every + 1) // 2
    assert count["plain"] == pytest.approx(whole / 1e9)
    assert count["saved"] == pytest.approx(count["plain"] / count["ours"])


def test_a_window_meets_few_keys(tiny):
    """In Gemma 3's layers with a window of 8, a query meets itself and the seven before it."""
    frozen = tiny("tiny-gemma3")
    one = problem("What is it, and why? " * 3, "four of them")
    count = arithmetic(frozen, one, spec(n_tokens=5))
    coded = frozen.encode(one.question, one.target)
    before, positions = len(coded.before), count["own"]
    met = 0
    for layer in range(frozen.model.config.num_hidden_layers):
        window = frozen.window_of(layer) or 10**9
        for k in range(before, before + positions):
            for key in range(k + 1):
                met += (k - key < window) * (6 if key >= before else 4)
    config = frozen.model.config
    width = config.head_dim * config.num_attention_heads
    linear = count["layers"] + count["vocabulary"]
    assert count["ours"] - linear == pytest.approx(2 * width * met / 1e9)


def test_the_budget_of_a_step(tiny):
    """All operations have a part, and no time has two; some bytes are counted by hand."""
    specs = [spec(seed=k, n_tokens=5, method=("ce", "tsloss")[k]) for k in range(2)]
    one = problem("What?", "four")
    bank = Side(tiny(), "float32").bank(specs, [one])
    begin = time.perf_counter()
    seconds, formula = budget.measured(bank), budget.least(bank)
    assert sum(seconds.values()) <= time.perf_counter() - begin
    assert set(seconds) == set(formula) == set(budget.PARTS)
    assert min(seconds.values()) > 0
    count = arithmetic(bank.frozen, one, specs[0])
    pairwise = 2 * 12 * 5 * 5 * 32  # of TSLoss, which both runs record
    total = sum(part["operations"] for part in formula.values())
    assert total == pytest.approx(2e9 * count["ours"] + pairwise)
    positions, before = count["own"], count["all"] - count["own"] - 1
    assert formula["norms"]["bytes"] == 4 * 2 * 5 * 5 * positions * 32  # five norms, two runs
    layer = 4 * 32 + 2 * 32 + 2 * 16 + 3 * 64  # numbers in and out of a layer's projections
    moved = 2 * 2 * 2 * positions * layer + 2 * count["weights"]
    assert formula["projections"]["bytes"] == 4 * moved
    own = 2 * 4 * 2 * positions * (32 + 16)  # two runs, two layers: queries, keys and values
    assert formula["attention, products"]["bytes"] == 4 * (own + 4 * 2 * 16 * before)
    assert formula["optimiser"]["bytes"] == 2 * 4 * 7 * 5 * 32
