"""What a test could have found: the smallest effects that it detects with a power of 80 %."""

import math
from typing import Any, Literal

import numpy as np
from scipy import stats

from tsp.experiments.paper import ALPHA

TwoSharesTest = Literal["fisher", "z"]
POWER = 0.8


def detectable_share(n: int, *, alpha: float = ALPHA) -> float:
    """Smallest share of wins that a two-sided sign test over n untied pairs finds with `POWER`.

    To 0.001; nan where not even n wins of n are significant at level ``alpha``.

    Examples
    --------
    >>> detectable_share(8), detectable_share(24), detectable_share(5)
    (0.973, 0.797, nan)
    """
    wins = np.arange(n // 2 + 1, n + 1)
    least = _first(wins, 2 * stats.binom.sf(wins - 1, n, 0.5) <= alpha)
    shares = np.arange(500, 1001) / 1000
    return _first(shares, stats.binom.sf(least - 1, n, shares) >= POWER)


def difference_power(
    share: float, other: Any, n: int, *, test: TwoSharesTest = "fisher"
) -> np.ndarray:
    """Power of a two-sided test of two independent shares: the sum over all counts it rejects.

    ``n`` observations on each side; ``other`` may be several true shares. ``"fisher"`` is Fisher's
    exact test, ``"z"`` the z test with each side's own variance, whose true level may be a little
    above alpha.

    Examples
    --------
    >>> [round(difference_power(0.02, 0.1, 50, test=test).item(), 2) for test in ("fisher", "z")]
    [0.19, 0.44]
    """
    counts = np.arange(n + 1)
    one = stats.binom.pmf(counts, n, share)
    both = stats.binom.pmf(counts[:, None], n, np.atleast_1d(other))  # (n + 1, others)
    rejected = _fisher_rejects(n) if test == "fisher" else _z_rejects(n)
    return one @ rejected @ both


def detectable_difference(share: float, n: int, *, test: TwoSharesTest = "fisher") -> float:
    """Smallest gain over a share that `difference_power` finds with `POWER`.

    To 0.001; nan where not even a share of 1 would be told apart from ``share``.

    Examples
    --------
    >>> [detectable_difference(0.02, 50, test=test) for test in ("fisher", "z")]
    [0.186, 0.144]
    """
    higher = np.arange(math.ceil(1000 * share), 1001) / 1000
    enough = difference_power(share, higher, n, test=test) >= POWER
    return round(_first(higher, enough) - share, 3)


def detectable_rho(n: int, *, alpha: float = ALPHA) -> float:
    """Smallest rank correlation that a two-sided test over n pairs finds with `POWER`.

    Fisher's transformation with Bonett and Wright's variance (1 + rho² / 2) / (n - 3), as in
    `tsp.analysis.stats.rho_interval`; nan below four pairs.

    Examples
    --------
    >>> round(detectable_rho(24), 2), round(detectable_rho(100), 2)
    (0.56, 0.28)
    """
    if n < 4:
        return math.nan
    rho = np.arange(1, 1000) / 1000
    spread = np.sqrt((1 + rho**2 / 2) / (n - 3))
    least = stats.norm.ppf(1 - alpha / 2) / math.sqrt(n - 3)
    return _first(rho, stats.norm.sf((least - np.arctanh(rho)) / spread) >= POWER)


def _first(values: np.ndarray, enough: np.ndarray) -> float:
    """Return the first value that is enough, or nan."""
    return float(values[np.argmax(enough)]) if enough.any() else math.nan


def _fisher_rejects(n: int) -> np.ndarray:
    """Mark the pairs of counts, (n + 1, n + 1), that Fisher's two-sided exact test rejects.

    SciPy's own takes one table at a time.
    """
    first, second = np.indices((n + 1, n + 1))
    chance = stats.hypergeom.pmf(first, 2 * n, first + second, n)
    p = np.zeros(chance.shape)
    for total in range(2 * n + 1):  # tables with the same margins
        a = np.arange(max(0, total - n), min(n, total) + 1)
        chances = chance[a, total - a]
        p[a, total - a] = (chances <= chances[:, None] * (1 + 1e-7)) @ chances
    return p < ALPHA


def _z_rejects(n: int) -> np.ndarray:
    """Mark the pairs of counts that the z test with unpooled variances rejects."""
    first, second = np.indices((n + 1, n + 1)) / n
    error = np.sqrt((first * (1 - first) + second * (1 - second)) / n)
    return np.abs(first - second) > stats.norm.ppf(1 - ALPHA / 2) * error
