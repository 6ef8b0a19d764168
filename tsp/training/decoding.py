"""Does greedy decoding with a prompt solve the problem?"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tsp.training.attention import BatchLayout
from tsp.training.base_lm import BaseLM
from tsp.training.forward import ForwardOutput, TokenRow, forward_rows
from tsp.training.products import product

PASSES = 8  # forward passes whose answers are decoded together: a step keeps no activations
PASS_COSTS = 64  # a further pass costs about this part of the largest one
EXTRA_TOKENS = 32  # an answer may be this much longer than the reference
# A choice of lower precision by a smaller margin of logits is made again in float32. On SmolLM2 no
# choice that bfloat16 moved had half of it (a test repeats that).
NEAR = 1.0

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """What greedy decoding gives; ``matched`` of its first tokens are the reference's."""

    text: str
    ids: Ids
    matched: int
    exact: bool


@dataclass(frozen=True)
class DecodingRequest:
    """When the answer to a row ends, besides at an end token, and what is known of it.

    Attributes
    ----------
    limit
        How many tokens it may have.
    agreed
        How many tokens of the reference it begins with, or None if that is not known.
    decided
        Returns whether no continuation of a text matters, as `tsp.problems.scoring.DECIDED` does.
    """

    limit: int
    agreed: int | None = None
    decided: Callable[[str], bool] | None = None


def batches(
    rows: Sequence[TokenRow], token_budget: int, *, padding: int | None = None
) -> Iterator[list[int]]:
    """Group row numbers, shortest rows first, so that no padded group exceeds the budget.

    A group also ends where the next row would pad the others by more than ``padding`` positions;
    by default by more than a pass of its own costs. A row longer than the budget is a group of its
    own. Rows that share a context are neighbours.
    """
    padding = token_budget // PASS_COSTS if padding is None else padding
    group: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i].positions):
        size, length = len(group), rows[i].positions
        padded = size * (length - rows[group[-1]].positions) if group else 0
        if group and ((size + 1) * length > token_budget or padded > padding):
            yield _by_context(group, rows)
            group = []
        group.append(i)
    if group:
        yield _by_context(group, rows)


def _by_context(group: list[int], rows: Sequence[TokenRow]) -> list[int]:
    """Order a group by the first row of each context."""
    contexts = [id(rows[i].context) for i in group]
    return sorted(group, key=lambda i: contexts.index(id(rows[i].context)))


@torch.no_grad()
def greedy_answers(
    frozen: BaseLM,
    rows: Sequence[TokenRow],
    *,
    requests: Sequence[DecodingRequest],
    token_budget: int,
) -> list[Answer]:
    """Decode every row greedily, as ``model.generate(do_sample=False)`` on the bare question would.

    An answer whose score is decided ends there.

    Reading a row with its reference gives the first reference token that greedy decoding would not
    choose. Up to there both agree, so generation starts from it, and a row whose whole reference is
    chosen needs none.

    Parameters
    ----------
    rows
        Rows with their whole target.
    requests
        When each answer ends.
    """
    decoded: dict[int, Ids] = {}
    for group in batches(rows, PASSES * token_budget, padding=PASSES * token_budget):
        requested = [(rows[i], requests[i]) for i in group]
        decoded |= zip(group, _decode(frozen, requested, token_budget), strict=True)
    return [_answer(frozen, row, decoded[i]) for i, row in enumerate(rows)]


def _decode(
    frozen: BaseLM, requested: Sequence[tuple[TokenRow, DecodingRequest]], token_budget: int
) -> list[Ids]:
    """Read rows with their references, then append one token a step until all have ended."""
    requests = [request for _, request in requested]
    limits = [request.limit for request in requests]
    rows = [_shortened(row, request.agreed) for row, request in requested]
    ends = [row.answer.start + 1 + limit for row, limit in zip(rows, limits, strict=True)]
    slots = max(*(row.positions for row in rows), *ends)
    answers: list[Ids] = [()] * len(rows)
    cache: list[Tensor] = []  # keys, then values of each layer, (heads, rows, slots, D)
    for batch in batches(rows, token_budget):
        output = forward_rows(frozen, [rows[r] for r in batch], choose=range(len(batch)), keep=True)
        for line, r in enumerate(batch):
            answers[r] = _draft(frozen, output, line, requests[r])
        recorded = [x for pair in output.recorded for x in pair]
        cache = cache or [x.new_zeros(len(x), len(rows), slots, x.shape[3]) for x in recorded]
        for buffer, x in zip(cache, recorded, strict=True):
            buffer[:, batch, : x.shape[2]] = x
    cached = unfinished = list(range(len(rows)))
    while unfinished := [r for r in unfinished if not _ended(frozen, answers[r], requests[r])]:
        if len(unfinished) <= 0.75 * len(cached):  # removing rows costs a copy of the others
            lines = [cached.index(r) for r in unfinished]
            for part, x in enumerate(cache):  # one after another: not all are there twice
                cache[part] = x[:, lines]
            cached = unfinished
        alive = set(unfinished)
        active, said = [rows[r] for r in cached], [answers[r] for r in cached]
        tokens = _next_tokens(frozen, active, said, cache)
        for r, token in zip(cached, tokens, strict=True):
            if r in alive:
                answers[r] += (token,)
    return answers


