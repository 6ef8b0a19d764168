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
# Table 2 of the paper {cite}`anonymous-topology` correlates what homology sees of a prompt with how often the model answers
# correctly, and finds almost perfect correlations. {doc}`03_printed_numbers` has shown that they could hardly have come out
# otherwise. This chapter computes the table from our runs, and asks what remains of it if the unit is a problem and not a snapshot.
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
from tsp.analysis.stats import FEWEST, spearman
from tsp.book.pages import check_parameters, interval, table
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
# Spearman's $\rho$ {cite}`spearman1904proof` with accuracy, and Mann and Whitney's $U$ {cite}`mann1947test` between two groups
# of snapshots, over all checks of the runs without TSLoss. The groups of the first table are checks with wrong answers and checks without,
# those of the second the first and the second half of each run.


# %% tags=["hide-input"]
def beside(found):
    """Table 2, the paper's columns beside ours."""
    names = {"rho": "ρ", "rho_p": "p of ρ", "u": "U", "u_p": "p of U"}
    columns = {("paper", label): found[f"{name}_paper"] for name, label in names.items()}
    columns |= {("here", label): found[name] for name, label in names.items()}
    formats = {"ρ": "{:.3f}", "U": "{:.1f}", "p of ρ": "{:.2g}", "p of U": "{:.2g}"}
    digits = {column: formats[column[1]] for column in columns}
    nice = pd.DataFrame(columns).set_axis(found.feature.str.replace("_", " ")).rename_axis(None)
    nice = nice.style.set_table_attributes('class="dataframe"').format(digits, na_rep="–")
    narrow = {"selector": "th, td", "props": "padding: 0.3em 0.4em; white-space: nowrap"}
    return nice.set_table_styles([narrow])


answers = tables.table2(store, groups="answers", protocol=protocol)
beside(answers)

# %% tags=["hide-input"]
halves = tables.table2(store, groups="halves", protocol=protocol)
beside(halves)

# %% [markdown]
# ## Snapshots are not observations
#
# A $p$-value counts how rarely chance alone would do as well *if observations are independent*. Snapshots
# of one run are not: each differs little from the one before. Features that have nothing to do with
# accuracy, random walks of 146 steps, show what that does:

# %% mystnb={"image": {"alt": "Two histograms of rank correlations with a two-valued accuracy. Independent noise piles up near zero; random walks spread over the whole possible range. Dotted lines mark the paper's values."}, "figure": {"caption": "Rank correlation with accuracy of features that are unrelated to it: 500 of independent noise, 500 random walks. Dotted: the paper's values.", "name": "fig-walks"}} tags=["hide-input"]
late = np.arange(146) >= 73  # the paper's snapshots, in two halves
steps = rng.normal(size=(500, 146))
unrelated = {"independent": steps, "random walk": steps.cumsum(axis=1)}
tests = {kind: [spearman(one, late) for one in features] for kind, features in unrelated.items()}
rhos = pd.concat(pd.DataFrame(found).assign(feature=kind) for kind, found in tests.items())
rhos = rhos.rename(columns={"statistic": "rho"}).reset_index(drop=True)
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
look = {"bins": np.linspace(-0.9, 0.9, 37), "element": "step", "palette": C[:2]}
sns.histplot(rhos, x="rho", hue="feature", ax=ax, **look)
for value in printed.rho:
    ax.axvline(value, color="0.3", ls=":", lw=1)
ax.set(xlabel=r"$\rho$ with accuracy", ylabel="features")
ax.get_legend().set_title(None)
sns.despine(fig)

# %% tags=["remove-cell"]
share = rhos.assign(found=rhos.p < 0.05).groupby("feature").found.mean()
walks = rhos[rhos.feature == "random walk"].rho.abs()
strong = (walks >= abs(printed.set_index("feature").rho["h1_count"])).mean()
glue("share-independent", float(share["independent"]), display=False)
glue("share-walk", float(share["random walk"]), display=False)
glue("share-strong", float(strong), display=False)
glue("runs-pooled", int(answers.n_runs.max()) if len(answers) else 0, display=False)
glue("fewest", FEWEST, display=False)
glue("same-start", tables.same_start(store, protocol=protocol), display=False)
glue("checks-pooled", int(answers.n.max()) if len(answers) else 0, display=False)

