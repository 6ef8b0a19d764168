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
# The paper {cite}`anonymous-topology` reads barcodes of prompts without asking what a topologist would ask first. How far can a bar move between two
# snapshots? Which bars would survive noise? Which force of TSLoss moves which bar, and in which direction? In the book's example,
# {glue:text}`loops-followed:d` of {glue:text}`pairs-between:d` pairs of consecutive snapshots have a loop long enough to be followed from one to the
# next. Counted over all snapshots, {glue:text}`band-survive` of {glue:text}`loops-all:d` loops are longer than the confidence band is wide. And
# {glue:text}`forces-mixed` of TSLoss lengthen some loops and shorten others.
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
from myst_nb import glue
from scipy.spatial.distance import cdist

from tsp.analysis.forces import forces
from tsp.analysis.geometry import bottleneck, confidence_band, stability_bound
from tsp.analysis.tables import TASK_NAMES
from tsp.book.pages import check_parameters, table
from tsp.book.verdicts import listed
from tsp.experiments.find_or_train import find_example, outcome_in_words, right_from
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store
from tsp.topology.diagrams import lifespans, persistence, summarize
from tsp.training.spec import RunSpec

check_parameters(globals())

figures.style()
store = Store(runs)
standard = RunSpec(model=model, protocol=protocol, epochs=epochs, method="ce", lambda_ts=0.0)
(run,) = find_example(store, [standard], task=task, problem=problem, data=data)
if run.published and not (task or problem):
    assert right_from(run)  # wrong at the start, right at the end
epochs_kept = run.prompt_epochs
clouds = {epoch: run.prompt(epoch).double().numpy() for epoch in epochs_kept}
n, d = clouds[0].shape
glue("n", n, display=False)
glue("problem", f"problem {run.spec.problem} of {TASK_NAMES[run.spec.task]}", display=False)
glue("outcome", outcome_in_words(run), display=False)
glue("last", epochs_kept[-1], display=False)

# %% [markdown]
# The prompt on this page is {ref}`the book's example <the-example>`: {glue:text}`problem`, trained for
# {glue:text}`last:d` epochs without TSLoss. Its answer {glue:text}`outcome`.
#
# ## Stability, and the noise of a snapshot
#
# {doc}`02_homology_of_a_prompt` shows what stability allows: when no point moves by more than $\eta$, no end of a bar moves by more
# than $2 \eta$. A sharper bound needs no $\eta$. The bottleneck distance between two diagrams is at most the largest change
# of a pairwise distance {cite}`cohensteiner2007stability,chazal2014persistence`:
#
# $$d_B(\mathrm{dgm}\,X, \mathrm{dgm}\,Y) \le \max_{i<j} \bigl|\, \lVert x_i - x_j \rVert - \lVert y_i - y_j \rVert \,\bigr|.$$ (eq-stability)
#
# The table applies this bound to consecutive snapshots of the run (every fifth pair is shown). It also compares the last snapshot with
# two copies of itself: one with random errors of the size of half-precision rounding, because prompts are published in half precision,
# and one displaced in a random direction by the length of one optimiser step. D is the mean distance.


# %% tags=["hide-input"]
def compared(name, X, Y):
    """Return the bound of equation eq-stability beside the distances between the diagrams."""
    diagrams = [persistence(cloud) for cloud in (X, Y)]
    size = float(summarize(X).mean_distance.iloc[0])
    bound = stability_bound(X, Y) / size
    moved = [bottleneck(*diagrams, k) / size for k in (0, 1)]
    longest = max(lifespans(diagrams[0][1]), default=0.0) / size
    assert max(moved) <= bound * (1 + 1e-9)
    return {
        "pair": name,
        "bound / D": bound,
        "H0 bottleneck / D": moved[0],
        "H1 bottleneck / D": moved[1],
        "longest loop / D": longest,
        "followed": longest > 2 * moved[1],
    }


