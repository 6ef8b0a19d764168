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
# # Homology of a prompt
#
# How much do the bars of the previous chapter say about a prompt? Less than it seems: small shifts create and remove loops, and noise has loops of
# its own. Nor can the bars be read off the distances to nearest neighbours, as TSLoss assumes. This chapter tests equation 13 of the paper
# {cite}`anonymous-topology`, shows how bars depend on small shifts and on the number and dimension of the points, and compares the barcode of a
# trained prompt with that of noise.
#
# ```{admonition} After this chapter you can
# :class: tip
# say which numbers in the barcode of a prompt would be the same for noise.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = ""  # of the problem; empty, with problem 0: the example of all chapters
problem: int = 0
method: str = "ce"  # the prompt's training: ce (plain) or tsloss
protocol: str = "tuned"
seed: int = 0
epoch: int = -1  # the prompt after this many epochs; -1 is the last that is stored
epochs: int = 30  # of a run that the store lacks: it is trained now
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from tsp.analysis.equation13 import surrogate, two_pairs
from tsp.analysis.geometry import CLOUDS
from tsp.analysis.tables import TASK_NAMES
from tsp.book.pages import check_parameters
from tsp.experiments.find_or_train import (
    find_example,
    outcome_in_words,
    repeats_of,
    right_from,
)
from tsp.figures.style import DIMENSION_COLORS, POINT_COLOR, WIDTH, draw_barcode, style
from tsp.store.runs import Store
from tsp.topology.diagrams import lifespans, persistence, summarize
from tsp.training.spec import RunSpec

check_parameters(globals())

style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## Equation 13: nearest neighbours and deaths
#
# TSLoss replaces $H_0$ deaths by distances that are easy to differentiate. Its $s_i$ is a soft version of the distance from $x_i$ to its
# nearest neighbour ({doc}`07_tsloss`), and equation 13 says that the variance of the $s_i$ approximates that of the deaths:
#
# $$\operatorname{Var}(\{s_i\}) \approx \operatorname{Var}(\{d_i\}) = \operatorname{Var}(\{l_i\}) \tag{13}$$
#
# {prf:ref}`prop-mst` shows what this overlooks. The distance from a point to its nearest neighbour is always the length of an edge of the
# spanning tree, but the tree has further edges, which join one clump to the next. Put two tight pairs some distance apart, the points of each pair
# 0.1 from each other. Every point then has its nearest neighbour at distance 0.1, so the left side is 0. The deaths are 0.1, 0.1 and the gap between
# the pairs, so the right side grows with the gap:

# %%
gaps = (0.9, 1.9, 4.9)
pairs = surrogate([two_pairs(0.1, gap) for gap in gaps], tau=0.01).set_axis(gaps)
assert (pairs.soft_variance < 1e-12).all()
assert (pairs.death_variance > 2 * pairs.soft_variance).all()
assert pairs.death_variance.is_monotonic_increasing
glue("pairs-variance-near", float(pairs.soft_variance.iloc[-1]), display=False)
glue("pairs-variance-deaths", float(pairs.death_variance.iloc[-1]), display=False)
names = [f"variance of {quantity}" for quantity in ("s", "H₀ deaths", "nearest distances")]
pairs.set_axis(names, axis=1).rename_axis("gap").round(3)

# %% [markdown]
# Equation 13 does not hold in general. For clouds without clumps the two sides are closer, as the next figure shows.
# {doc}`15_what_it_stands_for` compares them for trained prompts.

# %% mystnb={"image": {"alt": "Scatter of the variance of H0 deaths against the variance of nearest-neighbour distances, logarithmic axes. Gaussian clouds gather near the diagonal; clouds of two or four clumps lie far above it."}, "figure": {"caption": "With true nearest-neighbour distances in place of soft ones, equation 13 nearly holds for a single Gaussian and fails for clumps. Each symbol is a cloud of 40 points in 64 dimensions, placed by the two sides of the equation. On the line the sides are equal.", "name": "fig-equation-13"}} tags=["hide-input"]
clumps, clouds = np.repeat([1, 2, 4], 40), []
for count in clumps:
    centres = rng.normal(scale=2, size=(count, 64)) * (count > 1)
    spread = rng.uniform(0.3, 1)
    clouds.append(centres[np.arange(40) % count] + rng.normal(scale=spread, size=(40, 64)))
