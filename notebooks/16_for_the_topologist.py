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
# # For the topologist
#
# What the paper {cite}`anonymous-topology` reads from barcodes leaves questions that a topologist asks first. How far
# can a bar move between two snapshots? Which bars would survive noise? How many loops has a cloud that means nothing? And which of
# TSLoss's forces moves which bar, in which direction?
#
# ```{admonition} After this chapter you can
# :class: tip
# bound what noise does to a diagram.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = ""  # of the problem; empty, with problem 0: the example of all chapters
problem: int = 0
protocol: str = "tuned"
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of a run that the store lacks: it is trained now

# %% tags=["hide-input"]
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue

from tsp.analysis.geometry import (
    bottleneck,
    confidence_band,
    forces,
    gaussian_counts,
    stability_bound,
)
from tsp.analysis.tables import TASK_NAMES
from tsp.book.pages import check_parameters, table
from tsp.experiments.find_or_train import find_example, outcome_in_words, right_from
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store
from tsp.topology.diagrams import lifespans, persistence, summarize
from tsp.training.spec import RunSpec

check_parameters(globals())

figures.style()
store = Store(runs)
common = {
    "model": model,
    "protocol": protocol,
    "epochs": epochs,
}
wanted = [RunSpec(**common, method="ce", lambda_ts=0.0)]
(run,) = find_example(store, wanted, task=task, problem=problem, data=data)
if run.published and not (task or problem):
    assert right_from(run)  # wrong at the start, right at the end
epochs_kept = run.prompt_epochs
clouds = {epoch: run.prompt(epoch).double().numpy() for epoch in epochs_kept}
n, d = clouds[0].shape
glue("n", n, display=False)
glue("d", d, display=False)
glue("problem", f"problem {run.spec.problem} of {TASK_NAMES[run.spec.task]}", display=False)
glue("outcome", outcome_in_words(run), display=False)
glue("last", epochs_kept[-1], display=False)

# %% [markdown]
# The prompt on this page is {ref}`the example <the-example>` of all chapters: {glue:text}`problem`, {glue:text}`last:d` epochs
# without TSLoss; the answer {glue:text}`outcome`.
#
# ## Stability, and the noise of a snapshot
#
# Move every point by at most $\epsilon$ and no bar's end moves by more than $2 \epsilon$; more sharply, the bottleneck
# distance between the two diagrams is at most the largest change of a pairwise distance
# {cite}`cohensteiner2007stability,chazal2014persistence` (births and deaths as edge lengths, and the correspondence that keeps each
# row):
#
# $$d_B(\mathrm{dgm}\,X, \mathrm{dgm}\,Y) \le \max_{i<j} \bigl|\, \lVert x_i - x_j \rVert - \lVert y_i - y_j \rVert \,\bigr|.$$ (eq-stability)
#
# Three pairs of clouds to put into it: snapshots that follow each other in one run; a snapshot and itself rounded to
# half precision, as published prompts are; and a snapshot with noise as large as one optimiser step.


# %% tags=["hide-input"]
def compared(name, X, Y):
    """The bound of equation eq-stability and what the diagrams did, in units of the mean distance."""
    diagrams = [persistence(it) for it in (X, Y)]
    size = float(summarize(X).mean_distance.iloc[0])
    bound = stability_bound(X, Y) / size
    apart = [bottleneck(*diagrams, k) / size for k in (0, 1)]
    longest = max(lifespans(diagrams[0][1]), default=0.0) / size
    assert max(apart) <= bound * (1 + 1e-9)
    return {
        "pair": name,
        "bound / D": bound,
        "H0 moved / D": apart[0],
        "H1 moved / D": apart[1],
        "longest loop / D": longest,
        "followed": longest > 2 * apart[1],
    }


