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
# # Training, or movement?
#
# A prompt that is trained moves, and a cloud that moves changes its topology whether or not it learns anything.
# Section 2 of the paper {cite}`anonymous-topology` has no control: it watches prompts that are trained on right
# answers and calls what it sees the refinement of inference paths. Two controls take that apart. Prompts that are
# trained just as hard on *wrong* answers learn something, but not the task. And clouds that take steps as long as
# training's in random directions learn nothing at all.
#
# ```{admonition} After this chapter you can
# :class: tip
# build a control for "it is training that does it".
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"
model: str = "smollm2-135m-instruct"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.geometry import gaussian_counts
from tsp.analysis.movement import KINDS, nulls
from tsp.analysis.records import deciding, load_runs, load_topology
from tsp.analysis.studies import study
from tsp.analysis.units import STANDARD, UNIT, comparable, units
from tsp.analysis.verdicts import contrasts, median_interval
from tsp.book.pages import FORMATS, check_parameters, comparison, interval, missing, table
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store

check_parameters(globals())

figures.style()
store = Store(runs)
everything, length = deciding(load_runs(store))
everything = everything[everything.model == model]  # two models would repeat problems
DRAWS = 5  # of each random movement of a run
MARGIN = 0.1  # of a feature's change: two changes that differ by less are taken for equal
ANSWERS = {"right": STANDARD, "wrong": STANDARD | {"wrong_answers": True}}
DIGITS = {"p": "{:.2g}", "p (Holm)": "{:.2g}", "shows": "{:.0%}"}
FEATURES = {
    "h1_count": "H1 bars",
    "h0_mean_lifespan": "H0 lifespan",
    "h0_mean_lifespan_scaled": "H0 / D",
    "persistence_entropy": "entropy",
}

# %% [markdown]
# ## Wrong answers
#
# In the experiment `null` each problem is trained twice more: with the reference answer of another problem, which
# its own scorer counts as wrong. "Right" below means that the model gives the answer it was trained on.

# %% tags=["hide-input"]
wrong = study(
    store, ["wrong_answers"], base={"wrong_answers": False}, protocol=protocol, model=model
)
shown = comparison(wrong)
shown.index = shown.index.str.replace("wrong_answers True", "wrong answers")
table(shown, FORMATS) if len(wrong) > 2 else missing("tsp sweep null")

# %% [markdown]
# Now the topology: what four summaries do from the first check to the last, with right and with wrong answers,
# problem by problem (runs without TSLoss; medians over seeds; 95 % intervals from order statistics take six problems). In
# the last columns: in how many problems the change is larger under wrong answers, the sign test, the same by Holm over
# the features, and the share of equal signs that so many problems show with power 80 %.
#
# That a test finds no difference does not say that there is none. The changes are called *equivalent* when the interval of
# their difference lies within a tenth of the change under right answers, to either side. (Other rules of this book take the same
# tenth; for this one it was chosen after these runs had been seen.)


# %% tags=["hide-input"]
right = units(everything, ANSWERS, protocol=protocol, length=length)
checks = load_topology(store).sort_values("epoch")
checks = checks[checks.epoch <= (length or np.inf)].groupby("id")[list(FEATURES)]
moved = checks.last() - checks.first()  # one row a run
medians, contrast = {}, pd.DataFrame()
if len(right):
    told = right.set_index([*UNIT, "arm"]).ids
    for feature in FEATURES:
        values = [moved[feature].loc[list(ids)].median() for ids in told]
        medians[feature] = pd.Series(values, told.index, dtype=float).unstack("arm")
    contrast = contrasts({it: found.wrong - found.right for it, found in medians.items()})
    contrast = contrast.set_index("name")


