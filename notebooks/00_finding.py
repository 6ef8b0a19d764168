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
# **A reproducible companion to *Topology Aware Optimization of Soft Prompts* {cite}`anonymous-topology`
# (published as {cite:t}`huang2026structural`).**

# %% tags=["parameters", "remove-cell"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"
model: str = "smollm2-135m-instruct"

# %% tags=["remove-cell"]
import numpy as np
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.studies import recipes
from tsp.analysis.units import UNIT
from tsp.book.pages import check_parameters, missing
from tsp.book.verdicts import findings, shortening, verdict_list
from tsp.experiments.paper import PROTOCOLS
from tsp.figures.front import loop_counts, loops
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
claims = tables.claims(store)
claim = claims.set_index("id").to_dict("index")
counts = loop_counts(store, protocol=protocol, model=model)


def number(value, digits=2):
    """Write a number with a true minus sign, and a dash if it is missing."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def end(arm, first=False):
    """Write the median number of loops of an arm at its last check, or at its first."""
    rows = counts[counts.arm == arm].groupby("epoch").h1_count.median()
    return f"{rows.iloc[0 if first else -1]:.0f}" if len(rows) else "–"


iterations, lifespan = claim["tsloss-fewer-iterations"], claim["h0-lifespan-accuracy"]
for arm in ("ce", "wrong", "random", "tsloss"):
    glue(f"loops-{arm}", end(arm), display=False)
glue("start", end("ce", first=True), display=False)
glue("model", model, display=False)
trained = tables.trained(store).query("model == @model and protocol == @protocol")
names = [tables.TASK_NAMES[task] for task in trained.task.unique()] or ["no benchmark yet"]
glue("tasks", " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])), display=False)
glue("epochs", int(counts.epoch.max()) if len(counts) else "–", display=False)
glue("rate", f"{PROTOCOLS[protocol].lr / PROTOCOLS['paper'].lr:g}", display=False)
falls = claim["h1-count-falls"]
glue("falls", falls["n"], display=False)
for name, value in (("by", "effect"), ("low", "low"), ("high", "high")):
    glue(f"falls-{name}", number(falls[value], 0), display=False)
shown = counts[UNIT].drop_duplicates()
in_figure = " and ".join(tables.TASK_NAMES[task] for task in shown.task.unique())
glue("figure-units", f"{len(shown)} problems of {in_figure}" if len(shown) else "–", display=False)
glue("ratio", number(iterations["effect"]), display=False)
glue("ratio-low", number(iterations["low"]), display=False)
glue("ratio-high", number(iterations["high"]), display=False)
glue("ratio-printed", number(iterations["printed"]), display=False)
glue("rho", number(lifespan["effect"]), display=False)
glue("rho-low", number(lifespan["low"]), display=False)
glue("rho-high", number(lifespan["high"]), display=False)
glue("rho-units", lifespan["n"], display=False)
glue("ratio-units", iterations["n"], display=False)
glue("rho-printed", number(lifespan["printed"]), display=False)
glue("shortening", shortening(recipes(store, model=model, protocol=protocol)), display=False)
for name, words in findings(claims, counts).items():
    glue(f"finding-{name}", words, display=False)
open_ones = claims.verdict.isin(["inconclusive", "not tested here"])
glue("claims", len(claims), display=False)
glue("open", int(open_ones.sum()), display=False)

# %% [markdown]
# A soft prompt is a short list of vectors that are trained in front of a frozen language model. The paper treats these vectors as a
# cloud of points and reports that, as training succeeds, loops in the cloud ($H_1$) vanish and its components ($H_0$) live longer. From
# this it derives a loss, TSLoss, which is said to cut the iterations of prompt tuning by up to one half. We repeated the experiments with
# {glue:text}`model`.
#
# - **{glue:text}`finding-loops`:** their number changes by {glue:text}`falls-by` in the median ({glue:text}`falls-low` to
#   {glue:text}`falls-high`; {glue:text}`falls` problems and sets of ten). {glue:text}`finding-components`.
# - **{glue:text}`finding-success`:** the median prompt in the figure goes from {glue:text}`start` loops to {glue:text}`loops-ce` when it
#   learns right answers, to {glue:text}`loops-wrong` when it learns wrong ones, and to {glue:text}`loops-random` when each vector is moved in a
#   random direction, as far as training moved it. {glue:text}`finding-reason`.
# - **{glue:text}`finding-lifespan`:** across {glue:text}`rho-units` problems and sets the rank correlation of lifespan and accuracy is
#   {glue:text}`rho` ({glue:text}`rho-low` to {glue:text}`rho-high`); the paper's {glue:text}`rho-printed` compares snapshots of training,
#   where the epoch number alone correlates as strongly ({doc}`03_printed_numbers`).
# - **{glue:text}`finding-speed`:** the median ratio of its iterations to those of plain training is {glue:text}`ratio`
#   ({glue:text}`ratio-low` to {glue:text}`ratio-high`; {glue:text}`ratio-units` problems and sets), and the paper's own median is
#   {glue:text}`ratio-printed`.
# - **{glue:text}`finding-back`:** it evens out the distances between points ({doc}`07_tsloss`), mostly after the answer is right
#   ({doc}`10_when_tsloss_acts`), and the median prompt trained with it ends with {glue:text}`loops-tsloss` loops.
#
# {glue:text}`shortening`

# %% mystnb={"image": {"alt": "Number of loops against epochs, a line for the median and a band for the middle half of the problems, for four kinds of prompts: trained on right answers, trained on wrong answers, moved in random directions, and trained with TSLoss."}, "figure": {"caption": "Loops in prompts that learn right answers, that learn wrong ones, that are moved in random directions as far as training moved them, and that are trained with TSLoss. Lines are medians over the problems that have all four, bands the middle half; random moves follow the stored prompts.", "name": "fig-finding"}} tags=["remove-input"]
loops(store, protocol=protocol, model=model) if len(counts) else missing(
    "tsp sweep null --profile full"
)

# %% [markdown]
# Each prompt was trained on one problem, or on a set of ten, of {glue:text}`tasks`, for {glue:text}`epochs` epochs at {glue:text}`rate`
# times the paper's learning rate, because at the paper's own rate this model's prompts hardly move ({doc}`13_what_speeds_up`). The figure
# shows {glue:text}`figure-units`. Each problem or set counts once; brackets hold 95 % intervals, widened because several claims are tested
# together. Our runs leave {glue:text}`open` of the paper's {glue:text}`claims` claims undecided or untested.
#
# ::::{grid} 1 1 3 3
# :gutter: 2
#
# :::{grid-item-card} Read
# :link: 01_persistent_homology
# :link-type: doc
# From points and loops to the verdicts, one step a chapter.
# :::
#
# :::{grid-item-card} Rerun
# :link: ../setup
# :link-type: doc
# The whole book, or one notebook with your own model and problems.
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
# The dot is the effect in our runs, with its interval (all intervals under one heading hold at the same time with a confidence of 95 %);
# the dotted line marks no
# effect, and the diamond is the value that the paper prints. Open a row for the numbers and the rule that decides it; {doc}`20_rules` lists
# the rules that were changed after data had been seen. A unit is one problem or one set of ten.

# %% tags=["remove-input"]
verdict_list(claims)

# %% [markdown]
# ## Run it yourself
#
# ```bash
# make book     # train, execute every chapter, write _build/html/index.html
# make test
# # one chapter, with other values:
# papermill notebooks/02_homology_of_a_prompt.ipynb mine.ipynb \
#     -p task mmlu_cf -p method tsloss
# ```
#
# {doc}`../setup` explains how to use other models, your own problems or a GPU, {doc}`21_speed` how fast that is compared with the
# alternatives, and {doc}`../paper` what we chose where the paper is silent. Every chapter is an executed notebook: no measured number in it
# was typed by hand.
#
# ## The method in one picture
#
# The method of {cite:t}`anonymous-topology` is a circle. A prompt is trained, and its vectors are treated as a cloud of points. The
# cloud's components and loops are followed over all scales and summarised by a few numbers. What those numbers do during ordinary
# training suggests a loss, which is then added to the training objective.
#
# ```{figure} ../_static/pipeline.svg
# :name: fig-pipeline
# :alt: A flow chart that closes into a circle. A question and a soft prompt enter a frozen language model, which gives an answer; the gradient of the cross-entropy returns to the prompt alone. The prompt's vectors become a point cloud, the cloud a Rips filtration, the filtration a barcode with H0 and H1 bars, and the barcode three statistics: how many bars, how long they live, how even they are. These lead to TSLoss, which evens gaps between neighbours, pushes close points apart and pulls distant points together, and whose gradient returns to the prompt.
# :width: 620px
#
# The method as a circle (after Figure 1 of the paper). Only the prompt is trained. The statistics led to
# TSLoss, but training does not compute them: TSLoss is a function of the distances between the
# prompt's vectors.
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
