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
# # The phenomenon
#
# What happens to the topology of a prompt while it is trained? Section 2 of the paper {cite}`anonymous-topology` trains soft prompts with the
# cross-entropy alone and reports four observations: the number of $H_0$ features stays the same, these features live longer and longer, $H_1$
# features disappear, and persistence entropy falls a little. Everything else in the paper builds on these observations.
#
# This chapter makes these observations on our runs, draws the paper's Figures 2 and 3 from them, and asks what else could have produced each number.
# The first observation is true by definition, a cloud that merely grows gives the second, vectors of unequal length can give the third, and the loss
# of $H_1$ bars accounts for most of the fourth.
#
# ```{admonition} After this chapter you can
# :class: tip
# tell a change of shape from a change of size, and new evidence from a repetition.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = ""  # of the single problem; empty, with problem 0: the example of all chapters
problem: int = 0
task_multi: str = "mmlu_cf"  # of the set of ten problems
protocol: str = "tuned"
method: str = "ce"  # ce (plain), or a regulariser at weight 1: tsloss, l2, pairwise, persistence
seed: int = 0
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of runs that the store lacks: they are trained now

# %% tags=["hide-input"]
from math import sqrt

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogFormatter
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.geometry import gaussian_counts
from tsp.analysis.records import load_runs
from tsp.analysis.stats import FEWEST, spearman
from tsp.analysis.tables import TASK_NAMES
from tsp.analysis.units import comparable
from tsp.book.pages import as_text, check_parameters, stacked
from tsp.experiments.find_or_train import find_example, find_together, outcome_in_words, right_from
from tsp.figures import paper_figures as figures
from tsp.figures.paper_figures import DIMENSION_COLORS
from tsp.store.runs import Store
from tsp.topology.diagrams import (
    SUMMARY_COLUMNS,
    lifespans,
    persistence,
    persistence_entropy,
    summarize,
)
from tsp.training.spec import RunSpec

check_parameters(globals())

rng = np.random.default_rng(0)
figures.style()
C = sns.color_palette("colorblind")
TITLES = {"single": "one problem", "multi": "ten problems"}

# %% [markdown]
# ## The runs
#
# The figures show two prompts: one trained on a single problem, {ref}`the book's example <the-example>`, and one trained on ten problems at once.
# Runs missing from the store are trained when this chapter is executed. Protocol `tuned` is the paper's training with a larger learning rate;
# `paper` has the paper's own ({doc}`13_what_speeds_up`).

# %% tags=["hide-input"]
store = Store(runs)


common = {
    "model": model,
    "protocol": protocol,
    "method": method,
    "lambda_ts": float(method != "ce"),
    "seed": seed,
    "epochs": epochs,
}
single, multi = RunSpec(**common), RunSpec(**common, task=task_multi, regime="multi", problem=0)
pair = {
    "single": find_example(store, [single], task=task, problem=problem, data=data)[0],
    "multi": find_together(store, [multi], data=data)[0],
}
if pair["single"].published and not (task or problem):
    assert right_from(pair["single"])  # wrong at the start, right at the end
chosen = store.frame().set_index("id").loc[[run.id for run in pair.values()]]
overview = chosen[["task", "regime", "problem", "method", "protocol"]]
overview = overview.replace({"task": TASK_NAMES, "method": tables.METHOD_NAMES})
overview = overview.join(chosen[["n_tokens", "lr", "epochs", "solved_epoch"]]).rename(
    columns={
        "task": "data set",
        "problem": "(first) problem",
        "n_tokens": "n",
        "lr": "learning rate",
        "solved_epoch": "solved at epoch",
    }
)
nice = as_text(overview).style.hide(axis="index").set_table_attributes('class="dataframe"')
nice.format({"learning rate": "{:g}", "solved at epoch": "{:.0f}"}, na_rep="never")

