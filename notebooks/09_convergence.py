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
# # Convergence
#
# The paper's main result is Table 3: with TSLoss at weight 1 a soft prompt needs fewer iterations until
# the frozen model answers its training problems right, in the best cells about half
# {cite}`anonymous-topology`. This chapter sets pairs of runs beside each other that differ in TSLoss
# alone, and asks how much of a difference such a table can show at all: it counts in steps of two, some
# runs never arrive, and two trainings that differ in anything drift apart.
#
# ```{admonition} After this chapter you can
# :class: tip
# compare times of which some are only known to be long.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = "gsm8k"  # of the runs that are looked at one by one
problem: int = 0
protocol: str = "tuned"
seed: int = 0
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of runs that the store lacks: they are trained now

# %% tags=["hide-input"]

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.records import deciding, load_losses, load_runs, load_topology
from tsp.analysis.stats import FEWEST, paired_ratio
from tsp.analysis.studies import at_last, noise_floor, study
from tsp.analysis.tables import TASK_NAMES
from tsp.analysis.units import PAIR, units
from tsp.analysis.verdicts import contrasts
from tsp.book.pages import FORMATS, as_text, check_parameters, comparison, interval, missing, table
from tsp.experiments.find_or_train import find_together
from tsp.experiments.paper import reported
from tsp.figures import paper_figures as figures
from tsp.figures.paper_figures import METHOD_COLORS
from tsp.store.runs import Store
from tsp.training.spec import RunSpec

check_parameters(globals())

figures.style()
NARROW = {"selector": "th, td", "props": "padding: 0.3em 0.5em"}

# %% [markdown]
# ## What is counted
#
# Every second epoch training pauses and the model answers, by greedy decoding, with the prompt as it is.
# The benchmark's own scorer decides whether the answer is right. The count is the first such check at
# which *all* training problems are right; training goes on afterwards, so that loss and topology can be
# followed ({doc}`10_when_tsloss_acts`). The paper counts "iterations", which may be epochs or optimiser steps. With one problem they
# are the same; with ten, at batch size 8, an epoch is two steps. Here it is epochs, and each run stores
# both.
#
# What the store holds:

# %% tags=["hide-input"]
store = Store(runs)


common = {
    "model": model,
    "task": task,
    "regime": "single",
    "problem": problem,
    "seed": seed,
    "epochs": epochs,
}
wanted = {
    "ce": RunSpec(**common, protocol=protocol, method="ce", lambda_ts=0.0),
    "tsloss": RunSpec(**common, protocol=protocol, method="tsloss", lambda_ts=1.0),
}
found = find_together(store, list(wanted.values()), data=data, prompts=False)
pair = dict(zip(wanted, found, strict=True))
glue("model", model, display=False)
glue("protocol", protocol, display=False)
glue("model-note", pair["ce"].record["model_note"], display=False)
held = tables.trained(store).drop(columns="methods").set_index(["model", "protocol"])
as_text(held).style.set_table_attributes('class="dataframe"').set_table_styles([NARROW]).format(
    {"minutes": "{:.1f}"}
)

# %% [markdown]
# ## Loss curves: Figure 5
#
# The paper plots $L_\text{total} = L_\text{ce} + \lambda_\text{ts} L_\text{ts}$ with TSLoss against
# $L_\text{ce}$ without. The two are not one quantity, so the dotted line shows what of the first is
# cross-entropy.

# %% mystnb={"image": {"alt": "Training loss over epochs on a logarithmic axis, one panel for each model, task and regime; a grey line without TSLoss, a green line with it, a dotted line for its cross-entropy."}, "figure": {"caption": "The paper's Figure 5 from our runs: the loss that is minimised, without and with TSLoss. Thick: median over problems; thin: single runs; dotted: the cross-entropy in the runs with TSLoss.", "name": "fig-losses"}} tags=["hide-input"]
figures.figure5(store, protocol=protocol)

# %% [markdown]
# ## Table 3
#
# The paper's cells, and ours below them. A cell of ours is the median over problems; `>E` means that the
# median problem was not solved within E epochs; problems that the untrained prompt already solves have
# nothing to speed up and are counted apart.

