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
import re

import numpy as np
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.studies import recipes
from tsp.analysis.tables.decided import MISSING, fixed
from tsp.analysis.units import UNIT
from tsp.book.forest import BADGES, verdict_list
from tsp.book.pages import check_parameters, missing
from tsp.book.verdicts import findings, listed, relative_growth, shortening
from tsp.experiments.paper import PROTOCOLS
from tsp.figures.front import loop_counts, loops
from tsp.store.runs import Store
from tsp.training.model_cards import MODELS

check_parameters(globals())

store = Store(runs)
claims = tables.claims(store)
claim = claims.set_index("id").to_dict("index")
counts = loop_counts(store, protocol=protocol, model=model)


def number(value, digits=2):
    """Write a number with a true minus sign, and a dash if it is missing."""
    return MISSING if np.isnan(value) else tables.typeset(fixed(value, digits))


def end(arm, first=False):
    """Write the median number of loops of an arm at its last check, or at its first."""
    rows = counts[counts.arm == arm].groupby("epoch").h1_count.median()
    return f"{rows.iloc[0 if first else -1]:.0f}" if len(rows) else "–"


for name, words in findings(claims, counts).items():
    glue(f"finding-{name}", words, display=False)
for arm in ("ce", "wrong", "random", "tsloss"):
    glue(f"loops-{arm}", end(arm), display=False)
glue("start", end("ce", first=True), display=False)
numbers = {"rho": "h0-lifespan-accuracy", "ratio": "tsloss-fewer-iterations"}
for name, which in numbers.items():
    for value in ("effect", "low", "high", "printed"):
        glue(f"{name}-{value}", number(claim[which][value]), display=False)
    glue(f"{name}-units", claim[which]["n"], display=False)
for value in ("effect", "low", "high"):
    glue(f"falls-{value}", number(claim["h1-count-falls"][value], 0), display=False)
glue("grows-scaled", number(relative_growth(claims), 0), display=False)
glue("falls-units", claim["h1-count-falls"]["n"], display=False)

card = MODELS.get(model)
small = "small " if card and card.parameters < 1000 else ""
family = re.split(r"-\d+[mb]\b", card.hub_id.split("/")[1], flags=re.I)[0] if card else model
size = f", {card.parameters} million parameters" if card else ""
glue("model", f"{small}language model ({family}{size})", display=False)
trained = tables.trained(store).query("model == @model and protocol == @protocol")
names = [tables.TASK_NAMES[task] for task in trained.task.unique()]
glue("tasks", listed(names) or "no benchmark yet", display=False)
glue("epochs", int(counts.epoch.max()) if len(counts) else "–", display=False)
glue("rate", f"{PROTOCOLS[protocol].lr / PROTOCOLS['paper'].lr:g}", display=False)
shown = counts[UNIT].drop_duplicates()
in_figure = listed([tables.TASK_NAMES[task] for task in shown.task.unique()])
glue("figure-units", f"{len(shown)} problems of {in_figure}" if len(shown) else "–", display=False)
glue("shortening", shortening(recipes(store, model=model, protocol=protocol)), display=False)
known = claims.verdict.value_counts()
tally = [f"{sign} {known[word]} {word}" for word, (sign, _) in BADGES.items() if word in known]
glue("claims", len(claims), display=False)
glue("tally", " · ".join(tally), display=False)

# %% [markdown]
# A soft prompt is a short list of vectors that are trained while the language model that reads them is not. The paper treats it as a cloud of points
# and reports that, as training succeeds, loops $(H_1)$ vanish and components $(H_0)$ live longer; TSLoss, a loss built on this, is reported to save
# up to half of the iterations. With a {glue:text}`model` at {glue:text}`rate` times the paper's learning rate we find:
#
# - **{glue:text}`finding-loops`. {glue:text}`finding-success`:** the median prompt goes from {glue:text}`start` loops to {glue:text}`loops-ce` with
#   right answers, to {glue:text}`loops-wrong` with wrong ones, and to {glue:text}`loops-random` when its vectors merely move as far, in random
#   directions. **{glue:text}`finding-reason`.**
# - **{glue:text}`finding-components`:** relative to the distances between vectors, the mean lifespan changes by a median of
#   {glue:text}`grows-scaled` %.
# - **{glue:text}`finding-lifespan`.** Across problems the rank correlation is {glue:text}`rho-effect` (95 % interval {glue:text}`rho-low` to
#   {glue:text}`rho-high`). The printed {glue:text}`rho-printed` is over snapshots of training; between early and late ones, the epoch number alone
#   reaches as much ({doc}`03_printed_numbers`).
# - **{glue:text}`finding-speed`.** In the median it takes {glue:text}`ratio-effect` times the iterations ({glue:text}`ratio-low` to
#   {glue:text}`ratio-high`; the paper's median: {glue:text}`ratio-printed`). **{glue:text}`finding-back`:** at the end there are
#   {glue:text}`loops-tsloss`, against {glue:text}`loops-ce` without it.