# %% [markdown]
# ## Figure 2: four views
#
# The paper's Figure 2 shows mean lifespans, persistence diagrams, counts and barcodes. {numref}`fig-views` shows the same for these two runs.

# %% mystnb={"image": {"alt": "Four panels: mean lifespans of H0 and H1 over epochs for the single problem and for ten; persistence diagrams at the first and the last stored epoch; counts of H0 and H1 bars over epochs; barcodes at the first and the last epoch."}, "figure": {"caption": "Training takes the prompt from {glue:text}`single-h1-count-first:.0f` $H_1$ bars to {glue:text}`single-h1-count-last:.0f` with one problem and to {glue:text}`multi-h1-count-last:.0f` with ten, and changes its mean $H_0$ lifespan from {glue:text}`single-h0-mean-lifespan-first:.2f` to {glue:text}`single-h0-mean-lifespan-last:.2f` with one and to {glue:text}`multi-h0-mean-lifespan-last:.2f` with ten. The paper's Figure 2 from our runs: (a) mean lifespans, (b) persistence diagrams, (c) number of bars (grey: $H_1$ bars of 95 % of Gaussian clouds), (d) barcodes.", "name": "fig-views"}} tags=["hide-input"]
figures.figure2(store, single=pair["single"].id, multi=pair["multi"].id)

# %% tags=["remove-cell"]
ends = {}
for regime, run in pair.items():
    both = run.topology.sort_values("epoch").iloc[[0, -1]].reset_index(drop=True)
    ends[regime] = both
    for name in SUMMARY_COLUMNS:
        for when, value in zip(("first", "last"), both[name], strict=True):
            glue(f"{regime}-{name.replace('_', '-')}-{when}", float(value), display=False)
    glue(f"{regime}-epochs", int(both.epoch.iloc[1]), display=False)
schedule = pair["multi"].spec.settings
glue("warm", int(schedule.warmup_fraction * schedule.epochs), display=False)
for regime, run in pair.items():
    glue(f"{regime}-outcome", outcome_in_words(run), display=False)
    glue(f"{regime}-task", TASK_NAMES[run.spec.task], display=False)
n, d = pair["single"].prompt(0).shape
for key, value in {"n": n, "d": d, "model": model, "protocol": protocol}.items():
    glue(key, value, display=False)

# %% [markdown]
# The learning rate rises over the first {glue:text}`warm:d` epochs, so a run that ends within this warm-up shows only how training begins. The
# answer to the single problem {glue:text}`single-outcome`. A set counts as right when all ten answers are right; the set {glue:text}`multi-outcome`.
#
# {ref}`An earlier table <the-example>` compares the start and the end for the single problem. The next table does so for the ten problems
# ({glue:text}`multi-task`, {glue:text}`multi-epochs:d` epochs):
#
# | | start | end |
# |---|---|---|
# | $H_0$ count | {glue:text}`multi-h0-count-first:.0f` | {glue:text}`multi-h0-count-last:.0f` |
# | mean $H_0$ lifespan | {glue:text}`multi-h0-mean-lifespan-first:.3f` | {glue:text}`multi-h0-mean-lifespan-last:.3f` |
# | $H_1$ count | {glue:text}`multi-h1-count-first:.0f` | {glue:text}`multi-h1-count-last:.0f` |
# | mean $H_1$ lifespan | {glue:text}`multi-h1-mean-lifespan-first:.4f` | {glue:text}`multi-h1-mean-lifespan-last:.4f` |
# | entropy | {glue:text}`multi-persistence-entropy-first:.3f` | {glue:text}`multi-persistence-entropy-last:.3f` |
#
# None of these numbers is about learning alone. The $H_0$ count cannot change at all: it is the number of distinct vectors
# ({prf:ref}`prop-mst`). The mean lifespans are lengths, which grow when the cloud grows. The $H_1$ count includes loops of any
# length, even those that noise creates and removes. The entropy combines the number of bars with the evenness of their lengths.
#
# ## Growth and shape
#
# Prompts start from tiny random vectors, so almost any long move enlarges the cloud, and its bars with it. Let $\bar l$ be the mean $H_0$ lifespan
# and $\bar D$ the mean distance between points. Between two epochs,
#
# $$\log\frac{\bar l_\text{end}}{\bar l_\text{start}} = \underbrace{\log\frac{\bar D_\text{end}}{\bar D_\text{start}}}_\text{size} +
# \underbrace{\log\frac{\bar l_\text{end} / \bar D_\text{end}}{\bar l_\text{start} / \bar D_\text{start}}}_\text{shape}$$ (eq-growth)
#
# and only the second term is a change of shape.

