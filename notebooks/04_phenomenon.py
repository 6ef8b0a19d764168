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
# Section 2 of the paper {cite}`anonymous-topology` trains soft prompts in the ordinary way, with the
# cross-entropy alone, and looks at their persistent homology as they learn. It reports four things: the
# number of $H_0$ features stays the same, they live longer and longer, $H_1$ features disappear, and
# persistence entropy falls a little; and that these go with accuracy. Everything else in the paper rests
# on it.
#
# This chapter repeats the observation on prompts that were trained on this machine, draws the paper's
# Figures 2 and 3 from them, and asks of each number what else could have produced it: a cloud that merely
# grows, or random points. {doc}`05_topology_and_accuracy` goes on with accuracy.
#
# ```{admonition} After this chapter you can
# :class: tip
# tell a change of shape from a change of size, and an observation from a repetition.
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
from tsp.analysis.stats import FEWEST, spearman
from tsp.analysis.tables import TASK_NAMES
from tsp.book.pages import as_text, check_parameters
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
# One prompt trained on a single problem, {ref}`the example <the-example>` of all chapters, and one trained on ten at
# once. They come from the run store; what it lacks is trained now.

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
shown = chosen[["task", "regime", "problem", "method", "protocol"]]
shown = shown.join(chosen[["n_tokens", "lr", "epochs", "solved_epoch"]]).rename(
    columns={"n_tokens": "n", "solved_epoch": "solved at epoch"}
)
nice = as_text(shown).style.hide(axis="index").set_table_attributes('class="dataframe"')
nice.format({"lr": "{:g}", "solved at epoch": "{:.0f}"}, na_rep="never")

# %% [markdown]
# ## Figure 2: four views
#
# The paper's Figure 2 shows mean lifespans, persistence diagrams, counts and barcodes. Here is the same
# from these two runs.

# %% mystnb={"image": {"alt": "Four panels: mean lifespans of H0 and H1 over epochs for the single problem and for ten; persistence diagrams at the first and the last stored epoch; counts of H0 and H1 bars over epochs; barcodes at the first and the last epoch."}, "figure": {"caption": "The paper's Figure 2 from our runs: (a) mean lifespans, (b) persistence diagrams, (c) number of bars, (d) barcodes.", "name": "fig-views"}} tags=["hide-input"]
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
told = pair["multi"].spec.settings
glue("warm", int(told.warmup_fraction * told.epochs), display=False)
for regime, run in pair.items():
    glue(f"{regime}-outcome", outcome_in_words(run), display=False)
    glue(f"{regime}-task", TASK_NAMES[run.spec.task], display=False)
n, d = pair["single"].prompt(0).shape
for key, value in {"n": n, "d": d, "model": model}.items():
    glue(key, value, display=False)

# %% [markdown]
# The schedule raises the learning rate over its first {glue:text}`warm:d` epochs. A run that ends inside the
# warm-up shows how training begins, not what it leads to. The single problem's answer {glue:text}`single-outcome`. The ten
# answers count as one, right when all ten are: it {glue:text}`multi-outcome`.
#
# Read from left to right, single problem ({glue:text}`single-task`, {glue:text}`single-epochs:d` epochs) and ten
# problems ({glue:text}`multi-task`, {glue:text}`multi-epochs:d` epochs):
#
# | | single: start | end | ten: start | end |
# |---|---|---|---|---|
# | $H_0$ count | {glue:text}`single-h0-count-first:.0f` | {glue:text}`single-h0-count-last:.0f` | {glue:text}`multi-h0-count-first:.0f` | {glue:text}`multi-h0-count-last:.0f` |
# | mean $H_0$ lifespan | {glue:text}`single-h0-mean-lifespan-first:.3f` | {glue:text}`single-h0-mean-lifespan-last:.3f` | {glue:text}`multi-h0-mean-lifespan-first:.3f` | {glue:text}`multi-h0-mean-lifespan-last:.3f` |
# | $H_1$ count | {glue:text}`single-h1-count-first:.0f` | {glue:text}`single-h1-count-last:.0f` | {glue:text}`multi-h1-count-first:.0f` | {glue:text}`multi-h1-count-last:.0f` |
# | mean $H_1$ lifespan | {glue:text}`single-h1-mean-lifespan-first:.4f` | {glue:text}`single-h1-mean-lifespan-last:.4f` | {glue:text}`multi-h1-mean-lifespan-first:.4f` | {glue:text}`multi-h1-mean-lifespan-last:.4f` |
# | entropy | {glue:text}`single-persistence-entropy-first:.3f` | {glue:text}`single-persistence-entropy-last:.3f` | {glue:text}`multi-persistence-entropy-first:.3f` | {glue:text}`multi-persistence-entropy-last:.3f` |
#
# What the five numbers mean, and what else moves them:
#
# $H_0$ count
# : The number of distinct points: {glue:text}`n:d`, the length of the prompt. It can not change ({prf:ref}`prop-mst`).
#
# mean $H_0$ lifespan
# : The mean edge of a minimum spanning tree: a length. It grows when the cloud grows.
#
# $H_1$ count
# : The number of loops, however short. Random points have many; noise makes and unmakes short ones.
#
# mean $H_1$ lifespan
# : A length too, of few and short bars. Compare it with the $H_0$ lifespans two lines above.
#
# entropy
# : How many bars there are and how even, in one number. It falls when bars vanish (little, if they are short) and when lengths become less even.
#
# ## A cloud that merely grows
#
# Two of the five are lengths, and training starts from tiny random vectors: there is nowhere to go but
# outwards. Write $\bar l$ for the mean $H_0$ lifespan and $\bar D$ for the mean distance between points.
# Between two epochs,
#
# $$\log\frac{\bar l_\text{end}}{\bar l_\text{start}} = \underbrace{\log\frac{\bar D_\text{end}}{\bar D_\text{start}}}_\text{size}
# + \underbrace{\log\frac{\bar l_\text{end} / \bar D_\text{end}}{\bar l_\text{start} / \bar
# D_\text{start}}}_\text{shape}$$ (eq-growth)
#
# and only the second term is about shape.

