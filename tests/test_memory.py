"""The memory of a bank: counted by hand, by what torch holds, by what the process takes."""

import json
import logging
import math
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import gpu_capacity as cards
from benchmarks.gpu_capacity import fits
from tests.conftest import problem, spec
from tsp.errors import InputError
from tsp.training import budget, memory, models
from tsp.training.attention import KEPT
from tsp.training.budget import fitted
from tsp.training.forward import Row, run
from tsp.training.members import encode_all
from tsp.training.memory import outline, predict, saved_bytes
from tsp.training.models import Encoded
from tsp.training.prefix_cache import Contexts, context_bytes, read_context
from tsp.training.spec import RunSpec
from tsp.training.tiny_models import TINY, tiny_config
from tsp.training.trainer import Plan, train_bank

WEIGHTS = 259 * 32 + 2 * (3072 + 3 * 32 * 64 + 2 * 32) + 32  # of tiny-llama: its head is tied
PLAN = Plan(token_budget=2048, threads=1)


def coded(before=30, after=5, target=20):
    return Encoded(tuple(range(before)), tuple(range(after)), tuple(range(target)))


def bank(frozen, runs, plan=PLAN, told=None, encoded=None, **options):
    told, encoded = told or spec(), encoded or [coded()]
    return predict(frozen, [told] * runs, [encoded] * runs, plan, **options)


def test_weights_count_once_and_once_more_in_a_lower_precision(tiny):
    found = bank(tiny(), 1)
    assert found.weights == 4 * WEIGHTS
    low = Plan(token_budget=2048, precision="bfloat16")
    found = bank(outline(tiny_config("tiny-llama")), 1, low)
    assert found.weights == 6 * WEIGHTS
    frozen = models.load("tiny-llama", device="meta")  # where the head is no longer tied
    assert bank(frozen, 1).weights == 4 * WEIGHTS
    frozen = models.load("tiny-llama", device="cpu")
    assert budget.loaded_bytes(frozen) == 4 * WEIGHTS
    frozen.at(torch.bfloat16)
    assert budget.loaded_bytes(frozen) == 6 * WEIGHTS


@pytest.mark.parametrize(
    ("name", "tokens"), [("tiny-llama", 30 + 30), ("tiny-gemma3", 7 + 30)]
)  # a layer with a window of 8 keeps 7
def test_contexts_are_keys_and_values_of_every_layer(tiny, name, tokens):
    frozen = tiny(name)
    found = bank(frozen, 3)
    assert found.contexts == 2 * tokens * 16 * 4  # shared by the runs
    kept = Contexts(frozen, 2**20, dtypes=[torch.float32])
    kept.of(coded().before)
    assert kept.used == found.contexts
    other = Encoded(tuple(range(1, 31)), (), (1,))
    both = predict(frozen, [spec()] * 2, [[coded()], [other]], PLAN)
    assert both.contexts == 2 * found.contexts


def test_a_context_beyond_the_budget_is_read_with_every_pass(tiny):
    none = Plan(token_budget=2048, context_budget=100)
    without, found = bank(tiny(), 1, none), bank(tiny(), 1)
    assert without.contexts == without.reading == 0
    rows = (30 + 29, 29)  # own positions without and with a context: prompt 5, after 5, target - 1
    kept = [saved_bytes(tiny(), rows=1, own=own, context=59 - own) for own in rows]
    assert [without.activations_per_run, found.activations_per_run] == kept
    assert bank(tiny(), 1, none, device="cuda").contexts == found.contexts  # they come and go


