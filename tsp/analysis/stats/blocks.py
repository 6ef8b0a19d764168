"""Rank correlation over snapshots that follow each other, tested by exchanging whole blocks."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from tsp.analysis.stats.families import numbers


class BlockTest(NamedTuple):
    """Rank correlation over snapshots of several blocks, beside what shuffled blocks give."""

    rho: float  # Spearman's, over blocks that have another to be exchanged with
    mean: float  # of rho when the second series of whole blocks are shuffled
    low: float  # the middle 95 % of that
    high: float
    p: float  # two-sided: twice the rarer side of it, at least 2 / (shuffles + 1)
    blocks: int  # blocks that have another to be exchanged with


def block_rho(
    x: Any, y: Any, *, blocks: Any, strata: Any, shuffles: int = 1999, seed: int = 0
) -> BlockTest:
    """Spearman's rho of two series over pooled snapshots, tested by exchanging whole blocks.

    Parameters
    ----------
    x, y
        One number a snapshot, those of a block in the order of its runs and of time.
    blocks
        The block of each snapshot: all runs of one problem, since what makes a problem hard is
        the same for its seeds.
    strata
        Label of each snapshot's stratum; blocks of a stratum with equally many snapshots may be
        exchanged for each other.
    shuffles, seed
        Number of random exchanges, and their seed.

    Returns
    -------
    BlockTest
        nan but for the number of blocks where rho does not exist or none can be exchanged.

    Notes
    -----
    Snapshots of one run follow each other, so they cannot be shuffled; blocks can be. Shuffled
    blocks still follow the epochs, so the test is about whether problems that are solved sooner
    are those whose prompts changed sooner.

    Examples
    --------
    >>> problem, time = np.repeat(np.arange(8), 20), np.tile(np.arange(20.0), 8)
    >>> test = block_rho(time, time > 9, blocks=problem, strata=np.zeros(160))
    >>> round(test.rho, 2), round(test.low, 2), test.p  # the clock and nothing else
    (0.87, 0.87, 1.0)
    """
    frame = pd.DataFrame({"block": blocks, "stratum": strata})
    frame = frame.assign(x=numbers("x", x), y=numbers("y", y))
    frame["size"] = frame.groupby("block").x.transform("size")
    frame = frame.sort_values("block", kind="stable")  # a block's snapshots side by side
    frame["count"] = frame.groupby(["stratum", "size"]).block.transform("nunique")
    kept = frame[frame["count"] > 1].sort_values(["stratum", "size"], kind="stable")
    n_blocks = kept.block.nunique()
    if not (len(kept) and np.ptp(kept.x) > 0 and np.ptp(kept.y) > 0):  # constant, or nan
        return BlockTest(math.nan, math.nan, math.nan, math.nan, math.nan, n_blocks)
    centre = (len(kept) + 1) / 2
    kept = kept.assign(x=stats.rankdata(kept.x) - centre, y=stats.rankdata(kept.y) - centre)
    scale = math.sqrt((kept.x**2).sum() * (kept.y**2).sum())
    rng = np.random.default_rng(seed)
    total, shuffled = 0.0, np.zeros(shuffles)
    for (_, size), rows in kept.groupby(["stratum", "size"]):
        # Blocks as rows: exchanging them exchanges rows of one matrix of products.
        first, second = (rows[name].to_numpy().reshape(-1, size) for name in ("x", "y"))
        products = first @ second.T
        order = rng.permuted(np.tile(np.arange(len(products)), (shuffles, 1)), axis=1)
        shuffled += products[np.arange(len(products)), order].sum(axis=1)
        total += np.trace(products)
    shuffled /= scale
    rho = float(total) / scale
    rarer = min((shuffled <= rho + 1e-12).sum(), (shuffled >= rho - 1e-12).sum())
    low, high = np.quantile(shuffled, [0.025, 0.975])
    p = min(1.0, 2 * (1 + float(rarer)) / (1 + shuffles))
    return BlockTest(rho, float(shuffled.mean()), float(low), float(high), p, n_blocks)