sides = surrogate(clouds).assign(clumps=clumps)
fig, ax = plt.subplots(figsize=(0.75 * WIDTH, 0.55 * WIDTH))
x, y = "nearest_variance", "death_variance"
sns.scatterplot(sides, x=x, y=y, hue="clumps", style="clumps", palette="colorblind", ax=ax)
ends = [sides[x].min(), sides[y].max()]
ax.plot(ends, ends, color="0.6", lw=1, zorder=0)
ax.set(xscale="log", yscale="log")
ax.set(xlabel="variance of nearest-neighbour distances", ylabel="variance of $H_0$ deaths")
fig.tight_layout()

# %% [markdown]
# ## Stability
#
# Long bars are stable; the number of bars is not. If every point moves by at most $\eta$, no distance changes by more than $2\eta$, and
# neither does the birth or death of any bar that persists: this is the stability theorem
# {cite}`cohensteiner2007stability,chazal2014persistence`. Bars can appear or vanish only if they are no longer than $4\eta$.


# %%
def jolt(points, eta, times):
    """Return `times` copies of a cloud, each point moved by at most eta."""
    steps = rng.normal(size=(times, *points.shape))
    furthest = np.linalg.norm(steps, axis=2).max(axis=1)
    return points + steps * (eta / furthest)[:, None, None]


turn = 2 * np.pi * np.arange(15) / 15
ring = np.c_[np.cos(turn), np.sin(turn)] + rng.normal(scale=0.08, size=(15, 2))
noise = rng.normal(size=(40, 64))
for points in (ring, noise):
    eta = 0.05 * pdist(points).mean()
    before, after = persistence(points), persistence(jolt(points, eta, 200))
    for k in (0, 1):
        moved = np.array([lifespans(d[k]).max() for d in after])
        assert np.abs(moved - lifespans(before[k]).max()).max() <= 4 * eta
    assert points is noise or lifespans(before[1]).max() > 4 * eta
counts = [len(d[1]) for d in after]
glue("loops-before", len(before[1]), display=False)
glue("loops-least", min(counts), display=False)
glue("loops-most", max(counts), display=False)

# %% [markdown]
# We moved two clouds 200 times each: a noisy circle like that of {numref}`fig-circle`, and forty random points in 64 dimensions. No point
# moved by more than 5 % of the mean distance. The longest bar of the circle is longer than $4\eta$, so no such shift can remove its hole. The
# number of loops has no such guarantee. The random points have {glue:text}`loops-before:d` loops, all of them short; after such a shift they have
# between {glue:text}`loops-least:d` and {glue:text}`loops-most:d`. Anyone who counts $H_1$ features should therefore ask how long they live.
#
# ## The influence of $n$, $d$ and the lengths
#
# The vectors of a prompt have hundreds of dimensions, where intuition from the plane misleads: random points are all about equally far
# apart. If coordinates are drawn from $N(0, \sigma^2)$, distances concentrate around $\sigma\sqrt{2d}$ with a relative spread of about
# $1/\sqrt{2d}$, so that all bars end, and those of $H_1$ also begin, in a narrow band.

# %% mystnb={"image": {"alt": "Two panels against dimension from 2 to 1024, logarithmic. Left: mean H0 lifespan over mean distance rises from below 0.2 towards 1. Right: number of H1 bars for 20, 40 and 80 points."}, "figure": {"caption": "Bars depend on $n$ and $d$ before any training. Left: in {glue:text}`widest` dimensions the mean $H_0$ lifespan of {glue:text}`most-points` points is {glue:text}`widest-h0:.2f` of their mean distance. Right: they have {glue:text}`widest-h1:.0f` $H_1$ bars, and {glue:text}`fewest-points` points have {glue:text}`fewest-h1:.0f`. Each symbol is the mean of 20 Gaussian clouds.", "name": "fig-dimension"}} tags=["hide-input"]
rows = []
for n in (20, 40, 80):
    for d in 2 ** np.arange(1, 11):
        means = summarize(rng.normal(size=(20, n, d))).mean()
        rows.append((n, d, means.h0_mean_lifespan_scaled, means.h1_count))
sizes = pd.DataFrame(rows, columns=["n", "d", "h0", "h1"])
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.45 * WIDTH))
for ax, column, label in zip(
    axes, ("h0", "h1"), ("mean $H_0$ lifespan / mean distance", "$H_1$ bars"), strict=True
):
    look = {"markers": True, "dashes": False, "palette": "colorblind"}
    sns.lineplot(sizes, x="d", y=column, hue="n", style="n", **look, ax=ax)
    ax.set(ylabel=label, xlabel="dimension $d$")
    ax.set_xscale("log", base=2)
