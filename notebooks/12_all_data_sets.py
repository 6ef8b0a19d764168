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
# The appendix of the paper {cite}`anonymous-topology` repeats the pictures of {doc}`04_phenomenon` for six data
# sets, one problem and ten (Figures 7 to 18), averages them (Figures 6 and 19), and reads from them one story
# everywhere: $H_0$ bars grow, $H_1$ bars go. Here are the same figures from our runs without TSLoss, and
# beneath them the same in numbers, with how many runs and problems they rest on.
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
from tsp.figures.appendix import FIGURES, figure6, figure19, figure_task, plain_runs
from tsp.store.runs import Store

check_parameters(globals())

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
known = tables.evidence_of(store, protocol)
features = {
    "h1_count": "H1 bars",
    "h0_mean_lifespan": "H0 lifespan",
    "h0_mean_lifespan_scaled": "H0 / D",
    "persistence_entropy": "entropy",
}
columns, loops = {}, {}
for feature, name in features.items() if there else ():
    ends = first_and_last(known, feature).query("model == @model").reset_index()
    cells = ends.groupby(["task", "regime"])
    if feature == "h1_count":
        loops = {cell: rows["last"] for cell, rows in cells}  # one number a unit
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
below = [float((counts < band[0]).mean()) for counts in loops.values()]
glue("below-least", f"{min(below, default=0):.0%}", display=False)
glue("below-most", f"{max(below, default=0):.0%}", display=False)

# %% [markdown]
# Gaussian clouds of this shape have {glue:text}`noise-middle` $H_1$ bars, 95 % of them between
# {glue:text}`noise-low` and {glue:text}`noise-high`. At their last check {glue:text}`below-least` to
# {glue:text}`below-most` of the units of a data set and regime have fewer than the lower end (a unit is a problem, or a set
# of ten, the median over its seeds): whether loops vanish can be answered cell by cell, and what else takes them away is asked in {doc}`06_training_or_movement`.
#
# ## Figures 7 to 18
#
# One page of the appendix each: barcodes of one run before and after training on one scale, and the lifespans of
# all runs of the data set.


# %% tags=["hide-input"]
def appendix(task, regime):
    """A page of the appendix, or what trains its runs."""
    if (task, regime) not in there:
        return missing("tsp sweep phenomenon --profile full")
    return figure_task(store, task=task, regime=regime, model=model, protocol=protocol)


# %% mystnb={"image": {"alt": "GSM8K, one problem: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "GSM8K, one problem (the paper's Figure 7).", "name": "fig-gsm8k-single"}} tags=["hide-input"]
appendix("gsm8k", "single")

# %% mystnb={"image": {"alt": "GSM8K, ten problems: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "GSM8K, ten problems (the paper's Figure 8).", "name": "fig-gsm8k-multi"}} tags=["hide-input"]
appendix("gsm8k", "multi")

# %% mystnb={"image": {"alt": "MATH, one problem: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "MATH, one problem (the paper's Figure 9).", "name": "fig-math-single"}} tags=["hide-input"]
appendix("math", "single")

# %% mystnb={"image": {"alt": "MATH, ten problems: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "MATH, ten problems (the paper's Figure 10).", "name": "fig-math-multi"}} tags=["hide-input"]
appendix("math", "multi")

# %% mystnb={"image": {"alt": "BBH, one problem: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "BBH, one problem (the paper's Figure 11).", "name": "fig-bbh-single"}} tags=["hide-input"]
appendix("bbh", "single")

# %% mystnb={"image": {"alt": "BBH, ten problems: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "BBH, ten problems (the paper's Figure 12).", "name": "fig-bbh-multi"}} tags=["hide-input"]
appendix("bbh", "multi")

# %% mystnb={"image": {"alt": "MMLU-CF, one problem: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "MMLU-CF, one problem (the paper's Figure 13).", "name": "fig-mmlu-cf-single"}} tags=["hide-input"]
appendix("mmlu_cf", "single")

# %% mystnb={"image": {"alt": "MMLU-CF, ten problems: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "MMLU-CF, ten problems (the paper's Figure 14).", "name": "fig-mmlu-cf-multi"}} tags=["hide-input"]
appendix("mmlu_cf", "multi")

# %% mystnb={"image": {"alt": "HotpotQA, one problem: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "HotpotQA, one problem (the paper's Figure 15).", "name": "fig-hotpotqa-single"}} tags=["hide-input"]
appendix("hotpotqa", "single")

# %% mystnb={"image": {"alt": "HotpotQA, ten problems: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "HotpotQA, ten problems (the paper's Figure 16).", "name": "fig-hotpotqa-multi"}} tags=["hide-input"]
appendix("hotpotqa", "multi")

# %% mystnb={"image": {"alt": "LongBench, one problem: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "LongBench, one problem (the paper's Figure 17).", "name": "fig-longbench-single"}} tags=["hide-input"]
appendix("longbench", "single")

# %% mystnb={"image": {"alt": "LongBench, ten problems: barcodes of one run at the start and at the end; mean lifespans of all runs in H0 and H1 over epochs."}, "figure": {"caption": "LongBench, ten problems (the paper's Figure 18).", "name": "fig-longbench-multi"}} tags=["hide-input"]
appendix("longbench", "multi")

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
# {doc}`04_phenomenon` takes one run apart, {doc}`03_printed_numbers` the paper's own numbers.
# ```

# %% [markdown]
# ## An exercise
#
# ```{exercise} The average cloud
# :label: ex-average
# The pages of this chapter average numbers over prompts: counts, lifespans. Why not average the prompts, vector by vector, and
# look at the topology of the mean? Try it on two rings.
# ```
#
# ```{solution-start} ex-average
# :class: dropdown
# ```
# The order of a prompt's points means nothing to its topology, but everything to such an average. A ring and the same ring
# run through backwards average to a segment: both have one long loop, their mean has none. And prompts that were started
# differently have no common order at all.

# %%
import numpy as np

from tsp.topology.diagrams import persistence

turn = 2 * np.pi * np.arange(12) / 12
forth = np.c_[np.cos(turn), np.sin(turn)]
back = forth[::-1]
assert len(persistence(forth)[1]) == len(persistence(back)[1]) == 1
assert len(persistence((forth + back) / 2 + 1e-9 * forth)[1]) == 0

# %% [markdown]
# ```{solution-end}
# ```
