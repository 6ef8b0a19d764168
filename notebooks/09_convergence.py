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
# Does TSLoss shorten training? Table 3, the paper's main result, says so: with TSLoss at weight 1 a soft prompt needs fewer iterations until the
# frozen model answers its training problems correctly, in the best cells about half as many {cite}`anonymous-topology`.
#
# This chapter compares pairs of runs that differ in TSLoss alone. Their median ratio of iterations, with its simultaneous interval, is
# {glue:text}`all-ratio`. Two yardsticks show what such a ratio means: how far rounding alone moves a run, and what a push without meaning does.
#
# ```{admonition} After this chapter you can
# :class: tip
# compare times of which some are known only to exceed a bound.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
protocol: str = "tuned"

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.records import deciding, load_losses, load_runs, load_topology
from tsp.analysis.stats import median_interval, paired_ratio
from tsp.analysis.studies import at_last, noise_floor, study
from tsp.analysis.tables import TASK_NAMES
from tsp.analysis.units import PAIR, units
from tsp.analysis.verdicts import contrasts
from tsp.book.pages import (
    FORMATS,
    MISSING,
    check_parameters,
    comparison,
    interval,
    missing,
    probability,
    stacked,
    table,
)
from tsp.experiments.paper import ALPHA, reported
from tsp.figures import paper_figures as figures
from tsp.figures.paper_figures import METHOD_COLORS, counted
from tsp.store.runs import Store

check_parameters(globals())

figures.style()
store = Store(runs)

# %% [markdown]
# ## What is counted
#
# Every second epoch training pauses, and the model answers with the current prompt by greedy decoding. A scorer for each benchmark decides whether
# the answer is right. The count is the first such check at which *all* training problems are answered correctly. Training continues after that
# check, so that loss and topology can be followed ({doc}`10_when_tsloss_acts`). The paper counts "iterations", which may be epochs or optimiser
# steps: with one problem they are the same, but ten problems at batch size 8 take two steps per epoch. This book counts epochs, and each run stores
# both.
#
# The store has these runs, of all settings and experiments:

# %% tags=["hide-input"]
inventory = tables.trained(store).drop(columns="methods").replace({"task": TASK_NAMES})
names = {"epochs": "longest run, epochs", "solved": "runs solved", "minutes": "minutes in all"}
inventory = inventory.rename(columns=names)
table(inventory.set_index(["model", "protocol"]), {"minutes in all": "{:.1f}"})

# %% [markdown]
# ## Loss curves: Figure 5
#
# The paper plots $L_\text{total} = L_\text{ce} + \lambda_\text{ts} L_\text{ts}$ with TSLoss against $L_\text{ce}$ without. These are different
# quantities, so a dotted line also shows the cross-entropy of the runs with TSLoss.

# %% mystnb={"image": {"alt": "Training loss over epochs on a logarithmic axis, one panel for each model, task and regime; a grey line without TSLoss, a green line with it, a dotted line for its cross-entropy."}, "figure": {"caption": "With TSLoss (dotted) the cross-entropy, averaged over epochs, is {glue:text}`loss-ratio` times that without (grey): the median over problems and sets of ten, with its simultaneous interval. The paper's Figure 5 from our runs: the loss that is minimised, without and with TSLoss. Thick: median over runs; thin: single runs.", "name": "fig-losses"}} tags=["hide-input"]
figures.figure5(store, protocol=protocol)

# %% [markdown]
# ## Table 3
#
# The paper's cells come first, ours below them. *Standard* is training with the cross-entropy alone. Each of our cells is the median over problems,
# or over sets of ten; `>E` means that it lies above E, the number of epochs. The row *units* counts those problems or sets. Rows marked *yours* are
# runs that are not published, such as those that `make book` trains; they decide nothing where there are published runs. Problems that the untrained
# prompt already solves cannot be sped up; they are counted separately, as “+k at start”.

