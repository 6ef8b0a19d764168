"""Figures 6 to 19, the paper's appendix: bars and counts of every data set, from stored runs."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tsp.analysis.geometry import CLOUDS, gaussian_bars
from tsp.analysis.records import TASK_NAMES, deciding, load_runs
from tsp.analysis.units import comparable
from tsp.errors import InputError
from tsp.figures.paper_figures import PROBLEMS, counted, first_and_last
from tsp.figures.style import (
    BOXED,
    DIMENSION_COLORS,
    DIMENSION_NAMES,
    beyond,
    draw_barcode,
    empty,
    noise_band,
)
from tsp.store.runs import Run, Store
from tsp.topology.diagrams import lifespans
from tsp.training.spec import REGIMES

WHEN = ("start", "end")
TASKS = ("gsm8k", "math", "bbh", "mmlu_cf", "hotpotqa", "longbench")
FIGURES = {kind: number for number, kind in enumerate(product(TASKS, REGIMES), 7)}
"""The paper's number of the figure of a task and regime."""


def plain_runs(store: Store, *, protocol: str = "tuned", **only: str) -> list[Run]:
    """Return runs without TSLoss under a protocol, otherwise at defaults, by task and problem.

    Parameters
    ----------
    store
        The run store.
    protocol
        Protocol of the runs.
    only
        Values of columns of `tsp.analysis.records.load_runs`, such as ``task`` or ``model``.
    """
    chosen, length = deciding(load_runs(store))
    runs = comparable(chosen, protocol=protocol, length=length)
    for name, value in ({"method": "ce"} | only).items():
        runs = runs[runs[name] == value] if len(runs) else runs
    if runs.empty:
        return []
    runs = runs.sort_values(["model", "task", "source", "problem", "seed"])
    return [store.read(run_id) for run_id in runs.id]


def figure_task(
    store: Store, *, task: str, regime: str, model: str, protocol: str = "tuned"
) -> Figure:
    """Draw one of Figures 7 to 18: barcodes and lifespans at the start and end of training.

    Parameters
    ----------
    store
        The run store.
    task, regime, model, protocol
        Select the runs without TSLoss.

    Returns
    -------
    Figure
        Above, the barcodes of one run (first problem, first seed), on one scale; below, histograms
        of the lifespans of all runs, finite bars per run, in H0 and in H1.

    Raises
    ------
    InputError
        If there is no such run.
    """
    runs = plain_runs(store, protocol=protocol, task=task, regime=regime, model=model)
    if not runs:
        remedy = f"{store.root} has no such runs; `tsp sweep phenomenon` trains some"
        raise InputError("task", f"{task} {regime}", remedy)
    fig = empty(6.2)
    panels = fig.subplots(2, 2)
    ends = first_and_last(runs[0])
    limit = beyond(*(bars for _, bars in ends))
    for ax, (epoch, bars) in zip(panels[0], ends, strict=True):
        draw_barcode(bars, ax, limit=limit)
        ax.set(title=f"one run, epoch {epoch}")
        ax.legend(**BOXED)
    _draw_lifespans(panels[1], runs)
    problems = {it["sha256"] for run in runs for it in run.record["problems"]}
    size = f"{counted(runs, 'run')}, {counted(problems, 'problem')}"
    fig.suptitle(f"{TASK_NAMES.get(task, task)}, {PROBLEMS[regime]}: {size}")
    return fig


