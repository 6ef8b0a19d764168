"""Time two pieces of work in turn, and say on what machine."""

import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tsp.provenance import commit

log = logging.getLogger(__name__)

PACKAGES = [
    *("tsp", "torch", "transformers", "accelerate", "peft"),
    *("giotto-tda", "giotto-ph", "gudhi", "ripser"),
]
WARM = 30  # seconds after which work counts as warm


@dataclass(frozen=True)
class Done:
    """What a piece of work did: how many units, and what else a table should say of it."""

    units: float = 1.0
    told: dict[str, float] = field(default_factory=dict)


Work = Callable[[], Done | Any]  # what gives something else did one unit


def compared(name: str, ours: Work, peer: Work, repeats: int, peer_name: str) -> dict[str, Any]:
    """Time two pieces of work in turn, per unit of each, after one of each that is not counted.

    Work that takes half a minute needs no such warming up.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    told: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for side, work in (("ours", ours), ("peer", peer)):
            if len(times[side]) < repeats:
                seconds, done = timed(work)
                told |= {f"{side}_{name}": value for name, value in done.told.items()}
                if repeat or seconds > WARM:
                    times[side].append(seconds / done.units)
    mine, theirs = (statistics.median(times[side]) for side in ("ours", "peer"))
    log.info("%s: %.3g s against %.3g s", name, mine, theirs)
    return {
        "name": name,
        "ours": mine,
        "peer": theirs,
        "ratio": theirs / mine,
        "unit": "s",
        "peer_name": peer_name,
        "repeats": repeats,
        **{f"{side}_times": times for side, times in times.items()},
        **told,
    }


def timed(work: Work) -> tuple[float, Done]:
    """Seconds that a piece of work takes, and what it did."""
    begun = time.perf_counter()
    done = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun, done if isinstance(done, Done) else Done()


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "commit": commit(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor as Linux names it, and its matrix unit if it has one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    unit = ", AMX" if "amx_bf16" in told.get("flags", "") else ""
    return told.get("model name", platform.machine()) + unit
