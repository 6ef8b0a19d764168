"""How much memory a bank will need, said before it starts.

Nothing is allocated to find out: what a pass keeps for its gradient is counted by running the
model on torch's ``meta`` device, where tensors have a shape and no content. All sizes are bytes.
"""

import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from tsp.errors import InputError
from tsp.training import attention
from tsp.training.attention import LONG, TILE, Context, Layout, keeps
from tsp.training.decoding import EXTRA_TOKENS, FED, GUESSES, READINGS, batches
from tsp.training.forward import CHUNK, Row
from tsp.training.models import Encoded, Frozen, hollow
from tsp.training.prefix_cache import context_bytes, visit_bytes
from tsp.training.prompts import prompt_dtype
from tsp.training.spec import RunSpec
from tsp.training.trainer import WAITING_ROUNDS, WAITING_ROWS, Plan

log = logging.getLogger(__name__)

MEASURED = 64  # positions of the row on which activations are counted
SCORES = 2  # copies of a piece's scores while its softmax, or the gradient of it, is computed
AGAIN = 3  # the same in a backward pass that computes the weights again
DECODED = 4  # the same in a decoding step: with the mask and copies of its own keys
WIDE = 3  # tensors as wide as the feed-forward layer while one layer is computed
# Memory that an allocator takes for each byte in use while tensors come and go: glibc's heap was
# measured at 1.3 to 1.7 on this package's banks (malloc leaves holes between what is kept).
SPREAD = {"cpu": 1.4}
COPIES = 5  # prompt, its gradient, that plus the penalty's, AdamW's two moments


@dataclass(frozen=True)
class Prediction:
    """Memory of a bank where its model is, in bytes; without Python and its libraries.

    Parameters
    ----------
    weights
        The frozen model, in each precision that is used.
    contexts
        Keys and values of the tokens before the prompts, within the plan's budget.
    prompts
        Prompts, gradients and AdamW's state; on a CPU also the prompts kept at every check.
    activations
        What the largest micro-batch keeps for its gradient, and one layer's work.
    activations_per_run
        The part of it that a run adds while its rows still fit into the micro-batch.
    vocabulary
        Logits of a chunk of answer positions.
    generation
        Keys and values of the answers that are decoded on; the activations are gone by then.
    reading
        Reading the longest context, before any pass.
    positions
        Of that micro-batch, padding included.
    spread
        Memory that the allocator takes for each byte of what comes and goes.
    """

    weights: int
    contexts: int
    prompts: int
    activations: int
    activations_per_run: int
    vocabulary: int
    generation: int
    reading: int
    positions: int
    spread: float = 1.0

    @property
    def passing(self) -> int:
        """The largest of what comes and goes, one after the other."""
        return max(self.activations + self.vocabulary, self.generation, self.reading)

    @property
    def gaps(self) -> int:
        """Holes that the allocator leaves meanwhile."""
        return round((self.spread - 1) * self.passing)

    @property
    def total(self) -> int:
        """The peak."""
        stays = self.weights + self.contexts + self.prompts
        return stays + self.passing + self.gaps


def predict(
    frozen: Frozen,
    specs: Sequence[RunSpec],
    encoded: Sequence[Sequence[Encoded]],
    plan: Plan,
    *,
    device: str | None = None,
) -> Prediction:
    """Predict the peak memory of a bank.

    Parameters
    ----------
    frozen
        The model, with weights or on ``meta``.
    specs
        Runs of the bank.
    encoded
        The problems of each, tokenised (`tsp.training.members.encode_all`).
    plan
        How the bank will be computed.
    device
        Where it will be; default where the model is.

    Returns
    -------
    Prediction
        For batches of the problems that keep most, and of their micro-batches the one that does.

    Raises
    ------
    InputError
        If there is no run.
    """
    if not specs:
        raise InputError("specs", 0, "give at least one run")
    kind = torch.device(device or frozen.device).type
    low = pass_dtype(frozen, plan)
    dtypes = list(dict.fromkeys([frozen.dtype, low]))
    contexts, held = _contexts(frozen, encoded, plan, dtypes=dtypes, kind=kind)
    runs = [_rows(frozen, spec, own, contexts) for spec, own in zip(specs, encoded, strict=True)]
    training = [
        _batch(spec, rows, lambda row: _kept_bytes(frozen, [row], low, kind))
        for spec, rows in zip(specs, runs, strict=True)
    ]
    group = max(
        _groups([row for rows in training for row in rows], plan),
        key=lambda rows: (
            _activations(frozen, rows, dtype=low, kind=kind) + _vocabulary_bytes(frozen, rows, low)
        ),
    )
    room = max(spec.max_new_tokens or EXTRA_TOKENS for spec in specs) + GUESSES + 1
    decoded = _largest(_waiting(specs, runs), plan, READINGS, room=room)
    return Prediction(
        weights=sum(weight_bytes(frozen, dtype) for dtype in dtypes),
        contexts=held,
        prompts=sum(_prompt_bytes(frozen, spec, kind) for spec in specs),
        activations=_activations(frozen, group, dtype=low, kind=kind),
        activations_per_run=max(_kept_bytes(frozen, rows, low, kind) for rows in training),
        vocabulary=_vocabulary_bytes(frozen, group, low),
        generation=_generation_bytes(
            frozen, decoded, token_budget=plan.token_budget, room=room, kind=kind
        ),
        reading=_reading_bytes(frozen, [before for before, held in contexts.items() if held]),
        positions=_positions(group),
        spread=SPREAD.get(kind, 1.0),
    )