rng = np.random.default_rng(0)
moves = run.epochs.set_index("epoch").moved if "moved" in run.epochs else None
rows = [compared(f"epoch {a} to {b}", clouds[a], clouds[b]) for a, b in pairwise(epochs_kept)]
end = clouds[epochs_kept[-1]]
half_ulp = np.spacing(np.abs(end).astype(np.float16)).astype(float) / 2
worst = np.sort(np.linalg.norm(half_ulp, axis=1))[-2:].sum()  # the most that a distance can change
rounding = half_ulp * rng.uniform(-1, 1, size=end.shape)  # of a prompt whose published form it is
rows.append(compared("the last, off by float16's rounding", end, end + rounding))
step = (
    float(moves.loc[moves.index[-len(moves) // 2]])
    if moves is not None
    else run.spec.lr * np.sqrt(n * d)
)
noise = rng.normal(size=end.shape)
rows.append(
    compared("the last, one step of noise", end, end + step * noise / np.linalg.norm(noise))
)
stability = pd.DataFrame(rows).set_index("pair")
table(stability.drop(columns="followed"), "{:.2g}")

# %% tags=["remove-cell"]
between = stability.iloc[: len(epochs_kept) - 1]
between = between[between["longest loop / D"] > 0]
glue(
    "loops-covered",
    int((between["bound / D"] >= between["longest loop / D"] / 2).sum()),
    display=False,
)
glue("pairs-between", len(between), display=False)
size = float(summarize(end).mean_distance.iloc[0])
glue("float16-bound", f"{worst / size:.2g}", display=False)
glue("loops-followed", int(between.followed.sum()), display=False)

# %% [markdown]
# A bar shorter than twice the bound may have been born of the movement: between {glue:text}`loops-covered:d` of
# {glue:text}`pairs-between:d` neighbouring snapshots of which the first has a loop, the bound alone allows that for the longest.
# The diagrams themselves decide: a loop longer than twice the distance between them has a partner in the next snapshot. Of
# these {glue:text}`pairs-between:d` neighbours {glue:text}`loops-followed:d` have such a loop, and only there can one be followed.
# Rounding to half precision moves no bar by more than {glue:text}`float16-bound` of the mean distance.
#
# ## Which bars would survive noise?
#
# If a cloud is a sample of something, its diagram has a confidence band: with the subsampling method of Fasy et al.
# {cite}`fasy2014confidence`, bars no longer than $2c$ may be noise at level 95 %.

# %% tags=["hide-input"]
rows = []
for epoch, cloud in clouds.items():
    diagrams = persistence(cloud)
    c = confidence_band(cloud)
    size = float(summarize(cloud).mean_distance.iloc[0])
    lives = {k: lifespans(bars) for k, bars in diagrams.items()}
    rows.append(
        {
            "epoch": epoch,
            "2c / D": 2 * c / size,
            "H0 bars longer": f"{int((lives[0] > 2 * c).sum())} of {len(lives[0])}",
            "H1 bars longer": f"{int((lives[1] > 2 * c).sum())} of {len(lives[1])}",
            "longest H1 / D": max(lives[1], default=0.0) / size,
        }
    )
bands = pd.DataFrame(rows).set_index("epoch")
table(bands, {"2c / D": "{:.2f}", "longest H1 / D": "{:.3f}"})

# %% mystnb={"image": {"alt": "Two persistence diagrams, of the first and of the last prompt, with H0 as blue dots on the left edge and H1 as orange triangles near the diagonal; a grey band above the diagonal covers both pictures as far as it is wide."}, "figure": {"caption": "Diagrams of the first and the last prompt of the run; grey: bars that may be noise at level 95 %.", "name": "fig-bands"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.6), layout="constrained")
for ax, epoch in zip(axes, (epochs_kept[0], epochs_kept[-1]), strict=True):
    figures.draw_diagram(persistence(clouds[epoch]), ax, band=2 * confidence_band(clouds[epoch]))
    ax.set(title=f"epoch {epoch}")
axes[0].legend(loc="lower right")
plt.close(fig)
fig

# %% tags=["remove-cell"]
glue("band-width", f"{bands['2c / D'].min():.1f}", display=False)
survive = sum(int(it.split()[0]) for it in bands["H1 bars longer"])
glue("band-survive", survive, display=False)

# %% [markdown]
# The band is at least {glue:text}`band-width` mean distances wide, {glue:text}`band-survive:d` loops of all snapshots are longer
# than it. That is not a weakness of the method: {glue:text}`n:d` points in {glue:text}`d:d` dimensions are a sample of nothing that they could
# cover. Of a prompt, a barcode is a description of its distances, not an estimate of a shape behind it.
#
# ## How many loops has a cloud that means nothing?
#
# The count of $H_1$ bars of N(0, I) does not depend on scale; it depends on n and d. It is the grey band in the
# figures of this book that show a count; where they show lifespans, the dotted line is that of Gaussian clouds of
# the prompts' n, d and mean distance.

# %% mystnb={"image": {"alt": "Number of H1 bars of Gaussian clouds against the dimension, logarithmic, a line for each of four numbers of points, with bands."}, "figure": {"caption": "$H_1$ bars of Gaussian clouds of n points in d dimensions: mean and the middle 95 % of 60.", "name": "fig-baseline"}} tags=["hide-input"]
rows = [
    {"n": points, "d": dims, "h1": count}
    for points in (10, 20, 40, 80)
    for dims in (2, 8, 32, 128, 576)
    for count in gaussian_counts(points, dims, clouds=60)
]
baseline = pd.DataFrame(rows)
fig, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
colors = sns.color_palette("viridis_r", 4)
for (points, rows), color in zip(baseline.groupby("n"), colors, strict=True):
    over = rows.groupby("d").h1
    ax.plot(over.mean(), color=color, marker="o", label=f"n = {points}")
    ax.fill_between(
        over.mean().index, over.quantile(0.025), over.quantile(0.975), color=color, alpha=0.2, lw=0
    )
ax.set(xscale="log", xlabel="dimension d", ylabel="$H_1$ bars")
ax.legend()
sns.despine(fig)

# %% [markdown]
# ## Which force moves which bar?
#
# Every finite birth and death is the length of an edge. When the points move with velocity $v$, the length of
# $(i, j)$ changes by $\langle x_i - x_j, v_i - v_j \rangle / D_{ij}$, so each force of TSLoss has a sign on each bar:
# does its descent make the bar longer or shorter? Here for the first prompt and for the last.

# %% tags=["hide-input"]
NAMES = {
    "h0": "even out (equation 2)",
    "repel": "repel (equation 3)",
    "attract": "attract (equation 4)",
}
rows = []
for when, epoch in (("start", epochs_kept[0]), ("end", epochs_kept[-1])):
    rates = forces(run.prompt(epoch))
    for (term, dimension), bars in rates.groupby(["term", "dimension"], sort=False):
        grow, shrink = (bars.lifespan_rate > 0).sum(), (bars.lifespan_rate < 0).sum()
        rows.append(
            {
                "prompt": when,
                "force": NAMES[term],
                "bars": f"$H_{dimension}$",
                "longer": int(grow),
                "shorter": int(shrink),
                "unmoved": len(bars) - int(grow) - int(shrink),
                "mean rate": bars.lifespan_rate.mean(),
            }
        )
signs = pd.DataFrame(rows)
shown = signs.set_index(
    signs.prompt + ": " + signs.force + ", " + signs.bars.str.replace("$", "").str.replace("_", "")
)
table(shown[["longer", "shorter", "unmoved", "mean rate"]], {"mean rate": "{:.2g}"})


# %% tags=["remove-cell"]
def total(force, bars, column):
    mine = signs[(signs.force == NAMES[force]) & (signs.bars == f"$H_{bars}$")]
    return int(mine[column].sum())


for force in NAMES:
    for k in (0, 1):
        for column in ("longer", "shorter"):
            glue(f"{force}-{k}-{column}", total(force, k, column), display=False)

# %% [markdown]
# Over both prompts the repelling force lengthens {glue:text}`repel-0-longer:d` $H_0$ bars and shortens
# {glue:text}`repel-0-shorter:d`; the attracting one lengthens {glue:text}`attract-0-longer:d` and shortens
# {glue:text}`attract-0-shorter:d`; evening out lengthens {glue:text}`h0-0-longer:d` and shortens {glue:text}`h0-0-shorter:d`. On
# loops: repelling {glue:text}`repel-1-longer:d` longer and {glue:text}`repel-1-shorter:d` shorter, attracting
# {glue:text}`attract-1-longer:d` and {glue:text}`attract-1-shorter:d`. "$H_1$ features-based", as the paper calls the two hinges, is a hope about the net effect:
# none of their terms knows which edges bear loops ({doc}`15_what_it_stands_for` minimises those that do).

# %% [markdown]
# ## An exercise
#
# ```{exercise} The bound is reached
# :label: ex-reached
# Each of two points moves by at most $\eta$. By how much can the death of their one finite bar move, and does the bound
# {eq}`eq-stability` leave any room?
# ```
#
# ```{solution-start} ex-reached
# :class: dropdown
# ```
# Away from each other by $\eta$ each: the death grows by $2\eta$, which is the change of the one distance. The bound is
# reached. Moved together, nothing changes, and the bound says so too: it knows distances, not movements.

# %%
eta = 0.25
two = np.array([[0.0, 0.0], [1.0, 0.0]])
apart = two + eta * np.array([[-1.0, 0.0], [1.0, 0.0]])
moved = persistence(apart)[0][:-1, 1] - persistence(two)[0][:-1, 1]
assert np.allclose(moved, 2 * eta)
assert np.isclose(stability_bound(two, apart), 2 * eta)
assert np.isclose(stability_bound(two, two + eta), 0)

# %% [markdown]
# ```{solution-end}
# ```
