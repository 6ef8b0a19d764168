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
# Every page is text, and every number on it is read from a stored run while the page is built. This chapter says by
# which way, with which programs, and from what.

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs

# %% tags=["hide-input"]
import platform
from importlib.metadata import version

import pandas as pd
from myst_nb import glue

from tsp.analysis.records import TASK_NAMES
from tsp.book.pages import check_parameters, table
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
#    each run when it is finished: specification, losses, checks, topology, prompts, versions, checksums.
# 2. `tsp runs pack` puts the runs of an experiment into one Parquet file of `data/runs`.
# 3. Each chapter is a text notebook (`notebooks/NN_topic.py`, written with jupytext). `tsp book` executes it with papermill,
#    if it, the package, the runs or the paper's tables have changed, and takes the data of its figures out of it, which the
#    captions offer as CSV: what is plotted, read back from the drawing.
# 4. Jupyter Book makes the site, with warnings as errors. Mathematics, fonts, the search's index and the scripts of the
#    moving figures lie in it; no page asks another machine for anything.
#
# Verdicts are computed in step 3 by rules that stand in `tsp/analysis/claims/` beside each claim.
#
# ## The runs

# %% tags=["hide-input"]
kinds = records.groupby(["model", "task", "device"], sort=False)
shown = kinds.agg(
    runs=("seconds", "size"),
    hours=("seconds", "sum"),
    prompts=("prompts", lambda it: (it > 0).sum()),
)
shown["hours"] /= 3600
shown.index = [", ".join([m, TASK_NAMES.get(t, t), d]) for m, t, d in shown.index]
table(shown.rename(columns={"prompts": "with prompts"}), {"hours": "{:.1f}"})

# %% tags=["remove-cell"]
glue("commits", records.commit.replace("", None).nunique(), display=False)

# %% [markdown]
# A run's hours are its share of its bank's. They were made at {glue:text}`commits:d` states of the code, which their
# records name; {doc}`21_speed` says what a change of code or machine does to the iterations, and `tsp runs repeat` trains
# published runs again and compares.
#
# ## The programs

# %% tags=["hide-input"]
names = "torch transformers peft giotto-tda numpy pandas scipy pyarrow seaborn jupyter-book sphinx jupytext papermill"
programs = {name: version(name) for name in names.split()} | {"Python": platform.python_version()}
table(pd.DataFrame({"version": programs}))

# %% [markdown]
# All versions are in `constraints.txt`. Fonts and MathJax come with their packages, figures are drawn by matplotlib and
# seaborn {cite}`waskom2021seaborn`; persistent homology is giotto-tda's {cite}`tauzin2021giotto`.
#
# ## The moving figures
#
# {numref}`live-rips`, {numref}`live-tsloss` and {numref}`live-prompt` are a few hundred lines of JavaScript without a
# library. The bars are computed in the page by persistent cohomology {cite}`bauer2021ripser`; a test sets them beside
# giotto-tda's on two hundred random clouds, and another the page's TSLoss and its gradient beside those of `tsp.loss`.
# Without scripts, and on paper, each is a picture.
#
# ## What watches over it
#
# | what | by |
# |---|---|
# | mathematics | tests with values by hand, properties and independent libraries |
# | every cell | executed at each build; one that fails, or writes to its error stream, stops it |
# | every reference, link, citation, label | Sphinx, with warnings as errors |
# | every page in a browser | a test in Chromium: no error, nothing from outside, nothing wider than a phone, accessible |
# | links to elsewhere | Sphinx's linkcheck (`make links`), when there is a network |