def beside(contrast, one, other, digits):
    """Changes on both sides and the test of their difference: one row a contrast."""
    cells = {
        name: {
            it: interval(values.median(), *median_interval(values), digits(row))
            for it, values in sides.items()
        }
        | {
            "difference": interval(told["median"], told.low, told.high, digits(row)),
            f"{other} above {one} in": f"{told.above:.0f} of {told.n:.0f}",
            "p": told.p,
            "p (Holm)": told.p_holm,
            "shows": told.shows,
        }
        for row, (name, sides, told) in contrast.items()
    }
    return pd.DataFrame(cells).T


def places(feature):
    return 1 if feature == "h1_count" else 3


def alike(difference, change):
    """Whether the interval of a difference lies within a tenth of a change; never without one."""
    size = MARGIN * abs(change)
    return -size < difference.low and difference.high < size


sides = {
    feature: (
        name,
        {"right": medians[feature].right, "wrong": medians[feature].wrong},
        contrast.loc[feature],
    )
    for feature, name in FEATURES.items()
    if len(contrast)
}
shown = beside(sides, "right", "wrong", places)
table(shown, DIGITS) if len(shown) else missing("tsp sweep null")

# %% tags=["remove-cell"]
told = "No runs tell."
if len(contrast):
    differ = [FEATURES[it] for it in contrast.index[contrast.p_holm < 0.05]]
    many, least = int(contrast.n.max()), contrast.shows.min()
    told = f"Of these {len(contrast)} features {', '.join(differ) or 'none'} "
    told += f"{'tells' if len(differ) < 2 else 'tell'} right answers from wrong ones at the level 0.05 by Holm, on "
    told += f"{many} problems"
    told += (
        ", too few to show any difference."
        if np.isnan(least)
        else f", which show a difference of one sign in {least:.0%} of problems or more."
    )
    equal, unknown = [], []
    for feature, name in FEATURES.items():
        row, digits = contrast.loc[feature], places(feature)
        change = medians[feature].right.median()
        shown = f"{name}: {interval(row['median'], row.low, row.high, digits)}, "
        shown += f"margin ±{MARGIN * abs(change):.{digits}f}"
        (equal if alike(row, change) else unknown).append(shown)
    told += f" Equivalent: {'; '.join(equal) or 'none'}. "
    told += f"Not shown to be equivalent: {'; '.join(unknown) or 'none'}."
glue("null-told", told, display=False)

# %% [markdown]
# {glue:text}`null-told:s` What is equivalent under wrong answers cannot be a mark of finding the right ones; at most it is one of
# fitting any. Where neither a difference nor equivalence is shown, so few problems leave it open.
#
# ## Random walks
#
# Each run records how far its prompt moved in each epoch. Three clouds start where the prompt did:
#
# - a *random walk* takes a step of that length each epoch, in a new random direction;
# - a *straight walk* takes them all in one random direction, so that all movement adds up;
# - *rows as far*: every vector ends as far from its start as training took it, in a random direction of its own.
#   That keeps what is unequal about the growth, and nothing else. It takes stored prompts; where some runs have them,
#   all that follows is about those runs.
#
# Each is drawn {glue:text}`draws:d` times a run, and the median over draws is set beside the same run's training, unit by
# unit (a problem or a set of ten). {glue:text}`same-start`

# %% tags=["hide-input"]
usual = comparable(everything[everything.method == "ce"], protocol=protocol, length=length)
walks = []
for row in usual.itertuples():
    run = store.read(row.id)
    if "moved" in run.epochs:
        told = {name: getattr(row, name) for name in ("id", *UNIT)}
        walks.append(nulls(run, draws=DRAWS).assign(**told))
walks = (
    pd.concat(walks, ignore_index=True)
    if walks
    else pd.DataFrame(columns=["kind", "end", "id", *UNIT])
)
displaced = walks.id[walks.kind == KINDS[2]]
walks = walks[walks.id.isin(displaced)] if len(displaced) else walks
order = [kind for kind in ("training", *KINDS) if kind in set(walks.kind)]
changed, differences = {}, {}
if len(walks):
    ends = walks.set_index(["kind", *UNIT, "id", "draw", "end"])[list(FEATURES)].unstack("end")
    for kind in order:
        for feature in FEATURES:
            change = (ends[feature, True] - ends[feature, False]).loc[kind]
            changed[kind, feature] = change.groupby([*UNIT, "id"]).median().groupby(UNIT).median()
    differences = {
        (kind, feature): changed["training", feature] - changed[kind, feature]
        for kind in order[1:]
        for feature in FEATURES
    }
