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
# # Topology and accuracy
#
# Does the topology of a prompt predict how often the model answers correctly? Table 2 of the paper {cite}`anonymous-topology` reports strong
# correlations over snapshots, but {doc}`03_printed_numbers` has shown that a clock would score as well. This chapter computes the table from our
# runs and asks what remains of it if the unit is a problem instead of a snapshot. For the mean $H_0$ lifespan, the correlation with a problem's own
# answers is {glue:text}`exchanged-rho_blocks`; with the answers to other problems it averages {glue:text}`exchanged-shuffled`.
#
# ```{admonition} After this chapter you can
# :class: tip
# say what a p-value counts, and test a correlation over time series that all drift.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.stats import spearman
from tsp.analysis.stats.ranks import EXCHANGES
from tsp.analysis.table_forensics import TRAJECTORY
from tsp.book.pages import check_parameters, interval, probability, stacked, table
from tsp.book.verdicts import listed
from tsp.experiments.paper import reported
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
printed = reported("table2").dropna(subset="rho")
rng = np.random.default_rng(0)
figures.style()
C = sns.color_palette("colorblind")

# %% [markdown]
# ## Table 2 from our runs
#
# Both tables use the checks of one model's runs without TSLoss. They give Spearman's $\rho$ {cite}`spearman1904proof`, and Mann and
# Whitney's $U$ {cite}`mann1947test` between two groups of checks. In the first table $\rho$ correlates a feature with accuracy, and the
# groups are the checks with at least one wrong answer and those with none. For a set of ten, only checks that cover all ten problems are
# used. In the second table the groups are the first and the second half of each run, and $\rho$ correlates a feature with the half.


# %% tags=["hide-input"]
def in_words(features):
    """Write names of features as a reader knows them."""
    words = {"h0": "H₀", "h1": "H₁", "scaled": "/ distance", "normalized": "normalised"}
    return [" ".join(words.get(word, word) for word in name.split("_")) for name in features]


def beside(results):
    """Show Table 2, the paper's columns beside ours."""
    names = {"rho": "ρ", "rho_p": "p of ρ", "u": "U", "u_p": "p of U"}
    columns = {("paper", label): results[f"{name}_paper"] for name, label in names.items()}
    columns |= {("here", label): results[name] for name, label in names.items()}
    formats = {"ρ": "{:.3f}", "U": "{:.1f}", "p of ρ": probability, "p of U": probability}
    digits = {column: formats[column[1]] for column in columns}
    nice = pd.DataFrame(columns).set_axis(in_words(results.feature))
    return table(nice, digits)


answers = tables.table2(store, groups="answers", protocol=protocol)
beside(answers)

# %% tags=["hide-input"]
halves = tables.table2(store, groups="halves", protocol=protocol)
beside(halves)

# %% [markdown]
# ## Snapshots are not independent observations
#
# A $p$-value is the probability, if there is no relation, of a statistic at least as extreme as the one observed, *provided that
# observations are independent*. The snapshots of one run are not: each differs little from the one before. Random walks of
# {glue:text}`snapshots` steps, which have nothing to do with accuracy, show the consequence:

# %% mystnb={"image": {"alt": "Two histograms of rank correlations with a two-valued accuracy. Independent noise piles up near zero; random walks spread over the whole possible range. Dotted lines mark the paper's values."}, "figure": {"caption": "Of the random walks, {glue:text}`share-strong:.0%` correlate at least as strongly as the paper's $H_1$ count with an accuracy that has nothing to do with them. Rank correlations of 500 features of each kind. Dotted: the paper's values.", "name": "fig-walks"}} tags=["hide-input"]
late = np.arange(TRAJECTORY) >= TRAJECTORY // 2  # the paper's snapshots, in two halves
steps = rng.normal(size=(500, TRAJECTORY))
unrelated = {"independent": steps, "random walk": steps.cumsum(axis=1)}
tests = {kind: [spearman(one, late) for one in features] for kind, features in unrelated.items()}
rhos = pd.concat(pd.DataFrame(results).assign(feature=kind) for kind, results in tests.items())
rhos = rhos.rename(columns={"statistic": "rho"}).reset_index(drop=True)
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
look = {"bins": np.linspace(-0.9, 0.9, 37), "element": "step", "palette": C[:2]}
sns.histplot(rhos, x="rho", hue="feature", ax=ax, **look)
for row in printed.itertuples():
    ax.axvline(row.rho, color="0.3", ls=":", lw=1)
    name = in_words([row.feature])[0]
    ax.text(
        row.rho,
        1,
        name,
        rotation=90,
        va="top",
        ha="right",
        size=8,
        transform=ax.get_xaxis_transform(),
    )