def figure6(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Draw Figure 6: barcodes and lifespans averaged over all data sets, a row a regime.

    Parameters
    ----------
    store
        The run store.
    model, protocol
        Select the runs without TSLoss.

    Returns
    -------
    Figure
        Left, the average barcode: the mean over runs of the longest, second longest … lifespan,
        0 where a run has fewer bars; every data set weighs the same. Right, lifespans.

    Raises
    ------
    InputError
        If there is no such run.

    Notes
    -----
    The paper does not say how it averages barcodes. Ordering bars by length is the usual choice,
    and makes each barcode a falling curve.
    """
    groups = _by_regime(store, model, protocol)
    fig = empty(1 + 2.6 * len(groups))
    panels = fig.subplots(len(groups), 2, squeeze=False)
    for row, runs in zip(panels, groups, strict=True):
        for dimension, color in DIMENSION_COLORS.items():
            for when, look in zip(WHEN, ({"ls": ":"}, {"ls": "-"}), strict=True):
                length = average_bars(runs, dimension=dimension, end=when == "end")
                label = f"{DIMENSION_NAMES[dimension]}, {when}"
                row[0].plot(length, np.arange(len(length)) + 1, color=color, label=label, **look)
        row[0].set(title=_size(runs), xlabel="mean lifespan", ylabel="bar, by length")
        row[0].set(xlim=(0, None))
        lives = lifespans_of(runs)
        after = lives[lives.when == "end"].assign(bars=lives.dimension.map(DIMENSION_NAMES))
        palette = {DIMENSION_NAMES[k]: color for k, color in DIMENSION_COLORS.items()}
        _draw_histogram(row[1], after, runs, hue="bars", palette=palette)
        row[1].set(title="distribution of lifespans")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def figure19(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Draw Figure 19: counts and entropy during training, averaged over all data sets.

    Parameters
    ----------
    store
        The run store.
    model, protocol
        Select the runs without TSLoss.

    Returns
    -------
    Figure
        A column a regime. Above, the number of H0 and H1 bars on the band of random clouds;
        below, persistence entropy (equation 12). Thin: the mean over the runs of each data set;
        thick: the mean over data sets, up to the last check that all of them have.

    Raises
    ------
    InputError
        If there is no such run.
    """
    groups = _by_regime(store, model, protocol)
    fig = empty(5.4)
    panels = fig.subplots(2, len(groups), sharey="row", sharex="col", squeeze=False)
    for column, runs in zip(panels.T, groups, strict=True):
        noise_band(column[0], runs)
        for dimension, color in DIMENSION_COLORS.items():
            name = DIMENSION_NAMES[dimension]
            _draw_average(column[0], runs, f"h{dimension}_count", color=color, label=name)
        _draw_average(column[1], runs, "persistence_entropy", color="0.2", label="entropy")
        column[0].set(title=_size(runs), ylim=(0, None))
        column[1].set(xlabel="epoch")
    panels[0, 0].set(ylabel="bars")
    panels[1, 0].set(ylabel="entropy, nats")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def average_bars(runs: Sequence[Run], *, dimension: int, end: bool) -> np.ndarray:
    """Return the mean over runs of the k-th longest finite lifespan; data sets weigh the same.

    Parameters
    ----------
    runs
        With stored diagrams.
    dimension
        0 or 1.
    end
        Take the last stored epoch instead of the first.

    Returns
    -------
    ndarray
        Falling, as long as the longest barcode; runs with fewer bars count as 0 there.
    """
    lengths = [
        np.sort(lifespans(first_and_last(run)[int(end)][1][dimension]))[::-1] for run in runs
    ]
    padded = pd.DataFrame(lengths).fillna(0.0)
    by_task = padded.groupby([run.spec.task for run in runs], sort=False).mean()
    return by_task.mean().to_numpy()


def lifespans_of(runs: Sequence[Run]) -> pd.DataFrame:
    """Return finite bars at the first and last stored epoch: ``dimension when lifespan``."""
    frames = [
        pd.DataFrame({"dimension": k, "when": when, "lifespan": ends[:, 1] - ends[:, 0]})
        for run in runs
        for when, (_, bars) in zip(WHEN, first_and_last(run), strict=True)
        for k, ends in bars.items()
    ]
    bars = pd.concat(frames, ignore_index=True)
    return bars[np.isfinite(bars.lifespan)]


def _by_regime(store: Store, model: str, protocol: str) -> list[list[Run]]:
    """Return the runs of each regime that has some."""
    groups = [plain_runs(store, protocol=protocol, regime=it, model=model) for it in REGIMES]
    groups = [runs for runs in groups if runs]
    if not groups:
        remedy = f"{store.root} has no runs of it; `tsp sweep phenomenon` trains some"
        raise InputError("model", model, remedy)
    return groups


def _size(runs: Sequence[Run]) -> str:
    tasks = {run.spec.task for run in runs}
    return f"{PROBLEMS[runs[0].spec.regime]}: {counted(runs, 'run')}, {counted(tasks, 'data set')}"


def _draw_lifespans(row: Sequence[Axes], runs: Sequence[Run]) -> None:
    """Draw histograms of the lifespans of all runs, a panel a dimension, beside random clouds."""
    lives = lifespans_of(runs)
    for ax, (dimension, name) in zip(row, DIMENSION_NAMES.items(), strict=True):
        mine = lives[lives.dimension == dimension]
        palette = {"start": "0.6", "end": DIMENSION_COLORS[dimension]}
        _draw_histogram(ax, mine, runs, hue="when", palette=palette)
        _draw_noise(ax, mine, runs, dimension)
        ax.set(title=f"lifespans in {name}, all runs")


def _draw_histogram(
    ax: Axes, lives: pd.DataFrame, runs: Sequence[Run], *, hue: str, palette: dict[str, Any]
) -> None:
    """Finite bars of a length per run, in colours by a column."""
    if lives.empty:
        ax.text(0.5, 0.5, "no bars", ha="center", transform=ax.transAxes)
        return
    look: dict[str, Any] = {
        "element": "step",
        "alpha": 0.3,
        "palette": palette,
        "hue_order": palette,
    }
    shown = lives.assign(weight=1 / len(runs))
    sns.histplot(shown, x="lifespan", hue=hue, weights="weight", bins=_bins(lives), ax=ax, **look)
    ax.set(xlabel="lifespan", ylabel="bars per run")
    if (legend := ax.get_legend()) is not None:
        legend.set_title("")


def _draw_noise(ax: Axes, lives: pd.DataFrame, runs: Sequence[Run], dimension: int) -> None:
    """Draw, dotted, the same for Gaussian clouds with the runs' n, d and final mean distance."""
    shapes = {tuple(run.record.get("shape", ())) for run in runs}
    if lives.empty or len(shapes) != 1 or not (shape := shapes.pop()):
        return
    sizes = [run.topology.sort_values("epoch").mean_distance.iloc[-1] for run in runs]
    lengths = np.outer(sizes, gaussian_bars(*shape)[dimension]).ravel()
    count = len(lengths) / len(sizes) / CLOUDS  # bars of one cloud
    bins = _bins(lives)
    weights = np.full(len(lengths), count / len(lengths))
    ax.hist(lengths, bins=bins, weights=weights, histtype="step", color="0.2", ls=":", lw=1.2)
    handles = [Line2D([], [], color="0.2", ls=":", label="Gaussian clouds")]
    if (legend := ax.get_legend()) is not None:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if handle is not None:
                handle.set_label(text.get_text())
                handles.insert(-1, handle)  # type: ignore[arg-type]
    ax.legend(handles=handles, fontsize=8)


def _bins(lives: pd.DataFrame) -> list[float]:
    return np.linspace(0, float(lives.lifespan.max()) * 1.02 or 1.0, 41).tolist()


def _draw_average(ax: Axes, runs: Sequence[Run], feature: str, *, color: Any, label: str) -> None:
    """Draw the mean of each data set, thin, and of all, thick."""
    each: dict[str, list[pd.Series]] = {}
    for run in runs:
        each.setdefault(run.spec.task, []).append(run.topology.set_index("epoch")[feature])
    means = pd.DataFrame(
        {task: pd.concat(series, axis=1).dropna().mean(axis=1) for task, series in each.items()}
    )
    ax.plot(means.index, means.to_numpy(), color=color, lw=0.7, alpha=0.5)
    ax.plot(means.dropna().mean(axis=1), color=color, lw=2, label=label)
