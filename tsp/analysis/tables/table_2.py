"""Table 2: topological features against accuracy, over snapshots and over problems."""

import numpy as np
import pandas as pd

from tsp.analysis.evidence import Evidence, at_balanced_check, later_half
from tsp.analysis.records import (
    deciding,
    load_accuracy,
    load_evidence,
    load_runs,
    load_topology,
    scored,
)
from tsp.analysis.stats import block_rho, feature_tests, rho_interval, spearman, stratified_rho
from tsp.analysis.units import STRATUM, UNIT, comparable, most_run, one_of_each
from tsp.errors import InputError
from tsp.experiments.paper import reported
from tsp.store.runs import Store

GROUPS = ("answers", "halves")
TABLE2_COLUMNS = [
    *("feature", "rho_paper", "rho_p_paper", "u_paper", "u_p_paper"),
    *("rho", "rho_p", "u", "u_p", "n", "n_wrong", "n_right", "n_runs", "reason"),
]
TABLE2_RUNS_COLUMNS = [
    *("feature", "rho", "n", "rho_blocks", "shuffled", "rho_low", "rho_high", "p_blocks", "blocks"),
    *("rho_units", "low", "high", "p_units", "units"),
]
SCALE_FREE = ("h0_mean_lifespan_scaled", "h1_mean_lifespan_scaled", "normalized_entropy")


def table2(store: Store, *, groups: str = "answers", protocol: str = "tuned") -> pd.DataFrame:
    """Table 2: topological features against accuracy, over the pooled checks of several runs.

    Parameters
    ----------
    groups
        The two groups of the U test. ``"answers"``: of the checks that ask every problem, those
        with a wrong answer against those with none; accuracy is the share of right answers.
        ``"halves"``: the first half of each run's checks ("wrong") against the second ("right"),
        the middle one of an odd number left out; accuracy is which half.
    protocol
        Pool the runs without TSLoss under this protocol: those otherwise at its defaults, of the
        model that decides claims, or all of them if none is.

    Returns
    -------
    DataFrame
        `TABLE2_COLUMNS`, one row per feature: the paper's columns end in ``_paper``, ours are
        those of `tsp.analysis.stats.feature_tests`. ``n_runs`` is the number of runs behind the
        ``n`` checks: these, not the checks, are independent. No rows if there are no such checks.

    Raises
    ------
    InputError
        For other groups.

    Notes
    -----
    The paper does not say which snapshots its table pools. Its columns fit two equal groups of
    73 that also define accuracy.
    """
    if groups not in GROUPS:
        raise InputError("groups", groups, f"choose one of {', '.join(GROUPS)}")
    runs, length = deciding(load_runs(store))
    chosen = _plain_runs(runs, protocol, length)
    checks = load_topology(store)
    if groups == "answers":
        checks = scored(checks, load_accuracy(store))
    checks = checks[checks.id.isin(chosen)].sort_values(["id", "epoch"])
    checks = checks if length is None else checks[checks.epoch <= length]
    if checks.empty:
        return pd.DataFrame(columns=TABLE2_COLUMNS)
    checks["group"] = checks.accuracy == 1 if groups == "answers" else later_half(checks)
    accuracy = "accuracy" if groups == "answers" else "group"
    printed = reported("table2")
    ours = feature_tests(checks, features=printed.feature, accuracy=accuracy, group="group")
    ours["n_runs"] = checks.id.nunique()
    return printed.merge(ours, on="feature", suffixes=("_paper", ""))[TABLE2_COLUMNS]


def _plain_runs(runs: pd.DataFrame, protocol: str, length: int | None) -> pd.Series:
    """Return the ids of the runs without TSLoss that Table 2 pools."""
    plain = runs[(runs.method == "ce") & (runs.protocol == protocol)]
    usual = comparable(plain, protocol=protocol, length=length)
    usual = usual[usual.model == most_run(runs)]
    if usual.empty:  # runs of a tiny model, or of other settings alone
        plain = one_of_each(plain.assign(arm=plain.setting), None)
        usual = plain[plain.setting == ""]
    return plain.id if usual.empty else usual.id


def table2_runs(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Table 2 with problems instead of snapshots as units, on the model that decides claims.

    Returns
    -------
    DataFrame
        `TABLE2_RUNS_COLUMNS`, one row per feature of Table 2 and of `SCALE_FREE`. ``rho`` is over
        ``n`` snapshots, as in `table2`; ``rho_blocks`` over those of problems and sets that have
        another to exchange answers with, all seeds of one at once, inside model, task and regime;
        exchanged, it is ``shuffled`` on average and in 95 % between ``rho_low`` and ``rho_high``
        (`tsp.analysis.stats.block_rho`, which also gives ``p_blocks`` and ``blocks``).
        ``rho_units`` with interval and ``p_units`` is over ``units``, problems or sets, each read
        once: the test that decides the claims (`tsp.analysis.stats.stratified_rho`). nan where a
        statistic does not exist.
    """
    evidence = evidence_of(store, protocol, alone=True)
    if evidence.scored_checks.empty:
        return pd.DataFrame(columns=TABLE2_RUNS_COLUMNS)
    checks = evidence.scored_checks.sort_values(["seed", "epoch"])
    strata, blocks = (checks.groupby(keys).ngroup() for keys in (STRATUM, UNIT))
    rows = []
    for feature in (*reported("table2").feature, *SCALE_FREE):
        pooled = spearman(checks[feature], checks.accuracy)
        exchanged = block_rho(checks[feature], checks.accuracy, blocks=blocks, strata=strata)
        units = at_balanced_check(evidence, feature)
        row = [feature, pooled.statistic, pooled.n, *exchanged, *[np.nan] * 4, len(units)]
        if len(units) >= 3:
            x, y, labels = (units[name].to_numpy() for name in (feature, "accuracy", "stratum"))
            rho, p = stratified_rho(x, y, labels)
            row[-5:-1] = rho, *rho_interval(rho, len(units) - labels.max()), p
        rows.append(row)
    return pd.DataFrame(rows, columns=TABLE2_RUNS_COLUMNS)


def evidence_of(store: Store, protocol: str, *, alone: bool = False) -> Evidence:
    """Return what decides claims under a protocol: published runs where there are any.

    ``alone``: of the model with the most runs only, as claims about one model are decided.
    """
    runs, *others = load_evidence(store)
    chosen, length = deciding(runs)
    chosen = chosen[chosen.model == most_run(chosen)] if alone else chosen
    return Evidence(chosen, *others, protocol=protocol, length=length)