# %% tags=["hide-input"]
both_tables = tables.table3(store, protocol=protocol).reset_index("where")
where, model_names = both_tables.pop("where"), both_tables.index.get_level_values("model")
both_tables.index = [where + ": " + model_names, both_tables.index.get_level_values("method")]
for regime in both_tables.columns.unique("regime"):
    half = both_tables[[regime]]
    display(table(half[half.ne(MISSING).any(axis=1)]))

# %% tags=["remove-cell"]
cells = reported("table3").set_index(["model", "regime", "task", "method"]).iterations.unstack()
grid = 2
assert (cells % grid == 0).all(axis=None)
one_check = int((cells.ce - cells.tsloss == grid).sum())
printed = paired_ratio(cells.ce, cells.tsloss, cap=cells.max(axis=1))
glue("cells", len(cells), display=False)
glue("cells-won", printed.wins, display=False)
glue("cells-tied", printed.ties, display=False)
glue("cells-lost", printed.losses, display=False)
glue("one-check", one_check, display=False)
longest = cells.nlargest(3, "ce")
saved = (1 - longest.tsloss / longest.ce).agg(["min", "max"])
glue("long-counts", f"{longest.ce.min():.0f} to {longest.ce.max():.0f}", display=False)
glue("long-savings", f"{100 * saved['min']:.0f} to {saved['max']:.0%}", display=False)
glue("paper-ratio", printed.median_ratio, display=False)

# %% [markdown]
# In the paper's own table TSLoss is faster in {glue:text}`cells-won:d` of {glue:text}`cells:d` cells and slower in {glue:text}`cells-lost:d`, with
# {glue:text}`cells-tied:d` equal. The median ratio is {glue:text}`paper-ratio:.2f`. But in {glue:text}`one-check:d` of the {glue:text}`cells:d`
# cells the saving is a single check, the smallest that can be seen. The three cells with the largest counts ({glue:text}`long-counts`) save
# {glue:text}`long-savings`, which the interval between checks does not explain. The cells are not independent: they share one set of problems, three
# models and one initialisation scheme. (Ours share one initial prompt for each seed.)
# Could the differences in our cells be due to chance? The next table tests each cell.
#
# - A unit is one problem or one set of ten. Its value is the median over an odd number of seeds; an unsolved run ranks last. The row *all* pools the
#   cells of one model, the one with the most units ({glue:text}`model`).
# - *Never* counts units that neither run solves; they are among the ties (*same*). *Start* counts units that the untrained prompt already solves;
#   they are excluded.
# - The *ratio* of epochs has an interval from order statistics over units. The first p comes from the exact sign test, the second from Wilcoxon's
#   signed-rank test {cite}`wilcoxon1945individual` on log ratios, where an unsolved run counts at its length; each is also corrected by Holm's method over the cells {cite}`holm1979simple`.
# - The *detectable share* is the smallest share of wins that the sign test detects with a power of 80 % at the level 0.05, uncorrected. A cell with
#   a dash has too few units that differ to detect anything.


# %% tags=["hide-input"]
def with_holm(p, corrected):
    """Write p-values, and those after Holm's correction in brackets."""
    return [
        MISSING if pd.isna(one) else probability(one) + f" ({probability(two)})" * pd.notna(two)
        for one, two in zip(p, corrected, strict=True)
    ]


tested = tables.table3_tests(store, protocol=protocol)
columns = {
    "units": tested.n,
    "faster": tested.wins,
    "same": tested.ties,
    "slower": tested.losses,
    "never": tested.never,
    "start": tested.at_start,
    "ratio": list(map(interval, tested.ratio, tested.low, tested.high)),
    "p (Holm)": with_holm(tested.p, tested.p_holm),
    "p, ranks (Holm)": with_holm(tested.p_rank, tested.p_rank_holm),
    "detectable share": tested.shows,
}
names = tested.task.replace(TASK_NAMES) + " " + tested.regime
cell_tests = pd.DataFrame(columns).set_axis([tested.model, names.str.strip()])
formats = FORMATS | {"detectable share": "{:.0%}", "p (Holm)": None}
narrow = {"selector": "tbody th.level0", "props": "min-width: 0 !important"}
shown = table(cell_tests, formats).set_table_styles([narrow], overwrite=False)
shown if len(tested) else missing("tsp sweep table3")

