"""One pass of the frozen model over a bank's rows: losses, and what greedy decoding would choose.

A row is ``context | prompt | after | target``; the context's keys and values come from
`tsp.training.prefix_cache`, so the pass computes the rest alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tsp.training.attention import BatchLayout, Context, KeyValues
from tsp.training.base_lm import BaseLM, Encoded
from tsp.training.products import product

CHUNK = 128  # positions projected to the vocabulary at once, at least
LANE = 16  # of them worked on at once on a CPU: their logits stay in a cache
LOGIT_BYTES = {"cuda": 2**28}  # of float32 logits at once: a GPU is called less often


@dataclass(frozen=True)
class TokenRow:
    """One sequence of a batch: a run's prompt among the tokens of one of its problems."""

    prompt: Tensor  # what the model receives, (n, d), in the prompt's own precision
    encoded: Encoded
    context: Context | None = None  # of the tokens before the prompt; None: read them too

    @property
    def positions(self) -> int:
        """Positions that a pass computes: all but the context and the last target token."""
        before = 0 if self.context else len(self.encoded.before)
        return before + len(self.prompt) + len(self.encoded.after) + len(self.encoded.target) - 1

    @property
    def answer(self) -> range:
        """Those of these positions whose output predicts the target."""
        return range(self.positions - len(self.encoded.target), self.positions)


@dataclass(frozen=True)
class Choice:
    """What the model would say at each target position of a row, and by what margin."""

    ids: tuple[int, ...]
    margins: tuple[float, ...]  # of the logits of the first and the second choice


@dataclass(frozen=True)
class ForwardOutput:
    """A pass over rows: with gradient, their losses; where asked for, choices and keys."""

    rows: Sequence[TokenRow]
    losses: Tensor  # (B,) cross-entropy summed over target tokens
    choices: dict[int, Choice]  # by row number
    recorded: list[KeyValues]  # per layer, (heads, B, q, D); empty if they are not kept


def forward_rows(
    frozen: BaseLM,
    rows: Sequence[TokenRow],
    *,
    choose: Sequence[int] = (),
    keep: bool = False,
) -> ForwardOutput:
    """Read rows with their targets in one pass.

    Parameters
    ----------
    frozen
        The model.
    rows
        Those that share a context stand together.
    choose
        Numbers of the rows whose choices are wanted.
    keep
        Keep the rows' keys and values, so that generation can go on from them.
    """
    hidden, recorded = hidden_states(frozen, rows, keep=keep)
    device, chosen = hidden.device, set(choose)
    sizes = torch.tensor([len(row.encoded.target) for row in rows])
    line = torch.arange(len(rows)).repeat_interleave(sizes)
    first = torch.tensor([row.answer.start for row in rows]) - (sizes.cumsum(0) - sizes)
    column = torch.arange(len(line)) + first[line]
    line, column = line.to(device), column.to(device)
    targets = torch.tensor([i for row in rows for i in row.encoded.target], device=device)
    wanted = [r in chosen for r, row in enumerate(rows) for _ in row.answer]
    each, ids, margins = _AnswerLoss.apply(hidden[line, column], frozen.head, targets, wanted)
    losses = each.new_zeros(len(rows)).index_add(0, line, each)
    choices = {}
    if choose:  # else a GPU is not waited for
        tokens, gaps = ids.cpu().split(sizes.tolist()), margins.cpu().split(sizes.tolist())
        choices = {r: Choice(tuple(tokens[r].tolist()), tuple(gaps[r].tolist())) for r in choose}
    return ForwardOutput(rows, losses, choices, recorded)


def hidden_states(
    frozen: BaseLM, rows: Sequence[TokenRow], *, keep: bool = False
) -> tuple[Tensor, list[KeyValues]]:
    """Hidden states (B, q, d) at the rows' positions, and their keys and values per layer.

    Rows are padded behind: a causal model never looks there, so no mask is needed.
    """
    embed = cache(frozen.embed)  # rows on one problem share its tokens
    embeds = torch.nn.utils.rnn.pad_sequence(
        [_embed(embed, frozen.dtype, row) for row in rows], True
    )
    places = torch.arange(embeds.shape[1], device=frozen.device)[None]
    layout = BatchLayout([row.context for row in rows], places, recorded={} if keep else None)
    hidden = frozen.forward(embeds, layout)
    return hidden, [pair for _, pair in sorted((layout.recorded or {}).items())]


def _embed(embed: Callable[[tuple[int, ...]], Tensor], dtype: torch.dtype, row: TokenRow) -> Tensor:
    """Input embeddings at a row's positions, shape (positions, d)."""
    before = () if row.context else row.encoded.before
    tail = row.encoded.after + row.encoded.target[:-1]
    return torch.cat([part.to(dtype) for part in (embed(before), row.prompt, embed(tail))])


class _AnswerLoss(torch.autograd.Function):
    """Cross-entropy at each position, with its gradient made in the forward pass.

    The logits of a few positions at a time exist, and are turned into the gradient in place.
    Also gives the first choice and its margin over the second at the positions ``wanted``.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        losses = hidden.new_zeros(len(hidden), dtype=wide)
        ids, margins = torch.zeros_like(targets), torch.zeros_like(losses)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        head = head.to(hidden.dtype)
        several = projected_at_once(len(head), hidden.device.type)
        few = several if hidden.device.type in LOGIT_BYTES else LANE
        lane = hidden.new_empty(min(few, len(hidden)), len(head), dtype=wide)
        for start in range(0, len(hidden), several):
            chunk = hidden[start : start + several]
            logits = product(chunk, head)
            for low in logits.split(few):
                part = slice(start, start + len(low))
                start = part.stop
                high = low if low.dtype == wide else lane[: len(low)].copy_(low)
                if any(wanted[part]):
                    ids[part], margins[part] = first_choice(high)
                at = targets[part, None]
                high -= high.amax(-1, keepdim=True)
                target = high.gather(1, at)
                total = high.exp_().sum(-1, keepdim=True)
                losses[part] = (total.log() - target).squeeze(1)
                if gradient is not None:
                    high /= total
                    high.scatter_add_(1, at, high.new_full(at.shape, -1.0))
                    low.copy_(high)
            if gradient is not None:
                gradient[start - len(chunk) : start] = product(logits, head.T)
        ctx.gradient = gradient
        ctx.mark_non_differentiable(ids, margins)
        return losses, ids, margins

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        moved = ctx.gradient * gradients[0][:, None]
        return moved.to(ctx.gradient.dtype), None, None, None


def projected_at_once(vocabulary: int, kind: str) -> int:
    """Return how many positions are projected to the vocabulary at once on a type of device."""
    return max(CHUNK, LOGIT_BYTES.get(kind, 0) // (4 * vocabulary))


def first_choice(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most likely token of each position, and by how much its logit leads."""
    best, ids = logits.max(-1)
    rest = logits.scatter(1, ids[:, None], -torch.inf).amax(-1)
    return ids, best - rest