# %% [markdown]
# At the level 0.05 the test calls {glue:text}`share-independent:.0%` of the independent features
# significant, as it should, and {glue:text}`share-walk:.0%` of the random walks.
# {glue:text}`share-strong:.0%` of them correlate at least as strongly as the paper's $H_1$ count. Only
# runs can be independent, and ours not wholly: all runs of one seed start from the same prompt, and a set
# of ten may contain problems that also stand alone. Our tables pool {glue:text}`checks-pooled:d` checks
# of {glue:text}`runs-pooled:d`
# runs, so their $p$-values decide nothing, no more than the paper's.
#
# ## Table 2 with problems as units
#
# Two tests that do not count snapshots. *Exchanged*: compute the same $\rho$ over all snapshots, then give the runs
# of each problem the answers to another problem of its data set and regime, whole, a few thousand times. What all
# runs have in common, that they start wrong, end right and grow, stays in the exchanged ones; only what ties a
# problem's *own* topology to its *own* answers is lost. (Where a data set has one problem with as many snapshots,
# there is nothing to exchange: the second $\rho$ leaves it out.) *Problems*: one number for each problem or set, its feature and the share of
# its runs that are right at the check where about half of all are, rank correlated within data set and regime.
# Below the paper's five features are three that do not change when a cloud merely grows.

# %% tags=["hide-input"]
again = tables.table2_runs(store, protocol=protocol)
printed_rho = reported("table2").set_index("feature").rho
cells = {
    "paper": again.feature.map(printed_rho),
    "ρ, snapshots": again.rho,
    "ρ, to exchange": again.rho_blocks,
    "exchanged: mean (95 %)": [
        f"{mean:.2f} ({low:.2f} to {high:.2f})" if low == low else "–"
        for mean, low, high in zip(again.shuffled, again.rho_low, again.rho_high, strict=True)
    ],
    "p, exchanged": again.p_blocks,
    "ρ, problems": [
        interval(*it) for it in zip(again.rho_units, again.low, again.high, strict=True)
    ],
    "p, problems": again.p_units,
}
shown = pd.DataFrame(cells).set_axis(again.feature.str.replace("_", " "))
digits = dict.fromkeys(("paper", "ρ, snapshots", "ρ, to exchange"), "{:.3f}")
table(shown, digits | dict.fromkeys(("p, exchanged", "p, problems"), "{:.2g}"))

# %% tags=["remove-cell"]
both = again.set_index("feature")
glue("exchanged-blocks", int(again.blocks.max()) if len(again) else 0, display=False)
glue("exchanged-units", int(again.units.max()) if len(again) else 0, display=False)
for column in ("shuffled", "rho_blocks"):
    value = both[column].get("h0_mean_lifespan", np.nan)
    glue(f"exchanged-{column}", f"{value:.2f}", display=False)
small = [name for name in both.index if both.p_blocks[name] < 0.05 or both.p_units[name] < 0.05]
glue("exchanged-left", ", ".join(small).replace("_", " ") or "none", display=False)

# %% [markdown]
# For the mean $H_0$ lifespan the snapshots of {glue:text}`exchanged-blocks:d` problems and sets give
# {glue:text}`exchanged-rho_blocks` with their own answers and, on average, {glue:text}`exchanged-shuffled` with
# those to other problems. That much of the correlation is what every training has in common, a feature and an
# accuracy that both follow the clock. Features
# for which one of the two tests still finds something at 0.05, eight features and two tests uncorrected:
# {glue:text}`exchanged-left`. The verdicts below use the last two columns, {glue:text}`exchanged-units:d` units.
#
# ## Claimed, measured, verdict
#
# Each claim has a rule ({doc}`20_rules`), and is decided from units: one problem, or one set of ten.
# {glue:text}`same-start` It takes at least {glue:text}`fewest:d` units that agree to decide a claim about direction, and
# more after Holm within the family.

# %% tags=["hide-input"]
of_chapter = [claim.id for claim in CLAIMS if claim.family == "table 2"]
verdicts = tables.chapter_claims(store, of_chapter)
verdicts.style.hide(axis="index").set_table_attributes('class="table stacked"')
