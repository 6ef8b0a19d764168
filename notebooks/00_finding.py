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
# # The Shape of a Soft Prompt
#
# **A companion, made of runs that you can repeat, to *Topology Aware Optimization of Soft Prompts* {cite}`anonymous-topology`
# (published as {cite:t}`huang2026structural`).**

# %% tags=["parameters", "remove-cell"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"
model: str = "smollm2-135m-instruct"

# %% tags=["remove-cell"]
import numpy as np
from myst_nb import glue

from tsp.analysis import tables
from tsp.book.pages import check_parameters, missing
from tsp.book.verdicts import findings, verdict_list
from tsp.figures.front import loop_counts, loops
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
claims = tables.claims(store)
claim = claims.set_index("id").to_dict("index")
counts = loop_counts(store, protocol=protocol, model=model)


def number(value, digits=2):
    """A number with a true minus sign; a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def end(arm, first=False):
    """Median number of loops of an arm at its last check, or its first."""
    rows = counts[counts.arm == arm].groupby("epoch").h1_count.median()
    return f"{rows.iloc[0 if first else -1]:.0f}" if len(rows) else "–"


iterations, lifespan = claim["tsloss-fewer-iterations"], claim["h0-lifespan-accuracy"]
for arm in ("ce", "wrong", "random", "tsloss"):
    glue(f"loops-{arm}", end(arm), display=False)
glue("start", end("ce", first=True), display=False)
falls = claim["h1-count-falls"]
glue("falls", falls["n"], display=False)
glue("falls-by", number(falls["effect"], 0), display=False)
glue("ratio", number(iterations["effect"]), display=False)
glue("ratio-low", number(iterations["low"]), display=False)
glue("ratio-high", number(iterations["high"]), display=False)
glue("ratio-printed", number(iterations["printed"]), display=False)
glue("rho", number(lifespan["effect"]), display=False)
glue("rho-low", number(lifespan["low"]), display=False)
glue("rho-high", number(lifespan["high"]), display=False)
glue("rho-printed", number(lifespan["printed"]), display=False)
for name, words in findings(claims, counts).items():
    glue(f"finding-{name}", words, display=False)
open_ones = claims.verdict.isin(["inconclusive", "not tested here"])
glue("claims", len(claims), display=False)
glue("open", int(open_ones.sum()), display=False)

# %% [markdown]
# A soft prompt is a handful of vectors that are trained in front of a frozen language model. The paper sees them as a cloud of points and
# reads its shape: loops ($H_1$) vanish and components ($H_0$) live longer as training succeeds, and a loss made of that, TSLoss, is
# said to make prompt tuning converge in up to half the iterations.
#
# We trained such prompts on a small model. **{glue:text}`finding-loops`**: over {glue:text}`falls` problems and sets of
# problems their number changes by {glue:text}`falls-by` in the median. **{glue:text}`finding-success`.** From
# {glue:text}`start` loops, prompts that learn right answers come to {glue:text}`loops-ce`, prompts that learn wrong ones to
# {glue:text}`loops-wrong`, and prompts whose vectors are moved as far in random directions to {glue:text}`loops-random`. Across
# problems, longer-lived components {glue:text}`finding-lifespan` ($\rho$ = {glue:text}`rho`, {glue:text}`rho-low` to
# {glue:text}`rho-high`; the paper prints {glue:text}`rho-printed`). **{glue:text}`finding-speed`**: it takes {glue:text}`ratio`
# times the iterations ({glue:text}`ratio-low` to {glue:text}`ratio-high`; printed {glue:text}`ratio-printed`).
# **{glue:text}`finding-back`**: {glue:text}`loops-tsloss` are left with it.

# %% mystnb={"image": {"alt": "Number of loops over a hundred epochs, medians with the middle half of the problems. With right answers, with wrong answers and with rows moved in random directions the number falls to almost none. With TSLoss it falls by half and rises again to its first value."}, "figure": {"caption": "Loops vanish whether a prompt learns right answers, wrong ones or nothing at all, and return with TSLoss. Median over the problems that were trained in all ways, with the middle half.", "name": "fig-finding"}} tags=["remove-input"]
loops(store, protocol=protocol, model=model) if len(counts) else missing(
    "tsp sweep null --profile full"
)

# %% [markdown]
# ::::{grid} 1 1 3 3
# :gutter: 2
#
# :::{grid-item-card} Read
# :link: 01_persistent_homology
# :link-type: doc
# From points and loops to the verdicts, a chapter a step.
# :::
#
# :::{grid-item-card} Rerun
# :link: ../setup
# :link-type: doc
# `make book`, or one notebook with your own model and problems.
# :::
#
# :::{grid-item-card} Teach
# :link: ../course
# :link-type: doc
# Persistent homology on a real object, in two hours.
# :::
# ::::
#
# ## All claims
#
# The dot is the effect in our runs with its interval, the dotted line no effect, the diamond what the paper prints. Open a row for the
# numbers and the rule; {doc}`20_rules` says which rules changed after data had been seen. A unit is one problem, or one set of
# ten. {glue:text}`open` of {glue:text}`claims` claims are still open.

# %% tags=["remove-input"]
verdict_list(claims)

# %% [markdown]
# ## Run it yourself
#
# ```bash
# make book     # train, execute every chapter, write _build/html/index.html
# make test
# # one chapter, with other values:
# papermill notebooks/01_persistent_homology.ipynb mine.ipynb \
#     -p task mmlu_cf -p method tsloss
# ```
#
# {doc}`../setup` has the details: other models, your own problems, a GPU. {doc}`21_speed` says how
# fast that is, beside what one would use otherwise. {doc}`../paper` lists what was chosen where the paper is silent. Every chapter is a notebook that has just been
# executed: no measured number in it was typed by hand.
#
# ## The method in one picture
#
# The method of {cite:t}`anonymous-topology` is a circle. A prompt is trained; its vectors are looked at as a cloud of
# points; the cloud's connected pieces and loops are followed over all scales; a few numbers summarise
# them; and from what those numbers did during ordinary training comes a loss that is added to it.
#
# ```{figure} ../_static/pipeline.svg
# :name: fig-pipeline
# :alt: A flow chart that closes into a circle. A question and a soft prompt enter a frozen language model, which gives an answer; the gradient of the cross-entropy returns to the prompt alone. The prompt's vectors become a point cloud, the cloud a Rips filtration, the filtration a barcode with H0 and H1 bars, and the barcode three statistics: how many bars, how long they live, how even they are. These lead to TSLoss, which evens gaps between neighbours, pushes close points apart and pulls distant points together, and whose gradient returns to the prompt.
# :width: 620px
#
# The method in one circle (after Figure 1 of the paper). Only the prompt learns. The statistics led to
# TSLoss, but training does not compute them: TSLoss is a function of the distances between the
# prompt's points.
# ```
#
# ## Notation
#
# ```{csv-table} What the symbols mean (Table 1 of the paper).
# :name: tab-notation
# :file: ../../data/paper/table1.csv
# :header-rows: 1
# :widths: 20 80
# :class: notation
# ```