def test_contexts_on_the_host_visit_within_the_budget(tiny):
    """Ten of them in two precisions: as many as fit are held, of the others a budget visits."""
    size = context_bytes(tiny(), 30, dtypes=[torch.float32])
    others = [[replace(coded(), before=(9 + k,) * 30)] for k in range(10)]
    low = Plan(precision="bfloat16", context_budget=int(3.5 * size))
    assert predict(tiny(), [spec()] * 10, others, low, device="cuda").contexts == (3 + 3) * size + (
        size // 2
    )
    few = replace(low, context_budget=size // 2)  # one at a time all the same
    assert predict(tiny(), [spec()] * 10, others, few, device="cuda").contexts == size
    none = replace(low, context_budget=0)
    assert predict(tiny(), [spec()] * 10, others, none, device="cuda").contexts == 0


def test_prompts_with_gradients_optimiser_and_those_of_the_checks(tiny):
    one = 5 * 32 * 4
    told = spec(epochs=5, check_every=2)  # checks 0, 2, 4, 5
    assert bank(tiny(), 3, told=told).prompts == 3 * (5 + 4) * one
    assert bank(tiny(), 3, told=told, device="cuda").prompts == 3 * 5 * one  # others on the host


def test_logits_of_a_chunk(tiny):
    hidden = 2 * 20 * 32 * 4
    assert bank(tiny(), 1).vocabulary == 20 * 259 * 2 * 4 + hidden
    assert bank(tiny(), 10).vocabulary == 128 * 259 * 2 * 4 + 10 * hidden
    low = bank(tiny(), 1, Plan(token_budget=2048, precision="bfloat16"))
    assert low.vocabulary == 20 * 259 * (2 * 4 + 2) + hidden // 2


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("own", "before"), [(40, 0), (40, 30), (40, 1000), (40, KEPT["cpu"]), (600, 0)]
)
def test_what_autograd_keeps_is_what_was_predicted(tiny, name, own, before):
    frozen = tiny(name)
    ids = tuple(k % 250 for k in range(before))
    context = read_context(frozen, ids, dtypes=[torch.float32]) if before else None
    encoded = Encoded(ids, tuple(range(5)), (1,) * (own - 9))
    rows = [Row(torch.zeros(5, 32, requires_grad=True), encoded, context) for _ in range(3)]
    kept = memory._kept_bytes(frozen, rows, torch.float32, "cpu")
    assert really_kept(frozen, rows) == pytest.approx(kept, rel=0.01)
    if own < 512:
        assert saved_bytes(frozen, rows=3, own=own, context=before) == pytest.approx(kept, rel=0.01)


@pytest.mark.parametrize(("own", "before"), [(40, 460), (40, 480), (40, 1000)])
def test_a_device_keeps_the_weights_of_so_many_keys(tiny, monkeypatch, own, before):
    """Other limits than a CPU's: as many bytes as a pass keeps with that limit on the CPU."""
    frozen, ids = tiny(), tuple(k % 250 for k in range(before))
    encoded = Encoded(ids, tuple(range(5)), (1,) * (own - 9))
    context = read_context(frozen, ids, dtypes=[torch.float32])
    rows = [Row(torch.zeros(5, 32, requires_grad=True), encoded, context) for _ in range(2)]
    cpu, card = (memory._kept_bytes(frozen, rows, torch.float32, kind) for kind in ("cpu", "cuda"))
    weights = 2 * 2 * 4 * own * (own + before) * 4  # rows, layers, heads, queries, keys, bytes
    assert cpu - card == (weights if own + before > KEPT["cuda"] else 0)
    monkeypatch.setitem(KEPT, "cpu", KEPT["cuda"])
    assert really_kept(frozen, rows) == pytest.approx(card, rel=0.01)


def test_a_short_row_behind_a_long_context_may_keep_most(tiny):
    """What counts is not how many positions a micro-batch has, but what each of them keeps."""
    short, long = coded(before=10, target=60), coded(before=3000, target=50)
    plan = Plan(token_budget=8 * 69, threads=1)
    of = [bank(tiny(), 8, plan, encoded=[it]) for it in (short, long)]
    both = predict(tiny(), [spec()] * 16, [[short]] * 8 + [[long]] * 8, plan)
    assert of[1].activations > 2 * of[0].activations
    assert both.activations >= of[1].activations
    ten = [replace(short, target=short.target + (1,) * k) for k in range(9)] + [long]
    assert (
        bank(tiny(), 1, plan, encoded=ten).activations
        >= bank(tiny(), 1, plan, encoded=[long]).activations
    )


def really_kept(frozen, rows):
    """Bytes of the storages that a pass on the CPU saves, the weights left out."""
    weights = [*frozen.model.parameters(), *frozen.model.buffers()]
    fixed = {part.untyped_storage().data_ptr() for part in weights}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held):
        run(frozen, rows)
    return sum(part.nbytes() for place, part in kept.items() if place not in fixed)


