"""Attention of a bank: each row sees its problem's context, which all rows share, and itself.

A pass over a bank hands its `Layout` through the model as a keyword; without one the registered
function is transformers' own SDPA, so the model stays usable as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tsp"
TILE = {"cpu": 12 * 2**20, "cuda": 2**29}  # bytes of scores of one piece; few stay in cache
# Keys up to which weights towards a context are kept for the backward pass, heads x layers x keys
# numbers a position: a CPU takes as long for a softmax as for the products around it.
KEPT = {"cpu": 2**13, "cuda": 512}
# Tokens from which torch's own kernel is faster for rows without a context, and to which their
# weights are kept.
LONG = 512
CLOSE = 0.02  # relative: roundings of lower precision stay below, another formula does not
SHARES_HEADS = {"cuda": (torch.float16, torch.bfloat16)}  # others on a GPU keep all scores
# Layers that see all or a window, and rotations that depend on the position alone.
KINDS = {"full_attention", "sliding_attention", "default", "linear", "llama3", "yarn"}
UNKNOWN = ("softcap", "s_aux", "sinks")  # variants of attention this module does not compute

KeyValues = tuple[Tensor, Tensor]  # each (heads, tokens, head dimension)


@dataclass(frozen=True)
class Context:
    """Keys and values of the tokens before the prompts, per layer; ``length`` tokens in all.

    A layer with a sliding window holds the last tokens alone, all that any later one can see.
    """

    length: int
    layers: Mapping[torch.dtype, Sequence[KeyValues]]  # the same keys and values, rounded or not
    visits: int = 0  # bytes of the copy that a pass needs, if it is kept on the host

    def of(self, layer: int, dtype: torch.dtype) -> KeyValues:
        """What a layer holds, in the precision of a pass."""
        return self.layers[dtype][layer]


@dataclass
class Layout:
    """Which rows of a pass share which context, and where each query stands.

    Parameters
    ----------
    contexts
        Of each row; rows that share one are neighbours. None: the row has all in itself.
    places
        Position of each query among its row's own tokens, (1 or B, q).
    own
        Keys and values per layer, (heads, B, slots, D) each, that a decoding step writes to and
        reads from; None: the pass's own tokens are all there is.
    recorded
        What the pass computed, per layer, if it is to be kept.
    """

    contexts: Sequence[Context | None]
    places: Tensor
    own: list[KeyValues] | None = None
    recorded: dict[int, KeyValues] | None = None
    segments: list[tuple[slice, Context | None]] = field(init=False)
    _hidden: dict[tuple[Any, ...], Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.segments = list(_neighbours(self.contexts))
        self._used = int(self.places.max()) + 1

    def keys_and_values(self, layer: int, key: Tensor, value: Tensor) -> KeyValues:
        """Own keys and values, (heads, B, t, D), that the queries of a layer meet."""
        key, value = key.transpose(0, 1), value.transpose(0, 1)  # (heads, B, q, D)
        if self.recorded is not None:
            self.recorded[layer] = (key.detach(), value.detach())
        if self.own is None:
            return key, value
        rows = torch.arange(key.shape[1], device=key.device)[:, None]
        held, places = self.own[layer], self.places.to(key.device)
        for slots, new in zip(held, (key, value), strict=True):
            slots[:, rows, places] = new
        return held[0][:, :, : self._used], held[1][:, :, : self._used]

    def hidden(
        self, rows: slice, before: int, own: int, window: int | None, device: torch.device
    ) -> Tensor:
        """Which of the last keys a query may not see, (1 or b, q, keys), on a layer's device.

        They are ``before`` places of the rows' contexts, fewer where these are shorter, and ``own``
        ones.
        """
        known = (window, rows.start, rows.stop, before, own, device)
        if known not in self._hidden:
            places = (self.places if len(self.places) == 1 else self.places[rows]).to(device)
            here, there = places[..., None], torch.arange(-before, own, device=places.device)
            hidden = there > here
            if window:
                hidden |= there <= here - window
            lengths = [context.length if context else 0 for context in self.contexts[rows]]
            if min(lengths) < before:
                starts = -torch.tensor(lengths, device=places.device)[:, None, None]
                hidden = hidden | (there < starts)
            self._hidden[known] = hidden
        return self._hidden[known]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it, (B, H, q, D) -> (B, q, H, D), over a `Layout`.

    Raises
    ------
    NotImplementedError
        If the model's attention is a variant that is not computed here.
    """
    if layout is None:
        others |= {"scaling": scaling, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    if any(others.get(name) is not None for name in UNKNOWN):
        raise NotImplementedError("attention with soft caps or sinks")
    size = query.shape[2]
    keys, values = layout.keys_and_values(module.layer_idx, key, value)
    alone = layout.own is None and all(context is None for _, context in layout.segments)
    if alone and LONG <= size <= (sliding_window or size):
        return _causal(query, key, value, scaling).transpose(1, 2), None
    told = (layout, module.layer_idx, scaling, sliding_window)
    if layout.own is not None:
        return _decoded(query, keys, values, *told), None
    if torch.is_grad_enabled():
        return _Attention.apply(query, keys, values, *told), None
    return _forward(query, keys, values, *told), None


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Torch's own kernel, which keeps no scores where it takes as many key heads as there are."""
    shares = query.dtype in SHARES_HEADS.get(query.device.type, (query.dtype,))
    if not shares:
        group = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=shares
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


@torch.no_grad()
def faithful(model: Any) -> bool:
    """Say whether a model gives the same with a shared context, and its head alone the logits.

    Architectures differ in more than their attention function shows; a few tokens tell, but not of
    what begins with many.
    """
    if _kinds(model.config) - KINDS:
        return False
    embed, decoder = model.get_input_embeddings(), model.base_model
    tokens = torch.arange(11, device=model.device)[None] % embed.weight.shape[0]
    x, places = embed(tokens), torch.arange(11, device=model.device)[None]
    first = Layout([None], places[:, :6], recorded={})
    told = {"use_cache": False}
    try:
        plain = decoder(inputs_embeds=x, **told).last_hidden_state
        decoder(inputs_embeds=x[:, :6], position_ids=places[:, :6], layout=first, **told)
        pairs = [
            (key[:, 0], value[:, 0]) for _, (key, value) in sorted((first.recorded or {}).items())
        ]
        rest = Layout([Context(6, {x.dtype: pairs})], places[:, :5])
        ours = decoder(inputs_embeds=x[:, 6:], position_ids=places[:, 6:], layout=rest, **told)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, IndexError, TypeError, ValueError, AttributeError, RuntimeError):
        return False
    head = model.get_output_embeddings().weight
    logits = torch.nn.functional.linear(plain.to(head.device), head)
    whole = model(inputs_embeds=x, use_cache=False).logits
    return _near(ours.last_hidden_state, plain[:, 6:]) and _near(logits, whole)


