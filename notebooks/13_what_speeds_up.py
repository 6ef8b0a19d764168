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
# # What does speed up prompt tuning?
#
# Is TSLoss a good way to save epochs? This chapter compares it with other changes, such as another learning rate, initial prompt or schedule.
# {glue:text}`recipes-answer` The chapter then asks whether TSLoss's effect depends on the learning rate, and how far the paper's own rate can move a
# prompt.
#
# ```{admonition} After this chapter you can
# :class: tip
# work out how far a prompt can move from its learning rate and schedule alone.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
protocol: str = "tuned"
task: str = "mmlu_cf"  # of the run at the paper's own learning rate
problem: int = 0
seed: int = 0
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of runs that the store lacks: they are trained now

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogFormatter
from myst_nb import glue

from tsp.analysis.records import TASK_NAMES, deciding, load_runs, load_topology
from tsp.analysis.stats import holm
from tsp.analysis.studies import at_last, reading, recipes, study, trend
from tsp.analysis.units import STANDARD, units
from tsp.analysis.verdicts import contrasts
from tsp.book.pages import FORMATS, check_parameters, comparison, interval, missing, table
from tsp.book.verdicts import listed, shortening
from tsp.experiments.find_or_train import find_together
from tsp.experiments.paper import ALPHA
from tsp.figures import paper_figures as figures
from tsp.figures.style import METHOD_COLORS
from tsp.store.runs import Store
from tsp.training.protocols import PAPER
from tsp.training.spec import RunSpec

check_parameters(globals())

store = Store(runs)
figures.style()

# %% [markdown]
# (one-change)=
# ## One change at a time
#
# Each row of the figure changes one thing about Standard, and TSLoss is one of these changes. The others are another learning
# rate; an initial prompt from the vocabulary, from the question's own tokens, or from the prompt trained on another problem;
# another prompt length; no warm-up; a constant rate; and a gradient clipped to norm 1. Each change is compared with Standard on
# the problems on which both were trained. Epochs are not time: a step with twice as many prompt vectors takes longer, and a prompt that starts from
# a trained one has already cost epochs. {doc}`14_choices` explains the columns, and {doc}`20_rules` has the rules of the experiments `recipes` and
# `learning-rate`, written before their first run. Starting from embeddings of the vocabulary was already known to help, most of all
# in small models {cite}`lester2021power`.

# %% tags=["hide-input"]
arms = recipes(store, model=model, protocol=protocol)
compared = arms.dropna(subset="ratio")
tried = compared.arm.str.startswith("ce, ").any()
usual = RunSpec(model=model, protocol=protocol)
glue("usual-rate", f"{usual.lr:g}", display=False)
glue("usual-n", usual.n_tokens, display=False)

# %% mystnb={"image": {"alt": "One row for each change, sorted: a dot at the median ratio of epochs to those of Standard, with its interval, on a logarithmic axis; a vertical line marks 1. TSLoss is green."}, "figure": {"caption": "{glue:text}`recipes-say`. Epochs until the answer is right, relative to Standard: the median ratio with its uncorrected 95 % interval (the table below has corrected tests), and the number of problems in brackets. Filled: faster or slower after correction. An arrow marks an interval without an upper end. Unless stated, the learning rate is {glue:text}`usual-rate` and $n$ is {glue:text}`usual-n`.", "name": "fig-recipes"}} tags=["hide-input"]
low, high = compared.low[compared.low > 0].min(), compared.high[compared.high < np.inf].max()
fig, ax = plt.subplots(figsize=(5.6, 0.3 * max(len(compared), 3) + 0.8))  # to be read on a phone
found = reading(compared)
for row, change in enumerate(compared.itertuples()):
    color = METHOD_COLORS["tsloss" if change.arm.startswith("tsloss") else "ce"]
    ends = np.clip([change.low, change.high], low / 1.3, 1.3 * high)
    ax.plot(ends, [row, row], color=color, lw=2)
    ax.plot(ends[1], row, ">" if change.high == np.inf else "", color=color)
    shown = found.iloc[row] in ("faster", "slower")
    ax.plot(change.ratio, row, "o", color=color, mfc=color if shown else "white")