fig.tight_layout()
fewest, widest = (sizes[(sizes.n == k) & (sizes.d == d)].iloc[0] for k in (20, n))
for key, value in {"widest": d, "most-points": n, "fewest-points": 20}.items():
    glue(key, value, display=False)
for key in ("h0", "h1"):
    glue(f"widest-{key}", float(widest[key]), display=False)
glue("fewest-h1", float(fewest.h1), display=False)

# %% [markdown]
# This is the baseline: a prompt that starts as Gaussian noise starts with the topology of Gaussian noise,
# and a trained prompt is remarkable only where it departs from that.
#
# The loops of random vectors also depend on their lengths. The next figure keeps random directions and varies the lengths alone. Training
# makes a prompt's vectors unequally long. {doc}`04_phenomenon` proves that nearly orthogonal vectors have no loops if one is much shorter than all others, and compares prompts with
# random directions of the same lengths; {doc}`05_training_or_movement` asks whether it takes training to make the lengths so unequal.

# %% mystnb={"image": {"alt": "Number of H1 bars against the relative spread of the lengths of forty random vectors: a falling line with a band for the middle half of the clouds."}, "figure": {"caption": "{glue:text}`lengths-say` Forty random directions in 576 dimensions, with lengths that are uniform around 1. Line: median of 20 clouds; band: the middle half.", "name": "fig-lengths"}} tags=["hide-input"]
spreads = np.linspace(0, 0.2, 9)  # standard deviation of the lengths over their mean
directions = rng.normal(size=(20, 40, 576))
directions /= np.linalg.norm(directions, axis=2, keepdims=True)
uniform = np.sqrt(12) * (rng.uniform(size=(20, 40, 1)) - 0.5)  # of standard deviation 1
loops = np.array([summarize((1 + x * uniform) * directions).h1_count for x in spreads])
fig, ax = plt.subplots(figsize=(0.75 * WIDTH, 0.45 * WIDTH))
medians = np.median(loops, axis=1)
ax.plot(spreads, medians, color=DIMENSION_COLORS[1])
middle = np.quantile(loops, [0.25, 0.75], axis=1)
ax.fill_between(spreads, *middle, color=DIMENSION_COLORS[1], alpha=0.2, lw=0)
ax.set(xlabel="relative spread of lengths", ylabel="$H_1$ bars", ylim=(0, None))
fig.tight_layout()
fall = f"from {medians[0]:.0f} at equal lengths to {medians[-1]:.0f} at a relative spread of {spreads[-1]:g}"
glue(
    "lengths-say",
    f"Unequal lengths alone remove loops: their median number falls {fall}.",
    display=False,
)

# %% [markdown]
# (the-example)=
# ## A trained prompt
#
# The prompt below was trained on one problem and serves as the example in most chapters that look at a single prompt.
# {doc}`04_phenomenon` asks what many prompts have in common. The problem was chosen by a rule. Candidates are the single problems
# on which published runs trained a prompt both with and without TSLoss, with prompts stored from start to end, and whose answer is wrong
# at the start and right at the last check of both runs. (A *check* is a pause in training, every second epoch, at which
# the model answers with the current prompt.) The rule prefers problems whose answer stays right once it is right, then the lowest problem number, then the order of
# data sets in {doc}`12_all_data_sets`.

# %% tags=["hide-input"]
store = Store(runs)
conditions = {"model": model, "protocol": protocol, "seed": seed, "epochs": epochs}
wanted = RunSpec(method=method, lambda_ts=float(method != "ce"), **conditions)
(run,) = find_example(store, [wanted], task=task, problem=problem, data=data)
if run.published and not (task or problem):
    assert right_from(run)  # wrong at the start, right at the end
first, last = run.prompt_epochs[0], run.prompt_epochs[-1] if epoch < 0 else epoch
start, trained = (run.prompt(e).double().numpy() for e in (first, last))
n, d = trained.shape
name = f"problem {run.spec.problem} of {TASK_NAMES[run.spec.task]}"
repeats = repeats_of(store, run)
again = "The store has no other training with the same settings."
if repeats:
    ends = {
        other.id: other.topology.sort_values("epoch").h1_count.iloc[-1] for other in [run, *repeats]
    }
    left = int(ends[repeats[0].id])
    again = f"Trained again with the same settings, seed and problem, the prompt ends with {left} loop{'s' * (left != 1)}"
    again += (
        f" instead of {ends[run.id]:.0f}; in that run the answer {outcome_in_words(repeats[0])}."
    )