ax.set(xlabel=r"$\rho$ with accuracy", ylabel="features")
sns.move_legend(ax, "center right", title=None)
sns.despine(fig)

# %% tags=["remove-cell"]
share = (rhos.p < 0.05).groupby(rhos.feature).mean()
walks = rhos[rhos.feature == "random walk"].rho.abs()
strong = (walks >= abs(printed.set_index("feature").rho["h1_count"])).mean()
glue("share-independent", float(share["independent"]), display=False)
glue("share-walk", float(share["random walk"]), display=False)
glue("share-strong", float(strong), display=False)
glue("runs-pooled", int(answers.n_runs.max()) if len(answers) else 0, display=False)
glue("snapshots", TRAJECTORY, display=False)
glue("checks-pooled", int(answers.n.max()) if len(answers) else 0, display=False)

# %% [markdown]
# At the level 0.05 the test calls {glue:text}`share-independent:.0%` of the independent features significant, as it should, but also
# {glue:text}`share-walk:.0%` of the random walks, and {glue:text}`share-strong:.0%` of the walks correlate at least as strongly as the
# paper's $H_1$ count. Only runs can be independent, and even ours are not entirely: all runs of one seed start from the same prompt, and a
# set of ten may contain problems that are also trained alone. The first table pools {glue:text}`checks-pooled:d` checks of
# {glue:text}`runs-pooled:d` runs and the second even more, so their $p$-values are as meaningless as the paper's.
#
# ## Table 2 with problems as units
#
# Two tests do not treat snapshots as independent.
#
# - *Exchanged* computes the same $\rho$ over all snapshots, but gives the runs of each problem the answers to
#   another problem of the same data set and regime, {glue:text}`exchanges` times. The exchange keeps whatever all runs have in common:
#   they start wrong, end right, and grow. It breaks only the link between a problem's *own* topology and its
#   *own* answers.
# - *Problems* takes one pair of numbers from each problem or set of ten: its feature at one check, and the share of its runs that have given a right
#   answer by then. For each data set and regime the check is the one by which the share of solved units is nearest to one half. It correlates the ranks of these pairs within each data set and regime.
#
# The last three rows are not in the paper's table: they divide lifespans by the mean distance and the entropy by its maximum.

# %% tags=["hide-input"]
again = tables.table2_runs(store, protocol=protocol)
cells = {
    ("own", "ρ"): again.rho_blocks,
    ("exchanged", "ρ (95 %)"): [
        f"{mean:.2f} ({low:.2f} to {high:.2f})".replace("-", "−") if low == low else "–"
        for mean, low, high in zip(again.shuffled, again.rho_low, again.rho_high, strict=True)
    ],
    ("exchanged", "p"): again.p_blocks,
    ("problems", "ρ (95 %)"): [
        interval(*row) for row in zip(again.rho_units, again.low, again.high, strict=True)
    ],
    ("problems", "p"): again.p_units,
}
by_feature = pd.DataFrame(cells).set_axis(in_words(again.feature))
digits = {column: "{:.2g}" if column[1] == "p" else "{:.2f}" for column in cells}
table(by_feature, digits | dict.fromkeys([column for column in cells if "95" in column[1]]))

