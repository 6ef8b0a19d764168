# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # All data sets
#
# Does the topology of a prompt evolve in the same way in all data sets? The appendix of the paper {cite}`anonymous-topology` says so: in six
# data sets, for one problem and for ten, $H_0$ bars lengthen and $H_1$ bars disappear (Figures 7 to 18; averages in Figures 6
# and 19). This chapter draws the same figures from our runs without TSLoss. {glue:text}`overlay-says`; a table gives the
# changes for each data set. Whether all data sets behave alike is judged in {doc}`04_phenomenon`.
#
# ```{admonition} After this chapter you can
# :class: tip
# read an average over prompts, and say what may not be averaged.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
protocol: str = "tuned"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.evidence import first_and_last
from tsp.analysis.geometry import gaussian_counts
from tsp.analysis.records import TASK_NAMES
from tsp.analysis.verdicts import median_interval
from tsp.book.pages import check_parameters, interval, missing, table
from tsp.figures import paper_figures as figures
from tsp.figures.appendix import (
    FIGURES,
    barcodes_by_task,
    figure6,
    figure19,
    lifespans_by_task,
    plain_runs,
)
from tsp.store.runs import Store
from tsp.topology.diagrams import persistence

check_parameters(globals())

figures.style()
store = Store(runs)
by_cell = {
    (task, regime): plain_runs(store, protocol=protocol, model=model, task=task, regime=regime)
    for task, regime in FIGURES
}
available = [cell for cell, cell_runs in by_cell.items() if cell_runs]
glue("model", model, display=False)
figures_of = {"model": model, "protocol": protocol}
NONE = "The store has no such runs"


def from_to(ends, form="#.3g"):
    """Return how a mean changes from start to end, for each title of a panel."""
    changes = (
        f"from {first:{form}} to {last:{form}} for {title.partition(':')[0]}"
        for title, (first, last) in ends.items()
    )
    return " and ".join(changes)


def span(values):
    """Return the range of some numbers."""
    least, most = (f"{extreme(values):.2g}" for extreme in (min, max))
    return least if least == most else f"{least} to {most}"


# %% [markdown]
# All runs are of {glue:text}`model`. For comparison, grey bands show the number of $H_1$ bars of random clouds: Gaussian clouds with as many
# points in as many dimensions. This number does not depend on scale.
#
# ## Averages: Figures 6 and 19

# %% mystnb={"image": {"alt": "A row for each regime. Left: average barcodes as falling curves, the number of a bar by length against its mean lifespan, H0 and H1, dotted at the start and solid at the end of training. Right: histograms of lifespans at the end."}, "figure": {"caption": "{glue:text}`bars-say`. The paper's Figure 6 from our runs. Left: average barcodes before training (dotted) and after it (solid). Right: lifespans after training.", "name": "fig-average-bars"}} tags=["hide-input"]
averages, bars_say = missing("tsp sweep phenomenon"), NONE
if available:
    averages = figure6(store, **figures_of)
    before_after = {
        ax.get_title(): [line.get_xdata().mean() for line in ax.lines[:2]]
        for ax in averages.axes[::2]
    }
    bars_say = f"The mean lifespan of H₀ bars goes {from_to(before_after)}"
glue("bars-say", bars_say, display=False)
averages

# %% mystnb={"image": {"alt": "A column for each regime. Above: number of H0 and of H1 bars over epochs, thin lines for data sets and a thick line for their mean, on a grey band that shows random clouds. Below: persistence entropy."}, "figure": {"caption": "{glue:text}`overlay-says`. The paper's Figure 19 from our runs: number of bars and persistence entropy. Thick: mean of the data sets; thin: single data sets; grey: 95 % of Gaussian clouds have {glue:text}`noise-low` to {glue:text}`noise-high` $H_1$ bars.", "name": "fig-overlay"}} tags=["hide-input"]
overlay, overlay_says = missing("tsp sweep phenomenon"), NONE
if available:
    overlay = figure19(store, **figures_of)
    before_after = {
        ax.get_title(): line.get_ydata()[[0, -1]]
        for ax in overlay.axes
        for line in ax.lines
        if line.get_label() == "$H_1$"
    }
    overlay_says = f"The mean number of H₁ bars goes {from_to(before_after, '.1f')}"
glue("overlay-says", overlay_says, display=False)
overlay

# %% [markdown]
# ## Changes by data set
#
# The figures above average all stored runs, so a problem counts once for each of its seeds. The table takes an odd number of seeds for each
# problem or set. It gives the value at the first check and the change from there to the last: the median over seeds, then over problems or sets,
# with an interval from order statistics where there are at least six units. *H₀ / D* is the mean $H_0$ lifespan divided by
# the mean distance between points. It stays constant if a cloud merely grows.

# %% tags=["hide-input"]
known = tables.evidence_of(store, protocol)
features = {
    "h1_count": "H1 bars",
    "h0_mean_lifespan": "H0 lifespan",
    "h0_mean_lifespan_scaled": "H0 / D",
    "persistence_entropy": "entropy",
}
columns, loops = {}, {}
for feature, name in features.items() if available else ():
    ends = first_and_last(known, feature).query("model == @model").reset_index()
    cells = ends.groupby(["task", "regime"])
    if feature == "h1_count":
        loops = {cell: rows["last"] for cell, rows in cells}  # one number a unit
    digits = 1 if feature == "h1_count" else 3
    columns["", "units"] = cells.size()
    columns[name, "start"] = cells["first"].median().map(f"{{:.{digits}f}}".format)
    columns[name, "change"] = pd.Series(
        {
            cell: interval(rows.change.median(), *median_interval(rows.change), digits)
            for cell, rows in cells
        }
    )
