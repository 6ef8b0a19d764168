"""Micro-batches and contexts as large as the free memory allows."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tsp.training.memory import pass_dtype, predict, weight_bytes
from tsp.training.models import DIVIDED, Encoded, Frozen
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

log = logging.getLogger(__name__)

SHARE = 0.8  # of the free memory that a bank may take: allocators leave gaps
CONTEXT_SHARE = 0.25  # of what is free beside the weights, for contexts
# Smallest and largest token budget; a CPU gains nothing from larger batches.
BUDGETS = {"cpu": (2**8, 2**12), "cuda": (2**8, 2**17)}


def fitted(
    plan: Plan,
    frozen: Frozen,
    specs: Sequence[RunSpec],
    encoded: Sequence[Sequence[Encoded]],
    *,
    device: str | None = None,
    free: int | None = None,
) -> Plan:
    """Set a plan's context budget and token budget by the memory that is free.

    Parameters
    ----------
    plan
        What else is planned; its precision counts.
    frozen, specs, encoded, device
        As in `predict`.
    free
        Bytes; default what `free_memory` says now.
    """
    place = device or str(frozen.device)
    free = _free(frozen, device) if free is None else free
    plan = replace(plan, context_budget=context_budget(frozen, plan, free=free))
    budget = token_budget(frozen, specs, encoded, plan, device=place, free=free)
    return replace(plan, token_budget=budget)


def context_budget(frozen: Frozen, plan: Plan, *, free: int) -> int:
    """Choose the bytes for contexts: a quarter of what weights leave free, a power of two or 0."""
    dtypes = {frozen.dtype, pass_dtype(frozen, plan)}
    weights = sum(weight_bytes(frozen, dtype) for dtype in dtypes) - loaded_bytes(frozen)
    return _power_below(CONTEXT_SHARE * (free - weights))


def token_budget(
    frozen: Frozen,
    specs: Sequence[RunSpec],
    encoded: Sequence[Sequence[Encoded]],
    plan: Plan,
    *,
    device: str | None = None,
    free: int | None = None,
) -> int:
    """Choose positions of one pass: the largest power of two whose prediction fits.

    It stays within `BUDGETS`; where not even the smallest fits, that is chosen and the log says so.
    A full micro-batch must fit, so that banks of longer problems may be computed by the same plan.

    Parameters
    ----------
    frozen, specs, encoded, plan, device
        As in `predict`; the plan's own token budget does not count.
    free
        Bytes; default what `free_memory` says now.
    """
    place = torch.device(device or frozen.device)
    room = SHARE * (_free(frozen, device) if free is None else free) + loaded_bytes(frozen)
    low, most = BUDGETS.get(place.type, BUDGETS["cpu"])

    def needed(budget: int) -> int:
        asked = replace(plan, token_budget=budget)
        found = predict(frozen, specs, encoded, asked, device=str(place))
        full = max(1.0, budget / found.positions)
        return replace(found, activations=round(found.activations * full)).total

    if needed(low) > room:
        told = "a bank of %d runs needs %.0f MiB even in its smallest micro-batches, of %.0f"
        log.warning(told, len(specs), needed(low) / 2**20, room / 2**20)
    budget = low
    while budget < most and needed(2 * budget) <= room:
        budget *= 2
    return budget


def loaded_bytes(frozen: Frozen) -> int:
    """Bytes that the model's weights take already, copies in other precisions included."""
    there = (it for it in (frozen, *frozen.copies.values()) if it.device.type != "meta")
    return sum(weight_bytes(it, it.dtype) for it in there)


def _free(frozen: Frozen, device: str | None) -> int:
    """Free bytes where a model is; of a divided one, where the least is."""
    layers = range(frozen.model.config.num_hidden_layers)
    places = [device] if device else {str(frozen.place_of(layer)) for layer in layers}
    return min(map(free_memory, places))


def free_memory(device: str = "cpu") -> int:
    """Bytes that a process may still take on a device: what no one uses or can be reclaimed.

    Parameters
    ----------
    device
        As `tsp.training.models.resolve_device` gives it.
    """
    if device in DIVIDED:
        return sum(free_memory(f"cuda:{k}") for k in range(torch.cuda.device_count()))
    if torch.device(device).type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return min([_host_memory(), *_group_memory()])


def _host_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # elsewhere than on Linux half of it is a fair guess
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    table = dict(line.split(":") for line in lines)
    return int(table["MemAvailable"].split()[0]) * 2**10


def _group_memory(folder: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What a container's limit leaves, where there is one; its file cache can be reclaimed."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such folder, or "max": no limit
        return
    yield limit - used + int(dict(line.split() for line in lines).get("inactive_file", 0))


def _power_below(number: float) -> int:
    """Largest power of two that is not larger than a number, 0 where there is none."""
    return 2 ** (int(number).bit_length() - 1) if number >= 1 else 0
