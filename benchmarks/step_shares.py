"""Where the time of a training step goes."""

from collections import Counter
from typing import Any

from torch.profiler import ProfilerActivity, profile

from tsp.training.trainer import Bank

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm_"}


def shares(bank: Bank) -> dict[str, float]:
    """Measure which parts of a step's time are products, attention and the rest, on a CPU.

    Of a GPU nothing is returned: a CPU's time says how long it takes to ask, not to compute.
    """
    if bank.frozen.device.type != "cpu":
        return {}
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        bank.advance(1)
    spent: Counter[str] = Counter()
    for event in measured.events() or ():
        spent[_part(event)] += event.self_cpu_time_total
    return {name: time / spent.total() for name, time in spent.items()}


def _part(event: Any) -> str:
    """Return what an operation belongs to: a product inside attention is attention's."""
    outer = event
    while outer is not None:
        if outer.name.startswith("_Attention"):
            return "attention"
        outer = outer.cpu_parent
    return "products" if event.name in PRODUCTS else "rest"
