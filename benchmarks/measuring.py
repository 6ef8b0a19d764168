"""Time two pieces of work in turn, and describe the machine."""

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tsp.provenance import commit

PACKAGES = [
    *("tsp", "torch", "transformers", "accelerate", "peft"),
    *("giotto-tda", "giotto-ph", "gudhi", "ripser"),
]
WARM_SECONDS = 30  # work that takes longer needs no warming up


@dataclass(frozen=True)
class Done:
    """The number of units that a piece of work did, and further columns for its row."""

    units: float = 1.0
    columns: dict[str, float] = field(default_factory=dict)


Work = Callable[[], Done | Any]  # what returns something else did one unit


def report(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def compared(name: str, ours: Work, peer: Work, repeats: int, peer_name: str) -> dict[str, Any]:
    """Time two pieces of work in turn, and return a row with the medians per unit of each.

    Each side runs once more at the start, which is not counted, unless it takes half a minute.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    columns: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for side, work in (("ours", ours), ("peer", peer)):
            if len(times[side]) < repeats:
                seconds, done = timed(work)
                columns |= {f"{side}_{key}": value for key, value in done.columns.items()}
                if repeat or seconds > WARM_SECONDS:
                    times[side].append(seconds / done.units)
    mine, theirs = (statistics.median(times[side]) for side in ("ours", "peer"))
    report(f"{name}: {mine:.3g} s against {theirs:.3g} s")
    row = {"name": name, "ours": mine, "peer": theirs, "ratio": theirs / mine, "unit": "s"}
    row |= {"peer_name": peer_name, "repeats": repeats}
    return row | {f"{side}_times": values for side, values in times.items()} | columns


def timed(work: Work) -> tuple[float, Done]:
    """Return the seconds that a piece of work takes, and what it did."""
    begin = time.perf_counter()
    done = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin, done if isinstance(done, Done) else Done()


def environment() -> dict[str, Any]:
    """Return the machine and the versions that a row was measured with."""
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
    """Return the processor as Linux names it, and its matrix unit if it has one."""
    file = Path("/proc/cpuinfo")
    text = file.read_text() if file.exists() else ""
    name = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    unit = ", AMX" if "amx_bf16" in text else ""
    return (name[1] if name else platform.processor() or "unknown") + unit