# %% tags=["hide-input"]
shown = tables.table3(store, protocol=protocol).reset_index("where")
where, model_names = shown.pop("where"), shown.index.get_level_values("model")
shown.index = [where + ": " + model_names, shown.index.get_level_values("method")]
shown.index.names = shown.columns.names = [None, None]
as_text(shown).style.set_table_attributes('class="dataframe"').set_table_styles([NARROW])

# %% tags=["remove-cell"]
cells = reported("table3").set_index(["model", "regime", "task", "method"]).iterations.unstack()
grid = 2
assert (cells % grid == 0).all(axis=None)
one_check = int((cells.ce - cells.tsloss == grid).sum())
of_paper = paired_ratio(cells.ce, cells.tsloss, cap=cells.max(axis=1))
glue("cells", len(cells), display=False)
glue("cells-won", of_paper.wins, display=False)
glue("cells-tied", of_paper.ties, display=False)
glue("cells-lost", of_paper.losses, display=False)
glue("one-check", one_check, display=False)
glue("paper-ratio", of_paper.median_ratio, display=False)
glue("paper-best", float((cells.tsloss / cells.ce).min()), display=False)
halved = cells[cells.tsloss <= cells.ce / 2]
glue("paper-half", len(halved), display=False)
glue("paper-half-most", int(halved.ce.max()), display=False)

# %% [markdown]
# The paper's own table first. TSLoss is faster in {glue:text}`cells-won:d` of {glue:text}`cells:d` cells,
# slower in {glue:text}`cells-lost:d`, and even in {glue:text}`cells-tied:d`; the median ratio is
# {glue:text}`paper-ratio:.2f`. But every count is even, which says that correctness was checked every
# second iteration, and in {glue:text}`one-check:d` of the {glue:text}`cells:d` cells the saving is a
# single check, the smallest that can be seen. {glue:text}`paper-half:d` cells are halved, all of them
# from a count of {glue:text}`paper-half-most:d` or less. And the cells are not independent: one set of
# problems, three models, one initialisation scheme. (Ours share an initial prompt per seed.)
#
# Is the difference more than chance, cell by cell? A unit is one problem or one set of ten; its value is the median over an
# odd number of seeds, and an unsolved run ranks last. *Never* counts units that neither run solves, which are ties; those that
# an untrained prompt answers are excluded (*start*). The ratio of epochs comes with a bootstrap interval over units; p is the
# exact sign test's, then Wilcoxon's signed-rank test's {cite}`wilcoxon1945individual` on log ratios, each also after Holm over
# the cells {cite}`holm1979simple`. The last column is the share of wins that as many units that differ would have shown with a
# power of 80 %: a cell with a dash could not have shown anything.

# %% tags=["hide-input"]
tested = tables.table3_tests(store, protocol=protocol)


def as_shown(tested):
    """The columns of a table of tests."""
    shown = {
        "n": tested.n,
        "sooner": tested.wins,
        "same": tested.ties,
        "later": tested.losses,
        "never": tested.never,
        "start": tested.at_start,
        "ratio": [interval(*it) for it in zip(tested.ratio, tested.low, tested.high, strict=True)],
        "p": tested.p,
        "p (Holm)": tested.p_holm,
        "p (ranks)": tested.p_rank,
        "ranks (Holm)": tested.p_rank_holm,
        "shows": tested.shows,
    }
    names = tested.model + ", " + tested.task.replace(TASK_NAMES) + " " + tested.regime
    return pd.DataFrame(shown).set_axis(names.str.strip(", "))


small = dict.fromkeys(("p", "p (Holm)", "p (ranks)", "ranks (Holm)"), "{:.2g}")
small |= {"shows": "{:.0%}"}
table(as_shown(tested), small) if len(tested) else missing("tsp sweep table3")

# %% [markdown]
# ## Unit by unit
#
# The two runs of a unit start from the same initial prompt and see the problems in the same order; they differ in
# TSLoss alone.

