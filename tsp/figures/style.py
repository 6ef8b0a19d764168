"""The colours and letters of all figures, and pictures of complexes, barcodes and diagrams."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy.spatial.distance import pdist, squareform

from tsp.analysis.geometry import gaussian_counts
from tsp.errors import InputError
from tsp.figures.figure_data import plotted
from tsp.store.runs import Run
from tsp.topology.diagrams import Diagrams

WIDTH = 7.2  # inches: the text width of a book page
POINT_COLOR = "#DE8F05"
DIMENSION_COLORS = {0: "#0173B2", 1: "#D55E00"}
DIMENSION_NAMES = {0: "$H_0$", 1: "$H_1$"}
BOXED: dict[str, Any] = dict(loc="lower right", frameon=True, framealpha=1, edgecolor="white")
"""Arguments of a legend that stands on top of bars."""
METHOD_COLORS = {
    "ce": "#4D4D4D",
    "tsloss": "#029E73",
    "l2": "#DE8F05",
    "pairwise": "#CC78BC",
    "persistence": "#56B4E9",
    "sham": "#CA9161",
}


def style() -> None:
    """Set seaborn's theme for all later figures: palette ``colorblind``, white ground, 10 points.

    The ground is white even on a dark page, because lines and letters are dark. In a notebook each
    figure also shows its data (`plotted`) as ``text/csv``, which the book offers for download.
    """
    rc: dict[str, Any] = {"axes.titlesize": 11, "axes.edgecolor": "0.6", "grid.color": "0.9"}
    ten = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize")
    rc |= dict.fromkeys(ten, 10) | dict.fromkeys(("legend.fontsize", "legend.title_fontsize"), 9.5)
    rc |= {"figure.facecolor": "white", "savefig.facecolor": "white", "figure.dpi": 110}
    rc |= {"legend.frameon": False}
    set_matplotlib_formats("retina")  # twice the pixels, for screens that have them
    sns.set_theme(style="whitegrid", palette="colorblind", rc=rc)
    if (shell := get_ipython()) and shell.display_formatter:
        as_csv = shell.display_formatter.mimebundle_formatter
        as_csv.for_type(
            Figure, lambda figure, **_: {"text/csv": plotted(figure).to_csv(index=False)}
        )


def empty(height: float) -> Figure:
    """Return an empty figure of the book's width and a height in inches."""
    style()
    fig = plt.figure(figsize=(WIDTH, height), layout="constrained")
    plt.close(fig)  # pyplot made the notebook able to show it, and need not show it again
    return fig


def draw_complex(points: np.ndarray, scale: float, *, ax: Axes) -> None:
    """Draw the Rips complex of points in the plane at one scale (equation 9).

    Parameters
    ----------
    points
        ``(n, 2)``.
    scale
        Longest edge, in the points' distance: the diameter of the discs, which meet if joined.

    Raises
    ------
    InputError
        If the points are not in the plane.
    """
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError("points", points.shape, "give points of the plane, shape (n, 2)")
    D = squareform(pdist(points))
    edges = [pair for pair in combinations(range(len(points)), 2) if D[pair] <= scale]
    joined = set(edges)
    triples = combinations(range(len(points)), 3)
    faces = [Polygon(points[[*t]]) for t in triples if {*combinations(t, 2)} <= joined]
    discs = [Circle(point, scale / 2) for point in points]
    ax.add_collection(PatchCollection(discs, color=DIMENSION_COLORS[0], alpha=0.10, lw=0))
    ax.add_collection(PatchCollection(faces, color=DIMENSION_COLORS[1], alpha=0.4, lw=0))
    ax.add_collection(LineCollection(points[np.array(edges, int).reshape(-1, 2)], color="0.2"))
    x, y = points.T
    ax.scatter(x, y, color=POINT_COLOR, edgecolor="0.2", s=50, zorder=3)
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.grid(visible=False)
    sns.despine(ax=ax, left=True, bottom=True)


