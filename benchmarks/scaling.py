"""How long a sweep would take on so many devices, its banks handed out in order."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from tsp.experiments.jobs import Job, banks_of
from tsp.training.spec import RunSpec


def makespan(
    banks: Sequence[tuple[str, float]], devices: int, *, loading: Mapping[str, float]
) -> float:
    """Seconds until the last of some banks is done, each begun by the first device that is free.

    Parameters
    ----------
    banks
        Model and seconds of each, in the order in which they are handed out.
    devices
        How many there are.
    loading
        Seconds that a device takes to load a model that it does not hold.

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
    """A sweep on one device and on more.

    Parameters
    ----------
    specs
        Its runs.
    cost
        Seconds of a run on a device; a bank takes the sum of its runs'.
    devices
        Numbers of devices to compare.
    bank
        Runs of a bank, at most.
    loading
        As in `makespan`.

    Returns
    -------
    DataFrame
        One row a number of ``devices``: ``hours`` until the last bank is done; ``speedup``, the
        hours of one device over these; ``efficiency``, speedup over devices; ``least``, the hours
        that the longest bank takes alone with the loading of its model.
    """
    found = banks_of([Job(spec, [], "") for spec in specs], bank)
    told = [(it[0].spec.model, sum(cost(job.spec) for job in it)) for it in found]
    least = max(seconds + loading[model] for model, seconds in told)
    alone = makespan(told, 1, loading=loading)
    rows = []
    for many in devices:
        seconds = makespan(told, many, loading=loading)
        speedup = alone / seconds
        rows.append([many, seconds / 3600, speedup, speedup / many, least / 3600])
    return pd.DataFrame(rows, columns=["devices", "hours", "speedup", "efficiency", "least"])