against = contrasts(differences).set_index("name") if differences else pd.DataFrame()
sides = {
    feature + kind: (
        f"{FEATURES[feature]}, {kind}",
        {"random": changed[kind, feature], "training": changed["training", feature]},
        told,
    )
    for (kind, feature), told in zip(differences, (it for _, it in against.iterrows()), strict=True)
}
shown = beside(sides, "random", "training", lambda row: 1 if row.startswith("h1_count") else 3)
table(shown, DIGITS) if len(shown) else missing("tsp sweep phenomenon")

# %% mystnb={"image": {"alt": "Two panels of points, one a run: number of H1 bars at the end, and mean H0 lifespan over the mean distance at the end, for training and three kinds of random movement; a grey band for Gaussian clouds."}, "figure": {"caption": "Each run at its end, and three random movements: two as long as its way, one that ends as far from the start. Loops (left, band: Gaussian clouds) and the evenness of $H_0$ (right).", "name": "fig-nulls"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
if len(walks):
    figures.noise_band(axes[0], [store.read(it) for it in usual.id[:1]], along="x")
    last = walks[walks.end.astype(bool) & (walks.draw == 0)]
    for ax, (feature, label) in zip(
        axes,
        (("h1_count", "$H_1$ bars"), ("h0_mean_lifespan_scaled", "mean $H_0$ lifespan / distance")),
        strict=True,
    ):
        sns.stripplot(
            last,
            x=feature,
            y="kind",
            hue="regime",
            order=order,
            ax=ax,
            size=4,
            alpha=0.6,
            legend=ax is axes[1],
        )
        ax.set(xlabel=label, ylabel="")
    axes[1].set(yticklabels=[])
    axes[1].get_legend().set_title(None)
sns.despine(fig)

# %% tags=["remove-cell"]
for kind in ("training", *KINDS):
    mine = walks[(walks.kind == kind) & walks.end.astype(bool)] if len(walks) else walks
    key = kind.replace(" ", "-")
    glue(f"loops-{key}", f"{mine.h1_count.median():.0f}" if len(mine) else "–", display=False)
    glue(
        f"even-{key}",
        f"{mine.h0_mean_lifespan_scaled.median():.3f}" if len(mine) else "–",
        display=False,
    )

glue("draws", DRAWS, display=False)
glue("same-start", tables.same_start(store, protocol=protocol, model=model), display=False)


def signed(value):
    return f"{value:+.0f}".replace("-", "−")


told = dict.fromkeys(("equal", "unequal", "others"), "No runs tell.")
if len(displaced):
    lost = {kind: changed[kind, "h1_count"] for kind in order}
    many = len(lost["training"])
    far = {it: against.loc[[(KINDS[2], it)]].iloc[0] for it in FEATURES}
    usual_count = np.median(gaussian_counts(*store.read(usual.id.iloc[0]).record["shape"]))
    told["equal"] = (
        f"At the median a random walk changes the count by {signed(lost[KINDS[0]].median())} and a straight one by "
        f"{signed(lost[KINDS[1]].median())}; fewer loops than at the start are left in {(lost[KINDS[0]] < 0).sum()} and "
        f"{(lost[KINDS[1]] < 0).sum()} of {many} units. A Gaussian cloud of this shape has {usual_count:.0f} at the median, "
        "and walks lead there from wherever they start."
    )
    row = far["h1_count"]
    told["unequal"] = (
        f"Rows that move as far as training moved them change the count by {signed(lost[KINDS[2]].median())} at the "
        f"median, training by {signed(lost['training'].median())}. Training leaves more loops in {row.above:.0f} of {many} "
        f"units and fewer in {row.below:.0f}; the median difference is {interval(row['median'], row.low, row.high, 1)}."
    )
    differ = [FEATURES[it] for it, row in far.items() if row.p_holm < 0.05]
    equal = [
        FEATURES[it] for it, row in far.items() if alike(row, changed["training", it].median())
    ]
    told["others"] = (
        "By the table (Holm, all rows one family) training is shown to differ from rows moved as far in "
        f"{', '.join(differ) or 'nothing'}. By less than a tenth of training's own change, and so equivalent by the margin "
        f"above: {', '.join(equal) or 'nothing'}."
    )
    if usual.published.all():  # what the text says of them
        assert all(lost[kind].median() >= 0 for kind in KINDS[:2])
        assert lost[KINDS[2]].median() <= lost["training"].median() < 0