# %% [markdown]
# ## Unit by unit
#
# The two runs of a pair start from the same initial prompt, see the problems in the same order, and differ in TSLoss alone. Each symbol below is a
# unit, which may have pairs of several seeds.

# %% mystnb={"image": {"alt": "A scatter plot: iterations without TSLoss across, with TSLoss upwards, one symbol per unit, coloured by data set. The points lie on both sides of the diagonal. Triangles at the edges are runs that were not solved."}, "figure": {"caption": "TSLoss is faster in {glue:text}`first-wins:d` units (below the diagonal) and slower in {glue:text}`first-losses:d`; the median ratio is {glue:text}`first-ratio:.2f`, that of the paper's Table 3 {glue:text}`paper-ratio:.2f` (dashed). First epoch at which all answers are right, one symbol per unit. Grey band: the median distance by which rounding alone moves a run. Triangles: not solved within the epochs counted.", "name": "fig-pairs"}} tags=["hide-input"]
both = tables.pairs(store, protocol=protocol)
if len(both):  # published runs, of the model with the most
    both = both[both.origin == both.origin.iloc[0]]
    both = both[both.model == both.model.mode()[0]]
trained = both[~both.solved_at_start.astype(bool)]
fig, ax = plt.subplots(figsize=(5.4, 5.4), layout="constrained")
edge = float(trained.length.max()) if len(trained) else 1.0
drawn = trained[["standard", "tsloss"]].astype(float).clip(upper=edge)
for name, rows in trained.groupby("task", sort=False):
    x, y = (drawn.loc[rows.index, side] for side in drawn)
    never = np.isinf(rows[[*drawn]].astype(float)).any(axis=1)
    marker = "osDvPX"[[*TASK_NAMES].index(name)]
    (dots,) = ax.plot(x[~never], y[~never], marker, alpha=0.7, ls="", label=TASK_NAMES[name])
    ax.plot(x[never], y[never], "^", color=dots.get_color())
line = np.geomspace(min(edge, drawn.min().min()) / 1.2, edge * 1.1)
floor = noise_floor(store, protocol=protocol)
if len(floor):
    half = floor.floor.median()
    ax.fill_between(
        line, np.maximum(line - half, line[0]), line + half, color="0.9", label="rounding alone"
    )
ax.plot(line, line, color="0.5", lw=1)
ax.plot(line, line * printed.median_ratio, color="0.5", lw=1, ls="--", label="printed ratio")
ax.set(xscale="log", yscale="log", xlabel="epochs, Standard", ylabel="epochs, +TSLoss")
ax.xaxis.set_major_formatter("{x:g}")
ax.yaxis.set_major_formatter("{x:g}")
ax.legend()
sns.despine(fig)

# %% tags=["remove-cell"]
none = pd.Series(0, index=tested.columns)
for name, tests in (
    ("first", tested),
    ("stays", tables.table3_tests(store, protocol=protocol, sustained=True)),
):
    pooled = tests.iloc[-1] if len(tests) else none
    for column in ("n", "wins", "ties", "losses"):
        glue(f"{name}-{column}", int(pooled[column]), display=False)
    for column in ("ratio", "low", "high", "p"):
        glue(f"{name}-{column}", float(pooled[column]), display=False)
    said = "faster more often" if pooled.wins > pooled.losses else "slower more often"
    said = said if pooled.n and pooled.p < ALPHA else "not shown to be faster or slower"
    glue(f"{name}-reading", said, display=False)
low, high = (float(tested.iloc[-1][end]) if len(tested) else np.nan for end in ("low", "high"))
firm = [low > printed.median_ratio, low > 0.9 and high < 1.1]
does = ("does neither", "does only one of these", "does both")[sum(firm)]
firm = f"The interval for all units, {low:.2f} to {high:.2f}, {does}"
glue("firm", firm if low <= high else "There are too few units for an interval", display=False)
sides = trained[["standard", "tsloss"]].astype(float)
glue("at-start", int(tested.iloc[-1].at_start) if len(tested) else 0, display=False)
glue("censored", int(np.isinf(sides).sum().sum()), display=False)

