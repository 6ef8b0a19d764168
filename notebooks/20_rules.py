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
# # Claims and rules
#
# Every claim of the paper {cite}`anonymous-topology` has a rule that says, before the numbers are looked at, which result
# leads to which verdict. This page lists the rules with what they gave.
#
# **What counts.** A *unit* is one problem, or one set of ten, on one model under one protocol. A snapshot is not independent of
# the next one of its run, and two runs of one problem are not independent either, so neither is a unit. Units share one thing:
# all of a model and seed start from one and the same first prompt, so a p-value is about problems, given that start. Convergence is read
# from one table of units: *iterations* are the first check after the start at which every problem is answered correctly, at
# most the stated number of epochs; a unit's value is the median over an odd number of seeds, in which an unsolved run ranks
# last. *Sustained* iterations, shown beside them, are those to the first check from which the answer stays right.
#
# **Who decides.** Published runs alone. If you have runs of your own, they are judged by the same rules, each unit up to its
# shortest run, and shown beside the published verdicts; they change none of them.
#
# **A claim can fail.** It is refuted when the effect's interval excludes what the paper prints, when it lies within a margin of no
# effect (±10 % of the iterations), or when a test finds the reverse. *Inconclusive* is left for intervals that hold both. *Numbers
# return, reading fails* is for Table 2: its numbers return when each run's early snapshots are set against its late ones, which is
# what the printed $U$ fits ({doc}`03_printed_numbers`), so they say that something drifts during training; that a prompt
# answers better for it is not seen across problems.
#
# **One model.** Two models trained on one problem are not two problems, so models are not pooled: the one with the most runs
# decides, and others stand in rows of their own in the tables.
#
# **Many tests.** Tests are corrected within five families: the phenomenon, Table 2, TSLoss against Standard, the weight, and
# the published version. Within a family p is held against Holm's levels {cite}`holm1979simple`, and intervals are simultaneous:
# at $1 - 0.05/m$ for the $m$ claims of the family that are tested.

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs

# %% tags=["hide-input"]
import pandas as pd

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.book.pages import as_text, check_parameters, missing
from tsp.experiments.rules import RULES
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
judged = tables.claims(store)
own = judged.own.ne("").any()


def shown(frame):
    """A table of texts, one row below the other on a narrow screen."""
    style = as_text(frame).style.hide(axis="index")
    return style.set_table_attributes('class="table stacked"')


# %% [markdown]
# ## Verdicts
#
# Effects with their simultaneous intervals, and what the paper prints.

# %% tags=["hide-input"]
table = pd.DataFrame(
    {
        "family": judged.family,
        "claim": judged.statement,
        "verdict": judged.verdict,
        "units": judged.n,
        "effect": [tables.effect(row) for row in judged.to_dict("records")],
        "margin": judged.margin,
    }
)
if own:
    table["your own runs"] = judged.own + " (" + judged.own_n.astype(str) + ")"
shown(table.sort_values("family", kind="stable"))

# %% [markdown]
# ## Rules

# %% tags=["hide-input"]
shown(
    pd.DataFrame(
        {
            "claim": [claim.statement for claim in CLAIMS],
            "unit": [claim.unit for claim in CLAIMS],
            "effect": [claim.estimand for claim in CLAIMS],
            "verdict": [claim.decision for claim in CLAIMS],
            "protocol": [f"{claim.protocol}, {claim.length} epochs" for claim in CLAIMS],
        }
    )
)

# %% [markdown]
# ## The same rules elsewhere
#
# Under the paper's own learning rate, after 300 epochs instead of 100, and on another model: verdicts of the same rules, with the
# number of units. They decide nothing by themselves, as the rules of `paper-length`, `tuned-length` and `gemma` below say.

# %% tags=["hide-input"]
elsewhere = tables.claims_elsewhere(store)
named = elsewhere.rename_axis("claim").reset_index()
shown(named) if len(named) else missing("tsp sweep paper-length --profile full")

# %% [markdown]
# ## Rules of the experiments
#
# These were committed (0705362) before the first run of their experiment was trained. Published runs record the commit of the code
# that trained them. The book applies those of `sham` and `rounding`, those of `paper-length` for `density-minimal` and `entropy-early`, that
# of `tuned-length` for `loops-vanish`, and `seeds` and `sets` through the table of units. `recipes` and `learning-rate` are judged in
# {doc}`13_what_speeds_up`, `force` in {doc}`11_weight`, the others above, as soon as their runs are published.

# %% tags=["hide-input"]
shown(pd.DataFrame({"experiment": list(RULES), "rule": list(RULES.values())}))

# %% [markdown]
# ## What changed after data had been seen
#
# The first rules were committed before a verdict was computed from a published run, and were then changed with the data on
# the table. Whoever distrusts that has reason to: read the effects and their intervals, which need no rule. What changed, in
# the commit "One table of units, and rules that can refute" (e97a88e) and, after a review, in "Claims are judged on one model":
#
# | claims | before | now | why |
# |---|---|---|---|
# | all | Holm over all tests; a user's own runs pooled with published ones; runs of any length | Holm within families; published runs of a stated length | toy runs of 10 to 70 epochs decided a verdict |
# | tsloss-fewer-iterations, tsloss-lower-loss | refuted only if TSLoss is sooner in significantly fewer than half of the units | also by an interval within ±10 %, or above the printed ratio | a firm null was called inconclusive |
# | tsloss-fewer-iterations, -halves-, qwen-fourfold | a unit that only TSLoss solves counted with the ratio at its length | it counts as 0 at the interval's low end (477911b) | its true ratio may be anything smaller |
# | tsloss-halves-iterations, qwen-fourfold | refuted by sign tests | refuted by intervals | an interval says how much |
# | tsloss-as-effective | a test of "more than half" | non-inferiority by five points | "more than half" is too easy |
# | lambda-ten-fails | never meant more than half | never means at least 0.9 | a word was read too weakly |
# | lambda-monotone | refuted only by the reverse | also when the interval excludes the printed trend | as above |
# | all-weights-converge | below a tenth of the first loss | below 0.1 nats a token | a tenth of a large loss is not near zero |
# | Table 2 | refuted by half of the printed value | refuted by the printed value; *numbers return, reading fails* added | half of a smaller number is harder to exclude |
# | rounding (experiment) | the floor is the mean of three differences | their median, before any run of it was looked at | the mean of three is above a fourth of their kind more often than below |
# | same-everywhere | loops fall in the median of each data set | and to a like share, within 0.2 | nothing tested "alike" |
# | loops-vanish | judged after 100 epochs | judged after 300 | the claim says eventually |
# | entropy-early, density-minimal | under `tuned`, 100 epochs | under `paper`, 300 epochs | the first quarter lay in the warm-up; the density follows the learning rate |
# | all | every model's units pooled | those of the model with the most runs | a problem on two models counted twice |
# | all | intervals corrected for the claims with a p-value | for all claims of the family that are tested | some claims have an interval alone |
# | lambda-monotone | the printed tau of four medians against the median of our problems' taus | against the tau of our medians | noise keeps single taus off −1 |
# | h1-falls-faster-multi | an interval that resampled single sets | none below two sets of each data set | it covered 75 to 83 % instead of 99 % in simulations |
# | studies, recipes | a pair that neither run solves has the ratio 1 | it has none, as the rules of the experiments say | code and rule disagreed |
# | variances-equal | two tight pairs decide | trained prompts, with that cloud against "every" | "about" was read as "equal, always" |