values = {"h0-count": n, "d": d, "last": last, "problem": name, "again": again}
for key, value in (values | {"outcome": outcome_in_words(run)}).items():
    glue(key, value, display=False)

# %% [markdown]
# The prompt has {glue:text}`h0-count:d` vectors in {glue:text}`d:d` dimensions and was trained on
# {glue:text}`problem` for {glue:text}`last:d` epochs. The model's answer {glue:text}`outcome`. {glue:text}`again` One run proves nothing:
# {ref}`noise-floor` shows how far rounding alone moves a run.

# %% mystnb={"image": {"alt": "Two scatter plots of the prompt's vectors on two principal axes, joined by the minimum spanning tree: on the left at the start, on the right after training, to the same scale."}, "figure": {"caption": "Training makes the mean distance between the prompt's vectors {glue:text}`spread-factor:.1f` times as large. The prompt before and after, projected onto the first two principal axes of the trained cloud, with its spanning tree, whose edge lengths are the $H_0$ deaths.", "name": "fig-prompt-cloud"}} tags=["hide-input"]
axes_of = np.linalg.svd(trained - trained.mean(0), full_matrices=False)
explained = axes_of[1][:2] ** 2 / (axes_of[1] ** 2).sum()
fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 0.53 * WIDTH), sharex=True, sharey=True)
for ax, points, when in zip(panels, (start, trained), (first, last), strict=True):
    flat = (points - points.mean(0)) @ axes_of[2][:2].T
    joined = minimum_spanning_tree(squareform(pdist(points))).tocoo()
    for i, j in zip(joined.row, joined.col, strict=True):
        ax.plot(*flat[[i, j]].T, color=DIMENSION_COLORS[0], lw=1)
    ax.scatter(*flat.T, color=POINT_COLOR, edgecolor="0.2", s=36, zorder=3)
    ax.set(title=f"epoch {when}", aspect="equal", xlabel="first principal axis")
    ax.locator_params(nbins=5)
panels[0].set_ylabel("second principal axis")
fig.tight_layout()
glue("explained", float(explained.sum()), display=False)
glue("spread-factor", float(pdist(trained).mean() / pdist(start).mean()), display=False)

# %% [markdown]
# These two axes carry only {glue:text}`explained:.0%` of the trained cloud's variance, so the picture is no more
# than a hint. The barcode takes all dimensions into account:

# %% mystnb={"image": {"alt": "Two barcodes side by side with a common scale: the prompt at the start and after training. H0 bars in blue start at zero, H1 bars in vermilion are short and lie further right."}, "figure": {"caption": "Training takes the prompt from {glue:text}`start-h1-count:.0f` $H_1$ bars to {glue:text}`trained-h1-count:.0f`. Both barcodes have the same scale.", "name": "fig-prompt-barcode"}} tags=["hide-input"]
fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 0.5 * WIDTH), sharex=True)
pictures = [persistence(points) for points in (start, trained)]
limit = 1.05 * max(d[k][np.isfinite(d[k])].max(initial=0) for d in pictures for k in (0, 1))
for ax, picture, when in zip(panels, pictures, (first, last), strict=True):
    draw_barcode(picture, ax, limit=limit)
    ax.set_title(f"epoch {when}")
    ax.legend(loc="lower right", frameon=True)
fig.tight_layout()

# %% [markdown]
# The table compares the prompt with noise: {glue:text}`clouds:d` Gaussian clouds with the trained prompt's $n$, $d$ and
# coordinate variance. The last column is the share of these clouds whose value lies below the trained prompt's.