# %% [markdown]
# These are the {glue:text}`first-n:d` units of the model with the most runs, without the {glue:text}`at-start:d` that are solved before training;
# {glue:text}`first-ties:d` are ties. By the sign test, TSLoss is {glue:text}`first-reading` ($p$ = {glue:text}`first-p:.2g`).
# A first right answer may be lost again at a later check. If we count to the first check from which the answer stays right, TSLoss is faster in
# {glue:text}`stays-wins:d` units and slower in {glue:text}`stays-losses:d`, with {glue:text}`stays-ties:d` ties ({glue:text}`stays-reading`,
# $p$ = {glue:text}`stays-p:.2g`) and a median ratio of {glue:text}`stays-ratio:.2f` ({glue:text}`stays-low:.2f` to {glue:text}`stays-high:.2f`).
#
# Two notes on reading these numbers:
#
# - **A null result can be firm.** An interval above the ratio that the paper prints excludes the printed effect, even if a smaller one remains
#   possible; an interval within ±10 % of 1 excludes a median effect above 10 %, not one of single units. {glue:text}`firm`. (Many ties can leave it no width.)
# - **Censoring.** {glue:text}`censored:d` of the values behind these numbers are censored: the problem was not solved, so it takes *more* epochs
#   than the run has, and how many more is unknown. Leaving such runs out would drop exactly the slow ones; counting them at their length understates
#   them. The sign of a pair is known as soon as one of its runs solves the problem, so the test uses signs. The median ratio counts an unsolved run
#   at its length, which draws the ratio towards 1; for the ends of the interval the ratio of such a pair counts as 0 or ∞ instead.
#
# (noise-floor)=
# ## The noise floor
#
# Training is sensitive: a tiny difference between two runs grows until they are solved at different epochs. How far does a difference without any
# meaning move the count? The experiment `rounding` computes the same Standard run in the other precision (bfloat16 or float32), with another number
# of threads, and alone instead of in a {term}`bank`. Nothing but rounding differs.

# %% mystnb={"image": {"alt": "For each unit the absolute difference in iterations from the planned run: grey symbols for other ways of computing the same run, a green diamond for TSLoss."}, "figure": {"caption": "{glue:text}`floor-says` How far the iterations of each unit move, one row per unit. Grey: the same Standard run computed in another way; green: with TSLoss.", "name": "fig-noise"}} tags=["hide-input"]
floor_figure = missing("tsp sweep rounding --profile full")
if len(floor):
    fig, ax = plt.subplots(figsize=(7.2, 1 + 0.28 * len(floor)), layout="constrained")
    ranked = floor.sort_values(["floor", "tsloss"]).reset_index()
    number = both.drop_duplicates("content").set_index("content").problem
    names = [f"{TASK_NAMES[row.task]} {number.get(row.content, '')}" for row in ranked.itertuples()]
    labels = ("other precision", "other number of threads", "alone, not in a bank")
    ways = zip("os^", ("precision", "threads", "bank"), labels, (-0.3, -0.1, 0.1), strict=True)
    for marker, name, label, shift in ways:  # shifted, so that equal values do not hide each other
        ax.plot(ranked[name], ranked.index + shift, marker, color="0.6", label=label)
    ax.plot(ranked.tsloss, ranked.index + 0.3, "D", color=METHOD_COLORS["tsloss"], label="TSLoss")
    for row in ranked.index[::2]:
        ax.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)
    ax.set_yticks(ranked.index, names)
    ax.set_xlabel("distance from the planned Standard run, epochs")
    ax.legend()
    sns.despine(fig)
    floor_figure = fig
    plt.close(fig)
floor_figure