# %% mystnb={"image": {"alt": "Two panels, single problem and ten problems. Against epochs, relative to the start and on a logarithmic axis: mean H0 lifespan, mean distance, and the one divided by the other."}, "figure": {"caption": "The mean distance changes by a factor of {glue:text}`single-factor-size:.2f` with one problem and {glue:text}`multi-factor-size:.2f` with ten, the lifespan as a share of it by {glue:text}`single-factor-shape:.2f` with one and {glue:text}`multi-factor-shape:.2f` with ten. Growth and shape relative to the start, equation {eq}`eq-growth`.", "name": "fig-growth"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True, layout="constrained")
lines = (
    ("h0_mean_lifespan", "mean $H_0$ lifespan", "-", DIMENSION_COLORS[0]),
    ("mean_distance", "mean distance", "--", C[1]),
    ("h0_mean_lifespan_scaled", "lifespan / distance", "-.", C[2]),
)
for ax, (regime, run) in zip(axes, pair.items(), strict=True):
    relative = run.topology.set_index("epoch").pipe(lambda checks: checks / checks.iloc[0])
    for column, label, dashes, color in lines:
        ax.plot(relative[column], dashes, color=color, label=label)
    ax.set(yscale="log", xlabel="epoch", title=TITLES[regime])
    ax.yaxis.set_major_formatter(LogFormatter())
    ax.yaxis.set_minor_formatter(LogFormatter())
axes[0].set_ylabel("relative to the start")
axes[0].legend()
sns.despine(fig)

# %% tags=["remove-cell"]
for regime, both in ends.items():
    change = np.log(both[[column for column, *_ in lines]]).diff().iloc[1]
    assert np.isclose(change.iloc[0], change.iloc[1:].sum())
    for key, value in zip(("lifespan", "size", "shape"), np.exp(change), strict=True):
        glue(f"{regime}-factor-{key}", float(value), display=False)

# %% [markdown]
# Size and shape together change the lifespan by a factor of {glue:text}`single-factor-lifespan:.2f` with one problem and
# {glue:text}`multi-factor-lifespan:.2f` with ten. A shape factor above 1 means that the points became more evenly spaced, one below 1 that they
# became less so.
#
# ## Random points as a baseline
#
# Counts and entropy do not depend on size, so they need another baseline. The prompt starts as Gaussian noise, with as many loops as noise has ({numref}`fig-dimension`). Training changes the cloud in ways that do not
# concern loops directly: it stretches the cloud along a few directions and makes its vectors unequally long. We therefore compare the prompt with
# three kinds of random points:
#
# - *plain noise*: Gaussian, with the prompt's $n$ and $d$;
# - *the same covariance*: Gaussian, stretched along the same directions as the prompt (so it lies in the 39 dimensions that 40 points span, where
#   distances vary more than in plain noise, before training too);
# - *the same lengths*: random directions with the prompt's own lengths $r_i = \lVert x_i \rVert$.

