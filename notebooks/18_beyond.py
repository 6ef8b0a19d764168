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
# # Beyond the paper
#
# The earlier chapters leave three questions open. Does TSLoss work better with weights that adapt to the size of the forces? Does it
# help prompts of other kinds? And how far does persistent homology scale? (The published version
# {cite}`huang2026structural` names this as a limitation.) For prompts of the usual length, the cost is negligible: the homology of 40
# vectors takes {glue:text}`growth-seconds-40` ms. Small experiments address the other two questions.
#
# ```{admonition} After this chapter you can
# :class: tip
# say how the cost of persistent homology grows.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"
model: str = "smollm2-135m-instruct"
measurements: str = ""  # folder of growth.json and paradigms.json; empty: the published ones

# %% tags=["hide-input"]
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue

from tsp.analysis.stats import FEWEST, paired_ratio
from tsp.analysis.studies import reading, study
from tsp.analysis.tables import METHOD_NAMES
from tsp.book.pages import FORMATS, check_parameters, comparison, missing, table
from tsp.figures import paper_figures as figures
from tsp.paths import data_dir
from tsp.store.runs import Store

check_parameters(globals())

figures.style()
store = Store(runs)


def measured(name):
    """Return the rows of a measurement, none if it was not made."""
    folder = Path(measurements) if measurements else data_dir("measurements")
    file = folder / f"{name}.json"
    return pd.DataFrame(json.loads(file.read_text()) if file.is_file() else [])


# %% [markdown]
# ## Weights that adapt
#
# {doc}`11_weight` gives, epoch by epoch, the weight at which TSLoss would pull as hard as the cross-entropy. An adaptive rule keeps
# each term of TSLoss in a fixed ratio to the cross-entropy at every step: it scales the gradients of the $H_0$ term and of the $H_1$ term to the length of
# the cross-entropy's gradient,
#
# $$g = g_\text{ce} + \lambda_\text{ts} \lVert g_\text{ce} \rVert \left( \beta_{h0} \frac{g_{h0}}{\lVert g_{h0} \rVert} + \beta_{h1}
# \frac{g_{h1}}{\lVert g_{h1} \rVert} \right).$$ (eq-adaptive)
#
# Here $\lambda_\text{ts}$ is the force of a term (with $\beta = 1$) as a share of the cross-entropy's. The experiment is `loss-variants` with
# `weighting gradient`; the base is TSLoss at a fixed weight of 1, as in the paper. {doc}`14_choices` explains the columns.

# %% tags=["hide-input"]
arms = study(
    store,
    ["weighting"],
    base={"method": "tsloss", "lambda_ts": 1.0, "weighting": "fixed"},
    protocol=protocol,
    model=model,
)
adapted = arms.arm.str.contains("weighting").any() if len(arms) else False
table(comparison(arms), FORMATS) if adapted else missing("tsp sweep loss-variants")

# %% tags=["remove-cell"]
summary = "The store has no runs with adaptive weights."
if adapted:
    adaptive = arms[arms.arm.str.contains("weighting")].iloc[0]
    fixed = arms[arms.arm.str.endswith("λ=1")].iloc[0]
    summary = (
        f"With adaptive weights, training takes fewer epochs than with the fixed weight on {adaptive.wins:.0f} of {adaptive.n:.0f} problems "
        f"and more on {adaptive.losses:.0f}. The table's means of loops and of H0 lifespans at the end are not tested."
    )
    if said := reading(arms)[adaptive.name]:
        undecided = " Whether adaptive weights change the number of epochs is undecided."
        summary += (
            undecided if said == "undecided" else f" With adaptive weights training is {said}."
        )
    if adaptive.pairs < FEWEST:
        summary += " With so few problems these numbers are examples, not tests."
glue("adaptive", summary, display=False)

# %% [markdown]
# {glue:text}`adaptive`
#
# ## Prompts of other kinds
#
# TSLoss is a function of a cloud, and prompt tuning {cite}`lester2021power` is not the only method that trains one. In
# PEFT {cite}`mangrulkar2022peft`, p-tuning {cite}`liu2024gpt` generates the vectors with a small network, and prefix
# tuning {cite}`li2021prefix` trains keys and values of every layer instead, a cloud of n points in thousands of dimensions.
# `tsp.interop.peers.TSLossTrainer` adds TSLoss to the `Trainer` of transformers for all three. For each kind, the table compares training without
# and with TSLoss.


# %% tags=["hide-input"]
def median_epochs(solved, cap):
    """Return the median over problems, as a lower bound where an unsolved problem could move it."""
    least, most = (solved.fillna(never).median() for never in (cap, np.inf))
    return f"{'>' if least < most else ''}{least:g}"