# %% tags=["remove-cell"]
floor_result = "No unit has been trained in all of these ways yet, so the noise floor is unknown."
floor_says = floor_result
if len(floor):
    beyond = contrasts({"tsloss": floor.tsloss - floor.floor}).iloc[0]
    decided = "" if beyond.p < 0.05 else ": undecided"
    floor_result = (
        f"Over {counted(floor, 'unit')}, rounding alone moves the iterations by a median of "
        f"{interval(floor.floor.median(), *median_interval(floor.floor), 1)} epochs and TSLoss by "
        f"{interval(floor.tsloss.median(), *median_interval(floor.tsloss), 1)}. The floor of a unit is the median of the three "
        f"grey distances; for the comparison in the caption the sign test gives p = {beyond.p:.2g}{decided}."
    )
    floor_says = f"TSLoss exceeds the rounding floor in {beyond.above} of {counted(floor, 'unit')} and falls short in {beyond.below}{decided}."
glue("floor-result", floor_result, display=False)
glue("floor-says", floor_says, display=False)

# %% [markdown]
# {glue:text}`floor-result`
#
# ## A push without meaning
#
# Would any other push do as well as TSLoss? In the experiment `sham`, a sham gradient takes the place of TSLoss's. At every step the sham is
# TSLoss's gradient at the current prompt with its $d$ coordinates permuted and some of their signs flipped, in the same way at every step. Its
# length, the angles between its vectors and its dependence on the prompt remain, but it no longer points to a lower TSLoss. The table compares
# Standard and TSLoss with the sham; {doc}`14_choices` explains the columns.

# %% tags=["hide-input"]
arms = study(
    store,
    [],
    base={"method": "sham", "lambda_ts": 1.0},
    methods=("ce", "tsloss", "sham"),
    protocol=protocol,
    model=model,
    experiment="sham",
)
has_sham = len(arms) > 0 and arms.arm.str.startswith("sham").any()
table(comparison(arms), FORMATS) if has_sham else missing("tsp sweep sham --profile full")

# %% tags=["remove-cell"]
sham_result = "The sham has not been trained yet."
if has_sham:
    records, length = deciding(load_runs(store))
    trio = dict(PAIR) | {"sham": {"method": "sham", "lambda_ts": 1.0}}
    chosen = units(records[records.seed == 1], trio, protocol=protocol, length=length)
    ends = at_last(chosen, load_topology(store), "h1_count", length=length)
    differences = {"TSLoss − sham": ends.tsloss - ends.sham, "sham − none": ends.sham - ends.ce}
    direction, push = (row for _, row in contrasts(differences).iterrows())
    norms = load_losses(store).groupby("id").grad_reg.sum()
    norms = chosen.assign(norm=[norms[list(ids)].median() for ids in chosen.ids]).pivot(
        index="content", columns="arm", values="norm"
    )
    stronger = (norms.sham / norms.tsloss).median()
    ratio = arms[arms.arm.str.startswith("tsloss")].iloc[0]
    speed = "Whether the direction of TSLoss's gradient matters for speed is undecided: the interval contains 1 and extends beyond ±10 % of it."
    if ratio.low > 1 or ratio.high < 1:
        speed = "So its direction matters for speed."
    elif ratio.low >= 0.9 and ratio.high <= 1.1:
        speed = "So its direction changes the number of epochs by at most 10 %: the interval lies within ±10 % of 1."
    matters = direction.p < 0.05
    sham_result = (
        f"Over {counted(ends, 'problem')}, TSLoss needs {interval(ratio.ratio, ratio.low, ratio.high)} times the sham's "
        f"iterations. {speed} {'The direction matters for loops' if matters else 'Whether the direction matters for loops is undecided'}: at the last "
        f"check TSLoss has more loops than the sham in {direction.above} problems and fewer in {direction.below} (sign test, "
        f"p = {direction.p:.2g}). The median number of loops (the table has means) is {ends.ce.median():g} without a push, {ends.sham.median():g} with "
        f"the sham and {ends.tsloss.median():g} with TSLoss. Compared with Standard, the sham has more loops in {push.above} "
        f"problems and fewer in {push.below} (sign test, p = {push.p:.2g}). Descending TSLoss shortens its gradient; following the sham does not. Over all "
        f"epochs the norms of the sham's gradient add up to {stronger:.1f} times those of TSLoss's (median over problems)."
    )
    if matters and stronger > 1 and direction.above > direction.below:
        sham_result += " So the sham pushes harder and still leaves fewer loops: a stronger push does not by itself leave more."