# %% mystnb={"image": {"alt": "A scatter plot: iterations without TSLoss across, with TSLoss upwards, one symbol a unit, coloured by data set. The points lie on both sides of the diagonal. Triangles at the edges are runs that never arrived."}, "figure": {"caption": "First epoch with all answers right, one symbol a unit: Standard across, +TSLoss upwards. Below the diagonal TSLoss is sooner. Grey band: how far rounding alone moves a run, in the median. The dashed line is the median ratio that the paper's Table 3 prints. Triangles: not solved within the epochs read.", "name": "fig-pairs"}} tags=["hide-input"]
both = tables.pairs(store, protocol=protocol)
both = both[both.origin == both.origin.iloc[0]] if len(both) else both
trained = both[~both.solved_at_start.astype(bool)]
fig, ax = plt.subplots(figsize=(5.4, 5.4), layout="constrained")
edge = float(trained.length.max()) if len(trained) else 1.0
for name, rows in trained.groupby("task", sort=False):
    x, y = (np.minimum(rows[side].astype(float), edge) for side in ("standard", "tsloss"))
    never = np.isinf(rows[["standard", "tsloss"]].astype(float)).any(axis=1)
    (dots,) = ax.plot(x[~never], y[~never], "o", alpha=0.7, label=TASK_NAMES[name])
    ax.plot(x[never], y[never], "^", color=dots.get_color())
line = np.geomspace(1.0, edge * 1.1)
floor = noise_floor(store, protocol=protocol)
if len(floor):
    half = floor.floor.median()
    ax.fill_between(
        line, np.maximum(line - half, 1), line + half, color="0.9", label="rounding alone"
    )
ax.plot(line, line, color="0.5", lw=1)
ax.plot(line, line * of_paper.median_ratio, color="0.5", lw=1, ls="--", label="printed ratio")
ax.set(xscale="log", yscale="log", xlabel="epochs, Standard", ylabel="epochs, +TSLoss")
ax.xaxis.set_major_formatter("{x:g}")
ax.yaxis.set_major_formatter("{x:g}")
ax.legend()
sns.despine(fig)

# %% tags=["remove-cell"]
none = pd.Series(0, index=tested.columns)
for name, found in (
    ("first", tested),
    ("stays", tables.table3_tests(store, protocol=protocol, sustained=True)),
):
    every = found.iloc[-1] if len(found) else none
    for column in ("n", "wins", "ties", "losses", "never"):
        glue(f"{name}-{column}", int(every[column]), display=False)
    for column in ("ratio", "low", "high", "p"):
        glue(f"{name}-{column}", float(every[column]), display=False)
sides = trained[["standard", "tsloss"]].astype(float)
glue("at-start", int(tested.iloc[-1].at_start) if len(tested) else 0, display=False)
glue("censored", int(np.isinf(sides).sum().sum()), display=False)
glue("fewest", FEWEST, display=False)

# %% [markdown]
# Over {glue:text}`first-n:d` units of the model with the most runs ({glue:text}`at-start:d` more are solved before training and excluded) TSLoss is sooner in
# {glue:text}`first-wins:d`, the same in {glue:text}`first-ties:d` and later in {glue:text}`first-losses:d`. The median ratio is
# {glue:text}`first-ratio:.2f` (95 % bootstrap interval {glue:text}`first-low:.2f` to {glue:text}`first-high:.2f`); the sign test
# gives $p$ = {glue:text}`first-p:.2g`. A first right answer is often lost again at the next check. Counted to the first check
# from which the answer stays right, TSLoss is sooner in {glue:text}`stays-wins:d`, the same in {glue:text}`stays-ties:d` and
# later in {glue:text}`stays-losses:d`, with a median ratio of {glue:text}`stays-ratio:.2f` ({glue:text}`stays-low:.2f` to
# {glue:text}`stays-high:.2f`).
#
# How to read that:
#
# - **A null can be firm.** An interval that lies within ±10 % of 1, or above the ratio that the paper prints, does not leave the
#   question open: it says that the printed effect is not there.
# - **Censoring.** {glue:text}`censored:d` of the values behind these numbers never arrived. Such a run needs *more* than
#   its length; no one knows how much more. To leave it out would drop exactly the slow ones; to count it at its length
#   understates it. The sign of a pair is known as soon as one of the two arrives, so the test uses signs. The ratio counts an
#   unsolved run at its length and is drawn towards 1 by it.
# - **Power.** With {glue:text}`fewest:d` units that all point one way a sign test reaches $p < 0.05$, not with fewer.
#
# ## The noise floor
#
# Training is a sensitive process: two runs that differ in anything drift apart, and one of them is first. How far does a
# difference without any meaning go? The experiment `rounding` computes the same Standard run in other ways, in the
# other precision, with another number of threads, and alone instead of in a bank. Nothing but rounding differs.

