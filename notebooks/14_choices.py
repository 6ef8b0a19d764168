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
# # What depends on the choices
#
# The paper {cite}`anonymous-topology` does not say where the prompt goes, how many vectors it has, which $\tau$ and $\alpha$ were
# used, or whether a point is its own neighbour in equations 1 to 7. How much depends on these choices, and on the initial prompt?
# {glue:text}`arms-tested` The last table says what each comparison could have shown. An initial prompt from the vocabulary, and other numbers of
# vectors than the public code's 40, are tested on more problems in {ref}`one-change`, adaptive weights in {doc}`18_beyond`.
#
# Each choice is an option of a run, and the verdicts of this book hold for its default ({ref}`open-questions`). Each section varies
# one. An arm differs from its base only in the named options; problems and seeds are the same. The tables have these columns:
#
# - *Epochs*: the first check at which all answers are right; the median over an odd number of seeds, then over problems.
#   `>` marks a lower bound.
# - *Faster*, *same*, *slower*: the number of problems that are solved in fewer epochs than with the base, in as many, or in more.
# - *Ratio*: the median ratio of epochs to those of the base, with its 95 % interval. The median counts an unsolved run at its length; for the
#   ends of the interval the ratio counts as 0 or infinite where only one of the two runs is solved. The interval and the tests are given for at least six
#   problems, the fewest with which a two-sided sign test can reach p < 0.05.
# - *p*: from the sign test, where one is possible, uncorrected and after Holm's correction over the table.
# - *Reading*: faster or slower if the sign test is significant after Holm's correction and the interval excludes 1; otherwise undecided, which does
#   not mean that there is no difference. Tables without a test have none of the columns *p*, *p (Holm)* and *reading*.
# - *H₁ bars* and *H₀ / D*, the mean $H_0$ lifespan over the mean distance D: means over problems at the last check.
#
# ```{admonition} After this chapter you can
# :class: tip
# say which of your choices a result depends on, and what too few problems cannot show.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"
model: str = "smollm2-135m-instruct"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from myst_nb import glue

from tsp.analysis.stats import detectable_share
from tsp.analysis.studies import study
from tsp.book.pages import FORMATS, check_parameters, comparison, missing, table
from tsp.book.verdicts import listed
from tsp.experiments.paper import ALPHA
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
studies = {}


def show(experiment, fields, base):
    """Return the table of an experiment, or the command that trains it."""
    arms = study(store, fields, base=base, protocol=protocol, model=model)
    varied = arms.arm.str.contains(",")
    if varied.any() and arms.pairs.max() > 0:
        studies[experiment] = arms
    return table(comparison(arms), FORMATS) if varied.any() else missing(f"tsp sweep {experiment}")


# %% [markdown]
# ## The initial prompt
#
# The initial prompt is Gaussian noise of standard deviation 0.02 (the paper's choice and our default), the embedding of one
# token repeated with a little noise (as in the authors' public code), or the embeddings of tokens drawn at random from the
# vocabulary (`SAMPLE_VOCAB` in PEFT {cite}`mangrulkar2022peft`). Base: Gaussian noise.

# %% tags=["hide-input"]
show("init", ["init"], {"init": "gaussian"})

# %% [markdown]
# Embeddings of tokens are not Gaussian, so these clouds differ before any training.
#
# ## Where the prompt goes
#
# The prompt stands at the end of the user's turn, after the question (our default, as in the public code), or before
# everything else, as in prompt tuning {cite}`lester2021power`. Base: after the question.

# %% tags=["hide-input"]
show("placement", ["placement"], {"placement": "after_question"})

# %% [markdown]
# ## The loss itself
#
# Equations 1 to 7 leave several choices open. Base: TSLoss at weight 1 with its defaults.
#
# - `self_pairs` takes the equations as printed, with i = j in every sum.
# - `detach_thresholds` treats $\delta$ and $\zeta$ as constants in the gradient.
# - `tau` and `alpha` set $\tau$ and $\alpha$, for which the paper prints no values (our defaults: {glue:text}`default-tau` and {glue:text}`default-alpha`).
# - `beta_h1 0` keeps only the $H_0$ term, and `beta_h0 0` only the $H_1$ term. With `beta_h0 0`, `lambda_attract 0` leaves only the repelling half
#   of the $H_1$ term, and `lambda_repel 0` only the attracting half.
# - `weighting gradient` is our addition: it scales the gradient of each term to the length of the cross-entropy's
#   ({doc}`18_beyond`).

