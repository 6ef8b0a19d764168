"""Figures 2 to 5 of the paper drawn from stored runs, and the pictures that explain them.

Every function that makes a figure returns it closed: a notebook shows it once, as the value of
a cell, and a loop over many of them keeps none open.
"""

from collections.abc import Callable, Sequence, Sized
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from tsp.analysis.geometry import gaussian_counts
from tsp.analysis.records import TASK_NAMES
from tsp.analysis.tables import METHOD_NAMES, pairs, weighted
from tsp.errors import InputError
from tsp.figures.style import (
    DIMENSION_COLORS,
    DIMENSION_NAMES,
    METHOD_COLORS,
    beyond,
    draw_barcode,
    draw_complex,
    draw_diagram,
    empty,
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
    """Figure 2: how a prompt's topology changes while it is trained, four panels.

    Parameters
    ----------
    store
        Where the runs are.
    single, multi
        Ids of a run trained on one problem and of one trained on ten.

    Returns
    -------
    Figure
        (a) mean lifespan, in the embedding space's distance, and (c) number of bars at every
        check, on the `noise_band`; (b) persistence diagrams, hollow at the first stored epoch and
        filled at the last; (d) barcodes of the same two epochs.

    Raises
    ------
    InputError
        If there is no such run, or it is of the other regime.

    Notes
    -----
    The paper does not say which of its two runs its diagrams and barcodes show; here (b) and (d)
    are of both, on one scale. The essential class, which never dies, is drawn: on the dotted
    line that stands for infinity, and with an arrowhead.
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
            ax.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="white")
    for regime in runs:
        panels[f"first {regime}"].set(xlabel="")
    return fig


def figure3(store: Store, *, ids: Sequence[str]) -> Figure:
    """Figure 3: density and topological complexity while prompts are trained, two panels.

    Parameters
    ----------
    store
        Where the runs are.
    ids
        Runs to draw. Those of one method and regime are one thick line, their median at each
        check that all of them have, behind it each run as a thin line.

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
        label = f"{METHOD_NAMES[method]}, {PROBLEMS[regime]} (n = {many(runs, 'run')})"
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
    """Figure 4: the training loss at each weight of TSLoss in Table 4.

    Parameters
    ----------
    store
        Where the runs are.
    protocol, model
        Of the runs drawn: those of the problems and seeds that have every weight stored; the
        default model if none is named.

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
        found = [
            store.read(it).epochs.set_index("epoch") for it in runs.id[runs.lambda_ts == weight]
        ]
        for ax, name in zip(panels, ("total", "ce"), strict=True):
            curves = pd.concat([it[name] for it in found], axis=1)
            ax.plot(curves.dropna().median(axis=1), color=color, label=f"{weight:g}")
    panels[0].set(title="$L_{total}$", ylabel="median over runs")
    panels[1].set(title="its cross-entropy")
    for ax in panels:
        ax.set(yscale="log", xlabel="epoch")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(LogFormatter())
    told = f"$\\lambda_{{ts}}$ (n = {many(runs.content.unique(), 'problem')})"
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(weights), title=told)
    return fig


def figure5(store: Store, *, protocol: str = "tuned") -> Figure:
    """Figure 5: the training loss without and with TSLoss, a panel a model, task and regime.

    Parameters
    ----------
    store
        Where the runs are.
    protocol
        Of the runs drawn, those of `tsp.analysis.tables.pairs` that decide.

    Returns
    -------
    Figure
        L_total (section 4.2) by epoch, logarithmic; of several pairs the median, and each run
        as a thin line behind it. Dotted: what of it is cross-entropy in the runs with TSLoss.

    Raises
    ------
    InputError
        If the store has no such pair.

    Notes
    -----
    The two L_total are not the same quantity: the one with TSLoss contains one term more. So the
    cross-entropy alone, which both minimise, is drawn too; the paper does not show it.
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
        told = f"{TASK_NAMES.get(task, task)}, {PROBLEMS[regime]} (n = {many(cell, 'pair')})"
        ax.set(title=f"{model}\n{told}", yscale="log", xlabel="epoch")
        ax.title.set_size(9)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(LogFormatter())
    for ax in panels[:, 0]:
        ax.set(ylabel="$L_{total}$")
    for ax in panels.flat[len(cells) :]:
        ax.set_axis_off()
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def noise_band(
    ax: Axes, runs: Sequence[Run], *, share: bool = False, along: Literal["x", "y"] = "y"
) -> None:
    """Shade how many H1 bars random clouds have: what a count is to be compared with.

    Parameters
    ----------
    ax
        Whose ordinate is a number of bars.
    runs
        Whose n and d the clouds N(0, I) have; their scale does not matter to a count. Nothing is
        drawn for runs of several shapes, or of none that is stored.
    share
        The ordinate is the number over n.
    along
        The axis that counts, if it is not the ordinate.
    """
    shapes = {tuple(run.record.get("shape", ())) for run in runs}
    if len(shapes) != 1 or not (shape := shapes.pop()):
        return
    counts = gaussian_counts(*shape) / (shape[0] if share else 1)
    low, high = np.quantile(counts, [0.025, 0.975])
    label = f"$H_1$ of Gaussian clouds, n = {shape[0]}, d = {shape[1]}: 95 %"
    span = ax.axhspan if along == "y" else ax.axvspan
    span(low, high, color="0.88", lw=0, zorder=0, label=label)


def _read(store: Store, run_id: str, regime: str) -> Run:
    run = store.read(run_id)
    if run.spec.regime != regime:
        raise InputError(regime, run_id, f"that run's regime is {run.spec.regime}")
    return run


def _by_kind(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs by method and regime, in the order in which these are always named."""
    kinds: dict[tuple[str, str], list[Run]] = {
        (method, regime): [] for regime in PROBLEMS for method in METHOD_NAMES
    }
    for run in runs:
        kinds[run.spec.method, run.spec.regime].append(run)
    return {kind: found for kind, found in kinds.items() if found}


def _checks(run: Run) -> pd.DataFrame:
    """Topology of a run by epoch, and the number of its vectors."""
    return run.topology.set_index("epoch").assign(n=run.spec.n_tokens)


def first_and_last(run: Run) -> list[tuple[int, Diagrams]]:
    """First and last epoch with diagrams, and the diagrams."""
    bars = run.diagrams
    return [
        (
            int(epoch),
            {
                k: bars.loc[
                    (bars.epoch == epoch) & (bars.dimension == k), ["birth", "death"]
                ].to_numpy()
                for k in DIMENSION_NAMES
            },
        )
        for epoch in (bars.epoch.min(), bars.epoch.max())
    ]


def _draw_curves(ax: Axes, runs: dict[str, Run], feature: str) -> None:
    """A summary in both dimensions at every check, for each regime."""
    for regime, run in runs.items():
        checks = _checks(run)
        for k, name in DIMENSION_NAMES.items():
            label = f"{name}, {PROBLEMS[regime]} ({TASK_NAMES.get(run.spec.task, run.spec.task)})"
            look: dict[str, Any] = {"color": DIMENSION_COLORS[k], "ls": REGIME_LINES[regime]}
            ax.plot(checks.index, checks[feature.format(k)], label=label, **look)
    ax.set(xlabel="epoch", ylim=(0, None))


def _draw_ends(ax: Axes, run: Run, limit: float) -> None:
    """Panel (b) of Figure 2 for one run."""
    (first, before), (last, after) = first_and_last(run)
    draw_diagram(before, ax, limit=limit, filled=False)
    draw_diagram(after, ax, limit=limit)
    ax.set(title=f"(b) diagrams, {PROBLEMS[run.spec.regime]}")
    look: dict[str, Any] = {"color": "0.3", "ls": "", "marker": "o", "ms": 5}
    ax.plot([], [], mfc="none", label=f"epoch {first}", **look)
    ax.plot([], [], label=f"epoch {last}", **look)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[2:], labels[2:], loc="lower right")


def _draw_losses(ax: Axes, store: Store, cell: pd.DataFrame) -> None:
    """One panel of Figure 5 from its pairs."""
    sides = {"ce": cell.ids_standard, "tsloss": cell.ids_tsloss}
    losses = {
        method: [store.read(it).epochs.set_index("epoch") for ids in units for it in ids]
        for method, units in sides.items()
    }
    for method, found in losses.items():
        total = pd.concat([it.total for it in found], axis=1)
        _draw_median(ax, total, label=METHOD_NAMES[method], color=METHOD_COLORS[method])
    ce = pd.concat([it.ce for it in losses["tsloss"]], axis=1).dropna().median(axis=1)
    ax.plot(ce, color=METHOD_COLORS["tsloss"], ls=":", label="its cross-entropy")


def _draw_median(ax: Axes, curves: pd.DataFrame, *, label: str, **look: Any) -> None:
    """Curves, epoch by run: each thin if there are several, and their median where all are."""
    if curves.shape[1] > 1:
        ax.plot(curves.index, curves.to_numpy(), lw=0.7, alpha=0.4, **look)
    ax.plot(curves.dropna().median(axis=1), lw=2, label=label, **look)


def many(things: Sized, name: str) -> str:
    """How many things there are, with their name in singular or plural."""
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
