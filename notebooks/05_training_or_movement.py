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
# Do loops vanish because a prompt learns the right answers, or because it moves? Section 2 of the paper {cite}`anonymous-topology` has no control:
# it follows prompts that are trained on right answers and calls the change in their topology a refinement of inference paths. This chapter adds two
# controls. Prompts that are trained on *wrong* answers learn something, but not the task. Clouds that move as far as a trained prompt did, in random
# directions, learn nothing at all. Loops vanish with wrong answers too, and in random movement if each vector moves as far as in training.
#
# ```{admonition} After this chapter you can
# :class: tip
# build a control for the claim that training causes a change.
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

from tsp.analysis.geometry import gaussian_counts
from tsp.analysis.movement import KINDS, nulls, vector_movement, which_vectors_move
from tsp.analysis.records import deciding, load_runs, load_topology
from tsp.analysis.studies import study
from tsp.analysis.units import STANDARD, UNIT, comparable, odd_seeds, units
from tsp.analysis.verdicts import contrasts
from tsp.book.pages import FORMATS, check_parameters, comparison, interval, missing, stacked, table
from tsp.book.verdicts import listed
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store
from tsp.topology.diagrams import summarize

check_parameters(globals())

figures.style()
store = Store(runs)
everything, length = deciding(load_runs(store))
everything = everything[everything.model == model]  # two models would repeat problems
DRAWS = 5  # of each random movement of a run
MARGIN = 0.1  # of a feature's change: two changes that differ by less count as equal
ANSWERS = {"right": STANDARD, "wrong": STANDARD | {"wrong_answers": True}}
DIGITS = {"p (Holm)": "{:.2g}", "detectable share": "{:.0%}"}
FEATURES = {"h1_count": "H₁ count", "h0_mean_lifespan": "H₀ mean lifespan"}
FEATURES |= {
    "h0_mean_lifespan_scaled": "H₀ mean lifespan / distance",
    "persistence_entropy": "persistence entropy",
}

# %% [markdown]
# ## Training on wrong answers
#
# For each problem, the experiment `null` trains two more prompts, without and with TSLoss, on the reference answer of another problem. The original
# problem's scorer counts this answer as wrong. In the table, *Standard* is training on the cross-entropy alone, and each row with wrong answers is
# compared with the row above it; epochs are counted up to the first check at which the model gives the answer that it was trained on, be it right or
# wrong. An interval of the ratio ends at 0 or ∞ where the end belongs to a problem that only one of the two arms solves. {doc}`14_choices` explains
# the other columns.

# %% tags=["hide-input"]
wrong = study(
    store, ["wrong_answers"], base={"wrong_answers": False}, protocol=protocol, model=model
)
compared = comparison(wrong)
compared.index = compared.index.str.replace("wrong_answers True", "wrong answers")
read = compared.get("reading", pd.Series(dtype=str)).dropna()
read = [f"{arm.partition(',')[0]} is {word}" for arm, word in read.items()]
glue("wrong-epochs", listed(read) or "there are too few problems", display=False)
table(compared, FORMATS) if len(wrong) > 2 else missing("tsp sweep null")

# %% [markdown]
# On wrong answers, compared with right ones, {glue:text}`wrong-epochs`. The next table compares how four summaries of the topology change from the first check to the last, with right and with wrong answers
# (runs without TSLoss; medians over problems, and a 95 % interval of the difference from order statistics). Changes are compared with
# their signs, so −24 is greater than −26. *p* is that of the sign test after Holm's correction over the features, and the *detectable share* is the
# smallest share of equal signs that the test detects with a power of 80 %.
#
# A test that finds no difference does not show that there is none. Two changes are called *equivalent* if the interval of their difference lies
# within a margin of one tenth of the change under right answers, and not equivalent if it lies outside; these intervals are not corrected for the
# number of features. Changes that are found to differ can still be equivalent. (Other rules of this book use the same margin; here it was chosen after these runs had been seen.)


# %% tags=["hide-input"]
def equivalent(test, change):
    """Say whether the interval of a difference lies within a tenth of a change, or outside."""
    margin = MARGIN * abs(change)
    if test.low > margin or test.high < -margin:
        return "no"
    return "yes" if -margin < test.low and test.high < margin else "not shown"


def digits_of(feature):
    """Number of decimals to show."""
    return 1 if feature == "h1_count" else 3