# %% tags=["hide-input"]
LOSS = [
    "self_pairs",
    "detach_thresholds",
    "tau",
    "alpha",
    "beta_h0",
    "beta_h1",
    "lambda_repel",
    "lambda_attract",
    "weighting",
]
defaults = {
    "self_pairs": False,
    "detach_thresholds": False,
    "tau": 0.1,
    "alpha": 10.0,
    "beta_h0": 1.0,
    "beta_h1": 1.0,
    "lambda_repel": 1.0,
    "lambda_attract": 1.0,
    "weighting": "fixed",
}
glue("default-tau", defaults["tau"], display=False)
glue("default-alpha", f"{defaults['alpha']:g}", display=False)
show("loss-variants", LOSS, {"method": "tsloss", "lambda_ts": 1.0} | defaults)

# %% tags=["remove-cell"]
counts = pd.Series(dtype=float)
if "loss-variants" in studies:
    counts = studies["loss-variants"].set_index("arm").h1_count
parts = {
    "beta_h1 0.0": "the H0 term alone",
    "beta_h0 0.0": "the H1 term alone",
    "beta_h0 0.0, lambda_attract 0.0": "its repelling half alone",
    "beta_h0 0.0, lambda_repel 0.0": "its attracting half alone",
}
loops = [
    f"{counts[name]:.1f} with {words}"
    for part, words in parts.items()
    for name in counts.index
    if name.partition(", ")[2] == part
]
sentence = "The store has no run with one part of the loss alone."
if loops:
    sentence = f"The mean number of loops at the end is {listed(loops)}."
glue("loops-by-part", sentence, display=False)

# %% [markdown]
# {glue:text}`loops-by-part` {doc}`08_tsloss_at_work` shows that, in Gaussian clouds, loops multiply under the $H_0$ term alone; under the whole of
# TSLoss they first shorten and then vanish.

# %% [markdown]
# ## The scale of the embeddings
#
# The prompts of the paper's Gemma-2B-IT were probably multiplied by $\sqrt d$ before the model saw them ({doc}`03_printed_numbers`).
# Here those of another model are multiplied by its own $\sqrt d$. Base: a factor of 1.

# %% tags=["hide-input"]
show("embed-scale", ["embed_scale"], {"embed_scale": 1.0})

# %% [markdown]
# ## What these tables can show

# %% tags=["hide-input"]
DETECTABLE = "detectable share"
DIFFER = "arms that differ (Holm)"
columns = ["alternatives", "problems", "arms tested", DETECTABLE, DIFFER]
rows = {}
for name, arms in studies.items():
    tested, differ = int(arms.p.notna().sum()), int((arms.p_holm < ALPHA).sum())
    share = detectable_share(int((arms.wins + arms.losses).max()), alpha=ALPHA / max(1, tested))
    row = (
        int((arms.pairs > 0).sum()),
        int(arms.n.max()),
        tested,
        share,
        differ if tested else np.nan,
    )
    rows[name] = dict(zip(columns, row, strict=True))
power = pd.DataFrame(rows, index=columns).T
formats = dict.fromkeys(power, "{:.0f}") | {DETECTABLE: "{:.0%}"}
table(power, formats) if studies else missing("tsp sweep all --profile full")

# %% tags=["remove-cell"]
compared, tested = (
    sum(int((arms[column] > 0).sum()) for arms in studies.values()) for column in ("pairs", "p")
)
differ = int(power[DIFFER].sum())
sentence = "The store has no alternatives to compare."
if compared:
    sentence = f"None of the {compared} alternatives here has the six problems that a test needs, so whether they matter for the number of epochs is undecided."
if tested:
    verb = "differ" if differ > 1 else "differs"
    sentence = (
        f"Of {compared} alternatives, {tested} could be tested, and {differ or 'none'} of these {verb} significantly from the base in "
        "the epochs that training takes, after Holm's correction."
    )
glue("arms-tested", sentence, display=False)

# %% [markdown]
# The detectable share is the true share of differing problems that must go the same way for the test to reach a power of 80 %, at
# the level that Holm's correction sets for the smallest p of the table. A dash means that no test was possible, or that even all problems
# going the same way would not suffice; it does not mean that the arms are alike. Such a table describes a few problems and decides nothing.

# %% [markdown]
# ## An exercise
#
# ```{exercise} Four problems
# :label: ex-four
# An arm differs from its base in the same direction on each of four problems. What is the p-value of the two-sided sign
# test? How many problems would it take for the result to stay significant at 0.05 after Holm's correction over ten arms?
# ```
#
# ```{solution-start} ex-four
# :class: dropdown
# ```
# $2 \cdot 2^{-4} = 0.125$. Holm multiplies the smallest of ten p-values by ten, and $10 \cdot 2^{1-n} < 0.05$ from $n = 9$ on.
# A table with four problems therefore cannot decide anything about an arm.

# %%
from scipy.stats import binomtest

assert binomtest(4, 4).pvalue == 0.125
enough = [n for n in range(1, 20) if 10 * binomtest(n, n).pvalue < 0.05]
assert enough[0] == 9

# %% [markdown]
# ```{solution-end}
# ```
