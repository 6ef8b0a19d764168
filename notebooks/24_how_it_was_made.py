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
# # How this book was made
#
# How does a number get onto a page? Every page is text, and its results are computed from stored runs or read from stored measurements
# and the paper's tables while the page is built. Only the history in {doc}`../corrections` and the times of the course are typed. This chapter
# describes the steps, the runs and the programs.

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs

# %% tags=["hide-input"]
import platform

import pandas as pd
from myst_nb import glue

from tsp.analysis.records import TASK_NAMES
from tsp.book.pages import check_parameters, table
from tsp.provenance import installed_version
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
records = pd.DataFrame(
    [
        {
            "model": run.spec.model,
            "task": run.spec.task,
            "device": run.record["device"],
            "commit": run.record.get("commit") or "",
            "seconds": run.record["seconds"],
            "prompts": len(run.prompt_epochs),
        }
        for run in store.valid_runs()[0]
    ]
)

# %% [markdown]
# ## From a specification to a page
#
# 1. `tsp sweep` turns an experiment into specifications (`RunSpec`), packs them into banks, trains them, and writes
#    each finished run: specification, losses, checks, topology, prompts, versions and checksums.
# 2. `tsp runs pack` puts the runs of an experiment into one Parquet file of `data/runs`.
# 3. Each chapter is a text notebook (`notebooks/NN_topic.py`, in jupytext's format). `tsp book` executes it with papermill
#    if anything that it depends on has changed: its text and parameters, the package, the benchmarks, the runs, the problems, the
#    measurements or the paper's tables. The data of its figures are read back from the
#    drawings and offered as CSV in the captions.
# 4. Jupyter Book builds the site, with warnings as errors. Mathematics, fonts, the search index and the scripts of the
#    interactive figures are part of it, so no page loads anything from another machine.
#
# Verdicts are computed in step 3 by the rules beside the claims in `tsp/analysis/claims/`. `tsp bench` measures speed beside other packages and
# writes rows with processor, versions and commit to `data/measurements`.
#
# ## The runs

# %% tags=["hide-input"]
totals = records.groupby(["model", "task", "device"], sort=False).agg(
    runs=("seconds", "size"),
    hours=("seconds", "sum"),
    prompts=("prompts", lambda kept: (kept > 0).sum()),
)
totals["hours"] /= 3600
totals.index = [", ".join([m, TASK_NAMES.get(t, t), d]) for m, t, d in totals.index]
table(totals.rename(columns={"prompts": "with prompts"}), {"hours": "{:.1f}"})

# %% tags=["remove-cell"]
glue("commits", records.commit.replace("", None).nunique(), display=False)

# %% [markdown]
# These are all the runs in the store from which this page was made: the published ones and those that `make book` trained. The hours of a run
# are its share of the hours of its bank. The records name the commit of the code that trained each run, {glue:text}`commits:d`
# different commits in all. {doc}`25_precision` measures what rounding does to the iterations, and
# `tsp runs repeat` trains published runs again and compares.
#
# ## The programs

# %% tags=["hide-input"]
names = "torch transformers accelerate peft giotto-ph giotto-tda gudhi ripser numpy pandas scipy pyarrow "
names += "seaborn jupyter-book sphinx jupytext papermill"
programs = {name: installed_version(name) for name in names.split()} | {
    "Python": platform.python_version()
}
table(pd.DataFrame({"version": programs}))

# %% [markdown]
# This page was made with these versions; those of a run or a measurement are in its record. `constraints.txt` pins all versions. Fonts and MathJax are installed as packages too; matplotlib and
# seaborn {cite}`waskom2021seaborn` draw the figures, and giotto-ph {cite}`perez2021giottoph` computes persistent homology.
#
# ## The interactive figures
#
# {numref}`live-rips`, {numref}`live-tsloss` and {numref}`live-prompt` are drawn by a few hundred lines of JavaScript, which use no library.
# The script computes bars by persistent cohomology {cite}`bauer2021ripser`. One test compares them with giotto-tda's on two hundred random clouds;
# another compares its TSLoss and gradient with those of `tsp.loss`. Without scripts, and on paper, each figure is a static picture.
#
# ## Checks
#
# | object | check |
# |---|---|
# | mathematics | tests against values computed by hand, properties and independent libraries |
# | every cell | executed when its inputs change; a cell that fails or writes to its error stream stops the build |
# | every reference, link, citation and label | Sphinx, with warnings as errors |
# | every page | a test in Chromium: no errors, nothing loaded from outside, nothing wider than a phone, accessible |
# | external links | Sphinx's linkcheck (`make links`), which needs a network |
