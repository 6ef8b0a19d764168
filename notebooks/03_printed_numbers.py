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
# # The paper's own numbers
#
# What do the paper's printed numbers say about each other, before anything is trained? Table 2 turns out to be one test printed twice, with a
# correlation that an epoch counter reaches too, and the counts of Table 3 are unlikely to be plain means of three runs. Every computation in this
# chapter starts from the printed tables (`data/paper`) and the text of the paper, none from our own runs. The functions are in
# `tsp.analysis.table_forensics`.
#
# ```{admonition} After this chapter you can
# :class: tip
# recover the size of a sample from a printed p-value.
# ```

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from myst_nb import glue

from tsp.analysis import table_forensics as printed
from tsp.analysis.stats import mann_whitney, rho_from_u, spearman
from tsp.analysis.tables import TASK_NAMES
from tsp.book.pages import table
from tsp.book.verdicts import listed
from tsp.experiments.paper import PROTOCOLS, SEEDS, reported

# %% [markdown]
# ## Table 2 is one test, printed twice
#
# For each feature, Table 2 gives Spearman's $\rho$ with accuracy and its p-value, and a "convergence test" with a
# statistic $U$ and a p-value. It says neither how many snapshots there are nor which two groups $U$ compares (section 4.2 analyses every 20th of 300
# epochs, which gives 15 or 16 snapshots a run). The numbers reveal the number of snapshots and the sizes of the groups:
#
# * The p-value of a rank correlation over $N$ pairs follows from $t = \rho \sqrt{(N - 2) / (1 - \rho^2)}$ with $N - 2$
#   degrees of freedom. Each printed pair of $\rho$ and p is therefore compatible with only a few $N$.
# * Mann–Whitney's $U$ counts the pairs in which the snapshot of the less accurate group has the larger value; a tie counts half. If two groups of
#   sizes $a$ and $b$ do not differ, $U$ is approximately normal with mean $ab/2$ and variance $ab(a + b + 1)/12$. $U$ and its p are therefore
#   compatible with only a few $a$ and $b$.
# * If accuracy takes only two values and these define the two groups, the two tests are
#   one. Unless the feature has ties,
#
# $$\rho = \sqrt{\frac{3ab}{N^2 - 1}} \left(1 - \frac{2U}{ab}\right)$$ (eq-rho-u)
#
# The square root is the largest $\rho$ that a feature without ties can have. For equal groups it is $\sqrt 3 / 2$, up to a term of order $1/N^2$.