# %% mystnb={"image": {"alt": "For each unit the absolute difference in iterations from the planned run: grey dots for other ways of computing the same run, a green dot for TSLoss."}, "figure": {"caption": "How far iterations move: a row a unit. Grey: the same Standard run computed in another way; green: with TSLoss.", "name": "fig-noise"}} tags=["hide-input"]
if len(floor):
    fig, ax = plt.subplots(figsize=(7.2, 1 + 0.28 * len(floor)), layout="constrained")
    ranked = floor.sort_values("floor").reset_index()
    for marker, name in zip("os^", ("precision", "threads", "bank"), strict=True):
        ax.plot(ranked[name], ranked.index, marker, color="0.6", label=f"other {name}")
    ax.plot(ranked.tsloss, ranked.index, "D", color=METHOD_COLORS["tsloss"], label="TSLoss")
    ax.set(xlabel="epochs from the planned Standard run", yticks=[], ylabel="unit")
    ax.legend()
    sns.despine(fig)
    shown = fig
    plt.close(fig)
else:
    shown = missing("tsp sweep rounding --profile full")
shown

# %% tags=["remove-cell"]
told = "No unit has been trained in every way yet, so the floor is not known here."
if len(floor):
    beyond = contrasts({"tsloss": floor.tsloss - floor.floor}).iloc[0]
    told = (
        f"Over {len(floor)} units rounding alone moves the iterations by a median of "
        f"{floor.floor.median():.1f} epochs, TSLoss by {floor.tsloss.median():.1f}. TSLoss moves them by more than the "
        f"unit's own floor in {beyond.above} units and by less in {beyond.below} (sign test, p = {beyond.p:.2g})."
    )
glue("floor-told", told, display=False)

# %% [markdown]
# {glue:text}`floor-told`
#
# ## A push that means nothing
#
# By {doc}`08_tsloss_at_work` TSLoss begins as a tiny part of the force. The sham of the experiment `sham` has everything of TSLoss's
# gradient at the prompt's place but its meaning: its $d$ coordinates are permuted and their signs flipped, in the same way at every
# step, so that its length, the angles between its rows and its steadiness remain. Base: the sham.

# %% tags=["hide-input"]
arms = study(
    store,
    [],
    base={"method": "sham", "lambda_ts": 1.0},
    methods=("ce", "tsloss", "sham"),
    protocol=protocol,
    model=model,
    seeds=(1,),
)
shammed = len(arms) > 0 and arms.arm.str.startswith("sham").any()
table(comparison(arms), FORMATS) if shammed else missing("tsp sweep sham --profile full")

# %% tags=["remove-cell"]
told = "The sham has not been trained yet."
if shammed:
    mine, length = deciding(load_runs(store))
    three = dict(PAIR) | {"sham": {"method": "sham", "lambda_ts": 1.0}}
    chosen = units(mine[mine.seed == 1], three, protocol=protocol, length=length)
    ends = at_last(chosen, load_topology(store), "h1_count", length=length)
    differ = contrasts({"sham": ends.tsloss - ends.sham, "none": ends.sham - ends.ce})
    loops, alone = (row for _, row in differ.iterrows())
    force = load_losses(store).groupby("id").grad_reg.sum()
    forces = chosen.assign(force=[force[list(ids)].median() for ids in chosen.ids]).pivot(
        index="content", columns="arm", values="force"
    )
    ratio = arms[arms.arm.str.startswith("tsloss")].iloc[0]
    speed = "For speed this is undecided: the interval holds 1 and reaches beyond ±10 %."
    if ratio.low > 1 or ratio.high < 1:
        speed = "So its direction matters for speed."
    elif ratio.low >= 0.9 and ratio.high <= 1.1:
        speed = "So its direction does not matter for speed: the interval lies within ±10 % of 1."
    told = (
        f"Over {len(ends)} problems TSLoss needs {interval(ratio.ratio, ratio.low, ratio.high)} times the sham's iterations. "
        f"{speed} For loops its direction {'matters' if loops.p < 0.05 else 'makes no difference that is seen'}: at the last "
        f"check TSLoss has more loops than the sham in {loops.above} problems and fewer in {loops.below} (sign test, "
        f"p = {loops.p:.2g}), with medians of {ends.ce.median():g} without a push, {ends.sham.median():g} with the sham and "
        f"{ends.tsloss.median():g} with TSLoss. The sham brings loops back too, in {alone.above} problems against {alone.below}. "
        f"It is the stronger push of the two: TSLoss shortens its own gradient by following it, and a sham does not, so that the "
        f"norms over all epochs add up to {(forces.sham / forces.tsloss).median():.1f} times TSLoss's (median over problems). "
        f"A weaker push in TSLoss's direction brings back more loops than a stronger one in another."
    )
