"""Operations, bytes and shares of a training step, counted by hand."""

import pytest
import torch

from benchmarks.flops import arithmetic, traffic
from benchmarks.training import Side, shares
from tests.conftest import problem, spec
from tsp.training.memory import position_bytes


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
    assert count["ours"] - count["linear"] == pytest.approx(2 * width * met / 1e9)


def test_bytes_of_a_step_by_hand(tiny):
    frozen = tiny()
    one = problem("What?", "four")
    coded = frozen.encode(one.question, one.target)
    moved = traffic(frozen, one, spec(n_tokens=5), runs=3)
    table, layer = 259 * 32, 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    assert moved["weights"] == 2 * 4 * (2 * layer + 32 + table)
    assert moved["context"] == 2 * len(coded.before) * 2 * 2 * 16 * 4
    positions = 5 + len(coded.after) + len(coded.target) - 1
    assert moved["activations"] == 2 * 3 * positions * position_bytes(frozen, torch.float32)


def test_where_the_time_of_a_step_goes(tiny):
    specs = [spec(seed=k, method="ce") for k in range(2)]
    parts = shares(Side(tiny(), "float32").bank(specs, [problem("What?", "four")]))
    assert set(parts) == {"products", "attention", "rest"}
    assert sum(parts.values()) == pytest.approx(1)
    assert min(parts.values()) > 0
