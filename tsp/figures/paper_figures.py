"""Figures 2 to 5 of the paper drawn from stored runs, and the pictures that explain them.

Functions return closed figures: a notebook shows each once, as the value of a cell.
"""

from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import chain
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from tsp.analysis.records import TASK_NAMES
from tsp.analysis.tables import METHOD_NAMES, pairs, weighted
from tsp.errors import InputError
from tsp.figures.style import (
    BOXED,
    DIMENSION_COLORS,
    DIMENSION_NAMES,
    METHOD_COLORS,
    beyond,
    draw_barcode,
    draw_complex,
    draw_diagram,
    empty,
    noise_band,
    style,
)
from tsp.store.runs import Run, Store
from tsp.topology.diagrams import Diagrams

__all__ = [
    "DIMENSION_COLORS",
    "METHOD_COLORS",
    "METHOD_NAMES",
    "draw_barcode",
    "draw_complex",
    "draw_diagram",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "noise_band",
    "style",
]

PROBLEMS = {"single": "one problem", "multi": "ten problems"}
REGIME_LINES = {"single": "-", "multi": "--"}
COMPLEXITY: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "density": lambda checks: checks.n / checks.mean_distance.where(checks.mean_distance > 0),
    "h1": lambda checks: checks.h1_count / checks.n,
    "entropy": lambda checks: checks.persistence_entropy,
}
"""The curves of Figure 3, from the checks of a run."""


def figure2(store: Store, *, single: str, multi: str) -> Figure:
    """Draw Figure 2: how a prompt's topology changes while it is trained, four panels.

    Parameters
    ----------
    store
        The run store.
    single, multi
        Ids of a run trained on one problem and of one trained on ten.

    Returns
    -------
    Figure
        (a) mean lifespan, in the embedding space's distance, and (c) number of bars at every
        check, on the `noise_band`; (b) persistence diagrams at the first stored epoch (hollow) and
        the last; (d) barcodes of both.

    Raises
    ------
    InputError
        If there is no such run, or it is of the other regime.

    Notes
    -----
    The paper does not say which of its two runs its diagrams and barcodes show; here (b) and (d)
    show both, on one scale. The essential class is drawn on the dotted line, and with an arrowhead.
    """
    runs = {"single": _read(store, single, "single"), "multi": _read(store, multi, "multi")}
    fig = empty(11)
    rows: list[list[Any]] = [["a", "c"]]
    rows += ([f"{part} single", f"{part} multi"] for part in ("b", "first", "last"))
    panels = fig.subplot_mosaic(rows, height_ratios=[1.1, 1.5, 1.2, 1.2])
    _draw_curves(panels["a"], runs, "h{}_mean_lifespan")
    panels["a"].set(title="(a) mean lifespan", ylabel="distance")
    noise_band(panels["c"], list(runs.values()))
    _draw_curves(panels["c"], runs, "h{}_count")
    panels["c"].set(title="(c) number of bars", ylabel="bars")
    fig.legend(*panels["a"].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    limit = beyond(*(bars for run in runs.values() for _, bars in first_and_last(run)))
    for regime, run in runs.items():
        _draw_ends(panels[f"b {regime}"], run, limit)
        for part, (epoch, bars) in zip(("first", "last"), first_and_last(run), strict=True):
            ax = panels[f"{part} {regime}"]
            draw_barcode(bars, ax, limit=limit)
            ax.set(title=f"(d) barcode, {PROBLEMS[regime]}, epoch {epoch}")
            ax.legend(**BOXED)
    for regime in runs:
        panels[f"first {regime}"].set(xlabel="")
    return fig


def figure3(store: Store, *, ids: Sequence[str]) -> Figure:
    """Draw Figure 3: density and complexity while prompts are trained, two panels.

    Parameters
    ----------
    store
        The run store.
    ids
        Runs to draw, grouped by method and regime: thin lines, and as a thick line their median
        at each check that all of them have.

    Returns
    -------
    Figure
        (a) the density n / mean pairwise distance and, below it, the H1 density, H1 count / n, on
        the `noise_band`; (b) persistence entropy (equation 12).

    Raises
    ------
    InputError
        If there is no run, or one is not in the store.

    Notes
    -----
    The paper defines neither density, shows both on one axis, and for the first the mean and range
    over seven iterations; here they are two curves with an axis each.
    """
    if not len(ids):
        raise InputError("ids", "", "give at least one run; `tsp runs list` shows them")
    groups = _by_kind([store.read(run_id) for run_id in dict.fromkeys(ids)])
    fig = empty(4.6)
    panels = fig.subplot_mosaic([["density", "entropy"], ["h1", "entropy"]])
    noise_band(panels["h1"], [run for runs in groups.values() for run in runs], share=True)
    for (method, regime), runs in groups.items():
        look = {"color": METHOD_COLORS[method], "ls": REGIME_LINES[regime]}
        label = f"{METHOD_NAMES[method]}, {PROBLEMS[regime]} (n = {counted(runs, 'run')})"
        for name, curve in COMPLEXITY.items():
            curves = pd.DataFrame({run.id: curve(_checks(run)) for run in runs})
            _draw_median(panels[name], curves, label=label, **look)
    panels["density"].set(title="(a) density", ylabel="n / mean distance")
    panels["h1"].set(xlabel="epoch", ylabel="$H_1$ bars / n")
    panels["entropy"].set(title="(b) persistence entropy", xlabel="epoch", ylabel="nats")
    panels["density"].tick_params(labelbottom=False)
    handles, labels = panels["entropy"].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=1 + (len(groups) > 1))
    return fig


