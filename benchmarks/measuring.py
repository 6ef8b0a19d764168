"""Time pieces of work in turn, and describe the machine."""

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tsp.provenance import commit, installed_version
from tsp.training.products import cpu_info

PACKAGES = [
    *("tsp", "torch", "transformers", "accelerate", "peft"),
    *("giotto-tda", "giotto-ph", "gudhi", "ripser"),
]
WARM_SECONDS = 30  # work that takes longer needs no warming up
REVISION = 1  # raised when a change of the trainer or of these measurements changes their times


@dataclass(frozen=True)
class Done:
    """The number of units that a piece of work did, and further columns for its row."""

    units: float = 1.0
    columns: dict[str, float] = field(default_factory=dict)


Work = Callable[[], Any]  # may return `Done`


def report(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def compared(
    name: str,
    ours: Work,
    peer: Work,
    repeats: int,
    peer_name: str,
    *,
    units: tuple[float, float] = (1.0, 1.0),
    warm: bool = True,
    others: Mapping[str, Work] | None = None,
) -> dict[str, Any]:
    """Time pieces of work in turn; return a row with the times per unit of each, and two medians.

    To get ``warm``, all run once more, uncounted, unless one of them takes half a minute. Work that
    does not return `Done` does the ``units`` of its side. Of ``others``, timed after both sides,
    the row has the times alone.
    """
    works = {"ours": ours, "peer": peer} | dict(others or {})
    usual = dict(zip(("ours", "peer"), units, strict=True))
    times: dict[str, list[float]] = {side: [] for side in works}
    columns: dict[str, float] = {}
    while len(times["ours"]) < repeats:
        results = {side: timed(work) for side, work in works.items()}
        uncounted = warm and max(seconds for seconds, _ in results.values()) <= WARM_SECONDS
        warm = False
        if uncounted:
            continue
        for side, (seconds, result) in results.items():
            done = result if isinstance(result, Done) else Done(usual.get(side, 1.0))
            columns |= {f"{side}_{key}": value for key, value in done.columns.items()}
            times[side].append(seconds / done.units)
    mine, theirs = (statistics.median(times[side]) for side in ("ours", "peer"))
    report(f"{name}: {mine:.3g} s against {theirs:.3g} s")
    row = {"name": name, "ours": mine, "peer": theirs, "ratio": theirs / mine, "unit": "s"}
    row |= {"peer_name": peer_name, "repeats": repeats}
    return row | {f"{side}_times": values for side, values in times.items()} | columns


def timed(work: Work) -> tuple[float, Any]:
    """Return the seconds that a piece of work takes, and what it returns."""
    begin = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin, result


def environment() -> dict[str, Any]:
    """Return the machine and the versions that a row was measured with."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "commit": commit(),
        "revision": REVISION,
        **{name: installed_version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """Return the processor as Linux names it, and its matrix unit if it has one.

    A name without a number, such as "AMD EPYC", is shared by several generations.
    """
    name = cpu_info("model name") or platform.processor() or "unknown"
    if not re.search(r"\d", name) and (family := cpu_info("cpu family")):
        name += f" (family {family}, model {cpu_info('model')})"
    return name + (", AMX" if "amx_bf16" in cpu_info("flags") else "")
