"""The bank's attention: equal to plain attention over the whole sequence, shared, never copied."""

import math
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

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
    """Set the float32 scores of a piece, and the keys left to torch's kernel or kept."""
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
    told = torch.tensor(coded.target)
    return torch.nn.functional.cross_entropy(logits, told, reduction="sum"), logits


def assert_equal_to_recomputation(frozen, rows):
    weights = torch.linspace(0.5, 2.0, len(rows), dtype=rows[0].prompt.dtype)
    prompts = [row.prompt for row in rows]
    found = forward_rows(frozen, rows).losses
    wanted = torch.stack([recomputed(frozen, row)[0] for row in rows])
    told = {"rtol": EXACT[frozen.dtype], "atol": 0.0}
    torch.testing.assert_close(found, wanted, **told)
    ours = torch.autograd.grad((found * weights).sum(), prompts)
    theirs = torch.autograd.grad((wanted * weights).sum(), prompts)
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine - its).norm() <= EXACT[frozen.dtype] * its.norm()


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
@pytest.mark.parametrize(("piece", "kept"), [(1, 30), (600, 0), (4000, 10**6)])
def test_cutting_rows_changes_nothing(name, piece, kept, tiny):
    """Whether weights are kept for the backward pass, computed again, or some of them."""
    frozen = tiny(name, torch.float64)
    with limits(piece=piece, kept=kept):
        assert_equal_to_recomputation(frozen, made_rows(frozen, MIXED, seed=1))


@pytest.mark.parametrize("name", sorted(TINY))
def test_rows_without_a_context_equal_full_recomputation_whichever_kernel_is_used(name, tiny):
    frozen = tiny(name, torch.float64)
    rows = made_rows(frozen, MIXED, budget=0)  # every context is read with the pass
    assert not any(row.context for row in rows)
    for long in (1, 10**6):
        with limits(long=long):
            assert_equal_to_recomputation(frozen, rows)


def test_a_context_that_torchs_kernel_reads_is_the_same(tiny):
    """With the window of Gemma 3, which the kernel gets as a mask."""
    frozen = tiny("tiny-gemma3", torch.float64)
    with limits(long=1):
        assert_equal_to_recomputation(frozen, made_rows(frozen, [(40, 3, 2, 4)] * 2))


def test_a_context_of_the_real_model(smollm):
    with limits(long=64):  # torch's own kernel reads it
        rows = made_rows(smollm, [(80, 8, 5, 6), (80, 3, 5, 4)], scale=0.02)
        assert rows[0].context.length > attention.LONG
        assert_equal_to_recomputation(smollm, rows)


# The function itself, against attention over concatenated keys with the mask written out.


@st.composite
def situations(draw):
    """Rows of a few contexts and none, in any order, with any window and any cutting."""
    contexts = draw(st.lists(st.sampled_from([None, 1, 3, 11, 20]), min_size=1, max_size=6))
    case = {
        "contexts": sorted(contexts, key=str),
        "heads": draw(st.sampled_from([1, 2])),
        "group": draw(st.sampled_from([1, 3])),
        "queries": draw(st.integers(1, 9)),
        "window": draw(st.sampled_from([None, 2, 4, 9, 64])),
        "piece": draw(st.sampled_from([1, 50, 400, 10**6])),
        "long": draw(st.sampled_from([1, 10**6])),
        "kept": draw(st.sampled_from([0, 12, 10**6])),
        "slots": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }
    return SimpleNamespace(**case)