def _kinds(config: Any) -> set[str]:
    """Kinds of layers and of rotary positions that a configuration names."""
    told = getattr(config, "rope_parameters", None) or {}
    nested = [part for part in told.values() if isinstance(part, dict)] or [told]
    ropes = {part["rope_type"] for part in nested if part.get("rope_type")}
    return ropes | set(getattr(config, "layer_types", None) or ())


def _near(found: Tensor, told: Tensor) -> bool:
    return bool((found.to(told.device) - told).norm() <= CLOSE * told.norm())


class _Attention(torch.autograd.Function):
    """Softmax over context and own keys together; the context is a constant that all rows share.

    Keys and values of a context are never kept for the backward pass; the weights are where
    `keeps` says so, and else computed again.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *told: Any) -> Tensor:
        kept: list[Tensor] = []
        out = _forward(query, key, value, *told, kept=kept)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.told = told
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        dq, dk, dv = (torch.zeros_like(x) for x in (query, key, value))
        gradient, scaling = gradients[0].transpose(1, 2), ctx.told[2]  # (B, H, q, D)
        stored = iter(kept)
        for tile in _tiles(query, key, value, *ctx.told):
            weights = next(stored) if tile.keeps else tile.weights()
            moved = tile.backward(weights, tile.part(gradient), dk, dv)
            tile.put(moved.mul_(scaling), dq)
            del weights  # or the next piece's would stand beside them
        return dq, dk, dv, *[None] * len(ctx.told)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, *told: Any, kept: list[Tensor] | None = None
) -> Tensor:
    B, H, q, D = query.shape
    out = query.new_empty(B, q, H, D)
    for tile in _tiles(query, key, value, *told):
        weights = tile.weights()
        tile.put(tile.values.mixed(weights), out.transpose(1, 2))
        if kept is not None and tile.keeps:
            kept.append(weights)
        del weights
    return out


def keeps(keys: int, *, shared: bool, kind: str) -> bool:
    """Whether the weights of so many keys are kept for the backward pass.

    ``shared`` says that some of the keys are a context's. Without one a row's own tokens are the
    keys, and the weights would grow with their square.
    """
    return keys <= (KEPT.get(kind, KEPT["cpu"]) if shared else LONG)


def _decoded(query: Tensor, key: Tensor, value: Tensor, *told: Any) -> Tensor:
    """What a decoding step sees: few queries a row, so rows of many contexts are met at once.

    Contexts are set flush with the own keys behind them.
    """
    layout, layer, scaling, window = told
    B, H, q, _ = query.shape
    heads, own = len(key), key.shape[2]
    pairs = [it.of(layer, query.dtype) if it else None for _, it in layout.segments]
    longest = max(pair[0].shape[1] if pair else 0 for pair in pairs)
    out = query.new_empty(B, q, *query.shape[1::2])
    for rows in _pieces(slice(0, B), _room(query) // (H * q * (longest + own))):
        part = _by_head(query[rows], heads).mul_(scaling)  # (heads, b, G * q, D)
        scores = part.new_empty(*part.shape[:3], longest + own)
        scores[..., longest:] = _product(part, key[:, rows].transpose(2, 3))
        shared = []  # rows of this piece, the places of their context, and its keys and values
        for (segment, _), pair in zip(layout.segments, pairs, strict=True):
            first, last = max(segment.start, rows.start), min(segment.stop, rows.stop)
            if pair and first < last:
                those = slice(first - rows.start, last - rows.start)
                shared.append((those, slice(longest - pair[0].shape[1], longest), pair))
        for those, places, (keys, _) in shared:
            far = scores[:, those].flatten(1, 2)[..., places]
            torch.bmm(part[:, those].flatten(1, 2), keys.transpose(1, 2), out=far)
        hidden = layout.hidden(rows, longest, own, window, query.device).repeat(1, H // heads, 1)
        weights = scores.masked_fill_(hidden, -torch.inf).softmax(-1)
        seen = _product(weights[..., longest:], value[:, rows])
        for those, places, (_, values) in shared:
            far = weights[:, those].flatten(1, 2)[..., places]
            seen[:, those].flatten(1, 2).baddbmm_(far, values)
        _place(seen, out.transpose(1, 2)[rows])
    return out


def _room(query: Tensor) -> int:
    """Scores that are held at once on the device of a query."""
    return TILE.get(query.device.type, TILE["cpu"]) // query.element_size()


@dataclass
class _Tile:
    """Some rows with one context, and some of their queries, laid out by key head."""

    rows: slice
    queries: slice
    query: Tensor  # (heads, b, G * m, D), scaled
    keys: "_Side"
    values: "_Side"
    hidden: Tensor  # (1, G * m, t or c + t): the last keys of those

    @property
    def keeps(self) -> bool:
        """Whether the weights are kept for the backward pass."""
        shared = self.keys.before > 0
        return keeps(self.keys.length, shared=shared, kind=self.query.device.type)

    def weights(self) -> Tensor:
        """Softmax over context and own keys, (heads, b, G * m, c + t)."""
        scores = self.keys.met(self.query)
        scores[..., -self.hidden.shape[-1] :].masked_fill_(self.hidden, -torch.inf)
        return scores.softmax(-1)

    def backward(self, weights: Tensor, gradient: Tensor, dk: Tensor, dv: Tensor) -> Tensor:
        """Add the gradients in own keys and values; give the one in the scaled queries."""
        change = self.values.met(gradient)
        change = torch._softmax_backward_data(change, weights, -1, weights.dtype)
        own = slice(self.keys.before, None)
        dk[:, self.rows] += _product(change[..., own].transpose(2, 3), self.query)
        dv[:, self.rows] += _product(weights[..., own].transpose(2, 3), gradient)
        return self.keys.mixed(change)

    def part(self, x: Tensor) -> Tensor:
        """This tile of something laid out as the queries are in a model, (B, H, q, D)."""
        return _by_head(x[self.rows, :, self.queries], len(self.query))

    def put(self, part: Tensor, whole: Tensor) -> None:
        """Write a tile, (heads, b, G * m, D), to where it belongs, (B, H, q, D)."""
        _place(part, whole[self.rows, :, self.queries])


@dataclass
class _Side:
    """Keys, or values, of some rows: those of the context, one copy for all, and their own."""

    shared: Tensor | None  # (heads, c, D)
    own: Tensor  # (heads, b, t, D)

    @property
    def before(self) -> int:
        """Tokens c of the context."""
        return 0 if self.shared is None else self.shared.shape[1]

    @property
    def length(self) -> int:
        """Tokens c + t."""
        return self.before + self.own.shape[2]

    def met(self, part: Tensor) -> Tensor:
        """Products of (heads, b, m, D) with all of them, (heads, b, m, c + t)."""
        if self.shared is None:
            return _product(part, self.own.transpose(2, 3))
        found = part.new_empty(*part.shape[:3], self.length)
        # Products that write to where they belong spare a copy of all the scores.
        far, near = found.flatten(1, 2)[..., : self.before], found.flatten(0, 1)[..., self.before :]
        torch.bmm(part.flatten(1, 2), self.shared.transpose(1, 2), out=far)
        torch.bmm(part.flatten(0, 1), self.own.flatten(0, 1).transpose(1, 2), out=near)
        return found

    def mixed(self, weights: Tensor) -> Tensor:
        """Sum of all of them by weights (heads, b, m, c + t), (heads, b, m, D)."""
        if self.shared is None:
            return _product(weights, self.own)
        found = weights.new_empty(*weights.shape[:3], self.own.shape[3])
        far, near = weights.split([self.before, self.own.shape[2]], -1)
        # Head by head: a batched product of a part of a tensor takes half as long again.
        for head, values, there in zip(far.flatten(1, 2), self.shared, found, strict=True):
            torch.mm(head, values, out=there.flatten(0, 1))
        found.flatten(0, 1).baddbmm_(near.flatten(0, 1), self.own.flatten(0, 1))
        return found


def _tiles(query: Tensor, key: Tensor, value: Tensor, *told: Any) -> Iterator[_Tile]:
    """Cut rows, then queries, so that the scores of each piece are few."""
    layout, layer, scaling, window = told
    heads, group, own = len(key), query.shape[1] // len(key), key.shape[2]
    for segment, context in layout.segments:
        keys, values = context.of(layer, query.dtype) if context else (None, None)
        before = keys.shape[1] if keys is not None else 0
        # Without a window all of a context is seen.
        hidden = layout.hidden(segment, before if window else 0, own, window, query.device)
        a_query = query.shape[1] * (before + own)  # scores of one query position of one row
        many = _room(query) // (a_query * query.shape[2])
        few = query.shape[2] if many else _room(query) // a_query
        for rows in _pieces(segment, many):
            sides = _Side(keys, key[:, rows]), _Side(values, value[:, rows])
            for queries in _pieces(slice(0, query.shape[2]), few):
                part = _by_head(query[rows, :, queries], heads).mul_(scaling)
                mask = hidden[:, queries].repeat(1, group, 1)  # for queries that share a head
                yield _Tile(rows, queries, part, *sides, mask)


def _pieces(whole: slice, size: int) -> Iterator[slice]:
    """Cut a slice into as few pieces as a size (at least 1) allows, of about the same length."""
    length = whole.stop - whole.start
    many = -(-length // max(1, size))
    for k in range(many):
        yield slice(whole.start + k * length // many, whole.start + (k + 1) * length // many)


def _neighbours(contexts: Sequence[Context | None]) -> Iterator[tuple[slice, Context | None]]:
    """Rows that stand together and have one context."""
    start = 0
    for row in range(1, len(contexts) + 1):
        if row == len(contexts) or contexts[row] is not contexts[start]:
            yield slice(start, row), contexts[start]
            start = row


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Queries (b, H, m, D) by key head, (heads, b, G * m, D)."""
    b, H, m, D = x.shape
    part = x.reshape(b, heads, H // heads * m, D).transpose(0, 1)
    return part.clone(memory_format=torch.contiguous_format)


def _place(part: Tensor, place: Tensor) -> None:
    """Write (heads, b, G * m, D) over (b, H, m, D)."""
    b, H, m, D = place.shape
    place.copy_(part.view(len(part), b, H // len(part), m, D).transpose(0, 1).flatten(1, 2))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices of two batch axes, (heads, b, ., .)."""
    return torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).unflatten(0, a.shape[:2])
