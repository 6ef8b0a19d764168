"""Estimate how long a sweep takes on several devices, its banks handed out in order."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from tsp.experiments.jobs import Job, banks_of
from tsp.training.spec import RunSpec


def makespan(
    banks: Sequence[tuple[str, float]], devices: int, *, loading: Mapping[str, float]
) -> float:
    """Return the seconds until the last bank is done; each goes to the first free device.

    Parameters
    ----------
    banks
        Model and seconds of each, in order.
    devices
        Number of devices.
    loading
        Seconds to load each model on a device that holds another.

    Examples
    --------
    >>> makespan([("a", 3.0), ("a", 2.0), ("a", 2.0)], 2, loading={"a": 1.0})
    5.0
    """
    free: list[tuple[float, int]] = [(0.0, device) for device in range(devices)]
    held: dict[int, str] = {}
    for model, seconds in banks:
        begin, device = heapq.heappop(free)
        begin += 0.0 if held.get(device) == model else loading[model]
        held[device] = model
        heapq.heappush(free, (begin + seconds, device))
    return max(end for end, _ in free)


def scaling(
    specs: Iterable[RunSpec],
    cost: Callable[[RunSpec], float],
    *,
    devices: Sequence[int],
    bank: int,
    loading: Mapping[str, float],
) -> pd.DataFrame:
    """Compare runs in banks of at most ``bank``, of a ``cost`` in seconds, on numbers of devices.

    Returns
    -------
    DataFrame
        One row a number of ``devices``: ``hours``; ``speedup`` over one device; ``efficiency``,
        speedup over devices; ``least``, the hours of the longest bank with its model's loading
        (as in `makespan`).
    """
    groups = banks_of([Job(spec, [], "") for spec in specs], bank)
    banks = [(runs[0].spec.model, sum(cost(run.spec) for run in runs)) for runs in groups]
    hours = {n: makespan(banks, n, loading=loading) / 3600 for n in (1, *devices)}
    table = pd.DataFrame({"devices": devices, "hours": [hours[n] for n in devices]})
    table["speedup"] = hours[1] / table.hours
    table["efficiency"] = table.speedup / table.devices
    table["least"] = max(seconds + loading[model] for model, seconds in banks) / 3600
    return table