# %% tags=["remove-cell"]
both = again.set_index("feature")
glue("exchanged-blocks", int(again.blocks.max()) if len(again) else 0, display=False)
glue("exchanged-units", int(again.units.max()) if len(again) else 0, display=False)
glue("exchanges", f"{EXCHANGES:,}", display=False)
for column in ("shuffled", "rho_blocks"):
    value = both[column].get("h0_mean_lifespan", np.nan)
    glue(f"exchanged-{column}", f"{value:.2f}", display=False)
small = [name for name in both.index if both.p_blocks[name] < 0.05 or both.p_units[name] < 0.05]


def link_in_words(name):
    """Say on which side of "no link" each test that finds something puts a feature."""
    row, sides = both.loc[name], []
    if row.p_blocks < 0.05:
        side = "below" if row.rho_blocks < row.shuffled else "above"
        sides.append(f"the correlation with a unit's own answers lies {side} that with others'")
    if row.p_units < 0.05:
        sides.append(
            f"the correlation over units is {'negative' if row.rho_units < 0 else 'positive'}"
        )
    return f"{listed(sides)} for the {in_words([name])[0]}"


none = "neither test finds a link for any feature"
glue("exchanged-left", "; ".join(map(link_in_words, small)) or none, display=False)

# %% [markdown]
# The correlation with exchanged answers, here over the snapshots of {glue:text}`exchanged-blocks:d` problems and sets, comes from what
# the exchange leaves as it is: the clock, which both the feature and the accuracy follow, and the differences between data sets. At the level
# 0.05, uncorrected for the number of features and tests,
# {glue:text}`exchanged-left`. The verdicts below rest on the last two columns, with {glue:text}`exchanged-units:d` units. The intervals of the verdicts are
# wider, because all intervals of a family hold simultaneously with 95 % confidence. The correlations over snapshots differ slightly from
# table to table: the first table of this chapter pools all runs, the verdicts use an odd number of seeds for each unit, and *exchanged*
# uses only units that have a partner with as many snapshots.
#
# ## Exercise
#
# ```{exercise} Snapshots that agree
# :label: ex-pooled
# Ten runs are checked 20 times each. In every run a feature grows at a speed of its own, and the answer becomes right at a check of
# its own; speeds and checks are drawn independently. Compute the rank correlation of feature and correctness
# over all 200 snapshots, and that of speed and check over the ten runs. How often is each significant at 0.05?
# ```
#
# ```{solution-start} ex-pooled
# :class: dropdown
# ```
# Over snapshots the correlation is strong and always significant, because in every run the feature is small when the
# answer is wrong and large when it is right. Over runs the test is significant about as often as it should be by
# chance, one time in twenty: a run that grows fast is not solved any earlier. Pooling has turned a common clock into a correlation.


# %%
def pooled_and_by_run(runs=10, checks=20):
    """Draw runs whose growth and success are independent; test snapshots, then runs."""
    speed, solved = rng.uniform(0.5, 1.5, runs), rng.integers(4, 17, runs)
    feature = np.outer(speed, np.arange(checks))
    right = np.arange(checks) >= solved[:, None]
    return spearman(feature.ravel(), right.ravel()), spearman(speed, solved)


draws = [pooled_and_by_run() for _ in range(400)]
snapshots, by_run = zip(*draws, strict=True)
pooled, by_run = (
    np.array([(test.statistic, test.p) for test in tests]) for tests in (snapshots, by_run)
)
assert (pooled[:, 1] < 0.05).all()
assert np.median(pooled[:, 0]) > 0.6
assert (by_run[:, 1] < 0.05).mean() < 0.1
assert abs(np.median(by_run[:, 0])) < 0.1

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# Each claim has a rule ({doc}`20_rules`) and is decided from units, as in {doc}`04_phenomenon`. A correlation over snapshots is no evidence that
# topology predicts answers; such evidence takes problems as units, and more of them where a verdict is inconclusive.

# %% tags=["hide-input"]
of_chapter = [claim.id for claim in CLAIMS if claim.family == "table 2"]
verdicts = tables.chapter_claims(store, of_chapter)
stacked(verdicts)