def test_activations_grow_with_the_runs_until_the_token_budget_is_full(tiny):
    frozen, wide = tiny(), Plan(token_budget=10 * 29, threads=1)
    sizes = [bank(frozen, runs, wide) for runs in (1, 2, 5, 10, 20)]
    one = sizes[0]
    assert [it.activations / one.activations for it in sizes] == [1, 2, 5, 10, 10]
    assert {it.activations_per_run for it in sizes} == {one.activations_per_run}
    assert one.activations_per_run < one.activations < 2 * one.activations_per_run
    ten = bank(frozen, 1, wide, encoded=[coded(target=20 + k) for k in range(10)])
    longest = [coded(target=20 + k) for k in range(2, 10)]  # a batch is eight problems
    assert ten.activations == bank(frozen, 1, wide, encoded=longest).activations


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
    ("longest", "answer", "largest"),
    [(0, "4" * 60, "activations"), (500, "4", "generation")],
    ids=["activations", "generation"],
)
def test_the_tensors_of_a_bank_take_what_was_predicted(tiny, longest, answer, largest):
    frozen, problems = tiny(), [problem("2+2=" * 9, answer)]
    told = [spec(seed=k, epochs=2, max_new_tokens=longest) for k in range(16)]
    encoded = [encode_all(told[0], frozen, problems)] * 16
    found = predict(frozen, told, encoded, PLAN)
    with Live() as live:
        train_bank(told, frozen, [problems] * 16, plan=PLAN)
    assert getattr(found, largest) > 0.9 * found.passing
    # The weights are seen too, where an operation gives them another shape.
    needed = found.weights + found.contexts + found.prompts + found.passing
    assert live.peak == pytest.approx(needed, rel=0.15)
    assert found.total == needed + round(0.4 * found.passing)


def test_tensors_behind_long_contexts_of_two_lengths_take_what_was_predicted(tiny):
    frozen = tiny()
    each = [problem("2+2=" * 9, "4" * 60), problem("3+3=" * 500, "6" * 40)]
    told = [spec(seed=k, epochs=2, max_new_tokens=1) for k in range(16)]
    problems = [[each[k % 2]] for k in range(16)]
    encoded = [encode_all(told[0], frozen, it) for it in problems]
    found = predict(frozen, told, encoded, PLAN)
    with Live() as live:
        train_bank(told, frozen, problems, plan=PLAN)
    assert found.activations > 0.9 * found.passing
    needed = found.weights + found.contexts + found.prompts + found.passing
    assert live.peak == pytest.approx(needed, rel=0.2)


CHILD = """
import json, sys, torch
from tsp.training import models
from tsp.training.members import encode_all
from tsp.training.memory import predict
from tsp.training.spec import RunSpec
from tsp.problems.loading import load_problems
from tsp.training.trainer import Plan, train_bank

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 2**10

def train(model, runs, epochs):
    frozen = models.load(model, device="cpu")
    told = RunSpec(model=model, task="mmlu_cf", epochs=epochs, n_tokens=160)
    specs = [told.but(seed=k) for k in range(runs)]
    problems, plan = [load_problems("mmlu_cf")] * runs, Plan(threads=1, precision=sys.argv[1])
    encoded = [encode_all(*each) for each in zip(specs, [frozen] * runs, problems)]
    found = predict(frozen, specs, encoded, plan)
    train_bank(specs, frozen, problems, plan=plan)
    return found.total

train("tiny-llama", 1, 1)  # now the libraries are in memory
before = status("VmRSS")
total = train(models.DEFAULT, 3, 2)
print(json.dumps({"before": before, "predicted": total, "peak": status("VmHWM")}))
"""


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_process_takes_what_was_predicted(precision):
    if not models.installed(models.DEFAULT) or not Path("/proc/self/status").exists():
        pytest.skip("needs Linux and the embedded model")
    # The process's own mark: `ru_maxrss` begins with what the parent had when it forked.
    call = [sys.executable, "-c", CHILD, precision]
    told = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    assert told["before"] + told["predicted"] == pytest.approx(told["peak"], rel=0.25)
    assert told["predicted"] == pytest.approx(told["peak"] - told["before"], rel=0.25)


