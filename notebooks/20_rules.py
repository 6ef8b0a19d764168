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
# How does a claim of the paper {cite}`anonymous-topology` get its verdict? Each has a written rule that says which result leads to which verdict.
# The first rules were written before any verdict was computed from a published run. This page lists the verdicts, then the rules, then every change
# made to a rule after data had been seen.
#
# **Units.** A *unit* is one problem, or one set of ten, on one model under one protocol. Snapshots of one run are not independent of each other, and
# neither are two runs on one problem, so neither counts as a unit. (Only the claim that is true by definition counts runs.) Units still share two
# things. For each model and seed, all runs start from the same prompt, so a p-value is about problems, given that start. And a set can contain
# problems that are units of their own.
#
# **Iterations.** *Iterations* are the number of epochs to the first check after the start at which every problem is answered correctly. A unit's
# value is the median over an odd number of seeds, in which an unsolved run ranks last. *Sustained* iterations, shown beside them, are counted up to
# the first check from which the answer stays right.
#
# **Deciding runs.** Only published runs decide. Your own runs are judged by the same rules, each unit up to its shortest run, and their verdicts are
# shown beside the published ones without changing them.
#
# **Refutation.** A claim is *not reproduced* when the interval of the effect falls short of the printed value, when the interval lies within a
# margin of no effect (for example ±10 % of the iterations), or when a test finds the reverse. It is *partly* reproduced instead when a test confirms
# its direction but the interval falls short of the printed value or another condition of its rule fails. *Inconclusive* means that the runs neither
# confirm nor refute the claim; it does not mean that there is no effect. The verdict *numbers return, reading fails* is only for Table 2. The
# numbers of that table return when each run's early snapshots are compared with its late ones, which is what the printed $U$ fits
# ({doc}`03_printed_numbers`). They show that something drifts during training; they do not show that a prompt answers better for it, and across
# problems a relation as strong as the printed one is excluded.
#
# **One model.** Two models trained on one problem are not two problems, so models are not pooled. The model with the most runs decides, except for
# claims that compare models or name one; other models have rows of their own in the tables.
#
# **Multiple tests.** Tests are corrected within five families, one for each of the first five tables below. Within a family each p-value is compared
# with its level under Holm's method {cite}`holm1979simple`, and intervals are simultaneous, at confidence level $1 - 0.05/m$ for the $m$ tested
# claims of the family. There is one exception: where a sign test decides, the interval of a share that can refute the claim has the level of that
# test.

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import HTML
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.verdicts import TESTS
from tsp.book.forest import FAMILIES
from tsp.book.pages import check_parameters, in_html, missing, stacked
from tsp.experiments.rules import RATIO, RULES
from tsp.store.runs import Store

check_parameters(globals())

store = Store(runs)
judged = tables.claims(store)
glue("tests", TESTS, display=False)
glue("ratio", RATIO, display=False)

# %% [markdown]
# ## Verdicts
#
# Each effect is followed by its simultaneous interval in brackets, if there are enough units for one, and by the value that the paper prints, if it
# prints one. What each effect measures is stated under Rules below; the margin is what the rule compares it with. The numbers in the last column are
# the units among your own runs.

# %% tags=["hide-input"]
table = pd.DataFrame(
    {
        "claim": judged.statement,
        "verdict": judged.verdict,
        "units": judged.n,
        "effect": [tables.effect(row) for row in judged.to_dict("records")],
        "margin": judged.margin,
    }
)
if judged.own.ne("").any():
    table["your own runs"] = judged.own + " (" + judged.own_n.astype(str) + ")"
parts = [
    f"<p><b>{title}</b></p>{stacked(table[judged.family == family]).to_html()}"
    for family, (title, _) in FAMILIES.items()
]
HTML("".join(parts))

# %% [markdown]
# ## Rules
#
# Claims are grouped by what counts as one unit. The name in brackets identifies the claim in the rest of this page. {glue:text}`tests`

# %% tags=["hide-input"]
parts = []
for unit in dict.fromkeys(claim.unit for claim in CLAIMS):
    group = [claim for claim in CLAIMS if claim.unit == unit]
    rules = {
        "claim": [f"{claim.statement} (`{claim.id}`)" for claim in group],
        "effect": [
            f"{claim.estimand} ({claim.protocol}, {claim.length} epochs)" for claim in group
        ],
        "verdict": [claim.decision for claim in group],
    }
    first = {claim.decision: claim.id for claim in reversed(group)}
    rules["verdict"] = [
        claim.decision
        if first[claim.decision] == claim.id
        else f"By the rule of `{first[claim.decision]}`."
        for claim in group
    ]
    parts += [f"<p><b>Unit:</b> {in_html(unit)}.</p>", stacked(pd.DataFrame(rules)).to_html()]
HTML("".join(parts))

# %% [markdown]
# ## The same rules under other conditions
#
# This table gives verdicts and, in brackets, numbers of units under `tuned` over 100 epochs, under `paper` or `tuned` over 300, and for another
# model under the conditions that each claim names. They do not change the verdicts above. Columns without runs are left out. The rules of five
# claims name conditions other than 100 epochs of `tuned`: `density-minimal` and `entropy-early` are decided by the runs of `paper-length`,
# `loops-vanish` by those of `tuned-length`, once there are any, and `small-models-gain-more` and `qwen-fourfold` by runs of larger models under
# `paper`. Only for such claims can the first column have entries.

# %% tags=["hide-input"]
elsewhere = tables.claims_elsewhere(store)
elsewhere = elsewhere.rename_axis("claim").reset_index()
stacked(elsewhere) if len(elsewhere) else missing("tsp sweep paper-length --profile full")