# %% mystnb={"image": {"alt": "Two panels, single problem and ten problems. Against epochs, relative to the start and on a logarithmic axis: mean H0 lifespan, mean distance, and the one divided by the other."}, "figure": {"caption": "Growth and shape, relative to the start: where the lifespan follows the mean distance, the cloud only grows. See {eq}`eq-growth`.", "name": "fig-growth"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True, layout="constrained")
lines = (
    ("h0_mean_lifespan", "mean $H_0$ lifespan", "-", DIMENSION_COLORS[0]),
    ("mean_distance", "mean distance", "--", C[1]),
    ("h0_mean_lifespan_scaled", "lifespan / distance", "-.", C[2]),
)
for ax, (regime, run) in zip(axes, pair.items(), strict=True):
    relative = run.topology.set_index("epoch").pipe(lambda seen: seen / seen.iloc[0])
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
# In the single run the lifespan changes by a factor of {glue:text}`single-factor-lifespan:.2f`; of that,
# {glue:text}`single-factor-size:.2f` is size and {glue:text}`single-factor-shape:.2f` shape. With ten
# problems it is {glue:text}`multi-factor-lifespan:.2f` = {glue:text}`multi-factor-size:.2f` ×
# {glue:text}`multi-factor-shape:.2f`. A factor of shape above 1 says that the points became more equally
# spaced, below 1, less.
#
# Counts and entropy do not change with size. They need another yardstick.
#
# ## Random points as a yardstick
#
# The prompt starts as Gaussian noise, with as many loops as noise has. As it is trained it stops being
# noise in ways that have nothing to do with loops as such. It is stretched along a few directions, and
# its vectors become unequally long. So compare it with three kinds of random points:
#
# - *plain noise*, Gaussian with the prompt's $n$ and $d$;
# - noise with the *covariance* of the prompt's points: the same directions, equally stretched;
# - random directions with the prompt's own *lengths* $r_i = \lVert x_i \rVert$.

# %% mystnb={"image": {"alt": "Two panels: number of H1 bars over epochs for the single problem and for ten. A line is the prompt; a grey band plain noise; dots with error bars, at the stored epochs, noise with the prompt's covariance and random directions with the prompt's lengths."}, "figure": {"caption": "$H_1$ bars of the prompt (line) and of three kinds of random points. Bands and error bars hold 95 % of them.", "name": "fig-yardstick"}} tags=["hide-input"]
DRAWS = 40


def same_covariance(prompt):
    """Gaussian clouds with the covariance of a prompt's points, (DRAWS, n, d)."""
    centred = prompt - prompt.mean(0)
    return rng.normal(size=(DRAWS, len(prompt), len(prompt))) @ centred / sqrt(len(prompt) - 1)


def same_lengths(prompt):
    """Random directions with the lengths of a prompt's vectors, (DRAWS, n, d)."""
    directions = rng.normal(size=(DRAWS, *prompt.shape))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return directions * np.linalg.norm(prompt, axis=1)[:, None]


plain = summarize(rng.normal(size=(DRAWS, n, d)))
rows = []
for regime, run in pair.items():
    for epoch in run.prompt_epochs:
        prompt = run.prompt(epoch).double().numpy()
        r = np.linalg.norm(prompt, axis=1)
        for kind, draw in (("same covariance", same_covariance), ("same lengths", same_lengths)):
            of = {"kind": kind, "regime": regime, "epoch": epoch, "spread": r.std() / r.mean()}
            rows.append(summarize(draw(prompt)).assign(**of))