def beside(tests, sides, reference, greater):
    """Show the changes on two sides and the test of their difference, one row a contrast."""
    rows = {}
    for label, test in tests.iterrows():
        digits = digits_of(test.feature)
        pair = {name: values[label] for name, values in sides.items()}
        change = pair[reference].median()
        row = {
            name: interval(values.median(), np.nan, np.nan, digits) for name, values in pair.items()
        }
        row["difference"] = interval(test["median"], test.low, test.high, digits)
        margin = f"±{MARGIN * abs(change):.{digits}f}"
        row["equivalent (margin)"] = f"{equivalent(test, change)} ({margin})"
        row[greater] = f"{test.above} of {test.n}"
        rows[label] = row | {"p (Holm)": test.p_holm, "detectable share": test.shows}
    return pd.DataFrame(rows).T


def in_words(features):
    """Write features in words: "H₁ bars and entropy"."""
    return listed([FEATURES[feature] for feature in features]) or "none of the features"


right = units(everything, ANSWERS, protocol=protocol, length=length)
checks = load_topology(store).sort_values("epoch")
checks = checks[checks.epoch <= (length or np.inf)].groupby("id")[list(FEATURES)]
moved = checks.last() - checks.first()  # one row a run
answers, contrast = {"right": {}, "wrong": {}}, pd.DataFrame()
if len(right):
    runs_of = right.set_index([*UNIT, "arm"]).ids
    for feature, name in FEATURES.items():
        values = [moved[feature].loc[list(ids)].median() for ids in runs_of]
        by_arm = pd.Series(values, runs_of.index, dtype=float).unstack("arm")
        for arm in answers:
            answers[arm][name] = by_arm[arm]
    differences = {
        name: answers["wrong"][name] - answers["right"][name] for name in answers["right"]
    }
    contrast = contrasts(differences).set_index("name").assign(feature=list(FEATURES))
shown = beside(contrast, answers, "right", "greater under wrong answers")
table(shown, DIGITS) if len(shown) else missing("tsp sweep null")

# %% tags=["remove-cell"]
text = "There are no such runs."
same_answers = {}  # by feature, whether its change is equivalent under wrong answers
if len(contrast):
    for name, test in contrast.iterrows():
        change = answers["right"][name].median()
        same_answers[test.feature] = equivalent(test, change) == "yes"
    power = f"For {in_words(contrast.feature[contrast.shows.isna()])}, too few problems differ for the test to detect anything."
    if (shows := contrast.shows.max(skipna=False)) == shows:
        power = f"The test detects a difference, with a power of 80 %, only if at least {shows:.0%} of the problems that differ have the same sign."
    differ = in_words(contrast.feature[contrast.p_holm < 0.05])
    same = in_words(feature for feature, equal in same_answers.items() if equal)
    text = f"A difference between right and wrong answers is detected for {differ} ({contrast.n.max()} problems, level 0.05 after "
    text += f"Holm's correction). {power} Equivalence is shown for {same}."
    if same_answers.get("h1_count"):
        text += " For loops this is about the end alone, where nearly all are gone with both kinds of answers; it does not show that they go equally fast."
glue("answers-text", text, display=False)

# %% [markdown]
# {glue:text}`answers-text:s` A change that is equivalent under wrong answers cannot be a mark of finding the right ones; at most it is a mark of
# fitting some answer. Where neither a difference nor equivalence is shown, these problems are too few to decide.
#
# ## Random movement
#
# Is learning needed at all? Each run records how far its prompt moved in each epoch. Three random movements start from the same prompt:
#
# - a *random walk* takes a step of that length each epoch, in a new random direction;
# - a *straight walk* takes all steps in one random direction, so that they add up;
# - *rows moved as far* moves every vector (a row of the prompt) as far from its start as training took it, in a random direction of its own. This
#   keeps the unequal growth of the vectors, and nothing else.
#
# {glue:text}`keeping` Each movement is drawn {glue:text}`draws:d` times per run. The table compares the median over draws with the same run's
# training, unit by unit (problems and sets of ten).

# %% tags=["hide-input"]
usual = comparable(everything[everything.method == "ce"], protocol=protocol, length=length)
with_prompts = [run_id for run_id in usual.id if len(store.read(run_id).prompt_epochs) > 1]
displaced = odd_seeds(usual[usual.id.isin(with_prompts)].assign(arm="ce")).id
walks = []
for row in usual[usual.id.isin(displaced)].itertuples() if len(displaced) else usual.itertuples():
    run = store.read(row.id)
    if "moved" in run.epochs:
        unit = {name: getattr(row, name) for name in ("id", *UNIT)}
        walks.append(nulls(run, draws=DRAWS).assign(**unit))
