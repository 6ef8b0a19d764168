"""Attention of a bank: each row attends to its problem's context, which rows share, and to itself.

A pass over a bank hands its `BatchLayout` through the model as a keyword; without one the
registered function is transformers' own SDPA, so the model stays usable as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tsp"
# Architectures, layers and rotary positions that the tests compare with transformers' own.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text")
KINDS = {"full_attention", "sliding_attention", "default", "linear", "llama3", "yarn"}
SOFT_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
PIECE_BYTES = {"cpu": 12 * 2**20, "cuda": 2**29}  # scores computed at once; few stay in a cache
# Keys up to which weights towards a context are kept for the backward pass, heads x layers x keys
# numbers a position: a CPU takes as long for a softmax as for the products around it.
KEPT = {"cpu": 2**13, "cuda": 512}
# Tokens from which torch's own kernel is faster for rows without a context, and to which their
# weights are kept.
LONG = 512

KeyValues = tuple[Tensor, Tensor]  # each (heads, tokens, head dimension)


@dataclass(frozen=True)
class Context:
    """Keys and values of the tokens before the prompts, per layer; ``length`` tokens in all.

    A layer with a sliding window holds only the last tokens, all that any later one can see.
    """

    length: int
    layers: Mapping[torch.dtype, Sequence[KeyValues]]  # the same in the precision of each pass


@dataclass
class BatchLayout:
    """Which rows of a pass share which context, and where each query stands.

    Parameters
    ----------
    contexts
        One a row; rows that share one are neighbours. None: the row has no context.
    places
        Position of each query among its row's tokens behind the context, (1 or B, q).
    own
        Keys and values per layer, (heads, B, slots, D) each, that a decoding step writes to and
        reads from; None: the pass's tokens are all there is behind the context.
    recorded
        Receives the keys and values that the pass computes, by layer; None: they are not kept.
    """

    contexts: Sequence[Context | None]
    places: Tensor
    own: list[KeyValues] | None = None
    recorded: dict[int, KeyValues] | None = None
    segments: list[tuple[slice, Context | None]] = field(init=False)
    _hidden: dict[tuple[Any, ...], Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.segments = list(_segments(self.contexts))
        self._used = int(self.places.max()) + 1

    def keys_and_values(self, layer: int, key: Tensor, value: Tensor) -> KeyValues:
        """Return the keys and values behind the contexts that a layer's queries attend to.

        Both are (heads, B, t, D), made from the pass's own (B, heads, q, D).
        """
        key, value = key.transpose(0, 1), value.transpose(0, 1)  # (heads, B, q, D)
        if self.recorded is not None:
            self.recorded[layer] = (key.detach(), value.detach())
        if self.own is None:
            return key, value
        rows = torch.arange(key.shape[1], device=key.device)[:, None]
        places = self.places.to(key.device)
        for slots, new in zip(self.own[layer], (key, value), strict=True):
            slots[:, rows, places] = new
        keys, values = self.own[layer]
        return keys[:, :, : self._used], values[:, :, : self._used]

    def hidden(
        self, rows: slice, before: int, own: int, window: int | None, device: torch.device
    ) -> Tensor:
        """Return which of the last ``before + own`` keys a query may not see, (1 or b, q, keys)."""
        known = (rows.start, rows.stop, before, own, window, device)
        if known not in self._hidden:
            places = (self.places if len(self.places) == 1 else self.places[rows]).to(device)
            here, there = places[..., None], torch.arange(-before, own, device=device)
            hidden = there > here
            self._hidden[known] = hidden | (there <= here - window) if window else hidden
        return self._hidden[known]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    layout: BatchLayout | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it, (B, H, q, D) -> (B, q, H, D), over a `BatchLayout`."""
    if layout is None:
        others |= {"scaling": scaling, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    layer, device = module.layer_idx, query.device
    keys, values = layout.keys_and_values(layer, key, value)
    without = layout.own is None and all(context is None for _, context in layout.segments)
    if without and query.shape[2] >= LONG:
        return _long_causal(query, key, value, layout, scaling, sliding_window), None
    own, out = keys.shape[2], []
    pieces = list(_pieces(layout, layer, query, own))
    sizes = [rows.stop - rows.start for rows, _ in pieces]
    tensors = zip(query.split(sizes), keys.split(sizes, 1), values.split(sizes, 1), strict=True)
    for (rows, context), piece in zip(pieces, tensors, strict=True):
        shared = context.layers[query.dtype][layer] if context else None
        before = shared[0].shape[1] if shared and sliding_window else 0  # else all of it is seen
        hidden = layout.hidden(rows, before, own, sliding_window, device)
        out.append(_Attention.apply(*piece, shared, hidden, scaling))
    return torch.cat(out), None


def _long_causal(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: BatchLayout,
    scaling: float,
    window: int | None,
) -> Tensor:
    """Attention of rows without a context by torch's own kernel, which keeps no scores."""
    size, group = query.shape[2], query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    mask = None
    if window and window < size:
        mask = ~layout.hidden(slice(0, len(query)), 0, size, window, query.device)[:, None]
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling
    ).transpose(1, 2)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def supports(config: PreTrainedConfig) -> bool:
    """Return whether the attention of this module is known to be that of a model."""
    ropes = getattr(config, "rope_parameters", None) or {}
    nested = [part for part in ropes.values() if isinstance(part, dict)] or [ropes]
    kinds = {part["rope_type"] for part in nested if part.get("rope_type")}
    kinds |= set(getattr(config, "layer_types", None) or ())
    capped = any(getattr(config, name, None) for name in SOFT_CAPS)
    return config.model_type in ARCHITECTURES and kinds <= KINDS and not capped