# %% mystnb={"image": {"alt": "Two panels: number of H1 bars over epochs for the single problem and for ten. A line is the prompt; a grey band plain noise; dots with error bars, at the stored epochs, noise with the prompt's covariance and random directions with the prompt's lengths."}, "figure": {"caption": "At the end the prompt has {glue:text}`single-h1-count-last:.0f` $H_1$ bars with one problem and {glue:text}`multi-h1-count-last:.0f` with ten; random directions of the same lengths have on average {glue:text}`single-lengths-last:.1f` with one problem and {glue:text}`multi-lengths-last:.1f` with ten. Line: the prompt. Bands and error bars hold 95 % of each kind of random cloud.", "name": "fig-yardstick"}} tags=["hide-input"]
DRAWS = 40


def same_covariance(prompt):
    """Draw Gaussian clouds with the covariance of a prompt's points, (DRAWS, n, d)."""
    centred = prompt - prompt.mean(0)
    return rng.normal(size=(DRAWS, len(prompt), len(prompt))) @ centred / sqrt(len(prompt) - 1)


def same_lengths(prompt):
    """Draw random directions with the lengths of a prompt's vectors, (DRAWS, n, d)."""
    directions = rng.normal(size=(DRAWS, *prompt.shape))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return directions * np.linalg.norm(prompt, axis=1)[:, None]


rows = []
for regime, run in pair.items():
    for epoch in run.prompt_epochs:
        prompt = run.prompt(epoch).double().numpy()
        r = np.linalg.norm(prompt, axis=1)
        for kind, draw in (("same covariance", same_covariance), ("same lengths", same_lengths)):
            source = {"kind": kind, "regime": regime, "epoch": epoch, "spread": r.std() / r.mean()}
            rows.append(summarize(draw(prompt)).assign(**source))
noise = pd.concat(rows, ignore_index=True)

fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True, layout="constrained")
low, middle_count, high = np.quantile(gaussian_counts(n, d), [0.025, 0.5, 0.975])
for ax, (regime, run) in zip(axes, pair.items(), strict=True):
    ax.axhspan(low, high, color="0.9", label="plain noise")
    ax.plot(run.topology.epoch, run.topology.h1_count, color=DIMENSION_COLORS[1], label="prompt")
    for kind, marker, color in (("same covariance", "o", C[0]), ("same lengths", "s", C[2])):
        counts = noise[(noise.regime == regime) & (noise.kind == kind)].groupby("epoch").h1_count
        middle, below, above = (counts.quantile(q) for q in (0.5, 0.025, 0.975))
        error = [middle - below, above - middle]
        ax.errorbar(middle.index, middle, error, fmt=marker, color=color, capsize=3, label=kind)
    ax.set(xlabel="epoch", ylim=(0, None), title=TITLES[regime])
axes[0].set_ylabel("$H_1$ bars")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
sns.despine(fig)

# %% tags=["remove-cell"]
glue("noise-h1", float(middle_count), display=False)
glue("noise-low", float(low), display=False)
glue("noise-high", float(high), display=False)
for regime in pair:
    of_run = noise[noise.regime == regime]
    last = of_run[of_run.epoch == of_run.epoch.max()].groupby("kind")
    means = last[["h1_count", "h0_mean_lifespan_scaled"]].mean()
    for key in ("covariance", "lengths"):
        glue(f"{regime}-{key}-last", float(means.h1_count[f"same {key}"]), display=False)
        scaled = means.h0_mean_lifespan_scaled[f"same {key}"]
        glue(f"{regime}-{key}-scaled", float(scaled), display=False)
    glue(f"{regime}-spread-first", float(of_run.spread.iloc[0]), display=False)
    glue(f"{regime}-spread-last", float(of_run.spread.iloc[-1]), display=False)
    checks = pair[regime].topology
    longest = (checks.h1_max_lifespan / checks.mean_distance).max()
    glue(f"{regime}-longest", float(longest), display=False)

