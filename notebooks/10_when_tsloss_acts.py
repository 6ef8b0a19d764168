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
# # When TSLoss acts
#
# {doc}`09_convergence` finds that TSLoss does not bring the first right answer forward. Yet it changes the cloud of points: at the end
# of training there are more loops with it than without. This chapter asks when that happens, and follows one pair of runs check by check.
#
# ```{admonition} After this chapter you can
# :class: tip
# tell what a regulariser does before a problem is solved from what it does afterwards.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = "gsm8k"  # of the runs that are looked at one by one
problem: int = 0
protocol: str = "tuned"
seed: int = 0
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of runs that the store lacks: they are trained now

# %% tags=["hide-input"]
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from myst_nb import glue

from tsp.analysis.records import deciding, load_losses, load_runs, load_topology
from tsp.analysis.studies import at_last, at_solve
from tsp.analysis.units import units
from tsp.analysis.verdicts import median_interval
from tsp.book.pages import check_parameters, interval, missing, table
from tsp.experiments.find_or_train import find_together
from tsp.figures import paper_figures as figures
from tsp.figures.paper_figures import METHOD_COLORS, METHOD_NAMES
from tsp.store.runs import Store
from tsp.training.spec import RunSpec

check_parameters(globals())

figures.style()
store = Store(runs)
common = {
    "model": model,
    "task": task,
    "regime": "single",
    "problem": problem,
    "seed": seed,
    "epochs": epochs,
}
wanted = {
    "ce": RunSpec(**common, protocol=protocol, method="ce", lambda_ts=0.0),
    "tsloss": RunSpec(**common, protocol=protocol, method="tsloss", lambda_ts=1.0),
}
found = find_together(store, list(wanted.values()), data=data, prompts=False)
pair = dict(zip(wanted, found, strict=True))

# %% [markdown]
# ## At the first right answer, and at the end
#
# The two gradients say when. While a problem is unsolved the cross-entropy pulls hard, and TSLoss at weight 1 is a small part of the
# force; once the answer is right little is left of the cross-entropy. So loops at the first right check, and loops at the end:

# %% tags=["remove-cell"]
mine, length = deciding(load_runs(store))
topology = load_topology(store)
chosen = units(mine, protocol=protocol, length=length)
solve, end = pd.DataFrame(), pd.DataFrame()
share = {"before": np.nan, "after": np.nan}
if len(chosen):
    solve = at_solve(chosen, topology, mine, "h1_count")
    end = at_last(chosen, topology, "h1_count", length=length).loc[solve.index]
    treated = mine[mine.id.isin({it for ids in chosen.ids[chosen.arm == "tsloss"] for it in ids})]
    steps = load_losses(store)
    steps = steps.reindex(columns=list(dict.fromkeys([*steps, "grad_ts", "grad_ce"])))
    steps = steps.merge(treated[["id", "solved_epoch"]].dropna(), on="id")
    steps = steps[steps.grad_ce > 0].assign(share=lambda it: it.grad_ts / it.grad_ce)
    early = steps.epoch <= steps.solved_epoch
    for part, rows in (("before", steps[early]), ("after", steps[~early])):
        share[part] = float(rows.groupby("id").share.median().median())
for part, value in share.items():
    glue(f"share-{part}", value, display=False)

# %% tags=["hide-input"]
rows = {
    "at the first right check": solve,
    "at the last check": end,
}
loops = pd.DataFrame(
    {
        name: {
            "units": len(found),
            "Standard": found.ce.median(),
            "+TSLoss": found.tsloss.median(),
            "difference": interval(
                (found.tsloss - found.ce).median(),
                *median_interval(found.tsloss - found.ce),
                digits=1,
            ),
        }
        for name, found in rows.items()
        if len(found)
    }
).T
formats = {"units": "{:.0f}", "Standard": "{:.1f}", "+TSLoss": "{:.1f}"}
table(loops, formats) if len(loops) else missing("tsp sweep table3 --profile full")

# %% [markdown]
# Medians over units that both solve, with the interval from order statistics. Until the first right answer TSLoss's gradient is
# {glue:text}`share-before:.2%` as long as the cross-entropy's (median over runs of the median over epochs), afterwards
# {glue:text}`share-after:.0%`. TSLoss hardly touches the way to the answer; it reshapes the cloud afterwards, and what it does then
# is to bring loops back.
#
# ## One pair from inside
#
# When all of the reference answer's tokens are the model's first choice, greedy decoding reproduces it.
# How many are, from the first on, tells how far a prompt has come. An answer may be right before that:
# the scorer reads the final number or letter and nothing else.

# %% mystnb={"image": {"alt": "Share of the reference answer reproduced from its start, against epochs, for the run without and the run with TSLoss; a vertical line marks the first epoch at which each is right."}, "figure": {"caption": "How much of the reference answer greedy decoding reproduces before it first departs from it. Vertical lines: the first check with a right answer.", "name": "fig-matched"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.2, 3), layout="constrained")
for method, run in pair.items():
    checks, color = run.checks, METHOD_COLORS[method]
    matched = checks.matched_tokens / checks.target_tokens
    ax.plot(checks.epoch, matched, marker=".", color=color, label=METHOD_NAMES[method])
    solved = run.record["outcome"]["solved_epoch"]
    if solved is not None:
        ax.axvline(solved, color=color, ls=":")
ax.set(xlabel="epoch", ylabel="share reproduced", ylim=(-0.02, 1.05))
ax.legend()
sns.despine(fig)

# %% tags=["remove-cell"]
for method, run in pair.items():
    for column in ("correct", "exact"):
        hits = run.checks.epoch[run.checks[column] & (run.checks.epoch > 0)]
        glue(f"{method}-{column}", str(hits.min()) if len(hits) else "never", display=False)

# %% [markdown]
# First right: Standard at epoch {glue:text}`ce-correct`, +TSLoss at {glue:text}`tsloss-correct`. First
# reproduced word for word: {glue:text}`ce-exact` and {glue:text}`tsloss-exact`. Where the two criteria
# disagree about the winner, "iterations to correct" measures the criterion as much as the method.
#
# A run (Standard) in words: published runs of the benchmarks keep no text, so it is one of this project's own problems. The reference that it is trained on:


# %% tags=["hide-input"]
def quoted(text, most=160):
    """Text shown as it is: no markup in it counts."""
    short = text if len(text) <= most else text[:most] + " …"
    return f'<code style="white-space: pre-wrap">{escape(short)}</code>'


plain = {"model": model, "protocol": protocol, "method": "ce", "regime": "single"}
told = [
    run
    for run in [pair["ce"], *store.valid_runs()[0]]
    if "target" in run.record["problems"][0]
    and all(getattr(run.spec, name) == value for name, value in plain.items())
]
no_text = missing(f"tsp run --model {model} --task {task}")
HTML(quoted(told[0].record["problems"][0]["target"], most=800)) if told else no_text

# %% [markdown]
# and what the model answers at some of the checks:


# %% tags=["hide-input"]
def answers(checks):
    """Seven of the checks, and the first with a right answer."""
    turning = checks.index[checks.correct][:1].tolist()
    at = checks.loc[sorted({*np.linspace(0, len(checks) - 1, 7).round().astype(int), *turning})]
    shown = {
        "epoch": at.epoch,
        "matched": at.matched_tokens.astype(str) + " of " + at.target_tokens.astype(str),
        "correct": at.correct.map({True: "yes", False: "no"}),
        "answer": at.answer.map(quoted),
    }
    return pd.DataFrame(shown)


answers(told[0].checks).style.hide(axis="index").set_table_attributes(
    'class="table"'
) if told else no_text
