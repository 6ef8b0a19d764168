"""Tables 2, 3 and 4, the claims and a summary, each computed from the runs in a store."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis import claims as rules
from tsp.analysis.equation13 import surrogate
from tsp.analysis.evidence import Evidence, at_balanced_check, gathered
from tsp.analysis.records import (
    TASK_NAMES,
    by_origin,
    deciding,
    in_order,
    load_accuracy,
    load_answers,
    load_evidence,
    load_losses,
    load_runs,
    load_topology,
    longest,
)
from tsp.analysis.stats import (
    FEWEST,
    block_rho,
    detectable_share,
    feature_tests,
    holm,
    paired_ratio,
    rho_interval,
    signed_rank,
    spearman,
    stratified_rho,
)
from tsp.analysis.studies import study
from tsp.analysis.units import PAIR, STRATUM, UNIT, comparable, units
from tsp.analysis.verdicts import VERDICTS
from tsp.errors import InputError
from tsp.experiments.paper import APPENDIX_TASKS, MAIN_TASKS, SYSTEMS, reported
from tsp.store.runs import Store
from tsp.training.model_cards import DEFAULT
from tsp.training.spec import REGIMES

__all__ = [
    "METHOD_NAMES",
    "TASK_NAMES",
    "claims",
    "convergence",
    "headline",
    "load_losses",
    "load_topology",
    "pairs",
    "same_start",
    "table2",
    "table2_runs",
    "table3",
    "table3_tests",
    "table4",
    "trained",
    "weighted",
]

METHOD_NAMES = {
    "ce": "Standard",
    "tsloss": "+TSLoss",
    "l2": "+L2",
    "pairwise": "+Pairwise",
    "persistence": "+Persistence",
    "sham": "+Sham",
}
GROUPS = ("answers", "halves")
TABLE2_COLUMNS = (
    *("feature", "rho_paper", "rho_p_paper", "u_paper", "u_p_paper"),
    *("rho", "rho_p", "u", "u_p", "n", "n_wrong", "n_right", "n_runs", "reason"),
)
TRAINED_COLUMNS = (
    *("model", "protocol", "regime", "task", "methods", "problems", "runs"),
    *("epochs", "solved", "minutes"),
)
MISSING = "–"
SIDES = (METHOD_NAMES["ce"], METHOD_NAMES["tsloss"])
ARROW = " → "


# Table 2 -------------------------------------------------------------------------------------


def table2(
    store: Store,
    *,
    groups: str = "answers",
    protocol: str = "tuned",
    ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Table 2: topological features against accuracy, over the pooled checks of several runs.

    Parameters
    ----------
    store
        Where the runs are.
    groups
        The two groups of the U test. ``"answers"``: checks with a wrong answer against checks
        with none; accuracy is the share of right answers. ``"halves"``: the first half of each
        run's checks ("wrong") against the second ("right"), the middle one of an odd number
        left out; accuracy is which half.
    protocol
        Pool the runs without TSLoss under this protocol: those otherwise at its defaults, or
        all of them if none is.
    ids
        Pool exactly these runs instead.

    Returns
    -------
    DataFrame
        `TABLE2_COLUMNS`, one row a feature: the paper's columns end in ``_paper``, ours are
        those of `tsp.analysis.stats.feature_tests`. ``n_runs`` is the number of runs behind the
        ``n`` checks: these, not the checks, are independent. No rows if there are no such checks.

    Raises
    ------
    InputError
        For other groups or an id that the store lacks.

    Notes
    -----
    The paper does not say which snapshots its table pools. Its columns fit two equal groups of
    73 that also define accuracy.
    """
    if groups not in GROUPS:
        raise InputError("groups", groups, f"choose one of {', '.join(GROUPS)}")
    runs, length = deciding(load_runs(store)) if ids is None else (load_runs(store), None)
    chosen = _chosen(runs, protocol, ids, length)
    checks = load_topology(store).merge(load_accuracy(store), on=["id", "epoch"])
    checks = checks[checks.id.isin(chosen)].sort_values(["id", "epoch"])
    checks = checks if length is None else checks[checks.epoch <= length]
    if checks.empty:
        return pd.DataFrame(columns=list(TABLE2_COLUMNS))
    checks["group"] = checks.accuracy == 1 if groups == "answers" else _half(checks)
    printed = reported("table2")
    ours = feature_tests(
        checks,
        features=printed.feature.tolist(),
        accuracy="accuracy" if groups == "answers" else "group",
        group="group",
    ).assign(n_runs=checks.id.nunique())
    both = printed.merge(ours, on="feature", suffixes=("_paper", ""))
    return both[list(TABLE2_COLUMNS)]