def saved_bytes(
    frozen: Frozen, *, rows: int, own: int, context: int = 0, dtype: torch.dtype | None = None
) -> int:
    """Count what autograd keeps of the decoder's forward pass, by running it on ``meta``.

    Every storage counts once, the weights not at all.

    Parameters
    ----------
    frozen
        The model, with weights or on ``meta``.
    rows, own
        Of the batch, and positions of each.
    context
        Tokens of the context that the rows share.
    dtype
        Of the pass; default the model's.
    """
    twin = outline(frozen.model.config, dtype=dtype or frozen.dtype)
    state = [*twin.model.parameters(), *twin.model.buffers()]
    fixed = {part.untyped_storage()._cdata for part in state}
    kept: dict[int, torch.UntypedStorage] = {}  # held on to, so that no two get one address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in fixed:
            kept[storage._cdata] = storage
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held):
        _forward(twin, rows=rows, own=own, context=_hollow(twin, context) if context else None)
    return sum(storage.nbytes() for storage in kept.values())


def outline(
    config: PreTrainedConfig, *, dtype: torch.dtype = torch.float32, name: str = ""
) -> Frozen:
    """Make a model of which only the shapes exist, on ``meta``; it has no tokenizer."""
    return Frozen(name, hollow(config, dtype).eval().requires_grad_(False), None)


class _Shapes(Layout):
    """A layout whose places cannot be looked at; nobody asks how many slots are used."""

    def __post_init__(self) -> None:
        self.segments = list(attention._neighbours(self.contexts))


def _forward(frozen: Frozen, *, rows: int, own: int, context: Context | None) -> None:
    places = torch.arange(own)[None]
    frozen.decoder(
        inputs_embeds=torch.empty(rows, own, frozen.dim, dtype=frozen.dtype, requires_grad=True),
        position_ids=places.expand(rows, -1),
        attention_mask=torch.empty(1, 1, 1, 1),  # or transformers looks at the places
        use_cache=False,
        layout=_Shapes([context] * rows, places),
    )


