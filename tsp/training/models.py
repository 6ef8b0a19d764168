"""Models by name: the tiny ones for tests, and how any is loaded, frozen."""

import copy
import hashlib
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tsp.atomic import sha256_of
from tsp.errors import InputError
from tsp.problems import hub
from tsp.training import attention
from tsp.training.base_lm import DIVIDED, MARK, BaseLM, Encoded
from tsp.training.model_cards import DEFAULT, MODELS, installed, model_folder, quiet

__all__ = ["DIVIDED", "MODELS", "BaseLM", "Encoded", "load"]
MODEL_FILES = {".json", ".jinja", ".model", ".txt", ".safetensors", ".bin", ".gguf"}

# Random models of a few thousand weights, which load at once: tests and profile `smoke` use them.
TINY = {  # name: architecture
    "tiny-llama": "llama",
    "tiny-gemma": "gemma",
    "tiny-gemma3": "gemma3_text",
    "tiny-qwen2": "qwen2",
}
NOTES = {name: card.note for name, card in MODELS.items()}
NOTES |= dict.fromkeys(TINY, "a tiny random model for tests: its answers mean nothing")
SPECIAL_TOKENS = ("<pad>", "<bos>", "<end>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)


def tiny_config(architecture: str) -> PreTrainedConfig:
    """Return a tiny model's configuration; Gemma 3's window is 8 so that it matters."""
    shape: dict[str, Any] = {
        "vocab_size": 256 + len(SPECIAL_TOKENS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    if architecture == "gemma3_text":
        shape |= {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
    return AutoConfig.for_model(architecture, **shape)


def tiny_model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Build the tiny model ``name``; the same weights every time, whatever the global seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(tiny_config(TINY[name]))
    return model.to(dtype)


def tiny_tokenizer(*, chat: bool) -> Any:
    """Build a tokenizer with one token a byte, with or without a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *letters))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL_TOKENS))
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL_TOKENS, strict=True))
    template = CHAT_TEMPLATE if chat else None
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **names)


def load(
    name: str = DEFAULT,
    *,
    device: str | dict[str, Any] = "auto",
    dtype: torch.dtype = torch.float32,
) -> BaseLM:
    """Load a model by name, frozen and ready for plain greedy decoding.

    Parameters
    ----------
    name
        A key of `MODELS`, a tiny model (``tiny-llama`` …), a hub id or a local folder.
    device
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` …; on ``"meta"`` a model has
        shapes alone, and its weights are not read. What transformers calls a ``device_map``
        divides a model among several GPUs: ``"balanced"``, ``"balanced_low_0"``,
        ``"sequential"``, or a dict of modules and devices.

    Raises
    ------
    InputError
        If there is no such model, it is not on this machine, or its architecture is not supported;
        the message lists what is.
    """
    place = device if isinstance(device, dict) or device == "meta" else resolve_device(device)
    divided = isinstance(place, dict) or place in DIVIDED
    with quiet():
        if name in TINY:
            if divided:
                raise InputError("device", str(place), f"{name} fits on one; say auto or cpu")
            model, tokenizer = tiny_model(name, dtype), tiny_tokenizer(chat=name == "tiny-llama")
        else:
            model, tokenizer = _from_files(name, dtype, place if divided else None, place == "meta")
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not divided:
        model.to(place)  # type: ignore[arg-type]
    elif embeddings.weight.is_meta or head.weight.is_meta:
        raise InputError("device", str(device), "embeddings and head must be on a device, not wait")
    model.eval().requires_grad_(False)
    model.set_attn_implementation(attention.NAME)
    if not attention.supports(model.config):
        families = ", ".join(attention.ARCHITECTURES)
        kind = model.config.model_type
        raise InputError("model", name, f"is a {kind}; supported architectures: {families}")
    try:
        end_ids = _end_ids(tokenizer, model)
    except Exception as error:  # a template or a tokenizer's settings that cannot be used
        raise InputError("model", name, f"its tokenizer cannot be used ({error})") from error
    # The model's own generation config may penalise repetition or sample: checks are plain greedy.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=list(end_ids), pad_token_id=end_ids[0]
    )
    revision = getattr(model.config, "_commit_hash", None) or ""
    strategy = place if isinstance(place, str) and divided else ""
    return BaseLM(name, model, tokenizer, NOTES.get(name, ""), revision, end_ids, strategy)


def _from_files(
    name: str, dtype: torch.dtype, device_map: Any, shapes_only: bool
) -> tuple[PreTrainedModel, Any]:
    """Read a model and its tokenizer from a folder or the hub; code and pickles are never run."""
    source = _source(name)
    folder = Path(source).is_dir()
    safe: dict[str, Any] = {
        "local_files_only": folder or not hub.reachable(),
        "trust_remote_code": False,
    }
    options = safe | {"use_safetensors": True, "output_loading_info": True, "dtype": dtype}
    options |= {"device_map": device_map} if device_map else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
        if shapes_only:
            return hollow(AutoConfig.from_pretrained(source, **safe), dtype), tokenizer
        model, info = cast(Any, AutoModelForCausalLM).from_pretrained(source, **options)
        if missing := sorted(info["missing_keys"]):  # they would be random
            raise ValueError(f"weights are missing: {', '.join(missing)[:100]}")
        return model, tokenizer
    except Exception as error:  # files that came from anywhere fail in ways of many libraries
        remedy = f"the hub gave no '{source}' (offline, or no access); here: {available()}"
        if folder:
            remedy = f"the folder cannot be loaded ({error})"
        raise InputError("model", name, remedy) from error


def _source(name: str) -> str:
    """Return the folder or hub id that a model is read from; raise if it can be neither."""
    card, folder = MODELS.get(name), Path(name)
    if card and card.packages:
        if not installed(name):
            remedy = f"not on this machine yet: run `tsp model install {name}`"
            raise InputError("model", name, remedy)
        return str(model_folder(name))
    if card:
        return card.hub_id
    if not folder.is_dir():
        if name.startswith(("/", ".", "~")):
            raise InputError("model", name, "no such folder")
        if "/" not in name:
            remedy = f"choose one of {', '.join([*MODELS, *TINY])}, a hub id or a folder"
            raise InputError("model", name, remedy)
    if (folder / "adapter_config.json").exists():  # transformers would load what it names
        raise InputError("model", name, "is a PEFT adapter; name its base model")
    return name


def hollow(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Return a model on ``meta``, which has shapes but no weights."""
    with torch.device("meta"), quiet():
        return AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=dtype, attn_implementation=attention.NAME
        )


def _end_ids(tokenizer: Any, model: PreTrainedModel) -> tuple[int, ...]:
    """Return the tokens that end an answer, first the one that the chat template puts there."""
    end_ids = [tokenizer.eos_token_id]
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        tail = tokenizer(text.partition(MARK)[2], add_special_tokens=False)["input_ids"]
        end_ids.insert(0, next((i for i in tail if i in tokenizer.all_special_ids), end_ids[0]))
    configured = model.generation_config.eos_token_id
    end_ids += configured if isinstance(configured, list) else [configured]
    if not (known := dict.fromkeys(i for i in end_ids if i is not None)):
        raise ValueError("it has no token that ends an answer; set eos_token")
    return tuple(known)


def resolve_device(device: str) -> str:
    """Return the device that ``auto`` stands for; raise if a named one is missing."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device in DIVIDED:
        if not torch.cuda.is_available():
            raise InputError("device", device, "there is no GPU to divide a model among; try cpu")
        return device
    try:
        if torch.empty(0, device=device).is_meta:
            raise InputError("device", device, "its tensors have no numbers; try auto or cpu")
    except (RuntimeError, AssertionError) as error:
        raise InputError("device", device, "not on this machine; try auto or cpu") from error
    return device


def available() -> str:
    """Return a phrase that lists the models that load without a network."""
    names = [
        name if installed(name) else f"{name} (after `tsp model install {name}`)"
        for name, card in MODELS.items()
        if card.packages
    ]
    return ", ".join([*names, *TINY, "or a local folder"])


def fingerprint(name: str) -> str:
    """Return a model's name, its hub id or the hash of its folder, which enters a run's id."""
    if name in MODELS or name in TINY:
        return name
    if not Path(name).is_dir():  # an embedded model is quantised, so not the hub's
        on_hub = {card.hub_id: card.name for card in MODELS.values() if not card.packages}
        return on_hub.get(name, name)
    digest = hashlib.sha256()
    for file in sorted(Path(name).iterdir()):
        if file.suffix in MODEL_FILES and file.is_file():
            digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return f"folder:{digest.hexdigest()}"
