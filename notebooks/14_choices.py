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
# # What hinges on the choices
#
# The paper {cite}`anonymous-topology` does not say where the prompt goes, how many vectors it has, which first
# prompt, which $\tau$ and $\alpha$, or whether a point is its own neighbour in equations 1 to 7. Each is a field of
# a run here ({doc}`../paper`), with a default; the experiments of this page vary it. What hinges on
# it, and what does not?
#
# All tables read alike. An arm differs from its base in what is named and nothing else: same problems, same
# seeds. *Epochs* is the median over problems (over an odd number of seeds first) of the first check with all answers right, with
# `>` where it is a lower bound; *sooner*, *same* and *later* count problems against that base, which each section
# names. From six problems on, the fewest that a two-sided sign test at 0.05 can tell from chance, the *ratio* of epochs
# comes with a bootstrap interval, and with p of the sign test and of the signed-rank test, each also after Holm over
# the table. The *reading* is faster or slower if the sign test says so after Holm and the interval excludes 1. H1 bars and the mean $H_0$ lifespan over the mean distance D are those of the last
# check.
#
# ```{admonition} After this chapter you can
# :class: tip
# say on which of your choices a result hangs, and what too few problems can not tell.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
protocol: str = "tuned"
model: str = "smollm2-135m-instruct"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from tsp.analysis.stats import detectable_share
from tsp.analysis.studies import study
from tsp.book.pages import FORMATS, check_parameters, comparison, missing, table
from tsp.experiments.paper import ALPHA
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
found = {}


def show(experiment, fields, base, **more):
    """The table of an experiment, or what trains it."""
    arms = study(store, fields, base=base, protocol=protocol, model=model, **more)
    plain = arms.arm.str.contains(",")
    if plain.any() and arms.pairs.max() > 0:
        found[experiment] = arms
    for key, value in (("arms", len(arms)), ("problems", int(arms.n.max()) if len(arms) else 0)):
        glue(f"{experiment}-{key}", value, display=False)
    return table(comparison(arms), FORMATS) if plain.any() else missing(f"tsp sweep {experiment}")


# %% [markdown]
# ## The first prompt
#
# Gaussian noise of standard deviation 0.02 (the paper's, and our default), the embedding of one token repeated
# with a little noise (what the authors' public code does), or embeddings of tokens drawn from the vocabulary (the
# default of PEFT {cite}`mangrulkar2022peft`). Base: Gaussian.

# %% tags=["hide-input"]
show("init", ["init"], {"init": "gaussian"})

# %% [markdown]
# Embeddings of tokens are no Gaussian noise, so these clouds differ before anything is trained.
#
# ## Where the prompt goes
#
# At the end of the user's turn, after the question (our default, as in the public code), or before everything, as
# prompt tuning {cite}`lester2021power` has it. Base: after the question.

# %% tags=["hide-input"]
show("placement", ["placement"], {"placement": "after_question"})

# %% [markdown]
# ## How many vectors
#
# The public code has n = 40. Base: 40. Counts of bars can only be compared at equal n.

# %% tags=["hide-input"]
show("length", ["n_tokens"], {"n_tokens": 40})

# %% [markdown]
# ## The loss itself
#
# One table for what equations 1 to 7 leave open: `self_pairs` takes them as printed, i = j in every sum;
# `detach_thresholds` holds $\delta$ and $\zeta$ in the gradient; $\tau$ and $\alpha$ have no printed values;
# `beta_h1 0` is the $H_0$ term alone, `beta_h0 0` the $H_1$ term, and with `lambda_attract 0` or
# `lambda_repel 0` one half of that. `weighting gradient` is ours: each term's gradient is
# scaled to the length of the cross-entropy's ({doc}`18_beyond`). Base: TSLoss at weight 1 with its defaults.

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
show("loss-variants", LOSS, {"method": "tsloss", "lambda_ts": 1.0} | defaults)

# %% tags=["remove-cell"]
arms = pd.Series(dtype=float)
if "loss-variants" in found:
    arms = found["loss-variants"].set_index("arm").h1_count
parts = {
    "beta_h1 0.0": "the $H_0$ term alone",
    "beta_h0 0.0": "the $H_1$ term alone",
    "beta_h0 0.0, lambda_attract 0.0": "its repelling half",
    "beta_h0 0.0, lambda_repel 0.0": "its attracting half",
}
loops = [
    f"{words.replace('$', '').replace('_', '')} {arms[name]:.1f}"
    for part, words in parts.items()
    for name in arms.index
    if name.partition(", ")[2] == part
]
glue("loops-by-part", "; ".join(loops) or "no run here has one part alone", display=False)

# %% [markdown]
# Loops at the end, by the part that is left: {glue:text}`loops-by-part`. Why evening out the distances to neighbours can add
# loops: {prf:ref}`prop-minimum`.

# %% [markdown]
# ## The scale of the embeddings
#
# Until version 5.4, transformers multiplied what a Gemma model is given by $\sqrt d$, so the paper's prompts were
# probably that much larger in effect, and so was every step ({doc}`03_printed_numbers`). Here the same
# factor is put before another model. Base: 1.

# %% tags=["hide-input"]
show("embed-scale", ["embed_scale"], {"embed_scale": 1.0})

# %% [markdown]
# ## What these tables can show

# %% tags=["hide-input"]
rows = {
    name: {
        "arms": len(arms),
        "problems": int(arms.n.max()),
        "a sign test shows a share of": detectable_share(
            int((arms.wins + arms.losses).max()), alpha=ALPHA / max(1, int(arms.p.notna().sum()))
        ),
        "arms that differ (Holm)": int((arms.p_holm < 0.05).sum()),
    }
    for name, arms in found.items()
}
power = pd.DataFrame(
    rows, index=["arms", "problems", "a sign test shows a share of", "arms that differ (Holm)"]
).T
formats = dict.fromkeys(power, "{:.0f}") | {"a sign test shows a share of": "{:.0%}"}
table(power, formats, na_rep="none") if found else missing("tsp sweep all --profile full")

# %% [markdown]
# Shares are those of problems that differ, at the level that Holm leaves the smallest p of the table, with power 80 %.
# "None" means that not even the same sign in all problems would do: such a table describes a few problems and decides
# nothing.

# %% [markdown]
# ## An exercise
#
# ```{exercise} Four problems
# :label: ex-four
# An arm differs from its base in the same direction on all of four problems. What is p of the two-sided sign test? How many
# problems does it take until p could survive Holm among ten arms at 0.05?
# ```
#
# ```{solution-start} ex-four
# :class: dropdown
# ```
# $2 \cdot 2^{-4} = 0.125$. The smallest of ten p-values is multiplied by ten: $10 \cdot 2^{1-n} < 0.05$ from $n = 9$ on. So the
# tables above, where they have four problems, can not decide anything about one arm, and say so.

# %%
from scipy.stats import binomtest

assert binomtest(4, 4).pvalue == 0.125
enough = [n for n in range(1, 20) if 10 * binomtest(n, n).pvalue < 0.05]
assert enough[0] == 9

# %% [markdown]
# ```{solution-end}
# ```
