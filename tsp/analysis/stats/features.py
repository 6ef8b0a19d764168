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

    The p-values take snapshots for independent, which those of one run are not: they repeat the
    paper's table and decide nothing.

    Parameters
    ----------
    snapshots
        One row per snapshot, with the columns ``features``, ``accuracy`` (which rho correlates
        with) and ``group`` (true or false: right or wrong, the groups of the U test).

    Returns
    -------
    DataFrame
        One row per feature: feature, rho, rho_p, n, u, u_p, n_wrong, n_right, reason. Where a
        statistic does not exist it is nan and reason, else empty, says why. u is U of the wrong
        snapshots. Snapshots that lack the feature, the accuracy or the group are left out of
        the feature's row.

    Raises
    ------
    InputError
        For a group that is neither true nor false.

    Examples
    --------
    >>> frame = pd.DataFrame({"h1_count": [9, 7, 8, 2, 1, 0], "right": [0, 0, 0, 1, 1, 1]})
    >>> table = feature_tests(frame, features=["h1_count"], accuracy="right", group="right")
    >>> table[["rho", "u", "n_wrong"]].round(3).iloc[0].tolist()
    [-0.878, 9.0, 3.0]
    """
    if not snapshots[group].dropna().isin([0, 1]).all():
        raise InputError("group", group, "name a column of true (right) and false (wrong)")
    rows = []
    for name in features:
        columns = (snapshots[column].astype("Float64") for column in (name, accuracy, group))
        complete = pd.concat(columns, axis=1, keys=["feature", "accuracy", "right"]).dropna()
        rows.append({"feature": name} | _tests(*complete.to_numpy(dtype=float).T))
    return pd.DataFrame(rows)


def _tests(feature: np.ndarray, accuracy: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Make both tests of a feature without gaps, and say why one does not exist."""
    wrong = right == 0
    rho, rho_p, n = spearman(feature, accuracy)
    u, u_p, _ = mann_whitney(feature[wrong], feature[~wrong])
    reasons = (
        {
            "the feature is constant": np.ptp(feature) == 0,
            "the accuracy is constant": np.ptp(accuracy) == 0,
            "no snapshot is wrong": not wrong.any(),
            "no snapshot is right": wrong.all(),
        }
        if n > 2
        else {"fewer than three snapshots": True}
    )
    reason = "; ".join(text for text, holds in reasons.items() if holds)
    row = {"rho": rho, "rho_p": rho_p, "n": n, "u": u, "u_p": u_p}
    return row | {"n_wrong": wrong.sum(), "n_right": (~wrong).sum(), "reason": reason}
