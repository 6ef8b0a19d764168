"""A model divided by accelerate among several places gives what the undivided one gives."""

import pytest
import torch
from accelerate.hooks import attach_align_device_hook_on_blocks

from tests.conftest import PLAN, problem, spec
from tests.training.test_trainer import assert_equal_results
from tsp.errors import InputError
from tsp.experiments.sweep import BANK
from tsp.training import memory, precision
from tsp.training.attention import BatchLayout
from tsp.training.base_lm import DIVIDED, BaseLM
from tsp.training.forward import TokenRow, hidden_states
from tsp.training.models import TINY, load, resolve_device, tiny_model, tiny_tokenizer
from tsp.training.prefix_cache import read_context
from tsp.training.trainer import train_bank

PARTS = ("embed_tokens", "layers.0", "layers.1", "norm", "rotary_emb")


def parts(*places):
    """A device map: the tied head is where the embeddings are."""
    told = {f"model.{part}": place for part, place in zip(PARTS, places, strict=True)}
    return told | {"lm_head": places[0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders of the tiny models, as transformers saves them."""
    root = tmp_path_factory.mktemp("models")
    for name in TINY:
        tiny_model(name).save_pretrained(root / name)
        tiny_tokenizer(chat=name == "tiny-llama").save_pretrained(root / name)
    return root


def divided(place, name="tiny-llama"):
    """A tiny model whose second half is on another device, moved there by accelerate's hooks."""
    model = load(name, device="cpu").model
    there = torch.device(place)
    model.model.layers[1].to(there)
    model.model.norm.to(there)
    model.hf_device_map = parts("cpu", "cpu", place, place, "cpu")
    attach_align_device_hook_on_blocks(model, execution_device=model.hf_device_map)
    return BaseLM(name, model, tiny_tokenizer(chat=True))


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("context", [2**32, 0])
def test_layers_that_wait_on_a_disk_train_the_same_bank(folder, name, context):
    """Weights of the second layer are read for each pass, by accelerate's hooks."""
    path = str(folder / name)
    whole = load(path, device="cpu")
    halved = load(path, device=parts("cpu", "cpu", "disk", "cpu", "cpu"))
    assert halved.waiting
    assert not whole.parts
    told = [("after_question", "ce"), ("prefix", "tsloss")]
    specs = [
        spec(model=path, placement=place, method=method, lambda_ts=0.5, max_new_tokens=6, seed=k)
        for k, (place, method) in enumerate(told)
    ]
    problems = [[problem("two and two?", "four")], [problem("why?", "B"), problem("who?", "me")]]
    plan = PLAN if context else PLAN.__class__(512, 1, context_budget=0)
    results = [train_bank(specs, frozen, problems, plan=plan) for frozen in (whole, halved)]
    for one, other in zip(*results, strict=True):
        assert_equal_results(one, other, rtol=1e-4)


def test_what_waits_is_not_rounded_to_lower_precision(folder, monkeypatch):
    monkeypatch.setattr(precision, "SMALL", 0)  # or a tiny model would not be tried
    halved = load(str(folder / "tiny-llama"), device=parts("cpu", "cpu", "disk", "cpu", "cpu"))
    assert precision.choose("auto", halved) == "float32"
    with pytest.raises(InputError, match="precision = 'bfloat16': not for a model whose layers"):
        halved.at(torch.bfloat16)


def test_hooks_survive_the_copy_in_lower_precision():
    whole, halved = load("tiny-llama", device="cpu"), divided("cpu")
    coded = whole.encode("two and two?", "four")
    row = TokenRow(torch.zeros(3, whole.dim), coded)
    found = [hidden_states(it.at(torch.bfloat16), [row])[0] for it in (whole, halved)]
    assert found[1].dtype == torch.bfloat16
    torch.testing.assert_close(*found, rtol=0.05, atol=0.05)


def test_each_tensor_goes_to_its_layers_device():
    """On two devices, one of which computes nothing but refuses what is not there."""
    halved = divided("meta")
    halved.model.lm_head.weight = torch.nn.Parameter(halved.head.to("meta"), requires_grad=False)
    coded = halved.encode("two and two?", "four")
    context = read_context(halved, coded.before, dtypes=[torch.float32])
    pairs = context.layers[torch.float32]
    assert [key.device.type for key, _ in pairs] == ["cpu", "meta"]
    rows = [TokenRow(torch.zeros(n, halved.dim), coded, context) for n in (3, 4)]
    hidden, recorded = hidden_states(halved, rows, keep=True)
    assert hidden.device.type == "meta"
    assert [key.device.type for key, _ in recorded] == ["cpu", "meta"]
    places = torch.tensor([[6], [7]])  # a decoding step, which writes to what was recorded
    step = BatchLayout([context] * 2, places, cache=recorded)
    given = {"inputs_embeds": torch.zeros(2, 1, halved.dim), "position_ids": places}
    assert halved.decoder(**given, use_cache=False, layout=step).last_hidden_state.is_meta
    assert {mask.device.type for mask in step._masks.values()} == {"cpu", "meta"}


def test_hidden_states_go_to_the_head():
    halved = divided("cpu")
    halved.model.lm_head.weight = torch.nn.Parameter(halved.head.to("meta"), requires_grad=False)
    row = TokenRow(torch.zeros(3, halved.dim), halved.encode("two and two?", "four"))
    assert hidden_states(halved, [row])[0].is_meta


def test_the_least_free_device_decides_what_fits(monkeypatch):
    free = {"cpu": 2**30, "meta": 2**20}
    monkeypatch.setattr(memory, "free_memory", free.get)
    halved, row = divided("meta"), load("tiny-llama", device="cpu").encode("two and two?", "four")
    plan = memory.fitted(PLAN, halved, [spec()], [[row]])
    assert plan.context_budget <= 2**20


def test_words_for_several_gpus(folder):
    assert {BANK[word] for word in DIVIDED} == {BANK["cuda"]}
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device = 'balanced': there is no GPU"):
            resolve_device("balanced")
    with pytest.raises(InputError, match="tiny-llama fits on one; say auto or cpu"):
        load("tiny-llama", device=parts(*["cpu"] * 5))
    with pytest.raises(InputError, match="embeddings and head must be on a device"):
        load(str(folder / "tiny-llama"), device=parts("disk", "cpu", "cpu", "cpu", "cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("context", [2**32, 0])
@pytest.mark.parametrize("name", sorted(TINY))
def test_a_bank_on_two_gpus_equals_one_on_one(folder, name, context):
    path = str(folder / name)
    there = {"model.layers.1": "cuda:1", "model.norm": "cuda:1"}
    places = parts(*["cuda:0"] * 5) | there
    plan = PLAN.__class__(512, 1, context_budget=context)
    specs = [spec(model=path, seed=k, max_new_tokens=6) for k in range(3)]
    problems = [[problem("two and two?", "four")]] * 3
    results = [
        train_bank(specs, load(path, device=place), problems, plan=plan)
        for place in ("cuda:0", places, "balanced")
    ]
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert_equal_results(one, other, rtol=1e-3)
