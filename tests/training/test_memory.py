"""The memory of a bank: by hand, against what autograd keeps and what the tensors really take."""

import math
import os
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.conftest import problem, spec
from tsp.training import attention, memory, models
from tsp.training.base_lm import Encoded
from tsp.training.members import encode_all
from tsp.training.memory import estimate, fitted, weight_bytes
from tsp.training.models import TINY
from tsp.training.prefix_cache import PrefixCache
from tsp.training.trainer import Plan, train_bank

WEIGHTS = 259 * 32 + 2 * (3072 + 3 * 32 * 64 + 2 * 32) + 32  # of tiny-llama: its head is tied
PLAN = Plan(token_budget=2048, threads=1)


def coded(before=30, after=5, target=20):
    return Encoded(tuple(range(before)), tuple(range(after)), tuple(range(target)))


def bank(frozen, runs, plan=PLAN, encoded=None, **options):
    return estimate(frozen, [spec()] * runs, [encoded or [coded()]] * runs, plan, **options)


@pytest.mark.parametrize("device", ["cpu", "meta"])  # where the head is no longer tied
def test_weights_count_once_and_once_more_in_a_lower_precision(device):
    frozen = models.load("tiny-llama", device=device)
    assert bank(frozen, 1, device="cpu").weights == 4 * WEIGHTS
    low = Plan(token_budget=2048, precision="bfloat16")
    assert bank(frozen, 1, low, device="cpu").weights == 6 * WEIGHTS
    assert weight_bytes(frozen, torch.float32) == 4 * WEIGHTS


@pytest.mark.parametrize(
    ("name", "tokens"), [("tiny-llama", 30 + 30), ("tiny-gemma3", 7 + 30)]
)  # a layer with a window of 8 keeps 7
def test_contexts_are_keys_and_values_of_every_layer(tiny, name, tokens):
    contexts = bank(tiny(name), 3).contexts  # shared by the runs
    assert contexts == 2 * tokens * 16 * 4
    kept = PrefixCache(tiny(name), 2**20, dtypes=[torch.float32])
    kept.of(coded().before)
    assert kept.used == contexts


def test_contexts_beyond_the_budget_are_read_with_every_pass(tiny):
    plan = Plan(token_budget=2048, context_budget=100)
    without, shared = bank(tiny(), 1, plan), bank(tiny(), 1)
    assert without.contexts == 0
    assert without.activations > shared.activations


def test_the_prompt_of_each_check_is_kept_on_a_cpu(tiny):
    """AdamW keeps five copies of 20 x 32 numbers; epochs 0, 2, 4, 6 and 7 are checked."""
    specs = [spec(n_tokens=20, epochs=7, check_every=2)]
    kept = [estimate(tiny(), specs, [[coded()]], PLAN, device=at).prompts for at in ("cpu", "cuda")]
    assert kept == [(5 + 5) * 20 * 32 * 4, 5 * 20 * 32 * 4]


class Live(TorchDispatchMode):
    """Bytes of the tensors that are alive, and the most there were."""

    def __init__(self):
        super().__init__()
        self.held, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def note(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.held:
            self.held[key] = weakref.ref(storage, lambda _: self.drop(key, size))
            self.now += size

    def drop(self, key, size):
        del self.held[key]
        self.now -= size


@pytest.mark.parametrize(
    ("name", "longest", "question", "answer", "largest", "kept"),
    [
        ("tiny-llama", 1, 500, "4" * 60, "activations", 4096),
        ("tiny-llama", 500, 9, "4", "answers", 4096),
        *((name, 1, 9, "4" * 60, "activations", 4096) for name in sorted(TINY)),
        *((name, 1, 60, "4" * 60, "activations", 100) for name in ("tiny-llama", "tiny-gemma3")),
    ],
)
def test_the_tensors_of_a_bank_take_what_was_estimated(
    tiny, monkeypatch, name, longest, question, answer, largest, kept
):
    """Weights towards more than ``kept`` keys are not kept, but those of sliding windows are."""
    monkeypatch.setattr(memory, "SPREAD", {})  # the allocator's part is not in the tensors
    monkeypatch.setitem(attention.KEPT, "cpu", kept)
    monkeypatch.setitem(attention.PIECE_BYTES, "cpu", 2**20)  # little beside what is kept
    frozen, problems = tiny(name), [problem("2+2=" * question, answer)]
    specs = [spec(model=name, seed=k, epochs=2, max_new_tokens=longest) for k in range(16)]
    encoded = [encode_all(specs[0], frozen, problems)] * 16
    memory_needed = estimate(frozen, specs, encoded, PLAN)
    with Live() as live:
        train_bank(specs, frozen, [problems] * 16, plan=PLAN)
    passing = max(memory_needed.activations, memory_needed.answers)
    assert getattr(memory_needed, largest) == passing > memory_needed.weights
    assert memory_needed.peak == pytest.approx(live.peak, rel=0.3)


def test_sliding_windows_keep_weights_behind_a_long_context(tiny, monkeypatch):
    frozen, problems = tiny("tiny-gemma3"), [problem("2+2=" * 60, "4" * 60)]
    encoded = [encode_all(spec(model="tiny-gemma3"), frozen, problems)]
    own = encoded[0][0].length(spec().n_tokens) - 1 - len(encoded[0][0].before)
    windows = [frozen.window_of(layer) for layer in range(frozen.model.config.num_hidden_layers)]
    sizes = []
    for kept in (0, 100):
        monkeypatch.setitem(attention.KEPT, "cpu", kept)
        sizes.append(estimate(frozen, [spec()], encoded, PLAN).activations / memory.SPREAD["cpu"])
    keys = sum(own + window - 1 for window in windows if window)
    heads = frozen.model.config.num_attention_heads
    assert keys > 0
    assert sizes[1] - sizes[0] == pytest.approx(4 * own * heads * keys, abs=2)


def test_the_token_budget_is_the_largest_that_fits(tiny):
    frozen = models.load("tiny-llama", device="meta")
    specs, encoded = [spec()] * 300, [[coded(target=23)]] * 300  # rows of 32 positions

    def chosen(free, device="cpu"):
        return fitted(PLAN, frozen, specs, encoded, device=device, free=free).token_budget

    for size in (512, 1024, 2048):
        context = fitted(PLAN, frozen, specs, encoded, device="cpu", free=2**30).context_budget
        plan = Plan(token_budget=size, threads=1, context_budget=context)
        free = math.ceil(estimate(frozen, specs, encoded, plan, device="cpu").peak / 0.8)
        assert chosen(free) == size
        assert chosen(free - 2) == size // 2
    assert chosen(1000) == 256  # the least
    assert chosen(2**40) == 4096
    assert chosen(2**40, "cuda") == 2**17


def test_contexts_may_take_a_quarter_of_what_the_weights_leave(tiny):
    def budget(frozen, free):
        return fitted(PLAN, frozen, [spec()], [[coded()]], device="cpu", free=free).context_budget

    hollow = models.load("tiny-llama", device="meta")
    assert budget(hollow, 4 * WEIGHTS + 4 * 2**20) == 2**20
    assert budget(models.load("tiny-llama", device="cpu"), 4 * 2**20) == 2**20  # they are loaded
    assert budget(hollow, 4 * WEIGHTS + 4 * 2**20 - 1) == 2**19
    assert budget(hollow, 1000) == 0


def test_free_memory_is_below_the_machines():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < memory.free_memory() < total


def test_a_containers_limit_counts(tmp_path):
    assert memory._container_memory(tmp_path) == 2**63
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\n")
    assert memory._container_memory(tmp_path) == 2**63
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._container_memory(tmp_path) == 600