ax.axvline(1, color="0.4", lw=1)
names = [f"{change.change} ({change.pairs:.0f})" for change in compared.itertuples()]
ax.set_yticks(range(len(compared)), names)
ax.set(xscale="log", xlabel="epochs / epochs of Standard")
ticks = [
    tick for tick in (0.1, 0.2, 0.33, 0.5, 0.67, 1, 1.5, 2, 3, 5) if low / 1.5 < tick < 1.5 * high
]
ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
ax.minorticks_off()
sns.despine(fig, left=True)
recipes_say = "No change has been tried on enough problems for a test"
if found.ne("").any():
    counts = {
        word: int(found.eq(word).sum()) or "none" for word in ("faster", "slower", "undecided")
    }
    recipes_say = (
        f"After correction, {counts['faster']} of {len(compared)} changes are faster than Standard, {counts['slower']} slower, "
        f"and {counts['undecided']} undecided"
    )
    of_loss = found[compared.arm.str.startswith("tsloss")]
    recipes_say += f" (TSLoss: {of_loss.iloc[0] or 'untested'})" if len(of_loss) else ""
glue("recipes-say", recipes_say, display=False)

# %% tags=["hide-input"]
shown = comparison(arms.assign(arm=arms.change))
table(shown, FORMATS) if tried else missing("tsp sweep recipes --profile full")

# %% tags=["remove-cell"]
answer, recipes_result = "", "No change has been compared with TSLoss yet."
if tried:
    changes = recipes(store, model=model, protocol=protocol, against="tsloss")
    changes = changes[changes.arm.str.startswith("ce, ")]
    faster = "; ".join(changes.change[changes.high < 1]) or "none"
    slower = "; ".join(changes.change[changes.low > 1]) or "none"
    kept = int((changes.p_holm < ALPHA).sum())
    recipes_result = (
        "Compared with TSLoss instead of Standard, and by the rule for this comparison, which requires only that the uncorrected interval of the ratio excludes 1, "
        f"these changes need fewer epochs: {faster}. These need more: {slower}. By sign tests after Holm's correction over all changes, "
        + (
            f"{kept} of these comparisons {'is' if kept == 1 else 'are'} significant."
            if kept
            else "none of these comparisons is significant: by that standard all are undecided."
        )
    )
    answer = shortening(arms)
    for ours, verdict in zip(compared.itertuples(), found, strict=True):
        if ours.arm.startswith("tsloss"):
            ratio = interval(ours.ratio, ours.low, ours.high)
            answer += f" On these problems TSLoss has a median ratio of {ratio} and solves {ours.wins:.0f} of {ours.pairs:.0f} problems in fewer epochs: {verdict or 'untested'}."
glue("recipes-answer", answer, display=False)
glue("recipes-result", recipes_result, display=False)

# %% [markdown]
# {glue:text}`recipes-result`
#
# ## The learning rate
#
# Does TSLoss help at another learning rate? Each row compares TSLoss with Standard at the same rate, over 300 epochs at rate
# 0.001 and over 100 at the others.

# %% tags=["hide-input"]
RATES = {1e-3: 300, 3e-3: 100, 1e-2: 100, 3e-2: 100}
parts = []
for rate, rate_length in RATES.items():
    arms = study(
        store,
        ["lr"],
        base={"method": "ce", "lambda_ts": 0.0},
        protocol=protocol,
        model=model,
        experiment="learning-rate",
        length=rate_length,
        every=False,
    )
    usual_rate = rate == RunSpec(model=model, protocol=protocol).lr
    chosen = ~arms.arm.str.contains(",") if usual_rate else arms.arm.str.endswith(f"lr {rate:g}")
    chosen &= arms.arm.str.startswith("tsloss")
    parts.append(arms[chosen].assign(arm=f"tsloss, lr {rate:g}"))