def test_the_token_budget_is_the_largest_that_fits(tiny):
    frozen = outline(tiny_config("tiny-llama"))
    told, encoded = [spec()] * 300, [[coded(target=23)]] * 300  # rows of 32 positions

    def needs(budget):
        return predict(frozen, told, encoded, Plan(token_budget=budget), device="cpu").total

    def chosen(model, free, device="cpu"):
        return budget.token_budget(model, told, encoded, PLAN, device=device, free=free)

    for size in (512, 1024, 2048):
        free = math.ceil(needs(size) / 0.8)
        assert chosen(frozen, free) == size
        assert chosen(frozen, free - 2) == size // 2
    assert chosen(frozen, 2**40) == 4096
    assert chosen(frozen, 2**40, "cuda") == 2**17
    free = math.ceil((needs(512) - 4 * WEIGHTS) / 0.8)  # weights that are loaded have their place
    assert chosen(tiny(), free) == 512
    assert chosen(frozen, free) == 256


def test_too_little_memory_is_told(caplog):
    frozen = outline(tiny_config("tiny-llama"))
    with caplog.at_level(logging.WARNING):
        few = budget.token_budget(frozen, [spec()], [[coded()]], PLAN, device="cpu", free=1000)
    assert few == 256
    assert "a bank of 1 runs needs" in caplog.text


def test_contexts_may_take_a_quarter_of_what_the_weights_leave(tiny):
    frozen = outline(tiny_config("tiny-llama"))
    assert budget.context_budget(frozen, PLAN, free=4 * WEIGHTS + 4 * 2**20) == 2**20
    assert budget.context_budget(tiny(), PLAN, free=4 * 2**20) == 2**20
    assert budget.context_budget(frozen, PLAN, free=4 * WEIGHTS + 4 * 2**20 - 1) == 2**19
    assert budget.context_budget(frozen, PLAN, free=1000) == 0
    plan = fitted(PLAN, tiny(), [spec()], [[coded()]], free=4 * 2**20)
    assert (plan.context_budget, plan.threads) == (2**20, 1)
    assert 256 <= plan.token_budget <= 4096


def test_free_memory_is_below_the_machines():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < budget.free_memory() < total


def test_a_containers_limit_counts(tmp_path):
    assert list(budget._group_memory(tmp_path)) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\n")
    assert list(budget._group_memory(tmp_path)) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert list(budget._group_memory(tmp_path)) == [600]


def test_a_bank_without_runs_is_refused(tiny):
    with pytest.raises(InputError, match="specs = 0: give at least one run"):
        predict(tiny(), [], [], PLAN)


# Numbers of weights that the makers give, and transformers counts in the loaded models.
PUBLISHED = {
    "open-llama-7b": 6_738_415_616,
    "deepseek-7b-chat": 6_910_365_696,
    "gemma-2b-it": 2_506_172_416,
    "qwen1.5-14b-chat": 14_167_290_880,
}


def test_what_fits_on_which_card():
    table = fits().set_index(["model", "precision"])
    for name, weights in PUBLISHED.items():
        assert table.loc[(name, "float32"), "weights"] == 4 * weights
        assert table.loc[(name, "bfloat16"), "weights"] == 6 * weights
        assert table.loc[(name, "float32"), "hub_id"] == models.MODELS[name].hub_id
    llama = table.loc[("open-llama-7b", "float32")]
    assert llama["context"] == 5000 * 2 * 32 * 4096 * 4
    assert llama["24 GB"] == 0  # its weights alone take 25
    assert table.loc[("gemma-2b-it", "float32"), "24 GB"] > 0
    assert (table["24 GB"] <= table["80 GB"]).all()
    assert (table["80 GB"] <= table["141 GB"]).all()
    assert (table.xs("bfloat16", level=1)["run"] < table.xs("float32", level=1)["run"]).all()


def test_the_number_of_runs_is_the_largest_that_fits():
    frozen, told = outline(tiny_config("tiny-llama")), RunSpec()
    own = cards.EXAMPLE.length(told.n_tokens) - len(cards.EXAMPLE.before)

    def needs(runs):
        every = ([told] * runs, [[cards.EXAMPLE]] * runs)
        return predict(frozen, *every, Plan(token_budget=runs * own), device="cuda").total

    for runs in (1, 7, 100):
        assert cards.most_runs(frozen, PLAN, room=needs(runs)) == runs
        assert cards.most_runs(frozen, PLAN, room=needs(runs) - 1) == runs - 1
