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

# %% tags=["parameters"]
runs = ""  # the run store; empty: $TSP_RUNS, else runs
protocol = "tuned"

# %% tags=["hide-input"]
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from myst_nb import glue

from tsp import figures
from tsp.evidence import at_defaults
from tsp.nulls import KINDS, nulls
from tsp.pages import FORMATS, comparison, interval, missing, table
from tsp.records import load_runs, longest
from tsp.runs import Store
from tsp.studies import study
from tsp.verdicts import judge_changes, median_interval

figures.style()
store = Store(runs)
everything = load_runs(store)
UNIT = ["model", "task", "regime", "content"]
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
wrong = study(store, ["wrong_answers"], base={"wrong_answers": False}, protocol=protocol)
shown = comparison(wrong)
shown.index = shown.index.str.replace("wrong_answers True", "wrong answers")
table(shown, FORMATS) if len(wrong) > 2 else missing("tsp sweep null")

# %% [markdown]
# Now the topology: what four summaries do from the first check to the last, with right and with wrong answers,
# problem by problem (runs without TSLoss; medians over seeds; intervals from order statistics take six problems).


# %% tags=["hide-input"]
def changes(chosen):
    """Change of each feature from first to last check: one row a run."""
    rows = []
    for run in map(store.read, chosen.id):
        ends = run.topology.sort_values("epoch").iloc[[0, -1]][list(FEATURES)]
        rows.append(ends.diff().iloc[1])
    return pd.DataFrame(rows).set_index(chosen.index)


plain = everything[everything.protocol.eq(protocol) & everything.method.eq("ce")]
plain = longest(at_defaults(plain, protocol=protocol, but=["wrong_answers"]))
both = (
    plain.groupby([*UNIT[:3], "problem", "source", "seed"]).wrong_answers.transform("nunique") == 2
)
plain = plain[both]
rows = []
if len(plain):
    moved = plain.join(changes(plain))
    unit = ["model", "task", "regime", "source", "problem"]
    medians = (
        moved.groupby([*unit, "wrong_answers"])[list(FEATURES)].median().unstack("wrong_answers")
    )
    for feature, name in FEATURES.items():
        right, other = medians[feature, False], medians[feature, True]
        verdict = judge_changes(other - right, claimed=1)
        rows.append(
            {
                "feature": name,
                "problems": len(right),
                "right answers": interval(right.median(), *median_interval(right), 3),
                "wrong answers": interval(other.median(), *median_interval(other), 3),
                "wrong more than right in": f"{int((other > right).sum())} of {len(right)}",
                "p": verdict.p,
            }
        )
contrast = pd.DataFrame(rows)
table(contrast.set_index("feature"), {"p": "{:.2g}"}) if len(contrast) else missing(
    "tsp sweep null"
)

# %% tags=["remove-cell"]
told = "No runs tell."
if len(contrast):
    alike, many = int((contrast.p >= 0.05).sum()), int(contrast.problems.max())
    told = f"{alike} of these {len(contrast)} do not tell right answers from wrong ones at the level 0.05, "
    told += (
        f"on {many} problems, so few that only a difference in nearly all of them could be seen."
    )
glue("null-told", told, display=False)

# %% [markdown]
# {glue:text}`null-told:s` What happens alike under wrong answers cannot be a mark of finding the right ones; at most it is one of
# fitting any.
#
# ## Random walks
#
# Each run records how far its prompt moved in each epoch. Three clouds start where the prompt did:
#
# - a *random walk* takes a step of that length each epoch, in a new random direction;
# - a *straight walk* takes them all in one random direction, so that all movement adds up;
# - *rows as far*: every vector ends as far from its start as training took it, in a random direction of its own.
#   That keeps what is unequal about the growth, and nothing else.

# %% tags=["hide-input"]
usual = everything[everything.protocol.eq(protocol) & everything.method.eq("ce")]
usual = longest(at_defaults(usual, protocol=protocol))
walks = []
for row in usual.itertuples():
    run = store.read(row.id)
    if "moved" in run.epochs:
        told = {name: getattr(row, name) for name in ("id", *UNIT)}
        walks.append(nulls(run, seed=row.seed).assign(**told))
walks = (
    pd.concat(walks, ignore_index=True)
    if walks
    else pd.DataFrame(columns=["kind", "end", "id", *UNIT])
)
order = ["training", *KINDS]
rows = {}
for kind in order if len(walks) else []:
    mine = walks[walks.kind == kind]
    ends = mine.groupby(["id", *UNIT, "end"])[list(FEATURES)].first().unstack("end")
    cells = {"problems": ends.index.droplevel("id").nunique()}
    for feature, name in FEATURES.items():
        change = (ends[feature, True] - ends[feature, False]).groupby(UNIT).median()
        cells[name] = interval(
            change.median(), *median_interval(change), 1 if feature == "h1_count" else 3
        )
    rows[kind] = cells
shown = pd.DataFrame(rows).T
table(shown) if len(shown) else missing("tsp sweep phenomenon")

# %% mystnb={"image": {"alt": "Two panels of points, one a run: number of H1 bars at the end, and mean H0 lifespan over the mean distance at the end, for training and three kinds of random movement; a grey band for Gaussian clouds."}, "figure": {"caption": "Each run at its end, and three random movements of the same length. Loops (left, band: Gaussian clouds) and the evenness of $H_0$ (right).", "name": "fig-nulls"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
if len(walks):
    figures.noise_band(axes[0], [store.read(it) for it in usual.id[:1]])
    last = walks[walks.end.astype(bool)]
    for ax, (feature, label) in zip(
        axes,
        (("h1_count", "$H_1$ bars"), ("h0_mean_lifespan_scaled", "mean $H_0$ lifespan / distance")),
        strict=True,
    ):
        present = [kind for kind in order if kind in set(last.kind)]
        sns.stripplot(
            last,
            x=feature,
            y="kind",
            hue="regime",
            order=present,
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
for kind in order:
    mine = walks[(walks.kind == kind) & walks.end.astype(bool)] if len(walks) else walks
    key = kind.replace(" ", "-")
    glue(f"loops-{key}", f"{mine.h1_count.median():.0f}" if len(mine) else "–", display=False)
    glue(
        f"even-{key}",
        f"{mine.h0_mean_lifespan_scaled.median():.3f}" if len(mine) else "–",
        display=False,
    )

# %% [markdown]
# At the end the median run has {glue:text}`loops-training` $H_1$ bars; a random walk {glue:text}`loops-random-walk`, a
# straight one {glue:text}`loops-straight-walk`, rows moved as far {glue:text}`loops-rows-as-far`. The first two stay
# Gaussian noise: isotropic movement only makes the cloud larger, and neither counts nor shape know of size
# ({doc}`02_phenomenon`). Where training lies below them, something other than movement has happened; where rows moved
# as far lie as low, it is that the vectors have grown by *unequal* lengths ({prf:ref}`prop-orthogonal`), which takes no
# inference path. The mean $H_0$ lifespan over the mean distance is {glue:text}`even-training` in training and
# {glue:text}`even-random-walk`, {glue:text}`even-straight-walk` and {glue:text}`even-rows-as-far` in the three movements.
#
# ```{admonition} What it takes to call it training
# :class: tip
# A feature that behaves alike under wrong answers and right ones is no mark of solving the task; one that behaves
# alike in random movement of the same length is no mark of learning at all.
# ```
