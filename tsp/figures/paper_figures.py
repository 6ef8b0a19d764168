"""Figures 2 to 5 of the paper, drawn from stored runs, each returned as a closed figure."""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import asdict
from itertools import chain
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tsp.analysis.records import TASK_NAMES, load_losses
from tsp.analysis.tables import METHOD_NAMES, pairs, weighted
from tsp.errors import InputError
from tsp.figures.style import (
    BOXED,
    DIMENSION_COLORS,
    DIMENSION_NAMES,
    METHOD_COLORS,
    beyond,
    draw_barcode,
    draw_diagram,
    empty,
    noise_band,
)
from tsp.figures.style import style as style
from tsp.store.runs import Run, Store
from tsp.topology.diagrams import Diagrams

PROBLEMS = {"single": "one problem", "multi": "ten problems"}
REGIME_LINES = {"single": "-", "multi": "--"}


def figure2(store: Store, *, single: str, multi: str) -> Figure:
    """Draw Figure 2: how a prompt's topology changes while it is trained, four panels.

    Parameters
    ----------
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
    runs = {"single": store.read(single), "multi": store.read(multi)}
    for regime, run in runs.items():
        if run.spec.regime != regime:
            raise InputError(regime, run.id, f"that run's regime is {run.spec.regime}")
    ends = {regime: first_and_last(run) for regime, run in runs.items()}
    limit = beyond(*(bars for both in ends.values() for _, bars in both))
    fig = empty(11)
    mosaic: list[list[Any]] = [["a", "c"]]
    mosaic += ([f"{part} single", f"{part} multi"] for part in ("b", "first", "last"))
    panels = fig.subplot_mosaic(mosaic, height_ratios=[1.1, 1.5, 1.2, 1.2])
    noise_band(panels["c"], list(runs.values()))
    for regime, run in runs.items():
        checks = run.topology.set_index("epoch")
        for k, name in DIMENSION_NAMES.items():
            look = {"color": DIMENSION_COLORS[k], "ls": REGIME_LINES[regime]}
            label = f"{name}, {PROBLEMS[regime]} ({TASK_NAMES[run.spec.task]})"
            panels["a"].plot(checks[f"h{k}_mean_lifespan"], label=label, **look)
            panels["c"].plot(checks[f"h{k}_count"], label=label, **look)
        diagrams, dots = panels[f"b {regime}"], []
        for part, (epoch, bars) in zip(("first", "last"), ends[regime], strict=True):
            draw_diagram(bars, diagrams, limit=limit, filled=part == "last")
            face = "none" if part == "first" else "0.3"
            dot: dict[str, Any] = {"ls": "", "marker": "o", "ms": 5, "color": "0.3", "mfc": face}
            dots.append(Line2D([], [], label=f"epoch {epoch}", **dot))
            ax = panels[f"{part} {regime}"]
            draw_barcode(bars, ax, limit=limit)
            ax.set(title=f"(d) barcode, {PROBLEMS[regime]}, epoch {epoch}")
            ax.legend(**BOXED)
        diagrams.set(title=f"(b) diagrams, {PROBLEMS[regime]}")
        filled = diagrams.get_legend_handles_labels()[0][2:]
        diagrams.legend(handles=[*filled, *dots], loc="lower right")
        panels[f"first {regime}"].set(xlabel="")
    panels["a"].set(title="(a) mean lifespan", xlabel="epoch", ylabel="distance", ylim=(0, None))
    panels["c"].set(title="(c) number of bars", xlabel="epoch", ylabel="bars", ylim=(0, None))
    fig.legend(*panels["a"].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def figure3(store: Store, *, ids: Sequence[str]) -> Figure:
    """Draw Figure 3: density and complexity while prompts are trained, two panels.

    Parameters
    ----------
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
    order = [*PROBLEMS, *METHOD_NAMES]
    runs = [store.read(run_id) for run_id in dict.fromkeys(ids)]
    runs.sort(key=lambda run: (order.index(run.spec.regime), order.index(run.spec.method)))
    checks = pd.concat([run.topology.assign(run=run.id, **asdict(run.spec)) for run in runs])
    checks["density"] = checks.n_tokens / checks.mean_distance.where(checks.mean_distance > 0)
    checks["h1"] = checks.h1_count / checks.n_tokens
    checks["entropy"] = checks.persistence_entropy
    fig = empty(4.6)
    panels = fig.subplot_mosaic([["density", "entropy"], ["h1", "entropy"]])
    noise_band(panels["h1"], runs, share=True)
    groups = checks.groupby(["regime", "method"], sort=False)
    for (regime, method), group in groups:
        look = {"color": METHOD_COLORS[method], "ls": REGIME_LINES[regime]}
        label = f"{METHOD_NAMES[method]}, {PROBLEMS[regime]} ({counted(set(group.run), 'run')})"
        for name, ax in panels.items():
            _draw_median(ax, group.pivot(index="epoch", columns="run", values=name), label, **look)
    panels["density"].set(title="(a) density", ylabel="n / mean distance")
    panels["h1"].set(xlabel="epoch", ylabel="$H_1$ bars / n")
    panels["entropy"].set(title="(b) persistence entropy, nats", xlabel="epoch")
    panels["density"].tick_params(labelbottom=False)
    handles, labels = panels["entropy"].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=1 + (len(groups) > 1))
    return fig


