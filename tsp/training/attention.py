"""Attention of a bank: each row attends to its problem's context, which rows share, and to itself.

A pass over a bank hands its `BatchLayout` through the model as a keyword; without one the
registered function is transformers' own SDPA, so the model stays usable as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
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
PIECE_BYTES = {"cpu": 12 * 2**20, "cuda": 2**29}  # of scores, keys and values
# Keys up to which weights towards a context are kept for the backward pass, heads x layers x keys
# numbers a position. Beyond that, computing them again is as fast as reading them from memory.
KEPT = {"cpu": 2**12, "cuda": 512}
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
    cache
        Keys and values per layer, (heads, B, slots, D) each, that a decoding step writes to and
        reads from; None: the pass's tokens are all there is behind the context.
    recorded
        Receives the keys and values that the pass computes, by layer; None: they are not kept.
    """

    contexts: Sequence[Context | None]
    places: Tensor
    cache: list[KeyValues] | None = None
    recorded: dict[int, KeyValues] | None = None
    _masks: dict[tuple[Any, ...], Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # Only a cache is longer than its used part; asking for the largest place waits for a GPU.
        self._used = int(self.places.max()) + 1 if self.cache is not None else 0

    def keys_and_values(self, layer: int, key: Tensor, value: Tensor) -> KeyValues:
        """Return the keys and values behind the contexts that a layer's queries attend to.

        Both are (heads, B, t, D), made from those that the pass computes, (B, heads, q, D).
        """
        key, value = key.transpose(0, 1), value.transpose(0, 1)  # (heads, B, q, D)
        if self.recorded is not None:
            self.recorded[layer] = (key.detach(), value.detach())
        if self.cache is None:
            return key, value
        rows = torch.arange(key.shape[1], device=key.device)[:, None]
        places = self.places.to(key.device)
        keys, values = self.cache[layer]
        keys[:, rows, places], values[:, rows, places] = key, value
        return keys[:, :, : self._used], values[:, :, : self._used]

    def mask(
        self, rows: slice, before: int, behind: int, window: int | None, device: torch.device
    ) -> Tensor:
        """Return which keys a query may not see, (1 or b, q, before + behind).

        The keys are the last ``before`` of the context and the first ``behind`` the context.
        """
        case = (rows.start, rows.stop, before, behind, window, device)
        if case not in self._masks:
            places = (self.places if len(self.places) == 1 else self.places[rows]).to(device)
            queries, keys = places[..., None], torch.arange(-before, behind, device=device)
            later = keys > queries
            self._masks[case] = later | (keys <= queries - window) if window else later
        return self._masks[case]

    def pieces(
        self, layer: int, query: Tensor, key: Tensor
    ) -> list[tuple[slice, KeyValues | None]]:
        """Cut the rows so that those of a piece share a context and, in a pass, need little room.

        Returns the rows of each piece and what the layer holds of their context.
        """
        queries = query.shape[1] * query.shape[2] // len(key)  # of a key head
        pieces: list[tuple[slice, KeyValues | None]] = []
        start = 0
        for _, group in groupby(self.contexts, key=id):
            contexts = list(group)
            shared = contexts[0].layers[query.dtype][layer] if contexts[0] else None
            size = len(contexts)
            if self.cache is None:  # decoding copies no context
                size = max(1, _pairs_at_once(query, queries, _keys(key, shared)) // len(key))
            count = -(-len(contexts) // size)
            edges = [start + k * len(contexts) // count for k in range(count + 1)]
            pieces += [(slice(*pair), shared) for pair in pairwise(edges)]
            start += len(contexts)
        return pieces


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
    keys, values = layout.keys_and_values(module.layer_idx, key, value)
    alone = layout.cache is None and not any(layout.contexts)
    if alone and query.shape[2] >= LONG:
        return _long_causal(query, key, value, layout, scaling, sliding_window), None
    behind, outputs = keys.shape[2], []
    pieces = layout.pieces(module.layer_idx, query, keys)
    if layout.cache is not None:
        return _decoding(query, keys, values, pieces, layout, scaling, sliding_window), None
    sizes = [rows.stop - rows.start for rows, _ in pieces]
    tensors = zip(query.split(sizes), keys.split(sizes, 1), values.split(sizes, 1), strict=True)
    for (rows, shared), piece in zip(pieces, tensors, strict=True):
        before = shared[0].shape[1] if shared and sliding_window else 0  # else all of it is seen
        mask = layout.mask(rows, before, behind, sliding_window, query.device)
        outputs.append(_Attention.apply(*piece, shared, mask, scaling))
    return torch.cat(outputs), None


def _decoding(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pieces: Sequence[tuple[slice, KeyValues | None]],
    layout: BatchLayout,
    scaling: float,
    window: int | None,
) -> Tensor:
    """Attention of queries (B, H, q, D) to cached keys (heads, B, t, D) and to the contexts.

    All rows meet their own keys at once: parts of the cache would have to be copied. So the scores
    of all rows exist together, beside a cache that is many times as large.
    """
    b, H, q, D = query.shape
    query = _by_head(query, len(key)).mul_(scaling)
    group = H // len(key)  # query heads that share a key head
    before = max(shared[0].shape[1] if shared else 0 for _, shared in pieces)
    scores = query.new_full((*query.shape[:3], before + key.shape[2]), -torch.inf)
    mask = layout.mask(slice(0, b), 0, key.shape[2], window, query.device)
    near = _product(query, key.transpose(2, 3))
    scores[..., before:] = near.masked_fill_(mask.repeat(1, group, 1), -torch.inf)
    for rows, shared in pieces:
        if shared:
            length = shared[0].shape[1]
            far = query[:, rows].flatten(1, 2).bmm(shared[0].transpose(1, 2))
            far = far.view(len(key), rows.stop - rows.start, group * q, length)
            if window:
                mask = layout.mask(rows, length, 0, window, query.device)
                far.masked_fill_(mask.repeat(1, group, 1), -torch.inf)
            scores[:, rows, :, before - length : before] = far
    weights = scores.softmax(-1)
    out = _product(weights[..., before:], value)
    for rows, shared in pieces:
        if shared:
            far = weights[:, rows, :, before - shared[0].shape[1] : before]
            out[:, rows] += far.flatten(1, 2).bmm(shared[1]).view_as(out[:, rows])
    return out.view(len(key), b, group, q, D).permute(1, 3, 0, 2, 4).flatten(2, 3)


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
        mask = ~layout.mask(slice(0, len(query)), 0, size, window, query.device)[:, None]
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
        mask: Tensor,
        scaling: float,
    ) -> Tensor:
        b, H, q, D = query.shape
        query = _by_head(query, len(key)).mul_(scaling)
        met, kind = _keys(key, shared), query.device.type
        saves = saves_weights(met, shared=shared is not None, kind=kind)
        out, kept = torch.empty_like(query), []
        for heads, keys, values in _parts(query, key, value, shared):
            weights = _weights(query[heads], keys, mask)
            out[heads] = _product(weights, values)
            if saves:
                kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.constants = shared, mask, scaling
        return out.view(len(key), b, H // len(key), q, D).permute(1, 3, 0, 2, 4).flatten(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        shared, mask, scaling = ctx.constants
        gradient = _by_head(gradients[0].transpose(1, 2), len(key))
        dq, dk, dv = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for k, (heads, keys, values) in enumerate(_parts(query, key, value, shared)):
            weights = kept[k] if kept else _weights(query[heads], keys, mask)
            change = _product(gradient[heads], values.transpose(2, 3))
            change = torch._softmax_backward_data(change, weights, -1, weights.dtype)
            behind = slice(weights.shape[-1] - key.shape[2], None)
            dk[heads] = _product(change[..., behind].transpose(2, 3), query[heads])
            dv[heads] = _product(weights[..., behind].transpose(2, 3), gradient[heads])
            dq[heads] = _product(change, keys)
        dq.mul_(scaling)
        b, q, H, D = gradients[0].shape
        dq = dq.view(len(key), b, H // len(key), q, D).transpose(0, 1).flatten(1, 2)
        return dq, dk, dv, None, None, None


def _parts(
    query: Tensor, key: Tensor, value: Tensor, shared: KeyValues | None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cut the key heads so that a part needs little room.

    Yields the heads of a part with all keys and values that they meet, (heads, b, c + t, D).
    """
    pairs = _pairs_at_once(query, query.shape[2], _keys(key, shared))
    size = max(1, pairs // query.shape[1])
    for first in range(0, len(key), size):
        heads = slice(first, first + size)
        keys, values = key[heads], value[heads]
        if shared:  # on a CPU one product with all keys is faster than two, copies included
            before = [part[heads, None].expand(-1, key.shape[1], -1, -1) for part in shared]
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        yield heads, keys, values


def _keys(key: Tensor, shared: KeyValues | None) -> int:
    """Return how many keys a row meets, its own and those of its context."""
    return key.shape[2] + (shared[0].shape[1] if shared else 0)


def _pairs_at_once(query: Tensor, queries: int, keys: int) -> int:
    """Return for how many pairs of a row and a key head scores, keys and values fit a piece."""
    room = PIECE_BYTES.get(query.device.type, PIECE_BYTES["cpu"]) // query.element_size()
    return room // (keys * (queries + 2 * query.shape[-1]))


def _weights(query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """Softmax over all keys, of which the mask hides some of the last, (heads, b, G * q, c + t)."""
    scores = _product(query, keys.transpose(2, 3))
    group = scores.shape[2] // mask.shape[1]  # query heads that share a key head
    scores[..., -mask.shape[-1] :].masked_fill_(mask.repeat(1, group, 1), -torch.inf)
    return scores.softmax(-1)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Copy queries (b, H, m, D) by key head, (heads, b, G * m, D)."""
    b, H, m, D = x.shape
    part = x.reshape(b, heads, H // heads * m, D).transpose(0, 1)
    return part.clone(memory_format=torch.contiguous_format)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices of two batch axes, (heads, b, ., .)."""
    return torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).unflatten(0, a.shape[:2])
