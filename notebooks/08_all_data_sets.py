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
# The appendix of the paper {cite}`anonymous-topology` repeats the pictures of {doc}`02_phenomenon` for six data
# sets, one problem and ten (Figures 7 to 18), averages them (Figures 6 and 19), and reads from them one story
# everywhere: $H_0$ bars grow, $H_1$ bars go. Here are the same figures from our runs without TSLoss, and
# beneath them the same in numbers, with how many runs and problems they rest on.

# %% tags=["parameters"]
runs = ""  # the run store; empty: $TSP_RUNS, else runs
model = "smollm2-135m-instruct"
protocol = "tuned"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import display
from myst_nb import glue

from tsp import figures
from tsp.appendix import FIGURES, figure6, figure19, figure_task, plain_runs
from tsp.evidence import Evidence, comparable, first_and_last
from tsp.geometry import gaussian_counts
from tsp.pages import interval, missing, table
from tsp.records import TASK_NAMES, load_runs, load_topology
from tsp.runs import Store
from tsp.verdicts import median_interval

figures.style()
store = Store(runs)
found = {
    (task, regime): plain_runs(store, protocol=protocol, model=model, task=task, regime=regime)
    for task, regime in FIGURES
}
there = [cell for cell, of_cell in found.items() if of_cell]
glue("cells-there", len(there), display=False)
glue("cells", len(FIGURES), display=False)
glue("model", model, display=False)

# %% [markdown]
# Of the {glue:text}`cells:d` figures {glue:text}`cells-there:d` have runs in the store, all on
# {glue:text}`model`. What random clouds do is drawn beside every count: a Gaussian cloud of as many points in
# as many dimensions, at any scale, has the number of $H_1$ bars that the grey band shows.
#
# ## Averages: Figures 6 and 19

# %% mystnb={"image": {"alt": "A row for each regime. Left: average barcodes as falling curves, the number of a bar by length against its mean lifespan, H0 and H1, dotted at the start and solid at the end of training. Right: histograms of lifespans at the end."}, "figure": {"caption": "The paper's Figure 6 from our runs: average barcodes (dotted: before training, solid: after) and the lifespans after training.", "name": "fig-average-bars"}} tags=["hide-input"]
here = len(there) > 0
figure6(store, model=model, protocol=protocol) if here else missing("tsp sweep phenomenon")

# %% mystnb={"image": {"alt": "A column for each regime. Above: number of H0 and of H1 bars over epochs, thin lines for data sets and a thick line for their mean, on a grey band that shows random clouds. Below: persistence entropy."}, "figure": {"caption": "The paper's Figure 19 from our runs: number of bars and persistence entropy; thin: each data set, thick: their mean. Grey: $H_1$ bars of random clouds.", "name": "fig-overlay"}} tags=["hide-input"]
figure19(store, model=model, protocol=protocol) if here else missing("tsp sweep phenomenon")

# %% [markdown]
# ## In numbers
#
# The change from the first check to the last: the median over problems (or sets of ten), of medians over seeds,
# with an interval from order statistics, which takes six problems. `H0 / D` is the mean $H_0$ lifespan divided by
# the mean distance between points: it stays if a cloud merely grows.

# %% tags=["hide-input"]
usual = comparable(load_runs(store), protocol=protocol)
usual = usual[usual.model == model]
known = Evidence(usual, load_topology(store), pd.DataFrame())
features = {
    "h1_count": "H1 bars",
    "h0_mean_lifespan": "H0 lifespan",
    "h0_mean_lifespan_scaled": "H0 / D",
    "persistence_entropy": "entropy",
}
columns = {}
for feature, name in features.items() if there else ():
    ends = first_and_last(known, feature).reset_index()
    cells = ends.groupby(["task", "regime"])
    digits = 1 if feature == "h1_count" else 3
    columns["problems"] = cells.size()
    columns[f"{name}: start"] = cells["first"].median().map(f"{{:.{digits}f}}".format)
    columns[f"{name}: change"] = pd.Series(
        {
            cell: interval(rows.change.median(), *median_interval(rows.change), digits)
            for cell, rows in cells
        }
    )
shown = pd.DataFrame(columns).reindex([cell for cell in FIGURES if cell in there])
shown.index = [f"{TASK_NAMES[task]}, {regime}" for task, regime in shown.index]
table(shown) if there else missing("tsp sweep phenomenon")

# %% tags=["remove-cell"]
shapes = {
    tuple(run.record["shape"]) for cell in there for run in found[cell] if "shape" in run.record
}
band = np.quantile(gaussian_counts(*min(shapes)), [0.025, 0.5, 0.975]) if shapes else [np.nan] * 3
for key, value in zip(("low", "middle", "high"), band, strict=True):
    glue(f"noise-{key}", f"{value:.0f}", display=False)
last = {
    cell: [run.topology.sort_values("epoch").h1_count.iloc[-1] for run in found[cell]]
    for cell in there
}
below = [float(np.mean(np.array(counts) < band[0])) for counts in last.values()]
glue("below-least", f"{min(below, default=0):.0%}", display=False)
glue("below-most", f"{max(below, default=0):.0%}", display=False)

# %% [markdown]
# Gaussian clouds of this shape have {glue:text}`noise-middle` $H_1$ bars, 95 % of them between
# {glue:text}`noise-low` and {glue:text}`noise-high`. At their last check {glue:text}`below-least` to
# {glue:text}`below-most` of the runs of a data set and regime have fewer than the lower end: whether loops vanish
# can be answered cell by cell, and what else takes them away is asked in {doc}`09_training_or_movement`.
#
# ## Figures 7 to 18
#
# One page of the appendix each: barcodes of one run before and after training on one scale, and the lifespans of
# all runs of the data set.

# %% tags=["hide-input"]
for task, regime in there:
    title = f"{TASK_NAMES[task]}, {regime}: the paper's Figure {FIGURES[task, regime]}"
    figure = figure_task(store, task=task, regime=regime, model=model, protocol=protocol)
    display(
        figure,
        metadata={
            "image/png": {
                "alt": f"{title}: barcodes at the start and the end, lifespans in H0 and H1"
            }
        },
    )

# %% tags=["remove-cell"]
lacking = [
    f"{FIGURES[task, regime]} ({TASK_NAMES[task]}, {regime})"
    for task, regime in FIGURES
    if (task, regime) not in there
]
told = (
    f"The store has no runs for Figure {', '.join(lacking)}" if lacking else "No figure is missing"
)
glue("lacking", told, display=False)

# %% [markdown]
# {glue:text}`lacking:s`. The experiment `phenomenon` trains them all.
#
# ```{seealso}
# {doc}`02_phenomenon` takes one run apart, {doc}`06_printed_numbers` the paper's own numbers.
# ```
