"""Does greedy decoding with a prompt solve the problem?"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from tsp.training.attention import KeyValues, Layout
from tsp.training.forward import Reading, Row, read
from tsp.training.models import Frozen
from tsp.training.prefix_cache import neighbours, placed, visits

READINGS = 4  # whose answers are generated together: a step keeps no activations
EXTRA_TOKENS = 32  # an answer may be this much longer than the reference
GUESSES = 6  # tokens guessed ahead in generation: a wrong guess costs little, a right one a step
FED = {"cpu": 96, "cuda": 1024}  # tokens a step takes about as fast as one
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
class Wish:
    """How far an answer may go, and what is guessed of it: no guess changes an answer."""

    limit: int
    hints: tuple[Ids, ...] = ()  # texts that it may resemble
    agreed: int | None = None  # tokens of the reference that it begins with; None: who knows


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


def batches(
    rows: Sequence[Row], token_budget: int, context_budget: int = sys.maxsize
) -> Iterator[list[int]]:
    """`micro_batches` of rows, those that share a context side by side in each.

    Contexts that are on the host and visit take no more than their budget at a time.
    """
    contexts = [row.context for row in rows]
    for group in micro_batches([row.own for row in rows], token_budget):
        yield from visits(neighbours(group, contexts), contexts, context_budget)


@torch.no_grad()
def greedy_answers(
    frozen: Frozen,
    rows: Sequence[Row],
    *,
    wishes: Sequence[Wish],
    token_budget: int,
    context_budget: int = sys.maxsize,
) -> list[Answer]:
    """Decode every row greedily, as ``model.generate(do_sample=False)`` on the bare question would.

    Reading a row with its reference tells the first reference token that greedy decoding would not
    choose; up to there both agree, so generation starts from it, and a row whose whole reference is
    chosen needs none.

    Parameters
    ----------
    frozen
        The model.
    rows
        Rows with their whole target.
    wishes
        How far each may go.
    token_budget
        Positions of one forward pass.
    context_budget
        Bytes that contexts kept on the host may take while they visit.
    """
    said: dict[int, Ids] = {}
    for group in batches(rows, READINGS * token_budget, context_budget):
        known, short = [wishes[i] for i in group], [_cut_row(rows[i], wishes[i]) for i in group]
        # Contexts that are on the host visit once for all passes of a group.
        here = placed([row.context for row in short], frozen)
        short = [replace(row, context=it) for row, it in zip(short, here, strict=True)]
        going = _Generation(frozen, short, known)
        for part in batches(short, token_budget, context_budget):
            chosen = [short[i] for i in part]
            going.begin(read(frozen, chosen, choose=range(len(part)), keep=True), part)
        said |= dict(zip(group, going.run(), strict=True))
    return [_answer(frozen, row, said[i]) for i, row in enumerate(rows)]


def _cut_row(row: Row, wish: Wish) -> Row:
    """A row without what is probably read in vain: the reference behind the first difference."""
    coded = row.encoded
    if wish.agreed is None:
        return row
    return replace(row, encoded=replace(coded, target=coded.target[: wish.agreed + 1]))


@torch.no_grad()
def settled(
    frozen: Frozen, reading: Reading, wishes: dict[int, Wish], *, exact: bool
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
    found = {}
    for r, wish in wishes.items():
        draft = _draft(frozen, reading, r, wish)
        clear = exact or min(reading.choices[r].margins[: len(draft)]) >= NEAR
        if clear and _ended(frozen, draft, wish.limit):
            found[r] = _answer(frozen, reading.rows[r], draft)
    return found


def _draft(frozen: Frozen, reading: Reading, r: int, wish: Wish) -> Ids:
    """Tokens greedy decoding is known to choose: the agreed ones and the first that differs."""
    return _cut(frozen, reading.choices[r].ids[: agreed(reading, r) + 1], wish.limit)


def agreed(reading: Reading, r: int) -> int:
    """Tokens of a row's reference up to the first that greedy decoding would not choose."""
    return _shared(reading.choices[r].ids, reading.rows[r].encoded.target)


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """Tokens two sequences begin with in common."""
    pairs = zip(ids, others, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(others)))


def _cut(frozen: Frozen, ids: Ids, limit: int) -> Ids:
    """Drop what follows an end token or the limit."""
    ends = (k + 1 for k, token in enumerate(ids) if token in frozen.end_ids)
    return ids[: min(next(ends, len(ids)), limit)]


def _ended(frozen: Frozen, ids: Ids, limit: int) -> bool:
    return ids[-1] in frozen.end_ids or len(ids) >= limit


