"""The models by name: install an embedded one, load one frozen, encode a problem for it."""

import copy
import hashlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
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
from tsp.errors import InputError, panics_told
from tsp.paths import cache_dir
from tsp.problems import hub
from tsp.training import attention
from tsp.training import chat_templates as templates
from tsp.training.model_cards import DEFAULT, MODELS, ModelCard
from tsp.training.norms import with_own_norms
from tsp.training.tiny_models import TINY, tiny_model, tiny_tokenizer

MODEL_FILES = {".json", ".jinja", ".model", ".txt", ".safetensors", ".bin", ".gguf"}
UNFIT = "computes attention or logits in a way that shared contexts do not cover; try another"
DIVIDED = ("balanced", "balanced_low_0", "sequential")  # transformers' words for several GPUs
WAITING = {"cpu", "disk"}  # where accelerate keeps weights that the GPUs have no room for
LAYERS = 1000  # far more than any model has; a small file may ask for thousands of millions
DENSEST = 8  # parameters in a byte of weights
MARK = "\ue000"  # stands for the prompt while a chat template is filled in; no tokenizer knows it


@dataclass(frozen=True)
class Encoded:
    """A problem as token ids: ``before | prompt | after | target``, the target with its end."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]

    def length(self, n_tokens: int) -> int:
        """Positions of the whole sequence around a prompt of ``n_tokens`` rows."""
        return len(self.before) + n_tokens + len(self.after) + len(self.target)


@dataclass(frozen=True)
class Frozen:
    """A language model that no one trains, with its tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    note: str = ""
    revision: str = ""  # the hub's commit
    end_ids: tuple[int, ...] = field(default=())
    divided: str = ""  # how, among several GPUs: one of `DIVIDED`
    copies: dict[torch.dtype, "Frozen"] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are; of a divided model the input embeddings, and so the prompts."""
        return self.vocabulary.device

    @property
    def parts(self) -> dict[str, Any]:
        """Which module of a divided model is on which device, as accelerate has it; else empty."""
        return getattr(self.model, "hf_device_map", None) or {}

    def place_of(self, layer: int) -> torch.device:
        """Where a layer computes; one whose weights wait elsewhere computes on `device`."""
        name = f"{self.model.base_model_prefix}.layers.{layer}."
        for part, place in self.parts.items():
            if name.startswith(f"{part}." if part else "") and place not in WAITING:
                return torch.device(place)
        return self.device

    @property
    def waiting(self) -> bool:
        """Whether weights of a divided model wait on the host or a disk for each pass."""
        return bool(self.parts) and any(weight.is_meta for weight in self.model.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.model.dtype

    def at(self, dtype: torch.dtype) -> "Frozen":
        """The same model in another precision, a copy that is made once."""
        if dtype == self.dtype:
            return self
        if dtype not in self.copies:
            if self.waiting:
                remedy = "not for a model whose layers wait on cpu or disk; say float32"
                raise InputError("precision", str(dtype).removeprefix("torch."), remedy)
            # Weights alone: rounded rotary frequencies would misplace far tokens.
            weights = {
                id(weight): torch.nn.Parameter(weight.to(dtype), requires_grad=False)
                for weight in self.model.parameters()
            }
            self.copies[dtype] = replace(self, model=copy.deepcopy(self.model, weights), copies={})
        return self.copies[dtype]

    @property
    def dim(self) -> int:
        """Width d of the input embeddings."""
        return self.vocabulary.shape[1]

    @property
    def vocabulary(self) -> torch.Tensor:
        """Input embedding of every token, shape (V, d), as the weights have it."""
        return cast(torch.Tensor, self.model.get_input_embeddings().weight)

    @cached_property
    def decoder(self) -> torch.nn.Module:
        """The model without its vocabulary projection: hidden states at every position.

        Its weights are the model's; its norms are computed faster (`tsp.training.norms`).
        """
        # accelerate moves tensors and weights in hooks, which a replaced norm would not have.
        return self.model.base_model if self.parts else with_own_norms(self.model.base_model)

    @property
    def head(self) -> torch.Tensor:
        """The vocabulary projection, shape (V, d)."""
        return cast(torch.Tensor, self.model.get_output_embeddings().weight)

    @property
    def key_width(self) -> int:
        """Numbers in one token's key, or value, of one layer."""
        config = self.model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(size * config.num_key_value_heads)

    def window_of(self, layer: int) -> int | None:
        """Tokens that a layer looks back, itself among them; None: all."""
        kinds = getattr(self.model.config, "layer_types", None)
        sliding = kinds is not None and kinds[layer] == "sliding_attention"
        return int(self.model.config.sliding_window) if sliding else None

    @property
    def window(self) -> int:
        """Longest sequence the model was made for."""
        return int(getattr(self.model.config, "max_position_embeddings", 0)) or sys.maxsize

    def embed(self, ids: tuple[int, ...]) -> torch.Tensor:
        """Input embeddings of token ids, shape (len(ids), d)."""
        tokens = torch.tensor(ids, dtype=torch.long, device=self.device)
        return self.model.get_input_embeddings()(tokens)

    def encode(
        self, question: str, target: str, *, placement: str = "after_question", end: bool = True
    ) -> Encoded:
        """Tokenise a problem through the chat template, or a plain one where there is none.

        Parameters
        ----------
        question, target
            The user's turn and the answer to train on.
        placement
            Where the prompt goes: ``"after_question"`` or ``"prefix"``.
        end
            Let the target end with the end-of-turn token.
        """
        before, after = self._turn(question)
        if placement == "prefix":
            before, after = "", before + after
        # A token belongs to the part it ends in: many tokenizers write a space and the word behind
        # it as one, and the first word of the target must not stand in the question.
        edges = (len(before), len(before) + len(after))
        parts: tuple[list[int], ...] = ([], [], [])
        for token, stop in self._tokens(before + after + target):
            parts[sum(stop > edge for edge in edges)].append(token)
        if placement == "prefix":  # everything before the target follows the prompt
            parts = ([], parts[0] + parts[1], parts[2])
        return Encoded(
            tuple(parts[0]), tuple(parts[1]), (*parts[2], *(self.end_ids[:1] if end else ()))
        )

    def _turn(self, question: str) -> tuple[str, str]:
        if not self.tokenizer.chat_template:
            return f"Question: {question}", "\nAnswer: "
        message = [{"role": "user", "content": question + MARK}]
        try:
            text = templates.rendered(self.tokenizer, message, add_generation_prompt=True)
        except ValueError as error:  # of this question
            raise InputError("model", self.name, str(error)) from error
        before, found, after = text.partition(MARK)
        if not found:
            raise InputError("model", self.name, "its chat template drops the user's text")
        return before, after

    def _tokens(self, text: str) -> list[tuple[int, int]]:
        """Token ids of a text and the place in it where each ends."""
        plain = not self.tokenizer.chat_template  # a chat template writes its own first token
        out = self.tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True)
        found = [
            (i, stop) for i, (_, stop) in zip(out["input_ids"], out["offset_mapping"], strict=True)
        ]
        ends = plain and len(found) > 1 and found[-1][0] == self.tokenizer.eos_token_id
        return found[:-1] if ends else found


