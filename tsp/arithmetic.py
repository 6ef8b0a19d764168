"""Operations and bytes of a training step, and where its time goes."""

from collections import Counter
from typing import Any

from torch.profiler import ProfilerActivity, profile

from tsp.memory import per_position, weight_bytes
from tsp.models import Frozen
from tsp.spec import RunSpec
from tsp.tasks import Problem
from tsp.trainer import Bank

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm_"}


def arithmetic(frozen: Frozen, problem: Problem, spec: RunSpec) -> dict[str, float]:
    """Operations of one step's matrix products on a problem.

    Two a weight and token, forward and backward, the vocabulary where it is projected; in
    attention two products forward and four backward, of which two towards the context fall away.

    Returns
    -------
    dict
        ``all`` tokens and those that are ``own`` (behind the context) or ``target``; 10^9
        operations of our step (``ours``) and of one over all tokens with all logits (``plain``);
        the second over the first (``saved``).
    """
    coded = frozen.encode(problem.question, problem.target, placement=spec.placement)
    table = frozen.vocabulary.numel()
    weights = sum(weight.numel() for weight in frozen.decoder.parameters()) - table
    every, before, target = coded.length(spec.n_tokens), len(coded.before), len(coded.target)
    own = every - before - 1
    config = frozen.model.config
    width = frozen.key_width // config.num_key_value_heads * config.num_attention_heads
    a_pair = 2 * width * config.num_hidden_layers  # operations of one product per query and key
    near, far = 6 * own * (own + 1) / 2, 4 * own * before
    ours = 4 * (weights * own + frozen.head.numel() * target) + a_pair * (near + far)
    plain = 4 * (weights + frozen.head.numel()) * every + a_pair * 6 * every * (every + 1) / 2
    told = {"all": every, "own": own, "target": target}
    return told | {"ours": ours / 1e9, "plain": plain / 1e9, "saved": plain / ours}


def traffic(frozen: Frozen, problem: Problem, spec: RunSpec, runs: int) -> dict[str, float]:
    """Bytes that a step of a bank cannot do without, at least, in the model's own precision.

    Returns
    -------
    dict
        ``weights``, read once forward and once backward; ``activations``, written once and read
        once, and ``contexts``, read once forward and twice backward, of all runs.
    """
    coded = frozen.encode(problem.question, problem.target, placement=spec.placement)
    own = coded.length(spec.n_tokens) - len(coded.before) - 1
    kept = own * per_position(frozen, frozen.dtype)
    keys = 2 * frozen.model.config.num_hidden_layers * frozen.key_width * frozen.dtype.itemsize
    return {
        "weights": 2.0 * weight_bytes(frozen, frozen.dtype),
        "activations": 2.0 * runs * kept,
        "contexts": 3.0 * runs * len(coded.before) * keys,
    }


def shares(bank: Bank) -> dict[str, float]:
    """Where the time of a bank's step goes: parts of the whole, from torch's profiler.

    Nothing for a GPU, where a CPU's time says how long it takes to ask, not to compute.

    Returns
    -------
    dict
        ``products`` with weights and vocabulary, ``attention``, and the ``rest``: what stands
        between the products element by element, optimisers, checks.
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