for key, text in told.items():
    glue(f"growth-{key}", text, display=False)

# %% [markdown]
# At the end the median run has {glue:text}`loops-training` $H_1$ bars; a random walk {glue:text}`loops-random-walk`, a
# straight one {glue:text}`loops-straight-walk`, rows moved as far {glue:text}`loops-rows-as-far`. The mean $H_0$ lifespan over
# the mean distance is {glue:text}`even-training` in training and {glue:text}`even-random-walk`,
# {glue:text}`even-straight-walk` and {glue:text}`even-rows-as-far` in the three movements.
#
# *Equal growth removes no loops.* The two walks are sums of equally wide Gaussian coordinates, so they are Gaussian noise of
# another size, and neither counts nor shape know of size ({doc}`04_phenomenon`). {glue:text}`growth-equal`
#
# *Unequal growth suffices.* {glue:text}`growth-unequal` So it takes neither a task nor an inference path to remove loops,
# only vectors that grow by *unequal* lengths ({prf:ref}`prop-orthogonal`); and movement as such is not enough, since the walks, whose
# steps are as long in all, remove none at the median. {glue:text}`growth-others`
#
# *Why the vectors grow unequally is not tested.* Each has its own gradient, and AdamW makes a long way out of a steady one and a
# short way out of one that turns. Which vectors these are, whether they are the same for another task, and whether the model uses
# them more, no experiment of this book varies.
#
# ```{admonition} What it takes to call it training
# :class: tip
# A feature whose change is equivalent under wrong answers is no mark of solving the task. One that random directions
# reproduce, once each vector goes as far as it did, is no mark of where training went: at most of how unequally far. "Not shown
# to differ" is weaker than either: equivalence takes a margin, stated beforehand, and an interval inside it.
# ```

# %% [markdown]
# ## An exercise
#
# ```{exercise} An interval without a formula
# :label: ex-interval
# Ten problems give ten differences between training and a random walk. Between which two of them, in order, does the
# median of all problems lie with at least 95 % confidence, whatever their distribution?
# ```
#
# ```{solution-start} ex-interval
# :class: dropdown
# ```
# The median lies below the second smallest if at most one of ten falls below it: probability $(1 + 10)/2^{10}$. The same on the
# other side. From the second to the ninth the confidence is $1 - 22/1024 = 97.9\,\%$; from the third to the eighth it is
# $89.1\,\%$, too little.

# %%
from scipy.stats import binom

assert np.isclose(1 - 2 * binom.cdf(1, 10, 0.5), 1 - 22 / 1024)
assert 1 - 2 * binom.cdf(2, 10, 0.5) < 0.95 < 1 - 2 * binom.cdf(1, 10, 0.5)
draws = np.sort(np.random.default_rng(0).exponential(size=(20_000, 10)), axis=1)
inside = (draws[:, 1] <= np.log(2)) & (np.log(2) <= draws[:, 8])
assert abs(inside.mean() - (1 - 22 / 1024)) < 0.005

# %% [markdown]
# ```{solution-end}
# ```