glue("sham-told", told, display=False)

# %% [markdown]
# TSLoss's direction matters for speed if the interval of its ratio to the sham excludes 1. That a run is first is no evidence
# for its loss as long as a meaningless push, which starts at the same size, does the same. {glue:text}`sham-told`
#
# ## Exercises
#
# ```{exercise} How many pairs?
# :label: ex-how-many
# All pairs favour TSLoss. From how many pairs on is a two-sided sign test below 0.05, and from how many
# below 0.001?
# ```
#
# ```{solution-start} ex-how-many
# :class: dropdown
# ```
# With $k$ pairs on one side $p = 2 \cdot 2^{-k}$, which is below 0.05 from $k = 6$ and below 0.001 from
# $k = 11$.

# %%
p = {k: paired_ratio([4] * k, [2] * k, cap=4).p for k in range(1, 15)}
assert all(np.isclose(value, 2.0 ** (1 - k)) for k, value in p.items())
assert [min(k for k in p if p[k] < level) for level in (0.05, 0.001)] == [6, 11]

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} From four to two
# :label: ex-four-two
# Correctness is checked every two epochs, and the count falls from 4 to 2. Which ratios of the true times
# are compatible with it? In how many cells of the paper's table may the true saving be less than half an
# epoch?
# ```
#
# ```{solution-start} ex-four-two
# :class: dropdown
# ```
# A count of 4 means a time in $(2, 4]$, a count of 2 one in $(0, 2]$: any ratio below 1. When the counts
# differ by one check, the times lie in neighbouring intervals and may be as close as one likes; equal
# counts say nothing either way.

# %%
low_standard, high_treated = cells.ce - grid, cells.tsloss  # least time without, greatest with
close = (low_standard - high_treated) < 0.5
assert close.sum() == one_check + of_paper.ties
print(f"{close.sum()} of {len(cells)} cells")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Leaving out the slow ones
# :label: ex-censoring
# Let the treated runs be twice as slow, with exponential times, and training end at a cap. Compare the
# share of pairs in which the treated run is first (a) among all pairs, (b) among those where both arrive.
# ```
#
# ```{solution-start} ex-censoring
# :class: dropdown
# ```
# Of two exponential times with means 40 and 80 the second is shorter with probability $1/3$. Where both
# are below the cap, the slow ones are gone and the share comes closer to one half: leaving out censored
# pairs hides the harm.

# %%
rng = np.random.default_rng(0)
standard, treated = rng.exponential(40, 20_000), rng.exponential(80, 20_000)
first = treated < standard
both_arrive = np.maximum(standard, treated) < 60
assert abs(first.mean() - 1 / 3) < 0.02
assert first[both_arrive].mean() > first.mean() + 0.05
print(f"all pairs: {first.mean():.2f}; both arrive: {first[both_arrive].mean():.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# The rules, and what changed in them, are in {doc}`20_rules`.

# %% tags=["hide-input"]
of_chapter = [claim.id for claim in CLAIMS if claim.needs in ("table3", "figure5")]
verdicts = tables.chapter_claims(store, of_chapter)
verdicts.style.hide(axis="index").set_table_attributes('class="table stacked"')

# %% [markdown]
# What these runs can show: whether TSLoss makes a visible difference for one small model
# ({glue:text}`model`: {glue:text}`model-note`) on the problems counted above. What they can not:
# the paper's own cells, which need its models (`tsp sweep table3 --profile paper`), and a small effect,
# which needs more problems (`--profile full`).