# %% [markdown]
# Plain noise has a median of {glue:text}`noise-h1:.0f` loops (95 %: {glue:text}`noise-low:.0f` to {glue:text}`noise-high:.0f`), and the prompt
# starts with {glue:text}`single-h1-count-first:.0f`. The table compares the prompt at the end with means over random clouds:
#
# | at the end of training | prompt | same covariance | same lengths |
# |---|---|---|---|
# | one problem: $H_1$ bars | {glue:text}`single-h1-count-last:.0f` | {glue:text}`single-covariance-last:.1f` | {glue:text}`single-lengths-last:.1f` |
# | one problem: mean $H_0$ lifespan / mean distance | {glue:text}`single-h0-mean-lifespan-scaled-last:.3f` | {glue:text}`single-covariance-scaled:.3f` | {glue:text}`single-lengths-scaled:.3f` |
# | ten problems: $H_1$ bars | {glue:text}`multi-h1-count-last:.0f` | {glue:text}`multi-covariance-last:.1f` | {glue:text}`multi-lengths-last:.1f` |
# | ten problems: mean $H_0$ lifespan / mean distance | {glue:text}`multi-h0-mean-lifespan-scaled-last:.3f` | {glue:text}`multi-covariance-scaled:.3f` | {glue:text}`multi-lengths-scaled:.3f` |
#
# The relative spread of the lengths, their standard deviation divided by their mean, goes from {glue:text}`single-spread-first:.2f` to
# {glue:text}`single-spread-last:.2f` in the single run and to {glue:text}`multi-spread-last:.2f` with ten problems.
#
# Lengths matter for loops because random directions in hundreds of dimensions are almost orthogonal:
#
# ```{prf:proposition} Orthogonal vectors have no loops
# :label: prop-orthogonal
# Let $x_1, \dots, x_n$ be orthogonal, of lengths $r_1 \le \dots \le r_n$, $r_2 > 0$. No Rips complex of these points has a loop, and the finite
# $H_0$ deaths are $\sqrt{r_1^2 + r_i^2}$ for $i = 2, \dots, n$.
# ```
#
# ```{prf:proof}
# $D_{ij}^2 = r_i^2 + r_j^2$. If $x_i$ and $x_j$ are joined at scale $\epsilon$, then $r_1^2 + r_i^2$ and $r_1^2 + r_j^2$ are at most $\epsilon^2$ as
# well, so both are joined to $x_1$. Hence every simplex with an edge remains a simplex when $x_1$ is added: the points that are joined to any other
# form a cone with apex $x_1$, and a cone has no loop. Each remaining point is isolated until the scale reaches its distance to $x_1$.
# ```
#
# ```{prf:proposition} Nearly orthogonal vectors have no loops if one is short enough
# :label: cor-nearly-orthogonal
# Let $x_1, \dots, x_n$ be any vectors with lengths $r_j > 0$ and $r_j^2 - r_1^2 \ge 4 \max_{i \ne k} |\langle x_i, x_k \rangle|$ for all $j \ge 2$.
# No Rips complex of these points has a loop, and the finite $H_0$ deaths are $D_{1i}$ for $i = 2, \dots, n$.
# ```
#
# ```{prf:proof}
# $D_{ij}^2 - D_{1i}^2 = r_j^2 - r_1^2 - 2 \langle x_i, x_j \rangle + 2 \langle x_1, x_i \rangle \ge 0$ for $i, j \ge 2$, so $D_{1i} \le D_{ij}$ and,
# by symmetry, $D_{1j} \le D_{ij}$: two points that are joined are both joined to $x_1$. The rest is as before.
# ```

# %%
lengths = np.sort(rng.uniform(1, 3, size=n))
axes_of_space, _ = np.linalg.qr(rng.normal(size=(d, min(n, d))))
orthogonal = lengths[: min(n, d), None] * axes_of_space.T
bars = persistence(orthogonal)
assert len(bars[1]) == 0
assert np.allclose(bars[0][:-1, 1], np.hypot(lengths[0], lengths[1 : len(orthogonal)]))
nearly = rng.normal(size=(40, 576))
nearly[0] /= 10
products = nearly @ nearly.T
assert products.diagonal()[1:].min() - products[0, 0] >= 4 * np.abs(np.triu(products, 1)).max()
assert len(persistence(nearly)[1]) == 0