noise = pd.concat(rows, ignore_index=True)

fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True, layout="constrained")
low, high = plain.h1_count.quantile([0.025, 0.975])
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
glue("noise-h1", float(plain.h1_count.mean()), display=False)
glue("noise-low", float(low), display=False)
glue("noise-high", float(high), display=False)
for regime, both in ends.items():
    of_run = noise[noise.regime == regime]
    last = of_run[of_run.epoch == of_run.epoch.max()].groupby("kind")
    means = last[["h1_count", "h0_mean_lifespan_scaled"]].mean()
    glue(f"{regime}-alike-last", float(means.h1_count["same covariance"]), display=False)
    glue(f"{regime}-long-last", float(means.h1_count["same lengths"]), display=False)
    scaled = means.h0_mean_lifespan_scaled["same lengths"]
    glue(f"{regime}-long-scaled", float(scaled), display=False)
    glue(f"{regime}-spread-first", float(of_run.spread.iloc[0]), display=False)
    glue(f"{regime}-spread-last", float(of_run.spread.iloc[-1]), display=False)
    longest = both.h1_max_lifespan / both.mean_distance
    glue(f"{regime}-longest", float(longest.max()), display=False)

# %% [markdown]
# Plain noise has {glue:text}`noise-h1:.1f` loops (95 %: {glue:text}`noise-low:.0f` to
# {glue:text}`noise-high:.0f`), and the prompt starts with {glue:text}`single-h1-count-first:.0f`. At the
# end of the single run the prompt has {glue:text}`single-h1-count-last:.0f`, noise with its covariance
# {glue:text}`single-alike-last:.1f`, and random directions with its lengths
# {glue:text}`single-long-last:.1f`. For ten problems the three numbers are
# {glue:text}`multi-h1-count-last:.0f`, {glue:text}`multi-alike-last:.1f` and
# {glue:text}`multi-long-last:.1f`. The mean $H_0$ lifespan of random directions with the prompt's
# lengths, over their mean distance, is {glue:text}`single-long-scaled:.3f`, where the prompt has
# {glue:text}`single-h0-mean-lifespan-scaled-last:.3f` (ten: {glue:text}`multi-long-scaled:.3f` and
# {glue:text}`multi-h0-mean-lifespan-scaled-last:.3f`). The spread of the lengths, their standard
# deviation over their mean, goes from {glue:text}`single-spread-first:.2f` to
# {glue:text}`single-spread-last:.2f` and, for ten, to {glue:text}`multi-spread-last:.2f`.
#
# Why should lengths matter to loops? Because in hundreds of dimensions random directions are almost
# orthogonal.
#
# ```{prf:proposition} Orthogonal vectors have no loops
# :label: prop-orthogonal
# Let $x_1, \dots, x_n$ be orthogonal, of lengths $r_1 \le \dots \le r_n$, $r_2 > 0$. No Rips complex of
# these points has a loop, and the finite $H_0$ deaths are $\sqrt{r_1^2 + r_i^2}$ for $i = 2, \dots, n$.
# ```
#
# ```{prf:proof}
# $D_{ij}^2 = r_i^2 + r_j^2$. If $x_i$ and $x_j$ are joined at scale $\epsilon$, then $r_1^2 + r_i^2$ and
# $r_1^2 + r_j^2$ are at most $\epsilon^2$ too: both are joined to $x_1$. So every simplex with an edge
# stays a simplex when $x_1$ is added. The points that are joined to anything form a cone with tip $x_1$,
# and a cone has no loop. The others are alone; each joins at its distance to $x_1$.
# ```

# %%
lengths = np.sort(rng.uniform(1, 3, size=n))
axes_of_space, _ = np.linalg.qr(rng.normal(size=(d, min(n, d))))
orthogonal = lengths[: min(n, d), None] * axes_of_space.T
bars = persistence(orthogonal)
assert len(bars[1]) == 0
assert np.allclose(bars[0][:-1, 1], np.hypot(lengths[0], lengths[1 : len(orthogonal)]))

# %% [markdown]
# Gaussian noise has nearly equal lengths, and which pair is a little closer is decided by chance inner
# products: that is where its loops come from. Once lengths differ by more than chance does, the shortest
# vectors become hubs that everything else joins first, and loops are filled as they form. Fewer loops and
# longer $H_0$ bars are what any cloud shows whose vectors grow at different speeds. A count above that of
# random directions with the same lengths, if there is one in {numref}`fig-yardstick`, is structure that the
# lengths do not explain.
#
# How long are the loops? The longest $H_1$ bar at any check is {glue:text}`single-longest:.1%` of the
# mean distance (ten: {glue:text}`multi-longest:.1%`). By the stability theorem of
# {doc}`02_homology_of_a_prompt` a shift of every point by less than a quarter of a bar's length can not
# remove it, and one by not much more may. "Redundant
# inference paths" is a heavy name for them.
#
# ## Figure 3: density and entropy
#
# The paper wants to exclude that loops vanish because points crowd together, and compares a density of
# points with a density of loops. It defines neither; here density is $n$ over the mean distance, and
# $H_1$ density the $H_1$ count over $n$.

