"""Models by name: which there are, and how one is loaded, frozen."""

import copy
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from tsp.atomic import sha256_of
from tsp.errors import InputError
from tsp.paths import cache_dir
from tsp.problems import hub
from tsp.training import attention
from tsp.training.base_lm import DIVIDED, MARK, BaseLM, Encoded
from tsp.training.model_cards import DEFAULT, MODELS, ModelCard
from tsp.training.tiny_models import TINY, tiny_model, tiny_tokenizer

__all__ = ["DIVIDED", "MODELS", "BaseLM", "Encoded", "load"]
MODEL_FILES = {".json", ".jinja", ".model", ".txt", ".safetensors", ".bin", ".gguf"}


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
    dtype
        Precision of the weights.

    Raises
    ------
    InputError
        If there is no such model, it is not on this machine, or its architecture is not supported;
        the message lists what is.
    """
    place = device if isinstance(device, dict) else resolve_device(device)
    divided = isinstance(place, dict) or place in DIVIDED
    with quiet():
        model, tokenizer = _parts(
            name, dtype, shapes_only=place == "meta", device_map=place if divided else None
        )
    if not divided:
        model.to(place)  # type: ignore[arg-type]
    elif (
        model.get_input_embeddings().weight.is_meta or model.get_output_embeddings().weight.is_meta
    ):
        raise InputError("device", str(device), "embeddings and head must be on a device, not wait")
    model.eval().requires_grad_(False)
    model.set_attn_implementation(attention.NAME)
    if not attention.supports(model.config):
        families = ", ".join(attention.ARCHITECTURES)
        kind = model.config.model_type
        raise InputError("model", name, f"is a {kind}; supported architectures: {families}")
    try:
        ends = _end_ids(tokenizer, model)
    except Exception as error:  # a template or a tokenizer's settings that cannot be used
        raise InputError("model", name, f"its tokenizer cannot be used ({error})") from error
    # The model's own generation config may penalise repetition or sample: checks are plain greedy.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0]
    )
    note = MODELS[name].note if name in MODELS else TINY.get(name, "")
    revision = getattr(model.config, "_commit_hash", None) or ""
    word = place if isinstance(place, str) and divided else ""
    return BaseLM(name, model, tokenizer, note, revision, ends, word)


def known() -> tuple[str, ...]:
    """Return the names that `load` takes besides folders and hub ids."""
    return (*MODELS, *TINY)


def installed(name: str) -> bool:
    """Return whether the embedded model ``name`` is in the cache."""
    return (cache_dir() / "models" / name / "tsp.json").is_file()


def available() -> str:
    """Return a phrase that lists the models that load without a network."""
    here = [name for name in MODELS if installed(name)]
    rest = [name for name, card in MODELS.items() if card.embedded and name not in here]
    more = [f"{name} (after `tsp model install {name}`)" for name in rest]
    return ", ".join([*here, *more, *TINY, "or a local folder"])


def fingerprint(name: str) -> str:
    """Return a model's name, its hub id or the hash of its folder, which enters a run's id."""
    if name in MODELS or name in TINY:
        return name
    folder = Path(name)
    if not folder.is_dir():
        return next((card.name for card in MODELS.values() if _is_alias(card, name)), name)
    digest = hashlib.sha256()
    for file in sorted(it for it in folder.iterdir() if it.suffix in MODEL_FILES and it.is_file()):
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return f"folder:{digest.hexdigest()}"


def _is_alias(card: ModelCard, name: str) -> bool:
    """Return whether a hub id is a card's; an embedded model is quantised, so not the hub's."""
    return card.hub_id == name and card.embedded is None


def hollow(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Return a model on ``meta``, which has shapes but no weights."""
    with torch.device("meta"), quiet():
        return AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=dtype, attn_implementation=attention.NAME
        )


def _parts(
    name: str, dtype: torch.dtype, *, shapes_only: bool, device_map: Any = None
) -> tuple[PreTrainedModel, Any]:
    if name in TINY:
        if device_map:
            raise InputError("device", str(device_map), f"{name} fits on one; say auto or cpu")
        return tiny_model(name, dtype), tiny_tokenizer(chat=name == "tiny-llama")
    card = MODELS.get(name)
    source = str(cache_dir() / "models" / name) if card and card.embedded else name
    if card and card.embedded and not installed(name):
        raise InputError("model", name, f"not on this machine yet: run `tsp model install {name}`")
    if card and not card.embedded:
        source = card.hub_id
    if card is None and name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise InputError("model", name, "no such folder")
    if card is None and "/" not in name and not Path(name).is_dir():
        raise InputError("model", name, f"choose one of {', '.join(known())}, a hub id or a folder")
    if (Path(source) / "adapter_config.json").exists():  # transformers would load what it names
        raise InputError("model", name, "is a PEFT adapter; name its base model")
    try:
        return _read(source, dtype, shapes_only=shapes_only, device_map=device_map)
    except Exception as error:  # files that came from anywhere fail in ways of many libraries
        if Path(source).is_dir():
            raise InputError("model", name, f"the folder cannot be loaded ({error})") from error
        advice = f"the hub gave no '{source}' (offline, or no access); here: {available()}"
        raise InputError("model", name, advice) from error


def _read(
    source: str, dtype: torch.dtype, *, shapes_only: bool, device_map: Any
) -> tuple[PreTrainedModel, Any]:
    local = Path(source).is_dir() or not hub.reachable()
    # Code and pickles that come with a model are never run: weights are safetensors.
    safe: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(source, **safe)
    if shapes_only:
        return hollow(AutoConfig.from_pretrained(source, **safe), dtype), tokenizer
    options = safe | {"use_safetensors": True, "output_loading_info": True, "dtype": dtype}
    options |= {"device_map": device_map} if device_map else {}
    model, info = cast(Any, AutoModelForCausalLM).from_pretrained(source, **options)
    if missing := sorted(info["missing_keys"]):  # they would be random
        raise ValueError(f"weights are missing: {', '.join(missing)[:100]}")
    return model, tokenizer


def _end_ids(tokenizer: Any, model: PreTrainedModel) -> tuple[int, ...]:
    """Return the tokens that end an answer, first the one that the chat template puts there."""
    ends = [tokenizer.eos_token_id]
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        tail = tokenizer(text.partition(MARK)[2], add_special_tokens=False)["input_ids"]
        ends = [next((i for i in tail if i in tokenizer.all_special_ids), ends[0]), *ends]
    own = model.generation_config.eos_token_id
    ends += own if isinstance(own, list) else [own]
    return tuple(dict.fromkeys(i for i in ends if i is not None))


def resolve_device(device: str) -> str:
    """Return the device that ``auto`` stands for; raise if a named one is missing."""
    if device in DIVIDED:
        if not torch.cuda.is_available():
            raise InputError("device", device, "there is no GPU to divide a model among; try cpu")
        return device
    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise InputError("device", device, "not on this machine; try auto or cpu") from error
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars and warnings of transformers."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()