nothing = pd.DataFrame(columns=["kind", "end", "id", *UNIT])
walks = pd.concat(walks, ignore_index=True) if walks else nothing
kept = f"Of the runs with stored prompts, an odd number of each unit is included: {len(displaced)} of {len(usual)} runs."
glue("keeping", kept if len(displaced) else "No run here keeps its prompts.", display=False)
order = [kind for kind in ("training", *KINDS) if kind in set(walks.kind)]
changed, movement, against = {}, {"random": {}, "training": {}}, pd.DataFrame()
if len(walks):
    ends = walks.set_index(["kind", *UNIT, "id", "draw", "end"])[list(FEATURES)].unstack("end")
    for kind in order:
        for feature in FEATURES:
            change = (ends[feature, True] - ends[feature, False]).loc[kind]
            changed[kind, feature] = change.groupby([*UNIT, "id"]).median().groupby(UNIT).median()
    labels = {f"{FEATURES[key[1]]}, {key[0]}": key for key in changed if key[0] != "training"}
    for label, (kind, feature) in labels.items():
        movement["random"][label] = changed[kind, feature]
        movement["training"][label] = changed["training", feature]
    differences = {
        label: movement["training"][label] - movement["random"][label] for label in labels
    }
    kinds, features = zip(*labels.values(), strict=True)
    against = contrasts(differences).set_index("name").assign(kind=kinds, feature=features)
shown = beside(against, movement, "training", "greater in training")
table(shown, DIGITS) if len(shown) else missing("tsp sweep phenomenon")

# %% mystnb={"image": {"alt": "Two panels of points, one per run: number of H1 bars at the end, and mean H0 lifespan over the mean distance at the end, for training and three kinds of random movement; a grey band for Gaussian clouds."}, "figure": {"caption": "{glue:text}`growth-says` Each symbol is a run at its end, after training or random movement. Left: loops; the band holds 95 % of Gaussian clouds. Right: the mean $H_0$ lifespan divided by the mean distance.", "name": "fig-nulls"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
if len(walks):
    figures.noise_band(axes[0], [store.read(run_id) for run_id in usual.id[:1]], along="x")
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
            hue=last.regime.map(figures.PROBLEMS),
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
glue("draws", DRAWS, display=False)
texts = dict.fromkeys(("says", "equal", "unequal", "others"), "There are no such runs.")
same_movement, row_tests = {}, pd.DataFrame()  # by feature, as for wrong answers
if len(displaced):
    row_tests = against[against.kind == KINDS[2]].set_index("feature")
    for feature, test in row_tests.iterrows():
        change = changed["training", feature].median()
        same_movement[feature] = equivalent(test, change) == "yes"
    lost = {kind: changed[kind, "h1_count"] for kind in order}
    walk, straight, rows = (f"{lost[kind].median():+.0f}" for kind in KINDS)
    fewer = [int((lost[kind] < 0).sum()) for kind in KINDS[:2]]
    n, test = len(lost["training"]), row_tests.loc["h1_count"]
    gaussian = np.median(gaussian_counts(*store.read(usual.id.iloc[0]).record["shape"]))
    begin = [f"{count:.0f}" for count in sorted(walks.h1_count[walks.end.eq(False)].unique())]
    ended = walks[walks.end.eq(True)].groupby("kind").h1_count.median()[list(KINDS[:2])]
    training = f"{lost['training'].median():+.0f}"
    texts["says"] = (
        f"The median change in the number of loops is {rows} for “rows moved as far”, {training} for training, {walk} for a "
        f"random walk and {straight} for a straight walk."
    ).replace("-", "−")
    texts["equal"] = (
        f"Gaussian clouds with as many points and dimensions have a median of about {gaussian:.0f} loops. The walks start with {' or '.join(begin)} "
        f"(one initial prompt for each seed of these runs) and end with medians of {ended.iloc[0]:.0f} (random walk) and "
        f"{ended.iloc[1]:.0f} (straight walk). They have fewer loops at the end than at the start in {fewer[0]} and {fewer[1]} of {n} units."
    )
    texts["unequal"] = (
        f"Training leaves more loops than “rows moved as far” in {test.above} of {n} units and fewer in {test.below}. The median "
        f"difference is {interval(test['median'], test.low, test.high, 1)}."
    )
    differ = in_words(row_tests.index[row_tests.p_holm < 0.05])
    same = in_words(feature for feature, equal in same_movement.items() if equal)
    texts["others"] = (
        f"A difference between training and “rows moved as far” is detected for {differ} (p < 0.05 after Holm over the whole "
        f"table). Equivalence is shown for {same}."
    )
    if usual.published.all():  # what the text says of them
        assert all(lost[kind].median() >= 0 for kind in KINDS[:2])
        assert lost[KINDS[2]].median() <= lost["training"].median() < 0
