"""The figure of the front page: loops while a prompt is trained, and while nothing is learnt."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import transforms
from matplotlib.figure import Figure

from tsp.analysis.records import deciding, load_runs, load_topology
from tsp.analysis.units import PAIR, STANDARD, UNIT, units
from tsp.figures.style import METHOD_COLORS, empty
from tsp.store.runs import Store
from tsp.topology.diagrams import summarize
from tsp.topology.null_models import displaced

RANDOM = "random"
ARMS: Mapping[str, Mapping[str, Any]] = {
    **PAIR,
    "wrong": {**STANDARD, "wrong_answers": True},
}
LOOKS: Mapping[str, tuple[str, str, str]] = {
    "tsloss": ("right answers,\nwith TSLoss", METHOD_COLORS["tsloss"], "-"),
    "ce": ("right answers", METHOD_COLORS["ce"], "-"),
    "wrong": ("wrong answers", "#D55E00", "--"),
    RANDOM: ("moved at random", "#0173B2", ":"),
}


def loop_counts(store: Store, *, protocol: str, model: str) -> pd.DataFrame:
    """Return the number of H1 bars of each unit that was trained in all of `ARMS`.

    Returns
    -------
    DataFrame
        One row per unit, arm and check: `UNIT`, ``arm``, ``epoch``, ``h1_count`` (median over the
        unit's seeds). A further arm, ``"random"``, is the control: each row of the Standard prompt
        moved from its start in a random direction, as far as training had moved it at that check
        (`displaced`), where the prompts are stored; units without them are then left out.
    """
    runs, length = deciding(load_runs(store))
    table = units(runs[runs.model == model], ARMS, protocol=protocol, length=length)
    members = table.explode("ids").rename(columns={"ids": "id"})[[*UNIT, "arm", "id"]]
    checks = load_topology(store)[["id", "epoch", "h1_count"]]
    random = [_displaced(store, run_id) for run_id in members.id[members.arm == "ce"]]
    moved = pd.concat(random) if random else checks.iloc[:0]
    if len(moved):  # all lines are about the same units
        known = members[UNIT][members.id.isin(moved.id)].drop_duplicates()
        members = members.merge(known, on=UNIT)
    rows = pd.concat(
        [
            members.merge(checks, on="id"),
            members[members.arm == "ce"].assign(arm=RANDOM).merge(moved, on="id"),
        ]
    )
    rows = rows if length is None else rows[rows.epoch <= length]
    rows = rows.astype({"epoch": int, "h1_count": float})
    return rows.groupby([*UNIT, "arm", "epoch"]).h1_count.median().reset_index()


def loops(store: Store, *, protocol: str, model: str) -> Figure:
    """Draw the number of H1 bars over epochs: median over problems, with the middle half."""
    counts = loop_counts(store, protocol=protocol, model=model)
    fig = empty(3.1)
    fig.set_figwidth(4.3)  # letters that can be read on a phone
    ax = fig.subplots()
    ends = {}
    for arm, (label, color, line) in LOOKS.items():
        rows = counts[counts.arm == arm].groupby("epoch").h1_count
        if not len(rows):
            continue
        low, middle, high = (rows.quantile(share) for share in (0.25, 0.5, 0.75))
        ax.fill_between(middle.index, low, high, color=color, alpha=0.15, lw=0)
        ax.plot(middle.index, middle, line, color=color, lw=2)
        ends[label] = (float(middle.index[-1]), float(middle.iloc[-1]), color)
    _label_ends(ax, ends)
    ax.set(xlabel="epoch", ylabel="number of loops", xlim=(0, None))
    ax.set_ylim(-1)  # lines at 0 stand clear of the axis
    for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label):
        text.set_fontsize(11)
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def _displaced(store: Store, run_id: str) -> pd.DataFrame:
    """H1 counts of a run's first prompt with every row moved as far as in each stored prompt."""
    run = store.read(run_id)
    epochs = run.prompt_epochs
    if not epochs:
        return pd.DataFrame(columns=["id", "epoch", "h1_count"])
    first = run.prompt(epochs[0])
    seed = int(run_id, 16)  # runs move in independent directions
    clouds = [displaced(first, run.prompt(epoch), seed=seed) for epoch in epochs]
    counts = summarize(np.stack(clouds)).h1_count
    return pd.DataFrame({"id": run_id, "epoch": epochs, "h1_count": counts})


def _label_ends(ax: Any, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write each label beside the end of its line, moved apart where they would overlap."""
    gap = 0.11 * max((y for _, y, _ in ends.values()), default=1.0)
    place = -0.5 * gap  # the lowest label stands above the axis
    for label, (x, y, color) in sorted(ends.items(), key=lambda item: item[1][1]):
        place = max(y, place + gap)
        beside = transforms.offset_copy(ax.transData, ax.figure, 16, 0, units="points")
        line = {"arrowstyle": "-", "color": color, "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
        line |= {"relpos": (0, 0.5)}  # from the middle of the label's left side
        ax.annotate(
            label, (x, y), (x, place), textcoords=beside, color=color, va="center", arrowprops=line
        )