def _hollow(frozen: Frozen, tokens: int) -> Context:
    """Make a context without content."""
    heads = frozen.model.config.num_key_value_heads
    layers = []
    for window in _windows(frozen):
        held = min(tokens, (window or sys.maxsize) - 1)
        part = torch.empty(heads, held, frozen.key_width // heads, dtype=frozen.dtype)
        layers.append((part, part))
    return Context(tokens, {frozen.dtype: layers})


def _windows(frozen: Frozen) -> list[int | None]:
    return [frozen.window_of(layer) for layer in range(frozen.model.config.num_hidden_layers)]


_PER_POSITION: WeakKeyDictionary[PreTrainedModel, dict[torch.dtype, int]] = WeakKeyDictionary()


def per_position(frozen: Frozen, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps of one position, but for attention's; counted once."""
    known = _PER_POSITION.setdefault(frozen.model, {})
    if dtype not in known:
        kept = saved_bytes(frozen, rows=1, own=MEASURED, dtype=dtype)
        known[dtype] = (
            kept - _attention_bytes(frozen, MEASURED, 0, dtype=dtype, kind="meta")
        ) // MEASURED
    return known[dtype]


def _attention_bytes(
    frozen: Frozen,
    own: int,
    context: int,
    *,
    dtype: torch.dtype,
    kind: str,
    alone: bool = False,
) -> int:
    """Bytes that attention keeps of one row: its weights, where it does, or its output."""
    heads, kept = frozen.model.config.num_attention_heads, 0
    width = frozen.key_width // frozen.model.config.num_key_value_heads
    for window in _windows(frozen):
        before = min(context, (window or sys.maxsize) - 1)
        if alone and LONG <= own <= (window or own):  # torch's own kernel, and its log-sum-exp
            kept += heads * own * (width + 1)
        elif keeps(own + before, shared=before > 0, kind=kind):
            kept += heads * own * (own + before)
    return kept * dtype.itemsize


def pass_dtype(frozen: Frozen, plan: Plan) -> torch.dtype:
    """Precision of the training passes, as `tsp.training.trainer.Bank` takes it."""
    return torch.bfloat16 if plan.precision == "bfloat16" else frozen.dtype


Contexts = dict[tuple[int, ...], Context | None]


def _contexts(
    frozen: Frozen,
    encoded: Sequence[Sequence[Encoded]],
    plan: Plan,
    *,
    dtypes: Sequence[torch.dtype],
    kind: str,
) -> tuple[Contexts, int]:
    """Contexts that `tsp.training.prefix_cache` would keep, in name only, and their bytes.

    Elsewhere than on a CPU those beyond the budget are kept on the host and visit, as many at a
    time as the budget allows, or one that is larger.
    """
    found: Contexts = {(): None}
    held, visiting, budget = 0, [0], plan.context_budget
    for before in (problem.before for run in encoded for problem in run):
        if before not in found:
            size = context_bytes(frozen, len(before), dtypes=dtypes)
            fits, visit = held + size <= budget, 0
            if not fits and kind != "cpu" and budget:
                visit = visit_bytes(frozen, len(before), dtypes=dtypes)
            found[before] = Context(len(before), {}, visit) if fits or visit else None
            held += size if fits else 0
            visiting.append(visit)
    return found, held + min(sum(visiting), max(budget, *visiting))


def _rows(
    frozen: Frozen, spec: RunSpec, encoded: Sequence[Encoded], contexts: Contexts
) -> list[Row]:
    prompt = torch.empty(spec.n_tokens, frozen.dim, device="meta")
    return [Row(prompt, problem, contexts[problem.before]) for problem in encoded]


def _batch(spec: RunSpec, rows: Sequence[Row], size: Callable[[Row], int]) -> list[Row]:
    """Rows of the largest batch that a run may draw."""
    return sorted(rows, key=size, reverse=True)[: spec.settings.batch_size]


def _groups(rows: Sequence[Row], plan: Plan, times: int = 1) -> list[list[Row]]:
    """Rows of each micro-batch of some times the token budget."""
    groups = batches(rows, times * plan.token_budget, plan.context_budget)
    return [[rows[i] for i in group] for group in groups]


def _largest(rows: Sequence[Row], plan: Plan, times: int, room: int) -> list[Row]:
    """Rows of the micro-batch that holds most positions, of some times the token budget.

    Each row has room for some more.
    """
    groups = _groups(rows, plan, times)
    return max(groups, key=lambda group: _positions(group) + len(group) * room)


def _waiting(specs: Sequence[RunSpec], runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows that are decoded together, from as many checks as wait for each other."""
    rows = [row for run in runs for row in run]
    rounds = min(WAITING_ROUNDS, math.ceil(WAITING_ROWS / len(rows)), max(map(_checks, specs)))
    return rows * rounds


def _checks(spec: RunSpec) -> int:
    return len({*range(0, spec.epochs, spec.check_every), spec.epochs})


def _positions(group: Sequence[Row]) -> int:
    """Positions of a micro-batch, padding included."""
    return len(group) * max(row.own for row in group)


def weight_bytes(frozen: Frozen, dtype: torch.dtype) -> int:
    """Tied weights count once, though they part when a model is moved to ``meta``."""
    weights = sum(weight.numel() for weight in frozen.model.parameters())
    if frozen.model.config.tie_word_embeddings and frozen.head is not frozen.vocabulary:
        weights -= frozen.head.numel()
    return weights * dtype.itemsize


def _prompt_bytes(frozen: Frozen, spec: RunSpec, kind: str) -> int:
    kept = _checks(spec) if kind == "cpu" else 0  # they are kept on the host
    return (COPIES + kept) * spec.n_tokens * frozen.dim * prompt_dtype(frozen).itemsize


def _kept_bytes(frozen: Frozen, rows: Sequence[Row], dtype: torch.dtype, kind: str) -> int:
    """Bytes that autograd keeps of rows that are padded to one length."""
    own = max(row.own for row in rows)
    alone = all(row.context is None for row in rows)
    starts = Counter(row.start for row in rows).items()
    kept = sum(
        many * _attention_bytes(frozen, own, start, dtype=dtype, kind=kind, alone=alone)
        for start, many in starts
    )
    return kept + len(rows) * own * per_position(frozen, dtype)


def _activations(frozen: Frozen, group: Sequence[Row], *, dtype: torch.dtype, kind: str) -> int:
    tile = _tile_bytes(frozen, group, dtype, kind)
    layer = _positions(group) * _layer_bytes(frozen, dtype)
    return _kept_bytes(frozen, group, dtype, kind) + max(layer, tile)


def _tile_bytes(frozen: Frozen, group: Sequence[Row], dtype: torch.dtype, kind: str) -> int:
    """Scores at work in a pass over rows that are padded to one length."""
    own = max(row.own for row in group)
    keys = [row.start + own for row in group]
    scores = frozen.model.config.num_attention_heads * own * sum(keys)
    kept = all(
        keeps(many, shared=row.start > 0, kind=kind) for many, row in zip(keys, group, strict=True)
    )
    return (SCORES if kept else AGAIN) * min(scores * dtype.itemsize, _tile(kind))


def _tile(kind: str) -> int:
    return TILE.get(kind, TILE["cpu"])


def _vocabulary_bytes(frozen: Frozen, group: Sequence[Row], dtype: torch.dtype) -> int:
    """Logits of a chunk in float32, those of the one before, and the same rounded."""
    asked = sum(len(row.encoded.target) for row in group)
    wide = torch.promote_types(dtype, torch.float32)
    a_logit = 2 * wide.itemsize + (dtype.itemsize if dtype != wide else 0)
    hidden = 2 * asked * frozen.dim * dtype.itemsize  # hidden states and their gradient
    return min(asked, CHUNK) * len(frozen.vocabulary) * a_logit + hidden


def _generation_bytes(
    frozen: Frozen, group: Sequence[Row], *, token_budget: int, room: int, kind: str
) -> int:
    """Of the passes that read what is decoded, or of the steps behind them, whichever is more."""
    part = max(token_budget, *(row.own for row in group))  # what one of these passes reads
    reading = _positions(group) * _key_bytes(frozen)
    layer = min(part, _positions(group)) * _layer_bytes(frozen, frozen.dtype)
    reading += max(layer, _tile_bytes(frozen, group, frozen.dtype, kind))
    longest, rows = max(row.own for row in group), len(group)
    slots = longest + room  # keys as read move into their buffers layer by layer
    fed = min(rows * (GUESSES + 1), max(rows, FED.get(kind, FED["cpu"])))
    logits = fed * len(frozen.vocabulary) * frozen.dtype.itemsize
    keys = slots + max(row.start for row in group)
    scores = fed * frozen.model.config.num_attention_heads * keys * frozen.dtype.itemsize
    # One row is never cut, however long its context.
    step = max(logits, DECODED * min(scores, max(_tile(kind), -(-scores // rows))))
    reading += _vocabulary_bytes(frozen, group, frozen.dtype)
    return max(reading, rows * slots * _key_bytes(frozen) + step)


def _reading_bytes(frozen: Frozen, read: Sequence[tuple[int, ...]]) -> int:
    """Keys and values as computed, before they are cut and rounded, and one layer's work."""
    longest = max(map(len, read), default=0)
    return longest * (_key_bytes(frozen) + _layer_bytes(frozen, frozen.dtype))


def _layer_bytes(frozen: Frozen, dtype: torch.dtype) -> int:
    """Bytes of one position while a layer is computed."""
    return WIDE * frozen.model.config.intermediate_size * dtype.itemsize


def _key_bytes(frozen: Frozen) -> int:
    """Bytes of one token's keys and values in all layers."""
    layers = frozen.model.config.num_hidden_layers
    return 2 * layers * frozen.key_width * frozen.dtype.itemsize


LINES = {
    "weights": "weights",
    "contexts": "contexts",
    "prompts": "prompts, optimiser",
    "activations": "activations",
    "vocabulary": "vocabulary",
    "generation": "generation",
    "reading": "reading a context",
    "gaps": "allocator's gaps",
    "total": "peak",
}


def render(
    frozen: Frozen, spec: RunSpec, encoded: Sequence[Encoded], plan: Plan, *, device: str, free: int
) -> str:
    """Lay out what a bank needs as a table in MiB, for its first run and for each one more.

    Parameters
    ----------
    frozen, plan, device
        As in `predict`.
    spec, encoded
        The run and its problems.
    free
        Bytes that are free, as `free_memory` says.
    """
    one, two = (
        predict(frozen, [spec] * runs, [encoded] * runs, plan, device=device) for runs in (1, 2)
    )
    lines = [f"{'MiB':<20}{'one run':>10}{'each more':>12}"]
    for name, title in LINES.items():
        size, more = (getattr(it, name) / 2**20 for it in (one, two))
        lines.append(f"{title:<20}{size:>10.1f}{more - size:>12.1f}")
    lines.append("The peak counts the largest of activations + vocabulary, generation and reading.")
    contexts = f"contexts up to {plan.context_budget / 2**20:.0f} MiB"
    told = f"token budget {plan.token_budget}, {plan.precision}, threads {plan.threads}"
    lines.append(f"free on {device}: {free / 2**20:.0f} MiB; {told}; {contexts}")
    return "\n".join(lines)