# %% [markdown]
# ## Rules of the experiments
#
# These rules were committed (0705362) before the first run of their experiment was trained; some have been changed since, as the next section says,
# and the wording of others was edited. Published runs record the commit of the code that trained them. The rules of `seeds` and `sets` are built
# into the way units are formed. `recipes` and `learning-rate` are judged in {doc}`13_what_speeds_up`, `force` in {doc}`11_weight`, `sham` and
# `rounding` in {doc}`09_convergence`. Of the others, `paper-length` decides `density-minimal` and `entropy-early`, `tuned-length` decides
# `loops-vanish`, and the verdicts on `gemma` are shown beside the others. An experiment decides nothing before its runs are published. In `sham`,
# `learning-rate`, `recipes` and `force`, {glue:text}`ratio` This interval is now from order statistics, for the reason in the next table.

# %% tags=["hide-input"]
stacked(pd.DataFrame({"experiment": list(RULES), "rule": list(RULES.values())}))

# %% [markdown]
# ## Changes after data had been seen
#
# Some rules were changed after the data had been seen. Such changes deserve distrust. Most of them change only how an effect is judged; where the
# effect itself or its interval was changed, the table says so. The changes were made in several commits, from "One table of units, and rules that
# can refute" (e97a88e) on:
#
# | claims | before | now | why |
# |---|---|---|---|
# | all | Holm over all tests; a user's own runs pooled with published ones; runs of any length | Holm within families; published runs of a stated length | toy runs of 10 to 70 epochs decided a verdict |
# | tsloss-fewer-iterations, tsloss-lower-loss | refuted only if TSLoss is faster in significantly fewer than half of the units | also by an interval within ±10 %, or above the printed ratio | a firm null was called inconclusive |
# | tsloss-fewer-iterations, tsloss-halves-iterations, qwen-fourfold | a unit that only TSLoss solves counted with the ratio at its length | it counts as 0 at the interval's low end (477911b) | its true ratio may be any smaller value |
# | tsloss-halves-iterations, qwen-fourfold | refuted by sign tests | refuted by intervals | an interval says how much |
# | tsloss-as-effective | a test of "more than half" | non-inferiority by five points | "more than half" is too easy |
# | lambda-ten-fails | "never" meant more than half | "never" means at least 0.9 | the word was read too weakly |
# | lambda-monotone | refuted only by the reverse | also when the interval excludes the printed trend | a firm null was called inconclusive |
# | all-weights-converge | below a tenth of the first loss | below 0.1 nats per token | a tenth of a large loss is not near zero |
# | Table 2 | refuted by half of the printed value | refuted by the printed value; *numbers return, reading fails* added | half of a smaller number is harder to exclude |
# | rounding (experiment) | the floor is the mean of three differences | their median (changed before any of its runs was looked at) | the mean of three differences exceeds a fourth one more often than not |
# | same-everywhere | loops fall in the median of each data set | and by a similar share, within 0.2 | nothing tested "alike" |
# | loops-vanish | judged after 100 epochs | judged after 300 | the claim says "eventually" |
# | entropy-early, density-minimal | under `tuned`, 100 epochs | under `paper`, 300 epochs | the first quarter lay in the warm-up; the density follows the learning rate |
# | all | units of all models pooled | those of the model with the most runs | a problem on two models counted twice |
# | all | intervals corrected for the claims with a p-value | for all tested claims of the family | some claims have only an interval |
# | lambda-monotone | the printed tau of four medians against the median of our problems' taus | against the tau of our medians | noise keeps single taus away from −1 |
# | h1-falls-faster-multi | an interval that resampled single sets | no interval with fewer than two sets of a data set | one set, resampled, is always itself, so the interval was too narrow |
# | tables of experiments, recipes | a pair that neither run solves has the ratio 1 | it has no ratio, as the rules of the experiments say | code and rule disagreed |
# | recipes | TSLoss also on seed 1 of other experiments' problems and sets | on its own 12 problems | code and rule disagreed |
# | all claims and experiments with a median ratio of iterations | its interval is a percentile bootstrap | it comes from order statistics | with few units a bootstrap interval covers the median less often than its level says |
# | all claims and experiments with a median ratio of iterations | at its high end a unit that only Standard solves counts with the ratio at its length | it counts as infinite there, in the experiments also as 0 at the low end where only the other arm solves it | its true ratio may be any larger value |
# | tsloss-halves-iterations | a cell without an interval was passed over | it keeps the claim from being refuted | a cell that shows nothing refutes nothing |
# | same-everywhere | refuted if the median of a data set does not fall | refuted by the interval of that median | a bare estimate refutes nothing |
# | tsloss-as-effective | a one-sided p | a two-sided p | the other tests are two-sided |
# | force, learning-rate | the sign test decides | the interval must exclude 1 too | as for recipes |
# | same-everywhere | an interval from bootstrapped medians | from order statistics; none if a data set has too few units | with few units the bootstrap misses a median too often |
# | entropy-early | the effect is the median over all units | over the units whose entropy falls | where it does not fall, a share of the fall means nothing |
# | entropy-early, density-minimal | the effect is a median over units | the effect is the share of units that the rule counts | an effect and its verdict were about different units |
# | tsloss-as-effective | p from the plain difference | p from the centre of the interval, as the interval itself | they disagreed |
# | variances-equal | two tight pairs decide | trained prompts decide, and the two pairs decide only whether it holds for every cloud | "about" was read as "always equal" |