# %% mystnb={"image": {"alt": "Two panels over epochs for the single problem and for ten: left, point density and H1 density; right, persistence entropy."}, "figure": {"caption": "The paper's Figure 3 from our runs: (a) point density and $H_1$ density, (b) persistence entropy.", "name": "fig-density"}} tags=["hide-input"]
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
    glue(f"{regime}-entropy-drop", float(drop), display=False)
    glue(f"{regime}-h0-drop", float(of_h0[0] - of_h0[1]), display=False)
    glue(f"{regime}-loops-drop", float(drop - of_h0[0] + of_h0[1]), display=False)
    glue(f"{regime}-bars-first", int(bars.iloc[0]), display=False)
    glue(f"{regime}-bars-last", int(bars.iloc[1]), display=False)

# %% [markdown]
# In the paper the density of points shows "only a minimal reduction". Here it changes by
# {glue:text}`single-density:+.0%` (single) and {glue:text}`multi-density:+.0%` (ten): the prompt moves a
# long way compared with its start, and not only outwards. The entropy changes by
# {glue:text}`single-entropy-change:+.1%` and {glue:text}`multi-entropy-change:+.1%`, while the number of
# finite bars goes from {glue:text}`single-bars-first:d` to
# {glue:text}`single-bars-last:d` and from {glue:text}`multi-bars-first:d` to
# {glue:text}`multi-bars-last:d`. It falls (a minus: rises) by {glue:text}`single-entropy-drop:.3f` nats
# in the single run: {glue:text}`single-loops-drop:+.3f` by the loops, {glue:text}`single-h0-drop:+.3f` by
# the evenness of the $H_0$ bars (ten: {glue:text}`multi-entropy-drop:.3f`,
# {glue:text}`multi-loops-drop:+.3f` and {glue:text}`multi-h0-drop:+.3f`). "The large number of $H_0$
# features" keeps the entropy up, then, by
# arithmetic: $n - 1$ even bars have $\log(n - 1)$, trained or not.
#
# ## Exercises
#
# ```{exercise} Density and lifespan
# :label: ex-density
# With density $n / \bar D$ as above, show that the mean $H_0$ lifespan is a scale-free number times $n$
# over the density. What follows for a prompt whose density falls?
# ```
#
# ```{solution-start} ex-density
# :class: dropdown
# ```
# $\bar l = (\bar l / \bar D) \cdot n / (n / \bar D)$. As long as the first factor hardly moves,
# "lifespans grow" and "density falls" are one observation, so Figure 2 (a) and Figure 3 (a) are not two
# pieces of evidence.

# %%
seen = pair["single"].topology
density = n / seen.mean_distance
assert np.allclose(seen.h0_mean_lifespan, seen.h0_mean_lifespan_scaled * n / density)
rho = spearman(seen.h0_mean_lifespan, density).statistic
print(f"rank correlation of lifespan and density over the run: {rho:.3f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Loops per point
# :label: ex-loops-per-point
# $H_1$ density divides the number of loops by $n$. Is that a fair comparison between prompts of different
# lengths? Try noise of 20, 40 and 80 points.
# ```
#
# ```{solution-start} ex-loops-per-point
# :class: dropdown
# ```
# No: noise has more loops per point, the more points there are.

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
# Each claim has a rule ({doc}`20_rules`), and is decided from units: one problem, or one set of ten.
# {glue:text}`same-start` It takes at least {glue:text}`fewest:d` units that agree to decide a claim about direction, and
# more after Holm within the family.

# %% tags=["hide-input"]
glue("same-start", tables.same_start(store, protocol=protocol), display=False)
glue("fewest", FEWEST, display=False)
glue("model-note", pair["single"].record["model_note"], display=False)
of_chapter = [claim.id for claim in CLAIMS if claim.family == "phenomenon"]
verdicts = tables.chapter_claims(store, of_chapter)
verdicts.style.hide(axis="index").set_table_attributes('class="table stacked"')

# %% [markdown]
# What these runs can show: how one small model behaves ({glue:text}`model`: {glue:text}`model-note`), on
# the units counted above. What they can not: whether Gemma-2B-IT moves in the same way
# at the paper's own learning rate. That needs the model and a GPU
# (`-p model gemma-2b-it -p protocol paper -p data hub -p epochs 300`). What holds for any model is the
# arithmetic: a count that can
# not change, a length that grows with the cloud, and loops that vanish when vectors become unequally long.