def draw_barcode(diagrams: Diagrams, ax: Axes, *, limit: float | None = None) -> None:
    """Draw each bar of both diagrams from birth to death, H0 below H1, by death.

    Parameters
    ----------
    diagrams, ax
        As `tsp.topology.diagrams.persistence` returns them, and where to draw.
    limit
        Right end of the axis and of the essential class; by default `beyond` the last death.
    """
    right = limit or beyond(diagrams)
    height = 0
    lw = np.clip(80 / sum(map(len, diagrams.values())), 0.8, 2)
    for dimension, bars in diagrams.items():
        births, deaths = bars[np.lexsort(bars.T)].T
        rows = height + np.arange(len(bars))
        color, name = DIMENSION_COLORS[dimension], DIMENSION_NAMES[dimension]
        ends = np.minimum(deaths, right)
        # Loops are short-lived: round ends leave a dot of a bar that is shorter than a pixel.
        look = {"color": color, "lw": lw + dimension, "capstyle": "round", "snap": False}
        ax.hlines(rows, births, ends, label=f"{name}: {len(bars)}", **look)
        for row in rows[np.isinf(deaths)]:
            ax.plot(right, row, ">", color=color, ms=6, clip_on=False)
        height += len(bars)
    ax.set(xlabel="scale ε", xlim=(0, right), ylim=(-1, height + 1), yticks=[])
    ax.grid(axis="y", visible=False)


def draw_diagram(
    diagrams: Diagrams,
    ax: Axes,
    *,
    limit: float | None = None,
    filled: bool = True,
    band: float = 0.0,
) -> None:
    """Draw both persistence diagrams as points (birth, death) above the diagonal.

    Parameters
    ----------
    diagrams, ax
        As `tsp.topology.diagrams.persistence` returns them, and where to draw.
    limit
        Upper end of both axes; by default `beyond` the last death. A dotted line at this height
        stands for infinity: bars that never die are drawn on it.
    filled
        Fill the markers; hollow ones leave room for another diagram on top.
    band
        Height above the diagonal to shade: twice the half-width of a confidence band
        (`tsp.analysis.geometry.confidence_band`).
    """
    top = limit or beyond(diagrams)
    if band > 0:
        strip = [(0, 0), (top, top), (top, top + band), (0, band)]
        ax.add_patch(Polygon(strip, color="0.88", lw=0, zorder=0, label="may be noise"))
    ax.plot([0, top], [0, top], color="0.6", lw=1, zorder=1)
    ax.axhline(top, color="0.6", lw=1, ls=":", zorder=1)
    for dimension, bars in diagrams.items():
        births, deaths = bars.T
        color = DIMENSION_COLORS[dimension]
        hollow: dict[str, Any] = {"color": "none", "edgecolor": color, "lw": 1, "zorder": 2}
        full: dict[str, Any] = {"color": color, "edgecolor": "white", "lw": 0.5, "zorder": 3}
        look = (full if filled else hollow) | {"marker": "o^"[dimension], "s": 22}
        label = DIMENSION_NAMES[dimension]
        ax.scatter(births, np.minimum(deaths, top), clip_on=False, label=label, **look)
    ax.set(xlabel="birth", ylabel="death", aspect="equal", xlim=(0, top), ylim=(0, top))


def noise_band(
    ax: Axes, runs: Sequence[Run], *, share: bool = False, along: Literal["x", "y"] = "y"
) -> None:
    """Shade the central 95 % of the number of H1 bars of random clouds, to compare counts with.

    Parameters
    ----------
    ax
        Panel with a number of bars on one axis.
    runs
        Runs whose n and d the clouds N(0, I) get; nothing is drawn if they differ in these.
    share
        The axis shows the number of bars divided by n.
    along
        The axis with the number of bars.
    """
    if not (shape := common_shape(runs)):
        return
    counts = gaussian_counts(*shape) / (shape[0] if share else 1)
    low, high = np.quantile(counts, [0.025, 0.975])
    label = f"$H_1$ of Gaussian clouds, n = {shape[0]}, d = {shape[1]}: 95 %"
    span = ax.axhspan if along == "y" else ax.axvspan
    span(low, high, color="0.88", lw=0, zorder=0, label=label)


def common_shape(runs: Sequence[Run]) -> tuple[int, int] | None:
    """Return (n, d) of the runs' prompts if it is the same for all."""
    shapes = {tuple(run.record["shape"]) for run in runs}
    return shapes.pop() if len(shapes) == 1 else None


def beyond(*several: Diagrams) -> float:
    """Return a scale a little beyond every finite birth and death; 1 if there is none."""
    ends = np.concatenate([bars.ravel() for diagrams in several for bars in diagrams.values()])
    last = float(ends[np.isfinite(ends)].max(initial=0.0))
    return 1.08 * last if last > 0 else 1.0
