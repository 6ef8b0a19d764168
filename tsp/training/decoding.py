"""Does greedy decoding with a prompt solve the problem?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from tsp.training.attention import BatchLayout, KeyValues
from tsp.training.base_lm import BaseLM
from tsp.training.forward import ForwardOutput, Row, read
from tsp.training.prefix_cache import neighbours

READINGS = 4  # whose answers are generated together: a step keeps no activations
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
    """How many tokens an answer may have, and how many of the reference's it begins with."""

    limit: int
    agreed: int | None = None  # None: not known


def micro_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Group row numbers, shortest rows first, so that no padded group exceeds the budget.

    A row longer than the budget is a group of its own.
    """
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and (len(group) + 1) * lengths[i] > token_budget:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def batches(rows: Sequence[Row], token_budget: int) -> Iterator[list[int]]:
    """Return `micro_batches` of rows, those that share a context side by side in each."""
    contexts = [row.context for row in rows]
    for group in micro_batches([row.own for row in rows], token_budget):
        yield neighbours(group, contexts)


@torch.no_grad()
def greedy_answers(
    frozen: BaseLM, rows: Sequence[Row], *, wishes: Sequence[DecodingRequest], token_budget: int
) -> list[Answer]:
    """Decode every row greedily, as ``model.generate(do_sample=False)`` on the bare question would.

    Reading a row with its reference gives the first reference token that greedy decoding would not
    choose. Up to there both agree, so generation starts from it, and a row whose whole reference is
    chosen needs none.

    Parameters
    ----------
    frozen
        The model.
    rows
        Rows with their whole target.
    wishes
        How long each answer may be.
    token_budget
        Positions of one forward pass.
    """
    said: dict[int, Ids] = {}
    for group in batches(rows, READINGS * token_budget):
        short = [_cut_row(rows[i], wishes[i]) for i in group]
        texts = _decode(frozen, short, [wishes[i].limit for i in group], token_budget)
        said |= dict(zip(group, texts, strict=True))
    return [_answer(frozen, row, said[i]) for i, row in enumerate(rows)]


def _cut_row(row: Row, wish: DecodingRequest) -> Row:
    """Drop the reference behind the first difference that is known: reading it would be in vain."""
    coded = row.encoded
    if wish.agreed is None:
        return row
    return replace(row, encoded=replace(coded, target=coded.target[: wish.agreed + 1]))


def _decode(
    frozen: BaseLM, rows: Sequence[Row], limits: Sequence[int], token_budget: int
) -> list[Ids]:
    """Read rows with their references, then append one token a step until all have ended."""
    said: list[Ids] = [()] * len(rows)
    ends = [_answer_place(row) + limit for row, limit in zip(rows, limits, strict=True)]
    slots = max(*(row.own for row in rows), *ends)
    own: list[KeyValues] = []  # per layer, (heads, rows, slots, D)
    for part in batches(rows, token_budget):
        reading = read(frozen, [rows[r] for r in part], choose=range(len(part)), keep=True)
        for line, r in enumerate(part):
            said[r] = _draft(frozen, reading, line, limits[r])
        _store(own, reading.own or [], part, shape=(len(rows), slots))
    held = list(range(len(rows)))
    while going := [r for r in held if not _ended(frozen, said[r], limits[r])]:
        if len(going) <= 0.75 * len(held):  # removing rows costs a copy of the others
            lines = [held.index(r) for r in going]
            own = [(key[:, lines], value[:, lines]) for key, value in own]
            held = going
        tokens = _next_tokens(frozen, [rows[r] for r in held], [said[r] for r in held], own)
        for r, token in zip(held, tokens, strict=True):
            if not _ended(frozen, said[r], limits[r]):
                said[r] = (*said[r], token)
    return said


def _store(
    own: list[KeyValues], new: list[KeyValues], part: Sequence[int], *, shape: tuple[int, int]
) -> None:
    """Copy keys and values of some rows, (heads, b, q, D) a layer, to buffers for all rows."""
    for layer, pair in enumerate(new):
        if layer == len(own):
            key, value = (x.new_zeros(len(x), *shape, x.shape[3]) for x in pair)
            own.append((key, value))
        for buffer, x in zip(own[layer], pair, strict=True):
            buffer[:, part, : x.shape[2]] = x


def _next_tokens(
    frozen: BaseLM, rows: Sequence[Row], said: Sequence[Ids], own: list[KeyValues]
) -> list[int]:
    """Feed each row its last token; return what greedy decoding chooses next."""
    device = frozen.device
    places = [_answer_place(row) + len(ids) - 1 for row, ids in zip(rows, said, strict=True)]
    place = torch.tensor(places, device=device)[:, None]
    starts = torch.tensor([row.start for row in rows], device=device)[:, None]
    hidden = frozen.decoder(
        inputs_embeds=frozen.embed(tuple(ids[-1] for ids in said))[:, None],
        position_ids=starts + place,
        use_cache=False,
        layout=BatchLayout([row.context for row in rows], place, own=own),
    ).last_hidden_state[:, 0]  # (B, d)
    return (
        torch.nn.functional.linear(hidden.to(frozen.head.device), frozen.head).argmax(-1).tolist()
    )


def _answer_place(row: Row) -> int:
    """Return the place of a row's first answer token, behind the context."""
    return row.own - len(row.encoded.target) + 1


@torch.no_grad()
def settled(
    frozen: BaseLM, reading: ForwardOutput, wishes: dict[int, DecodingRequest], *, exact: bool
) -> dict[int, Answer]:
    """Answers that a reading alone gives: greedy decoding ends within what it tells.

    Parameters
    ----------
    frozen
        The model that read.
    reading, wishes
        As for `finish`.
    exact
        Whether that is the model that decides; if it is a copy of lower precision, only choices
        by clear margins count.
    """
    answers = {}
    for r, wish in wishes.items():
        draft = _draft(frozen, reading, r, wish.limit)
        clear = exact or min(reading.choices[r].margins[: len(draft)]) >= NEAR
        if clear and _ended(frozen, draft, wish.limit):
            answers[r] = _answer(frozen, reading.rows[r], draft)
    return answers


def _draft(frozen: BaseLM, reading: ForwardOutput, r: int, limit: int) -> Ids:
    """Return the tokens that a reading settles: the agreed ones and the first that differs."""
    return _cut(frozen, reading.choices[r].ids[: agreed(reading, r) + 1], limit)


def agreed(reading: ForwardOutput, r: int) -> int:
    """Tokens of a row's reference up to the first that greedy decoding would not choose."""
    return _shared(reading.choices[r].ids, reading.rows[r].encoded.target)


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """Tokens two sequences begin with in common."""
    pairs = zip(ids, others, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(others)))


def _cut(frozen: BaseLM, ids: Ids, limit: int) -> Ids:
    """Drop what follows an end token or the limit."""
    ends = (k + 1 for k, token in enumerate(ids) if token in frozen.end_ids)
    return ids[: min(next(ends, len(ids)), limit)]


def _ended(frozen: BaseLM, ids: Ids, limit: int) -> bool:
    return ids[-1] in frozen.end_ids or len(ids) >= limit


def _answer(frozen: BaseLM, row: Row, ids: Ids) -> Answer:
    target = row.encoded.target
    matched = _shared(ids, target)
    text = frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Answer(text, ids, matched, matched == len(target))
