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
# Before training anything one can ask what the printed numbers say about each other. Every computation on
# this page starts from the tables as printed (`data/paper`) and from the text;
# none uses a run of ours. The functions are in `tsp.analysis.table_forensics`, with tests.
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
from tsp.experiments.paper import PROTOCOLS, SEEDS, reported

# %% [markdown]
# ## Table 2 is one test, printed twice
#
# Table 2 gives for each feature Spearman's $\rho$ with accuracy, its p-value, and a "convergence test": a
# statistic $U$ and a p-value. It does not say how many snapshots there are, nor what two groups $U$ compares.
# The numbers do:
#
# * A rank correlation over $N$ pairs has the p-value of $t = \rho \sqrt{(N - 2) / (1 - \rho^2)}$ with $N - 2$
#   degrees of freedom. Each printed pair of $\rho$ and p therefore leaves only some $N$ possible.
# * Mann–Whitney's $U$ of groups of $a$ and $b$ is normal with mean $ab/2$ and variance $ab(a + b + 1)/12$ where
#   nothing distinguishes them, so $U$ and its p leave only some $a$ and $b$.
# * If the quantity that $\rho$ correlates with takes only two values, in the same two groups, both tests are
#   one; without ties,
#
# $$\rho = \sqrt{\frac{3ab}{N^2 - 1}} \left(1 - \frac{2U}{ab}\right)$$ (eq-rho-u)
#
# The root is the largest value there can be, for equal groups $\sqrt 3 / 2$ but for a term in $1/N^2$.

# %% tags=["hide-input"]
again = printed.table2_again().set_index("feature").rename_axis(None)
low, high = int(again.n_low.max()), int(again.n_high.min())
glue("printed-n-range", f"{low} alone" if low == high else f"{low} to {high}", display=False)
glue("printed-n", printed.TRAJECTORY, display=False)
glue("printed-half", printed.TRAJECTORY // 2, display=False)
half = (printed.TRAJECTORY // 2,) * 2
glue("printed-ceiling", f"{printed.ceiling(half):.3f}", display=False)
tied = again.loc["h1_count"]
untied = again.drop("h1_count")
assert (untied.ties == 1).all()
assert np.allclose(untied.u_p_73, untied.u_p, rtol=0.03)
assert np.isclose(tied.u_p_ties, tied.u_p, rtol=0.01)
for name in ("ties", "u_p", "u_p_73", "u_p_ties", "rho", "rho_of_u"):
    shown = f"{tied[name]:.1e}" if name.startswith("u_p") else f"{tied[name]:.3f}"
    glue(f"printed-tied-{name.replace('_', '-')}", shown, display=False)
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
            "with ties": again.u_p_ties,
        }
    ),
    {
        "ρ printed": "{:.3f}",
        "ρ from U": "{:.3f}",
        "p of ρ printed": "{:.1e}",
        f"p of ρ, N = {printed.TRAJECTORY}": "{:.1e}",
        "p of U printed": "{:.1e}",
        "p of U, two halves": "{:.1e}",
        "with ties": "{:.1e}",
    },
)

# %% [markdown]
# All rows together leave an $N$ of {glue:text}`printed-n-range`, and
# {glue:text}`printed-n` snapshots in two groups of {glue:text}`printed-half` reproduce the p-value of every $U$ and,
# through the identity, every $\rho$, but for the H1 count: its $U$ would have p = {glue:text}`printed-tied-u-p-73` where
# {glue:text}`printed-tied-u-p` is printed, and $\rho$ = {glue:text}`printed-tied-rho-of-u` where
# {glue:text}`printed-tied-rho` is. Counts have ties, and ties shrink the spread of $U$ and enlarge $\rho$ by one and the same factor. Here
# $\rho$ asks for {glue:text}`printed-tied-ties`; put into $U$'s test, it gives p = {glue:text}`printed-tied-u-p-ties`. One number repairs
# both.
#
# So "accuracy" took two values, and its two groups are those of the $U$ test: the two columns hold the
# same evidence. The largest correlation that such groups allow is {glue:text}`printed-ceiling`, called an extremely strong
# correlation where it is printed, for the mean $H_0$ lifespan.
#
# ## What an epoch counter scores
#
# $U = 0$ means that the groups do not overlap: every snapshot of the first half has a shorter mean $H_0$
# lifespan than every one of the second. Anything that only grows does that, the number of the snapshot itself for example:

# %%
counter = np.arange(printed.TRAJECTORY)
late = counter >= half[0]
of_counter = spearman(counter, late)
u_of_counter = mann_whitney(counter[~late], counter[late])
row = reported("table2").set_index("feature").loc["h0_mean_lifespan"]
assert round(of_counter.statistic, 3) == row.rho
assert u_of_counter.statistic == row.u
of_clock = [of_counter.statistic, of_counter.p, u_of_counter.statistic, u_of_counter.p]
shown = pd.DataFrame(
    {"printed, mean H0 lifespan": row[["rho", "rho_p", "u", "u_p"]], "epoch counter": of_clock}
)
shown.set_axis(["ρ", "p of ρ", "U", "p of U"]).map("{:.3g}".format)

# %% [markdown]
# To the printed digits both columns are the same: Table 2 cannot tell the mean $H_0$ lifespan from a clock. And since the snapshots of one
# run are not independent ({doc}`05_topology_and_accuracy`), p-values down to $10^{-45}$ say how long the series is and not how sure
# the finding.

# %% [markdown]
# ## Counts that are all even
#
# Correctness was apparently checked at every second epoch: all counts of Table 3 are even. The paper also
# states that every reported number averages three independent runs. The mean of three even numbers is even only
# when the sum of their halves is a multiple of three.

# %% tags=["hide-input"]
even = printed.evenness()
glue("printed-counts", even.counts, display=False)
glue("printed-even", even.even, display=False)
odds = 1 / even.chance  # 3 to the number of counts
exponent = int(np.log10(odds))
power = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
glue("printed-chance", f"one in {odds / 10**exponent:.1f} · 10{power}", display=False)
glue("printed-seeds", SEEDS, display=False)
glue("printed-smallest-p", f"{printed.smallest_p():.2f}", display=False)

# %% [markdown]
# {glue:text}`printed-even` of {glue:text}`printed-counts` printed counts are even. Were they plain means of three
# runs whose counts vary, about a third of them would be, and all of them with a probability of
# {glue:text}`printed-chance`. They were rounded to even numbers, are medians, or the three runs agreed to the
# epoch. No spread is printed, and with {glue:text}`printed-seeds` pairs of runs the smallest p-value that a
# sign test can reach is {glue:text}`printed-smallest-p`.

# %% [markdown]
# ## Table 3 beside Table 4 and the summaries
#
# Table 4 varies $\lambda_\text{ts}$ on one cell of Table 3. Its rows for 0 and 1 must be that cell's, and they are:

# %% tags=["hide-input"]
cell = printed.tables_3_and_4()
table(cell.assign(lambda_ts=cell.lambda_ts.map("{:g}".format)).set_index("lambda_ts"), precision=0)

# %% tags=["hide-input"]
savings = printed.savings()
gemma = savings[savings.model == "gemma-2b-it"]
glue("printed-best", f"{1 - savings.ratio.min():.0%}", display=False)
glue("printed-best-cells", int((savings.ratio == savings.ratio.min()).sum()), display=False)
best = savings[savings.ratio == savings.ratio.min()]
glue(
    "printed-best-counts",
    ", ".join(f"{a} to {b}" for a, b in zip(best.ce, best.tsloss, strict=True)),
    display=False,
)
glue("printed-gemma", f"{1 - gemma.ratio.min():.0%}", display=False)
glue("printed-unchanged", int((savings.ratio == 1).sum()), display=False)
medians = savings.groupby("model").ratio.median()
ratios = savings.pivot(index="model", columns=["regime", "task"], values="ratio")
ratios.columns = [f"{TASK_NAMES[task]}, {regime}" for regime, task in ratios]
table(ratios.assign(median=medians), precision=2)