class _Generation:
    """Rows whose answers go on, each from its own place, several guessed tokens a step.

    A step feeds each row its last token and guesses of the next ones; the guesses that the model
    would have chosen itself are kept, and so is its choice after them: what comes out is what one
    token at a time would give.
    """

    def __init__(self, frozen: Frozen, rows: Sequence[Row], wishes: Sequence[Wish]) -> None:
        self.frozen, self.rows, self.wishes = frozen, rows, wishes
        self.said: list[Ids] = [()] * len(rows)
        self.fixed = [_behind_context(row) for row in rows]
        self.held: list[int] = []  # rows that the buffers hold
        self.own: list[KeyValues] = []
        self._read: list[tuple[list[KeyValues], Sequence[int]]] = []

    def begin(self, reading: Reading, part: Sequence[int]) -> None:
        """Take what a reading tells of some rows; their keys and values are taken out of it."""
        for line, r in enumerate(part):
            self.said[r] = _draft(self.frozen, reading, line, self.wishes[r])
        assert reading.own is not None
        if not all(map(self._ended, part)):
            self._read.append((reading.own, part))

    def _fill(self) -> None:
        """Move keys and values of the rows that go on into buffers with room for the rest."""
        self.held = [r for r in range(len(self.rows)) if not self._ended(r)]
        places = ((self.rows[r].own, self.fixed[r] + self.wishes[r].limit) for r in self.held)
        slots = max(map(max, places)) + GUESSES
        lines = {r: line for line, r in enumerate(self.held)}
        moves = []
        for own, part in self._read:
            going = [k for k, r in enumerate(part) if r in lines]
            moves.append((own, going, [lines[part[k]] for k in going]))
        while moves[0][0]:  # a layer's keys are let go of once they are in their buffer
            layer = [(own.pop(0), chosen, to) for own, chosen, to in moves]
            keys, values = ([(pair[k], chosen, to) for pair, chosen, to in layer] for k in (0, 1))
            many = len(self.held)
            self.own.append((_room(keys, many, slots), _room(values, many, slots)))

    def run(self) -> list[Ids]:
        """Go on until every row has ended or is as long as it may be."""
        if self._read:
            self._fill()
        while going := [r for r in self.held if not self._ended(r)]:
            if len(going) <= 0.75 * len(self.held):  # making room anew costs a copy of the buffers
                lines = [self.held.index(r) for r in going]
                for layer, (key, value) in enumerate(self.own):
                    self.own[layer] = (key[:, lines], value[:, lines])
                self.held = going
            self._step()
        return self.said

    def _ended(self, r: int) -> bool:
        return _ended(self.frozen, self.said[r], self.wishes[r].limit)

    def _step(self) -> None:
        most = FED.get(self.frozen.device.type, FED["cpu"]) // len(self.held) - 1
        guesses = [self._guess(r, max(0, min(most, GUESSES))) for r in self.held]
        size = max(map(len, guesses))
        last = [self.said[r][-1] for r in self.held]
        fed = [
            [a, *guess, *[a] * (size - len(guess))] for a, guess in zip(last, guesses, strict=True)
        ]
        ids = self._choices(fed)
        for line, r in enumerate(self.held):
            if not self._ended(r):
                kept = _shared(ids[line], guesses[line]) + 1
                more = (*self.said[r], *ids[line][:kept])
                self.said[r] = _cut(self.frozen, more, self.wishes[r].limit)

    def _guess(self, r: int, size: int) -> list[int]:
        return [] if self._ended(r) else _guess(self.said[r], self.wishes[r].hints, size)

    def _choices(self, fed: list[list[int]]) -> list[list[int]]:
        """Feed tokens behind what each held row has said; what would follow each of them."""
        frozen, device = self.frozen, self.frozen.device
        tokens = torch.tensor(fed, device=device)  # (B, m)
        filled = [self.fixed[r] + len(self.said[r]) - 1 for r in self.held]
        places = torch.tensor(filled, device=device)[:, None]
        places = places + torch.arange(tokens.shape[1], device=device)
        starts = torch.tensor([self.rows[r].start for r in self.held], device=device)[:, None]
        layout = Layout([self.rows[r].context for r in self.held], places, own=self.own)
        hidden = frozen.decoder(
            inputs_embeds=frozen.model.get_input_embeddings()(tokens),
            position_ids=starts + places,
            use_cache=False,
            layout=layout,
        ).last_hidden_state.to(frozen.head.device)  # (B, m, d)
        logits = torch.nn.functional.linear(hidden.flatten(0, 1), frozen.head)
        return logits.argmax(-1).view(tokens.shape).tolist()


def _behind_context(row: Row) -> int:
    """Own positions before the answer."""
    return row.own - len(row.encoded.target) + 1


def _room(
    parts: Sequence[tuple[torch.Tensor, Sequence[int], Sequence[int]]], rows: int, slots: int
) -> torch.Tensor:
    """Copy rows of keys or values, (heads, b, q, D) each, to their lines of a buffer with slots."""
    heads, _, _, D = parts[0][0].shape
    buffer = parts[0][0].new_zeros(heads, rows, slots, D)
    for held, chosen, lines in parts:
        known = held[:, chosen, :slots]
        buffer[:, lines, : known.shape[2]] = known
    return buffer


def _guess(said: Ids, hints: Sequence[Ids], size: int) -> list[int]:
    """Tokens that followed the last few where those stood before, in a hint or in the text."""
    for width in (4, 3, 2, 1) if size else ():
        tail = said[-width:]
        for text in (*hints, said[:-1]):
            for k in range(len(text) - width - 1, -1, -1):
                if text[k : k + width] == tail:
                    return list(text[k + width : k + width + size])
    return []


def _answer(frozen: Frozen, row: Row, ids: Ids) -> Answer:
    target = row.encoded.target
    matched = _shared(ids, target)
    text = frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Answer(text, ids, matched, matched == len(target))
