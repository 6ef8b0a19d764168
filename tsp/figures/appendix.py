"""Figures 6 to 19, the paper's appendix: bars and counts of every data set, from stored runs."""

from collections.abc import Sequence
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
from tsp.figures.paper_figures import PROBLEMS, first_and_last, many, noise_band
from tsp.figures.style import DIMENSION_COLORS, DIMENSION_NAMES, beyond, draw_barcode, empty
from tsp.store.runs import Run, Store
from tsp.training.spec import REGIMES

WHEN = ("start", "end")
FIGURES = dict(
    zip(
        [
            (task, regime)
            for task in ("gsm8k", "math", "bbh", "mmlu_cf", "hotpotqa", "longbench")
            for regime in REGIMES
        ],
        range(7, 19),
        strict=True,
    )
)
"""The paper's number of the figure of a task and regime."""


def plain_runs(store: Store, *, protocol: str = "tuned", **only: str) -> list[Run]:
    """Runs without TSLoss under a protocol, otherwise at its defaults, by task and problem.

    Parameters
    ----------
    store
        Where the runs are.
    protocol
        Of the runs.
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
    """One of Figures 7 to 18: barcodes and lifespans at the start and at the end of training.

    Parameters
    ----------
    store
        Where the runs are.
    task, regime, model, protocol
        Of the runs without TSLoss.

    Returns
    -------
    Figure
        Above the barcodes of one run (the first problem's, first seed), on one scale; below how
        the lifespans of all runs are distributed, finite bars per run, in H0 and in H1.

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
        ax.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="white")
    _draw_lifespans(panels[1], runs)
    problems = {it["sha256"] for run in runs for it in run.record["problems"]}
    told = f"{many(runs, 'run')}, {many(problems, 'problem')}"
    fig.suptitle(f"{TASK_NAMES.get(task, task)}, {PROBLEMS[regime]}: {told}")
    return fig