# %% tags=["hide-input"]
same_clouds = np.random.default_rng(0)  # as in every chapter that counts loops of noise
noise = summarize(same_clouds.normal(scale=trained.std(), size=(CLOUDS, n, d)))
both = summarize(np.stack([start, trained]))
numbers = pd.DataFrame(
    {
        "start": both.iloc[0],
        "trained": both.iloc[1],
        "noise, mean": noise.mean(),
        "noise, sd": noise.std(),
        "noise below trained": 100 * (noise < both.iloc[1]).mean(),
    }
)
words = {"h0": "H₀", "h1": "H₁", "max": "longest", "scaled": "/ distance"}
words["normalized"] = "normalised"
numbers.index = [" ".join(words.get(w, w) for w in name.split("_")) for name in numbers.index]
numbers.apply(
    lambda c: c.map("{:.0f} %".format if c.name == "noise below trained" else "{:.4g}".format)
)

# %% tags=["remove-cell"]
for when, row in (("start", both.iloc[0]), ("trained", both.iloc[1]), ("noise", noise.mean())):
    for name in (
        "h1_count",
        "h0_mean_lifespan",
        "h0_mean_lifespan_scaled",
        "persistence_entropy",
        "normalized_entropy",
    ):
        glue(f"{when}-{name.replace('_', '-')}", float(row[name]), display=False)
lost = both.persistence_entropy[0] - both.persistence_entropy[1]
fewer = np.diff(np.log(both.h0_count + both.h1_count - 1))[0]
glue("entropy-change", float(-lost), display=False)
glue("clouds", CLOUDS, display=False)
glue("noise-median", float(noise.h1_count.median()), display=False)
glue("log-bars-change", float(fewer), display=False)

# %% [markdown]
# Four things stand out.
#
# - The $H_0$ count is $n$ and stays $n$. This is {prf:ref}`prop-mst`, not an observation.
# - The mean $H_0$ lifespan goes from {glue:text}`start-h0-mean-lifespan:.3f` to
#   {glue:text}`trained-h0-mean-lifespan:.3f`; divided by the mean distance, it goes from
#   {glue:text}`start-h0-mean-lifespan-scaled:.3f` to {glue:text}`trained-h0-mean-lifespan-scaled:.3f`. Only the second change is one of shape.
# - The $H_1$ count goes from {glue:text}`start-h1-count:.0f` to {glue:text}`trained-h1-count:.0f`; noise has a
#   median of {glue:text}`noise-median:.0f` and a mean of {glue:text}`noise-h1-count:.1f`.
# - The entropy starts at {glue:text}`start-persistence-entropy:.3f` and changes by {glue:text}`entropy-change:+.3f`. Its maximum $\log m$,
#   which depends only on the number of bars, changes by {glue:text}`log-bars-change:+.3f`. Relative to this maximum (the normalised entropy)
#   it goes from {glue:text}`start-normalized-entropy:.3f` to {glue:text}`trained-normalized-entropy:.3f`.
#
# ## Exercise
#
# ```{exercise} A prompt that merely grows
# :label: ex-growth
# Multiply every vector of a prompt by 3. Which numbers in the table above change, and by how much?
# ```
#
# ```{solution-start} ex-growth
# :class: dropdown
# ```
# All distances become three times as long, and so do births, deaths, lifespans and the mean distance. Counts, both
# entropies, and lifespans divided by the mean distance do not change.

# %%
plain, grown = summarize(trained).iloc[0], summarize(3 * trained).iloc[0]
lengths = [c for c in plain.index if "lifespan" in c and "scaled" not in c]
times_three = [*lengths, "mean_distance"]
assert np.allclose(grown[times_three], 3 * plain[times_three])
assert np.allclose(grown.drop(times_three), plain.drop(times_three))

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# No statistical test is needed here. A statement about every cloud gets the verdict *true by definition* if it is proved, and fails if a single
# cloud contradicts it. A cloud contradicts equation 13 if the two sides of the equation differ by more than a factor of two. A statement that
# nothing in this chapter can decide has no verdict.
#
# | claimed | measured | verdict |
# |---|---|---|
# | The number of $H_0$ features stays the same during training (section 2.3) | it is the number of distinct vectors, {glue:text}`h0-count:d` ({prf:ref}`prop-mst`) | true by definition |
# | The variance of soft nearest-neighbour distances approximates that of $H_0$ lifespans (equation 13) | two tight pairs: {glue:text}`pairs-variance-near:.2f` against {glue:text}`pairs-variance-deaths:.2f` | fails for these clouds; {doc}`15_what_it_stands_for` decides the claim with trained prompts |
# | Low persistence entropy marks a stable structure (equation 12), or the reverse (equation 14) | one formula, at most the logarithm of the number of bars; it falls when lengths become less equal, and usually when bars disappear | – |