def figure4(store: Store, *, protocol: str = "tuned", model: str = "") -> Figure:
    """Draw Figure 4: the training loss at each weight of TSLoss in Table 4.

    Parameters
    ----------
    store
        The run store.
    protocol, model
        Protocol and model (by default the embedded one) of the runs. Drawn are the problems and
        seeds that have every weight.

    Returns
    -------
    Figure
        Medians over runs by epoch, logarithmic, one colour a weight: L_total = L_ce +
        lambda_ts L_ts (section 4.2), and of it the cross-entropy.

    Raises
    ------
    InputError
        If the store has no such runs.
    """
    runs = weighted(store, protocol=protocol, model=model)
    if runs.empty:
        remedy = f"{store.root} has no runs at two weights; `tsp sweep table4` trains them"
        raise InputError("protocol", protocol, remedy)
    fig = empty(3.6)
    panels = fig.subplots(1, 2, sharey=True)
    weights = sorted(runs.lambda_ts.unique())
    colors = sns.color_palette("viridis_r", len(weights))
    for weight, color in zip(weights, colors, strict=True):
        ids = runs.id[runs.lambda_ts == weight]
        for ax, name in zip(panels, ("total", "ce"), strict=True):
            curves = _losses(store, ids, name)
            ax.plot(curves.dropna().median(axis=1), color=color, label=f"{weight:g}")
    panels[0].set(title="$L_{total}$", ylabel="median over runs")
    panels[1].set(title="its cross-entropy")
    for ax in panels:
        _logarithmic(ax)
    title = f"$\\lambda_{{ts}}$ (n = {counted(runs.content.unique(), 'problem')})"
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(weights), title=title)
    return fig


