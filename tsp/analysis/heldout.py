"""Losses on held-out problems under two methods, compared problem by problem."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.records import NO_PROMPT
from tsp.analysis.stats import FEWEST, bootstrap_interval, holm
from tsp.analysis.verdicts import contrasts

PROBLEM = ["model", "task", "precision", "sha256", "target_tokens"]
SET = ["model", "task", "content"]
RUN = [*PROBLEM, "content", "seed", "epochs"]
CHANGE = ["problems", "with_base", "with_method", "change", "low", "high", "lower"]


def paired_losses(
    rows: pd.DataFrame, runs: pd.DataFrame, *, method: str = "tsloss", base: str = "ce"
) -> pd.DataFrame:
    """Compare the reference's cross-entropy under two methods, problem by problem.

    The unit is the set of problems that prompts were trained on. The estimand, for each set, is
    the expected change in the mean cross-entropy (nats per target token) of the reference answer
    of a problem outside the set, when its prompt is trained with ``method`` instead of ``base``.
    Runs of a pair share set, seed and length, the longest there is; the pairs of a set are
    averaged problem by problem first.

    Parameters
    ----------
    rows
        Rows of `tsp.analysis.records.load_heldout`. Of several precisions float32 is taken.
    runs
        The runs to compare, rows of `tsp.analysis.records.load_runs`.
    method, base
        Methods of `tsp.training.spec.METHODS`; ``base`` may be `tsp.analysis.records.NO_PROMPT`.

    Returns
    -------
    DataFrame
        One row per set: ``model``, ``task``, ``content``; ``problems`` that were asked under both;
        the mean cross-entropy ``with_base`` and ``with_method``; ``change``, the second less the
        first, and its 95 % bootstrap interval over problems, ``low`` to ``high`` (nan for fewer
        than six), which is about other problems for the same prompts, not about other sets or
        seeds; ``lower``, the share of problems whose cross-entropy is lower with ``method``.
    """
    losses = rows[rows.ce.notna()].sort_values("precision", key=lambda column: column != "float32")
    losses = losses.drop_duplicates(["id", "model", "task", "sha256"])
    losses = losses[[*PROBLEM, "id", "ce"]]
    prompts = losses.merge(runs[["id", "method", "content", "seed", "epochs"]], on="id")
    treated, plain, on = prompts[prompts.method == method], prompts[prompts.method == base], RUN
    if base == NO_PROMPT:
        plain, on = losses[losses.id == NO_PROMPT], PROBLEM
    both = treated.merge(plain[[*on, "ce"]], on=on, suffixes=("", "_base")).sort_values("epochs")
    both = both.drop_duplicates([*PROBLEM, "content", "seed"], keep="last")
    problems = both.groupby([*SET, "sha256"])[["ce_base", "ce"]].mean()
    sets = []
    for key, losses in problems.groupby(SET, sort=False):
        change = (losses.ce - losses.ce_base).to_numpy()
        means = [len(change), losses.ce_base.mean(), losses.ce.mean(), change.mean()]
        sets.append([*key, *means, *bootstrap_interval(change, np.mean), (change < 0).mean()])
    return pd.DataFrame(sets, columns=[*SET, *CHANGE])


def across_sets(changes: Mapping[str, Any]) -> pd.DataFrame:
    """Summarise changes of several comparisons over sets, one number per set.

    Returns the columns of `tsp.analysis.verdicts.contrasts` and ``few``: whether there are fewer
    than six sets. No test of so few can be below 0.05, so p and the interval are nan there.
    """
    table = contrasts(changes)
    few = table.n < FEWEST
    return table.assign(few=few, p=table.p.mask(few), p_holm=holm(table.p.mask(few)))
