"""Pictures of any prompt: its barcode and diagram, or curves along a trajectory."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from tsp.errors import InputError
from tsp.figures.style import (
    BOXED,
    DIMENSION_COLORS,
    DIMENSION_NAMES,
    draw_barcode,
    draw_diagram,
    empty,
)
from tsp.topology.diagrams import Diagrams


def draw_cloud(diagrams: Diagrams) -> Figure:
    """Draw the barcode and the persistence diagram of one cloud, side by side."""
    fig = empty(3.4)
    barcode, diagram = fig.subplots(1, 2)
    draw_barcode(diagrams, barcode)
    draw_diagram(diagrams, diagram)
    barcode.set(title="barcode")
    diagram.set(title="persistence diagram")
    barcode.legend(**BOXED)
    return fig


def draw_trajectory(table: pd.DataFrame) -> Figure:
    """Draw the rows of `tsp.topology.diagrams.summarize` in order: bars, lifespans, entropy."""
    fig = empty(2.8)
    counts, lifespans, entropy = fig.subplots(1, 3)
    place = range(len(table))
    for k, color in DIMENSION_COLORS.items():
        look = {"ms": 3, "color": color, "label": DIMENSION_NAMES[k]}
        counts.plot(place, table[f"h{k}_count"], "o-", **look)
        lifespans.plot(place, table[f"h{k}_mean_lifespan"], "o-", **look)
    entropy.plot(place, table.persistence_entropy, "o-", ms=3, color="0.3")
    counts.set(title="number of bars", ylim=(0, None))
    lifespans.set(title="mean lifespan", ylim=(0, None))
    entropy.set(title="persistence entropy, nats")
    for ax in fig.axes:
        ax.set(xlabel="place in the trajectory")
    counts.legend()
    return fig


def save_figure(file: Path, table: pd.DataFrame, diagrams: Sequence[Diagrams]) -> None:
    """Write the figure of one cloud, or of a trajectory, in the format of the file's suffix."""
    fig = draw_cloud(diagrams[0]) if len(diagrams) == 1 else draw_trajectory(table)
    formats = fig.canvas.get_supported_filetypes()
    if file.suffix[1:].lower() not in formats:
        raise InputError("plot", str(file), f"end the name in .{', .'.join(sorted(formats))}")
    if not file.parent.is_dir():
        raise InputError("plot", str(file), "no such folder")
    fig.savefig(file, dpi=150)
