"""Where a training step's time goes: by torch's profiler, and at least by formula."""

from collections import defaultdict
from typing import Any, cast
from unittest.mock import patch

from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.flops import arithmetic
from tsp.training import trainer
from tsp.training.forward import projected_at_once
from tsp.training.trainer import Bank

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear_pointwise"}
SCOPES = {  # operations inside one of these belong to its part
    "_AnswerLoss": "vocabulary and loss",
    "_Norm": "norms",
    "penalties": "TSLoss",
    "Optimizer.step": "optimiser",
    "aten::embedding": "embedding",
}
PROJECTIONS, REST = "projections", "rotations, activations, sums"
ATTENTION, SOFTMAX = "attention, products", "attention, softmax"
PARTS = (PROJECTIONS, ATTENTION, SOFTMAX, *SCOPES.values(), REST)


def measured(bank: Bank) -> dict[str, float]:
    """Return the seconds of each of `PARTS` in one step of a bank, on a CPU.

    On a GPU nothing is returned: the CPU's time there is that of asking, not of computing.
    """
    if bank.frozen.device.type != "cpu":
        return {}

    def named(*args: Any) -> Any:
        with record_function("penalties"):
            return penalties(*args)

    penalties = trainer.penalties
    with (
        patch.object(trainer, "penalties", named),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded,
    ):
        bank.advance(1)
    spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for event in recorded.events() or ():
        spent[_part(event)] += event.self_cpu_time_total / 1e6
    return spent


def _part(event: Any) -> str:
    """Return the part that an operation belongs to."""
    outer = event
    while outer is not None:
        if outer.name.startswith("_Attention"):
            return ATTENTION if event.name in PRODUCTS else SOFTMAX
        for scope, part in SCOPES.items():
            if outer.name.startswith(scope):
                return part
        outer = outer.cpu_parent
    return PROJECTIONS if event.name in PRODUCTS else REST


def least(bank: Bank) -> dict[str, dict[str, float]]:
    """Return the ``operations`` of each part in one step, and the ``bytes`` it has to move.

    Every tensor that a part takes or gives is moved once forward and once backward, weights too;
    attention's weights, of every query with every key, and the logits are written and read once in
    each direction.
    """
    frozen, config = bank.reader, cast(Any, bank.frozen.model.config)
    size, layers, d = frozen.dtype.itemsize, config.num_hidden_layers, frozen.dim
    inner, keys = config.intermediate_size, frozen.key_width
    queries = frozen.query_width
    table: dict[str, dict[str, float]] = defaultdict(lambda: {"operations": 0.0, "bytes": 0.0})

    def add(part: str, operations: float, numbers: float, itemsize: int = size) -> None:
        table[part]["operations"] += operations
        table[part]["bytes"] += itemsize * numbers

    for run in bank.runs:
        (problem,) = run.problems
        count = arithmetic(frozen, problem, run.spec)
        own, before, target = count["own"], count["all"] - count["own"] - 1, count["target"]
        linear = 4 * d + 2 * queries + 2 * keys + 3 * inner  # in and out of a layer's projections
        add(PROJECTIONS, 1e9 * count["layers"], 2 * layers * own * linear)
        products = count["context_keys"] + count["own_keys"]
        add(ATTENTION, 1e9 * products, 4 * layers * own * (queries + keys))
        add(SOFTMAX, 0, 4 * layers * config.num_attention_heads * own * (before + own))
        add("norms", 0, (2 * layers + 1) * 5 * own * d)
        add(REST, 0, layers * own * (8 * inner + 4 * (queries + keys) + 12 * d))
        add("vocabulary and loss", 1e9 * count["vocabulary"], 4 * target * len(frozen.head))
        add("embedding", 0, 2 * own * d)
        n = run.spec.n_tokens
        add("optimiser", 0, 7 * n * d, 4)
        add("TSLoss", 12 * n * n * d, 4 * n * d + 8 * n * n, 4)  # every run records it
    add(PROJECTIONS, 0, 2 * count["weights"])  # once for all runs
    targets = sum(len(run.encoded[0].target) for run in bank.runs)
    chunks = -(-targets // projected_at_once(len(frozen.head), "cpu"))
    add("vocabulary and loss", 0, 2 * chunks * frozen.head.numel())
    add(ATTENTION, 0, 4 * layers * keys * before)
    return {part: table[part] for part in PARTS}
