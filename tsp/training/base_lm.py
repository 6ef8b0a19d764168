"""The frozen language model: its weights, its copies in other precisions, and its tokens."""

import copy
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from tsp.errors import InputError
from tsp.training.attention import BatchLayout
from tsp.training.norms import with_own_norms
from tsp.training.products import with_own_products

DIVIDED = ("balanced", "balanced_low_0", "sequential")  # transformers' words for several GPUs
WAITING = {"cpu", "disk"}  # where accelerate keeps weights that the GPUs have no room for
MARK = "\ue000"  # stands for the prompt while a chat template is filled in; no tokenizer knows it


@dataclass(frozen=True)
class Encoded:
    """A problem as token ids: ``before | prompt | after | target``, the target with its end."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]

    def length(self, n_tokens: int) -> int:
        """Return the positions of the whole sequence around a prompt of ``n_tokens`` rows."""
        return len(self.before) + n_tokens + len(self.after) + len(self.target)


@dataclass(frozen=True)
class BaseLM:
    """A language model whose weights stay as they are, with its tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    note: str = ""
    revision: str = ""  # the hub's commit
    end_ids: tuple[int, ...] = field(default=())
    divided: str = ""  # one of `DIVIDED` where several GPUs share the model
    copies: dict[torch.dtype, "BaseLM"] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        """Device of the weights; in a divided model that of the input embeddings and prompts."""
        return self.vocabulary.device

    @property
    def parts(self) -> dict[str, Any]:
        """Device of each module of a divided model, as accelerate has it; else empty."""
        return getattr(self.model, "hf_device_map", None) or {}

    @property
    def waiting(self) -> bool:
        """Whether weights of a divided model wait on the host or a disk for each pass."""
        return bool(self.parts) and any(weight.is_meta for weight in self.model.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.model.dtype

    def at(self, dtype: torch.dtype) -> "BaseLM":
        """Return the model in another precision, a copy that is made once."""
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

        Its weights are the model's; norms and products are computed faster.
        """
        # accelerate moves tensors and weights in hooks, which a replaced layer would not have.
        if self.parts:
            return self.model.base_model
        return with_own_products(with_own_norms(self.model.base_model))

    def forward(self, embeds: torch.Tensor, layout: BatchLayout) -> torch.Tensor:
        """Return hidden states, (B, q, d) as the input embeddings, on the head's device."""
        starts = [context.length if context else 0 for context in layout.contexts]
        output = self.decoder(
            inputs_embeds=embeds,
            position_ids=torch.tensor(starts, device=self.device)[:, None] + layout.places,
            use_cache=False,
            layout=layout,
        )
        return cast(torch.Tensor, output.last_hidden_state.to(self.head.device))

    @property
    def head(self) -> torch.Tensor:
        """The vocabulary projection, shape (V, d)."""
        return cast(torch.Tensor, self.model.get_output_embeddings().weight)

    @property
    def key_width(self) -> int:
        """Width of one token's keys, or values, in one layer."""
        config = self.model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(size * config.num_key_value_heads)

    @property
    def query_width(self) -> int:
        """Width of one token's queries in one layer."""
        config = self.model.config
        return self.key_width // config.num_key_value_heads * int(config.num_attention_heads)

    def window_of(self, layer: int) -> int | None:
        """Return how many tokens a layer attends to, the current one included; None: all."""
        kinds = getattr(self.model.config, "layer_types", None)
        sliding = kinds is not None and kinds[layer] == "sliding_attention"
        return int(self.model.config.sliding_window) if sliding else None

    @property
    def window(self) -> int:
        """Longest sequence that the model reads."""
        return int(getattr(self.model.config, "max_position_embeddings", 0)) or sys.maxsize

    def embed(self, ids: tuple[int, ...]) -> torch.Tensor:
        """Return the input embeddings of token ids, shape (len(ids), d)."""
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
        # A token belongs to the part it ends in: many tokenizers write a space and the word behind
        # it as one, and the first word of the target must not stand in the question.
        edges = (len(before), len(before) + len(after))
        parts: tuple[list[int], ...] = ([], [], [])
        for token, stop in self._tokens(before + after + target):
            parts[sum(stop > edge for edge in edges)].append(token)
        parts[2].extend(self.end_ids[:1] if end else ())
        if placement == "prefix":  # everything before the target follows the prompt
            parts = ([], parts[0] + parts[1], parts[2])
        return Encoded(*map(tuple, parts))

    def _turn(self, question: str) -> tuple[str, str]:
        """Return the text before the prompt and the text between prompt and target."""
        if not self.tokenizer.chat_template:
            return f"Question: {question}", "\nAnswer: "
        message = [{"role": "user", "content": question + MARK}]
        try:
            text = self.tokenizer.apply_chat_template(
                message, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program of whoever made the model
            raise InputError("model", self.name, f"its chat template fails ({error})") from error
        before, mark, after = text.partition(MARK)
        if not mark:
            raise InputError("model", self.name, "its chat template drops the user's text")
        return before, after

    def _tokens(self, text: str) -> list[tuple[int, int]]:
        """Return the token ids of a text, each with the position in it where it ends."""
        plain = not self.tokenizer.chat_template  # a chat template writes its own first token
        coded = self.tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True)
        stops = [stop for _, stop in coded["offset_mapping"]]
        tokens = list(zip(coded["input_ids"], stops, strict=True))
        ends = plain and len(tokens) > 1 and tokens[-1][0] == self.tokenizer.eos_token_id
        return tokens[:-1] if ends else tokens