class Case:
    """Random tensors of a situation; with slots, each row goes on behind tokens of its own."""

    def __init__(self, told):
        self.told, D = told, 4
        self.generator = torch.Generator().manual_seed(told.seed)
        B, q, heads = len(told.contexts), told.queries, told.heads
        self.query = self.draw(B, heads * told.group, q, D).requires_grad_()
        self.key = self.draw(B, heads, q, D).requires_grad_()
        self.value = self.draw(B, heads, q, D).requires_grad_()
        held = {size: self.pair(heads, size, D) for size in set(told.contexts) if size}
        kept = {size: self.seen(pair) for size, pair in held.items()}
        shared = {size: Context(size, {torch.float64: [kept[size]]}) for size in held}
        self.held = [held.get(size) for size in told.contexts]
        self.contexts = [shared.get(size) for size in told.contexts]
        self.filled = torch.zeros(B, dtype=torch.long)
        self.own = None
        if told.slots:
            self.filled = torch.randint(0, 7, (B,), generator=self.generator)
            self.own = [self.pair(heads, B, 7 + q + 2, D)]
        self.before = None if self.own is None else tuple(x.clone() for x in self.own[0])

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def pair(self, *shape):
        return self.draw(*shape), self.draw(*shape)

    def seen(self, pair):
        """What a layer with a window holds of a context."""
        window = self.told.window
        return tuple(x[:, max(0, x.shape[1] - window + 1) :] if window else x for x in pair)

    def places(self):
        step = torch.arange(self.told.queries)[None]
        return self.filled[:, None] + step if self.told.slots else step

    def bank(self):
        """By the function under test."""
        module, mask = SimpleNamespace(layer_idx=0), None
        told = {"scaling": 0.7, "sliding_window": self.told.window}
        layout = BatchLayout(self.contexts, self.places(), cache=self.own)
        return attend(module, self.query, self.key, self.value, mask, layout=layout, **told)[0]

    def one_by_one(self):
        """By the definition: a row's keys in one line, and which of them each query sees."""
        rows = []
        for b, held in enumerate(self.held):
            keys, values = self.key[b], self.value[b]  # (heads, q, D)
            for parts in (self.before, held):
                if parts is not None:
                    end = self.filled[b] if parts is self.before else None
                    parts = [x[:, b, :end] if parts is self.before else x for x in parts]
                    keys, values = (
                        torch.cat([a, x], 1) for a, x in zip(parts, (keys, values), strict=True)
                    )
            total, q = keys.shape[1], self.told.queries
            here = torch.arange(total - q, total)[:, None]
            there = torch.arange(total)[None]
            sees = (there <= here) & (there > here - (self.told.window or math.inf))
            keys, values = (x.repeat_interleave(self.told.group, 0) for x in (keys, values))
            scores = self.query[b] @ keys.transpose(1, 2) * 0.7
            rows.append(scores.masked_fill(~sees, -torch.inf).softmax(-1) @ values)
        return torch.stack(rows).transpose(1, 2)  # (B, q, H, D)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(situations())
def test_attention_equals_its_definition(told):
    case = Case(told)
    with limits(piece=told.piece, long=told.long, kept=told.kept):
        if told.slots:
            with torch.no_grad():
                torch.testing.assert_close(case.bank(), case.one_by_one(), rtol=1e-11, atol=1e-12)
            return
        found = case.bank()
        wanted = case.one_by_one()
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
        weights, leaves = case.draw(*found.shape), (case.query, case.key, case.value)
        ours = torch.autograd.grad((found * weights).sum(), leaves)
        theirs = torch.autograd.grad((wanted * weights).sum(), leaves)
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-11)


def test_backward_is_the_derivative_of_forward():
    """By finite differences, without another implementation: a context, a window, small pieces."""
    told = {"heads": 2, "group": 2, "queries": 4, "window": 4, "slots": False, "seed": 5}
    case = Case(SimpleNamespace(contexts=[6, 6, None], **told))

    def function(query, key, value):
        case.query, case.key, case.value = query, key, value
        return case.bank()

    with limits(piece=70, kept=5):
        torch.autograd.gradcheck(function, (case.query, case.key, case.value))


def test_a_window_of_one_token_sees_nothing_of_the_context():
    told = {"heads": 1, "group": 1, "queries": 2, "window": 1, "slots": False, "seed": 0}
    case = Case(SimpleNamespace(contexts=[3], **told))
    torch.testing.assert_close(case.bank(), case.one_by_one())


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