def load(
    name: str = DEFAULT,
    *,
    device: str | dict[str, Any] = "auto",
    dtype: torch.dtype = torch.float32,
) -> Frozen:
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
        Of the weights.

    Raises
    ------
    InputError
        If there is no such model, or it is not on this machine; the message says what is.
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
    if model.device.type != "meta" and not attention.faithful(model):
        raise InputError("model", name, UNFIT)
    try:
        with panics_told():
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
    return Frozen(name, model, tokenizer, note, revision, ends, word)


def known() -> tuple[str, ...]:
    """Names that `load` takes without a folder or a hub id."""
    return (*MODELS, *TINY)


def installed(name: str) -> bool:
    """Say whether the embedded model ``name`` is in the cache."""
    return (cache_dir() / "models" / name / "tsp.json").is_file()


def available() -> str:
    """One phrase that says which models can be loaded here without a network."""
    here = [name for name in MODELS if installed(name)]
    rest = [name for name, card in MODELS.items() if card.embedded and name not in here]
    more = [f"{name} (after `tsp model install {name}`)" for name in rest]
    return ", ".join([*here, *more, *TINY, "or a local folder"])


def fingerprint(name: str) -> str:
    """Stand for a model in a run's id: its name here, its hub id, or the hash of its folder."""
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
    """An embedded model is quantised, so the hub's own is another."""
    return card.hub_id == name and card.embedded is None


def hollow(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Make a model of which only the shapes exist, on ``meta``."""
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
        with panics_told():
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
    told: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    if Path(source).is_dir():
        check_size(Path(source), "*.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(source, **told)
    if tokenizer.chat_template:
        templates.start()  # it is ready when the weights are
    if shapes_only:
        return hollow(AutoConfig.from_pretrained(source, **told), dtype), tokenizer
    told |= {"device_map": device_map} if device_map else {}
    told |= {"use_safetensors": True, "output_loading_info": True}
    model, found = cast(Any, AutoModelForCausalLM).from_pretrained(source, dtype=dtype, **told)
    if missing := sorted(found["missing_keys"]):  # they would be random
        raise ValueError(f"weights are missing: {', '.join(missing)[:100]}")
    return model, tokenizer


def check_size(folder: Path, weights: str, **told: str) -> None:
    """Refuse a model whose config describes a far larger one than its files can hold.

    Parameters
    ----------
    folder, weights
        Where the model is, and the pattern of its files there.
    told
        ``gguf_file``, if they are one.

    Raises
    ------
    ValueError
        Before anything of its size is made.
    """
    config, _ = PreTrainedConfig.get_config_dict(folder, **told)
    inner = [it for it in config.values() if isinstance(it, dict)]
    for many in (it[name] for it in (config, *inner) for name in it if "layer" in str(name)):
        if isinstance(many, (int, float)) and many > LAYERS:
            raise ValueError(f"its config asks for {many} layers")
    described = hollow(AutoConfig.from_pretrained(folder, **told), torch.float32).num_parameters()
    held = sum(file.stat().st_size for file in folder.glob(weights))
    if held and described > DENSEST * held:
        raise ValueError(f"its config describes {described} numbers, its files have {held} bytes")


def _end_ids(tokenizer: Any, model: PreTrainedModel) -> tuple[int, ...]:
    """Tokens that end an answer: first the one the chat template puts behind it."""
    ends = [tokenizer.eos_token_id]
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
        text = templates.rendered(tokenizer, messages)
        tail = tokenizer(text.partition(MARK)[2], add_special_tokens=False)["input_ids"]
        ends = [next((i for i in tail if i in tokenizer.all_special_ids), ends[0]), *ends]
    own = model.generation_config.eos_token_id
    ends += own if isinstance(own, list) else [own]
    return tuple(dict.fromkeys(i for i in ends if i is not None))


def resolve_device(device: str) -> str:
    """Turn ``auto`` into a device that is there, and check one that was named."""
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
    """Hold back progress bars and advice that mean nothing to this package's user."""
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