def figure4(store: Store, *, protocol: str = "tuned", model: str = "") -> Figure:
    """Draw Figure 4: the training loss at each weight of TSLoss in Table 4.

    Parameters
    ----------
    protocol, model
        Protocol and model (by default the embedded one) of the runs. Drawn are the problems and
        seeds that have every weight.

    Returns
    -------
    Figure
        Medians over runs by epoch, logarithmic, one colour per weight: L_total = L_ce +
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
    losses, fig = load_losses(store), empty(3.6)
    panels = fig.subplots(1, 2, sharey=True)
    weights = sorted(runs.lambda_ts.unique())
    colors = sns.color_palette("viridis_r", len(weights) + 1)[1:]  # yellow is too pale on white
    titles = {"total": "$L_{total}$", "ce": "its cross-entropy"}
    for ax, (name, panel_title) in zip(panels, titles.items(), strict=True):
        for weight, color in zip(weights, colors, strict=True):
            curves = _losses(losses, runs.id[runs.lambda_ts == weight], name)
            ax.plot(curves.dropna().median(axis=1), color=color, label=f"{weight:g}")
        ax.set(title=panel_title)
        _logarithmic(ax)
    panels[0].set(ylabel="median over runs")
    title = f"$\\lambda_{{ts}}$ ({counted(runs.content.unique(), 'problem')})"
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(weights), title=title)
    return fig


def figure5(store: Store, *, protocol: str = "tuned") -> Figure:
    """Draw Figure 5: the loss without and with TSLoss, a panel per model, task and regime.

    The runs are the pairs of `tsp.analysis.tables.pairs` that decide.

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
    usual = both.model.mode()[0]
    losses, fig = load_losses(store), empty(0.7 + 2.2 * rows)
    panels = fig.subplots(rows, columns, squeeze=False, sharey="row")
    for ax, ((model, regime, task), cell) in zip(panels.flat, cells, strict=False):
        color = METHOD_COLORS["tsloss"]
        treated = list(chain.from_iterable(cell.ids_tsloss))
        plain = _losses(losses, chain.from_iterable(cell.ids_standard), "total")
        _draw_median(ax, plain, METHOD_NAMES["ce"], color=METHOD_COLORS["ce"])
        _draw_median(ax, _losses(losses, treated, "total"), METHOD_NAMES["tsloss"], color=color)
        ce = _losses(losses, treated, "ce").dropna().median(axis=1)
        ax.plot(ce, color=color, ls=":", label="its cross-entropy")
        about = f"{TASK_NAMES[task]}, {PROBLEMS[regime]} ({counted(cell, 'pair')})"
        ax.set_title(about if model == usual else f"{about}, {model}", size=9)
        _logarithmic(ax)
    for ax in panels[:, 0]:
        ax.set(ylabel="$L_{total}$")
    for ax in panels.flat[len(cells) :]:
        ax.set_axis_off()
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def first_and_last(run: Run) -> list[tuple[int, Diagrams]]:
    """Return the first and the last epoch with diagrams, and the diagrams."""
    every, ends = run.diagrams, []
    births_deaths, dimensions = every[["birth", "death"]].to_numpy(), every.dimension.to_numpy()
    for epoch in (every.epoch.min(), every.epoch.max()):
        here = (every.epoch == epoch).to_numpy()
        bars = {k: births_deaths[here & (dimensions == k)] for k in DIMENSION_NAMES}
        ends.append((int(epoch), bars))
    return ends


def counted(things: Sized, name: str) -> str:
    """Return the number of things with their name in singular or plural."""
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _losses(losses: pd.DataFrame, ids: Iterable[str], name: str) -> pd.DataFrame:
    """Return a loss of several runs, of `tsp.analysis.records.load_losses`, epoch by run."""
    chosen = losses[losses.id.isin(list(ids))]
    return chosen.astype({"id": str}).pivot(index="epoch", columns="id", values=name)


def _draw_median(ax: Axes, curves: pd.DataFrame, label: str, **look: Any) -> None:
    """Draw curves (epoch, run), thin if there are several, and their median while all last."""
    if curves.shape[1] > 1:
        ax.plot(curves.index, curves.to_numpy(), lw=0.7, alpha=0.4, **look)
    ax.plot(curves.dropna().median(axis=1), lw=2, label=label, **look)


def _logarithmic(ax: Axes) -> None:
    """Make the axis of a loss logarithmic, with plain numbers."""
    ax.set(yscale="log", xlabel="epoch")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(LogFormatter())