for key, text in texts.items():
    glue(f"growth-{key}", text, display=False)

# %% [markdown]
# *Equal growth does not remove loops in most units.* Both walks add Gaussian coordinates of equal width to Gaussian noise, so the cloud remains
# Gaussian noise of another size, and neither counts nor shape depends on size ({doc}`04_phenomenon`). {glue:text}`growth-equal`
#
# *Growth as unequal as in training is enough.* {glue:text}`growth-unequal` So loops can vanish without a task: random directions are enough if the vectors move
# *unequally* far ({prf:ref}`cor-nearly-orthogonal` is the extreme case). Movement alone is not enough, since the walks take steps as long as those
# of training and remove no loops in the median unit. {glue:text}`growth-others`
#
# ### Which vectors move farther?
#
# A vector ends far from its start if its strides, from one stored prompt to the next, are long or keep one direction. The table gives the rank
# correlations of this distance with the vector's place in the prompt and with its initial length, unit by unit. Call the sum of the strides the
# path. The last row is the *share of path*: the covariance of log path and log distance over the variance of log distance. Above ½, longer strides
# count for more than straighter paths; above 1, the vectors that end farther away moved less straight. Each row is tested against the value in
# brackets after its name.

# %% tags=["hide-input"]
keeping = usual[usual.id.isin(displaced)]
moved = {run_id: vector_movement(store.read(run_id)) for run_id in with_prompts}
of_run = pd.DataFrame([which_vectors_move(moved[i]) for i in keeping.id], index=keeping.id)
of_unit = of_run.groupby([keeping.set_index("id")[name] for name in UNIT], sort=False).median()
asked = {} if of_run.empty else of_unit.assign(path=of_unit["path"] - 0.5)
asked = contrasts({name: asked[name] for name in asked})
asked.loc[asked.name == "path", ["median", "low", "high"]] += 0.5
of_vectors = pd.DataFrame(
    {
        "units": asked.n,
        "median": [interval(*x) for x in zip(asked["median"], asked.low, asked.high, strict=True)],
        "above": asked.above,
        "below": asked.below,
        "p (Holm)": asked.p_holm,
    }
)
of_vectors.index = ["place, ρ (0)", "initial length, ρ (0)", "share of path (½)"][: len(asked)]
table(of_vectors, {"p (Holm)": "{:.2g}"}) if moved else missing("tsp sweep phenomenon")

# %% tags=["remove-cell"]
strides_text = "No run here keeps its prompts"
if len(keeping.drop_duplicates(UNIT)) > 1:
    every, paths = usual.set_index("id").loc[with_prompts], asked.iloc[2]["median"]
    ranks = np.corrcoef([moved[i].distance.rank() for i in with_prompts])
    seeds, alike = (np.equal.outer(x, x) for x in (every.seed.to_numpy(), every.content.to_numpy()))
    agree, apart = (np.median(ranks[~alike & where]) for where in (seeds, ~seeds))
    because = "straighter paths count for more than longer strides"
    if paths > 0.5:
        because = "longer strides count for more than straighter paths"
    if paths >= 1:
        because = "vectors that end far away took longer strides, not straighter paths"
    strides_text = (
        f"In the median unit the share of path is {paths:.2f}: {because}. Two runs on different problems that start from the same prompt "
        f"have a median rank correlation of their vectors' distances of {agree:.2f}"
    )
    if (~seeds).any():
        strides_text += f", two that start from different prompts one of {apart:.2f} ({every.seed.nunique()} initial prompts)"
glue("strides", strides_text, display=False)