changes = pd.DataFrame(columns).reindex([cell for cell in FIGURES if cell in available])
changes = changes.rename(index=TASK_NAMES, level=0)
narrow = [{"selector": "tbody th.level0", "props": "min-width: 0"}]
halves = [
    table(changes[half]).set_table_styles(narrow, overwrite=False)
    for half in ([*columns][:5], [*columns][5:])
]
halves[0] if available else missing("tsp sweep phenomenon")

# %% tags=["hide-input"]
halves[1] if available else None

# %% tags=["remove-cell"]
shapes = {
    tuple(run.record["shape"])
    for cell in available
    for run in by_cell[cell]
    if "shape" in run.record
}
band = np.quantile(gaussian_counts(*min(shapes)), [0.025, 0.5, 0.975]) if shapes else [np.nan] * 3
for key, value in zip(("low", "middle", "high"), band, strict=True):
    glue(f"noise-{key}", f"{value:.0f}", display=False)
below = [float((counts < band[0]).mean()) for counts in loops.values()]
least, most = (f"{100 * extreme(below, default=0):.0f} %" for extreme in (min, max))
share = f"between {least} and {most}"
if least == most:
    share = "all" if least == "100 %" else least
glue("below-share", share, display=False)

# %% [markdown]
# Gaussian clouds with as many points and dimensions have a median of {glue:text}`noise-middle` $H_1$ bars, and 95 % of them have between
# {glue:text}`noise-low` and {glue:text}`noise-high`. In every data set and regime, {glue:text}`below-share` of the problems (or sets of ten)
# end with fewer than {glue:text}`noise-low` loops.
# {doc}`05_training_or_movement` asks what removes these loops.
#
# ## Figures 7 to 18
#
# Each of these figures fills a page of the appendix. Here they are two grids of small panels, with a row for each data set.

# %% mystnb={"image": {"alt": "Small barcodes, a row for each data set: one problem at the start and at the end of training, ten problems at the start and at the end. H0 bars are blue, H1 bars vermilion."}, "figure": {"caption": "{glue:text}`barcodes-say`. Barcodes of Figures 7 to 18 from our runs; the start and the end of a run have one scale. Drawn for each data set: {glue:text}`run-drawn`, and the set of ten that begins with it. Above each barcode: its number of bars.", "name": "fig-barcodes-by-task"}} tags=["hide-input"]
barcodes, barcodes_say = missing("tsp sweep phenomenon"), NONE
if available:
    barcodes = barcodes_by_task(store, **figures_of)
    start, end = (
        [len(ax.collections[1].get_segments()) for ax in barcodes.axes[k::2] if ax.collections]
        for k in (0, 1)
    )
    barcodes_say = f"These runs start with {span(start)} H₁ bars and end with {span(end)}"
specs = {(some[0].spec.problem, some[0].spec.seed) for some in by_cell.values() if some}
drawn = " or ".join(f"problem {problem} (seed {seed})" for problem, seed in sorted(specs))
glue("run-drawn", drawn or "no run", display=False)
glue("barcodes-say", barcodes_say, display=False)
barcodes

# %% mystnb={"image": {"alt": "Small falling curves, a row for each data set: the number of bars that live longer than a lifespan, H0 and H1 for one problem, H0 and H1 for ten. Grey at the start of training, coloured at the end, dotted for Gaussian clouds."}, "figure": {"caption": "{glue:text}`lifespans-say`. Lifespans of Figures 7 to 18 from our runs: the number of finite bars longer than a given lifespan, averaged over all runs of a data set. A curve begins at the number of bars. Grey: before training; colour: after it; dotted: Gaussian clouds with the trained prompts' n, d and mean distance.", "name": "fig-lifespans-by-task"}} tags=["hide-input"]
lives, lifespans_say = missing("tsp sweep phenomenon"), NONE
if available:
    lives = lifespans_by_task(store, **figures_of)
    counts = [[line.get_ydata()[0] for line in ax.lines] for ax in lives.axes[1::2] if ax.lines]
    lifespans_say = (
        f"After training, runs have {span([row[1] for row in counts])} H₁ bars on average"
    )
    noise = [row[2] for row in counts if len(row) > 2]
    lifespans_say += f", Gaussian clouds {span(noise)}" if noise else ""
glue("lifespans-say", lifespans_say, display=False)
lives

# %% tags=["remove-cell"]
lacking = [
    f"{FIGURES[task, regime]} ({TASK_NAMES[task]}, {regime})"
    for task, regime in FIGURES
    if (task, regime) not in available
]
availability = ""
if lacking:
    plural = "s" * (len(lacking) > 1)
    availability = f"The store has no runs for Figure{plural} {', '.join(lacking)}. The experiment phenomenon trains them."
glue("availability", availability, display=False)

# %% [markdown]
# {glue:text}`availability`
#
# ## An exercise
#
# ```{exercise} The average cloud
# :label: ex-average
# The figures of this chapter average numbers over prompts, such as counts and lifespans. Why not average the prompts, vector by
# vector, and look at the topology of the mean? Try it on two rings.
# ```
#
# ```{solution-start} ex-average
# :class: dropdown
# ```
# The topology of a prompt does not depend on the order of its points, but such an average does. A ring and the same ring
# traversed backwards average to a segment: each ring has one long loop, but the mean has none. Moreover, prompts with different initial
# vectors have no common order at all.

# %%
angle = 2 * np.pi * np.arange(12) / 12
forwards = np.c_[np.cos(angle), np.sin(angle)]
backwards = forwards[::-1]
assert len(persistence(forwards)[1]) == len(persistence(backwards)[1]) == 1
assert len(persistence((forwards + backwards) / 2 + 1e-9 * forwards)[1]) == 0

# %% [markdown]
# ```{solution-end}
# ```