def is_met(prompt):
    """Return whether the proposition's condition holds for the rows of a prompt."""
    products = (prompt @ prompt.T).numpy()
    lengths = np.sort(products.diagonal())
    return bool(lengths[1] - lengths[0] >= 4 * np.abs(np.triu(products, 1)).max())


usual = comparable(load_runs(store), protocol=protocol).query("method == 'ce'")
keeping = [run for run in map(store.read, usual.id) if run.prompt_epochs]
trained = [run.prompt(run.prompt_epochs[-1]).double() for run in keeping]
glue("corollary-met", f"{sum(map(is_met, trained))} of {len(trained)}", display=False)

# %% [markdown]
# In Gaussian noise, chance differences of lengths and chance inner products decide in equal parts which pairs are slightly closer, and its short loops
# depend on both. If one vector is shorter than all others by enough ({prf:ref}`cor-nearly-orthogonal`), all others join it before they join each other,
# and no loop forms. The condition is sufficient, not necessary: {glue:text}`corollary-met` prompts trained with the cross-entropy alone meet it at
# the end, yet some that do not meet it have no loops. The proposition shows in which direction unequal lengths act; random directions of the same
# lengths show how strongly. If the prompt has more loops in {numref}`fig-yardstick` than these random clouds, the lengths do not explain the excess.
#
# Consider also how long the loops live. The longest $H_1$ bar at any check is {glue:text}`single-longest:.1%` of the mean distance (ten:
# {glue:text}`multi-longest:.1%`). Shifts of all points by less than a quarter of this length cannot remove this bar; beyond that, stability
# ({doc}`02_homology_of_a_prompt`) promises nothing. The paper calls such loops "redundant inference paths".
#
# ## Figure 3: density and entropy
#
# To rule out that loops vanish because points crowd together, the paper compares a density of points with a density of loops, defining neither.
# Here, density is $n$ divided by the mean distance, and $H_1$ density is the $H_1$ count divided by $n$.

# %% mystnb={"image": {"alt": "Two panels over epochs for the single problem and for ten: left, point density and H1 density; right, persistence entropy."}, "figure": {"caption": "The density of points changes by {glue:text}`single-density:+.0%` with one problem and {glue:text}`multi-density:+.0%` with ten, the entropy by {glue:text}`single-entropy-change:+.1%` and {glue:text}`multi-entropy-change:+.1%`. The paper's Figure 3 from our runs: (a) point density and $H_1$ density (grey: 95 % of Gaussian clouds), (b) persistence entropy.", "name": "fig-density"}} tags=["hide-input"]
figures.figure3(store, ids=[run.id for run in pair.values()])

# %% tags=["remove-cell"]
for regime, both in ends.items():
    density = n / both.mean_distance
    bars = both.h0_count - 1 + both.h1_count
    drop = both.persistence_entropy.iloc[0] - both.persistence_entropy.iloc[1]
    clouds = [pair[regime].prompt(e) for e in (0, pair[regime].prompt_epochs[-1])]
    of_h0 = [persistence_entropy(lifespans(persistence(cloud)[0])) for cloud in clouds]
    glue(f"{regime}-density", float(density.iloc[1] / density.iloc[0] - 1), display=False)
    glue(f"{regime}-entropy-change", float(-drop / both.persistence_entropy.iloc[0]), display=False)
    glue(f"{regime}-entropy-nats", float(-drop), display=False)
    glue(f"{regime}-h0-nats", float(of_h0[1] - of_h0[0]), display=False)
    glue(f"{regime}-loops-nats", float(of_h0[0] - of_h0[1] - drop), display=False)
    glue(f"{regime}-bars-first", int(bars.iloc[0]), display=False)
    glue(f"{regime}-bars-last", int(bars.iloc[1]), display=False)

