"""Sign test, intervals, and Holm's correction of a family of tests.

SciPy makes the tests and has no Holm correction. The interval of a median is written out: the order
statistics of SciPy's `quantile_test`, without the test.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

FEWEST = 6
"""Units below which no two-sided sign test can be below 0.05: 2 (1/2)^n."""
RESAMPLES = 4000

Interval = tuple[float, float]


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact sign test; 1 where nothing changed."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def share_interval(wins: int, n: int, alpha: float = 0.05) -> Interval:
    """Exact (Clopper-Pearson) interval at 1 - alpha of the share behind ``wins`` of ``n``."""
    interval = stats.binomtest(wins, n).proportion_ci(1 - alpha)
    return float(interval.low), float(interval.high)


def median_interval(values: Sequence[float] | np.ndarray, alpha: float = 0.05) -> Interval:
    """Order statistics that hold the median with confidence 1 - alpha at least, or nan."""
    x = np.sort(np.asarray(values, dtype=float))
    k = int(stats.binom.ppf(alpha / 2, len(x), 0.5))
    return (float(x[k - 1]), float(x[-k])) if k else (math.nan, math.nan)


def bootstrap_interval(
    values: np.ndarray, statistic: Callable[..., Any], *, alpha: float = 0.05
) -> Interval:
    """Percentile bootstrap interval of a statistic at 1 - alpha; nan for fewer than six values.

    Examples
    --------
    >>> bootstrap_interval(np.array([0, 0, 0, 0, 0, 6.0]), np.mean)[0]
    0.0
    """
    if len(values) < FEWEST:
        return math.nan, math.nan
    interval = stats.bootstrap(
        (values,),
        statistic,
        confidence_level=1 - alpha,
        method="percentile",
        n_resamples=RESAMPLES,
        rng=0,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def holm(p: Any) -> np.ndarray:
    """Holm's adjusted p-values of a family of tests; nan, a test not made, does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    made = _ascending(p)
    adjusted = (made * np.arange(len(made), 0, -1)).cummax().clip(upper=1.0)
    return adjusted.reindex(range(len(p))).to_numpy()


def holm_levels(p: Any, *, alpha: float = 0.05) -> np.ndarray:
    """Return what each p of a family must be below in Holm's procedure; nan stays nan.

    Returns
    -------
    ndarray
        ``alpha / (m - k)`` for the test of rank k (from 0) of m that is rejected, and for all
        that are not the level at which the procedure stopped. ``p < level`` exactly where
        ``holm(p) < alpha``.

    Examples
    --------
    >>> holm_levels([0.01, 0.04, 0.03]).tolist()  # 0.03 would have to be below 0.025
    [0.016666666666666666, 0.025, 0.025]
    """
    made = _ascending(p)
    steps = pd.Series(alpha / np.arange(len(made), 0, -1), index=made.index)
    stopped = (made >= steps).cummax().shift(fill_value=False)
    return steps.mask(stopped).ffill().reindex(range(len(p))).to_numpy()


def _ascending(p: Any) -> pd.Series:
    """Sort the p-values that are not nan, by their positions."""
    return pd.Series(np.asarray(p, dtype=float)).dropna().sort_values(kind="stable")
