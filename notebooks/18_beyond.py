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
# Three questions that the chapters before leave: weights that adapt themselves to the size of the forces, TSLoss on
# prompts of other kinds, and how far persistent homology scales, which the published version
# {cite}`huang2026structural` names as a limitation.
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

from tsp.analysis.stats import paired_ratio
from tsp.analysis.studies import study
from tsp.analysis.tables import METHOD_NAMES
from tsp.book.pages import FORMATS, check_parameters, comparison, missing, table
from tsp.figures import paper_figures as figures
from tsp.paths import data_dir
from tsp.store.runs import Store

check_parameters(globals())

figures.style()
store = Store(runs)


def measured(name):
    """Rows of a measurement, none if it was not made."""
    folder = Path(measurements) if measurements else data_dir("measurements")
    file = folder / f"{name}.json"
    return pd.DataFrame(json.loads(file.read_text()) if file.is_file() else [])


# %% [markdown]
# ## Weights that adapt
#
# {doc}`11_weight` measures, epoch by epoch, the weight at which TSLoss would pull as hard as the cross-entropy. A
# rule that follows it: scale the gradient of the $H_0$ term and that of the $H_1$ term each to the length of
# the cross-entropy's gradient, at every step,
#
# $$g = g_\text{ce} + \lambda_\text{ts} \lVert g_\text{ce} \rVert \left( \beta_{h0} \frac{g_{h0}}{\lVert g_{h0} \rVert} + \beta_{h1} \frac{g_{h1}}{\lVert g_{h1} \rVert} \right).$$ (eq-adaptive)
#
# Then $\lambda_\text{ts}$ is a share and not a unit. (`weighting gradient`; experiment `loss-variants`.)

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
told = "No run here has adaptive weights."
if adapted:
    adaptive = arms[arms.arm.str.contains("weighting")].iloc[0]
    fixed = arms[arms.arm.str.endswith("λ=1")].iloc[0]
    told = (
        f"With adaptive weights the answers are right sooner on {adaptive.wins:.0f} of {adaptive.n:.0f} "
        f"problems and later on {adaptive.losses:.0f}; the prompt ends with a median of "
        f"{adaptive.h1_count:.1f} loops, where the fixed weight leaves {fixed.h1_count:.1f}, and its mean H0 "
        f"lifespan is {adaptive.h0_mean_lifespan_scaled:.3f} of the mean distance instead of "
        f"{fixed.h0_mean_lifespan_scaled:.3f}."
    )
glue("adaptive-told", told, display=False)

# %% [markdown]
# {glue:text}`adaptive-told`
#
# Base: TSLoss at weight 1 as the paper has it. The topology at the end is to say whether the terms now do what they are
# made for, the iterations what that costs or saves; of fewer than six problems both are examples. Evening distances drives
# a cloud towards a simplex ({prf:ref}`prop-minimum`), where short loops abound: a regulariser that pulls as hard as the
# cross-entropy can make more of them, not fewer.
#
# ## Prompts of other kinds
#
# TSLoss is a function of a cloud, and prompt tuning {cite}`lester2021power` is not the only method that trains one. With
# PEFT {cite}`mangrulkar2022peft`, p-tuning {cite}`liu2024gpt` makes the vectors by a small network, and prefix
# tuning {cite}`li2021prefix` trains keys and values of every layer instead: n vectors in a space of thousands of
# dimensions. `tsp.interop.peers.TSLossTrainer` adds TSLoss to transformers' own Trainer for all three.


# %% tags=["hide-input"]
def median_epochs(solved, cap):
    """Median over problems; a lower bound where one that never arrived would move it."""
    least, most = (solved.fillna(never).median() for never in (cap, np.inf))
    return f"{'>' if least < most else ''}{least:g}"


paradigms = measured("paradigms")
rows = {}
for kind, mine in paradigms.groupby("kind", sort=False) if len(paradigms) else []:
    wide = mine.pivot(index=["task", "problem"], columns="method")
    cap = float(mine.epochs.max())
    never = wide.epochs.where(wide.solved.astype(bool))
    found = paired_ratio(never.ce, never.tsloss, cap=cap)
    for method in ("ce", "tsloss"):
        solved = int(wide.solved[method].sum())
        rows[f"{kind}, {METHOD_NAMES[method]}"] = {
            "problems": len(wide),
            "solved": solved,
            "epochs, median": median_epochs(never[method], cap),
            "sooner with TSLoss": f"{found.wins} of {found.n}" if method == "tsloss" else "",
            "dimension": int(mine.dimension.iloc[0]),
            "H1 bars": f"{wide.h1_count_first[method].mean():.1f} → {wide.h1_count_last[method].mean():.1f}",
            "H0 / D": f"{wide.h0_mean_lifespan_scaled_first[method].mean():.2f} → {wide.h0_mean_lifespan_scaled_last[method].mean():.2f}",
        }