def test_rows_of_one_problem_hold_one_context(tiny):
    frozen = tiny()
    rows = made_rows(frozen, [(30, 4, 3, 5), (30, 2, 3, 5), (31, 4, 3, 5), (30, 4, 9, 1)])
    assert rows[0].context is rows[1].context is rows[3].context
    assert rows[2].context is not rows[0].context
    layout = BatchLayout([rows[i].context for i in (0, 1, 3, 2)], torch.arange(3)[None])
    pieces = layout.pieces(0, torch.empty(4, 4, 3, 8), 3)
    assert [piece for piece, _ in pieces] == [slice(0, 3), slice(3, 4)]
    for (_, shared), row in zip(pieces, (rows[0], rows[2]), strict=True):
        assert shared is row.context.layers[torch.float32][0]


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


def test_no_pass_copies_a_context_for_its_rows(tiny):
    """Not in training, not in decoding: with 16 rows, no keys are as large as two contexts."""
    frozen = tiny()
    rows = made_rows(frozen, [(3000, 2, 1, 2)] * 16)
    key = rows[0].context.layers[frozen.dtype][0][0]
    context = key.numel()
    with Largest(key.shape[-1]) as largest:
        reading = forward_rows(frozen, rows, choose=range(16), keep=True)
        torch.autograd.grad(reading.losses.sum(), [row.prompt for row in rows])
        assert 0 < largest.size < 2 * context
        cache = [(k.clone(), v.clone()) for k, v in reading.recorded]
        layout = BatchLayout([row.context for row in rows], torch.full((16, 1), 3), cache=cache)
        with torch.no_grad():
            frozen.forward(torch.ones(16, 1, frozen.dim), layout)
    assert largest.size < 2 * context


# The loaded model used as any other.


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_loaded_model_is_still_a_plain_one(name):
    """Left padding, a mask, a cache, sequences beyond Gemma 3's window: as with its own SDPA."""
    frozen = lively(name)
    assert frozen.model.config._attn_implementation == attention.NAME
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(3, 259, (3, 21), generator=generator)
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 6, 17)):
        ids[row, :padding], mask[row, :padding] = 0, 0

    def used(model):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            bare = model(input_ids=ids[:1]).logits
        told = {"max_new_tokens": 15, "do_sample": False}
        said = [model.generate(input_ids=ids, attention_mask=mask, **told)]
        said.append(model.generate(input_ids=ids[:1], use_cache=False, **told))
        return logits, bare, *said

    ours = used(frozen.model)
    with plain(frozen) as model:
        theirs = used(model)
    for mine, its in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-6)
    for mine, its in zip(ours[2:], theirs[2:], strict=True):
        assert torch.equal(mine, its)


def architecture(kind):
    """A tiny random model of an architecture that has no name here."""
    shape = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"sliding_window": 8} if kind == "mistral" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).double()
    model.eval().requires_grad_(False).set_attn_implementation(attention.NAME)
    return BaseLM(kind, model, None)


@pytest.mark.parametrize("kind", ["mistral", "qwen3"])
def test_other_supported_architectures_equal_full_recomputation(kind):
    frozen = architecture(kind)
    assert supports(frozen.model.config)
    assert_equal_to_recomputation(frozen, made_rows(frozen, MIXED))


def test_every_supported_architecture_is_tested(tiny):
    tested = {tiny(name).model.config.model_type for name in TINY} | {"mistral", "qwen3"}
    assert tested == set(attention.ARCHITECTURES)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, True),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, False),
        ({"layer_types": ["chunked_attention", "full_attention"]}, False),
        ({"attn_logit_softcapping": 50.0}, False),
        ({"final_logit_softcapping": 30.0}, False),
        ({"model_type": "granite"}, False),
    ],
)
def test_what_is_not_computed_here_is_not_supported(fields, fits):
    config = tiny_config("llama")
    for name, value in fields.items():
        object.__setattr__(config, name, value)
    assert supports(config) is fits
