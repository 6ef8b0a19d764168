"""Contexts: keys and values of the tokens before the prompts, computed once, within a budget."""

import logging
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

import tsp.training.prefix_cache
from tests.conftest import PLAN, problem, spec
from tests.training.test_attention import WINDOW, plain
from tsp.training import attention
from tsp.training.models import TINY, tiny_config
from tsp.training.prefix_cache import PrefixCache, context_bytes, read_context
from tsp.training.trainer import train_bank

LONG, SHORT = tuple(range(3, 43)), tuple(range(50, 54))  # beyond Gemma 3's window, and within
TWO = [[problem("What is two and two? " * 2, "four")], [problem("Which colour is it?", "a blue")]]


@pytest.mark.parametrize("before", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_a_context_is_what_the_plain_models_cache_holds(name, before, tiny):
    frozen = tiny(name, torch.float64)
    context = read_context(frozen, before, dtypes=[torch.float64])
    cache = DynamicCache()  # without the model's configuration it keeps all of every layer
    with plain(frozen) as model, torch.no_grad():
        model(input_ids=torch.tensor([before]), past_key_values=cache, use_cache=True)
    assert context.length == len(before)
    for layer, (key, value) in enumerate(context.layers[torch.float64]):
        sliding = name == "tiny-gemma3" and layer == 0
        held = min(len(before), WINDOW - 1) if sliding else len(before)
        assert key.shape == value.shape == (2, held, 8)
        told = {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(key, cache.layers[layer].keys[0, :, -held:], **told)
        torch.testing.assert_close(value, cache.layers[layer].values[0, :, -held:], **told)
        assert not key.requires_grad


def test_a_context_is_computed_once_in_the_models_precision_and_rounded_to_others(tiny):
    frozen = tiny("tiny-gemma3")
    dtypes = [torch.float32, torch.bfloat16]
    context = PrefixCache(frozen, 10**9, dtypes=[*dtypes, torch.float32]).of(LONG)
    assert list(context.layers) == dtypes
    for wide, low in zip(*context.layers.values(), strict=True):
        for x, rounded in zip(wide, low, strict=True):
            assert x.dtype == torch.float32
            assert torch.equal(x.bfloat16(), rounded)


def test_the_bytes_that_are_counted_are_those_that_are_held(tiny):
    for name in TINY:
        for before in (LONG, SHORT):
            dtypes = [torch.float32, torch.bfloat16]
            context = read_context(tiny(name), before, dtypes=dtypes)
            parts = [x for layers in context.layers.values() for pair in layers for x in pair]
            held = sum(x.untyped_storage().nbytes() for x in parts)
            assert held == context_bytes(tiny(name), len(before), dtypes=dtypes)


def test_equal_tokens_are_read_once_and_no_tokens_are_no_context(tiny, monkeypatch):
    read, contexts = [], PrefixCache(tiny(), 10**9, dtypes=[torch.float32])
    real = tsp.training.prefix_cache.read_context

    def noted(frozen, before, *, dtypes):
        read.append(before)
        return real(frozen, before, dtypes=dtypes)

    monkeypatch.setattr(tsp.training.prefix_cache, "read_context", noted)
    first, other = contexts.of(LONG), contexts.of(SHORT)
    assert contexts.of(tuple(LONG)) is first is not other
    assert contexts.of(()) is None
    assert read == [LONG, SHORT]


# Beyond the budget.


def of_two(frozen):
    """Bytes of the first problem's context alone."""
    told = frozen.encode(TWO[0][0].question, TWO[0][0].target)
    return context_bytes(frozen, len(told.before), dtypes=[frozen.dtype])


@pytest.mark.parametrize("name", sorted(TINY))
def test_contexts_beyond_the_budget_are_recomputed_and_the_log_says_so(name, tiny, caplog):
    frozen = tiny(name, torch.float64)
    specs = [spec(model=name, epochs=3, check_every=1, seed=k) for k in range(4)]
    own = [TWO[k % 2] for k in range(4)]
    results = {}
    for held, budget in ((2, 10**9), (1, of_two(frozen)), (0, of_two(frozen) // 2)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="tsp"):
            results[held] = train_bank(
                specs, frozen, own, plan=replace(PLAN, context_budget=budget)
            )
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 2 - held  # once a problem, however many runs and passes
        assert all("tokens takes" in it and "read again with every pass" in it for it in told)
    for held in (0, 1):
        for few, all_ in zip(results[held], results[2], strict=True):
            assert few.checks == all_.checks
            for epoch, prompt in all_.prompts.items():
                torch.testing.assert_close(few.prompts[epoch], prompt, rtol=1e-10, atol=1e-12)
            for mine, its in zip(few.epochs, all_.epochs, strict=True):
                assert mine == pytest.approx(its, rel=1e-10, abs=1e-12)


def test_a_later_context_that_still_fits_is_held(tiny, caplog):
    frozen = tiny()
    contexts = PrefixCache(
        frozen, context_bytes(frozen, 20, dtypes=[torch.float32]), dtypes=[torch.float32]
    )
    with caplog.at_level(logging.WARNING, logger="tsp"):
        assert contexts.of(LONG) is None
        assert contexts.of(LONG) is None
        assert contexts.of(SHORT).length == 4
    assert len(caplog.records) == 1
    assert "a context of 40 tokens takes" in caplog.text
    assert contexts.used == context_bytes(frozen, 4, dtypes=[torch.float32]) <= contexts.budget


def test_a_window_holds_on_to_no_more_than_it_keeps(tiny):
    """With one key head the last tokens of all are a view that looks like a copy."""
    config = tiny_config("gemma3_text")
    config.num_key_value_heads = 1
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    model.set_attn_implementation(attention.NAME)
    frozen = replace(tiny("tiny-gemma3"), model=model)
    context = read_context(frozen, LONG, dtypes=[torch.float32])
    held = {
        x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()
        for pair in context.layers[torch.float32]
        for x in pair
    }
    assert sum(held.values()) == context_bytes(frozen, 40, dtypes=[torch.float32])