rates = pd.concat(parts, ignore_index=True)
rates = rates.assign(p_holm=holm(rates.p))
known = len(rates) == len(RATES)
table(comparison(rates), FORMATS) if known else missing("tsp sweep learning-rate --profile full")

# %% tags=["remove-cell"]
rates_result = "The comparison is not complete yet."
if known:
    options = {"protocol": protocol, "model": model, "experiment": "learning-rate"}
    taus = trend(store, "lr", RATES, **options)
    sign = contrasts({"lr": taus}).iloc[0]
    depends = "TSLoss's effect depends on the rate"
    if not sign.p < ALPHA:
        depends = "Whether TSLoss's effect depends on the rate is undecided"
    said = pd.Series([f"{rate:g}" for rate in RATES]).groupby(list(reading(rates)), sort=False)
    by_rate = "; ".join(f"{word or 'untested'} at {listed(part)}" for word, part in said)
    rates_result = (
        f"TSLoss compared with Standard: {by_rate}. {depends}: Kendall's tau of the ratio with the rate is positive in {sign.above} problems and "
        f"negative in {sign.below} (sign test, p = {sign.p:.2g})."
    )
glue("rates-result", rates_result, display=False)

# %% [markdown]
# {glue:text}`rates-result`

# %% [markdown]
# ## The paper's learning rate
#
# The learning rate of protocol {glue:text}`protocol` is {glue:text}`lr-ratio:.0f` times the
# paper's. What happens at the paper's rate? The figure follows {glue:text}`problem-name` under both protocols.

# %% tags=["remove-cell"]
common = {"model": model, "task": task, "regime": "single", "problem": problem, "seed": seed}
common |= {"epochs": epochs, "method": "ce", "lambda_ts": 0.0}
specs = [RunSpec(**common, protocol=name) for name in (protocol, "paper")]
fast, slow = find_together(store, specs, data=data)
glue("protocol", protocol, display=False)
glue("problem-name", f"problem {problem} of {TASK_NAMES.get(task, task)}", display=False)
glue("lr-ratio", fast.spec.lr / slow.spec.lr, display=False)

# %% mystnb={"image": {"alt": "Two panels over epochs: cross-entropy and mean distance between the prompt's points relative to the start, under the paper's protocol and under the other one. Dashed: protocol paper; solid: the other."}, "figure": {"caption": "{glue:text}`protocols-say`. Left: cross-entropy. Right: mean distance between the prompt's points relative to the start. Same problem and initial prompt under two protocols.", "name": "fig-protocols"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), layout="constrained")
growth = {}
for name, run, dashes in ((protocol, fast, "-"), ("paper", slow, "--")):
    axes[0].plot(run.epochs.epoch, run.epochs.ce, dashes, label=name)
    distance = run.topology.set_index("epoch").mean_distance
    axes[1].plot(distance / distance.iloc[0], dashes, label=name)
    growth[name] = distance.iloc[-1] / distance.iloc[0]
axes[0].set(yscale="log", xlabel="epoch", ylabel="cross-entropy")
axes[0].yaxis.set_major_formatter("{x:g}")
axes[0].yaxis.set_minor_formatter(LogFormatter())
axes[1].set(xlabel="epoch", ylabel="mean distance / start")
axes[0].legend(title="protocol")
sns.despine(fig)
grown = [f"{factor:.2f} times its start under {name}" for name, factor in growth.items()]
glue("protocols-say", f"The mean distance ends at {' and at '.join(grown)}", display=False)


# %% tags=["remove-cell"]
def moved(run):
    """Distance from the initial to the last stored prompt, relative to the initial norm."""
    start, end = run.prompt(0), run.prompt(run.prompt_epochs[-1])
    return float((end - start).norm() / start.norm())


for name, run in (("tuned", fast), ("paper", slow)):
    glue(f"moved-{name}", f"{100 * moved(run):.0f} %", display=False)
    glue(f"epochs-{name}", len(run.epochs), display=False)