TABLE2_RUNS_COLUMNS = (
    *("feature", "rho", "n", "rho_blocks", "shuffled", "rho_low", "rho_high", "p_blocks", "blocks"),
    *("rho_units", "low", "high", "p_units", "units"),
)
SCALE_FREE = ("h0_mean_lifespan_scaled", "h1_mean_lifespan_scaled", "normalized_entropy")


def table2_runs(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Table 2 once more, with problems instead of snapshots as what is independent.

    Parameters
    ----------
    store
        Where the runs are.
    protocol
        Of the runs without TSLoss, those otherwise at its defaults.

    Returns
    -------
    DataFrame
        `TABLE2_RUNS_COLUMNS`, one row a feature of Table 2 and of `SCALE_FREE`. ``rho`` is over
        ``n`` snapshots, as in `table2`; ``rho_blocks`` over those of problems and sets that have
        another to exchange answers with, all seeds of one at once, inside model, task and regime;
        exchanged, it is ``shuffled`` on average and in 95 % between ``rho_low`` and ``rho_high``
        (`tsp.analysis.stats.block_rho`, which also gives ``p_blocks`` and ``blocks``).
        ``rho_units`` with interval and ``p_units`` is over ``units``, problems or sets, each read
        once: the test that decides the claims (`tsp.analysis.verdicts.stratified_rho`). nan where a
        statistic does not exist.
    """
    evidence = evidence_of(store, protocol)
    plain = evidence.plain_checks
    features = [*reported("table2").feature, *SCALE_FREE]
    if plain.empty:
        return pd.DataFrame(columns=list(TABLE2_RUNS_COLUMNS))
    plain = plain.merge(evidence.accuracy, on=["id", "epoch"]).sort_values(["seed", "epoch"])
    strata, blocks = (plain.groupby(keys).ngroup() for keys in (STRATUM, UNIT))
    rows = []
    for feature in features:
        exchanged = block_rho(plain[feature], plain.accuracy, blocks=blocks, strata=strata)
        pooled = spearman(plain[feature], plain.accuracy)
        told = [feature, pooled.statistic, pooled.n, *exchanged]
        rows.append([*told, *_over_units(evidence, feature)])
    return pd.DataFrame(rows, columns=list(TABLE2_RUNS_COLUMNS))


def evidence_of(store: Store, protocol: str) -> Evidence:
    """What decides claims under a protocol: published runs where there are any."""
    runs, *others = load_evidence(store)
    chosen, length = deciding(runs)
    return gathered(chosen, *others, protocol=protocol, length=length)


def _over_units(evidence: Evidence, feature: str) -> list[float]:
    """Last columns of `table2_runs`."""
    found = at_balanced_check(evidence, feature)
    if len(found) < 3:
        return [*[float("nan")] * 4, len(found)]
    strata = found.groupby(STRATUM).ngroup().to_numpy()
    rho, p = stratified_rho(found[feature].to_numpy(), found.accuracy.to_numpy(), strata)
    free = len(found) - len(np.unique(strata)) + 1
    return [rho, *rho_interval(rho, free), p, len(found)]


def _chosen(
    runs: pd.DataFrame, protocol: str, ids: Sequence[str] | None, length: int | None
) -> set[str]:
    """Ids of the runs that Table 2 pools."""
    if ids is not None:
        for lacking in set(ids) - set(runs.id):
            raise InputError("ids", lacking, "give ids of sound runs; `tsp runs list` shows them")
        return set(ids)
    plain = runs[(runs.method == "ce") & (runs.protocol == protocol)]
    usual = comparable(plain, protocol=protocol, length=length)
    if usual.empty:  # runs of a tiny model, or of other settings alone
        plain = longest(plain)
        usual = plain[plain.setting == ""]
    return set(plain.id if usual.empty else usual.id)


def _half(checks: pd.DataFrame) -> pd.Series:
    """0 in the first half of each run's checks, 1 in the second, nan for a middle one."""
    number = checks.groupby("id").cumcount() + 0.5
    middle = checks.groupby("id").id.transform("size") / 2
    return (number > middle).astype(float).where(number != middle)


# Table 3 -------------------------------------------------------------------------------------


PAIR_COLUMNS = (
    *(*UNIT, "problem", "origin", "length", "solved_at_start", "seeds"),
    *("standard", "tsloss", "sustained_standard", "sustained_tsloss"),
    *("ids_standard", "ids_tsloss"),
)
CELL_COLUMNS = (
    "origin",
    "model",
    "regime",
    "task",
    "method",
    "median",
    "censored",
    "n",
    "at_start",
)


def pairs(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """The table of units of Standard and TSLoss at weight 1, side by side.

    Returns
    -------
    DataFrame
        `PAIR_COLUMNS`, one row a unit (`tsp.analysis.units.units`): iterations of both, infinite
        where ``length`` epochs did not suffice. ``origin``: ``published``, or ``own`` for runs of
        the user's, which are read up to the shortest of a unit.
    """
    accuracy = load_accuracy(store)
    found = []
    for origin, (runs, length) in by_origin(load_runs(store)).items():
        table = units(runs, PAIR, protocol=protocol, length=length, accuracy=accuracy)
        keys = [*UNIT, "problem", "length", "solved_at_start", "seeds"]
        sides = [
            table[table.arm == arm].rename(
                columns={"iterations": name, "sustained": f"sustained_{name}", "ids": f"ids_{name}"}
            )
            for arm, name in (("ce", "standard"), ("tsloss", "tsloss"))
        ]
        columns = ["tsloss", "sustained_tsloss", "ids_tsloss"]
        both = sides[0].merge(sides[1][[*UNIT, *columns]], on=UNIT)
        more = ["standard", "sustained_standard", "ids_standard", *columns]
        found.append(both[[*keys, *more]].assign(origin=origin))
    table = pd.concat(found, ignore_index=True)
    order = ["origin", "model", "regime", "task", "problem", "content"]
    return in_order(table, order)[list(PAIR_COLUMNS)]


def convergence(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Our cells of Table 3 as numbers, two rows a cell: without and with TSLoss.

    Returns
    -------
    DataFrame
        `CELL_COLUMNS`. ``median``, over ``n`` units, of their iterations. A unit that was not
        solved counts as its length; where a later epoch in its place would move the median,
        ``censored`` is true and the median a lower bound. ``at_start`` units are excluded: their
        untrained prompts were right already.
    """
    cells = pairs(store, protocol=protocol).groupby(
        ["origin", "model", "regime", "task"], sort=False
    )
    rows = [[*key, *values] for key, rows in cells for values in _cell(rows)]
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def _cell(rows: pd.DataFrame) -> list[list[object]]:
    """Last columns of `convergence`, without and with TSLoss, from the units of a cell."""
    told = rows[~rows.solved_at_start.astype(bool)]
    found: list[list[object]] = []
    for method, column in (("ce", "standard"), ("tsloss", "tsloss")):
        most = told[column].median()
        least = np.minimum(told[column], told.length.astype(float)).median()
        found.append([method, least, bool(least < most), len(told), len(rows) - len(told)])
    return found


def table3(store: Store, *, protocol: str = "tuned") -> pd.DataFrame:
    """Table 3: epochs until every training problem is answered right, the paper's and ours.

    Parameters
    ----------
    store
        Where the runs are.
    protocol
        Of our runs.

    Returns
    -------
    DataFrame
        Text, for display. Columns: regime and task. Rows: where (``"paper"``, ``"here"``, and
        ``"yours"`` for a user's own runs beside published ones), model and method. Our cells are
        the medians of `convergence`, ``">E"`` where that is a lower bound; the row ``n`` counts the
        units, and with ``+k at start`` those that untrained prompts solved. No rows if there are no
        pairs of runs.
    """
    cells = convergence(store, protocol=protocol)
    columns = pd.MultiIndex.from_tuples(_columns(cells), names=["regime", "task"])
    index = ["where", "model", "method"]
    if cells.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=index), columns=columns)
    rows = _printed_cells() | _our_cells(cells)
    table = pd.Series(rows).rename_axis([*index, "regime", "task"])
    table = table.unstack(["regime", "task"], fill_value=MISSING, sort=False)
    return table.reindex(columns=columns, fill_value=MISSING)


def _columns(cells: pd.DataFrame) -> list[tuple[str, str]]:
    tasks = [*MAIN_TASKS, *(task for task in APPENDIX_TASKS if task in set(cells.task))]
    return [(regime, _task(task)) for regime in REGIMES for task in tasks]


def _printed_cells() -> dict[tuple[str, ...], str]:
    """The paper's cells, the model nearest to ours in size first."""
    titles = {system.name: system.title for system in reversed(SYSTEMS)}
    printed = reported("table3")
    printed = printed.sort_values("model", key=lambda it: it.map(list(titles).index), kind="stable")
    return {
        ("paper", titles[it.model], METHOD_NAMES[it.method], it.regime, TASK_NAMES[it.task]): str(
            it.iterations
        )
        for it in printed.itertuples()
    }


def _our_cells(cells: pd.DataFrame) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    for it in cells.itertuples():
        where = (str(it.regime), _task(str(it.task)))
        whose = ("here" if it.origin == cells.origin.iloc[0] else "yours", str(it.model))
        found[*whose, METHOD_NAMES[str(it.method)], *where] = _median(it)
        if it.method == "tsloss":  # the last of a cell, so that the count stands below both
            found[*whose, "n", *where] = _count(it)
    return found


def _task(name: str) -> str:
    return TASK_NAMES.get(name, name)


def _median(cell: Any) -> str:
    return f"{'>' if cell.censored else ''}{cell.median:g}" if cell.n else MISSING


def _count(cell: Any) -> str:
    return f"{cell.n} +{cell.at_start} at start" if cell.at_start else str(cell.n)


TESTS_COLUMNS = (
    *("model", "regime", "task", "n", "wins", "ties", "losses", "never", "at_start"),
    *("ratio", "low", "high", "p", "p_holm", "p_rank", "p_rank_holm", "shows"),
)


def table3_tests(store: Store, *, protocol: str = "tuned", sustained: bool = False) -> pd.DataFrame:
    """Table 3 cell by cell: is a unit solved sooner with TSLoss, and what could be seen?

    Parameters
    ----------
    store
        Where the runs are; published ones, if there are any, and no others.
    protocol
        Of the pairs of runs, otherwise at its defaults.
    sustained
        Count to the first check from which the answer stays right, not to the first right one.

    Returns
    -------
    DataFrame
        `TESTS_COLUMNS`, one row a model, regime and task and, last, one of all together.
        Over ``n`` units: in how many TSLoss ``wins``, ``ties``, ``losses``; of the ties, ``never``
        that neither run solved; ``at_start`` are excluded, since an untrained prompt solved them.
        The median ``ratio`` of iterations, of what either run solves, with its bootstrap interval,
        the sign test's ``p`` (`paired_ratio`) and the signed-rank test's (`signed_rank`), of cells
        with at least `FEWEST` units, each also by Holm over these cells, and the share of wins that
        as many pairs that differ ``shows`` with power 80 %.
    """
    both = pairs(store, protocol=protocol)
    both = both[both.origin == both.origin.iloc[0]] if len(both) else both
    if both.empty:
        return pd.DataFrame(columns=list(TESTS_COLUMNS))
    if sustained:
        both = both.assign(standard=both.sustained_standard, tsloss=both.sustained_tsloss)
    cells = both.groupby(["model", "regime", "task"], sort=False)
    table = pd.DataFrame(
        [[*key, *_tested(rows)] for key, rows in cells], columns=list(TESTS_COLUMNS)
    )
    table = table.assign(p_holm=holm(table.p), p_rank_holm=holm(table.p_rank))
    if len(table) > 1:
        table.loc[len(table)] = pd.Series(["all", "", "", *_tested(both)], TESTS_COLUMNS)
    return table


def _tested(rows: pd.DataFrame) -> list[Any]:
    """Last columns of `table3_tests` for the units of a cell."""
    cell = rows[~rows.solved_at_start.astype(bool)]
    never = cell[["standard", "tsloss"]].replace(np.inf, np.nan)
    told = never[never.notna().any(axis=1)]
    cap = cell.length[told.index].astype(float)
    found = paired_ratio(told.standard, told.tsloss, cap=cap)
    rank = signed_rank(told.standard, told.tsloss, cap=cap).p
    neither = len(never) - len(told)
    counts = [len(never), found.wins, found.ties + neither, found.losses, neither]
    p, rank = (found.p, rank) if len(never) >= FEWEST else (np.nan, np.nan)
    tests = [found.median_ratio, found.low, found.high, p, np.nan, rank, np.nan]
    at_start = len(rows) - len(cell)
    return [*counts, at_start, *tests, detectable_share(found.wins + found.losses)]


# Table 4 -------------------------------------------------------------------------------------


def table4(store: Store, *, protocol: str = "tuned", model: str = "") -> pd.DataFrame:
    """Table 4: iterations at each weight of TSLoss, the paper's and those of one model here.

    Returns
    -------
    DataFrame
        ``lambda_ts``, ``paper`` (nan: never) and the columns of `tsp.analysis.studies.study` for
        the problems and seeds that were trained at the most weights, against weight 0.
    """
    printed = reported("table4").rename(columns={"iterations": "paper"})
    ours = study(
        store,
        [],
        base={"method": "ce", "lambda_ts": 0.0},
        protocol=protocol,
        weights=printed.lambda_ts.tolist(),
        model=model or DEFAULT,
    )
    weight = ours.arm.str.extract(r"λ=(.*)")[0].astype(float).fillna(0.0)
    return printed.merge(ours.assign(lambda_ts=weight), on="lambda_ts", how="left")


def weighted(store: Store, *, protocol: str = "tuned", model: str = "") -> pd.DataFrame:
    """A model's runs at the weights of Table 4, of problems and seeds that have all stored ones.

    Returns
    -------
    DataFrame
        Rows of `tsp.analysis.records.load_runs`, none if all runs have one weight.
    """
    runs, length = deciding(load_runs(store))
    weights = reported("table4").lambda_ts.tolist()
    runs = runs[runs.model.eq(model or DEFAULT) & runs.lambda_ts.isin(weights)]
    runs = comparable(runs[runs.method.isin(["ce", "tsloss"])], protocol=protocol, length=length)
    known = runs.groupby([*UNIT, "seed"]).lambda_ts.transform("nunique")
    return runs[known == known.max()] if runs.lambda_ts.nunique() > 1 else runs.iloc[:0]


# Everything else ------------------------------------------------------------------------------


def claims(store: Store) -> pd.DataFrame:
    """Every claim of the paper with its verdict (`tsp.analysis.claims.evaluate`).

    Published runs decide; a user's own runs stand beside them, in the columns ``own`` (verdict) and
    ``own_n``. Where no run is published, the user's own decide.
    """
    runs, *others = load_evidence(store)
    more = {"answers": load_answers(store), "variances": _variances(store, runs)}
    found = [
        rules.evaluate(chosen, *others, whole=length is not None, **more)
        for chosen, length in by_origin(runs).values()
    ]
    return rules.beside(found[0], found[1] if len(found) > 1 else None)


A_FEW = 100  # prompts that equation 13 is tried on


def _variances(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """Variances of the last Standard prompt of each unit that keeps one."""
    return surrogate(_last_prompts(store, runs))


def last_prompts(store: Store, *, protocol: str, model: str) -> list[np.ndarray]:
    """Return the last Standard prompt of each unit of a model that keeps one, (n, d) each."""
    runs = load_runs(store)
    return _last_prompts(store, runs[runs.model == model], protocol=protocol)


def _last_prompts(store: Store, runs: pd.DataFrame, *, protocol: str = "tuned") -> list[np.ndarray]:
    chosen = comparable(deciding(runs)[0], protocol=protocol, length=None)
    chosen = chosen[chosen.method == "ce"] if len(chosen) else chosen
    clouds: list[np.ndarray] = []
    for _, rows in chosen.groupby(UNIT, sort=False) if len(chosen) else ():
        kept = [run for run in map(store.read, rows.id) if run.prompt_epochs]
        clouds += [run.prompt(run.prompt_epochs[-1]).numpy() for run in kept[:1]]
        if len(clouds) == A_FEW:
            break
    return clouds


def chapter_claims(store: Store, ids: Sequence[str]) -> pd.DataFrame:
    """Some claims as a chapter ends with them: claimed, measured, verdict, units, effect.

    All texts are HTML: commands in ``measured`` are marked as code, nothing else is markup.
    """
    table = claims(store).set_index("id").loc[list(ids)]
    table = table.map(lambda it: escape(it, quote=False) if isinstance(it, str) else it)
    table["why"] = table.why.str.replace(r"`([^`]*)`", r"<code>\1</code>", regex=True)
    names = {"statement": "claimed", "why": "measured", "verdict": "verdict", "n": "units"}
    table["effect"] = [effect(row) for row in table.to_dict("records")]
    return table[[*names, "effect"]].rename(columns=names)


def effect(row: Mapping[Any, Any]) -> str:
    """An effect with its interval and what the paper prints, in a few characters."""
    if np.isnan(row["effect"]):
        return MISSING
    told = f"{row['effect']:.3g}"
    if np.isfinite([row["low"], row["high"]]).all():
        told += f" ({row['low']:.3g} to {row['high']:.3g})"
    return told if np.isnan(row["printed"]) else f"{told}; printed {row['printed']:.3g}"


def same_start(store: Store, *, protocol: str, model: str = "") -> str:
    """Say from how many first prompts the units of each model start, and so what a p is about.

    Of the runs at the protocol's defaults; their first prompts are one where all summaries of their
    topology are. ``model``: of this one alone.
    """
    runs, length = deciding(load_runs(store))
    runs = comparable(runs, protocol=protocol, length=length)
    runs = runs[runs.model == model] if model else runs
    first = load_topology(store).query("epoch == 0 and id in @runs.id")
    told = []
    for name, mine in runs.groupby("model", sort=False):
        starts = first[first.id.isin(mine.id)].drop(columns="id").round(6).drop_duplicates()
        loops = ", ".join(f"{it:.0f}" for it in sorted(starts.h1_count))
        many, few = len(mine.drop_duplicates(UNIT)), len(starts)
        cloud = "one and the same first prompt" if few == 1 else f"{few} first prompts"
        told.append(f"all {many} units of {name} start from {cloud} ({loops} loops)")
    if not told:
        return "The store has no units."
    said = "; ".join(told)
    return f"{said[0].upper()}{said[1:]}: a p-value is about problems, given where they start."


def trained(store: Store) -> pd.DataFrame:
    """What was trained: one row a model, protocol, regime and task.

    Returns
    -------
    DataFrame
        `TRAINED_COLUMNS`: ``methods`` by name; ``problems`` that differ; ``runs``, of which
        ``solved`` were all right at a check after the first epoch; ``epochs`` of the longest;
        ``minutes`` of all together.
    """
    runs = load_runs(store)
    rows = [
        dict(zip(TRAINED_COLUMNS, [*key, *_effort(rows)], strict=True))
        for key, rows in runs.groupby(list(TRAINED_COLUMNS[:4]))
    ]
    return in_order(pd.DataFrame(rows, columns=list(TRAINED_COLUMNS)), list(TRAINED_COLUMNS[:4]))


def _effort(runs: pd.DataFrame) -> list[object]:
    """Last columns of `trained` for the runs of a row."""
    methods = [name for method, name in METHOD_NAMES.items() if method in set(runs.method)]
    problems = {one for content in runs.content for one in content.split("+")}
    solved = int(runs.solved_epoch.notna().sum())
    minutes = float(runs.seconds.sum() / 60)
    return [", ".join(methods), len(problems), len(runs), int(runs.epochs.max()), solved, minutes]


# In the terminal -----------------------------------------------------------------------------


def headline(store: Store) -> str:
    """What was trained, Table 3 beside the paper's, and how many claims got which verdict.

    Parameters
    ----------
    store
        Where the runs are.

    Returns
    -------
    str
        Text for a terminal of 80 columns.
    """
    found = trained(store)
    if found.empty:
        return f"No runs in {store.root}: `tsp sweep table3 --profile quick` trains some."
    parts = [_trained_text(rows) for _, rows in found.groupby("model", sort=False)]
    protocols = dict.fromkeys(found.protocol)
    cells = {protocol: convergence(store, protocol=protocol) for protocol in protocols}
    parts += _table3_text({name: rows for name, rows in cells.items() if len(rows)})
    return "\n\n".join([*parts, _verdicts_text(claims(store))])


def _trained_text(found: pd.DataFrame) -> str:
    title = f"Trained: {found.runs.sum()} runs of {found.model.iloc[0]}"
    shown = found.drop(columns=["model", "methods"]).assign(
        task=found.task.map(_task), minutes=found.minutes.map("{:.1f}".format)
    )
    return "\n".join([title, *_aligned([list(shown), *shown.to_numpy().tolist()])])


def _table3_text(cells: dict[str, pd.DataFrame]) -> list[str]:
    """Paragraphs on Table 3, from the cells of each protocol."""
    if not cells:
        return []
    told = f"Table 3: epochs until every answer is right, {ARROW.join(SIDES)}; median over n "
    told += "problems or sets of ten; '>60' is more than 60"
    apart = any(rows.at_start.any() for rows in cells.values())
    told += "; '+1' were right before training and are apart." if apart else "."
    parts = [
        f"protocol {protocol}, {ours.model.iloc[0]}\n{_cells_text(ours)}"
        for protocol, rows in cells.items()
        for _, ours in rows[rows.origin == rows.origin.iloc[0]].groupby("model", sort=False)
    ]
    return [textwrap.fill(told, 80), *parts]


def _cells_text(cells: pd.DataFrame) -> str:
    """Table 3 for one of our models, without and with TSLoss, and the paper's cells."""
    titles = [system.title for system in reversed(SYSTEMS) if system.table3]
    heads = zip(*(re.split(r"-(?=\d)", title) for title in titles), strict=True)
    rows = [["", "", "", "", "paper:"], *(["", "", "", "", *line] for line in heads)]
    rows[-1][:4] = ["regime", "task", "n", "here"]
    printed = _printed_cells()
    for (regime, task), cell in cells.groupby(["regime", "task"], sort=False):
        n, at_start = int(cell.n.iloc[0]), int(cell.at_start.iloc[0])
        where = (str(regime), _task(str(task)))
        keys = [[("paper", title, side, *where) for side in SIDES] for title in titles]
        theirs = [ARROW.join(printed[it] for it in two if it in printed) for two in keys]
        ours = ARROW.join(_median(it) for it in cell.itertuples())
        rows.append([*where, f"{n} +{at_start}" if at_start else str(n), ours])
        rows[-1] += [it or MISSING for it in theirs]
    return "\n".join(_aligned(rows))


def _verdicts_text(table: pd.DataFrame) -> str:
    counts = table.verdict.value_counts()
    told = ", ".join(f"{counts[it]} {it}" for it in VERDICTS if it in counts)
    text = f"Claims of the paper: {told}. `tsp report` says why."
    return textwrap.fill(text, 80)


def _aligned(rows: list[list[Any]]) -> list[str]:
    """Lines of a table, columns as wide as their longest cell, numbers to the right."""
    columns = list(zip_longest(*([str(it) for it in row] for row in rows), fillvalue=""))
    padded = []
    for column in columns:
        width = max(map(len, column))
        number = re.fullmatch(r"[\d.]+", column[-1])
        padded.append([it.rjust(width) if number else it.ljust(width) for it in column])
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
