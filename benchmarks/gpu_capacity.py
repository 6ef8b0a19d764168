"""Estimate which of the paper's models fit on which GPU, without their weights."""

from bisect import bisect_right
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
import torch
from transformers import AutoConfig

from tsp.training.memory import SHARE, estimate, pass_dtype
from tsp.training.models import MODELS, BaseLM, Encoded, hollow
from tsp.training.prefix_cache import context_bytes
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

# The paper's models, from the config.json of their pages on the hub (`tsp.training.models.MODELS`).
_SHAPE = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"),
    "tie_word_embeddings",
)
SHAPES: dict[str, dict[str, Any]] = {
    name: dict(zip(_SHAPE, shape, strict=True))
    for name, *shape in (
        ("open-llama-7b", "llama", 4096, 11008, 32, 32, 32, 128, 32000, False),
        ("deepseek-7b-chat", "llama", 4096, 11008, 30, 32, 32, 128, 102400, False),
        ("gemma-2b-it", "gemma", 2048, 16384, 18, 8, 1, 256, 256000, True),
        ("qwen1.5-14b-chat", "qwen2", 5120, 13696, 40, 40, 40, 128, 152064, False),
    )
}

EXAMPLE = Encoded(tuple(range(140)), tuple(range(10)), tuple(range(150)))
"""A problem of 300 tokens: question, end of the turn, answer."""
LONG_CONTEXT = 5_000  # tokens of a LongBench article
CARDS = (24, 80, 141)  # memory in GB, by which makers mean 2**30 bytes


def fits() -> pd.DataFrame:
    """Return what the paper's models need on a GPU, and how many runs train at once on which card.

    One run is a prompt of the protocol's length on one problem, `EXAMPLE`. Runs train at once as
    rows of one pass; a part of the card, 1 - `SHARE`, is left free.

    Returns
    -------
    DataFrame
        One row a model and precision of the passes (checks are decided in float32 in both):
        ``model hub_id precision``; in bytes ``weights``, ``run`` (activations of one run),
        ``peak`` (of one run, weights and all), ``context`` (one of `LONG_CONTEXT` tokens); and for
        each of `CARDS`, ``"24 GB"`` …, the number of runs, 0 where not one fits.
    """
    rows = []
    for name, precision in product(SHAPES, ("bfloat16", "float32")):
        frozen, plan = _outline(name), Plan(precision=precision)
        dtypes = list({frozen.dtype, pass_dtype(frozen, plan)})
        one = estimate(frozen, [RunSpec()], [[EXAMPLE]], plan, device="cuda")
        row: dict[str, Any] = {"model": name, "hub_id": MODELS[name].hub_id, "precision": precision}
        row |= {"weights": one.weights, "run": one.activations, "peak": one.peak}
        row["context"] = context_bytes(frozen, LONG_CONTEXT, dtypes=dtypes)
        sizes = {f"{card} GB": SHARE * card * 2**30 for card in CARDS}
        rows.append(
            row | {card: most_runs(frozen, plan, room=room) for card, room in sizes.items()}
        )
    return pd.DataFrame(rows)


def most_runs(frozen: BaseLM, plan: Plan, *, room: float) -> int:
    """Count the runs on `EXAMPLE` that train in one pass on a GPU within some bytes."""
    spec = RunSpec()
    positions = EXAMPLE.length(spec.n_tokens) - len(EXAMPLE.before)

    def peak(runs: int) -> int:
        wide = replace(plan, token_budget=runs * positions)
        return estimate(frozen, [spec] * runs, [[EXAMPLE]] * runs, wide, device="cuda").peak

    bound = 1
    while peak(bound) <= room:
        bound *= 2
    return bisect_right(range(1, bound), room, key=peak)


def _outline(name: str) -> BaseLM:
    """Return a model of the paper with shapes alone, on ``meta``; it has no tokenizer."""
    return BaseLM(name, hollow(AutoConfig.for_model(**SHAPES[name]), torch.float32), None)
