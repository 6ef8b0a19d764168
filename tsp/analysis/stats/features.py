"""Table 2: topological features against accuracy, and between wrong and right snapshots."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.stats.ranks import mann_whitney, spearman
from tsp.errors import InputError


def feature_tests(
    snapshots: pd.DataFrame, *, features: Sequence[str], accuracy: str, group: str
) -> pd.DataFrame:
    """Table 2: each topological feature against accuracy, and between wrong and right snapshots.

    Parameters
    ----------
    snapshots
        One row a snapshot, with the columns ``features``, ``accuracy`` (which rho correlates
        with) and ``group`` (true or false: right or wrong, the groups of the U test).

    Returns
    -------
    DataFrame
        One row a feature: feature, rho, rho_p, n, u, u_p, n_wrong, n_right, reason. Where a
        statistic does not exist it is nan and reason, else empty, says why. u is U of the wrong
        snapshots. Snapshots that lack the feature, the accuracy or the group are left out of
        the feature's row.

    Raises
    ------
    InputError
        For a column that is not there or not of numbers, or a group that has other values.

    Notes
    -----
    The p-values take snapshots for independent, which those of one run are not: they repeat the
    paper's table and decide nothing.

    Examples
    --------
    >>> frame = pd.DataFrame({"h1_count": [9, 7, 8, 2, 1, 0], "right": [0, 0, 0, 1, 1, 1]})
    >>> table = feature_tests(frame, features=["h1_count"], accuracy="right", group="right")
    >>> table[["rho", "u", "n_wrong"]].round(3).iloc[0].tolist()
    [-0.878, 9.0, 3.0]
    """
    columns = {name: _column(snapshots, name) for name in (*features, accuracy, group)}
    if not set(columns[group][~np.isnan(columns[group])]) <= {0.0, 1.0}:
        raise InputError("group", group, "name a column of true (right) and false (wrong)")
    rows = [
        {"feature": name, **_feature_row(columns[name], columns[accuracy], columns[group])}
        for name in features
    ]
    names = ["feature", "rho", "rho_p", "n", "u", "u_p", "n_wrong", "n_right", "reason"]
    return pd.DataFrame(rows, columns=names)


def _feature_row(feature: np.ndarray, accuracy: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """One row of Table 2 without the feature's name."""
    complete = ~(np.isnan(feature) | np.isnan(accuracy) | np.isnan(group))
    feature, accuracy, right = feature[complete], accuracy[complete], group[complete] == 1
    rho = spearman(feature, accuracy)
    u = mann_whitney(feature[~right], feature[right])
    return {
        "rho": rho.statistic,
        "rho_p": rho.p,
        "n": rho.n,
        "u": u.statistic,
        "u_p": u.p,
        "n_wrong": int((~right).sum()),
        "n_right": int(right.sum()),
        "reason": _reason(feature, accuracy, right),
    }


def _reason(feature: np.ndarray, accuracy: np.ndarray, right: np.ndarray) -> str:
    """Why a statistic is nan, or nothing."""
    if len(feature) < 3:
        return "fewer than three snapshots"
    reasons = {
        "the feature is constant": np.ptp(feature) == 0,
        "the accuracy is constant": np.ptp(accuracy) == 0,
        "no snapshot is wrong": right.all(),
        "no snapshot is right": not right.any(),
    }
    return "; ".join(reason for reason, holds in reasons.items() if holds)


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """One column as float64, missing values as nan."""
    if name not in frame.columns:
        raise InputError("column", name, f"choose from {', '.join(map(str, frame.columns))}")
    try:
        return frame[name].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError("column", name, "name a column of numbers") from None