EVERY = 5  # rows of the tables below: all are computed, and one in five is shown
rng = np.random.default_rng(0)
moves = run.epochs.set_index("epoch").moved if "moved" in run.epochs else None
rows = [compared(f"epoch {a} to {b}", clouds[a], clouds[b]) for a, b in pairwise(epochs_kept)]
end = clouds[epochs_kept[-1]]
half_ulp = np.spacing(np.abs(end).astype(np.float16)).astype(float) / 2
worst = np.sort(np.linalg.norm(half_ulp, axis=1))[-2:].sum()  # the most that a distance can change
rounding = half_ulp * rng.uniform(-1, 1, size=end.shape)
rows.append(compared("last, with float16 rounding error", end, end + rounding))
step = (
    float(moves.loc[moves.index[-len(moves) // 2]])
    if moves is not None
    else run.spec.lr * np.sqrt(n * d)
)
noise = rng.normal(size=end.shape)
rows.append(
    compared("last, with one step of noise", end, end + step * noise / np.linalg.norm(noise))
)
stability = pd.DataFrame(rows).set_index("pair")
chosen = [*range(0, len(rows) - 2, EVERY), len(rows) - 2, len(rows) - 1]
table(stability.drop(columns="followed").iloc[chosen], "{:.2g}")

# %% tags=["remove-cell"]
between = stability.iloc[: len(epochs_kept) - 1]
between = between[between["longest loop / D"] > 0]
certain = between["bound / D"] < between["longest loop / D"] / 2
glue("loops-bound", int(certain.sum()), display=False)
glue("pairs-between", len(between), display=False)
size = float(summarize(end).mean_distance.iloc[0])
glue("float16-bound", f"{worst / size:.2g}", display=False)
glue("loops-followed", int(between.followed.sum()), display=False)

# %% [markdown]
# A loop longer than twice the bottleneck distance is matched to a loop of the next diagram; of a shorter one this distance alone does not say so.
# In {glue:text}`loops-followed:d` of the {glue:text}`pairs-between:d` pairs of consecutive snapshots whose first has a loop, the longest loop is that
# long. The bound on the movement alone is certain of the longest loop in {glue:text}`loops-bound:d` of these pairs. The table has one draw of rounding errors; no rounding of the last snapshot to half precision can move
# the end of a bar by more than {glue:text}`float16-bound` of the mean distance.
#
# ## Which bars would survive noise?
#
# If a cloud is a random sample of a set, the subsampling method of Fasy et al. {cite}`fasy2014confidence` gives a $c$ that bounds, asymptotically at
# confidence level 95 %, the bottleneck distance between their diagrams. Bars no longer than $2c$ lie in the *confidence band* and may be
# noise. The table shows every fifth snapshot.

# %% tags=["hide-input"]
rows = []
for epoch, cloud in clouds.items():
    diagrams = persistence(cloud)
    c = confidence_band(cloud)
    size = float(summarize(cloud).mean_distance.iloc[0])
    lives = {k: lifespans(bars) for k, bars in diagrams.items()}
    rows.append(
        {
            "epoch": f"epoch {epoch}",
            "2c / D": 2 * c / size,
            "H0 bars above 2c": f"{int((lives[0] > 2 * c).sum())} of {len(lives[0])}",
            "H1 bars above 2c": f"{int((lives[1] > 2 * c).sum())} of {len(lives[1])}",
            "longest H1 / D": max(lives[1], default=0.0) / size,
        }
    )
bands = pd.DataFrame(rows).set_index("epoch")
table(bands.iloc[::EVERY], {"2c / D": "{:.2f}", "longest H1 / D": "{:.3f}"})

# %% mystnb={"image": {"alt": "Two persistence diagrams, of the first and of the last prompt, with H0 as blue dots on the left edge and H1 as vermilion triangles near the diagonal; a grey band lies above the diagonal."}, "figure": {"caption": "Of the finite bars, {glue:text}`outside-first` at the start and {glue:text}`outside-last` at the end lie outside the grey band. Diagrams of the first and the last prompt of the run. Bars in the band may be noise at confidence level 95 %.", "name": "fig-bands"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.6), layout="constrained")
for ax, epoch in zip(axes, (epochs_kept[0], epochs_kept[-1]), strict=True):
    figures.draw_diagram(persistence(clouds[epoch]), ax, band=2 * confidence_band(clouds[epoch]))
    ax.set(title=f"epoch {epoch}")
axes[0].legend(loc="lower right")
plt.close(fig)
fig

# %% tags=["remove-cell"]
glue("band-width", f"{bands['2c / D'].min():.1f}", display=False)
longer = {
    k: bands[f"H{k} bars above 2c"].str.extract(r"(\d+) of (\d+)").astype(int) for k in (0, 1)
}
survive, loops_all = longer[1].sum()
glue("band-survive", str(survive or "none"), display=False)
glue("loops-all", int(loops_all), display=False)
for when, row in (("first", 0), ("last", -1)):
    outside, bars = (longer[0] + longer[1]).iloc[row]
    glue(f"outside-{when}", f"{outside} of {bars}", display=False)
    cloud = clouds[epochs_kept[row]]
    distances = cdist(cloud, cloud) + np.diag([np.inf] * len(cloud))
    nearest = distances.min(axis=0).mean() / summarize(cloud).mean_distance.iloc[0]
    glue(f"nearest-{when}", f"{nearest:.0%}", display=False)

# %% [markdown]
# The band is at least {glue:text}`band-width` mean distances wide, and {glue:text}`band-survive` of the {glue:text}`loops-all:d` loops of
# all snapshots are longer than the band of their snapshot is wide. No bar could be: the band is wider than any distance of these clouds. The method
# is not at fault: on average a point's nearest neighbour is at
# {glue:text}`nearest-first` of the mean distance at the start and at {glue:text}`nearest-last` at the end, so these {glue:text}`n:d` points do not sample any
# set densely. The barcode of a prompt describes its distances; it does not estimate a shape behind them.
#
# Gaussian noise is the yardstick that remains. Its number of loops depends on n and d but not on scale ({numref}`fig-dimension`).
# This book's figures of counts show it as a grey band; in figures of lifespans, a dotted line stands for Gaussian clouds with the
# prompts' n, d and mean distance.
#
# ## Which force moves which bar?
#
# Every death, and every birth of a loop, is the length of an edge. When the points move with velocities $v_i$, the length of
# $(i, j)$ changes at the rate $\langle x_i - x_j, v_i - v_j \rangle / D_{ij}$. So each force of TSLoss, the negative gradient of one of its terms, lengthens
# a bar, shortens it, or leaves it as it is. The table counts these bars for the first and the last prompt, and gives the mean rate at which lifespans change.

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
                "bars": f"H{dimension}",
                "longer": int(grow),
                "shorter": int(shrink),
                "unmoved": len(bars) - int(grow) - int(shrink),
                "mean rate": bars.lifespan_rate.mean(),
            }
        )
signs = pd.DataFrame(rows)
names = signs.prompt + ": " + signs.force + ", " + signs.bars
columns = ["longer", "shorter", "unmoved", "mean rate"]
table(signs.set_index(names)[columns], {"mean rate": "{:.2g}"})

# %% tags=["remove-cell"]
totals = signs.groupby(["force", "bars"])[["longer", "shorter"]].sum()
mixed = int((totals.xs("H1", level="bars") > 0).all(axis=1).sum())
some = "all" if mixed == len(NAMES) else f"{mixed or 'none'} of the"
glue("forces-mixed", f"{some} {len(NAMES)} forces", display=False)
for force, name in NAMES.items():
    for bars, word in (("H0", "bars"), ("H1", "loops")):
        ends = signs[(signs.force == name) & (signs.bars == bars)].itertuples()
        counts = [
            f"{row.longer} of {row.longer + row.shorter + row.unmoved} at the {row.prompt}"
            for row in ends
        ]
        glue(f"{force}-{word}", listed(counts), display=False)

# %% [markdown]
# Of the loops, the repelling force lengthens {glue:text}`repel-loops`, the attracting force {glue:text}`attract-loops`. The paper calls these two terms
# "$H_1$ feature-based", but neither depends on which edges begin or fill a loop, so any effect on loops is a net effect of all edges
# (the loss *exact persistence*, in {doc}`15_what_it_stands_for`, contains the lifespans of loops themselves). Of $H_0$ bars, repulsion lengthens
# {glue:text}`repel-bars`, attraction {glue:text}`attract-bars`, and the force that evens out neighbour distances {glue:text}`h0-bars`.

# %% [markdown]
# ## An exercise
#
# ```{exercise} The bound is reached
# :label: ex-reached
# Each of two points moves by at most $\eta$. By how much can the death of their one finite bar move? Is the bound
# {eq}`eq-stability` attained?
# ```
#
# ```{solution-start} ex-reached
# :class: dropdown
# ```
# If each moves away from the other by $\eta$, the death grows by $2\eta$, which is the change of the one distance. The bound is attained if $\eta$ is at
# most half of their distance; beyond that it is cheaper to match both bars with the diagonal. If both
# move by the same vector, no distance changes and the bound is 0, however far they go. The bound depends on distances, not on movements.

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