shown = pd.DataFrame(rows).T
table(shown) if rows else missing("tsp bench --paradigms FILE")

# %% [markdown]
# Such a run is trained on one of this project's own multiple-choice problems with PEFT and transformers alone (float32, the
# prompt before everything), until the answer is
# right, so "first → last" spans as many epochs as it took. Learning rates are chosen by hand for each kind
# (`benchmarks.peft_methods.RATES`). In higher dimension distances concentrate, and with them $\delta$ and $\zeta$; at weight 1 the
# force of TSLoss is set against a gradient of another size in each.
#
# ## How the cost grows
#
# Distances cost $n^2 d$ operations, the Rips filtration has $n^3/6$ triangles, and the reduction of its boundary matrix
# can take the cube of that in the worst case. Measured:

# %% mystnb={"image": {"alt": "Seconds for the persistent homology of one Gaussian cloud against the number of points, both axes logarithmic, a line for each dimension; a dotted line marks n = 40."}, "figure": {"caption": "Persistent homology ($H_0$ and $H_1$) of one Gaussian cloud of n points in d dimensions. Dotted: n = 40, a prompt here.", "name": "fig-growth-n"}} tags=["hide-input"]
growth = measured("growth")
fig, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
if len(growth):
    sns.lineplot(
        growth, x="n", y="seconds", hue="d", palette="viridis_r", marker="o", ax=ax, legend="full"
    )
    ax.axvline(40, color="0.5", ls=":", lw=1)
    ax.set(xscale="log", yscale="log", xlabel="points n", ylabel="seconds a cloud")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
else:
    ax.set_title("not measured: tsp bench --growth data/measurements/growth.json")
sns.despine(fig)

# %% tags=["remove-cell"]
told = dict.fromkeys(("slope", "largest", "seconds-40", "seconds-1000", "processor"), "–")
if len(growth):
    of_model = growth[growth.d == 576].set_index("n").seconds
    upper = of_model[of_model.index >= 160]
    told["slope"] = f"{np.polyfit(np.log(upper.index), np.log(upper), 1)[0]:.1f}"
    told["largest"] = f"{of_model.index.max():,}"
    told["seconds-40"] = f"{1000 * of_model[40]:.1f}" if 40 in of_model else "–"
    told["seconds-1000"] = f"{of_model.iloc[-1]:.1f}"
    told["processor"] = str(growth.processor.iloc[0]) if "processor" in growth else "–"
for key, value in told.items():
    glue(f"growth-{key}", value, display=False)

# %% [markdown]
# At d = 576 a prompt of 40 vectors takes {glue:text}`growth-seconds-40` ms and a cloud of {glue:text}`growth-largest` points
# {glue:text}`growth-seconds-1000` s; from 160 points on the time grows like $n$ to the power {glue:text}`growth-slope`
# ({glue:text}`growth-processor`). For prompts of the usual length topology is no limitation: it is once a check, not once a
# step ({doc}`21_speed` has its share of an experiment). For a loss that computes it at every step, or for clouds of
# thousands of activations, it is. TSLoss itself costs $n^2 d$ like the distances.

# %% [markdown]
# ## An exercise
#
# ```{exercise} Triangles
# :label: ex-triangles
# How many triangles has the whole Rips filtration of 40 points, and how many that of 1,000? A matrix with a column for each
# and three entries of four bytes in it: how much memory is that?
# ```
#
# ```{solution-start} ex-triangles
# :class: dropdown
# ```
# $\binom{40}{3} = 9{,}880$ and $\binom{1000}{3} = 166{,}167{,}000$: 119 kB and 2 GB. Programs that reach 1,000 points, as the one
# used here, never write the matrix down: they work with cohomology, compute columns when they are needed, and leave out pairs
# that can be read off without reduction {cite}`bauer2021ripser`.

# %%
from math import comb

assert (comb(40, 3), comb(1000, 3)) == (9880, 166_167_000)
assert round(12 * comb(40, 3) / 1e3) == 119
assert round(12 * comb(1000, 3) / 1e9) == 2

# %% [markdown]
# ```{solution-end}
# ```