# %% [markdown]
# {glue:text}`strides:s`. A high first and a low second number mean that a vector's initial value matters, and not its place. A stride hides the
# turns within it, so a long stride may itself consist of straight steps: AdamW moves far along a steady gradient, but not along one that keeps
# turning. Whether the model relies more on the vectors that move far is not tested.
#
# ## Exercises
#
# ```{exercise} What would a random walk do?
# :label: ex-random-walk
# Forty points in 256 dimensions start as Gaussian noise. Each takes a hundred random steps, also Gaussian. Predict the number of loops at the end if
# all points take equally long steps, and if each point has a step length of its own, drawn between 0 and 1. Then compute both for twenty clouds.
# ```
#
# ```{solution-start} ex-random-walk
# :class: dropdown
# ```
# A hundred Gaussian steps add up to one Gaussian step ten times as long. With equal steps the cloud remains Gaussian noise, only larger, and has
# on average as many loops as before. With unequal steps its vectors are almost orthogonal and of very unequal length, so hardly any loop is left
# ({prf:ref}`cor-nearly-orthogonal` gives a much stricter condition for none). Nothing was learnt in either case, so a control must grow as unequally as the trained prompt.

# %%
rng = np.random.default_rng(0)
start, way = rng.normal(size=(2, 20, 40, 256))
step_lengths = rng.uniform(0, 1, size=(20, 40, 1))
before, equal, unequal = (
    summarize(cloud).h1_count.mean()
    for cloud in (start, start + 10 * way, start + 10 * step_lengths * way)
)
assert abs(equal - before) < 0.2 * before
assert unequal < 0.1 * before
print(
    f"loops: {before:.1f} at the start, {equal:.1f} after equal and {unequal:.1f} after unequal steps"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} An interval without a formula
# :label: ex-interval
# Ten problems give ten differences between training and a random walk. Between which two of them, in order of size, does the median of all problems
# lie with a confidence of at least 95 %, whatever the distribution?
# ```
#
# ```{solution-start} ex-interval
# :class: dropdown
# ```
# The median lies below the second smallest difference if at most one of the ten falls below the median, which has probability $(1 + 10)/2^{10}$. The
# same holds at the other end. From the second to the ninth the confidence is $1 - 22/1024 = 97.9\,\%$; from the third to the eighth it is
# $89.1\,\%$, which is too little.

# %%
from scipy.stats import binom

assert np.isclose(1 - 2 * binom.cdf(1, 10, 0.5), 1 - 22 / 1024)
assert np.isclose(1 - 2 * binom.cdf(2, 10, 0.5), 0.891, atol=5e-4)
draws = np.sort(np.random.default_rng(0).exponential(size=(20_000, 10)), axis=1)
inside = (draws[:, 1] <= np.log(2)) & (np.log(2) <= draws[:, 8])
assert abs(inside.mean() - (1 - 22 / 1024)) < 0.005

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# Section 2 of the paper attributes these changes to the refinement of inference paths, so each control should lack them. If the change in a control
# is equivalent or larger, the change is no evidence for what that control lacks: right answers in the first, the directions of training in the
# second. "Open" means that neither a difference nor equivalence is shown.

# %% tags=["hide-input"]
CLAIMED = {
    "h1_count": "training removes loops",
    "h0_mean_lifespan": "components live longer",
    "persistence_entropy": "entropy falls a little",
}


def verdict(test, same, control, training):
    """Compare the change of a feature in a control with that in training."""
    if same:
        return "equivalent"
    if test.p_holm >= 0.05:
        return "open"
    return "changes more" if control / training > 1 else "changes less"


rows = []
for feature, claim in CLAIMED.items():
    median = changed["training", feature].median() if changed else np.nan
    median = interval(median, np.nan, np.nan, digits_of(feature))
    row = {"claimed": claim, "median change in training (units with stored prompts)": median}
    row |= dict.fromkeys(("wrong answers", "rows moved as far, at random"), "not tested here")
    if feature in same_answers:
        name = FEATURES[feature]
        medians = (answers[arm][name].median() for arm in ("wrong", "right"))
        row["wrong answers"] = verdict(contrast.loc[name], same_answers[feature], *medians)
    if feature in same_movement:
        medians = (changed[kind, feature].median() for kind in (KINDS[2], "training"))
        same = same_movement[feature]
        row["rows moved as far, at random"] = verdict(row_tests.loc[feature], same, *medians)
    rows.append(row)
stacked(pd.DataFrame(rows))
