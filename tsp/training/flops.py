"""Operations and bytes of a training step, and where its time goes."""

from collections import Counter
from typing import Any

from torch.profiler import ProfilerActivity, profile

from tsp.problems.loading import Problem
from tsp.training.base_lm import BaseLM
from tsp.training.memory import position_bytes, weight_bytes
from tsp.training.spec import RunSpec
from tsp.training.trainer import Bank

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm_"}


def arithmetic(frozen: BaseLM, problem: Problem, spec: RunSpec) -> dict[str, float]:
    """Operations of one step's matrix products on a problem.

    Two a weight and token, forward and backward, the vocabulary where it is projected; in
    attention two products forward and four backward, of which two towards the context fall away.

    Returns
    -------
    dict
        ``all`` tokens and those that are ``own`` (behind the context) or ``target``; 10^9
        operations of our step (``ours``), those with weights and vocabulary of it (``linear``),
        and of a step over all tokens with all logits (``plain``); ``plain`` over ``ours``
        (``saved``).
    """
    coded = frozen.encode(problem.question, problem.target, placement=spec.placement)
    table = frozen.vocabulary.numel()
    weights = sum(weight.numel() for weight in frozen.decoder.parameters()) - table
    every, before, target = coded.length(spec.n_tokens), len(coded.before), len(coded.target)
    own = every - before - 1
    config = frozen.model.config
    width = frozen.key_width // config.num_key_value_heads * config.num_attention_heads
    windows = [frozen.window_of(layer) for layer in range(config.num_hidden_layers)]
    met = {window: _pairs(before, own, window) for window in set(windows)}
    near, far = (sum(met[window][k] for window in windows) for k in (0, 1))
    whole = sum(sum(_pairs(0, every, window)) for window in windows)
    a_pair = 2 * width  # operations of one product for a query and a key
    linear = 4 * (weights * own + frozen.head.numel() * target)
    ours = linear + a_pair * (6 * near + 4 * far)
    plain = 4 * (weights + frozen.head.numel()) * every + a_pair * 6 * whole
    counts = {"all": every, "own": own, "target": target, "linear": linear / 1e9}
    return counts | {"ours": ours / 1e9, "plain": plain / 1e9, "saved": plain / ours}


def _pairs(before: int, own: int, window: int | None) -> tuple[int, int]:
    """Own keys and context's keys that the own queries meet in a layer, counted together."""
    reach = [min(before + k + 1, window or before + own) for k in range(own)]
    near = [min(k + 1, seen) for k, seen in enumerate(reach)]
    return sum(near), sum(reach) - sum(near)


def traffic(frozen: BaseLM, problem: Problem, spec: RunSpec, runs: int) -> dict[str, float]:
    """Bytes that a step of a bank cannot do without, at least, in the model's own precision.

    Returns
    -------
    dict
        ``weights``, read once forward and once backward; ``activations`` of all runs, written once
        and read once; and the ``context``, one for all runs, read once forward and once backward.
    """
    coded = frozen.encode(problem.question, problem.target, placement=spec.placement)
    own = coded.length(spec.n_tokens) - len(coded.before) - 1
    kept = own * position_bytes(frozen, frozen.dtype)
    keys = 2 * frozen.model.config.num_hidden_layers * frozen.key_width * frozen.dtype.itemsize
    return {
        "weights": 2.0 * weight_bytes(frozen, frozen.dtype),
        "activations": 2.0 * runs * kept,
        "context": 2.0 * len(coded.before) * keys,
    }


def shares(bank: Bank) -> dict[str, float]:
    """Where the time of a bank's step goes: parts of the whole, from torch's profiler.

    Nothing for a GPU, where a CPU's time says how long it takes to ask, not to compute.

    Returns
    -------
    dict
        ``products`` with weights and vocabulary, ``attention``, and the ``rest``: what stands
        between the products element by element, the loss, optimisers, Python.
    """
    if bank.frozen.device.type != "cpu":
        return {}
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        bank.advance(1)
    spent: Counter[str] = Counter()
    for event in seen.events() or ():
        spent[_part(event)] += event.self_cpu_time_total
    return {name: time / spent.total() for name, time in spent.items()}


def _part(event: Any) -> str:
    """What an operation belongs to: a product inside attention is attention's."""
    name, inside = event.name, event
    while inside is not None:
        if inside.name.startswith("_Attention"):
            return "attention"
        inside = inside.cpu_parent
    return "products" if name in PRODUCTS else "rest"