# %% tags=["hide-input"]
again = printed.table2_again().set_index("feature").rename_axis(None)
low, high = int(again.n_low.max()), int(again.n_high.min())
fit = f"Only N = {low} fits" if low == high else f"Only N from {low} to {high} fit"
glue("printed-n-range", fit, display=False)
glue("printed-n", printed.TRAJECTORY, display=False)
glue("printed-half", printed.TRAJECTORY // 2, display=False)
half = (printed.TRAJECTORY // 2,) * 2
constant = reported("table2").set_index("feature").loc["h0_count"]
product = int(2 * constant.u)  # a * b, as U = ab / 2
sizes = [(a, product // a) for a in range(1, int(product**0.5) + 1) if product % a == 0]
assert sizes == [(1, product), half]
glue("printed-constant-u", float(constant.u), display=False)
glue("printed-product", product, display=False)
glue("printed-ceiling", f"{rho_from_u(0, *half):.3f}", display=False)
tied = again.loc["h1_count"]
untied = again.drop("h1_count")
assert (untied.ties == 1).all()
assert np.allclose(untied.u_p_73, untied.u_p, rtol=0.03)
assert np.isclose(tied.u_p_ties, tied.u_p, rtol=0.01)
for name in ("ties", "u_p", "u_p_73", "u_p_ties", "rho", "rho_of_u"):
    digits = ".1e" if name.startswith("u_p") else ".3f"
    glue(f"printed-tied-{name.replace('_', '-')}", f"{tied[name]:{digits}}", display=False)
table(
    pd.DataFrame(
        {
            "ρ printed": again.rho,
            "ρ from U": again.rho_of_u,
            "p of ρ printed": again.rho_p,
            f"p of ρ, N = {printed.TRAJECTORY}": again.rho_p_146,
            "N that fit": [
                f"{a:.0f}" if a == b else f"{a:.0f}–{b:.0f}"
                for a, b in zip(again.n_low, again.n_high, strict=True)
            ],
            "p of U printed": again.u_p,
            "p of U, two halves": again.u_p_73,
            "p of U, with ties": again.u_p_ties,
        }
    ).rename(index=lambda name: name.replace("_", " ").replace("h0", "H₀").replace("h1", "H₁")),
    {
        "ρ printed": "{:.3f}",
        "ρ from U": "{:.3f}",
        "p of ρ printed": "{:.1e}",
        f"p of ρ, N = {printed.TRAJECTORY}": "{:.1e}",
        "p of U printed": "{:.1e}",
        "p of U, two halves": "{:.1e}",
        "p of U, with ties": "{:.1e}",
    },
)

# %% [markdown]
# The sizes of the groups follow without approximation. The $H_0$ count is constant, so its $U$ is $ab/2$. The table prints
# {glue:text}`printed-constant-u:.1f`, hence $ab$ = {glue:text}`printed-product:d`. This is the square of the prime number
# {glue:text}`printed-half:d`, so the groups have {glue:text}`printed-half:d` snapshots each. (The only other split, 1 and
# {glue:text}`printed-product:d`, would take thousands of snapshots, which fits no p-value.) If all runs have equally many snapshots, these are one prompt
# of each of 146 runs, two of each of 73 (say, the first and the last), 73 of each of two, or 146 of one; none of these is 15 or 16 snapshots a run.
#
# {glue:text}`printed-n-range` all rows. {glue:text}`printed-n` snapshots in two groups of
# {glue:text}`printed-half` reproduce the p-value of every $U$ and, by {eq}`eq-rho-u`, every $\rho$, except for the $H_1$ count: its
# $U$ would have p = {glue:text}`printed-tied-u-p-73` instead of the printed {glue:text}`printed-tied-u-p`, and its $\rho$ would be
# {glue:text}`printed-tied-rho-of-u` instead of {glue:text}`printed-tied-rho`. Counts have ties, which shrink the spread
# of $U$ and enlarge $\rho$ by the same factor. The printed $\rho$ requires a factor of {glue:text}`printed-tied-ties`, with which
# the test of $U$ gives p = {glue:text}`printed-tied-u-p-ties`. One number explains both deviations.
#
# So accuracy took two values, and its two groups are those of the $U$ test: the two tests present the
# same evidence. The largest correlation that such groups allow a feature without ties is {glue:text}`printed-ceiling`. The mean $H_0$ lifespan has this
# value, which the paper calls an extremely strong correlation.
#
# ## The score of an epoch counter
#
# For the mean $H_0$ lifespan the table prints $U = 0$. So the groups do not overlap: every snapshot of one group has a shorter mean
# lifespan than every snapshot of the other. If one group is earlier in training than the other, as their equal sizes suggest, any quantity that
# only grows in training separates them in the same way, for example a counter of the snapshots:

# %%
counter = np.arange(printed.TRAJECTORY)
late = counter >= half[0]
of_counter = spearman(counter, late)
u_of_counter = mann_whitney(counter[~late], counter[late])
row = reported("table2").set_index("feature").loc["h0_mean_lifespan"]
assert round(of_counter.statistic, 3) == row.rho
assert u_of_counter.statistic == row.u
of_clock = [of_counter.statistic, of_counter.p, u_of_counter.statistic, u_of_counter.p]
both = pd.DataFrame(
    {"mean H₀ lifespan, printed": row[["rho", "rho_p", "u", "u_p"]], "epoch counter": of_clock}
)
table(both.set_axis(["ρ", "p of ρ", "U", "p of U"]), "{:.3g}")

# %% [markdown]
# The two columns agree to the printed digits: Table 2 cannot distinguish the mean $H_0$ lifespan from a clock. Moreover, snapshots of one
# run are not independent ({doc}`06_topology_and_accuracy`). If these come from one run or two, p-values down to $10^{-45}$ reflect how often a run
# was looked at, not the certainty of the finding.
#
# ## Even counts in Table 3
#
# All counts of Table 3 are even, so correctness was apparently checked at every second iteration. The paper also states that every reported
# number averages three independent runs. But the mean of three even numbers is even only if the sum of their halves is a multiple of three.

# %% tags=["hide-input"]
even = printed.evenness()
glue("printed-counts", even.counts, display=False)
glue("printed-even", even.even, display=False)
odds = 1 / even.chance  # 3 to the number of counts above two
exponent = int(np.log10(odds))
power = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
glue("printed-chance", f"one in {odds / 10**exponent:.1f} · 10{power}", display=False)
glue("printed-above", even.above, display=False)
glue("printed-seeds", SEEDS, display=False)
glue("printed-smallest-p", f"{2.0 ** (1 - SEEDS):.2f}", display=False)

# %% [markdown]
# A count of 2, the first check, can only be the mean of three runs that agree. If the other {glue:text}`printed-above` printed counts were plain means
# of three runs whose counts vary over many values, about a third of them would be even, and all of them with a probability of
# {glue:text}`printed-chance`. Either they were rounded to even numbers, or they are medians, or the three runs agreed to the epoch. The paper prints no spread, and with {glue:text}`printed-seeds` pairs of runs a sign test cannot reach a p-value below
# {glue:text}`printed-smallest-p`.
#
# ## Table 3, Table 4 and the summaries
#
# Table 4 varies $\lambda_\text{ts}$ in one cell of Table 3. Its rows for 0 and 1 must agree with that cell, and they do:

# %% tags=["hide-input"]
cell = printed.tables_3_and_4()
weights = cell.lambda_ts.map("weight {:g}".format)
table(
    cell.assign(lambda_ts=weights).set_index("lambda_ts").rename(columns=str.capitalize),
    precision=0,
)

# %% tags=["hide-input"]
savings = printed.savings()
gemma = savings[savings.model == "gemma-2b-it"]
glue("printed-best", f"{1 - savings.ratio.min():.0%}", display=False)
best = savings[savings.ratio == savings.ratio.min()]
pairs = (best.ce.astype(str) + " to " + best.tsloss.astype(str)).value_counts()
counts = listed([f"{name} in {k} cell{'s' * (k != 1)}" for name, k in pairs.items()])
glue("printed-best-counts", counts, display=False)
glue("printed-gemma", f"{1 - gemma.ratio.min():.0%}", display=False)
glue("printed-unchanged", int((savings.ratio == 1).sum()), display=False)
glue("printed-cells", len(savings), display=False)
medians = savings.groupby("model").ratio.median()
ratios = savings.pivot(index="model", columns=["regime", "task"], values="ratio")
ratios.columns = [f"{TASK_NAMES[task]}, {regime}" for regime, task in ratios]
table(ratios.assign(median=medians), precision=2)

# %% [markdown]
# The second table shows the ratio of iterations with TSLoss to those without. The largest saving is {glue:text}`printed-best`, in cells with small
# counts ({glue:text}`printed-best-counts`), where a single check is a large part of the count. The summary of the published version reports
# savings of up to one half on Gemma-2B-IT; the largest saving that Table 3 prints for this model is {glue:text}`printed-gemma`. In
# {glue:text}`printed-unchanged` of {glue:text}`printed-cells` cells nothing is saved.

# %% [markdown]
# ## One weight or two
#
# Equation 8 includes $\lambda_\text{ts}$ in $\mathcal L_\text{ts}$, and the objective of section 4.2 multiplies
# $\mathcal L_\text{ts}$ by it again. Taken literally, the weight is squared:

# %% tags=["hide-input"]
weights = reported("table4").lambda_ts
table(
    pd.DataFrame({"weight in Table 4": weights, "squared": weights**2}).T.set_axis(
        [f"row {k}" for k in range(1, len(weights) + 1)], axis=1
    ),
    precision=2,
)

# %% [markdown]
# This book applies the weight once. For weights 0 and 1 this makes no difference; for 0.1, 0.5 and 10 it makes a factor of 0.1, 0.5 and 10.
#
# ## The embedding scale of Gemma models
#
# The paper initialises prompts with a standard deviation of {glue:text}`printed-paper-std` and trains them with a learning rate of
# {glue:text}`printed-paper-lr`. Until version 5.4, the transformers library multiplied the input embeddings of a Gemma model by $\sqrt d$,
# including embeddings that a user passes in.

# %% tags=["hide-input"]
seen = printed.scaled_embeddings()
glue("printed-factor", f"{seen['factor']:.1f}", display=False)
glue("printed-std", f"{seen['init_std']:.2f}", display=False)
glue("printed-lr", f"{seen['lr']:.1e}", display=False)
glue("printed-paper-lr", f"{PROTOCOLS['paper'].lr:.0e}", display=False)
glue("printed-paper-std", f"{PROTOCOLS['paper'].init_std:g}", display=False)

# %% [markdown]
# For Gemma-2B this factor is {glue:text}`printed-factor`. After warm-up AdamW moves each coordinate by about the learning rate per step
# if its gradient is steady, by less if the gradient changes sign, and by at most 1.7 times the rate (for the paper's $\beta_1$ and $\beta_2$) while
# it grows. With a version of transformers that multiplies, the prompt that the model saw started with a
# standard deviation of {glue:text}`printed-std`, and each of its coordinates moved by up to about {glue:text}`printed-lr` a step, not
# {glue:text}`printed-paper-lr`. The Llama models of the paper have no such factor. The factor may be the reason why Gemma-2B-IT could be trained at
# this rate at all. To repeat the experiment with a current version, apply the factor (`--embed-scale`) or raise the learning rate.
#
# ## Exercises
#
# ```{exercise} The ceiling of rho
# :label: ex-ceiling
# The answer is right at 10 of 146 snapshots. How large can $\rho$ be for a feature without ties? For which split of the 146 is this ceiling highest?
# ```
#
# ```{solution-start} ex-ceiling
# :class: dropdown
# ```
# By {eq}`eq-rho-u` at $U = 0$, the ceiling is $\sqrt{3ab / (N^2 - 1)}$, and $ab$ is largest for equal groups. A feature that separates ten
# snapshots perfectly has a much smaller $\rho$ than one that separates 73, so correlations for different splits cannot be compared.

# %%
ceiling = {right: rho_from_u(0, 146 - right, right) for right in range(1, 146)}
feature, right = np.arange(146.0), np.arange(146) >= 136
assert np.isclose(spearman(feature, right).statistic, ceiling[10])
assert max(ceiling, key=ceiling.get) == 73
print(f"10 of 146: {ceiling[10]:.3f}; 73 of 146: {ceiling[73]:.3f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The size of a sample
# :label: ex-recover
# A paper prints a rank correlation $\rho = 0.5$ with a two-sided p of 0.0010, from the t distribution. How many observations did it use? What would
# p tell you if these were twenty snapshots from each of two runs?
# ```
#
# ```{solution-start} ex-recover
# :class: dropdown
# ```
# Compute p from $t = \rho \sqrt{(N-2)/(1-\rho^2)}$ with $N - 2$ degrees of freedom for every $N$: only $N = 40$ gives 0.0010. Forty snapshots of two
# runs are two observations of whatever differs between runs, so p says nothing about a third run.

# %%
from scipy.stats import t as student


def p_of(rho, count):
    return 2 * student.sf(rho * np.sqrt((count - 2) / (1 - rho**2)), count - 2)


assert [N for N in range(5, 200) if f"{p_of(0.5, N):.4f}" == "0.0010"] == [40]

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# These conclusions follow from the printed numbers alone and need no rule; {doc}`06_topology_and_accuracy` and {doc}`09_convergence` test
# the same claims on runs.
#
# | claimed | measured | what follows |
# |---|---|---|
# | A correlation and a convergence test both support each finding (Table 2) | with two groups of {glue:text}`printed-half` snapshots, each $\rho$ follows from its $U$, for the $H_1$ count with one factor for ties | one test |
# | The mean $H_0$ lifespan correlates extremely strongly with accuracy (Table 2) | $\rho$ is the ceiling, {glue:text}`printed-ceiling`, which an epoch counter reaches too | no more than a clock shows |
# | Every number averages three independent runs (section 7) | {glue:text}`printed-even` of {glue:text}`printed-counts` counts are even; for plain means of widely varying counts the probability is {glue:text}`printed-chance` | not plain means, unless the runs agreed to the epoch |