# %% [markdown]
# The ratio of iterations with TSLoss to those without, cell by cell. The largest saving is
# {glue:text}`printed-best`, in {glue:text}`printed-best-cells` cells whose counts are small ({glue:text}`printed-best-counts`):
# one check sooner is then half of the time. The summary of the published version
# names up to one half on Gemma-2B-IT; the largest saving that Table 3 prints for it is {glue:text}`printed-gemma`.
# {glue:text}`printed-unchanged` cell does not change.

# %% [markdown]
# ## One weight or two
#
# Equation 8 puts $\lambda_\text{ts}$ inside $\mathcal L_\text{ts}$; the objective of section 4.2 multiplies
# $\mathcal L_\text{ts}$ by it once more. Taken together the weight is squared:

# %% tags=["hide-input"]
weights = reported("table4").lambda_ts
table(
    pd.DataFrame(
        {"as printed in Table 4": weights, "squared": weights.map(printed.effective_weight)}
    ).T.set_axis([f"row {k}" for k in range(1, len(weights) + 1)], axis=1),
    precision=2,
)

# %% [markdown]
# This book multiplies once. For 0 and 1 it makes no difference, for 10 it is a factor of ten.
#
# ## A learning rate seen through a scale
#
# The paper initialises with a standard deviation of 0.02 and trains with a learning rate of
# $5 \cdot 10^{-5}$. Until version 5.4, transformers multiplied the input embeddings of a Gemma model, given ones
# included, by $\sqrt d$.

# %% tags=["hide-input"]
seen = printed.scaled_embeddings()
glue("printed-factor", f"{seen['factor']:.1f}", display=False)
glue("printed-std", f"{seen['init_std']:.2f}", display=False)
glue("printed-lr", f"{seen['lr']:.1e}", display=False)
glue("printed-paper-lr", f"{PROTOCOLS['paper'].lr:.0e}", display=False)

# %% [markdown]
# For Gemma-2B that is {glue:text}`printed-factor`. AdamW moves each coordinate by about its learning rate a step,
# whatever the gradient's size, so what the model saw started with a standard deviation of
# {glue:text}`printed-std` and moved by about {glue:text}`printed-lr` a step, not {glue:text}`printed-paper-lr`. The
# Llama models of the paper have no such factor. It may be why Gemma-2B-IT could be trained at this rate at all; whoever
# repeats it with a current version has to multiply (`--embed-scale`) or to raise the rate.

# %% [markdown]
# ## Exercises
#
# ```{exercise} The ceiling of rho
# :label: ex-ceiling
# A prompt is right at 10 of 146 snapshots. How large can $\rho$ be? For which split of 146 is the ceiling
# highest?
# ```
#
# ```{solution-start} ex-ceiling
# :class: dropdown
# ```
# By {eq}`eq-rho-u` at $U = 0$ it is $\sqrt{3ab / (N^2 - 1)}$, and $ab$ is largest for equal
# groups. A feature that separates ten snapshots perfectly has a much smaller $\rho$ than one that
# separates 73: rhos of different splits cannot be compared.

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
# ```{exercise} How many were there?
# :label: ex-recover
# A paper prints a rank correlation $\rho = 0.5$ with a two-sided p of 0.0010, from the t distribution. How many
# observations did it have? And if these were twenty snapshots of each of two runs?
# ```
#
# ```{solution-start} ex-recover
# :class: dropdown
# ```
# $t = \rho \sqrt{(N-2)/(1-\rho^2)}$ with $N - 2$ degrees of freedom. Of all $N$ only 40 gives 0.0010. Forty snapshots of two
# runs are two observations of what differs between runs: whatever p says, it is not about the next run.

# %%
from scipy.stats import t as student


def p_of(rho, count):
    return 2 * student.sf(rho * np.sqrt((count - 2) / (1 - rho**2)), count - 2)


assert [N for N in range(5, 200) if f"{p_of(0.5, N):.4f}" == "0.0010"] == [40]

# %% [markdown]
# ```{solution-end}
# ```
