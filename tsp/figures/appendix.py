"""Figures 6 to 19, the paper's appendix: bars and counts of every data set, from stored runs."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tsp.analysis.geometry import CLOUDS, gaussian_bars
from tsp.analysis.records import TASK_NAMES, deciding, load_runs
from tsp.analysis.units import comparable
from tsp.errors import InputError
from tsp.figures.paper_figures import PROBLEMS, counted, first_and_last
from tsp.figures.style import (
    DIMENSION_COLORS,
    DIMENSION_NAMES,
    beyond,
    common_shape,
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

    ``only`` are values of columns of `tsp.analysis.records.load_runs`, such as ``task``.
    """
    chosen, length = deciding(load_runs(store))
    runs = comparable(chosen, protocol=protocol, length=length)
    if runs.empty:
        return []
    wanted = pd.Series({"method": "ce"} | only)
    runs = runs[(runs[wanted.index] == wanted).all(axis=1)]
    runs = runs.sort_values(["model", "task", "source", "problem", "seed"])
    return [store.read(run_id) for run_id in runs.id]


def barcodes_by_task(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Draw the barcodes of Figures 7 to 18 as small multiples, a row per data set.

    The runs are those without TSLoss of a model, under a protocol.

    Returns
    -------
    Figure
        For one problem and for ten, one run (first problem, first seed) at the start and at the
        end of training, both on one scale, with its number of bars. Cells without runs are empty.

    Raises
    ------
    InputError
        If there is no such run.
    """
    fig, cells = _small_multiples(store, WHEN, model=model, protocol=protocol)
    for axes, runs in cells:
        ends = [bars for _, bars in first_and_last(runs[0])]
        for ax, bars in zip(axes, ends, strict=True):
            draw_barcode(bars, ax, limit=beyond(*ends))
            ax.set(xlabel="")
            for lines, width in zip(ax.collections, (0.5, 1.5), strict=True):
                lines.set_linewidth(width)  # H0 bars with room between them
            counts = ", ".join(f"{DIMENSION_NAMES[k]}: {len(some)}" for k, some in bars.items())
            place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
            ax.annotate(counts, (0, 1), xytext=(0, 3), fontsize=8, **place)
    for ax in fig.axes[:4]:
        ax.set_title(ax.get_title(), pad=16)  # above the counts
    fig.supxlabel("scale ε", fontsize="medium")
    return fig


def lifespans_by_task(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Draw the lifespans of Figures 7 to 18 as small multiples, of runs as in `barcodes_by_task`.

    Returns
    -------
    Figure
        For one problem and for ten, in H0 and in H1, the number of finite bars per run that are
        longer than a lifespan: at the start and at the end of training, and in Gaussian clouds
        with the runs' n and d and their mean distances at the end.
    """
    fig, cells = _small_multiples(
        store, list(DIMENSION_NAMES.values()), model=model, protocol=protocol
    )
    for axes, runs in cells:
        lives = lifespans_of(runs)
        for ax, (dimension, color) in zip(axes, DIMENSION_COLORS.items(), strict=True):
            bars = lives[lives.dimension == dimension].groupby("when").lifespan
            names = {"start": "start", "end": f"end, {DIMENSION_NAMES[dimension]}"}
            for when, shade in zip(WHEN, ("0.6", color), strict=True):
                lengths = bars.get_group(when) if when in bars.groups else []
                _draw_longer(ax, lengths, len(runs), color=shade, label=names[when])
            if shape := common_shape(runs):
                sizes = [run.topology.sort_values("epoch").mean_distance.iloc[-1] for run in runs]
                lengths = np.outer(sizes, np.concatenate(gaussian_bars(*shape)[dimension])).ravel()
                look = {"color": "0.2", "ls": ":", "label": "Gaussian clouds"}
                _draw_longer(ax, lengths, len(runs) * CLOUDS, **look)
            ax.set(xlim=(0, None), ylim=(0, None))
            ax.locator_params(axis="x", nbins=2)
    lines = {str(line.get_label()): line for ax in cells[0][0] for line in ax.lines}
    fig.legend(list(lines.values()), list(lines), loc="outside upper center", ncols=len(lines))
    fig.supxlabel("lifespan", fontsize="medium")
    fig.supylabel("bars per run that live longer", fontsize="medium")
    return fig


def _draw_longer(ax: Axes, lengths: Any, runs: int, **look: Any) -> None:
    """Draw how many of the bars of several runs or clouds are longer, on average, than a length."""
    longest = max(lengths, default=0.0)
    grid = np.linspace(0, longest, 201)
    longer = len(lengths) - np.searchsorted(np.sort(lengths), grid, side="right")
    ax.plot(grid, longer / runs, **look)


Cells = list[tuple[Sequence[Axes], list[Run]]]  # two panels, and the runs that they show


def _small_multiples(store: Store, titles: Sequence[str], **only: str) -> tuple[Figure, Cells]:
    """Return an empty figure with a row for each data set and two panels for each regime."""
    runs = [run for group in _groups(store, **only) for run in group]
    tasks = [task for task in TASKS if any(run.spec.task == task for run in runs)]
    fig, cells = empty(1 + 1.4 * len(tasks)), []
    panels = fig.subplots(len(tasks), 4, squeeze=False)
    for row, task in zip(panels, tasks, strict=True):
        row[0].set(ylabel=TASK_NAMES[task])
        for axes, regime in zip((row[:2], row[2:]), REGIMES, strict=True):
            shown = [run for run in runs if (run.spec.task, run.spec.regime) == (task, regime)]
            if shown:
                cells.append((axes, shown))
            for ax in axes if not shown else ():
                ax.set(xticks=[], yticks=[])
    for ax, (regime, title) in zip(panels[0], product(REGIMES, titles), strict=True):
        ax.set(title=f"{PROBLEMS[regime]}, {title}")
    return fig, cells


def figure6(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Draw Figure 6: barcodes and lifespans averaged over all data sets, a row per regime.

    The runs are those of `barcodes_by_task`.

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
    groups = _groups(store, protocol=protocol, model=model)
    fig = empty(1 + 2.6 * len(groups))
    panels = fig.subplots(len(groups), 2, squeeze=False)
    for (barcode, histogram), runs in zip(panels, groups, strict=True):
        for (dimension, color), when in product(DIMENSION_COLORS.items(), WHEN):
            lengths = average_bars(runs, dimension=dimension, end=when == "end")
            look = {"color": color, "ls": "-" if when == "end" else ":"}
            label = f"{DIMENSION_NAMES[dimension]}, {when}"
            barcode.plot(lengths, np.arange(len(lengths)) + 1, label=label, **look)
        barcode.set(title=_size(runs), xlabel="mean lifespan", ylabel="bar, by length")
        barcode.set(xlim=(0, None))
        bars = lifespans_of(runs)
        _draw_histogram(histogram, bars[bars.when == "end"], len(runs))
        histogram.set(title="distribution of lifespans", xlabel="lifespan", ylabel="bars per run")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def figure19(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Draw Figure 19: counts and entropy during training, averaged over all data sets.

    The runs are those of `barcodes_by_task`.

    Returns
    -------
    Figure
        A column per regime. Above, the number of H0 and H1 bars on the band of random clouds;
        below, persistence entropy (equation 12). Thin: the mean over the runs of each data set;
        thick: the mean over data sets, up to the last check that all of them have.

    Raises
    ------
    InputError
        If there is no such run.
    """
    groups = _groups(store, protocol=protocol, model=model)
    fig = empty(5.4)
    panels = fig.subplots(2, len(groups), sharey="row", sharex="col", squeeze=False)
    for (counts, entropy), runs in zip(panels.T, groups, strict=True):
        noise_band(counts, runs)
        for dimension, color in DIMENSION_COLORS.items():
            label = DIMENSION_NAMES[dimension]
            _draw_average(counts, runs, f"h{dimension}_count", color=color, label=label)
        _draw_average(entropy, runs, "persistence_entropy", color="0.2", label="entropy")
        counts.set(title=_size(runs), ylim=(0, None))
        entropy.set(xlabel="epoch")
    panels[0, 0].set(ylabel="bars")
    panels[1, 0].set(ylabel="entropy, nats")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def average_bars(runs: Sequence[Run], *, dimension: int, end: bool) -> np.ndarray:
    """Return the mean k-th longest finite lifespan at one end of training, k = 1, 2, ….

    Data sets weigh the same; a run with fewer bars counts as 0 there.
    """
    lengths = [
        np.sort(lifespans(first_and_last(run)[int(end)][1][dimension]))[::-1] for run in runs
    ]
    padded = pd.DataFrame(lengths).fillna(0.0)
    return padded.groupby([run.spec.task for run in runs], sort=False).mean().mean().to_numpy()


def lifespans_of(runs: Sequence[Run]) -> pd.DataFrame:
    """Return finite bars at the first and last stored epoch: ``dimension when lifespan``."""
    frames = [
        pd.DataFrame({"dimension": k, "when": when, "lifespan": lifespans(bars)})
        for run in runs
        for when, (_, diagrams) in zip(WHEN, first_and_last(run), strict=True)
        for k, bars in diagrams.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _groups(store: Store, **only: str) -> list[list[Run]]:
    """Return the plain runs of each regime that has some."""
    groups = [plain_runs(store, regime=regime, **only) for regime in REGIMES]
    if not any(groups):
        wanted = ", ".join(only.values())
        remedy = f"{store.root} has no runs for {wanted}; `tsp sweep phenomenon` trains some"
        raise InputError("model", only["model"], remedy)
    return [runs for runs in groups if runs]


def _size(runs: Sequence[Run]) -> str:
    tasks = {run.spec.task for run in runs}
    return f"{PROBLEMS[runs[0].spec.regime]}: {counted(runs, 'run')}, {counted(tasks, 'data set')}"


def _draw_histogram(ax: Axes, bars: pd.DataFrame, runs: int) -> None:
    """Draw bars per run by lifespan, coloured by dimension."""
    if bars.empty:
        ax.text(0.5, 0.5, "no bars", ha="center", transform=ax.transAxes)
        return
    bins = np.linspace(0, bars.lifespan.max() * 1.02 or 1.0, 41).tolist()
    look: dict[str, Any] = {"element": "step", "alpha": 0.3, "legend": False, "bins": bins}
    look |= {"palette": DIMENSION_COLORS, "hue_order": DIMENSION_COLORS}
    shown = bars.assign(weight=1 / runs)
    sns.histplot(shown, x="lifespan", hue="dimension", weights="weight", ax=ax, **look)
    handles: list[Any] = [
        Patch(facecolor=to_rgba(color, 0.3), edgecolor=color, label=DIMENSION_NAMES[dimension])
        for dimension, color in DIMENSION_COLORS.items()
    ]
    ax.legend(handles=handles, handlelength=1)


def _draw_average(ax: Axes, runs: Sequence[Run], feature: str, *, color: Any, label: str) -> None:
    """Draw the mean of each data set, thin, and of all, thick."""
    tasks = [run.spec.task for run in runs]
    series = [run.topology.set_index("epoch")[feature] for run in runs]
    curves = pd.concat(series, axis=1, keys=tasks)
    means = pd.DataFrame(
        {task: curves.loc[:, [task]].dropna().mean(axis=1) for task in dict.fromkeys(tasks)}
    )
    ax.plot(means.index, means.to_numpy(), color=color, lw=0.7, alpha=0.5)
    ax.plot(means.dropna().mean(axis=1), color=color, lw=2, label=label)
