"""The bank's attention: equal to plain attention over the whole sequence, with shared contexts."""

import math
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from tsp.training import attention
from tsp.training.attention import BatchLayout, Context, attend, supports
from tsp.training.base_lm import BaseLM, Encoded
from tsp.training.forward import TokenRow, forward_rows
from tsp.training.models import TINY, load, tiny_config
from tsp.training.prefix_cache import PrefixCache

WINDOW = 8  # of the tiny Gemma 3
EXACT = {torch.float64: 1e-10, torch.float32: 1e-4}
LOADED = (attention.PIECE_BYTES["cpu"] // 4, attention.LONG, attention.KEPT["cpu"])


@contextmanager
def plain(frozen):
    """The model as transformers has it: its own SDPA and nothing of this package."""
    frozen.model.set_attn_implementation("sdpa")
    try:
        yield frozen.model
    finally:
        frozen.model.set_attn_implementation(attention.NAME)


@contextmanager
def limits(*, piece=LOADED[0], long=LOADED[1], kept=LOADED[2]):
    """Set the float32 numbers of a piece, and the keys left to torch's kernel or kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(attention.PIECE_BYTES, "cpu", 4 * piece)
        patch.setattr(attention, "LONG", long)
        patch.setitem(attention.KEPT, "cpu", kept)
        yield


@cache
def lively(name, dtype=torch.float32):
    """A tiny model that says one thing after another.

    The tiny Gemmas repeat their last token, as its embedding outweighs all that the layers add;
    with small embeddings they do not.
    """
    frozen = load(name, device="cpu", dtype=dtype)
    if "gemma" in name:
        frozen.model.get_input_embeddings().weight.mul_(0.1)
    return frozen


def made_rows(frozen, sizes, *, budget=10**9, seed=0, scale=0.5):
    """Rows with random tokens; equal tokens before the prompt are one context.

    A size is (tokens before, prompt vectors, tokens after, target tokens).
    """
    generator = torch.Generator().manual_seed(seed)
    contexts = PrefixCache(frozen, budget, dtypes=[frozen.dtype])
    wide = torch.promote_types(frozen.dtype, torch.float32)
    befores = {}

    def ids(count):
        return tuple(torch.randint(3, 259, (count,), generator=generator).tolist())

    rows = []
    for before, n, after, target in sizes:
        befores.setdefault(before, ids(before))
        coded = Encoded(befores[before], ids(after), ids(target))
        prompt = torch.randn(n, frozen.dim, generator=generator, dtype=wide) * scale
        rows.append(TokenRow(prompt.requires_grad_(), coded, contexts.of(coded.before)))
    return rows


def recomputed(frozen, row):
    """Loss and logits of a row by the plain model: the whole sequence, no cache."""
    coded = row.encoded
    parts = [frozen.embed(coded.before), row.prompt.to(frozen.dtype)]
    parts.append(frozen.embed(coded.after + coded.target))
    with plain(frozen) as model:
        logits = model(inputs_embeds=torch.cat(parts)[None], use_cache=False).logits[0]
    logits = logits[-len(coded.target) - 1 : -1]
    targets = torch.tensor(coded.target)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum"), logits


def assert_near(ours, theirs, *, rtol):
    """Gradients differ by little of their length."""
    for gradient, expected in zip(ours, theirs, strict=True):
        assert (gradient - expected).norm() <= rtol * expected.norm()


def assert_equal_to_recomputation(frozen, rows):
    weights = torch.linspace(0.5, 2.0, len(rows), dtype=rows[0].prompt.dtype)
    prompts, rtol = [row.prompt for row in rows], EXACT[frozen.dtype]
    computed = forward_rows(frozen, rows).losses
    expected = torch.stack([recomputed(frozen, row)[0] for row in rows])
    torch.testing.assert_close(computed, expected, rtol=rtol, atol=0.0)
    ours, theirs = (torch.autograd.grad((x * weights).sum(), prompts) for x in (computed, expected))
    assert_near(ours, theirs, rtol=rtol)


# Contexts longer than Gemma 3's window, shorter, as long, one token, none; each next to another.
MIXED = [
    (40, 5, 4, 6),
    (40, 3, 4, 2),
    (5, 4, 2, 7),
    (0, 6, 3, 5),
    (0, 2, 12, 9),
    (WINDOW, 1, 3, 1),
    (WINDOW - 1, 2, 1, 3),
    (1, 2, 3, 4),
    (23, 12, 9, 3),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(TINY))
def test_loss_and_gradient_equal_full_recomputation(name, dtype, tiny):
    frozen = tiny(name, dtype)
    assert_equal_to_recomputation(frozen, made_rows(frozen, MIXED))


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize(("budget", "long"), [(0, 1), (0, 10**6), (10**9, 1)])
def test_contexts_are_read_once_or_with_every_pass_by_either_kernel(name, budget, long, tiny):
    frozen = tiny(name, torch.float64)
    with limits(long=long):
        rows = made_rows(frozen, MIXED, budget=budget)
        assert any(row.context for row in rows) == (budget > 0)
        assert_equal_to_recomputation(frozen, rows)


def test_a_context_of_the_real_model(smollm):
    with limits(long=64):  # torch's own kernel reads it
        rows = made_rows(smollm, [(80, 8, 5, 6), (80, 3, 5, 4)], scale=0.02)
        assert rows[0].context.length > attention.LONG
        assert_equal_to_recomputation(smollm, rows)


# The function itself, against attention over concatenated keys with the mask written out.


class Case:
    """Random tensors; with a cache, each row continues behind some tokens in it."""

    def __init__(self, contexts, *, heads, group, queries, window, cached, seed):
        self.group, self.queries, self.window, D = group, queries, window, 4
        self.generator = torch.Generator().manual_seed(seed)
        B = len(contexts)
        self.query = self.draw(B, heads * group, queries, D).requires_grad_()
        self.key = self.draw(B, heads, queries, D).requires_grad_()
        self.value = self.draw(B, heads, queries, D).requires_grad_()
        pairs = {size: self.pair(heads, size, D) for size in set(contexts) if size}
        shared = {size: self.context(size, pair) for size, pair in pairs.items()}
        self.pairs = [pairs.get(size) for size in contexts]
        self.contexts = [shared.get(size) for size in contexts]
        self.filled = torch.randint(0, 7, (B,), generator=self.generator)
        self.cache = self.pair(heads, B, 7 + queries + 2, D) if cached else None

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def pair(self, *shape):
        return self.draw(*shape), self.draw(*shape)

    def context(self, size, pair):
        """Of a context a layer with a window holds the last tokens."""
        start = max(0, size - self.window + 1) if self.window else 0
        return Context(size, {torch.float64: [tuple(x[:, start:] for x in pair)]})

    def computed(self):
        places, cache = torch.arange(self.queries)[None], None
        if self.cache:
            places, cache = self.filled[:, None] + places, [tuple(x.clone() for x in self.cache)]
        layout = BatchLayout(self.contexts, places, cache=cache)
        options = {"layout": layout, "scaling": 0.7, "sliding_window": self.window}
        module = SimpleNamespace(layer_idx=0)
        return attend(module, self.query, self.key, self.value, None, **options)[0]

    def expected(self):
        """By the definition: a row's keys in one line, and which of them each query sees."""
        rows = []
        for b, context in enumerate(self.pairs):
            parts = [context] if context else []
            if self.cache:
                parts.append([x[:, b, : self.filled[b]] for x in self.cache])
            parts.append((self.key[b], self.value[b]))
            keys, values = (
                torch.cat(x, 1).repeat_interleave(self.group, 0) for x in zip(*parts, strict=True)
            )
            ends = torch.arange(keys.shape[1])
            queries = ends[-self.queries :, None]
            sees = (ends <= queries) & (ends > queries - (self.window or math.inf))
            scores = self.query[b] @ keys.transpose(1, 2) * 0.7
            rows.append(scores.masked_fill(~sees, -torch.inf).softmax(-1) @ values)
        return torch.stack(rows).transpose(1, 2)  # (B, q, H, D)


SIZES = st.lists(st.sampled_from([None, 1, 3, 11, 20]), min_size=1, max_size=6)
CASES = st.builds(
    Case,
    SIZES.map(lambda sizes: sorted(sizes, key=str)) | st.lists(st.none(), min_size=1, max_size=3),
    heads=st.sampled_from([1, 2]),
    group=st.sampled_from([1, 3]),
    queries=st.integers(1, 9),
    window=st.sampled_from([None, 1, 2, 4, 9, 64]),
    cached=st.booleans(),
    seed=st.integers(0, 99),
)
LIMITS = st.fixed_dictionaries(
    {
        "piece": st.sampled_from([1, 50, 400, 10**6]),
        "long": st.sampled_from([1, 10**6]),
        "kept": st.sampled_from([0, 12, 10**6]),
    }
)


@settings(max_examples=150)
@given(CASES, LIMITS)
def test_attention_equals_its_definition(case, bounds):
    with limits(**bounds), torch.set_grad_enabled(not case.cache):
        computed, expected = case.computed(), case.expected()
        torch.testing.assert_close(computed, expected, rtol=1e-11, atol=1e-12)
        if case.cache:  # decoding needs no gradient
            return
        weights, leaves = case.draw(*computed.shape), (case.query, case.key, case.value)
        ours, theirs = (
            torch.autograd.grad((x * weights).sum(), leaves) for x in (computed, expected)
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


# Shared: no copy per run, and of the context no keys or values kept for backward.


def saved_bytes(frozen, rows):
    """Memory that autograd keeps between the passes."""
    storages = {}

    def pack(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        losses = forward_rows(frozen, rows).losses
    torch.autograd.grad(losses.sum(), [row.prompt for row in rows])
    return sum(storages.values()), set(storages)


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("kept", [0, 100])
def test_what_is_kept_for_backward_does_not_grow_with_the_context(name, kept, tiny):
    """But for the weights of few keys, and of those there is a bound."""
    frozen, sizes = tiny(name), []
    with limits(kept=kept):
        for length in (kept + 16, kept + 512):
            rows = made_rows(frozen, [(length, 4, 3, 5)] * 3)
            size, storages = saved_bytes(frozen, rows)
            sizes.append(size)
            context = rows[0].context.layers[frozen.dtype]
            assert storages.isdisjoint(x.untyped_storage().data_ptr() for x in sum(context, ()))
        assert sizes[0] == sizes[1] > 0
        few, _ = saved_bytes(frozen, made_rows(frozen, [(max(1, kept - 20), 4, 3, 5)] * 3))
    weights = 2 * 4 * 3 * rows[0].positions * kept * 4  # layers, heads, rows, queries, keys, bytes
    assert few <= sizes[0] + weights
    assert (few > sizes[0]) == (kept > 0)


def test_rows_of_one_context_are_one_piece_unless_they_need_much_room():
    a, b = (Context(5, {torch.float32: [(torch.zeros(2, 5, 8),) * 2]}) for _ in range(2))
    layout, query = BatchLayout([a, a, a, b, None], torch.arange(3)[None]), torch.zeros(5, 4, 3, 8)

    def pieces(numbers):
        with limits(piece=numbers):
            cut = layout.pieces(0, query, torch.zeros(2, 5, 3, 8))
            return [(rows, bool(shared)) for rows, shared in cut]

    row = 2 * (5 + 3) * (2 * 3 + 2 * 8)  # key heads, keys, queries beside keys' and values' width
    ends = [(slice(3, 4), True), (slice(4, 5), False)]
    assert pieces(3 * row) == [(slice(0, 3), True), *ends]
    assert pieces(3 * row - 1) == [(slice(0, 1), True), (slice(1, 3), True), *ends]
    layout.cache = []  # in decoding a context's rows meet it together
    assert pieces(1) == [(slice(0, 3), True), *ends]


class Largest(TorchDispatchMode):
    """Notes the largest tensor as wide as a key that any operation makes."""

    def __init__(self, width):
        super().__init__()
        self.size, self.width = 0, width

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor) and x.shape[-1:] == (self.width,):
                self.size = max(self.size, x.numel())
        return out


def test_no_pass_copies_a_context_for_all_its_rows(tiny):
    """Training copies as much as a piece may have, here one of two heads; decoding copies none."""
    frozen = tiny()
    rows = made_rows(frozen, [(3000, 2, 1, 2)] * 16)
    key = rows[0].context.layers[frozen.dtype][0][0]
    with Largest(key.shape[-1]) as largest, limits(piece=1):
        output = forward_rows(frozen, rows, choose=range(16), keep=True)
        torch.autograd.grad(output.losses.sum(), [row.prompt for row in rows])
    assert 0 < largest.size < key.numel()
    cache = [(key.clone(), value.clone()) for key, value in output.recorded]
    layout = BatchLayout([row.context for row in rows], torch.full((16, 1), 3), cache=cache)
    with Largest(key.shape[-1]) as largest, torch.no_grad():
        frozen.forward(torch.ones(16, 1, frozen.dim), layout)
    assert 0 < largest.size < key.numel()


# The loaded model used as any other.


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_loaded_model_is_still_a_plain_one(name):
    """Left padding, a mask, a cache, sequences beyond Gemma 3's window: as with its own SDPA."""
    frozen = lively(name)
    ids = torch.randint(3, 259, (3, 21), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 6, 17)):
        ids[row, :padding], mask[row, :padding] = 0, 0

    def used(model):
        options = {"max_new_tokens": 15, "do_sample": False}
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            bare = model(input_ids=ids[:1]).logits
        cached = model.generate(input_ids=ids, attention_mask=mask, **options)
        return logits, bare, cached, model.generate(ids[:1], use_cache=False, **options)

    assert frozen.model.config._attn_implementation == attention.NAME
    ours = used(frozen.model)
    with plain(frozen) as model:
        theirs = used(model)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["mistral", "qwen3"])
def test_other_supported_architectures_equal_full_recomputation(kind):
    config = tiny_config(kind)
    if kind == "mistral":
        config.sliding_window = 8
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)
    model.set_attn_implementation(attention.NAME)
    frozen = BaseLM(kind, model, None)
    assert supports(config)
    assert_equal_to_recomputation(frozen, made_rows(frozen, MIXED))


def test_every_supported_architecture_is_tested():
    assert {*TINY.values(), "mistral", "qwen3"} == set(attention.ARCHITECTURES)


@pytest.mark.parametrize(
    ("fields", "supported"),
    [
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, True),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, False),
        ({"layer_types": ["chunked_attention", "full_attention"]}, False),
        ({"attn_logit_softcapping": 50.0}, False),
        ({"final_logit_softcapping": 30.0}, False),
        ({"model_type": "granite"}, False),
    ],
)
def test_an_architecture_that_is_computed_differently_is_not_supported(fields, supported):
    config = tiny_config("llama")
    for name, value in fields.items():
        object.__setattr__(config, name, value)
    assert supports(config) is supported
