"""Memory of a bank by formula, and the micro-batches that fit into it.

All sizes are bytes. The estimate is meant to be right within 30 %; where it is too low on a GPU,
the trainer halves its micro-batches (`tsp.training.trainer.Bank`).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from tsp.training.attention import PIECE_BYTES, saves_weights
from tsp.training.base_lm import DIVIDED, WAITING, BaseLM, Encoded
from tsp.training.checks import WAITING_EPOCHS, WAITING_ROWS
from tsp.training.decoding import EXTRA_TOKENS, PASSES
from tsp.training.forward import projected_at_once
from tsp.training.prefix_cache import context_bytes
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

SHARE = 0.8  # of the free memory that a bank may take
CONTEXT_SHARE = 0.25  # of what is free beside the weights, for contexts
# Smallest and largest token budget; a CPU gains nothing from larger batches.
BUDGETS = {"cpu": (2**8, 2**12), "cuda": (2**8, 2**17)}
# Memory that glibc's allocator takes for each byte of tensors that come and go (measured: 1.3-1.7).
SPREAD = {"cpu": 1.4}
COPIES = 5  # of a prompt: itself, two gradients, AdamW's two moments


@dataclass(frozen=True)
class Memory:
    """Memory of a bank on its model's device, in bytes, without Python and its libraries."""

    weights: int  # of the frozen model, in each precision that is used
    contexts: int  # keys and values of the tokens before the prompts
    prompts: int  # prompts, gradients and AdamW's state; on a CPU also the prompts of all checks
    activations: int  # of the largest micro-batch: saved for the gradient, logits, one layer's work
    answers: int  # keys, values and scores of the answers that are decoded together

    @property
    def peak(self) -> int:
        """The sum, in which activations and answers never exist at the same time."""
        return self.weights + self.contexts + self.prompts + max(self.activations, self.answers)