def figure6(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Figure 6: barcodes and lifespans averaged over all data sets, a row a regime.

    Parameters
    ----------
    store
        Where the runs are.
    model, protocol
        Of the runs without TSLoss.

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
    The paper does not say how it averages barcodes. Bars of two clouds do not belong together;
    ordering them by length is the usual choice, and makes of each barcode a falling curve.
    """
    found = _by_regime(store, model, protocol)
    fig = empty(1 + 2.6 * len(found))
    panels = fig.subplots(len(found), 2, squeeze=False)
    for row, (regime, runs) in zip(panels, found.items(), strict=True):
        for dimension, color in DIMENSION_COLORS.items():
            for when, look in zip(WHEN, ({"ls": ":"}, {"ls": "-"}), strict=True):
                length = average_bars(runs, dimension=dimension, end=when == "end")
                label = f"{DIMENSION_NAMES[dimension]}, {when}"
                row[0].plot(length, np.arange(len(length)) + 1, color=color, label=label, **look)
        told = f"{many(runs, 'run')}, {many({run.spec.task for run in runs}, 'data set')}"
        row[0].set(title=f"{PROBLEMS[regime]}: {told}")
        row[0].set(xlabel="mean lifespan", ylabel="bar, by length", xlim=(0, None))
        lives = lifespans_of(runs)
        after = lives[lives.when == "end"].assign(bars=lives.dimension.map(DIMENSION_NAMES))
        palette = {DIMENSION_NAMES[k]: color for k, color in DIMENSION_COLORS.items()}
        _draw_histogram(row[1], after, runs, hue="bars", palette=palette)
        row[1].set(title="distribution of lifespans")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def figure19(store: Store, *, model: str, protocol: str = "tuned") -> Figure:
    """Figure 19: counts and entropy while prompts are trained, averaged over all data sets.

    Parameters
    ----------
    store
        Where the runs are.
    model, protocol
        Of the runs without TSLoss.

    Returns
    -------
    Figure
        A column a regime. Above the number of H0 and of H1 bars, on the band of random clouds;
        below persistence entropy (equation 12). Thin: each data set, the mean over its runs;
        thick: the mean over data sets, to the last check that all of them have.

    Raises
    ------
    InputError
        If there is no such run.
    """
    found = _by_regime(store, model, protocol)
    fig = empty(5.4)
    panels = fig.subplots(2, len(found), sharey="row", sharex="col", squeeze=False)
    for column, (regime, runs) in zip(panels.T, found.items(), strict=True):
        noise_band(column[0], runs)
        for dimension, color in DIMENSION_COLORS.items():
            name = DIMENSION_NAMES[dimension]
            _draw_average(column[0], runs, f"h{dimension}_count", color=color, label=name)
        _draw_average(column[1], runs, "persistence_entropy", color="0.2", label="entropy")
        told = f"{many(runs, 'run')}, {many({run.spec.task for run in runs}, 'data set')}"
        column[0].set(title=f"{PROBLEMS[regime]}: {told}")
        column[0].set(ylim=(0, None))
        column[1].set(xlabel="epoch")
    panels[0, 0].set(ylabel="bars")
    panels[1, 0].set(ylabel="entropy, nats")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def average_bars(runs: Sequence[Run], *, dimension: int, end: bool) -> np.ndarray:
    """Mean over runs of the k-th longest finite lifespan; every data set weighs the same.

    Parameters
    ----------
    runs
        With stored diagrams.
    dimension
        0 or 1.
    end
        At the last stored epoch instead of the first.

    Returns
    -------
    ndarray
        Falling, as long as the longest barcode; runs with fewer bars count as 0 there.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for run in runs:
        bars = first_and_last(run)[int(end)][1][dimension]
        lengths = (bars[:, 1] - bars[:, 0])[np.isfinite(bars[:, 1])]
        rows.setdefault(run.spec.task, []).append(np.sort(lengths)[::-1])
    most = max((len(it) for found in rows.values() for it in found), default=0)
    padded = [
        np.mean([np.pad(it, (0, most - len(it))) for it in found], axis=0)
        for found in rows.values()
    ]
    return np.mean(padded, axis=0)


def lifespans_of(runs: Sequence[Run]) -> pd.DataFrame:
    """Finite bars at the first and the last stored epoch: ``dimension when lifespan``."""
    frames = [
        pd.DataFrame({"dimension": k, "when": when, "lifespan": ends[:, 1] - ends[:, 0]})
        for run in runs
        for when, (_, bars) in zip(WHEN, first_and_last(run), strict=True)
        for k, ends in bars.items()
    ]
    found = pd.concat(frames, ignore_index=True)
    return found[np.isfinite(found.lifespan)]


def _by_regime(store: Store, model: str, protocol: str) -> dict[str, list[Run]]:
    found = {
        regime: plain_runs(store, protocol=protocol, regime=regime, model=model)
        for regime in REGIMES
    }
    found = {regime: runs for regime, runs in found.items() if runs}
    if not found:
        remedy = f"{store.root} has no runs of it; `tsp sweep phenomenon` trains some"
        raise InputError("model", model, remedy)
    return found


def _draw_lifespans(row: Sequence[Axes], runs: Sequence[Run]) -> None:
    """How the lifespans of all runs are distributed, a panel a dimension, beside random clouds."""
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
    """The same of Gaussian clouds with the runs' n, d and mean distance at the end, dotted."""
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
    """Mean of each data set, thin, and of all, thick."""
    each: dict[str, list[pd.Series]] = {}
    for run in runs:
        each.setdefault(run.spec.task, []).append(run.topology.set_index("epoch")[feature])
    means = pd.DataFrame(
        {task: pd.concat(series, axis=1).dropna().mean(axis=1) for task, series in each.items()}
    )
    ax.plot(means.index, means.to_numpy(), color=color, lw=0.7, alpha=0.5)
    ax.plot(means.dropna().mean(axis=1), color=color, lw=2, label=label)