def figure5(store: Store, *, protocol: str = "tuned") -> Figure:
    """Draw Figure 5: the loss without and with TSLoss, a panel a model, task and regime.

    Parameters
    ----------
    store
        The run store.
    protocol
        Protocol of the runs: the pairs of `tsp.analysis.tables.pairs` that decide.

    Returns
    -------
    Figure
        L_total (section 4.2) by epoch, logarithmic: each run thin, the median thick. Dotted: the
        cross-entropy in the runs with TSLoss.

    Raises
    ------
    InputError
        If the store has no such pair.

    Notes
    -----
    L_total with TSLoss has one term more, so the cross-entropy, which both minimise, is drawn too;
    the paper does not show it.
    """
    both = pairs(store, protocol=protocol)
    if both.empty:
        remedy = f"{store.root} has no such pair of runs; `tsp sweep figure5` trains some"
        raise InputError("protocol", protocol, remedy)
    both = both[both.origin == both.origin.iloc[0]]
    cells = list(both.groupby(["model", "regime", "task"], sort=False))
    columns = min(2, len(cells))
    rows = -(-len(cells) // columns)
    fig = empty(0.7 + 2.5 * rows)
    panels = fig.subplots(rows, columns, squeeze=False, sharey="row")
    for ax, ((model, regime, task), cell) in zip(panels.flat, cells, strict=False):
        _draw_losses(ax, store, cell)
        about = f"{TASK_NAMES.get(task, task)}, {PROBLEMS[regime]} (n = {counted(cell, 'pair')})"
        ax.set_title(f"{model}\n{about}", size=9)
        _logarithmic(ax)
    for ax in panels[:, 0]:
        ax.set(ylabel="$L_{total}$")
    for ax in panels.flat[len(cells) :]:
        ax.set_axis_off()
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def _read(store: Store, run_id: str, regime: str) -> Run:
    run = store.read(run_id)
    if run.spec.regime != regime:
        raise InputError(regime, run_id, f"that run's regime is {run.spec.regime}")
    return run


def _by_kind(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """Group runs by method and regime, in the order in which these are listed everywhere."""
    order = [(method, regime) for regime in PROBLEMS for method in METHOD_NAMES]
    kinds = {
        kind: [run for run in runs if (run.spec.method, run.spec.regime) == kind] for kind in order
    }
    return {kind: group for kind, group in kinds.items() if group}


def _checks(run: Run) -> pd.DataFrame:
    """Return the topology of a run by epoch, with its number of vectors."""
    return run.topology.set_index("epoch").assign(n=run.spec.n_tokens)


def first_and_last(run: Run) -> list[tuple[int, Diagrams]]:
    """Return the first and the last epoch with diagrams, and the diagrams."""
    ends = []
    for epoch in (run.diagrams.epoch.min(), run.diagrams.epoch.max()):
        bars = run.diagrams[run.diagrams.epoch == epoch]
        pairs = bars[["birth", "death"]].to_numpy()
        ends.append((int(epoch), {k: pairs[bars.dimension == k] for k in DIMENSION_NAMES}))
    return ends


def _logarithmic(ax: Axes) -> None:
    ax.set(yscale="log", xlabel="epoch")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(LogFormatter())


def _draw_curves(ax: Axes, runs: dict[str, Run], feature: str) -> None:
    """Draw a summary in both dimensions at every check, for each regime."""
    for regime, run in runs.items():
        checks = _checks(run)
        for k, name in DIMENSION_NAMES.items():
            label = f"{name}, {PROBLEMS[regime]} ({TASK_NAMES.get(run.spec.task, run.spec.task)})"
            look: dict[str, Any] = {"color": DIMENSION_COLORS[k], "ls": REGIME_LINES[regime]}
            ax.plot(checks.index, checks[feature.format(k)], label=label, **look)
    ax.set(xlabel="epoch", ylim=(0, None))


def _draw_ends(ax: Axes, run: Run, limit: float) -> None:
    """Draw panel (b) of Figure 2 for one run."""
    (first, before), (last, after) = first_and_last(run)
    draw_diagram(before, ax, limit=limit, filled=False)
    draw_diagram(after, ax, limit=limit)
    ax.set(title=f"(b) diagrams, {PROBLEMS[run.spec.regime]}")
    look: dict[str, Any] = {"color": "0.3", "ls": "", "marker": "o", "ms": 5}
    ax.plot([], [], mfc="none", label=f"epoch {first}", **look)
    ax.plot([], [], label=f"epoch {last}", **look)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[2:], labels[2:], loc="lower right")


def _losses(store: Store, ids: Iterable[str], name: str) -> pd.DataFrame:
    """Return a loss of several runs, epoch by run."""
    return pd.concat([store.read(i).epochs.set_index("epoch")[name] for i in ids], axis=1)


def _draw_losses(ax: Axes, store: Store, cell: pd.DataFrame) -> None:
    """Draw one panel of Figure 5 from its pairs."""
    for method, units in (("ce", cell.ids_standard), ("tsloss", cell.ids_tsloss)):
        total = _losses(store, chain.from_iterable(units), "total")
        _draw_median(ax, total, label=METHOD_NAMES[method], color=METHOD_COLORS[method])
    ce = _losses(store, chain.from_iterable(cell.ids_tsloss), "ce").dropna().median(axis=1)
    ax.plot(ce, color=METHOD_COLORS["tsloss"], ls=":", label="its cross-entropy")


def _draw_median(ax: Axes, curves: pd.DataFrame, *, label: str, **look: Any) -> None:
    """Draw curves (epoch, run): each thin if there are several, and their median where all are."""
    if curves.shape[1] > 1:
        ax.plot(curves.index, curves.to_numpy(), lw=0.7, alpha=0.4, **look)
    ax.plot(curves.dropna().median(axis=1), lw=2, label=label, **look)


def counted(things: Sized, name: str) -> str:
    """Return the number of things with their name in singular or plural."""
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