def estimate(
    frozen: BaseLM,
    specs: Sequence[RunSpec],
    encoded: Sequence[Sequence[Encoded]],
    plan: Plan,
    *,
    device: str | None = None,
) -> Memory:
    """Estimate the peak memory of a bank.

    Parameters
    ----------
    frozen
        The model, with weights or on ``meta``.
    specs, encoded
        Runs of the bank, at least one; the problems of each (`tsp.training.members.encode_all`).
    device
        Where it will be; default where the model is.
    """
    kind, low = torch.device(device or frozen.device).type, pass_dtype(frozen, plan)
    dtypes = list(dict.fromkeys([frozen.dtype, low]))
    pairs = list(zip(specs, encoded, strict=True))
    befores = {problem.before for run in encoded for problem in run}
    contexts = sum(context_bytes(frozen, len(before), dtypes=dtypes) for before in befores)
    shared = contexts <= plan.context_budget  # or each pass reads them
    rows = [
        (problem.length(spec.n_tokens) - 1, len(problem.before) * shared)
        for spec, run in pairs
        for problem in run
    ]
    longest = max(keys - before for keys, before in rows)
    batch = sum(min(len(run), spec.settings.batch_size) for spec, run in pairs)
    positions = max(longest, min(plan.token_budget, longest * batch))
    config, spread = frozen.model.config, SPREAD.get(kind, 1.0)
    attended = config.num_attention_heads * max(_saved(frozen, kind, *row) for row in set(rows))
    kept = positions * (position_bytes(frozen, low) + attended * low.itemsize)
    piece = positions * config.num_attention_heads * max(keys for keys, _ in rows) * low.itemsize
    piece = min(piece, PIECE_BYTES.get(kind, PIECE_BYTES["cpu"]))  # scores, weights, gradient
    working = 3 * max(piece, positions * config.intermediate_size * low.itemsize)
    projected = min(positions, projected_at_once(len(frozen.vocabulary), kind))
    working += 3 * projected * len(frozen.vocabulary) * 4  # logits, their gradient and choices
    checks = max(1 + -(-spec.epochs // spec.check_every) for spec in specs)
    # Until so many wait; each counts as one answer at least.
    checks = min(checks, WAITING_EPOCHS, -(-WAITING_ROWS // len(specs)))
    decoded = min(PASSES * plan.token_budget, checks * len(rows) * longest)
    longer = 1 + max(spec.max_new_tokens or EXTRA_TOKENS for spec in specs) / longest
    keys = max(before for _, before in rows) + longest * longer
    prompts = COPIES * sum(spec.n_tokens for spec in specs)
    if kind == "cpu":  # where the prompt of each check is kept
        prompts += sum(spec.n_tokens * (1 + -(-spec.epochs // spec.check_every)) for spec in specs)
    scores = 2 * decoded / longest * config.num_attention_heads * keys * frozen.dtype.itemsize
    return Memory(
        weights=sum(weight_bytes(frozen, dtype) for dtype in dtypes),
        contexts=contexts if shared else 0,
        prompts=prompts * frozen.dim * 4,
        activations=round(spread * (kept + working)),
        answers=round(
            spread * decoded * longer * context_bytes(frozen, 1, dtypes=[frozen.dtype]) + scores
        ),
    )


def _saved(frozen: BaseLM, kind: str, keys: int, before: int) -> int:
    """Count over the layers the keys towards which a query's weights are kept.

    Of the ``before`` keys of a context, a layer with a sliding window meets the last ones only.
    """
    windows = map(frozen.window_of, range(frozen.model.config.num_hidden_layers))
    met = (keys - before + min(before, window - 1 if window else before) for window in windows)
    return sum(count for count in met if saves_weights(count, shared=before > 0, kind=kind))


def position_bytes(frozen: BaseLM, dtype: torch.dtype) -> int:
    """Return the bytes that autograd keeps of one position, attention weights excluded.

    Per layer: the input of each norm, queries, keys and values, and three tensors as wide as the
    feed-forward layer. Linear layers keep nothing, since their weights are frozen.
    """
    config, layers = frozen.model.config, cast(Any, frozen.model.base_model).layers
    norms = sum("layernorm" in name for name, _ in layers[0].named_children())
    wide = (
        norms * frozen.dim
        + frozen.query_width
        + 2 * frozen.key_width
        + 3 * config.intermediate_size
    )
    return int(config.num_hidden_layers * wide + frozen.dim) * dtype.itemsize


def pass_dtype(frozen: BaseLM, plan: Plan) -> torch.dtype:
    """Return the precision of the training passes."""
    return torch.bfloat16 if plan.precision == "bfloat16" else frozen.dtype


def weight_bytes(frozen: BaseLM, dtype: torch.dtype) -> int:
    """Return the bytes of the weights; tied ones count once, although ``meta`` separates them."""
    weights = sum(weight.numel() for weight in frozen.model.parameters())
    if frozen.model.config.tie_word_embeddings and frozen.head is not frozen.vocabulary:
        weights -= frozen.head.numel()
    return weights * dtype.itemsize


def fitted(
    plan: Plan,
    frozen: BaseLM,
    specs: Sequence[RunSpec],
    encoded: Sequence[Sequence[Encoded]],
    *,
    device: str | None = None,
    free: int | None = None,
) -> Plan:
    """Set a plan's context budget and token budget by the bytes that are free, by default now.

    The context budget is a quarter of what the weights leave free. The token budget is the largest
    power of two within `BUDGETS` whose estimate fits. The other parameters are those of `estimate`.
    """
    place = device or str(frozen.device)
    if free is None:
        parts = {str(torch.device(part)) for part in frozen.parts.values() if part not in WAITING}
        free = min(map(free_memory, {place} if device else {place, *parts}))
    models = [model for model in (frozen, *frozen.copies.values()) if model.device.type != "meta"]
    loaded = sum(weight_bytes(model, model.dtype) for model in models)
    weights = sum(weight_bytes(frozen, dtype) for dtype in {frozen.dtype, pass_dtype(frozen, plan)})
    contexts = int(max(0.0, CONTEXT_SHARE * (free + loaded - weights)))
    plan = replace(plan, context_budget=1 << contexts.bit_length() >> 1)
    least, budget = BUDGETS.get(torch.device(place).type, BUDGETS["cpu"])
    while budget >= least:
        plan = replace(plan, token_budget=budget)
        if estimate(frozen, specs, encoded, plan, device=place).peak <= SHARE * free + loaded:
            break
        budget //= 2
    return plan


def free_memory(device: str = "cpu") -> int:
    """Return the bytes that a process may still take on a device."""
    if device in DIVIDED:
        return sum(free_memory(f"cuda:{k}") for k in range(torch.cuda.device_count()))
    if torch.device(device).type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:  # not Linux: half of the memory is a fair guess
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(_number(r"MemAvailable:\s+(\d+)", text) * 2**10, _container_memory())


def _container_memory(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Return what a container's limit leaves; its file cache can be reclaimed."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        return limit - used + _number(r"inactive_file (\d+)", (folder / "memory.stat").read_text())
    except (OSError, ValueError):  # no such folder, or "max": no limit
        return 2**63


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


def render(memory: Memory, plan: Plan, *, device: str, free: int) -> str:
    """Lay out an estimate as a table in MiB; ``free`` is in bytes (`free_memory`)."""
    sizes = asdict(memory) | {"peak": memory.peak}
    lines = [f"{name:<12}{size / 2**20:>10.1f} MiB" for name, size in sizes.items()]
    settings = f"token budget {plan.token_budget}, {plan.precision}, threads {plan.threads}"
    contexts = f"contexts up to {plan.context_budget / 2**20:.0f} MiB"
    lines += ["An estimate. The peak counts the larger of activations and answers."]
    lines += [f"free on {device}: {free / 2**20:.0f} MiB; {settings}; {contexts}"]
    return "\n".join(lines)