# %% [markdown]
# In the paper the density of points shows "only a minimal reduction". Here it changes by {glue:text}`single-density:+.0%` (single) and
# {glue:text}`multi-density:+.0%` (ten) under protocol {glue:text}`protocol`. At the larger learning rate of `tuned` a prompt moves far compared with
# its initial size, so the claim itself is decided under protocol `paper` (last section). The number of finite bars goes from {glue:text}`single-bars-first:d` to
# {glue:text}`single-bars-last:d` (ten: from {glue:text}`multi-bars-first:d` to {glue:text}`multi-bars-last:d`). In the single run the entropy
# changes by {glue:text}`single-entropy-nats:+.3f` nats in total, of which {glue:text}`single-loops-nats:+.3f` is due to the loops and
# {glue:text}`single-h0-nats:+.3f` to the evenness of the $H_0$ bars (ten: {glue:text}`multi-entropy-nats:+.3f`, {glue:text}`multi-loops-nats:+.3f`
# and {glue:text}`multi-h0-nats:+.3f`). The paper attributes the small change to "the large number of $H_0$ features". That explanation is
# arithmetic: it holds for untrained prompts too ({ref}`ex-simplex`).
#
# ## Exercises
#
# ```{exercise} Density and lifespan
# :label: ex-density
# With density $n / \bar D$ as above, show that the mean $H_0$ lifespan is $n$ divided by the density, times a number that does not depend on scale.
# What follows for a prompt whose density falls?
# ```
#
# ```{solution-start} ex-density
# :class: dropdown
# ```
# $\bar l = (\bar l / \bar D) \cdot n / (n / \bar D)$. As long as the first factor hardly changes, "lifespans grow" and "density falls" are the same
# observation, so Figure 2 (a) and Figure 3 (a) are not two pieces of evidence.

# %%
checks = pair["single"].topology
density = n / checks.mean_distance
assert np.allclose(checks.h0_mean_lifespan, checks.h0_mean_lifespan_scaled * n / density)
rho = spearman(checks.h0_mean_lifespan, density).statistic
print(f"rank correlation of lifespan and density over the run: {rho:.3f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Loops per point
# :label: ex-loops-per-point
# $H_1$ density divides the number of loops by $n$. Is that a fair comparison between prompts with different numbers of vectors? Try noise of 20, 40
# and 80 points.
# ```
#
# ```{solution-start} ex-loops-per-point
# :class: dropdown
# ```
# No: the more points noise has, the more loops it has per point.

# %%
per_point = [summarize(rng.normal(size=(10, k, 256))).h1_count.mean() / k for k in (20, 40, 80)]
assert per_point[0] < per_point[1] < per_point[2]
print("loops per point:", ", ".join(f"{x:.2f}" for x in per_point))

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# Each claim has a rule ({doc}`20_rules`) and is decided from units, each of which is one problem or one set of ten. {glue:text}`same-start` A claim
# about a direction needs at least {glue:text}`fewest:d` units that agree, and more after Holm's correction. Early entropy and density are decided under
# `paper`, where prompts of this model hardly move; {doc}`20_rules` also gives their verdicts under `tuned`.

# %% tags=["hide-input"]
glue("same-start", tables.same_start(store, protocol=protocol), display=False)
glue("fewest", FEWEST, display=False)
glue("model-note", pair["single"].record["model_note"], display=False)
of_chapter = [claim.id for claim in CLAIMS if claim.family == "phenomenon"]
stacked(tables.chapter_claims(store, of_chapter))

# %% [markdown]
# Nearly all of these runs are of one small model ({glue:text}`model`: {glue:text}`model-note`). They cannot show whether prompts of Gemma-2B-IT move
# in the same way at the paper's own learning rate; that takes the model and a GPU (`-p model gemma-2b-it -p protocol paper -p data hub -p epochs 300`).
# Three facts hold for any model: the $H_0$ count cannot change, lifespans grow with the cloud, and nearly orthogonal vectors have no loops if one is
# shorter than all others by enough, a condition that prompts need not meet.