glue("sham-result", sham_result, display=False)

# %% [markdown]
# {glue:text}`sham-result`
#
# If a meaningless push of the same initial size were as fast, a faster run would be no evidence for TSLoss. Only an interval of the ratio to the
# sham that excludes 1 is evidence that the direction of TSLoss's gradient matters for speed.
#
# ## Exercises
#
# ```{exercise} How many pairs?
# :label: ex-how-many
# Suppose that all pairs favour TSLoss. How many pairs does a two-sided sign test need for $p < 0.05$, and how many for $p < 0.001$?
# ```
#
# ```{solution-start} ex-how-many
# :class: dropdown
# ```
# With all $k$ pairs on one side, $p = 2 \cdot 2^{-k}$. It is below 0.05 for $k \ge 6$ and below 0.001 for $k \ge 11$.

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
# Correctness is checked every two epochs, and the count falls from 4 to 2. Which ratios of the true times are compatible with these counts? In how
# many cells of the paper's table may the true saving be less than half an epoch?
# ```
#
# ```{solution-start} ex-four-two
# :class: dropdown
# ```
# A count of 4 means a time in $(2, 4]$ and a count of 2 a time in $(0, 2]$, so any ratio below 1 is compatible. When the counts differ by one check,
# the times lie in neighbouring intervals and may be arbitrarily close. Equal counts allow a saving or a loss.

# %%
low_standard, high_treated = cells.ce - grid, cells.tsloss  # least time without, greatest with
close = (low_standard - high_treated) < 0.5
assert close.sum() == one_check + printed.ties
print(f"{close.sum()} of {len(cells)} cells")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Leaving out the slow ones
# :label: ex-censoring
# Let times be exponential, let the treated runs be twice as slow, and let training end at a cap. In what share of pairs is the treated run first (a)
# among all pairs, (b) among pairs in which both runs are solved before the cap?
# ```
#
# ```{solution-start} ex-censoring
# :class: dropdown
# ```
# Of two exponential times with means 40 and 80, the second is shorter with probability $1/3$. Among pairs with both times below the cap, the slow
# runs are missing and the share comes closer to one half. Leaving out censored pairs hides the harm.

# %%
rng = np.random.default_rng(0)
standard, treated = rng.exponential(40, 20_000), rng.exponential(80, 20_000)
first = treated < standard
both_solved = np.maximum(standard, treated) < 60
assert abs(first.mean() - 1 / 3) < 0.02
assert first[both_solved].mean() > first.mean() + 0.05
print(f"all pairs: {first.mean():.2f}; both solved: {first[both_solved].mean():.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# The rules, and how they changed, are in {doc}`20_rules`. Intervals are wider than above, because all intervals of a family hold simultaneously with
# 95 % confidence. The first claim excludes units that neither run solves, so it can have fewer units than the table above. The claim about loops is
# in {doc}`10_when_tsloss_acts`.

# %% tags=["hide-input"]
speed_claims = [
    claim.id
    for claim in CLAIMS
    if claim.needs in ("table3", "figure5") and claim.id != "tsloss-simpler-topology"
]
verdicts = tables.chapter_claims(store, speed_claims)
glue("model", model, display=False)
for key, which in (("loss", "tsloss-lower-loss"), ("all", "tsloss-fewer-iterations")):
    shown = verdicts.effect[which].rpartition(": ")[2]
    glue(f"{key}-ratio", tables.typeset(shown), display=False)
stacked(verdicts)

# %% [markdown]
# Nearly all of these runs are of one small model, {glue:text}`model`. Testing the paper's own cells requires its models; detecting a small effect
# requires more problems.
