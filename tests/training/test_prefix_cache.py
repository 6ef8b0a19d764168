"""Contexts: keys and values of the tokens before the prompts, computed once, within a budget."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from tests.conftest import PLAN, problem, spec
from tests.training.test_attention import WINDOW, plain
from tests.training.test_trainer import assert_equal_results
from tsp.training import attention
from tsp.training.models import TINY, tiny_config
from tsp.training.prefix_cache import PrefixCache, context_bytes, read_context
from tsp.training.trainer import train_bank

LONG, SHORT = tuple(range(3, 43)), tuple(range(50, 54))  # beyond Gemma 3's window, and within


def stored_bytes(context):
    """Bytes of the storages that a context's tensors are views of."""
    tensors = [x for layers in context.layers.values() for pair in layers for x in pair]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("before", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_a_context_is_what_the_plain_models_cache_holds(name, before, tiny):
    frozen = tiny(name, torch.float64)
    context = read_context(frozen, before, dtypes=[torch.float64, torch.bfloat16])
    cache = DynamicCache()  # without the model's configuration it keeps all of every layer
    with plain(frozen) as model, torch.no_grad():
        model(input_ids=torch.tensor([before]), past_key_values=cache, use_cache=True)
    assert context.length == len(before)
    for layer, (key, value) in enumerate(context.layers[torch.float64]):
        sliding = name == "tiny-gemma3" and layer == 0
        kept = min(len(before), WINDOW - 1) if sliding else len(before)
        expected = [getattr(cache.layers[layer], part)[0, :, -kept:] for part in ("keys", "values")]
        assert key.shape == (2, kept, 8)
        torch.testing.assert_close([key, value], expected, rtol=1e-10, atol=1e-12)
        assert not key.requires_grad
        rounded = (key.bfloat16(), value.bfloat16())
        torch.testing.assert_close(context.layers[torch.bfloat16][layer], rounded, rtol=0, atol=0)
    size = context_bytes(frozen, len(before), dtypes=[torch.float64, torch.bfloat16])
    assert stored_bytes(context) == size


def test_a_window_keeps_no_more_memory_than_its_tokens_take(tiny):
    """With one key head the last tokens of all are a view that looks like a copy."""
    config = tiny_config("gemma3_text")
    config.num_key_value_heads = 1
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    model.set_attn_implementation(attention.NAME)
    frozen = replace(tiny("tiny-gemma3"), model=model)
    context = read_context(frozen, LONG, dtypes=[torch.float32])
    assert stored_bytes(context) == context_bytes(frozen, 40, dtypes=[torch.float32])


def test_equal_tokens_are_read_once_while_the_budget_lasts(tiny, caplog):
    size = context_bytes(tiny(), 2 * len(SHORT), dtypes=[torch.float32])
    contexts = PrefixCache(tiny(), size, dtypes=[torch.float32, torch.float32])
    assert contexts.of(()) is None
    assert contexts.of(LONG) is contexts.of(LONG) is None
    first, other = contexts.of(SHORT), contexts.of(SHORT[::-1])
    assert contexts.of(tuple(SHORT)) is first is not other
    assert contexts.used == size
    assert PrefixCache(tiny(), 0, dtypes=[torch.float32]).of(SHORT) is None  # nothing is shared
    (record,) = caplog.records  # once a problem, however many passes
    assert "a context of 40 tokens takes" in record.getMessage()
    assert "read again with every pass" in record.getMessage()


@pytest.mark.parametrize("name", sorted(TINY))
def test_contexts_beyond_the_budget_are_recomputed_and_the_log_says_so(name, tiny, caplog):
    frozen = tiny(name, torch.float64)
    pair = [problem("What is two and two? " * 2, "four")], [problem("Which colour?", "a blue")]
    specs = [spec(model=name, epochs=3, check_every=1, seed=k) for k in range(4)]
    before = frozen.encode(pair[0][0].question, "four").before
    one = context_bytes(frozen, len(before), dtypes=[frozen.dtype])
    results = {}
    for contexts, budget in ((2, 10**9), (1, one), (0, one // 4)):
        caplog.clear()
        plan = replace(PLAN, context_budget=budget)
        results[contexts] = train_bank(specs, frozen, pair * 2, plan=plan)
        assert len(caplog.records) == 2 - contexts
    for contexts in (0, 1):
        for result, expected in zip(results[contexts], results[2], strict=True):
            assert_equal_results(result, expected, rtol=1e-10)