# %% mystnb={"image": {"alt": "Number of loops against epochs, a line for the median and a band for the middle half of the problems, for four kinds of prompts: trained on right answers, trained on wrong answers, moved at random, and trained with TSLoss."}, "figure": {"caption": "{glue:text}`finding-figure`. Lines are medians over {glue:text}`figure-units`, bands the middle half. Moved at random: each vector goes as far as training on right answers moved it, in a random direction; its line joins the counts at the stored prompts.", "name": "fig-finding"}} tags=["remove-input"]
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
# From points and loops to the verdicts, one step per chapter.
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
# ## Behind these numbers
#
# Each prompt was trained on one problem or a set of ten, taken from {glue:text}`tasks`, for {glue:text}`epochs` epochs at {glue:text}`rate` times
# the paper's learning rate, because at the paper's own rate this model's prompts hardly move ({doc}`13_what_speeds_up`). The numbers of loops above
# are those of the figure. Over {glue:text}`falls-units` problems and sets, the number of loops changes by a median of {glue:text}`falls-effect`
# ({glue:text}`falls-low` to {glue:text}`falls-high`); the correlation is over {glue:text}`rho-units` of them, the median ratio of iterations over
# {glue:text}`ratio-units`; {doc}`20_rules` says which are left out. Brackets give 95 % intervals, which hold jointly for the claims of each
# section of the list below. Runs of one seed start from the same prompt, so the intervals are about problems, not about initial prompts.
#
# What TSLoss rewards is explained in {doc}`07_tsloss`, and when loops come back in {doc}`10_when_tsloss_acts`. {glue:text}`shortening`
#
# ## All claims
#
# Of the paper's {glue:text}`claims` claims: {glue:text}`tally`.
#
# The dot is the effect in our runs, with its interval. The dotted line marks no effect, and the diamond is the value that the paper prints. Rows
# below an axis share it. Open a row for its numbers and the gist of its rule; {doc}`20_rules` has all rules and lists those that were changed after
# data had been seen. A unit is one problem or one set of ten; a cell is all units of one model, data set and regime (one problem or ten); a stratum
# is the same, except where the two regimes are compared: then it contains both; a family is a section of this list. *Standard* is training on the
# cross-entropy alone. Protocol `paper` has the paper's own learning rate and all of its 300 epochs, `tuned` the settings above.
#
# *Not reproduced* means that the runs exclude what the rule asks for: the printed effect, an effect beyond a margin, or the claimed direction;
# *partly*, that the claim is confirmed but a further condition of its rule fails; *inconclusive*, that our runs can neither confirm nor refute the
# claim. *Numbers return, reading fails*: when early snapshots are compared with late ones, a correlation of the printed sign and at least half the
# printed size comes back, but across problems a relation as strong as printed is excluded.

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
# {doc}`../setup` explains how to use other models, your own problems or a GPU. {doc}`21_speed` compares the speed of training here with the
# alternatives, and {doc}`../paper` says what we chose where the paper is silent. Every chapter with results is an executed notebook: no measured
# number in it was typed by hand.
#
# ## The method in one picture
#
# The method of {cite:t}`anonymous-topology` closes a circle. A prompt is trained, and its vectors are treated as a cloud of points. The cloud's
# components and loops are followed over all scales and summarised by a few numbers. How those numbers change during ordinary training suggests a
# loss, which is then added to the training objective.
#
# ```{figure} ../_static/pipeline.svg
# :name: fig-pipeline
# :alt: A flow chart that closes into a circle. A question and a soft prompt enter a frozen language model, which gives an answer; the gradient of the cross-entropy returns to the prompt alone. The prompt's vectors become a point cloud, the cloud a Rips filtration, the filtration a barcode with H0 and H1 bars, and the barcode three statistics: how many bars, how long they live, how even they are. These lead to TSLoss, which evens gaps between neighbours, pushes close points apart and pulls distant points together, and whose gradient returns to the prompt.
# :width: 620px
#
# The method as a circle (after Figure 1 of the paper). Only the prompt is trained. The statistics led to TSLoss, but training does not compute them:
# TSLoss is a function of the distances between the prompt's vectors.
# ```
#
# ## Notation
#
# ```{csv-table} What the symbols mean (after Table 1 of the paper, which calls $\epsilon$ a radius; equation 9 uses it as a distance, as we do).
# :name: tab-notation
# :file: ../../data/paper/table1.csv
# :header-rows: 1
# :widths: 20 80
# :class: notation
# ```