for time, at in (("first", 0), ("last", -1)):
    glue(f"ce-{time}", float(slow.epochs.ce.iloc[at]), display=False)
    glue(f"matched-{time}", int(slow.checks.matched_tokens.iloc[at]), display=False)
    glue(f"h1-count-{time}", int(slow.topology.h1_count.iloc[at]), display=False)
glue("tokens", int(slow.checks.target_tokens.iloc[-1]), display=False)
so_far = float((slow.epochs.lr * np.diff(slow.epochs.step, prepend=0)).sum())
glue("lr-so-far", so_far / PAPER.init_std, display=False)
glue("lr-in-all", PAPER.lr * PAPER.epochs / 2 / PAPER.init_std, display=False)
glue("paper-epochs", PAPER.epochs, display=False)
records, topology = deciding(load_runs(store))[0], load_topology(store)
records = records[records.model == model]
whole = units(records, {"ce": STANDARD}, protocol="paper", length=PAPER.epochs)
whole_result = "The store has no run over the whole schedule."
if len(whole):
    first, final = (
        at_last(whole, topology, "h1_count", length=epoch).ce for epoch in (0, PAPER.epochs)
    )
    change = contrasts({"loops": final - first}).iloc[0]
    whole_result = (
        f"In the runs over all {PAPER.epochs} epochs, {change.below} of {figures.counted(whole, 'unit')} end with fewer loops "
        f"and {change.above} with more (sign test, p = {change.p:.2g}{'' if change.p < ALPHA else ': undecided'}). "
        f"The median goes from {first.median():g} to {final.median():g}."
    )
glue("whole-result", whole_result, display=False)

# %% [markdown]
# Under `paper` the cross-entropy goes from {glue:text}`ce-first:.2f` to {glue:text}`ce-last:.2f` in
# {glue:text}`epochs-paper:d` epochs. Greedy decoding matches {glue:text}`matched-first:d` of {glue:text}`tokens:d` reference
# tokens at the start and {glue:text}`matched-last:d` at the end. The prompt moves by {glue:text}`moved-paper` of its
# initial norm, and its $H_1$ count is
# {glue:text}`h1-count-first:d` at the start and {glue:text}`h1-count-last:d` at the end. Under {glue:text}`protocol` it moves by
# {glue:text}`moved-tuned` in {glue:text}`epochs-tuned:d` epochs.
#
# That the prompt hardly moves under `paper` follows from arithmetic. A step moves each coordinate by about the learning rate, and by at most 1.7 times it ({doc}`03_printed_numbers`), so
# the sum of the learning rates over all steps roughly bounds how far a coordinate can move. In this run of `paper` that sum is
# {glue:text}`lr-so-far:.3f` initial standard deviations, and over all {glue:text}`paper-epochs:d` epochs it is {glue:text}`lr-in-all:.3f`. So the
# prompt of this run is still close to its initial noise.
#
# Could the whole schedule remove loops? {glue:text}`whole-result`
#
# ## An exercise
#
# ```{exercise} How far in 300 epochs?
# :label: ex-how-far
# The learning rate rises linearly over the first tenth of the steps and then falls linearly to 0. Sum the learning
# rates of the paper's protocol for a single problem and for ten. Compare the sums with the initial standard
# deviation.
# ```
#
# ```{solution-start} ex-how-far
# :class: dropdown
# ```
# The schedule is a triangle of height $5 \cdot 10^{-5}$, so the sum is half the steps times the height. Ten problems at batch
# size 8 take two steps an epoch, so their prompt can move twice as far.

# %%
for problems in (1, 10):
    steps = PAPER.epochs * -(-problems // PAPER.batch_size)
    step = np.arange(steps)
    warmup = PAPER.warmup_fraction * steps
    rate = PAPER.lr * np.minimum(step / warmup, (steps - step) / (steps - warmup))
    assert np.isclose(rate.sum(), PAPER.lr * steps / 2)
    print(f"{problems:2}: {rate.sum():.4f}, {rate.sum() / PAPER.init_std:.2f} standard deviations")

# %% [markdown]
# ```{solution-end}
# ```