def saves_weights(keys: int, *, shared: bool, kind: str) -> bool:
    """Return whether attention weights towards so many keys are kept for the backward pass.

    ``shared`` says that some of the keys are a context's. Without one the keys are the row's own
    tokens, and the weights grow with their square. ``kind`` is the type of the device.
    """
    return keys <= (KEPT.get(kind, KEPT["cpu"]) if shared else LONG)


class _Attention(torch.autograd.Function):
    """Softmax over a context's keys and the rows' own; the context is a constant.

    Queries are (b, H, q, D), own keys and values (heads, b, t, D), those of the context
    (heads, c, D), and the result is (b, q, H, D). Weights that were not kept are computed again in
    the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        shared: KeyValues | None,
        hidden: Tensor,
        scaling: float,
    ) -> Tensor:
        b, H, q, D = query.shape
        context_key, context_value = shared or (None, None)
        query = _by_head(query, len(key)).mul_(scaling)
        weights = _weights(query, key, context_key, hidden)
        out = _weighted(weights, value, context_value)
        kept = saves_weights(weights.shape[-1], shared=shared is not None, kind=query.device.type)
        ctx.save_for_backward(query, key, value, *([weights] if kept else []))
        ctx.constants = shared, hidden, scaling
        return out.view(len(key), b, H // len(key), q, D).permute(1, 3, 0, 2, 4).flatten(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        shared, hidden, scaling = ctx.constants
        context_key, context_value = shared or (None, None)
        weights = kept[0] if kept else _weights(query, key, context_key, hidden)
        gradient = _by_head(gradients[0].transpose(1, 2), len(key))
        change = _scores(gradient, value, context_value)
        change = torch._softmax_backward_data(change, weights, -1, weights.dtype)
        own = slice(weights.shape[-1] - key.shape[2], None)
        dk = _product(change[..., own].transpose(2, 3), query)
        dv = _product(weights[..., own].transpose(2, 3), gradient)
        dq = _weighted(change, key, context_key).mul_(scaling)
        b, q, H, D = gradients[0].shape
        dq = dq.view(len(key), b, H // len(key), q, D).transpose(0, 1).flatten(1, 2)
        return dq, dk, dv, None, None, None


def _weights(query: Tensor, key: Tensor, context_key: Tensor | None, hidden: Tensor) -> Tensor:
    """Softmax over a context's keys and own ones, (heads, b, G * q, c + t)."""
    scores = _scores(query, key, context_key)
    mask = hidden.repeat(1, scores.shape[2] // hidden.shape[1], 1)  # for queries that share a head
    scores[..., -hidden.shape[-1] :].masked_fill_(mask, -torch.inf)
    return scores.softmax(-1)


def _scores(query: Tensor, key: Tensor, context_key: Tensor | None) -> Tensor:
    """Products of (heads, b, m, D) with a context's keys and own ones, (heads, b, m, c + t)."""
    if context_key is None:
        return _product(query, key.transpose(2, 3))
    before = context_key.shape[1]
    scores = query.new_empty(*query.shape[:3], before + key.shape[2])
    # Products that write to where they belong spare a copy of all the scores.
    far, near = scores.flatten(1, 2)[..., :before], scores.flatten(0, 1)[..., before:]
    torch.bmm(query.flatten(1, 2), context_key.transpose(1, 2), out=far)
    torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), out=near)
    return scores


def _weighted(weights: Tensor, value: Tensor, context_value: Tensor | None) -> Tensor:
    """Sum of a context's values and own ones by weights (heads, b, m, c + t), (heads, b, m, D)."""
    if context_value is None:
        return _product(weights, value)
    out = weights.new_empty(*weights.shape[:3], value.shape[3])
    far, near = weights.split([context_value.shape[1], value.shape[2]], -1)
    # Head by head: a batched product of a part of a tensor takes half as long again.
    for head, values, there in zip(far.flatten(1, 2), context_value, out, strict=True):
        torch.mm(head, values, out=there.flatten(0, 1))
    out.flatten(0, 1).baddbmm_(near.flatten(0, 1), value.flatten(0, 1))
    return out


def _pieces(
    layout: BatchLayout, layer: int, query: Tensor, own: int
) -> Iterator[tuple[slice, Context | None]]:
    """Cut a layout's rows so that those of a piece share a context and their scores are few."""
    room = PIECE_BYTES.get(query.device.type, PIECE_BYTES["cpu"]) // query.element_size()
    for rows, context in layout.segments:
        before = context.layers[query.dtype][layer][0].shape[1] if context else 0
        scores_per_row = query.shape[1] * query.shape[2] * (before + own)
        length = rows.stop - rows.start
        count = -(-length // max(1, room // scores_per_row))
        edges = [rows.start + k * length // count for k in range(count + 1)]
        yield from ((slice(*pair), context) for pair in pairwise(edges))


def _segments(contexts: Sequence[Context | None]) -> Iterator[tuple[slice, Context | None]]:
    """Neighbouring rows that have one context."""
    start = 0
    for row in range(1, len(contexts) + 1):
        if row == len(contexts) or contexts[row] is not contexts[start]:
            yield slice(start, row), contexts[start]
            start = row


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Copy queries (b, H, m, D) by key head, (heads, b, G * m, D)."""
    b, H, m, D = x.shape
    part = x.reshape(b, heads, H // heads * m, D).transpose(0, 1)
    return part.clone(memory_format=torch.contiguous_format)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices of two batch axes, (heads, b, ., .)."""
    return torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).unflatten(0, a.shape[:2])