def _shortened(row: TokenRow, agreed: int | None) -> TokenRow:
    """Drop the reference behind the first difference, if that is known: no choice depends on it."""
    target = row.encoded.target[: None if agreed is None else agreed + 1]
    return replace(row, encoded=replace(row.encoded, target=target))


def _next_tokens(
    frozen: BaseLM, rows: Sequence[TokenRow], answers: Sequence[Ids], cache: list[Tensor]
) -> list[int]:
    """Feed each row the last token of its answer; return what greedy decoding chooses next."""
    places = [row.answer.start + len(ids) for row, ids in zip(rows, answers, strict=True)]
    layout = BatchLayout(
        [row.context for row in rows],
        torch.tensor(places, device=frozen.device)[:, None],
        cache=list(zip(cache[::2], cache[1::2], strict=True)),
    )
    hidden = frozen.forward(frozen.embed(tuple(ids[-1] for ids in answers))[:, None], layout)
    return product(hidden[:, 0], frozen.head).argmax(-1).tolist()


@torch.no_grad()
def settled(
    frozen: BaseLM, output: ForwardOutput, requests: dict[int, DecodingRequest], *, exact: bool
) -> dict[int, Answer]:
    """Return the answers that a forward pass settles: decoding ends among the tokens it agrees to.

    Parameters
    ----------
    output, requests
        The pass, and when the answers to some of its rows end, by row number.
    exact
        Whether that is the model that decides; if it is a copy of lower precision, only choices
        by clear margins count.
    """
    answers = {}
    for r, request in requests.items():
        draft = _draft(frozen, output, r, request)
        clear = exact or min(output.choices[r].margins[: len(draft)]) >= NEAR
        if clear and _ended(frozen, draft, request):
            answers[r] = _answer(frozen, output.rows[r], draft)
    return answers


def _draft(frozen: BaseLM, output: ForwardOutput, r: int, request: DecodingRequest) -> Ids:
    """Return the tokens that a pass settles: to the first that differs, or where it ends."""
    ids = output.choices[r].ids[: min(agreed(output, r) + 1, request.limit)]
    ends = (k + 1 for k, token in enumerate(ids) if token in frozen.end_ids)
    ids = ids[: next(ends, None)]
    decided = bisect_left(
        range(len(ids)), True, key=lambda k: _is_decided(frozen, ids[:k], request)
    )
    return ids[:decided]


def agreed(output: ForwardOutput, r: int) -> int:
    """Tokens of a row's reference up to the first that greedy decoding would not choose."""
    return _matched(output.choices[r].ids, output.rows[r].encoded.target)


def _matched(ids: Ids, target: Ids) -> int:
    """Tokens that two sequences begin with in common."""
    pairs = zip(ids, target, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(target)))


def _ended(frozen: BaseLM, ids: Ids, request: DecodingRequest) -> bool:
    full = ids[-1] in frozen.end_ids or len(ids) >= request.limit
    return full or _is_decided(frozen, ids, request)


def _is_decided(frozen: BaseLM, ids: Ids, request: DecodingRequest) -> bool:
    return request.decided is not None and request.decided(_text(frozen, ids))


def _text(frozen: BaseLM, ids: Ids) -> str:
    return frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()


def _answer(frozen: BaseLM, row: TokenRow, ids: Ids) -> Answer:
    matched = _matched(ids, row.encoded.target)
    return Answer(_text(frozen, ids), ids, matched, exact=matched == len(row.encoded.target))