paradigms = measured("paradigms")
rows = {}
for kind, group in paradigms.groupby("kind", sort=False) if len(paradigms) else []:
    wide = group.pivot(index=["task", "problem"], columns="method")
    cap = float(group.epochs.max())
    solved_at = wide.epochs.where(wide.solved.astype(bool))
    ratio = paired_ratio(solved_at.ce, solved_at.tsloss, cap=cap)
    for method in ("ce", "tsloss"):
        rows[f"{kind}, {METHOD_NAMES[method]}"] = {
            "problems": len(wide),
            "solved": int(wide.solved[method].sum()),
            "epochs, median": median_epochs(solved_at[method], cap),
            "faster with TSLoss": f"{ratio.wins} of {ratio.n}" if method == "tsloss" else "",
            "dimension": int(group.dimension.iloc[0]),
            "H1 bars": f"{wide.h1_count_first[method].mean():.1f} → {wide.h1_count_last[method].mean():.1f}",
            "H0 / D": f"{wide.h0_mean_lifespan_scaled_first[method].mean():.2f} → {wide.h0_mean_lifespan_scaled_last[method].mean():.2f}",
        }
table(pd.DataFrame(rows).T) if rows else missing("tsp bench --paradigms FILE")

# %% [markdown]
# Each run is trained on one of this project's own multiple-choice problems, with PEFT and transformers instead of this package's training loop (float32, the
# prompt before everything else), until the answer is right. So an arrow (first → last) spans the epochs that the run needed. Learning rates were chosen by
# hand for each kind (`benchmarks.peft_methods.RATES`). TSLoss at weight 1 is not equally strong in the three kinds: distances concentrate in higher dimensions,
# and $\delta$ and $\zeta$ with them, and the cross-entropy's gradient has a different size in each. With so few
# problems no test can decide whether TSLoss helps; the table describes these runs.
#
# ## How the cost grows
#
# Distances cost on the order of $n^2 d$ operations, the Rips filtration has about $n^3/6$ triangles, and in the worst case the reduction of its
# boundary matrix takes on the order of the cube of their number. The figure shows measured times.

# %% mystnb={"image": {"alt": "Seconds for the persistent homology of one Gaussian cloud against the number of points, both axes logarithmic, a line for each dimension; a dotted line marks n = 40."}, "figure": {"caption": "{glue:text}`growth-says`. Time for the persistent homology ($H_0$ and $H_1$) of one Gaussian cloud of n points in d dimensions. Dotted: n = 40, the size of the prompts of this book.", "name": "fig-growth-n"}} tags=["hide-input"]
growth = measured("growth")
fig, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
if len(growth):
    sns.lineplot(
        growth, x="n", y="seconds", hue="d", palette="colorblind", marker="o", ax=ax, legend="full"
    )
    ax.axvline(40, color="0.5", ls=":", lw=1)
    ax.set(xscale="log", yscale="log", xlabel="points n", ylabel="seconds per cloud")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
else:
    ax.set_title("not measured: tsp bench --growth data/measurements/growth.json")
sns.despine(fig)

# %% tags=["remove-cell"]
measures = dict.fromkeys(("slope", "largest", "seconds-40", "seconds-1000", "processor"), "–")
if len(growth):
    of_model = growth[growth.d == 576].set_index("n").seconds
    upper = of_model[of_model.index >= 160]
    measures["slope"] = f"{np.polyfit(np.log(upper.index), np.log(upper), 1)[0]:.1f}"
    measures["largest"] = f"{of_model.index.max():,}"
    measures["seconds-40"] = f"{1000 * of_model[40]:.1f}" if 40 in of_model else "–"
    measures["seconds-1000"] = f"{of_model.iloc[-1]:.1f}"
    measures["processor"] = str(growth.processor.iloc[0]) if "processor" in growth else "–"
measures["says"] = "The times have not been measured"
if len(growth):
    measures["says"] = (
        f"At d = 576, a cloud of 40 points takes {measures['seconds-40']} ms and one of "
        f"{measures['largest']} points {measures['seconds-1000']} s"
    )
for key, value in measures.items():
    glue(f"growth-{key}", value, display=False)

# %% [markdown]
# From 160 points on, the time at d = 576 grows like $n$ to the power {glue:text}`growth-slope` (measured on
# one processor: {glue:text}`growth-processor`). Persistent homology hardly slows down the training of prompts of the usual length, where it is computed once
# per check and not once per step ({doc}`21_speed` gives its share of an experiment). It would for clouds of thousands of
# activations, above all in a loss that computes it at every step. TSLoss itself costs on the order of $n^2 d$, like the distances.

# %% [markdown]
# ## An exercise
#
# ```{exercise} Triangles
# :label: ex-triangles
# How many triangles does the complete Rips filtration of 40 points have, and how many that of 1,000 points? How much memory does a
# matrix take that has a column for each triangle, with three entries of four bytes?
# ```
#
# ```{solution-start} ex-triangles
# :class: dropdown
# ```
# $\binom{40}{3} = 9{,}880$ and $\binom{1000}{3} = 166{,}167{,}000$, hence 119 kB and 2 GB. Programs that reach 1,000 points, such as
# the one used here, never store the matrix: they work with cohomology, compute columns when they are needed, and skip pairs that
# can be read off without reduction {cite}`bauer2021ripser`.

# %%
from math import comb

assert (comb(40, 3), comb(1000, 3)) == (9880, 166_167_000)
assert round(12 * comb(40, 3) / 1e3) == 119
assert round(12 * comb(1000, 3) / 1e9) == 2

# %% [markdown]
# ```{solution-end}
# ```
